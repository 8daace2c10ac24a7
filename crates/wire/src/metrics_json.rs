//! Overseer's own JSON: `{"name", "value", "timestamp"?, "type"?, "unit"?, "labels"?}`, one, an array of them, or
//! `{"metrics": [...]}`. A bad item is refused by its index and field; the others are taken.
use std::borrow::Cow;

use model::{LabelsBuilder, METRIC_NAME, MetricKind, RejectReason, SampleSink};

use crate::error::shown;
use crate::json::{Kind, Reader};
use crate::rejects::Rejects;
use crate::{DecodeError, Request, raw_kind};

/// Reads one body. JSON that breaks off or is malformed ends the reading; items before it are taken.
pub fn decode<S: SampleSink + ?Sized>(body: &[u8], request: &Request<'_>, sink: &mut S) -> Result<(), DecodeError> {
    let mut decoder = Decoder {
        reader: Reader::new(body),
        now_ms: request.now_ms,
        index: 0,
        taken: 0,
        labels: LabelsBuilder::default(),
        raw: Vec::new(),
        rejects: Rejects::default(),
    };
    let done = decoder.body(sink);
    decoder.rejects.finish(sink);
    done.map_err(|e| e.after(decoder.taken))
}

struct Decoder<'a> {
    reader: Reader<'a>,
    now_ms: i64,
    index: u64,
    taken: u64,
    labels: LabelsBuilder,
    raw: Vec<u8>,
    rejects: Rejects,
}

#[derive(Default)]
struct Item<'a> {
    name: Option<Cow<'a, str>>,
    value: Option<f64>,
    at_ms: Option<i64>,
    kind: Option<MetricKind>,
    unit: Cow<'a, str>,
    help: Cow<'a, str>,
    /// The first thing wrong with it.
    bad: Option<(RejectReason, String)>,
}

impl<'a> Decoder<'a> {
    fn body<S: SampleSink + ?Sized>(&mut self, sink: &mut S) -> Result<(), DecodeError> {
        match self.reader.peek()? {
            Kind::Array => self.items(sink)?,
            Kind::Object => {
                self.reader.open(Kind::Object)?;
                let Some(key) = self.reader.key(true)? else {
                    return Err(self.reader.error("an empty object: \"name\" and \"value\" are missing"));
                };
                if key == "metrics" {
                    self.items(sink)?;
                    if self.reader.key(false)?.is_some() {
                        return Err(self.reader.error("nothing but \"metrics\" is known here"));
                    }
                } else {
                    self.item(Some(key), sink)?;
                }
            }
            _ => return Err(self.reader.error("an object or an array is right here")),
        }
        self.reader.end()
    }

    fn items<S: SampleSink + ?Sized>(&mut self, sink: &mut S) -> Result<(), DecodeError> {
        self.reader.open(Kind::Array)?;
        let mut first = true;
        while self.reader.element(first)? {
            first = false;
            if self.reader.peek()? == Kind::Object {
                self.reader.open(Kind::Object)?;
                let key = self.reader.key(true)?;
                self.item(key, sink)?;
            } else {
                self.reader.skip()?;
                let why = "it is no object: {\"name\", \"value\", …} is right".to_owned();
                self.refuse(sink, RejectReason::Malformed, why);
                self.index += 1;
            }
        }
        Ok(())
    }

    fn refuse<S: SampleSink + ?Sized>(&mut self, sink: &mut S, reason: RejectReason, why: String) {
        let index = self.index;
        self.rejects
            .tell(sink, reason, 1, || (format!("metrics[{index}]"), why));
    }

    /// Reads the rest of an opened object whose first key was read.
    fn item<S: SampleSink + ?Sized>(&mut self, key: Option<Cow<'a, str>>, sink: &mut S) -> Result<(), DecodeError> {
        let mut item = Item::default();
        self.labels.clear();
        self.raw.clear();
        self.raw.push(raw_kind::JSON);
        let mut key = key;
        while let Some(name) = key {
            self.field(&name, &mut item)?;
            key = self.reader.key(false)?;
        }
        self.emit(item, sink);
        self.index += 1;
        Ok(())
    }

    fn field(&mut self, field: &str, item: &mut Item<'a>) -> Result<(), DecodeError> {
        let kind = self.reader.peek()?;
        let wrong = |item: &mut Item<'a>, reason, why: String| {
            item.bad.get_or_insert((reason, why));
        };
        match (field, kind) {
            ("name", Kind::String) => item.name = Some(self.reader.string()?),
            ("unit", Kind::String) => item.unit = self.reader.string()?,
            ("help", Kind::String) => item.help = self.reader.string()?,
            ("value", Kind::Number) => {
                let text = self.reader.number()?;
                match text.parse::<f64>() {
                    Ok(v) if v.is_finite() => item.value = Some(v),
                    _ => wrong(
                        item,
                        RejectReason::Malformed,
                        format!("value {text} does not fit a 64-bit float"),
                    ),
                }
            }
            ("value", Kind::String) => {
                let text = self.reader.string()?;
                match &*text {
                    "NaN" => item.value = Some(f64::NAN),
                    "+Inf" | "Inf" => item.value = Some(f64::INFINITY),
                    "-Inf" => item.value = Some(f64::NEG_INFINITY),
                    other => {
                        let why = format!(
                            "value {:?} is no number: a JSON number, \"NaN\", \"+Inf\" or \"-Inf\" is right",
                            shown(other.as_bytes())
                        );
                        wrong(item, RejectReason::NotANumber, why);
                    }
                }
            }
            ("timestamp", Kind::Number) => {
                let text = self.reader.number()?;
                match millis(text) {
                    Some(ms) => item.at_ms = Some(ms),
                    None => wrong(
                        item,
                        RejectReason::Timestamp,
                        format!("timestamp {} is no number of milliseconds", shown(text.as_bytes())),
                    ),
                }
            }
            ("timestamp", Kind::String) => {
                let text = self.reader.string()?;
                match model::rfc3339_ms(&text) {
                    Some(ms) => item.at_ms = Some(ms),
                    None => {
                        let why = format!(
                            "timestamp {:?} is not understood: Unix milliseconds or RFC 3339 (2026-01-31T12:00:00Z) is right",
                            shown(text.as_bytes())
                        );
                        wrong(item, RejectReason::Timestamp, why);
                    }
                }
            }
            ("timestamp" | "type" | "unit" | "help" | "labels", Kind::Null) => self.reader.null()?,
            ("type", Kind::String) => {
                let text = self.reader.string()?;
                match KINDS.iter().find(|k| k.as_str() == text) {
                    Some(kind) => item.kind = Some(*kind),
                    None => {
                        let known: Vec<_> = KINDS.iter().map(|k| k.as_str()).collect();
                        let why = format!(
                            "type {:?} is unknown: {} is right",
                            shown(text.as_bytes()),
                            known.join(", ")
                        );
                        wrong(item, RejectReason::Malformed, why);
                    }
                }
            }
            ("labels", Kind::Object) => {
                self.reader.open(Kind::Object)?;
                let mut first = true;
                while let Some(name) = self.reader.key(first)? {
                    first = false;
                    if self.reader.peek()? != Kind::String {
                        self.reader.skip()?;
                        let why = format!("label {:?} is no string", shown(name.as_bytes()));
                        wrong(item, RejectReason::Labels, why);
                        continue;
                    }
                    let value = self.reader.string()?;
                    if name == METRIC_NAME {
                        wrong(
                            item,
                            RejectReason::Labels,
                            "label \"__name__\": the field \"name\" is right".to_owned(),
                        );
                    }
                    self.labels.push(name.as_bytes(), value.as_bytes());
                    for part in [name.as_bytes(), value.as_bytes()] {
                        self.raw.extend_from_slice(&(part.len() as u32).to_le_bytes());
                        self.raw.extend_from_slice(part);
                    }
                }
            }
            ("name" | "value" | "timestamp" | "type" | "unit" | "help" | "labels", _) => {
                self.reader.skip()?;
                let right = match field {
                    "value" => "a number",
                    "timestamp" => "a number or a string",
                    "labels" => "an object of strings",
                    _ => "a string",
                };
                wrong(
                    item,
                    RejectReason::Malformed,
                    format!("{field} is {kind:?}: {right} is right"),
                );
            }
            _ => {
                self.reader.skip()?;
                let why = format!(
                    "field {:?} is unknown: name, value, timestamp, type, unit, help, labels are right",
                    shown(field.as_bytes())
                );
                wrong(item, RejectReason::Malformed, why);
            }
        }
        Ok(())
    }

    fn emit<S: SampleSink + ?Sized>(&mut self, item: Item<'_>, sink: &mut S) {
        if let Some((reason, why)) = item.bad {
            return self.refuse(sink, reason, why);
        }
        let Some(name) = item.name.filter(|n| !n.is_empty()) else {
            return self.refuse(sink, RejectReason::Labels, "name is missing".to_owned());
        };
        let Some(value) = item.value else {
            return self.refuse(sink, RejectReason::NotANumber, "value is missing".to_owned());
        };
        self.raw.extend_from_slice(name.as_bytes());
        self.raw.extend_from_slice(&(name.len() as u32).to_le_bytes());
        let id = match sink.known(&self.raw) {
            Some(id) => id,
            None => {
                self.labels.push(METRIC_NAME.as_bytes(), name.as_bytes());
                match sink.define(&self.raw, &mut self.labels) {
                    Some(id) => id,
                    None => return sink.lost(1),
                }
            }
        };
        sink.float(id, item.at_ms.unwrap_or(self.now_ms), value, 0);
        self.taken += 1;
        if item.kind.is_some() || !item.unit.is_empty() || !item.help.is_empty() {
            sink.metadata(
                name.as_bytes(),
                item.kind.unwrap_or_default(),
                item.help.as_bytes(),
                item.unit.as_bytes(),
            );
        }
    }
}

const KINDS: [MetricKind; 8] = [
    MetricKind::Counter,
    MetricKind::Gauge,
    MetricKind::Histogram,
    MetricKind::GaugeHistogram,
    MetricKind::Summary,
    MetricKind::Info,
    MetricKind::StateSet,
    MetricKind::Unknown,
];

/// Milliseconds, fractions cut off; `None` when they do not fit.
fn millis(text: &str) -> Option<i64> {
    if let Ok(ms) = text.parse() {
        return Some(ms);
    }
    // a time beyond what is stored is cut to what can be
    let ms: f64 = text.parse().ok()?;
    (!ms.is_nan()).then_some((ms as i64).clamp(-model::TIME_MS_MAX, model::TIME_MS_MAX))
}

#[cfg(test)]
mod tests;
