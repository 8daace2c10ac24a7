//! Histogram columns: consecutive histograms of one layout form a run; within it every bucket is a column of its own.

use std::borrow::Borrow;
use std::sync::Arc;

use model::{Histogram, ResetHint, Span};

use super::ChunkError;
use super::cursor::{Cursor, put_varint, put_zigzag};
use super::values::{self, Scratch, put_float, read_float};

/// Numbers (counts, sums, buckets) that the histograms of a chunk may have together.
pub const HISTOGRAM_VALUES_MAX: usize = 4 << 20;

const INTEGER: u8 = 1;
const NEGATIVE: u8 = 2;
const CUSTOM: u8 = 4;
const ZERO: u8 = 8;
const HINT_SHIFT: u8 = 4;

/// Count, zero count and sum.
const FIXED: usize = 3;

fn numbers(h: &Histogram) -> usize {
    FIXED
        + h.positive_buckets.len()
        + h.negative_buckets.len()
        + h.custom_values.len()
        + h.positive_spans.len()
        + h.negative_spans.len()
}

/// How many histograms from the front fit into one chunk.
pub fn histograms_fit<H: Borrow<Histogram>>(histograms: &[H]) -> usize {
    let mut all = 0;
    histograms
        .iter()
        .take(super::SAMPLES_MAX)
        .take_while(|h| {
            all += numbers((*h).borrow());
            all <= HISTOGRAM_VALUES_MAX
        })
        .count()
}

/// Everything but counts and sum is equal to the bit.
pub(crate) fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    a.reset_hint == b.reset_hint
        && a.integer == b.integer
        && a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.positive_buckets.len() == b.positive_buckets.len()
        && a.negative_buckets.len() == b.negative_buckets.len()
        && a.custom_values.len() == b.custom_values.len()
        && a.custom_values
            .iter()
            .zip(&b.custom_values)
            .all(|(x, y)| x.to_bits() == y.to_bits())
}

/// Equal to the bit.
fn same(a: &Histogram, b: &Histogram) -> bool {
    let bits = |x: &[f64], y: &[f64]| x.iter().zip(y).all(|(x, y)| x.to_bits() == y.to_bits());
    same_layout(a, b)
        && bits(&[a.count, a.zero_count, a.sum], &[b.count, b.zero_count, b.sum])
        && bits(&a.positive_buckets, &b.positive_buckets)
        && bits(&a.negative_buckets, &b.negative_buckets)
}

pub(super) fn encode<H: Borrow<Histogram>>(histograms: &[H], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let mut rest = histograms;
    let mut column = Vec::new();
    while let Some(first) = rest.first() {
        let first: &Histogram = first.borrow();
        let n = rest.iter().take_while(|h| same_layout(first, (**h).borrow())).count();
        let (run, tail) = rest.split_at(n);
        rest = tail;
        put_varint(out, n as u64);
        put_layout(first, out);
        let mut put = |pick: &dyn Fn(&Histogram) -> f64| {
            column.clear();
            column.extend(run.iter().map(|h| pick(h.borrow())));
            values::encode(&column, scratch, out);
        };
        put(&|h| h.count);
        put(&|h| h.zero_count);
        put(&|h| h.sum);
        for i in 0..first.positive_buckets.len() {
            put(&|h| h.positive_buckets[i]);
        }
        for i in 0..first.negative_buckets.len() {
            put(&|h| h.negative_buckets[i]);
        }
    }
}

/// Appends everything of a histogram but its counts and sum.
pub(crate) fn put_layout(h: &Histogram, out: &mut Vec<u8>) {
    let mut flags = (h.reset_hint as u8) << HINT_SHIFT | if h.integer { INTEGER } else { 0 };
    if !h.negative_spans.is_empty() || !h.negative_buckets.is_empty() {
        flags |= NEGATIVE;
    }
    if !h.custom_values.is_empty() {
        flags |= CUSTOM;
    }
    if h.zero_threshold.to_bits() != 0 {
        flags |= ZERO;
    }
    out.push(flags);
    put_zigzag(out, i64::from(h.schema));
    if flags & ZERO != 0 {
        put_float(h.zero_threshold, out);
    }
    put_side(&h.positive_spans, h.positive_buckets.len(), out);
    if flags & NEGATIVE != 0 {
        put_side(&h.negative_spans, h.negative_buckets.len(), out);
    }
    if flags & CUSTOM != 0 {
        put_varint(out, h.custom_values.len() as u64);
        for v in &h.custom_values {
            put_float(*v, out);
        }
    }
}

fn put_side(spans: &[Span], buckets: usize, out: &mut Vec<u8>) {
    put_varint(out, spans.len() as u64);
    for s in spans {
        put_zigzag(out, i64::from(s.offset));
        put_varint(out, u64::from(s.length));
    }
    put_varint(out, buckets as u64);
}

fn read_side(from: &mut Cursor<'_>, budget: &mut usize) -> Result<(Vec<Span>, usize), ChunkError> {
    let n = from.bounded("count of spans", from.rest.len() / 2)?;
    *budget = budget.checked_sub(n).ok_or(ChunkError::Field {
        field: "count of spans",
        value: n as u64,
    })?;
    let mut spans = Vec::with_capacity(n);
    for _ in 0..n {
        let offset = from.zigzag()?;
        let offset = i32::try_from(offset).map_err(|_| ChunkError::Field {
            field: "span offset",
            value: offset.unsigned_abs(),
        })?;
        spans.push(Span {
            offset,
            length: from.bounded("span length", u32::MAX as usize)? as u32,
        });
    }
    let buckets = from.bounded("count of buckets", *budget)?;
    Ok((spans, buckets))
}

/// A histogram without counts, and how many buckets its sides have. `budget`: numbers it may have in all.
pub(crate) fn read_layout(from: &mut Cursor<'_>, budget: &mut usize) -> Result<(Histogram, usize, usize), ChunkError> {
    let flags = from.u8()?;
    let hint = flags >> HINT_SHIFT;
    let schema = from.zigzag()?;
    let schema = i32::try_from(schema).map_err(|_| ChunkError::Field {
        field: "schema",
        value: schema.unsigned_abs(),
    })?;
    let zero_threshold = if flags & ZERO != 0 { read_float(from)? } else { 0.0 };
    let (positive_spans, positive) = read_side(from, budget)?;
    let (negative_spans, negative) = if flags & NEGATIVE != 0 {
        read_side(from, budget)?
    } else {
        (Vec::new(), 0)
    };
    let mut custom_values = Vec::new();
    if flags & CUSTOM != 0 {
        let n = from.bounded("count of bounds", (*budget).min(from.rest.len()))?;
        *budget -= n;
        custom_values.reserve_exact(n);
        for _ in 0..n {
            custom_values.push(read_float(from)?);
        }
    }
    let h = Histogram {
        reset_hint: match hint {
            0 => ResetHint::Unknown,
            1 => ResetHint::Reset,
            2 => ResetHint::NoReset,
            3 => ResetHint::Gauge,
            _ => {
                return Err(ChunkError::Field {
                    field: "histogram flags",
                    value: u64::from(flags),
                });
            }
        },
        integer: flags & INTEGER != 0,
        schema,
        zero_threshold,
        positive_spans,
        negative_spans,
        custom_values,
        ..Histogram::default()
    };
    Ok((h, positive, negative))
}

pub(super) fn decode(
    count: usize,
    from: &mut Cursor<'_>,
    histograms: &mut Vec<Arc<Histogram>>,
) -> Result<(), ChunkError> {
    let mut budget = HISTOGRAM_VALUES_MAX;
    let mut left = count;
    let mut column = Vec::new();
    let mut run: Vec<Histogram> = Vec::new();
    while left > 0 {
        let n = from.bounded("length of a run", left)?;
        if n == 0 {
            return Err(ChunkError::Field {
                field: "length of a run",
                value: 0,
            });
        }
        left -= n;
        let mut layout_budget = budget;
        let (layout, positive, negative) = read_layout(from, &mut layout_budget)?;
        let each = FIXED
            + positive
            + negative
            + layout.custom_values.len()
            + layout.positive_spans.len()
            + layout.negative_spans.len();
        budget = n
            .checked_mul(each)
            .and_then(|all| budget.checked_sub(all))
            .ok_or(ChunkError::Field {
                field: "count of numbers",
                value: each as u64,
            })?;
        run.clear();
        run.resize(n, layout);
        let mut each_value = |put: &dyn Fn(&mut Histogram, f64)| -> Result<(), ChunkError> {
            column.clear();
            values::decode(n, from, &mut column)?;
            for (h, &v) in run.iter_mut().zip(&column) {
                put(h, v);
            }
            Ok(())
        };
        each_value(&|h, v| h.count = v)?;
        each_value(&|h, v| h.zero_count = v)?;
        each_value(&|h, v| h.sum = v)?;
        for _ in 0..positive {
            each_value(&|h, v| h.positive_buckets.push(v))?;
        }
        for _ in 0..negative {
            each_value(&|h, v| h.negative_buckets.push(v))?;
        }
        for h in run.drain(..) {
            match histograms.last() {
                Some(last) if same(last, &h) => histograms.push(Arc::clone(last)),
                _ => histograms.push(Arc::new(h)),
            }
        }
    }
    Ok(())
}
