use std::sync::Arc;

use model::{Batch, Delete, FloatRows, Histogram, MatchOp, Record, SeriesId};

use super::definitions::Section;
use super::numbers::{self, put_one};
use super::{
    ASCENDING, BATCH, DEFINITIONS, DELETE, DELTAS, EXEMPLARS, FLOATS, HISTOGRAMS, METADATA, MIXED, REPEATED,
    SAME_LAYOUT, STARTS, TRAILER, VERSION, VERSION_SHIFT, shareable,
};
use crate::chunk::cursor::{put_text, put_varint, put_zigzag};
use crate::chunk::histograms::{put_layout, same_layout};
use crate::chunk::put_times;
use crate::chunk::values::put_float;
use crate::table::SeriesTable;

/// Sample bytes a scope must have for each byte of definitions before it may end.
const ROLL_FACTOR: u64 = 4;

/// Writes records. What it remembers belongs to a scope, from [`begin`](Self::begin) to [`finish`](Self::finish).
pub struct Encoder {
    table: Arc<SeriesTable>,
    /// Which scope (or part of one between two frees of ids) an entry below belongs to.
    stamp: u32,
    freed: u64,
    series: Dense,
    pairs: Dense,
    names: std::collections::HashMap<String, u32>,
    /// Numbers given so far: names, pairs, series.
    given: [u32; 3],
    section: Section,
    /// Definitions of the scope: tenant and section, one after the other.
    trailer: Vec<u8>,
    definition_bytes: u64,
    sample_bytes: u64,
    numbers: Vec<u32>,
    times: Vec<i64>,
    pair_numbers: Vec<u32>,
}

/// Numbers by dense index, each with the stamp it counts under.
#[derive(Default)]
struct Dense(Vec<(u32, u32)>);

impl Dense {
    #[inline]
    fn get(&self, index: usize, stamp: u32) -> Option<u32> {
        self.0.get(index).filter(|e| e.0 == stamp).map(|e| e.1)
    }

    fn set(&mut self, index: usize, stamp: u32, number: u32) {
        if self.0.len() <= index {
            self.0.resize((index + 1).max(self.0.len() * 3 / 2), (0, 0));
        }
        self.0[index] = (stamp, number);
    }
}

impl Encoder {
    pub fn new(table: Arc<SeriesTable>) -> Self {
        let freed = table.freed();
        Encoder {
            table,
            stamp: 1,
            freed,
            series: Dense::default(),
            pairs: Dense::default(),
            names: std::collections::HashMap::new(),
            given: [0; 3],
            section: Section::default(),
            trailer: Vec::new(),
            definition_bytes: 0,
            sample_bytes: 0,
            numbers: Vec::new(),
            times: Vec::new(),
            pair_numbers: Vec::new(),
        }
    }

    /// A new scope starts.
    pub fn begin(&mut self) {
        self.next_stamp();
        self.names.clear();
        self.given = [0; 3];
        self.trailer.clear();
        (self.definition_bytes, self.sample_bytes) = (0, 0);
    }

    fn next_stamp(&mut self) {
        self.stamp = self.stamp.wrapping_add(1);
        if self.stamp == 0 {
            (self.series, self.pairs, self.stamp) = (Dense::default(), Dense::default(), 1);
        }
    }

    /// Appends the record's byte form to `out`.
    pub fn encode(&mut self, record: &Record, out: &mut Vec<u8>) {
        match record {
            Record::Batch(batch) => self.encode_batch(batch, out),
            Record::Delete(delete) => encode_delete(delete, out),
        }
    }

    /// Appends the scope's trailer: a copy of all its definitions.
    pub fn finish(&mut self, out: &mut Vec<u8>) {
        out.push(VERSION << VERSION_SHIFT | TRAILER);
        out.extend_from_slice(&self.trailer);
    }

    /// False while sample bytes are fewer than four times the bytes of definitions.
    pub fn roll_ok(&self) -> bool {
        self.sample_bytes >= ROLL_FACTOR * self.definition_bytes
    }

    fn encode_batch(&mut self, batch: &Batch, out: &mut Vec<u8>) {
        let freed = self.table.freed();
        if freed != self.freed {
            // ids may have been given to other series: what is written from here on is defined anew
            self.freed = freed;
            self.next_stamp();
        }
        let start = out.len();
        out.push(VERSION << VERSION_SHIFT | BATCH);
        put_varint(out, u64::from(batch.tenant.0));
        let flags_at = out.len();
        out.push(0);
        let mut flags = 0;

        let first = self.given;
        self.section.clear();
        self.number(batch);
        let before = out.len();
        if !self.section.is_empty() {
            flags |= DEFINITIONS;
            put_varint(&mut self.trailer, u64::from(batch.tenant.0));
            self.section.write(first, out);
            self.trailer.extend_from_slice(&out[before..]);
        }
        let definitions = out.len() - before;

        let floats = batch.floats.len();
        if floats > 0 {
            flags |= FLOATS;
            self.encode_floats(&batch.floats, out);
            if !batch.floats.start_ms.is_empty() {
                flags |= STARTS;
                put_times(&batch.floats.start_ms, &mut self.times, out);
            }
        }
        let mut next = floats;
        let mut numbers = |n: usize| {
            next += n;
            next - n
        };
        if !batch.histograms.is_empty() {
            flags |= HISTOGRAMS;
            let at = numbers(batch.histograms.len());
            self.encode_histograms(batch, at, out);
        }
        if !batch.deltas.is_empty() {
            flags |= DELTAS;
            let at = numbers(batch.deltas.len());
            put_varint(out, batch.deltas.len() as u64);
            let (mut number, mut time) = (0i64, 0i64);
            for (d, &n) in batch.deltas.iter().zip(&self.numbers[at..]) {
                put_zigzag(out, i64::from(n) - number);
                number = i64::from(n);
                put_zigzag(out, d.at_ms.wrapping_sub(time));
                time = d.at_ms;
                put_zigzag(out, d.at_ms.wrapping_sub(d.start_ms));
                put_float(d.value, out);
            }
        }
        if !batch.exemplars.is_empty() {
            flags |= EXEMPLARS;
            let at = numbers(batch.exemplars.len());
            put_varint(out, batch.exemplars.len() as u64);
            let (mut number, mut time) = (0i64, 0i64);
            for (e, &n) in batch.exemplars.iter().zip(&self.numbers[at..]) {
                put_zigzag(out, i64::from(n) - number);
                number = i64::from(n);
                put_zigzag(out, e.at_ms.wrapping_sub(time));
                time = e.at_ms;
                put_float(e.value, out);
                put_varint(out, e.labels.as_bytes().len() as u64);
                out.extend_from_slice(e.labels.as_bytes());
            }
        }
        if !batch.metadata.is_empty() {
            flags |= METADATA;
            put_varint(out, batch.metadata.len() as u64);
            for m in &batch.metadata {
                put_text(out, &m.metric);
                out.push(m.kind as u8);
                put_text(out, &m.help);
                put_text(out, &m.unit);
            }
        }
        out[flags_at] = flags;
        self.definition_bytes += definitions as u64;
        self.sample_bytes += (out.len() - start - definitions) as u64;
    }

    /// Fills `numbers` with the scope numbers of all rows, giving new ones where needed.
    fn number(&mut self, batch: &Batch) {
        let mut numbers = std::mem::take(&mut self.numbers);
        numbers.clear();
        self.table.revive(&batch.floats.series);
        let others = batch
            .histograms
            .iter()
            .map(|h| h.series)
            .chain(batch.deltas.iter().map(|d| d.series));
        let others = others.chain(batch.exemplars.iter().map(|e| e.series));
        for id in batch.floats.series.iter().copied().chain(others) {
            let number = match self.series.get(id.index(), self.stamp) {
                Some(n) => n,
                None => self.define(id),
            };
            numbers.push(number);
        }
        self.numbers = numbers;
    }

    #[cold]
    fn define(&mut self, id: SeriesId) -> u32 {
        self.table.revive(&[id]);
        let (stamp, given) = (self.stamp, &mut self.given);
        let (pairs, names, section) = (&mut self.pairs, &mut self.names, &mut self.section);
        let list = &mut self.pair_numbers;
        list.clear();
        self.table.each_pair(id, |pair, text| {
            let number = pairs.get(pair as usize, stamp).unwrap_or_else(|| {
                let labels = model::Labels::from_trusted_bytes(text);
                let (name, value) = labels.iter().next().unwrap_or_default();
                let name = match names.get(name) {
                    Some(&n) => n,
                    None => {
                        names.insert(name.to_owned(), given[0]);
                        section.add_name(name);
                        given[0] += 1;
                        given[0] - 1
                    }
                };
                section.add_pair(name, value);
                pairs.set(pair as usize, stamp, given[1]);
                given[1] += 1;
                given[1] - 1
            });
            list.push(number);
        });
        section.add_series(list);
        let number = given[2];
        given[2] += 1;
        self.series.set(id.index(), stamp, number);
        number
    }

    fn encode_floats(&mut self, floats: &FloatRows, out: &mut Vec<u8>) {
        let numbers = &self.numbers[..floats.len()];
        put_varint(out, numbers.len() as u64);
        encode_numbers(numbers, out);
        put_times(&floats.at_ms, &mut self.times, out);
        numbers::encode(&floats.values, out);
    }

    fn encode_histograms(&self, batch: &Batch, at: usize, out: &mut Vec<u8>) {
        put_varint(out, batch.histograms.len() as u64);
        let (mut number, mut time, mut before): (i64, i64, Option<&Histogram>) = (0, 0, None);
        for (row, &n) in batch.histograms.iter().zip(&self.numbers[at..]) {
            put_zigzag(out, i64::from(n) - number);
            number = i64::from(n);
            put_zigzag(out, row.at_ms.wrapping_sub(time));
            time = row.at_ms;
            put_zigzag(out, row.start_ms);
            let h = &row.value;
            if before.is_some_and(|b| same_layout(b, h) && shareable(h)) {
                out.push(SAME_LAYOUT);
            } else {
                out.push(0);
                put_layout(h, out);
            }
            before = Some(h);
            for v in [h.count, h.zero_count, h.sum]
                .iter()
                .chain(&h.positive_buckets)
                .chain(&h.negative_buckets)
            {
                put_one(*v, out);
            }
        }
    }
}

/// Appends the column of scope numbers: runs that ascend by one, runs of the same, or each by its distance.
fn encode_numbers(numbers: &[u32], out: &mut Vec<u8>) {
    let (mut ascents, mut repeats) = (0, 0);
    for w in numbers.windows(2) {
        ascents += usize::from(w[1] == w[0].wrapping_add(1));
        repeats += usize::from(w[1] == w[0]);
    }
    let n = numbers.len();
    if ascents.max(repeats) * 2 < n {
        out.push(MIXED);
        let mut last = 0i64;
        for &x in numbers {
            put_zigzag(out, i64::from(x) - last);
            last = i64::from(x);
        }
        return;
    }
    let step = u32::from(ascents >= repeats);
    out.push(if step == 1 { ASCENDING } else { REPEATED });
    let (mut at, mut expected) = (0, 0i64);
    while at < n {
        let mut end = at + 1;
        while end < n && numbers[end] == numbers[end - 1].wrapping_add(step) {
            end += 1;
        }
        put_zigzag(out, i64::from(numbers[at]) - expected);
        put_varint(out, (end - at) as u64);
        expected = i64::from(numbers[end - 1]) + 1;
        at = end;
    }
}

fn encode_delete(delete: &Delete, out: &mut Vec<u8>) {
    out.push(VERSION << VERSION_SHIFT | DELETE);
    put_varint(out, u64::from(delete.tenant.0));
    put_zigzag(out, delete.range.start_ms);
    put_zigzag(out, delete.range.end_ms);
    put_varint(out, delete.matchers.len() as u64);
    for m in &delete.matchers {
        put_text(out, &m.name);
        out.push(match m.op {
            MatchOp::Equal => 0,
            MatchOp::NotEqual => 1,
            MatchOp::Regex => 2,
            MatchOp::NotRegex => 3,
        });
        put_text(out, &m.value);
    }
}
