//! Reads and checks every byte of a log that counts, without changing any.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
    sync::Arc,
};

use host::Host;

use crate::{
    Decode, Position, Quarantined,
    local::{
        OpenError,
        frame::{Kind, RECORDS_AT},
        open::{Candidate, ID_FILE, examine, note, told_id},
        positions::{self, Positions, Statement},
        scan::{Found, Scan, survey},
        segment::Segment,
    },
};

/// Findings that are listed one by one; more are counted.
const LISTED_MAX: usize = 10_000;

/// What a check came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub segments: usize,
    /// Of all files, spares included.
    pub bytes: u64,
    /// Records that were read and decoded.
    pub records: u64,
    /// Last position that counts.
    pub last: Position,
    pub findings: Vec<Quarantined>,
    pub findings_total: usize,
    /// What is worth knowing and no damage.
    pub notes: Vec<String>,
}

impl Report {
    fn find(&mut self, finding: Quarantined) {
        self.findings_total += 1;
        if self.findings.len() < LISTED_MAX {
            self.findings.push(finding);
        }
    }

    fn missing(&mut self, dir: &Path, first: Position, last: Position) {
        let path = dir.join(Segment::file_name(first));
        self.find(note(
            &path,
            0,
            0,
            Some((first, last)),
            "the segment with these positions is missing",
        ));
    }
}

/// Checks the log in `dir`, which nobody may be writing to. `known`: the position up to which its consumer has stored
/// everything. `bytes_done` is called with the bytes that were checked since the call before. An error means that the
/// directory cannot be read, or was written by a newer version.
pub fn verify<D: Decode>(
    host: &Host,
    dir: &Path,
    known: Position,
    make_decoder: impl Fn() -> D,
    bytes_done: &mut dyn FnMut(u64),
) -> Result<Report, OpenError> {
    let failed = |path: &Path, error| OpenError::Io {
        path: path.display().to_string(),
        error,
    };
    let mut report = Report::default();
    let mut candidates = Vec::new();
    for entry in host.files.list(dir).map_err(|e| failed(dir, e))? {
        let path = dir.join(&entry.name);
        report.bytes += entry.len;
        if entry.is_dir {
            let kept = host.files.list(&path).map(|l| l.len()).unwrap_or(0);
            let text = format!("{}/ keeps {kept} records that could not be decoded", entry.name);
            report.notes.push(text);
        } else if let Some(first) = Segment::parse_name(&entry.name) {
            candidates.push(examine(host, path, first, entry.len)?);
        } else if entry.name.ends_with(".spare") {
            bytes_done(entry.len);
        }
    }
    report.segments = candidates.len();
    let statement = check_small_files(host, dir, &mut candidates, &mut report);
    let stated = statement.map_or(0, |s| s.durable).max(known);
    let first_kept = statement.map(|s| s.first_kept).filter(|f| *f > 0);
    let mut reached = match (first_kept, candidates.first()) {
        (Some(kept), _) => kept - 1,
        (None, Some(first)) => known.min(first.first - 1),
        (None, None) => known,
    };
    if reached > known {
        let what = "records were dropped from the log that the files do not have";
        report.find(note(dir, 0, 0, Some((known + 1, reached)), what));
    }
    let fences: Vec<Option<Position>> = (0..candidates.len())
        .map(|i| match candidates.get(i + 1) {
            Some(next) => Some(next.header.map_or(next.first - 1, |h| h.durable_before)),
            None => statement
                .filter(|s| s.newest > candidates[i].first)
                .map(|s| s.newest - 1),
        })
        .collect();
    for (candidate, fence) in candidates.into_iter().zip(fences) {
        bytes_done(RECORDS_AT.min(candidate.len));
        if first_kept.is_some_and(|kept| fence.is_some_and(|f| f < kept) && candidate.first < kept) {
            let name = Segment::file_name(candidate.first);
            report
                .notes
                .push(format!("{name}: dropped, goes at the next start; not checked"));
            continue;
        }
        if candidate.first > reached + 1 {
            report.missing(dir, reached + 1, candidate.first - 1);
            reached = candidate.first - 1;
        }
        let (path, first) = (candidate.path.clone(), candidate.first);
        let (Some(file), Some(header)) = (candidate.file, candidate.header) else {
            let what = candidate.trouble.unwrap_or_else(|| "unreadable".into());
            let last = fence.unwrap_or(stated).max(first);
            report.find(note(&path, 0, candidate.len, Some((first, last)), &what));
            reached = reached.max(last);
            continue;
        };
        if let Some(trouble) = &candidate.trouble {
            report.find(note(&path, 0, RECORDS_AT.min(candidate.len), None, trouble));
        }
        let segment = Segment::new(candidate.path, file, header, candidate.len);
        let last = check_segment(
            host,
            &segment,
            candidate.close,
            fence,
            stated,
            make_decoder(),
            &mut report,
            bytes_done,
        )
        .map_err(|e| failed(&path, e))?;
        reached = reached.max(last);
        if let Some(s) = statement.filter(|s| s.newest == first && segment.len() < s.newest_len) {
            let what = format!("truncated: it has {} of {} bytes", segment.len(), s.newest_len);
            let lost = (last < stated).then_some((last + 1, stated));
            report.find(note(&path, segment.len(), s.newest_len - segment.len(), lost, &what));
        }
    }
    if stated > reached {
        report.missing(dir, reached + 1, stated);
    }
    report.last = reached.max(stated);
    Ok(report)
}

/// `log.id` and `positions`: neither holds what cannot be had from elsewhere.
fn check_small_files(host: &Host, dir: &Path, candidates: &mut [Candidate], report: &mut Report) -> Option<Statement> {
    let id_path = dir.join(ID_FILE);
    let text = host.files.read(&id_path).unwrap_or_default();
    let (log, whole) = told_id(&text, candidates);
    if !whole {
        let what = "damaged or missing log.id; the segments tell the same";
        report.find(note(&id_path, 0, text.len() as u64, None, what));
    }
    for c in candidates.iter_mut() {
        if c.header.is_some_and(|h| Some(h.log) != log) {
            c.header = None;
            c.trouble = Some("segment of another log".into());
        }
    }
    let path = dir.join(positions::FILE_NAME);
    let (statement, damaged) = Positions::read(&*host.files, dir).unwrap_or((None, true));
    let statement = statement.filter(|s| Some(s.log) == log);
    if damaged || statement.is_none() {
        let what = "damaged or missing positions file: a segment that is missing at the end may go unseen";
        report.find(note(&path, 0, 0, None, what));
    }
    statement
}

/// Every record of a segment; the last position that it accounts for.
#[allow(clippy::too_many_arguments, reason = "one call, all of them different")]
fn check_segment<D: Decode>(
    host: &Host,
    segment: &Segment,
    close: Option<crate::local::frame::Close>,
    fence: Option<Position>,
    stated: Position,
    mut decoder: D,
    report: &mut Report,
    bytes_done: &mut dyn FnMut(u64),
) -> io::Result<Position> {
    let (first, len) = (segment.first(), segment.len());
    let path = &segment.path;
    let close = close.filter(|c| c.last + 1 >= first && c.end >= RECORDS_AT);
    // the last that counts, where it is to be found, and whether holes are told of already
    let (last, end, surveyed) = match close {
        Some(close) => {
            if len < close.end {
                let what = format!("truncated: it has {len} of {} bytes", close.end);
                report.find(note(path, len, close.end - len, None, &what));
            }
            segment.set_trailer(close.trailer_at);
            if close.trailer_at > 0 && segment.trailer().is_none() {
                let what = "the copy of the segment's definitions is damaged";
                report.find(note(path, close.trailer_at, 0, None, what));
            }
            let last = fence.map_or(close.last, |f| close.last.min(f)).max(first - 1);
            (last, close.end.min(len), false)
        }
        None => {
            let known = fence.unwrap_or(stated);
            let limit = fence.unwrap_or(Position::MAX);
            let found = survey(&host.clock, &segment.file, segment.identity, first, known, limit, len)?;
            for hole in &found.holes {
                let what = "checksum mismatch or missing bytes";
                report.find(note(path, hole.offset, hole.length, hole.positions, what));
            }
            segment.set_trailer(found.trailer_at);
            (found.last, found.end, true)
        }
    };
    let trailer = segment.trailer();
    let _ = catch_unwind(AssertUnwindSafe(|| decoder.begin(trailer.as_deref())));
    let mut scan = Scan::new(&host.clock, Arc::clone(&segment.file), segment.identity, RECORDS_AT);
    let mut expected = first;
    // bytes that are no record, up to the next one
    let mut hole: Option<(u64, u64)> = None;
    let mut at = RECORDS_AT;
    loop {
        let (offset, next) = match scan.next(end)? {
            Found::Record {
                header,
                offset,
                payload,
            } => {
                let counts = header.kind == Kind::Record && (expected..=last).contains(&header.position);
                if counts {
                    if header.position > expected && !surveyed {
                        let (from, length) = hole.take().unwrap_or((offset, 0));
                        let lost = Some((expected, header.position - 1));
                        report.find(note(
                            path,
                            from,
                            length,
                            lost,
                            "damaged records: their checksum is wrong",
                        ));
                    }
                    expected = header.position + 1;
                    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(payload).map(drop)))
                        .unwrap_or_else(|_| Err("the decoder panicked".to_owned()));
                    match decoded {
                        Ok(()) => report.records += 1,
                        Err(why) => {
                            let what = format!("the record cannot be decoded: {why}");
                            let lost = Some((header.position, header.position));
                            report.find(note(path, offset, header.extent(), lost, &what));
                        }
                    }
                }
                (None, offset + header.extent())
            }
            Found::Hole { offset, length } => (Some((offset, length)), offset + length),
            Found::End { offset, rest } => {
                if rest > 0 {
                    hole = Some(hole.map_or((offset, rest), |(from, length)| (from, length + rest)));
                }
                break;
            }
        };
        match (offset, &mut hole) {
            (Some((_, length)), Some(h)) => h.1 += length,
            (Some(found), none) => *none = Some(found),
            (None, h) => {
                // a stretch in which no record was missing: a damaged trailer, told above, or an abandoned write
                let _ = h.take();
            }
        }
        bytes_done(next.saturating_sub(at));
        at = next;
    }
    bytes_done(len.saturating_sub(at));
    if expected <= last && !surveyed {
        let (from, length) = hole.unwrap_or((end, 0));
        let what = "damaged records at the end: their checksum is wrong or they are missing";
        report.find(note(path, from, length, Some((expected, last)), what));
    }
    Ok(if surveyed {
        fence.unwrap_or(last).max(last)
    } else {
        last
    })
}
