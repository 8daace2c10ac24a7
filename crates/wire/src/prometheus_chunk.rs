//! Prometheus' chunk encodings of samples (tsdb/docs/format/chunks.md): what a streamed remote read carries.
use std::sync::Arc;

use model::{Histogram, ResetHint, SeriesBlock, Span};

/// Samples of one chunk at most, as Prometheus cuts them.
pub const CHUNK_SAMPLES_MAX: usize = 120;

/// How a chunk's bytes are to be read; the number is that of `prometheus.Chunk.Encoding`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum ChunkKind {
    Xor = 1,
    Histogram = 2,
    FloatHistogram = 3,
}

/// Some samples of one series, encoded.
#[derive(Clone, Debug, PartialEq)]
pub struct Chunk {
    pub kind: ChunkKind,
    /// Time of the first sample, Unix ms.
    pub min_ms: i64,
    /// Time of the last sample.
    pub max_ms: i64,
    pub data: Vec<u8>,
}

/// The chunks of a block of samples, in the order of time. Floats and histograms never share one, nor do histograms
/// whose buckets differ or between which the counter was reset.
pub struct Chunks<'a> {
    block: &'a SeriesBlock,
    float: usize,
    histogram: usize,
}

impl<'a> Chunks<'a> {
    pub fn of(block: &'a SeriesBlock) -> Self {
        Chunks {
            block,
            float: 0,
            histogram: 0,
        }
    }
}

impl Iterator for Chunks<'_> {
    type Item = Chunk;

    fn next(&mut self) -> Option<Chunk> {
        let b = self.block;
        let floats = b.at_ms.get(self.float..).unwrap_or(&[]);
        let histograms = b.histogram_at_ms.get(self.histogram..).unwrap_or(&[]);
        let float_first = match (floats.first(), histograms.first()) {
            (None, None) => return None,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (Some(f), Some(h)) => f < h,
        };
        if float_first {
            let until = histograms.first().copied();
            let run = floats.iter().take(CHUNK_SAMPLES_MAX);
            let n = run.take_while(|&&t| until.is_none_or(|u| t < u)).count();
            let range = self.float..self.float + n;
            self.float += n;
            return Some(xor(&b.at_ms[range.clone()], &b.values[range]));
        }
        let until = floats.first().copied();
        let values = &b.histograms[self.histogram..];
        let mut n = 1;
        while n < CHUNK_SAMPLES_MAX.min(histograms.len())
            && until.is_none_or(|u| histograms[n] < u)
            && continues(&values[n - 1], &values[n])
        {
            n += 1;
        }
        let chunk = if values[0].integer {
            integers(&histograms[..n], &values[..n])
        } else {
            floats_of(&histograms[..n], &values[..n])
        };
        self.histogram += n;
        Some(chunk)
    }
}

/// Whether `next` may stand in one chunk with the histogram before it: a reader takes it for one without a reset.
fn continues(last: &Histogram, next: &Histogram) -> bool {
    let gauge = |h: &Histogram| h.reset_hint == ResetHint::Gauge;
    // a stale marker has no buckets, so it has no layout to share
    !last.is_stale()
        && !next.is_stale()
        && last.integer == next.integer
        && gauge(last) == gauge(next)
        && same_layout(last, next)
        && match next.reset_hint {
            ResetHint::Gauge | ResetHint::NoReset => true,
            ResetHint::Reset => false,
            ResetHint::Unknown => !was_reset(last, next),
        }
}

fn same_layout(a: &Histogram, b: &Histogram) -> bool {
    a.schema == b.schema
        && a.zero_threshold.to_bits() == b.zero_threshold.to_bits()
        && a.positive_spans == b.positive_spans
        && a.negative_spans == b.negative_spans
        && a.custom_values == b.custom_values
}

/// Whether a count fell, in histograms of one layout.
fn was_reset(last: &Histogram, next: &Histogram) -> bool {
    let fell = |a: &[f64], b: &[f64]| a.iter().zip(b).any(|(a, b)| b < a);
    next.count < last.count
        || next.zero_count < last.zero_count
        || fell(&last.positive_buckets, &next.positive_buckets)
        || fell(&last.negative_buckets, &next.negative_buckets)
}

/// Bits, the highest of each byte first.
#[derive(Default)]
struct Bits {
    out: Vec<u8>,
    /// Bits of the last byte that are not used.
    free: u32,
}

impl Bits {
    /// A chunk's head: its number of samples, then what its kind adds.
    fn with_head(samples: usize, flags: Option<u8>) -> Self {
        let mut out = Vec::with_capacity(256);
        out.extend_from_slice(&(samples as u16).to_be_bytes());
        out.extend(flags);
        Bits { out, free: 0 }
    }

    fn push(&mut self, value: u64, mut bits: u32) {
        while bits > 0 {
            if self.free == 0 {
                self.out.push(0);
                self.free = 8;
            }
            let n = bits.min(self.free);
            let part = (value >> (bits - n)) as u8 & (0xff >> (8 - n));
            let last = self.out.len() - 1;
            self.out[last] |= part << (self.free - n);
            self.free -= n;
            bits -= n;
        }
    }

    fn byte(&mut self, byte: u8) {
        self.push(u64::from(byte), 8);
    }

    fn uvarint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.byte(n as u8 | 0x80);
            n >>= 7;
        }
        self.byte(n as u8);
    }

    fn float(&mut self, value: f64) {
        self.push(value.to_bits(), 64);
    }

    /// A number in the fewest of some widths: as many ones as widths were too small, a zero, the number.
    fn varbit(&mut self, value: u64, fits: impl Fn(u32) -> bool) {
        if value == 0 {
            return self.push(0, 1);
        }
        for (i, width) in VARBIT_WIDTHS.into_iter().enumerate() {
            if fits(width) {
                let ones = i as u32 + 1;
                self.push((1 << (ones + 1)) - 2, ones + 1);
                return self.push(value, width);
            }
        }
        self.push(0xff, 8);
        self.push(value, 64);
    }

    fn signed(&mut self, value: i64) {
        self.varbit(value as u64, |width| fits_signed(value, width));
    }

    fn unsigned(&mut self, value: u64) {
        self.varbit(value, |width| value >> width == 0);
    }
}

const VARBIT_WIDTHS: [u32; 7] = [3, 6, 9, 12, 18, 25, 56];

/// Prometheus' range of a width reaches one further up than down.
fn fits_signed(value: i64, width: u32) -> bool {
    let half = 1i64 << (width - 1);
    -half < value && value <= half
}

/// The last value of a column of floats, and the window of bits that the last difference used.
#[derive(Clone, Copy)]
struct Xor {
    last: u64,
    window: Option<(u32, u32)>,
}

impl Xor {
    fn from(first: f64) -> Self {
        Xor {
            last: first.to_bits(),
            window: None,
        }
    }

    fn write(&mut self, bits: &mut Bits, value: f64) {
        let difference = self.last ^ value.to_bits();
        self.last = value.to_bits();
        if difference == 0 {
            return bits.push(0, 1);
        }
        bits.push(1, 1);
        // five bits hold the leading zeros
        let (leading, trailing) = (difference.leading_zeros().min(31), difference.trailing_zeros());
        if let Some((l, t)) = self.window
            && leading >= l
            && trailing >= t
        {
            bits.push(0, 1);
            return bits.push(difference >> t, 64 - l - t);
        }
        self.window = Some((leading, trailing));
        let used = 64 - leading - trailing;
        bits.push(1, 1);
        bits.push(u64::from(leading), 5);
        bits.push(u64::from(used) & 63, 6);
        bits.push(difference >> trailing, used);
    }
}

/// Floats: times by the change of their distances, values by the bits that differ.
fn xor(at_ms: &[i64], values: &[f64]) -> Chunk {
    let mut bits = Bits::with_head(at_ms.len(), None);
    let mut column = Xor::from(0.0);
    let (mut last_ms, mut distance) = (0i64, 0i64);
    for (i, (&at, &value)) in at_ms.iter().zip(values).enumerate() {
        let step = at.wrapping_sub(last_ms);
        match i {
            0 => {
                bits.uvarint(((at << 1) ^ (at >> 63)) as u64);
                bits.float(value);
                column = Xor::from(value);
            }
            1 => {
                bits.uvarint(step as u64);
                column.write(&mut bits, value);
            }
            _ => {
                let change = step.wrapping_sub(distance);
                let widths = [(14, 0b10, 2), (17, 0b110, 3), (20, 0b1110, 4)];
                if change == 0 {
                    bits.push(0, 1);
                } else if let Some((width, head, n)) = widths.into_iter().find(|w| fits_signed(change, w.0)) {
                    bits.push(head, n);
                    bits.push(change as u64, width);
                } else {
                    bits.push(0b1111, 4);
                    bits.push(change as u64, 64);
                }
                column.write(&mut bits, value);
            }
        }
        last_ms = at;
        distance = if i == 0 { 0 } else { step };
    }
    chunk(ChunkKind::Xor, at_ms, bits)
}

fn chunk(kind: ChunkKind, at_ms: &[i64], bits: Bits) -> Chunk {
    Chunk {
        kind,
        min_ms: at_ms.first().copied().unwrap_or(0),
        max_ms: at_ms.last().copied().unwrap_or(0),
        data: bits.out,
    }
}

/// The flags of a chunk of histograms: what is known of a reset before its first one.
fn flags(first: &Histogram) -> u8 {
    match first.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 0b1000_0000,
        ResetHint::NoReset => 0b0100_0000,
        ResetHint::Gauge => 0b1100_0000,
    }
}

fn layout(bits: &mut Bits, h: &Histogram) {
    zero_threshold(bits, h.zero_threshold);
    bits.signed(i64::from(h.schema));
    for spans in [&h.positive_spans, &h.negative_spans] {
        bits.unsigned(spans.len() as u64);
        for Span { offset, length } in spans {
            bits.unsigned(u64::from(*length));
            bits.signed(i64::from(*offset));
        }
    }
    if h.is_custom() {
        bits.unsigned(h.custom_values.len() as u64);
        for &bound in &h.custom_values {
            custom_bound(bits, bound);
        }
    }
}

/// One byte for 0 and for the powers of two that are usual, else nine.
fn zero_threshold(bits: &mut Bits, threshold: f64) {
    if threshold == 0.0 {
        return bits.byte(0);
    }
    let raw = threshold.to_bits();
    let power_of_two = raw << 12 == 0 && raw >> 63 == 0;
    // of 0.5 × 2^n, as C's frexp states it
    let exponent = (raw >> 52 & 0x7ff) as i64 - 1022;
    if power_of_two && (-242..=11).contains(&exponent) {
        return bits.byte((exponent + 243) as u8);
    }
    bits.byte(255);
    bits.float(threshold);
}

/// Thousandths as a number where the bound is whole in them, else a zero bit and the float.
fn custom_bound(bits: &mut Bits, bound: f64) {
    const THOUSANDTHS_MAX: f64 = 33_554_430.0;
    let thousandths = (bound * 1000.0).round();
    if (0.0..=THOUSANDTHS_MAX).contains(&(bound * 1000.0)) && thousandths / 1000.0 == bound {
        return bits.unsigned(thousandths as u64 + 1);
    }
    bits.push(0, 1);
    bits.float(bound);
}

/// A stale marker is written without what else it may hold.
fn bare(h: &Arc<Histogram>) -> Arc<Histogram> {
    if !h.is_stale() {
        return Arc::clone(h);
    }
    Arc::new(Histogram {
        sum: h.sum,
        integer: h.integer,
        reset_hint: h.reset_hint,
        ..Histogram::default()
    })
}

/// A number that is written as the change of its change.
#[derive(Clone, Copy, Default)]
struct Twice {
    last: i64,
    change: i64,
}

impl Twice {
    fn from(first: i64) -> Self {
        Twice { last: first, change: 0 }
    }

    fn write(&mut self, bits: &mut Bits, value: i64) {
        let change = value.wrapping_sub(self.last);
        bits.signed(change.wrapping_sub(self.change));
        *self = Twice { last: value, change };
    }
}

/// Each bucket's difference to the one before it, as integer histograms state their counts.
fn differences(counts: &[f64]) -> impl Iterator<Item = i64> {
    counts.iter().scan(0i64, |last, &count| {
        let count = count as i64;
        let difference = count.wrapping_sub(*last);
        *last = count;
        Some(difference)
    })
}

/// Integer histograms of one layout.
fn integers(at_ms: &[i64], values: &[Arc<Histogram>]) -> Chunk {
    let first = bare(&values[0]);
    let mut bits = Bits::with_head(values.len(), Some(flags(&first)));
    layout(&mut bits, &first);
    bits.signed(at_ms[0]);
    bits.unsigned(first.count as u64);
    bits.unsigned(first.zero_count as u64);
    bits.float(first.sum);
    let mut at = Twice::from(at_ms[0]);
    let mut count = Twice::from(first.count as i64);
    let mut zero_count = Twice::from(first.zero_count as i64);
    let mut sum = Xor::from(first.sum);
    let buckets = |h: &Histogram| -> Vec<i64> {
        differences(&h.positive_buckets)
            .chain(differences(&h.negative_buckets))
            .collect()
    };
    let mut columns: Vec<Twice> = Vec::new();
    for b in buckets(&first) {
        bits.signed(b);
        columns.push(Twice::from(b));
    }
    for (&at_next, h) in at_ms.iter().zip(values).skip(1) {
        at.write(&mut bits, at_next);
        count.write(&mut bits, h.count as i64);
        zero_count.write(&mut bits, h.zero_count as i64);
        sum.write(&mut bits, h.sum);
        for (column, b) in columns.iter_mut().zip(buckets(h)) {
            column.write(&mut bits, b);
        }
    }
    chunk(ChunkKind::Histogram, at_ms, bits)
}

/// Float histograms of one layout.
fn floats_of(at_ms: &[i64], values: &[Arc<Histogram>]) -> Chunk {
    let first = bare(&values[0]);
    let mut bits = Bits::with_head(values.len(), Some(flags(&first)));
    layout(&mut bits, &first);
    bits.signed(at_ms[0]);
    let mut at = Twice::from(at_ms[0]);
    let columns_of = |h: &Histogram| -> Vec<f64> {
        let mut all = vec![h.count, h.zero_count, h.sum];
        all.extend_from_slice(&h.positive_buckets);
        all.extend_from_slice(&h.negative_buckets);
        all
    };
    let mut columns: Vec<Xor> = Vec::new();
    for value in columns_of(&first) {
        bits.float(value);
        columns.push(Xor::from(value));
    }
    for (&at_next, h) in at_ms.iter().zip(values).skip(1) {
        at.write(&mut bits, at_next);
        for (column, value) in columns.iter_mut().zip(columns_of(h)) {
            column.write(&mut bits, value);
        }
    }
    chunk(ChunkKind::FloatHistogram, at_ms, bits)
}

#[cfg(test)]
pub(crate) mod tests;
