use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use host::{File, Host, OpenMode, PATIENCE, Refusal, patiently, read_around_again, read_file_around};

use crate::{
    Position, Quarantined,
    local::{
        OpenError,
        frame::{BLOCK, Close, HeaderError, LogId, RECORDS_AT, SegmentHeader, VERSION},
        positions::{Positions, Statement},
        scan::{Survey, survey},
        segment::{Segment, is_unread, set_aside, shown},
        writer::Spare,
    },
};

pub(super) const ID_FILE: &str = "log.id";
const ID_PREFIX: &str = "overseer log 1 ";
/// Tries to make the newest records durable once more.
const CONFIRM_TRIES: usize = 3;

/// A log as found on disk.
pub(crate) struct Opened {
    pub(crate) log: LogId,
    pub(crate) segments: Vec<Arc<Segment>>,
    pub(crate) spares: Vec<Spare>,
    pub(crate) positions: Option<Positions>,
    /// Where publishing goes on; records up to here existed.
    pub(crate) durable: Position,
    /// The last of them that is there.
    pub(crate) last_real: Position,
    /// Up to here records were dropped by retention.
    pub(crate) dropped: Position,
    pub(crate) damage: Vec<Quarantined>,
}

/// A file that is named like a segment.
pub(super) struct Candidate {
    pub(super) first: Position,
    pub(super) path: PathBuf,
    pub(super) len: u64,
    pub(super) file: Option<Arc<dyn File>>,
    pub(super) header: Option<SegmentHeader>,
    pub(super) close: Option<Close>,
    pub(super) trouble: Option<String>,
    /// It could not be read, which says nothing of what it holds.
    unread: bool,
}

fn failed(path: &Path) -> impl FnOnce(io::Error) -> OpenError {
    let path = shown(path);
    move |error| OpenError::Io { path, error }
}

/// Reads headers, decides what counts, names what is missing. Damage is no error.
pub(crate) fn recover(host: &Host, dir: &Path, known: Position) -> Result<Opened, OpenError> {
    let files = &host.files;
    let mut candidates = Vec::new();
    let mut spares = Vec::new();
    let mut aside = Vec::new();
    for entry in files.list(dir).map_err(failed(dir))? {
        let path = dir.join(&entry.name);
        if entry.is_dir {
            continue;
        }
        if let Some(first) = Segment::parse_name(&entry.name) {
            candidates.push(examine(host, path, first, entry.len)?);
        } else if is_unread(&entry.name) {
            aside.push(entry.name);
        } else if entry.name.ends_with(".spare") {
            spares.push(Spare { path, len: entry.len });
        } else if entry.name.ends_with(".tmp") {
            let _ = files.remove(&path);
        }
    }
    let mut damage = Vec::new();
    for name in aside {
        let reason = "log segment that could not be read, kept under this name; its records were passed over";
        damage.push(note(&dir.join(name), 0, 0, None, reason));
    }
    let log = identity(host, dir, &candidates, &mut damage)?;
    for candidate in &mut candidates {
        if candidate.header.is_some_and(|h| h.log != log) {
            candidate.header = None;
            candidate.trouble = Some("segment of another log".to_owned());
        }
    }
    let (positions, statement) = match patiently(&*host.clock, || Positions::open(&**files, dir)) {
        Ok((positions, statement, damaged)) => {
            let statement = statement.filter(|s| s.log == log);
            if damaged || (statement.is_none() && !candidates.is_empty()) {
                let path = dir.join(super::positions::FILE_NAME);
                damage.push(note(
                    &path,
                    0,
                    0,
                    None,
                    "damaged or missing positions file, written anew",
                ));
            }
            (Some(positions), statement)
        }
        Err(error) => {
            tracing::warn!(dir = %shown(dir), %error, "the log's positions file cannot be used");
            (None, None)
        }
    };
    spares.retain(|spare| {
        let usable = spare.len >= RECORDS_AT;
        if !usable {
            let _ = files.remove(&spare.path);
        }
        usable
    });
    while spares.len() > super::settings::SPARES {
        if let Some(spare) = spares.pop() {
            let _ = files.remove(&spare.path);
        }
    }

    let mut opened = Opened {
        log,
        segments: Vec::new(),
        spares,
        positions,
        durable: 0,
        last_real: 0,
        dropped: 0,
        damage,
    };
    assemble(host, dir, candidates, statement, known, &mut opened);
    // what was seen stays so: an entry whose change was not durable could come back and contradict it
    if let Err(error) = files.sync_dir(dir) {
        tracing::warn!(dir = %shown(dir), %error, "directory not synced");
    }
    Ok(opened)
}

pub(super) fn note(
    path: &Path,
    offset: u64,
    length: u64,
    positions: Option<(Position, Position)>,
    reason: &str,
) -> Quarantined {
    Quarantined {
        file: shown(path),
        offset,
        length,
        positions,
        since_ms: None,
        reason: reason.to_owned(),
    }
}

pub(super) fn examine(host: &Host, path: PathBuf, first: Position, len: u64) -> Result<Candidate, OpenError> {
    let mut candidate = Candidate {
        first,
        path,
        len,
        file: None,
        header: None,
        close: None,
        trouble: None,
        unread: false,
    };
    let path = &candidate.path;
    let mut unread = Vec::new();
    let mut patience = PATIENCE;
    let read = patiently(&*host.clock, || {
        unread.clear();
        let file = (host.files.open(path, OpenMode::Write)).or_else(|_| host.files.open(path, OpenMode::Read))?;
        let mut bytes = vec![0; RECORDS_AT as usize];
        let read = read_around_again(&*host.clock, &*file, &mut bytes, 0, &mut unread, &mut patience)?;
        bytes.truncate(read);
        Ok((file, bytes))
    });
    let (file, bytes) = match read {
        Ok(read) => read,
        Err(error) => {
            candidate.unread = Refusal::of(&error) != Refusal::Missing;
            candidate.trouble = Some(format!("cannot be read ({error}); the file is kept"));
            return Ok(candidate);
        }
    };
    let copies = [&bytes[..bytes.len().min(BLOCK)], bytes.get(BLOCK..).unwrap_or_default()];
    let mut damaged = 0;
    for copy in copies {
        match SegmentHeader::parse(copy) {
            Ok(header) if header.first == first => {
                candidate.header = candidate.header.or(Some(header));
            }
            Ok(_) => candidate.trouble = Some("header of another segment".to_owned()),
            Err(HeaderError::Damaged) => damaged += 1,
            Err(HeaderError::Newer(found)) => {
                return Err(OpenError::Newer {
                    path: shown(&candidate.path),
                    found,
                    known: VERSION,
                });
            }
        }
    }
    if let Some(header) = candidate.header {
        candidate.close = copies.iter().find_map(|copy| Close::parse(copy, header.identity()));
        let how = if unread.is_empty() {
            "is damaged (checksum)"
        } else {
            "cannot be read (I/O error)"
        };
        candidate.trouble = (damaged > 0).then(|| format!("one of two header copies {how}"));
    } else if candidate.trouble.is_none() {
        candidate.unread = !unread.is_empty();
        let what = if len == 0 {
            "emptied"
        } else if candidate.unread {
            "header cannot be read (I/O error); the file is kept"
        } else {
            "header damaged (checksum)"
        };
        candidate.trouble = Some(format!("segment {what}"));
    }
    candidate.file = Some(file);
    Ok(candidate)
}

/// The log's id: from its file, else from the newest header, else a new one.
fn identity(
    host: &Host,
    dir: &Path,
    candidates: &[Candidate],
    damage: &mut Vec<Quarantined>,
) -> Result<LogId, OpenError> {
    let path = dir.join(ID_FILE);
    let (text, unread) = match read_file_around(&*host.files, &*host.clock, &path) {
        Ok((text, unread)) => (text, !unread.is_empty()),
        Err(error) if Refusal::of(&error) == Refusal::Missing => (Vec::new(), false),
        // every header repeats it; without one it has to be known
        Err(error) if candidates.iter().all(|c| c.header.is_none()) => return Err(failed(&path)(error)),
        Err(error) => {
            tracing::warn!(file = %shown(&path), %error, "log.id cannot be read");
            (Vec::new(), true)
        }
    };
    let (found, whole) = told_id(&text, candidates);
    if let Some(id) = found.filter(|_| whole) {
        return Ok(id);
    }
    if let Some(id) = found.filter(|_| unread) {
        let reason = "log.id cannot be read; the segment headers repeat it";
        damage.push(note(&path, 0, text.len() as u64, None, reason));
        return Ok(id);
    }
    if !candidates.is_empty() {
        damage.push(note(
            &path,
            0,
            text.len() as u64,
            None,
            "damaged or missing log.id, rebuilt from the segment headers",
        ));
    }
    let id = found.unwrap_or_else(|| {
        let mut bytes = [0; 16];
        host.random.fill(&mut bytes);
        LogId(bytes)
    });
    if let Err(error) = host.files.write_atomic(&path, id_line(id).as_bytes()) {
        // every header repeats it
        tracing::warn!(file = %shown(&path), %error, "log.id could not be written");
    }
    Ok(id)
}

/// The id as its file tells it, else as the newest header does; whether the file is whole.
pub(super) fn told_id(text: &[u8], candidates: &[Candidate]) -> (Option<LogId>, bool) {
    let found = candidates.iter().rev().find_map(|c| c.header).map(|h| h.log);
    match parse_id(text) {
        Some(id) if found.is_none() || candidates.iter().any(|c| c.header.is_some_and(|h| h.log == id)) => {
            (Some(id), true)
        }
        _ => (found, false),
    }
}

pub(super) fn id_line(id: LogId) -> String {
    format!(
        "{ID_PREFIX}{:032x} {:08x}\n",
        u128::from_be_bytes(id.0),
        crc32c::crc32c(&id.0)
    )
}

fn parse_id(text: &[u8]) -> Option<LogId> {
    let hex = std::str::from_utf8(text).ok()?.strip_prefix(ID_PREFIX)?.get(..32)?;
    let id = LogId(u128::from_str_radix(hex, 16).ok()?.to_be_bytes());
    (id_line(id).as_bytes() == text).then_some(id)
}

/// Puts the candidates in a row and finds what is missing between and behind them.
fn assemble(
    host: &Host,
    dir: &Path,
    candidates: Vec<Candidate>,
    statement: Option<Statement>,
    known: Position,
    out: &mut Opened,
) {
    let stated = statement.map_or(0, |s| s.durable).max(known);
    let first_kept = statement.map(|s| s.first_kept).filter(|f| *f > 0);
    // last position accounted for: there, dropped, or named as missing
    let mut reached: Option<Position> = first_kept.map(|f| f - 1);
    out.dropped = first_kept.unwrap_or(1) - 1;
    out.last_real = out.dropped;
    let count = candidates.len();
    // a segment's records count up to what the next one's header says, or its name when that is damaged
    let fences: Vec<Option<Position>> = (0..count)
        .map(|i| match candidates.get(i + 1) {
            Some(next) => Some(next.header.map_or(next.first - 1, |h| h.durable_before)),
            // the newest one there is need not be the newest there was
            None => statement
                .filter(|s| s.newest > candidates[i].first)
                .map(|s| s.newest - 1),
        })
        .collect();
    let mut unclear: Option<(PathBuf, Position, String, u64)> = None;
    for (mut candidate, fence) in candidates.into_iter().zip(fences) {
        let is_newest = fence.is_none();
        if first_kept.is_some_and(|kept| fence.is_some_and(|f| f < kept) && candidate.first < kept) {
            // dropped before the stop, and still there
            if !candidate.unread {
                let _ = host.files.remove(&candidate.path);
            }
            continue;
        }
        let from = match reached {
            None => {
                out.dropped = candidate.first - 1;
                candidate.first - 1
            }
            Some(reached) => reached,
        };
        let (Some(file), Some(header)) = (candidate.file, candidate.header) else {
            if candidate.unread {
                candidate.path = set_aside(&*host.files, &candidate.path);
            }
            let why = candidate.trouble.unwrap_or_else(|| "unreadable".to_owned());
            if let Some((path, first, why, len)) = unclear.take() {
                out.damage
                    .push(note(&path, 0, len, Some((first, candidate.first - 1)), &why));
            }
            if candidate.first > from + 1 {
                missing(dir, from + 1, candidate.first - 1, out);
            }
            reached = Some(from.max(candidate.first - 1));
            unclear = Some((candidate.path, candidate.first, why, candidate.len));
            continue;
        };
        if let Some(trouble) = &candidate.trouble {
            out.damage.push(note(&candidate.path, 0, RECORDS_AT, None, trouble));
        }
        if let Some((path, first, why, len)) = unclear.take() {
            // the headerless one before this held what lies between
            let lost = (header.first > first).then(|| (first, header.first - 1));
            out.damage.push(note(&path, 0, len, lost, &why));
        } else if header.first > from + 1 {
            missing(dir, from + 1, header.first - 1, out);
        }
        let segment = Segment::new(candidate.path, file, header, candidate.len);
        let last = settle(
            host,
            &segment,
            candidate.close,
            fence,
            stated,
            statement,
            is_newest,
            out,
        );
        if first_kept.is_some_and(|kept| last < kept && header.first < kept) {
            // dropped as well, and the last one there is
            let _ = host.files.remove(&segment.path);
            continue;
        }
        out.last_real = out.last_real.max(segment.last());
        reached = Some(from.max(last).max(header.first - 1));
        out.segments.push(Arc::new(segment));
    }
    let reached = reached.unwrap_or(0);
    out.durable = reached.max(stated);
    if let Some((path, first, why, len)) = unclear {
        // nobody knows how many records it held, one is assumed
        out.durable = out.durable.max(first);
        out.damage.push(note(&path, 0, len, Some((first, out.durable)), &why));
    } else if stated > reached {
        missing(dir, reached + 1, stated, out);
    }
}

fn missing(dir: &Path, first: Position, last: Position, out: &mut Opened) {
    let path = dir.join(Segment::file_name(first));
    out.damage.push(note(
        &path,
        0,
        0,
        Some((first, last)),
        "segment missing: damaged log, records are lost",
    ));
}

/// Finds where the segment ends and tells of damage at its end; the last position it should hold.
#[allow(clippy::too_many_arguments, reason = "one call, all of them different")]
fn settle(
    host: &Host,
    segment: &Segment,
    close: Option<Close>,
    fence: Option<Position>,
    stated: Position,
    statement: Option<Statement>,
    is_newest: bool,
    out: &mut Opened,
) -> Position {
    let since_ms = Some(segment.header.created_ms);
    let len = segment.len();
    if let Some(close) = close.filter(|c| c.last + 1 >= segment.first() && c.end >= RECORDS_AT) {
        let last = fence
            .map_or(close.last, |fence| close.last.min(fence))
            .max(segment.first() - 1);
        segment.set_trailer(close.trailer_at);
        segment.extend(last, close.end.min(len.max(RECORDS_AT)));
        if len < close.end {
            let reason = format!("segment truncated: damaged, it has {len} of {} bytes", close.end);
            let found = Quarantined {
                since_ms,
                ..note(&segment.path, len, close.end - len, None, &reason)
            };
            out.damage.push(found);
        }
        return last;
    }
    let fence_or_max = fence.unwrap_or(Position::MAX);
    // whatever came before a later segment was durable when that was made
    let known = fence.unwrap_or(stated);
    let found = match survey(
        &host.clock,
        &segment.file,
        segment.identity,
        segment.first(),
        known,
        fence_or_max,
        len,
    ) {
        Ok(found) => found,
        Err(error) => {
            segment.set_unread();
            let reason = format!("cannot be read ({error}); the file is kept");
            out.damage.push(Quarantined {
                since_ms,
                ..note(&segment.path, 0, len, None, &reason)
            });
            return segment.first() - 1;
        }
    };
    if found.unread {
        segment.set_unread();
    }
    for hole in &found.holes {
        let reason = if hole.unread {
            "cannot be read (I/O error); the file is kept"
        } else {
            "checksum mismatch or missing bytes"
        };
        let entry = note(&segment.path, hole.offset, hole.length, hole.positions, reason);
        out.damage.push(Quarantined { since_ms, ..entry });
    }
    if let Some(s) = statement.filter(|s| is_newest && s.newest == segment.first() && len < s.newest_len) {
        let reason = format!("segment truncated: damaged, it has {len} of {} bytes", s.newest_len);
        // a known loss at the end names the same stretch
        if !found.holes.iter().any(|h| h.offset + h.length >= len) {
            out.damage.push(Quarantined {
                since_ms,
                ..note(&segment.path, len, s.newest_len - len, None, &reason)
            });
        }
    }
    segment.set_trailer(found.trailer_at);
    let last = match fence {
        // what comes behind the fence never counted
        Some(fence) => fence.max(segment.first() - 1),
        None => found.last.max(found.stated.max(segment.first() - 1)),
    };
    segment.extend(if is_newest { found.last } else { last }, found.end);
    if is_newest {
        confirm(segment, &found);
    }
    last
}

/// Writes the newest records once more, in place, so that they are durable whatever became of the sync before the stop,
/// and closes the segment: the next one starts a new scope.
fn confirm(segment: &Segment, found: &Survey) {
    let confirmed = (|| -> io::Result<()> {
        let from = found.unsure_at.min(found.end);
        let mut tail = vec![0; (found.end - from) as usize];
        segment.file.read_exact_at(&mut tail, from)?;
        let mut done = Ok(());
        for _ in 0..CONFIRM_TRIES {
            done = segment
                .file
                .write_all_at(&tail, from)
                .and_then(|()| segment.file.sync_data());
            if done.is_ok() {
                break;
            }
        }
        done?;
        if found.last >= segment.first() {
            segment.write_close(Close {
                last: found.last,
                end: found.end,
                trailer_at: found.trailer_at,
            })?;
        }
        Ok(())
    })();
    if let Err(error) = confirmed {
        tracing::warn!(file = %shown(&segment.path), %error, "the newest log segment could not be written to");
    }
}
