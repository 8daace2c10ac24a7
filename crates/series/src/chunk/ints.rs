//! Integer columns: differences of order 0, 1 or 2, packed in blocks of 128 as offsets from a base per block; the few
//! that lie outside the block's window are written beside it.

use super::ChunkError;
use super::cursor::{Cursor, put_varint, put_zigzag, varint_len, zigzag};

/// Values of a block.
pub(super) const BLOCK: usize = 128;

const EXCEPTIONS: u8 = 0x80;

/// How a column is differenced and scaled; goes into the tag of whatever holds the column.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Shape {
    pub(super) order: u8,
    pub(super) factor: bool,
}

/// Appends the column of `values`, which are used up as scratch, and returns how to read it.
pub(super) fn encode(values: &mut [i64], out: &mut Vec<u8>) -> Shape {
    let factor = strip_factor(values, out);
    let order = best_order(values);
    difference(values, order, out);
    let mut last_base = 0i64;
    for block in values.chunks(BLOCK) {
        encode_block(block, &mut last_base, out);
    }
    Shape { order, factor }
}

/// Divides all distances from the first value by what they have in common.
fn strip_factor(values: &mut [i64], out: &mut Vec<u8>) -> bool {
    if values.len() < 3 {
        return false;
    }
    let origin = values[0];
    let mut bits = 0u64;
    for &v in values.iter() {
        bits |= v.wrapping_sub(origin) as u64;
    }
    if bits == 0 {
        return false;
    }
    let shift = bits.trailing_zeros();
    let mut odd = 0u64;
    for &v in values.iter() {
        let d = v.wrapping_sub(origin).unsigned_abs() >> shift;
        if d == 0 || (odd != 0 && d.is_multiple_of(odd)) {
            continue;
        }
        odd = gcd(odd, d);
        if odd == 1 {
            break;
        }
    }
    // distances may have wrapped: only a power of two divides modulo 2^64
    let wrapped = values.iter().any(|v| v.checked_sub(origin).is_none());
    let factor = if wrapped || shift >= 62 || odd >= 1 << (62 - shift) {
        1
    } else {
        odd << shift
    };
    if factor < 2 || (factor == 2 && values.len() < 64) {
        return false;
    }
    let factor = factor as i64;
    put_zigzag(out, origin);
    put_varint(out, factor as u64);
    if odd == 1 {
        for v in values.iter_mut() {
            *v = (*v - origin) >> shift;
        }
    } else {
        for v in values.iter_mut() {
            *v = (*v - origin) / factor;
        }
    }
    true
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// Columns up to this length are looked at as a whole.
const SHORT: usize = 48;

/// The order whose differences need the fewest bits.
fn best_order(values: &[i64]) -> u8 {
    match values.len() {
        0..3 => 0,
        3..=SHORT => best_order_short(values),
        _ => best_order_sampled(values),
    }
}

/// By the width of all differences; an outlier is too rare in few values to be worth a second look.
fn best_order_short(values: &[i64]) -> u8 {
    let (mut low, mut high) = ([i64::MAX; 3], [i64::MIN; 3]);
    let mut last_d = values[1].wrapping_sub(values[0]);
    for w in values[1..].windows(2) {
        let d = w[1].wrapping_sub(w[0]);
        for (order, v) in [w[1], d, d.wrapping_sub(last_d)].into_iter().enumerate() {
            low[order] = low[order].min(v);
            high[order] = high[order].max(v);
        }
        last_d = d;
    }
    let mut best = (usize::MAX, 0);
    for order in 0..3 {
        let width = bit_len(high[order].wrapping_sub(low[order]) as u64) as usize;
        // two bytes more for each start value
        let cost = width * values.len() + order * 16;
        if cost < best.0 {
            best = (cost, order as u8);
        }
    }
    best.1
}

/// By a sample: the mean distance from the median without the largest eighth, and the bits of that eighth.
fn best_order_sampled(values: &[i64]) -> u8 {
    const RUN: usize = 32;
    const RUNS: usize = 3;
    let n = values.len();
    let mut samples = [[0i64; RUN * RUNS]; 3];
    let mut count = 0;
    let (runs, len) = if n - 2 <= RUN * RUNS { (1, n - 2) } else { (RUNS, RUN) };
    for run in 0..runs {
        let start = 2 + if runs == 1 { 0 } else { run * (n - 2 - len) / (runs - 1) };
        for i in start..start + len {
            let (a, b, c) = (values[i - 2], values[i - 1], values[i]);
            let (d0, d1) = (b.wrapping_sub(a), c.wrapping_sub(b));
            samples[0][count] = c;
            samples[1][count] = d1;
            samples[2][count] = d1.wrapping_sub(d0);
            count += 1;
        }
    }
    let mut best = (f64::MAX, 0);
    for (order, s) in samples.iter_mut().enumerate() {
        let s = &mut s[..count];
        let (_, &mut centre, _) = s.select_nth_unstable(count / 2);
        for v in s.iter_mut() {
            *v = (v.wrapping_sub(centre).unsigned_abs() >> 1) as i64;
        }
        let near = count - count / 8;
        s.select_nth_unstable(near - 1);
        let sum: f64 = s[..near].iter().map(|&v| v as f64).sum();
        let far: u32 = s[near..].iter().map(|&v| bit_len(v as u64)).sum();
        // the start values a higher order writes, spread over the column
        let start = (order * 16 * count) as f64 / n as f64;
        let cost = near as f64 * (1.0 + sum / near as f64).log2() + f64::from(far) + start;
        if cost < best.0 {
            best = (cost, order as u8);
        }
    }
    best.1
}

#[inline]
fn bit_len(n: u64) -> u32 {
    64 - n.leading_zeros()
}

/// Replaces values by their differences. The values before the first are made up so that its differences equal the
/// next ones, which keeps the first block free of an outlier.
fn difference(values: &mut [i64], order: u8, out: &mut Vec<u8>) {
    match order {
        0 => {}
        1 => {
            let before = values[0].wrapping_sub(values[1].wrapping_sub(values[0]));
            put_zigzag(out, before);
            let mut last = before;
            for v in values.iter_mut() {
                let d = v.wrapping_sub(last);
                last = *v;
                *v = d;
            }
        }
        _ => {
            let d1 = values[1].wrapping_sub(values[0]);
            let r = values[2].wrapping_sub(values[1]).wrapping_sub(d1);
            let d0 = d1.wrapping_sub(r);
            let (before, slope) = (values[0].wrapping_sub(d0), d0.wrapping_sub(r));
            put_zigzag(out, before);
            put_zigzag(out, slope);
            let (mut last, mut last_d) = (before, slope);
            for v in values.iter_mut() {
                let d = v.wrapping_sub(last);
                let r = d.wrapping_sub(last_d);
                (last, last_d) = (*v, d);
                *v = r;
            }
        }
    }
}

fn encode_block(block: &[i64], last_base: &mut i64, out: &mut Vec<u8>) {
    let n = block.len();
    let (mut min, mut max) = (block[0], block[0]);
    for &v in block {
        min = min.min(v);
        max = max.max(v);
    }
    let (mut width, mut base) = (bit_len(max.wrapping_sub(min) as u64), min);
    if width > 1 && n > 4 {
        let plain = n * width as usize;
        let mut centre = [0i64; 16];
        let picked = n.min(16);
        for (i, c) in centre[..picked].iter_mut().enumerate() {
            *c = block[i * n / picked];
        }
        let (_, &mut centre, _) = centre[..picked].select_nth_unstable(picked / 2);
        let (mut above_min, mut around) = ([0u8; 65], [0u8; 65]);
        for &v in block {
            above_min[bit_len(v.wrapping_sub(min) as u64) as usize] += 1;
            around[bit_len(zigzag(v.wrapping_sub(centre))) as usize] += 1;
        }
        let (cost_a, width_a) = cheapest(&above_min, width, n);
        // around the centre a value may need a bit more than above the minimum
        let (cost_b, width_b) = cheapest(&around, 64.min(width + 1), n);
        if cost_a.min(cost_b) < plain {
            (width, base) = if cost_a <= cost_b {
                (width_a, min)
            } else {
                (
                    width_b,
                    if width_b == 0 {
                        centre
                    } else {
                        centre.wrapping_sub(1 << (width_b - 1))
                    },
                )
            };
        }
    }
    let mask = if width == 64 { u64::MAX } else { (1u64 << width) - 1 };
    let mut packed = [0u64; BLOCK];
    let mut outside = 0u64;
    for (p, &v) in packed.iter_mut().zip(block) {
        *p = v.wrapping_sub(base) as u64;
        outside |= *p & !mask;
    }
    out.push(width as u8 | if outside != 0 { EXCEPTIONS } else { 0 });
    put_zigzag(out, base.wrapping_sub(*last_base));
    *last_base = base;
    if outside == 0 {
        pack(&packed[..n], width, out);
        return;
    }
    let mut exceptions = [(0u8, 0u64); BLOCK];
    let mut count = 0;
    for (i, p) in packed[..n].iter_mut().enumerate() {
        if *p & !mask != 0 {
            exceptions[count] = (i as u8, *p);
            count += 1;
            *p = 0;
        }
    }
    pack(&packed[..n], width, out);
    out.push(count as u8);
    out.extend(exceptions[..count].iter().map(|e| e.0));
    for e in &exceptions[..count] {
        put_zigzag(out, e.1 as i64);
    }
}

/// Least cost in bits and its width, given how many values need how many bits, none more than `most`. What does not fit
/// costs its place, its position and a varint.
fn cheapest(lengths: &[u8; 65], most: u32, n: usize) -> (usize, u32) {
    let mut best = (usize::MAX, most);
    let (mut outside, mut outside_bits) = (0usize, 0usize);
    for width in (0..=most as usize).rev() {
        let cost = n * width + outside_bits + if outside > 0 { 8 } else { 0 };
        if cost < best.0 {
            best = (cost, width as u32);
        }
        outside += usize::from(lengths[width]);
        outside_bits += usize::from(lengths[width]) * (8 + 8 * varint_len((1u64 << width.min(63)) << 1));
    }
    best
}

fn pack(values: &[u64], width: u32, out: &mut Vec<u8>) {
    if width == 0 {
        return;
    }
    let bytes = (values.len() * width as usize).div_ceil(8);
    let start = out.len();
    out.resize(start + bytes + 8, 0);
    let buffer = &mut out[start..];
    let (mut acc, mut filled, mut at) = (0u128, 0u32, 0usize);
    for &v in values {
        acc |= u128::from(v) << filled;
        filled += width;
        if filled >= 64 {
            buffer[at..at + 8].copy_from_slice(&(acc as u64).to_le_bytes());
            at += 8;
            acc >>= 64;
            filled -= 64;
        }
    }
    buffer[at..at + 8].copy_from_slice(&(acc as u64).to_le_bytes());
    out.truncate(start + bytes);
}

/// Reads a column block by block.
pub(super) struct Blocks {
    shape: Shape,
    left: usize,
    origin: i64,
    factor: i64,
    last: i64,
    slope: i64,
    base: i64,
}

impl Blocks {
    pub(super) fn new(shape: Shape, count: usize, from: &mut Cursor<'_>) -> Result<Self, ChunkError> {
        let (origin, factor) = if shape.factor {
            (from.zigzag()?, from.varint()? as i64)
        } else {
            (0, 1)
        };
        let last = if shape.order >= 1 { from.zigzag()? } else { 0 };
        let slope = if shape.order >= 2 { from.zigzag()? } else { 0 };
        Ok(Blocks {
            shape,
            left: count,
            origin,
            factor,
            last,
            slope,
            base: 0,
        })
    }

    /// The next values, at most [`BLOCK`]; none when the column is read.
    pub(super) fn next(&mut self, from: &mut Cursor<'_>, out: &mut [i64; BLOCK]) -> Result<usize, ChunkError> {
        let n = self.differences(from, out)?;
        if self.shape.factor {
            for v in &mut out[..n] {
                *v = v.wrapping_mul(self.factor).wrapping_add(self.origin);
            }
        }
        Ok(n)
    }

    /// Passes over the next block whose values nobody wants; later ones can still be read.
    pub(super) fn skip(&mut self, from: &mut Cursor<'_>) -> Result<(), ChunkError> {
        if self.shape.order > 0 {
            // what comes later builds on these values
            let mut unwanted = [0; BLOCK];
            return self.differences(from, &mut unwanted).map(drop);
        }
        let n = self.left.min(BLOCK);
        if n == 0 {
            return Ok(());
        }
        self.left -= n;
        let (width, exceptions) = block_head(from)?;
        self.base = self.base.wrapping_add(from.zigzag()?);
        pass(n, width, exceptions, from)
    }

    /// Passes over all blocks that are left; none can be read afterwards.
    pub(super) fn finish(&mut self, from: &mut Cursor<'_>) -> Result<(), ChunkError> {
        while self.left > 0 {
            let n = self.left.min(BLOCK);
            self.left -= n;
            let (width, exceptions) = block_head(from)?;
            from.varint()?;
            pass(n, width, exceptions, from)?;
        }
        Ok(())
    }

    /// Bounds of the next block's values, both included, as far as they are told without reading them.
    pub(super) fn bounds(&self, from: &Cursor<'_>) -> Option<(i64, i64)> {
        if self.shape.order > 0 || self.left == 0 {
            return None;
        }
        let mut from = *from;
        let (width, exceptions) = block_head(&mut from).ok()?;
        if exceptions || width > 62 {
            return None;
        }
        let low = self.base.wrapping_add(from.zigzag().ok()?);
        let high = low.checked_add((1 << width) - 1)?;
        let scale = |v: i64| v.checked_mul(self.factor)?.checked_add(self.origin);
        match self.shape.factor {
            true if self.factor < 0 => None,
            true => Some((scale(low)?, scale(high)?)),
            false => Some((low, high)),
        }
    }

    /// Values of the next block.
    pub(super) fn ahead(&self) -> usize {
        self.left.min(BLOCK)
    }

    /// The next block with its differences undone.
    fn differences(&mut self, from: &mut Cursor<'_>, out: &mut [i64; BLOCK]) -> Result<usize, ChunkError> {
        let n = self.left.min(BLOCK);
        if n == 0 {
            return Ok(0);
        }
        self.left -= n;
        let (width, exceptions) = block_head(from)?;
        self.base = self.base.wrapping_add(from.zigzag()?);
        let behind = from.rest;
        let packed = from.take((n * width as usize).div_ceil(8))?;
        unpack(packed, behind, width, self.base, n, out);
        if exceptions {
            let count = usize::from(from.u8()?);
            for &i in from.take(count)? {
                let u = from.zigzag()?;
                *out[..n].get_mut(usize::from(i)).ok_or(ChunkError::Field {
                    field: "exception position",
                    value: u64::from(i),
                })? = self.base.wrapping_add(u);
            }
        }
        match self.shape.order {
            0 => {}
            1 => {
                let mut last = self.last;
                for v in &mut out[..n] {
                    last = last.wrapping_add(*v);
                    *v = last;
                }
                self.last = last;
            }
            _ => {
                let (mut last, mut slope) = (self.last, self.slope);
                for v in &mut out[..n] {
                    slope = slope.wrapping_add(*v);
                    last = last.wrapping_add(slope);
                    *v = last;
                }
                (self.last, self.slope) = (last, slope);
            }
        }
        Ok(n)
    }
}

/// Width in bits, and whether there are exceptions.
fn block_head(from: &mut Cursor<'_>) -> Result<(u32, bool), ChunkError> {
    let head = from.u8()?;
    let width = u32::from(head & !EXCEPTIONS);
    if width > 64 {
        return Err(ChunkError::Field {
            field: "bit width",
            value: u64::from(width),
        });
    }
    Ok((width, head & EXCEPTIONS != 0))
}

/// Passes over what follows a block's base.
fn pass(n: usize, width: u32, exceptions: bool, from: &mut Cursor<'_>) -> Result<(), ChunkError> {
    from.take((n * width as usize).div_ceil(8))?;
    if exceptions {
        let count = usize::from(from.u8()?);
        for &i in from.take(count)? {
            from.varint()?;
            if usize::from(i) >= n {
                return Err(ChunkError::Field {
                    field: "exception position",
                    value: u64::from(i),
                });
            }
        }
    }
    Ok(())
}

/// Values unpacked at once: as many as begin at a whole byte again.
const LANE: usize = 8;

/// Unpacks `n` values. `behind` begins with `packed` and goes on with whatever follows it.
fn unpack(packed: &[u8], behind: &[u8], width: u32, base: i64, n: usize, out: &mut [i64; BLOCK]) {
    if width == 0 {
        out[..n].fill(base);
        return;
    }
    match behind.get(..n.div_ceil(LANE) * width as usize + LANE) {
        Some(enough) if width <= 56 => by_width(enough, width, base, n, out),
        _ => at_the_end(packed, width, base, n, out),
    }
}

/// Near the end of the bytes: from a copy that is long enough.
#[inline(never)]
fn at_the_end(packed: &[u8], width: u32, base: i64, n: usize, out: &mut [i64; BLOCK]) {
    let mut buffer = [0u8; BLOCK * 8 + 16];
    buffer[..packed.len()].copy_from_slice(packed);
    by_width(&buffer, width, base, n, out);
}

fn by_width(from: &[u8], width: u32, base: i64, n: usize, out: &mut [i64; BLOCK]) {
    macro_rules! narrow {
        ($($w:literal)*) => {
            match width {
                $($w => unpack_narrow::<$w>(from, base, n, out),)*
                _ => unpack_wide(from, width, base, n, out),
            }
        };
    }
    narrow!(1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30 31 32 33 34 35 36 37 38 39
        40 41 42 43 44 45 46 47 48 49 50 51 52 53 54 55 56)
}

/// Every value lies within the eight bytes from its first byte on: with the width known, all places are constants.
#[inline(never)]
fn unpack_narrow<const W: usize>(from: &[u8], base: i64, n: usize, out: &mut [i64; BLOCK]) {
    let mask = (1u64 << W) - 1;
    for (lane, out) in out.chunks_exact_mut(LANE).take(n.div_ceil(LANE)).enumerate() {
        let Some(bytes) = from.get(lane * W..lane * W + W + LANE) else {
            return;
        };
        for (i, v) in out.iter_mut().enumerate() {
            let at = i * W / 8;
            let word = bytes[at..].first_chunk().map_or(0, |b| u64::from_le_bytes(*b));
            *v = base.wrapping_add((word >> (i * W % 8) & mask) as i64);
        }
    }
}

fn unpack_wide(from: &[u8], width: u32, base: i64, n: usize, out: &mut [i64; BLOCK]) {
    let mask = if width == 64 { u64::MAX } else { (1u64 << width) - 1 };
    for (i, v) in out[..n].iter_mut().enumerate() {
        let bit = i * width as usize;
        let word = from[bit >> 3..].first_chunk().map_or(0, |b| u128::from_le_bytes(*b));
        *v = base.wrapping_add(((word >> (bit & 7)) as u64 & mask) as i64);
    }
}
