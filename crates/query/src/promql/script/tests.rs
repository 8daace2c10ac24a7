use std::sync::Arc;

use super::super::value::{Point, Sample, Series};
use super::*;

/// Answers every query with the series it was loaded with: instant queries with the newest sample up to the time.
#[derive(Default)]
struct Echo {
    loaded: Vec<Loaded>,
    warnings: Vec<String>,
}

fn point(value: &LoadedValue) -> Point {
    match value {
        LoadedValue::Float(v) => Point::Float(*v),
        LoadedValue::Histogram(h) => Point::Histogram(Arc::new(h.clone())),
    }
}

impl Target for Echo {
    fn clear(&mut self) -> Result<(), String> {
        self.loaded.clear();
        Ok(())
    }

    fn load(&mut self, series: Vec<Loaded>) -> Result<(), String> {
        self.loaded.extend(series);
        Ok(())
    }

    fn instant(&mut self, query: &str, at_ms: i64) -> Result<Answer, String> {
        if query.starts_with("fail") {
            return Err("it failed".into());
        }
        let pinned = query.split_once(" @ ").and_then(|(_, time)| time.parse::<f64>().ok());
        let time = pinned.map_or(at_ms.max(0), |seconds| (seconds * 1000.0) as i64);
        let newest = |l: &Loaded| {
            let s = l.samples.iter().rfind(|s| s.at_ms <= time)?;
            Some(Sample {
                labels: l.labels.clone(),
                at_ms,
                point: point(&s.value),
            })
        };
        let value = match query {
            "1" => Value::Scalar { at_ms, value: 1.0 },
            q if q.starts_with('"') => Value::String {
                at_ms,
                text: q.trim_matches('"').to_owned(),
            },
            _ => Value::Vector(self.loaded.iter().filter_map(newest).collect()),
        };
        Ok(Answer {
            value,
            warnings: self.warnings.clone(),
            infos: Vec::new(),
        })
    }

    fn range(&mut self, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Answer, String> {
        let mut matrix: Vec<Series> = Vec::new();
        for at_ms in (start_ms..=end_ms).step_by(step_ms as usize) {
            let samples = match self.instant(query, at_ms)?.value {
                Value::Vector(samples) => samples,
                _ => vec![Sample {
                    labels: Labels::empty(),
                    at_ms,
                    point: Point::Float(1.0),
                }],
            };
            for s in samples {
                let found = matrix.iter().position(|m| m.labels == s.labels).unwrap_or_else(|| {
                    matrix.push(Series {
                        labels: s.labels.clone(),
                        ..Series::default()
                    });
                    matrix.len() - 1
                });
                match s.point {
                    Point::Float(v) => {
                        matrix[found].at_ms.push(at_ms);
                        matrix[found].values.push(v);
                    }
                    Point::Histogram(h) => {
                        matrix[found].histogram_at_ms.push(at_ms);
                        matrix[found].histograms.push(h);
                    }
                }
            }
        }
        matrix.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Answer {
            value: Value::Matrix(matrix),
            warnings: self.warnings.clone(),
            infos: Vec::new(),
        })
    }
}

fn problems(script: &str) -> Vec<String> {
    let report = run(script, &mut Echo::default()).unwrap();
    report.failures.into_iter().map(|f| f.what).collect()
}

#[test]
fn series_descriptions_expand() {
    let items = |text: &str| series::series(text).unwrap().1;
    use series::Item::*;
    assert_eq!(
        items("a 1 2+3x2 _ _x2"),
        [
            Float(1.0),
            Float(2.0),
            Float(5.0),
            Float(8.0),
            Omitted,
            Omitted,
            Omitted
        ]
    );
    assert_eq!(
        items("{a=\"b\"} -1-1x1 +Inf 1e3x1"),
        [
            Float(-1.0),
            Float(-2.0),
            Float(f64::INFINITY),
            Float(1000.0),
            Float(1000.0)
        ]
    );
    assert!(matches!(items("a stale")[0], Float(v) if model::is_stale(v)));
    let (labels, items) = series::series(
        "{\"odd.name\", 'x y'=`z`} {{schema:1 count:3 sum:2 buckets:[1 2] offset:-1 \
         z_bucket:1 z_bucket_w:0.5 n_buckets:[4] counter_reset_hint:gauge}}+{{schema:1 buckets:[1]}}x1",
    )
    .unwrap();
    assert_eq!(labels, Labels::from_pairs([("__name__", "odd.name"), ("x y", "z")]));
    let Histogram(first, hinted) = &items[0] else { panic!() };
    assert!(!hinted, "the hint that counts is the increment's");
    assert_eq!(
        (first.schema, first.zero_count, first.positive_spans[0].offset),
        (1, 1.0, -1)
    );
    let Histogram(second, _) = &items[1] else { panic!() };
    assert_eq!(second.positive_buckets, [1.0, 3.0]);
}

#[test]
fn bad_series_are_refused() {
    for text in [
        "a 1+2",
        "a x",
        "a {{schema:1",
        "a {{foo:1}}",
        "a {{sum:1 sum:2}}",
        "a{b} 1",
        "a{b=\"c} 1",
        "a 1x9999999",
        "a 1,2",
        "a {{schema:2}}+{{schema:1}}x2",
        "a 1x99999999999999999999",
    ] {
        assert!(series::series(text).is_err(), "{text}");
    }
}

#[test]
fn a_script_that_holds() {
    let script = r#"
        # loads and asks
        load 1m
          a{x="1"} 1 2 3
          b {{schema:0 count:2 buckets:[1 1]}} _ _
          c@st -1m 0s _
          c 1 2 3

        eval instant at 2m foo
          a{x="1"} 3
          b {{count:2 buckets:[1 1]}}
          c 3

        eval range from 0 to 2m step 1m foo
          a{x="1"} 1 2 3
          b {{count:2 buckets:[1 1]}} {{count:2 buckets:[1 1]}} {{count:2 buckets:[1 1]}}
          c 1 2 3

        eval instant at 1m 1
          1

        eval instant at 1m "x"
          expect string "x"

        eval instant at 1m fail
          expect fail msg: it failed

        eval_fail instant at 1m fail
          expected_fail_regexp .*failed

        clear
        eval instant at 1m foo
          expect no_warn
    "#;
    let mut target = Echo::default();
    let report = run(script, &mut target).unwrap();
    assert_eq!(report.failures, []);
    assert_eq!(report.passed, 7);
}

#[test]
fn start_times_and_native_copies_are_loaded() {
    let mut target = Echo::default();
    run(
        "load_with_nhcb 1m\n h_bucket{le=\"1\",a=\"b\"} 1\n h_bucket{le=\"+Inf\",a=\"b\"} 3\n h_count{a=\"b\"} 3\n \
         h_sum{a=\"b\"} 5\n c@st -1m-30sx1\n c 1 2",
        &mut target,
    )
    .unwrap();
    let find = |name: &str| target.loaded.iter().find(|l| l.labels.metric_name() == name).unwrap();
    let LoadedValue::Histogram(h) = &find("h").samples[0].value else {
        panic!()
    };
    assert_eq!(
        (h.custom_values.as_slice(), h.positive_buckets.as_slice()),
        (&[1.0][..], &[1.0, 2.0][..])
    );
    assert_eq!((h.count, h.sum), (3.0, 5.0));
    let starts: Vec<_> = find("c").samples.iter().map(|s| s.start_ms).collect();
    assert_eq!(starts, [-60_000, -30_000]);
}

#[test]
fn wrong_answers_are_told() {
    let with = |expect: &str| {
        problems(&format!(
            "load 1m\n  a 1 2\n  b 3 4\n\neval instant at 1m foo\n{expect}\n"
        ))
    };
    assert_eq!(with("a 2\nb 4"), Vec::<String>::new());
    for (expect, what) in [
        ("a 2\nb 5", "expected 5 for b but got 4"),
        ("a 2", "unexpected metric b in result"),
        ("a 2\nb 4\nc 1", "expected metric c with 1 not found"),
        (
            "expect ordered\nb 4\na 2",
            "expected metric a at position 2 but was at 1",
        ),
        ("expect fail", "expected error"),
        ("expect warn", "expected warn annotation"),
        ("7", "expected scalar result"),
    ] {
        let found = with(expect);
        assert!(found.len() == 1 && found[0].contains(what), "{expect}: {found:?}");
    }
    let mut noisy = Echo {
        warnings: vec!["PromQL warning: x".into()],
        ..Echo::default()
    };
    let report = run(
        "eval instant at 0 foo\n expect no_warn\n\neval instant at 0 foo\n expect warn msg: PromQL warning: x",
        &mut noisy,
    )
    .unwrap();
    assert_eq!((report.passed, report.failures.len()), (1, 1));
}

#[test]
fn scripts_that_cannot_be_read() {
    for (script, line) in [
        ("\nfoo", 2),
        ("load 1x\n a 1", 1),
        ("eval instant foo", 1),
        ("eval range from 5m to 1m step 1m foo", 1),
        ("eval instant at 0 foo\n a 1 2", 1),
        ("eval instant at 0 foo\n expect nonsense", 1),
        ("eval instant at 0 foo\n expect warn\n expect no_warn", 1),
        ("load 1m\n c@st 1m", 1),
    ] {
        assert_eq!(run(script, &mut Echo::default()).unwrap_err().line, line, "{script}");
    }
}

#[test]
fn instant_queries_are_pinned() {
    let pinned = |q: &str| vary::pinned(q, 60_000).into_iter().next().map(|p| p.0);
    assert_eq!(pinned("sum(a) + b @ 3"), Some("sum(a @ 60.000) + b @ 3.000".into()));
    assert_eq!(pinned("rate(a[5m:1m])"), Some("rate(a[5m:1m] @ 60.000)".into()));
    assert_eq!(pinned("timestamp(a)"), None);
    assert_eq!(
        pinned("max_over_time(timestamp(a)[5m:])"),
        Some("max_over_time(timestamp(a)[5m:] @ 60.000)".into())
    );
}

#[test]
fn closeness() {
    assert!(almost_equal(1.0, 1.0000001, 1e-6));
    assert!(!almost_equal(1.0, 1.00001, 1e-6));
    assert!(almost_equal(f64::NAN, f64::NAN, 1e-6));
    assert!(!almost_equal(model::stale_nan(), f64::NAN, 1e-6));
    assert!(!almost_equal(0.0, 1e-300, 1e-6));
    assert!(almost_equal(f64::INFINITY, f64::INFINITY, 1e-6));
}
