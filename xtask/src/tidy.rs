mod files;
mod manifests;
mod sources;

use std::fmt;

use crate::{Failure, arguments::Arguments, workspace::Workspace};

pub(crate) const HELP: &str = "\
Checks the house rules that neither compiler nor clippy know.

Usage: cargo xtask tidy [--json]

  --json   one JSON object a line: path, line, problem

Crates: a crate uses only crates of rows above its own; heavy dependencies stay where they belong; what a manifest
  declares is used; Cargo.lock holds at most 350 packages.
Sources: at most 1200 lines; no leftovers; a crate opens with its contract; every .rs file belongs to a crate; unsafe
  code only in host and series, each block with its reason.
Files: stored byte forms have a page in docs/format; links in pages lead somewhere; no paths of somebody's machine;
  names say what a file holds.
";

/// One thing that is not as the house wants it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Problem {
    path: String,
    /// From 1; 0 when it is about the whole file.
    line: usize,
    text: String,
}

impl Problem {
    fn new(path: &str, line: usize, text: impl Into<String>) -> Self {
        Problem {
            path: path.to_owned(),
            line,
            text: text.into(),
        }
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.text),
            line => write!(f, "{}:{line}: {}", self.path, self.text),
        }
    }
}

/// The project's text files, read once.
pub(crate) struct House {
    files: Vec<(String, String)>,
}

impl House {
    fn read(workspace: &Workspace) -> Result<Self, Failure> {
        let mut files = Vec::new();
        for name in workspace.files()? {
            let bytes = std::fs::read(workspace.path(&name)).map_err(|e| format!("{name}: {e}"))?;
            // what is no text has no rules but its name; it is kept as an empty one
            let text = if bytes.contains(&0) {
                String::new()
            } else {
                String::from_utf8(bytes).unwrap_or_default()
            };
            files.push((name, text));
        }
        Ok(House { files })
    }

    fn text(&self, name: &str) -> Option<&str> {
        self.files
            .iter()
            .find(|(file, _)| file == name)
            .map(|(_, text)| text.as_str())
    }

    fn has(&self, name: &str) -> bool {
        self.text(name).is_some()
    }

    fn with_extension(&self, extension: &str) -> impl Iterator<Item = (&str, &str)> {
        let ending = format!(".{extension}");
        self.files
            .iter()
            .filter(move |(name, _)| name.ends_with(&ending))
            .map(|(name, text)| (name.as_str(), text.as_str()))
    }

    fn problems(&self) -> Vec<Problem> {
        let mut problems = Vec::new();
        manifests::check(self, &mut problems);
        sources::check(self, &mut problems);
        files::check(self, &mut problems);
        problems.sort();
        problems.dedup();
        problems
    }
}

/// Everything that is wrong in the checkout, by file.
pub(crate) fn problems(workspace: &Workspace) -> Result<Vec<Problem>, Failure> {
    Ok(House::read(workspace)?.problems())
}

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let json = arguments.switch("--json");
    arguments.end()?;
    let problems = problems(workspace)?;
    for problem in &problems {
        if json {
            let (path, text) = (quoted(&problem.path), quoted(&problem.text));
            println!(r#"{{"path":{path},"line":{},"problem":{text}}}"#, problem.line);
        } else {
            println!("{problem}");
        }
    }
    match problems.len() {
        0 => Ok(()),
        n => Err(format!("{n} problems")),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out + "\""
}

#[cfg(test)]
mod tests;
