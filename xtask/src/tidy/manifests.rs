use std::collections::BTreeSet;

use super::{House, Problem};

/// Each crate's row: it may use crates of lower rows, and none of its own.
const ROWS: [(&str, u8); 18] = [
    ("host", 1),
    ("model", 1),
    ("wire", 2),
    ("bus", 2),
    ("series", 2),
    ("events", 2),
    ("query", 2),
    ("catalog", 2),
    ("input", 3),
    ("agent", 3),
    ("store", 3),
    ("processor", 3),
    ("output", 3),
    ("alert", 3),
    ("probe", 3),
    ("gateway", 4),
    ("overseer", 5),
    ("xtask", 6),
];

/// Dependencies that only some crates may have, because of what they weigh or of what they know.
const HEAVY: [(&str, &[&str]); 10] = [
    ("axum", &["gateway"]),
    ("tonic", &["gateway"]),
    ("hyper", &["input", "output", "gateway"]),
    ("clap", &["overseer"]),
    ("libc", &["host"]),
    ("rustix", &["host", "agent"]),
    ("prost", &["wire"]),
    ("sqlx", &["catalog"]),
    ("async-nats", &["bus"]),
    ("object_store", &["store"]),
];

/// Packages that Cargo.lock may hold.
const PACKAGES_MAX: usize = 350;

fn row(name: &str) -> Option<u8> {
    ROWS.iter().find(|(row, _)| *row == name).map(|(_, row)| *row)
}

pub(super) fn check(house: &House, problems: &mut Vec<Problem>) {
    for (path, text) in house.with_extension("toml") {
        let Some(dir) = path.strip_suffix("/Cargo.toml") else {
            continue;
        };
        // a workspace of its own, outside the rows
        if dir == "fuzz" {
            continue;
        }
        let name = dir.rsplit('/').next().unwrap_or(dir);
        let Some(own) = row(name) else {
            problems.push(Problem::new(
                path,
                0,
                format!("the crate {name} has no row; give it one in xtask's tidy"),
            ));
            continue;
        };
        let words = words(house, dir);
        for dependency in dependencies(text) {
            let at = |text: String| Problem::new(path, dependency.line, text);
            if let Some(other) = row(&dependency.name).filter(|other| *other >= own) {
                let why = if other == own {
                    "neighbours in a row do not know each other"
                } else {
                    "it stands below"
                };
                problems.push(at(format!(
                    "{name} (row {own}) may not use {} (row {other}): {why}",
                    dependency.name
                )));
            }
            if let Some((_, homes)) = HEAVY
                .iter()
                .find(|(heavy, homes)| *heavy == dependency.name && !homes.contains(&name))
            {
                problems.push(at(format!("{} stays in {}", dependency.name, homes.join(", "))));
            }
            if !words.contains(&dependency.name.replace('-', "_").as_str()) {
                problems.push(at(format!("{} is declared and never named in {dir}", dependency.name)));
            }
        }
    }
    if let Some(lock) = house.text("Cargo.lock") {
        let packages = lock.lines().filter(|line| *line == "[[package]]").count();
        if packages > PACKAGES_MAX {
            problems.push(Problem::new(
                "Cargo.lock",
                0,
                format!("{packages} packages, at most {PACKAGES_MAX}"),
            ));
        }
    }
}

#[derive(Debug, PartialEq)]
pub(super) struct Dependency {
    pub(super) name: String,
    pub(super) line: usize,
}

/// Names under every `[…dependencies]` table.
pub(super) fn dependencies(manifest: &str) -> Vec<Dependency> {
    let mut found = Vec::new();
    let mut inside = false;
    for (at, line) in manifest.lines().enumerate() {
        let line = line.trim();
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table.ends_with("dependencies");
            if let Some((_, name)) = table.rsplit_once("dependencies.") {
                found.push(Dependency {
                    name: name.to_owned(),
                    line: at + 1,
                });
            }
        } else if inside && !line.starts_with('#') && !line.is_empty() {
            let name: String = line
                .chars()
                .take_while(|c| c.is_alphanumeric() || matches!(c, '-' | '_'))
                .collect();
            found.push(Dependency { name, line: at + 1 });
        }
    }
    found
}

/// All identifiers in a crate's sources.
fn words<'a>(house: &'a House, dir: &str) -> BTreeSet<&'a str> {
    let prefix = format!("{dir}/");
    let mut words = BTreeSet::new();
    for (name, text) in house.with_extension("rs") {
        if name.starts_with(&prefix) {
            words.extend(text.split(|c: char| !c.is_alphanumeric() && c != '_'));
        }
    }
    words
}
