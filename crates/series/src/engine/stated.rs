//! What chunks say of themselves, in the place of their samples: where each window holds all of a chunk or nothing of it,
//! and nothing but the chunk has samples of its series at its times, its statistics are enough for some functions.

use std::sync::atomic::Ordering::Relaxed;

use model::{Budget, Hints, SeriesBlock, SourceError, TimeRange, Want, Windows};

use super::rolled::splice;
use super::selection::Selection;
use crate::block::{Chunk, Footer};
use crate::chunk::{ChunkStats, STATS_FROM, read_head};

/// Of the largest value: what a sum of that size surely tells.
const TOLD: f64 = 1.0 / (1u64 << 50) as f64;

/// The samples that stand for all of a chunk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Part {
    Min,
    Max,
    First,
    Last,
    /// The first and the last; `falls`: only where no value falls in between.
    Ends {
        falls: bool,
    },
}

/// What a selection may take from statistics.
pub(super) struct Stated {
    part: Part,
    weighed: bool,
    windows: Windows,
    /// The longest time in which no window begins or ends, in ms.
    free_ms: i64,
}

impl Stated {
    /// `None` when the function needs every sample.
    pub(super) fn of(hints: &Hints) -> Option<Stated> {
        let windows = hints.windows.filter(|_| hints.want == Want::Samples)?;
        let (part, weighed) = match hints.function.as_str() {
            "min_over_time" => (Part::Min, false),
            "max_over_time" => (Part::Max, false),
            "first_over_time" | "ts_of_first_over_time" => (Part::First, false),
            "last_over_time" | "ts_of_last_over_time" | "present_over_time" | "absent_over_time" => (Part::Last, false),
            "count_over_time" => (Part::Last, true),
            "delta" => (Part::Ends { falls: false }, true),
            "rate" | "increase" => (Part::Ends { falls: true }, true),
            "resets" => (Part::Ends { falls: true }, false),
            _ => return None,
        };
        // between two bounds of one kind, and between the last beginning and the first end
        let all = i64::try_from(windows.count - 1).map_or(i64::MAX, |n| n.saturating_mul(windows.step_ms));
        let common = windows.length_ms.saturating_sub(all);
        let apart = if windows.count > 1 { windows.step_ms } else { 0 };
        Some(Stated {
            part,
            weighed,
            windows,
            free_ms: common.max(apart),
        })
    }

    /// Whether chunks as long as most of a file's may be whole in each window: where not, looking at each costs more than
    /// the odd shorter one spares.
    pub(super) fn may_help(&self, file: &Footer) -> bool {
        let per_series = file.chunks.div_ceil(file.series.max(1)).max(1);
        let long = file.max_ms.saturating_sub(file.min_ms).max(0) as u64 / per_series;
        file.samples >= file.chunks.saturating_mul(STATS_FROM as u64) && self.free_ms.max(0) as u64 >= long / 2
    }

    /// Whether a chunk's statistics may be enough, as far as its bounds tell.
    pub(super) fn may_state(&self, chunk: &Chunk) -> bool {
        chunk.count as usize >= STATS_FROM && !self.windows.divide(chunk.range())
    }

    /// Appends what stands for a chunk; false when it needs its samples.
    fn append(&self, s: &ChunkStats, out: &mut SeriesBlock) -> bool {
        let last = |value| (s.max_ms, value, s.count);
        let (first, last) = match self.part {
            Part::Min => (None, last(s.min)),
            Part::Max => (None, last(s.max)),
            Part::First => (None, (s.min_ms, s.first, s.count)),
            Part::Last => (None, last(s.last)),
            Part::Ends { falls } => {
                if falls && !never_falls(s) {
                    return false;
                }
                (Some((s.min_ms, s.first, 1)), (s.max_ms, s.last, s.count - 1))
            }
        };
        for (at_ms, value, weight) in first.into_iter().chain([last]) {
            out.at_ms.push(at_ms);
            out.values.push(value);
            out.weights.push(weight);
        }
        true
    }
}

/// Whether the statistics prove that no value is below the one before it: a fall would have added the value before it to
/// the increase, and that value is above the minimum.
fn never_falls(s: &ChunkStats) -> bool {
    let risen = s.first == s.min && s.last == s.max && s.increase == s.last - s.first;
    s.min == s.max || risen && s.min > s.max * TOLD
}

/// A chunk, by file, and what it says of itself.
type Statement = ((u64, Chunk), ChunkStats);

impl Selection {
    /// Replaces the block by an entry's samples, or by what statistics have in the place of some of them.
    pub(super) fn read_stated(
        &self,
        index: usize,
        block: &mut SeriesBlock,
        budget: &Budget,
    ) -> Result<(), SourceError> {
        let Some(stated) = &self.stated else {
            return self.read_range(index, self.range, block, budget);
        };
        let (without, mut stats): (Vec<(u64, Chunk)>, Vec<ChunkStats>) =
            self.statements(stated, index)?.into_iter().unzip();
        if without.is_empty() {
            return self.read_range(index, self.range, block, budget);
        }
        let samples: u64 = stats.iter().map(|s| u64::from(s.count)).sum();
        self.read_sources(&self.sources, &without, index, self.range, block, budget)?;
        stats.sort_unstable_by_key(|s| s.min_ms);
        let mut given = SeriesBlock::default();
        for s in &stats {
            stated.append(s, &mut given);
        }
        budget.samples(given.at_ms.len() as u64)?;
        self.reads.stated_chunks.fetch_add(stats.len() as u64, Relaxed);
        self.reads.stated_samples.fetch_add(samples, Relaxed);
        splice(block, &given, stated.weighed);
        Ok(())
    }

    /// The chunks of an entry whose statistics are enough, in the order of reading.
    fn statements(&self, stated: &Stated, index: usize) -> Result<Vec<Statement>, SourceError> {
        let mut chosen = Vec::new();
        let mut all: Vec<(usize, Chunk)> = Vec::new();
        for (i, source) in self.sources.iter().enumerate() {
            self.chunks_of([source], index, self.range, |_, _, chunks| {
                all.extend(chunks.iter().map(|c| (i, *c)));
                Ok(())
            })?;
        }
        let count = |c: &(usize, Chunk)| samples_within(&c.1, self.range);
        let total: u64 = all.iter().map(count).sum();
        // what is left has to be put together with them, which costs more than few chunks spare
        let enough = |spared: u64| spared > 0 && 2 * spared >= 3 * total.saturating_sub(spared);
        let may = all.iter().filter(|c| stated.may_state(&c.1)).map(count).sum();
        if all.iter().any(|c| c.1.histograms) || !enough(may) {
            return Ok(chosen);
        }
        let alone = alone(&all);
        let cuts = self.cuts(index);
        let heads = self.view.frozen.iter().chain([&self.view.active]);
        let heads: Vec<TimeRange> = heads.filter(|h| h.samples() > 0).map(|h| h.range()).collect();
        for (place, (i, c)) in all.iter().enumerate() {
            let cut = cuts.iter().any(|t| t.range.overlaps(&c.range()));
            let contested = cut || !alone[place] || heads.iter().any(|h| h.overlaps(&c.range()));
            if contested || !stated.may_state(c) {
                continue;
            }
            let source = &self.sources[*i];
            let Some(directory) = self.directory(source)? else {
                continue;
            };
            let group = source.block.group(&directory, c.group, &self.shared.chunks);
            // what cannot be read is told of where it is read as samples
            let Some(head) = group
                .ok()
                .and_then(|g| read_head(source.block.chunk(&directory, &g, c).ok()?).ok())
            else {
                continue;
            };
            let told = head.stats.filter(|s| s.plain && !head.starts && s.count == c.count);
            if let Some(s) = told.filter(|s| (s.min_ms, s.max_ms) == (c.min_ms, c.max_ms))
                && stated.append(&s, &mut SeriesBlock::default())
            {
                chosen.push(((source.id(), *c), s));
            }
        }
        if !enough(chosen.iter().map(|c| u64::from(c.0.1.count)).sum()) {
            chosen.clear();
        }
        Ok(chosen)
    }
}

/// About how many samples of a chunk lie in the range.
fn samples_within(c: &Chunk, range: TimeRange) -> u64 {
    let length = |from: i64, to: i64| i128::from(to) - i128::from(from) + 1;
    let shared = length(c.min_ms.max(range.start_ms), c.max_ms.min(range.end_ms)).max(0);
    let samples = i128::from(c.count) * shared / length(c.min_ms, c.max_ms).max(1);
    u64::try_from(samples).unwrap_or_default()
}

/// Of each chunk, whether it shares no moment with another.
fn alone(chunks: &[(usize, Chunk)]) -> Vec<bool> {
    let mut order: Vec<usize> = (0..chunks.len()).collect();
    order.sort_unstable_by_key(|&i| chunks[i].1.min_ms);
    let mut alone = vec![true; chunks.len()];
    // the one that reaches farthest so far
    let mut farthest: Option<usize> = None;
    for &i in &order {
        let c = &chunks[i].1;
        match farthest {
            Some(f) if chunks[f].1.max_ms >= c.min_ms => {
                (alone[i], alone[f]) = (false, false);
                if c.max_ms > chunks[f].1.max_ms {
                    farthest = Some(i);
                }
            }
            _ => farthest = Some(i),
        }
    }
    alone
}
