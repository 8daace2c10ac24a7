//! `rate`, `increase`, `delta`, `irate`, `idelta`, with anchored and smoothed ranges.

use std::cell::Cell;
use std::sync::Arc;

use model::{Histogram, ResetHint, SeriesBlock};

use super::super::ast::{Extension, Pos};
use super::notes::{Notes, Operation};
use super::window::{Out, Task, Window};
use super::{Result, arith};

/// The straight line between two samples at `at`. A counter that fell started again from 0.
pub(super) fn interpolate(before: (i64, f64), after: (i64, f64), at: i64, counter: bool) -> f64 {
    let (mut y1, y2) = (before.1, after.1);
    if counter && y2 < y1 {
        y1 = 0.0;
    }
    y1 + (y2 - y1) * at.saturating_sub(before.0) as f64 / after.0.saturating_sub(before.0) as f64
}

/// As [`interpolate`], for histograms.
pub(super) fn interpolate_histograms(
    before: (i64, &Histogram),
    after: (i64, &Histogram),
    at: i64,
    counter: bool,
    notes: &mut Notes,
    pos: Pos,
) -> Result<Histogram, arith::Incompatible> {
    if at == before.0 {
        return Ok(before.1.clone());
    }
    let mut h = after.1.clone();
    if at == after.0 {
        return Ok(h);
    }
    let fraction = at.saturating_sub(before.0) as f64 / after.0.saturating_sub(before.0) as f64;
    if counter && arith::detect_reset(after.1, before.1) {
        arith::mul(&mut h, fraction);
        return Ok(h);
    }
    if arith::sub(&mut h, before.1)?.reconciled {
        notes.bounds_reconciled(pos, Operation::Subtraction);
    }
    arith::mul(&mut h, fraction);
    if arith::add(&mut h, before.1)?.reconciled {
        notes.bounds_reconciled(pos, Operation::Addition);
    }
    Ok(h)
}

/// What is known about the samples in a window, for extrapolation.
struct Sampled {
    first_at: i64,
    last_at: i64,
    /// Samples but the first.
    intervals: usize,
    /// Start time of the first sample's counter within the range, where it is known.
    started_at: Option<i64>,
    /// The first value and the growth, for counters whose zero point can be told.
    zero: Option<(f64, f64)>,
}

impl Sampled {
    /// By how much the growth between the samples is to be multiplied to cover the range; `None` when a single sample
    /// tells nothing.
    fn factor(&self, range_start: i64, range_end: i64, per_second: Option<f64>) -> Option<f64> {
        let seconds = |from: i64, to: i64| to.saturating_sub(from) as f64 / 1000.0;
        let mut to_start = seconds(range_start, self.first_at);
        let mut to_end = seconds(self.last_at, range_end);
        let mut sampled = seconds(self.first_at, self.last_at);
        let average = if self.intervals > 0 {
            sampled / self.intervals as f64
        } else {
            0.0
        };
        let threshold = average * 1.1;
        if let Some(started_at) = self.started_at {
            // a zero at the start time takes the place of what would be extrapolated
            to_start = 0.0;
            sampled = seconds(started_at, self.last_at);
        } else if self.intervals == 0 {
            return None;
        } else {
            if to_start >= threshold {
                to_start = average / 2.0;
            }
            if let Some((first, growth)) = self.zero {
                let to_zero = sampled * (first / growth);
                if to_zero < to_start {
                    to_start = to_zero;
                }
            }
        }
        if to_end >= threshold {
            to_end = average / 2.0;
        }
        let mut factor = 1.0;
        if sampled != 0.0 {
            factor = (sampled + to_start + to_end) / sampled;
        }
        if let Some(range_seconds) = per_second {
            factor /= range_seconds;
        }
        Some(factor)
    }
}

/// `rate`, `increase` or `delta` of a series of floats without start times: what falls is found once for all windows.
pub(super) struct Floats<'b> {
    at_ms: &'b [i64],
    values: &'b [f64],
    counter: bool,
    per_second: Option<f64>,
    /// Indexes of values smaller than the one before.
    falls: Vec<u32>,
    /// Samples before each index, where some stand for several; else empty.
    before: Vec<usize>,
    /// Shapes of windows seen, and the factors they had where no zero point was near.
    seen: Cell<[(Shape, f64); SHAPES]>,
}

/// Sums of all before each index, and of all.
fn sums(weights: &[u32]) -> Vec<usize> {
    let mut sum = 0;
    let before = weights.iter().map(|&w| {
        let before = sum;
        sum += w as usize;
        before
    });
    let mut all: Vec<usize> = before.collect();
    all.push(sum);
    all
}

/// What a factor depends on, the zero point left out: times from the range's start to the first sample, to the last
/// one, to the range's end; samples but the first.
#[derive(Clone, Copy, PartialEq)]
struct Shape(i64, i64, i64, usize);

/// A step that is no multiple of the samples' interval makes a few shapes take turns.
const SHAPES: usize = 8;

impl Shape {
    fn place(self) -> usize {
        ((self.0 as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 61) as usize % SHAPES
    }
}

impl<'b> Floats<'b> {
    pub(super) fn new(block: &'b SeriesBlock, counter: bool, per_second: bool, range_ms: i64) -> Self {
        let falls = match counter {
            true => (1..block.values.len())
                .filter(|&i| block.values[i] < block.values[i - 1])
                .map(|i| i as u32)
                .collect(),
            false => Vec::new(),
        };
        Floats {
            at_ms: &block.at_ms,
            values: &block.values,
            counter,
            per_second: per_second.then_some(range_ms as f64 / 1000.0),
            falls,
            before: match block.weights.len() == block.values.len() {
                true => sums(&block.weights),
                false => Vec::new(),
            },
            // no window has no samples
            seen: Cell::new([(Shape(0, 0, 0, 0), 0.0); SHAPES]),
        }
    }

    pub(super) fn at(&self, lo: usize, hi: usize, range_start: i64, range_end: i64) -> Option<f64> {
        if hi - lo < 2 {
            return None;
        }
        let samples = match (self.before.get(lo), self.before.get(hi)) {
            (Some(from), Some(to)) => to - from,
            _ => hi - lo,
        };
        let first = self.values[lo];
        let mut growth = self.values[hi - 1] - first;
        if self.counter && !self.falls.is_empty() {
            let from = self.falls.partition_point(|&i| (i as usize) <= lo);
            for &i in self.falls[from..].iter().take_while(|&&i| (i as usize) < hi) {
                growth += self.values[i as usize - 1];
            }
        }
        let (first_at, last_at) = (self.at_ms[lo], self.at_ms[hi - 1]);
        let zero = (self.counter && growth > 0.0 && first >= 0.0).then_some((first, growth));
        let shape = Shape(
            first_at.saturating_sub(range_start),
            last_at.saturating_sub(first_at),
            range_end.saturating_sub(last_at),
            samples,
        );
        // windows on a grid of samples look alike; the zero point matters only where it may lie within the range
        let zero_is_far =
            zero.is_none_or(|(first, growth)| first * shape.1 as f64 > growth * shape.0 as f64 * 1.000_001);
        let seen = self.seen.as_array_of_cells();
        let (last, factor) = seen[shape.place()].get();
        if zero_is_far && last == shape {
            return Some(growth * factor);
        }
        let sampled = Sampled {
            first_at,
            last_at,
            intervals: samples.saturating_sub(1),
            started_at: None,
            zero,
        };
        let factor = sampled.factor(range_start, range_end, self.per_second)?;
        if zero_is_far {
            seen[shape.place()].set((shape, factor));
        }
        Some(growth * factor)
    }
}

/// Whether the start times say that the counter began anew between two samples.
pub(super) fn started_anew(previous_start: i64, previous_at: i64, start: i64, at: i64) -> bool {
    if start == 0 || start >= at || start < previous_at {
        return false;
    }
    if start > previous_at {
        return true;
    }
    // it begins where the one before was taken: a delta, unless the one before has no start of its own
    previous_start <= previous_at && previous_start != 0 && previous_start != previous_at
}

fn overlaps(previous_start: i64, previous_at: i64, start: i64) -> bool {
    start != 0 && start < previous_at && start != previous_start
}

pub(super) fn extrapolated(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes, counter: bool, per_second: bool) -> Out {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        notes.mixed_floats_histograms(task.pos, task.labels);
        return Out::None;
    }
    if task.extension != Extension::None {
        return match w.values.is_empty() {
            true => extended_histograms(w, task, notes, counter, per_second),
            false => extended(w, task, counter, per_second),
        };
    }
    let is_histogram = w.values.is_empty();
    let (at_ms, start_ms) = match is_histogram {
        true => (w.histogram_at_ms, w.histogram_start_ms),
        false => (w.at_ms, w.start_ms),
    };
    let (Some(&first_at), Some(&last_at)) = (at_ms.first(), at_ms.last()) else {
        return Out::None;
    };
    let start_ms = if counter { start_ms } else { &[] };
    let mut growth = 0.0;
    let mut histogram = None;
    if is_histogram {
        if w.histograms.len() > 1 {
            match histogram_growth(w, start_ms, task, notes, counter) {
                Some(h) => histogram = Some(h),
                None => return Out::None,
            }
        }
    } else {
        growth = w.values[w.values.len() - 1] - w.values[0];
        if counter {
            let mut overlap = false;
            for i in 1..w.values.len() {
                if !overlap && !start_ms.is_empty() && overlaps(start_ms[i - 1], at_ms[i - 1], start_ms[i]) {
                    notes.start_overlap(task.pos, task.labels);
                    overlap = true;
                }
                let anew =
                    || !start_ms.is_empty() && started_anew(start_ms[i - 1], at_ms[i - 1], start_ms[i], at_ms[i]);
                if w.values[i] < w.values[i - 1] || anew() {
                    growth += w.values[i - 1];
                }
            }
        }
    }
    let started_at = start_ms
        .first()
        .copied()
        .filter(|&at| at != 0 && at > w.range_start && at < first_at);
    if started_at.is_some() {
        match (is_histogram, &mut histogram) {
            (false, _) => growth += w.values[0],
            (true, None) => histogram = Some(Histogram::clone(&w.histograms[0])),
            (true, Some(h)) => {
                if !add_noting(h, &w.histograms[0], task, notes) {
                    return Out::None;
                }
            }
        }
    }
    let zero = match (&histogram, counter) {
        (_, false) => None,
        (None, _) => (!is_histogram && growth > 0.0 && w.values[0] >= 0.0).then(|| (w.values[0], growth)),
        (Some(h), _) => (h.count > 0.0 && w.histograms[0].count >= 0.0).then(|| (w.histograms[0].count, h.count)),
    };
    let sampled = Sampled {
        first_at,
        last_at,
        intervals: match is_histogram {
            true => at_ms.len() - 1,
            false => w.floats().saturating_sub(1),
        },
        started_at,
        zero,
    };
    let Some(factor) = sampled.factor(w.range_start, w.range_end, per_second.then(|| task.range_seconds())) else {
        return Out::None;
    };
    match histogram {
        None => Out::Float(growth * factor),
        Some(mut h) => {
            arith::mul(&mut h, factor);
            Out::Histogram(h)
        }
    }
}

/// What a histogram series grew by between its first and last sample; `None` (and a note) when its samples do not fit
/// together.
fn histogram_growth(
    w: &Window<'_>,
    start_ms: &[i64],
    task: &Task<'_>,
    notes: &mut Notes,
    counter: bool,
) -> Option<Histogram> {
    let (points, at) = (w.histograms, w.histogram_at_ms);
    let (first, last) = (&points[0], &points[points.len() - 1]);
    let is_gauge = |h: &Histogram| h.reset_hint == ResetHint::Gauge;
    if counter && (is_gauge(first) || is_gauge(last)) {
        notes.not_counter(task.pos, task.labels);
    }
    let anew = |i: usize| !start_ms.is_empty() && started_anew(start_ms[i - 1], at[i - 1], start_ms[i], at[i]);
    let mixed = |notes: &mut Notes| notes.mixed_exponential_custom(task.pos, task.labels.metric_name());
    let mut previous = Arc::clone(first);
    let mut custom = previous.is_custom();
    // a reset right behind the first sample makes its layout irrelevant
    if counter {
        let second = &points[1];
        if anew(1) || arith::detect_reset(second, &previous) {
            previous = Arc::new(Histogram {
                schema: second.schema,
                custom_values: second.custom_values.clone(),
                ..Histogram::default()
            });
            custom = second.is_custom();
        }
    }
    if last.is_custom() != custom {
        mixed(notes);
        return None;
    }
    let mut schema = last.schema.min(previous.schema);
    if counter {
        let mut gauges = false;
        for h in &points[1..points.len() - 1] {
            gauges |= is_gauge(h);
            schema = schema.min(h.schema);
            if h.is_custom() != custom {
                mixed(notes);
                return None;
            }
        }
        if gauges {
            notes.not_counter(task.pos, task.labels);
        }
    }
    let mut growth = arith::to_schema(last, schema);
    match arith::sub(&mut growth, &previous) {
        Ok(did) if did.reconciled => notes.bounds_reconciled(task.pos, Operation::Subtraction),
        Ok(_) => {}
        Err(_) => {
            mixed(notes);
            return None;
        }
    }
    if counter {
        let mut overlap = false;
        for i in 1..points.len() {
            if !overlap && !start_ms.is_empty() && overlaps(start_ms[i - 1], at[i - 1], start_ms[i]) {
                notes.start_overlap(task.pos, task.labels);
                overlap = true;
            }
            if anew(i) || arith::detect_reset(&points[i], &previous) {
                match arith::add(&mut growth, &previous) {
                    Ok(did) if did.reconciled => notes.bounds_reconciled(task.pos, Operation::Addition),
                    Ok(_) => {}
                    Err(_) => {
                        mixed(notes);
                        return None;
                    }
                }
            }
            previous = Arc::clone(&points[i]);
        }
    } else if !is_gauge(first) || !is_gauge(last) {
        notes.not_gauge(task.pos, task.labels);
    }
    growth.reset_hint = ResetHint::Gauge;
    arith::compact(&mut growth);
    Some(growth)
}

fn add_noting(into: &mut Histogram, other: &Histogram, task: &Task<'_>, notes: &mut Notes) -> bool {
    match arith::add(into, other) {
        Ok(did) => {
            if did.reconciled {
                notes.bounds_reconciled(task.pos, Operation::Addition);
            }
            true
        }
        Err(_) => {
            notes.mixed_exponential_custom(task.pos, task.labels.metric_name());
            false
        }
    }
}

/// First and last index of the samples that an extended range looks at; `None` when nothing lies within.
fn bounds(at: &[i64], range_start: i64, range_end: i64, smoothed: bool) -> Option<(usize, usize)> {
    let mut last = at.len().checked_sub(1)?;
    let first = at[..last].partition_point(|&t| t <= range_start).saturating_sub(1);
    if smoothed {
        last = at[..last].partition_point(|&t| t < range_end);
    }
    if at[last] <= range_start || (smoothed && at[first] > range_end) {
        return None;
    }
    Some((first, last))
}

/// Values at the ends of the range.
fn ends(
    at: &[i64],
    v: &[f64],
    (first, last): (usize, usize),
    (range_start, range_end): (i64, i64),
    smoothed: bool,
    counter: bool,
) -> (f64, f64) {
    let left = match smoothed && at[first] < range_start && first + 1 < at.len() {
        true => interpolate(
            (at[first], v[first]),
            (at[first + 1], v[first + 1]),
            range_start,
            counter,
        ),
        false => v[first],
    };
    let right = match smoothed && last > 0 && at[last] > range_end {
        true => interpolate((at[last - 1], v[last - 1]), (at[last], v[last]), range_end, counter),
        false => v[last],
    };
    (left, right)
}

fn extended(w: &Window<'_>, task: &Task<'_>, counter: bool, per_second: bool) -> Out {
    let (at, v) = (w.at_ms, w.values);
    let smoothed = task.extension == Extension::Smoothed;
    let Some((mut first, last)) = bounds(at, w.range_start, w.range_end, smoothed) else {
        return Out::None;
    };
    let (left, right) = ends(at, v, (first, last), (w.range_start, w.range_end), smoothed, counter);
    let mut growth = right - left;
    if counter {
        // only samples strictly within: the ends have dealt with resets beside them
        if at[first] <= w.range_start {
            first += 1;
        }
        let until = if at[last] >= w.range_end { last } else { last + 1 };
        let mut correction = 0.0;
        let mut previous = left;
        for &v in v.get(first..until).unwrap_or(&[]) {
            if v < previous {
                correction += previous;
            }
            previous = v;
        }
        if right < previous {
            correction += previous;
        }
        growth += correction;
    }
    if per_second {
        growth /= task.range_seconds();
    }
    Out::Float(growth)
}

/// The samples of an anchored or smoothed range, with a sample made up for each of its ends; for queries that end in a
/// range selector.
pub(super) fn extend(at: &[i64], v: &[f64], range_start: i64, range_end: i64, smoothed: bool) -> (Vec<i64>, Vec<f64>) {
    let Some(mut last) = at.len().checked_sub(1) else {
        return (Vec::new(), Vec::new());
    };
    let mut first = at[..last].partition_point(|&t| t <= range_start).saturating_sub(1);
    if smoothed {
        last = at[..last].partition_point(|&t| t < range_end);
    }
    if at[last] <= range_start {
        return (Vec::new(), Vec::new());
    }
    let (left, right) = ends(at, v, (first, last), (range_start, range_end), smoothed, false);
    if at[first] <= range_start {
        first += 1;
    }
    let until = if at[last] >= range_end { last } else { last + 1 };
    let within = first..until.max(first);
    let times = [range_start]
        .into_iter()
        .chain(at[within.clone()].iter().copied())
        .chain([range_end]);
    let values = [left].into_iter().chain(v[within].iter().copied()).chain([right]);
    (times.collect(), values.collect())
}

fn extended_histograms(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes, counter: bool, per_second: bool) -> Out {
    let (at, h) = (w.histogram_at_ms, w.histograms);
    let smoothed = task.extension == Extension::Smoothed;
    let Some((first, last)) = bounds(at, w.range_start, w.range_end, smoothed) else {
        return Out::None;
    };
    let custom = h[first].is_custom();
    for p in h.get(first..=last).unwrap_or(&[]) {
        if p.is_custom() != custom {
            notes.mixed_exponential_custom(task.pos, task.labels.metric_name());
            return Out::None;
        }
        if counter && p.reset_hint == ResetHint::Gauge {
            notes.not_counter(task.pos, task.labels);
        }
    }
    let mixed = |notes: &mut Notes| {
        notes.mixed_exponential_custom(task.pos, task.labels.metric_name());
        Out::None
    };
    let between = |i: usize, j: usize, t: i64, notes: &mut Notes| {
        interpolate_histograms((at[i], &h[i]), (at[j], &h[j]), t, counter, notes, task.pos)
    };
    let left = match smoothed && at[first] < w.range_start && first + 1 < at.len() {
        true => between(first, first + 1, w.range_start, notes),
        false => Ok(Histogram::clone(&h[first])),
    };
    let Ok(left) = left else { return mixed(notes) };
    let right = match smoothed && last > 0 && at[last] > w.range_end {
        true => between(last - 1, last, w.range_end, notes),
        false => Ok(Histogram::clone(&h[last])),
    };
    let Ok(right) = right else { return mixed(notes) };
    if !counter && (left.reset_hint != ResetHint::Gauge || right.reset_hint != ResetHint::Gauge) {
        notes.not_gauge(task.pos, task.labels);
    }
    let mut growth = right.clone();
    match arith::sub(&mut growth, &left) {
        Ok(did) if did.reconciled => notes.bounds_reconciled(task.pos, Operation::Subtraction),
        Ok(_) => {}
        Err(_) => return mixed(notes),
    }
    if counter {
        let correction = match correction(w, (first, last), &left, &right, smoothed, task, notes) {
            Ok(c) => c,
            Err(_) => return Out::None,
        };
        if let Some(c) = correction
            && !add_noting(&mut growth, &c, task, notes)
        {
            return Out::None;
        }
    }
    if per_second {
        arith::div(&mut growth, task.range_seconds());
    }
    growth.reset_hint = ResetHint::Gauge;
    arith::compact(&mut growth);
    Out::Histogram(growth)
}

/// What counter resets between the ends of an extended range took away.
fn correction(
    w: &Window<'_>,
    (first, last): (usize, usize),
    left: &Histogram,
    right: &Histogram,
    smoothed: bool,
    task: &Task<'_>,
    notes: &mut Notes,
) -> Result<Option<Histogram>, arith::Incompatible> {
    let (at, h) = (w.histogram_at_ms, w.histograms);
    // `left` stands for the first sample, `right` for the last
    let mut from = first + 1;
    let mut previous = left;
    if smoothed && at[first] < w.range_start && from < h.len() && arith::detect_reset(&h[from], &h[first]) {
        // the left end has dealt with this reset
        previous = &h[from];
        from += 1;
    }
    if from > last {
        return Ok(None);
    }
    let mut total: Option<Histogram> = None;
    let mut lost = |h: &Histogram, notes: &mut Notes| match &mut total {
        None => {
            total = Some(h.clone());
            Ok(())
        }
        Some(total) => match add_noting(total, h, task, notes) {
            true => Ok(()),
            false => Err(arith::Incompatible),
        },
    };
    for p in &h[from..last] {
        if arith::detect_reset(p, previous) {
            lost(previous, notes)?;
        }
        previous = p;
    }
    if arith::detect_reset(right, previous) {
        lost(previous, notes)?;
    }
    Ok(total)
}

pub(super) fn irate(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    Ok(instant_value(w, task, notes, true))
}

pub(super) fn idelta(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    Ok(instant_value(w, task, notes, false))
}

#[derive(Clone, Copy)]
enum Found<'a> {
    Float(f64),
    Histogram(&'a Histogram),
}

/// The last two samples of either kind, the earlier one first: (time, start time, value).
fn last_two<'a>(w: &Window<'a>) -> Option<[(i64, i64, Found<'a>); 2]> {
    let float = |i: usize| {
        let start = w.start_ms.get(i).copied().unwrap_or(0);
        (w.at_ms[i], start, Found::Float(w.values[i]))
    };
    let histogram = |i: usize| {
        let start = w.histogram_start_ms.get(i).copied().unwrap_or(0);
        (w.histogram_at_ms[i], start, Found::Histogram(&w.histograms[i]))
    };
    let (mut f, mut h) = (w.values.len(), w.histograms.len());
    let mut take = || {
        let is_float = match (f.checked_sub(1), h.checked_sub(1)) {
            (Some(f), Some(h)) => w.at_ms[f] > w.histogram_at_ms[h],
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => return None,
        };
        if is_float {
            f -= 1;
            Some(float(f))
        } else {
            h -= 1;
            Some(histogram(h))
        }
    };
    let last = take()?;
    Some([take()?, last])
}

fn instant_value(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes, is_rate: bool) -> Out {
    let Some([a, b]) = last_two(w) else {
        return Out::None;
    };
    let interval = b.0.saturating_sub(a.0);
    if interval == 0 {
        return Out::None;
    }
    let seconds = interval as f64 / 1000.0;
    let anew = || started_anew(a.1, a.0, b.1, b.0);
    match (a.2, b.2) {
        (Found::Float(before), Found::Float(after)) => {
            let reset = is_rate && (after < before || anew());
            let growth = if reset { after } else { after - before };
            Out::Float(if is_rate { growth / seconds } else { growth })
        }
        (Found::Histogram(before), Found::Histogram(after)) => {
            let gauges = [before, after].map(|h| h.reset_hint == ResetHint::Gauge);
            if is_rate && gauges.contains(&true) {
                notes.not_counter(task.pos, task.labels);
            }
            if !is_rate && gauges.contains(&false) {
                notes.not_gauge(task.pos, task.labels);
            }
            let mut growth = after.clone();
            if !is_rate || (!anew() && !arith::detect_reset(after, before)) {
                match arith::sub(&mut growth, before) {
                    Ok(did) if did.reconciled => notes.bounds_reconciled(task.pos, Operation::Subtraction),
                    Ok(_) => {}
                    Err(_) => {
                        notes.mixed_exponential_custom(task.pos, task.labels.metric_name());
                        return Out::None;
                    }
                }
            }
            growth.reset_hint = ResetHint::Gauge;
            arith::compact(&mut growth);
            if is_rate {
                arith::div(&mut growth, seconds);
            }
            Out::Histogram(growth)
        }
        _ => {
            notes.mixed_floats_histograms(task.pos, task.labels);
            Out::None
        }
    }
}
