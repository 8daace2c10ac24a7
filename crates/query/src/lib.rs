//! Query text in, value out: the languages of the read APIs over the read traits of `model`. Knows no storage, no
//! HTTP and no clock; every evaluation has a budget, and no text panics or overflows the stack.
#![forbid(unsafe_code)]

pub mod promql;
