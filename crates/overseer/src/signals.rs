use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;

use crate::Failure;

/// Signals that wait to be looked at: a second one of a kind adds nothing to the first.
const WAITING: usize = 8;

/// What a signal asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// An orderly end; the signal's name.
    Stop(&'static str),
    /// The configuration is to be read again.
    Reload,
}

/// Every signal whose default is to end the process, but for those that no program can or should outlive.
pub(crate) struct Signals {
    asked: mpsc::Receiver<Asked>,
}

impl Signals {
    /// To be called on the runtime, before anything is written, so that no signal is lost.
    pub(crate) fn catch() -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot catch signals: {e}")));
        let (sender, asked) = mpsc::channel(WAITING);
        for (kind, what) in [
            (SignalKind::terminate(), Asked::Stop("SIGTERM")),
            (SignalKind::interrupt(), Asked::Stop("SIGINT")),
            // what may be computed is used up; the hard limit ends the process without a word
            (SignalKind::from_raw(host::CPU_TIME_SIGNAL), Asked::Stop("SIGXCPU")),
            (SignalKind::hangup(), Asked::Reload),
        ] {
            let (mut signals, sender) = (catch(kind)?, sender.clone());
            tokio::spawn(async move {
                while signals.recv().await.is_some() {
                    let _ = sender.try_send(what);
                }
            });
        }
        for number in host::signals_without_meaning() {
            // its handler stays, and does nothing
            drop(catch(SignalKind::from_raw(number))?);
        }
        Ok(Signals { asked })
    }

    /// Those of a test.
    #[cfg(test)]
    pub(crate) fn given(asked: mpsc::Receiver<Asked>) -> Self {
        Signals { asked }
    }

    /// The next signal that asks for something.
    pub(crate) async fn next(&mut self) -> Asked {
        match self.asked.recv().await {
            Some(asked) => asked,
            None => std::future::pending().await,
        }
    }
}
