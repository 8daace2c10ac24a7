use std::collections::BTreeMap;

use model::{CUSTOM_BUCKETS_SCHEMA, Histogram, Labels, METRIC_NAME, Span};

use super::super::histogram::compact;
use super::{Loaded, LoadedSample, LoadedValue};

/// What the series of one classic histogram say at one time.
#[derive(Default)]
struct Classic {
    /// (upper bound, cumulative count), ascending.
    buckets: Vec<(f64, f64)>,
    count: Option<f64>,
    sum: f64,
}

/// The classic histograms among the series as native ones with custom buckets (`load_with_nhcb`).
pub(super) fn native(series: &[Loaded]) -> Result<Vec<Loaded>, String> {
    let mut found: BTreeMap<Labels, BTreeMap<i64, Classic>> = BTreeMap::new();
    for s in series {
        let name = s.labels.metric_name();
        let suffixes = ["_bucket", "_count", "_sum"];
        let Some((suffix, base)) = suffixes.iter().find_map(|x| Some((*x, name.strip_suffix(x)?))) else {
            continue;
        };
        let bound = match (suffix, s.labels.get("le").map(str::parse::<f64>)) {
            ("_bucket", Some(Ok(bound))) if !bound.is_nan() => bound,
            ("_bucket", _) => continue,
            _ => 0.0,
        };
        let times = found.entry(s.labels.without("le").with(METRIC_NAME, base)).or_default();
        for sample in &s.samples {
            let LoadedValue::Float(value) = sample.value else {
                continue;
            };
            let classic = times.entry(sample.at_ms).or_default();
            match suffix {
                "_bucket" => match classic.buckets.binary_search_by(|b| b.0.total_cmp(&bound)) {
                    Ok(_) => {}
                    Err(at) => classic.buckets.insert(at, (bound, value)),
                },
                "_count" => classic.count = Some(value),
                _ => classic.sum = value,
            }
        }
    }
    let convert = |(labels, times): (Labels, BTreeMap<i64, Classic>)| {
        let samples = times.into_iter().map(|(at_ms, classic)| {
            let value = LoadedValue::Histogram(classic.convert().map_err(|e| format!("{labels} at {at_ms} ms: {e}"))?);
            Ok(LoadedSample {
                at_ms,
                start_ms: 0,
                value,
            })
        });
        Ok(Loaded {
            samples: samples.collect::<Result<_, String>>()?,
            labels: labels.clone(),
        })
    };
    found.into_iter().map(convert).collect()
}

impl Classic {
    fn convert(mut self) -> Result<Histogram, String> {
        let last = self.buckets.last().copied();
        let count = self.count.or(last.map(|b| b.1)).unwrap_or(0.0);
        if last.is_none_or(|b| b.0 != f64::INFINITY) {
            self.buckets.push((f64::INFINITY, count));
        }
        if self.buckets.windows(2).any(|w| w[1].1 < w[0].1) {
            return Err("count is not cumulative".into());
        }
        if self.buckets.last().is_some_and(|b| b.1 != count) {
            return Err("count mismatch".into());
        }
        let mut below = 0.0;
        let counts = self.buckets.iter().map(|b| b.1 - std::mem::replace(&mut below, b.1));
        let mut h = Histogram {
            schema: CUSTOM_BUCKETS_SCHEMA,
            count,
            sum: self.sum,
            positive_buckets: counts.collect(),
            positive_spans: vec![Span {
                offset: 0,
                length: self.buckets.len() as u32,
            }],
            custom_values: self.buckets.iter().map(|b| b.0).filter(|b| b.is_finite()).collect(),
            ..Histogram::default()
        };
        compact(&mut h, 0);
        Ok(h)
    }
}
