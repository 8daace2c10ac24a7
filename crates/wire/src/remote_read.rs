//! Prometheus remote read: the request, and both forms of the answer. The streamed form goes out series by series, in
//! frames that are bounded in size, so that neither side holds it whole.
use model::{Histogram, Labels, MatchOp, Matcher, ResetHint, SeriesBlock, Span, TimeRange};

use crate::DecodeError;
use crate::prometheus_chunk::{Chunk, Chunks};
use crate::proto::{Reader, Wire, Writer};

/// Queries of one request.
pub const QUERIES_MAX: usize = 100;
/// Matchers of one request, of all its queries.
pub const MATCHERS_MAX: usize = 2_000;
/// Accepted answer types that are looked at.
const TYPES_MAX: usize = 100;
/// Bytes of one frame of the streamed form, as Prometheus bounds them: a frame ends with the chunk that passes this.
pub const FRAME_BYTES_MAX: usize = 1 << 20;
/// Most bytes that labels take from a frame, so that one with very long labels still holds some chunks.
const LABEL_BYTES_COUNTED: usize = FRAME_BYTES_MAX / 2;

/// `Content-Type` of the two forms. The sampled form is snappy, the streamed form is not compressed.
pub const SAMPLES_TYPE: &str = "application/x-protobuf";
pub const STREAM_TYPE: &str = "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse";

/// The form of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ReadForm {
    /// All samples in one message.
    Samples,
    /// Encoded chunks, a frame at a time.
    StreamedChunks,
}

/// What is asked for.
#[derive(Clone, Debug)]
pub struct ReadRequest {
    pub queries: Vec<ReadQuery>,
    /// The first form that the client accepts and that there is.
    pub form: ReadForm,
}

#[derive(Clone, Debug)]
pub struct ReadQuery {
    /// Both ends included.
    pub range: TimeRange,
    pub matchers: Vec<Matcher>,
}

/// Reads a `prometheus.ReadRequest`, decompressed. Hints are passed over: they may only change how much is read.
pub fn decode(body: &[u8]) -> Result<ReadRequest, DecodeError> {
    let mut r = Reader::new(body);
    let (mut queries, mut types, mut matchers) = (Vec::new(), Vec::new(), 0);
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 => {
                r.expect(tag, Wire::Bytes, "queries")?;
                if queries.len() >= QUERIES_MAX {
                    return Err(DecodeError::too_large(format!(
                        "more than {QUERIES_MAX} queries in one request"
                    )));
                }
                let query = query(r.nested()?, MATCHERS_MAX - matchers)?;
                matchers += query.matchers.len();
                queries.push(query);
            }
            2 => r.repeated(tag, Wire::Varint, "accepted_response_types", Reader::varint, |n| {
                if types.len() < TYPES_MAX {
                    types.push(n);
                }
            })?,
            _ => r.skip(tag)?,
        }
    }
    let form = if types.is_empty() {
        ReadForm::Samples
    } else {
        let known = types.iter().find_map(|n| match n {
            0 => Some(ReadForm::Samples),
            1 => Some(ReadForm::StreamedChunks),
            _ => None,
        });
        known.ok_or_else(|| {
            DecodeError::unsupported(
                "none of the accepted response types is known: SAMPLES (0) or STREAMED_XOR_CHUNKS (1) is right",
            )
        })?
    };
    Ok(ReadRequest { queries, form })
}

fn query(mut r: Reader<'_>, matchers_left: usize) -> Result<ReadQuery, DecodeError> {
    let (mut start_ms, mut end_ms, mut matchers) = (0, 0, Vec::new());
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 | 2 => {
                r.expect(tag, Wire::Varint, "a timestamp")?;
                let at_ms = r.varint()? as i64;
                *(if tag.field == 1 { &mut start_ms } else { &mut end_ms }) = at_ms;
            }
            3 => {
                r.expect(tag, Wire::Bytes, "matchers")?;
                if matchers.len() >= matchers_left {
                    return Err(DecodeError::too_large(format!(
                        "more than {MATCHERS_MAX} matchers in one request"
                    )));
                }
                matchers.push(matcher(r.nested()?)?);
            }
            _ => r.skip(tag)?,
        }
    }
    Ok(ReadQuery {
        range: TimeRange::new(start_ms, end_ms),
        matchers,
    })
}

fn matcher(mut r: Reader<'_>) -> Result<Matcher, DecodeError> {
    let (mut kind, mut name, mut value) = (0, "", "");
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 => {
                r.expect(tag, Wire::Varint, "the matcher's type")?;
                kind = r.varint()?;
            }
            2 | 3 => {
                r.expect(tag, Wire::Bytes, "the matcher's name or value")?;
                let bytes = r.bytes()?;
                let text =
                    std::str::from_utf8(bytes).map_err(|_| r.error("a matcher's name or value is not valid UTF-8"))?;
                *(if tag.field == 2 { &mut name } else { &mut value }) = text;
            }
            _ => r.skip(tag)?,
        }
    }
    let op = match kind {
        0 => MatchOp::Equal,
        1 => MatchOp::NotEqual,
        2 => MatchOp::Regex,
        3 => MatchOp::NotRegex,
        n => return Err(r.error(&format!("the matcher type {n}: 0 to 3 is right"))),
    };
    Matcher::new(name, op, value).map_err(|e| DecodeError::malformed(r.offset(), e.to_string()))
}

/// Writes a `prometheus.ReadResponse` series by series: for each query [`begin`](Self::begin), then its series.
#[derive(Default)]
pub struct SampledAnswer {
    out: Vec<u8>,
    results: Vec<Vec<u8>>,
    series: Writer,
}

impl SampledAnswer {
    /// The next query's result starts, empty.
    pub fn begin(&mut self) {
        self.results.push(Vec::new());
    }

    /// One series of the query begun last.
    pub fn series(&mut self, labels: &Labels, block: &SeriesBlock) {
        self.series.out.clear();
        time_series(&mut self.series, labels, block);
        if self.results.is_empty() {
            self.begin();
        }
        if let Some(result) = self.results.last_mut() {
            let mut w = Writer {
                out: std::mem::take(result),
            };
            w.bytes(1, &self.series.out);
            *result = w.out;
        }
    }

    /// Bytes gathered so far.
    pub fn bytes(&self) -> usize {
        self.results.iter().map(Vec::len).sum()
    }

    /// The body, compressed.
    pub fn finish(mut self) -> Result<Vec<u8>, DecodeError> {
        let mut w = Writer {
            out: std::mem::take(&mut self.out),
        };
        for result in self.results {
            w.bytes(1, &result);
        }
        snap::raw::Encoder::new()
            .compress_vec(&w.out)
            .map_err(|e| DecodeError::too_large(format!("the answer is too large for snappy: {e}")))
    }
}

fn time_series(w: &mut Writer, labels: &Labels, block: &SeriesBlock) {
    label_pairs(w, labels);
    for (&at_ms, &value) in block.at_ms.iter().zip(&block.values) {
        // a message of known size: no buffer of its own for each sample
        let at = at_ms as u64;
        w.bytes_head(2, 9 + 1 + varint_len(at));
        w.double(1, value);
        w.varint(2, at);
    }
    for (&at_ms, h) in block.histogram_at_ms.iter().zip(&block.histograms) {
        w.message(4, |w| histogram(w, at_ms, h));
    }
}

fn label_pairs(w: &mut Writer, labels: &Labels) {
    for (name, value) in labels.iter() {
        w.message(1, |w| {
            w.bytes(1, name.as_bytes());
            w.bytes(2, value.as_bytes());
        });
    }
}

fn varint_len(n: u64) -> usize {
    (70 - (n | 1).leading_zeros() as usize) / 7
}

/// A `prometheus.Histogram`.
fn histogram(w: &mut Writer, at_ms: i64, h: &Histogram) {
    if h.integer {
        w.varint(1, h.count as u64);
    } else {
        w.double(2, h.count);
    }
    w.double(3, h.sum);
    w.zigzag(4, i64::from(h.schema));
    w.double(5, h.zero_threshold);
    if h.integer {
        w.varint(6, h.zero_count as u64);
    } else {
        w.double(7, h.zero_count);
    }
    for (field, spans, buckets) in [
        (8, &h.negative_spans, &h.negative_buckets),
        (11, &h.positive_spans, &h.positive_buckets),
    ] {
        for Span { offset, length } in spans {
            w.message(field, |w| {
                w.zigzag(1, i64::from(*offset));
                w.varint(2, u64::from(*length));
            });
        }
        if h.integer && !buckets.is_empty() {
            w.message(field + 1, |w| {
                let mut last = 0;
                for &count in buckets {
                    let delta = (count as i64).wrapping_sub(last);
                    w.raw_varint(((delta << 1) ^ (delta >> 63)) as u64);
                    last = count as i64;
                }
            });
        } else {
            floats(w, field + 2, buckets);
        }
    }
    let hint = match h.reset_hint {
        ResetHint::Unknown => 0,
        ResetHint::Reset => 1,
        ResetHint::NoReset => 2,
        ResetHint::Gauge => 3,
    };
    w.varint(14, hint);
    w.varint(15, at_ms as u64);
    floats(w, 16, &h.custom_values);
}

/// Packed doubles.
fn floats(w: &mut Writer, field: u32, values: &[f64]) {
    if !values.is_empty() {
        w.bytes_head(field, values.len() * 8);
        for v in values {
            w.out.extend_from_slice(&v.to_bits().to_le_bytes());
        }
    }
}

/// Appends one series' frames of the streamed form to `out`: each a length, a CRC-32C and a
/// `prometheus.ChunkedReadResponse`. `full` is called after each frame, to take what is in `out` so far.
pub fn stream_series<E>(
    query: usize,
    labels: &Labels,
    block: &SeriesBlock,
    out: &mut Vec<u8>,
    mut full: impl FnMut(&mut Vec<u8>) -> Result<(), E>,
) -> Result<(), E> {
    let mut head = Writer::default();
    label_pairs(&mut head, labels);
    let room = FRAME_BYTES_MAX - head.out.len().min(LABEL_BYTES_COUNTED);
    let mut series = Writer { out: head.out.clone() };
    let mut chunks = Chunks::of(block).peekable();
    while let Some(c) = chunks.next() {
        chunk(&mut series, &c);
        if chunks.peek().is_some() && series.out.len() - head.out.len() < room {
            continue;
        }
        let mut message = Writer::default();
        message.bytes(1, &series.out);
        message.varint(2, query as u64);
        frame(&message.out, out);
        full(out)?;
        series.out.truncate(head.out.len());
    }
    Ok(())
}

fn chunk(w: &mut Writer, c: &Chunk) {
    w.message(2, |w| {
        w.varint(1, c.min_ms as u64);
        w.varint(2, c.max_ms as u64);
        w.varint(3, c.kind as u64);
        w.bytes(4, &c.data);
    });
}

fn frame(message: &[u8], out: &mut Vec<u8>) {
    let mut w = Writer {
        out: std::mem::take(out),
    };
    w.raw_varint(message.len() as u64);
    w.out.extend_from_slice(&crc32c::crc32c(message).to_be_bytes());
    w.out.extend_from_slice(message);
    *out = w.out;
}

#[cfg(test)]
mod tests;
