//! Prints nanoseconds and bytes per sample of the column codecs and of the record codec over a mix of typical series.
#![allow(
    clippy::needless_range_loop,
    clippy::print_stdout,
    clippy::disallowed_methods,
    clippy::unwrap_used
)]

use std::time::Instant;

use std::sync::Arc;

use model::{Batch, Budget, Labels, MatchOp, Matcher, Record, SeriesId, TenantId};
use series::chunk;
use series::record::{Decoder, Encoder};
use series::table::SeriesTable;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.unit()).sum::<f64>() - 6.0
    }
}

fn column(kind: &str, n: usize, seed: u64) -> Vec<f64> {
    let mut r = Rng(seed * 0x9e37_79b9_7f4a_7c15 + 1);
    for _ in 0..8 {
        r.next();
    }
    let mut level = 50.0 + r.unit() * 50.0;
    let mut count = (r.unit() * 1e6).floor();
    let rate = 10.0 + r.unit() * 1000.0;
    (0..n)
        .map(|_| match kind {
            "gauge 2 decimals, walk" => {
                level += r.normal();
                (level * 100.0).round() / 100.0
            }
            "counter, integer, resets" => {
                if r.next().is_multiple_of(1000) {
                    count = 0.0;
                }
                count += (rate + r.normal() * rate.sqrt() * 2.0).max(0.0).round();
                count
            }
            "counter, 2 decimals" => {
                level += (r.normal().abs() * 5.0 * 100.0).round() / 100.0;
                (level * 100.0).round() / 100.0
            }
            "histogram bucket" => {
                if r.next().is_multiple_of(3) {
                    count += (r.next() % 8) as f64;
                }
                count
            }
            "constant" => 17.0,
            "bytes, multiples of 4096" => {
                level += r.normal() * 50.0;
                (level.round() + 100_000.0) * 4096.0
            }
            "noise, full precision" => r.unit() * 0.2 + 0.4,
            "walk, full precision" => {
                level += r.normal();
                level
            }
            _ => f64::from(u8::from(!r.next().is_multiple_of(100))),
        })
        .collect()
}

const KINDS: [&str; 9] = [
    "gauge 2 decimals, walk",
    "counter, integer, resets",
    "counter, 2 decimals",
    "histogram bucket",
    "constant",
    "bytes, multiples of 4096",
    "noise, full precision",
    "walk, full precision",
    "up",
];

fn chunks(n: usize) {
    println!("chunks of {n} samples          bytes/sample   encode ns   decode ns  (chunk, times included)");
    let series = 400_000 / n;
    let at_ms: Vec<i64> = (0..n as i64).map(|i| 1_790_000_000_000 + i * 10_000).collect();
    for kind in KINDS {
        let columns: Vec<Vec<f64>> = (0..series as u64).map(|s| column(kind, n, s + 1)).collect();
        // the best of some runs for each column, so that a busy machine does not count
        let (mut encode, mut decode, mut all_bytes) = (0.0, 0.0, 0);
        let mut bytes = Vec::with_capacity(64 << 10);
        let (mut at, mut vs) = (Vec::with_capacity(n), Vec::with_capacity(n));
        for c in &columns {
            let (mut best_encode, mut best_decode) = (f64::MAX, f64::MAX);
            for _ in 0..7 {
                bytes.clear();
                let t = Instant::now();
                chunk::encode_floats(&at_ms, c, None, &mut bytes);
                best_encode = f64::min(best_encode, t.elapsed().as_secs_f64());
                at.clear();
                vs.clear();
                let t = Instant::now();
                chunk::decode_floats(&bytes, &mut at, &mut vs).unwrap();
                best_decode = f64::min(best_decode, t.elapsed().as_secs_f64());
            }
            encode += best_encode;
            decode += best_decode;
            all_bytes += bytes.len();
        }
        let all = (series * n) as f64;
        println!(
            "{kind:28} {:12.3} {:11.2} {:11.2}",
            all_bytes as f64 / all,
            encode / all * 1e9,
            decode / all * 1e9
        );
    }
}

/// Shares of the kinds in the mix of a server's bodies.
const MIX: [usize; 16] = [0, 1, 3, 3, 3, 3, 1, 0, 2, 4, 5, 1, 0, 8, 6, 4];

fn spelling(i: usize) -> (Vec<u8>, Labels) {
    let labels = Labels::from_pairs([
        ("__name__", format!("node_metric_{}_total", i % 300)),
        ("arch", "x86_64".to_owned()),
        ("datacenter", format!("dc{}", i / 300 % 4)),
        ("hostname", format!("host_{}", i / 300)),
        ("instance", format!("10.0.{}.{}:9100", i / 300 / 250, i / 300 % 250)),
        ("job", "node_exporter".to_owned()),
        ("os", "linux".to_owned()),
        ("rack", format!("{}", i / 300 % 40)),
        ("region", format!("eu-central-{}", i / 300 % 3)),
        ("service", format!("service_{}", i / 300 % 19)),
        ("team", format!("team-{}", i / 300 % 7)),
    ]);
    (labels.as_bytes().to_vec(), labels)
}

fn records(series: usize) {
    const BODY: usize = 8000;
    const ROUNDS: usize = 12;
    println!("\n{series} series, bodies of {BODY} samples");
    let table = Arc::new(SeriesTable::new([5; 16]));
    let spellings: Vec<(Vec<u8>, Labels)> = (0..series).map(spelling).collect();
    let t = Instant::now();
    let mut ids = Vec::with_capacity(series);
    for body in spellings.chunks(BODY) {
        let mut session = table.session(TenantId::DEFAULT);
        ids.extend(
            body.iter()
                .map(|(raw, l)| session.define(raw, l.as_bytes(), None).unwrap()),
        );
    }
    println!(
        "define              {:8.1} ns/series",
        t.elapsed().as_secs_f64() * 1e9 / series as f64
    );
    let t = Instant::now();
    for slice in ids.chunks(BODY) {
        table.set_visible(slice);
    }
    println!(
        "make visible        {:8.1} ns/series",
        t.elapsed().as_secs_f64() * 1e9 / series as f64
    );
    println!(
        "table               {:8.1} bytes/series",
        table.bytes() as f64 / series as f64
    );
    // a body has just been decompressed, so it is in the cache
    let (mut known, mut text, mut parts) = (0.0, Vec::new(), Vec::new());
    for round in 0..6 {
        for body in spellings.chunks(BODY) {
            text.clear();
            parts.clear();
            for (raw, _) in body {
                parts.push(text.len()..text.len() + raw.len());
                text.extend_from_slice(raw);
            }
            let t = Instant::now();
            let mut session = table.session(TenantId::DEFAULT);
            for p in &parts {
                std::hint::black_box(session.known(&text[p.clone()]).unwrap());
            }
            drop(session);
            if round > 0 {
                known += t.elapsed().as_secs_f64() * 1e9 / series as f64 / 5.0;
            }
        }
    }
    println!("known               {known:8.1} ns/sample");

    let columns: Vec<Vec<f64>> = (0..series)
        .map(|s| column(KINDS[MIX[s % MIX.len()]], ROUNDS, s as u64 + 1))
        .collect();
    let mut batches = Vec::new();
    for round in 0..ROUNDS {
        for body in ids.chunks(BODY) {
            let mut b = Batch::new(TenantId::DEFAULT);
            for &id in body {
                let at = 1_790_000_000_000 + round as i64 * 10_000 + i64::from(id.0 / 300 % 97);
                b.floats.push(id, at, columns[id.index()][round], 0);
            }
            batches.push(Record::Batch(b));
        }
    }
    let samples = (series * ROUNDS) as f64;
    let mut encoder = Encoder::new(Arc::clone(&table));
    encoder.begin();
    let first = batches.len() / ROUNDS;
    let (mut bytes, mut ends) = (Vec::with_capacity(64 << 20), Vec::new());
    let t = Instant::now();
    for b in &batches[..first] {
        encoder.encode(b, &mut bytes);
    }
    println!(
        "record, definitions {:8.1} ns/series  {:6.2} bytes/series",
        t.elapsed().as_secs_f64() * 1e9 / series as f64,
        bytes.len() as f64 / series as f64
    );
    let head = bytes.clone();
    let (mut encode, mut decode) = (f64::MAX, f64::MAX);
    for _ in 0..4 {
        bytes.clear();
        ends.clear();
        let t = Instant::now();
        for b in &batches {
            encoder.encode(b, &mut bytes);
            ends.push(bytes.len());
        }
        encode = encode.min(t.elapsed().as_secs_f64() * 1e9 / samples);
    }
    let new = Arc::new(SeriesTable::new([5; 16]));
    let mut trailer = Vec::new();
    encoder.finish(&mut trailer);
    let mut decoder = Decoder::new(Arc::clone(&new));
    decoder.begin(Some(&trailer));
    let t = Instant::now();
    for end in &ends[..first] {
        let start = ends.iter().rev().find(|e| *e < end).copied().unwrap_or(0);
        decoder.decode(&bytes[start..*end]).unwrap();
    }
    println!(
        "decode, definitions {:8.1} ns/series",
        t.elapsed().as_secs_f64() * 1e9 / series as f64
    );
    drop(head);
    for _ in 0..3 {
        let t = Instant::now();
        let mut start = 0;
        for &end in &ends {
            std::hint::black_box(decoder.decode(&bytes[start..end]).unwrap());
            start = end;
        }
        decode = decode.min(t.elapsed().as_secs_f64() * 1e9 / samples);
    }
    println!(
        "record, encode      {encode:8.1} ns/sample  {:6.2} bytes/sample",
        bytes.len() as f64 / samples
    );
    println!("record, decode      {decode:8.1} ns/sample");

    for (name, matchers) in [
        ("one metric", vec![Matcher::equal("__name__", "node_metric_7_total")]),
        (
            "metric, region",
            vec![
                Matcher::equal("__name__", "node_metric_7_total"),
                Matcher::equal("region", "eu-central-1"),
            ],
        ),
        (
            "regex over hosts",
            vec![Matcher::new("hostname", MatchOp::Regex, "host_.*7").unwrap()],
        ),
        (
            "negative regex",
            vec![Matcher::new("hostname", MatchOp::NotRegex, "host_[0-4].*").unwrap()],
        ),
        ("all", vec![]),
    ] {
        let t = Instant::now();
        let found = table
            .select(TenantId::DEFAULT, &matchers, &Budget::unlimited())
            .unwrap();
        let select = t.elapsed().as_secs_f64() * 1e6;
        let mut sorted: Vec<SeriesId> = found;
        let t = Instant::now();
        table.sort_by_labels(&mut sorted);
        let sort = t.elapsed().as_secs_f64() * 1e6;
        let t = Instant::now();
        let labels = table.labels_of(&sorted);
        println!(
            "select {name:18} {:8} series {select:9.0} us, sort {sort:9.0} us, labels {:9.0} us",
            labels.len(),
            t.elapsed().as_secs_f64() * 1e6
        );
    }
}

fn main() {
    records(10_000);
    records(100_000);
    if std::env::args().any(|a| a == "--million") {
        records(1_000_000);
    }
    chunks(2000);
    chunks(200);
    chunks(20);
}
