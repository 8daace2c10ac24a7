//! Definitions: the labels of series that a scope meets for the first time, as numbers of label pairs, these as
//! numbers of names with values told from the value before. A section refers to pairs and names of earlier ones by
//! number only, so that what is lost is noticed.

use model::{Labels, SeriesId, TenantId};

use super::RecordError;
use crate::chunk::cursor::{Cursor, put_text, put_varint, put_zigzag};
use crate::table::SeriesTable;

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
    /// Names of the label set that was checked last: the next most often has the same.
    checked: Vec<u32>,
    labels: Vec<u8>,
    found: Vec<u32>,
}

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

    fn intern(&mut self, number: u64, tenant: TenantId, table: &SeriesTable) -> Result<SeriesId, RecordError> {
        let lost = RecordError::Undefined { number };
        let Some(&(owner, at, len)) = usize::try_from(number).ok().and_then(|n| self.series.get(n)) else {
            return Err(lost);
        };
        if len == 0 || owner != tenant.0 {
            return Err(lost);
        }
        let list = &self.lists[at as usize..(at + len) as usize];
        if self.tenant != Some(tenant) {
            self.tenant = Some(tenant);
            self.in_table.fill(UNDEFINED);
        }
        self.labels.clear();
        self.found.clear();
        let mut same = self.checked.len() == list.len();
        for (i, p) in list.iter().enumerate() {
            let Some(&(_, _, name)) = self.pairs.get(*p as usize).filter(|p| p.1 > 0) else {
                return Err(lost);
            };
            same = same && self.checked[i] == name;
            self.found.push(self.in_table[*p as usize]);
        }
        let full = |_| RecordError::Field {
            field: "count of series in this process",
            value: number,
        };
        // pairs are text with a name and a value; what else makes a label set canonical is the order of its names
        if same
            && !self.found.contains(&UNDEFINED)
            && let Some(id) = table.intern_pairs(tenant, &self.found, self.freed)
        {
            let id = id.map_err(full)?;
            self.ids[number as usize] = id.0;
            return Ok(id);
        }
        for p in list {
            let (text, len, _) = self.pairs[*p as usize];
            self.labels
                .extend_from_slice(&self.texts[text as usize..(text + len) as usize]);
        }
        if !same {
            Labels::from_bytes(&self.labels).map_err(|_| RecordError::Labels)?;
            let names = list.iter().map(|p| self.pairs[*p as usize].2);
            self.checked.clear();
            self.checked.extend(names);
        }
        let id = table.intern(tenant, &self.labels, None).map_err(full)?;
        table.pairs_of(id, &mut self.found);
        if self.found.len() == list.len() {
            for (p, n) in list.iter().zip(&self.found) {
                self.in_table[*p as usize] = *n;
            }
        }
        self.ids[number as usize] = id.0;
        Ok(id)
    }
}
