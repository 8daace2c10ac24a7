//! A machine that does not keep what it promises, to see the simulation find it.

use std::io;
use std::path::Path;
use std::sync::Arc;

use host::{Entry, File, Files, Host, Lock, OpenMode};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lie {
    /// A sync of a file does nothing and says yes.
    Sync,
    /// A sync of a directory does nothing and says yes.
    SyncDir,
    /// Expiry goes by the clock alone. (Likewise.)
    Clock,
}

impl Lie {
    pub(crate) fn told_by(self, host: Host) -> Host {
        Host {
            files: Arc::new(Liar {
                files: host.files,
                lie: self,
            }),
            ..host
        }
    }
}

struct Liar {
    files: Arc<dyn Files>,
    lie: Lie,
}

struct LiarFile {
    file: Arc<dyn File>,
    lie: Lie,
}

impl Files for Liar {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let file = self.files.open(path, mode)?;
        Ok(Arc::new(LiarFile { file, lie: self.lie }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.files.create_dir_all(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.files.list(dir)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.files.remove(path)
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.files.hard_link(from, to)
    }

    fn exists(&self, path: &Path) -> bool {
        self.files.exists(path)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        match self.lie {
            Lie::SyncDir => Ok(()),
            Lie::Sync | Lie::Clock => self.files.sync_dir(dir),
        }
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.files.lock(path)
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.files.free_bytes(path)
    }
}

impl LiarFile {
    fn sync(&self, really: impl Fn() -> io::Result<()>) -> io::Result<()> {
        match self.lie {
            Lie::Sync => Ok(()),
            Lie::SyncDir | Lie::Clock => really(),
        }
    }
}

impl File for LiarFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_data())
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(|| self.file.sync_all())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }
}
