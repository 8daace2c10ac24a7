//! Answers kept for queries that come again: the whole of one where nothing it looked at has changed, and of a range the
//! steps that new samples cannot have touched, so that a dashboard that moves on evaluates only the new ones.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use model::{Revision, TenantId};

use super::super::ast::Expr;
use super::super::value::{Series, Value};
use super::{Answer, EvalContext, Query, Result, Stats, evaluate, plan, reuse};

#[cfg(test)]
mod tests;

/// One answer may take this part of the cache.
const SHARE: usize = 8;
/// Answers kept at most, whatever their size.
const ANSWERS_MAX: usize = 4096;
/// Fewer steps than one in so many are not worth being joined to others.
const WORTH: u64 = 2;

/// Bounded in bytes; what was not asked for longest goes first. An answer from it is what an evaluation would give.
pub struct ResultCache {
    bytes_max: usize,
    kept: Mutex<Kept>,
    whole: AtomicU64,
    partial: AtomicU64,
    missed: AtomicU64,
}

/// How much of an answer was there already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reused {
    Nothing,
    /// So many of its steps.
    Steps(u64),
    All,
}

/// What the cache did so far, and what it holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CacheStats {
    pub whole: u64,
    pub partial: u64,
    pub missed: u64,
    pub answers: u64,
    pub bytes: u64,
}

#[derive(Default)]
struct Kept {
    answers: HashMap<Key, Entry>,
    bytes: usize,
    clock: u64,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct Key {
    tenant: TenantId,
    text: String,
    lookback_ms: i64,
    subquery_step_ms: i64,
    use_start_times: bool,
    when: When,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum When {
    At(i64),
    /// Step, and where steps lie between its multiples.
    Every(i64, i64),
}

struct Entry {
    held: Arc<Held>,
    bytes: usize,
    used: u64,
}

struct Held {
    answer: Answer,
    revision: Revision,
    /// First and last step.
    first: i64,
    last: i64,
    /// No sample behind this time was looked at.
    latest: i64,
    /// How far behind its own time a step may look, where steps can be reused one by one.
    ahead: Option<i64>,
}

impl ResultCache {
    /// Holds answers of up to `bytes_max` bytes together; 0 for none.
    pub fn new(bytes_max: usize) -> Self {
        ResultCache {
            bytes_max,
            kept: Mutex::default(),
            whole: AtomicU64::new(0),
            partial: AtomicU64::new(0),
            missed: AtomicU64::new(0),
        }
    }

    pub fn stats(&self) -> CacheStats {
        let kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        CacheStats {
            whole: self.whole.load(Relaxed),
            partial: self.partial.load(Relaxed),
            missed: self.missed.load(Relaxed),
            answers: kept.answers.len() as u64,
            bytes: kept.bytes as u64,
        }
    }

    /// As [`evaluate`], with what is there already. Its statistics, and what a trace tells, are of what was
    /// evaluated now. A context that wants statistics by step gets a whole evaluation.
    pub fn evaluate(&self, expr: &Expr, context: &EvalContext<'_>, query: Query) -> Result<(Answer, Reused)> {
        let revision = match self.bytes_max {
            0 => None,
            _ if context.per_step_stats || context.text.is_empty() => None,
            _ => context.source.revision(context.tenant),
        };
        let Some(revision) = revision else {
            return Ok((evaluate(expr, context, query)?, Reused::Nothing));
        };
        let (first, last, step) = match query {
            Query::Instant { at_ms } => (at_ms, at_ms, 0),
            Query::Range {
                start_ms,
                end_ms,
                step_ms,
            } if step_ms > 0 && start_ms <= end_ms => (start_ms, last_step(start_ms, end_ms, step_ms), step_ms),
            Query::Range { .. } => return Ok((evaluate(expr, context, query)?, Reused::Nothing)),
        };
        let key = Key {
            tenant: context.tenant,
            text: context.text.to_owned(),
            lookback_ms: context.lookback_ms,
            subquery_step_ms: context.subquery_step_ms,
            use_start_times: context.use_start_times,
            when: match step {
                0 => When::At(first),
                _ => When::Every(step, first.rem_euclid(step)),
            },
        };
        if let Some(held) = self.find(&key) {
            let since = context.source.changed_since(context.tenant, &held.revision);
            if held.first == first && held.last == last && held.latest < since {
                self.whole.fetch_add(1, Relaxed);
                return Ok((held.answer.clone(), Reused::All));
            }
            if let Some((answer, steps)) = self.joined(&held, expr, context, (first, last, step), since)? {
                self.partial.fetch_add(1, Relaxed);
                self.keep(key, expr, context, query, (first, last), revision, &answer);
                return Ok((answer, Reused::Steps(steps)));
            }
        }
        self.missed.fetch_add(1, Relaxed);
        let answer = evaluate(expr, context, query)?;
        self.keep(key, expr, context, query, (first, last), revision, &answer);
        Ok((answer, Reused::Nothing))
    }

    fn find(&self, key: &Key) -> Option<Arc<Held>> {
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        kept.clock += 1;
        let now = kept.clock;
        let entry = kept.answers.get_mut(key)?;
        entry.used = now;
        Some(Arc::clone(&entry.held))
    }

    /// The steps that are there and hold, with the others evaluated; `None` when that is not possible or brings little.
    fn joined(
        &self,
        held: &Held,
        expr: &Expr,
        context: &EvalContext<'_>,
        (first, last, step): (i64, i64, i64),
        since: i64,
    ) -> Result<Option<(Answer, u64)>> {
        let Some(ahead) = held.ahead else { return Ok(None) };
        let valid = match since {
            i64::MAX => i64::MAX,
            since => since.saturating_sub(1).saturating_sub(ahead.max(0)),
        };
        let from = first.max(held.first);
        let to = last.min(held.last).min(valid);
        if to < from {
            return Ok(None);
        }
        let to = last_step(from, to, step);
        let steps = steps_of(from, to, step);
        if steps * WORTH < steps_of(first, last, step) {
            return Ok(None);
        }
        let mut parts = Vec::with_capacity(2);
        let counted = context.budget.used();
        let before = (first < from).then(|| (first, from - step));
        let behind = (to < last).then(|| (to + step, last));
        for (start_ms, end_ms) in before.into_iter().chain(behind) {
            let query = Query::Range {
                start_ms,
                end_ms,
                step_ms: step,
            };
            let part = evaluate(expr, context, query)?;
            if !plain(&part) {
                // the whole is evaluated instead, and counts for itself
                let now = context.budget.used();
                context.budget.uncount(now.0 - counted.0, now.2 - counted.2);
                return Ok(None);
            }
            parts.push(part);
        }
        let mut stats = Stats::default();
        let mut series: Vec<Series> = of(&held.answer).iter().filter_map(|s| within(s, from, to)).collect();
        for part in parts {
            stats.samples_read += part.stats.samples_read;
            stats.samples_total += part.stats.samples_total;
            stats.samples_peak = stats.samples_peak.max(part.stats.samples_peak);
            stats.series = stats.series.max(part.stats.series);
            if let Value::Matrix(new) = part.value {
                join(&mut series, new);
            }
        }
        series.sort_by(|a, b| super::order::compare_labels(&a.labels, &b.labels));
        let answer = Answer {
            value: Value::Matrix(series),
            warnings: Vec::new(),
            infos: Vec::new(),
            stats,
        };
        Ok(Some((answer, steps)))
    }

    #[allow(clippy::too_many_arguments)]
    fn keep(
        &self,
        key: Key,
        expr: &Expr,
        context: &EvalContext<'_>,
        query: Query,
        (first, last): (i64, i64),
        revision: Revision,
        answer: &Answer,
    ) {
        let bytes = bytes_of(answer) + key.text.len();
        // what the source lacks now it may have later
        if bytes > self.bytes_max / SHARE || !answer.warnings.is_empty() {
            return;
        }
        let Ok(plan) = plan::plan(expr, query, context) else {
            return;
        };
        let stepwise = matches!(key.when, When::Every(..)) && plain(answer) && reuse::stepwise(expr, &plan.root);
        let held = Held {
            answer: answer.clone(),
            revision,
            first,
            last,
            latest: reuse::latest(&plan.root, last, context.lookback_ms),
            ahead: stepwise.then(|| reuse::latest(&plan.root, 0, context.lookback_ms)),
        };
        let mut kept = self.kept.lock().unwrap_or_else(|e| e.into_inner());
        kept.clock += 1;
        let entry = Entry {
            held: Arc::new(held),
            bytes,
            used: kept.clock,
        };
        kept.bytes += bytes;
        if let Some(old) = kept.answers.insert(key, entry) {
            kept.bytes -= old.bytes;
        }
        if kept.bytes > self.bytes_max || kept.answers.len() > ANSWERS_MAX {
            kept.make_room(self.bytes_max);
        }
    }
}

impl Kept {
    /// Drops what was not used longest, until a quarter is free.
    fn make_room(&mut self, bytes_max: usize) {
        let mut by_use: Vec<(u64, usize)> = self.answers.values().map(|e| (e.used, e.bytes)).collect();
        by_use.sort_unstable();
        let (mut bytes, mut left) = (self.bytes, by_use.len());
        let mut until = 0;
        for (used, size) in by_use {
            if bytes <= bytes_max / 4 * 3 && left <= ANSWERS_MAX / 4 * 3 {
                break;
            }
            bytes -= size;
            left -= 1;
            until = used;
        }
        self.answers.retain(|_, e| e.used > until);
        self.bytes = bytes;
    }
}

/// Steps from one to another, both included. Times may lie as far apart as there are numbers.
fn steps_of(first: i64, last: i64, step: i64) -> u64 {
    last.abs_diff(first) / step.unsigned_abs() + 1
}

/// The last step that is not behind `end`.
fn last_step(first: i64, end: i64, step: i64) -> i64 {
    first.wrapping_add_unsigned(end.abs_diff(first) / step.unsigned_abs() * step.unsigned_abs())
}

/// Nothing but floats and nothing to say about them.
fn plain(answer: &Answer) -> bool {
    let floats = |s: &Series| s.histograms.is_empty();
    answer.warnings.is_empty() && answer.infos.is_empty() && of(answer).iter().all(floats)
}

fn of(answer: &Answer) -> &[Series] {
    match &answer.value {
        Value::Matrix(series) => series,
        _ => &[],
    }
}

/// The points from one time to another, both included.
fn within(series: &Series, from: i64, to: i64) -> Option<Series> {
    let first = series.at_ms.partition_point(|&t| t < from);
    let end = series.at_ms.partition_point(|&t| t <= to);
    (first < end).then(|| Series {
        labels: series.labels.clone(),
        at_ms: series.at_ms[first..end].to_vec(),
        values: series.values[first..end].to_vec(),
        ..Series::default()
    })
}

/// Adds the points of other times.
fn join(series: &mut Vec<Series>, new: Vec<Series>) {
    let place: HashMap<model::Labels, usize> = series.iter().enumerate().map(|(i, s)| (s.labels.clone(), i)).collect();
    for s in new {
        let Some(&i) = place.get(&s.labels) else {
            series.push(s);
            continue;
        };
        let old = &mut series[i];
        let before = s.at_ms.first() < old.at_ms.first();
        let at = if before { 0 } else { old.at_ms.len() };
        old.at_ms.splice(at..at, s.at_ms);
        old.values.splice(at..at, s.values);
    }
}

/// Bytes of memory that an answer takes.
pub(super) fn bytes_of(answer: &Answer) -> usize {
    const EACH: usize = 160;
    let labels = |l: &model::Labels| l.as_bytes().len() + EACH;
    let notes: usize = answer.infos.iter().map(String::len).sum();
    let value = match &answer.value {
        Value::Scalar { .. } => EACH,
        Value::String { text, .. } => EACH + text.len(),
        Value::Vector(v) => v
            .iter()
            .map(|s| {
                let point = match &s.point {
                    super::super::value::Point::Float(_) => 0,
                    super::super::value::Point::Histogram(h) => h.bytes(),
                };
                labels(&s.labels) + point
            })
            .sum(),
        Value::Matrix(m) => m
            .iter()
            .map(|s| {
                let histograms: usize = s.histograms.iter().map(|h| h.bytes() + 16).sum();
                labels(&s.labels) + s.at_ms.len() * 16 + histograms
            })
            .sum(),
    };
    EACH + notes + value
}
