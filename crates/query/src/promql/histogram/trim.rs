use model::Histogram;

use super::buckets::{Bucket, negative, positive, zero_bucket};
use super::combine::compact;
use super::side::{SIGNS, Sign};

/// Takes away the observations above `at` (`upper`, the operator `</`) or below it (`>/`). Count and sum are estimated
/// anew when anything went.
pub fn trim(h: &mut Histogram, at: f64, upper: bool) {
    let is_custom = h.is_custom();
    let (mut count, mut sum, mut trimmed) = (0.0, 0.0, false);
    let mut populated = [false; 2];
    for (side, populated) in SIGNS.into_iter().zip(&mut populated) {
        let is_positive = side == Sign::Positive;
        let buckets: Vec<Bucket> = if is_positive {
            positive(h).collect()
        } else {
            negative(h).collect()
        };
        let (_, counts) = side.of_mut(h);
        for (slot, b) in counts.iter_mut().zip(buckets).filter(|(_, b)| b.count != 0.0) {
            *populated = true;
            let whole = if upper { b.upper <= at } else { b.lower >= at };
            let part = if upper { b.lower < at } else { b.upper > at };
            if whole {
                count += b.count;
                sum += middle(b.lower, b.upper, is_positive, is_custom) * b.count;
            } else if part {
                let (kept, mid) = part_of(&b, at, upper, is_positive, is_custom);
                count += kept;
                sum += mid * kept;
                if *slot != kept {
                    *slot = kept;
                    trimmed = true;
                }
            } else {
                *slot = 0.0;
                trimmed = true;
            }
        }
    }
    if h.zero_count > 0.0 {
        let (kept, mid) = part_of_zero(&zero_bucket(h), at, upper, populated);
        trimmed |= h.zero_count != kept;
        h.zero_count = kept;
        sum += mid * kept;
        count += kept;
    }
    if trimmed {
        (h.count, h.sum) = (count, sum);
        h.integer = false;
        compact(h, 0);
    }
}

/// What stays of a bucket that is cut, and where its middle is then.
fn part_of(b: &Bucket, at: f64, upper: bool, is_positive: bool, is_custom: bool) -> (f64, f64) {
    if b.lower == f64::NEG_INFINITY || b.upper == f64::INFINITY {
        return part_of_endless(b, at, upper);
    }
    let below = if at <= b.lower {
        0.0
    } else if at >= b.upper {
        b.count
    } else {
        b.count * b.fraction_below(at, is_custom)
    };
    if upper {
        (below, middle(b.lower, at, is_positive, is_custom))
    } else {
        (b.count - below, middle(at, b.upper, is_positive, is_custom))
    }
}

/// A bucket that reaches to infinity can only be kept or dropped, but for a first custom bucket with a positive bound,
/// which counts as starting at 0.
fn part_of_endless(b: &Bucket, at: f64, upper: bool) -> (f64, f64) {
    let finite = |v: f64| if v.is_infinite() { 0.0 } else { v };
    if b.lower == f64::NEG_INFINITY {
        let from_zero = b.upper > 0.0 && b.upper != f64::INFINITY;
        return match upper {
            true if at >= b.upper => (b.count, 0.0),
            true if at > 0.0 && from_zero => (b.count * at / b.upper, at / 2.0),
            true if b.upper <= 0.0 => (b.count, at),
            false if at <= b.lower => (b.count, 0.0),
            false if at >= 0.0 && b.upper > at && b.upper != f64::INFINITY => {
                (b.count * (1.0 - at / b.upper), (at + b.upper) / 2.0)
            }
            _ => (0.0, finite(b.upper)),
        };
    }
    if !upper && at >= b.lower {
        (b.count, at)
    } else {
        (0.0, finite(b.lower))
    }
}

fn part_of_zero(b: &Bucket, at: f64, upper: bool, [positive, negative]: [bool; 2]) -> (f64, f64) {
    let lower_bound = if positive && !negative { 0.0 } else { b.lower };
    let upper_bound = if negative && !positive { 0.0 } else { b.upper };
    let (whole, none) = if upper {
        (at >= upper_bound, at <= lower_bound)
    } else {
        (at <= lower_bound, at >= upper_bound)
    };
    // at both bounds at once (an empty interval) the nearer test of the two wins, as in Prometheus
    let none_first = upper;
    if none && (none_first || !whole) {
        return (0.0, 0.0);
    }
    if whole {
        return (b.count, (lower_bound + upper_bound) / 2.0);
    }
    let width = upper_bound - lower_bound;
    if upper {
        (b.count * ((at - lower_bound) / width), (lower_bound + at) / 2.0)
    } else {
        (b.count * ((upper_bound - at) / width), (at + upper_bound) / 2.0)
    }
}

fn middle(lower: f64, upper: f64, is_positive: bool, linear: bool) -> f64 {
    match (lower.is_infinite(), upper.is_infinite()) {
        (true, true) => 0.0,
        (true, false) => {
            if upper > 0.0 {
                upper / 2.0
            } else {
                upper
            }
        }
        (false, true) => lower,
        (false, false) if linear => (lower + upper) / 2.0,
        (false, false) => {
            let mean = (lower * upper).abs().sqrt();
            if is_positive { mean } else { -mean }
        }
    }
}
