//! Label sets as bytes: a symbol table, and per run of series with the same label names and metric a column of symbols for
//! each name. Equal columns are stored once, so a second metric of the same targets costs next to nothing. Matchers are
//! answered by scanning columns: no posting lists are stored, because a scan of 32-bit numbers is quicker than they are.

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::BTreeSet;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use hashbrown::{DefaultHashBuilder, HashMap, HashTable};
use model::{Labels, METRIC_NAME, MatchOp, Matcher, TenantId, TimeRange};

use crate::block::{Directory, FileBounds, ReadError, unpack};
use crate::bytes::{Bytes, Malformed, put_text, put_varint};

/// Bytes of text that a page of an index may unpack to: symbols end at 32-bit places.
const TEXT_BYTES_MAX: usize = 1 << 30;

/// Values of sets that lie together: room grows by so many, so that growing never copies.
const VALUES_PAGE: usize = 1 << 18;

/// Tenant and label names, which many sets have in common.
struct Shape {
    tenant: TenantId,
    names: Box<[u32]>,
}

/// A set: its shape, and where its values begin.
#[derive(Clone, Copy)]
struct Set {
    shape: u32,
    page: u32,
    from: u32,
}

/// Label sets as numbers of symbols.
#[derive(Default)]
struct Sets {
    shapes: Vec<Shape>,
    pages: Vec<Vec<u32>>,
    sets: Vec<Set>,
}

impl Sets {
    fn shape(&self, n: u32) -> &Shape {
        &self.shapes[self.sets[n as usize].shape as usize]
    }

    fn values(&self, n: u32) -> &[u32] {
        let set = self.sets[n as usize];
        let from = set.from as usize;
        &self.pages[set.page as usize][from..from + self.shapes[set.shape as usize].names.len()]
    }

    fn push(&mut self, shape: u32, values: &[u32]) -> Result<(), Malformed> {
        if self.pages.last().is_none_or(|p| p.capacity() - p.len() < values.len()) {
            self.pages.push(Vec::with_capacity(VALUES_PAGE.max(values.len())));
        }
        let page = u32::try_from(self.pages.len() - 1).map_err(|_| Malformed)?;
        let Some(last) = self.pages.last_mut() else {
            return Err(Malformed);
        };
        let from = last.len() as u32;
        last.extend_from_slice(values);
        self.sets.push(Set { shape, page, from });
        Ok(())
    }

    /// The order of tenants and canonical bytes, where that of symbols is the order of their bytes.
    fn compare(&self, a: u32, b: u32) -> Ordering {
        let (of_a, of_b) = (self.sets[a as usize].shape, self.sets[b as usize].shape);
        if of_a == of_b {
            return self.values(a).cmp(self.values(b));
        }
        let parts = |n: u32| self.shape(n).names.iter().zip(self.values(n));
        let tenants = self.shape(a).tenant.cmp(&self.shape(b).tenant);
        tenants.then_with(|| parts(a).cmp(parts(b)))
    }
}

/// Collects label sets, each once, in any order.
#[derive(Default)]
pub(crate) struct IndexBuilder {
    /// Symbols by number, and their numbers by text.
    texts: Vec<Box<[u8]>>,
    text_bytes: usize,
    symbols: HashTable<u32>,
    by_names: HashMap<(TenantId, Box<[u32]>), u32>,
    by_tuple: HashTable<u32>,
    hasher: DefaultHashBuilder,
    sets: Sets,
    /// Labels of the set added last, and its symbols: most sets share most of their parts with the one before.
    last: Vec<u8>,
    last_parts: Vec<(u32, u32, u32)>,
    next_parts: Vec<(u32, u32, u32)>,
    names: Vec<u32>,
    values: Vec<u32>,
}

impl IndexBuilder {
    fn symbol(&mut self, text: &[u8]) -> Result<u32, Malformed> {
        let hash = self.hasher.hash_one(text);
        let texts = &self.texts;
        if let Some(&n) = self.symbols.find(hash, |&n| *texts[n as usize] == *text) {
            return Ok(n);
        }
        let n = u32::try_from(texts.len()).map_err(|_| Malformed)?;
        self.texts.push(text.into());
        self.text_bytes += text.len() + 4;
        let (hasher, texts) = (&self.hasher, &self.texts);
        let hash_of = |n: &u32| hasher.hash_one(&*texts[*n as usize]);
        self.symbols.insert_unique(hash, n, hash_of);
        Ok(n)
    }

    /// Bytes of the symbols so far.
    pub(crate) fn text_bytes(&self) -> usize {
        self.text_bytes
    }

    /// The number of a label set (canonical bytes); the same for equal ones.
    pub(crate) fn add(&mut self, tenant: TenantId, labels: &[u8]) -> Result<u32, Malformed> {
        self.names.clear();
        self.values.clear();
        self.next_parts.clear();
        let mut rest = Bytes(labels);
        let mut part = 0;
        while !rest.is_empty() {
            let text = rest.text()?;
            let at = (labels.len() - rest.0.len() - text.len()) as u32;
            let known = match self.last_parts.get(part) {
                Some(&(from, to, n)) if self.last[from as usize..to as usize] == *text => Some(n),
                _ => None,
            };
            let n = match known {
                Some(n) => n,
                None => self.symbol(text)?,
            };
            if part % 2 == 0 {
                self.names.push(n);
            } else {
                self.values.push(n);
            }
            self.next_parts.push((at, at + text.len() as u32, n));
            part += 1;
        }
        std::mem::swap(&mut self.last_parts, &mut self.next_parts);
        self.last.clear();
        self.last.extend_from_slice(labels);
        if part % 2 != 0 {
            return Err(Malformed);
        }
        let shape = self.shape(tenant);
        let hash = self.hasher.hash_one((shape, &self.values));
        let sets = &self.sets;
        let same = |n: &u32| sets.sets[*n as usize].shape == shape && *sets.values(*n) == *self.values;
        if let Some(&n) = self.by_tuple.find(hash, same) {
            return Ok(n);
        }
        let n = u32::try_from(self.sets.sets.len()).map_err(|_| Malformed)?;
        self.sets.push(shape, &self.values)?;
        let (hasher, sets) = (&self.hasher, &self.sets);
        let hash_of = |n: &u32| hasher.hash_one((sets.sets[*n as usize].shape, sets.values(*n)));
        self.by_tuple.insert_unique(hash, n, hash_of);
        Ok(n)
    }

    /// The number of the shape that has the names of the set being added; most often that of the set before.
    fn shape(&mut self, tenant: TenantId) -> u32 {
        if let Some(last) = self.sets.sets.last() {
            let shape = &self.sets.shapes[last.shape as usize];
            if shape.tenant == tenant && *shape.names == *self.names {
                return last.shape;
            }
        }
        let key = (tenant, Box::from(self.names.as_slice()));
        if let Some(&n) = self.by_names.get(&key) {
            return n;
        }
        let n = self.sets.shapes.len() as u32;
        self.sets.shapes.push(Shape {
            tenant,
            names: key.1.clone(),
        });
        self.by_names.insert(key, n);
        n
    }

    /// Ends the collection and puts the sets in order of tenant and canonical bytes.
    pub(crate) fn sort(self) -> SortedSets {
        let IndexBuilder { texts, mut sets, .. } = self;
        // canonical bytes of a part begin with its length, and so does their order
        let mut texts: Vec<(Box<[u8]>, u32)> = (0..).zip(texts).map(|(n, text)| (text, n)).collect();
        texts.sort_unstable_by(|(a, _), (b, _)| in_canonical_order(a, b));
        let mut rank = vec![0u32; texts.len()];
        for (r, (_, n)) in texts.iter().enumerate() {
            rank[*n as usize] = r as u32;
        }
        let names = sets.shapes.iter_mut().flat_map(|s| s.names.iter_mut());
        for n in names.chain(sets.pages.iter_mut().flatten()) {
            *n = rank[*n as usize];
        }
        let mut order: Vec<u32> = (0..sets.sets.len() as u32).collect();
        order.sort_unstable_by(|&a, &b| sets.compare(a, b));
        let texts: Vec<Box<[u8]>> = texts.into_iter().map(|t| t.0).collect();
        let metric = texts.iter().position(|t| **t == *METRIC_NAME.as_bytes());
        let place = |s: &Shape| s.names.iter().position(|&n| Some(n as usize) == metric);
        SortedSets {
            name_places: sets.shapes.iter().map(place).collect(),
            scratch: RefCell::new(vec![NOT_USED; texts.len()]),
            texts,
            sets,
            order,
        }
    }
}

/// The order of the bytes that [`put_text`] makes of texts.
fn in_canonical_order(a: &[u8], b: &[u8]) -> Ordering {
    if a.len() == b.len() {
        return a.cmp(b);
    }
    let (mut of_a, mut of_b) = (Vec::with_capacity(10), Vec::with_capacity(10));
    put_varint(&mut of_a, a.len() as u64);
    put_varint(&mut of_b, b.len() as u64);
    of_a.cmp(&of_b)
}

/// In the scratch of an encoding: a symbol that the part does not use.
const NOT_USED: u32 = u32::MAX;

/// Label sets in order, ready to be written whole or in part.
pub(crate) struct SortedSets {
    texts: Vec<Box<[u8]>>,
    sets: Sets,
    /// Of each shape, the place of the metric's name.
    name_places: Vec<Option<usize>>,
    /// By symbol, all [`NOT_USED`] between two encodings.
    scratch: RefCell<Vec<u32>>,
    /// The builder's numbers in canonical order.
    pub(crate) order: Vec<u32>,
}

impl SortedSets {
    /// Tenant and canonical bytes of a set.
    pub(crate) fn canonical(&self, n: u32) -> (TenantId, Vec<u8>) {
        let mut out = Vec::new();
        let shape = self.sets.shape(n);
        for (&name, &value) in shape.names.iter().zip(self.sets.values(n)) {
            put_text(&mut out, &self.texts[name as usize]);
            put_text(&mut out, &self.texts[value as usize]);
        }
        (shape.tenant, out)
    }

    /// Cuts members into parts, each of which makes a page of an index: its text and its series stay within bounds, but for
    /// the labels of one series.
    pub(crate) fn pages(&self, members: &[u32], bounds: &FileBounds) -> Vec<Range<usize>> {
        let mut pages = Vec::new();
        let mut seen = vec![usize::MAX; self.texts.len()];
        let (mut from, mut text) = (0, 0);
        for (i, &n) in members.iter().enumerate() {
            let parts = || self.sets.shape(n).names.iter().chain(self.sets.values(n));
            let new = |page: usize, seen: &[usize]| -> usize {
                let fresh = parts().filter(|s| seen[**s as usize] != page);
                fresh.map(|s| self.texts[*s as usize].len() + 4).sum()
            };
            let more = new(from, &seen);
            if i > from && (text + more > bounds.frame_bytes || i - from >= bounds.frame_series) {
                pages.push(from..i);
                (from, text) = (i, 0);
            }
            text += new(from, &seen);
            parts().for_each(|s| seen[*s as usize] = from);
        }
        if from < members.len() {
            pages.push(from..members.len());
        }
        pages
    }

    /// The byte form of the sets of `members`, which are numbers of the builder in canonical order; a set's number in the
    /// bytes is its place there.
    pub(crate) fn encode(&self, members: &[u32]) -> Vec<u8> {
        let mut out = Vec::new();
        let mut scratch = self.scratch.borrow_mut();
        let number = &mut *scratch;
        let symbols = self.symbols_of(members, number);
        put_varint(&mut out, symbols.len() as u64);
        let mut last: &[u8] = b"";
        for &s in &symbols {
            let text = &self.texts[s as usize];
            let shared = last.iter().zip(text.iter()).take_while(|(a, b)| a == b).count();
            put_varint(&mut out, shared as u64);
            put_text(&mut out, &text[shared..]);
            last = text;
        }
        let width = if symbols.len() <= 1 << 16 { 2 } else { 4 };
        out.push(width);
        let place = |n: u32| self.name_places[self.sets.sets[n as usize].shape as usize];
        let metric = |n: u32| place(n).map(|p| self.sets.values(n)[p]);
        let shape = |n: u32| self.sets.sets[n as usize].shape;
        let same_run = |a: u32, b: u32| shape(a) == shape(b) && metric(a) == metric(b);
        let runs: Vec<&[u32]> = members.chunk_by(|&a, &b| same_run(a, b)).collect();
        let (mut heads, mut columns) = (Vec::new(), Vec::new());
        let mut known: HashMap<Vec<u32>, u32> = HashMap::new();
        for run in &runs {
            let shape = self.sets.shape(run[0]);
            put_varint(&mut heads, u64::from(shape.tenant.0));
            put_varint(&mut heads, run.len() as u64);
            put_varint(&mut heads, shape.names.len() as u64);
            for (label, &name) in shape.names.iter().enumerate() {
                put_varint(&mut heads, u64::from(number[name as usize]));
                let column: Vec<u32> = run
                    .iter()
                    .map(|&n| number[self.sets.values(n)[label] as usize])
                    .collect();
                if column.iter().all(|&s| s == column[0]) {
                    put_varint(&mut heads, 0);
                    put_varint(&mut heads, u64::from(column[0]));
                    continue;
                }
                let next = known.len() as u32;
                let place = *known.entry(column).or_insert_with_key(|column| {
                    put_varint(&mut columns, column.len() as u64);
                    for s in column {
                        columns.extend_from_slice(&s.to_le_bytes()[..usize::from(width)]);
                    }
                    next
                });
                put_varint(&mut heads, u64::from(place) + 1);
            }
        }
        put_varint(&mut out, known.len() as u64);
        out.extend_from_slice(&columns);
        put_varint(&mut out, runs.len() as u64);
        out.extend_from_slice(&heads);
        for s in symbols {
            number[s as usize] = NOT_USED;
        }
        out
    }

    /// The symbols that members use, in order of their bytes; `number` becomes the place of each in that order.
    fn symbols_of(&self, members: &[u32], number: &mut [u32]) -> Vec<u32> {
        let mut symbols = Vec::new();
        for &n in members {
            for &s in self.sets.shape(n).names.iter().chain(self.sets.values(n)) {
                if number[s as usize] == NOT_USED {
                    number[s as usize] = 0;
                    symbols.push(s);
                }
            }
        }
        symbols.sort_unstable_by_key(|&s| &self.texts[s as usize]);
        for (i, &s) in symbols.iter().enumerate() {
            number[s as usize] = i as u32;
        }
        symbols
    }
}

/// What is known of a symbol: nothing yet, that it is not there, that it is.
pub(crate) const OPEN: u8 = 0;
pub(crate) const NO: u8 = 1;
pub(crate) const YES: u8 = 2;

fn said(yes: bool) -> u8 {
    if yes { YES } else { NO }
}

/// Where in time some chunks lie: the one that begins first and the one that ends last.
#[derive(Clone, Copy)]
pub(crate) struct Span {
    first: TimeRange,
    last: TimeRange,
}

impl Span {
    fn add(span: &mut Option<Span>, range: TimeRange) {
        let span = span.get_or_insert(Span {
            first: range,
            last: range,
        });
        if range.start_ms < span.first.start_ms {
            span.first = range;
        }
        if range.end_ms > span.last.end_ms {
            span.last = range;
        }
    }

    /// Whether one of the chunks overlaps the range; `None` when only chunks in between could.
    pub(crate) fn holds(&self, range: TimeRange) -> Option<bool> {
        if range.end_ms < self.first.start_ms || range.start_ms > self.last.end_ms {
            return Some(false);
        }
        (self.first.overlaps(&range) || self.last.overlaps(&range)).then_some(true)
    }
}

#[derive(Clone)]
enum Column {
    Constant(u32),
    Each(Arc<[u32]>),
}

impl Column {
    fn get(&self, i: usize) -> u32 {
        match self {
            Column::Constant(s) => *s,
            Column::Each(c) => c[i],
        }
    }
}

struct Run {
    tenant: TenantId,
    first: u32,
    count: u32,
    labels: Vec<(u32, Column)>,
}

/// A matcher that is asked about symbols.
struct Test<'m> {
    matcher: &'m Matcher,
    name: Option<u32>,
    /// Whether sets without the label match.
    absent: bool,
    verdicts: Verdicts,
}

enum Verdicts {
    /// This symbol alone matches, or none.
    Only(Option<u32>),
    /// By symbol: [`OPEN`], [`NO`] or [`YES`].
    Each(Vec<u8>),
}

impl<'m> Test<'m> {
    fn new(index: &Page, matcher: &'m Matcher) -> Self {
        let negative = matches!(matcher.op, MatchOp::NotEqual | MatchOp::NotRegex);
        let verdicts = match matcher.literals() {
            Some([one]) if !negative => Verdicts::Only(index.find(one)),
            Some(listed) => {
                let mut all = vec![said(negative); index.ends.len()];
                for symbol in listed.iter().filter_map(|text| index.find(text)) {
                    all[symbol as usize] = said(!negative);
                }
                Verdicts::Each(all)
            }
            None => Verdicts::Each(vec![OPEN; index.ends.len()]),
        };
        Test {
            matcher,
            name: index.find(&matcher.name),
            absent: matcher.matches_absent(),
            verdicts,
        }
    }

    fn accepts(&mut self, index: &Page, symbol: u32) -> bool {
        match &mut self.verdicts {
            Verdicts::Only(wanted) => *wanted == Some(symbol),
            Verdicts::Each(all) => {
                let v = &mut all[symbol as usize];
                if *v == OPEN {
                    *v = said(self.matcher.matches(index.symbol(symbol)));
                }
                *v == YES
            }
        }
    }
}

/// A page of an index: sets that lie together, with symbols of their own.
struct Page {
    text: String,
    ends: Vec<u32>,
    runs: Vec<Run>,
    /// Numbers of its sets.
    first: u32,
    end: u32,
    /// Symbols of the pages before.
    base: usize,
    bytes: usize,
}

impl Page {
    fn decode(first: u32, raw: &[u8]) -> Result<Page, Malformed> {
        let mut r = Bytes(raw);
        let n = r.count(2)?;
        let (mut text, mut ends) = (Vec::new(), Vec::with_capacity(n));
        let mut last = 0..0;
        for _ in 0..n {
            let shared = r.number()? as usize;
            if shared > last.len() || text.len() > TEXT_BYTES_MAX {
                return Err(Malformed);
            }
            let from = text.len();
            text.extend_from_within(last.start..last.start + shared);
            text.extend_from_slice(r.text()?);
            std::str::from_utf8(&text[from..]).map_err(|_| Malformed)?;
            last = from..text.len();
            ends.push(text.len() as u32);
        }
        let width = usize::from(r.u8()?);
        if width != 2 && width != 4 {
            return Err(Malformed);
        }
        let mut columns: Vec<Arc<[u32]>> = Vec::new();
        for _ in 0..r.count(1)? {
            let len = r.count(width)?;
            let cells = r.take(len * width)?.chunks_exact(width);
            let column: Arc<[u32]> = cells
                .map(|c| u32::from_le_bytes([c[0], c[1], *c.get(2).unwrap_or(&0), *c.get(3).unwrap_or(&0)]))
                .collect();
            if column.iter().any(|&s| s as usize >= n) {
                return Err(Malformed);
            }
            columns.push(column);
        }
        let text = String::from_utf8(text).map_err(|_| Malformed)?;
        let mut page = Page {
            bytes: text.len() + n * 4 + columns.iter().map(|c| c.len() * 4).sum::<usize>(),
            text,
            ends,
            runs: Vec::new(),
            first,
            end: first,
            base: 0,
        };
        for _ in 0..r.count(3)? {
            let (tenant, count, labels) = (TenantId(r.number()?), r.number()?, r.count(2)?);
            let mut run = Run {
                tenant,
                first: page.end,
                count,
                labels: Vec::with_capacity(labels),
            };
            for _ in 0..labels {
                let name = r.number()?;
                let column = match r.number()? {
                    0 => Column::Constant(r.number()?),
                    place => Column::Each(Arc::clone(columns.get(place as usize - 1).ok_or(Malformed)?)),
                };
                let fits = match &column {
                    Column::Constant(s) => (*s as usize) < n,
                    Column::Each(c) => c.len() == count as usize,
                };
                if !fits || name as usize >= n {
                    return Err(Malformed);
                }
                run.labels.push((name, column));
            }
            page.bytes += size_of::<Run>() + labels * size_of::<(u32, Column)>();
            page.end = page.end.checked_add(count).ok_or(Malformed)?;
            page.runs.push(run);
        }
        if r.is_empty() { Ok(page) } else { Err(Malformed) }
    }

    /// Leaves out what lies outside of these numbers.
    fn clip(&mut self, numbers: Range<u32>) {
        self.runs.retain_mut(|run| {
            let from = run.first.max(numbers.start);
            let to = (run.first + run.count).min(numbers.end);
            if from >= to {
                return false;
            }
            let within = (from - run.first) as usize..(to - run.first) as usize;
            for (_, column) in &mut run.labels {
                if let Column::Each(cells) = column {
                    *column = Column::Each(cells[within.clone()].into());
                }
            }
            (run.first, run.count) = (from, to - from);
            true
        });
        (self.first, self.end) = (self.first.max(numbers.start), self.end.min(numbers.end));
    }

    fn symbol(&self, n: u32) -> &str {
        let n = n as usize;
        let from = if n == 0 { 0 } else { self.ends[n - 1] as usize };
        self.text.get(from..self.ends[n] as usize).unwrap_or("")
    }

    fn find(&self, text: &str) -> Option<u32> {
        let (mut low, mut high) = (0, self.ends.len() as u32);
        while low < high {
            let middle = low + (high - low) / 2;
            match self.symbol(middle).cmp(text) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    /// Adds the numbers of the tenant's sets that match all matchers, ascending.
    fn select(&self, tenant: TenantId, matchers: &[Matcher], found: &mut Vec<u32>) {
        let mut tests: Vec<Test<'_>> = matchers.iter().map(|m| Test::new(self, m)).collect();
        let mut columns: Vec<(usize, &[u32])> = Vec::new();
        'runs: for run in self.runs.iter().filter(|r| r.tenant == tenant) {
            columns.clear();
            for (t, test) in tests.iter_mut().enumerate() {
                let column = run.labels.iter().find(|(name, _)| Some(*name) == test.name);
                let whole = match column {
                    None => test.absent,
                    Some((_, Column::Constant(s))) => test.accepts(self, *s),
                    Some((_, Column::Each(cells))) => {
                        columns.push((t, cells));
                        true
                    }
                };
                if !whole {
                    continue 'runs;
                }
            }
            // what leaves least and costs least comes first
            columns.sort_by_key(|(t, _)| !matches!(tests[*t].verdicts, Verdicts::Only(_)));
            let Some((&(t, cells), others)) = columns.split_first() else {
                found.extend(run.first..run.first + run.count);
                continue;
            };
            let before = found.len();
            match tests[t].verdicts {
                Verdicts::Only(None) => continue,
                Verdicts::Only(Some(wanted)) => {
                    let places = (run.first..).zip(cells).filter(|(_, s)| **s == wanted);
                    found.extend(places.map(|(n, _)| n));
                }
                Verdicts::Each(_) => {
                    let test = &mut tests[t];
                    let places = (run.first..).zip(cells).filter(|(_, s)| test.accepts(self, **s));
                    found.extend(places.map(|(n, _)| n));
                }
            }
            for &(t, cells) in others {
                let mut keep = before;
                for i in before..found.len() {
                    if tests[t].accepts(self, cells[(found[i] - run.first) as usize]) {
                        found[keep] = found[i];
                        keep += 1;
                    }
                }
                found.truncate(keep);
            }
        }
    }

    fn values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        holds: &mut Option<&mut dyn FnMut(u32) -> bool>,
        known: &mut [u8],
    ) {
        let Some(name) = self.find(name) else { return };
        let all = holds.is_none();
        // a column that runs share tells nothing new where all its series count
        let mut columns: Vec<*const u32> = Vec::new();
        let mut look = |number: u32, symbol: u32| {
            let known = &mut known[symbol as usize];
            if *known == OPEN && holds.as_mut().is_none_or(|holds| holds(number)) {
                *known = YES;
            }
        };
        let column_of = |run: &'_ Run| run.labels.iter().find(|(n, _)| *n == name).map(|(_, c)| c.clone());
        if matchers.is_empty() {
            for run in self.runs.iter().filter(|r| r.tenant == tenant) {
                match column_of(run) {
                    Some(Column::Each(cells)) if all && columns.contains(&cells.as_ptr()) => {}
                    Some(column) => {
                        (0..run.count).for_each(|i| look(run.first + i, column.get(i as usize)));
                        if let Column::Each(cells) = column {
                            columns.push(cells.as_ptr());
                        }
                    }
                    None => {}
                }
            }
            return;
        }
        let mut found = Vec::new();
        self.select(tenant, matchers, &mut found);
        for number in found {
            if let Some(run) = self.run_of(number)
                && let Some((_, column)) = run.labels.iter().find(|(n, _)| *n == name)
            {
                look(number, column.get((number - run.first) as usize));
            }
        }
    }

    fn names(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        holds: &mut dyn FnMut(u32) -> bool,
        names: &mut BTreeSet<String>,
    ) {
        let mut add = |run: &Run| names.extend(run.labels.iter().map(|(name, _)| self.symbol(*name).to_owned()));
        if matchers.is_empty() {
            let of_tenant = self.runs.iter().filter(|r| r.tenant == tenant);
            of_tenant
                .filter(|r| (r.first..r.first + r.count).any(&mut *holds))
                .for_each(add);
            return;
        }
        let (mut done, mut found) = (BTreeSet::new(), Vec::new());
        self.select(tenant, matchers, &mut found);
        for number in found {
            if let Some(run) = self.run_of(number).filter(|r| !done.contains(&r.first))
                && holds(number)
            {
                done.insert(run.first);
                add(run);
            }
        }
    }

    fn run_of(&self, number: u32) -> Option<&Run> {
        let i = self.runs.partition_point(|r| r.first <= number).checked_sub(1)?;
        self.runs.get(i).filter(|r| number < r.first + r.count)
    }
}

/// Label sets read from bytes, page by page; a set's number is its place.
#[derive(Default)]
pub(crate) struct Index {
    /// By number; they do not overlap.
    pages: Vec<Page>,
    /// Sets there are, those whose page is damaged among them.
    len: u32,
    symbols: usize,
    bytes: usize,
    /// What of it is damaged.
    pub(crate) damage: Vec<ReadError>,
    /// Sets whose labels are lost with that.
    pub(crate) lost: u32,
}

impl Index {
    /// Of one page with all sets.
    pub(crate) fn decode(packed: &[u8]) -> Result<Index, Malformed> {
        let mut index = Index::default();
        index.add(0, &unpack(packed)?)?;
        Ok(index)
    }

    /// Adds a page, whose sets have numbers from `first` on, above those of the pages before.
    pub(crate) fn add(&mut self, first: u32, raw: &[u8]) -> Result<(), Malformed> {
        if first < self.len {
            return Err(Malformed);
        }
        let page = Page::decode(first, raw)?;
        self.lost += first - self.len;
        self.push(page);
        Ok(())
    }

    fn push(&mut self, mut page: Page) {
        page.base = self.symbols;
        self.symbols += page.ends.len();
        self.bytes += page.bytes;
        self.len = self.len.max(page.end);
        self.pages.push(page);
    }

    /// Ends a reading: so many sets there must be.
    pub(crate) fn ends_with(&mut self, len: u32) {
        self.lost += len.saturating_sub(self.len);
        self.len = self.len.max(len);
    }

    /// Takes what is missing here from a page of a copy.
    pub(crate) fn mend(&mut self, first: u32, raw: &[u8]) -> Result<(), Malformed> {
        let end = Page::decode(first, raw)?.end.min(self.len);
        let mut at = first;
        while at < end {
            let next = self.pages.partition_point(|p| p.end <= at);
            let until = self.pages.get(next).map_or(end, |p| p.first.min(end));
            if at < until {
                let mut page = Page::decode(first, raw)?;
                page.clip(at..until);
                (page.base, self.symbols) = (self.symbols, self.symbols + page.ends.len());
                self.bytes += page.bytes;
                self.lost = self.lost.saturating_sub(page.end - page.first);
                self.pages.insert(next, page);
                at = until;
            } else {
                at = self.pages[next].end;
            }
        }
        Ok(())
    }

    pub(crate) fn len(&self) -> u32 {
        self.len
    }

    /// Tenants of the sets, each once.
    pub(crate) fn tenants(&self) -> Vec<TenantId> {
        let runs = self.pages.iter().flat_map(|p| &p.runs);
        let mut tenants: Vec<TenantId> = runs.map(|r| r.tenant).collect();
        tenants.dedup();
        tenants
    }

    /// Bytes of memory held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Numbers of the tenant's sets that match all matchers, ascending.
    pub(crate) fn select(&self, tenant: TenantId, matchers: &[Matcher]) -> Vec<u32> {
        let mut found = Vec::new();
        for page in &self.pages {
            page.select(tenant, matchers, &mut found);
        }
        found
    }

    /// Symbols there are; one that two pages have counts twice.
    pub(crate) fn symbols(&self) -> usize {
        self.symbols
    }

    /// Finds the values of a label among the tenant's sets that match all matchers and for whose number `holds` says yes
    /// (without it all are): their symbols in `known` become [`YES`]. It is asked until it says so, once for each value of
    /// a page, and only about those that are [`OPEN`].
    pub(crate) fn values(
        &self,
        tenant: TenantId,
        name: &str,
        matchers: &[Matcher],
        mut holds: Option<&mut dyn FnMut(u32) -> bool>,
        known: &mut [u8],
    ) {
        for page in &self.pages {
            if let Some(known) = known.get_mut(page.base..page.base + page.ends.len()) {
                page.values(tenant, name, matchers, &mut holds, known);
            }
        }
    }

    /// The texts of the symbols that are known to be there, ascending, each once.
    pub(crate) fn texts<'i>(&'i self, known: &[u8]) -> Vec<&'i str> {
        let mut texts = Vec::new();
        for page in &self.pages {
            let known = known.get(page.base..page.base + page.ends.len()).unwrap_or(&[]);
            let there = known.iter().enumerate().filter(|(_, k)| **k == YES);
            texts.extend(there.map(|(symbol, _)| page.symbol(symbol as u32)));
        }
        if self.pages.len() > 1 {
            texts.sort_unstable();
            texts.dedup();
        }
        texts
    }

    /// For each value of a label among the tenant's sets, by symbol, where in time its chunks lie.
    pub(crate) fn spans(
        &self,
        tenant: TenantId,
        name: &str,
        directory: &Directory,
    ) -> Result<Vec<(u32, Span)>, Malformed> {
        let mut spans: Vec<Option<Span>> = vec![None; self.symbols];
        let of_page = |p: &'_ Page| (p.base, p.find(name));
        let all = self.pages.iter().flat_map(|p| {
            let (base, name) = of_page(p);
            p.runs.iter().map(move |run| (base, name, run))
        });
        let mut runs = all.peekable();
        let mut column = None;
        directory.each(|number, chunks| {
            while runs.next_if(|(.., run)| run.first + run.count <= number).is_some() {
                column = None;
            }
            let Some((base, name, run)) = runs
                .peek()
                .filter(|(.., run)| run.tenant == tenant && run.first <= number)
            else {
                return;
            };
            let column = column.get_or_insert_with(|| run.labels.iter().find(|(n, _)| Some(*n) == *name));
            if let Some((_, column)) = column {
                let span = &mut spans[base + column.get((number - run.first) as usize) as usize];
                for chunk in chunks {
                    Span::add(span, chunk.range());
                }
            }
        })?;
        let spans = spans.into_iter().enumerate();
        Ok(spans
            .filter_map(|(symbol, span)| Some((symbol as u32, span?)))
            .collect())
    }

    /// Adds the label names of the tenant's sets that match all matchers and for one of whose numbers `holds` says yes.
    pub(crate) fn names(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        holds: &mut dyn FnMut(u32) -> bool,
        names: &mut BTreeSet<String>,
    ) {
        for page in &self.pages {
            page.names(tenant, matchers, holds, names);
        }
    }

    fn page_of(&self, number: u32) -> Option<&Page> {
        let i = self.pages.partition_point(|p| p.end <= number);
        self.pages.get(i).filter(|p| p.first <= number)
    }

    pub(crate) fn tenant_of(&self, number: u32) -> Option<TenantId> {
        self.page_of(number)?.run_of(number).map(|r| r.tenant)
    }

    /// Appends the canonical bytes of a set; false when there is none of this number, or its labels are lost.
    pub(crate) fn write_labels(&self, number: u32, out: &mut Vec<u8>) -> bool {
        let Some(page) = self.page_of(number) else { return false };
        let Some(run) = page.run_of(number) else { return false };
        for (name, column) in &run.labels {
            put_text(out, page.symbol(*name).as_bytes());
            put_text(out, page.symbol(column.get((number - run.first) as usize)).as_bytes());
        }
        true
    }

    pub(crate) fn labels(&self, number: u32) -> Labels {
        let mut out = Vec::new();
        self.write_labels(number, &mut out);
        Labels::from_bytes(&out).unwrap_or_default()
    }
}
