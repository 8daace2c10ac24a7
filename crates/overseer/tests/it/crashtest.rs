//! `overseer crashtest`: a few kills, and a directory it must not touch.
use crate::server::{Dir, run};

#[test]
fn some_kills_lose_nothing() {
    let dir = Dir::new();
    let data = dir.path().join("disk");
    let path = data.to_str().unwrap();
    let (code, out, errors) = run(&["crashtest", "--data-dir", path, "--cycles", "6", "--json"]);
    let report: serde_json::Value = serde_json::from_str(&out).unwrap_or_default();
    assert_eq!(code, 0, "{report} {errors}");
    assert_eq!(report["kills"], 6);
    for fault in ["lost", "duplicate", "corrupt", "phantom", "damages"] {
        assert_eq!(report[fault], 0, "{fault}: {report}");
    }
    assert!(report["acknowledged"].as_u64().unwrap() > 0, "{report}");
    // it writes into empty directories only
    let (code, _, errors) = run(&["crashtest", "--data-dir", path, "--cycles", "1"]);
    assert!(code == 2 && errors.contains("not empty"), "{code} {errors}");
    let (code, _, errors) = run(&["crashtest"]);
    assert!(code == 2 && errors.contains("--data-dir"), "{code} {errors}");
}
