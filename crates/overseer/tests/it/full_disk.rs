//! A full disk: refuse and keep reading, start while full, go on by itself when there is room again, lose nothing.
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use crate::client::PATIENCE;
use crate::remote_write::series;
use crate::server::{Dir, Server};

const START_MS: i64 = 1_600_000_000_000;
const SAMPLES_PER_REQUEST: i64 = 2_000;

/// A small file system of its own; `None`, loudly, where this user may not mount one.
struct Small(PathBuf);

impl Small {
    fn mount(dir: &Path) -> Option<Small> {
        let path = dir.join("small");
        fs::create_dir(&path).unwrap();
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", "size=32m", "tmpfs"])
            .arg(&path)
            .status();
        if mounted.is_ok_and(|s| s.success()) {
            return Some(Small(path));
        }
        crate::clients::skipped("mounting a small file system needs root");
        None
    }

    /// Takes all the room there is.
    fn fill(&self) {
        let mut ballast = File::create(self.0.join("ballast")).unwrap();
        for size in [1 << 20, 1 << 16, 4096, 1] {
            let block = vec![0xaa; size];
            while ballast.write_all(&block).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.0.join("ballast")).unwrap();
    }
}

impl Drop for Small {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

/// Sends the next request; whether it was taken. Anything but "taken" and "try later" fails the test.
fn send(server: &Server, next: &mut i64, acknowledged: &mut BTreeMap<i64, f64>) -> bool {
    let samples: Vec<(i64, f64)> = (*next..*next + SAMPLES_PER_REQUEST)
        .map(|n| (START_MS + n, (n as f64).sin()))
        .collect();
    let answer = server.write(&series(&[("__name__", "full")], &samples));
    match answer.status {
        204 => {
            acknowledged.extend(samples);
            *next += SAMPLES_PER_REQUEST;
            true
        }
        503 => {
            assert!(answer.header("retry-after").is_some(), "{}", answer.head);
            false
        }
        other => panic!("{other}: {}", answer.text()),
    }
}

fn check(server: &Server, next: i64, acknowledged: &BTreeMap<i64, f64>) {
    let at = (START_MS + next) as f64 / 1000.0 + 1.0;
    let found = server.samples("full", at, (next / 1000) as u64 + 60);
    let there = |t: &i64, v: &f64| found.binary_search_by_key(t, |s| s.0).is_ok_and(|i| found[i].1 == *v);
    let lost = acknowledged.iter().filter(|(t, v)| !there(t, v)).count();
    assert_eq!(lost, 0, "of {} acknowledged samples", acknowledged.len());
}

#[test]
fn a_full_disk_refuses_loses_nothing_and_goes_on_by_itself() {
    let dir = Dir::new();
    let Some(small) = Small::mount(dir.path()) else { return };
    let data = small.0.join("data");
    let server = Server::start(&data);
    let (mut next, mut acknowledged) = (0, BTreeMap::new());
    for _ in 0..20 {
        assert!(send(&server, &mut next, &mut acknowledged));
    }
    small.fill();
    // what fits into room taken before may still be taken; then it must be refused
    let mut tries = 0;
    while send(&server, &mut next, &mut acknowledged) {
        tries += 1;
        assert!(tries < 5_000, "a full disk takes everything");
    }
    check(&server, next, &acknowledged);
    server.kill();
    let server = Server::start(&data); // while it is full
    check(&server, next, &acknowledged);
    small.free();
    let deadline = Instant::now() + PATIENCE;
    while !send(&server, &mut next, &mut acknowledged) {
        assert!(Instant::now() < deadline, "there is room again, and nothing is taken");
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    check(&server, next, &acknowledged);
    server.kill();
    let server = Server::start(&data);
    check(&server, next, &acknowledged);
}
