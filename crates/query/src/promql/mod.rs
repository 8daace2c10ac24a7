//! PromQL as the newest Prometheus 3.x understands it, all experimental features on: text to tree and back, the types,
//! and the arithmetic of native histograms.

pub mod ast;
mod duration;
pub mod functions;
mod quote;

pub use duration::{format_duration, max_of, min_of, parse_duration};
pub use quote::quote;
