use crate::DecodeError;
use crate::json::push_string;
use crate::proto::{Reader, Wire};

/// Values within values at most.
pub(super) const DEPTH_MAX: usize = 32;

/// An attribute: key, and its value's message when it has one.
pub(super) fn key_value(mut r: Reader<'_>) -> Result<(&[u8], Option<Reader<'_>>), DecodeError> {
    let (mut key, mut value) = (&b""[..], None);
    while let Some(tag) = r.tag()? {
        match tag.field {
            1 => {
                r.expect(tag, Wire::Bytes, "key of an attribute")?;
                key = r.bytes()?;
            }
            2 => {
                r.expect(tag, Wire::Bytes, "value of an attribute")?;
                value = Some(r.nested()?);
            }
            _ => r.skip(tag)?,
        }
    }
    Ok((key, value))
}

/// Appends an attribute's value as text: strings as they are, arrays and maps as JSON, bytes as base64.
pub(super) fn text(value: Reader<'_>, out: &mut Vec<u8>) -> Result<(), DecodeError> {
    append(value, out, 0)
}

fn append(mut r: Reader<'_>, out: &mut Vec<u8>, depth: usize) -> Result<(), DecodeError> {
    if depth > DEPTH_MAX {
        return Err(r.error(&format!("an attribute nested deeper than {DEPTH_MAX}")));
    }
    let (start, nested) = (out.len(), depth > 0);
    while let Some(tag) = r.tag()? {
        if !(1..=7).contains(&tag.field) {
            r.skip(tag)?;
            continue;
        }
        // one of them is meant: the last
        out.truncate(start);
        match tag.field {
            1 => {
                r.expect(tag, Wire::Bytes, "string_value")?;
                let bytes = r.bytes()?;
                if nested {
                    push_string(out, &String::from_utf8_lossy(bytes));
                } else {
                    out.extend_from_slice(bytes);
                }
            }
            2 => {
                r.expect(tag, Wire::Varint, "bool_value")?;
                out.extend_from_slice(if r.varint()? == 0 { b"false" } else { b"true" });
            }
            3 => {
                r.expect(tag, Wire::Varint, "int_value")?;
                out.extend_from_slice((r.varint()? as i64).to_string().as_bytes());
            }
            4 => {
                r.expect(tag, Wire::Fixed64, "double_value")?;
                out.extend_from_slice(float(r.double()?).as_bytes());
            }
            5 => {
                r.expect(tag, Wire::Bytes, "array_value")?;
                let mut values = r.nested()?;
                out.push(b'[');
                let mut first = true;
                while let Some(tag) = values.tag()? {
                    if tag.field != 1 {
                        values.skip(tag)?;
                        continue;
                    }
                    values.expect(tag, Wire::Bytes, "values of an array")?;
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    let before = out.len();
                    append(values.nested()?, out, depth + 1)?;
                    if out.len() == before {
                        out.extend_from_slice(b"null");
                    }
                }
                out.push(b']');
            }
            6 => {
                r.expect(tag, Wire::Bytes, "kvlist_value")?;
                let mut values = r.nested()?;
                out.push(b'{');
                let mut first = true;
                while let Some(tag) = values.tag()? {
                    if tag.field != 1 {
                        values.skip(tag)?;
                        continue;
                    }
                    values.expect(tag, Wire::Bytes, "values of a map")?;
                    if !std::mem::take(&mut first) {
                        out.push(b',');
                    }
                    let (key, value) = key_value(values.nested()?)?;
                    push_string(out, &String::from_utf8_lossy(key));
                    out.push(b':');
                    let before = out.len();
                    if let Some(value) = value {
                        append(value, out, depth + 1)?;
                    }
                    if out.len() == before {
                        out.extend_from_slice(b"null");
                    }
                }
                out.push(b'}');
            }
            _ => {
                r.expect(tag, Wire::Bytes, "bytes_value")?;
                let bytes = r.bytes()?;
                if nested {
                    out.push(b'"');
                }
                base64(bytes, out);
                if nested {
                    out.push(b'"');
                }
            }
        }
    }
    Ok(())
}

/// As JSON writes floats: no exponent between 1e-6 and 1e21.
fn float(n: f64) -> String {
    let size = n.abs();
    if n.is_nan() {
        "NaN".to_owned()
    } else if n.is_infinite() {
        if n > 0.0 { "+Inf" } else { "-Inf" }.to_owned()
    } else if size != 0.0 && !(1e-6..1e21).contains(&size) {
        let text = format!("{n:e}");
        match text.split_once('e') {
            Some((mantissa, exponent)) if !exponent.starts_with('-') => format!("{mantissa}e+{exponent}"),
            _ => text,
        }
    } else {
        n.to_string()
    }
}

fn base64(bytes: &[u8], out: &mut Vec<u8>) {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i <= chunk.len() {
                out.push(DIGITS[(bits >> (18 - 6 * i) & 63) as usize]);
            } else {
                out.push(b'=');
            }
        }
    }
}
