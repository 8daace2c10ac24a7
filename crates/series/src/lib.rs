//! The samples engine: the series table that gives label sets dense numbers, the column codecs of chunks, and the byte
//! form of a record in the log. Synchronous, starts no thread, knows no protocol, query language or bus; clock, files
//! and randomness come in through `host`.

pub mod chunk;
pub mod record;
pub mod table;
