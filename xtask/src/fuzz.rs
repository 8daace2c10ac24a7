use std::{path::PathBuf, process::Command};

use crate::{
    Failure,
    arguments::{Arguments, WRONG},
    process,
    workspace::Workspace,
};

mod promql;
mod sim;

pub(crate) const HELP: &str = "\
Runs every fuzz target for a while, from its corpus; or random queries against Prometheus; or simulated crashes.

Usage: cargo xtask fuzz [--seconds N] [--target NAME]
       cargo xtask fuzz promql --against DIR [--seed S] [--queries N]
       cargo xtask fuzz sim [--seed S] [--seeds N] [--jobs J]

  --seconds N     how long each target runs (default 10)
  --target NAME   only this one

Needs a C++ compiler for libFuzzer; no nightly compiler and no cargo-fuzz: targets are instrumented for coverage, not
for addresses, and unsafe code is forbidden in what they reach. An input that crashes a target lies in fuzz/artifacts.

promql: random expressions over random series, answered by Overseer (in memory, and from the engine's head and files)
and by Prometheus, which is built with Go from the source tree that DIR names; nothing is written there. A difference is
shown with its query and series made as small as can be.

  --against DIR   Prometheus' source, 3.14 or newer
  --seed S        where the dice start (default 1)
  --queries N     how many (default 2000)

sim: log and engine on a simulated machine that loses what was not synced, fails where planned, runs full, is killed and
starts again. A seed that finds something is shown; what it found becomes a test of its own.

  --seed S        the first seed (default 0)
  --seeds N       how many (default 10000)
  --jobs J        how many at once (default 1)
";

/// libFuzzer's counters and tables, and checks that a release build leaves out.
const FLAGS: &str = "-Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares --cfg=fuzzing -Cdebug-assertions";
const SECONDS: u64 = 10;
/// Bytes of an input.
const INPUT_BYTES_MAX: u64 = 64 << 10;

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    if arguments.word("promql") {
        return promql::run(workspace, arguments);
    }
    if arguments.word("sim") {
        return sim::run(workspace, arguments);
    }
    let seconds = match arguments.value("--seconds")? {
        None => SECONDS,
        Some(text) => text
            .parse()
            .map_err(|_| format!("{WRONG}--seconds {text:?} is no number"))?,
    };
    let only = arguments.value("--target")?;
    arguments.end()?;
    let mut targets = targets(workspace)?;
    if let Some(only) = only {
        if !targets.contains(&only) {
            return Err(format!(
                "{WRONG}there is no target {only:?}: {} is right",
                targets.join(", ")
            ));
        }
        targets = vec![only];
    }
    smoke(workspace, &targets, seconds)
}

/// Names of the targets: their files.
fn targets(workspace: &Workspace) -> Result<Vec<String>, Failure> {
    let files = workspace.files()?;
    let name = |file: &String| Some(file.strip_prefix("fuzz/fuzz_targets/")?.strip_suffix(".rs")?.to_owned());
    Ok(files.iter().filter_map(name).collect())
}

fn smoke(workspace: &Workspace, targets: &[String], seconds: u64) -> Result<(), Failure> {
    let triple = host_triple(workspace)?;
    let target_dir = workspace.target_dir().join("fuzz");
    let mut cargo = workspace.cargo();
    cargo.args([
        "build",
        "--release",
        "--manifest-path",
        "fuzz/Cargo.toml",
        "--target",
        &triple,
        "--target-dir",
    ]);
    // with a target named, build scripts are not instrumented
    cargo
        .arg(&target_dir)
        .env("RUSTFLAGS", FLAGS)
        .env_remove("CARGO_ENCODED_RUSTFLAGS");
    for target in targets {
        cargo.args(["--bin", target]);
    }
    process::run(cargo)?;
    let mut crashed = Vec::new();
    for target in targets {
        let corpus = workspace.path("fuzz/corpus").join(target);
        let found = target_dir.join("corpus").join(target);
        let artifacts = workspace.path("fuzz/artifacts").join(target);
        for dir in [&found, &artifacts] {
            std::fs::create_dir_all(dir).map_err(|e| format!("{}: {e}", dir.display()))?;
        }
        let binary: PathBuf = target_dir.join(&triple).join("release").join(target);
        let mut command = Command::new(binary);
        command
            .arg(format!("-max_total_time={seconds}"))
            .arg(format!("-max_len={INPUT_BYTES_MAX}"))
            .arg(format!("-artifact_prefix={}/", artifacts.display()))
            .args([
                "-timeout=10",
                "-rss_limit_mb=2048",
                "-verbosity=0",
                "-print_final_stats=0",
                "-print_funcs=0",
            ])
            // new inputs go to the first; those in the project are only read
            .arg(&found);
        if corpus.is_dir() {
            command.arg(&corpus);
        }
        if let Err(failure) = process::run(command) {
            println!("{failure}");
            crashed.push(target.as_str());
        }
    }
    match crashed.as_slice() {
        [] => Ok(()),
        crashed => Err(format!(
            "crashed: {}; the inputs lie in fuzz/artifacts",
            crashed.join(", ")
        )),
    }
}

fn host_triple(workspace: &Workspace) -> Result<String, Failure> {
    let told = workspace
        .command("rustc")
        .arg("-vV")
        .output()
        .map_err(|e| format!("rustc: {e}"))?;
    let text = String::from_utf8_lossy(&told.stdout).into_owned();
    let triple = text.lines().find_map(|line| line.strip_prefix("host: "));
    triple
        .map(str::to_owned)
        .ok_or_else(|| "rustc -vV names no host".to_owned())
}
