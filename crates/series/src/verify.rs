//! Reads and checks every stored byte of a data set without changing any: identity, manifests, blocks down to each
//! sample, series files, and what these say of each other.

#[cfg(test)]
mod tests;

use std::path::Path;

use hashbrown::HashMap;
use host::Host;

use crate::block::{Block, block_id, block_name};
use crate::engine::{IDENTITY, OpenError, describe, read_identity, told_identity};
use crate::manifest::{self, Entry, RollupEntry};
use crate::window::{self, window_id, window_name};

/// Findings that are listed one by one; more are counted.
const LISTED_MAX: usize = 10_000;

/// Something that is not as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// Name within the data set's directory.
    pub file: String,
    /// Byte range; the length is 0 when it is the whole file, or bytes that are not there.
    pub offset: u64,
    pub len: u64,
    pub what: String,
    /// What cannot be had because of it.
    pub lost: String,
}

/// What a check came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub files: usize,
    pub bytes: u64,
    pub blocks: usize,
    pub chunks: u64,
    /// Samples that were read and decoded; a sample that lies in two files counts twice.
    pub samples: u64,
    /// Records of the log behind this position are not in files.
    pub applied: u64,
    /// Deletes that files are read through.
    pub deletes: usize,
    pub findings: Vec<Finding>,
    /// How many there were, listed or not.
    pub findings_total: usize,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
}

impl Report {
    fn find(&mut self, finding: Finding) {
        self.findings_total += 1;
        if self.findings.len() < LISTED_MAX {
            self.findings.push(finding);
        }
    }

    fn find_file(&mut self, file: &str, what: impl Into<String>, lost: impl Into<String>) {
        self.find(Finding {
            file: file.to_owned(),
            offset: 0,
            len: 0,
            what: what.into(),
            lost: lost.into(),
        });
    }
}

/// Reads any bytes as each of the parts that files are made of, for finding out whether a reader panics.
#[doc(hidden)]
pub fn try_bytes(bytes: &[u8]) {
    crate::block::try_bytes(bytes);
    let mut index = crate::index::Index::default();
    if index.add(0, bytes).is_ok() {
        for n in 0..index.len().min(64) {
            index.labels(n);
        }
    }
    let _ = manifest::State::decode(0, bytes);
    window::check(bytes, bytes, 0, 1, 100);
}

/// Checks the data set in `dir`, which nobody may be writing to. `bytes_done` is called with the bytes that were checked
/// since the call before. An error means that the directory itself cannot be read.
pub fn verify(host: &Host, dir: &Path, bytes_done: &mut dyn FnMut(u64)) -> Result<Report, OpenError> {
    let at = |path: &Path| {
        let path = path.to_owned();
        move |source| OpenError::Io { path, source }
    };
    let entries = host.files.list(dir).map_err(at(dir))?;
    let mut report = Report {
        files: entries.iter().filter(|e| !e.is_dir).count(),
        bytes: entries.iter().map(|e| e.len).sum(),
        ..Report::default()
    };
    let realm = match read_identity(host, dir) {
        Ok(Some(realm)) => realm,
        Ok(None) if entries.is_empty() => {
            report.notes.push("there is no data yet".into());
            return Ok(report);
        }
        Err(e @ OpenError::Io { .. }) => return Err(e),
        wrong => {
            let (what, there) = match wrong {
                Err(OpenError::Identity { reason, .. }) => (reason, true),
                _ => ("damaged data set: the file is missing".to_owned(), false),
            };
            match told_identity(host, dir, &entries, there) {
                Some((realm, from)) => {
                    let lost = format!("nothing: {from} tells the same, and the next start writes it anew");
                    report.find_file(IDENTITY, what, lost);
                    realm
                }
                None => {
                    let all = "everything: without its number no other file can be checked or used";
                    report.find_file(IDENTITY, what, all);
                    return Ok(report);
                }
            }
        }
    };
    let found = manifest::read(host, dir, realm);
    for (name, why) in &found.unread {
        let lost = "nothing as long as the other manifest is whole";
        report.find_file(name, format!("the manifest cannot be read: {why}"), lost);
    }
    for name in &found.damaged {
        let lost = match found.state {
            Some(_) => "nothing as long as the other manifest is whole",
            None => "nothing: the list of files can be made from their footers; deletes that stood may be lost",
        };
        report.find_file(name, "damaged manifest: its checksum or form is wrong", lost);
    }
    let on_disk: Vec<u64> = entries.iter().filter_map(|e| block_id(&e.name)).collect();
    if found.damaged.is_empty()
        && found.unread.is_empty()
        && (!found.whole || (found.state.is_none() && !on_disk.is_empty()))
    {
        let lost = "nothing: the other manifest or the files' footers tell the same";
        report.find_file(manifest::NAMES[found.slot], "the manifest is missing", lost);
    }
    let sure = found.whole;
    let mut state = found.state.unwrap_or_default();
    if state.generation == 0 {
        // the footers alone tell what is there
        let open = |id: &u64| Block::open(&host.files, dir, realm, *id, 0).ok();
        let footers: Vec<_> = on_disk
            .iter()
            .filter_map(open)
            .map(|b| (b.footer.clone(), b.bytes))
            .collect();
        let (rolled, blocks): (Vec<_>, Vec<_>) = footers.iter().partition(|(f, _)| f.rolled.is_some());
        state.blocks = blocks.iter().map(|(f, bytes)| Entry::of(f, *bytes)).collect();
        state.rollups = rolled
            .iter()
            .filter_map(|(f, bytes)| {
                Some(RollupEntry {
                    block: Entry::of(f, *bytes),
                    from: f.rolled.clone()?,
                    alone: false,
                })
            })
            .collect();
    }
    report.applied = state.applied;
    report.deletes = state.tombstones.len();
    let windows = check_windows(host, dir, realm, &state.blocks, &mut report, bytes_done);
    let rollups = state.rollups.iter().map(|r| &r.block);
    for entry in state.blocks.iter().chain(rollups) {
        check_block(
            host,
            dir,
            realm,
            entry,
            state.applied,
            &windows,
            &mut report,
            bytes_done,
        );
    }
    let listed = |id: u64| state.names(id);
    for e in entries.iter().filter(|e| !e.is_dir) {
        let known = e.name == IDENTITY
            || manifest::NAMES.contains(&e.name.as_str())
            || block_id(&e.name).is_some_and(listed)
            || window_id(&e.name).is_some_and(|id| windows.contains_key(&id));
        if !known && sure {
            report
                .notes
                .push(format!("{}: {} bytes that are no part of the data set", e.name, e.len));
        } else if !known {
            report.notes.push(format!(
                "{}: not in the manifest that could be read; not checked",
                e.name
            ));
        }
    }
    for e in entries.iter().filter(|e| e.is_dir && e.name == "quarantine") {
        let kept = host.files.list(&dir.join(&e.name)).map(|l| l.len()).unwrap_or(0);
        report
            .notes
            .push(format!("quarantine/ keeps {kept} records that could not be applied"));
    }
    Ok(report)
}

/// Checks the series files that level 0 blocks need; how many series each names.
fn check_windows(
    host: &Host,
    dir: &Path,
    realm: u64,
    blocks: &[Entry],
    report: &mut Report,
    bytes_done: &mut dyn FnMut(u64),
) -> HashMap<u64, u64> {
    let mut needed: HashMap<u64, u64> = HashMap::new();
    for entry in blocks.iter().filter(|b| b.level == 0) {
        let len = Block::open(&host.files, dir, realm, entry.id, entry.bytes).map_or(0, |b| b.footer.window_len);
        let window = needed.entry(entry.window).or_insert(0);
        *window = len.max(*window);
    }
    let mut ids: Vec<u64> = needed.keys().copied().collect();
    ids.sort_unstable();
    for id in ids {
        // of one that is not there, the check tells what is lost with it
        let read = |name: String| host.files.read(&dir.join(name)).unwrap_or_default();
        let (bytes, copy) = (read(window_name(id)), read(window::copy_name(id)));
        for finding in window::check(&bytes, &copy, realm, id, needed[&id]) {
            report.find(finding);
        }
        bytes_done((bytes.len() + copy.len()) as u64);
    }
    needed
}

#[allow(clippy::too_many_arguments, reason = "one call, all of them different")]
fn check_block(
    host: &Host,
    dir: &Path,
    realm: u64,
    entry: &Entry,
    applied: u64,
    windows: &HashMap<u64, u64>,
    report: &mut Report,
    bytes_done: &mut dyn FnMut(u64),
) {
    let name = block_name(entry.id);
    report.blocks += 1;
    let lost = format!(
        "{} samples between {} and {} ms (log positions {} to {})",
        entry.samples,
        entry.min_ms,
        entry.max_ms,
        entry.covers.from + 1,
        entry.covers.to
    );
    let block = match Block::open(&host.files, dir, realm, entry.id, entry.bytes) {
        Ok(block) => block,
        Err(e) => {
            let (what, offset, len) = describe(&e);
            report.find(Finding {
                file: name,
                offset,
                len,
                what,
                lost,
            });
            return;
        }
    };
    if Entry::of(&block.footer, block.bytes) != *entry {
        report.find_file(
            &name,
            "the manifest and the file's footer say different things of it",
            lost,
        );
    } else if entry.covers.to > applied {
        let what = format!(
            "the file covers positions up to {}, the manifest says that {applied} are in files",
            entry.covers.to
        );
        report.find_file(&name, what, "nothing");
    }
    let names = windows.get(&entry.window).copied().filter(|_| entry.level == 0);
    let checked = block.check(names, bytes_done);
    report.chunks += checked.chunks;
    report.samples += checked.samples;
    for finding in checked.findings {
        report.find(finding);
    }
}
