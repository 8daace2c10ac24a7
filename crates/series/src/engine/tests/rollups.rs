use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use host::sim::{Failure, Faults, Machine, Operation};
use host::{Files, OpenMode};
use model::{Budget, Hints, Labels, Matcher, SampleSource, SelectRequest, SeriesBlock, TimeRange, Want, is_stale};
use proptest::prelude::*;

use super::crash::survive_on;
use super::model_based::{
    DIR, Step, T0, TENANT, World, check, labels, open_with, read_all, record, run_with, step, time, within,
};
use crate::block::DAY_MS;
use crate::engine::{Engine, EngineSettings};
use crate::golden::golden;
use crate::retention::{FOR_EVER, RollupKeep};
use crate::rollup::{RESOLUTIONS, bucket_of};
use crate::verify::verify;

fn rolling() -> EngineSettings {
    EngineSettings {
        rollups: RollupKeep {
            minute_ms: Some(FOR_EVER),
            hour_ms: Some(400 * DAY_MS),
        },
        ..EngineSettings::default()
    }
}

/// A machine on which the days of the tests' samples are long over.
fn later(seed: u64) -> Machine {
    let machine = Machine::new(seed);
    machine.clock.advance(Duration::from_millis(5 * DAY_MS as u64));
    machine
}

/// What functions make of the floats of each series and bucket: bits of minimum, maximum, first and last, count, falls.
type Buckets = BTreeMap<(Labels, i64), [u64; 6]>;

fn buckets(engine: &Engine, function: &str, aligned_ms: i64, resolution: i64) -> (Buckets, u64) {
    let budget = Budget::unlimited();
    let request = SelectRequest {
        tenant: TENANT,
        matchers: &[Matcher::equal("job", "test")],
        range: TimeRange::new(
            T0 / DAY_MS * DAY_MS - 10 * DAY_MS + 1,
            T0 / DAY_MS * DAY_MS + 10 * DAY_MS,
        ),
        hints: Hints {
            function: function.to_owned(),
            aligned_ms,
            ..Hints::default()
        },
    };
    let set = engine.select(&request, &budget).unwrap();
    let mut found = Buckets::new();
    let mut block = SeriesBlock::default();
    for i in 0..set.len() {
        set.read(i, &mut block, &budget).unwrap();
        let mut before: Option<f64> = None;
        for (k, (&at, &v)) in block.at_ms.iter().zip(&block.values).enumerate() {
            if is_stale(v) {
                continue;
            }
            let weight = u64::from(block.weights.get(k).copied().unwrap_or(1));
            let falls = u64::from(before.is_some_and(|b| v < b));
            before = Some(v);
            let entry = found.entry((set.labels(i), bucket_of(at, resolution)));
            let b = entry
                .and_modify(|b| {
                    let [low, high] = [f64::from_bits(b[0]), f64::from_bits(b[1])];
                    if v < low || low.is_nan() {
                        b[0] = v.to_bits();
                    }
                    if v > high || high.is_nan() {
                        b[1] = v.to_bits();
                    }
                    (b[3], b[4], b[5]) = (v.to_bits(), b[4] + weight, b[5] + falls);
                })
                .or_insert([v.to_bits(), v.to_bits(), v.to_bits(), v.to_bits(), weight, falls]);
            match function {
                "rate" => {}
                // what is asked for and nothing else is told
                "count_over_time" => b[5] = 0,
                _ => (b[4], b[5]) = (0, 0),
            }
        }
    }
    (found, set.reads().rolled_samples)
}

/// Samples are right, and so is what rollups have in their place.
fn check_rolled(engine: &Engine, world: &World) {
    check(engine, world);
    for resolution in RESOLUTIONS {
        for function in ["max_over_time", "count_over_time", "rate"] {
            let (expected, none) = buckets(engine, function, 0, resolution);
            assert_eq!(none, 0);
            let (found, _) = buckets(engine, function, resolution, resolution);
            assert_eq!(found, expected, "{function} {resolution}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]
    #[test]
    fn rollups_survive_everything(steps in prop::collection::vec(step(), 1..25), seed: u64) {
        survive_on(&later(seed), &steps, seed, &rolling(), check_rolled);
    }

    #[test]
    fn rollups_change_no_answer(steps in prop::collection::vec(step(), 1..25)) {
        let machine = later(1);
        run_with(&steps, &machine, |n| if n % 3 == 2 { EngineSettings::default() } else { rolling() });
        let (engine, ..) = open_with(&machine, rolling());
        engine.compact_all().unwrap();
        let (world, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
        check_rolled(&engine, &world);
        prop_assert_eq!(verify(&machine.host(), Path::new(DIR), &mut |_| {}).unwrap().findings, []);
    }
}

/// Some hours of nine series at the end of a day, and of three in the next.
fn build(machine: &Machine, settings: &EngineSettings) -> World {
    let (engine, table, _) = open_with(machine, settings.clone());
    let mut world = World::new();
    let rows = (0..9u8)
        .flat_map(|s| (0..700).map(move |n| (s, n, if s < 6 { (n * n * 31 / 8) as u8 } else { 40 + s }, s == 4)));
    let steps = [
        Step::Floats(rows.collect()),
        Step::Floats(
            (0..3)
                .flat_map(|s| (1000..1300).map(move |n| (s, n, 5 + (n % 50) as u8, false)))
                .collect(),
        ),
        Step::Histograms(vec![(7, 1, 4), (7, 2, 5)]),
    ];
    for (i, step) in steps.iter().enumerate() {
        engine.apply(i as u64 + 1, &record(step, &table, &mut world).unwrap());
    }
    engine.seal().unwrap();
    world
}

/// Stops at every change of the disk while rollups are made, the samples expire, and a delete is carried out in what is
/// left: what a start finds is what was there before the commit or after it.
#[test]
fn a_stop_anywhere_leaves_the_one_or_the_other() {
    let settings = EngineSettings {
        retention_ms: Some(DAY_MS),
        ..rolling()
    };
    let mut stops = 0;
    for nth in 1.. {
        let machine = later(nth);
        let world = build(&machine, &settings);
        let (engine, table, _) = open_with(&machine, settings.clone());
        let hours = |engine: &Engine| buckets(engine, "max_over_time", RESOLUTIONS[1], RESOLUTIONS[1]).0;
        let mut expected = hours(&engine);
        machine
            .files
            .plan(Faults::none().and(Operation::Change, nth, Failure::Stop));
        let now_ms = machine.host().clock.now_ms();
        let expired = (|| {
            engine.compact_all()?;
            engine.expire(now_ms)?;
            engine.expire(now_ms)
        })();
        let delete = Step::Delete(0, 0, 0);
        let mut deleted = false;
        if expired.is_ok() {
            engine.apply(4, &record(&delete, &table, &mut World::new()).unwrap());
            deleted = engine.seal().is_ok();
            machine.clock.advance(Duration::from_secs(6));
            while deleted && matches!(engine.compact_step(), Ok(Some(_))) {}
        }
        let stopped = machine.files.stopped();
        machine.files.plan(Faults::none());
        drop(engine);
        match nth % 2 {
            0 => machine.files.crash(),
            _ => machine.files.kill(),
        }
        let (engine, _, report) = open_with(&machine, settings.clone());
        assert_eq!(
            (&report.quarantined[..], report.rebuilt),
            (&[][..], false),
            "stop {nth}"
        );
        let there = engine.stats().files > 0;
        if there {
            assert_eq!(
                read_all(&engine, TimeRange::ALL, Want::Samples).0,
                within(&world, TimeRange::ALL),
                "stop {nth}"
            );
        } else {
            // histograms are not rolled up, nor is what is beside them
            expected.retain(|(l, _), _| *l != labels(7) || there);
        }
        if deleted || report.applied == 4 {
            let first = bucket_of(time(0), RESOLUTIONS[1]);
            expected.retain(|(l, bucket), _| l.get("instance") != Some("host-0") || *bucket != first);
        }
        assert_eq!(hours(&engine), expected, "stop {nth}");
        assert_eq!(
            verify(&machine.host(), Path::new(DIR), &mut |_| {}).unwrap().findings,
            []
        );
        if !stopped {
            assert_eq!(
                (there, engine.stats().tombstones, engine.stats().rollup_files),
                (false, 0, 4)
            );
            break;
        }
        stops += 1;
    }
    assert!(stops > 30, "{stops}");
}

/// Damage in rollups of samples that are there costs nothing; where they stand alone it is told.
#[test]
fn damage_is_told_where_it_matters() {
    let settings = EngineSettings {
        retention_ms: Some(DAY_MS),
        ..rolling()
    };
    for alone in [false, true] {
        let machine = later(9);
        build(&machine, &settings);
        let (engine, ..) = open_with(&machine, settings.clone());
        engine.compact_all().unwrap();
        let now_ms = machine.host().clock.now_ms();
        let hours = |engine: &Engine| buckets(engine, "max_over_time", RESOLUTIONS[1], RESOLUTIONS[1]).0;
        let expected = hours(&engine);
        if alone {
            engine.expire(now_ms).unwrap();
            engine.expire(now_ms).unwrap();
        }
        let blocks: Vec<_> = engine
            .shared
            .view()
            .rollups
            .iter()
            .map(|r| Arc::clone(&r.block))
            .collect();
        drop(engine);
        // the chunks of all of them, then their footers, too
        for (from_end, opened) in [(false, 4), (true, 0)] {
            for b in &blocks {
                let chunk = b.footer.directory.offset as usize - 1;
                let spoil = |bytes: &mut Vec<u8>| match from_end {
                    true => {
                        let end = bytes.len() - 20;
                        bytes[end] ^= 1;
                        bytes[40] ^= 1;
                    }
                    false => bytes[chunk] ^= 1,
                };
                machine.files.edit(&b.path, spoil).unwrap();
            }
            let (engine, _, report) = open_with(&machine, settings.clone());
            assert_eq!(engine.stats().rollup_files, opened);
            assert_eq!(report.quarantined.len(), if alone && from_end { 4 } else { 0 });
            let found = hours(&engine);
            let told = read_all(&engine, TimeRange::ALL, Want::Samples).1;
            if alone {
                assert!(found.len() < expected.len() && !told.is_empty(), "{told:?}");
            } else {
                assert_eq!((&found, &told[..]), (&expected, &[][..]));
                // and they are made anew
                engine.compact_all().unwrap();
                let (found, rolled) = buckets(&engine, "max_over_time", RESOLUTIONS[1], RESOLUTIONS[1]);
                assert_eq!(found, expected);
                assert_eq!((engine.stats().rollup_files, rolled > 0), (4, true));
                break;
            }
            drop(engine);
        }
    }
}

/// Brings two small files to the first day of what [`build`] made, which become one beside the large one, and has rollups of
/// both made. Returns the day.
fn grow(machine: &Machine, settings: &EngineSettings, world: &mut World) -> i64 {
    let (engine, table, report) = open_with(machine, settings.clone());
    for n in 0..2u8 {
        let late = Step::Floats(vec![(n, 701 + i64::from(n), 9, false)]);
        engine.apply(
            report.applied + 1 + u64::from(n),
            &record(&late, &table, world).unwrap(),
        );
        engine.seal().unwrap();
    }
    machine.clock.advance(Duration::from_secs(6));
    while engine.compact_step().unwrap().is_some() {}
    let day = time(0).div_euclid(DAY_MS);
    let rollups = engine.shared.view().rollups.clone();
    let of_both = rollups
        .iter()
        .filter(|r| r.block.footer.day == day && r.from.sources.len() == 2);
    assert_eq!((of_both.count(), rollups.len()), (2, 4));
    day
}

/// Rollups that were there before more came for their day do not count beside those made of all of it: neither where their
/// file could not be opened for a while, nor where they are there for whatever reason.
#[test]
fn rollups_of_one_day_count_once() {
    let machine = later(21);
    let mut world = build(&machine, &rolling());
    let (engine, ..) = open_with(&machine, rolling());
    engine.compact_all().unwrap();
    let first = time(0).div_euclid(DAY_MS);
    let mut old = engine.shared.view().rollups.clone();
    old.retain(|r| r.block.footer.day == first);
    assert_eq!(old.len(), 2);
    drop(engine);
    for r in &old {
        machine.files.refuse(&r.block.path, 13, u64::MAX);
    }
    let (engine, _, report) = open_with(&machine, rolling());
    assert_eq!((report.quarantined, engine.stats().rollup_files), (vec![], 2));
    check_rolled(&engine, &world);
    drop(engine);
    assert_eq!(grow(&machine, &rolling(), &mut world), first);
    for r in &old {
        machine.files.refuse(&r.block.path, 0, 0);
    }
    let (engine, ..) = open_with(&machine, rolling());
    assert_eq!(engine.stats().rollup_files, 4);
    check_rolled(&engine, &world);
    let ids = |engine: &Engine| -> Vec<u64> { engine.shared.view().rollups.iter().map(|r| r.block.id()).collect() };
    let whole = ids(&engine);
    drop(engine);

    // one that is left over is not read, and goes
    let machine = later(22);
    let mut world = build(&machine, &rolling());
    let (engine, ..) = open_with(&machine, rolling());
    engine.compact_all().unwrap();
    let mut old = engine.shared.view().rollups.clone();
    old.retain(|r| r.block.footer.day == first);
    let bytes: Vec<Vec<u8>> = old.iter().map(|r| machine.files.read(&r.block.path).unwrap()).collect();
    drop(engine);
    grow(&machine, &rolling(), &mut world);
    let (engine, ..) = open_with(&machine, rolling());
    assert_eq!(ids(&engine).len(), whole.len());
    let whole = ids(&engine);
    for (r, bytes) in old.iter_mut().zip(bytes) {
        let files: Arc<dyn Files> = machine.host().files;
        let file = files.open(&r.block.path, OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
        r.block = engine.open_new(r.block.id()).unwrap();
    }
    engine.shared.change_view(|view| {
        view.rollups.extend(old.iter().cloned());
        view.sort_blocks();
    });
    assert_eq!(engine.stats().rollup_files, 6);
    check_rolled(&engine, &world);
    while engine.compact_step().unwrap().is_some() {}
    assert_eq!(ids(&engine), whole);
    check_rolled(&engine, &world);
    let paths: Vec<PathBuf> = old.iter().map(|r| r.block.path.clone()).collect();
    assert!(paths.iter().any(|p| machine.files.exists(p)), "somebody holds them");
    drop(old);
    engine.sweep();
    assert!(!paths.iter().any(|p| machine.files.exists(p)));
}

/// A file that cannot be opened does not keep the others of its day for ever: it goes with them.
#[test]
fn samples_go_where_one_of_their_files_cannot_be_opened() {
    let settings = EngineSettings {
        retention_ms: Some(DAY_MS),
        ..rolling()
    };
    let machine = later(23);
    let mut world = build(&machine, &settings);
    let (engine, ..) = open_with(&machine, settings.clone());
    engine.compact_all().unwrap();
    drop(engine);
    let day = grow(&machine, &settings, &mut world);
    let (engine, ..) = open_with(&machine, settings.clone());
    let hours = |engine: &Engine| buckets(engine, "max_over_time", RESOLUTIONS[1], RESOLUTIONS[1]).0;
    let mut expected = hours(&engine);
    // histograms are not rolled up, nor is what is beside them
    expected.retain(|(l, _), _| *l != labels(7));
    let mut of_day = engine.shared.view().blocks.clone();
    of_day.retain(|b| b.footer.day == day);
    let small = of_day.iter().min_by_key(|b| b.footer.samples).unwrap();
    assert_eq!((of_day.len(), small.footer.samples), (2, 2));
    let path = small.path.clone();
    drop(engine);
    machine.files.refuse(&path, 13, u64::MAX);
    let (engine, ..) = open_with(&machine, settings.clone());
    assert_eq!(engine.shared.view().lost.len(), 1);
    // not before its own time
    let limit_ms = small.footer.max_ms + DAY_MS;
    for (now_ms, left) in [(limit_ms, 1), (machine.host().clock.now_ms(), 0)] {
        engine.expire(now_ms).unwrap();
        engine.expire(now_ms).unwrap();
        assert_eq!(engine.shared.view().lost.len(), left);
    }
    assert_eq!((engine.stats().files, engine.stats().rollup_files), (0, 4));
    assert!(!machine.files.exists(&path));
    machine.files.refuse(&path, 0, 0);
    for _ in 0..2 {
        let (engine, _, report) = open_with(&machine, settings.clone());
        assert_eq!(report.quarantined, []);
        assert_eq!(hours(&engine), expected);
        assert_eq!(read_all(&engine, TimeRange::ALL, Want::Samples).1, [""; 0]);
    }
}

/// What is read from rollups in vain, because samples are needed after all, does not count.
#[test]
fn samples_count_once_where_sums_are_not_exact() {
    let machine = later(24);
    let (engine, table, _) = open_with(&machine, rolling());
    let mut world = World::new();
    let counted = |engine: &Engine| {
        let budget = Budget::unlimited();
        let request = SelectRequest {
            tenant: TENANT,
            matchers: &[Matcher::equal("job", "test")],
            range: TimeRange::new(time(0) - DAY_MS, time(0) + 10 * DAY_MS),
            hints: Hints {
                function: "sum_over_time".to_owned(),
                aligned_ms: RESOLUTIONS[1],
                ..Hints::default()
            },
        };
        let set = engine.select(&request, &budget).unwrap();
        let held = budget.used().1;
        let mut block = SeriesBlock::default();
        set.read(0, &mut block, &budget).unwrap();
        (block.at_ms.len(), budget.used().0, held)
    };
    // whole numbers until the day's end, then fractions
    let whole = Step::Floats((0..900).map(|n| (0, n, 40, false)).collect());
    engine.apply(1, &record(&whole, &table, &mut world).unwrap());
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    let (read, count, _) = counted(&engine);
    assert!(read < 20 && count == read as u64, "{read} {count}");
    let fractions = Step::Floats((1000..1900).map(|n| (0, n, 41, false)).collect());
    engine.apply(2, &record(&fractions, &table, &mut world).unwrap());
    assert_eq!(counted(&engine), (1800, 1800, 0));
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    assert_eq!(engine.stats().rollup_files, 4);
    assert_eq!(counted(&engine), (1800, 1800, 0));
}

/// Without manifests footers tell which rollups count.
#[test]
fn footers_tell_which_rollups_count() {
    let settings = EngineSettings {
        retention_ms: Some(DAY_MS),
        ..rolling()
    };
    for alone in [false, true] {
        let machine = later(3);
        build(&machine, &settings);
        let (engine, ..) = open_with(&machine, settings.clone());
        engine.compact_all().unwrap();
        let hours = |engine: &Engine| buckets(engine, "max_over_time", RESOLUTIONS[1], RESOLUTIONS[1]);
        let now_ms = machine.host().clock.now_ms();
        if alone {
            engine.expire(now_ms).unwrap();
            engine.expire(now_ms).unwrap();
        }
        let expected = hours(&engine);
        drop(engine);
        for name in crate::manifest::NAMES {
            machine.files.remove(&PathBuf::from(DIR).join(name)).unwrap();
        }
        let (engine, _, report) = open_with(&machine, settings.clone());
        assert!(report.rebuilt);
        let rollups = engine.shared.view().rollups.clone();
        assert_eq!((rollups.len(), rollups.iter().all(|r| r.alone == alone)), (4, true));
        assert_eq!(hours(&engine), expected);
        assert!(expected.1 > 1000);
    }
}

#[test]
fn files_of_rollups_are_read() {
    let machine = later(11);
    let (engine, table, _) = open_with(&machine, rolling());
    let mut world = World::new();
    let rows = (0..3u8).flat_map(|s| (0..200).map(move |n| (s, n, if s == 1 { n as u8 } else { 40 + s }, s == 2)));
    engine.apply(1, &record(&Step::Floats(rows.collect()), &table, &mut world).unwrap());
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    let hours = |engine: &Engine| buckets(engine, "rate", RESOLUTIONS[1], RESOLUTIONS[1]);
    let expected = hours(&engine);
    let names = machine.files.list(Path::new(DIR)).unwrap();
    let read = |name: &str| machine.files.read(&PathBuf::from(DIR).join(name)).unwrap();
    let now: Vec<(&str, Vec<u8>)> = names.iter().map(|e| (e.name.as_str(), read(&e.name))).collect();
    let stored = golden("rollups-v1.txt", &now);
    let other = later(12);
    let files: Arc<dyn Files> = other.host().files;
    files.create_dir_all(Path::new(DIR)).unwrap();
    for (name, bytes) in stored {
        let file = files.open(&PathBuf::from(DIR).join(name), OpenMode::CreateNew).unwrap();
        file.write_all_at(&bytes, 0).unwrap();
    }
    let (engine, _, report) = open_with(&other, rolling());
    assert_eq!(report.quarantined, []);
    assert_eq!(engine.stats().rollup_files, 2);
    assert!(expected.1 > 500);
    assert_eq!(hours(&engine), expected);
}
