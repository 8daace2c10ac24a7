use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// One sample, or the start of a run of samples: twelve bytes, because heads are most of what the engine holds.
#[derive(Clone, Copy, Default)]
#[repr(C, packed(4))]
pub(crate) struct Cell {
    /// Of a sample: milliseconds behind the base of its run. Of a run's start: the cell of the next run's start.
    pub(crate) at: u32,
    /// Of a run's start: the bits are the run's base, in Unix ms.
    pub(crate) value: f64,
}

/// Cells of a slab.
pub(crate) const SLAB_CELLS: usize = 1024;

pub(crate) type Slab = Box<[Cell]>;

/// Slabs that no head uses now. They are kept, because fresh memory costs a page fault for each 4 KiB.
pub(crate) struct SlabPool {
    free: Mutex<Vec<Slab>>,
    made: AtomicUsize,
    keep: usize,
}

impl SlabPool {
    /// `keep_bytes`: free memory that is kept at most.
    pub(crate) fn new(keep_bytes: usize) -> Self {
        SlabPool {
            free: Mutex::new(Vec::new()),
            made: AtomicUsize::new(0),
            keep: keep_bytes / (SLAB_CELLS * size_of::<Cell>()),
        }
    }

    pub(crate) fn take(&self) -> Slab {
        let free = self.free.lock().unwrap_or_else(|e| e.into_inner()).pop();
        free.unwrap_or_else(|| {
            self.made.fetch_add(1, Relaxed);
            vec![Cell::default(); SLAB_CELLS].into_boxed_slice()
        })
    }

    pub(crate) fn give(&self, slabs: impl Iterator<Item = Slab>) {
        let mut free = self.free.lock().unwrap_or_else(|e| e.into_inner());
        for slab in slabs {
            if free.len() < self.keep {
                free.push(slab);
            } else {
                self.made.fetch_sub(1, Relaxed);
            }
        }
    }

    /// Frees what no head uses.
    pub(crate) fn clear(&self) {
        let free = std::mem::take(&mut *self.free.lock().unwrap_or_else(|e| e.into_inner()));
        self.made.fetch_sub(free.len(), Relaxed);
    }

    /// Bytes of all slabs, in use or free.
    pub(crate) fn bytes(&self) -> usize {
        self.made.load(Relaxed) * SLAB_CELLS * size_of::<Cell>()
    }
}
