//! One damaged file: it starts, says so, serves the rest, and never a wrong value.
use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use crate::remote_write::series;
use crate::server::{Dir, Server};

const SERIES: i64 = 8;
const SAMPLES: i64 = 600;
const START_MS: i64 = 1_600_000_000_000;
const STEP_MS: i64 = 30_000;
/// Names the data set.
const IDENTITY: &str = "series/format";

fn value_of(series: i64, n: i64) -> f64 {
    ((series * 7_919 + n * n * 31) % 100_003) as f64 / 4.0
}

/// Sealed and merged files, unsealed records in the log, ended by `kill -9`.
pub(crate) fn fixture(data: &Path) {
    let server = Server::start(data);
    for part in 0..4 {
        let mut body = Vec::new();
        for s in 0..SERIES {
            let range = part * SAMPLES / 4..(part + 1) * SAMPLES / 4;
            let samples: Vec<(i64, f64)> = range.map(|n| (START_MS + n * STEP_MS, value_of(s, n))).collect();
            body.extend(series(&[("__name__", "rot"), ("s", &s.to_string())], &samples));
        }
        assert_eq!(server.write(&body).status, 204);
        match part {
            0 => server.compact(),
            1 | 2 => server.flush(),
            _ => {}
        }
    }
    server.kill();
}

pub(crate) fn files(dir: &Path, out: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(dir).unwrap().flatten() {
        let path = entry.path();
        if path.is_dir() {
            files(&path, out);
        } else if entry.metadata().unwrap().len() > 0 {
            out.push(path);
        }
    }
}

pub(crate) fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap().flatten() {
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target);
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Bytes without the zeros that a preallocated file ends with.
fn used(bytes: &[u8]) -> usize {
    bytes.iter().rposition(|&b| b != 0).map_or(0, |p| p + 1)
}

pub(crate) fn damage(path: &Path, how: usize) -> &'static str {
    let mut bytes = fs::read(path).unwrap();
    let end = used(&bytes).max(1);
    let what = match how {
        0 => {
            bytes[end / 2] ^= 0x10;
            "one bit flipped"
        }
        1 => {
            let at = end / 3;
            let stop = (at + 64).min(bytes.len());
            bytes[at..stop].fill(0xa5);
            "64 bytes overwritten"
        }
        2 => {
            bytes.truncate(end * 2 / 3);
            "cut"
        }
        3 => {
            bytes.clear();
            "emptied"
        }
        4 => {
            bytes.truncate(end);
            bytes.extend((0..977u32).map(|n| (n * 37) as u8));
            "something appended"
        }
        _ => {
            fs::remove_file(path).unwrap();
            return "deleted";
        }
    };
    fs::write(path, bytes).unwrap();
    what
}

/// Samples found; panics on a wrong, doubled or invented one. `None`: the query failed, which is a report.
fn read(server: &Server) -> Option<usize> {
    let at = (START_MS + SAMPLES * STEP_MS) / 1000;
    let target = format!("/api/v1/query?query=rot[{}s]&time={at}", SAMPLES * STEP_MS / 1000 + 60);
    let answer = server.get(&target).expect("no answer");
    if answer.status != 200 {
        assert!(answer.json()["error"].is_string());
        return None;
    }
    let mut seen = BTreeMap::new();
    for one in answer.json()["data"]["result"].as_array().unwrap() {
        let s: i64 = one["metric"]["s"].as_str().unwrap().parse().unwrap();
        for point in one["values"].as_array().unwrap() {
            let at = (point[0].as_f64().unwrap() * 1000.0).round() as i64;
            let n = (at - START_MS) / STEP_MS;
            assert!(
                (0..SAMPLES).contains(&n) && (at - START_MS) % STEP_MS == 0,
                "an invented time {at}"
            );
            assert_eq!(
                point[1].as_str().unwrap().parse::<f64>().unwrap(),
                value_of(s, n),
                "series {s} sample {n}"
            );
            assert!(seen.insert((s, n), ()).is_none(), "series {s} sample {n} twice");
        }
    }
    Some(seen.len())
}

#[test]
fn damage_to_any_file_is_survived_and_told() {
    let dir = Dir::new();
    let original = dir.path().join("original");
    fixture(&original);
    let mut all = Vec::new();
    files(&original, &mut all);
    all.sort();
    let names: Vec<&Path> = all.iter().map(|p| p.strip_prefix(&original).unwrap()).collect();
    assert!(names.len() >= 3, "{names:?}");
    let mut case = 0;
    for (f, name) in names.iter().enumerate() {
        for how in [f % 6, (f + 3) % 6] {
            case += 1;
            let data = dir.path().join(format!("case-{case}"));
            copy(&original, &data);
            let what = damage(&data.join(name), how);
            let mut server = Server::start(&data);
            let found = read(&server);
            assert!(server.runs(), "{}, {what}: it died", name.display());
            server.must_write(&[("__name__", "after")], &[(START_MS, 1.0)]);
            assert_eq!(server.samples("after", START_MS as f64 / 1000.0, 60), [(START_MS, 1.0)]);
            let log = server.log().to_lowercase();
            assert!(!log.contains("panicked"), "{}, {what}:\n{log}", name.display());
            let all = (SERIES * SAMPLES) as usize;
            if found.is_some_and(|n| n < all) {
                let told = ["damaged", "checksum", "quarantin", "missing", "corrupt"]
                    .iter()
                    .any(|w| log.contains(w));
                let n = found.unwrap_or(0);
                assert!(
                    told,
                    "{}, {what}: {n} of {all} samples and not a word:\n{log}",
                    name.display()
                );
            }
            drop(server);
            fs::remove_dir_all(&data).unwrap();
        }
    }
}

#[test]
fn a_damaged_identity_is_made_anew_and_told() {
    let dir = Dir::new();
    fixture(dir.path());
    let path = dir.path().join(IDENTITY);
    let original = fs::read(&path).unwrap();
    for how in [0, 1, 2, 3, 5] {
        let what = damage(&path, how);
        let mut server = Server::start(dir.path());
        assert_eq!(read(&server), Some((SERIES * SAMPLES) as usize), "{what}");
        let log = server.log();
        assert!(log.contains("format") && log.contains("written anew"), "{what}: {log}");
        drop(server);
        assert_eq!(fs::read(&path).unwrap(), original, "{what}");
    }
}
