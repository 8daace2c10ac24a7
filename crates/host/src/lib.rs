//! The machine: clock, files and randomness, as three traits that every other crate is handed. [`Host::real`] is this
//! computer; [`sim`] is one made of memory, whose clock stands still until told, whose disk loses what was not synced and
//! fails where planned, all from one seed. [`Sparing`] keeps only so many files of either open. With them go the two things that the process has once: its [`Workers`], and the
//! [`LogOutput`] that no log line can fail on.

mod clock;
mod files;
mod log_output;
mod memory;
mod random;
mod reading;
mod real;
mod seldom;
pub mod sim;
mod sparing;
mod workers;

use std::sync::Arc;

pub use memory::give_back_memory;
pub use real::{CPU_TIME_SIGNAL, file_limit, raise_file_limit, signals_without_meaning};

pub use clock::Clock;
pub use files::{Entry, File, Files, Lock, OpenMode};
pub use log_output::{LogCounts, LogOutput};
pub use random::Random;
pub use reading::{PATIENCE, Refusal, patiently, read_around, read_around_again, read_file_around};
pub use seldom::Seldom;
pub use sparing::{Sparing, is_out_of_descriptors};
pub use workers::{Death, Panic, Worker, WorkerStats, Workers, report_panics};

/// What a part of Overseer may know of the machine.
#[derive(Clone)]
pub struct Host {
    pub clock: Arc<dyn Clock>,
    pub files: Arc<dyn Files>,
    pub random: Arc<dyn Random>,
    /// Starts threads and long tasks, and notices when one dies.
    pub workers: Workers,
}

impl Host {
    /// This computer.
    pub fn real() -> Host {
        Host {
            clock: Arc::new(real::RealClock::new()),
            files: Arc::new(real::RealFiles),
            random: Arc::new(real::RealRandom),
            workers: Workers::default(),
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}
