//! The engine: applies records of the log in order, seals what it applied into files, compacts these, and answers
//! selections over heads and files. It starts no thread: one caller applies, one seals and compacts, any number read.
//!
//! The log is the only write-ahead log. What is applied but not sealed is lost with the process and comes back by replay
//! from [`Engine::sealed`].

mod apply;
mod changes;
mod classes;
mod compact;
mod deltas;
mod found;
mod last;
mod measure;
mod open;
mod order;
mod plan;
mod quarantine;
mod retire;
mod rolled;
mod rollups;
mod scrub;
mod seal;
mod selection;
mod snapshot;
mod source;
mod stated;
#[cfg(test)]
pub(crate) mod tests;
mod values;
mod view;
mod weigh;

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, RwLock, Weak};

use hashbrown::HashMap;
use host::Host;
use model::TenantId;

pub use crate::block::FileBounds;
use crate::block::{Block, MetadataEntry};
use crate::cache::Cache;
pub use crate::compaction::{FullPace, Pace};
use crate::head::SlabPool;
use crate::manifest::State;
use crate::retention::{RetentionClass, RollupKeep};
use crate::table::SeriesTable;
use crate::window::Window;
pub use classes::{ClassReport, RollupReport};
pub(crate) use open::{IDENTITY, read_identity, told_identity};
use quarantine::Quarantine;
pub use quarantine::Quarantined;
pub(crate) use quarantine::describe;
pub use retire::RetireReport;
pub use scrub::ScrubStats;
#[cfg(test)]
pub(crate) use seal::blank_footer;
pub use snapshot::SnapshotReport;
pub(crate) use view::View;
pub use weigh::Weight;

/// Unsealed samples, as a multiple of what makes a seal due, at which the heads count as overfull.
const OVERFULL: usize = 2;

/// Bounds and times of an engine. The defaults are the product's.
#[derive(Clone, Debug)]
pub struct EngineSettings {
    /// Bytes of unsealed samples (16 each, more for histograms) at which a seal is due.
    pub unsealed_bytes_max: usize,
    /// Out-of-order samples held at which a seal is due.
    pub late_samples_max: usize,
    /// Milliseconds after which applied samples are sealed, however few.
    pub seal_after_ms: u64,
    /// Milliseconds without an applied record after which the engine counts as idle.
    pub idle_after_ms: u64,
    /// Unsealed bytes an idle engine keeps in memory at most.
    pub idle_bytes_max: usize,
    /// Bytes of memory of all heads at which a seal is due; at twice as many applying waits for it.
    pub memory_bytes_max: usize,
    /// Bytes of directories and indexes kept in memory.
    pub index_cache_bytes: usize,
    /// Bytes of chunks kept in memory.
    pub chunk_cache_bytes: usize,
    /// Bytes of chunks a running compaction keeps in memory.
    pub merge_cache_bytes: usize,
    /// Level 0 files that are merged at once.
    pub merge_files: usize,
    /// Files that one merge reads at most.
    pub merge_inputs_max: usize,
    /// Files that one merge makes at most, and more only where one day has more classes.
    pub merge_outputs_max: usize,
    /// Files that are kept open for reading.
    pub open_files_max: usize,
    /// Milliseconds after which a series that is not written any more leaves memory.
    pub retire_after_ms: u64,
    /// Bytes of the series table above which series leave it sooner.
    pub table_bytes_max: usize,
    /// Bytes of the series table above which new series are refused.
    pub table_full_bytes: usize,
    /// Up to this Unix time in ms the machine's clock is known to be right: expiry follows it at once up to there. Otherwise
    /// something besides the clock must say that so much time has passed.
    pub clock_confirmed_ms: Option<i64>,
    /// Milliseconds that samples are kept; `None`: for ever.
    pub retention_ms: Option<i64>,
    /// Series that are kept for another time; the first that fits counts.
    pub retention_classes: Vec<RetentionClass>,
    /// Rollups of the series that no class fits.
    pub rollups: RollupKeep,
    /// Bounds of the parts that files are made of.
    pub bounds: FileBounds,
    /// Number of this owner, written with every commit.
    pub epoch: u64,
}

impl Default for EngineSettings {
    fn default() -> Self {
        EngineSettings {
            unsealed_bytes_max: 32 << 20,
            late_samples_max: 1 << 20,
            seal_after_ms: 15 * 60 * 1000,
            idle_after_ms: 5_000,
            idle_bytes_max: 1 << 20,
            memory_bytes_max: 512 << 20,
            index_cache_bytes: 96 << 20,
            chunk_cache_bytes: 32 << 20,
            merge_cache_bytes: 32 << 20,
            merge_files: 8,
            merge_inputs_max: 32,
            merge_outputs_max: 512,
            open_files_max: 1024,
            retire_after_ms: 24 * 60 * 60 * 1000,
            table_bytes_max: 768 << 20,
            table_full_bytes: 1 << 30,
            clock_confirmed_ms: None,
            retention_ms: None,
            retention_classes: Vec::new(),
            rollups: RollupKeep::default(),
            bounds: FileBounds::default(),
            epoch: 0,
        }
    }
}

/// Why an engine does not start. No single damaged file is a reason.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "{}: {reason}. This file names the data set, and neither manifest tells the same: restore them from a backup, or \
         move the directory away to start an empty one", path.display()
    )]
    Identity { path: PathBuf, reason: String },
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
}

/// Why a seal or a compaction did not happen. Nothing is lost; it can be tried again at any time.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("{}: {source}", path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{}: damaged, and set aside", path.display())]
    Damaged { path: PathBuf },
}

/// What was found at the start.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    /// Replay starts behind this position.
    pub applied: u64,
    pub blocks: usize,
    /// Series that level 0 files name.
    pub series: usize,
    /// The manifest could not be used, and the list of blocks comes from their footers.
    pub rebuilt: bool,
    pub quarantined: Vec<Quarantined>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SealReport {
    /// Everything up to this position is in files.
    pub position: u64,
    pub samples: u64,
    pub bytes: u64,
    pub blocks: usize,
}

/// Why a seal is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SealReason {
    Bytes,
    Late,
    Memory,
    Age,
    Idle,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CompactReport {
    pub files_in: usize,
    pub files_out: usize,
    pub bytes_in: u64,
    pub bytes_out: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ExpireReport {
    /// Files that are past their time by the clock and by nothing else, and stay for now.
    pub held: usize,
    pub files: usize,
    pub bytes: u64,
}

/// Figures for the status page.
#[derive(Clone, Debug, Default)]
pub struct EngineStats {
    /// Series in memory.
    pub series: usize,
    /// Bytes of what is kept for each series besides the table: last values, numbers in series files.
    pub series_bytes: usize,
    pub applied: u64,
    pub sealed: u64,
    pub unsealed_samples: u64,
    pub unsealed_bytes: usize,
    pub late_samples: usize,
    pub files: usize,
    pub files_by_level: Vec<usize>,
    pub file_bytes: u64,
    pub file_samples: u64,
    /// Files of rollups, which the figures of files leave out.
    pub rollup_files: usize,
    pub rollup_bytes: u64,
    pub head_bytes: usize,
    pub table_bytes: usize,
    pub cache_bytes: usize,
    /// Type, help and unit of metrics: how many there are, and their bytes.
    pub metadata: (usize, usize),
    pub tombstones: usize,
    /// Deltas that ended where another one of their series does: taken as sent again.
    pub deltas_skipped: u64,
    /// Deltas that ended before the newest of their series, and were counted.
    pub deltas_late: u64,
    /// Times that a running value started anew: it could not be read, or would have been infinite.
    pub deltas_restarted: u64,
    pub scrub: ScrubStats,
    /// Merges that were not committed because nothing would have been gained: there should be none.
    pub merges_in_vain: u64,
    pub quarantined: Vec<Quarantined>,
}

/// What readers and writers share.
pub(crate) struct Shared {
    pub(crate) host: Host,
    pub(crate) dir: PathBuf,
    pub(crate) settings: EngineSettings,
    pub(crate) table: Arc<SeriesTable>,
    pub(crate) realm: u64,
    pub(crate) indexes: Cache,
    pub(crate) chunks: Cache,
    /// Groups that a compaction reads; apart from those that queries read.
    pub(crate) merging: Cache,
    /// What was found in files and in the table.
    pub(crate) found: Cache,
    pub(crate) quarantine: Quarantine,
    /// The id of the next block. It only grows, whatever becomes of the blocks.
    pub(crate) next_block: AtomicU64,
    view: RwLock<Arc<View>>,
}

impl Shared {
    pub(crate) fn view(&self) -> Arc<View> {
        Arc::clone(&self.view.read().unwrap_or_else(|e| e.into_inner()))
    }

    fn change_view(&self, change: impl FnOnce(&mut View)) {
        let mut view = self.view.write().unwrap_or_else(|e| e.into_inner());
        let mut next = View::clone(&view);
        change(&mut next);
        *view = Arc::new(next);
    }
}

/// Metadata by tenant and metric.
type MetadataMap = HashMap<(TenantId, String), MetadataEntry>;

/// What changes with each commit: of a seal, a merge, an expiry. A merge holds it only while it commits.
struct Writer {
    state: State,
    /// Which of the two manifests the next commit replaces.
    slot: usize,
    /// Files that no manifest names any more.
    garbage: Vec<PathBuf>,
    /// Blocks that no manifest names any more, as long as somebody may read them: they may have to be opened for it.
    leaving: Vec<(Weak<Block>, PathBuf)>,
    window: Option<Arc<Window>>,
    window_since_ms: u64,
    /// Metadata up to this position is in files.
    metadata_sealed: u64,
    /// Clock of the last `expire`.
    expire_seen_ms: Option<i64>,
    /// Monotonic clock of that.
    expiry_looked_ms: u64,
    /// Expiry's time as the manifest has it.
    expiry_saved_ms: i64,
}

pub struct Engine {
    shared: Arc<Shared>,
    /// Held for writing while a record is applied or a head is frozen, for reading while a selection takes its marks.
    gate: RwLock<()>,
    applier: Mutex<apply::Applier>,
    writer: Mutex<Writer>,
    /// Held by the one merge that is under way; taken before the writer.
    compactor: Mutex<compact::Compactor>,
    pool: Arc<SlabPool>,
    last: last::LastValues,
    order: order::LabelOrder,
    metadata: RwLock<MetadataMap>,
    applied: AtomicU64,
    sealed: AtomicU64,
    /// Monotonic milliseconds.
    last_apply_ms: AtomicU64,
    unsealed_since_ms: AtomicU64,
    /// Grows whenever series become visible.
    shown: AtomicU64,
    /// What may make answers given earlier wrong.
    changes: changes::Changes,
    deltas_skipped: AtomicU64,
    deltas_late: AtomicU64,
    deltas_restarted: AtomicU64,
    seen: retire::Seen,
    scrub: scrub::Scrub,
    merges_in_vain: AtomicU64,
}

impl std::fmt::Debug for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Engine({})", self.shared.dir.display())
    }
}

fn io_error(path: &Path) -> impl FnOnce(std::io::Error) -> EngineError + '_ {
    move |source| EngineError::Io {
        path: path.to_owned(),
        source,
    }
}

impl Engine {
    pub fn settings(&self) -> &EngineSettings {
        &self.shared.settings
    }

    /// Time of the newest sample in files.
    pub fn newest_ms(&self) -> Option<i64> {
        let view = self.shared.view();
        let written = view.blocks.iter().filter(|b| b.footer.samples > 0);
        written.map(|b| b.footer.max_ms).max()
    }

    /// The position up to which records were applied.
    pub fn applied(&self) -> u64 {
        self.applied.load(Relaxed)
    }

    /// The position up to which everything is in files.
    pub fn sealed(&self) -> u64 {
        self.sealed.load(Relaxed)
    }

    /// Looks whether the series table has grown beyond its bound; new series are refused as long as it has.
    pub fn bound_table(&self) {
        self.shared.table.bound(self.shared.settings.table_full_bytes);
    }

    fn monotonic_ms(&self) -> u64 {
        self.shared.host.clock.monotonic().as_millis() as u64
    }

    fn write_gate(&self) -> std::sync::RwLockWriteGuard<'_, ()> {
        self.gate.write().unwrap_or_else(|e| e.into_inner())
    }

    fn read_gate(&self) -> std::sync::RwLockReadGuard<'_, ()> {
        self.gate.read().unwrap_or_else(|e| e.into_inner())
    }

    fn lock_writer(&self) -> std::sync::MutexGuard<'_, Writer> {
        self.writer.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// Whether nothing has been applied for a while.
    pub fn idle(&self) -> bool {
        self.monotonic_ms().saturating_sub(self.last_apply_ms.load(Relaxed)) >= self.shared.settings.idle_after_ms
    }

    /// Why a seal is due now, if it is. Times are measured on the monotonic clock.
    pub fn seal_due(&self) -> Option<SealReason> {
        let s = &self.shared.settings;
        let view = self.shared.view();
        let heads = || view.frozen.iter().chain([&view.active]);
        let bytes: usize = heads().map(|h| h.sample_bytes()).sum();
        if bytes == 0 {
            return None;
        }
        let age = self.monotonic_ms().saturating_sub(self.unsealed_since_ms.load(Relaxed));
        if bytes >= s.unsealed_bytes_max {
            Some(SealReason::Bytes)
        } else if heads().map(|h| h.late()).sum::<usize>() >= s.late_samples_max {
            Some(SealReason::Late)
        } else if self.pool.bytes() >= s.memory_bytes_max {
            Some(SealReason::Memory)
        } else if age >= s.seal_after_ms {
            Some(SealReason::Age)
        } else if bytes > s.idle_bytes_max && self.idle() {
            Some(SealReason::Idle)
        } else {
            None
        }
    }

    /// Whether the heads hold far more than a seal should ever leave them: whoever applies then waits for the seal.
    pub fn overfull(&self) -> bool {
        let view = self.shared.view();
        let bytes: usize = view.frozen.iter().chain([&view.active]).map(|h| h.sample_bytes()).sum();
        let s = &self.shared.settings;
        bytes >= s.unsealed_bytes_max.saturating_mul(OVERFULL)
            || self.pool.bytes() >= s.memory_bytes_max.saturating_mul(2)
    }

    pub fn stats(&self) -> EngineStats {
        let view = self.shared.view();
        let heads = || view.frozen.iter().chain([&view.active]);
        let levels = view.blocks.iter().map(|b| usize::from(b.footer.level) + 1).max();
        let mut files_by_level = vec![0; levels.unwrap_or(0)];
        for b in &view.blocks {
            files_by_level[usize::from(b.footer.level)] += 1;
        }
        EngineStats {
            series: self.shared.table.alive(),
            series_bytes: self.last.bytes() + self.seen.bytes() + view.windows.iter().map(|w| w.bytes()).sum::<usize>(),
            applied: self.applied(),
            sealed: self.sealed(),
            unsealed_samples: heads().map(|h| h.samples()).sum(),
            unsealed_bytes: heads().map(|h| h.sample_bytes()).sum(),
            late_samples: heads().map(|h| h.late()).sum(),
            files: view.blocks.len(),
            files_by_level,
            file_bytes: view.blocks.iter().map(|b| b.bytes).sum(),
            file_samples: view.blocks.iter().map(|b| b.footer.samples).sum(),
            rollup_files: view.rollups.len(),
            rollup_bytes: view.rollups.iter().map(|r| r.block.bytes).sum(),
            head_bytes: self.pool.bytes() + heads().map(|h| h.slot_bytes()).sum::<usize>(),
            table_bytes: self.shared.table.bytes(),
            cache_bytes: [
                &self.shared.indexes,
                &self.shared.chunks,
                &self.shared.merging,
                &self.shared.found,
            ]
            .map(Cache::bytes)
            .iter()
            .sum(),
            metadata: self.shared.table.metadata().total(),
            tombstones: view.tombstones.len(),
            deltas_skipped: self.deltas_skipped.load(Relaxed),
            deltas_late: self.deltas_late.load(Relaxed),
            deltas_restarted: self.deltas_restarted.load(Relaxed),
            scrub: self.scrub.stats(),
            merges_in_vain: self.merges_in_vain.load(Relaxed),
            quarantined: self.shared.quarantine.list(),
        }
    }
}
