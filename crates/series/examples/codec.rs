//! Prints nanoseconds and bytes per sample of the column codecs and of the record codec over a mix of typical series.
#![allow(clippy::print_stdout, clippy::disallowed_methods, clippy::unwrap_used)]

use std::time::Instant;

use series::chunk;

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
                if r.next() % 1000 == 0 {
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
                if r.next() % 3 == 0 {
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
            _ => f64::from(u8::from(r.next() % 100 != 0)),
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
        let (mut encode, mut decode) = (f64::MAX, f64::MAX);
        let mut bytes = Vec::with_capacity(8 << 20);
        let mut ends = Vec::new();
        for _ in 0..5 {
            bytes.clear();
            ends.clear();
            let t = Instant::now();
            for c in &columns {
                chunk::encode_floats(&at_ms, c, None, &mut bytes);
                ends.push(bytes.len());
            }
            encode = encode.min(t.elapsed().as_secs_f64());
            let (mut at, mut vs) = (Vec::with_capacity(n), Vec::with_capacity(n));
            let t = Instant::now();
            let mut start = 0;
            for &end in &ends {
                at.clear();
                vs.clear();
                chunk::decode_floats(&bytes[start..end], &mut at, &mut vs).unwrap();
                start = end;
            }
            decode = decode.min(t.elapsed().as_secs_f64());
        }
        let all = (series * n) as f64;
        println!(
            "{kind:28} {:12.3} {:11.2} {:11.2}",
            bytes.len() as f64 / all,
            encode / all * 1e9,
            decode / all * 1e9
        );
    }
}

fn main() {
    chunks(2000);
    chunks(200);
    chunks(20);
}
