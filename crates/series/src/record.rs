//! The byte form of a [`model::Record`] in a log, with the segment as its scope: a series' labels are written once per
//! scope and then referred to by a small number.

use std::sync::Arc;

use model::Record;

use crate::table::SeriesTable;

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
}

/// Writes records; its state has the scope as its life.
pub struct Encoder {
    table: Arc<SeriesTable>,
}

/// Reads the records of a scope in order.
pub struct Decoder {
    table: Arc<SeriesTable>,
}

impl Encoder {
    pub fn new(table: Arc<SeriesTable>) -> Self {
        Encoder { table }
    }

    /// A new scope starts.
    pub fn begin(&mut self) {}

    /// Appends the record's byte form to `out`.
    pub fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        let _ = (&self.table, record, out);
    }

    /// Appends the scope's trailer: a copy of all its definitions.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        let _ = out;
    }

    /// False while sample bytes are fewer than four times the bytes of definitions.
    pub fn roll_ok(&self) -> bool {
        true
    }
}

impl Decoder {
    pub fn new(table: Arc<SeriesTable>) -> Self {
        Decoder { table }
    }

    /// A new scope starts; `trailer` is what `finish` wrote, when it is there undamaged.
    pub fn begin(&mut self, trailer: Option<&[u8]>) {
        let _ = trailer;
    }

    /// The next record of the scope.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Record, RecordError> {
        let _ = (&self.table, bytes);
        Err(RecordError::Short)
    }
}
