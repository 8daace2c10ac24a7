//! Which files are merged next.

use std::sync::Arc;

use super::Engine;
use super::classes::ByClass;
use super::compact::{Blocks, Compactor, Plan};
use super::measure::span;
use super::view::View;
use crate::block::{Block, day_of};
use crate::compaction::{Failure, days_of};
use crate::retention::ClassSet;
use crate::tombstone::Tombstone;

/// Files of one day at which a day that is over is put into one file.
const PAST_DAY_FILES: usize = 4;
/// Deletes at which files are read and written once more for their sake alone.
const TOMBSTONES_CUT: usize = 64;
/// Deletes at which that goes before merging.
const TOMBSTONES_MAX: usize = 256;
/// Bytes of several days that are merged in one step at most, unless one day has more.
const DAYS_BYTES: u64 = 256 << 20;
/// Files that one file of very many days is taken apart into at once: each takes a look at all of it.
const SPLIT_FILES: usize = 8;

impl Engine {
    /// What the background merges next. `seen_ms`: what the clock showed when expiry was last looked at.
    pub(super) fn next_step(&self, view: &View, compactor: &Compactor, seen_ms: Option<i64>) -> Blocks {
        let s = &self.shared.settings;
        let (barriers, merge_files) = (compactor.barriers(), s.merge_files);
        let free = |blocks: &[Arc<Block>]| compactor.is_free(blocks);
        let idle = self.idle();
        if view.tombstones.len() >= TOMBSTONES_MAX {
            let cut = self.next_cut(view, compactor);
            if !cut.is_empty() {
                return cut;
            }
        }
        let level0: Blocks = blocks_of(view, |b| b.footer.level == 0);
        for mut run in runs(view, level0, barriers) {
            if run.len() >= merge_files && free(&run[..merge_files]) {
                return run[..merge_files].to_vec();
            }
            run.truncate(s.merge_inputs_max);
            if idle && run.len() >= 2 && free(&run) {
                return run;
            }
        }
        let today = day_of(self.shared.host.clock.now_ms());
        let mut days: Vec<i64> = blocks_of(view, |b| b.footer.level > 0)
            .iter()
            .map(|b| b.footer.day)
            .collect();
        days.sort_unstable();
        // days with one file need no look
        let several: Vec<i64> = days
            .chunk_by(|a, b| a == b)
            .filter(|c| c.len() > 1)
            .map(|c| c[0])
            .collect();
        for day in several {
            let of_day = blocks_of(view, |b| b.footer.level > 0 && b.footer.day == day);
            let enough = if day < today { PAST_DAY_FILES } else { merge_files };
            if !idle && of_day.len() < enough.min(merge_files) {
                continue;
            }
            let (lists, walls) = match self.by_class(&of_day, barriers) {
                ByClass::Lists(lists, walls) => (lists, walls),
                ByClass::Mixed(block) => {
                    let one = vec![block];
                    match (idle || of_day.len() >= merge_files) && free(&one) {
                        true => return one,
                        false => continue,
                    }
                }
            };
            for run in lists.into_iter().flat_map(|list| runs(view, list, &walls)) {
                let same: Option<&[Arc<Block>]> = run
                    .chunk_by(|a, b| a.footer.level == b.footer.level)
                    .find(|c| c.len() >= merge_files && free(&c[..merge_files]));
                if let Some(same) = same {
                    return same[..merge_files].to_vec();
                }
                let over = day < today && run.len() >= PAST_DAY_FILES;
                if over || (idle && run.len() >= 2) {
                    let run = comparable(run, s.merge_inputs_max);
                    if run.len() >= 2 && free(&run) {
                        return run;
                    }
                }
            }
        }
        if idle || view.tombstones.len() >= TOMBSTONES_CUT {
            let cut = self.next_cut(view, compactor);
            if !cut.is_empty() {
                return cut;
            }
        }
        let aside = |b: &Arc<Block>| !free(std::slice::from_ref(b));
        self.to_split(view, barriers, &aside, seen_ms, idle)
            .into_iter()
            .collect()
    }

    /// What is merged next on the way to one file for each day and class without anything deleted in it; nothing when there
    /// are only such, or those that cannot be merged.
    pub(super) fn next_of_all(&self, view: &View, compactor: &Compactor) -> Blocks {
        let s = &self.shared.settings;
        let free = |blocks: &[Arc<Block>]| compactor.is_free(blocks);
        let mut walls = compactor.barriers().to_vec();
        // nothing may be merged across a file that nobody knows the classes of
        let unknown = view.blocks.iter().filter(|b| self.class_set(b).is_none());
        walls.extend(unknown.map(|b| b.id()));
        let level0: Blocks = blocks_of(view, |b| b.footer.level == 0);
        for mut run in runs(view, level0, &walls) {
            run.truncate(s.merge_inputs_max);
            if free(&run) {
                return run;
            }
        }
        let set = |b: &Block| self.class_set(b).unwrap_or(ClassSet::NONE);
        for b in view.blocks.iter().filter(|b| b.footer.level > 0 && set(b).is_mixed()) {
            let one = vec![Arc::clone(b)];
            if !blocked(view, b, &walls) && free(&one) {
                return one;
            }
            walls.push(b.id());
        }
        let sorted: Blocks = blocks_of(view, |b| b.footer.level > 0);
        for run in runs(view, sorted, &walls) {
            let some = several_days(&run, set, s.merge_inputs_max, free);
            if !some.is_empty() {
                return some;
            }
        }
        self.next_cut(view, compactor)
    }

    /// A file of which deleted samples are still to be cut.
    fn next_cut(&self, view: &View, compactor: &Compactor) -> Blocks {
        let whole = blocks_of(view, |_| true);
        let one = runs(view, whole, compactor.barriers())
            .into_iter()
            .flatten()
            .find(|b| deletes_concern(&view.tombstones, b) && compactor.is_free(std::slice::from_ref(b)));
        one.into_iter().collect()
    }

    /// Takes away from a plan what would make more files of it than one merge may make. `Some`: the one input that is left has
    /// more days than that itself, and is taken apart before these.
    pub(super) fn fit(&self, plan: &mut Plan) -> Result<Option<Vec<i64>>, Failure> {
        let s = &self.shared;
        let classes = usize::from(self.retention().default_class()) + 1;
        let days_max = (s.settings.merge_outputs_max / classes).max(2);
        let level0 = plan.inputs.iter().filter(|b| b.footer.level == 0);
        if level0.map(|b| span(b)).fold(0, u64::saturating_add) <= days_max as u64 {
            return Ok(None);
        }
        let mut days = days_of(s, &plan.inputs[0])?;
        if days.len() > days_max {
            let files = days.len().div_ceil(days_max).min(SPLIT_FILES);
            let each = days.len().div_ceil(files);
            let cuts = days.into_iter().step_by(each).skip(1).collect();
            plan.inputs.truncate(1);
            return Ok(Some(cuts));
        }
        for i in 1..plan.inputs.len() {
            days.append(&mut days_of(s, &plan.inputs[i])?);
            if days.len() > days_max {
                plan.inputs.truncate(i);
                break;
            }
        }
        Ok(None)
    }
}

/// Files of days that have several, as many days as one step takes: all of a day and class, so that what is merged in one
/// step stands in one place in the order of positions.
fn several_days(
    run: &[Arc<Block>],
    set: impl Fn(&Block) -> ClassSet,
    inputs_max: usize,
    free: impl Fn(&[Arc<Block>]) -> bool,
) -> Blocks {
    let mut groups: Vec<((i64, u32), Blocks)> = Vec::new();
    let mut place = hashbrown::HashMap::new();
    for b in run {
        let key = (b.footer.day, set(b).0);
        let at = *place.entry(key).or_insert_with(|| {
            groups.push((key, Blocks::new()));
            groups.len() - 1
        });
        groups[at].1.push(Arc::clone(b));
    }
    let mut some = Blocks::new();
    for (_, mut group) in groups {
        group.truncate(inputs_max);
        if group.len() < 2 {
            continue;
        }
        let bytes: u64 = some.iter().chain(&group).map(|b| b.bytes).sum();
        if !some.is_empty() && (some.len() + group.len() > inputs_max || bytes > DAYS_BYTES) {
            break;
        }
        // what failed or gained nothing is left out, by itself and in company
        if free(&group) {
            some.append(&mut group);
        }
    }
    some.sort_by_key(|b| (b.footer.covers.to, b.footer.covers.from, b.id()));
    match free(&some) {
        true => some,
        false => first_of(&some, run, set, free),
    }
}

/// Where several days together did not do, the first one alone that does.
fn first_of(
    some: &[Arc<Block>],
    run: &[Arc<Block>],
    set: impl Fn(&Block) -> ClassSet,
    free: impl Fn(&[Arc<Block>]) -> bool,
) -> Blocks {
    let key = |b: &Arc<Block>| (b.footer.day, set(b).0);
    let groups = some.iter().map(|b| {
        let own = run
            .iter()
            .filter(|o| key(o) == key(b) && some.iter().any(|s| Arc::ptr_eq(s, o)));
        own.cloned().collect::<Blocks>()
    });
    groups.into_iter().find(|g| free(g)).unwrap_or_default()
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
    let (new, old) = (list.iter().any(|b| is_new(b)), list.iter().any(|b| !is_new(b)));
    let between = |b: &Arc<Block>| {
        // most are of the list's own kind, and there may be thousands
        if !(if is_new(b) { old } else { new }) {
            return false;
        }
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
fn comparable(mut run: Blocks, inputs_max: usize) -> Blocks {
    while run.len() >= 2 {
        let sum: u64 = run.iter().map(|b| b.bytes).sum();
        let largest = run.iter().map(|b| b.bytes).max().unwrap_or(0);
        if sum - largest >= largest / 4 {
            break;
        }
        run.remove(0);
    }
    run.truncate(inputs_max);
    run
}

fn deletes_concern(tombstones: &[Tombstone], b: &Block) -> bool {
    let concerned = |t: &Tombstone| t.concerns(b.footer.settled(), b.range());
    tombstones.iter().any(concerned)
}
