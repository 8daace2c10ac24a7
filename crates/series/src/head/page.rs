use std::collections::HashMap;
use std::sync::Arc;

use model::{Exemplar, Histogram, SeriesBlock, TimeRange};

use super::slab::{Cell, SLAB_CELLS, Slab, SlabPool};
use crate::merge;

/// Series of a page.
pub(crate) const PAGE: usize = 1024;

/// Cells of a series' first, second, ... run, its link included; the last size repeats.
const RUNS: [u16; 7] = [3, 5, 5, 9, 9, 17, 33];

/// Exemplars kept per series: the latest by arrival.
pub(crate) const EXEMPLARS_MAX: usize = 10;

/// The series has entries in `sides`.
const SIDE: u8 = 1;
/// Its side has histograms.
const HISTOGRAMS: u8 = 2;
/// A sample in order lies too far behind the others to be kept with them.
const FAR: u8 = 4;

#[derive(Clone, Copy, Default)]
struct Slot {
    first: u32,
    next: u32,
    len: u32,
    left: u16,
    run: u8,
    flags: u8,
    /// Base of the run that is being filled: the time of its first sample.
    base_ms: i64,
    /// Behind the base.
    last: u32,
}

impl Slot {
    fn last_ms(&self) -> i64 {
        self.base_ms + i64::from(self.last)
    }
}

struct Late {
    order: u32,
    at_ms: i64,
    value: f64,
    start_ms: i64,
}

struct Bucketed {
    order: u32,
    at_ms: i64,
    start_ms: i64,
    value: Arc<Histogram>,
}

/// What few series have.
#[derive(Default)]
struct Side {
    order: u32,
    /// Out of order, or a second value for a time; in order of arrival.
    late: Vec<Late>,
    /// In order of arrival.
    histograms: Vec<Bucketed>,
    /// (from this time on, start time), for the samples in order.
    starts: Vec<(i64, i64)>,
    exemplars: Vec<Exemplar>,
}

/// How much of a series a reader may see: what had been applied when it came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) len: u32,
    pub(crate) late: u32,
    pub(crate) histograms: u32,
}

impl Mark {
    pub(crate) const ALL: Mark = Mark {
        len: u32::MAX,
        late: u32::MAX,
        histograms: u32::MAX,
    };

    pub(crate) fn is_empty(&self) -> bool {
        self.len == 0 && self.late == 0 && self.histograms == 0
    }
}

/// What became of a float sample.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pushed {
    /// The first sample of its series in this head.
    First,
    Next,
    Late,
    Duplicate,
}

#[derive(Default)]
pub(crate) struct Page {
    slots: Vec<Slot>,
    slabs: Vec<Slab>,
    used: u32,
    sides: HashMap<u16, Side>,
}

impl Page {
    fn slot(&mut self, n: usize) -> &mut Slot {
        if self.slots.is_empty() {
            self.slots.resize(PAGE, Slot::default());
        }
        &mut self.slots[n]
    }

    pub(crate) fn slot_bytes(&self) -> usize {
        self.slots.capacity() * size_of::<Slot>()
    }

    fn run(&mut self, cells: u16, pool: &SlabPool) -> u32 {
        let room = SLAB_CELLS as u32 - self.used % SLAB_CELLS as u32;
        if self.slabs.is_empty() || room < u32::from(cells) || self.used as usize == self.slabs.len() * SLAB_CELLS {
            self.used = (self.slabs.len() * SLAB_CELLS) as u32;
            self.slabs.push(pool.take());
        }
        let at = self.used;
        self.used += u32::from(cells);
        at
    }

    fn cell(&mut self, at: u32) -> &mut Cell {
        &mut self.slabs[at as usize / SLAB_CELLS][at as usize % SLAB_CELLS]
    }

    pub(crate) fn push(&mut self, n: usize, at_ms: i64, value: f64, start_ms: i64, pool: &SlabPool) -> Pushed {
        let slot = *self.slot(n);
        // an exemplar that came before makes no sample
        let empty = slot.len == 0 && (slot.flags == 0 || self.mark(n).is_empty());
        if slot.len > 0 && at_ms <= slot.last_ms() {
            let last = self.cell(slot.next - 1).value;
            if at_ms == slot.last_ms() && last.to_bits() == value.to_bits() && self.repeats(n, at_ms, start_ms) {
                return Pushed::Duplicate;
            }
            return self.push_late(n, at_ms, value, start_ms);
        }
        // beyond the 49 days that a run can span the sample counts as out of order, and so does all that follows: an
        // earlier one of its time may be there
        let base_ms = if slot.left == 0 { at_ms } else { slot.base_ms };
        let behind = at_ms.checked_sub(base_ms).and_then(|d| u32::try_from(d).ok());
        let Some(at) = behind.filter(|_| slot.flags & FAR == 0) else {
            self.slots[n].flags |= FAR;
            return self.push_late(n, at_ms, value, start_ms);
        };
        if slot.flags != 0 || start_ms != 0 {
            if slot.flags & HISTOGRAMS != 0 {
                // a float may meet a histogram of the same time: only arrival decides then
                self.push_late(n, at_ms, value, start_ms);
                return if empty { Pushed::First } else { Pushed::Next };
            }
            let side = self.sides.entry(n as u16).or_default();
            if side.starts.last().map_or(0, |s| s.1) != start_ms {
                side.starts.push((at_ms, start_ms));
                self.slots[n].flags |= SIDE;
            }
        }
        if slot.left == 0 {
            let size = RUNS[usize::from(slot.run).min(RUNS.len() - 1)];
            let first = self.run(size, pool);
            if slot.len == 0 {
                self.slots[n].first = first;
            } else {
                // the full run begins as many cells back as it is long
                let full = RUNS[usize::from(slot.run - 1).min(RUNS.len() - 1)];
                self.cell(slot.next - u32::from(full)).at = first;
            }
            self.cell(first).value = f64::from_bits(base_ms as u64);
            let slot = &mut self.slots[n];
            slot.base_ms = base_ms;
            slot.next = first + 1;
            slot.left = size - 1;
            slot.run = slot.run.saturating_add(1);
        }
        let next = self.slots[n].next;
        *self.cell(next) = Cell { at, value };
        let slot = &mut self.slots[n];
        slot.next += 1;
        slot.left -= 1;
        slot.len += 1;
        slot.last = at;
        if empty { Pushed::First } else { Pushed::Next }
    }

    /// Whether a sample with the time and value of the last one in order has its start time, too, and nothing else of
    /// that time came since.
    fn repeats(&self, n: usize, at_ms: i64, start_ms: i64) -> bool {
        let slot = &self.slots[n];
        match self.sides.get(&(n as u16)).filter(|_| slot.flags != 0) {
            None => start_ms == 0,
            Some(side) => {
                side.starts.last().map_or(0, |s| s.1) == start_ms
                    && side.histograms.is_empty()
                    && side.late.iter().all(|l| l.at_ms != at_ms)
            }
        }
    }

    fn push_late(&mut self, n: usize, at_ms: i64, value: f64, start_ms: i64) -> Pushed {
        self.slots[n].flags |= SIDE;
        let side = self.sides.entry(n as u16).or_default();
        if let Some(last) = side.late.last()
            && (last.at_ms, last.value.to_bits(), last.start_ms) == (at_ms, value.to_bits(), start_ms)
            && last.order + 1 == side.order
        {
            return Pushed::Duplicate;
        }
        let order = side.order;
        side.order += 1;
        side.late.push(Late {
            order,
            at_ms,
            value,
            start_ms,
        });
        Pushed::Late
    }

    /// Returns whether this is the series' first sample in this head.
    pub(crate) fn push_histogram(&mut self, n: usize, at_ms: i64, start_ms: i64, value: Arc<Histogram>) -> Pushed {
        let empty = self.mark(n).is_empty();
        self.slot(n).flags |= SIDE | HISTOGRAMS;
        let side = self.sides.entry(n as u16).or_default();
        if let Some(last) = side.histograms.last()
            && (last.at_ms, last.start_ms) == (at_ms, start_ms)
            && last.order + 1 == side.order
            && *last.value == *value
        {
            return Pushed::Duplicate;
        }
        let order = side.order;
        side.order += 1;
        side.histograms.push(Bucketed {
            order,
            at_ms,
            start_ms,
            value,
        });
        if empty { Pushed::First } else { Pushed::Next }
    }

    pub(crate) fn push_exemplar(&mut self, n: usize, exemplar: Exemplar) {
        self.slot(n).flags |= SIDE;
        let list = &mut self.sides.entry(n as u16).or_default().exemplars;
        if list.contains(&exemplar) {
            return;
        }
        if list.len() == EXEMPLARS_MAX {
            list.remove(0);
        }
        list.push(exemplar);
    }

    pub(crate) fn exemplars(&self, n: usize) -> &[Exemplar] {
        self.sides.get(&(n as u16)).map_or(&[], |s| &s.exemplars)
    }

    pub(crate) fn mark(&self, n: usize) -> Mark {
        let Some(slot) = self.slots.get(n) else {
            return Mark::default();
        };
        let side = if slot.flags == 0 {
            None
        } else {
            self.sides.get(&(n as u16))
        };
        Mark {
            len: slot.len,
            late: side.map_or(0, |s| s.late.len() as u32),
            histograms: side.map_or(0, |s| s.histograms.len() as u32),
        }
    }

    /// The newest float, when no late sample or histogram can be newer or take its place.
    pub(crate) fn last(&self, n: usize) -> Option<(i64, f64)> {
        let slot = self.slots.get(n).filter(|s| s.len > 0)?;
        if slot.flags != 0
            && let Some(side) = self.sides.get(&(n as u16))
            && (!side.histograms.is_empty() || side.late.iter().any(|l| l.at_ms >= slot.last_ms()))
        {
            return None;
        }
        let at = slot.next as usize - 1;
        let cell = self.slabs[at / SLAB_CELLS][at % SLAB_CELLS];
        Some((slot.last_ms(), cell.value))
    }

    /// Appends the series' samples within the range and the mark to `out`: ascending, no time twice.
    pub(crate) fn read(&self, n: usize, mark: Mark, range: TimeRange, out: &mut SeriesBlock) {
        let Some(slot) = self.slots.get(n) else { return };
        let tail = merge::begin(out);
        let len = slot.len.min(mark.len);
        let side = if slot.flags == 0 {
            None
        } else {
            self.sides.get(&(n as u16))
        };
        let starts = side.map_or(&[][..], |s| &s.starts);
        self.read_run(slot, len, range, starts, out);
        let Some(side) = side else { return };
        let late = &side.late[..side.late.len().min(mark.late as usize)];
        let histograms = &side.histograms[..side.histograms.len().min(mark.histograms as usize)];
        if late.is_empty() && histograms.is_empty() {
            return;
        }
        // (time, arrival, histogram?, index); what was in order comes before all others of its time
        let mut order: Vec<(i64, u32, bool, usize)> = Vec::with_capacity(late.len() + histograms.len());
        order.extend(late.iter().enumerate().map(|(i, l)| (l.at_ms, l.order, false, i)));
        order.extend(histograms.iter().enumerate().map(|(i, h)| (h.at_ms, h.order, true, i)));
        order.retain(|o| range.contains(o.0));
        if order.is_empty() {
            return;
        }
        order.sort_unstable();
        let mut own = SeriesBlock::default();
        let first = merge::begin(&own);
        self.read_run(slot, len, range, starts, &mut own);
        merge::pad_starts(&mut own);
        let second = merge::begin(&own);
        for (i, &(at, _, histogram, index)) in order.iter().enumerate() {
            if order.get(i + 1).is_some_and(|next| next.0 == at) {
                continue;
            }
            if histogram {
                let h = &histograms[index];
                merge::push_histogram(&mut own, at, Arc::clone(&h.value), h.start_ms);
            } else {
                merge::push_float(&mut own, at, late[index].value, late[index].start_ms);
            }
        }
        merge::settle(&mut own, &[first, second]);
        merge::append(out, tail, own);
    }

    fn read_run(&self, slot: &Slot, len: u32, range: TimeRange, starts: &[(i64, i64)], out: &mut SeriesBlock) {
        let (mut at, mut run, mut left) = (slot.first as usize, 0usize, len as usize);
        while left > 0 {
            let size = usize::from(RUNS[run.min(RUNS.len() - 1)]);
            let cells = &self.slabs[at / SLAB_CELLS][at % SLAB_CELLS..at % SLAB_CELLS + size];
            let base_ms = { cells[0].value }.to_bits() as i64;
            for c in &cells[1..1 + left.min(size - 1)] {
                let at_ms = base_ms + i64::from(c.at);
                if range.contains(at_ms) {
                    if starts.is_empty() {
                        out.at_ms.push(at_ms);
                        out.values.push(c.value);
                    } else {
                        let i = starts.partition_point(|s| s.0 <= at_ms);
                        let start = if i == 0 { 0 } else { starts[i - 1].1 };
                        merge::push_float(out, at_ms, c.value, start);
                    }
                }
            }
            left = left.saturating_sub(size - 1);
            at = cells[0].at as usize;
            run += 1;
        }
        merge::pad_starts(out);
    }

    /// Series of the page with samples or exemplars.
    pub(crate) fn used(&self) -> impl Iterator<Item = usize> {
        self.slots
            .iter()
            .enumerate()
            .filter(|(_, s)| s.len > 0 || s.flags != 0)
            .map(|(n, _)| n)
    }

    pub(crate) fn drain_slabs(&mut self) -> std::vec::Drain<'_, Slab> {
        self.slabs.drain(..)
    }
}
