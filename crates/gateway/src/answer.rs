use axum::body::Body;
use axum::response::{IntoResponse, Response};
use bus::BusError;
use http::{HeaderName, HeaderValue, StatusCode, header};
use model::SourceError;

/// Seconds a sender should wait after "try later".
pub(crate) const RETRY_AFTER_SECONDS: &str = "2";

/// An error answer: `{"status":"error","errorType":…,"error":…}`, as the Prometheus API has it, for every route.
#[derive(Debug, Clone)]
pub(crate) struct Refusal {
    pub(crate) status: StatusCode,
    pub(crate) kind: &'static str,
    pub(crate) message: String,
    /// Whether a query wanted more than it may have.
    pub(crate) beyond_budget: bool,
}

impl Refusal {
    pub(crate) fn new(status: StatusCode, kind: &'static str, message: impl Into<String>) -> Self {
        Refusal {
            status,
            kind,
            message: message.into(),
            beyond_budget: false,
        }
    }

    /// The same, of a query that wanted more than it may have.
    pub(crate) fn beyond_budget(self) -> Self {
        Refusal {
            beyond_budget: true,
            ..self
        }
    }

    pub(crate) fn bad_data(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::BAD_REQUEST, "bad_data", message)
    }

    pub(crate) fn not_found(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::NOT_FOUND, "not_found", message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", message)
    }

    pub(crate) fn too_large(message: impl Into<String>) -> Self {
        Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", message)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let body = serde_json::json!({ "status": "error", "errorType": self.kind, "error": self.message });
        let mut r = json(self.status, body.to_string().into_bytes());
        if self.status == StatusCode::UNAUTHORIZED {
            let bearer = HeaderValue::from_static("Bearer realm=\"overseer\"");
            r.headers_mut().insert(header::WWW_AUTHENTICATE, bearer);
        }
        if matches!(
            self.status,
            StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS
        ) {
            r.headers_mut()
                .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
        }
        r
    }
}

impl From<BusError> for Refusal {
    fn from(e: BusError) -> Self {
        match e {
            BusError::TooLarge { .. } => Refusal::too_large(e.to_string()),
            other => Refusal::unavailable(other.to_string()),
        }
    }
}

impl From<SourceError> for Refusal {
    fn from(e: SourceError) -> Self {
        use model::BudgetError::{Cancelled, Timeout};
        match &e {
            SourceError::Budget(Timeout) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "timeout", e.to_string()),
            SourceError::Budget(Cancelled) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "canceled", e.to_string()),
            SourceError::Budget(_) => {
                Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", e.to_string()).beyond_budget()
            }
            SourceError::NotReady(_) => Refusal::unavailable(e.to_string()),
            SourceError::Damaged(_) => Refusal::new(StatusCode::UNPROCESSABLE_ENTITY, "execution", e.to_string()),
            SourceError::Io(_) => Refusal::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", e.to_string()),
        }
    }
}

/// A refusal as plain text, for the routes where Prometheus gives no JSON.
pub(crate) fn plain(refused: &Refusal) -> Response {
    let mut r = text(refused.status, format!("{}\n", refused.message));
    if refused.status == StatusCode::SERVICE_UNAVAILABLE {
        r.headers_mut()
            .insert(header::RETRY_AFTER, HeaderValue::from_static(RETRY_AFTER_SECONDS));
    }
    r
}

/// `{"status":"success","data":…}`.
pub(crate) fn success(data: &serde_json::Value) -> Response {
    let body = serde_json::json!({ "status": "success", "data": data }).to_string();
    json(StatusCode::OK, body.into_bytes())
}

/// A JSON answer of finished bytes.
pub(crate) fn json(status: StatusCode, body: Vec<u8>) -> Response {
    let mut r = Response::new(Body::from(body));
    *r.status_mut() = status;
    r.headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    r
}

/// An answer without a body.
pub(crate) fn empty(status: StatusCode) -> Response {
    let mut r = Response::new(Body::empty());
    *r.status_mut() = status;
    r
}

/// A short text.
pub(crate) fn text(status: StatusCode, body: impl Into<String>) -> Response {
    let mut r = Response::new(Body::from(body.into()));
    *r.status_mut() = status;
    r.headers_mut().insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=utf-8"),
    );
    r
}

/// Adds a header whose value may hold anything: what is no visible ASCII is replaced.
pub(crate) fn with_header(mut r: Response, name: HeaderName, value: &str) -> Response {
    let clean: String = value
        .chars()
        .map(|c| if (' '..='~').contains(&c) { c } else { '?' })
        .take(1024)
        .collect();
    if let Ok(v) = HeaderValue::from_str(&clean) {
        r.headers_mut().insert(name, v);
    }
    r
}
