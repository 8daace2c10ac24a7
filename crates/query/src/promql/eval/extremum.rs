use std::collections::VecDeque;

use model::SeriesBlock;

/// The largest or the smallest value of a window, or its time. NaN counts only where there is nothing else.
#[derive(Clone, Copy)]
pub(super) struct Extremum {
    smallest: bool,
    /// The time in seconds instead of the value; of equal values the last.
    time: bool,
}

impl Extremum {
    pub(super) const MAX: Extremum = Extremum {
        smallest: false,
        time: false,
    };
    pub(super) const MIN: Extremum = Extremum {
        smallest: true,
        time: false,
    };

    pub(super) const fn time(self) -> Self {
        Extremum { time: true, ..self }
    }

    /// Whether a value makes an earlier one of the same window irrelevant.
    fn replaces(self, v: f64, earlier: f64) -> bool {
        let better = if self.smallest { v < earlier } else { v > earlier };
        better || earlier.is_nan() || (self.time && v == earlier)
    }

    /// The extremum of the values themselves: of equal ones the first, as if each replaced the one before it.
    pub(super) fn of(self, values: &[f64]) -> Option<f64> {
        let (&first, rest) = values.split_first()?;
        let worst = if self.smallest {
            f64::INFINITY
        } else {
            f64::NEG_INFINITY
        };
        let better = |v: f64, than: f64| if self.smallest { v < than } else { v > than };
        let mut lanes = [worst; 8];
        let (groups, last) = values.as_chunks::<8>();
        for group in groups {
            for (lane, &v) in lanes.iter_mut().zip(group) {
                *lane = if better(v, *lane) { v } else { *lane };
            }
        }
        let best = lanes
            .iter()
            .chain(last)
            .fold(worst, |b, &v| if better(v, b) { v } else { b });
        // which zero, and whether there is anything but NaN, only their order tells
        if best != 0.0 && best != worst {
            return Some(best);
        }
        Some(rest.iter().fold(first, |b, &v| if self.replaces(v, b) { v } else { b }))
    }

    /// Whether it is the value that is wanted, not its time.
    pub(super) fn is_value(self) -> bool {
        !self.time
    }

    pub(super) fn result(self, block: &SeriesBlock, at: usize) -> f64 {
        match self.time {
            true => block.at_ms[at] as f64 / 1000.0,
            false => block.values[at],
        }
    }
}

/// What can still be the extremum of this window or of a later one: each is better than those after it, so that every
/// sample comes and goes once.
#[derive(Default)]
pub(super) struct Best {
    places: VecDeque<usize>,
    next: usize,
}

impl Best {
    /// The place of the extremum among `values[lo..hi]`; neither end moves back from one call to the next.
    pub(super) fn at(&mut self, extremum: Extremum, values: &[f64], lo: usize, hi: usize) -> Option<usize> {
        for at in self.next.max(lo)..hi {
            while self
                .places
                .back()
                .is_some_and(|&b| extremum.replaces(values[at], values[b]))
            {
                self.places.pop_back();
            }
            self.places.push_back(at);
        }
        self.next = self.next.max(hi);
        while self.places.front().is_some_and(|&first| first < lo) {
            self.places.pop_front();
        }
        self.places.front().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn finds_what_a_scan_finds(
            values in proptest::collection::vec(
                proptest::sample::select(vec![f64::NAN, 0.0, -0.0, 1.0, 2.0, f64::INFINITY, f64::NEG_INFINITY]), 0..40),
            moves in proptest::collection::vec((0usize..5, 0usize..5), 0..30),
            smallest: bool,
            time: bool,
        ) {
            let extremum = Extremum { smallest, time };
            let mut best = Best::default();
            let (mut lo, mut hi) = (0, 0);
            for (l, h) in moves {
                hi = (hi + h).min(values.len());
                lo = (lo + l).min(hi);
                let mut want: Option<usize> = None;
                for at in lo..hi {
                    if want.is_none_or(|w| extremum.replaces(values[at], values[w])) {
                        want = Some(at);
                    }
                }
                proptest::prop_assert_eq!(best.at(extremum, &values, lo, hi), want);
                if !time {
                    let direct = extremum.of(&values[lo..hi]).map(f64::to_bits);
                    proptest::prop_assert_eq!(direct, want.map(|w| values[w].to_bits()));
                }
            }
        }
    }
}
