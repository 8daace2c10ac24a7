use crate::{Failure, arguments::Arguments, process, workspace::Workspace};

pub(super) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let first = arguments.number("--seed", 0)?;
    let count = arguments.number("--seeds", 10_000)?;
    let jobs = arguments.number("--jobs", 1)?;
    arguments.end()?;
    let mut cargo = workspace.cargo();
    let test = [
        "test",
        "--release",
        "--package",
        "store",
        "--test",
        "it",
        "simulation",
        "--",
        "--nocapture",
    ];
    cargo
        .args(test)
        .env("OVERSEER_SEED", first.to_string())
        .env("OVERSEER_SEEDS", count.to_string())
        .env("OVERSEER_JOBS", jobs.to_string());
    process::run(cargo)
}
