use std::sync::Arc;

use model::{Budget, Labels, TenantId};

use super::super::memory::MemorySource;
use super::super::script::{self, Loaded, LoadedValue};
use super::super::value::{Point, Value};
use super::super::{parse, quote};
use super::*;

/// Scripts run against memory, with so many threads.
struct Memory {
    source: MemorySource,
    threads: usize,
}

impl Memory {
    fn query(&self, text: &str, query: Query) -> std::result::Result<script::Answer, String> {
        let expr = parse(text).map_err(|e| e.to_string())?;
        let budget = Budget::unlimited();
        let context = EvalContext {
            text,
            threads: self.threads,
            use_start_times: true,
            ..EvalContext::new(&self.source, TenantId::DEFAULT, &budget)
        };
        let answer = evaluate(&expr, &context, query).map_err(|e| e.to_string())?;
        assert_eq!(budget.used().1, 0, "bytes are given back: {text}");
        Ok(script::Answer {
            value: answer.value,
            warnings: answer.warnings,
            infos: answer.infos,
        })
    }
}

impl script::Target for Memory {
    fn clear(&mut self) -> std::result::Result<(), String> {
        self.source.clear();
        Ok(())
    }

    fn load(&mut self, series: Vec<Loaded>) -> std::result::Result<(), String> {
        for s in series {
            for sample in s.samples {
                match sample.value {
                    LoadedValue::Float(v) => self.source.put_float(&s.labels, sample.at_ms, v, sample.start_ms),
                    LoadedValue::Histogram(h) => {
                        self.source
                            .put_histogram(&s.labels, sample.at_ms, Arc::new(h), sample.start_ms);
                    }
                }
            }
        }
        Ok(())
    }

    fn instant(&mut self, query: &str, at_ms: i64) -> std::result::Result<script::Answer, String> {
        self.query(query, Query::Instant { at_ms })
    }

    fn range(
        &mut self,
        query: &str,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> std::result::Result<script::Answer, String> {
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

/// Prometheus' own scripts, when they are there.
#[test]
#[allow(clippy::disallowed_methods)]
fn prometheus_scripts() {
    let Ok(dir) = std::env::var("OVERSEER_PROMQLTEST_DIR") else {
        return;
    };
    let mut failed = 0;
    let mut names: Vec<_> = std::fs::read_dir(dir).unwrap().map(|e| e.unwrap().path()).collect();
    names.sort();
    for path in names.into_iter().filter(|p| p.extension().is_some_and(|e| e == "test")) {
        let text = String::from_utf8_lossy(&std::fs::read(&path).unwrap()).into_owned();
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let mut target = Memory {
            source: MemorySource::new(),
            threads: 1,
        };
        match script::run(&text, &mut target) {
            Ok(report) => {
                println!("{name}: {} passed, {} failed", report.passed, report.failures.len());
                for f in &report.failures {
                    println!("{name}: {f}");
                }
                failed += report.failures.len();
            }
            Err(e) => {
                println!("{name}: {e}");
                failed += 1;
            }
        }
    }
    assert_eq!(failed, 0);
}
