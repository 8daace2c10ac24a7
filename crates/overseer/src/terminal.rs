//! The one place that writes to the terminal.
use std::io::Write;

/// A line on standard output. A closed pipe (`overseer query … | head`) is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
}

/// A line on standard error.
pub(crate) fn complain(message: &str) {
    let _ = writeln!(std::io::stderr().lock(), "overseer: {message}");
}
