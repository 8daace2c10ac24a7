//! Merging comes to its end, whatever there is to merge, and needs few files at once.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use host::Files;
use host::sim::Machine;
use model::{MatchOp, Matcher, TimeRange, Want};
use proptest::prelude::*;

use super::model_based::{DIR, Step, World, check, open_with, read_all, record};
use crate::compaction::{FullPace, Pace};
use crate::engine::compact::{Ended, Plan};
use crate::engine::{Engine, EngineSettings};
use crate::retention::{ClassSet, RetentionClass, RollupKeep};
use crate::table::SeriesTable;
use crate::verify::verify;

/// Time steps of a day.
const DAY: i64 = 5760;

fn classes(count: u8) -> Vec<RetentionClass> {
    let class = |n: u8| RetentionClass {
        selector: format!("metric_{n}"),
        tenant: None,
        matchers: vec![Matcher::new("__name__", MatchOp::Equal, format!("metric_{n}")).unwrap()],
        keep_ms: None,
        rollups: RollupKeep::default(),
    };
    (0..count).map(class).collect()
}

fn apply(engine: &Engine, table: &SeriesTable, world: &mut World, step: &Step) {
    let next = engine.applied() + 1;
    engine.apply(next, &record(step, table, world).unwrap());
}

/// A sample of a series on each of these days.
fn days(series: u8, days: impl Iterator<Item = i64>, value: u8) -> Step {
    Step::Floats(days.map(|day| (series, day * DAY, value, false)).collect())
}

fn files(machine: &Machine) -> Vec<String> {
    let list = machine.files.list(Path::new(DIR)).unwrap();
    list.into_iter()
        .map(|e| e.name)
        .filter(|n| n.contains("block-"))
        .collect()
}

/// One file for each day and class, nothing else, and nothing that is left to do.
fn assert_merged(engine: &Engine) {
    let view = engine.shared.view();
    let mut held: BTreeMap<i64, ClassSet> = BTreeMap::new();
    for b in &view.blocks {
        let set = engine.class_set(b).unwrap();
        assert!(b.footer.level > 0 && !set.is_mixed());
        let of_day = held.entry(b.footer.day).or_insert(ClassSet::NONE);
        assert!(!of_day.overlaps(set), "two files of day {}", b.footer.day);
        *of_day = ClassSet(of_day.0 | set.0);
    }
    let again = engine.compact_all().unwrap();
    assert_eq!((again.files_in, again.files_out), (0, 0));
    assert_eq!(engine.stats().merges_in_vain, 0);
}

#[test]
fn a_history_that_is_filled_in_twice_is_merged_in_bounded_work() {
    for count in [1i64, 31, 32, 33, 40, 70, 200] {
        let machine = Machine::new(1);
        let (engine, table, _) = open_with(&machine, EngineSettings::default());
        let mut world = World::new();
        for series in 0..3u8 {
            apply(&engine, &table, &mut world, &days(series, 0..count, 9));
            engine.seal().unwrap();
            let report = engine.compact_all().unwrap();
            // the new file's days, and each day once more with what was there
            let most = count as usize * 2;
            assert!(report.files_out <= most, "{count} days, series {series}: {report:?}");
            assert_eq!(engine.stats().files, count as usize);
            assert_merged(&engine);
            check(&engine, &world);
        }
        assert_eq!(files(&machine).len(), count as usize);
    }
}

#[derive(Clone, Debug)]
enum Round {
    /// (series, first day, days, step between them, value)
    Days(Vec<(u8, i64, i64, i64, u8)>),
    Delete(u8, i64, i64),
}

fn round() -> impl Strategy<Value = Round> {
    let rows = (0..9u8, -40..40i64, 1..40i64, 1..30i64, 2..200u8);
    prop_oneof![
        6 => prop::collection::vec(rows, 1..4).prop_map(Round::Days),
        1 => (0..9u8, -40..40i64, 0..80i64).prop_map(|(n, a, len)| Round::Delete(n, a * DAY, (a + len) * DAY)),
    ]
}

fn step_of(round: &Round) -> Step {
    match round {
        Round::Days(all) => {
            let rows = all.iter().flat_map(|&(n, first, days, step, v)| {
                (0..days).map(move |d| (n, (first + d * step) * DAY + d, v, false))
            });
            Step::Floats(rows.collect())
        }
        Round::Delete(n, from, to) => Step::Delete(*n, *from, *to),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any number of files, days, classes and series: every step leaves less to do, by the engine's own measure, which
    /// commits no other; none makes more files than it may; and all is as it was.
    #[test]
    fn every_merge_leaves_less_to_do(
        rounds in prop::collection::vec((round(), prop::bool::weighted(0.5)), 1..14),
        class_count in 0..4u8,
        inputs_max in 2..6usize,
        outputs_max in 2..20usize,
        merge_files in 2..5usize,
    ) {
        let settings = EngineSettings {
            retention_classes: classes(class_count),
            merge_inputs_max: inputs_max,
            merge_outputs_max: outputs_max,
            merge_files: merge_files.min(inputs_max),
            open_files_max: 5,
            ..EngineSettings::default()
        };
        let machine = Machine::new(5);
        machine.files.set_handles_max(Some(48));
        let (engine, table, _) = open_with(&machine, settings.clone());
        let mut world = World::new();
        // two days of all classes are the least that one merge makes
        let most = outputs_max.max(2 * (usize::from(class_count) + 1)).max(9);
        for (round, all) in &rounds {
            apply(&engine, &table, &mut world, &step_of(round));
            engine.seal().unwrap();
            if *all {
                engine.compact_all().unwrap();
                assert_merged(&engine);
            } else {
                machine.clock.advance(Duration::from_secs(6));
                let mut steps = 0;
                while let Some(report) = engine.compact_step().unwrap() {
                    steps += 1;
                    prop_assert!(steps < 5000, "merging goes on and on: {report:?}");
                    prop_assert!(report.files_out <= most, "{report:?}");
                }
            }
            prop_assert_eq!(engine.stats().merges_in_vain, 0);
        }
        check(&engine, &world);
        engine.compact_all().unwrap();
        assert_merged(&engine);
        check(&engine, &world);
        drop(engine);
        let (engine, _, report) = open_with(&machine, settings);
        prop_assert_eq!(report.quarantined.len(), 0);
        check(&engine, &world);
    }
}

#[test]
fn a_merge_that_gains_nothing_is_not_committed_nor_tried_again() {
    let machine = Machine::new(2);
    let (engine, table, _) = open_with(&machine, EngineSettings::default());
    let mut world = World::new();
    apply(&engine, &table, &mut world, &days(1, 0..2, 7));
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    let before = files(&machine);
    let view = engine.shared.view();
    let inputs = vec![Arc::clone(&view.blocks[0])];
    let plan = Plan::new(Arc::clone(&view), inputs.clone()).unwrap();
    let merged = engine.merge(plan, &FullPace);
    let mut compactor = engine.lock_compactor();
    assert!(compactor.is_free(&inputs));
    let ended = engine.end_merge(&mut compactor, merged, true).unwrap();
    assert!(matches!(ended, Ended::InVain));
    assert!(!compactor.is_free(&inputs), "it would be tried for ever");
    drop(compactor);
    assert_eq!((engine.stats().merges_in_vain, files(&machine)), (1, before));
    check(&engine, &world);
}

#[test]
fn hundreds_of_days_need_few_files_at_once() {
    const HANDLES: usize = 24;
    let settings = EngineSettings {
        open_files_max: 8,
        merge_outputs_max: 200,
        ..EngineSettings::default()
    };
    let machine = Machine::new(3);
    machine.files.set_handles_max(Some(HANDLES));
    let (engine, table, _) = open_with(&machine, settings.clone());
    let mut world = World::new();
    for series in 0..2u8 {
        apply(&engine, &table, &mut world, &days(series, (0..700).map(|d| d * 3), 9));
        engine.seal().unwrap();
        engine.compact_all().unwrap();
    }
    assert_eq!((engine.stats().files, engine.stats().merges_in_vain), (700, 0));
    assert!(machine.files.handles() <= 8);
    let read = |engine: &Engine| {
        let (found, warnings) = read_all(engine, TimeRange::ALL, Want::Samples);
        assert_eq!((found.len(), warnings), (2, Vec::new()));
        assert!(found.values().all(|s| s.len() == 700));
    };
    read(&engine);
    while engine.scrub(1 << 20) >= 1 << 20 {}
    assert!(engine.stats().quarantined.is_empty());
    let to = Path::new("/data/snapshots/one/series");
    engine.snapshot(to).unwrap();
    drop(engine);
    let report = verify(&machine.host(), to, &mut |_| {}).unwrap();
    assert_eq!((report.findings.len(), machine.files.handles()), (0, 0));
    let (engine, _, report) = open_with(&machine, settings);
    assert_eq!((report.blocks, report.quarantined.len()), (700, 0));
    read(&engine);
}

#[test]
fn a_merge_that_fails_leaves_nothing_and_comes_again_later() {
    let machine = Machine::new(4);
    let settings = EngineSettings {
        merge_files: 2,
        ..EngineSettings::default()
    };
    let (engine, table, _) = open_with(&machine, settings);
    let mut world = World::new();
    for series in 0..2u8 {
        apply(&engine, &table, &mut world, &days(series, 0..6, 9));
        engine.seal().unwrap();
    }
    let before = files(&machine);
    machine.files.set_capacity(Some(machine.files.used_bytes() + 3 * 4096));
    assert!(engine.compact_step().is_err(), "the disk is full");
    assert_eq!(files(&machine), before);
    // other work comes first; there is none
    assert_eq!(engine.compact_step().unwrap(), None);
    machine.clock.advance(Duration::from_millis(4_900));
    assert_eq!(engine.compact_step().unwrap(), None);
    machine.clock.advance(Duration::from_millis(200));
    assert!(engine.compact_step().is_err());
    assert_eq!(files(&machine), before);
    // twice as long after the second time
    machine.clock.advance(Duration::from_secs(6));
    assert_eq!(engine.compact_step().unwrap(), None);
    machine.files.set_capacity(None);
    machine.clock.advance(Duration::from_secs(6));
    assert!(engine.compact_step().unwrap().is_some());
    engine.compact_all().unwrap();
    check(&engine, &world);
}

#[test]
fn merging_ends_between_two_steps_when_it_is_told_to() {
    struct Stopped(AtomicBool);
    impl Pace for Stopped {
        fn merged(&self, _: u64) -> bool {
            true
        }
        fn goes_on(&self) -> bool {
            !self.0.load(Relaxed)
        }
    }
    let machine = Machine::new(4);
    let (engine, table, _) = open_with(&machine, EngineSettings::default());
    let mut world = World::new();
    apply(&engine, &table, &mut world, &days(0, 0..40, 9));
    engine.seal().unwrap();
    let stopped = Stopped(AtomicBool::new(true));
    assert_eq!(engine.compact_all_at(&stopped).unwrap().files_in, 0);
    assert_eq!(engine.stats().files, 1);
    stopped.0.store(false, Relaxed);
    assert_eq!(engine.compact_all_at(&stopped).unwrap().files_out, 40);
    check(&engine, &world);
}
