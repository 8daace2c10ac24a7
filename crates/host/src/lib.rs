//! The machine: clock, files and randomness, as three traits that every other crate is handed. [`Host::real`] is this
//! computer; [`sim`] is one made of memory, whose clock stands still until told, whose disk loses what was not synced and
//! fails where planned, all from one seed.

mod clock;
mod files;
mod memory;
mod random;
mod reading;
mod real;
pub mod sim;

use std::sync::Arc;

pub use memory::give_back_memory;
pub use real::raise_file_limit;

pub use clock::Clock;
pub use files::{Entry, File, Files, Lock, OpenMode};
pub use random::Random;
pub use reading::{PATIENCE, Refusal, patiently, read_around, read_around_again, read_file_around};

/// What a part of Overseer may know of the machine.
#[derive(Clone)]
pub struct Host {
    pub clock: Arc<dyn Clock>,
    pub files: Arc<dyn Files>,
    pub random: Arc<dyn Random>,
}

impl Host {
    /// This computer.
    pub fn real() -> Host {
        Host {
            clock: Arc::new(real::RealClock::new()),
            files: Arc::new(real::RealFiles),
            random: Arc::new(real::RealRandom),
        }
    }
}

impl std::fmt::Debug for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Host")
    }
}
