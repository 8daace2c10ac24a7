use std::io;
use std::path::Path;

use host::{File, OpenMode};

use super::open::identity_text;
use super::{Engine, EngineError, IDENTITY, io_error};
use crate::block::block_name;
use crate::manifest::{NAMES, State};
use crate::window::{copy_name, window_name};

/// Bytes copied at once.
const PIECE: usize = 1 << 20;

/// What a snapshot holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SnapshotReport {
    /// Every record up to this log position is in it, and none behind.
    pub position: u64,
    /// The number that the data set's checksums are bound to.
    pub data_set: u64,
    pub files: usize,
    pub bytes: u64,
    pub samples: u64,
    /// Files of the data set that could not be had; they were damaged or missing before.
    pub missing: Vec<String>,
}

impl Engine {
    /// Makes `to` a data set of its own with everything that is in files now. Blocks never change and are hard links;
    /// series files grow, and are copies. Seal before, so that nothing stays out. Reading, applying and sealing go on
    /// meanwhile, a commit waits. The identity comes last: without it the directory is no data set.
    pub fn snapshot(&self, to: &Path) -> Result<SnapshotReport, EngineError> {
        let s = &self.shared;
        let files = &s.host.files;
        files.create_dir_all(to).map_err(io_error(to))?;
        // nothing is unlinked while this is held
        let writer = self.lock_writer();
        let state = writer.state.clone();
        let mut report = SnapshotReport {
            position: state.applied,
            data_set: s.realm,
            samples: state.blocks.iter().map(|b| b.samples).sum(),
            ..SnapshotReport::default()
        };
        let mut windows: Vec<u64> = Vec::new();
        let rollups = state.rollups.iter().map(|r| &r.block);
        for entry in state.blocks.iter().chain(rollups) {
            let name = block_name(entry.id);
            if entry.level == 0 && !windows.contains(&entry.window) {
                windows.push(entry.window);
            }
            let (old, new) = (s.dir.join(&name), to.join(&name));
            let linked = files.hard_link(&old, &new).map(|()| entry.bytes);
            match linked.or_else(|e| if absent(&e) { Err(e) } else { self.copy(&old, &new) }) {
                Ok(bytes) => report.add(bytes),
                Err(e) if absent(&e) => report.missing.push(name),
                Err(e) => return Err(io_error(&new)(e)),
            }
        }
        for name in windows.iter().flat_map(|&id| [window_name(id), copy_name(id)]) {
            match self.copy(&s.dir.join(&name), &to.join(&name)) {
                Ok(bytes) => report.add(bytes),
                Err(e) if absent(&e) => report.missing.push(name),
                Err(e) => return Err(io_error(&to.join(&name))(e)),
            }
        }
        drop(writer);
        // with a manifest it is a data set: all else is there before
        files.sync_dir(to).map_err(io_error(to))?;
        for (n, name) in NAMES.into_iter().enumerate() {
            let path = to.join(name);
            let state = State {
                generation: state.generation + n as u64,
                ..state.clone()
            };
            let bytes = state.encode(s.realm);
            files.write_atomic(&path, &bytes).map_err(io_error(&path))?;
            report.add(bytes.len() as u64);
        }
        let path = to.join(IDENTITY);
        let text = identity_text(s.realm);
        files.write_atomic(&path, text.as_bytes()).map_err(io_error(&path))?;
        report.add(text.len() as u64);
        files.sync_dir(to).map_err(io_error(to))?;
        Ok(report)
    }

    /// A durable copy of a file; its length.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<u64> {
        let files = &self.shared.host.files;
        let source = files.open(from, OpenMode::Read)?;
        let target = files.open(to, OpenMode::CreateNew)?;
        let mut piece = vec![0; PIECE];
        let mut at = 0;
        loop {
            let n = source.read_at(&mut piece, at)?;
            if n == 0 {
                break;
            }
            target.write_all_at(&piece[..n], at)?;
            at += n as u64;
        }
        File::sync_all(&*target)?;
        Ok(at)
    }
}

fn absent(e: &io::Error) -> bool {
    e.kind() == io::ErrorKind::NotFound
}

impl SnapshotReport {
    fn add(&mut self, bytes: u64) {
        self.files += 1;
        self.bytes += bytes;
    }
}
