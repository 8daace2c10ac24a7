//! Retention by class: what is kept, what would go, and rules that are wrong.
use std::path::Path;

use serde_json::Value;

use crate::remote_write::series;
use crate::server::{Dir, Server, now_ms, run};

const DAY_MS: i64 = 86_400_000;

fn config(dir: &Dir, name: &str, keep: &str) -> String {
    let text = format!(
        "store:\n  retention_days: 1000\n  retention:\n    - match: '{{__name__=~\"debug_.*\"}}'\n      keep: {keep}\n"
    );
    dir.file(name, &text).to_str().unwrap().to_owned()
}

fn report(server: &Server, more: &[&str]) -> Value {
    let url = format!("http://{}", server.address);
    let (code, out, errors) = run(&[&["retention", "--json", "--url", &url], more].concat());
    assert_eq!(code, 0, "{errors}");
    serde_json::from_str(&out).unwrap()
}

fn blocks(data: &Path) -> usize {
    let names = std::fs::read_dir(data.join("series")).unwrap().flatten();
    names
        .filter(|e| e.file_name().to_string_lossy().starts_with("block-"))
        .count()
}

#[test]
fn classes_lie_in_files_of_their_own_and_a_dry_run_tells_what_would_go() {
    let dir = Dir::new();
    let data = dir.path().join("data");
    let (month, week) = (config(&dir, "month.yaml", "30d"), config(&dir, "week.yaml", "7d"));
    let server = Server::with(&data, &["--config", &month]);
    // noon of a day, so that all is of one day
    let at = (now_ms() - 20 * DAY_MS) / DAY_MS * DAY_MS + DAY_MS / 2;
    let mut body = Vec::new();
    for name in ["debug_a", "debug_b", "kept"] {
        let samples: Vec<(i64, f64)> = (0..100).map(|n| (at + n * 1000, n as f64)).collect();
        body.extend(series(&[("__name__", name)], &samples));
    }
    assert_eq!(server.write(&body).status, 204);
    server.flush();
    let sealed = report(&server, &[]);
    assert_eq!(sealed["classes"][0]["match"], "{__name__=~\"debug_.*\"}");
    assert_eq!(sealed["classes"][0]["keep"], "30d");
    assert_eq!(
        (&sealed["classes"][0]["samples"], &sealed["classes"][0]["files"]),
        (&200.into(), &0.into())
    );
    server.compact();
    let merged = report(&server, &[]);
    assert_eq!(
        (&merged["classes"][0]["samples"], &merged["classes"][0]["files"]),
        (&200.into(), &1.into())
    );
    assert_eq!(merged["classes"][0]["due"]["samples"], 0);
    // one of the debug class, one of the others for that day, one of Overseer's own samples of today
    assert!((2..=3).contains(&blocks(&data)), "{}", blocks(&data));

    let dry = report(&server, &["--dry-run", "--config", &week]);
    let debug = &dry["classes"][0];
    assert_eq!(
        (&debug["due"]["samples"], &debug["due"]["files"]),
        (&200.into(), &1.into()),
        "{dry}"
    );
    assert_eq!(debug["due"]["bytes"], debug["bytes"]);
    assert_eq!(dry["classes"][1]["due"]["samples"], 0);
    assert_eq!(server.samples("debug_a", (at / 1000 + 200) as f64, 400).len(), 100);

    let post = server.post("/api/v1/admin/retention/dry_run?retention=5", &[], b"");
    assert!(
        post.status == 400 && post.text().contains("retention"),
        "{}",
        post.text()
    );
    let evil = [("Origin", "http://evil.example")];
    assert_eq!(server.post("/api/v1/admin/retention/dry_run", &evil, b"").status, 403);
}

#[test]
fn wrong_rules_stop_the_start_by_name() {
    let dir = Dir::new();
    for (keep, named) in [("5m", "store.retention[0].keep"), ("soon", "store.retention[0].keep")] {
        let file = config(&dir, "bad.yaml", keep);
        let (code, _, errors) = run(&["config", "check", "--config", &file]);
        assert!(code == 2 && errors.contains(named), "{keep}: {code} {errors}");
    }
}
