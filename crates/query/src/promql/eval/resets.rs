//! `resets` and `changes`: they compare each sample with the one before, of whatever kind.

use model::Histogram;

use super::super::ast::Extension;
use super::notes::Notes;
use super::rate::started_anew;
use super::window::{Out, Task, Window};
use super::{Result, arith};

#[derive(Clone, Copy)]
enum Value<'a> {
    Float(f64),
    Histogram(&'a Histogram),
}

/// (time, start time, value)
type Item<'a> = (i64, i64, Value<'a>);

/// Counts pairs of neighbours that differ. An anchored range begins with the last sample before it.
fn count(w: &Window<'_>, task: &Task<'_>, differ: impl Fn(&Item<'_>, &Item<'_>) -> bool) -> Out {
    let (mut f, mut h) = (0, 0);
    if task.extension == Extension::Anchored {
        let floats = w.at_ms.partition_point(|&t| t <= w.range_start);
        let histograms = w.histogram_at_ms.partition_point(|&t| t <= w.range_start);
        if floats == w.at_ms.len() && histograms == w.histogram_at_ms.len() {
            return Out::None;
        }
        (f, h) = match (floats.checked_sub(1), histograms.checked_sub(1)) {
            (None, None) => (0, 0),
            (Some(i), None) => (i, histograms),
            (Some(i), Some(j)) if w.at_ms[i] >= w.histogram_at_ms[j] => (i, histograms),
            (_, Some(j)) => (floats, j),
        };
    }
    let mut counted = 0u64;
    let mut previous: Option<Item<'_>> = None;
    loop {
        let is_float = match (w.at_ms.get(f), w.histogram_at_ms.get(h)) {
            (Some(a), Some(b)) => a < b,
            (Some(_), None) => true,
            (None, Some(_)) => false,
            (None, None) => break,
        };
        let item = if is_float {
            f += 1;
            let start = w.start_ms.get(f - 1).copied().unwrap_or(0);
            (w.at_ms[f - 1], start, Value::Float(w.values[f - 1]))
        } else {
            h += 1;
            let start = w.histogram_start_ms.get(h - 1).copied().unwrap_or(0);
            (w.histogram_at_ms[h - 1], start, Value::Histogram(&w.histograms[h - 1]))
        };
        if previous.as_ref().is_some_and(|p| differ(p, &item)) {
            counted += 1;
        }
        previous = Some(item);
    }
    Out::Float(counted as f64)
}

pub(super) fn resets(w: &Window<'_>, task: &Task<'_>, _: &mut Notes) -> Result<Out> {
    Ok(count(w, task, |p, c| match (p.2, c.2) {
        (Value::Float(before), Value::Float(after)) => after < before || started_anew(p.1, p.0, c.1, c.0),
        (Value::Histogram(before), Value::Histogram(after)) => {
            started_anew(p.1, p.0, c.1, c.0) || arith::detect_reset(after, before)
        }
        _ => true,
    }))
}

pub(super) fn changes(w: &Window<'_>, task: &Task<'_>, _: &mut Notes) -> Result<Out> {
    Ok(count(w, task, |p, c| match (p.2, c.2) {
        (Value::Float(before), Value::Float(after)) => after != before && !(after.is_nan() && before.is_nan()),
        (Value::Histogram(before), Value::Histogram(after)) => !arith::equal(after, before),
        _ => true,
    }))
}
