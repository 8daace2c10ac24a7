use model::{Budget, Labels, StopReason, TenantId};

use super::super::functions::FUNCTIONS;
use super::super::memory::MemorySource;
use super::super::parse;
use super::super::value::{Point, Sample, Series, Value};
use super::*;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    Labels::from_pairs(pairs.iter().copied())
}

/// A counter `c_total`, a gauge `g` and a classic histogram `h_bucket` for `series` instances, every 15 s for an hour.
fn data(series: usize) -> MemorySource {
    let mut source = MemorySource::new();
    for i in 0..series {
        let instance = format!("i{i}");
        for t in 0..240i64 {
            let at = t * 15_000 + (i as i64 % 7) * 100;
            let x = (t * 31 + i as i64 * 17) % 101;
            source.put_float(
                &labels(&[
                    ("__name__", "c_total"),
                    ("instance", &instance),
                    ("job", if i % 2 == 0 { "a" } else { "b" }),
                ]),
                at,
                (t % 50) as f64 * (1.0 + i as f64 / 3.0),
                0,
            );
            source.put_float(
                &labels(&[("__name__", "g"), ("instance", &instance)]),
                at,
                x as f64 / 7.0,
                0,
            );
            for (le, part) in [("0.1", 1.0), ("1", 2.0), ("+Inf", 3.0)] {
                let bucket = labels(&[("__name__", "h_bucket"), ("instance", &instance), ("le", le)]);
                source.put_float(&bucket, at, part * t as f64, 0);
            }
        }
    }
    source
}

fn ask(source: &MemorySource, text: &str, query: Query) -> Result<Answer> {
    let budget = Budget::unlimited();
    let context = EvalContext {
        text,
        ..EvalContext::new(source, TenantId::DEFAULT, &budget)
    };
    let expr = parse(text).map_err(|e| EvalError::bad_data(e.to_string()))?;
    evaluate(&expr, &context, query)
}

fn instant(source: &MemorySource, text: &str, at_ms: i64) -> Value {
    ask(source, text, Query::Instant { at_ms }).unwrap().value
}

fn one(source: &MemorySource, text: &str, at_ms: i64) -> f64 {
    match instant(source, text, at_ms) {
        Value::Scalar { value, .. } => value,
        Value::Vector(v) => match v.as_slice() {
            [
                Sample {
                    point: Point::Float(v), ..
                },
            ] => *v,
            other => panic!("{text}: {other:?}"),
        },
        other => panic!("{text}: {other:?}"),
    }
}

#[test]
fn every_function_evaluates_its_example() {
    let mut source = data(3);
    for f in FUNCTIONS {
        for query in [
            Query::Instant { at_ms: 1_800_000 },
            Query::Range {
                start_ms: 0,
                end_ms: 3_600_000,
                step_ms: 60_000,
            },
        ] {
            ask(&source, f.example, query).unwrap_or_else(|e| panic!("{}: {e}", f.example));
        }
    }
    source.clear();
    for f in FUNCTIONS {
        ask(&source, f.example, Query::Instant { at_ms: 0 }).unwrap_or_else(|e| panic!("{}: {e}", f.example));
    }
}

#[test]
fn lookback_and_ranges_are_open_on_the_left() {
    let mut source = MemorySource::new();
    let l = labels(&[("__name__", "x")]);
    source.put_float(&l, 0, 1.0, 0);
    source.put_float(&l, 60_000, 2.0, 0);
    assert_eq!(one(&source, "x", 60_000 + LOOKBACK_MS - 1), 2.0);
    assert_eq!(instant(&source, "x", 60_000 + LOOKBACK_MS), Value::Vector(vec![]));
    assert_eq!(one(&source, "count_over_time(x[1m])", 60_000), 1.0);
    assert_eq!(one(&source, "count_over_time(x[1m1ms])", 60_000), 2.0);
    assert_eq!(one(&source, "sum_over_time(x[2m:30s])", 60_000), 1.0 + 1.0 + 2.0);
}

#[test]
fn a_range_answer_is_on_its_grid() {
    let source = data(1);
    let query = Query::Range {
        start_ms: 600_000,
        end_ms: 720_500,
        step_ms: 60_000,
    };
    let Value::Matrix(m) = ask(&source, "sum by (job) (rate(c_total[5m]))", query).unwrap().value else {
        panic!("no matrix");
    };
    let [
        Series {
            labels: l,
            at_ms,
            values,
            ..
        },
    ] = m.as_slice()
    else {
        panic!("{m:?}");
    };
    assert_eq!((l, at_ms), (&labels(&[("job", "a")]), &vec![600_000, 660_000, 720_000]));
    assert!(values.iter().all(|v| *v > 0.0));
}

#[test]
fn threads_change_nothing() {
    let source = data(300);
    for text in [
        "c_total",
        "sum(rate(c_total[5m]))",
        "avg by (job) (c_total)",
        "topk(3, g)",
        "quantile(0.9, g)",
        "stddev(g) + on() group_left() sum(g)",
        "increase(g[2m])",
        "count_values(\"v\", round(g))",
        "histogram_quantile(0.9, sum by (le) (rate(h_bucket[5m])))",
    ] {
        let mut answers = Vec::new();
        for threads in [1, 2, 5] {
            let budget = Budget::unlimited();
            let context = EvalContext {
                text,
                threads,
                ..EvalContext::new(&source, TenantId::DEFAULT, &budget)
            };
            let query = Query::Range {
                start_ms: 600_000,
                end_ms: 3_600_000,
                step_ms: 30_000,
            };
            answers.push(evaluate(&parse(text).unwrap(), &context, query).unwrap());
        }
        assert_eq!(answers[0], answers[1], "{text}");
        assert_eq!(answers[0], answers[2], "{text}");
    }
}

#[test]
fn extreme_times_and_durations_do_not_panic() {
    let source = data(2);
    let texts = [
        "c_total",
        "rate(c_total[100y])",
        "rate(c_total[5m] offset 200y)",
        "c_total offset -200y",
        "c_total @ 9223372036854775.807",
        "c_total @ -9223372036854775.808",
        "sum_over_time(c_total[1h:1m])",
        "sum_over_time(c_total[100y:50y] offset -100y)",
        "rate(c_total[5m] smoothed)",
        "increase(c_total[5m] anchored)",
        "timestamp(c_total)",
        "predict_linear(c_total[1h], 1e300)",
        "deriv(c_total[100y])",
        "year(c_total * 1e300)",
        "absent(nothing)",
        "c_total[1h]",
        "c_total[1h:1m]",
        "clamp(c_total, NaN, Inf)",
        "round(c_total, 0)",
        "topk(1e18, c_total)",
        "limitk(1e15, c_total)",
        "limit_ratio(-2, c_total)",
        "quantile(NaN, c_total)",
        "time()",
        "info(c_total)",
    ];
    for text in texts {
        for at_ms in [i64::MIN, i64::MIN + 1, -1, 0, 1_000_000, i64::MAX - 1, i64::MAX] {
            let budget = || Budget::new(1_000_000, 16 << 20, 100);
            let _ = within(&source, text, &budget(), Query::Instant { at_ms });
            for (start_ms, end_ms, step_ms) in [
                (at_ms, at_ms, 1),
                (at_ms, at_ms.saturating_add(2), 1),
                (i64::MIN, i64::MAX, i64::MAX),
                (at_ms, i64::MAX, i64::MAX / 2),
                (at_ms, at_ms.saturating_sub(1), 1),
            ] {
                let range = Query::Range {
                    start_ms,
                    end_ms,
                    step_ms,
                };
                let _ = within(&source, text, &budget(), range);
            }
        }
    }
}

#[test]
fn a_step_that_is_not_positive_is_refused() {
    let source = data(1);
    for step_ms in [0, -1, i64::MIN] {
        let e = ask(
            &source,
            "g",
            Query::Range {
                start_ms: 0,
                end_ms: 1,
                step_ms,
            },
        )
        .unwrap_err();
        assert_eq!(e.kind, EvalErrorKind::BadData);
    }
    let e = ask(
        &source,
        "g[5m]",
        Query::Range {
            start_ms: 0,
            end_ms: 1,
            step_ms: 1,
        },
    )
    .unwrap_err();
    assert_eq!(
        e.message,
        "invalid expression type \"range vector\" for range query, must be Scalar or instant Vector"
    );
}

fn within(source: &MemorySource, text: &str, budget: &Budget, query: Query) -> Result<Answer> {
    evaluate(
        &parse(text).unwrap(),
        &EvalContext::new(source, TenantId::DEFAULT, budget),
        query,
    )
}

#[test]
fn what_a_query_may_not_have_is_refused() {
    let source = data(20);
    let range = Query::Range {
        start_ms: 0,
        end_ms: 3_600_000,
        step_ms: 1_000,
    };
    let at = Query::Instant { at_ms: 3_600_000 };
    for (text, budget, query, want) in [
        (
            "sum(rate(g[5m]))",
            Budget::new(1000, u64::MAX, u64::MAX),
            range,
            "more than 1000 samples",
        ),
        (
            "g",
            Budget::new(u64::MAX, 100_000, u64::MAX),
            range,
            "more than 100000 bytes",
        ),
        ("g", Budget::new(u64::MAX, u64::MAX, 5), range, "more than 5 series"),
        (
            "count_over_time(g[1y:100ms])",
            Budget::new(50_000_000, u64::MAX, u64::MAX),
            at,
            "the query would read 630720000 samples for each series in its subqueries, more than 50000000",
        ),
        (
            "sum_over_time(sum_over_time(sum_over_time(g[1d:1s])[1d:1s])[1d:1s])",
            Budget::new(50_000_000, u64::MAX, u64::MAX),
            at,
            "the query would read",
        ),
        (
            "sum_over_time(vector(1)[1d:1ms])",
            Budget::new(u64::MAX, 256 << 20, u64::MAX),
            at,
            "bytes",
        ),
    ] {
        let e = within(&source, text, &budget, query).unwrap_err();
        assert_eq!(e.kind, EvalErrorKind::Limit, "{text}: {e}");
        assert!(e.message.contains(want), "{text}: {e}");
    }
}

#[test]
fn memory_is_asked_for_before_it_is_taken() {
    let source = data(50);
    let at = Query::Instant { at_ms: 3_600_000 };
    let range = Query::Range {
        start_ms: 0,
        end_ms: 3_600_000,
        step_ms: 1_000,
    };
    let nested = format!("{}time(){}", "(time() + ".repeat(90), ")".repeat(90));
    for (text, query) in [
        ("count_over_time(vector(1)[1y:1s])", at),
        ("quantile_over_time(0.5, vector(time())[30d:1s])", at),
        ("max_over_time(g[40d:1s])", at),
        (nested.as_str(), range),
        ("g or (g * 2)", range),
        ("g and g", range),
        ("g + on(instance) g", range),
        ("topk(50, g)", range),
        ("quantile by (instance) (0.5, g)", range),
        ("count_values(\"v\", g)", range),
        ("histogram_quantile(0.9, h_bucket)", range),
        ("label_replace(g, \"x\", \"$1\", \"instance\", \"(.*)\")", range),
    ] {
        let budget = Budget::new(u64::MAX, 1 << 20, u64::MAX);
        let e = within(&source, text, &budget, query).unwrap_err();
        assert_eq!(e.kind, EvalErrorKind::Limit, "{text}: {e}");
        assert!(e.message.contains("query.bytes_max"), "{text}: {e}");
        assert_eq!(budget.used().1, 0, "{text}");
        let budget = Budget::new(u64::MAX, 1 << 40, u64::MAX);
        if query == range {
            within(&source, text, &budget, query).unwrap_or_else(|e| panic!("{text}: {e}"));
            assert_eq!(budget.used().1, 0, "{text}");
        }
    }
}

#[test]
fn a_chain_of_or_is_what_its_pairs_are() {
    let source = data(6);
    let range = Query::Range {
        start_ms: 0,
        end_ms: 3_600_000,
        step_ms: 60_000,
    };
    // `unless nothing` changes nothing, but the operators around it are evaluated one by one
    for (chain, pairs) in [
        ("g > 7 or g < 3 or g", "((g > 7 or g < 3) unless nothing) or g"),
        (
            "g > 7 or on(job) c_total or on(job) g or g",
            "(((g > 7 or on(job) c_total) unless nothing) or on(job) g) or g",
        ),
        (
            "g > 7 or on() c_total > 5 or on() g",
            "((g > 7 or on() c_total > 5) unless nothing) or on() g",
        ),
        (
            "g or (c_total or h_bucket)",
            "((g or c_total) unless nothing) or h_bucket",
        ),
        (
            "g > 7 or ignoring(instance) c_total > 40 or ignoring(instance) h_bucket",
            "((g > 7 or ignoring(instance) c_total > 40) unless nothing) or ignoring(instance) h_bucket",
        ),
    ] {
        for query in [range, Query::Instant { at_ms: 1_800_000 }] {
            let (a, b) = (
                ask(&source, chain, query).unwrap().value,
                ask(&source, pairs, query).unwrap().value,
            );
            assert_eq!(a, b, "{chain}");
            assert!(a.series() > 0, "{chain}");
        }
    }
}

#[test]
fn an_answer_over_http_shows_ten_notes() {
    let source = data(1);
    let mut answer = ask(&source, "g", Query::Instant { at_ms: 0 }).unwrap();
    answer.warnings = (0..12).map(|i| i.to_string()).collect();
    answer.infos = (0..10).map(|i| i.to_string()).collect();
    let (warnings, infos) = answer.notes_for_api();
    assert_eq!((warnings.len(), infos.len()), (11, 10));
    assert_eq!(warnings[10], "2 more warning annotations omitted");
    answer.warnings.push("5 more warning annotations omitted".into());
    assert_eq!(answer.notes_for_api().0[10], "7 more warning annotations omitted");
}

#[test]
fn labels_do_not_double_without_end() {
    let source = data(1);
    let mut text = String::from("g");
    for _ in 0..30 {
        text = format!("label_join({text}, \"instance\", \"\", \"instance\", \"instance\")");
    }
    let e = ask(&source, &text, Query::Instant { at_ms: 0 }).unwrap_err();
    assert_eq!(e.kind, EvalErrorKind::Limit, "{e}");
    let mut text = String::from("g");
    for _ in 0..30 {
        text = format!("label_replace({text}, \"instance\", \"$1$1\", \"instance\", \"(.*)\")");
    }
    let e = ask(&source, &text, Query::Instant { at_ms: 0 }).unwrap_err();
    assert_eq!(e.kind, EvalErrorKind::Limit, "{e}");
}

#[test]
fn a_stop_has_prometheus_words() {
    let source = data(1);
    for (reason, kind, message) in [
        (
            StopReason::Timeout,
            EvalErrorKind::Timeout,
            "query timed out in expression evaluation",
        ),
        (
            StopReason::Cancelled,
            EvalErrorKind::Cancelled,
            "query was canceled in expression evaluation",
        ),
    ] {
        let budget = Budget::unlimited();
        budget.stop(reason);
        let e = within(&source, "sum(g)", &budget, Query::Instant { at_ms: 0 }).unwrap_err();
        assert_eq!((e.kind, e.message.as_str()), (kind, message));
    }
}

#[test]
fn deep_trees_fit_a_small_stack() {
    let work = || {
        let source = data(1);
        for (open, close) in [
            ("-(", ")"),
            ("abs(", ")"),
            ("sum(", ")"),
            ("1 + (", ")"),
            ("g + (", ")"),
            ("min_of(1, ", ")"),
        ] {
            let inner = if open == "min_of(1, " { "1" } else { "g" };
            let depth = 100;
            let text = open.repeat(depth) + inner + &close.repeat(depth);
            ask(&source, &text, Query::Instant { at_ms: 60_000 }).unwrap_or_else(|e| panic!("{open}: {e}"));
        }
    };
    let small = std::thread::Builder::new().stack_size(2 << 20).spawn(work).unwrap();
    small.join().unwrap();
}

#[test]
fn statistics_count_as_prometheus_does() {
    let source = data(4);
    let budget = Budget::unlimited();
    let context = EvalContext {
        per_step_stats: true,
        ..EvalContext::new(&source, TenantId::DEFAULT, &budget)
    };
    let query = Query::Range {
        start_ms: 600_000,
        end_ms: 720_000,
        step_ms: 60_000,
    };
    let stats = evaluate(&parse("sum(rate(g[1m]))").unwrap(), &context, query)
        .unwrap()
        .stats;
    // four samples a minute, four series, three steps
    assert_eq!((stats.samples_total, stats.series), (48, 4));
    assert_eq!(stats.samples_per_step, [(600_000, 16), (660_000, 16), (720_000, 16)]);
    let stats = evaluate(&parse("g @ 600").unwrap(), &context, query).unwrap().stats;
    assert_eq!((stats.samples_total, stats.samples_read), (12, 4 * 20));
}

#[test]
fn each_label_replace_has_its_own_expression() {
    let source = data(1);
    // more of them than are kept, and the first ones again
    let numbers = || (0..7).chain(0..3);
    let one = |(i, n): (usize, usize)| {
        let inner = format!("label_replace(vector({i}), \"from\", \"{i}v{n}\", \"\", \"\")");
        format!("label_replace({inner}, \"to\", \"$1\", \"from\", \"\\\\d*v([{n}])\")")
    };
    let text = numbers().enumerate().map(one).collect::<Vec<_>>().join(" or ");
    let Value::Vector(samples) = instant(&source, &text, 0) else {
        panic!("no vector");
    };
    let found: Vec<String> = samples
        .iter()
        .map(|s| s.labels.get("to").unwrap_or("").to_owned())
        .collect();
    assert_eq!(found, numbers().map(|n| n.to_string()).collect::<Vec<_>>());
}
