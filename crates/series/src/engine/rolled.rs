//! What a selection takes from rollups: where its windows are made of whole buckets and the function allows, a day of a
//! series is read from them instead of from its samples, as long as nothing but the files that they were made of holds
//! samples of that series and day, and nothing of it was deleted since. Rollups that stand alone are read in any case.

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{Budget, Hints, SeriesBlock, SeriesSet, SourceError, TimeRange, Want};

use super::rollups::columns_of;
use super::selection::{Selection, Source};
use super::view::{Rollup, View};
use crate::block::{NO_SERIES, Number, ReadError};
use crate::head::Mark;
use crate::rollup::{NAMES, RESOLUTIONS, Use, add_up};

const NONE: Number = Number::MAX;

/// A file of rollups of a selection.
pub(super) struct Rolled {
    pub(super) source: Source,
    rollup: Rollup,
    /// Places among the selection's sources of files that hold samples of its day and are not what it was made of.
    rivals: Vec<usize>,
    /// Heads have samples of its day.
    heads: bool,
}

/// What a selection knows of its rollups.
#[derive(Default)]
pub(super) struct Rollups {
    /// By day; no two hold the same series of the same day.
    pub(super) list: Vec<Rolled>,
    what: Option<Use>,
    weighed: bool,
    /// Bits of the resolutions that samples were taken from which there are no longer.
    told: std::sync::atomic::AtomicU8,
}

impl Rollups {
    pub(super) fn push(&mut self, rollup: Rollup, column: Vec<Number>) {
        self.list.push(Rolled {
            source: Source::new(Arc::clone(&rollup.block), Arc::new(column)),
            rollup,
            rivals: Vec::new(),
            heads: false,
        });
    }

    /// Whether the samples of an entry are only here.
    pub(super) fn alone_hold(&self, index: usize) -> bool {
        self.list
            .iter()
            .any(|r| r.rollup.alone && r.source.number(index) != NONE)
    }

    pub(super) fn columns(&self) -> usize {
        self.list.len()
    }
}

/// The rollups to be read: of those made of the same files the coarsest that serves the reader, or the finest when they
/// stand alone and none does.
pub(super) fn chosen(view: &View, range: TimeRange, hints: &Hints) -> Vec<Rollup> {
    let serves = |r: &Rollup| {
        hints.want == Want::Samples
            && hints.aligned_ms > 0
            && hints.aligned_ms % r.from.resolution == 0
            && Use::of(&hints.function).is_some()
    };
    let mut best: Vec<&Rollup> = Vec::new();
    for r in view.rollups.iter().filter(|r| r.block.range().overlaps(&range)) {
        if !r.alone && !serves(r) {
            continue;
        }
        let same = |o: &&mut &Rollup| o.block.footer.day == r.block.footer.day && o.from.sources == r.from.sources;
        match best.iter_mut().find(same) {
            None => best.push(r),
            Some(other) => {
                let coarser = r.from.resolution > other.from.resolution;
                let better = match (serves(r), serves(other)) {
                    (true, true) => coarser,
                    (true, false) => true,
                    (false, true) => false,
                    (false, false) => !coarser,
                };
                if better {
                    *other = r;
                }
            }
        }
    }
    best.into_iter().cloned().collect()
}

impl Selection {
    /// To be called when sources are in their last order.
    pub(super) fn prepare_rollups(&mut self, hints: &Hints) {
        let (sources, view) = (&self.sources, &self.view);
        for r in &mut self.rollups.list {
            let day = r.rollup.day();
            let rival = |s: &Source| s.range().overlaps(&day) && !r.rollup.from.sources.contains(&s.id());
            r.rivals = (0..sources.len()).filter(|&i| rival(&sources[i])).collect();
            let mut heads = view.frozen.iter().chain([&view.active]);
            r.heads = heads.any(|h| h.samples() > 0 && h.range().overlaps(&day));
        }
        self.rollups.what = Use::of(&hints.function);
        self.rollups.weighed = match self.rollups.what {
            Some(Use::Kept { weights, .. }) => weights,
            Some(Use::Sums) => hints.function == "avg_over_time",
            None => false,
        };
    }

    /// Replaces the block by an entry's samples, or by what rollups have instead.
    pub(super) fn read_rolled(
        &self,
        index: usize,
        block: &mut SeriesBlock,
        budget: &Budget,
    ) -> Result<(), SourceError> {
        if self.rollups.list.iter().all(|r| r.source.number(index) == NONE) {
            return self.read_range(index, self.range, block, budget);
        }
        let mut taken = self.take(index, true, budget)?;
        loop {
            let sources = self.sources.iter().filter(|s| !taken.replaced.contains(&s.id()));
            self.read_sources(sources, index, self.range, block, budget)?;
            let exact = taken.replaced.is_empty()
                || self.rollups.what != Some(Use::Sums)
                || add_up(&block.values, taken.size) && block.histograms.is_empty();
            if exact {
                break;
            }
            // all the samples then, where there are any
            taken = self.take(index, false, budget)?;
        }
        if !taken.block.is_empty() {
            self.reads
                .rollup_samples
                .fetch_add(taken.block.at_ms.len() as u64, Relaxed);
            self.reads.rolled_samples.fetch_add(taken.stands_for, Relaxed);
            splice(block, &taken.block, self.rollups.weighed);
        }
        Ok(())
    }

    /// What rollups have of an entry; `instead`: also in the place of samples that are there.
    fn take(&self, index: usize, instead: bool, budget: &Budget) -> Result<Taken, SourceError> {
        let mut taken = Taken::default();
        let what = self.rollups.what.unwrap_or(Use::Kept {
            falls: false,
            weights: false,
        });
        let mut inexact = false;
        for r in &self.rollups.list {
            let number = r.source.number(index);
            let alone = r.rollup.alone;
            if number == NONE || (!alone && (!instead || inexact || self.contested(index, r)?)) {
                continue;
            }
            let Some(directory) = self.directory(&r.source)? else {
                continue;
            };
            let mut chunks = Vec::new();
            let file = &r.rollup.block;
            let found = directory
                .chunks(number, &mut chunks)
                .map_err(|_| {
                    let d = file.footer.directory;
                    ReadError::Damaged("directory", d.offset, d.len)
                })
                .and_then(|()| columns_of(file, &directory, &chunks, &self.shared.chunks));
            let mut columns = match found {
                Ok(columns) => columns,
                Err(e) if alone => {
                    self.failed(file, &e)?;
                    continue;
                }
                // the samples are there
                Err(ReadError::Io(_)) => continue,
                Err(e) => {
                    self.shared.quarantine.block(file, &e);
                    continue;
                }
            };
            self.reads.count(&chunks);
            if alone {
                let settled = file.footer.settled();
                let cuts = self.cuts(index);
                let cuts: Vec<TimeRange> = cuts.iter().filter(|t| settled < t.position).map(|t| t.range).collect();
                columns.cut(&cuts, r.rollup.from.resolution);
            } else if !columns.serves(what, self.range) {
                // one inexact sum makes all of them so
                inexact |= what == Use::Sums;
                continue;
            }
            let read = columns.append(what, self.range, &mut taken.block);
            budget.samples(read as u64)?;
            taken.stands_for += columns.stands_for(self.range);
            taken.size += columns.size(self.range).unwrap_or(0.0);
            match alone {
                true if read > 0 => {
                    let place = RESOLUTIONS.iter().position(|&x| x == r.rollup.from.resolution);
                    self.rollups.told.fetch_or(1 << place.unwrap_or(0), Relaxed);
                }
                true => {}
                false => taken.replaced.extend(&r.rollup.from.sources),
            }
        }
        if inexact && !taken.replaced.is_empty() {
            return self.take(index, false, budget);
        }
        Ok(taken)
    }

    /// Whether something besides the files that rollups were made of has a say in an entry's samples of the day.
    fn contested(&self, index: usize, r: &Rolled) -> Result<bool, SourceError> {
        let day = r.rollup.day();
        let settled = r.rollup.block.footer.settled();
        let mut tombstones = self.tombstones.iter().filter(|t| t.concerns(settled, day));
        if tombstones.clone().next().is_some() {
            let labels = self.labels(index);
            if tombstones.any(|t| t.matches(self.tenant, &labels)) {
                return Ok(true);
            }
        }
        let mut found = false;
        let rivals = r.rivals.iter().map(|&i| &self.sources[i]);
        self.chunks_of(rivals, index, day, |_, _, _| {
            found = true;
            Ok(())
        })?;
        let id = self.ids[index];
        if found || !r.heads || id == NO_SERIES {
            return Ok(found);
        }
        let mut block = SeriesBlock::default();
        for head in &self.view.frozen {
            head.read(id, Mark::ALL, day, &mut block);
        }
        let mark = self.marks.get(index).copied().unwrap_or(Mark::ALL);
        if !mark.is_empty() {
            self.view.active.read(id, mark, day, &mut block);
        }
        Ok(!block.is_empty())
    }

    /// Which rollups were read in the place of samples that are gone.
    pub(super) fn rollups_told(&self) -> Vec<String> {
        let told = self.rollups.told.load(Relaxed);
        let each = (0..RESOLUTIONS.len()).filter(|i| told & 1 << i != 0);
        each.map(|i| {
            format!(
                "PromQL info: answered from {} rollups where samples are past their retention: of each bucket a few true \
                 samples, its count and its sum",
                NAMES[i]
            )
        })
        .collect()
    }
}

/// What rollups gave of one series.
#[derive(Default)]
struct Taken {
    block: SeriesBlock,
    /// Files in whose place it comes.
    replaced: Vec<u64>,
    stands_for: u64,
    /// Bound of the sizes of all values that sums stand for.
    size: f64,
}

/// Puts rollups (ascending) between samples; where both have a time, the sample stands.
fn splice(block: &mut SeriesBlock, rolled: &SeriesBlock, weighed: bool) {
    let mut out = SeriesBlock::default();
    let (mut i, mut j) = (0, 0);
    while i < block.at_ms.len() || j < rolled.at_ms.len() {
        let sample = block.at_ms.get(i).copied();
        let other = rolled.at_ms.get(j).copied();
        let (from, at, weight) = match (sample, other) {
            (Some(a), Some(b)) if b < a => (rolled, j, rolled.weights[j]),
            (None, Some(_)) => (rolled, j, rolled.weights[j]),
            (Some(a), Some(b)) if a == b => {
                j += 1;
                (&*block, i, 1)
            }
            _ => (&*block, i, 1),
        };
        let start = from.start_ms.get(at).copied().unwrap_or(0);
        crate::merge::push_float(&mut out, from.at_ms[at], from.values[at], start);
        if weighed {
            out.weights.push(weight);
        }
        if std::ptr::eq(from, rolled) {
            j += 1;
        } else {
            i += 1;
        }
    }
    out.histogram_at_ms = std::mem::take(&mut block.histogram_at_ms);
    out.histograms = std::mem::take(&mut block.histograms);
    out.histogram_start_ms = std::mem::take(&mut block.histogram_start_ms);
    *block = out;
}
