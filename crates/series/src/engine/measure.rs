use std::sync::Arc;

use super::Engine;
use crate::block::{Block, day_of};
use crate::retention::ClassSet;
use crate::tombstone::Tombstone;

/// What merging has left to do in some files. Parts are compared in their order, and each is a sum over the files, so that a
/// step is judged by what goes in and what comes out. It is a natural number in each part: where every step makes it less,
/// merging comes to its end whatever there is at the beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Measure {
    /// Of level 0 files: twice the days that each spans, less one. It falls when files leave level 0, and when one of them is
    /// taken apart by days.
    unsorted: u128,
    /// Files above level 0 of several retention classes.
    mixed: usize,
    /// Deletes that have to be read through, for each file.
    deletes: usize,
    files: usize,
}

impl Engine {
    /// Under these deletes.
    pub(super) fn measure(&self, blocks: &[Arc<Block>], tombstones: &[Tombstone]) -> Measure {
        let mut m = Measure::default();
        for b in blocks {
            let f = &b.footer;
            if f.level == 0 {
                m.unsorted += 2 * u128::from(span(b)) - 1;
            } else {
                m.mixed += usize::from(self.class_set(b).unwrap_or(ClassSet::NONE).is_mixed());
            }
            m.deletes += tombstones.iter().filter(|t| t.concerns(f.settled(), b.range())).count();
            m.files += 1;
        }
        m
    }
}

/// Days from a block's first to its last, at least one.
pub(super) fn span(block: &Block) -> u64 {
    let f = &block.footer;
    match f.min_ms <= f.max_ms {
        true => day_of(f.max_ms).abs_diff(day_of(f.min_ms)).saturating_add(1),
        // it holds metadata only
        false => 1,
    }
}
