//! The one place that writes to the terminal.
use std::io::{ErrorKind, Write};
use std::time::Duration;

use crate::Failure;

/// How long the last words may wait for somebody to read them.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// A line on standard output. What cannot be written is a failure of the command; a reader that has gone (`| head`) has
/// read what it wanted and is told nothing.
pub(crate) fn say(line: &str) -> Result<(), Failure> {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}")
        .and_then(|()| out.flush())
        .map_err(|e| match e.kind() {
            ErrorKind::BrokenPipe => Failure::failed(""),
            _ => Failure::failed(format!("standard output cannot be written: {e}")),
        })
}

/// A line on standard error. It waits only a while for a reader: the process is about to end.
pub(crate) fn complain(message: &str) {
    let line = format!("overseer: {message}\n");
    let (done, told) = std::sync::mpsc::channel();
    let write = move || {
        let _ = std::io::stderr().lock().write_all(line.as_bytes());
        let _ = done.send(());
    };
    if std::thread::Builder::new().spawn(write).is_ok() {
        let _ = told.recv_timeout(LAST_WORDS_WITHIN);
    }
}
