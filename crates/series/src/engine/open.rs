use std::cell::Cell;
use std::io;
use std::path::Path;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, RwLock};
use std::time::Duration;

use host::{Host, OpenMode, Sparing, patiently};

use super::found::FOUND_BYTES;
use super::quarantine::{Quarantine, describe};
use super::view::{Lost, Rollup, View};
use super::{Engine, EngineSettings, MetadataMap, OpenError, OpenReport, Shared, Writer};
use crate::block::{Block, Footer, HEADER_BYTES, ReadError, block_id, block_name, header_realm};
use crate::cache::Cache;
use crate::head::{Head, SlabPool};
use crate::manifest::{self, Entry, State};
use crate::table::SeriesTable;
use crate::window::{Window, window_id, window_name};

/// The file that names the data set: its checksums are bound to the number in it.
pub(crate) const IDENTITY: &str = "format";
const IDENTITY_TEXT: &str = "overseer series 1 ";
/// Tries, of all files together, to open one that could not be opened for a reason that may pass, and the wait before each.
const OPEN_TRIES: u32 = 20;
const OPEN_WAIT: Duration = Duration::from_millis(100);
/// Free slabs kept for the next head, as parts of the bytes at which a seal is due: what a head takes with a few hundred
/// samples of each series, and nothing of what one with a million series took.
const POOL_SHARE: (usize, usize) = (5, 4);

fn io_at(path: &Path) -> impl FnOnce(io::Error) -> OpenError + '_ {
    move |source| OpenError::Io {
        path: path.to_owned(),
        source,
    }
}

fn refuse(path: &Path, reason: &str) -> OpenError {
    OpenError::Identity {
        path: path.to_owned(),
        reason: reason.to_owned(),
    }
}

/// The data set's number; `None` when there is no identity file.
pub(crate) fn read_identity(host: &Host, dir: &Path) -> Result<Option<u64>, OpenError> {
    let path = dir.join(IDENTITY);
    let refuse = |reason: &str| refuse(&path, reason);
    match patiently(&*host.clock, || host.files.read(&path)) {
        Ok(bytes) => {
            let text = String::from_utf8(bytes).map_err(|_| refuse("damaged: not a text"))?;
            let number = text
                .strip_prefix(IDENTITY_TEXT)
                .ok_or_else(|| refuse("damaged, or written by another version"))?;
            let (number, check) = number.trim_end().split_once(' ').unwrap_or((number, ""));
            let realm = u64::from_str_radix(number, 16).map_err(|_| refuse("damaged: no number"))?;
            if check != format!("{:08x}", crc32c::crc32c(number.as_bytes())) {
                return Err(refuse("damaged: its checksum is wrong"));
            }
            Ok(Some(realm))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(io_at(&path)(e)),
    }
}

/// The text of the identity file.
pub(crate) fn identity_text(realm: u64) -> String {
    let number = format!("{realm:016x}");
    format!("{IDENTITY_TEXT}{number} {:08x}\n", crc32c::crc32c(number.as_bytes()))
}

/// Reads the identity file, or makes one: a new one in a directory that holds nothing of an engine; the one there was, where
/// it is damaged or missing and other files tell it. Then also what was wrong with it.
fn identity(host: &Host, dir: &Path) -> Result<(u64, Option<String>), OpenError> {
    let (reason, there) = match read_identity(host, dir) {
        Ok(Some(realm)) => return Ok((realm, None)),
        Ok(None) => ("missing, while there are files that belong to it".to_owned(), false),
        Err(OpenError::Identity { reason, .. }) => (reason, true),
        Err(e) => return Err(e),
    };
    let path = dir.join(IDENTITY);
    let entries = host.files.list(dir).map_err(io_at(dir))?;
    let ours = |n: &str| block_id(n).is_some() || window_id(n).is_some() || manifest::NAMES.contains(&n);
    let set_up = |realm| host.files.write_atomic(&path, identity_text(realm).as_bytes());
    if !entries.iter().any(|e| ours(&e.name)) {
        if there {
            return Err(refuse(&path, &reason));
        }
        let realm = host.random.u64();
        set_up(realm).map_err(io_at(&path))?;
        return Ok((realm, None));
    }
    let Some((realm, from)) = told_identity(host, dir, &entries, there) else {
        return Err(refuse(&path, &reason));
    };
    // it is found in the same way the next time
    if let Err(error) = set_up(realm) {
        tracing::warn!(path = %path.display(), %error, "the identity file could not be written anew");
    }
    Ok((
        realm,
        Some(format!("{reason}; {from} tells the same, and it is written anew")),
    ))
}

/// The data set's number as other files have it: a manifest, or the head of a block. That only where there is a damaged
/// identity file: what has neither that nor a manifest may be half of a restored backup.
pub(crate) fn told_identity(host: &Host, dir: &Path, entries: &[host::Entry], there: bool) -> Option<(u64, String)> {
    for name in manifest::NAMES {
        let realm = host
            .files
            .read(&dir.join(name))
            .ok()
            .and_then(|b| manifest::realm_of(&b));
        if let Some(realm) = realm {
            return Some((realm, name.to_owned()));
        }
    }
    let blocks = entries.iter().filter_map(|e| Some((&e.name, block_id(&e.name)?)));
    blocks.filter(|_| there).find_map(|(name, id)| {
        let file = host.files.open(&dir.join(name), OpenMode::Read).ok()?;
        let mut head = [0; HEADER_BYTES as usize];
        file.read_exact_at(&mut head, 0).ok()?;
        Some((header_realm(&head, id)?, name.clone()))
    })
}

impl Engine {
    /// Opens the data set in `dir`, or makes an empty one. Damage is worked around and reported.
    pub fn open(
        host: Host,
        dir: &Path,
        settings: EngineSettings,
        table: Arc<SeriesTable>,
    ) -> Result<(Engine, OpenReport), OpenError> {
        let host = Host {
            files: Arc::new(Sparing::new(host.files, settings.open_files_max)),
            ..host
        };
        host.files.create_dir_all(dir).map_err(io_at(dir))?;
        let (realm, wrong) = identity(&host, dir)?;
        // a process that was killed may have left renames that only the page cache knows
        host.files.sync_dir(dir).map_err(io_at(dir))?;
        let names = host.files.list(dir).map_err(io_at(dir))?;
        let found = manifest::read(&host, dir, realm);
        let quarantine = Quarantine::default();
        if let Some(detail) = wrong {
            quarantine.add(IDENTITY, detail, 0, 0);
        }
        for (name, why) in &found.unread {
            // readable again, it would be taken for newer than what is committed from here on
            let aside = format!("{name}.unread");
            let moved = host.files.rename(&dir.join(name), &dir.join(&aside));
            let file = if moved.is_ok() { &aside } else { *name };
            quarantine.add(
                file,
                format!("the manifest cannot be read ({why}); the file is kept"),
                0,
                0,
            );
        }
        for &name in &found.damaged {
            quarantine.add(name, "damaged manifest: its checksum is wrong".to_owned(), 0, 0);
        }
        let on_disk: Vec<u64> = names.iter().filter_map(|e| block_id(&e.name)).collect();
        let trusted = found.whole && (found.state.is_some() || on_disk.is_empty());
        if !trusted && found.damaged.is_empty() && found.unread.is_empty() {
            quarantine.add(
                manifest::NAMES[found.slot],
                "damaged data set: the manifest is missing".to_owned(),
                0,
                0,
            );
        }
        let mut state = found.state.unwrap_or_default();
        let tries = Cell::new(OPEN_TRIES);
        let open = |id, bytes| loop {
            match Block::open(&host.files, dir, realm, id, bytes) {
                Ok(block) => {
                    for e in &block.damage {
                        let (detail, offset, len) = describe(e);
                        let detail = format!("{detail}; the copy at the file's head is used");
                        quarantine.add(&block_name(id), detail, offset, len);
                    }
                    return Ok(block);
                }
                Err(ReadError::Io(_)) if tries.get() > 0 => {
                    tries.set(tries.get() - 1);
                    host.clock.sleep(OPEN_WAIT);
                }
                done => return done,
            }
        };
        let (mut blocks, mut lost) = (Vec::new(), Vec::new());
        let (mut rollups, mut lost_rollups) = (Vec::new(), Vec::new());
        if trusted {
            for entry in &state.blocks {
                match open(entry.id, entry.bytes) {
                    Ok(block) => blocks.push(Arc::new(block)),
                    Err(e) => lost.push(lose(entry.clone(), &e, &quarantine)),
                }
            }
            for entry in &state.rollups {
                match open(entry.block.id, entry.block.bytes) {
                    Ok(block) if block.footer.rolled.as_ref() == Some(&entry.from) => rollups.push(Rollup {
                        block: Arc::new(block),
                        from: entry.from.clone(),
                        alone: entry.alone,
                    }),
                    // without it the samples are read, and it is made anew; kept in the manifest for a better day it would
                    // come back beside what was made in its place
                    _ if !entry.alone => {}
                    Err(e) => lost_rollups.push((entry.clone(), lose(entry.block.clone(), &e, &quarantine))),
                    Ok(_) => {
                        let e = ReadError::Damaged("footer", 0, 0);
                        lost_rollups.push((entry.clone(), lose(entry.block.clone(), &e, &quarantine)));
                    }
                }
            }
        } else {
            rollups = rebuild(&mut state, &on_disk, &open, &mut blocks, &mut lost, &quarantine);
        }
        if trusted && state.generation == 0 {
            state.expiry_ms = host.clock.now_ms();
            // from here on a missing manifest is a damage
            for name in manifest::NAMES {
                state.generation += 1;
                let path = dir.join(name);
                host.files
                    .write_atomic(&path, &state.encode(realm))
                    .map_err(io_at(&path))?;
            }
        }
        let highest = on_disk.iter().map(|id| id + 1).max().unwrap_or(0);
        state.next_block = state.next_block.max(highest).max(1);
        let windows_seen = names.iter().filter_map(|e| window_id(&e.name)).map(|id| id + 1).max();
        state.next_window = state.next_window.max(windows_seen.unwrap_or(0)).max(1);
        let (windows, current) = load_windows(&host, dir, realm, &blocks, &lost, &table, &quarantine);
        let series = windows.iter().map(|w| w.len() as usize).sum();
        let metadata = read_metadata(&blocks, &quarantine);

        let pool = Arc::new(SlabPool::new(
            (settings.unsealed_bytes_max / POOL_SHARE.1)
                .saturating_mul(POOL_SHARE.0)
                .min(settings.memory_bytes_max / 2),
        ));
        let (applied, expiry_ms) = (state.applied, state.expiry_ms);
        // later ones come again with the log, after records that must not see them
        state.tombstones.retain(|t| t.position <= applied);
        let mut view = View {
            blocks,
            lost,
            rollups,
            lost_rollups,
            windows,
            frozen: Vec::new(),
            active: Arc::new(Head::new(Arc::clone(&pool), applied)),
            tombstones: Arc::new(state.tombstones.clone()),
        };
        view.sort_blocks();
        let mut garbage = Vec::new();
        if trusted {
            for e in &names {
                let dead = block_id(&e.name).is_some_and(|id| !state.names(id))
                    || window_id(&e.name).is_some_and(|id| view.window(id).is_none() && !named(&view, id))
                    || (e.name.starts_with('.') && e.name.ends_with(".tmp"));
                if dead && host.files.remove(&dir.join(&e.name)).is_err() {
                    garbage.push(dir.join(&e.name));
                }
            }
        }
        let report = OpenReport {
            applied,
            blocks: view.blocks.len(),
            series,
            rebuilt: !trusted,
            quarantined: quarantine.list(),
        };
        let now_ms = host.clock.monotonic().as_millis() as u64;
        let metadata_sealed = metadata.values().map(|m| m.position).max().unwrap_or(0).max(applied);
        let shared = Arc::new(Shared {
            host,
            dir: dir.to_owned(),
            table,
            realm,
            indexes: Cache::new(settings.index_cache_bytes),
            chunks: Cache::new(settings.chunk_cache_bytes),
            merging: Cache::new(settings.merge_cache_bytes),
            found: Cache::new(FOUND_BYTES),
            quarantine,
            settings,
            next_block: AtomicU64::new(state.next_block),
            view: RwLock::new(Arc::new(view)),
        });
        let engine = Engine {
            shared,
            gate: RwLock::new(()),
            applier: Mutex::default(),
            writer: Mutex::new(Writer {
                state,
                slot: found.slot,
                garbage,
                leaving: Vec::new(),
                window: current,
                window_since_ms: now_ms,
                metadata_sealed,
                expire_seen_ms: None,
                expiry_looked_ms: now_ms,
                expiry_saved_ms: expiry_ms,
            }),
            compactor: Mutex::default(),
            pool,
            last: Default::default(),
            order: Default::default(),
            metadata: RwLock::new(metadata),
            applied: AtomicU64::new(applied),
            sealed: AtomicU64::new(applied),
            last_apply_ms: AtomicU64::new(now_ms),
            unsealed_since_ms: AtomicU64::new(now_ms),
            shown: AtomicU64::new(0),
            changes: Default::default(),
            deltas_skipped: AtomicU64::new(0),
            deltas_late: AtomicU64::new(0),
            deltas_restarted: AtomicU64::new(0),
            seen: Default::default(),
            scrub: Default::default(),
            merges_in_vain: AtomicU64::new(0),
        };
        for entry in engine.metadata.read().unwrap_or_else(|e| e.into_inner()).values() {
            engine.count_metadata(entry);
        }
        for window in &engine.shared.view().windows {
            engine.seen.now(&window.series(), now_ms);
        }
        Ok((engine, report))
    }
}

/// Whether a window is that of a block which cannot be read now.
fn named(view: &View, window: u64) -> bool {
    // of a block that no manifest told of, the window is not known
    let of = |e: &Entry| e.level == 0 && (e.window == window || e.window == 0);
    view.lost.iter().any(|l| of(&l.entry))
}

fn lose(entry: Entry, error: &ReadError, quarantine: &Quarantine) -> Lost {
    let file = block_name(entry.id);
    let (mut detail, offset, len) = describe(error);
    if entry.samples > 0 {
        detail = format!("{detail}; {} samples are missing", entry.samples);
    }
    quarantine.add(&file, detail.clone(), offset, len);
    Lost { entry, file, detail }
}

/// Finds out from footers which blocks are the data set. Nothing is removed then.
fn rebuild(
    state: &mut State,
    on_disk: &[u64],
    open: &dyn Fn(u64, u64) -> Result<Block, ReadError>,
    blocks: &mut Vec<Arc<Block>>,
    lost: &mut Vec<Lost>,
    quarantine: &Quarantine,
) -> Vec<Rollup> {
    let mut rolled: Vec<Block> = Vec::new();
    let mut whole: Vec<Block> = Vec::new();
    let mut unopened: Vec<(Entry, ReadError)> = Vec::new();
    for &id in on_disk {
        let known = state.blocks.iter().find(|b| b.id == id).cloned();
        match open(id, known.as_ref().map_or(0, |k| k.bytes)) {
            Ok(block) if block.footer.rolled.is_some() => rolled.push(block),
            Ok(block) => whole.push(block),
            // rollups of samples that are there can be made anew
            Err(_) if state.rollups.iter().any(|r| r.block.id == id && !r.alone) => {}
            Err(e) => {
                let entry = known.unwrap_or(Entry {
                    id,
                    level: 0,
                    covers: crate::block::Covers { from: 0, to: 0 },
                    settled: 0,
                    min_ms: i64::MIN,
                    max_ms: i64::MAX,
                    day: 0,
                    window: 0,
                    samples: 0,
                    bytes: 0,
                });
                unopened.push((entry, e));
            }
        }
    }
    let footers: Vec<Footer> = whole.iter().map(|b| b.footer.clone()).collect();
    // what is there and cannot be read now is not what a crash left half done
    let unread =
        |(entry, e): &(Entry, ReadError)| matches!(e, ReadError::Io(_) | ReadError::Unreadable(..)).then_some(entry.id);
    let unread: Vec<u64> = unopened.iter().filter_map(unread).collect();
    let (live, covered) = manifest::rebuild(&footers, &unread);
    let replaced = |id: u64| footers.iter().any(|f| f.replaces.contains(&id));
    let taken_over = |id: u64| footers.iter().any(|f| live.contains(&f.id) && f.replaces.contains(&id));
    for (entry, e) in unopened {
        if !taken_over(entry.id) {
            lost.push(lose(entry, &e, quarantine));
        }
    }
    for entry in &state.blocks {
        if !on_disk.contains(&entry.id) && !replaced(entry.id) {
            lost.push(lose(entry.clone(), &ReadError::Missing, quarantine));
        }
    }
    let newest = footers.iter().max_by_key(|f| (f.covers.to, f.id));
    for t in newest.iter().flat_map(|f| &f.tombstones) {
        if !state.tombstones.contains(t) {
            state.tombstones.push(t.clone());
        }
    }
    state.applied = state.applied.max(covered);
    blocks.extend(whole.into_iter().filter(|b| live.contains(&b.id())).map(Arc::new));
    state.blocks = blocks.iter().map(|b| Entry::of(&b.footer, b.bytes)).collect();
    state.blocks.extend(lost.iter().map(|l| l.entry.clone()));
    // rollups count when all that they were made of is there, or nothing of it: then it is past its retention. Of what was
    // merged since there are newer ones
    let there = |id: &u64| state.blocks.iter().any(|b| b.id == *id);
    let rollups = rolled.into_iter().filter_map(|block| {
        let from = block.footer.rolled.clone()?;
        let merged = from.sources.iter().any(|&id| replaced(id));
        let (some, all) = (from.sources.iter().any(there), from.sources.iter().all(there));
        (all || !(some || merged)).then(|| Rollup {
            block: Arc::new(block),
            from,
            alone: !all,
        })
    });
    rollups.collect()
}

type Windows = (Vec<Arc<Window>>, Option<Arc<Window>>);

/// Reads the series files that level 0 blocks need; the newest goes on being used when it is whole, and when every block is
/// there that may name series in it: another's would be written over.
fn load_windows(
    host: &Host,
    dir: &Path,
    realm: u64,
    blocks: &[Arc<Block>],
    missing: &[Lost],
    table: &SeriesTable,
    quarantine: &Quarantine,
) -> Windows {
    let mut needed: Vec<(u64, u64)> = Vec::new();
    for f in blocks.iter().map(|b| &b.footer).filter(|f| f.level == 0) {
        match needed.iter_mut().find(|n| n.0 == f.window) {
            Some(n) => n.1 = n.1.max(f.window_len),
            None => needed.push((f.window, f.window_len)),
        }
    }
    needed.sort_unstable();
    let mut windows = Vec::new();
    let mut current = None;
    for (id, len) in needed {
        let name = window_name(id);
        let window = Window::load(host, dir, realm, id, len, table);
        let lost = window.lost(len);
        current = None;
        if lost > 0 {
            let what = if window.unread {
                "the series file cannot be read, and is kept"
            } else {
                "damaged or missing series file"
            };
            let detail = format!("{what}: the labels of {lost} of {len} series are lost");
            quarantine.add(&name, detail, 0, 0);
        }
        for name in &window.mended {
            let detail = "damaged or missing series file: its twin was whole, and it is written anew; nothing is lost";
            quarantine.add(name, detail.to_owned(), 0, 0);
        }
        let window = Arc::new(window);
        if lost == 0 && window.whole && missing.iter().all(|l| l.entry.level > 0) {
            current = Some(Arc::clone(&window));
        }
        windows.push(window);
    }
    (windows, current)
}

fn read_metadata(blocks: &[Arc<Block>], quarantine: &Quarantine) -> MetadataMap {
    let mut map = MetadataMap::new();
    for block in blocks {
        let (list, damage) = block.metadata().unwrap_or_else(|e| (Vec::new(), vec![e]));
        for e in &damage {
            quarantine.block(block, e);
        }
        for entry in list {
            let key = (entry.tenant, entry.metric.clone());
            if map.get(&key).is_none_or(|old| old.position <= entry.position) {
                map.insert(key, entry);
            }
        }
    }
    map
}
