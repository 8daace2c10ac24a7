use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use host::{Files, OpenMode};

use crate::CollectError;

/// Bytes of one kernel text that are read; what lies behind is left.
const TEXT_BYTES_MAX: usize = 4 << 20;

/// What `uname` says, and the units the kernel counts in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Machine {
    pub sysname: String,
    pub release: String,
    pub version: String,
    pub machine: String,
    pub nodename: String,
    pub domainname: String,
    pub page_bytes: u64,
    pub ticks_per_second: u64,
}

/// Where the kernel's texts are: `/` on a real host, a directory of fixtures in a test.
#[derive(Clone)]
pub struct ProcRoot {
    root: PathBuf,
    files: Arc<dyn Files>,
    pub machine: Machine,
}

impl ProcRoot {
    /// This computer.
    pub fn real(files: Arc<dyn Files>) -> Self {
        let name = rustix::system::uname();
        let text = |t: &std::ffi::CStr| t.to_string_lossy().into_owned();
        ProcRoot {
            root: PathBuf::from("/"),
            files,
            machine: Machine {
                sysname: text(name.sysname()),
                release: text(name.release()),
                version: text(name.version()),
                machine: text(name.machine()),
                nodename: text(name.nodename()),
                domainname: text(name.domainname()),
                page_bytes: rustix::param::page_size() as u64,
                ticks_per_second: rustix::param::clock_ticks_per_second().max(1),
            },
        }
    }

    /// A directory that holds `proc/` and `etc/`; mount points are looked up below it too.
    pub fn at(root: impl Into<PathBuf>, files: Arc<dyn Files>, machine: Machine) -> Self {
        ProcRoot {
            root: root.into(),
            files,
            machine,
        }
    }

    /// A text of the kernel, `path` without the leading slash. Bytes that are not UTF-8 are replaced.
    pub fn text(&self, path: &str) -> Result<String, CollectError> {
        let full = self.root.join(path);
        let failed = |error: io::Error| CollectError::Read {
            path: full.clone(),
            reason: error.to_string(),
        };
        let file = self.files.open(&full, OpenMode::Read).map_err(failed)?;
        // the kernel states no length for these files
        let mut bytes = vec![0; 4096];
        let mut len = 0;
        loop {
            match file.read_at(&mut bytes[len..], len as u64).map_err(failed)? {
                0 => break,
                n => len += n,
            }
            if len == bytes.len() {
                if len >= TEXT_BYTES_MAX {
                    break;
                }
                bytes.resize(len * 4, 0);
            }
        }
        bytes.truncate(len);
        Ok(match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(error) => String::from_utf8_lossy(error.as_bytes()).into_owned(),
        })
    }

    /// Names in a directory, sorted.
    pub fn names(&self, path: &str) -> Result<Vec<String>, CollectError> {
        let full = self.root.join(path);
        match self.files.list(&full) {
            Ok(entries) => Ok(entries.into_iter().map(|entry| entry.name).collect()),
            Err(error) => Err(CollectError::Read {
                path: full,
                reason: error.to_string(),
            }),
        }
    }

    /// Space and files of the file system mounted at an absolute path.
    pub(crate) fn statfs(&self, mount_point: &str) -> io::Result<rustix::fs::StatFs> {
        let below = self.root.join(Path::new(mount_point.trim_start_matches('/')));
        Ok(rustix::fs::statfs(&below)?)
    }
}
