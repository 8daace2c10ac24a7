//! Every row of `wire::PROTOCOLS` on the same bytes. The first byte chooses the row, so that a corpus file belongs to one.
#![no_main]
use std::collections::HashMap;

use libfuzzer_sys::fuzz_target;
use model::{Histogram, LabelsBuilder, MetricKind, Reject, SampleSink, SeriesId};

/// Knows each spelling it has seen, as the ingest path does, and checks what it is given.
#[derive(Default)]
struct Sink {
    spellings: HashMap<Vec<u8>, SeriesId>,
    labels: Vec<Vec<u8>>,
    samples: u64,
}

impl SampleSink for Sink {
    fn known(&mut self, raw: &[u8]) -> Option<SeriesId> {
        self.spellings.get(raw).copied()
    }

    fn define(&mut self, raw: &[u8], labels: &mut LabelsBuilder) -> Option<SeriesId> {
        let labels = labels.build().ok()?.to_vec();
        let id = self.labels.iter().position(|l| *l == labels).unwrap_or_else(|| {
            self.labels.push(labels);
            self.labels.len() - 1
        });
        let id = SeriesId(id as u32);
        self.spellings.insert(raw.to_vec(), id);
        Some(id)
    }

    fn lost(&mut self, samples: u64) {
        assert!(samples > 0);
    }

    fn float(&mut self, series: SeriesId, _: i64, _: f64, _: i64) {
        assert!(series.index() < self.labels.len());
        self.samples += 1;
    }

    fn histogram(&mut self, series: SeriesId, _: i64, value: Histogram, _: i64) {
        assert!(series.index() < self.labels.len());
        let _ = value.validate();
        self.samples += 1;
    }

    fn delta(&mut self, series: SeriesId, start_ms: i64, at_ms: i64, _: f64) {
        assert!(series.index() < self.labels.len());
        assert!(start_ms < at_ms);
        self.samples += 1;
    }

    fn exemplar(&mut self, series: SeriesId, _: i64, _: f64, labels: &mut LabelsBuilder) {
        assert!(series.index() < self.labels.len());
        let _ = labels.build();
    }

    fn metadata(&mut self, _: &[u8], _: MetricKind, _: &[u8], _: &[u8]) {}

    fn reject(&mut self, reject: Reject) {
        assert!(reject.subject.len() + reject.detail.len() < 4096);
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((which, body)) = data.split_first() else {
        return;
    };
    let protocol = &wire::PROTOCOLS[usize::from(*which) % wire::PROTOCOLS.len()];
    let target = [("job".to_owned(), "fuzz".to_owned())];
    let request = wire::Request {
        content_type: protocol.example.content_type,
        now_ms: 1_700_000_000_000,
        target: &target,
        honor_labels: which & 0x80 != 0,
        ..wire::Request::default()
    };
    let mut sink = Sink::default();
    let first = (protocol.decode)(body, &request, &mut sink);
    let (samples, series) = (sink.samples, sink.labels.len());
    if let Err(e) = &first {
        assert!(e.taken <= samples);
    }
    // the same bytes a second time bring the same samples of the same series
    let second = (protocol.decode)(body, &request, &mut sink);
    assert_eq!(first.is_ok(), second.is_ok());
    assert_eq!((sink.samples, sink.labels.len()), (2 * samples, series));
});
