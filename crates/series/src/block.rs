//! Immutable files of chunks. Level 0 is what one seal wrote: chunks by the window's series numbers, labels in the window's
//! series file. Higher levels hold one day each and carry their own index. See `docs/format/block.md`.

mod footer;
mod reader;
mod writer;

pub(crate) use footer::{Covers, Footer, RolledFrom, Section};
pub(crate) use reader::{Block, Chunk, Directory, ReadError, Seen};
pub(crate) use writer::{BlockWriter, Extras};

use model::{MetricKind, SeriesId, TenantId};

/// Marks both ends of a block file.
pub(crate) const MAGIC: [u8; 8] = *b"OVBLOCK1";
/// Bytes before the first group: magic, realm, file id, checksum of these.
pub(crate) const HEADER_BYTES: u64 = 28;
/// Bytes after the footer: its length, its checksum, magic.
pub(crate) const TRAILER_BYTES: u64 = 16;
/// Series of a group at most.
pub(crate) const GROUP_SERIES: u32 = 64;
/// A group is closed when it has reached this many bytes.
pub(crate) const GROUP_BYTES: usize = 32 << 10;
/// Samples of a chunk that is written anew.
pub(crate) const CHUNK_SAMPLES: usize = 2048;
/// Chunks with as many samples are copied as they are.
pub(crate) const CHUNK_FULL: u32 = 1024;
/// Files above level 0 hold one UTC day each, and no chunk crosses a day's end.
pub(crate) const DAY_MS: i64 = 86_400_000;

pub(crate) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// The name of block `id`.
pub(crate) fn block_name(id: u64) -> String {
    format!("block-{id:010}")
}

/// The id in a block's name.
pub(crate) fn block_id(name: &str) -> Option<u64> {
    name.strip_prefix("block-").filter(|n| n.len() >= 10)?.parse().ok()
}

/// What a metric is, as a file keeps it; of two the later position stands.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct MetadataEntry {
    pub(crate) tenant: TenantId,
    pub(crate) metric: String,
    pub(crate) kind: MetricKind,
    pub(crate) help: String,
    pub(crate) unit: String,
    pub(crate) position: u64,
}

/// A sample's series in a block: a number of its window (level 0) or of its own index.
pub(crate) type Number = u32;

/// No series.
pub(crate) const NO_SERIES: SeriesId = SeriesId(u32::MAX);
