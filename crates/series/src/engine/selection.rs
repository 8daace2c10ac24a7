use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use model::{
    Ahead, Budget, Histogram, Labels, Matcher, ReadStats, SeriesBlock, SeriesId, SeriesSet, SourceError, TenantId,
    TimeRange, Want,
};

use super::rolled::Rollups;
use super::stated::Stated;
use super::view::View;
use super::{Engine, Shared};
use crate::block::{Block, Chunk, Directory, NO_SERIES, Number, ReadError};
use crate::head::Mark;
use crate::merge;
use crate::tombstone::Tombstone;
use crate::window::window_name;

/// No number.
const NONE: Number = Number::MAX;

/// One block of a selection: which of its series is which entry.
pub(super) struct Source {
    pub(super) block: Arc<Block>,
    /// Number of each entry in the block; `NONE` when it is not there.
    column: Arc<Vec<Number>>,
    /// `None` when it is damaged.
    directory: OnceLock<Option<Arc<Directory>>>,
}

/// The newest sample of a series, when it need not be read.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Newest {
    Unknown,
    Known(i64, f64),
}

/// A float of a series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) at_ms: i64,
    pub(super) value: f64,
    pub(super) start_ms: i64,
}

/// The numbers of a series around a time.
#[derive(Default)]
pub(super) struct Neighbours {
    /// Ascending, from the newest before the time on.
    pub(super) samples: Vec<Sample>,
    /// There is none before them.
    pub(super) first: bool,
    /// There is none behind them.
    pub(super) last: bool,
}

/// The newest float of a series that is a number.
pub(super) enum NewestFloat {
    Known(Sample),
    Nothing,
    /// There may be a newer one than can be read; what it would be in.
    Unreadable(String),
}

/// Tries to read what fails for a reason that may pass, and the wait before the second; it doubles each time.
const TRIES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(20);

/// Series, and where their samples are.
pub(super) struct Selection {
    pub(super) shared: Arc<Shared>,
    pub(super) view: Arc<View>,
    pub(super) tenant: TenantId,
    pub(super) range: TimeRange,
    pub(super) want: Want,
    /// Ids of the entries; `NO_SERIES` for series that only files know.
    pub(super) ids: Vec<SeriesId>,
    /// Labels of the entries, or nothing when the table has them all.
    pub(super) labels: Vec<Labels>,
    /// What may be seen of the active head.
    pub(super) marks: Vec<Mark>,
    pub(super) newest: Vec<Newest>,
    pub(super) sources: Vec<Source>,
    pub(super) rollups: Rollups,
    /// Where statistics of chunks may answer.
    pub(super) stated: Option<Stated>,
    pub(super) tombstones: Vec<Tombstone>,
    pub(super) matchers: Vec<Matcher>,
    /// Files with samples shortly before the range, once they were needed.
    pub(super) earlier: OnceLock<Vec<Source>>,
    pub(super) warnings: Mutex<BTreeSet<String>>,
    pub(super) reads: Reads,
}

/// What was read so far; added to once a series.
#[derive(Default)]
pub(super) struct Reads {
    chunks: AtomicU64,
    chunk_bytes: AtomicU64,
    chunk_samples: AtomicU64,
    head_samples: AtomicU64,
    pub(super) rollup_samples: AtomicU64,
    pub(super) rolled_samples: AtomicU64,
    pub(super) stated_chunks: AtomicU64,
    pub(super) stated_samples: AtomicU64,
}

impl Reads {
    /// Chunks that were decoded for what is not counted as samples of chunks.
    pub(super) fn count(&self, chunks: &[Chunk]) {
        self.chunks.fetch_add(chunks.len() as u64, Relaxed);
        let bytes = chunks.iter().map(|c| u64::from(c.len)).sum();
        self.chunk_bytes.fetch_add(bytes, Relaxed);
    }
}

impl Source {
    pub(super) fn new(block: Arc<Block>, column: Arc<Vec<Number>>) -> Self {
        Source {
            block,
            column,
            directory: OnceLock::new(),
        }
    }

    pub(super) fn id(&self) -> u64 {
        self.block.id()
    }

    pub(super) fn range(&self) -> TimeRange {
        self.block.range()
    }

    /// The number of an entry in this block.
    pub(super) fn number(&self, index: usize) -> Number {
        self.column.get(index).copied().unwrap_or(NONE)
    }

    /// Gives `kept` what `twin` has here.
    pub(super) fn join(&mut self, kept: usize, twin: usize) {
        let number = self.number(twin);
        if number != NONE && self.number(kept) == NONE {
            let column = Arc::make_mut(&mut self.column);
            column.resize(column.len().max(kept + 1), NONE);
            column[kept] = number;
        }
    }

    /// Puts entries into a new order; columns that blocks share stay shared.
    pub(super) fn permute<'s>(sources: impl Iterator<Item = &'s mut Source>, order: &[u32]) {
        type Column = Arc<Vec<Number>>;
        let mut done: Vec<(Column, Column)> = Vec::new();
        for source in sources {
            source.column = match done.iter().find(|(old, _)| Arc::ptr_eq(old, &source.column)) {
                Some((_, new)) => Arc::clone(new),
                None => {
                    let new = Arc::new(order.iter().map(|&i| source.number(i as usize)).collect());
                    done.push((Arc::clone(&source.column), Arc::clone(&new)));
                    new
                }
            };
        }
    }

    /// Later positions win.
    pub(super) fn priority(&self) -> (u64, u64, u64) {
        let f = &self.block.footer;
        (f.covers.to, f.covers.from, f.id)
    }

    /// Deletes up to this position are carried out in the block.
    pub(super) fn settled(&self) -> u64 {
        self.block.footer.settled()
    }

    /// Exemplars of the selection's entries, without those that are damaged.
    pub(super) fn exemplars(&self, shared: &Shared) -> Vec<(usize, model::Exemplar)> {
        if self.block.footer.exemplars.len == 0 {
            return Vec::new();
        }
        let (list, damage) = self.block.exemplars().unwrap_or_else(|e| (Vec::new(), vec![e]));
        for e in &damage {
            shared.quarantine.block(&self.block, e);
        }
        let entry: hashbrown::HashMap<Number, usize> = self.column.iter().enumerate().map(|(i, &n)| (n, i)).collect();
        list.into_iter()
            .filter_map(|(n, e)| Some((*entry.get(&n).filter(|_| n != NONE)?, e)))
            .collect()
    }
}

impl Selection {
    /// Series that the table knows, in any order, for looking whether they have samples.
    pub(super) fn plain(
        shared: &Arc<Shared>,
        tenant: TenantId,
        range: TimeRange,
        ids: Vec<SeriesId>,
        marks: Vec<Mark>,
        sources: Vec<Source>,
        view: Arc<View>,
    ) -> Self {
        Selection {
            shared: Arc::clone(shared),
            tenant,
            range,
            want: Want::Labels,
            ids,
            labels: Vec::new(),
            marks,
            newest: Vec::new(),
            sources,
            rollups: Rollups::default(),
            stated: None,
            tombstones: Vec::new(),
            matchers: Vec::new(),
            earlier: OnceLock::new(),
            warnings: Mutex::default(),
            reads: Reads::default(),
            view,
        }
    }

    fn warn(&self, text: String) {
        self.warnings.lock().unwrap_or_else(|e| e.into_inner()).insert(text);
    }

    /// What to do about a part that cannot be read: damage is passed over and said, other errors end the read.
    pub(super) fn failed(&self, block: &Block, error: &ReadError) -> Result<(), SourceError> {
        if let ReadError::Io(e) = error {
            return Err(SourceError::Io(format!("{}: {e}", block.path.display())));
        }
        self.warn(self.shared.quarantine.block(block, error));
        Ok(())
    }

    pub(super) fn directory(&self, source: &Source) -> Result<Option<Arc<Directory>>, SourceError> {
        if let Some(found) = source.directory.get() {
            return Ok(found.clone());
        }
        let found = match self.shared.directory(&source.block) {
            Ok((d, lost)) => {
                lost.into_iter().for_each(|text| self.warn(text));
                Some(d)
            }
            Err(e) => {
                self.failed(&source.block, &e)?;
                None
            }
        };
        Ok(source.directory.get_or_init(|| found).clone())
    }

    /// Calls `each` with the chunks of an entry that overlap the range, block by block in rising priority.
    pub(super) fn chunks(
        &self,
        index: usize,
        range: TimeRange,
        each: impl FnMut(&Block, &Directory, &[Chunk]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        self.chunks_of(&self.sources, index, range, each)
    }

    pub(super) fn chunks_of<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a Source>,
        index: usize,
        range: TimeRange,
        mut each: impl FnMut(&Block, &Directory, &[Chunk]) -> Result<(), SourceError>,
    ) -> Result<(), SourceError> {
        let mut chunks = Vec::new();
        for source in sources {
            let number = source.number(index);
            if number == NONE || !source.block.range().overlaps(&range) {
                continue;
            }
            let Some(directory) = self.directory(source)? else {
                continue;
            };
            chunks.clear();
            if directory.chunks(number, &mut chunks).is_err() {
                let s = source.block.footer.directory;
                self.failed(&source.block, &ReadError::Damaged("directory", s.offset, s.len))?;
            }
            chunks.retain(|c| c.range().overlaps(&range));
            if !chunks.is_empty() {
                each(&source.block, &directory, &chunks)?;
            }
        }
        Ok(())
    }

    /// Replaces the block by an entry's samples within the range.
    pub(super) fn read_range(
        &self,
        index: usize,
        range: TimeRange,
        block: &mut SeriesBlock,
        budget: &Budget,
    ) -> Result<(), SourceError> {
        self.read_sources(&self.sources, &[], index, range, block, budget)
            .map(drop)
    }

    /// The same from some of the sources, without some of their chunks (by file, in the order of reading); the samples that
    /// were counted.
    pub(super) fn read_sources<'a>(
        &self,
        sources: impl IntoIterator<Item = &'a Source>,
        without: &[(u64, Chunk)],
        index: usize,
        range: TimeRange,
        block: &mut SeriesBlock,
        budget: &Budget,
    ) -> Result<u64, SourceError> {
        block.clear();
        let cuts = self.cuts(index);
        let mut layers = Vec::new();
        let (mut decoded, mut bytes, mut samples) = (0, 0, 0);
        // whether the bounds of chunks tell that all is in order already
        let (mut in_order, mut newest) = (true, i64::MIN);
        let mut without = without.iter().peekable();
        self.chunks_of(sources, index, range, |file, directory, chunks| {
            let layer = merge::begin(block);
            layers.push(layer);
            for c in chunks {
                if without.next_if(|w| (w.0, &w.1) == (file.id(), c)).is_some() {
                    continue;
                }
                in_order &= !c.histograms && c.min_ms > newest;
                newest = c.max_ms;
                (decoded, bytes) = (decoded + 1, bytes + u64::from(c.len));
                let before = block.at_ms.len();
                let done = file
                    .group(directory, c.group, &self.shared.chunks)
                    .and_then(|group| file.decode(directory, &group, c, range, block));
                if let Err(e) = done {
                    self.failed(file, &e)?;
                }
                let read = if c.histograms {
                    u64::from(c.count)
                } else {
                    (block.at_ms.len() - before) as u64
                };
                samples += read;
                budget.samples(read)?;
            }
            cut(block, layer, &cuts, file.footer.settled());
            Ok(())
        })?;
        if decoded > 0 {
            self.reads.chunks.fetch_add(decoded, Relaxed);
            self.reads.chunk_bytes.fetch_add(bytes, Relaxed);
            self.reads.chunk_samples.fetch_add(samples, Relaxed);
        }
        let id = self.ids[index];
        if id != NO_SERIES {
            let before = block.at_ms.len() + block.histogram_at_ms.len();
            for head in &self.view.frozen {
                let layer = merge::begin(block);
                layers.push(layer);
                head.read(id, Mark::ALL, range, block);
                in_order &= merge::follows(block, layer);
                cut(block, layer, &cuts, head.to());
            }
            let mark = self.marks.get(index).copied().unwrap_or(Mark::ALL);
            if !mark.is_empty() {
                let layer = merge::begin(block);
                layers.push(layer);
                self.view.active.read(id, mark, range, block);
                in_order &= merge::follows(block, layer);
            }
            let of_heads = (block.at_ms.len() + block.histogram_at_ms.len()).saturating_sub(before);
            if of_heads > 0 {
                budget.samples(of_heads as u64)?;
                samples += of_heads as u64;
                self.reads.head_samples.fetch_add(of_heads as u64, Relaxed);
            }
        }
        if in_order {
            merge::pad_starts(block);
        } else {
            merge::settle(block, &layers);
        }
        Ok(samples)
    }

    /// The newest sample of an entry before the range, when it is a histogram.
    fn histogram_before(&self, index: usize, budget: &Budget) -> Result<Option<Arc<Histogram>>, SourceError> {
        let start_ms = self.range.start_ms;
        let first_ms = start_ms.saturating_sub(model::HINT_REACH_MS);
        let earlier = self.earlier.get_or_init(|| self.find_earlier(first_ms));
        let mut sources: Vec<&Source> = self.sources.iter().chain(earlier).collect();
        sources.sort_by_key(|s| s.priority());
        let mut block = SeriesBlock::default();
        let mut end_ms = start_ms.saturating_sub(1);
        while first_ms <= end_ms && end_ms < start_ms {
            // every chunk has a sample at its beginning: nothing older than the newest of these matters, unless that is
            // deleted
            let mut from = first_ms;
            let before = TimeRange::new(first_ms, end_ms);
            self.chunks_of(sources.iter().copied(), index, before, |_, _, chunks| {
                from = chunks.iter().map(|c| c.min_ms).fold(from, i64::max);
                Ok(())
            })?;
            let range = TimeRange::new(from, end_ms);
            self.read_sources(sources.iter().copied(), &[], index, range, &mut block, budget)?;
            if !block.is_empty() {
                let newer_float = block.at_ms.last() > block.histogram_at_ms.last();
                return Ok(block.histograms.pop().filter(|_| !newer_float));
            }
            end_ms = from.saturating_sub(1);
        }
        Ok(None)
    }

    /// Files that end before the range and not before `first_ms`. One that cannot be read now is left out: a hint may be
    /// unknown.
    fn find_earlier(&self, first_ms: i64) -> Vec<Source> {
        let before = |b: &Block| b.footer.max_ms < self.range.start_ms && b.footer.max_ms >= first_ms;
        let mut sources = self.view.sources_of_windows(&self.ids, before);
        let above = self.view.blocks.iter().filter(|b| b.footer.level > 0 && before(b));
        let mut entries: Option<hashbrown::HashMap<Labels, usize>> = None;
        for block in above {
            let Ok(index) = block.index(&self.shared.indexes) else {
                continue;
            };
            let entries = entries.get_or_insert_with(|| (0..self.ids.len()).map(|i| (self.labels(i), i)).collect());
            let mut column = vec![NONE; self.ids.len()];
            for &number in &self.shared.select_in(block, &index, self.tenant, &self.matchers).list {
                if let Some(&entry) = entries.get(&index.labels(number)) {
                    column[entry] = number;
                }
            }
            sources.push(Source::new(Arc::clone(block), Arc::new(column)));
        }
        sources
    }

    /// Bytes of a selection of so many series from so many blocks that do not share their numbers.
    pub(super) fn bytes_of(series: usize, columns: usize) -> usize {
        series * (size_of::<SeriesId>() + size_of::<Mark>() + size_of::<Newest>() + columns * size_of::<Number>())
    }

    /// Samples of an entry's chunks that reading it surely counts; none where they are damaged.
    fn chunk_samples(&self, index: usize, chunks: &mut Vec<Chunk>) -> u64 {
        let mut samples = 0;
        for source in self.sources.iter().filter(|s| s.block.range().overlaps(&self.range)) {
            let number = source.number(index);
            if number == NONE {
                continue;
            }
            let Ok(Some(directory)) = self.directory(source) else {
                continue;
            };
            chunks.clear();
            let _ = directory.chunks(number, chunks);
            let range = &self.range;
            // of floats, only those within the range count; statistics may answer for some
            let counts = |c: &&Chunk| match c.histograms {
                _ if self.stated.as_ref().is_some_and(|s| s.may_state(c)) => false,
                true => c.range().overlaps(range),
                false => range.contains(c.min_ms) && range.contains(c.max_ms),
            };
            samples += chunks.iter().filter(counts).map(|c| u64::from(c.count)).sum::<u64>();
        }
        samples
    }

    /// Tombstones that match an entry's labels.
    pub(super) fn cuts(&self, index: usize) -> Vec<&Tombstone> {
        if self.tombstones.is_empty() {
            return Vec::new();
        }
        let labels = self.labels(index);
        self.tombstones
            .iter()
            .filter(|t| t.matches(self.tenant, &labels))
            .collect()
    }

    /// Whether what an entry has at a time in a source that is settled up to a position was deleted.
    pub(super) fn deleted(&self, index: usize, settled: u64, at_ms: i64) -> bool {
        let hit = |t: &&Tombstone| settled < t.position && t.range.contains(at_ms);
        self.cuts(index).iter().any(hit)
    }

    /// Whether an entry has (or, as far as chunk bounds tell, may have) samples in the range.
    pub(super) fn touches(&self, index: usize, budget: &Budget) -> Result<bool, SourceError> {
        budget.check()?;
        let mut found = false;
        let plain = self.tombstones.is_empty();
        if self.rollups.alone_hold(index) {
            let mut block = SeriesBlock::default();
            self.read_rolled(index, &mut block, budget)?;
            return Ok(!block.is_empty());
        }
        for source in &self.sources {
            self.chunks_of([source], index, self.range, |_, _, _| {
                found = true;
                Ok(())
            })?;
            if found {
                break;
            }
        }
        if found && plain {
            return Ok(true);
        }
        let mut block = SeriesBlock::default();
        if found {
            self.read_range(index, self.range, &mut block, budget)?;
            return Ok(!block.is_empty());
        }
        let id = self.ids[index];
        if id == NO_SERIES {
            return Ok(false);
        }
        for head in &self.view.frozen {
            head.read(id, Mark::ALL, self.range, &mut block);
        }
        self.view.active.read(
            id,
            self.marks.get(index).copied().unwrap_or(Mark::ALL),
            self.range,
            &mut block,
        );
        if !plain && !block.is_empty() {
            self.read_range(index, self.range, &mut block, budget)?;
        }
        Ok(!block.is_empty())
    }

    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings
            .lock()
            .unwrap_or_else(|e| e.into_inner())
            .iter()
            .cloned()
            .collect()
    }
}

fn cut(block: &mut SeriesBlock, layer: merge::Layer, cuts: &[&Tombstone], to: u64) {
    let ranges: Vec<TimeRange> = cuts.iter().filter(|t| to < t.position).map(|t| t.range).collect();
    if !ranges.is_empty() {
        merge::cut(block, layer, &ranges);
    }
}

impl SeriesSet for Selection {
    fn len(&self) -> usize {
        self.ids.len()
    }

    fn labels(&self, index: usize) -> Labels {
        match self.labels.get(index) {
            Some(l) => l.clone(),
            None => self.shared.table.labels(self.ids[index]),
        }
    }

    fn read(&self, index: usize, block: &mut SeriesBlock, budget: &Budget) -> Result<(), SourceError> {
        if let Some(Newest::Known(at, value)) = self.newest.get(index)
            && *at <= self.range.end_ms
        {
            block.clear();
            budget.samples(1)?;
            if self.range.contains(*at) {
                merge::push_float(block, *at, *value, 0);
            }
            return Ok(());
        }
        self.read_rolled(index, block, budget)?;
        if !block.histograms.is_empty() {
            let before = match block.hint_needs_previous() {
                true => self.histogram_before(index, budget)?,
                false => None,
            };
            block.set_hints(before);
        }
        if self.want == Want::Last {
            keep_last(block);
        }
        Ok(())
    }

    fn reads(&self) -> ReadStats {
        let out_of_time = |b: &&Arc<Block>| !b.range().overlaps(&self.range);
        let without_series = |s: &&Source| s.column.iter().all(|&n| n == NONE);
        ReadStats {
            files: self.view.blocks.len() as u64,
            files_out_of_time: self.view.blocks.iter().filter(out_of_time).count() as u64,
            files_without_series: self.sources.iter().filter(without_series).count() as u64,
            chunks: self.reads.chunks.load(Relaxed),
            chunk_bytes: self.reads.chunk_bytes.load(Relaxed),
            chunk_samples: self.reads.chunk_samples.load(Relaxed),
            head_samples: self.reads.head_samples.load(Relaxed),
            rollup_samples: self.reads.rollup_samples.load(Relaxed),
            rolled_samples: self.reads.rolled_samples.load(Relaxed),
            stated_chunks: self.reads.stated_chunks.load(Relaxed),
            stated_samples: self.reads.stated_samples.load(Relaxed),
        }
    }

    fn samples_ahead(&self, budget: &Budget) -> Result<Ahead, SourceError> {
        let left = budget.samples_left();
        let in_files: u64 = self.sources.iter().map(|s| s.block.footer.samples).sum();
        // what rollups spare is not known ahead
        if self.want == Want::Labels || in_files <= left || self.rollups.columns() > 0 {
            return Ok(Ahead::default());
        }
        let (mut ahead, mut chunks) = (Ahead::default(), Vec::new());
        for index in 0..self.len() {
            if index % 1024 == 0 {
                budget.check()?;
            }
            ahead.series += 1;
            ahead.samples += match self.newest.get(index) {
                Some(Newest::Known(at, _)) if *at <= self.range.end_ms => 1,
                _ => self.chunk_samples(index, &mut chunks),
            };
            if ahead.samples > left {
                break;
            }
        }
        Ok(ahead)
    }

    fn held_bytes(&self) -> u64 {
        let mut columns: Vec<*const Vec<Number>> = self.sources.iter().map(|s| Arc::as_ptr(&s.column)).collect();
        columns.sort_unstable();
        columns.dedup();
        let labels = self.labels.len() * size_of::<Labels>();
        (Self::bytes_of(self.len(), columns.len() + self.rollups.columns()) + labels) as u64
    }

    fn warnings(&self) -> Vec<String> {
        self.take_warnings()
    }

    fn infos(&self) -> Vec<String> {
        self.rollups_told()
    }
}

/// Leaves the newest sample only.
fn keep_last(block: &mut SeriesBlock) {
    let float = block.at_ms.last().copied();
    let histogram = block.histogram_at_ms.last().copied();
    let floats = if float > histogram { 1 } else { 0 };
    let histograms = if histogram > float { 1 } else { 0 };
    fn tail<T>(v: &mut Vec<T>, n: usize) {
        v.drain(..v.len().saturating_sub(n));
    }
    tail(&mut block.at_ms, floats);
    tail(&mut block.values, floats);
    tail(&mut block.start_ms, floats);
    tail(&mut block.histogram_at_ms, histograms);
    tail(&mut block.histograms, histograms);
    tail(&mut block.histogram_start_ms, histograms);
}

impl View {
    /// The level 0 blocks that are wanted, with the numbers that their windows gave these series.
    pub(super) fn sources_of_windows(&self, ids: &[SeriesId], wanted: impl Fn(&Block) -> bool) -> Vec<Source> {
        let mut columns: Vec<(u64, Arc<Vec<Number>>)> = Vec::new();
        let mut sources = Vec::new();
        for block in self.blocks.iter().filter(|b| b.footer.level == 0) {
            if !wanted(block) {
                continue;
            }
            let id = block.footer.window;
            let column = match columns.iter().find(|c| c.0 == id) {
                Some((_, c)) => Arc::clone(c),
                None => {
                    let mut column = vec![NONE; ids.len()];
                    if let Some(window) = self.window(id) {
                        window.numbers_of(ids, |i, n| column[i] = n);
                    }
                    let column = Arc::new(column);
                    columns.push((id, Arc::clone(&column)));
                    column
                }
            };
            sources.push(Source::new(Arc::clone(block), column));
        }
        sources
    }
}

impl Engine {
    /// The newest float of a series anywhere that is a number: stale markers are passed over. What fails for a reason that
    /// may pass is waited for, within a bound.
    pub(super) fn newest_float(&self, id: SeriesId) -> NewestFloat {
        self.patiently(|| self.find_newest_float(id))
            .unwrap_or_else(NewestFloat::Unreadable)
    }

    /// The newest number before a time, and those from that time on: all, or more than `bound`. An error says what cannot
    /// be read.
    pub(super) fn neighbours(&self, id: SeriesId, at_ms: i64, bound: usize) -> Result<Neighbours, String> {
        self.patiently(|| self.find_neighbours(id, at_ms, bound))?
    }

    fn patiently<T>(&self, find: impl Fn() -> Result<T, SourceError>) -> Result<T, String> {
        let mut wait = FIRST_WAIT;
        for _ in 1..TRIES {
            match find() {
                Ok(found) => return Ok(found),
                Err(_) => self.shared.host.clock.sleep(wait),
            }
            wait *= 2;
        }
        find().map_err(|e| e.to_string())
    }

    fn find_neighbours(
        &self,
        id: SeriesId,
        at_ms: i64,
        bound: usize,
    ) -> Result<Result<Neighbours, String>, SourceError> {
        let (selection, doubt) = self.all_of(id)?;
        let mut begins = Vec::new();
        selection.chunks(0, TimeRange::ALL, |_, _, chunks| {
            begins.extend(chunks.iter().filter(|c| !c.histograms).map(|c| c.min_ms));
            Ok(())
        })?;
        begins.sort_unstable();
        begins.dedup();
        let later = begins.partition_point(|&b| b < at_ms);
        let budget = Budget::unlimited();
        let mut block = SeriesBlock::default();
        let mut found = Neighbours::default();
        let mut end_ms = at_ms.saturating_sub(1);
        for &from in begins[..later].iter().rev().chain([&i64::MIN]) {
            if from <= end_ms {
                selection.read_range(0, TimeRange::new(from, end_ms), &mut block, &budget)?;
                if let Some(newest) = numbers(&block).next_back() {
                    found.samples.push(newest);
                    break;
                }
                end_ms = from.saturating_sub(1);
            }
        }
        found.first = found.samples.is_empty();
        let mut from = at_ms;
        for next in begins[later..].iter().map(Some).chain([None]) {
            let to = next.map_or(i64::MAX, |next| next - 1);
            if from <= to {
                selection.read_range(0, TimeRange::new(from, to), &mut block, &budget)?;
                found.samples.extend(numbers(&block));
                from = to.saturating_add(1);
            }
            found.last = next.is_none();
            if found.samples.len() > bound + 1 {
                break;
            }
        }
        if let Some(what) = selection.take_warnings().into_iter().next() {
            return Ok(Err(what));
        }
        let before_ms = found.samples.first().map_or(i64::MIN, |s| s.at_ms.min(at_ms));
        Ok(match doubt {
            Some((until_ms, what)) if found.first || until_ms > before_ms => Err(what),
            _ => Ok(found),
        })
    }

    /// All of one series, wherever it is; and until when there may be samples of it that cannot be read, and what these
    /// are in.
    fn all_of(&self, id: SeriesId) -> Result<(Selection, Option<(i64, String)>), SourceError> {
        let view = self.shared.view();
        let mut doubt: Option<(i64, String)> = None;
        let mut doubted = |until_ms: i64, what: String| {
            if doubt.as_ref().is_none_or(|d| d.0 < until_ms) {
                doubt = Some((until_ms, what));
            }
        };
        for lost in &view.lost {
            doubted(lost.entry.max_ms, format!("{}: {}", lost.file, lost.detail));
        }
        for block in view.blocks.iter().filter(|b| b.footer.level == 0) {
            let window = view.window(block.footer.window);
            if window.is_none_or(|w| w.incomplete) {
                let name = window_name(block.footer.window);
                doubted(block.footer.max_ms, format!("{name}: labels cannot be read"));
            }
        }
        let labels = self.shared.table.labels(id);
        let tenant = self.shared.table.tenant_of(id);
        let matchers: Vec<model::Matcher> = labels.iter().map(|(n, v)| model::Matcher::equal(n, v)).collect();
        let mut sources = view.sources_of_windows(&[id], |_| true);
        for block in view.blocks.iter().filter(|b| b.footer.level > 0) {
            let index = match self.shared.index(block) {
                Ok((index, lost)) => {
                    if let Some(what) = lost {
                        doubted(block.footer.max_ms, what);
                    }
                    index
                }
                Err(ReadError::Io(e)) => return Err(SourceError::Io(format!("{}: {e}", block.path.display()))),
                Err(e) => {
                    doubted(block.footer.max_ms, self.shared.quarantine.block(block, &e));
                    continue;
                }
            };
            let numbers = index.select(tenant, &matchers);
            let same = numbers.into_iter().find(|&n| index.labels(n) == labels);
            if let Some(number) = same {
                sources.push(Source::new(Arc::clone(block), Arc::new(vec![number])));
            }
        }
        sources.sort_by_key(Source::priority);
        let selection = Selection {
            shared: Arc::clone(&self.shared),
            tenant,
            range: TimeRange::ALL,
            want: Want::Samples,
            ids: vec![id],
            labels: vec![labels],
            marks: vec![Mark::ALL],
            newest: Vec::new(),
            rollups: Rollups::default(),
            stated: None,
            tombstones: view.tombstones.to_vec(),
            matchers,
            earlier: OnceLock::new(),
            warnings: Mutex::default(),
            reads: Reads::default(),
            sources,
            view,
        };
        Ok((selection, doubt))
    }

    fn find_newest_float(&self, id: SeriesId) -> Result<NewestFloat, SourceError> {
        let (selection, doubt) = self.all_of(id)?;
        let mut from = vec![i64::MIN];
        selection.chunks(0, TimeRange::ALL, |_, _, chunks| {
            from.extend(chunks.iter().filter(|c| !c.histograms).map(|c| c.min_ms));
            Ok(())
        })?;
        from.sort_unstable();
        let budget = Budget::unlimited();
        let mut block = SeriesBlock::default();
        let mut end_ms = i64::MAX;
        // from the newest chunk backwards, in case what it holds was deleted or is no number
        for &from in from.iter().rev() {
            if from > end_ms {
                continue;
            }
            selection.read_range(0, TimeRange::new(from, end_ms), &mut block, &budget)?;
            // damage met on the way is of what is as new or newer, or of unknown age
            if let Some(what) = selection.take_warnings().into_iter().next() {
                return Ok(NewestFloat::Unreadable(what));
            }
            if let Some(newest) = numbers(&block).next_back() {
                return Ok(match doubt {
                    Some((until_ms, what)) if until_ms > newest.at_ms => NewestFloat::Unreadable(what),
                    _ => NewestFloat::Known(newest),
                });
            }
            end_ms = from.saturating_sub(1);
        }
        Ok(match doubt {
            Some((_, what)) => NewestFloat::Unreadable(what),
            None => NewestFloat::Nothing,
        })
    }
}

/// The samples of a block that are numbers.
fn numbers(block: &SeriesBlock) -> impl DoubleEndedIterator<Item = Sample> {
    let sample = |i: usize| Sample {
        at_ms: block.at_ms[i],
        value: block.values[i],
        start_ms: block.start_ms.get(i).copied().unwrap_or(0),
    };
    (0..block.at_ms.len())
        .map(sample)
        .filter(|sample| !sample.value.is_nan())
}
