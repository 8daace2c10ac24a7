use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Budget, Found, Matcher, SeriesId, SourceError, TenantId, TimeRange};

use super::Engine;
use super::selection::Selection;
use super::view::View;
use crate::block::{Block, Directory, ReadError, Seen};
use crate::index::{Index, NO, OPEN, YES};

/// Series looked at between two looks at the budget.
const SLICE: usize = 1024;

/// Whether a number of a file has samples in the range asked for.
type Holds<'a> = dyn FnMut(u32) -> bool + 'a;

/// What is asked of a file, for these sets of matchers.
type Ask<'a> = dyn FnMut(&File<'_>, &[Vec<Matcher>], &mut Holds<'_>) + 'a;

/// A file that is asked.
struct File<'a> {
    block: &'a Block,
    index: Arc<Index>,
    /// `None` when the range covers the file: all its series have samples there.
    directory: Option<Arc<Directory>>,
}

/// Adds the texts (ascending) that a list (ascending, each once) lacks.
fn add_missing<'t>(list: &mut Vec<String>, texts: impl IntoIterator<Item = &'t str>) {
    let (mut at, before) = (0, list.len());
    for text in texts {
        while at < before && list[at].as_str() < text {
            at += 1;
        }
        if at == before || list[at] != text {
            list.push(text.to_owned());
        }
    }
    if before > 0 && before < list.len() {
        // two ascending runs, which this sort takes up as they are
        list.sort();
    }
}

impl Engine {
    /// Values of a label among series with samples in the range, as far as the bounds of chunks tell: a value is found
    /// as soon as one of its series is.
    pub(super) fn values(
        &self,
        tenant: TenantId,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        let ids = self.of_table(tenant, any_of, budget)?;
        // one view for all: what a merge takes out of level 0 meanwhile is still there, or already above
        let view = self.shared.view();
        let mut in_files: Vec<String> = Vec::new();
        let mut warnings = self.ask_files(&view, any_of, range, budget, &mut |file, sets, holds| {
            let (index, directory) = (&file.index, file.directory.as_deref());
            let mut known = vec![OPEN; index.symbols()];
            if let Some(directory) = directory.filter(|_| any_of.is_empty())
                && let Some(spans) = self.shared.spans(file.block, index, directory, tenant, name)
            {
                spans.look(range, |symbol, there| {
                    known[symbol as usize] = if there { YES } else { NO }
                });
            }
            for matchers in sets {
                let holds: Option<&mut Holds<'_>> = directory.is_some().then_some(&mut *holds);
                index.values(tenant, name, matchers, holds, &mut known);
            }
            add_missing(&mut in_files, index.texts(&known));
        })?;
        let of_files: Vec<&str> = in_files.iter().map(String::as_str).collect();
        let mut values = BTreeSet::new();
        let table = &self.shared.table;
        let mut open = match &ids {
            Some(ids) if ids.len() < table.values_of(tenant, name) => table.holders_among(tenant, name, ids, &of_files),
            _ => {
                let pairs = self.shared.pairs_in_order(tenant, name);
                table.holders(tenant, name, ids.as_deref(), &pairs.list, &of_files)
            }
        };
        // most often the first series of a value is there
        for tried in [1, usize::MAX] {
            let mut asked: Vec<(SeriesId, usize)> = open
                .iter()
                .enumerate()
                .flat_map(|(i, (_, ids))| ids.iter().take(tried).map(move |id| (*id, i)))
                .collect();
            asked.sort_unstable();
            let mut there = vec![false; open.len()];
            let near = self.near(&view, tenant, asked.iter().map(|a| a.0).collect(), range);
            for (entry, &(_, value)) in asked.iter().enumerate() {
                if !there[value] {
                    there[value] = near.touches(entry, budget)?;
                }
            }
            warnings.extend(near.take_warnings());
            let mut there = there.into_iter();
            open.retain(|(value, _)| {
                let found = there.next().unwrap_or(false);
                if found {
                    values.insert(value.clone());
                }
                !found
            });
            if open.is_empty() {
                break;
            }
        }
        add_missing(&mut in_files, values.iter().map(String::as_str));
        Ok(Found {
            items: in_files,
            warnings: warnings.into_iter().collect(),
        })
    }

    /// Label names of series with samples in the range, found in the same way.
    pub(super) fn names(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Found<String>, SourceError> {
        let mut names = BTreeSet::new();
        let ids = self.of_table(tenant, any_of, budget)?;
        let view = self.shared.view();
        let mut warnings = self.ask_files(&view, any_of, range, budget, &mut |file, sets, holds| {
            for matchers in sets {
                file.index.names(tenant, matchers, holds, &mut names);
            }
        })?;
        for (name, holders) in self.shared.table.name_holders(tenant, ids.as_deref(), &names) {
            let mut holders = holders.iter().map(SeriesId);
            // most often the first one is there
            let mut slice: Vec<SeriesId> = holders.by_ref().take(1).collect();
            while !slice.is_empty() {
                let near = self.near(&view, tenant, std::mem::take(&mut slice), range);
                let mut found = false;
                for entry in 0..near.ids.len() {
                    found = found || near.touches(entry, budget)?;
                }
                warnings.extend(near.take_warnings());
                if found {
                    names.insert(name);
                    break;
                }
                slice.extend(holders.by_ref().take(SLICE));
            }
        }
        Ok(Found {
            items: names.into_iter().collect(),
            warnings: warnings.into_iter().collect(),
        })
    }

    /// Series of the table that match any of the sets, ascending; `None`: there are no sets, and all do.
    fn of_table(
        &self,
        tenant: TenantId,
        any_of: &[Vec<Matcher>],
        budget: &Budget,
    ) -> Result<Option<Vec<SeriesId>>, SourceError> {
        let mut ids = BTreeSet::new();
        for matchers in any_of {
            ids.extend(self.shared.select_of_table(tenant, matchers, budget)?);
        }
        Ok((!any_of.is_empty()).then(|| ids.into_iter().collect()))
    }

    /// Asks about files above level 0, with the sets (one that all series match when there is none) and whether a number has
    /// samples in the range; returns what the answer lacks.
    fn ask_files(
        &self,
        view: &View,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
        ask: &mut Ask<'_>,
    ) -> Result<BTreeSet<String>, SourceError> {
        let all = [Vec::new()];
        let sets = if any_of.is_empty() { &all[..] } else { any_of };
        let mut warnings = view.missing(range);
        let alone = view.rollups.iter().filter(|r| r.alone).map(|r| &r.block);
        for block in view.blocks.iter().chain(alone) {
            budget.check()?;
            if block.footer.level == 0 || !block.range().overlaps(&range) {
                continue;
            }
            let whole = range.start_ms <= block.footer.min_ms && block.footer.max_ms <= range.end_ms;
            let parts = self.shared.index(block).and_then(|(index, lost)| {
                let mut told: Vec<String> = lost.into_iter().collect();
                let directory = if whole {
                    None
                } else {
                    let (directory, lost) = self.shared.directory(block)?;
                    told.extend(lost);
                    Some(directory)
                };
                let file = File {
                    block,
                    index,
                    directory,
                };
                Ok((file, told))
            });
            let file = match parts {
                Ok((file, told)) => {
                    warnings.extend(told);
                    file
                }
                Err(ReadError::Io(e)) => return Err(SourceError::Io(format!("{}: {e}", block.path.display()))),
                Err(e) => {
                    warnings.insert(self.shared.quarantine.block(block, &e));
                    continue;
                }
            };
            let (mut looked_at, mut seen) = (0, Seen::default());
            let mut stopped = Ok(());
            let mut holds = |number| {
                looked_at += 1;
                if looked_at % SLICE == 0 {
                    stopped = std::mem::replace(&mut stopped, Ok(())).and_then(|()| budget.check());
                }
                let Some(directory) = &file.directory else { return true };
                directory.holds(number, range, &mut seen).unwrap_or_else(|_| {
                    let s = block.footer.directory;
                    let error = ReadError::Damaged("directory", s.offset, s.len);
                    warnings.insert(self.shared.quarantine.block(block, &error));
                    false
                })
            };
            ask(&file, sets, &mut holds);
            stopped?;
        }
        Ok(warnings)
    }

    /// Whether values are found without looking at samples: no deletion has to be seen through.
    pub(super) fn undeleted(&self, tenant: TenantId) -> bool {
        !self.shared.view().tombstones.iter().any(|t| t.tenant == tenant)
    }

    /// These series (ascending) as far as heads and level 0 hold them.
    fn near(&self, view: &Arc<View>, tenant: TenantId, ids: Vec<SeriesId>, range: TimeRange) -> Selection {
        let gate = self.read_gate();
        let mut marks = vec![Default::default(); ids.len()];
        view.active.marks(&ids, |i, mark, _| marks[i] = mark, false);
        drop(gate);
        let sources = view.sources_of_windows(&ids, |b| b.range().overlaps(&range));
        Selection::plain(&self.shared, tenant, range, ids, marks, sources, Arc::clone(view))
    }
}
