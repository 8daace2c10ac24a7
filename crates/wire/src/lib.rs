//! Protocols: bytes to samples and back, as pure functions. Whatever the bytes, a decoder never panics, never recurses
//! or allocates beyond a stated bound, and tells what it did not take; it writes into a [`model::SampleSink`] and knows
//! no I/O and no clock. Every way in is a row of [`PROTOCOLS`].
#![forbid(unsafe_code)]

mod encoding;
mod error;
pub mod exposition;
pub mod federation;
pub mod influx;
pub mod json;
pub mod metrics_json;
mod native_histogram;
pub mod otlp;
pub mod prometheus_chunk;
pub mod proto;
mod protocol;
mod rejects;
pub mod remote_read;
pub mod remote_write;
pub mod remote_write2;

pub use encoding::{Encoding, PlainBytes, decompress, decompress_answer, plain_bytes};
pub use error::{DecodeError, DecodeErrorKind};
pub use protocol::{Example, PROTOCOLS, Protocol, Request, Setup, find, media_type};

/// First byte of the raw spelling that a decoder offers to [`model::SampleSink::known`], so that equal bytes mean equal
/// labels across protocols too. Remote write 1.0 hands over a span of the message itself, which starts with `0x0a`.
mod raw_kind {
    pub(crate) const INFLUX: u8 = 1;
    pub(crate) const REMOTE_WRITE_2: u8 = 2;
    pub(crate) const OTLP: u8 = 3;
    pub(crate) const EXPOSITION: u8 = 4;
    pub(crate) const JSON: u8 = 5;
    pub(crate) const REMOTE_WRITE_SCATTERED: u8 = 6;
}

/// Bytes of label text a body may refer to, repeats counted: where many samples share one text, a small body would
/// otherwise be work without bound. Real senders stay below a fifth of it.
fn text_budget(body_len: usize) -> usize {
    body_len.saturating_mul(64).saturating_add(64 << 20)
}

#[cfg(test)]
mod tests;
