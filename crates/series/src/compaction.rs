//! Merging blocks: samples of one series come together, full chunks are copied as they are, small ones are written anew,
//! and what was deleted is left out. Out come one block per UTC day and retention class, each with its own index.

mod split;

use std::cell::{Cell, RefCell};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use hashbrown::HashMap;
use model::{Exemplar, Labels, SeriesBlock, TenantId, TimeRange};

use crate::block::{
    Block, BlockWriter, CHUNK_FULL, Chunk, Covers, Directory, Extras, Footer, MetadataEntry, Names, Number, ReadError,
    Section, block_name, day_of,
};
use crate::engine::{Shared, View};
use crate::head::EXEMPLARS_MAX;
use crate::index::{IndexBuilder, SortedSets};
use crate::merge;
use crate::retention::Class;
pub(crate) use split::{days_of, split};

/// Days written at once: each has a file open, and its directory in memory. Inputs are read once for so many days.
const DAYS_AT_ONCE: usize = 8;
/// Files written at once, where there are retention classes.
const FILES_AT_ONCE: usize = 32;
/// Series looked at between two looks at the pace while label sets are gathered.
const GATHER_SERIES: u32 = 4096;
/// Bytes merged between two looks at the pace.
pub(crate) const PACE_BYTES: u64 = if cfg!(test) { 4 << 10 } else { 1 << 20 };

/// Who decides how fast a merge may go.
pub trait Pace {
    /// So many bytes were read and written since the last call; it may wait. False: give up, and leave all as it was.
    fn merged(&self, bytes: u64) -> bool;

    /// Asked between steps, and before each file: false gives up, too.
    fn goes_on(&self) -> bool {
        true
    }
}

/// As fast as it goes.
pub struct FullPace;

impl Pace for FullPace {
    fn merged(&self, _bytes: u64) -> bool {
        true
    }
}

/// What is to be merged.
pub(crate) struct Job<'a> {
    pub(crate) shared: &'a Shared,
    pub(crate) view: &'a View,
    /// In order of their positions.
    pub(crate) inputs: &'a [Arc<Block>],
    /// Ids of the outputs so far.
    pub(crate) made: RefCell<Vec<u64>>,
    pub(crate) pace: &'a dyn Pace,
}

pub(crate) enum Failure {
    Io(PathBuf, io::Error),
    /// This input is damaged.
    Damaged(u64, ReadError),
    /// The pace says so.
    GivenUp,
}

/// No number.
const NONE: Number = Number::MAX;

/// One input, and where the series of the sorted sets are in it.
pub(crate) struct Input {
    pub(crate) block: Arc<Block>,
    pub(crate) directory: Arc<Directory>,
    /// Number in the input by builder's number.
    pub(crate) numbers: Vec<Number>,
}

/// Day and retention class.
type Part = (i64, Class);

struct Output {
    file: BlockWriter,
    path: PathBuf,
    /// Places in the sorted order, ascending; an index there is the series' number here.
    members: Vec<u32>,
}

struct Merger<'a> {
    job: &'a Job<'a>,
    sets: SortedSets,
    inputs: Vec<Input>,
    /// Days written now.
    days: RangeInclusive<i64>,
    /// By day and retention class.
    outputs: BTreeMap<Part, Output>,
    /// Class of the series that is being merged.
    class: Class,
    /// Written and not finished: it may be the last one.
    held: Option<(Part, Output)>,
    parts: u32,
    exemplars: Option<HashMap<(i64, u32), Vec<Exemplar>>>,
    /// Bytes since the last look at the pace.
    bytes: Cell<u64>,
}

fn read_failed(block: &Block) -> impl Fn(ReadError) -> Failure + '_ {
    move |e| match e {
        ReadError::Io(text) => Failure::Io(block.path.clone(), io::Error::other(text)),
        e => Failure::Damaged(block.id(), e),
    }
}

/// What was read of a block, when nothing of it is damaged.
fn whole<T>(block: &Block, read: Result<(T, Vec<ReadError>), ReadError>) -> Result<T, Failure> {
    let failed = read_failed(block);
    let (list, damage) = read.map_err(&failed)?;
    damage.into_iter().next().map_or(Ok(list), |e| Err(failed(e)))
}

/// Merges the inputs into new blocks, durable but in no manifest yet.
pub(crate) fn merge(job: &Job<'_>) -> Result<(), Failure> {
    let (sets, inputs, days) = gather(job)?;
    let mut merger = Merger {
        job,
        sets,
        inputs,
        days: 0..=0,
        outputs: BTreeMap::new(),
        class: 0,
        held: None,
        parts: 0,
        exemplars: None,
        bytes: Cell::new(0),
    };
    let places = merger.sets.order.len();
    let mut block = SeriesBlock::default();
    let days: Vec<i64> = days.into_iter().collect();
    let classes = usize::from(job.shared.settings.retention().default_class()) + 1;
    let at_once = FILES_AT_ONCE.min(job.shared.settings.open_files_max);
    let mut passes = days.chunks((at_once / classes).clamp(1, DAYS_AT_ONCE)).peekable();
    while let Some(pass) = passes.next() {
        merger.days = pass[0]..=pass[pass.len() - 1];
        for place in 0..places {
            merger.series(place as u32, &mut block)?;
        }
        merger.finish(passes.peek().is_none())?;
    }
    Ok(())
}

/// Collects the label sets of all inputs, and the days of their chunks.
pub(crate) fn gather(job: &Job<'_>) -> Result<(SortedSets, Vec<Input>, BTreeSet<i64>), Failure> {
    let s = job.shared;
    let mut builder = IndexBuilder::default();
    let mut inputs = Vec::new();
    let mut days = BTreeSet::new();
    let mut by_id: Vec<u32> = Vec::new();
    for block in job.inputs {
        let failed = read_failed(block);
        let directory = block.directory(&s.indexes).map_err(&failed)?;
        let index = match block.footer.level {
            0 => None,
            _ => Some(block.index(&s.indexes).map_err(&failed)?),
        };
        // what a block lacks would be left out for good; it is served from where it is
        let lost = (directory.lost > 0).then(|| directory.damage.first());
        let lost = lost.or_else(|| index.as_ref().filter(|i| i.lost > 0).map(|i| i.damage.first()));
        if let Some(e) = lost {
            let e = e.cloned().unwrap_or(ReadError::Missing);
            return Err(failed(e));
        }
        let window = job.view.window(block.footer.window);
        let mut numbers: Vec<Number> = Vec::new();
        let (mut labels, mut bad) = (Vec::new(), false);
        let (mut looked, mut given_up) = (0u32, false);
        let walked = directory.each(|number, chunks| {
            looked += 1;
            given_up |= looked.is_multiple_of(GATHER_SERIES) && !job.pace.goes_on();
            if given_up {
                return;
            }
            days.extend(chunks.iter().map(|c| day_of(c.min_ms)));
            labels.clear();
            let added = match &index {
                Some(index) => {
                    let there = index.write_labels(number, &mut labels);
                    let tenant = index.tenant_of(number).filter(|_| there);
                    tenant.map(|t| builder.add(t, &labels))
                }
                // a series whose labels were lost with the window's file cannot be named any more
                None => window.and_then(|w| w.id_of(number)).and_then(|id| {
                    if by_id.len() <= id.index() {
                        by_id.resize(id.index() + 1, NONE);
                    }
                    let known = &mut by_id[id.index()];
                    if *known == NONE && s.table.write_labels(id, &mut labels) {
                        match builder.add(s.table.tenant_of(id), &labels) {
                            Ok(n) => *known = n,
                            Err(e) => return Some(Err(e)),
                        }
                    }
                    (*known != NONE).then_some(Ok(*known))
                }),
            };
            match added {
                Some(Ok(n)) => {
                    if numbers.len() <= n as usize {
                        numbers.resize(n as usize + 1, NONE);
                    }
                    numbers[n as usize] = number;
                }
                Some(Err(_)) => bad = true,
                None => {}
            }
        });
        if given_up {
            return Err(Failure::GivenUp);
        }
        if walked.is_err() || bad {
            let d = block.footer.directory;
            return Err(Failure::Damaged(
                block.id(),
                ReadError::Damaged("directory", d.offset, d.len),
            ));
        }
        inputs.push(Input {
            block: Arc::clone(block),
            directory,
            numbers,
        });
    }
    Ok((builder.sort(), inputs, days))
}

impl Merger<'_> {
    /// The output of a day, with its series `place` begun.
    fn output(&mut self, day: i64, place: u32) -> Result<&mut Output, Failure> {
        let output = match self.outputs.entry((day, self.class)) {
            std::collections::btree_map::Entry::Occupied(e) => e.into_mut(),
            std::collections::btree_map::Entry::Vacant(e) => {
                let s = self.job.shared;
                let next = s.next_block.fetch_add(1, Relaxed);
                self.job.made.borrow_mut().push(next);
                let path = s.dir.join(block_name(next));
                let (bounds, sources) = (&s.settings.bounds, self.job.inputs.len());
                let file = BlockWriter::create(&s.host.files, &s.dir, s.realm, next, bounds, sources)
                    .map_err(|e| Failure::Io(path.clone(), e))?;
                e.insert(Output {
                    file,
                    path,
                    members: Vec::new(),
                })
            }
        };
        if output.members.last() != Some(&place) {
            if output.file.page_due() {
                let names = Names {
                    sets: &self.sets,
                    places: &output.members,
                };
                output
                    .file
                    .end_page(&names)
                    .map_err(|e| Failure::Io(output.path.clone(), e))?;
            }
            output.members.push(place);
        }
        output
            .file
            .series(output.members.len() as u32 - 1)
            .map_err(|e| Failure::Io(output.path.clone(), e))?;
        Ok(output)
    }

    fn series(&mut self, place: u32, block: &mut SeriesBlock) -> Result<(), Failure> {
        let n = self.sets.order[place as usize];
        let mut chunks: Vec<(usize, Chunk)> = Vec::new();
        let mut own = Vec::new();
        for (i, input) in self.inputs.iter().enumerate() {
            let number = input.numbers.get(n as usize).copied().unwrap_or(NONE);
            if number == NONE {
                continue;
            }
            own.clear();
            let d = input.block.footer.directory;
            input
                .directory
                .chunks(number, &mut own)
                .map_err(|_| Failure::Damaged(input.block.id(), ReadError::Damaged("directory", d.offset, d.len)))?;
            let now = own.iter().filter(|c| self.days.contains(&day_of(c.min_ms)));
            chunks.extend(now.map(|c| (i, *c)));
        }
        if chunks.is_empty() {
            return Ok(());
        }
        self.class = self.class_of(n);
        self.pace(chunks.iter().map(|(_, c)| u64::from(c.len) * 2).sum())?;
        let cuts = self.cuts(n);
        let mut in_time = chunks.clone();
        in_time.sort_by_key(|(_, c)| (c.min_ms, c.max_ms));
        let apart = in_time.windows(2).all(|w| w[0].1.max_ms < w[1].1.min_ms);
        if apart && cuts.iter().all(Vec::is_empty) {
            self.join(place, &in_time, block)
        } else {
            self.rewrite(place, &chunks, &cuts, block)
        }
    }

    fn pace(&self, bytes: u64) -> Result<(), Failure> {
        let bytes = self.bytes.get() + bytes;
        if bytes < PACE_BYTES {
            self.bytes.set(bytes);
            return Ok(());
        }
        self.bytes.set(0);
        match self.job.pace.merged(bytes) {
            true => Ok(()),
            false => Err(Failure::GivenUp),
        }
    }

    fn class_of(&self, n: u32) -> Class {
        let retention = self.job.shared.settings.retention();
        if retention.classes().is_empty() {
            return retention.default_class();
        }
        let (tenant, bytes) = self.sets.canonical(n);
        retention.class_of(tenant, &Labels::from_bytes(&bytes).unwrap_or_default())
    }

    /// Ranges deleted from a series, by input.
    fn cuts(&self, n: u32) -> Vec<Vec<TimeRange>> {
        if self.job.view.tombstones.is_empty() {
            return Vec::new();
        }
        let (tenant, bytes) = self.sets.canonical(n);
        let labels = Labels::from_bytes(&bytes).unwrap_or_default();
        let of_input = |input: &Input| {
            let all = self.job.view.tombstones.iter();
            all.filter(|t| t.concerns(input.block.footer.settled(), input.block.range()))
                .filter(|t| t.matches(tenant, &labels))
                .map(|t| t.range)
                .collect()
        };
        self.inputs.iter().map(of_input).collect()
    }

    fn decode(&self, input: usize, c: &Chunk, block: &mut SeriesBlock) -> Result<(), Failure> {
        let input = &self.inputs[input];
        let group = input
            .block
            .group(&input.directory, c.group, &self.job.shared.merging)
            .map_err(read_failed(&input.block))?;
        input
            .block
            .decode(&input.directory, &group, c, TimeRange::ALL, block)
            .map_err(read_failed(&input.block))
    }

    /// Chunks that do not overlap, in order of time.
    fn join(&mut self, place: u32, chunks: &[(usize, Chunk)], pending: &mut SeriesBlock) -> Result<(), Failure> {
        pending.clear();
        let mut day = 0;
        for (input, c) in chunks {
            let next_day = day_of(c.min_ms);
            if next_day != day || c.count >= CHUNK_FULL {
                self.flush(place, day, pending)?;
            }
            day = next_day;
            if c.count < CHUNK_FULL {
                self.decode(*input, c, pending)?;
                continue;
            }
            let from = &self.inputs[*input];
            let (block, directory) = (Arc::clone(&from.block), Arc::clone(&from.directory));
            let group = block
                .group(&directory, c.group, &self.job.shared.merging)
                .map_err(read_failed(&block))?;
            let bytes = block.chunk(&directory, &group, c).map_err(read_failed(&block))?;
            let output = self.output(day, place)?;
            output.file.copy(bytes, c.histograms, c.count, c.min_ms, c.max_ms);
        }
        self.flush(place, day, pending)
    }

    fn flush(&mut self, place: u32, day: i64, pending: &mut SeriesBlock) -> Result<(), Failure> {
        if !pending.is_empty() {
            self.output(day, place)?.file.samples(pending);
            pending.clear();
        }
        Ok(())
    }

    /// Chunks that overlap or of which something is deleted: everything is decoded and put in order.
    fn rewrite(
        &mut self,
        place: u32,
        chunks: &[(usize, Chunk)],
        cuts: &[Vec<TimeRange>],
        block: &mut SeriesBlock,
    ) -> Result<(), Failure> {
        block.clear();
        let mut layers = Vec::new();
        for of_input in chunks.chunk_by(|a, b| a.0 == b.0) {
            let layer = merge::begin(block);
            for (input, c) in of_input {
                self.decode(*input, c, block)?;
            }
            if let Some(ranges) = cuts.get(of_input[0].0).filter(|r| !r.is_empty()) {
                merge::cut(block, layer, ranges);
            }
            layers.push(layer);
        }
        merge::settle(block, &layers);
        let all = block.at_ms.iter().chain(&block.histogram_at_ms);
        let mut days: Vec<i64> = all.map(|&at| day_of(at)).collect();
        days.sort_unstable();
        days.dedup();
        for day in days {
            let of_day = merge::of_day(block, day);
            self.output(day, place)?.file.samples(&of_day);
        }
        Ok(())
    }

    /// The latest exemplars of each series and day.
    fn exemplars(&self) -> Result<HashMap<(i64, u32), Vec<Exemplar>>, Failure> {
        let mut place_of = vec![0u32; self.sets.order.len()];
        for (place, &n) in self.sets.order.iter().enumerate() {
            place_of[n as usize] = place as u32;
        }
        let mut found: HashMap<(i64, u32), Vec<Exemplar>> = HashMap::new();
        for (i, input) in self.inputs.iter().enumerate() {
            let mut list = whole(&input.block, input.block.exemplars())?;
            if list.is_empty() {
                continue;
            }
            list.sort_by_key(|(number, _)| *number);
            let (mut of, mut cuts) = (None, Vec::new());
            let by_number: HashMap<Number, u32> = input
                .numbers
                .iter()
                .enumerate()
                .filter(|(_, number)| **number != NONE)
                .map(|(n, &number)| (number, place_of[n]))
                .collect();
            for (number, exemplar) in list {
                let Some(&place) = by_number.get(&number) else { continue };
                if of != Some(place) {
                    of = Some(place);
                    let mut by_input = self.cuts(self.sets.order[place as usize]);
                    cuts = if by_input.is_empty() {
                        Vec::new()
                    } else {
                        by_input.swap_remove(i)
                    };
                }
                if cuts.iter().any(|r| r.contains(exemplar.at_ms)) {
                    continue;
                }
                let list = found.entry((day_of(exemplar.at_ms), place)).or_default();
                if list.contains(&exemplar) {
                    continue;
                }
                if list.len() == EXEMPLARS_MAX {
                    list.remove(0);
                }
                list.push(exemplar);
            }
        }
        Ok(found)
    }

    fn metadata(&self) -> Result<Vec<MetadataEntry>, Failure> {
        let mut newest: BTreeMap<(TenantId, String), MetadataEntry> = BTreeMap::new();
        for input in &self.inputs {
            for entry in whole(&input.block, input.block.metadata())? {
                let key = (entry.tenant, entry.metric.clone());
                if newest.get(&key).is_none_or(|old| old.position <= entry.position) {
                    newest.insert(key, entry);
                }
            }
        }
        Ok(newest.into_values().collect())
    }

    /// Finishes what a pass wrote but one file, which is held back until it is known whether it is the last.
    fn finish(&mut self, last: bool) -> Result<(), Failure> {
        let mut exemplars = match self.exemplars.take() {
            Some(found) => found,
            None => self.exemplars()?,
        };
        let mut metadata = if last { self.metadata()? } else { Vec::new() };
        let covers = Covers {
            from: self
                .inputs
                .iter()
                .map(|i| i.block.footer.covers.from)
                .min()
                .unwrap_or(0),
            to: self.inputs.iter().map(|i| i.block.footer.covers.to).max().unwrap_or(0),
        };
        let level = self.inputs.iter().map(|i| i.block.footer.level).max().unwrap_or(0);
        let written = std::mem::take(&mut self.outputs).into_iter();
        let mut outputs: Vec<(Part, Output)> = self.held.take().into_iter().chain(written).collect();
        if !last {
            self.held = outputs.pop();
        }
        let count = outputs.len();
        // ids were given in the order in which days came up
        for (i, ((day, _), output)) in outputs.into_iter().enumerate() {
            // a file may be small and its syncs slow
            if !self.job.pace.goes_on() {
                return Err(Failure::GivenUp);
            }
            let last_part = last && i + 1 == count;
            let part = self.parts;
            self.parts += 1;
            let mut extras = Extras::default();
            for (number, place) in output.members.iter().enumerate() {
                let list = exemplars.remove(&(day, *place)).unwrap_or_default();
                extras.exemplars.extend(list.into_iter().map(|e| (number as Number, e)));
            }
            if last_part {
                extras.metadata = std::mem::take(&mut metadata);
            }
            let names = Names {
                sets: &self.sets,
                places: &output.members,
            };
            let footer = Footer {
                id: 0,
                level: level.saturating_add(1),
                head: 0,
                content: 0,
                covers,
                cut_to: self.job.view.tombstones.iter().map(|t| t.position).max().unwrap_or(0),
                replaces: self.inputs.iter().map(|i| i.block.id()).collect(),
                part,
                last_part,
                min_ms: 0,
                max_ms: 0,
                day,
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
                tombstones: self.job.view.told_tombstones(),
                rolled: None,
            };
            output
                .file
                .finish(footer, Some(&names), &extras)
                .map_err(|e| Failure::Io(output.path.clone(), e))?;
        }
        self.exemplars = Some(exemplars);
        Ok(())
    }
}
