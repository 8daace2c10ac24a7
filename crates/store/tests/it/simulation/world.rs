//! What the engine must hold: the records of the log, applied to maps.

use std::collections::BTreeMap;

use host::sim::Dice;
use model::{
    Batch, Delete, DeltaRow, Histogram, HistogramRow, Labels, Matcher, Record, Span, TenantId, TimeRange, stale_nan,
};
use series::table::SeriesTable;

pub(crate) const TENANTS: [TenantId; 2] = [TenantId::DEFAULT, TenantId(5)];
/// Some hours before a day's end, so that merges split by day.
const T0: i64 = 1_700_000_000_000 / 86_400_000 * 86_400_000 + 86_400_000 - 2 * 3_600_000;
const STEP_MS: i64 = 15_000;
const STEPS_A_DAY: i64 = 86_400_000 / STEP_MS;
/// The series whose samples tell the records apart.
const MARK: &str = "mark";
/// The label that no series has and that tells deletes apart.
const NEVER: &str = "never";

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Value {
    /// Bits, and the start time.
    Float(u64, i64),
    Bucketed(Histogram, i64),
}

/// A record as a publisher thinks of it; series by number.
#[derive(Clone, Debug)]
pub(crate) struct Spec {
    pub(crate) number: u64,
    tenant: TenantId,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Rows {
        floats: Vec<(u64, i64, u64, i64)>,
        histograms: Vec<(u64, i64, Histogram)>,
        deltas: Vec<(u64, i64, i64, f64)>,
    },
    Delete {
        metric: u64,
        range: TimeRange,
    },
}

fn labels(series: u64) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", series % 3)),
        ("instance", format!("host-{}", series / 3)),
    ])
}

fn delta_labels(series: u64) -> Labels {
    Labels::from_pairs([
        ("__name__", format!("metric_{}", series % 3)),
        ("delta", format!("{series}")),
    ])
}

fn mark() -> Labels {
    Labels::from_pairs([("__name__", MARK)])
}

pub(crate) fn time(step: i64) -> i64 {
    T0 + step * STEP_MS
}

fn float(dice: &mut Dice) -> f64 {
    match dice.below(20) {
        0 => stale_nan(),
        1 => -0.0,
        2 => f64::NAN,
        3 => f64::INFINITY,
        _ => dice.below(1000) as f64 * 0.25,
    }
}

fn histogram(dice: &mut Dice) -> Histogram {
    let n = dice.below(50) as f64;
    Histogram {
        schema: dice.below(3) as i32,
        integer: dice.one_in(2),
        count: n,
        sum: n * 1.5,
        positive_spans: vec![Span { offset: 1, length: 2 }],
        positive_buckets: vec![n, 0.0],
        ..Histogram::default()
    }
}

impl Spec {
    /// A random record; `now` is the step that most samples are near to.
    pub(crate) fn random(dice: &mut Dice, number: u64, now: i64, large: bool, with_deltas: bool, years: bool) -> Spec {
        let tenant = TENANTS[usize::from(dice.one_in(4))];
        let at = |dice: &mut Dice| match dice.below(6) {
            0..=2 if years => now - STEPS_A_DAY * dice.below(800) as i64,
            0 => dice.below(now as u64 + 1) as i64,
            _ => now + dice.below(4) as i64,
        };
        if dice.one_in(14) {
            let (a, b) = (at(dice), at(dice));
            let content = Content::Delete {
                metric: dice.below(3),
                range: TimeRange::new(time(a.min(b)), time(a.max(b))),
            };
            return Spec {
                number,
                tenant,
                content,
            };
        }
        // some series come with this record and others go
        let series = |dice: &mut Dice| match dice.below(5) {
            0 => number / 2 + dice.below(3),
            _ => dice.below(7),
        };
        let rows = if large {
            600 + dice.below(900)
        } else {
            1 + dice.below(12)
        };
        let mut floats = Vec::new();
        for _ in 0..rows {
            let start = if dice.one_in(6) {
                T0 - 1000 * dice.below(5) as i64
            } else {
                0
            };
            let row = (series(dice), time(at(dice)), float(dice).to_bits(), start);
            floats.push(row);
            if dice.one_in(20) {
                floats.push(row);
            }
        }
        let histograms = match dice.one_in(3) {
            true => (0..1 + dice.below(4))
                .map(|_| (series(dice), time(at(dice)), histogram(dice)))
                .collect(),
            false => Vec::new(),
        };
        let delta = |dice: &mut Dice| {
            let to = time(at(dice));
            (dice.below(3), to - STEP_MS, to, dice.below(9) as f64)
        };
        let deltas = match with_deltas && dice.one_in(3) {
            true => (0..1 + dice.below(5)).map(|_| delta(dice)).collect(),
            false => Vec::new(),
        };
        let content = Content::Rows {
            floats,
            histograms,
            deltas,
        };
        Spec {
            number,
            tenant,
            content,
        }
    }

    /// UTC days of its samples.
    pub(crate) fn days(&self) -> Vec<i64> {
        let day = |at: i64| at.div_euclid(86_400_000);
        match &self.content {
            Content::Rows {
                floats,
                histograms,
                deltas,
            } => {
                let floats = floats.iter().map(|f| f.1);
                let others = histograms.iter().map(|h| h.1).chain(deltas.iter().map(|d| d.2));
                floats.chain(others).chain([T0 + self.number as i64]).map(day).collect()
            }
            Content::Delete { .. } => Vec::new(),
        }
    }

    pub(crate) fn record(&self, table: &SeriesTable) -> Record {
        let id = |l: &Labels| table.intern(self.tenant, l.as_bytes(), None).unwrap();
        let (floats, histograms, deltas) = match &self.content {
            Content::Rows {
                floats,
                histograms,
                deltas,
            } => (floats, histograms, deltas),
            Content::Delete { metric, range } => {
                return Record::Delete(Delete {
                    tenant: self.tenant,
                    matchers: vec![
                        Matcher::equal("__name__", format!("metric_{metric}")),
                        Matcher::new(NEVER, model::MatchOp::NotEqual, self.number.to_string()).unwrap(),
                    ],
                    range: *range,
                });
            }
        };
        let mut batch = Batch::new(self.tenant);
        for &(series, at, bits, start) in floats {
            batch.floats.push(id(&labels(series)), at, f64::from_bits(bits), start);
        }
        batch
            .floats
            .push(id(&mark()), T0 + self.number as i64, self.number as f64, 0);
        for (series, at_ms, value) in histograms {
            batch.histograms.push(HistogramRow {
                series: id(&labels(*series)),
                at_ms: *at_ms,
                start_ms: 0,
                value: value.clone(),
            });
        }
        for &(series, start_ms, at_ms, value) in deltas {
            batch.deltas.push(DeltaRow {
                series: id(&delta_labels(series)),
                start_ms,
                at_ms,
                value,
            });
        }
        Record::Batch(batch)
    }

    /// The number of the publisher's record that this one is.
    pub(crate) fn number_of(record: &Record, table: &SeriesTable) -> Option<u64> {
        match record {
            Record::Delete(d) => d.matchers.iter().find(|m| m.name == NEVER)?.value.parse().ok(),
            Record::Batch(b) => {
                let mark = table.find(b.tenant, mark().as_bytes())?;
                let at = b.floats.series.iter().position(|s| *s == mark)?;
                Some(b.floats.values[at] as u64)
            }
        }
    }
}

pub(crate) type Found = BTreeMap<Labels, BTreeMap<i64, Value>>;

/// What the log's records up to a position come to.
#[derive(Default)]
pub(crate) struct World {
    tenants: BTreeMap<TenantId, Found>,
    /// Every value that a series ever had at a time.
    ever: BTreeMap<(TenantId, Labels, i64), Vec<Value>>,
}

impl World {
    pub(crate) fn apply(&mut self, spec: &Spec) {
        let (floats, histograms, deltas) = match &spec.content {
            Content::Rows {
                floats,
                histograms,
                deltas,
            } => (floats, histograms, deltas),
            Content::Delete { metric, range } => {
                let name = format!("metric_{metric}");
                for (labels, samples) in self.tenants.entry(spec.tenant).or_default() {
                    if labels.metric_name() == name {
                        samples.retain(|at, _| !range.contains(*at));
                    }
                }
                return;
            }
        };
        for &(series, at, bits, start) in floats {
            self.put(spec.tenant, labels(series), at, Value::Float(bits, start));
        }
        self.put(
            spec.tenant,
            mark(),
            T0 + spec.number as i64,
            Value::Float((spec.number as f64).to_bits(), 0),
        );
        for (series, at, value) in histograms {
            self.put(spec.tenant, labels(*series), *at, Value::Bucketed(value.clone(), 0));
        }
        for &(series, start, at, value) in deltas {
            let labels = delta_labels(series);
            let samples = self.tenants.get(&spec.tenant).and_then(|t| t.get(&labels));
            let float = |(&at, v): (&i64, &Value)| match v {
                Value::Float(bits, start) => Some((at, f64::from_bits(*bits), *start)),
                Value::Bucketed(..) => None,
            };
            let before = samples.and_then(|s| s.range(..=at).next_back().and_then(float));
            let later: Vec<_> = samples
                .into_iter()
                .flat_map(|s| s.range(at + 1..).filter_map(float))
                .collect();
            if before.is_some_and(|b| b.0 == at) {
                continue;
            }
            let (total, began) = match (before, later.first()) {
                (Some((_, total, began)), _) => (total, began),
                (None, Some(first)) => (0.0, first.2.min(start)),
                (None, None) => (0.0, start),
            };
            let own = (at, total, began);
            for (at, total, _) in [own].into_iter().chain(later) {
                let raised = Value::Float((total + value).to_bits(), began);
                self.put(spec.tenant, labels.clone(), at, raised);
            }
        }
    }

    fn put(&mut self, tenant: TenantId, labels: Labels, at: i64, value: Value) {
        self.ever
            .entry((tenant, labels.clone(), at))
            .or_default()
            .push(value.clone());
        self.tenants
            .entry(tenant)
            .or_default()
            .entry(labels)
            .or_default()
            .insert(at, value);
    }

    /// Whether a series ever had this value at this time; hints make no difference.
    pub(crate) fn had(&self, tenant: TenantId, labels: &Labels, at: i64, value: &Value) -> bool {
        let had = self.ever.get(&(tenant, labels.clone(), at));
        had.is_some_and(|values| values.iter().any(|v| same(v, value)))
    }

    /// What a reader finds of a tenant from `horizon` on; histograms have the hints that the samples before them call for.
    pub(crate) fn within(&self, tenant: TenantId, range: TimeRange) -> Found {
        let mut found = Found::new();
        let near = range.start_ms.saturating_sub(model::HINT_REACH_MS);
        for (labels, samples) in self.tenants.get(&tenant).into_iter().flatten() {
            let mut previous: Option<&Histogram> = None;
            let mut kept = BTreeMap::new();
            for (&at, value) in samples.range(near..=range.end_ms) {
                let mut shown = value.clone();
                previous = match value {
                    Value::Float(..) => None,
                    Value::Bucketed(h, _) => {
                        if let Value::Bucketed(shown, _) = &mut shown {
                            shown.reset_hint = h.hint_after(previous);
                        }
                        Some(h)
                    }
                };
                if range.contains(at) {
                    kept.insert(at, shown);
                }
            }
            if !kept.is_empty() {
                found.insert(labels.clone(), kept);
            }
        }
        found
    }
}

fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Bucketed(a, _), Value::Bucketed(b, _)) => {
            let plain = |h: &Histogram| Histogram {
                reset_hint: model::ResetHint::Unknown,
                ..h.clone()
            };
            plain(a) == plain(b)
        }
        (a, b) => a == b,
    }
}

/// A range that a reader may ask for.
pub(crate) fn range(dice: &mut Dice, now: i64) -> TimeRange {
    if dice.one_in(2) {
        return TimeRange::new(time(-10), i64::MAX);
    }
    let (a, b) = (dice.below(now as u64 + 4) as i64, dice.below(now as u64 + 4) as i64);
    TimeRange::new(time(a.min(b)), time(a.max(b)))
}
