use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    Failure,
    arguments::Arguments,
    process::{self, shown},
    workspace::{Workspace, cache_dir, find_program},
};

pub(crate) const HELP: &str = "\
Installs what the tests need and is missing; `cargo xtask test` does the same first.

Usage: cargo xtask setup [--check]

  --check   only say what is missing

Prometheus and node_exporter are unpacked from Debian's packages into the user's cache folder, so that neither starts as
a service here. Python clients go into a virtual environment there. Only the browser is installed for the whole system,
which needs root; as another user you are told the command.
";

/// Programs out of Debian packages that need nothing installed beside them.
const UNPACKED: [(&str, &str); 2] = [
    ("prometheus", "prometheus"),
    ("prometheus-node-exporter", "prometheus-node-exporter"),
];
/// Names under which a browser may be there.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];
/// Clients of PyPI; versions are held so that a test's outcome is that of the project.
const PYTHON_PACKAGES: [&str; 3] = [
    "influxdb==5.3.2",
    "opentelemetry-sdk==1.38.0",
    "opentelemetry-exporter-otlp-proto-http==1.38.0",
];

/// What the tests find in their environment.
#[derive(Debug, Default)]
pub(crate) struct Tools {
    /// PATH, with what was unpacked behind what is installed.
    pub(crate) path: OsString,
    pub(crate) python: Option<PathBuf>,
    pub(crate) browser: Option<PathBuf>,
    /// What is missing and how to get it.
    pub(crate) missing: Vec<String>,
}

impl Tools {
    /// Gives a test command its tools. With all of them there, tests may not skip for want of one.
    pub(crate) fn lend(&self, command: &mut Command) {
        command.env("PATH", &self.path);
        if let Some(python) = &self.python {
            command.env("OVERSEER_TEST_PYTHON", python);
        }
        if let Some(browser) = &self.browser {
            command.env("CHROMIUM", browser);
        }
        if self.missing.is_empty() {
            command.env("OVERSEER_TEST_REQUIRE", "1");
        }
    }
}

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let check = arguments.switch("--check");
    arguments.end()?;
    let tools = provide(workspace, !check);
    if tools.missing.is_empty() {
        println!("everything is there");
        return Ok(());
    }
    Err(format!("missing:\n  {}", tools.missing.join("\n  ")))
}

/// Looks for every tool, and with `install` gets those that are missing. What cannot be had is named, not fatal.
pub(crate) fn provide(workspace: &Workspace, install: bool) -> Tools {
    let cache = cache_dir();
    let mut tools = Tools::default();
    let unpacked = cache.join("debian/usr/bin");
    for (program, package) in UNPACKED {
        if find_program(program).is_some() || unpacked.join(program).is_file() {
            continue;
        }
        let done = if install {
            unpack(package, &cache)
        } else {
            Err("not installed".to_owned())
        };
        if let Err(reason) = done {
            tools
                .missing
                .push(format!("{program} ({reason}): apt-get install {package}"));
        }
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    let dirs = std::env::split_paths(&path).chain([unpacked]);
    tools.path = std::env::join_paths(dirs).unwrap_or(path);
    match python(workspace, &cache, install) {
        Ok(python) => tools.python = Some(python),
        Err(reason) => tools.missing.push(format!("Python clients ({reason})")),
    }
    match browser(install) {
        Ok(browser) => tools.browser = Some(browser),
        Err(reason) => tools.missing.push(reason),
    }
    tools
}

/// Fetches a Debian package and unpacks it; nothing is installed, no service starts, no root is needed.
fn unpack(package: &str, cache: &Path) -> Result<(), Failure> {
    let into = cache.join("debian");
    std::fs::create_dir_all(&into).map_err(|e| format!("{}: {e}", into.display()))?;
    let download = || {
        let mut apt = Command::new("apt-get");
        // the user apt drops its rights to cannot write here
        apt.current_dir(&into)
            .args(["download", "-q", "-o", "APT::Sandbox::User=root", package]);
        process::run(apt)
    };
    download().or_else(|first| {
        if !is_root() {
            return Err(format!(
                "{first}; the package lists may be missing: sudo apt-get update"
            ));
        }
        update()?;
        download()
    })?;
    let entries = std::fs::read_dir(&into).map_err(|e| e.to_string())?;
    let prefix = format!("{package}_");
    for archive in entries.flatten().map(|entry| entry.path()) {
        let name = archive
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        if name.starts_with(&prefix) && name.ends_with(".deb") {
            let mut dpkg = Command::new("dpkg-deb");
            dpkg.arg("--extract").arg(&archive).arg(&into);
            process::run(dpkg)?;
            std::fs::remove_file(&archive).map_err(|e| e.to_string())?;
        }
    }
    Ok(())
}

/// A Python that has the clients.
fn python(workspace: &Workspace, cache: &Path, install: bool) -> Result<PathBuf, Failure> {
    let venv = cache.join("python");
    let (python, stamp) = (venv.join("bin/python3"), venv.join("overseer-packages"));
    let wanted = PYTHON_PACKAGES.join("\n");
    if python.is_file() && std::fs::read_to_string(&stamp).is_ok_and(|found| found == wanted) {
        return Ok(python);
    }
    if !install {
        return Err("no virtual environment with them".to_owned());
    }
    let make = || {
        let mut command = workspace.command("python3");
        command.args(["-m", "venv", "--clear"]).arg(&venv);
        process::run(command)
    };
    make().or_else(|_| {
        apt_install(&["python3", "python3-venv"])?;
        make()
    })?;
    let mut pip = Command::new(&python);
    pip.args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]);
    pip.args(PYTHON_PACKAGES);
    process::run(pip)?;
    std::fs::write(&stamp, wanted).map_err(|e| format!("{}: {e}", stamp.display()))?;
    Ok(python)
}

fn browser(install: bool) -> Result<PathBuf, Failure> {
    let find = || BROWSERS.iter().find_map(|name| find_program(name));
    if let Some(browser) = find() {
        return Ok(browser);
    }
    if !install {
        return Err("a browser: apt-get install chromium".to_owned());
    }
    apt_install(&["chromium"]).map_err(|reason| format!("a browser ({reason})"))?;
    find().ok_or_else(|| "a browser: chromium was installed and is not in PATH".to_owned())
}

fn apt_install(packages: &[&str]) -> Result<(), Failure> {
    let command = || {
        let mut apt = Command::new("apt-get");
        apt.args(["install", "-y", "-q", "--no-install-recommends"])
            .args(packages);
        apt.env("DEBIAN_FRONTEND", "noninteractive");
        apt
    };
    if !is_root() {
        return Err(format!("run: sudo {}", shown(&command())));
    }
    process::run(command()).or_else(|_| {
        update()?;
        process::run(command())
    })
}

fn update() -> Result<(), Failure> {
    let mut apt = Command::new("apt-get");
    apt.args(["update", "-q"]);
    process::run(apt)
}

fn is_root() -> bool {
    let told = Command::new("id").arg("-u").stderr(Stdio::null()).output();
    told.is_ok_and(|told| told.stdout.trim_ascii() == b"0")
}
