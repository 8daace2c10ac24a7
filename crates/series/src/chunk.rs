//! Column codecs: the samples of one series over some time as self-describing bytes, bit exact.

use std::borrow::Borrow;
use std::cell::RefCell;
use std::sync::Arc;

use model::{Histogram, TimeRange};

pub(crate) mod cursor;
pub(crate) mod histograms;
mod ints;
mod stats;
mod times;
pub(crate) mod values;

#[cfg(test)]
mod tests;

pub use histograms::{HISTOGRAM_VALUES_MAX, histograms_fit};
pub use stats::stats_of;

use cursor::{Cursor, put_varint};
use times::Grid;
use values::Scratch;

/// Samples a chunk may hold.
pub const SAMPLES_MAX: usize = 8192;

/// Chunks of at least this many samples carry their statistics in the header.
pub const STATS_FROM: usize = 64;

/// What a chunk's samples come to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkStats {
    pub count: u32,
    pub min_ms: i64,
    pub max_ms: i64,
    pub first: f64,
    pub last: f64,
    pub min: f64,
    pub max: f64,
    pub sum: f64,
    /// Growth of a counter from the first to the last sample with resets corrected, as Prometheus' `increase` counts
    /// it before extrapolation.
    pub increase: f64,
    /// No NaN and no stale marker: the statistics may answer for the samples. Never set for histograms, whose other
    /// value fields are zero.
    pub plain: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Floats,
    Histograms,
}

/// What a chunk says about itself without being decoded.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChunkHead {
    pub kind: Kind,
    pub count: u32,
    pub min_ms: i64,
    pub max_ms: i64,
    /// It has a column of start times.
    pub starts: bool,
    /// Present in float chunks of [`STATS_FROM`] samples and more.
    pub stats: Option<ChunkStats>,
}

/// Bytes that are no chunk.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ChunkError {
    #[error("the chunk ends early")]
    Short,
    #[error("the chunk has version {0}: 1 is right")]
    Version(u8),
    #[error("the chunk's {field} is {value}, which is not possible")]
    Field { field: &'static str, value: u64 },
    #[error("the chunk holds {0}, not what was asked for")]
    WrongKind(&'static str),
}

const VERSION: u8 = 1;
const VERSION_SHIFT: u8 = 6;
const TIME_FLAGS: u8 = 0x07;
const HISTOGRAMS: u8 = 0x08;
const STARTS: u8 = 0x10;
const STATS: u8 = 0x20;

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::default();
}

/// Appends the chunk of these samples (ascending in time, at most [`SAMPLES_MAX`], columns equally long) to `out`.
/// `start_ms`: counter start times, 0 = unknown; pass `None` when no sample has one.
pub fn encode_floats(at_ms: &[i64], values: &[f64], start_ms: Option<&[i64]>, out: &mut Vec<u8>) -> ChunkStats {
    debug_assert!(at_ms.len() == values.len() && at_ms.len() <= SAMPLES_MAX);
    let s = stats_of(at_ms, values);
    let shown = (values.len() >= STATS_FROM).then_some(&s);
    SCRATCH.with_borrow_mut(|scratch| {
        put_head(0, at_ms, start_ms.is_some(), shown, scratch, out);
        if !values.is_empty() {
            values::encode(values, scratch, out);
        }
        if let Some(starts) = start_ms
            && !starts.is_empty()
        {
            times::encode_plain(starts, &mut scratch.ints, out);
        }
    });
    s
}

fn put_head(
    kind: u8,
    at_ms: &[i64],
    starts: bool,
    shown: Option<&ChunkStats>,
    scratch: &mut Scratch,
    out: &mut Vec<u8>,
) {
    let place = out.len();
    out.push(0);
    put_varint(out, at_ms.len() as u64);
    let mut flags = VERSION << VERSION_SHIFT | kind | if starts { STARTS } else { 0 };
    if let Some(s) = shown {
        flags |= STATS;
        stats::put(s, out);
    }
    flags |= times::encode(at_ms, &mut scratch.ints, out);
    out[place] = flags;
}

fn open(bytes: &[u8]) -> Result<(ChunkHead, Grid, Cursor<'_>), ChunkError> {
    let mut from = Cursor::new(bytes);
    let flags = from.u8()?;
    if flags >> VERSION_SHIFT != VERSION {
        return Err(ChunkError::Version(flags >> VERSION_SHIFT));
    }
    let count = from.bounded("count of samples", SAMPLES_MAX)?;
    let mut s = ChunkStats {
        count: count as u32,
        ..stats_of(&[], &[])
    };
    if flags & STATS != 0 {
        stats::read(&mut from, &mut s)?;
    }
    let grid = Grid::read(flags & TIME_FLAGS, count, &mut from)?;
    (s.min_ms, s.max_ms) = (grid.first, grid.last);
    let head = ChunkHead {
        kind: if flags & HISTOGRAMS != 0 {
            Kind::Histograms
        } else {
            Kind::Floats
        },
        count: count as u32,
        min_ms: grid.first,
        max_ms: grid.last,
        starts: flags & STARTS != 0,
        stats: (flags & STATS != 0).then_some(s),
    };
    Ok((head, grid, from))
}

/// What the chunk says about itself, without decoding its columns.
pub fn read_head(bytes: &[u8]) -> Result<ChunkHead, ChunkError> {
    open(bytes).map(|(head, ..)| head)
}

/// What the chunk says that bytes begin with, and how many of them are its own. All of it is decoded.
pub fn measure(bytes: &[u8]) -> Result<(ChunkHead, usize), ChunkError> {
    let (head, grid, mut from) = open(bytes)?;
    let count = head.count as usize;
    if count > 0 {
        let from = &mut from;
        grid.decode(from, &mut Vec::new())?;
        match head.kind {
            Kind::Floats => values::decode(count, from, &mut Vec::new())?,
            Kind::Histograms => histograms::decode(count, from, &mut Vec::new())?,
        }
        if head.starts {
            times::decode_plain(count, from, &mut Vec::new())?;
        }
    }
    Ok((head, bytes.len() - from.rest.len()))
}

/// Appends the chunk's samples to the buffers. On an error the buffers are as before.
pub fn decode_floats(bytes: &[u8], at_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), ChunkError> {
    decode_floats_range(bytes, TimeRange::ALL, at_ms, values)
}

/// As [`decode_floats`], only samples within the range.
pub fn decode_floats_range(
    bytes: &[u8],
    range: TimeRange,
    at_ms: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let (head, grid, mut from) = open(bytes)?;
    if head.kind != Kind::Floats {
        return Err(ChunkError::WrongKind("histograms"));
    }
    if head.count == 0 || !range.overlaps(&TimeRange::new(head.min_ms, head.max_ms)) {
        return Ok(());
    }
    let (at_start, value_start) = (at_ms.len(), values.len());
    let read = grid
        .decode_range(range, &mut from, at_ms)
        .and_then(|wanted| values::decode_range(head.count as usize, wanted, &mut from, values));
    if read.is_err() {
        at_ms.truncate(at_start);
        values.truncate(value_start);
    }
    read
}

/// Appends the start times of a chunk of either kind; false (and nothing appended) when it has none.
pub fn decode_starts(bytes: &[u8], start_ms: &mut Vec<i64>) -> Result<bool, ChunkError> {
    let (head, grid, mut from) = open(bytes)?;
    if !head.starts || head.count == 0 {
        return Ok(false);
    }
    let start = start_ms.len();
    let mut read = || -> Result<(), ChunkError> {
        grid.decode(&mut from, &mut Vec::new())?;
        match head.kind {
            Kind::Floats => values::decode(head.count as usize, &mut from, &mut Vec::new())?,
            Kind::Histograms => histograms::decode(head.count as usize, &mut from, &mut Vec::new())?,
        }
        times::decode_plain(head.count as usize, &mut from, start_ms)
    };
    let done = read();
    if done.is_err() {
        start_ms.truncate(start);
    }
    done.map(|()| true)
}

/// Appends a column of times in any order, for records.
pub(crate) fn put_times(times: &[i64], scratch: &mut Vec<i64>, out: &mut Vec<u8>) {
    let place = out.len();
    out.push(0);
    out[place] = times::encode(times, scratch, out);
}

/// Appends `count` times that [`put_times`] wrote.
pub(crate) fn read_times(count: usize, from: &mut Cursor<'_>, times: &mut Vec<i64>) -> Result<(), ChunkError> {
    let flags = from.u8()?;
    if flags & !TIME_FLAGS != 0 {
        return Err(ChunkError::Field {
            field: "time column",
            value: u64::from(flags),
        });
    }
    Grid::read(flags, count, from)?.decode(from, times)
}

/// Appends the chunk of these histograms (ascending in time, no more than [`histograms_fit`]) to `out`.
pub fn encode_histograms<H: Borrow<Histogram>>(
    at_ms: &[i64],
    histograms: &[H],
    start_ms: Option<&[i64]>,
    out: &mut Vec<u8>,
) -> ChunkStats {
    debug_assert!(at_ms.len() == histograms.len() && histograms_fit(histograms) == histograms.len());
    SCRATCH.with_borrow_mut(|scratch| {
        put_head(HISTOGRAMS, at_ms, start_ms.is_some(), None, scratch, out);
        histograms::encode(histograms, scratch, out);
        if let Some(starts) = start_ms
            && !starts.is_empty()
        {
            times::encode_plain(starts, &mut scratch.ints, out);
        }
    });
    stats_of(at_ms, &[])
}

/// Appends the chunk's histograms to the buffers. On an error the buffers are as before. Histograms of a chunk that
/// equal the one before share its memory.
pub fn decode_histograms(
    bytes: &[u8],
    at_ms: &mut Vec<i64>,
    histograms: &mut Vec<Arc<Histogram>>,
) -> Result<(), ChunkError> {
    let (head, grid, mut from) = open(bytes)?;
    if head.kind != Kind::Histograms {
        return Err(ChunkError::WrongKind("floats"));
    }
    let (at_start, start) = (at_ms.len(), histograms.len());
    let read = grid
        .decode(&mut from, at_ms)
        .and_then(|()| histograms::decode(head.count as usize, &mut from, histograms));
    if read.is_err() {
        at_ms.truncate(at_start);
        histograms.truncate(start);
    }
    read
}
