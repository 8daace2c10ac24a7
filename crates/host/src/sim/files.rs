use std::{
    io,
    ops::Range,
    path::{Component, Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::{
    Entry, File, Files, Lock, OpenMode,
    sim::{
        Faults, Operation,
        disk::{Disk, Node, Verdict},
    },
};

/// A disk in memory. Clones are the same disk. Directories are durable once made, as [`Files::create_dir_all`] promises;
/// entries in them are so after `sync_dir`, content and length after a sync of the file. Renames files, not directories.
#[derive(Clone)]
pub struct SimFiles(Arc<Mutex<Disk>>);

struct SimFile {
    disk: Arc<Mutex<Disk>>,
    inode: u64,
    epoch: u64,
    writable: bool,
}

struct SimLock {
    disk: Arc<Mutex<Disk>>,
    path: PathBuf,
    epoch: u64,
}

impl Lock for SimLock {}

impl SimFiles {
    pub fn new(seed: u64) -> SimFiles {
        SimFiles(Arc::new(Mutex::new(Disk::new(seed))))
    }

    /// Replaces the plan and counts calls from here on.
    pub fn plan(&self, faults: Faults) {
        self.disk().plan(faults);
    }

    /// Calls of this kind since the last plan.
    pub fn count(&self, operation: Operation) -> u64 {
        self.disk().count(operation)
    }

    /// Bytes of content and reservations the disk holds; `None` is no limit.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.disk().capacity = bytes;
    }

    /// Whether a planned stop was reached: the process is dead and has not noticed.
    pub fn stopped(&self) -> bool {
        self.disk().stopped
    }

    pub fn capacity(&self) -> Option<u64> {
        self.disk().capacity
    }

    pub fn used_bytes(&self) -> u64 {
        self.disk().used()
    }

    /// kill -9: handles and locks are dead, the cache stays; the plan is dropped.
    pub fn kill(&self) {
        self.disk().kill();
    }

    /// Power loss: handles and locks are dead, what was not synced is there, torn or lost; the plan is dropped.
    pub fn crash(&self) {
        self.disk().crash();
    }

    /// An outside hand changes a file, durably.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) -> io::Result<()> {
        let mut disk = self.disk();
        let number = file_at(&disk, &normal(path))?;
        let inode = disk.inode(number);
        let mut bytes = vec![0; inode.len as usize];
        inode.read(&mut bytes, 0);
        change(&mut bytes);
        inode.replace(&bytes);
        Ok(())
    }

    /// The device does not give these bytes of a file any more (EIO), whatever happens to the process; an empty range
    /// heals the file.
    pub fn spoil(&self, path: &Path, bytes: Range<u64>) -> io::Result<()> {
        let mut disk = self.disk();
        let number = file_at(&disk, &normal(path))?;
        let bad = &mut disk.inode(number).bad;
        if bytes.is_empty() {
            bad.clear();
        } else {
            bad.push(bytes);
        }
        Ok(())
    }

    /// The next `times` tries to open this path fail with this error of the system (13 EACCES, 24 EMFILE).
    pub fn refuse(&self, path: &Path, error: i32, times: u64) {
        self.disk().refused.insert(normal(path), (error, times));
    }

    /// Files that the process may have open at once (EMFILE); listing and syncing a directory takes one for a moment. `None`
    /// is no limit.
    pub fn set_handles_max(&self, handles: Option<usize>) {
        self.disk().handles_max = handles;
    }

    /// Files that the process has open.
    pub fn handles(&self) -> usize {
        self.disk().handles
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn normal(path: &Path) -> PathBuf {
    let mut out = PathBuf::from("/");
    for part in path.components() {
        match part {
            Component::Normal(name) => out.push(name),
            Component::ParentDir => drop(out.pop()),
            _ => {}
        }
    }
    out
}

fn not_found(path: &Path) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("{}: no such file", path.display()))
}

fn file_at(disk: &Disk, path: &Path) -> io::Result<u64> {
    match disk.tree.get(path) {
        Some(Node::File(number)) => Ok(*number),
        Some(Node::Dir) => Err(io::Error::new(
            io::ErrorKind::IsADirectory,
            format!("{}: a directory", path.display()),
        )),
        None => Err(not_found(path)),
    }
}

fn dir_at(disk: &Disk, path: &Path) -> io::Result<()> {
    match disk.tree.get(path) {
        Some(Node::Dir) => Ok(()),
        Some(Node::File(_)) => Err(io::Error::new(
            io::ErrorKind::NotADirectory,
            format!("{}: a file", path.display()),
        )),
        None => Err(not_found(path)),
    }
}

/// Changes of entries either happen or do not.
fn admit_entry(disk: &mut Disk, operation: Operation) -> io::Result<()> {
    match disk.admit(operation)? {
        Verdict::Go => Ok(()),
        Verdict::Halfway(error) => Err(error),
    }
}

impl Files for SimFiles {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        let path = normal(path);
        let mut disk = self.disk();
        if let Some((error, times)) = disk.refused.get_mut(&path).filter(|r| r.1 > 0) {
            *times -= 1;
            return Err(io::Error::from_raw_os_error(*error));
        }
        disk.descriptor()?;
        let found = file_at(&disk, &path);
        let inode = match (found, mode) {
            (Ok(_), OpenMode::CreateNew) => {
                return Err(io::Error::new(
                    io::ErrorKind::AlreadyExists,
                    format!("{}: exists", path.display()),
                ));
            }
            (Ok(number), _) => {
                admit_entry(&mut disk, Operation::Open)?;
                number
            }
            (Err(e), OpenMode::Create | OpenMode::CreateNew) if e.kind() == io::ErrorKind::NotFound => {
                dir_at(&disk, path.parent().unwrap_or(&path))?;
                admit_entry(&mut disk, Operation::Entry)?;
                disk.create(&path)
            }
            (Err(e), _) => return Err(e),
        };
        disk.inode(inode).handles += 1;
        disk.handles += 1;
        let epoch = disk.epoch;
        Ok(Arc::new(SimFile {
            disk: Arc::clone(&self.0),
            inode,
            epoch,
            writable: mode != OpenMode::Read,
        }))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut disk = self.disk();
        let mut missing: Vec<PathBuf> = Vec::new();
        for at in path.ancestors() {
            match dir_at(&disk, at) {
                Ok(()) => break,
                Err(e) if e.kind() == io::ErrorKind::NotFound => missing.push(at.to_owned()),
                Err(e) => return Err(e),
            }
        }
        for dir in missing.iter().rev() {
            admit_entry(&mut disk, Operation::Entry)?;
            disk.make_dir(dir);
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let dir = normal(dir);
        let mut disk = self.disk();
        dir_at(&disk, &dir)?;
        disk.descriptor()?;
        admit_entry(&mut disk, Operation::Read)?;
        let mut entries = Vec::new();
        for (path, node) in disk.tree.range(dir.clone()..).take_while(|(p, _)| p.starts_with(&dir)) {
            let Some(name) = path
                .file_name()
                .and_then(|n| n.to_str())
                .filter(|_| path.parent() == Some(&dir))
            else {
                continue;
            };
            let (len, is_dir) = match node {
                Node::Dir => (0, true),
                Node::File(number) => (disk.inodes.get(number).map_or(0, |i| i.len), false),
            };
            entries.push(Entry {
                name: name.to_owned(),
                len,
                is_dir,
            });
        }
        entries.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut disk = self.disk();
        let number = file_at(&disk, &from)?;
        dir_at(&disk, to.parent().unwrap_or(&to))?;
        if disk.tree.get(&to) == Some(&Node::Dir) {
            return Err(io::Error::new(
                io::ErrorKind::IsADirectory,
                format!("{}: a directory", to.display()),
            ));
        }
        admit_entry(&mut disk, Operation::Entry)?;
        disk.rename(&from, &to, number);
        Ok(())
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        let path = normal(path);
        let mut disk = self.disk();
        match disk.tree.get(&path) {
            None => return Err(not_found(&path)),
            Some(Node::Dir) if disk.tree.keys().any(|p| p.parent() == Some(&path)) => {
                return Err(io::Error::new(
                    io::ErrorKind::DirectoryNotEmpty,
                    format!("{}: not empty", path.display()),
                ));
            }
            Some(_) => {}
        }
        admit_entry(&mut disk, Operation::Entry)?;
        disk.unlink(&path);
        Ok(())
    }

    fn hard_link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let (from, to) = (normal(from), normal(to));
        let mut disk = self.disk();
        let number = file_at(&disk, &from)?;
        if disk.tree.contains_key(&to) {
            return Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                format!("{}: exists", to.display()),
            ));
        }
        dir_at(&disk, to.parent().unwrap_or(&to))?;
        admit_entry(&mut disk, Operation::Entry)?;
        disk.link(&to, number);
        Ok(())
    }

    fn exists(&self, path: &Path) -> bool {
        self.disk().tree.contains_key(&normal(path))
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let dir = normal(dir);
        let mut disk = self.disk();
        dir_at(&disk, &dir)?;
        disk.descriptor()?;
        admit_entry(&mut disk, Operation::SyncDir)?;
        disk.sync_dir(&dir);
        Ok(())
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        drop(self.open(path, OpenMode::Create)?);
        let path = normal(path);
        let mut disk = self.disk();
        if !disk.locks.insert(path.clone()) {
            return Err(io::Error::new(
                io::ErrorKind::WouldBlock,
                format!("{}: locked", path.display()),
            ));
        }
        let epoch = disk.epoch;
        Ok(Box::new(SimLock {
            disk: Arc::clone(&self.0),
            path,
            epoch,
        }))
    }

    fn free_bytes(&self, _path: &Path) -> io::Result<u64> {
        Ok(self.disk().free())
    }
}

impl SimFile {
    fn disk(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.epoch == self.epoch {
            Ok(disk)
        } else {
            Err(io::Error::other("a handle of a dead process"))
        }
    }

    fn disk_to_write(&self) -> io::Result<MutexGuard<'_, Disk>> {
        const EBADF: i32 = 9;
        if self.writable {
            self.disk()
        } else {
            Err(io::Error::from_raw_os_error(EBADF))
        }
    }
}

impl File for SimFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let mut disk = self.disk()?;
        admit_entry(&mut disk, Operation::Read)?;
        disk.inode(self.inode).try_read(buf, offset)
    }

    fn write_all_at(&self, buf: &[u8], offset: u64) -> io::Result<()> {
        self.disk_to_write()?.write(self.inode, buf, offset)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.disk()?.sync(self.inode)
    }

    fn sync_all(&self) -> io::Result<()> {
        self.disk()?.sync(self.inode)
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.disk_to_write()?.set_len(self.inode, len)
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.disk()?.inode(self.inode).len)
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.disk_to_write()?.allocate(self.inode, offset, len)
    }
}

impl Drop for SimFile {
    fn drop(&mut self) {
        if let Ok(mut disk) = self.disk() {
            disk.inode(self.inode).handles -= 1;
            disk.handles -= 1;
        }
    }
}

impl Drop for SimLock {
    fn drop(&mut self) {
        let mut disk = self.disk.lock().unwrap_or_else(PoisonError::into_inner);
        if disk.epoch == self.epoch {
            disk.locks.remove(&self.path);
        }
    }
}
