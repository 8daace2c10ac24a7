//! What was sent, and what of it must be there: samples that are named by series and time, totals of deltas, deleted series.

use std::collections::{BTreeMap, BTreeSet};

/// Series whose every sample is remembered.
pub(super) const SERIES: u32 = 200;
/// How far back late samples go.
pub(super) const LATE_DAYS: u64 = 40;

#[derive(Default)]
pub(super) struct Ledger {
    /// By series and time in ms, whether it was acknowledged; one that was not may be there or not.
    samples: BTreeMap<u32, BTreeMap<i64, bool>>,
    /// Sums of the acknowledged deltas, by sender.
    pub(super) totals: BTreeMap<u32, u64>,
    /// Series that were deleted, by number, and such as were left beside them.
    pub(super) deleted: BTreeSet<u32>,
}

/// The value is told by series and time, so that none that is stale or mixed up can look right.
pub(super) fn value_of(series: u32, at_ms: i64) -> u64 {
    let mut z =
        u64::from(series).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at_ms as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 31;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 29)) % 1_000_000_000
}

/// What a look at one series found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    pub(super) there: u64,
    pub(super) lost: u64,
    pub(super) duplicate: u64,
    pub(super) corrupt: u64,
    pub(super) phantom: u64,
}

impl Verdict {
    pub(super) fn add(&mut self, other: Verdict) {
        self.there += other.there;
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.corrupt += other.corrupt;
        self.phantom += other.phantom;
    }

    pub(super) fn is_good(&self) -> bool {
        self.lost + self.duplicate + self.corrupt + self.phantom == 0
    }
}

impl Ledger {
    pub(super) fn send(&mut self, keys: &[(u32, i64)]) {
        for &(series, at) in keys {
            self.samples.entry(series).or_default().entry(at).or_insert(false);
        }
    }

    pub(super) fn acknowledge(&mut self, keys: &[(u32, i64)]) {
        for &(series, at) in keys {
            self.samples.entry(series).or_default().insert(at, true);
        }
    }

    pub(super) fn acknowledged(&self) -> u64 {
        let all = self.samples.values().flat_map(BTreeMap::values);
        all.filter(|&&acknowledged| acknowledged).count() as u64
    }

    /// Holds the samples that a server has of a series against what was sent.
    pub(super) fn compare(&self, series: u32, found: &[(i64, f64)]) -> Verdict {
        let none = BTreeMap::new();
        let sent = self.samples.get(&series).unwrap_or(&none);
        let mut verdict = Verdict::default();
        let mut seen = BTreeSet::new();
        for &(at, value) in found {
            verdict.there += 1;
            if !seen.insert(at) {
                verdict.duplicate += 1;
            }
            if !sent.contains_key(&at) {
                verdict.phantom += 1;
            } else if value != value_of(series, at) as f64 {
                verdict.corrupt += 1;
            }
        }
        let must = sent.iter().filter(|(_, acknowledged)| **acknowledged);
        verdict.lost = must.filter(|(at, _)| !seen.contains(at)).count() as u64;
        verdict
    }
}

/// The pairs of a matrix with one series, as Prometheus writes them: `"values":[[seconds,"value"],…]`.
pub(super) fn pairs(body: &str) -> Vec<(i64, f64)> {
    let Some(from) = body.find("\"values\":[[") else {
        return Vec::new();
    };
    let text = &body[from + "\"values\":[[".len()..];
    let text = text.split("]]").next().unwrap_or_default();
    let pair = |text: &str| {
        let (at, value) = text.split_once(',')?;
        let at = (at.trim().parse::<f64>().ok()? * 1000.0).round() as i64;
        Some((at, value.trim().trim_matches('"').parse::<f64>().ok()?))
    };
    text.split("],[").filter_map(pair).collect()
}

/// The value of each series of an instant query's answer.
pub(super) fn values(body: &str) -> Vec<f64> {
    let parts = body.split("\"value\":[").skip(1);
    let value = |part: &str| {
        part.split(']')
            .next()?
            .split_once(',')?
            .1
            .trim_matches('"')
            .parse()
            .ok()
    };
    parts.filter_map(value).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_fault_is_seen() {
        let mut ledger = Ledger::default();
        ledger.send(&[(1, 1000), (1, 2000), (1, 3000)]);
        ledger.acknowledge(&[(1, 1000), (1, 2000)]);
        let right = |at: i64| (at, value_of(1, at) as f64);
        let all = ledger.compare(1, &[right(1000), right(2000), right(3000)]);
        assert!(all.is_good() && all.there == 3, "{all:?}");
        let bad = ledger.compare(1, &[right(1000), right(1000), (3000, 1.5), right(4000)]);
        let told = (bad.lost, bad.duplicate, bad.corrupt, bad.phantom);
        assert_eq!(told, (1, 1, 1, 1));
    }

    #[test]
    fn answers_are_read() {
        let matrix = r#"{"data":{"result":[{"metric":{"id":"1"},"values":[[1.5,"2"],[3,"-4e3"]]}]}}"#;
        assert_eq!(pairs(matrix), [(1500, 2.0), (3000, -4000.0)]);
        assert_eq!(pairs(r#"{"data":{"result":[]}}"#), []);
        let vector = r#"{"data":{"result":[{"metric":{},"value":[1.5,"2"]},{"metric":{},"value":[1.5,"NaN"]}]}}"#;
        let read = values(vector);
        assert!(read[0] == 2.0 && read[1].is_nan() && read.len() == 2);
    }
}
