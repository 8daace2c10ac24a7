use std::{
    collections::{BTreeMap, VecDeque},
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use host::{Host, OpenMode};

use crate::{
    BusError, Position, Promise, Quarantined,
    local::{
        segment::{Segment, shown},
        settings::{LocalSettings, QUARANTINE_BYTES, QUARANTINE_ENTRIES},
    },
};

/// What publishers, consumers and the writer share. The hub is locked before the queue
/// where both are needed, every other lock alone.
pub(crate) struct Shared<T> {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) settings: LocalSettings,
    pub(crate) queue: Mutex<Queue<T>>,
    /// The queue has something for the writer.
    pub(crate) work: Condvar,
    pub(crate) hub: Mutex<Hub<T>>,
    /// More is durable, or the log closed.
    pub(crate) arrived: Condvar,
    /// A required consumer went on.
    pub(crate) passed: Condvar,
    /// Oldest first; all that readers may open.
    pub(crate) segments: Mutex<Vec<Arc<Segment>>>,
    pub(crate) health: Mutex<Health>,
    /// Bytes of spare files, and how many.
    pub(crate) spare_bytes: AtomicU64,
    pub(crate) spares: AtomicU64,
    copied_bytes: AtomicU64,
}

pub(crate) struct Pending<T> {
    pub(crate) item: Arc<T>,
    pub(crate) bytes: usize,
    pub(crate) promise: Promise,
}

pub(crate) struct Queue<T> {
    pub(crate) items: VecDeque<Pending<T>>,
    pub(crate) bytes: usize,
    /// A commit may have made a segment superfluous.
    pub(crate) committed: bool,
    /// Those who wait for the spares to be gone.
    pub(crate) without_spares: Vec<Promise>,
    pub(crate) stopping: bool,
    pub(crate) finished: bool,
}

/// The hand-over in memory, and who is where.
pub(crate) struct Hub<T> {
    pub(crate) durable: Position,
    /// Records just written; the last one is at `durable`.
    ring: VecDeque<(Arc<T>, usize)>,
    ring_bytes: usize,
    pub(crate) attached: BTreeMap<u64, Attached>,
    next_id: u64,
    pub(crate) committed: BTreeMap<String, Position>,
    pub(crate) left_behind: BTreeMap<String, u64>,
    /// Up to here records were dropped by retention.
    pub(crate) dropped: Position,
    pub(crate) closed: bool,
}

pub(crate) struct Attached {
    pub(crate) name: String,
    pub(crate) required: bool,
    pub(crate) delivered: Position,
    /// Takes from memory; the others read segments.
    pub(crate) live: bool,
}

#[derive(Default)]
pub(crate) struct Health {
    pub(crate) quarantined: VecDeque<Quarantined>,
    pub(crate) quarantined_total: u64,
    pub(crate) full: Option<String>,
    pub(crate) failed: Option<String>,
    pub(crate) failures: u64,
}

pub(crate) fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // every change under these locks is complete before anything can panic
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl<T> Shared<T> {
    pub(crate) fn new(host: Host, dir: &Path, settings: LocalSettings, durable: Position, dropped: Position) -> Self {
        let committed = settings.required.iter().map(|name| (name.clone(), 0)).collect();
        Shared {
            host,
            dir: dir.to_owned(),
            settings,
            queue: Mutex::new(Queue {
                items: VecDeque::new(),
                bytes: 0,
                committed: false,
                without_spares: Vec::new(),
                stopping: false,
                finished: false,
            }),
            work: Condvar::new(),
            hub: Mutex::new(Hub {
                durable,
                ring: VecDeque::new(),
                ring_bytes: 0,
                attached: BTreeMap::new(),
                next_id: 0,
                committed,
                left_behind: BTreeMap::new(),
                dropped,
                closed: false,
            }),
            arrived: Condvar::new(),
            passed: Condvar::new(),
            segments: Mutex::new(Vec::new()),
            health: Mutex::new(Health::default()),
            spare_bytes: AtomicU64::new(0),
            spares: AtomicU64::new(0),
            copied_bytes: AtomicU64::new(0),
        }
    }

    pub(crate) fn queue(&self) -> MutexGuard<'_, Queue<T>> {
        locked(&self.queue)
    }

    pub(crate) fn hub(&self) -> MutexGuard<'_, Hub<T>> {
        locked(&self.hub)
    }

    pub(crate) fn segments(&self) -> MutexGuard<'_, Vec<Arc<Segment>>> {
        locked(&self.segments)
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        locked(&self.health)
    }

    /// All files of the log, the small ones left out.
    pub(crate) fn bytes(&self) -> u64 {
        self.segments().iter().map(|s| s.len()).sum::<u64>() + self.spare_bytes.load(Ordering::Relaxed)
    }

    /// Counts, remembers and logs a stretch that was passed over; once each.
    pub(crate) fn report(&self, found: Quarantined) {
        let mut health = self.health();
        if health
            .quarantined
            .iter()
            .any(|q| q.file == found.file && q.offset == found.offset)
        {
            return;
        }
        health.quarantined_total += 1;
        if health.quarantined.len() == QUARANTINE_ENTRIES {
            health.quarantined.pop_front();
        }
        health.quarantined.push_back(found.clone());
        drop(health);
        let (first, last) = found.positions.unwrap_or((0, 0));
        tracing::warn!(
            topic = %self.settings.topic,
            file = %found.file,
            offset = found.offset,
            length = found.length,
            records = found.positions.map_or(0, |(first, last)| last - first + 1),
            first,
            last,
            "damaged log: {} ({})",
            found.reason,
            found.file,
        );
    }

    /// Keeps a copy of a record that cannot be decoded, for those who want to know why.
    pub(crate) fn keep_copy(&self, segment: &Segment, position: Position, payload: &[u8]) {
        let size = payload.len() as u64;
        if self.copied_bytes.fetch_add(size, Ordering::Relaxed) + size > QUARANTINE_BYTES {
            return;
        }
        let dir = self.dir.join("quarantine");
        let path = dir.join(format!("{:020}-{position:020}.record", segment.first()));
        let files = &self.host.files;
        let kept = files
            .create_dir_all(&dir)
            .and_then(|()| match files.open(&path, OpenMode::CreateNew) {
                Ok(file) => file.write_all_at(payload, 0),
                // copied by another reader, or before a restart
                Err(e) if e.kind() == std::io::ErrorKind::AlreadyExists => Ok(()),
                Err(e) => Err(e),
            });
        if let Err(error) = kept {
            tracing::warn!(file = %shown(&path), %error, "a record in quarantine could not be copied");
        }
    }

    /// The segment that holds `position`, or the first one behind it.
    pub(crate) fn segment_for(&self, position: Position) -> Option<Arc<Segment>> {
        let segments = self.segments();
        let behind = segments.partition_point(|s| s.first() <= position);
        match behind.checked_sub(1).map(|i| &segments[i]) {
            Some(segment) if segment.last() >= position => Some(Arc::clone(segment)),
            _ => segments[behind..]
                .iter()
                .find(|s| s.last() >= s.first())
                .map(Arc::clone),
        }
    }

    pub(crate) fn full(&self, reason: String) -> BusError {
        BusError::Full {
            topic: self.settings.topic.clone(),
            reason,
        }
    }
}

impl<T> Hub<T> {
    pub(crate) fn attach(&mut self, name: &str, required: bool, from: Position) -> u64 {
        let id = self.next_id;
        self.next_id += 1;
        let live = from >= self.durable;
        self.attached.insert(
            id,
            Attached {
                name: name.to_owned(),
                required,
                delivered: from,
                live,
            },
        );
        id
    }

    fn ring_first(&self) -> Position {
        self.durable + 1 - self.ring.len() as u64
    }

    /// Positions `durable + 1 ..` are durable now.
    pub(crate) fn push(&mut self, items: impl Iterator<Item = (Arc<T>, usize)>) {
        for (item, bytes) in items {
            self.durable += 1;
            if !self.attached.is_empty() {
                self.ring_bytes += bytes;
                self.ring.push_back((item, bytes));
            }
        }
        if self.attached.is_empty() {
            self.ring.clear();
            self.ring_bytes = 0;
        }
    }

    /// Forgets what every live consumer has had.
    fn trim(&mut self) {
        let needed = self
            .attached
            .values()
            .filter(|a| a.live)
            .map(|a| a.delivered)
            .min()
            .unwrap_or(self.durable);
        while self.ring_first() <= needed && self.forget_oldest() {}
    }

    fn forget_oldest(&mut self) -> bool {
        match self.ring.pop_front() {
            Some((_, bytes)) => {
                self.ring_bytes -= bytes;
                true
            }
            None => false,
        }
    }

    /// Makes the ring fit its bound: optional consumers lose their place in memory and read files instead. False while
    /// a required one keeps it from fitting.
    pub(crate) fn shrink(&mut self, bound: usize, whatever: bool) -> bool {
        self.trim();
        while self.ring_bytes > bound {
            let oldest = self.ring_first();
            if !whatever
                && self
                    .attached
                    .values()
                    .any(|a| a.live && a.required && a.delivered < oldest)
            {
                return false;
            }
            for consumer in self.attached.values_mut().filter(|a| a.delivered < oldest) {
                consumer.live = false;
            }
            self.forget_oldest();
        }
        true
    }

    /// The consumer's next record, when memory has it.
    pub(crate) fn take(&mut self, id: u64) -> Option<(Position, Arc<T>)> {
        let next = self.attached.get(&id)?.delivered + 1;
        let index = next.checked_sub(self.ring_first())?;
        let item = Arc::clone(&self.ring.get(usize::try_from(index).ok()?)?.0);
        let consumer = self.attached.get_mut(&id)?;
        consumer.delivered = next;
        consumer.live = true;
        if index == 0 {
            self.trim();
        }
        Some((next, item))
    }

    /// Nothing up to here is needed by those who are required; `Position::MAX` when nobody is.
    pub(crate) fn floor(&self, required: &[String]) -> Position {
        required
            .iter()
            .map(|name| self.committed.get(name).copied().unwrap_or(0))
            .min()
            .unwrap_or(Position::MAX)
    }
}
