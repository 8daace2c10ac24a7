use model::CUSTOM_BUCKETS_SCHEMA;
use proptest::prelude::*;

use super::*;

/// A reader of the same encodings, written from their description.
struct BitReader<'a> {
    bytes: &'a [u8],
    at: usize,
}

impl BitReader<'_> {
    fn bit(&mut self) -> u64 {
        let bit = self.bytes[self.at / 8] >> (7 - self.at % 8) & 1;
        self.at += 1;
        u64::from(bit)
    }

    fn bits(&mut self, n: u32) -> u64 {
        (0..n).fold(0, |v, _| v << 1 | self.bit())
    }

    fn uvarint(&mut self) -> u64 {
        let mut value = 0;
        for shift in (0..).step_by(7) {
            let byte = self.bits(8);
            value |= (byte & 0x7f) << shift;
            if byte < 0x80 {
                break;
            }
        }
        value
    }

    fn float(&mut self) -> f64 {
        f64::from_bits(self.bits(64))
    }

    fn signed_bits(&mut self, width: u32) -> i64 {
        let raw = self.bits(width);
        if width < 64 && raw > 1 << (width - 1) {
            return raw as i64 - (1i64 << width);
        }
        raw as i64
    }

    fn ones(&mut self, max: u32) -> u32 {
        (0..max).take_while(|_| self.bit() == 1).count() as u32
    }

    fn width(&mut self) -> Option<u32> {
        match self.ones(8) {
            0 => None,
            8 => Some(64),
            n => Some([3, 6, 9, 12, 18, 25, 56][n as usize - 1]),
        }
    }

    fn signed(&mut self) -> i64 {
        self.width().map_or(0, |w| self.signed_bits(w))
    }

    fn unsigned(&mut self) -> u64 {
        self.width().map_or(0, |w| self.bits(w))
    }

    fn xor(&mut self, last: &mut f64, window: &mut (u32, u32)) {
        if self.bit() == 0 {
            return;
        }
        if self.bit() == 1 {
            let leading = self.bits(5) as u32;
            let used = match self.bits(6) as u32 {
                0 => 64,
                n => n,
            };
            *window = (leading, 64 - leading - used);
        }
        let difference = self.bits(64 - window.0 - window.1) << window.1;
        *last = f64::from_bits(last.to_bits() ^ difference);
    }
}

fn read_xor(data: &[u8]) -> Vec<(i64, f64)> {
    let n = u16::from_be_bytes([data[0], data[1]]);
    let mut r = BitReader { bytes: data, at: 16 };
    let (mut at, mut step, mut value, mut window) = (0i64, 0i64, 0.0, (0, 0));
    let mut out = Vec::new();
    for i in 0..n {
        match i {
            0 => {
                let raw = r.uvarint();
                at = (raw >> 1) as i64 ^ -((raw & 1) as i64);
                value = r.float();
            }
            1 => {
                step = r.uvarint() as i64;
                at = at.wrapping_add(step);
                r.xor(&mut value, &mut window);
            }
            _ => {
                let change = match r.ones(4) {
                    0 => 0,
                    n => r.signed_bits([14, 17, 20, 64][n as usize - 1]),
                };
                step = step.wrapping_add(change);
                at = at.wrapping_add(step);
                r.xor(&mut value, &mut window);
            }
        }
        out.push((at, value));
    }
    out
}

fn read_histograms(kind: ChunkKind, data: &[u8]) -> Vec<(i64, Histogram)> {
    let n = u16::from_be_bytes([data[0], data[1]]);
    let mut r = BitReader { bytes: data, at: 24 };
    let mut h = Histogram {
        integer: kind == ChunkKind::Histogram,
        ..Histogram::default()
    };
    h.zero_threshold = match r.bits(8) {
        0 => 0.0,
        255 => r.float(),
        n => 0.5 * 2f64.powi(n as i32 - 243),
    };
    h.schema = r.signed() as i32;
    for spans in [&mut h.positive_spans, &mut h.negative_spans] {
        for _ in 0..r.unsigned() {
            let length = r.unsigned() as u32;
            let offset = r.signed() as i32;
            spans.push(Span { offset, length });
        }
    }
    if h.schema == CUSTOM_BUCKETS_SCHEMA {
        for _ in 0..r.unsigned() {
            h.custom_values.push(match r.unsigned() {
                0 => r.float(),
                n => (n - 1) as f64 / 1000.0,
            });
        }
    }
    let buckets = |spans: &[Span]| spans.iter().map(|s| s.length as usize).sum::<usize>();
    let (positive, negative) = (buckets(&h.positive_spans), buckets(&h.negative_spans));
    let mut out = Vec::new();
    let mut at = Twice::default();
    let (mut whole, mut floats) = (vec![Twice::default(); 2 + positive + negative], Vec::new());
    let mut sum = (0.0, (0, 0));
    for i in 0..n {
        at = if i == 0 {
            Twice::from(r.signed())
        } else {
            again(&mut r, at)
        };
        if h.integer {
            for (k, column) in whole.iter_mut().enumerate() {
                if k == 2 {
                    read_sum(&mut r, i == 0, &mut sum);
                }
                *column = match (i, k) {
                    (0, 0 | 1) => Twice::from(r.unsigned() as i64),
                    (0, _) => Twice::from(r.signed()),
                    _ => again(&mut r, *column),
                };
            }
            if whole.len() == 2 {
                read_sum(&mut r, i == 0, &mut sum);
            }
            let running = |from: &[Twice]| -> Vec<f64> {
                let sums = from.iter().scan(0, |s, t| {
                    *s += t.last;
                    Some(*s as f64)
                });
                sums.collect()
            };
            (h.count, h.zero_count, h.sum) = (whole[0].last as f64, whole[1].last as f64, sum.0);
            h.positive_buckets = running(&whole[2..2 + positive]);
            h.negative_buckets = running(&whole[2 + positive..]);
        } else {
            for k in 0..3 + positive + negative {
                if i == 0 {
                    floats.push((r.float(), (0, 0)));
                } else {
                    let (value, window) = &mut floats[k];
                    r.xor(value, window);
                }
            }
            (h.count, h.zero_count, h.sum) = (floats[0].0, floats[1].0, floats[2].0);
            h.positive_buckets = floats[3..3 + positive].iter().map(|f| f.0).collect();
            h.negative_buckets = floats[3 + positive..].iter().map(|f| f.0).collect();
        }
        let first = match data[2] >> 6 {
            0 => ResetHint::Unknown,
            1 => ResetHint::NoReset,
            2 => ResetHint::Reset,
            _ => ResetHint::Gauge,
        };
        h.reset_hint = match first {
            ResetHint::Gauge => ResetHint::Gauge,
            _ if i > 0 => ResetHint::NoReset,
            first => first,
        };
        out.push((at.last, h.clone()));
    }
    out
}

fn read_sum(r: &mut BitReader<'_>, first: bool, sum: &mut (f64, (u32, u32))) {
    if first {
        sum.0 = r.float();
    } else {
        r.xor(&mut sum.0, &mut sum.1);
    }
}

fn again(r: &mut BitReader<'_>, last: Twice) -> Twice {
    let change = last.change.wrapping_add(r.signed());
    Twice {
        last: last.last.wrapping_add(change),
        change,
    }
}

/// Samples with their times: floats and histograms.
type Samples = (Vec<(i64, f64)>, Vec<(i64, Histogram)>);

fn read(chunk: &Chunk) -> Samples {
    match chunk.kind {
        ChunkKind::Xor => (read_xor(&chunk.data), Vec::new()),
        kind => (Vec::new(), read_histograms(kind, &chunk.data)),
    }
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        (-1000i32..1000).prop_map(f64::from),
        Just(0.0),
        Just(-0.0),
        Just(f64::from_bits(0x7ff0_0000_0000_0002)),
    ]
}

fn spans(buckets: usize, custom: bool) -> impl Strategy<Value = Vec<Span>> {
    let offset = if custom { 0..5i32 } else { -40..40i32 };
    (offset, 0..buckets.max(1) as u32, 0..4000i32).prop_map(move |(first, cut, gap)| {
        let (cut, rest) = (cut.min(buckets as u32), buckets as u32 - cut.min(buckets as u32));
        [(first, cut), (gap, rest)]
            .into_iter()
            .filter(|(_, length)| *length > 0)
            .map(|(offset, length)| Span { offset, length })
            .collect()
    })
}

/// Histograms with counts that grow mostly, of few layouts.
fn histogram() -> impl Strategy<Value = Histogram> {
    let layout = prop_oneof![
        Just((3, 2, 0.001, vec![])),
        Just((-4, 0, 0.0, vec![])),
        Just((8, 1, 2f64.powi(-128), vec![])),
        Just((
            CUSTOM_BUCKETS_SCHEMA,
            0,
            0.0,
            vec![-1.0, 0.005, 0.25, 1.0, 40_000.0, 1e300]
        )),
    ];
    (layout, any::<bool>(), 0usize..5, 0u8..4).prop_flat_map(
        |((schema, negative, threshold, custom), integer, n, hint)| {
            let count = if integer {
                (0u64..1 << 50).prop_map(|n| n as f64).boxed()
            } else {
                (0.0..1e9f64).boxed()
            };
            (
                spans(n, !custom.is_empty()),
                spans(negative, false),
                prop::collection::vec(count.clone(), n),
                prop::collection::vec(count.clone(), negative),
                (count.clone(), count),
                value(),
            )
                .prop_map(
                    move |(positive_spans, negative_spans, positive, negative, counts, sum)| Histogram {
                        reset_hint: [
                            ResetHint::Unknown,
                            ResetHint::Reset,
                            ResetHint::NoReset,
                            ResetHint::Gauge,
                        ][usize::from(hint)],
                        integer,
                        schema,
                        zero_threshold: threshold,
                        zero_count: counts.0,
                        count: counts.1,
                        sum,
                        positive_spans,
                        negative_spans,
                        positive_buckets: positive,
                        negative_buckets: negative,
                        custom_values: custom.clone(),
                    },
                )
        },
    )
}

prop_compose! {
    /// Runs of floats and of alike histograms, ascending in time.
    pub(crate) fn block()(
        runs in prop::collection::vec((prop_oneof![histogram().prop_map(Some), Just(None)], 1usize..150, any::<bool>()), 0..5),
        start in -1_000_000_000_000i64..2_000_000_000_000,
        steps in prop::collection::vec(prop_oneof![Just(15_000i64), 1i64..100_000, 1i64..1 << 40], 1..50),
        values in prop::collection::vec(value(), 1..50),
    ) -> SeriesBlock {
        let mut block = SeriesBlock::default();
        let (mut at, mut i) = (start, 0);
        for (histogram, n, grows) in runs {
            for k in 0..n {
                match &histogram {
                    None => {
                        block.at_ms.push(at);
                        block.values.push(values[i % values.len()]);
                    }
                    Some(h) => {
                        let mut h = h.clone();
                        if grows {
                            h.count += k as f64;
                            h.positive_buckets.iter_mut().for_each(|b| *b += k as f64);
                        }
                        block.histogram_at_ms.push(at);
                        block.histograms.push(Arc::new(h));
                    }
                }
                at += steps[i % steps.len()];
                i += 1;
            }
        }
        block
    }
}

fn bits(values: &[(i64, f64)]) -> Vec<(i64, u64)> {
    values.iter().map(|(t, v)| (*t, v.to_bits())).collect()
}

/// What a reader gets of a histogram: a stale marker comes without the rest.
fn written(h: &Arc<Histogram>) -> Histogram {
    let h = bare(h);
    (*h).clone()
}

/// Equal in all bits, but for the hint.
pub(crate) fn same(a: &Histogram, b: &Histogram) -> bool {
    let floats = |h: &Histogram| -> Vec<u64> {
        let all = [h.count, h.sum, h.zero_count, h.zero_threshold].into_iter();
        all.chain(h.positive_buckets.iter().copied())
            .chain(h.negative_buckets.iter().copied())
            .chain(h.custom_values.iter().copied())
            .map(f64::to_bits)
            .collect()
    };
    a.integer == b.integer
        && a.schema == b.schema
        && (&a.positive_spans, &a.negative_spans) == (&b.positive_spans, &b.negative_spans)
        && floats(a) == floats(b)
}

proptest! {
    #[test]
    fn what_is_written_reads_back(block in block()) {
        let (mut floats, mut histograms, mut last) = (Vec::new(), Vec::new(), None);
        for chunk in Chunks::of(&block) {
            let (f, h) = read(&chunk);
            let times: Vec<i64> = f.iter().map(|s| s.0).chain(h.iter().map(|s| s.0)).collect();
            prop_assert!(!times.is_empty() && times.len() <= CHUNK_SAMPLES_MAX);
            prop_assert_eq!((times[0], times[times.len() - 1]), (chunk.min_ms, chunk.max_ms));
            prop_assert!(last.is_none_or(|l| l < chunk.min_ms));
            last = Some(chunk.max_ms);
            floats.extend(f);
            histograms.extend(h);
        }
        let given: Vec<(i64, f64)> = block.at_ms.iter().copied().zip(block.values.iter().copied()).collect();
        prop_assert_eq!(bits(&floats), bits(&given));
        prop_assert_eq!(histograms.len(), block.histograms.len());
        for (i, (at, read)) in histograms.iter().enumerate() {
            let given = written(&block.histograms[i]);
            prop_assert_eq!(*at, block.histogram_at_ms[i]);
            prop_assert!(same(read, &given), "{read:?} is not {given:?}");
            // a reader that trusts the hint must not miss a reset
            let hint = block.histograms[i].reset_hint;
            if read.reset_hint == ResetHint::NoReset && hint != ResetHint::NoReset {
                prop_assert_eq!(hint, ResetHint::Unknown);
                prop_assert!(!was_reset(&block.histograms[i - 1], &block.histograms[i]));
            }
            prop_assert_eq!(read.reset_hint == ResetHint::Gauge, hint == ResetHint::Gauge);
        }
    }
}

#[test]
fn chunks_are_cut_at_their_size_and_where_kinds_change() {
    let mut block = SeriesBlock::default();
    for i in 0..250 {
        block.at_ms.push(i * 1000);
        block.values.push(i as f64);
    }
    block.histogram_at_ms = vec![100_500];
    block.histograms = vec![Arc::new(Histogram {
        sum: f64::from_bits(model::STALE_NAN_BITS),
        positive_spans: vec![Span { offset: 0, length: 1 }],
        positive_buckets: vec![1.0],
        ..Histogram::default()
    })];
    let sizes: Vec<(ChunkKind, usize)> = Chunks::of(&block)
        .map(|c| (c.kind, usize::from(u16::from_be_bytes([c.data[0], c.data[1]]))))
        .collect();
    let x = ChunkKind::Xor;
    assert_eq!(sizes, [(x, 101), (ChunkKind::FloatHistogram, 1), (x, 120), (x, 29)]);
}

/// Bytes that the encoder of Prometheus 3.14 gives for the same samples.
#[test]
fn the_bytes_are_those_of_prometheus() {
    let hex = |block: &SeriesBlock| -> Vec<String> {
        let chunks = Chunks::of(block);
        chunks
            .map(|c| c.data.iter().map(|b| format!("{b:02x}")).collect())
            .collect()
    };
    let floats = SeriesBlock {
        at_ms: vec![1_000, 2_000, 3_000, 4_500],
        values: vec![1.0, 1.0, 2.0, 2.5],
        ..SeriesBlock::default()
    };
    assert_eq!(hex(&floats), ["0004d00f3ff0000000000000e8073097ffe07d3683"]);
    let three = |of: &dyn Fn(f64) -> Histogram| SeriesBlock {
        histogram_at_ms: (0..3).map(|i| 1_700_000_000_000 + 15_000 * i).collect(),
        histograms: (0..3).map(|i| Arc::new(of(f64::from(i)))).collect(),
        ..SeriesBlock::default()
    };
    let integers = three(&|i| Histogram {
        integer: true,
        schema: 3,
        zero_threshold: 0.001,
        zero_count: 2.0 + i,
        count: 10.0 + 5.0 * i,
        sum: 18.4 * (i + 1.0),
        positive_spans: vec![Span { offset: -2, length: 2 }, Span { offset: 1, length: 1 }],
        positive_buckets: vec![3.0 + i, 2.0 + i, 3.0 + 2.0 * i],
        negative_spans: vec![Span { offset: 0, length: 1 }],
        negative_buckets: vec![1.0],
        ..Histogram::default()
    });
    let expected = "000300ff3f50624dd2f1a9fc9ca568c6317f0000c5e7f2b40062a48064cccccccccccd3bc63f07531858e90fc510d9a4ffffffffffff80";
    assert_eq!(hex(&integers), [expected]);
    let custom = three(&|i| Histogram {
        schema: CUSTOM_BUCKETS_SCHEMA,
        count: 3.5 + i,
        sum: 1.25 * (i + 1.0),
        custom_values: vec![-1.0, 0.005, 40_000.0],
        positive_spans: vec![Span { offset: 0, length: 3 }],
        positive_buckets: vec![1.0, 0.5 + i, 2.0],
        ..Histogram::default()
    });
    let expected = "00030000ee5c664d7fe000000000000162071c400000000007f0000c5e7f2b400200600000000000000000000000000001ffa0000000000001ff80000000000001ff000000000000020000000000000007c1d4c6b13d84bffed61644d81d6137ffe0";
    assert_eq!(hex(&custom), [expected]);
}
