//! The arithmetic of native histograms, over [`model::Histogram`], as Prometheus' `FloatHistogram` does it. Nothing
//! here panics on histograms that contradict themselves: surplus spans or buckets are passed over.

mod bounds;
mod buckets;
mod combine;
mod custom;
mod estimate;
mod reset;
mod side;
mod text;
mod trim;

pub use buckets::{Bucket, all, bound, negative, positive, zero_bucket};
pub use combine::{Added, Incompatible, add, compact, div, has_overflow, kahan_add, mul, reduce, sub, to_schema};
pub use custom::{bounds_match, intersect_bounds};
pub use estimate::{Note, avg, fraction, quantile, stddev, stdvar};
pub use reset::{detect_reset, equal};
pub use text::{float_json, json, test_text, text};
pub use trim::trim;

/// One step of a sum by Kahan and Neumaier: the new sum and what it has lost so far.
pub fn kahan(inc: f64, sum: f64, lost: f64) -> (f64, f64) {
    let total = sum + inc;
    let lost = if total.is_infinite() {
        0.0
    } else if sum.abs() >= inc.abs() {
        lost + ((sum - total) + inc)
    } else {
        lost + ((inc - total) + sum)
    };
    (total, lost)
}

#[cfg(test)]
mod tests;
