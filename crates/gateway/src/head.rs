//! Looks at the head of each request before the HTTP library does, which drops one of two lengths without a word: a
//! request that two readers could understand differently is refused, and the connection is closed (RFC 9112 §2.2, §3.2,
//! §5.1, §6.1, §7.1). What stands behind a head is followed only to find where the next one begins.
use std::io;
use std::mem::MaybeUninit;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::connection::HEAD_BYTES_MAX;

/// Bytes read at once where they cannot go straight to the reader.
const READ_BYTES: usize = 32 << 10;
/// Bytes kept for the next head without being given back.
const KEPT_BYTES: usize = 16 << 10;
/// Hexadecimal digits of a chunk's size, bytes of its extensions, and of all trailers.
const SIZE_DIGITS_MAX: usize = 15;
const EXTENSION_BYTES_MAX: usize = 256;
const TRAILER_BYTES_MAX: usize = 8 << 10;
/// Read by the HTTP library in the place of a head that is refused.
const STAND_IN: &[u8] = b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n";

/// What the reading side and the service of one connection tell each other.
#[derive(Default)]
pub(crate) struct Heads {
    shown: AtomicU64,
    served: AtomicU64,
    state: Mutex<Told>,
}

#[derive(Default)]
struct Told {
    /// The number of the head that was refused, and why.
    refused: Option<(u64, &'static str)>,
    upgrade: Upgrade,
    waiting: Option<Waker>,
}

/// Whether the connection leaves HTTP: bytes behind an upgrade belong to whoever takes it.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Upgrade {
    #[default]
    None,
    Asked,
    Done,
}

impl Heads {
    fn told(&self) -> std::sync::MutexGuard<'_, Told> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Called for each request in turn: why it is refused, if it is.
    pub(crate) fn next(&self) -> Option<&'static str> {
        let number = self.served.fetch_add(1, Relaxed) + 1;
        self.told().refused.filter(|(n, _)| *n == number).map(|(_, why)| why)
    }

    /// Called with each answer: whether the connection leaves HTTP with it.
    pub(crate) fn answered(&self, switches: bool) {
        let mut told = self.told();
        if told.upgrade == Upgrade::Asked {
            told.upgrade = if switches { Upgrade::Done } else { Upgrade::None };
        }
        if let Some(waker) = told.waiting.take() {
            waker.wake();
        }
    }
}

/// Where in the stream of requests the reader stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Head {
        looked: usize,
    },
    Body {
        left: u64,
    },
    Chunks(Chunk),
    /// Behind a request that asked for an upgrade: nothing is read until it is answered.
    Upgrading,
    /// No HTTP any more, or a head that the HTTP library refuses by its size.
    Through,
    Refused,
    Broken(&'static str),
}

/// Where in a chunked body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Chunk {
    Size {
        digits: usize,
        value: u64,
    },
    Extension {
        bytes: usize,
        value: u64,
    },
    SizeEnd {
        value: u64,
    },
    Data {
        left: u64,
    },
    DataReturn,
    DataEnd,
    /// `line` counts the bytes of this line, `bytes` of all.
    Trailer {
        line: usize,
        bytes: usize,
    },
    TrailerEnd {
        line: usize,
        bytes: usize,
    },
}

/// What a head says of what follows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Framing {
    body: Body,
    upgrades: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Body {
    Bytes(u64),
    Chunked,
}

/// A socket whose request heads are looked at.
pub(crate) struct CheckedIo<T> {
    inner: T,
    heads: Arc<Heads>,
    /// Called when the first byte of a head has arrived.
    head_began: Box<dyn Fn() + Send>,
    at: At,
    upgrades: bool,
    /// Bytes that arrived, from `start` on not handed over yet; `shown` of them may be.
    held: Vec<u8>,
    start: usize,
    shown: usize,
}

impl<T> CheckedIo<T> {
    pub(crate) fn new(inner: T, heads: Arc<Heads>, head_began: impl Fn() + Send + 'static) -> Self {
        CheckedIo {
            inner,
            heads,
            head_began: Box::new(head_began),
            at: At::Head { looked: 0 },
            upgrades: false,
            held: Vec::new(),
            start: 0,
            shown: 0,
        }
    }

    fn unseen(&self) -> &[u8] {
        &self.held[self.start + self.shown..]
    }

    /// Looks at what is held; whether it got on.
    fn look(&mut self) -> bool {
        if self.unseen().is_empty() && !matches!(self.at, At::Upgrading) {
            return false;
        }
        match self.at {
            At::Head { looked } => self.look_for_head(looked),
            At::Body { left } => {
                let n = (self.unseen().len() as u64).min(left);
                self.shown += n as usize;
                self.at = self.after_bytes(left - n);
                true
            }
            At::Chunks(chunk) => {
                let (n, next) = chunks(chunk, self.unseen());
                self.shown += n;
                self.at = match next {
                    Ok(Some(chunk)) => At::Chunks(chunk),
                    Ok(None) => self.after_bytes(0),
                    Err(why) => At::Broken(why),
                };
                true
            }
            At::Upgrading => {
                self.at = match self.heads.told().upgrade {
                    Upgrade::Asked => return false,
                    Upgrade::Done => At::Through,
                    Upgrade::None => At::Head { looked: 0 },
                };
                true
            }
            At::Through => {
                self.shown = self.held.len() - self.start;
                true
            }
            At::Refused | At::Broken(_) => false,
        }
    }

    fn after_bytes(&self, left: u64) -> At {
        match left {
            0 if self.upgrades => At::Upgrading,
            0 => At::Head { looked: 0 },
            left => At::Body { left },
        }
    }

    fn look_for_head(&mut self, mut looked: usize) -> bool {
        // empty lines before a request are passed over
        while self.shown == 0 && self.unseen().starts_with(b"\r\n") {
            self.start += 2;
            looked = 0;
        }
        let bytes = self.unseen();
        let from = looked.saturating_sub(3);
        let Some(end) = memchr::memmem::find(&bytes[from..], b"\r\n\r\n") else {
            if bytes.len() >= HEAD_BYTES_MAX {
                self.at = At::Through;
                return true;
            }
            // a line that ends otherwise would never end the head: say so at once
            if bytes.starts_with(b"\n") || bytes[from..].windows(2).any(|w| w[1] == b'\n' && w[0] != b'\r') {
                return self.refuse(LINE_END);
            }
            self.at = At::Head { looked: bytes.len() };
            return false;
        };
        let length = from + end + 4;
        match framing(&bytes[..length]) {
            Ok(Framing { body, upgrades }) => {
                self.upgrades = upgrades;
                self.heads.shown.fetch_add(1, Relaxed);
                if upgrades {
                    self.heads.told().upgrade = Upgrade::Asked;
                }
                self.shown += length;
                self.at = match body {
                    Body::Bytes(left) => self.after_bytes(left),
                    Body::Chunked => At::Chunks(Chunk::Size { digits: 0, value: 0 }),
                };
                true
            }
            Err(why) => self.refuse(why),
        }
    }

    fn refuse(&mut self, why: &'static str) -> bool {
        let number = self.heads.shown.fetch_add(1, Relaxed) + 1;
        self.heads.told().refused = Some((number, why));
        self.held.truncate(self.start + self.shown);
        self.held.extend_from_slice(STAND_IN);
        self.shown += STAND_IN.len();
        self.at = At::Refused;
        true
    }

    /// Bytes that may go to the reader without being looked at.
    fn plain(&self) -> u64 {
        match self.at {
            At::Body { left } | At::Chunks(Chunk::Data { left }) => left,
            At::Through => u64::MAX,
            _ => 0,
        }
    }

    fn passed(&mut self, n: u64) {
        self.at = match self.at {
            At::Body { left } => self.after_bytes(left - n),
            At::Chunks(Chunk::Data { left }) if left == n => At::Chunks(Chunk::DataReturn),
            At::Chunks(Chunk::Data { left }) => At::Chunks(Chunk::Data { left: left - n }),
            other => other,
        };
    }

    fn tidy(&mut self) {
        if self.start == self.held.len() {
            self.held.clear();
            self.held.shrink_to(KEPT_BYTES);
            self.start = 0;
        }
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for CheckedIo<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            if this.shown > 0 {
                let n = this.shown.min(buf.remaining());
                buf.put_slice(&this.held[this.start..this.start + n]);
                this.start += n;
                this.shown -= n;
                this.tidy();
                return Poll::Ready(Ok(()));
            }
            if this.look() {
                continue;
            }
            match this.at {
                At::Broken(why) => return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why))),
                // the refusal is on its way, and nothing behind it is read
                At::Refused => return Poll::Pending,
                At::Upgrading => {
                    let mut told = this.heads.told();
                    if told.upgrade == Upgrade::Asked {
                        told.waiting = Some(cx.waker().clone());
                        return Poll::Pending;
                    }
                    continue;
                }
                _ => {}
            }
            let plain = this.plain();
            if this.unseen().is_empty() && plain >= buf.remaining() as u64 {
                let before = buf.filled().len();
                ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
                this.passed((buf.filled().len() - before) as u64);
                return Poll::Ready(Ok(()));
            }
            let mut room = [const { MaybeUninit::<u8>::uninit() }; READ_BYTES];
            let mut arrived = ReadBuf::uninit(&mut room);
            ready!(Pin::new(&mut this.inner).poll_read(cx, &mut arrived))?;
            let arrived = arrived.filled();
            if arrived.is_empty() {
                return Poll::Ready(Ok(()));
            }
            if matches!(this.at, At::Head { .. }) {
                (this.head_began)();
            }
            this.held.extend_from_slice(arrived);
        }
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for CheckedIo<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, buf)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

const LINE_END: &str = "a line that does not end with CR LF";

/// Where the body of a request ends, by its head; what is wrong with a head that could be read in two ways.
pub(crate) fn framing(head: &[u8]) -> Result<Framing, &'static str> {
    let mut lines = Lines(head);
    let request = lines.next().ok_or(LINE_END)??;
    let mut words = request.split(|&b| b == b' ');
    let (Some(_), Some(target), Some(version), None) = (words.next(), words.next(), words.next(), words.next()) else {
        return Err("a first line that is no method, target and version");
    };
    let is_1_1 = match version {
        b"HTTP/1.1" => true,
        b"HTTP/1.0" => false,
        _ => return Err("a version of HTTP other than 1.1 and 1.0"),
    };
    let (mut length, mut chunked, mut host, mut upgrades) = (None, false, None, false);
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        let (name, value) = field(line)?;
        if name.eq_ignore_ascii_case(b"content-length") {
            if length.replace(decimal(value)?).is_some() {
                return Err("more than one Content-Length");
            }
        } else if name.eq_ignore_ascii_case(b"transfer-encoding") {
            if chunked || !value.eq_ignore_ascii_case(b"chunked") {
                return Err("a Transfer-Encoding other than one \"chunked\"");
            }
            chunked = true;
        } else if name.eq_ignore_ascii_case(b"host") {
            if host.replace(value).is_some() {
                return Err("more than one Host header");
            }
            if value
                .iter()
                .any(|b| !b.is_ascii_graphic() || b"/\\@,?#\"<>".contains(b))
            {
                return Err("a Host that is no host name");
            }
        } else if name.eq_ignore_ascii_case(b"upgrade") {
            upgrades = is_1_1;
        }
    }
    if is_1_1 && host.is_none() {
        return Err("no Host header");
    }
    if let Some(authority) = authority_of(target)
        && host.is_some_and(|h| !h.eq_ignore_ascii_case(authority))
    {
        return Err("a Host other than its target's");
    }
    match (length, chunked) {
        (Some(_), true) => Err("both Transfer-Encoding and Content-Length"),
        (None, true) if !is_1_1 => Err("a Transfer-Encoding in HTTP/1.0"),
        (None, true) => Ok(Body::Chunked),
        (length, false) => Ok(Body::Bytes(length.unwrap_or(0))),
    }
    .map(|body| Framing { body, upgrades })
}

/// The host of a target that is a whole address, as proxies are asked.
fn authority_of(target: &[u8]) -> Option<&[u8]> {
    let at = memchr::memmem::find(target, b"://")?;
    // a path may well hold such signs
    if target.starts_with(b"/") {
        return None;
    }
    let rest = &target[at + 3..];
    let end = rest.iter().position(|b| b"/?#".contains(b)).unwrap_or(rest.len());
    Some(&rest[..end])
}

/// Lines that end with CR LF, without it; a CR or LF anywhere else is an error.
struct Lines<'a>(&'a [u8]);

impl<'a> Iterator for Lines<'a> {
    type Item = Result<&'a [u8], &'static str>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let Some(end) = memchr::memchr2(b'\r', b'\n', self.0) else {
            self.0 = &[];
            return Some(Err(LINE_END));
        };
        if !self.0[end..].starts_with(b"\r\n") {
            self.0 = &[];
            return Some(Err(LINE_END));
        }
        let line = &self.0[..end];
        self.0 = &self.0[end + 2..];
        Some(Ok(line))
    }
}

fn field(line: &[u8]) -> Result<(&[u8], &[u8]), &'static str> {
    if line.starts_with(b" ") || line.starts_with(b"\t") {
        return Err("a header field that goes on in a second line");
    }
    let at = memchr::memchr(b':', line).ok_or("a header line without a colon")?;
    let (name, value) = (&line[..at], line[at + 1..].trim_ascii());
    if name.is_empty() || !name.iter().all(|&b| is_token(b)) {
        return Err("a header name with other characters than RFC 9110 allows (a blank before the colon?)");
    }
    if value.iter().any(|&b| (b < b' ' && b != b'\t') || b == 0x7f) {
        return Err("a header value with control characters");
    }
    Ok((name, value))
}

fn is_token(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b)
}

fn decimal(value: &[u8]) -> Result<u64, &'static str> {
    const WRONG: &str = "a Content-Length that is no whole number of bytes";
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(WRONG);
    }
    std::str::from_utf8(value)
        .ok()
        .and_then(|v| v.parse().ok())
        .ok_or(WRONG)
}

/// Follows a chunked body: how many bytes belong to it, and where it stands then (`None`: behind its end).
fn chunks(mut at: Chunk, bytes: &[u8]) -> (usize, Result<Option<Chunk>, &'static str>) {
    let mut n = 0;
    while n < bytes.len() {
        let b = bytes[n];
        at = match at {
            Chunk::Data { left } => {
                let here = ((bytes.len() - n) as u64).min(left);
                n += here as usize;
                at = if here == left {
                    Chunk::DataReturn
                } else {
                    Chunk::Data { left: left - here }
                };
                continue;
            }
            Chunk::Size { digits, value } => match (b as char).to_digit(16) {
                Some(_) if digits == SIZE_DIGITS_MAX => return (n, Err("a chunk larger than 64 bits")),
                Some(digit) => Chunk::Size {
                    digits: digits + 1,
                    value: value * 16 + u64::from(digit),
                },
                None if digits == 0 => return (n, Err("a chunk without a size")),
                None if b == b'\r' => Chunk::SizeEnd { value },
                None if b == b';' => Chunk::Extension { bytes: 1, value },
                None => return (n, Err("a chunk size with other characters than hexadecimal digits")),
            },
            Chunk::Extension { bytes, value } => match b {
                b'\r' => Chunk::SizeEnd { value },
                b'\n' => return (n, Err(LINE_END)),
                _ if bytes == EXTENSION_BYTES_MAX => return (n, Err("a chunk with long extensions")),
                _ => Chunk::Extension {
                    bytes: bytes + 1,
                    value,
                },
            },
            Chunk::SizeEnd { .. } | Chunk::DataEnd | Chunk::TrailerEnd { .. } if b != b'\n' => {
                return (n, Err(LINE_END));
            }
            Chunk::SizeEnd { value: 0 } => Chunk::Trailer { line: 0, bytes: 0 },
            Chunk::SizeEnd { value } => Chunk::Data { left: value },
            Chunk::DataReturn if b != b'\r' => return (n, Err("a chunk longer than its size")),
            Chunk::DataReturn => Chunk::DataEnd,
            Chunk::DataEnd => Chunk::Size { digits: 0, value: 0 },
            Chunk::Trailer { line, bytes } => match b {
                b'\r' => Chunk::TrailerEnd { line, bytes },
                b'\n' => return (n, Err(LINE_END)),
                _ if bytes == TRAILER_BYTES_MAX => return (n, Err("long trailers")),
                _ => Chunk::Trailer {
                    line: line + 1,
                    bytes: bytes + 1,
                },
            },
            Chunk::TrailerEnd { line: 0, .. } => return (n + 1, Ok(None)),
            Chunk::TrailerEnd { bytes, .. } => Chunk::Trailer { line: 0, bytes },
        };
        n += 1;
    }
    (n, Ok(Some(at)))
}

#[cfg(test)]
mod tests;
