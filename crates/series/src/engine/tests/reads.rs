use host::sim::Machine;
use model::{
    Ahead, Batch, Budget, Hints, Labels, Matcher, Record, SampleSource, SelectRequest, SeriesBlock, SeriesSet,
    TimeRange, Want,
};
use proptest::prelude::*;

use super::model_based::{TENANT, labels, open, time};
use crate::engine::Engine;

/// Ten samples of each series, from step `from` on.
fn filled(engine: &Engine, table: &crate::table::SeriesTable, position: u64, series: &[u8], from: i64) {
    let mut batch = Batch::new(TENANT);
    for &n in series {
        let id = table.intern(TENANT, labels(n).as_bytes(), None).unwrap();
        for i in 0..10 {
            batch.floats.push(id, time(from + i), i as f64, 0);
        }
    }
    engine.apply(position, &Record::Batch(batch));
}

fn select(engine: &Engine, matcher: &Matcher, range: TimeRange, want: Want) -> Box<dyn SeriesSet> {
    let request = SelectRequest {
        tenant: TENANT,
        matchers: std::slice::from_ref(matcher),
        range,
        hints: Hints {
            want,
            ..Hints::default()
        },
    };
    engine.select(&request, &Budget::unlimited()).unwrap()
}

#[test]
fn a_selection_tells_what_it_read() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    filled(&engine, &table, 1, &[0, 1, 2], 0);
    engine.seal().unwrap();
    // another host, days later: another file
    filled(&engine, &table, 2, &[30, 31], 20_000);
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    filled(&engine, &table, 3, &[0], 20);

    let of_host = Matcher::equal("instance", labels(0).get("instance").unwrap());
    let range = TimeRange::new(time(0), time(500));
    let set = select(&engine, &of_host, range, Want::Samples);
    assert!(set.held_bytes() > 0);
    let mut block = SeriesBlock::default();
    let budget = Budget::unlimited();
    for i in 0..set.len() {
        set.read(i, &mut block, &budget).unwrap();
    }
    let reads = set.reads();
    assert_eq!(
        (reads.files, reads.files_out_of_time, reads.files_without_series),
        (2, 1, 0)
    );
    assert_eq!((reads.chunks, reads.chunk_samples, reads.head_samples), (3, 30, 10));
    assert!(reads.chunk_bytes > 0);
    assert_eq!(budget.used().0, 40);

    let set = select(&engine, &of_host, TimeRange::ALL, Want::Samples);
    assert_eq!(
        (set.reads().files_out_of_time, set.reads().files_without_series),
        (0, 1)
    );
    assert_eq!(set.reads().chunks, 0, "nothing was read yet");
}

#[test]
fn what_reading_would_count_is_known_before() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let all: Vec<u8> = (0..40).collect();
    filled(&engine, &table, 1, &all, 0);
    engine.seal().unwrap();
    let job = Matcher::equal("job", "test");
    for (want, range, expected) in [
        (Want::Samples, TimeRange::ALL, 10),
        (Want::Last, TimeRange::ALL, 1),
        (Want::Samples, TimeRange::new(time(100), time(200)), 0),
    ] {
        let set = select(&engine, &job, range, want);
        let small = Budget::new(100, u64::MAX, u64::MAX);
        let ahead = set.samples_ahead(&small).unwrap();
        let (mut block, unlimited) = (SeriesBlock::default(), Budget::unlimited());
        for i in 0..set.len() {
            set.read(i, &mut block, &unlimited).unwrap();
        }
        let counted = unlimited.used().0;
        assert_eq!(counted, set.len() as u64 * expected);
        if expected == 10 {
            // the eleventh is more than 100
            let series = 11;
            assert_eq!(ahead, Ahead { samples: 110, series });
        } else {
            assert!(ahead.samples <= counted, "never more than is counted: {ahead:?}");
        }
        let large = Budget::new(400, u64::MAX, u64::MAX);
        assert_eq!(set.samples_ahead(&large).unwrap(), Ahead::default());
    }
}

#[test]
fn values_stay_while_files_are_merged() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let done = std::sync::atomic::AtomicBool::new(false);
    filled(&engine, &table, 1, &[0], 0);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for position in 2..2000 {
                engine.seal().unwrap();
                engine.compact_all().unwrap();
                filled(&engine, &table, position, &[0], 0);
            }
            done.store(true, std::sync::atomic::Ordering::Release);
        });
        while !done.load(std::sync::atomic::Ordering::Acquire) {
            let budget = Budget::unlimited();
            let any_of = [vec![Matcher::equal("job", "test")]];
            let found = engine.label_values(TENANT, "instance", &any_of, TimeRange::ALL, &budget);
            assert_eq!(found.unwrap().items, ["host-0"]);
        }
    });
}

#[test]
fn values_that_damage_hides_are_warned_of() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    filled(&engine, &table, 1, &[0], 0);
    engine.seal().unwrap();
    let path = std::path::Path::new(super::model_based::DIR).join("block-0000000001");
    let directory = engine.shared.view().blocks[0].footer.directory;
    let spoilt = |b: &mut Vec<u8>| b[directory.offset as usize] ^= 1;
    machine.files.edit(&path, spoilt).unwrap();
    engine.shared.indexes.forget(1);
    let found = engine
        .label_values(TENANT, "instance", &[], TimeRange::ALL, &Budget::unlimited())
        .unwrap();
    // the groups tell the same
    assert_eq!((found.items.len(), found.warnings.len()), (1, 0), "{found:?}");
    assert_eq!(engine.stats().quarantined.len(), 1);
    // here they are damaged, too
    let head = engine.shared.view().blocks[0].footer.head;
    let spoilt = |b: &mut Vec<u8>| b[head as usize] ^= 1;
    machine.files.edit(&path, spoilt).unwrap();
    engine.shared.indexes.forget(1);
    let found = engine
        .label_values(TENANT, "instance", &[], TimeRange::ALL, &Budget::unlimited())
        .unwrap();
    assert_eq!(found.items, [""; 0]);
    assert_eq!(found.warnings.len(), 1, "{found:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    /// Wherever the series are, their names are those of the series themselves.
    #[test]
    fn label_names_are_those_of_the_series(
        // (label names as bits, time, what follows)
        steps in prop::collection::vec((0..32u32, 0..50i64, 0..6u8), 1..30),
        reopen in prop::bool::ANY,
    ) {
        let machine = Machine::new(1);
        let (mut engine, mut table, _) = open(&machine);
        for (position, (bits, at, then)) in (1..).zip(steps) {
            let mut pairs = vec![("__name__".to_owned(), "m".to_owned())];
            pairs.extend((0..5).filter(|n| bits & 1 << n != 0).map(|n| (format!("label_{n}"), "x".to_owned())));
            let id = table.intern(TENANT, Labels::from_pairs(pairs).as_bytes(), None).unwrap();
            let mut batch = Batch::new(TENANT);
            batch.floats.push(id, time(at), 1.0, 0);
            engine.apply(position, &Record::Batch(batch));
            if then >= 3 {
                engine.seal().unwrap();
            }
            if then >= 4 {
                engine.compact_all().unwrap();
            }
            if then == 5 && reopen {
                (engine, table, _) = open(&machine);
            }
            for (from, to) in [(0, 60), (20, 30), (at, at), (-5, 10)] {
                let range = TimeRange::new(time(from), time(to));
                for any_of in [vec![], vec![vec![Matcher::equal("label_1", "x")], vec![Matcher::equal("label_3", "x")]]] {
                    let budget = Budget::unlimited();
                    let series = engine.series(TENANT, &any_of, range, &budget).unwrap();
                    let names = series.items.iter().flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>());
                    let names: std::collections::BTreeSet<String> = names.collect();
                    let found = engine.label_names(TENANT, &any_of, range, &budget).unwrap();
                    prop_assert_eq!(found.items, names.into_iter().collect::<Vec<_>>());
                }
            }
        }
    }
}
