//! The series table: label sets become dense numbers, raw spellings find them again without being parsed, and matchers
//! select among them. Shared by input and store; it owns all label memory.

use std::collections::HashMap;
use std::sync::{RwLock, RwLockReadGuard};

use model::{Budget, BudgetError, Labels, Matcher, SeriesId, TenantId};

/// The tenant's budget of series is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("tenant {tenant} already has {limit} series (limit series_max)")]
pub struct TableFull {
    pub tenant: TenantId,
    pub limit: usize,
}

pub struct SeriesTable {
    inner: RwLock<Inner>,
}

#[derive(Default)]
struct Inner {
    series: Vec<(TenantId, Labels, bool)>,
    by_labels: HashMap<(TenantId, Labels), SeriesId>,
    by_raw: HashMap<(TenantId, Vec<u8>), SeriesId>,
}

impl Inner {
    fn intern(&mut self, tenant: TenantId, labels: &[u8], limit: Option<usize>) -> Result<SeriesId, TableFull> {
        let labels = Labels::from_trusted_bytes(labels);
        if let Some(&id) = self.by_labels.get(&(tenant, labels.clone())) {
            return Ok(id);
        }
        if let Some(limit) = limit
            && self.series.iter().filter(|s| s.0 == tenant).count() >= limit
        {
            return Err(TableFull { tenant, limit });
        }
        let id = SeriesId(self.series.len() as u32);
        self.series.push((tenant, labels.clone(), false));
        self.by_labels.insert((tenant, labels), id);
        Ok(id)
    }
}

/// One request body's use of the table.
pub struct Session<'a> {
    table: &'a SeriesTable,
    tenant: TenantId,
    guard: Option<RwLockReadGuard<'a, Inner>>,
}

impl SeriesTable {
    /// `seed` keys the hash of raw spellings; it is random per process, so that collisions cannot be made on purpose.
    pub fn new(_seed: [u8; 16]) -> Self {
        SeriesTable {
            inner: RwLock::default(),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, Inner> {
        self.inner.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Begins one request body of a tenant.
    pub fn session(&self, tenant: TenantId) -> Session<'_> {
        Session {
            table: self,
            tenant,
            guard: None,
        }
    }

    /// The series of canonical label bytes, made when it is new. `limit`: series the tenant may have.
    pub fn intern(&self, tenant: TenantId, labels: &[u8], limit: Option<usize>) -> Result<SeriesId, TableFull> {
        self.inner
            .write()
            .unwrap_or_else(|e| e.into_inner())
            .intern(tenant, labels, limit)
    }

    /// The series of canonical label bytes, when there is one.
    pub fn find(&self, tenant: TenantId, labels: &[u8]) -> Option<SeriesId> {
        let labels = Labels::from_bytes(labels).ok()?;
        self.read().by_labels.get(&(tenant, labels)).copied()
    }

    /// The labels of a series; empty when the id is of none.
    pub fn labels(&self, id: SeriesId) -> Labels {
        self.read()
            .series
            .get(id.index())
            .map(|s| s.1.clone())
            .unwrap_or_default()
    }

    /// Appends the canonical label bytes of a series; false when the id is of none.
    pub fn write_labels(&self, id: SeriesId, out: &mut Vec<u8>) -> bool {
        match self.read().series.get(id.index()) {
            Some(s) => {
                out.extend_from_slice(s.1.as_bytes());
                true
            }
            None => false,
        }
    }

    /// The series' labels, in the order given, under one lock.
    pub fn labels_of(&self, ids: &[SeriesId]) -> Vec<Labels> {
        ids.iter().map(|&id| self.labels(id)).collect()
    }

    pub fn tenant_of(&self, id: SeriesId) -> TenantId {
        self.read()
            .series
            .get(id.index())
            .map(|s| s.0)
            .unwrap_or(TenantId::OVERSEER)
    }

    /// A hash of the canonical label bytes that is the same in every process and version. Its key is public: where two
    /// series meet by hash alone, compare their labels.
    pub fn label_hash(&self, id: SeriesId) -> u128 {
        label_hash(self.labels(id).as_bytes())
    }

    /// Ids given so far are below this.
    pub fn id_bound(&self) -> usize {
        self.read().series.len()
    }

    /// Visible series that match all matchers, ascending by id.
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        budget: &Budget,
    ) -> Result<Vec<SeriesId>, BudgetError> {
        budget.check()?;
        let inner = self.read();
        Ok(inner
            .series
            .iter()
            .enumerate()
            .filter(|(_, s)| s.0 == tenant && s.2)
            .filter(|(_, s)| matchers.iter().all(|m| m.matches(s.1.get(&m.name).unwrap_or(""))))
            .map(|(i, _)| SeriesId(i as u32))
            .collect())
    }

    /// These series have an applied sample and may be selected from now on.
    pub fn set_visible(&self, ids: &[SeriesId]) {
        let mut inner = self.inner.write().unwrap_or_else(|e| e.into_inner());
        for id in ids {
            if let Some(s) = inner.series.get_mut(id.index()) {
                s.2 = true;
            }
        }
    }

    /// Label names of visible series, sorted.
    pub fn label_names(&self, tenant: TenantId) -> Vec<String> {
        let inner = self.read();
        let set: std::collections::BTreeSet<String> = inner
            .series
            .iter()
            .filter(|s| s.0 == tenant && s.2)
            .flat_map(|s| s.1.iter().map(|(n, _)| n.to_owned()).collect::<Vec<_>>())
            .collect();
        set.into_iter().collect()
    }

    /// Values of one label among visible series, sorted.
    pub fn label_values(&self, tenant: TenantId, name: &str) -> Vec<String> {
        let inner = self.read();
        let set: std::collections::BTreeSet<String> = inner
            .series
            .iter()
            .filter(|s| s.0 == tenant && s.2)
            .filter_map(|s| s.1.get(name).map(str::to_owned))
            .collect();
        set.into_iter().collect()
    }

    /// Label names of the given series, sorted.
    pub fn label_names_of(&self, ids: &[SeriesId]) -> Vec<String> {
        let mut set = std::collections::BTreeSet::new();
        for l in self.labels_of(ids) {
            set.extend(l.iter().map(|(n, _)| n.to_owned()));
        }
        set.into_iter().collect()
    }

    /// Values of one label among the given series, sorted.
    pub fn label_values_of(&self, name: &str, ids: &[SeriesId]) -> Vec<String> {
        let mut set = std::collections::BTreeSet::new();
        for l in self.labels_of(ids) {
            set.extend(l.get(name).map(str::to_owned));
        }
        set.into_iter().collect()
    }

    /// Counts for the status page; `chunks`, `min_ms` and `max_ms` are the caller's to fill in.
    pub fn cardinality(&self, _tenant: TenantId, _top: usize) -> model::Cardinality {
        model::Cardinality::default()
    }

    /// Sorts ids by their labels' canonical bytes.
    pub fn sort_by_labels(&self, ids: &mut [SeriesId]) {
        let inner = self.read();
        ids.sort_by(|a, b| inner.series[a.index()].1.cmp(&inner.series[b.index()].1));
    }

    /// Series of a tenant, visible or not.
    pub fn len(&self, tenant: TenantId) -> usize {
        self.read().series.iter().filter(|s| s.0 == tenant).count()
    }

    /// Takes series that have no samples left out of sight and forgets their spellings. Until
    /// [`reuse_up_to`](Self::reuse_up_to) passes `position` their labels stay readable, and a series that comes back
    /// (by its labels, in a record that is written or read, or by [`set_visible`](Self::set_visible)) keeps its id.
    pub fn retire(&self, ids: &[SeriesId], _position: u64) {
        let mut inner = self.inner.write().unwrap_or_else(|e| e.into_inner());
        for id in ids {
            if let Some(s) = inner.series.get_mut(id.index()) {
                s.2 = false;
            }
        }
    }

    /// Every consumer in this process has passed `position`: ids retired at or before it may be given again.
    pub fn reuse_up_to(&self, _position: u64) {}

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        self.read().series.len() * 400
    }
}

impl Session<'_> {
    /// The series of a raw spelling seen before.
    pub fn known(&mut self, raw: &[u8]) -> Option<SeriesId> {
        let guard = self.guard.get_or_insert_with(|| self.table.read());
        guard.by_raw.get(&(self.tenant, raw.to_vec())).copied()
    }

    /// The series of canonical label bytes, made when it is new; `raw` (when not empty) is remembered as its spelling.
    pub fn define(&mut self, raw: &[u8], labels: &[u8], limit: Option<usize>) -> Result<SeriesId, TableFull> {
        self.guard = None;
        let mut inner = self.table.inner.write().unwrap_or_else(|e| e.into_inner());
        let id = inner.intern(self.tenant, labels, limit)?;
        if !raw.is_empty() {
            inner.by_raw.insert((self.tenant, raw.to_vec()), id);
        }
        Ok(id)
    }
}

/// The stable hash of canonical label bytes (see [`SeriesTable::label_hash`]).
pub fn label_hash(labels: &[u8]) -> u128 {
    let mut h = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d_u128;
    for b in labels {
        h = (h ^ u128::from(*b)).wrapping_mul(0x0100_0000_0000_0000_0000_013b);
    }
    h
}
