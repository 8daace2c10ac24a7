use expect_test::{Expect, expect};

use super::*;
use crate::DecodeErrorKind;
use crate::proto::Writer;
use crate::tests::{Recorder, now};

fn dump(json: &str) -> String {
    Recorder::of("otlp_json", json.as_bytes(), &now()).dump()
}

/// One metric of a resource without attributes.
fn metric(metric: &str, want: Expect) {
    want.assert_eq(&dump(&format!(
        "{{\"resourceMetrics\":[{{\"scopeMetrics\":[{{\"metrics\":[{metric}]}}]}}]}}"
    )));
}

const T: &str = r#""startTimeUnixNano":"1600000000000000000","timeUnixNano":1700000000123456789"#;

#[test]
fn names() {
    use NameKind::*;
    for (name, unit, kind, want) in [
        ("http.server.duration", "ms", Other, "http_server_duration_milliseconds"),
        ("system.network.io", "By", MonotonicSum, "system_network_io_bytes_total"),
        ("system.network.io", "By/s", Gauge, "system_network_io_bytes_per_second"),
        ("total.requests", "{request}", MonotonicSum, "requests_total"),
        ("requests_total", "1", MonotonicSum, "requests_total"),
        ("cpu.utilization", "1", Gauge, "cpu_utilization_ratio"),
        ("queue", "1", Other, "queue"),
        ("request.seconds", "s", Gauge, "request_seconds"),
        ("2xx", "", Gauge, "_2xx"),
        ("a__b..c", "", Gauge, "a_b_c"),
        ("temp", "Cel", Gauge, "temp_celsius"),
        ("x", "foo bar/week", Gauge, "x_foo_bar_per_week"),
        ("温度", "", Gauge, "温度"),
    ] {
        assert_eq!(metric_name(name, unit, kind), want, "{name}");
    }
    for (key, want) in [
        ("http.method", "http_method"),
        ("a..b", "a_b"),
        ("1st", "key_1st"),
        ("__name__", "__name__"),
        ("__a.b__", "__a_b__"),
        ("温度", "温度"),
    ] {
        assert_eq!(label_name(key), want);
    }
}

#[test]
fn sums_gauges_and_flags() {
    metric(
        &format!(
            r#"{{"name":"a","sum":{{"aggregationTemporality":"AGGREGATION_TEMPORALITY_CUMULATIVE","isMonotonic":true,"dataPoints":[
            {{{T},"asInt":"-3","attributes":[{{"key":"a.b","value":{{"intValue":7}}}},{{"key":"a_b","value":{{"boolValue":true}}}}],
             "exemplars":[{{"asDouble":0.5,"timeUnixNano":"1700000000000000000","traceId":"0AF7651916cd43dd8448eb211c80319c","spanId":"b7ad6b7169203331","filteredAttributes":[{{"key":"k","value":{{"stringValue":"v"}}}}]}}]}},
            {{{T},"flags":1}},{{{T}}}]}}}},
            {{"name":"d","sum":{{"aggregation_temporality":1,"dataPoints":[{{{T},"asDouble":2}},{{"timeUnixNano":1,"asDouble":2}}]}}}},
            {{"name":"u","sum":{{"dataPoints":[{{{T},"asDouble":2}}]}}}},
            {{"name":"g","unit":"1","gauge":{{"dataPoints":[{{"asDouble":"NaN"}}]}}}}"#
        ),
        expect![[r#"
            metadata a_total counter "" ""
            a_total{a_b="7;true"} -3.0 @1700000000123 since 1600000000000
              exemplar of a_total{a_b="7;true"}: {k="v", span_id="b7ad6b7169203331", trace_id="0af7651916cd43dd8448eb211c80319c"} 0.5 @1700000000000
            a_total stale @1700000000123
            metadata d gauge "" ""
            d +2.0 (1600000000000, 1700000000123]
            metadata g_ratio gauge "" ""
            g_ratio NaN @1700000000000
            reject not_a_number metric "a": a data point has neither asDouble nor asInt (1 lost)
            reject timestamp metric "d": a delta without startTimeUnixNano (1 lost)
            reject unsupported metric "u": aggregationTemporality is 0: 1 (delta) or 2 (cumulative) is right (1 lost)
        "#]],
    );
}

#[test]
fn deltas_that_cannot_be_added_up_are_refused_alone() {
    let sum = |name: &str, monotonic: bool, points: &str| {
        format!(
            r#"{{"name":"{name}","sum":{{"aggregationTemporality":1,"isMonotonic":{monotonic},"dataPoints":[{points}]}}}}"#
        )
    };
    let parts = [
        sum(
            "c",
            true,
            &format!(
                r#"{{{T},"asDouble":"NaN"}},{{{T},"asDouble":"Infinity"}},{{{T},"asInt":"-1"}},{{{T},"asInt":"2"}},{{"timeUnixNano":"1700000000000000000","flags":1}}"#
            ),
        ),
        sum(
            "u",
            false,
            &format!(r#"{{{T},"asInt":"-1"}},{{{T},"asDouble":"-Infinity"}}"#),
        ),
        format!(
            r#"{{"name":"h","histogram":{{"aggregationTemporality":1,"dataPoints":[
            {{{T},"count":2,"sum":"NaN","bucketCounts":[1,1],"explicitBounds":[1]}},
            {{{T},"count":3,"sum":1,"bucketCounts":[1,1],"explicitBounds":[1]}},
            {{{T},"count":"18446744073709551615","sum":1,"bucketCounts":["18446744073709551615",0],"explicitBounds":[1]}},
            {{{T},"count":2,"sum":-1,"bucketCounts":[1,1],"explicitBounds":[1]}}]}}}}"#
        ),
        format!(
            r#"{{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[
            {{{T},"count":0,"sum":"Infinity","scale":1}}]}}}}"#
        ),
        // those that are no deltas stay as they were sent
        format!(
            r#"{{"name":"g","sum":{{"aggregationTemporality":2,"isMonotonic":true,"dataPoints":[{{{T},"asDouble":"NaN"}},{{{T},"asDouble":-1}}]}}}}"#
        ),
    ];
    metric(
        &parts.join(","),
        expect![[r#"
        metadata c_total counter "" ""
        c_total +2.0 (1600000000000, 1700000000123]
        c_total stale @1700000000000, of a delta
        metadata u gauge "" ""
        u +-1.0 (1600000000000, 1700000000123]
        metadata h histogram "" ""
        h_sum +-1.0 (1600000000000, 1700000000123]
        h_count +2.0 (1600000000000, 1700000000123]
        h_bucket{le="1"} +1.0 (1600000000000, 1700000000123]
        h_bucket{le="+Inf"} +2.0 (1600000000000, 1700000000123]
        metadata e histogram "" ""
        metadata g_total counter "" ""
        g_total NaN @1700000000123 since 1600000000000
        g_total -1.0 @1700000000123 since 1600000000000
        reject delta metric "c": a delta of NaN: it must be a finite number (1 lost)
        reject delta metric "c": a delta of inf: it must be a finite number (1 lost)
        reject delta metric "c": a delta of -1: it must be 0 or more where isMonotonic is true (1 lost)
        reject delta metric "u": a delta of -inf: it must be a finite number (1 lost)
        reject delta metric "h": a delta of NaN: it must be a finite number (1 lost)
        reject histogram metric "h": count is 3 and bucketCounts come to 2: in a delta they must be equal (1 lost)
        reject histogram metric "h": count is 18446744073709551615: in a delta 2^53 at most is taken (1 lost)
        reject delta metric "e": a delta of inf: it must be a finite number (1 lost)
    "#]],
    );
}

#[test]
fn histograms_and_summaries() {
    metric(
        &format!(
            r#"{{"name":"h","histogram":{{"aggregationTemporality":2,"dataPoints":[
            {{{T},"count":"4","sum":9.5,"bucketCounts":["1","2",1],"explicitBounds":[0.5,10],
              "exemplars":[{{"asDouble":10,"timeUnixNano":1}},{{"asInt":"11","timeUnixNano":1}}]}},
            {{{T},"count":1,"bucketCounts":[1],"explicitBounds":[1]}},
            {{{T},"count":1,"bucketCounts":[1,0,0],"explicitBounds":[2,1]}}]}}}},
            {{"name":"s","summary":{{"dataPoints":[{{{T},"count":2,"sum":3,"quantileValues":[{{"quantile":0.5,"value":1}}]}}]}}}},
            {{"name":"e","exponentialHistogram":{{"aggregationTemporality":1,"dataPoints":[
            {{{T},"count":6,"sum":1,"scale":9,"zeroCount":1,"positive":{{"offset":-2,"bucketCounts":[1,1,0,0,0,0,0,0,0,0,0,3]}}}}]}}}}"#
        ),
        expect![[r#"
            metadata h histogram "" ""
            h_sum 9.5 @1700000000123 since 1600000000000
            h_count 4.0 @1700000000123 since 1600000000000
            h_bucket{le="0.5"} 1.0 @1700000000123 since 1600000000000
            h_bucket{le="10"} 3.0 @1700000000123 since 1600000000000
            h_bucket{le="+Inf"} 4.0 @1700000000123 since 1600000000000
              exemplar of h_bucket{le="10"}:  10.0 @0
              exemplar of h_bucket{le="+Inf"}:  11.0 @0
            metadata s summary "" ""
            s_sum 3.0 @1700000000123 since 1600000000000
            s_count 2.0 @1700000000123 since 1600000000000
            s{quantile="0.5"} 1.0 @1700000000123 since 1600000000000
            metadata e histogram "" ""
            e Histogram { reset_hint: Gauge, integer: true, schema: 8, zero_threshold: 1e-128, zero_count: 1.0, count: 6.0, sum: 1.0, positive_spans: [Span { offset: 0, length: 1 }, Span { offset: 4, length: 1 }], negative_spans: [], positive_buckets: [2.0, 3.0], negative_buckets: [], custom_values: [] } @1700000000123 since 1600000000000
            reject histogram metric "h": 1 bucketCounts and 1 explicitBounds: one count more than bounds is right (1 lost)
            reject histogram metric "h": explicitBounds do not ascend (1 lost)
        "#]],
    );
}

#[test]
fn resource_scope_and_attribute_values() {
    expect![[r#"
        metadata m gauge "" ""
        m{b="AQI=", d="1e+21", instance="i", job="n/s", kv="{\"x\":[1,\"a\",null]}", otel_scope_name="sc", otel_scope_version="1", otel_scope_x="y"} 1.0 @1700000000000
        metadata target_info gauge "Target metadata" ""
        target_info{instance="i", job="n/s", os_type="linux"} 1.0 @1700000000000
    "#]]
    .assert_eq(&dump(
        r#"{"resourceMetrics":[{"scopeMetrics":[{"metrics":[{"gauge":{"dataPoints":[{"asInt":1,"attributes":[
        {"key":"d","value":{"doubleValue":1e21}},{"key":"b","value":{"bytesValue":"AQI="}},
        {"key":"kv","value":{"kvlistValue":{"values":[{"key":"x","value":{"arrayValue":{"values":[{"intValue":"1"},{"stringValue":"a"},{}]}}}]}}},
        {"key":"__name__","value":{"stringValue":"evil"}}]}]},"name":"m"}],"scope":{"name":"sc","version":"1","attributes":[{"key":"x","value":{"stringValue":"y"}}]}}],
        "resource":{"attributes":[{"key":"service.name","value":{"stringValue":"s"}},{"key":"service.namespace","value":{"stringValue":"n"}},
        {"key":"service.instance.id","value":{"stringValue":"i"}},{"key":"os.type","value":{"stringValue":"linux"}}]},"unknown":[{"a":null}]}]}"#,
    ));
}

#[test]
fn json_that_is_no_request() {
    for bad in [
        "{nope",
        "[]",
        "1",
        "",
        r#"{"resourceMetrics":{"a":1}}"#,
        r#"{"resourceMetrics":[{"schemaUrl":"\ud800"}]}"#,
        r#"{"resourceMetrics":[]} x"#,
    ] {
        assert!(dump(bad).contains("error Malformed after 0"), "{bad}");
    }
    for fine in [
        "{}",
        r#"{"resourceMetrics":[]}"#,
        r#"{"resourceMetrics":null,"x":[{}]}"#,
    ] {
        assert_eq!(dump(fine), "\n");
    }
}

/// A request with one point whose attribute nests arrays.
fn nested(depth: usize) -> Vec<u8> {
    let mut value = Writer::default();
    value.bytes(1, b"x");
    for _ in 0..depth {
        let mut outer = Writer::default();
        outer.message(5, |w| w.bytes(1, &value.out));
        value = outer;
    }
    let mut w = Writer::default();
    w.message(1, |r| {
        r.message(2, |s| {
            s.message(2, |m| {
                m.bytes(1, b"m");
                m.message(5, |g| {
                    g.message(1, |p| {
                        p.double(4, 1.0);
                        p.message(7, |a| {
                            a.bytes(1, b"k");
                            a.bytes(2, &value.out);
                        });
                    });
                });
            });
        });
    });
    w.out
}

#[test]
fn deep_values_cost_their_point() {
    assert!(
        Recorder::of("otlp", &nested(5), &now())
            .dump()
            .contains("m{k=\"[[[[[\\\"x\\\"]]]]]\"} 1.0")
    );
    for depth in [33, 1000, 5000] {
        let dump = Recorder::of("otlp", &nested(depth), &now()).dump();
        assert!(
            dump.contains("reject limit") && dump.contains("nested deeper than 32"),
            "{depth}: {dump}"
        );
    }
}

#[test]
fn repeating_a_large_resource_is_bounded() {
    let mut w = Writer::default();
    w.message(1, |r| {
        r.message(1, |res| {
            res.message(1, |a| {
                a.bytes(1, b"k");
                a.message(2, |v| v.bytes(1, &vec![b'v'; 4 << 20]));
            });
        });
        r.message(2, |s| {
            s.message(2, |m| {
                m.bytes(1, b"m");
                m.message(5, |g| {
                    for _ in 0..2000 {
                        g.message(1, |p| p.double(4, 1.0));
                    }
                });
            });
        });
    });
    let e = decode(&w.out, &now(), &mut Recorder::default()).unwrap_err();
    assert_eq!(e.kind, DecodeErrorKind::TooLarge);
}

#[test]
fn answers() {
    assert_eq!(success(Form::Json, 0, ""), b"{}");
    assert_eq!(success(Form::Protobuf, 0, ""), b"");
    let json = success(Form::Json, 3, "bad \"x\"");
    assert_eq!(
        json,
        br#"{"partialSuccess":{"rejectedDataPoints":"3","errorMessage":"bad \"x\""}}"#
    );
    assert_eq!(success(Form::Protobuf, 3, "no"), b"\x0a\x06\x08\x03\x12\x02no");
    assert_eq!(status(Form::Protobuf, 3, "no"), b"\x08\x03\x12\x02no");
    assert_eq!(status(Form::Json, 3, "no"), br#"{"code":3,"message":"no"}"#);
}

/// A bad value in any place of a body: what is lost with it, and what is said of it.
#[test]
fn a_bad_value_costs_what_it_belongs_to() {
    let body = |resource: &str, bad_metric: &str, point: &str| {
        format!(
            r#"{{"resourceMetrics":[{{"resource":{resource},"scopeMetrics":[{{"metrics":[
            {{{bad_metric}"sum":{{"aggregationTemporality":2,"dataPoints":[{point}{{"asInt":1}}]}},"name":"bad"}},
            {{"name":"beside","gauge":{{"dataPoints":[{{"asInt":2}}]}}}}]}}]}},
            {{"scopeMetrics":[{{"metrics":[{{"name":"far","gauge":{{"dataPoints":[{{"asInt":3}}]}}}}]}}]}}]}}"#
        )
    };
    for (point, field) in [
        (r#"{"asDouble":"x"}"#, "asDouble"),
        (r#"{"asDouble":"nan"}"#, "asDouble"),
        (r#"{"asDouble":"+Inf"}"#, "asDouble"),
        (r#"{"asDouble":1e999}"#, "asDouble"),
        (r#"{"asDouble":{}}"#, "asDouble"),
        (r#"{"asInt":"9223372036854775808"}"#, "asInt"),
        (r#"{"asInt":1.5}"#, "asInt"),
        (r#"{"timeUnixNano":-1}"#, "timeUnixNano"),
        (r#"{"timeUnixNano":[1]}"#, "timeUnixNano"),
        (r#"{"flags":true}"#, "flags"),
        (r#"{"attributes":{}}"#, "attributes"),
        (r#"{"attributes":[1]}"#, "attributes"),
        (r#"{"attributes":[{"key":1}]}"#, "key"),
        (
            r#"{"attributes":[{"key":"k","value":{"bytesValue":"!"}}]}"#,
            "bytesValue",
        ),
        (
            r#"{"attributes":[{"key":"k","value":{"bytesValue":"AAAAA"}}]}"#,
            "bytesValue",
        ),
        (r#"{"exemplars":[{"traceId":"xy"}]}"#, "traceId"),
        ("7", "dataPoints"),
    ] {
        let dump = dump(&body("{}", "", &format!("{point},")));
        for kept in ["bad 1.0", "beside 2.0", "far 3.0"] {
            assert!(dump.contains(kept), "{point}: {dump}");
        }
        assert!(
            dump.contains(&format!("reject malformed metric \"bad\": {field}: ")),
            "{point}: {dump}"
        );
        assert!(dump.contains("(1 lost)") && !dump.contains("error"), "{point}: {dump}");
    }
    for metric in [
        r#""unit":1,"#,
        r#""gauge":[],"#,
        r#""histogram":{"aggregationTemporality":"LATELY"},"#,
    ] {
        let dump = dump(&body("{}", metric, r#"{"asInt":"x"},"#));
        assert!(dump.contains("beside 2.0") && dump.contains("far 3.0"), "{dump}");
        assert!(!dump.contains("bad 1.0"), "{dump}");
        assert!(
            dump.contains("reject malformed metric \"bad\"") && dump.contains("(2 lost)"),
            "{dump}"
        );
    }
    let whole = dump(&body(r#"{"attributes":7}"#, "", ""));
    assert!(whole.contains("far 3.0") && !whole.contains("beside"), "{whole}");
    assert!(whole.contains("attributes: ") && whole.contains("(2 lost)"), "{whole}");
}

proptest::proptest! {
    /// Whichever points are bad: all the others are taken, and the count of the lost is right.
    #[test]
    fn bad_points_cost_nothing_else(bad in proptest::collection::vec(proptest::bool::ANY, 1..300)) {
        let points: Vec<_> = bad
            .iter()
            .enumerate()
            .map(|(i, &bad)| format!("{{\"asInt\":{}}}", if bad { "\"x\"".to_owned() } else { i.to_string() }))
            .collect();
        let read = super::transcode::request(
            format!(
                r#"{{"resourceMetrics":[{{"scopeMetrics":[{{"metrics":[{{"gauge":{{"dataPoints":[{}]}},"name":"m"}}]}}]}}]}}"#,
                points.join(",")
            )
            .as_bytes(),
        );
        let read = read.unwrap();
        let lost = read.refused.told.iter().map(|r| r.points).sum::<u64>() + read.refused.rest;
        proptest::prop_assert_eq!(lost, bad.iter().filter(|b| **b).count() as u64);
        let mut sink = Recorder::default();
        decode(&read.message, &now(), &mut sink).unwrap();
        for (i, bad) in bad.iter().enumerate() {
            let line = format!("m {i}.0 @1700000000000");
            proptest::prop_assert_eq!(sink.lines.contains(&line), !bad);
        }
    }
}
