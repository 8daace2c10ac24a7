//! Rollups against the samples that they were made of: an engine with rollups and one without give the same answers to the
//! last bit as long as the samples are there, and rollups that stand alone answer what they can.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::sim::{Dice, Machine};
use model::{
    Batch, Budget, Cardinality, Delete, Exemplar, Found, Hints, Histogram, HistogramRow, Labels, Matcher, Metadata,
    ReadStats, Record, SampleSource, SelectRequest, SeriesSet, SourceError, TenantId, TimeRange, stale_nan,
};
use query::promql::eval::{Answer, EvalContext, Query, Trace, evaluate};
use query::promql::parse;
use query::promql::value::{Point, Value};
use series::engine::{Engine, EngineSettings};
use series::retention::{FOR_EVER, RollupKeep};
use series::table::SeriesTable;

const DAY_MS: i64 = 86_400_000;
const HOUR_MS: i64 = 3_600_000;
const DIR: &str = "/data/series";

struct Store {
    machine: Machine,
    engine: Engine,
    table: Arc<SeriesTable>,
    settings: EngineSettings,
    position: u64,
}

fn rolling() -> EngineSettings {
    EngineSettings {
        rollups: RollupKeep {
            minute_ms: Some(FOR_EVER),
            hour_ms: Some(FOR_EVER),
        },
        ..EngineSettings::default()
    }
}

impl Store {
    fn open(machine: Machine, settings: EngineSettings) -> Store {
        let settings = EngineSettings {
            clock_confirmed_ms: Some(i64::MAX),
            ..settings
        };
        let table = Arc::new(SeriesTable::new([7; 16]));
        let (engine, report) =
            Engine::open(machine.host(), Path::new(DIR), settings.clone(), Arc::clone(&table)).unwrap();
        assert_eq!(report.quarantined, []);
        Store {
            machine,
            engine,
            table,
            settings,
            position: report.applied,
        }
    }

    fn new(settings: EngineSettings) -> Store {
        Store::open(Machine::new(5), settings)
    }

    /// Started anew; what was not sealed is lost.
    fn again(self) -> Store {
        let Store {
            machine,
            engine,
            settings,
            ..
        } = self;
        drop(engine);
        machine.files.kill();
        Store::open(machine, settings)
    }

    fn now_ms(&self) -> i64 {
        self.machine.host().clock.now_ms()
    }

    fn apply(&mut self, change: &Change) {
        let id = |labels: &Labels| self.table.intern(TenantId::DEFAULT, labels.as_bytes(), None).unwrap();
        let record = match change {
            Change::Samples(rows) => {
                let mut batch = Batch::new(TenantId::DEFAULT);
                for (labels, at_ms, value, start_ms) in rows {
                    let series = id(labels);
                    match value {
                        Sample::Float(v) => batch.floats.push(series, *at_ms, *v, *start_ms),
                        Sample::Histogram(value) => batch.histograms.push(HistogramRow {
                            series,
                            at_ms: *at_ms,
                            start_ms: 0,
                            value: value.clone(),
                        }),
                    }
                }
                Record::Batch(batch)
            }
            Change::Delete(labels, range) => Record::Delete(Delete {
                tenant: TenantId::DEFAULT,
                matchers: labels.iter().map(|(n, v)| Matcher::equal(n, v)).collect(),
                range: *range,
            }),
            Change::Seal => {
                self.engine.seal().unwrap();
                return;
            }
            Change::Compact => {
                self.engine.seal().unwrap();
                self.engine.compact_all().unwrap();
                return;
            }
            Change::Steps => {
                self.engine.seal().unwrap();
                self.machine.clock.advance(Duration::from_secs(6));
                for _ in 0..50 {
                    if self.engine.compact_step().unwrap().is_none() {
                        break;
                    }
                }
                return;
            }
        };
        self.position += 1;
        self.engine.apply(self.position, &record);
    }

    fn expire(&self, at_ms: i64) -> u64 {
        self.engine.expire(at_ms).unwrap();
        self.engine.expire(at_ms).unwrap().bytes
    }

    /// The answer, the samples read from files and heads, those from rollups, and those that these stand for.
    fn ask(&self, text: &str, query: Query, use_start_times: bool) -> (Answer, [u64; 3]) {
        let (answer, read) = self.ask_of(&self.engine, text, query, use_start_times);
        let sum = |of: fn(&ReadStats) -> u64| read.iter().map(of).sum();
        let samples = sum(|r| r.chunk_samples + r.head_samples);
        (answer, [samples, sum(|r| r.rollup_samples), sum(|r| r.rolled_samples)])
    }

    fn ask_of(
        &self,
        source: &dyn SampleSource,
        text: &str,
        query: Query,
        use_start_times: bool,
    ) -> (Answer, Vec<ReadStats>) {
        let expr = parse(text).unwrap();
        let budget = Budget::unlimited();
        let trace = Trace::new(Arc::new(|| Duration::ZERO), false);
        let context = EvalContext {
            text,
            use_start_times,
            trace: Some(&trace),
            ..EvalContext::new(source, TenantId::DEFAULT, &budget)
        };
        let answer = evaluate(&expr, &context, query).unwrap_or_else(|e| panic!("{text}: {e}"));
        (answer, trace.selectors().into_iter().map(|s| s.reads).collect())
    }
}

/// The engine for a reader that looks at every sample.
struct EverySample<'a>(&'a Engine);

impl SampleSource for EverySample<'_> {
    fn select(&self, request: &SelectRequest<'_>, budget: &Budget) -> Result<Box<dyn SeriesSet>, SourceError> {
        let hints = Hints {
            aligned_ms: 0,
            windows: None,
            ..request.hints.clone()
        };
        self.0.select(
            &SelectRequest {
                hints,
                ..request.clone()
            },
            budget,
        )
    }

    fn series(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<Labels>, SourceError> {
        self.0.series(tenant, any_of, range, budget)
    }

    fn label_names(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        self.0.label_names(tenant, any_of, range, budget)
    }

    fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        self.0.label_values(tenant, name, any_of, range, budget)
    }

    fn metadata(&self, tenant: TenantId, metric: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        self.0.metadata(tenant, metric)
    }

    fn exemplars(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        self.0.exemplars(tenant, any_of, range, budget)
    }

    fn cardinality(&self, tenant: TenantId, top: usize) -> Result<Cardinality, SourceError> {
        self.0.cardinality(tenant, top)
    }
}

/// An answer in which no two bits are equal that differ.
fn bits(value: &Value) -> Vec<String> {
    match value {
        Value::Vector(list) => list
            .iter()
            .map(|s| match &s.point {
                Point::Float(v) => format!("{:?} {} {:x}", s.labels, s.at_ms, v.to_bits()),
                Point::Histogram(h) => format!("{:?} {} {h:?}", s.labels, s.at_ms),
            })
            .collect(),
        Value::Matrix(list) => list
            .iter()
            .map(|s| {
                let floats: Vec<String> = s
                    .at_ms
                    .iter()
                    .zip(&s.values)
                    .map(|(at, v)| format!("{at} {v} {:x}", v.to_bits()))
                    .collect();
                format!("{:?} {floats:?} {:?} {:?}", s.labels, s.histogram_at_ms, s.histograms)
            })
            .collect(),
        other => vec![format!("{other:?}")],
    }
}

#[derive(Clone, Debug)]
enum Sample {
    Float(f64),
    Histogram(Histogram),
}

/// Series, time, value, start time.
type Row = (Labels, i64, Sample, i64);

#[derive(Clone, Debug)]
enum Change {
    Samples(Vec<Row>),
    Delete(Labels, TimeRange),
    Seal,
    Compact,
    Steps,
}

const KINDS: [&str; 10] = [
    "counter",
    "exact_total",
    "started",
    "gauge",
    "level",
    "constant",
    "strange",
    "restless",
    "native",
    "zeros",
];

fn labels(kind: &str, n: u64) -> Labels {
    Labels::from_pairs([("__name__", kind.to_owned()), ("n", n.to_string())])
}

/// Samples of a series from `from` to `to`, now and then with a gap.
fn series(dice: &mut Dice, kind: &str, n: u64, from: i64, to: i64) -> Vec<Row> {
    let labels = labels(kind, n);
    let interval = [5_000, 15_000, 30_000, 60_000, 400_000][dice.below(5) as usize];
    let jitter = dice.one_in(2);
    let mut rows = Vec::new();
    let (mut at, mut value, mut start) = (from + dice.below(interval as u64) as i64, 0.0f64, from - 10_000);
    if dice.one_in(2) {
        at = at / interval * interval;
    }
    while at < to {
        let mut start_ms = 0;
        let mut sample = None;
        match kind {
            "counter" => {
                value = if dice.one_in(300) {
                    0.25
                } else {
                    value + dice.below(40) as f64 * 0.37
                }
            }
            "exact_total" => {
                value = if dice.one_in(300) {
                    3.0
                } else {
                    value + dice.below(4) as f64
                }
            }
            "started" => {
                if dice.one_in(200) {
                    (value, start) = (0.0, at - 1000);
                }
                value += dice.below(9) as f64;
                start_ms = start;
            }
            "gauge" => value = (dice.below(2000) as f64 - 1000.0) / 100.0,
            "level" => value = dice.below(3000) as f64 - 700.0,
            "constant" => value = 42.0,
            "strange" => {
                value = match dice.below(200) {
                    0 => stale_nan(),
                    1 => f64::NAN,
                    2 => f64::INFINITY,
                    3 => 1e300,
                    _ => dice.below(50) as f64,
                }
            }
            "restless" => value = dice.below(7) as f64,
            "zeros" => value = [0.0, -0.0][dice.below(2) as usize],
            _ => {
                value += dice.below(5) as f64;
                if dice.below(5000) > 0 {
                    sample = Some(Sample::Histogram(Histogram {
                        count: value,
                        sum: value * 2.0,
                        ..Histogram::default()
                    }));
                }
            }
        }
        rows.push((labels.clone(), at, sample.unwrap_or(Sample::Float(value)), start_ms));
        at += interval
            + if jitter {
                dice.below(interval as u64 / 3) as i64
            } else {
                0
            };
        if dice.one_in(600) {
            at += dice.below(5 * HOUR_MS as u64) as i64;
            if dice.one_in(2) {
                at = at / HOUR_MS * HOUR_MS;
            }
        }
    }
    rows
}

/// The same sample with another value.
fn changed(row: Row) -> Row {
    let (labels, at, sample, start) = row;
    let sample = match sample {
        Sample::Float(v) => Sample::Float(v * 3.0 + 1.0),
        histogram => histogram,
    };
    (labels, at, sample, start)
}

const FUNCTIONS: [&str; 22] = [
    "min_over_time",
    "max_over_time",
    "count_over_time",
    "sum_over_time",
    "avg_over_time",
    "last_over_time",
    "first_over_time",
    "present_over_time",
    "absent_over_time",
    "rate",
    "increase",
    "delta",
    "resets",
    "changes",
    "irate",
    "idelta",
    "stddev_over_time",
    "ts_of_max_over_time",
    "ts_of_last_over_time",
    "deriv",
    "",
    "timestamp",
];

fn random_query(dice: &mut Dice, base: i64) -> (String, Query) {
    let kind = KINDS[dice.below(KINDS.len() as u64) as usize];
    let function = FUNCTIONS[dice.below(FUNCTIONS.len() as u64) as usize];
    let pick = |dice: &mut Dice, list: &[i64]| list[dice.below(list.len() as u64) as usize];
    let window = pick(dice, &[60, 300, 3600, 7200, 86_400, 90, 5400, 3601, 172_800, 250_000]);
    let offset = match dice.below(6) {
        0 => " offset 1h",
        1 => " offset 7m",
        2 => " offset -90s",
        _ => "",
    };
    let extension = match function {
        "rate" | "increase" | "delta" if dice.one_in(8) => " anchored",
        _ => "",
    };
    let inner = match function {
        "" => format!("{kind}{offset}"),
        "timestamp" => format!("timestamp({kind}{offset})"),
        f => format!("{f}({kind}[{window}s]{extension}{offset})"),
    };
    let text = match dice.below(5) {
        0 => format!("sum by (n) ({inner})"),
        1 => format!("max({inner})"),
        2 if !matches!(function, "timestamp") => format!("max_over_time({inner}[2h:1h])"),
        _ => inner,
    };
    let step_ms = 1000 * pick(dice, &[60, 300, 3600, 7200, 21_600, 77, 1800]);
    let grid = pick(dice, &[1, 1000, 60_000, HOUR_MS, HOUR_MS]);
    let start_ms = (base + dice.below(4 * DAY_MS as u64) as i64) / grid * grid;
    let query = match dice.below(6) {
        0 => Query::Instant { at_ms: start_ms },
        _ => Query::Range {
            start_ms,
            end_ms: start_ms + step_ms * dice.below(60) as i64,
            step_ms,
        },
    };
    (text, query)
}

/// Days of samples of all kinds, some of it late, some of it deleted, in any stage.
fn live(seed: u64, queries: usize) -> [u64; 4] {
    let mut dice = Dice(seed);
    let (mut with, mut without) = (Store::new(rolling()), Store::new(EngineSettings::default()));
    let base = (with.now_ms() / DAY_MS - 6) * DAY_MS;
    let mut changes = Vec::new();
    let mut later = Vec::new();
    for kind in KINDS {
        for n in 0..2 {
            let from = base + dice.below(DAY_MS as u64 / 2) as i64;
            let to = base + DAY_MS + dice.below(2 * DAY_MS as u64) as i64;
            let mut rows = series(&mut dice, kind, n, from, to);
            if dice.one_in(3) {
                // some come late, and some of these once more with another value
                let at = dice.below(rows.len() as u64) as usize;
                let upto = (at + 1 + dice.below(40) as usize).min(rows.len());
                let late = match dice.one_in(2) {
                    true => rows.drain(at..upto).collect(),
                    false => rows[at..upto].iter().cloned().map(changed).collect(),
                };
                later.push(Change::Samples(late));
            }
            changes.push(Change::Samples(rows));
            if dice.one_in(6) {
                changes.push(Change::Seal);
            }
        }
    }
    changes.push(Change::Compact);
    for _ in 0..dice.below(3) {
        let from = base + dice.below(3 * DAY_MS as u64) as i64;
        let to = from + dice.below(3 * HOUR_MS as u64) as i64;
        let kind = KINDS[dice.below(KINDS.len() as u64) as usize];
        later.push(Change::Delete(labels(kind, dice.below(2)), TimeRange::new(from, to)));
    }
    for _ in 0..later.len() {
        let i = dice.below(later.len() as u64) as usize;
        changes.push(later.swap_remove(i));
        match dice.below(5) {
            0 => changes.push(Change::Seal),
            1 => changes.push(Change::Compact),
            2 => changes.push(Change::Steps),
            _ => {}
        }
    }
    let mut read = [0; 4];
    let asked_from = changes.iter().position(|c| matches!(c, Change::Compact)).unwrap();
    for (i, change) in changes.iter().enumerate() {
        with.apply(change);
        without.apply(change);
        if i < asked_from {
            continue;
        }
        if i + 1 == changes.len() && dice.one_in(2) {
            with.apply(&Change::Seal);
            with = with.again();
        }
        for _ in 0..queries {
            let (text, query) = random_query(&mut dice, base);
            let use_start_times = dice.one_in(2);
            let (a, ra) = with.ask(&text, query, use_start_times);
            let (b, rb) = without.ask(&text, query, use_start_times);
            let every = EverySample(&without.engine);
            let (c, rc) = without.ask_of(&every, &text, query, use_start_times);
            assert!(rc.iter().all(|r| r.rollup_samples + r.stated_chunks == 0));
            let told = format!("seed {seed}, change {i}: {text} {query:?} start times {use_start_times}");
            assert_eq!(bits(&a.value), bits(&b.value), "{told}");
            assert_eq!((a.warnings, a.infos), (b.warnings.clone(), b.infos.clone()), "{told}");
            assert_eq!(bits(&b.value), bits(&c.value), "statistics, {told}");
            assert_eq!((b.warnings, b.infos), (c.warnings, c.infos), "statistics, {told}");
            assert_eq!(rb[1], 0, "{told}");
            let spared: u64 = rc.iter().map(|r| r.chunk_samples + r.head_samples).sum::<u64>() - rb[0];
            for (sum, n) in read.iter_mut().zip(ra.into_iter().chain([spared])) {
                *sum += n;
            }
        }
    }
    read
}

#[test]
fn rollups_answer_as_samples_do() {
    let seeds = std::env::var("OVERSEER_SEEDS")
        .ok()
        .and_then(|n| n.parse().ok())
        .unwrap_or(12);
    let mut read = [0; 4];
    for seed in 0..seeds {
        for (sum, n) in read.iter_mut().zip(live(seed, 60)) {
            *sum += n;
        }
    }
    println!(
        "{} samples, {} of rollups for {}; {} spared by statistics",
        read[0], read[1], read[2], read[3]
    );
    assert!(read[1] > 0 && 2 * read[2] > 3 * read[1] && read[3] > 0, "{read:?}");
}

fn hours(store: &Store, text: &str, from: i64, count: i64) -> (Vec<(i64, f64)>, Answer) {
    let query = Query::Range {
        start_ms: from,
        end_ms: from + (count - 1) * HOUR_MS,
        step_ms: HOUR_MS,
    };
    let (answer, _) = store.ask(text, query, false);
    let Value::Matrix(rows) = &answer.value else {
        panic!("{answer:?}")
    };
    let points = rows
        .iter()
        .flat_map(|s| s.at_ms.iter().copied().zip(s.values.iter().copied()));
    (points.collect(), answer)
}

/// Two days of a counter and a gauge, every 15 seconds, ten days ago and in files; the first day.
fn two_days(store: &mut Store) -> i64 {
    let base = (store.now_ms() / DAY_MS - 10) * DAY_MS;
    let rows = (0..2 * DAY_MS / 15_000).flat_map(|i| {
        let at = base + i * 15_000;
        [
            (labels("exact_total", 0), at, Sample::Float((i % 5000) as f64), 0),
            (
                labels("gauge", 0),
                at,
                Sample::Float((i * 7919 % 1000) as f64 / 100.0),
                0,
            ),
        ]
    });
    store.apply(&Change::Samples(rows.collect()));
    store.apply(&Change::Compact);
    base
}

/// Statistics of chunks answer for the series and days that nothing else has a say in.
#[test]
fn statistics_do_not_answer_for_what_else_has_a_say_in() {
    let mut store = Store::new(EngineSettings::default());
    let base = two_days(&mut store);
    let noon = base + DAY_MS / 2;
    let at = |at_ms, value| Change::Samples(vec![(labels("gauge", 0), at_ms, Sample::Float(value), 0)]);
    let deleted = Change::Delete(labels("gauge", 0), TimeRange::new(noon - HOUR_MS, noon + HOUR_MS));
    // what happens, and whether the first day is still the file's alone
    let stages = [
        (None, true),
        (Some(at(noon + 1, 1e6)), false),
        (Some(Change::Seal), false),
        (Some(Change::Compact), true),
        (Some(deleted), false),
        (Some(Change::Compact), true),
        (Some(at(base + 3 * DAY_MS, -1e6)), true),
    ];
    let functions = [
        "max_over_time",
        "min_over_time",
        "first_over_time",
        "last_over_time",
        "count_over_time",
        "delta",
    ];
    for (i, (change, own)) in stages.into_iter().enumerate() {
        if let Some(change) = change {
            store.apply(&change);
        }
        for function in functions {
            let text = format!("{function}(gauge[25h])");
            let query = Query::Instant { at_ms: base + DAY_MS };
            let (answer, read) = store.ask_of(&store.engine, &text, query, false);
            let (expected, _) = store.ask_of(&EverySample(&store.engine), &text, query, false);
            assert_eq!(bits(&answer.value), bits(&expected.value), "stage {i}: {text}");
            // the next day's first sample is read in any case
            let few = read.iter().all(|r| r.chunk_samples + r.head_samples < 10);
            assert_eq!(few, own, "stage {i}: {text}: {read:?}");
            assert!(
                read.iter().all(|r| r.stated_samples > 1000),
                "stage {i}: {text}: {read:?}"
            );
        }
    }
}

/// Samples of five days, rollups that outlive them.
fn outliving() -> Store {
    Store::new(EngineSettings {
        retention_ms: Some(5 * DAY_MS),
        rollups: RollupKeep {
            minute_ms: Some(30 * DAY_MS),
            hour_ms: Some(FOR_EVER),
        },
        ..EngineSettings::default()
    })
}

#[test]
fn what_stands_alone_goes_on_answering() {
    let mut store = outliving();
    let base = two_days(&mut store);
    let queries = [
        "max_over_time(gauge[1h])",
        "min_over_time(gauge[2h])",
        "count_over_time(gauge[1h])",
        "last_over_time(gauge[1h])",
        "rate(exact_total[2h])",
        "increase(exact_total[1h])",
        "sum_over_time(exact_total[1h])",
        "avg_over_time(exact_total[1h])",
        "resets(exact_total[3h])",
        "gauge",
        "gauge offset 3h",
    ];
    let ask = |store: &Store| -> Vec<Vec<(i64, f64)>> {
        let each = queries.iter().map(|text| hours(store, text, base + 4 * HOUR_MS, 40).0);
        each.collect()
    };
    let before = ask(&store);
    assert!(before.iter().all(|points| points.len() >= 39), "{before:?}");
    let now_ms = store.now_ms();
    let report = store
        .engine
        .retention_report(store.settings.retention(), now_ms)
        .unwrap();
    assert_eq!((report[0].due_files, report[0].rollups.len()), (2, 2));
    assert!(
        report[0]
            .rollups
            .iter()
            .all(|r| r.files == 2 && r.due_files == 0 && r.bytes > 0)
    );
    assert!(store.expire(now_ms) > 0);
    assert_eq!((store.engine.stats().files, store.engine.stats().rollup_files), (0, 4));
    for _ in 0..2 {
        assert_eq!(ask(&store), before);
        let (_, answer) = hours(&store, "max_over_time(gauge[1h])", base + 4 * HOUR_MS, 4);
        assert!(
            answer.infos.len() == 1 && answer.infos[0].contains("1h rollups"),
            "{answer:?}"
        );
        // where windows are no whole hours minutes answer, where they are no whole minutes either, true samples do
        let (minutes, answer) = hours(&store, "max_over_time(gauge[10m])", base + 4 * HOUR_MS, 4);
        assert!(
            minutes.len() == 4 && answer.infos[0].contains("1m rollups"),
            "{answer:?}"
        );
        let (_, answer) = hours(&store, "stddev_over_time(gauge[1h])", base + 4 * HOUR_MS + 17, 4);
        assert!(answer.infos[0].contains("1m rollups"), "{answer:?}");
        let found = |label: &str| {
            let all = TimeRange::new(base, base + 2 * DAY_MS);
            let budget = Budget::unlimited();
            let values = model::SampleSource::label_values(&store.engine, TenantId::DEFAULT, label, &[], all, &budget);
            values.unwrap().items
        };
        assert_eq!(found("__name__"), ["exact_total", "gauge"]);
        store = store.again();
        let _ = store.engine.compact_all().unwrap();
    }
    // a deletion takes the buckets that it touches, at once and in the file
    store.apply(&Change::Delete(
        labels("gauge", 0),
        TimeRange::new(base + 5 * HOUR_MS - 1, base + 6 * HOUR_MS - HOUR_MS / 2),
    ));
    for _ in 0..2 {
        let (left, _) = hours(&store, "count_over_time(gauge[1h])", base + 4 * HOUR_MS, 5);
        let hour = |at| base + at * HOUR_MS;
        assert_eq!(left, [(hour(4), 240.0), (hour(7), 240.0), (hour(8), 240.0)]);
        let (all, _) = hours(&store, "count_over_time(exact_total[1h])", base + 4 * HOUR_MS, 5);
        assert_eq!(all.len(), 5);
        store.apply(&Change::Steps);
    }
    assert_eq!(
        store.engine.stats().tombstones,
        0,
        "the files were freed of what was deleted"
    );
    // minutes go in their time, hours never; the raw samples that come late go again
    assert!(store.expire(base + 40 * DAY_MS) > 0);
    assert_eq!(store.engine.stats().rollup_files, 2);
    let (left, answer) = hours(&store, "count_over_time(gauge[1h])", base + 4 * HOUR_MS, 5);
    assert!(left.len() == 3 && answer.infos[0].contains("1h rollups"));
    // a rule that does not ask for them drops them
    store.settings.rollups = RollupKeep::default();
    let store = store.again();
    assert!(store.expire(store.now_ms()) > 0);
    assert_eq!(store.engine.stats().rollup_files, 0);
}

/// Samples that come again beside rollups that stand alone change nothing: one of an hour, or all of another.
#[test]
fn what_comes_again_counts_once() {
    let mut store = Store::new(EngineSettings {
        retention_ms: Some(5 * DAY_MS),
        rollups: RollupKeep {
            minute_ms: None,
            hour_ms: Some(FOR_EVER),
        },
        ..EngineSettings::default()
    });
    let base = two_days(&mut store);
    let ask = |store: &Store, queries: &[&str]| -> Vec<Vec<(i64, f64)>> {
        let each = queries.iter().map(|text| hours(store, text, base + 4 * HOUR_MS, 40).0);
        each.collect()
    };
    let sums = ["sum_over_time(exact_total[1h])", "avg_over_time(exact_total[1h])"];
    let counts = [
        "count_over_time(exact_total[1h])",
        "increase(exact_total[1h])",
        "max_over_time(exact_total[1h])",
    ];
    let before = (ask(&store, &sums), ask(&store, &counts));
    store.expire(store.now_ms());
    assert_eq!((store.engine.stats().files, store.engine.stats().rollup_files), (0, 2));
    let row = |i: i64| {
        let value = Sample::Float((i % 5000) as f64);
        (labels("exact_total", 0), base + i * 15_000, value, 0)
    };
    // the last of the fifth hour, all of the eighth
    for rows in [5 * 240..5 * 240 + 1, 7 * 240 + 1..8 * 240 + 1] {
        store.apply(&Change::Samples(rows.map(row).collect()));
        assert_eq!((ask(&store, &sums), ask(&store, &counts)), before);
    }
    // some of the tenth: whether they are in its count is not known, but no sum takes them twice
    store.apply(&Change::Samples((9 * 240 + 50..9 * 240 + 60).map(row).collect()));
    assert_eq!(ask(&store, &sums), before.0);
}

/// A counter that falls more often in an hour than its rollup tells: minutes tell it, and without these an info does.
#[test]
fn falls_that_hours_lack_come_from_minutes() {
    let mut store = outliving();
    let base = (store.now_ms() / DAY_MS - 10) * DAY_MS;
    let rows = (0..DAY_MS / 15_000).flat_map(|i| {
        let row = |n, fall| {
            (
                labels("counter", n),
                base + i * 15_000,
                Sample::Float((i % fall) as f64),
                0,
            )
        };
        [row(0, 40), row(1, 1000)]
    });
    store.apply(&Change::Samples(rows.collect()));
    store.apply(&Change::Compact);
    let queries = [
        "increase(counter{n=\"0\"}[1h])",
        "rate(counter{n=\"1\"}[2h])",
        "resets(counter{n=\"0\"}[1h])",
        "max_over_time(counter{n=\"0\"}[1h])",
    ];
    let ask = |store: &Store, text: &str| hours(store, text, base + 4 * HOUR_MS, 18);
    let before: Vec<_> = queries.iter().map(|text| ask(&store, text).0).collect();
    store.expire(store.now_ms());
    assert_eq!((store.engine.stats().files, store.engine.stats().rollup_files), (0, 2));
    for (i, text) in queries.iter().enumerate() {
        let (found, answer) = ask(&store, text);
        assert_eq!(found, before[i], "{text}");
        // minutes are read only where they are needed
        let name = if i % 2 == 0 && i < 3 {
            "1m rollups"
        } else {
            "1h rollups"
        };
        let told: Vec<&String> = answer.infos.iter().filter(|info| info.contains("rollups")).collect();
        assert!(told.len() == 1 && told[0].contains(name), "{text}: {answer:?}");
    }
    assert!(store.expire(base + 40 * DAY_MS) > 0);
    assert_eq!(store.engine.stats().rollup_files, 1);
    for (i, text) in queries.iter().enumerate() {
        let (found, answer) = ask(&store, text);
        let lower = found.iter().zip(&before[i]).all(|(a, b)| a.1 < b.1);
        let told = answer.infos.iter().any(|info| info.contains("too low"));
        let expected = i % 2 == 0 && i < 3;
        assert_eq!(
            (lower, told, found == before[i]),
            (expected, expected, !expected),
            "{text}: {answer:?}"
        );
    }
}

/// Samples that are kept for a day only are past it before their day is rolled up.
#[test]
fn samples_wait_for_what_is_to_outlive_them() {
    let mut store = Store::new(EngineSettings {
        retention_ms: Some(DAY_MS),
        rollups: RollupKeep {
            hour_ms: Some(FOR_EVER),
            minute_ms: None,
        },
        ..EngineSettings::default()
    });
    let base = (store.now_ms() / DAY_MS - 2) * DAY_MS;
    let rows = (0..5760).map(|i| (labels("gauge", 0), base + i * 15_000, Sample::Float(i as f64), 0));
    store.apply(&Change::Samples(rows.collect()));
    store.apply(&Change::Seal);
    let now_ms = store.now_ms();
    assert_eq!(store.expire(now_ms), 0);
    assert_eq!(store.expire(base + DAY_MS + DAY_MS + 3 * DAY_MS - 20_000), 0);
    store.apply(&Change::Compact);
    assert_eq!(store.engine.stats().rollup_files, 1);
    store.expire(now_ms);
    assert_eq!((store.engine.stats().files, store.engine.stats().rollup_files), (0, 1));
    let (left, _) = hours(&store, "max_over_time(gauge[1h])", base + HOUR_MS, 20);
    assert_eq!(left.len(), 20);
    // what comes for that day later is not rolled up any more, and not kept
    let late = (labels("gauge", 0), base + 7, Sample::Float(1.0), 0);
    store.apply(&Change::Samples(vec![late]));
    store.apply(&Change::Compact);
    assert_eq!((store.engine.stats().files, store.engine.stats().rollup_files), (1, 1));
    assert!(store.expire(base + DAY_MS + DAY_MS + 3 * DAY_MS + 20_000) > 0);
    assert_eq!((store.engine.stats().files, store.engine.stats().rollup_files), (0, 1));
}

#[test]
fn rollups_go_and_come_with_what_they_are_made_of() {
    let mut store = Store::new(rolling());
    let base = two_days(&mut store);
    let count = |store: &Store| hours(store, "count_over_time(gauge[1h])", base + HOUR_MS, 40).0;
    let reads = |store: &Store| {
        let query = Query::Range {
            start_ms: base + HOUR_MS,
            end_ms: base + 40 * HOUR_MS,
            step_ms: HOUR_MS,
        };
        store.ask("max_over_time(gauge[1h])", query, false).1
    };
    assert_eq!(store.engine.stats().rollup_files, 4);
    let all = reads(&store);
    assert!(all[0] == 0 && all[1] * 50 < all[2] && all[2] >= 9600, "{all:?}");
    // late samples of the second day: that day is read from samples, and from rollups again once they are merged
    let late = (
        labels("gauge", 0),
        base + DAY_MS + 7 * HOUR_MS + 1,
        Sample::Float(1e6),
        0,
    );
    store.apply(&Change::Samples(vec![late]));
    let mut expected = count(&store);
    assert_eq!(expected.iter().map(|p| p.1).sum::<f64>(), 9601.0);
    let half = reads(&store);
    assert!(half[0] > 3000 && half[2] >= 5000, "{half:?}");
    store.apply(&Change::Seal);
    assert_eq!(count(&store), expected);
    store.apply(&Change::Compact);
    assert_eq!(store.engine.stats().rollup_files, 4);
    assert_eq!((count(&store), reads(&store)[0]), (expected.clone(), 0));
    // a delete is seen at once, and in the rollups once it is carried out
    store.apply(&Change::Delete(
        labels("gauge", 0),
        TimeRange::new(base, base + HOUR_MS / 2),
    ));
    expected[0].1 -= 120.0;
    assert_eq!(count(&store), expected);
    store.apply(&Change::Compact);
    assert_eq!((count(&store), reads(&store)[0]), (expected.clone(), 0));
    store = store.again();
    assert_eq!((count(&store), reads(&store)[0]), (expected, 0));
    let report = series::verify::verify(&store.machine.host(), Path::new(DIR), &mut |_| {}).unwrap();
    assert_eq!(report.findings, []);
    // a snapshot holds them
    let made = store.engine.snapshot(Path::new("/data/copy")).unwrap();
    assert_eq!(made.missing, Vec::<String>::new());
    let report = series::verify::verify(&store.machine.host(), Path::new("/data/copy"), &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.blocks), (vec![], 6));
}
