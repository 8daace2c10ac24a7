use std::collections::HashSet;
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

/// How requests are made: what was sent follows from it and from the number of requests.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) writers: u32,
    /// Series that a writer has at a time, and requests after which it takes others.
    pub(super) series: u32,
    pub(super) change_after: u32,
    /// Samples of a series in one request, and the time between two.
    pub(super) samples: u32,
    pub(super) step_ms: i64,
}

/// Series numbers of one writer.
const NUMBERS: u32 = 1_000_000;

/// What was sent, and what of it must be there.
pub(super) struct Ledger {
    start_ms: i64,
    shape: Shape,
    /// Of each writer, whether each sample must be there, in the order in which they were sent.
    must: Vec<Vec<bool>>,
    acknowledged: usize,
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
    pub(super) fn new(start_ms: i64, shape: Shape) -> Ledger {
        Ledger {
            start_ms: start_ms / 1000 * 1000,
            shape,
            must: vec![Vec::new(); shape.writers as usize],
            acknowledged: 0,
            cycles: Vec::new(),
        }
    }

    /// Samples of one request.
    fn each(&self) -> usize {
        (self.shape.series * self.shape.samples) as usize
    }

    /// The time behind the last one of a writer.
    fn time_of(&self, must: &[bool]) -> i64 {
        let slots = (must.len() / self.each()) as i64 * i64::from(self.shape.samples);
        self.start_ms + slots * self.shape.step_ms
    }

    pub(super) fn begin_cycle(&mut self) {
        let at = self.must.iter().map(|m| self.time_of(m)).min();
        self.cycles.push(at.unwrap_or(self.start_ms));
    }

    /// The samples of a writer's next request, noted as sent.
    pub(super) fn next(&mut self, writer: u32) -> Vec<Key> {
        let (shape, each) = (self.shape, self.each());
        let Some(must) = self.must.get(writer as usize) else {
            return Vec::new();
        };
        let round = (must.len() / each) as u32;
        let at_ms = self.time_of(must);
        let first = writer * NUMBERS + round / shape.change_after * shape.series;
        let mut keys = Vec::with_capacity(each);
        for n in 0..shape.series {
            keys.extend((0..shape.samples).map(|i| (first + n, at_ms + i64::from(i) * shape.step_ms)));
        }
        let len = must.len() + each;
        self.must[writer as usize].resize(len, false);
        keys
    }

    /// Writer and place of a sample, when it was sent.
    fn place(&self, (id, at_ms): Key) -> Option<(usize, usize)> {
        let s = self.shape;
        let (writer, number) = ((id / NUMBERS) as usize, id % NUMBERS);
        let since = at_ms
            .checked_sub(self.start_ms)
            .filter(|t| *t >= 0 && t % s.step_ms == 0)?;
        let slot = usize::try_from(since / s.step_ms).ok()?;
        let (round, i) = (slot / s.samples as usize, slot % s.samples as usize);
        let of_round = round / s.change_after as usize * s.series as usize;
        let n = (number as usize)
            .checked_sub(of_round)
            .filter(|n| *n < s.series as usize)?;
        let place = round * self.each() + n * s.samples as usize + i;
        (place < self.must.get(writer)?.len()).then_some((writer, place))
    }

    fn key(&self, writer: usize, place: usize) -> Key {
        let s = self.shape;
        let (round, within) = (place / self.each(), place % self.each());
        let (n, i) = (within / s.samples as usize, within % s.samples as usize);
        let of_round = round / s.change_after as usize * s.series as usize;
        let id = writer as u32 * NUMBERS + (of_round + n) as u32;
        (id, self.start_ms + (round * s.samples as usize + i) as i64 * s.step_ms)
    }

    pub(super) fn acknowledge(&mut self, keys: &[Key]) {
        for &key in keys {
            self.must_have(key);
        }
    }

    /// Notes that a sample must be there from now on; whether it was sent.
    fn must_have(&mut self, key: Key) -> bool {
        let Some((writer, place)) = self.place(key) else {
            return false;
        };
        if !std::mem::replace(&mut self.must[writer][place], true) {
            self.acknowledged += 1;
        }
        true
    }

    /// Samples that must be there, and all that were sent.
    pub(super) fn counts(&self) -> (usize, usize) {
        (self.acknowledged, self.must.iter().map(Vec::len).sum())
    }

    /// Ranges of time, both ends included, of at most about `each` samples.
    pub(super) fn slices(&self, whole: bool, each: usize) -> Vec<(i64, i64)> {
        let from = if whole {
            self.start_ms
        } else {
            let n = self.cycles.len().saturating_sub(CYCLES_BACK + 1);
            self.cycles.get(n).copied().unwrap_or(self.start_ms)
        };
        let end = self.must.iter().map(|m| self.time_of(m)).max().unwrap_or(from);
        let at_once = (self.shape.writers * self.shape.series) as usize;
        let span = (each / at_once).max(1) as i64 * self.shape.step_ms;
        let mut slices = Vec::new();
        let mut at = from;
        while at < end {
            let to = (at + span).min(end) - 1;
            slices.push((at, to));
            at = to + 1;
        }
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
        let mut seen: HashSet<Key> = HashSet::new();
        for series in answer["data"]["result"].as_array().into_iter().flatten() {
            let id = series["metric"]["id"].as_str().and_then(|id| id.parse().ok());
            let id: u32 = id.ok_or("a series without its id")?;
            for point in series["values"].as_array().into_iter().flatten() {
                let at = (point[0].as_f64().unwrap_or(0.0) * 1000.0).round() as i64;
                if !(from_ms..=to_ms).contains(&at) {
                    continue;
                }
                verdict.looked_at += 1;
                if !seen.insert((id, at)) {
                    verdict.duplicate += 1;
                    verdict.tell("duplicate", (id, at));
                }
                if !self.must_have((id, at)) {
                    verdict.phantom += 1;
                    verdict.tell("phantom", (id, at));
                } else if point[1].as_str().and_then(|v| v.parse().ok()) != Some(value_of(id, at) as f64) {
                    verdict.corrupt += 1;
                    verdict.tell("corrupt", (id, at));
                }
            }
        }
        // requests that reach into the range
        let span = i64::from(self.shape.samples) * self.shape.step_ms;
        let round = |at: i64| ((at - self.start_ms).max(0) / span) as usize;
        for (writer, must) in self.must.iter().enumerate() {
            let places = round(from_ms) * self.each()..((round(to_ms) + 1) * self.each()).min(must.len());
            for place in places.filter(|&p| must[p]) {
                let key = self.key(writer, place);
                if (from_ms..=to_ms).contains(&key.1) && !seen.contains(&key) {
                    verdict.lost += 1;
                    verdict.tell("lost", key);
                }
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

    fn ledger(writers: u32, series: u32, samples: u32) -> Ledger {
        let shape = Shape {
            writers,
            series,
            change_after: 10,
            samples,
            step_ms: 1000,
        };
        Ledger::new(1_000_000, shape)
    }

    #[test]
    fn each_fault_is_seen() {
        let mut ledger = ledger(1, 2, 2);
        let keys = ledger.next(0);
        assert_eq!(keys, [(0, 1_000_000), (0, 1_001_000), (1, 1_000_000), (1, 1_001_000)]);
        ledger.acknowledge(&keys[..3]);
        let row = |(id, at): Key| (id, at, value_of(id, at));
        let (from, to) = ledger.slices(true, 100)[0];
        assert_eq!((from, to), (1_000_000, 1_001_999));
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
    fn places_and_keys_are_each_others_inverse_and_slices_cover_all_once() {
        let mut ledger = ledger(2, 3, 5);
        let mut all = Vec::new();
        for round in 0..33 {
            all.extend(ledger.next(0));
            if round % 3 == 0 {
                all.extend(ledger.next(1));
            }
        }
        let places: HashSet<(usize, usize)> = all.iter().map(|&k| ledger.place(k).unwrap()).collect();
        assert_eq!((places.len(), ledger.counts()), (all.len(), (0, all.len())));
        assert!(places.iter().all(|&(w, p)| all.contains(&ledger.key(w, p))));
        for phantom in [
            (0, 999_000),
            (0, 1_000_500),
            (3, 1_000_000),
            (0, 1_051_000),
            (5_000_000, 1_000_000),
        ] {
            assert_eq!(ledger.place(phantom), None, "{phantom:?}");
        }
        ledger.acknowledge(&all);
        let slices = ledger.slices(true, 70);
        assert!(slices.len() > 5 && slices.windows(2).all(|w| w[0].1 + 1 == w[1].0));
        let mut verdict = Verdict::default();
        for (from, to) in slices {
            let rows: Vec<_> = all
                .iter()
                .filter(|k| (from..=to).contains(&k.1))
                .map(|&(id, at)| (id, at, value_of(id, at)))
                .collect();
            ledger.compare(&answer(&rows), from, to, &mut verdict).unwrap();
        }
        assert_eq!((verdict.is_good(), verdict.looked_at), (true, all.len() as u64));
    }
}
