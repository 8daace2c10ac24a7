use crate::client;
use crate::server::{Dir, Server, command, run};

#[test]
fn starts_on_an_empty_directory_and_stops_on_sigterm() {
    let dir = Dir::new();
    let server = Server::start(&dir.path().join("made/on/the/way"));
    assert_eq!(server.get("/livez").unwrap().status, 200);
    assert_eq!(server.get("/readyz").unwrap().status, 200);
    let (status, log) = server.stop();
    assert!(status.success(), "{log}");
    assert!(log.contains("stopped"), "{log}");
}

#[test]
fn a_second_instance_is_refused_by_the_directory_s_name() {
    let dir = Dir::new();
    let _first = Server::start(dir.path());
    let path = dir.path().to_str().unwrap();
    let (code, _, errors) = run(&["run", "--listen", "127.0.0.1:0", "--data-dir", path]);
    assert_eq!(code, 1);
    assert!(errors.contains(path) && errors.contains("another Overseer"), "{errors}");
}

#[test]
fn a_taken_port_is_named() {
    let (a, b) = (Dir::new(), Dir::new());
    let first = Server::start(a.path());
    let (code, _, errors) = run(&[
        "run",
        "--listen",
        &first.address,
        "--data-dir",
        b.path().to_str().unwrap(),
    ]);
    assert_eq!(code, 1);
    assert!(
        errors.contains(&first.address) && errors.contains("--listen"),
        "{errors}"
    );
}

#[test]
fn without_a_login_only_loopback_is_served() {
    let dir = Dir::new();
    let path = dir.path().to_str().unwrap();
    let (code, _, errors) = run(&["run", "--listen", "0.0.0.0:0", "--data-dir", path]);
    assert_eq!(code, 2);
    assert!(errors.contains("--token-file"), "{errors}");
    let server = Server::start(dir.path());
    let foreign = client::request(
        &server.address,
        "GET",
        "/api/v1/labels",
        &[("Host", "evil.example")],
        b"",
    )
    .unwrap();
    assert_eq!(foreign.status, 403);
}

#[test]
fn a_token_opens_it_and_nothing_else_does() {
    let dir = Dir::new();
    let token = "correct-horse-battery-staple";
    let file = dir.file("token", &format!("{token}\n"));
    let mut start = command();
    start
        .args(["run", "--listen", "0.0.0.0:0", "--data-dir"])
        .arg(dir.path().join("data"));
    start.arg("--token-file").arg(&file);
    let mut server = Server::spawn(start).unwrap();
    let get =
        |headers: &[(&str, &str)]| client::request(&server.address, "GET", "/api/v1/labels", headers, b"").unwrap();
    assert_eq!(get(&[]).status, 401);
    assert_eq!(
        get(&[("Authorization", "Bearer wrong-horse-battery-staple")]).status,
        401
    );
    assert_eq!(get(&[("Authorization", &format!("Bearer {token}"))]).status, 200);
    assert_eq!(server.get("/livez").unwrap().status, 200);
    assert_eq!(server.get("/metrics").unwrap().status, 401);
    assert_eq!(server.post("/write", &[], b"a b=1").status, 401);
    let login = server.post("/api/v1/login", &[], format!("{{\"token\":\"{token}\"}}").as_bytes());
    assert_eq!(login.status, 200, "{}", login.text());
    let cookie = login
        .header("set-cookie")
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    assert_eq!(get(&[("Cookie", &cookie)]).status, 200);
    assert!(!server.log().contains(token), "the token is in the log");
}

#[test]
fn admin_is_closed_to_foreign_pages() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let origin = [("Origin", "http://evil.example")];
    assert_eq!(server.post("/api/v1/admin/flush", &origin, b"").status, 403);
    assert_eq!(server.get("/api/v1/admin/flush").unwrap().status, 405);
    server.flush();
    server.compact();
}

#[test]
fn configuration_is_checked_and_described() {
    let dir = Dir::new();
    let bad = dir.file("bad.yaml", "listen: 127.0.0.1:7070\nstore:\n  retention: 5\n");
    let (code, _, errors) = run(&["config", "check", "--config", bad.to_str().unwrap()]);
    assert_eq!(code, 2);
    assert!(
        errors.contains("bad.yaml") && errors.contains("retention") && errors.contains('3'),
        "{errors}"
    );
    let good = dir.file("good.yaml", "store:\n  retention_days: 5\n");
    let (code, out, _) = run(&["config", "check", "--config", good.to_str().unwrap()]);
    assert_eq!(code, 0);
    assert!(out.contains("\"retention_days\": 5"), "{out}");
    let (code, out, _) = run(&["config", "schema"]);
    assert_eq!(code, 0);
    let schema: serde_json::Value = serde_json::from_str(&out).unwrap();
    assert!(schema["properties"]["scrape"].is_object(), "{out}");
    assert_eq!(run(&["run", "--roles", "ingress,frobnicator"]).0, 2);
    let (code, out, _) = run(&["version"]);
    assert_eq!((code, out.trim()), (0, concat!("overseer ", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn the_command_line_asks_questions() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = crate::server::now_ms();
    server.must_write(
        &[("__name__", "room"), ("floor", "2")],
        &[(now - 30_000, 1.0), (now, 2.5)],
    );
    let url = format!("http://{}", server.address);
    let (code, out, errors) = run(&["query", "room", "--url", &url]);
    assert_eq!((code, out.trim()), (0, r#"room{floor="2"}  2.5"#), "{errors}");
    let (code, out, _) = run(&["query", "room", "--range", "5m", "--url", &url]);
    assert!(code == 0 && out.contains("last 2.5"), "{out}");
    let (code, out, _) = run(&["query", "room", "--json", "--url", &url]);
    assert!(code == 0 && out.contains("\"resultType\":\"vector\""), "{out}");
    let (code, _, errors) = run(&["query", "sum((", "--url", &url]);
    assert!(code == 1 && errors.contains("parse error"), "{errors}");
    let (code, _, errors) = run(&["query", "1", "--url", "http://127.0.0.1:1"]);
    assert!(code == 1 && errors.contains("is Overseer running"), "{errors}");
}
