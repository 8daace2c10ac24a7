//! Files that cannot be read, now or for good: answers do without them and say so, and when they can be read again
//! everything is there, under its own labels.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::Files;
use host::sim::{Dice, Machine};
use model::{Batch, Budget, DeltaRow, Record, SampleSource, TimeRange, Want};

use super::damage::{build, check_without_warnings};
use super::model_based::{DIR, Step, TENANT, Value, World, labels, open, read_all, record, time};
use crate::engine::open::IDENTITY;
use crate::engine::{Engine, EngineSettings};
use crate::table::SeriesTable;

fn try_open(machine: &Machine) -> (Result<Engine, crate::engine::OpenError>, Arc<SeriesTable>, bool) {
    let table = Arc::new(SeriesTable::new([1; 16]));
    let settings = EngineSettings::default();
    match Engine::open(machine.host(), Path::new(DIR), settings, Arc::clone(&table)) {
        Ok((engine, report)) => (Ok(engine), table, !report.quarantined.is_empty()),
        Err(e) => (Err(e), table, true),
    }
}

fn look(engine: &Engine, world: &World, told: bool, context: &str) -> usize {
    let (found, warnings) = read_all(engine, TimeRange::ALL, Want::Samples);
    let mut missing = 0;
    for (labels, samples) in world {
        for (at, value) in samples {
            match found.get(labels).and_then(|s| s.get(at)) {
                Some(v) => assert_eq!(v, value, "{context}: wrong value of {labels} at {at}"),
                None => missing += 1,
            }
        }
    }
    for (labels, samples) in &found {
        let known = world.get(labels);
        let known = known.unwrap_or_else(|| panic!("{context}: phantom {labels}"));
        let ours = samples.keys().all(|at| known.contains_key(at));
        assert!(ours, "{context}: phantom sample of {labels}");
    }
    let said = told || !warnings.is_empty();
    assert!(missing == 0 || said, "{context}: {missing} samples gone in silence");
    missing
}

fn hold(seed: u64) {
    let machine = Machine::new(seed);
    let mut dice = Dice(seed);
    let (mut world, mut position) = build(&machine);
    let entries = machine.files.list(Path::new(DIR)).unwrap();
    // some of them at once
    let mut context = format!("seed {seed}:");
    let mut hurt = Vec::new();
    for _ in 0..1 + dice.below(2) {
        let entry = &entries[dice.below(entries.len() as u64) as usize];
        if entry.name.starts_with("manifest") && context.contains("manifest") {
            // a delete may stand in these two only
            continue;
        }
        let path = PathBuf::from(DIR).join(&entry.name);
        if dice.one_in(2) {
            let at = dice.below(entry.len);
            machine.files.spoil(&path, at..at + 1).unwrap();
            context += &format!(" a sector of {}", entry.name);
        } else {
            machine.files.refuse(&path, [13, 24][dice.below(2) as usize], u64::MAX);
            context += &format!(" an open of {}", entry.name);
        }
        hurt.push(path);
    }
    let (engine, table, told) = try_open(&machine);
    let engine = match engine {
        Ok(engine) => engine,
        Err(e) => {
            assert!(hurt.iter().any(|p| p.ends_with(IDENTITY)), "{context}: {e}");
            assert!(e.to_string().contains(IDENTITY), "{e}");
            return;
        }
    };
    look(&engine, &world, told, &context);
    for round in 0..2 {
        // of series that were there and of new ones
        let rows = (0..12u8).map(|s| (s, 4000 + round, s + 10, false)).collect();
        position += 1;
        engine.apply(position, &record(&Step::Floats(rows), &table, &mut world).unwrap());
        look(&engine, &world, true, &context);
        engine.seal().unwrap();
        engine.compact_all().unwrap_or_else(|e| panic!("{context}: {e}"));
        look(&engine, &world, true, &context);
    }
    drop(engine);
    machine.files.kill();
    let (engine, ..) = try_open(&machine);
    look(&engine.unwrap(), &world, true, &context);
    // whatever hindered is mended
    for path in &hurt {
        machine.files.refuse(path, 0, 0);
        if machine.files.exists(path) {
            machine.files.spoil(path, 0..0).unwrap();
        }
    }
    let (engine, ..) = try_open(&machine);
    let engine = engine.unwrap();
    assert_eq!(look(&engine, &world, true, &context), 0, "{context}: lost for good");
    engine.compact_all().unwrap();
    check_without_warnings(&engine, &world);
}

#[test]
fn what_cannot_be_read_is_kept_for_the_day_it_can() {
    for seed in 0..300 {
        hold(seed);
    }
}

#[test]
fn an_open_that_fails_for_a_while_costs_nothing() {
    let machine = Machine::new(1);
    let (world, _) = build(&machine);
    for entry in machine.files.list(Path::new(DIR)).unwrap() {
        machine.files.refuse(&Path::new(DIR).join(entry.name), 24, 1);
    }
    let (engine, _, told) = try_open(&machine);
    assert!(!told);
    check_without_warnings(&engine.unwrap(), &world);
}

fn delta(table: &SeriesTable, at: i64, value: f64) -> Record {
    let mut batch = Batch::new(TENANT);
    batch.deltas.push(DeltaRow {
        series: table.intern(TENANT, labels(0).as_bytes(), None).unwrap(),
        start_ms: time(at - 1),
        at_ms: time(at),
        value,
    });
    Record::Batch(batch)
}

#[test]
fn a_running_value_that_cannot_be_read_starts_anew_with_its_own_start_time() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    engine.apply(1, &delta(&table, 1, 5.0));
    engine.seal().unwrap();
    engine.apply(2, &delta(&table, 2, 3.0));
    engine.seal().unwrap();
    let blocks = machine.files.list(Path::new(DIR)).unwrap();
    let newest = blocks.iter().rfind(|e| e.name.starts_with("block-")).unwrap();
    let path = Path::new(DIR).join(&newest.name);
    let chunks = engine.shared.view().blocks[1].footer.directory.offset;
    drop(engine);
    machine.files.spoil(&path, chunks - 1..chunks).unwrap();
    let (engine, table, _) = open(&machine);
    engine.apply(3, &delta(&table, 3, 1.0));
    assert_eq!(engine.stats().deltas_restarted, 1);
    machine.files.spoil(&path, 0..0).unwrap();
    let (world, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
    let samples: Vec<(i64, f64, i64)> = world[&labels(0)]
        .iter()
        .map(|(at, v)| match v {
            Value::Float(bits, start) => (*at, f64::from_bits(*bits), *start),
            Value::Bucketed(..) => panic!("a histogram"),
        })
        .collect();
    // not 6, which would be an increase of 6 for those who see the 5 only, and of 6 again for those who see the 8
    let expected = [
        (time(1), 5.0, time(0)),
        (time(2), 8.0, time(0)),
        (time(3), 1.0, time(2)),
    ];
    assert_eq!(samples, expected);
    engine.apply(4, &delta(&table, 4, 1.0));
    assert_eq!(engine.stats().deltas_restarted, 1);
}

#[test]
fn answers_that_lack_series_for_their_labels_say_so() {
    let machine = Machine::new(1);
    let (engine, table, _) = super::model_based::open(&machine);
    let step = Step::Floats(vec![(1, 7, 9, false)]);
    engine.apply(1, &record(&step, &table, &mut World::new()).unwrap());
    engine.seal().unwrap();
    drop(engine);
    let path = Path::new(DIR).join("window-0000000001");
    machine.files.spoil(&path, 0..1).unwrap();
    machine
        .files
        .spoil(&Path::new(DIR).join("window-0000000001.copy"), 0..1)
        .unwrap();
    let (engine, ..) = super::model_based::open(&machine);
    let (found, warnings) = read_all(&engine, TimeRange::ALL, Want::Samples);
    assert!(found.is_empty());
    assert!(warnings[0].contains("window-0000000001"), "{warnings:?}");
    let values = engine.label_values(TENANT, "job", &[], TimeRange::ALL, &Budget::unlimited());
    assert_eq!(values.unwrap().warnings, warnings);
    // what the file has nothing of is whole
    let (_, warnings) = read_all(&engine, TimeRange::new(time(8), time(9)), Want::Samples);
    assert_eq!(warnings, [""; 0]);
}
