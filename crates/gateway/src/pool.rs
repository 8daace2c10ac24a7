use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::time::Duration;

use model::{Budget, StopReason};
use tokio::sync::Semaphore;

use crate::answer::Refusal;
use crate::config::QueryConfig;

/// Light queries that run at once; they take microseconds to milliseconds.
const LIGHT_AT_ONCE: usize = 16;

/// Runs evaluations on blocking threads, in two lanes, so that many heavy queries cannot make a light one wait.
pub(crate) struct QueryPool {
    light: Arc<Semaphore>,
    heavy: Arc<Semaphore>,
    waiting: AtomicUsize,
    waiting_max: usize,
}

/// Which lane a query goes to, judged by what can be known before it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    Light,
    Heavy,
}

/// Stops the evaluation when the client goes away: dropped with the request's future.
struct StopOnDrop(Arc<Budget>);

impl Drop for StopOnDrop {
    fn drop(&mut self) {
        self.0.stop(StopReason::Cancelled);
    }
}

impl QueryPool {
    pub(crate) fn new(config: &QueryConfig) -> Self {
        let cores = std::thread::available_parallelism().map_or(2, usize::from);
        let heavy = if config.heavy_at_once == 0 {
            cores
        } else {
            config.heavy_at_once as usize
        };
        QueryPool {
            light: Arc::new(Semaphore::new(LIGHT_AT_ONCE)),
            heavy: Arc::new(Semaphore::new(heavy)),
            waiting: AtomicUsize::new(0),
            waiting_max: config.waiting_max as usize,
        }
    }

    /// Runs `work` when its lane has room. The budget is stopped at `timeout` (waiting included) and when the caller
    /// is dropped; `work` must look at it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        weight: Weight,
        budget: Arc<Budget>,
        timeout: Duration,
        work: impl FnOnce(&Budget) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let lane = match weight {
            Weight::Light => &self.light,
            Weight::Heavy => &self.heavy,
        };
        let guard = StopOnDrop(Arc::clone(&budget));
        let deadline = tokio::time::Instant::now() + timeout;
        let slot = match Arc::clone(lane).try_acquire_owned() {
            Ok(slot) => slot,
            Err(_) => {
                let waits = Waiting::enter(&self.waiting, self.waiting_max)?;
                let slot = tokio::time::timeout_at(deadline, Arc::clone(lane).acquire_owned()).await;
                drop(waits);
                slot.map_err(|_| busy())?.map_err(|_| busy())?
            }
        };
        let for_work = Arc::clone(&budget);
        let mut task = tokio::task::spawn_blocking(move || {
            let _slot = slot; // kept for as long as the work runs, also when nobody waits for it any more
            work(&for_work)
        });
        let joined = tokio::select! {
            joined = &mut task => Some(joined),
            _ = tokio::time::sleep_until(deadline) => {
                budget.stop(StopReason::Timeout);
                let _ = task.await;
                None
            }
        };
        drop(guard); // the work has ended: stopping it now changes nothing
        let Some(joined) = joined else {
            return Err(timed_out(timeout));
        };
        joined.map_err(|e| {
            tracing::error!(error = %e, "a query panicked");
            Refusal::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the query failed inside the server; its log has more",
            )
        })
    }
}

pub(crate) fn timed_out(after: Duration) -> Refusal {
    Refusal::new(
        http::StatusCode::SERVICE_UNAVAILABLE,
        "timeout",
        format!("query timed out after {after:?} (parameter timeout, or query.timeout_seconds)"),
    )
}

fn busy() -> Refusal {
    Refusal::new(
        http::StatusCode::SERVICE_UNAVAILABLE,
        "timeout",
        "too many queries run already (query.heavy_at_once); try again",
    )
}

struct Waiting<'a>(&'a AtomicUsize);

impl<'a> Waiting<'a> {
    fn enter(count: &'a AtomicUsize, max: usize) -> Result<Self, Refusal> {
        if count.fetch_add(1, Relaxed) >= max {
            count.fetch_sub(1, Relaxed);
            return Err(Refusal::new(
                http::StatusCode::SERVICE_UNAVAILABLE,
                "timeout",
                format!("{max} queries wait already (query.waiting_max); try again"),
            ));
        }
        Ok(Waiting(count))
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}
