//! Hostile and malformed input: a refusal in words, no harm to anything else.
use crate::client;
use crate::remote_write::{HEADERS, series, snappy};
use crate::server::{Dir, Server, now_ms, now_seconds};

/// The server must live, answer and take a write after each case.
struct Unharmed<'a> {
    server: &'a mut Server,
    writes: i64,
}

impl Unharmed<'_> {
    fn after(&mut self, case: &str) {
        assert!(self.server.runs(), "{case}: it died:\n{}", self.server.log());
        self.writes += 1;
        let at = now_ms() - 60_000 + self.writes;
        self.server
            .must_write(&[("__name__", "canary")], &[(at, self.writes as f64)]);
        let canary = self.server.samples("canary", now_seconds(), 600);
        assert_eq!(canary.len() as i64, self.writes, "{case}");
        assert!(canary.windows(2).all(|w| w[1].1 == w[0].1 + 1.0), "{case}: {canary:?}");
    }
}

fn varint(mut n: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out
}

#[test]
fn write_bodies() {
    let dir = Dir::new();
    let mut server = Server::start(dir.path());
    let good = series(&[("__name__", "x")], &[(now_ms(), 1.0)]);
    let lie = |length: u64| [varint(length), snappy(&good)[1..].to_vec()].concat();
    let bomb = {
        let mut b = varint(256 << 20);
        b.extend([0, 0]);
        for _ in 0..(256 << 20) / 64 {
            b.extend([63 << 2 | 2, 1, 0]);
        }
        b
    };
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("not snappy", vec![0xde; 400]),
        ("truncated", snappy(&good)[..snappy(&good).len() - 3].to_vec()),
        ("claims 4 GiB", lie(u64::from(u32::MAX))),
        ("claims 2^63", lie(1 << 63)),
        ("a bomb of 256 MiB", bomb),
        ("garbage", snappy(&[0xff; 200])),
        (
            "a length of 2^62",
            snappy(&[vec![0x0a], varint(1 << 62), b"abc".to_vec()].concat()),
        ),
        ("groups 100,000 deep", snappy(&[0xa3, 0x06].repeat(100_000))),
        ("no labels", snappy(&series(&[], &[(now_ms(), 1.0)]))),
        (
            "no UTF-8",
            snappy(&[&b"\x0a\x10\x0a\x05\x0a\x01a\x12\x00\x0a\x07\x0a\x01u\x12\x02\xff\xfe"[..]].concat()),
        ),
        (
            "a name of 1 MiB",
            snappy(&series(&[("__name__", &"m".repeat(1 << 20))], &[(now_ms(), 1.0)])),
        ),
    ];
    let mut unharmed = Unharmed {
        server: &mut server,
        writes: 0,
    };
    for (case, body) in cases {
        let answer = unharmed.server.post("/api/v1/write", &HEADERS, &body);
        assert!((400..500).contains(&answer.status), "{case}: {}", answer.status);
        assert!(answer.json()["error"].as_str().is_some_and(|e| !e.is_empty()), "{case}");
        unharmed.after(case);
    }
    let hostile: [(&str, &str, &[u8]); 5] = [
        ("/v1/metrics", "application/json", &[b'['; 100_000]),
        ("/v1/metrics", "application/x-protobuf", b"\x0a\xff\x01abc"),
        ("/v1/metrics", "text/html", b"x"),
        ("/write", "text/plain", b"inf v=99999999999999999999i"),
        ("/api/v1/metrics", "application/json", &[b'['; 100_000]),
    ];
    for (path, kind, body) in hostile {
        let answer = unharmed.server.post(path, &[("Content-Type", kind)], body);
        assert!(
            (400..500).contains(&answer.status),
            "{path} {kind}: {} {}",
            answer.status,
            answer.text()
        );
        unharmed.after(path);
    }
}

#[test]
fn queries() {
    let dir = Dir::new();
    let mut server = Server::start(dir.path());
    let deep = |open: &str, n: usize, close: &str| format!("{}1{}", open.repeat(n), close.repeat(n));
    let cases = [
        deep("(", 100_000, ")"),
        deep("(", 5_000, ")"),
        format!("{}1", "-".repeat(30_000)),
        format!("1{}", "^1".repeat(20_000)),
        format!("1{}", "+1".repeat(20_000)),
        "canary[99999999999999999999y]".into(),
        "canary offset 9223372036854775807s".into(),
        "up{a=~\"((x{100}){100}){100}\"}".into(),
        "count_over_time(vector(1)[1y:1s])".into(),
        format!(
            "{}canary{}",
            "label_join(".repeat(30),
            ",\"k\",\"\",\"k\",\"k\")".repeat(30)
        ),
        "\u{0}".into(),
    ];
    let mut unharmed = Unharmed {
        server: &mut server,
        writes: 0,
    };
    for case in cases {
        let form = format!("query={}&time={}", client::encode(&case), now_seconds());
        let headers = [("Content-Type", "application/x-www-form-urlencoded")];
        let answer = unharmed.server.post("/api/v1/query", &headers, form.as_bytes());
        let shown: String = case.chars().take(40).collect();
        assert!(
            matches!(answer.status, 200 | 400..=499 | 503),
            "{shown}: {} {}",
            answer.status,
            answer.text()
        );
        unharmed.after(&shown);
    }
}

#[test]
fn requests_that_two_readers_could_understand_differently() {
    let dir = Dir::new();
    let mut server = Server::start(dir.path());
    let mut unharmed = Unharmed {
        server: &mut server,
        writes: 0,
    };
    let second = "0\r\n\r\nGET /api/v1/query?query=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\n";
    let cases = [
        (
            "both lengths",
            format!(
                "{post}Content-Length: {}\r\nTransfer-Encoding: chunked\r\n\r\n{second}",
                second.len()
            ),
        ),
        (
            "unknown coding",
            format!(
                "{post}Content-Length: {}\r\nTransfer-Encoding: xchunked\r\n\r\n{second}",
                second.len()
            ),
        ),
        (
            "two lengths",
            format!("{post}Content-Length: 7\r\nContent-Length: 40\r\n\r\nquery=1"),
        ),
        ("a negative length", format!("{post}Content-Length: -1\r\n\r\nquery=1")),
        (
            "a blank before the colon",
            format!("{post}Content-Length : 5\r\n\r\nhello"),
        ),
        ("no host", "GET /api/v1/query?query=1 HTTP/1.1\r\n\r\n".to_owned()),
        (
            "two hosts",
            "GET /api/v1/query?query=1 HTTP/1.1\r\nHost: localhost\r\nHost: b\r\n\r\n".to_owned(),
        ),
        ("garbage", "\u{1}\u{2}\u{3}\r\n\r\n".to_owned()),
    ];
    for (case, request) in cases {
        if let Some(answer) = client::raw(&unharmed.server.address, request.as_bytes()) {
            assert!((400..=501).contains(&answer.status), "{case}: {}", answer.status);
            assert!(
                !answer.text().contains("HTTP/1.1"),
                "{case}: a second request was answered"
            );
        }
        unharmed.after(case);
    }
    for path in [
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
        "/.git/config",
    ] {
        let answer = unharmed.server.get(path).unwrap();
        assert!(!answer.text().contains("root:"), "{path}");
        assert_ne!(answer.status, 200, "{path}");
    }
    let page = unharmed.server.get("/").unwrap();
    assert!(
        page.header("content-security-policy")
            .unwrap()
            .contains("default-src 'self'")
    );
    assert_eq!(page.header("x-content-type-options"), Some("nosniff"));
}
