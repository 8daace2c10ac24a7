//! The durable log of opaque records: publish, consume from a position, commit. [`local::LocalLog`] keeps it in segment
//! files on this machine; every implementation answers to one suite, [`contract`]. The bus never looks inside a record.
#![forbid(unsafe_code)]

mod error;
mod log;
mod publish;
mod status;

pub mod contract;
pub mod local;

pub use error::BusError;
pub use log::{Cause, Codec, Consumer, Decode, Delivery, Log};
pub use publish::{Promise, Publish};
pub use status::{ConsumerStatus, LogStatus, Quarantined};

/// A record's number in its topic and shard: from 1, without gaps, ascending. 0 is before the first.
pub type Position = u64;
