use std::collections::HashMap;

use model::{Labels, MetadataRow, MetricKind};

use crate::Collector;

/// One value of one series, seen at the tick's time.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Name, the metric's own labels, `job` and `instance`.
    pub labels: Labels,
    pub kind: MetricKind,
    pub value: f64,
    /// Whether it is stored, or only shown live.
    pub stored: bool,
}

/// Takes values from collectors. Labels are built once per series and remembered.
pub(crate) struct Recorder {
    identity: [(&'static str, String); 2],
    known: HashMap<Vec<u8>, Known>,
    key: Vec<u8>,
    tick: u64,
    row: Option<&'static Collector>,
    observations: Vec<Observation>,
    described: HashMap<String, MetadataRow>,
}

struct Known {
    labels: Labels,
    kind: MetricKind,
    stored: bool,
    tick: u64,
}

/// Series remembered beyond those of the last tick before the others are forgotten.
const KNOWN_SPARE: usize = 256;

impl Recorder {
    pub(crate) fn new(job: &str, instance: &str) -> Self {
        Recorder {
            identity: [("job", job.to_owned()), ("instance", instance.to_owned())],
            known: HashMap::new(),
            key: Vec::new(),
            tick: 0,
            row: None,
            observations: Vec::new(),
            described: HashMap::new(),
        }
    }

    /// Values that follow belong to this collector.
    pub(crate) fn enter(&mut self, row: &'static Collector) {
        self.row = Some(row);
    }

    /// A value. Not a number is not taken: the stale marker and gaps have their own ways.
    pub(crate) fn put(&mut self, metric: &str, labels: &[(&str, &str)], value: f64) {
        if value.is_nan() {
            return;
        }
        self.key.clear();
        self.key.extend_from_slice(metric.as_bytes());
        for (name, value) in labels {
            // neither byte occurs in UTF-8
            self.key.push(0xfe);
            self.key.extend_from_slice(name.as_bytes());
            self.key.push(0xff);
            self.key.extend_from_slice(value.as_bytes());
        }
        if let Some(known) = self.known.get_mut(&self.key) {
            if known.tick == self.tick {
                return; // the kernel named it twice; the first counts
            }
            known.tick = self.tick;
            let (labels, kind, stored) = (known.labels.clone(), known.kind, known.stored);
            self.observations.push(Observation {
                labels,
                kind,
                value,
                stored,
            });
            return;
        }
        let row = self
            .row
            .and_then(|row| row.metrics.iter().find(|m| m.star(metric).is_some()));
        let Some(row) = row else {
            debug_assert!(false, "{metric} is declared by no collector");
            return;
        };
        let (kind, stored) = (row.kind, row.stored);
        let all = labels.iter().copied().chain([(model::METRIC_NAME, metric)]);
        let all = all.chain(self.identity.iter().map(|(n, v)| (*n, v.as_str())));
        let labels = Labels::from_pairs(all);
        if stored && !self.described.contains_key(metric) {
            let help = row.help_for(metric);
            let described = MetadataRow {
                metric: metric.to_owned(),
                kind,
                help,
                unit: String::new(),
            };
            self.described.insert(metric.to_owned(), described);
        }
        let known = Known {
            labels: labels.clone(),
            kind,
            stored,
            tick: self.tick,
        };
        self.known.insert(self.key.clone(), known);
        self.observations.push(Observation {
            labels,
            kind,
            value,
            stored,
        });
    }

    /// Ends the tick: what it brought.
    pub(crate) fn take(&mut self) -> Vec<Observation> {
        let capacity = self.observations.len();
        let taken = std::mem::replace(&mut self.observations, Vec::with_capacity(capacity + 16));
        if self.known.len() > taken.len() + KNOWN_SPARE {
            self.known.retain(|_, known| known.tick == self.tick);
        }
        self.tick += 1;
        self.row = None;
        taken
    }

    /// Metadata of every metric seen so far that is stored.
    pub(crate) fn described(&self) -> impl Iterator<Item = &MetadataRow> {
        self.described.values()
    }

    pub(crate) fn described_len(&self) -> usize {
        self.described.len()
    }
}
