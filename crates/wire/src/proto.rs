//! A reader of protocol buffers that takes nothing and copies nothing: it walks a message field by field.
use crate::DecodeError;

/// Groups (deprecated, but skippable) within groups at most.
const GROUP_DEPTH_MAX: usize = 32;

/// Wire type of a field.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wire {
    Varint,
    Fixed64,
    Bytes,
    GroupStart,
    GroupEnd,
    Fixed32,
}

/// A field's number and wire type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tag {
    pub field: u32,
    pub wire: Wire,
}

/// A position in one message, which is a part of a whole body.
#[derive(Clone, Copy, Debug)]
pub struct Reader<'a> {
    bytes: &'a [u8],
    pos: usize,
    /// Where `bytes` starts in the body, for error texts.
    base: usize,
}

impl<'a> Reader<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Reader { bytes, pos: 0, base: 0 }
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.pos >= self.bytes.len()
    }

    /// Offset in the body of the next byte.
    #[inline]
    pub fn offset(&self) -> usize {
        self.base + self.pos
    }

    /// The whole message this reader walks.
    #[inline]
    pub fn message(&self) -> &'a [u8] {
        self.bytes
    }

    /// Bytes of this message consumed so far.
    #[inline]
    pub fn position(&self) -> usize {
        self.pos
    }

    /// Passes over bytes that are known to be whole fields.
    #[inline]
    pub(crate) fn advance(&mut self, bytes: usize) {
        self.pos += bytes;
    }

    #[cold]
    pub fn error(&self, what: &str) -> DecodeError {
        DecodeError::malformed(self.offset(), format!("malformed protobuf: {what}"))
    }

    #[inline]
    pub fn varint(&mut self) -> Result<u64, DecodeError> {
        match self.bytes.get(self.pos) {
            Some(&b) if b < 0x80 => {
                self.pos += 1;
                Ok(u64::from(b))
            }
            _ => self.varint_long(),
        }
    }

    fn varint_long(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        for (i, &b) in self.bytes[self.pos..].iter().take(10).enumerate() {
            if i == 9 && b > 1 {
                return Err(self.error("a number longer than 64 bits"));
            }
            value |= u64::from(b & 0x7f) << (7 * i);
            if b < 0x80 {
                self.pos += i + 1;
                return Ok(value);
            }
        }
        Err(self.error("a number that ends beyond its message"))
    }

    /// The next field's tag; `None` at the end of the message.
    #[inline]
    pub fn tag(&mut self) -> Result<Option<Tag>, DecodeError> {
        if self.is_empty() {
            return Ok(None);
        }
        let raw = self.varint()?;
        let wire = match raw & 7 {
            0 => Wire::Varint,
            1 => Wire::Fixed64,
            2 => Wire::Bytes,
            3 => Wire::GroupStart,
            4 => Wire::GroupEnd,
            5 => Wire::Fixed32,
            _ => return Err(self.error("an unknown wire type")),
        };
        let field = raw >> 3;
        if field == 0 || field > 0x1fff_ffff {
            return Err(self.error("a field number out of range"));
        }
        Ok(Some(Tag {
            field: field as u32,
            wire,
        }))
    }

    #[inline]
    pub fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let len = self.varint()?;
        let rest = &self.bytes[self.pos..];
        if len > rest.len() as u64 {
            return Err(self.error("a length that reaches beyond its message"));
        }
        self.pos += len as usize;
        Ok(&rest[..len as usize])
    }

    /// The embedded message that comes next.
    #[inline]
    pub fn nested(&mut self) -> Result<Reader<'a>, DecodeError> {
        let bytes = self.bytes()?;
        Ok(Reader {
            bytes,
            pos: 0,
            base: self.offset() - bytes.len(),
        })
    }

    #[inline]
    pub fn fixed64(&mut self) -> Result<u64, DecodeError> {
        match self.bytes[self.pos..].first_chunk::<8>() {
            Some(b) => {
                self.pos += 8;
                Ok(u64::from_le_bytes(*b))
            }
            None => Err(self.error("a fixed 64-bit number that ends beyond its message")),
        }
    }

    #[inline]
    pub fn fixed32(&mut self) -> Result<u32, DecodeError> {
        match self.bytes[self.pos..].first_chunk::<4>() {
            Some(b) => {
                self.pos += 4;
                Ok(u32::from_le_bytes(*b))
            }
            None => Err(self.error("a fixed 32-bit number that ends beyond its message")),
        }
    }

    #[inline]
    pub fn double(&mut self) -> Result<f64, DecodeError> {
        self.fixed64().map(f64::from_bits)
    }

    /// A zigzag-coded number (`sint32`, `sint64`).
    #[inline]
    pub fn zigzag(&mut self) -> Result<i64, DecodeError> {
        self.varint().map(unzigzag)
    }

    /// Passes over a field whose tag was read.
    pub fn skip(&mut self, tag: Tag) -> Result<(), DecodeError> {
        match tag.wire {
            Wire::Varint => self.varint().map(drop),
            Wire::Fixed64 => self.fixed64().map(drop),
            Wire::Fixed32 => self.fixed32().map(drop),
            Wire::Bytes => self.bytes().map(drop),
            Wire::GroupEnd => Err(self.error("the end of a group that never began")),
            Wire::GroupStart => self.skip_group(tag.field),
        }
    }

    fn skip_group(&mut self, field: u32) -> Result<(), DecodeError> {
        let mut open = [0u32; GROUP_DEPTH_MAX];
        open[0] = field;
        let mut depth = 1;
        while depth > 0 {
            let Some(tag) = self.tag()? else {
                return Err(self.error("a group that never ends"));
            };
            match tag.wire {
                Wire::GroupStart if depth == GROUP_DEPTH_MAX => return Err(self.error("groups nested too deep")),
                Wire::GroupStart => {
                    open[depth] = tag.field;
                    depth += 1;
                }
                Wire::GroupEnd if open[depth - 1] != tag.field => return Err(self.error("groups that cross")),
                Wire::GroupEnd => depth -= 1,
                _ => self.skip(tag)?,
            }
        }
        Ok(())
    }

    /// Fails when a known field comes with another wire type than its own.
    #[inline]
    pub fn expect(&self, tag: Tag, wire: Wire, what: &str) -> Result<(), DecodeError> {
        if tag.wire == wire {
            return Ok(());
        }
        Err(self.error(&format!("{what} has the wire type {:?}, not {wire:?}", tag.wire)))
    }

    /// Elements of a repeated number, packed or one by one; `read` reads one of wire type `one`.
    pub fn repeated<T>(
        &mut self,
        tag: Tag,
        one: Wire,
        what: &str,
        mut read: impl FnMut(&mut Reader<'a>) -> Result<T, DecodeError>,
        mut take: impl FnMut(T),
    ) -> Result<(), DecodeError> {
        if tag.wire == Wire::Bytes && one != Wire::Bytes {
            let mut packed = self.nested()?;
            while !packed.is_empty() {
                take(read(&mut packed)?);
            }
            return Ok(());
        }
        self.expect(tag, one, what)?;
        take(read(self)?);
        Ok(())
    }
}

#[inline]
pub fn unzigzag(n: u64) -> i64 {
    ((n >> 1) as i64) ^ -((n & 1) as i64)
}

/// Appends fields to a message; for answers, tests and the JSON form of OTLP.
#[derive(Default)]
pub struct Writer {
    pub out: Vec<u8>,
}

impl Writer {
    pub fn raw_varint(&mut self, mut n: u64) {
        while n >= 0x80 {
            self.out.push(n as u8 | 0x80);
            n >>= 7;
        }
        self.out.push(n as u8);
    }

    fn key(&mut self, field: u32, wire: u8) {
        self.raw_varint(u64::from(field) << 3 | u64::from(wire));
    }

    pub fn varint(&mut self, field: u32, n: u64) {
        self.key(field, 0);
        self.raw_varint(n);
    }

    pub fn zigzag(&mut self, field: u32, n: i64) {
        self.varint(field, ((n << 1) ^ (n >> 63)) as u64);
    }

    pub fn fixed64(&mut self, field: u32, n: u64) {
        self.key(field, 1);
        self.out.extend_from_slice(&n.to_le_bytes());
    }

    pub fn fixed32(&mut self, field: u32, n: u32) {
        self.key(field, 5);
        self.out.extend_from_slice(&n.to_le_bytes());
    }

    pub fn double(&mut self, field: u32, n: f64) {
        self.fixed64(field, n.to_bits());
    }

    pub fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.bytes_head(field, bytes.len());
        self.out.extend_from_slice(bytes);
    }

    /// What stands before `len` bytes that the caller writes next.
    pub fn bytes_head(&mut self, field: u32, len: usize) {
        self.key(field, 2);
        self.raw_varint(len as u64);
    }

    /// An embedded message written by `fill`.
    pub fn message(&mut self, field: u32, fill: impl FnOnce(&mut Writer)) {
        let mut inner = Writer::default();
        fill(&mut inner);
        self.bytes(field, &inner.out);
    }
}

#[cfg(test)]
mod tests;
