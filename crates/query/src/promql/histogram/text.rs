use std::fmt::Write as _;

use model::{Histogram, ResetHint};

use super::super::literal::{decimal, general};
use super::buckets::{Bucket, all, negative, positive, zero_bucket};
use super::combine::compact;

fn bucket_text(b: &Bucket) -> String {
    let open = if b.lower_inclusive { '[' } else { '(' };
    let close = if b.upper_inclusive { ']' } else { ')' };
    format!(
        "{open}{},{}{close}:{}",
        general(b.lower),
        general(b.upper),
        general(b.count)
    )
}

/// As Prometheus prints a histogram: `{count:3, sum:5, [-1,1]:1, (1,2]:2}`.
pub fn text(h: &Histogram) -> String {
    let mut out = format!("{{count:{}, sum:{}", general(h.count), general(h.sum));
    let mut below: Vec<Bucket> = negative(h).collect();
    below.reverse();
    let zero = (h.zero_count != 0.0).then(|| zero_bucket(h));
    for b in below
        .into_iter()
        .chain(zero)
        .chain(positive(h))
        .filter(|b| b.count != 0.0)
    {
        out.push_str(", ");
        out.push_str(&bucket_text(&b));
    }
    out.push('}');
    out
}

/// As the test language writes a histogram: `{{schema:1 count:3 sum:5 buckets:[1 2]}}`. Gaps are filled with zeros.
pub fn test_text(h: &Histogram) -> String {
    let mut h = h.clone();
    compact(&mut h, usize::MAX);
    let list = |values: &[f64]| values.iter().map(|v| general(*v)).collect::<Vec<_>>().join(" ");
    if h.is_custom() {
        // there is none, whatever arithmetic made of it
        h.zero_count = 0.0;
    }
    let mut parts = Vec::new();
    if h.schema != 0 {
        parts.push(format!("schema:{}", h.schema));
    }
    let fields = [
        ("count", h.count),
        ("sum", h.sum),
        ("z_bucket", h.zero_count),
        ("z_bucket_w", h.zero_threshold),
    ];
    for (name, value) in fields {
        if value != 0.0 {
            parts.push(format!("{name}:{}", general(value)));
        }
    }
    if h.is_custom() {
        parts.push(format!("custom_values:[{}]", list(&h.custom_values)));
    }
    match h.reset_hint {
        ResetHint::Unknown => {}
        ResetHint::Reset => parts.push("counter_reset_hint:reset".into()),
        ResetHint::NoReset => parts.push("counter_reset_hint:not_reset".into()),
        ResetHint::Gauge => parts.push("counter_reset_hint:gauge".into()),
    }
    for (spans, counts, offset, buckets) in [
        (&h.positive_spans, &h.positive_buckets, "offset", "buckets"),
        (&h.negative_spans, &h.negative_buckets, "n_offset", "n_buckets"),
    ] {
        if let Some(first) = spans.first().filter(|s| s.offset != 0) {
            parts.push(format!("{offset}:{}", first.offset));
        }
        if !counts.is_empty() {
            parts.push(format!("{buckets}:[{}]", list(counts)));
        }
    }
    format!("{{{{{}}}}}", parts.join(" "))
}

/// A float as Prometheus' HTTP API writes it, quotes included.
pub fn float_json(value: f64, out: &mut String) {
    let size = value.abs();
    out.push('"');
    if size != 0.0 && size.is_finite() && !(1e-6..1e21).contains(&size) {
        let scientific = format!("{value:e}");
        let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
        let (sign, digits) = match exponent.strip_prefix('-') {
            Some(digits) => ('-', digits),
            None => ('+', exponent),
        };
        // writing to a String cannot fail
        let _ = write!(out, "{mantissa}e{sign}{digits:0>2}");
    } else {
        out.push_str(&decimal(value));
    }
    out.push('"');
}

/// As Prometheus' HTTP API writes a histogram: count, sum and the populated buckets, each as
/// `[boundaries, lower, upper, count]` with boundaries 0 for open on the left, 1 on the right, 2 on both, 3 on none.
pub fn json(h: &Histogram, out: &mut String) {
    out.push_str("{\"count\":");
    float_json(h.count, out);
    out.push_str(",\"sum\":");
    float_json(h.sum, out);
    let mut any = false;
    for b in all(h).filter(|b| b.count != 0.0) {
        out.push_str(if any { "," } else { ",\"buckets\":[" });
        any = true;
        let boundaries = match (b.lower_inclusive, b.upper_inclusive) {
            (false, true) => "[0,",
            (true, false) => "[1,",
            (false, false) => "[2,",
            (true, true) => "[3,",
        };
        out.push_str(boundaries);
        float_json(b.lower, out);
        out.push(',');
        float_json(b.upper, out);
        out.push(',');
        float_json(b.count, out);
        out.push(']');
    }
    out.push_str(if any { "]}" } else { "}" });
}
