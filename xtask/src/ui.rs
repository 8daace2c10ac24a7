use std::{
    hash::{DefaultHasher, Hash, Hasher},
    path::PathBuf,
};

use crate::{
    Failure,
    arguments::Arguments,
    process,
    workspace::{Workspace, find_program},
};

pub(crate) const HELP: &str = "\
Installs the npm packages of ui/ (npm ci) and builds ui/dist, each only where stale.

Usage: cargo xtask ui [--force]

  --force   install and build again

`cargo build` never calls npm: a binary built without ui/dist serves a one-page notice.
";

/// What was installed and built last, beside npm's own notes: git does not see it and the binary does not embed it.
const INSTALLED: &str = "ui/node_modules/.overseer-installed";
const BUILT: &str = "ui/node_modules/.overseer-built";

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let force = arguments.switch("--force");
    arguments.end()?;
    if force {
        for stamp in [INSTALLED, BUILT] {
            let _ = std::fs::remove_file(workspace.path(stamp));
        }
    }
    if !build(workspace)? {
        println!("ui/dist is fresh");
    }
    Ok(())
}

/// Installs packages when the lock file changed since the last time.
pub(crate) fn install(workspace: &Workspace) -> Result<(), Failure> {
    if find_program("npm").is_none() {
        return Err(
            "npm is missing: install Node.js 20 or later (Debian: apt-get install nodejs npm). \
                    Without the pages: cargo run --release"
                .to_owned(),
        );
    }
    let wanted = digest(&[
        workspace.path("ui/package.json"),
        workspace.path("ui/package-lock.json"),
    ])?;
    if is_stamped(workspace, INSTALLED, &wanted) {
        return Ok(());
    }
    let mut npm = workspace.command("npm");
    npm.current_dir(workspace.path("ui"))
        .args(["ci", "--no-audit", "--no-fund"]);
    process::run(npm)?;
    stamp(workspace, INSTALLED, &wanted)
}

/// Builds `ui/dist` when a source changed since the last time; whether it did.
pub(crate) fn build(workspace: &Workspace) -> Result<bool, Failure> {
    install(workspace)?;
    let sources = workspace
        .files()?
        .into_iter()
        .filter(|file| file.starts_with("ui/") && !file.starts_with("ui/tests/"));
    let sources: Vec<PathBuf> = sources.map(|file| workspace.path(&file)).collect();
    let wanted = digest(&sources)?;
    if is_stamped(workspace, BUILT, &wanted) && workspace.path("ui/dist/index.html").is_file() {
        return Ok(false);
    }
    let mut npm = workspace.command("npm");
    npm.current_dir(workspace.path("ui")).args(["run", "--silent", "build"]);
    process::run(npm)?;
    stamp(workspace, BUILT, &wanted)?;
    Ok(true)
}

/// Of names and contents; only ever compared with one made by the same program.
fn digest(files: &[PathBuf]) -> Result<String, Failure> {
    let mut hasher = DefaultHasher::new();
    for file in files {
        file.hash(&mut hasher);
        std::fs::read(file)
            .map_err(|e| format!("{}: {e}", file.display()))?
            .hash(&mut hasher);
    }
    Ok(format!("{:016x}", hasher.finish()))
}

fn is_stamped(workspace: &Workspace, path: &str, wanted: &str) -> bool {
    std::fs::read_to_string(workspace.path(path)).is_ok_and(|found| found == wanted)
}

fn stamp(workspace: &Workspace, path: &str, digest: &str) -> Result<(), Failure> {
    std::fs::write(workspace.path(path), digest).map_err(|e| format!("{path}: {e}"))
}
