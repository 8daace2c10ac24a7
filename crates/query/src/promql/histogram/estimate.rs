use model::Histogram;

use super::buckets::{Bucket, all, log2};
use super::kahan;

/// What an estimate wants to tell besides its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Note {
    /// The quantile lies among observations of NaN, so it is NaN.
    NanResult,
    /// There are observations of NaN, which count as the largest.
    NanSkew,
    /// There are observations of NaN, which no fraction contains.
    NanExcluded,
}

/// The estimated value below which the share `q` of the observations lies.
pub fn quantile(q: f64, h: &Histogram) -> (f64, Option<Note>) {
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if h.count == 0.0 || q.is_nan() {
        return (f64::NAN, None);
    }
    // observations of NaN are in no bucket, so with them the count from below is the one to trust
    let from_below = h.sum.is_nan() || q < 0.5;
    let mut rank = if from_below { q * h.count } else { (1.0 - q) * h.count };
    let mut buckets = all(h);
    let mut next = || {
        if from_below {
            buckets.next()
        } else {
            buckets.next_back()
        }
    };
    let (mut bucket, mut count) = (Bucket::default(), 0.0);
    while let Some(b) = next() {
        bucket = b;
        if b.count == 0.0 {
            continue;
        }
        count += b.count;
        if count >= rank {
            break;
        }
    }
    if h.is_custom() {
        if bucket.lower == f64::NEG_INFINITY {
            if bucket.upper <= 0.0 {
                return (bucket.upper, None);
            }
            bucket.lower = 0.0;
        } else if bucket.upper == f64::INFINITY {
            return (bucket.lower, None);
        }
    } else if bucket.lower < 0.0 && bucket.upper > 0.0 {
        cut_zero_bucket(h, &mut bucket);
    }
    count = if count > h.count { h.count } else { count };
    if count < rank {
        let nan = h.sum.is_nan();
        return if nan {
            (f64::NAN, Some(Note::NanResult))
        } else {
            (bucket.upper, None)
        };
    }
    rank = if from_below {
        rank - (count - bucket.count)
    } else {
        count - rank
    };
    let mut note = None;
    if h.sum.is_nan() {
        // what follows is counted by the last bucket looked at, as in Prometheus
        let mut total = count;
        while let Some(b) = next() {
            bucket = b;
            total += b.count;
        }
        note = (total < h.count).then_some(Note::NanSkew);
    }
    (interpolate(h, &bucket, rank / bucket.count), note)
}

/// A histogram with one sign only has its zero bucket on that side of zero.
fn cut_zero_bucket(h: &Histogram, bucket: &mut Bucket) {
    match (h.negative_buckets.is_empty(), h.positive_buckets.is_empty()) {
        (true, false) => bucket.lower = 0.0,
        (false, true) => bucket.upper = 0.0,
        _ => {}
    }
}

fn interpolate(h: &Histogram, bucket: &Bucket, fraction: f64) -> f64 {
    if h.is_custom() || (bucket.lower <= 0.0 && bucket.upper >= 0.0) {
        return bucket.lower + (bucket.upper - bucket.lower) * fraction;
    }
    let (lower, upper) = (log2(bucket.lower.abs()), log2(bucket.upper.abs()));
    if bucket.lower > 0.0 {
        (lower + (upper - lower) * fraction).exp2()
    } else {
        -(upper + (lower - upper) * (1.0 - fraction)).exp2()
    }
}

/// The estimated share of observations between two bounds.
pub fn fraction(lower: f64, upper: f64, h: &Histogram) -> (f64, Option<Note>) {
    if h.count == 0.0 || lower.is_nan() || upper.is_nan() {
        return (f64::NAN, None);
    }
    if lower >= upper {
        return (0.0, None);
    }
    let (mut count, mut rank) = (0.0, 0.0);
    let (mut lower_rank, mut upper_rank) = (None, None);
    let mut buckets = all(h);
    for mut b in buckets.by_ref() {
        count += b.count;
        let is_zero = b.lower <= 0.0 && b.upper >= 0.0;
        if is_zero {
            cut_zero_bucket(h, &mut b);
        }
        for (at, found) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if found.is_some() {
                continue;
            }
            if b.lower >= at {
                *found = Some(rank);
            } else if b.lower < at && b.upper > at {
                let linear = h.is_custom() || is_zero;
                *found = Some(if linear && b.lower == f64::NEG_INFINITY {
                    b.count
                } else {
                    rank + b.count * b.fraction_below(at, linear)
                });
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank += b.count;
    }
    let mut note = None;
    if h.sum.is_nan() {
        count += buckets.map(|b| b.count).sum::<f64>();
        note = (count < h.count).then_some(Note::NanExcluded);
    } else {
        count = h.count;
    }
    let settle = |rank: Option<f64>| rank.filter(|&r| r <= count || r.is_nan()).unwrap_or(count);
    ((settle(upper_rank) - settle(lower_rank)) / h.count, note)
}

/// The mean of the observations.
pub fn avg(h: &Histogram) -> f64 {
    h.sum / h.count
}

/// The estimated variance of the observations: each is taken to lie in the middle of its bucket.
pub fn stdvar(h: &Histogram) -> f64 {
    let mean = avg(h);
    let (mut sum, mut lost) = (0.0, 0.0);
    for b in all(h).filter(|b| b.count != 0.0) {
        let middle = if h.is_custom() {
            (b.upper + b.lower) / 2.0
        } else if b.lower <= 0.0 && b.upper >= 0.0 {
            0.0
        } else {
            let middle = (b.upper * b.lower).sqrt();
            if b.upper < 0.0 { -middle } else { middle }
        };
        let delta = middle - mean;
        (sum, lost) = kahan(b.count * delta * delta, sum, lost);
    }
    (sum + lost) / h.count
}

/// The estimated standard deviation of the observations.
pub fn stddev(h: &Histogram) -> f64 {
    stdvar(h).sqrt()
}
