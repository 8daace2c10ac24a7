use model::TimeRange;

use super::{Chunk, ReadError};
use crate::block::Number;
use crate::bytes::{Bytes, Malformed};

/// Series of the group looked at last that hold something of a range.
#[derive(Default)]
pub(crate) struct Seen {
    group: Option<usize>,
    numbers: Vec<Number>,
}

/// Where a group is.
#[derive(Clone, Copy)]
struct Entry {
    first: Number,
    len: u32,
    offset: u64,
    /// Where its rows begin.
    rows: usize,
}

/// Where the chunks of each series are.
#[derive(Default)]
pub(crate) struct Directory {
    entries: Vec<Entry>,
    rows: Vec<u8>,
    /// What of it is damaged; it was made anew then, from the groups.
    pub(crate) damage: Vec<ReadError>,
    /// Chunks that it lacks all the same.
    pub(crate) lost: u64,
}

/// Bytes of an entry in a part: first number, place of its rows, offset, length.
const ENTRY: usize = 20;

impl Directory {
    /// Adds a part, of which the first group has the number `first`.
    pub(crate) fn add(&mut self, first: u32, raw: &[u8]) -> Result<(), Malformed> {
        let mut r = Bytes(raw);
        let groups = r.u32()? as usize;
        let entries = r.take(groups.checked_mul(ENTRY).ok_or(Malformed)?)?;
        if first as usize != self.entries.len() {
            return Err(Malformed);
        }
        let (base, len) = (self.rows.len(), r.0.len());
        let before = self.entries.len();
        let mut last = 0;
        let mut read = || -> Result<(), Malformed> {
            let mut e = Bytes(entries);
            while !e.is_empty() {
                let (first, rows, offset, bytes) = (e.u32()?, e.u32()? as usize, e.u64()?, e.u32()?);
                if rows < last || rows > len {
                    return Err(Malformed);
                }
                last = rows;
                self.entries.push(Entry {
                    first,
                    len: bytes,
                    offset,
                    rows: base + rows,
                });
            }
            Ok(())
        };
        if read().is_err() {
            self.entries.truncate(before);
            return Err(Malformed);
        }
        self.rows.extend_from_slice(r.0);
        Ok(())
    }

    /// Adds a group of which the rows are told by `each`, a series and its chunks at a time.
    pub(super) fn add_group(&mut self, first: Number, offset: u64, len: u32, rows: &[u8]) {
        self.entries.push(Entry {
            first,
            len,
            offset,
            rows: self.rows.len(),
        });
        self.rows.extend_from_slice(rows);
    }

    /// (offset, length) of a group.
    pub(super) fn place(&self, group: usize) -> (u64, u32) {
        self.entries.get(group).map_or((0, 0), |e| (e.offset, e.len))
    }

    fn first(&self, group: usize) -> Number {
        self.entries.get(group).map_or(0, |e| e.first)
    }

    fn rows(&self, group: usize) -> Bytes<'_> {
        let from = self.entries.get(group).map_or(0, |e| e.rows);
        let to = self.entries.get(group + 1).map_or(self.rows.len(), |e| e.rows);
        Bytes(self.rows.get(from..to).unwrap_or(&[]))
    }

    /// Series, chunks and samples.
    pub(super) fn counted(&self) -> Option<(u64, u64, u64)> {
        let (mut series, mut chunks, mut samples) = (0, 0, 0);
        let counted = self.each(|_, of_series| {
            series += 1;
            chunks += of_series.len() as u64;
            samples += of_series.iter().map(|c| u64::from(c.count)).sum::<u64>();
        });
        counted.is_ok().then_some((series, chunks, samples))
    }

    /// Calls `each` for every series of a group in order, until it says to stop.
    pub(super) fn walk(&self, group: usize, mut each: impl FnMut(Number, &[Chunk]) -> bool) -> Result<(), Malformed> {
        let mut r = self.rows(group);
        let (mut number, mut min, mut offset) = (self.first(group), 0i64, 0u64);
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
        let (mut low, mut high) = (0, self.entries.len());
        while low < high {
            let middle = low + (high - low) / 2;
            if self.first(middle) <= number {
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
        for group in 0..self.entries.len() {
            self.walk(group, |n, chunks| {
                each(n, chunks);
                true
            })?;
        }
        Ok(())
    }

    /// Groups.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn bytes(&self) -> usize {
        self.rows.len() + self.entries.len() * size_of::<Entry>()
    }
}
