//! One HTTP request a connection, every wait bounded; and the little of WebSocket that a watching page needs.

use std::{
    io::{Read, Write},
    net::TcpStream,
    time::Duration,
};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// Bytes of an answer that are read at most.
const ANSWER_BYTES_MAX: u64 = 512 << 20;

/// Status and body; `None` when the server was not there, or went away before its answer was whole.
pub(super) fn request(port: u16, method: &str, target: &str, kind: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = connect(port)?;
    let length = body.len();
    let head = format!(
        "{method} {target} HTTP/1.0\r\nHost: 127.0.0.1:{port}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let body = answer.split_off(end + 4);
    let told = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length:")?.trim().parse::<usize>().ok());
    told.is_none_or(|n| n == body.len()).then_some((status, body))
}

pub(super) fn get(port: u16, target: &str) -> Option<(u16, Vec<u8>)> {
    request(port, "GET", target, "text/plain", b"")
}

pub(super) fn connect(port: u16) -> Option<TcpStream> {
    let stream = TcpStream::connect(("127.0.0.1", port)).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    Some(stream)
}

/// Text as a query parameter's value.
pub(super) fn encoded(text: &str) -> String {
    let mut out = String::new();
    for b in text.bytes() {
        if b.is_ascii_alphanumeric() || b"-_.~".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

/// Opens the live channel; the frames follow on the stream.
pub(super) fn open_live(port: u16) -> Option<TcpStream> {
    let mut stream = connect(port)?;
    let head = format!(
        "GET /api/v1/live HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    );
    stream.write_all(head.as_bytes()).ok()?;
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).ok()?;
        answer.push(byte[0]);
        if answer.len() > 8192 {
            return None;
        }
    }
    answer.starts_with(b"HTTP/1.1 101").then_some(stream)
}

/// Sends one text frame. Its mask is zero, which leaves the text as it is.
pub(super) fn send_text(stream: &mut TcpStream, text: &str) -> Option<()> {
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&u16::try_from(text.len()).ok()?.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    stream.write_all(&frame).ok()
}

/// Reads one frame and drops it; the bytes of its content.
pub(super) fn skip_frame(stream: &mut TcpStream) -> Option<u64> {
    let mut head = [0; 2];
    stream.read_exact(&mut head).ok()?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut more = [0; 2];
            stream.read_exact(&mut more).ok()?;
            u64::from(u16::from_be_bytes(more))
        }
        127 => {
            let mut more = [0; 8];
            stream.read_exact(&mut more).ok()?;
            u64::from_be_bytes(more)
        }
        short => u64::from(short),
    };
    // a close frame ends it
    if head[0] & 0x0f == 8 {
        return None;
    }
    if head[0] & 0x0f == 9 {
        let mut content = vec![0; usize::try_from(length).ok()?];
        stream.read_exact(&mut content).ok()?;
        let mut pong = vec![0x8a, 0x80 | (length as u8 & 0x7f), 0, 0, 0, 0];
        pong.extend_from_slice(&content);
        stream.write_all(&pong).ok()?;
        return Some(length);
    }
    let read = std::io::copy(&mut stream.take(length), &mut std::io::sink()).ok()?;
    (read == length).then_some(length)
}
