use std::cell::Cell;
use std::sync::Arc;

use super::view::View;
use super::{CompactReport, Engine, EngineError, Writer, io_error};
use crate::block::{Block, block_name, day_of};
use crate::compaction::{Failure, Job, merge};
use crate::tombstone::Tombstone;

/// Files of one day at which a day that is over is put into one file.
const PAST_DAY_FILES: usize = 4;
/// Files merged at once at most.
const FILES_MAX: usize = 32;

type Blocks = Vec<Arc<Block>>;

impl Engine {
    /// One bounded step of compaction; `None` when there is nothing to do.
    pub fn compact_step(&self) -> Result<Option<CompactReport>, EngineError> {
        let mut writer = self.lock_writer();
        let view = self.shared.view();
        let inputs = self.next_step(&view, &writer.barriers);
        if inputs.is_empty() {
            return Ok(None);
        }
        self.run(&mut writer, &view, inputs)
    }

    /// Merges all files there are into one per day, and drops what was deleted.
    pub fn compact_all(&self) -> Result<CompactReport, EngineError> {
        let mut writer = self.lock_writer();
        let mut total = CompactReport::default();
        let mut tried: Vec<Vec<u64>> = Vec::new();
        loop {
            let view = self.shared.view();
            let rest = unmerged(&view);
            let mut runs = runs(&view, rest, &writer.barriers);
            runs.retain(|r| worth_merging(&view, r));
            let Some(mut inputs) = runs.into_iter().next() else {
                break;
            };
            inputs.truncate(FILES_MAX);
            let ids: Vec<u64> = inputs.iter().map(|b| b.id()).collect();
            if tried.contains(&ids) {
                break;
            }
            tried.push(ids);
            // no window need be kept for what is in no file
            if view.blocks.iter().filter(|b| b.footer.level == 0).count()
                == inputs.iter().filter(|b| b.footer.level == 0).count()
            {
                writer.window = None;
            }
            if let Some(r) = self.run(&mut writer, &view, inputs)? {
                total.files_in += r.files_in;
                total.files_out += r.files_out;
                total.bytes_in += r.bytes_in;
                total.bytes_out += r.bytes_out;
            }
        }
        Ok(total)
    }

    fn next_step(&self, view: &View, barriers: &[u64]) -> Blocks {
        let merge_files = self.shared.settings.merge_files;
        let idle = self.idle();
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
            for run in runs(view, of_day, barriers) {
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
        if idle {
            for block in &view.blocks {
                let cut = view
                    .tombstones
                    .iter()
                    .any(|t| t.concerns(block.footer.settled(), block.range()));
                if cut && !barriers.contains(&block.id()) {
                    return vec![Arc::clone(block)];
                }
            }
        }
        Blocks::new()
    }

    fn run(&self, writer: &mut Writer, view: &View, inputs: Blocks) -> Result<Option<CompactReport>, EngineError> {
        let first = writer.state.next_block;
        let job = Job {
            shared: &self.shared,
            view,
            inputs: &inputs,
            next_id: Cell::new(first),
        };
        let merged = merge(&job);
        self.shared.merging.clear();
        let made = first..job.next_id.get();
        writer.state.next_block = made.end;
        let names = made.clone().map(|id| self.shared.dir.join(block_name(id)));
        if merged.is_err() {
            writer.garbage.extend(names.clone());
        }
        match merged {
            Ok(()) => {}
            Err(Failure::Io(path, e)) => return Err(io_error(&path)(e)),
            Err(Failure::Damaged(id, e)) => {
                let block = inputs.iter().find(|b| b.id() == id);
                if let Some(block) = block {
                    self.shared.quarantine.block(block, &e);
                }
                // its whole parts go on being served from where they are
                writer.barriers.push(id);
                return Ok(None);
            }
        }
        let mut outputs = Blocks::new();
        for id in made {
            match self.open_new(id) {
                Ok(block) => outputs.push(block),
                Err(e) => {
                    writer.garbage.extend(names);
                    return Err(e);
                }
            }
        }
        if outputs.is_empty() && inputs.iter().any(|b| b.footer.metadata.len > 0) {
            writer.metadata_sealed = 0;
        }
        let ids: Vec<u64> = inputs.iter().map(|b| b.id()).collect();
        let applied = writer.state.applied;
        self.commit(writer, applied, &outputs, &ids, &[])?;
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

/// Cuts a list in order of positions wherever a damaged block lies in between: merging across it would put older samples
/// above its own.
fn runs(view: &View, list: Blocks, barriers: &[u64]) -> Vec<Blocks> {
    // series whose labels cannot be read now would be left out
    let nameless = |b: &Block| b.footer.level == 0 && view.window(b.footer.window).is_some_and(|w| w.unread);
    let blocked = |b: &Block| barriers.contains(&b.id()) || nameless(b);
    let walls: Vec<u64> = view
        .blocks
        .iter()
        .filter(|b| blocked(b))
        .map(|b| b.footer.covers.to)
        // one that could not be opened this time may be readable the next
        .chain(view.lost.iter().map(|l| l.entry.covers.to))
        .collect();
    let mut runs: Vec<Blocks> = Vec::new();
    for block in list.into_iter().filter(|b| !blocked(b)) {
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

/// The blocks that are not yet the only one of their day, or that deletes still concern.
fn unmerged(view: &View) -> Blocks {
    let days = |b: &Block| day_of(b.footer.min_ms)..=day_of(b.footer.max_ms);
    let alone = |b: &Block| {
        b.footer.level > 0
            && view
                .blocks
                .iter()
                .all(|o| o.id() == b.id() || !days(o).contains(&b.footer.day))
    };
    blocks_of(view, |b| {
        !alone(b)
            || view
                .tombstones
                .iter()
                .any(|t| t.concerns(b.footer.settled(), b.range()))
    })
}

/// Whether a merge gets anywhere: of files that are all single in their days it would make as many again.
fn worth_merging(view: &View, run: &[Arc<Block>]) -> bool {
    let shares_day = |i: usize| run[..i].iter().any(|o| o.footer.day == run[i].footer.day);
    (0..run.len()).any(shares_day)
        || run.iter().any(|b| {
            let cut = |t: &Tombstone| t.concerns(b.footer.settled(), b.range());
            b.footer.level == 0 || view.tombstones.iter().any(cut)
        })
}
