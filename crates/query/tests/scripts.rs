//! Scripts in Prometheus' test language, run in memory. Those in `testdata` are the project's own and were checked
//! against Prometheus 3.14; `OVERSEER_PROMQLTEST_DIR` names a directory with more.
#![allow(clippy::disallowed_methods, clippy::print_stderr, clippy::unwrap_used)]

use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model::{Budget, TenantId};
use query::promql::eval::{EvalContext, Query, evaluate};
use query::promql::memory::MemorySource;
use query::promql::script::{Answer, Loaded, LoadedValue, Target, run};
use query::promql::{functions, parse};

struct Memory {
    source: MemorySource,
    threads: usize,
}

impl Memory {
    fn query(&self, text: &str, query: Query) -> Result<Answer, String> {
        let expr = parse(text).map_err(|e| e.to_string())?;
        let budget = Budget::unlimited();
        let context = EvalContext {
            text,
            threads: self.threads,
            use_start_times: true,
            ..EvalContext::new(&self.source, TenantId::DEFAULT, &budget)
        };
        let answer = evaluate(&expr, &context, query).map_err(|e| e.to_string());
        assert_eq!(budget.used().1, 0, "bytes are given back: {text}");
        let answer = answer?;
        Ok(Answer {
            value: answer.value,
            warnings: answer.warnings,
            infos: answer.infos,
        })
    }
}

impl Target for Memory {
    fn clear(&mut self) -> Result<(), String> {
        self.source.clear();
        Ok(())
    }

    fn load(&mut self, series: Vec<Loaded>) -> Result<(), String> {
        for s in series {
            for sample in s.samples {
                let (at, start) = (sample.at_ms, sample.start_ms);
                match sample.value {
                    LoadedValue::Float(v) => self.source.put_float(&s.labels, at, v, start),
                    LoadedValue::Histogram(h) => self.source.put_histogram(&s.labels, at, Arc::new(h), start),
                }
            }
        }
        Ok(())
    }

    fn instant(&mut self, query: &str, at_ms: i64) -> Result<Answer, String> {
        self.query(query, Query::Instant { at_ms })
    }

    fn range(&mut self, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Answer, String> {
        self.query(
            query,
            Query::Range {
                start_ms,
                end_ms,
                step_ms,
            },
        )
    }
}

fn scripts(dir: &Path) -> Vec<(PathBuf, String)> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut paths: Vec<_> = entries.map(|e| e.unwrap().path()).collect();
    paths.retain(|p| p.extension().is_some_and(|e| e == "test"));
    paths.sort();
    assert!(!paths.is_empty(), "no .test file in {}", dir.display());
    paths
        .into_iter()
        .map(|p| (p.clone(), std::fs::read_to_string(&p).unwrap()))
        .collect()
}

/// Runs all scripts of a directory; every wrong answer is told before the test fails.
fn run_all(dir: &Path, threads: usize) {
    let mut wrong = Vec::new();
    for (path, text) in scripts(dir) {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut target = Memory {
            source: MemorySource::new(),
            threads,
        };
        match run(&text, &mut target) {
            Ok(report) => {
                eprintln!("{name}: {} passed, {} failed", report.passed, report.failures.len());
                wrong.extend(report.failures.iter().map(|f| format!("{name}: {f}")));
            }
            Err(e) => wrong.push(format!("{name}: {e}")),
        }
    }
    assert!(wrong.is_empty(), "{} wrong answers:\n{}", wrong.len(), wrong.join("\n"));
}

fn testdata() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("testdata")
}

#[test]
fn own_scripts() {
    run_all(&testdata(), 1);
}

#[test]
fn own_scripts_on_several_threads() {
    run_all(&testdata(), 3);
}

#[test]
fn scripts_from_elsewhere() {
    match std::env::var_os("OVERSEER_PROMQLTEST_DIR") {
        Some(dir) => run_all(Path::new(&dir), 1),
        None => {
            // past the test runner, which hides what passed tests print
            let _ = writeln!(
                std::io::stdout(),
                "SKIPPED: OVERSEER_PROMQLTEST_DIR is not set. Set it to a directory with .test files, such as Prometheus' \
                 promql/promqltest/testdata, to run them too."
            );
        }
    }
}

#[test]
fn every_function_and_aggregation_has_a_script() {
    let all: String = scripts(&testdata()).into_iter().map(|s| s.1).collect();
    let aggregations = [
        "sum",
        "avg",
        "count",
        "min",
        "max",
        "group",
        "stddev",
        "stdvar",
        "topk",
        "bottomk",
        "count_values",
        "quantile",
        "limitk",
        "limit_ratio",
    ];
    let words: std::collections::HashSet<&str> = all.split(|c: char| c != '_' && !c.is_ascii_alphanumeric()).collect();
    let names = functions::FUNCTIONS.iter().map(|f| f.name).chain(aggregations);
    let missing: Vec<_> = names.filter(|n| !words.contains(n)).collect();
    assert!(missing.is_empty(), "not in any script of testdata: {missing:?}");
}

#[test]
fn the_longest_and_the_deepest_queries_are_evaluated() {
    let mut target = Memory {
        source: MemorySource::new(),
        threads: 1,
    };
    let long = format!("1{}", " + 1".repeat(1000));
    let deep = format!("{}vector(1){}", "abs(".repeat(240), ")".repeat(240));
    for query in [&long, &deep] {
        target.instant(query, 0).unwrap();
        target.range(query, 0, 60_000, 10_000).unwrap();
    }
}
