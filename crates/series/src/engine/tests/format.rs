use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::sim::Machine;
use host::{Files, OpenMode};
use model::{TimeRange, Want};

use super::model_based::{DIR, Step, World, open, read_all, record, within};
use crate::golden::golden;

/// A small data set: one block of each kind, a delete, both manifests.
fn build(machine: &Machine) -> World {
    let (engine, table, _) = open(machine);
    let mut world = World::new();
    let steps = [
        Step::Floats(
            (0..9)
                .flat_map(|s| (0..70).map(move |n| (s, n, 40 + s + (n % 7) as u8, s == 4)))
                .collect(),
        ),
        Step::Histograms(vec![(7, 1, 4), (7, 2, 5)]),
        Step::Seal,
        Step::CompactAll,
        Step::Floats(vec![(0, 71, 9, false), (0, 60, 1, false), (9, 3, 77, false)]),
        Step::Seal,
        Step::Delete(0, 3, 5),
        Step::Seal,
    ];
    for (i, step) in steps.iter().enumerate() {
        match step {
            Step::Seal => drop(engine.seal().unwrap()),
            Step::CompactAll => drop(engine.compact_all().unwrap()),
            step => engine.apply(i as u64 + 1, &record(step, &table, &mut world).unwrap()),
        }
    }
    world
}

#[test]
fn files_of_version_1_are_read() {
    let machine = Machine::new(11);
    let world = build(&machine);
    let names = machine.files.list(Path::new(DIR)).unwrap();
    let now: Vec<(&str, Vec<u8>)> = names
        .iter()
        .map(|e| {
            (
                e.name.as_str(),
                machine.files.read(&PathBuf::from(DIR).join(&e.name)).unwrap(),
            )
        })
        .collect();
    let stored = golden("engine-v1.txt", &now);
    let other = Machine::new(12);
    let files: Arc<dyn Files> = other.host().files;
    files.create_dir_all(Path::new(DIR)).unwrap();
    for (name, bytes) in stored {
        let file = files.open(&PathBuf::from(DIR).join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    let (engine, _, report) = open(&other);
    assert_eq!(report.quarantined, Vec::new());
    assert_eq!(
        read_all(&engine, TimeRange::ALL, Want::Samples).0,
        within(&world, TimeRange::ALL)
    );
}
