use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::{Host, Worker as Thread, give_back_memory};
use series::engine::{Engine, Pace};
use tokio::sync::oneshot;

use crate::role::StoreError;

/// How often it is looked whether there is something to merge.
const TICK: Duration = Duration::from_millis(250);
/// After a failure (a full disk, mostly) nothing is tried for so long; twice as long after each further one in a row.
const BACK_OFF: Duration = Duration::from_secs(2);
const BACK_OFF_MAX: Duration = Duration::from_secs(5 * 60);
/// All files are read and checked once in so many seconds: a day, with room for pauses.
const SCRUB_SECONDS: u64 = 18 * 3600;
/// After a round, a short one mostly, nothing is checked for so long.
const SCRUB_REST: Duration = Duration::from_secs(5 * 3600);
/// Bytes a second that are checked at least, and at most at once.
const SCRUB_RATE_MIN: u64 = 64 << 10;
const SCRUB_PIECE: u64 = 16 << 20;
/// Commands that may wait.
const COMMANDS_MAX: usize = 64;
/// Unmerged files at which merging goes as fast as it can: more of them would cost queries more than the haste.
const BACKLOG: usize = 32;

type Reply = oneshot::Sender<Result<(), StoreError>>;

enum Message {
    All(Reply),
    Stop,
}

#[derive(Default)]
struct Counts {
    steps: AtomicU64,
    failures: AtomicU64,
}

/// The thread that merges files, beside the one that seals them.
pub(crate) struct Merges {
    sender: SyncSender<Message>,
    counts: Arc<Counts>,
    stop: Arc<AtomicBool>,
    thread: Mutex<Option<Thread>>,
}

impl Merges {
    /// `bytes_per_second`: read and written together, while samples come in.
    pub(crate) fn start(host: Host, engine: Arc<Engine>, bytes_per_second: u64) -> std::io::Result<Self> {
        let workers = host.workers.clone();
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let counts = Arc::new(Counts::default());
        let stop = Arc::new(AtomicBool::new(false));
        let worker = Worker {
            scrubbed: host.clock.monotonic(),
            pace: Throttle {
                due: Mutex::new(Duration::ZERO),
                host,
                engine: Arc::clone(&engine),
                stop: Arc::clone(&stop),
                bytes_per_second,
            },
            engine,
            counts: Arc::clone(&counts),
        };
        let thread = workers.thread("store-merge", move || worker.run(&receiver))?;
        Ok(Merges {
            sender,
            counts,
            stop,
            thread: Mutex::new(Some(thread)),
        })
    }

    /// Merges all there is, then answers.
    pub(crate) fn all(&self, reply: Reply) {
        let (reply, why) = match self.sender.try_send(Message::All(reply)) {
            Err(TrySendError::Full(Message::All(reply))) => (reply, StoreError::Busy(COMMANDS_MAX)),
            Err(TrySendError::Disconnected(Message::All(reply))) => (reply, StoreError::Stopping),
            _ => return,
        };
        let _ = reply.send(Err(why));
    }

    /// (steps, failures) so far.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.counts.steps.load(Relaxed), self.counts.failures.load(Relaxed))
    }

    /// Gives up the merge that is under way, which changes nothing, and ends the thread; it is waited for at most `within`.
    pub(crate) fn stop(&self, within: Duration) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = &thread {
            thread.ending();
        }
        self.stop.store(true, Relaxed);
        let _ = self.sender.try_send(Message::Stop);
        if let Some(thread) = thread
            && !thread.join_within(within)
        {
            tracing::warn!("a merge does not end; what it wrote is dropped at the next start");
        }
    }
}

/// Holds merging to a rate while samples come in and files do not pile up.
struct Throttle {
    host: Host,
    engine: Arc<Engine>,
    stop: Arc<AtomicBool>,
    bytes_per_second: u64,
    /// On the monotonic clock: when what was merged so far was due.
    due: Mutex<Duration>,
}

impl Pace for Throttle {
    fn goes_on(&self) -> bool {
        !self.stop.load(Relaxed)
    }

    fn merged(&self, bytes: u64) -> bool {
        if self.stop.load(Relaxed) {
            return false;
        }
        let now = self.host.clock.monotonic();
        let mut due = self.due.lock().unwrap_or_else(PoisonError::into_inner);
        let worth = Duration::from_secs_f64(bytes as f64 / self.bytes_per_second.max(1) as f64);
        // what was not used before is not saved up
        *due = (*due).max(now.saturating_sub(worth)) + worth;
        if *due > now && !self.engine.idle() && self.engine.unmerged_files() < BACKLOG {
            self.host.clock.sleep((*due - now).min(TICK));
        }
        true
    }
}

/// How long to wait after so many failures in a row.
fn back_off(failures: u32) -> Duration {
    let doubled = 1u32.checked_shl(failures.saturating_sub(1)).unwrap_or(u32::MAX);
    BACK_OFF.saturating_mul(doubled).min(BACK_OFF_MAX)
}

struct Worker {
    /// When something was checked last.
    scrubbed: Duration,
    engine: Arc<Engine>,
    counts: Arc<Counts>,
    pace: Throttle,
}

impl Worker {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut wait = TICK;
        let mut merged = false;
        // in a row
        let mut failures = 0u32;
        loop {
            match receiver.recv_timeout(wait) {
                Ok(Message::All(reply)) => {
                    let done = self.engine.compact_all_at(&self.pace);
                    self.counts.steps.fetch_add(1, Relaxed);
                    merged = true;
                    let _ = reply.send(match done {
                        _ if self.pace.stop.load(Relaxed) => Err(StoreError::Stopping),
                        Ok(_) => Ok(()),
                        Err(e) => Err(StoreError::Engine(e.to_string())),
                    });
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => return,
                Err(RecvTimeoutError::Timeout) => {}
            }
            if self.pace.stop.load(Relaxed) {
                return;
            }
            self.scrub();
            let step = self.engine.compact_step_at(&self.pace);
            if step.is_ok() {
                failures = 0;
            }
            wait = match step {
                Ok(Some(_)) => {
                    self.counts.steps.fetch_add(1, Relaxed);
                    merged = true;
                    Duration::ZERO // more to do; commands first
                }
                Ok(None) => {
                    // label sets and directories of all that was merged
                    if std::mem::take(&mut merged) {
                        give_back_memory();
                    }
                    TICK
                }
                Err(e) => {
                    self.counts.failures.fetch_add(1, Relaxed);
                    failures += 1;
                    let wait = back_off(failures);
                    tracing::error!(
                        error = %e,
                        failures,
                        seconds = wait.as_secs(),
                        "files could not be merged; what was written of them is gone; it is tried again after these seconds"
                    );
                    wait
                }
            };
        }
    }
}

impl Worker {
    /// Checks what is due since the last time.
    fn scrub(&mut self) {
        let now = self.pace.host.clock.monotonic();
        let passed = now.saturating_sub(self.scrubbed).as_millis() as u64;
        if passed < 1000 {
            return;
        }
        self.scrubbed = now;
        let rate = (self.engine.file_bytes() / SCRUB_SECONDS).max(SCRUB_RATE_MIN);
        let due = (rate.saturating_mul(passed) / 1000).clamp(1, SCRUB_PIECE);
        if self.engine.scrub(due) < due {
            self.scrubbed = now + SCRUB_REST;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use host::sim::Machine;
    use series::engine::EngineSettings;
    use series::table::SeriesTable;

    use super::*;

    #[test]
    fn failures_in_a_row_wait_longer_and_longer() {
        let seconds: Vec<u64> = [1, 2, 3, 8, 9, 40, u32::MAX].map(|n| back_off(n).as_secs()).to_vec();
        assert_eq!(seconds, [2, 4, 8, 256, 300, 300, 300]);
    }

    #[test]
    fn merging_is_held_to_its_rate_while_samples_come_in() {
        let machine = Machine::new(1);
        let table = Arc::new(SeriesTable::new([1; 16]));
        let settings = EngineSettings {
            idle_after_ms: 60_000,
            ..EngineSettings::default()
        };
        let (engine, _) = Engine::open(machine.host(), Path::new("/data"), settings, table).unwrap();
        let pace = Throttle {
            host: machine.host(),
            engine: Arc::new(engine),
            stop: Arc::default(),
            bytes_per_second: 10 << 20,
            due: Mutex::default(),
        };
        let now = || machine.host().clock.monotonic();
        let from = now();
        for _ in 0..100 {
            assert!(pace.merged(1 << 20));
        }
        let took = (now() - from).as_secs_f64();
        assert!((9.5..10.5).contains(&took), "100 MiB at 10 MiB/s took {took} s");
        // idle: at full speed
        machine.clock.advance(Duration::from_secs(100));
        let from = now();
        for _ in 0..100 {
            assert!(pace.merged(1 << 20));
        }
        assert_eq!(now(), from);
        pace.stop.store(true, Relaxed);
        assert!(!pace.merged(1));
    }
}
