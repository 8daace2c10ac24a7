use model::{Histogram, Span};

use super::kahan;

/// The buckets of one sign as (index, count, what its sum has lost), ascending by index.
pub(super) type Entries = Vec<(i32, f64, f64)>;

/// Index and count of each bucket, ascending by index.
pub(super) fn indexed<'a>(spans: &'a [Span], counts: &'a [f64]) -> impl Iterator<Item = (i32, f64)> + 'a {
    let mut next = 0i32;
    let indexes = spans.iter().flat_map(move |s| {
        let first = next.wrapping_add(s.offset);
        next = first.wrapping_add_unsigned(s.length);
        (0..s.length).map(move |i| first.wrapping_add_unsigned(i))
    });
    indexes.zip(counts.iter().copied())
}

pub(super) fn entries(spans: &[Span], counts: &[f64], lost: Option<&[f64]>) -> Entries {
    let lost = |i: usize| lost.and_then(|l| l.get(i)).copied().unwrap_or(0.0);
    indexed(spans, counts)
        .enumerate()
        .map(|(i, (index, count))| (index, count, lost(i)))
        .collect()
}

/// The index of the bucket that holds bucket `index` of schema `from` at the coarser schema `to`.
pub(super) fn coarser(index: i32, from: i32, to: i32) -> i32 {
    let shift = from.saturating_sub(to).clamp(0, 31);
    (index.wrapping_sub(1) >> shift).wrapping_add(1)
}

/// Merges buckets for a coarser schema; with `kahan_sum` losses are summed too.
pub(super) fn reduce_entries(from: i32, to: i32, entries: Entries, kahan_sum: bool) -> Entries {
    if from <= to {
        return entries;
    }
    let mut out: Entries = Vec::with_capacity(entries.len());
    for (index, count, lost) in entries {
        let index = coarser(index, from, to);
        match out.last_mut() {
            Some(last) if last.0 == index && kahan_sum => {
                (last.1, last.2) = kahan(count, last.1, last.2);
                (last.1, last.2) = kahan(lost, last.1, last.2);
            }
            Some(last) if last.0 == index => last.1 += count,
            _ => out.push((index, count, lost)),
        }
    }
    out
}

/// Spans and counts of entries; neighbours share a span.
pub(super) fn layout(entries: &Entries) -> (Vec<Span>, Vec<f64>, Vec<f64>) {
    let mut spans: Vec<Span> = Vec::new();
    let mut next = 0i32;
    for &(index, ..) in entries {
        match spans.last_mut() {
            Some(last) if next == index => last.length += 1,
            _ => spans.push(Span {
                offset: index.wrapping_sub(next),
                length: 1,
            }),
        }
        next = index.wrapping_add(1);
    }
    (
        spans,
        entries.iter().map(|e| e.1).collect(),
        entries.iter().map(|e| e.2).collect(),
    )
}

/// Buckets that one gap is filled with at most.
const FILL_MAX: usize = 4096;

/// Drops empty buckets, but for gaps of up to `max_empty` between populated ones, which are filled up.
pub(super) fn compact_entries(entries: Entries, max_empty: usize) -> Entries {
    let mut out: Entries = Vec::with_capacity(entries.len());
    for entry in entries.into_iter().filter(|e| e.1 != 0.0 || e.2 != 0.0) {
        if let (Some(last), true) = (out.last().copied(), max_empty > 0) {
            let gap = i64::from(entry.0) - i64::from(last.0) - 1;
            if gap > 0 && gap <= max_empty.min(FILL_MAX) as i64 {
                out.extend((0..gap as i32).map(|i| (last.0.wrapping_add(1 + i), 0.0, 0.0)));
            }
        }
        out.push(entry);
    }
    out
}

/// Whether dropping empty buckets would change nothing.
pub(super) fn is_compact(spans: &[Span], counts: &[f64]) -> bool {
    counts.iter().all(|&c| c != 0.0)
        && spans
            .iter()
            .enumerate()
            .all(|(i, s)| s.length > 0 && (i == 0 || s.offset > 0))
        && spans.iter().map(|s| s.length as usize).sum::<usize>() == counts.len()
}

/// One sign of a histogram.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Sign {
    Positive,
    Negative,
}

pub(super) const SIGNS: [Sign; 2] = [Sign::Positive, Sign::Negative];

impl Sign {
    pub(super) fn of(self, h: &Histogram) -> (&[Span], &[f64]) {
        match self {
            Sign::Positive => (&h.positive_spans, &h.positive_buckets),
            Sign::Negative => (&h.negative_spans, &h.negative_buckets),
        }
    }

    pub(super) fn of_mut(self, h: &mut Histogram) -> (&mut Vec<Span>, &mut Vec<f64>) {
        match self {
            Sign::Positive => (&mut h.positive_spans, &mut h.positive_buckets),
            Sign::Negative => (&mut h.negative_spans, &mut h.negative_buckets),
        }
    }
}
