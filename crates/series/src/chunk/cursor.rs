//! Reading and writing of the small parts all byte forms here are made of.

use super::ChunkError;

/// What is left of some bytes.
#[derive(Clone, Copy)]
pub(crate) struct Cursor<'a> {
    pub(crate) rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    pub(crate) fn new(rest: &'a [u8]) -> Self {
        Cursor { rest }
    }

    #[inline]
    pub(crate) fn u8(&mut self) -> Result<u8, ChunkError> {
        let (&b, rest) = self.rest.split_first().ok_or(ChunkError::Short)?;
        self.rest = rest;
        Ok(b)
    }

    pub(crate) fn take(&mut self, n: usize) -> Result<&'a [u8], ChunkError> {
        let (head, rest) = self.rest.split_at_checked(n).ok_or(ChunkError::Short)?;
        self.rest = rest;
        Ok(head)
    }

    pub(crate) fn u64(&mut self) -> Result<u64, ChunkError> {
        let b: [u8; 8] = self.take(8)?.try_into().map_err(|_| ChunkError::Short)?;
        Ok(u64::from_le_bytes(b))
    }

    #[inline]
    pub(crate) fn varint(&mut self) -> Result<u64, ChunkError> {
        let (&b, rest) = self.rest.split_first().ok_or(ChunkError::Short)?;
        self.rest = rest;
        if b < 0x80 {
            return Ok(u64::from(b));
        }
        let (mut n, mut shift) = (u64::from(b & 0x7f), 7);
        loop {
            let b = self.u8()?;
            n |= u64::from(b & 0x7f) << shift;
            if b < 0x80 {
                return Ok(n);
            }
            shift += 7;
            if shift > 63 {
                return Err(ChunkError::Field {
                    field: "varint",
                    value: n,
                });
            }
        }
    }

    /// A varint that must not be above `max`.
    #[inline]
    pub(crate) fn bounded(&mut self, field: &'static str, max: usize) -> Result<usize, ChunkError> {
        match self.varint()? {
            n if n <= max as u64 => Ok(n as usize),
            value => Err(ChunkError::Field { field, value }),
        }
    }

    #[inline]
    pub(crate) fn zigzag(&mut self) -> Result<i64, ChunkError> {
        Ok(unzigzag(self.varint()?))
    }

    pub(crate) fn text(&mut self, field: &'static str, max: usize) -> Result<&'a str, ChunkError> {
        let n = self.bounded(field, max)?;
        std::str::from_utf8(self.take(n)?).map_err(|_| ChunkError::Field { field, value: n as u64 })
    }
}

#[inline]
pub(crate) fn zigzag(n: i64) -> u64 {
    ((n << 1) ^ (n >> 63)) as u64
}

#[inline]
pub(crate) fn unzigzag(n: u64) -> i64 {
    (n >> 1) as i64 ^ -((n & 1) as i64)
}

#[inline]
pub(crate) fn put_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

#[inline]
pub(crate) fn put_zigzag(out: &mut Vec<u8>, n: i64) {
    put_varint(out, zigzag(n));
}

pub(crate) fn put_text(out: &mut Vec<u8>, text: &str) {
    put_varint(out, text.len() as u64);
    out.extend_from_slice(text.as_bytes());
}

/// Bytes a varint takes.
pub(crate) fn varint_len(n: u64) -> usize {
    (70 - (n | 1).leading_zeros() as usize) / 7
}
