use std::{io, ops::Range, sync::Arc};

use host::{Clock, File, PATIENCE, read_around_again};

use crate::{
    Position,
    local::frame::{Identity, Kind, MARKER, RECORD_HEADER, RecordHeader},
};

/// Read at once; grows for a larger record.
const READ_BYTES: usize = 256 * 1024;

/// Steps through a segment's records by their checksums, whatever the bytes.
pub(crate) struct Scan {
    file: Arc<dyn File>,
    identity: Identity,
    /// Bytes of the file from `base` on.
    buffer: Vec<u8>,
    base: u64,
    /// Next byte to look at.
    at: u64,
    /// Stretches that the device did not give; they were taken for zeros.
    unread: Vec<Range<u64>>,
    clock: Arc<dyn Clock>,
    /// How often it is still asked again for what the device does not give.
    patience: u32,
}

pub(crate) enum Found<'a> {
    /// An intact record or trailer.
    Record {
        header: RecordHeader,
        offset: u64,
        payload: &'a [u8],
    },
    /// Bytes that are no intact record, with an intact header or the limit behind them.
    Hole { offset: u64, length: u64 },
    /// The limit; `rest` bytes before it hold no intact header.
    End { offset: u64, rest: u64 },
}

impl Scan {
    pub(crate) fn new(clock: &Arc<dyn Clock>, file: Arc<dyn File>, identity: Identity, from: u64) -> Scan {
        Scan {
            file,
            identity,
            buffer: Vec::new(),
            base: from,
            at: from,
            unread: Vec::new(),
            clock: Arc::clone(clock),
            patience: PATIENCE,
        }
    }

    /// Whether the device gave none of some bytes among these.
    pub(crate) fn unread_in(&self, offset: u64, length: u64) -> bool {
        self.unread.iter().any(|u| u.start < offset + length && offset < u.end)
    }

    /// Where it goes on.
    pub(crate) fn offset(&self) -> u64 {
        self.at
    }

    /// Goes on from elsewhere.
    pub(crate) fn go_to(&mut self, offset: u64) {
        self.at = offset;
    }

    /// What is at the present offset, not looking at bytes from `limit` on; steps over it.
    pub(crate) fn next(&mut self, limit: u64) -> io::Result<Found<'_>> {
        let offset = self.at;
        let mut hole_end = None;
        if let Some(header) = self.header_at(offset, limit)? {
            let extent = header.extent();
            if self.fill(offset, extent, limit)? {
                self.at = offset + extent;
                let payload = &self.buffer[(offset - self.base) as usize..][RECORD_HEADER..extent as usize];
                if header.holds(payload) {
                    // borrowed again: the checker does not see that the branch returns
                    let payload = &self.buffer[(offset - self.base) as usize..][RECORD_HEADER..extent as usize];
                    return Ok(Found::Record {
                        header,
                        offset,
                        payload,
                    });
                }
                hole_end = Some(self.at);
            }
        }
        let end = match hole_end {
            Some(end) => end,
            None => match self.seek_header(offset + 1, limit)? {
                Some(next) => next,
                None => {
                    self.at = limit.max(offset);
                    return Ok(Found::End {
                        offset,
                        rest: limit.saturating_sub(offset),
                    });
                }
            },
        };
        self.at = end;
        Ok(Found::Hole {
            offset,
            length: end - offset,
        })
    }

    /// Makes `[offset, offset + len)` available; false when the limit or the file ends before.
    fn fill(&mut self, offset: u64, len: u64, limit: u64) -> io::Result<bool> {
        if limit.saturating_sub(offset) < len {
            return Ok(false);
        }
        let have = self.base + self.buffer.len() as u64;
        if offset >= self.base && offset + len <= have {
            return Ok(true);
        }
        if offset < self.base || offset > have {
            self.buffer.clear();
            self.base = offset;
        } else {
            self.buffer.drain(..(offset - self.base) as usize);
            self.base = offset;
        }
        let kept = self.buffer.len();
        let want = (limit - offset).min(len.max(READ_BYTES as u64)) as usize;
        self.buffer.resize(want.max(kept), 0);
        let from = self.base + kept as u64;
        let filled = match read_around_again(
            &*self.clock,
            &*self.file,
            &mut self.buffer[kept..],
            from,
            &mut self.unread,
            &mut self.patience,
        ) {
            Ok(read) => kept + read,
            Err(error) => {
                self.buffer.truncate(kept);
                return Err(error);
            }
        };
        self.buffer.truncate(filled);
        Ok(self.buffer.len() as u64 >= len)
    }

    fn header_at(&mut self, offset: u64, limit: u64) -> io::Result<Option<RecordHeader>> {
        if !self.fill(offset, RECORD_HEADER as u64, limit)? {
            return Ok(None);
        }
        let header = self
            .identity
            .open(&self.buffer[(offset - self.base) as usize..], offset);
        // an intact header whose record does not fit was cut; what follows cannot be a record
        Ok(header.filter(|h| offset + h.extent() <= limit))
    }

    /// Offset of the next intact header from `from` on.
    fn seek_header(&mut self, from: u64, limit: u64) -> io::Result<Option<u64>> {
        let mut at = from;
        while at + RECORD_HEADER as u64 <= limit {
            if !self.fill(at, RECORD_HEADER as u64, limit)? {
                return Ok(None);
            }
            let skipped = (at - self.base) as usize;
            let window = &self.buffer[skipped..];
            // positions whose whole header is in the window
            let usable = window.len() - RECORD_HEADER + 1;
            let mut found = None;
            let mut i = 0;
            while let Some(step) = window[i..usable].iter().position(|b| *b == MARKER[0]) {
                i += step;
                let offset = at + i as u64;
                if self
                    .identity
                    .open(&window[i..], offset)
                    .is_some_and(|h| offset + h.extent() <= limit)
                {
                    found = Some(offset);
                    break;
                }
                i += 1;
            }
            if found.is_some() {
                return Ok(found);
            }
            at += usable as u64;
        }
        Ok(None)
    }
}

/// A stretch of the file that recovery passes over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Hole {
    pub(crate) offset: u64,
    pub(crate) length: u64,
    pub(crate) positions: Option<(Position, Position)>,
    /// The device did not give these bytes, or some of them.
    pub(crate) unread: bool,
}

/// What a segment that nobody closed holds.
#[derive(Debug)]
pub(crate) struct Survey {
    pub(crate) last: Position,
    pub(crate) end: u64,
    /// Where the records start of which only their own group says that they were written.
    pub(crate) unsure_at: u64,
    pub(crate) holes: Vec<Hole>,
    pub(crate) trailer_at: u64,
    /// Highest position known to have been durable.
    pub(crate) stated: Position,
    /// The device did not give some bytes of the file.
    pub(crate) unread: bool,
}

/// Reads a whole segment. `known` is a position known to have been durable from elsewhere, `fence` the last that may
/// count. Records up to the highest statement were acknowledged: what is missing among them is damage. Of those behind
/// it the first gap ends the log: a write that never finished.
pub(crate) fn survey(
    clock: &Arc<dyn Clock>,
    file: &Arc<dyn File>,
    identity: Identity,
    first: Position,
    known: Position,
    fence: Position,
    len: u64,
) -> io::Result<Survey> {
    struct Seen {
        position: Position,
        offset: u64,
        end: u64,
    }
    let start = crate::local::frame::RECORDS_AT;
    let mut scan = Scan::new(clock, Arc::clone(file), identity, start);
    let mut seen: Vec<Seen> = Vec::new();
    let mut expected = first;
    let (mut stated, mut trailer_at) = (known.min(fence), 0);
    let mut rest_at = start;
    loop {
        match scan.next(len)? {
            Found::Record { header, offset, .. } => {
                stated = stated.max(header.durable_before.min(fence));
                match header.kind {
                    Kind::Trailer => {
                        trailer_at = offset;
                        stated = stated.max(header.position.min(fence));
                    }
                    Kind::Record if header.position >= expected && header.position <= fence => {
                        expected = header.position + 1;
                        seen.push(Seen {
                            position: header.position,
                            offset,
                            end: offset + header.extent(),
                        });
                    }
                    Kind::Record => {}
                }
                rest_at = offset + header.extent();
            }
            Found::Hole { .. } => {}
            Found::End { .. } => break,
        }
    }
    let mut survey = Survey {
        last: first - 1,
        end: start,
        unsure_at: start,
        holes: Vec::new(),
        trailer_at,
        stated,
        unread: !scan.unread.is_empty(),
    };
    for record in &seen {
        let missing = record.position > survey.last + 1;
        // what cannot be read may have been acknowledged, and what comes behind it as well
        let unread = missing && scan.unread_in(survey.end, record.offset - survey.end);
        if missing && !unread && survey.last >= stated {
            break;
        }
        if missing && !unread && record.position > stated + 1 {
            // part of the gap was acknowledged, part of it and all behind it was not finished
            break;
        }
        if missing {
            survey.holes.push(Hole {
                offset: survey.end,
                length: record.offset - survey.end,
                positions: Some((survey.last + 1, record.position - 1)),
                unread,
            });
        }
        survey.last = record.position;
        survey.end = record.end;
        if record.position <= stated {
            survey.unsure_at = record.end;
        }
    }
    if survey.last < stated && survey.last < fence {
        survey.holes.push(Hole {
            offset: survey.end,
            length: len.saturating_sub(survey.end),
            positions: Some((survey.last + 1, stated)),
            unread: scan.unread_in(survey.end, len.saturating_sub(survey.end)),
        });
    }
    for u in &scan.unread {
        // what these held is not known: nothing, or records that nobody tells of
        let told = |h: &Hole| h.offset < u.end && u.start < h.offset + h.length;
        if !survey.holes.iter().any(told) {
            survey.holes.push(Hole {
                offset: u.start,
                length: u.end - u.start,
                positions: None,
                unread: true,
            });
        }
    }
    if trailer_at >= survey.end && rest_at > trailer_at {
        survey.end = rest_at;
    }
    Ok(survey)
}
