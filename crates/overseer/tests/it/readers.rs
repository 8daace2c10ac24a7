//! What reads from Overseer: Debian's promtool and prometheus, pages of other origins, and remote read and federation
//! spoken by hand.
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::client::{self, PATIENCE, encode};
use crate::clients::{Running, free_port, program, start};
use crate::remote_write::{field, snappy, varint};
use crate::server::{Dir, Server, now_ms};

/// A server with a counter of two hosts that rises by one a second over the ten minutes before the time it gives.
fn filled(dir: &Dir) -> (Server, i64) {
    let server = Server::start(&dir.path().join("data"));
    let end = now_ms() / 1000 * 1000;
    for (host, factor) in [("a", 1.0), ("b", 2.0)] {
        let samples: Vec<(i64, f64)> = (0..=60)
            .map(|i| (end - 600_000 + i * 10_000, factor * (i * 10) as f64))
            .collect();
        server.must_write(
            &[("__name__", "requests_total"), ("host", host), ("job", "shop")],
            &samples,
        );
    }
    (server, end / 1000)
}

fn promtool(server: &Server, args: &[&str], rest: &[&str]) -> Option<(bool, String, String)> {
    let output = Command::new(program("promtool")?)
        .arg("query")
        .args(args)
        .arg(format!("http://{}", server.address))
        .args(rest)
        .output()
        .unwrap();
    let text = |b: &[u8]| String::from_utf8_lossy(b).trim().to_owned();
    Some((output.status.success(), text(&output.stdout), text(&output.stderr)))
}

#[test]
fn promtool_asks() {
    let dir = Dir::new();
    let (server, end) = filled(&dir);
    let time = format!("--time={end}");
    let Some((ok, text, _)) = promtool(
        &server,
        &["instant", &time],
        &["sum by (host) (max_over_time(requests_total[5m]))"],
    ) else {
        return;
    };
    assert!(ok);
    assert_eq!(
        text,
        format!("{{host=\"a\"}} => 600 @[{end}]\n{{host=\"b\"}} => 1200 @[{end}]")
    );
    let ask = |args: &[&str], rest: &[&str]| {
        let (ok, text, errors) = promtool(&server, args, rest).unwrap();
        assert!(ok, "{args:?} {rest:?}: {errors}");
        text
    };
    let json_of = |text: String| -> Value { serde_json::from_str(&text).unwrap() };
    assert_eq!(
        json_of(ask(&["-o", "json", "instant", &time], &["requests_total{host=\"a\"}"])),
        json!([{ "metric": { "__name__": "requests_total", "host": "a", "job": "shop" }, "value": [end, "600"] }])
    );
    let (from, to) = (format!("--start={}", end - 20), format!("--end={end}"));
    assert_eq!(
        json_of(ask(
            &["-o", "json", "range", &from, &to, "--step=10s"],
            &["max(requests_total)"]
        )),
        json!([{ "metric": {}, "values": [[end - 20, "1160"], [end - 10, "1180"], [end, "1200"]] }])
    );
    assert_eq!(
        ask(&["series", "--match=requests_total{host=\"b\"}"], &[]),
        "{__name__=\"requests_total\", host=\"b\", job=\"shop\"}"
    );
    assert_eq!(ask(&["labels"], &["host"]), "a\nb");
    let (ok, _, errors) = promtool(&server, &["instant"], &["sum(("]).unwrap();
    assert!(
        !ok && errors.contains("bad_data") && errors.contains("unclosed left parenthesis"),
        "{errors}"
    );
}

/// Debian's prometheus with a configuration, ready.
fn prometheus(dir: &Dir, name: &str, yaml: &str) -> Option<(Running, String)> {
    let binary = program("prometheus")?;
    let address = format!("127.0.0.1:{}", free_port());
    let config = dir.file(&format!("{name}.yml"), yaml);
    let running = start(
        Command::new(binary)
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", dir.path().join(name).display()))
            .arg(format!("--web.listen-address={address}")),
    );
    until("prometheus is ready", || {
        client::request(&address, "GET", "/-/ready", &[], b"")
            .is_some_and(|r| r.status == 200)
            .then_some(())
    });
    Some((running, address))
}

fn until<T>(what: &str, mut there: impl FnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + 2 * PATIENCE;
    loop {
        if let Some(value) = there() {
            return value;
        }
        assert!(Instant::now() < deadline, "never: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn query(address: &str, expr: &str, time: i64) -> Value {
    let target = format!("/api/v1/query?query={}&time={time}", encode(expr));
    client::request(address, "GET", &target, &[], b"").unwrap().json()["data"]["result"].clone()
}

#[test]
fn prometheus_reads_remotely() {
    let dir = Dir::new();
    let (server, end) = filled(&dir);
    // a long series: several chunks
    let long: Vec<(i64, f64)> = (0..1000)
        .map(|i| ((end - 599) * 1000 + i * 599, (i % 7) as f64))
        .collect();
    server.must_write(&[("__name__", "long"), ("job", "shop")], &long);
    let yaml = format!(
        "remote_read:\n  - url: http://{}/api/v1/read\n    read_recent: true\n",
        server.address
    );
    let Some((_running, address)) = prometheus(&dir, "reader", &yaml) else {
        return;
    };
    for expr in [
        "requests_total",
        "requests_total{host!~\"b|c\"}",
        "count_over_time(requests_total[5m])",
        "sum_over_time(long[9m]) + count_over_time(long[9m])",
        "sum by (job) (increase(requests_total[2m] offset 1m)) > 0",
        "no_such_metric",
    ] {
        // 2.42 takes a sample that lies on a window's left edge, 3.x and Overseer do not: ask beside them
        let time = end - 5;
        let ours = json!(server.query(expr, time as f64));
        assert_eq!(query(&address, expr, time), ours, "{expr}");
    }
    server.compact();
    assert_eq!(
        query(&address, "count_over_time(long[9m])", end),
        json!(server.query("count_over_time(long[9m])", end as f64))
    );
}

#[test]
fn prometheus_federates() {
    let dir = Dir::new();
    let (server, end) = filled(&dir);
    let scrape = |address: &str| {
        format!(
            "global: {{ scrape_interval: 1s }}\nscrape_configs:\n  - job_name: federate\n    honor_labels: true\n    metrics_path: /federate\n    \
             params: {{ 'match[]': ['requests_total'] }}\n    static_configs: [{{ targets: ['{address}'] }}]\n"
        )
    };
    let Some((_first, first)) = prometheus(&dir, "first", &scrape(&server.address)) else {
        return;
    };
    let expected = json!([
        { "metric": { "__name__": "requests_total", "host": "a", "job": "shop" }, "value": [end, "600"] },
        { "metric": { "__name__": "requests_total", "host": "b", "job": "shop" }, "value": [end, "1200"] },
    ]);
    let there = |address: &str| {
        until("federated samples", || {
            let found = query(address, "requests_total", end);
            (found.as_array()?.len() == 2).then_some(found)
        })
    };
    assert_eq!(there(&first), expected);
    // and on from there: what came from Overseer is a Prometheus' data like any other
    let (_second, second) = prometheus(&dir, "second", &scrape(&first)).unwrap();
    assert_eq!(there(&second), expected);
}

#[test]
fn federation_answers_the_text_format() {
    let dir = Dir::new();
    let (server, end) = filled(&dir);
    server.must_write(
        &[("__name__", "gone"), ("job", "shop")],
        &[
            (end * 1000 - 1000, 1.0),
            (end * 1000, f64::from_bits(0x7ff0_0000_0000_0002)),
        ],
    );
    let all = format!("/federate?match[]={}&match[]=requests_total", encode("{job=\"shop\"}"));
    let answer = server.get(&all).unwrap();
    assert_eq!(
        answer.header("content-type").unwrap(),
        "text/plain; version=0.0.4; charset=utf-8; escaping=underscores"
    );
    assert_eq!(
        answer.text(),
        format!(
            "# TYPE requests_total untyped\n\
             requests_total{{host=\"a\",job=\"shop\",instance=\"\"}} 600 {end}000\n\
             requests_total{{host=\"b\",job=\"shop\",instance=\"\"}} 1200 {end}000\n"
        )
    );
    assert_eq!(server.get("/federate").unwrap().text(), "");
    let refused = server.get("/federate?match[]=((").unwrap();
    assert_eq!(refused.status, 400);
    assert!(refused.header("content-type").unwrap().starts_with("text/plain") && refused.text().contains("match[]"));
}

fn read_request(metric: &str, start_ms: i64, end_ms: i64, form: u64) -> Vec<u8> {
    let (mut matcher, mut query, mut request) = (Vec::new(), Vec::new(), Vec::new());
    field(&mut matcher, 2, b"__name__");
    field(&mut matcher, 3, metric.as_bytes());
    for (number, at) in [(1, start_ms), (2, end_ms)] {
        varint(&mut query, number << 3);
        varint(&mut query, at as u64);
    }
    field(&mut query, 3, &matcher);
    field(&mut request, 1, &query);
    field(&mut request, 1, &query);
    varint(&mut request, 2 << 3);
    varint(&mut request, form);
    snappy(&request)
}

#[test]
fn remote_read_has_two_forms_and_plain_errors() {
    let dir = Dir::new();
    let (server, end) = filled(&dir);
    let ask = |body: &[u8]| server.post("/api/v1/read", &[("Content-Encoding", "snappy")], body);
    let range = |form| ask(&read_request("requests_total", end * 1000 - 20_000, end * 1000, form));
    let sampled = range(0);
    assert_eq!(
        (sampled.status, sampled.header("content-encoding")),
        (200, Some("snappy"))
    );
    assert_eq!(sampled.header("content-type").unwrap(), "application/x-protobuf");
    let streamed = range(1);
    assert_eq!(
        (streamed.status, streamed.header("content-type").unwrap()),
        (
            200,
            "application/x-streamed-protobuf; proto=prometheus.ChunkedReadResponse"
        )
    );
    // two queries of two series: four frames, each with its length in front
    let mut rest = &streamed.body[..];
    let mut frames = 0;
    while !rest.is_empty() {
        let length = usize::from(rest[0]);
        assert!(length < 0x80);
        rest = &rest[1 + 4 + length..];
        frames += 1;
    }
    assert_eq!(frames, 4);
    let nothing = ask(&read_request("nothing", 0, end * 1000, 1));
    assert_eq!((nothing.status, nothing.body.len()), (200, 0));
    for body in [
        &b""[..],
        b"not snappy",
        &snappy(&[0x0a, 0x7f]),
        &read_request("x", 0, 1, 9),
    ] {
        let refused = ask(body);
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.header("content-type").unwrap().starts_with("text/plain"));
    }
    assert_eq!(server.get("/api/v1/read").unwrap().status, 405);
}

#[test]
fn remote_read_keeps_to_the_budget_of_a_query() {
    let dir = Dir::new();
    let config = dir.file("overseer.yaml", "query:\n  samples_max: 50\n");
    let server = Server::with(&dir.path().join("data"), &["--config", config.to_str().unwrap()]);
    let samples: Vec<(i64, f64)> = (0..200).map(|i| (1_000_000 + i * 1000, i as f64)).collect();
    server.must_write(&[("__name__", "many")], &samples);
    for form in [0, 1] {
        let refused = server.post("/api/v1/read", &[], &read_request("many", 0, 2_000_000, form));
        assert_eq!(refused.status, 400, "{}", refused.text());
        assert!(refused.text().contains("query.samples_max"), "{}", refused.text());
    }
}

#[test]
fn pages_of_other_origins_read_and_do_no_more() {
    let dir = Dir::new();
    let config = dir.file(
        "overseer.yaml",
        "server:\n  cors_origins: [\"https://grafana.example\"]\n",
    );
    let all = dir.file("all.yaml", "server:\n  cors_origins: [\"*\"]\n");
    let open = Server::with(&dir.path().join("open"), &["--config", all.to_str().unwrap()]);
    let plain = Server::start(&dir.path().join("plain"));
    let listed = Server::with(&dir.path().join("listed"), &["--config", config.to_str().unwrap()]);
    let allowed = |server: &Server, method: &str, path: &str, origin: &str| {
        let answer = client::request(&server.address, method, path, &[("Origin", origin)], b"").unwrap();
        assert_eq!(answer.header("access-control-allow-credentials"), None);
        (
            answer.status,
            answer.header("access-control-allow-origin").map(str::to_owned),
        )
    };
    let (grafana, other) = ("https://grafana.example", "https://other.example");
    let any = Some("*".to_owned());
    assert_eq!(allowed(&open, "GET", "/api/v1/labels", other), (200, any.clone()));
    // an error must be readable too
    assert_eq!(
        allowed(&open, "GET", "/api/v1/query?query=(", other),
        (400, any.clone())
    );
    assert_eq!(allowed(&open, "OPTIONS", "/api/v1/query", other), (204, any));
    // without a login nobody else's page reads what this machine tells
    assert_eq!(allowed(&plain, "GET", "/api/v1/labels", other), (200, None));
    assert_eq!(
        allowed(&listed, "GET", "/api/v1/labels", grafana),
        (200, Some(grafana.to_owned()))
    );
    assert_eq!(allowed(&listed, "GET", "/api/v1/labels", other), (200, None));
    assert_eq!(allowed(&listed, "OPTIONS", "/api/v1/query", other), (204, None));
    for path in ["/api/v1/admin/flush", "/api/v1/write", "/api/v1/login"] {
        assert_eq!(allowed(&open, "OPTIONS", path, other).1, None, "{path}");
        let (status, origin) = allowed(&open, "POST", path, other);
        assert!(status >= 400 && origin.is_none(), "{path}: {status}");
    }
}

#[test]
fn the_server_tells_of_itself_as_prometheus_does() {
    let dir = Dir::new();
    let config = dir.file(
        "overseer.yaml",
        "scrape:\n  jobs:\n    - name: none\n      targets: [\"127.0.0.1:1\"]\n      interval_seconds: 3600\n",
    );
    let server = Server::with(&dir.path().join("data"), &["--config", config.to_str().unwrap()]);
    let get = |path: &str| server.get(path).unwrap();
    let data = |path: &str| get(path).json()["data"].clone();
    let yaml = data("/api/v1/status/config")["yaml"].as_str().unwrap().to_owned();
    assert!(yaml.contains("name: none") && yaml.contains("cors_origins"), "{yaml}");
    assert_eq!(data("/api/v1/scrape_pools"), json!({ "scrapePools": ["none"] }));
    let targets = |query: &str| {
        data(&format!("/api/v1/targets?{query}"))["activeTargets"]
            .as_array()
            .unwrap()
            .len()
    };
    assert_eq!(
        (targets(""), targets("state=Active"), targets("state=dropped")),
        (1, 1, 0)
    );
    assert_eq!((targets("scrapePool=none"), targets("scrapePool=x")), (1, 0));
    assert_eq!(
        data("/api/v1/targets/metadata?match_target={job=%22none%22}"),
        json!([])
    );
    assert_eq!(
        data("/api/v1/alertmanagers"),
        json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] })
    );
    assert_eq!(data("/api/v1/features")["promql_functions"]["rate"], true);
    assert_eq!(data("/api/v1/notifications"), json!([]));
    assert!(data("/api/v1/status/walreplay")["current"].is_u64());
    assert_eq!(data("/api/v1/metadata?limit=0"), json!({}));
    for bad in [
        "/api/v1/metadata?limit=x",
        "/api/v1/metadata?limit_per_metric=x",
        "/api/v1/rules?type=banana",
        "/api/v1/status/tsdb?limit=0",
        "/api/v1/status/tsdb?limit=10001",
        "/api/v1/series?match[]=up&limit=-1",
        "/api/v1/targets/metadata?match_target=((",
    ] {
        let answer = get(bad);
        assert_eq!(
            (answer.status, &answer.json()["errorType"]),
            (400, &json!("bad_data")),
            "{bad}"
        );
    }
}
