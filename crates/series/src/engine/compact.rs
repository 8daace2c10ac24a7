use std::sync::Arc;

use super::classes::ByClass;
use super::view::View;
use super::{CompactReport, Engine, EngineError, Writer, io_error};
use crate::block::{Block, block_name, day_of};
use crate::compaction::{Failure, FullPace, Job, Pace, merge};
use crate::retention::ClassSet;
use crate::tombstone::Tombstone;

/// Files of one day at which a day that is over is put into one file.
const PAST_DAY_FILES: usize = 4;
/// Deletes at which files are read and written once more for their sake alone.
const TOMBSTONES_CUT: usize = 64;
/// Deletes at which that goes before merging.
const TOMBSTONES_MAX: usize = 256;
/// Files merged at once at most.
const FILES_MAX: usize = 32;

type Blocks = Vec<Arc<Block>>;

/// What merges keep from one to the next.
#[derive(Default)]
pub(super) struct Compactor {
    /// Blocks in whose way a merge found damage.
    barriers: Vec<u64>,
    /// Blocks that rollups cannot be made of, because they are damaged.
    pub(super) unrolled: Vec<u64>,
}

impl Compactor {
    pub(super) fn barriers(&self) -> &[u64] {
        &self.barriers
    }
}

/// A merge: what goes in, as it was when it began.
pub(super) struct Plan {
    view: Arc<View>,
    inputs: Blocks,
}

/// A merge whose outputs are written, and in no manifest yet.
pub(super) struct Merged {
    plan: Plan,
    made: Vec<u64>,
    outcome: Result<(), Failure>,
}

impl Engine {
    /// One bounded step of compaction; `None` when there is nothing to do.
    pub fn compact_step(&self) -> Result<Option<CompactReport>, EngineError> {
        self.compact_step_at(&FullPace)
    }

    /// The same at a pace. Seals, deletes and expiry go on meanwhile.
    pub fn compact_step_at(&self, pace: &dyn Pace) -> Result<Option<CompactReport>, EngineError> {
        let mut compactor = self.lock_compactor();
        match self.begin_merge(&compactor) {
            Some(plan) => {
                let merged = self.merge(plan, pace);
                self.end_merge(&mut compactor, merged, false)
            }
            None => self.rollup_step(&mut compactor, pace),
        }
    }

    /// The view as a merge may take it. A delete that replay would bring again is left to be read through: records before
    /// it come again, too, and must find the samples that they found. The writer's lock is what keeps a seal from coming
    /// between its position and the view: files behind a delete would be merged without it.
    pub(super) fn to_merge(&self, writer: &Writer) -> Arc<View> {
        let sealed = writer.state.applied;
        let mut view = self.shared.view();
        if view.tombstones.iter().any(|t| t.position > sealed) {
            let kept = view.tombstones.iter().filter(|t| t.position <= sealed);
            let tombstones = Arc::new(kept.cloned().collect());
            Arc::make_mut(&mut view).tombstones = tombstones;
        }
        view
    }

    /// Merges all files there are into one per day, and drops what was deleted before the last seal.
    pub fn compact_all(&self) -> Result<CompactReport, EngineError> {
        self.compact_all_at(&FullPace)
    }

    /// The same at a pace; what it did until it was given up is reported.
    pub fn compact_all_at(&self, pace: &dyn Pace) -> Result<CompactReport, EngineError> {
        let mut compactor = self.lock_compactor();
        let mut total = CompactReport::default();
        let mut tried: Vec<Vec<u64>> = Vec::new();
        loop {
            let view = self.to_merge(&self.lock_writer());
            let (rest, mut walls) = self.unmerged(&view);
            walls.extend(&compactor.barriers);
            let mut runs = runs(&view, rest, &walls);
            runs.retain(|r| self.worth_merging(&view, r));
            let Some(mut inputs) = runs.into_iter().next() else {
                break;
            };
            inputs.truncate(FILES_MAX);
            let ids: Vec<u64> = inputs.iter().map(|b| b.id()).collect();
            if tried.contains(&ids) {
                break;
            }
            tried.push(ids);
            let merged = self.merge(Plan { view, inputs }, pace);
            if matches!(merged.outcome, Err(Failure::GivenUp)) {
                self.end_merge(&mut compactor, merged, true)?;
                break;
            }
            if let Some(r) = self.end_merge(&mut compactor, merged, true)? {
                total.files_in += r.files_in;
                total.files_out += r.files_out;
                total.bytes_in += r.bytes_in;
                total.bytes_out += r.bytes_out;
            }
        }
        while let Some(r) = self.rollup_step(&mut compactor, pace)? {
            total.files_out += r.files_out;
            total.bytes_out += r.bytes_out;
        }
        Ok(total)
    }

    /// Bytes of all blocks, rollups among them.
    pub fn file_bytes(&self) -> u64 {
        self.shared.view().files().map(|b| b.bytes).sum()
    }

    /// Files of level 0 that wait for a merge.
    pub fn unmerged_files(&self) -> usize {
        let view = self.shared.view();
        view.blocks.iter().filter(|b| b.footer.level == 0).count()
    }

    pub(super) fn lock_compactor(&self) -> std::sync::MutexGuard<'_, Compactor> {
        self.compactor.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What is to be merged next.
    pub(super) fn begin_merge(&self, compactor: &Compactor) -> Option<Plan> {
        let (view, seen_ms) = {
            let writer = self.lock_writer();
            (self.to_merge(&writer), writer.expire_seen_ms)
        };
        let inputs = self.next_step(&view, &compactor.barriers, seen_ms);
        (!inputs.is_empty()).then_some(Plan { view, inputs })
    }

    /// `seen_ms`: what the clock showed when expiry was last looked at.
    fn next_step(&self, view: &View, barriers: &[u64], seen_ms: Option<i64>) -> Blocks {
        let merge_files = self.shared.settings.merge_files;
        let idle = self.idle();
        if view.tombstones.len() >= TOMBSTONES_MAX {
            let cut = self.next_cut(view, barriers);
            if !cut.is_empty() {
                return cut;
            }
        }
        let level0: Blocks = blocks_of(view, |b| b.footer.level == 0);
        for run in runs(view, level0, barriers) {
            if run.len() >= merge_files {
                return run[..merge_files].to_vec();
            }
            if idle && run.len() >= 2 {
                return run;
            }
        }
        let today = day_of(self.shared.host.clock.now_ms());
        let mut days: Vec<i64> = blocks_of(view, |b| b.footer.level > 0)
            .iter()
            .map(|b| b.footer.day)
            .collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            let of_day = blocks_of(view, |b| b.footer.level > 0 && b.footer.day == day);
            if of_day.len() < 2 {
                continue;
            }
            let (lists, walls) = match self.by_class(&of_day, barriers) {
                ByClass::Lists(lists, walls) => (lists, walls),
                ByClass::Mixed(block) if idle || of_day.len() >= merge_files => return vec![block],
                ByClass::Mixed(_) => continue,
            };
            for run in lists.into_iter().flat_map(|list| runs(view, list, &walls)) {
                let same: Option<&[Arc<Block>]> = run
                    .chunk_by(|a, b| a.footer.level == b.footer.level)
                    .find(|c| c.len() >= merge_files);
                if let Some(same) = same {
                    return same[..merge_files].to_vec();
                }
                let over = day < today && run.len() >= PAST_DAY_FILES;
                if over || (idle && run.len() >= 2) {
                    let run = comparable(run);
                    if run.len() >= 2 {
                        return run;
                    }
                }
            }
        }
        if idle || view.tombstones.len() >= TOMBSTONES_CUT {
            let cut = self.next_cut(view, barriers);
            if !cut.is_empty() {
                return cut;
            }
        }
        self.to_split(view, barriers, seen_ms, idle).into_iter().collect()
    }

    /// A file of which deleted samples are still to be cut.
    fn next_cut(&self, view: &View, barriers: &[u64]) -> Blocks {
        let whole = blocks_of(view, |_| true);
        let one = runs(view, whole, barriers)
            .into_iter()
            .flatten()
            .find(|b| deletes_concern(view, b));
        one.into_iter().collect()
    }

    /// Writes the outputs, durably.
    pub(super) fn merge(&self, plan: Plan, pace: &dyn Pace) -> Merged {
        let job = Job {
            shared: &self.shared,
            view: &plan.view,
            inputs: &plan.inputs,
            made: Default::default(),
            pace,
        };
        let outcome = merge(&job);
        self.shared.merging.clear();
        let made = job.made.into_inner();
        Merged { plan, made, outcome }
    }

    /// Puts the outputs in the place of the inputs, unless one of these is gone by now. `all`: no window need be kept for
    /// what is in no file.
    pub(super) fn end_merge(
        &self,
        compactor: &mut Compactor,
        merged: Merged,
        all: bool,
    ) -> Result<Option<CompactReport>, EngineError> {
        let Merged { plan, made, outcome } = merged;
        let inputs = plan.inputs;
        let mut writer = self.lock_writer();
        let view = self.shared.view();
        let names = made.iter().map(|id| self.shared.dir.join(block_name(*id)));
        let there = |b: &Arc<Block>| view.blocks.iter().any(|o| Arc::ptr_eq(o, b));
        match outcome {
            Ok(()) if inputs.iter().all(there) => {}
            outcome => {
                Engine::discard(&mut writer, names);
                match outcome {
                    Ok(()) | Err(Failure::GivenUp) => {}
                    Err(Failure::Io(path, e)) => return Err(io_error(&path)(e)),
                    Err(Failure::Damaged(id, e)) => {
                        if let Some(block) = inputs.iter().find(|b| b.id() == id) {
                            self.shared.quarantine.block(block, &e);
                        }
                        // its whole parts go on being served from where they are
                        compactor.barriers.push(id);
                    }
                }
                return Ok(None);
            }
        }
        let mut outputs = Blocks::new();
        for &id in &made {
            match self.open_new(id) {
                Ok(block) => outputs.push(block),
                Err(e) => {
                    Engine::discard(&mut writer, names);
                    return Err(e);
                }
            }
        }
        if outputs.is_empty() && inputs.iter().any(|b| b.footer.metadata.len > 0) {
            writer.metadata_sealed = 0;
        }
        let of_windows = |list: &[Arc<Block>]| list.iter().filter(|b| b.footer.level == 0).count();
        if all && of_windows(&view.blocks) == of_windows(&inputs) {
            writer.window = None;
        }
        let ids: Vec<u64> = inputs.iter().map(|b| b.id()).collect();
        let applied = writer.state.applied;
        self.commit(&mut writer, applied, &outputs, &ids, &[])?;
        Ok(Some(CompactReport {
            files_in: inputs.len(),
            files_out: outputs.len(),
            bytes_in: inputs.iter().map(|b| b.bytes).sum(),
            bytes_out: outputs.iter().map(|b| b.bytes).sum(),
        }))
    }
}

fn blocks_of(view: &View, keep: impl Fn(&Block) -> bool) -> Blocks {
    view.blocks.iter().filter(|b| keep(b)).cloned().collect()
}

/// Whether a block is left as it is: damaged, or with series whose labels cannot be read now and would be left out.
pub(super) fn blocked(view: &View, b: &Block, barriers: &[u64]) -> bool {
    let nameless = || b.footer.level == 0 && view.window(b.footer.window).is_some_and(|w| w.unread);
    barriers.contains(&b.id()) || nameless()
}

/// Cuts a list in order of positions wherever a block that is not merged with it lies in between, because it is damaged, or
/// was merged before while an older one could not be: merging across it would put older samples above its own.
fn runs(view: &View, list: Blocks, barriers: &[u64]) -> Vec<Blocks> {
    let is_new = |b: &Block| b.footer.level == 0;
    let between = |b: &Arc<Block>| {
        let meets = |l: &Arc<Block>| is_new(l) != is_new(b) && l.range().overlaps(&b.range());
        list.iter().all(|l| l.id() != b.id()) && list.iter().any(meets)
    };
    let walls: Vec<u64> = view
        .blocks
        .iter()
        .filter(|b| blocked(view, b, barriers) || between(b))
        .map(|b| b.footer.covers.to)
        // one that could not be opened this time may be readable the next
        .chain(view.lost.iter().map(|l| l.entry.covers.to))
        .collect();
    let mut runs: Vec<Blocks> = Vec::new();
    for block in list.into_iter().filter(|b| !blocked(view, b, barriers)) {
        let to = block.footer.covers.to;
        let apart = |last: &Arc<Block>| walls.iter().any(|&w| last.footer.covers.to <= w && w <= to);
        match runs.last_mut() {
            Some(run) if !run.last().is_some_and(apart) => run.push(block),
            _ => runs.push(vec![block]),
        }
    }
    runs
}

/// Leaves out the oldest files as long as one of them outweighs the others so much that rewriting it does not pay.
fn comparable(mut run: Blocks) -> Blocks {
    while run.len() >= 2 {
        let sum: u64 = run.iter().map(|b| b.bytes).sum();
        let largest = run.iter().map(|b| b.bytes).max().unwrap_or(0);
        if sum - largest >= largest / 4 {
            break;
        }
        run.remove(0);
    }
    run.truncate(FILES_MAX);
    run
}

impl Engine {
    /// The blocks that are not yet the only one of their day and class, or that deletes still concern; and the ids of
    /// those that nothing may be merged across.
    fn unmerged(&self, view: &View) -> (Blocks, Vec<u64>) {
        let known: Vec<Option<ClassSet>> = view.blocks.iter().map(|b| self.class_set(b)).collect();
        let sets: Vec<ClassSet> = known.iter().map(|s| s.unwrap_or(ClassSet::NONE)).collect();
        let walls = view.blocks.iter().zip(&known).filter(|(_, set)| set.is_none());
        let walls = walls.map(|(b, _)| b.id()).collect();
        let days = |b: &Block| day_of(b.footer.min_ms)..=day_of(b.footer.max_ms);
        let alone = |i: usize| {
            let b = &view.blocks[i];
            let others = view.blocks.iter().zip(&sets).enumerate();
            b.footer.level > 0
                && !sets[i].is_mixed()
                && others
                    .filter(|(o, _)| *o != i)
                    .all(|(_, (o, set))| !days(o).contains(&b.footer.day) || !set.overlaps(sets[i]))
        };
        let blocks = view.blocks.iter().enumerate();
        let rest = blocks.filter(|(i, b)| !alone(*i) || deletes_concern(view, b));
        (rest.map(|(_, b)| Arc::clone(b)).collect(), walls)
    }

    /// Whether a merge gets anywhere: of files that are all single in their days and classes it would make as many again.
    fn worth_merging(&self, view: &View, run: &[Arc<Block>]) -> bool {
        let set = |b: &Block| self.class_set(b).unwrap_or(ClassSet::NONE);
        let shares = |i: usize| {
            let twin = |o: &Arc<Block>| o.footer.day == run[i].footer.day && set(o).overlaps(set(&run[i]));
            run[..i].iter().any(twin)
        };
        (0..run.len()).any(shares)
            || run
                .iter()
                .any(|b| b.footer.level == 0 || deletes_concern(view, b) || set(b).is_mixed())
    }
}

fn deletes_concern(view: &View, b: &Block) -> bool {
    let concerned = |t: &Tombstone| t.concerns(b.footer.settled(), b.range());
    view.tombstones.iter().any(concerned)
}
