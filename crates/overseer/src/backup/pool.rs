use std::io;
use std::path::{Path, PathBuf};

use host::{Host, Lock, OpenMode};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use series::table::label_hash;
use store::is_snapshot_name;

use super::lock_of;
use crate::Failure;
use crate::progress::bytes;

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
    pub(crate) created_ms: i64,
    pub(crate) version: String,
    /// Everything up to this log position is in it.
    pub(crate) position: u64,
    pub(crate) samples: u64,
    /// Files that the data set lacked.
    pub(crate) missing: Vec<String>,
    pub(crate) files: Vec<Entry>,
}

impl Backup {
    pub(crate) fn bytes(&self) -> u64 {
        self.files.iter().map(|f| f.bytes).sum()
    }
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
        if files.exists(&format) {
            let text = files.read(&format).map_err(failed(&format))?;
            if text != FORMAT_TEXT.as_bytes() {
                return Err(Failure::failed(format!(
                    "{}: damaged, or written by a newer version: {FORMAT_TEXT:?} is right",
                    format.display()
                )));
            }
        } else if !make {
            return Err(not_ours());
        } else {
            files.create_dir_all(dir).map_err(failed(dir))?;
            if !files.list(dir).map_err(failed(dir))?.is_empty() {
                return Err(Failure::misuse(format!(
                    "{}: not empty, and no directory of backups; give an empty one",
                    dir.display()
                )));
            }
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

    /// All backups, oldest first.
    pub(crate) fn backups(&self) -> Result<Vec<Backup>, Failure> {
        let files = &self.host.files;
        let mut all = Vec::new();
        for entry in files.list(&self.dir).map_err(failed(&self.dir))? {
            let Some(name) = entry.name.strip_suffix(".json").filter(|n| is_snapshot_name(n)) else {
                continue;
            };
            let path = self.dir.join(&entry.name);
            if entry.len > LIST_BYTES_MAX {
                return Err(Failure::failed(format!("{}: damaged: too long", path.display())));
            }
            let text = files.read(&path).map_err(failed(&path))?;
            let backup = parse(&text).map_err(|why| Failure::failed(format!("{}: damaged: {why}", path.display())))?;
            if backup.name != name {
                return Err(Failure::failed(format!("{}: it is {}", path.display(), backup.name)));
            }
            all.push(backup);
        }
        Ok(all)
    }

    /// The named backup, or the newest.
    pub(crate) fn find(&self, name: Option<&str>) -> Result<Backup, Failure> {
        let mut all = self.backups()?;
        let found = match name {
            None => all.pop(),
            Some(name) => all.into_iter().find(|b| b.name == name),
        };
        found.ok_or_else(|| match name {
            None => Failure::misuse(format!("{}: there is no backup yet", self.dir.display())),
            Some(name) => Failure::misuse(format!(
                "{}: there is no backup {name:?}; overseer backup --list shows them",
                self.dir.display()
            )),
        })
    }

    pub(crate) fn path_of(&self, entry: &Entry) -> PathBuf {
        self.dir.join(&entry.stored)
    }

    /// Whether the entry's file is there in full length.
    pub(crate) fn has(&self, entry: &Entry) -> bool {
        let path = self.path_of(entry);
        let file = self.host.files.open(&path, OpenMode::Read);
        file.and_then(|f| f.len()).is_ok_and(|len| len == entry.bytes)
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
        let (len, digest) = copy(&self.host, from, &draft, done).map_err(failed(from))?;
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
        files.write_atomic(&path, text.as_bytes()).map_err(failed(&path))
    }

    /// Reads an entry's file and holds it against its checksum.
    pub(crate) fn check(&self, entry: &Entry, done: &mut dyn FnMut(u64)) -> Result<(), String> {
        let found = read(&self.host, &self.path_of(entry), done, |_, _| Ok(())).map_err(|e| e.to_string())?;
        expect(entry, found)
    }

    /// Copies an entry's file out, checked.
    pub(crate) fn give(&self, entry: &Entry, to: &Path, done: &mut dyn FnMut(u64)) -> Result<(), Failure> {
        let path = self.path_of(entry);
        let copied = copy(&self.host, &path, to, done).map_err(failed(&path))?;
        expect(entry, copied).map_err(|why| Failure::failed(format!("{}: {why}", path.display())))
    }

    /// Deletes a backup and the files that no other has; bytes freed.
    pub(crate) fn delete(&self, name: &str) -> Result<u64, Failure> {
        let files = &self.host.files;
        self.find(Some(name))?;
        let path = self.dir.join(format!("{name}.json"));
        files.remove(&path).map_err(failed(&path))?;
        files.sync_dir(&self.dir).map_err(failed(&self.dir))?;
        let rest = self.backups()?;
        let dir = self.dir.join(FILES);
        let mut freed = 0;
        for entry in files.list(&dir).map_err(failed(&dir))? {
            let stored = format!("{FILES}/{}", entry.name);
            if !rest.iter().any(|b| b.files.iter().any(|f| f.stored == stored)) {
                let path = dir.join(&entry.name);
                files.remove(&path).map_err(failed(&path))?;
                freed += entry.len;
            }
        }
        Ok(freed)
    }
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
fn copy(host: &Host, from: &Path, to: &Path, done: &mut dyn FnMut(u64)) -> io::Result<(u64, u128)> {
    let target = host.files.open(to, OpenMode::Create)?;
    target.set_len(0)?;
    let copied = read(host, from, done, |piece, at| target.write_all_at(piece, at))?;
    target.sync_all()?;
    Ok(copied)
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
