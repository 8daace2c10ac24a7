//! What a selection takes from rollups: where its windows are made of whole buckets and the function allows, a day of a
//! series is read from them instead of from its samples, as long as nothing but the files that they were made of holds
//! samples of that series and day, and nothing of it was deleted since. Rollups that stand alone are read in any case.

use std::cmp::Reverse;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{Budget, Hints, SeriesBlock, SeriesSet, SourceError, TimeRange, Want};

use super::rollups::columns_of;
use super::selection::{Selection, Source};
use super::view::{Rollup, View};
use crate::block::{NO_SERIES, Number, ReadError};
use crate::head::Mark;
use crate::rollup::{Columns, NAMES, RESOLUTIONS, Use, add_up, bucket_range, retain_floats};

const NONE: Number = Number::MAX;

/// Where the bits of resolutions that lack falls begin.
const LACKING: usize = 4;

/// A file of rollups of a selection.
pub(super) struct Rolled {
    pub(super) source: Source,
    rollup: Rollup,
    /// Places among the selection's sources of files that hold samples of its day and are not what it was made of.
    rivals: Vec<usize>,
    /// Heads have samples of its day.
    heads: bool,
    /// It is read only where the one before it, coarser and made of the same files, does not have every fall.
    spare: bool,
}

/// What a selection knows of its rollups.
#[derive(Default)]
pub(super) struct Rollups {
    /// By day; no two hold the same series of the same day.
    pub(super) list: Vec<Rolled>,
    what: Option<Use>,
    weighed: bool,
    /// Bits of the resolutions that samples were taken from which there are no longer; [`LACKING`] bits higher, of those that
    /// lacked falls which were needed.
    told: std::sync::atomic::AtomicU8,
}

impl Rollups {
    pub(super) fn push(&mut self, rollup: Rollup, column: Vec<Number>) {
        self.list.push(Rolled {
            source: Source::new(Arc::clone(&rollup.block), Arc::new(column)),
            rollup,
            rivals: Vec::new(),
            heads: false,
            spare: false,
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

/// The rollups to be read, by day: of those that are made of the same files the coarsest that serves the reader, or the finest
/// when they stand alone and none does. Where they stand alone and every fall is needed, finer ones come behind the coarser.
/// Of two that share some of their files, one is left from before the other was made: the one made of more counts.
pub(super) fn chosen(view: &View, range: TimeRange, hints: &Hints) -> Vec<Rollup> {
    let what = Use::of(&hints.function);
    let serves = |r: &Rollup| {
        hints.want == Want::Samples
            && hints.aligned_ms > 0
            && hints.aligned_ms % r.from.resolution == 0
            && what.is_some()
    };
    let falls = matches!(what, Some(Use::Kept { falls: true, .. }));
    let there = view.rollups.iter().filter(|r| r.block.range().overlaps(&range));
    let mut ranked: Vec<&Rollup> = there.filter(|r| r.alone || serves(r)).collect();
    ranked.sort_by_key(|r| {
        let (served, resolution) = (serves(r), r.from.resolution);
        let by_length = if served { -resolution } else { resolution };
        let newest = Reverse(r.block.id());
        (
            r.block.footer.day,
            !served,
            Reverse(r.from.sources.len()),
            by_length,
            newest,
        )
    });
    let mut best: Vec<&Rollup> = Vec::new();
    for r in ranked {
        let of_day = best.partition_point(|o| o.block.footer.day < r.block.footer.day);
        let mut sharing = (of_day..best.len()).filter(|&i| best[i].from.shares(&r.from.sources));
        let (first, second) = (sharing.next(), sharing.next());
        let Some(i) = first else {
            best.push(r);
            continue;
        };
        let o = best[i];
        let finer = r.from.sources == o.from.sources && r.from.resolution < o.from.resolution;
        if second.is_none() && finer && falls && r.alone && o.alone {
            best.insert(i + 1, r);
        }
    }
    best.into_iter().cloned().collect()
}

impl Selection {
    /// To be called when sources are in their last order.
    pub(super) fn prepare_rollups(&mut self, hints: &Hints) {
        let (sources, view) = (&self.sources, &self.view);
        let mut before: Option<(i64, Vec<u64>)> = None;
        for r in &mut self.rollups.list {
            let made_of = Some((r.rollup.block.footer.day, r.rollup.from.sources.clone()));
            r.spare = before == made_of;
            before = made_of;
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
            return self.read_stated(index, block, budget);
        }
        let mut taken = self.take(index, true, budget)?;
        loop {
            let sources = self.sources.iter().filter(|s| !taken.replaced.contains(&s.id()));
            let read = self.read_sources(sources, &[], index, self.range, block, budget)?;
            let exact = taken.replaced.is_empty()
                || self.rollups.what != Some(Use::Sums)
                || add_up(&block.values, taken.size) && block.histograms.is_empty();
            if exact {
                break;
            }
            // all the samples then, where there are any; each counts once
            budget.uncount(read + taken.counted, 0);
            taken = self.take(index, false, budget)?;
        }
        if !taken.block.is_empty() {
            self.reads
                .rollup_samples
                .fetch_add(taken.block.at_ms.len() as u64, Relaxed);
            self.reads.rolled_samples.fetch_add(taken.stands_for, Relaxed);
            taken.settle(block, self.rollups.what == Some(Use::Sums));
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
        // whether the one before has not every fall that is needed
        let mut lacking = false;
        for (i, r) in self.rollups.list.iter().enumerate() {
            if r.spare && !std::mem::take(&mut lacking) {
                continue;
            }
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
            let resolution = r.rollup.from.resolution;
            let mut too_few = false;
            if alone {
                let settled = file.footer.settled();
                let cuts = self.cuts(index);
                let cuts: Vec<TimeRange> = cuts.iter().filter(|t| settled < t.position).map(|t| t.range).collect();
                columns.cut(&cuts, resolution);
                too_few = what != Use::Sums && !columns.serves(what, self.range);
                if too_few && self.rollups.list.get(i + 1).is_some_and(|next| next.spare) {
                    lacking = true;
                    continue;
                }
                if self.rollups.weighed || what == Use::Sums {
                    taken.note(&columns, resolution, r.rollup.day(), self.range);
                }
            } else if !columns.serves(what, self.range) {
                // one inexact sum makes all of them so
                inexact |= what == Use::Sums;
                continue;
            }
            let read = columns.append(what, self.range, &mut taken.block);
            budget.samples(read as u64)?;
            taken.counted += read as u64;
            taken.stands_for += columns.stands_for(self.range);
            taken.size += columns.size(self.range).unwrap_or(0.0);
            match alone {
                true if read > 0 => {
                    let place = RESOLUTIONS.iter().position(|&x| x == resolution).unwrap_or(0);
                    let bits = 1 | u8::from(too_few) << LACKING;
                    self.rollups.told.fetch_or(bits << place, Relaxed);
                }
                true => {}
                false => taken.replaced.extend(&r.rollup.from.sources),
            }
        }
        if inexact && !taken.replaced.is_empty() {
            budget.uncount(taken.counted, 0);
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
        let mut texts = Vec::new();
        for (i, name) in NAMES.iter().enumerate() {
            if told & 1 << i != 0 {
                texts.push(format!(
                    "PromQL info: answered from {name} rollups where samples are past their retention: of each bucket a few \
                     true samples, its count and its sum"
                ));
            }
            if told & 1 << (i + LACKING) != 0 {
                texts.push(format!(
                    "PromQL info: rates and resets are too low where a value fell more than three times in a bucket of {name} \
                     rollups and its samples are past their retention"
                ));
            }
        }
        texts
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
    /// Samples of it that the query's budget was charged for.
    counted: u64,
    /// Buckets without all their samples, of rollups that stand alone, where counts or sums are wanted.
    thinned: Vec<Thinned>,
}

struct Thinned {
    /// Its times, as far as they are of the rollup's day.
    range: TimeRange,
    last_ms: i64,
    /// Samples that it stands for.
    count: u64,
}

impl Taken {
    fn note(&mut self, columns: &Columns, resolution: i64, day: TimeRange, range: TimeRange) {
        self.thinned.extend(columns.thinned(range).map(|(last_ms, count)| {
            let bucket = bucket_range(last_ms, resolution);
            Thinned {
                range: TimeRange::new(bucket.start_ms.max(day.start_ms), bucket.end_ms.min(day.end_ms)),
                last_ms,
                count,
            }
        }));
    }

    /// Settles what counts where samples came again for what is rolled up: where all of a bucket are there, these alone;
    /// otherwise its sum without them, because they may be in it.
    fn settle(&mut self, block: &mut SeriesBlock, sums: bool) {
        if block.at_ms.is_empty() || self.thinned.is_empty() {
            return;
        }
        let within = |at_ms: &[i64], range: TimeRange| {
            let from = at_ms.partition_point(|&at| at < range.start_ms);
            from..at_ms.partition_point(|&at| at <= range.end_ms)
        };
        let mut stay = vec![true; block.at_ms.len()];
        let mut rolled_stay = vec![true; self.block.at_ms.len()];
        for bucket in &self.thinned {
            let own = within(&block.at_ms, bucket.range);
            let last = block.at_ms[own.clone()].binary_search(&bucket.last_ms);
            if own.len() as u64 >= bucket.count && last.is_ok() {
                rolled_stay[within(&self.block.at_ms, bucket.range)].fill(false);
            } else if sums {
                stay[own].fill(false);
            }
        }
        retain_floats(block, &stay);
        retain_floats(&mut self.block, &rolled_stay);
    }
}

/// Puts what stands for others (ascending, with weights) between samples, stretch by stretch; where both have a time, the
/// sample stands, for as many as the other would.
pub(super) fn splice(block: &mut SeriesBlock, rolled: &SeriesBlock, weighed: bool) {
    let all = block.at_ms.len() + rolled.at_ms.len();
    let starts = !block.start_ms.is_empty() || !rolled.start_ms.is_empty();
    let mut out = SeriesBlock {
        at_ms: Vec::with_capacity(all),
        values: Vec::with_capacity(all),
        start_ms: Vec::with_capacity(if starts { all } else { 0 }),
        weights: Vec::with_capacity(if weighed { all } else { 0 }),
        ..SeriesBlock::default()
    };
    let copy = |out: &mut SeriesBlock, from: &SeriesBlock, range: Range<usize>| {
        out.at_ms.extend_from_slice(&from.at_ms[range.clone()]);
        out.values.extend_from_slice(&from.values[range.clone()]);
        if starts {
            out.start_ms.extend_from_slice(from.start_ms.get(range).unwrap_or(&[]));
            out.start_ms.resize(out.at_ms.len(), 0);
        }
    };
    let mut i = 0;
    for (j, (&at, &weight)) in rolled.at_ms.iter().zip(&rolled.weights).enumerate() {
        let upto = i + block.at_ms[i..].partition_point(|&own| own < at);
        copy(&mut out, block, i..upto);
        i = upto;
        if weighed {
            out.weights.resize(out.at_ms.len(), 1);
            out.weights.push(weight);
        }
        if block.at_ms.get(i) == Some(&at) {
            copy(&mut out, block, i..i + 1);
            i += 1;
        } else {
            copy(&mut out, rolled, j..j + 1);
        }
    }
    copy(&mut out, block, i..block.at_ms.len());
    if weighed {
        out.weights.resize(out.at_ms.len(), 1);
    }
    out.histogram_at_ms = std::mem::take(&mut block.histogram_at_ms);
    out.histograms = std::mem::take(&mut block.histograms);
    out.histogram_start_ms = std::mem::take(&mut block.histogram_start_ms);
    *block = out;
}
