use std::{
    future::Future,
    pin::Pin,
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
};

use crate::{BusError, Position};

/// The outcome of one publish: a future for those who have an executor, [`Publish::wait`] for those who have a thread.
/// Dropping it does not take the record back.
#[must_use = "only the outcome says whether the record is durable"]
pub struct Publish {
    slot: Arc<Slot>,
}

/// The other end of a [`Publish`]. Dropped without an outcome it means [`BusError::Stopped`].
pub struct Promise {
    slot: Arc<Slot>,
}

#[derive(Default)]
struct Slot {
    state: Mutex<State>,
    done: Condvar,
}

#[derive(Default)]
struct State {
    outcome: Option<Result<Position, BusError>>,
    waker: Option<Waker>,
}

impl Publish {
    pub fn pair() -> (Promise, Publish) {
        let slot = Arc::new(Slot::default());
        (
            Promise {
                slot: Arc::clone(&slot),
            },
            Publish { slot },
        )
    }

    /// Resolved from the start.
    pub fn ready(outcome: Result<Position, BusError>) -> Publish {
        let slot = Slot {
            state: Mutex::new(State {
                outcome: Some(outcome),
                waker: None,
            }),
            done: Condvar::new(),
        };
        Publish { slot: Arc::new(slot) }
    }

    /// Blocks until the outcome is known.
    pub fn wait(self) -> Result<Position, BusError> {
        let mut state = self.slot.lock();
        loop {
            if let Some(outcome) = &state.outcome {
                return outcome.clone();
            }
            state = self.slot.done.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// The outcome when it is known already.
    pub fn outcome(&self) -> Option<Result<Position, BusError>> {
        self.slot.lock().outcome.clone()
    }
}

impl Future for Publish {
    type Output = Result<Position, BusError>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut state = self.slot.lock();
        if let Some(outcome) = &state.outcome {
            return Poll::Ready(outcome.clone());
        }
        match &mut state.waker {
            Some(waker) => waker.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        Poll::Pending
    }
}

impl Promise {
    pub fn complete(self, outcome: Result<Position, BusError>) {
        self.slot.complete(outcome);
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        self.slot.complete(Err(BusError::Stopped));
    }
}

impl Slot {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first outcome counts.
    fn complete(&self, outcome: Result<Position, BusError>) {
        let mut state = self.lock();
        if state.outcome.is_none() {
            state.outcome = Some(outcome);
            let waker = state.waker.take();
            drop(state);
            self.done.notify_all();
            if let Some(waker) = waker {
                waker.wake();
            }
        }
    }
}
