use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OpenMode {
    /// Existing, for reading.
    Read,
    /// Existing, for reading and writing.
    Write,
    /// For reading and writing; created empty when missing, kept as it is otherwise.
    Create,
    /// For reading and writing; `AlreadyExists` when it exists.
    CreateNew,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    pub name: String,
    /// Bytes; 0 for a directory.
    pub len: u64,
    pub is_dir: bool,
}

/// Held for as long as it lives.
pub trait Lock: Send + Sync {}

pub trait Files: Send + Sync {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>>;

    /// Creates the directory and its missing parents, and syncs the parents of what it created.
    fn create_dir_all(&self, path: &Path) -> io::Result<()>;

    /// The directory's entries by name; names that are not UTF-8 are left out.
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Replaces `to` when it exists. Durable after `sync_dir` of both parents.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file, or an empty directory. Durable after `sync_dir` of the parent.
    fn remove(&self, path: &Path) -> io::Result<()>;

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()>;

    fn exists(&self, path: &Path) -> bool;

    /// Makes the directory's entries durable.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;

    /// Exclusive lock on a file (created when missing), released on drop or when the process ends; `WouldBlock` when
    /// somebody holds it.
    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>>;

    /// Bytes an ordinary process may still allocate on the file system that holds `path`; `u64::MAX` where it does not
    /// count them.
    fn free_bytes(&self, path: &Path) -> io::Result<u64>;

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let file = self.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let mut at = 0;
        while at < bytes.len() {
            match file.read_at(&mut bytes[at..], at as u64)? {
                0 => break,
                n => at += n,
            }
        }
        bytes.truncate(at);
        Ok(bytes)
    }

    /// The file holds either its old content or all of `bytes`, whatever happens in between: temporary file beside it,
    /// fsync, rename, fsync of the directory.
    fn write_atomic(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let temporary = temporary_name(path)?;
        let file = self.open(&temporary, OpenMode::Create)?;
        let written = file
            .set_len(0)
            .and_then(|()| file.write_all_at(bytes, 0))
            .and_then(|()| file.sync_all())
            .and_then(|()| self.rename(&temporary, path));
        if let Err(error) = written {
            // the half-written copy would otherwise hold space on a full disk
            let _ = self.remove(&temporary);
            return Err(error);
        }
        self.sync_dir(parent(path))
    }
}

pub trait File: Send + Sync {
    /// Bytes read; 0 at the end.
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize>;

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()>;

    /// Content and length are durable afterwards (fdatasync). After an error nothing is known of what was written since
    /// the last success, and a second call proves nothing.
    fn sync_data(&self) -> io::Result<()>;

    fn sync_all(&self) -> io::Result<()>;

    fn set_len(&self, len: u64) -> io::Result<()>;

    fn len(&self) -> io::Result<u64>;

    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }

    /// Reserves space, so that writes into the range do not run out of it; the file grows to the range's end with zeros.
    fn allocate(&self, offset: u64, len: u64) -> io::Result<()>;

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        let mut at = 0;
        while at < buf.len() {
            match self.read_at(&mut buf[at..], offset + at as u64)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                n => at += n,
            }
        }
        Ok(())
    }
}

fn temporary_name(path: &Path) -> io::Result<PathBuf> {
    let mut name = OsString::from(".");
    name.push(
        path.file_name()
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "path without a file name"))?,
    );
    name.push(".tmp");
    Ok(path.with_file_name(name))
}

/// The directory an entry is in; `.` for a bare name.
pub(crate) fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(p) if !p.as_os_str().is_empty() => p,
        _ => Path::new("."),
    }
}
