//! Series that nobody writes any more leave memory: the table, the last values, the running values. Files name their own
//! series, so what was written stays to be found.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::Ordering::Relaxed;

use model::SeriesId;

use super::Engine;
use crate::table::SeriesTable;

/// Series retired at once at most: applying and queries wait meanwhile.
const AT_ONCE: usize = 1 << 16;
/// Milliseconds after which a retired id may be given again: longer than a query or the way of a batch to the log takes.
const REUSE_AFTER_MS: u64 = 20 * 60 * 1000;
/// While the table takes more than its share, series go after this part of the time.
const HASTE: u64 = 8;

/// When each series was last written, and what was retired.
#[derive(Default)]
pub(crate) struct Seen(Mutex<Inner>);

#[derive(Default)]
struct Inner {
    /// By id: monotonic seconds of the last seal with samples of it; 0: none.
    at_s: Vec<u32>,
    /// (log position, monotonic ms) of what was retired and not yet freed.
    retired: VecDeque<(u64, u64)>,
}

impl Seen {
    fn lock(&self) -> std::sync::MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// These series were written until now.
    pub(crate) fn now(&self, ids: &[SeriesId], monotonic_ms: u64) {
        let mut inner = self.lock();
        let bound = ids.iter().map(|id| id.index() + 1).max().unwrap_or(0);
        if inner.at_s.len() < bound {
            inner.at_s.resize(bound, 0);
        }
        for id in ids {
            inner.at_s[id.index()] = (monotonic_ms / 1000) as u32;
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        self.lock().at_s.capacity() * 4
    }
}

/// What a call did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RetireReport {
    /// Series that are no longer in memory's view.
    pub retired: usize,
    /// Ids that are free to be given again.
    pub freed: usize,
}

impl Engine {
    /// Retires series that were not written for `retire_after_ms`, and frees the ids of those that were retired earlier.
    /// `durable`: the log's last position; whatever may name a retired id is in the log up to there, or written with a
    /// new definition.
    pub fn retire(&self, durable: u64) -> RetireReport {
        let s = &self.shared;
        let now_ms = self.monotonic_ms();
        let mut report = RetireReport {
            freed: self.free_retired(&s.table, now_ms),
            ..RetireReport::default()
        };
        // no seal gives a number to a series, or writes it to a file, meanwhile
        let _writer = self.lock_writer();
        let view = s.view();
        let after_ms = match s.table.bytes() > s.settings.table_bytes_max {
            true => s.settings.retire_after_ms / HASTE,
            false => s.settings.retire_after_ms,
        };
        let mut ids = self.unseen(now_ms.saturating_sub(after_ms));
        for window in &view.windows {
            // level 0 files name it through the table
            let mut named = vec![false; ids.len()];
            window.numbers_of(&ids, |i, _| named[i] = true);
            let mut i = 0;
            ids.retain(|_| {
                i += 1;
                !named[i - 1]
            });
        }
        ids.truncate(AT_ONCE);
        if ids.is_empty() {
            return report;
        }
        let mut applier = self.applier.lock().unwrap_or_else(|e| e.into_inner());
        let _gate = self.write_gate();
        let view = s.view();
        for head in view.frozen.iter().chain([&view.active]) {
            let held = head.ids();
            ids.retain(|id| held.binary_search(id).is_err());
        }
        applier.forget(&ids);
        self.last.clear(&ids);
        s.table.retire(&ids, durable);
        report.retired = ids.len();
        if report.retired > 0 {
            self.seen.lock().retired.push_back((durable, now_ms));
        }
        report
    }

    /// Series of the table that no seal had since this monotonic time, ascending.
    fn unseen(&self, since_ms: u64) -> Vec<SeriesId> {
        let since_s = (since_ms / 1000) as u32;
        let inner = self.seen.lock();
        let seen = |id: &SeriesId| inner.at_s.get(id.index()).copied().unwrap_or(0);
        let all = (0..self.shared.table.id_bound() as u32).map(SeriesId);
        let old: Vec<SeriesId> = all.filter(|id| seen(id) < since_s).collect();
        drop(inner);
        self.shared.table.unretired(&old)
    }

    fn free_retired(&self, table: &SeriesTable, now_ms: u64) -> usize {
        let mut inner = self.seen.lock();
        let mut up_to = None;
        while let Some(&(position, at_ms)) = inner.retired.front() {
            if now_ms < at_ms + REUSE_AFTER_MS || self.applied.load(Relaxed) < position {
                break;
            }
            up_to = Some(position);
            inner.retired.pop_front();
        }
        // another batch may have been retired at the same position since
        let still = inner.retired.front().map(|(position, _)| *position);
        let up_to = up_to.map(|p| still.map_or(p, |s| p.min(s.saturating_sub(1))));
        up_to.map_or(0, |position| table.reuse_up_to(position))
    }
}
