//! Merges with seals, deletes and expiry in between: whatever the order, answers are those of a map.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use host::Files;
use host::sim::Machine;
use model::{TimeRange, Want};
use proptest::prelude::*;

use super::model_based::{DIR, Step, World, check, read_all, record, step, time};
use crate::engine::compact::{Merged, Plan};
use crate::engine::{Engine, EngineSettings, FullPace, OpenReport, Pace};
use crate::table::SeriesTable;

#[derive(Clone, Debug)]
enum Move {
    Do(Step),
    /// A merge is planned, and written when it ends.
    Plan,
    /// A merge is planned and written.
    Write,
    /// What was begun is committed.
    End,
    /// What is older goes.
    Expire(i64),
    /// A day passes, and series leave memory.
    Retire,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        8 => step().prop_map(Move::Do),
        2 => Just(Move::Plan),
        3 => Just(Move::Write),
        3 => Just(Move::End),
        1 => (0..3000i64).prop_map(Move::Expire),
        2 => Just(Move::Retire),
    ];
    prop::collection::vec(one, 1..40)
}

fn open(machine: &Machine) -> (Engine, Arc<SeriesTable>, OpenReport) {
    let table = Arc::new(SeriesTable::new([7; 16]));
    let settings = EngineSettings {
        retention_ms: Some(0),
        merge_files: 2,
        ..EngineSettings::default()
    };
    let (engine, report) = Engine::open(machine.host(), Path::new(DIR), settings, Arc::clone(&table)).unwrap();
    (engine, table, report)
}

enum Begun {
    Planned(Plan),
    Written(Merged),
}

fn run(moves: &[Move]) {
    let machine = Machine::new(1);
    let (mut engine, mut table, _) = open(&machine);
    let mut world = World::new();
    let mut log: Vec<Step> = Vec::new();
    let mut begun: Option<Begun> = None;
    for one in moves {
        match one {
            Move::Do(Step::Reopen) => {
                begun = None;
                machine.files.kill();
                let report;
                (engine, table, report) = open(&machine);
                assert_eq!(report.quarantined, Vec::new());
                for (i, step) in log.iter().enumerate().skip(report.applied as usize) {
                    let record = record(step, &table, &mut World::new()).unwrap();
                    engine.apply(i as u64 + 1, &record);
                }
            }
            Move::Do(Step::Seal) => drop(engine.seal().unwrap()),
            // the one merge at a time is the one under way
            Move::Do(Step::Compact | Step::CompactAll) if begun.is_some() => {}
            Move::Do(Step::Compact) => drop(engine.compact_step().unwrap()),
            Move::Do(Step::CompactAll) => drop(engine.compact_all().unwrap()),
            Move::Do(Step::Idle) => machine.clock.advance(Duration::from_secs(4000)),
            Move::Do(step) => {
                let record = record(step, &table, &mut world).unwrap();
                log.push(step.clone());
                engine.apply(log.len() as u64, &record);
            }
            Move::Plan | Move::Write if begun.is_some() => {}
            Move::Plan => begun = engine.begin_merge(&mut engine.lock_compactor()).map(Begun::Planned),
            Move::Write => {
                let plan = engine.begin_merge(&mut engine.lock_compactor());
                begun = plan.map(|p| Begun::Written(engine.merge(p, &FullPace)));
            }
            Move::End => {
                let merged = match begun.take() {
                    Some(Begun::Planned(plan)) => engine.merge(plan, &FullPace),
                    Some(Begun::Written(merged)) => merged,
                    None => continue,
                };
                engine.end_merge(&mut engine.lock_compactor(), merged, false).unwrap();
            }
            Move::Retire => {
                engine.retire(log.len() as u64);
                machine.clock.advance(Duration::from_secs(25 * 3600));
                engine.retire(log.len() as u64);
            }
            Move::Expire(at) => {
                let limit = time(*at);
                engine.expire(limit).unwrap();
                engine.expire(limit).unwrap();
                // which files go is the engine's affair; what is gone has to stay away
                let (found, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
                for (labels, samples) in &mut world {
                    let mut kept = samples.split_off(&limit);
                    let old = found.get(labels).into_iter().flatten();
                    kept.extend(old.filter(|(at, _)| **at < limit).map(|(at, v)| (*at, v.clone())));
                    *samples = kept;
                }
                world.retain(|_, s| !s.is_empty());
            }
        }
        check(&engine, &world);
    }
    drop(begun);
    engine.seal().unwrap();
    machine.clock.advance(Duration::from_secs(10));
    engine.compact_all().unwrap();
    check(&engine, &world);
    let files = machine.files.list(Path::new(DIR)).unwrap();
    let (engine, ..) = open(&machine);
    check(&engine, &world);
    // nothing that a merge wrote for nothing is left after a start
    let blocks = |list: &[host::Entry]| list.iter().filter(|e| e.name.starts_with("block-")).count();
    assert!(blocks(&machine.files.list(Path::new(DIR)).unwrap()) <= blocks(&files));
    assert_eq!(
        blocks(&machine.files.list(Path::new(DIR)).unwrap()),
        engine.stats().files
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn merges_and_whatever_comes_between_equal_a_map(moves in moves()) {
        run(&moves);
    }
}

/// Seals within the merge, on the merge's own thread: it would wait for ever were the merge in its way.
struct Sealing<'a> {
    engine: &'a Engine,
    table: &'a SeriesTable,
    seals: AtomicUsize,
    until: usize,
}

impl Pace for Sealing<'_> {
    fn merged(&self, bytes: u64) -> bool {
        assert!(bytes > 0);
        let n = self.seals.fetch_add(1, Relaxed);
        let step = Step::Floats(vec![(0, 5000 + n as i64, 9, false)]);
        let next = self.engine.applied() + 1;
        self.engine
            .apply(next, &record(&step, self.table, &mut World::new()).unwrap());
        assert_eq!(self.engine.seal().unwrap().position, next);
        n < self.until
    }
}

fn large(engine: &Engine, table: &SeriesTable, world: &mut World) {
    for seal in 0..3u64 {
        for s in 0..9u8 {
            // nothing that compresses: every chunk is some kilobytes
            let rows = (0..3000i64).map(|n| {
                let v = ((n * 2_654_435_761 + i64::from(s) * 97) >> 7) as u8;
                (s, seal as i64 * 3000 + n, v | 4, n % 3 == 0)
            });
            let step = Step::Floats(rows.collect());
            let next = engine.applied() + 1;
            engine.apply(next, &record(&step, table, world).unwrap());
        }
        engine.seal().unwrap();
    }
}

#[test]
fn a_seal_does_not_wait_for_a_merge_and_a_merge_can_be_given_up() {
    let machine = Machine::new(1);
    let (engine, table, _) = super::model_based::open(&machine);
    let mut world = World::new();
    large(&engine, &table, &mut world);
    let files = engine.stats().files;
    let given_up = Sealing {
        engine: &engine,
        table: &table,
        seals: AtomicUsize::new(0),
        until: 0,
    };
    assert_eq!(engine.compact_all_at(&given_up).unwrap().files_in, 0);
    assert_eq!(engine.stats().files, files + 1, "the seal's file and no other");
    let pace = Sealing {
        until: usize::MAX,
        ..given_up
    };
    assert!(engine.compact_all_at(&pace).unwrap().files_in >= files);
    assert!(pace.seals.load(Relaxed) >= 2);
    engine.compact_all().unwrap();
    let (found, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
    let sealed = pace.seals.load(Relaxed);
    assert_eq!(
        found.values().map(|s| s.len()).sum::<usize>(),
        9 * 9000 + sealed - overlap(sealed)
    );
}

/// Samples that a seal in between wrote over.
fn overlap(seals: usize) -> usize {
    (5000..5000 + seals).filter(|n| *n < 9000).count()
}

#[test]
fn days_are_written_few_at_a_time() {
    let machine = Machine::new(1);
    let (engine, table, _) = super::model_based::open(&machine);
    let mut world = World::new();
    // a backfill: a sample every eight hours, for 30 days
    for seal in 0..2i64 {
        let rows = (0..9u8).flat_map(|s| (0..90).map(move |n| (s, n * 1920 + seal * 7, s + n as u8, false)));
        let step = Step::Floats(rows.collect());
        engine.apply(seal as u64 + 1, &record(&step, &table, &mut world).unwrap());
        engine.seal().unwrap();
    }
    let open_at_once = AtomicUsize::new(0);
    struct Watch<'a>(&'a Machine, &'a AtomicUsize);
    impl Pace for Watch<'_> {
        fn merged(&self, _: u64) -> bool {
            let drafts = self.0.files.list(Path::new(DIR)).unwrap();
            let drafts = drafts.iter().filter(|e| e.name.ends_with(".tmp")).count();
            self.1.fetch_max(drafts, Relaxed);
            true
        }
    }
    let report = engine.compact_all_at(&Watch(&machine, &open_at_once)).unwrap();
    assert!(report.files_out > 25, "{report:?}");
    let most = open_at_once.load(Relaxed);
    assert!((1..=9).contains(&most), "{most} files open at once");
    check(&engine, &world);
    let (engine, ..) = super::model_based::open(&machine);
    check(&engine, &world);
    // the footers tell the whole set without a manifest
    for name in crate::manifest::NAMES {
        machine.files.remove(&Path::new(DIR).join(name)).unwrap();
    }
    drop(engine);
    let (engine, _, report) = super::model_based::open(&machine);
    assert!(report.rebuilt);
    super::damage::check_without_warnings(&engine, &world);
}
