//! Evaluation over columns: a vector over a range of steps is a row of values per series, range functions slide two
//! pointers over the samples of one series at a time, and aggregations fold each row into their groups at once.

use model::{Budget, BudgetError, SampleSource, SourceError, TenantId};

use super::ast::{Expr, ValueType};
use super::value::Value;

mod aggregate;
mod arith;
mod binary;
mod cache;
mod calls;
mod classic;
mod cost;
mod count_values;
mod dates;
mod engine;
mod extremum;
mod info;
mod instant;
mod labels;
mod matrix;
mod notes;
mod numbers;
mod order;
mod over_time;
mod params;
mod pipeline;
mod plan;
mod rate;
mod resets;
mod result;
mod reuse;
mod select;
mod stages;
mod topk;
mod trace;
mod watched;
mod window;

#[cfg(test)]
mod tests;

pub use cache::{CacheStats, ResultCache, Reused};
pub use trace::{How, Phases, PlanNode, SelectorUse, TEXT_SHOWN_BYTES, Trace, TraceClock};

/// Prometheus' default look-back of instant selectors.
pub const LOOKBACK_MS: i64 = 300_000;
/// Prometheus' default evaluation interval, which is the step of subqueries without one.
pub const SUBQUERY_STEP_MS: i64 = 60_000;
/// Depth of a tree up to which it is evaluated on the caller's stack.
const DEPTH_ON_CALLERS_STACK: usize = 12;
/// Stack of the thread that evaluates deeper trees; the parser bounds their depth.
const DEEP_STACK_BYTES: usize = 64 << 20;

/// What an evaluation may use and how it shall behave.
#[derive(Clone, Copy)]
pub struct EvalContext<'a> {
    pub source: &'a dyn SampleSource,
    pub tenant: TenantId,
    pub budget: &'a Budget,
    /// The text the expression was parsed from: annotations name their place in it. May be empty.
    pub text: &'a str,
    /// How far an instant selector looks back, in ms.
    pub lookback_ms: i64,
    /// Step of subqueries that name none, in ms.
    pub subquery_step_ms: i64,
    /// Threads that read series at once; 1 for none but the caller's.
    pub threads: usize,
    /// Whether counter functions look at start times (Prometheus' feature `use-start-timestamps`).
    pub use_start_times: bool,
    /// Whether [`Stats::samples_per_step`] is filled.
    pub per_step_stats: bool,
    /// Who wants to know what the evaluation does.
    pub trace: Option<&'a Trace>,
}

impl<'a> EvalContext<'a> {
    /// Prometheus' defaults, one thread.
    pub fn new(source: &'a dyn SampleSource, tenant: TenantId, budget: &'a Budget) -> Self {
        EvalContext {
            source,
            tenant,
            budget,
            text: "",
            lookback_ms: LOOKBACK_MS,
            subquery_step_ms: SUBQUERY_STEP_MS,
            threads: 1,
            use_start_times: false,
            per_step_stats: false,
            trace: None,
        }
    }
}

/// When to evaluate, in Unix milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Query {
    Instant {
        at_ms: i64,
    },
    /// At `start_ms`, then every `step_ms` up to `end_ms`.
    Range {
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    },
}

/// A value and what is to be said about it.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    /// Prometheus' wording, with positions when the query's text was given; in order of appearance. What the source
    /// lacked comes first.
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
    pub stats: Stats,
}

/// Warnings, and infos, that an answer over HTTP shows.
const NOTES_SHOWN: usize = 10;

impl Answer {
    /// Bytes of memory that it takes.
    pub fn bytes(&self) -> usize {
        cache::bytes_of(self)
    }

    /// Warnings and infos as Prometheus' API shows them: ten of each, then how many there were besides.
    pub fn notes_for_api(&self) -> (Vec<String>, Vec<String>) {
        (shown(&self.warnings, "warning"), shown(&self.infos, "info"))
    }
}

fn shown(notes: &[String], what: &str) -> Vec<String> {
    let suffix = format!(" more {what} annotations omitted");
    // an evaluation that had very many says so in the last
    let uncounted = notes
        .last()
        .and_then(|last| last.strip_suffix(suffix.as_str())?.parse::<usize>().ok());
    let listed = notes.len() - usize::from(uncounted.is_some());
    let mut out = notes[..listed.min(NOTES_SHOWN)].to_vec();
    let omitted = listed - out.len() + uncounted.unwrap_or(0);
    if omitted > 0 {
        out.push(format!("{omitted}{suffix}"));
    }
    out
}

/// What an evaluation did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stats {
    /// Samples read from the source; a histogram counts as one.
    pub samples_read: u64,
    /// Samples looked at over all steps, as Prometheus counts `totalQueryableSamples`.
    pub samples_total: u64,
    /// Samples held at once.
    pub samples_peak: u64,
    /// Series read from the source.
    pub series: u64,
    /// `samples_total` by step: (Unix milliseconds, samples). Empty unless asked for.
    pub samples_per_step: Vec<(i64, u64)>,
}

/// Why there is no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    pub kind: EvalErrorKind,
    pub message: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EvalErrorKind {
    /// The query itself is wrong; Prometheus' `bad_data`.
    BadData,
    /// The data does not allow it; Prometheus' `execution`.
    Execution,
    /// It wants more than it may have; `execution` too.
    Limit,
    Timeout,
    Cancelled,
    /// The store is not ready; try again.
    Unavailable,
    /// Reading failed.
    Internal,
}

impl EvalError {
    fn execution(message: impl Into<String>) -> Self {
        EvalError {
            kind: EvalErrorKind::Execution,
            message: message.into(),
        }
    }

    fn bad_data(message: impl Into<String>) -> Self {
        EvalError {
            kind: EvalErrorKind::BadData,
            message: message.into(),
        }
    }

    fn limit(message: impl Into<String>) -> Self {
        EvalError {
            kind: EvalErrorKind::Limit,
            message: message.into(),
        }
    }
}

impl From<BudgetError> for EvalError {
    fn from(e: BudgetError) -> Self {
        let (kind, message) = match e {
            BudgetError::Timeout => (
                EvalErrorKind::Timeout,
                "query timed out in expression evaluation".into(),
            ),
            BudgetError::Cancelled => (
                EvalErrorKind::Cancelled,
                "query was canceled in expression evaluation".into(),
            ),
            e => (EvalErrorKind::Limit, e.to_string()),
        };
        EvalError { kind, message }
    }
}

impl From<SourceError> for EvalError {
    fn from(e: SourceError) -> Self {
        match e {
            SourceError::Budget(e) => e.into(),
            SourceError::NotReady(_) => EvalError {
                kind: EvalErrorKind::Unavailable,
                message: format!("expanding series: {e}"),
            },
            e => EvalError {
                kind: EvalErrorKind::Internal,
                message: format!("expanding series: {e}"),
            },
        }
    }
}

type Result<T, E = EvalError> = std::result::Result<T, E>;

/// Evaluates an expression. Deep ones get a thread with a stack of their own.
pub fn evaluate(expr: &Expr, context: &EvalContext<'_>, query: Query) -> Result<Answer> {
    if let Query::Range { step_ms, .. } = query {
        if step_ms <= 0 {
            return Err(EvalError::bad_data(format!(
                "the step is {step_ms} ms: a positive one is right"
            )));
        }
        let ty = expr.value_type();
        if ty != ValueType::Vector && ty != ValueType::Scalar {
            return Err(EvalError::bad_data(format!(
                "invalid expression type \"{}\" for range query, must be Scalar or instant Vector",
                ty.documented()
            )));
        }
    }
    let plan = plan::plan(expr, query, context)?;
    if plan.depth <= DEPTH_ON_CALLERS_STACK {
        return engine::run(&plan, context, query);
    }
    std::thread::scope(|scope| {
        let deep = std::thread::Builder::new()
            .stack_size(DEEP_STACK_BYTES)
            .spawn_scoped(scope, || engine::run(&plan, context, query));
        let lost = |what: String| EvalError {
            kind: EvalErrorKind::Internal,
            message: what,
        };
        match deep {
            Ok(handle) => handle
                .join()
                .unwrap_or_else(|_| Err(lost("unexpected error: the evaluation panicked".into()))),
            Err(e) => Err(lost(format!("no thread to evaluate a deep query: {e}"))),
        }
    })
}
