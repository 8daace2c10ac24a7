//! Reads all of a block and holds each part against the others.

use model::{SeriesBlock, TimeRange};

use super::{Block, Chunk, Directory, Group, ReadError};
use crate::block::{Number, TRAILER_BYTES};
use crate::cache::Cache;
use crate::chunk::{read_head, stats_of};
use crate::verify::Finding;

/// What reading a block came to.
#[derive(Default)]
pub(crate) struct Checked {
    pub(crate) series: u64,
    pub(crate) chunks: u64,
    /// Samples that could be read.
    pub(crate) samples: u64,
    pub(crate) findings: Vec<Finding>,
}

/// Samples and series of a stretch that cannot be read.
#[derive(Default)]
struct Gone {
    series: u64,
    samples: u64,
    range: Option<TimeRange>,
}

impl Gone {
    fn add(&mut self, chunks: &[Chunk]) {
        self.series += 1;
        for c in chunks {
            self.samples += u64::from(c.count);
            let r = self.range.get_or_insert(c.range());
            *r = TimeRange::new(r.start_ms.min(c.min_ms), r.end_ms.max(c.max_ms));
        }
    }

    fn text(&self) -> String {
        let range = self.range.unwrap_or(TimeRange::new(0, 0));
        format!(
            "{} samples of {} series between {} and {} ms",
            self.samples, self.series, range.start_ms, range.end_ms
        )
    }
}

impl Block {
    /// Checks every byte. `names`: how many series the window's file names, for a block without an index of its own;
    /// `bytes_done` is told how far it came.
    pub(crate) fn check(&self, names: Option<u64>, bytes_done: &mut dyn FnMut(u64)) -> Checked {
        let mut checked = Checked::default();
        let f = &self.footer;
        let everything = || format!("{} samples of {} series", f.samples, f.series);
        self.check_ends(&mut checked);
        bytes_done(f.head + TRAILER_BYTES);
        let none = Cache::new(0);
        let mut names = names;
        if f.level > 0 {
            match self.index(&none) {
                Ok(index) if u64::from(index.len()) == f.series => {
                    names = Some(f.series);
                    let lost = match index.lost {
                        0 => "nothing: the copies among the chunks tell the same".to_owned(),
                        lost => format!(
                            "the labels of {lost} of {} series, and with them their samples",
                            f.series
                        ),
                    };
                    for e in &index.damage {
                        checked.failed(self, e, lost.clone());
                    }
                }
                Ok(index) => {
                    let what = format!("index of {} series, the footer says {}", index.len(), f.series);
                    checked.found(self, f.index.offset, f.index.len, what, everything());
                }
                Err(e) => checked.failed(self, &e, everything()),
            }
        }
        let mut end = match self.directory(&none) {
            Ok(directory) => {
                let lost = match directory.lost {
                    0 => "nothing: the groups tell the same".to_owned(),
                    lost => format!("{lost} of {} chunks", f.chunks),
                };
                for e in &directory.damage {
                    checked.failed(self, e, lost.clone());
                }
                let mut end = self.check_groups(&directory, names, &mut checked, bytes_done);
                if !directory.damage.is_empty() {
                    end = f.directory.offset;
                }
                match self.check_between(&directory) {
                    Ok((bytes, damage)) => {
                        bytes_done(bytes);
                        // of a directory made anew, what lies between is told of already
                        for e in damage.iter().filter(|_| directory.damage.is_empty()) {
                            checked.failed(self, e, "nothing: the index tells the same".into());
                        }
                    }
                    Err(e) => checked.failed(self, &e, "nothing".into()),
                }
                end
            }
            Err(e) => {
                checked.failed(self, &e, everything());
                f.directory.offset
            }
        };
        match self.exemplars() {
            Ok((list, damage)) => {
                for e in damage {
                    checked.failed(self, &e, "some exemplars of this file".into());
                }
                let strange = list
                    .iter()
                    .filter(|(n, _)| names.is_some_and(|names| u64::from(*n) >= names));
                let strange = strange.count();
                if strange > 0 {
                    let what = format!("{strange} exemplars of series that are not there");
                    let lost = format!("{strange} exemplars");
                    checked.found(self, f.exemplars.offset, f.exemplars.len, what, lost);
                }
            }
            Err(e) => checked.failed(self, &e, "the exemplars of this file".into()),
        }
        match self.metadata() {
            Ok((_, damage)) => {
                for e in damage {
                    checked.failed(self, &e, "metadata (type, help, unit) of some metrics".into());
                }
            }
            Err(e) => checked.failed(self, &e, "metadata (type, help, unit) of metrics".into()),
        }
        // the parts lie one behind the other: no byte is in none of them
        for s in [f.directory, f.index, f.exemplars, f.metadata] {
            if s.len == 0 {
                continue;
            }
            if s.offset != end {
                let what = format!("a part begins at {} where {end} is right", s.offset);
                checked.found(self, end.min(s.offset), end.abs_diff(s.offset), what, "nothing".into());
            }
            end = s.offset.saturating_add(s.len);
            bytes_done(s.len);
        }
        if checked.findings.is_empty() {
            let (found, said) = (
                (checked.series, checked.chunks, checked.samples),
                (f.series, f.chunks, f.samples),
            );
            if found != said {
                let what =
                    format!("series, chunks and samples are {found:?} in the directory and {said:?} in the footer");
                checked.found(self, f.directory.offset, f.directory.len, what, everything());
            }
        }
        checked
    }

    /// The footer, its copy, and the file's length.
    fn check_ends(&self, checked: &mut Checked) {
        let lost = "nothing: the other footer says the same";
        for e in &self.damage {
            checked.failed(self, e, lost.to_owned());
        }
        if let Err(e) = self.check_head() {
            checked.failed(self, &e, lost.to_owned());
        }
        if let Ok(len) = self.file.len()
            && len > self.bytes
        {
            let what = format!("{} bytes behind the file's end", len - self.bytes);
            checked.found(
                self,
                self.bytes,
                len - self.bytes,
                what,
                "nothing: they are not read".into(),
            );
        }
    }

    /// Every group and chunk; the offset behind the last group.
    fn check_groups(
        &self,
        directory: &Directory,
        names: Option<u64>,
        checked: &mut Checked,
        bytes_done: &mut dyn FnMut(u64),
    ) -> u64 {
        let none = Cache::new(0);
        let mut end = self.footer.head;
        let mut before: Option<Number> = None;
        let d = self.footer.directory;
        let mut block = SeriesBlock::default();
        for group in 0..directory.len() {
            let (offset, len) = directory.place(group);
            let len = u64::from(len);
            // copies of labels may lie between
            if offset < end {
                let what = format!("group {group} begins at {offset}, before {end} where the one before it ends");
                checked.found(self, d.offset, d.len, what, "unknown".into());
            }
            end = offset.saturating_add(len);
            let bytes = self.group(directory, group as u32, &none);
            let mut gone = Gone::default();
            let mut findings = Vec::new();
            let walked = directory.walk(group, |number, chunks| {
                checked.series += 1;
                checked.chunks += chunks.len() as u64;
                if before.is_some_and(|b| b >= number) || names.is_some_and(|n| u64::from(number) >= n) {
                    findings.push(ReadError::Damaged("series numbers in the directory", d.offset, d.len));
                }
                before = Some(number);
                let Ok(bytes) = &bytes else {
                    gone.add(chunks);
                    return true;
                };
                for c in chunks {
                    match self.check_chunk(directory, bytes, c, &mut block) {
                        Ok(()) => checked.samples += u64::from(c.count),
                        Err(e) => {
                            gone.add(std::slice::from_ref(c));
                            // chunks of a piece are damaged together
                            if !findings.contains(&e) {
                                findings.push(e);
                            }
                        }
                    }
                }
                true
            });
            if walked.is_err() {
                findings.push(ReadError::Damaged("directory", d.offset, d.len));
            }
            if let Err(e) = bytes {
                findings.push(e);
            }
            for e in findings {
                checked.failed(self, &e, gone.text());
            }
            bytes_done(len);
        }
        end
    }

    /// Decodes a chunk and holds it against its row in the directory and its own statistics.
    fn check_chunk(
        &self,
        directory: &Directory,
        group: &Group,
        c: &Chunk,
        block: &mut SeriesBlock,
    ) -> Result<(), ReadError> {
        block.clear();
        self.decode(directory, group, c, TimeRange::ALL, block)?;
        let bytes = self.chunk(directory, group, c)?;
        let at_ms = if c.histograms {
            &block.histogram_at_ms
        } else {
            &block.at_ms
        };
        let ends = (at_ms.first().copied(), at_ms.last().copied());
        let fits = at_ms.len() == c.count as usize
            && ends == (Some(c.min_ms), Some(c.max_ms))
            && at_ms.windows(2).all(|w| w[0] < w[1])
            && self.range().contains(c.min_ms)
            && self.range().contains(c.max_ms);
        let stated = read_head(bytes).map_err(|_| self.bad_chunk(directory, group, c))?.stats;
        let true_stats = stated.is_none_or(|stated| {
            let real = stats_of(at_ms, &block.values);
            let same = |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan());
            // where a value is NaN the rest says nothing
            real.plain == stated.plain
                && (!real.plain
                    || (same(real.first, stated.first)
                        && same(real.last, stated.last)
                        && same(real.min, stated.min)
                        && same(real.max, stated.max)
                        && same(real.sum, stated.sum)
                        && same(real.increase, stated.increase)))
        });
        if fits && true_stats {
            Ok(())
        } else {
            Err(self.bad_chunk(directory, group, c))
        }
    }
}

impl Checked {
    fn found(&mut self, block: &Block, offset: u64, len: u64, what: String, lost: String) {
        let file = crate::block::block_name(block.id());
        self.findings.push(Finding {
            file,
            offset,
            len,
            what,
            lost,
        });
    }

    fn failed(&mut self, block: &Block, error: &ReadError, lost: String) {
        let (what, offset, len) = crate::engine::describe(error);
        self.found(block, offset, len, what, lost);
    }
}
