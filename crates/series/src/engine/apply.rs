use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use model::{Batch, Delete, DeltaRow, Exemplar, Record, SeriesId};

use super::Engine;
use super::selection::NewestFloat;
use crate::block::MetadataEntry;
use crate::head::Head;
use crate::table::{BULK, MetadataLimits};
use crate::tombstone::Tombstone;

/// A delta series' running value.
#[derive(Clone, Copy)]
struct Running {
    value: f64,
    /// Ranges up to here are in it.
    covered_ms: i64,
    start_ms: i64,
}

/// Bytes a metadata entry counts for.
const METADATA_BYTES: usize = 64;

/// What the applying thread keeps between records.
#[derive(Default)]
pub(crate) struct Applier {
    running: HashMap<SeriesId, Running>,
    /// Series that got their first sample and are not shown yet.
    first: Vec<SeriesId>,
}

impl Applier {
    /// These series left memory: their running values are read from files, should they come back.
    pub(super) fn forget(&mut self, ids: &[SeriesId]) {
        if !self.running.is_empty() {
            for id in ids {
                self.running.remove(id);
            }
        }
    }
}

impl Engine {
    /// Applies a record of the log. Positions ascend; what was applied before is ignored. It cannot fail, and what comes
    /// of it depends on the log alone.
    pub fn apply(&self, position: u64, record: &Record) {
        self.apply_of_many(position, record, false);
    }

    /// Applies a record as [`apply`](Self::apply) does. `more`: others follow before anything is asked of the engine, as when a
    /// log is replayed; new series may be found only once one came without it, or was passed over.
    pub fn apply_of_many(&self, position: u64, record: &Record, more: bool) {
        let mut applier = self.applier.lock().unwrap_or_else(|e| e.into_inner());
        if position <= self.applied() {
            return;
        }
        match record {
            Record::Batch(batch) => self.apply_batch(&mut applier, position, batch, more),
            Record::Delete(delete) => self.apply_delete(&mut applier, position, delete),
        }
        self.last_apply_ms.store(self.monotonic_ms(), Relaxed);
    }

    /// Goes past records that are not there or must not be applied.
    pub fn pass_over(&self, position: u64) {
        let mut applier = self.applier.lock().unwrap_or_else(|e| e.into_inner());
        let _gate = self.write_gate();
        self.show(&mut applier);
        if position > self.applied() {
            self.applied.store(position, Relaxed);
        }
    }

    fn apply_batch(&self, applier: &mut Applier, position: u64, batch: &Batch, more: bool) {
        for row in &batch.deltas {
            if !applier.running.contains_key(&row.series) {
                let running = self.recover(row.series);
                applier.running.insert(row.series, running);
            }
        }
        let _gate = self.write_gate();
        let view = self.shared.view();
        let head = &view.active;
        if head.is_empty() {
            self.unsealed_since_ms.store(self.monotonic_ms(), Relaxed);
        }
        if let Some(min_ms) = earliest(batch) {
            self.changes.note(batch.tenant, position, min_ms);
        }
        let first = &mut applier.first;
        head.push_floats(&batch.floats, first);
        for row in &batch.histograms {
            if head.push_histogram(row.series, row.at_ms, row.start_ms, &row.value) {
                first.push(row.series);
            }
        }
        for row in &batch.deltas {
            match applier.running.get_mut(&row.series) {
                Some(running) if row.at_ms > running.covered_ms => {
                    if accumulate(head, running, row) {
                        first.push(row.series);
                    }
                }
                _ => {
                    self.deltas_skipped.fetch_add(1, Relaxed);
                }
            }
        }
        for row in &batch.exemplars {
            let exemplar = Exemplar {
                at_ms: row.at_ms,
                value: row.value,
                labels: row.labels.clone(),
            };
            head.push_exemplar(row.series, exemplar);
        }
        if !batch.metadata.is_empty() {
            self.apply_metadata(position, batch, head);
        }
        if !more || first.len() >= BULK {
            self.show(applier);
        }
        self.applied.store(position, Relaxed);
    }

    fn show(&self, applier: &mut Applier) {
        // taken out first: what would make it panic is not met again
        let mut first = std::mem::take(&mut applier.first);
        if !first.is_empty() {
            self.shared.table.set_visible(&first);
            self.shown.fetch_add(1, Relaxed);
        }
        if first.capacity() <= BULK {
            first.clear();
            applier.first = first;
        }
    }

    fn apply_metadata(&self, position: u64, batch: &Batch, head: &Head) {
        let mut known = self.metadata.write().unwrap_or_else(|e| e.into_inner());
        for row in &batch.metadata {
            let key = (batch.tenant, row.metric.clone());
            let same = |old: &MetadataEntry| (old.kind, &old.help, &old.unit) == (row.kind, &row.help, &row.unit);
            if known.get(&key).is_some_and(same) {
                continue;
            }
            let entry = MetadataEntry {
                tenant: batch.tenant,
                metric: row.metric.clone(),
                kind: row.kind,
                help: row.help.clone(),
                unit: row.unit.clone(),
                position,
            };
            head.add_side_bytes(METADATA_BYTES + entry.help.len() + entry.metric.len());
            self.count_metadata(&entry);
            known.insert(key, entry);
        }
    }

    /// What came by a log or a file is there, whatever the limits are now.
    pub(super) fn count_metadata(&self, entry: &MetadataEntry) {
        let texts = entry.help.len() + entry.unit.len();
        let none = MetadataLimits {
            metrics: usize::MAX,
            bytes: usize::MAX,
        };
        let _ = self
            .shared
            .table
            .take_metadata(entry.tenant, &entry.metric, texts, none);
    }

    /// The head is frozen, so that the delete concerns what came before it and nothing that comes later.
    fn apply_delete(&self, applier: &mut Applier, position: u64, delete: &Delete) {
        let tombstone = Tombstone {
            position,
            tenant: delete.tenant,
            matchers: delete.matchers.clone(),
            range: delete.range,
        };
        let _gate = self.write_gate();
        self.show(applier);
        self.changes.note(delete.tenant, position, delete.range.start_ms);
        self.freeze();
        self.shared.change_view(|view| {
            // earlier ones of the same or less stay until this one is in a manifest
            let mut all = view.live_tombstones();
            all.push(tombstone);
            view.tombstones = Arc::new(all);
        });
        self.last.forget();
        applier.running.clear();
        self.applied.store(position, Relaxed);
    }

    /// Puts an empty head in the place of the active one; the caller holds the gate for writing.
    pub(super) fn freeze(&self) {
        let position = self.applied();
        self.shared.change_view(|view| {
            if view.active.is_empty() {
                return;
            }
            view.active.set_to(position);
            let fresh = Arc::new(Head::new(Arc::clone(&self.pool), position));
            let full = std::mem::replace(&mut view.active, fresh);
            view.frozen.push(full);
        });
    }

    /// The running value of a delta series as its newest sample tells it: 0 for a new series. Where that sample cannot be
    /// read, the count starts anew with a start time of its own, which every reader takes for a counter that was reset:
    /// going on from an older sample would look like an increase that never was.
    fn recover(&self, id: SeriesId) -> Running {
        let anew = Running {
            value: 0.0,
            covered_ms: i64::MIN,
            start_ms: 0,
        };
        match self.newest_float(id) {
            // behind a stale marker or another NaN the count starts anew
            NewestFloat::Known(covered_ms, value, _) if value.is_nan() => Running { covered_ms, ..anew },
            NewestFloat::Known(covered_ms, value, start_ms) => Running {
                value,
                covered_ms,
                start_ms,
            },
            NewestFloat::Nothing => anew,
            NewestFloat::Unreadable(what) => {
                self.deltas_restarted.fetch_add(1, Relaxed);
                tracing::warn!(
                    what,
                    "the running value of a delta series cannot be read: it starts anew"
                );
                anew
            }
        }
    }
}

/// The time of a batch's first sample.
fn earliest(batch: &Batch) -> Option<i64> {
    let histograms = batch.histograms.iter().map(|h| h.at_ms);
    let deltas = batch.deltas.iter().map(|d| d.at_ms);
    batch.floats.at_ms.iter().copied().chain(histograms).chain(deltas).min()
}

/// Adds a row to the running value and that to the head.
fn accumulate(head: &Head, running: &mut Running, row: &DeltaRow) -> bool {
    if running.start_ms == 0 && running.covered_ms == i64::MIN {
        running.start_ms = row.start_ms;
    }
    running.value += row.value;
    running.covered_ms = row.at_ms;
    head.push_float(row.series, row.at_ms, running.value, running.start_ms)
}
