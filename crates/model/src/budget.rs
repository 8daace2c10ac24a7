use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering::Relaxed};

/// What one query may use. Shared by all threads that work for it; checked at each block, so that a stop takes effect
/// within milliseconds. Time is the caller's: a timer or a closed connection calls [`stop`](Self::stop).
#[derive(Debug)]
pub struct Budget {
    samples_max: u64,
    bytes_max: u64,
    series_max: u64,
    samples: AtomicU64,
    bytes: AtomicU64,
    bytes_peak: AtomicU64,
    series: AtomicU64,
    stop: AtomicU8,
    shared: Option<Arc<SharedBytes>>,
    /// Taken from `shared`; given back when the budget goes.
    taken: AtomicU64,
}

/// Bytes that queries hold together, for example all of one tenant. A query takes from it in steps of 1 MiB as its
/// own peak rises, so most charges do not touch it, and gives all back when it ends.
#[derive(Debug)]
pub struct SharedBytes {
    max: u64,
    taken: AtomicU64,
}

impl SharedBytes {
    /// What a query takes at once.
    const STEP: u64 = 1 << 20;

    /// Room for so many bytes; 0 for no bound.
    pub fn new(max: u64) -> Self {
        SharedBytes {
            max: if max == 0 { u64::MAX } else { max },
            taken: AtomicU64::new(0),
        }
    }

    /// Bytes taken now.
    pub fn taken(&self) -> u64 {
        self.taken.load(Relaxed)
    }
}

/// Why a query was stopped from outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum StopReason {
    Timeout = 1,
    Cancelled = 2,
}

/// A query that wanted more than it may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BudgetError {
    #[error("the query would read more than {max} samples (limit query.samples_max)")]
    Samples { max: u64 },
    #[error("the query would hold more than {max} bytes (limit query.bytes_max)")]
    Bytes { max: u64 },
    #[error("the query would touch more than {max} series (limit query.series_max)")]
    Series { max: u64 },
    #[error(
        "the query would hold {wanted} bytes, and all running queries of its tenant together more than {max} bytes \
         (limit query.tenant_bytes_max)"
    )]
    TenantBytes { wanted: u64, max: u64 },
    #[error("the query took longer than its time (limit query.timeout)")]
    Timeout,
    #[error("the query was cancelled")]
    Cancelled,
}

impl Budget {
    pub fn new(samples_max: u64, bytes_max: u64, series_max: u64) -> Self {
        Budget {
            samples_max,
            bytes_max,
            series_max,
            samples: AtomicU64::new(0),
            bytes: AtomicU64::new(0),
            bytes_peak: AtomicU64::new(0),
            series: AtomicU64::new(0),
            stop: AtomicU8::new(0),
            shared: None,
            taken: AtomicU64::new(0),
        }
    }

    /// The same, with bytes that are taken from what several queries share too.
    pub fn within(mut self, shared: Arc<SharedBytes>) -> Self {
        self.shared = Some(shared);
        self
    }

    /// No bound but `stop`; for tests and internal reads.
    pub fn unlimited() -> Self {
        Budget::new(u64::MAX, u64::MAX, u64::MAX)
    }

    /// Ends the query at its next check. The first reason stands.
    pub fn stop(&self, reason: StopReason) {
        let _ = self.stop.compare_exchange(0, reason as u8, Relaxed, Relaxed);
    }

    /// Whether the query may go on.
    pub fn check(&self) -> Result<(), BudgetError> {
        match self.stop.load(Relaxed) {
            0 => Ok(()),
            n if n == StopReason::Timeout as u8 => Err(BudgetError::Timeout),
            _ => Err(BudgetError::Cancelled),
        }
    }

    /// Counts samples read; a stop is noticed here too.
    pub fn samples(&self, n: u64) -> Result<(), BudgetError> {
        self.check()?;
        if self.samples.fetch_add(n, Relaxed).saturating_add(n) > self.samples_max {
            return Err(BudgetError::Samples { max: self.samples_max });
        }
        Ok(())
    }

    /// Counts bytes of memory taken for intermediate results; give them back with [`release`](Self::release).
    pub fn bytes(&self, n: u64) -> Result<(), BudgetError> {
        self.check()?;
        let held = self.bytes.fetch_add(n, Relaxed).saturating_add(n);
        if held > self.bytes_max {
            return Err(BudgetError::Bytes { max: self.bytes_max });
        }
        if held > self.bytes_peak.load(Relaxed) {
            // before the peak: below it, nothing more is taken
            if let Some(shared) = &self.shared {
                self.take(shared, held)?;
            }
            self.bytes_peak.fetch_max(held, Relaxed);
        }
        Ok(())
    }

    /// Sees to it that at least `held` bytes are taken from what is shared.
    fn take(&self, shared: &SharedBytes, held: u64) -> Result<(), BudgetError> {
        let mut taken = self.taken.load(Relaxed);
        while taken < held {
            let want = held.next_multiple_of(SharedBytes::STEP);
            let more = want - taken;
            if shared.taken.fetch_add(more, Relaxed).saturating_add(more) > shared.max {
                shared.taken.fetch_sub(more, Relaxed);
                return Err(BudgetError::TenantBytes {
                    wanted: held,
                    max: shared.max,
                });
            }
            match self.taken.compare_exchange(taken, want, Relaxed, Relaxed) {
                Ok(_) => return Ok(()),
                Err(now) => {
                    // another thread took meanwhile
                    shared.taken.fetch_sub(more, Relaxed);
                    taken = now;
                }
            }
        }
        Ok(())
    }

    pub fn release(&self, bytes: u64) {
        self.bytes.fetch_sub(bytes, Relaxed);
    }

    pub fn series(&self, n: u64) -> Result<(), BudgetError> {
        self.check()?;
        if self.series.fetch_add(n, Relaxed).saturating_add(n) > self.series_max {
            return Err(BudgetError::Series { max: self.series_max });
        }
        Ok(())
    }

    /// Forgets samples and series that were counted, for what is thrown away and read anew.
    pub fn uncount(&self, samples: u64, series: u64) {
        self.samples.fetch_sub(samples, Relaxed);
        self.series.fetch_sub(series, Relaxed);
    }

    /// The bounds: (samples, bytes, series).
    pub fn limits(&self) -> (u64, u64, u64) {
        (self.samples_max, self.bytes_max, self.series_max)
    }

    /// Samples that may still be read.
    pub fn samples_left(&self) -> u64 {
        self.samples_max.saturating_sub(self.samples.load(Relaxed))
    }

    /// (samples, bytes now held, series) used so far.
    pub fn used(&self) -> (u64, u64, u64) {
        (
            self.samples.load(Relaxed),
            self.bytes.load(Relaxed),
            self.series.load(Relaxed),
        )
    }

    /// Most bytes held at one moment.
    pub fn bytes_peak(&self) -> u64 {
        self.bytes_peak.load(Relaxed)
    }
}

impl Drop for Budget {
    fn drop(&mut self) {
        if let Some(shared) = &self.shared {
            shared.taken.fetch_sub(*self.taken.get_mut(), Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_peak_stays_when_bytes_go() {
        let budget = Budget::new(10, 100, 10);
        budget.bytes(60).unwrap();
        budget.release(60);
        budget.bytes(20).unwrap();
        assert_eq!(budget.used().1, 20);
        assert_eq!(budget.bytes_peak(), 60);
    }

    #[test]
    fn queries_of_a_tenant_share_their_bytes() {
        let shared = Arc::new(SharedBytes::new(4 << 20));
        let one = Budget::unlimited().within(Arc::clone(&shared));
        let two = Budget::unlimited().within(Arc::clone(&shared));
        one.bytes(1).unwrap();
        assert_eq!(shared.taken(), 1 << 20);
        one.bytes(2 << 20).unwrap();
        assert_eq!(shared.taken(), 3 << 20);
        two.bytes(5).unwrap();
        let refused = two.bytes(3 << 20).unwrap_err();
        assert_eq!(
            refused,
            BudgetError::TenantBytes {
                wanted: (3 << 20) + 5,
                max: 4 << 20
            }
        );
        assert!(refused.to_string().contains("query.tenant_bytes_max"));
        drop(one);
        assert_eq!(shared.taken(), 1 << 20);
        // what was refused is charged until it is released, as everywhere
        two.release(3 << 20);
        two.bytes(2 << 20).unwrap();
        assert_eq!(shared.taken(), 3 << 20, "what was refused is no peak");
        drop(two);
        assert_eq!(shared.taken(), 0);
    }

    #[test]
    fn threads_of_one_query_take_no_more_than_it_holds() {
        let shared = Arc::new(SharedBytes::new(0));
        let budget = Budget::unlimited().within(Arc::clone(&shared));
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..1000).for_each(|_| budget.bytes(10_000).unwrap()));
            }
        });
        assert_eq!(shared.taken(), 40_000_000u64.next_multiple_of(1 << 20));
        drop(budget);
        assert_eq!(shared.taken(), 0);
    }
}
