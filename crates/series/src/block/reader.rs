mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use host::{File, Files, OpenMode, Refusal};
use model::{Exemplar, Labels, MetricKind, SeriesBlock, SeriesId, TenantId, TimeRange};

use super::{Footer, HEADER_BYTES, MAGIC, MetadataEntry, NO_SERIES, Number, Section, TRAILER_BYTES, block_name};
use crate::bytes::{Bytes, Malformed, checksum};
use crate::cache::{Cache, Key};
use crate::chunk::{decode_floats, decode_floats_range, decode_histograms, decode_starts, read_head};
use crate::index::{Index, unpack};
use crate::merge;
use crate::retention::ClassSet;

/// Bytes a footer may have.
const FOOTER_BYTES_MAX: u64 = 16 << 20;
/// Bytes of one directory entry: first number, place of its rows, offset, length, checksum.
const ENTRY: usize = 24;

/// Why a part of a block cannot be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ReadError {
    /// The bytes are not what was written: what, offset, length.
    Damaged(&'static str, u64, u64),
    /// The device does not give the bytes: what, offset, length.
    Unreadable(&'static str, u64, u64),
    Missing,
    /// It may be different the next time.
    Io(String),
}

fn failed(what: &'static str, offset: u64, len: u64) -> impl Fn(io::Error) -> ReadError {
    move |e| match Refusal::of(&e) {
        _ if e.kind() == io::ErrorKind::UnexpectedEof => ReadError::Damaged(what, offset, len),
        Refusal::Media => ReadError::Unreadable(what, offset, len),
        Refusal::Missing => ReadError::Missing,
        Refusal::Passing => ReadError::Io(e.to_string()),
    }
}

/// One chunk's place and extent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Chunk {
    pub(crate) group: u32,
    pub(crate) offset: u32,
    pub(crate) len: u32,
    pub(crate) histograms: bool,
    pub(crate) count: u32,
    pub(crate) min_ms: i64,
    pub(crate) max_ms: i64,
}

impl Chunk {
    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.min_ms, self.max_ms)
    }
}

/// Series of the group looked at last that hold something of a range.
#[derive(Default)]
pub(crate) struct Seen {
    group: Option<usize>,
    numbers: Vec<Number>,
}

/// Where the chunks of each series are.
pub(crate) struct Directory {
    bytes: Vec<u8>,
    groups: usize,
}

impl Directory {
    fn parse(bytes: Vec<u8>) -> Result<Directory, Malformed> {
        let groups = Bytes(&bytes).u32()? as usize;
        let rows = groups.checked_mul(ENTRY).and_then(|n| n.checked_add(4));
        if rows.is_none_or(|n| n > bytes.len()) {
            return Err(Malformed);
        }
        Ok(Directory { bytes, groups })
    }

    fn entry(&self, group: usize) -> &[u8] {
        &self.bytes[4 + group * ENTRY..4 + (group + 1) * ENTRY]
    }

    fn word(&self, group: usize, at: usize) -> u32 {
        let e = self.entry(group);
        u32::from_le_bytes([e[at], e[at + 1], e[at + 2], e[at + 3]])
    }

    /// (offset, length, checksum) of a group.
    fn place(&self, group: usize) -> (u64, u32, u32) {
        let offset = u64::from(self.word(group, 8)) | u64::from(self.word(group, 12)) << 32;
        (offset, self.word(group, 16), self.word(group, 20))
    }

    fn rows(&self, group: usize) -> Bytes<'_> {
        let all = &self.bytes[4 + self.groups * ENTRY..];
        let from = self.word(group, 4) as usize;
        let to = if group + 1 < self.groups {
            self.word(group + 1, 4) as usize
        } else {
            all.len()
        };
        Bytes(all.get(from..to).unwrap_or(&[]))
    }

    /// Calls `each` for every series of a group in order, until it says to stop.
    fn walk(&self, group: usize, mut each: impl FnMut(Number, &[Chunk]) -> bool) -> Result<(), Malformed> {
        let mut r = self.rows(group);
        let (mut number, mut min, mut offset) = (self.word(group, 0), 0i64, 0u64);
        let mut chunks = Vec::new();
        while !r.is_empty() {
            number = number.checked_add(r.number()?).ok_or(Malformed)?;
            chunks.clear();
            for _ in 0..r.count(4)? {
                let len = r.varint()?;
                min = min.wrapping_add(r.signed()?);
                let max_ms = min.wrapping_add(r.varint()? as i64);
                let chunk = Chunk {
                    group: group as u32,
                    offset: u32::try_from(offset).map_err(|_| Malformed)?,
                    len: u32::try_from(len >> 1).map_err(|_| Malformed)?,
                    histograms: len & 1 != 0,
                    count: r.number()?,
                    min_ms: min,
                    max_ms,
                };
                offset += len >> 1;
                chunks.push(chunk);
            }
            if !each(number, &chunks) {
                return Ok(());
            }
        }
        Ok(())
    }

    /// The group that a series is in, if it is there at all.
    fn group_of(&self, number: Number) -> Option<usize> {
        let (mut low, mut high) = (0, self.groups);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.word(middle, 0) <= number {
                low = middle + 1;
            } else {
                high = middle;
            }
        }
        low.checked_sub(1)
    }

    /// Appends the chunks of a series.
    pub(crate) fn chunks(&self, number: Number, out: &mut Vec<Chunk>) -> Result<(), Malformed> {
        let Some(group) = self.group_of(number) else {
            return Ok(());
        };
        self.walk(group, |n, chunks| {
            if n == number {
                out.extend_from_slice(chunks);
            }
            n < number
        })
    }

    /// Whether a series has a chunk that overlaps the range. What is read of a group is kept in `seen` for the next
    /// number.
    pub(crate) fn holds(&self, number: Number, range: TimeRange, seen: &mut Seen) -> Result<bool, Malformed> {
        let Some(group) = self.group_of(number) else {
            return Ok(false);
        };
        if seen.group != Some(group) {
            seen.numbers.clear();
            self.walk(group, |n, chunks| {
                if chunks.iter().any(|c| c.range().overlaps(&range)) {
                    seen.numbers.push(n);
                }
                true
            })?;
            seen.group = Some(group);
        }
        Ok(seen.numbers.binary_search(&number).is_ok())
    }

    /// Calls `each` for every series in order of its number.
    pub(crate) fn each(&self, mut each: impl FnMut(Number, &[Chunk])) -> Result<(), Malformed> {
        for group in 0..self.groups {
            self.walk(group, |n, chunks| {
                each(n, chunks);
                true
            })?;
        }
        Ok(())
    }

    /// Groups.
    pub(crate) fn len(&self) -> usize {
        self.groups
    }

    pub(crate) fn bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// An open block whose footer was found whole. Everything else is read and checked when it is asked for.
pub(crate) struct Block {
    pub(crate) footer: Footer,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Retention classes of its series, once that was asked.
    pub(crate) classes: OnceLock<ClassSet>,
    realm: u64,
    file: Arc<dyn File>,
    ids: Mutex<Option<Arc<KnownIds>>>,
}

/// Which series of the table a block's series are, as far as that was looked up.
pub(crate) struct KnownIds {
    /// Count of freed ids at the time: another one means that ids may have changed hands.
    freed: u64,
    ids: Vec<AtomicU32>,
}

impl KnownIds {
    pub(crate) fn get(&self, number: Number) -> Option<SeriesId> {
        let id = SeriesId(self.ids.get(number as usize)?.load(Relaxed));
        (id != NO_SERIES).then_some(id)
    }

    pub(crate) fn set(&self, number: Number, id: SeriesId) {
        if let Some(slot) = self.ids.get(number as usize) {
            slot.store(id.0, Relaxed);
        }
    }
}

/// Cache keys of parts that are no groups.
const DIRECTORY: u32 = u32::MAX;
const INDEX: u32 = u32::MAX - 1;

impl Block {
    /// Opens a block and checks its footer. `known`: the length it should have, 0 when nobody knows; what lies behind is
    /// not part of it.
    pub(crate) fn open(
        files: &Arc<dyn Files>,
        dir: &Path,
        realm: u64,
        id: u64,
        known: u64,
    ) -> Result<Block, ReadError> {
        let path = dir.join(block_name(id));
        let file = files.open(&path, OpenMode::Read).map_err(failed("file", 0, 0))?;
        let len = file.len().map_err(failed("file", 0, 0))?;
        let bytes = if known > 0 { known.min(len) } else { len };
        let damaged = || ReadError::Damaged("footer", bytes.saturating_sub(TRAILER_BYTES), TRAILER_BYTES);
        if bytes < HEADER_BYTES + TRAILER_BYTES {
            return Err(damaged());
        }
        let mut trailer = [0; TRAILER_BYTES as usize];
        let at = bytes - TRAILER_BYTES;
        file.read_exact_at(&mut trailer, at)
            .map_err(failed("footer", at, TRAILER_BYTES))?;
        let mut r = Bytes(&trailer);
        let (len, sum) = (r.u32().map_err(|_| damaged())?, r.u32().map_err(|_| damaged())?);
        let len = u64::from(len);
        if r.0 != MAGIC || len > FOOTER_BYTES_MAX || len + TRAILER_BYTES + HEADER_BYTES > bytes {
            return Err(damaged());
        }
        let at = at - len;
        let mut footer = vec![0; len as usize];
        file.read_exact_at(&mut footer, at).map_err(failed("footer", at, len))?;
        if checksum(realm, id, at, &footer) != sum {
            return Err(damaged());
        }
        let footer = Footer::decode(&footer).map_err(|_| damaged())?;
        if footer.id != id {
            return Err(damaged());
        }
        Ok(Block {
            footer,
            path,
            bytes,
            classes: OnceLock::new(),
            realm,
            file,
            ids: Mutex::default(),
        })
    }

    /// Ids of this block's `len` series in the table, while `freed` ids of it were freed so far.
    pub(crate) fn known_ids(&self, freed: u64, len: u32) -> Arc<KnownIds> {
        let mut ids = self.ids.lock().unwrap_or_else(|e| e.into_inner());
        match &*ids {
            Some(known) if known.freed == freed => Arc::clone(known),
            _ => {
                let fresh = (0..len).map(|_| AtomicU32::new(NO_SERIES.0)).collect();
                let known = Arc::new(KnownIds { freed, ids: fresh });
                *ids = Some(Arc::clone(&known));
                known
            }
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.footer.id
    }

    pub(crate) fn range(&self) -> TimeRange {
        TimeRange::new(self.footer.min_ms, self.footer.max_ms)
    }

    fn read(&self, what: &'static str, offset: u64, len: u64, sum: u32) -> Result<Vec<u8>, ReadError> {
        if offset.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err(ReadError::Damaged(what, offset, len));
        }
        let mut bytes = vec![0; len as usize];
        self.file
            .read_exact_at(&mut bytes, offset)
            .map_err(failed(what, offset, len))?;
        if checksum(self.realm, self.footer.id, offset, &bytes) != sum {
            return Err(ReadError::Damaged(what, offset, len));
        }
        Ok(bytes)
    }

    fn section(&self, what: &'static str, s: Section) -> Result<Vec<u8>, ReadError> {
        self.read(what, s.offset, s.len, s.checksum)
    }

    fn key(&self, part: u32) -> Key {
        (self.footer.id, part)
    }

    pub(crate) fn directory(&self, cache: &Cache) -> Result<Arc<Directory>, ReadError> {
        if let Some(found) = cache.get(self.key(DIRECTORY)) {
            return Ok(found);
        }
        let s = self.footer.directory;
        let directory = unpack(&self.section("directory", s)?)
            .and_then(Directory::parse)
            .map_err(|_| ReadError::Damaged("directory", s.offset, s.len))?;
        let directory = Arc::new(directory);
        cache.insert(self.key(DIRECTORY), Arc::clone(&directory), directory.bytes());
        Ok(directory)
    }

    pub(crate) fn index(&self, cache: &Cache) -> Result<Arc<Index>, ReadError> {
        if let Some(found) = cache.get(self.key(INDEX)) {
            return Ok(found);
        }
        let s = self.footer.index;
        let damaged = ReadError::Damaged("index", s.offset, s.len);
        let index = Arc::new(Index::decode(&self.section("index", s)?).map_err(|_| damaged)?);
        cache.insert(self.key(INDEX), Arc::clone(&index), index.bytes());
        Ok(index)
    }

    pub(crate) fn group(&self, directory: &Directory, group: u32, cache: &Cache) -> Result<Arc<Vec<u8>>, ReadError> {
        if let Some(found) = cache.get(self.key(group)) {
            return Ok(found);
        }
        let (offset, len, sum) = directory.place(group as usize);
        let bytes = Arc::new(self.read("chunks", offset, u64::from(len), sum)?);
        cache.insert(self.key(group), Arc::clone(&bytes), bytes.len());
        Ok(bytes)
    }

    /// Reads a group and holds it against its checksum; its bytes.
    pub(crate) fn check_group(&self, directory: &Directory, group: u32) -> Result<u64, ReadError> {
        let (offset, len, sum) = directory.place(group as usize);
        let read = self.read("chunks", offset, u64::from(len), sum)?;
        Ok(read.len() as u64)
    }

    /// Reads everything but the groups and holds it against its checksums; its bytes.
    pub(crate) fn check_sections(&self) -> Result<u64, ReadError> {
        let f = &self.footer;
        let mut bytes = 0;
        let all = [
            ("directory", f.directory),
            ("index", f.index),
            ("exemplars", f.exemplars),
            ("metadata", f.metadata),
        ];
        for (what, section) in all.into_iter().filter(|(_, s)| s.len > 0) {
            bytes += self.section(what, section)?.len() as u64;
        }
        let len = f.encode().len() as u64 + TRAILER_BYTES;
        let at = self.bytes.saturating_sub(len);
        let mut end = vec![0; len as usize];
        self.file
            .read_exact_at(&mut end, at)
            .map_err(failed("footer", at, len))?;
        let mut r = Bytes(&end[(len - TRAILER_BYTES) as usize..]);
        let sum = (r.u32(), r.u32());
        let footer = &end[..(len - TRAILER_BYTES) as usize];
        let whole = sum == (Ok(footer.len() as u32), Ok(checksum(self.realm, f.id, at, footer))) && r.0 == MAGIC;
        let mut head = [0; HEADER_BYTES as usize];
        self.file
            .read_exact_at(&mut head, 0)
            .map_err(failed("header", 0, HEADER_BYTES))?;
        let (head, sum) = head.split_at(head.len() - 4);
        if checksum(self.realm, f.id, 0, head).to_le_bytes() != sum {
            return Err(ReadError::Damaged("header", 0, HEADER_BYTES));
        }
        match whole {
            true => Ok(bytes + len + HEADER_BYTES),
            false => Err(ReadError::Damaged("footer", at, len)),
        }
    }

    /// The damage of a chunk whose checksum holds but which cannot be decoded.
    fn bad_chunk(&self, directory: &Directory, c: &Chunk) -> ReadError {
        let (offset, ..) = directory.place(c.group as usize);
        ReadError::Damaged("chunk", offset + u64::from(c.offset), u64::from(c.len))
    }

    /// The bytes of a chunk within its group.
    pub(crate) fn chunk<'g>(&self, directory: &Directory, group: &'g [u8], c: &Chunk) -> Result<&'g [u8], ReadError> {
        group
            .get(c.offset as usize..c.offset as usize + c.len as usize)
            .ok_or_else(|| self.bad_chunk(directory, c))
    }

    /// Appends the samples of a chunk that lie within the range.
    pub(crate) fn decode(
        &self,
        directory: &Directory,
        group: &[u8],
        c: &Chunk,
        range: TimeRange,
        out: &mut SeriesBlock,
    ) -> Result<(), ReadError> {
        let bytes = self.chunk(directory, group, c)?;
        let before = merge::begin(out);
        append_chunk(bytes, c, range, out).map_err(|_| {
            merge::append(out, before, SeriesBlock::default());
            self.bad_chunk(directory, c)
        })
    }

    pub(crate) fn exemplars(&self) -> Result<Vec<(Number, Exemplar)>, ReadError> {
        let s = self.footer.exemplars;
        if s.len == 0 {
            return Ok(Vec::new());
        }
        parse_exemplars(&self.section("exemplars", s)?).map_err(|_| ReadError::Damaged("exemplars", s.offset, s.len))
    }

    pub(crate) fn metadata(&self) -> Result<Vec<MetadataEntry>, ReadError> {
        let s = self.footer.metadata;
        if s.len == 0 {
            return Ok(Vec::new());
        }
        parse_metadata(&self.section("metadata", s)?).map_err(|_| ReadError::Damaged("metadata", s.offset, s.len))
    }
}

fn append_chunk(bytes: &[u8], c: &Chunk, range: TimeRange, out: &mut SeriesBlock) -> Result<(), Malformed> {
    let whole = range.start_ms <= c.min_ms && c.max_ms <= range.end_ms;
    let starts = read_head(bytes).map_err(|_| Malformed)?.starts;
    if c.histograms {
        let (mut at, mut values, mut start) = (Vec::new(), Vec::new(), Vec::new());
        decode_histograms(bytes, &mut at, &mut values).map_err(|_| Malformed)?;
        if starts {
            decode_starts(bytes, &mut start).map_err(|_| Malformed)?;
        }
        for (i, (at, value)) in at.into_iter().zip(values).enumerate() {
            if range.contains(at) {
                merge::push_histogram(out, at, value, start.get(i).copied().unwrap_or(0));
            }
        }
    } else if starts {
        let (mut at, mut values, mut start) = (Vec::new(), Vec::new(), Vec::new());
        decode_floats(bytes, &mut at, &mut values).map_err(|_| Malformed)?;
        decode_starts(bytes, &mut start).map_err(|_| Malformed)?;
        for (i, (at, value)) in at.into_iter().zip(values).enumerate() {
            if range.contains(at) {
                merge::push_float(out, at, value, start.get(i).copied().unwrap_or(0));
            }
        }
    } else {
        if whole {
            decode_floats(bytes, &mut out.at_ms, &mut out.values).map_err(|_| Malformed)?;
        } else {
            decode_floats_range(bytes, range, &mut out.at_ms, &mut out.values).map_err(|_| Malformed)?;
        }
        if out.at_ms.len() != out.values.len() {
            return Err(Malformed);
        }
        merge::pad_starts(out);
    }
    Ok(())
}

fn parse_exemplars(bytes: &[u8]) -> Result<Vec<(Number, Exemplar)>, Malformed> {
    let raw = unpack(bytes)?;
    let mut r = Bytes(&raw);
    let mut list = Vec::new();
    while !r.is_empty() {
        let (number, at_ms, value) = (r.number()?, r.signed()?, f64::from_bits(r.u64()?));
        let labels = Labels::from_bytes(r.text()?).map_err(|_| Malformed)?;
        list.push((number, Exemplar { at_ms, value, labels }));
    }
    Ok(list)
}

fn parse_metadata(bytes: &[u8]) -> Result<Vec<MetadataEntry>, Malformed> {
    let raw = unpack(bytes)?;
    let mut r = Bytes(&raw);
    let mut list = Vec::new();
    while !r.is_empty() {
        let (tenant, position) = (TenantId(r.number()?), r.varint()?);
        let kind = MetricKind::from_u8(r.u8()?);
        list.push(MetadataEntry {
            tenant,
            position,
            kind,
            metric: r.str()?.to_owned(),
            help: r.str()?.to_owned(),
            unit: r.str()?.to_owned(),
        });
    }
    Ok(list)
}
