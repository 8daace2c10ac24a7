//! Backups: a directory with one small file for each, and the files they share. `docs/format/backup.md` has the bytes.

mod pool;
mod restore;

use std::collections::HashMap;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use host::{Host, Lock};
use http::Method;
use serde_json::json;
use store::{remove_tree, snapshot_name};

use crate::cli::{BackupArgs, Settings};
use crate::config::{self, Config};
use crate::data_dir::{self, DataDir, LOCK};
use crate::progress::{Progress, bytes};
use crate::run::{CLOSE_WITHIN, Opened};
use crate::server_client::{Files, ServerClient};
use crate::{Failure, terminal};
use pool::{Backup, Deleted, Entry, Pool, Shelf};
pub(crate) use restore::restore;

/// `overseer backup`.
pub(crate) fn run(settings: &Settings, ask: &BackupArgs) -> Result<(), Failure> {
    let host = Host::real();
    let making = !ask.list && !ask.check && ask.delete.is_none();
    let pool = Pool::open(&host, &ask.to, making)?;
    if ask.list {
        return list(&pool, ask.json);
    }
    if let Some(name) = &ask.delete {
        let deleted = pool.delete(name)?;
        terminal::say(&format!("{name} is deleted, {} are free", bytes(deleted.freed)))?;
        tell_kept(&deleted);
        return Ok(());
    }
    if ask.check {
        return check(&host, &pool, ask.json);
    }
    let (config, _) = config::load(settings)?;
    let began = host.clock.monotonic();
    let shelf = pool.shelf()?;
    shelf.complain();
    let source = Source::find(&host, settings, &config, ask.url.as_deref())?;
    let copied = source.during(|| copy(&host, &pool, &shelf, &source));
    source.release(&host);
    let (backup, reused, copied_bytes) = copied?;
    let mut dropped = Vec::new();
    // one that lacks something takes the place of none that is whole
    if let Some(keep) = ask.keep.filter(|_| backup.missing.is_empty()) {
        let names: Vec<String> = pool.shelf()?.whole.into_iter().map(|b| b.name).collect();
        let over = names.len().saturating_sub(keep as usize);
        for name in names.into_iter().filter(|n| *n != backup.name).take(over) {
            tell_kept(&pool.delete(&name)?);
            dropped.push(name);
        }
    }
    let seconds = host.clock.monotonic().saturating_sub(began).as_secs_f64();
    if ask.json {
        terminal::say(
            &json!({
                "name": backup.name, "position": backup.position, "samples": backup.samples,
                "files": backup.files.len(), "bytes": backup.bytes(), "reused_files": reused,
                "copied_bytes": copied_bytes, "missing": backup.missing, "deleted": dropped, "seconds": seconds,
            })
            .to_string(),
        )?;
    } else {
        terminal::say(&format!(
            "{}: {} in {} files up to position {}; {} copied, {reused} files reused, {seconds:.1} s",
            backup.name,
            bytes(backup.bytes()),
            backup.files.len(),
            backup.position,
            bytes(copied_bytes),
        ))?;
        for name in dropped {
            terminal::say(&format!("{name} is deleted"))?;
        }
    }
    if backup.missing.is_empty() {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "the backup was made without {}: damaged or missing in the data directory before, and no other was deleted (overseer verify tells more)",
        backup.missing.join(", ")
    )))
}

/// Says what keeps the files of a deleted backup.
fn tell_kept(deleted: &Deleted) {
    if !deleted.kept_for.is_empty() {
        terminal::complain(&format!(
            "no space was freed: the damaged {} may need the same files; delete what cannot be mended with --delete",
            deleted
                .kept_for
                .iter()
                .map(|n| format!("{n}.json"))
                .collect::<Vec<_>>()
                .join(", ")
        ));
    }
}

/// Where the snapshot is that is to be copied.
struct Source {
    path: PathBuf,
    name: String,
    position: u64,
    samples: u64,
    missing: Vec<String>,
    /// The server that made it, when there is one.
    server: Option<ServerClient>,
    /// Held while the data directory is used itself.
    _data_dir: Option<DataDir>,
}

impl Source {
    /// Has the server make a snapshot, or makes one of a directory that nobody uses.
    fn find(host: &Host, settings: &Settings, config: &Config, url: Option<&str>) -> Result<Source, Failure> {
        let server = match ServerClient::of_files(host, settings, config, url)? {
            Files::Server(server) => server,
            Files::AtRest(path) => return Source::at_rest(host, config, &path),
        };
        let made = server.call(Method::POST, "/api/v1/admin/snapshot?lease=1")?;
        let text = |key: &str| made[key].as_str().unwrap_or_default().to_owned();
        let source = Source {
            path: PathBuf::from(text("path")),
            name: text("name"),
            position: made["position"].as_u64().unwrap_or(0),
            samples: made["samples"].as_u64().unwrap_or(0),
            missing: made["missing"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|m| Some(m.as_str()?.to_owned()))
                .collect(),
            server: Some(server),
            _data_dir: None,
        };
        if !host.files.exists(&source.path) {
            let message = format!(
                "the server made its snapshot at {}, which cannot be seen from here: run this command on the server's \
                 machine, as its user",
                source.path.display()
            );
            source.release(host);
            return Err(Failure::failed(message));
        }
        Ok(source)
    }

    /// Opens the data directory as a server would, and takes the snapshot without one.
    fn at_rest(host: &Host, config: &Config, path: &Path) -> Result<Source, Failure> {
        let data_dir = DataDir::open(host, path)?;
        if !host.files.exists(&data_dir.series()) && !host.files.exists(&data_dir.samples_log()) {
            return Err(Failure::misuse(format!(
                "{}: this is no data directory of Overseer{}",
                path.display(),
                data_dir::not_named(config)
            )));
        }
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
        let Opened { store, log, .. } = crate::run::open(host, &data_dir, config)?;
        let made = runtime.block_on(async {
            loop {
                match store.snapshot(host, store::Keep::Leased).await {
                    // the log is being replayed
                    Err(store::StoreError::NotReady(_)) => {}
                    other => return other,
                }
            }
        });
        store.stop();
        let closed = log.close(CLOSE_WITHIN);
        let made = made.map_err(|e| Failure::failed(e.to_string()))?;
        closed.map_err(|e| Failure::failed(e.to_string()))?;
        let report = made.made.unwrap_or_default();
        Ok(Source {
            path: made.path,
            name: made.name,
            position: report.position,
            samples: report.samples,
            missing: report.missing,
            server: None,
            _data_dir: Some(data_dir),
        })
    }

    /// Does work that needs the snapshot.
    fn during<T>(&self, work: impl FnOnce() -> T) -> T {
        match &self.server {
            Some(server) => server.keeping(&self.name, work),
            None => work(),
        }
    }

    /// Deletes the snapshot: it holds on to the space of files that the server would drop.
    fn release(&self, host: &Host) {
        let gone = match &self.server {
            Some(server) => server
                .call(Method::DELETE, &format!("/api/v1/admin/snapshots/{}", self.name))
                .map(drop)
                .map_err(|f| f.message),
            None => remove_tree(&*host.files, &self.path).map_err(|e| e.to_string()),
        };
        if let Err(e) = gone {
            terminal::complain(&format!("the snapshot {} was not deleted: {e}", self.name));
        }
    }
}

/// Brings the snapshot's files into the pool; the backup, how many files were there already, bytes copied.
fn copy(host: &Host, pool: &Pool, shelf: &Shelf, source: &Source) -> Result<(Backup, usize, u64), Failure> {
    let failed = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    let mut paths = Vec::new();
    walk(host, &source.path, String::new(), &mut paths)?;
    let mut known: HashMap<&str, Vec<&Entry>> = HashMap::new();
    for entry in shelf.whole.iter().flat_map(|b| &b.files) {
        let same = known.entry(&entry.path).or_default();
        if !same.iter().any(|e| e.stored == entry.stored) {
            same.push(entry);
        }
    }
    let mut backup = Backup {
        name: snapshot_name(host),
        sequence: shelf.next_sequence(),
        created_ms: host.clock.now_ms(),
        version: crate::VERSION.to_owned(),
        position: source.position,
        samples: source.samples,
        missing: source.missing.clone(),
        files: Vec::new(),
    };
    let mut rows = Vec::new();
    for (relative, len) in paths {
        let path = source.path.join(&relative);
        let mark = pool::mark_of(host, &path, &relative, len).map_err(|e| failed(&path, e))?;
        // a block's last bytes are the checksum of its footer, and that has those of all its parts
        let same = |e: &&Entry| mark.is_some() && e.bytes == len && e.mark == mark;
        let there: Vec<&Entry> = known
            .get(relative.as_str())
            .map(|l| l.iter().copied().filter(same).collect())
            .unwrap_or_default();
        rows.push((relative, len, mark, there));
    }
    // what is not read now may have been damaged since it was stored
    let mut progress = Progress::new(host, "checking", rows.iter().flat_map(|r| &r.3).map(|e| e.bytes).sum());
    let mut todo = Vec::new();
    for (relative, len, mark, there) in rows {
        let mut read = |n| progress.add(n);
        match there.iter().find(|e| pool.check(e, &mut read).is_ok()) {
            Some(entry) => backup.files.push((*entry).clone()),
            None => todo.push((relative, len, mark, there)),
        }
    }
    drop(progress);
    let reused = backup.files.len();
    let total = todo.iter().map(|t| t.1).sum();
    pool.make_room(total)?;
    let mut progress = Progress::new(host, "copying", total);
    for (relative, _, mark, there) in todo {
        let path = source.path.join(&relative);
        let entry = pool.take(&path, relative, mark, &mut |n| progress.add(n))?;
        // the same footer over other bytes: one of the two is damaged, and the older one was stored when it was newer
        if !there.is_empty() && !there.iter().any(|e| e.digest == entry.digest) {
            backup.missing.push(entry.path.clone());
        }
        backup.files.push(entry);
    }
    backup.files.sort_by(|a, b| a.path.cmp(&b.path));
    pool.put(&backup)?;
    Ok((backup, reused, total))
}

/// Files below a directory, as (path from it, bytes).
fn walk(host: &Host, base: &Path, under: String, out: &mut Vec<(String, u64)>) -> Result<(), Failure> {
    let dir = base.join(&under);
    let entries = host
        .files
        .list(&dir)
        .map_err(|e| Failure::failed(format!("{}: {e}", dir.display())))?;
    for entry in entries {
        let path = if under.is_empty() {
            entry.name
        } else {
            format!("{under}/{}", entry.name)
        };
        if entry.is_dir {
            walk(host, base, path, out)?;
        } else {
            out.push((path, entry.len));
        }
    }
    Ok(())
}

fn list(pool: &Pool, as_json: bool) -> Result<(), Failure> {
    let shelf = pool.shelf()?;
    if as_json {
        let whole = shelf.whole.iter().map(|b| {
            json!({
                "name": b.name, "sequence": b.sequence, "created_ms": b.created_ms, "version": b.version,
                "position": b.position, "samples": b.samples, "files": b.files.len(), "bytes": b.bytes(),
                "missing": b.missing,
            })
        });
        let damaged = shelf
            .damaged
            .iter()
            .map(|d| json!({ "name": d.name, "damaged": d.why }));
        let rows: Vec<_> = whole.chain(damaged).collect();
        return terminal::say(&json!(rows).to_string());
    }
    if shelf.whole.is_empty() {
        terminal::say("(no backup)")?;
    }
    for b in &shelf.whole {
        terminal::say(&format!(
            "{}  {:>10}  {} files, {} samples, up to position {}",
            b.name,
            bytes(b.bytes()),
            b.files.len(),
            b.samples,
            b.position
        ))?;
    }
    for d in &shelf.damaged {
        terminal::say(&format!("{}  damaged: {}", d.name, d.why))?;
    }
    Ok(())
}

fn check(host: &Host, pool: &Pool, as_json: bool) -> Result<(), Failure> {
    let shelf = pool.shelf()?;
    let mut bad: Vec<_> = shelf
        .damaged
        .iter()
        .map(|d| json!({ "file": format!("{}.json", d.name), "what": d.why }))
        .collect();
    let mut entries: Vec<&Entry> = shelf.whole.iter().flat_map(|b| &b.files).collect();
    entries.sort_by(|a, b| a.stored.cmp(&b.stored));
    entries.dedup_by(|a, b| a.stored == b.stored);
    let mut progress = Progress::new(host, "checking", entries.iter().map(|e| e.bytes).sum());
    for entry in &entries {
        if let Err(what) = pool.check(entry, &mut |n| progress.add(n)) {
            bad.push(json!({ "file": entry.stored, "what": what }));
        }
    }
    drop(progress);
    if as_json {
        terminal::say(&json!({ "clean": bad.is_empty(), "files": entries.len(), "findings": bad }).to_string())?;
    } else {
        for b in &bad {
            terminal::say(&format!(
                "{}: {}",
                b["file"].as_str().unwrap_or_default(),
                b["what"].as_str().unwrap_or_default()
            ))?;
        }
        terminal::say(&format!("{} files read, {} damaged", entries.len(), bad.len()))?;
    }
    if bad.is_empty() {
        Ok(())
    } else {
        Err(Failure::failed(format!("{} damaged files in the backups", bad.len())))
    }
}

/// Keeps others out of a directory of backups.
fn lock_of(host: &Host, dir: &Path) -> Result<Box<dyn Lock>, Failure> {
    host.files.lock(&dir.join(LOCK)).map_err(|e| match e.kind() {
        ErrorKind::WouldBlock => Failure::failed(format!("{}: another backup is under way", dir.display())),
        _ => Failure::failed(format!("{}: {e}", dir.display())),
    })
}
