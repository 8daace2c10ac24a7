use serde_json::json;

use crate::server::{Dir, Server, now_seconds};

fn filled(dir: &Dir) -> Server {
    let server = Server::start(dir.path());
    for host in ["a", "b"] {
        for step in 0..10 {
            let labels = [("__name__", "requests_total"), ("host", host), ("quoted", "a\"b\\c\nd")];
            server.must_write(&labels, &[(1_000_000 + step * 10_000, (step * 10) as f64)]);
        }
    }
    server.must_write(&[("__name__", "temp")], &[(1_090_000, 21.5)]);
    server
}

#[test]
fn queries_in_prometheus_shapes() {
    let dir = Dir::new();
    let server = filled(&dir);
    let answer = server.get("/api/v1/query?query=temp&time=1090").unwrap().json();
    assert_eq!(
        answer,
        json!({ "status": "success", "data": { "resultType": "vector",
            "result": [{ "metric": { "__name__": "temp" }, "value": [1090, "21.5"] }] } })
    );
    let form = [("Content-Type", "application/x-www-form-urlencoded")];
    let body = b"query=sum(rate(requests_total[1m]))&start=1060&end=1090&step=10s";
    let answer = server.post("/api/v1/query_range", &form, body).json();
    assert_eq!(answer["data"]["resultType"], "matrix");
    let points = answer["data"]["result"][0]["values"].as_array().unwrap();
    assert_eq!((points.len(), &points[3]), (4, &json!([1090, "2"])), "{answer}");
    assert_eq!(server.value("count(requests_total @ 1090 offset 10s)", 5.0), 2.0);
    assert_eq!(
        server.value("max_over_time(sum(requests_total)[1m:10s])", 1090.0),
        180.0
    );
    let labels = server.query("requests_total{host=\"a\"}", 1090.0);
    assert_eq!(labels[0]["metric"]["quoted"], "a\"b\\c\nd");
}

#[test]
fn names_and_values() {
    let dir = Dir::new();
    let server = filled(&dir);
    let get = |target: &str| server.get(target).unwrap().json()["data"].clone();
    for _ in 0..2 {
        assert_eq!(get("/api/v1/labels"), json!(["__name__", "host", "quoted"]));
        assert_eq!(get("/api/v1/label/__name__/values"), json!(["requests_total", "temp"]));
        assert_eq!(
            get("/api/v1/label/host/values?match[]=requests_total"),
            json!(["a", "b"])
        );
        assert_eq!(get("/api/v1/label/host/values?match[]=temp"), json!([]));
        assert_eq!(get("/api/v1/series?match[]=temp"), json!([{ "__name__": "temp" }]));
        assert_eq!(get("/api/v1/series?match[]=temp&start=5000&end=6000"), json!([]));
        assert_eq!(get("/api/v1/status/tsdb")["headStats"]["numSeries"], 3);
        server.compact(); // the same from files
    }
    // a range that ends before it starts holds nothing, and is no error
    for path in ["series?match[]=temp", "labels?x", "label/host/values?x"] {
        assert_eq!(get(&format!("/api/v1/{path}&start=2000&end=1000")), json!([]), "{path}");
    }
    assert!(get("/api/v1/status/buildinfo")["version"].is_string());
    let nothing = server.get("/api/v1/query_exemplars?query=1").unwrap();
    assert_eq!((nothing.status, nothing.body.len()), (204, 0));
    let warned = server.get("/api/v1/query?query=1&stats=some").unwrap().json();
    assert!(warned["warnings"][0].as_str().unwrap().contains("stats"), "{warned}");
}

#[test]
fn errors_have_their_type_and_status() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    for (target, status, kind, says) in [
        ("/api/v1/query?query=sum((", 400, "bad_data", "parse error"),
        ("/api/v1/query", 400, "bad_data", "query"),
        ("/api/v1/query?query=1&time=yesterday", 400, "bad_data", "RFC 3339"),
        (
            "/api/v1/query_range?query=1&start=1&end=0&step=1",
            400,
            "bad_data",
            "before start",
        ),
        (
            "/api/v1/query_range?query=1&start=0&end=1&step=0",
            400,
            "bad_data",
            "step",
        ),
        (
            "/api/v1/query_range?query=1&start=0&end=1e9&step=1",
            400,
            "bad_data",
            "11000 points",
        ),
        ("/api/v1/series", 400, "bad_data", "match[]"),
        ("/api/v1/nothing", 404, "not_found", "/api/v1/nothing"),
        (
            "/api/v1/query?query=label_replace(vector(1),%22%22,%22%22,%22%22,%22(%22)",
            400,
            "bad_data",
            "",
        ),
    ] {
        let answer = server.get(target).unwrap();
        let body = answer.json();
        let error = body["error"].as_str().unwrap();
        if says.is_empty() {
            assert!(answer.status >= 400, "{target}: {body}");
            continue;
        }
        assert_eq!(
            (answer.status, &body["errorType"]),
            (status, &json!(kind)),
            "{target}: {body}"
        );
        assert!(error.contains(says), "{target}: {error}");
    }
}

#[test]
fn overseer_s_own_metrics_are_in_their_own_tenant() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let text = server.get("/metrics").unwrap().text();
    for name in [
        "process_resident_memory_bytes",
        "overseer_intake_samples_total",
        "overseer_log_durable_position",
    ] {
        assert!(text.contains(name), "{name} is missing:\n{text}");
    }
    assert_eq!(server.get("/api/v1/labels").unwrap().json()["data"], json!([]));
    let deadline = std::time::Instant::now() + crate::client::PATIENCE;
    loop {
        let target = format!(
            "/tenants/overseer/api/v1/query?query=overseer_build_info&time={}",
            now_seconds()
        );
        let answer = server.get(&target).unwrap().json();
        if answer["data"]["result"].as_array().is_some_and(|r| !r.is_empty()) {
            break;
        }
        assert!(
            std::time::Instant::now() < deadline,
            "no telemetry of its own: {answer}"
        );
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
    assert_eq!(server.post("/tenants/overseer/api/v1/metrics", &[], b"{}").status, 403);
    assert_eq!(server.get("/tenants/nobody/api/v1/labels").unwrap().status, 404);
}
