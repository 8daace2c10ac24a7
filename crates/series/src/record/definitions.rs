//! Definitions: the labels of series that a scope meets for the first time, as numbers of label pairs, these as
//! numbers of names with values told from the value before. A section refers to pairs and names of earlier ones by
//! number only, so that what is lost is noticed.

use model::{Labels, SeriesId, TenantId};

use super::RecordError;
use crate::chunk::cursor::{Cursor, put_text, put_varint, put_zigzag};
use crate::table::{Register, SeriesTable};

/// Numbers that may be missing before a section: those of lost records.
const GAP_MAX: usize = 1 << 20;

const UNDEFINED: u32 = u32::MAX;

/// Bytes of a value that are told by the value before it; with the two bounds below, few bytes never become much memory.
const SHARED_MAX: usize = 255;
/// Bytes of text that one section may spell out.
const TEXT_MAX: usize = 256 << 20;
/// Labels that the series of one section may have together.
const LABELS_MAX: usize = 16 << 20;

/// What one record defines; the encoder fills it, then writes it.
#[derive(Default)]
pub(super) struct Section {
    names: Vec<String>,
    /// Name number and value.
    pairs: Vec<(u32, String)>,
    series: Vec<u32>,
    lens: Vec<u32>,
}

impl Section {
    pub(super) fn is_empty(&self) -> bool {
        self.lens.is_empty()
    }

    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.pairs.clear();
        self.series.clear();
        self.lens.clear();
    }

    pub(super) fn add_name(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    pub(super) fn add_pair(&mut self, name: u32, value: &str) {
        self.pairs.push((name, value.to_owned()));
    }

    pub(super) fn add_series(&mut self, pairs: &[u32]) {
        self.series.extend_from_slice(pairs);
        self.lens.push(pairs.len() as u32);
    }

    /// `first`: number of the first name, pair and series.
    pub(super) fn write(&self, first: [u32; 3], out: &mut Vec<u8>) {
        put_varint(out, u64::from(first[0]));
        put_varint(out, self.names.len() as u64);
        for n in &self.names {
            put_text(out, n);
        }
        put_varint(out, u64::from(first[1]));
        put_varint(out, self.pairs.len() as u64);
        let mut before = "";
        for (name, value) in &self.pairs {
            put_varint(out, u64::from(*name));
            let shared = shared_prefix(before, value);
            put_varint(out, shared as u64);
            put_text(out, &value[shared..]);
            before = value;
        }
        put_varint(out, u64::from(first[2]));
        put_varint(out, self.lens.len() as u64);
        let (mut at, mut last): (usize, &[u32]) = (0, &[]);
        for &len in &self.lens {
            let pairs = &self.series[at..at + len as usize];
            at += len as usize;
            put_varint(out, u64::from(len));
            // which of the first 64 differ from the series before; the others are written always
            let mask = (0..pairs.len().min(64))
                .filter(|&i| last.get(i) != Some(&pairs[i]))
                .fold(0, |m, i| m | 1u64 << i);
            put_varint(out, mask);
            for (i, &p) in pairs.iter().enumerate().filter(|(i, _)| *i >= 64 || mask >> i & 1 == 1) {
                put_zigzag(out, i64::from(p) - i64::from(last.get(i).copied().unwrap_or(0)));
            }
            last = pairs;
        }
    }
}

fn shared_prefix(a: &str, b: &str) -> usize {
    let mut n = a
        .bytes()
        .zip(b.bytes())
        .take(SHARED_MAX)
        .take_while(|(x, y)| x == y)
        .count();
    while !b.is_char_boundary(n) || !a.is_char_boundary(n) {
        n -= 1;
    }
    n
}

/// What the decoder knows of the scope.
#[derive(Default)]
pub(super) struct Known {
    names: Vec<Option<Box<str>>>,
    /// Canonical bytes of pairs, by place in `texts`, and the number of the name; an empty range is a lost pair.
    pairs: Vec<(u32, u32, u32)>,
    /// Their numbers in the table, where they are known: of `tenant`, while so many ids of the table are free.
    in_table: Vec<u32>,
    tenant: Option<TenantId>,
    freed: u64,
    texts: Vec<u8>,
    /// By series: tenant, place and count in `lists`.
    series: Vec<(u32, u32, u32)>,
    lists: Vec<u32>,
    ids: Vec<u32>,
    /// Names of the label sets that were checked last, newest first: the next most often has the same.
    checked: Vec<Vec<u32>>,
    labels: Vec<u8>,
    group: Group,
}

/// Series that go into the table together.
#[derive(Default)]
struct Group {
    numbers: Vec<usize>,
    /// Their pairs in the table.
    pairs: Vec<u32>,
    ends: Vec<u32>,
    ids: Vec<SeriesId>,
}

/// Series of a group, and of one holding of the table's lock.
const GROUP: usize = 64;
const TURN: usize = 1024;
/// Sets of names that count as checked.
const CHECKED_MAX: usize = 8;

impl Known {
    pub(super) fn clear(&mut self) {
        self.names.clear();
        self.pairs.clear();
        self.in_table.clear();
        self.texts.clear();
        self.series.clear();
        self.lists.clear();
        self.ids.clear();
        self.checked.clear();
    }

    /// Ids may have been given to other series: they are looked up again when needed.
    pub(super) fn forget_ids(&mut self, freed: u64) {
        self.freed = freed;
        self.ids.fill(UNDEFINED);
        self.in_table.fill(UNDEFINED);
    }

    /// Reads a section. Nothing of it counts when it is damaged, though names and pairs may have been added.
    pub(super) fn read(&mut self, tenant: TenantId, from: &mut Cursor<'_>) -> Result<(), RecordError> {
        let first = from.bounded("first name", self.names.len() + GAP_MAX)?;
        let count = from.bounded("count of names", from.rest.len())?;
        if self.names.len() < first + count {
            self.names.resize(first + count, None);
        }
        for n in &mut self.names[first..first + count] {
            let name = from.text("label name", from.rest.len())?;
            // a number stands for one name as long as the scope lasts: what was checked stays so
            if n.as_deref().is_some_and(|before| before != name) {
                return Err(RecordError::Field {
                    field: "first name",
                    value: first as u64,
                });
            }
            *n = Some(name.into());
        }
        let first = from.bounded("first pair", self.pairs.len() + GAP_MAX)?;
        let count = from.bounded("count of pairs", from.rest.len())?;
        if self.pairs.len() < first + count {
            self.pairs.resize(first + count, (0, 0, 0));
            self.in_table.resize(first + count, UNDEFINED);
        }
        let mut value = String::new();
        let text_start = self.texts.len();
        for number in first..first + count {
            let name = from.varint()?;
            let shared = from.bounded("shared prefix", value.len().min(SHARED_MAX))?;
            if !value.is_char_boundary(shared) {
                return Err(RecordError::Field {
                    field: "shared prefix",
                    value: shared as u64,
                });
            }
            value.truncate(shared);
            value.push_str(from.text("label value", from.rest.len())?);
            let text = self.texts.len() - text_start;
            if text > TEXT_MAX || self.texts.len() > u32::MAX as usize - (16 << 20) {
                return Err(RecordError::Field {
                    field: "text of definitions",
                    value: text as u64,
                });
            }
            let number_of_name = name as u32;
            let Some(Some(name)) = usize::try_from(name).ok().and_then(|n| self.names.get(n)) else {
                continue;
            };
            if name.is_empty() || value.is_empty() {
                // no label set has it
                continue;
            }
            let start = self.texts.len();
            put_text(&mut self.texts, name);
            put_text(&mut self.texts, &value);
            self.in_table[number] = UNDEFINED;
            self.pairs[number] = (start as u32, (self.texts.len() - start) as u32, number_of_name);
        }
        let first = from.bounded("first series", self.ids.len() + GAP_MAX)?;
        let count = from.bounded("count of series", from.rest.len() / 2)?;
        let start = self.lists.len();
        let mut defined = Vec::with_capacity(count);
        let mut last = start..start;
        for _ in 0..count {
            let len = from.bounded("count of labels", usize::from(u16::MAX))?;
            let mask = from.varint()?;
            let at = self.lists.len();
            if at + len - start > LABELS_MAX || at + len > u32::MAX as usize {
                return Err(RecordError::Field {
                    field: "count of labels",
                    value: len as u64,
                });
            }
            for i in 0..len {
                let before = last.clone().nth(i).map(|at| self.lists[at]);
                let pair = if i >= 64 || mask >> i & 1 == 1 {
                    let delta = from.zigzag()?;
                    i64::from(before.unwrap_or(0)).wrapping_add(delta) as u32
                } else {
                    before.ok_or(RecordError::Field {
                        field: "mask of labels",
                        value: mask,
                    })?
                };
                self.lists.push(pair);
            }
            defined.push((tenant.0, at as u32, len as u32));
            last = at..at + len;
        }
        if self.ids.len() < first + count {
            self.ids.resize(first + count, UNDEFINED);
            self.series.resize(first + count, (0, 0, 0));
        }
        self.ids[first..first + count].fill(UNDEFINED);
        self.series[first..first + count].copy_from_slice(&defined);
        Ok(())
    }

    /// The series of a scope number.
    #[inline]
    pub(super) fn series(
        &mut self,
        number: u64,
        tenant: TenantId,
        table: &SeriesTable,
    ) -> Result<SeriesId, RecordError> {
        match self.ids.get(number as usize) {
            Some(&id) if id != UNDEFINED && self.series[number as usize].0 == tenant.0 => Ok(SeriesId(id)),
            _ => self.intern(number, tenant, table),
        }
    }

    /// Appends the series of `len` scope numbers from `first` on to `out`; `step` is 1, or 0 when it is one number again
    /// and again.
    pub(super) fn run(
        &mut self,
        first: u64,
        len: u64,
        step: u64,
        tenant: TenantId,
        table: &SeriesTable,
        out: &mut Vec<SeriesId>,
    ) -> Result<(), RecordError> {
        let last = first.saturating_add(len.saturating_mul(step));
        if step == 1 && last <= self.ids.len() as u64 {
            // what cannot be registered is left to be told of below
            self.register(first as usize..last as usize, tenant, table);
        }
        for i in 0..len {
            out.push(self.series(first.wrapping_add(i * step), tenant, table)?);
        }
        Ok(())
    }

    fn intern(&mut self, number: u64, tenant: TenantId, table: &SeriesTable) -> Result<SeriesId, RecordError> {
        let lost = RecordError::Undefined { number };
        let Some(at) = usize::try_from(number).ok().filter(|n| *n < self.series.len()) else {
            return Err(lost);
        };
        let (owner, _, len) = self.series[at];
        if len == 0 || owner != tenant.0 {
            return Err(lost);
        }
        if !self.pairs_there(at) {
            return Err(lost);
        }
        if !self.is_canonical(at) {
            return Err(RecordError::Labels);
        }
        self.register(at..at + 1, tenant, table);
        match self.ids[at] {
            UNDEFINED => Err(RecordError::Field {
                field: "count of series in this process",
                value: number,
            }),
            id => Ok(SeriesId(id)),
        }
    }

    fn list(&self, number: usize) -> &[u32] {
        let (_, at, len) = self.series[number];
        &self.lists[at as usize..(at + len) as usize]
    }

    fn pairs_there(&self, number: usize) -> bool {
        let there = |p: &u32| self.pairs.get(*p as usize).is_some_and(|p| p.1 > 0);
        self.list(number).iter().all(there)
    }

    /// Whether the labels of a series, whose pairs are there, are in canonical order: pairs are text with a name and a
    /// value, so that nothing else is to be checked.
    fn is_canonical(&mut self, number: usize) -> bool {
        let (_, at, len) = self.series[number];
        let list = &self.lists[at as usize..(at + len) as usize];
        let names = || list.iter().map(|p| self.pairs[*p as usize].2);
        let same = |checked: &Vec<u32>| checked.len() == list.len() && checked.iter().copied().eq(names());
        match self.checked.iter().position(same) {
            Some(0) => return true,
            Some(i) => {
                self.checked.swap(0, i);
                return true;
            }
            None => {}
        }
        self.labels.clear();
        for p in list {
            let (text, len, _) = self.pairs[*p as usize];
            self.labels
                .extend_from_slice(&self.texts[text as usize..(text + len) as usize]);
        }
        if Labels::from_bytes(&self.labels).is_err() {
            return false;
        }
        let names = names().collect();
        self.checked.truncate(CHECKED_MAX - 1);
        self.checked.insert(0, names);
        true
    }

    /// Looks up or makes those of these series that are defined, and not known yet.
    fn register(&mut self, numbers: std::ops::Range<usize>, tenant: TenantId, table: &SeriesTable) {
        if self.tenant != Some(tenant) {
            self.tenant = Some(tenant);
            self.in_table.fill(UNDEFINED);
        }
        let mut group = std::mem::take(&mut self.group);
        let mut at = numbers.start;
        while at < numbers.end {
            let turn = numbers.end.min(at + TURN);
            let missing = |n: &usize| self.ids[*n] == UNDEFINED;
            at = (at..turn).find(missing).unwrap_or(turn);
            if at == turn {
                continue;
            }
            if self.freed != table.freed() {
                // the next record begins with the numbers forgotten
                self.freed = table.freed();
                self.in_table.fill(UNDEFINED);
            }
            let Some(mut register) = table.register(tenant, self.freed) else {
                continue;
            };
            while at < turn {
                at = self.gather(at..turn, tenant, &mut register, &mut group);
                register.series(&group.pairs, &group.ends, &mut group.ids);
                for (number, id) in group.numbers.iter().zip(&group.ids) {
                    self.ids[*number] = id.0;
                }
            }
        }
        self.group = group;
    }

    /// Fills a group; returns where the next begins.
    fn gather(
        &mut self,
        numbers: std::ops::Range<usize>,
        tenant: TenantId,
        register: &mut Register<'_>,
        group: &mut Group,
    ) -> usize {
        group.numbers.clear();
        group.pairs.clear();
        group.ends.clear();
        group.ids.clear();
        for number in numbers.clone() {
            let (owner, at, len) = self.series[number];
            let wanted = self.ids[number] == UNDEFINED && owner == tenant.0 && len > 0;
            if !wanted || !self.pairs_there(number) || !self.is_canonical(number) {
                continue;
            }
            if !register.has_room_for(group.ends.len() + 1, group.pairs.len() + len as usize) {
                return numbers.end;
            }
            let start = group.pairs.len();
            for p in &self.lists[at as usize..(at + len) as usize] {
                let (text, bytes, _) = self.pairs[*p as usize];
                let known = &mut self.in_table[*p as usize];
                if *known == UNDEFINED {
                    let text = &self.texts[text as usize..(text + bytes) as usize];
                    *known = register.pair(text).unwrap_or(UNDEFINED);
                }
                group.pairs.push(*known);
            }
            if group.pairs[start..].contains(&UNDEFINED) {
                group.pairs.truncate(start);
                continue;
            }
            group.numbers.push(number);
            group.ends.push(group.pairs.len() as u32);
            if group.ends.len() == GROUP {
                return number + 1;
            }
        }
        numbers.end
    }
}
