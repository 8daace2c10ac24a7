use crate::{Histogram, Labels, Matcher, MetricKind, SeriesId, TenantId, TimeRange};

/// What one request (or scrape, or flush of the agent) brings, as columns, admitted and validated. Series are named by
/// ids of this process; the byte form (`series::record`) spells their labels out once per scope.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub tenant: TenantId,
    pub floats: FloatRows,
    pub histograms: Vec<HistogramRow>,
    pub deltas: Vec<DeltaRow>,
    pub exemplars: Vec<ExemplarRow>,
    pub metadata: Vec<MetadataRow>,
}

/// Float samples as parallel columns, in the order they arrived.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct FloatRows {
    pub series: Vec<SeriesId>,
    /// Unix milliseconds.
    pub at_ms: Vec<i64>,
    pub values: Vec<f64>,
    /// Counter start times in ms, 0 = unknown; empty when no row has one, else as long as the others.
    pub start_ms: Vec<i64>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct HistogramRow {
    pub series: SeriesId,
    pub at_ms: i64,
    pub start_ms: i64,
    pub value: Histogram,
}

/// An increase over `(start_ms, at_ms]`, finite; or a stale marker, which ends the series for readers and adds nothing.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct DeltaRow {
    pub series: SeriesId,
    pub start_ms: i64,
    pub at_ms: i64,
    pub value: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct ExemplarRow {
    pub series: SeriesId,
    pub at_ms: i64,
    pub value: f64,
    pub labels: Labels,
}

#[derive(Clone, Debug, PartialEq)]
pub struct MetadataRow {
    pub metric: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

/// Samples of matching series within a range are to go; later ones are untouched.
#[derive(Clone, Debug, PartialEq)]
pub struct Delete {
    pub tenant: TenantId,
    pub matchers: Vec<Matcher>,
    pub range: TimeRange,
}

/// One record of the samples topic.
#[derive(Clone, Debug, PartialEq)]
pub enum Record {
    Batch(Batch),
    Delete(Delete),
}

impl FloatRows {
    pub fn len(&self) -> usize {
        self.values.len()
    }

    pub fn is_empty(&self) -> bool {
        self.values.is_empty()
    }

    pub fn push(&mut self, series: SeriesId, at_ms: i64, value: f64, start_ms: i64) {
        if start_ms != 0 && self.start_ms.is_empty() {
            self.start_ms.resize(self.values.len(), 0);
        }
        self.series.push(series);
        self.at_ms.push(at_ms);
        self.values.push(value);
        if start_ms != 0 || !self.start_ms.is_empty() {
            self.start_ms.push(start_ms);
        }
    }

    pub fn clear(&mut self) {
        self.series.clear();
        self.at_ms.clear();
        self.values.clear();
        self.start_ms.clear();
    }
}

impl Batch {
    pub fn new(tenant: TenantId) -> Self {
        Batch {
            tenant,
            floats: FloatRows::default(),
            histograms: Vec::new(),
            deltas: Vec::new(),
            exemplars: Vec::new(),
            metadata: Vec::new(),
        }
    }

    /// Samples of all kinds; exemplars and metadata are none.
    pub fn samples(&self) -> usize {
        self.floats.len() + self.histograms.len() + self.deltas.len()
    }

    pub fn is_empty(&self) -> bool {
        self.samples() == 0 && self.exemplars.is_empty() && self.metadata.is_empty()
    }

    /// Bytes held, for bounded queues.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + self.floats.len() * 20
            + self.floats.start_ms.len() * 8
            + self.histograms.iter().map(|h| 24 + h.value.bytes()).sum::<usize>()
            + self.deltas.len() * size_of::<DeltaRow>()
            + self
                .exemplars
                .iter()
                .map(|e| size_of::<ExemplarRow>() + e.labels.as_bytes().len())
                .sum::<usize>()
            + self
                .metadata
                .iter()
                .map(|m| size_of::<MetadataRow>() + m.metric.len() + m.help.len() + m.unit.len())
                .sum::<usize>()
    }
}
