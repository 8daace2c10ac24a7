use model::{Histogram, ResetHint, Span};

use super::combine::{counts_beyond, zero_count_at};
use super::custom::{bounds_match, counts_at, intersect_bounds};
use super::side::SIGNS;

/// Whether a counter was reset between `previous` and `h`: a count went down, a populated bucket vanished, or the layout
/// changed in a way that only a restart explains. What the hint says goes first.
pub fn detect_reset(h: &Histogram, previous: &Histogram) -> bool {
    match h.reset_hint {
        ResetHint::Reset => return true,
        ResetHint::NoReset => return false,
        ResetHint::Unknown | ResetHint::Gauge => {}
    }
    if h.count < previous.count {
        return true;
    }
    if h.is_custom() {
        if !previous.is_custom() {
            return true;
        }
        if !bounds_match(&h.custom_values, &previous.custom_values) {
            let bounds = intersect_bounds(&h.custom_values, &previous.custom_values);
            let (now, before) = (counts_at(h, &bounds), counts_at(previous, &bounds));
            return now.iter().zip(&before).any(|(n, b)| n < b);
        }
    }
    if h.schema > previous.schema || h.zero_threshold < previous.zero_threshold {
        return true;
    }
    let (zero_before, threshold, _) = zero_count_at(previous, h.zero_threshold, None);
    if threshold != h.zero_threshold || h.zero_count < zero_before {
        return true;
    }
    SIGNS.into_iter().any(|side| {
        let now = counts_beyond(h, side, h.schema, h.zero_threshold);
        let before = counts_beyond(previous, side, h.schema, h.zero_threshold);
        let mut now = now.into_iter().peekable();
        before.into_iter().any(|(index, count, _)| {
            while now.next_if(|n| n.0 < index).is_some() {}
            match now.peek() {
                Some(n) if n.0 == index => n.1 < count,
                _ => count != 0.0,
            }
        })
    })
}

/// Whether two histograms hold the same data, bit by bit. Hints and spans without buckets make no difference.
pub fn equal(a: &Histogram, b: &Histogram) -> bool {
    let bits = |a: f64, b: f64| a.to_bits() == b.to_bits();
    let all_bits = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| bits(*a, *b));
    a.schema == b.schema
        && bits(a.count, b.count)
        && bits(a.sum, b.sum)
        && (!a.is_custom() || bounds_match(&a.custom_values, &b.custom_values))
        && a.zero_threshold == b.zero_threshold
        && bits(a.zero_count, b.zero_count)
        && spans_match(&a.negative_spans, &b.negative_spans)
        && all_bits(&a.negative_buckets, &b.negative_buckets)
        && spans_match(&a.positive_spans, &b.positive_spans)
        && all_bits(&a.positive_buckets, &b.positive_buckets)
}

/// Whether two lists of spans describe the same buckets.
fn spans_match(a: &[Span], b: &[Span]) -> bool {
    fn runs(spans: &[Span]) -> Vec<(i64, u64)> {
        let (mut at, mut out) = (0i64, Vec::<(i64, u64)>::new());
        for s in spans {
            at += i64::from(s.offset);
            if s.length > 0 {
                match out.last_mut() {
                    Some(last) if last.0 + last.1 as i64 == at => last.1 += u64::from(s.length),
                    _ => out.push((at, u64::from(s.length))),
                }
            }
            at += i64::from(s.length);
        }
        out
    }
    a == b || runs(a) == runs(b)
}
