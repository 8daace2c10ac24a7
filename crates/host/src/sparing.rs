//! Files that are read now and then, of which only so many are open at once. Whoever opens one for reading may keep it for as
//! long as it likes: while others are read it is closed, and opened again by its name when it is read again. Such a file
//! must not change, move or go while somebody keeps it.

use std::collections::VecDeque;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use crate::{Entry, File, Files, Lock, OpenMode};

const ENFILE: i32 = 23;
const EMFILE: i32 = 24;

/// Whether a call failed because the process, or the machine, has no descriptor left.
pub fn is_out_of_descriptors(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(EMFILE | ENFILE))
}

/// Files of which at most `open_max` that are opened for reading stay open; what is being read at the moment comes on top.
/// Where the process has no descriptors left, all that are idle are closed and the call is tried once more.
pub struct Sparing {
    files: Arc<dyn Files>,
    shared: Arc<Shared>,
}

struct Shared {
    open_max: usize,
    open: AtomicUsize,
    /// Those that were opened, the one that was looked at longest ago first. Some are closed or gone by now.
    queue: Mutex<VecDeque<Weak<Slot>>>,
}

struct Slot {
    file: Mutex<Option<Arc<dyn File>>>,
    /// Read since it was looked at last.
    used: AtomicBool,
    shared: Arc<Shared>,
}

struct SparingFile {
    files: Arc<dyn Files>,
    path: PathBuf,
    slot: Arc<Slot>,
}

impl Sparing {
    pub fn new(files: Arc<dyn Files>, open_max: usize) -> Sparing {
        let shared = Shared {
            open_max: open_max.max(1),
            open: AtomicUsize::new(0),
            queue: Mutex::default(),
        };
        Sparing {
            files,
            shared: Arc::new(shared),
        }
    }

    /// Files that are open and wait to be read again.
    pub fn open_files(&self) -> usize {
        self.shared.open.load(Relaxed)
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, VecDeque<Weak<Slot>>> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Closes files until fewer than `keep` are open. One that was read since the last time stays if another can go.
    fn make_room(&self, keep: usize) {
        let mut queue = self.lock();
        // each is looked at twice at most: the first time it may have been read lately
        let mut looks = queue.len() * 2;
        while self.open.load(Relaxed) >= keep.max(1) && looks > 0 {
            looks -= 1;
            let Some(slot) = queue.pop_front() else { break };
            let Some(slot) = slot.upgrade() else { continue };
            if keep > 0 && slot.used.swap(false, Relaxed) {
                queue.push_back(Arc::downgrade(&slot));
            } else {
                slot.close();
            }
        }
    }

    /// Runs a call that takes a descriptor; when there is none, again once all idle files are closed.
    fn patiently<R>(&self, call: impl Fn() -> io::Result<R>) -> io::Result<R> {
        match call() {
            Err(e) if is_out_of_descriptors(&e) && self.open.load(Relaxed) > 0 => {
                self.make_room(0);
                call()
            }
            done => done,
        }
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, Option<Arc<dyn File>>> {
        self.file.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self) {
        if self.lock().take().is_some() {
            self.shared.open.fetch_sub(1, Relaxed);
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.close();
    }
}

impl SparingFile {
    fn get(&self) -> io::Result<Arc<dyn File>> {
        self.slot.used.store(true, Relaxed);
        if let Some(file) = &*self.slot.lock() {
            return Ok(Arc::clone(file));
        }
        let shared = &self.slot.shared;
        shared.make_room(shared.open_max);
        let file = shared.patiently(|| self.files.open(&self.path, OpenMode::Read))?;
        let mut slot = self.slot.lock();
        if let Some(other) = &*slot {
            return Ok(Arc::clone(other));
        }
        *slot = Some(Arc::clone(&file));
        shared.open.fetch_add(1, Relaxed);
        drop(slot);
        shared.lock().push_back(Arc::downgrade(&self.slot));
        Ok(file)
    }
}

fn read_only() -> io::Error {
    const EBADF: i32 = 9;
    io::Error::from_raw_os_error(EBADF)
}

impl File for SparingFile {
    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        self.get()?.read_at(buf, offset)
    }

    fn write_all_at(&self, _buf: &[u8], _offset: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn sync_data(&self) -> io::Result<()> {
        self.get()?.sync_data()
    }

    fn sync_all(&self) -> io::Result<()> {
        self.get()?.sync_all()
    }

    fn set_len(&self, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn len(&self) -> io::Result<u64> {
        self.get()?.len()
    }

    fn allocate(&self, _offset: u64, _len: u64) -> io::Result<()> {
        Err(read_only())
    }

    fn read_exact_at(&self, buf: &mut [u8], offset: u64) -> io::Result<()> {
        self.get()?.read_exact_at(buf, offset)
    }
}

impl Files for Sparing {
    fn open(&self, path: &Path, mode: OpenMode) -> io::Result<Arc<dyn File>> {
        if mode != OpenMode::Read {
            return self.shared.patiently(|| self.files.open(path, mode));
        }
        let file = SparingFile {
            files: Arc::clone(&self.files),
            path: path.to_owned(),
            slot: Arc::new(Slot {
                file: Mutex::default(),
                used: AtomicBool::new(false),
                shared: Arc::clone(&self.shared),
            }),
        };
        // what cannot be opened is told now
        file.get()?;
        Ok(Arc::new(file))
    }

    fn create_dir_all(&self, path: &Path) -> io::Result<()> {
        self.shared.patiently(|| self.files.create_dir_all(path))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.shared.patiently(|| self.files.list(dir))
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
        self.shared.patiently(|| self.files.sync_dir(dir))
    }

    fn lock(&self, path: &Path) -> io::Result<Box<dyn Lock>> {
        self.shared.patiently(|| self.files.lock(path))
    }

    fn free_bytes(&self, path: &Path) -> io::Result<u64> {
        self.files.free_bytes(path)
    }
}

#[cfg(test)]
mod tests;
