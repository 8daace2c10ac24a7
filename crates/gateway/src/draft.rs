use std::future::Future;
use std::io::Write as _;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::task::{Context, Poll};

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{StatusCode, header};
use http_body::Frame;
use model::Found;

use crate::answer::{Refusal, with_header};
use crate::parts::App;
use crate::room::{Held, Part};

/// Answers from this size on are compressed for clients that take gzip.
const GZIP_BYTES_MIN: usize = 1400;
/// Answers up to this size are made at once; the rest of larger ones is made while they are read.
const WHOLE_BYTES_MAX: usize = 1 << 20;
/// Bytes of an answer, before compression, that are made at once.
const PIECE_BYTES: usize = 256 << 10;

/// Appends the next part of an answer until the buffer has so many bytes or a little more; false when it was the last.
pub(crate) type Write = Box<dyn FnMut(&mut Vec<u8>, usize) -> bool + Send>;

/// An answer whose beginning is made, on the thread that evaluated it; small ones are made in full.
pub(crate) struct Draft {
    /// Compressed already where it is to be.
    out: Vec<u8>,
    packed: bool,
    rest: Option<Pen>,
}

/// Makes the rest of an answer.
struct Pen {
    write: Write,
    gzip: Option<GzEncoder<Vec<u8>>>,
    /// Bytes of what the answer is made from.
    source_bytes: u64,
}

fn encoder() -> GzEncoder<Vec<u8>> {
    GzEncoder::new(Vec::new(), Compression::fast())
}

impl Draft {
    /// Begins an answer that is made from `source_bytes` of memory.
    pub(crate) fn begin(gzip: bool, source_bytes: u64, mut write: Write) -> Self {
        let mut out = Vec::new();
        if !write(&mut out, WHOLE_BYTES_MAX) {
            return Draft::whole(out, gzip);
        }
        let mut pen = Pen {
            write,
            gzip: gzip.then(encoder),
            source_bytes,
        };
        let out = pen.pack(out, true);
        Draft {
            out,
            packed: gzip,
            rest: Some(pen),
        }
    }

    /// An answer that is there in full.
    pub(crate) fn whole(out: Vec<u8>, gzip: bool) -> Self {
        if gzip && out.len() >= GZIP_BYTES_MIN {
            let mut packed = encoder();
            if packed.write_all(&out).is_ok()
                && let Ok(out) = packed.finish()
            {
                return Draft {
                    out,
                    packed: true,
                    rest: None,
                };
            }
        }
        Draft {
            out,
            packed: false,
            rest: None,
        }
    }

    /// `{"status":"success","data":[…]}` around names or label sets.
    pub(crate) fn list<T: Send + 'static>(
        found: Found<T>,
        limit: usize,
        gzip: bool,
        bytes_of: impl Fn(&T) -> usize,
        write_item: impl Fn(&T, &mut Vec<u8>) + Send + 'static,
    ) -> Self {
        let Found {
            mut items,
            mut warnings,
        } = found;
        if items.len() > limit {
            items.truncate(limit);
            warnings.push("results truncated due to limit".into());
        }
        let bytes: usize = items.iter().map(|item| size_of::<T>() + bytes_of(item)).sum();
        let mut at = 0;
        let write = move |out: &mut Vec<u8>, len_max: usize| {
            if at == 0 {
                out.extend_from_slice(br#"{"status":"success","data":["#);
            }
            while let Some(item) = items.get(at) {
                if out.len() >= len_max {
                    return true;
                }
                if at > 0 {
                    out.push(b',');
                }
                write_item(item, out);
                at += 1;
            }
            out.push(b']');
            if !warnings.is_empty() {
                out.extend_from_slice(b",\"warnings\":");
                out.extend_from_slice(serde_json::json!(warnings).to_string().as_bytes());
            }
            out.push(b'}');
            false
        };
        Draft::begin(gzip, bytes as u64, Box::new(write))
    }

    /// The response, once there is room for it among the answers.
    pub(crate) async fn respond(self, app: &Arc<App>, content_type: &str) -> Result<Response, Refusal> {
        let ahead = self
            .rest
            .as_ref()
            .map_or(0, |pen| pen.source_bytes + 2 * PIECE_BYTES as u64);
        let held = app.room.of(Part::Answers).take(self.out.len() as u64 + ahead).await?;
        let held = Arc::new(held);
        let first = charged(self.out, &held);
        let body = match self.rest {
            None => Body::from(first),
            Some(pen) => Body::new(Pieces {
                app: Arc::clone(app),
                held,
                first: Some(first),
                state: State::Idle(Box::new(pen)),
            }),
        };
        let mut response = Response::new(body);
        *response.status_mut() = StatusCode::OK;
        response = with_header(response, header::CONTENT_TYPE, content_type);
        if self.packed {
            response = with_header(response, header::CONTENT_ENCODING, "gzip");
            response = with_header(response, header::VARY, "accept-encoding");
        }
        Ok(response)
    }
}

impl Pen {
    /// The next bytes to send, and whether there are more to come.
    fn piece(&mut self) -> (Vec<u8>, bool) {
        loop {
            let mut out = Vec::new();
            let more = (self.write)(&mut out, PIECE_BYTES);
            let out = self.pack(out, more);
            if !more || !out.is_empty() {
                return (out, more);
            }
        }
    }

    fn pack(&mut self, plain: Vec<u8>, more: bool) -> Vec<u8> {
        let Some(gzip) = &mut self.gzip else { return plain };
        // writing to memory does not fail
        let _ = gzip.write_all(&plain);
        if more {
            return std::mem::take(gzip.get_mut());
        }
        let last = self.gzip.take().map(GzEncoder::finish);
        last.and_then(Result::ok).unwrap_or_default()
    }
}

/// Bytes that stay charged until the last reference to them goes: when the socket took them.
struct Charged {
    bytes: Vec<u8>,
    _held: Arc<Held>,
}

impl AsRef<[u8]> for Charged {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

fn charged(bytes: Vec<u8>, held: &Arc<Held>) -> Bytes {
    Bytes::from_owner(Charged {
        bytes,
        _held: Arc::clone(held),
    })
}

type Making = Pin<Box<dyn Future<Output = Result<(Box<Pen>, Vec<u8>, bool), Refusal>> + Send>>;

enum State {
    Idle(Box<Pen>),
    Making(Making),
    Done,
}

/// A body that is made as fast as it is read.
struct Pieces {
    app: Arc<App>,
    held: Arc<Held>,
    first: Option<Bytes>,
    state: State,
}

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = String;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, String>>> {
        if let Some(first) = self.first.take()
            && !first.is_empty()
        {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        loop {
            match std::mem::replace(&mut self.state, State::Done) {
                State::Done => return Poll::Ready(None),
                State::Idle(mut pen) => {
                    let writing = self.app.writing.clone();
                    self.state = State::Making(Box::pin(async move {
                        let made = writing.run(move || {
                            let (out, more) = pen.piece();
                            (pen, out, more)
                        });
                        made.await
                    }));
                }
                State::Making(mut making) => match making.as_mut().poll(cx) {
                    Poll::Pending => {
                        self.state = State::Making(making);
                        return Poll::Pending;
                    }
                    Poll::Ready(Err(refused)) => return Poll::Ready(Some(Err(refused.message))),
                    Poll::Ready(Ok((pen, out, more))) => {
                        if more {
                            self.state = State::Idle(pen);
                        }
                        if out.is_empty() {
                            continue;
                        }
                        let held = Arc::clone(&self.held);
                        return Poll::Ready(Some(Ok(Frame::data(charged(out, &held)))));
                    }
                },
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.first.is_none() && matches!(self.state, State::Done)
    }
}

impl Drop for Pieces {
    fn drop(&mut self) {
        if !matches!(self.state, State::Done) {
            self.app.counts.cut_answers.fetch_add(1, Relaxed);
        }
    }
}

#[cfg(test)]
mod tests;
