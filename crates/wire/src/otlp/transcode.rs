//! The JSON form of OTLP, written out as protobuf.
use crate::DecodeError;
use crate::json::{Kind, Reader};
use crate::proto::Writer;

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

pub(super) fn request(body: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let mut reader = Reader::new(body);
    let mut out = Writer::default();
    message(&mut reader, &REQUEST, &mut out)?;
    reader.end()?;
    Ok(out.out)
}

/// Writes one object. It calls itself for objects within; the reader bounds how deep.
fn message(r: &mut Reader<'_>, schema: &'static Schema, out: &mut Writer) -> Result<(), DecodeError> {
    r.open(Kind::Object)?;
    let mut first = true;
    while let Some(key) = r.key(first)? {
        first = false;
        let field = schema.0.iter().find(|f| f.name == key || snake_is(&key, f.name));
        match field {
            None => r.skip()?,
            Some(_) if r.peek()? == Kind::Null => r.null()?,
            Some(field) if field.repeated => {
                r.open(Kind::Array)?;
                let mut first = true;
                while r.element(first)? {
                    first = false;
                    value(r, field, out)?;
                }
            }
            Some(field) => value(r, field, out)?,
        }
    }
    Ok(())
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
        Form::Zigzag => out.zigzag(number, integer(r, field, true)? as i64),
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
        Form::Message(schema) => {
            out.raw_varint(u64::from(number) << 3 | 2);
            let at = out.out.len();
            out.out.extend_from_slice(&[0; LENGTH_BYTES]);
            message(r, schema, out)?;
            let len = out.out.len() - at - LENGTH_BYTES;
            if len >> (7 * LENGTH_BYTES) != 0 {
                return Err(DecodeError::too_large("a JSON object of 256 MiB or more"));
            }
            for i in 0..LENGTH_BYTES {
                let more = if i + 1 < LENGTH_BYTES { 0x80 } else { 0 };
                out.out[at + i] = (len >> (7 * i)) as u8 & 0x7f | more;
            }
        }
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
    let mut out = Vec::with_capacity(text.len() / 4 * 3 + 3);
    let (mut bits, mut have) = (0u32, 0);
    for b in text.trim_end_matches('=').bytes() {
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
