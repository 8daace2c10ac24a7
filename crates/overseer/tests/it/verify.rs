//! `overseer verify`: clean is clean, and each damage is named.
use std::fs;
use std::path::Path;

use serde_json::Value;

use crate::corruption::{copy, damage, files, fixture};
use crate::server::{Dir, Server, run};

fn verify(data: &Path) -> (i32, Value, String) {
    let (code, out, errors) = run(&["verify", "--json", "--data-dir", data.to_str().unwrap()]);
    (code, serde_json::from_str(&out).unwrap_or(Value::Null), errors)
}

#[test]
fn a_whole_directory_is_clean_and_stays_as_it_is() {
    let dir = Dir::new();
    let original = dir.path().join("original");
    fixture(&original);
    let mut before = Vec::new();
    files(&original, &mut before);
    let contents: Vec<Vec<u8>> = before.iter().map(|p| fs::read(p).unwrap()).collect();
    let (code, report, errors) = verify(&original);
    assert_eq!(code, 0, "{report} {errors}");
    assert_eq!(report["clean"], true);
    assert!(report["samples"].as_u64().unwrap() > 0 && report["log_records"].as_u64().unwrap() > 0);
    let mut after = Vec::new();
    files(&original, &mut after);
    assert_eq!(before, after);
    for (path, content) in before.iter().zip(contents) {
        assert_eq!(fs::read(path).unwrap(), content, "{}", path.display());
    }
    let (code, text, _) = run(&["verify", "--data-dir", original.to_str().unwrap()]);
    assert!(code == 0 && text.contains("clean"), "{text}");
}

#[test]
fn each_damaged_file_is_named_with_what_is_lost() {
    let dir = Dir::new();
    let original = dir.path().join("original");
    fixture(&original);
    let mut all = Vec::new();
    files(&original, &mut all);
    for (f, path) in all.iter().enumerate() {
        let name = path.strip_prefix(&original).unwrap();
        // where a server was reached is no data
        if name.to_string_lossy().ends_with(".spare") || name == Path::new("running") {
            continue;
        }
        // behind a series file's last section anything may stand
        let how = if name.to_string_lossy().contains("window-") {
            0
        } else {
            f % 6
        };
        let data = dir.path().join(format!("case-{f}"));
        copy(&original, &data);
        let what = damage(&data.join(name), how);
        let (code, report, errors) = verify(&data);
        // behind the end of a log's segment an earlier life of the file may stand
        if code == 0 && what == "something appended" && name.starts_with("log") {
            continue;
        }
        assert_eq!(code, 1, "{}, {what}: {report} {errors}", name.display());
        let told = report["findings"]
            .as_array()
            .unwrap()
            .iter()
            .any(|f| name == Path::new(f["file"].as_str().unwrap()) && !f["lost"].as_str().unwrap().is_empty());
        assert!(told, "{}, {what}: {report}", name.display());
        fs::remove_dir_all(&data).unwrap();
    }
}

#[test]
fn what_cannot_be_checked_is_neither_clean_nor_damaged() {
    let dir = Dir::new();
    let (code, _, errors) = verify(&dir.path().join("nowhere"));
    assert!(code == 2 && errors.contains("no such directory"), "{code} {errors}");
    let (code, _, errors) = verify(dir.path());
    assert!(code == 2 && errors.contains("no data directory"), "{code} {errors}");
    let data = dir.path().join("data");
    let server = Server::start(&data);
    let (code, _, errors) = verify(&data);
    assert!(code == 2 && errors.contains("running"), "{code} {errors}");
    server.must_write(&[("__name__", "m")], &[(1_700_000_000_000, 1.0)]);
    let url = format!("http://{}", server.address);
    let (code, out, errors) = run(&["verify", "--snapshot", "--url", &url, "--json"]);
    let report: Value = serde_json::from_str(&out).unwrap_or_default();
    assert_eq!(code, 0, "{report} {errors}");
    assert!(report["samples"].as_u64().unwrap() >= 1);
    assert_eq!(fs::read_dir(data.join("snapshots")).unwrap().count(), 0);
    assert!(server.stop().0.success());
    assert_eq!(run(&["verify", "--snapshot", "--url", &url]).0, 2);
    assert_eq!(verify(&data).0, 0);
}
