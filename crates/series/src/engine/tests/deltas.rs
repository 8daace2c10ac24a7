use std::collections::BTreeMap;

use host::sim::{Dice, Machine};
use model::{Batch, Delete, DeltaRow, Matcher, Record, TimeRange, Want};

use super::model_based::{TENANT, Value, labels, open, read_all, time};
use crate::engine::{Engine, EngineSettings};
use crate::table::SeriesTable;

fn delta(table: &SeriesTable, from: i64, to: i64, value: f64) -> Record {
    let mut batch = Batch::new(TENANT);
    batch.deltas.push(DeltaRow {
        series: table.intern(TENANT, labels(0).as_bytes(), None).unwrap(),
        start_ms: time(from),
        at_ms: time(to),
        value,
    });
    Record::Batch(batch)
}

fn totals(engine: &Engine) -> Vec<(i64, f64, i64)> {
    let (world, _) = read_all(engine, TimeRange::ALL, Want::Samples);
    let total = |(at, v): (&i64, &Value)| match v {
        Value::Float(bits, start) => (*at, f64::from_bits(*bits), *start),
        Value::Bucketed(..) => panic!("a histogram"),
    };
    world[&labels(0)].iter().map(total).collect()
}

#[test]
fn deltas_become_a_running_value_across_seals_and_restarts() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    engine.apply(1, &delta(&table, 0, 1, 5.0));
    engine.apply(2, &delta(&table, 1, 2, 3.0));
    // the same range again, under a new position: a sender's retry
    engine.apply(3, &delta(&table, 1, 2, 3.0));
    let start = time(0);
    let mut expected = vec![(time(1), 5.0, start), (time(2), 8.0, start)];
    assert_eq!(totals(&engine), expected);
    assert_eq!(engine.stats().deltas_skipped, 1);
    engine.seal().unwrap();
    engine.apply(4, &delta(&table, 2, 3, 1.0));
    // not sealed: lost with the process, and applied again
    let (engine, table, report) = open(&machine);
    assert_eq!(report.applied, 3);
    engine.apply(4, &delta(&table, 2, 3, 1.0));
    expected.push((time(3), 9.0, start));
    assert_eq!(totals(&engine), expected);
    engine.seal().unwrap();
    engine.compact_all().unwrap();
    let (engine, table, _) = open(&machine);
    engine.apply(5, &delta(&table, 3, 4, 1.0));
    expected.push((time(4), 10.0, start));
    assert_eq!(totals(&engine), expected);
}

/// A delete that is applied and not sealed comes again with the log, after the deltas that came before it: these must find
/// the running value that they found, whatever was merged and committed meanwhile.
#[test]
fn a_delete_that_is_not_sealed_takes_nothing_from_what_replay_finds() {
    for merged_before in [false, true] {
        let machine = Machine::new(1);
        let (engine, table, _) = open(&machine);
        engine.apply(1, &delta(&table, 0, 1, 5.0));
        engine.seal().unwrap();
        if merged_before {
            engine.compact_all().unwrap();
        }
        let delete = Record::Delete(Delete {
            tenant: TENANT,
            matchers: vec![Matcher::equal("job", "test")],
            range: TimeRange::new(time(1), time(1)),
        });
        let replay = |engine: &Engine, table: &SeriesTable| {
            engine.apply(2, &delta(table, 1, 2, 3.0));
            engine.apply(3, &delete);
            assert_eq!(
                totals(engine),
                [(time(2), 8.0, time(0))],
                "merged before: {merged_before}"
            );
        };
        replay(&engine, &table);
        let merged = engine.compact_all().unwrap();
        assert_eq!(merged.files_in, usize::from(!merged_before));
        machine.clock.advance(std::time::Duration::from_secs(6));
        while engine.compact_step().unwrap().is_some() {}
        machine.files.crash();
        let (engine, table, report) = open(&machine);
        assert_eq!(report.applied, 1);
        assert_eq!(totals(&engine), [(time(1), 5.0, time(0))]);
        replay(&engine, &table);
        engine.seal().unwrap();
        engine.compact_all().unwrap();
        assert_eq!(totals(&engine), [(time(2), 8.0, time(0))]);
    }
}

#[test]
fn old_files_go_after_two_looks_at_the_clock() {
    let machine = Machine::new(1);
    let table = std::sync::Arc::new(SeriesTable::new([7; 16]));
    let settings = EngineSettings {
        retention_ms: Some(86_400_000),
        clock_confirmed_ms: Some(i64::MAX),
        ..EngineSettings::default()
    };
    let dir = std::path::Path::new(super::model_based::DIR);
    let (engine, _) = Engine::open(machine.host(), dir, settings, std::sync::Arc::clone(&table)).unwrap();
    engine.apply(1, &delta(&table, 0, 1, 5.0));
    engine.seal().unwrap();
    let far = time(1) + 10 * 86_400_000;
    engine.expire(time(2)).unwrap();
    // one jump of the clock is not believed
    assert_eq!(engine.expire(far).unwrap().files, 0);
    assert_eq!(engine.expire(time(2)).unwrap().files, 0);
    engine.expire(far).unwrap();
    assert_eq!(engine.expire(far).unwrap().files, 1);
    assert!(read_all(&engine, TimeRange::ALL, Want::Samples).0.is_empty());
    let (engine, _, report) = open(&machine);
    assert_eq!((report.applied, report.quarantined), (1, Vec::new()));
    assert_eq!(engine.stats().files, 0);
}

/// Rows of one record: series, end, length, value; a value of `None` is a stale marker.
type Rows = Vec<(u8, i64, i64, Option<f64>)>;

fn deltas(table: &SeriesTable, rows: &Rows) -> Record {
    let mut batch = Batch::new(TENANT);
    for &(series, to, length, value) in rows {
        batch.deltas.push(DeltaRow {
            series: table.intern(TENANT, labels(series).as_bytes(), None).unwrap(),
            start_ms: time(to - length),
            at_ms: time(to),
            value: value.unwrap_or(model::stale_nan()),
        });
    }
    Record::Batch(batch)
}

/// What deltas come to: of each series the deltas and markers by their ends, the first of each end.
#[derive(Default)]
struct Sums {
    ends: BTreeMap<(u8, i64), Option<f64>>,
    late: u64,
    skipped: u64,
}

impl Sums {
    fn apply(&mut self, rows: &Rows) {
        // a stable sort, as the engine goes from series to series
        let mut rows = rows.clone();
        rows.sort_by_key(|r| r.0);
        for (series, to, _, value) in rows {
            let all = (series, i64::MIN)..=(series, i64::MAX);
            let newest = self.ends.range(all).rev().find(|e| e.1.is_some()).map(|e| e.0.1);
            let same = self.ends.get(&(series, to)).copied().flatten();
            match (value, same) {
                (None, Some(_)) => {}
                (Some(_), Some(_)) => self.skipped += 1,
                (value, None) => {
                    self.late += u64::from(value.is_some() && newest.is_some_and(|n| to < n));
                    self.ends.insert((series, to), value);
                }
            }
        }
    }

    /// Each sample is the sum of all deltas up to its end.
    fn check(&self, engine: &Engine, context: &str) {
        let (world, warnings) = read_all(engine, TimeRange::ALL, Want::Samples);
        assert_eq!(warnings, [""; 0], "{context}");
        let mut found = 0;
        for series in 0..3 {
            let (mut total, mut began) = (0.0, i64::MIN);
            let mut samples = world.get(&labels(series)).into_iter().flatten();
            for (&(_, to), value) in self.ends.range((series, i64::MIN)..=(series, i64::MAX)) {
                let Some((at, Value::Float(bits, start))) = samples.next() else {
                    panic!("{context}: no sample of series {series} at {to}");
                };
                let shown = f64::from_bits(*bits);
                found += 1;
                assert_eq!(*at, time(to), "{context}");
                let Some(value) = value else {
                    assert!(model::is_stale(shown), "{context}: {shown}");
                    continue;
                };
                total += value;
                assert_eq!(shown, total, "{context}: series {series} at {to}");
                // one start time: nothing looks like a reset
                assert!(*start < *at && (began == i64::MIN || began == *start), "{context}");
                began = *start;
            }
            assert!(
                samples.next().is_none(),
                "{context}: too many samples of series {series}"
            );
        }
        assert_eq!(found, self.ends.len(), "{context}");
    }
}

/// Random deltas in any order, resent, of several writers, with markers, through seals, merges and ends of the process.
#[test]
fn totals_are_the_sums_of_all_ends_in_whatever_order_they_come() {
    for seed in 0..150 {
        let context = format!("seed {seed}");
        let machine = Machine::new(seed);
        let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 7);
        let (mut engine, mut table, _) = open(&machine);
        let mut log: Vec<Option<Rows>> = Vec::new();
        let mut sums = Sums::default();
        let (mut late, mut skipped) = (0, 0);
        let mut now = 0;
        let reach = [3, 20, 200][dice.below(3) as usize];
        for _ in 0..60 {
            match dice.below(12) {
                0 => drop(engine.seal().unwrap()),
                1 => drop(engine.compact_all().unwrap()),
                2 => {
                    drop(engine);
                    match dice.one_in(2) {
                        true => machine.files.crash(),
                        false => machine.files.kill(),
                    }
                    let report;
                    (engine, table, report) = open(&machine);
                    for (i, entry) in log.iter().enumerate().skip(report.applied as usize) {
                        engine.apply(i as u64 + 1, &record(&table, entry));
                    }
                    // counted anew since the start
                    let stats = engine.stats();
                    late = sums.late - stats.deltas_late;
                    skipped = sums.skipped - stats.deltas_skipped;
                }
                3 if dice.one_in(3) => {
                    log.push(None);
                    engine.apply(log.len() as u64, &record(&table, &None));
                }
                _ => {
                    now += dice.below(4) as i64;
                    let rows: Rows = (0..1 + dice.below(12))
                        .map(|_| {
                            let to = now + 3 - dice.below(reach + 3) as i64;
                            let value = (!dice.one_in(8)).then(|| dice.below(9) as f64);
                            (dice.below(3) as u8, to, 1 + dice.below(3) as i64, value)
                        })
                        .collect();
                    sums.apply(&rows);
                    log.push(Some(rows));
                    engine.apply(log.len() as u64, &record(&table, &log[log.len() - 1]));
                }
            }
            sums.check(&engine, &context);
            let stats = engine.stats();
            let counted = (late + stats.deltas_late, skipped + stats.deltas_skipped);
            assert_eq!(counted, (sums.late, sums.skipped), "{context}");
            assert_eq!(stats.deltas_restarted, 0);
        }
    }
}

/// Deltas, or a delete of nothing.
fn record(table: &SeriesTable, entry: &Option<Rows>) -> Record {
    match entry {
        Some(rows) => deltas(table, rows),
        None => Record::Delete(Delete {
            tenant: TENANT,
            matchers: vec![Matcher::equal("job", "another")],
            range: TimeRange::ALL,
        }),
    }
}

/// A sender whose clock ran ahead by more samples than a late one raises: it goes on to be counted, and what it sends again
/// is known.
#[test]
fn far_behind_others_a_delta_raises_the_newest_sample_alone() {
    for sealed in [false, true] {
        let machine = Machine::new(1);
        let (engine, table, _) = open(&machine);
        let ahead: Rows = (0..300).map(|i| (0, 1000 + i, 1, Some(1.0))).collect();
        engine.apply(1, &deltas(&table, &ahead));
        if sealed {
            engine.seal().unwrap();
        }
        let back: Rows = (0..20).map(|i| (0, 10 + i, 1, Some(1.0))).collect();
        engine.apply(2, &deltas(&table, &back));
        engine.apply(3, &deltas(&table, &back));
        engine.apply(
            4,
            &deltas(&table, &vec![(0, 1298, 1, Some(1.0)), (0, 1300, 1, Some(1.0))]),
        );
        let values: Vec<f64> = totals(&engine).iter().map(|t| t.1).collect();
        assert_eq!(values.len(), 321);
        assert!(values.is_sorted(), "nothing looks like a reset");
        assert_eq!(values[320], 321.0);
        let stats = engine.stats();
        assert_eq!((stats.deltas_late, stats.deltas_skipped), (20, 21));
    }
}

#[test]
fn a_total_beyond_the_largest_number_starts_anew() {
    for sealed in [false, true] {
        let machine = Machine::new(1);
        let (engine, table, _) = open(&machine);
        for (position, end) in [(1, 1), (2, 3), (3, 4), (4, 2)] {
            engine.apply(position, &deltas(&table, &vec![(0, end, 1, Some(1e308))]));
            if sealed {
                engine.seal().unwrap();
            }
        }
        let found = totals(&engine);
        assert!(found.iter().all(|t| t.1 == 1e308), "{found:?}");
        assert_eq!(found.len(), 4);
        // it begins no earlier than the one before ended: a reset
        assert!(found[3].2 >= time(3), "{found:?}");
        assert_eq!(engine.stats().deltas_restarted, 3);
    }
}

/// A body of floats in between, of a sender that changed its temporality: the same comes of it with and without a start.
#[test]
fn totals_go_on_from_floats_of_the_same_series() {
    for restarted in [false, true] {
        let machine = Machine::new(1);
        let (mut engine, mut table, _) = open(&machine);
        engine.apply(1, &deltas(&table, &vec![(0, 1, 1, Some(1.0))]));
        let mut batch = Batch::new(TENANT);
        let id = table.intern(TENANT, labels(0).as_bytes(), None).unwrap();
        batch.floats.push(id, time(2), 100.0, time(0));
        engine.apply(2, &Record::Batch(batch));
        engine.seal().unwrap();
        if restarted {
            (engine, table, _) = open(&machine);
        }
        engine.apply(3, &deltas(&table, &vec![(0, 3, 1, Some(1.0))]));
        let values: Vec<f64> = totals(&engine).iter().map(|t| t.1).collect();
        assert_eq!(values, [1.0, 100.0, 101.0]);
    }
}
