use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{File, Files, OpenMode};
use model::{Exemplar, SeriesBlock};

use super::{
    CHUNK_SAMPLES, Footer, GROUP_BYTES, GROUP_SERIES, HEADER_BYTES, MAGIC, MetadataEntry, Number, Section,
    TRAILER_BYTES, block_name, day_of,
};
use crate::bytes::{checksum, put_signed, put_text, put_varint};
use crate::chunk::{ChunkStats, encode_floats, encode_histograms};

/// Bytes gathered before they go to the file.
const WRITE_BYTES: usize = 256 << 10;

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
    at: u64,
    out: Vec<u8>,
    group: Vec<u8>,
    group_series: u32,
    entries: Vec<u8>,
    rows: Vec<u8>,
    row: Vec<u8>,
    group_rows: Vec<u8>,
    first_of_group: Number,
    last_number: Number,
    last_min: i64,
    groups: u32,
    series: u64,
    samples: u64,
    chunks: u64,
    open: Option<Number>,
    open_chunks: u64,
    min_ms: i64,
    max_ms: i64,
    finished: bool,
}

impl BlockWriter {
    pub(crate) fn create(files: &Arc<dyn Files>, dir: &Path, realm: u64, id: u64) -> io::Result<Self> {
        let temporary = dir.join(format!(".{}.tmp", block_name(id)));
        let file = files.open(&temporary, OpenMode::Create)?;
        let mut out = Vec::with_capacity(WRITE_BYTES + GROUP_BYTES);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&realm.to_le_bytes());
        out.extend_from_slice(&id.to_le_bytes());
        let sum = checksum(realm, id, 0, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        debug_assert_eq!(out.len() as u64, HEADER_BYTES);
        let writer = BlockWriter {
            files: Arc::clone(files),
            dir: dir.to_owned(),
            temporary,
            file,
            realm,
            id,
            at: 0,
            out,
            group: Vec::with_capacity(GROUP_BYTES * 2),
            group_series: 0,
            entries: Vec::new(),
            rows: Vec::new(),
            row: Vec::new(),
            group_rows: Vec::new(),
            first_of_group: 0,
            last_number: 0,
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
        self.file.write_all_at(&self.out, self.at)?;
        self.at += self.out.len() as u64;
        self.out.clear();
        Ok(())
    }

    fn end_series(&mut self) {
        let Some(number) = self.open.take() else { return };
        let first = self.group_series == 0;
        if first {
            self.first_of_group = number;
        }
        put_varint(
            &mut self.group_rows,
            u64::from(number - if first { number } else { self.last_number }),
        );
        put_varint(&mut self.group_rows, self.open_chunks);
        self.group_rows.extend_from_slice(&self.row);
        self.row.clear();
        self.open_chunks = 0;
        self.last_number = number;
        self.group_series += 1;
        self.series += 1;
    }

    fn end_group(&mut self) -> io::Result<()> {
        self.end_series();
        if self.group_series == 0 {
            return Ok(());
        }
        let offset = self.at + self.out.len() as u64;
        let sum = checksum(self.realm, self.id, offset, &self.group);
        self.entries.extend_from_slice(&self.first_of_group.to_le_bytes());
        self.entries.extend_from_slice(&(self.rows.len() as u32).to_le_bytes());
        self.entries.extend_from_slice(&offset.to_le_bytes());
        self.entries.extend_from_slice(&(self.group.len() as u32).to_le_bytes());
        self.entries.extend_from_slice(&sum.to_le_bytes());
        self.rows.extend_from_slice(&self.group_rows);
        self.out.extend_from_slice(&self.group);
        self.group.clear();
        self.group_rows.clear();
        self.group_series = 0;
        self.last_min = 0;
        self.groups += 1;
        if self.out.len() >= WRITE_BYTES {
            self.flush()?;
        }
        Ok(())
    }

    /// Chunks follow of this series; numbers ascend.
    pub(crate) fn series(&mut self, number: Number) -> io::Result<()> {
        if self.open == Some(number) {
            return Ok(());
        }
        self.end_series();
        if self.group_series >= GROUP_SERIES || self.group.len() >= GROUP_BYTES {
            self.end_group()?;
        }
        self.open = Some(number);
        Ok(())
    }

    fn chunk_row(&mut self, len: usize, histograms: bool, count: u32, min_ms: i64, max_ms: i64) {
        put_varint(&mut self.row, (len as u64) << 1 | u64::from(histograms));
        put_signed(&mut self.row, min_ms.wrapping_sub(self.last_min));
        put_varint(&mut self.row, max_ms.wrapping_sub(min_ms) as u64);
        put_varint(&mut self.row, u64::from(count));
        self.last_min = min_ms;
        self.open_chunks += 1;
        self.chunks += 1;
        self.samples += u64::from(count);
        self.min_ms = self.min_ms.min(min_ms);
        self.max_ms = self.max_ms.max(max_ms);
    }

    /// A chunk as it was in another file.
    pub(crate) fn copy(&mut self, bytes: &[u8], histograms: bool, count: u32, min_ms: i64, max_ms: i64) {
        self.group.extend_from_slice(bytes);
        self.chunk_row(bytes.len(), histograms, count, min_ms, max_ms);
    }

    /// Samples of the open series as chunks; they lie in one day, or in any number of days at level 0.
    pub(crate) fn samples(&mut self, block: &SeriesBlock) {
        for run in runs(&block.at_ms) {
            let starts = block.start_ms.get(run.clone()).filter(|s| s.iter().any(|&s| s != 0));
            let from = self.group.len();
            let stats = encode_floats(
                &block.at_ms[run.clone()],
                &block.values[run.clone()],
                starts,
                &mut self.group,
            );
            self.encoded(from, false, &block.at_ms[run], stats);
        }
        for run in runs(&block.histogram_at_ms) {
            let starts = block
                .histogram_start_ms
                .get(run.clone())
                .filter(|s| s.iter().any(|&s| s != 0));
            let from = self.group.len();
            let at_ms = &block.histogram_at_ms[run.clone()];
            let stats = encode_histograms(at_ms, &block.histograms[run.clone()], starts, &mut self.group);
            self.encoded(from, true, &block.histogram_at_ms[run], stats);
        }
    }

    fn encoded(&mut self, from: usize, histograms: bool, at_ms: &[i64], _stats: ChunkStats) {
        let len = self.group.len() - from;
        let (first, last) = (at_ms[0], at_ms[at_ms.len() - 1]);
        self.chunk_row(len, histograms, at_ms.len() as u32, first, last);
    }

    fn section(&mut self, bytes: &[u8]) -> io::Result<Section> {
        if bytes.is_empty() {
            return Ok(Section::default());
        }
        let offset = self.at + self.out.len() as u64;
        self.out.extend_from_slice(bytes);
        self.flush()?;
        Ok(Section {
            offset,
            len: bytes.len() as u64,
            checksum: checksum(self.realm, self.id, offset, bytes),
        })
    }

    /// Writes the rest, syncs, renames into place and syncs the directory. `footer` comes with what the caller knows;
    /// the writer fills in its own part. `index`: the label sets of a file above level 0.
    pub(crate) fn finish(mut self, mut footer: Footer, index: &[u8], extras: &Extras) -> io::Result<Footer> {
        self.end_group()?;
        let mut directory = self.groups.to_le_bytes().to_vec();
        directory.append(&mut self.entries);
        directory.append(&mut self.rows);
        let directory = crate::index::pack(&directory);
        footer.id = self.id;
        footer.directory = self.section(&directory)?;
        footer.index = self.section(index)?;
        footer.exemplars = self.section(&exemplar_bytes(&extras.exemplars))?;
        footer.metadata = self.section(&metadata_bytes(&extras.metadata))?;
        (footer.series, footer.samples, footer.chunks) = (self.series, self.samples, self.chunks);
        footer.groups = self.groups;
        (footer.min_ms, footer.max_ms) = (self.min_ms, self.max_ms);
        for (_, e) in &extras.exemplars {
            footer.min_ms = footer.min_ms.min(e.at_ms);
            footer.max_ms = footer.max_ms.max(e.at_ms);
        }
        let bytes = footer.encode();
        let at = self.at + self.out.len() as u64;
        self.out.extend_from_slice(&bytes);
        self.out.extend_from_slice(&(bytes.len() as u32).to_le_bytes());
        self.out
            .extend_from_slice(&checksum(self.realm, self.id, at, &bytes).to_le_bytes());
        self.out.extend_from_slice(&MAGIC);
        debug_assert!(self.out.len() as u64 >= TRAILER_BYTES);
        self.flush()?;
        self.file.sync_all()?;
        self.files
            .rename(&self.temporary, &self.dir.join(block_name(self.id)))?;
        self.finished = true;
        self.files.sync_dir(&self.dir)?;
        Ok(footer)
    }
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

fn exemplar_bytes(list: &[(Number, Exemplar)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, e) in list {
        put_varint(&mut out, u64::from(*number));
        put_signed(&mut out, e.at_ms);
        out.extend_from_slice(&e.value.to_bits().to_le_bytes());
        put_text(&mut out, e.labels.as_bytes());
    }
    if out.is_empty() { out } else { crate::index::pack(&out) }
}

fn metadata_bytes(list: &[MetadataEntry]) -> Vec<u8> {
    let mut out = Vec::new();
    for m in list {
        put_varint(&mut out, u64::from(m.tenant.0));
        put_varint(&mut out, m.position);
        out.push(m.kind as u8);
        for text in [&m.metric, &m.help, &m.unit] {
            put_text(&mut out, text.as_bytes());
        }
    }
    if out.is_empty() { out } else { crate::index::pack(&out) }
}
