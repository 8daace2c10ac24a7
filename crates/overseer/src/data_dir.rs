use std::path::{Path, PathBuf};

use host::{Host, Lock};

use crate::Failure;
use crate::config::Config;

/// Held by the process that uses the directory.
pub(crate) const LOCK: &str = "lock";

/// Files of samples below a data directory.
pub(crate) fn series_of(path: &Path) -> PathBuf {
    path.join("series")
}

/// The log of samples below a data directory.
pub(crate) fn samples_log_of(path: &Path) -> PathBuf {
    path.join("log").join("samples")
}

/// The directory everything is kept in, held by this process alone.
pub(crate) struct DataDir {
    path: PathBuf,
    _lock: Box<dyn Lock>,
}

impl DataDir {
    /// Creates the directory where it is missing and takes hold of it.
    pub(crate) fn open(host: &Host, path: &Path) -> Result<Self, Failure> {
        host.files
            .create_dir_all(path)
            .map_err(|e| Failure::failed(format!("{}: cannot create the data directory: {e}", path.display())))?;
        let lock = host.files.lock(&path.join(LOCK)).map_err(|e| {
            if e.kind() == std::io::ErrorKind::WouldBlock {
                Failure::failed(format!(
                    "{}: another Overseer uses this data directory; stop it, or choose another with --data-dir",
                    path.display()
                ))
            } else {
                Failure::failed(format!("{}: cannot lock the data directory: {e}", path.display()))
            }
        })?;
        Ok(DataDir {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    pub(crate) fn series(&self) -> PathBuf {
        series_of(&self.path)
    }

    pub(crate) fn samples_log(&self) -> PathBuf {
        samples_log_of(&self.path)
    }

    pub(crate) fn snapshots(&self) -> PathBuf {
        self.path.join("snapshots")
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

/// `overseer` in the user's data home (XDG), or below the working directory when there is no home.
pub(crate) fn default_path() -> PathBuf {
    let from = |name: &str| std::env::var_os(name).filter(|v| !v.is_empty()).map(PathBuf::from);
    from("XDG_DATA_HOME")
        .or_else(|| from("HOME").map(|home| home.join(".local/share")))
        .unwrap_or_else(|| PathBuf::from("."))
        .join("overseer")
}

/// What to add where there is no data at the path and that may be because nobody said where it is.
pub(crate) fn not_named(config: &Config) -> &'static str {
    match &config.data_dir {
        Some(_) => "",
        None => {
            "; no data_dir is configured, so this is the default: give the server's with --data-dir, as its service does"
        }
    }
}
