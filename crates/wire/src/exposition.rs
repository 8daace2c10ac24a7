//! Prometheus' text format 0.0.4 and OpenMetrics text 1.0, read from what is scraped and written for `/metrics`.
mod writer;

use memchr::{memchr, memchr2};
use model::{LabelsBuilder, METRIC_NAME, MetricKind, SampleSink, SeriesId};

use crate::error::shown;
use crate::{DecodeError, Request, media_type, raw_kind};

pub use writer::Writer;

/// What a target may answer with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    Text,
    OpenMetrics,
}

impl Format {
    /// Value of the `Accept` header that asks for either.
    pub const ACCEPT: &'static str = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,\
        application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";

    /// By the answer's content type, whatever its parameters. The error says why it is none of these.
    pub fn stated(content_type: &str) -> Result<Format, String> {
        let media = media_type(content_type);
        let is = |known: &str| media.eq_ignore_ascii_case(known);
        if is("text/plain") {
            Ok(Format::Text)
        } else if is("application/openmetrics-text") {
            Ok(Format::OpenMetrics)
        } else if media.is_empty() {
            Err("the answer has no Content-Type".to_owned())
        } else {
            Err(format!(
                "the answer has the Content-Type {:?}: text/plain or application/openmetrics-text is right",
                shown(content_type.as_bytes())
            ))
        }
    }
}

/// What a body held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scraped {
    /// Samples in the body, refused ones included.
    pub samples: u64,
}

/// Reads a scraped body into `sink`; every series gets the labels of `request.target`. The first line that is not
/// understood ends the reading, as a target that answers nonsense is down (`taken` says how many samples came before).
pub fn decode<S: SampleSink + ?Sized>(
    body: &[u8],
    format: Format,
    request: &Request<'_>,
    sink: &mut S,
) -> Result<Scraped, DecodeError> {
    let mut decoder = Decoder::new(format, request);
    let mut pos = 0;
    let mut number = 1u64;
    let mut ended = false;
    while pos < body.len() {
        let end = memchr(b'\n', &body[pos..]).map_or(body.len(), |n| pos + n);
        let line = &body[pos..end];
        let failed = |why: String| {
            let text = shown(line);
            DecodeError::malformed(pos, format!("line {number}: {why}: {text}"))
        };
        if ended {
            return Err(failed("text after # EOF".to_owned()).after(decoder.taken));
        }
        match decoder.line(line, sink) {
            Ok(eof) => ended = eof,
            Err(why) => return Err(failed(why).after(decoder.taken)),
        }
        pos = end + 1;
        number += 1;
    }
    decoder.flush(sink);
    if format == Format::OpenMetrics && !ended {
        let e = DecodeError::malformed(body.len(), "the last line is not # EOF: the answer is cut short");
        return Err(e.after(decoder.taken));
    }
    Ok(Scraped {
        samples: decoder.samples,
    })
}

struct Decoder<'a> {
    format: Format,
    request: &'a Request<'a>,
    raw: Vec<u8>,
    /// Bytes of `raw` that spell the target.
    prefix: usize,
    labels: LabelsBuilder,
    text: Vec<u8>,
    family: Family,
    /// In the body, refused ones included.
    samples: u64,
    taken: u64,
}

/// The metric that the last comments described.
#[derive(Default)]
struct Family {
    name: Vec<u8>,
    kind: MetricKind,
    help: Vec<u8>,
    unit: Vec<u8>,
}

/// A label whose value is a number and gets one spelling (`1` becomes `1.0`), as in Prometheus 3.
#[derive(Clone, Copy, PartialEq)]
enum Spelled {
    Nothing,
    Le,
    Quantile,
}

impl<'a> Decoder<'a> {
    fn new(format: Format, request: &'a Request<'a>) -> Self {
        let mut raw = vec![raw_kind::EXPOSITION, u8::from(request.honor_labels)];
        for part in request.target.iter().flat_map(|(n, v)| [n, v]) {
            raw.extend_from_slice(&(part.len() as u32).to_le_bytes());
            raw.extend_from_slice(part.as_bytes());
        }
        // no label is that long: the end of the target's part
        raw.extend_from_slice(&u32::MAX.to_le_bytes());
        Decoder {
            format,
            request,
            prefix: raw.len(),
            raw,
            labels: LabelsBuilder::default(),
            text: Vec::new(),
            family: Family::default(),
            samples: 0,
            taken: 0,
        }
    }

    /// Reads one line; true for `# EOF`.
    fn line<S: SampleSink + ?Sized>(&mut self, line: &[u8], sink: &mut S) -> Result<bool, String> {
        let line = line.trim_ascii();
        match line.first() {
            None => Ok(false),
            Some(b'#') => self.comment(&line[1..], sink),
            Some(_) => self.sample(line, sink).map(|()| false),
        }
    }

    fn comment<S: SampleSink + ?Sized>(&mut self, text: &[u8], sink: &mut S) -> Result<bool, String> {
        let open_metrics = self.format == Format::OpenMetrics;
        let (word, rest) = split_word(text.trim_ascii_start());
        match word {
            b"EOF" if open_metrics && rest.is_empty() => return Ok(true),
            b"HELP" | b"TYPE" => {}
            b"UNIT" if open_metrics => {}
            _ => return Ok(false),
        }
        self.text.clear();
        let rest = if rest.first() == Some(&b'"') {
            let end = string_end(rest, 1).ok_or("a quoted name that never ends")?;
            unescape(&rest[1..end - 1], &mut self.text);
            rest[end..].trim_ascii_start()
        } else {
            let (name, rest) = split_word(rest);
            self.text.extend_from_slice(name);
            rest
        };
        if self.text.is_empty() {
            return Err("a metric's name is missing".to_owned());
        }
        if self.text != self.family.name {
            self.flush(sink);
            std::mem::swap(&mut self.family.name, &mut self.text);
        }
        match word {
            b"HELP" => {
                self.family.help.clear();
                unescape(rest, &mut self.family.help);
            }
            b"UNIT" => {
                self.family.unit.clear();
                self.family.unit.extend_from_slice(rest);
            }
            _ => {
                self.family.kind = kind(rest).ok_or_else(|| format!("the type {:?} is unknown", shown(rest)))?;
            }
        }
        Ok(false)
    }

    fn flush<S: SampleSink + ?Sized>(&mut self, sink: &mut S) {
        let family = &mut self.family;
        let said = family.kind != MetricKind::Unknown || !family.help.is_empty() || !family.unit.is_empty();
        if !family.name.is_empty() && said {
            sink.metadata(&family.name, family.kind, &family.help, &family.unit);
        }
        // the buffers stay for the next one
        for text in [&mut family.name, &mut family.help, &mut family.unit] {
            text.clear();
        }
        family.kind = MetricKind::default();
    }

    fn sample<S: SampleSink + ?Sized>(&mut self, line: &[u8], sink: &mut S) -> Result<(), String> {
        let end = series_end(line).ok_or("labels without a closing brace")?;
        let (series, rest) = line.split_at(end);
        let (value, rest) = split_word(rest.trim_ascii_start());
        let value = float(value).ok_or_else(|| format!("the value {:?} is no number", shown(value)))?;
        let (stamp, exemplar) = match memchr(b'#', rest) {
            Some(at) if self.format == Format::OpenMetrics => (&rest[..at], Some(&rest[at + 1..])),
            _ => (rest, None),
        };
        let stamp = stamp.trim_ascii();
        let at_ms = match stamp {
            b"" => None,
            _ => Some(self.millis(stamp)?),
        };
        let at_ms = at_ms
            .filter(|_| !self.request.ignore_timestamps)
            .unwrap_or(self.request.now_ms);
        let spelled = self.spelled();
        self.raw.truncate(self.prefix);
        self.raw.push(spelled as u8);
        self.raw.extend_from_slice(series);
        let id = match sink.known(&self.raw) {
            Some(id) => Some(id),
            None => self.define(series, spelled, sink)?,
        };
        self.samples += 1;
        match id {
            Some(id) => {
                sink.float(id, at_ms, value, 0);
                self.taken += 1;
            }
            None => sink.lost(1),
        }
        match (exemplar, id) {
            (Some(text), Some(id)) => self.exemplar(text, id, at_ms, sink),
            _ => Ok(()),
        }
    }

    fn millis(&self, stamp: &[u8]) -> Result<i64, String> {
        let wrong = || format!("the timestamp {:?} is not understood", shown(stamp));
        match self.format {
            Format::Text => std::str::from_utf8(stamp)
                .ok()
                .and_then(|s| s.parse().ok())
                .ok_or_else(wrong),
            Format::OpenMetrics => {
                let ms = float(stamp).ok_or_else(wrong)? * 1000.0;
                if ms.abs() < 9.2e18 {
                    Ok(ms.round() as i64)
                } else {
                    Err(wrong())
                }
            }
        }
    }

    /// By the type last stated, as in Prometheus, and so whichever way the series' name and labels are written.
    fn spelled(&self) -> Spelled {
        match self.family.kind {
            MetricKind::Histogram | MetricKind::GaugeHistogram => Spelled::Le,
            MetricKind::Summary => Spelled::Quantile,
            _ => Spelled::Nothing,
        }
    }

    #[cold]
    fn define<S: SampleSink + ?Sized>(
        &mut self,
        series: &[u8],
        spelled: Spelled,
        sink: &mut S,
    ) -> Result<Option<SeriesId>, String> {
        let mut pairs = Vec::new();
        series_pairs(series, &mut pairs)?;
        let number = match spelled {
            Spelled::Nothing => None,
            Spelled::Le => Some(&b"le"[..]),
            Spelled::Quantile => Some(&b"quantile"[..]),
        };
        if let Some(number) = number {
            for (_, value) in pairs.iter_mut().filter(|(name, _)| name == number) {
                if let Some(n) = float(value) {
                    *value = spell(n).into_bytes();
                }
            }
        }
        self.labels.clear();
        if self.request.honor_labels {
            for (name, value) in &pairs {
                self.labels.push(name, value);
            }
            for (name, value) in self.request.target {
                if !pairs.iter().any(|(n, _)| n == name.as_bytes()) {
                    self.labels.push(name.as_bytes(), value.as_bytes());
                }
            }
        } else {
            for i in 0..pairs.len() {
                let mut name = pairs[i].0.clone();
                if self.request.target.iter().any(|(n, _)| n.as_bytes() == name) {
                    loop {
                        name.splice(0..0, *b"exported_");
                        let taken = self.request.target.iter().any(|(n, _)| n.as_bytes() == name)
                            || pairs.iter().any(|(n, _)| *n == name);
                        if !taken {
                            break;
                        }
                    }
                }
                self.labels.push(&name, &pairs[i].1);
            }
            for (name, value) in self.request.target {
                self.labels.push(name.as_bytes(), value.as_bytes());
            }
        }
        Ok(sink.define(&self.raw, &mut self.labels))
    }

    fn exemplar<S: SampleSink + ?Sized>(
        &mut self,
        text: &[u8],
        id: SeriesId,
        at_ms: i64,
        sink: &mut S,
    ) -> Result<(), String> {
        let text = text.trim_ascii_start();
        let end = match text.first() {
            Some(b'{') => series_end(text).ok_or("an exemplar's labels without a closing brace")?,
            _ => return Err("an exemplar without labels".to_owned()),
        };
        let mut pairs = Vec::new();
        series_pairs(&text[..end], &mut pairs)?;
        let (value, rest) = split_word(text[end..].trim_ascii_start());
        let value = float(value).ok_or("an exemplar's value is no number")?;
        let stamp = rest.trim_ascii();
        let at_ms = if stamp.is_empty() { at_ms } else { self.millis(stamp)? };
        self.labels.clear();
        for (name, value) in &pairs {
            self.labels.push(name, value);
        }
        sink.exemplar(id, at_ms, value, &mut self.labels);
        Ok(())
    }
}

fn split_word(text: &[u8]) -> (&[u8], &[u8]) {
    let end = memchr2(b' ', b'\t', text).unwrap_or(text.len());
    (&text[..end], text[end..].trim_ascii_start())
}

fn float(text: &[u8]) -> Option<f64> {
    std::str::from_utf8(text).ok()?.parse().ok()
}

/// A float as OpenMetrics has it: always with a point or an exponent.
fn spell(n: f64) -> String {
    if n.is_nan() {
        "NaN".to_owned()
    } else if n.is_infinite() {
        if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else {
        let size = n.abs();
        if size != 0.0 && !(1e-4..1e21).contains(&size) {
            let text = format!("{n:e}");
            let Some((mantissa, exponent)) = text.split_once('e') else {
                return text;
            };
            let (sign, digits) = match exponent.strip_prefix('-') {
                Some(digits) => ('-', digits),
                None => ('+', exponent),
            };
            return format!("{mantissa}e{sign}{digits:0>2}");
        }
        let text = n.to_string();
        if text.contains('.') { text } else { text + ".0" }
    }
}

fn kind(text: &[u8]) -> Option<MetricKind> {
    Some(match text {
        b"counter" => MetricKind::Counter,
        b"gauge" => MetricKind::Gauge,
        b"histogram" => MetricKind::Histogram,
        b"gaugehistogram" => MetricKind::GaugeHistogram,
        b"summary" => MetricKind::Summary,
        b"info" => MetricKind::Info,
        b"stateset" => MetricKind::StateSet,
        b"untyped" | b"unknown" => MetricKind::Unknown,
        _ => return None,
    })
}

/// Where name and labels of a sample end.
fn series_end(line: &[u8]) -> Option<usize> {
    let mut pos = line
        .iter()
        .position(|b| matches!(b, b'{' | b' ' | b'\t'))
        .unwrap_or(line.len());
    // blanks are allowed between name and brace
    let brace = line[pos..]
        .iter()
        .position(|b| !matches!(b, b' ' | b'\t'))
        .map(|n| pos + n);
    match brace {
        Some(at) if line[at] == b'{' => pos = at + 1,
        _ => return Some(pos),
    }
    // byte by byte: what stands between quotes is short, a search for each costs more to begin than to make
    let mut quoted = false;
    while let Some(&b) = line.get(pos) {
        pos += 1;
        match b {
            b'"' => quoted = !quoted,
            b'\\' if quoted => pos += 1,
            b'}' if !quoted => return Some(pos),
            _ => {}
        }
    }
    None
}

/// Behind the closing quote of a string whose content starts at `pos`.
fn string_end(text: &[u8], mut pos: usize) -> Option<usize> {
    loop {
        pos += memchr2(b'"', b'\\', text.get(pos..)?)?;
        if text[pos] == b'"' {
            return Some(pos + 1);
        }
        pos += 2;
    }
}

/// Appends `text` with `\\`, `\"` and `\n` resolved; other backslashes stand for themselves.
fn unescape(text: &[u8], out: &mut Vec<u8>) {
    let mut pos = 0;
    while let Some(&b) = text.get(pos) {
        let (byte, step) = match (b, text.get(pos + 1)) {
            (b'\\', Some(b'n')) => (b'\n', 2),
            (b'\\', Some(&c @ (b'\\' | b'"'))) => (c, 2),
            _ => (b, 1),
        };
        out.push(byte);
        pos += step;
    }
}

fn plain_name(name: &[u8], colon: bool) -> bool {
    name.first().is_some_and(|b| !b.is_ascii_digit())
        && name
            .iter()
            .all(|b| b.is_ascii_alphanumeric() || *b == b'_' || colon && *b == b':')
}

/// Name and labels of `name{label="value",…}` or `{"name",label="value",…}`, the name as `__name__`.
fn series_pairs(series: &[u8], pairs: &mut Vec<(Vec<u8>, Vec<u8>)>) -> Result<(), String> {
    let brace = memchr(b'{', series).unwrap_or(series.len());
    let name = series[..brace].trim_ascii();
    if !name.is_empty() {
        if !plain_name(name, true) {
            return Err(format!("the metric name {:?} needs quotes", shown(name)));
        }
        pairs.push((METRIC_NAME.into(), name.to_vec()));
    }
    let mut rest = match series.get(brace + 1..) {
        None => return Ok(()),
        Some(inner) => inner.strip_suffix(b"}").unwrap_or(inner).trim_ascii(),
    };
    while !rest.is_empty() {
        let quoted = rest[0] == b'"';
        let (name, after) = if quoted {
            let end = string_end(rest, 1).ok_or("a quoted name that never ends")?;
            let mut name = Vec::new();
            unescape(&rest[1..end - 1], &mut name);
            (name, rest[end..].trim_ascii_start())
        } else {
            let end = memchr(b'=', rest).ok_or("a label without a value")?;
            (rest[..end].trim_ascii_end().to_vec(), &rest[end..])
        };
        rest = match after.strip_prefix(b"=") {
            Some(value) => {
                if !quoted && !plain_name(&name, false) {
                    return Err(format!("the label name {:?} needs quotes", shown(&name)));
                }
                let value = value.trim_ascii_start();
                if value.first() != Some(&b'"') {
                    return Err(format!("the value of label {:?} needs quotes", shown(&name)));
                }
                let end = string_end(value, 1).ok_or("a label value that never ends")?;
                let mut text = Vec::new();
                unescape(&value[1..end - 1], &mut text);
                pairs.push((name, text));
                &value[end..]
            }
            None if quoted && !pairs.iter().any(|(n, _)| n == METRIC_NAME.as_bytes()) => {
                pairs.push((METRIC_NAME.into(), name));
                after
            }
            None => return Err("a label without a value".to_owned()),
        };
        rest = rest.trim_ascii_start();
        match rest.split_first() {
            Some((b',', tail)) => rest = tail.trim_ascii_start(),
            Some(_) => return Err("a comma is right between labels".to_owned()),
            None => {}
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
