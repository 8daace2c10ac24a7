//! Deltas become samples of a running value. The total is the sum of all deltas whose ends differ, in whatever order they
//! come; what it is depends on the log and on what is stored, and so is the same after a start.

use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use model::{Batch, DeltaRow, FloatRows, SeriesId};

use super::Engine;
use super::selection::{NewestFloat, Sample};

/// Samples behind a late delta that are raised by it at most. Behind more of them it raises the newest alone.
const RAISED_MAX: usize = 256;
/// Newest samples kept of a series whose deltas come late, so that the next late one needs no file.
const RECENT_MAX: usize = 32;
/// Series of which these are kept.
const RECENT_SERIES_MAX: usize = 65_536;

/// Where a delta series stands.
#[derive(Default)]
struct Running {
    /// The newest sample that is a number.
    newest: Option<Sample>,
    /// The newest such samples without a gap, up to the newest one; may be empty.
    recent: Vec<Sample>,
    /// The series has no others.
    whole: bool,
}

impl Running {
    /// Whether all samples around a time are among the recent ones.
    fn reaches(&self, at_ms: i64) -> bool {
        self.recent.first().is_some_and(|s| self.whole || s.at_ms < at_ms)
    }

    fn forget_recent(&mut self) {
        self.recent = Vec::new();
        self.whole = false;
    }

    fn trim(&mut self) {
        if self.recent.len() > 2 * RECENT_MAX {
            self.recent.drain(..self.recent.len() - RECENT_MAX);
            self.recent.shrink_to(2 * RECENT_MAX);
            self.whole = false;
        }
    }
}

/// The running values of delta series. Those of others are read when they are needed.
#[derive(Default)]
pub(super) struct Totals {
    running: HashMap<SeriesId, Running>,
    /// A bit for each series: whether there may be a running value of it.
    known: Vec<u64>,
    /// Times that recent samples were kept of a series, since all were dropped last.
    kept: usize,
}

impl Totals {
    pub(super) fn forget(&mut self, ids: &[SeriesId]) {
        if !self.running.is_empty() {
            for id in ids {
                self.running.remove(id);
            }
        }
    }

    pub(super) fn clear(&mut self) {
        *self = Totals::default();
    }

    fn insert(&mut self, id: SeriesId, newest: Option<Sample>) {
        let (word, bit) = (id.index() / 64, id.index() % 64);
        if self.known.len() <= word {
            self.known.resize(word + 1, 0);
        }
        self.known[word] |= 1 << bit;
        let running = Running {
            newest,
            ..Running::default()
        };
        self.running.insert(id, running);
    }

    /// Floats of delta series, from a sender that changed its temporality: the running value goes on from the newest
    /// sample, as it does when that is read from files.
    fn note_floats(&mut self, floats: &FloatRows) {
        if self.running.is_empty() {
            return;
        }
        for (i, id) in floats.series.iter().enumerate() {
            let word = self.known.get(id.index() / 64).copied().unwrap_or(0);
            if word & (1 << (id.index() % 64)) == 0 {
                continue;
            }
            let Some(running) = self.running.get_mut(id) else {
                continue;
            };
            running.forget_recent();
            let (at_ms, value) = (floats.at_ms[i], floats.values[i]);
            let start_ms = floats.start_ms.get(i).copied().unwrap_or(0);
            let newest_ms = running.newest.map_or(i64::MIN, |s| s.at_ms);
            if value.is_nan() {
                if at_ms == newest_ms {
                    // it takes the newest one's place
                    self.running.remove(id);
                }
            } else if at_ms >= newest_ms {
                running.newest = Some(Sample { at_ms, value, start_ms });
            }
        }
    }

    fn bound_recent(&mut self) {
        if self.kept > RECENT_SERIES_MAX {
            self.kept = 0;
            self.running.values_mut().for_each(Running::forget_recent);
        }
    }
}

/// Samples that come of a record's deltas.
type Pushes = Vec<(SeriesId, Sample)>;

impl Engine {
    /// The samples that a record's deltas come to, in the order in which they go into the head.
    pub(super) fn accumulate(&self, totals: &mut Totals, batch: &Batch) -> Pushes {
        for row in &batch.deltas {
            if !totals.running.contains_key(&row.series) {
                totals.insert(row.series, self.recover(row.series));
            }
        }
        totals.note_floats(&batch.floats);
        let mut pushes = Vec::with_capacity(batch.deltas.len());
        let mut rows: Vec<&DeltaRow> = batch.deltas.iter().collect();
        if !rows.is_sorted_by_key(|row| row.series) {
            rows.sort_by_key(|row| row.series);
        }
        for rows in rows.chunk_by(|a, b| a.series == b.series) {
            let running = totals.running.entry(rows[0].series).or_default();
            let had_recent = !running.recent.is_empty();
            let from = pushes.len();
            for row in rows {
                self.add(running, row, from, &mut pushes);
            }
            running.trim();
            totals.kept += usize::from(!had_recent && !running.recent.is_empty());
        }
        totals.bound_recent();
        pushes
    }

    /// Adds a row; `from`: the first of the pushes of its series.
    fn add(&self, running: &mut Running, row: &DeltaRow, from: usize, pushes: &mut Pushes) {
        let marker = model::is_stale(row.value);
        if !row.value.is_finite() && !marker {
            // refused before it could come here
            self.deltas_skipped.fetch_add(1, Relaxed);
            return;
        }
        let next = match running.newest {
            Some(newest) if row.at_ms <= newest.at_ms => return self.add_late(running, newest, row, from, pushes),
            Some(newest) => self.next(newest, row),
            None => Sample {
                at_ms: row.at_ms,
                value: row.value,
                start_ms: row.start_ms,
            },
        };
        if marker {
            pushes.push((row.series, next));
            return;
        }
        running.newest = Some(next);
        if !running.recent.is_empty() {
            running.recent.push(next);
        }
        pushes.push((row.series, next));
    }

    fn next(&self, newest: Sample, row: &DeltaRow) -> Sample {
        let value = newest.value + row.value;
        let mut next = Sample {
            at_ms: row.at_ms,
            value,
            start_ms: newest.start_ms,
        };
        if model::is_stale(row.value) {
            next.value = row.value;
        } else if !value.is_finite() {
            self.deltas_restarted.fetch_add(1, Relaxed);
            next.value = row.value;
            next.start_ms = row.start_ms.max(newest.at_ms);
        }
        next
    }

    /// A row that ends no later than the newest: one that ends where another does was sent again, any other is counted.
    fn add_late(&self, running: &mut Running, newest: Sample, row: &DeltaRow, from: usize, pushes: &mut Pushes) {
        let mut far = Vec::new();
        if !running.reaches(row.at_ms) {
            let mut found = match self.neighbours(row.series, row.at_ms, RAISED_MAX) {
                Ok(found) => found,
                Err(what) => return self.add_unseen(running, newest, row, what, pushes),
            };
            let last_ms = if found.last {
                i64::MAX
            } else {
                found.samples.last().map_or(i64::MIN, |s| s.at_ms)
            };
            // what this record brought is not stored yet
            for (_, pushed) in &pushes[from..] {
                if !pushed.value.is_nan() && pushed.at_ms <= last_ms {
                    put(&mut found.samples, *pushed);
                }
            }
            if found.last {
                // it may have expired
                put(&mut found.samples, newest);
                running.whole = found.first;
                running.recent = found.samples;
            } else {
                far = found.samples;
            }
        }
        let samples = if far.is_empty() { &mut running.recent } else { &mut far };
        // this record may have brought one that is nearer
        let i = samples.partition_point(|s| s.at_ms < row.at_ms);
        if samples.get(i).is_some_and(|s| s.at_ms == row.at_ms) {
            if !model::is_stale(row.value) {
                self.deltas_skipped.fetch_add(1, Relaxed);
            }
            return;
        }
        let before = i.checked_sub(1).map(|i| samples[i]);
        let behind = samples.get(i).copied().unwrap_or(newest);
        let era = before.map_or(behind.start_ms, |s| s.start_ms);
        if model::is_stale(row.value) {
            let marker = Sample {
                at_ms: row.at_ms,
                value: row.value,
                start_ms: era,
            };
            pushes.push((row.series, marker));
            return;
        }
        self.deltas_late.fetch_add(1, Relaxed);
        let mut own = Sample {
            at_ms: row.at_ms,
            value: before.map_or(0.0, |s| s.value),
            start_ms: era,
        };
        // up to where it started anew
        let raised = samples[i..].iter().take_while(|s| s.start_ms == era).count();
        let finite = |value: f64| (value + row.value).is_finite();
        let few = samples.len() - i <= RAISED_MAX && finite(own.value);
        if few && samples[i..i + raised].iter().all(|s| finite(s.value)) {
            // a sample must not begin behind the one before it: that would look like a reset
            let start_ms = before.map_or(era.min(row.start_ms), |_| era);
            own.value += row.value;
            own.start_ms = start_ms;
            pushes.push((row.series, own));
            for s in &mut samples[i..i + raised] {
                s.value += row.value;
                s.start_ms = start_ms;
                pushes.push((row.series, *s));
            }
            samples.insert(i, own);
            running.newest = samples.last().copied();
            return;
        }
        // the sample tells that the delta was counted, the newest one has it
        pushes.push((row.series, own));
        samples.insert(i, own);
        self.raise(running, newest, row, pushes);
    }

    /// Adds a late row to the newest sample alone.
    fn raise(&self, running: &mut Running, newest: Sample, row: &DeltaRow, pushes: &mut Pushes) {
        let mut raised = newest;
        raised.value += row.value;
        if !raised.value.is_finite() {
            self.deltas_restarted.fetch_add(1, Relaxed);
            raised.value = row.value;
            raised.start_ms = newest.at_ms - 1;
        }
        running.newest = Some(raised);
        if let Some(last) = running.recent.last_mut() {
            *last = raised;
        }
        pushes.push((row.series, raised));
    }

    /// Adds a late row when what lies around it cannot be read: whether it was sent again cannot be known.
    fn add_unseen(&self, running: &mut Running, newest: Sample, row: &DeltaRow, what: String, pushes: &mut Pushes) {
        if model::is_stale(row.value) {
            return;
        }
        tracing::warn!(
            what,
            "the samples around a late delta cannot be read: it is added to the newest one"
        );
        self.deltas_late.fetch_add(1, Relaxed);
        self.raise(running, newest, row, pushes);
    }

    /// The newest number of a delta series, from which its running value goes on; none for a new series. Where that cannot
    /// be read, the count starts anew with a start time of its own, which readers can take for a counter that was reset:
    /// going on from an older sample would look like an increase that never was.
    fn recover(&self, id: SeriesId) -> Option<Sample> {
        match self.newest_float(id) {
            NewestFloat::Known(newest) => Some(newest),
            NewestFloat::Nothing => None,
            NewestFloat::Unreadable(what) => {
                self.deltas_restarted.fetch_add(1, Relaxed);
                tracing::warn!(
                    what,
                    "the running value of a delta series cannot be read: it starts anew"
                );
                None
            }
        }
    }
}

/// Puts a sample into ascending ones, in the place of the one of its time.
fn put(samples: &mut Vec<Sample>, new: Sample) {
    let i = samples.partition_point(|s| s.at_ms < new.at_ms);
    match samples.get_mut(i) {
        Some(same) if same.at_ms == new.at_ms => *same = new,
        _ => samples.insert(i, new),
    }
}
