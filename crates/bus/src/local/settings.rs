use crate::{
    Position, Quarantined,
    local::{OpenError, frame::RECORDS_AT},
};

/// Queued before the writer: more is `Busy`. One record of any size up to `MAX_RECORD_BYTES` always fits an empty queue.
pub const GROUP_BYTES: usize = 8 << 20;
pub const GROUP_RECORDS: usize = 1024;
/// Byte form of one record; also its size in memory.
pub const MAX_RECORD_BYTES: usize = 128 << 20;
/// File sizes are multiples of this.
pub(crate) const SIZE_UNIT: u64 = 64 << 10;
/// A segment file grows by no more than this at once.
pub(crate) const GROWTH_BYTES: u64 = 16 << 20;
/// Written files kept for reuse.
pub(crate) const SPARES: usize = 2;
/// Space left to others on the file system: an eighth of what there was, and no more than this.
pub(crate) const RESERVE_BYTES: u64 = 64 << 20;
/// Entries of damage kept in the status.
pub(crate) const QUARANTINE_ENTRIES: usize = 256;
/// Undecodable records copied, per log and run.
pub(crate) const QUARANTINE_BYTES: u64 = 64 << 20;

/// How one local log is kept.
#[derive(Clone, Debug)]
pub struct LocalSettings {
    /// Name for messages and threads: `samples`, `events`, `control`.
    pub topic: String,
    /// A segment closes once it holds this many bytes and the codec agrees, at twice as many regardless; sooner where
    /// the log or the disk is small.
    pub segment_bytes: u64,
    /// Size a segment file starts with; it doubles from there.
    pub initial_bytes: u64,
    /// All files of the log together; what would go beyond is refused.
    pub max_bytes: u64,
    /// Items kept in memory for attached consumers, in bytes as given to `publish`.
    pub handover_bytes: usize,
    /// Nothing they have not committed is ever dropped, attached or not. Without any, the oldest segment goes when the
    /// log is full.
    pub required: Vec<String>,
    /// The highest position any consumer is known to have stored; a log that ends before it has lost records.
    pub known_position: Position,
}

impl LocalSettings {
    /// The defaults, for a topic.
    pub fn new(topic: &str) -> LocalSettings {
        LocalSettings {
            topic: topic.to_owned(),
            segment_bytes: 64 << 20,
            initial_bytes: 256 << 10,
            max_bytes: 4 << 30,
            handover_bytes: 32 << 20,
            required: Vec::new(),
            known_position: 0,
        }
    }

    pub(crate) fn check(&self) -> Result<(), OpenError> {
        let wrong = |field, value: u64, expected| {
            Err(OpenError::Setting {
                field,
                value: value.to_string(),
                expected,
            })
        };
        if self.initial_bytes < 2 * RECORDS_AT {
            return wrong("initial_bytes", self.initial_bytes, "at least 16384");
        }
        if self.segment_bytes < self.initial_bytes {
            return wrong("segment_bytes", self.segment_bytes, "at least initial_bytes");
        }
        if self.max_bytes < 2 * self.initial_bytes.max(SIZE_UNIT) {
            return wrong("max_bytes", self.max_bytes, "at least twice initial_bytes, and 131072");
        }
        Ok(())
    }
}

/// What was found at open.
#[derive(Clone, Debug, Default)]
pub struct OpenReport {
    pub durable: Position,
    pub first_kept: Position,
    pub segments: usize,
    pub bytes: u64,
    /// Everything that was damaged or missing; an unfinished last write after a crash is neither.
    pub quarantined: Vec<Quarantined>,
}
