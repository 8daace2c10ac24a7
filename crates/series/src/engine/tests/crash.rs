use std::time::Duration;

use host::sim::{Dice, Failure, Faults, Machine, Operation};

use super::model_based::{Step, World, check, open, open_with, record, step};
use crate::engine::{Engine, EngineSettings};
use proptest::prelude::*;

/// Steps with something going wrong in between; the log survives everything. Nothing applied is ever missing, and what
/// failed works when it is tried again.
fn survive(steps: &[Step], seed: u64) {
    survive_on(&Machine::new(seed), steps, seed, &EngineSettings::default(), check);
}

/// The same on a machine, with settings and a check of one's own.
pub(super) fn survive_on(
    machine: &Machine,
    steps: &[Step],
    seed: u64,
    settings: &EngineSettings,
    check: fn(&Engine, &World),
) {
    let open = |machine: &Machine| open_with(machine, settings.clone());
    let mut dice = Dice(seed);
    let (mut engine, mut table, _) = open(machine);
    let mut world = World::new();
    let mut log: Vec<Step> = Vec::new();
    for step in steps {
        if let Some(record) = record(step, &table, &mut world) {
            log.push(step.clone());
            engine.apply(log.len() as u64, &record);
        }
        let failure = [Failure::Stop, Failure::Io, Failure::NoSpace, Failure::Short][dice.below(4) as usize];
        let on = [Operation::Change, Operation::Sync, Operation::SyncDir, Operation::Entry][dice.below(4) as usize];
        machine.files.plan(Faults::none().and(on, 1 + dice.below(12), failure));
        let failed = match step {
            Step::Seal => engine.seal().is_err(),
            Step::Compact => {
                machine.clock.advance(Duration::from_secs(6));
                engine.compact_step().is_err()
            }
            Step::CompactAll | Step::Idle => engine.compact_all().is_err(),
            _ => false,
        };
        machine.files.plan(Faults::none());
        // it may have been stopped in what a commit does not wait for
        let stopped = failure == Failure::Stop;
        if stopped || matches!(step, Step::Reopen) {
            drop(engine);
            if dice.one_in(2) {
                machine.files.crash();
            } else {
                machine.files.kill();
            }
            let report;
            (engine, table, report) = open(machine);
            assert_eq!(report.quarantined, Vec::new());
            assert!(!report.rebuilt);
            for (i, step) in log.iter().enumerate().skip(report.applied as usize) {
                let record = record(step, &table, &mut World::new()).unwrap();
                engine.apply(i as u64 + 1, &record);
            }
        } else if failed && dice.one_in(2) {
            engine.seal().unwrap();
            engine.compact_all().unwrap();
        }
        check(&engine, &world);
    }
    engine.seal().unwrap();
    check(&engine, &world);
    drop(engine);
    machine.files.crash();
    let (engine, _, report) = open(machine);
    assert_eq!(report.applied, log.len() as u64);
    check(&engine, &world);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn nothing_applied_is_lost(steps in prop::collection::vec(step(), 1..25), seed: u64) {
        survive(&steps, seed);
    }
}

/// A full disk holds up sealing, not applying and reading, and nothing has to be restarted when there is room again.
#[test]
fn a_full_disk_is_waited_for() {
    let machine = Machine::new(5);
    let (engine, table, _) = open(&machine);
    let mut world = World::new();
    for n in 1..20u64 {
        let step = Step::Floats((0..9).map(|s| (s, n as i64, n as u8 + 3, false)).collect());
        engine.apply(n, &record(&step, &table, &mut world).unwrap());
        machine.files.set_capacity(Some(machine.files.used_bytes() + 10));
        assert!(engine.seal().is_err());
        check(&engine, &world);
    }
    machine.files.set_capacity(None);
    assert_eq!(engine.seal().unwrap().position, 19);
    check(&engine, &world);
    let (engine, ..) = open(&machine);
    check(&engine, &world);
}

/// A block that could not be read when newer ones were merged is not merged with still newer ones later: its samples would
/// come to stand above those of the blocks in between.
#[test]
fn what_was_left_out_of_a_merge_stays_below_it() {
    let machine = Machine::new(11);
    let mut world = World::new();
    let (engine, table, _) = open(&machine);
    let mut position = 0;
    let mut put = |engine: &crate::engine::Engine, table: &crate::table::SeriesTable, value: u8| {
        position += 1;
        let step = Step::Floats(vec![(1, 7, value, false), (2, i64::from(value), value, false)]);
        engine.apply(position, &record(&step, table, &mut world).unwrap());
        engine.seal().unwrap();
    };
    put(&engine, &table, 10);
    drop(engine);
    let (engine, table, _) = open(&machine);
    let first = std::path::Path::new(super::model_based::DIR).join("block-0000000001");
    machine.files.spoil(&first, 0..1 << 20).unwrap();
    for value in 11..14 {
        put(&engine, &table, value);
    }
    let _ = engine.compact_all();
    drop(engine);
    machine.files.spoil(&first, 0..0).unwrap();
    let (engine, table, _) = open(&machine);
    for value in 14..17 {
        put(&engine, &table, if value == 16 { 30 } else { value });
    }
    machine.clock.advance(Duration::from_secs(6));
    while engine.compact_step().unwrap().is_some() {
        check(&engine, &world);
    }
    engine.compact_all().unwrap();
    check(&engine, &world);
}
