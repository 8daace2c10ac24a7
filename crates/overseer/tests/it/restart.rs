use serde_json::Value;

use crate::remote_write::series;
use crate::server::{Dir, Server, now_ms, now_seconds};

const BODIES: u64 = 8;
/// Each has to be registered again: a replay that takes a while.
const SERIES: u64 = 12_000;

fn field(of: &Value, name: &str) -> f64 {
    of[name].as_f64().unwrap_or_else(|| panic!("no {name} in {of}"))
}

#[test]
fn a_replay_after_kill_9_tells_how_far_it_is() {
    let dir = Dir::new();
    let server = Server::start(dir.path());
    let now = now_ms();
    for body in 0..BODIES {
        let mut all = Vec::new();
        for n in 0..SERIES {
            let (id, value) = (body * SERIES + n, n as f64);
            all.extend(series(
                &[("__name__", "replayed"), ("id", &id.to_string())],
                &[(now, value)],
            ));
        }
        assert_eq!(server.write(&all).status, 204);
    }
    server.kill();

    let mut server = Server::early(dir.path(), &[]);
    let mut seen: Vec<Value> = Vec::new();
    loop {
        let answer = server.get("/readyz").expect("no answer");
        if answer.status == 200 {
            assert_eq!(answer.text(), "ready\n");
            break;
        }
        assert_eq!(answer.status, 503);
        seen.push(answer.json());
    }
    let first = seen.first().expect("it was ready at once: there is nothing to be seen");
    assert!(
        first["error"]
            .as_str()
            .unwrap()
            .starts_with("replaying the log: position "),
        "{first}"
    );
    for pair in seen.windows(2) {
        for name in ["position", "records", "bytes", "percent", "seconds"] {
            let (a, b) = (field(&pair[0]["replay"], name), field(&pair[1]["replay"], name));
            assert!(a <= b, "{name} went from {a} to {b}");
        }
    }
    for one in &seen {
        let replay = &one["replay"];
        assert!(field(replay, "records_total") >= BODIES as f64, "{replay}");
        assert!(field(replay, "bytes_total") > 1e5, "{replay}");
        assert!(field(replay, "bytes") <= field(replay, "bytes_total"), "{replay}");
        assert!(field(replay, "percent") < 100.0, "{replay}");
        assert_eq!(
            field(replay, "target"),
            field(replay, "from") + field(replay, "records_total")
        );
    }

    let replay = server.get("/api/v1/status/walreplay").unwrap().json()["data"].clone();
    assert_eq!(replay["state"], "done");
    assert_eq!(replay["current"], replay["max"]);
    let target = &seen[0]["replay"]["target"];
    assert_eq!((&replay["min"], &replay["max"]), (&seen[0]["replay"]["from"], target));
    assert_eq!(server.value("count(replayed)", now_seconds()), (BODIES * SERIES) as f64);
    let log = server.log();
    assert!(
        log.contains("replaying the log") && log.contains("the log is replayed"),
        "{log}"
    );
}
