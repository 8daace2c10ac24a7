//! The byte form of a [`model::Record`] in a log, with the segment as its scope: a series' labels are written once per
//! scope and then referred to by a small number. A record needs nothing else from the records before it.

use crate::chunk::ChunkError;

mod decoder;
mod definitions;
mod encoder;
mod numbers;

#[cfg(test)]
mod tests;

pub use decoder::Decoder;
pub use encoder::Encoder;

/// Bytes that are no record of this scope.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RecordError {
    #[error("the record ends early")]
    Short,
    #[error("the record has version {0}: 1 is right")]
    Version(u8),
    #[error("the record's {field} is {value}, which is not possible")]
    Field { field: &'static str, value: u64 },
    #[error("the record refers to series {number} of its segment, whose definition was lost")]
    Undefined { number: u64 },
    #[error("the record's labels are no canonical label set")]
    Labels,
    #[error("the record's matcher is refused: {0}")]
    Matcher(String),
}

impl From<ChunkError> for RecordError {
    fn from(e: ChunkError) -> Self {
        match e {
            ChunkError::Short => RecordError::Short,
            ChunkError::Version(v) => RecordError::Version(v),
            ChunkError::Field { field, value } => RecordError::Field { field, value },
            ChunkError::WrongKind(_) => RecordError::Field {
                field: "kind",
                value: 0,
            },
        }
    }
}

/// First byte of every record and trailer: the version above, the kind below.
const VERSION: u8 = 1;
const VERSION_SHIFT: u8 = 4;
const BATCH: u8 = 0;
const DELETE: u8 = 1;
const TRAILER: u8 = 2;

/// Sections of a batch that are there.
const DEFINITIONS: u8 = 0x01;
const FLOATS: u8 = 0x02;
const STARTS: u8 = 0x04;
const HISTOGRAMS: u8 = 0x08;
const DELTAS: u8 = 0x10;
const EXEMPLARS: u8 = 0x20;
const METADATA: u8 = 0x40;

/// How the series column of floats is written.
const ASCENDING: u8 = 0;
const REPEATED: u8 = 1;
const MIXED: u8 = 2;

/// A histogram row with the layout of the row before.
const SAME_LAYOUT: u8 = 1;

/// Whether a layout may be shared by the next row: rows cost bytes in proportion to what they are in memory, so that
/// few bytes never become much memory.
fn shareable(h: &model::Histogram) -> bool {
    let numbers = h.positive_buckets.len() + h.negative_buckets.len();
    h.positive_spans.len() + h.negative_spans.len() + h.custom_values.len() <= 64 + 4 * numbers
}
