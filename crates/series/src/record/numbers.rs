//! Values of rows that have nothing to do with each other: a nibble says kind and length, the bytes lie apart.

use super::RecordError;
use crate::chunk::cursor::{Cursor, put_varint, unzigzag, zigzag};
use crate::chunk::values::{POW10, decimal, places_of};

/// Nibbles: length in bytes of a whole number, or (`8 |`) of one with the column's decimal places.
const PLACED: u8 = 8;
/// Eight bytes of a float as it is.
const RAW: u8 = 7;
/// The upper five bytes of a float whose others are zero, such as one that was 32 bits wide.
const UPPER: u8 = 15;

/// Places a column may have; more are rare and cost 8 bytes.
const PLACES_MAX: u8 = 9;

/// The places that serve most: the largest that is not rare in a sample.
fn column_places(values: &[f64]) -> u8 {
    let picked = values.len().min(64);
    let mut seen = [0usize; PLACES_MAX as usize + 1];
    for i in 0..picked {
        if let Some(p) = places_of(values[i * values.len() / picked], 0)
            && p <= PLACES_MAX
        {
            seen[usize::from(p)] += 1;
        }
    }
    (1..=PLACES_MAX)
        .rev()
        .find(|&p| seen[usize::from(p)] * 32 > picked)
        .unwrap_or(2)
}

/// Whole numbers that fit six bytes, without a division.
#[inline]
fn small_whole(v: f64) -> Option<i64> {
    const TOP: f64 = (1i64 << 46) as f64;
    let n = v as i64;
    ((n as f64).to_bits() == v.to_bits() && v.abs() < TOP).then_some(n)
}

pub(super) fn encode(values: &[f64], out: &mut Vec<u8>) {
    let places = column_places(values);
    let power = POW10[usize::from(places)];
    out.push(places);
    let nibbles = out.len();
    out.resize(nibbles + values.len().div_ceil(2), 0);
    let data = out.len();
    out.resize(data + values.len() * 8 + 8, 0);
    let mut at = data;
    for (i, &v) in values.iter().enumerate() {
        let (kind, bits) = match small_whole(v) {
            Some(n) => (0, zigzag(n)),
            None => {
                // as `decimal`, whose bound is wider than six bytes
                let placed = if v.abs() < 1e13 / power {
                    decimal(v, places)
                } else {
                    None
                };
                match placed {
                    Some(n) => (PLACED, zigzag(n)),
                    None if v.to_bits() & 0xff_ffff == 0 => (UPPER, v.to_bits() >> 24),
                    None => (RAW, v.to_bits()),
                }
            }
        };
        let (nibble, len) = match kind {
            UPPER => (UPPER, 5),
            RAW => (RAW, 8),
            _ => {
                let len = (71 - (bits | 1).leading_zeros() as usize) / 8;
                let len = if bits == 0 { 0 } else { len };
                (kind | len as u8, len)
            }
        };
        out[nibbles + i / 2] |= nibble << (4 * (i & 1));
        out[at..at + 8].copy_from_slice(&bits.to_le_bytes());
        at += len;
    }
    out.truncate(at);
}

fn length(nibble: u8) -> usize {
    match nibble {
        RAW => 8,
        UPPER => 5,
        n => usize::from(n & 7),
    }
}

pub(super) fn decode(count: usize, from: &mut Cursor<'_>, values: &mut Vec<f64>) -> Result<(), RecordError> {
    let places = from.u8()?;
    if places > PLACES_MAX {
        return Err(RecordError::Field {
            field: "decimal places",
            value: u64::from(places),
        });
    }
    let power = POW10[usize::from(places)];
    let nibbles = from.take(count.div_ceil(2))?;
    values.reserve(count);
    let data = from.rest;
    let mut at = 0;
    for i in 0..count {
        let nibble = nibbles[i / 2] >> (4 * (i & 1)) & 15;
        let len = length(nibble);
        let mut word = [0u8; 8];
        if let Some(bytes) = data.get(at..at + 8) {
            word.copy_from_slice(bytes);
        } else {
            let bytes = data.get(at..at + len).ok_or(RecordError::Short)?;
            word[..len].copy_from_slice(bytes);
        }
        at += len;
        let bits = u64::from_le_bytes(word);
        let bits = if len == 8 {
            bits
        } else {
            bits & ((1u64 << (8 * len)) - 1)
        };
        values.push(match nibble {
            RAW => f64::from_bits(bits),
            UPPER => f64::from_bits(bits << 24),
            n if n & PLACED != 0 => unzigzag(bits) as f64 / power,
            _ => unzigzag(bits) as f64,
        });
    }
    from.take(at)?;
    Ok(())
}

/// A single number of a histogram: whole numbers as a varint.
pub(super) fn put_one(v: f64, out: &mut Vec<u8>) {
    match small_whole(v) {
        Some(n) => put_varint(out, zigzag(n) << 1),
        None => {
            out.push(1);
            out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
}

pub(super) fn read_one(from: &mut Cursor<'_>) -> Result<f64, RecordError> {
    match from.varint()? {
        n if n & 1 == 0 => Ok(unzigzag(n >> 1) as f64),
        1 => Ok(f64::from_bits(from.u64()?)),
        value => Err(RecordError::Field { field: "number", value }),
    }
}
