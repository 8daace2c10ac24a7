//! Functions of the samples in a range.

use std::sync::Arc;

use model::{Histogram, ResetHint};

use super::matrix::fits;
use super::notes::{Notes, Operation};
use super::numbers::{self, kahan};
use super::window::{Out, Task, Window};
use super::{EvalError, Result, arith};

pub(super) fn present(_: &Window<'_>, _: &Task<'_>, _: &mut Notes) -> Result<Out> {
    Ok(Out::Float(1.0))
}

pub(super) fn count(w: &Window<'_>, _: &Task<'_>, _: &mut Notes) -> Result<Out> {
    Ok(Out::Float((w.floats() + w.histograms.len()) as f64))
}

pub(super) fn first(w: &Window<'_>, _: &Task<'_>, _: &mut Notes) -> Result<Out> {
    Ok(match (w.at_ms.first(), w.histogram_at_ms.first()) {
        (Some(f), Some(h)) if f < h => Out::Float(w.values[0]),
        (_, Some(_)) => Out::Shared(Arc::clone(&w.histograms[0])),
        (Some(_), None) => Out::Float(w.values[0]),
        (None, None) => Out::None,
    })
}

pub(super) fn last(w: &Window<'_>, _: &Task<'_>, _: &mut Notes) -> Result<Out> {
    Ok(match (w.at_ms.last(), w.histogram_at_ms.last()) {
        (Some(f), Some(h)) if h < f => Out::Float(w.values[w.values.len() - 1]),
        (_, Some(_)) => Out::Shared(Arc::clone(&w.histograms[w.histograms.len() - 1])),
        (Some(_), None) => Out::Float(w.values[w.values.len() - 1]),
        (None, None) => Out::None,
    })
}

pub(super) fn time_of_first(w: &Window<'_>, _: &Task<'_>, _: &mut Notes) -> Result<Out> {
    let first = |at: &[i64]| at.first().copied().unwrap_or(i64::MAX);
    Ok(Out::Float(first(w.at_ms).min(first(w.histogram_at_ms)) as f64 / 1000.0))
}

pub(super) fn time_of_last(w: &Window<'_>, _: &Task<'_>, _: &mut Notes) -> Result<Out> {
    let last = |at: &[i64]| at.last().copied().unwrap_or(0);
    Ok(Out::Float(last(w.at_ms).max(last(w.histogram_at_ms)) as f64 / 1000.0))
}

/// Whether there are floats; notes histograms beside them.
fn floats(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> bool {
    if w.values.is_empty() {
        return false;
    }
    if !w.histograms.is_empty() {
        notes.histograms_ignored_in_range(task.pos, task.labels);
    }
    true
}

pub(super) fn sum(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        notes.mixed_floats_histograms(task.pos, task.labels);
        return Ok(Out::None);
    }
    if w.values.is_empty() {
        return Ok(of_histograms(w, task, notes, sum_histograms));
    }
    let (mut sum, mut c) = (0.0, 0.0);
    for &v in w.values {
        (sum, c) = kahan(v, sum, c);
    }
    Ok(Out::Float(if sum.is_infinite() { sum } else { sum + c }))
}

pub(super) fn avg(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        notes.mixed_floats_histograms(task.pos, task.labels);
        return Ok(Out::None);
    }
    let Some((&first, rest)) = w.values.split_first() else {
        return Ok(of_histograms(w, task, notes, mean_of_histograms));
    };
    if !w.weights.is_empty() {
        let (sum, c) = w.values.iter().fold((0.0, 0.0), |(sum, c), &v| kahan(v, sum, c));
        let count = w.floats() as f64;
        return Ok(Out::Float(sum / count + c / count));
    }
    // the plain mean, until the sum overflows: from there on a running mean
    let (mut sum, mut c, mut count) = (first, 0.0, 1.0);
    let mut rest = rest.iter();
    for &v in rest.by_ref() {
        count += 1.0;
        let (next, next_c) = kahan(v, sum, c);
        if next.is_infinite() {
            let mut mean = sum / (count - 1.0);
            c /= count - 1.0;
            let mut pending = Some(v);
            while let Some(v) = pending {
                let q = (count - 1.0) / count;
                (mean, c) = kahan(v / count, q * mean, q * c);
                pending = rest.next().copied();
                count += 1.0;
            }
            return Ok(Out::Float(mean + c));
        }
        (sum, c) = (next, next_c);
    }
    Ok(Out::Float(sum / count + c / count))
}

/// What histogram sums come across.
#[derive(Default)]
struct Seen {
    reset: bool,
    no_reset: bool,
    reconciled: bool,
}

impl Seen {
    fn hint(&mut self, h: &Histogram) {
        match h.reset_hint {
            ResetHint::Reset => self.reset = true,
            ResetHint::NoReset => self.no_reset = true,
            _ => {}
        }
    }
}

/// Folds histograms; incompatible ones give nothing but a warning.
fn of_histograms(
    w: &Window<'_>,
    task: &Task<'_>,
    notes: &mut Notes,
    fold: fn(&[Arc<Histogram>], &mut Seen) -> Result<Histogram, arith::Incompatible>,
) -> Out {
    let mut seen = Seen::default();
    match fold(w.histograms, &mut seen) {
        Ok(h) => {
            if seen.reset && seen.no_reset {
                notes.reset_collision(task.pos, Operation::Aggregation);
            }
            if seen.reconciled {
                notes.bounds_reconciled(task.pos, Operation::Aggregation);
            }
            Out::Histogram(h)
        }
        Err(_) => {
            notes.mixed_exponential_custom(task.pos, task.labels.metric_name());
            Out::None
        }
    }
}

fn sum_histograms(histograms: &[Arc<Histogram>], seen: &mut Seen) -> Result<Histogram, arith::Incompatible> {
    let mut sum = Histogram::clone(&histograms[0]);
    seen.hint(&sum);
    let mut c = None;
    for h in &histograms[1..] {
        seen.hint(h);
        seen.reconciled |= arith::kahan_add(&mut sum, h, &mut c)?.reconciled;
    }
    if let Some(c) = c {
        seen.reconciled |= arith::add(&mut sum, &c)?.reconciled;
    }
    Ok(sum)
}

fn mean_of_histograms(histograms: &[Arc<Histogram>], seen: &mut Seen) -> Result<Histogram, arith::Incompatible> {
    let mut mean = arith::Mean::new(&histograms[0]);
    seen.hint(&histograms[0]);
    for h in &histograms[1..] {
        seen.hint(h);
        seen.reconciled |= mean.add(h)?;
    }
    mean.finish()
}

pub(super) fn quantile(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    if w.values.is_empty() {
        return Ok(Out::None);
    }
    let q = task.args.first().copied().unwrap_or(f64::NAN);
    if q.is_nan() || !(0.0..=1.0).contains(&q) {
        notes.invalid_quantile(task.pos, q);
    }
    if !w.histograms.is_empty() {
        notes.histograms_ignored_in_range(task.pos, task.labels);
    }
    fits(task.budget, size_of_val(w.values))?;
    Ok(Out::Float(numbers::quantile(q, &mut w.values.to_vec())))
}

pub(super) fn mad(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    if !floats(w, task, notes) {
        return Ok(Out::None);
    }
    if w.values.iter().any(|v| v.is_nan()) {
        return Ok(Out::Float(f64::NAN));
    }
    fits(task.budget, size_of_val(w.values))?;
    let mut values = w.values.to_vec();
    let median = numbers::quantile(0.5, &mut values);
    for v in &mut values {
        *v = (*v - median).abs();
    }
    Ok(Out::Float(numbers::quantile(0.5, &mut values)))
}

fn variance(values: &[f64]) -> f64 {
    let (mut count, mut mean, mut mean_c, mut aux, mut aux_c) = (0.0, 0.0, 0.0, 0.0, 0.0);
    for &v in values {
        count += 1.0;
        let delta = v - (mean + mean_c);
        (mean, mean_c) = kahan(delta / count, mean, mean_c);
        (aux, aux_c) = kahan(delta * (v - (mean + mean_c)), aux, aux_c);
    }
    (aux + aux_c) / count
}

pub(super) fn stdvar(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    Ok(if floats(w, task, notes) {
        Out::Float(variance(w.values))
    } else {
        Out::None
    })
}

pub(super) fn stddev(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    Ok(if floats(w, task, notes) {
        Out::Float(variance(w.values).sqrt())
    } else {
        Out::None
    })
}

/// Whether there are two floats at least; notes histograms beside floats.
fn two_floats(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> bool {
    if !w.values.is_empty() && !w.histograms.is_empty() {
        notes.histograms_ignored_in_range(task.pos, task.labels);
    }
    w.values.len() >= 2
}

/// Slope per second and value at `intercept_at` of the least-squares line.
fn regression(w: &Window<'_>, intercept_at: i64) -> (f64, f64) {
    let initial = w.values[0];
    let mut constant = true;
    let (mut n, mut x, mut xc, mut y, mut yc) = (0.0, 0.0, 0.0, 0.0, 0.0);
    let (mut xy, mut xyc, mut xx, mut xxc) = (0.0, 0.0, 0.0, 0.0);
    for (i, (&at, &v)) in w.at_ms.iter().zip(w.values).enumerate() {
        if constant && i > 0 && v != initial {
            constant = false;
        }
        n += 1.0;
        let at = at.saturating_sub(intercept_at) as f64 / 1e3;
        (x, xc) = kahan(at, x, xc);
        (y, yc) = kahan(v, y, yc);
        (xy, xyc) = kahan(at * v, xy, xyc);
        (xx, xxc) = kahan(at * at, xx, xxc);
    }
    if constant {
        return if initial.is_infinite() {
            (f64::NAN, f64::NAN)
        } else {
            (0.0, initial)
        };
    }
    x += xc;
    y += yc;
    xy += xyc;
    xx += xxc;
    let covariance = xy - x * y / n;
    let variance = xx - x * x / n;
    let slope = covariance / variance;
    (slope, y / n - slope * x / n)
}

pub(super) fn deriv(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    if !two_floats(w, task, notes) {
        return Ok(Out::None);
    }
    Ok(Out::Float(regression(w, w.at_ms[0]).0))
}

pub(super) fn predict_linear(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    let Some(&seconds) = task.args.first() else {
        return Ok(Out::None);
    };
    if !two_floats(w, task, notes) {
        return Ok(Out::None);
    }
    let (slope, intercept) = regression(w, w.step_ms);
    Ok(Out::Float(slope * seconds + intercept))
}

pub(super) fn double_exponential_smoothing(w: &Window<'_>, task: &Task<'_>, notes: &mut Notes) -> Result<Out> {
    let &[smoothing, trend] = task.args else {
        return Ok(Out::None);
    };
    for (what, letter, v) in [("smoothing", "sf", smoothing), ("trend", "tf", trend)] {
        if v <= 0.0 || v >= 1.0 {
            let got = if v.is_finite() {
                format!("{v:.6}")
            } else {
                numbers::go_float(v)
            };
            return Err(EvalError::execution(format!(
                "invalid {what} factor. Expected: 0 < {letter} < 1, got: {got}"
            )));
        }
    }
    if !two_floats(w, task, notes) {
        return Ok(Out::None);
    }
    let (mut s0, mut s1) = (0.0, w.values[0]);
    let mut b = w.values[1] - w.values[0];
    for (i, &v) in w.values.iter().enumerate().skip(1) {
        let x = smoothing * v;
        if i > 1 {
            b = trend * (s1 - s0) + (1.0 - trend) * b;
        }
        let y = (1.0 - smoothing) * (s1 + b);
        (s0, s1) = (s1, x + y);
    }
    Ok(Out::Float(s1))
}
