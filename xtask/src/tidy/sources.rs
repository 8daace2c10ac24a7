use std::collections::BTreeSet;

use super::{House, Problem};

/// Lines of a source file; aim for fewer than half.
const LINES_MAX: usize = 1200;
/// What must not stay behind, written so that this file does not hold it.
const LEFTOVERS: [&str; 6] = [
    concat!("to", "do!("),
    concat!("db", "g!("),
    concat!("unimple", "mented!("),
    concat!("FIX", "ME"),
    concat!("XX", "X"),
    concat!("<<<", "<<<<"),
];
/// Looks for the same in the pages' sources, so it names them.
const CHECKER: &str = "ui/check.mjs";
const SOURCES: [&str; 5] = ["rs", "ts", "tsx", "mjs", "css"];
/// Crates that may hold unsafe code, file by file.
const UNSAFE: [&str; 2] = ["host", "series"];
/// File names that say nothing of what is in them.
const VAGUE: [&str; 9] = [
    "utils", "util", "common", "helpers", "helper", "types", "misc", "manager", "core",
];

pub(super) fn check(house: &House, problems: &mut Vec<Problem>) {
    for (name, text) in SOURCES
        .into_iter()
        .flat_map(|extension| house.with_extension(extension))
    {
        let lines = text.lines().count();
        if lines > LINES_MAX {
            problems.push(Problem::new(name, 0, format!("{lines} lines, at most {LINES_MAX}")));
        }
        for (at, line) in text.lines().enumerate() {
            if let Some(word) = LEFTOVERS.iter().find(|word| name != CHECKER && has_word(line, word)) {
                problems.push(Problem::new(
                    name,
                    at + 1,
                    format!("{} is left over", word.trim_end_matches('(')),
                ));
            }
        }
        let stem = name
            .rsplit('/')
            .next()
            .and_then(|file| file.split('.').next())
            .unwrap_or("");
        if VAGUE.contains(&stem) {
            problems.push(Problem::new(name, 0, "name the thing it holds"));
        }
    }
    let reached = reached(house);
    for (name, text) in house.with_extension("rs") {
        if !reached.contains(name) {
            problems.push(Problem::new(name, 0, "an orphan: no module declares it"));
        }
        rust(name, text, problems);
    }
}

/// A leftover that is a word of its own, not a part of one.
fn has_word(line: &str, word: &str) -> bool {
    line.match_indices(word).any(|(at, _)| {
        let before = line[..at].chars().next_back();
        let after = line[at + word.len()..].chars().next();
        let is_part = |c: Option<char>| c.is_some_and(|c| c.is_alphanumeric() || c == '_');
        !is_part(before) && (word.ends_with('(') || !is_part(after))
    })
}

fn rust(name: &str, text: &str, problems: &mut Vec<Problem>) {
    let crate_name = name
        .strip_prefix("crates/")
        .and_then(|rest| rest.split('/').next())
        .unwrap_or("");
    if is_crate_root(name) {
        let has_contract = text
            .lines()
            .next()
            .is_some_and(|line| line.strip_prefix("//! ").is_some_and(|l| l.len() > 20));
        if !has_contract {
            problems.push(Problem::new(name, 1, "a crate opens with its contract (//! …)"));
        }
        if !UNSAFE.contains(&crate_name) && !text.contains("#![forbid(unsafe_code)]") && !name.starts_with("fuzz/") {
            problems.push(Problem::new(name, 0, "#![forbid(unsafe_code)] is missing"));
        }
    }
    let lines: Vec<&str> = text.lines().collect();
    let is_test = name.ends_with("/tests.rs") || name.contains("/src/") && name.contains("/tests/");
    for (at, line) in lines.iter().enumerate() {
        let code = line.split("//").next().unwrap_or("");
        let opens_unsafe = [concat!("unsafe", " {"), concat!("unsafe", " impl")]
            .iter()
            .any(|u| code.contains(u));
        if opens_unsafe
            && !lines[at.saturating_sub(6)..at]
                .iter()
                .any(|before| before.contains("// SAFETY:"))
        {
            problems.push(Problem::new(name, at + 1, "unsafe code without a // SAFETY: above it"));
        }
        if code.trim() == concat!("#[", "ignore]") {
            problems.push(Problem::new(name, at + 1, "an ignored test says why"));
        }
        // tests of the binary must wait for another process; tests beside the code have its clock in their hands
        if is_test && code.contains(concat!("thread::", "sleep(")) {
            problems.push(Problem::new(
                name,
                at + 1,
                "a test that sleeps; wait for what happens, or pass in the clock",
            ));
        }
    }
}

fn is_crate_root(name: &str) -> bool {
    name.ends_with("/src/lib.rs") || name.ends_with("/src/main.rs")
}

/// Files that cargo or a `mod` line leads to.
fn reached(house: &House) -> BTreeSet<String> {
    let mut reached = BTreeSet::new();
    let mut open: Vec<String> = house
        .with_extension("rs")
        .map(|(name, _)| name)
        .filter(|n| is_root(n))
        .map(str::to_owned)
        .collect();
    while let Some(name) = open.pop() {
        let Some(text) = house.text(&name) else { continue };
        if !reached.insert(name.clone()) {
            continue;
        }
        let (dir, file) = name.rsplit_once('/').unwrap_or(("", &name));
        let stem = file.trim_end_matches(".rs");
        // modules of a root and of mod.rs lie beside it, those of another file in the folder of its name
        let below = if is_root(&name) || stem == "mod" {
            dir.to_owned()
        } else {
            format!("{dir}/{stem}")
        };
        let mut path_attribute = None;
        for line in text.lines().map(str::trim) {
            if let Some(path) = line.strip_prefix("#[path = \"").and_then(|rest| rest.split('"').next()) {
                path_attribute = Some(format!("{dir}/{path}"));
                continue;
            }
            let Some(module) = declared_module(line) else { continue };
            match path_attribute.take() {
                Some(path) => open.push(path),
                None => open.extend([format!("{below}/{module}.rs"), format!("{below}/{module}/mod.rs")]),
            }
        }
    }
    reached
}

/// Files that cargo finds by itself.
fn is_root(name: &str) -> bool {
    let Some((dir, file)) = name.rsplit_once('/') else {
        return false;
    };
    let parent = dir.rsplit('/').next().unwrap_or("");
    is_crate_root(name)
        || file == "build.rs"
        || matches!(parent, "tests" | "benches" | "examples" | "bin" | "fuzz_targets") && !dir.contains("/src/")
        || parent == "bin"
        || file == "main.rs"
}

/// The name in `mod name;`, whatever its visibility.
pub(super) fn declared_module(line: &str) -> Option<&str> {
    let line = line.split("//").next()?.trim().strip_suffix(';')?;
    let (visibility, name) = line.rsplit_once("mod ")?;
    let visibility = visibility.trim();
    let is_visibility =
        visibility.is_empty() || visibility == "pub" || visibility.starts_with("pub(") && visibility.ends_with(')');
    (is_visibility && name.chars().all(|c| c.is_alphanumeric() || c == '_')).then_some(name)
}
