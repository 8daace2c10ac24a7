//! The histogram message that both versions of remote write share.
use model::{Histogram, RejectReason, ResetHint, SampleSink, Span};

use crate::DecodeError;
use crate::proto::{Reader, Wire, unzigzag};
use crate::rejects::Rejects;

/// Buckets, spans or bounds of one histogram at most, each.
const PARTS_MAX: usize = 4096;
/// Counts beyond this are no longer exact as floats.
const EXACT_MAX: u64 = 1 << 53;

/// A histogram that is well formed as protobuf.
pub(crate) enum Parsed {
    /// Time, start time (0 unknown), value.
    Histogram(i64, i64, Histogram),
    /// Time, and why it is refused.
    Refused(i64, String),
}

pub(crate) fn refuse<S: SampleSink + ?Sized>(rejects: &mut Rejects, sink: &mut S, at_ms: i64, why: String) {
    rejects.tell(sink, RejectReason::Histogram, 1, || {
        (format!("native histogram at {at_ms} ms"), why)
    });
}

pub(crate) fn read(mut r: Reader<'_>) -> Result<Parsed, DecodeError> {
    let mut h = Histogram {
        integer: true,
        ..Histogram::default()
    };
    let (mut at_ms, mut start_ms) = (0, 0);
    let (mut positive_deltas, mut negative_deltas) = (Vec::new(), Vec::new());
    let (mut count, mut zero_count) = (0u64, 0u64);
    let mut parts = 0usize;
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 => {
                r.expect(tag, Wire::Varint, "count_int")?;
                (count, h.integer) = (r.varint()?, true);
            }
            2 => {
                r.expect(tag, Wire::Fixed64, "count_float")?;
                (h.count, h.integer) = (r.double()?, false);
            }
            3 => {
                r.expect(tag, Wire::Fixed64, "sum")?;
                h.sum = r.double()?;
            }
            4 => {
                r.expect(tag, Wire::Varint, "schema")?;
                h.schema = r.zigzag()? as i32;
            }
            5 => {
                r.expect(tag, Wire::Fixed64, "zero_threshold")?;
                h.zero_threshold = r.double()?;
            }
            6 => {
                r.expect(tag, Wire::Varint, "zero_count_int")?;
                zero_count = r.varint()?;
            }
            7 => {
                r.expect(tag, Wire::Fixed64, "zero_count_float")?;
                h.zero_count = r.double()?;
            }
            8 | 11 => {
                r.expect(tag, Wire::Bytes, "spans")?;
                let span = span(r.nested()?)?;
                parts += 1;
                let spans = if tag.field == 8 {
                    &mut h.negative_spans
                } else {
                    &mut h.positive_spans
                };
                push(spans, span);
            }
            9 | 12 => {
                let deltas = if tag.field == 9 {
                    &mut negative_deltas
                } else {
                    &mut positive_deltas
                };
                r.repeated(tag, Wire::Varint, "bucket deltas", Reader::varint, |n| {
                    parts += 1;
                    push(deltas, unzigzag(n));
                })?;
            }
            10 | 13 | 16 => {
                let floats = match tag.field {
                    10 => &mut h.negative_buckets,
                    13 => &mut h.positive_buckets,
                    _ => &mut h.custom_values,
                };
                r.repeated(tag, Wire::Fixed64, "bucket counts or bounds", Reader::double, |n| {
                    parts += 1;
                    push(floats, n);
                })?;
            }
            14 => {
                r.expect(tag, Wire::Varint, "reset_hint")?;
                h.reset_hint = match r.varint()? {
                    1 => ResetHint::Reset,
                    2 => ResetHint::NoReset,
                    3 => ResetHint::Gauge,
                    _ => ResetHint::Unknown,
                };
            }
            15 => {
                r.expect(tag, Wire::Varint, "timestamp")?;
                at_ms = r.varint()? as i64;
            }
            17 => {
                r.expect(tag, Wire::Varint, "start_timestamp")?;
                start_ms = r.varint()? as i64;
            }
            _ => r.skip(tag)?,
        }
    }
    let given = [
        h.positive_spans.len(),
        h.negative_spans.len(),
        h.positive_buckets.len().max(positive_deltas.len()),
        h.negative_buckets.len().max(negative_deltas.len()),
        h.custom_values.len(),
    ];
    if given.iter().any(|&n| n > PARTS_MAX) {
        return Ok(Parsed::Refused(
            at_ms,
            format!("{parts} spans, buckets and bounds: at most {PARTS_MAX} of each are taken"),
        ));
    }
    if h.integer {
        let stale = h.is_stale();
        for (what, deltas, out) in [
            ("positive", &positive_deltas, &mut h.positive_buckets),
            ("negative", &negative_deltas, &mut h.negative_buckets),
        ] {
            if !out.is_empty() {
                let why = format!("{what} buckets as floats beside an integer count: deltas are right");
                return Ok(Parsed::Refused(at_ms, why));
            }
            let mut have = 0i64;
            for &delta in deltas {
                have = have.saturating_add(delta);
                if have.unsigned_abs() > EXACT_MAX {
                    return Ok(Parsed::Refused(at_ms, format!("a {what} bucket beyond 2^53: {have}")));
                }
                out.push(have as f64);
            }
        }
        for (what, n, out) in [
            ("count", count, &mut h.count),
            ("zero count", zero_count, &mut h.zero_count),
        ] {
            if n > EXACT_MAX && !stale {
                return Ok(Parsed::Refused(at_ms, format!("a {what} beyond 2^53: {n}")));
            }
            *out = if n > EXACT_MAX { 0.0 } else { n as f64 };
        }
    } else if !positive_deltas.is_empty() || !negative_deltas.is_empty() {
        let why = "bucket deltas beside a float count: counts are right".to_owned();
        return Ok(Parsed::Refused(at_ms, why));
    }
    Ok(Parsed::Histogram(at_ms, start_ms, h))
}

/// One more than the bound is kept, to tell that it was passed.
fn push<T>(out: &mut Vec<T>, item: T) {
    if out.len() <= PARTS_MAX {
        out.push(item);
    }
}

fn span(mut r: Reader<'_>) -> Result<Span, DecodeError> {
    let mut span = Span { offset: 0, length: 0 };
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 => {
                r.expect(tag, Wire::Varint, "offset of a span")?;
                span.offset = r.zigzag()? as i32;
            }
            2 => {
                r.expect(tag, Wire::Varint, "length of a span")?;
                span.length = r.varint()? as u32;
            }
            _ => r.skip(tag)?,
        }
    }
    Ok(span)
}
