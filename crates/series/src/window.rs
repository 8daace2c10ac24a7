//! The series of a window of two hours: each is written once, with its labels, into the window's series file, and level 0
//! blocks name it by its number there. See `docs/format/series-file.md`.

mod check;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{RwLock, RwLockReadGuard};

use host::{Files, Host, OpenMode, Refusal, read_file_around};
use model::SeriesId;

use crate::block::{NO_SERIES, Number};
use crate::bytes::{Bytes, checksum};
use crate::index::{Index, IndexBuilder};
use crate::table::SeriesTable;
pub(crate) use check::check;

/// Marks the start of a section, and is looked for after damage.
const MAGIC: [u8; 4] = *b"OVSF";
/// Magic, version, window, first number, count, payload length, checksums of payload and of this header.
const HEADER: usize = 36;
const VERSION: u32 = 1;
/// Series of a section: what is built in memory at once.
const SECTION_SERIES: usize = 1 << 16;
/// No number.
const NONE: Number = Number::MAX;
/// Files have numbers of their own for checksums; windows share the space of blocks and so take its upper half.
const FILE_SPACE: u64 = 1 << 63;

/// The name of a window's series file.
pub(crate) fn window_name(id: u64) -> String {
    format!("window-{id:010}")
}

/// The window of a series file's name.
pub(crate) fn window_id(name: &str) -> Option<u64> {
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
}

impl Window {
    pub(crate) fn new(dir: &Path, id: u64) -> Self {
        Window {
            id,
            path: dir.join(window_name(id)),
            numbers: RwLock::default(),
            incomplete: false,
            unread: false,
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
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

    /// Gives numbers to series that have none yet, and writes their labels durably.
    pub(crate) fn add(&self, files: &dyn Files, realm: u64, table: &SeriesTable, ids: &[SeriesId]) -> io::Result<()> {
        let new: Vec<SeriesId> = {
            let numbers = self.read();
            let known = |id: &SeriesId| numbers.numbers.get(id.index()).is_some_and(|&n| n != NONE);
            ids.iter().copied().filter(|id| !known(id)).collect()
        };
        if new.is_empty() {
            return Ok(());
        }
        let (mut first, mut at) = {
            let n = self.read();
            (n.ids.len() as u32, n.end)
        };
        let created = !files.exists(&self.path);
        let file = files.open(&self.path, OpenMode::Create)?;
        let mut numbered: Vec<SeriesId> = Vec::with_capacity(new.len());
        for part in new.chunks(SECTION_SERIES) {
            let (payload, ids) = payload(table, part)?;
            let bytes = section(realm, self.id, at, first, ids.len() as u32, &payload);
            file.write_all_at(&bytes, at)?;
            at += bytes.len() as u64;
            first += ids.len() as u32;
            numbered.extend(ids);
        }
        file.set_len(at)?;
        file.sync_all()?;
        if created {
            files.sync_dir(self.path.parent().unwrap_or(Path::new(".")))?;
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

    /// Reads the first `len` series of a file; they enter the table and become visible. What is damaged is passed over,
    /// what was never committed is left out and written over.
    pub(crate) fn load(host: &Host, dir: &Path, realm: u64, id: u64, len: u64, table: &SeriesTable) -> Window {
        let mut window = Window::new(dir, id);
        let (bytes, unread) = match read_file_around(&*host.files, &*host.clock, &window.path) {
            Ok((bytes, holes)) => (bytes, !holes.is_empty()),
            Err(e) => (Vec::new(), Refusal::of(&e) != Refusal::Missing),
        };
        let mut numbers = Numbers::default();
        let mut visible = Vec::new();
        let mut at = 0usize;
        while at + HEADER <= bytes.len() {
            let Some((first, count, payload, sum)) = header(realm, id, at as u64, &bytes[at..]) else {
                // after damage the next section is found by its magic and its header's checksum
                let next = bytes[at + 1..].windows(MAGIC.len()).position(|w| w == MAGIC);
                match next {
                    Some(n) => at += 1 + n,
                    None => break,
                }
                continue;
            };
            if u64::from(first) >= len {
                break;
            }
            let from = at + HEADER;
            let Some(body) = bytes.get(from..from + payload) else {
                break;
            };
            if checksum(realm, id | FILE_SPACE, from as u64, body) == sum
                && let Ok(index) = Index::decode(body)
                && index.len() == count
            {
                let mut labels = Vec::new();
                for n in 0..count {
                    labels.clear();
                    index.write_labels(n, &mut labels);
                    let tenant = index.tenant_of(n);
                    if let Some(tenant) = tenant
                        && let Ok(series) = table.intern(tenant, &labels, None)
                    {
                        numbers.set(first + n, series);
                        visible.push(series);
                    }
                }
            } else if numbers.ids.len() < (first + count) as usize {
                numbers.ids.resize((first + count) as usize, NO_SERIES);
            }
            at = from + payload;
            numbers.end = at as u64;
        }
        table.set_visible(&visible);
        *window.numbers.write().unwrap_or_else(|e| e.into_inner()) = numbers;
        window.incomplete = window.lost(len) > 0;
        window.unread = unread && window.incomplete;
        window
    }

    /// Series of the first `len` numbers whose labels could not be read.
    pub(crate) fn lost(&self, len: u64) -> u64 {
        let n = self.read();
        let known = n.ids.iter().take(len as usize).filter(|&&id| id != NO_SERIES).count();
        len - known as u64
    }
}

/// A section's label sets, and the series in their order.
fn payload(table: &SeriesTable, ids: &[SeriesId]) -> io::Result<(Vec<u8>, Vec<SeriesId>)> {
    let mut builder = IndexBuilder::default();
    let (mut labels, mut ids_of) = (Vec::new(), Vec::with_capacity(ids.len()));
    for &id in ids {
        labels.clear();
        table.write_labels(id, &mut labels);
        let n = builder
            .add(table.tenant_of(id), &labels)
            .map_err(|_| io::Error::other("the series table holds labels that are not canonical"))?;
        if n as usize == ids_of.len() {
            ids_of.push(id);
        }
    }
    let sets = builder.sort();
    let in_order = sets.order.iter().map(|&n| ids_of[n as usize]).collect();
    Ok((sets.encode(&sets.order), in_order))
}

fn section(realm: u64, window: u64, at: u64, first: u32, count: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER + payload.len());
    out.extend_from_slice(&MAGIC);
    out.extend_from_slice(&VERSION.to_le_bytes());
    out.extend_from_slice(&window.to_le_bytes());
    out.extend_from_slice(&first.to_le_bytes());
    out.extend_from_slice(&count.to_le_bytes());
    out.extend_from_slice(&(payload.len() as u32).to_le_bytes());
    let sum = checksum(realm, window | FILE_SPACE, at + HEADER as u64, payload);
    out.extend_from_slice(&sum.to_le_bytes());
    let sum = checksum(realm, window | FILE_SPACE, at, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    out.extend_from_slice(payload);
    out
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
