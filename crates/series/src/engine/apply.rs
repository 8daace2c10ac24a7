use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{Batch, Delete, Exemplar, Record, SeriesId};

use super::Engine;
use super::deltas::Totals;
use crate::block::MetadataEntry;
use crate::head::Head;
use crate::table::{BULK, MetadataLimits};
use crate::tombstone::Tombstone;

/// Bytes a metadata entry counts for.
const METADATA_BYTES: usize = 64;

/// What the applying thread keeps between records.
#[derive(Default)]
pub(crate) struct Applier {
    totals: Totals,
    /// Series that got their first sample and are not shown yet.
    first: Vec<SeriesId>,
}

impl Applier {
    /// These series left memory: their running values are read from files, should they come back.
    pub(super) fn forget(&mut self, ids: &[SeriesId]) {
        self.totals.forget(ids);
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
        // what has to be read for it is read before readers have to wait
        let running = self.accumulate(&mut applier.totals, batch);
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
        for (series, s) in running {
            if head.push_float(series, s.at_ms, s.value, s.start_ms) {
                first.push(series);
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
        applier.totals.clear();
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
}

/// The time of a batch's first sample.
fn earliest(batch: &Batch) -> Option<i64> {
    let histograms = batch.histograms.iter().map(|h| h.at_ms);
    let deltas = batch.deltas.iter().map(|d| d.at_ms);
    batch.floats.at_ms.iter().copied().chain(histograms).chain(deltas).min()
}
