use std::sync::Arc;

use crate::{Budget, BudgetError, Histogram, Labels, Matcher, MetricKind, TenantId, TimeRange};

/// Where queries read samples: the series engine, a remote store, or memory in tests.
pub trait SampleSource: Send + Sync {
    /// The series that match all matchers and may have samples within the range, sorted by labels' canonical bytes.
    /// Samples are read afterwards, series by series, from any thread.
    fn select(&self, request: &SelectRequest<'_>, budget: &Budget) -> Result<Box<dyn SeriesSet>, SourceError>;

    /// Label sets with samples in the range that match any of the matcher sets (all series when there is none).
    fn series(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<Labels>, SourceError>;

    /// Label names, sorted.
    fn label_names(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError>;

    /// Values of one label, sorted.
    fn label_values(
        &self,
        tenant: TenantId,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError>;

    /// Metadata by metric name, sorted; of one metric when it is named.
    fn metadata(&self, tenant: TenantId, metric: Option<&str>) -> Result<Vec<Metadata>, SourceError>;

    /// Exemplars of matching series in the range, by series, in time order.
    fn exemplars(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Vec<(Labels, Vec<Exemplar>)>, SourceError>;

    /// What has been applied of a tenant's samples by now, for telling later whether an answer still holds; `None` when
    /// this source cannot tell.
    fn revision(&self, _tenant: TenantId) -> Option<Revision> {
        None
    }

    /// Samples before this time in ms are the tenant's as they were at `revision`: none came, went or changed.
    /// `i64::MAX` when nothing did.
    fn changed_since(&self, _tenant: TenantId, _revision: &Revision) -> i64 {
        i64::MIN
    }

    /// Counts for the status page: series in all and the `top` largest groups.
    fn cardinality(&self, tenant: TenantId, top: usize) -> Result<Cardinality, SourceError>;
}

/// A state of a tenant's samples, of the process that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Revision {
    /// Counts what concerns all times, such as expiry.
    pub epoch: u64,
    /// The last position applied.
    pub position: u64,
}

/// One selection.
#[derive(Clone, Debug)]
pub struct SelectRequest<'a> {
    pub tenant: TenantId,
    pub matchers: &'a [Matcher],
    /// Samples outside are not read. Both ends included.
    pub range: TimeRange,
    pub hints: Hints,
}

/// What the reader will do with the samples; a source may use it to read less, never to answer differently.
///
/// A source that keeps rollups may give fewer samples than there are: `function` over any window between two multiples of
/// `aligned_ms` then comes out the same to the last bit as over all of them. Functions that count samples
/// (`count_over_time`, `avg_over_time`, `rate`, `increase`, `delta`) go by [`SeriesBlock::weights`]; for `sum_over_time`
/// and `avg_over_time` a sample's value may be the sum of those that it stands for.
#[derive(Clone, Debug, Default)]
pub struct Hints {
    pub want: Want,
    /// Evaluation step in ms; 0 for an instant query.
    pub step_ms: i64,
    /// Length of the window at each step in ms (the look-back for instant selectors).
    pub window_ms: i64,
    /// PromQL name of the function applied to the selector; empty when none.
    pub function: String,
    /// Every window begins and ends at a multiple of so many ms, and nothing of the samples is wanted but the function of
    /// each window, or the last sample in it where there is no function. 0 when this is not so.
    pub aligned_ms: i64,
    /// The windows themselves, when nothing but the function of each is wanted. A source may then give fewer samples, with
    /// weights as for rollups, as long as the function of each of them comes out the same to the last bit.
    pub windows: Option<Windows>,
}

/// Windows over samples: each open on the left and closed on the right, one every step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Windows {
    /// Length of each in ms.
    pub length_ms: i64,
    /// End of the last one.
    pub last_end_ms: i64,
    /// Distance of two in ms, and how many there are: one at least.
    pub step_ms: i64,
    pub count: u64,
}

impl Windows {
    /// Whether one of them holds a part of these times and not all of them.
    pub fn divide(&self, range: TimeRange) -> bool {
        let ends = self.meet(self.last_end_ms, range);
        ends || self.meet(self.last_end_ms.saturating_sub(self.length_ms), range)
    }

    /// Whether one of the bounds that end with `last` lies in the range, but not at its very end.
    fn meet(&self, last: i64, range: TimeRange) -> bool {
        if range.start_ms >= range.end_ms {
            return false;
        }
        let [last, from, to] = [last, range.start_ms, range.end_ms - 1].map(i128::from);
        let step = i128::from(self.step_ms.max(1));
        // the latest bound that is not behind the range
        let back = (last - to).max(0).div_euclid(step) + i128::from((last - to).max(0).rem_euclid(step) > 0);
        back < i128::from(self.count) && last - back * step >= from
    }
}

/// How much of a series the reader needs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Want {
    #[default]
    Samples,
    /// Only the last sample in the range; its start time may be left out.
    Last,
    /// Only labels; `read` is not called.
    Labels,
}

/// A selection's result. Shared by threads that read different series.
pub trait SeriesSet: Send + Sync {
    fn len(&self) -> usize;

    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Labels of series `index`.
    fn labels(&self, index: usize) -> Labels;

    /// Replaces `block` by the samples of series `index` in the range, ascending and unique in time.
    fn read(&self, index: usize, block: &mut SeriesBlock, budget: &Budget) -> Result<(), SourceError>;

    /// What selecting and reading took so far. Zeros from sources that do not count.
    fn reads(&self) -> ReadStats {
        ReadStats::default()
    }

    /// What reading the series one after the other would count against the budget's samples, as far as the index
    /// tells: counting ends as soon as it is more than the budget has left. Never more than reading would count;
    /// nothing when it surely is within the budget, or cannot be told.
    fn samples_ahead(&self, budget: &Budget) -> Result<Ahead, SourceError> {
        let _ = budget;
        Ok(Ahead::default())
    }

    /// Bytes of memory that the selection itself holds while it lives.
    fn held_bytes(&self) -> u64 {
        0
    }

    /// What the answer lacks (a quarantined file, an unreachable store); empty when it is complete. Ask after reading.
    fn warnings(&self) -> Vec<String> {
        Vec::new()
    }

    /// What is worth knowing of where the samples came from: rollups, where the samples themselves are gone. Ask after
    /// reading.
    fn infos(&self) -> Vec<String> {
        Vec::new()
    }
}

/// Samples of the first series of a selection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Ahead {
    pub samples: u64,
    pub series: u64,
}

/// What a selection took, for those who ask where a query's time went. Files are those of the whole store at the
/// moment of the selection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReadStats {
    pub files: u64,
    /// Files passed over because their times lie outside the range.
    pub files_out_of_time: u64,
    /// Files passed over because their index names no matching series.
    pub files_without_series: u64,
    /// Chunks decoded.
    pub chunks: u64,
    /// Bytes of these as they are stored.
    pub chunk_bytes: u64,
    /// Samples decoded from chunks, those outside the range included.
    pub chunk_samples: u64,
    /// Samples read from memory: not in files yet.
    pub head_samples: u64,
    /// Samples read from rollups.
    pub rollup_samples: u64,
    /// Samples that these stand for.
    pub rolled_samples: u64,
    /// Chunks whose statistics answered in the place of their samples, and how many these are.
    pub stated_chunks: u64,
    pub stated_samples: u64,
}

/// Samples of one series as columns, in buffers that the caller keeps and reuses. Floats and histograms of one series
/// are separate columns; each is ascending in time and no time occurs in both.
#[derive(Clone, Debug, Default)]
pub struct SeriesBlock {
    pub at_ms: Vec<i64>,
    pub values: Vec<f64>,
    pub histogram_at_ms: Vec<i64>,
    pub histograms: Vec<Arc<Histogram>>,
    /// Start time of each float's counter in ms, 0 where unknown; empty when none is known.
    pub start_ms: Vec<i64>,
    /// As `start_ms`, for the histograms.
    pub histogram_start_ms: Vec<i64>,
    /// How many samples each float stands for, see [`Hints`]; empty when each stands for itself.
    pub weights: Vec<u32>,
}

impl SeriesBlock {
    pub fn clear(&mut self) {
        self.at_ms.clear();
        self.values.clear();
        self.histogram_at_ms.clear();
        self.histograms.clear();
        self.start_ms.clear();
        self.histogram_start_ms.clear();
        self.weights.clear();
    }

    pub fn is_empty(&self) -> bool {
        self.at_ms.is_empty() && self.histogram_at_ms.is_empty()
    }
}

/// Names or label sets found, and what the answer lacks.
#[derive(Clone, Debug, PartialEq)]
pub struct Found<T> {
    pub items: Vec<T>,
    pub warnings: Vec<String>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Metadata {
    pub metric: String,
    pub kind: MetricKind,
    pub help: String,
    pub unit: String,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Exemplar {
    pub at_ms: i64,
    pub value: f64,
    pub labels: Labels,
}

/// Counts of a tenant's series, as `status/tsdb` shows them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Cardinality {
    pub series: u64,
    pub label_pairs: u64,
    pub chunks: u64,
    pub min_ms: i64,
    pub max_ms: i64,
    pub series_by_metric: Vec<CardinalityRow>,
    pub values_by_label: Vec<CardinalityRow>,
    pub bytes_by_label: Vec<CardinalityRow>,
    /// Named `label=value`.
    pub series_by_pair: Vec<CardinalityRow>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct CardinalityRow {
    pub name: String,
    pub value: u64,
}

/// Why a read failed, by what the caller can do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SourceError {
    /// Ask for less.
    #[error(transparent)]
    Budget(#[from] BudgetError),
    /// Try again: the store is still replaying its log.
    #[error("the store is not ready: {0}")]
    NotReady(String),
    /// Data is damaged in a way that no partial answer covers.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
    /// An I/O error; try again.
    #[error("reading failed: {0}")]
    Io(String),
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn windows_divide_what_a_bound_goes_through(
            length_ms in 1i64..40, last_end_ms in -60i64..60, step_ms in 0i64..30, count in 1u64..6,
            from in -90i64..90, long in 0i64..30,
        ) {
            let windows = Windows { length_ms, last_end_ms, step_ms, count };
            let range = TimeRange::new(from, from + long);
            let divided = (0..count as i64).any(|n| {
                let end = last_end_ms - n * step_ms.max(1);
                let held = (from..=from + long).filter(|at| end - length_ms < *at && *at <= end).count() as i64;
                held > 0 && held < long + 1
            });
            // a window within the range divides it, too
            prop_assert!(windows.divide(range) || !divided);
            if windows.divide(range) {
                let bounds = (0..count as i64).map(|n| last_end_ms - n * step_ms.max(1));
                let mut bounds = bounds.flat_map(|end| [end, end - length_ms]);
                prop_assert!(bounds.any(|bound| from <= bound && bound < from + long));
            }
        }
    }

    #[test]
    fn bounds_at_the_ends_of_time_do_no_harm() {
        let windows = Windows {
            length_ms: i64::MAX,
            last_end_ms: i64::MIN,
            step_ms: i64::MAX,
            count: u64::MAX,
        };
        assert!(!windows.divide(TimeRange::new(0, 10)));
        assert!(!windows.divide(TimeRange::new(i64::MAX, i64::MAX)));
    }
}
