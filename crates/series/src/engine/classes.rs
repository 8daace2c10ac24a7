use std::sync::Arc;

use super::plan::blocked;
use super::view::View;
use super::{Engine, EngineError, EngineSettings, io_error};
use crate::block::{Block, Chunk, Number, ReadError, day_of};
use crate::retention::{Class, ClassSet, Horizon, Retention};

/// What of a class is in files, and what of it is past its time.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClassReport {
    /// `None`: the default, of all series that no class fits.
    pub selector: Option<String>,
    pub keep_ms: Option<i64>,
    /// Files that hold this class alone.
    pub files: usize,
    /// Of these files, and of this class' chunks in files that hold several.
    pub bytes: u64,
    pub samples: u64,
    /// Time of the oldest sample.
    pub oldest_ms: Option<i64>,
    /// What is past its time: files of this class alone, which go as a whole; and chunks in files of several classes,
    /// which go once these are split, after the end of their day. Chunks of a file some of whose samples stay do not count.
    pub due_files: usize,
    pub due_bytes: u64,
    pub due_samples: u64,
    /// The finest first; those that are asked for, and those that are there.
    pub rollups: Vec<RollupReport>,
}

/// What of a class' rollups of one resolution is in files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RollupReport {
    /// `1m` or `1h`.
    pub name: &'static str,
    /// Milliseconds, [`FOR_EVER`](crate::retention::FOR_EVER) where that does not end; `None`: they are not asked for, and go.
    pub keep_ms: Option<i64>,
    /// Files that hold this class, or begin with it where they hold several.
    pub files: usize,
    pub bytes: u64,
    /// Of these files, those whose samples are past their retention.
    pub alone_files: usize,
    pub due_files: usize,
    pub due_bytes: u64,
}

impl EngineSettings {
    pub fn retention(&self) -> Retention<'_> {
        Retention {
            classes: &self.retention_classes,
            default_keep_ms: self.retention_ms,
            default_rollups: self.rollups,
        }
    }
}

impl Engine {
    pub(super) fn retention(&self) -> Retention<'_> {
        self.shared.settings.retention()
    }

    /// The classes of a block's series, as the settings have them; all at level 0. `None` where the labels cannot be read:
    /// such a file stays as it is, and no merge goes across it.
    pub(super) fn class_set(&self, block: &Block) -> Option<ClassSet> {
        let set = match block.classes.get() {
            Some(&set) => set,
            None => match self.classes_under(block, self.retention()) {
                Ok(set) => *block.classes.get_or_init(|| set),
                // asked again the next time
                Err(error) => {
                    self.shared.quarantine.passing(block, &error);
                    return None;
                }
            },
        };
        (set != ClassSet::NONE).then_some(set)
    }

    pub(super) fn classes_under(&self, block: &Block, retention: Retention<'_>) -> Result<ClassSet, EngineError> {
        if block.footer.level == 0 {
            return Ok(retention.all());
        }
        if retention.classes().is_empty() {
            return Ok(ClassSet::NONE.with(retention.default_class()));
        }
        let index = match self.shared.index(block) {
            // what classes the nameless series have is not known
            Ok((index, None)) => index,
            Ok((_, Some(_))) => return Ok(ClassSet::NONE),
            Err(ReadError::Io(e)) => return Err(io_error(&block.path)(std::io::Error::other(e))),
            Err(e) => {
                self.shared.quarantine.block(block, &e);
                return Ok(ClassSet::NONE);
            }
        };
        let mut set = ClassSet::NONE;
        let mut taken = vec![false; index.len() as usize];
        let mut left = taken.len();
        for tenant in index.tenants() {
            for (c, class) in retention.classes().iter().enumerate() {
                if class.tenant.is_some_and(|t| t != tenant) {
                    continue;
                }
                for n in index.select(tenant, &class.matchers) {
                    if !std::mem::replace(&mut taken[n as usize], true) {
                        set = set.with(c as Class);
                        left -= 1;
                    }
                }
            }
        }
        if left > 0 {
            set = set.with(retention.default_class());
        }
        Ok(set)
    }

    /// Files of a day in lists that may be merged: those of one class; or one of several classes, to be split first.
    pub(super) fn by_class(&self, of_day: &[Arc<Block>], barriers: &[u64]) -> ByClass {
        let mut lists: Vec<(ClassSet, Vec<Arc<Block>>)> = Vec::new();
        let mut walls = barriers.to_vec();
        for block in of_day {
            let Some(set) = self.class_set(block) else {
                walls.push(block.id());
                continue;
            };
            if set.is_mixed() && !barriers.contains(&block.id()) {
                return ByClass::Mixed(Arc::clone(block));
            }
            match lists.iter_mut().find(|l| l.0 == set) {
                Some(list) => list.1.push(Arc::clone(block)),
                None => lists.push((set, vec![Arc::clone(block)])),
            }
        }
        ByClass::Lists(lists.into_iter().map(|l| l.1).collect(), walls)
    }

    /// A file that holds samples of a class past its time together with others: written anew it falls into classes.
    pub(super) fn to_split(
        &self,
        view: &View,
        barriers: &[u64],
        aside: &dyn Fn(&Arc<Block>) -> bool,
        now_ms: Option<i64>,
        idle: bool,
    ) -> Option<Arc<Block>> {
        let retention = self.retention();
        let (Some(now_ms), false) = (now_ms, retention.classes().is_empty()) else {
            return None;
        };
        let earliest = retention.some_gone_before(retention.all(), now_ms)?;
        for block in view.blocks.iter().filter(|b| !blocked(view, b, barriers)) {
            // whole days go: before its day is over a class has nothing to gain
            let day_ends = (day_of(block.footer.min_ms) + 1).saturating_mul(crate::block::DAY_MS);
            if day_ends > earliest || (block.footer.level == 0 && !idle) {
                continue;
            }
            let Some(set) = self.class_set(block) else { continue };
            let due = retention
                .some_gone_before(set, now_ms)
                .is_some_and(|limit| day_ends <= limit);
            if set.is_mixed() && due && !aside(block) {
                return Some(Arc::clone(block));
            }
        }
        None
    }

    /// Blocks all of whose samples are past their time. Labels may be read for it: no lock is to be held.
    pub(super) fn past_retention(&self, view: &View, horizon: &Horizon) -> Vec<Arc<Block>> {
        let retention = self.retention();
        let mut old = Vec::new();
        let Some(earliest) = retention.some_gone_before(retention.all(), horizon.now_ms()) else {
            return old;
        };
        for block in view.blocks.iter().filter(|b| b.footer.max_ms < earliest) {
            let Some(set) = self.class_set(block) else { continue };
            let limit = retention.all_gone_before(set, horizon);
            if limit.is_some_and(|limit| block.footer.max_ms < limit) {
                old.push(Arc::clone(block));
            }
        }
        old
    }

    /// What these rules would keep and drop of what is in files, were they in force at `now_ms`. Nothing is changed.
    pub fn retention_report(&self, retention: Retention<'_>, now_ms: i64) -> Result<Vec<ClassReport>, EngineError> {
        let mut rows: Vec<ClassReport> = retention
            .classes()
            .iter()
            .map(|c| ClassReport {
                selector: Some(c.selector.clone()),
                keep_ms: c.keep_ms,
                ..ClassReport::default()
            })
            .collect();
        rows.push(ClassReport {
            keep_ms: retention.default_keep_ms,
            ..ClassReport::default()
        });
        let view = self.shared.view();
        let horizon = &Horizon::of_clock(now_ms);
        self.report_rollups(&view, retention, horizon, &mut rows)?;
        for block in &view.blocks {
            let set = self.classes_under(block, retention)?;
            if set.is_mixed() {
                self.report_mixed(&view, block, retention, now_ms, &mut rows)?;
            } else if let Some(class) = set.each().next() {
                let f = &block.footer;
                let row = &mut rows[usize::from(class)];
                row.files += 1;
                row.add(block.bytes, f.samples, f.min_ms);
                if retention
                    .all_gone_before(set, horizon)
                    .is_some_and(|limit| f.max_ms < limit)
                {
                    row.due_files += 1;
                    row.due_bytes += block.bytes;
                    row.due_samples += f.samples;
                }
            }
        }
        Ok(rows)
    }

    /// A file of several classes, by its chunks.
    fn report_mixed(
        &self,
        view: &View,
        block: &Block,
        retention: Retention<'_>,
        now_ms: i64,
        rows: &mut [ClassReport],
    ) -> Result<(), EngineError> {
        let s = &self.shared;
        let failed = |e: ReadError| -> Result<(), EngineError> {
            match e {
                ReadError::Io(text) => Err(io_error(&block.path)(std::io::Error::other(text))),
                e => {
                    s.quarantine.block(block, &e);
                    Ok(())
                }
            }
        };
        let directory = match s.directory(block) {
            Ok((directory, _)) => directory,
            Err(e) => return failed(e),
        };
        let index = match block.footer.level {
            0 => None,
            _ => match s.index(block) {
                Ok((index, _)) => Some(index),
                Err(e) => return failed(e),
            },
        };
        let window = view.window(block.footer.window);
        let mut count = |number: Number, chunks: &[Chunk]| {
            let (tenant, labels) = match &index {
                Some(index) => match index.tenant_of(number) {
                    Some(tenant) => (tenant, index.labels(number)),
                    None => return,
                },
                None => match window.and_then(|w| w.id_of(number)) {
                    Some(id) => (s.table.tenant_of(id), s.table.labels(id)),
                    None => return,
                },
            };
            let class = retention.class_of(tenant, &labels);
            let row = &mut rows[usize::from(class)];
            let limit = retention.keep_ms(class).map(|keep| now_ms.saturating_sub(keep));
            for c in chunks {
                row.add(u64::from(c.len), u64::from(c.count), c.min_ms);
                if limit.is_some_and(|limit| c.max_ms < limit) {
                    row.due_bytes += u64::from(c.len);
                    row.due_samples += u64::from(c.count);
                }
            }
        };
        match directory.each(&mut count) {
            Ok(()) => Ok(()),
            Err(_) => failed(ReadError::Damaged(
                "directory",
                block.footer.directory.offset,
                block.footer.directory.len,
            )),
        }
    }
}

/// Files of a day, as far as they may be merged.
pub(super) enum ByClass {
    /// And the ids of those that nothing may be merged across.
    Lists(Vec<Vec<Arc<Block>>>, Vec<u64>),
    /// This one holds several classes: merging others across it would mix up whose samples stand.
    Mixed(Arc<Block>),
}

impl ClassReport {
    fn add(&mut self, bytes: u64, samples: u64, min_ms: i64) {
        self.bytes += bytes;
        self.samples += samples;
        self.oldest_ms = Some(self.oldest_ms.map_or(min_ms, |t| t.min(min_ms)));
    }
}
