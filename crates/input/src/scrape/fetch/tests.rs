use std::sync::Mutex;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;

/// A request as the target saw it.
#[derive(Clone, Debug)]
struct Asked {
    path: String,
    head: String,
    /// Its place on its connection, from 1.
    place: usize,
}

/// A server of raw answers; `None` closes the connection without a word.
struct Target {
    port: u16,
    asked: Arc<Mutex<Vec<Asked>>>,
}

impl Target {
    async fn new(answer: impl Fn(&Asked) -> Option<Vec<u8>> + Send + Sync + 'static) -> Target {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let (answer, log) = (Arc::new(answer), Arc::clone(&asked));
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, Arc::clone(&answer), Arc::clone(&log)));
            }
        });
        Target { port, asked }
    }

    fn asked(&self) -> Vec<Asked> {
        self.asked.lock().unwrap().clone()
    }
}

async fn serve<F: Fn(&Asked) -> Option<Vec<u8>>>(mut stream: TcpStream, answer: Arc<F>, log: Arc<Mutex<Vec<Asked>>>) {
    let mut place = 0;
    loop {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            match stream.read_u8().await {
                Ok(b) => head.push(b),
                Err(_) => return,
            }
        }
        place += 1;
        let head = String::from_utf8(head).unwrap();
        let asked = Asked {
            path: head.split(' ').nth(1).unwrap().to_owned(),
            head: head.to_ascii_lowercase(),
            place,
        };
        log.lock().unwrap().push(asked.clone());
        let Some(bytes) = answer(&asked) else { return };
        stream.write_all(&bytes).await.unwrap();
        // an answer without a length ends with its connection
        let text = String::from_utf8_lossy(&bytes).to_ascii_lowercase();
        if !text.contains("content-length") && !text.contains("chunked") || text.contains("connection: close") {
            return;
        }
    }
}

fn ok(body: &str) -> Option<Vec<u8>> {
    with("", body)
}

fn with(headers: &str, body: &str) -> Option<Vec<u8>> {
    Some(
        format!(
            "HTTP/1.1 200 OK\r\nContent-Length: {}\r\n{headers}\r\n{body}",
            body.len()
        )
        .into_bytes(),
    )
}

fn to(status: &str, location: &str) -> Option<Vec<u8>> {
    Some(format!("HTTP/1.1 {status}\r\nLocation: {location}\r\nContent-Length: 4\r\n\r\ngone").into_bytes())
}

struct Fetcher {
    client: Client,
    kept: Kept,
    follow_redirects: bool,
    body_bytes_max: usize,
}

impl Fetcher {
    fn new() -> Fetcher {
        Fetcher {
            client: Client::new().unwrap(),
            kept: Kept::default(),
            follow_redirects: true,
            body_bytes_max: 1000,
        }
    }

    async fn answer(&mut self, port: u16, path: &str) -> Result<Answer, String> {
        let url = format!("http://127.0.0.1:{port}{path}").parse().unwrap();
        let ask = Ask {
            url: &url,
            token: Some("secret"),
            timeout_seconds: 7,
            follow_redirects: self.follow_redirects,
            compressed: true,
            body_bytes_max: self.body_bytes_max,
        };
        let mut trail = Trail::default();
        let now = Duration::from_secs(1);
        let done = self.client.get(&ask, &mut self.kept, now, &mut trail).await;
        done.map_err(|e| trail.tell(e))
    }

    async fn get(&mut self, port: u16, path: &str) -> Result<String, String> {
        let answer = self.answer(port, path).await?;
        Ok(String::from_utf8(answer.body.to_vec()).unwrap())
    }
}

#[tokio::test]
async fn redirects_are_followed() {
    let target = Target::new(|r| match r.path.as_str() {
        "/a/301" => to("301 Moved Permanently", "../there"),
        "/302" => to("302 Found", "/there"),
        "/303" => to("303 See Other", "there?x=1"),
        "/307" => to("307 Temporary Redirect", "/302"),
        "/308" => to("308 Permanent Redirect", "//localhost.invalid/"),
        "/304" => to("304 Not Modified", "/there"),
        "/nowhere" => Some(b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
        "/missing" => to("302 Found", "/404?token=hidden"),
        "/there" | "/there?x=1" => ok("a 1\n"),
        _ => Some(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n".to_vec()),
    })
    .await;
    let mut f = Fetcher::new();
    for path in ["/a/301", "/302", "/303", "/307", "/there"] {
        assert_eq!(f.get(target.port, path).await.as_deref(), Ok("a 1\n"), "{path}");
    }
    // one connection for all of it
    let asked = target.asked();
    assert_eq!(asked.last().unwrap().place, asked.len());
    let head = &asked[0].head;
    for line in [
        "authorization: bearer secret",
        "x-prometheus-scrape-timeout-seconds: 7",
        "accept-encoding: gzip",
    ] {
        assert!(head.contains(line), "{head}");
    }
    assert_eq!(
        f.get(target.port, "/nowhere").await.unwrap_err(),
        "the target answered 302 Found"
    );
    assert!(f.get(target.port, "/304").await.unwrap_err().contains("304"));
    let missing = f.get(target.port, "/missing").await.unwrap_err();
    assert_eq!(
        missing,
        format!(
            "the target answered 404 Not Found (at http://127.0.0.1:{}/404?…, after 1 redirect)",
            target.port
        )
    );
    let unknown = f.get(target.port, "/308").await.unwrap_err();
    assert!(
        unknown.ends_with("(at http://localhost.invalid/, after 1 redirect)"),
        "{unknown}"
    );
    f.follow_redirects = false;
    assert_eq!(
        f.get(target.port, "/302").await.unwrap_err(),
        "the target answered 302 Found"
    );
}

#[tokio::test]
async fn a_circle_ends() {
    let target = Target::new(|_| to("302 Found", "/loop")).await;
    let e = Fetcher::new().get(target.port, "/loop").await.unwrap_err();
    assert_eq!(
        e,
        format!(
            "the target redirects without end: 10 redirects are followed (at http://127.0.0.1:{}/loop, after 10 redirects)",
            target.port
        )
    );
    assert_eq!(target.asked().len(), 11);
}

#[tokio::test]
async fn a_token_does_not_follow_to_another_server_and_does_not_come_back() {
    let home = Arc::new(Mutex::new(0));
    let back = Arc::clone(&home);
    let other = Target::new(move |_| to("302 Found", &format!("http://127.0.0.1:{}/end", back.lock().unwrap()))).await;
    let away = other.port;
    let target = Target::new(move |r| match r.path.as_str() {
        "/away" => to("302 Found", &format!("http://127.0.0.1:{away}/")),
        _ => ok(""),
    })
    .await;
    *home.lock().unwrap() = target.port;
    let mut f = Fetcher::new();
    f.get(target.port, "/away").await.unwrap();
    assert!(!other.asked()[0].head.contains("authorization"), "{:?}", other.asked());
    let asked = target.asked();
    assert!(asked[0].head.contains("authorization: bearer secret"));
    assert!(!asked[1].head.contains("authorization"), "{asked:?}");
}

#[tokio::test]
async fn a_kept_connection_that_was_closed_is_replaced_once() {
    let target = Target::new(|r| if r.place == 1 { ok("a 1\n") } else { None }).await;
    let mut f = Fetcher::new();
    for _ in 0..3 {
        assert_eq!(f.get(target.port, "/").await.as_deref(), Ok("a 1\n"));
    }
    // the second and the third are asked on the kept connection first
    let places: Vec<_> = target.asked().iter().map(|a| a.place).collect();
    assert_eq!(places, [1, 2, 1, 2, 1]);
}

#[tokio::test]
async fn a_new_connection_that_is_closed_is_a_failure() {
    let target = Target::new(|_| None).await;
    assert!(Fetcher::new().get(target.port, "/").await.is_err());
    assert_eq!(target.asked().len(), 1);
}

#[tokio::test]
async fn an_answer_that_had_begun_is_not_asked_for_again() {
    for begun in [
        "H",
        "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\na 1\n",
    ] {
        let target = Target::new(move |r| match r.place {
            1 => ok("a 1\n"),
            _ => Some(begun.as_bytes().to_vec()),
        })
        .await;
        let mut f = Fetcher::new();
        f.get(target.port, "/").await.unwrap();
        f.get(target.port, "/").await.unwrap_err();
        assert_eq!(target.asked().len(), 2, "{begun}");
    }
}

#[tokio::test]
async fn odd_heads_are_read() {
    let many: String = (0..500).map(|n| format!("x-{n}: {n}\r\n")).collect();
    let long = format!("x-long: {}\r\n", "v".repeat(300 << 10));
    let heads = [
        "content-type: text/plain\r\n".to_owned(),
        "Content-Type: text/plain\r\nContent-Type: text/html\r\n".to_owned(),
        "CONTENT-TYPE:text/plain\r\nX-Folded: one\r\n two\r\n".to_owned(),
        "Content-Type : text/plain\r\n".to_owned(),
        "not a header\r\nContent-Type: text/plain\r\n".to_owned(),
        "X-Latin: caf\u{e9}\r\nContent-Type: text/plain\r\n".to_owned(),
        format!("Content-Type: text/plain\r\n{many}"),
        format!("Content-Type: text/plain\r\n{long}"),
    ];
    for head in heads {
        let label: String = head.chars().take(60).collect();
        let target = Target::new(move |_| with(&head, "a 1\n")).await;
        let answer = Fetcher::new().answer(target.port, "/").await.expect(&label);
        assert_eq!(
            (answer.content_type.as_str(), &answer.body[..]),
            ("text/plain", &b"a 1\n"[..]),
            "{label}"
        );
    }
}

#[tokio::test]
async fn odd_answers_are_read() {
    for (what, bytes) in [
        ("HTTP/1.0", "HTTP/1.0 200 OK\r\n\r\na 1\n"),
        ("no reason", "HTTP/1.1 200\r\nContent-Length: 4\r\n\r\na 1\n"),
        (
            "early hints",
            "HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\n",
        ),
        (
            "chunks with extensions and trailers",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X\r\n\r\n2;a=b;c=\"d\"\r\na \r\n02\r\n1\n\r\n0\r\nX: y\r\n\r\n",
        ),
        (
            "both lengths",
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 99\r\n\r\n4\r\na 1\n\r\n0\r\n\r\n",
        ),
        (
            "more than stated",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\na 1\nb 2\n",
        ),
        (
            "the length twice",
            "HTTP/1.1 200 OK\r\nContent-Length: 4\r\nContent-Length: 4\r\n\r\na 1\n",
        ),
        ("bare line feeds", "HTTP/1.1 200 OK\nContent-Length: 4\n\na 1\n"),
    ] {
        let target = Target::new(move |_| Some(bytes.as_bytes().to_vec())).await;
        let mut f = Fetcher::new();
        for _ in 0..2 {
            assert_eq!(f.get(target.port, "/").await.as_deref(), Ok("a 1\n"), "{what}");
        }
    }
}

#[tokio::test]
async fn the_body_has_a_bound_and_an_end() {
    let target = Target::new(|r| match r.path.as_str() {
        "/stated" => ok(&"x".repeat(1001)),
        "/chunked" => Some(
            format!(
                "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3e9\r\n{}\r\n0\r\n\r\n",
                "x".repeat(1001)
            )
            .into_bytes(),
        ),
        "/short" => Some(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 9\r\n\r\na 1\n".to_vec()),
        "/redirect" => Some(
            format!(
                "HTTP/1.1 302 Found\r\nLocation: /full\r\nContent-Length: 5000\r\n\r\n{}",
                "x".repeat(5000)
            )
            .into_bytes(),
        ),
        _ => ok(&"x".repeat(1000)),
    })
    .await;
    let mut f = Fetcher::new();
    for path in ["/stated", "/chunked"] {
        let e = f.get(target.port, path).await.unwrap_err();
        assert_eq!(e, "the answer is larger than 1000 bytes (body_bytes_max)", "{path}");
    }
    let e = f.get(target.port, "/short").await.unwrap_err();
    assert!(e.starts_with("the answer broke off after 4 bytes"), "{e}");
    for path in ["/full", "/redirect"] {
        assert_eq!(f.get(target.port, path).await.unwrap().len(), 1000, "{path}");
    }
}
