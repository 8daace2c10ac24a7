//! The log record's decoder on any bytes, as trailer and as records of one segment.
#![no_main]
use std::sync::Arc;

use libfuzzer_sys::fuzz_target;
use series::{record::Decoder, table::SeriesTable};

fuzz_target!(|data: &[u8]| {
    let mut decoder = Decoder::new(Arc::new(SeriesTable::new([7; 16])));
    let cut = data.first().map_or(0, |b| usize::from(*b).min(data.len()));
    let (trailer, records) = data.split_at(cut);
    decoder.begin((!trailer.is_empty()).then_some(trailer));
    for record in records.split(|b| *b == 0xfe).take(64) {
        let _ = decoder.decode(record);
    }
    let _ = decoder.decode(records);
});
