//! Deleting series over HTTP, as Prometheus' admin API has it.
use crate::client::{self, encode};
use crate::remote_write::series;
use crate::server::{Dir, Server};

const START_MS: i64 = 1_700_000_000_000;
const STEP_MS: i64 = 10_000;
const COUNT: i64 = 100;
const AT: f64 = 1_700_001_000.0;

fn write(server: &Server, first: i64, value: f64) {
    let mut body = Vec::new();
    for s in 0..4 {
        let samples: Vec<(i64, f64)> = (first..COUNT).map(|n| (START_MS + n * STEP_MS, value)).collect();
        body.extend(series(&[("__name__", "m"), ("s", &s.to_string())], &samples));
    }
    assert_eq!(server.write(&body).status, 204);
}

fn count(server: &Server, selector: &str) -> u64 {
    let counted = server.query(&format!("sum(count_over_time({selector}[1h]))"), AT);
    counted
        .first()
        .map_or(0, |r| r["value"][1].as_str().unwrap().parse().unwrap())
}

fn delete(server: &Server, query: &str) -> client::Response {
    server.post(&format!("/api/v1/admin/tsdb/delete_series?{query}"), &[], b"")
}

#[test]
fn what_is_deleted_is_gone_at_once_and_for_good_and_may_come_again() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    write(&server, 0, 1.0);
    server.compact();
    write(&server, 50, 2.0); // over what is in files, in memory
    assert_eq!(count(&server, "m"), 400);
    let one = format!("match[]={}", encode("m{s=\"1\"}"));
    let from = START_MS / 1000 + 200;
    let part = format!("match[]={}&start={from}&end={}", encode("m{s=~\"2|3\"}"), from + 290);

    let dry = delete(&server, &format!("{part}&{one}&dry_run=1"));
    assert_eq!(dry.status, 200, "{}", dry.text());
    let dry = dry.json()["data"].clone();
    // start and end of one request concern all its selectors
    assert_eq!((dry["series"].as_u64(), dry["samples"].as_u64()), (Some(3), Some(90)));
    assert!(dry["bytes"].as_u64().unwrap() > 0);
    assert_eq!(count(&server, "m"), 400, "a dry run takes nothing");

    assert_eq!(delete(&server, &one).status, 204);
    assert_eq!(count(&server, "m{s=\"1\"}"), 0);
    assert_eq!(delete(&server, &part).status, 204);
    assert_eq!(count(&server, "m"), 300 - 60);
    server.must_write(&[("__name__", "m"), ("s", "1")], &[(START_MS, 9.0)]);
    assert_eq!(server.samples("m{s=\"1\"}", AT, 3600), [(START_MS, 9.0)]);
    server.kill();

    let server = Server::start(dir.path());
    assert_eq!(count(&server, "m"), 241);
    let put = client::request(&server.address, "PUT", "/api/v1/admin/tsdb/clean_tombstones", &[], b"").unwrap();
    assert_eq!(put.status, 204);
    assert_eq!(count(&server, "m"), 241);
    server.kill();
    let server = Server::start(dir.path());
    assert_eq!(count(&server, "m"), 241);
    assert_eq!(server.samples("m{s=\"1\"}", AT, 3600), [(START_MS, 9.0)]);
}

#[test]
fn requests_that_must_not_delete_anything() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    write(&server, 0, 1.0);
    let target = format!(
        "/api/v1/admin/tsdb/delete_series?match[]={}",
        encode("{__name__=~\".+\"}")
    );
    let evil = [("Origin", "http://evil.example")];
    assert_eq!(server.post(&target, &evil, b"").status, 403);
    assert_eq!(server.get(&target).unwrap().status, 405);
    for (bad, named) in [
        ("", "match[]"),
        ("match[]={}", "non-empty"),
        ("match[]=m{", "match[]"),
        ("match[]=m&start=yesterday", "start"),
        ("match[]=m&start=2&end=1", "end"),
        ("match[]=m&dry_run=perhaps", "dry_run"),
    ] {
        let answer = delete(&server, &bad.replace('{', "%7B").replace('}', "%7D"));
        assert_eq!(answer.status, 400, "{bad}: {}", answer.text());
        assert!(answer.text().contains(named), "{bad}: {}", answer.text());
    }
    let own = format!("/tenants/overseer{target}");
    assert_eq!(server.post(&own, &[], b"").status, 403);
    assert_eq!(count(&server, "m"), 400);
    // as a form, too
    let form = format!("match[]={}", encode("m{s=\"0\"}"));
    let headers = [("Content-Type", "application/x-www-form-urlencoded")];
    let put = client::request(
        &server.address,
        "PUT",
        "/api/v1/admin/tsdb/delete_series",
        &headers,
        form.as_bytes(),
    );
    assert_eq!(put.unwrap().status, 204);
    assert_eq!(count(&server, "m"), 300);
    drop(server);

    let off = dir.file("off.yaml", "server:\n  delete_api: false\n");
    let server = Server::with(&dir.path().join("off"), &["--config", off.to_str().unwrap()]);
    write(&server, 0, 1.0);
    let answer = server.post(&target, &[], b"");
    assert!(
        answer.status == 403 && answer.text().contains("server.delete_api"),
        "{}",
        answer.text()
    );
    assert_eq!(count(&server, "m"), 400);
}
