use serde_json::json;

use crate::remote_write::series;
use crate::server::{Dir, Server, now_ms, now_seconds};

#[test]
fn remote_write_is_visible_at_once_and_stored_in_part_when_a_part_is_bad() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = now_ms();
    server.must_write(&[("__name__", "m"), ("a", "1")], &[(now - 1000, 1.0), (now, 2.0)]);
    assert_eq!(server.samples("m", now_seconds(), 60), [(now - 1000, 1.0), (now, 2.0)]);

    let mut mixed = series(&[("__name__", "m"), ("a", "2")], &[(now, 5.0)]);
    mixed.extend(series(&[("__name__", "far")], &[(now + 3_600_000, 1.0)]));
    mixed.extend(series(&[("__name__", "dup"), ("x", "1"), ("x", "2")], &[(now, 1.0)]));
    mixed.extend(series(&[("__name__", "m"), ("a", "3")], &[(now, 6.0)]));
    let answer = server.write(&mixed);
    assert_eq!(answer.status, 400);
    let error = answer.json()["error"].as_str().unwrap().to_owned();
    assert!(error.starts_with("2 samples stored, 2 refused"), "{error}");
    assert!(error.contains("far") && error.contains("ahead"), "{error}");
    assert!(error.contains("\"x\" is given twice"), "{error}");
    assert_eq!(server.value("sum(m{a=~\"2|3\"})", now_seconds()), 11.0);
}

#[test]
fn samples_of_1970_and_out_of_order_and_sent_twice() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    server.must_write(&[("__name__", "old")], &[(0, 1.0), (10_000, 2.0)]);
    server.must_write(&[("__name__", "old")], &[(5_000, 1.5)]);
    server.must_write(&[("__name__", "old")], &[(5_000, 1.5), (10_000, 3.0)]);
    let want = [(0, 1.0), (5_000, 1.5), (10_000, 3.0)];
    assert_eq!(server.samples("old", 10.0, 20), want);
    server.flush();
    assert_eq!(server.samples("old", 10.0, 20), want);
    server.compact();
    assert_eq!(server.samples("old", 10.0, 20), want);
}

#[test]
fn values_survive_bit_for_bit() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = now_ms();
    let values = [
        0.0,
        -0.0,
        5e-324,
        f64::MAX,
        f64::MIN,
        0.1 + 0.2,
        9_007_199_254_740_991.0,
        f64::INFINITY,
        1e-300,
    ];
    let samples: Vec<(i64, f64)> = values
        .iter()
        .enumerate()
        .map(|(i, &v)| (now - 1000 * i as i64, v))
        .collect();
    let mut ascending = samples.clone();
    ascending.reverse();
    server.must_write(&[("__name__", "exact")], &ascending);
    for stage in ["head", "sealed", "merged"] {
        let got = server.samples("exact", now_seconds(), 60);
        let bits = |s: &[(i64, f64)]| s.iter().map(|(t, v)| (*t, v.to_bits())).collect::<Vec<_>>();
        assert_eq!(bits(&got), bits(&ascending), "{stage}");
        if stage == "head" {
            server.flush()
        } else {
            server.compact()
        }
    }
}

#[test]
fn influx_lines() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = now_ms() / 1000;
    let lines = format!(
        "room,floor=2 temperature=21.5,people=3i,open=true,note=\"hot\" {now}\nbroken line here\nroom,floor=3 temperature=19 {now}\n"
    );
    let answer = server.post("/write?precision=s", &[], lines.as_bytes());
    assert_eq!(answer.status, 400);
    assert!(
        answer.json()["error"].as_str().unwrap().contains("partial write"),
        "{}",
        answer.text()
    );
    assert!(
        answer.header("x-overseer-skipped").unwrap().contains("note"),
        "{}",
        answer.head
    );
    assert_eq!(server.value("room_temperature{floor=\"2\"}", now_seconds()), 21.5);
    assert_eq!(server.value("room_temperature{floor=\"3\"}", now_seconds()), 19.0);
    assert_eq!(server.value("room_people", now_seconds()), 3.0);
    assert_eq!(server.value("room_open", now_seconds()), 1.0);
    assert!(
        server.query("room_note", now_seconds()).is_empty(),
        "a text is no number"
    );
    // texts beside numbers are no error
    let answer = server.post(
        "/api/v2/write?precision=s&bucket=b",
        &[],
        format!("a b=1,c=\"x\" {now}").as_bytes(),
    );
    assert_eq!(answer.status, 204, "{}", answer.text());
}

#[test]
fn otlp_json_with_partial_success() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = now_ms();
    let point = |at_ms: i64, value: f64| json!({ "timeUnixNano": (at_ms * 1_000_000).to_string(), "asDouble": value });
    let body = json!({ "resourceMetrics": [{
        "resource": { "attributes": [{ "key": "service.name", "value": { "stringValue": "shop" } }] },
        "scopeMetrics": [{ "metrics": [
            { "name": "queue.length", "gauge": { "dataPoints": [point(now, 7.0)] } },
            { "name": "future", "gauge": { "dataPoints": [point(now + 86_400_000, 1.0)] } },
        ] }],
    }] });
    let answer = server.post(
        "/v1/metrics",
        &[("Content-Type", "application/json")],
        body.to_string().as_bytes(),
    );
    assert_eq!(answer.status, 200, "{}", answer.text());
    let partial = &answer.json()["partialSuccess"];
    assert_eq!(partial["rejectedDataPoints"], "1", "{partial}");
    assert!(
        partial["errorMessage"].as_str().unwrap().contains("future"),
        "{partial}"
    );
    assert_eq!(server.value("queue_length{job=\"shop\"}", now_seconds()), 7.0);
    let answer = server.post("/v1/metrics", &[("Content-Type", "application/json")], b"{nope");
    assert_eq!(answer.status, 400);
    assert!(answer.json()["message"].is_string(), "{}", answer.text());
}

#[test]
fn own_json_names_bad_items() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let one = server.post(
        "/api/v1/metrics",
        &[],
        br#"{"name":"one","value":1,"labels":{"a":"b"}}"#,
    );
    assert_eq!(one.status, 202, "{}", one.text());
    let many = server.post(
        "/api/v1/metrics",
        &[],
        br#"[{"name":"two","value":2},{"value":3},{"name":"four","value":"x"}]"#,
    );
    assert_eq!(many.status, 207, "{}", many.text());
    let answer = many.json();
    assert_eq!(
        (&answer["accepted"], &answer["rejected"]),
        (&json!(1), &json!(2)),
        "{answer}"
    );
    assert_eq!(server.value("one", now_seconds()), 1.0);
    assert_eq!(server.value("two", now_seconds()), 2.0);
    assert_eq!(server.post("/api/v1/metrics", &[], b"nonsense").status, 400);
}

#[test]
fn a_target_is_scraped_and_its_series_end() {
    let dir = Dir::new();
    let target = Server::start(&dir.path().join("target"));
    let yaml = format!(
        "scrape:\n  jobs:\n    - name: self\n      interval_seconds: 1\n      timeout_seconds: 1\n      targets: [\"{}\"]\n",
        target.address
    );
    let config = dir.file("overseer.yaml", &yaml);
    let server = Server::with(&dir.path().join("data"), &["--config", config.to_str().unwrap()]);
    let wait_for = |want: f64| {
        let deadline = std::time::Instant::now() + crate::client::PATIENCE;
        loop {
            let up = server.query("up{job=\"self\"}", now_seconds());
            if up
                .first()
                .is_some_and(|s| s["value"][1].as_str().unwrap().parse::<f64>().unwrap() == want)
            {
                return;
            }
            assert!(std::time::Instant::now() < deadline, "up never became {want}: {up:?}");
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
    };
    wait_for(1.0);
    assert!(server.value("scrape_samples_scraped{job=\"self\"}", now_seconds()) > 5.0);
    assert!(
        !server
            .query("process_resident_memory_bytes{job=\"self\"}", now_seconds())
            .is_empty()
    );
    target.kill();
    wait_for(0.0);
    assert!(
        server
            .query("process_resident_memory_bytes{job=\"self\"}", now_seconds())
            .is_empty(),
        "not marked stale"
    );
    let health = server.get("/api/v1/targets").unwrap().json();
    assert_eq!(health["data"]["activeTargets"][0]["health"], "down", "{health}");
}

#[test]
fn the_agent_fills_the_tenant_and_its_absence_leaves_it_empty() {
    let dir = Dir::new();
    let server = Server::start(&dir.path().join("without"));
    assert_eq!(
        server.get("/api/v1/label/__name__/values").unwrap().json()["data"],
        json!([])
    );
    drop(server);
    let config = dir.file("overseer.yaml", "agent:\n  store_interval_ms: 1000\n");
    let args = [
        "--roles",
        "ingress,processor,store,gateway,agent",
        "--config",
        config.to_str().unwrap(),
    ];
    let server = Server::with(&dir.path().join("with"), &args);
    let deadline = std::time::Instant::now() + crate::client::PATIENCE;
    while server.query("node_load1", now_seconds()).is_empty() {
        assert!(std::time::Instant::now() < deadline, "node_load1 never came");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    assert!(
        !server
            .query("node_cpu_seconds_total{mode=\"idle\"}", now_seconds())
            .is_empty()
    );
}

/// Remote write sends exemplars as time series of their own: one may come before the samples it belongs to.
#[test]
fn an_exemplar_before_its_sample_hides_nothing() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = now_ms();
    let mut exemplar = vec![0x0a];
    let label = |name: &str, value: &str| {
        let mut l = vec![0x0a, name.len() as u8];
        l.extend(name.bytes());
        l.extend([0x12, value.len() as u8]);
        l.extend(value.bytes());
        let mut out = vec![0x0a, l.len() as u8];
        out.extend(l);
        out
    };
    let mut value = label("trace_id", "ab");
    value.push(0x11);
    value.extend(2.5f64.to_le_bytes());
    value.push(0x18);
    let mut at = now as u64;
    while at >= 0x80 {
        value.push(at as u8 | 0x80);
        at >>= 7;
    }
    value.push(at as u8);
    let mut one = label("__name__", "seconds_total");
    one.extend([0x1a, value.len() as u8]);
    one.extend(value);
    exemplar.push(one.len() as u8);
    exemplar.extend(one);
    let answer = server.write(&exemplar);
    assert_eq!(answer.status, 204, "{}", answer.text());
    server.must_write(&[("__name__", "seconds_total")], &[(now, 7.0)]);
    assert_eq!(server.value("seconds_total", now_seconds()), 7.0);
    let target = format!(
        "/api/v1/query_exemplars?query=seconds_total&start={}&end={}",
        now / 1000 - 60,
        now / 1000 + 60
    );
    let found = server.get(&target).unwrap().json();
    assert_eq!(found["data"][0]["exemplars"][0]["labels"]["trace_id"], "ab", "{found}");
}
