//! Measures what rollups cost and save: disk, the CPU of making them, CPU and samples of long-range queries with and
//! without them, and that the answers are the same.
//!
//!     cargo run --release -p store --example rollups -- <series> <days> <seconds between samples> <dir>
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::disallowed_methods)]

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use host::Host;
use host::sim::Dice;
use model::{Batch, Budget, Labels, Record, TenantId};
use query::promql::eval::{EvalContext, Query, Trace, evaluate};
use query::promql::parse;
use series::engine::{Engine, EngineSettings};
use series::retention::{FOR_EVER, RollupKeep};
use series::table::SeriesTable;

const DAY_MS: i64 = 86_400_000;
const KINDS: [&str; 3] = ["gauge", "requests_total", "noise"];

fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/schedstat").unwrap_or_default();
    Duration::from_nanos(stat.split(' ').next().and_then(|n| n.parse().ok()).unwrap_or(0))
}

fn open(dir: &Path, rollups: RollupKeep) -> (Engine, Arc<SeriesTable>) {
    let table = Arc::new(SeriesTable::new([7; 16]));
    let settings = EngineSettings {
        rollups,
        ..EngineSettings::default()
    };
    let (engine, _) = Engine::open(Host::real(), dir, settings, Arc::clone(&table)).unwrap();
    (engine, table)
}

fn fill(dir: &Path, series: u64, days: i64, interval_ms: i64, from_ms: i64) {
    let (engine, table) = open(dir, RollupKeep::default());
    let mut dice = Dice(1);
    let ids: Vec<_> = (0..series)
        .map(|n| {
            let kind = KINDS[n as usize % KINDS.len()];
            let labels = Labels::from_pairs([("__name__", kind.to_owned()), ("host", format!("h{n}"))]);
            table.intern(TenantId::DEFAULT, labels.as_bytes(), None).unwrap()
        })
        .collect();
    let mut values = vec![50.0f64; ids.len()];
    for (position, step) in (0..days * DAY_MS / interval_ms).enumerate() {
        let mut batch = Batch::new(TenantId::DEFAULT);
        for (n, id) in ids.iter().enumerate() {
            let v = &mut values[n];
            *v = match n % KINDS.len() {
                0 => ((*v * 100.0) as i64 + dice.below(41) as i64 - 20).clamp(0, 10_000) as f64 / 100.0,
                1 if dice.below(500_000) == 0 => 0.0,
                1 => *v + dice.below(40) as f64,
                _ => dice.next() as f64 / u64::MAX as f64,
            };
            batch.floats.push(*id, from_ms + step * interval_ms, *v, 0);
        }
        engine.apply(position as u64 + 1, &Record::Batch(batch));
        if engine.seal_due().is_some() {
            engine.seal().unwrap();
            while engine.compact_step().unwrap().is_some() {}
        }
    }
    engine.seal().unwrap();
    engine.compact_all().unwrap();
}

fn ask(engine: &Engine, text: &str, from_ms: i64, days: i64) -> (String, Duration, [u64; 2]) {
    let expr = parse(text).unwrap();
    let budget = Budget::unlimited();
    let trace = Trace::new(Arc::new(|| Duration::ZERO), false);
    let context = EvalContext {
        text,
        trace: Some(&trace),
        ..EvalContext::new(engine, TenantId::DEFAULT, &budget)
    };
    let query = Query::Range {
        start_ms: from_ms + DAY_MS,
        end_ms: from_ms + days * DAY_MS,
        step_ms: 3_600_000,
    };
    let began = cpu();
    let answer = evaluate(&expr, &context, query).unwrap();
    let spent = cpu() - began;
    let reads = trace.selectors().into_iter().map(|s| s.reads);
    let read = reads.fold([0; 2], |[a, b], r| {
        [a + r.chunk_samples + r.head_samples, b + r.rollup_samples]
    });
    (format!("{:?}", answer.value), spent, read)
}

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let [_, series, days, seconds, dir] = &args[..] else {
        println!("usage: rollups <series> <days> <seconds between samples> <dir>");
        return;
    };
    let (series, days, dir) = (series.parse().unwrap(), days.parse::<i64>().unwrap(), Path::new(dir));
    let from_ms = (Host::real().clock.now_ms() / DAY_MS - days - 3) * DAY_MS;
    if !dir.join("format").exists() {
        fill(dir, series, days, seconds.parse::<i64>().unwrap() * 1000, from_ms);
    }
    let (plain, _) = open(dir, RollupKeep::default());
    println!(
        "samples {} in {} bytes",
        plain.stats().file_samples,
        plain.stats().file_bytes
    );
    let texts = [
        "max_over_time(gauge[1h])",
        "sum(rate(requests_total[1h]))",
        "avg_over_time(requests_total[1h])",
        "count_over_time(noise[1d])",
        "max_over_time(gauge[5m])",
        "rate(requests_total[5m])",
        "gauge",
    ];
    let ask_all = |engine: &Engine| -> Vec<_> {
        texts
            .iter()
            .map(|text| {
                let (first, cold, read) = ask(engine, text, from_ms, days);
                let (again, warm, _) = ask(engine, text, from_ms, days);
                assert_eq!(first, again);
                (first, cold, warm, read)
            })
            .collect()
    };
    let without = ask_all(&plain);
    drop(plain);
    for (name, minute_ms, hour_ms) in [
        ("1h", None, Some(FOR_EVER)),
        ("1m and 1h", Some(FOR_EVER), Some(FOR_EVER)),
    ] {
        let (engine, _) = open(dir, RollupKeep { minute_ms, hour_ms });
        let began = cpu();
        engine.compact_all().unwrap();
        let spent = cpu() - began;
        let s = engine.stats();
        println!(
            "{name}: {} bytes, {:.2} % of the samples'; made in {spent:?} of CPU",
            s.rollup_bytes,
            100.0 * s.rollup_bytes as f64 / s.file_bytes as f64
        );
        for (text, (before, with)) in texts.iter().zip(without.iter().zip(ask_all(&engine))) {
            assert_eq!(before.0, with.0, "{text}");
            println!(
                "  {text}: first {:?} -> {:?}, again {:?} -> {:?}, samples read {} -> {} and {} of rollups",
                before.1, with.1, before.2, with.2, before.3[0], with.3[0], with.3[1]
            );
        }
    }
}
