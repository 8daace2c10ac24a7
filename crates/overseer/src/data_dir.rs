use std::path::{Path, PathBuf};

use host::{Files, Host, Lock};

use crate::Failure;
use crate::config::Config;

/// Held by the process that uses the directory.
pub(crate) const LOCK: &str = "lock";

/// There while a restore is under way or was not finished.
const RESTORING: &str = "restoring";

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
        let data_dir = DataDir::hold(host, path)?;
        if host.files.exists(&path.join(RESTORING)) {
            return Err(Failure::failed(format!(
                "{}: a restore to this directory was not finished; run overseer restore again, or delete the directory",
                path.display()
            )));
        }
        Ok(data_dir)
    }

    fn hold(host: &Host, path: &Path) -> Result<Self, Failure> {
        create(&*host.files, path)
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
        // the one who said so held the lock
        let _ = host.files.remove(&path.join(RUNNING));
        Ok(DataDir {
            path: path.to_path_buf(),
            _lock: lock,
        })
    }

    /// Takes hold of an unused directory and marks it, so that no server starts on half of a restore.
    pub(crate) fn begin_restore(host: &Host, path: &Path) -> Result<Self, Failure> {
        let data_dir = DataDir::hold(host, path)?;
        let failed = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
        let mark = path.join(RESTORING);
        host.files.write_atomic(&mark, b"").map_err(|e| failed(&mark, e))?;
        for begun in [path.join("series"), path.join("log")] {
            if host.files.exists(&begun) {
                store::remove_tree(&*host.files, &begun).map_err(|e| failed(&begun, e))?;
            }
        }
        Ok(data_dir)
    }

    /// Everything restored is durable: a server may start.
    pub(crate) fn end_restore(&self, host: &Host) -> Result<(), Failure> {
        let mark = self.path.join(RESTORING);
        let failed = |e: std::io::Error| Failure::failed(format!("{}: {e}", mark.display()));
        host.files.remove(&mark).map_err(failed)?;
        host.files.sync_dir(&self.path).map_err(failed)
    }

    /// Writes down where this server is reached and by what it is recognised; that is also given back. A command that
    /// names the directory finds the server by it.
    pub(crate) fn announce(&self, host: &Host, address: &str) -> String {
        let mut bytes = [0; INSTANCE_BYTES];
        host.random.fill(&mut bytes);
        let running = Running {
            version: RUNNING_VERSION,
            address: address.to_owned(),
            instance: bytes.iter().map(|b| format!("{b:02x}")).collect(),
        };
        let path = self.path.join(RUNNING);
        let written = serde_json::to_vec(&running)
            .map_err(std::io::Error::other)
            .and_then(|text| host.files.write_atomic(&path, &text));
        if let Err(e) = written {
            tracing::warn!(file = %path.display(), error = %e, "commands will not find this server by its directory");
        }
        running.instance
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

/// Creates a directory and those above it. Where something is in the way it says what: the system's own words, such as "File
/// exists", do not.
pub(crate) fn create(files: &dyn Files, path: &Path) -> Result<(), String> {
    use std::io::ErrorKind::{AlreadyExists, NotADirectory, NotFound};
    files.create_dir_all(path).map_err(|e| {
        if !matches!(e.kind(), AlreadyExists | NotADirectory) {
            return e.to_string();
        }
        let mut parts: Vec<&Path> = path.ancestors().filter(|p| !p.as_os_str().is_empty()).collect();
        parts.reverse();
        for part in parts {
            match files.list(part).map_err(|e| e.kind()) {
                // what is not there at all would have been created
                Err(NotFound) => return format!("{} is a symbolic link to what does not exist", part.display()),
                Err(NotADirectory) => return format!("{} is a file, not a directory", part.display()),
                _ => {}
            }
        }
        e.to_string()
    })
}

/// Whether nothing is in the directory but what a restore leaves that was stopped.
pub(crate) fn is_unused(host: &Host, path: &Path) -> std::io::Result<bool> {
    let entries = host.files.list(path)?;
    let begun = |e: &host::Entry| e.name == LOCK || e.name == RESTORING || e.name == format!(".{RESTORING}.tmp");
    let restoring = entries.iter().any(|e| e.name == RESTORING);
    let restored = |e: &host::Entry| restoring && e.is_dir && (e.name == "series" || e.name == "log");
    Ok(entries.iter().all(|e| begun(e) || restored(e)))
}

/// Beside the lock: the server that holds it.
const RUNNING: &str = "running";
const RUNNING_VERSION: u32 = 1;
/// Chance that tells one run of a server from every other.
const INSTANCE_BYTES: usize = 16;

/// What a server says of itself to whoever may read its directory. `docs/format/running.md` has the bytes.
#[derive(Clone, Debug, serde::Deserialize, serde::Serialize, PartialEq)]
pub(crate) struct Running {
    version: u32,
    /// `host:port` as this machine reaches it.
    pub(crate) address: String,
    pub(crate) instance: String,
}

impl Running {
    /// What the server of a directory wrote, or one that is gone since.
    pub(crate) fn of(host: &Host, path: &Path) -> Option<Running> {
        let path = path.join(RUNNING);
        if !host.files.exists(&path) {
            return None;
        }
        let running: Running = serde_json::from_slice(&host.files.read(&path).ok()?).ok()?;
        let hex = !running.instance.is_empty() && running.instance.bytes().all(|b| b.is_ascii_hexdigit());
        (running.version == RUNNING_VERSION && hex && input::is_host_and_port(&running.address)).then_some(running)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_the_way_of_a_directory_is_named() {
        let dir = std::env::temp_dir().join(format!("overseer-in-the-way-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let (link, file) = (dir.join("link"), dir.join("file"));
        std::os::unix::fs::symlink(dir.join("absent"), &link).unwrap();
        Host::real().files.write_atomic(&file, b"").unwrap();
        let files = Host::real().files;
        for (path, why) in [
            (
                link.clone(),
                format!("{} is a symbolic link to what does not exist", link.display()),
            ),
            (
                link.join("x/y"),
                format!("{} is a symbolic link to what does not exist", link.display()),
            ),
            (file.clone(), format!("{} is a file, not a directory", file.display())),
            (file.join("x"), format!("{} is a file, not a directory", file.display())),
        ] {
            assert_eq!(create(&*files, &path), Err(why));
        }
        std::fs::create_dir(dir.join("absent")).unwrap();
        assert_eq!(create(&*files, &link.join("x/y")), Ok(()));
        std::fs::remove_dir_all(&dir).unwrap();
    }

    #[test]
    fn what_a_server_wrote_is_read_as_documented() {
        let dir = std::env::temp_dir().join(format!("overseer-running-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        let host = Host::real();
        let read = |text: &str| {
            host.files.write_atomic(&dir.join(RUNNING), text.as_bytes()).unwrap();
            Running::of(&host, &dir)
        };
        // the example of docs/format/running.md
        let example = r#"{"version":1,"address":"127.0.0.1:7070","instance":"0123456789abcdef0123456789abcdef"}"#;
        let running = read(example).unwrap();
        assert_eq!(
            (running.address.as_str(), running.instance.len()),
            ("127.0.0.1:7070", 32)
        );
        assert_eq!(serde_json::to_string(&running).unwrap(), example);
        for bad in [
            "",
            "{}",
            &example.replace(":1,", ":2,"),
            &example.replace("7070", "x"),
            &example.replace("0123456789abcdef0123456789abcdef", "a b"),
        ] {
            assert_eq!(read(bad), None, "{bad}");
        }
        std::fs::remove_dir_all(&dir).unwrap();
        assert_eq!(Running::of(&host, &dir), None);
    }
}
