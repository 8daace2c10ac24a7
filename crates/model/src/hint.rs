//! Which histograms of a series continue the one before: what a counter's reader would otherwise find out bucket by bucket.

use std::sync::Arc;

use crate::{Histogram, ResetHint, SeriesBlock, Span};

/// How far before a range the predecessor of its first histogram is looked for, in ms. Prometheus begins a new chunk after
/// this time at the latest, and knows no predecessor then.
pub const HINT_REACH_MS: i64 = 2 * 60 * 60 * 1000;

impl Histogram {
    /// The reset hint that Prometheus' store gives on reading this histogram behind `previous`, the sample before it of
    /// the same series (`None`: there is none, or it is a float). Whether it continues that one is compared; what its
    /// sender said matters for gauges and explicit resets only.
    pub fn hint_after(&self, previous: Option<&Histogram>) -> ResetHint {
        match previous {
            _ if self.reset_hint == ResetHint::Gauge => ResetHint::Gauge,
            Some(previous) if continues(self, previous) => ResetHint::NoReset,
            _ => ResetHint::Unknown,
        }
    }
}

/// Whether the two have one layout and no count went down.
fn continues(h: &Histogram, previous: &Histogram) -> bool {
    if previous.reset_hint == ResetHint::Gauge || h.reset_hint == ResetHint::Reset {
        return false;
    }
    if h.is_stale() || previous.is_stale() {
        return h.is_stale();
    }
    h.schema == previous.schema
        && h.integer == previous.integer
        && h.zero_threshold == previous.zero_threshold
        && h.custom_values == previous.custom_values
        && h.count >= previous.count
        && h.zero_count >= previous.zero_count
        && grows(
            (&h.positive_spans, &h.positive_buckets),
            (&previous.positive_spans, &previous.positive_buckets),
        )
        && grows(
            (&h.negative_spans, &h.negative_buckets),
            (&previous.negative_spans, &previous.negative_buckets),
        )
}

/// Whether each populated bucket of `before` is in `now`, with no less in it.
fn grows(now: (&[Span], &[f64]), before: (&[Span], &[f64])) -> bool {
    if now.0 == before.0 && now.1.len() == before.1.len() {
        return now.1.iter().zip(before.1).all(|(n, b)| n >= b);
    }
    let mut now = indexed(now.0, now.1).peekable();
    indexed(before.0, before.1).all(|(index, count)| {
        while now.next_if(|n| n.0 < index).is_some() {}
        match now.peek() {
            Some(n) if n.0 == index => n.1 >= count,
            _ => count == 0.0,
        }
    })
}

/// Index and count of each bucket, ascending by index.
fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i64, f64)> + 'a {
    let mut next = 0i64;
    let indexes = spans.iter().flat_map(move |s| {
        let first = next + i64::from(s.offset);
        next = first + i64::from(s.length);
        first..next
    });
    indexes.zip(counts.iter().copied())
}

impl SeriesBlock {
    /// Whether the block begins with a histogram whose hint depends on the sample before it.
    pub fn hint_needs_previous(&self) -> bool {
        let first = |at_ms: &[i64]| at_ms.first().copied().unwrap_or(i64::MAX);
        let begins = first(&self.histogram_at_ms) < first(&self.at_ms);
        let open = |h: &Arc<Histogram>| !matches!(h.reset_hint, ResetHint::Gauge | ResetHint::Reset);
        begins && self.histograms.first().is_some_and(open)
    }

    /// Gives each histogram the hint of [`Histogram::hint_after`]; `previous` is the sample before the block's first,
    /// when that is a histogram.
    pub fn set_hints(&mut self, previous: Option<Arc<Histogram>>) {
        // backwards: what was stored decides about the next one, not the hint it is given here
        let mut floats = self.at_ms.len();
        for i in (0..self.histograms.len()).rev() {
            floats = self.at_ms[..floats].partition_point(|&t| t < self.histogram_at_ms[i]);
            let (earlier, rest) = self.histograms.split_at_mut(i);
            let before = earlier.last().or(previous.as_ref());
            let since = i.checked_sub(1).map_or(i64::MIN, |i| self.histogram_at_ms[i]);
            let float_between = floats > 0 && self.at_ms[floats - 1] > since;
            let hint = rest[0].hint_after(before.filter(|_| !float_between).map(|h| &**h));
            if rest[0].reset_hint != hint {
                Arc::make_mut(&mut rest[0]).reset_hint = hint;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn histogram(spans: &[(i32, u32)], buckets: &[f64]) -> Histogram {
        Histogram {
            count: buckets.iter().sum(),
            positive_spans: spans.iter().map(|&(offset, length)| Span { offset, length }).collect(),
            positive_buckets: buckets.to_vec(),
            ..Histogram::default()
        }
    }

    #[test]
    fn growth_is_seen_across_layouts_of_spans() {
        let before = histogram(&[(0, 2), (1, 1)], &[1.0, 2.0, 0.0]);
        let same = histogram(&[(0, 4)], &[1.0, 2.0, 5.0, 0.0]);
        let less = histogram(&[(0, 4)], &[0.0, 3.0, 5.0, 0.0]);
        let gone = histogram(&[(0, 1)], &[9.0]);
        assert_eq!(same.hint_after(Some(&before)), ResetHint::NoReset);
        assert_eq!(less.hint_after(Some(&before)), ResetHint::Unknown);
        assert_eq!(gone.hint_after(Some(&before)), ResetHint::Unknown);
        assert_eq!(same.hint_after(None), ResetHint::Unknown);
    }

    #[test]
    fn what_the_sender_said_matters_for_gauges_and_resets() {
        let plain = histogram(&[(0, 1)], &[1.0]);
        let with = |reset_hint| Histogram {
            reset_hint,
            ..plain.clone()
        };
        assert_eq!(with(ResetHint::Reset).hint_after(Some(&plain)), ResetHint::Unknown);
        assert_eq!(with(ResetHint::NoReset).hint_after(None), ResetHint::Unknown);
        assert_eq!(with(ResetHint::Gauge).hint_after(Some(&plain)), ResetHint::Gauge);
        assert_eq!(plain.hint_after(Some(&with(ResetHint::Gauge))), ResetHint::Unknown);
    }

    #[test]
    fn a_float_in_between_ends_a_run() {
        let h = Arc::new(histogram(&[(0, 1)], &[1.0]));
        let mut block = SeriesBlock {
            at_ms: vec![25],
            values: vec![1.0],
            histogram_at_ms: vec![10, 20, 30, 40],
            histograms: vec![Arc::clone(&h); 4],
            ..SeriesBlock::default()
        };
        assert!(block.hint_needs_previous());
        block.set_hints(Some(Arc::clone(&h)));
        let hints: Vec<_> = block.histograms.iter().map(|h| h.reset_hint).collect();
        use ResetHint::{NoReset, Unknown};
        assert_eq!(hints, [NoReset, NoReset, Unknown, NoReset]);
        assert_eq!(h.reset_hint, Unknown, "the stored one stays as it is");
        block.at_ms[0] = 5;
        assert!(!block.hint_needs_previous());
    }
}
