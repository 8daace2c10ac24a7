//! Files of rollups beside those of the samples: when they are made, of what, and how long they are kept. One file holds
//! one UTC day, one retention class and one resolution, and names the files that it was made of. It counts only as long as
//! all of these are part of the data set; a commit that takes one away takes the rollups with it, and they are made anew.
//! Where the samples went because they were past their retention, the rollups stand alone.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use model::{Labels, SeriesBlock, TimeRange};

use super::classes::{ClassReport, RollupReport};
use super::compact::Compactor;
use super::plan::blocked;
use super::seal::{Change, blank_footer};
use super::view::{Rollup, View};
use super::{CompactReport, Engine, EngineError, Shared, io_error};
use crate::block::{
    Block, BlockWriter, Chunk, Covers, DAY_MS, Extras, Footer, Names, ReadError, RolledFrom, block_name,
};
use crate::cache::Cache;
use crate::compaction::{Failure, Input, Job, PACE_BYTES, Pace, gather};
use crate::index::SortedSets;
use crate::merge;
use crate::retention::{Class, ClassSet, FOR_EVER, Horizon, Retention};
use crate::rollup::{Columns, NAMES, RESOLUTIONS, roll};

/// Deletes at which rollups that stand alone are freed of what was deleted; sooner while nothing comes in.
const TOMBSTONES_CUT: usize = 64;
/// So long before samples go, rollups are made to hold what came late, too.
const LAST_CALL_MS: i64 = DAY_MS;

/// So long samples are kept beyond their time when rollups that are to outlive them are not made yet.
const HOLD_MS: i64 = 3 * DAY_MS;

/// What rollups are to be made of.
struct Plan {
    day: i64,
    sources: Vec<Arc<Block>>,
    resolutions: Vec<i64>,
    /// Rollups in whose place these come.
    replaced: Vec<u64>,
}

impl Engine {
    /// Makes the rollups of one day and class that lack, or frees those of one day of what was deleted; `None` when
    /// nothing is to be done.
    pub(super) fn rollup_step(
        &self,
        compactor: &mut Compactor,
        pace: &dyn Pace,
    ) -> Result<Option<CompactReport>, EngineError> {
        let view = &self.to_merge(&self.lock_writer());
        let (made, from, alone, replaced, sources);
        if let Some(plan) = self.next_rollup(view, compactor) {
            made = self.roll_up(view, &plan, pace);
            from = RolledFrom {
                resolution: 0,
                sources: ids(&plan.sources),
            };
            (alone, replaced, sources) = (false, plan.replaced, plan.sources);
        } else if let Some(old) = self.next_cut_rollup(view, compactor) {
            made = self.cut_rollup(view, &old, pace);
            (from, alone) = (old.from.clone(), true);
            replaced = vec![old.block.id()];
            sources = vec![old.block];
        } else {
            return Ok(None);
        }
        let (written, outcome) = made;
        let mut writer = self.lock_writer();
        let now = self.shared.view();
        let there = |b: &Arc<Block>| {
            let rollups = now.rollups.iter().map(|r| &r.block);
            now.blocks.iter().chain(rollups).any(|o| Arc::ptr_eq(o, b))
        };
        let paths = written.iter().map(|(id, _)| self.shared.dir.join(block_name(*id)));
        match outcome {
            Ok(()) if sources.iter().all(there) => {}
            outcome => {
                self.discard(&mut writer, paths);
                return match outcome {
                    Ok(()) | Err(Failure::GivenUp) => Ok(None),
                    Err(Failure::Io(path, e)) => Err(io_error(&path)(e)),
                    Err(Failure::Damaged(id, e)) => {
                        if let Some(block) = sources.iter().find(|b| b.id() == id) {
                            self.shared.quarantine.block(block, &e);
                        }
                        compactor.unrolled.push(id);
                        Ok(None)
                    }
                };
            }
        }
        let mut rollups = Vec::new();
        for &(id, resolution) in &written {
            match self.open_new(id) {
                Ok(block) => rollups.push(Rollup {
                    block,
                    from: RolledFrom {
                        resolution,
                        ..from.clone()
                    },
                    alone,
                }),
                Err(e) => {
                    self.discard(&mut writer, paths);
                    return Err(e);
                }
            }
        }
        let change = Change {
            rollups: &rollups,
            rollups_gone: &replaced,
            ..Change::default()
        };
        let applied = writer.state.applied;
        self.commit_change(&mut writer, applied, &change)?;
        Ok(Some(CompactReport {
            files_in: sources.len(),
            files_out: rollups.len(),
            bytes_in: sources.iter().map(|b| b.bytes).sum(),
            bytes_out: rollups.iter().map(|r| r.block.bytes).sum(),
        }))
    }

    /// A day that ended more than a day ago, of a class that asks for rollups which are not there.
    fn next_rollup(&self, view: &View, compactor: &Compactor) -> Option<Plan> {
        let retention = self.retention();
        if !retention.rolls() {
            return None;
        }
        let now_ms = self.shared.host.clock.now_ms();
        let mut days: BTreeMap<(i64, Class), Vec<Arc<Block>>> = BTreeMap::new();
        // days and classes that a file has a part in of which rollups cannot be made; of all classes where that is not known
        let mut unfit: Vec<(i64, Option<ClassSet>)> = Vec::new();
        for block in view.blocks.iter().filter(|b| b.footer.level > 0) {
            let day = block.footer.day;
            // a day more, for what comes late
            if (day + 2).saturating_mul(DAY_MS) > now_ms {
                continue;
            }
            let set = self.class_set(block);
            let class = set.filter(|s| !s.is_mixed()).and_then(|s| s.each().next());
            match class {
                Some(class) if !blocked(view, block, compactor.barriers()) => {
                    days.entry((day, class)).or_default().push(Arc::clone(block));
                }
                _ => unfit.push((day, set)),
            }
        }
        for ((day, class), sources) in days {
            let wanted = retention.rollups(class);
            let own = ClassSet::NONE.with(class);
            let barred = |b: &Arc<Block>| compactor.unrolled.contains(&b.id());
            if unfit
                .iter()
                .any(|(d, set)| *d == day && set.is_none_or(|set| set.overlaps(own)))
                || sources.iter().any(barred)
            {
                continue;
            }
            let day_ends = (day + 1).saturating_mul(DAY_MS);
            let kept = |r: &i64| {
                wanted.of(*r).is_some_and(|keep| {
                    keep == FOR_EVER || day_ends.saturating_add(keep) > now_ms.saturating_add(DAY_MS)
                })
            };
            let resolutions: Vec<i64> = RESOLUTIONS.into_iter().filter(kept).collect();
            if resolutions.is_empty() {
                continue;
            }
            let mut there = Vec::new();
            let of = ids(&sources);
            for r in view.rollups.iter().filter(|r| r.block.footer.day == day) {
                // one without any series has no class; one whose labels cannot be read now may be of any
                let damaged = || self.shared.quarantine.names(&block_name(r.block.id()));
                let of_class = || match self.class_set(&r.block) {
                    Some(set) => set.overlaps(own),
                    None => r.alone && r.block.footer.series > 0 && !damaged(),
                };
                if r.from.shares(&of) || of_class() {
                    there.push(r);
                }
            }
            if there.iter().any(|r| r.alone) {
                // what comes for a day whose samples are gone goes in its turn
                continue;
            }
            // samples stand in for what is damaged, until it is made anew
            let names = |r: &&Rollup| self.shared.quarantine.names(&block_name(r.block.id()));
            let (damaged, there): (Vec<&Rollup>, Vec<&Rollup>) = there.into_iter().partition(names);
            let (whole, partial): (Vec<&Rollup>, Vec<&Rollup>) = there.into_iter().partition(|r| r.from.sources == of);
            let has = |list: &[&Rollup], r: &i64| list.iter().any(|t| t.from.resolution == *r);
            let hurry = retention
                .keep_ms(class)
                .is_some_and(|keep| day_ends.saturating_add(keep) < now_ms.saturating_add(LAST_CALL_MS));
            // what came late is read besides; it is worth making them anew when there is time, or none left
            let anew = !partial.is_empty() && (hurry || self.idle());
            let lacks = |r: &i64| !has(&whole, r) && (anew || !has(&partial, r));
            if !resolutions.iter().any(lacks) {
                // beside what was made in its place it is of no use
                let outdated = partial.iter().filter(|t| has(&whole, &t.from.resolution));
                let replaced: Vec<u64> = outdated.map(|t| t.block.id()).collect();
                if replaced.is_empty() {
                    continue;
                }
                return Some(Plan {
                    day,
                    sources,
                    resolutions: Vec::new(),
                    replaced,
                });
            }
            return Some(Plan {
                day,
                sources,
                resolutions: resolutions.into_iter().filter(|r| !has(&whole, r)).collect(),
                replaced: partial.iter().chain(&damaged).map(|r| r.block.id()).collect(),
            });
        }
        None
    }

    /// Rollups that stand alone and hold what was deleted.
    fn next_cut_rollup(&self, view: &View, compactor: &Compactor) -> Option<Rollup> {
        if view.tombstones.is_empty() || !(self.idle() || view.tombstones.len() >= TOMBSTONES_CUT) {
            return None;
        }
        let concerned = |r: &&Rollup| {
            let deleted = |t: &crate::tombstone::Tombstone| t.concerns(r.block.footer.settled(), r.day());
            r.alone && !compactor.unrolled.contains(&r.block.id()) && view.tombstones.iter().any(deleted)
        };
        view.rollups.iter().find(concerned).cloned()
    }

    /// Writes the rollups of a day, series by series; (id, resolution) of what was written, durable but in no manifest.
    fn roll_up(&self, view: &View, plan: &Plan, pace: &dyn Pace) -> (Vec<(u64, i64)>, Result<(), Failure>) {
        if plan.resolutions.is_empty() {
            return (Vec::new(), Ok(()));
        }
        let from = |resolution| RolledFrom {
            resolution,
            sources: ids(&plan.sources),
        };
        let targets: Vec<RolledFrom> = plan.resolutions.iter().map(|&r| from(r)).collect();
        self.write_rollups(
            view,
            &plan.sources,
            plan.day,
            targets,
            pace,
            |reader, place, outputs| {
                let mut block = SeriesBlock::default();
                reader.samples(place, &mut block)?;
                // histograms are not rolled up: whoever asks for them gets them as they are, as long as they are there
                if block.at_ms.is_empty() || !block.histogram_at_ms.is_empty() {
                    return Ok(());
                }
                for output in outputs {
                    let columns = roll(&block, output.from.resolution);
                    output.series(place, &columns, &reader.sets)?;
                }
                Ok(())
            },
        )
    }

    /// Writes rollups anew without the buckets of which something was deleted.
    fn cut_rollup(&self, view: &View, old: &Rollup, pace: &dyn Pace) -> (Vec<(u64, i64)>, Result<(), Failure>) {
        let day = old.block.footer.day;
        let inputs = [Arc::clone(&old.block)];
        self.write_rollups(
            view,
            &inputs,
            day,
            vec![old.from.clone()],
            pace,
            |reader, place, outputs| {
                let cuts = reader.cuts(reader.sets.order[place as usize]);
                if let Some(mut columns) = reader.columns(place)? {
                    columns.cut(cuts.first().map_or(&[], |c| c), old.from.resolution);
                    if !columns.is_empty() {
                        outputs[0].series(place, &columns, &reader.sets)?;
                    }
                }
                Ok(())
            },
        )
    }

    fn write_rollups(
        &self,
        view: &View,
        inputs: &[Arc<Block>],
        day: i64,
        targets: Vec<RolledFrom>,
        pace: &dyn Pace,
        mut each: impl FnMut(&Reader<'_>, u32, &mut [Output]) -> Result<(), Failure>,
    ) -> (Vec<(u64, i64)>, Result<(), Failure>) {
        let s = &self.shared;
        let mut written = Vec::new();
        let done = (|| {
            let job = Job {
                shared: s,
                view,
                inputs,
                made: Default::default(),
                pace,
            };
            let (sets, inputs, _) = gather(&job)?;
            let reader = Reader {
                shared: s,
                view,
                sets,
                inputs,
            };
            let mut outputs = Vec::new();
            for from in targets {
                let id = s.next_block.fetch_add(1, Relaxed);
                written.push((id, from.resolution));
                outputs.push(Output::create(s, id, from)?);
            }
            let mut bytes = 0;
            for place in 0..reader.sets.order.len() as u32 {
                each(&reader, place, &mut outputs)?;
                bytes += reader.bytes_of(place);
                if bytes >= PACE_BYTES && !pace.merged(std::mem::take(&mut bytes)) {
                    return Err(Failure::GivenUp);
                }
            }
            let footers = reader.inputs.iter().map(|i| &i.block.footer);
            let footer = Footer {
                level: 1,
                covers: Covers {
                    from: footers.clone().map(|f| f.covers.from).min().unwrap_or(0),
                    to: footers.clone().map(|f| f.covers.to).max().unwrap_or(0),
                },
                cut_to: {
                    let cut = view.tombstones.iter().map(|t| t.position);
                    cut.chain(footers.map(|f| f.cut_to)).max().unwrap_or(0)
                },
                day,
                tombstones: view.told_tombstones(),
                ..blank_footer()
            };
            for output in outputs {
                output.finish(footer.clone(), &reader.sets)?;
            }
            Ok(())
        })();
        s.merging.clear();
        (written, done)
    }

    /// Whether rollups that are to outlive a block's samples are still to be made of them. Not for ever: damage may be in
    /// the way.
    pub(super) fn awaits_rollups(&self, view: &View, block: &Block, horizon: &Horizon) -> bool {
        let retention = self.retention();
        if !retention.rolls() {
            return false;
        }
        let Some(set) = self.class_set(block) else { return false };
        let made = |resolution: i64| {
            let of_it = |r: &&Rollup| r.from.sources.contains(&block.id());
            let mut rollups = view.rollups.iter().filter(of_it);
            rollups.any(|r| r.from.resolution == resolution)
        };
        set.each().any(|class| {
            let Some(keep) = retention.keep_ms(class) else {
                return false;
            };
            let outlives = |r: &&i64| retention.rollups(class).of(**r).is_some_and(|rolled| rolled > keep);
            let in_time = block.footer.max_ms.saturating_add(HOLD_MS) > horizon.before(keep);
            in_time && RESOLUTIONS.iter().filter(outlives).any(|&r| !made(r))
        })
    }

    /// Blocks that cannot be opened, that rollups were made of, and all of whose samples are past their time.
    pub(super) fn lost_past_retention(&self, view: &View, horizon: &Horizon) -> Vec<u64> {
        let retention = self.retention();
        let mut old = Vec::new();
        for lost in &view.lost {
            let mut of_it = view.rollups.iter().filter(|r| r.from.sources.contains(&lost.entry.id));
            let Some(rollup) = of_it.next() else { continue };
            let set = self.class_set(&rollup.block).unwrap_or(retention.all());
            let limit = retention.all_gone_before(set, horizon);
            if limit.is_some_and(|limit| lost.entry.max_ms < limit) {
                old.push(lost.entry.id);
            }
        }
        old
    }

    /// Rollups that no class wants any more at this time.
    pub(super) fn rollups_past_retention(&self, view: &View, horizon: &Horizon) -> Vec<Arc<Block>> {
        let retention = self.retention();
        let mut old = Vec::new();
        for r in &view.rollups {
            let limit = self
                .class_set(&r.block)
                .and_then(|set| retention.rollups_gone_before(set, r.from.resolution, horizon));
            let empty = r.alone && r.block.footer.series == 0;
            if empty || limit.is_some_and(|limit| r.day().end_ms < limit) {
                old.push(Arc::clone(&r.block));
            }
        }
        old
    }
}

impl Engine {
    /// Adds to the rows of the classes what rollups there are, and which of them would go.
    pub(super) fn report_rollups(
        &self,
        view: &View,
        retention: Retention<'_>,
        horizon: &Horizon,
        rows: &mut [ClassReport],
    ) -> Result<(), EngineError> {
        for (class, row) in rows.iter_mut().enumerate() {
            let asked = retention.rollups(class as Class);
            row.rollups = RESOLUTIONS
                .iter()
                .zip(NAMES)
                .map(|(&r, name)| RollupReport {
                    name,
                    keep_ms: asked.of(r),
                    ..RollupReport::default()
                })
                .collect();
        }
        for r in &view.rollups {
            let set = self.classes_under(&r.block, retention)?;
            let class = set.each().next().map_or(retention.default_class(), |class| class);
            let row = rows.get_mut(usize::from(class));
            let place = NAMES.iter().position(|n| *n == name_of(r.from.resolution));
            let Some(one) = row.zip(place).and_then(|(row, place)| row.rollups.get_mut(place)) else {
                continue;
            };
            one.files += 1;
            one.bytes += r.block.bytes;
            one.alone_files += usize::from(r.alone);
            let limit = retention.rollups_gone_before(set, r.from.resolution, horizon);
            if limit.is_some_and(|limit| r.day().end_ms < limit) {
                one.due_files += 1;
                one.due_bytes += r.block.bytes;
            }
        }
        for row in rows {
            row.rollups.retain(|r| r.keep_ms.is_some() || r.files > 0);
        }
        Ok(())
    }
}

fn name_of(resolution: i64) -> &'static str {
    let place = RESOLUTIONS.iter().position(|&r| r == resolution);
    NAMES[place.unwrap_or(0)]
}

/// Takes out of `old`, and of what is past its time among the blocks that cannot be opened, what rollups that stay were made
/// of, unless all of it goes: they stand for all or nothing of it.
pub(super) fn keep_together(
    view: &View,
    old: &mut Vec<Arc<Block>>,
    lost_old: &mut Vec<u64>,
    rollups_gone: &[Arc<Block>],
) {
    let stays = |r: &&Rollup| !rollups_gone.iter().any(|b| Arc::ptr_eq(b, &r.block));
    let there = |id: &u64| view.blocks.iter().any(|b| b.id() == *id) || view.lost.iter().any(|l| l.entry.id == *id);
    for r in view.rollups.iter().filter(|r| !r.alone).filter(stays) {
        let goes = |id: &u64| old.iter().any(|b| b.id() == *id) || lost_old.contains(id) || !there(id);
        if !r.from.sources.iter().all(goes) {
            old.retain(|b| !r.from.sources.contains(&b.id()));
            lost_old.retain(|id| !r.from.sources.contains(id));
        }
    }
}

fn ids(blocks: &[Arc<Block>]) -> Vec<u64> {
    let mut ids: Vec<u64> = blocks.iter().map(|b| b.id()).collect();
    ids.sort_unstable();
    ids
}

/// Inputs, series by series.
struct Reader<'a> {
    shared: &'a Shared,
    view: &'a View,
    sets: SortedSets,
    inputs: Vec<Input>,
}

impl Reader<'_> {
    /// Chunks of the series at a place in each input that has any.
    fn chunks(&self, place: u32) -> Result<Vec<(usize, Vec<Chunk>)>, Failure> {
        let n = self.sets.order[place as usize] as usize;
        let mut found = Vec::new();
        for (i, input) in self.inputs.iter().enumerate() {
            let Some(&number) = input.numbers.get(n) else { continue };
            let mut own = Vec::new();
            let d = input.block.footer.directory;
            input
                .directory
                .chunks(number, &mut own)
                .map_err(|_| Failure::Damaged(input.block.id(), ReadError::Damaged("directory", d.offset, d.len)))?;
            if !own.is_empty() {
                found.push((i, own));
            }
        }
        Ok(found)
    }

    fn bytes_of(&self, place: u32) -> u64 {
        let chunks = self.chunks(place).unwrap_or_default();
        chunks.iter().flat_map(|(_, own)| own).map(|c| u64::from(c.len)).sum()
    }

    fn decode(&self, input: usize, c: &Chunk, block: &mut SeriesBlock) -> Result<(), Failure> {
        let input = &self.inputs[input];
        input
            .block
            .group(&input.directory, c.group, &self.shared.merging)
            .and_then(|group| input.block.decode(&input.directory, &group, c, TimeRange::ALL, block))
            .map_err(|e| match e {
                ReadError::Io(text) => Failure::Io(input.block.path.clone(), std::io::Error::other(text)),
                e => Failure::Damaged(input.block.id(), e),
            })
    }

    /// Ranges deleted from a series, by input.
    fn cuts(&self, n: u32) -> Vec<Vec<TimeRange>> {
        if self.view.tombstones.is_empty() {
            return Vec::new();
        }
        let (tenant, bytes) = self.sets.canonical(n);
        let labels = Labels::from_bytes(&bytes).unwrap_or_default();
        let of_input = |input: &Input| {
            let all = self.view.tombstones.iter();
            let day = TimeRange::new(
                input.block.footer.day.saturating_mul(DAY_MS),
                (input.block.footer.day + 1).saturating_mul(DAY_MS) - 1,
            );
            all.filter(|t| t.concerns(input.block.footer.settled(), day))
                .filter(|t| t.matches(tenant, &labels))
                .map(|t| t.range)
                .collect()
        };
        self.inputs.iter().map(of_input).collect()
    }

    /// The samples of a series, as a reader gets them.
    fn samples(&self, place: u32, block: &mut SeriesBlock) -> Result<(), Failure> {
        block.clear();
        let cuts = self.cuts(self.sets.order[place as usize]);
        let mut layers = Vec::new();
        for (input, chunks) in self.chunks(place)? {
            let layer = merge::begin(block);
            for c in &chunks {
                self.decode(input, c, block)?;
            }
            if let Some(ranges) = cuts.get(input).filter(|r| !r.is_empty()) {
                merge::cut(block, layer, ranges);
            }
            layers.push(layer);
        }
        merge::settle(block, &layers);
        Ok(())
    }

    /// The rollups of a series in the one input.
    fn columns(&self, place: u32) -> Result<Option<Columns>, Failure> {
        let Some((input, chunks)) = self.chunks(place)?.into_iter().next() else {
            return Ok(None);
        };
        let block = &self.inputs[input].block;
        match columns_of(block, &self.inputs[input].directory, &chunks, &self.shared.merging) {
            Ok(columns) => Ok(Some(columns)),
            Err(ReadError::Io(text)) => Err(Failure::Io(block.path.clone(), std::io::Error::other(text))),
            Err(e) => Err(Failure::Damaged(block.id(), e)),
        }
    }
}

/// Decodes the chunks of a series in a file of rollups.
pub(super) fn columns_of(
    block: &Block,
    directory: &crate::block::Directory,
    chunks: &[Chunk],
    cache: &Cache,
) -> Result<Columns, ReadError> {
    let read = |chunks: &[Chunk]| {
        let mut out = SeriesBlock::default();
        for c in chunks {
            let group = block.group(directory, c.group, cache)?;
            block.decode(directory, &group, c, TimeRange::ALL, &mut out)?;
        }
        merge::pad_starts(&mut out);
        Ok(out)
    };
    let d = block.footer.directory;
    let [counts, sums, kept @ ..] = chunks else {
        return Err(ReadError::Damaged("rollups in the directory", d.offset, d.len));
    };
    let parts = (
        read(std::slice::from_ref(counts))?,
        read(std::slice::from_ref(sums))?,
        read(kept)?,
    );
    Columns::of_blocks(parts.0, parts.1, parts.2).ok_or(ReadError::Damaged("rollups in the directory", d.offset, d.len))
}

/// A file of rollups that is being written.
struct Output {
    file: BlockWriter,
    path: std::path::PathBuf,
    from: RolledFrom,
    /// Places in the sorted order, ascending; an index there is the series' number here.
    members: Vec<u32>,
}

impl Output {
    fn create(s: &Shared, id: u64, from: RolledFrom) -> Result<Output, Failure> {
        let path = s.dir.join(block_name(id));
        let sources = from.sources.len();
        let bounds = &s.settings.bounds;
        let file = BlockWriter::create(&s.host.files, &s.dir, s.realm, id, bounds, sources)
            .map_err(|e| Failure::Io(path.clone(), e))?;
        Ok(Output {
            file,
            path,
            from,
            members: Vec::new(),
        })
    }

    fn series(&mut self, place: u32, columns: &Columns, sets: &SortedSets) -> Result<(), Failure> {
        if self.file.page_due() {
            let names = Names {
                sets,
                places: &self.members,
            };
            self.file
                .end_page(&names)
                .map_err(|e| Failure::Io(self.path.clone(), e))?;
        }
        self.members.push(place);
        self.file
            .series(self.members.len() as u32 - 1)
            .map_err(|e| Failure::Io(self.path.clone(), e))?;
        for block in columns.blocks() {
            self.file.samples(&block);
        }
        Ok(())
    }

    fn finish(self, footer: Footer, sets: &SortedSets) -> Result<(), Failure> {
        let names = Names {
            sets,
            places: &self.members,
        };
        let footer = Footer {
            rolled: Some(self.from),
            ..footer
        };
        self.file
            .finish(footer, Some(&names), &Extras::default())
            .map_err(|e| Failure::Io(self.path, e))?;
        Ok(())
    }
}
