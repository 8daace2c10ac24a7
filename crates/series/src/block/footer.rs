use crate::bytes::{Bytes, Malformed, put_signed, put_varint};
use crate::tombstone::Tombstone;

/// Bytes of deletes that a footer repeats at most.
const TOMBSTONE_BYTES_MAX: usize = 64 << 10;
/// Version of the footers of rollups.
const ROLLED: u8 = 2;

/// Log positions whose samples a file holds (as far as they fall into its day): above `from`, up to `to`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Covers {
    pub(crate) from: u64,
    pub(crate) to: u64,
}

/// A stretch of frames of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) offset: u64,
    pub(crate) len: u64,
    /// How many they are.
    pub(crate) frames: u32,
}

/// What a block says about itself; enough to do without a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Footer {
    pub(crate) id: u64,
    pub(crate) level: u8,
    /// Bytes before the first group.
    pub(crate) head: u64,
    /// CRC32C of all bytes between that and the footer: two files whose footers are the same are the same.
    pub(crate) content: u32,
    pub(crate) covers: Covers,
    /// Deletes up to this position are carried out in here.
    pub(crate) cut_to: u64,
    /// Blocks whose samples of this day are in here.
    pub(crate) replaces: Vec<u64>,
    /// Place among the files that replace those, and whether it is the last of them.
    pub(crate) part: u32,
    pub(crate) last_part: bool,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    /// UTC day since 1970 of a file above level 0.
    pub(crate) day: i64,
    /// Window of a level 0 file: where its labels are, and how many series the window had then.
    pub(crate) window: u64,
    pub(crate) window_len: u64,
    pub(crate) series: u64,
    pub(crate) samples: u64,
    pub(crate) chunks: u64,
    pub(crate) groups: u32,
    pub(crate) directory: Section,
    pub(crate) index: Section,
    pub(crate) exemplars: Section,
    pub(crate) metadata: Section,
    /// Deletes that stood when the file was written, for the case that all manifests are lost.
    pub(crate) tombstones: Vec<Tombstone>,
    /// Of a file of rollups: what it was made of.
    pub(crate) rolled: Option<RolledFrom>,
}

/// Where a file of rollups comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct RolledFrom {
    /// Length of the buckets in ms.
    pub(crate) resolution: i64,
    /// Blocks whose samples are rolled up in here, ascending.
    pub(crate) sources: Vec<u64>,
}

impl RolledFrom {
    /// Whether it was made of any of these blocks.
    pub(crate) fn shares(&self, sources: &[u64]) -> bool {
        self.sources.iter().any(|id| sources.contains(id))
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        put_varint(out, self.resolution as u64);
        put_varint(out, self.sources.len() as u64);
        for &id in &self.sources {
            put_varint(out, id);
        }
    }

    pub(crate) fn decode(r: &mut Bytes<'_>) -> Result<RolledFrom, Malformed> {
        let resolution = r.varint()?;
        if !(1..=crate::block::DAY_MS as u64).contains(&resolution) {
            return Err(Malformed);
        }
        let mut sources = Vec::new();
        for _ in 0..r.count(1)? {
            sources.push(r.varint()?);
        }
        Ok(RolledFrom {
            resolution: resolution as i64,
            sources,
        })
    }
}

impl Footer {
    /// Deletes behind this position have still to be applied to what is read.
    pub(crate) fn settled(&self) -> u64 {
        self.covers.to.max(self.cut_to)
    }

    /// Leaves out of the deletes, oldest first, what would make the footer longer than it should be: of those that are left
    /// out, the manifests tell.
    pub(crate) fn shorten(&mut self) {
        let mut bytes = 0;
        let len = |t: &Tombstone| {
            let mut out = Vec::new();
            t.encode(&mut out);
            out.len()
        };
        let keep = self.tombstones.iter().rev().take_while(|t| {
            bytes += len(t);
            bytes <= TOMBSTONE_BYTES_MAX
        });
        let keep = keep.count();
        self.tombstones.drain(..self.tombstones.len() - keep);
    }

    pub(crate) fn encode(&self) -> Vec<u8> {
        let version = if self.rolled.is_some() { ROLLED } else { 1 };
        let mut out = vec![version, self.level, u8::from(self.last_part)];
        for n in [
            self.id,
            self.head,
            self.covers.from,
            self.covers.to,
            self.cut_to,
            u64::from(self.part),
        ] {
            put_varint(&mut out, n);
        }
        for n in [self.min_ms, self.max_ms, self.day] {
            put_signed(&mut out, n);
        }
        for n in [
            self.window,
            self.window_len,
            self.series,
            self.samples,
            self.chunks,
            u64::from(self.groups),
        ] {
            put_varint(&mut out, n);
        }
        for s in [self.directory, self.index, self.exemplars, self.metadata] {
            put_varint(&mut out, s.offset);
            put_varint(&mut out, s.len);
            put_varint(&mut out, u64::from(s.frames));
        }
        out.extend_from_slice(&self.content.to_le_bytes());
        put_varint(&mut out, self.replaces.len() as u64);
        for &id in &self.replaces {
            put_varint(&mut out, id);
        }
        put_varint(&mut out, self.tombstones.len() as u64);
        for t in &self.tombstones {
            t.encode(&mut out);
        }
        if let Some(rolled) = &self.rolled {
            rolled.encode(&mut out);
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Footer, Malformed> {
        let mut r = Bytes(bytes);
        let version = r.u8()?;
        if version != 1 && version != ROLLED {
            return Err(Malformed);
        }
        let (level, last_part) = (r.u8()?, r.u8()? == 1);
        let (id, head) = (r.varint()?, r.varint()?);
        let (from, to, cut_to, part) = (r.varint()?, r.varint()?, r.varint()?, r.number()?);
        let (min_ms, max_ms, day) = (r.signed()?, r.signed()?, r.signed()?);
        let (window, window_len, series) = (r.varint()?, r.varint()?, r.varint()?);
        let (samples, chunks, groups) = (r.varint()?, r.varint()?, r.number()?);
        let mut sections = [Section::default(); 4];
        for s in &mut sections {
            *s = Section {
                offset: r.varint()?,
                len: r.varint()?,
                frames: r.number()?,
            };
        }
        let content = r.u32()?;
        let mut replaces = Vec::new();
        for _ in 0..r.count(1)? {
            replaces.push(r.varint()?);
        }
        let mut tombstones = Vec::new();
        for _ in 0..r.count(4)? {
            tombstones.push(Tombstone::decode(&mut r)?);
        }
        let rolled = match version {
            ROLLED => Some(RolledFrom::decode(&mut r)?),
            _ => None,
        };
        let [directory, index, exemplars, metadata] = sections;
        Ok(Footer {
            id,
            level,
            head,
            content,
            covers: Covers { from, to },
            cut_to,
            replaces,
            part,
            last_part,
            min_ms,
            max_ms,
            day,
            window,
            window_len,
            series,
            samples,
            chunks,
            groups,
            directory,
            index,
            exemplars,
            metadata,
            tombstones,
            rolled,
        })
    }
}
