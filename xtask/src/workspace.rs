use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::Failure;

/// The checkout that this xtask is run in.
pub(crate) struct Workspace {
    pub(crate) root: PathBuf,
}

impl Workspace {
    pub(crate) fn here() -> Self {
        // cargo tells it at every run; where this was compiled may be another checkout that shares the target directory
        let told = std::env::var_os("CARGO_MANIFEST_DIR").map(PathBuf::from);
        let xtask = told.unwrap_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")));
        Workspace {
            root: xtask.parent().map_or_else(|| xtask.clone(), Path::to_path_buf),
        }
    }

    pub(crate) fn path(&self, relative: &str) -> PathBuf {
        self.root.join(relative)
    }

    /// A command that runs at the root.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.current_dir(&self.root);
        command
    }

    /// The cargo that started this xtask, free of what it set for this xtask alone.
    pub(crate) fn cargo(&self) -> Command {
        let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
        let mut command = self.command(&cargo);
        for (name, _) in std::env::vars() {
            if name.starts_with("CARGO_PKG_") || name == "CARGO_MANIFEST_DIR" || name == "CARGO_MANIFEST_PATH" {
                command.env_remove(name);
            }
        }
        command
    }

    /// Where cargo builds.
    pub(crate) fn target_dir(&self) -> PathBuf {
        match std::env::var_os("CARGO_TARGET_DIR").filter(|dir| !dir.is_empty()) {
            // cargo takes it as relative to where it runs
            Some(dir) => self.root.join(dir),
            None => self.root.join("target"),
        }
    }

    /// Files that git knows or would take, by name. They are there, even when git still lists others.
    pub(crate) fn files(&self) -> Result<Vec<String>, Failure> {
        let listed = self
            .command("git")
            .args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"])
            .output()
            .map_err(|e| format!("git does not start ({e}); it tells which files belong to the project"))?;
        if !listed.status.success() {
            return Err(format!(
                "git ls-files failed: {}",
                String::from_utf8_lossy(&listed.stderr).trim()
            ));
        }
        let text = String::from_utf8_lossy(&listed.stdout);
        let mut files: Vec<String> = text
            .split('\0')
            .filter(|f| !f.is_empty() && self.path(f).is_file())
            .map(str::to_owned)
            .collect();
        files.sort();
        files.dedup();
        Ok(files)
    }
}

/// `overseer-xtask` in the user's cache folder: tools for the tests, kept between runs.
pub(crate) fn cache_dir() -> PathBuf {
    let from = |name: &str| {
        std::env::var_os(name)
            .filter(|value| !value.is_empty())
            .map(PathBuf::from)
    };
    from("XDG_CACHE_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("overseer-xtask")
}

/// The first place in PATH that holds a program.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path)
        .map(|dir| dir.join(name))
        .find(|program| program.is_file())
}
