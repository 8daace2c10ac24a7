//! What matchers select and where values lie, kept for the next time: a dashboard asks the same again and again.

use std::sync::Arc;

use model::{Budget, BudgetError, Matcher, SeriesId, TenantId, TimeRange};

use super::Shared;
use crate::block::{Block, Directory};
use crate::index::{Index, Span};
use crate::question::{self, Question};

/// Bytes of answers kept.
pub(crate) const FOUND_BYTES: usize = 4 << 20;
/// Symbols of a file above which it is not kept where values lie.
const SPANS_MAX: usize = 1 << 15;
/// Version of what never changes: files.
const FOR_EVER: u64 = u64::MAX;
/// Second parts of keys of what the table answered.
const SERIES: u32 = 0;
const VALUES: u32 = 1;

/// Numbers that were found.
pub(super) struct Numbers {
    question: Question,
    /// Of the table, at the time.
    version: u64,
    pub(super) list: Vec<u32>,
}

/// Where in time the values of a label lie in a file.
pub(super) struct Spans {
    question: Question,
    list: Vec<(u32, Span)>,
}

impl Spans {
    /// Calls `each` with every symbol of which is known whether it has a chunk in the range.
    pub(super) fn look(&self, range: TimeRange, mut each: impl FnMut(u32, bool)) {
        for (symbol, span) in &self.list {
            if let Some(holds) = span.holds(range) {
                each(*symbol, holds);
            }
        }
    }
}

impl Numbers {
    fn is(&self, version: u64, tenant: TenantId, label: &str, matchers: &[Matcher]) -> bool {
        self.version == version && self.question.is(tenant, label, matchers)
    }

    fn bytes(&self) -> usize {
        size_of::<Self>() + self.question.bytes() + self.list.capacity() * 4
    }
}

impl Shared {
    /// Numbers of the file's series that match all matchers, ascending.
    pub(super) fn select_in(
        &self,
        block: &Block,
        index: &Index,
        tenant: TenantId,
        matchers: &[Matcher],
    ) -> Arc<Numbers> {
        let costly = question::is_costly(matchers);
        let key = (block.id(), question::hash(tenant, "", matchers) as u32);
        if costly
            && let Some(found) = self.found.get::<Numbers>(key)
            && found.is(FOR_EVER, tenant, "", matchers)
        {
            return found;
        }
        let kept: &[Matcher] = if costly { matchers } else { &[] };
        let found = Arc::new(Numbers {
            question: Question::new(tenant, "", kept),
            version: FOR_EVER,
            list: index.select(tenant, matchers),
        });
        if costly {
            self.found.insert(key, Arc::clone(&found), found.bytes());
        }
        found
    }

    /// Visible series of the table that match all matchers, ascending by id.
    pub(super) fn select_of_table(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        budget: &Budget,
    ) -> Result<Vec<SeriesId>, BudgetError> {
        if !question::is_costly(matchers) {
            return self.table.select(tenant, matchers, budget);
        }
        budget.check()?;
        let version = self.table.version();
        let key = (question::hash(tenant, "", matchers), SERIES);
        if let Some(found) = self.found.get::<Numbers>(key)
            && found.is(version, tenant, "", matchers)
        {
            return Ok(found.list.iter().copied().map(SeriesId).collect());
        }
        let ids = self.table.select(tenant, matchers, budget)?;
        // what changed meanwhile may be in the answer or not
        if self.table.version() == version {
            let found = Numbers {
                question: Question::new(tenant, "", matchers),
                version,
                list: ids.iter().map(|id| id.0).collect(),
            };
            let bytes = found.bytes();
            self.found.insert(key, Arc::new(found), bytes);
        }
        Ok(ids)
    }

    /// The table's pairs of a label that visible series have, in the order of its values.
    pub(super) fn pairs_in_order(&self, tenant: TenantId, name: &str) -> Arc<Numbers> {
        let version = self.table.version();
        let key = (question::hash(tenant, name, &[]), VALUES);
        if let Some(found) = self.found.get::<Numbers>(key)
            && found.is(version, tenant, name, &[])
        {
            return found;
        }
        let found = Arc::new(Numbers {
            question: Question::new(tenant, name, &[]),
            version,
            list: self.table.pairs_in_order(tenant, name),
        });
        if self.table.version() == version {
            self.found.insert(key, Arc::clone(&found), found.bytes());
        }
        found
    }

    /// Where a label's values lie in a file; `None` where there are too many of them, or the directory is damaged.
    pub(super) fn spans(
        &self,
        block: &Block,
        index: &Index,
        directory: &Directory,
        tenant: TenantId,
        name: &str,
    ) -> Option<Arc<Spans>> {
        if index.symbols() > SPANS_MAX {
            return None;
        }
        let key = (block.id(), question::hash(tenant, name, &[]) as u32);
        if let Some(found) = self.found.get::<Spans>(key)
            && found.question.is(tenant, name, &[])
        {
            return Some(found);
        }
        let spans = Arc::new(Spans {
            question: Question::new(tenant, name, &[]),
            list: index.spans(tenant, name, directory).ok()?,
        });
        let bytes = size_of::<Spans>() + spans.question.bytes() + spans.list.capacity() * size_of::<(u32, Span)>();
        self.found.insert(key, Arc::clone(&spans), bytes);
        Some(spans)
    }
}
