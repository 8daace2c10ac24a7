use std::collections::BTreeSet;
use std::sync::Arc;

use model::TimeRange;

use crate::block::{Block, DAY_MS, RolledFrom};
use crate::head::Head;
use crate::manifest::{Entry, RollupEntry};
use crate::tombstone::Tombstone;
use crate::window::{Window, window_name};

/// Deletes that a block's footer repeats at most.
const FOOTER_TOMBSTONES_MAX: usize = 128;

/// A block that the manifest names and that cannot be opened.
#[derive(Clone, Debug)]
pub(crate) struct Lost {
    pub(crate) entry: Entry,
    pub(crate) file: String,
    pub(crate) detail: String,
}

/// A file of rollups that can be read.
#[derive(Clone)]
pub(crate) struct Rollup {
    pub(crate) block: Arc<Block>,
    pub(crate) from: RolledFrom,
    /// The samples that it was made of are past their retention.
    pub(crate) alone: bool,
}

/// All that is there to be read at one moment. A reader keeps it for as long as it reads.
#[derive(Clone)]
pub(crate) struct View {
    /// In the order of the positions they cover: where two hold a sample of one time, the later stands.
    pub(crate) blocks: Vec<Arc<Block>>,
    pub(crate) lost: Vec<Lost>,
    /// By day. Samples are in `blocks`, too, unless these are past their retention.
    pub(crate) rollups: Vec<Rollup>,
    /// Those that cannot be opened and stand alone.
    pub(crate) lost_rollups: Vec<(RollupEntry, Lost)>,
    pub(crate) windows: Vec<Arc<Window>>,
    /// Heads that are being sealed; nothing is added to them.
    pub(crate) frozen: Vec<Arc<Head>>,
    pub(crate) active: Arc<Head>,
    pub(crate) tombstones: Arc<Vec<Tombstone>>,
}

impl Rollup {
    /// The UTC day.
    pub(crate) fn day(&self) -> TimeRange {
        let from = self.block.footer.day.saturating_mul(DAY_MS);
        TimeRange::new(from, from.saturating_add(DAY_MS - 1))
    }
}

impl View {
    /// All blocks, rollups among them.
    pub(crate) fn files(&self) -> impl Iterator<Item = &Arc<Block>> {
        self.blocks.iter().chain(self.rollups.iter().map(|r| &r.block))
    }

    pub(crate) fn rollup_entries(&self) -> Vec<RollupEntry> {
        let entry = |r: &Rollup| RollupEntry {
            block: Entry::of(&r.block.footer, r.block.bytes),
            from: r.from.clone(),
            alone: r.alone,
        };
        let lost = self.lost_rollups.iter().map(|(entry, _)| entry.clone());
        self.rollups.iter().map(entry).chain(lost).collect()
    }

    pub(crate) fn window(&self, id: u64) -> Option<&Arc<Window>> {
        self.windows.iter().find(|w| w.id == id)
    }

    /// What an answer of this range lacks for sure: blocks that cannot be opened, and those whose series have lost their
    /// labels.
    pub(crate) fn missing(&self, range: TimeRange) -> BTreeSet<String> {
        let rollups = self.lost_rollups.iter().map(|(_, lost)| lost);
        let lost = self
            .lost
            .iter()
            .chain(rollups)
            .filter(|l| l.entry.range().overlaps(&range));
        let lost = lost.map(|l| format!("{}: {} (quarantined)", l.file, l.detail));
        let level_0 = self.blocks.iter().filter(|b| b.footer.level == 0);
        let of_windows = level_0.filter(|b| b.range().overlaps(&range)).filter_map(|b| {
            let window = b.footer.window;
            let whole = self.window(window).is_some_and(|w| !w.incomplete);
            (!whole).then(|| format!("{}: labels of series are missing (quarantined)", window_name(window)))
        });
        lost.chain(of_windows).collect()
    }

    /// The newest time in any block.
    pub(crate) fn blocks_max_ms(&self) -> i64 {
        let blocks = self.blocks.iter().map(|b| b.footer.max_ms);
        blocks
            .chain(self.lost.iter().map(|l| l.entry.max_ms))
            .chain(self.rollups.iter().map(|r| r.block.footer.max_ms))
            .max()
            .unwrap_or(i64::MIN)
    }

    pub(crate) fn sort_blocks(&mut self) {
        self.rollups.sort_by_key(|r| (r.block.footer.day, r.block.id()));
        self.blocks
            .sort_by_key(|b| (b.footer.covers.to, b.footer.covers.from, b.footer.id));
    }

    /// Those of them that a footer repeats: the newest. Both manifests have the others.
    pub(crate) fn told_tombstones(&self) -> Vec<Tombstone> {
        let mut all = self.live_tombstones();
        all.sort_by_key(|t| t.position);
        all.split_off(all.len().saturating_sub(FOOTER_TOMBSTONES_MAX))
    }

    /// Tombstones that some block or frozen head still has to be read through.
    pub(crate) fn live_tombstones(&self) -> Vec<Tombstone> {
        let concerned = |t: &&Tombstone| {
            self.blocks.iter().any(|b| t.concerns(b.footer.settled(), b.range()))
                || self
                    .rollups
                    .iter()
                    .any(|r| r.alone && t.concerns(r.block.footer.settled(), r.day()))
                || self
                    .lost_rollups
                    .iter()
                    .any(|(r, _)| t.concerns(r.block.settled, r.block.range()))
                || self.lost.iter().any(|l| t.concerns(l.entry.settled, l.entry.range()))
                || self.frozen.iter().any(|h| t.concerns(h.to(), h.range()))
        };
        self.tombstones.iter().filter(concerned).cloned().collect()
    }

    /// Positions of those that do nothing once records up to `applied` are in files, ascending: a later delete up to there
    /// takes the same or more.
    pub(crate) fn superseded_tombstones(&self, applied: u64) -> Vec<u64> {
        let superseded = |t: &&Tombstone| {
            self.tombstones.iter().any(|later| {
                later.position <= applied
                    && t.position < later.position
                    && later.range.start_ms <= t.range.start_ms
                    && t.range.end_ms <= later.range.end_ms
                    && (t.tenant, &t.matchers) == (later.tenant, &later.matchers)
            })
        };
        let mut positions: Vec<u64> = self.tombstones.iter().filter(superseded).map(|t| t.position).collect();
        positions.sort_unstable();
        positions
    }
}
