use std::{collections::HashMap, path::Path};

use crate::{
    Failure,
    arguments::{Arguments, WRONG},
    process,
    workspace::{Workspace, find_program},
};

pub(crate) const HELP: &str = "\
Counts what a sample costs on its way in: allocations, and instructions of each phase under callgrind.

Usage: cargo xtask count [--protocol NAME]

  --protocol NAME   only this one: remote_write, remote_write_2, influx, otlp or prometheus_text

A thousand known series, each with a sample every 15 s, are sent as the protocol's bodies (crates/gateway/tests/counts).
What is counted is half an hour of that, sealed at its end, after another half hour; allocations without the seal, and
the seal's own. Counts hardly depend on the machine or what else it does. Needs valgrind; the build is a release build,
CARGO_PROFILE_RELEASE_LTO=off makes it shorter.
";

/// As in crates/gateway/tests/counts.
const PROTOCOLS: [&str; 5] = ["remote_write", "remote_write_2", "influx", "otlp", "prometheus_text"];
const SAMPLES: u64 = 120_000;

/// Phases, and the functions that do all of their work, by how their names end.
const PHASES: [(&str, &str); 4] = [
    ("decode", "counts::House::decode"),
    ("log", "bus::local::writer::Writer<C>::run"),
    ("append", "store::role::Apply::run"),
    ("seal", "store::maintenance::Worker::run"),
];

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let only = arguments.value("--protocol")?;
    arguments.end()?;
    if let Some(only) = &only
        && !PROTOCOLS.contains(&only.as_str())
    {
        return Err(format!(
            "{WRONG}--protocol {only:?}: one of {} is right",
            PROTOCOLS.join(", ")
        ));
    }
    process::run(test(workspace, &[], &["samples_of_known_series", "--nocapture"]))?;
    if find_program("valgrind").is_none() {
        println!("SKIPPED: no instructions are counted, valgrind is not installed");
        return Ok(());
    }
    let mut lines = vec![format!(
        "{:<16}{:>9}{:>9}{:>9}{:>9}{:>9}",
        "instructions", "decode", "log", "append", "seal", "together"
    )];
    for protocol in PROTOCOLS {
        if only.as_deref().is_some_and(|only| only != protocol) {
            continue;
        }
        let (one, two) = (counted(workspace, protocol, 1)?, counted(workspace, protocol, 2)?);
        let mut line = format!("{protocol:<16}");
        let mut together = 0;
        for (one, two) in one.iter().zip(&two) {
            let each = two.saturating_sub(*one) / SAMPLES;
            together += each;
            line.push_str(&format!("{each:>9}"));
        }
        line.push_str(&format!("{together:>9}"));
        lines.push(line);
    }
    println!("{}", lines.join("\n"));
    Ok(())
}

/// The counting tests, run by `runner` where there is one.
fn test(workspace: &Workspace, runner: &[String], words: &[&str]) -> std::process::Command {
    let mut cargo = workspace.cargo();
    if !runner.is_empty() {
        cargo.args(["--config", &format!("target.\"cfg(all())\".runner={runner:?}")]);
    }
    cargo.args([
        "test",
        "--release",
        "--quiet",
        "--package",
        "gateway",
        "--test",
        "counts",
        "--",
    ]);
    cargo.args(words);
    cargo
}

/// Instructions of each phase when so many half hours are sent.
fn counted(workspace: &Workspace, protocol: &str, half_hours: u64) -> Result<[u64; PHASES.len()], Failure> {
    let dir = workspace.target_dir().join("count");
    std::fs::create_dir_all(&dir).map_err(|e| format!("{}: {e}", dir.display()))?;
    let out = dir.join(format!("{protocol}.{half_hours}"));
    let runner = [
        "valgrind".to_owned(),
        "--quiet".to_owned(),
        "--tool=callgrind".to_owned(),
        format!("--callgrind-out-file={}", out.display()),
    ];
    let mut cargo = test(workspace, &runner, &["half_hours", "--exact", "--ignored"]);
    cargo.env("OVERSEER_COUNT", format!("{protocol} {half_hours}"));
    process::run(cargo)?;
    phases(&out)
}

fn phases(file: &Path) -> Result<[u64; PHASES.len()], Failure> {
    let text = std::fs::read(file).map_err(|e| format!("{}: {e}", file.display()))?;
    let text = String::from_utf8_lossy(&text);
    let costs = costs(&text);
    let mut found = [0; PHASES.len()];
    for (of, (phase, function)) in found.iter_mut().zip(PHASES) {
        *of = costs
            .iter()
            .filter(|(name, _)| name.ends_with(function))
            .map(|(_, cost)| cost)
            .sum();
        if *of == 0 {
            return Err(format!(
                "{}: no call of {function}, which is the phase {phase}",
                file.display()
            ));
        }
    }
    Ok(found)
}

/// Instructions of all calls of each function, with those of what it calls, out of callgrind's file.
fn costs(text: &str) -> HashMap<&str, u64> {
    let (mut names, mut costs) = (HashMap::new(), HashMap::new());
    let (mut callee, mut is_call) = ("", false);
    for line in text.lines() {
        if let Some((key, id)) = line.split_once("fn=")
            && matches!(key, "" | "c")
        {
            // a name stands behind its number the first time
            let (id, name) = id.split_once(' ').unwrap_or((id, ""));
            if !name.is_empty() {
                names.insert(id, name.trim());
            }
            if key == "c" {
                callee = names.get(id).copied().unwrap_or(id);
            }
        } else if line.starts_with("calls=") {
            is_call = true;
        } else if std::mem::take(&mut is_call) {
            let cost = line.split(' ').next_back().and_then(|n| n.parse().ok()).unwrap_or(0);
            *costs.entry(callee).or_insert(0) += cost;
        }
    }
    costs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_summed_by_name() {
        let text = "fl=(1) a.rs\nfn=(1) a::main\n1 10\ncfn=(2) b::run\ncalls=1 7\n2 300\ncfn=(3) c\ncalls=2 9\n+1 5\n\
                    fn=(3)\n4 1\ncfn=(2)\ncalls=1 1\n* 40\n";
        let costs = costs(text);
        assert_eq!(costs.get("b::run"), Some(&340));
        assert_eq!(costs.get("c"), Some(&5));
        assert_eq!(costs.len(), 2);
    }
}
