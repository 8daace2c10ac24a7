//! Who gets in, what is a page, whose parameter counts, and where a request ends.
use std::io::{Read, Write};
use std::net::TcpStream;

use gateway::Access;

use crate::client::{self, PATIENCE, Response, encode};
use crate::server::{Dir, Server, command, now_seconds};

const TOKEN: &str = "correct-horse-battery-staple";
const FORM: (&str, &str) = ("Content-Type", "application/x-www-form-urlencoded");

fn locked(dir: &Dir, extra: &str) -> Server {
    let token = dir.file("token", TOKEN);
    let config = dir.file("c.yaml", &format!("token_file: {}\n{extra}", token.display()));
    let mut start = command();
    start.args([
        "run",
        "--listen",
        "127.0.0.1:0",
        "--roles",
        crate::server::ROLES,
        "--config",
    ]);
    start.arg(config).arg("--data-dir").arg(dir.path().join("data"));
    Server::spawn(start).unwrap()
}

fn ask(server: &Server, method: &str, path: &str, headers: &[(&str, &str)]) -> Response {
    client::request(&server.address, method, path, headers, b"").expect("no answer")
}

fn bearer() -> (&'static str, &'static str) {
    ("Authorization", "Bearer correct-horse-battery-staple")
}

/// Logs in; the `Cookie` header to send.
fn log_in(server: &Server, headers: &[(&str, &str)]) -> (String, String) {
    let body = format!("{{\"token\":\"{TOKEN}\"}}");
    let answer = server.post("/api/v1/login", headers, body.as_bytes());
    assert_eq!(answer.status, 200, "{}", answer.text());
    let set = answer.header("set-cookie").unwrap().to_owned();
    (set.split(';').next().unwrap().to_owned(), set)
}

#[test]
fn without_the_token_no_route_answers() {
    let dir = Dir::new();
    let server = locked(&dir, "");
    let mut closed = 0;
    for (path, access) in gateway::routes() {
        let path = path.replace("{name}", "x");
        for prefix in ["", "/tenants/overseer", "/tenants/default"] {
            for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH"] {
                let status = ask(&server, method, &format!("{prefix}{path}"), &[]).status;
                if matches!(access, Access::Open | Access::Login) {
                    assert_ne!(status, 401, "{method} {prefix}{path}");
                } else {
                    assert_eq!(status, 401, "{method} {prefix}{path}");
                    closed += 1;
                }
            }
        }
    }
    assert!(closed > 500, "{closed}");
    for path in [
        "/api/v1/nothing",
        "/nothing",
        "/api/v1/status/nothing",
        "/tenants/overseer/x",
    ] {
        assert_eq!(ask(&server, "GET", path, &[]).status, 401, "{path}");
        assert_eq!(ask(&server, "GET", path, &[bearer()]).status, 404, "{path}");
    }
}

#[test]
fn wrong_tokens_are_slowed_down_and_keep_nobody_out() {
    let dir = Dir::new();
    let server = locked(&dir, "");
    let (cookie, _) = log_in(&server, &[]);
    let mut many = [0, 0];
    for i in 0..40 {
        let guess = format!("Bearer wrong-horse-battery-staple-{i}");
        let answer = ask(&server, "GET", "/api/v1/query?query=1", &[("Authorization", &guess)]);
        assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
        many[0] += u32::from(answer.status == 429);
        let body = format!("{{\"token\":\"wrong-{i}\"}}");
        let answer = server.post("/api/v1/login", &[], body.as_bytes());
        assert!(matches!(answer.status, 401 | 429), "{}", answer.status);
        many[1] += u32::from(answer.status == 429);
        if answer.status == 429 {
            assert!(answer.header("retry-after").is_some());
        }
    }
    assert!(many.iter().all(|n| *n > 25), "{many:?}");
    let right = |headers: &[(&str, &str)]| ask(&server, "GET", "/api/v1/query?query=1", headers).status;
    assert_eq!(right(&[bearer()]), 200);
    assert_eq!(right(&[("Cookie", &cookie)]), 200);
    log_in(&server, &[]);
    let metrics = ask(&server, "GET", "/metrics", &[bearer()]).text();
    for line in [
        "overseer_auth_failures_total{by=\"header\"} 40",
        "overseer_auth_failures_total{by=\"login\"} 40",
    ] {
        assert!(metrics.contains(line), "{metrics}");
    }
    let (_, log) = server.stop();
    assert!(log.contains("wrong tokens were given"), "{log}");
    assert!(log.matches("wrong tokens were given").count() < 10, "{log}");
    assert!(!log.contains("wrong-horse") && !log.contains(TOKEN), "{log}");
}

#[test]
fn wrong_tokens_are_put_down_to_whom_a_trusted_proxy_names() {
    let dir = Dir::new();
    let server = locked(&dir, "server: { trusted_proxies: [127.0.0.1] }\n");
    let guess = |from: &str| {
        let headers = [
            ("Authorization", "Bearer wrong-horse-battery-staple"),
            ("X-Forwarded-For", from),
        ];
        ask(&server, "GET", "/api/v1/query?query=1", &headers).status
    };
    assert!((0..30).any(|_| guess("203.0.113.7") == 429));
    assert_eq!(guess("203.0.113.8"), 401);
    assert_eq!(guess("203.0.113.8, 203.0.113.7"), 429, "only the nearest is believed");
    assert!(
        (0..30).any(|i| guess(&format!("2001:db8::{i:x}")) == 429),
        "a /64 is one sender"
    );
    let (_, set) = log_in(&server, &[("X-Forwarded-Proto", "https")]);
    assert!(set.ends_with("; Secure"), "{set}");
    let host = format!("https://{}", server.address);
    assert!(log_in(&server, &[("Origin", &host)]).1.ends_with("; Secure"));
    assert!(!log_in(&server, &[]).1.contains("Secure"));
}

/// The head of the answer to a WebSocket handshake, and the connection.
fn live(server: &Server, headers: &[(&str, &str)]) -> (String, TcpStream) {
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!(
        "GET /api/v1/live HTTP/1.1\r\nHost: {}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
        server.address
    );
    for (n, v) in headers {
        head.push_str(&format!("{n}: {v}\r\n"));
    }
    stream.write_all(format!("{head}\r\n").as_bytes()).unwrap();
    let mut answer = Vec::new();
    let mut one = [0];
    while !answer.ends_with(b"\r\n\r\n") && stream.read(&mut one).unwrap() == 1 {
        answer.push(one[0]);
    }
    (String::from_utf8(answer).unwrap(), stream)
}

fn says_something(stream: &mut TcpStream) {
    // a subscription to nothing, masked with zeros, is answered with an error
    let text = br#"{"op":"sub","id":"1","topic":"none"}"#;
    let frame = [&[0x81, 0x80 | text.len() as u8, 0, 0, 0, 0][..], text].concat();
    stream.write_all(&frame).unwrap();
    let mut got = Vec::new();
    let mut piece = [0; 512];
    while !String::from_utf8_lossy(&got).contains("there is no topic") {
        let n = stream.read(&mut piece).unwrap();
        assert!(n > 0, "closed");
        got.extend_from_slice(&piece[..n]);
    }
}

fn is_closed(stream: &mut TcpStream) {
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).expect("still open");
}

#[test]
fn logging_out_closes_what_is_open_and_a_restart_keeps_logins() {
    let dir = Dir::new();
    let server = locked(&dir, "");
    let (first, _) = log_in(&server, &[]);
    let (second, _) = log_in(&server, &[]);
    assert!(live(&server, &[]).0.starts_with("HTTP/1.1 401"));
    let foreign = [("Cookie", first.as_str()), ("Origin", "http://evil.example")];
    assert!(live(&server, &foreign).0.starts_with("HTTP/1.1 403"));
    let (head, mut of_first) = live(&server, &[("Cookie", &first)]);
    assert!(head.starts_with("HTTP/1.1 101"), "{head}");
    let (_, mut of_second) = live(&server, &[("Cookie", &second)]);
    let (_, mut of_token) = live(&server, &[bearer()]);
    says_something(&mut of_first);
    assert_eq!(server.post("/api/v1/logout", &[("Cookie", &first)], b"").status, 200);
    is_closed(&mut of_first);
    says_something(&mut of_second);
    says_something(&mut of_token);
    server.stop();
    let server = locked(&dir, "");
    let get = |cookie: &str| ask(&server, "GET", "/api/v1/self", &[("Cookie", cookie)]).status;
    assert_eq!(get(&first), 401);
    assert_eq!(get(&second), 200);
}

#[test]
fn other_origins_read_only_where_that_is_wished() {
    let allowed = |server: &Server| {
        let headers = [("Origin", "http://grafana.example"), bearer()];
        let answer = ask(server, "GET", "/api/v1/query?query=1", &headers);
        answer.header("access-control-allow-origin").map(str::to_owned)
    };
    let dir = Dir::new();
    let open = Server::start(&dir.path().join("open"));
    assert_eq!(allowed(&open), None, "without a login a page could read this machine");
    let wished = dir.file("w.yaml", "server: { cors_origins: [\"*\"] }\n");
    let wished = Server::with(&dir.path().join("wished"), &["--config", wished.to_str().unwrap()]);
    assert_eq!(allowed(&wished).as_deref(), Some("*"));
    assert_eq!(allowed(&locked(&dir, "")).as_deref(), Some("*"));
}

#[test]
fn paths_that_do_not_exist_are_no_pages() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let browser = ("Accept", "text/html,application/xhtml+xml,*/*;q=0.8");
    let is_html = |r: &Response| r.header("content-type").is_some_and(|t| t.starts_with("text/html"));
    for path in [
        "/status",
        "/api",
        "/prometheus",
        "/api/v2/buckets",
        "/loki/api/v1/push",
        "/explore/x",
        "/explore",
    ] {
        for method in ["GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            for accept in [None, Some(("Accept", "*/*")), Some(("Accept", "application/json"))] {
                let answer = ask(&server, method, path, accept.as_slice());
                assert_eq!(answer.status, 404, "{method} {path} {accept:?}");
                if method != "HEAD" {
                    assert_eq!(answer.json()["errorType"], "not_found", "{method} {path}");
                }
            }
        }
    }
    for path in ["/", "/explore", "/infra/", "/about?t=1h"] {
        let answer = ask(&server, "GET", path, &[browser]);
        assert_eq!((answer.status, is_html(&answer)), (200, true), "{path}");
    }
    for (path, status) in [("/nothing", 404), ("/api/v1/nothing", 404), ("/tenants/overseer/", 404)] {
        assert_eq!(ask(&server, "GET", path, &[browser]).status, status, "{path}");
    }
    assert_eq!(ask(&server, "POST", "/explore", &[browser]).status, 404);
    let health = ask(&server, "GET", "/health", &[]);
    assert_eq!((health.status, health.json()["status"].as_str()), (200, Some("pass")));
    assert_eq!(ask(&server, "GET", "/ready", &[]).json()["status"], "ready");
    assert_eq!(ask(&server, "GET", "/healthz", &[]).text(), "ok\n");
    let databases = ask(&server, "GET", "/query?q=SHOW+DATABASES", &[]).json();
    assert_eq!(databases["results"][0]["series"][0]["name"], "databases");
    let created = server.post("/query", &[FORM], b"q=CREATE+DATABASE+%22telegraf%22");
    assert_eq!(
        (created.status, created.json()["results"][0]["statement_id"].as_i64()),
        (200, Some(0))
    );
    assert_eq!(ask(&server, "GET", "/query?q=SELECT+1", &[]).status, 400);
}

#[test]
fn a_form_wins_over_the_url_and_bad_pairs_are_no_parameters() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let value = |target: &str, headers: &[(&str, &str)], body: &str| {
        let answer = server.post(target, headers, body.as_bytes());
        match answer.status {
            200 => answer.json()["data"]["result"][1].as_str().unwrap_or("?").to_owned(),
            status => status.to_string(),
        }
    };
    let query = "/api/v1/query";
    assert_eq!(value(&format!("{query}?query=1"), &[FORM], "query=2"), "2");
    assert_eq!(value(&format!("{query}?query=1"), &[FORM], "time=5"), "1");
    assert_eq!(value(&format!("{query}?query=1%2B"), &[FORM], "query=2"), "2");
    assert_eq!(value(&format!("{query}?query=1"), &[], "query=2"), "1");
    assert_eq!(
        value(
            &format!("{query}?query=1"),
            &[("Content-Type", "text/plain")],
            "query=2"
        ),
        "1"
    );
    assert_eq!(value(query, &[("Content-Type", "text/plain")], "query=2"), "400");
    assert_eq!(value(&format!("{query}?query=1"), &[FORM], "query=2;time=5"), "1");
    assert_eq!(value(query, &[FORM], "query=1;time=5"), "400");
    assert_eq!(
        value(&format!("{query}?query=1"), &[FORM], "query="),
        "400",
        "the form's empty value is the first"
    );
    assert_eq!(value(query, &[FORM], "query=1%20%2B+2&time=%zz"), "3");
    let series = server.post("/api/v1/series?match[]=a", &[FORM], b"match[]=b;match[]=c");
    assert_eq!(series.status, 400);
    let delete = server.post("/api/v1/admin/tsdb/delete_series?match[]=a;dry_run=1", &[], b"");
    assert_eq!(delete.status, 400, "half of a delete is no delete");
}

#[test]
fn the_smallest_and_largest_times_are_open_ends_everywhere() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let at = (now_seconds() * 1000.0) as i64;
    server.must_write(&[("__name__", "up"), ("job", "x")], &[(at, 1.0)]);
    for (low, high) in [
        ("-292273086-05-16T16:47:06Z", "292277025-08-18T07:12:54.999999999Z"),
        ("-9223309901257974", "9223309901257974"),
        ("-9223372036854775.808", "9223372036854775.807"),
        ("-1e300", "1e300"),
        ("0001-01-01T00:00:00Z", "9999-12-31T23:59:59Z"),
    ] {
        let range = format!("start={}&end={}", encode(low), encode(high));
        let data = |path: &str| {
            let answer = server.get(&format!("{path}{range}")).unwrap();
            assert_eq!(answer.status, 200, "{path}{range}: {}", answer.text());
            answer.json()["data"].as_array().unwrap().len()
        };
        assert_eq!(data("/api/v1/series?match[]=up&"), 1, "{range}");
        assert_eq!(data("/api/v1/labels?"), 2, "{range}");
        assert_eq!(data("/api/v1/label/job/values?"), 1, "{range}");
        assert_eq!(data("/api/v1/query_exemplars?query=up&"), 0, "{range}");
        let delete = format!("/api/v1/admin/tsdb/delete_series?match[]=up&dry_run=1&{range}");
        assert_eq!(server.post(&delete, &[], b"").json()["data"]["series"], 1, "{range}");
        for time in [low, high] {
            let target = format!("/api/v1/query?query=up&time={}", encode(time));
            assert_eq!(server.get(&target).unwrap().status, 200, "{target}");
        }
        let steps = format!("/api/v1/query_range?query=up&{range}&step=9000000000");
        assert_eq!(server.get(&steps).unwrap().status, 200, "{steps}");
    }
    // what arrives with such a time does no harm
    for line in ["m v=1 -9223372036854775808", "m v=1 9223372036854775807", "m v=1 -1"] {
        for precision in ["ns", "ms", "s", "h"] {
            let answer = server.post(&format!("/write?precision={precision}"), &[], line.as_bytes());
            assert!(
                matches!(answer.status, 204 | 400),
                "{line} {precision}: {}",
                answer.text()
            );
        }
    }
    let items = r#"[{"name":"n","value":1,"timestamp":-1e300},{"name":"n","value":1,"timestamp":"-292273086-05-16T16:47:06Z"}]"#;
    let answer = server.post(
        "/api/v1/metrics",
        &[("Content-Type", "application/json")],
        items.as_bytes(),
    );
    assert!(matches!(answer.status, 202 | 207 | 400), "{}", answer.text());
    server.flush();
    assert_eq!(server.value("up", now_seconds()), 1.0);
    assert_eq!(
        server.get("/api/v1/series?match[]=up&start=yesterday").unwrap().status,
        400
    );
}

#[test]
fn tenants_are_apart() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    server.must_write(&[("__name__", "mine"), ("job", "x")], &[(crate::server::now_ms(), 1.0)]);
    let theirs = "/tenants/overseer";
    let now = now_seconds();
    let steps = format!(
        "/api/v1/query_range?query=mine&start={}&end={}&step=15",
        now - 60.0,
        now + 60.0
    );
    for path in [
        "/api/v1/query?query=mine",
        &steps,
        "/api/v1/series?match[]=mine",
        "/api/v1/labels?match[]=mine",
        "/api/v1/label/job/values?match[]=mine",
        "/api/v1/query_exemplars?query=mine",
        "/federate?match[]=mine",
    ] {
        let (ours, other) = (
            server.get(path).unwrap(),
            server.get(&format!("{theirs}{path}")).unwrap(),
        );
        assert_eq!((ours.status, other.status), (200, 200), "{path}");
        assert!(!other.text().contains("\"x\""), "{path}: {}", other.text());
        if !path.contains("exemplars") {
            assert_ne!(ours.text(), other.text(), "{path}");
        }
        let default = server.get(&format!("/tenants/default{path}")).unwrap();
        assert_eq!(default.status, 200, "{path}");
        assert_eq!(
            server.get(&format!("/tenants/nobody{path}")).unwrap().status,
            404,
            "{path}"
        );
    }
    for (path, access) in gateway::routes() {
        if access != Access::Changes {
            continue;
        }
        let path = format!("{theirs}{}", path.replace("{name}", "x"));
        for method in ["POST", "PUT", "DELETE", "PATCH"] {
            assert_eq!(ask(&server, method, &path, &[]).status, 403, "{method} {path}");
        }
    }
    assert_eq!(server.value("mine", now_seconds()), 1.0);
}

#[test]
fn requests_that_could_be_two_are_refused_and_close_the_connection() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let second = "GET /api/v1/query?query=1 HTTP/1.1\r\nHost: localhost\r\n\r\n";
    let post = "POST /api/v1/query HTTP/1.1\r\nHost: localhost\r\n";
    let cases = [
        format!("{post}Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n"),
        format!("{post}Content-Length: 0\r\nContent-Length: 0\r\n\r\n"),
        format!("{post}Content-Length: 0, 0\r\n\r\n"),
        format!("{post}Content-Length : 0\r\n\r\n"),
        format!("{post}Transfer-Encoding: xchunked\r\n\r\n"),
        format!("{post}Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n"),
        format!("{post}X: a\r\n Content-Length: 5\r\n\r\n"),
        format!("{post}X: a\nContent-Length: 0\r\n\r\n"),
        format!("{post}X: a\rContent-Length: 0\r\n\r\n"),
        format!("{post}Host: b\r\n\r\n"),
        "POST /api/v1/query HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n".to_owned(),
        "GET http://evil.example/ HTTP/1.1\r\nHost: localhost\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\r\n\r\n".to_owned(),
        "GET / HTTP/1.1\nHost: localhost\n\n".to_owned(),
    ];
    for case in cases {
        // alone, and behind a good request on the same connection
        for before in ["", second] {
            let answer = client::raw(&server.address, format!("{before}{case}{second}").as_bytes());
            let answer = answer.unwrap_or_else(|| panic!("no answer: {case:?}"));
            let all = format!("{}\r\n\r\n{}", answer.head, answer.text());
            let statuses: Vec<&str> = all
                .match_indices("HTTP/1.1 ")
                .map(|(at, _)| &all[at + 9..at + 12])
                .collect();
            let expected: &[&str] = if before.is_empty() { &["400"] } else { &["200", "400"] };
            assert_eq!(statuses, expected, "{case:?}: {all}");
        }
    }
    // chunked bodies that could end in two places are not read to their end
    for body in [
        "3\nabc\r\n0\r\n\r\n",
        "3;x\nabc\r\n0\r\n\r\n",
        "4\r\nabc\r\n0\r\n\r\n",
        "0\r\nX: a\n\r\n",
    ] {
        let request = format!(
            "{post}{}: {}\r\nTransfer-Encoding: chunked\r\n\r\n{body}{second}",
            FORM.0, FORM.1
        );
        if let Some(answer) = client::raw(&server.address, request.as_bytes()) {
            assert_eq!(answer.status, 400, "{body:?}");
            assert!(!answer.text().contains("HTTP/1.1"), "{body:?}: {}", answer.text());
        }
    }
    // and ordinary ones are, one after the other
    let form = "7\r\nquery=2\r\n0;last\r\nX: a\r\n\r\n";
    let chunked = format!(
        "{post}{}: {}\r\nTransfer-Encoding: chunked\r\n\r\n{form}",
        FORM.0, FORM.1
    );
    let last = second.replace("\r\n\r\n", "\r\nConnection: close\r\n\r\n");
    let answer = client::raw(&server.address, format!("{chunked}{chunked}{last}").as_bytes()).unwrap();
    assert_eq!(
        answer.text().matches("HTTP/1.1 200").count() + 1,
        3,
        "{}",
        answer.text()
    );
}
