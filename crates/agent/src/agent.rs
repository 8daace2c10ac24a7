use std::{
    collections::{HashMap, HashSet},
    pin::Pin,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use host::Host;
use model::{Labels, MetadataRow, stale_nan};
use tokio::{sync::broadcast, time::MissedTickBehavior};

use crate::{
    COLLECTORS, Collector, Config, ConfigError, Context, Delta, Observation, ProcRoot, Snapshot, collectors::State,
    config::Exclusions, observation::Recorder, ring::Ring,
};

/// Seconds that the ring holds at an interval of one second; as many ticks at any other.
const RING_TICKS: usize = 600;
/// Deltas that a live view may lag behind before it must take a new snapshot.
const LIVE_QUEUE: usize = 16;
/// How long a stop waits for a batch that is on its way.
const STOP_WAIT: Duration = Duration::from_secs(2);
/// `job` of every series; dashboards written for node_exporter look for it.
const JOB: &str = "node";

/// Ends when the batch is durable, or with the reason why it is not.
pub type PublishFuture = Pin<Box<dyn Future<Output = Result<(), String>> + Send>>;

/// Where stored samples go. Called by one task, never while an earlier call's future is unfinished.
pub type Publish = dyn Fn(Stored) -> PublishFuture + Send + Sync;

/// What is to be stored at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Unix ms.
    pub at_ms: i64,
    /// Only those that are stored. Series that were there the time before and are gone end with the stale marker.
    pub observations: Vec<Observation>,
    /// Of metrics that were not described before.
    pub metadata: Vec<MetadataRow>,
}

/// Looks at the host; see [`run`](Self::run).
pub struct Agent {
    config: Config,
    proc: ProcRoot,
    host: Host,
    exclusions: Exclusions,
    collectors: Vec<&'static Collector>,
    looking: Mutex<Looking>,
    ring: Mutex<Ring>,
    live: broadcast::Sender<Arc<Delta>>,
    store_lost: AtomicU64,
}

/// What a look at the host changes.
struct Looking {
    state: State,
    recorder: Recorder,
    failing: HashSet<&'static str>,
}

/// What the publisher has taken.
#[derive(Default)]
struct Published {
    series: HashMap<Labels, Observation>,
    described: HashSet<String>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // a tick that panicked leaves at worst one tick's values behind
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Agent {
    /// Reads nothing yet. Samples carry `job="node"` and the host's name as `instance`.
    pub fn new(config: Config, proc: ProcRoot, host: Host) -> Result<Self, ConfigError> {
        let exclusions = config.exclusions()?;
        let is_on = |row: &&Collector| !config.collectors_off.iter().any(|name| name == row.name);
        let collectors = COLLECTORS.iter().copied().filter(is_on).collect();
        let recorder = Recorder::new(JOB, &proc.machine.nodename);
        Ok(Agent {
            config,
            proc,
            host,
            exclusions,
            collectors,
            looking: Mutex::new(Looking {
                state: State::default(),
                recorder,
                failing: HashSet::new(),
            }),
            ring: Mutex::new(Ring::new(RING_TICKS)),
            live: broadcast::channel(LIVE_QUEUE).0,
            store_lost: AtomicU64::new(0),
        })
    }

    /// The host's name, as in the label `instance`.
    pub fn instance(&self) -> &str {
        &self.proc.machine.nodename
    }

    /// One look at the host, at `now_ms` (Unix ms). Blocks for about a millisecond, longer where a disk hangs. A
    /// collector that fails costs its own values only.
    pub fn collect(&self, now_ms: i64) -> Vec<Observation> {
        let mut looking = locked(&self.looking);
        let Looking {
            state,
            recorder,
            failing,
        } = &mut *looking;
        for row in &self.collectors {
            recorder.enter(row);
            let mut context = Context {
                proc: &self.proc,
                exclusions: &self.exclusions,
                process_top: self.config.process_top,
                state: &mut *state,
                out: &mut *recorder,
                now_ms,
            };
            match (row.collect)(&mut context) {
                Ok(()) => drop(failing.remove(row.name)),
                Err(error) => {
                    if failing.insert(row.name) {
                        tracing::info!(collector = row.name, %error, "a collector finds nothing");
                    }
                }
            }
        }
        state.end_tick();
        recorder.take()
    }

    /// Collects, and shows the values to live views.
    pub fn tick(&self, now_ms: i64) -> Vec<Observation> {
        let observations = self.collect(now_ms);
        let mut ring = locked(&self.ring);
        let delta = ring.push(now_ms, &observations);
        // under the lock, so that a subscriber misses none and sees none twice; nobody listening is no error
        let _ = self.live.send(Arc::new(delta));
        observations
    }

    /// What the ring holds now, and every delta after it. A receiver that lags too far behind is told so, and
    /// subscribes again.
    pub fn subscribe(&self) -> (Snapshot, broadcast::Receiver<Arc<Delta>>) {
        let ring = locked(&self.ring);
        (ring.snapshot(), self.live.subscribe())
    }

    /// The last ticks.
    pub fn snapshot(&self) -> Snapshot {
        locked(&self.ring).snapshot()
    }

    /// Times at which nothing was stored because the publisher was busy or refused.
    pub fn store_lost(&self) -> u64 {
        self.store_lost.load(Relaxed)
    }

    /// Values not shown live because the ring holds [`RING_SERIES_MAX`](crate::RING_SERIES_MAX) series.
    pub fn ring_left_out(&self) -> u64 {
        locked(&self.ring).left_out()
    }

    /// Looks at the host until `shutdown` ends: each `interval_ms` into the ring, each `store_interval_ms` (at whole
    /// multiples of the clock, and once at the start) to `publish`. While a batch is on its way no other is started;
    /// what falls due meanwhile is counted as lost.
    pub async fn run(self: Arc<Self>, publish: Arc<Publish>, shutdown: impl Future<Output = ()>) {
        let mut shutdown = std::pin::pin!(shutdown);
        let mut interval = tokio::time::interval(Duration::from_millis(self.config.interval_ms));
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut published = Published::default();
        let mut last_slot = None;
        let mut on_its_way: Option<(Stored, PublishFuture)> = None;
        loop {
            tokio::select! {
                biased;
                () = &mut shutdown => break,
                done = finished(&mut on_its_way) => {
                    if let Some((stored, _)) = on_its_way.take() {
                        self.settle(&mut published, stored, done);
                    }
                }
                _ = interval.tick() => {
                    let now_ms = self.host.clock.now_ms();
                    let agent = Arc::clone(&self);
                    let look = tokio::task::spawn_blocking(move || agent.tick(now_ms));
                    let observations = tokio::select! {
                        () = &mut shutdown => break,
                        looked = look => match looked {
                            Ok(observations) => observations,
                            Err(error) => {
                                tracing::error!(%error, "a look at the host failed");
                                continue;
                            }
                        },
                    };
                    let slot = now_ms.div_euclid(self.config.store_interval_ms as i64);
                    if last_slot.replace(slot) == Some(slot) {
                        continue;
                    }
                    if on_its_way.is_some() {
                        self.store_lost.fetch_add(1, Relaxed);
                        tracing::warn!("host metrics are not stored this time: the batch before is still on its way");
                        continue;
                    }
                    let stored = self.stored(&published, now_ms, observations);
                    on_its_way = Some((stored.clone(), publish(stored)));
                }
            }
        }
        if let Some((_, future)) = on_its_way
            && tokio::time::timeout(STOP_WAIT, future).await.is_err()
        {
            tracing::warn!("stopped while the last host metrics were still on their way");
        }
    }

    fn stored(&self, published: &Published, at_ms: i64, mut observations: Vec<Observation>) -> Stored {
        observations.retain(|observation| observation.stored);
        let present: HashSet<&Labels> = observations.iter().map(|o| &o.labels).collect();
        let gone = published.series.values().filter(|o| !present.contains(&o.labels));
        let mut gone: Vec<Observation> = gone
            .map(|o| Observation {
                value: stale_nan(),
                ..o.clone()
            })
            .collect();
        gone.sort_by(|a, b| a.labels.cmp(&b.labels));
        observations.extend(gone);
        let looking = locked(&self.looking);
        let mut metadata = Vec::new();
        if looking.recorder.described_len() > published.described.len() {
            let news = looking
                .recorder
                .described()
                .filter(|row| !published.described.contains(&row.metric));
            metadata.extend(news.cloned());
            metadata.sort_by(|a, b| a.metric.cmp(&b.metric));
        }
        Stored {
            at_ms,
            observations,
            metadata,
        }
    }

    /// Only what was taken counts as published: otherwise stale markers and metadata come again with the next.
    fn settle(&self, published: &mut Published, stored: Stored, done: Result<(), String>) {
        if let Err(reason) = done {
            self.store_lost.fetch_add(1, Relaxed);
            tracing::warn!(reason, "host metrics were not stored this time");
            return;
        }
        published
            .described
            .extend(stored.metadata.into_iter().map(|row| row.metric));
        for observation in stored.observations {
            if model::is_stale(observation.value) {
                published.series.remove(&observation.labels);
            } else {
                published.series.insert(observation.labels.clone(), observation);
            }
        }
    }
}

/// The outcome of what is on its way; pending forever when nothing is.
async fn finished(on_its_way: &mut Option<(Stored, PublishFuture)>) -> Result<(), String> {
    match on_its_way {
        Some((_, future)) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
