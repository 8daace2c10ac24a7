use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::sim::Machine;
use model::{Batch, Budget, ExemplarRow, Labels, Record, SampleSource, TimeRange};

use super::model_based::{DIR, Step, TENANT, World, check, labels, open, record, time};
use crate::engine::{Engine, EngineSettings};
use crate::table::SeriesTable;

fn exemplars(engine: &Engine) -> Vec<i64> {
    let found = engine.exemplars(TENANT, &[], TimeRange::ALL, &Budget::unlimited());
    found
        .unwrap()
        .iter()
        .flat_map(|(_, list)| list.iter().map(|e| e.at_ms))
        .collect()
}

#[test]
fn exemplars_go_with_the_samples_that_are_deleted() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let id = table.intern(TENANT, labels(1).as_bytes(), None).unwrap();
    let batch = |steps: &[i64]| {
        let mut batch = Batch::new(TENANT);
        for &n in steps {
            batch.floats.push(id, time(n), 1.0, 0);
            batch.exemplars.push(ExemplarRow {
                series: id,
                at_ms: time(n),
                value: 0.5,
                labels: Labels::from_pairs([("trace_id", n.to_string())]),
            });
        }
        Record::Batch(batch)
    };
    let delete = |from, to| record(&Step::Delete(1, from, to), &table, &mut World::new()).unwrap();
    engine.apply(1, &batch(&[1, 2, 3]));
    engine.seal().unwrap();
    engine.apply(2, &batch(&[4, 5]));
    engine.apply(3, &delete(2, 4));
    // one that comes later stays
    engine.apply(4, &batch(&[2]));
    let left = [time(1), time(2), time(5)];
    assert_eq!(exemplars(&engine), left);
    engine.seal().unwrap();
    assert_eq!(exemplars(&engine), left);
    engine.compact_all().unwrap();
    assert_eq!(engine.stats().tombstones, 0);
    assert_eq!(exemplars(&engine), left);
    let (engine, ..) = open(&machine);
    assert_eq!(exemplars(&engine), left);
}

#[test]
fn many_deletes_are_cut_while_samples_come_in() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let mut world = World::new();
    let apply = |step: Step, world: &mut World| {
        let next = engine.applied() + 1;
        engine.apply(next, &record(&step, &table, world).unwrap());
    };
    let rows = (0..9u8).flat_map(|s| (0..800).map(move |n| (s, n, s.wrapping_add(n as u8), false)));
    apply(Step::Floats(rows.collect()), &mut world);
    engine.seal().unwrap();
    for n in 0..300i64 {
        apply(Step::Delete((n % 9) as u8, n * 2, n * 2), &mut world);
    }
    apply(Step::Floats(vec![(0, 900, 9, false)]), &mut world);
    assert_eq!(engine.stats().tombstones, 300);
    engine.seal().unwrap();
    assert!(engine.shared.view().told_tombstones().len() <= 128);
    check(&engine, &world);
    {
        let (engine, ..) = open(&machine);
        check(&engine, &world);
    }
    assert!(!engine.idle());
    while engine.compact_step().unwrap().is_some() {}
    assert!(engine.stats().tombstones < 64, "{}", engine.stats().tombstones);
    check(&engine, &world);
}

#[test]
fn a_delete_makes_earlier_ones_of_less_superfluous() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let mut world = World::new();
    let steps = [
        Step::Floats((0..60).map(|n| (2, n, 9, false)).collect()),
        Step::Delete(2, 10, 20),
        Step::Floats(vec![(2, 15, 10, false)]),
        Step::Delete(2, 12, 14),
        Step::Delete(2, 8, 20),
    ];
    for (i, step) in steps.iter().enumerate() {
        engine.apply(i as u64 + 1, &record(step, &table, &mut world).unwrap());
        check(&engine, &world);
    }
    assert_eq!(engine.stats().tombstones, 3);
    engine.seal().unwrap();
    assert_eq!(engine.stats().tombstones, 1);
    check(&engine, &world);
}

/// A later delete of more takes an earlier one's place when it is itself in a manifest, and no sooner: what is made of the
/// files before, a backup or a start without the log's end, must lack what was deleted.
#[test]
fn a_delete_stands_until_what_supersedes_it_is_durable() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let mut world = World::new();
    let mut position = 0;
    let mut apply = |step: Step, world: &mut World| {
        position += 1;
        engine.apply(position, &record(&step, &table, world).unwrap());
    };
    apply(Step::Floats((0..60).map(|n| (2, n, 9, false)).collect()), &mut world);
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    apply(Step::Delete(2, 10, 20), &mut world);
    engine.seal().unwrap();
    // of another day: merging these leaves the first file as it is
    for n in 0..2 {
        apply(Step::Floats(vec![(5, 3000 + n, 9, false)]), &mut world);
        engine.seal().unwrap();
    }
    let durable = world.clone();
    apply(Step::Delete(2, 5, 25), &mut world);
    check(&engine, &world);
    assert_ne!(durable, world);
    // a commit of a position before the later delete
    machine.clock.advance(Duration::from_secs(6));
    assert_eq!(engine.compact_step().unwrap().unwrap().files_in, 2);
    assert_eq!(engine.stats().tombstones, 2);
    check(&engine, &world);
    let report = engine.snapshot(Path::new("/data/copy")).unwrap();
    assert_eq!(report.position, 4);
    for dir in ["/data/copy", DIR] {
        let table = Arc::new(SeriesTable::new([7; 16]));
        let (copy, report) = Engine::open(machine.host(), Path::new(dir), EngineSettings::default(), table).unwrap();
        assert_eq!(report.applied, 4);
        check(&copy, &durable);
    }
    engine.seal().unwrap();
    assert_eq!(engine.stats().tombstones, 1);
    check(&engine, &world);
    let (engine, ..) = open(&machine);
    check(&engine, &world);
}
