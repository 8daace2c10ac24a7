use host::sim::Machine;
use model::{Batch, Delete, DeltaRow, Matcher, Record, TimeRange, Want};

use super::model_based::{TENANT, Value, labels, open, read_all, time};
use crate::engine::{Engine, EngineSettings};
use crate::table::SeriesTable;

fn delta(table: &SeriesTable, from: i64, to: i64, value: f64) -> Record {
    let mut batch = Batch::new(TENANT);
    batch.deltas.push(DeltaRow {
        series: table.intern(TENANT, labels(0).as_bytes(), None).unwrap(),
        start_ms: time(from),
        at_ms: time(to),
        value,
    });
    Record::Batch(batch)
}

fn totals(engine: &Engine) -> Vec<(i64, f64, i64)> {
    let (world, _) = read_all(engine, TimeRange::ALL, Want::Samples);
    let total = |(at, v): (&i64, &Value)| match v {
        Value::Float(bits, start) => (*at, f64::from_bits(*bits), *start),
        Value::Bucketed(..) => panic!("a histogram"),
    };
    world[&labels(0)].iter().map(total).collect()
}

#[test]
fn deltas_become_a_running_value_across_seals_and_restarts() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    engine.apply(1, &delta(&table, 0, 1, 5.0));
    engine.apply(2, &delta(&table, 1, 2, 3.0));
    // the same range again, under a new position: a sender's retry
    engine.apply(3, &delta(&table, 1, 2, 3.0));
    let start = time(0);
    let mut expected = vec![(time(1), 5.0, start), (time(2), 8.0, start)];
    assert_eq!(totals(&engine), expected);
    assert_eq!(engine.stats().deltas_skipped, 1);
    engine.seal().unwrap();
    engine.apply(4, &delta(&table, 2, 3, 1.0));
    // not sealed: lost with the process, and applied again
    let (engine, table, report) = open(&machine);
    assert_eq!(report.applied, 3);
    engine.apply(4, &delta(&table, 2, 3, 1.0));
    expected.push((time(3), 9.0, start));
    assert_eq!(totals(&engine), expected);
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    let (engine, table, _) = open(&machine);
    engine.apply(5, &delta(&table, 3, 4, 1.0));
    expected.push((time(4), 10.0, start));
    assert_eq!(totals(&engine), expected);
}

/// A delete that is applied and not sealed comes again with the log, after the deltas that came before it: these must find
/// the running value that they found, whatever was merged and committed meanwhile.
#[test]
fn a_delete_that_is_not_sealed_takes_nothing_from_what_replay_finds() {
    for merged_before in [false, true] {
        let machine = Machine::new(1);
        let (engine, table, _) = open(&machine);
        engine.apply(1, &delta(&table, 0, 1, 5.0));
        engine.seal().unwrap();
        if merged_before {
            engine.compact_all().unwrap();
        }
        let delete = Record::Delete(Delete {
            tenant: TENANT,
            matchers: vec![Matcher::equal("job", "test")],
            range: TimeRange::new(time(1), time(1)),
        });
        let replay = |engine: &Engine, table: &SeriesTable| {
            engine.apply(2, &delta(table, 1, 2, 3.0));
            engine.apply(3, &delete);
            assert_eq!(
                totals(engine),
                [(time(2), 8.0, time(0))],
                "merged before: {merged_before}"
            );
        };
        replay(&engine, &table);
        let merged = engine.compact_all().unwrap();
        assert_eq!(merged.files_in, usize::from(!merged_before));
        machine.clock.advance(std::time::Duration::from_secs(6));
        while engine.compact_step().unwrap().is_some() {}
        machine.files.crash();
        let (engine, table, report) = open(&machine);
        assert_eq!(report.applied, 1);
        assert_eq!(totals(&engine), [(time(1), 5.0, time(0))]);
        replay(&engine, &table);
        engine.seal().unwrap();
        engine.compact_all().unwrap();
        assert_eq!(totals(&engine), [(time(2), 8.0, time(0))]);
    }
}

#[test]
fn old_files_go_after_two_looks_at_the_clock() {
    let machine = Machine::new(1);
    let table = std::sync::Arc::new(SeriesTable::new([7; 16]));
    let settings = EngineSettings {
        retention_ms: Some(86_400_000),
        clock_confirmed_ms: Some(i64::MAX),
        ..EngineSettings::default()
    };
    let dir = std::path::Path::new(super::model_based::DIR);
    let (engine, _) = Engine::open(machine.host(), dir, settings, std::sync::Arc::clone(&table)).unwrap();
    engine.apply(1, &delta(&table, 0, 1, 5.0));
    engine.seal().unwrap();
    let far = time(1) + 10 * 86_400_000;
    engine.expire(time(2)).unwrap();
    // one jump of the clock is not believed
    assert_eq!(engine.expire(far).unwrap().files, 0);
    assert_eq!(engine.expire(time(2)).unwrap().files, 0);
    engine.expire(far).unwrap();
    assert_eq!(engine.expire(far).unwrap().files, 1);
    assert!(read_all(&engine, TimeRange::ALL, Want::Samples).0.is_empty());
    let (engine, _, report) = open(&machine);
    assert_eq!((report.applied, report.quarantined), (1, Vec::new()));
    assert_eq!(engine.stats().files, 0);
}
