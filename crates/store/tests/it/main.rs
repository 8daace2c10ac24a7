//! Log, engine and query language together, in process, on a simulated machine.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::print_stdout,
    clippy::disallowed_methods
)]

mod differential;
mod rollups;
mod scripts;
mod simulation;
mod target;
