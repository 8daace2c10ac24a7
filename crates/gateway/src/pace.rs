use std::time::Duration;

/// Whether bytes keep moving: at least a rate over each window, and all of them within a time. A rate over the whole
/// time would let one that was quick at first hold its memory for hours.
pub(crate) struct Pace {
    window: Duration,
    bytes_per_second_min: u64,
    all_within: Duration,
    began: Duration,
    /// When the present window began, and what had moved by then.
    mark: (Duration, u64),
}

/// What is wrong with one that is too slow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Slow {
    Rate,
    Whole,
}

impl Pace {
    pub(crate) fn new(now: Duration, window: Duration, bytes_per_second_min: u64, all_within: Duration) -> Self {
        Pace {
            window,
            bytes_per_second_min,
            all_within,
            began: now,
            mark: (now, 0),
        }
    }

    /// `bytes`: what has moved since the beginning.
    pub(crate) fn check(&mut self, now: Duration, bytes: u64) -> Result<(), Slow> {
        if now.saturating_sub(self.began) > self.all_within {
            return Err(Slow::Whole);
        }
        let spent = now.saturating_sub(self.mark.0);
        if spent >= self.window {
            let moved = bytes.saturating_sub(self.mark.1);
            if (moved as f64) < spent.as_secs_f64() * self.bytes_per_second_min as f64 {
                return Err(Slow::Rate);
            }
            self.mark = (now, bytes);
        }
        Ok(())
    }

    /// How long it is until the next look is due.
    pub(crate) fn until_due(&self, now: Duration) -> Duration {
        let window = (self.mark.0 + self.window).saturating_sub(now);
        let whole = (self.began + self.all_within).saturating_sub(now);
        // a moment later, so that the look finds the time over
        window.min(whole) + Duration::from_millis(1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    #[test]
    fn one_that_was_quick_at_first_is_no_excuse() {
        let mut pace = Pace::new(seconds(100), seconds(10), 1000, seconds(300));
        pace.check(seconds(101), 30_000_000).unwrap();
        pace.check(seconds(110), 30_000_000).unwrap();
        pace.check(seconds(115), 30_000_005).unwrap();
        assert_eq!(pace.check(seconds(120), 30_000_010), Err(Slow::Rate));
    }

    #[test]
    fn a_steady_one_may_go_on_until_its_time_is_over() {
        let mut pace = Pace::new(seconds(0), seconds(10), 1000, seconds(300));
        for at in 1..=300 {
            pace.check(seconds(at), at * 1000).unwrap();
        }
        assert_eq!(pace.check(seconds(301), 301_000), Err(Slow::Whole));
    }

    #[test]
    fn a_look_is_due_when_a_window_ends() {
        let mut pace = Pace::new(seconds(0), seconds(10), 1000, seconds(15));
        assert_eq!(pace.until_due(seconds(4)), Duration::from_millis(6001));
        pace.check(seconds(10), 20_000).unwrap();
        assert_eq!(pace.until_due(seconds(10)), Duration::from_millis(5001));
        let due = seconds(10) + pace.until_due(seconds(10));
        assert_eq!(pace.check(due, 99_000), Err(Slow::Whole));
    }
}
