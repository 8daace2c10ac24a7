use expect_test::{Expect, expect};
use proptest::prelude::*;

use crate::tests::{Recorder, now};
use crate::{DecodeErrorKind, Request};

fn check(body: &str, want: Expect) {
    want.assert_eq(&Recorder::of("influx", body.as_bytes(), &now()).dump());
}

#[test]
fn escapes_and_kinds() {
    check(
        "a\\ b\\,c,t\\=g=v\\,1\\ x\\\\y f\\ 1=1i,s=\"x, y=\\\"\\\\\",b=TRUE,u=18446744073709551615u,e=-1.5e-3 1700000000000000001\n",
        expect![[r#"
            a_b_c_f_1{t_g="v,1 x\\\\y"} 1.0 @1700000000000
            a_b_c_b{t_g="v,1 x\\\\y"} 1.0 @1700000000000
            a_b_c_u{t_g="v,1 x\\\\y"} 1.8446744073709552e19 @1700000000000
            a_b_c_e{t_g="v,1 x\\\\y"} -0.0015 @1700000000000
            reject not_a_number a\ b\,c.s: 1 string value(s): a string is no number; it is not stored (1 lost)
        "#]],
    );
}

#[test]
fn names_stay_as_plain_as_they_can() {
    check(
        "1disk.io,9a=x read-bytes=1\ntemperatur,größe=groß °C=2\n",
        expect![[r#"
            _1disk_io_read_bytes{_9a="x"} 1.0 @1700000000000
            temperatur_°C{größe="groß"} 2.0 @1700000000000
        "#]],
    );
}

#[test]
fn bad_lines_are_named_and_the_others_taken() {
    check(
        "good v=1 1\nbroken line here\r\n\n# note\n  good v=2 2\r\nnofields\nm v=\nm =1\nm v=1.2.3\nm v=NaN\nm v=9223372036854775808i,w=1e999\n\
         m v=1 99999999999999999999999\nm,t v=1\nm,a=1,a=2 v=1\nm v=\"two\nlines\",w=3 4\n,t=1 v=1\nm v=\"abc",
        expect![[r#"
            good_v 1.0 @0
            good_v 2.0 @0
            m_w 3.0 @0
            reject malformed line 2: a field has no value: name=value is right (at character 12): broken line here (1 lost)
            reject malformed line 6: it has no fields (at character 9): nofields (1 lost)
            reject malformed line 7: a field has no value (at character 5): m v= (1 lost)
            reject malformed line 8: a field has no name (at character 3): m =1 (1 lost)
            reject malformed line 9: field "v" has the value "1.2.3": a number, a boolean or a string in quotes is right (1 lost)
            reject malformed line 10: field "v" has the value "NaN": a number, a boolean or a string in quotes is right (1 lost)
            reject malformed line 11: field "v" has the value "9223372036854775808i": a whole number of 64 bits is right before i (1 lost)
            reject malformed line 11: field "w" has the value "1e999": a number that fits 64-bit floats is right (1 lost)
            reject malformed line 12: the timestamp is no whole number of 64 bits (at character 7): m v=1 99999999999999999999999 (1 lost)
            reject malformed line 13: a tag without a value: name=value is right: m,t (1 lost)
            reject malformed line 14: two tags have the same name, as labels are named: m,a=1,a=2 (1 lost)
            reject malformed line 17: the measurement is empty: ,t=1 (1 lost)
            reject malformed line 18: a string never ends (at character 5): m v="abc (1 lost)
            reject not_a_number m.v: 1 string value(s): a string is no number; it is not stored (1 lost)
        "#]],
    );
}

#[test]
fn a_backslash_escapes_what_follows_it_directly() {
    let of = |line: &str| Recorder::of("influx", line.as_bytes(), &now());
    assert_eq!(
        of(r"m,p=C:\Users\\me,n=s v=1 0").dump(),
        concat!(r#"m_v{n="s", p="C:\\Users\\\\me"} 1.0 @0"#, "\n")
    );
    for good in [
        r"m,p=a\,b,n=s v=1",
        r"m,p=a\=b v=1",
        r"m,p=a\ b v=1",
        r"m,p\==b v=1",
        r"m\,x,p=b v=1",
        "m=x,p=b v=1",
        r"m,p=a\b v=1",
        r#"m,p="a" v=1"#,
    ] {
        let sink = of(good);
        assert_eq!((sink.samples, sink.rejects.len()), (1, 0), "{good}: {}", sink.dump());
    }
    for bad in [
        r"m,p=C:\,n=s v=1",
        r"m,n=s,p=C:\ v=1",
        r"m,p=C:\\,n=s v=1",
        r"m,n=s,p=C:\\ v=1",
        "m,p=a=b,n=s v=1",
        "m,n=s,p=a=b v=1",
        "m,p==a v=1",
        "m,p= v=1",
        "m,p=,n=s v=1",
        "m, v=1",
        "m,p=a, v=1",
        "m,,p=a v=1",
        "m,=a v=1",
        "m,p v=1",
        ",p=a v=1",
        "m,p=a,p=b v=1",
        "m,a.b=1,a-b=2 v=1",
        "m v=+1",
        "m v=+1i",
        "m v=1 +5",
        "m v=1 5 6",
        "m v=1,",
        "m v=1,,w=2",
        "m v=0x1",
        "m v=-1u",
        "m v=1.5i",
        "m v=tru",
        "m v=inf",
        "m v",
    ] {
        let sink = of(bad);
        assert!(!sink.rejects.is_empty(), "{bad}: {}", sink.dump());
        assert!(
            sink.rejects.iter().all(|r| r.subject == "line 1"),
            "{bad}: {}",
            sink.dump()
        );
        assert!(sink.samples == 0 || bad.ends_with([',', '2']), "{bad}: {}", sink.dump());
    }
}

#[test]
fn a_string_of_a_bad_line_is_no_line() {
    check(
        "a,p=x=y s=\"one\nb v=1\ntwo\",w=2\nc v=3 0\nd,e s=\"x\nf v=4 0",
        expect![[r#"
            c_v 3.0 @0
            f_v 4.0 @0
            reject malformed line 1: a tag's value has a = without a backslash before it (or a backslash stands before a comma that should end the tag): a,p=x=y (1 lost)
            reject malformed line 5: a string never ends (at character 7): d,e s="x (1 lost)
            reject not_a_number a.s: 1 string value(s): a string is no number; it is not stored (1 lost)
        "#]],
    );
}

#[test]
fn precisions() {
    for (precision, at_ms) in [
        ("", 7i64),
        ("ns", 7),
        ("n", 7),
        ("us", 7_200),
        ("u", 7_200),
        ("ms", 7_200_000),
        ("s", 7_200_000_000),
        ("m", 432_000_000_000),
        ("h", 25_920_000_000_000),
    ] {
        let query = [("precision".to_owned(), precision.to_owned())];
        let request = Request { query: &query, ..now() };
        let sink = Recorder::of("influx", b"m v=1 7200000", &request);
        assert_eq!(sink.dump(), format!("m_v 1.0 @{at_ms}\n"), "{precision}");
    }
    let query = [("precision".to_owned(), "fortnight".to_owned())];
    let request = Request { query: &query, ..now() };
    let e = super::decode(b"m v=1", &request, &mut Recorder::default()).unwrap_err();
    assert_eq!(e.kind, DecodeErrorKind::Unsupported);
    assert!(Recorder::of("influx", b"m v=1 -1", &now()).dump().contains("@-1"));
}

#[test]
fn many_bad_lines_are_counted() {
    let sink = Recorder::of("influx", &b"x\n".repeat(1000), &now());
    assert_eq!(sink.rejects.len(), 101);
    assert_eq!(sink.rejects.iter().map(|r| r.samples).sum::<u64>(), 1000);
}

#[test]
fn repeating_long_tags_is_bounded() {
    let mut body = format!("m,t={} ", "v".repeat(60 << 10)).into_bytes();
    for _ in 0..100_000 {
        body.extend_from_slice(b"a=1,");
    }
    body.extend_from_slice(b"a=1");
    let e = super::decode(&body, &now(), &mut Recorder::default()).unwrap_err();
    assert_eq!(e.kind, DecodeErrorKind::TooLarge);
    assert!(e.taken > 0);
}

fn escaped(text: &str, special: &str) -> String {
    text.chars()
        .flat_map(|c| special.contains(c).then_some('\\').into_iter().chain([c]))
        .collect()
}

proptest! {
    #[test]
    fn written_lines_read_back(
        measurement in "[a-zA-Z][a-zA-Z ,=_]{0,8}[a-z]",
        tags in prop::collection::btree_map("[a-z]{1,4}", "[a-z ,=\"é]{0,8}[a-z]", 0..4),
        field in "[a-z][a-z ,=]{0,8}[a-z]",
        value in any::<f64>().prop_filter("finite", |v| v.is_finite()),
        at_ms in -4_000_000_000_000i64..4_000_000_000_000,
    ) {
        let mut line = escaped(&measurement, ", ");
        for (k, v) in &tags {
            line += &format!(",{k}={}", escaped(v, ",= "));
        }
        line += &format!(" {}={value:?} {at_ms}", escaped(&field, ",= "));
        let query = [("precision".to_owned(), "ms".to_owned())];
        let sink = Recorder::of("influx", line.as_bytes(), &Request { query: &query, ..now() });
        let name: String = format!("{measurement}_{field}").replace([' ', ',', '='], "_");
        let pairs = tags.iter().map(|(k, v)| (k.as_str(), v.as_str())).chain([("__name__", name.as_str())]);
        let labels = model::Labels::from_pairs(pairs);
        prop_assert_eq!(sink.dump(), format!("{labels} {} @{at_ms}\n", crate::tests::value(value)));
    }
}
