use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use query::promql::eval::Query;
use serde_json::{Value, json};

use super::answer::Answer;

/// A running Prometheus that answers one line with one line.
pub(crate) struct Prometheus {
    child: Child,
    to: ChildStdin,
    from: BufReader<ChildStdout>,
}

impl Prometheus {
    pub(crate) fn start(program: &OsStr) -> Self {
        let mut child = Command::new(program)
            .args(["-test.run", "^TestOverseerOracle$", "-test.timeout", "0"])
            .env("OVERSEER_ORACLE_RUN", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{}: {e}", program.display()));
        let to = child.stdin.take().unwrap();
        let from = BufReader::new(child.stdout.take().unwrap());
        Prometheus { child, to, from }
    }

    fn exchange(&mut self, ask: &Value) -> Value {
        writeln!(self.to, "{ask}").unwrap();
        let mut line = String::new();
        self.from.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("Prometheus answered {line:?} ({e}) to {ask}"))
    }

    /// Forgets everything and loads this.
    pub(crate) fn load(&mut self, text: &str) {
        self.exchange(&json!({ "load": text }));
    }

    /// What it stored for a series, with the empty buckets of histograms: times in ms and values.
    pub(crate) fn stored(&mut self, metric: &str) -> Vec<(i64, String)> {
        let ask =
            json!({"query": format!("{metric}[2d]"), "start": 86_400_000, "end": 86_400_000, "step": 0, "whole": true});
        let series = Self::read(&self.exchange(&ask)).series;
        series.into_iter().next().map(|s| s.1).unwrap_or_default()
    }

    pub(crate) fn ask(&mut self, text: &str, query: Query) -> Answer {
        let ask = match query {
            Query::Instant { at_ms } => json!({"query": text, "start": at_ms, "end": at_ms, "step": 0}),
            Query::Range {
                start_ms,
                end_ms,
                step_ms,
            } => json!({"query": text, "start": start_ms, "end": end_ms, "step": step_ms}),
        };
        Self::read(&self.exchange(&ask))
    }

    fn read(said: &Value) -> Answer {
        let text = |v: &Value| v.as_str().unwrap_or_default().to_owned();
        let list = |v: &Value| v.as_array().cloned().unwrap_or_default();
        let parse_error = said["parse_error"].as_str();
        let series = |s: &Value| {
            let labels = list(&s["labels"]).iter().map(|l| (text(&l[0]), text(&l[1]))).collect();
            let points = list(&s["points"]);
            let points = points.iter().map(|p| (text(&p[0]).parse().unwrap(), text(&p[1])));
            (labels, points.collect())
        };
        Answer {
            error: parse_error.or(said["error"].as_str()).map(str::to_owned),
            unparsed: parse_error.is_some(),
            text: text(&said["text"]),
            kind: text(&said["type"]),
            series: list(&said["series"]).iter().map(series).collect(),
            warnings: list(&said["warnings"]).iter().map(text).collect(),
            infos: list(&said["infos"]).iter().map(text).collect(),
            samples: said["samples"].as_u64().unwrap_or(0),
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
