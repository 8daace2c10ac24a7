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

/// Declares the kinds in one place: the enum, how many there are, and their names.
macro_rules! reasons {
    ($($(#[$doc:meta])* $reason:ident = $text:literal,)*) => {
        /// Kinds of rejection; also the `reason` label of Overseer's own counter.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum RejectReason {
            $($(#[$doc])* $reason,)*
        }

        impl RejectReason {
            /// All of them, in the order of their numbers.
            pub const ALL: [RejectReason; [$($text),*].len()] = [$(RejectReason::$reason),*];

            pub fn as_str(self) -> &'static str {
                match self {
                    $(RejectReason::$reason => $text,)*
                }
            }
        }
    };
}

reasons! {
    /// Bytes that do not parse; the item or line is skipped.
    Malformed = "malformed",
    /// Labels missing, twice, empty or not UTF-8.
    Labels = "labels",
    /// A limit of [`crate::SampleLimits`] was passed.
    Limit = "limit",
    /// Too far ahead of the clock, or before 1970.
    Timestamp = "timestamp",
    /// A histogram that contradicts itself.
    Histogram = "histogram",
    /// A delta that cannot be added up: not finite, or negative where a counter must rise.
    Delta = "delta",
    /// A value with no number in it, such as an Influx string field.
    NotANumber = "not_a_number",
    /// The tenant's budget of series is used up.
    SeriesBudget = "series_budget",
    /// A feature of the protocol that is not supported.
    Unsupported = "unsupported",
}

/// One value for each [`RejectReason`]; as many as there are, whatever their number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ByReason<T = u64>([T; RejectReason::ALL.len()]);

impl<T> ByReason<T> {
    pub fn from_fn(mut value: impl FnMut(RejectReason) -> T) -> Self {
        ByReason(RejectReason::ALL.map(&mut value))
    }

    pub fn iter(&self) -> impl Iterator<Item = (RejectReason, &T)> {
        RejectReason::ALL.into_iter().zip(&self.0)
    }
}

impl ByReason {
    pub fn total(&self) -> u64 {
        self.0.iter().sum()
    }
}

impl<T> std::ops::Index<RejectReason> for ByReason<T> {
    type Output = T;

    fn index(&self, reason: RejectReason) -> &T {
        // the array has a place for each reason, and reasons are numbered from 0
        &self.0[reason as usize]
    }
}

impl<T> std::ops::IndexMut<RejectReason> for ByReason<T> {
    fn index_mut(&mut self, reason: RejectReason) -> &mut T {
        &mut self.0[reason as usize]
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

    /// An increase over `(start_ms, at_ms]`; the engine accumulates it. A stale NaN is a stale marker and adds nothing.
    fn delta(&mut self, series: SeriesId, start_ms: i64, at_ms: i64, value: f64);

    /// An example observation of a series; `labels` holds the exemplar's own labels.
    fn exemplar(&mut self, series: SeriesId, at_ms: i64, value: f64, labels: &mut LabelsBuilder);

    /// What a metric is. Empty `help` or `unit`: not said.
    fn metadata(&mut self, metric: &[u8], kind: MetricKind, help: &[u8], unit: &[u8]);

    /// Something that cannot be parsed and is skipped.
    fn reject(&mut self, reject: Reject);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_has_a_place_of_its_own_and_a_name() {
        let mut table = ByReason::default();
        for (n, reason) in RejectReason::ALL.into_iter().enumerate() {
            table[reason] += n as u64 + 1;
        }
        let count = RejectReason::ALL.len() as u64;
        assert_eq!(table.total(), count * (count + 1) / 2);
        assert!(table.iter().zip(1..).all(|((_, &n), wanted)| n == wanted));
        let names: std::collections::BTreeSet<_> = RejectReason::ALL.map(RejectReason::as_str).into();
        assert_eq!(names.len(), RejectReason::ALL.len());
    }
}
