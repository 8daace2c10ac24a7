//! The client that fetches targets: one kept connection for each, redirects as Prometheus follows them, one more try
//! where a kept connection was just closed.
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::header::{
    ACCEPT, ACCEPT_ENCODING, AUTHORIZATION, CONTENT_ENCODING, CONTENT_TYPE, HOST, LOCATION, USER_AGENT,
};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Uri};
use http_body_util::{BodyExt, Empty};
use hyper::body::{Body, Incoming};
use hyper::client::conn::http1;
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tower_service::Service;
use wire::exposition::Format;

use super::redirect;

/// Redirects of one scrape, as in Prometheus.
const REDIRECTS_MAX: usize = 10;
/// Bytes of a redirect's body that are read to keep the connection; a longer one costs the connection.
const REDIRECT_BODY_BYTES_MAX: u64 = 2 << 10;
/// Connections kept for one target: its own, and those of where it redirects to.
const KEPT_MAX: usize = 4;
/// A connection that stood idle for longer is not used again, as in Prometheus.
const IDLE_MAX: Duration = Duration::from_secs(300);
/// Header lines of an answer.
const HEADERS_MAX: usize = 1000;
/// Bytes of an answer's head.
const HEAD_BYTES_MAX: usize = 1 << 20;

const SCRAPE_TIMEOUT: HeaderName = HeaderName::from_static("x-prometheus-scrape-timeout-seconds");

/// Opens connections.
pub(super) struct Client {
    connector: HttpsConnector<HttpConnector>,
}

/// What is asked of a target.
pub(super) struct Ask<'a> {
    pub(super) url: &'a Uri,
    pub(super) token: Option<&'a str>,
    pub(super) timeout_seconds: u32,
    pub(super) follow_redirects: bool,
    pub(super) compressed: bool,
    /// Bytes of the body as it arrives.
    pub(super) body_bytes_max: usize,
}

/// A 200.
pub(super) struct Answer {
    pub(super) body: Bytes,
    /// Empty where there is none.
    pub(super) content_type: String,
    pub(super) content_encoding: String,
}

/// Where a scrape is at the moment, for the error that names the address.
#[derive(Default)]
pub(super) struct Trail {
    redirects: usize,
    /// As it may be shown; empty before the first redirect.
    address: String,
}

impl Trail {
    /// The error, with the address where it came up when that is not the target's own.
    pub(super) fn tell(&self, error: String) -> String {
        match self.redirects {
            0 => error,
            n => {
                let redirects = if n == 1 { "redirect" } else { "redirects" };
                format!("{error} (at {}, after {n} {redirects})", self.address)
            }
        }
    }
}

/// A target's open connections, none of which is in use.
#[derive(Default)]
pub(super) struct Kept(Vec<Connection>);

struct Connection {
    origin: Origin,
    sender: http1::SendRequest<Empty<Bytes>>,
    /// Bytes that came in on it so far.
    received: Arc<AtomicU64>,
    /// Monotonic time of its last use.
    used: Duration,
}

/// What one connection leads to.
#[derive(Clone, PartialEq)]
struct Origin {
    https: bool,
    /// Host and port as they stand in the address.
    authority: String,
}

impl Kept {
    fn take(&mut self, origin: &Origin, now: Duration) -> Option<Connection> {
        self.0
            .retain(|c| !c.sender.is_closed() && now.saturating_sub(c.used) < IDLE_MAX);
        let at = self.0.iter().position(|c| c.origin == *origin)?;
        Some(self.0.swap_remove(at))
    }

    fn keep(&mut self, connection: Connection) {
        if connection.sender.is_closed() {
            return;
        }
        if self.0.len() == KEPT_MAX {
            self.0.remove(0);
        }
        self.0.push(connection);
    }
}

impl Client {
    pub(super) fn new() -> Result<Self, String> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|e| format!("scrape: the system's certificates cannot be read: {e}"))?
            .https_or_http()
            .enable_http1()
            .build();
        Ok(Client { connector })
    }

    /// The answer of a target, over as many redirects as are followed. `trail` tells, also when this is given up, how far
    /// it came. `now`: monotonic time.
    pub(super) async fn get(
        &self,
        ask: &Ask<'_>,
        kept: &mut Kept,
        now: Duration,
        trail: &mut Trail,
    ) -> Result<Answer, String> {
        let mut url = ask.url.clone();
        let mut token = ask.token;
        loop {
            let request = request(ask, &url, token)?;
            let (response, connection) = self.send(request, &url, kept, now).await?;
            let to = match response.status() {
                StatusCode::OK => return answer(ask, response, connection, kept).await,
                StatusCode::MOVED_PERMANENTLY
                | StatusCode::FOUND
                | StatusCode::SEE_OTHER
                | StatusCode::TEMPORARY_REDIRECT
                | StatusCode::PERMANENT_REDIRECT
                    if ask.follow_redirects =>
                {
                    response.headers().get(LOCATION)
                }
                _ => None,
            };
            let Some(to) = to else {
                return Err(format!("the target answered {}", response.status()));
            };
            if trail.redirects == REDIRECTS_MAX {
                return Err(format!(
                    "the target redirects without end: {REDIRECTS_MAX} redirects are followed"
                ));
            }
            let next = redirect::resolve(&url, to.as_bytes())?;
            if !redirect::trusted(&url, &next) {
                token = None;
            }
            pass_over(response, connection, kept).await;
            trail.redirects += 1;
            trail.address = redirect::shown(&next);
            url = next;
        }
    }

    /// Sends a request on a kept connection or a new one. A kept one that ends before the first byte of an answer was closed
    /// while the request was on its way: then it is sent once more, on a new one.
    async fn send(
        &self,
        request: Request<Empty<Bytes>>,
        url: &Uri,
        kept: &mut Kept,
        now: Duration,
    ) -> Result<(Response<Incoming>, Connection), String> {
        let origin = Origin {
            https: url.scheme_str() == Some("https"),
            authority: url.authority().map(|a| a.as_str().to_owned()).unwrap_or_default(),
        };
        if let Some(mut connection) = kept.take(&origin, now)
            && connection.sender.ready().await.is_ok()
        {
            let before = connection.received.load(Relaxed);
            match connection.sender.send_request(request.clone()).await {
                Ok(response) => {
                    connection.used = now;
                    return Ok((response, connection));
                }
                Err(e) if connection.received.load(Relaxed) > before => return Err(chain(&e)),
                Err(_) => {}
            }
        }
        let mut connection = self.connect(url, origin, now).await?;
        let response = connection.sender.send_request(request).await.map_err(|e| chain(&e))?;
        Ok((response, connection))
    }

    async fn connect(&self, url: &Uri, origin: Origin, now: Duration) -> Result<Connection, String> {
        let mut connector = self.connector.clone();
        std::future::poll_fn(|cx| connector.poll_ready(cx))
            .await
            .map_err(|e| chain(&*e))?;
        let stream = connector.call(url.clone()).await.map_err(|e| chain(&*e))?;
        let received = Arc::new(AtomicU64::new(0));
        let counted = Counted {
            inner: TokioIo::new(stream),
            received: Arc::clone(&received),
        };
        let (sender, connection) = http1::Builder::new()
            .max_headers(HEADERS_MAX)
            .max_buf_size(HEAD_BYTES_MAX)
            .allow_obsolete_multiline_headers_in_responses(true)
            .allow_spaces_after_header_name_in_responses(true)
            .ignore_invalid_headers_in_responses(true)
            .handshake(TokioIo::new(counted))
            .await
            .map_err(|e| chain(&e))?;
        // it ends with the sender, or with the other side
        tokio::spawn(connection);
        Ok(Connection {
            origin,
            sender,
            received,
            used: now,
        })
    }
}

fn request(ask: &Ask<'_>, url: &Uri, token: Option<&str>) -> Result<Request<Empty<Bytes>>, String> {
    let path = url.path_and_query().map_or("/", |p| p.as_str());
    let host = url.authority().map_or("", |a| a.as_str());
    let mut request = Request::get(path)
        .header(HOST, host)
        .header(ACCEPT, Format::ACCEPT)
        .header(USER_AGENT, concat!("Overseer/", env!("CARGO_PKG_VERSION")))
        .header(SCRAPE_TIMEOUT, ask.timeout_seconds);
    if ask.compressed {
        request = request.header(ACCEPT_ENCODING, "gzip");
    }
    if let Some(token) = token {
        let mut value = HeaderValue::try_from(format!("Bearer {token}"))
            .map_err(|_| "the token has characters that no header can carry".to_owned())?;
        value.set_sensitive(true);
        request = request.header(AUTHORIZATION, value);
    }
    request.body(Empty::new()).map_err(|e| e.to_string())
}

async fn answer(
    ask: &Ask<'_>,
    response: Response<Incoming>,
    connection: Connection,
    kept: &mut Kept,
) -> Result<Answer, String> {
    let content_type = text_of(response.headers(), &CONTENT_TYPE);
    let content_encoding = text_of(response.headers(), &CONTENT_ENCODING);
    let mut body = response.into_body();
    let max = ask.body_bytes_max;
    let too_large = || format!("the answer is larger than {max} bytes (body_bytes_max)");
    if body.size_hint().lower() > max as u64 {
        return Err(too_large());
    }
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|e| format!("the answer broke off after {} bytes: {}", whole.len(), chain(&e)))?;
        // trailers say nothing that is needed
        let Ok(data) = frame.into_data() else { continue };
        if data.len() > max - whole.len() {
            return Err(too_large());
        }
        whole.extend_from_slice(&data);
    }
    kept.keep(connection);
    Ok(Answer {
        body: whole.freeze(),
        content_type,
        content_encoding,
    })
}

/// Reads the body of a redirect when it is short, so that the connection can be kept.
async fn pass_over(response: Response<Incoming>, connection: Connection, kept: &mut Kept) {
    let mut body = response.into_body();
    // neither a length nor chunks: it ends with the connection
    let chunked = body.size_hint().exact().is_none();
    if body.size_hint().lower() > REDIRECT_BODY_BYTES_MAX || chunked && connection.sender.is_closed() {
        return;
    }
    let mut left = REDIRECT_BODY_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return };
        let bytes = frame.data_ref().map_or(0, |d| d.len() as u64);
        match left.checked_sub(bytes) {
            Some(rest) => left = rest,
            None => return,
        }
    }
    kept.keep(connection);
}

/// The first of a header's values; what is not text in it is replaced.
fn text_of(headers: &HeaderMap, name: &HeaderName) -> String {
    let value = headers.get(name).map_or(&b""[..], |v| v.as_bytes());
    String::from_utf8_lossy(value).trim().to_owned()
}

/// An error with its causes: the outer one alone says "client error (Connect)".
fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        let c_text = c.to_string();
        if !text.ends_with(&c_text) {
            text.push_str(&format!(": {c_text}"));
        }
        cause = c.source();
    }
    text
}

/// A stream that tells how many bytes came in.
struct Counted<T> {
    inner: T,
    received: Arc<AtomicU64>,
}

impl<T: AsyncRead + Unpin> AsyncRead for Counted<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        let done = Pin::new(&mut self.inner).poll_read(cx, buf);
        self.received.fetch_add((buf.filled().len() - before) as u64, Relaxed);
        done
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Counted<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests;
