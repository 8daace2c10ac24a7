use std::io::{IsTerminal, Write};

use host::Host;

/// Cells of the bar.
const WIDTH: usize = 30;
/// Milliseconds between two drawings.
const EVERY_MS: u128 = 100;

/// A bar on standard error, when that is a terminal.
pub(crate) struct Progress {
    host: Host,
    what: &'static str,
    total: u64,
    done: u64,
    drawn_ms: u128,
    shown: bool,
}

impl Progress {
    /// `total`: bytes that will be told of with [`add`](Self::add).
    pub(crate) fn new(host: &Host, what: &'static str, total: u64) -> Self {
        Progress {
            host: host.clone(),
            what,
            total,
            done: 0,
            drawn_ms: 0,
            shown: std::io::stderr().is_terminal(),
        }
    }

    pub(crate) fn add(&mut self, bytes: u64) {
        self.done += bytes;
        if !self.shown {
            return;
        }
        let now = self.host.clock.monotonic().as_millis();
        if now - self.drawn_ms < EVERY_MS {
            return;
        }
        self.drawn_ms = now;
        let _ = write!(
            std::io::stderr().lock(),
            "\r{}\x1b[K",
            line(self.what, self.done, self.total)
        );
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if self.shown {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[K");
        }
    }
}

fn line(what: &str, done: u64, total: u64) -> String {
    let share = if total == 0 {
        1.0
    } else {
        (done as f64 / total as f64).min(1.0)
    };
    let full = (share * WIDTH as f64) as usize;
    let bar: String = (0..WIDTH).map(|i| if i < full { '█' } else { '░' }).collect();
    format!(
        "{what} {bar} {:>3.0} %  {} of {}",
        share * 100.0,
        bytes(done),
        bytes(total)
    )
}

/// Bytes in the unit a person would use.
pub(crate) fn bytes(n: u64) -> String {
    const UNITS: [&str; 5] = ["B", "KiB", "MiB", "GiB", "TiB"];
    let mut value = n as f64;
    let mut unit = 0;
    while value >= 1024.0 && unit + 1 < UNITS.len() {
        value /= 1024.0;
        unit += 1;
    }
    if unit == 0 {
        format!("{n} B")
    } else {
        format!("{value:.1} {}", UNITS[unit])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_never_longer_than_whole() {
        assert!(line("checking", 5, 10).contains(" 50 %  5 B of 10 B"));
        assert!(line("checking", 20, 10).contains("100 %"));
        assert!(line("checking", 0, 0).contains("100 %"));
        assert_eq!(bytes(1536), "1.5 KiB");
        assert_eq!(bytes(3 << 30), "3.0 GiB");
    }
}
