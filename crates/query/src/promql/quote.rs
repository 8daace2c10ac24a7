use std::fmt::Write as _;

/// A string in double quotes with Go's escapes (`strconv.Quote`), as Prometheus prints names, values and errors.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        escape(&mut out, c, '"');
    }
    out.push('"');
    out
}

/// Where bytes of a string that are no UTF-8 are kept: byte `b` as the character `RAW_BYTES + b`, in a private area that
/// no input uses. [`quote`] shows them as `\xff`.
const RAW_BYTES: u32 = 0x10_ff00;

/// Text of bytes; those that are no UTF-8 are kept apart. Only string literals with escapes have any.
pub(crate) fn text_of_bytes(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|e| {
        let mut out = String::new();
        for chunk in e.as_bytes().utf8_chunks() {
            out.push_str(chunk.valid());
            let raw = chunk.invalid().iter();
            out.extend(raw.filter_map(|&b| char::from_u32(RAW_BYTES + u32::from(b))));
        }
        out
    })
}

/// Whether a string literal's text is UTF-8 as it was written: a label's name or value must be.
pub fn is_utf8(text: &str) -> bool {
    !text.chars().any(is_raw_byte)
}

fn is_raw_byte(c: char) -> bool {
    c as u32 >= RAW_BYTES + 0x80
}

/// A character in single quotes with Go's escapes (`strconv.QuoteRune`).
pub(crate) fn quote_char(c: char) -> String {
    let mut out = String::from("'");
    escape(&mut out, c, '\'');
    out.push('\'');
    out
}

fn escape(out: &mut String, c: char, quote: char) {
    match c {
        '\\' => out.push_str("\\\\"),
        c if c == quote => {
            out.push('\\');
            out.push(c);
        }
        '\u{7}' => out.push_str("\\a"),
        '\u{8}' => out.push_str("\\b"),
        '\u{c}' => out.push_str("\\f"),
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        '\u{b}' => out.push_str("\\v"),
        ' '..='~' => out.push(c),
        // writing to a String cannot fail
        c if is_raw_byte(c) => drop(write!(out, "\\x{:02x}", c as u32 - RAW_BYTES)),
        '\0'..='\x1f' | '\x7f' => drop(write!(out, "\\x{:02x}", c as u32)),
        c if printable(c) => out.push(c),
        c if (c as u32) < 0x10000 => drop(write!(out, "\\u{:04x}", c as u32)),
        c => drop(write!(out, "\\U{:08x}", c as u32)),
    }
}

/// Whether Go prints a character beyond ASCII as itself: letters, marks, numbers, punctuation and symbols. The standard
/// library knows them too; it escapes marks only at the start of a string, so another character goes first.
fn printable(c: char) -> bool {
    let mut bytes = [b'a'; 5];
    let end = 1 + c.encode_utf8(&mut bytes[1..]).len();
    std::str::from_utf8(&bytes[..end]).is_ok_and(|text| text.escape_debug().nth(1) == Some(c))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_go() {
        assert_eq!(
            quote("a\"b\\c\n\t\u{7}\u{1}é☺\u{2028}\u{10fe00}\u{10ffff}"),
            r#""a\"b\\c\n\t\a\x01é☺\u2028\U0010fe00\xff""#
        );
        assert_eq!(
            quote("e\u{301}\u{301}\u{a0}\u{200b}"),
            "\"e\u{301}\u{301}\\u00a0\\u200b\""
        );
        assert_eq!(quote_char('\''), r"'\''");
        assert_eq!(quote_char('"'), "'\"'");
    }
}
