use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use super::Result;
use super::matrix::Steps;
use super::pipeline::{Rows, Scratch};
use super::stages::Stage;
use super::trace::Trace;

/// Rows of an explained query: what is done to each is timed.
pub(super) struct Watched<'a> {
    rows: &'a dyn Rows,
    stages: &'a [Stage],
    steps: Steps,
    trace: &'a Trace,
    /// Of the rows themselves, then of each stage.
    spent: Vec<Spent>,
}

#[derive(Default)]
struct Spent {
    nanoseconds: AtomicU64,
    rows: AtomicU64,
}

impl<'a> Watched<'a> {
    pub(super) fn new(rows: &'a dyn Rows, stages: &'a [Stage], steps: &Steps, trace: &'a Trace) -> Self {
        Watched {
            rows,
            stages,
            steps: *steps,
            trace,
            spent: (0..=stages.len()).map(|_| Spent::default()).collect(),
        }
    }

    /// (nanoseconds, rows that came out) of the rows themselves, then of each stage.
    pub(super) fn spent(&self) -> impl Iterator<Item = (u64, u64)> {
        self.spent
            .iter()
            .map(|s| (s.nanoseconds.load(Relaxed), s.rows.load(Relaxed)))
    }

    fn count(&self, at: usize, since: Duration, any: bool) -> Duration {
        let now = self.trace.now();
        let spent = &self.spent[at];
        spent
            .nanoseconds
            .fetch_add(now.saturating_sub(since).as_nanos() as u64, Relaxed);
        spent.rows.fetch_add(u64::from(any), Relaxed);
        now
    }
}

impl Rows for Watched<'_> {
    fn len(&self) -> usize {
        self.rows.len()
    }

    fn fill(&self, index: usize, scratch: &mut Scratch) -> Result<bool> {
        let began = self.trace.now();
        let any = self.rows.fill(index, scratch)?;
        let mut since = self.count(0, began, any);
        if !any {
            return Ok(false);
        }
        for (i, stage) in self.stages.iter().enumerate() {
            stage.apply(&mut scratch.row, &self.steps, &mut scratch.notes);
            since = self.count(i + 1, since, !scratch.row.is_empty());
        }
        Ok(!scratch.row.is_empty())
    }

    fn scratch_bytes(&self) -> usize {
        self.rows.scratch_bytes()
    }

    fn warnings(&self) -> Vec<String> {
        self.rows.warnings()
    }

    fn infos(&self) -> Vec<String> {
        self.rows.infos()
    }
}
