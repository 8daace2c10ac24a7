use model::{
    Budget, Cardinality, Exemplar, Found, Labels, Matcher, Metadata, SampleSource, SelectRequest, SeriesSet,
    SourceError, TimeRange,
};
use proptest::prelude::*;

use super::*;
use crate::promql::memory::MemorySource;
use crate::promql::parse;

/// Samples in memory that remember when what came.
#[derive(Default)]
struct Watched {
    source: MemorySource,
    times: Vec<i64>,
    epoch: u64,
}

impl Watched {
    fn put(&mut self, labels: &Labels, at_ms: i64, value: f64) {
        self.source.put_float(labels, at_ms, value, 0);
        self.times.push(at_ms);
    }
}

impl SampleSource for Watched {
    fn select(&self, request: &SelectRequest<'_>, budget: &Budget) -> Result<Box<dyn SeriesSet>, SourceError> {
        self.source.select(request, budget)
    }
    fn series(&self, t: TenantId, m: &[Vec<Matcher>], r: TimeRange, b: &Budget) -> Result<Found<Labels>, SourceError> {
        self.source.series(t, m, r, b)
    }
    fn label_names(
        &self,
        t: TenantId,
        m: &[Vec<Matcher>],
        r: TimeRange,
        b: &Budget,
    ) -> Result<Found<String>, SourceError> {
        self.source.label_names(t, m, r, b)
    }
    fn label_values(
        &self,
        t: TenantId,
        n: &str,
        m: &[Vec<Matcher>],
        r: TimeRange,
        b: &Budget,
    ) -> Result<Found<String>, SourceError> {
        self.source.label_values(t, n, m, r, b)
    }
    fn metadata(&self, t: TenantId, m: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        self.source.metadata(t, m)
    }
    fn exemplars(
        &self,
        t: TenantId,
        m: &[Vec<Matcher>],
        r: TimeRange,
        b: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        self.source.exemplars(t, m, r, b)
    }
    fn cardinality(&self, t: TenantId, top: usize) -> Result<Cardinality, SourceError> {
        self.source.cardinality(t, top)
    }
    fn revision(&self, _: TenantId) -> Option<Revision> {
        Some(Revision {
            epoch: self.epoch,
            position: self.times.len() as u64,
        })
    }
    fn changed_since(&self, _: TenantId, r: &Revision) -> i64 {
        match r.epoch == self.epoch {
            true => self.times[r.position as usize..]
                .iter()
                .copied()
                .min()
                .unwrap_or(i64::MAX),
            false => i64::MIN,
        }
    }
}

/// Expressions of all the kinds that are told apart.
const QUERIES: [&str; 30] = [
    "m",
    "rate(m[2m])",
    "sum(rate(m[2m]))",
    "avg by (a) (m offset 1m)",
    "sum by (b) (m offset -2m)",
    "max_over_time(m[5m:30s])",
    "topk(2, m)",
    "quantile by (a) (0.7, m)",
    "sum(m) / count(m)",
    "m{a=\"1\"} + on (b) m{a=\"2\"}",
    "sum by (b) (m{a=\"1\"} + on (b) m{a=\"2\"})",
    "m or rate(m[1m])",
    "sum(m) or vector(1)",
    "label_replace(sum by (a) (m), \"x\", \"$1\", \"a\", \"(.*)\")",
    "label_replace(m, \"b\", \"\", \"\", \"\")",
    "absent(m{a=\"9\"})",
    "m @ end()",
    "m @ 600",
    "m * step()",
    "time() - timestamp(m)",
    "sum(sum by (a) (m))",
    "stddev by (b) (increase(m[3m]))",
    "m > 5",
    "m unless on (a) m{b=\"1\"}",
    "limitk(1, m)",
    "count_values(\"v\", m)",
    "histogram_quantile(0.5, m)",
    "sum(avg_over_time(m[90s])) by (a)",
    "scalar(sum(m))",
    "-m ^ 2",
];

/// Labels, times, bits of the values.
type Row = (Labels, Vec<i64>, Vec<u64>);

fn bits(answer: &Answer) -> (&'static str, Vec<Row>, Vec<String>) {
    let rows = match &answer.value {
        Value::Matrix(series) => series
            .iter()
            .map(|s| {
                (
                    s.labels.clone(),
                    s.at_ms.clone(),
                    s.values.iter().map(|v| v.to_bits()).collect(),
                )
            })
            .collect(),
        Value::Vector(samples) => samples
            .iter()
            .map(|s| match s.point {
                crate::promql::value::Point::Float(v) => (s.labels.clone(), vec![s.at_ms], vec![v.to_bits()]),
                crate::promql::value::Point::Histogram(_) => (s.labels.clone(), vec![s.at_ms], Vec::new()),
            })
            .collect(),
        _ => Vec::new(),
    };
    let notes = answer.warnings.iter().chain(&answer.infos).cloned().collect();
    (answer.value.type_name(), rows, notes)
}

#[derive(Clone, Debug)]
enum Step {
    /// Series, seconds, value.
    Put(u8, i64, i32),
    Expire,
    /// Query, start and length in steps, step in seconds.
    Range(usize, i64, i64, i64),
    Instant(usize, i64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0u8..6, 0i64..1200, -5i32..50).prop_map(|(s, t, v)| Step::Put(s, t, v)),
        1 => Just(Step::Expire),
        8 => (0usize..QUERIES.len(), 0i64..20, 0i64..30, prop_oneof![Just(15i64), Just(60)])
            .prop_map(|(q, s, l, step)| Step::Range(q, s, l, step)),
        2 => (0usize..QUERIES.len(), 0i64..1200).prop_map(|(q, t)| Step::Instant(q, t)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Whatever comes in between, an answer from the cache is the one that an evaluation gives, to the last bit.
    #[test]
    fn a_kept_answer_is_a_fresh_one(
        queries in proptest::collection::vec(0usize..QUERIES.len(), 3),
        steps in proptest::collection::vec(step(), 1..60),
        small: bool,
    ) {
        let mut source = Watched::default();
        let label = |s: u8| {
            let (a, b) = (s % 3, s / 3);
            Labels::from_pairs([("__name__", "m".to_owned()), ("a", a.to_string()), ("b", b.to_string())])
        };
        for s in 0..5u8 {
            for t in (0..600).step_by(15) {
                source.put(&label(s), (t + i64::from(s)) * 1000, (t * i64::from(s + 1) % 97) as f64 / 7.0);
            }
        }
        let cache = ResultCache::new(if small { 20_000 } else { 1 << 20 });
        for step in steps {
            let (q, query) = match step {
                Step::Put(s, t, v) => {
                    source.put(&label(s), t * 1000, f64::from(v) / 3.0);
                    continue;
                }
                Step::Expire => {
                    source.epoch += 1;
                    continue;
                }
                Step::Range(q, start, len, step) => {
                    let start_ms = start * step * 1000;
                    let (end_ms, step_ms) = (start_ms + len * step * 1000, step * 1000);
                    (q, Query::Range { start_ms, end_ms, step_ms })
                }
                Step::Instant(q, t) => (q, Query::Instant { at_ms: t * 1000 }),
            };
            // few different ones, so that they come again
            let text = QUERIES[queries[q % queries.len()]];
            let expr = parse(text).unwrap();
            let budget = Budget::unlimited();
            let context = EvalContext { text, ..EvalContext::new(&source, TenantId::DEFAULT, &budget) };
            let fresh = evaluate(&expr, &context, query);
            let kept = cache.evaluate(&expr, &context, query);
            match (fresh, kept) {
                (Ok(fresh), Ok((kept, _))) => prop_assert_eq!(bits(&fresh), bits(&kept), "{} {:?}", text, query),
                (fresh, kept) => prop_assert_eq!(fresh.map(drop), kept.map(drop)),
            }
            prop_assert!(cache.stats().bytes <= 1 << 20);
        }
    }
}

#[test]
fn a_range_that_moves_on_evaluates_what_is_new() {
    let mut source = Watched::default();
    let labels = Labels::from_pairs([("__name__", "m_total")]);
    for t in 0..1000 {
        source.put(&labels, t * 1000, t as f64);
    }
    let cache = ResultCache::new(1 << 20);
    let text = "sum(rate(m_total[1m]))";
    let expr = parse(text).unwrap();
    let ask = |source: &Watched, end: i64| {
        let budget = Budget::unlimited();
        let context = EvalContext {
            text,
            ..EvalContext::new(source, TenantId::DEFAULT, &budget)
        };
        let query = Query::Range {
            start_ms: end - 600_000,
            end_ms: end,
            step_ms: 15_000,
        };
        cache.evaluate(&expr, &context, query).unwrap().1
    };
    assert_eq!(ask(&source, 900_000), Reused::Nothing);
    assert_eq!(ask(&source, 900_000), Reused::All);
    assert_eq!(ask(&source, 915_000), Reused::Steps(40));
    // a sample among the newest undoes the steps that can see it, no more
    source.put(&labels, 890_500, 890.5);
    assert_eq!(ask(&source, 930_000), Reused::Steps(38));
    source.put(&labels, 10_000, 10.0);
    assert_eq!(ask(&source, 930_000), Reused::Nothing);
    let stats = cache.stats();
    assert_eq!((stats.whole, stats.partial, stats.missed, stats.answers), (1, 2, 2, 1));
}

#[test]
fn what_cannot_be_joined_counts_once() {
    let mut source = Watched::default();
    let labels = Labels::from_pairs([("__name__", "m")]);
    for t in 0..62 {
        source.put(&labels, t * 15_000, 1.0);
    }
    let cache = ResultCache::new(1 << 20);
    let expr = parse("m").unwrap();
    let ask = |source: &Watched, end_ms: i64, cache: &ResultCache| {
        let budget = Budget::unlimited();
        let context = EvalContext {
            text: "m",
            ..EvalContext::new(source, TenantId::DEFAULT, &budget)
        };
        let query = Query::Range {
            start_ms: end_ms - 600_000,
            end_ms,
            step_ms: 15_000,
        };
        let reused = cache.evaluate(&expr, &context, query).unwrap().1;
        (reused, budget.used())
    };
    ask(&source, 900_000, &cache);
    // a histogram among the new steps: answers with histograms are not joined
    source.source.put_histogram(&labels, 928_000, Arc::default(), 0);
    source.times.push(928_000);
    let whole = ask(&source, 930_000, &ResultCache::new(0));
    assert!(whole.1.0 > 0);
    assert_eq!(ask(&source, 930_000, &cache), whole);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut source = Watched::default();
    for s in 0..50 {
        let labels = Labels::from_pairs([("__name__", "m".to_owned()), ("s", s.to_string())]);
        source.put(&labels, 0, 1.0);
    }
    let cache = ResultCache::new(200_000);
    for n in 0..100 {
        let text = format!("m + {n}");
        let expr = parse(&text).unwrap();
        let budget = Budget::unlimited();
        let context = EvalContext {
            text: &text,
            ..EvalContext::new(&source, TenantId::DEFAULT, &budget)
        };
        cache.evaluate(&expr, &context, Query::Instant { at_ms: 1000 }).unwrap();
        assert!(cache.stats().bytes <= 200_000);
    }
    assert!((5..100).contains(&cache.stats().answers));
}

#[test]
fn times_at_the_ends_do_not_wrap() {
    let mut source = Watched::default();
    source.put(&Labels::from_pairs([("__name__", "m")]), 0, 1.0);
    let cache = ResultCache::new(1 << 20);
    let expr = parse("vector(1)").unwrap();
    let (min, max) = (i64::MIN, i64::MAX);
    for (start_ms, end_ms, points) in [
        (min, max, 3),
        (min, -1, 2),
        (-1, max, 2),
        (min, max, 3),
        (min, -2, 1),
        (max - 1, max, 1),
    ] {
        let budget = Budget::unlimited();
        let context = EvalContext {
            text: "vector(1)",
            ..EvalContext::new(&source, TenantId::DEFAULT, &budget)
        };
        let query = Query::Range {
            start_ms,
            end_ms,
            step_ms: max,
        };
        let fresh = evaluate(&expr, &context, query).unwrap();
        let kept = cache.evaluate(&expr, &context, query).unwrap().0;
        assert_eq!(bits(&fresh), bits(&kept), "{start_ms} {end_ms}");
        assert_eq!(kept.value.points(), points, "{start_ms} {end_ms}");
    }
    assert_eq!((last_step(min, max, max), steps_of(min, max, max)), (max - 1, 3));
}
