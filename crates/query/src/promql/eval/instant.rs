use std::sync::Arc;

use model::{Histogram, Labels, ResetHint, SeriesBlock, is_stale};

use super::super::ast::Pos;
use super::matrix::{Row, Steps};
use super::notes::Notes;
use super::pipeline::{Counts, Rows, Scratch};
use super::select::{self, Reach, Selected, later_than};
use super::{EvalContext, Result, arith, rate};

/// What is taken of the sample that an instant selector finds.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Take {
    Value,
    /// The sample's time in seconds.
    Time,
    /// The start time of the sample's counter in seconds.
    StartTime,
    /// The sample's time in ms; histograms are an error.
    InfoTime,
}

/// The series of an instant selector.
pub(super) struct Instants<'a> {
    pub(super) context: &'a EvalContext<'a>,
    pub(super) set: Selected<'a>,
    pub(super) reach: Reach,
    pub(super) steps: Steps,
    pub(super) take: Take,
    pub(super) smoothed: bool,
    pub(super) skip_buckets: bool,
    /// Whether labels matter to what is done with the rows.
    pub(super) wants_labels: bool,
    pub(super) pos: Pos,
}

impl Rows for Instants<'_> {
    fn len(&self) -> usize {
        self.set.len()
    }

    fn warnings(&self) -> Vec<String> {
        self.set.warnings()
    }

    fn infos(&self) -> Vec<String> {
        self.set.infos()
    }

    fn fill(&self, index: usize, scratch: &mut Scratch) -> Result<bool> {
        let Scratch {
            row,
            block,
            notes,
            counts,
        } = scratch;
        select::read(&self.set, index, block, self.context.budget, self.skip_buckets)?;
        counts.series += 1;
        counts.read += (block.values.len() + block.histograms.len()) as u64;
        if block.is_empty() {
            return Ok(false);
        }
        let labels = if self.wants_labels || !block.histograms.is_empty() {
            self.set.labels(index)
        } else {
            Labels::empty()
        };
        row.reset(labels, self.steps.count);
        row.drop_name = matches!(self.take, Take::Time | Take::StartTime);
        if self.smoothed && self.take == Take::Value {
            select::drop_stale(block);
            return Ok(self.smooth(row, block, notes));
        }
        if block.histograms.is_empty() && self.take == Take::Value {
            return self.floats(row, block, counts);
        }
        let (mut f, mut h) = (0, 0);
        let mut any = false;
        for step in 0..self.steps.count {
            if step % 4096 == 0 {
                self.context.budget.check()?;
            }
            let now = self.reach.end(self.steps.at(step));
            f = later_than(&block.at_ms, f, now);
            h = later_than(&block.histogram_at_ms, h, now);
            let float_at = f.checked_sub(1).map(|i| block.at_ms[i]);
            let histogram_at = h.checked_sub(1).map(|i| block.histogram_at_ms[i]);
            let oldest = now.saturating_sub(self.reach.range_ms);
            let Some(at) = float_at.max(histogram_at).filter(|&at| at > oldest) else {
                continue;
            };
            let is_float = float_at >= histogram_at;
            if is_float {
                let v = block.values[f - 1];
                if is_stale(v) {
                    continue;
                }
                counts.look(step, 1);
                row.set(
                    step,
                    match self.take {
                        Take::Value => v,
                        Take::Time => at as f64 / 1000.0,
                        Take::StartTime => block.start_ms.get(f - 1).copied().unwrap_or(0) as f64 / 1000.0,
                        Take::InfoTime => at as f64,
                    },
                );
            } else {
                let found = &block.histograms[h - 1];
                if found.is_stale() {
                    continue;
                }
                match self.take {
                    Take::Value => {
                        counts.look(step, arith::size(found));
                        row.push_histogram(step, Arc::clone(found));
                    }
                    Take::Time => {
                        counts.look(step, 1);
                        row.set(step, at as f64 / 1000.0);
                    }
                    Take::StartTime => {
                        let start = block.histogram_start_ms.get(h - 1).copied().unwrap_or(0);
                        row.set(step, start as f64 / 1000.0);
                    }
                    Take::InfoTime => {
                        return Err(super::EvalError::execution(format!(
                            "this should be an info metric, with float samples: {}",
                            super::labels::display(&row.labels)
                        )));
                    }
                }
            }
            any = true;
        }
        Ok(any)
    }
}

impl Instants<'_> {
    /// The values of a series that is nothing but floats.
    fn floats(&self, row: &mut Row, block: &SeriesBlock, counts: &mut Counts) -> Result<bool> {
        let (mut next, mut any) = (0, false);
        for step in 0..self.steps.count {
            if step % 4096 == 0 {
                self.context.budget.check()?;
            }
            let now = self.reach.end(self.steps.at(step));
            next = later_than(&block.at_ms, next, now);
            let Some(i) = next.checked_sub(1) else { continue };
            let v = block.values[i];
            if block.at_ms[i] > now.saturating_sub(self.reach.range_ms) && !is_stale(v) {
                counts.look(step, 1);
                row.set(step, v);
                any = true;
            }
        }
        Ok(any)
    }

    /// Values interpolated between the neighbours of each step; the last one is carried forward.
    fn smooth(&self, row: &mut Row, block: &SeriesBlock, notes: &mut Notes) -> bool {
        let labels = row.labels.clone();
        let (mut lo, mut hi, mut hlo, mut hhi) = (0, 0, 0, 0);
        let mut any = false;
        for step in 0..self.steps.count {
            let now = self.reach.end(self.steps.at(step));
            let first = now.saturating_sub(self.reach.range_ms);
            let last = now.saturating_add(self.reach.after_ms);
            hi = later_than(&block.at_ms, hi, last);
            lo = later_than(&block.at_ms, lo, first).min(hi);
            hhi = later_than(&block.histogram_at_ms, hhi, last);
            hlo = later_than(&block.histogram_at_ms, hlo, first).min(hhi);
            if lo == hi && hlo == hhi {
                continue;
            }
            if lo < hi && hlo < hhi {
                notes.mixed_floats_histograms(self.pos, &labels);
                continue;
            }
            if lo < hi {
                let (at, v) = (&block.at_ms[lo..hi], &block.values[lo..hi]);
                let next = at.partition_point(|&t| t < now);
                let value = match (next.checked_sub(1), at.get(next)) {
                    (_, Some(&t)) if t == now => v[next],
                    (Some(i), Some(_)) => rate::interpolate((at[i], v[i]), (at[next], v[next]), now, false),
                    (Some(i), None) => v[i],
                    (None, _) => continue,
                };
                row.set(step, value);
            } else {
                let (at, h) = (&block.histogram_at_ms[hlo..hhi], &block.histograms[hlo..hhi]);
                let next = at.partition_point(|&t| t < now);
                let value = match (next.checked_sub(1), at.get(next)) {
                    (_, Some(&t)) if t == now => Arc::clone(&h[next]),
                    (Some(i), Some(_)) => {
                        let (before, after) = (&h[i], &h[next]);
                        if before.is_custom() != after.is_custom() {
                            notes.mixed_exponential_custom(self.pos, labels.metric_name());
                            continue;
                        }
                        let counter = before.reset_hint != ResetHint::Gauge || after.reset_hint != ResetHint::Gauge;
                        let ends = ((at[i], before.as_ref()), (at[next], after.as_ref()));
                        match rate::interpolate_histograms(ends.0, ends.1, now, counter, notes, self.pos) {
                            Ok(h) => Arc::new(h),
                            Err(_) => {
                                notes.mixed_exponential_custom(self.pos, labels.metric_name());
                                continue;
                            }
                        }
                    }
                    (Some(i), None) => Arc::new(Histogram {
                        reset_hint: ResetHint::Unknown,
                        ..Histogram::clone(&h[i])
                    }),
                    (None, _) => continue,
                };
                row.push_histogram(step, value);
            }
            any = true;
        }
        any
    }
}
