use std::convert::Infallible;
use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::response::{IntoResponse, Response};
use host::{Clock, Host, Seldom};
use http::{Request, StatusCode};
use http_body::{Body as HttpBody, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tower_service::Service;

use crate::answer::Refusal;
use crate::config::ServerConfig;
use crate::head::{CheckedIo, Heads};
use crate::pace::Pace;

/// Bytes of a request's head.
pub(crate) const HEAD_BYTES_MAX: usize = 64 << 10;
/// Header fields of a request.
const HEADERS_MAX: usize = 128;
/// How long open requests may go on after the shutdown began.
const DRAIN: Duration = Duration::from_secs(3);
/// How often it is said that no connection can be accepted.
const SAY_EVERY: Duration = Duration::from_secs(10);
/// How often a connection's times are looked at.
const WATCH_EVERY: Duration = Duration::from_secs(1);

/// Serves a listener until `shutdown` turns true, then lets open requests end (at most 3 s).
///
/// A slow or silent client costs a connection for a bounded time only: the head must arrive within `head_seconds`, an
/// idle connection is closed after `idle_seconds`, an answer nobody reads after `stall_seconds`, and one that is read at
/// less than `answer_bytes_per_second_min` as well.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    host: Host,
    config: ServerConfig,
    mut shutdown: watch::Receiver<bool>,
) {
    let clock = host.clock;
    let refused = Seldom::new(SAY_EVERY);
    let slots = Arc::new(Semaphore::new(config.connections_max));
    let open = Arc::new(AtomicUsize::new(0));
    loop {
        let accepted = tokio::select! {
            a = listener.accept() => a,
            _ = shutdown.wait_for(|&stop| stop) => break,
        };
        let (stream, peer) = match accepted {
            Ok(pair) => pair,
            Err(e) => {
                // out of file descriptors, mostly: others must get the chance to close
                if let Some(left_out) = refused.turn(&*clock) {
                    tracing::warn!(error = %e, left_out, "cannot accept connections; it is tried again");
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let Ok(slot) = Arc::clone(&slots).try_acquire_owned() else {
            continue; // dropped: closed at once
        };
        let _ = stream.set_nodelay(true);
        let opened = Opened::count(&open);
        let (router, clock) = (router.clone(), Arc::clone(&clock));
        let (config, stop) = (config.clone(), shutdown.clone());
        tokio::spawn(async move {
            connection(stream, peer, router, clock, &config, stop).await;
            drop((opened, slot));
        });
    }
    drop(listener);
    let deadline = tokio::time::Instant::now() + DRAIN;
    while open.load(Relaxed) > 0 && tokio::time::Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// One connection that is open, however it ends.
struct Opened(Arc<AtomicUsize>);

impl Opened {
    fn count(open: &Arc<AtomicUsize>) -> Self {
        open.fetch_add(1, Relaxed);
        Opened(Arc::clone(open))
    }
}

impl Drop for Opened {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// A handler's answer; where it panics the request gets a 500, and the connection and all others go on.
async fn answer(mut router: Router, request: Request<Body>) -> Response {
    let mut answered = std::pin::pin!(router.call(request));
    let caught = std::future::poll_fn(|context| {
        catch_unwind(AssertUnwindSafe(|| answered.as_mut().poll(context))).unwrap_or_else(|_| {
            let refused = Refusal::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the request failed inside the server; its log has more",
            );
            Poll::Ready(Ok(refused.into_response()))
        })
    });
    caught.await.unwrap_or_else(|never: Infallible| match never {})
}

async fn connection(
    stream: tokio::net::TcpStream,
    peer: std::net::SocketAddr,
    router: Router,
    clock: Arc<dyn Clock>,
    config: &ServerConfig,
    mut shutdown: watch::Receiver<bool>,
) {
    let times = Arc::new(Times::new(clock));
    let heads = Arc::new(Heads::default());
    let for_heads = Arc::clone(&times);
    let checked = CheckedIo::new(stream, Arc::clone(&heads), move || for_heads.head_begins());
    let io = TimedIo {
        inner: TokioIo::new(checked),
        times: Arc::clone(&times),
    };
    let for_service = Arc::clone(&times);
    let service = service_fn(move |mut request: Request<Incoming>| {
        let router = router.clone();
        let guard = for_service.begin();
        let heads = Arc::clone(&heads);
        let doubtful = heads.next();
        request.extensions_mut().insert(ConnectInfo(peer));
        async move {
            let response = match crate::router::check_head(&request, doubtful) {
                Some(refused) => refused,
                None => {
                    let mut request = request.map(Body::new);
                    match crate::router::take_tenant(&mut request) {
                        Err(refused) => refused.into_response(),
                        Ok(()) => answer(router, request).await,
                    }
                }
            };
            heads.answered(response.status() == http::StatusCode::SWITCHING_PROTOCOLS);
            Ok::<_, Infallible>(response.map(|body| GuardedBody { body, _guard: guard }))
        }
    });
    let served = hyper::server::conn::http1::Builder::new()
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(HEADERS_MAX)
        .half_close(false)
        .serve_connection(io, service)
        .with_upgrades();
    tokio::pin!(served);
    let mut ticks = tokio::time::interval(WATCH_EVERY);
    let mut reader = Reader::default();
    let mut stopping = false;
    loop {
        tokio::select! {
            _ = &mut served => return, // a client's mistake was answered by hyper; a lost connection interests nobody
            _ = ticks.tick() => {
                if times.overdue(config) || reader.is_slow(&times, config) {
                    return;
                }
            }
            _ = shutdown.wait_for(|&stop| stop), if !stopping => {
                stopping = true;
                served.as_mut().graceful_shutdown();
            }
        }
    }
}

/// Whether who reads an answer keeps the rate. Only the time counts in which the answer waits for its reader; the window is
/// long, since the system's buffers pass on what is read in large steps.
#[derive(Default)]
struct Reader {
    /// The pace, and what had been written when the answer began to wait.
    pace: Option<(Pace, u64)>,
}

impl Reader {
    fn is_slow(&mut self, times: &Times, config: &ServerConfig) -> bool {
        if times.write_stalled.load(Relaxed) == 0 {
            self.pace = None;
            return false;
        }
        let (now, written) = (times.clock.monotonic(), times.written.load(Relaxed));
        let rate = config.answer_bytes_per_second_min;
        let (pace, before) = self
            .pace
            .get_or_insert_with(|| (config.pace(now, rate, config.stall_seconds), written));
        pace.check(now, written.saturating_sub(*before)).is_err()
    }
}

/// What a connection did last, in ms of the monotonic clock (+1, so that 0 is "never").
struct Times {
    clock: Arc<dyn Clock>,
    requests_open: AtomicUsize,
    requests_done: AtomicU64,
    head_began: AtomicU64,
    idle_since: AtomicU64,
    write_stalled: AtomicU64,
    /// Bytes written since the connection began.
    written: AtomicU64,
}

struct RequestGuard(Arc<Times>);

impl Drop for RequestGuard {
    fn drop(&mut self) {
        self.0.requests_done.fetch_add(1, Relaxed);
        self.0.idle_since.store(self.0.now(), Relaxed);
        self.0.head_began.store(0, Relaxed);
        self.0.requests_open.fetch_sub(1, Relaxed);
    }
}

impl Times {
    fn new(clock: Arc<dyn Clock>) -> Self {
        let t = Times {
            clock,
            requests_open: AtomicUsize::new(0),
            requests_done: AtomicU64::new(0),
            head_began: AtomicU64::new(0),
            idle_since: AtomicU64::new(0),
            write_stalled: AtomicU64::new(0),
            written: AtomicU64::new(0),
        };
        t.idle_since.store(t.now(), Relaxed);
        t
    }

    fn now(&self) -> u64 {
        self.clock.monotonic().as_millis() as u64 + 1
    }

    fn begin(self: &Arc<Self>) -> RequestGuard {
        self.requests_open.fetch_add(1, Relaxed);
        self.head_began.store(0, Relaxed);
        RequestGuard(Arc::clone(self))
    }

    /// Notes that the first byte of a head has arrived, unless a request is open.
    fn head_begins(&self) {
        if self.requests_open.load(Relaxed) == 0 {
            let _ = self.head_began.compare_exchange(0, self.now(), Relaxed, Relaxed);
        }
    }

    fn overdue(&self, config: &ServerConfig) -> bool {
        let now = self.now();
        let older = |at: u64, seconds: u32| at != 0 && now.saturating_sub(at) > u64::from(seconds) * 1000;
        if older(self.write_stalled.load(Relaxed), config.stall_seconds) {
            return true;
        }
        if self.requests_open.load(Relaxed) > 0 {
            return false;
        }
        if older(self.head_began.load(Relaxed), config.head_seconds) {
            return true;
        }
        let first = self.requests_done.load(Relaxed) == 0;
        older(
            self.idle_since.load(Relaxed),
            if first {
                config.head_seconds
            } else {
                config.idle_seconds
            },
        )
    }
}

/// A socket that notes when a write makes no progress.
struct TimedIo<T> {
    inner: T,
    times: Arc<Times>,
}

impl<T: Read + Unpin> Read for TimedIo<T> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: ReadBufCursor<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl<T: Write + Unpin> TimedIo<T> {
    fn note(&self, polled: &Poll<io::Result<usize>>) {
        match polled {
            Poll::Ready(written) => {
                let bytes = written.as_ref().map_or(0, |n| *n as u64);
                self.times.written.fetch_add(bytes, Relaxed);
                self.times.write_stalled.store(0, Relaxed);
            }
            Poll::Pending => {
                let _ = self
                    .times
                    .write_stalled
                    .compare_exchange(0, self.times.now(), Relaxed, Relaxed);
            }
        }
    }
}

impl<T: Write + Unpin> Write for TimedIo<T> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write(cx, buf);
        self.note(&polled);
        polled
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let polled = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        self.note(&polled);
        polled
    }
}

/// A response body that keeps its request open until it is sent or dropped.
struct GuardedBody {
    body: Body,
    _guard: RequestGuard,
}

impl HttpBody for GuardedBody {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests;
