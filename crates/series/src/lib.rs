//! The samples engine: the series table that gives label sets dense numbers, the column codecs of chunks, heads, files and the
//! manifest that lists them, merging, rollups, retention and tombstones, and the byte form of a record in the log. In: records
//! in order, each with its position. Out: [`engine::Engine`], which answers through [`model::SampleSource`]. Synchronous, starts no thread, knows no protocol, query language or bus; clock, files
//! and randomness come in through `host`.

mod block;
mod bytes;
mod cache;
pub mod chunk;
mod compaction;
pub mod engine;
mod head;
mod index;
mod manifest;
mod merge;
mod question;
pub mod record;
pub mod retention;
mod rollup;
pub mod table;
mod tombstone;
pub mod verify;
mod window;

#[cfg(test)]
mod golden;
