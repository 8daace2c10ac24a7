use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};

use model::ByReason;

use crate::Outcome;

/// Counts by way in, for the first-run cards and `/metrics`.
pub struct Ways {
    ways: Vec<Way>,
}

/// One way in and what came by it.
pub struct Way {
    /// Id of the row in `wire::PROTOCOLS`, or "scrape", "agent".
    pub id: &'static str,
    first_ms: AtomicI64,
    last_ms: AtomicI64,
    samples: AtomicU64,
    rejected: AtomicU64,
    requests: AtomicU64,
    bytes: AtomicU64,
    by_reason: ByReason<AtomicU64>,
}

/// A way's counts at one moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct WayCounts {
    /// Unix ms of the first and the last accepted sample; `None` before the first.
    pub first_ms: Option<i64>,
    pub last_ms: Option<i64>,
    pub samples: u64,
    pub rejected: u64,
    pub requests: u64,
    /// Body bytes as they arrived.
    pub bytes: u64,
    /// Things refused, by reason.
    pub by_reason: ByReason,
}

impl Ways {
    pub fn new(ids: impl IntoIterator<Item = &'static str>) -> Self {
        let ways = ids
            .into_iter()
            .map(|id| Way {
                id,
                first_ms: AtomicI64::new(0),
                last_ms: AtomicI64::new(0),
                samples: AtomicU64::new(0),
                rejected: AtomicU64::new(0),
                requests: AtomicU64::new(0),
                bytes: AtomicU64::new(0),
                by_reason: Default::default(),
            })
            .collect();
        Ways { ways }
    }

    /// Counts one request (or scrape) of a way. Unknown ids are not counted.
    pub fn note(&self, id: &str, now_ms: i64, bytes: usize, outcome: &Outcome) {
        let Some(way) = self.ways.iter().find(|w| w.id == id) else {
            return;
        };
        way.requests.fetch_add(1, Relaxed);
        way.bytes.fetch_add(bytes as u64, Relaxed);
        way.rejected.fetch_add(outcome.rejected_samples, Relaxed);
        for (reason, &n) in outcome.rejected.iter() {
            way.by_reason[reason].fetch_add(n, Relaxed);
        }
        let samples = outcome.samples();
        if samples > 0 {
            way.samples.fetch_add(samples, Relaxed);
            let _ = way.first_ms.compare_exchange(0, now_ms, Relaxed, Relaxed);
            way.last_ms.store(now_ms, Relaxed);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Way> {
        self.ways.iter()
    }
}

impl Way {
    pub fn counts(&self) -> WayCounts {
        let at = |a: &AtomicI64| Some(a.load(Relaxed)).filter(|&ms| ms != 0);
        WayCounts {
            first_ms: at(&self.first_ms),
            last_ms: at(&self.last_ms),
            samples: self.samples.load(Relaxed),
            rejected: self.rejected.load(Relaxed),
            requests: self.requests.load(Relaxed),
            bytes: self.bytes.load(Relaxed),
            by_reason: ByReason::from_fn(|reason| self.by_reason[reason].load(Relaxed)),
        }
    }
}
