use std::collections::BTreeMap;
use std::fmt;

use serde_json::Value;

/// Faults that are told one by one.
const EXAMPLES_MAX: usize = 20;
/// Cycles whose samples are looked at after each kill.
const CYCLES_BACK: usize = 3;

/// Series number and time in ms.
pub(super) type Key = (u32, i64);

/// What was found wrong.
#[derive(Default)]
pub(super) struct Verdict {
    pub(super) looked_at: u64,
    /// Acknowledged, or seen before, and not there.
    pub(super) lost: u64,
    /// There twice.
    pub(super) duplicate: u64,
    /// There with another value.
    pub(super) corrupt: u64,
    /// There and never sent.
    pub(super) phantom: u64,
    pub(super) examples: Vec<String>,
}

impl Verdict {
    pub(super) fn add(&mut self, other: &Verdict) {
        self.looked_at += other.looked_at;
        self.lost += other.lost;
        self.duplicate += other.duplicate;
        self.corrupt += other.corrupt;
        self.phantom += other.phantom;
        let room = EXAMPLES_MAX.saturating_sub(self.examples.len());
        self.examples.extend(other.examples.iter().take(room).cloned());
    }

    pub(super) fn is_good(&self) -> bool {
        self.lost + self.duplicate + self.corrupt + self.phantom == 0
    }

    fn tell(&mut self, what: &str, (id, at_ms): Key) {
        if self.examples.len() < EXAMPLES_MAX {
            self.examples
                .push(format!("{what}: crashtest_value{{id=\"{id}\"}} at {at_ms} ms"));
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_good() {
            return write!(f, "all of {} as promised", self.looked_at);
        }
        write!(
            f,
            "lost {}, duplicate {}, corrupt {}, phantom {} of {}",
            self.lost, self.duplicate, self.corrupt, self.phantom, self.looked_at
        )
    }
}

/// What was sent, and what of it must be there.
pub(super) struct Ledger {
    start_ms: i64,
    /// By time first: slices of it are looked at.
    sent: BTreeMap<(i64, u32), bool>,
    acknowledged: usize,
    /// Next time and requests so far, by writer.
    writers: Vec<(i64, u32)>,
    /// Where the writers stood when each cycle began.
    cycles: Vec<i64>,
}

/// The value is told by series and time, so that none that is stale or mixed up can look right.
pub(super) fn value_of(id: u32, at_ms: i64) -> u64 {
    let mut z = u64::from(id).wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ (at_ms as u64).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    z ^= z >> 31;
    z = z.wrapping_mul(0x94D0_49BB_1331_11EB);
    (z ^ (z >> 29)) % 1_000_000_000
}

impl Ledger {
    pub(super) fn new(start_ms: i64, writers: u32) -> Ledger {
        let start_ms = start_ms / 1000 * 1000;
        Ledger {
            start_ms,
            sent: BTreeMap::new(),
            acknowledged: 0,
            writers: vec![(start_ms, 0); writers as usize],
            cycles: Vec::new(),
        }
    }

    pub(super) fn begin_cycle(&mut self) {
        let at = self.writers.iter().map(|w| w.0).min().unwrap_or(self.start_ms);
        self.cycles.push(at);
    }

    /// The samples of a writer's next request, noted as sent.
    pub(super) fn next(&mut self, writer: u32, series: u32, change_after: u32, samples: i64, step_ms: i64) -> Vec<Key> {
        let Some((at_ms, round)) = self.writers.get_mut(writer as usize) else {
            return Vec::new();
        };
        let first = writer * 1_000_000 + *round / change_after * series;
        let mut keys = Vec::new();
        for n in 0..series {
            keys.extend((0..samples).map(|i| (first + n, *at_ms + i * step_ms)));
        }
        *at_ms += samples * step_ms;
        *round += 1;
        self.sent.extend(keys.iter().map(|&(id, at)| ((at, id), false)));
        keys
    }

    pub(super) fn acknowledge(&mut self, keys: &[Key]) {
        for &(id, at) in keys {
            self.must(at, id);
        }
    }

    fn must(&mut self, at_ms: i64, id: u32) {
        if let Some(must) = self.sent.get_mut(&(at_ms, id))
            && !*must
        {
            *must = true;
            self.acknowledged += 1;
        }
    }

    /// Samples that must be there, and all that were sent.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.acknowledged, self.sent.len())
    }

    /// Ranges of time, both ends included, of at most about `each` samples.
    pub(super) fn slices(&self, whole: bool, each: usize) -> Vec<(i64, i64)> {
        let from = if whole {
            self.start_ms
        } else {
            let n = self.cycles.len().saturating_sub(CYCLES_BACK + 1);
            self.cycles.get(n).copied().unwrap_or(self.start_ms)
        };
        let mut slices = Vec::new();
        let (mut begin, mut count, mut last) = (from, 0, from);
        for &(at, _) in self.sent.range((from, 0)..).map(|(k, _)| k) {
            if count >= each && at > last {
                slices.push((begin, last));
                (begin, count) = (last + 1, 0);
            }
            count += 1;
            last = at;
        }
        slices.push((begin, last));
        slices
    }

    /// Holds a query's answer against what was sent in this range. What was seen once must stay.
    pub(super) fn compare(
        &mut self,
        body: &[u8],
        from_ms: i64,
        to_ms: i64,
        verdict: &mut Verdict,
    ) -> Result<(), String> {
        let answer: Value = serde_json::from_slice(body).map_err(|e| format!("an answer is no JSON: {e}"))?;
        let mut seen: BTreeMap<(i64, u32), u32> = BTreeMap::new();
        for series in answer["data"]["result"].as_array().into_iter().flatten() {
            let id = series["metric"]["id"].as_str().and_then(|id| id.parse().ok());
            let id: u32 = id.ok_or("a series without its id")?;
            for point in series["values"].as_array().into_iter().flatten() {
                let at = (point[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
                if !(from_ms..=to_ms).contains(&at) {
                    continue;
                }
                verdict.looked_at += 1;
                *seen.entry((at, id)).or_default() += 1;
                if !self.sent.contains_key(&(at, id)) {
                    verdict.phantom += 1;
                    verdict.tell("phantom", (id, at));
                    continue;
                }
                if point[1].as_str().and_then(|v| v.parse().ok()) != Some(value_of(id, at) as f64) {
                    verdict.corrupt += 1;
                    verdict.tell("corrupt", (id, at));
                }
            }
        }
        for (&(at, id), &count) in &seen {
            if count > 1 {
                verdict.duplicate += 1;
                verdict.tell("duplicate", (id, at));
            }
            self.must(at, id);
        }
        let expected = self.sent.range((from_ms, 0)..=(to_ms, u32::MAX));
        for (&(at, id), _) in expected.filter(|(_, must)| **must) {
            if !seen.contains_key(&(at, id)) {
                verdict.lost += 1;
                verdict.tell("lost", (id, at));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(rows: &[(u32, i64, u64)]) -> Vec<u8> {
        let result: Vec<Value> = rows
            .iter()
            .map(|(id, at, v)| {
                json!({ "metric": { "id": id.to_string() }, "values": [[*at as f64 / 1000.0, v.to_string()]] })
            })
            .collect();
        json!({ "data": { "result": result } }).to_string().into_bytes()
    }

    #[test]
    fn each_fault_is_seen() {
        let mut ledger = Ledger::new(1_000_000, 1);
        let keys = ledger.next(0, 2, 10, 2, 1000);
        assert_eq!(keys, [(0, 1_000_000), (0, 1_001_000), (1, 1_000_000), (1, 1_001_000)]);
        ledger.acknowledge(&keys[..3]);
        let row = |(id, at): Key| (id, at, value_of(id, at));
        let (from, to) = ledger.slices(true, 100)[0];
        assert_eq!((from, to), (1_000_000, 1_001_000));
        let mut good = Verdict::default();
        let all: Vec<_> = keys[..3].iter().copied().map(row).collect();
        ledger.compare(&answer(&all), from, to, &mut good).unwrap();
        assert!(good.is_good() && good.looked_at == 3, "{good}");

        let mut bad = Verdict::default();
        let mut wrong = row(keys[0]);
        wrong.2 += 1;
        let rows = [wrong, row(keys[1]), row(keys[1]), (7, 1_000_000, 1)];
        ledger.compare(&answer(&rows), from, to, &mut bad).unwrap();
        assert_eq!((bad.corrupt, bad.duplicate, bad.phantom, bad.lost), (1, 1, 1, 1));

        // seen once without an acknowledgement, gone later
        let mut seen = Verdict::default();
        let four: Vec<_> = keys.iter().copied().map(row).collect();
        ledger.compare(&answer(&four), from, to, &mut seen).unwrap();
        assert!(seen.is_good());
        ledger.compare(&answer(&all), from, to, &mut seen).unwrap();
        assert_eq!(seen.lost, 1);
    }

    #[test]
    fn slices_cover_everything_once() {
        let mut ledger = Ledger::new(0, 2);
        for _ in 0..30 {
            ledger.next(0, 3, 10, 5, 1000);
            ledger.next(1, 3, 10, 5, 1000);
        }
        let slices = ledger.slices(true, 70);
        assert!(slices.len() > 5);
        assert!(slices.windows(2).all(|w| w[0].1 + 1 == w[1].0));
        assert_eq!((slices[0].0, slices.last().unwrap().1), (0, 149_000));
    }
}
