use serde_json::{Value, json};

use crate::client::encode;
use crate::remote_write::series;
use crate::server::{Dir, Server, now_ms};

fn with_config(dir: &Dir, yaml: &str) -> Server {
    let config = dir.file("overseer.yaml", yaml);
    Server::with(&dir.path().join("data"), &["--config", config.to_str().unwrap()])
}

fn filled(server: &Server, hosts: usize) {
    for host in 0..hosts {
        let name = format!("h{host}");
        let labels = [("__name__", "requests_total"), ("host", name.as_str())];
        let samples: Vec<(i64, f64)> = (0..60).map(|i| (1_000_000 + i * 10_000, i as f64)).collect();
        assert!(server.write(&series(&labels, &samples)).status < 300);
    }
}

/// Each node of a plan, the root first.
fn nodes(plan: &Value) -> Vec<&Value> {
    let mut all = vec![plan];
    for child in plan["children"].as_array().unwrap() {
        all.extend(nodes(child));
    }
    all
}

#[test]
fn an_explained_query_tells_what_it_read() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    filled(&server, 5);
    let text = "sum by (host) (rate(requests_total[1m]))";
    let target = format!("/api/v1/query_range?query={}&start=1060&end=1500&step=10", encode(text));
    let plain = server.get(&target).unwrap().json();
    assert!(plain["data"].get("explain").is_none());
    // from memory, then from files
    for in_files in [false, true] {
        let answer = server.get(&format!("{target}&explain=1&stats=all")).unwrap().json();
        assert_eq!(answer["data"]["result"], plain["data"]["result"]);
        let explain = &answer["data"]["explain"];
        let (plan, totals) = (&explain["plan"], &explain["totals"]);
        let told: Vec<(&str, &str)> = nodes(plan)
            .iter()
            .map(|n| (n["what"].as_str().unwrap(), n["how"].as_str().unwrap()))
            .collect();
        assert_eq!(
            told,
            [
                ("aggregation", "folded"),
                ("function", "streamed"),
                ("range selector", "streamed")
            ],
            "{plan}"
        );
        assert_eq!(
            (&plan["text"], &plan["seriesIn"], &plan["seriesOut"]),
            (&json!(text), &json!(5), &json!(5))
        );
        let selector = &nodes(plan)[2]["selector"];
        assert_eq!(
            (&selector["series"], &selector["matchers"]),
            (&json!(5), &json!("requests_total"))
        );
        // (1000, 1500] in steps of ten seconds, of five series
        assert_eq!((&plan["samples"], &totals["series"]), (&json!(250), &json!(5)));
        let figure = |n: &Value| n.as_u64().unwrap();
        if in_files {
            // Overseer's own samples have a file too
            assert!(
                figure(&totals["files"]) >= 1 && figure(&selector["headSamples"]) == 0,
                "{selector}"
            );
            assert!(figure(&selector["chunks"]) >= 5 && figure(&totals["bytes"]) > 0);
        } else {
            assert_eq!(
                (figure(&selector["headSamples"]), figure(&selector["chunks"])),
                (250, 0),
                "{selector}"
            );
        }
        assert!(figure(&totals["peakBytes"]) > 0 && figure(&totals["threads"]) >= 1);
        let timings = &answer["data"]["stats"]["timings"];
        let seconds = |name: &str| timings[name].as_f64().unwrap();
        let parts = seconds("innerEvalTime") + seconds("queryPreparationTime") + seconds("resultSortTime");
        assert!((parts - seconds("evalTotalTime")).abs() < 1e-6, "{timings}");
        assert!(
            seconds("queryPreparationTime") > 0.0 && seconds("resultSortTime") > 0.0,
            "{timings}"
        );
        assert!(seconds("execTotalTime") >= seconds("evalTotalTime"));
        server.compact();
    }
    let far = server
        .get("/api/v1/query?query=requests_total&time=900000000&explain=true")
        .unwrap()
        .json();
    let totals = &far["data"]["explain"]["totals"];
    assert!(totals["filesPrunedByTime"].as_u64() >= Some(1), "{far}");
    assert_eq!(totals["filesPrunedByTime"], totals["files"]);
    let none = server
        .get("/api/v1/query?query=nothing_like_it&time=1500&explain=1")
        .unwrap()
        .json();
    assert_eq!(none["data"]["explain"]["plan"]["selector"]["series"], 0);
    assert_eq!(server.get("/api/v1/query?query=1&explain=please").unwrap().status, 400);
}

#[test]
fn slow_queries_are_noted() {
    let dir = Dir::new();
    let server = with_config(&dir, "query:\n  slow_ms: 1\n  samples_max: 2000000\n");
    filled(&server, 2);
    // a million evaluations take longer than a millisecond on any machine
    let slow = "sum_over_time((requests_total * 0 + 1)[1000s:2ms])";
    let ask = |text: &str| {
        server
            .get(&format!("/api/v1/query?query={}&time=1600", encode(text)))
            .unwrap()
    };
    assert_eq!(ask(slow).status, 200);
    let long = format!("{slow} + {}1", "0 + ".repeat(1000));
    assert_eq!(ask(&long).status, 200);
    let list = server.get("/api/v1/status/slow_queries").unwrap().json();
    let queries = list["data"]["queries"].as_array().unwrap();
    assert_eq!((queries.len(), &list["data"]["slowMs"]), (2, &json!(1)));
    assert!(queries[0]["query"].as_str().unwrap().len() < 2010, "shortened");
    let first = &queries[1];
    assert_eq!(
        (&first["query"], &first["outcome"], &first["at"]),
        (&json!(slow), &json!("ok"), &json!(1600.0))
    );
    assert_eq!(first["costliest"]["selector"], "requests_total");
    assert_eq!(
        (&first["costliest"]["series"], &first["costliest"]["samples"]),
        (&json!(2), &json!(120))
    );
    assert!(first["asker"].as_str().unwrap().starts_with("127.0.0.1:"));
    assert!(first["durationSeconds"].as_f64() >= Some(0.001));
    let metrics = server.get("/metrics").unwrap().text();
    assert!(metrics.contains("overseer_slow_queries_total 2"), "{metrics}");

    let (status, _) = server.stop();
    assert!(status.success());
    let file = std::fs::read_to_string(dir.path().join("data/logs/slow-queries.jsonl")).unwrap();
    let lines: Vec<Value> = file.lines().map(|l| serde_json::from_str(l).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert!(lines.contains(first));
}

#[test]
fn over_budget_says_what_and_why() {
    let dir = Dir::new();
    let yaml = "query:\n  samples_max: 500\n  series_max: 30\n  bytes_max: 35000\n  slow_ms: 1\n";
    let server = with_config(&dir, yaml);
    filled(&server, 40);
    let refused = |text: &str, status: u16| -> String {
        let target = format!("/api/v1/query_range?query={}&start=1000&end=1600&step=1", encode(text));
        let r = server.get(&target).unwrap();
        assert_eq!(
            (r.status, r.json()["errorType"].clone()),
            (status, json!("execution")),
            "{text}: {:.300}",
            r.text()
        );
        r.json()["error"].as_str().unwrap().to_owned()
    };
    let all = r#"{__name__=~".+"}"#;
    let error = refused(&format!("count by (__name__) ({all})"), 422);
    assert_eq!(
        error,
        "the query would touch more than 30 series: 40 with those of selector {__name__=~\".+\"} (limit query.series_max)"
    );
    let some = r#"requests_total{host=~"h1.*"}"#;
    let error = refused(&format!("sum(rate({some}[1m]))"), 422);
    assert!(
        error.contains("more than 500 samples") && error.contains(some),
        "{error}"
    );
    assert!(
        error.contains("of 11 series") && error.contains("query.samples_max"),
        "{error}"
    );
    server.compact();
    // from files it is known before
    let error = refused(&format!("sum(rate({some}[1m]))"), 422);
    assert_eq!(
        error,
        format!(
            "the query would read more than 500 samples: 9 of 11 series of selector {some} alone hold 540 (limit query.samples_max)"
        )
    );
    let error = refused(r#"requests_total{host=~"h[0-7]"} * 2"#, 422);
    assert!(
        error.contains("query.bytes_max); most series, 8, are those of selector"),
        "{error}"
    );
}

/// Many series and greedy selectors: every answer is quick or a refusal, and little memory is held.
#[test]
fn greedy_queries_are_bounded() {
    const SERIES: usize = 50_000;
    const BYTES_MAX: u64 = 16 << 20;
    let dir = Dir::new();
    let server = with_config(&dir, &format!("query:\n  bytes_max: {BYTES_MAX}\n"));
    let at_ms = now_ms() - 60_000;
    let mut lines = String::new();
    for n in 0..SERIES {
        lines.push_str(&format!(
            "load,host=host-{n},path=/aaaaaaaaaaaaaaaaaaaaaaaaaaa{n} value={n} {at_ms}000000\n"
        ));
    }
    assert!(server.post("/write", &[], lines.as_bytes()).status < 300);
    let at = (at_ms + 1000) as f64 / 1000.0;
    let ask = |text: &str| {
        let target = format!("/api/v1/query?query={}&time={at}&explain=1", encode(text));
        server.get(&target).unwrap()
    };
    for in_files in [false, true] {
        let all = ask(r#"{__name__=~".+"}"#);
        if all.status != 200 {
            let error = all.json()["error"].as_str().unwrap().to_owned();
            assert!(
                error.contains("query.bytes_max") && error.contains(r#"{__name__=~".+"}"#),
                "{error}"
            );
        }
        for (text, value) in [
            (r#"count by (__name__) ({__name__=~".+"})"#, SERIES.to_string()),
            (
                r#"count({path=~"(.*a)*(.*a)*(.*a)*(.*a)*(.*a)*(.*a)*b"}) or vector(0)"#,
                "0".to_owned(),
            ),
            (r#"count({path=~"/(a+)+[0-9]+"})"#, SERIES.to_string()),
        ] {
            let answer = ask(text);
            assert_eq!(answer.status, 200, "{in_files} {text}: {}", answer.text());
            let data = &answer.json()["data"];
            assert_eq!(data["result"][0]["value"][1], json!(value), "{text}");
            let peak = data["explain"]["totals"]["peakBytes"].as_u64().unwrap();
            assert!(peak <= BYTES_MAX / 4, "{text}: {peak} bytes");
        }
        server.compact();
    }
    let metrics = server.get("/metrics").unwrap().text();
    assert!(metrics.contains("overseer_query_bytes 0"), "all is given back");
}
