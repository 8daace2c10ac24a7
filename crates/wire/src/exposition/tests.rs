use expect_test::{Expect, expect};
use proptest::prelude::*;

use super::*;
use crate::tests::{Recorder, now, value};

fn scrape(format: Format, honor_labels: bool, body: &str) -> String {
    let target = [
        ("instance".to_owned(), "localhost:1".to_owned()),
        ("job".to_owned(), "j".to_owned()),
    ];
    let request = Request {
        target: &target,
        honor_labels,
        ..now()
    };
    let mut sink = Recorder::default();
    match decode(body.as_bytes(), format, &request, &mut sink) {
        Ok(s) => assert_eq!(s.samples, sink.samples + sink.lost),
        Err(e) => sink.lines.push(format!("error after {}: {e}", e.taken)),
    }
    sink.dump()
}

fn check(format: Format, body: &str, want: Expect) {
    want.assert_eq(&scrape(format, false, body));
}

#[test]
fn text() {
    check(
        Format::Text,
        "# HELP a_total What \\\\ and \\n.\n# TYPE a_total counter\na_total{ x = \"1\" , y=\"a\\\\b\\\"c\\nd}\", } 1e3 -5\na_total 0x1\n",
        expect![[r#"
            a_total{instance="localhost:1", job="j", x="1", y="a\\b\"c\nd}"} 1000.0 @-5
            error after 1: line 4: the value "0x1" is no number: a_total 0x1 (at byte 99)
        "#]],
    );
    check(
        Format::Text,
        "  \n#comment\n# TYPE h histogram\nh_bucket{le=\"1\"} 1\nh_bucket{le=\"+Inf\"} 2\nh_sum +Inf\nh_count NaN\n{\"ü.m\",\"l.x\"=\"v\"} -Inf\n",
        expect![[r#"
            h_bucket{instance="localhost:1", job="j", le="1.0"} 1.0 @1700000000000
            h_bucket{instance="localhost:1", job="j", le="+Inf"} 2.0 @1700000000000
            h_sum{instance="localhost:1", job="j"} inf @1700000000000
            h_count{instance="localhost:1", job="j"} NaN @1700000000000
            ü.m{instance="localhost:1", job="j", l.x="v"} -inf @1700000000000
            metadata h histogram "" ""
        "#]],
    );
}

/// A bound has one spelling, whichever way its series is written.
#[test]
fn bounds_under_every_spelling_of_a_series() {
    for (kind, label, series) in [
        ("histogram", "le", r#"m_bucket{le="1"}"#),
        ("histogram", "le", r#"m_bucket {le="1"}"#),
        ("histogram", "le", r#"m_bucket{ "le" = "1" }"#),
        ("histogram", "le", r#"{"m_bucket",le="1"}"#),
        ("histogram", "le", r#"{"m_bucket","le"="1"}"#),
        ("histogram", "le", r#"{le="1","m_bucket"}"#),
        ("summary", "quantile", r#"m {quantile="1"}"#),
        ("summary", "quantile", r#"{"m",quantile="1"}"#),
        ("summary", "quantile", r#"{"quantile"="1", "m"}"#),
    ] {
        for (format, end) in [(Format::Text, ""), (Format::OpenMetrics, "# EOF\n")] {
            let dump = scrape(format, true, &format!("# TYPE m {kind}\n{series} 2\n{end}"));
            assert!(dump.contains(&format!("{label}=\"1.0\"")), "{series}: {dump}");
        }
    }
    let dump = scrape(
        Format::Text,
        true,
        "# TYPE \"m.x\" histogram\n{\"m.x_bucket\",le=\"1\"} 2\n",
    );
    assert!(dump.contains("le=\"1.0\""), "{dump}");
    let dump = scrape(Format::Text, true, "# TYPE m gauge\nm{le=\"1\",quantile=\"1\"} 2\n");
    assert!(dump.contains("le=\"1\"") && dump.contains("quantile=\"1\""), "{dump}");
}

#[test]
fn open_metrics() {
    check(
        Format::OpenMetrics,
        "# TYPE a counter\n# UNIT a seconds\n# HELP a Said \\\"so\\\".\na_total{c=\"}\"} 5 1700000000.25 # {t=\"1\"} 0.5 1700000000.1\na_created 1.5e9\n# EOF\n",
        expect![[r#"
            a_total{c="}", instance="localhost:1", job="j"} 5.0 @1700000000250
              exemplar of a_total{c="}", instance="localhost:1", job="j"}: {t="1"} 0.5 @1700000000100
            a_created{instance="localhost:1", job="j"} 1500000000.0 @1700000000000
            metadata a counter "Said \"so\"." "seconds"
        "#]],
    );
    assert!(scrape(Format::OpenMetrics, false, "a 1\n").contains("cut short"));
    assert!(scrape(Format::OpenMetrics, false, "# EOF\na 1\n").contains("text after # EOF"));
}

#[test]
fn labels_of_target_and_body() {
    let body = "m{job=\"x\",exported_job=\"y\"} 1\n";
    assert_eq!(
        scrape(Format::Text, false, body),
        "m{exported_exported_job=\"x\", exported_job=\"y\", instance=\"localhost:1\", job=\"j\"} 1.0 @1700000000000\n"
    );
    assert_eq!(
        scrape(Format::Text, true, body),
        "m{exported_job=\"y\", instance=\"localhost:1\", job=\"x\"} 1.0 @1700000000000\n"
    );
}

#[test]
fn refused_samples_are_not_taken() {
    let dump = scrape(Format::Text, false, "a{x=\"1\",x=\"2\"} 1\nb 1\nc");
    assert!(dump.contains("error after 1: line 3"), "{dump}");
}

#[test]
fn what_is_not_understood() {
    for bad in [
        "a{",
        "a{b} 1",
        "a{b=c} 1",
        "a{b=\"c\"",
        "a{b=\"c\" d=\"e\"} 1",
        "a-b 1",
        "a{1b=\"c\"} 1",
        "a 1 2 3",
        "a 1 x",
        "a",
        "# TYPE a guage",
        "# TYPE",
        "{\"a\",\"b\"} 1",
    ] {
        assert!(
            scrape(Format::Text, false, bad).contains("error after 0: line 1: "),
            "{bad}"
        );
    }
}

proptest! {
    #[test]
    fn written_text_reads_back(
        name in "[a-zé. ]{1,8}",
        labels in prop::collection::btree_map("[a-zé.-]{1,5}", "[a-z\\\\\"\n{}#, é]{1,9}", 0..4),
        number: f64,
        help in "[a-z\\\\\n]{0,9}",
    ) {
        let pairs: Vec<(&str, &str)> = labels.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let mut w = Writer::new();
        w.family(&name, MetricKind::Gauge, &help);
        w.sample(&name, &pairs, number);
        let body = w.finish();
        let sink = Recorder::of("prometheus_text", body.as_bytes(), &now());
        let all = pairs.iter().copied().chain([("__name__", name.as_str())]);
        let labels = model::Labels::from_pairs(all);
        let number = if number.is_nan() { f64::NAN } else { number };
        let want = format!("{labels} {} @1700000000000", value(number));
        prop_assert_eq!(&sink.lines[0], &want, "{}", body);
        prop_assert_eq!(&sink.lines[1], &format!("metadata {name} gauge {help:?} \"\""));
    }
}
