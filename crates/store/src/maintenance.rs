use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bus::Log;
use host::{Host, Worker as Thread, give_back_memory};
use model::Record;
use series::engine::Engine;
use tokio::sync::oneshot;

use crate::merges::Merges;
use crate::role::StoreError;
use crate::snapshot::{self, Leases, Snapshot};
use crate::{CONSUMER, StoreConfig};

/// How often it is looked whether a seal is due.
const TICK: Duration = Duration::from_millis(250);
/// After a failure (a full disk, mostly) nothing is tried for so long.
const BACK_OFF: Duration = Duration::from_secs(2);
/// How often expiry is looked at.
const EXPIRE_EVERY: Duration = Duration::from_secs(10 * 60);
/// How often it is told that files are kept though the clock says otherwise.
const HELD_TOLD_EVERY: Duration = Duration::from_secs(24 * 3600);
/// Least time between two calls to the system while samples come in.
const GIVE_BACK_EVERY: Duration = Duration::from_secs(30);
/// How often it is looked whether leases of snapshots are over.
const SWEEP_EVERY: Duration = Duration::from_secs(60);
/// Commands that may wait.
const COMMANDS_MAX: usize = 64;

pub(crate) enum Command {
    Flush,
    Compact,
}

enum Message {
    Run(Command, oneshot::Sender<Result<(), StoreError>>),
    Snapshot(String, oneshot::Sender<Result<Snapshot, StoreError>>),
    Stop,
}

/// The thread that seals and expires, on its own pace and on command; another one merges, see [`Merges`].
pub(crate) struct Maintenance {
    merges: Arc<Merges>,
    sender: SyncSender<Message>,
    counts: Arc<Counts>,
    leases: Arc<Leases>,
    thread: Mutex<Option<Thread>>,
}

#[derive(Default)]
struct Counts {
    /// Set before the last message: the queue may have no room for that.
    stop: AtomicBool,
    seals: AtomicU64,
    failures: AtomicU64,
    held: AtomicU64,
}

impl Maintenance {
    pub(crate) fn start(
        host: Host,
        engine: Arc<Engine>,
        log: Arc<dyn Log<Record>>,
        config: &StoreConfig,
        snapshots: PathBuf,
    ) -> std::io::Result<Self> {
        let workers = host.workers.clone();
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        let counts = Arc::new(Counts::default());
        let leases = Arc::new(Leases::default());
        let rate = config.merge_bytes_per_second;
        let merges = Arc::new(Merges::start(host.clone(), Arc::clone(&engine), rate)?);
        let worker = Worker {
            merges: Arc::clone(&merges),
            host,
            engine,
            log,
            counts: Arc::clone(&counts),
            leases: Arc::clone(&leases),
            snapshots,
            sweep_at: Duration::ZERO,
            expire_at: Duration::ZERO,
            give_back_at: Duration::ZERO,
            held_told_at: Duration::ZERO,
        };
        let thread = workers.thread("store-maintain", move || worker.run(&receiver))?;
        Ok(Maintenance {
            merges,
            sender,
            counts,
            leases,
            thread: Mutex::new(Some(thread)),
        })
    }

    pub(crate) async fn run(&self, command: Command) -> Result<(), StoreError> {
        let (reply, answer) = oneshot::channel();
        enqueue(&self.sender, Message::Run(command, reply))?;
        answer.await.unwrap_or(Err(StoreError::Stopping))
    }

    pub(crate) async fn snapshot(&self, name: String) -> Result<Snapshot, StoreError> {
        let (reply, answer) = oneshot::channel();
        enqueue(&self.sender, Message::Snapshot(name, reply))?;
        answer.await.unwrap_or(Err(StoreError::Stopping))
    }

    pub(crate) fn leases(&self) -> &Leases {
        &self.leases
    }

    /// (seals, compaction steps, failures) so far.
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let c = &self.counts;
        let (merges, failed) = self.merges.counts();
        (c.seals.load(Relaxed), merges, c.failures.load(Relaxed) + failed)
    }

    /// Files that are past their time by the clock alone.
    pub(crate) fn held(&self) -> u64 {
        self.counts.held.load(Relaxed)
    }

    /// Gives up merging, asks for a last seal and waits for both, each at most `within`.
    pub(crate) fn stop(&self, within: Duration) {
        let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = &thread {
            thread.ending();
        }
        self.merges.stop(within);
        self.counts.stop.store(true, Relaxed);
        // wakes it; where there is no room it is awake
        let _ = self.sender.try_send(Message::Stop);
        if let Some(thread) = thread
            && !thread.join_within(within)
        {
            tracing::warn!("a seal is under way; the last samples are replayed at the next start");
        }
    }
}

fn enqueue(sender: &SyncSender<Message>, message: Message) -> Result<(), StoreError> {
    sender.try_send(message).map_err(|e| match e {
        TrySendError::Full(_) => StoreError::Busy(COMMANDS_MAX),
        TrySendError::Disconnected(_) => StoreError::Stopping,
    })
}

struct Worker {
    merges: Arc<Merges>,
    host: Host,
    engine: Arc<Engine>,
    log: Arc<dyn Log<Record>>,
    counts: Arc<Counts>,
    leases: Arc<Leases>,
    /// Where they are.
    snapshots: PathBuf,
    /// On the monotonic clock: the other may jump.
    sweep_at: Duration,
    /// Likewise.
    expire_at: Duration,
    /// Likewise.
    give_back_at: Duration,
    /// Likewise.
    held_told_at: Duration,
}

impl Worker {
    fn run(mut self, receiver: &Receiver<Message>) {
        let mut wait = TICK;
        loop {
            let message = receiver.recv_timeout(wait);
            // who waits is told by the end of his channel
            let message = match self.counts.stop.load(Relaxed) {
                true => Ok(Message::Stop),
                false => message,
            };
            match message {
                Ok(Message::Run(command, reply)) => {
                    let done = self.seal();
                    self.log.drop_spares();
                    match (done, command) {
                        (Ok(()), Command::Compact) => self.merges.all(reply),
                        (done, _) => drop(reply.send(done)),
                    }
                }
                Ok(Message::Snapshot(name, reply)) => {
                    let _ = reply.send(self.snapshot(&name));
                }
                Ok(Message::Stop) | Err(RecvTimeoutError::Disconnected) => {
                    // the next start then has nothing to replay; what cannot be sealed now is in the log
                    if let Err(e) = self.seal() {
                        tracing::warn!(error = %e, "the last samples were not sealed; the next start replays them");
                    }
                    return;
                }
                Err(RecvTimeoutError::Timeout) => {}
            }
            wait = match self.tick() {
                Ok(true) => Duration::ZERO, // more to do; commands first
                Ok(false) => TICK,
                Err(e) => {
                    self.counts.failures.fetch_add(1, Relaxed);
                    tracing::error!(error = %e, "the store could not write; it will try again");
                    BACK_OFF
                }
            };
        }
    }

    /// One bounded piece of work; true when there may be more.
    fn tick(&mut self) -> Result<bool, StoreError> {
        let now_ms = self.host.clock.now_ms();
        self.engine.sweep();
        self.engine.bound_table();
        if let Some(reason) = self.engine.seal_due() {
            tracing::debug!(?reason, "sealing");
            self.seal()?;
            let monotonic = self.host.clock.monotonic();
            if monotonic >= self.give_back_at || self.engine.idle() {
                self.give_back_at = monotonic + GIVE_BACK_EVERY;
                give_back_memory();
            }
            return Ok(true);
        }
        let monotonic = self.host.clock.monotonic();
        if monotonic >= self.sweep_at {
            self.sweep_at = monotonic + SWEEP_EVERY;
            self.leases.sweep(&*self.host.files, &self.snapshots, monotonic);
        }
        if monotonic >= self.expire_at {
            self.expire_at = monotonic + EXPIRE_EVERY;
            let gone = self
                .engine
                .expire(now_ms)
                .map_err(|e| StoreError::Engine(e.to_string()))?;
            self.tell_held(gone.held, monotonic);
            let done = self.engine.retire(self.log.durable());
            if done.retired + done.freed > 0 {
                tracing::info!(
                    done.retired,
                    done.freed,
                    "series that are not written any more left memory"
                );
            }
        }
        Ok(false)
    }

    fn snapshot(&self, name: &str) -> Result<Snapshot, StoreError> {
        let (files, base) = (&*self.host.files, &self.snapshots);
        snapshot::has_room(files, base)?;
        self.seal()?;
        let made = snapshot::make(&self.host, &self.engine, base, name)?;
        self.leases.renew(name, self.host.clock.monotonic(), || true);
        Ok(made)
    }

    /// Says once a day, and so a day ahead of each day of samples that goes, that files are past their time by the clock alone.
    fn tell_held(&mut self, held: usize, monotonic: Duration) {
        self.counts.held.store(held as u64, Relaxed);
        if held == 0 || monotonic < self.held_told_at {
            return;
        }
        self.held_told_at = monotonic + HELD_TOLD_EVERY;
        tracing::warn!(
            files = held,
            "the clock says that these files are past their retention, and nothing else does: it may have jumped ahead. They \
             stay; a day of them goes each day. If the clock is wrong, put it right; if it is right, set \
             store.clock_confirmed to today's date"
        );
    }

    fn seal(&self) -> Result<(), StoreError> {
        self.engine.seal().map_err(|e| StoreError::Engine(e.to_string()))?;
        self.counts.seals.fetch_add(1, Relaxed);
        if let Err(e) = self.log.commit(CONSUMER, self.engine.sealed()) {
            tracing::error!(error = %e, "the samples log did not take the sealed position");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_command_more_than_may_wait_is_told_so() {
        let (sender, receiver) = sync_channel(COMMANDS_MAX);
        for _ in 0..COMMANDS_MAX {
            enqueue(&sender, Message::Run(Command::Flush, oneshot::channel().0)).unwrap();
        }
        let over = enqueue(&sender, Message::Run(Command::Flush, oneshot::channel().0)).unwrap_err();
        assert!(matches!(over, StoreError::Busy(COMMANDS_MAX)), "{over}");
        assert!(over.to_string().starts_with("64 flushes"), "{over}");
        drop(receiver);
        let over = enqueue(&sender, Message::Run(Command::Flush, oneshot::channel().0)).unwrap_err();
        assert!(matches!(over, StoreError::Stopping), "{over}");
    }
}
