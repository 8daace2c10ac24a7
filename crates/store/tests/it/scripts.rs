//! Prometheus' test language on the real engine: what memory answers, it answers, wherever the samples lie.

use std::io::Write;
use std::path::{Path, PathBuf};

use query::promql::script::run;

use crate::target::{EngineTarget, Stage};

fn run_all(dir: &Path, stages: &[Stage], threads: usize) {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<PathBuf> = entries.map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "test"));
    paths.sort();
    assert!(!paths.is_empty(), "no .test file in {}", dir.display());
    let mut wrong = Vec::new();
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let text = std::fs::read_to_string(&path).unwrap();
        for &stage in stages {
            match run(&text, &mut EngineTarget::new(stage, threads)) {
                Ok(report) => {
                    let failed = report.failures.len();
                    eprintln!("{name} {stage:?}: {} passed, {failed} failed", report.passed);
                    wrong.extend(report.failures.iter().map(|f| format!("{name} {stage:?}: {f}")));
                }
                Err(e) => wrong.push(format!("{name} {stage:?}: {e}")),
            }
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../query/testdata")
}

#[test]
fn the_engine_answers_as_memory_does() {
    run_all(&testdata(), &Stage::ALL, 1);
}

#[test]
fn the_engine_answers_as_memory_does_on_several_threads() {
    run_all(&testdata(), &[Stage::HalfSealed], 3);
}

#[test]
fn scripts_from_elsewhere() {
    match std::env::var_os("OVERSEER_PROMQLTEST_DIR") {
        Some(dir) => run_all(Path::new(&dir), &Stage::ALL, 1),
        None => {
            // past the test runner, which hides what passed tests print
            let _ = writeln!(
                std::io::stdout(),
                "SKIPPED: OVERSEER_PROMQLTEST_DIR is not set. Set it to a directory with .test files, such as Prometheus' \
                 promql/promqltest/testdata, to run them on the engine, too."
            );
        }
    }
}
