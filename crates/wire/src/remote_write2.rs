//! Prometheus remote write 2.0 (`io.prometheus.write.v2.Request`): labels are references into a table of symbols that
//! the request brings along. How many samples, histograms and exemplars were written is for the sink to count.
use model::{LabelsBuilder, MetricKind, RejectReason, SampleSink, SeriesId};

use crate::native_histogram::{self, Parsed};
use crate::proto::{Reader, Wire};
use crate::rejects::Rejects;
use crate::remote_write::LABELS_MAX;
use crate::{DecodeError, Request, raw_kind, text_budget};

/// Symbols of one request at most (8 bytes of memory each).
const SYMBOLS_MAX: usize = 2 << 20;
/// Bytes of one series' label text at most, summed up before anything is copied.
const SERIES_TEXT_MAX: usize = 512 << 10;

/// Reads a decompressed request into `sink`. The raw spelling of a series is its resolved label text.
pub fn decode<S: SampleSink + ?Sized>(body: &[u8], _request: &Request<'_>, sink: &mut S) -> Result<(), DecodeError> {
    let mut decoder = Decoder {
        body,
        symbols: Vec::new(),
        refs: Vec::new(),
        raw: Vec::new(),
        labels: LabelsBuilder::default(),
        rejects: Rejects::default(),
        text_left: text_budget(body.len()),
        taken: 0,
    };
    let done = decoder.request(sink);
    decoder.rejects.finish(sink);
    done.map_err(|e| e.after(decoder.taken))
}

struct Decoder<'a> {
    body: &'a [u8],
    /// Offset and length of each symbol in the body, its length prefix included.
    symbols: Vec<(u32, u32)>,
    refs: Vec<u32>,
    raw: Vec<u8>,
    labels: LabelsBuilder,
    rejects: Rejects,
    text_left: usize,
    taken: u64,
}

impl<'a> Decoder<'a> {
    fn request<S: SampleSink + ?Sized>(&mut self, sink: &mut S) -> Result<(), DecodeError> {
        if u32::try_from(self.body.len()).is_err() {
            return Err(DecodeError::too_large("a request of 4 GiB or more"));
        }
        // symbols may follow the series that refer to them
        let mut reader = Reader::new(self.body);
        while let Some(tag) = reader.tag()? {
            let start = reader.offset();
            if tag.field == 4 {
                reader.expect(tag, Wire::Bytes, "symbols")?;
                reader.bytes()?;
                if self.symbols.len() == SYMBOLS_MAX {
                    return Err(DecodeError::too_large(format!(
                        "more than {SYMBOLS_MAX} symbols in one request"
                    )));
                }
                self.symbols.push((start as u32, (reader.offset() - start) as u32));
            } else {
                if tag.field == 5 {
                    reader.expect(tag, Wire::Bytes, "timeseries")?;
                } else if tag.field == 1 && tag.wire == Wire::Bytes {
                    return Err(reader.error("field 1 is of remote write 1.0, the content type says 2.0"));
                }
                reader.skip(tag)?;
            }
        }
        let mut reader = Reader::new(self.body);
        while let Some(tag) = reader.tag()? {
            if tag.field == 5 {
                let series = reader.nested()?;
                self.series(series, sink)?;
            } else {
                reader.skip(tag)?;
            }
        }
        Ok(())
    }

    fn series<S: SampleSink + ?Sized>(&mut self, series: Reader<'a>, sink: &mut S) -> Result<(), DecodeError> {
        self.refs.clear();
        let (mut metadata, mut created_ms) = (None, 0);
        let mut scan = series;
        let mut samples = 0;
        while let Some(tag) = scan.tag()? {
            match tag.field {
                1 => {
                    let refs = &mut self.refs;
                    scan.repeated(tag, Wire::Varint, "labels_refs", Reader::varint, |n| {
                        if refs.len() <= 2 * LABELS_MAX {
                            refs.push(u32::try_from(n).unwrap_or(u32::MAX));
                        }
                    })?;
                }
                5 => {
                    scan.expect(tag, Wire::Bytes, "metadata")?;
                    metadata = Some(scan.nested()?);
                }
                // created_timestamp of the series: where drafts of the specification had the start time
                6 if tag.wire == Wire::Varint => created_ms = scan.varint()? as i64,
                2 | 3 => {
                    samples += 1;
                    scan.skip(tag)?;
                }
                _ => scan.skip(tag)?,
            }
        }
        let id = match self.resolve() {
            Ok(()) => match sink.known(&self.raw) {
                Some(id) => Some(id),
                None => self.define(sink),
            },
            Err(Unresolved::Series(why)) => {
                self.rejects
                    .tell(sink, RejectReason::Labels, samples, || ("a series".to_owned(), why));
                return Ok(());
            }
            Err(Unresolved::Request(e)) => return Err(e),
        };
        if let Some(metadata) = metadata {
            self.metadata(metadata, sink)?;
        }
        match id {
            Some(id) => self.values(id, series, created_ms, sink),
            None => {
                if samples > 0 {
                    sink.lost(samples);
                }
                Ok(())
            }
        }
    }

    /// Writes the text of the series' labels to `raw`.
    fn resolve(&mut self) -> Result<(), Unresolved> {
        let symbols = &self.symbols;
        if self.refs.len() % 2 == 1 {
            return Err(Unresolved::Series(format!(
                "{} labels_refs: pairs of name and value are right",
                self.refs.len()
            )));
        }
        if self.refs.len() > 2 * LABELS_MAX {
            return Err(Unresolved::Series(format!("more than {LABELS_MAX} labels")));
        }
        let mut total = 0;
        for &r in &self.refs {
            match symbols.get(r as usize) {
                Some(&(_, len)) => total += len as usize,
                None => {
                    return Err(Unresolved::Series(format!(
                        "labels_refs has {r}, but the request has {} symbols",
                        symbols.len()
                    )));
                }
            }
        }
        if total > SERIES_TEXT_MAX {
            return Err(Unresolved::Series(format!(
                "{total} bytes of label text: at most {SERIES_TEXT_MAX} are taken"
            )));
        }
        self.text_left = match self.text_left.checked_sub(total) {
            Some(left) => left,
            None => {
                return Err(Unresolved::Request(DecodeError::too_large(
                    "the series refer to too many bytes of label text: send fewer series at a time",
                )));
            }
        };
        self.raw.clear();
        self.raw.push(raw_kind::REMOTE_WRITE_2);
        for &r in &self.refs {
            if let Some(&(start, len)) = symbols.get(r as usize) {
                self.raw
                    .extend_from_slice(&self.body[start as usize..start as usize + len as usize]);
            }
        }
        Ok(())
    }

    fn symbol(&self, index: u64) -> Option<&'a [u8]> {
        let &(start, len) = self.symbols.get(usize::try_from(index).ok()?)?;
        Reader::new(&self.body[start as usize..start as usize + len as usize])
            .bytes()
            .ok()
    }

    /// Fills `labels` from `refs`, as far as they are symbols.
    fn fill(&mut self) {
        self.labels.clear();
        for i in 0..self.refs.len() / 2 {
            let name = self.symbol(u64::from(self.refs[2 * i]));
            let value = self.symbol(u64::from(self.refs[2 * i + 1]));
            if let (Some(name), Some(value)) = (name, value) {
                self.labels.push(name, value);
            }
        }
    }

    #[cold]
    fn define<S: SampleSink + ?Sized>(&mut self, sink: &mut S) -> Option<SeriesId> {
        self.fill();
        sink.define(&self.raw, &mut self.labels)
    }

    fn metadata<S: SampleSink + ?Sized>(&mut self, mut r: Reader<'a>, sink: &mut S) -> Result<(), DecodeError> {
        let (mut kind, mut help, mut unit) = (0, 0, 0);
        while let Some(tag) = r.tag()? {
            match tag.field {
                1 | 3 | 4 => {
                    r.expect(tag, Wire::Varint, "metadata")?;
                    let n = r.varint()?;
                    match tag.field {
                        1 => kind = n,
                        3 => help = n,
                        _ => unit = n,
                    }
                }
                _ => r.skip(tag)?,
            }
        }
        let help = self.symbol(help).unwrap_or_default();
        let unit = self.symbol(unit).unwrap_or_default();
        if kind == 0 && help.is_empty() && unit.is_empty() {
            return Ok(());
        }
        let mut name = None;
        for pair in self.refs.chunks_exact(2) {
            if self.symbol(u64::from(pair[0])) == Some(model::METRIC_NAME.as_bytes()) {
                name = self.symbol(u64::from(pair[1]));
            }
        }
        if let Some(name) = name {
            let kind = MetricKind::from_u8(kind.min(255) as u8);
            sink.metadata(family(name, kind), kind, help, unit);
        }
        Ok(())
    }

    fn values<S: SampleSink + ?Sized>(
        &mut self,
        id: SeriesId,
        mut series: Reader<'a>,
        created_ms: i64,
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        while let Some(tag) = series.tag()? {
            match tag.field {
                2 => {
                    series.expect(tag, Wire::Bytes, "samples")?;
                    let (at_ms, value, start_ms) = sample(series.nested()?)?;
                    sink.float(id, at_ms, value, if start_ms == 0 { created_ms } else { start_ms });
                    self.taken += 1;
                }
                3 => {
                    series.expect(tag, Wire::Bytes, "histograms")?;
                    match native_histogram::read(series.nested()?)? {
                        Parsed::Histogram(at_ms, start_ms, value) => {
                            sink.histogram(id, at_ms, value, if start_ms == 0 { created_ms } else { start_ms });
                            self.taken += 1;
                        }
                        Parsed::Refused(at_ms, why) => native_histogram::refuse(&mut self.rejects, sink, at_ms, why),
                    }
                }
                4 => {
                    series.expect(tag, Wire::Bytes, "exemplars")?;
                    let exemplar = series.nested()?;
                    self.exemplar(id, exemplar, sink)?;
                }
                _ => series.skip(tag)?,
            }
        }
        Ok(())
    }

    fn exemplar<S: SampleSink + ?Sized>(
        &mut self,
        id: SeriesId,
        mut r: Reader<'a>,
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        self.refs.clear();
        let (mut value, mut at_ms) = (0.0, 0);
        while let Some(tag) = r.tag()? {
            match tag.field {
                1 => {
                    let refs = &mut self.refs;
                    r.repeated(tag, Wire::Varint, "labels_refs of an exemplar", Reader::varint, |n| {
                        if refs.len() <= 2 * LABELS_MAX {
                            refs.push(u32::try_from(n).unwrap_or(u32::MAX));
                        }
                    })?;
                }
                2 => {
                    r.expect(tag, Wire::Fixed64, "value of an exemplar")?;
                    value = r.double()?;
                }
                3 => {
                    r.expect(tag, Wire::Varint, "timestamp of an exemplar")?;
                    at_ms = r.varint()? as i64;
                }
                _ => r.skip(tag)?,
            }
        }
        match self.resolve() {
            Ok(()) => {
                self.fill();
                sink.exemplar(id, at_ms, value, &mut self.labels);
                Ok(())
            }
            Err(Unresolved::Series(why)) => {
                self.rejects
                    .tell(sink, RejectReason::Labels, 0, || ("an exemplar".to_owned(), why));
                Ok(())
            }
            Err(Unresolved::Request(e)) => Err(e),
        }
    }
}

enum Unresolved {
    Series(String),
    Request(DecodeError),
}

/// Metadata belongs to the family, the series may be one of its parts.
fn family(name: &[u8], kind: MetricKind) -> &[u8] {
    let parts: &[&[u8]] = match kind {
        MetricKind::Histogram | MetricKind::GaugeHistogram => &[b"_bucket", b"_count", b"_sum"],
        MetricKind::Summary => &[b"_count", b"_sum"],
        _ => &[],
    };
    parts
        .iter()
        .find_map(|p| name.strip_suffix(*p))
        .filter(|n| !n.is_empty())
        .unwrap_or(name)
}

/// `Sample { value = 1, timestamp = 2, start_timestamp = 3 }`.
fn sample(mut r: Reader<'_>) -> Result<(i64, f64, i64), DecodeError> {
    let (mut value, mut at_ms, mut start_ms) = (0.0, 0, 0);
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 => {
                r.expect(tag, Wire::Fixed64, "value of a sample")?;
                value = r.double()?;
            }
            2 | 3 => {
                r.expect(tag, Wire::Varint, "timestamp of a sample")?;
                let ms = r.varint()? as i64;
                *(if tag.field == 2 { &mut at_ms } else { &mut start_ms }) = ms;
            }
            _ => r.skip(tag)?,
        }
    }
    Ok((at_ms, value, start_ms))
}

#[cfg(test)]
mod tests;
