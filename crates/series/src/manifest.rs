//! Which blocks are the data set. Two files take turns, each a whole state with its generation; both can be done without,
//! because blocks say in their footers what they replace. See `docs/format/manifest.md`.

#[cfg(test)]
mod tests;

use std::path::Path;

use host::{Host, Refusal, read_file_around};
use model::TimeRange;

use crate::block::{Covers, Footer, RolledFrom};
use crate::bytes::{Bytes, Malformed, checksum, put_signed, put_varint};
use crate::tombstone::Tombstone;

pub(crate) const NAMES: [&str; 2] = ["manifest-a", "manifest-b"];
const MAGIC: [u8; 8] = *b"OVMANIF1";
/// Its number for checksums.
const FILE: u64 = u64::MAX;

/// What the manifest knows of a block: enough to say what is lost with it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Entry {
    pub(crate) id: u64,
    pub(crate) level: u8,
    pub(crate) covers: Covers,
    /// Deletes behind this position have still to be applied.
    pub(crate) settled: u64,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
    pub(crate) day: i64,
    pub(crate) window: u64,
    pub(crate) samples: u64,
    /// Length of the file; 0 when it is not known.
    pub(crate) bytes: u64,
}

impl Entry {
    pub(crate) fn of(f: &Footer, bytes: u64) -> Entry {
        Entry {
            bytes,
            id: f.id,
            level: f.level,
            covers: f.covers,
            settled: f.settled(),
            min_ms: f.min_ms,
            max_ms: f.max_ms,
            day: f.day,
            window: f.window,
            samples: f.samples,
        }
    }

    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_ms, self.max_ms)
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.push(self.level);
        for n in [
            self.id,
            self.covers.from,
            self.covers.to,
            self.settled,
            self.window,
            self.samples,
            self.bytes,
        ] {
            put_varint(out, n);
        }
        for n in [self.min_ms, self.max_ms, self.day] {
            put_signed(out, n);
        }
    }

    fn decode(r: &mut Bytes<'_>) -> Result<Entry, Malformed> {
        let level = r.u8()?;
        let (id, from, to) = (r.varint()?, r.varint()?, r.varint()?);
        let (settled, window, samples, bytes) = (r.varint()?, r.varint()?, r.varint()?, r.varint()?);
        Ok(Entry {
            id,
            level,
            covers: Covers { from, to },
            settled,
            bytes,
            min_ms: r.signed()?,
            max_ms: r.signed()?,
            day: r.signed()?,
            window,
            samples,
        })
    }
}

/// What the manifest knows of a file of rollups.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct RollupEntry {
    pub(crate) block: Entry,
    pub(crate) from: RolledFrom,
    /// The samples that it was made of are past their retention: it is all there is of them.
    pub(crate) alone: bool,
}

#[derive(Clone, Debug, PartialEq, Default)]
pub(crate) struct State {
    pub(crate) generation: u64,
    /// Of the owner that committed it.
    pub(crate) epoch: u64,
    /// Replay starts behind this position.
    pub(crate) applied: u64,
    pub(crate) next_block: u64,
    pub(crate) next_window: u64,
    /// What time it is for expiry, as far as the clock and the time that the process ran agree; Unix ms.
    pub(crate) expiry_ms: i64,
    pub(crate) blocks: Vec<Entry>,
    pub(crate) tombstones: Vec<Tombstone>,
    pub(crate) rollups: Vec<RollupEntry>,
}

impl State {
    /// Whether a block of this number is part of the data set.
    pub(crate) fn names(&self, id: u64) -> bool {
        self.blocks.iter().any(|b| b.id == id) || self.rollups.iter().any(|r| r.block.id == id)
    }

    pub(crate) fn encode(&self, realm: u64) -> Vec<u8> {
        let mut out = MAGIC.to_vec();
        out.extend_from_slice(&realm.to_le_bytes());
        for n in [
            self.generation,
            self.epoch,
            self.applied,
            self.next_block,
            self.next_window,
        ] {
            put_varint(&mut out, n);
        }
        put_signed(&mut out, self.expiry_ms);
        put_varint(&mut out, self.blocks.len() as u64);
        for b in &self.blocks {
            b.encode(&mut out);
        }
        put_varint(&mut out, self.tombstones.len() as u64);
        for t in &self.tombstones {
            t.encode(&mut out);
        }
        if !self.rollups.is_empty() {
            put_varint(&mut out, self.rollups.len() as u64);
            for r in &self.rollups {
                r.block.encode(&mut out);
                r.from.encode(&mut out);
                out.push(u8::from(r.alone));
            }
        }
        let sum = checksum(realm, FILE, 0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        out
    }

    pub(crate) fn decode(realm: u64, bytes: &[u8]) -> Result<State, Malformed> {
        let (of, mut r) = opened(bytes)?;
        if of != realm {
            return Err(Malformed);
        }
        let mut state = State {
            generation: r.varint()?,
            epoch: r.varint()?,
            applied: r.varint()?,
            next_block: r.varint()?,
            next_window: r.varint()?,
            expiry_ms: r.signed()?,
            ..State::default()
        };
        for _ in 0..r.count(9)? {
            state.blocks.push(Entry::decode(&mut r)?);
        }
        for _ in 0..r.count(4)? {
            state.tombstones.push(Tombstone::decode(&mut r)?);
        }
        if !r.is_empty() {
            for _ in 0..r.count(12)? {
                state.rollups.push(RollupEntry {
                    block: Entry::decode(&mut r)?,
                    from: RolledFrom::decode(&mut r)?,
                    alone: r.u8()? == 1,
                });
            }
        }
        if r.is_empty() { Ok(state) } else { Err(Malformed) }
    }
}

/// The data set that a whole manifest belongs to, and the rest of its bytes.
fn opened(bytes: &[u8]) -> Result<(u64, Bytes<'_>), Malformed> {
    let (body, sum) = bytes.split_at_checked(bytes.len().saturating_sub(4)).ok_or(Malformed)?;
    let mut r = Bytes(body);
    if r.take(8)? != MAGIC {
        return Err(Malformed);
    }
    let realm = r.u64()?;
    if checksum(realm, FILE, 0, body) != Bytes(sum).u32()? {
        return Err(Malformed);
    }
    Ok((realm, r))
}

/// The data set that a manifest belongs to, when it is whole.
pub(crate) fn realm_of(bytes: &[u8]) -> Option<u64> {
    opened(bytes).ok().map(|(realm, _)| realm)
}

/// What was found of the two manifests.
pub(crate) struct Found {
    /// The newest readable state.
    pub(crate) state: Option<State>,
    /// Both are as the last commits left them: what is in no manifest is of no use.
    pub(crate) whole: bool,
    /// Names of manifests that are damaged.
    pub(crate) damaged: Vec<&'static str>,
    /// Names of manifests that cannot be read, and why. They may be whole, and newer than the state.
    pub(crate) unread: Vec<(&'static str, String)>,
    /// Where the next commit goes.
    pub(crate) slot: usize,
}

/// Reads both manifests.
pub(crate) fn read(host: &Host, dir: &Path, realm: u64) -> Found {
    let mut states: Vec<(usize, State)> = Vec::new();
    let (mut damaged, mut unread, mut missing) = (Vec::new(), Vec::new(), 0);
    for (slot, name) in NAMES.into_iter().enumerate() {
        match read_file_around(&*host.files, &*host.clock, &dir.join(name)) {
            Ok((_, holes)) if !holes.is_empty() => unread.push((name, "I/O error".to_owned())),
            Ok((bytes, _)) => match State::decode(realm, &bytes) {
                Ok(state) => states.push((slot, state)),
                Err(Malformed) => damaged.push(name),
            },
            Err(e) if Refusal::of(&e) == Refusal::Missing => missing += 1,
            Err(e) => unread.push((name, e.to_string())),
        }
    }
    let newest = states.into_iter().max_by_key(|(_, s)| s.generation);
    // one file is missing only after the first commit ever
    let first = newest.as_ref().is_some_and(|(_, s)| s.generation == 1);
    let whole = damaged.is_empty() && unread.is_empty() && (missing == 0 || (missing == 1 && first) || missing == 2);
    Found {
        slot: newest.as_ref().map_or(0, |(slot, _)| 1 - slot),
        state: newest.map(|(_, s)| s),
        whole,
        damaged,
        unread,
    }
}

/// Which of these blocks are the data set, as their footers tell when no manifest can be trusted: a block goes when the
/// whole set of files that replaces it is there, or a part of that set whose sources are no longer all there. `unread`:
/// blocks that are there without their footers being known.
pub(crate) fn rebuild(footers: &[Footer], unread: &[u64]) -> (Vec<u64>, u64) {
    let there = |id: &u64| unread.contains(id) || footers.iter().any(|f| f.id == *id);
    let mut dead: Vec<u64> = Vec::new();
    for f in footers.iter().filter(|f| !f.replaces.is_empty()) {
        let set: Vec<&Footer> = footers.iter().filter(|o| o.replaces == f.replaces).collect();
        let parts = set.iter().find(|o| o.last_part).map(|o| o.part + 1);
        let complete = parts.is_some_and(|n| (0..n).all(|p| set.iter().any(|o| o.part == p)));
        if complete || !f.replaces.iter().all(there) {
            dead.extend(&f.replaces);
        } else {
            dead.push(f.id);
        }
    }
    let live = footers.iter().map(|f| f.id).filter(|id| !dead.contains(id)).collect();
    // a window's files in level order cannot have gaps: what the newest covers was applied
    (live, footers.iter().map(|f| f.covers.to).max().unwrap_or(0))
}
