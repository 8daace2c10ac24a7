//! Prometheus remote write 1.0 (`prometheus.WriteRequest`).
use model::{LabelsBuilder, MetricKind, SampleSink, SeriesId};

use crate::native_histogram::{self, Parsed};
use crate::proto::{Reader, Wire};
use crate::rejects::Rejects;
use crate::{DecodeError, Request, raw_kind};

/// Labels of one series looked at; the limit of the product is far below.
pub(crate) const LABELS_MAX: usize = 16_384;

/// Reads a decompressed request into `sink`. Labels are looked at only when their raw bytes are new to it.
pub fn decode<S: SampleSink + ?Sized>(body: &[u8], _request: &Request<'_>, sink: &mut S) -> Result<(), DecodeError> {
    let mut decoder = Decoder::default();
    let mut reader = Reader::new(body);
    let done = loop {
        let tag = match reader.tag() {
            Ok(Some(tag)) => tag,
            Ok(None) => break Ok(()),
            Err(e) => break Err(e),
        };
        let step = match tag.field {
            1 => reader
                .expect(tag, Wire::Bytes, "timeseries")
                .and_then(|()| reader.nested())
                .and_then(|series| decoder.series(series, sink)),
            3 => reader
                .expect(tag, Wire::Bytes, "metadata")
                .and_then(|()| reader.nested())
                .and_then(|metadata| metadata_of(metadata, sink)),
            _ => reader.skip(tag),
        };
        if let Err(e) = step {
            break Err(e);
        }
    };
    decoder.rejects.finish(sink);
    done.map_err(|e| e.after(decoder.taken))
}

#[derive(Default)]
struct Decoder {
    labels: LabelsBuilder,
    scattered: Vec<u8>,
    rejects: Rejects,
    taken: u64,
}

impl Decoder {
    #[inline]
    fn series<S: SampleSink + ?Sized>(&mut self, mut series: Reader<'_>, sink: &mut S) -> Result<(), DecodeError> {
        // senders write the labels first, as one run, and then mostly one sample
        series.advance(label_run(series.message()));
        while series.message().get(series.position()) == Some(&0x0a) {
            series.tag()?;
            series.bytes()?;
        }
        let labels = &series.message()[..series.position()];
        if let Some((value, at_ms)) = lone_sample(&series.message()[series.position()..]) {
            let id = match sink.known(labels) {
                Some(id) => Some(id),
                None => self.define(labels, Reader::new(labels), sink)?,
            };
            match id {
                Some(id) => {
                    sink.float(id, at_ms, value, 0);
                    self.taken += 1;
                }
                None => sink.lost(1),
            }
            return Ok(());
        }
        let values = series;
        let mut scattered = false;
        while let Some(tag) = series.tag()? {
            scattered |= tag.field == 1;
            series.skip(tag)?;
        }
        if !scattered {
            let id = match sink.known(labels) {
                Some(id) => Some(id),
                None => self.define(labels, Reader::new(series.message()), sink)?,
            };
            return self.values(id, values, sink);
        }
        let mut raw = std::mem::take(&mut self.scattered);
        raw.clear();
        raw.push(raw_kind::REMOTE_WRITE_SCATTERED);
        let mut again = Reader::new(series.message());
        while let Some(tag) = again.tag()? {
            let start = again.position();
            again.skip(tag)?;
            if tag.field == 1 {
                raw.extend_from_slice(&again.message()[start..again.position()]);
            }
        }
        let known = sink.known(&raw);
        let id = match known {
            Some(id) => Ok(Some(id)),
            None => self.define(&raw, Reader::new(series.message()), sink),
        };
        self.scattered = raw;
        self.values(id?, values, sink)
    }

    #[cold]
    fn define<S: SampleSink + ?Sized>(
        &mut self,
        raw: &[u8],
        mut series: Reader<'_>,
        sink: &mut S,
    ) -> Result<Option<SeriesId>, DecodeError> {
        self.labels.clear();
        while let Some(tag) = series.tag()? {
            if tag.field != 1 {
                series.skip(tag)?;
                continue;
            }
            series.expect(tag, Wire::Bytes, "labels")?;
            let (name, value) = label(series.nested()?)?;
            if self.labels.len() == LABELS_MAX {
                return Err(series.error("more than 16384 labels in one series"));
            }
            self.labels.push(name, value);
        }
        Ok(sink.define(raw, &mut self.labels))
    }

    #[inline]
    fn values<S: SampleSink + ?Sized>(
        &mut self,
        id: Option<SeriesId>,
        mut series: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        let mut lost = 0;
        let done = loop {
            let tag = match series.tag() {
                Ok(Some(tag)) => tag,
                Ok(None) => break Ok(()),
                Err(e) => break Err(e),
            };
            let step = match (tag.field, id) {
                (2, Some(id)) => series
                    .expect(tag, Wire::Bytes, "samples")
                    .and_then(|()| series.nested())
                    .and_then(sample)
                    .map(|(value, at_ms)| {
                        sink.float(id, at_ms, value, 0);
                        self.taken += 1;
                    }),
                (3, Some(id)) => series
                    .expect(tag, Wire::Bytes, "exemplars")
                    .and_then(|()| series.nested())
                    .and_then(|e| self.exemplar(id, e, sink)),
                (4, Some(id)) => series
                    .expect(tag, Wire::Bytes, "histograms")
                    .and_then(|()| series.nested())
                    .and_then(native_histogram::read)
                    .map(|parsed| match parsed {
                        Parsed::Histogram(at_ms, start_ms, value) => {
                            sink.histogram(id, at_ms, value, start_ms);
                            self.taken += 1;
                        }
                        Parsed::Refused(at_ms, why) => native_histogram::refuse(&mut self.rejects, sink, at_ms, why),
                    }),
                (2 | 4, None) => {
                    lost += 1;
                    series.skip(tag)
                }
                _ => series.skip(tag),
            };
            if let Err(e) = step {
                break Err(e);
            }
        };
        if lost > 0 {
            sink.lost(lost);
        }
        done
    }

    fn exemplar<S: SampleSink + ?Sized>(
        &mut self,
        id: SeriesId,
        mut exemplar: Reader<'_>,
        sink: &mut S,
    ) -> Result<(), DecodeError> {
        self.labels.clear();
        let (mut value, mut at_ms) = (0.0, 0);
        while let Some(tag) = exemplar.tag()? {
            match tag.field {
                1 => {
                    exemplar.expect(tag, Wire::Bytes, "labels of an exemplar")?;
                    let (name, value) = label(exemplar.nested()?)?;
                    if self.labels.len() == LABELS_MAX {
                        return Err(exemplar.error("more than 16384 labels in one exemplar"));
                    }
                    self.labels.push(name, value);
                }
                2 => {
                    exemplar.expect(tag, Wire::Fixed64, "value of an exemplar")?;
                    value = exemplar.double()?;
                }
                3 => {
                    exemplar.expect(tag, Wire::Varint, "timestamp of an exemplar")?;
                    at_ms = exemplar.varint()? as i64;
                }
                _ => exemplar.skip(tag)?,
            }
        }
        sink.exemplar(id, at_ms, value, &mut self.labels);
        Ok(())
    }
}

/// Bytes of the labels at the start of a series, as far as each is shorter than 128 bytes.
#[inline]
fn label_run(series: &[u8]) -> usize {
    let mut end = 0;
    while let Some(&[0x0a, len @ ..0x80]) = series[end..].first_chunk::<2>() {
        let next = end + 2 + usize::from(len);
        if next > series.len() {
            break;
        }
        end = next;
    }
    end
}

/// Value and time, when `rest` of a series is one sample as every sender writes it: value, then timestamp.
#[inline]
fn lone_sample(rest: &[u8]) -> Option<(f64, i64)> {
    let (head, rest) = rest.split_first_chunk::<3>()?;
    let [0x12, len, 0x09] = *head else { return None };
    // the value's tag was split off
    if usize::from(len) != rest.len() + 1 {
        return None;
    }
    let (value, rest) = rest.split_first_chunk::<8>()?;
    let (&0x10, stamp) = rest.split_first()? else {
        return None;
    };
    let (&last, leading) = stamp.split_last()?;
    // seven bytes reach far beyond the year 9999; longer ones go the long way
    if last >= 0x80 || leading.len() > 6 {
        return None;
    }
    let mut at_ms = 0;
    for (i, &b) in leading.iter().enumerate() {
        if b < 0x80 {
            return None;
        }
        at_ms |= i64::from(b & 0x7f) << (7 * i);
    }
    at_ms |= i64::from(last) << (7 * leading.len());
    Some((f64::from_le_bytes(*value), at_ms))
}

/// `Label { name = 1, value = 2 }`; the last of a repeated field counts, as protobuf has it.
#[inline]
pub(crate) fn label(mut label: Reader<'_>) -> Result<(&[u8], &[u8]), DecodeError> {
    let (mut name, mut value) = (&b""[..], &b""[..]);
    while let Some(tag) = label.tag()? {
        match tag.field {
            1 => {
                label.expect(tag, Wire::Bytes, "name of a label")?;
                name = label.bytes()?;
            }
            2 => {
                label.expect(tag, Wire::Bytes, "value of a label")?;
                value = label.bytes()?;
            }
            _ => label.skip(tag)?,
        }
    }
    Ok((name, value))
}

/// `Sample { value = 1, timestamp = 2 }`.
#[inline]
fn sample(mut sample: Reader<'_>) -> Result<(f64, i64), DecodeError> {
    let (mut value, mut at_ms) = (0.0, 0);
    while let Some(tag) = sample.tag()? {
        match tag.field {
            1 => {
                sample.expect(tag, Wire::Fixed64, "value of a sample")?;
                value = sample.double()?;
            }
            2 => {
                sample.expect(tag, Wire::Varint, "timestamp of a sample")?;
                at_ms = sample.varint()? as i64;
            }
            _ => sample.skip(tag)?,
        }
    }
    Ok((value, at_ms))
}

fn metadata_of<S: SampleSink + ?Sized>(mut metadata: Reader<'_>, sink: &mut S) -> Result<(), DecodeError> {
    let (mut kind, mut name, mut help, mut unit) = (0, &b""[..], &b""[..], &b""[..]);
    while let Some(tag) = metadata.tag()? {
        match tag.field {
            1 => {
                metadata.expect(tag, Wire::Varint, "type of a metric")?;
                kind = metadata.varint()?;
            }
            2 | 4 | 5 => {
                metadata.expect(tag, Wire::Bytes, "metadata")?;
                let text = metadata.bytes()?;
                match tag.field {
                    2 => name = text,
                    4 => help = text,
                    _ => unit = text,
                }
            }
            _ => metadata.skip(tag)?,
        }
    }
    if !name.is_empty() {
        sink.metadata(name, MetricKind::from_u8(kind.min(255) as u8), help, unit);
    }
    Ok(())
}

/// The request in its byte form, not compressed: series as (labels, samples).
pub fn encode<'a>(series: impl IntoIterator<Item = (&'a [(&'a str, &'a str)], &'a [(i64, f64)])>) -> Vec<u8> {
    let mut out = crate::proto::Writer::default();
    for (labels, samples) in series {
        out.message(1, |s| {
            for (name, value) in labels {
                s.message(1, |l| {
                    l.bytes(1, name.as_bytes());
                    l.bytes(2, value.as_bytes());
                });
            }
            for &(at_ms, value) in samples {
                s.message(2, |w| {
                    w.double(1, value);
                    w.varint(2, at_ms as u64);
                });
            }
        });
    }
    out.out
}

#[cfg(test)]
mod tests;
