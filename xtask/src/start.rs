use std::os::unix::process::CommandExt;

use crate::{Failure, arguments::Arguments, process, ui, workspace::Workspace};

pub(crate) const HELP: &str = "\
Installs and builds what is stale (npm packages, ui/dist, the release binary), then runs Overseer in the foreground.

Usage: cargo xtask start [--debug] [OVERSEER ARGUMENTS]

  --debug   build without optimisation: builds faster, runs slower

Everything else goes to Overseer; without arguments it runs all roles, keeps its data in overseer/ in your data home
and serves http://127.0.0.1:7070. Ctrl-C stops it.

  cargo xtask start
  cargo xtask start --listen 127.0.0.1:8080 --data-dir data
  cargo xtask start -- --help            what Overseer understands
";

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let debug = arguments.switch("--debug");
    ui::build(workspace)?;
    let mut cargo = workspace.cargo();
    cargo.args(["build", "--locked", "--package", "overseer"]);
    if !debug {
        cargo.arg("--release");
    }
    process::run(cargo)?;
    let profile = if debug { "debug" } else { "release" };
    let binary = workspace.target_dir().join(profile).join("overseer");
    // takes this process' place, so that signals and the exit code are Overseer's own; runs where the user stands
    let error = std::process::Command::new(&binary).args(arguments.rest()).exec();
    Err(format!("{}: {error}", binary.display()))
}
