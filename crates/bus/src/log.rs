use std::{sync::Arc, time::Duration};

use crate::{BusError, LogStatus, Position, Publish};

/// Writes records' byte form. Lives in the log's writer; what it remembers has the segment as its scope.
pub trait Codec: Send {
    type Item: Send + Sync + 'static;

    /// A new scope starts: nothing defined before may be referred to.
    fn begin(&mut self);

    /// Appends the item's byte form, which may refer to definitions made earlier in this scope.
    fn encode(&mut self, item: &Self::Item, out: &mut Vec<u8>);

    /// Appends what a closing segment ends with: a copy of the scope's definitions. An empty trailer is not written.
    fn finish(&mut self, out: &mut Vec<u8>);

    /// Whether the scope may end here; past twice the segment size nobody asks.
    fn roll_ok(&self) -> bool {
        true
    }
}

/// Reads the byte form back, one per reader.
pub trait Decode: Send {
    type Item;

    /// A new scope starts; its trailer when it was closed and the trailer is undamaged.
    fn begin(&mut self, trailer: Option<&[u8]>);

    /// An error, or a panic, costs this record: it is copied to quarantine, counted and passed over.
    fn decode(&mut self, bytes: &[u8]) -> Result<Self::Item, String>;
}

/// One topic and shard.
pub trait Log<T>: Send + Sync {
    /// Queues the item; the result resolves once it is durable. `bytes` is its size in memory, for the queues' bounds.
    fn publish(&self, item: Arc<T>, bytes: usize) -> Publish;

    /// Records after `from` (exclusive: the first one delivered is `from + 1`), in order, once each. One attached consumer
    /// per name; it detaches on drop.
    fn consume(&self, name: &str, from: Position) -> Result<Box<dyn Consumer<T>>, BusError>;

    /// The consumer needs nothing up to `position` any more. Kept for retention only: a consumer remembers its own
    /// position and passes it to `consume`.
    fn commit(&self, name: &str, position: Position) -> Result<(), BusError>;

    /// The last position that is durable.
    fn durable(&self) -> Position;

    fn status(&self) -> LogStatus;

    /// Gives back files kept for reuse, and those that are larger than what they hold for anyone.
    fn drop_spares(&self) {}

    /// Takes no more records, writes what is queued and closes; an error when that took longer than `within`.
    fn close(&self, within: Duration) -> Result<(), BusError> {
        let _ = within;
        Ok(())
    }
}

pub trait Consumer<T>: Send {
    /// The next delivery, or `Idle` after `wait`.
    fn next(&mut self, wait: Duration) -> Result<Delivery<T>, BusError>;

    /// Bytes of storage that were read so far, and those that lie between here and the log's end: how far a replay has
    /// come. Both are 0 where that is not known.
    fn stored_bytes(&self) -> (u64, u64) {
        (0, 0)
    }
}

#[derive(Debug)]
pub enum Delivery<T> {
    Record {
        position: Position,
        item: Arc<T>,
    },
    /// Positions `first..=last` will not come; named in the status and the log as well.
    Damaged {
        first: Position,
        last: Position,
        /// File name and what is wrong with it.
        detail: String,
        cause: Cause,
    },
    Idle,
    /// The log was closed and everything in it was delivered.
    Closed,
}

/// Why positions do not come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The bytes are damaged or missing.
    Damage,
    /// The bytes are as written, but cannot be decoded.
    Undecodable,
    /// An optional consumer was slower than the log's bound allows; the records were dropped before it came.
    LeftBehind,
}
