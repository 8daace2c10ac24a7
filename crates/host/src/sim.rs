//! A machine made of memory. The same seed and the same calls give the same outcome, faults included.

mod disk;
mod files;
#[cfg(test)]
mod tests;

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

pub use files::SimFiles;

use crate::{Clock, Host, Random, Workers};

/// Clock, disk and randomness of one simulated computer.
#[derive(Clone)]
pub struct Machine {
    pub clock: Arc<SimClock>,
    pub files: SimFiles,
    pub random: Arc<SimRandom>,
    pub workers: Workers,
}

impl Machine {
    pub fn new(seed: u64) -> Machine {
        Machine {
            clock: Arc::new(SimClock::new(1_700_000_000_000)),
            files: SimFiles::new(seed),
            random: Arc::new(SimRandom::new(seed ^ 0x5eed)),
            workers: Workers::default(),
        }
    }

    pub fn host(&self) -> Host {
        Host {
            clock: Arc::<SimClock>::clone(&self.clock),
            files: Arc::new(self.files.clone()),
            random: Arc::<SimRandom>::clone(&self.random),
            workers: self.workers.clone(),
        }
    }
}

/// Stands still until advanced.
pub struct SimClock {
    now_ms: AtomicI64,
    monotonic_ns: AtomicU64,
}

impl SimClock {
    /// Starts at this Unix time in ms.
    pub fn new(now_ms: i64) -> SimClock {
        SimClock {
            now_ms: AtomicI64::new(now_ms),
            monotonic_ns: AtomicU64::new(0),
        }
    }

    /// Time passes, on both clocks; parts of a millisecond reach the monotonic one only.
    pub fn advance(&self, by: Duration) {
        self.now_ms.fetch_add(by.as_millis() as i64, Ordering::SeqCst);
        self.monotonic_ns.fetch_add(by.as_nanos() as u64, Ordering::SeqCst);
    }

    /// Somebody sets the wall clock; the monotonic one goes on.
    pub fn jump_to_ms(&self, now_ms: i64) {
        self.now_ms.store(now_ms, Ordering::SeqCst);
    }
}

impl Clock for SimClock {
    fn now_ms(&self) -> i64 {
        self.now_ms.load(Ordering::SeqCst)
    }

    fn monotonic(&self) -> Duration {
        Duration::from_nanos(self.monotonic_ns.load(Ordering::SeqCst))
    }

    /// Nobody waits: the clock is advanced.
    fn sleep(&self, time: Duration) {
        self.advance(time);
    }
}

pub struct SimRandom(Mutex<Dice>);

impl SimRandom {
    pub fn new(seed: u64) -> SimRandom {
        SimRandom(Mutex::new(Dice(seed)))
    }
}

impl Random for SimRandom {
    fn fill(&self, buf: &mut [u8]) {
        let mut dice = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for chunk in buf.chunks_mut(8) {
            chunk.copy_from_slice(&dice.next().to_le_bytes()[..chunk.len()]);
        }
    }
}

/// The seeded source of every choice the simulation makes (splitmix64); open to tests that plan by the same seed.
#[derive(Clone, Debug)]
pub struct Dice(pub u64);

impl Dice {
    #[allow(clippy::should_implement_trait, reason = "an endless one")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Below `bound`; 0 when that is 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// True once in `n` times.
    pub fn one_in(&mut self, n: u64) -> bool {
        self.below(n) == 0
    }
}

/// What is to go wrong, and when; see [`SimFiles::plan`].
#[derive(Clone, Debug, Default)]
pub struct Faults {
    pub planned: Vec<Fault>,
}

/// The `nth` call (from 1, counted from the plan on) of this kind fails so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fault {
    pub on: Operation,
    pub nth: u64,
    pub failure: Failure,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    /// Every call below but `Read` and `Open`.
    Change,
    Write,
    /// Of a file.
    Sync,
    SyncDir,
    /// Creating, renaming, linking, removing.
    Entry,
    /// `set_len` and `allocate`.
    Resize,
    Read,
    /// Opening a file that exists.
    Open,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// EIO and no effect; of a sync: EIO, and what was not durable may be gone, now or after a crash, while a later sync
    /// says yes.
    Io,
    /// ENOSPC and no effect.
    NoSpace,
    /// EMFILE and no effect.
    TooManyOpen,
    /// A write that stops halfway with EIO.
    Short,
    /// The process is stopped within this call: it and all later ones fail until `kill` or `crash`.
    Stop,
}

impl Faults {
    pub fn none() -> Faults {
        Faults::default()
    }

    #[must_use]
    pub fn and(mut self, on: Operation, nth: u64, failure: Failure) -> Faults {
        self.planned.push(Fault { on, nth, failure });
        self
    }
}
