use crate::DecodeErrorKind;
use crate::proto::Writer;
use crate::tests::{Recorder, now};

fn body(symbols: &[&str], series: impl FnOnce(&mut Writer)) -> Vec<u8> {
    let mut w = Writer::default();
    // series may come before the symbols they refer to
    w.message(5, series);
    for s in symbols {
        w.bytes(4, s.as_bytes());
    }
    w.out
}

const SYMBOLS: [&str; 7] = ["", "__name__", "h_bucket", "le", "1", "Help.", "seconds"];

fn dump(series: impl FnOnce(&mut Writer)) -> String {
    Recorder::of("remote_write_2", &body(&SYMBOLS, series), &now()).dump()
}

fn sample(s: &mut Writer, start: Option<u64>) {
    s.message(2, |p| {
        p.double(1, 1.5);
        p.varint(2, 1000);
        if let Some(start) = start {
            p.varint(3, start);
        }
    });
}

#[test]
fn start_times_in_both_places() {
    let new = dump(|s| {
        s.bytes(1, &[1, 2, 3, 4]);
        sample(s, Some(500));
    });
    let old = dump(|s| {
        // unpacked references too
        for r in [1, 2, 3, 4] {
            s.varint(1, r);
        }
        sample(s, None);
        s.varint(6, 500);
    });
    assert_eq!(new, "h_bucket{le=\"1\"} 1.5 @1000 since 500\n");
    assert_eq!(new, old);
}

#[test]
fn exemplars_histograms_and_metadata() {
    let dump = dump(|s| {
        s.bytes(1, &[1, 2]);
        s.message(3, |h| {
            h.varint(1, 2);
            h.varint(6, 2);
            h.varint(15, 9);
            h.varint(17, 3);
        });
        s.message(4, |e| {
            e.bytes(1, &[3, 4]);
            e.double(2, 0.5);
            e.varint(3, 8);
        });
        s.message(5, |m| {
            m.varint(1, 3);
            m.varint(3, 5);
            m.varint(4, 6);
        });
    });
    expect_test::expect![[r#"
        metadata h histogram "Help." "seconds"
        h_bucket Histogram { reset_hint: Unknown, integer: true, schema: 0, zero_threshold: 0.0, zero_count: 2.0, count: 2.0, sum: 0.0, positive_spans: [], negative_spans: [], positive_buckets: [], negative_buckets: [], custom_values: [] } @9 since 3
          exemplar of h_bucket: {le="1"} 0.5 @8
    "#]]
    .assert_eq(&dump);
}

#[test]
fn bad_references_cost_their_series() {
    for refs in [&[1u8, 2, 3][..], &[1, 99]] {
        let dump = dump(|s| {
            s.bytes(1, refs);
            sample(s, None);
        });
        assert!(dump.contains("reject labels") && dump.contains("(1 lost)"), "{dump}");
    }
    let v1 = crate::remote_write::encode([(&[("__name__", "a")][..], &[(1, 1.0)][..])]);
    assert!(
        Recorder::of("remote_write_2", &v1, &now())
            .dump()
            .contains("remote write 1.0")
    );
}

#[test]
fn equal_text_under_other_numbers_is_known() {
    let mut sink = Recorder::default();
    for symbols in [["", "__name__", "up"], ["up", "__name__", ""]] {
        let refs = if symbols[0].is_empty() { [1, 2] } else { [1, 0] };
        let body = body(&symbols, |s| {
            s.bytes(1, &refs);
            sample(s, None);
        });
        super::decode(&body, &now(), &mut sink).unwrap();
    }
    assert_eq!((sink.defined, sink.samples), (1, 2));
}

#[test]
fn repeating_long_symbols_is_bounded() {
    let long = "v".repeat(400 << 10);
    let mut w = Writer::default();
    w.bytes(4, b"a");
    w.bytes(4, long.as_bytes());
    for _ in 0..2000 {
        w.message(5, |s| {
            s.bytes(1, &[0, 1]);
            sample(s, None);
        });
    }
    let e = super::decode(&w.out, &now(), &mut Recorder::default()).unwrap_err();
    assert_eq!(e.kind, DecodeErrorKind::TooLarge);
    let over = body(&["a", &"v".repeat(600 << 10)], |s| {
        s.bytes(1, &[0, 1]);
        sample(s, None);
    });
    assert!(
        Recorder::of("remote_write_2", &over, &now())
            .dump()
            .contains("bytes of label text")
    );
}
