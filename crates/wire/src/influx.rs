//! InfluxDB line protocol: `measurement,tag=value field=1.5,other=2i timestamp`. Each numeric field is a sample of the
//! series `measurement_field` with the tags as labels.
use memchr::memchr;
use model::{LabelsBuilder, METRIC_NAME, RejectReason, SampleSink};

use crate::error::shown;
use crate::rejects::Rejects;
use crate::{DecodeError, Request, raw_kind, text_budget};

/// Bytes of one line's measurement and tags at most.
const KEY_BYTES_MAX: usize = 64 << 10;

/// Reads a body line by line. A line that is not understood is refused by its number, the others are taken; string
/// fields are counted under their name. Only an unknown `precision` refuses the whole.
pub fn decode<S: SampleSink + ?Sized>(body: &[u8], request: &Request<'_>, sink: &mut S) -> Result<(), DecodeError> {
    let mut decoder = Decoder {
        precision: Precision::of(request.param("precision").unwrap_or(""))?,
        now_ms: request.now_ms,
        raw: Vec::new(),
        name: Vec::new(),
        text: Vec::new(),
        subject: Vec::new(),
        text_left: text_budget(body.len()),
        taken: 0,
        fields: Vec::new(),
        labels: LabelsBuilder::default(),
        rejects: Rejects::default(),
    };
    let mut rest = body;
    let mut number = 1;
    while !rest.is_empty() {
        let lines = decoder.line(rest, number, sink);
        number += lines.lines;
        rest = &rest[lines.bytes..];
        if decoder.text_left == 0 {
            decoder.rejects.finish(sink);
            return Err(DecodeError::too_large(format!(
                "the fields up to line {number} repeat too many bytes of measurement and tags: send fewer lines at a time"
            ))
            .after(decoder.taken));
        }
    }
    decoder.rejects.finish(sink);
    Ok(())
}

/// Unit of timestamps: nanoseconds per unit, or for those above a millisecond milliseconds per unit.
#[derive(Clone, Copy)]
enum Precision {
    PerMilli(i64),
    Millis(i64),
}

impl Precision {
    fn of(name: &str) -> Result<Self, DecodeError> {
        Ok(match name {
            "" | "n" | "ns" => Precision::PerMilli(1_000_000),
            "u" | "us" | "µ" | "µs" => Precision::PerMilli(1_000),
            "ms" => Precision::Millis(1),
            "s" => Precision::Millis(1_000),
            "m" => Precision::Millis(60_000),
            "h" => Precision::Millis(3_600_000),
            other => {
                return Err(DecodeError::unsupported(format!(
                    "precision {:?} is unknown: ns, us, ms, s, m or h is right",
                    shown(other.as_bytes())
                )));
            }
        })
    }

    /// A time beyond what is stored is cut to what can be.
    fn millis(self, n: i64) -> i64 {
        let ms = match self {
            Precision::PerMilli(d) => n.div_euclid(d),
            Precision::Millis(m) => n.saturating_mul(m),
        };
        ms.clamp(-model::TIME_MS_MAX, model::TIME_MS_MAX)
    }
}

struct Decoder<'a> {
    precision: Precision,
    now_ms: i64,
    raw: Vec<u8>,
    name: Vec<u8>,
    text: Vec<u8>,
    subject: Vec<u8>,
    text_left: usize,
    taken: u64,
    fields: Vec<(&'a [u8], Value<'a>)>,
    labels: LabelsBuilder,
    rejects: Rejects,
}

/// How far one line reaches.
struct Consumed {
    bytes: usize,
    lines: u64,
}

#[derive(Clone, Copy)]
enum Value<'a> {
    Number(f64),
    Text,
    /// What it says instead of a number, and what would be right.
    Bad(&'a [u8], &'static str),
}

/// A line that is not understood: why, and the byte where that was noticed.
struct Broken(&'static str, usize);

impl<'a> Decoder<'a> {
    fn line<S: SampleSink + ?Sized>(&mut self, rest: &'a [u8], number: u64, sink: &mut S) -> Consumed {
        let indent = rest.iter().take_while(|b| matches!(b, b' ' | b'\t' | b'\r')).count();
        let one = |from: usize| Consumed {
            bytes: memchr(b'\n', &rest[from..]).map_or(rest.len(), |n| from + n + 1),
            lines: 1,
        };
        match rest.get(indent) {
            None | Some(b'\n' | b'#') => return one(indent),
            Some(_) => {}
        }
        match self.parse(&rest[indent..]) {
            Ok(parsed) => {
                self.emit(&parsed, number, sink);
                // a string may hold line breaks
                let bytes = indent + parsed.bytes;
                let breaks = memchr::memchr_iter(b'\n', &rest[..bytes]).count() as u64;
                Consumed {
                    bytes,
                    lines: breaks.max(1),
                }
            }
            Err(Broken(why, at)) => {
                let mut end = one(indent);
                // what stands in a string of a bad line is no line of its own
                if let Some(bytes) = end_of_point(&rest[indent..]) {
                    end.bytes = indent + bytes;
                    end.lines = (memchr::memchr_iter(b'\n', &rest[..end.bytes]).count() as u64).max(1);
                }
                let line = &rest[indent..end.bytes];
                let lost = (self.fields.len() as u64).max(1);
                self.rejects.tell(sink, RejectReason::Malformed, lost, || {
                    let text = shown(line.trim_ascii_end());
                    (
                        format!("line {number}"),
                        format!("{why} (at character {}): {text}", indent + at + 1),
                    )
                });
                end
            }
        }
    }

    fn parse(&mut self, line: &'a [u8]) -> Result<Line<'a>, Broken> {
        self.fields.clear();
        let key_end = unescaped_space(line)
            .ok_or_else(|| Broken("it has no fields", memchr(b'\n', line).unwrap_or(line.len())))?;
        let key = &line[..key_end];
        if key.len() > KEY_BYTES_MAX {
            return Err(Broken("its measurement and tags are longer than 64 KiB", KEY_BYTES_MAX));
        }
        let mut pos = key_end;
        while line.get(pos) == Some(&b' ') {
            pos += 1;
        }
        loop {
            let start = pos;
            loop {
                match line.get(pos) {
                    Some(b'=') => break,
                    Some(b'\\') if line.get(pos + 1).is_some_and(|&b| b != b'\n') => pos += 2,
                    None | Some(b'\n' | b' ' | b',') => {
                        return Err(Broken("a field has no value: name=value is right", pos));
                    }
                    Some(_) => pos += 1,
                }
            }
            let field = &line[start..pos];
            if field.is_empty() {
                return Err(Broken("a field has no name", pos));
            }
            pos += 1;
            let value = if line.get(pos) == Some(&b'"') {
                pos = end_of_string(line, pos + 1).ok_or(Broken("a string never ends", pos))?;
                if !matches!(line.get(pos), None | Some(b',' | b' ' | b'\n' | b'\r')) {
                    return Err(Broken(
                        "a string is followed by something else than a comma or a space",
                        pos,
                    ));
                }
                Value::Text
            } else {
                let from = pos;
                while !matches!(line.get(pos), None | Some(b',' | b' ' | b'\n' | b'\r')) {
                    pos += 1;
                }
                if from == pos {
                    return Err(Broken("a field has no value", pos));
                }
                number(&line[from..pos])
            };
            self.fields.push((field, value));
            if line.get(pos) != Some(&b',') {
                break;
            }
            pos += 1;
        }
        while line.get(pos) == Some(&b' ') {
            pos += 1;
        }
        let stop = memchr(b'\n', &line[pos..]).map_or(line.len(), |n| pos + n);
        let stamp = line[pos..stop].trim_ascii_end();
        let at_ms = if stamp.is_empty() {
            self.now_ms
        } else {
            std::str::from_utf8(stamp)
                .ok()
                .filter(|s| !s.starts_with('+'))
                .and_then(|s| s.parse::<i64>().ok())
                .map(|n| self.precision.millis(n))
                .ok_or(Broken("the timestamp is no whole number of 64 bits", pos))?
        };
        Ok(Line {
            key,
            at_ms,
            bytes: line.len().min(stop + 1),
        })
    }

    fn emit<S: SampleSink + ?Sized>(&mut self, line: &Line<'_>, number: u64, sink: &mut S) {
        self.raw.clear();
        self.raw.push(raw_kind::INFLUX);
        self.raw.extend_from_slice(line.key);
        self.raw.push(b' ');
        let prefix = self.raw.len();
        let mut parsed = false;
        for i in 0..self.fields.len() {
            let (field, value) = self.fields[i];
            let value = match value {
                Value::Number(v) => v,
                Value::Text => {
                    self.subject.clear();
                    self.subject.extend_from_slice(measurement(line.key));
                    self.subject.push(b'.');
                    self.subject.extend_from_slice(field);
                    self.rejects.not_a_number(sink, &self.subject);
                    continue;
                }
                Value::Bad(text, right) => {
                    self.rejects.tell(sink, RejectReason::Malformed, 1, || {
                        (
                            format!("line {number}"),
                            format!("field {:?} has the value {:?}: {right}", shown(field), shown(text)),
                        )
                    });
                    continue;
                }
            };
            self.raw.truncate(prefix);
            self.raw.extend_from_slice(field);
            self.text_left = self.text_left.saturating_sub(self.raw.len());
            if self.text_left == 0 {
                return;
            }
            let id = match sink.known(&self.raw) {
                Some(id) => Some(id),
                None => {
                    if !parsed && let Err(why) = self.tags(line.key) {
                        let lost = (self.fields.len() - i) as u64;
                        self.rejects.tell(sink, RejectReason::Malformed, lost, || {
                            (format!("line {number}"), format!("{why}: {}", shown(line.key)))
                        });
                        return;
                    }
                    parsed = true;
                    self.define(field, sink)
                }
            };
            match id {
                Some(id) => {
                    sink.float(id, line.at_ms, value, 0);
                    self.taken += 1;
                }
                None => sink.lost(1),
            }
        }
    }

    /// Puts the measurement into `name` and the tags, unescaped and under label names, into `text`; the error says what is
    /// wrong with them.
    fn tags(&mut self, key: &[u8]) -> Result<(), &'static str> {
        let (measurement, mut rest) = key.split_at(measurement(key).len());
        self.name.clear();
        unescape(measurement, b", ", &mut self.name);
        self.text.clear();
        if self.name.is_empty() {
            return Err("the measurement is empty");
        }
        let mut names = Vec::new();
        while let Some((_, tail)) = rest.split_first() {
            let end = unescaped(tail, b',').unwrap_or(tail.len());
            let (tag, next) = tail.split_at(end);
            if tag.is_empty() {
                return Err("a comma without a tag: name=value is right after each");
            }
            let Some(eq) = unescaped(tag, b'=') else {
                return Err("a tag without a value: name=value is right");
            };
            let (tag_name, value) = (&tag[..eq], &tag[eq + 1..]);
            if tag_name.is_empty() {
                return Err("a tag without a name: name=value is right");
            }
            if value.is_empty() {
                return Err("a tag with an empty value: leave the tag out");
            }
            if unescaped(value, b'=').is_some() {
                return Err(
                    "a tag's value has a = without a backslash before it (or a backslash stands before a comma \
                            that should end the tag)",
                );
            }
            let mut plain = Vec::new();
            unescape(tag_name, b",= ", &mut plain);
            plain_name(&mut plain, false);
            put_text(&plain, &mut self.text);
            names.push(plain);
            let mut plain = Vec::new();
            unescape(value, b",= ", &mut plain);
            put_text(&plain, &mut self.text);
            rest = next;
        }
        names.sort_unstable();
        if names.windows(2).any(|w| w[0] == w[1]) {
            return Err("two tags have the same name, as labels are named");
        }
        Ok(())
    }

    #[cold]
    fn define<S: SampleSink + ?Sized>(&mut self, field: &[u8], sink: &mut S) -> Option<model::SeriesId> {
        self.labels.clear();
        let measurement = self.name.len();
        self.name.push(b'_');
        unescape(field, b",= \"", &mut self.name);
        let mut name = self.name.clone();
        self.name.truncate(measurement);
        plain_name(&mut name, true);
        self.labels.push(METRIC_NAME.as_bytes(), &name);
        let mut rest = &self.text[..];
        while let Some((tag, tail)) = split_text(rest) {
            let Some((value, tail)) = split_text(tail) else { break };
            self.labels.push(tag, value);
            rest = tail;
        }
        sink.define(&self.raw, &mut self.labels)
    }
}

struct Line<'a> {
    key: &'a [u8],
    at_ms: i64,
    /// Bytes of the line, its end included.
    bytes: usize,
}

fn split_text(rest: &[u8]) -> Option<(&[u8], &[u8])> {
    let (len, tail) = rest.split_first_chunk::<4>()?;
    tail.split_at_checked(u32::from_le_bytes(*len) as usize)
}

fn put_text(text: &[u8], out: &mut Vec<u8>) {
    out.extend_from_slice(&(text.len() as u32).to_le_bytes());
    out.extend_from_slice(text);
}

/// Where an unescaped space ends measurement and tags; `None` when the line ends before.
fn unescaped_space(line: &[u8]) -> Option<usize> {
    let mut from = 0;
    loop {
        let at = from + memchr::memchr2(b' ', b'\n', &line[from..])?;
        match line[at] {
            b'\n' => return None,
            _ if at == 0 || line[at - 1] != b'\\' => return Some(at),
            _ => from = at + 1,
        }
    }
}

/// The first `stop` without a backslash right before it. As in InfluxDB, it does not matter what stands before that one.
fn unescaped(text: &[u8], stop: u8) -> Option<usize> {
    memchr::memchr_iter(stop, text).find(|&at| at == 0 || text[at - 1] != b'\\')
}

/// Bytes up to the end of a point that could not be read, its line break included: line breaks within strings of its
/// fields do not end it. `None` when a string never ends, or the point is the body's last.
fn end_of_point(text: &[u8]) -> Option<usize> {
    let (mut pos, mut fields, mut quoted) = (0, false, false);
    let (mut equals, mut commas) = (0u64, 0u64);
    loop {
        match *text.get(pos)? {
            b'\\' if text.get(pos + 1).is_some_and(|&b| b != b'\n') => pos += 1,
            b'\n' if !quoted => return Some(pos + 1),
            b' ' => fields = true,
            b'=' if fields && !quoted => equals += 1,
            b',' if fields && !quoted => commas += 1,
            b'"' if fields && (quoted || equals > commas) => quoted = !quoted,
            _ => {}
        }
        pos += 1;
    }
}

/// The measurement, still escaped.
fn measurement(key: &[u8]) -> &[u8] {
    &key[..unescaped(key, b',').unwrap_or(key.len())]
}

/// Behind the closing quote of a string whose content starts at `pos`.
fn end_of_string(line: &[u8], mut pos: usize) -> Option<usize> {
    loop {
        pos += memchr::memchr2(b'"', b'\\', line.get(pos..)?)?;
        if line[pos] == b'"' {
            return Some(pos + 1);
        }
        pos += 2;
    }
}

/// Appends `text` without the backslashes before `special`; other backslashes stand for themselves.
fn unescape(text: &[u8], special: &[u8], out: &mut Vec<u8>) {
    let mut pos = 0;
    while let Some(&b) = text.get(pos) {
        if b == b'\\' && text.get(pos + 1).is_some_and(|n| special.contains(n)) {
            pos += 1;
        }
        out.push(text[pos]);
        pos += 1;
    }
}

/// ASCII characters that Prometheus names cannot have without quotes become `_`, a leading digit gets one before it;
/// letters of other scripts stay.
fn plain_name(name: &mut Vec<u8>, colon: bool) {
    for b in name.iter_mut() {
        if b.is_ascii() && !b.is_ascii_alphanumeric() && !(colon && *b == b':') {
            *b = b'_';
        }
    }
    if name.first().is_some_and(u8::is_ascii_digit) {
        name.insert(0, b'_');
    }
}

fn number(text: &[u8]) -> Value<'_> {
    let parsed = match text {
        [b'+', ..] => None,
        b"t" | b"T" | b"true" | b"True" | b"TRUE" => return Value::Number(1.0),
        b"f" | b"F" | b"false" | b"False" | b"FALSE" => return Value::Number(0.0),
        [digits @ .., b'i'] => match std::str::from_utf8(digits).ok().and_then(|s| s.parse::<i64>().ok()) {
            Some(n) => return Value::Number(n as f64),
            None => return Value::Bad(text, "a whole number of 64 bits is right before i"),
        },
        [digits @ .., b'u'] => match std::str::from_utf8(digits).ok().and_then(|s| s.parse::<u64>().ok()) {
            Some(n) => return Value::Number(n as f64),
            None => return Value::Bad(text, "a whole number of 64 bits without sign is right before u"),
        },
        _ if text
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'.' | b'-' | b'+' | b'e' | b'E')) =>
        {
            std::str::from_utf8(text).ok().and_then(|s| s.parse::<f64>().ok())
        }
        _ => None,
    };
    match parsed {
        Some(n) if n.is_finite() => Value::Number(n),
        Some(_) => Value::Bad(text, "a number that fits 64-bit floats is right"),
        None => Value::Bad(text, "a number, a boolean or a string in quotes is right"),
    }
}

#[cfg(test)]
mod tests;
