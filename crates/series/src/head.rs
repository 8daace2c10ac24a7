//! What was applied since the last seal: one dense slot per series, in pages that are locked one at a time, samples as they
//! came in slabs. A head is written to by one thread; readers see what their [`Mark`]s allow.

mod page;
mod slab;
#[cfg(test)]
mod tests;

use std::sync::atomic::{AtomicI64, AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::sync::{Arc, RwLock, RwLockReadGuard};

use model::{Exemplar, FloatRows, Histogram, SeriesBlock, SeriesId, TimeRange};

pub(crate) use page::{EXEMPLARS_MAX, Mark, PAGE};
use page::{Page, Pushed};
pub(crate) use slab::SlabPool;

/// Bytes a late sample or a histogram's place takes besides the histogram.
const SIDE_BYTES: usize = 40;

pub(crate) struct Head {
    pages: RwLock<Vec<RwLock<Page>>>,
    pool: Arc<SlabPool>,
    /// Positions above this one went into the head.
    pub(crate) from: u64,
    /// Up to this one.
    to: AtomicU64,
    samples: AtomicU64,
    late: AtomicUsize,
    side_bytes: AtomicUsize,
    min_ms: AtomicI64,
    max_ms: AtomicI64,
}

fn locked<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(|e| e.into_inner())
}

impl Head {
    pub(crate) fn new(pool: Arc<SlabPool>, from: u64) -> Self {
        Head {
            pages: RwLock::new(Vec::new()),
            pool,
            from,
            to: AtomicU64::new(from),
            samples: AtomicU64::new(0),
            late: AtomicUsize::new(0),
            side_bytes: AtomicUsize::new(0),
            min_ms: AtomicI64::new(i64::MAX),
            max_ms: AtomicI64::new(i64::MIN),
        }
    }

    pub(crate) fn to(&self) -> u64 {
        self.to.load(Relaxed)
    }

    pub(crate) fn set_to(&self, position: u64) {
        self.to.store(position, Relaxed);
    }

    pub(crate) fn samples(&self) -> u64 {
        self.samples.load(Relaxed)
    }

    /// Bytes of the slots of series, samples or not.
    pub(crate) fn slot_bytes(&self) -> usize {
        locked(&self.pages).iter().map(|p| locked(p).slot_bytes()).sum()
    }

    /// Out-of-order samples held.
    pub(crate) fn late(&self) -> usize {
        self.late.load(Relaxed)
    }

    /// Bytes of samples as they came: what a replay would have to read again, and what a seal will write.
    pub(crate) fn sample_bytes(&self) -> usize {
        self.samples() as usize * 16 + self.side_bytes.load(Relaxed)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.samples() == 0 && self.side_bytes.load(Relaxed) == 0
    }

    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_ms.load(Relaxed), self.max_ms.load(Relaxed))
    }

    fn grow(&self, bound: usize) {
        let pages = bound.div_ceil(PAGE);
        if locked(&self.pages).len() < pages {
            let mut all = self.pages.write().unwrap_or_else(|e| e.into_inner());
            let len = pages.max(all.len());
            all.resize_with(len, RwLock::default);
        }
    }

    fn saw(&self, min_ms: i64, max_ms: i64) {
        self.min_ms.fetch_min(min_ms, Relaxed);
        self.max_ms.fetch_max(max_ms, Relaxed);
    }

    /// Takes float rows; series seen for the first time in this head are appended to `first`.
    pub(crate) fn push_floats(&self, rows: &FloatRows, first: &mut Vec<SeriesId>) {
        let n = rows.series.len().min(rows.at_ms.len()).min(rows.values.len());
        let Some(bound) = rows.series[..n].iter().map(|s| s.index() + 1).max() else {
            return;
        };
        self.grow(bound);
        let pages = locked(&self.pages);
        let (mut min, mut max, mut late, mut taken) = (i64::MAX, i64::MIN, 0, 0u64);
        let mut i = 0;
        while i < n {
            let p = rows.series[i].index() / PAGE;
            let mut page = pages[p].write().unwrap_or_else(|e| e.into_inner());
            while i < n && rows.series[i].index() / PAGE == p {
                let (id, at) = (rows.series[i], rows.at_ms[i]);
                let start = rows.start_ms.get(i).copied().unwrap_or(0);
                (min, max) = (min.min(at), max.max(at));
                taken += 1;
                match page.push(id.index() % PAGE, at, rows.values[i], start, &self.pool) {
                    Pushed::First => first.push(id),
                    Pushed::Next => {}
                    Pushed::Late => late += 1,
                    Pushed::Duplicate => taken -= 1,
                }
                i += 1;
            }
        }
        self.saw(min, max);
        self.samples.fetch_add(taken, Relaxed);
        self.late.fetch_add(late, Relaxed);
        self.side_bytes.fetch_add(late * SIDE_BYTES, Relaxed);
    }

    fn with_page<R>(&self, id: SeriesId, f: impl FnOnce(&mut Page) -> R) -> R {
        self.grow(id.index() + 1);
        let pages = locked(&self.pages);
        let mut page = pages[id.index() / PAGE].write().unwrap_or_else(|e| e.into_inner());
        f(&mut page)
    }

    /// Returns whether it is the series' first sample in this head.
    pub(crate) fn push_float(&self, id: SeriesId, at_ms: i64, value: f64, start_ms: i64) -> bool {
        let pushed = self.with_page(id, |p| p.push(id.index() % PAGE, at_ms, value, start_ms, &self.pool));
        if pushed != Pushed::Duplicate {
            self.saw(at_ms, at_ms);
            self.samples.fetch_add(1, Relaxed);
        }
        if pushed == Pushed::Late {
            self.late.fetch_add(1, Relaxed);
            self.side_bytes.fetch_add(SIDE_BYTES, Relaxed);
        }
        pushed == Pushed::First
    }

    /// Returns whether it is the series' first sample in this head.
    pub(crate) fn push_histogram(&self, id: SeriesId, at_ms: i64, start_ms: i64, value: &Histogram) -> bool {
        let bytes = value.bytes() + SIDE_BYTES;
        let value = Arc::new(value.clone());
        let pushed = self.with_page(id, |p| p.push_histogram(id.index() % PAGE, at_ms, start_ms, value));
        if pushed != Pushed::Duplicate {
            self.saw(at_ms, at_ms);
            self.samples.fetch_add(1, Relaxed);
            self.side_bytes.fetch_add(bytes, Relaxed);
        }
        pushed == Pushed::First
    }

    pub(crate) fn push_exemplar(&self, id: SeriesId, exemplar: Exemplar) {
        let bytes = SIDE_BYTES + exemplar.labels.as_bytes().len();
        self.with_page(id, |p| p.push_exemplar(id.index() % PAGE, exemplar));
        self.side_bytes.fetch_add(bytes, Relaxed);
    }

    /// Counts what is kept for this head elsewhere (metadata).
    pub(crate) fn add_side_bytes(&self, bytes: usize) {
        self.side_bytes.fetch_add(bytes, Relaxed);
    }

    fn read_page<R>(&self, id: SeriesId, f: impl FnOnce(&Page) -> R) -> Option<R> {
        let pages = locked(&self.pages);
        Some(f(&locked(pages.get(id.index() / PAGE)?)))
    }

    /// What is there of each series now, in the order given (ascending ids take one lock a page).
    pub(crate) fn marks(&self, ids: &[SeriesId], mut each: impl FnMut(usize, Mark, Option<(i64, f64)>), last: bool) {
        let pages = locked(&self.pages);
        let mut i = 0;
        while i < ids.len() {
            let p = ids[i].index() / PAGE;
            let page = pages.get(p).map(locked);
            while i < ids.len() && ids[i].index() / PAGE == p {
                let n = ids[i].index() % PAGE;
                match &page {
                    Some(page) => {
                        let mark = page.mark(n);
                        each(i, mark, if last { page.last(n) } else { None });
                    }
                    None => each(i, Mark::default(), None),
                }
                i += 1;
            }
        }
    }

    pub(crate) fn mark(&self, id: SeriesId) -> Mark {
        self.read_page(id, |p| p.mark(id.index() % PAGE)).unwrap_or_default()
    }

    /// Appends the series' samples within the range and the mark to `out`: ascending, no time twice.
    pub(crate) fn read(&self, id: SeriesId, mark: Mark, range: TimeRange, out: &mut SeriesBlock) {
        self.read_page(id, |p| p.read(id.index() % PAGE, mark, range, out));
    }

    pub(crate) fn exemplars(&self, id: SeriesId) -> Vec<Exemplar> {
        self.read_page(id, |p| p.exemplars(id.index() % PAGE).to_vec())
            .unwrap_or_default()
    }

    /// All series with samples or exemplars, ascending.
    pub(crate) fn ids(&self) -> Vec<SeriesId> {
        let pages = locked(&self.pages);
        let mut ids = Vec::new();
        for (p, page) in pages.iter().enumerate() {
            ids.extend(locked(page).used().map(|n| SeriesId((p * PAGE + n) as u32)));
        }
        ids
    }
}

impl Drop for Head {
    fn drop(&mut self) {
        let pages = self.pages.get_mut().unwrap_or_else(|e| e.into_inner());
        for page in pages {
            self.pool
                .give(page.get_mut().unwrap_or_else(|e| e.into_inner()).drain_slabs());
        }
    }
}
