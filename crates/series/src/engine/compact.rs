use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use super::view::View;
use super::{CompactReport, Engine, EngineError, Writer, io_error};
use crate::block::{Block, block_name};
use crate::compaction::{Failure, FullPace, Job, Pace, merge, split};

/// Milliseconds for which a merge that failed is not tried again; doubles with each failure.
const ASIDE_MS: u64 = 5_000;
/// Milliseconds for which it is not tried again at most.
const ASIDE_MS_MAX: u64 = 30 * 60_000;
/// Milliseconds after which it is looked anew whether there is something to merge, though nothing changed.
const LOOK_MS: i64 = 10 * 60_000;

pub(super) type Blocks = Vec<Arc<Block>>;

/// What merges keep from one to the next.
#[derive(Default)]
pub(super) struct Compactor {
    /// Blocks in whose way a merge found damage.
    barriers: Vec<u64>,
    /// Blocks that rollups cannot be made of, because they are damaged.
    pub(super) unrolled: Vec<u64>,
    /// Merges that are not tried for a while, or not at all as long as their files are there.
    aside: Vec<Aside>,
    /// When there was nothing to do, what was looked at.
    quiet: Option<Quiet>,
    /// Monotonic.
    now_ms: u64,
}

struct Aside {
    inputs: Vec<u64>,
    failures: u32,
    /// Monotonic; [`u64::MAX`]: it would gain nothing.
    until_ms: u64,
}

/// All that a look for something to merge depends on.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Quiet {
    generation: u64,
    idle: bool,
    expire_seen_ms: Option<i64>,
    quarantined: usize,
    /// Of the clock, in steps.
    at: i64,
}

impl Compactor {
    pub(super) fn barriers(&self) -> &[u64] {
        &self.barriers
    }

    /// Whether these may be merged with each other now.
    pub(super) fn is_free(&self, inputs: &[Arc<Block>]) -> bool {
        let same = |a: &&Aside| a.inputs.len() == inputs.len() && inputs.iter().all(|b| a.inputs.contains(&b.id()));
        self.aside.iter().find(same).is_none_or(|a| self.now_ms >= a.until_ms)
    }

    /// What is aside although its files are gone is forgotten.
    fn look(&mut self, view: &View, now_ms: u64) {
        self.now_ms = now_ms;
        let there = |id: &u64| view.blocks.iter().any(|b| b.id() == *id);
        self.aside.retain(|a| a.inputs.iter().all(there));
    }

    /// A merge failed: it comes again later, and others in its place.
    fn failed(&mut self, inputs: Vec<u64>) {
        let place = self.aside.iter().position(|a| a.inputs == inputs);
        let failures = place.map_or(0, |p| self.aside.swap_remove(p).failures);
        let wait_ms = ASIDE_MS.saturating_mul(1 << failures.min(16)).min(ASIDE_MS_MAX);
        self.aside.push(Aside {
            inputs,
            failures: failures + 1,
            until_ms: self.now_ms.saturating_add(wait_ms),
        });
    }

    fn in_vain(&mut self, inputs: Vec<u64>) {
        self.aside.push(Aside {
            inputs,
            failures: 0,
            until_ms: u64::MAX,
        });
    }
}

/// A merge: what goes in, as it was when it began.
pub(super) struct Plan {
    pub(super) view: Arc<View>,
    pub(super) inputs: Blocks,
    /// Ids of what it was planned with.
    planned: Vec<u64>,
}

impl Plan {
    pub(super) fn new(view: Arc<View>, inputs: Blocks) -> Option<Plan> {
        let planned: Vec<u64> = inputs.iter().map(|b| b.id()).collect();
        (!planned.is_empty()).then_some(Plan { view, inputs, planned })
    }
}

/// A merge whose outputs are written, and in no manifest yet.
pub(super) struct Merged {
    plan: Plan,
    made: Vec<u64>,
    outcome: Result<(), Failure>,
}

/// What became of a merge.
pub(super) enum Ended {
    Done(CompactReport),
    /// Its outputs would be no step ahead, and are gone; it is not tried again.
    InVain,
    /// It was given up, its inputs changed meanwhile, or one of them is damaged.
    Nothing,
}

impl Engine {
    /// One bounded step of compaction; `None` when there is nothing to do.
    pub fn compact_step(&self) -> Result<Option<CompactReport>, EngineError> {
        self.compact_step_at(&FullPace)
    }

    /// The same at a pace. Seals, deletes and expiry go on meanwhile. After an error another call tries something else first.
    pub fn compact_step_at(&self, pace: &dyn Pace) -> Result<Option<CompactReport>, EngineError> {
        let mut compactor = self.lock_compactor();
        let done = loop {
            let quiet = self.quiet();
            if compactor.quiet == Some(quiet) && compactor.aside.is_empty() {
                return Ok(None);
            }
            let Some(plan) = self.begin_merge(&mut compactor) else {
                let rolled = self.rollup_step(&mut compactor, pace)?;
                compactor.quiet = rolled.is_none().then_some(quiet);
                break rolled;
            };
            compactor.quiet = None;
            let merged = self.merge(plan, pace);
            match self.end_merge(&mut compactor, merged, false)? {
                Ended::Done(report) => break Some(report),
                Ended::InVain if pace.goes_on() => {}
                Ended::InVain | Ended::Nothing => break None,
            }
        };
        self.sweep();
        Ok(done)
    }

    fn quiet(&self) -> Quiet {
        let writer = self.lock_writer();
        Quiet {
            generation: writer.state.generation,
            idle: self.idle(),
            expire_seen_ms: writer.expire_seen_ms,
            quarantined: self.shared.quarantine.list().len(),
            at: self.shared.host.clock.now_ms().div_euclid(LOOK_MS),
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
        // what failed before may go well now
        compactor.aside.retain(|a| a.until_ms == u64::MAX);
        let mut total = CompactReport::default();
        while pace.goes_on() {
            let view = self.to_merge(&self.lock_writer());
            compactor.look(&view, self.monotonic_ms());
            let inputs = self.next_of_all(&view, &compactor);
            let Some(plan) = Plan::new(view, inputs) else {
                break;
            };
            compactor.quiet = None;
            let merged = self.merge(plan, pace);
            let given_up = matches!(merged.outcome, Err(Failure::GivenUp));
            if let Ended::Done(r) = self.end_merge(&mut compactor, merged, true)? {
                total.files_in += r.files_in;
                total.files_out += r.files_out;
                total.bytes_in += r.bytes_in;
                total.bytes_out += r.bytes_out;
            }
            if given_up {
                break;
            }
        }
        while pace.goes_on()
            && let Some(r) = self.rollup_step(&mut compactor, pace)?
        {
            total.files_out += r.files_out;
            total.bytes_out += r.bytes_out;
        }
        drop(compactor);
        self.sweep();
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
    pub(super) fn begin_merge(&self, compactor: &mut Compactor) -> Option<Plan> {
        let (view, seen_ms) = {
            let writer = self.lock_writer();
            (self.to_merge(&writer), writer.expire_seen_ms)
        };
        compactor.look(&view, self.monotonic_ms());
        let inputs = self.next_step(&view, compactor, seen_ms);
        Plan::new(view, inputs)
    }

    /// Writes the outputs, durably.
    pub(super) fn merge(&self, mut plan: Plan, pace: &dyn Pace) -> Merged {
        let cuts = match self.fit(&mut plan) {
            Ok(cuts) => cuts,
            Err(failure) => {
                return Merged {
                    plan,
                    made: Vec::new(),
                    outcome: Err(failure),
                };
            }
        };
        let job = Job {
            shared: &self.shared,
            view: &plan.view,
            inputs: &plan.inputs,
            made: Default::default(),
            pace,
        };
        let outcome = match cuts {
            Some(cuts) => split(&job, &cuts),
            None => merge(&job),
        };
        self.shared.merging.clear();
        let made = job.made.into_inner();
        Merged { plan, made, outcome }
    }

    /// Puts the outputs in the place of the inputs, unless one of these is gone by now, or nothing is gained by it: a step
    /// after which merging has as much left to do as before could go on for ever. `all`: no window need be kept for what is in
    /// no file.
    pub(super) fn end_merge(&self, compactor: &mut Compactor, merged: Merged, all: bool) -> Result<Ended, EngineError> {
        let Merged { plan, made, outcome } = merged;
        let inputs = plan.inputs;
        let outputs = match &outcome {
            Ok(()) => made.iter().map(|&id| self.open_new(id)).collect(),
            Err(_) => Ok(Blocks::new()),
        };
        let left = |blocks: &[Arc<Block>]| self.measure(blocks, &plan.view.tombstones);
        let ahead = outputs.as_ref().is_ok_and(|outputs| left(outputs) < left(&inputs));
        let mut writer = self.lock_writer();
        let view = self.shared.view();
        let names = made.iter().map(|id| self.shared.dir.join(block_name(*id)));
        let there = |b: &Arc<Block>| view.blocks.iter().any(|o| Arc::ptr_eq(o, b));
        match outcome {
            Ok(()) if inputs.iter().all(there) => {}
            outcome => {
                self.discard(&mut writer, names);
                match outcome {
                    Ok(()) | Err(Failure::GivenUp) => {}
                    Err(Failure::Io(path, e)) => {
                        compactor.failed(plan.planned);
                        return Err(io_error(&path)(e));
                    }
                    Err(Failure::Damaged(id, e)) => {
                        if let Some(block) = inputs.iter().find(|b| b.id() == id) {
                            self.shared.quarantine.block(block, &e);
                        }
                        // its whole parts go on being served from where they are
                        compactor.barriers.push(id);
                    }
                }
                return Ok(Ended::Nothing);
            }
        }
        let outputs = match outputs {
            Ok(outputs) => outputs,
            Err(e) => {
                self.discard(&mut writer, names);
                compactor.failed(plan.planned);
                return Err(e);
            }
        };
        if !ahead {
            self.discard(&mut writer, names);
            self.merges_in_vain.fetch_add(1, Relaxed);
            compactor.in_vain(plan.planned);
            return Ok(Ended::InVain);
        }
        if outputs.is_empty() && inputs.iter().any(|b| b.footer.metadata.len > 0) {
            writer.metadata_sealed = 0;
        }
        let of_windows = |list: &[Arc<Block>]| list.iter().filter(|b| b.footer.level == 0).count();
        if all && of_windows(&outputs) == 0 && of_windows(&view.blocks) == of_windows(&inputs) {
            writer.window = None;
        }
        let ids: Vec<u64> = inputs.iter().map(|b| b.id()).collect();
        let applied = writer.state.applied;
        if let Err(e) = self.commit(&mut writer, applied, &outputs, &ids, &[]) {
            compactor.failed(plan.planned);
            return Err(e);
        }
        Ok(Ended::Done(CompactReport {
            files_in: inputs.len(),
            files_out: outputs.len(),
            bytes_in: inputs.iter().map(|b| b.bytes).sum(),
            bytes_out: outputs.iter().map(|b| b.bytes).sum(),
        }))
    }
}
