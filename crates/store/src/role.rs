use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::{Codec, Consumer, Delivery, Log, Position};
use host::{Host, Worker};
use model::{Record, SampleSource};
use series::engine::{Engine, EngineStats};
use series::table::SeriesTable;
use tokio::sync::watch;

use crate::config::StoreConfig;
use crate::maintenance::{Command, Maintenance};
use crate::replay::{Replay, Replaying};
use crate::snapshot::Snapshot;
use crate::{CONSUMER, RecordCodec};

/// How long the apply thread waits for a record before it looks whether it should stop.
const WAIT: Duration = Duration::from_millis(200);
/// How often it is looked whether the heads have room again.
const PRESSURE_WAIT: Duration = Duration::from_millis(5);
/// Records that a replay decodes ahead.
const AHEAD: usize = 4;
/// How long a stop waits for the last seal.
const STOP_WITHIN: Duration = Duration::from_millis(2500);
/// How long a query waits for what was durable when it began.
const BARRIER: Duration = Duration::from_secs(5);

/// From so far behind the newest stored sample on the clock is known to be wrong.
const CLOCK_BEHIND_MS: i64 = 24 * 3600 * 1000;
/// The part of all files that the process may open which stored files take at most.
const FILES_SHARE: u64 = 4;
/// Stored files that stay open at least.
const OPEN_FILES_MIN: usize = 8;
/// How long a request waits until all is merged. Merging goes on behind it.
const MERGED_WITHIN: Duration = Duration::from_secs(5 * 60);

/// What the store is made of, opened in this order: table, engine, log.
pub struct StoreParts {
    pub host: Host,
    /// The engine's directory.
    pub dir: PathBuf,
    /// Where snapshots are made; on the file system of `dir`, so that they cost no space.
    pub snapshots: PathBuf,
    pub table: Arc<SeriesTable>,
    pub engine: Arc<Engine>,
    pub log: Arc<dyn Log<Record>>,
    pub config: StoreConfig,
}

/// The running role.
pub struct Store {
    engine: Arc<Engine>,
    log: Arc<dyn Log<Record>>,
    applied: watch::Receiver<Position>,
    replay: Arc<Replaying>,
    shared: Arc<Shared>,
    maintenance: Maintenance,
    snapshots: PathBuf,
    apply: Mutex<Option<Worker>>,
}

/// Counts of the apply thread.
#[derive(Default)]
struct Shared {
    stop: AtomicBool,
    records: AtomicU64,
    panicked: AtomicU64,
    lost: AtomicU64,
}

/// Whether answers are complete yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Readiness {
    Ready,
    /// The log is being replayed.
    Replaying(Replay),
}

/// The read barrier was not reached; ask again.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the store has applied position {applied} of {wanted}; ask again")]
pub struct NotReady {
    pub applied: Position,
    pub wanted: Position,
}

/// A command to the store failed; nothing is lost, it can be tried again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    #[error(transparent)]
    NotReady(#[from] NotReady),
    #[error("{0}")]
    Engine(String),
    #[error("the store is stopping")]
    Stopping,
    /// So many wait already.
    #[error("{0} flushes, merges and snapshots wait already, which is as many as may; ask again when some are done")]
    Busy(usize),
    /// It goes on all the same.
    #[error("merging takes longer than {0} s and goes on; ask again")]
    Merging(u64),
    /// It will fail again until something is changed.
    #[error("{0}")]
    Refused(String),
}

/// Figures of the role and its engine.
#[derive(Clone, Debug)]
pub struct StoreStats {
    pub records_applied: u64,
    /// Records whose application panicked; passed over.
    pub records_panicked: u64,
    /// Positions that the log could not deliver.
    pub positions_lost: u64,
    pub seals: u64,
    pub compactions: u64,
    pub failures: u64,
    /// Files that are past their time by the clock and by nothing else, and stay for now.
    pub files_held: u64,
    pub engine: EngineStats,
}

impl Store {
    /// Opens the engine in `dir`; its applied position is where the log is to be replayed from.
    pub fn open_engine(
        host: &Host,
        dir: &Path,
        config: &StoreConfig,
        table: Arc<SeriesTable>,
    ) -> Result<Arc<Engine>, series::engine::OpenError> {
        let mut settings = config.engine_settings();
        // the rest is for connections, the log, and what is being written
        if let Some(limit) = host::file_limit() {
            let share = usize::try_from(limit / FILES_SHARE).unwrap_or(usize::MAX);
            settings.open_files_max = settings.open_files_max.min(share.max(OPEN_FILES_MIN));
        }
        let (engine, report) = Engine::open(host.clone(), dir, settings, table)?;
        let behind_ms = engine
            .newest_ms()
            .map_or(0, |newest| newest.saturating_sub(host.clock.now_ms()));
        if behind_ms > CLOCK_BEHIND_MS {
            tracing::warn!(
                days = behind_ms / CLOCK_BEHIND_MS,
                "the clock is behind the newest stored sample by so many days: samples are taken all the same, up to a year \
                 ahead of it; put the clock right, or delete samples that came while it was ahead"
            );
        }
        tracing::info!(
            applied = report.applied,
            quarantined = report.quarantined.len(),
            "series engine open"
        );
        Ok(Arc::new(engine))
    }

    /// Starts the threads: apply (from the engine's position on) and maintenance.
    pub fn start(parts: StoreParts) -> Result<Self, bus::BusError> {
        let StoreParts {
            host,
            dir,
            snapshots,
            table,
            engine,
            log,
            config,
        } = parts;
        let from = engine.applied();
        let consumer = log.consume(CONSUMER, from)?;
        let bytes = consumer.stored_bytes().1;
        let replay = Arc::new(Replaying::new(&host, from, log.durable(), bytes));
        let (sender, applied) = watch::channel(from);
        let shared = Arc::new(Shared::default());
        let no_thread = |e| bus::BusError::Io(format!("cannot start a thread of the store: {e}"));
        let maintenance = Maintenance::start(
            host.clone(),
            Arc::clone(&engine),
            Arc::clone(&log),
            &config,
            snapshots.clone(),
        )
        .map_err(no_thread)?;
        let workers = host.workers.clone();
        let apply = Apply {
            table,
            host,
            dir,
            engine: Arc::clone(&engine),
            sender,
            shared: Arc::clone(&shared),
            replay: Arc::clone(&replay),
        };
        let thread = workers
            .thread("store-apply", move || apply.run(consumer))
            .map_err(no_thread)?;
        Ok(Store {
            replay,
            engine,
            log,
            applied,
            shared,
            maintenance,
            snapshots,
            apply: Mutex::new(Some(thread)),
        })
    }

    pub fn readiness(&self) -> Readiness {
        let replay = self.replay();
        match replay.is_over() {
            true => Readiness::Ready,
            false => Readiness::Replaying(replay),
        }
    }

    /// The replay of this start, also when it is over.
    pub fn replay(&self) -> Replay {
        self.replay.now(*self.applied.borrow())
    }

    /// Waits until everything that was durable when it was called can be read.
    pub async fn barrier(&self) -> Result<(), NotReady> {
        let wanted = self.log.durable();
        let mut applied = self.applied.clone();
        if *applied.borrow() >= wanted {
            return Ok(());
        }
        match tokio::time::timeout(BARRIER, applied.wait_for(|&at| at >= wanted)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(NotReady {
                applied: *self.applied.borrow(),
                wanted,
            }),
        }
    }

    /// What queries read from; call [`barrier`](Self::barrier) first.
    pub fn source(&self) -> Arc<dyn SampleSource> {
        Arc::clone(&self.engine) as Arc<dyn SampleSource>
    }

    /// Seals everything taken so far and makes it durable in files.
    pub async fn flush(&self) -> Result<(), StoreError> {
        self.barrier().await?;
        self.maintenance.run(Command::Flush).await
    }

    /// Seals, then merges all there is.
    pub async fn compact(&self) -> Result<(), StoreError> {
        self.barrier().await?;
        let merged = self.maintenance.run(Command::Compact);
        match tokio::time::timeout(MERGED_WITHIN, merged).await {
            Ok(done) => done,
            Err(_) => Err(StoreError::Merging(MERGED_WITHIN.as_secs())),
        }
    }

    /// Time of the newest sample in files.
    pub fn newest_file_ms(&self) -> Option<i64> {
        self.engine.newest_ms()
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    pub(crate) fn snapshot_dir(&self) -> &Path {
        &self.snapshots
    }

    pub(crate) async fn maintenance_snapshot(&self, name: String) -> Result<Snapshot, StoreError> {
        self.maintenance.snapshot(name).await
    }

    pub(crate) fn leases(&self) -> &crate::snapshot::Leases {
        self.maintenance.leases()
    }

    pub fn stats(&self) -> StoreStats {
        let (seals, compactions, failures) = self.maintenance.counts();
        StoreStats {
            records_applied: self.shared.records.load(Relaxed),
            records_panicked: self.shared.panicked.load(Relaxed),
            positions_lost: self.shared.lost.load(Relaxed),
            seals,
            compactions,
            failures,
            files_held: self.maintenance.held(),
            engine: self.engine.stats(),
        }
    }

    /// Seals what is left and ends the threads, each waited for at most 2.5 s. The log stays as it is: an unsealed rest is
    /// replayed.
    pub fn stop(&self) {
        let thread = self.apply.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = &thread {
            thread.ending();
        }
        self.shared.stop.store(true, Relaxed);
        if let Some(thread) = thread
            && !thread.join_within(STOP_WITHIN)
        {
            tracing::warn!("a record is being applied for long; it is replayed at the next start");
        }
        self.maintenance.stop(STOP_WITHIN);
    }
}

struct Apply {
    engine: Arc<Engine>,
    table: Arc<SeriesTable>,
    host: Host,
    dir: PathBuf,
    sender: watch::Sender<Position>,
    shared: Arc<Shared>,
    replay: Arc<Replaying>,
}

impl Apply {
    fn run(self, mut consumer: Box<dyn Consumer<Record>>) {
        self.replay.begin();
        if !self.replay.is_over() {
            self.catch_up(&mut *consumer);
        }
        while !self.shared.stop.load(Relaxed) {
            let delivery = consumer.next(WAIT);
            let read = || consumer.stored_bytes().0;
            match delivery {
                Ok(Delivery::Idle) => {}
                Ok(Delivery::Closed) => return,
                Ok(delivery) => self.take(delivery, read),
                Err(e) => {
                    tracing::error!(error = %e, "the samples log cannot be read");
                    std::thread::sleep(WAIT);
                }
            }
        }
    }

    /// Replays what was durable before: a second thread reads and decodes, some records ahead. What goes wrong there is
    /// left to the caller's loop, which comes to the same place.
    fn catch_up(&self, consumer: &mut dyn Consumer<Record>) {
        let (sender, receiver) = sync_channel(AHEAD);
        let (stop, target) = (&self.shared.stop, self.replay.target());
        std::thread::scope(|scope| {
            let reader = std::thread::Builder::new().name("store-replay".into());
            let workers = self.host.workers.clone();
            let read_ahead = move || {
                let mut reached = 0;
                while reached < target && !stop.load(Relaxed) {
                    let delivery = match consumer.next(Duration::ZERO) {
                        Ok(Delivery::Idle | Delivery::Closed) | Err(_) => return,
                        Ok(delivery) => delivery,
                    };
                    reached = match &delivery {
                        Delivery::Record { position, .. } => *position,
                        Delivery::Damaged { last, .. } => *last,
                        Delivery::Idle | Delivery::Closed => reached,
                    };
                    if sender.send((delivery, consumer.stored_bytes().0)).is_err() {
                        return;
                    }
                }
            };
            let reading = reader.spawn_scoped(scope, move || workers.piece("store-replay", read_ahead));
            if let Err(error) = reading {
                tracing::warn!(%error, "no thread to read ahead; the replay takes longer");
            }
            for (delivery, read) in receiver {
                self.take(delivery, || read);
            }
        });
    }

    fn take(&self, delivery: Delivery<Record>, read: impl FnOnce() -> u64) {
        match delivery {
            Delivery::Record { position, item } => {
                // memory pressure slows: the hand-over queue fills, and publishers wait
                while self.engine.overfull() && !self.shared.stop.load(Relaxed) {
                    std::thread::sleep(PRESSURE_WAIT);
                }
                self.apply(position, &item, read);
            }
            Delivery::Damaged {
                first, last, detail, ..
            } => {
                self.shared.lost.fetch_add(last - first + 1, Relaxed);
                tracing::warn!(first, last, %detail, "damaged records are missing from the samples log");
                self.engine.pass_over(last);
                self.reached(last, read);
            }
            Delivery::Idle | Delivery::Closed => {}
        }
    }

    /// Copies a record that cannot be applied to quarantine, with the definitions it needs.
    fn keep(&self, position: Position, record: &Record) {
        let (mut bytes, mut definitions) = (Vec::new(), Vec::new());
        let mut codec = RecordCodec::new(Arc::clone(&self.table));
        codec.begin();
        codec.encode(record, &mut bytes);
        codec.finish(&mut definitions);
        bytes.extend_from_slice(&definitions);
        let dir = self.dir.join("quarantine");
        let path = dir.join(format!("{position}.record"));
        let files = &self.host.files;
        let kept = files
            .create_dir_all(&dir)
            .and_then(|()| files.write_atomic(&path, &bytes));
        let kept = match kept {
            Ok(()) => format!("is quarantined in {}", path.display()),
            Err(e) => format!("could not be copied: {e}"),
        };
        tracing::error!(
            position,
            kept,
            "applying a record panicked; it is passed over (please report this)"
        );
    }

    fn apply(&self, position: Position, record: &Record, read: impl FnOnce() -> u64) {
        let engine = &self.engine;
        // nobody is answered before a replay is over
        let more = position < self.replay.target();
        let apply = || engine.apply_of_many(position, record, more);
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(apply));
        if outcome.is_err() {
            self.shared.panicked.fetch_add(1, Relaxed);
            self.keep(position, record);
            engine.pass_over(position);
        } else {
            self.shared.records.fetch_add(1, Relaxed);
        }
        self.reached(position, read);
    }

    fn reached(&self, position: Position, read: impl FnOnce() -> u64) {
        self.replay.reached(position, read);
        self.sender.send_replace(position);
    }
}
