use std::sync::Arc;

use model::{
    Batch, Delete, DeltaRow, ExemplarRow, FloatRows, Histogram, HistogramRow, Labels, MatchOp, Matcher, MetadataRow,
    MetricKind, Record, SeriesId, TenantId, TimeRange,
};

use super::definitions::Known;
use super::numbers::{self, read_one};
use super::{
    ASCENDING, BATCH, DEFINITIONS, DELETE, DELTAS, EXEMPLARS, FLOATS, HISTOGRAMS, METADATA, MIXED, REPEATED,
    RecordError, SAME_LAYOUT, STARTS, TRAILER, VERSION, VERSION_SHIFT, shareable,
};
use crate::chunk::cursor::Cursor;
use crate::chunk::histograms::read_layout;
use crate::chunk::values::read_float;
use crate::chunk::{HISTOGRAM_VALUES_MAX, read_times};
use crate::table::SeriesTable;

/// Reads the records of a scope in order; labels become series where they are first used.
pub struct Decoder {
    table: Arc<SeriesTable>,
    freed: u64,
    known: Known,
    /// Read only when a definition is missing.
    trailer: Vec<u8>,
}

impl Decoder {
    pub fn new(table: Arc<SeriesTable>) -> Self {
        let freed = table.freed();
        let mut known = Known::default();
        known.forget_ids(freed);
        Decoder {
            table,
            freed,
            known,
            trailer: Vec::new(),
        }
    }

    /// A new scope starts; `trailer` is what `finish` wrote, when it is there undamaged. With it, records may be left
    /// out; without it, every record is passed to [`decode`](Self::decode) in order.
    pub fn begin(&mut self, trailer: Option<&[u8]>) {
        self.known.clear();
        self.trailer.clear();
        self.trailer.extend_from_slice(trailer.unwrap_or_default());
    }

    /// The next record of the scope.
    pub fn decode(&mut self, bytes: &[u8]) -> Result<Record, RecordError> {
        let freed = self.table.freed();
        if freed != self.freed {
            self.freed = freed;
            self.known.forget_ids(freed);
        }
        match self.decode_once(bytes) {
            Err(e) if !self.trailer.is_empty() => {
                let trailer = std::mem::take(&mut self.trailer);
                if self.read_trailer(&trailer).is_err() {
                    Err(e)
                } else {
                    self.decode_once(bytes)
                }
            }
            done => done,
        }
    }

    fn read_trailer(&mut self, trailer: &[u8]) -> Result<(), RecordError> {
        let mut from = Cursor::new(trailer);
        kind(&mut from).and_then(|k| if k == TRAILER { Ok(()) } else { Err(unknown_kind(k)) })?;
        while !from.rest.is_empty() {
            let tenant = read_tenant(&mut from)?;
            self.known.read(tenant, &mut from)?;
        }
        Ok(())
    }

    fn decode_once(&mut self, bytes: &[u8]) -> Result<Record, RecordError> {
        let mut from = Cursor::new(bytes);
        match kind(&mut from)? {
            BATCH => self.decode_batch(&mut from).map(Record::Batch),
            DELETE => decode_delete(&mut from).map(Record::Delete),
            k => Err(unknown_kind(k)),
        }
    }

    fn decode_batch(&mut self, from: &mut Cursor<'_>) -> Result<Batch, RecordError> {
        let tenant = read_tenant(from)?;
        let flags = from.u8()?;
        if flags & 0x80 != 0 {
            return Err(RecordError::Field {
                field: "sections",
                value: u64::from(flags),
            });
        }
        let mut batch = Batch::new(tenant);
        if flags & DEFINITIONS != 0 {
            self.known.read(tenant, from)?;
        }
        if flags & FLOATS != 0 {
            self.decode_floats(tenant, flags & STARTS != 0, from, &mut batch.floats)?;
        }
        if flags & HISTOGRAMS != 0 {
            self.decode_histograms(tenant, from, &mut batch.histograms)?;
        }
        if flags & DELTAS != 0 {
            // a row takes five bytes at least
            let n = from.bounded("count of deltas", from.rest.len() / 5)?;
            batch.deltas.reserve_exact(n);
            let (mut number, mut time) = (0i64, 0i64);
            for _ in 0..n {
                let series = self.step(tenant, &mut number, from)?;
                time = time.wrapping_add(from.zigzag()?);
                let start_ms = time.wrapping_sub(from.zigzag()?);
                batch.deltas.push(DeltaRow {
                    series,
                    start_ms,
                    at_ms: time,
                    value: read_float(from)?,
                });
            }
        }
        if flags & EXEMPLARS != 0 {
            let n = from.bounded("count of exemplars", from.rest.len() / 5)?;
            batch.exemplars.reserve_exact(n);
            let (mut number, mut time) = (0i64, 0i64);
            for _ in 0..n {
                let series = self.step(tenant, &mut number, from)?;
                time = time.wrapping_add(from.zigzag()?);
                let value = read_float(from)?;
                let len = from.bounded("bytes of exemplar labels", from.rest.len())?;
                let labels = Labels::from_bytes(from.take(len)?).map_err(|_| RecordError::Labels)?;
                batch.exemplars.push(ExemplarRow {
                    series,
                    at_ms: time,
                    value,
                    labels,
                });
            }
        }
        if flags & METADATA != 0 {
            let n = from.bounded("count of metadata", from.rest.len() / 4)?;
            batch.metadata.reserve_exact(n);
            for _ in 0..n {
                let metric = from.text("metric name", from.rest.len())?.to_owned();
                let kind = MetricKind::from_u8(from.u8()?);
                let help = from.text("help", from.rest.len())?.to_owned();
                let unit = from.text("unit", from.rest.len())?.to_owned();
                batch.metadata.push(MetadataRow {
                    metric,
                    kind,
                    help,
                    unit,
                });
            }
        }
        if !from.rest.is_empty() {
            return Err(RecordError::Field {
                field: "bytes left over",
                value: from.rest.len() as u64,
            });
        }
        Ok(batch)
    }

    /// The series of the next row, by its distance from the row before.
    fn step(&mut self, tenant: TenantId, number: &mut i64, from: &mut Cursor<'_>) -> Result<SeriesId, RecordError> {
        *number = number.wrapping_add(from.zigzag()?);
        self.known.series(*number as u64, tenant, &self.table)
    }

    fn decode_floats(
        &mut self,
        tenant: TenantId,
        starts: bool,
        from: &mut Cursor<'_>,
        floats: &mut FloatRows,
    ) -> Result<(), RecordError> {
        // a value takes half a byte at least
        let n = from.bounded("count of floats", from.rest.len() * 2)?;
        floats.series.reserve_exact(n);
        let mode = from.u8()?;
        match mode {
            MIXED => {
                let mut number = 0;
                for _ in 0..n {
                    let id = self.step(tenant, &mut number, from)?;
                    floats.series.push(id);
                }
            }
            ASCENDING | REPEATED => {
                let step = u64::from(mode == ASCENDING);
                let mut expected = 0i64;
                while floats.series.len() < n {
                    let first = expected.wrapping_add(from.zigzag()?) as u64;
                    let len = from.bounded("length of a run", n - floats.series.len())? as u64;
                    if len == 0 {
                        return Err(RecordError::Field {
                            field: "length of a run",
                            value: 0,
                        });
                    }
                    self.known
                        .run(first, len, step, tenant, &self.table, &mut floats.series)?;
                    expected = first.wrapping_add((len - 1) * step).wrapping_add(1) as i64;
                }
            }
            _ => {
                return Err(RecordError::Field {
                    field: "series column",
                    value: u64::from(mode),
                });
            }
        }
        floats.at_ms.reserve_exact(n);
        read_times(n, from, &mut floats.at_ms)?;
        numbers::decode(n, from, &mut floats.values)?;
        if starts {
            floats.start_ms.reserve_exact(n);
            read_times(n, from, &mut floats.start_ms)?;
        }
        Ok(())
    }

    fn decode_histograms(
        &mut self,
        tenant: TenantId,
        from: &mut Cursor<'_>,
        rows: &mut Vec<HistogramRow>,
    ) -> Result<(), RecordError> {
        // ids, times, layout and three numbers
        let n = from.bounded("count of histograms", from.rest.len() / 7)?;
        let (mut number, mut time) = (0i64, 0i64);
        for _ in 0..n {
            let series = self.step(tenant, &mut number, from)?;
            time = time.wrapping_add(from.zigzag()?);
            let start_ms = from.zigzag()?;
            let (mut value, positive, negative) = match (from.u8()?, rows.last()) {
                (SAME_LAYOUT, Some(row)) => {
                    let h = &row.value;
                    let layout = Histogram {
                        positive_spans: h.positive_spans.clone(),
                        negative_spans: h.negative_spans.clone(),
                        custom_values: h.custom_values.clone(),
                        positive_buckets: Vec::new(),
                        negative_buckets: Vec::new(),
                        ..*h
                    };
                    if !shareable(h) {
                        return Err(RecordError::Field {
                            field: "layout",
                            value: u64::from(SAME_LAYOUT),
                        });
                    }
                    (layout, h.positive_buckets.len(), h.negative_buckets.len())
                }
                (0, _) => read_layout(from, &mut HISTOGRAM_VALUES_MAX.min(from.rest.len()))?,
                (value, _) => {
                    return Err(RecordError::Field {
                        field: "layout",
                        value: u64::from(value),
                    });
                }
            };
            if positive + negative > from.rest.len() {
                return Err(RecordError::Short);
            }
            value.count = read_one(from)?;
            value.zero_count = read_one(from)?;
            value.sum = read_one(from)?;
            value.positive_buckets.reserve_exact(positive);
            for _ in 0..positive {
                value.positive_buckets.push(read_one(from)?);
            }
            value.negative_buckets.reserve_exact(negative);
            for _ in 0..negative {
                value.negative_buckets.push(read_one(from)?);
            }
            rows.push(HistogramRow {
                series,
                at_ms: time,
                start_ms,
                value,
            });
        }
        Ok(())
    }
}

fn kind(from: &mut Cursor<'_>) -> Result<u8, RecordError> {
    let b = from.u8()?;
    if b >> VERSION_SHIFT != VERSION {
        return Err(RecordError::Version(b >> VERSION_SHIFT));
    }
    Ok(b & ((1 << VERSION_SHIFT) - 1))
}

fn unknown_kind(kind: u8) -> RecordError {
    RecordError::Field {
        field: "kind",
        value: u64::from(kind),
    }
}

fn read_tenant(from: &mut Cursor<'_>) -> Result<TenantId, RecordError> {
    Ok(TenantId(from.bounded("tenant", u32::MAX as usize)? as u32))
}

fn decode_delete(from: &mut Cursor<'_>) -> Result<Delete, RecordError> {
    let tenant = read_tenant(from)?;
    let range = TimeRange::new(from.zigzag()?, from.zigzag()?);
    let n = from.bounded("count of matchers", from.rest.len() / 3)?;
    let mut matchers = Vec::with_capacity(n);
    for _ in 0..n {
        let name = from.text("label name", from.rest.len())?;
        let op = match from.u8()? {
            0 => MatchOp::Equal,
            1 => MatchOp::NotEqual,
            2 => MatchOp::Regex,
            3 => MatchOp::NotRegex,
            value => {
                return Err(RecordError::Field {
                    field: "matcher",
                    value: u64::from(value),
                });
            }
        };
        let value = from.text("label value", from.rest.len())?;
        matchers.push(Matcher::new(name, op, value).map_err(|e| RecordError::Matcher(e.to_string()))?);
    }
    Ok(Delete {
        tenant,
        matchers,
        range,
    })
}
