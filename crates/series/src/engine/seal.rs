use std::path::PathBuf;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Weak};

use model::{SeriesBlock, SeriesId, TimeRange};

use super::rollups::keep_together;
use super::view::{Rollup, View};
use super::{Engine, EngineError, ExpireReport, SealReport, Writer, io_error};
use crate::block::{Block, BlockWriter, Covers, Extras, Footer, ReadError, Section, block_name, day_of};
use crate::head::{Head, Mark};
use crate::manifest::{Entry, NAMES, State};
use crate::retention::Horizon;
use crate::window::Window;

/// So many times as fast as time passes expiry goes on at most, where nothing but running time says that it may.
const EXPIRY_SPEED: i64 = 2;
/// Expiry's running time is written at least whenever it has come on by so much.
const EXPIRY_SAVED_MS: i64 = 6 * 3_600_000;
/// How long a window takes up new series before the next begins.
const WINDOW_MS: u64 = 2 * 60 * 60 * 1000;

/// A footer of what is not known yet.
pub(crate) fn blank_footer() -> Footer {
    Footer {
        id: 0,
        level: 0,
        head: 0,
        content: 0,
        covers: Covers { from: 0, to: 0 },
        cut_to: 0,
        replaces: Vec::new(),
        part: 0,
        last_part: true,
        min_ms: 0,
        max_ms: 0,
        day: 0,
        window: 0,
        window_len: 0,
        series: 0,
        samples: 0,
        chunks: 0,
        groups: 0,
        directory: Section::default(),
        index: Section::default(),
        exemplars: Section::default(),
        metadata: Section::default(),
        tombstones: Vec::new(),
        rolled: None,
    }
}

impl Engine {
    /// Puts everything applied so far into files. Records may be applied and series read meanwhile. On an error nothing
    /// is lost: the samples stay in memory and in the log.
    pub fn seal(&self) -> Result<SealReport, EngineError> {
        let mut writer = self.lock_writer();
        let mut report = SealReport::default();
        // what an earlier attempt left goes first, so that heads do not pile up while the disk is full
        if !self.shared.view().frozen.is_empty() {
            self.seal_frozen(&mut writer, None, &mut report)?;
        }
        let position = {
            let _gate = self.write_gate();
            self.freeze();
            self.unsealed_since_ms.store(self.monotonic_ms(), Relaxed);
            self.applied()
        };
        self.seal_frozen(&mut writer, Some(position), &mut report)?;
        if self.idle() {
            self.pool.clear();
        }
        report.position = self.sealed();
        Ok(report)
    }

    /// Writes the frozen heads and commits them; `position`: up to where they cover everything, when no active head has
    /// older samples.
    fn seal_frozen(
        &self,
        writer: &mut Writer,
        position: Option<u64>,
        report: &mut SealReport,
    ) -> Result<(), EngineError> {
        let heads = self.shared.view().frozen.clone();
        let Some(applied) = position.or_else(|| heads.last().map(|h| h.to())) else {
            return Ok(());
        };
        if heads.is_empty() && applied <= writer.state.applied {
            return Ok(());
        }
        let mut others_max_ms = self.shared.view().blocks_max_ms();
        let mut blocks = Vec::new();
        for head in &heads {
            match self.write_head(writer, head) {
                Ok(block) => blocks.push(block),
                Err(e) => {
                    // on a full disk they would hold what the next attempt needs
                    self.discard(writer, blocks.iter().map(|b: &Arc<Block>| b.path.clone()));
                    return Err(e);
                }
            }
        }
        // before the heads go: a reader must find their newest samples in the one or the other
        for head in &heads {
            let ids = head.ids();
            self.seen.now(&ids, self.monotonic_ms());
            self.last.sealed(head, &ids, others_max_ms);
            others_max_ms = others_max_ms.max(head.range().end_ms);
        }
        self.commit(writer, applied, &blocks, &[], &heads)?;
        for head in &heads {
            writer.metadata_sealed = writer.metadata_sealed.max(head.to());
        }
        self.sealed.store(applied, Relaxed);
        report.samples += blocks.iter().map(|b| b.footer.samples).sum::<u64>();
        report.bytes += blocks.iter().map(|b| b.bytes).sum::<u64>();
        report.blocks += blocks.len();
        Ok(())
    }

    /// The window that takes up new series now. A window whose file could not be written is given up: what its pages
    /// hold after a failed sync is not known.
    fn window(&self, writer: &mut Writer, ids: &[SeriesId]) -> Result<Arc<Window>, EngineError> {
        let now = self.monotonic_ms();
        if now.saturating_sub(writer.window_since_ms) >= WINDOW_MS {
            writer.window = None;
        }
        let window = match writer.window.take() {
            Some(window) => window,
            None => {
                let window = Arc::new(Window::new(&self.shared.dir, writer.state.next_window));
                writer.state.next_window += 1;
                writer.window_since_ms = now;
                self.shared.change_view(|v| v.windows.push(Arc::clone(&window)));
                window
            }
        };
        let s = &self.shared;
        window
            .add(&*s.host.files, s.realm, &s.table, ids, &s.settings.bounds)
            .map_err(io_error(window.path()))?;
        writer.window = Some(Arc::clone(&window));
        Ok(window)
    }

    fn write_head(&self, writer: &mut Writer, head: &Head) -> Result<Arc<Block>, EngineError> {
        let s = &self.shared;
        let ids = head.ids();
        let window = self.window(writer, &ids)?;
        let id = s.next_block.fetch_add(1, Relaxed);
        let path = s.dir.join(block_name(id));
        let mut numbered: Vec<(u32, SeriesId)> = Vec::with_capacity(ids.len());
        window.numbers_of(&ids, |i, n| numbered.push((n, ids[i])));
        numbered.sort_unstable();
        let mut file =
            BlockWriter::create(&s.host.files, &s.dir, s.realm, id, &s.settings.bounds, 0).map_err(io_error(&path))?;
        let mut extras = Extras::default();
        let mut block = SeriesBlock::default();
        for (number, id) in numbered {
            block.clear();
            head.read(id, Mark::ALL, TimeRange::ALL, &mut block);
            if !block.is_empty() {
                file.series_of_window(number).map_err(io_error(&path))?;
                file.samples(&block);
            }
            extras
                .exemplars
                .extend(head.exemplars(id).into_iter().map(|e| (number, e)));
        }
        let known = self.metadata.read().unwrap_or_else(|e| e.into_inner());
        let new = known
            .values()
            .filter(|m| m.position > writer.metadata_sealed && m.position <= head.to());
        extras.metadata.extend(new.cloned());
        drop(known);
        extras
            .metadata
            .sort_by(|a, b| (a.tenant, &a.metric).cmp(&(b.tenant, &b.metric)));
        let footer = Footer {
            covers: Covers {
                from: head.from,
                to: head.to(),
            },
            window: window.id,
            window_len: window.len(),
            tombstones: s.view().told_tombstones(),
            ..blank_footer()
        };
        let done = file.finish(footer, None, &extras).map_err(io_error(&path));
        done.and_then(|_| self.open_new(id))
            .inspect_err(|_| self.discard(writer, [path.clone()].into_iter()))
    }

    /// Opens a block that was just written.
    pub(super) fn open_new(&self, id: u64) -> Result<Arc<Block>, EngineError> {
        let s = &self.shared;
        let path = s.dir.join(block_name(id));
        match Block::open(&s.host.files, &s.dir, s.realm, id, 0) {
            Ok(block) => Ok(Arc::new(block)),
            Err(ReadError::Io(e)) => Err(io_error(&path)(std::io::Error::other(e))),
            Err(_) => Err(EngineError::Damaged { path }),
        }
    }

    /// Makes a change of the data set durable, shows it to readers, and unlinks what is no longer part of it.
    pub(super) fn commit(
        &self,
        writer: &mut Writer,
        applied: u64,
        add: &[Arc<Block>],
        remove: &[u64],
        heads: &[Arc<Head>],
    ) -> Result<(), EngineError> {
        let change = Change {
            add,
            remove,
            heads,
            ..Change::default()
        };
        self.commit_change(writer, applied, &change)
    }

    /// The same for all kinds of changes.
    pub(super) fn commit_change(
        &self,
        writer: &mut Writer,
        applied: u64,
        change: &Change<'_>,
    ) -> Result<(), EngineError> {
        let (add, remove) = (change.add, change.remove);
        let s = &self.shared;
        let mut next = View::clone(&s.view());
        apply_change(&mut next, change);
        // not sooner: as long as a replay would bring the later delete, nothing else cuts what the earlier one cut
        let superseded = next.superseded_tombstones(applied);
        let standing = |view: &View| {
            let mut live = view.live_tombstones();
            live.retain(|t| superseded.binary_search(&t.position).is_err());
            live
        };
        let state = State {
            generation: writer.state.generation + 1,
            epoch: s.settings.epoch,
            applied,
            next_block: s.next_block.load(Relaxed),
            blocks: next
                .blocks
                .iter()
                .map(|b| Entry::of(&b.footer, b.bytes))
                .chain(next.lost.iter().map(|l| l.entry.clone()))
                .collect(),
            // of a delete behind this position the record is still in the log
            tombstones: standing(&next),
            rollups: next.rollup_entries(),
            ..writer.state.clone()
        };
        let path = s.dir.join(NAMES[writer.slot]);
        if let Err(e) = s.host.files.write_atomic(&path, &state.encode(s.realm)) {
            // it may be there all the same: the new files stay until a later commit tells otherwise
            writer.state.generation += 1;
            let new = add.iter().chain(change.rollups.iter().map(|r| &r.block));
            writer.garbage.extend(new.map(|b| b.path.clone()));
            return Err(io_error(&path)(e));
        }
        writer.slot = 1 - writer.slot;
        writer.expiry_saved_ms = state.expiry_ms;
        let told = |t| add.iter().any(|b| b.footer.tombstones.contains(t));
        let only_here = add.is_empty()
            || state
                .tombstones
                .iter()
                .any(|t| !writer.state.tombstones.contains(t) && !told(t));
        writer.state = state;
        if only_here {
            self.write_second(writer);
        }
        let current = writer.window.as_ref().map(|w| w.id);
        let (mut dropped, mut gone, mut rollups_gone) = (Vec::new(), Vec::<Arc<Block>>::new(), Vec::<Rollup>::new());
        // before a reader can take what is gone from files, or no longer cut, for a series' newest sample
        if (!remove.is_empty() && add.is_empty()) || writer.state.tombstones.len() < next.tombstones.len() {
            self.last.forget();
        }
        s.change_view(|view| {
            gone.extend(view.blocks.iter().filter(|b| remove.contains(&b.id())).cloned());
            let lost = view.lost.iter().filter(|l| remove.contains(&l.entry.id));
            dropped.extend(lost.map(|l| s.dir.join(&l.file)));
            let before = view.rollups.clone();
            apply_change(view, change);
            let stays = |r: &Rollup| view.rollups.iter().any(|o| o.block.id() == r.block.id());
            rollups_gone.extend(before.into_iter().filter(|r| !stays(r)));
            let live = standing(view);
            if live.len() < view.tombstones.len() {
                view.tombstones = Arc::new(live);
            }
            let used: Vec<u64> = view
                .blocks
                .iter()
                .filter(|b| b.footer.level == 0)
                .map(|b| b.footer.window)
                .chain(view.lost.iter().map(|l| l.entry.window))
                .chain(current)
                .collect();
            view.windows.retain(|w| {
                let keep = used.contains(&w.id);
                if !keep {
                    dropped.push(w.path().to_owned());
                    dropped.push(w.copy_path());
                }
                keep
            });
        });
        if (!remove.is_empty() && add.is_empty()) || rollups_gone.iter().any(|r| r.alone) {
            self.changes.note_all();
        }
        for id in remove.iter().copied().chain(rollups_gone.iter().map(|r| r.block.id())) {
            s.indexes.forget(id);
            s.chunks.forget(id);
            s.found.forget(id);
        }
        gone.extend(rollups_gone.into_iter().map(|r| r.block));
        let leaving = gone.iter().map(|b| (Arc::downgrade(b), b.path.clone()));
        writer.leaving.extend(leaving);
        drop((gone, next));
        self.unlink(writer, dropped);
        Ok(())
    }

    /// What no block's footer repeats is put into the other manifest, too. That it fails is no reason to fail a commit.
    fn write_second(&self, writer: &mut Writer) {
        let s = &self.shared;
        writer.state.generation += 1;
        let path = s.dir.join(NAMES[writer.slot]);
        match s.host.files.write_atomic(&path, &writer.state.encode(s.realm)) {
            Ok(()) => writer.slot = 1 - writer.slot,
            Err(error) => tracing::warn!(path = %path.display(), %error, "the second manifest was not written"),
        }
    }

    /// Unlinks files that no manifest names; what does not go now is tried again at the next commit.
    fn unlink(&self, writer: &mut Writer, mut paths: Vec<PathBuf>) {
        paths.append(&mut writer.garbage);
        writer.leaving.retain(|(block, path)| {
            let read = block.strong_count() > 0;
            if !read {
                paths.push(path.clone());
            }
            read
        });
        let files = &self.shared.host.files;
        for path in paths {
            match files.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => writer.garbage.push(path),
                _ => {}
            }
        }
    }

    /// Unlinks files that were written and are not to be used. No commit ever named them.
    pub(super) fn discard(&self, writer: &mut Writer, paths: impl Iterator<Item = PathBuf>) {
        let files = &self.shared.host.files;
        for path in paths {
            match files.remove(&path) {
                Err(e) if e.kind() != std::io::ErrorKind::NotFound => writer.garbage.push(path),
                _ => {}
            }
        }
    }

    /// Unlinks blocks that left the data set and that nobody reads any more.
    pub fn sweep(&self) {
        let mut writer = self.lock_writer();
        // other files may be named by a commit that failed halfway: these wait for the next one
        let (going, leaving) = std::mem::take(&mut writer.leaving)
            .into_iter()
            .partition(|(block, _)| block.strong_count() == 0);
        writer.leaving = leaving;
        let going: Vec<(Weak<Block>, PathBuf)> = going;
        self.discard(&mut writer, going.into_iter().map(|(_, path)| path));
    }

    /// Removes files whose samples are all older than the retention. A file goes only when two calls in a row find it so, and
    /// only where something besides the clock says that so much time has passed: see [`Horizon`].
    pub fn expire(&self, now_ms: i64) -> Result<ExpireReport, EngineError> {
        let report = self.expire_at(now_ms);
        self.sweep();
        report
    }

    /// What time it is for expiry. Running time is counted over all starts: it is in the manifest.
    fn horizon(&self, view: &View, now_ms: i64) -> Result<Horizon, EngineError> {
        let mut writer = self.lock_writer();
        let monotonic_ms = self.monotonic_ms();
        let ran_ms = monotonic_ms.saturating_sub(std::mem::replace(&mut writer.expiry_looked_ms, monotonic_ms));
        let oldest = view.blocks.iter().filter(|b| b.footer.samples > 0);
        // nothing is older than the oldest sample
        let from = oldest.map(|b| b.footer.min_ms).min().unwrap_or(now_ms).min(now_ms);
        let passed = i64::try_from(ran_ms).unwrap_or(i64::MAX).saturating_mul(EXPIRY_SPEED);
        let sure_ms = writer.state.expiry_ms.saturating_add(passed).min(now_ms);
        writer.state.expiry_ms = writer.state.expiry_ms.max(from).max(sure_ms);
        if writer.state.expiry_ms.saturating_sub(writer.expiry_saved_ms) >= EXPIRY_SAVED_MS {
            // every other commit takes it along; here there was none for hours
            let applied = writer.state.applied;
            self.commit(&mut writer, applied, &[], &[], &[])?;
        }
        let confirmed = self.shared.settings.clock_confirmed_ms.unwrap_or(i64::MIN);
        let days = view.blocks.iter().map(|b| &b.footer).filter(|f| f.samples > 0);
        let days = days.flat_map(|f| match f.level {
            0 => [day_of(f.min_ms), day_of(f.max_ms)],
            _ => [f.day; 2],
        });
        Ok(Horizon::new(now_ms, writer.state.expiry_ms.max(confirmed), days))
    }

    fn expire_at(&self, now_ms: i64) -> Result<ExpireReport, EngineError> {
        let before = self.lock_writer().expire_seen_ms.replace(now_ms);
        let Some(before) = before else {
            return Ok(ExpireReport::default());
        };
        let view = self.shared.view();
        let horizon = self.horizon(&view, now_ms.min(before))?;
        let rollups = self.rollups_past_retention(&view, &horizon);
        let mut old = self.past_retention(&view, &horizon);
        let held = self.past_retention(&view, &Horizon::of_clock(horizon.now_ms())).len() - old.len();
        old.retain(|b| !self.awaits_rollups(&view, b, &horizon));
        let mut lost_old = self.lost_past_retention(&view, &horizon);
        keep_together(&view, &mut old, &mut lost_old, &rollups);
        let mut writer = self.lock_writer();
        // what a merge took meanwhile is in another file, which is looked at the next time
        let now = self.shared.view();
        let there = |b: &Arc<Block>| now.files().any(|o| Arc::ptr_eq(o, b));
        old.retain(there);
        let rollups: Vec<Arc<Block>> = rollups.into_iter().filter(there).collect();
        keep_together(&now, &mut old, &mut lost_old, &rollups);
        if old.is_empty() && rollups.is_empty() && lost_old.is_empty() {
            return Ok(ExpireReport {
                held,
                ..ExpireReport::default()
            });
        }
        if old.iter().any(|b| b.footer.metadata.len > 0) {
            // what metrics are must outlive the files it came with: the next seal writes it again
            writer.metadata_sealed = 0;
        }
        let ids: Vec<u64> = old.iter().map(|b| b.id()).chain(lost_old.iter().copied()).collect();
        let rollup_ids: Vec<u64> = rollups.iter().map(|b| b.id()).collect();
        let applied = writer.state.applied;
        let change = Change {
            remove: &ids,
            expired: true,
            rollups_gone: &rollup_ids,
            ..Change::default()
        };
        self.commit_change(&mut writer, applied, &change)?;
        Ok(ExpireReport {
            held,
            files: old.len() + lost_old.len() + rollups.len(),
            bytes: old.iter().chain(&rollups).map(|b| b.bytes).sum(),
        })
    }
}

/// A change of the data set.
#[derive(Default)]
pub(super) struct Change<'c> {
    pub(super) add: &'c [Arc<Block>],
    pub(super) remove: &'c [u64],
    /// Heads whose samples are in the blocks added.
    pub(super) heads: &'c [Arc<Head>],
    /// What is removed is past its retention, and rollups of it stay without it. Otherwise they go with it.
    pub(super) expired: bool,
    pub(super) rollups: &'c [Rollup],
    pub(super) rollups_gone: &'c [u64],
}

fn apply_change(view: &mut View, change: &Change<'_>) {
    view.blocks.retain(|b| !change.remove.contains(&b.id()));
    view.lost.retain(|l| !change.remove.contains(&l.entry.id));
    view.blocks.extend(change.add.iter().cloned());
    view.frozen
        .retain(|h| !change.heads.iter().any(|done| Arc::ptr_eq(done, h)));
    view.rollups.retain(|r| !change.rollups_gone.contains(&r.block.id()));
    let sourceless = |r: &Rollup| r.from.sources.iter().any(|id| change.remove.contains(id));
    if change.expired {
        for r in &mut view.rollups {
            r.alone |= sourceless(r);
        }
    } else {
        view.rollups.retain(|r| r.alone || !sourceless(r));
    }
    view.rollups.extend(change.rollups.iter().cloned());
    view.sort_blocks();
}
