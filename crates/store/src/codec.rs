use std::sync::Arc;

use model::Record;
use series::record::{Decoder, Encoder};
use series::table::SeriesTable;

/// `series::record` as the bus wants it: the bus knows no record, the engine no bus.
pub struct RecordCodec(Encoder);

impl RecordCodec {
    pub fn new(table: Arc<SeriesTable>) -> Self {
        RecordCodec(Encoder::new(table))
    }
}

impl bus::Codec for RecordCodec {
    type Item = Record;

    fn begin(&mut self) {
        self.0.begin();
    }

    fn encode(&mut self, item: &Record, out: &mut Vec<u8>) {
        self.0.encode(item, out);
    }

    fn finish(&mut self, out: &mut Vec<u8>) {
        self.0.finish(out);
    }

    fn roll_ok(&self) -> bool {
        self.0.roll_ok()
    }
}

/// One reader's decoder.
pub struct RecordDecode(Decoder);

impl RecordDecode {
    pub fn new(table: Arc<SeriesTable>) -> Self {
        RecordDecode(Decoder::new(table))
    }
}

impl bus::Decode for RecordDecode {
    type Item = Record;

    fn begin(&mut self, trailer: Option<&[u8]>) {
        self.0.begin(trailer);
    }

    fn decode(&mut self, bytes: &[u8]) -> Result<Record, String> {
        self.0.decode(bytes).map_err(|e| e.to_string())
    }
}
