use std::path::{Path, PathBuf};

use host::Files;
use host::sim::{Dice, Machine};

use super::verify;
use crate::engine::tests::damage::{build, harm};
use crate::engine::tests::model_based::DIR;

#[test]
fn a_whole_set_is_clean_and_every_byte_counts() {
    let machine = Machine::new(5);
    let (world, position) = build(&machine);
    let mut done = 0;
    let report = verify(&machine.host(), Path::new(DIR), &mut |n| done += n).unwrap();
    assert_eq!(report.findings, []);
    assert!(report.notes.is_empty(), "{:?}", report.notes);
    assert_eq!(report.applied, position);
    let samples: usize = world.values().map(|s| s.len()).sum();
    assert!(report.samples >= samples as u64 && report.blocks > 2 && report.deletes > 0);
    // all but identity, manifests and footers is told of
    assert!(
        done <= report.bytes && done > report.bytes / 2,
        "{done} of {}",
        report.bytes
    );
}

/// Any change of any file that is part of the set is found, and named by the file.
#[test]
fn each_damage_is_found() {
    for seed in 0..600 {
        let machine = Machine::new(seed);
        let mut dice = Dice(seed);
        build(&machine);
        let names = machine.files.list(Path::new(DIR)).unwrap();
        let name = names[dice.below(names.len() as u64) as usize].name.clone();
        let path = PathBuf::from(DIR).join(&name);
        let before = machine.files.read(&path).unwrap();
        let kind = dice.below(7);
        if kind == 6 {
            machine.files.remove(&path).unwrap();
        } else {
            machine.files.edit(&path, |bytes| harm(kind, &mut dice, bytes)).unwrap();
        }
        let after = machine.files.read(&path).unwrap_or_default();
        let same = kind != 6 && before == after;
        // what lies behind the last section of a series file was never committed
        let behind = name.starts_with("window-") && after.starts_with(&before);
        let report = verify(&machine.host(), Path::new(DIR), &mut |_| {}).unwrap();
        if same || behind {
            assert_eq!(report.findings, [], "{name} {kind}");
        } else {
            assert!(
                report.findings.iter().any(|f| f.file == name && !f.lost.is_empty()),
                "{seed}: {name}, harm {kind}: {:?}",
                report.findings
            );
        }
    }
}

#[test]
fn nothing_is_written() {
    let machine = Machine::new(9);
    build(&machine);
    machine.files.remove(&PathBuf::from(DIR).join("manifest-a")).unwrap();
    let before = machine.files.list(Path::new(DIR)).unwrap();
    verify(&machine.host(), Path::new(DIR), &mut |_| {}).unwrap();
    assert_eq!(machine.files.list(Path::new(DIR)).unwrap(), before);
}
