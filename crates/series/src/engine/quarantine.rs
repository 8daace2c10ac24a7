use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};

use super::{EngineError, Shared};
use crate::block::{Block, Directory, ReadError, block_name};
use crate::index::Index;

/// Damages remembered one by one; further ones are only logged.
const LISTED_MAX: usize = 1000;

/// Something damaged that answers do without.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quarantined {
    /// Name of the file within the engine's directory.
    pub file: String,
    /// What of it is damaged, and how.
    pub detail: String,
    /// Byte range; the length is 0 when it is the whole file.
    pub offset: u64,
    pub len: u64,
}

impl std::fmt::Display for Quarantined {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {} (quarantined)", self.file, self.detail)
    }
}

/// What was found damaged so far, each thing once.
#[derive(Default)]
pub(crate) struct Quarantine {
    found: Mutex<Vec<Quarantined>>,
    /// Ids of blocks of which it was told that they cannot be read for a reason that passes.
    passing: Mutex<BTreeSet<u64>>,
}

impl Quarantine {
    pub(crate) fn list(&self) -> Vec<Quarantined> {
        self.found.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Whether something of a file was found damaged.
    pub(crate) fn names(&self, file: &str) -> bool {
        let found = self.found.lock().unwrap_or_else(|e| e.into_inner());
        found.iter().any(|q| q.file == file)
    }

    /// Notes a damage; it is logged when it is new. Returns it as a warning for an answer.
    pub(crate) fn add(&self, file: &str, detail: String, offset: u64, len: u64) -> String {
        let one = Quarantined {
            file: file.to_owned(),
            detail,
            offset,
            len,
        };
        let text = one.to_string();
        let mut found = self.found.lock().unwrap_or_else(|e| e.into_inner());
        if !found
            .iter()
            .any(|q| (&q.file, q.offset, q.len) == (&one.file, offset, len))
        {
            tracing::warn!(
                file,
                offset,
                len,
                detail = one.detail,
                "damaged data is quarantined; the rest is served"
            );
            if found.len() < LISTED_MAX {
                found.push(one);
            }
        }
        text
    }

    /// A block is left as it is because it cannot be read now. It is logged once, and not listed: the next try may succeed.
    pub(crate) fn passing(&self, block: &Block, error: &EngineError) {
        let mut told = self.passing.lock().unwrap_or_else(|e| e.into_inner());
        if told.len() < LISTED_MAX && told.insert(block.id()) {
            tracing::warn!(file = block_name(block.id()), %error, "a file cannot be read, and is left as it is; the others go on");
        }
    }

    pub(crate) fn block(&self, block: &Block, error: &ReadError) -> String {
        let name = block_name(block.id());
        let (detail, offset, len) = describe(error);
        self.add(&name, detail, offset, len)
    }
}

impl Shared {
    /// A block's index, and a warning for answers where labels are lost. What is damaged and stored twice is noted only.
    pub(super) fn index(&self, block: &Block) -> Result<(Arc<Index>, Option<String>), ReadError> {
        let index = block.index(&self.indexes)?;
        let lost = (index.lost > 0).then(|| {
            let all = block.footer.series;
            format!(
                "the labels of {} of {all} series are lost, and with them their samples",
                index.lost
            )
        });
        let warning = self.note(block, &index.damage, lost);
        Ok((index, warning))
    }

    /// A block's directory, and a warning for answers where chunks are lost.
    pub(super) fn directory(&self, block: &Block) -> Result<(Arc<Directory>, Option<String>), ReadError> {
        let directory = block.directory(&self.indexes)?;
        let all = block.footer.chunks;
        let lost = (directory.lost > 0).then(|| format!("{} of {all} chunks are lost", directory.lost));
        let warning = self.note(block, &directory.damage, lost);
        Ok((directory, warning))
    }

    fn note(&self, block: &Block, damage: &[ReadError], lost: Option<String>) -> Option<String> {
        let mut warning = None;
        for e in damage {
            let (detail, offset, len) = describe(e);
            let what = lost
                .as_deref()
                .unwrap_or("nothing is lost: it is made anew from the rest of the file");
            let text = self
                .quarantine
                .add(&block_name(block.id()), format!("{detail}; {what}"), offset, len);
            warning.get_or_insert(text);
        }
        warning.filter(|_| lost.is_some())
    }
}

/// (text, offset, length) of a damage.
pub(crate) fn describe(error: &ReadError) -> (String, u64, u64) {
    match error {
        ReadError::Damaged(what, offset, len) => (
            format!("damaged {what}: checksum or form of {len} bytes at offset {offset} is wrong"),
            *offset,
            *len,
        ),
        ReadError::Unreadable(what, offset, len) => (
            format!("{what} cannot be read: I/O error in {len} bytes at offset {offset}; the file is kept"),
            *offset,
            *len,
        ),
        ReadError::Missing => ("damaged data set: the file is missing".to_owned(), 0, 0),
        ReadError::Io(e) => (format!("cannot be read: {e}; the file is kept"), 0, 0),
    }
}
