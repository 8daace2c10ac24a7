use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{File, Files, OpenMode};
use model::{Exemplar, SeriesBlock};

use super::frame::{FRAME_HEAD, Kind, Place, pack, put_frame};
use super::group::Draft;
use super::{
    Block, CHUNK_SAMPLES, FileBounds, Footer, GROUP_BYTES, GROUP_SERIES, HEAD_BYTES, HEADER_BYTES, ID_BYTES, MAGIC,
    MetadataEntry, Number, Section, TRAILER_BYTES, block_name, day_of,
};
use crate::bytes::{checksum, put_signed, put_text, put_varint};
use crate::chunk::{ChunkStats, encode_floats, encode_histograms};
use crate::index::SortedSets;

/// Bytes gathered before they go to the file.
const WRITE_BYTES: usize = 256 << 10;

/// Labels are repeated as long as this part of the bytes of chunks pays for it: 1 in so many.
const NAMES_SHARE: usize = 192;
/// Bytes that may go into that in any file.
const NAMES_BYTES: usize = 2 << 10;

/// The label sets of a file above level 0, in the order of its numbers.
pub(crate) struct Names<'a> {
    pub(crate) sets: &'a SortedSets,
    /// Places of its sets in their order.
    pub(crate) places: &'a [u32],
}

impl Names<'_> {
    fn members(&self, of: Range<usize>) -> Vec<u32> {
        let places = self.places.get(of).unwrap_or(&[]);
        places.iter().map(|&p| self.sets.order[p as usize]).collect()
    }

    /// The bytes of a page with some of them.
    fn page(&self, of: Range<usize>) -> Vec<u8> {
        self.sets.encode(&self.members(of))
    }

    fn pages(&self, bounds: &FileBounds) -> Vec<Range<usize>> {
        self.sets.pages(&self.members(0..self.places.len()), bounds)
    }
}

/// What a block holds besides chunks.
#[derive(Default)]
pub(crate) struct Extras {
    pub(crate) exemplars: Vec<(Number, Exemplar)>,
    pub(crate) metadata: Vec<MetadataEntry>,
}

/// Writes one block under a temporary name; [`finish`](Self::finish) makes it durable and gives it its name.
pub(crate) struct BlockWriter {
    files: Arc<dyn Files>,
    dir: PathBuf,
    temporary: PathBuf,
    file: Arc<dyn File>,
    realm: u64,
    id: u64,
    bounds: FileBounds,
    head: u64,
    /// CRC32C of what was written behind that.
    content: u32,
    at: u64,
    out: Vec<u8>,
    group: Draft,
    /// Groups that wait for the labels of their series to be written before them.
    waiting: Vec<Draft>,
    waiting_bytes: usize,
    waiting_series: usize,
    /// Bytes that copies of labels may still take, and what the last one that was too long would have taken.
    names_room: usize,
    names_want: usize,
    /// The part of the directory that is under way: its entries, its rows, its first group.
    entries: Vec<u8>,
    rows: Vec<u8>,
    part_first: u32,
    /// Parts of the directory that are done, packed, each with its first group.
    parts: Vec<(u32, Vec<u8>)>,
    row: Vec<u8>,
    last_min: i64,
    groups: u32,
    series: u64,
    samples: u64,
    chunks: u64,
    open: Option<Number>,
    open_chunks: u32,
    min_ms: i64,
    max_ms: i64,
    finished: bool,
}

impl BlockWriter {
    /// `sources`: how many ids its footer will name.
    pub(crate) fn create(
        files: &Arc<dyn Files>,
        dir: &Path,
        realm: u64,
        id: u64,
        bounds: &FileBounds,
        sources: usize,
    ) -> io::Result<Self> {
        let temporary = dir.join(format!(".{}.tmp", block_name(id)));
        let file = files.open(&temporary, OpenMode::Create)?;
        let head = HEAD_BYTES + ID_BYTES * sources as u64;
        let writer = BlockWriter {
            files: Arc::clone(files),
            dir: dir.to_owned(),
            temporary,
            file,
            realm,
            id,
            bounds: *bounds,
            head,
            content: 0,
            at: head,
            out: Vec::with_capacity(WRITE_BYTES + GROUP_BYTES),
            group: Draft::default(),
            waiting: Vec::new(),
            waiting_bytes: 0,
            waiting_series: 0,
            names_room: NAMES_BYTES,
            names_want: 0,
            entries: Vec::new(),
            rows: Vec::new(),
            part_first: 0,
            parts: Vec::new(),
            row: Vec::new(),
            last_min: 0,
            groups: 0,
            series: 0,
            samples: 0,
            chunks: 0,
            open: None,
            open_chunks: 0,
            min_ms: i64::MAX,
            max_ms: i64::MIN,
            finished: false,
        };
        writer.file.set_len(0)?;
        Ok(writer)
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.out.is_empty() {
            return Ok(());
        }
        self.file.write_all_at(&self.out, self.at)?;
        self.content = crc32c::crc32c_append(self.content, &self.out);
        self.at += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    /// Where the next byte goes.
    fn place(&self) -> Place {
        Place {
            realm: self.realm,
            file: self.id,
            offset: self.at + self.out.len() as u64,
        }
    }

    fn end_series(&mut self) {
        let Some(number) = self.open.take() else { return };
        let group = &mut self.group;
        let distance = group.add_series(number, self.open_chunks);
        put_varint(&mut group.rows, u64::from(distance));
        put_varint(&mut group.rows, u64::from(self.open_chunks));
        group.rows.extend_from_slice(&self.row);
        self.row.clear();
        self.open_chunks = 0;
        self.series += 1;
    }

    /// The group that is under way is done; it is written with its page.
    fn end_group(&mut self) {
        self.end_series();
        if self.group.series == 0 {
            return;
        }
        self.waiting_bytes += self.group.bytes.len();
        self.waiting_series += self.group.series as usize;
        self.waiting.push(std::mem::take(&mut self.group));
        self.last_min = 0;
    }

    fn put_groups(&mut self) -> io::Result<()> {
        for group in std::mem::take(&mut self.waiting) {
            let place = self.place();
            let len = group.write(place, &mut self.out)?;
            self.entries.extend_from_slice(&group.first().to_le_bytes());
            // a part ends long before: its rows have 32 bits of room behind one group of any size
            let rows = u32::try_from(self.rows.len()).map_err(io::Error::other)?;
            self.entries.extend_from_slice(&rows.to_le_bytes());
            self.entries.extend_from_slice(&place.offset.to_le_bytes());
            self.entries.extend_from_slice(&len.to_le_bytes());
            self.rows.extend_from_slice(&group.rows);
            self.groups = self
                .groups
                .checked_add(1)
                .ok_or_else(|| io::Error::other("too many groups"))?;
            if self.entries.len() + self.rows.len() >= self.bounds.frame_bytes {
                self.end_part()?;
            }
            if self.out.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        (self.waiting_bytes, self.waiting_series) = (0, 0);
        Ok(())
    }

    /// Ends a part of the directory.
    fn end_part(&mut self) -> io::Result<()> {
        if self.entries.is_empty() && !self.parts.is_empty() {
            return Ok(());
        }
        let mut raw = (self.groups - self.part_first).to_le_bytes().to_vec();
        raw.append(&mut self.entries);
        raw.append(&mut self.rows);
        self.parts.push((self.part_first, pack(&raw)?));
        self.part_first = self.groups;
        Ok(())
    }

    /// Whether a page is full: the labels of its series can be written before it.
    pub(crate) fn page_due(&self) -> bool {
        let bytes = self.waiting_bytes + self.group.bytes.len();
        let series = self.waiting_series + self.group.series as usize;
        bytes >= self.bounds.page_bytes || series >= self.bounds.frame_series
    }

    /// Ends a page, with a copy of the labels of its series before their chunks where that costs little.
    pub(crate) fn end_page(&mut self, names: &Names<'_>) -> io::Result<()> {
        self.end_group();
        self.names_room += self.waiting_bytes / NAMES_SHARE;
        if let Some(first) = self.waiting.first().map(Draft::first)
            && self.names_room >= self.names_want
        {
            let of = first as usize..first as usize + self.waiting_series;
            let packed = pack(&names.page(of))?;
            let len = packed.len() + FRAME_HEAD;
            if len <= self.names_room {
                let place = self.place();
                put_frame(&mut self.out, place, Kind::Names, first, &packed)?;
                self.names_room -= len;
                self.names_want = 0;
            } else {
                // not tried again before there is room for as much
                self.names_want = len;
            }
        }
        self.put_groups()
    }

    /// Chunks follow of this series; numbers ascend.
    pub(crate) fn series(&mut self, number: Number) -> io::Result<()> {
        if self.open == Some(number) {
            return Ok(());
        }
        self.end_series();
        if self.group.series >= GROUP_SERIES || self.group.bytes.len() >= GROUP_BYTES {
            self.end_group();
        }
        self.open = Some(number);
        Ok(())
    }

    /// The same, of a block without an index of its own.
    pub(crate) fn series_of_window(&mut self, number: Number) -> io::Result<()> {
        self.series(number)?;
        self.put_groups()
    }

    fn chunk_row(&mut self, len: usize, histograms: bool, count: u32, min_ms: i64, max_ms: i64) {
        put_varint(&mut self.row, (len as u64) << 1 | u64::from(histograms));
        put_signed(&mut self.row, min_ms.wrapping_sub(self.last_min));
        put_varint(&mut self.row, max_ms.wrapping_sub(min_ms) as u64);
        put_varint(&mut self.row, u64::from(count));
        self.group.add_chunk(u32::try_from(len).unwrap_or(u32::MAX));
        self.last_min = min_ms;
        self.open_chunks += 1;
        self.chunks += 1;
        self.samples += u64::from(count);
        self.min_ms = self.min_ms.min(min_ms);
        self.max_ms = self.max_ms.max(max_ms);
    }

    /// A chunk as it was in another file.
    pub(crate) fn copy(&mut self, bytes: &[u8], histograms: bool, count: u32, min_ms: i64, max_ms: i64) {
        self.group.bytes.extend_from_slice(bytes);
        self.chunk_row(bytes.len(), histograms, count, min_ms, max_ms);
    }

    /// Samples of the open series as chunks; they lie in one day, or in any number of days at level 0.
    pub(crate) fn samples(&mut self, block: &SeriesBlock) {
        for run in runs(&block.at_ms) {
            let starts = block.start_ms.get(run.clone()).filter(|s| s.iter().any(|&s| s != 0));
            let from = self.group.bytes.len();
            let stats = encode_floats(
                &block.at_ms[run.clone()],
                &block.values[run.clone()],
                starts,
                &mut self.group.bytes,
            );
            self.encoded(from, false, &block.at_ms[run], stats);
        }
        for run in runs(&block.histogram_at_ms) {
            let starts = block
                .histogram_start_ms
                .get(run.clone())
                .filter(|s| s.iter().any(|&s| s != 0));
            let from = self.group.bytes.len();
            let at_ms = &block.histogram_at_ms[run.clone()];
            let stats = encode_histograms(at_ms, &block.histograms[run.clone()], starts, &mut self.group.bytes);
            self.encoded(from, true, &block.histogram_at_ms[run], stats);
        }
    }

    fn encoded(&mut self, from: usize, histograms: bool, at_ms: &[i64], _stats: ChunkStats) {
        let len = self.group.bytes.len() - from;
        let (first, last) = (at_ms[0], at_ms[at_ms.len() - 1]);
        self.chunk_row(len, histograms, at_ms.len() as u32, first, last);
    }

    /// Writes frames of one kind; each as it comes, so that one is in memory at a time.
    fn section(&mut self, kind: Kind, frames: impl Iterator<Item = io::Result<(u32, Vec<u8>)>>) -> io::Result<Section> {
        let mut section = Section::default();
        for frame in frames {
            let (first, packed) = frame?;
            let place = self.place();
            if section.frames == 0 {
                section.offset = place.offset;
            }
            let from = self.out.len();
            put_frame(&mut self.out, place, kind, first, &packed)?;
            section.len += (self.out.len() - from) as u64;
            section.frames += 1;
            if self.out.len() >= WRITE_BYTES {
                self.flush()?;
            }
        }
        Ok(section)
    }

    /// Writes the rest, syncs, reads back what a reader needs to find its way, renames into place and syncs the directory.
    /// `footer` comes with what the caller knows; the writer fills in its own part. `names`: the label sets of a file above
    /// level 0.
    pub(crate) fn finish(
        mut self,
        mut footer: Footer,
        names: Option<&Names<'_>>,
        extras: &Extras,
    ) -> io::Result<Footer> {
        match names {
            Some(names) => self.end_page(names)?,
            None => {
                self.end_group();
                self.put_groups()?;
            }
        }
        self.end_part()?;
        (footer.id, footer.head) = (self.id, self.head);
        let parts = std::mem::take(&mut self.parts);
        footer.directory = self.section(Kind::Directory, parts.into_iter().map(Ok))?;
        if let Some(names) = names {
            let pages = names.pages(&self.bounds).into_iter();
            let pages = pages.map(|of| Ok((of.start as u32, pack(&names.page(of))?)));
            footer.index = self.section(Kind::Index, pages)?;
        }
        let extras_bytes = self.bounds.extras_bytes;
        let exemplars = framed(&extras.exemplars, extras_bytes, put_exemplar);
        footer.exemplars = self.section(Kind::Exemplars, exemplars)?;
        let metadata = framed(&extras.metadata, extras_bytes, put_metadata);
        footer.metadata = self.section(Kind::Metadata, metadata)?;
        (footer.series, footer.samples, footer.chunks) = (self.series, self.samples, self.chunks);
        footer.groups = self.groups;
        (footer.min_ms, footer.max_ms) = (self.min_ms, self.max_ms);
        for (_, e) in &extras.exemplars {
            footer.min_ms = footer.min_ms.min(e.at_ms);
            footer.max_ms = footer.max_ms.max(e.at_ms);
        }
        footer.shorten();
        self.flush()?;
        footer.content = self.content;
        let bytes = footer.encode();
        let sum = self.place().checksum(&bytes);
        self.out.extend_from_slice(&bytes);
        self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.out.extend_from_slice(&sum.to_le_bytes());
        self.out.extend_from_slice(&MAGIC);
        debug_assert!(self.out.len() as u64 >= TRAILER_BYTES);
        self.flush()?;
        let head = head(self.realm, &footer);
        self.file.write_all_at(&head, 0)?;
        self.file.sync_all()?;
        self.read_back(&footer)?;
        self.files
            .rename(&self.temporary, &self.dir.join(block_name(self.id)))?;
        self.finished = true;
        self.files.sync_dir(&self.dir)?;
        Ok(footer)
    }

    /// What was written is read with the reader that everything else uses: nothing is given up for a file that cannot be read.
    fn read_back(&self, footer: &Footer) -> io::Result<()> {
        let wrong = |what: &str| {
            let text = format!("{}: what was written cannot be read back: {what}", block_name(self.id));
            io::Error::other(text)
        };
        let file = self.files.open(&self.temporary, OpenMode::Read)?;
        let block = Block::of_file(file, self.temporary.clone(), self.realm, self.id, self.at);
        let block = block.map_err(|e| wrong(&format!("{e:?}")))?;
        if block.footer != *footer || !block.damage.is_empty() {
            return Err(wrong("the footer is another"));
        }
        block.prove().map_err(|e| wrong(&format!("{e:?}")))
    }
}

/// The beginning of a file: header, and a copy of the footer without deletes; where that has no room, zeros.
pub(super) fn head(realm: u64, footer: &Footer) -> Vec<u8> {
    let mut head = Vec::with_capacity(footer.head as usize);
    head.extend_from_slice(&MAGIC);
    head.extend_from_slice(&realm.to_le_bytes());
    head.extend_from_slice(&footer.id.to_le_bytes());
    head.extend_from_slice(&(footer.head as u32).to_le_bytes());
    let sum = checksum(realm, footer.id, 0, &head);
    head.extend_from_slice(&sum.to_le_bytes());
    debug_assert_eq!(head.len() as u64, HEADER_BYTES);
    let copy = Footer {
        tombstones: Vec::new(),
        ..footer.clone()
    };
    let copy = copy.encode();
    let room = (footer.head - HEADER_BYTES - 8) as usize;
    let mut rest = Vec::with_capacity(room + 4);
    if copy.len() <= room {
        rest.extend_from_slice(&(copy.len() as u32).to_le_bytes());
        rest.extend_from_slice(&copy);
    }
    rest.resize(room + 4, 0);
    let sum = checksum(realm, footer.id, HEADER_BYTES + 4, &rest);
    head.extend_from_slice(&sum.to_le_bytes());
    head.extend_from_slice(&rest);
    head
}

impl Drop for BlockWriter {
    fn drop(&mut self) {
        if !self.finished {
            // a half-written copy would hold space on a full disk; when this fails, the next start removes it
            let _ = self.files.remove(&self.temporary);
        }
    }
}

/// Cuts ascending times into chunks: no chunk crosses a day's end or has too many samples.
fn runs(at_ms: &[i64]) -> Vec<std::ops::Range<usize>> {
    let mut runs = Vec::new();
    let mut from = 0;
    while from < at_ms.len() {
        let day = day_of(at_ms[from]);
        let rest = &at_ms[from..];
        let n = rest.partition_point(|&at| day_of(at) == day);
        // two halves instead of a full chunk and a stub
        let chunks = n.div_ceil(CHUNK_SAMPLES);
        let each = n.div_ceil(chunks);
        let mut done = 0;
        while done < n {
            let len = each.min(n - done);
            runs.push(from + done..from + done + len);
            done += len;
        }
        from += n;
    }
    runs
}

/// Entries as the packed contents of frames, each with the number of its first.
fn framed<'e, T>(
    list: &'e [T],
    bytes_max: usize,
    put: impl Fn(&mut Vec<u8>, &T) + 'e,
) -> impl Iterator<Item = io::Result<(u32, Vec<u8>)>> + 'e {
    let mut at = 0;
    std::iter::from_fn(move || {
        let first = at;
        let mut raw = Vec::new();
        while at < list.len() && (at == first || raw.len() < bytes_max) {
            put(&mut raw, &list[at]);
            at += 1;
        }
        (at > first).then(|| Ok((first as u32, pack(&raw)?)))
    })
}

fn put_exemplar(out: &mut Vec<u8>, (number, e): &(Number, Exemplar)) {
    put_varint(out, u64::from(*number));
    put_signed(out, e.at_ms);
    out.extend_from_slice(&e.value.to_bits().to_le_bytes());
    put_text(out, e.labels.as_bytes());
}

fn put_metadata(out: &mut Vec<u8>, m: &MetadataEntry) {
    put_varint(out, u64::from(m.tenant.0));
    put_varint(out, m.position);
    out.push(m.kind as u8);
    for text in [&m.metric, &m.help, &m.unit] {
        put_text(out, text.as_bytes());
    }
}
