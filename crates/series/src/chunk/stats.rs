//! Statistics of a chunk, computed as Prometheus computes over the samples, and their short byte form.

use super::cursor::{Cursor, put_zigzag};
use super::values::{POW10, decimal, places_of};
use super::{ChunkError, ChunkStats};

const RAW: u8 = 0x1f;
const PLACES: u8 = 0x1f;
const MIN_FIRST: u8 = 0x20;
const MAX_LAST: u8 = 0x40;
const PLAIN: u8 = 0x80;

/// Statistics of samples that are in memory; the same numbers that `encode_floats` returns and `read_head` reads.
///
/// `sum` is compensated (Neumaier) as in Prometheus' `sum_over_time`. Values that are NaN are left out of `min` and
/// `max`; the other numbers are NaN when a value is.
pub fn stats_of(at_ms: &[i64], values: &[f64]) -> ChunkStats {
    let mut s = ChunkStats {
        count: at_ms.len() as u32,
        min_ms: at_ms.first().copied().unwrap_or(0),
        max_ms: at_ms.last().copied().unwrap_or(0),
        first: values.first().copied().unwrap_or(0.0),
        last: values.last().copied().unwrap_or(0.0),
        min: 0.0,
        max: 0.0,
        sum: 0.0,
        increase: 0.0,
        plain: false,
    };
    if values.is_empty() {
        return s;
    }
    let (mut min, mut max) = (f64::INFINITY, f64::NEG_INFINITY);
    let (mut sum, mut low, mut finite) = (0.0f64, 0.0f64, true);
    let (mut increase, mut prev) = (s.last - s.first, s.first);
    let mut nan = false;
    for &v in values {
        nan |= v.is_nan();
        min = if v < min { v } else { min };
        max = if v > max { v } else { max };
        let t = sum + v;
        finite &= t.is_finite();
        low += if sum.abs() >= v.abs() {
            (sum - t) + v
        } else {
            (v - t) + sum
        };
        sum = t;
        if v < prev {
            increase += prev;
        }
        prev = v;
    }
    s.min = min;
    s.max = max;
    s.sum = if finite { sum + low } else { infinite_sum(values) };
    s.increase = increase;
    s.plain = !nan;
    if min > max {
        (s.min, s.max) = (f64::NAN, f64::NAN);
    }
    s
}

/// Prometheus drops the compensation when the running sum becomes infinite.
fn infinite_sum(values: &[f64]) -> f64 {
    let (mut sum, mut low) = (0.0f64, 0.0f64);
    for &v in values {
        let t = sum + v;
        if t.is_infinite() {
            low = 0.0;
        } else if sum.abs() >= v.abs() {
            low += (sum - t) + v;
        } else {
            low += (v - t) + sum;
        }
        sum = t;
    }
    if sum.is_infinite() { sum } else { sum + low }
}

/// Appends all but count and times.
pub(super) fn put(s: &ChunkStats, out: &mut Vec<u8>) {
    let places = [s.first, s.last, s.min, s.max]
        .iter()
        .try_fold(0, |p, &v| places_of(v, p));
    let derived = s.last - s.first;
    let min_first = s.min.to_bits() == s.first.to_bits();
    let max_last = s.max.to_bits() == s.last.to_bits();
    let mut flags = if s.plain { PLAIN } else { 0 };
    flags |= if min_first { MIN_FIRST } else { 0 } | if max_last { MAX_LAST } else { 0 };
    let places = places.filter(|&p| {
        [s.first, s.last, s.min, s.max]
            .iter()
            .all(|&v| decimal(v, p).is_some_and(|n| n.unsigned_abs() < 1 << 62))
    });
    let Some(p) = places else {
        out.push(flags | RAW);
        for v in [s.first, s.last, s.min, s.max, s.sum, s.increase] {
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
        return;
    };
    out.push(flags | p);
    let whole = |v: f64| decimal(v, p).unwrap_or_default();
    let first = whole(s.first);
    put_zigzag(out, first);
    put_zigzag(out, whole(s.last) - first);
    if !min_first {
        put_zigzag(out, first - whole(s.min));
    }
    if !max_last {
        put_zigzag(out, whole(s.max) - first);
    }
    put_near(s.sum, p, first.wrapping_mul(i64::from(s.count)), out);
    // zero resets: the difference, which the reader forms again
    if s.increase.to_bits() == derived.to_bits() {
        out.push(0);
    } else {
        out.push(1);
        put_near(s.increase, p, 0, out);
    }
}

pub(super) fn read(from: &mut Cursor<'_>, s: &mut ChunkStats) -> Result<(), ChunkError> {
    let flags = from.u8()?;
    s.plain = flags & PLAIN != 0;
    let p = flags & PLACES;
    if p == RAW {
        for v in [
            &mut s.first,
            &mut s.last,
            &mut s.min,
            &mut s.max,
            &mut s.sum,
            &mut s.increase,
        ] {
            *v = f64::from_bits(from.u64()?);
        }
        return Ok(());
    }
    let Some(&power) = POW10.get(usize::from(p)) else {
        return Err(ChunkError::Field {
            field: "decimal places",
            value: u64::from(p),
        });
    };
    let float = |n: i64| n as f64 / power;
    let first = from.zigzag()?;
    s.first = float(first);
    s.last = float(first.wrapping_add(from.zigzag()?));
    s.min = if flags & MIN_FIRST != 0 {
        s.first
    } else {
        float(first.wrapping_sub(from.zigzag()?))
    };
    s.max = if flags & MAX_LAST != 0 {
        s.last
    } else {
        float(first.wrapping_add(from.zigzag()?))
    };
    s.sum = read_near(from, p, first.wrapping_mul(i64::from(s.count)))?;
    s.increase = match from.u8()? {
        0 => s.last - s.first,
        _ => read_near(from, p, 0)?,
    };
    Ok(())
}

/// A float that is nearly a decimal: the decimal, and how many floats lie between.
fn put_near(value: f64, places: u8, from: i64, out: &mut Vec<u8>) {
    let power = POW10[usize::from(places)];
    let whole = (value * power).round() as i64;
    let apart = (value.to_bits() as i64).wrapping_sub((whole as f64 / power).to_bits() as i64);
    put_zigzag(out, whole.wrapping_sub(from));
    put_zigzag(out, apart);
}

fn read_near(from: &mut Cursor<'_>, places: u8, base: i64) -> Result<f64, ChunkError> {
    let whole = from.zigzag()?.wrapping_add(base);
    let near = whole as f64 / POW10[usize::from(places)];
    let apart = from.zigzag()?;
    Ok(f64::from_bits((near.to_bits() as i64).wrapping_add(apart) as u64))
}
