use std::{
    io::{BufRead, BufReader, Write},
    process::{Command, Stdio},
};

use crate::Failure;

/// Tests that a tool says it ran.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: u64,
    pub(crate) failed: u64,
    /// Why tests did not run that count as passed or not at all.
    pub(crate) skipped: Vec<String>,
}

/// The command as a person would type it, without its variables.
pub(crate) fn shown(command: &Command) -> String {
    let program = command.get_program().to_string_lossy();
    let program = program.rsplit('/').next().unwrap_or(&program).to_owned();
    let words = command.get_args().map(|arg| {
        let arg = arg.to_string_lossy();
        if arg.is_empty() || arg.contains([' ', '*', '\'']) {
            format!("{arg:?}")
        } else {
            arg.into_owned()
        }
    });
    std::iter::once(program).chain(words).collect::<Vec<_>>().join(" ")
}

/// Runs a command in the foreground.
pub(crate) fn run(mut command: Command) -> Result<(), Failure> {
    println!("$ {}", shown(&command));
    let status = command
        .stdin(Stdio::null())
        .status()
        .map_err(|e| format!("{}: {e}", shown(&command)))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{} failed: {status}", shown(&command)))
    }
}

/// Runs a command, passes its output on and counts the tests it reports. A command that fails without a failed test
/// counts as one.
pub(crate) fn run_counting(mut command: Command) -> Result<Counts, Failure> {
    println!("$ {}", shown(&command));
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("{}: {e}", shown(&command)))?;
    let mut counts = Counts::default();
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout().lock();
        let mut lines = BufReader::new(stdout);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line).unwrap_or(0) > 0 {
            // a closed terminal is no reason to stop counting
            let _ = out.write_all(&line);
            let _ = out.flush();
            let text = String::from_utf8_lossy(&line);
            counts.add(reported(text.trim()));
            counts.skipped.extend(skip(text.trim()));
            line.clear();
        }
    }
    let status = child.wait().map_err(|e| format!("{}: {e}", shown(&command)))?;
    if !status.success() && counts.failed == 0 {
        counts.failed = 1;
    }
    Ok(counts)
}

impl Counts {
    pub(crate) fn add(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
        self.skipped.extend(other.skipped);
    }
}

/// What one line reports: cargo's `test result: ok. 3 passed; 1 failed; …`, Node's `pass 3` and `fail 1`, or the
/// browser tests' `3 passed, 1 failed`.
fn reported(line: &str) -> Counts {
    let number = |text: &str| {
        text.split_ascii_whitespace()
            .next()
            .and_then(|word| word.parse::<u64>().ok())
    };
    if let Some(result) = line.strip_prefix("test result: ") {
        let of = |what: &str| {
            let parts = result.split([';', '.']).map(str::trim);
            parts.filter(|part| part.ends_with(what)).find_map(number).unwrap_or(0)
        };
        return Counts {
            passed: of("passed"),
            failed: of("failed"),
            ..Counts::default()
        };
    }
    if let Some((passed, failed)) = line
        .strip_suffix(" failed")
        .and_then(|line| line.split_once(" passed, "))
        && let (Ok(passed), Ok(failed)) = (passed.parse(), failed.parse())
    {
        return Counts {
            passed,
            failed,
            ..Counts::default()
        };
    }
    let line = line.trim_start_matches(['#', 'ℹ', ' ']);
    let of = |what: &str| {
        line.strip_prefix(what)
            .filter(|rest| !rest.contains(|c: char| !c.is_ascii_digit()))
    };
    Counts {
        passed: of("pass ").and_then(number).unwrap_or(0),
        failed: of("fail ").and_then(number).unwrap_or(0),
        ..Counts::default()
    }
}

/// What one line says of a test that was skipped: `SKIPPED: why`, also behind what the test runner began, or the browser tests'
/// `skip  name: why`.
fn skip(line: &str) -> Option<String> {
    let said = line.split_once("SKIPPED: ").map(|(_, why)| why);
    said.or_else(|| line.strip_prefix("skip  ")).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reports_are_read() {
        let counts = |passed, failed| Counts {
            passed,
            failed,
            skipped: Vec::new(),
        };
        let line = "test result: FAILED. 29 passed; 2 failed; 1 ignored; 0 measured; 0 filtered out; finished in 0.23s";
        assert_eq!(reported(line), counts(29, 2));
        assert_eq!(reported("# pass 17"), counts(17, 0));
        assert_eq!(reported("ℹ fail 3"), counts(0, 3));
        assert_eq!(reported("12 passed, 1 failed"), counts(12, 1));
        assert_eq!(reported("pass 3 of them"), counts(0, 0));
        assert_eq!(reported("ok 3 - passed"), counts(0, 0));
    }

    #[test]
    fn a_failure_without_a_report_counts() {
        // a report would be read by whoever runs this test, and counted there
        let counts = run_counting(Command::new("false")).unwrap();
        assert_eq!((counts.passed, counts.failed), (0, 1));
    }

    #[test]
    fn skips_are_kept_with_their_reason() {
        // the marker in two pieces: whoever runs this test reads its output as well
        let line = format!("test it::influx ... {}: telegraf is not installed", "SKIPPED");
        assert_eq!(skip(&line).as_deref(), Some("telegraf is not installed"));
        assert_eq!(
            skip("skip  agent: no real server").as_deref(),
            Some("agent: no real server")
        );
        assert_eq!(skip("test skip ... ok"), None);
        let mut all = Counts::default();
        for why in ["no root", "no Python"] {
            let skipped = vec![why.to_owned()];
            all.add(Counts {
                skipped,
                ..Counts::default()
            });
        }
        assert_eq!(all.skipped, ["no root", "no Python"]);
    }
}
