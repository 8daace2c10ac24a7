use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use model::{Budget, SharedBytes, StopReason, TenantId};

use crate::answer::Refusal;
use crate::config::QueryConfig;
use crate::turns::{Entered, LANES, Turns};

/// Light queries that run at once; they take microseconds to milliseconds.
const LIGHT_AT_ONCE: usize = 16;
/// Series, samples and bytes up to which a query is light: so many take some tens of milliseconds.
const LIGHT_SERIES_MAX: u64 = 5_000;
const LIGHT_SAMPLES_MAX: u64 = 100_000;
const LIGHT_BYTES_MAX: u64 = 32 << 20;
/// Remote reads and federations that run at once: the former may wait for their readers, so they have a lane of their own.
const BULK_AT_ONCE: usize = 8;

/// Runs evaluations on blocking threads, in lanes, so that many heavy queries cannot make a light one wait; and
/// tenant by tenant, so that neither can another tenant's.
pub(crate) struct QueryPool {
    turns: Arc<Turns>,
    config: QueryConfig,
    /// What each tenant's queries hold.
    held: Mutex<BTreeMap<TenantId, Arc<SharedBytes>>>,
}

/// Which lane a query goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weight {
    /// What wants more than light ones may have is begun anew among the heavy ones. The index mostly tells before
    /// anything is read.
    Light,
    Heavy,
    /// Hands over more than it computes, as fast as its reader takes it.
    Bulk,
    /// Panels of live pages.
    Live,
}

impl Weight {
    fn lane(self) -> usize {
        match self {
            Weight::Light => 0,
            Weight::Heavy => 1,
            Weight::Bulk => 2,
            Weight::Live => 3,
        }
    }
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
        let lanes = [LIGHT_AT_ONCE, heavy, BULK_AT_ONCE, cores];
        QueryPool {
            turns: Arc::new(Turns::new(
                lanes,
                config.tenant_at_once as usize,
                config.waiting_max as usize,
            )),
            config: config.clone(),
            held: Mutex::default(),
        }
    }

    /// What one query of a tenant may use in a lane.
    pub(crate) fn budget(&self, weight: Weight, tenant: TenantId) -> Arc<Budget> {
        let q = &self.config;
        let light = |of_all: u64, of_light: u64| {
            if weight == Weight::Light {
                of_all.min(of_light)
            } else {
                of_all
            }
        };
        let mut held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        let of_tenant = held
            .entry(tenant)
            .or_insert_with(|| Arc::new(SharedBytes::new(q.tenant_bytes_max)));
        let own = Budget::new(
            light(q.samples_max, LIGHT_SAMPLES_MAX),
            light(q.bytes_max, LIGHT_BYTES_MAX),
            light(q.series_max, LIGHT_SERIES_MAX),
        );
        Arc::new(own.within(Arc::clone(of_tenant)))
    }

    /// Threads for a query that runs now: those of a lane share the cores, so that they leave something to the others.
    pub(crate) fn threads(&self, weight: Weight, long: bool) -> usize {
        match weight {
            Weight::Light if !long => 1,
            Weight::Live => 1,
            Weight::Light | Weight::Heavy | Weight::Bulk => {
                (crate::read::threads() / self.turns.running(weight.lane()).max(1)).max(1)
            }
        }
    }

    /// (running, waiting) in each lane, by name.
    pub(crate) fn lanes(&self) -> [(&'static str, usize, usize); LANES] {
        let names = [
            ("light", Weight::Light),
            ("heavy", Weight::Heavy),
            ("bulk", Weight::Bulk),
            ("live", Weight::Live),
        ];
        names.map(|(name, weight)| {
            let lane = weight.lane();
            (name, self.turns.running(lane), self.turns.waiting(lane))
        })
    }

    /// Bytes that all queries hold now.
    pub(crate) fn held_bytes(&self) -> u64 {
        let held = self.held.lock().unwrap_or_else(PoisonError::into_inner);
        held.values().map(|h| h.taken()).sum()
    }

    /// Runs `work` when it is the tenant's turn in its lane. The budget is stopped at `timeout` (waiting included) and when the caller
    /// is dropped; `work` must look at it.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        weight: Weight,
        tenant: TenantId,
        budget: Arc<Budget>,
        timeout: Duration,
        work: impl FnOnce(&Budget) -> T + Send + 'static,
    ) -> Result<T, Refusal> {
        let lane = weight.lane();
        let guard = StopOnDrop(Arc::clone(&budget));
        let deadline = tokio::time::Instant::now() + timeout;
        let turn = match self.turns.enter(lane, tenant) {
            Entered::Now(turn) => turn,
            Entered::Full => {
                let max = self.config.waiting_max;
                return Err(busy(format!(
                    "{max} queries wait already (query.waiting_max); try again"
                )));
            }
            Entered::Later(turn) => {
                let come = tokio::time::timeout_at(deadline, turn).await;
                come.ok()
                    .and_then(Result::ok)
                    .ok_or_else(|| self.no_turn(weight, tenant))?
            }
        };
        let for_work = Arc::clone(&budget);
        let mut task = tokio::task::spawn_blocking(move || {
            let _turn = turn; // kept for as long as the work runs, also when nobody waits for it any more
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

impl QueryPool {
    fn no_turn(&self, weight: Weight, tenant: TenantId) -> Refusal {
        if self.turns.tenant_is_full(weight.lane(), tenant) {
            let max = self.config.tenant_at_once;
            return busy(format!(
                "{max} queries of this tenant run already (query.tenant_at_once); try again"
            ));
        }
        busy(match weight {
            Weight::Light => format!("{LIGHT_AT_ONCE} queries run already; try again"),
            Weight::Heavy => "too many queries run already (query.heavy_at_once); try again".to_owned(),
            Weight::Live => "too many panels are evaluated already; try again".to_owned(),
            Weight::Bulk => format!("{BULK_AT_ONCE} remote reads and federations run already; try again"),
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

fn busy(message: impl Into<String>) -> Refusal {
    Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, "timeout", message)
}
