//! What changes while the process runs: the configuration that is read again, and the end of a worker.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, PoisonError, RwLock};

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use tokio::sync::oneshot;

use crate::answer::{Refusal, text};
use crate::parts::{App, Gateway};
use crate::{Token, admin};

/// A request to read the configuration again; the answer says what was taken over, or what is wrong.
pub type ReloadAsk = oneshot::Sender<Result<String, String>>;

/// How reloads went.
pub(crate) struct Reloads {
    /// The configuration in force, without secrets.
    yaml: RwLock<String>,
    failed_last: AtomicBool,
    done_at_ms: AtomicI64,
    done: AtomicU64,
    failed: AtomicU64,
}

/// Reloads so far, the start counting as a good one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ReloadCounts {
    pub(crate) last_good: bool,
    pub(crate) done_at_ms: i64,
    pub(crate) done: u64,
    pub(crate) failed: u64,
}

impl Reloads {
    pub(crate) fn new(yaml: String, started_ms: i64) -> Self {
        Reloads {
            yaml: RwLock::new(yaml),
            failed_last: AtomicBool::new(false),
            done_at_ms: AtomicI64::new(started_ms),
            done: AtomicU64::new(0),
            failed: AtomicU64::new(0),
        }
    }

    pub(crate) fn yaml(&self) -> String {
        self.yaml.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn counts(&self) -> ReloadCounts {
        ReloadCounts {
            last_good: !self.failed_last.load(Relaxed),
            done_at_ms: self.done_at_ms.load(Relaxed),
            done: self.done.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}

impl Gateway {
    /// A reload went well, or changed nothing.
    pub fn note_reload(&self, good: bool) {
        let reloads = &self.app.reloads;
        reloads.failed_last.store(!good, Relaxed);
        if good {
            reloads.done_at_ms.store(self.app.parts.host.clock.now_ms(), Relaxed);
            reloads.done.fetch_add(1, Relaxed);
        } else {
            reloads.failed.fetch_add(1, Relaxed);
        }
    }

    /// What the API shows as the configuration in force.
    pub fn show_config(&self, yaml: String) {
        *self.app.reloads.yaml.write().unwrap_or_else(PoisonError::into_inner) = yaml;
    }

    /// From now on only this token lets in; false when it is the one in force, or none is needed.
    pub fn replace_token(&self, token: &Token) -> bool {
        self.app.auth.replace_token(token)
    }

    /// Files of lines are opened anew, for whoever has moved them away.
    pub fn reopen_logs(&self) {
        self.app.slow.reopen();
    }
}

/// As Prometheus has it with `--web.enable-lifecycle`; whoever may do admin requests may do this.
pub(crate) async fn reload(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let Some(asks) = &app.parts.reload else {
        return Err(Refusal::not_found("this process reads no configuration"));
    };
    let (answer, answered) = oneshot::channel();
    asks.try_send(answer)
        .map_err(|_| Refusal::unavailable("other reloads are under way, or the server is stopping; try again"))?;
    match answered.await {
        Ok(Ok(done)) => Ok(text(StatusCode::OK, format!("{done}\n"))),
        Ok(Err(wrong)) => Err(Refusal::new(
            StatusCode::INTERNAL_SERVER_ERROR,
            "internal",
            format!("failed to reload config: {wrong}"),
        )),
        Err(_) => Err(Refusal::unavailable("the server is stopping")),
    }
}

/// Why the process cannot serve any more: a worker has died, and the rest is stopping. Only its name is told, for
/// anybody may ask.
pub(crate) fn dead(app: &App) -> Option<Refusal> {
    let death = app.parts.host.workers.deaths().into_iter().next()?;
    let what = format!(
        "the worker {} has died; the server is stopping, its log says why",
        death.worker
    );
    Some(Refusal::unavailable(what))
}

/// 200 as long as the process serves.
pub(crate) async fn live(State(app): State<Arc<App>>) -> Response {
    match dead(&app) {
        Some(refused) => refused.into_response(),
        None => text(StatusCode::OK, "ok\n"),
    }
}

/// 200 when queries are answered in full.
pub(crate) async fn ready(State(app): State<Arc<App>>) -> Response {
    match dead(&app) {
        Some(refused) => refused.into_response(),
        None => admin::ready(State(app)).await,
    }
}
