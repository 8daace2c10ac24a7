//! PromQL as the newest Prometheus 3.x understands it, all experimental features on: text to tree and back, the types,
//! and the arithmetic of native histograms.

pub mod ast;
mod check;
mod duration;
pub mod eval;
pub mod functions;
pub mod histogram;
pub mod json;
mod lexer;
mod literal;
pub mod memory;
mod parser;
mod pretty;
mod print;
mod quote;
pub mod script;
mod tree_json;
pub mod value;
mod walk;

pub use duration::{format_duration, max_of, min_of, parse_duration};
pub use literal::{decimal, general};
pub use parser::{CHAIN_MAX, DEPTH_MAX, ParseError, TEXT_BYTES_MAX, parse, parse_matchers, place};
pub use pretty::pretty;
pub use print::selector_text;
pub use quote::{is_utf8, quote};
pub use tree_json::tree_json;
pub use walk::{has_subquery, selectors};
