use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use crate::sim::{Dice, Failure, Faults, Operation};

pub(crate) const PAGE: usize = 4096;
const SECTOR: usize = 512;
const ENOSPC: i32 = 28;
const EIO: i32 = 5;
const EMFILE: i32 = 24;

pub(crate) type Page = [u8; PAGE];

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Node {
    Dir,
    File(u64),
}

/// A change of directory entries that no `sync_dir` has covered yet.
#[derive(Clone)]
enum Change {
    Link(PathBuf, u64),
    Unlink(PathBuf),
    Rename(PathBuf, PathBuf, u64),
}

#[derive(Default)]
pub(crate) struct Inode {
    pub(crate) len: u64,
    content: BTreeMap<u64, Arc<Page>>,
    /// Differ from `durable`, and a sync would write them.
    dirty: BTreeSet<u64>,
    durable: BTreeMap<u64, Arc<Page>>,
    durable_len: u64,
    /// Shortest length since the last sync, when it was cut.
    cut: Option<u64>,
    /// Pages that have space: written or reserved.
    allocated: BTreeSet<u64>,
    links: u32,
    pub(crate) handles: u32,
    /// Bytes that cannot be read.
    pub(crate) bad: Vec<Range<u64>>,
}

pub(crate) struct Disk {
    pub(crate) dice: Dice,
    pub(crate) inodes: HashMap<u64, Inode>,
    next_inode: u64,
    pub(crate) tree: BTreeMap<PathBuf, Node>,
    durable_tree: BTreeMap<PathBuf, Node>,
    pending: Vec<Change>,
    pub(crate) locks: HashSet<PathBuf>,
    /// Handles of an earlier one are of a dead process.
    pub(crate) epoch: u64,
    pub(crate) capacity: Option<u64>,
    /// Files that are open, and that may be.
    pub(crate) handles: usize,
    pub(crate) handles_max: Option<usize>,
    /// Files that cannot be opened: error, and how many times more.
    pub(crate) refused: HashMap<PathBuf, (i32, u64)>,
    faults: Faults,
    counts: HashMap<&'static str, u64>,
    pub(crate) stopped: bool,
}

pub(crate) enum Verdict {
    Go,
    /// A write takes effect up to some byte, then fails.
    Halfway(io::Error),
}

pub(crate) fn eio() -> io::Error {
    io::Error::from_raw_os_error(EIO)
}

pub(crate) fn enospc() -> io::Error {
    io::Error::from_raw_os_error(ENOSPC)
}

fn kind_name(operation: Operation) -> &'static str {
    match operation {
        Operation::Change => "change",
        Operation::Write => "write",
        Operation::Sync => "sync",
        Operation::SyncDir => "sync_dir",
        Operation::Entry => "entry",
        Operation::Resize => "resize",
        Operation::Read => "read",
        Operation::Open => "open",
    }
}

impl Disk {
    pub(crate) fn new(seed: u64) -> Disk {
        let root = BTreeMap::from([(PathBuf::from("/"), Node::Dir)]);
        Disk {
            dice: Dice(seed),
            inodes: HashMap::new(),
            next_inode: 1,
            tree: root.clone(),
            durable_tree: root,
            pending: Vec::new(),
            locks: HashSet::new(),
            epoch: 0,
            capacity: None,
            handles: 0,
            handles_max: None,
            refused: HashMap::new(),
            faults: Faults::none(),
            counts: HashMap::new(),
            stopped: false,
        }
    }

    pub(crate) fn plan(&mut self, faults: Faults) {
        self.faults = faults;
        self.counts.clear();
    }

    pub(crate) fn count(&self, operation: Operation) -> u64 {
        self.counts.get(kind_name(operation)).copied().unwrap_or(0)
    }

    /// Counts the call and says what becomes of it.
    pub(crate) fn admit(&mut self, operation: Operation) -> io::Result<Verdict> {
        if self.stopped {
            return Err(io::Error::other("the simulated process is stopped"));
        }
        let mut kinds = vec![operation];
        if !matches!(operation, Operation::Read | Operation::Open) {
            kinds.push(Operation::Change);
        }
        let mut failure = None;
        for kind in kinds {
            let count = self.counts.entry(kind_name(kind)).or_insert(0);
            *count += 1;
            let count = *count;
            failure = failure.or(self
                .faults
                .planned
                .iter()
                .find(|f| f.on == kind && f.nth == count)
                .map(|f| f.failure));
        }
        match failure {
            None => Ok(Verdict::Go),
            Some(Failure::NoSpace) => Err(enospc()),
            Some(Failure::TooManyOpen) => Err(io::Error::from_raw_os_error(EMFILE)),
            Some(Failure::Stop) => {
                self.stopped = true;
                Ok(Verdict::Halfway(io::Error::other("the simulated process is stopped")))
            }
            Some(Failure::Short) => Ok(Verdict::Halfway(eio())),
            Some(Failure::Io) if operation == Operation::Sync => Ok(Verdict::Halfway(eio())),
            Some(Failure::Io) => Err(eio()),
        }
    }

    pub(crate) fn used(&self) -> u64 {
        let live = self.inodes.values().filter(|i| i.links > 0 || i.handles > 0);
        live.map(|i| (i.allocated.len() * PAGE) as u64).sum()
    }

    /// Whether one more file may be opened.
    pub(crate) fn descriptor(&self) -> io::Result<()> {
        match self.handles_max {
            Some(max) if self.handles >= max => Err(io::Error::from_raw_os_error(EMFILE)),
            _ => Ok(()),
        }
    }

    pub(crate) fn free(&self) -> u64 {
        self.capacity
            .map_or(1 << 50, |capacity| capacity.saturating_sub(self.used()))
    }

    pub(crate) fn create(&mut self, path: &Path) -> u64 {
        let number = self.next_inode;
        self.next_inode += 1;
        self.inodes.insert(
            number,
            Inode {
                links: 1,
                ..Inode::default()
            },
        );
        self.tree.insert(path.to_owned(), Node::File(number));
        self.pending.push(Change::Link(path.to_owned(), number));
        number
    }

    pub(crate) fn make_dir(&mut self, path: &Path) {
        self.tree.insert(path.to_owned(), Node::Dir);
        self.durable_tree.insert(path.to_owned(), Node::Dir);
    }

    pub(crate) fn link(&mut self, path: &Path, number: u64) {
        self.tree.insert(path.to_owned(), Node::File(number));
        self.inode(number).links += 1;
        self.pending.push(Change::Link(path.to_owned(), number));
    }

    pub(crate) fn unlink(&mut self, path: &Path) {
        match self.tree.remove(path) {
            Some(Node::File(number)) => {
                self.inode(number).links -= 1;
                self.pending.push(Change::Unlink(path.to_owned()));
            }
            Some(Node::Dir) => drop(self.durable_tree.remove(path)),
            None => {}
        }
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, number: u64) {
        if let Some(Node::File(replaced)) = self.tree.get(to).copied() {
            if replaced == number {
                return;
            }
            self.inode(replaced).links -= 1;
        }
        self.tree.remove(from);
        self.tree.insert(to.to_owned(), Node::File(number));
        self.pending
            .push(Change::Rename(from.to_owned(), to.to_owned(), number));
    }

    /// The inode of an entry or a handle; both keep it.
    pub(crate) fn inode(&mut self, number: u64) -> &mut Inode {
        self.inodes
            .get_mut(&number)
            .expect("entries and handles name inodes that exist")
    }

    pub(crate) fn sync_dir(&mut self, dir: &Path) {
        let (now, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.pending).into_iter().partition(|c| match c {
            Change::Link(p, _) | Change::Unlink(p) => p.parent() == Some(dir),
            Change::Rename(from, to, _) => from.parent() == Some(dir) || to.parent() == Some(dir),
        });
        self.pending = later;
        for change in now {
            self.make_durable(change);
        }
    }

    fn make_durable(&mut self, change: Change) {
        match change {
            Change::Link(path, number) => drop(self.durable_tree.insert(path, Node::File(number))),
            Change::Unlink(path) => drop(self.durable_tree.remove(&path)),
            Change::Rename(from, to, number) => {
                if self.durable_tree.get(&from) == Some(&Node::File(number)) {
                    self.durable_tree.remove(&from);
                }
                self.durable_tree.insert(to, Node::File(number));
            }
        }
    }

    /// Space for pages `first..=last` of the file; how many pages of the range, from the first, may be used.
    fn reserve(&mut self, number: u64, first: u64, last: u64, all_or_nothing: bool) -> u64 {
        let inode = self.inode(number);
        let missing = (first..=last).filter(|p| !inode.allocated.contains(p)).count() as u64;
        let room = self.free() / PAGE as u64;
        if missing > room && all_or_nothing {
            return 0;
        }
        let inode = self.inode(number);
        let mut left = room;
        for page in first..=last {
            if inode.allocated.contains(&page) {
                continue;
            }
            if left == 0 {
                return page - first;
            }
            left -= 1;
            inode.allocated.insert(page);
        }
        last - first + 1
    }

    pub(crate) fn write(&mut self, number: u64, bytes: &[u8], offset: u64) -> io::Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let (bytes, error) = match self.admit(Operation::Write)? {
            Verdict::Go => (bytes, None),
            Verdict::Halfway(error) => {
                let n = self.dice.below(bytes.len() as u64 + 1) as usize;
                (&bytes[..n], Some(error))
            }
        };
        let page = PAGE as u64;
        if !bytes.is_empty() {
            let end = offset + bytes.len() as u64;
            let usable = self.reserve(number, offset / page, (end - 1) / page, false);
            let fits = ((offset / page + usable) * page)
                .saturating_sub(offset)
                .min(bytes.len() as u64) as usize;
            self.inode(number).put(&bytes[..fits], offset);
            if fits < bytes.len() {
                return Err(error.unwrap_or_else(enospc));
            }
        }
        error.map_or(Ok(()), Err)
    }

    pub(crate) fn allocate(&mut self, number: u64, offset: u64, len: u64) -> io::Result<()> {
        if let Verdict::Halfway(error) = self.admit(Operation::Resize)? {
            return Err(error);
        }
        if len == 0 {
            return Ok(());
        }
        let page = PAGE as u64;
        let (first, last) = (offset / page, (offset + len - 1) / page);
        if self.reserve(number, first, last, true) <= last - first {
            return Err(enospc());
        }
        let inode = self.inode(number);
        inode.len = inode.len.max(offset + len);
        Ok(())
    }

    pub(crate) fn set_len(&mut self, number: u64, len: u64) -> io::Result<()> {
        match self.admit(Operation::Resize)? {
            Verdict::Go => {
                self.inode(number).cut_or_grow(len);
                Ok(())
            }
            Verdict::Halfway(error) => Err(error),
        }
    }

    pub(crate) fn sync(&mut self, number: u64) -> io::Result<()> {
        match self.admit(Operation::Sync)? {
            Verdict::Go => {
                self.inode(number).sync();
                Ok(())
            }
            Verdict::Halfway(error) => {
                let mut dice = self.dice.clone();
                self.inode(number).fail_sync(&mut dice);
                self.dice = dice;
                Err(error)
            }
        }
    }

    /// The process ends; what it wrote stays in the cache.
    pub(crate) fn kill(&mut self) {
        self.epoch += 1;
        self.stopped = false;
        self.locks.clear();
        self.handles = 0;
        self.plan(Faults::none());
        for inode in self.inodes.values_mut() {
            inode.handles = 0;
        }
        let pending = &self.pending;
        let durable: HashSet<u64> = self.durable_tree.values().filter_map(Node::file).collect();
        self.inodes.retain(|number, inode| {
            inode.links > 0
                || durable.contains(number)
                || pending
                    .iter()
                    .any(|c| matches!(c, Change::Link(_, n) | Change::Rename(_, _, n) if n == number))
        });
    }

    /// The power fails: what was synced is there, of the rest each page, each length and each entry is there or not.
    pub(crate) fn crash(&mut self) {
        self.kill();
        let mut dice = self.dice.clone();
        // a journal keeps the order; a file system without one does not
        let ordered = dice.one_in(2);
        let keep = dice.below(self.pending.len() as u64 + 1) as usize;
        for (i, change) in std::mem::take(&mut self.pending).into_iter().enumerate() {
            if if ordered { i < keep } else { dice.one_in(2) } {
                self.make_durable(change);
            }
        }
        self.tree = self.durable_tree.clone();
        let mut links: HashMap<u64, u32> = HashMap::new();
        for number in self.tree.values().filter_map(Node::file) {
            *links.entry(number).or_default() += 1;
        }
        self.inodes.retain(|number, _| links.contains_key(number));
        let mut numbers: Vec<u64> = self.inodes.keys().copied().collect();
        numbers.sort_unstable();
        for number in numbers {
            let inode = self.inode(number);
            inode.links = links[&number];
            inode.crash(&mut dice);
        }
        self.dice = dice;
    }
}

impl Node {
    fn file(&self) -> Option<u64> {
        match self {
            Node::File(number) => Some(*number),
            Node::Dir => None,
        }
    }
}

impl Inode {
    /// As the kernel does it: up to the first bad byte, or an error when that is the first one wanted.
    pub(crate) fn try_read(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        let end = offset + buf.len() as u64;
        let first = self
            .bad
            .iter()
            .filter(|b| b.start < end && offset < b.end.min(self.len));
        match first.map(|b| b.start).min() {
            Some(start) if start <= offset => Err(eio()),
            Some(start) => Ok(self.read(&mut buf[..(start - offset) as usize], offset)),
            None => Ok(self.read(buf, offset)),
        }
    }

    pub(crate) fn read(&self, buf: &mut [u8], offset: u64) -> usize {
        let n = (self.len.saturating_sub(offset)).min(buf.len() as u64) as usize;
        let mut at = 0;
        while at < n {
            let (page, within) = split(offset + at as u64);
            let step = (PAGE - within).min(n - at);
            match self.content.get(&page) {
                Some(bytes) => buf[at..at + step].copy_from_slice(&bytes[within..within + step]),
                None => buf[at..at + step].fill(0),
            }
            at += step;
        }
        n
    }

    fn put(&mut self, bytes: &[u8], offset: u64) {
        let mut at = 0;
        while at < bytes.len() {
            let (page, within) = split(offset + at as u64);
            let step = (PAGE - within).min(bytes.len() - at);
            let target = Arc::make_mut(self.content.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
            target[within..within + step].copy_from_slice(&bytes[at..at + step]);
            self.dirty.insert(page);
            at += step;
        }
        if !bytes.is_empty() {
            self.len = self.len.max(offset + bytes.len() as u64);
        }
    }

    fn cut_or_grow(&mut self, len: u64) {
        if len < self.len {
            self.cut = Some(self.cut.map_or(len, |c| c.min(len)));
            cut_pages(&mut self.content, len);
            let (page, within) = split(len);
            if within > 0 && self.content.contains_key(&page) {
                self.dirty.insert(page);
            }
            let first_gone = len.div_ceil(PAGE as u64);
            self.dirty.split_off(&first_gone);
            self.allocated.split_off(&first_gone);
        }
        self.len = len;
    }

    pub(crate) fn sync(&mut self) {
        if let Some(cut) = self.cut.take() {
            cut_pages(&mut self.durable, cut);
        }
        for page in std::mem::take(&mut self.dirty) {
            if let Some(bytes) = self.content.get(&page) {
                self.durable.insert(page, Arc::clone(bytes));
            }
        }
        self.durable_len = self.len;
    }

    /// The kernel marks the pages clean whether they were written or not.
    fn fail_sync(&mut self, dice: &mut Dice) {
        for page in std::mem::take(&mut self.dirty) {
            let Some(bytes) = self.content.get(&page).map(Arc::clone) else {
                continue;
            };
            match dice.below(3) {
                0 => drop(self.durable.insert(page, bytes)),
                1 => {
                    // dropped from the cache as well
                    match self.durable.get(&page) {
                        Some(old) => drop(self.content.insert(page, Arc::clone(old))),
                        None => drop(self.content.remove(&page)),
                    }
                }
                _ => {}
            }
        }
    }

    fn crash(&mut self, dice: &mut Dice) {
        let mut len = self.durable_len;
        if let Some(cut) = self.cut.take()
            && dice.one_in(2)
        {
            cut_pages(&mut self.durable, cut);
            len = len.min(cut);
        }
        if self.len > len {
            len = match dice.below(3) {
                0 => len,
                1 => self.len,
                _ => len + dice.below(self.len - len + 1),
            };
        }
        for page in std::mem::take(&mut self.dirty) {
            let Some(new) = self.content.get(&page) else { continue };
            match dice.below(3) {
                0 => {}
                1 => drop(self.durable.insert(page, Arc::clone(new))),
                _ => {
                    let old = Arc::make_mut(self.durable.entry(page).or_insert_with(|| Arc::new([0; PAGE])));
                    for sector in 0..PAGE / SECTOR {
                        if dice.one_in(2) {
                            let range = sector * SECTOR..(sector + 1) * SECTOR;
                            old[range.clone()].copy_from_slice(&new[range]);
                        }
                    }
                }
            }
        }
        cut_pages(&mut self.durable, len);
        self.allocated.split_off(&len.div_ceil(PAGE as u64));
        self.allocated.extend(self.durable.keys());
        self.content = self.durable.clone();
        self.len = len;
        self.durable_len = len;
    }

    /// An outside hand puts other bytes in place.
    pub(crate) fn replace(&mut self, bytes: &[u8]) {
        self.cut_or_grow(0);
        self.put(bytes, 0);
        self.allocated.extend(self.content.keys());
        self.sync();
    }
}

fn split(offset: u64) -> (u64, usize) {
    (offset / PAGE as u64, (offset % PAGE as u64) as usize)
}

/// Drops what lies behind `len`.
fn cut_pages(pages: &mut BTreeMap<u64, Arc<Page>>, len: u64) {
    let (page, within) = split(len);
    pages.split_off(&len.div_ceil(PAGE as u64));
    if within > 0
        && let Some(bytes) = pages.get_mut(&page)
    {
        Arc::make_mut(bytes)[within..].fill(0);
    }
}
