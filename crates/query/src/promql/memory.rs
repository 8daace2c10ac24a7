use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use model::{
    Budget, Cardinality, Exemplar, Found, HINT_REACH_MS, Histogram, Labels, Matcher, Metadata, SampleSource,
    SelectRequest, SeriesBlock, SeriesSet, SourceError, TenantId, TimeRange,
};

/// Samples in memory, of one tenant whatever is asked: for tests, and for queries over data that is not stored.
#[derive(Clone, Debug, Default)]
pub struct MemorySource {
    series: BTreeMap<Labels, Arc<Samples>>,
    metadata: Vec<Metadata>,
    exemplars: Vec<(Labels, Exemplar)>,
}

/// By time: the value and the start time of its counter, 0 where unknown.
type Samples = BTreeMap<i64, (Stored, i64)>;

#[derive(Clone, Debug)]
enum Stored {
    Float(f64),
    Histogram(Arc<Histogram>),
}

impl MemorySource {
    pub fn new() -> Self {
        MemorySource::default()
    }

    pub fn clear(&mut self) {
        *self = MemorySource::default();
    }

    /// Sets the sample of a series at a time in ms. `start_ms` is 0 where unknown.
    pub fn put_float(&mut self, labels: &Labels, at_ms: i64, value: f64, start_ms: i64) {
        self.put(labels, at_ms, Stored::Float(value), start_ms);
    }

    /// As [`put_float`](Self::put_float), for a native histogram.
    pub fn put_histogram(&mut self, labels: &Labels, at_ms: i64, value: Arc<Histogram>, start_ms: i64) {
        self.put(labels, at_ms, Stored::Histogram(value), start_ms);
    }

    fn put(&mut self, labels: &Labels, at_ms: i64, value: Stored, start_ms: i64) {
        let samples = self.series.entry(labels.clone()).or_default();
        Arc::make_mut(samples).insert(at_ms, (value, start_ms));
    }

    pub fn put_metadata(&mut self, metadata: Metadata) {
        self.metadata.push(metadata);
        self.metadata.sort_by(|a, b| a.metric.cmp(&b.metric));
    }

    pub fn put_exemplar(&mut self, labels: &Labels, exemplar: Exemplar) {
        self.exemplars.push((labels.clone(), exemplar));
    }

    /// Series there are.
    pub fn len(&self) -> usize {
        self.series.len()
    }

    pub fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    fn matching<'a>(&'a self, any_of: &'a [Vec<Matcher>], range: TimeRange) -> impl Iterator<Item = &'a Labels> + 'a {
        self.series
            .iter()
            .filter(move |(_, samples)| touches(samples, range))
            .map(|(labels, _)| labels)
            .filter(move |labels| any_of.is_empty() || any_of.iter().any(|m| matches_all(m, labels)))
    }
}

fn touches(samples: &Samples, range: TimeRange) -> bool {
    range.start_ms <= range.end_ms && samples.range(range.start_ms..=range.end_ms).next().is_some()
}

fn matches_all(matchers: &[Matcher], labels: &Labels) -> bool {
    matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
}

struct Selection {
    range: TimeRange,
    series: Vec<(Labels, Arc<Samples>)>,
}

impl SeriesSet for Selection {
    fn len(&self) -> usize {
        self.series.len()
    }

    fn labels(&self, index: usize) -> Labels {
        self.series[index].0.clone()
    }

    fn read(&self, index: usize, block: &mut SeriesBlock, budget: &Budget) -> Result<(), SourceError> {
        block.clear();
        let samples = &self.series[index].1;
        for (&at_ms, (value, start_ms)) in samples.range(self.range.start_ms..=self.range.end_ms) {
            match value {
                Stored::Float(v) => {
                    block.at_ms.push(at_ms);
                    block.values.push(*v);
                    block.start_ms.push(*start_ms);
                }
                Stored::Histogram(h) => {
                    block.histogram_at_ms.push(at_ms);
                    block.histograms.push(Arc::clone(h));
                    block.histogram_start_ms.push(*start_ms);
                }
            }
        }
        if block.start_ms.iter().all(|&s| s == 0) {
            block.start_ms.clear();
        }
        if block.histogram_start_ms.iter().all(|&s| s == 0) {
            block.histogram_start_ms.clear();
        }
        let near = self.range.start_ms.saturating_sub(HINT_REACH_MS);
        let before = match samples.range(near..self.range.start_ms).next_back() {
            Some((_, (Stored::Histogram(h), _))) => Some(Arc::clone(h)),
            _ => None,
        };
        block.set_hints(before);
        Ok(budget.samples((block.values.len() + block.histograms.len()) as u64)?)
    }
}

impl SampleSource for MemorySource {
    fn select(&self, request: &SelectRequest<'_>, budget: &Budget) -> Result<Box<dyn SeriesSet>, SourceError> {
        let mut series = Vec::new();
        for (labels, samples) in &self.series {
            if matches_all(request.matchers, labels) && touches(samples, request.range) {
                budget.series(1)?;
                series.push((labels.clone(), Arc::clone(samples)));
            }
        }
        Ok(Box::new(Selection {
            range: request.range,
            series,
        }))
    }

    fn series(
        &self,
        _: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<Labels>, SourceError> {
        budget.check()?;
        Ok(Found {
            items: self.matching(any_of, range).cloned().collect(),
            warnings: Vec::new(),
        })
    }

    fn label_names(
        &self,
        _: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        budget.check()?;
        let names: BTreeSet<&str> = self
            .matching(any_of, range)
            .flat_map(|l| l.iter().map(|p| p.0))
            .collect();
        Ok(Found {
            items: names.into_iter().map(str::to_owned).collect(),
            warnings: Vec::new(),
        })
    }

    fn label_values(
        &self,
        _: TenantId,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        budget.check()?;
        let values: BTreeSet<&str> = self.matching(any_of, range).filter_map(|l| l.get(name)).collect();
        Ok(Found {
            items: values.into_iter().map(str::to_owned).collect(),
            warnings: Vec::new(),
        })
    }

    fn metadata(&self, _: TenantId, metric: Option<&str>) -> Result<Vec<Metadata>, SourceError> {
        let wanted = |m: &&Metadata| metric.is_none_or(|name| m.metric == name);
        Ok(self.metadata.iter().filter(wanted).cloned().collect())
    }

    fn exemplars(
        &self,
        _: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError> {
        budget.check()?;
        let mut found: BTreeMap<Labels, Vec<Exemplar>> = BTreeMap::new();
        for (labels, exemplar) in &self.exemplars {
            let wanted = any_of.is_empty() || any_of.iter().any(|m| matches_all(m, labels));
            if wanted && range.contains(exemplar.at_ms) {
                found.entry(labels.clone()).or_default().push(exemplar.clone());
            }
        }
        for exemplars in found.values_mut() {
            exemplars.sort_by_key(|e| e.at_ms);
        }
        Ok(found.into_iter().collect())
    }

    fn cardinality(&self, _: TenantId, _: usize) -> Result<Cardinality, SourceError> {
        Ok(Cardinality {
            series: self.series.len() as u64,
            ..Cardinality::default()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_lies_in_the_range() {
        let mut source = MemorySource::new();
        let labels = Labels::from_pairs([("__name__", "up"), ("job", "a")]);
        for at in [1, 2, 3] {
            source.put_float(&labels, at, at as f64, 0);
        }
        source.put_float(&labels, 3, 9.0, 1);
        let budget = Budget::unlimited();
        let matchers = [Matcher::equal("__name__", "up")];
        let request = SelectRequest {
            tenant: TenantId::DEFAULT,
            matchers: &matchers,
            range: TimeRange::new(2, 3),
            hints: Default::default(),
        };
        let set = source.select(&request, &budget).unwrap();
        let mut block = SeriesBlock::default();
        set.read(0, &mut block, &budget).unwrap();
        assert_eq!(
            (block.at_ms, block.values, block.start_ms),
            (vec![2, 3], vec![2.0, 9.0], vec![0, 1])
        );
        assert_eq!(budget.used(), (2, 0, 1));
        let elsewhere = SelectRequest {
            range: TimeRange::new(4, 9),
            ..request
        };
        assert!(source.select(&elsewhere, &budget).unwrap().is_empty());
    }
}
