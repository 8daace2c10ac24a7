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
    // what is whole is there, and a server starts on it
    Server::start(&copy).query("up", AT);
    // the next backup mends it, also for the first
    assert_eq!(backup(&["--to", text(&to), "--data-dir", text(&data)]).0, 0);
    assert_eq!(backup(&["--to", text(&to), "--check"]).0, 0);
}

#[test]
fn each_list_is_judged_alone() {
    let dir = Dir::new();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    let server = Server::start(&data);
    write(&server, 0);
    assert!(server.stop().0.success());
    let make = || backup(&["--to", text(&to), "--data-dir", text(&data)]);
    let names: Vec<String> = (0..3).map(|_| make().1["name"].as_str().unwrap().to_owned()).collect();
    let list = |name: &str| to.join(format!("{name}.json"));
    fs::write(list("copy-1"), fs::read(list(&names[0])).unwrap()).unwrap();
    fs::write(list(&names[1]), "").unwrap();
    let (code, rows, _) = backup(&["--to", text(&to), "--list"]);
    assert!(code == 0 && rows.as_array().unwrap().len() == 4, "{rows}");
    let damaged: Vec<_> = rows
        .as_array()
        .unwrap()
        .iter()
        .filter(|r| r["damaged"].is_string())
        .collect();
    assert_eq!(damaged.len(), 2, "{rows}");
    let (code, made, errors) = make();
    assert!(code == 0 && errors.contains("copy-1.json"), "{code} {made} {errors}");
    let restored = dir.path().join("restored");
    let restore = |name: &str| {
        run(&[
            "restore",
            "--from",
            text(&to),
            "--name",
            name,
            "--data-dir",
            text(&restored),
        ])
    };
    let (code, _, errors) = restore(&names[1]);
    assert!(
        code == 1 && errors.contains(&names[1]) && errors.contains("damaged"),
        "{errors}"
    );
    assert_eq!(restore(&names[0]).0, 0);
    // the files stay while a list cannot be read
    let files = pool(&to).len();
    assert_eq!(run(&["backup", "--to", text(&to), "--delete", &names[0]]).0, 0);
    assert_eq!(pool(&to).len(), files);
    let (code, report, _) = backup(&["--to", text(&to), "--check"]);
    assert!(
        code == 1 && report["findings"].as_array().unwrap().len() == 2,
        "{report}"
    );
    for name in ["copy-1", &names[1]] {
        assert_eq!(run(&["backup", "--to", text(&to), "--delete", name]).0, 0);
    }
    assert_eq!(backup(&["--to", text(&to), "--check"]).0, 0);
    // without its word the directory is one of backups all the same
    fs::write(to.join("overseer-backup"), "").unwrap();
    assert_eq!(make().0, 0);
    assert_eq!(
        fs::read_to_string(to.join("overseer-backup")).unwrap(),
        "overseer backup 1\n"
    );
}

#[test]
fn the_newest_is_the_last_that_was_made() {
    let dir = Dir::new();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    let server = Server::start(&data);
    write(&server, 0);
    assert!(server.stop().0.success());
    // what a stop in the first instant leaves
    fs::create_dir_all(&to).unwrap();
    fs::write(to.join(".overseer-backup.tmp"), "over").unwrap();
    fs::write(to.join("lock"), "").unwrap();
    let (code, first, errors) = backup(&["--to", text(&to), "--data-dir", text(&data)]);
    assert_eq!(code, 0, "{errors}");
    // as if the clock had been years ahead: the name sorts behind all
    let old = first["name"].as_str().unwrap();
    let body = fs::read_to_string(to.join(format!("{old}.json"))).unwrap();
    let mut list: Value = serde_json::from_str(&body).unwrap();
    let later = format!("29990101T000000000Z-{}", &old[20..]);
    list["backup"]["name"] = later.as_str().into();
    let crc = crc32c::crc32c(list["backup"].to_string().as_bytes());
    list["crc32c"] = format!("{crc:08x}").into();
    fs::write(to.join(format!("{later}.json")), list.to_string()).unwrap();
    fs::remove_file(to.join(format!("{old}.json"))).unwrap();
    let (code, made, errors) = backup(&["--to", text(&to), "--data-dir", text(&data), "--keep", "1"]);
    assert_eq!(code, 0, "{errors}");
    assert_eq!(made["deleted"][0], later.as_str());
    let (_, rows, _) = backup(&["--to", text(&to), "--list"]);
    assert!(
        rows.as_array().unwrap().len() == 1 && rows[0]["name"] == made["name"],
        "{rows}"
    );
}

#[test]
fn a_command_that_names_a_directory_speaks_to_its_server_or_to_none() {
    let dir = Dir::new();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let (other, own) = (Server::start(&a), Server::start(&b));
    write(&other, 0);
    own.must_write(&[("__name__", "own")], &[(START_MS, 1.0)]);
    let url = format!("http://{}", other.address);
    let to = dir.path().join("to");
    for args in [
        vec!["backup", "--to", text(&to), "--url", &url],
        vec!["backup", "--to", text(&to), "--listen", &other.address],
        vec!["verify", "--snapshot", "--url", &url],
        vec!["query", "kept", "--url", &url],
        vec!["retention", "--listen", &other.address],
    ] {
        let (code, out, errors) = run(&[&args[..], &["--data-dir", text(&b)]].concat());
        let named = errors.contains(&other.address) && errors.contains(text(&b));
        assert!(code != 0 && named, "{args:?}: {code} {out} {errors}");
    }
    let none = |data: &Path| {
        !data.join("snapshots").exists() || fs::read_dir(data.join("snapshots")).unwrap().next().is_none()
    };
    assert!(none(&a) && none(&b), "nothing was done on the other one");
    // the directory alone is enough
    let at = (START_MS / 1000).to_string();
    let (code, out, errors) = run(&["query", "own", "--time", &at, "--data-dir", text(&b)]);
    assert!(code == 0 && out.starts_with("own"), "{out} {errors}");
    assert_eq!(backup(&["--to", text(&to), "--data-dir", text(&b)]).0, 0);
    let restored = dir.path().join("restored");
    assert_eq!(
        run(&["restore", "--from", text(&to), "--data-dir", text(&restored)]).0,
        0
    );
    let server = Server::start(&restored);
    assert_eq!(server.query("own", START_MS as f64 / 1000.0).len(), 1);
    assert!(all(&server).is_empty());
    // a server that is gone is not asked
    other.kill();
    let (code, _, errors) = run(&["query", "kept", "--data-dir", text(&a)]);
    assert!(code == 1 && errors.contains("Connection refused"), "{errors}");
}

#[test]
fn half_a_restore_is_no_data_directory_and_can_be_begun_again() {
    let dir = Dir::new();
    let (data, to) = (dir.path().join("data"), dir.path().join("to"));
    let server = Server::start(&data);
    write(&server, 0);
    assert!(server.stop().0.success());
    assert_eq!(backup(&["--to", text(&to), "--data-dir", text(&data)]).0, 0);
    let half = dir.path().join("half");
    fs::create_dir_all(half.join("series")).unwrap();
    fs::write(half.join("series/block-1"), "half").unwrap();
    fs::write(half.join("restoring"), "").unwrap();
    let args = ["run", "--listen", "127.0.0.1:0", "--data-dir", text(&half)];
    let (code, _, errors) = run(&args);
    assert!(code == 1 && errors.contains("restore"), "{code} {errors}");
    let (code, out, errors) = run(&["restore", "--from", text(&to), "--data-dir", text(&half)]);
    assert_eq!(code, 0, "{out} {errors}");
    assert_eq!(all(&Server::start(&half)).len(), 5);
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
    // one with a lease says so, and it can be renewed
    let leased = server.post("/api/v1/admin/snapshot?lease=1", &[], b"").json();
    assert_eq!(leased["data"]["lease_seconds"], 3600);
    let leased = format!("/api/v1/admin/snapshots/{}", leased["data"]["name"].as_str().unwrap());
    assert_eq!(server.post(&leased, &[], b"").status, 200);
    let renewed = server.post(&format!("/api/v1/admin/snapshots/{name}"), &[], b"");
    assert_eq!(renewed.status, 404, "it has no lease");
    assert_eq!(server.post("/api/v1/admin/snapshot?lease=soon", &[], b"").status, 400);
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
