//! The bytes of a segment: header, close statement, records. `docs/format/log.md` has them as tables.

use crc32c::{crc32c, crc32c_append};

use crate::Position;

pub(crate) const VERSION: u16 = 1;
/// Header and close statement, twice; records start here.
pub(crate) const RECORDS_AT: u64 = 2 * BLOCK as u64;
/// Distance of the two copies: damage to one page leaves the other.
pub(crate) const BLOCK: usize = 4096;
/// Within a copy, in a sector of its own, so that closing cannot tear the header.
pub(crate) const CLOSE_AT: usize = 512;
pub(crate) const CLOSE_LEN: usize = 60;
pub(crate) const RECORD_HEADER: usize = 36;

const HEADER_LEN: usize = 68;
const SEGMENT_MAGIC: [u8; 8] = *b"OVSRSEG\n";
const CLOSE_MAGIC: [u8; 8] = *b"OVSRCLS\n";
pub(crate) const MARKER: [u8; 4] = [0xb5, b'O', b'V', 0xa7];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LogId(pub(crate) [u8; 16]);

/// What the first bytes of a segment say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) log: LogId,
    pub(crate) first: Position,
    /// Random; makes bytes of the file's earlier life invalid.
    pub(crate) generation: u64,
    /// Last durable position of the segments before; records of theirs behind it do not count.
    pub(crate) durable_before: Position,
    pub(crate) created_ms: i64,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum HeaderError {
    Damaged,
    Newer(u16),
}

/// How a segment ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Close {
    /// Of the last record; the segment's first minus one when it has none.
    pub(crate) last: Position,
    /// Offset behind the last byte in use.
    pub(crate) end: u64,
    /// Offset of the trailer record, 0 without one.
    pub(crate) trailer_at: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Record,
    Trailer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) kind: Kind,
    pub(crate) length: u32,
    pub(crate) position: Position,
    /// What was durable in this segment and those before when this was written.
    pub(crate) durable_before: Position,
    payload_crc: u32,
}

/// Goes into every record's checksum: log, segment and generation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity(u32);

fn u16_at(bytes: &[u8], at: usize) -> u16 {
    let mut b = [0; 2];
    b.copy_from_slice(&bytes[at..at + 2]);
    u16::from_le_bytes(b)
}

pub(crate) fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut b = [0; 4];
    b.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(b)
}

pub(crate) fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut b = [0; 8];
    b.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(b)
}

impl SegmentHeader {
    pub(crate) fn identity(&self) -> Identity {
        let mut bytes = [0; 32];
        bytes[..16].copy_from_slice(&self.log.0);
        bytes[16..24].copy_from_slice(&self.first.to_le_bytes());
        bytes[24..].copy_from_slice(&self.generation.to_le_bytes());
        Identity(crc32c(&bytes))
    }

    /// Both copies, without a close statement.
    pub(crate) fn blocks(&self) -> Vec<u8> {
        let mut block = vec![0; BLOCK];
        block[..8].copy_from_slice(&SEGMENT_MAGIC);
        block[8..10].copy_from_slice(&VERSION.to_le_bytes());
        block[10..12].copy_from_slice(&(HEADER_LEN as u16).to_le_bytes());
        block[16..32].copy_from_slice(&self.log.0);
        block[32..40].copy_from_slice(&self.first.to_le_bytes());
        block[40..48].copy_from_slice(&self.generation.to_le_bytes());
        block[48..56].copy_from_slice(&self.durable_before.to_le_bytes());
        block[56..64].copy_from_slice(&self.created_ms.to_le_bytes());
        let crc = crc32c(&block[..64]);
        block[64..68].copy_from_slice(&crc.to_le_bytes());
        block.extend_from_within(..);
        block
    }

    pub(crate) fn parse(block: &[u8]) -> Result<SegmentHeader, HeaderError> {
        if block.len() < HEADER_LEN || block[..8] != SEGMENT_MAGIC || crc32c(&block[..64]) != u32_at(block, 64) {
            return Err(HeaderError::Damaged);
        }
        if u16_at(block, 8) > VERSION {
            return Err(HeaderError::Newer(u16_at(block, 8)));
        }
        let mut log = [0; 16];
        log.copy_from_slice(&block[16..32]);
        Ok(SegmentHeader {
            log: LogId(log),
            first: u64_at(block, 32),
            generation: u64_at(block, 40),
            durable_before: u64_at(block, 48),
            created_ms: u64_at(block, 56) as i64,
        })
    }
}

impl Close {
    pub(crate) fn bytes(&self, identity: Identity) -> [u8; CLOSE_LEN] {
        let mut out = [0; CLOSE_LEN];
        out[..8].copy_from_slice(&CLOSE_MAGIC);
        out[8..16].copy_from_slice(&self.last.to_le_bytes());
        out[16..24].copy_from_slice(&self.end.to_le_bytes());
        out[24..32].copy_from_slice(&self.trailer_at.to_le_bytes());
        let crc = crc32c_append(identity.0, &out[..56]);
        out[56..].copy_from_slice(&crc.to_le_bytes());
        out
    }

    /// `block` is a whole copy, or what there is of one.
    pub(crate) fn parse(block: &[u8], identity: Identity) -> Option<Close> {
        let bytes = block.get(CLOSE_AT..CLOSE_AT + CLOSE_LEN)?;
        if bytes[..8] != CLOSE_MAGIC || crc32c_append(identity.0, &bytes[..56]) != u32_at(bytes, 56) {
            return None;
        }
        Some(Close {
            last: u64_at(bytes, 8),
            end: u64_at(bytes, 16),
            trailer_at: u64_at(bytes, 24),
        })
    }
}

impl Identity {
    fn header_crc(self, offset: u64, header: &[u8]) -> u32 {
        crc32c_append(crc32c_append(self.0, &offset.to_le_bytes()), &header[8..RECORD_HEADER])
    }

    /// Fills in the header of the record whose payload is `record[36..]`, to be written at `offset`.
    pub(crate) fn seal(self, record: &mut [u8], kind: Kind, position: Position, durable_before: Position, offset: u64) {
        let (header, payload) = record.split_at_mut(RECORD_HEADER);
        header[..4].copy_from_slice(&MARKER);
        header[8..12].copy_from_slice(&crc32c(payload).to_le_bytes());
        header[12..16].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        header[16..24].copy_from_slice(&position.to_le_bytes());
        header[24..32].copy_from_slice(&durable_before.to_le_bytes());
        header[32..36].copy_from_slice(&[if kind == Kind::Record { 1 } else { 2 }, 0, 0, 0]);
        let crc = self.header_crc(offset, header);
        header[4..8].copy_from_slice(&crc.to_le_bytes());
    }

    /// The header of a record of this segment at `offset`, when `bytes` is one.
    pub(crate) fn open(self, bytes: &[u8], offset: u64) -> Option<RecordHeader> {
        let header = bytes.get(..RECORD_HEADER)?;
        if header[..4] != MARKER || self.header_crc(offset, header) != u32_at(header, 4) {
            return None;
        }
        Some(RecordHeader {
            kind: match header[32] {
                1 => Kind::Record,
                2 => Kind::Trailer,
                _ => return None,
            },
            payload_crc: u32_at(header, 8),
            length: u32_at(header, 12),
            position: u64_at(header, 16),
            durable_before: u64_at(header, 24),
        })
    }
}

impl RecordHeader {
    pub(crate) fn holds(&self, payload: &[u8]) -> bool {
        crc32c(payload) == self.payload_crc
    }

    /// Bytes in the file, header included.
    pub(crate) fn extent(&self) -> u64 {
        RECORD_HEADER as u64 + u64::from(self.length)
    }
}
