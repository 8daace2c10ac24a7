use crate::{Histogram, LabelsBuilder, SeriesId};

/// A metric's kind as senders state it (OpenMetrics names).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum MetricKind {
    #[default]
    Unknown = 0,
    Counter = 1,
    Gauge = 2,
    Histogram = 3,
    GaugeHistogram = 4,
    Summary = 5,
    Info = 6,
    StateSet = 7,
}

impl MetricKind {
    pub fn as_str(self) -> &'static str {
        match self {
            MetricKind::Unknown => "unknown",
            MetricKind::Counter => "counter",
            MetricKind::Gauge => "gauge",
            MetricKind::Histogram => "histogram",
            MetricKind::GaugeHistogram => "gaugehistogram",
            MetricKind::Summary => "summary",
            MetricKind::Info => "info",
            MetricKind::StateSet => "stateset",
        }
    }

    /// The kind of a stored number; unknown numbers are `Unknown`.
    pub fn from_u8(n: u8) -> Self {
        use MetricKind::*;
        [
            Unknown,
            Counter,
            Gauge,
            Histogram,
            GaugeHistogram,
            Summary,
            Info,
            StateSet,
        ]
        .get(usize::from(n))
        .copied()
        .unwrap_or_default()
    }
}

/// One thing that was not taken, and why. Nothing else in the request is lost by it.
#[derive(Clone, Debug, PartialEq)]
pub struct Reject {
    pub reason: RejectReason,
    /// Which series, item or line, shortened.
    pub subject: String,
    /// The field, the value (shortened) and what would be right.
    pub detail: String,
    /// Samples lost with it.
    pub samples: u64,
}

/// Kinds of rejection; also the `reason` label of Overseer's own counter.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RejectReason {
    /// Bytes that do not parse; the item or line is skipped.
    Malformed,
    /// Labels missing, twice, empty or not UTF-8.
    Labels,
    /// A limit of [`crate::SampleLimits`] was passed.
    Limit,
    /// Too far ahead of the clock, or before 1970.
    Timestamp,
    /// A histogram that contradicts itself.
    Histogram,
    /// A value with no number in it, such as an Influx string field.
    NotANumber,
    /// The tenant's budget of series is used up.
    SeriesBudget,
    /// A feature of the protocol that is not supported.
    Unsupported,
}

impl RejectReason {
    pub fn as_str(self) -> &'static str {
        match self {
            RejectReason::Malformed => "malformed",
            RejectReason::Labels => "labels",
            RejectReason::Limit => "limit",
            RejectReason::Timestamp => "timestamp",
            RejectReason::Histogram => "histogram",
            RejectReason::NotANumber => "not_a_number",
            RejectReason::SeriesBudget => "series_budget",
            RejectReason::Unsupported => "unsupported",
        }
    }
}

/// What a decoder writes into; the one implementation of the ingest path lives in `input`, others in tests.
///
/// A decoder first offers the series' *raw spelling* (the protocol's own key bytes, whatever they are, as long as
/// equal bytes mean equal labels). Only when it is unknown are labels parsed and [`define`](Self::define)d. The sink
/// checks label limits, timestamps and histograms itself and remembers what it refuses; a decoder reports only what it
/// cannot parse, with [`reject`](Self::reject).
pub trait SampleSink {
    /// The series of a raw spelling seen before.
    fn known(&mut self, raw: &[u8]) -> Option<SeriesId>;

    /// The series of these labels; remembers `raw` (when not empty) as a spelling of it. `None`: refused and noted;
    /// the decoder then calls [`lost`](Self::lost) with the number of samples it skips for it.
    fn define(&mut self, raw: &[u8], labels: &mut LabelsBuilder) -> Option<SeriesId>;

    /// Samples of the series last refused by `define` that are skipped.
    fn lost(&mut self, samples: u64);

    /// A float sample at Unix milliseconds. `start_ms` is the counter's start time, 0 when unknown.
    fn float(&mut self, series: SeriesId, at_ms: i64, value: f64, start_ms: i64);

    fn histogram(&mut self, series: SeriesId, at_ms: i64, value: Histogram, start_ms: i64);

    /// An increase over `(start_ms, at_ms]`; the engine accumulates it.
    fn delta(&mut self, series: SeriesId, start_ms: i64, at_ms: i64, value: f64);

    /// An example observation of a series; `labels` holds the exemplar's own labels.
    fn exemplar(&mut self, series: SeriesId, at_ms: i64, value: f64, labels: &mut LabelsBuilder);

    /// What a metric is. Empty `help` or `unit`: not said.
    fn metadata(&mut self, metric: &[u8], kind: MetricKind, help: &[u8], unit: &[u8]);

    /// Something that cannot be parsed and is skipped.
    fn reject(&mut self, reject: Reject);
}
