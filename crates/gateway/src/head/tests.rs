use tokio::io::{AsyncReadExt, AsyncWriteExt};

use super::*;

fn of(text: &str) -> Result<Framing, &'static str> {
    framing(text.as_bytes())
}

#[test]
fn heads_that_one_reader_understands() {
    let body = |text: &str| of(text).map(|f| f.body);
    assert_eq!(body("GET / HTTP/1.1\r\nHost: a\r\n\r\n"), Ok(Body::Bytes(0)));
    assert_eq!(body("GET / HTTP/1.0\r\n\r\n"), Ok(Body::Bytes(0)));
    assert_eq!(
        body("POST /x HTTP/1.1\r\nhOST:\t[::1]:7070 \r\ncontent-LENGTH: 12\r\n\r\n"),
        Ok(Body::Bytes(12))
    );
    assert_eq!(
        body("POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: Chunked\r\n\r\n"),
        Ok(Body::Chunked)
    );
    assert_eq!(
        body("GET http://a:1/x HTTP/1.1\r\nHost: A:1\r\n\r\n"),
        Ok(Body::Bytes(0))
    );
    assert_eq!(
        body("GET /go?to=http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"),
        Ok(Body::Bytes(0))
    );
    assert!(
        of("GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n")
            .unwrap()
            .upgrades
    );
}

#[test]
fn heads_that_could_be_read_in_two_ways() {
    let post = "POST / HTTP/1.1\r\nHost: a\r\n";
    for fields in [
        "Content-Length: 5\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding: chunked\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 5",
        "Content-Length: 5\r\nContent-Length: 6",
        "Content-Length: 5, 5",
        "Content-Length: +5",
        "Content-Length: -5",
        "Content-Length: 0x5",
        "Content-Length: 5 5",
        "Content-Length:",
        "Content-Length: 99999999999999999999",
        "Content-Length : 5",
        "Content-Length\t: 5",
        "Transfer-Encoding: xchunked",
        "Transfer-Encoding: chunked, chunked",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: \"chunked\"",
        "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity",
        "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked",
        "Transfer-Encoding : chunked",
        "Transfer-Encoding\u{b}: chunked",
        "Transfer-Encoding:\u{b}chunked",
        "X: a\r\n Transfer-Encoding: chunked",
        "X: a\r\n\tb",
        "X: a\nTransfer-Encoding: chunked",
        "X: a\rTransfer-Encoding: chunked",
        "X: a\r\r\nTransfer-Encoding: chunked",
        "X: a\0b",
        ": a",
        "no colon",
        "Host: a",
        "Host: b",
    ] {
        let head = format!("{post}{fields}\r\n\r\n");
        assert!(of(&head).is_err(), "{fields:?}: {:?}", of(&head));
    }
    for head in [
        "GET / HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
        "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / x HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET /\r\nHost: a\r\n\r\n",
        "PRI * HTTP/2.0\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.2\r\nHost: a\r\n\r\n",
        " GET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a, b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: user@a\r\n\r\n",
        "GET / HTTP/1.1\r\n Host: a\r\n\r\n",
    ] {
        assert!(of(head).is_err(), "{head:?}");
    }
}

#[test]
fn chunked_bodies_end_where_they_end() {
    let first = Chunk::Size { digits: 0, value: 0 };
    for (body, behind) in [
        ("0\r\n\r\n", "GET"),
        ("3\r\nabc\r\n00a\r\n0123456789\r\n0\r\n\r\n", "GET"),
        ("3;name=value;x\r\nabc\r\n0;y\r\nA: b\r\nC: d\r\n\r\n", "x"),
    ] {
        let text = format!("{body}{behind}");
        assert_eq!(chunks(first, text.as_bytes()), (body.len(), Ok(None)), "{body:?}");
        // the same byte by byte
        let mut at = first;
        for (i, b) in body.bytes().enumerate() {
            match chunks(at, &[b]) {
                (1, Ok(Some(next))) => at = next,
                (1, Ok(None)) => assert_eq!(i + 1, body.len(), "{body:?}"),
                other => panic!("{body:?} at {i}: {other:?}"),
            }
        }
    }
    for body in [
        "zz\r\nabc",
        "\r\n",
        "3 \r\nabc\r\n",
        "3\nabc\r\n",
        "3\r\nabcd\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3;x\nabc\r\n",
        "3;x\rabc\r\n",
        "fffffffffffffffff\r\nabc",
        "-1\r\n",
        "0x3\r\nabc",
        "0\r\n\n",
        "0\r\nA: b\n\r\n",
    ] {
        assert!(chunks(first, body.as_bytes()).1.is_err(), "{body:?}");
    }
    let long = format!("3;{}\r\n", "x".repeat(EXTENSION_BYTES_MAX));
    assert!(chunks(first, long.as_bytes()).1.is_err());
    let long = format!("0\r\n{}", "a: b\r\n".repeat(TRAILER_BYTES_MAX / 2));
    assert!(chunks(first, long.as_bytes()).1.is_err());
}

/// What the reader gets of `sent` when it arrives in pieces of so many bytes and is read in pieces of `read`; whether
/// the rest was refused, and the number of the head that was.
async fn handed_over(sent: &[u8], pieces: usize, read: usize) -> (Vec<u8>, Option<(u64, &'static str)>) {
    let (mut client, server) = tokio::io::duplex(1 << 20);
    let heads = Arc::new(Heads::default());
    let mut checked = CheckedIo::new(server, Arc::clone(&heads), || {});
    let mut got = Vec::new();
    let mut buffer = vec![0; read];
    let mut take = async |got: &mut Vec<u8>| {
        let mut polled = std::pin::pin!(checked.read(&mut buffer));
        let n = std::future::poll_fn(|cx| Poll::Ready(polled.as_mut().poll(cx))).await;
        match n {
            Poll::Ready(Ok(n)) if n > 0 => {
                got.extend_from_slice(&buffer[..n]);
                true
            }
            _ => false,
        }
    };
    for piece in sent.chunks(pieces) {
        client.write_all(piece).await.unwrap();
        while take(&mut got).await {}
    }
    let refused = heads.told().refused;
    (got, refused)
}

#[tokio::test]
async fn requests_go_through_byte_for_byte_however_they_arrive() {
    let requests = [
        "\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 11\r\n\r\nhello world",
        "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5;x=y\r\nhello\r\n0\r\nT: u\r\n\r\n",
        "GET /last HTTP/1.1\r\nHost: a\r\n\r\n",
    ]
    .concat();
    let bad = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /evil HTTP/1.1\r\nHost: a\r\n\r\n";
    for pieces in [1, 2, 7, 64, 10_000] {
        for read in [1, 5, 8192] {
            let (got, refused) = handed_over(requests.as_bytes(), pieces, read).await;
            assert_eq!(String::from_utf8(got).unwrap(), requests[2..], "{pieces} {read}");
            assert_eq!(refused, None);
            let both = format!("{requests}{bad}");
            let (got, refused) = handed_over(both.as_bytes(), pieces, read).await;
            let expected = [&requests.as_bytes()[2..], STAND_IN].concat();
            assert_eq!(String::from_utf8(got).unwrap(), String::from_utf8(expected).unwrap());
            assert_eq!(refused, Some((5, "both Transfer-Encoding and Content-Length")));
        }
    }
}

#[tokio::test]
async fn behind_an_upgrade_nothing_is_read_before_it_is_answered() {
    let upgrade = b"GET /live HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n";
    for (switches, behind) in [
        (true, &b"\x81\x85 no HTTP"[..]),
        (false, b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"),
    ] {
        let (mut client, server) = tokio::io::duplex(1 << 16);
        let heads = Arc::new(Heads::default());
        let mut checked = CheckedIo::new(server, Arc::clone(&heads), || {});
        client.write_all(&[upgrade, behind].concat()).await.unwrap();
        let mut got = vec![0; upgrade.len()];
        checked.read_exact(&mut got).await.unwrap();
        assert_eq!(got, upgrade);
        let mut one = [0];
        let early = tokio::select! {
            biased;
            _ = checked.read(&mut one) => true,
            () = std::future::ready(()) => false,
        };
        assert!(!early);
        heads.answered(switches);
        let mut got = vec![0; behind.len()];
        checked.read_exact(&mut got).await.unwrap();
        assert_eq!(got, behind);
    }
}
