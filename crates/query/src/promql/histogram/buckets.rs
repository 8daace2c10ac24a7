use model::{Histogram, Span};

use super::bounds::WITHIN_HALF_TO_ONE;
use super::side::indexed;

/// One bucket with its bounds.
#[derive(Clone, Copy, Debug, PartialEq, Default)]
pub struct Bucket {
    pub lower: f64,
    pub upper: f64,
    pub lower_inclusive: bool,
    pub upper_inclusive: bool,
    pub count: f64,
    /// Within schema and sign; 0 for the zero bucket.
    pub index: i32,
}

impl Bucket {
    /// The share of the bucket's width at or below `v`, which lies strictly within finite bounds: linear, or linear on
    /// a logarithmic scale.
    pub fn fraction_below(&self, v: f64, linear: bool) -> f64 {
        if linear {
            return (v - self.lower) / (self.upper - self.lower);
        }
        let (lower, upper, v_log) = (log2(self.lower.abs()), log2(self.upper.abs()), log2(v.abs()));
        if v > 0.0 {
            (v_log - lower) / (upper - lower)
        } else {
            1.0 - ((v_log - upper) / (lower - upper))
        }
    }
}

/// The binary logarithm, exact for powers of two.
pub(super) fn log2(v: f64) -> f64 {
    if !v.is_normal() {
        return v.log2();
    }
    let bits = v.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i32 - 1022;
    let within = f64::from_bits((bits & !(0x7ff << 52)) | (1022 << 52));
    if within == 0.5 {
        return f64::from(exponent - 1);
    }
    within.ln() * (1.0 / std::f64::consts::LN_2) + f64::from(exponent)
}

/// `within * 2^exponent`, rounded once.
fn scale(within: f64, exponent: i64) -> f64 {
    match exponent {
        1025.. => f64::INFINITY,
        -1021..=1024 => within * 2.0 * power_of_two(exponent - 1),
        -1100..=-1022 => within * power_of_two(exponent + 53) * power_of_two(-53),
        _ => 0.0,
    }
}

/// 2^exponent within the normal range.
fn power_of_two(exponent: i64) -> f64 {
    f64::from_bits(((exponent.clamp(-1022, 1023) + 1023) as u64) << 52)
}

/// The upper bound of bucket `index` of an exponential schema. The last bucket of finite numbers ends at the largest of
/// them.
pub(super) fn exponential_bound(index: i32, schema: i32) -> f64 {
    let index = i64::from(index);
    if schema < 0 {
        return match index << (-schema).min(12) {
            1024 => f64::MAX,
            exponent => scale(0.5, exponent.saturating_add(1)),
        };
    }
    if schema > 8 {
        return (index as f64 / f64::from(schema.min(52)).exp2()).exp2();
    }
    let within = WITHIN_HALF_TO_ONE[((index & ((1 << schema) - 1)) << (8 - schema)) as usize & 0xff];
    match (index >> schema) + 1 {
        1025 if within == 0.5 => f64::MAX,
        exponent => scale(within, exponent),
    }
}

/// The upper bound of a positive bucket; the bucket before the first custom one ends at -Inf.
pub fn bound(index: i32, schema: i32, custom: &[f64]) -> f64 {
    if schema != model::CUSTOM_BUCKETS_SCHEMA {
        return exponential_bound(index, schema);
    }
    match usize::try_from(index) {
        Ok(i) => custom.get(i).copied().unwrap_or(f64::INFINITY),
        Err(_) => f64::NEG_INFINITY,
    }
}

fn bucket(index: i32, count: f64, schema: i32, positive: bool, custom: &[f64]) -> Bucket {
    let near = bound(index.wrapping_sub(1), schema, custom);
    let far = bound(index, schema, custom);
    let (lower, upper) = if positive { (near, far) } else { (-far, -near) };
    let (lower_inclusive, upper_inclusive) = if schema == model::CUSTOM_BUCKETS_SCHEMA {
        (index == 0, true)
    } else {
        (lower < 0.0, upper > 0.0)
    };
    Bucket {
        lower,
        upper,
        lower_inclusive,
        upper_inclusive,
        count,
        index,
    }
}

/// Positive buckets, ascending.
pub fn positive(h: &Histogram) -> impl Iterator<Item = Bucket> + '_ {
    indexed(&h.positive_spans, &h.positive_buckets).map(|(i, c)| bucket(i, c, h.schema, true, &h.custom_values))
}

/// Negative buckets, descending: away from zero.
pub fn negative(h: &Histogram) -> impl Iterator<Item = Bucket> + '_ {
    indexed(&h.negative_spans, &h.negative_buckets).map(|(i, c)| bucket(i, c, h.schema, false, &[]))
}

pub fn zero_bucket(h: &Histogram) -> Bucket {
    Bucket {
        lower: -h.zero_threshold,
        upper: h.zero_threshold,
        lower_inclusive: true,
        upper_inclusive: true,
        count: h.zero_count,
        index: 0,
    }
}

/// All buckets, ascending (or descending when read from the back), the zero bucket when it is populated. Those that
/// overlap the zero bucket are cut at its threshold. Bounds are worked out only for buckets asked for.
pub fn all(h: &Histogram) -> impl DoubleEndedIterator<Item = Bucket> + '_ {
    let zero = (h.zero_count > 0.0).then(|| zero_bucket(h));
    let side = |spans: &[Span], counts: &[f64]| indexed(spans, counts).collect::<Vec<_>>();
    let of = |is_positive: bool| {
        move |(i, c)| {
            let custom: &[f64] = if is_positive { &h.custom_values } else { &[] };
            let mut b = bucket(i, c, h.schema, is_positive, custom);
            if b.upper < 0.0 && b.upper > -h.zero_threshold {
                b.upper = -h.zero_threshold;
            } else if b.lower > 0.0 && b.lower < h.zero_threshold {
                b.lower = h.zero_threshold;
            }
            b
        }
    };
    let negative = side(&h.negative_spans, &h.negative_buckets)
        .into_iter()
        .rev()
        .map(of(false));
    let positive = side(&h.positive_spans, &h.positive_buckets).into_iter().map(of(true));
    negative.chain(zero).chain(positive)
}
