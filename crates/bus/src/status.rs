use crate::Position;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogStatus {
    pub topic: String,
    /// Bytes on disk, spare files included.
    pub bytes: u64,
    pub max_bytes: u64,
    pub segments: usize,
    pub spares: usize,
    pub durable: Position,
    /// First position still kept; `durable + 1` when none is.
    pub first_kept: Position,
    /// Records and bytes waiting to be written.
    pub queued_records: usize,
    pub queued_bytes: usize,
    /// Damage found since start; the oldest are forgotten past a bound, the count is not.
    pub quarantined: Vec<Quarantined>,
    pub quarantined_total: u64,
    /// Why publishers are told `Full`, while they are.
    pub full: Option<String>,
    /// The last failure to write, until a write succeeds.
    pub failed: Option<String>,
    /// Failed writes and fsyncs since start.
    pub failures: u64,
    pub consumers: Vec<ConsumerStatus>,
}

/// A stretch of a file that was passed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Path of the file it is about.
    pub file: String,
    pub offset: u64,
    /// Bytes; 0 when the file itself is missing.
    pub length: u64,
    /// First and last position that is missing, where known; `None` when the damage cost no record.
    pub positions: Option<(Position, Position)>,
    /// Creation time of the segment, Unix ms, where known: what is missing is not older.
    pub since_ms: Option<i64>,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConsumerStatus {
    pub name: String,
    pub required: bool,
    pub attached: bool,
    pub committed: Position,
    /// Last position delivered, while attached.
    pub delivered: Position,
    /// Records dropped before this consumer had read them.
    pub left_behind: u64,
}
