//! Watches the host it runs on. In come the kernel's text files under a [`ProcRoot`]; out go [`Observation`]s: every
//! second into a bounded ring that live views follow, every ten seconds to a publisher that is passed in. It keeps
//! nothing on disk, opens no socket and knows neither bus nor store.
//!
//! A new collector is one file in `collectors/` (a pure parser, a `collect` and a `COLLECTOR` row) and its two lines in
//! `collectors.rs`. Names, labels and units are node_exporter's wherever node_exporter has the metric.
#![forbid(unsafe_code)]

mod agent;
mod collector;
mod collectors;
mod config;
mod observation;
mod proc_root;
mod ring;

pub use agent::{Agent, Publish, PublishFuture, Stored};
pub use collector::{CollectError, Collector, Context, Metric};
pub use collectors::COLLECTORS;
pub use config::{Config, ConfigError};
pub use observation::Observation;
pub use proc_root::{Machine, ProcRoot};
pub use ring::{Column, Delta, RING_SERIES_MAX, Snapshot};
