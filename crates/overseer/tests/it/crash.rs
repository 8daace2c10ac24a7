//! A short crash loop: writers, kill -9 at any moment, restart, and every acknowledged sample must be there once.
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::client;
use crate::remote_write::{HEADERS, series, snappy};
use crate::server::{Dir, Server, now_ms};

const CYCLES: u64 = 6;
const WRITERS: u64 = 3;
const SERIES: u64 = 5;

/// The value of a sample is a function of its series and time, so that a stale or mixed-up one cannot look right.
fn value_of(series: u64, at_ms: i64) -> f64 {
    let mut z = series.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at_ms as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 31;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    ((z ^ (z >> 29)) % 1_000_000_000) as f64
}

/// (series, time) → whether it was acknowledged; the others may be there or not.
type Sent = Arc<Mutex<BTreeMap<(u64, i64), bool>>>;

fn write_until(stop: &AtomicBool, address: &str, writer: u64, sent: &Sent, clock: &mut i64, step_ms: i64) {
    let mut round = 0;
    while !stop.load(Relaxed) {
        let mut body = Vec::new();
        let mut keys = Vec::new();
        for n in 0..SERIES {
            let id = writer * 1000 + n + 100 * (round / 20); // series come and go
            let at = [*clock, *clock + step_ms / 2];
            let samples: Vec<(i64, f64)> = at.iter().map(|&t| (t, value_of(id, t))).collect();
            body.extend(series(&[("__name__", "crash"), ("id", &id.to_string())], &samples));
            keys.extend(at.map(|t| (id, t)));
        }
        *clock += step_ms;
        round += 1;
        for key in &keys {
            sent.lock().unwrap().entry(*key).or_insert(false);
        }
        let answer = client::request(address, "POST", "/api/v1/write", &HEADERS, &snappy(&body));
        match answer.map(|a| a.status) {
            Some(204) => {
                let mut sent = sent.lock().unwrap();
                for key in keys {
                    sent.insert(key, true);
                }
            }
            Some(400..500) => panic!("a good request was refused"),
            _ => {}
        }
    }
}

fn check(server: &Server, sent: &Sent, end_ms: i64, range_seconds: u64) {
    let result = server.query(&format!("crash[{range_seconds}s]"), end_ms as f64 / 1000.0);
    let mut found = BTreeMap::new();
    for one in &result {
        let id: u64 = one["metric"]["id"].as_str().unwrap().parse().unwrap();
        for point in one["values"].as_array().unwrap() {
            let at = (point[0].as_f64().unwrap() * 1000.0).round() as i64;
            let value: f64 = point[1].as_str().unwrap().parse().unwrap();
            assert_eq!(value, value_of(id, at), "series {id} at {at}: a wrong value");
            assert!(found.insert((id, at), ()).is_none(), "series {id} at {at}: twice");
        }
    }
    let sent = sent.lock().unwrap();
    let lost: Vec<_> = sent
        .iter()
        .filter(|(k, acked)| **acked && !found.contains_key(k))
        .collect();
    assert!(
        lost.is_empty(),
        "{} acknowledged samples are lost, the first: {:?}",
        lost.len(),
        lost[0]
    );
    let phantom = found.keys().find(|k| !sent.contains_key(k));
    assert!(phantom.is_none(), "{phantom:?} was never sent");
}

fn crash_loop(data: &Path, step_ms: i64) {
    let sent: Sent = Arc::default();
    let start_ms = 1_600_000_000_000;
    let mut clocks = vec![start_ms; WRITERS as usize];
    for cycle in 0..CYCLES {
        let server = Server::start(data);
        if cycle > 0 {
            let end = clocks.iter().max().unwrap() + 1;
            check(&server, &sent, end, (end - start_ms) as u64 / 1000 + 1);
        }
        let (stop, address) = (AtomicBool::new(false), server.address.clone());
        std::thread::scope(|scope| {
            for (writer, clock) in clocks.iter_mut().enumerate() {
                let (stop, sent, address) = (&stop, &sent, &address);
                scope.spawn(move || write_until(stop, address, writer as u64, sent, clock, step_ms));
            }
            // how long it lives is drawn by the cycle, not waited for: any moment is right
            std::thread::sleep(Duration::from_millis(150 + 170 * (cycle * 7 % 5)));
            if cycle % 2 == 1 {
                server.flush();
            }
            server.kill();
            stop.store(true, Relaxed);
        });
    }
    let server = Server::start(data);
    let end = clocks.iter().max().unwrap() + 1;
    let range = (end - start_ms) as u64 / 1000 + 1;
    check(&server, &sent, end, range);
    server.compact();
    check(&server, &sent, end, range);
    assert!(
        sent.lock().unwrap().values().filter(|a| **a).count() > 100,
        "too little was written to prove anything"
    );
    assert!(now_ms() > end, "the data must lie in the past");
}

#[test]
fn acknowledged_samples_survive_kill_9() {
    let dir = Dir::new();
    crash_loop(dir.path(), 1000);
}

/// The samples' clock runs fast, so that windows end and files are cut within the test.
#[test]
fn acknowledged_samples_survive_kill_9_over_many_windows() {
    let dir = Dir::new();
    crash_loop(dir.path(), 600_000);
}
