//! The series table: label sets become dense numbers, raw spellings find them again without being parsed, and matchers
//! select among them. Shared by input and store; it owns all label memory.
//!
//! Two locks: one over the spellings (held for reading by each request body, for writing while new spellings come in)
//! and one over labels and postings. Where both are needed, the first is taken first.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Acquire, Ordering::Relaxed, Ordering::Release};
use std::sync::{RwLock, RwLockReadGuard, RwLockWriteGuard};

use hashbrown::HashMap;
use model::{Budget, BudgetError, Cardinality, CardinalityRow, Labels, METRIC_NAME, Matcher, SeriesId, TenantId};

mod hash;
mod index;
mod metadata;
mod postings;
mod select;
mod sort;
mod spellings;

#[cfg(test)]
mod tests;

pub use hash::label_hash;
pub use metadata::{MetadataFull, MetadataKnown, MetadataLimits};

use hash::SpellingHash;
use index::{Index, State};
use spellings::{Place, Spellings};

/// Series handled under one lock where many are.
const SLICE: usize = 1024;

/// Series that are shown under one lock where there are at least so many.
pub(crate) const BULK: usize = 1 << 16;

/// Calls after which a session that defines lets others in.
const TURN: u32 = 512;

/// Series there may be; those that exist are found regardless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SeriesLimits {
    /// Of a tenant.
    pub tenant: usize,
    /// Of a tenant and one metric name.
    pub metric: usize,
}

/// A budget of series is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TableFull {
    #[error("tenant {tenant} already has {limit} series (limit series_max)")]
    Tenant { tenant: TenantId, limit: usize },
    #[error("a metric of tenant {tenant} already has {limit} series (limit metric_series_max)")]
    Metric { tenant: TenantId, limit: usize },
    #[error("the series table takes more than its {limit} bytes of memory (half of store.memory_bytes)")]
    Memory { tenant: TenantId, limit: usize },
}

/// What makes a metric, or a tenant, have so many series.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blame {
    /// Series it has.
    pub series: u64,
    /// Labels and how many values they have among these, most first.
    pub labels: Vec<(String, u64)>,
}

/// Labels named.
const BLAME_LABELS_MAX: usize = 5;

/// All series of this process.
pub struct SeriesTable {
    hash: SpellingHash,
    spellings: RwLock<Spellings>,
    index: RwLock<Index>,
    /// How many ids were freed; who keeps ids beside the table notices by it.
    freed: AtomicU64,
    retired: AtomicBool,
    metadata: MetadataKnown,
    /// Bytes that the table may take, where it takes more; 0: it has room.
    full: AtomicUsize,
}

/// One request body's use of the table. It holds a lock: a thread has one session at a time, and drops it before it
/// waits for anything.
pub struct Session<'a> {
    table: &'a SeriesTable,
    tenant: TenantId,
    place: Place,
    held: Held<'a>,
}

/// Brings in series by the numbers of their label pairs. It holds the lock over labels.
pub(crate) struct Register<'a> {
    index: RwLockWriteGuard<'a, Index>,
    tenant: u32,
}

enum Held<'a> {
    Nothing,
    Read(RwLockReadGuard<'a, Spellings>),
    /// New series come in bulk: one lock for a turn of them.
    Write(RwLockWriteGuard<'a, Spellings>, u32),
}

// A panic while a lock was held leaves the table as it was between two steps; going on beats failing every request.
fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(|e| e.into_inner())
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(|e| e.into_inner())
}

impl SeriesTable {
    /// `seed` keys the hash of raw spellings; it is random per process, so that collisions cannot be made on purpose.
    pub fn new(seed: [u8; 16]) -> Self {
        let short = u128::from_le_bytes(seed) ^ label_hash(&seed);
        SeriesTable {
            hash: SpellingHash::new(seed),
            spellings: RwLock::default(),
            index: RwLock::new(Index::new((short >> 64) as u64 ^ short as u64)),
            freed: AtomicU64::new(0),
            retired: AtomicBool::new(false),
            metadata: MetadataKnown::default(),
            full: AtomicUsize::new(0),
        }
    }

    /// What metadata there is.
    pub fn metadata(&self) -> &MetadataKnown {
        &self.metadata
    }

    /// Takes metadata of a metric whose help and unit have `texts` bytes, unless that passes a limit.
    pub fn take_metadata(
        &self,
        tenant: TenantId,
        metric: &str,
        texts: usize,
        limits: MetadataLimits,
    ) -> Result<(), MetadataFull> {
        let hash = self.hash.hash(tenant.0, metric.as_bytes());
        self.metadata.take(tenant, (hash >> 64) as u64, metric, texts, limits)
    }

    /// Whether new series are refused from now on, those of a log or a file apart: the table takes more than `bytes_max`.
    pub fn bound(&self, bytes_max: usize) {
        let full = self.bytes() > bytes_max;
        self.full.store(if full { bytes_max.max(1) } else { 0 }, Relaxed);
    }

    /// Begins one request body of a tenant.
    pub fn session(&self, tenant: TenantId) -> Session<'_> {
        Session {
            table: self,
            tenant,
            place: Place::START,
            held: Held::Nothing,
        }
    }

    /// The series of canonical label bytes, made when it is new.
    pub fn intern(&self, tenant: TenantId, labels: &[u8], limit: Option<SeriesLimits>) -> Result<SeriesId, TableFull> {
        write(&self.index).intern(tenant, labels, limit)
    }

    /// Series that come in many at once. `None` when [`freed`](Self::freed) is not `freed` any more: numbers of pairs that
    /// the caller keeps may mean others then.
    pub(crate) fn register(&self, tenant: TenantId, freed: u64) -> Option<Register<'_>> {
        let mut index = write(&self.index);
        // it only changes under this lock
        if self.freed() != freed {
            return None;
        }
        let tenant = index.tenant_slot(tenant);
        Some(Register { index, tenant })
    }

    /// The series of canonical label bytes, when there is one.
    pub fn find(&self, tenant: TenantId, labels: &[u8]) -> Option<SeriesId> {
        read(&self.index).find(tenant, labels)
    }

    /// The labels of a series; empty when the id is of none.
    pub fn labels(&self, id: SeriesId) -> Labels {
        read(&self.index).labels(id, &mut Vec::with_capacity(256))
    }

    /// Appends the canonical label bytes of a series; false when the id is of none.
    pub fn write_labels(&self, id: SeriesId, out: &mut Vec<u8>) -> bool {
        let index = read(&self.index);
        index.write_labels(id, out);
        index.live(id).is_some()
    }

    /// The series' labels in the order given.
    pub fn labels_of(&self, ids: &[SeriesId]) -> Vec<Labels> {
        let mut scratch = Vec::with_capacity(256);
        let mut labels = Vec::with_capacity(ids.len());
        for slice in ids.chunks(SLICE) {
            let index = read(&self.index);
            labels.extend(slice.iter().map(|&id| index.labels(id, &mut scratch)));
        }
        labels
    }

    /// The tenant of a series; Overseer's own when the id is of none.
    pub fn tenant_of(&self, id: SeriesId) -> TenantId {
        let index = read(&self.index);
        index
            .live(id)
            .map_or(TenantId::OVERSEER, |s| index.tenants[s.tenant as usize].id)
    }

    /// Ids given so far are below this.
    pub fn id_bound(&self) -> usize {
        read(&self.index).series.len()
    }

    /// Visible series that match all matchers, ascending by id.
    pub fn select(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        budget: &Budget,
    ) -> Result<Vec<SeriesId>, BudgetError> {
        select::select(&self.index, tenant, matchers, budget)
    }

    /// These series have an applied sample and may be selected from now on. Cheapest in ascending order.
    pub fn set_visible(&self, ids: &[SeriesId]) {
        // many at once are cheaper: a replay brings so many, while nobody is served yet
        let slice = if ids.len() < BULK { SLICE } else { BULK };
        for slice in ids.chunks(slice) {
            write(&self.index).set_visible(slice);
        }
    }

    /// Label names of visible series, sorted.
    pub fn label_names(&self, tenant: TenantId) -> Vec<String> {
        let index = read(&self.index);
        let Some(t) = index.tenant(tenant) else {
            return Vec::new();
        };
        let mut names: Vec<String> = t
            .names
            .iter()
            .filter(|(_, n)| !index.names[**n as usize].postings.is_empty())
            .map(|(text, _)| text.to_string())
            .collect();
        names.sort_unstable();
        names
    }

    /// Values of one label among visible series, sorted.
    pub fn label_values(&self, tenant: TenantId, name: &str) -> Vec<String> {
        let mut values: Vec<String> = {
            let index = read(&self.index);
            let Some(&n) = index.tenant(tenant).and_then(|t| t.names.get(name)) else {
                return Vec::new();
            };
            let pairs = &index.names[n as usize].pairs;
            pairs
                .iter()
                .filter(|p| !index.pairs[**p as usize].postings.is_empty())
                .map(|&p| index.value(p).to_owned())
                .collect()
        };
        values.sort_unstable();
        values
    }

    /// Label names of the given series, sorted.
    pub fn label_names_of(&self, ids: &[SeriesId]) -> Vec<String> {
        let mut names = BTreeSet::new();
        let mut texts = BTreeSet::new();
        for slice in ids.chunks(SLICE) {
            let index = read(&self.index);
            for id in slice {
                for &p in index.pairs_of(*id) {
                    let name = index.pairs[p as usize].name;
                    if names.insert(name) {
                        texts.insert(index.names[name as usize].text.to_string());
                    }
                }
            }
        }
        texts.into_iter().collect()
    }

    /// Values of one label among the given series, sorted.
    pub fn label_values_of(&self, name: &str, ids: &[SeriesId]) -> Vec<String> {
        let mut values = BTreeSet::new();
        for slice in ids.chunks(SLICE) {
            let index = read(&self.index);
            let mut last = u32::MAX;
            for id in slice {
                let pair = index
                    .pairs_of(*id)
                    .iter()
                    .copied()
                    .find(|&p| *index.names[index.pairs[p as usize].name as usize].text == *name);
                if let Some(p) = pair.filter(|p| *p != last) {
                    last = p;
                    if !values.contains(index.value(p)) {
                        values.insert(index.value(p).to_owned());
                    }
                }
            }
        }
        values.into_iter().collect()
    }

    /// The visible series that have a label, for each name that is not in `known`; among `ids` (ascending) only, where they
    /// are given.
    pub(crate) fn name_holders(
        &self,
        tenant: TenantId,
        ids: Option<&[SeriesId]>,
        known: &BTreeSet<String>,
    ) -> Vec<(String, roaring::RoaringBitmap)> {
        let among: Option<roaring::RoaringBitmap> = ids.map(|ids| ids.iter().map(|id| id.0).collect());
        let index = read(&self.index);
        let names = index.tenant(tenant).map(|t| &t.names);
        let unknown = names
            .into_iter()
            .flatten()
            .filter(|(text, _)| !known.contains(&***text));
        let holders = unknown.map(|(text, &n)| {
            let mut set = index.names[n as usize].postings.to_set();
            if let Some(among) = &among {
                set &= among;
            }
            (text.to_string(), set)
        });
        holders.filter(|(_, set)| !set.is_empty()).collect()
    }

    /// Grows whenever a series becomes visible or ceases to be: while it stays the same, so does what is selected and which
    /// values labels have.
    pub(crate) fn version(&self) -> u64 {
        read(&self.index).version
    }

    /// Numbers of a label's pairs that visible series have, in the order of the label's values.
    pub(crate) fn pairs_in_order(&self, tenant: TenantId, name: &str) -> Vec<u32> {
        let (n, pairs) = {
            let index = read(&self.index);
            let Some(&n) = index.tenant(tenant).and_then(|t| t.names.get(name)) else {
                return Vec::new();
            };
            (n, index.names[n as usize].pairs.clone())
        };
        let (mut texts, mut places) = (String::new(), Vec::with_capacity(pairs.len()));
        for slice in pairs.chunks(SLICE) {
            let index = read(&self.index);
            for &p in slice {
                let pair = &index.pairs[p as usize];
                if pair.name == n && !pair.postings.is_empty() {
                    let from = texts.len();
                    texts.push_str(index.value(p));
                    places.push((from, texts.len(), p));
                }
            }
        }
        places.sort_unstable_by(|a, b| texts[a.0..a.1].cmp(&texts[b.0..b.1]));
        places.into_iter().map(|place| place.2).collect()
    }

    /// The visible series of each value of a label that is not in `known` (ascending); among `ids` (ascending) only, where
    /// they are given. `pairs`: what [`pairs_in_order`](Self::pairs_in_order) gave; where numbers changed hands since, a
    /// known value may be among those returned.
    pub(crate) fn holders(
        &self,
        tenant: TenantId,
        name: &str,
        ids: Option<&[SeriesId]>,
        pairs: &[u32],
        known: &[&str],
    ) -> Vec<(String, Vec<SeriesId>)> {
        let mut out = Vec::new();
        let among: Option<roaring::RoaringBitmap> = ids.map(|ids| ids.iter().map(|id| id.0).collect());
        let Some(n) = read(&self.index)
            .tenant(tenant)
            .and_then(|t| t.names.get(name).copied())
        else {
            return out;
        };
        let mut known = known.iter().copied().peekable();
        for slice in pairs.chunks(SLICE) {
            let index = read(&self.index);
            for &p in slice {
                // numbers of pairs may change hands between two locks
                let Some(pair) = index.pairs.get(p as usize).filter(|pair| pair.name == n) else {
                    continue;
                };
                let value = index.value(p);
                while known.next_if(|k| *k < value).is_some() {}
                if known.peek() == Some(&value) || pair.postings.is_empty() {
                    continue;
                }
                let ids = match &among {
                    None => pair.postings.ids(),
                    Some(among) => (pair.postings.to_set() & among).iter().map(SeriesId).collect(),
                };
                if !ids.is_empty() {
                    out.push((value.to_owned(), ids));
                }
            }
        }
        out
    }

    /// Values of a label, among series that are visible or not.
    pub(crate) fn values_of(&self, tenant: TenantId, name: &str) -> usize {
        let index = read(&self.index);
        let name = index.tenant(tenant).and_then(|t| t.names.get(name));
        name.map_or(0, |n| index.names[*n as usize].pairs.len())
    }

    /// The same as [`holders`](Self::holders) among `ids`, found by looking at each of them; a value may be there more than
    /// once.
    pub(crate) fn holders_among(
        &self,
        tenant: TenantId,
        name: &str,
        ids: &[SeriesId],
        known: &[&str],
    ) -> Vec<(String, Vec<SeriesId>)> {
        let mut out: Vec<(String, Vec<SeriesId>)> = Vec::new();
        let Some(n) = read(&self.index)
            .tenant(tenant)
            .and_then(|t| t.names.get(name).copied())
        else {
            return out;
        };
        // where in `out` a pair is, unless it is known
        let mut places: HashMap<u32, Option<usize>> = HashMap::new();
        let mut freed = self.freed();
        for slice in ids.chunks(SLICE) {
            let index = read(&self.index);
            if self.freed() != freed {
                freed = self.freed();
                places.clear();
            }
            for &id in slice {
                let mut pairs = index.pairs_of(id).iter().copied();
                let Some(p) = pairs.find(|&p| index.pairs[p as usize].name == n) else {
                    continue;
                };
                let place = *places.entry(p).or_insert_with(|| {
                    let value = index.value(p);
                    known.binary_search(&value).is_err().then(|| {
                        out.push((value.to_owned(), Vec::new()));
                        out.len() - 1
                    })
                });
                if let Some(place) = place {
                    out[place].1.push(id);
                }
            }
        }
        out
    }

    /// Which labels make the series of a metric (of the whole tenant without one) so many; `None` when it has none that
    /// are visible.
    pub fn blame(&self, tenant: TenantId, metric: Option<&str>) -> Option<Blame> {
        let set = {
            let index = read(&self.index);
            let t = index.tenant(tenant)?;
            match metric {
                None => t.all.to_set(),
                Some(metric) => {
                    let slot = index.names[*t.names.get(METRIC_NAME)? as usize].tenant;
                    let pair = index.find_value(slot, METRIC_NAME, metric)?;
                    index.pairs[pair as usize].postings.to_set()
                }
            }
        };
        // pairs are numbered densely: one bit for each tells whether it was met
        let mut met: Vec<u64> = Vec::new();
        let mut values: HashMap<u32, u64> = HashMap::new();
        let mut ids = set.iter();
        loop {
            let index = read(&self.index);
            met.resize(index.pairs.len().div_ceil(64).max(met.len()), 0);
            let mut more = false;
            for id in ids.by_ref().take(SLICE) {
                more = true;
                for &p in index.pairs_of(SeriesId(id)) {
                    let (word, bit) = (p as usize / 64, 1u64 << (p % 64));
                    if met[word] & bit == 0 {
                        met[word] |= bit;
                        *values.entry(index.pairs[p as usize].name).or_default() += 1;
                    }
                }
            }
            if !more {
                break;
            }
        }
        let index = read(&self.index);
        let mut labels: Vec<(String, u64)> = values
            .iter()
            .filter_map(|(name, values)| Some((index.names.get(*name as usize)?.text.to_string(), *values)))
            .collect();
        labels.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        labels.truncate(BLAME_LABELS_MAX);
        let series = set.len();
        (series > 0).then_some(Blame { series, labels })
    }

    /// Counts of visible series for the status page; `chunks`, `min_ms` and `max_ms` are the caller's to fill in.
    pub fn cardinality(&self, tenant: TenantId, top: usize) -> Cardinality {
        let index = read(&self.index);
        let Some(t) = index.tenant(tenant) else {
            return Cardinality::default();
        };
        let cut = |mut rows: Vec<CardinalityRow>| {
            rows.sort_unstable_by(|a, b| b.value.cmp(&a.value).then_with(|| a.name.cmp(&b.name)));
            rows.truncate(top);
            rows
        };
        let shown = |p: &u32| !index.pairs[*p as usize].postings.is_empty();
        let mut out = Cardinality {
            series: t.all.len(),
            ..Cardinality::default()
        };
        let (mut values, mut bytes, mut largest) = (Vec::new(), Vec::new(), Vec::new());
        for &n in t.names.values() {
            let name = &index.names[n as usize];
            let (mut count, mut size) = (0, 0);
            for &p in name.pairs.iter().filter(|p| shown(p)) {
                count += 1;
                size += index.text_bytes(p);
                largest.push((index.pairs[p as usize].postings.len(), p));
            }
            if count > 0 {
                out.label_pairs += count;
                values.push(CardinalityRow {
                    name: name.text.to_string(),
                    value: count,
                });
                bytes.push(CardinalityRow {
                    name: name.text.to_string(),
                    value: size,
                });
            }
            if largest.len() > 4 * top.max(1024) {
                largest.sort_unstable_by(|a, b| b.cmp(a));
                largest.truncate(top);
            }
        }
        out.values_by_label = cut(values);
        out.bytes_by_label = cut(bytes);
        largest.sort_unstable_by(|a, b| b.cmp(a));
        largest.truncate(top);
        let pair_row = |&(value, p): &(u64, u32)| {
            let name = &index.names[index.pairs[p as usize].name as usize];
            CardinalityRow {
                name: format!("{}={}", name.text, index.value(p)),
                value,
            }
        };
        out.series_by_pair = cut(largest.iter().map(pair_row).collect());
        let metrics = index.metric_name(t).map(|n| &n.pairs[..]).unwrap_or_default();
        let metric_row = |&p: &u32| CardinalityRow {
            name: index.value(p).to_owned(),
            value: index.pairs[p as usize].postings.len(),
        };
        out.series_by_metric = cut(metrics.iter().filter(|p| shown(p)).map(metric_row).collect());
        out
    }

    /// Sorts ids by their labels' canonical bytes. A lock is held for a slice at a time, so ids that are freed
    /// meanwhile may come to lie anywhere.
    pub fn sort_by_labels(&self, ids: &mut [SeriesId]) {
        if ids.len() <= SLICE {
            let index = read(&self.index);
            return ids.sort_unstable_by(|a, b| index.compare(*a, *b));
        }
        sort::by_labels(&self.index, ids);
    }

    /// Series of a tenant, visible or not.
    pub fn len(&self, tenant: TenantId) -> usize {
        read(&self.index).tenant(tenant).map_or(0, |t| t.series)
    }

    /// Takes series that have no samples left out of sight and forgets their spellings. Until
    /// [`reuse_up_to`](Self::reuse_up_to) passes `position` their labels stay readable, and a series that comes back
    /// (by its labels, in a record that is written, or by [`set_visible`](Self::set_visible)) keeps its id.
    pub fn retire(&self, ids: &[SeriesId], position: u64) {
        if ids.is_empty() {
            return;
        }
        // both locks, so that no session takes up a spelling of a series that is half gone
        let mut spellings = write(&self.spellings);
        let mut index = write(&self.index);
        for &id in ids {
            index.retire(id, position);
        }
        spellings.forget(|id| index.live(id).is_none_or(|s| s.state == State::Retired));
        self.retired.store(index.retired_any(), Release);
    }

    /// Every consumer in this process has passed `position`: ids retired at or before it are given again from now on.
    /// A batch that was admitted before `retire` must have been published and consumed, too; give `retire` a position
    /// some minutes old by the time it is passed here. Returns how many were freed.
    pub fn reuse_up_to(&self, position: u64) -> usize {
        let mut index = write(&self.index);
        let freed = index.reuse_up_to(position);
        self.retired.store(index.retired_any(), Release);
        self.freed.fetch_add(freed as u64, Release);
        freed
    }

    /// Those of these ids that are of series, and not of retired ones.
    pub(crate) fn unretired(&self, ids: &[SeriesId]) -> Vec<SeriesId> {
        let mut out = Vec::new();
        for slice in ids.chunks(SLICE) {
            let index = read(&self.index);
            let there = |id: &&SeriesId| index.live(**id).is_some_and(|s| s.state != State::Retired);
            out.extend(slice.iter().filter(there).copied());
        }
        out
    }

    /// Series of all tenants that are there and not retired.
    pub fn alive(&self) -> usize {
        read(&self.index).alive()
    }

    /// How many ids were freed so far. While it stays the same, ids kept elsewhere mean what they meant.
    pub fn freed(&self) -> u64 {
        self.freed.load(Acquire)
    }

    /// Grows whenever an id is freed or given again: while it stays the same, no id below an earlier bound changed labels.
    pub(crate) fn changes(&self) -> u64 {
        let index = read(&self.index);
        self.freed() + index.given_again
    }

    /// Tells series apart that had the same id one after the other.
    pub fn generation(&self, id: SeriesId) -> u8 {
        read(&self.index).series.get(id.index()).map_or(0, |s| s.generation)
    }

    /// Keeps retired ones among these series from being freed: samples of them are on their way.
    pub fn revive(&self, ids: &[SeriesId]) {
        if !self.retired.load(Acquire) {
            return;
        }
        let retired: Vec<SeriesId> = {
            let index = read(&self.index);
            let gone = |id: &SeriesId| index.live(*id).is_some_and(|s| s.state == State::Retired);
            ids.iter().copied().filter(gone).collect()
        };
        if !retired.is_empty() {
            let mut index = write(&self.index);
            for id in retired {
                index.revive(id);
            }
        }
    }

    /// Calls `each` with the number (good until [`freed`](Self::freed) grows) and the canonical bytes of every label
    /// pair of a series; returns whether the id is of a series.
    pub(crate) fn each_pair(&self, id: SeriesId, mut each: impl FnMut(u32, &[u8])) -> bool {
        let index = read(&self.index);
        for &p in index.pairs_of(id) {
            each(p, index.pair_text(p));
        }
        index.live(id).is_some()
    }

    /// Whether the series has been made visible and not retired since.
    pub fn is_visible(&self, id: SeriesId) -> bool {
        read(&self.index).live(id).is_some_and(|s| s.state == State::Visible)
    }

    /// Bytes of memory held.
    pub fn bytes(&self) -> usize {
        let spellings = read(&self.spellings).bytes();
        spellings + read(&self.index).bytes()
    }
}

impl Register<'_> {
    /// Whether so many series with so many label pairs in all can be added.
    pub(crate) fn has_room_for(&self, series: usize, pairs: usize) -> bool {
        self.index.has_room_for(series, pairs)
    }

    /// The number of a label pair by its canonical bytes, made when it is new; good until [`SeriesTable::freed`] grows.
    /// A series of it must come before this is dropped. `None` when the bytes are not of a pair.
    pub(crate) fn pair(&mut self, text: &[u8]) -> Option<u32> {
        self.index.intern_pair(self.tenant, text)
    }

    /// Appends the series of lists of pairs, one behind the other in `pairs`, each up to its place in `ends` and in the
    /// order of canonical labels, to `ids`. [`has_room_for`](Self::has_room_for) has said yes to them.
    pub(crate) fn series(&mut self, pairs: &[u32], ends: &[u32], ids: &mut Vec<SeriesId>) {
        self.index.intern_lists(self.tenant, pairs, ends, ids);
    }
}

impl Session<'_> {
    /// The series of a raw spelling seen before.
    #[inline]
    pub fn known(&mut self, raw: &[u8]) -> Option<SeriesId> {
        let hash = self.table.hash.hash(self.tenant.0, raw);
        if let Held::Read(spellings) = &self.held {
            return spellings.find(hash, &mut self.place);
        }
        self.known_slowly(hash)
    }

    fn known_slowly(&mut self, hash: u128) -> Option<SeriesId> {
        if let Held::Write(spellings, left) = &mut self.held
            && *left > 0
        {
            *left -= 1;
            return spellings.find(hash, &mut self.place);
        }
        self.held = Held::Nothing;
        let spellings = read(&self.table.spellings);
        let found = spellings.find(hash, &mut self.place);
        self.held = Held::Read(spellings);
        found
    }

    /// The series of canonical label bytes, made when it is new; `raw` (when not empty) is remembered as its spelling.
    pub fn define(&mut self, raw: &[u8], labels: &[u8], limit: Option<SeriesLimits>) -> Result<SeriesId, TableFull> {
        let spelling = self.spelling(raw);
        self.define_spelled(spelling, labels, limit)
    }

    /// What stands for a raw spelling in [`define_spelled`](Self::define_spelled); `None` for an empty one.
    pub fn spelling(&self, raw: &[u8]) -> Option<u128> {
        (!raw.is_empty()).then(|| self.table.hash.hash(self.tenant.0, raw))
    }

    /// The same as [`define`](Self::define), with what [`spelling`](Self::spelling) gave.
    pub fn define_spelled(
        &mut self,
        spelling: Option<u128>,
        labels: &[u8],
        limit: Option<SeriesLimits>,
    ) -> Result<SeriesId, TableFull> {
        if !matches!(&self.held, Held::Write(_, left) if *left > 0) {
            self.held = Held::Nothing;
            self.held = Held::Write(write(&self.table.spellings), TURN);
        }
        let Held::Write(spellings, left) = &mut self.held else {
            return self.table.intern(self.tenant, labels, limit);
        };
        *left -= 1;
        let id = match (self.table.full.load(Relaxed), limit) {
            (bytes_max @ 1.., Some(_)) => {
                let nothing_new = SeriesLimits { tenant: 0, metric: 0 };
                let known = write(&self.table.index).intern(self.tenant, labels, Some(nothing_new));
                known.map_err(|_| TableFull::Memory {
                    tenant: self.tenant,
                    limit: bytes_max,
                })?
            }
            _ => write(&self.table.index).intern(self.tenant, labels, limit)?,
        };
        if let Some(hash) = spelling {
            let mut place = self.place;
            match spellings.find(hash, &mut place) {
                Some(_) => self.place = place,
                None => spellings.insert(hash, id, &mut self.place),
            }
        }
        Ok(id)
    }
}
