/// Why a record was not taken. A failed publish has an unknown outcome for [`BusError::Io`] and [`BusError::Stopped`] (the
/// record may be found in the log later, at most once) and was certainly not taken otherwise.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// No room that may be used; try again later (503 with Retry-After).
    #[error("the {topic} log is full: {reason}; nothing was written, try again later")]
    Full { topic: String, reason: String },
    /// The queue before the writer is at its bound; try again soon (503 with Retry-After).
    #[error("the {topic} log has {records} records ({bytes} bytes) waiting to be written, its bound; try again soon")]
    Busy {
        topic: String,
        records: usize,
        bytes: usize,
    },
    #[error("the log is stopping; send again after the restart")]
    Stopped,
    #[error("the log could not be written or read: {0}; send again")]
    Io(String),
    #[error("the record has {bytes} bytes, the log takes {max} at most; split it")]
    TooLarge { bytes: usize, max: usize },
    #[error("no consumer named {name} is required or attached here; name it in the settings or call consume first")]
    UnknownConsumer { name: String },
    #[error("a consumer named {name} is attached already; close it first")]
    ConsumerExists { name: String },
    /// It has seen records that this log does not hold: the log was cut, or is another one. Pass the position as
    /// `known_position` at open.
    #[error(
        "consumer {name} is at position {from}, the log ends at {durable}: records are lost, or this is another log"
    )]
    Ahead { name: String, from: u64, durable: u64 },
}
