//! Rollups: made in the background of what is stored already, once they are asked for; the same answers of fewer samples.
use std::time::Instant;

use serde_json::Value;

use crate::client::{PATIENCE, encode};
use crate::remote_write::series;
use crate::server::{Dir, Server, now_ms};

const DAY_MS: i64 = 86_400_000;

/// Answers, and the samples read for them besides those of rollups, and of rollups.
fn ask(server: &Server, from_ms: i64, to_ms: i64) -> (Vec<Value>, u64, u64) {
    let (mut answers, mut samples, mut rolled) = (Vec::new(), 0, 0);
    for text in [
        "max_over_time(temperature[1h])",
        "sum by (host) (rate(requests_total[2h]))",
        "avg_over_time(requests_total[1h])",
        "count_over_time(temperature[3h])",
    ] {
        let target = format!(
            "/api/v1/query_range?query={}&start={}&end={}&step=3600&explain=1&nocache=1",
            encode(text),
            from_ms / 1000,
            to_ms / 1000
        );
        let answer = server.get(&target).unwrap().json();
        assert_eq!(answer["status"], "success", "{answer}");
        assert!(answer.get("infos").is_none(), "{text}");
        assert!(!answer["data"]["result"].as_array().unwrap().is_empty(), "{text}");
        answers.push(answer["data"]["result"].clone());
        let totals = &answer["data"]["explain"]["totals"];
        samples += totals["samples"].as_u64().unwrap();
        rolled += totals["rolledSamples"].as_u64().unwrap();
    }
    (answers, samples, rolled)
}

#[test]
fn long_ranges_read_fewer_samples_and_answer_the_same() {
    let dir = Dir::new();
    let data = dir.path().join("data");
    let from_ms = (now_ms() / DAY_MS - 5) * DAY_MS;
    let server = Server::start(&data);
    for host in ["a", "b"] {
        let requests: Vec<(i64, f64)> = (0..2 * 5760)
            .map(|n| (from_ms + n * 15_000, (n % 3000) as f64))
            .collect();
        let heat = requests
            .iter()
            .map(|&(at, v)| (at, ((v as i64 * 7919) % 1000) as f64 / 10.0));
        let mut body = series(&[("__name__", "requests_total"), ("host", host)], &requests);
        body.extend(series(
            &[("__name__", "temperature"), ("host", host)],
            &heat.collect::<Vec<_>>(),
        ));
        assert_eq!(server.write(&body).status, 204);
    }
    server.compact();
    let to_ms = from_ms + 2 * DAY_MS;
    let (expected, all, none) = ask(&server, from_ms + DAY_MS / 8, to_ms);
    assert!(all > 40_000 && none == 0, "{all} {none}");
    server.stop();

    let config = dir.file("rolling.yaml", "store:\n  rollup_1h: forever\n");
    let server = Server::with(&data, &["--config", config.to_str().unwrap()]);
    let deadline = Instant::now() + PATIENCE;
    let rollups = loop {
        let report = server.get("/api/v1/admin/retention").unwrap().json();
        let rollups = report["data"]["classes"][0]["rollups"][0].clone();
        if rollups["files"] == 2 {
            break rollups;
        }
        assert!(Instant::now() < deadline, "{report}");
        std::thread::yield_now();
    };
    assert_eq!((&rollups["of"], &rollups["keep"]), (&"1h".into(), &"forever".into()));
    assert_eq!(rollups["due"]["files"], 0);
    let (answers, few, rolled) = ask(&server, from_ms + DAY_MS / 8, to_ms);
    assert_eq!(answers, expected);
    assert!(few * 20 < all && rolled >= all / 2, "{few} of {all}, {rolled}");
    let metrics = server.get("/metrics").unwrap().text();
    assert!(metrics.contains("overseer_rollup_files 2"), "{metrics}");
}

#[test]
fn wrong_times_stop_the_start_by_name() {
    let dir = Dir::new();
    let file = dir.file("bad.yaml", "store:\n  rollup_1m: 5m\n");
    let (code, _, errors) = crate::server::run(&["config", "check", "--config", file.to_str().unwrap()]);
    assert!(
        code == 2 && errors.contains("store.rollup_1m: \"5m\""),
        "{code} {errors}"
    );
}
