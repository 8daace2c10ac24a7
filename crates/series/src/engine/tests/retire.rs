use std::time::Duration;

use host::sim::Machine;
use model::{Batch, DeltaRow, Record, TimeRange, Want};

use super::model_based::{Step, TENANT, World, check, labels, open, read_all, record, time};
use crate::engine::{Engine, EngineSettings, SealReason};

const DAY: Duration = Duration::from_secs(25 * 3600);

#[test]
fn series_that_nobody_writes_leave_memory_and_stay_to_be_found() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let mut world = World::new();
    let apply = |step: Step, world: &mut World| {
        let next = engine.applied() + 1;
        engine.apply(next, &record(&step, &table, world).unwrap());
    };
    for day in 0..5u8 {
        // each day a series that no other day has, and one that all have
        apply(
            Step::Floats(vec![
                (day + 1, i64::from(day) * 300, 9, false),
                (0, i64::from(day) * 300, 8, false),
            ]),
            &mut world,
        );
        engine.seal().unwrap();
        // in a level 0 file it is named through the table
        assert_eq!(engine.retire(engine.applied()).retired, 0);
        engine.compact_all().unwrap();
        machine.clock.advance(DAY);
        apply(Step::Floats(vec![(0, i64::from(day) * 300 + 1, 9, false)]), &mut world);
        let done = engine.retire(engine.applied());
        assert_eq!((done.retired, done.freed), (1, usize::from(day > 0)));
        check(&engine, &world);
        assert_eq!(engine.stats().series, 1, "day {day}");
    }
    // the ids were given again, and there are as many as live at a time and wait
    assert!(table.id_bound() <= 3, "{}", table.id_bound());
    machine.clock.advance(Duration::from_secs(3600));
    assert_eq!(engine.retire(engine.applied()).freed, 1);
    check(&engine, &world);
    // one comes back
    apply(Step::Floats(vec![(2, 2500, 9, false)]), &mut world);
    check(&engine, &world);
    engine.seal().unwrap();
    check(&engine, &world);
    engine.compact_all().unwrap();
    check(&engine, &world);
}

#[test]
fn a_retired_series_that_comes_back_keeps_its_id_and_a_delta_its_running_value() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let delta = |at: i64, value| {
        let mut batch = Batch::new(TENANT);
        let series = table.intern(TENANT, labels(4).as_bytes(), None).unwrap();
        batch.deltas.push(DeltaRow {
            series,
            start_ms: time(at - 1),
            at_ms: time(at),
            value,
        });
        (series, Record::Batch(batch))
    };
    let (first, one) = delta(1, 5.0);
    engine.apply(1, &one);
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    machine.clock.advance(DAY);
    assert_eq!(engine.retire(1).retired, 1);
    // admitted before it was retired, applied after
    let (second, two) = delta(2, 3.0);
    assert_eq!(first, second);
    engine.apply(2, &two);
    machine.clock.advance(Duration::from_secs(3600));
    assert_eq!(engine.retire(2).freed, 0, "it is in use");
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    machine.clock.advance(DAY);
    engine.retire(2);
    machine.clock.advance(DAY);
    assert_eq!(engine.retire(2).freed, 1);
    // its id goes to another one, which starts with nothing of it
    let other = table.intern(TENANT, labels(5).as_bytes(), None).unwrap();
    assert_eq!(other, first);
    let mut batch = Batch::new(TENANT);
    batch.deltas.push(DeltaRow {
        series: other,
        start_ms: time(2),
        at_ms: time(3),
        value: 1.0,
    });
    engine.apply(3, &Record::Batch(batch));
    engine.apply(4, &delta(4, 2.0).1);
    let (world, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
    let values = |n: u8| -> Vec<f64> {
        let of = |v: &super::model_based::Value| match v {
            super::model_based::Value::Float(bits, _) => f64::from_bits(*bits),
            super::model_based::Value::Bucketed(..) => f64::NAN,
        };
        world[&labels(n)].values().map(of).collect()
    };
    assert_eq!(values(4), [5.0, 8.0, 10.0]);
    assert_eq!(values(5), [1.0]);
}

/// A million active series fit in 2 GiB: what is kept for each is counted, the head with its first samples included.
#[test]
fn a_series_takes_two_kilobytes_at_most() {
    const SERIES: usize = 40_000;
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let mut next = 0;
    for round in 0..3i64 {
        let mut batch = Batch::new(TENANT);
        for n in 0..SERIES {
            let labels = model::Labels::from_pairs([
                ("__name__", format!("http_requests_{}", n % 100)),
                ("instance", format!("host-{:04}.example.org:9100", n / 400)),
                ("job", "node".to_owned()),
                ("path", format!("/api/v1/{}", n % 400)),
                ("zone", format!("zone-{}", n % 3)),
            ]);
            let id = table.intern(TENANT, labels.as_bytes(), None).unwrap();
            batch.floats.push(id, time(round), n as f64, 0);
        }
        next += 1;
        engine.apply(next, &Record::Batch(batch));
        let s = engine.stats();
        let kept = s.head_bytes + s.table_bytes + s.series_bytes + s.cache_bytes;
        assert!(kept / SERIES <= 2048, "{} B a series: {s:?}", kept / SERIES);
        if round == 1 {
            engine.seal().unwrap();
        }
    }
    let s = engine.stats();
    let kept = s.head_bytes + s.table_bytes + s.series_bytes;
    eprintln!(
        "head {} table {} other {} B a series",
        s.head_bytes / SERIES,
        s.table_bytes / SERIES,
        s.series_bytes / SERIES
    );
    assert!(kept / SERIES <= 1024, "{} B a series: {s:?}", kept / SERIES);
}

#[test]
fn memory_pressure_seals_and_then_slows() {
    let machine = Machine::new(1);
    let table = std::sync::Arc::new(crate::table::SeriesTable::new([7; 16]));
    let settings = EngineSettings {
        memory_bytes_max: 8 << 20,
        unsealed_bytes_max: usize::MAX,
        ..EngineSettings::default()
    };
    let dir = std::path::Path::new(super::model_based::DIR);
    let (engine, _) = Engine::open(machine.host(), dir, settings, std::sync::Arc::clone(&table)).unwrap();
    let mut next = 0;
    let mut apply = || {
        let mut batch = Batch::new(TENANT);
        for s in 0..2000u64 {
            let labels = model::Labels::from_pairs([("__name__", format!("m{s}"))]);
            let id = table.intern(TENANT, labels.as_bytes(), None).unwrap();
            batch.floats.push(id, time(next as i64), s as f64 * 0.37, 0);
        }
        next += 1;
        engine.apply(next, &Record::Batch(batch));
    };
    while engine.seal_due().is_none() {
        assert!(!engine.overfull());
        apply();
    }
    assert_eq!(engine.seal_due(), Some(SealReason::Memory));
    while !engine.overfull() {
        apply();
    }
    assert!(engine.stats().head_bytes < 20 << 20);
    engine.seal().unwrap();
    assert!(!engine.overfull());
    assert_eq!(engine.seal_due(), None);
    apply();
    // what is kept free does not count as pressure
    assert_eq!(engine.seal_due(), None);
}

/// The order of labels that selections remember goes with the labels.
#[test]
fn an_id_that_is_given_again_sorts_by_its_new_labels() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let mut world = World::new();
    let apply = |steps: &[u8], world: &mut World| {
        let rows = steps.iter().map(|s| (*s, 1, 9, false)).collect();
        let next = engine.applied() + 1;
        engine.apply(next, &record(&Step::Floats(rows), &table, world).unwrap());
    };
    apply(&[5], &mut world);
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    apply(&[7, 0, 1, 2, 6, 3, 4, 8], &mut world);
    machine.clock.advance(DAY);
    assert_eq!(engine.retire(engine.applied()).retired, 1);
    machine.clock.advance(DAY);
    assert_eq!(engine.retire(engine.applied()).freed, 1);
    check(&engine, &world);
    apply(&[5], &mut world);
    check(&engine, &world);
}
