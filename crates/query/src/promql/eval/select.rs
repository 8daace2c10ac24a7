use std::sync::Arc;

use std::ops::Deref;
use std::time::Duration;

use model::{
    Budget, Hints, Histogram, ResetHint, SelectRequest, SeriesBlock, SeriesSet, TimeRange, Want, Windows, is_stale,
};
use model::{BudgetError, SourceError};

use super::super::ast::Extension;
use super::super::selector_text;
use super::matrix::{Charge, Steps, fits};
use super::plan::Selector;
use super::trace::{Watch, shortened};
use super::window::SAMPLE_BYTES;
use super::{EvalContext, EvalError, Result, arith};

/// The window an evaluation of a selector looks at, at each step: open on the left.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reach {
    offset_ms: i64,
    at: Option<i64>,
    /// Length of the window.
    pub(super) range_ms: i64,
    /// More on the left and on the right, for extended ranges.
    pub(super) before_ms: i64,
    pub(super) after_ms: i64,
    /// Only what becomes of the whole window is wanted.
    windows_only: bool,
}

impl Reach {
    /// Of an instant selector.
    pub(super) fn instant(selector: &Selector<'_>, lookback_ms: i64) -> Self {
        let smoothed = selector.extension == Extension::Smoothed;
        Reach {
            offset_ms: selector.offset_ms,
            at: selector.at,
            range_ms: lookback_ms,
            before_ms: 0,
            after_ms: if smoothed { lookback_ms } else { 0 },
            windows_only: selector.extension == Extension::None,
        }
    }

    /// Of a range selector.
    pub(super) fn range(selector: &Selector<'_>, range_ms: i64, lookback_ms: i64) -> Self {
        let (before_ms, after_ms) = match selector.extension {
            Extension::None => (0, 0),
            Extension::Anchored => (lookback_ms, 0),
            Extension::Smoothed => (lookback_ms, lookback_ms),
        };
        Reach {
            offset_ms: selector.offset_ms,
            at: selector.at,
            range_ms,
            before_ms,
            after_ms,
            windows_only: selector.extension == Extension::None,
        }
    }

    /// Of a subquery's result.
    pub(super) fn subquery(range_ms: i64, offset_ms: i64, at: Option<i64>) -> Self {
        Reach {
            offset_ms,
            at,
            range_ms,
            before_ms: 0,
            after_ms: 0,
            windows_only: false,
        }
    }

    /// The same, for who looks at each sample.
    pub(super) fn every_sample(self) -> Self {
        Reach {
            windows_only: false,
            ..self
        }
    }

    /// The longest time of which every end of a window is a multiple; 0 where that is of no use.
    fn aligned_ms(&self, steps: &Steps) -> i64 {
        if !self.windows_only || steps.count == 0 {
            return 0;
        }
        let mut common = gcd(self.range_ms.unsigned_abs(), self.end(steps.start).unsigned_abs());
        if steps.count > 1 && self.at.is_none() {
            common = gcd(common, steps.interval.unsigned_abs());
        }
        i64::try_from(common).unwrap_or(0)
    }

    /// The windows of all steps, where what becomes of each is all that is wanted.
    fn windows(&self, steps: &Steps) -> Option<Windows> {
        if !self.windows_only || steps.count == 0 {
            return None;
        }
        let count = if self.at.is_some() { 1 } else { steps.count as u64 };
        Some(Windows {
            length_ms: self.range_ms,
            last_end_ms: self.end(steps.last()),
            step_ms: steps.interval,
            count,
        })
    }

    /// The moment in the data that a step looks at: the window's end.
    pub(super) fn end(&self, step_at: i64) -> i64 {
        self.at.unwrap_or(step_at).saturating_sub(self.offset_ms)
    }

    /// What has to be read for all steps, both ends included.
    fn reads(&self, steps: &Steps) -> TimeRange {
        let (first, last) = (self.end(steps.start), self.end(steps.last()));
        let back = self.range_ms.saturating_add(self.before_ms);
        TimeRange::new(
            first.saturating_sub(back).saturating_add(1),
            last.saturating_add(self.after_ms),
        )
    }
}

fn gcd(mut a: u64, mut b: u64) -> u64 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

/// The series of a selector. Its memory is charged for while it lives.
pub(super) struct Selected<'a> {
    set: Box<dyn SeriesSet>,
    context: &'a EvalContext<'a>,
    /// Place in the trace.
    place: usize,
    watch: Option<Arc<Watch>>,
    _charge: Charge<'a>,
}

impl Deref for Selected<'_> {
    type Target = dyn SeriesSet;

    fn deref(&self) -> &Self::Target {
        self.set.as_ref()
    }
}

impl Drop for Selected<'_> {
    fn drop(&mut self) {
        if let Some(trace) = self.context.trace {
            trace.read(self.place, self.set.reads());
        }
    }
}

impl Selected<'_> {
    /// What reading series `index` failed with, in words that name the selector.
    fn blamed(&self, index: usize, e: SourceError) -> EvalError {
        let (SourceError::Budget(BudgetError::Samples { max }), Some(trace)) = (&e, self.context.trace) else {
            return e.into();
        };
        EvalError::limit(format!(
            "the query would read more than {max} samples (it has read {} after {} of {} series of selector {}; \
             limit query.samples_max)",
            self.context.budget.used().0,
            index + 1,
            self.set.len(),
            trace.selector_text(self.place),
        ))
    }
}

/// Selects the series of a selector for all steps. Fails at once when the index tells that reading them would take more
/// than the query may have.
pub(super) fn select<'a>(
    context: &'a EvalContext<'a>,
    selector: &Selector<'_>,
    reach: &Reach,
    steps: &Steps,
    function: &str,
    want: Want,
) -> Result<Selected<'a>> {
    let request = SelectRequest {
        tenant: context.tenant,
        matchers: selector.matchers,
        range: reach.reads(steps),
        hints: Hints {
            want,
            step_ms: if steps.is_instant() { 0 } else { steps.interval },
            window_ms: reach.range_ms,
            function: function.to_owned(),
            aligned_ms: reach.aligned_ms(steps),
            windows: reach.windows(steps),
        },
    };
    context.budget.check()?;
    let now = || context.trace.map_or(Duration::ZERO, |t| t.now());
    let began = now();
    let set = context.source.select(&request, context.budget).map_err(|e| match e {
        SourceError::Budget(BudgetError::Series { max }) => EvalError::limit(format!(
            "the query would touch more than {max} series: {} with those of selector {} (limit query.series_max)",
            context.budget.used().2,
            shortened(&selector_text(selector.matchers)),
        )),
        e => e.into(),
    })?;
    let found_in = now().saturating_sub(began);
    let (place, watch) = match context.trace {
        Some(trace) => {
            let asked = (request.range, request.hints.want);
            trace.selected(selector.pos, selector.matchers, asked, set.len(), found_in)
        }
        None => (0, None),
    };
    let ahead = set.samples_ahead(context.budget)?;
    if ahead.samples > context.budget.samples_left() {
        return Err(EvalError::limit(format!(
            "the query would read more than {} samples: {} of {} series of selector {} alone hold {} (limit query.samples_max)",
            context.budget.limits().0,
            ahead.series,
            set.len(),
            shortened(&selector_text(selector.matchers)),
            ahead.samples,
        )));
    }
    let mut charge = Charge::new(context.budget);
    charge.add(set.held_bytes() as usize)?;
    Ok(Selected {
        set,
        context,
        place,
        watch,
        _charge: charge,
    })
}

/// Reads one series; histograms lose their buckets where only count and sum are asked for.
pub(super) fn read(
    set: &Selected<'_>,
    index: usize,
    block: &mut SeriesBlock,
    budget: &Budget,
    skip_buckets: bool,
) -> Result<()> {
    budget.check()?;
    match (&set.watch, set.context.trace) {
        (Some(watch), Some(trace)) => {
            let began = trace.now();
            set.set.read(index, block, budget).map_err(|e| set.blamed(index, e))?;
            let samples = block.values.len() + block.histograms.len();
            watch.read(trace.now().saturating_sub(began), samples);
        }
        _ => set.set.read(index, block, budget).map_err(|e| set.blamed(index, e))?,
    }
    check_columns(block)?;
    fits(budget, (block.values.len() + block.histograms.len()) * SAMPLE_BYTES)?;
    if skip_buckets && !block.histograms.is_empty() {
        strip_buckets(&mut block.histograms);
    }
    Ok(())
}

/// A source that breaks its promise must not break the evaluation.
fn check_columns(block: &mut SeriesBlock) -> Result<()> {
    if block.start_ms.len() != block.values.len() {
        block.start_ms.clear();
    }
    if block.histogram_start_ms.len() != block.histograms.len() {
        block.histogram_start_ms.clear();
    }
    let weighed = block.weights.is_empty() || block.weights.len() == block.values.len();
    if !weighed || block.at_ms.len() != block.values.len() || block.histogram_at_ms.len() != block.histograms.len() {
        return Err(EvalError::execution("the source gave columns of unequal length"));
    }
    Ok(())
}

/// Replaces histograms by count and sum, with the reset hints that their buckets would have told.
fn strip_buckets(histograms: &mut [Arc<Histogram>]) {
    let mut previous: Option<Arc<Histogram>> = None;
    for slot in histograms {
        let whole = Arc::clone(slot);
        let mut stripped = Histogram {
            reset_hint: whole.reset_hint,
            integer: whole.integer,
            schema: whole.schema,
            count: whole.count,
            sum: whole.sum,
            ..Histogram::default()
        };
        if whole.is_stale() {
            *slot = Arc::new(stripped);
            continue;
        }
        if whole.reset_hint == ResetHint::Unknown
            && let Some(previous) = &previous
        {
            stripped.reset_hint = match arith::detect_reset(&whole, previous) {
                true => ResetHint::Reset,
                false => ResetHint::NoReset,
            };
        }
        let mut seen = Histogram::clone(&whole);
        seen.reset_hint = stripped.reset_hint;
        previous = Some(Arc::new(seen));
        *slot = Arc::new(stripped);
    }
}

/// Takes stale markers out: range functions do not see them.
pub(super) fn drop_stale(block: &mut SeriesBlock) {
    if any_stale(&block.values) {
        let mut keep = 0;
        for i in 0..block.values.len() {
            if !is_stale(block.values[i]) {
                block.values[keep] = block.values[i];
                block.at_ms[keep] = block.at_ms[i];
                if !block.start_ms.is_empty() {
                    block.start_ms[keep] = block.start_ms[i];
                }
                if !block.weights.is_empty() {
                    block.weights[keep] = block.weights[i];
                }
                keep += 1;
            }
        }
        block.values.truncate(keep);
        block.at_ms.truncate(keep);
        block.start_ms.truncate(keep);
        block.weights.truncate(keep);
    }
    if block.histograms.iter().any(|h| h.is_stale()) {
        let mut stay = block
            .histograms
            .iter()
            .map(|h| !h.is_stale())
            .collect::<Vec<_>>()
            .into_iter();
        block.histogram_at_ms.retain(|_| stay.next().unwrap_or(true));
        if !block.histogram_start_ms.is_empty() {
            let mut stay = block
                .histograms
                .iter()
                .map(|h| !h.is_stale())
                .collect::<Vec<_>>()
                .into_iter();
            block.histogram_start_ms.retain(|_| stay.next().unwrap_or(true));
        }
        block.histograms.retain(|h| !h.is_stale());
    }
}

/// Whether a value is a stale marker; looks at many at once.
fn any_stale(values: &[f64]) -> bool {
    values
        .chunks(64)
        .any(|some| some.iter().fold(false, |any, &v| any | is_stale(v)))
}

/// The first index from `from` on whose time is later than `bound`; near ones are found at once.
#[inline]
pub(super) fn later_than(at_ms: &[i64], mut from: usize, bound: i64) -> usize {
    for _ in 0..8 {
        match at_ms.get(from) {
            Some(&t) if t <= bound => from += 1,
            _ => return from,
        }
    }
    let mut width = 8;
    while from + width < at_ms.len() && at_ms[from + width] <= bound {
        from += width;
        width *= 2;
    }
    let until = (from + width).min(at_ms.len());
    from + at_ms[from..until].partition_point(|&t| t <= bound)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn galloping_finds_what_a_scan_finds() {
        let at: Vec<i64> = (0..1000).map(|i| i * 3).collect();
        for from in [0, 1, 17, 500, 999, 1000] {
            for bound in [-1, 0, 1, 3, 30, 1500, 2997, 5000] {
                let scan = (from..at.len()).find(|&i| at[i] > bound).unwrap_or(at.len());
                assert_eq!(later_than(&at, from, bound), scan.max(from), "{from} {bound}");
            }
        }
    }

    #[test]
    fn stale_markers_go() {
        let mut block = SeriesBlock {
            at_ms: vec![1, 2, 3],
            values: vec![1.0, model::stale_nan(), f64::NAN],
            start_ms: vec![7, 8, 9],
            weights: vec![4, 1, 1],
            ..SeriesBlock::default()
        };
        drop_stale(&mut block);
        assert_eq!((block.at_ms, block.start_ms), (vec![1, 3], vec![7, 9]));
        assert_eq!(block.weights, [4, 1]);
        assert!(block.values[1].is_nan());
    }
}
