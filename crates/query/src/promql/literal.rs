use super::quote::text_of_bytes;

/// The value of a number as Go's `strconv` reads it: integers with any base prefix (a leading 0 is octal) or floats,
/// `_` between digits. The error text is Go's.
pub(crate) fn number(text: &str) -> Result<f64, String> {
    if let Some(value) = integer(text) {
        return Ok(value as f64);
    }
    let failed = |what: &str| Err(format!("strconv.ParseFloat: parsing {}: {what}", super::quote(text)));
    match text.to_ascii_lowercase().as_str() {
        "inf" => return Ok(f64::INFINITY),
        "nan" => return Ok(f64::NAN),
        _ => {}
    }
    if !underscores_ok(text) || text.starts_with("0x") || text.starts_with("0X") {
        return failed("invalid syntax");
    }
    match text.replace('_', "").parse::<f64>() {
        Ok(v) if v.is_finite() => Ok(v),
        Ok(_) => failed("value out of range"),
        Err(_) => failed("invalid syntax"),
    }
}

fn integer(text: &str) -> Option<i64> {
    if !underscores_ok(text) {
        return None;
    }
    let plain = text.replace('_', "");
    let lower = plain.to_ascii_lowercase();
    if let Some(hex) = lower.strip_prefix("0x") {
        return i64::from_str_radix(hex, 16).ok();
    }
    if !lower.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    match lower.strip_prefix('0') {
        Some(octal) if !octal.is_empty() => i64::from_str_radix(octal, 8).ok(),
        _ => lower.parse().ok(),
    }
}

/// Underscores stand between digits, or between a base prefix and a digit.
fn underscores_ok(text: &str) -> bool {
    if !text.contains('_') {
        return true;
    }
    let lower = text.to_ascii_lowercase();
    let (hex, rest) = match lower.strip_prefix("0x") {
        Some(rest) => (true, rest),
        None => (false, lower.as_str()),
    };
    let is_digit = |b: u8| if hex { b.is_ascii_hexdigit() } else { b.is_ascii_digit() };
    let bytes = rest.as_bytes();
    bytes.iter().enumerate().all(|(i, &b)| {
        let before = if i == 0 { hex } else { is_digit(bytes[i - 1]) };
        b != b'_' || (before && bytes.get(i + 1).is_some_and(|&b| is_digit(b)))
    })
}

/// What a quoted string means; the lexer has checked it. Escaped bytes that are no UTF-8 are kept apart
/// ([`is_utf8`](super::is_utf8)).
pub(crate) fn unquote(text: &str) -> String {
    let inside = text.get(1..text.len().saturating_sub(1)).unwrap_or_default();
    if text.starts_with('`') || !inside.contains('\\') {
        return inside.to_owned();
    }
    let mut out = Vec::with_capacity(inside.len());
    let mut chars = inside.chars().peekable();
    while let Some(c) = chars.next() {
        if c != '\\' {
            push_char(&mut out, c);
            continue;
        }
        // octal and \x give bytes, \u and \U give characters
        let (digits, base, byte) = match chars.peek() {
            Some('0'..='7') => (3, 8, true),
            Some('x') => (2, 16, true),
            Some('u') => (4, 16, false),
            Some('U') => (8, 16, false),
            _ => {
                push_char(&mut out, simple_escape(chars.next().unwrap_or_default()));
                continue;
            }
        };
        if base == 16 {
            chars.next();
        }
        let digits = chars.by_ref().take(digits);
        let code = digits.fold(0u32, |v, c| {
            v.wrapping_mul(base).wrapping_add(c.to_digit(base).unwrap_or(0))
        });
        match u8::try_from(code) {
            Ok(code) if byte => out.push(code),
            _ => push_char(&mut out, char::from_u32(code).unwrap_or(char::REPLACEMENT_CHARACTER)),
        }
    }
    text_of_bytes(out)
}

fn push_char(out: &mut Vec<u8>, c: char) {
    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
}

fn simple_escape(c: char) -> char {
    match c {
        'a' => '\u{7}',
        'b' => '\u{8}',
        'f' => '\u{c}',
        'n' => '\n',
        'r' => '\r',
        't' => '\t',
        'v' => '\u{b}',
        c => c,
    }
}

/// A float without exponent and with six decimals, as Go's `%f`.
pub(crate) fn fixed6(value: f64) -> String {
    if value.is_finite() {
        format!("{value:.6}")
    } else {
        decimal(value)
    }
}

/// A float without exponent and as short as it reads back, as Go's `FormatFloat(v, 'f', -1, 64)`.
pub fn decimal(value: f64) -> String {
    if value.is_nan() {
        "NaN".into()
    } else if value.is_infinite() {
        if value > 0.0 { "+Inf" } else { "-Inf" }.into()
    } else {
        value.to_string()
    }
}

/// The decimal exponent from which `%g` prints one.
const GENERAL_EXPONENT: i32 = 6;

/// A float as Go's `%g` and `%v` print it: the shortest digits, with an exponent below 1e-4 and from 1e6 on.
pub fn general(value: f64) -> String {
    if !value.is_finite() || value == 0.0 {
        return decimal(value);
    }
    let scientific = format!("{value:e}");
    let (mantissa, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    if (-4..GENERAL_EXPONENT).contains(&exponent) {
        return decimal(value);
    }
    let sign = if exponent < 0 { '-' } else { '+' };
    format!("{mantissa}e{sign}{:02}", exponent.unsigned_abs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_like_go() {
        for (text, value) in [
            ("010", 8.0),
            ("08", 8.0),
            ("0x1F", 31.0),
            ("0X_1f", 31.0),
            ("1_000", 1000.0),
            (".5", 0.5),
            ("5.", 5.0),
            ("1e3", 1000.0),
            ("iNf", f64::INFINITY),
            ("9223372036854775808", 9223372036854775808.0),
            ("4.9e-324", 4.9e-324),
        ] {
            assert_eq!(number(text), Ok(value), "{text}");
        }
        assert_eq!(
            number("1e999"),
            Err("strconv.ParseFloat: parsing \"1e999\": value out of range".into())
        );
        assert_eq!(
            number("0x"),
            Err("strconv.ParseFloat: parsing \"0x\": invalid syntax".into())
        );
    }

    #[test]
    fn strings() {
        assert_eq!(unquote(r#""a\n\\\"\x41\101\u00e9\U0001F600""#), "a\n\\\"AAé😀");
        assert_eq!(unquote(r#""\xc3\xa9\xff""#), "é\u{10ffff}");
        assert!(!super::super::is_utf8(&unquote(r#""\xff""#)));
        assert_eq!(unquote(r"`a\n`"), r"a\n");
        assert_eq!(unquote(r"'\''"), "'");
    }

    #[test]
    fn floats() {
        assert_eq!(general(1e21), "1e+21");
        assert_eq!(general(123456789.0), "1.23456789e+08");
        assert_eq!(general(-123456.5), "-123456.5");
        assert_eq!(general(0.00001), "1e-05");
        assert_eq!(decimal(1e21), "1000000000000000000000");
        assert_eq!(fixed6(f64::INFINITY), "+Inf");
    }
}
