//! Float columns. Values that are decimals of few digits (most are) become integers, checked by doing it backwards bit
//! by bit; others are taken as integers by their bits in numeric order. Single values that do not fit are written
//! beside the column.

use std::ops::Range;

use model::STALE_NAN_BITS;

use super::ChunkError;
use super::cursor::{Cursor, put_varint, put_zigzag};
use super::ints::{self, BLOCK, Blocks, Shape};

const CODEC: u8 = 0x03;
const CONSTANT: u8 = 0;
const DECIMAL: u8 = 1;
const BITS: u8 = 2;
const ORDER_SHIFT: u8 = 2;
const FACTOR: u8 = 0x10;
const EXCEPTIONS: u8 = 0x20;
const EXPONENT: u8 = 0x40;

/// Decimal places tried at most. Powers up to 10^22 are exact.
const PLACES_MAX: u8 = 17;
pub(crate) const POW10: [f64; 18] = [
    1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17,
];

/// Adding this rounds a float below 2^51 to a whole number, which then is in its low bits.
const ROUND: f64 = 6_755_399_441_055_744.0;
const WHOLE_MAX: f64 = 2_251_799_813_685_248.0;

/// Values that need their own byte only.
const SPECIAL: [u64; 6] = [
    STALE_NAN_BITS,
    0x8000_0000_0000_0000,
    0x7ff8_0000_0000_0001,
    0x7ff0_0000_0000_0000,
    0xfff0_0000_0000_0000,
    0x7ff8_0000_0000_0000,
];
const RAW: u8 = 0xff;

/// Memory used again from column to column.
#[derive(Default)]
pub(super) struct Scratch {
    pub(super) ints: Vec<i64>,
    misfits: Vec<u32>,
    other: Vec<u8>,
}

/// `value * 10^places` when that is a whole number that gives back the very bits.
#[inline]
pub(crate) fn decimal(value: f64, places: u8) -> Option<i64> {
    let power = POW10[usize::from(places)];
    let scaled = value * power;
    let shifted = scaled + ROUND;
    let whole = shifted - ROUND;
    if (whole / power).to_bits() == value.to_bits() && whole.abs() < WHOLE_MAX {
        return Some((shifted.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64));
    }
    (places == 0).then(|| big_whole(value)).flatten()
}

/// Whole numbers from 2^51 on.
#[cold]
fn big_whole(value: f64) -> Option<i64> {
    const TOP: f64 = 9_223_372_036_854_775_808.0;
    let n = value as i64;
    (value.abs() < TOP && (n as f64).to_bits() == value.to_bits()).then_some(n)
}

/// The fewest places at which `value` is a whole number, not below `from`.
pub(crate) fn places_of(value: f64, from: u8) -> Option<u8> {
    if !value.is_finite() {
        return None;
    }
    (from..=PLACES_MAX).find(|&p| decimal(value, p).is_some())
}

/// Places that fit most of a sample of the values.
fn likely_places(values: &[f64]) -> Option<u8> {
    let n = values.len();
    // a few: all values are checked afterwards
    let picked = n.min(if n > 64 { 32 } else { 8 });
    let (mut places, mut misfits) = (0, 0);
    for i in 0..picked {
        let v = values[i * n / picked];
        match places_of(v, places) {
            Some(p) => places = p,
            None => misfits += 1,
        }
        if misfits > 2 + picked / 8 {
            return None;
        }
    }
    Some(places)
}

/// Integers of all values; those that do not fit repeat the one before and are listed.
fn to_decimal(values: &[f64], places: u8, ints: &mut Vec<i64>, misfits: &mut Vec<u32>) {
    ints.clear();
    misfits.clear();
    let power = POW10[usize::from(places)];
    ints.extend(values.iter().map(|v| {
        let shifted = v * power + ROUND;
        (shifted.to_bits() as i64).wrapping_sub(ROUND.to_bits() as i64)
    }));
    for (start, group) in values.chunks(64).enumerate() {
        let mut bad = false;
        for &v in group {
            let whole = (v * power + ROUND) - ROUND;
            bad |= (whole / power).to_bits() != v.to_bits();
            // false for NaN, whose bits may be equal
            let fits = whole.abs() < WHOLE_MAX;
            bad |= !fits;
        }
        if bad {
            for (i, &v) in group.iter().enumerate() {
                let i = start * 64 + i;
                match decimal(v, places) {
                    Some(n) => ints[i] = n,
                    None => misfits.push(i as u32),
                }
            }
        }
    }
    if !misfits.is_empty() {
        let mut next = misfits.iter().copied().peekable();
        let mut last = None;
        let mut leading = 0;
        for (i, n) in ints.iter_mut().enumerate() {
            if next.next_if_eq(&(i as u32)).is_some() {
                match last {
                    Some(l) => *n = l,
                    None => leading = i + 1,
                }
            } else {
                last = Some(*n);
            }
        }
        let fill = ints.get(leading).copied().unwrap_or(0);
        ints[..leading].fill(fill);
    }
}

/// Floats by their bits, so that the integers are in numeric order. Its own inverse.
#[inline]
fn ordered(bits: i64) -> i64 {
    bits ^ (((bits >> 63) as u64) >> 1) as i64
}

/// Appends the column of at least one value.
pub(super) fn encode(values: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let first = values[0].to_bits();
    if values.iter().fold(0, |a, v| a | (v.to_bits() ^ first)) == 0 {
        out.push(CONSTANT);
        put_float(values[0], out);
        return;
    }
    let start = out.len();
    let mut places = likely_places(values);
    for tries_left in (0..4).rev() {
        let Some(p) = places else { break };
        to_decimal(values, p, &mut scratch.ints, &mut scratch.misfits);
        // a value with more places than the sample had: take these, if the others bear it
        let longer = scratch
            .misfits
            .iter()
            .find_map(|&i| places_of(values[i as usize], p + 1));
        match longer {
            Some(l) if tries_left > 0 => places = Some(l),
            _ => break,
        }
    }
    let mut decimal_done = false;
    if let Some(p) = places
        && scratch.misfits.len() * 4 <= values.len()
    {
        let doubtful = p > 9 || scratch.misfits.len() * 16 > values.len();
        put_decimal(p, values, scratch, out);
        if !doubtful {
            return;
        }
        decimal_done = true;
    }
    let decimal_bytes = out.len() - start;
    if decimal_done {
        scratch.other.clear();
        scratch.other.extend_from_slice(&out[start..]);
        out.truncate(start);
    }
    scratch.ints.clear();
    scratch.ints.extend(values.iter().map(|v| ordered(v.to_bits() as i64)));
    out.push(0);
    let shape = ints::encode(&mut scratch.ints, out);
    out[start] = BITS | shape.order << ORDER_SHIFT | if shape.factor { FACTOR } else { 0 };
    if decimal_done && decimal_bytes <= out.len() - start {
        out.truncate(start);
        out.extend_from_slice(&scratch.other);
    }
}

fn put_decimal(places: u8, values: &[f64], scratch: &mut Scratch, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(0);
    let mut tag = DECIMAL;
    if places > 0 {
        tag |= EXPONENT;
        out.push(places);
    }
    let shape = ints::encode(&mut scratch.ints, out);
    tag |= shape.order << ORDER_SHIFT | if shape.factor { FACTOR } else { 0 };
    if !scratch.misfits.is_empty() {
        tag |= EXCEPTIONS;
        put_varint(out, scratch.misfits.len() as u64);
        let mut last = 0;
        for &i in &scratch.misfits {
            put_varint(out, u64::from(i - last));
            last = i;
            put_odd(values[i as usize].to_bits(), out);
        }
    }
    out[start] = tag;
}

fn put_odd(bits: u64, out: &mut Vec<u8>) {
    match SPECIAL.iter().position(|s| *s == bits) {
        Some(kind) => out.push(kind as u8),
        None => {
            out.push(RAW);
            out.extend_from_slice(&bits.to_le_bytes());
        }
    }
}

fn read_odd(from: &mut Cursor<'_>) -> Result<u64, ChunkError> {
    match from.u8()? {
        RAW => from.u64(),
        kind => SPECIAL.get(usize::from(kind)).copied().ok_or(ChunkError::Field {
            field: "kind of exception",
            value: u64::from(kind),
        }),
    }
}

/// A single float in few bytes: places and a whole number, or raw.
pub(crate) fn put_float(value: f64, out: &mut Vec<u8>) {
    match places_of(value, 0) {
        Some(p) => {
            out.push(p);
            put_zigzag(out, decimal(value, p).unwrap_or_default());
        }
        None => {
            out.push(RAW);
            out.extend_from_slice(&value.to_bits().to_le_bytes());
        }
    }
}

pub(crate) fn read_float(from: &mut Cursor<'_>) -> Result<f64, ChunkError> {
    match from.u8()? {
        RAW => Ok(f64::from_bits(from.u64()?)),
        p if p <= PLACES_MAX => Ok(from.zigzag()? as f64 / POW10[usize::from(p)]),
        p => Err(ChunkError::Field {
            field: "decimal places",
            value: u64::from(p),
        }),
    }
}

/// Appends `count` (at least one) values.
pub(super) fn decode(count: usize, from: &mut Cursor<'_>, values: &mut Vec<f64>) -> Result<(), ChunkError> {
    decode_range(count, 0..count, from, values)
}

/// Appends those of `count` (at least one) values whose places are wanted.
pub(super) fn decode_range(
    count: usize,
    wanted: Range<usize>,
    from: &mut Cursor<'_>,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let tag = from.u8()?;
    let start = values.len();
    let shape = Shape {
        order: tag >> ORDER_SHIFT & 3,
        factor: tag & FACTOR != 0,
    };
    let unknown = ChunkError::Field {
        field: "value codec",
        value: u64::from(tag),
    };
    if tag & 0x80 != 0 || shape.order == 3 {
        return Err(unknown);
    }
    match tag & CODEC {
        CONSTANT => {
            let v = read_float(from)?;
            values.resize(start + wanted.len(), v);
        }
        DECIMAL => {
            let places = if tag & EXPONENT != 0 { from.u8()? } else { 0 };
            let Some(&power) = POW10.get(usize::from(places)) else {
                return Err(ChunkError::Field {
                    field: "decimal places",
                    value: u64::from(places),
                });
            };
            each_block(count, &wanted, shape, from, values, |ints, values| {
                if places == 0 {
                    values.extend(ints.iter().map(|&v| v as f64));
                } else {
                    divide(ints, power, values);
                }
            })?;
            if tag & EXCEPTIONS != 0 {
                let n = from.bounded("count of exceptions", count)?;
                let mut at = 0;
                for _ in 0..n {
                    let gap = from.bounded("gap between exceptions", count)?;
                    at += gap;
                    let bits = read_odd(from)?;
                    if at >= count {
                        return Err(ChunkError::Field {
                            field: "exception position",
                            value: at as u64,
                        });
                    }
                    if wanted.contains(&at)
                        && let Some(v) = values.get_mut(start + at - wanted.start)
                    {
                        *v = f64::from_bits(bits);
                    }
                }
            }
        }
        BITS => each_block(count, &wanted, shape, from, values, |ints, values| {
            values.extend(ints.iter().map(|&v| f64::from_bits(ordered(v) as u64)));
        })?,
        _ => return Err(unknown),
    }
    Ok(())
}

/// Gives the wanted integers to `put`, block by block.
fn each_block(
    count: usize,
    wanted: &Range<usize>,
    shape: Shape,
    from: &mut Cursor<'_>,
    values: &mut Vec<f64>,
    put: impl Fn(&[i64], &mut Vec<f64>),
) -> Result<(), ChunkError> {
    let mut blocks = Blocks::new(shape, count, from)?;
    let mut block = [0i64; BLOCK];
    values.reserve(wanted.len());
    let mut done = 0;
    loop {
        let n = blocks.ahead();
        if n == 0 {
            return Ok(());
        }
        if done >= wanted.end {
            return blocks.finish(from);
        }
        if done + n <= wanted.start {
            blocks.skip(from)?;
        } else {
            blocks.next(from, &mut block)?;
            let first = wanted.start.saturating_sub(done);
            put(&block[first..n.min(wanted.end - done)], values);
        }
        done += n;
    }
}

/// Appends each integer divided by a power of ten.
fn divide(ints: &[i64], power: f64, values: &mut Vec<f64>) {
    values.extend(ints.iter().map(|&v| whole(v) / power));
}

/// The integer as a float. Integers of decimals with places are below 2^51, for which two additions do it.
#[inline]
fn whole(v: i64) -> f64 {
    f64::from_bits(ROUND.to_bits().wrapping_add(v as u64)) - ROUND
}
