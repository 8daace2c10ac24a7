mod check;
mod directory;
mod frames;
mod salvage;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, OnceLock};

use host::{File, Files, OpenMode, Refusal, read_around};
use model::{Exemplar, Labels, MetricKind, SeriesBlock, SeriesId, TenantId, TimeRange};

use super::frame::{Kind, Place};
use super::group::Group;
use super::{Footer, HEADER_BYTES, MAGIC, MetadataEntry, NO_SERIES, Number, TRAILER_BYTES, block_name};
use crate::bytes::{Bytes, Malformed, checksum};
use crate::cache::{Cache, Key};
use crate::chunk::{decode_floats, decode_floats_range, decode_histograms, decode_starts, read_head};
use crate::index::Index;
use crate::merge;
use crate::retention::ClassSet;
pub(crate) use directory::{Directory, Seen};

/// Bytes a footer may have.
const FOOTER_BYTES_MAX: u64 = 16 << 20;

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

/// Entries that could be read, and what is damaged of the others.
type Entries<T> = (Vec<T>, Vec<ReadError>);

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

/// An open block of which a footer was found whole. Everything else is read and checked when it is asked for.
pub(crate) struct Block {
    pub(crate) footer: Footer,
    pub(crate) path: PathBuf,
    pub(crate) bytes: u64,
    /// Retention classes of its series, once that was asked.
    pub(crate) classes: OnceLock<ClassSet>,
    /// What was found damaged when it was opened, and could be done without.
    pub(crate) damage: Vec<ReadError>,
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
        Block::of_file(file, path, realm, id, known)
    }

    pub(crate) fn of_file(
        file: Arc<dyn File>,
        path: PathBuf,
        realm: u64,
        id: u64,
        known: u64,
    ) -> Result<Block, ReadError> {
        let len = file.len().map_err(failed("file", 0, 0))?;
        let bytes = if known > 0 { known.min(len) } else { len };
        let (footer, damage) = match last_footer(&*file, realm, id, bytes) {
            Ok(footer) => (footer, Vec::new()),
            Err(e @ ReadError::Io(_)) => return Err(e),
            // a file that was cut, or goes on where it should end
            Err(e) => match first_footer(&*file, realm, id) {
                Ok(footer) => (footer, vec![e]),
                Err(io @ ReadError::Io(_)) => return Err(io),
                Err(_) => return Err(e),
            },
        };
        Ok(Block {
            footer,
            path,
            bytes,
            classes: OnceLock::new(),
            damage,
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

    fn place(&self, offset: u64) -> Place {
        Place {
            realm: self.realm,
            file: self.footer.id,
            offset,
        }
    }

    /// Bytes of the file, with zeros where the device gives none; whether there were such.
    fn read(&self, what: &'static str, offset: u64, len: u64) -> Result<(Vec<u8>, bool), ReadError> {
        if offset.checked_add(len).is_none_or(|end| end > self.bytes) {
            return Err(ReadError::Damaged(what, offset, len));
        }
        let mut bytes = vec![0; len as usize];
        let mut holes = Vec::new();
        let read = read_around(&*self.file, &mut bytes, offset, &mut holes).map_err(failed(what, offset, len))?;
        if read < bytes.len() {
            return Err(ReadError::Damaged(what, offset, len));
        }
        Ok((bytes, !holes.is_empty()))
    }

    fn key(&self, part: u32) -> Key {
        (self.footer.id, part)
    }

    /// Where the chunks of each series are. Where it is damaged it is made anew from the heads of the groups.
    pub(crate) fn directory(&self, cache: &Cache) -> Result<Arc<Directory>, ReadError> {
        if let Some(found) = cache.get(self.key(DIRECTORY)) {
            return Ok(found);
        }
        let mut directory = self.stored_directory()?;
        if !directory.damage.is_empty() {
            directory = self.directory_of_groups(directory.damage)?;
        }
        let directory = Arc::new(directory);
        cache.insert(self.key(DIRECTORY), Arc::clone(&directory), directory.bytes());
        Ok(directory)
    }

    /// The labels of a file above level 0. Where they are damaged they are taken from the copies that lie among the groups.
    pub(crate) fn index(&self, cache: &Cache) -> Result<Arc<Index>, ReadError> {
        if let Some(found) = cache.get(self.key(INDEX)) {
            return Ok(found);
        }
        let mut index = self.stored_index()?;
        if !index.damage.is_empty() {
            self.mend_index(&mut index, &*self.directory(cache)?)?;
        }
        let index = Arc::new(index);
        cache.insert(self.key(INDEX), Arc::clone(&index), index.bytes());
        Ok(index)
    }

    pub(crate) fn group(&self, directory: &Directory, group: u32, cache: &Cache) -> Result<Arc<Group>, ReadError> {
        if let Some(found) = cache.get(self.key(group)) {
            return Ok(found);
        }
        let (found, holes) = self.read_group(directory, group)?;
        let found = Arc::new(found);
        // what the device does not give now it may give the next time
        if !holes {
            cache.insert(self.key(group), Arc::clone(&found), found.bytes());
        }
        Ok(found)
    }

    fn read_group(&self, directory: &Directory, group: u32) -> Result<(Group, bool), ReadError> {
        let (offset, len) = directory.place(group as usize);
        let len = u64::from(len);
        // of a file that was cut in it, the pieces before are whole
        let there = self.bytes.saturating_sub(offset).min(len);
        let (mut bytes, holes) = self.read("chunks", offset, there)?;
        bytes.resize(len as usize, 0);
        let damage = |holes| match holes {
            true => ReadError::Unreadable("head of a group", offset, len),
            false => ReadError::Damaged("head of a group", offset, len),
        };
        let (_, found) = Group::read(bytes, self.place(offset)).map_err(|_| damage(holes))?;
        Ok((found, holes))
    }

    /// Offset and length of a group.
    #[cfg(test)]
    pub(crate) fn place_of_group(&self, directory: &Directory, group: u32) -> (u64, u32) {
        directory.place(group as usize)
    }

    /// Reads a group and holds it against its checksums; its bytes, and the pieces that are damaged.
    pub(crate) fn check_group(&self, directory: &Directory, group: u32) -> Result<(u64, Vec<ReadError>), ReadError> {
        let (offset, len) = directory.place(group as usize);
        let (found, holes) = self.read_group(directory, group)?;
        let mut damage: Vec<ReadError> = (found.damage())
            .map(|(at, len)| match holes {
                true => ReadError::Unreadable("chunks", offset + at, len),
                false => ReadError::Damaged("chunks", offset + at, len),
            })
            .collect();
        if holes && damage.is_empty() {
            damage.push(ReadError::Unreadable("chunks", offset, u64::from(len)));
        }
        Ok((u64::from(len), damage))
    }

    /// Reads everything but the groups, and what lies among them, and holds it against its checksums; its bytes, and what is
    /// damaged.
    pub(crate) fn check_sections(&self) -> Result<(u64, Vec<ReadError>), ReadError> {
        let f = &self.footer;
        let (mut bytes, mut damage) = (0, Vec::new());
        for (kind, section) in self.sections() {
            damage.extend(self.frames(kind, section, &mut |_, raw| raw.map(drop))?);
            bytes += section.len;
        }
        let len = f.encode().len() as u64 + TRAILER_BYTES;
        match last_footer(&*self.file, self.realm, f.id, self.bytes) {
            Ok(_) => bytes += len,
            Err(e @ ReadError::Io(_)) => return Err(e),
            Err(e) => damage.push(e),
        }
        match self.check_head() {
            Ok(()) => bytes += f.head,
            Err(e @ ReadError::Io(_)) => return Err(e),
            Err(e) => damage.push(e),
        }
        Ok((bytes, damage))
    }

    /// Holds the header and the first copy of the footer against what is known.
    fn check_head(&self) -> Result<(), ReadError> {
        let (bytes, holes) = self.read("header", 0, self.footer.head)?;
        let (header, rest) =
            bytes
                .split_at_checked(HEADER_BYTES as usize)
                .ok_or(ReadError::Damaged("header", 0, self.footer.head))?;
        let whole = Header::read(header, self.realm, self.footer.id).is_some_and(|h| h == self.footer.head)
            && rest.split_first_chunk().is_some_and(|(sum, rest)| {
                checksum(self.realm, self.footer.id, HEADER_BYTES + 4, rest).to_le_bytes() == *sum
            });
        match (holes, whole) {
            (true, _) => Err(ReadError::Unreadable("header", 0, self.footer.head)),
            (false, true) => Ok(()),
            (false, false) => Err(ReadError::Damaged("header", 0, self.footer.head)),
        }
    }

    /// Whether everything but the chunks can be read, as after writing it must be.
    pub(crate) fn prove(&self) -> Result<(), ReadError> {
        let f = &self.footer;
        let directory = self.stored_directory()?;
        let mut damage = directory.damage.clone();
        let counts = (directory.len() as u64, directory.counted());
        if counts != (u64::from(f.groups), Some((f.series, f.chunks, f.samples))) {
            damage.push(ReadError::Damaged("directory", f.directory.offset, f.directory.len));
        }
        drop(directory);
        if f.level > 0 {
            // page by page: the whole may be large
            let mut sets = 0;
            let mut page = |first: u32, raw: Result<Vec<u8>, Malformed>| {
                let mut page = Index::default();
                page.add(first, &raw?)?;
                sets += u64::from(page.len() - first);
                Ok(())
            };
            damage.extend(self.frames(Kind::Index, f.index, &mut page)?);
            if sets != f.series {
                damage.push(ReadError::Damaged("index", f.index.offset, f.index.len));
            }
        }
        damage.extend(self.exemplars()?.1);
        damage.extend(self.metadata()?.1);
        self.check_head()?;
        match damage.into_iter().next() {
            Some(e) => Err(e),
            None => Ok(()),
        }
    }

    /// The damage of a chunk whose checksum holds but which cannot be decoded.
    fn bad_chunk(&self, directory: &Directory, group: &Group, c: &Chunk) -> ReadError {
        let (offset, _) = directory.place(c.group as usize);
        ReadError::Damaged("chunk", offset + group.place(c), u64::from(c.len))
    }

    /// The bytes of a chunk within its group.
    pub(crate) fn chunk<'g>(&self, directory: &Directory, group: &'g Group, c: &Chunk) -> Result<&'g [u8], ReadError> {
        group.chunk(c).map_err(|piece| match piece {
            Some((at, len)) => ReadError::Damaged("chunks", directory.place(c.group as usize).0 + at, len),
            None => self.bad_chunk(directory, group, c),
        })
    }

    /// Appends the samples of a chunk that lie within the range.
    pub(crate) fn decode(
        &self,
        directory: &Directory,
        group: &Group,
        c: &Chunk,
        range: TimeRange,
        out: &mut SeriesBlock,
    ) -> Result<(), ReadError> {
        let bytes = self.chunk(directory, group, c)?;
        let before = merge::begin(out);
        append_chunk(bytes, c, range, out).map_err(|_| {
            merge::append(out, before, SeriesBlock::default());
            self.bad_chunk(directory, group, c)
        })
    }

    /// The exemplars that can be read, and what is damaged of them.
    pub(crate) fn exemplars(&self) -> Result<Entries<(Number, Exemplar)>, ReadError> {
        let mut list = Vec::new();
        let damage = self.frames(Kind::Exemplars, self.footer.exemplars, &mut |_, raw| {
            list.append(&mut parse_exemplars(&raw?)?);
            Ok(())
        })?;
        Ok((list, damage))
    }

    /// The metadata that can be read, and what is damaged of it.
    pub(crate) fn metadata(&self) -> Result<Entries<MetadataEntry>, ReadError> {
        let mut list = Vec::new();
        let damage = self.frames(Kind::Metadata, self.footer.metadata, &mut |_, raw| {
            list.append(&mut parse_metadata(&raw?)?);
            Ok(())
        })?;
        Ok((list, damage))
    }
}

/// The footer at the end of the file.
fn last_footer(file: &dyn File, realm: u64, id: u64, bytes: u64) -> Result<Footer, ReadError> {
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
    match footer.id == id {
        true => Ok(footer),
        false => Err(damaged()),
    }
}

/// The copy of the footer at the beginning of the file, which lacks the deletes.
fn first_footer(file: &dyn File, realm: u64, id: u64) -> Result<Footer, ReadError> {
    let damaged = || ReadError::Damaged("header", 0, HEADER_BYTES);
    let mut header = [0; HEADER_BYTES as usize];
    file.read_exact_at(&mut header, 0)
        .map_err(failed("header", 0, HEADER_BYTES))?;
    let head = Header::read(&header, realm, id).ok_or_else(damaged)?;
    let mut rest = vec![0; (head - HEADER_BYTES) as usize];
    file.read_exact_at(&mut rest, HEADER_BYTES)
        .map_err(failed("header", HEADER_BYTES, head - HEADER_BYTES))?;
    let mut r = Bytes(&rest);
    let sum = r.u32().map_err(|_| damaged())?;
    if checksum(realm, id, HEADER_BYTES + 4, r.0) != sum {
        return Err(damaged());
    }
    let len = r.u32().map_err(|_| damaged())?;
    let copy = r.take(len as usize).map_err(|_| damaged())?;
    let footer = Footer::decode(copy).map_err(|_| damaged())?;
    match footer.id == id {
        true => Ok(footer),
        false => Err(damaged()),
    }
}

/// Bytes that the part before the first group may have.
const HEAD_BYTES_MAX: u64 = 1 << 20;

/// The data set that a block says it belongs to, by its first bytes.
pub(crate) fn header_realm(bytes: &[u8], id: u64) -> Option<u64> {
    let (realm, file, _) = Header::parse(bytes)?;
    (file == id).then_some(realm)
}

/// The first bytes of a block.
struct Header;

impl Header {
    /// How many bytes lie before the first group, when this is the header of a block.
    fn read(bytes: &[u8], realm: u64, id: u64) -> Option<u64> {
        let (of, file, head) = Header::parse(bytes)?;
        (of == realm && file == id).then_some(head)
    }

    /// Data set, file and bytes before the first group.
    fn parse(bytes: &[u8]) -> Option<(u64, u64, u64)> {
        let body = bytes.get(..HEADER_BYTES as usize - 4)?;
        let mut r = Bytes(bytes.get(..HEADER_BYTES as usize)?);
        let magic = r.take(8).ok()?;
        let (realm, file, head) = (r.u64().ok()?, r.u64().ok()?, u64::from(r.u32().ok()?));
        let whole = magic == MAGIC && checksum(realm, file, 0, body) == r.u32().ok()?;
        let room = (HEADER_BYTES + 8..=HEAD_BYTES_MAX).contains(&head);
        (whole && room).then_some((realm, file, head))
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

fn parse_exemplars(raw: &[u8]) -> Result<Vec<(Number, Exemplar)>, Malformed> {
    let mut r = Bytes(raw);
    let mut list = Vec::new();
    while !r.is_empty() {
        let (number, at_ms, value) = (r.number()?, r.signed()?, f64::from_bits(r.u64()?));
        let labels = Labels::from_bytes(r.text()?).map_err(|_| Malformed)?;
        list.push((number, Exemplar { at_ms, value, labels }));
    }
    Ok(list)
}

fn parse_metadata(raw: &[u8]) -> Result<Vec<MetadataEntry>, Malformed> {
    let mut r = Bytes(raw);
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
