use std::path::Path;

use host::Files;
use host::sim::{Dice, Machine};

use super::damage::build;
use super::model_based::{DIR, open};

fn round(engine: &crate::engine::Engine) -> u64 {
    let rounds = engine.stats().scrub.rounds;
    let mut bytes = 0;
    while engine.stats().scrub.rounds == rounds {
        let step = engine.scrub(1000);
        // a group or a file at a time
        assert!(step < 200_000, "{step} bytes at once");
        bytes += step;
    }
    bytes
}

#[test]
fn every_stored_byte_is_checked_while_it_is_used() {
    let machine = Machine::new(1);
    build(&machine);
    let (engine, ..) = open(&machine);
    let stored: u64 = machine
        .files
        .list(Path::new(DIR))
        .unwrap()
        .iter()
        .filter(|e| e.name != "format")
        .map(|e| e.len)
        .sum();
    let bytes = round(&engine);
    assert!(bytes >= stored, "{bytes} of {stored} bytes");
    assert_eq!(engine.stats().quarantined, []);
    assert_eq!(engine.stats().scrub.rounds, 1);
    // a block that goes while it is checked ends nothing
    engine.scrub(1);
    engine.compact_all().unwrap();
    round(&engine);
    assert_eq!(engine.stats().quarantined, []);
}

#[test]
fn a_byte_that_went_bad_is_found_by_name() {
    for seed in 0..150 {
        let machine = Machine::new(seed);
        let mut dice = Dice(seed);
        build(&machine);
        let (engine, ..) = open(&machine);
        let entries = machine.files.list(Path::new(DIR)).unwrap();
        let files: Vec<_> = entries.iter().filter(|e| !e.is_dir && e.name != "format").collect();
        let entry = files[dice.below(files.len() as u64) as usize];
        let path = Path::new(DIR).join(&entry.name);
        let at = dice.below(entry.len);
        if dice.one_in(2) {
            machine
                .files
                .edit(&path, |b| b[at as usize] ^= 1 << dice.below(8))
                .unwrap();
        } else {
            machine.files.spoil(&path, at..at + 1).unwrap();
        }
        round(&engine);
        let found = engine.stats().quarantined;
        assert!(
            found.iter().any(|q| q.file == entry.name),
            "seed {seed}: {at} of {} in {}: {found:?}",
            entry.len,
            entry.name
        );
        let told = found.len();
        round(&engine);
        assert_eq!(engine.stats().quarantined.len(), told, "told once");
    }
}

/// Reading may take long on a bad disk: neither figures nor seals wait for it, and it waits for none of these.
#[test]
fn a_check_is_in_nobodys_way() {
    let machine = Machine::new(1);
    build(&machine);
    let (engine, ..) = open(&machine);
    let checking = engine.scrub.lock();
    assert_eq!(engine.stats().scrub.rounds, 0);
    engine.seal().unwrap();
    drop(checking);
    let committing = engine.lock_writer();
    round(&engine);
    drop(committing);
    assert_eq!(engine.stats().quarantined, []);
}
