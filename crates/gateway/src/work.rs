use std::sync::Arc;

use tokio::sync::Semaphore;

use crate::answer::Refusal;

/// Runs what computes for long on blocking threads, a bounded number at once: the threads of the runtime stay free for
/// everybody else.
#[derive(Clone)]
pub(crate) struct Work {
    places: Arc<Semaphore>,
}

impl Work {
    pub(crate) fn new(at_once: usize) -> Self {
        Work {
            places: Arc::new(Semaphore::new(at_once)),
        }
    }

    /// Runs `work` when its place is free, in the order of asking.
    pub(crate) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Refusal> {
        let place = Arc::clone(&self.places).acquire_owned().await;
        let done = tokio::task::spawn_blocking(move || {
            let _place = place; // kept for as long as the work runs, also when nobody waits for it any more
            work()
        });
        done.await.map_err(|e| {
            tracing::error!(error = %e, "work for a request panicked");
            Refusal::new(
                http::StatusCode::INTERNAL_SERVER_ERROR,
                "internal",
                "the request failed inside the server; its log has more",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test]
    async fn so_many_run_at_once_and_the_runtime_stays_free() {
        let work = Work::new(1);
        let (go, gate) = mpsc::channel::<()>();
        let first = tokio::spawn({
            let work = work.clone();
            async move { work.run(move || gate.recv().is_ok()).await }
        });
        // the runtime has one thread: were it blocked, nothing below would ever run
        while work.places.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let second = tokio::spawn({
            let work = work.clone();
            async move { work.run(|| 2).await }
        });
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        assert!(!second.is_finished());
        go.send(()).unwrap();
        assert!(first.await.unwrap().unwrap());
        assert_eq!(second.await.unwrap().unwrap(), 2);
    }

    #[tokio::test]
    async fn a_panic_is_an_answer_and_frees_its_place() {
        let work = Work::new(1);
        let refused = work.run(|| panic!("as planned")).await.map(|()| 0).unwrap_err();
        assert_eq!(refused.status, http::StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(work.run(|| 1).await.unwrap(), 1);
    }
}
