use std::sync::Arc;

use model::{Histogram, Labels};

use super::super::histogram::{bounds_match, compact, test_text};
use super::super::value::{Point, Sample, Series, Value};
use super::command::Eval;
use super::series::Item;

/// The relative error that a value may have.
const EPSILON: f64 = 0.000_001;

/// Whether two values are equal but for rounding. NaN equals NaN; the stale marker equals only itself.
pub fn almost_equal(a: f64, b: f64, epsilon: f64) -> bool {
    if model::is_stale(a) || model::is_stale(b) {
        return model::is_stale(a) && model::is_stale(b);
    }
    if (a.is_nan() && b.is_nan()) || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < epsilon * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < epsilon
}

fn close(a: f64, b: f64) -> bool {
    almost_equal(a, b, EPSILON)
}

fn histograms_close(want: &Histogram, got: &Histogram, hinted: bool) -> bool {
    let (mut want, mut got) = (want.clone(), got.clone());
    compact(&mut want, 0);
    compact(&mut got, 0);
    let all_close = |a: &[f64], b: &[f64]| a.len() == b.len() && a.iter().zip(b).all(|(a, b)| close(*a, *b));
    want.schema == got.schema
        && close(want.count, got.count)
        && close(want.sum, got.sum)
        && (!want.is_custom() || bounds_match(&want.custom_values, &got.custom_values))
        && want.zero_threshold == got.zero_threshold
        && close(want.zero_count, got.zero_count)
        && want.negative_spans == got.negative_spans
        && want.positive_spans == got.positive_spans
        && all_close(&want.negative_buckets, &got.negative_buckets)
        && all_close(&want.positive_buckets, &got.positive_buckets)
        && (!hinted || want.reset_hint == got.reset_hint)
}

/// One value of an answer.
#[derive(Clone)]
enum Got {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl std::fmt::Display for Got {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Got::Float(v) => write!(f, "{v}"),
            Got::Histogram(h) => {
                f.write_str(&test_text(h))?;
                write!(f, " (hint {:?})", h.reset_hint)
            }
        }
    }
}

fn shown(item: &Item) -> String {
    match item {
        Item::Omitted => "_".into(),
        Item::Float(v) => v.to_string(),
        Item::Histogram(h, _) => test_text(h),
    }
}

fn item_matches(want: &Item, got: &Got) -> bool {
    match (want, got) {
        (Item::Float(a), Got::Float(b)) => close(*a, *b),
        (Item::Histogram(a, hinted), Got::Histogram(b)) => histograms_close(a, b, *hinted),
        _ => false,
    }
}

/// Whether an answer is what the command expects. Times of a range are compared too.
pub(super) fn compare(eval: &Eval, value: &Value) -> Result<(), String> {
    match value {
        Value::String { text, .. } => match &eval.string {
            Some(want) if want == text => Ok(()),
            want => Err(format!("expected the string {want:?} but got {text:?}")),
        },
        Value::Scalar { value, .. } => match eval.scalar {
            Some(want) if close(want, *value) => Ok(()),
            Some(want) => Err(format!("expected scalar {want} but got {value}")),
            None => Err(format!("expected vector or matrix result, but got scalar {value}")),
        },
        Value::Vector(_) | Value::Matrix(_) if eval.scalar.is_some() => {
            Err(format!("expected scalar result, but got a {}", value.type_name()))
        }
        Value::Vector(samples) => vector(eval, samples),
        Value::Matrix(series) => matrix(eval, series),
    }
}

fn vector(eval: &Eval, samples: &[Sample]) -> Result<(), String> {
    for (at, sample) in samples.iter().enumerate() {
        let got = match &sample.point {
            Point::Float(v) => Got::Float(*v),
            Point::Histogram(h) => Got::Histogram(Arc::clone(h)),
        };
        let Some(place) = eval.series.iter().position(|s| s.0 == sample.labels) else {
            return Err(format!(
                "unexpected metric {} in result, has value {got}",
                sample.labels
            ));
        };
        if eval.ordered && place != at {
            return Err(format!(
                "expected metric {} at position {} but was at {}",
                sample.labels,
                place + 1,
                at + 1
            ));
        }
        let want = eval.series[place].1.first().unwrap_or(&Item::Omitted);
        if !item_matches(want, &got) {
            return Err(format!("expected {} for {} but got {got}", shown(want), sample.labels));
        }
    }
    missing(eval, |labels| samples.iter().any(|s| s.labels == *labels))
}

fn missing(eval: &Eval, found: impl Fn(&Labels) -> bool) -> Result<(), String> {
    match eval.series.iter().find(|s| !found(&s.0)) {
        None => Ok(()),
        Some((labels, want)) => {
            let want: Vec<String> = want.iter().map(shown).collect();
            Err(format!("expected metric {labels} with {} not found", want.join(" ")))
        }
    }
}

fn matrix(eval: &Eval, series: &[Series]) -> Result<(), String> {
    if eval.ordered {
        return Err("expected ordered result, but query returned a matrix".into());
    }
    sorted(series)?;
    let (start, end, step) = eval.range;
    for s in series {
        let got = points(s);
        let list = || {
            got.iter()
                .map(|(t, v)| format!("{v} @[{t}]"))
                .collect::<Vec<_>>()
                .join(" ")
        };
        let Some((labels, want)) = eval.series.iter().find(|e| e.0 == s.labels) else {
            return Err(format!("unexpected metric {} in result, has {}", s.labels, list()));
        };
        let times = (0..want.len() as i64).map(|i| start + i * step);
        let wanted: Vec<_> = times.zip(want).filter(|(_, w)| **w != Item::Omitted).collect();
        if wanted.last().is_some_and(|(t, _)| *t > end) {
            return Err(format!(
                "expected {} points for {labels}, but the range has fewer",
                want.len()
            ));
        }
        let same = wanted.len() == got.len()
            && wanted
                .iter()
                .zip(&got)
                .all(|((t, w), (at, g))| t == at && item_matches(w, g));
        if !same {
            let wanted: Vec<String> = wanted.iter().map(|(t, w)| format!("{} @[{t}]", shown(w))).collect();
            return Err(format!(
                "expected for {labels}: {}, but got {}",
                wanted.join(" "),
                list()
            ));
        }
    }
    missing(eval, |labels| series.iter().any(|s| s.labels == *labels))
}

/// A series' points in the order of their times.
fn points(s: &Series) -> Vec<(i64, Got)> {
    let floats = s.at_ms.iter().zip(&s.values).map(|(t, v)| (*t, Got::Float(*v)));
    let histograms = s
        .histogram_at_ms
        .iter()
        .zip(&s.histograms)
        .map(|(t, h)| (*t, Got::Histogram(Arc::clone(h))));
    let mut points: Vec<_> = floats.chain(histograms).collect();
    points.sort_by_key(|p| p.0);
    points
}

/// Matrices come sorted by labels.
pub(super) fn sorted(series: &[Series]) -> Result<(), String> {
    let key = |l: &Labels| l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect::<Vec<_>>();
    match series.windows(2).find(|w| key(&w[0].labels) > key(&w[1].labels)) {
        None => Ok(()),
        Some(w) => Err(format!(
            "the matrix is not sorted: {} stands before {}",
            w[0].labels, w[1].labels
        )),
    }
}

/// The points of a matrix at one time, as a vector.
pub(super) fn at_time(series: &[Series], at_ms: i64) -> Vec<Sample> {
    let sample = |s: &Series| {
        let point = if let Ok(i) = s.at_ms.binary_search(&at_ms) {
            Point::Float(s.values[i])
        } else {
            let i = s.histogram_at_ms.binary_search(&at_ms).ok()?;
            Point::Histogram(Arc::clone(&s.histograms[i]))
        };
        Some(Sample {
            labels: s.labels.clone(),
            at_ms,
            point,
        })
    };
    series.iter().filter_map(sample).collect()
}
