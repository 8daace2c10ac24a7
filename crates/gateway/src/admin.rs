use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use store::{Readiness, Replay, StoreError};

use crate::answer::{RETRY_AFTER_SECONDS, Refusal, json, text, with_header};
use crate::auth::origin_is_tls;
use crate::body;
use crate::parts::App;

/// Bytes of a login's body.
const LOGIN_BYTES_MAX: usize = 8 << 10;

/// 503 with the figures of the replay until queries are answered in full.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match app.parts.store.as_ref().map(|s| s.readiness()) {
        None | Some(Readiness::Ready) => text(StatusCode::OK, "ready\n"),
        Some(Readiness::Replaying(replay)) => {
            let body = serde_json::json!({
                "status": "error",
                "errorType": "unavailable",
                "error": replay.to_string(),
                "replay": shown(&replay),
            });
            let answer = json(StatusCode::SERVICE_UNAVAILABLE, body.to_string().into_bytes());
            with_header(answer, header::RETRY_AFTER, RETRY_AFTER_SECONDS)
        }
    }
}

/// Figures of a replay, as JSON.
fn shown(replay: &Replay) -> serde_json::Value {
    let seconds = |time: Duration| time.as_millis() as f64 / 1000.0;
    serde_json::json!({
        "from": replay.from,
        "position": replay.applied,
        "target": replay.target,
        "records": replay.records(),
        "records_total": replay.records_total(),
        "bytes": replay.bytes,
        "bytes_total": replay.bytes_total,
        "percent": (replay.percent() * 10.0).round() / 10.0,
        "seconds": seconds(replay.took),
        "seconds_left": replay.left().map(seconds),
    })
}

/// Seals and makes durable all that was taken; answers when it is done.
pub(crate) async fn flush(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    store_of(&app)?.flush().await.map_err(refusal)?;
    Ok(done())
}

/// Merges all there is; answers when it is done.
pub(crate) async fn compact(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    store_of(&app)?.compact().await.map_err(refusal)?;
    Ok(done())
}

pub(crate) fn done() -> Response {
    json(StatusCode::OK, br#"{"status":"success"}"#.to_vec())
}

pub(crate) fn store_of(app: &App) -> Result<&Arc<store::Store>, Refusal> {
    app.parts
        .store
        .as_ref()
        .ok_or_else(|| Refusal::not_found("the store role does not run in this process"))
}

pub(crate) fn refusal(e: StoreError) -> Refusal {
    match e {
        StoreError::NotReady(_) | StoreError::Stopping | StoreError::Busy(_) | StoreError::Merging(_) => {
            Refusal::unavailable(e.to_string())
        }
        StoreError::Refused(_) => Refusal::new(StatusCode::CONFLICT, "execution", e.to_string()),
        StoreError::Engine(_) => Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "internal", e.to_string()),
    }
}

/// `{"token":"…"}` in, a session cookie out.
pub(crate) async fn login(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let (head, content) = request.into_parts();
    let mut bytes = Vec::new();
    let _held = body::read(&app.body_reader(), &head.headers, content, LOGIN_BYTES_MAX, &mut bytes).await?;
    let parsed: serde_json::Value =
        serde_json::from_slice(&bytes).map_err(|_| Refusal::bad_data("{\"token\":\"…\"} is right"))?;
    let token = parsed.get("token").and_then(|t| t.as_str()).unwrap_or("");
    let (client, over_tls) = sender(&app, peer, &head.headers);
    // a login is written to disk
    let cookie = tokio::task::block_in_place(|| app.auth.login(client, over_tls, token))?;
    Ok(with_header(done(), header::SET_COOKIE, &cookie))
}

pub(crate) async fn logout(
    State(app): State<Arc<App>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    headers: HeaderMap,
) -> Response {
    let (_, over_tls) = sender(&app, peer, &headers);
    let cookie = tokio::task::block_in_place(|| app.auth.logout(&headers, over_tls));
    with_header(done(), header::SET_COOKIE, &cookie)
}

/// Whom a request comes from, and whether it came over TLS.
fn sender(app: &App, peer: SocketAddr, headers: &HeaderMap) -> (IpAddr, bool) {
    let over_tls = origin_is_tls(headers) || app.proxies.over_tls(peer.ip(), headers);
    (app.proxies.client(peer.ip(), headers), over_tls)
}
