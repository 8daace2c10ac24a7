use std::path::Path;
use std::time::Duration;

use host::sim::Machine;
use model::{MatchOp, Matcher, TimeRange, Want};
use proptest::prelude::*;

use super::model_based::{DIR, Step, World, check, labels, open_with, read_all, record, run_with, step, time};
use crate::block::DAY_MS;
use crate::engine::{ClassReport, Engine, EngineSettings};
use crate::retention::{Retention, RetentionClass, RollupKeep};
use crate::verify::verify;

fn class(metric: u8, keep_days: Option<i64>) -> RetentionClass {
    RetentionClass {
        selector: format!("metric_{metric}"),
        tenant: None,
        matchers: vec![Matcher::new("__name__", MatchOp::Equal, format!("metric_{metric}")).unwrap()],
        keep_ms: keep_days.map(|d| d * DAY_MS),
        rollups: RollupKeep::default(),
    }
}

fn settings(classes: Vec<RetentionClass>, keep_days: Option<i64>) -> EngineSettings {
    EngineSettings {
        retention_classes: classes,
        retention_ms: keep_days.map(|d| d * DAY_MS),
        ..EngineSettings::default()
    }
}

/// Nine series (three of each metric) over some hours around a day's end.
fn fill(engine: &Engine, table: &crate::table::SeriesTable, world: &mut World, from: u64) -> u64 {
    for (position, first) in (from + 1..).zip([0i64, 400, 800, 1200]) {
        let rows = (0..9u8).flat_map(|s| (0..300).map(move |n| (s, first + n, s + 4, false)));
        engine.apply(position, &record(&Step::Floats(rows.collect()), table, world).unwrap());
        engine.seal().unwrap();
    }
    from + 4
}

fn settle(machine: &Machine, engine: &Engine) {
    machine.clock.advance(Duration::from_secs(6));
    for _ in 0..100 {
        if engine.compact_step().unwrap().is_none() {
            return;
        }
    }
    panic!("compaction does not come to an end");
}

fn metric(world: &World, n: u8) -> World {
    let name = labels(n).get("__name__").unwrap().to_owned();
    world
        .iter()
        .filter(|(l, _)| l.get("__name__") == Some(&name))
        .map(|(l, s)| (l.clone(), s.clone()))
        .collect()
}

fn rows(engine: &Engine, now_ms: i64) -> Vec<ClassReport> {
    let s = &engine.shared.settings;
    engine.retention_report(s.retention(), now_ms).unwrap()
}

#[test]
fn each_class_goes_in_its_time_by_whole_files() {
    let machine = Machine::new(1);
    let (engine, table, _) = open_with(&machine, settings(vec![class(0, Some(7)), class(1, None)], Some(30)));
    let mut world = World::new();
    fill(&engine, &table, &mut world, 0);
    engine.compact_all().unwrap();
    // two days, three classes
    assert_eq!(engine.stats().files, 6);
    check(&engine, &world);
    settle(&machine, &engine);
    assert_eq!(engine.stats().files, 6, "files of different classes stay apart");

    let last = time(1500);
    let week = last + 8 * DAY_MS;
    let due = rows(&engine, week);
    let samples = |n| metric(&world, n).values().map(|s| s.len() as u64).sum::<u64>();
    assert_eq!(
        (due[0].due_files, due[0].due_samples, due[0].samples),
        (2, samples(0), samples(0))
    );
    assert_eq!((due[1].due_samples, due[2].due_samples), (0, 0));
    engine.expire(last).unwrap();
    assert_eq!(engine.expire(week).unwrap().files, 0, "one look at the clock is none");
    let gone = engine.expire(week).unwrap();
    assert_eq!((gone.files, gone.bytes), (2, due[0].due_bytes));
    world.retain(|l, _| l.get("__name__") != Some("metric_0"));
    check(&engine, &world);
    engine.expire(last + 31 * DAY_MS).unwrap();
    engine.expire(last + 31 * DAY_MS).unwrap();
    world.retain(|l, _| l.get("__name__") == Some("metric_1"));
    check(&engine, &world);
    engine.expire(last + 4000 * DAY_MS).unwrap();
    engine.expire(last + 4000 * DAY_MS).unwrap();
    check(&engine, &world);
    assert_eq!(
        verify(&machine.host(), Path::new(DIR), &mut |_| {}).unwrap().findings,
        []
    );
}

#[test]
fn changed_classes_concern_what_is_stored_already() {
    let machine = Machine::new(2);
    let (engine, table, _) = open_with(&machine, EngineSettings::default());
    let mut world = World::new();
    fill(&engine, &table, &mut world, 0);
    engine.compact_all().unwrap();
    assert_eq!(engine.stats().files, 2);
    drop(engine);
    let (engine, table, _) = open_with(&machine, settings(vec![class(2, Some(1))], None));
    let far = time(1500) + 3 * DAY_MS;
    // only looked at: what such rules would do
    let trial = [class(0, Some(1)), class(1, Some(4000))];
    let trial = Retention {
        classes: &trial,
        default_keep_ms: Some(1),
        default_rollups: RollupKeep::default(),
    };
    let due: Vec<bool> = engine
        .retention_report(trial, far)
        .unwrap()
        .iter()
        .map(|r| r.samples > 0 && r.due_samples == r.samples)
        .collect();
    assert_eq!(due, [true, false, true]);
    settle(&machine, &engine);
    assert_eq!(
        engine.stats().files,
        2,
        "nothing is past its time: nothing is rewritten"
    );
    engine.expire(far).unwrap();
    engine.expire(far).unwrap();
    check(&engine, &world);
    settle(&machine, &engine);
    assert_eq!(engine.stats().files, 4, "split by class, once");
    check(&engine, &world);
    engine.expire(far).unwrap();
    assert_eq!(engine.stats().files, 2);
    world.retain(|l, _| l.get("__name__") != Some("metric_2"));
    check(&engine, &world);
    // new samples of the class, and old ones of others over what is there
    fill(&engine, &table, &mut world, 4);
    settle(&machine, &engine);
    engine.expire(far).unwrap();
    let (found, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
    assert_eq!(metric(&found, 0), metric(&world, 0));
    assert!(metric(&found, 2).is_empty());
}

#[test]
fn without_classes_a_default_keeps_level_0_until_it_is_past() {
    let machine = Machine::new(3);
    let (engine, table, _) = open_with(&machine, settings(vec![class(0, Some(1))], Some(5)));
    let mut world = World::new();
    fill(&engine, &table, &mut world, 0);
    let far = time(1500) + 3 * DAY_MS;
    engine.expire(far).unwrap();
    assert_eq!(
        engine.expire(far).unwrap().files,
        0,
        "a class of these files is kept for longer"
    );
    check(&engine, &world);
    let over = time(1500) + 7 * DAY_MS;
    engine.expire(over).unwrap();
    assert_eq!(engine.expire(over).unwrap().files, 4);
}

/// What cannot be read today may be readable tomorrow: older samples must not have come to stand above its own.
#[test]
fn no_merge_goes_across_a_file_whose_labels_cannot_be_read() {
    for all in [false, true] {
        let machine = Machine::new(4);
        let of = |merge_files| EngineSettings {
            merge_files,
            ..settings(vec![class(0, Some(1))], None)
        };
        let (engine, table, _) = open_with(&machine, of(1));
        let mut world = World::new();
        for (n, at) in [7, 7, 8].into_iter().enumerate() {
            let step = Step::Floats(vec![(1, at, 10 + n as u8, false)]);
            engine.apply(n as u64 + 1, &record(&step, &table, &mut world).unwrap());
            engine.seal().unwrap();
            assert_eq!(engine.compact_step().unwrap().unwrap().files_out, 1);
        }
        let blocks = engine.shared.view().blocks.clone();
        assert_eq!(blocks.iter().map(|b| b.footer.level).collect::<Vec<_>>(), [1, 1, 1]);
        drop(engine);
        // and the copy among the groups
        let (path, footer) = (&blocks[1].path, &blocks[1].footer);
        let end = footer.index.offset + footer.index.len;
        machine.files.spoil(path, footer.head..end).unwrap();
        let (engine, _, _) = open_with(&machine, of(2));
        if all {
            engine.compact_all().unwrap();
        } else {
            settle(&machine, &engine);
        }
        let name = path.file_name().unwrap().to_str().unwrap();
        let told = engine.stats().quarantined;
        assert!(told.iter().any(|q| q.file == name), "{told:?}");
        drop(engine);
        machine.files.spoil(path, 0..0).unwrap();
        let (engine, ..) = open_with(&machine, of(2));
        check(&engine, &world);
        settle(&machine, &engine);
        check(&engine, &world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    /// Classes decide in which file a sample is, never what an answer is; also when they change between openings.
    #[test]
    fn answers_are_the_same_under_any_classes(
        steps in prop::collection::vec(step(), 1..25),
        of in prop::collection::vec(prop::collection::vec(0..4u8, 0..4), 1..4),
    ) {
        let of_opening = |n: usize| {
            let list = of[n % of.len()].iter().map(|&m| class(m, None)).collect();
            settings(list, None)
        };
        run_with(&steps, &Machine::new(1), of_opening);
    }
}
