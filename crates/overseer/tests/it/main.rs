//! Black-box tests: the real binary on a free port with data of its own, spoken to over its protocols.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stderr,
    clippy::disallowed_methods
)]

mod backup;
mod bad_input;
mod client;
mod clients;
mod corruption;
mod crash;
mod crashtest;
mod delete;
mod full_disk;
mod http;
mod ingest;
mod inspect;
mod read_api;
mod readers;
mod remote_write;
mod restart;
mod retention;
mod rollups;
mod server;
mod start;
mod verify;
