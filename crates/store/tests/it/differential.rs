//! Random queries over random series: memory against the engine, and both against Prometheus when `cargo xtask fuzz
//! promql --against DIR` built its part (the program named by `OVERSEER_PROMQL_ORACLE`).

mod answer;
mod data;
mod expressions;
mod prometheus;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use host::sim::Dice;
use model::{Budget, TenantId};
use query::promql::eval::{EvalContext, Query, evaluate};
use query::promql::memory::MemorySource;
use query::promql::script::{self, Loaded, LoadedValue, Target};

use crate::target::{EngineTarget, Stage};
use answer::{Answer, Difference, difference};
use data::World;
use prometheus::Prometheus;

/// Queries of one set of series.
const QUERIES_PER_WORLD: u64 = 60;
/// Attempts at making one difference smaller.
const SHRINKS_MAX: usize = 400;
/// Times that Prometheus is asked again whether it stands by an answer: series inside of an expression come in the order
/// of a hash map there, and what takes the first or the last of equals follows it. Of two orders, one may come once in
/// eight times.
const AGAIN: usize = 64;
/// Counts of samples that differ and are shown; they are statistics, no answers.
const COUNTS_SHOWN_MAX: usize = 3;
/// Differences that are made smaller and shown whole; more are only counted.
const SHOWN_MAX: usize = 20;

/// Samples where queries find them.
enum Held {
    Memory(MemorySource),
    Engine(Box<EngineTarget>),
}

impl Held {
    /// `place`: 0 is memory, others are stages of the engine.
    fn load(world: &World, place: usize) -> Result<Held, String> {
        let mut held = match place % (Stage::ALL.len() + 1) {
            0 => Held::Memory(MemorySource::new()),
            n => Held::Engine(Box::new(EngineTarget::new(Stage::ALL[n - 1], 1))),
        };
        match script::run(&world.text(), &mut held) {
            Ok(_) => Ok(held),
            Err(e) => Err(format!("{e}\n{}", world.text())),
        }
    }

    fn evaluate(&self, text: &str, query: Query, threads: usize) -> Answer {
        let expr = match query::promql::parse(text) {
            Ok(expr) => expr,
            Err(e) => return Answer::refused(e.to_string(), true),
        };
        let source: &dyn model::SampleSource = match self {
            Held::Memory(source) => source,
            Held::Engine(target) => target.source(),
        };
        let budget = Budget::unlimited();
        let context = EvalContext {
            text,
            threads,
            use_start_times: true,
            ..EvalContext::new(source, TenantId::DEFAULT, &budget)
        };
        let answer = evaluate(&expr, &context, query);
        assert_eq!(budget.used().1, 0, "bytes are given back: {text}");
        match answer {
            Ok(a) => Answer::of(a, expr.to_string()),
            Err(e) => Answer::refused(e.to_string(), false),
        }
    }
}

impl Target for Held {
    fn clear(&mut self) -> Result<(), String> {
        match self {
            Held::Memory(source) => source.clear(),
            Held::Engine(target) => target.clear()?,
        }
        Ok(())
    }

    fn load(&mut self, series: Vec<Loaded>) -> Result<(), String> {
        let source = match self {
            Held::Engine(target) => return target.load(series),
            Held::Memory(source) => source,
        };
        for s in series {
            for sample in s.samples {
                let (at, start) = (sample.at_ms, sample.start_ms);
                match sample.value {
                    LoadedValue::Float(v) => source.put_float(&s.labels, at, v, start),
                    LoadedValue::Histogram(h) => source.put_histogram(&s.labels, at, Arc::new(h), start),
                }
            }
        }
        Ok(())
    }

    fn instant(&mut self, _: &str, _: i64) -> Result<script::Answer, String> {
        Err("only loads".into())
    }

    fn range(&mut self, _: &str, _: i64, _: i64, _: i64) -> Result<script::Answer, String> {
        Err("only loads".into())
    }
}

/// A query and when it is asked.
#[derive(Clone, Debug)]
struct Ask {
    text: String,
    query: Query,
    threads: usize,
}

impl Ask {
    fn random(dice: &mut Dice) -> Ask {
        let start_ms = dice.below(1_200_000) as i64;
        let instant = data::percent(dice, 40);
        let text = expressions::query(dice, instant);
        let query = match instant {
            true => Query::Instant { at_ms: start_ms },
            false => Query::Range {
                start_ms,
                end_ms: start_ms + dice.below(1_200_000) as i64,
                step_ms: data::pick(dice, &[7_000, 15_000, 60_000, 120_000, 300_000]),
            },
        };
        let threads = if data::percent(dice, 10) { 3 } else { 1 };
        Ask { text, query, threads }
    }
}

/// The answers of two sides to a query, if they differ.
type Judge<'a> = dyn FnMut(&World, &Ask) -> Option<Difference> + 'a;

/// The smallest world and query found for which the two sides still differ.
fn shrink(mut world: World, mut ask: Ask, judge: &mut Judge<'_>) -> (World, Ask) {
    let mut left = SHRINKS_MAX;
    let mut differs = |world: &World, ask: &Ask| {
        left = left.saturating_sub(1);
        left > 0 && judge(world, ask).is_some()
    };
    'queries: loop {
        for text in expressions::smaller(&ask.text) {
            let next = Ask { text, ..ask.clone() };
            if differs(&world, &next) {
                ask = next;
                continue 'queries;
            }
        }
        break;
    }
    for i in (0..world.lines.len()).rev() {
        let mut next = world.clone();
        next.lines.remove(i);
        if differs(&next, &ask) {
            world = next;
        }
    }
    let most = world.lines.iter().map(|l| l.items.len()).max().unwrap_or(0);
    let mut width = most / 2;
    while width > 0 {
        for from in (0..most).step_by(width) {
            let mut next = world.clone();
            let mut changed = false;
            for l in &mut next.lines {
                for item in l.items.iter_mut().skip(from).take(width) {
                    changed |= item != "_";
                    *item = "_".into();
                }
            }
            if changed && differs(&next, &ask) {
                world = next;
            }
        }
        width /= 2;
    }
    for line in &mut world.lines {
        let keep = line.items.iter().rposition(|i| i != "_").map_or(1, |i| i + 1);
        line.items.truncate(keep);
        if let Some(starts) = &mut line.starts {
            starts.truncate(keep);
        }
    }
    (world, ask)
}

fn shown(world: &World, ask: &Ask, difference: &Difference) -> String {
    let mut out = String::new();
    let _ = writeln!(out, "{:?} of\n  {}", ask.query, ask.text);
    let _ = writeln!(out, "{}", difference.text);
    let _ = write!(out, "{}", world.text());
    out
}

/// Whether Prometheus, asked again and again, sometimes gives our answer.
fn says_so_too(prometheus: &mut Prometheus, ask: &Ask, ours: &Answer) -> bool {
    (0..AGAIN).any(|_| difference(&ask.text, &prometheus.ask(&ask.text, ask.query), ours).is_none())
}

/// Why the two sides differ in a small world where nothing is to mend; docs/promql.md lists the reasons, and says more.
fn reason(prometheus: &mut Prometheus, world: &World, place: usize, ask: &Ask) -> Option<&'static str> {
    prometheus.load(&world.text());
    let held = Held::load(world, place).ok()?;
    let theirs = prometheus.ask(&ask.text, ask.query);
    let ours = held.evaluate(&ask.text, ask.query, ask.threads);
    let found = difference(&ask.text, &theirs, &ours)?;
    if found.kind == "notes" && answer::last_info_only(&theirs, &ours) {
        return Some("one info for a scalar that trims floats and histograms");
    }
    let mut wavers = || (0..AGAIN).any(|_| prometheus.ask(&ask.text, ask.query) != theirs);
    let takes = |f: &str| ask.text.contains(&format!("{f}(")) || ask.text.contains(&format!("{f} "));
    let equals = (takes("topk") || takes("bottomk")) && answer::same_values(&theirs, &ours, false);
    if (equals || takes("limitk") && answer::same_values(&theirs, &ours, true)) && wavers() {
        return Some("which of equals are taken");
    }
    if ask.text.starts_with("sort") && difference("", &theirs, &ours).is_none() && wavers() {
        return Some("the order of what was sorted, and came to share labels");
    }
    let absent = |label: &str| theirs.series.iter().any(|s| s.0.iter().all(|(name, _)| name != label));
    let quoted = |text: &str| text.split('"').skip(1).step_by(2).any(absent);
    if ask.text.starts_with("sort_by_label") && difference("", &theirs, &ours).is_none() && quoted(&ask.text) {
        return Some("where series without the label are put");
    }
    if ask.text.starts_with("log2(") && found.kind == "values" && answer::within(&theirs, &ours, f64::EPSILON) {
        return Some("log2 of a number next to 1");
    }
    let turns = expressions::turns(&ask.text);
    let differ = |of: &String| {
        let theirs = prometheus.ask(of, ask.query);
        let ours = held.evaluate(of, ask.query, ask.threads);
        difference(of, &theirs, &ours).is_none() && answer::last_bits_differ(&theirs, &ours)
    };
    if found.kind == "values" && turns.iter().any(differ) {
        return Some("an angle, or a remainder, of a number with other last bits");
    }
    // what their store made of the gauge histograms, in ours
    let stored = world.with_gauge_histograms(|metric| prometheus.stored(metric));
    let ours = Held::load(&stored, 0).ok()?.evaluate(&ask.text, ask.query, ask.threads);
    difference(&ask.text, &theirs, &ours)
        .is_none()
        .then_some("empty buckets that gauge histograms have in a chunk")
}

fn variable(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().unwrap_or_else(|_| panic!("{name}={value} is no number")))
}

#[test]
fn the_engine_agrees_with_memory() {
    let mut dice = Dice(variable("OVERSEER_FUZZ_SEED").unwrap_or(1));
    let worlds = variable("OVERSEER_FUZZ_QUERIES")
        .unwrap_or(240)
        .div_ceil(QUERIES_PER_WORLD);
    for n in 0..worlds {
        let world = data::world(&mut dice);
        let memory = Held::load(&world, 0).unwrap();
        let place = 1 + n as usize % Stage::ALL.len();
        let engine = Held::load(&world, place).unwrap();
        for _ in 0..QUERIES_PER_WORLD {
            let ask = Ask::random(&mut dice);
            let a = memory.evaluate(&ask.text, ask.query, 1);
            let b = engine.evaluate(&ask.text, ask.query, ask.threads);
            if difference(&ask.text, &a, &b).is_none() {
                continue;
            }
            let mut judge = |world: &World, ask: &Ask| {
                let a = Held::load(world, 0).ok()?.evaluate(&ask.text, ask.query, 1);
                let b = Held::load(world, place)
                    .ok()?
                    .evaluate(&ask.text, ask.query, ask.threads);
                difference(&ask.text, &a, &b)
            };
            let (world, ask) = shrink(world.clone(), ask, &mut judge);
            let difference = judge(&world, &ask).expect("it was kept because they differ");
            panic!(
                "memory and {:?} differ: {}",
                Stage::ALL[place - 1],
                shown(&world, &ask, &difference)
            );
        }
    }
}

#[test]
fn prometheus_agrees() {
    let Some(program) = std::env::var_os("OVERSEER_PROMQL_ORACLE") else {
        // past the test runner, which hides what passed tests print
        let _ = std::io::Write::write_fmt(
            &mut std::io::stdout(),
            format_args!(
                "SKIPPED: no Prometheus to compare with; `cargo xtask fuzz promql --against DIR` builds one from its source\n"
            ),
        );
        return;
    };
    let seed = variable("OVERSEER_FUZZ_SEED").unwrap_or(1);
    let queries = variable("OVERSEER_FUZZ_QUERIES").unwrap_or(600);
    let mut dice = Dice(seed);
    let mut prometheus = Prometheus::start(&program);
    let (mut asked, mut on_engine, mut with_data, mut refused, mut by_chance, mut last_bits, mut counts) =
        (0, 0, 0, 0, 0, 0, 0);
    let mut counted = 0;
    let mut differences: Vec<(&'static str, String)> = Vec::new();
    let mut explained: BTreeMap<&'static str, u64> = BTreeMap::new();
    for n in 0..queries.div_ceil(QUERIES_PER_WORLD) {
        let world = data::world(&mut dice);
        // memory every other time, else one stage of the engine after the other
        let place = if n % 2 == 0 {
            0
        } else {
            1 + (n / 2) as usize % Stage::ALL.len()
        };
        let held = Held::load(&world, place).unwrap();
        prometheus.load(&world.text());
        for _ in 0..QUERIES_PER_WORLD {
            let ask = Ask::random(&mut dice);
            let theirs = prometheus.ask(&ask.text, ask.query);
            let ours = held.evaluate(&ask.text, ask.query, ask.threads);
            asked += 1;
            on_engine += u64::from(place > 0);
            with_data += u64::from(!theirs.series.is_empty());
            refused += u64::from(theirs.error.is_some());
            last_bits += u64::from(answer::last_bits_differ(&theirs, &ours));
            if theirs.samples != ours.samples && ours.error.is_none() {
                counts += 1;
                // native histograms count by their size there, and by buckets read
                let natives = ["nh", "nc", "mixed"].iter().any(|m| ask.text.contains(m));
                if !natives && counted < COUNTS_SHOWN_MAX {
                    counted += 1;
                    println!(
                        "samples: theirs {}, ours {}: {:?} {}",
                        theirs.samples, ours.samples, ask.query, ask.text
                    );
                }
            }
            let Some(found) = difference(&ask.text, &theirs, &ours) else {
                continue;
            };
            if says_so_too(&mut prometheus, &ask, &ours) {
                by_chance += 1;
                continue;
            }
            if differences.len() >= SHOWN_MAX {
                differences.push((found.kind, String::new()));
                continue;
            }
            let mut judge = |world: &World, ask: &Ask| {
                prometheus.load(&world.text());
                let held = Held::load(world, place).ok()?;
                let theirs = prometheus.ask(&ask.text, ask.query);
                let ours = held.evaluate(&ask.text, ask.query, ask.threads);
                difference(&ask.text, &theirs, &ours)
                    .filter(|d| d.kind == found.kind && !says_so_too(&mut prometheus, ask, &ours))
            };
            let (small, smaller) = shrink(world.clone(), ask.clone(), &mut judge);
            let difference = judge(&small, &smaller).unwrap_or(found);
            let reason = reason(&mut prometheus, &small, place, &smaller);
            prometheus.load(&world.text());
            if let Some(reason) = reason {
                *explained.entry(reason).or_insert(0) += 1;
                continue;
            }
            let text = shown(&small, &smaller, &difference);
            println!(
                "--- {} (seed {seed}, place {place}), out of {}\n{text}",
                difference.kind, ask.text
            );
            differences.push((difference.kind, text));
        }
    }
    let mut kinds: Vec<&str> = differences.iter().map(|d| d.0).collect();
    kinds.sort_unstable();
    println!(
        "seed {seed}: {asked} queries, {on_engine} of them on the engine: {with_data} with data, {refused} refused alike \
         or not, {by_chance} that Prometheus answers now so, now so, {last_bits} with other last bits, {counts} with other counts of samples, {} differ {kinds:?}, explained: {explained:?}",
        differences.len()
    );
    assert!(
        differences.is_empty(),
        "{} of {asked} answers differ",
        differences.len()
    );
}
