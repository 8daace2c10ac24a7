//! Timestamp columns: a base and a step, and where the step is not kept the distances from that grid.

use super::ChunkError;
use super::cursor::{Cursor, put_zigzag};
use super::ints::{self, BLOCK, Blocks, Shape};

/// 2020-01-01T00:00:00Z: bases are told from here, which saves a byte of each.
const EPOCH_MS: i64 = 1_577_836_800_000;

/// The base is in whole seconds.
pub(super) const BASE_SECONDS: u8 = 1;
/// The step is in whole seconds.
pub(super) const STEP_SECONDS: u8 = 2;
/// The last timestamp's distance from the grid and a column of all distances follow.
pub(super) const OFF_GRID: u8 = 4;

/// Appends the column; the flags say how to read it.
pub(super) fn encode(at_ms: &[i64], scratch: &mut Vec<i64>, out: &mut Vec<u8>) -> u8 {
    let Some((&first, rest)) = at_ms.split_first() else {
        return 0;
    };
    let mut flags = 0;
    let base = first.wrapping_sub(EPOCH_MS);
    flags |= put_scaled(base, BASE_SECONDS, out);
    if rest.is_empty() {
        return flags;
    }
    let step = likely_step(at_ms);
    flags |= put_scaled(step, STEP_SECONDS, out);
    let mut off = 0;
    let mut expected = first;
    for &t in at_ms {
        off |= t ^ expected;
        expected = expected.wrapping_add(step);
    }
    if off != 0 {
        flags |= OFF_GRID;
        let on_grid = first.wrapping_add(step.wrapping_mul(rest.len() as i64));
        put_zigzag(out, at_ms[rest.len()].wrapping_sub(on_grid));
        scratch.clear();
        let mut expected = first;
        scratch.extend(at_ms.iter().map(|&t| {
            let d = t.wrapping_sub(expected);
            expected = expected.wrapping_add(step);
            d
        }));
        let place = out.len();
        out.push(0);
        out[place] = shape_byte(ints::encode(scratch, out));
    }
    flags
}

fn shape_byte(shape: Shape) -> u8 {
    shape.order | u8::from(shape.factor) << 2
}

fn put_scaled(n: i64, flag: u8, out: &mut Vec<u8>) -> u8 {
    let whole = n % 1000 == 0 && n != 0;
    put_zigzag(out, if whole { n / 1000 } else { n });
    if whole { flag } else { 0 }
}

fn read_scaled(from: &mut Cursor<'_>, seconds: bool) -> Result<i64, ChunkError> {
    let n = from.zigzag()?;
    Ok(if seconds { n.wrapping_mul(1000) } else { n })
}

/// The median of a few steps: a gap or a late sample does not move it.
fn likely_step(at_ms: &[i64]) -> i64 {
    let n = at_ms.len() - 1;
    let mut steps = [0i64; 9];
    let picked = n.min(steps.len());
    for (i, s) in steps[..picked].iter_mut().enumerate() {
        let at = i * n / picked;
        *s = at_ms[at + 1].wrapping_sub(at_ms[at]);
    }
    *steps[..picked].select_nth_unstable(picked / 2).1
}

/// The start of a timestamp column: what the head of a chunk tells, and how to read the rest.
pub(super) struct Grid {
    pub(super) first: i64,
    pub(super) last: i64,
    step: i64,
    off_grid: bool,
    count: usize,
}

impl Grid {
    pub(super) fn read(flags: u8, count: usize, from: &mut Cursor<'_>) -> Result<Self, ChunkError> {
        if count == 0 {
            return Ok(Grid {
                first: 0,
                last: 0,
                step: 0,
                off_grid: false,
                count,
            });
        }
        let first = read_scaled(from, flags & BASE_SECONDS != 0)?.wrapping_add(EPOCH_MS);
        let step = if count > 1 {
            read_scaled(from, flags & STEP_SECONDS != 0)?
        } else {
            0
        };
        let off_grid = flags & OFF_GRID != 0;
        let apart = if off_grid { from.zigzag()? } else { 0 };
        let last = first
            .wrapping_add(step.wrapping_mul(count as i64 - 1))
            .wrapping_add(apart);
        Ok(Grid {
            first,
            last,
            step,
            off_grid,
            count,
        })
    }

    /// Appends all timestamps.
    pub(super) fn decode(&self, from: &mut Cursor<'_>, at_ms: &mut Vec<i64>) -> Result<(), ChunkError> {
        let (mut expected, step) = (self.first, self.step);
        if !self.off_grid {
            at_ms.extend((0..self.count as i64).map(|i| expected.wrapping_add(step.wrapping_mul(i))));
            return Ok(());
        }
        let shape = read_shape(from)?;
        let mut blocks = Blocks::new(shape, self.count, from)?;
        let mut block = [0i64; BLOCK];
        loop {
            let n = blocks.next(from, &mut block)?;
            if n == 0 {
                return Ok(());
            }
            at_ms.extend(block[..n].iter().map(|d| {
                let t = d.wrapping_add(expected);
                expected = expected.wrapping_add(step);
                t
            }));
        }
    }
}

fn read_shape(from: &mut Cursor<'_>) -> Result<Shape, ChunkError> {
    let b = from.u8()?;
    if b & !7 != 0 || b & 3 == 3 {
        return Err(ChunkError::Field {
            field: "column shape",
            value: u64::from(b),
        });
    }
    Ok(Shape {
        order: b & 3,
        factor: b & 4 != 0,
    })
}

/// Appends a column of arbitrary times, such as start times.
pub(super) fn encode_plain(times: &[i64], scratch: &mut Vec<i64>, out: &mut Vec<u8>) {
    scratch.clear();
    scratch.extend_from_slice(times);
    let place = out.len();
    out.push(0);
    out[place] = shape_byte(ints::encode(scratch, out));
}

pub(super) fn decode_plain(count: usize, from: &mut Cursor<'_>, times: &mut Vec<i64>) -> Result<(), ChunkError> {
    let shape = read_shape(from)?;
    let mut blocks = Blocks::new(shape, count, from)?;
    let mut block = [0i64; BLOCK];
    loop {
        let n = blocks.next(from, &mut block)?;
        if n == 0 {
            return Ok(());
        }
        times.extend_from_slice(&block[..n]);
    }
}
