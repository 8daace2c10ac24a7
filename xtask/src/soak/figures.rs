//! What is counted while it runs, window by window.

use std::{collections::BTreeMap, fmt::Write as _, time::Duration};

use super::server::Size;

/// Windows into which a run is cut.
pub(super) const WINDOWS: usize = 12;

#[derive(Default)]
pub(super) struct Window {
    simple_ms: Vec<f64>,
    write_ms: Vec<f64>,
    sizes: Vec<Size>,
}

#[derive(Default)]
pub(super) struct Figures {
    pub(super) windows: Vec<Window>,
    /// Everything that is only counted, by name.
    pub(super) counts: BTreeMap<String, u64>,
    /// What must not happen.
    pub(super) faults: Vec<String>,
}

/// Faults that are told one by one.
const FAULTS_MAX: usize = 50;

impl Figures {
    fn window(&mut self, at: usize) -> &mut Window {
        while self.windows.len() <= at {
            self.windows.push(Window::default());
        }
        &mut self.windows[at]
    }

    pub(super) fn simple(&mut self, at: usize, took: Duration) {
        self.window(at).simple_ms.push(took.as_secs_f64() * 1e3);
    }

    pub(super) fn write(&mut self, at: usize, took: Duration) {
        self.window(at).write_ms.push(took.as_secs_f64() * 1e3);
    }

    pub(super) fn size(&mut self, at: usize, size: Size) {
        self.window(at).sizes.push(size);
    }

    pub(super) fn count(&mut self, what: impl Into<String>) {
        *self.counts.entry(what.into()).or_default() += 1;
    }

    pub(super) fn fault(&mut self, what: impl Into<String>) {
        let what = what.into();
        self.count("faults");
        if self.faults.len() < FAULTS_MAX {
            println!("FAULT: {what}");
            self.faults.push(what);
        }
    }

    pub(super) fn rss_max(&self) -> u64 {
        let sizes = self.windows.iter().flat_map(|w| &w.sizes);
        sizes.map(|s| s.rss_bytes).max().unwrap_or(0)
    }

    /// Medians of the second quarter and of the last one: what is flat has the same.
    pub(super) fn quarters(&self, of: fn(&Size) -> u64) -> (u64, u64) {
        let n = self.windows.len();
        let median = |from: usize, to: usize| {
            let windows = self.windows.get(from..to).unwrap_or_default();
            let mut all: Vec<u64> = windows.iter().flat_map(|w| &w.sizes).map(of).collect();
            all.sort_unstable();
            all.get(all.len() / 2).copied().unwrap_or(0)
        };
        (median(n / 4, n / 2), median(n - n / 4, n))
    }

    pub(super) fn table(&self) -> String {
        let mut out = String::from(
            "window  RSS MB max  descriptors  threads   files  disk MB  simple query ms p50/p99/max    write ms p50/p99/max\n",
        );
        for (i, w) in self.windows.iter().enumerate() {
            let max = |of: fn(&Size) -> u64| w.sizes.iter().map(of).max().unwrap_or(0);
            let _ = writeln!(
                out,
                "{:>6} {:>11} {:>12} {:>8} {:>7} {:>8}  {:>29}  {:>22}",
                i + 1,
                max(|s| s.rss_bytes) >> 20,
                max(|s| s.descriptors),
                max(|s| s.threads),
                max(|s| s.files),
                max(|s| s.disk_bytes) >> 20,
                quantiles(&w.simple_ms),
                quantiles(&w.write_ms),
            );
        }
        for (what, n) in &self.counts {
            let _ = writeln!(out, "{n:>10}  {what}");
        }
        out
    }
}

/// The middle, the 99th percentile and the largest.
fn quantiles(ms: &[f64]) -> String {
    let mut ms = ms.to_vec();
    ms.sort_unstable_by(f64::total_cmp);
    let at = |q: f64| {
        let rank = (q * ms.len() as f64).ceil() as usize;
        ms.get(rank.saturating_sub(1)).copied().unwrap_or(0.0)
    };
    format!("{:.1}/{:.1}/{:.0}", at(0.5), at(0.99), at(1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_were_measured() {
        let ms: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        assert_eq!(quantiles(&ms), "50.0/99.0/100");
        assert_eq!(quantiles(&[]), "0.0/0.0/0");
    }

    #[test]
    fn quarters_compare_the_second_with_the_last() {
        let mut figures = Figures::default();
        for at in 0..8 {
            let size = Size {
                files: at as u64,
                ..Size::default()
            };
            figures.size(at, size);
        }
        assert_eq!(figures.quarters(|s| s.files), (3, 7));
    }
}
