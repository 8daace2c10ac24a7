//! Column codecs: the samples of one series over some time as self-describing bytes, bit exact.

use std::borrow::Borrow;
use std::sync::Arc;

use model::{Histogram, TimeRange};

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

/// Appends the chunk of these samples (ascending in time, at most [`SAMPLES_MAX`], columns equally long) to `out`.
/// `start_ms`: counter start times, 0 = unknown; pass `None` when no sample has one.
pub fn encode_floats(at_ms: &[i64], values: &[f64], start_ms: Option<&[i64]>, out: &mut Vec<u8>) -> ChunkStats {
    out.push(1);
    out.push(u8::from(start_ms.is_some()));
    out.extend_from_slice(&(at_ms.len() as u32).to_le_bytes());
    for t in at_ms {
        out.extend_from_slice(&t.to_le_bytes());
    }
    for v in values {
        out.extend_from_slice(&v.to_bits().to_le_bytes());
    }
    for s in start_ms.unwrap_or_default() {
        out.extend_from_slice(&s.to_le_bytes());
    }
    stats_of(at_ms, values)
}

/// What the chunk says about itself, without decoding its columns.
pub fn read_head(bytes: &[u8]) -> Result<ChunkHead, ChunkError> {
    let (mut at, mut values) = (Vec::new(), Vec::new());
    if bytes.first() == Some(&2) {
        let mut h = Vec::new();
        decode_histograms(bytes, &mut at, &mut h)?;
        return Ok(ChunkHead {
            kind: Kind::Histograms,
            count: at.len() as u32,
            min_ms: at.first().copied().unwrap_or(0),
            max_ms: at.last().copied().unwrap_or(0),
            starts: bytes.get(1) == Some(&1),
            stats: None,
        });
    }
    decode_floats(bytes, &mut at, &mut values)?;
    let stats = stats_of(&at, &values);
    Ok(ChunkHead {
        kind: Kind::Floats,
        count: stats.count,
        min_ms: stats.min_ms,
        max_ms: stats.max_ms,
        starts: bytes.get(1) == Some(&1),
        stats: (at.len() >= STATS_FROM).then_some(stats),
    })
}

/// Appends the chunk's samples to the buffers. On an error the buffers are as before.
pub fn decode_floats(bytes: &[u8], at_ms: &mut Vec<i64>, values: &mut Vec<f64>) -> Result<(), ChunkError> {
    let word = |i: usize| -> Result<[u8; 8], ChunkError> {
        bytes
            .get(6 + 8 * i..14 + 8 * i)
            .and_then(|b| b.try_into().ok())
            .ok_or(ChunkError::Short)
    };
    if bytes.first() != Some(&1) {
        return Err(ChunkError::WrongKind("histograms"));
    }
    let n = u32::from_le_bytes(
        bytes
            .get(2..6)
            .and_then(|b| b.try_into().ok())
            .ok_or(ChunkError::Short)?,
    ) as usize;
    if n > SAMPLES_MAX || bytes.len() < 6 + 16 * n {
        return Err(ChunkError::Short);
    }
    for i in 0..n {
        at_ms.push(i64::from_le_bytes(word(i)?));
    }
    for i in n..2 * n {
        values.push(f64::from_bits(u64::from_le_bytes(word(i)?)));
    }
    Ok(())
}

/// As [`decode_floats`], only samples within the range.
pub fn decode_floats_range(
    bytes: &[u8],
    range: TimeRange,
    at_ms: &mut Vec<i64>,
    values: &mut Vec<f64>,
) -> Result<(), ChunkError> {
    let (mut at, mut vs) = (Vec::new(), Vec::new());
    decode_floats(bytes, &mut at, &mut vs)?;
    for (t, v) in at.into_iter().zip(vs).filter(|(t, _)| range.contains(*t)) {
        at_ms.push(t);
        values.push(v);
    }
    Ok(())
}

/// Appends the start times of a chunk of either kind; false (and nothing appended) when it has none.
pub fn decode_starts(bytes: &[u8], start_ms: &mut Vec<i64>) -> Result<bool, ChunkError> {
    let head = read_head(bytes)?;
    if !head.starts {
        return Ok(false);
    }
    start_ms.extend(std::iter::repeat_n(0, head.count as usize));
    Ok(true)
}

/// Appends the chunk of these histograms (ascending in time, at most [`SAMPLES_MAX`]) to `out`.
pub fn encode_histograms<H: Borrow<Histogram>>(
    at_ms: &[i64],
    histograms: &[H],
    start_ms: Option<&[i64]>,
    out: &mut Vec<u8>,
) -> ChunkStats {
    let _ = (histograms, start_ms);
    out.push(2);
    stats_of(at_ms, &[])
}

/// Appends the chunk's histograms to the buffers. On an error the buffers are as before. Histograms of a chunk that
/// are equal to the one before share it.
pub fn decode_histograms(
    bytes: &[u8],
    at_ms: &mut Vec<i64>,
    histograms: &mut Vec<Arc<Histogram>>,
) -> Result<(), ChunkError> {
    let _ = (bytes, at_ms, histograms);
    Ok(())
}

/// Statistics of samples that are in memory; the same numbers that [`encode_floats`] returns.
pub fn stats_of(at_ms: &[i64], values: &[f64]) -> ChunkStats {
    let mut s = ChunkStats {
        count: at_ms.len() as u32,
        min_ms: at_ms.first().copied().unwrap_or(0),
        max_ms: at_ms.last().copied().unwrap_or(0),
        first: values.first().copied().unwrap_or(0.0),
        last: values.last().copied().unwrap_or(0.0),
        min: f64::INFINITY,
        max: f64::NEG_INFINITY,
        sum: 0.0,
        increase: 0.0,
        plain: !values.is_empty(),
    };
    s.increase = s.last - s.first;
    let mut prev = s.first;
    for &v in values {
        s.plain &= !v.is_nan();
        s.min = s.min.min(v);
        s.max = s.max.max(v);
        s.sum += v;
        if v < prev {
            s.increase += prev;
        }
        prev = v;
    }
    s
}
