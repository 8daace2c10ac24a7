//! Timestamp columns: a base and a step, and where the step is not kept the distances from that grid.

use std::ops::Range;

use model::TimeRange;

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
        self.decode_range(TimeRange::ALL, from, at_ms).map(drop)
    }

    /// Appends the timestamps within the range, which ascend; returns which of the column's they are.
    pub(super) fn decode_range(
        &self,
        range: TimeRange,
        from: &mut Cursor<'_>,
        at_ms: &mut Vec<i64>,
    ) -> Result<Range<usize>, ChunkError> {
        let whole = range.start_ms <= self.first && self.last <= range.end_ms;
        let place = |i: usize| self.first.wrapping_add(self.step.wrapping_mul(i as i64));
        if !self.off_grid {
            let wanted = if whole { 0..self.count } else { self.on_grid(range) };
            let mut next = place(wanted.start);
            at_ms.extend(wanted.clone().map(|_| {
                let t = next;
                next = next.wrapping_add(self.step);
                t
            }));
            return Ok(wanted);
        }
        let shape = read_shape(from)?;
        let mut blocks = Blocks::new(shape, self.count, from)?;
        let mut block = [0i64; BLOCK];
        let (mut done, mut wanted) = (0, 0..0);
        while blocks.ahead() > 0 {
            let n = blocks.ahead();
            if !whole && let Some((low, high)) = blocks.bounds(from) {
                // the grid ascends within a column that does
                let earliest = place(done).saturating_add(low);
                let latest = place(done + n - 1).saturating_add(high);
                if self.step >= 0 && (latest < range.start_ms || earliest > range.end_ms) {
                    blocks.skip(from)?;
                    done += n;
                    continue;
                }
            }
            blocks.next(from, &mut block)?;
            let start = at_ms.len();
            at_ms.extend(
                block[..n]
                    .iter()
                    .enumerate()
                    .map(|(i, d)| d.wrapping_add(place(done + i))),
            );
            if !whole {
                let times = &at_ms[start..];
                let first = times.partition_point(|t| *t < range.start_ms);
                let end = times.partition_point(|t| *t <= range.end_ms).max(first);
                at_ms.truncate(start + end);
                at_ms.drain(start..start + first);
                if first < end {
                    if wanted.is_empty() {
                        wanted.start = done + first;
                    }
                    wanted.end = done + end;
                }
                if end < n {
                    blocks.finish(from)?;
                    break;
                }
            }
            done += n;
        }
        Ok(if whole { 0..self.count } else { wanted })
    }

    /// Which timestamps lie in the range, when all lie on the grid.
    fn on_grid(&self, range: TimeRange) -> Range<usize> {
        let within = |t: i64| range.contains(t);
        if self.step <= 0 {
            return if within(self.first) { 0..self.count } else { 0..0 };
        }
        let (first, step) = (i128::from(self.first), i128::from(self.step));
        let before = (i128::from(range.start_ms) - first + step - 1).div_euclid(step);
        let until = (i128::from(range.end_ms) - first).div_euclid(step) + 1;
        let count = self.count as i128;
        let from = before.clamp(0, count);
        from as usize..until.clamp(from, count) as usize
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
