//! OTLP metrics (`ExportMetricsServiceRequest`), as protobuf and as JSON, under Prometheus names.
mod any;
mod convert;
mod names;
mod response;
mod transcode;

use model::{Reject, RejectReason, SampleSink};

use crate::{DecodeError, Request};

pub use names::{NameKind, label_name, metric_name};
pub use response::{Form, status, success};

/// Reads a protobuf request into `sink`. A data point that contradicts itself is refused alone.
pub fn decode<S: SampleSink + ?Sized>(body: &[u8], request: &Request<'_>, sink: &mut S) -> Result<(), DecodeError> {
    convert::request(body, request, sink)
}

/// Reads a JSON request into `sink`: it is written out as protobuf (never more than twice its size) and read as such.
/// Malformed JSON takes nothing; a value that is bad costs its data point, or the metric or resource it belongs to.
pub fn decode_json<S: SampleSink + ?Sized>(
    body: &[u8],
    request: &Request<'_>,
    sink: &mut S,
) -> Result<(), DecodeError> {
    let read = transcode::request(body)?;
    let done = convert::request(&read.message, request, sink);
    for refusal in read.refused.told {
        let subject = match refusal.metric {
            Some(name) => format!("metric {name:?}"),
            None => "a resource or scope".to_owned(),
        };
        sink.reject(Reject {
            reason: RejectReason::Malformed,
            subject,
            detail: refusal.why,
            samples: refusal.points,
        });
    }
    if read.refused.rest > 0 {
        sink.reject(Reject {
            reason: RejectReason::Malformed,
            subject: format!("{} more data points", read.refused.rest),
            detail: "with bad values, not told one by one".to_owned(),
            samples: read.refused.rest,
        });
    }
    done
}

#[cfg(test)]
mod tests;
