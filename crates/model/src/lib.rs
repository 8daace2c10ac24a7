//! The nouns that cross borders: labels, matchers, samples, histograms, batches, tenants, limits, budgets, and the
//! two traits that join the house: [`SampleSink`] (decoders write into it) and [`SampleSource`] (queries read from it).
//! Knows no protocol, no file, no clock. A noun used by one crate only belongs there, not here.
#![forbid(unsafe_code)]

mod batch;
mod budget;
mod hint;
mod histogram;
mod labels;
mod limits;
mod matcher;
mod pattern;
mod sample;
mod sink;
mod source;
mod tenant;
mod time;

pub use batch::{Batch, Delete, DeltaRow, ExemplarRow, FloatRows, HistogramRow, MetadataRow, Record};
pub use budget::{Budget, BudgetError, SharedBytes, StopReason};
pub use hint::HINT_REACH_MS;
pub use histogram::{CUSTOM_BUCKETS_SCHEMA, Histogram, HistogramError, ResetHint, Span};
pub use labels::{Labels, LabelsBuilder, LabelsError, METRIC_NAME};
pub use limits::SampleLimits;
pub use matcher::{MatchOp, Matcher, MatcherError};
pub use pattern::{Pattern, PatternError};
pub use sample::{STALE_NAN_BITS, SeriesId, TimeRange, is_stale, stale_nan};
pub use sink::{ByReason, MetricKind, Reject, RejectReason, SampleSink};
pub use source::{
    Ahead, Cardinality, CardinalityRow, Exemplar, Found, Hints, Metadata, ReadStats, Revision, SampleSource,
    SelectRequest, SeriesBlock, SeriesSet, SourceError, Want, Windows,
};
pub use tenant::TenantId;
pub use time::{TIME_MS_MAX, parse_time_ms, rfc3339_ms};
