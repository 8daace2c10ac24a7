use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use bus::Position;
use host::{Clock, Host};

/// How often the log tells how far a replay has come.
const TELL_EVERY: Duration = Duration::from_secs(2);
/// Percent from which on the time that is left is estimated.
const SURE_PERCENT: f64 = 2.0;

/// How far the replay of a start has come. Positions count records.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Replay {
    /// Everything up to here was in files before.
    pub from: Position,
    pub applied: Position,
    /// The log's last position when the process started.
    pub target: Position,
    /// Bytes of the log read so far, of those that were there.
    pub bytes: u64,
    pub bytes_total: u64,
    /// What it took so far, or in all.
    pub took: Duration,
}

impl Replay {
    pub fn is_over(&self) -> bool {
        self.applied >= self.target
    }

    /// Records applied.
    pub fn records(&self) -> u64 {
        self.applied.min(self.target).saturating_sub(self.from)
    }

    pub fn records_total(&self) -> u64 {
        self.target.saturating_sub(self.from)
    }

    /// Of the bytes, which tell better than records how much work there is; 100 when it is over, and not before.
    pub fn percent(&self) -> f64 {
        if self.is_over() {
            return 100.0;
        }
        let (done, total) = match self.bytes_total {
            0 => (self.records(), self.records_total()),
            total => (self.bytes.min(total), total),
        };
        (done as f64 * 100.0 / total.max(1) as f64).min(99.9)
    }

    /// About how long it still takes, once that can be told.
    pub fn left(&self) -> Option<Duration> {
        let percent = self.percent();
        (percent >= SURE_PERCENT).then(|| self.took.mul_f64((100.0 - percent) / percent))
    }
}

impl std::fmt::Display for Replay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mb = |bytes: u64| bytes as f64 / 1e6;
        write!(
            f,
            "replaying the log: position {} of {}, {:.1} of {:.1} MB, {:.1} % in {:.1} s",
            self.applied,
            self.target,
            mb(self.bytes),
            mb(self.bytes_total),
            self.percent(),
            self.took.as_secs_f64()
        )?;
        match self.left().filter(|_| !self.is_over()) {
            Some(left) => write!(f, ", about {:.1} s left", left.as_secs_f64()),
            None => Ok(()),
        }
    }
}

/// A replay, as the thread that applies keeps it up to date.
pub(crate) struct Replaying {
    clock: Arc<dyn Clock>,
    from: Position,
    target: Position,
    bytes_total: u64,
    bytes: AtomicU64,
    /// On the monotonic clock.
    began: Duration,
    took: OnceLock<Duration>,
    told: Mutex<Duration>,
}

impl Replaying {
    /// Of the records behind `from` up to `target`, which lie in so many bytes.
    pub(crate) fn new(host: &Host, from: Position, target: Position, bytes_total: u64) -> Replaying {
        let began = host.clock.monotonic();
        let over = OnceLock::new();
        if from >= target {
            let _ = over.set(Duration::ZERO);
        }
        Replaying {
            clock: Arc::clone(&host.clock),
            from,
            target,
            bytes_total: if from < target { bytes_total } else { 0 },
            bytes: AtomicU64::new(0),
            began,
            took: over,
            told: Mutex::new(began),
        }
    }

    pub(crate) fn now(&self, applied: Position) -> Replay {
        Replay {
            from: self.from,
            applied: applied.min(self.target),
            target: self.target,
            bytes: self.bytes.load(Relaxed),
            bytes_total: self.bytes_total,
            took: self.took.get().copied().unwrap_or_else(|| self.passed()),
        }
    }

    fn passed(&self) -> Duration {
        self.clock.monotonic().saturating_sub(self.began)
    }

    /// The last position that a replay is of.
    pub(crate) fn target(&self) -> Position {
        self.target
    }

    pub(crate) fn is_over(&self) -> bool {
        self.took.get().is_some()
    }

    pub(crate) fn begin(&self) {
        if self.took.get().is_none() {
            tracing::info!(
                from = self.from,
                to = self.target,
                bytes = self.bytes_total,
                "replaying the log"
            );
        }
    }

    /// Everything up to this position is applied; `read`: bytes of the log read for it.
    pub(crate) fn reached(&self, applied: Position, read: impl FnOnce() -> u64) {
        if self.took.get().is_some() {
            return;
        }
        let over = applied >= self.target;
        let read = if over {
            self.bytes_total
        } else {
            read().min(self.bytes_total)
        };
        self.bytes.fetch_max(read, Relaxed);
        if over {
            let _ = self.took.set(self.passed());
            tracing::info!(
                records = self.target - self.from,
                bytes = self.bytes_total,
                seconds = seconds(self.passed()),
                "the log is replayed"
            );
            return;
        }
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let now = self.clock.monotonic();
        if now.saturating_sub(*told) >= TELL_EVERY {
            *told = now;
            tracing::info!("{}", self.now(applied));
        }
    }
}

/// To milliseconds.
fn seconds(time: Duration) -> f64 {
    time.as_millis() as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use host::sim::Machine;

    use super::*;

    #[test]
    fn a_replay_tells_how_far_it_is() {
        let machine = Machine::new(1);
        let replay = Replaying::new(&machine.host(), 10, 30, 1000);
        assert_eq!(replay.now(10).percent(), 0.0);
        assert_eq!(replay.now(10).left(), None);
        machine.clock.advance(Duration::from_secs(3));
        replay.reached(15, || 500);
        // what is read of a segment for its definitions only does not count back
        replay.reached(16, || 400);
        let now = replay.now(16);
        assert_eq!((now.records(), now.records_total(), now.bytes), (6, 20, 500));
        assert_eq!((now.percent(), now.left()), (50.0, Some(now.took)));
        assert!(!now.is_over());
        let text = now.to_string();
        assert!(text.contains("position 16 of 30") && text.contains("50.0 %"), "{text}");
        // more came in meanwhile
        replay.reached(29, || 5000);
        assert!(replay.now(29).percent() < 100.0);
        replay.reached(30, || 0);
        let took = replay.now(30).took;
        machine.clock.advance(Duration::from_secs(3));
        replay.reached(31, || 9000);
        let now = replay.now(31);
        assert!(now.is_over());
        assert_eq!(
            (now.applied, now.bytes, now.percent(), now.took),
            (30, 1000, 100.0, took)
        );
    }

    #[test]
    fn without_records_there_is_nothing_to_replay() {
        let machine = Machine::new(1);
        let now = Replaying::new(&machine.host(), 7, 7, 1000).now(7);
        machine.clock.advance(Duration::from_secs(1));
        assert!(now.is_over());
        assert_eq!((now.records_total(), now.bytes_total, now.took), (0, 0, Duration::ZERO));
    }
}
