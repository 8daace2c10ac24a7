use proptest::prelude::*;

use super::*;
use crate::proto::Writer;
use crate::tests::{Recorder, now};

#[test]
fn scattered_labels_are_one_series() {
    let mut w = Writer::default();
    let label = |w: &mut Writer, n: &[u8], v: &[u8]| {
        w.message(1, |l| {
            l.bytes(1, n);
            l.bytes(2, v);
        });
    };
    w.message(1, |s| {
        label(s, b"__name__", b"up");
        s.message(2, |p| {
            p.double(1, 1.0);
            p.varint(2, 5);
        });
        label(s, b"job", b"a");
    });
    let sink = Recorder::of("remote_write", &w.out, &now());
    assert_eq!(sink.dump(), "up{job=\"a\"} 1.0 @5\n");
    let mut again = Recorder::default();
    decode(&[w.out.clone(), w.out].concat(), &now(), &mut again).unwrap();
    assert_eq!((again.defined, again.samples), (1, 2));
}

#[test]
fn refused_series_harm_no_other() {
    let ok = [("__name__", "ok")];
    let twice = [("__name__", "bad"), ("d", "1"), ("d", "2")];
    let body = encode([
        (&ok[..], &[(1, 1.0)][..]),
        (&[][..], &[(1, 1.0), (2, 2.0)][..]),
        (&twice[..], &[(1, 1.0)][..]),
        (&ok[..], &[(2, 2.0)][..]),
    ]);
    let sink = Recorder::of("remote_write", &body, &now());
    assert_eq!((sink.samples, sink.lost, sink.defined), (2, 3, 3));
}

#[test]
fn what_came_before_the_damage_counts() {
    let labels = [("__name__", "a")];
    let mut body = encode([(&labels[..], &[(1, 1.0)][..])]);
    let whole = body.len();
    body.extend_from_slice(b"\x0a\x05\x0a\x7f");
    let mut sink = Recorder::default();
    let e = decode(&body, &now(), &mut sink).unwrap_err();
    assert_eq!((e.taken, sink.samples), (1, 1));
    assert_eq!(e.offset, Some(whole + 2), "{e}");
    for bad in [
        &b"\x08\x05"[..],
        b"\xa3\x06",
        &body[..whole - 5],
        b"\x0a\x02\x0a\x00\x12",
    ] {
        assert!(decode(bad, &now(), &mut Recorder::default()).is_err(), "{bad:?}");
    }
    let mut unknown = Writer::default();
    unknown.bytes(1000, &[0; 1000]);
    decode(&unknown.out, &now(), &mut Recorder::default()).unwrap();
}

fn histogram(fill: impl FnOnce(&mut Writer)) -> String {
    let mut w = Writer::default();
    w.message(1, |s| {
        s.message(1, |l| {
            l.bytes(1, b"__name__");
            l.bytes(2, b"h");
        });
        s.message(4, fill);
    });
    Recorder::of("remote_write", &w.out, &now()).dump()
}

#[test]
fn native_histograms() {
    let dump = histogram(|h| {
        h.varint(1, 7);
        h.double(3, 2.5);
        h.zigzag(4, -1);
        h.double(5, 0.001);
        h.varint(6, 1);
        h.message(11, |s| {
            s.zigzag(1, -3);
            s.varint(2, 2);
        });
        h.bytes(12, &[8, 3]);
        h.varint(14, 2);
        h.varint(15, 99);
    });
    expect_test::expect![[r#"
        h Histogram { reset_hint: NoReset, integer: true, schema: -1, zero_threshold: 0.001, zero_count: 1.0, count: 7.0, sum: 2.5, positive_spans: [Span { offset: -3, length: 2 }], negative_spans: [], positive_buckets: [4.0, 2.0], negative_buckets: [], custom_values: [] } @99 since 0
    "#]]
    .assert_eq(&dump);
    let dump = histogram(|h| {
        h.double(2, 3.0);
        h.zigzag(4, -53);
        h.message(11, |s| s.varint(2, 2));
        h.double(13, 1.0);
        h.double(13, 2.0);
        h.bytes(16, &5.0f64.to_le_bytes());
        h.varint(15, 7);
    });
    expect_test::expect![[r#"
        h Histogram { reset_hint: Unknown, integer: false, schema: -53, zero_threshold: 0.0, zero_count: 0.0, count: 3.0, sum: 0.0, positive_spans: [Span { offset: 0, length: 2 }], negative_spans: [], positive_buckets: [1.0, 2.0], negative_buckets: [], custom_values: [5.0] } @7 since 0
    "#]]
    .assert_eq(&dump);
    assert!(histogram(|h| h.varint(1, 1 << 60)).contains("a count beyond 2^53"));
    assert!(histogram(|h| h.bytes(12, &[2; 5000])).contains("at most 4096"));
    assert!(histogram(|h| h.bytes(12, &[0xff; 9])).contains("error Malformed"));
}

proptest! {
    #[test]
    fn encode_decode(
        series in prop::collection::vec(
            (prop::collection::btree_map("[a-z_]{1,5}", ".{1,9}", 1..5), prop::collection::vec((any::<i64>(), any::<f64>()), 0..4)),
            0..6,
        ),
    ) {
        let pairs: Vec<Vec<(&str, &str)>> =
            series.iter().map(|(l, _)| l.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect()).collect();
        let body = encode(pairs.iter().zip(&series).map(|(l, (_, s))| (&l[..], &s[..])));
        let sink = Recorder::of("remote_write", &body, &now());
        let want: Vec<String> = series
            .iter()
            .flat_map(|(l, s)| {
                let labels = model::Labels::from_pairs(l);
                s.iter().map(move |(t, v)| format!("{labels} {} @{t}", crate::tests::value(*v)))
            })
            .collect();
        prop_assert_eq!(sink.lines, want);
    }
}
