//! A reader of JSON that walks the text once, builds no tree and knows its depth.
use std::borrow::Cow;

use crate::DecodeError;

/// Arrays and objects within each other at most.
pub const DEPTH_MAX: usize = 128;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    Array,
    String,
    Number,
    Bool,
    Null,
}

/// A position in a JSON text.
#[derive(Clone)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    depth: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader {
            bytes: bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes),
            pos: 0,
            depth: 0,
        }
    }

    pub fn offset(&self) -> usize {
        self.pos
    }

    #[cold]
    pub fn error(&self, what: &str) -> DecodeError {
        DecodeError::malformed(self.pos, format!("malformed JSON: {what}"))
    }

    fn space(&mut self) {
        while matches!(self.bytes.get(self.pos), Some(b' ' | b'\n' | b'\r' | b'\t')) {
            self.pos += 1;
        }
    }

    fn next_byte(&mut self) -> Option<u8> {
        self.space();
        self.bytes.get(self.pos).copied()
    }

    /// Fails unless only white space follows.
    pub fn end(&mut self) -> Result<(), DecodeError> {
        match self.next_byte() {
            None => Ok(()),
            Some(_) => Err(self.error("text after the end of the value")),
        }
    }

    pub fn peek(&mut self) -> Result<Kind, DecodeError> {
        match self.next_byte() {
            Some(b'{') => Ok(Kind::Object),
            Some(b'[') => Ok(Kind::Array),
            Some(b'"') => Ok(Kind::String),
            Some(b'-' | b'0'..=b'9') => Ok(Kind::Number),
            Some(b't' | b'f') => Ok(Kind::Bool),
            Some(b'n') => Ok(Kind::Null),
            Some(_) => Err(self.error("a value is right here")),
            None => Err(self.error("it ends where a value is right")),
        }
    }

    /// Enters an object or array; then call [`key`](Self::key) or [`element`](Self::element) until they end it.
    pub fn open(&mut self, kind: Kind) -> Result<(), DecodeError> {
        let (byte, what) = match kind {
            Kind::Object => (b'{', "an object is right here"),
            _ => (b'[', "an array is right here"),
        };
        if self.next_byte() != Some(byte) {
            return Err(self.error(what));
        }
        if self.depth == DEPTH_MAX {
            return Err(self.error(&format!("nested deeper than {DEPTH_MAX}")));
        }
        self.depth += 1;
        self.pos += 1;
        Ok(())
    }

    /// The next key of an object; `None` closes it. `first` is true for the first call.
    pub fn key(&mut self, first: bool) -> Result<Option<Cow<'a, str>>, DecodeError> {
        if !self.more(first, b'}')? {
            return Ok(None);
        }
        if self.next_byte() != Some(b'"') {
            return Err(self.error("a key in quotes is right here"));
        }
        let key = self.string()?;
        if self.next_byte() != Some(b':') {
            return Err(self.error("a colon is right here"));
        }
        self.pos += 1;
        Ok(Some(key))
    }

    /// Whether another element of an array follows; `false` closes it. `first` is true for the first call.
    pub fn element(&mut self, first: bool) -> Result<bool, DecodeError> {
        self.more(first, b']')
    }

    fn more(&mut self, first: bool, close: u8) -> Result<bool, DecodeError> {
        match self.next_byte() {
            Some(b) if b == close => {
                self.pos += 1;
                self.depth -= 1;
                Ok(false)
            }
            Some(_) if first => Ok(true),
            Some(b',') => {
                self.pos += 1;
                match self.next_byte() {
                    Some(b) if b == close => Err(self.error("a comma before the end")),
                    _ => Ok(true),
                }
            }
            Some(_) => Err(self.error("a comma is right here")),
            None => Err(self.error("it ends within an object or array")),
        }
    }

    /// A string; borrowed from the text unless it has escapes.
    pub fn string(&mut self) -> Result<Cow<'a, str>, DecodeError> {
        if self.next_byte() != Some(b'"') {
            return Err(self.error("a string is right here"));
        }
        self.pos += 1;
        let start = self.pos;
        let mut owned: Option<Vec<u8>> = None;
        let mut from = start;
        loop {
            let rest = &self.bytes[self.pos..];
            let Some(n) = memchr::memchr2(b'"', b'\\', rest) else {
                self.pos = self.bytes.len();
                return Err(self.error("a string that never ends"));
            };
            if let Some(control) = rest[..n].iter().position(|&b| b < 0x20) {
                self.pos += control;
                return Err(self.error("a control character in a string"));
            }
            let stop = self.pos + n;
            if self.bytes[stop] == b'"' {
                self.pos = stop + 1;
                let tail = &self.bytes[from..stop];
                return match owned {
                    None => match std::str::from_utf8(tail) {
                        Ok(text) => Ok(Cow::Borrowed(text)),
                        Err(_) => Err(self.error("a string that is not UTF-8")),
                    },
                    Some(mut text) => {
                        text.extend_from_slice(tail);
                        String::from_utf8(text)
                            .map(Cow::Owned)
                            .map_err(|_| self.error("a string that is not UTF-8"))
                    }
                };
            }
            let text = owned.get_or_insert_with(Vec::new);
            text.extend_from_slice(&self.bytes[from..stop]);
            self.pos = stop + 1;
            let c = self.escape()?;
            let mut buffer = [0; 4];
            owned
                .get_or_insert_with(Vec::new)
                .extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            from = self.pos;
        }
    }

    fn escape(&mut self) -> Result<char, DecodeError> {
        let c = match self.bytes.get(self.pos) {
            Some(b'n') => '\n',
            Some(b't') => '\t',
            Some(b'r') => '\r',
            Some(b'b') => '\u{8}',
            Some(b'f') => '\u{c}',
            Some(&b @ (b'"' | b'\\' | b'/')) => char::from(b),
            Some(b'u') => {
                self.pos += 1;
                let high = self.hex4()?;
                if !(0xd800..0xe000).contains(&high) {
                    return char::from_u32(high).ok_or_else(|| self.error("an unknown escape"));
                }
                if self.bytes[self.pos..].starts_with(b"\\u") && high < 0xdc00 {
                    self.pos += 2;
                    let low = self.hex4()?;
                    if (0xdc00..0xe000).contains(&low) {
                        let point = 0x10000 + ((high - 0xd800) << 10) + (low - 0xdc00);
                        return char::from_u32(point).ok_or_else(|| self.error("an unknown escape"));
                    }
                }
                return Err(self.error("half of a surrogate pair"));
            }
            _ => return Err(self.error("an unknown escape")),
        };
        self.pos += 1;
        Ok(c)
    }

    fn hex4(&mut self) -> Result<u32, DecodeError> {
        let mut n = 0;
        for _ in 0..4 {
            let digit = self.bytes.get(self.pos).and_then(|&b| char::from(b).to_digit(16));
            let Some(digit) = digit else {
                return Err(self.error("four hexadecimal digits are right here"));
            };
            n = n << 4 | digit;
            self.pos += 1;
        }
        Ok(n)
    }

    /// A number as it is written.
    pub fn number(&mut self) -> Result<&'a str, DecodeError> {
        self.space();
        let start = self.pos;
        let digits = |r: &mut Self| {
            let from = r.pos;
            while r.bytes.get(r.pos).is_some_and(u8::is_ascii_digit) {
                r.pos += 1;
            }
            r.pos - from
        };
        if self.bytes.get(self.pos) == Some(&b'-') {
            self.pos += 1;
        }
        let whole = self.pos;
        let n = digits(self);
        if n == 0 || n > 1 && self.bytes[whole] == b'0' {
            return Err(self.error("a number is right here"));
        }
        if self.bytes.get(self.pos) == Some(&b'.') {
            self.pos += 1;
            if digits(self) == 0 {
                return Err(self.error("a digit is right after the point"));
            }
        }
        if matches!(self.bytes.get(self.pos), Some(b'e' | b'E')) {
            self.pos += 1;
            if matches!(self.bytes.get(self.pos), Some(b'+' | b'-')) {
                self.pos += 1;
            }
            if digits(self) == 0 {
                return Err(self.error("a digit is right in the exponent"));
            }
        }
        std::str::from_utf8(&self.bytes[start..self.pos]).map_err(|_| self.error("a number is right here"))
    }

    pub fn boolean(&mut self) -> Result<bool, DecodeError> {
        self.space();
        for (word, value) in [("true", true), ("false", false)] {
            if self.bytes[self.pos..].starts_with(word.as_bytes()) {
                self.pos += word.len();
                return Ok(value);
            }
        }
        Err(self.error("true or false is right here"))
    }

    pub fn null(&mut self) -> Result<(), DecodeError> {
        self.space();
        if self.bytes[self.pos..].starts_with(b"null") {
            self.pos += 4;
            return Ok(());
        }
        Err(self.error("null is right here"))
    }

    /// Passes over one value of any kind, checking it on the way.
    pub fn skip(&mut self) -> Result<(), DecodeError> {
        let outer = self.depth;
        // true: object
        let mut open = [false; DEPTH_MAX + 1];
        let mut first = true;
        loop {
            if self.depth > outer {
                let object = open[self.depth];
                let more = if object {
                    self.key(first)?.is_some()
                } else {
                    self.element(first)?
                };
                first = false;
                if !more {
                    if self.depth == outer {
                        return Ok(());
                    }
                    continue;
                }
            }
            match self.peek()? {
                kind @ (Kind::Object | Kind::Array) => {
                    self.open(kind)?;
                    open[self.depth] = kind == Kind::Object;
                    first = true;
                }
                Kind::String => drop(self.string()?),
                Kind::Number => drop(self.number()?),
                Kind::Bool => drop(self.boolean()?),
                Kind::Null => self.null()?,
            }
            if self.depth == outer {
                return Ok(());
            }
        }
    }
}

/// Appends `text` as a JSON string, quotes included.
pub fn push_string(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c < ' ' => out.extend_from_slice(format!("\\u{:04x}", c as u32).as_bytes()),
            c => {
                let mut buffer = [0; 4];
                out.extend_from_slice(c.encode_utf8(&mut buffer).as_bytes());
            }
        }
    }
    out.push(b'"');
}

#[cfg(test)]
mod tests;
