//! What every row of the registry is asked, and the sink that writes down what it gets.
use std::collections::HashMap;
use std::fmt::Write;

use expect_test::expect_file;
use model::{Histogram, Labels, LabelsBuilder, LabelsError, MetricKind, Reject, SampleSink, SeriesId, is_stale};
use proptest::prelude::*;

use crate::{Encoding, PROTOCOLS, Request, decompress, find};

/// Remembers spellings as the ingest path does, and writes down everything.
#[derive(Default)]
pub(crate) struct Recorder {
    spellings: HashMap<Vec<u8>, SeriesId>,
    pub(crate) series: Vec<Labels>,
    pub(crate) lines: Vec<String>,
    pub(crate) rejects: Vec<Reject>,
    pub(crate) lost: u64,
    pub(crate) defined: usize,
    pub(crate) samples: u64,
}

impl Recorder {
    pub(crate) fn dump(&self) -> String {
        let mut out = self.lines.join("\n");
        out.push('\n');
        for r in &self.rejects {
            let _ = writeln!(
                out,
                "reject {} {}: {} ({} lost)",
                r.reason.as_str(),
                r.subject,
                r.detail,
                r.samples
            );
        }
        if self.lost > 0 {
            let _ = writeln!(out, "lost {}", self.lost);
        }
        out
    }

    fn name(&self, id: SeriesId) -> &Labels {
        &self.series[id.index()]
    }

    /// The dump of one body; decoding it again must find every series known.
    pub(crate) fn of(id: &str, body: &[u8], request: &Request<'_>) -> Recorder {
        let protocol = find(id).unwrap();
        let mut sink = Recorder::default();
        if let Err(e) = (protocol.decode)(body, request, &mut sink) {
            sink.lines.push(format!("error {:?} after {}: {e}", e.kind, e.taken));
        }
        sink
    }
}

pub(crate) fn value(v: f64) -> String {
    if is_stale(v) {
        "stale".to_owned()
    } else {
        format!("{v:?}")
    }
}

impl SampleSink for Recorder {
    fn known(&mut self, raw: &[u8]) -> Option<SeriesId> {
        self.spellings.get(raw).copied()
    }

    fn define(&mut self, raw: &[u8], labels: &mut LabelsBuilder) -> Option<SeriesId> {
        self.defined += 1;
        let labels = match labels.build() {
            Ok(bytes) => Labels::from_bytes(bytes).unwrap(),
            Err(e) => {
                self.lines.push(format!("refused: {e}"));
                return None;
            }
        };
        let id = match self.series.iter().position(|l| *l == labels) {
            Some(n) => SeriesId(n as u32),
            None => {
                self.series.push(labels);
                SeriesId(self.series.len() as u32 - 1)
            }
        };
        self.spellings.insert(raw.to_vec(), id);
        Some(id)
    }

    fn lost(&mut self, samples: u64) {
        assert!(samples > 0);
        self.lost += samples;
    }

    fn float(&mut self, series: SeriesId, at_ms: i64, v: f64, start_ms: i64) {
        self.samples += 1;
        let start = if start_ms == 0 {
            String::new()
        } else {
            format!(" since {start_ms}")
        };
        let line = format!("{} {} @{at_ms}{start}", self.name(series), value(v));
        self.lines.push(line);
    }

    fn histogram(&mut self, series: SeriesId, at_ms: i64, h: Histogram, start_ms: i64) {
        self.samples += 1;
        let verdict = h.validate().err().map(|e| format!(" INVALID {e}")).unwrap_or_default();
        let line = format!("{} {h:?} @{at_ms} since {start_ms}{verdict}", self.name(series));
        self.lines.push(line);
    }

    fn delta(&mut self, series: SeriesId, start_ms: i64, at_ms: i64, v: f64) {
        self.samples += 1;
        let line = match model::is_stale(v) {
            true => format!("{} stale @{at_ms}, of a delta", self.name(series)),
            false => format!("{} +{} ({start_ms}, {at_ms}]", self.name(series), value(v)),
        };
        self.lines.push(line);
    }

    fn exemplar(&mut self, series: SeriesId, at_ms: i64, v: f64, labels: &mut LabelsBuilder) {
        let labels = match labels.build() {
            Ok(bytes) => Labels::from_bytes(bytes).unwrap().to_string(),
            // an exemplar needs none
            Err(LabelsError::Empty) => String::new(),
            Err(e) => e.to_string(),
        };
        let line = format!("  exemplar of {}: {labels} {} @{at_ms}", self.name(series), value(v));
        self.lines.push(line);
    }

    fn metadata(&mut self, metric: &[u8], kind: MetricKind, help: &[u8], unit: &[u8]) {
        let text = String::from_utf8_lossy;
        let line = format!(
            "metadata {} {} {:?} {:?}",
            text(metric),
            kind.as_str(),
            text(help),
            text(unit)
        );
        self.lines.push(line);
    }

    fn reject(&mut self, reject: Reject) {
        self.rejects.push(reject);
    }
}

pub(crate) fn now() -> Request<'static> {
    Request {
        now_ms: 1_700_000_000_000,
        ..Request::default()
    }
}

struct Golden {
    protocol: &'static str,
    file: &'static str,
    body: &'static [u8],
    encoding: Encoding,
    precision: &'static str,
}

macro_rules! golden {
    ($protocol:literal, $file:literal, $encoding:ident $(, $precision:literal)?) => {
        Golden {
            protocol: $protocol,
            file: $file,
            body: include_bytes!(concat!("../testdata/", $file)),
            encoding: Encoding::$encoding,
            precision: concat!($($precision)?),
        }
    };
}

/// Bodies as clients sent them. `remote_write_2` and `json` are written by hand: no packaged client sends them.
const GOLDEN: &[Golden] = &[
    golden!("remote_write", "remote_write.prometheus.snappy", Snappy),
    golden!("remote_write", "remote_write.prometheus-metadata.snappy", Snappy),
    golden!("remote_write_2", "remote_write_2.example.bin", Identity),
    golden!("influx", "influx.influxdb-python.txt", Identity),
    golden!("influx", "influx.influxdb-client.gz", Gzip, "ms"),
    golden!("otlp", "otlp.opentelemetry-sdk.bin", Identity),
    golden!("otlp", "otlp.opentelemetry-sdk-delta.bin", Identity),
    golden!("otlp_json", "otlp_json.opentelemetry-sdk.json", Identity),
    golden!("json", "json.many.json", Identity),
    golden!("prometheus_text", "prometheus_text.node_exporter.txt", Identity),
    golden!("prometheus_text", "prometheus_text.prometheus-client.txt", Identity),
    golden!("openmetrics", "openmetrics.prometheus-client.txt", Identity),
];

fn golden_dump(g: &Golden) -> Recorder {
    let mut buffer = Vec::new();
    let body = decompress(g.encoding, g.body, 1 << 20, &mut buffer).unwrap();
    let query = [("precision".to_owned(), g.precision.to_owned())];
    let target = [
        ("instance".to_owned(), "localhost:1".to_owned()),
        ("job".to_owned(), "golden".to_owned()),
    ];
    let pulled = find(g.protocol).unwrap().paths.is_empty();
    let request = Request {
        query: &query,
        target: if pulled { &target } else { &[] },
        ..now()
    };
    let sink = Recorder::of(g.protocol, body, &request);
    // a second time every spelling is known
    let protocol = find(g.protocol).unwrap();
    let mut again = Recorder {
        spellings: sink.spellings.clone(),
        series: sink.series.clone(),
        ..Recorder::default()
    };
    (protocol.decode)(body, &request, &mut again).unwrap();
    let refused = sink.lines.iter().filter(|l| l.starts_with("refused")).count();
    assert_eq!(again.defined, refused, "{}", g.file);
    assert_eq!(again.lines, sink.lines, "{}", g.file);
    sink
}

#[test]
fn golden_files_decode() {
    for g in GOLDEN {
        let path = format!("{}/testdata/{}.dump", env!("CARGO_MANIFEST_DIR"), g.file);
        expect_file![path].assert_eq(&golden_dump(g).dump());
    }
}

#[test]
fn otlp_json_says_the_same_as_protobuf() {
    let of = |id| GOLDEN.iter().find(|g| g.protocol == id).map(|g| golden_dump(g).dump());
    assert_eq!(of("otlp"), of("otlp_json"));
}

#[test]
fn every_row_is_whole() {
    for p in PROTOCOLS {
        assert!(GOLDEN.iter().any(|g| g.protocol == p.id), "{} has no golden file", p.id);
        assert_eq!(PROTOCOLS.iter().filter(|q| q.id == p.id).count(), 1);
        assert!(
            p.doc.ends_with('.') && !p.setup.is_empty() && !p.encodings.is_empty(),
            "{}",
            p.id
        );
        let sink = Recorder::of(p.id, p.example.body, &now());
        assert!(sink.samples > 0, "{}: {}", p.id, sink.dump());
        assert!(
            sink.rejects.is_empty() && !sink.dump().contains("error "),
            "{}: {}",
            p.id,
            sink.dump()
        );
        if let Some(path) = p.paths.first() {
            let found = crate::Protocol::for_request(path, p.example.content_type);
            assert_eq!(found.map(|f| f.id), Some(p.id));
        }
    }
}

#[test]
fn the_page_has_every_row() {
    let page = include_str!("../../../docs/protocols.md");
    for p in PROTOCOLS {
        let paths: Vec<_> = p.paths.iter().map(|p| format!("`{p}`")).collect();
        let paths = if paths.is_empty() {
            "scraped".to_owned()
        } else {
            paths.join(", ")
        };
        let ty = match p.content_types[0] {
            "*" => "any".to_owned(),
            ty => format!("`{ty}`"),
        };
        let encodings: Vec<_> = p.encodings.iter().map(|e| e.as_str()).collect();
        let row = format!("| {} | {paths} | {ty} | {} |", p.name, encodings.join(", "));
        assert!(page.contains(&row), "docs/protocols.md lacks: {row}");
    }
}

fn survives(body: &[u8]) {
    for p in PROTOCOLS {
        let mut sink = Recorder::default();
        let _ = (p.decode)(body, &now(), &mut sink);
    }
}

proptest! {
    #[test]
    fn any_bytes_are_survived(bytes: Vec<u8>) {
        survives(&bytes);
    }

    #[test]
    fn damaged_bodies_are_survived(
        which in 0..GOLDEN.len(),
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>(), 0..4u8), 1..8),
    ) {
        let g = &GOLDEN[which];
        let mut buffer = Vec::new();
        let mut body = decompress(g.encoding, g.body, 1 << 20, &mut buffer).unwrap().to_vec();
        for (at, byte, how) in damage {
            if body.is_empty() {
                break;
            }
            let at = at.index(body.len());
            match how {
                0 => body[at] = byte,
                1 => body[at] ^= 1 << (byte & 7),
                2 => body.insert(at, byte),
                _ => body.truncate(at),
            }
        }
        survives(&body);
    }
}

#[test]
fn hostile_nesting_is_survived() {
    for body in [
        b"[".repeat(200_000),
        b"{\"a\":".repeat(200_000),
        b"{\"resourceMetrics\":[{\"resource\":{\"attributes\":[{\"key\":\"d\",\"value\":"
            .iter()
            .chain(b"{\"arrayValue\":{\"values\":[".repeat(50_000).iter())
            .copied()
            .collect(),
        b"\xa3\x06".repeat(100_000),
        b"\x0b".repeat(100_000),
        b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\x3fabc".to_vec(),
        b"\xff".repeat(200),
        b"\"".repeat(100_000),
        b"a=\"\\".repeat(50_000),
    ] {
        survives(&body);
    }
}
