use std::path::{Path, PathBuf};

use crate::{
    Failure,
    arguments::{Arguments, WRONG},
    process,
    workspace::{Workspace, find_program},
};

/// Our part of the test binary, and where Go is told that it lies.
const SOURCE: &str = "fuzz/promql-oracle/oracle_test.go";
const PLACE: &str = "promql/promqltest";

pub(super) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let against = arguments.value("--against")?;
    let seed = arguments.number("--seed", 1)?;
    let queries = arguments.number("--queries", 2000)?;
    arguments.end()?;
    let Some(against) = against else {
        println!("SKIPPED: no Prometheus to compare with; --against DIR names a source tree of it");
        return Ok(());
    };
    let against = std::path::absolute(&against).map_err(|e| format!("{against}: {e}"))?;
    if !against.join(PLACE).is_dir() {
        return Err(format!(
            "{WRONG}{} holds no {PLACE}: a Prometheus source tree is right",
            against.display()
        ));
    }
    if find_program("go").is_none() {
        println!("SKIPPED: no Prometheus to compare with; Go, which builds it, is not installed");
        return Ok(());
    }
    let oracle = build(workspace, &against)?;
    let mut cargo = workspace.cargo();
    cargo
        .args([
            "test",
            "--package",
            "store",
            "--test",
            "it",
            "differential",
            "--",
            "--nocapture",
        ])
        .env("OVERSEER_PROMQL_ORACLE", oracle)
        .env("OVERSEER_FUZZ_SEED", seed.to_string())
        .env("OVERSEER_FUZZ_QUERIES", queries.to_string());
    process::run(cargo)
}

/// Builds Prometheus' side of the comparison; returns the program.
fn build(workspace: &Workspace, against: &Path) -> Result<PathBuf, Failure> {
    let dir = workspace.target_dir().join("fuzz");
    let failed = |path: &Path| {
        let path = path.display().to_string();
        move |e: std::io::Error| format!("{path}: {e}")
    };
    std::fs::create_dir_all(&dir).map_err(failed(&dir))?;
    // an overlay: the tree stays as it is
    let place = against.join(PLACE).join("overseer_oracle_test.go");
    let quoted = |path: &Path| format!("{:?}", path.display().to_string());
    let overlay = dir.join("promql-oracle.json");
    let text = format!(
        "{{\"Replace\": {{{}: {}}}}}\n",
        quoted(&place),
        quoted(&workspace.path(SOURCE))
    );
    std::fs::write(&overlay, text).map_err(failed(&overlay))?;
    let program = dir.join("promql-oracle");
    let mut go = workspace.command("go");
    go.current_dir(against)
        .env("GOWORK", "off")
        .args(["test", "-c", "-overlay"])
        .arg(&overlay)
        .arg("-o")
        .arg(&program)
        .arg(format!("./{PLACE}"));
    process::run(go)?;
    Ok(program)
}
