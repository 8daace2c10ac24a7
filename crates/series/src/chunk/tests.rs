use std::sync::Arc;

use model::{Histogram, ResetHint, Span, TimeRange, stale_nan};
use proptest::prelude::*;

use super::*;

fn bits(values: &[f64]) -> Vec<u64> {
    values.iter().map(|v| v.to_bits()).collect()
}

fn same_stats(a: &ChunkStats, b: &ChunkStats) {
    // which NaN a sum gives is the processor's choice
    let one = |v: f64| if v.is_nan() { f64::NAN } else { v };
    let numbers = |s: &ChunkStats| bits(&[s.first, s.last, s.min, s.max, s.sum, s.increase].map(one));
    assert_eq!(
        (a.count, a.min_ms, a.max_ms, a.plain),
        (b.count, b.min_ms, b.max_ms, b.plain)
    );
    assert_eq!(numbers(a), numbers(b), "{a:?} {b:?}");
}

fn check(at_ms: &[i64], values: &[f64], start_ms: Option<&[i64]>) -> Vec<u8> {
    let mut out = vec![9];
    let stats = encode_floats(at_ms, values, start_ms, &mut out);
    let bytes = out.split_off(1);
    let (mut at, mut vs) = (vec![7], vec![7.0]);
    decode_floats(&bytes, &mut at, &mut vs).unwrap();
    assert_eq!(&at[1..], at_ms);
    assert_eq!(bits(&vs[1..]), bits(values));
    let head = read_head(&bytes).unwrap();
    assert_eq!((head.kind, head.count as usize), (Kind::Floats, values.len()));
    if !at_ms.is_empty() {
        assert_eq!((head.min_ms, head.max_ms), (at_ms[0], at_ms[at_ms.len() - 1]));
    }
    assert_eq!(head.stats.is_some(), values.len() >= STATS_FROM);
    if let Some(s) = &head.stats {
        same_stats(s, &stats);
    }
    let mut starts = Vec::new();
    let any = decode_starts(&bytes, &mut starts).unwrap();
    assert_eq!(any.then_some(&starts[..]), start_ms.filter(|s| !s.is_empty()));
    bytes
}

/// A walk of steps below 100 from a fixed seed.
fn walk(n: usize, mut seed: u64) -> Vec<i64> {
    let mut at = 0;
    (0..n)
        .map(|_| {
            seed = seed
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            at += (seed >> 33) as i64 % 201 - 100;
            at
        })
        .collect()
}

fn grid(n: usize) -> Vec<i64> {
    (0..n as i64).map(|i| 1_700_000_000_000 + i * 10_000).collect()
}

#[test]
fn small_chunks_have_small_heads() {
    let at = grid(20);
    assert_eq!(check(&at, &[5.0; 20], None).len(), 10);
    let counter: Vec<f64> = (0..20).map(|i| (1000 + i * 7) as f64).collect();
    assert!(
        check(&at, &counter, None).len() <= 16,
        "{}",
        check(&at, &counter, None).len()
    );
    assert!(check(&at[..1], &[5.5], None).len() <= 10);
    check(&[], &[], None);
}

#[test]
fn two_decimal_walks_are_near_their_entropy() {
    let at = grid(1960);
    let values: Vec<f64> = walk(1960, 1).iter().map(|v| (v + 5000) as f64 / 100.0).collect();
    let bytes = check(&at, &values, None);
    // log2(201) bits are 0.956 bytes; they take eight, a block's head two to three bytes
    assert!(bytes.len() < 1960 * 104 / 100, "{}", bytes.len());
}

#[test]
fn a_constant_step_costs_nothing_and_jitter_little() {
    let mut at = grid(1000);
    let flat = check(&at, &vec![1.0; 1000], None).len();
    assert!(flat < 32, "{flat}");
    for (i, t) in at.iter_mut().enumerate() {
        *t += (i as i64 * 7919) % 16;
    }
    assert!(check(&at, &vec![1.0; 1000], None).len() < 600);
}

#[test]
fn resets_stale_markers_and_odd_values_cost_only_themselves() {
    let at = grid(1000);
    let mut values: Vec<f64> = (0..1000).map(|i| (i % 500 * 30 + i % 7) as f64).collect();
    let plain = check(&at, &values, None).len();
    for i in [3, 700, 999] {
        values[i] = stale_nan();
    }
    values[500] = -0.0;
    values[501] = f64::INFINITY;
    values[502] = f64::from_bits(0x7ff8_dead_beef_0001);
    let odd = check(&at, &values, None).len();
    assert!(odd < plain + 80, "{plain} {odd}");
}

#[test]
fn byte_counts_lose_their_common_factor() {
    let at = grid(500);
    let values: Vec<f64> = walk(500, 3).iter().map(|v| ((v + 9000) * 4096) as f64).collect();
    assert!(check(&at, &values, None).len() < 560);
    let odd: Vec<f64> = walk(500, 3).iter().map(|v| (v * 3000) as f64).collect();
    assert!(check(&at, &odd, None).len() < 560);
}

#[test]
fn full_precision_is_not_longer_than_raw() {
    let at = grid(1000);
    let values: Vec<f64> = walk(1000, 5).iter().map(|v| (*v as f64 * 0.1).sin() + 2.0).collect();
    assert!(check(&at, &values, None).len() < 7000);
}

#[test]
fn a_range_filters() {
    let at = grid(300);
    let values: Vec<f64> = (0..300).map(f64::from).collect();
    let bytes = check(&at, &values, None);
    for (from, to) in [(0, 299), (10, 20), (299, 299), (150, 149)] {
        let (mut t, mut v) = (vec![1], vec![1.0]);
        decode_floats_range(&bytes, TimeRange::new(at[from] - 5, at[to] + 5), &mut t, &mut v).unwrap();
        let end = if to < from { from } else { to + 1 };
        if to < from {
            // both ends lie between two samples
            assert!(t.len() <= 2);
            continue;
        }
        assert_eq!(&t[1..], &at[from..end]);
        assert_eq!(&v[1..], &values[from..end]);
    }
    let (mut t, mut v) = (Vec::new(), Vec::new());
    decode_floats_range(&bytes, TimeRange::new(0, 5), &mut t, &mut v).unwrap();
    assert!(t.is_empty() && v.is_empty());
}

#[test]
fn statistics_are_as_prometheus_counts() {
    let s = stats_of(&[1, 2, 3, 4], &[1.0, 5.0, 2.0, 4.0]);
    assert_eq!((s.first, s.last, s.min, s.max, s.sum), (1.0, 4.0, 1.0, 5.0, 12.0));
    // 4 - 1, and 5 for the reset
    assert_eq!(s.increase, 8.0);
    assert!(s.plain);
    let s = stats_of(&[1, 2, 3], &[1e100, 1.0, -1e100]);
    assert_eq!(s.sum, 1.0);
    assert!(!stats_of(&[1, 2], &[1.0, stale_nan()]).plain);
    assert_eq!(stats_of(&[1, 2], &[1.0, f64::INFINITY]).sum, f64::INFINITY);
}

fn some_histogram() -> Histogram {
    Histogram {
        integer: true,
        schema: 3,
        zero_threshold: 1e-128,
        zero_count: 2.0,
        count: 17.0,
        sum: 18.4,
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 3, length: 1 }],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![4.0, 5.0, 5.0],
        negative_buckets: vec![1.0],
        ..Histogram::default()
    }
}

fn check_histograms(at_ms: &[i64], histograms: &[Histogram], start_ms: Option<&[i64]>) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode_histograms(at_ms, histograms, start_ms, &mut bytes);
    let (mut at, mut hs) = (Vec::new(), Vec::new());
    decode_histograms(&bytes, &mut at, &mut hs).unwrap();
    assert_eq!(at, at_ms);
    assert_eq!(hs.len(), histograms.len());
    for (a, b) in hs.iter().zip(histograms) {
        // NaN differs from itself; its text does not
        assert_eq!(format!("{a:?}"), format!("{b:?}"));
    }
    let mut starts = Vec::new();
    let any = decode_starts(&bytes, &mut starts).unwrap();
    assert_eq!(any.then_some(&starts[..]), start_ms);
    bytes
}

#[test]
fn histograms_share_layouts() {
    let at = grid(120);
    let hs: Vec<Histogram> = (0..120)
        .map(|i| {
            let mut h = some_histogram();
            h.count += f64::from(i * 3);
            h.positive_buckets[1] += f64::from(i);
            h.sum += f64::from(i) * 0.5;
            h
        })
        .collect();
    let bytes = check_histograms(&at, &hs, Some(&vec![at[0]; 120]));
    assert!(bytes.len() < 300, "{}", bytes.len());
    let mut mixed = hs[..10].to_vec();
    mixed[3].reset_hint = ResetHint::Gauge;
    mixed[5] = Histogram {
        sum: stale_nan(),
        ..Histogram::default()
    };
    mixed[7] = Histogram {
        schema: -53,
        custom_values: vec![0.5, 1.0, f64::from_bits(5)],
        positive_spans: vec![Span { offset: 0, length: 2 }],
        positive_buckets: vec![0.25, 1e300],
        sum: f64::NAN,
        ..Histogram::default()
    };
    check_histograms(&at[..10], &mixed, None);
    check_histograms(&[], &[], None);
}

#[test]
fn equal_histograms_share_memory() {
    let mut bytes = Vec::new();
    let h = Arc::new(some_histogram());
    encode_histograms(&[1, 2, 3], &[Arc::clone(&h), Arc::clone(&h), h], None, &mut bytes);
    let mut hs = Vec::new();
    decode_histograms(&bytes, &mut Vec::new(), &mut hs).unwrap();
    assert!(Arc::ptr_eq(&hs[0], &hs[2]));
}

#[test]
fn chunks_are_bounded() {
    let h = Histogram {
        positive_buckets: vec![1.0; 4096],
        ..Histogram::default()
    };
    let fit = histograms_fit(&vec![&h; 5000]);
    assert!(fit > 1000 && fit * 4099 <= HISTOGRAM_VALUES_MAX, "{fit}");
    let mut at = Vec::new();
    let mut vs = Vec::new();
    let claims = [1 << 6, 0xff, 0xff, 0xff, 0x7f, 0];
    assert!(matches!(
        decode_floats(&claims, &mut at, &mut vs),
        Err(ChunkError::Field { .. })
    ));
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        4 => (-1_000_000i64..1_000_000).prop_map(|v| v as f64 / 100.0),
        4 => (0i64..5000).prop_map(|v| v as f64),
        1 => any::<u64>().prop_map(f64::from_bits),
        1 => any::<i64>().prop_map(|v| v as f64),
        1 => (any::<i64>(), 0..18i32).prop_map(|(v, e)| v as f64 / 10f64.powi(e)),
        1 => prop_oneof![
            Just(0.0), Just(-0.0), Just(f64::NAN), Just(stale_nan()), Just(f64::INFINITY), Just(f64::NEG_INFINITY),
            Just(f64::MIN_POSITIVE), Just(f64::from_bits(1)), Just(f64::MAX), Just(f64::MIN), Just(0.1234567890123456),
            Just(9_007_199_254_740_993.0), Just(2_251_799_813_685_248.0), Just(4_503_599_627_370_497.5),
            Just(9.223372036854775e18), Just(-9.223372036854775e18), Just(f64::from_bits(0x7ff0_0000_0000_0001))
        ],
    ]
}

/// Columns of one kind of value, with some of any kind in between.
fn column() -> impl Strategy<Value = Vec<f64>> {
    let any_kind = prop::collection::vec(value(), 0..400);
    let walk = (
        1usize..400,
        any::<u64>(),
        0u8..6,
        any::<i32>(),
        prop::collection::vec((any::<usize>(), value()), 0..6),
    )
        .prop_map(|(n, seed, places, offset, odd)| {
            let mut v: Vec<f64> = walk(n, seed)
                .iter()
                .map(|w| (w + i64::from(offset)) as f64 / values::POW10[usize::from(places)])
                .collect();
            for (i, o) in odd {
                v[i % n] = o;
            }
            v
        });
    prop_oneof![any_kind, walk]
}

fn times(n: usize) -> impl Strategy<Value = Vec<i64>> {
    let anything = prop::collection::vec(any::<i64>(), n).prop_map(|mut t| {
        t.sort_unstable();
        t
    });
    let jitter = (any::<i32>(), 0i64..100_000, prop::collection::vec(0i64..50, n)).prop_map(|(base, step, jitter)| {
        jitter
            .iter()
            .enumerate()
            .map(|(i, j)| i64::from(base) * 1000 + i as i64 * step + j)
            .collect()
    });
    let gaps = (
        any::<i64>(),
        prop::collection::vec(prop_oneof![9 => Just(15_000i64), 1 => 0i64..10_000_000], n),
    )
        .prop_map(|(base, gaps)| {
            let mut at = base / 2;
            gaps.iter()
                .map(|g| {
                    at += g;
                    at
                })
                .collect()
        });
    prop_oneof![anything, jitter, gaps]
}

fn histogram() -> impl Strategy<Value = Histogram> {
    (
        any::<bool>(),
        -4i32..9,
        prop::collection::vec(value(), 0..6),
        prop::collection::vec(value(), 0..4),
        value(),
    )
        .prop_map(|(integer, schema, positive, negative, sum)| Histogram {
            integer,
            schema,
            positive_spans: vec![Span {
                offset: -7,
                length: positive.len() as u32,
            }],
            positive_buckets: positive,
            negative_buckets: negative,
            sum,
            ..Histogram::default()
        })
}

proptest! {
    #[test]
    fn floats_round_trip((at, values) in column().prop_flat_map(|v| (times(v.len()), Just(v))), starts: bool) {
        let start_ms: Vec<i64> = at.iter().map(|t| t / 3).collect();
        check(&at, &values, starts.then_some(&start_ms[..]));
    }

    #[test]
    fn histograms_round_trip(hs in prop::collection::vec((histogram(), 1usize..5), 0..12)) {
        let hs: Vec<Histogram> = hs.into_iter().flat_map(|(h, n)| vec![h; n]).collect();
        check_histograms(&grid(hs.len()), &hs, None);
    }

    #[test]
    fn any_bytes_are_a_chunk_or_an_error(mut bytes: Vec<u8>, kind in prop_oneof![Just(0x40u8), Just(0x48), Just(0x44), Just(0x60)]) {
        let _ = read_head(&bytes);
        if let Some(b) = bytes.first_mut() {
            *b = kind;
        }
        let (mut at, mut vs, mut hs) = (vec![3], Vec::new(), Vec::new());
        if decode_floats(&bytes, &mut at, &mut vs).is_err() {
            prop_assert_eq!((at.len(), vs.len()), (1, 0));
        }
        at.truncate(1);
        if decode_histograms(&bytes, &mut at, &mut hs).is_err() {
            prop_assert_eq!((at.len(), hs.len()), (1, 0));
        }
        let _ = decode_starts(&bytes, &mut Vec::new());
    }

    #[test]
    fn damaged_chunks_never_panic((at, values) in column().prop_flat_map(|v| (times(v.len()), Just(v))), flips in prop::collection::vec((any::<usize>(), any::<u8>()), 1..4), cut: usize) {
        let mut bytes = Vec::new();
        encode_floats(&at, &values, None, &mut bytes);
        for (i, x) in flips {
            let i = i % bytes.len();
            bytes[i] ^= x;
        }
        bytes.truncate(1 + cut % bytes.len());
        let _ = decode_floats(&bytes, &mut Vec::new(), &mut Vec::new());
        let _ = read_head(&bytes);
    }
}

#[test]
fn stored_chunks_are_read() {
    let at = grid(70);
    let mut late = at.clone();
    late[30] += 777;
    let counter: Vec<f64> = (0..70).map(|i| (i % 40 * 30 + i % 7) as f64).collect();
    let gauge: Vec<f64> = walk(70, 1).iter().map(|v| *v as f64 / 100.0).collect();
    let noise: Vec<f64> = (1..71).map(|i| 1.0 / f64::from(i)).collect();
    let mut odd = gauge.clone();
    (odd[3], odd[4], odd[60]) = (stale_nan(), -0.0, f64::NAN);
    let starts: Vec<i64> = vec![at[0] - 5; 70];
    type Case<'a> = (&'a str, &'a [i64], &'a [f64], Option<&'a [i64]>);
    let cases: Vec<Case<'_>> = vec![
        ("empty", &[], &[], None),
        ("one", &at[..1], &gauge[..1], None),
        ("constant", &at, &[7.25; 70], None),
        ("counter", &at, &counter, Some(&starts)),
        ("gauge", &late, &gauge, None),
        ("noise", &at, &noise, None),
        ("odd", &at, &odd, None),
    ];
    let mut now: Vec<(&str, Vec<u8>)> = cases.iter().map(|(n, t, v, s)| (*n, check(t, v, *s))).collect();
    let mut hs = vec![some_histogram(); 5];
    hs[3].count += 4.5;
    hs[4].reset_hint = ResetHint::Reset;
    now.push(("histograms", check_histograms(&at[..5], &hs, None)));
    for (i, (name, bytes)) in crate::golden::golden("chunk-v1.txt", &now).iter().enumerate() {
        let (mut t, mut v, mut h) = (Vec::new(), Vec::new(), Vec::new());
        if name == "histograms" {
            decode_histograms(bytes, &mut t, &mut h).unwrap();
            assert!(h.iter().zip(&hs).all(|(a, b)| **a == *b));
            continue;
        }
        decode_floats(bytes, &mut t, &mut v).unwrap();
        assert_eq!((&t[..], bits(&v)), (cases[i].1, bits(cases[i].2)), "{name}");
    }
}

proptest! {
    /// A range decodes to what the whole decodes to, cut.
    #[test]
    fn a_range_is_a_part_of_the_whole(
        n in 1usize..700,
        seed: u64,
        jitter in prop_oneof![Just(0u64), Just(16), Just(20_000)],
        kind in 0u8..6,
        odd in proptest::collection::vec((0usize..700, prop_oneof![Just(f64::NAN), Just(-0.0), Just(1e300), Just(0.123_456_789)]), 0..4),
        ends in proptest::collection::vec(-100_000i64..7_200_000, 2),
    ) {
        let mut state = seed;
        let mut noise = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            state >> 33
        };
        let mut at: Vec<i64> = grid(n).iter().map(|t| t + (noise() % (jitter + 1)) as i64).collect();
        at.sort_unstable();
        at.dedup();
        let mut values: Vec<f64> = walk(at.len(), seed)
            .iter()
            .enumerate()
            .map(|(i, &v)| match kind {
                0 => 5.0,
                1 => (v + 5000) as f64 / 100.0,
                2 => (i * 30) as f64 + (v % 7) as f64,
                3 => (i * i) as f64,
                4 => f64::from_bits(v as u64 ^ 0x3ff0_0000_0000_0000 ^ noise() << 20),
                _ => (v * 4096) as f64,
            })
            .collect();
        for (i, v) in odd {
            if let Some(slot) = values.get_mut(i) {
                *slot = v;
            }
        }
        let mut bytes = Vec::new();
        encode_floats(&at, &values, None, &mut bytes);
        let base = 1_700_000_000_000;
        let range = TimeRange::new(base + ends[0].min(ends[1]), base + ends[0].max(ends[1]));
        let (mut got_at, mut got) = (vec![1], vec![1.0]);
        decode_floats_range(&bytes, range, &mut got_at, &mut got).unwrap();
        let want: Vec<(i64, u64)> =
            at.iter().zip(&values).filter(|(t, _)| range.contains(**t)).map(|(t, v)| (*t, v.to_bits())).collect();
        let got: Vec<(i64, u64)> = got_at[1..].iter().zip(&got[1..]).map(|(t, v)| (*t, v.to_bits())).collect();
        prop_assert_eq!(got, want);
    }
}
