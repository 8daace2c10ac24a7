//! The one place that writes to the terminal.
use std::io::Write;
use std::time::Duration;

/// How long the last words may wait for somebody to read them.
const LAST_WORDS_WITHIN: Duration = Duration::from_secs(1);

/// A line on standard output. A closed pipe (`overseer query … | head`) is no error.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stdout().lock(), "{line}");
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
