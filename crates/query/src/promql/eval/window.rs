use std::sync::Arc;

use model::{Budget, Histogram, Labels, ResetHint, SeriesBlock};

use super::super::ast::{Extension, Pos};
use super::extremum::{Best, Extremum};
use super::matrix::{Charge, Matrix, Row, Steps};
use super::notes::Notes;
use super::pipeline::{Counts, Rows, Scratch};
use super::select::{self, Reach, Selected, later_than};
use super::{EvalContext, Result, arith, over_time, rate, resets};

/// The samples of one series within the range of one step, stale markers left out.
#[derive(Clone, Copy)]
pub(super) struct Window<'w> {
    pub(super) at_ms: &'w [i64],
    pub(super) values: &'w [f64],
    /// Empty, or one per value.
    pub(super) start_ms: &'w [i64],
    /// How many samples each value stands for; empty: each for itself.
    pub(super) weights: &'w [u32],
    pub(super) histogram_at_ms: &'w [i64],
    pub(super) histograms: &'w [Arc<Histogram>],
    pub(super) histogram_start_ms: &'w [i64],
    /// The time of evaluation.
    pub(super) step_ms: i64,
    /// The range, open on the left. Samples of extended ranges may lie outside.
    pub(super) range_start: i64,
    pub(super) range_end: i64,
}

impl Window<'_> {
    /// Samples that the floats stand for.
    pub(super) fn floats(&self) -> usize {
        match self.weights {
            [] => self.values.len(),
            weights => weights.iter().map(|&w| w as usize).sum(),
        }
    }
}

/// What a range function knows besides the samples.
pub(super) struct Task<'t> {
    pub(super) labels: &'t Labels,
    /// Of the function's first argument.
    pub(super) pos: Pos,
    pub(super) range_ms: i64,
    pub(super) extension: Extension,
    pub(super) budget: &'t Budget,
    /// Values of the scalar arguments at this step, in their order.
    pub(super) args: &'t [f64],
}

impl Task<'_> {
    pub(super) fn range_seconds(&self) -> f64 {
        self.range_ms as f64 / 1000.0
    }
}

#[derive(Debug)]
pub(super) enum Out {
    None,
    Float(f64),
    Histogram(Histogram),
    Shared(Arc<Histogram>),
}

pub(super) type Kernel = fn(&Window<'_>, &Task<'_>, &mut Notes) -> Result<Out>;

/// A function of a range.
#[derive(Clone, Copy)]
pub(super) enum RangeFunction {
    /// `rate`, `increase`, `delta`.
    Extrapolated {
        counter: bool,
        per_second: bool,
    },
    /// `min_over_time` and its like.
    Extremum(Extremum),
    Other(Kernel),
}

/// The function of this name. Whoever adds a range function to the table adds it here.
pub(super) fn range_function(name: &str) -> Option<RangeFunction> {
    Some(RangeFunction::Other(match name {
        "rate" => {
            return Some(RangeFunction::Extrapolated {
                counter: true,
                per_second: true,
            });
        }
        "increase" => {
            return Some(RangeFunction::Extrapolated {
                counter: true,
                per_second: false,
            });
        }
        "delta" => {
            return Some(RangeFunction::Extrapolated {
                counter: false,
                per_second: false,
            });
        }
        "max_over_time" => return Some(RangeFunction::Extremum(Extremum::MAX)),
        "min_over_time" => return Some(RangeFunction::Extremum(Extremum::MIN)),
        "ts_of_max_over_time" => return Some(RangeFunction::Extremum(Extremum::MAX.time())),
        "ts_of_min_over_time" => return Some(RangeFunction::Extremum(Extremum::MIN.time())),
        "irate" => rate::irate,
        "idelta" => rate::idelta,
        "resets" => resets::resets,
        "changes" => resets::changes,
        "absent_over_time" | "present_over_time" => over_time::present,
        "avg_over_time" => over_time::avg,
        "count_over_time" => over_time::count,
        "deriv" => over_time::deriv,
        "double_exponential_smoothing" => over_time::double_exponential_smoothing,
        "first_over_time" => over_time::first,
        "last_over_time" => over_time::last,
        "mad_over_time" => over_time::mad,
        "predict_linear" => over_time::predict_linear,
        "quantile_over_time" => over_time::quantile,
        "stddev_over_time" => over_time::stddev,
        "stdvar_over_time" => over_time::stdvar,
        "sum_over_time" => over_time::sum,
        "ts_of_first_over_time" => over_time::time_of_first,
        "ts_of_last_over_time" => over_time::time_of_last,
        _ => return None,
    }))
}

/// A scalar over the steps.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Column {
    Same(f64),
    Each(Vec<f64>),
}

impl Column {
    pub(super) fn at(&self, step: usize) -> f64 {
        match self {
            Column::Same(v) => *v,
            Column::Each(v) => v[step],
        }
    }
}

/// A range function over the series of a selector or a subquery.
pub(super) struct Windows<'a> {
    pub(super) context: &'a EvalContext<'a>,
    pub(super) over: Over<'a>,
    pub(super) function: RangeFunction,
    pub(super) reach: Reach,
    pub(super) extension: Extension,
    pub(super) skip_buckets: bool,
    pub(super) steps: Steps,
    /// Scalar arguments in their order.
    pub(super) args: Vec<Column>,
    pub(super) pos: Pos,
    pub(super) keeps_name: bool,
    pub(super) uses_start_times: bool,
}

pub(super) enum Over<'a> {
    Series(Selected<'a>),
    Subquery(Matrix<'a>, Steps),
}

/// Bytes of a float sample in the columns that range functions read.
pub(super) const SAMPLE_BYTES: usize = size_of::<i64>() + size_of::<f64>();

/// Windows that may share a sample while an extremum is found by looking at all samples of each.
const SHARED_BY_FEW: i64 = 16;

/// Steps of a few nanoseconds between two looks at the budget.
const STEPS_UNCHECKED: usize = 1024;

/// Suffixes of names that look like counters.
const COUNTER_SUFFIXES: [&str; 4] = ["_total", "_sum", "_count", "_bucket"];

impl Rows for Windows<'_> {
    fn len(&self) -> usize {
        match &self.over {
            Over::Series(set) => set.len(),
            Over::Subquery(matrix, _) => matrix.rows.len(),
        }
    }

    fn warnings(&self) -> Vec<String> {
        match &self.over {
            Over::Series(set) => set.warnings(),
            Over::Subquery(..) => Vec::new(),
        }
    }

    fn infos(&self) -> Vec<String> {
        match &self.over {
            Over::Series(set) => set.infos(),
            Over::Subquery(..) => Vec::new(),
        }
    }

    fn scratch_bytes(&self) -> usize {
        match &self.over {
            Over::Series(_) => 0,
            Over::Subquery(_, steps) => steps.count * SAMPLE_BYTES,
        }
    }

    fn fill(&self, index: usize, scratch: &mut Scratch) -> Result<bool> {
        let Scratch {
            row,
            block,
            notes,
            counts,
            ..
        } = scratch;
        let mut drop_name = !self.keeps_name;
        let mut charge = Charge::new(self.context.budget);
        let labels = match &self.over {
            Over::Series(set) => {
                select::read(set, index, block, self.context.budget, self.skip_buckets)?;
                counts.series += 1;
                counts.read += (block.values.len() + block.histograms.len()) as u64;
                select::drop_stale(block);
                if block.is_empty() {
                    return Ok(false);
                }
                set.labels(index)
            }
            Over::Subquery(matrix, steps) => {
                let from = &matrix.rows[index];
                drop_name |= from.drop_name;
                // they may be copied
                charge.add(from.histograms.iter().map(|h| h.1.bytes() + 64).sum())?;
                spread(from, steps, block, self.context.budget)?;
                self.context
                    .budget
                    .samples((block.values.len() + block.histograms.len()) as u64)?;
                if block.is_empty() {
                    return Ok(false);
                }
                from.labels.clone()
            }
        };
        if let RangeFunction::Extremum(_) = self.function {
            charge.add(block.values.len() * size_of::<usize>())?;
        }
        if !self.uses_start_times {
            block.start_ms.clear();
            block.histogram_start_ms.clear();
        }
        row.reset(labels, self.steps.count);
        row.drop_name = drop_name;
        let any = self.slide(row, block, notes, counts)?;
        if any && matches!(self.function, RangeFunction::Extrapolated { counter: true, .. }) {
            let name = row.labels.metric_name();
            let has_floats =
                row.histograms.len() < self.steps.count && !row.values.iter().all(|&v| super::matrix::is_absent(v));
            if !name.is_empty() && has_floats && !COUNTER_SUFFIXES.iter().any(|s| name.ends_with(s)) {
                notes.possible_non_counter(self.pos, name);
            }
        }
        Ok(any)
    }
}

impl Windows<'_> {
    /// One pass over the samples of a series, both ends of the window moving forward.
    fn slide(&self, row: &mut Row, block: &SeriesBlock, notes: &mut Notes, counts: &mut Counts) -> Result<bool> {
        let labels = row.labels.clone();
        let mut args = [0.0f64; 8];
        let arity = self.args.len().min(args.len());
        let plain_rate = match self.function {
            RangeFunction::Extrapolated { counter, per_second }
                if self.extension == Extension::None && block.histograms.is_empty() && block.start_ms.is_empty() =>
            {
                Some(rate::Floats::new(block, counter, per_second, self.reach.range_ms))
            }
            _ => None,
        };
        if let Some(rate) = &plain_rate {
            return self.slide_rates(rate, &block.at_ms, row, counts);
        }
        let mut best = Best::default();
        // a sample that few windows share is looked at again sooner than its place is kept
        let few_share = self.reach.range_ms / self.steps.interval.max(1) <= SHARED_BY_FEW || self.steps.count == 1;
        let (mut lo, mut hi, mut hlo, mut hhi) = (0, 0, 0, 0);
        let mut any = false;
        for step in 0..self.steps.count {
            let step_ms = self.steps.at(step);
            let range_end = self.reach.end(step_ms);
            let range_start = range_end.saturating_sub(self.reach.range_ms);
            let first = range_start.saturating_sub(self.reach.before_ms);
            let last = range_end.saturating_add(self.reach.after_ms);
            hi = later_than(&block.at_ms, hi, last);
            lo = later_than(&block.at_ms, lo, first).min(hi);
            hhi = later_than(&block.histogram_at_ms, hhi, last);
            hlo = later_than(&block.histogram_at_ms, hlo, first).min(hhi);
            if lo == hi && hlo == hhi {
                continue;
            }
            let looked_at = (hi - lo) as u64 + block.histograms[hlo..hhi].iter().map(|h| arith::size(h)).sum::<u64>();
            counts.look(step, looked_at);
            self.context.budget.check()?;
            if let RangeFunction::Extremum(extremum) = self.function
                && few_share
                && extremum.is_value()
            {
                let Some(v) = extremum.of(&block.values[lo..hi]) else {
                    continue;
                };
                if hlo < hhi {
                    notes.histograms_ignored_in_range(self.pos, &labels);
                }
                row.set(step, v);
                any = true;
                continue;
            }
            if let RangeFunction::Extremum(extremum) = self.function {
                let Some(at) = best.at(extremum, &block.values, lo, hi) else {
                    continue;
                };
                if hlo < hhi {
                    notes.histograms_ignored_in_range(self.pos, &labels);
                }
                row.set(step, extremum.result(block, at));
                any = true;
                continue;
            }
            let window = Window {
                at_ms: &block.at_ms[lo..hi],
                values: &block.values[lo..hi],
                start_ms: block.start_ms.get(lo..hi).unwrap_or(&[]),
                weights: block.weights.get(lo..hi).unwrap_or(&[]),
                histogram_at_ms: &block.histogram_at_ms[hlo..hhi],
                histograms: &block.histograms[hlo..hhi],
                histogram_start_ms: block.histogram_start_ms.get(hlo..hhi).unwrap_or(&[]),
                step_ms,
                // with `@` the window stays while the time of evaluation moves on
                range_start,
                range_end,
            };
            for (slot, arg) in args.iter_mut().zip(&self.args) {
                *slot = arg.at(step);
            }
            let task = Task {
                labels: &labels,
                pos: self.pos,
                range_ms: self.reach.range_ms,
                extension: self.extension,
                budget: self.context.budget,
                args: &args[..arity],
            };
            let out = match self.function {
                RangeFunction::Extrapolated { counter, per_second } => {
                    rate::extrapolated(&window, &task, notes, counter, per_second)
                }
                RangeFunction::Extremum(_) => Out::None,
                RangeFunction::Other(kernel) => kernel(&window, &task, notes)?,
            };
            match out {
                Out::None => continue,
                Out::Float(v) => row.set(step, v),
                Out::Histogram(h) => row.push_histogram(step, Arc::new(h)),
                Out::Shared(h) => row.push_histogram(step, h),
            }
            any = true;
        }
        Ok(any)
    }
}

impl Windows<'_> {
    /// As [`slide`](Self::slide), for the rates of nothing but floats.
    fn slide_rates(&self, rate: &rate::Floats<'_>, at_ms: &[i64], row: &mut Row, counts: &mut Counts) -> Result<bool> {
        let (mut lo, mut hi) = (0, 0);
        let mut any = false;
        for step in 0..self.steps.count {
            if step % STEPS_UNCHECKED == 0 {
                self.context.budget.check()?;
            }
            let range_end = self.reach.end(self.steps.at(step));
            let range_start = range_end.saturating_sub(self.reach.range_ms);
            hi = later_than(at_ms, hi, range_end);
            lo = later_than(at_ms, lo, range_start).min(hi);
            if lo == hi {
                continue;
            }
            counts.look(step, (hi - lo) as u64);
            if let Some(v) = rate.at(lo, hi, range_start, range_end) {
                row.set(step, v);
                any = true;
            }
        }
        Ok(any)
    }
}

/// A subquery's row as samples. What a hint says about its predecessor is void there.
fn spread(row: &Row, steps: &Steps, block: &mut SeriesBlock, budget: &Budget) -> Result<()> {
    block.clear();
    for (step, &v) in row.values.iter().enumerate() {
        if step % 65_536 == 0 {
            budget.check()?;
        }
        if !super::matrix::is_absent(v) {
            block.at_ms.push(steps.at(step));
            block.values.push(v);
        }
    }
    for (step, h) in &row.histograms {
        block.histogram_at_ms.push(steps.at(*step as usize));
        let h = match h.reset_hint {
            ResetHint::Reset | ResetHint::NoReset => Arc::new(Histogram {
                reset_hint: ResetHint::Unknown,
                ..Histogram::clone(h)
            }),
            _ => Arc::clone(h),
        };
        block.histograms.push(h);
    }
    Ok(())
}
