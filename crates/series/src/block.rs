//! Immutable files of chunks. Level 0 is what one seal wrote: chunks by the window's series numbers, labels in the window's
//! series file. Higher levels hold one day each and carry their own index. See `docs/format/block.md`.

mod footer;
mod frame;
mod group;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub(crate) use footer::{Covers, Footer, RolledFrom, Section};
pub(crate) use frame::{pack, unpack};
pub(crate) use reader::{Block, Chunk, Directory, ReadError, Seen, header_realm};
pub(crate) use writer::{BlockWriter, Extras, Names};

use model::{MetricKind, SeriesId, TenantId};

/// Marks both ends of a block file.
pub(crate) const MAGIC: [u8; 8] = *b"OVBLOCK1";
/// Bytes at the beginning: magic, realm, file id, bytes before the first group, checksum of these.
pub(crate) const HEADER_BYTES: u64 = 32;
/// Bytes before the first group: the header, and room for a copy of the footer; without the ids of other files in it.
pub(crate) const HEAD_BYTES: u64 = 200;
/// Bytes that such an id takes at most.
pub(crate) const ID_BYTES: u64 = 10;
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

/// Bounds of the parts that files are made of, so that each can be read back and damage costs little. A part has one thing
/// at least, however large. The defaults are the product's; they only say what is written, and are not needed to read it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FileBounds {
    /// Bytes of a page of labels, and of a part of a directory, before they are packed.
    pub frame_bytes: usize,
    /// Series of a page of labels.
    pub frame_series: usize,
    /// Bytes of a part of the exemplars or of the metadata, before they are packed.
    pub extras_bytes: usize,
    /// Bytes of chunks before which the labels of their series are repeated.
    pub page_bytes: usize,
}

impl Default for FileBounds {
    fn default() -> Self {
        FileBounds {
            frame_bytes: 512 << 10,
            frame_series: 32 << 10,
            extras_bytes: 64 << 10,
            page_bytes: 1 << 20,
        }
    }
}

pub(crate) fn day_of(at_ms: i64) -> i64 {
    at_ms.div_euclid(DAY_MS)
}

/// Reads bytes as a frame, a group, a directory and a footer. The checksums are made right first, or nothing would pass.
pub(crate) fn try_bytes(bytes: &[u8]) {
    let place = frame::Place {
        realm: 0,
        file: 0,
        offset: 0,
    };
    let _ = frame::FrameHead::read(bytes, place).map(|head| head.contents(bytes, place));
    let _ = unpack(bytes);
    let mut group = bytes.to_vec();
    if let Some(rest) = group.get(8..group::head_len(bytes).unwrap_or(0)) {
        let sum = place.after(8).checksum(rest);
        group[4..8].copy_from_slice(&sum.to_le_bytes());
    }
    if let Ok((head, group)) = group::Group::read(group, place) {
        group.rows(&head, 0, model::TimeRange::ALL, |_, _| {});
    }
    let mut directory = Directory::default();
    if directory.add(0, bytes).is_ok() {
        let _ = directory.each(|_, _| {});
    }
    let _ = Footer::decode(bytes);
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
