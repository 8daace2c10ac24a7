//! `overseer backup` and `restore`: of a running server, of a directory at rest, again into the same place, and damaged.
use std::fs;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::server::{Dir, Server, run};

const START_MS: i64 = 1_700_000_000_000;
const AT: f64 = 1_700_100_000.0;

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn write(server: &Server, round: i64) {
    for s in 0..5 {
        let samples: Vec<(i64, f64)> = (0..50)
            .map(|n| (START_MS + (round * 50 + n) * 10_000, (s * 1000 + round * 50 + n) as f64))
            .collect();
        server.must_write(&[("__name__", "kept"), ("s", &s.to_string())], &samples);
    }
}

fn all(server: &Server) -> Vec<Value> {
    let mut series = server.query("kept[100000s]", AT);
    series.sort_by_key(|s| s["metric"]["s"].as_str().unwrap().to_owned());
    series
}

fn backup(args: &[&str]) -> (i32, Value, String) {
    let (code, out, errors) = run(&[&["backup", "--json"], args].concat());
    (code, serde_json::from_str(&out).unwrap_or(Value::Null), errors)
}

fn pool(dir: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = fs::read_dir(dir.join("files"))
        .unwrap()
        .flatten()
        .map(|e| e.path())
        .collect();
    files.sort();
    files
}

#[test]
fn a_running_server_is_backed_up_and_restored() {
    let dir = Dir::new();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    let server = Server::start(&data);
    write(&server, 0);
    server.compact();
    write(&server, 1);
    let then = all(&server);
    let url = format!("http://{}", server.address);
    let (code, first, errors) = backup(&["--to", text(&to), "--url", &url]);
    assert_eq!(code, 0, "{errors}");
    assert!(first["position"].as_u64().unwrap() >= 10 && first["reused_files"] == 0);
    assert!(
        fs::read_dir(data.join("snapshots")).unwrap().next().is_none(),
        "the snapshot goes"
    );

    // the second shares what did not change
    write(&server, 2);
    let (code, second, errors) = backup(&["--to", text(&to), "--url", &url]);
    assert_eq!(code, 0, "{errors}");
    assert!(second["reused_files"].as_u64().unwrap() >= 1, "{second}");
    assert!(second["copied_bytes"].as_u64() < second["bytes"].as_u64());
    let now = all(&server);
    // what comes after a backup is not in it
    write(&server, 3);
    drop(server);

    let (_, list, _) = backup(&["--to", text(&to), "--list"]);
    assert_eq!(list.as_array().unwrap().len(), 2);
    assert_eq!(backup(&["--to", text(&to), "--check"]).1["clean"], true);
    let names = [first["name"].as_str().unwrap(), second["name"].as_str().unwrap()];
    for (name, want) in names.iter().zip([&then, &now]) {
        let data = dir.path().join(name);
        let (code, out, errors) = run(&[
            "restore",
            "--from",
            text(&to),
            "--name",
            name,
            "--data-dir",
            text(&data),
        ]);
        assert_eq!(code, 0, "{out} {errors}");
        assert!(out.contains("every byte checked"), "{out}");
        let mut server = Server::start(&data);
        assert_eq!(all(&server), **want);
        // it is a data set like any other
        write(&server, 5);
        assert_eq!(all(&server).len(), 5);
        server.compact();
        let log = server.log();
        assert!(!log.contains("WARN") && !log.contains("ERROR"), "{log}");
        assert!(server.stop().0.success());
        assert_eq!(run(&["verify", "--data-dir", text(&data)]).0, 0);
    }
    // a used directory is not overwritten
    let (code, _, errors) = run(&["restore", "--from", text(&to), "--data-dir", text(&data)]);
    assert!(code == 2 && errors.contains("not empty"), "{code} {errors}");

    // deleting one leaves the other whole
    let before = pool(&to).len();
    assert_eq!(run(&["backup", "--to", text(&to), "--delete", names[0]]).0, 0);
    assert!(pool(&to).len() < before);
    assert_eq!(backup(&["--to", text(&to), "--check"]).0, 0);
    let (code, ..) = run(&[
        "restore",
        "--from",
        text(&to),
        "--name",
        names[0],
        "--data-dir",
        "/nonexistent/x",
    ]);
    assert_eq!(code, 2);
}

#[test]
fn a_directory_at_rest_is_backed_up_with_what_only_the_log_has() {
    let dir = Dir::new();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    let server = Server::start(&data);
    write(&server, 0);
    server.flush();
    write(&server, 1);
    let want = all(&server);
    server.kill();
    let (code, made, errors) = backup(&["--to", text(&to), "--data-dir", text(&data), "--keep", "1"]);
    assert_eq!(code, 0, "{errors}");
    let (code, again, errors) = backup(&["--to", text(&to), "--data-dir", text(&data), "--keep", "1"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(again["deleted"][0], made["name"]);
    let copy = dir.path().join("copy");
    let (code, _, errors) = run(&["restore", "--from", text(&to), "--data-dir", text(&copy)]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(all(&Server::start(&copy)), want);
    assert_eq!(all(&Server::start(&data)), want);
}

#[test]
fn damage_and_mistakes_are_named() {
    let dir = Dir::new();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    let server = Server::start(&data);
    write(&server, 0);
    assert!(server.stop().0.success());
    let (code, _, errors) = backup(&["--to", text(&data), "--data-dir", text(&data)]);
    assert!(code == 2 && errors.contains("not empty"), "{code} {errors}");
    let (code, _, errors) = backup(&["--to", text(&to), "--data-dir", "/nonexistent/data"]);
    assert!(
        code == 2 && errors.contains("no such data directory"),
        "{code} {errors}"
    );
    assert_eq!(backup(&["--to", text(&to), "--data-dir", text(&data)]).0, 0);
    let block = pool(&to)
        .into_iter()
        .find(|p| text(p).contains("block-"))
        .expect("a block is stored");
    let mut bytes = fs::read(&block).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&block, bytes).unwrap();
    let (code, report, _) = backup(&["--to", text(&to), "--check"]);
    assert!(
        code == 1 && report["findings"][0]["what"].as_str().unwrap().contains("checksum"),
        "{report}"
    );
    let copy = dir.path().join("copy");
    let (code, _, errors) = run(&["restore", "--from", text(&to), "--data-dir", text(&copy)]);
    assert!(
        code == 1 && errors.contains("block-") && errors.contains("checksum"),
        "{code} {errors}"
    );
    // half a restore is no data directory: a server refuses it
    let (code, _, errors) = run(&[
        "run",
        "--listen",
        "127.0.0.1:0",
        "--data-dir",
        text(&copy),
        "--roles",
        crate::server::ROLES,
    ]);
    assert!(code == 1 && errors.contains("series/format"), "{code} {errors}");
}

#[test]
fn snapshots_are_made_listed_and_deleted_over_http() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    write(&server, 0);
    let by_name = server.post("/api/v1/admin/tsdb/snapshot", &[], b"").json();
    let name = by_name["data"]["name"].as_str().unwrap().to_owned();
    let made = server.post("/api/v1/admin/snapshot", &[], b"").json();
    assert!(made["data"]["position"].as_u64().unwrap() >= 5);
    let list = server.get("/api/v1/admin/snapshots").unwrap().json();
    assert_eq!(list["data"].as_array().unwrap().len(), 2);
    let path = dir.path().join("snapshots").join(&name);
    assert_eq!(run(&["verify", "--data-dir", text(&path)]).0, 0);
    // samples that come later do not reach into it
    write(&server, 1);
    server.compact();
    let delete = |target: &str, headers: &[(&str, &str)]| {
        crate::client::request(&server.address, "DELETE", target, headers, b"")
            .unwrap()
            .status
    };
    let target = format!("/api/v1/admin/snapshots/{name}");
    assert_eq!(run(&["verify", "--data-dir", text(&path)]).0, 0);
    assert_eq!(delete(&target, &[("Origin", "http://evil.example")]), 403);
    assert_eq!(delete(&target, &[]), 200);
    assert_eq!(delete(&target, &[]), 404);
    assert_eq!(delete("/api/v1/admin/snapshots/..", &[]), 404);
    assert_eq!(delete("/api/v1/admin/snapshots/%2e%2e%2fseries", &[]), 404);
    assert!(dir.path().join("series/format").exists());
    assert_eq!(server.get("/api/v1/admin/snapshot").unwrap().status, 405);
}
