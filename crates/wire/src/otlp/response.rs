use crate::json::push_string;
use crate::proto::Writer;

/// Form of an answer: that of the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Protobuf,
    Json,
}

impl Form {
    pub fn content_type(self) -> &'static str {
        match self {
            Form::Protobuf => "application/x-protobuf",
            Form::Json => "application/json",
        }
    }
}

/// Body of a 200 answer (`ExportMetricsServiceResponse`). `partial_success` is set when data points were rejected or
/// there is something to say.
pub fn success(form: Form, rejected_data_points: u64, message: &str) -> Vec<u8> {
    let partial = rejected_data_points > 0 || !message.is_empty();
    match form {
        Form::Protobuf => {
            let mut out = Writer::default();
            if partial {
                out.message(1, |w| {
                    if rejected_data_points > 0 {
                        w.varint(1, rejected_data_points);
                    }
                    if !message.is_empty() {
                        w.bytes(2, message.as_bytes());
                    }
                });
            }
            out.out
        }
        Form::Json if partial => {
            let mut out =
                format!("{{\"partialSuccess\":{{\"rejectedDataPoints\":\"{rejected_data_points}\",\"errorMessage\":")
                    .into_bytes();
            push_string(&mut out, message);
            out.extend_from_slice(b"}}");
            out
        }
        Form::Json => b"{}".to_vec(),
    }
}

/// Body of a refusal (`google.rpc.Status`). `code` is gRPC's: 3 bad request, 8 too large or too many, 14 try again.
pub fn status(form: Form, code: u32, message: &str) -> Vec<u8> {
    match form {
        Form::Protobuf => {
            let mut out = Writer::default();
            out.varint(1, u64::from(code));
            out.bytes(2, message.as_bytes());
            out.out
        }
        Form::Json => {
            let mut out = format!("{{\"code\":{code},\"message\":").into_bytes();
            push_string(&mut out, message);
            out.push(b'}');
            out
        }
    }
}
