//! A group of chunks, with a head that tells whose they are: by the heads alone a lost directory is made anew. The chunks lie in
//! pieces that have checksums of their own, so that damage costs a piece and not the group.

use std::io;
use std::ops::Range;

use model::TimeRange;

use super::frame::Place;
use super::{Chunk, GROUP_SERIES, Number};
use crate::bytes::{Bytes, Malformed, put_varint};
use crate::chunk::{Kind, measure};

pub(crate) const GROUP_MARK: [u8; 4] = [0xb5, b'O', b'V', b'G'];
/// Marker, checksum of the rest of the head.
const FIXED: usize = 8;
/// A piece is closed when it has so many bytes.
const PIECE_BYTES: u32 = 2 << 10;
/// Bytes that the head of a group may have.
pub(crate) const HEAD_MAX: usize = 4 << 20;

/// Series that follow each other at the same distance, each with as many chunks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Run {
    series: u32,
    distance: u32,
    chunks: u32,
}

/// Chunks that share a checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Piece {
    chunks: u32,
    len: u32,
}

/// A group that is being written.
#[derive(Default)]
pub(crate) struct Draft {
    first: Number,
    last: Number,
    runs: Vec<Run>,
    pieces: Vec<Piece>,
    /// Its chunks.
    pub(crate) bytes: Vec<u8>,
    pub(crate) series: u32,
    /// Its rows of the directory.
    pub(crate) rows: Vec<u8>,
}

impl Draft {
    pub(crate) fn first(&self) -> Number {
        self.first
    }

    /// The next series has so many chunks; how far its number is from the one before, 0 at first.
    pub(crate) fn add_series(&mut self, number: Number, chunks: u32) -> u32 {
        let distance = if self.series == 0 { 0 } else { number - self.last };
        if self.series == 0 {
            self.first = number;
        }
        self.last = number;
        self.series += 1;
        match self.runs.last_mut() {
            Some(run) if (run.distance, run.chunks) == (distance, chunks) => run.series += 1,
            _ => self.runs.push(Run {
                series: 1,
                distance,
                chunks,
            }),
        }
        distance
    }

    /// A chunk of so many bytes was appended.
    pub(crate) fn add_chunk(&mut self, len: u32) {
        match self.pieces.last_mut() {
            Some(piece) if piece.len < PIECE_BYTES => {
                piece.len = piece.len.saturating_add(len);
                piece.chunks += 1;
            }
            _ => self.pieces.push(Piece { chunks: 1, len }),
        }
    }

    /// Appends the group, which begins at `place`; its length.
    pub(crate) fn write(&self, place: Place, out: &mut Vec<u8>) -> io::Result<u32> {
        let mut rest = Vec::with_capacity(16 + self.runs.len() * 4 + self.pieces.len() * 8);
        put_varint(&mut rest, u64::from(self.first));
        put_varint(&mut rest, self.runs.len() as u64);
        for run in &self.runs {
            for n in [run.series, run.distance, run.chunks] {
                put_varint(&mut rest, u64::from(n));
            }
        }
        put_varint(&mut rest, self.pieces.len() as u64);
        let mut sums = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            put_varint(&mut rest, u64::from(piece.chunks));
            put_varint(&mut rest, u64::from(piece.len));
            sums.push(rest.len());
            rest.extend_from_slice(&[0; 4]);
        }
        let mut head = Vec::with_capacity(rest.len() + FIXED + 3);
        put_varint(&mut head, rest.len() as u64);
        let head_len = FIXED + head.len() + rest.len();
        let mut at = 0;
        for (piece, sum) in self.pieces.iter().zip(sums) {
            let to = at + piece.len as usize;
            let bytes = self.bytes.get(at..to).unwrap_or(&[]);
            let of_piece = place.after(head_len + at).checksum(bytes);
            rest[sum..sum + 4].copy_from_slice(&of_piece.to_le_bytes());
            at = to;
        }
        head.extend_from_slice(&rest);
        let len = head_len + self.bytes.len();
        let fits = u32::try_from(len)
            .ok()
            .filter(|_| at == self.bytes.len() && head_len <= HEAD_MAX);
        let Some(fits) = fits else {
            let text =
                format!("a group of {len} bytes with a head of {head_len}: the largest that can be read back has less");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        out.extend_from_slice(&GROUP_MARK);
        out.extend_from_slice(&place.after(FIXED).checksum(&head).to_le_bytes());
        out.extend_from_slice(&head);
        out.extend_from_slice(&self.bytes);
        Ok(fits)
    }
}

/// What the head of a group says.
pub(crate) struct GroupHead {
    pub(crate) first: Number,
    runs: Vec<Run>,
    /// With their checksums.
    pieces: Vec<(Piece, u32)>,
    /// Bytes of the head.
    pub(crate) len: usize,
    /// Bytes of the chunks.
    pub(crate) body: usize,
}

/// How many bytes the head has that these begin with, as far as it is there; `None` when they begin no group.
pub(crate) fn head_len(bytes: &[u8]) -> Option<usize> {
    let rest = bytes.strip_prefix(&GROUP_MARK)?;
    let mut r = Bytes(rest.get(4..)?);
    let before = r.0.len();
    let len = usize::try_from(r.varint().ok()?).ok()?;
    let total = len.checked_add(FIXED + before - r.0.len())?;
    (total <= HEAD_MAX).then_some(total)
}

impl GroupHead {
    pub(crate) fn read(bytes: &[u8], place: Place) -> Result<GroupHead, Malformed> {
        let len = head_len(bytes).ok_or(Malformed)?;
        let head = bytes.get(..len).ok_or(Malformed)?;
        let mut r = Bytes(&head[GROUP_MARK.len()..]);
        let sum = r.u32()?;
        if place.after(FIXED).checksum(r.0) != sum {
            return Err(Malformed);
        }
        r.varint()?;
        let first = r.number()?;
        let mut runs = Vec::new();
        let mut series = 0u32;
        for _ in 0..r.count(3)? {
            let run = Run {
                series: r.number()?,
                distance: r.number()?,
                chunks: r.number()?,
            };
            series = series.checked_add(run.series).ok_or(Malformed)?;
            runs.push(run);
        }
        if series > GROUP_SERIES {
            return Err(Malformed);
        }
        let mut pieces = Vec::new();
        let mut body = 0usize;
        for _ in 0..r.count(6)? {
            let piece = Piece {
                chunks: r.number()?,
                len: r.number()?,
            };
            // no chunk is empty
            if piece.chunks > piece.len {
                return Err(Malformed);
            }
            body = body.checked_add(piece.len as usize).ok_or(Malformed)?;
            pieces.push((piece, r.u32()?));
        }
        if !r.is_empty() {
            return Err(Malformed);
        }
        Ok(GroupHead {
            first,
            runs,
            pieces,
            len,
            body,
        })
    }

    /// Numbers of its series and how many chunks each has.
    fn series(&self) -> impl Iterator<Item = (Number, u32)> {
        let mut next = self.first;
        self.runs
            .iter()
            .flat_map(|run| (0..run.series).map(move |_| run))
            .map(move |run| {
                next = next.wrapping_add(run.distance);
                (next, run.chunks)
            })
    }
}

/// The chunks of a group, as they were read.
pub(crate) struct Group {
    bytes: Vec<u8>,
    /// Where they begin.
    from: usize,
    /// Pieces of them that are damaged, ascending.
    bad: Vec<Range<usize>>,
}

impl Group {
    /// Holds a group's bytes against its checksums. It must have this length; an error when its head is damaged.
    pub(crate) fn read(bytes: Vec<u8>, place: Place) -> Result<(GroupHead, Group), Malformed> {
        let head = GroupHead::read(&bytes, place)?;
        if head.len + head.body != bytes.len() {
            return Err(Malformed);
        }
        let mut group = Group {
            from: head.len,
            bad: Vec::new(),
            bytes,
        };
        let mut at = 0;
        for (piece, sum) in &head.pieces {
            let to = at + piece.len as usize;
            let bytes = &group.bytes[head.len + at..head.len + to];
            if place.after(head.len + at).checksum(bytes) != *sum {
                group.bad.push(at..to);
            }
            at = to;
        }
        Ok((head, group))
    }

    /// Bytes of memory.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len() + size_of::<Self>()
    }

    /// Damaged pieces, as offset in the group and length.
    pub(crate) fn damage(&self) -> impl Iterator<Item = (u64, u64)> {
        self.bad.iter().map(|b| ((self.from + b.start) as u64, b.len() as u64))
    }

    /// Where a chunk lies in the group.
    pub(crate) fn place(&self, c: &Chunk) -> u64 {
        self.from as u64 + u64::from(c.offset)
    }

    /// The bytes of a chunk, or the damaged piece it lies in, as offset in the group and length.
    pub(crate) fn chunk(&self, c: &Chunk) -> Result<&[u8], Option<(u64, u64)>> {
        let within = c.offset as usize..(c.offset as usize).saturating_add(c.len as usize);
        let hit = |b: &&Range<usize>| b.start < within.end && within.start < b.end;
        if let Some(b) = self.bad.iter().find(hit) {
            return Err(Some(((self.from + b.start) as u64, b.len() as u64)));
        }
        self.bytes[self.from..].get(within).ok_or(None)
    }

    /// The rows of the directory, as the head and the chunks themselves tell them: `each` gets a series and its chunks. One
    /// that is damaged has no samples there, and could lie anywhere in `range`.
    pub(crate) fn rows(&self, head: &GroupHead, group: u32, range: TimeRange, mut each: impl FnMut(Number, &[Chunk])) {
        let body = &self.bytes[self.from..];
        let mut series = head.series();
        let mut now: Option<(Number, u32)> = None;
        let mut chunks: Vec<Chunk> = Vec::new();
        let mut at = 0usize;
        for (piece, _) in &head.pieces {
            let end = at + piece.len as usize;
            let mut whole = !self.bad.iter().any(|b| b.start == at);
            for left in (0..piece.chunks).rev() {
                let measured = body.get(at..end).filter(|_| whole).and_then(|b| measure(b).ok());
                whole &= measured.is_some();
                let len = match (&measured, left) {
                    (Some((_, len)), _) => *len,
                    (None, 0) => end - at,
                    (None, _) => 1.min(end - at),
                };
                let told = measured.map(|(head, _)| head);
                chunks.push(Chunk {
                    group,
                    offset: at as u32,
                    len: len as u32,
                    histograms: told.is_some_and(|t| t.kind == Kind::Histograms),
                    count: told.map_or(0, |t| t.count),
                    min_ms: told.map_or(range.start_ms, |t| t.min_ms),
                    max_ms: told.map_or(range.end_ms, |t| t.max_ms),
                });
                at += len;
                while now.is_none_or(|(_, of)| of == 0) {
                    now = series.next();
                    if now.is_none() {
                        return;
                    }
                }
                if let Some((number, of)) = now
                    && of as usize == chunks.len()
                {
                    each(number, &chunks);
                    chunks.clear();
                    now = None;
                }
            }
            at = end;
        }
    }
}
