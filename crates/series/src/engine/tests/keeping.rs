use std::path::{Path, PathBuf};

use host::Files;
use host::sim::Machine;
use model::{Budget, MatchOp, Matcher, TimeRange, Want};

use super::damage::build;
use super::model_based::{DIR, Step, TENANT, check, open, read_all, record};
use crate::verify::verify;

const TO: &str = "/data/snapshots/one/series";

/// Moves what is in the snapshot to where `open` looks.
fn restored(machine: &Machine) -> Machine {
    let other = Machine::new(77);
    other.files.create_dir_all(Path::new(DIR)).unwrap();
    for e in machine.files.list(Path::new(TO)).unwrap() {
        let bytes = machine.files.read(&PathBuf::from(TO).join(&e.name)).unwrap();
        other
            .files
            .write_atomic(&PathBuf::from(DIR).join(&e.name), &bytes)
            .unwrap();
    }
    other
}

#[test]
fn a_snapshot_is_the_data_set_of_its_moment_and_clean() {
    let machine = Machine::new(3);
    let (mut world, mut position) = build(&machine);
    let (engine, table, _) = open(&machine);
    let before = engine.snapshot(Path::new(TO)).unwrap();
    assert_eq!((before.position, before.missing.len()), (position, 0));
    let then = world.clone();
    // what comes later, also into files that were there, is not in it
    for round in 0..3u8 {
        position += 1;
        let rows = (0..12u8).map(|s| (s, 5000 + i64::from(round), s, false)).collect();
        engine.apply(position, &record(&Step::Floats(rows), &table, &mut world).unwrap());
        engine.seal().unwrap();
    }
    engine.compact_all().unwrap();
    check(&engine, &world);
    let report = verify(&machine.host(), Path::new(TO), &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.applied), (Vec::new(), before.position));
    let (copy, _, opened) = open(&restored(&machine));
    assert_eq!((opened.applied, opened.quarantined.len()), (before.position, 0));
    let (found, _) = read_all(&copy, TimeRange::ALL, Want::Samples);
    let mut then = then;
    then.retain(|_, s| !s.is_empty());
    assert_eq!(found, then);
}

#[test]
fn a_snapshot_of_a_damaged_set_says_what_it_lacks() {
    let machine = Machine::new(4);
    build(&machine);
    let names = machine.files.list(Path::new(DIR)).unwrap();
    let block = names.iter().find(|e| e.name.starts_with("block-")).unwrap();
    machine.files.remove(&PathBuf::from(DIR).join(&block.name)).unwrap();
    let (engine, ..) = open(&machine);
    let report = engine.snapshot(Path::new(TO)).unwrap();
    assert_eq!(report.missing, std::slice::from_ref(&block.name));
}

#[test]
fn what_a_delete_would_take_is_what_it_takes() {
    let machine = Machine::new(6);
    let (world, position) = build(&machine);
    let (engine, table, _) = open(&machine);
    let all = [Matcher::new("__name__", MatchOp::Regex, ".+").unwrap()];
    let budget = Budget::unlimited();
    let weight = engine.weigh(TENANT, &all, TimeRange::ALL, &budget).unwrap();
    let samples: usize = world.values().map(|s| s.len()).sum();
    assert_eq!(weight.samples, samples as u64);
    assert_eq!(weight.series, world.values().filter(|s| !s.is_empty()).count() as u64);
    assert!(weight.bytes > 0);
    let mut world = world;
    let delete = record(&Step::Delete(2, 0, 700), &table, &mut world).unwrap();
    let model::Record::Delete(d) = &delete else {
        unreachable!()
    };
    let gone = engine.weigh(d.tenant, &d.matchers, d.range, &budget).unwrap();
    assert!(gone.series >= 1 && gone.samples > 0);
    engine.apply(position + 1, &delete);
    let left = engine.weigh(TENANT, &all, TimeRange::ALL, &budget).unwrap();
    assert_eq!(left.samples, weight.samples - gone.samples);
}
