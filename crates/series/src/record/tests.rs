use std::sync::Arc;

use model::{
    Batch, Delete, DeltaRow, ExemplarRow, Histogram, HistogramRow, Labels, MatchOp, Matcher, MetadataRow, MetricKind,
    Record, ResetHint, SeriesId, Span, TenantId, TimeRange, stale_nan,
};
use proptest::prelude::*;

use super::*;
use crate::table::SeriesTable;

const T: TenantId = TenantId::DEFAULT;

fn table() -> Arc<SeriesTable> {
    Arc::new(SeriesTable::new([3; 16]))
}

fn series(table: &SeriesTable, tenant: TenantId, i: u32) -> SeriesId {
    let l = Labels::from_pairs([
        ("__name__", "http_requests_total".to_owned()),
        ("instance", format!("10.0.0.{}:9100", i % 7)),
        ("path", format!("/a/ü/{i}")),
        (if i.is_multiple_of(5) { "zone" } else { "job" }, format!("{}", i % 3)),
    ]);
    table.intern(tenant, l.as_bytes(), None).unwrap()
}

fn floats(table: &SeriesTable, from: u32, n: u32) -> Batch {
    let mut b = Batch::new(T);
    for i in from..from + n {
        b.floats
            .push(series(table, T, i), 1_790_000_000_000, f64::from(i) * 0.25, 0);
    }
    b
}

/// What a record says, independent of the ids of a process, floats by their bits.
fn told(table: &SeriesTable, record: &Record) -> String {
    let Record::Batch(b) = record else {
        return format!("{record:?}");
    };
    let label = |id: SeriesId| table.labels(id);
    let bits = |v: f64| v.to_bits();
    let f: Vec<_> = (0..b.floats.len())
        .map(|i| (label(b.floats.series[i]), b.floats.at_ms[i], bits(b.floats.values[i])))
        .collect();
    let h: Vec<_> = b
        .histograms
        .iter()
        .map(|h| (label(h.series), h.at_ms, h.start_ms, format!("{:?}", h.value)))
        .collect();
    let d: Vec<_> = b
        .deltas
        .iter()
        .map(|d| (label(d.series), d.start_ms, d.at_ms, bits(d.value)))
        .collect();
    let e: Vec<_> = b
        .exemplars
        .iter()
        .map(|e| (label(e.series), e.at_ms, bits(e.value), &e.labels))
        .collect();
    format!(
        "{} {f:?} {:?} {h:?} {d:?} {e:?} {:?}",
        b.tenant, b.floats.start_ms, b.metadata
    )
}

/// Writes the records in one scope: their bytes, and the trailer.
fn write(table: &Arc<SeriesTable>, records: &[Record]) -> (Vec<Vec<u8>>, Vec<u8>) {
    let mut encoder = Encoder::new(Arc::clone(table));
    encoder.begin();
    let bytes = records
        .iter()
        .map(|r| {
            let mut out = Vec::new();
            encoder.encode(r, &mut out);
            out
        })
        .collect();
    let mut trailer = Vec::new();
    encoder.finish(&mut trailer);
    (bytes, trailer)
}

fn everything(t: &SeriesTable) -> Batch {
    let mut b = floats(t, 0, 20);
    b.floats.push(series(t, T, 3), 17, stale_nan(), 5);
    b.floats.push(series(t, T, 3), -18, f64::NEG_INFINITY, 0);
    b.floats.push(series(t, T, 90), i64::MAX, 0.1 + 0.2, i64::MIN);
    let h = Histogram {
        integer: true,
        schema: 2,
        count: 12.0,
        sum: -3.25,
        zero_threshold: 1e-9,
        positive_spans: vec![Span { offset: -4, length: 2 }],
        positive_buckets: vec![5.0, 7.0],
        ..Histogram::default()
    };
    let custom = Histogram {
        reset_hint: ResetHint::Gauge,
        schema: -53,
        custom_values: vec![0.1, 1e9],
        sum: stale_nan(),
        ..Histogram::default()
    };
    for (i, value) in [h.clone(), h, custom].into_iter().enumerate() {
        b.histograms.push(HistogramRow {
            series: series(t, T, 40),
            at_ms: i as i64,
            start_ms: 3,
            value,
        });
    }
    b.deltas.push(DeltaRow {
        series: series(t, T, 41),
        start_ms: 10,
        at_ms: 70,
        value: 4.5,
    });
    b.exemplars.push(ExemplarRow {
        series: series(t, T, 1),
        at_ms: 9,
        value: 1.5,
        labels: Labels::from_pairs([("trace_id", "abc")]),
    });
    b.exemplars.push(ExemplarRow {
        series: series(t, T, 1),
        at_ms: 8,
        value: 0.0,
        labels: Labels::empty(),
    });
    b.metadata.push(MetadataRow {
        metric: "up".into(),
        kind: MetricKind::Gauge,
        help: "whether it answers".into(),
        unit: String::new(),
    });
    b
}

fn delete() -> Record {
    Record::Delete(Delete {
        tenant: TenantId(4),
        matchers: vec![
            Matcher::equal("a", "b"),
            Matcher::new("c", MatchOp::NotRegex, "x|y").unwrap(),
            Matcher::new("d", MatchOp::NotEqual, "").unwrap(),
        ],
        range: TimeRange::ALL,
    })
}

#[test]
fn records_come_back_in_another_process() {
    let t = table();
    let mut other = Batch::new(TenantId(7));
    other.floats.push(series(&t, TenantId(7), 1), 5, 1.0, 0);
    let records = [
        Record::Batch(everything(&t)),
        Record::Batch(other),
        Record::Batch(floats(&t, 10, 300)),
        delete(),
        Record::Batch(floats(&t, 0, 20)),
        Record::Batch(Batch::new(T)),
    ];
    let (bytes, _) = write(&t, &records);
    let new = Arc::new(SeriesTable::new([9; 16]));
    let mut decoder = Decoder::new(Arc::clone(&new));
    decoder.begin(None);
    for (b, r) in bytes.iter().zip(&records) {
        assert_eq!(told(&new, &decoder.decode(b).unwrap()), told(&t, r));
    }
    assert_eq!(new.len(TenantId(7)), 1);
    // known series cost a run
    assert!(bytes[4].len() < 20 * 3 + 16, "{}", bytes[4].len());
}

#[test]
fn a_lost_record_costs_only_itself() {
    let t = table();
    let records: Vec<Record> = [(0, 50), (50, 50), (30, 90)]
        .map(|(a, n)| Record::Batch(floats(&t, a, n)))
        .into();
    let (bytes, trailer) = write(&t, &records);
    let new = Arc::new(SeriesTable::new([9; 16]));
    let mut decoder = Decoder::new(Arc::clone(&new));
    decoder.begin(Some(&trailer));
    assert_eq!(told(&new, &decoder.decode(&bytes[2]).unwrap()), told(&t, &records[2]));
    decoder.begin(None);
    assert!(decoder.decode(&bytes[0]).is_ok());
    assert!(matches!(
        decoder.decode(&bytes[2]),
        Err(RecordError::Undefined { number: 50 })
    ));
    assert!(decoder.decode(&bytes[0]).is_ok());
    assert!(decoder.decode(&bytes[1]).is_ok());
    assert_eq!(told(&new, &decoder.decode(&bytes[2]).unwrap()), told(&t, &records[2]));
}

#[test]
fn a_scope_rolls_on_samples_not_on_definitions() {
    let t = table();
    let mut encoder = Encoder::new(Arc::clone(&t));
    encoder.begin();
    assert!(encoder.roll_ok());
    let batch = Record::Batch(floats(&t, 0, 100));
    let mut out = Vec::new();
    encoder.encode(&batch, &mut out);
    assert!(!encoder.roll_ok());
    for _ in 0..100 {
        encoder.encode(&batch, &mut out);
    }
    assert!(encoder.roll_ok());
}

#[test]
fn an_id_given_again_is_defined_again() {
    let t = table();
    let mut encoder = Encoder::new(Arc::clone(&t));
    let mut decoder = Decoder::new(Arc::clone(&t));
    encoder.begin();
    decoder.begin(None);
    let mut pass = |batch: &Batch| {
        let mut out = Vec::new();
        encoder.encode(&Record::Batch(batch.clone()), &mut out);
        let Record::Batch(b) = decoder.decode(&out).unwrap() else {
            panic!("a batch")
        };
        assert_eq!(&b, batch);
        out.len()
    };
    let first = floats(&t, 0, 10);
    pass(&first);
    let small = pass(&first);
    t.retire(&first.floats.series, 1);
    // written while retired: it stays
    pass(&first);
    t.reuse_up_to(1);
    assert_eq!(t.freed(), 0);
    t.retire(&first.floats.series, 2);
    t.reuse_up_to(2);
    let second = floats(&t, 500, 10);
    assert_eq!(second.floats.series, first.floats.series);
    assert!(pass(&second) > small + 50);
    assert_eq!(t.labels(second.floats.series[0]).get("path"), Some("/a/ü/500"));
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        (-100_000i64..100_000).prop_map(|v| v as f64 / 100.0),
        any::<i32>().prop_map(f64::from),
        any::<u64>().prop_map(f64::from_bits),
        any::<f32>().prop_map(f64::from),
        (any::<i64>(), 0..14i32).prop_map(|(v, e)| v as f64 / 10f64.powi(e)),
        prop::sample::select(vec![
            0.0,
            -0.0,
            f64::NAN,
            f64::INFINITY,
            1e13,
            -1e13,
            70_368_744_177_664.0,
            1e300
        ]),
    ]
}

fn time() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(1_790_000_000_000),
        1_790_000_000_000i64..1_790_000_100_000,
        any::<i64>()
    ]
}

prop_compose! {
    fn batch()(
        rows in prop::collection::vec((0u32..40, time(), value(), prop_oneof![3 => Just(0), 1 => time()]), 0..60),
        histograms in prop::collection::vec((0u32..40, time(), prop::collection::vec(value(), 0..5), value()), 0..6),
        deltas in prop::collection::vec((0u32..40, time(), time(), value()), 0..6),
        tenant in 1u32..3,
    ) -> (Vec<(u32, i64, f64, i64)>, Vec<(u32, i64, Vec<f64>, f64)>, Vec<(u32, i64, i64, f64)>, u32) {
        (rows, histograms, deltas, tenant)
    }
}

proptest! {
    #[test]
    fn any_record_comes_back(batches in prop::collection::vec(batch(), 1..6), lose in any::<prop::sample::Index>()) {
        let t = table();
        let records: Vec<Record> = batches.into_iter().map(|(rows, histograms, deltas, tenant)| {
            let tenant = TenantId(tenant);
            let mut b = Batch::new(tenant);
            for (i, at, v, start) in rows {
                b.floats.push(series(&t, tenant, i), at, v, start);
            }
            for (i, at_ms, buckets, sum) in histograms {
                let value = Histogram {
                    positive_spans: vec![Span { offset: 1, length: buckets.len() as u32 }],
                    positive_buckets: buckets,
                    sum,
                    ..Histogram::default()
                };
                b.histograms.push(HistogramRow { series: series(&t, tenant, i), at_ms, start_ms: 0, value });
            }
            for (i, start_ms, at_ms, value) in deltas {
                b.deltas.push(DeltaRow { series: series(&t, tenant, i), start_ms, at_ms, value });
            }
            Record::Batch(b)
        }).collect();
        let (bytes, trailer) = write(&t, &records);
        let new = table();
        let mut decoder = Decoder::new(Arc::clone(&new));
        decoder.begin(None);
        for (b, r) in bytes.iter().zip(&records) {
            prop_assert_eq!(told(&new, &decoder.decode(b).unwrap()), told(&t, r));
        }
        let lost = lose.index(bytes.len());
        decoder.begin(Some(&trailer));
        for (i, b) in bytes.iter().enumerate().filter(|(i, _)| *i != lost) {
            prop_assert_eq!(told(&new, &decoder.decode(b).unwrap()), told(&t, &records[i]));
        }
    }

    #[test]
    fn any_bytes_are_a_record_or_an_error(mut bytes in prop::collection::vec(any::<u8>(), 0..200), kind in 0u8..3, flags: u8) {
        let mut decoder = Decoder::new(table());
        decoder.begin(Some(&bytes));
        let _ = decoder.decode(&bytes);
        if bytes.len() > 3 {
            bytes[0] = 0x10 | kind;
            bytes[1] = 1;
            bytes[2] = flags & 0x7f;
        }
        let _ = decoder.decode(&bytes);
        decoder.begin(Some(&bytes));
        let _ = decoder.decode(&bytes);
    }

    #[test]
    fn damaged_records_never_panic(flips in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5)) {
        let t = table();
        let (mut bytes, trailer) = write(&t, &[Record::Batch(everything(&t)), Record::Batch(floats(&t, 5, 60)), delete()]);
        let mut damaged = trailer.clone();
        for (i, x) in flips {
            for b in bytes.iter_mut().chain([&mut damaged]) {
                let i = i.index(b.len());
                b[i] ^= x;
            }
        }
        for trailer in [None, Some(&trailer[..]), Some(&damaged[..])] {
            let mut decoder = Decoder::new(table());
            decoder.begin(trailer);
            for b in &bytes {
                let _ = decoder.decode(b);
            }
        }
    }
}

#[test]
fn stored_records_are_read() {
    let t = table();
    let records = [
        Record::Batch(everything(&t)),
        Record::Batch(floats(&t, 18, 9)),
        delete(),
    ];
    let (bytes, trailer) = write(&t, &records);
    let [everything, more, delete] = <[Vec<u8>; 3]>::try_from(bytes).unwrap();
    let now = [
        ("everything", everything),
        ("more", more),
        ("delete", delete),
        ("trailer", trailer),
    ];
    let stored = crate::golden::golden("record-v1.txt", &now);
    for trailer in [None, Some(&stored[3].1[..])] {
        let new = table();
        let mut decoder = Decoder::new(Arc::clone(&new));
        decoder.begin(trailer);
        for ((_, bytes), record) in stored.iter().zip(&records) {
            assert_eq!(told(&new, &decoder.decode(bytes).unwrap()), told(&t, record));
        }
    }
}
