use model::{Budget, Hints, Matcher, SelectRequest, SeriesBlock, SourceError, TenantId, TimeRange};

use super::Engine;
use super::selection::Selection;

/// What some samples take.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Weight {
    /// Series with at least one of them.
    pub series: u64,
    pub samples: u64,
    /// Of chunks in files; what is in memory only takes none.
    pub bytes: u64,
}

impl Weight {
    pub fn add(&mut self, other: Weight) {
        self.series += other.series;
        self.samples += other.samples;
        self.bytes += other.bytes;
    }
}

impl Engine {
    /// What the samples take that match and lie within the range. Samples are those that a read would give; of a chunk that
    /// lies partly in the range, bytes count in proportion.
    pub fn weigh(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Weight, SourceError> {
        let request = SelectRequest {
            tenant,
            matchers,
            range,
            hints: Hints::default(),
        };
        let selection: Selection = self.selection(&request, budget)?;
        let mut weight = Weight::default();
        let mut block = SeriesBlock::default();
        for index in 0..selection.ids.len() {
            budget.check()?;
            let mut bytes = 0.0;
            selection.chunks(index, range, |_, _, chunks| {
                for c in chunks {
                    let span = c.range().end_ms.saturating_sub(c.range().start_ms).max(1) as f64;
                    let (from, to) = (c.min_ms.max(range.start_ms), c.max_ms.min(range.end_ms));
                    let share = (to.saturating_sub(from).max(1) as f64 / span).min(1.0);
                    bytes += f64::from(c.len) * share;
                }
                Ok(())
            })?;
            selection.read_rolled(index, &mut block, budget)?;
            let samples = (block.at_ms.len() + block.histogram_at_ms.len()) as u64;
            if samples > 0 {
                weight.add(Weight {
                    series: 1,
                    samples,
                    bytes: bytes.round() as u64,
                });
            }
        }
        Ok(weight)
    }
}
