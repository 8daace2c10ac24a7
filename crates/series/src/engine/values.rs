use std::collections::BTreeSet;
use std::sync::Arc;

use model::{Budget, Found, Matcher, SeriesId, SourceError, TenantId, TimeRange};

use super::Engine;
use super::selection::Selection;
use super::view::View;
use crate::block::{ReadError, Seen};

/// Series looked at between two looks at the budget.
const SLICE: usize = 1024;

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
        let mut values = BTreeSet::new();
        let table = &self.shared.table;
        let ids = match any_of {
            [] => None,
            _ => {
                let mut ids = BTreeSet::new();
                for matchers in any_of {
                    ids.extend(table.select(tenant, matchers, budget)?);
                }
                Some(ids.into_iter().collect::<Vec<_>>())
            }
        };
        // one view for all: what a merge takes out of level 0 meanwhile is still there, or already above
        let view = self.shared.view();
        let mut warnings = self.values_of_files(&view, tenant, name, any_of, range, budget, &mut values)?;
        let mut open = table.holders(tenant, name, ids.as_deref(), &values);
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
        Ok(Found {
            items: values.into_iter().collect(),
            warnings: warnings.into_iter().collect(),
        })
    }

    /// Adds what files above level 0 have; returns what the answer lacks.
    #[allow(
        clippy::too_many_arguments,
        reason = "those of the question, the view and the answer"
    )]
    fn values_of_files(
        &self,
        view: &View,
        tenant: TenantId,
        name: &str,
        any_of: &[Vec<Matcher>],
        range: TimeRange,
        budget: &Budget,
        values: &mut BTreeSet<String>,
    ) -> Result<BTreeSet<String>, SourceError> {
        let mut warnings = view.missing(range);
        let alone = view.rollups.iter().filter(|r| r.alone).map(|r| &r.block);
        for block in view.blocks.iter().chain(alone) {
            if block.footer.level == 0 || !block.range().overlaps(&range) {
                continue;
            }
            let whole = range.start_ms <= block.footer.min_ms && block.footer.max_ms <= range.end_ms;
            let parts = block.index(&self.shared.indexes).and_then(|index| {
                let directory = if whole {
                    None
                } else {
                    Some(block.directory(&self.shared.indexes)?)
                };
                Ok((index, directory))
            });
            let (index, directory) = match parts {
                Ok(parts) => parts,
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
                let Some(directory) = &directory else { return true };
                directory.holds(number, range, &mut seen).unwrap_or_else(|_| {
                    let s = block.footer.directory;
                    let error = ReadError::Damaged("directory", s.offset, s.len);
                    warnings.insert(self.shared.quarantine.block(block, &error));
                    false
                })
            };
            let all = [Vec::new()];
            for matchers in if any_of.is_empty() { &all } else { any_of } {
                index.values(tenant, name, matchers, &mut holds, values);
            }
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
