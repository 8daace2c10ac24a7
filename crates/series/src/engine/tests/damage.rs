use std::path::{Path, PathBuf};
use std::time::Duration;

use host::Files;
use host::sim::{Dice, Machine};
use model::{TimeRange, Want};

use super::model_based::{DIR, Step, World, check, open, read_all, record};
use crate::engine::open::IDENTITY;

/// A data set with files of every kind: both manifests, two windows, level 0, level 1 of two days.
pub(crate) fn build(machine: &Machine) -> (World, u64) {
    let (engine, table, _) = open(machine);
    let mut world = World::new();
    let mut position = 0;
    let mut apply = |engine: &crate::engine::Engine, step: Step, world: &mut World| {
        position += 1;
        engine.apply(position, &record(&step, &table, world).unwrap());
    };
    for round in 0..6i64 {
        let rows =
            (0..9u8).flat_map(|s| (0..40).map(move |n| (s, round * 300 + n, s.wrapping_mul(n as u8) | 4, false)));
        apply(&engine, Step::Floats(rows.collect()), &mut world);
        apply(&engine, Step::Histograms(vec![(1, round * 300 + 100, 9)]), &mut world);
        if round == 1 {
            apply(&engine, Step::Delete(3, 5, 9), &mut world);
        }
        engine.seal().unwrap();
        match round {
            2 => drop(engine.compact_all().unwrap()),
            4 => machine.clock.advance(Duration::from_secs(3 * 3600)),
            _ => {}
        }
    }
    apply(&engine, Step::Delete(6, 305, 309), &mut world);
    engine.seal().unwrap();
    (world, position)
}

pub(crate) fn harm(kind: u64, dice: &mut Dice, bytes: &mut Vec<u8>) {
    let len = bytes.len() as u64;
    match kind {
        0 => {
            let at = dice.below(len) as usize;
            bytes[at] ^= 1 << dice.below(8);
        }
        1 => {
            let at = dice.below(len) as usize;
            for b in bytes.iter_mut().skip(at).take(64) {
                *b = dice.next() as u8;
            }
        }
        2 => {
            let at = dice.below(len) as usize;
            bytes[at..].iter_mut().take(4096).for_each(|b| *b = 0);
        }
        3 => bytes.truncate(dice.below(len) as usize),
        4 => bytes.clear(),
        _ => bytes.extend((0..dice.below(100) + 1).map(|n| n as u8)),
    }
}

/// Whatever befalls one file, the engine starts, tells no wrong value, says what is missing, and takes new samples.
fn endure(seed: u64) {
    let machine = Machine::new(seed);
    let mut dice = Dice(seed);
    let (mut world, mut position) = build(&machine);
    let names = machine.files.list(Path::new(DIR)).unwrap();
    let name = names[dice.below(names.len() as u64) as usize].name.clone();
    let path = PathBuf::from(DIR).join(&name);
    let kind = dice.below(7);
    if kind == 6 {
        machine.files.remove(&path).unwrap();
    } else {
        machine.files.edit(&path, |bytes| harm(kind, &mut dice, bytes)).unwrap();
    }
    let table = std::sync::Arc::new(crate::table::SeriesTable::new([1; 16]));
    let (engine, report) = crate::engine::Engine::open(
        machine.host(),
        Path::new(DIR),
        Default::default(),
        std::sync::Arc::clone(&table),
    )
    .unwrap();
    let told = !report.quarantined.is_empty();
    let look = |engine: &crate::engine::Engine, world: &World, told: bool| {
        let (found, warnings) = read_all(engine, TimeRange::ALL, Want::Samples);
        let mut missing = 0;
        for (labels, samples) in world {
            for (at, value) in samples {
                match found.get(labels).and_then(|s| s.get(at)) {
                    Some(v) => assert_eq!(v, value, "{name} {kind}: wrong value of {labels} at {at}"),
                    None => missing += 1,
                }
            }
        }
        for (labels, samples) in &found {
            let known = world
                .get(labels)
                .unwrap_or_else(|| panic!("{name} {kind}: phantom {labels}"));
            assert!(
                samples.keys().all(|at| known.contains_key(at)),
                "{name} {kind}: phantom sample"
            );
        }
        let said = told || !warnings.is_empty();
        assert!(missing == 0 || said, "{name} {kind}: {missing} samples gone in silence");
        missing
    };
    let missing = look(&engine, &world, told);
    if !name.starts_with("block-") {
        assert_eq!(missing, 0, "{name} {kind}: all but blocks can be done without");
        assert!(
            told || name.starts_with("window") || (name == IDENTITY && kind == 5),
            "{name} {kind}"
        );
    }
    for round in 0..2 {
        // what was damaged may lack samples from here on; new ones are all there
        let rows = (0..9u8).map(|s| (s, 4000 + round, s + 10, false)).collect();
        position += 1;
        engine.apply(position, &record(&Step::Floats(rows), &table, &mut world).unwrap());
        look(&engine, &world, true);
        engine.seal().unwrap();
        let _ = engine.compact_all();
        assert!(look(&engine, &world, true) <= missing);
    }
    let (engine, table, report) = open(&machine);
    assert_eq!(report.applied, position);
    assert!(look(&engine, &world, true) <= missing);
    if missing == 0 {
        drop(table);
        check_without_warnings(&engine, &world);
    }
}

pub(super) fn check_without_warnings(engine: &crate::engine::Engine, world: &World) {
    let (found, _) = read_all(engine, TimeRange::ALL, Want::Samples);
    let mut world = world.clone();
    world.retain(|_, s| !s.is_empty());
    assert_eq!(found, world);
}

#[test]
fn one_damaged_file_is_endured() {
    for seed in 0..400 {
        endure(seed);
    }
}

#[test]
fn an_undamaged_set_is_whole() {
    let machine = Machine::new(0);
    let (world, _) = build(&machine);
    let (engine, _, report) = open(&machine);
    assert_eq!(report.quarantined, Vec::new());
    check(&engine, &world);
}
