use model::{Histogram, Span};

use super::kahan;
use super::side::{indexed, layout};

/// Whether two sets of custom bounds are the same.
pub fn bounds_match(a: &[f64], b: &[f64]) -> bool {
    a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a == b)
}

/// The bounds that both sets have.
pub fn intersect_bounds(a: &[f64], b: &[f64]) -> Vec<f64> {
    let (mut i, mut j, mut out) = (0, 0, Vec::new());
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        if x == y {
            out.push(*x);
            i += 1;
            j += 1;
        } else if x < y {
            i += 1;
        } else {
            j += 1;
        }
    }
    out
}

/// Counts and what their sums lost, bucket by bucket of the common bounds.
struct Target<'a> {
    bounds: &'a [f64],
    counts: Vec<(f64, f64)>,
}

impl Target<'_> {
    fn put(
        &mut self,
        spans: &[Span],
        counts: &[f64],
        bounds: &[f64],
        mut into: impl FnMut(usize, f64, &mut (f64, f64)),
    ) {
        let mut at = 0;
        for (n, (index, count)) in indexed(spans, counts).enumerate() {
            let own = usize::try_from(index).ok().and_then(|i| bounds.get(i));
            let target = match own {
                Some(&own) => {
                    at += self.bounds[at..].iter().take_while(|&&b| b < own).count();
                    at
                }
                None => self.bounds.len(),
            };
            into(n, count, &mut self.counts[target]);
        }
    }
}

/// Adds or subtracts where the custom bounds differ: both are mapped to the bounds that they share.
pub(super) fn combine(h: &mut Histogram, other: &Histogram, negative: bool, lost: Option<&mut Histogram>) {
    let bounds = intersect_bounds(&h.custom_values, &other.custom_values);
    let mut target = Target {
        bounds: &bounds,
        counts: vec![(0.0, 0.0); bounds.len() + 1],
    };
    let lost_counts = lost.as_ref().map(|c| c.positive_buckets.as_slice());
    target.put(
        &h.positive_spans,
        &h.positive_buckets,
        &h.custom_values,
        |n, count, slot| {
            *slot = kahan(count, slot.0, slot.1);
            if let Some(c) = lost_counts.and_then(|l| l.get(n)) {
                *slot = kahan(*c, slot.0, slot.1);
            }
        },
    );
    target.put(
        &other.positive_spans,
        &other.positive_buckets,
        &other.custom_values,
        |_, count, slot| {
            *slot = kahan(if negative { -count } else { count }, slot.0, slot.1);
        },
    );
    let populated = target
        .counts
        .iter()
        .enumerate()
        .filter(|(_, c)| c.0 != 0.0 || c.1 != 0.0);
    let entries = populated.map(|(i, c)| (i as i32, c.0, c.1)).collect();
    let (spans, counts, counts_lost) = layout(&entries);
    if let Some(c) = lost {
        c.positive_spans.clone_from(&spans);
        c.positive_buckets = counts_lost;
        c.custom_values.clone_from(&bounds);
    }
    (h.positive_spans, h.positive_buckets) = (spans, counts);
    h.custom_values = bounds;
}

/// Counts per bucket of the common bounds of two histograms, for comparing them.
pub(super) fn counts_at(h: &Histogram, bounds: &[f64]) -> Vec<f64> {
    let mut target = Target {
        bounds,
        counts: vec![(0.0, 0.0); bounds.len() + 1],
    };
    target.put(
        &h.positive_spans,
        &h.positive_buckets,
        &h.custom_values,
        |_, count, slot| slot.0 += count,
    );
    target.counts.into_iter().map(|c| c.0).collect()
}
