use std::collections::{HashMap, VecDeque};

use model::Labels;

use crate::Observation;

/// Series that the ring holds at most; more are counted and left out.
pub const RING_SERIES_MAX: usize = 10_000;

/// The last ticks as columns. Every column is as long as the time column; NaN stands where a series had no value.
pub(crate) struct Ring {
    ticks_max: usize,
    sequence: u64,
    at_ms: VecDeque<i64>,
    columns: Vec<Held>,
    index: HashMap<Labels, usize>,
    left_out: u64,
}

struct Held {
    labels: Labels,
    values: VecDeque<f64>,
    /// Sequence of the last tick with a value.
    last: u64,
}

/// All that the ring holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Snapshot {
    /// Number of the last tick in it; the delta that follows has the next.
    pub sequence: u64,
    /// Unix ms, ascending.
    pub at_ms: Vec<i64>,
    pub series: Vec<Column>,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Column {
    pub labels: Labels,
    /// As long as the snapshot's times; NaN where there is no value.
    pub values: Vec<f64>,
}

/// What one tick changed. Apply in this order: take the removed columns out (their places are those before this tick;
/// the others close up), put the added ones at the end, then give every column its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Delta {
    pub sequence: u64,
    /// Unix ms.
    pub at_ms: i64,
    /// Ascending.
    pub removed: Vec<usize>,
    pub added: Vec<Labels>,
    /// One per column; NaN where there is no value.
    pub values: Vec<f64>,
}

impl Ring {
    pub(crate) fn new(ticks_max: usize) -> Self {
        Ring {
            ticks_max: ticks_max.max(1),
            sequence: 0,
            at_ms: VecDeque::new(),
            columns: Vec::new(),
            index: HashMap::new(),
            left_out: 0,
        }
    }

    /// Takes one tick in; the oldest goes when the ring is full, and with it the series that have no value left.
    pub(crate) fn push(&mut self, at_ms: i64, observations: &[Observation]) -> Delta {
        self.sequence += 1;
        if self.at_ms.len() == self.ticks_max {
            self.at_ms.pop_front();
            for column in &mut self.columns {
                column.values.pop_front();
            }
        }
        for column in &mut self.columns {
            column.values.push_back(f64::NAN);
        }
        let mut added = Vec::new();
        for observation in observations {
            let at = match self.index.get(&observation.labels) {
                Some(&at) => at,
                None if self.columns.len() < RING_SERIES_MAX => {
                    let mut values = VecDeque::with_capacity(self.at_ms.len() + 1);
                    values.resize(self.at_ms.len() + 1, f64::NAN);
                    let labels = observation.labels.clone();
                    self.columns.push(Held {
                        labels: labels.clone(),
                        values,
                        last: self.sequence,
                    });
                    self.index.insert(labels.clone(), self.columns.len() - 1);
                    added.push(labels);
                    self.columns.len() - 1
                }
                None => {
                    self.left_out += 1;
                    continue;
                }
            };
            let column = &mut self.columns[at];
            column.last = self.sequence;
            if let Some(value) = column.values.back_mut() {
                *value = observation.value;
            }
        }
        self.at_ms.push_back(at_ms);
        let removed = self.remove_empty();
        Delta {
            sequence: self.sequence,
            at_ms,
            removed,
            added,
            values: self
                .columns
                .iter()
                .map(|column| column.values.back().copied().unwrap_or(f64::NAN))
                .collect(),
        }
    }

    /// Columns without a value in the whole ring; an added one has a value and is never among them.
    fn remove_empty(&mut self) -> Vec<usize> {
        let oldest = self.sequence.saturating_sub(self.at_ms.len() as u64);
        let is_empty = |column: &Held| column.last <= oldest;
        let removed: Vec<usize> = self
            .columns
            .iter()
            .enumerate()
            .filter(|(_, column)| is_empty(column))
            .map(|(at, _)| at)
            .collect();
        if !removed.is_empty() {
            self.columns.retain(|column| !is_empty(column));
            self.index = self
                .columns
                .iter()
                .enumerate()
                .map(|(at, column)| (column.labels.clone(), at))
                .collect();
        }
        removed
    }

    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot {
            sequence: self.sequence,
            at_ms: self.at_ms.iter().copied().collect(),
            series: self
                .columns
                .iter()
                .map(|c| Column {
                    labels: c.labels.clone(),
                    values: c.values.iter().copied().collect(),
                })
                .collect(),
        }
    }

    /// Values left out because the ring was full of series.
    pub(crate) fn left_out(&self) -> u64 {
        self.left_out
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use model::MetricKind;
    use proptest::prelude::*;

    use super::*;

    fn seen(name: u8, value: f64) -> Observation {
        let labels = Labels::from_pairs([("__name__", format!("s{name}"))]);
        Observation {
            labels,
            kind: MetricKind::Gauge,
            value,
            stored: true,
        }
    }

    /// A reader that has only deltas.
    fn apply(to: &mut Snapshot, delta: &Delta, ticks_max: usize) {
        assert_eq!(delta.sequence, to.sequence + 1);
        to.sequence = delta.sequence;
        for at in delta.removed.iter().rev() {
            to.series.remove(*at);
        }
        for labels in &delta.added {
            to.series.push(Column {
                labels: labels.clone(),
                values: vec![f64::NAN; to.at_ms.len()],
            });
        }
        to.at_ms.push(delta.at_ms);
        assert_eq!(to.series.len(), delta.values.len());
        for (column, value) in to.series.iter_mut().zip(&delta.values) {
            column.values.push(*value);
        }
        if to.at_ms.len() > ticks_max {
            to.at_ms.remove(0);
            for column in &mut to.series {
                column.values.remove(0);
            }
        }
    }

    fn bits(snapshot: &Snapshot) -> Vec<(String, Vec<u64>)> {
        let column = |c: &Column| (c.labels.to_string(), c.values.iter().map(|v| v.to_bits()).collect());
        snapshot.series.iter().map(column).collect()
    }

    proptest! {
        #[test]
        fn deltas_lead_to_the_snapshot(ticks in prop::collection::vec(prop::collection::btree_map(0u8..6, -9i32..9, 0..5), 1..40)) {
            const TICKS: usize = 5;
            let mut ring = Ring::new(TICKS);
            let mut reader = ring.snapshot();
            for (at, tick) in ticks.iter().enumerate() {
                let observations: Vec<Observation> = tick.iter().map(|(n, v)| seen(*n, f64::from(*v))).collect();
                let delta = ring.push(at as i64, &observations);
                apply(&mut reader, &delta, TICKS);
                let snapshot = ring.snapshot();
                prop_assert_eq!(bits(&reader), bits(&snapshot));
                prop_assert_eq!(&reader.at_ms, &snapshot.at_ms);
                prop_assert!(snapshot.at_ms.len() <= TICKS);
            }
            // and the snapshot is what was put in, no more and no less
            let window = &ticks[ticks.len().saturating_sub(TICKS)..];
            let mut want: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
            for (at, tick) in window.iter().enumerate() {
                for (n, v) in tick {
                    want.entry(format!("s{n}")).or_insert_with(|| vec![None; window.len()])[at] = Some(f64::from(*v));
                }
            }
            let mut got: BTreeMap<String, Vec<Option<f64>>> = BTreeMap::new();
            for column in ring.snapshot().series {
                let values = column.values.iter().map(|v| (!v.is_nan()).then_some(*v)).collect();
                got.insert(column.labels.to_string(), values);
            }
            prop_assert_eq!(got, want);
        }
    }
}
