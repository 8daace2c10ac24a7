use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use host::sim::Machine;
use model::{
    Batch, Budget, Delete, Exemplar, Hints, Histogram, HistogramRow, Labels, MatchOp, Matcher, Record, SampleSource,
    SelectRequest, SeriesBlock, Span, TenantId, TimeRange, Want,
};
use proptest::prelude::*;

use crate::engine::{Engine, EngineSettings};
use crate::table::SeriesTable;

pub(crate) const DIR: &str = "/data/series";
pub(super) const TENANT: TenantId = TenantId(1);
/// Samples begin here: some hours before a day's end.
pub(super) const T0: i64 = 1_700_000_000_000 / 86_400_000 * 86_400_000 + 86_400_000 - 4 * 3_600_000;

pub(super) fn labels(n: u8) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", n % 3)),
        ("instance", format!("host-{}", n / 3)),
        ("job", "test".to_owned()),
    ])
}

type Opened = (Engine, Arc<SeriesTable>, crate::engine::OpenReport);

pub(super) fn open(machine: &Machine) -> Opened {
    open_with(machine, EngineSettings::default())
}

pub(super) fn open_with(machine: &Machine, settings: EngineSettings) -> Opened {
    let table = Arc::new(SeriesTable::new([7; 16]));
    let dir = std::path::Path::new(DIR);
    // what a clock may decide alone has its own tests
    let settings = EngineSettings {
        clock_confirmed_ms: settings.clock_confirmed_ms.or(Some(i64::MAX)),
        ..settings
    };
    let (engine, report) = Engine::open(machine.host(), dir, settings, Arc::clone(&table)).unwrap();
    (engine, table, report)
}

pub(super) fn histogram(n: u8) -> Histogram {
    Histogram {
        schema: 3,
        count: f64::from(n),
        sum: f64::from(n) * 1.5,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_buckets: vec![f64::from(n), 0.0],
        ..Histogram::default()
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    Float(u64, i64),
    Bucketed(Histogram, i64),
}

pub(crate) type World = BTreeMap<Labels, BTreeMap<i64, Value>>;

#[derive(Clone, Debug)]
pub(super) enum Step {
    /// (series, time step, value, with a start time)
    Floats(Vec<(u8, i64, u8, bool)>),
    Histograms(Vec<(u8, i64, u8)>),
    Delete(u8, i64, i64),
    Seal,
    Compact,
    CompactAll,
    Idle,
    Reopen,
}

fn at() -> impl Strategy<Value = i64> {
    prop_oneof![3 => 0..60i64, 1 => 0..3000i64]
}

pub(super) fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        10 => prop::collection::vec((0..9u8, at(), any::<u8>(), prop::bool::weighted(0.2)), 1..40).prop_map(Step::Floats),
        2 => prop::collection::vec((0..9u8, at(), any::<u8>()), 1..8).prop_map(Step::Histograms),
        1 => (0..9u8, at(), at()).prop_map(|(n, a, b)| Step::Delete(n, a.min(b), a.max(b))),
        4 => Just(Step::Seal),
        2 => Just(Step::Compact),
        1 => Just(Step::CompactAll),
        1 => Just(Step::Idle),
        1 => Just(Step::Reopen),
    ]
}

fn value(n: u8) -> f64 {
    match n {
        0 => model::stale_nan(),
        1 => -0.0,
        2 => f64::NAN,
        3 => f64::INFINITY,
        n => f64::from(n) * 0.25,
    }
}

pub(super) fn time(step: i64) -> i64 {
    T0 + step * 15_000
}

/// The record of a step, and what it does to the world.
pub(super) fn record(step: &Step, table: &SeriesTable, world: &mut World) -> Option<Record> {
    let mut batch = Batch::new(TENANT);
    match step {
        Step::Floats(rows) => {
            for &(n, at, v, start) in rows {
                let l = labels(n);
                let id = table.intern(TENANT, l.as_bytes(), None).unwrap();
                let start = if start { T0 - 1000 - at } else { 0 };
                batch.floats.push(id, time(at), value(v), start);
                let v = Value::Float(value(v).to_bits(), start);
                world.entry(l).or_default().insert(time(at), v);
            }
        }
        Step::Histograms(rows) => {
            for &(n, at, v) in rows {
                let l = labels(n);
                let id = table.intern(TENANT, l.as_bytes(), None).unwrap();
                batch.histograms.push(HistogramRow {
                    series: id,
                    at_ms: time(at),
                    start_ms: 0,
                    value: histogram(v),
                });
                let v = Value::Bucketed(histogram(v), 0);
                world.entry(l).or_default().insert(time(at), v);
            }
        }
        Step::Delete(n, from, to) => {
            let range = TimeRange::new(time(*from), time(*to));
            let host = format!("host-{}", n / 3);
            for (l, samples) in world.iter_mut() {
                if l.get("instance") == Some(&host) {
                    samples.retain(|at, _| !range.contains(*at));
                }
            }
            return Some(Record::Delete(Delete {
                tenant: TENANT,
                matchers: vec![Matcher::equal("instance", host)],
                range,
            }));
        }
        _ => return None,
    }
    Some(Record::Batch(batch))
}

pub(super) fn read_all(engine: &Engine, range: TimeRange, want: Want) -> (World, Vec<String>) {
    let budget = Budget::unlimited();
    let request = SelectRequest {
        tenant: TENANT,
        matchers: &[Matcher::equal("job", "test")],
        range,
        hints: Hints {
            want,
            ..Hints::default()
        },
    };
    let set = engine.select(&request, &budget).unwrap();
    let mut world = World::new();
    let mut block = SeriesBlock::default();
    let mut last = None;
    for i in 0..set.len() {
        let labels = set.labels(i);
        assert!(last.as_ref().is_none_or(|l| *l < labels), "unsorted or twice: {labels}");
        last = Some(labels.clone());
        set.read(i, &mut block, &budget).unwrap();
        assert!(block.at_ms.is_sorted_by(|a, b| a < b) && block.histogram_at_ms.is_sorted_by(|a, b| a < b));
        let samples = world.entry(labels).or_default();
        for (k, at) in block.at_ms.iter().enumerate() {
            let start = block.start_ms.get(k).copied().unwrap_or(0);
            samples.insert(*at, Value::Float(block.values[k].to_bits(), start));
        }
        for (k, at) in block.histogram_at_ms.iter().enumerate() {
            let start = block.histogram_start_ms.get(k).copied().unwrap_or(0);
            let v = Value::Bucketed((*block.histograms[k]).clone(), start);
            assert!(samples.insert(*at, v).is_none(), "a time twice");
        }
    }
    world.retain(|_, s| !s.is_empty());
    (world, set.warnings())
}

/// What a reader finds in the range: histograms have the hints that the samples before them call for.
pub(super) fn within(world: &World, range: TimeRange) -> World {
    let mut world = world.clone();
    for samples in world.values_mut() {
        let mut previous: Option<Histogram> = None;
        let near = range.start_ms.saturating_sub(model::HINT_REACH_MS);
        for (at, value) in samples.iter_mut() {
            previous = match value {
                _ if *at < near => None,
                Value::Float(..) => None,
                Value::Bucketed(h, _) => {
                    let stored = h.clone();
                    h.reset_hint = h.hint_after(previous.as_ref());
                    Some(stored)
                }
            };
        }
        samples.retain(|at, _| range.contains(*at));
    }
    world.retain(|_, s| !s.is_empty());
    world
}

fn last_of(world: &World) -> BTreeMap<Labels, (i64, Value)> {
    let last = |(l, s): (&Labels, &BTreeMap<i64, Value>)| {
        let (at, v) = s.last_key_value()?;
        // an answer from memory has no start time
        let v = match v {
            Value::Float(bits, _) => Value::Float(*bits, 0),
            other => other.clone(),
        };
        Some((l.clone(), (*at, v)))
    };
    world.iter().filter_map(last).collect()
}

pub(super) fn check(engine: &Engine, world: &World) {
    for range in [
        TimeRange::ALL,
        TimeRange::new(time(10), time(40)),
        TimeRange::new(time(30), time(31)),
        TimeRange::new(time(900), time(2000)),
    ] {
        let expected = within(world, range);
        let (found, warnings) = read_all(engine, range, Want::Samples);
        assert_eq!(found, expected, "{range:?}");
        assert_eq!(warnings, Vec::<String>::new());
        let (found, _) = read_all(engine, range, Want::Last);
        assert_eq!(last_of(&found), last_of(&expected), "last of {range:?}");
        let series = engine.series(TENANT, &[], range, &Budget::unlimited()).unwrap();
        for l in expected.keys() {
            assert!(series.items.contains(l), "{l} is missing");
        }
        let some = [
            vec![Matcher::equal("__name__", "metric_1")],
            vec![Matcher::equal("instance", "host-0")],
        ];
        let expression = [vec![Matcher::new("instance", MatchOp::Regex, ".+[12]").unwrap()]];
        for any_of in [&[][..], &some, &expression] {
            let budget = Budget::unlimited();
            let all = series.items.iter();
            let series = engine.series(TENANT, any_of, range, &budget).unwrap();
            let fits = |m: &Matcher, l: &Labels| m.matches(l.get(&m.name).unwrap_or(""));
            let any = |l: &&Labels| any_of.is_empty() || any_of.iter().any(|all| all.iter().all(|m| fits(m, l)));
            assert_eq!(series.items, all.filter(any).cloned().collect::<Vec<_>>(), "{any_of:?}");
            let names: BTreeSet<String> = series
                .items
                .iter()
                .flat_map(|l| l.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>())
                .collect();
            let found = engine.label_names(TENANT, any_of, range, &budget).unwrap();
            assert_eq!(
                found.items,
                names.into_iter().collect::<Vec<_>>(),
                "{any_of:?} {range:?}"
            );
            for name in ["instance", "__name__", "absent"] {
                let mut values: Vec<&str> = series.items.iter().filter_map(|l| l.get(name)).collect();
                values.sort_unstable();
                values.dedup();
                let found = engine.label_values(TENANT, name, any_of, range, &budget).unwrap();
                assert_eq!(found.items, values, "{name} {any_of:?} {range:?}");
            }
        }
    }
}

pub(super) fn run(steps: &[Step], machine: &Machine) {
    run_with(steps, machine, |_| EngineSettings::default());
}

/// `settings`: those of each opening, by its number.
pub(super) fn run_with(steps: &[Step], machine: &Machine, settings: impl Fn(usize) -> EngineSettings) {
    let mut openings = 0;
    let (mut engine, mut table, _) = open_with(machine, settings(openings));
    let mut world = World::new();
    let mut log: Vec<(Step, u64)> = Vec::new();
    let mut position = 0;
    for step in steps {
        if let Some(record) = record(step, &table, &mut world) {
            position += 1;
            log.push((step.clone(), position));
            engine.apply(position, &record);
            // what comes again is ignored
            engine.apply(position, &record);
        }
        match step {
            Step::Seal => drop(engine.seal().unwrap()),
            Step::Compact => while engine.compact_step().unwrap().is_some() {},
            Step::CompactAll => {
                engine.compact_all().unwrap();
            }
            Step::Idle => {
                machine.clock.advance(Duration::from_secs(6));
                if engine.seal_due().is_some() {
                    engine.seal().unwrap();
                }
                while engine.compact_step().unwrap().is_some() {}
            }
            Step::Reopen => {
                machine.files.kill();
                let report;
                openings += 1;
                (engine, table, report) = open_with(machine, settings(openings));
                assert_eq!(report.quarantined, Vec::new());
                let last = log.last().map_or(0, |(_, position)| *position);
                for (step, position) in &log {
                    if *position > report.applied {
                        let record = record(step, &table, &mut World::new()).unwrap();
                        engine.apply_of_many(*position, &record, *position < last);
                    }
                }
            }
            _ => {}
        }
        check(&engine, &world);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]
    #[test]
    fn answers_equal_a_map(steps in prop::collection::vec(step(), 1..25)) {
        run(&steps, &Machine::new(1));
    }
}

#[test]
fn exemplars_and_metadata_outlive_seals() {
    let machine = Machine::new(3);
    let (engine, table, _) = open(&machine);
    let id = table.intern(TENANT, labels(1).as_bytes(), None).unwrap();
    let own = Labels::from_pairs([("trace_id", "abc")]);
    let mut batch = Batch::new(TENANT);
    batch.floats.push(id, time(1), 1.0, 0);
    batch.exemplars.push(model::ExemplarRow {
        series: id,
        at_ms: time(1),
        value: 0.5,
        labels: own.clone(),
    });
    batch.metadata.push(model::MetadataRow {
        metric: "metric_1".into(),
        kind: model::MetricKind::Counter,
        help: "helps".into(),
        unit: "s".into(),
    });
    engine.apply(1, &Record::Batch(batch));
    let expected = vec![(
        labels(1),
        vec![Exemplar {
            at_ms: time(1),
            value: 0.5,
            labels: own,
        }],
    )];
    let look = |engine: &Engine| {
        let found = engine
            .exemplars(TENANT, &[], TimeRange::ALL, &Budget::unlimited())
            .unwrap();
        assert_eq!(found, expected);
        let m = engine.metadata(TENANT, Some("metric_1")).unwrap();
        assert_eq!((m.len(), m[0].help.as_str()), (1, "helps"));
    };
    look(&engine);
    engine.seal().unwrap();
    look(&engine);
    engine.compact_all().unwrap();
    look(&engine);
    let (engine, ..) = open(&machine);
    look(&engine);
}
