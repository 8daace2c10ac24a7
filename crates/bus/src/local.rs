//! The log in segment files of one directory. `docs/format/log.md` has the bytes; one thread per log writes.

mod empty;
mod frame;
mod open;
mod positions;
mod reader;
mod scan;
mod segment;
mod settings;
mod shared;
mod stepped;
#[cfg(test)]
mod tests;
pub mod verify;
mod writer;

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError, atomic::Ordering},
    time::Duration,
};

use host::{Host, Lock, Worker};

pub use empty::create_behind;
pub use settings::{GROUP_BYTES, GROUP_RECORDS, LocalSettings, MAX_RECORD_BYTES, OpenReport};
pub use stepped::SteppedLog;

use crate::{
    BusError, Codec, Consumer, ConsumerStatus, Decode, Log, LogStatus, Position, Publish,
    local::{
        reader::LocalConsumer,
        shared::{Pending, Shared, locked},
        writer::Writer,
    },
};

/// How long a log that is dropped without `close` may take for what is queued.
const DROP_WITHIN: Duration = Duration::from_secs(5);

#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("{path}: another process uses this log; stop it, or choose another data directory")]
    Locked { path: String },
    #[error("{path}: {error}")]
    Io { path: String, error: std::io::Error },
    #[error("{path}: written by a newer version (format {found}, this one reads up to {known}); use that version")]
    Newer { path: String, found: u16, known: u16 },
    #[error("setting {field} = {value}: expected {expected}")]
    Setting {
        field: &'static str,
        value: String,
        expected: &'static str,
    },
}

pub struct LocalLog<C: Codec, D: Decode<Item = C::Item>> {
    shared: Arc<Shared<C::Item>>,
    make_decoder: Arc<dyn Fn() -> D + Send + Sync>,
    writer: Mutex<Option<Worker>>,
}

/// A log without its thread.
struct Parts<C: Codec> {
    shared: Arc<Shared<C::Item>>,
    writer: Writer<C>,
    report: OpenReport,
    lock: Box<dyn Lock>,
}

impl<C, D> LocalLog<C, D>
where
    C: Codec + 'static,
    D: Decode<Item = C::Item> + 'static,
{
    /// Opens the log in `dir`, or creates it. Damage never stops it and is told in the report; an error means that the
    /// directory cannot be used at all, is used by somebody else, or was written by a newer version.
    pub fn open(
        host: &Host,
        dir: &Path,
        settings: LocalSettings,
        codec: C,
        make_decoder: impl Fn() -> D + Send + Sync + 'static,
    ) -> Result<(Self, OpenReport), OpenError> {
        let parts = open_parts(host, dir, settings, codec)?;
        let writer = parts.writer;
        let shared = Arc::clone(&parts.shared);
        let name = format!("bus-{}", parts.shared.settings.topic);
        let thread = host
            .workers
            .thread(&name, move || {
                let _done = Finished(shared, parts.lock);
                writer.run();
            })
            .map_err(|error| OpenError::Io {
                path: dir.display().to_string(),
                error,
            })?;
        let log = LocalLog {
            shared: parts.shared,
            make_decoder: Arc::new(make_decoder),
            writer: Mutex::new(Some(thread)),
        };
        Ok((log, parts.report))
    }
}

fn open_parts<C: Codec>(host: &Host, dir: &Path, settings: LocalSettings, codec: C) -> Result<Parts<C>, OpenError> {
    settings.check()?;
    let failed = |error| OpenError::Io {
        path: dir.display().to_string(),
        error,
    };
    host.files.create_dir_all(dir).map_err(failed)?;
    let lock = host
        .files
        .lock(&dir.join("log.lock"))
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::WouldBlock => OpenError::Locked {
                path: dir.display().to_string(),
            },
            _ => failed(error),
        })?;
    let opened = open::recover(host, dir, settings.known_position)?;
    let shared = Arc::new(Shared::new(host.clone(), dir, settings, opened.durable, opened.dropped));
    *shared.segments() = opened.segments;
    for found in &opened.damage {
        shared.report(found.clone());
    }
    let writer = Writer::new(
        Arc::clone(&shared),
        codec,
        opened.log,
        opened.last_real,
        opened.positions,
        opened.spares,
    );
    // one lock at a time: a guard in a struct expression lives to its end
    let first_kept = shared.segments().first().map_or(opened.durable + 1, |s| s.first());
    let segments = shared.segments().len();
    let bytes = shared.bytes();
    let report = OpenReport {
        durable: opened.durable,
        first_kept,
        segments,
        bytes,
        quarantined: opened.damage,
    };
    Ok(Parts {
        shared,
        writer,
        report,
        lock,
    })
}

/// Marks the writer as gone however it went, fails what it left, and lets go of the directory.
struct Finished<T>(
    Arc<Shared<T>>,
    #[allow(dead_code, reason = "held, never read")] Box<dyn Lock>,
);

impl<T> Drop for Finished<T> {
    fn drop(&mut self) {
        let mut queue = self.0.queue();
        queue.stopping = true;
        queue.finished = true;
        let left = std::mem::take(&mut queue.items);
        queue.without_spares.clear();
        drop(queue);
        drop(left);
        self.0.hub().closed = true;
        self.0.arrived.notify_all();
        self.0.work.notify_all();
    }
}

impl<C, D> Log<C::Item> for LocalLog<C, D>
where
    C: Codec + 'static,
    D: Decode<Item = C::Item> + 'static,
{
    fn publish(&self, item: Arc<C::Item>, bytes: usize) -> Publish {
        publish(&self.shared, item, bytes)
    }

    fn consume(&self, name: &str, from: Position) -> Result<Box<dyn Consumer<C::Item>>, BusError> {
        let consumer = consume(&self.shared, name, from, &self.make_decoder)?;
        Ok(Box::new(consumer))
    }

    fn commit(&self, name: &str, position: Position) -> Result<(), BusError> {
        commit(&self.shared, name, position)
    }

    fn durable(&self) -> Position {
        self.shared.hub().durable
    }

    fn status(&self) -> LogStatus {
        status(&self.shared)
    }

    fn drop_spares(&self) {
        let (promise, done) = Publish::pair();
        let mut queue = self.shared.queue();
        if queue.finished {
            return;
        }
        queue.without_spares.push(promise);
        drop(queue);
        self.shared.work.notify_all();
        // stopped instead: nothing more to give back
        let _ = done.wait();
    }

    fn close(&self, within: Duration) -> Result<(), BusError> {
        self.stop(within)
    }
}

impl<C: Codec, D: Decode<Item = C::Item>> LocalLog<C, D> {
    fn stop(&self, within: Duration) -> Result<(), BusError> {
        if let Some(thread) = &*locked(&self.writer) {
            thread.ending();
        }
        let mut queue = self.shared.queue();
        queue.stopping = true;
        drop(queue);
        self.shared.work.notify_all();
        // under the lock, so that a writer about to wait for room sees it
        drop(self.shared.hub());
        self.shared.passed.notify_all();
        let queue = self.shared.queue();
        let (queue, timeout) = self
            .shared
            .work
            .wait_timeout_while(queue, within, |q| !q.finished)
            .unwrap_or_else(PoisonError::into_inner);
        drop(queue);
        if timeout.timed_out() {
            return Err(BusError::Io(format!(
                "the {} log did not finish writing within {} ms",
                self.shared.settings.topic,
                within.as_millis()
            )));
        }
        if let Some(thread) = locked(&self.writer).take() {
            thread.join();
        }
        Ok(())
    }
}

impl<C: Codec, D: Decode<Item = C::Item>> Drop for LocalLog<C, D> {
    fn drop(&mut self) {
        if let Err(error) = self.stop(DROP_WITHIN) {
            tracing::warn!(%error, "log dropped while writing");
        }
    }
}

fn publish<T>(shared: &Shared<T>, item: Arc<T>, bytes: usize) -> Publish {
    if bytes > MAX_RECORD_BYTES {
        return Publish::ready(Err(BusError::TooLarge {
            bytes,
            max: MAX_RECORD_BYTES,
        }));
    }
    let mut queue = shared.queue();
    if queue.stopping {
        return Publish::ready(Err(BusError::Stopped));
    }
    if !queue.items.is_empty() && (queue.items.len() >= GROUP_RECORDS || queue.bytes + bytes > GROUP_BYTES) {
        let topic = shared.settings.topic.clone();
        return Publish::ready(Err(BusError::Busy {
            topic,
            records: queue.items.len(),
            bytes: queue.bytes,
        }));
    }
    let (promise, publish) = Publish::pair();
    let was_empty = queue.items.is_empty();
    queue.items.push_back(Pending { item, bytes, promise });
    queue.bytes += bytes;
    drop(queue);
    if was_empty {
        shared.work.notify_all();
    }
    publish
}

fn consume<T, D>(
    shared: &Arc<Shared<T>>,
    name: &str,
    from: Position,
    make_decoder: &Arc<dyn Fn() -> D + Send + Sync>,
) -> Result<LocalConsumer<T, D>, BusError> {
    let required = shared.settings.required.iter().any(|r| r == name);
    let mut hub = shared.hub();
    if hub.attached.values().any(|a| a.name == name) {
        return Err(BusError::ConsumerExists { name: name.to_owned() });
    }
    if from > hub.durable {
        return Err(BusError::Ahead {
            name: name.to_owned(),
            from,
            durable: hub.durable,
        });
    }
    let id = hub.attach(name, required, from);
    drop(hub);
    Ok(LocalConsumer::new(
        Arc::clone(shared),
        id,
        required,
        Arc::clone(make_decoder),
    ))
}

fn commit<T>(shared: &Shared<T>, name: &str, position: Position) -> Result<(), BusError> {
    let mut hub = shared.hub();
    let known = hub.committed.contains_key(name) || hub.attached.values().any(|a| a.name == name);
    if !known {
        return Err(BusError::UnknownConsumer { name: name.to_owned() });
    }
    let position = position.min(hub.durable);
    let committed = hub.committed.entry(name.to_owned()).or_insert(0);
    *committed = position.max(*committed);
    drop(hub);
    shared.queue().committed = true;
    shared.work.notify_all();
    Ok(())
}

fn status<T>(shared: &Shared<T>) -> LogStatus {
    let hub = shared.hub();
    let mut consumers: Vec<ConsumerStatus> = hub
        .committed
        .iter()
        .map(|(name, committed)| ConsumerStatus {
            name: name.clone(),
            required: shared.settings.required.contains(name),
            attached: false,
            committed: *committed,
            delivered: 0,
            left_behind: hub.left_behind.get(name).copied().unwrap_or(0),
        })
        .collect();
    for attached in hub.attached.values() {
        let found = consumers.iter_mut().find(|c| c.name == attached.name);
        match found {
            Some(consumer) => {
                consumer.attached = true;
                consumer.delivered = attached.delivered;
            }
            None => consumers.push(ConsumerStatus {
                name: attached.name.clone(),
                required: attached.required,
                attached: true,
                committed: 0,
                delivered: attached.delivered,
                left_behind: hub.left_behind.get(&attached.name).copied().unwrap_or(0),
            }),
        }
    }
    let durable = hub.durable;
    drop(hub);
    let segments = shared.segments();
    let (count, first_kept) = (segments.len(), segments.first().map_or(durable + 1, |s| s.first()));
    drop(segments);
    let queue = shared.queue();
    let (queued_records, queued_bytes) = (queue.items.len(), queue.bytes);
    drop(queue);
    let bytes = shared.bytes();
    let health = shared.health();
    LogStatus {
        topic: shared.settings.topic.clone(),
        bytes,
        max_bytes: shared.settings.max_bytes,
        segments: count,
        spares: shared.spares.load(Ordering::Relaxed) as usize,
        durable,
        first_kept,
        queued_records,
        queued_bytes,
        quarantined: health.quarantined.iter().cloned().collect(),
        quarantined_total: health.quarantined_total,
        full: health.full.clone(),
        failed: health.failed.clone(),
        failures: health.failures,
        consumers,
    }
}
