use std::{io, path::Path, sync::Arc};

use crc32c::crc32c;
use host::{File, Files, OpenMode, read_around};

use crate::{
    Position,
    local::frame::{LogId, u32_at, u64_at},
};

pub(crate) const FILE_NAME: &str = "positions";
const MAGIC: [u8; 8] = *b"OVSRPOS\n";
const SLOT: u64 = 4096;
const SLOTS: u64 = 3;
/// The slot of statements that are not synced.
const LAZY: u64 = 2;
const LEN: usize = 68;

/// Where the log stood, kept beside the segments so that a cut or missing one is seen. Everything stated was true when
/// it was written; a statement that got lost only makes damage harder to see.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement {
    pub(crate) log: LogId,
    /// First position of the newest segment, 0 before there was one.
    pub(crate) newest: Position,
    /// Bytes of the newest segment's file.
    pub(crate) newest_len: u64,
    pub(crate) first_kept: Position,
    pub(crate) durable: Position,
}

/// Slots written in place, so that it never needs space: two in turn for what is synced, one for what is not, which may
/// tear without harm to the others.
pub(crate) struct Positions {
    file: Arc<dyn File>,
    sequence: u64,
    /// The slot that holds the last synced statement.
    synced: u64,
}

impl Positions {
    /// The file, created when missing, and its latest intact statement. `damaged` when it holds something else.
    pub(crate) fn open(files: &dyn Files, dir: &Path) -> io::Result<(Positions, Option<Statement>, bool)> {
        let path = dir.join(FILE_NAME);
        let file = files.open(&path, OpenMode::Create)?;
        let mut best: Option<(u64, Statement)> = None;
        let mut synced = (0, 0);
        let mut damaged = false;
        for slot in 0..SLOTS {
            let mut bytes = [0; LEN];
            let mut unread = Vec::new();
            let n = read_around(&*file, &mut bytes, slot * SLOT, &mut unread)?;
            damaged |= !unread.is_empty();
            match parse(&bytes[..n]) {
                Some(found) => {
                    if slot != LAZY && found.0 > synced.0 {
                        synced = (found.0, slot);
                    }
                    if best.is_none_or(|(sequence, _)| found.0 > sequence) {
                        best = Some(found);
                    }
                }
                None => damaged |= slot != LAZY && bytes[..n].iter().any(|b| *b != 0),
            }
        }
        if file.len()? < SLOTS * SLOT {
            damaged |= best.is_some();
            file.allocate(0, SLOTS * SLOT)?;
            files.sync_dir(dir)?;
        }
        let sequence = best.map_or(0, |(sequence, _)| sequence);
        Ok((
            Positions {
                file,
                sequence,
                synced: synced.1,
            },
            best.map(|(_, s)| s),
            damaged,
        ))
    }

    /// The latest intact statement, and whether a slot holds something else; the file is only looked at.
    pub(crate) fn read(files: &dyn Files, dir: &Path) -> io::Result<(Option<Statement>, bool)> {
        let bytes = files.read(&dir.join(FILE_NAME))?;
        let mut best: Option<(u64, Statement)> = None;
        let mut damaged = bytes.len() < (SLOTS * SLOT) as usize;
        for slot in 0..SLOTS {
            let from = (slot * SLOT) as usize;
            let slot_bytes = bytes.get(from..bytes.len().min(from + LEN)).unwrap_or_default();
            match parse(slot_bytes) {
                Some(found) if best.is_none_or(|(sequence, _)| found.0 > sequence) => best = Some(found),
                Some(_) => {}
                None => damaged |= slot != LAZY && slot_bytes.iter().any(|b| *b != 0),
            }
        }
        Ok((best.map(|(_, s)| s), damaged))
    }

    /// Durable on success with `sync`; else it reaches the disk when the system likes.
    pub(crate) fn state(&mut self, statement: &Statement, sync: bool) -> io::Result<()> {
        self.sequence += 1;
        let mut bytes = [0; LEN];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[16..32].copy_from_slice(&statement.log.0);
        bytes[32..40].copy_from_slice(&statement.newest.to_le_bytes());
        bytes[40..48].copy_from_slice(&statement.newest_len.to_le_bytes());
        bytes[48..56].copy_from_slice(&statement.first_kept.to_le_bytes());
        bytes[56..64].copy_from_slice(&statement.durable.to_le_bytes());
        let crc = crc32c(&bytes[..64]);
        bytes[64..].copy_from_slice(&crc.to_le_bytes());
        if !sync {
            return self.file.write_all_at(&bytes, LAZY * SLOT);
        }
        let slot = 1 - self.synced;
        self.file.write_all_at(&bytes, slot * SLOT)?;
        self.file.sync_data()?;
        self.synced = slot;
        Ok(())
    }
}

fn parse(bytes: &[u8]) -> Option<(u64, Statement)> {
    if bytes.len() < LEN || bytes[..8] != MAGIC || crc32c(&bytes[..64]) != u32_at(bytes, 64) {
        return None;
    }
    let mut log = [0; 16];
    log.copy_from_slice(&bytes[16..32]);
    let statement = Statement {
        log: LogId(log),
        newest: u64_at(bytes, 32),
        newest_len: u64_at(bytes, 40),
        first_kept: u64_at(bytes, 48),
        durable: u64_at(bytes, 56),
    };
    Some((u64_at(bytes, 8), statement))
}
