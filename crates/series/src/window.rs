//! The series of a window of two hours: each is written once, with its labels, into the window's series file, and level 0
//! blocks name it by its number there. See `docs/format/series-file.md`.

mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard};

use host::{Files, Host, OpenMode, Refusal, patiently, read_file_around};
use model::SeriesId;

use crate::block::{FileBounds, NO_SERIES, Number, pack};
use crate::bytes::{Bytes, checksum};
use crate::index::{Index, IndexBuilder};
use crate::table::SeriesTable;
pub(crate) use check::check;

/// Marks the start of a section, and is looked for after damage.
const MAGIC: [u8; 4] = *b"OVSF";
/// Magic, version, window, first number, count, payload length, checksums of payload and of this header.
const HEADER: usize = 36;
const VERSION: u32 = 1;
/// No number.
const NONE: Number = Number::MAX;
/// Files have numbers of their own for checksums; windows share the space of blocks and so take its upper half.
const FILE_SPACE: u64 = 1 << 63;
/// The end of a copy's name.
const COPY: &str = ".copy";

/// The name of a window's series file.
pub(crate) fn window_name(id: u64) -> String {
    format!("window-{id:010}")
}

/// The name of its copy, which has the same bytes.
pub(crate) fn copy_name(id: u64) -> String {
    format!("{}{COPY}", window_name(id))
}

/// The window of a series file's name, or of its copy's.
pub(crate) fn window_id(name: &str) -> Option<u64> {
    let name = name.strip_suffix(COPY).unwrap_or(name);
    name.strip_prefix("window-").filter(|n| n.len() >= 10)?.parse().ok()
}

#[derive(Default)]
struct Numbers {
    /// Series by number; `NO_SERIES` where the labels are lost.
    ids: Vec<SeriesId>,
    /// Numbers by series id.
    numbers: Vec<Number>,
    /// Where the next section goes.
    end: u64,
}

impl Numbers {
    fn set(&mut self, number: Number, id: SeriesId) {
        let n = number as usize;
        if self.ids.len() <= n {
            self.ids.resize(n + 1, NO_SERIES);
        }
        self.ids[n] = id;
        if self.numbers.len() <= id.index() {
            self.numbers.resize(id.index() + 1, NONE);
        }
        self.numbers[id.index()] = number;
    }
}

pub(crate) struct Window {
    pub(crate) id: u64,
    path: PathBuf,
    numbers: RwLock<Numbers>,
    /// Labels of series that blocks name are missing.
    pub(crate) incomplete: bool,
    /// They could not be read, and may be another time.
    pub(crate) unread: bool,
    /// What was damaged of the two files, and is whole again.
    pub(crate) mended: Vec<String>,
    /// Both files can be written on.
    pub(crate) whole: bool,
}

impl Window {
    pub(crate) fn new(dir: &Path, id: u64) -> Self {
        Window {
            id,
            path: dir.join(window_name(id)),
            numbers: RwLock::default(),
            incomplete: false,
            unread: false,
            mended: Vec::new(),
            whole: true,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn copy_path(&self) -> PathBuf {
        self.path.with_file_name(copy_name(self.id))
    }

    fn read(&self) -> RwLockReadGuard<'_, Numbers> {
        self.numbers.read().unwrap_or_else(|e| e.into_inner())
    }

    /// Numbers of many series under one lock.
    pub(crate) fn numbers_of(&self, ids: &[SeriesId], mut each: impl FnMut(usize, Number)) {
        let numbers = self.read();
        for (i, id) in ids.iter().enumerate() {
            if let Some(&n) = numbers.numbers.get(id.index()).filter(|&&n| n != NONE) {
                each(i, n);
            }
        }
    }

    pub(crate) fn id_of(&self, number: Number) -> Option<SeriesId> {
        self.read()
            .ids
            .get(number as usize)
            .copied()
            .filter(|&id| id != NO_SERIES)
    }

    /// Bytes of memory, about.
    pub(crate) fn bytes(&self) -> usize {
        let n = self.read();
        n.ids.capacity() * 4 + n.numbers.capacity() * 4
    }

    /// Series that have a number.
    pub(crate) fn series(&self) -> Vec<SeriesId> {
        self.read().ids.iter().copied().filter(|&id| id != NO_SERIES).collect()
    }

    /// Numbers given so far.
    pub(crate) fn len(&self) -> u64 {
        self.read().ids.len() as u64
    }

    /// Gives numbers to series that have none yet, and writes their labels durably, twice.
    pub(crate) fn add(
        &self,
        files: &dyn Files,
        realm: u64,
        table: &SeriesTable,
        ids: &[SeriesId],
        bounds: &FileBounds,
    ) -> io::Result<()> {
        let new: Vec<SeriesId> = {
            let numbers = self.read();
            let known = |id: &SeriesId| numbers.numbers.get(id.index()).is_some_and(|&n| n != NONE);
            ids.iter().copied().filter(|id| !known(id)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let (first, from) = {
            let n = self.read();
            (n.ids.len() as u32, n.end)
        };
        let created = !files.exists(&self.path);
        let both = [
            files.open(&self.path, OpenMode::Create)?,
            files.open(&self.copy_path(), OpenMode::Create)?,
        ];
        let mut numbered: Vec<SeriesId> = Vec::with_capacity(new.len());
        let (mut at, mut rest) = (from, &new[..]);
        while !rest.is_empty() {
            let (payload, ids, taken) = payload(table, rest, bounds)?;
            let next = u32::try_from(numbered.len()).ok().and_then(|n| first.checked_add(n));
            let next = next.ok_or_else(|| io::Error::other("a series file has no number left"))?;
            let bytes = section(realm, self.id, at, next, ids.len() as u32, &payload)?;
            for file in &both {
                file.write_all_at(&bytes, at)?;
            }
            at += bytes.len() as u64;
            numbered.extend(ids);
            rest = &rest[taken..];
        }
        for file in &both {
            file.set_len(at)?;
            file.sync_all()?;
        }
        if created {
            files.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
        }
        // nothing is named by a number whose labels cannot be read
        let mut found = 0;
        let mut bytes = Vec::new();
        let reader = files.open(&self.path, OpenMode::Read)?;
        let mut place = from;
        while place < at {
            bytes.resize(HEADER, 0);
            reader.read_exact_at(&mut bytes, place)?;
            let Some((_, _, payload, _)) = header(realm, self.id, place, &bytes) else {
                break;
            };
            bytes.resize(HEADER + payload, 0);
            reader.read_exact_at(&mut bytes, place)?;
            sections(&bytes, place, realm, self.id, |s| {
                found += s.index.map_or(0, |i| i.len() as usize)
            });
            place += bytes.len() as u64;
        }
        if found != numbered.len() {
            let text = format!("{}: what was written cannot be read back", self.path.display());
            return Err(io::Error::other(text));
        }
        let mut numbers = self.numbers.write().unwrap_or_else(|e| e.into_inner());
        let first = numbers.ids.len();
        numbers.ids.reserve(numbered.len());
        for (i, &id) in numbered.iter().enumerate() {
            numbers.set((first + i) as u32, id);
        }
        numbers.end = at;
        Ok(())
    }

    /// Reads the first `len` series of a file; they enter the table and become visible. What is damaged is taken from the
    /// copy, and passed over where that is damaged, too; what was never committed is left out and written over. Where both
    /// together are whole, both are afterwards.
    pub(crate) fn load(host: &Host, dir: &Path, realm: u64, id: u64, len: u64, table: &SeriesTable) -> Window {
        let mut window = Window::new(dir, id);
        let (bytes, mut unread) = read_all(host, &window.path);
        let mut numbers = Numbers::default();
        let mut visible = Vec::new();
        let mut whole = take(&bytes, realm, id, len, table, &mut numbers, &mut visible);
        let copy = window.copy_path();
        if whole {
            // a copy that is not as long was lost, or never made
            let end = numbers.end;
            match patiently(&*host.clock, || host.files.open(&copy, OpenMode::Read)?.len()) {
                Ok(n) if n >= end => {}
                Err(e) if Refusal::of(&e) != Refusal::Missing => window.whole = false,
                _ => window.mend(host, &copy, &bytes[..end as usize]),
            }
        } else {
            let (of_copy, holes) = read_all(host, &copy);
            unread |= holes;
            let mut all = bytes;
            let mut missed = Numbers::default();
            take(&of_copy, realm, id, len, table, &mut missed, &mut visible);
            for (n, &id) in (0..).zip(&missed.ids) {
                if id != NO_SERIES {
                    numbers.set(n, id);
                }
            }
            sections(&of_copy, 0, realm, id, |s| {
                if s.index.is_some() {
                    let to = s.offset + s.bytes.len();
                    if all.len() < to {
                        all.resize(to, 0);
                    }
                    all[s.offset..to].copy_from_slice(s.bytes);
                }
            });
            numbers.end = numbers.end.max(missed.end);
            let mut again = Numbers::default();
            whole = take(&all, realm, id, len, table, &mut again, &mut Vec::new());
            // one that cannot be read now is not written on, and not written over
            window.whole = !unread;
            if whole && !unread {
                numbers.end = again.end;
                let bytes = &all[..again.end as usize];
                for path in [window.path.clone(), copy] {
                    if host.files.read(&path).map_or(true, |b| !b.starts_with(bytes)) {
                        window.mend(host, &path, bytes);
                    }
                }
            }
        }
        table.set_visible(&visible);
        *window.numbers.write().unwrap_or_else(|e| e.into_inner()) = numbers;
        window.incomplete = window.lost(len) > 0;
        window.unread = unread && window.incomplete;
        window.whole &= whole;
        window
    }

    /// Writes one of the two files anew.
    fn mend(&mut self, host: &Host, path: &Path, bytes: &[u8]) {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        match host.files.write_atomic(path, bytes) {
            Ok(()) => self.mended.push(name),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "a series file could not be written anew; its twin is whole");
                self.whole = false;
            }
        }
    }

    /// Series of the first `len` numbers whose labels could not be read.
    pub(crate) fn lost(&self, len: u64) -> u64 {
        let n = self.read();
        let known = n.ids.iter().take(len as usize).filter(|&&id| id != NO_SERIES).count();
        len - known as u64
    }
}

/// All there is of a file, and whether the device did not give all of it.
fn read_all(host: &Host, path: &Path) -> (Vec<u8>, bool) {
    match read_file_around(&*host.files, &*host.clock, path) {
        Ok((bytes, holes)) => (bytes, !holes.is_empty()),
        Err(e) => (Vec::new(), Refusal::of(&e) != Refusal::Missing),
    }
}

/// A section of which the header is whole.
struct Found<'b> {
    offset: usize,
    /// Header and payload.
    bytes: &'b [u8],
    first: u32,
    count: u32,
    /// `None`: the payload is damaged.
    index: Option<Index>,
}

/// Calls `each` with every section; false when something lies between them that is none. `base`: where the bytes lie in the
/// file.
fn sections<'b>(bytes: &'b [u8], base: u64, realm: u64, id: u64, mut each: impl FnMut(Found<'b>)) -> bool {
    let (mut at, mut whole) = (0usize, true);
    while at < bytes.len() {
        let head = header(realm, id, base + at as u64, &bytes[at..]);
        let Some((first, count, payload, sum)) = head else {
            // after damage the next section is found by its magic and its header's checksum
            whole = false;
            let next = bytes[at + 1..].windows(MAGIC.len()).position(|w| w == MAGIC);
            match next {
                Some(n) => at += 1 + n,
                None => break,
            }
            continue;
        };
        let from = at + HEADER;
        let Some(body) = bytes.get(from..from + payload) else {
            whole = false;
            break;
        };
        let right = checksum(realm, id | FILE_SPACE, base + from as u64, body) == sum;
        let index = right.then(|| Index::decode(body).ok()).flatten();
        each(Found {
            offset: at,
            bytes: &bytes[at..from + payload],
            first,
            count,
            index: index.filter(|i| i.len() == count),
        });
        at = from + payload;
    }
    whole
}

/// Takes up the first `len` series of a file; whether it has them all.
fn take(
    bytes: &[u8],
    realm: u64,
    id: u64,
    len: u64,
    table: &SeriesTable,
    numbers: &mut Numbers,
    visible: &mut Vec<SeriesId>,
) -> bool {
    let mut labels = Vec::new();
    sections(bytes, 0, realm, id, |s| {
        if u64::from(s.first) >= len {
            return;
        }
        numbers.end = (s.offset + s.bytes.len()) as u64;
        let Some(index) = s.index else {
            let end = (s.first + s.count) as usize;
            if numbers.ids.len() < end {
                numbers.ids.resize(end, NO_SERIES);
            }
            return;
        };
        for n in 0..s.count {
            labels.clear();
            index.write_labels(n, &mut labels);
            if let Some(tenant) = index.tenant_of(n)
                && let Ok(series) = table.intern(tenant, &labels, None)
            {
                numbers.set(s.first + n, series);
                visible.push(series);
            }
        }
    });
    let known = numbers.ids.iter().take(len as usize).filter(|&&id| id != NO_SERIES);
    known.count() as u64 == len
}

/// The packed label sets of a section, the series in their order, and how many of the ids these are.
fn payload(table: &SeriesTable, ids: &[SeriesId], bounds: &FileBounds) -> io::Result<(Vec<u8>, Vec<SeriesId>, usize)> {
    let mut builder = IndexBuilder::default();
    let (mut labels, mut ids_of, mut taken) = (Vec::new(), Vec::new(), 0);
    for &id in ids {
        if taken > 0 && (taken >= bounds.frame_series || builder.text_bytes() >= bounds.frame_bytes) {
            break;
        }
        labels.clear();
        table.write_labels(id, &mut labels);
        let n = builder
            .add(table.tenant_of(id), &labels)
            .map_err(|_| io::Error::other("the series table holds labels that are not canonical"))?;
        if n as usize == ids_of.len() {
            ids_of.push(id);
        }
        taken += 1;
    }
    let sets = builder.sort();
    let in_order = sets.order.iter().map(|&n| ids_of[n as usize]).collect();
    Ok((pack(&sets.encode(&sets.order))?, in_order, taken))
}

fn section(realm: u64, window: u64, at: u64, first: u32, count: u32, payload: &[u8]) -> io::Result<Vec<u8>> {
    let len = u32::try_from(payload.len()).map_err(io::Error::other)?;
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&window.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&len.to_le_bytes());
    let sum = checksum(realm, window | FILE_SPACE, at + HEADER as u64, payload);
    out.extend_from_slice(&sum.to_le_bytes());
    let sum = checksum(realm, window | FILE_SPACE, at, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(payload);
    Ok(out)
}

/// (first number, count, payload length, payload checksum) of a whole header.
fn header(realm: u64, window: u64, at: u64, bytes: &[u8]) -> Option<(u32, u32, usize, u32)> {
    let head = bytes.get(..HEADER)?;
    let sum = checksum(realm, window | FILE_SPACE, at, &head[..HEADER - 4]);
    let mut r = Bytes(head);
    let magic = r.take(4).ok()?;
    let (version, of) = (r.u32().ok()?, r.u64().ok()?);
    let (first, count, payload) = (r.u32().ok()?, r.u32().ok()?, r.u32().ok()?);
    let (body, own) = (r.u32().ok()?, r.u32().ok()?);
    let whole = magic == MAGIC && version == VERSION && of == window && own == sum;
    (whole && first.checked_add(count).is_some()).then_some((first, count, payload as usize, body))
}
