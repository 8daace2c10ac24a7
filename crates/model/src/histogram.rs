/// Schema number of native histograms with custom bucket bounds (Prometheus `CustomBucketsSchema`).
pub const CUSTOM_BUCKETS_SCHEMA: i32 = -53;

/// A run of consecutive buckets: `offset` buckets are skipped (for the first span: the index of the first bucket),
/// then `length` buckets follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Span {
    pub offset: i32,
    pub length: u32,
}

/// What a histogram knows about counter resets before it (Prometheus `CounterResetHint`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[repr(u8)]
pub enum ResetHint {
    #[default]
    Unknown = 0,
    Reset = 1,
    NoReset = 2,
    Gauge = 3,
}

/// A native histogram with float counts. Integer histograms are held in the same form (`integer` is set; all counts
/// are whole numbers up to 2^53). Bucket counts are absolute, not deltas and not cumulative. Semantics follow
/// Prometheus `model/histogram.FloatHistogram`.
#[derive(Clone, Debug, PartialEq, Default)]
pub struct Histogram {
    pub reset_hint: ResetHint,
    /// It arrived as an integer histogram and goes out as one.
    pub integer: bool,
    /// -4..=8 for exponential buckets, [`CUSTOM_BUCKETS_SCHEMA`] for custom bounds.
    pub schema: i32,
    pub zero_threshold: f64,
    pub zero_count: f64,
    pub count: f64,
    pub sum: f64,
    pub positive_spans: Vec<Span>,
    pub negative_spans: Vec<Span>,
    pub positive_buckets: Vec<f64>,
    pub negative_buckets: Vec<f64>,
    /// Upper bounds of custom buckets, ascending, without +Inf; empty for exponential schemas.
    pub custom_values: Vec<f64>,
}

/// Why a histogram is refused.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum HistogramError {
    #[error("schema {0} is unknown: -4 to 8 or -53 is right")]
    Schema(i32),
    #[error("{side} spans describe {spans} buckets but {buckets} are given")]
    SpanCount {
        side: &'static str,
        spans: u64,
        buckets: usize,
    },
    #[error("{side} span {index} has the negative offset {offset}")]
    SpanOffset {
        side: &'static str,
        index: usize,
        offset: i32,
    },
    #[error("{side} bucket {index} has the negative or NaN count {count}")]
    NegativeCount {
        side: &'static str,
        index: usize,
        count: f64,
    },
    #[error("the {field} is negative or NaN: {value}")]
    Negative { field: &'static str, value: f64 },
    #[error("custom bounds must ascend, be finite and cover the buckets")]
    CustomBounds,
    #[error("more than {max} buckets")]
    TooManyBuckets { max: usize },
}

/// Buckets per side and histogram at most; more are refused.
const BUCKETS_MAX: usize = 4096;

impl Histogram {
    /// Whether the bounds are given in `custom_values`.
    pub fn is_custom(&self) -> bool {
        self.schema == CUSTOM_BUCKETS_SCHEMA
    }

    /// A histogram that marks its series stale: its sum is the stale marker.
    pub fn is_stale(&self) -> bool {
        crate::is_stale(self.sum)
    }

    /// Checks what must hold before a histogram may enter the log. The count may be smaller than the sum of the
    /// buckets (Prometheus accepts that for float histograms), a stale histogram may be empty.
    pub fn validate(&self) -> Result<(), HistogramError> {
        if self.is_stale() {
            return Ok(());
        }
        if !(-4..=8).contains(&self.schema) && !self.is_custom() {
            return Err(HistogramError::Schema(self.schema));
        }
        if self.is_custom() {
            let ascending = self.custom_values.windows(2).all(|w| w[0] < w[1]);
            let finite = self.custom_values.iter().all(|v| v.is_finite());
            let last: i64 = self
                .positive_spans
                .iter()
                .map(|s| i64::from(s.offset) + i64::from(s.length))
                .sum();
            if !ascending || !finite || last > self.custom_values.len() as i64 + 1 || !self.negative_spans.is_empty() {
                return Err(HistogramError::CustomBounds);
            }
        }
        for (side, spans, buckets) in [
            ("positive", &self.positive_spans, &self.positive_buckets),
            ("negative", &self.negative_spans, &self.negative_buckets),
        ] {
            if buckets.len() > BUCKETS_MAX || spans.len() > BUCKETS_MAX {
                return Err(HistogramError::TooManyBuckets { max: BUCKETS_MAX });
            }
            for (index, s) in spans.iter().enumerate() {
                if (index > 0 || self.is_custom()) && s.offset < 0 {
                    return Err(HistogramError::SpanOffset {
                        side,
                        index,
                        offset: s.offset,
                    });
                }
            }
            let described: u64 = spans.iter().map(|s| u64::from(s.length)).sum();
            if described != buckets.len() as u64 {
                return Err(HistogramError::SpanCount {
                    side,
                    spans: described,
                    buckets: buckets.len(),
                });
            }
            for (index, &count) in buckets.iter().enumerate() {
                if count.is_nan() || count < 0.0 {
                    return Err(HistogramError::NegativeCount { side, index, count });
                }
            }
        }
        for (field, value) in [
            ("count", self.count),
            ("zero count", self.zero_count),
            ("zero threshold", self.zero_threshold),
        ] {
            if value.is_nan() || value < 0.0 {
                return Err(HistogramError::Negative { field, value });
            }
        }
        Ok(())
    }

    /// Bytes this value holds in memory, for budgets.
    pub fn bytes(&self) -> usize {
        size_of::<Self>()
            + (self.positive_spans.len() + self.negative_spans.len()) * size_of::<Span>()
            + (self.positive_buckets.len() + self.negative_buckets.len() + self.custom_values.len()) * size_of::<f64>()
    }
}
