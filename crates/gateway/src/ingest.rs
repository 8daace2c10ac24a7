use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, StatusCode, header};
use input::{Intake, Outcome};
use model::{Batch, RejectReason, TenantId};
use wire::{DecodeError, DecodeErrorKind, Encoding, Protocol, otlp};

use crate::answer::{Refusal, empty, json, with_header};
use crate::body;
use crate::params;
use crate::parts::App;

/// Bodies that have at most so many bytes after decompression are decoded on the runtime's own thread, in a millisecond or
/// so; larger ones where nobody waits for them, a bounded number at once.
const INLINE_BYTES_MAX: usize = 256 << 10;
/// What a sample of a large request takes at least, to size its columns once.
const BYTES_PER_SAMPLE_MIN: usize = 64;

const SAMPLES_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-samples-written");
const HISTOGRAMS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-histograms-written");
const EXEMPLARS_WRITTEN: HeaderName = HeaderName::from_static("x-prometheus-remote-write-exemplars-written");
pub(crate) const INFLUX_VERSION: HeaderName = HeaderName::from_static("x-influxdb-version");
const INFLUX_ERROR: HeaderName = HeaderName::from_static("x-influxdb-error");
const SKIPPED: HeaderName = HeaderName::from_static("x-overseer-skipped");

/// What became of a request: how much was taken, and what stopped the decoder, if anything did.
struct Taken {
    outcome: Outcome,
    error: Option<DecodeError>,
}

impl Taken {
    fn is_clean(&self) -> bool {
        self.error.is_none() && self.outcome.is_clean()
    }

    /// What was refused, in words.
    fn complaint(&self) -> String {
        let refused = self.outcome.describe();
        match &self.error {
            Some(e) if refused.is_empty() => e.to_string(),
            Some(e) => format!("{e}; {refused}"),
            None => refused,
        }
    }

    fn status(&self) -> StatusCode {
        match self.error.as_ref().map(|e| e.kind) {
            Some(DecodeErrorKind::TooLarge) => StatusCode::PAYLOAD_TOO_LARGE,
            Some(DecodeErrorKind::Unsupported) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
            Some(DecodeErrorKind::Malformed) | None => StatusCode::BAD_REQUEST,
        }
    }
}

/// Reads, decodes, admits and publishes one body: all ways in but the answer. `Ok` means that what was taken is durable.
async fn take(app: &Arc<App>, protocol: &'static Protocol, request: Request<Body>) -> Result<Taken, Refusal> {
    let (Some(intake), Some(publisher)) = (&app.parts.intake, &app.parts.publisher) else {
        return Err(Refusal::not_found("the ingress role does not run in this process"));
    };
    let (head, content) = request.into_parts();
    let tenant = head.extensions.get::<TenantId>().copied().unwrap_or(TenantId::DEFAULT);
    let coding = text_of(&head.headers, &header::CONTENT_ENCODING);
    let encoding = protocol
        .encoding(coding)
        .map_err(|e| Refusal::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad_data", e.to_string()))?;
    let query = params::pairs(head.uri.query().unwrap_or(""))?;
    let limits = &app.parts.limits;
    let mut raw = app.buffers.take();
    let mut held = body::read(
        &app.body_reader(),
        &head.headers,
        content,
        limits.body_bytes_max,
        &mut raw,
    )
    .await?;
    let (bytes, limit) = (raw.len(), limits.decoded_bytes_max);
    let plain = wire::plain_bytes(encoding, &raw, limit);
    held.grow((bytes + plain.about) as u64).await?;
    let now_ms = app.parts.host.clock.now_ms();
    let body = Arrived {
        protocol,
        encoding,
        tenant,
        now_ms,
        content_type: text_of(&head.headers, &header::CONTENT_TYPE).to_owned(),
        query,
        raw,
    };
    let decoded = if bytes.max(plain.at_most) > INLINE_BYTES_MAX {
        let (app, intake) = (Arc::clone(app), intake.clone());
        app.decoding.clone().run(move || body.decode(&app, &intake)).await?
    } else {
        body.decode(app, intake)
    };
    let Decoded {
        batch,
        outcome,
        error,
        plain_bytes,
    } = decoded;
    // until it is published the batch takes about what the plain body took
    held.grow(plain_bytes as u64).await?;
    held.shrink(plain_bytes as u64);
    // in a task of its own: what is published is counted, also when the client does not wait for the answer
    let (publisher, ways) = (publisher.clone(), Arc::clone(&app.parts.ways));
    let published = tokio::spawn(async move {
        let _held = held;
        publisher.batch(batch).await?;
        ways.note(protocol.id, now_ms, bytes, &outcome);
        Ok::<_, bus::BusError>(outcome)
    });
    let outcome = published
        .await
        .map_err(|_| Refusal::unavailable("the server is stopping; send again"))??;
    Ok(Taken { outcome, error })
}

/// A body that is there in full, and what its head says of it.
struct Arrived {
    protocol: &'static Protocol,
    encoding: Encoding,
    tenant: TenantId,
    now_ms: i64,
    content_type: String,
    query: Vec<(String, String)>,
    raw: Vec<u8>,
}

impl Arrived {
    fn decode(self, app: &App, intake: &Intake) -> Decoded {
        let mut plain = app.buffers.take();
        let mut plain_bytes = 0;
        let mut error = None;
        let mut admission = intake.admit(self.tenant, self.now_ms);
        match wire::decompress(self.encoding, &self.raw, app.parts.limits.decoded_bytes_max, &mut plain) {
            Err(e) => error = Some(e),
            Ok(bytes) => {
                plain_bytes = bytes.len();
                admission.reserve(bytes.len() / (4 * BYTES_PER_SAMPLE_MIN));
                let request = wire::Request {
                    content_type: &self.content_type,
                    query: &self.query,
                    now_ms: self.now_ms,
                    ..Default::default()
                };
                // the hot one gets a copy of the decoder made for this sink
                let done = if self.protocol.id == "remote_write" {
                    wire::remote_write::decode(bytes, &request, &mut admission)
                } else {
                    (self.protocol.decode)(bytes, &request, &mut admission)
                };
                error = error.or(done.err());
            }
        }
        let (batch, outcome) = admission.finish();
        app.buffers.give(plain);
        app.buffers.give(self.raw);
        Decoded {
            batch,
            outcome,
            error,
            plain_bytes,
        }
    }
}

/// What became of a body: its batch, and what stopped the decoder, if anything did.
struct Decoded {
    batch: Batch,
    outcome: Outcome,
    error: Option<DecodeError>,
    plain_bytes: usize,
}

fn text_of<'a>(headers: &'a HeaderMap, name: &HeaderName) -> &'a str {
    headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or("")
}

fn row(request: &Request<Body>, fallback: &'static str) -> Result<&'static Protocol, Refusal> {
    let content_type = text_of(request.headers(), &header::CONTENT_TYPE);
    let known = wire::find(fallback);
    let path = known.and_then(|p| p.paths.first()).copied().unwrap_or("");
    let row = if content_type.is_empty() {
        known
    } else {
        Protocol::for_request(path, content_type)
    };
    row.ok_or_else(|| {
        let right: Vec<&str> = wire::PROTOCOLS
            .iter()
            .filter(|p| p.paths.contains(&path))
            .flat_map(|p| p.content_types)
            .copied()
            .collect();
        Refusal::new(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            "bad_data",
            format!(
                "Content-Type {:?} is not taken here: {} is right",
                content_type,
                right.join(" or ")
            ),
        )
    })
}

/// Prometheus remote write, 1.0 and 2.0 by content type. A request of which a part was refused answers 400, which
/// tells the sender not to send it again; the rest of it is stored.
pub(crate) async fn remote_write(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let protocol = row(&request, "remote_write")?;
    let taken = take(&app, protocol, request).await?;
    let o = &taken.outcome;
    let mut response = if taken.is_clean() {
        empty(StatusCode::NO_CONTENT)
    } else {
        let stored = o.samples();
        let message = format!(
            "{stored} samples stored, {} refused: {}",
            o.rejected_samples,
            taken.complaint()
        );
        Refusal::new(taken.status(), "bad_data", message).into_response()
    };
    if protocol.id == "remote_write_2" {
        response = with_header(response, SAMPLES_WRITTEN, &o.floats.to_string());
        response = with_header(response, HISTOGRAMS_WRITTEN, &o.histograms.to_string());
        response = with_header(response, EXEMPLARS_WRITTEN, &o.exemplars.to_string());
    }
    Ok(response)
}

/// InfluxDB's write, versions 1 and 2. Fields that hold no number are no error to the client (a point may well carry
/// texts beside numbers): they are counted and named in `X-Overseer-Skipped`.
pub(crate) async fn influx(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let second = request.uri().path().contains("/v2/");
    let protocol = wire::find("influx").ok_or_else(|| Refusal::not_found("no such way in"))?;
    let taken = take(&app, protocol, request).await?;
    let texts = taken.outcome.rejected[RejectReason::NotANumber];
    let refused = taken.outcome.rejected.total();
    let mut response = if taken.error.is_none() && refused == texts {
        empty(StatusCode::NO_CONTENT)
    } else {
        let message = match &taken.error {
            Some(_) if taken.outcome.samples() == 0 => taken.complaint(),
            _ => format!(
                "partial write: {} dropped={}",
                taken.complaint(),
                taken.outcome.rejected_samples
            ),
        };
        let body = if second {
            serde_json::json!({ "code": "invalid", "message": message })
        } else {
            serde_json::json!({ "error": message })
        };
        let response = json(taken.status(), body.to_string().into_bytes());
        if second {
            response
        } else {
            with_header(response, INFLUX_ERROR, &message)
        }
    };
    if texts > 0 {
        let examples: Vec<String> = taken
            .outcome
            .rejects
            .iter()
            .filter(|r| r.reason == RejectReason::NotANumber)
            .map(|r| {
                if r.subject.is_empty() {
                    r.detail.clone()
                } else {
                    format!("{}: {}", r.subject, r.detail)
                }
            })
            .collect();
        response = with_header(
            response,
            SKIPPED,
            &format!("{texts} fields without a number: {}", examples.join("; ")),
        );
    }
    Ok(response)
}

/// Clients ask this to see whether a server is there, and its version to choose a dialect.
pub(crate) async fn influx_ping(State(app): State<Arc<App>>) -> Response {
    let version = format!("1.8-overseer-{}", app.parts.about.version);
    with_header(empty(StatusCode::NO_CONTENT), INFLUX_VERSION, &version)
}

/// OTLP/HTTP metrics, protobuf and JSON. What was refused is told as `partial_success` in a 200, as the protocol asks;
/// a body that cannot be read is a 400 with a `google.rpc.Status`.
pub(crate) async fn otlp(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let protocol = row(&request, "otlp")?;
    let form = if protocol.id == "otlp_json" {
        otlp::Form::Json
    } else {
        otlp::Form::Protobuf
    };
    let taken = match take(&app, protocol, request).await {
        Ok(taken) => taken,
        Err(refused) => return Ok(otlp_failure(form, refused)),
    };
    if let Some(e) = &taken.error
        && e.taken == 0
    {
        return Ok(otlp_failure(
            form,
            Refusal::new(taken.status(), "bad_data", taken.complaint()),
        ));
    }
    let bytes = otlp::success(form, taken.outcome.rejected_samples, &taken.complaint());
    Ok(otlp_answer(form, StatusCode::OK, bytes))
}

fn otlp_failure(form: otlp::Form, refused: Refusal) -> Response {
    // google.rpc.Code: 3 invalid argument, 8 resource exhausted, 14 unavailable
    let code = match refused.status {
        StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS => 14,
        StatusCode::PAYLOAD_TOO_LARGE => 8,
        _ => 3,
    };
    let bytes = otlp::status(form, code, &refused.message);
    let later = refused.status == StatusCode::SERVICE_UNAVAILABLE;
    let response = otlp_answer(form, refused.status, bytes);
    if later {
        with_header(response, header::RETRY_AFTER, "2")
    } else {
        response
    }
}

fn otlp_answer(form: otlp::Form, status: StatusCode, bytes: Vec<u8>) -> Response {
    with_header(json(status, bytes), header::CONTENT_TYPE, form.content_type())
}

/// Overseer's own JSON: 202 when all was taken, 207 with the refused items by index when some was, else 400.
pub(crate) async fn own_json(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let protocol = wire::find("json").ok_or_else(|| Refusal::not_found("no such way in"))?;
    let taken = take(&app, protocol, request).await?;
    let accepted = taken.outcome.samples();
    if let Some(e) = &taken.error
        && accepted == 0
    {
        return Err(Refusal::new(taken.status(), "bad_data", e.to_string()));
    }
    let mut errors: Vec<serde_json::Value> = taken
        .outcome
        .rejects
        .iter()
        .map(|r| serde_json::json!({ "item": r.subject, "reason": r.reason.as_str(), "error": r.detail }))
        .collect();
    if let Some(e) = &taken.error {
        errors.push(serde_json::json!({ "item": "body", "reason": "malformed", "error": e.to_string() }));
    }
    let status = match (taken.is_clean(), accepted) {
        (true, _) => StatusCode::ACCEPTED,
        (false, 0) => StatusCode::BAD_REQUEST,
        (false, _) => StatusCode::MULTI_STATUS,
    };
    let mut answer = serde_json::json!({ "accepted": accepted, "rejected": taken.outcome.rejected_samples });
    if !errors.is_empty() {
        answer["error"] = taken.complaint().into();
        answer["errors"] = errors.into();
    }
    Ok(json(status, answer.to_string().into_bytes()))
}
