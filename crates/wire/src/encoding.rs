use std::io::{ErrorKind, Read};

use crate::{DecodeError, DecodeErrorKind};

/// How a body is compressed (HTTP `Content-Encoding`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Encoding {
    Identity,
    /// Snappy block format, as remote write uses it.
    Snappy,
    Gzip,
    /// zlib, as HTTP calls `deflate`.
    Deflate,
    Zstd,
}

impl Encoding {
    pub const ALL: [Encoding; 5] = [
        Encoding::Identity,
        Encoding::Snappy,
        Encoding::Gzip,
        Encoding::Deflate,
        Encoding::Zstd,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Encoding::Identity => "identity",
            Encoding::Snappy => "snappy",
            Encoding::Gzip => "gzip",
            Encoding::Deflate => "deflate",
            Encoding::Zstd => "zstd",
        }
    }

    /// From a header's value; an empty one is `Identity`.
    pub fn parse(header: &str) -> Result<Encoding, DecodeError> {
        let name = header.trim();
        match name {
            "" => return Ok(Encoding::Identity),
            name if name.eq_ignore_ascii_case("x-gzip") => return Ok(Encoding::Gzip),
            _ => {}
        }
        Encoding::ALL
            .into_iter()
            .find(|e| e.as_str().eq_ignore_ascii_case(name))
            .ok_or_else(|| {
                DecodeError::unsupported(format!(
                    "Content-Encoding {:?} is not known: identity, snappy, gzip, deflate or zstd is right",
                    crate::error::shown(name.as_bytes())
                ))
            })
    }
}

/// A snappy copy element of three bytes yields 64 at most.
const SNAPPY_RATIO_MAX: usize = 22;
/// Largest zstd window taken (8 MiB, what RFC 8878 asks of every decoder).
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
const STEP_BYTES: usize = 64 << 10;

/// The plain bytes of a body, in `buffer` (kept by the caller and reused, its content is of no interest) unless the
/// body is plain already. Bodies that would grow beyond `limit` bytes are refused before the memory is taken.
pub fn decompress<'a>(
    encoding: Encoding,
    body: &'a [u8],
    limit: usize,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecodeError> {
    let refused = |length: Option<u64>| {
        let says = length.map(|l| format!(" ({l} bytes)")).unwrap_or_default();
        DecodeError::too_large(format!(
            "the decompressed body{says} is larger than the limit of {limit} bytes"
        ))
    };
    match encoding {
        Encoding::Identity if body.len() > limit => Err(refused(Some(body.len() as u64))),
        Encoding::Identity => Ok(body),
        Encoding::Snappy => {
            let length = snappy_length(body)
                .ok_or_else(|| DecodeError::malformed(0, "the body is not snappy: its length is unreadable"))?;
            if length > limit as u64 {
                return Err(refused(Some(length)));
            }
            let length = length as usize;
            if length / SNAPPY_RATIO_MAX > body.len() {
                let have = body.len();
                return Err(DecodeError::malformed(
                    0,
                    format!("the body is not snappy: {have} bytes cannot hold the {length} it claims"),
                ));
            }
            if buffer.len() < length {
                buffer.resize(length, 0);
            }
            match snap::raw::Decoder::new().decompress(body, &mut buffer[..length]) {
                Ok(n) => Ok(&buffer[..n]),
                Err(e) => Err(DecodeError::malformed(0, format!("the body is not snappy: {e}"))),
            }
        }
        Encoding::Gzip => stream(
            flate2::bufread::MultiGzDecoder::new(body),
            "gzip",
            limit,
            buffer,
            refused,
        ),
        Encoding::Deflate => stream(
            flate2::bufread::ZlibDecoder::new(body),
            "deflate",
            limit,
            buffer,
            refused,
        ),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body)
                .map_err(|e| DecodeError::malformed(0, format!("the body is not zstd: {e}")))?;
            decoder
                .window_log_max(ZSTD_WINDOW_LOG_MAX)
                .map_err(|e| DecodeError::malformed(0, format!("the body is not zstd: {e}")))?;
            stream(decoder, "zstd", limit, buffer, refused)
        }
    }
}

/// The plain bytes of a scraped answer by its `Content-Encoding`. Targets are asked for gzip alone: where one states
/// something else, what it sent is most often plain all the same, and Prometheus looks at nothing but gzip. So an encoding
/// that is unknown is passed over, and one that was not asked for may turn out to be none.
pub fn decompress_answer<'a>(
    header: &str,
    body: &'a [u8],
    limit: usize,
    buffer: &'a mut Vec<u8>,
) -> Result<&'a [u8], DecodeError> {
    let mut stated = header
        .split(',')
        .map(str::trim)
        .filter(|name| !name.is_empty() && !name.eq_ignore_ascii_case("identity"));
    let encoding = match (stated.next(), stated.next()) {
        (Some(name), None) => Encoding::parse(name).unwrap_or(Encoding::Identity),
        (None, _) => Encoding::Identity,
        (Some(_), Some(_)) => {
            return Err(DecodeError::unsupported(format!(
                "Content-Encoding {:?}: one encoding is right",
                crate::error::shown(header.as_bytes())
            )));
        }
    };
    let mut decoded = Vec::new();
    match decompress(encoding, body, limit, &mut decoded) {
        Err(e) if e.kind == DecodeErrorKind::Malformed && encoding != Encoding::Gzip => {
            decompress(Encoding::Identity, body, limit, buffer)
        }
        Err(e) => Err(e),
        Ok(_) if encoding == Encoding::Identity => Ok(body),
        Ok(plain) => {
            let len = plain.len();
            *buffer = decoded;
            Ok(&buffer[..len])
        }
    }
}

fn stream<'a>(
    mut decoder: impl Read,
    name: &str,
    limit: usize,
    buffer: &'a mut Vec<u8>,
    refused: impl Fn(Option<u64>) -> DecodeError,
) -> Result<&'a [u8], DecodeError> {
    let mut have = 0;
    loop {
        // one byte beyond the limit tells a body that is too large from one that just fits
        let room = (limit - have).saturating_add(1).min(STEP_BYTES.max(have / 2));
        if buffer.len() < have + room {
            buffer.resize(have + room, 0);
        }
        match decoder.read(&mut buffer[have..have + room]) {
            Ok(0) => return Ok(&buffer[..have]),
            Ok(n) if have + n > limit => return Err(refused(None)),
            Ok(n) => have += n,
            Err(e) if e.kind() == ErrorKind::Interrupted => {}
            Err(e) => {
                return Err(DecodeError::malformed(
                    have,
                    format!("the body is not {name}, or is cut short: {e}"),
                ));
            }
        }
    }
}

/// How large a body is after decompression, as far as it can be told before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PlainBytes {
    pub about: usize,
    pub at_most: usize,
}

/// How much a compressed text grows where it does not say so itself: telemetry packs about so well.
const USUAL_RATIO: usize = 12;
/// What deflate makes of a byte at most.
const DEFLATE_RATIO_MAX: usize = 1032;

/// Foretells what [`decompress`] with the same limit yields.
pub fn plain_bytes(encoding: Encoding, body: &[u8], limit: usize) -> PlainBytes {
    let len = body.len();
    let (about, at_most) = match encoding {
        Encoding::Identity => (len, len),
        Encoding::Snappy => {
            let says = snappy_length(body).map_or(0, |n| usize::try_from(n).unwrap_or(usize::MAX));
            (says, says)
        }
        Encoding::Gzip | Encoding::Deflate => (len.saturating_mul(USUAL_RATIO), len.saturating_mul(DEFLATE_RATIO_MAX)),
        Encoding::Zstd => (len.saturating_mul(USUAL_RATIO), usize::MAX),
    };
    PlainBytes {
        about: about.min(limit),
        at_most: at_most.min(limit),
    }
}

/// The length a snappy block claims.
fn snappy_length(body: &[u8]) -> Option<u64> {
    let mut length = 0u64;
    for (i, &b) in body.iter().take(10).enumerate() {
        length |= u64::from(b & 0x7f).checked_shl(7 * i as u32)?;
        if b < 0x80 {
            return Some(length);
        }
    }
    None
}

#[cfg(test)]
mod tests;
