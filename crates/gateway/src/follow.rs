use std::sync::{Arc, OnceLock};
use std::time::Duration;

use host::Clock;
use model::{Budget, TenantId};
use query::promql::eval::{Query, SelectorUse, Trace};
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::parts::App;
use crate::pool::Weight;
use crate::read::Evaluation;
use crate::slow::TEXT_BYTES_MAX;

/// Bytes of an error's text in the log of slow queries.
const ERROR_BYTES_MAX: usize = 500;

/// One query from its asking to its end: what it may use, what it did, and the line in the log if it was slow.
pub(crate) struct Followed {
    app: Arc<App>,
    trace: Arc<Trace>,
    budget: Arc<Budget>,
    tenant: TenantId,
    text: String,
    query: Query,
    /// Who asked.
    asker: String,
    asked: Duration,
    parsed: Duration,
    turn: Turn,
    ended: bool,
}

/// When a query's turn came.
#[derive(Clone)]
pub(crate) struct Turn {
    clock: Arc<dyn Clock>,
    began: Arc<OnceLock<Duration>>,
}

impl Turn {
    pub(crate) fn comes(&self) {
        let _ = self.began.set(self.clock.monotonic());
    }

    /// How long something took, when it did not fail.
    pub(crate) fn times<E>(&self, work: impl FnOnce() -> Result<(), E>) -> Result<Duration, E> {
        let began = self.clock.monotonic();
        work()?;
        Ok(self.clock.monotonic().saturating_sub(began))
    }
}

/// How long each phase of a query took.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Timings {
    pub(crate) parsed: Duration,
    pub(crate) queued: Duration,
    /// Of the evaluation: finding the series, sorting the result, and all the rest.
    pub(crate) prepared: Duration,
    pub(crate) sorted: Duration,
    pub(crate) inner: Duration,
    pub(crate) evaluated: Duration,
    pub(crate) serialised: Duration,
}

impl Followed {
    /// The same query, begun anew in another lane.
    pub(crate) fn again(mut self, weight: Weight, explain: bool) -> Self {
        let for_trace = Arc::clone(&self.turn.clock);
        self.trace = Arc::new(Trace::new(Arc::new(move || for_trace.monotonic()), explain));
        self.budget = self.app.pool.budget(weight, self.tenant);
        self.turn.began = Arc::default();
        self
    }

    /// `parsed`: how long reading the expression took; `explain`: whether the plan shall be told.
    pub(crate) fn of(
        app: &Arc<App>,
        weight: Weight,
        evaluation: &Evaluation,
        asker: String,
        parsed: Duration,
        explain: bool,
    ) -> Self {
        let clock = Arc::clone(&app.parts.host.clock);
        let for_trace = Arc::clone(&clock);
        let asked = clock.monotonic();
        Followed {
            trace: Arc::new(Trace::new(Arc::new(move || for_trace.monotonic()), explain)),
            budget: app.pool.budget(weight, evaluation.tenant),
            app: Arc::clone(app),
            tenant: evaluation.tenant,
            text: evaluation.text.clone(),
            query: evaluation.query,
            asker,
            asked,
            parsed,
            turn: Turn {
                clock,
                began: Arc::default(),
            },
            ended: false,
        }
    }

    pub(crate) fn trace(&self) -> Arc<Trace> {
        Arc::clone(&self.trace)
    }

    pub(crate) fn budget(&self) -> Arc<Budget> {
        Arc::clone(&self.budget)
    }

    pub(crate) fn turn(&self) -> Turn {
        self.turn.clone()
    }

    /// Timings that can be told when the evaluation ended: asked by who holds the turn.
    pub(crate) fn timer(&self) -> impl Fn() -> Timings + Send + 'static {
        let (turn, trace, asked, parsed) = (self.turn(), self.trace(), self.asked, self.parsed);
        move || {
            let phases = trace.phases();
            let began = turn.began.get().copied().unwrap_or(asked);
            let evaluated = turn.clock.monotonic().saturating_sub(began);
            Timings {
                parsed,
                queued: began.saturating_sub(asked),
                prepared: phases.prepared,
                sorted: phases.sorted,
                inner: evaluated.saturating_sub(phases.prepared).saturating_sub(phases.sorted),
                evaluated,
                serialised: Duration::ZERO,
            }
        }
    }

    /// A query that ran out of time names the selector that read most.
    pub(crate) fn blamed(&self, mut refused: Refusal) -> Refusal {
        if refused.kind == "timeout"
            && let Some(selector) = self.trace.costliest()
        {
            let samples = selector.reads.chunk_samples + selector.reads.head_samples + selector.reads.rollup_samples;
            refused.message.push_str(&format!(
                "; most was read for selector {}: {samples} samples of {} series",
                selector.text, selector.series
            ));
        }
        refused
    }

    /// The query has ended, with a refusal or well.
    pub(crate) fn ended(mut self, refused: Option<&Refusal>) {
        let outcome = match refused {
            None => ("ok", String::new()),
            Some(r) => (r.kind, r.message.clone()),
        };
        self.note(outcome);
    }

    fn note(&mut self, (outcome, error): (&str, String)) {
        self.ended = true;
        let now = self.turn.clock.monotonic();
        let took = now.saturating_sub(self.asked) + self.parsed;
        if !self.app.slow.wants(took) {
            return;
        }
        let queued = self.turn.began.get().unwrap_or(&now).saturating_sub(self.asked);
        let (samples, _, series) = self.budget.used();
        let now_ms = self.app.parts.host.clock.now_ms();
        let seconds = |ms: i64| ms as f64 / 1000.0;
        let mut line = json!({
            "time": jiff::Timestamp::from_millisecond(now_ms).map(|t| t.to_string()).unwrap_or_default(),
            "tenant": self.tenant.0,
            "query": shortened(&self.text, TEXT_BYTES_MAX),
            "durationSeconds": took.as_secs_f64(),
            "queueSeconds": queued.as_secs_f64(),
            "samples": samples,
            "series": series,
            "peakBytes": self.budget.bytes_peak(),
            "outcome": outcome,
            "asker": self.asker,
        });
        match self.query {
            Query::Instant { at_ms } => line["at"] = json!(seconds(at_ms)),
            Query::Range {
                start_ms,
                end_ms,
                step_ms,
            } => {
                line["start"] = json!(seconds(start_ms));
                line["end"] = json!(seconds(end_ms));
                line["step"] = json!(seconds(step_ms));
            }
        }
        if !error.is_empty() {
            line["error"] = json!(shortened(&error, ERROR_BYTES_MAX));
        }
        if let Some(selector) = self.trace.costliest() {
            line["costliest"] = costliest(&selector);
        }
        self.app.slow.note(self.tenant, line);
    }
}

impl Drop for Followed {
    fn drop(&mut self) {
        if !self.ended {
            self.note(("canceled", "nobody waits for the answer any more".into()));
        }
    }
}

fn costliest(selector: &SelectorUse) -> Value {
    let r = &selector.reads;
    json!({
        "selector": selector.text,
        "series": selector.series,
        "samples": r.chunk_samples + r.head_samples + r.rollup_samples,
        "bytes": r.chunk_bytes,
    })
}

fn shortened(text: &str, bytes_max: usize) -> String {
    if text.len() <= bytes_max {
        return text.to_owned();
    }
    let mut end = bytes_max;
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    format!("{}…", &text[..end])
}
