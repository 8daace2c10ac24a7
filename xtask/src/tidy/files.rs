use super::{House, Problem};

/// Paths of somebody's machine, written so that this file does not hold them.
const MACHINE_PATHS: [&str; 4] = [
    concat!("/wo", "rk/"),
    concat!("/ro", "ot/"),
    concat!("../sha", "red"),
    concat!("/ho", "me/"),
];
/// Words that do not belong in the project: it speaks of itself, not of the tools it was written with.
const FOREIGN_WORDS: [&str; 6] = [
    concat!("cla", "ude"),
    concat!("chat", "gpt"),
    concat!("open", "ai"),
    concat!("co", "pilot"),
    concat!("language ", "model"),
    concat!("ai-", "generated"),
];
/// Where these words may stand: names of packages.
const LOCK_FILES: [&str; 3] = ["Cargo.lock", "fuzz/Cargo.lock", "ui/package-lock.json"];
/// Bytes of a file in the repository.
const BYTES_MAX: usize = 2 << 20;

pub(super) fn check(house: &House, problems: &mut Vec<Problem>) {
    for (name, text) in &house.files {
        if text.len() > BYTES_MAX {
            problems.push(Problem::new(
                name,
                0,
                format!("{} bytes, at most {BYTES_MAX}", text.len()),
            ));
        }
        if LOCK_FILES.contains(&name.as_str()) {
            continue;
        }
        for (at, line) in text.lines().enumerate() {
            if let Some(path) = MACHINE_PATHS.iter().find(|path| line.contains(**path)) {
                problems.push(Problem::new(
                    name,
                    at + 1,
                    format!("{path} is a path of somebody's machine"),
                ));
            }
            let small = line.to_ascii_lowercase();
            if let Some(word) = FOREIGN_WORDS.iter().find(|word| small.contains(**word)) {
                problems.push(Problem::new(
                    name,
                    at + 1,
                    format!("{word:?} is foreign to the project"),
                ));
            }
        }
    }
    links(house, problems);
    formats(house, problems);
}

/// Links between pages lead somewhere.
fn links(house: &House, problems: &mut Vec<Problem>) {
    for (name, text) in house.with_extension("md") {
        let dir = name.rsplit_once('/').map_or("", |(dir, _)| dir);
        for (at, line) in text.lines().enumerate() {
            for target in line.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
                let target = target.split('#').next().unwrap_or("");
                if target.is_empty() || target.contains("://") || target.starts_with("mailto:") {
                    continue;
                }
                let path = resolve(dir, target);
                let is_there = house.has(&path)
                    || house
                        .files
                        .iter()
                        .any(|(file, _)| file.starts_with(&format!("{path}/")));
                if !is_there {
                    problems.push(Problem::new(
                        name,
                        at + 1,
                        format!("the link to {target} leads nowhere"),
                    ));
                }
            }
        }
    }
}

/// A relative path, without `.` and `..`.
pub(super) fn resolve(dir: &str, target: &str) -> String {
    let mut parts: Vec<&str> = dir.split('/').filter(|part| !part.is_empty()).collect();
    for part in target.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    parts.join("/")
}

/// A stored byte form begins with a constant called MAGIC. The file or module that declares one is named by a page in
/// `docs/format`, and a page names only files that are there.
fn formats(house: &House, problems: &mut Vec<Problem>) {
    let pages: Vec<(&str, &str)> = house
        .with_extension("md")
        .filter(|(name, _)| name.starts_with("docs/format/"))
        .collect();
    for (name, text) in house
        .with_extension("rs")
        .filter(|(name, _)| name.starts_with("crates/"))
    {
        let declared = text.lines().position(|line| {
            let line = line
                .trim_start()
                .trim_start_matches("pub(crate) ")
                .trim_start_matches("pub ");
            line.strip_prefix("const ")
                .and_then(|rest| rest.split(':').next())
                .is_some_and(|name| name.ends_with("MAGIC"))
        });
        if let Some(at) = declared
            && !pages
                .iter()
                .any(|(_, page)| page.contains(name) || modules(name).iter().any(|m| page.contains(m)))
        {
            problems.push(Problem::new(
                name,
                at + 1,
                "a stored byte form without a page in docs/format that names this file or module",
            ));
        }
    }
    for (page, text) in pages {
        for (at, line) in text.lines().enumerate() {
            for path in line
                .split('`')
                .filter(|word| word.starts_with("crates/") && word.ends_with(".rs"))
            {
                if !house.has(path) {
                    problems.push(Problem::new(page, at + 1, format!("{path} is not there")));
                }
            }
        }
    }
}

/// How a page may call the module of a file: `bus::local::frame`, or those it lies in, `bus::local`; not a crate alone.
fn modules(name: &str) -> Vec<String> {
    let path = name
        .strip_prefix("crates/")
        .and_then(|rest| rest.strip_suffix(".rs"))
        .unwrap_or("");
    let parts: Vec<&str> = path
        .split('/')
        .filter(|part| !matches!(*part, "src" | "lib" | "main" | "mod"))
        .collect();
    (2..=parts.len())
        .map(|n| format!("`{}`", parts[..n].join("::")))
        .collect()
}
