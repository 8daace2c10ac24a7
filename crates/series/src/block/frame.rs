//! What a block holds besides groups of chunks, in frames: each is complete in itself, of bounded size, with checksums of its
//! own and a marker by which it is found again after damage.

use std::io;

use crate::bytes::{Bytes, Malformed, checksum};

/// Bytes that the contents of a frame, or of a section of a series file, may have. Writers end them long before, so that
/// only the labels of one series could come near.
pub(crate) const FRAME_RAW_MAX: usize = 1 << 30;
/// Marker, kind, three zeros, first number, length, checksums of the contents and of this head.
pub(crate) const FRAME_HEAD: usize = 24;
pub(crate) const FRAME_MARK: [u8; 4] = [0xb4, b'O', b'V', b'F'];
/// Level of the packing: these parts are small and written once.
const ZSTD_LEVEL: i32 = 3;
/// In the length of packed bytes: they are as they were.
const PLAIN: u32 = 1 << 31;

/// What a frame holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Directory = 1,
    Index = 2,
    Exemplars = 3,
    Metadata = 4,
    /// A copy of a page of the index, before the groups of its series.
    Names = 5,
}

impl Kind {
    fn of(n: u8) -> Option<Kind> {
        use Kind::*;
        [Directory, Index, Exemplars, Metadata, Names]
            .into_iter()
            .find(|k| *k as u8 == n)
    }

    pub(crate) fn name(self) -> &'static str {
        match self {
            Kind::Directory => "directory",
            Kind::Index => "index",
            Kind::Exemplars => "exemplars",
            Kind::Metadata => "metadata",
            Kind::Names => "copy of the index",
        }
    }
}

/// `raw length (4 bytes)`, then the packed bytes. An error instead of something that no reader would take.
pub(crate) fn pack(raw: &[u8]) -> io::Result<Vec<u8>> {
    if raw.len() > FRAME_RAW_MAX {
        let text = format!(
            "{} bytes in one part of a file; at most {FRAME_RAW_MAX} can be read back",
            raw.len()
        );
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    let len = raw.len() as u32;
    let mut out = len.to_le_bytes().to_vec();
    match zstd::bulk::compress(raw, ZSTD_LEVEL) {
        Ok(packed) if packed.len() < raw.len() => out.extend_from_slice(&packed),
        _ => {
            out = (len | PLAIN).to_le_bytes().to_vec();
            out.extend_from_slice(raw);
        }
    }
    Ok(out)
}

pub(crate) fn unpack(bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
    let mut r = Bytes(bytes);
    let head = r.u32()?;
    let len = (head & !PLAIN) as usize;
    if len > FRAME_RAW_MAX {
        return Err(Malformed);
    }
    let raw = match head & PLAIN {
        0 => zstd::bulk::decompress(r.0, len).map_err(|_| Malformed)?,
        _ => r.0.to_vec(),
    };
    if raw.len() == len { Ok(raw) } else { Err(Malformed) }
}

/// Where bytes belong: their checksums are bound to it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place {
    pub(crate) realm: u64,
    pub(crate) file: u64,
    pub(crate) offset: u64,
}

impl Place {
    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        checksum(self.realm, self.file, self.offset, bytes)
    }

    /// So many bytes behind.
    pub(crate) fn after(self, bytes: usize) -> Place {
        Place {
            offset: self.offset.saturating_add(bytes as u64),
            ..self
        }
    }
}

/// The head of a frame that was found whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FrameHead {
    pub(crate) kind: Kind,
    /// Number of the first series, group or entry in it.
    pub(crate) first: u32,
    /// Of the packed contents.
    pub(crate) len: u32,
    sum: u32,
}

impl FrameHead {
    /// Reads the head that bytes begin with.
    pub(crate) fn read(bytes: &[u8], place: Place) -> Option<FrameHead> {
        let head = bytes.get(..FRAME_HEAD)?;
        let mut r = Bytes(head);
        let marked = r.take(4).ok()? == FRAME_MARK;
        let (kind, rest) = (Kind::of(r.u8().ok()?)?, r.take(3).ok()?);
        let (first, len, sum, own) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
        let whole = marked && rest == [0; 3] && own == place.checksum(&head[..FRAME_HEAD - 4]);
        whole.then_some(FrameHead { kind, first, len, sum })
    }

    /// The contents, from their packed bytes at `place`.
    pub(crate) fn contents(&self, packed: &[u8], place: Place) -> Result<Vec<u8>, Malformed> {
        if packed.len() != self.len as usize || place.checksum(packed) != self.sum {
            return Err(Malformed);
        }
        unpack(packed)
    }
}

/// Appends a frame of contents that were packed; `place`: where it begins.
pub(crate) fn put_frame(out: &mut Vec<u8>, place: Place, kind: Kind, first: u32, packed: &[u8]) -> io::Result<()> {
    let len = u32::try_from(packed.len()).map_err(io::Error::other)?;
    let from = out.len();
    out.extend_from_slice(&FRAME_MARK);
    out.extend_from_slice(&[kind as u8, 0, 0, 0]);
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    out.extend_from_slice(&place.after(FRAME_HEAD).checksum(packed).to_le_bytes());
    let sum = place.checksum(&out[from..]);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(packed);
    Ok(())
}
