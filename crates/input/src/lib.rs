//! Everything that comes in besides HTTP routes, and what all ways in share: admission (labels, limits, timestamps),
//! the counts a sender is told, publishing to the bus, and the scraper. In: decoded samples (through
//! [`model::SampleSink`]) and scrape targets. Out: batches on the bus. It answers nobody: the gateway turns an
//! [`Outcome`] into a protocol's own words. A new way in is a row in `wire::PROTOCOLS`, not code here.
#![forbid(unsafe_code)]

mod admission;
mod config;
mod guard;
mod publisher;
mod scrape;
mod ways;

pub use admission::{Admission, Intake, Outcome};
pub use config::{LimitsConfig, ScrapeConfig, ScrapeJob, ScrapeProtocol, is_host_and_port};
pub use guard::{Breach, CardinalityGuard};
pub use publisher::{PublishError, Publisher};
pub use scrape::{Scraper, TargetHealth};
pub use ways::{Way, WayCounts, Ways};
