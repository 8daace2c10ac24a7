//! OTLP metrics (`ExportMetricsServiceRequest`), as protobuf and as JSON, under Prometheus names.
mod any;
mod convert;
mod names;
mod response;
mod transcode;

use model::SampleSink;

use crate::{DecodeError, Request};

pub use names::{NameKind, label_name, metric_name};
pub use response::{Form, status, success};

/// Reads a protobuf request into `sink`. A data point that contradicts itself is refused alone.
pub fn decode<S: SampleSink + ?Sized>(body: &[u8], request: &Request<'_>, sink: &mut S) -> Result<(), DecodeError> {
    convert::request(body, request, sink)
}

/// Reads a JSON request into `sink`: it is written out as protobuf (never more than twice its size) and read as such.
/// Malformed JSON takes nothing.
pub fn decode_json<S: SampleSink + ?Sized>(
    body: &[u8],
    request: &Request<'_>,
    sink: &mut S,
) -> Result<(), DecodeError> {
    let message = transcode::request(body)?;
    convert::request(&message, request, sink)
}

#[cfg(test)]
mod tests;
