use std::collections::HashSet;
use std::io;
use std::path::{Path, PathBuf};

use host::{Host, Lock, OpenMode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use series::table::label_hash;
use store::is_snapshot_name;

use super::lock_of;
use crate::data_dir::LOCK;
use crate::progress::bytes;
use crate::{Failure, terminal};

/// Says that a directory holds backups, and in which form.
const FORMAT: &str = "overseer-backup";
const FORMAT_TEXT: &str = "overseer backup 1\n";
/// Where the files of all backups are.
const FILES: &str = "files";
/// Bytes copied at once.
const PIECE: usize = 1 << 20;
/// Bytes of a digest.
const DIGEST: usize = 16;
/// Bytes of a backup's list.
const LIST_BYTES_MAX: u64 = 256 << 20;
/// Bytes at the end of a block that tell it from any other.
const MARK: u64 = 16;

/// One file of a backup.
#[derive(Clone, Debug, Deserialize, Serialize, PartialEq)]
pub(crate) struct Entry {
    /// Within the data directory.
    pub(crate) path: String,
    pub(crate) bytes: u64,
    pub(crate) digest: String,
    /// Within the directory of backups.
    pub(crate) stored: String,
    /// A block's last bytes.
    pub(crate) mark: Option<String>,
}

/// One backup: what it is and which files it consists of.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Backup {
    pub(crate) name: String,
    /// Made after every backup with a lower one, whatever the clock said; 0 in lists that have none.
    #[serde(default)]
    pub(crate) sequence: u64,
    pub(crate) created_ms: i64,
    pub(crate) version: String,
    /// Everything up to this log position is in it.
    pub(crate) position: u64,
    pub(crate) samples: u64,
    /// Files that the data set lacked, or that were damaged in it.
    pub(crate) missing: Vec<String>,
    pub(crate) files: Vec<Entry>,
}

impl Backup {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
}

/// A list that no backup can be restored from.
#[derive(Clone, Debug)]
pub(crate) struct Damaged {
    /// The list's file without `.json`.
    pub(crate) name: String,
    pub(crate) why: String,
    /// What it says all the same: a copy under another name can be read.
    said: Option<Backup>,
}

/// What a directory of backups holds; each list is judged alone.
#[derive(Default)]
pub(crate) struct Shelf {
    /// Oldest first, by what was made after what.
    pub(crate) whole: Vec<Backup>,
    pub(crate) damaged: Vec<Damaged>,
}

impl Shelf {
    /// All that can be read.
    fn said(&self) -> impl Iterator<Item = &Backup> {
        self.whole
            .iter()
            .chain(self.damaged.iter().filter_map(|d| d.said.as_ref()))
    }

    /// The number of the next backup.
    pub(crate) fn next_sequence(&self) -> u64 {
        self.said().map(|b| b.sequence).max().unwrap_or(0).saturating_add(1)
    }

    /// The named backup, or the newest.
    pub(crate) fn find(&self, dir: &Path, name: Option<&str>) -> Result<&Backup, Failure> {
        let Some(name) = name else {
            let none = || Failure::misuse(format!("{}: there is no backup yet", dir.display()));
            return self.whole.last().ok_or_else(none);
        };
        self.whole
            .iter()
            .find(|b| b.name == name)
            .ok_or_else(|| match self.damaged.iter().find(|d| d.name == name) {
                Some(d) => Failure::failed(format!("{}: {}.json: damaged: {}", dir.display(), d.name, d.why)),
                None => Failure::misuse(format!(
                    "{}: there is no backup {name:?}; overseer backup --list shows them",
                    dir.display()
                )),
            })
    }

    /// Says which lists are damaged, where that keeps from nothing.
    pub(crate) fn complain(&self) {
        for d in &self.damaged {
            terminal::complain(&format!("{}.json is damaged and passed over: {}", d.name, d.why));
        }
    }
}

/// What deleting a backup did.
pub(crate) struct Deleted {
    pub(crate) freed: u64,
    /// Lists that cannot be read: what they may need is not deleted.
    pub(crate) kept_for: Vec<String>,
}

/// Why a file did not come through.
pub(crate) enum CopyError {
    /// The copy cannot be written: no other will be.
    Target(Failure),
    /// The original is damaged or missing. True: its bytes were copied all the same.
    Source(String, bool),
}

/// A directory of backups, used by this process alone.
pub(crate) struct Pool {
    host: Host,
    dir: PathBuf,
    _lock: Option<Box<dyn Lock>>,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> Failure + '_ {
    move |e| Failure::failed(format!("{}: {e}", path.display()))
}

impl Pool {
    /// `make`: begin one where there is none; only in an empty directory.
    pub(crate) fn open(host: &Host, dir: &Path, make: bool) -> Result<Pool, Failure> {
        let files = &host.files;
        let format = dir.join(FORMAT);
        let not_ours = || {
            Failure::misuse(format!(
                "{}: this directory holds no backups of Overseer ({FORMAT} is missing)",
                dir.display()
            ))
        };
        let text = files.exists(&format).then(|| files.read(&format)).transpose();
        let text = text.map_err(failed(&format))?;
        let entries = if files.exists(dir) {
            files.list(dir).map_err(failed(dir))?
        } else {
            Vec::new()
        };
        let mut write_format = false;
        match text.as_deref() {
            Some(text) if text == FORMAT_TEXT.as_bytes() => {}
            Some(text) if is_newer(text) => {
                return Err(Failure::failed(format!(
                    "{}: written by a newer version: {FORMAT_TEXT:?} is what this one reads",
                    format.display()
                )));
            }
            // the word is damaged or gone, the backups are there
            _ if entries.iter().any(|e| e.is_dir && e.name == FILES)
                && entries.iter().any(|e| list_of(e).is_some()) =>
            {
                terminal::complain(&format!(
                    "{}: damaged or missing; the lists say enough",
                    format.display()
                ));
                write_format = make;
            }
            _ if !make => return Err(not_ours()),
            _ => {
                crate::data_dir::create(&**files, dir)
                    .map_err(|e| Failure::failed(format!("{}: {e}", dir.display())))?;
                // what a command leaves that was stopped in its first instant
                let begun = |e: &host::Entry| e.name == LOCK || e.name == FORMAT || e.name == format!(".{FORMAT}.tmp");
                if !entries.iter().all(begun) {
                    return Err(Failure::misuse(format!(
                        "{}: not empty, and no directory of backups; give an empty one",
                        dir.display()
                    )));
                }
                write_format = true;
            }
        }
        if write_format {
            files
                .write_atomic(&format, FORMAT_TEXT.as_bytes())
                .map_err(failed(&format))?;
        }
        // one that can only be read needs no lock
        let lock = match lock_of(host, dir) {
            Ok(lock) => Some(lock),
            Err(e) if make || e.message.contains("under way") => return Err(e),
            Err(_) => None,
        };
        Ok(Pool {
            host: host.clone(),
            dir: dir.to_owned(),
            _lock: lock,
        })
    }

    /// The backups there are, and the lists that are none.
    pub(crate) fn shelf(&self) -> Result<Shelf, Failure> {
        let mut shelf = Shelf::default();
        for entry in self.host.files.list(&self.dir).map_err(failed(&self.dir))? {
            let Some(name) = list_of(&entry) else { continue };
            match self.list(&entry) {
                Ok(backup) if backup.name == name => shelf.whole.push(backup),
                Ok(backup) => shelf.damaged.push(Damaged {
                    name: name.to_owned(),
                    why: format!("it is a copy of {}.json under another name", backup.name),
                    said: Some(backup),
                }),
                Err(why) => shelf.damaged.push(Damaged {
                    name: name.to_owned(),
                    why,
                    said: None,
                }),
            }
        }
        shelf
            .whole
            .sort_by(|a, b| (a.sequence, &a.name).cmp(&(b.sequence, &b.name)));
        Ok(shelf)
    }

    fn list(&self, entry: &host::Entry) -> Result<Backup, String> {
        if entry.len > LIST_BYTES_MAX {
            return Err(format!("{} bytes, at most {LIST_BYTES_MAX} are right", entry.len));
        }
        let text = self
            .host
            .files
            .read(&self.dir.join(&entry.name))
            .map_err(|e| e.to_string())?;
        parse(&text)
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    pub(crate) fn path_of(&self, entry: &Entry) -> PathBuf {
        self.dir.join(&entry.stored)
    }

    /// Refuses to begin what cannot be finished.
    pub(crate) fn make_room(&self, needed: u64) -> Result<(), Failure> {
        let free = self.host.files.free_bytes(&self.dir).map_err(failed(&self.dir))?;
        if needed > free {
            return Err(Failure::failed(format!(
                "{}: {} are needed, {} are free",
                self.dir.display(),
                bytes(needed),
                bytes(free)
            )));
        }
        Ok(())
    }

    /// Copies a file in; durable when `put` returns.
    pub(crate) fn take(
        &self,
        from: &Path,
        path: String,
        mark: Option<String>,
        done: &mut dyn FnMut(u64),
    ) -> Result<Entry, Failure> {
        let files = &self.host.files;
        let dir = self.dir.join(FILES);
        files.create_dir_all(&dir).map_err(failed(&dir))?;
        let draft = dir.join(".draft");
        let (len, digest) = match copy(&self.host, from, &draft, done) {
            Ok(copied) => copied,
            Err(CopyError::Target(failure)) => return Err(failure),
            Err(CopyError::Source(why, _)) => return Err(Failure::failed(format!("{}: {why}", from.display()))),
        };
        let name = path.rsplit('/').next().unwrap_or_default();
        let stored = format!("{FILES}/{name}-{len}-{digest:032x}");
        let target = self.dir.join(&stored);
        files.rename(&draft, &target).map_err(failed(&target))?;
        Ok(Entry {
            path,
            bytes: len,
            digest: format!("{digest:032x}"),
            stored,
            mark,
        })
    }

    /// Makes the backup one that counts.
    pub(crate) fn put(&self, backup: &Backup) -> Result<(), Failure> {
        let files = &self.host.files;
        let dir = self.dir.join(FILES);
        files.sync_dir(&dir).map_err(failed(&dir))?;
        let path = self.dir.join(format!("{}.json", backup.name));
        let text = text_of(backup).map_err(|e| Failure::failed(e.to_string()))?;
        if text.len() as u64 > LIST_BYTES_MAX {
            return Err(Failure::failed(format!(
                "the list of {} files takes more than {LIST_BYTES_MAX} bytes: merge the files first (POST /api/v1/admin/compact)",
                backup.files.len()
            )));
        }
        files.write_atomic(&path, text.as_bytes()).map_err(failed(&path))
    }

    /// Reads an entry's file and holds it against its checksum.
    pub(crate) fn check(&self, entry: &Entry, done: &mut dyn FnMut(u64)) -> Result<(), String> {
        let found = read(&self.host, &self.path_of(entry), done, |_, _| Ok(())).map_err(|e| e.to_string())?;
        expect(entry, found)
    }

    /// Copies an entry's file out, checked. Bytes of a damaged one are copied too: a part of them may be good.
    pub(crate) fn give(&self, entry: &Entry, to: &Path, done: &mut dyn FnMut(u64)) -> Result<(), CopyError> {
        let copied = copy(&self.host, &self.path_of(entry), to, done)?;
        expect(entry, copied).map_err(|why| CopyError::Source(why, true))
    }

    /// Deletes a backup, or a list that is none, and the files that no other has.
    pub(crate) fn delete(&self, name: &str) -> Result<Deleted, Failure> {
        let files = &self.host.files;
        let shelf = self.shelf()?;
        if !shelf.damaged.iter().any(|d| d.name == name) {
            shelf.find(&self.dir, Some(name))?;
        }
        let path = self.dir.join(format!("{name}.json"));
        files.remove(&path).map_err(failed(&path))?;
        files.sync_dir(&self.dir).map_err(failed(&self.dir))?;
        let rest = self.shelf()?;
        let unread = rest.damaged.iter().filter(|d| d.said.is_none());
        let kept_for: Vec<String> = unread.map(|d| d.name.clone()).collect();
        if !kept_for.is_empty() {
            return Ok(Deleted { freed: 0, kept_for });
        }
        let needed: HashSet<&str> = rest
            .said()
            .flat_map(|b| b.files.iter().map(|f| f.stored.as_str()))
            .collect();
        let dir = self.dir.join(FILES);
        let mut freed = 0;
        for entry in files.list(&dir).map_err(failed(&dir))? {
            if !needed.contains(format!("{FILES}/{}", entry.name).as_str()) {
                let path = dir.join(&entry.name);
                files.remove(&path).map_err(failed(&path))?;
                freed += entry.len;
            }
        }
        Ok(Deleted { freed, kept_for })
    }
}

/// Name of the backup whose list a file would be.
fn list_of(entry: &host::Entry) -> Option<&str> {
    let name = entry.name.strip_suffix(".json").filter(|_| !entry.is_dir)?;
    is_snapshot_name(name).then_some(name)
}

/// Whether the word of a directory of backups is that of a later form, not a damaged one of this.
fn is_newer(text: &[u8]) -> bool {
    let version = std::str::from_utf8(text).ok().and_then(|t| {
        t.strip_prefix("overseer backup ")?
            .strip_suffix('\n')?
            .parse::<u32>()
            .ok()
    });
    version.is_some_and(|v| v > 1)
}

/// What tells a block from all others without reading it: the bytes behind its footer. `None` for other files.
pub(crate) fn mark_of(host: &Host, path: &Path, relative: &str, len: u64) -> io::Result<Option<String>> {
    if !relative.contains("/block-") || len < MARK {
        return Ok(None);
    }
    let mut bytes = [0; MARK as usize];
    host.files
        .open(path, OpenMode::Read)?
        .read_exact_at(&mut bytes, len - MARK)?;
    Ok(Some(bytes.iter().map(|b| format!("{b:02x}")).collect()))
}

fn expect(entry: &Entry, (len, digest): (u64, u128)) -> Result<(), String> {
    if len != entry.bytes {
        Err(format!("damaged: {len} bytes, {} is right", entry.bytes))
    } else if format!("{digest:032x}") != entry.digest {
        Err("damaged: its checksum is wrong".into())
    } else {
        Ok(())
    }
}

/// (length, digest) of a file, whose pieces `each` is given in order. A CRC would not do: files that end with their own
/// have the same.
fn read(
    host: &Host,
    path: &Path,
    done: &mut dyn FnMut(u64),
    mut each: impl FnMut(&[u8], u64) -> io::Result<()>,
) -> io::Result<(u64, u128)> {
    let file = host.files.open(path, OpenMode::Read)?;
    // each piece behind the digest of those before
    let mut piece = vec![0; DIGEST + PIECE];
    let (mut at, mut digest) = (0, 0);
    loop {
        let mut n = 0;
        while n < PIECE {
            match file.read_at(&mut piece[DIGEST + n..], at + n as u64)? {
                0 => break,
                more => n += more,
            }
        }
        if n == 0 {
            return Ok((at, digest));
        }
        piece[..DIGEST].copy_from_slice(&u128::to_le_bytes(digest));
        digest = label_hash(&piece[..DIGEST + n]);
        each(&piece[DIGEST..DIGEST + n], at)?;
        at += n as u64;
        done(n as u64);
    }
}

/// Copies a file, synced; (length, digest) of what was read.
fn copy(host: &Host, from: &Path, to: &Path, done: &mut dyn FnMut(u64)) -> Result<(u64, u128), CopyError> {
    let target = |e: io::Error| CopyError::Target(failed(to)(e));
    let file = host.files.open(to, OpenMode::Create).map_err(target)?;
    file.set_len(0).map_err(target)?;
    let mut unwritten = None;
    let copied = read(host, from, done, |piece, at| {
        file.write_all_at(piece, at).map_err(|e| {
            let kind = e.kind();
            unwritten = Some(e);
            kind.into()
        })
    });
    if let Some(e) = unwritten {
        return Err(target(e));
    }
    match copied {
        Ok(copied) => file.sync_all().map(|()| copied).map_err(target),
        Err(e) => {
            // a beginning without its end is no file
            let _ = host.files.remove(to);
            Err(CopyError::Source(e.to_string(), false))
        }
    }
}

fn text_of(backup: &Backup) -> serde_json::Result<String> {
    let value = serde_json::to_value(backup)?;
    let crc = crc32c::crc32c(value.to_string().as_bytes());
    serde_json::to_string_pretty(&json!({ "backup": value, "crc32c": format!("{crc:08x}") }))
}

fn parse(text: &[u8]) -> Result<Backup, String> {
    let mut value: Value = serde_json::from_slice(text).map_err(|e| e.to_string())?;
    let backup = value["backup"].take();
    let crc = format!("{:08x}", crc32c::crc32c(backup.to_string().as_bytes()));
    if value["crc32c"] != crc {
        return Err("its checksum is wrong".into());
    }
    let backup: Backup = serde_json::from_value(backup).map_err(|e| e.to_string())?;
    let inside =
        |p: &str| !p.starts_with('/') && p.split('/').all(|part| !part.is_empty() && part != "." && part != "..");
    match backup.files.iter().find(|f| !inside(&f.path) || !inside(&f.stored)) {
        Some(f) => Err(format!("{:?} leads elsewhere", f.path)),
        None => Ok(backup),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn backup(path: &str) -> Backup {
        Backup {
            name: "a".into(),
            sequence: 3,
            created_ms: 1,
            version: "0".into(),
            position: 7,
            samples: 8,
            missing: Vec::new(),
            files: vec![Entry {
                path: path.into(),
                bytes: 3,
                digest: "1".into(),
                stored: "files/x-3-1".into(),
                mark: None,
            }],
        }
    }

    /// Files that end with their own CRC have equal CRCs; the digest tells them apart.
    #[test]
    fn files_that_end_with_their_checksum_are_told_apart() {
        let host = Host::real();
        let mut digests = Vec::new();
        for n in 0..2u8 {
            let mut bytes = vec![n; 100];
            bytes.extend(crc32c::crc32c(&bytes).to_le_bytes());
            let path = std::env::temp_dir().join(format!("overseer-digest-{}-{n}", std::process::id()));
            host.files.write_atomic(&path, &bytes).unwrap();
            let mut seen = Vec::new();
            let (len, digest) = read(&host, &path, &mut |_| {}, |piece, _| {
                seen.extend_from_slice(piece);
                Ok(())
            })
            .unwrap();
            host.files.remove(&path).unwrap();
            assert_eq!((len, seen == bytes), (104, true));
            digests.push((crc32c::crc32c(&bytes), digest));
        }
        assert_eq!(digests[0].0, digests[1].0);
        assert_ne!(digests[0].1, digests[1].1);
    }

    #[test]
    fn a_list_without_a_sequence_is_older_than_any_with_one() {
        let mut value = serde_json::to_value(backup("series/x")).unwrap();
        value.as_object_mut().unwrap().remove("sequence");
        let crc = crc32c::crc32c(value.to_string().as_bytes());
        let text = json!({ "backup": value, "crc32c": format!("{crc:08x}") }).to_string();
        assert_eq!(parse(text.as_bytes()).unwrap().sequence, 0);
    }

    #[test]
    fn a_later_form_is_told_from_a_damaged_word() {
        for (text, newer) in [
            ("overseer backup 2\n", true),
            ("overseer backup 1\n", false),
            ("overseer backup 2", false),
            ("", false),
            ("overseer bac", false),
        ] {
            assert_eq!(is_newer(text.as_bytes()), newer, "{text:?}");
        }
    }

    #[test]
    fn a_list_is_read_as_written_and_not_when_changed() {
        let text = text_of(&backup("series/x")).unwrap();
        assert_eq!(parse(text.as_bytes()).unwrap().position, 7);
        assert!(parse(text.replace("\"bytes\": 3", "\"bytes\": 4").as_bytes()).is_err());
        for bad in ["/etc/passwd", "../x", "a//b", ""] {
            let text = text_of(&backup(bad)).unwrap();
            assert!(parse(text.as_bytes()).unwrap_err().contains("elsewhere"), "{bad}");
        }
    }
}
