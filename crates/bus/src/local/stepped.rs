use std::{
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use host::Host;

use super::{
    Finished, LocalSettings, OpenError, OpenReport, commit, consume, open_parts, publish,
    shared::{Shared, locked},
    status,
    writer::Writer,
};
use crate::{BusError, Codec, Consumer, Decode, Log, LogStatus, Position, Publish};

/// The local log without a thread of its own: its writer does a round when it is told. For simulations, where the same
/// calls must make the same files.
pub struct SteppedLog<C: Codec, D: Decode<Item = C::Item>> {
    shared: Arc<Shared<C::Item>>,
    make_decoder: Arc<dyn Fn() -> D + Send + Sync>,
    writer: Mutex<Writer<C>>,
    _done: Finished<C::Item>,
}

impl<C, D> SteppedLog<C, D>
where
    C: Codec + 'static,
    D: Decode<Item = C::Item> + 'static,
{
    /// As [`LocalLog::open`](super::LocalLog::open).
    pub fn open(
        host: &Host,
        dir: &Path,
        settings: LocalSettings,
        codec: C,
        make_decoder: impl Fn() -> D + Send + Sync + 'static,
    ) -> Result<(Self, OpenReport), OpenError> {
        let parts = open_parts(host, dir, settings, codec)?;
        let log = SteppedLog {
            _done: Finished(Arc::clone(&parts.shared), parts.lock),
            shared: parts.shared,
            make_decoder: Arc::new(make_decoder),
            writer: Mutex::new(parts.writer),
        };
        Ok((log, parts.report))
    }

    /// Writes what is queued as one group, and does the housekeeping that was asked for.
    pub fn run(&self) {
        locked(&self.writer).step(false);
    }
}

impl<C, D> Log<C::Item> for SteppedLog<C, D>
where
    C: Codec + 'static,
    D: Decode<Item = C::Item> + 'static,
{
    /// Resolves with the next [`run`](SteppedLog::run).
    fn publish(&self, item: Arc<C::Item>, bytes: usize) -> Publish {
        publish(&self.shared, item, bytes)
    }

    fn consume(&self, name: &str, from: Position) -> Result<Box<dyn Consumer<C::Item>>, BusError> {
        Ok(Box::new(consume(&self.shared, name, from, &self.make_decoder)?))
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

    fn close(&self, _within: Duration) -> Result<(), BusError> {
        self.shared.queue().stopping = true;
        while locked(&self.writer).step(false) {}
        Ok(())
    }
}
