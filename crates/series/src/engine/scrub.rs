//! A running check: every stored byte is read again in turn, a bounded piece at a time, so that damage is known before
//! somebody asks for what it hit, and while a backup still has it.

use std::sync::{Arc, Mutex, MutexGuard};

use host::read_file_around;

use super::Engine;
use crate::block::{Block, Directory, ReadError};
use crate::cache::Cache;
use crate::manifest::{NAMES, State};
use crate::window;

/// How far the check has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ScrubStats {
    /// Bytes checked since the start.
    pub bytes: u64,
    /// Times that everything was checked.
    pub rounds: u64,
    /// Monotonic milliseconds that the last whole round took; 0 before there was one.
    pub round_ms: u64,
}

#[derive(Default)]
pub(crate) struct Scrub {
    /// Held while a piece is read.
    inner: Mutex<Inner>,
    stats: Mutex<ScrubStats>,
}

#[derive(Default)]
pub(crate) struct Inner {
    began_ms: u64,
    /// The block that is under way, and its next group; blocks are taken by id.
    block: Option<(Arc<Block>, Arc<Directory>, u32)>,
    /// Blocks up to this id are done.
    done: u64,
    small: bool,
}

impl Scrub {
    pub(crate) fn stats(&self) -> ScrubStats {
        *self.lock_stats()
    }

    fn lock_stats(&self) -> MutexGuard<'_, ScrubStats> {
        self.stats.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Engine {
    /// Checks at least one and about `bytes_max` of the bytes that come next; what is damaged or cannot be read is
    /// quarantined by name. Returns the bytes checked: fewer than `bytes_max` at the end of a round, after which it starts
    /// anew.
    pub fn scrub(&self, bytes_max: u64) -> u64 {
        let mut inner = self.scrub.lock();
        let mut bytes = 0;
        while bytes < bytes_max.max(1) {
            match self.scrub_piece(&mut inner) {
                Some(n) => bytes += n,
                None => break,
            }
        }
        self.scrub.lock_stats().bytes += bytes;
        bytes
    }

    fn scrub_piece(&self, inner: &mut Inner) -> Option<u64> {
        let s = &self.shared;
        if !inner.small {
            inner.small = true;
            inner.began_ms = self.monotonic_ms();
            return Some(self.scrub_small_files().max(1));
        }
        if let Some((block, directory, group)) = inner.block.take() {
            // a block that was replaced meanwhile is gone, and its bytes with it
            let there = s.view().files().any(|b| Arc::ptr_eq(b, &block));
            if there && (group as usize) < directory.len() {
                let bytes = self.scrubbed(&block, block.check_group(&directory, group));
                inner.block = Some((block, directory, group + 1));
                return Some(bytes);
            }
        }
        let view = s.view();
        let next = view.files().filter(|b| b.id() > inner.done).min_by_key(|b| b.id());
        let Some(block) = next else {
            let began = std::mem::take(&mut inner.began_ms);
            let mut stats = self.scrub.lock_stats();
            stats.round_ms = self.monotonic_ms().saturating_sub(began).max(1);
            stats.rounds += 1;
            (inner.done, inner.small) = (0, false);
            return None;
        };
        inner.done = block.id();
        let mut bytes = self.scrubbed(block, block.check_sections());
        // read past the cache: what it has was read before
        match block.directory(&Cache::new(0)) {
            Ok(directory) => {
                bytes += self.scrubbed(block, block.check_between(&directory));
                inner.block = Some((Arc::clone(block), directory, 0));
            }
            Err(e) => drop(self.scrubbed(block, Err(e))),
        }
        Some(bytes)
    }

    fn scrubbed(&self, block: &Block, checked: Result<(u64, Vec<ReadError>), ReadError>) -> u64 {
        match checked {
            Ok((bytes, damage)) => {
                for e in &damage {
                    self.shared.quarantine.block(block, e);
                }
                bytes.max(1)
            }
            // for a reason that passes: the next round sees
            Err(ReadError::Io(error)) => {
                tracing::warn!(file = %block.path.display(), error, "a check could not read");
                1
            }
            Err(e) => {
                self.shared.quarantine.block(block, &e);
                1
            }
        }
    }

    /// Manifests and series files. Commits and seals go on meanwhile: a manifest is replaced as a whole, and of a series
    /// file the part that files name does not change any more.
    fn scrub_small_files(&self) -> u64 {
        let s = &self.shared;
        let mut bytes = 0;
        let host = &s.host;
        for name in NAMES {
            // one that is not there was not written yet, or is looked for at the start
            if let Ok((content, holes)) = read_file_around(&*host.files, &*host.clock, &s.dir.join(name)) {
                bytes += content.len() as u64;
                if !holes.is_empty() || State::decode(s.realm, &content).is_err() {
                    let detail = "damaged manifest: its checksum is wrong; the next commits write it anew";
                    s.quarantine.add(name, detail.to_owned(), 0, 0);
                }
            }
        }
        let view = s.view();
        for w in view.windows.iter().filter(|w| w.len() > 0) {
            let name = window::window_name(w.id);
            let named = view
                .blocks
                .iter()
                .map(|b| &b.footer)
                .filter(|f| f.level == 0 && f.window == w.id);
            let len = named.map(|f| f.window_len).max().unwrap_or(0);
            let mut read = |name: &str, path: &std::path::Path| {
                match read_file_around(&*host.files, &*host.clock, path) {
                    Ok((content, _)) => {
                        bytes += content.len() as u64;
                        return content;
                    }
                    // a commit dropped it
                    Err(_) if s.view().window(w.id).is_none() => {}
                    Err(e) => drop(s.quarantine.add(name, format!("cannot be read: {e}"), 0, 0)),
                }
                Vec::new()
            };
            let content = read(&name, w.path());
            let copy = read(&window::copy_name(w.id), &w.copy_path());
            if s.view().window(w.id).is_none() {
                continue;
            }
            for f in window::check(&content, &copy, s.realm, w.id, len) {
                s.quarantine
                    .add(&f.file, format!("{}: {}", f.what, f.lost), f.offset, f.len);
            }
        }
        bytes
    }
}
