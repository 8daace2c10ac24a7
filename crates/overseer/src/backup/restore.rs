use std::collections::HashSet;
use std::path::Path;

use host::Host;
use serde_json::json;

use super::pool::{Backup, CopyError, Entry, Pool, Shelf};
use crate::cli::{RestoreArgs, Settings};
use crate::data_dir::{self, DataDir};
use crate::progress::{Progress, bytes};
use crate::{Failure, config, terminal, verify_command};

/// Says which data set the files are of.
const IDENTITY: &str = "series/format";

/// A file that did not come back whole.
struct Lost {
    path: String,
    why: String,
}

/// `overseer restore`.
pub(crate) fn restore(settings: &Settings, ask: &RestoreArgs) -> Result<(), Failure> {
    let (config, _) = config::load(settings)?;
    let host = Host::real();
    let pool = Pool::open(&host, &ask.from, false)?;
    let shelf = pool.shelf()?;
    shelf.complain();
    let backup = shelf.find(pool.dir(), ask.name.as_deref())?;
    let path = config.data_dir.unwrap_or_else(data_dir::default_path);
    let failed = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    if host.files.exists(&path) && !data_dir::is_unused(&host, &path).map_err(|e| failed(&path, e))? {
        return Err(Failure::misuse(format!(
            "{}: not empty; a backup is restored to an empty directory, give one with --data-dir",
            path.display()
        )));
    }
    let held = DataDir::begin_restore(&host, &path)?;
    let (total, free) = (
        backup.bytes(),
        host.files.free_bytes(&path).map_err(|e| failed(&path, e))?,
    );
    if total > free {
        return Err(Failure::failed(format!(
            "{}: {} are needed, {} are free",
            path.display(),
            bytes(total),
            bytes(free)
        )));
    }
    let mut progress = Progress::new(&host, "copying", total);
    let mut dirs = vec![path.clone()];
    let mut lost = Vec::new();
    for entry in &backup.files {
        let target = path.join(&entry.path);
        let dir = target.parent().unwrap_or(&path).to_owned();
        host.files.create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
        let entry = if entry.path == IDENTITY {
            whole_identity(&pool, &shelf, backup, entry)
        } else {
            entry
        };
        match pool.give(entry, &target, &mut |n| progress.add(n)) {
            Ok(()) => {}
            Err(CopyError::Target(failure)) => return Err(failure),
            Err(CopyError::Source(why, copied)) => {
                // an identity that is damaged would keep a server from starting, one that is missing is made anew
                if copied && entry.path == IDENTITY {
                    host.files.remove(&target).map_err(|e| failed(&target, e))?;
                }
                lost.push(Lost {
                    path: entry.path.clone(),
                    why: format!("{}: {why}", entry.stored),
                });
            }
        }
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    for dir in &dirs {
        host.files.sync_dir(dir).map_err(|e| failed(dir, e))?;
    }
    held.end_restore(&host)?;
    drop(progress);
    let checked = verify_command::check(&host, &path)?;
    drop(held);
    let whole = checked.clean && lost.is_empty() && backup.missing.is_empty();
    if ask.json {
        let mut answer = serde_json::to_value(&checked).map_err(|e| Failure::failed(e.to_string()))?;
        answer["name"] = backup.name.as_str().into();
        answer["missing"] = json!(backup.missing);
        answer["lost"] = lost.iter().map(|l| json!({ "file": l.path, "what": l.why })).collect();
        let text = serde_json::to_string_pretty(&answer).map_err(|e| Failure::failed(e.to_string()))?;
        terminal::say(&text)?;
    } else {
        terminal::say(&format!(
            "{} is restored to {}: {} samples, everything up to position {}, {}",
            backup.name,
            path.display(),
            checked.samples,
            backup.position,
            if whole { "every byte checked" } else { "but see below" }
        ))?;
        for l in &lost {
            terminal::say(&format!("{}: not whole in the backup: {}", l.path, l.why))?;
        }
        for name in &backup.missing {
            terminal::say(&format!("{name}: was damaged or missing when the backup was made"))?;
        }
        if !checked.clean {
            for line in verify_command::lines(&checked) {
                terminal::say(&line)?;
            }
        }
    }
    if lost.is_empty() {
        return verify_command::verdict(&checked);
    }
    let names: Vec<String> = lost.iter().map(|l| format!("{} ({})", l.path, l.why)).collect();
    Err(Failure::failed(format!(
        "{} of {} files of the backup are damaged or missing: {}; what is whole is restored, and a server starts on it",
        lost.len(),
        backup.files.len(),
        names.join(", ")
    )))
}

/// The identity of the data set: where this backup's copy is damaged, the one that another backup of the same files has.
fn whole_identity<'a>(pool: &Pool, shelf: &'a Shelf, backup: &Backup, entry: &'a Entry) -> &'a Entry {
    let mut nothing = |_| {};
    if pool.check(entry, &mut nothing).is_ok() {
        return entry;
    }
    let blocks: HashSet<&str> = marked(backup).collect();
    let others = shelf
        .whole
        .iter()
        .filter(|b| marked(b).any(|stored| blocks.contains(stored)));
    others
        .flat_map(|b| &b.files)
        .find(|e| e.path == IDENTITY && pool.check(e, &mut nothing).is_ok())
        .unwrap_or(entry)
}

/// Files that are of one data set only.
fn marked(backup: &Backup) -> impl Iterator<Item = &str> {
    backup
        .files
        .iter()
        .filter(|f| f.mark.is_some())
        .map(|f| f.stored.as_str())
}
