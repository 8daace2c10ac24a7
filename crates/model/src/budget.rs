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
    series: AtomicU64,
    stop: AtomicU8,
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
            series: AtomicU64::new(0),
            stop: AtomicU8::new(0),
        }
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
        if self.bytes.fetch_add(n, Relaxed).saturating_add(n) > self.bytes_max {
            return Err(BudgetError::Bytes { max: self.bytes_max });
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

    /// The bounds: (samples, bytes, series).
    pub fn limits(&self) -> (u64, u64, u64) {
        (self.samples_max, self.bytes_max, self.series_max)
    }

    /// (samples, bytes now held, series) used so far.
    pub fn used(&self) -> (u64, u64, u64) {
        (
            self.samples.load(Relaxed),
            self.bytes.load(Relaxed),
            self.series.load(Relaxed),
        )
    }
}
