//! Label memory and postings: pairs with their canonical bytes, names, series as slices of pair numbers.

use std::collections::HashMap;

use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use model::{Labels, METRIC_NAME, SeriesId, TenantId};

use super::hash::{short, short_numbers};
use super::postings::Postings;
use super::{SeriesLimits, TableFull};

/// What a series is at the moment.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum State {
    /// The id belongs to none.
    Free,
    Hidden,
    Visible,
    Retired,
}

#[derive(Clone, Copy)]
pub(super) struct Series {
    start: u32,
    pub(super) tenant: u32,
    len: u16,
    /// Counts the series that had this id before.
    pub(super) generation: u8,
    pub(super) state: State,
}

/// A label pair of one tenant.
pub(super) struct Pair {
    text_at: u64,
    text_len: u32,
    pub(super) name: u32,
    /// Its place in the name's list.
    at: u32,
    uses: u32,
    pub(super) postings: Postings,
}

pub(super) struct Name {
    pub(super) tenant: u32,
    pub(super) text: Box<str>,
    pub(super) pairs: Vec<u32>,
    pub(super) postings: Postings,
}

pub(super) struct Tenant {
    pub(super) id: TenantId,
    pub(super) series: usize,
    pub(super) names: HashMap<Box<str>, u32>,
    pub(super) all: Postings,
}

#[derive(Default)]
pub(super) struct Index {
    seed: u64,
    texts: Vec<u8>,
    texts_dead: usize,
    pub(super) pairs: Vec<Pair>,
    pairs_free: Vec<u32>,
    pairs_by_text: HashTable<u32>,
    pub(super) names: Vec<Name>,
    pub(super) tenants: Vec<Tenant>,
    tenants_by_id: HashMap<TenantId, u32>,
    pub(super) series: Vec<Series>,
    pair_ids: Vec<u32>,
    pair_ids_dead: usize,
    /// Ids, each with the hash of its pairs: growing looks at nothing else.
    by_pairs: HashTable<(u32, u32)>,
    free: Vec<u32>,
    /// Ids that were given again.
    pub(super) given_again: u64,
    /// Grows whenever a series becomes visible or ceases to be, and when numbers of pairs change hands.
    pub(super) version: u64,
    retired: HashMap<u32, u64>,
    /// The pairs found for the series looked up last; the next series often shares most.
    last: Vec<u32>,
    found: Vec<u32>,
}

/// Ids from `first` to `last` that have something in common: its number.
pub(super) struct Run {
    of: u32,
    pub(super) first: u32,
    pub(super) last: u32,
}

impl Run {
    fn new(of: u32, id: u32) -> Run {
        Run {
            of,
            first: id,
            last: id,
        }
    }

    fn goes_on(&self, of: u32, id: u32) -> bool {
        self.of == of && self.last.checked_add(1) == Some(id)
    }
}

/// Calls `with` for each number, with its runs in ascending order.
fn each_of(runs: &mut [Run], mut with: impl FnMut(u32, &[Run])) {
    runs.sort_unstable_by_key(|r| u64::from(r.of) << 32 | u64::from(r.first));
    for runs in runs.chunk_by(|a, b| a.of == b.of) {
        with(runs[0].of, runs);
    }
}

const MISSING: u32 = u32::MAX;

/// What a table makes of the half of a hash that its entries keep.
fn spread(half: u32) -> u64 {
    u64::from(half).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Splits the next pair off canonical bytes: its bytes, and where in them the name lies.
fn split_pair<'a>(rest: &mut &'a [u8]) -> Option<(&'a [u8], std::ops::Range<usize>)> {
    let whole = *rest;
    let text = |at: &mut usize| -> Option<std::ops::Range<usize>> {
        let (mut len, mut shift) = (0usize, 0);
        loop {
            let b = *whole.get(*at)?;
            *at += 1;
            len |= usize::from(b & 0x7f) << shift;
            if b < 0x80 {
                break;
            }
            shift += 7;
            if shift > 28 {
                return None;
            }
        }
        let start = *at;
        *at = start.checked_add(len).filter(|end| *end <= whole.len())?;
        Some(start..*at)
    };
    let mut at = 0;
    let name = text(&mut at)?;
    text(&mut at)?;
    let (pair, tail) = whole.split_at(at);
    *rest = tail;
    Some((pair, name))
}

/// The value within a pair's bytes.
fn value_of(pair: &[u8]) -> &str {
    let mut rest = pair;
    let value = split_pair(&mut rest).and_then(|(_, name)| {
        let after = &pair[name.end..];
        let skip = after.iter().position(|b| *b < 0x80)? + 1;
        std::str::from_utf8(&after[skip..]).ok()
    });
    value.unwrap_or_default()
}

impl Index {
    pub(super) fn new(seed: u64) -> Self {
        Index {
            seed,
            ..Index::default()
        }
    }

    pub(super) fn pair_text(&self, pair: u32) -> &[u8] {
        let p = &self.pairs[pair as usize];
        &self.texts[p.text_at as usize..p.text_at as usize + p.text_len as usize]
    }

    /// The bytes of a pair that may be gone.
    pub(super) fn text_of(&self, pair: u32) -> &[u8] {
        let range = |p: &Pair| p.text_at as usize..p.text_at as usize + p.text_len as usize;
        let text = self.pairs.get(pair as usize).and_then(|p| self.texts.get(range(p)));
        text.unwrap_or_default()
    }

    pub(super) fn value(&self, pair: u32) -> &str {
        value_of(self.pair_text(pair))
    }

    pub(super) fn pairs_of(&self, id: SeriesId) -> &[u32] {
        match self.series.get(id.index()) {
            Some(s) if s.state != State::Free => {
                &self.pair_ids[s.start as usize..s.start as usize + usize::from(s.len)]
            }
            _ => &[],
        }
    }

    pub(super) fn live(&self, id: SeriesId) -> Option<&Series> {
        self.series.get(id.index()).filter(|s| s.state != State::Free)
    }

    pub(super) fn tenant(&self, tenant: TenantId) -> Option<&Tenant> {
        self.tenants_by_id.get(&tenant).map(|&t| &self.tenants[t as usize])
    }

    pub(super) fn tenant_slot(&mut self, tenant: TenantId) -> u32 {
        *self.tenants_by_id.entry(tenant).or_insert_with(|| {
            self.tenants.push(Tenant {
                id: tenant,
                series: 0,
                names: HashMap::new(),
                all: Postings::Empty,
            });
            self.tenants.len() as u32 - 1
        })
    }

    fn text_hash(&self, tenant: u32, text: &[u8]) -> u64 {
        short(self.seed ^ u64::from(tenant).wrapping_mul(0x9e37_79b9_7f4a_7c15), text)
    }

    /// The pair of these canonical bytes.
    pub(super) fn find_pair(&self, tenant: u32, text: &[u8]) -> Option<u32> {
        self.pairs_by_text
            .find(self.text_hash(tenant, text), |&p| {
                self.names[self.pairs[p as usize].name as usize].tenant == tenant && self.pair_text(p) == text
            })
            .copied()
    }

    pub(super) fn find_value(&self, tenant: u32, name: &str, value: &str) -> Option<u32> {
        let mut text = Vec::with_capacity(name.len() + value.len() + 8);
        crate::chunk::cursor::put_text(&mut text, name);
        crate::chunk::cursor::put_text(&mut text, value);
        self.find_pair(tenant, &text)
    }

    /// Fills `found` with the pairs of canonical bytes; true when all exist.
    fn resolve(&self, tenant: u32, labels: &[u8], found: &mut Vec<u32>) -> bool {
        found.clear();
        let mut rest = labels;
        let mut all = true;
        while let Some((text, _)) = split_pair(&mut rest) {
            let hint = self.last.get(found.len()).copied().filter(|&p| {
                self.pairs.get(p as usize).is_some_and(|pair| {
                    pair.uses > 0 && self.names[pair.name as usize].tenant == tenant && self.pair_text(p) == text
                })
            });
            let pair = hint.or_else(|| self.find_pair(tenant, text)).unwrap_or(MISSING);
            all &= pair != MISSING;
            found.push(pair);
        }
        all
    }

    fn find_series(&self, pairs: &[u32]) -> Option<SeriesId> {
        let half = short_numbers(self.seed, pairs) as u32;
        self.by_pairs
            .find(spread(half), |&(id, hash)| {
                hash == half && self.pairs_of(SeriesId(id)) == pairs
            })
            .map(|&(id, _)| SeriesId(id))
    }

    pub(super) fn find(&self, tenant: TenantId, labels: &[u8]) -> Option<SeriesId> {
        let slot = *self.tenants_by_id.get(&tenant)?;
        let mut found = Vec::new();
        if !self.resolve(slot, labels, &mut found) {
            return None;
        }
        self.find_series(&found)
    }

    pub(super) fn intern(
        &mut self,
        tenant: TenantId,
        labels: &[u8],
        limit: Option<SeriesLimits>,
    ) -> Result<SeriesId, TableFull> {
        let slot = self.tenant_slot(tenant);
        let mut found = std::mem::take(&mut self.found);
        let known = self
            .resolve(slot, labels, &mut found)
            .then(|| self.find_series(&found))
            .flatten();
        if let Some(id) = known {
            self.revive(id);
            self.found = found;
            return Ok(id);
        }
        let limits = limit.unwrap_or(SeriesLimits {
            tenant: usize::MAX,
            metric: usize::MAX,
        });
        let limit = limits.tenant;
        if self.tenants[slot as usize].series >= limit || !self.has_room(found.len()) {
            self.found = found;
            return Err(TableFull::Tenant { tenant, limit });
        }
        if limits.metric < usize::MAX && self.series_of_metric(labels, &found) >= limits.metric {
            self.found = found;
            let limit = limits.metric;
            return Err(TableFull::Metric { tenant, limit });
        }
        let mut rest = labels;
        for pair in found.iter_mut() {
            let Some((text, name)) = split_pair(&mut rest) else {
                break;
            };
            if *pair == MISSING {
                *pair = self.add_pair(slot, text, name);
            }
            self.pairs[*pair as usize].uses += 1;
        }
        let id = self.add_series(slot, &found);
        std::mem::swap(&mut self.last, &mut found);
        self.found = found;
        Ok(id)
    }

    fn has_room(&self, pairs: usize) -> bool {
        pairs <= usize::from(u16::MAX) && self.has_room_for(1, pairs)
    }

    /// Whether so many series with so many pairs in all can be added.
    pub(super) fn has_room_for(&self, series: usize, pairs: usize) -> bool {
        self.pair_ids.len() + pairs <= u32::MAX as usize && self.series.len() + series < MISSING as usize
    }

    /// The pair of canonical bytes, made when it is new. A series of it must follow under the same lock: a pair without
    /// one is taken for free.
    pub(super) fn intern_pair(&mut self, tenant: u32, text: &[u8]) -> Option<u32> {
        if let Some(pair) = self.find_pair(tenant, text) {
            return Some(pair);
        }
        let (_, name) = split_pair(&mut { text })?;
        Some(self.add_pair(tenant, text, name))
    }

    /// Appends the series of these lists of pairs of the tenant to `ids`, made where they are new; each list makes
    /// canonical labels in its order, and ends where `ends` tells. The caller has asked [`has_room_for`](Self::has_room_for).
    pub(super) fn intern_lists(&mut self, tenant: u32, pairs: &[u32], ends: &[u32], ids: &mut Vec<SeriesId>) {
        let mut start = 0;
        let lists = ends.iter().map(|&end| {
            let list = &pairs[start..end as usize];
            start = end as usize;
            (list, short_numbers(self.seed, list) as u32)
        });
        let lists: Vec<(&[u32], u32)> = lists.collect();
        // most are new, and each lies somewhere else: the places are brought from memory together, not one after the other
        let near = lists
            .iter()
            .filter(|(_, half)| self.by_pairs.find(spread(*half), |e| e.1 == *half).is_some());
        std::hint::black_box(near.count());
        ids.extend(lists.iter().map(|&(list, half)| self.intern_list(tenant, list, half)));
    }

    fn intern_list(&mut self, tenant: u32, list: &[u32], half: u32) -> SeriesId {
        let (series, pair_ids) = (&self.series, &self.pair_ids);
        let same = |&(id, hash): &(u32, u32)| {
            let at = |s: &Series| s.start as usize..s.start as usize + usize::from(s.len);
            hash == half && series.get(id as usize).is_some_and(|s| pair_ids[at(s)] == *list)
        };
        match self.by_pairs.entry(spread(half), same, |&(_, hash)| spread(hash)) {
            Entry::Occupied(there) => {
                let id = SeriesId(there.get().0);
                self.revive(id);
                id
            }
            Entry::Vacant(place) => {
                let id = self.free.last().copied().unwrap_or(self.series.len() as u32);
                place.insert((id, half));
                for &pair in list {
                    self.pairs[pair as usize].uses += 1;
                }
                self.place_series(tenant, list)
            }
        }
    }

    /// Series that have the metric name of these labels, seen and unseen. `found`: the labels' pairs.
    fn series_of_metric(&self, labels: &[u8], found: &[u32]) -> usize {
        let mut rest = labels;
        for &pair in found {
            let Some((text, name)) = split_pair(&mut rest) else {
                break;
            };
            if text[name] == *METRIC_NAME.as_bytes() {
                return self.pairs.get(pair as usize).map_or(0, |p| p.uses as usize);
            }
        }
        0
    }

    fn add_pair(&mut self, tenant: u32, text: &[u8], name: std::ops::Range<usize>) -> u32 {
        let name_text = String::from_utf8_lossy(&text[name]);
        let name = match self.tenants[tenant as usize].names.get(&*name_text) {
            Some(&n) => n,
            None => {
                let number = self.names.len() as u32;
                let text: Box<str> = (*name_text).into();
                self.tenants[tenant as usize].names.insert(text.clone(), number);
                self.names.push(Name {
                    tenant,
                    text,
                    pairs: Vec::new(),
                    postings: Postings::Empty,
                });
                number
            }
        };
        let text_at = self.texts.len() as u64;
        self.texts.extend_from_slice(text);
        let at = self.names[name as usize].pairs.len() as u32;
        let pair = Pair {
            text_at,
            text_len: text.len() as u32,
            name,
            at,
            uses: 0,
            postings: Postings::Empty,
        };
        let number = match self.pairs_free.pop() {
            Some(n) => {
                self.pairs[n as usize] = pair;
                n
            }
            None => {
                self.pairs.push(pair);
                self.pairs.len() as u32 - 1
            }
        };
        self.names[name as usize].pairs.push(number);
        let hash = self.text_hash(tenant, text);
        let (seed, pairs, names, texts) = (self.seed, &self.pairs, &self.names, &self.texts);
        self.pairs_by_text.insert_unique(hash, number, |&p| {
            let p = &pairs[p as usize];
            let tenant = names[p.name as usize].tenant;
            let text = &texts[p.text_at as usize..p.text_at as usize + p.text_len as usize];
            short(seed ^ u64::from(tenant).wrapping_mul(0x9e37_79b9_7f4a_7c15), text)
        });
        number
    }

    fn add_series(&mut self, tenant: u32, pairs: &[u32]) -> SeriesId {
        let half = short_numbers(self.seed, pairs) as u32;
        let id = self.place_series(tenant, pairs);
        self.by_pairs
            .insert_unique(spread(half), (id.0, half), |&(_, hash)| spread(hash));
        id
    }

    /// Takes the next id, which is not in the table of pairs yet.
    fn place_series(&mut self, tenant: u32, pairs: &[u32]) -> SeriesId {
        let start = self.pair_ids.len() as u32;
        self.pair_ids.extend_from_slice(pairs);
        let mut series = Series {
            start,
            tenant,
            len: pairs.len() as u16,
            generation: 0,
            state: State::Hidden,
        };
        let id = match self.free.pop() {
            Some(id) => {
                self.given_again += 1;
                series.generation = self.series[id as usize].generation.wrapping_add(1);
                self.series[id as usize] = series;
                id
            }
            None => {
                self.series.push(series);
                self.series.len() as u32 - 1
            }
        };
        self.tenants[tenant as usize].series += 1;
        SeriesId(id)
    }

    pub(super) fn write_labels(&self, id: SeriesId, out: &mut Vec<u8>) {
        for &p in self.pairs_of(id) {
            out.extend_from_slice(self.pair_text(p));
        }
    }

    pub(super) fn labels(&self, id: SeriesId, scratch: &mut Vec<u8>) -> Labels {
        scratch.clear();
        self.write_labels(id, scratch);
        Labels::from_trusted_bytes(scratch)
    }

    /// In the order of canonical label bytes: a pair's bytes are never the beginning of another's.
    pub(super) fn compare(&self, a: SeriesId, b: SeriesId) -> std::cmp::Ordering {
        let (x, y) = (self.pairs_of(a), self.pairs_of(b));
        for (p, q) in x.iter().zip(y) {
            if p != q {
                let order = self.pair_text(*p).cmp(self.pair_text(*q));
                if order.is_ne() {
                    return order;
                }
            }
        }
        x.len().cmp(&y.len())
    }

    pub(super) fn alive(&self) -> usize {
        self.series.len() - self.free.len() - self.retired.len()
    }

    pub(super) fn retired_any(&self) -> bool {
        !self.retired.is_empty()
    }

    /// A retired series that comes back keeps its id.
    pub(super) fn revive(&mut self, id: SeriesId) {
        if let Some(s) = self.series.get_mut(id.index())
            && s.state == State::Retired
        {
            s.state = State::Hidden;
            self.retired.remove(&id.0);
        }
    }

    /// Enters hidden (and retired) series into the postings, run by run: neighbours share most pairs.
    pub(super) fn set_visible(&mut self, ids: &[SeriesId]) {
        let mut all: Vec<Run> = Vec::new();
        // what the series before has at each place, and since when
        let mut open: Vec<(Run, Run)> = Vec::new();
        let (mut pairs, mut names): (Vec<Run>, Vec<Run>) = (Vec::new(), Vec::new());
        for &id in ids {
            let Some(s) = self.live(id).copied().filter(|s| s.state != State::Visible) else {
                continue;
            };
            self.revive(id);
            self.series[id.index()].state = State::Visible;
            match all.last_mut() {
                Some(run) if run.goes_on(s.tenant, id.0) => run.last = id.0,
                _ => all.push(Run::new(s.tenant, id.0)),
            }
            let list = &self.pair_ids[s.start as usize..s.start as usize + usize::from(s.len)];
            for (i, &pair) in list.iter().enumerate() {
                let Some((of_pair, of_name)) = open.get_mut(i) else {
                    let name = self.pairs[pair as usize].name;
                    open.push((Run::new(pair, id.0), Run::new(name, id.0)));
                    continue;
                };
                if of_pair.goes_on(pair, id.0) {
                    (of_pair.last, of_name.last) = (id.0, id.0);
                    continue;
                }
                pairs.push(std::mem::replace(of_pair, Run::new(pair, id.0)));
                let name = self.pairs[pair as usize].name;
                match of_name.goes_on(name, id.0) {
                    true => of_name.last = id.0,
                    false => names.push(std::mem::replace(of_name, Run::new(name, id.0))),
                }
            }
            // a place that this series lacks
            for (of_pair, of_name) in open.drain(list.len().min(open.len())..) {
                pairs.push(of_pair);
                names.push(of_name);
            }
        }
        self.version += u64::from(!all.is_empty());
        for (of_pair, of_name) in open {
            pairs.push(of_pair);
            names.push(of_name);
        }
        each_of(&mut pairs, |pair, runs| {
            self.pairs[pair as usize].postings.insert_runs(runs)
        });
        each_of(&mut names, |name, runs| {
            self.names[name as usize].postings.insert_runs(runs)
        });
        each_of(&mut all, |tenant, runs| {
            self.tenants[tenant as usize].all.insert_runs(runs)
        });
    }

    /// Takes a series out of the postings; its labels stay.
    pub(super) fn retire(&mut self, id: SeriesId, position: u64) {
        let Some(s) = self.live(id).copied().filter(|s| s.state != State::Retired) else {
            return;
        };
        if s.state == State::Visible {
            for i in 0..usize::from(s.len) {
                let pair = &mut self.pairs[self.pair_ids[s.start as usize + i] as usize];
                pair.postings.remove(id.0);
                self.names[pair.name as usize].postings.remove(id.0);
            }
            self.tenants[s.tenant as usize].all.remove(id.0);
        }
        self.version += 1;
        self.series[id.index()].state = State::Retired;
        self.retired.insert(id.0, position);
    }

    /// Frees the ids retired at or before `position`; returns how many.
    pub(super) fn reuse_up_to(&mut self, position: u64) -> usize {
        let mut ids: Vec<u32> = self
            .retired
            .iter()
            .filter(|(_, p)| **p <= position)
            .map(|(id, _)| *id)
            .collect();
        // given again from the end: ascending
        ids.sort_unstable_by(|a, b| b.cmp(a));
        self.version += u64::from(!ids.is_empty());
        for &id in &ids {
            self.retired.remove(&id);
            self.free_series(SeriesId(id));
        }
        self.free.extend_from_slice(&ids);
        if self.texts_dead * 2 > self.texts.len() {
            self.compact_texts();
        }
        if self.pair_ids_dead * 2 > self.pair_ids.len() {
            self.compact_pair_ids();
        }
        ids.len()
    }

    fn free_series(&mut self, id: SeriesId) {
        let s = self.series[id.index()];
        let half = short_numbers(self.seed, self.pairs_of(id)) as u32;
        if let Ok(entry) = self.by_pairs.find_entry(spread(half), |e| e.0 == id.0) {
            entry.remove();
        }
        self.tenants[s.tenant as usize].series -= 1;
        self.series[id.index()].state = State::Free;
        self.pair_ids_dead += usize::from(s.len);
        for i in 0..usize::from(s.len) {
            let number = self.pair_ids[s.start as usize + i];
            self.pairs[number as usize].uses -= 1;
            if self.pairs[number as usize].uses == 0 {
                self.free_pair(number);
            }
        }
    }

    fn free_pair(&mut self, number: u32) {
        let (name, at) = (self.pairs[number as usize].name, self.pairs[number as usize].at);
        let hash = self.text_hash(self.names[name as usize].tenant, self.pair_text(number));
        if let Ok(entry) = self.pairs_by_text.find_entry(hash, |&p| p == number) {
            entry.remove();
        }
        let list = &mut self.names[name as usize].pairs;
        list.swap_remove(at as usize);
        if let Some(&moved) = list.get(at as usize) {
            self.pairs[moved as usize].at = at;
        }
        self.texts_dead += self.pairs[number as usize].text_len as usize;
        self.pairs_free.push(number);
    }

    fn compact_texts(&mut self) {
        let mut texts = Vec::with_capacity(self.texts.len() - self.texts_dead);
        for p in self.pairs.iter_mut().filter(|p| p.uses > 0) {
            let at = p.text_at as usize;
            p.text_at = texts.len() as u64;
            texts.extend_from_slice(&self.texts[at..at + p.text_len as usize]);
        }
        for p in self.pairs.iter_mut().filter(|p| p.uses == 0) {
            (p.text_at, p.text_len) = (0, 0);
        }
        self.texts = texts;
        self.texts_dead = 0;
    }

    fn compact_pair_ids(&mut self) {
        let mut ids = Vec::with_capacity(self.pair_ids.len() - self.pair_ids_dead);
        for s in self.series.iter_mut() {
            if s.state == State::Free {
                (s.start, s.len) = (0, 0);
                continue;
            }
            let start = s.start as usize;
            s.start = ids.len() as u32;
            ids.extend_from_slice(&self.pair_ids[start..start + usize::from(s.len)]);
        }
        self.pair_ids = ids;
        self.pair_ids_dead = 0;
    }

    pub(super) fn metric_name(&self, tenant: &Tenant) -> Option<&Name> {
        tenant.names.get(METRIC_NAME).map(|&n| &self.names[n as usize])
    }

    pub(super) fn text_bytes(&self, pair: u32) -> u64 {
        u64::from(self.pairs[pair as usize].text_len)
    }

    pub(super) fn bytes(&self) -> usize {
        self.texts.capacity()
            + self.pairs.capacity() * size_of::<Pair>()
            + self.pairs.iter().map(|p| p.postings.bytes()).sum::<usize>()
            + self
                .names
                .iter()
                .map(|n| size_of::<Name>() + n.pairs.capacity() * 4 + n.postings.bytes())
                .sum::<usize>()
            + self
                .tenants
                .iter()
                .map(|t| t.all.bytes() + t.names.capacity() * 32)
                .sum::<usize>()
            + self.pairs_by_text.capacity() * 5
            + self.by_pairs.capacity() * 9
            + self.series.capacity() * size_of::<Series>()
            + (self.pair_ids.capacity() + self.pairs_free.capacity() + self.free.capacity()) * 4
            + self.retired.capacity() * 16
    }
}
