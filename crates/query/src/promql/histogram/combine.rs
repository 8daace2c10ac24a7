use model::{Histogram, ResetHint};

use super::buckets::{exponential_bound, negative, positive};
use super::side::{Entries, SIGNS, Sign, compact_entries, entries, indexed, is_compact, layout, reduce_entries};
use super::{custom, kahan};

/// What was noticed while adding or subtracting.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Added {
    /// One side says "reset", the other "no reset".
    pub collision: bool,
    /// Custom bounds differed and were brought down to those that both have.
    pub reconciled: bool,
}

/// Exponential and custom buckets cannot be combined. The text is Prometheus'.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot apply this operation on histograms with a mix of exponential and custom bucket schemas")]
pub struct Incompatible;

/// Adds `other` to `h`: the coarser schema and the wider zero bucket win.
pub fn add(h: &mut Histogram, other: &Histogram) -> Result<Added, Incompatible> {
    combine(h, other, 1.0)
}

/// Subtracts `other` from `h`, as [`add`] adds. An operator `-` makes the result a gauge, which is the caller's work.
pub fn sub(h: &mut Histogram, other: &Histogram) -> Result<Added, Incompatible> {
    combine(h, other, -1.0)
}

fn combine(h: &mut Histogram, other: &Histogram, sign: f64) -> Result<Added, Incompatible> {
    let collision = begin(h, other)?;
    if !h.is_custom() {
        let (zero, _) = reconcile_zero(h, other, None);
        h.zero_count += sign * zero;
    }
    h.count += sign * other.count;
    h.sum += sign * other.sum;
    if h.is_custom() && !custom::bounds_match(&h.custom_values, &other.custom_values) {
        custom::combine(h, other, sign < 0.0, None);
        return Ok(Added {
            collision,
            reconciled: true,
        });
    }
    let target = h.schema.min(other.schema);
    for side in SIGNS {
        add_side(h, other, side, target, sign);
    }
    h.schema = target;
    Ok(Added {
        collision,
        reconciled: false,
    })
}

/// Checks that the two fit together and settles the hint.
fn begin(h: &mut Histogram, other: &Histogram) -> Result<bool, Incompatible> {
    if h.is_custom() != other.is_custom() {
        return Err(Incompatible);
    }
    h.integer = false;
    use ResetHint::*;
    let (hint, collision) = match (h.reset_hint, other.reset_hint) {
        (a, b) if a == b => (a, false),
        (Gauge, _) | (_, Gauge) => (Gauge, false),
        (Unknown, _) | (_, Unknown) => (Unknown, false),
        _ => (Unknown, true),
    };
    h.reset_hint = hint;
    Ok(collision)
}

/// Whether no bucket of a side lies within the zero bucket.
fn is_beyond(index: i32, schema: i32, threshold: f64) -> bool {
    schema == model::CUSTOM_BUCKETS_SCHEMA || exponential_bound(index, schema) > threshold
}

fn add_side(h: &mut Histogram, other: &Histogram, side: Sign, target: i32, sign: f64) {
    let (threshold, schema) = (h.zero_threshold, h.schema);
    let (other_spans, other_counts) = side.of(other);
    let (spans, counts) = side.of_mut(h);
    let same_layout = schema == target && other.schema == target && spans == other_spans;
    let beyond = |index| is_beyond(index, target, threshold);
    if same_layout && counts.len() == other_counts.len() && spans.first().is_none_or(|s| beyond(s.offset)) {
        for (a, b) in counts.iter_mut().zip(other_counts) {
            *a += sign * b;
        }
        return;
    }
    if other_counts.is_empty() && schema == target {
        return;
    }
    let mine = reduce_entries(schema, target, entries(spans, counts, None), false);
    let theirs = reduce_entries(other.schema, target, entries(other_spans, other_counts, None), false);
    let theirs = theirs
        .into_iter()
        .skip_while(|e| !beyond(e.0))
        .map(|e| (e.0, sign * e.1, 0.0))
        .collect();
    let merged = merge(mine, theirs, |a, b| a.1 += b.1);
    (*spans, *counts, _) = layout(&merged);
}

/// Both lists by ascending index; where both have a bucket, `join` puts the second into the first.
fn merge(a: Entries, b: Entries, join: impl Fn(&mut (i32, f64, f64), (i32, f64, f64))) -> Entries {
    let mut out: Entries = Vec::with_capacity(a.len() + b.len());
    let (mut a, mut b) = (a.into_iter().peekable(), b.into_iter().peekable());
    loop {
        let entry = match (a.peek(), b.peek()) {
            (Some(x), Some(y)) if x.0 <= y.0 => a.next(),
            (_, Some(_)) => b.next(),
            (_, None) => a.next(),
        };
        match (entry, out.last_mut()) {
            (None, _) => return out,
            (Some(e), Some(last)) if last.0 == e.0 => join(last, e),
            (Some(e), _) => out.push(e),
        }
    }
}

/// Adds `other` to `h` by Kahan summation. `lost` collects what got lost, in the layout of `h`; it starts as `None`,
/// and [`add`]ing it in the end gives the exact sum.
pub fn kahan_add(h: &mut Histogram, other: &Histogram, lost: &mut Option<Histogram>) -> Result<Added, Incompatible> {
    let collision = begin(h, other)?;
    let c = lost.get_or_insert_with(|| nothing_lost(h));
    if !h.is_custom() {
        let (zero, zero_lost) = reconcile_zero(h, other, Some(c));
        (h.zero_count, c.zero_count) = kahan(zero, h.zero_count, c.zero_count);
        (h.zero_count, c.zero_count) = kahan(zero_lost, h.zero_count, c.zero_count);
    }
    (h.count, c.count) = kahan(other.count, h.count, c.count);
    (h.sum, c.sum) = kahan(other.sum, h.sum, c.sum);
    if h.is_custom() && !custom::bounds_match(&h.custom_values, &other.custom_values) {
        custom::combine(h, other, false, Some(c));
        return Ok(Added {
            collision,
            reconciled: true,
        });
    }
    let target = h.schema.min(other.schema);
    for side in SIGNS {
        kahan_add_side(h, other, c, side, target);
    }
    h.schema = target;
    (c.schema, c.zero_threshold) = (h.schema, h.zero_threshold);
    Ok(Added {
        collision,
        reconciled: false,
    })
}

fn kahan_add_side(h: &mut Histogram, other: &Histogram, c: &mut Histogram, side: Sign, target: i32) {
    let (threshold, schema) = (h.zero_threshold, h.schema);
    let (other_spans, other_counts) = side.of(other);
    let (spans, counts) = side.of_mut(h);
    let (lost_spans, lost) = side.of_mut(c);
    let beyond = |index| is_beyond(index, target, threshold);
    let same_layout = schema == target && other.schema == target && spans == other_spans;
    let same_length = counts.len() == other_counts.len() && counts.len() == lost.len();
    if same_layout && same_length && spans.first().is_none_or(|s| beyond(s.offset)) {
        for ((a, c), b) in counts.iter_mut().zip(lost.iter_mut()).zip(other_counts) {
            (*a, *c) = kahan(*b, *a, *c);
        }
        return;
    }
    let mine = reduce_entries(schema, target, entries(spans, counts, Some(lost)), true);
    let theirs = reduce_entries(other.schema, target, entries(other_spans, other_counts, None), true);
    let theirs = theirs.into_iter().skip_while(|e| !beyond(e.0)).collect();
    let merged = merge(mine, theirs, |a, b| {
        (a.1, a.2) = kahan(b.1, a.1, a.2);
        if b.2 != 0.0 {
            (a.1, a.2) = kahan(b.2, a.1, a.2);
        }
    });
    (*spans, *counts, *lost) = layout(&merged);
    lost_spans.clone_from(spans);
}

/// A histogram of zeros in the layout of `h`.
fn nothing_lost(h: &Histogram) -> Histogram {
    Histogram {
        positive_buckets: vec![0.0; h.positive_buckets.len()],
        negative_buckets: vec![0.0; h.negative_buckets.len()],
        zero_count: 0.0,
        count: 0.0,
        sum: 0.0,
        integer: false,
        ..h.clone()
    }
}

/// Widens the zero bucket of `h` until it covers that of `other` and no populated bucket of either is cut. Returns what
/// the zero count of `other` is then, and what its sum lost.
fn reconcile_zero(h: &mut Histogram, other: &Histogram, mut lost: Option<&mut Histogram>) -> (f64, f64) {
    let (mut zero, mut threshold, mut zero_lost) = (other.zero_count, other.zero_threshold, 0.0);
    while threshold != h.zero_threshold && !threshold.is_nan() && !h.zero_threshold.is_nan() {
        if h.zero_threshold > threshold {
            (zero, threshold, zero_lost) = zero_count_at(other, h.zero_threshold, None);
        }
        if threshold > h.zero_threshold {
            let (count, wider, count_lost) = zero_count_at(h, threshold, lost.as_deref());
            (h.zero_count, h.zero_threshold) = (count, wider);
            if let Some(c) = &mut lost {
                c.zero_count = count_lost;
            }
            empty_zero_range(h, lost.as_deref_mut());
        }
    }
    (zero, zero_lost)
}

/// The zero count that `h` would have at a larger threshold; when that falls into a populated bucket, at the far end of
/// the bucket. Returns count, threshold, and what the sum lost.
pub(super) fn zero_count_at(h: &Histogram, threshold: f64, lost: Option<&Histogram>) -> (f64, f64, f64) {
    let mut threshold = threshold;
    let mut count_lost = lost.map_or(0.0, |c| c.zero_count);
    if threshold <= h.zero_threshold {
        return (h.zero_count, threshold, count_lost);
    }
    'wider: loop {
        let mut count = h.zero_count;
        for (i, b) in positive(h).enumerate() {
            if b.lower >= threshold {
                break;
            }
            (count, count_lost) = kahan(b.count, count, count_lost);
            if let Some(&c) = lost.and_then(|c| c.positive_buckets.get(i)) {
                (count, count_lost) = kahan(c, count, count_lost);
            }
            if b.upper > threshold {
                if b.count != 0.0 {
                    threshold = b.upper;
                }
                break;
            }
        }
        for (i, b) in negative(h).enumerate() {
            if b.upper <= -threshold {
                break;
            }
            (count, count_lost) = kahan(b.count, count, count_lost);
            if let Some(&c) = lost.and_then(|c| c.negative_buckets.get(i)) {
                (count, count_lost) = kahan(c, count, count_lost);
            }
            if b.lower < -threshold {
                // the positive side was looked at with a threshold that is too small
                if b.count != 0.0 {
                    threshold = -b.lower;
                    continue 'wider;
                }
                break;
            }
        }
        return (count, threshold, count_lost);
    }
}

/// Empties the buckets that the zero bucket now covers.
fn empty_zero_range(h: &mut Histogram, mut lost: Option<&mut Histogram>) {
    let threshold = h.zero_threshold;
    let covered = [
        positive(h).take_while(|b| b.lower < threshold).count(),
        negative(h).take_while(|b| b.upper > -threshold).count(),
    ];
    for (side, covered) in SIGNS.into_iter().zip(covered) {
        let (_, counts) = side.of_mut(h);
        counts.iter_mut().take(covered).for_each(|c| *c = 0.0);
        if let Some(c) = &mut lost {
            let (_, counts) = side.of_mut(c);
            counts.iter_mut().take(covered).for_each(|c| *c = 0.0);
        }
    }
    match lost {
        None => compact(h, 0),
        Some(c) => {
            for side in SIGNS {
                let (spans, counts) = side.of_mut(h);
                let (lost_spans, lost) = side.of_mut(c);
                let kept = compact_entries(entries(spans, counts, Some(lost)), 0);
                (*spans, *counts, *lost) = layout(&kept);
                lost_spans.clone_from(spans);
            }
        }
    }
}

/// Drops empty buckets, but for runs of up to `max_empty` between populated ones.
pub fn compact(h: &mut Histogram, max_empty: usize) {
    for side in SIGNS {
        let (spans, counts) = side.of_mut(h);
        if max_empty > 0 || !is_compact(spans, counts) {
            let kept = compact_entries(entries(spans, counts, None), max_empty);
            (*spans, *counts, _) = layout(&kept);
        }
    }
}

fn scale(h: &mut Histogram, by: impl Fn(f64) -> f64) {
    h.integer = false;
    for v in [&mut h.zero_count, &mut h.count, &mut h.sum] {
        *v = by(*v);
    }
    for v in h.positive_buckets.iter_mut().chain(&mut h.negative_buckets) {
        *v = by(*v);
    }
}

/// Multiplies all counts and the sum. A negative factor makes a gauge.
pub fn mul(h: &mut Histogram, factor: f64) {
    scale(h, |v| v * factor);
    if factor < 0.0 {
        h.reset_hint = ResetHint::Gauge;
    }
}

/// Divides all counts and the sum. By 0 the buckets go; a negative divisor makes a gauge.
pub fn div(h: &mut Histogram, divisor: f64) {
    scale(h, |v| v / divisor);
    if divisor == 0.0 {
        for side in SIGNS {
            let (spans, counts) = side.of_mut(h);
            spans.clear();
            counts.clear();
        }
    } else if divisor < 0.0 {
        h.reset_hint = ResetHint::Gauge;
    }
}

/// Brings `h` down to a coarser exponential schema, its hint kept. Others are left alone.
pub fn reduce(h: &mut Histogram, schema: i32) {
    if h.is_custom() || schema >= h.schema || schema == model::CUSTOM_BUCKETS_SCHEMA {
        return;
    }
    let from = h.schema;
    for side in SIGNS {
        let (spans, counts) = side.of_mut(h);
        let merged = reduce_entries(from, schema, entries(spans, counts, None), false);
        (*spans, *counts, _) = layout(&merged);
    }
    h.schema = schema;
}

/// A copy at a coarser schema; it knows nothing of resets then. At the same schema, a copy.
pub fn to_schema(h: &Histogram, schema: i32) -> Histogram {
    let mut copy = h.clone();
    reduce(&mut copy, schema);
    if copy.schema != h.schema {
        copy.reset_hint = ResetHint::Unknown;
    }
    copy
}

/// Whether any count, sum or bound is infinite.
pub fn has_overflow(h: &Histogram) -> bool {
    let buckets = h
        .positive_buckets
        .iter()
        .chain(&h.negative_buckets)
        .chain(&h.custom_values);
    [h.zero_count, h.count, h.sum]
        .iter()
        .chain(buckets)
        .any(|v| v.is_infinite())
}

/// Counts of one side by index at a coarser schema, without the buckets at or below `threshold`.
pub(super) fn counts_beyond(h: &Histogram, side: Sign, schema: i32, threshold: f64) -> Entries {
    let (spans, counts) = side.of(h);
    let all = indexed(spans, counts).map(|(i, c)| (i, c, 0.0)).collect();
    let mut merged = reduce_entries(h.schema, schema, all, false);
    if threshold != 0.0 {
        merged.retain(|e| is_beyond(e.0, schema, threshold));
    }
    merged
}
