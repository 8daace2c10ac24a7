//! Rollups: of each bucket of a minute or an hour the few samples that `min`, `max`, `first`, `last`, `rate` and their like
//! depend on, true samples at their own times, with the count and the sum of all there were. Whoever evaluates such a
//! function over whole buckets gets the same bits from these as from all samples.
//!
//! Buckets are open on the left, as ranges are: a bucket ends at a multiple of the resolution and holds the sample of that
//! time. See `docs/format/block.md`.

use model::{SeriesBlock, TimeRange};

use crate::merge;

/// Lengths of buckets in ms, the finest first.
pub(crate) const RESOLUTIONS: [i64; 2] = [60_000, 3_600_000];
/// As they are written in texts.
pub(crate) const NAMES: [&str; 2] = ["1m", "1h"];
/// Places that a counter may fall in a bucket; where there are more, it is no counter, and rates look at all samples.
const FALLS_MAX: usize = 3;
/// Samples of a bucket of which all are kept: fewer would take more space, because their times are no longer regular.
const FEW: usize = 6;
/// Sums of whole numbers up to here are exact, in whatever order they are added.
const EXACT_MAX: f64 = 9_007_199_254_740_992.0;
/// Sum of the sizes of a bucket's values where some are below zero: so small that the sums of many buckets stay exact.
const SIGNED_MAX: f64 = (1u64 << 39) as f64;

/// What is true of a bucket, in the low bits of its count.
const FLAGS: u64 = 16;
/// Every two samples between which the value falls are kept.
const FALLS: u64 = 1;
/// The sum is exact: whole numbers, and not too large.
const EXACT: u64 = 2;
/// There are values below zero.
const SIGNED: u64 = 4;
/// Every sample is kept, each for itself.
const WHOLE: u64 = 8;

/// The bucket of a time: its end as a multiple of the resolution.
pub(crate) fn bucket_of(at_ms: i64, resolution: i64) -> i64 {
    at_ms.div_euclid(resolution) + i64::from(at_ms.rem_euclid(resolution) != 0)
}

/// The times of the bucket that a time is in.
pub(crate) fn bucket_range(at_ms: i64, resolution: i64) -> TimeRange {
    let end = bucket_of(at_ms, resolution).saturating_mul(resolution);
    TimeRange::new(end.saturating_sub(resolution - 1), end)
}

/// What a rollup of one series and day holds. A bucket goes by the time of its last sample.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Columns {
    pub(crate) last_ms: Vec<i64>,
    /// Samples and flags.
    counts: Vec<u64>,
    pub(crate) sums: Vec<f64>,
    pub(crate) kept_ms: Vec<i64>,
    pub(crate) kept: Vec<f64>,
    /// Empty, or one per sample kept.
    pub(crate) start_ms: Vec<i64>,
}

/// What a reader makes of the samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// The samples that are kept, where every fall is if that is needed.
    Kept { falls: bool, weights: bool },
    /// One sample a bucket: the sum.
    Sums,
}

impl Use {
    /// What a function can be computed from; `None` when it needs every sample.
    pub(crate) fn of(function: &str) -> Option<Use> {
        let kept = |falls, weights| Some(Use::Kept { falls, weights });
        match function {
            ""
            | "min_over_time"
            | "max_over_time"
            | "first_over_time"
            | "last_over_time"
            | "present_over_time"
            | "absent_over_time"
            | "ts_of_first_over_time"
            | "ts_of_last_over_time" => kept(false, false),
            "count_over_time" | "delta" => kept(false, true),
            "rate" | "increase" => kept(true, true),
            "resets" => kept(true, false),
            "sum_over_time" | "avg_over_time" => Some(Use::Sums),
            _ => None,
        }
    }
}

/// Rolls up floats in time order.
pub(crate) fn roll(block: &SeriesBlock, resolution: i64) -> Columns {
    let mut out = Columns::default();
    let mut from = 0;
    while from < block.at_ms.len() {
        let bucket = bucket_of(block.at_ms[from], resolution);
        let end = block.at_ms[from..].partition_point(|&at| bucket_of(at, resolution) == bucket) + from;
        out.push(block, from..end);
        from = end;
    }
    if out.start_ms.iter().all(|&s| s == 0) {
        out.start_ms.clear();
    }
    out
}

impl Columns {
    fn push(&mut self, block: &SeriesBlock, bucket: std::ops::Range<usize>) {
        let (at_ms, values) = (&block.at_ms[bucket.clone()], &block.values[bucket.clone()]);
        let starts = block.start_ms.get(bucket).unwrap_or(&[]);
        let n = values.len();
        // a counter that says nothing else of its start than before did not begin anew
        let steady = starts.iter().all(|&s| s == 0) || starts.iter().all(|&s| s == starts[0] && s < at_ms[0]);
        let mut keep: Vec<usize> = Vec::with_capacity(8);
        let mut flags = 0;
        let mut sum = 0.0;
        if n <= FEW || !steady || values.iter().any(|v| v.is_nan()) {
            keep.extend(0..n);
            flags = WHOLE | FALLS;
        } else {
            let (mut low, mut high) = (0, 0);
            let mut falls = Vec::new();
            for i in 1..n {
                if values[i] < values[low] {
                    low = i;
                }
                if values[i] > values[high] {
                    high = i;
                }
                if values[i] < values[i - 1] && falls.len() <= FALLS_MAX {
                    falls.push(i);
                }
            }
            keep.extend([0, low, high, n - 1]);
            if falls.len() <= FALLS_MAX {
                keep.extend(falls.iter().flat_map(|&i| [i - 1, i]));
                flags |= FALLS;
            }
            keep.sort_unstable();
            keep.dedup();
            let size: f64 = values.iter().map(|v| v.abs()).sum();
            let below = values.iter().any(|&v| v < 0.0);
            if values.iter().all(|&v| is_whole(v)) && size < if below { SIGNED_MAX } else { EXACT_MAX } {
                flags |= EXACT | if below { SIGNED } else { 0 };
            }
            sum = crate::chunk::stats_of(at_ms, values).sum;
        }
        self.last_ms.push(at_ms[n - 1]);
        self.counts.push(n as u64 * FLAGS + flags);
        self.sums.push(sum);
        for i in keep {
            self.kept_ms.push(at_ms[i]);
            self.kept.push(values[i]);
            self.start_ms.push(starts.get(i).copied().unwrap_or(0));
        }
    }

    /// As columns of samples, in the order in which they are stored: counts, sums, samples kept.
    pub(crate) fn blocks(&self) -> [SeriesBlock; 3] {
        let of = |values: Vec<f64>| SeriesBlock {
            at_ms: self.last_ms.clone(),
            values,
            ..SeriesBlock::default()
        };
        [
            of(self.counts.iter().map(|&n| n as f64).collect()),
            of(self.sums.clone()),
            SeriesBlock {
                at_ms: self.kept_ms.clone(),
                values: self.kept.clone(),
                start_ms: self.start_ms.clone(),
                ..SeriesBlock::default()
            },
        ]
    }

    /// The columns of stored blocks; `None` when they do not fit together.
    pub(crate) fn of_blocks(counts: SeriesBlock, sums: SeriesBlock, kept: SeriesBlock) -> Option<Columns> {
        let fit = counts.at_ms == sums.at_ms
            && counts
                .values
                .iter()
                .all(|&n| n.fract() == 0.0 && (FLAGS as f64..EXACT_MAX).contains(&n))
            && counts.histograms.is_empty()
            && kept.histograms.is_empty()
            && counts.at_ms.last() == kept.at_ms.last()
            && kept.at_ms.windows(2).all(|w| w[0] < w[1])
            && counts.at_ms.windows(2).all(|w| w[0] < w[1]);
        fit.then(|| Columns {
            last_ms: counts.at_ms,
            counts: counts.values.iter().map(|&n| n as u64).collect(),
            sums: sums.values,
            kept_ms: kept.at_ms,
            kept: kept.values,
            start_ms: kept.start_ms,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.last_ms.is_empty()
    }

    /// Samples that the bucket stands for.
    fn count(&self, bucket: usize) -> u64 {
        self.counts[bucket] / FLAGS
    }

    fn is(&self, bucket: usize, flag: u64) -> bool {
        self.counts[bucket] & flag != 0
    }

    /// Samples that the buckets within the range stand for.
    pub(crate) fn stands_for(&self, range: TimeRange) -> u64 {
        let within = (0..self.last_ms.len()).filter(|&b| range.contains(self.last_ms[b]));
        within.map(|b| self.count(b)).sum()
    }

    /// Buckets that end within the range and do not hold all that they stand for: the time of the last sample, and how many
    /// there were.
    pub(crate) fn thinned(&self, range: TimeRange) -> impl Iterator<Item = (i64, u64)> + '_ {
        let thinned = move |&b: &usize| range.contains(self.last_ms[b]) && !self.is(b, WHOLE);
        (0..self.last_ms.len())
            .filter(thinned)
            .map(move |b| (self.last_ms[b], self.count(b)))
    }

    /// Whether what is within the range (of whole buckets) serves this use exactly. For sums that is not all: see
    /// [`size`](Self::size).
    pub(crate) fn serves(&self, what: Use, range: TimeRange) -> bool {
        let mut within = (0..self.last_ms.len()).filter(|&b| range.contains(self.last_ms[b]));
        match what {
            Use::Kept { falls, .. } => !falls || within.all(|b| self.is(b, FALLS)),
            Use::Sums => self.size(range).is_some(),
        }
    }

    /// An upper bound of the sum of the sizes of all values within the range, if all of them are whole numbers.
    pub(crate) fn size(&self, range: TimeRange) -> Option<f64> {
        let (mut size, mut next) = (0.0, 0);
        for (b, &last_ms) in self.last_ms.iter().enumerate() {
            let end = next + self.kept_ms[next..].partition_point(|&at| at <= last_ms);
            let kept = std::mem::replace(&mut next, end)..end;
            size += match range.contains(last_ms) {
                false => 0.0,
                true if self.is(b, EXACT) && self.is(b, SIGNED) => SIGNED_MAX,
                true if self.is(b, EXACT) => self.sums[b],
                true if self.is(b, WHOLE) => size_of_whole(&self.kept[kept])?,
                true => return None,
            };
        }
        Some(size)
    }

    /// Leaves out the buckets that one of the ranges touches.
    pub(crate) fn cut(&mut self, ranges: &[TimeRange], resolution: i64) {
        if ranges.is_empty() {
            return;
        }
        let gone = |at: i64| {
            let bucket = bucket_range(at, resolution);
            ranges.iter().any(|r| r.overlaps(&bucket))
        };
        let stay: Vec<bool> = self.last_ms.iter().map(|&at| !gone(at)).collect();
        retain(&mut self.counts, &stay);
        retain(&mut self.sums, &stay);
        retain(&mut self.last_ms, &stay);
        let stay: Vec<bool> = self.kept_ms.iter().map(|&at| !gone(at)).collect();
        retain(&mut self.kept, &stay);
        retain(&mut self.start_ms, &stay);
        retain(&mut self.kept_ms, &stay);
    }

    /// Appends to `out` what a use makes of the buckets within the range; the number of samples appended.
    pub(crate) fn append(&self, what: Use, range: TimeRange, out: &mut SeriesBlock) -> usize {
        let before = out.at_ms.len();
        let mut next = 0;
        for b in 0..self.last_ms.len() {
            let end = next + self.kept_ms[next..].partition_point(|&at| at <= self.last_ms[b]);
            let kept = next..end;
            next = end;
            let as_sum = what == Use::Sums && !self.is(b, WHOLE);
            if as_sum {
                if range.contains(self.last_ms[b]) {
                    merge::push_float(out, self.last_ms[b], self.sums[b], 0);
                    out.weights.push(u32::try_from(self.count(b)).unwrap_or(u32::MAX));
                }
                continue;
            }
            let each = self.is(b, WHOLE);
            for i in kept.clone().filter(|&i| range.contains(self.kept_ms[i])) {
                let start = self.start_ms.get(i).copied().unwrap_or(0);
                merge::push_float(out, self.kept_ms[i], self.kept[i], start);
                // the last one counts for all that are not kept
                let others = if i + 1 == kept.end {
                    self.count(b) - kept.len().min(self.count(b) as usize) as u64
                } else {
                    0
                };
                let weight = if each { 1 } else { 1 + others };
                out.weights.push(u32::try_from(weight).unwrap_or(u32::MAX));
            }
        }
        out.at_ms.len() - before
    }
}

/// Leaves the floats of a block that are to stay, one flag for each.
pub(crate) fn retain_floats(block: &mut SeriesBlock, stay: &[bool]) {
    retain(&mut block.at_ms, stay);
    retain(&mut block.values, stay);
    retain(&mut block.start_ms, stay);
    retain(&mut block.weights, stay);
}

fn retain<T>(list: &mut Vec<T>, stay: &[bool]) {
    let mut stay = stay.iter();
    list.retain(|_| stay.next().copied().unwrap_or(true));
}

/// Whether a value is a whole number whose sign does not depend on what it is added to.
fn is_whole(v: f64) -> bool {
    v.fract() == 0.0 && !(v == 0.0 && v.is_sign_negative())
}

/// The sizes of whole numbers, stale markers left out, as range functions do; `None` when there are others.
fn size_of_whole(values: &[f64]) -> Option<f64> {
    let mut size = 0.0;
    for &v in values.iter().filter(|v| !model::is_stale(**v)) {
        if !is_whole(v) {
            return None;
        }
        size += v.abs();
    }
    Some(size)
}

/// Whether adding up these values is exact in any order: with `size` of others they are whole numbers that never come to
/// more than a float holds exactly.
pub(crate) fn add_up(values: &[f64], size: f64) -> bool {
    // rounding never takes what is larger below it
    size_of_whole(values).is_some_and(|own| own + size < EXACT_MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn block(rows: &[(i64, f64)]) -> SeriesBlock {
        SeriesBlock {
            at_ms: rows.iter().map(|r| r.0).collect(),
            values: rows.iter().map(|r| r.1).collect(),
            ..SeriesBlock::default()
        }
    }

    fn there_and_back(columns: &Columns) -> Columns {
        let [counts, sums, kept] = columns.blocks();
        Columns::of_blocks(counts, sums, kept).unwrap()
    }

    #[test]
    fn buckets_are_open_on_the_left() {
        let bucket = |at| bucket_of(at, 60_000);
        assert_eq!([bucket(1), bucket(60_000), bucket(60_001)], [1, 1, 2]);
        assert_eq!(
            [bucket(0), bucket(-1), bucket(-60_000), bucket(-60_001)],
            [0, 0, -1, -1]
        );
    }

    #[test]
    fn what_matters_is_kept() {
        let rows: Vec<(i64, f64)> = (1..=60).map(|i| (i * 1000, ((i * 7) % 60) as f64)).collect();
        let mut few = rows.clone();
        // a counter that falls once
        for (i, row) in few.iter_mut().enumerate() {
            row.1 = (i % 40) as f64;
        }
        let rolled = there_and_back(&roll(&block(&few), 60_000));
        assert_eq!(rolled.kept_ms, [1000, 40_000, 41_000, 60_000]);
        assert_eq!(rolled.stands_for(TimeRange::ALL), 60);
        assert!(rolled.serves(Use::of("rate").unwrap(), TimeRange::ALL));
        assert_eq!(rolled.sums, [few.iter().map(|r| r.1).sum::<f64>()]);
        let mut out = SeriesBlock::default();
        rolled.append(Use::of("rate").unwrap(), TimeRange::ALL, &mut out);
        assert_eq!(out.weights, [1, 1, 1, 57]);
        out.clear();
        rolled.append(Use::Sums, TimeRange::ALL, &mut out);
        assert_eq!((out.values, out.weights), (rolled.sums.clone(), vec![60]));

        let many = there_and_back(&roll(&block(&rows), 60_000));
        assert!(!many.serves(Use::of("rate").unwrap(), TimeRange::ALL));
        assert!(many.serves(Use::of("delta").unwrap(), TimeRange::ALL));
        assert!(many.kept.len() <= 4 && many.kept.contains(&59.0) && many.kept.contains(&0.0));
    }

    #[test]
    fn what_is_strange_is_kept_whole() {
        let stale = model::stale_nan();
        let rows: Vec<(i64, f64)> = (1..=20)
            .map(|i| (i * 1000, if i == 9 { stale } else { i as f64 }))
            .collect();
        let rolled = roll(&block(&rows), 60_000);
        assert_eq!(rolled.kept_ms.len(), 20);
        // a range function does not see the marker
        assert!(rolled.serves(Use::Sums, TimeRange::ALL));
        let rows: Vec<(i64, f64)> = (1..=20)
            .map(|i| (i * 1000, if i == 9 { f64::NAN } else { i as f64 }))
            .collect();
        assert!(!roll(&block(&rows), 60_000).serves(Use::Sums, TimeRange::ALL));
        let mut starts = block(&rows[10..]);
        starts.start_ms = (0..10).map(|i| 5000 + i / 5).collect();
        assert_eq!(roll(&starts, 60_000).kept_ms.len(), 10);
        starts.start_ms = vec![5000; 10];
        assert_eq!(roll(&starts, 60_000).kept_ms.len(), 2);
    }

    #[test]
    fn sums_are_exact_or_not_used() {
        for (values, exact) in [
            (vec![1.0, 2.0], true),
            (vec![1.0, 2.5], false),
            (vec![-0.0, 2.0], false),
            (vec![-3.0, 2.0], true),
            (vec![1e300, 2.0], false),
            (vec![f64::INFINITY], false),
        ] {
            let many = values.iter().cycle().take(2 * FEW + 1);
            let rows: Vec<(i64, f64)> = many.enumerate().map(|(i, &v)| (i as i64 + 1, v)).collect();
            for rows in [&rows[..], &rows[..values.len()]] {
                let rolled = roll(&block(rows), 3_600_000);
                let size = rolled.size(TimeRange::ALL);
                assert_eq!(size.is_some_and(|size| add_up(&[], size)), exact, "{rows:?}");
            }
        }
        // whole numbers of either sign: a bound that many of them keep
        let rows: Vec<(i64, f64)> = (1..20).map(|i| (i, if i % 2 == 0 { 1e13 } else { -1e13 })).collect();
        assert!(!roll(&block(&rows), 60_000).serves(Use::Sums, TimeRange::ALL));
        assert!(add_up(&[1.0, -2.0], 5.0) && !add_up(&[0.5], 0.0) && !add_up(&[1.0], EXACT_MAX));
    }

    #[test]
    fn buckets_that_a_delete_touches_go() {
        let rows: Vec<(i64, f64)> = (1..=240).map(|i| (i * 1000, i as f64)).collect();
        let mut rolled = roll(&block(&rows), 60_000);
        rolled.cut(
            &[TimeRange::new(60_000, 60_000), TimeRange::new(200_000, 230_000)],
            60_000,
        );
        assert_eq!(rolled.last_ms, [120_000, 180_000]);
        assert_eq!(rolled.kept_ms, [61_000, 120_000, 121_000, 180_000]);
    }
}
