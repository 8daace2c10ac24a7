//! Prometheus' test language: scripts that load series and compare what queries answer. Scripts run against anything
//! that can be loaded and queried, so that memory and the real engine are held to the same answers.

use model::{Histogram, Labels};

use super::value::Value;

mod classic;
mod command;
mod compare;
mod expect;
mod series;
mod vary;

pub use compare::almost_equal;

/// What scripts run against. Errors are the texts that `expect fail` compares.
pub trait Target {
    /// Forgets all samples.
    fn clear(&mut self) -> Result<(), String>;
    /// Adds samples; series and times may interleave with what was loaded before.
    fn load(&mut self, series: Vec<Loaded>) -> Result<(), String>;
    fn instant(&mut self, query: &str, at_ms: i64) -> Result<Answer, String>;
    fn range(&mut self, query: &str, start_ms: i64, end_ms: i64, step_ms: i64) -> Result<Answer, String>;
}

/// What a query answered.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    pub value: Value,
    pub warnings: Vec<String>,
    pub infos: Vec<String>,
}

/// One series of a `load`, ascending in time.
#[derive(Clone, Debug, PartialEq)]
pub struct Loaded {
    pub labels: Labels,
    pub samples: Vec<LoadedSample>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct LoadedSample {
    pub at_ms: i64,
    /// The counter's start, 0 when unknown.
    pub start_ms: i64,
    pub value: LoadedValue,
}

#[derive(Clone, Debug, PartialEq)]
pub enum LoadedValue {
    Float(f64),
    Histogram(Histogram),
}

/// What a script came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// `eval` commands that answered as expected.
    pub passed: usize,
    pub failures: Vec<Failure>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// Line of the command in its script, from 1.
    pub line: usize,
    /// The query as it was run; empty for other commands.
    pub query: String,
    pub what: String,
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "line {}: {}: {}", self.line, self.query, self.what)
    }
}

/// Runs a script on a target that is cleared first. A script that cannot be read is an error; a wrong answer is a
/// failure in the report, and the script goes on.
pub fn run(text: &str, target: &mut dyn Target) -> Result<Report, Failure> {
    let mut report = Report::default();
    let at_line = |line: usize| {
        move |what: String| Failure {
            line,
            query: String::new(),
            what,
        }
    };
    let commands = command::read(text)?;
    target.clear().map_err(at_line(0))?;
    for (line, command) in commands {
        match command {
            command::Command::Clear => target.clear().map_err(at_line(line))?,
            command::Command::Load(series) => target.load(series).map_err(at_line(line))?,
            command::Command::Eval(eval) => match expect::check(&eval, target) {
                Ok(()) => report.passed += 1,
                Err((query, what)) => report.failures.push(Failure { line, query, what }),
            },
        }
    }
    Ok(report)
}

#[cfg(test)]
mod tests;
