//! The JSON form of OTLP, written out as protobuf.
use crate::error::shown;
use crate::json::{Kind, Reader};
use crate::proto::Writer;
use crate::{DecodeError, DecodeErrorKind};

/// A message's fields by their JSON names.
struct Schema(&'static [Field]);

struct Field {
    name: &'static str,
    number: u32,
    form: Form,
    repeated: bool,
}

enum Form {
    Text,
    Hex,
    Base64,
    Bool,
    Varint,
    Int,
    Zigzag,
    Fixed64,
    Signed64,
    Double,
    Temporality,
    Message(&'static Schema),
}

const fn one(name: &'static str, number: u32, form: Form) -> Field {
    Field {
        name,
        number,
        form,
        repeated: false,
    }
}

const fn many(name: &'static str, number: u32, form: Form) -> Field {
    Field {
        name,
        number,
        form,
        repeated: true,
    }
}

static REQUEST: Schema = Schema(&[many("resourceMetrics", 1, Form::Message(&RESOURCE_METRICS))]);
static RESOURCE_METRICS: Schema = Schema(&[
    one("resource", 1, Form::Message(&RESOURCE)),
    many("scopeMetrics", 2, Form::Message(&SCOPE_METRICS)),
    one("schemaUrl", 3, Form::Text),
]);
static RESOURCE: Schema = Schema(&[many("attributes", 1, Form::Message(&KEY_VALUE))]);
static SCOPE_METRICS: Schema = Schema(&[
    one("scope", 1, Form::Message(&SCOPE)),
    many("metrics", 2, Form::Message(&METRIC)),
    one("schemaUrl", 3, Form::Text),
]);
static SCOPE: Schema = Schema(&[
    one("name", 1, Form::Text),
    one("version", 2, Form::Text),
    many("attributes", 3, Form::Message(&KEY_VALUE)),
]);
static METRIC: Schema = Schema(&[
    one("name", 1, Form::Text),
    one("description", 2, Form::Text),
    one("unit", 3, Form::Text),
    one("gauge", 5, Form::Message(&GAUGE)),
    one("sum", 7, Form::Message(&SUM)),
    one("histogram", 9, Form::Message(&HISTOGRAM)),
    one("exponentialHistogram", 10, Form::Message(&EXPONENTIAL)),
    one("summary", 11, Form::Message(&SUMMARY)),
]);
static GAUGE: Schema = Schema(&[many("dataPoints", 1, Form::Message(&NUMBER_POINT))]);
static SUM: Schema = Schema(&[
    many("dataPoints", 1, Form::Message(&NUMBER_POINT)),
    one("aggregationTemporality", 2, Form::Temporality),
    one("isMonotonic", 3, Form::Bool),
]);
static HISTOGRAM: Schema = Schema(&[
    many("dataPoints", 1, Form::Message(&HISTOGRAM_POINT)),
    one("aggregationTemporality", 2, Form::Temporality),
]);
static EXPONENTIAL: Schema = Schema(&[
    many("dataPoints", 1, Form::Message(&EXPONENTIAL_POINT)),
    one("aggregationTemporality", 2, Form::Temporality),
]);
static SUMMARY: Schema = Schema(&[many("dataPoints", 1, Form::Message(&SUMMARY_POINT))]);
static NUMBER_POINT: Schema = Schema(&[
    many("attributes", 7, Form::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Form::Fixed64),
    one("timeUnixNano", 3, Form::Fixed64),
    one("asDouble", 4, Form::Double),
    one("asInt", 6, Form::Signed64),
    many("exemplars", 5, Form::Message(&EXEMPLAR)),
    one("flags", 8, Form::Varint),
]);
static HISTOGRAM_POINT: Schema = Schema(&[
    many("attributes", 9, Form::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Form::Fixed64),
    one("timeUnixNano", 3, Form::Fixed64),
    one("count", 4, Form::Fixed64),
    one("sum", 5, Form::Double),
    many("bucketCounts", 6, Form::Fixed64),
    many("explicitBounds", 7, Form::Double),
    many("exemplars", 8, Form::Message(&EXEMPLAR)),
    one("flags", 10, Form::Varint),
]);
static EXPONENTIAL_POINT: Schema = Schema(&[
    many("attributes", 1, Form::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Form::Fixed64),
    one("timeUnixNano", 3, Form::Fixed64),
    one("count", 4, Form::Fixed64),
    one("sum", 5, Form::Double),
    one("scale", 6, Form::Zigzag),
    one("zeroCount", 7, Form::Fixed64),
    one("positive", 8, Form::Message(&BUCKETS)),
    one("negative", 9, Form::Message(&BUCKETS)),
    one("flags", 10, Form::Varint),
    many("exemplars", 11, Form::Message(&EXEMPLAR)),
    one("zeroThreshold", 14, Form::Double),
]);
static BUCKETS: Schema = Schema(&[one("offset", 1, Form::Zigzag), many("bucketCounts", 2, Form::Varint)]);
static SUMMARY_POINT: Schema = Schema(&[
    many("attributes", 7, Form::Message(&KEY_VALUE)),
    one("startTimeUnixNano", 2, Form::Fixed64),
    one("timeUnixNano", 3, Form::Fixed64),
    one("count", 4, Form::Fixed64),
    one("sum", 5, Form::Double),
    many("quantileValues", 6, Form::Message(&QUANTILE)),
    one("flags", 8, Form::Varint),
]);
static QUANTILE: Schema = Schema(&[one("quantile", 1, Form::Double), one("value", 2, Form::Double)]);
static EXEMPLAR: Schema = Schema(&[
    many("filteredAttributes", 7, Form::Message(&KEY_VALUE)),
    one("timeUnixNano", 2, Form::Fixed64),
    one("asDouble", 3, Form::Double),
    one("asInt", 6, Form::Signed64),
    one("spanId", 4, Form::Hex),
    one("traceId", 5, Form::Hex),
]);
static KEY_VALUE: Schema = Schema(&[one("key", 1, Form::Text), one("value", 2, Form::Message(&ANY_VALUE))]);
static ANY_VALUE: Schema = Schema(&[
    one("stringValue", 1, Form::Text),
    one("boolValue", 2, Form::Bool),
    one("intValue", 3, Form::Int),
    one("doubleValue", 4, Form::Double),
    one("arrayValue", 5, Form::Message(&ARRAY)),
    one("kvlistValue", 6, Form::Message(&KEY_VALUES)),
    one("bytesValue", 7, Form::Base64),
]);
static ARRAY: Schema = Schema(&[many("values", 1, Form::Message(&ANY_VALUE))]);
static KEY_VALUES: Schema = Schema(&[many("values", 1, Form::Message(&KEY_VALUE))]);

/// Bytes that every embedded message's length takes, so that it can be filled in afterwards.
const LENGTH_BYTES: usize = 4;

/// Refusals described one by one; the rest are counted.
const TOLD_MAX: usize = 100;

/// What a body comes to.
#[derive(Default)]
pub(super) struct Transcoded {
    pub message: Vec<u8>,
    pub refused: Refusals,
}

/// Data points, metrics and resources that were left out for a bad value in them.
#[derive(Default)]
pub(super) struct Refusals {
    pub told: Vec<Refusal>,
    /// Data points of those that are not described.
    pub rest: u64,
}

pub(super) struct Refusal {
    pub metric: Option<String>,
    pub why: String,
    pub points: u64,
}

/// Why a value is not taken, and the field that it was meant for.
struct Fault {
    field: Option<&'static str>,
    error: DecodeError,
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        Fault { field: None, error }
    }
}

struct Transcoder<'a> {
    r: Reader<'a>,
    out: Writer,
    refused: Refusals,
}

pub(super) fn request(body: &[u8]) -> Result<Transcoded, DecodeError> {
    let mut t = Transcoder {
        r: Reader::new(body),
        out: Writer::default(),
        refused: Refusals::default(),
    };
    t.message(&REQUEST).map_err(|fault| fault.error)?;
    t.r.end()?;
    Ok(Transcoded {
        message: t.out.out,
        refused: t.refused,
    })
}

/// What is left out as a whole when a value in it is bad: the innermost of these.
fn stands_alone(schema: &'static Schema) -> bool {
    [
        &RESOURCE_METRICS,
        &SCOPE_METRICS,
        &METRIC,
        &NUMBER_POINT,
        &HISTOGRAM_POINT,
        &EXPONENTIAL_POINT,
        &SUMMARY_POINT,
    ]
    .iter()
    .any(|s| std::ptr::eq(*s, schema))
}

/// Data points within one well-formed value.
fn points(r: &mut Reader<'_>) -> Result<u64, DecodeError> {
    let mut count = 0;
    let mut first = true;
    match r.peek()? {
        Kind::Object => {
            r.open(Kind::Object)?;
            while let Some(key) = r.key(first)? {
                first = false;
                if (key == "dataPoints" || key == "data_points") && r.peek()? == Kind::Array {
                    r.open(Kind::Array)?;
                    let mut first = true;
                    while r.element(first)? {
                        first = false;
                        r.skip()?;
                        count += 1;
                    }
                } else {
                    count += points(r)?;
                }
            }
        }
        Kind::Array => {
            r.open(Kind::Array)?;
            while r.element(first)? {
                first = false;
                count += points(r)?;
            }
        }
        _ => r.skip()?,
    }
    Ok(count)
}

impl Transcoder<'_> {
    /// Writes one object. It calls itself for objects within; the reader bounds how deep.
    fn message(&mut self, schema: &'static Schema) -> Result<(), Fault> {
        self.r.open(Kind::Object)?;
        let mut first = true;
        while let Some(key) = self.r.key(first)? {
            first = false;
            let field = schema.0.iter().find(|f| f.name == key || snake_is(&key, f.name));
            let Some(field) = field else {
                self.r.skip()?;
                continue;
            };
            self.field(field).map_err(|fault| Fault {
                field: fault.field.or(Some(field.name)),
                ..fault
            })?;
        }
        Ok(())
    }

    fn field(&mut self, field: &Field) -> Result<(), Fault> {
        if self.r.peek()? == Kind::Null {
            return Ok(self.r.null()?);
        }
        if !field.repeated {
            return self.element(field);
        }
        self.r.open(Kind::Array)?;
        let mut first = true;
        while self.r.element(first)? {
            first = false;
            self.element(field)?;
        }
        Ok(())
    }

    fn element(&mut self, field: &Field) -> Result<(), Fault> {
        match &field.form {
            Form::Message(schema) if stands_alone(schema) => self.alone(field, schema),
            Form::Message(schema) => self.embedded(field, schema),
            _ => Ok(value(&mut self.r, field, &mut self.out)?),
        }
    }

    /// Writes a message that a bad value leaves out alone, as long as the text is JSON.
    fn alone(&mut self, field: &Field, schema: &'static Schema) -> Result<(), Fault> {
        let start = self.r.clone();
        let (written, told, rest) = (self.out.out.len(), self.refused.told.len(), self.refused.rest);
        let done = self.embedded(field, schema);
        if let Err(fault) = done {
            if fault.error.kind != DecodeErrorKind::Malformed {
                return Err(fault);
            }
            self.r = start.clone();
            self.r.skip()?;
            self.out.out.truncate(written);
            self.refused.told.truncate(told);
            self.refused.rest = rest;
            let points = if field.name == "dataPoints" {
                1
            } else {
                points(&mut start.clone())?
            };
            if told < TOLD_MAX {
                let text = fault.error.to_string();
                let text = text.strip_prefix("malformed JSON: ").unwrap_or(&text);
                self.refused.told.push(Refusal {
                    metric: None,
                    why: format!("{}: {text}", fault.field.unwrap_or(field.name)),
                    points,
                });
            } else {
                self.refused.rest += points;
            }
        }
        if std::ptr::eq(schema, &METRIC) && self.refused.told.len() > told {
            let name = name(start)?;
            for refusal in &mut self.refused.told[told..] {
                refusal.metric = Some(name.clone());
            }
        }
        Ok(())
    }

    fn embedded(&mut self, field: &Field, schema: &'static Schema) -> Result<(), Fault> {
        self.out.raw_varint(u64::from(field.number) << 3 | 2);
        let at = self.out.out.len();
        self.out.out.extend_from_slice(&[0; LENGTH_BYTES]);
        self.message(schema)?;
        let out = &mut self.out.out;
        let len = out.len() - at - LENGTH_BYTES;
        if len >> (7 * LENGTH_BYTES) != 0 {
            return Err(DecodeError::too_large("a JSON object of 256 MiB or more").into());
        }
        for i in 0..LENGTH_BYTES {
            let more = if i + 1 < LENGTH_BYTES { 0x80 } else { 0 };
            out[at + i] = (len >> (7 * i)) as u8 & 0x7f | more;
        }
        Ok(())
    }
}

/// The name in a well-formed metric, wherever in it that stands.
fn name(mut r: Reader<'_>) -> Result<String, DecodeError> {
    let mut name = String::new();
    if r.peek()? != Kind::Object {
        return Ok(name);
    }
    r.open(Kind::Object)?;
    let mut first = true;
    while let Some(key) = r.key(first)? {
        first = false;
        if key == "name" && r.peek()? == Kind::String {
            name = shown(r.string()?.as_bytes());
        } else {
            r.skip()?;
        }
    }
    Ok(name)
}

/// Whether `key` is the field's original name (`time_unix_nano` for `timeUnixNano`).
fn snake_is(key: &str, name: &str) -> bool {
    key.contains('_')
        && key.len() <= 64
        && key
            .split('_')
            .enumerate()
            .flat_map(|(i, word)| {
                let mut chars = word.chars();
                let head = chars.next().map(|c| if i > 0 { c.to_ascii_uppercase() } else { c });
                head.into_iter().chain(chars)
            })
            .eq(name.chars())
}

fn value(r: &mut Reader<'_>, field: &Field, out: &mut Writer) -> Result<(), DecodeError> {
    let number = field.number;
    match &field.form {
        Form::Text => out.bytes(number, r.string()?.as_bytes()),
        Form::Bool => out.varint(number, u64::from(r.boolean()?)),
        Form::Hex => {
            let text = r.string()?;
            let digit = |b: u8| char::from(b).to_digit(16).map(|d| d as u8);
            let bytes: Option<Vec<u8>> = text
                .as_bytes()
                .chunks(2)
                .map(|pair| match *pair {
                    [a, b] => Some(digit(a)? << 4 | digit(b)?),
                    _ => None,
                })
                .collect();
            match bytes {
                Some(bytes) => out.bytes(number, &bytes),
                None => return Err(r.error(&format!("{} is no id in hexadecimal digits", field.name))),
            }
        }
        Form::Base64 => match unbase64(&r.string()?) {
            Some(bytes) => out.bytes(number, &bytes),
            None => return Err(r.error(&format!("{} is not base64", field.name))),
        },
        Form::Varint => out.varint(number, integer(r, field, false)?),
        Form::Int => out.varint(number, integer(r, field, true)?),
        Form::Zigzag => match i32::try_from(integer(r, field, true)? as i64) {
            Ok(n) => out.zigzag(number, i64::from(n)),
            Err(_) => return Err(r.error(&format!("{} is no whole number of 32 bits", field.name))),
        },
        Form::Fixed64 => out.fixed64(number, integer(r, field, false)?),
        Form::Signed64 => out.fixed64(number, integer(r, field, true)?),
        Form::Double => {
            let text = match r.peek()? {
                Kind::String => r.string()?,
                _ => r.number()?.into(),
            };
            let n = match &*text {
                "NaN" => Some(f64::NAN),
                "Infinity" => Some(f64::INFINITY),
                "-Infinity" => Some(f64::NEG_INFINITY),
                text => text.parse().ok().filter(|n: &f64| n.is_finite()),
            };
            match n {
                Some(n) => out.double(number, n),
                None => return Err(r.error(&format!("{} is no 64-bit float", field.name))),
            }
        }
        Form::Temporality => {
            let n = match r.peek()? {
                Kind::String => match &*r.string()? {
                    "AGGREGATION_TEMPORALITY_DELTA" => 1,
                    "AGGREGATION_TEMPORALITY_CUMULATIVE" => 2,
                    "AGGREGATION_TEMPORALITY_UNSPECIFIED" => 0,
                    _ => return Err(r.error("an unknown aggregationTemporality")),
                },
                _ => integer(r, field, false)?,
            };
            out.varint(number, n);
        }
        // written by the transcoder, which knows what a bad value in it costs
        Form::Message(_) => {}
    }
    Ok(())
}

/// A whole number of 64 bits as a number or a string; when `signed`, its two's complement.
fn integer(r: &mut Reader<'_>, field: &Field, signed: bool) -> Result<u64, DecodeError> {
    let text = match r.peek()? {
        Kind::String => r.string()?,
        _ => r.number()?.into(),
    };
    let whole = if signed {
        text.parse::<i64>().ok().map(|n| n as u64)
    } else {
        text.parse::<u64>().ok()
    };
    if let Some(n) = whole {
        return Ok(n);
    }
    match text.parse::<f64>() {
        Ok(n) if n.fract() == 0.0 && n.abs() <= 9_007_199_254_740_992.0 && (signed || n >= 0.0) => Ok(n as i64 as u64),
        _ => {
            let right = if signed {
                "a whole number of 64 bits"
            } else {
                "a whole number of 64 bits without sign"
            };
            Err(r.error(&format!("{} is no {right}", field.name)))
        }
    }
}

fn unbase64(text: &str) -> Option<Vec<u8>> {
    let digits = text.trim_end_matches('=');
    if digits.len() % 4 == 1 {
        return None;
    }
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut have) = (0u32, 0);
    for b in digits.bytes() {
        let digit = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(digit);
        have += 6;
        if have >= 8 {
            have -= 8;
            out.push((bits >> have) as u8);
        }
    }
    Some(out)
}
