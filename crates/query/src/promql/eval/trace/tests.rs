use model::{Budget, Labels, TenantId};

use super::super::super::memory::MemorySource;
use super::super::super::parse;
use super::super::*;
use super::*;

fn source() -> MemorySource {
    let mut source = MemorySource::new();
    for i in 0..200 {
        let instance = format!("i{i}");
        let job = if i % 2 == 0 { "a" } else { "b" };
        for t in 0..120i64 {
            let labels = [("__name__", "c_total"), ("instance", &*instance), ("job", job)];
            source.put_float(&Labels::from_pairs(labels), t * 15_000, t as f64, 0);
        }
    }
    source
}

const RANGE: Query = Query::Range {
    start_ms: 600_000,
    end_ms: 1_500_000,
    step_ms: 60_000,
};

/// A clock that moves a microsecond at each look.
fn clock() -> TraceClock {
    let looks = AtomicU64::new(0);
    Arc::new(move || Duration::from_micros(looks.fetch_add(1, Relaxed)))
}

fn followed(text: &str, query: Query, threads: usize, samples_max: u64) -> (Result<Answer>, Trace) {
    let (source, expr) = (source(), parse(text).unwrap());
    let budget = Budget::new(samples_max, u64::MAX, 1000);
    let trace = Trace::new(clock(), true);
    let context = EvalContext {
        text,
        threads,
        trace: Some(&trace),
        ..EvalContext::new(&source, TenantId::DEFAULT, &budget)
    };
    let answer = evaluate(&expr, &context, query);
    (answer, trace)
}

fn plan_of(text: &str, query: Query, threads: usize) -> PlanNode {
    let (answer, trace) = followed(text, query, threads, u64::MAX);
    answer.unwrap();
    trace.plan().unwrap()
}

fn each(node: &PlanNode, f: &mut dyn FnMut(&PlanNode)) {
    f(node);
    node.children.iter().for_each(|c| each(c, f));
}

#[test]
fn a_streamed_query_tells_its_nodes() {
    let text = "sum by (job) (abs(rate(c_total[5m])) * 2)";
    for threads in [1, 4] {
        let sum = plan_of(text, RANGE, threads);
        assert_eq!(
            (sum.what, sum.name.as_str(), sum.how),
            ("aggregation", "sum", How::Folded)
        );
        assert_eq!((sum.text.as_str(), sum.series_in, sum.series_out), (text, 200, 2));
        let times = &sum.children[0];
        assert_eq!(
            (times.what, times.name.as_str(), times.how),
            ("operator", "*", How::Streamed)
        );
        let (abs, two) = (&times.children[0], &times.children[1]);
        assert_eq!((abs.text.as_str(), abs.how), ("abs(rate(c_total[5m]))", How::Streamed));
        assert_eq!((two.what, two.how), ("number", How::Constant));
        let rate = &abs.children[0];
        assert_eq!((rate.name.as_str(), rate.series_out, rate.steps), ("rate", 200, 16));
        let selector = &rate.children[0];
        let reads = selector.reads.as_ref().unwrap();
        assert_eq!((selector.what, reads.text.as_str()), ("range selector", "c_total"));
        assert_eq!((reads.from_ms, reads.to_ms), (300_001, 1_500_000));
        // every 15 s, both ends included
        assert_eq!((reads.series, selector.samples), (200, 200 * 80));
        assert_eq!(sum.samples, selector.samples);
        each(&sum, &mut |n| {
            let below: Duration = n.children.iter().map(|c| c.total).sum();
            assert!(n.total >= below, "{}: {:?} < {below:?}", n.text, n.total);
            assert_eq!(n.own, n.total - below);
        });
        assert!(selector.total > Duration::ZERO && rate.own > Duration::ZERO && abs.own > Duration::ZERO);
    }
}

#[test]
fn every_kind_of_node_is_told() {
    for (text, what, how) in [
        ("c_total", "selector", How::Streamed),
        ("-c_total", "negation", How::Streamed),
        ("c_total + on (instance) c_total", "operator", How::Collected),
        ("c_total or c_total or vector(1)", "operator", How::Collected),
        ("max_over_time(rate(c_total[5m])[10m:1m])", "function", How::Streamed),
        ("absent(c_total)", "function", How::Collected),
        ("topk(3, c_total)", "aggregation", How::Folded),
        ("sort_desc(c_total)", "function", How::Collected),
        ("1 + 2", "operator", How::Collected),
        ("histogram_quantile(0.9, c_total)", "function", How::Collected),
        ("c_total @ 1000", "selector", How::Streamed),
    ] {
        let plan = plan_of(text, RANGE, 1);
        assert_eq!((plan.what, plan.how), (what, how), "{text}");
        each(&plan, &mut |n| {
            assert_ne!(n.how, How::NotEvaluated, "{text}: {n:?}");
            assert!(!n.text.is_empty() && text.contains(&n.text), "{text}: {n:?}");
        });
    }
    assert!(plan_of("c_total @ 1000", RANGE, 1).once);
    let subquery = plan_of("max_over_time(rate(c_total[5m])[10m:1m])", RANGE, 1);
    assert_eq!(
        (subquery.children[0].what, subquery.children[0].steps),
        ("subquery", 25)
    );
    // what a range vector at the top reads
    let raw = plan_of("c_total[5m]", Query::Instant { at_ms: 600_000 }, 1);
    assert_eq!((raw.what, raw.samples), ("range selector", 200 * 20));
}

#[test]
fn an_explained_query_answers_alike() {
    for text in [
        "sum by (job) (rate(c_total[5m]))",
        "topk(3, -c_total) or absent(x)",
        "c_total",
    ] {
        let (source, expr) = (source(), parse(text).unwrap());
        let budget = Budget::unlimited();
        let context = EvalContext {
            text,
            ..EvalContext::new(&source, TenantId::DEFAULT, &budget)
        };
        let plain = evaluate(&expr, &context, RANGE).unwrap();
        let (explained, _) = followed(text, RANGE, 2, u64::MAX);
        assert_eq!(plain, explained.unwrap(), "{text}");
    }
}

#[test]
fn a_query_over_budget_names_the_selector() {
    let (refused, trace) = followed(r#"sum(rate(c_total{job=~".+"}[5m]))"#, RANGE, 1, 1000);
    let refused = refused.unwrap_err();
    assert_eq!(refused.kind, EvalErrorKind::Limit);
    assert_eq!(
        refused.message,
        "the query would read more than 1000 samples (it has read 1040 after 13 of 200 series of selector \
         c_total{job=~\".+\"}; limit query.samples_max)"
    );
    assert_eq!(trace.costliest().unwrap().text, "c_total{job=~\".+\"}");

    let (source, expr) = (source(), parse("c_total").unwrap());
    for (bytes, series, says) in [
        (
            20_000,
            1000,
            "(limit query.bytes_max); most series, 200, are those of selector c_total",
        ),
        (
            u64::MAX,
            100,
            "101 with those of selector c_total (limit query.series_max)",
        ),
    ] {
        let budget = Budget::new(u64::MAX, bytes, series);
        let context = EvalContext::new(&source, TenantId::DEFAULT, &budget);
        let e = evaluate(&expr, &context, RANGE).unwrap_err();
        assert_eq!(e.kind, EvalErrorKind::Limit);
        assert!(e.message.contains(says), "{}", e.message);
    }
}

#[test]
fn long_texts_are_shortened() {
    let long = "ä".repeat(300);
    assert!(shortened(&long).len() <= TEXT_SHOWN_BYTES + 3);
    assert!(shortened(&long).ends_with('…'));
    assert_eq!(shortened("abc"), "abc");
}
