//! The store role: the one owner of the data set. In: the samples topic, in order, exactly once by position. Out: the
//! engine's answers behind a read barrier. It drives the synchronous engine from threads of its own (apply; seal,
//! expire and make snapshots; merge and scrub; a replay decodes on one more), and tells the bus what is sealed so that the log can drop it. No protocol,
//! no query language.
#![forbid(unsafe_code)]

mod codec;
mod config;
mod maintenance;
mod merges;
mod replay;
mod retention;
mod role;
mod snapshot;

pub use codec::{RecordCodec, RecordDecode};
pub use config::StoreConfig;
pub use replay::Replay;
pub use retention::{RetentionRule, keep_of_days, retention_classes, rollup_keep, shown_keep, shown_rollup_keep};
pub use role::{NotReady, Readiness, Store, StoreError, StoreParts, StoreStats};
pub use snapshot::{Keep, Snapshot, is_snapshot_name, remove_tree, snapshot_name};

/// The store's name as a consumer of the samples topic; its log keeps what it has not sealed.
pub const CONSUMER: &str = "store";
