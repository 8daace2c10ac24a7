use std::{
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use host::{File, Files};

use crate::{
    Position,
    local::frame::{BLOCK, CLOSE_AT, Close, Identity, Kind, RECORD_HEADER, RECORDS_AT, SegmentHeader},
};

/// One segment file that records can be read from.
pub(crate) struct Segment {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<dyn File>,
    pub(crate) header: SegmentHeader,
    pub(crate) identity: Identity,
    /// Last position that counts; `first - 1` while there is none.
    last: AtomicU64,
    /// Nothing behind this offset counts.
    end: AtomicU64,
    trailer_at: AtomicU64,
    /// Bytes of the file.
    len: AtomicU64,
    /// The device did not give some of its bytes: the file is kept when it is no longer needed.
    unread: AtomicBool,
}

impl Segment {
    pub(crate) fn new(path: PathBuf, file: Arc<dyn File>, header: SegmentHeader, len: u64) -> Segment {
        Segment {
            path,
            file,
            identity: header.identity(),
            last: AtomicU64::new(header.first - 1),
            end: AtomicU64::new(RECORDS_AT),
            trailer_at: AtomicU64::new(0),
            len: AtomicU64::new(len),
            unread: AtomicBool::new(false),
            header,
        }
    }

    pub(crate) fn file_name(first: Position) -> String {
        format!("{first:020}.log")
    }

    /// The first position a file of this name would hold.
    pub(crate) fn parse_name(name: &str) -> Option<Position> {
        let digits = name
            .strip_suffix(".log")
            .filter(|d| d.len() == 20 && d.bytes().all(|b| b.is_ascii_digit()))?;
        digits.parse().ok().filter(|first| *first > 0)
    }

    pub(crate) fn first(&self) -> Position {
        self.header.first
    }

    pub(crate) fn last(&self) -> Position {
        self.last.load(Ordering::Acquire)
    }

    pub(crate) fn end(&self) -> u64 {
        self.end.load(Ordering::Acquire)
    }

    pub(crate) fn len(&self) -> u64 {
        self.len.load(Ordering::Acquire)
    }

    pub(crate) fn set_len(&self, len: u64) {
        self.len.store(len, Ordering::Release);
    }

    pub(crate) fn unread(&self) -> bool {
        self.unread.load(Ordering::Acquire)
    }

    pub(crate) fn set_unread(&self) {
        self.unread.store(true, Ordering::Release);
    }

    /// What is durable now. A reader takes `last` first, so the end goes first here.
    pub(crate) fn extend(&self, last: Position, end: u64) {
        self.end.store(end, Ordering::Release);
        self.last.store(last, Ordering::Release);
    }

    pub(crate) fn set_trailer(&self, at: u64) {
        self.trailer_at.store(at, Ordering::Release);
    }

    pub(crate) fn write_close(&self, close: Close) -> io::Result<()> {
        let bytes = close.bytes(self.identity);
        self.file.write_all_at(&bytes, CLOSE_AT as u64)?;
        self.file.write_all_at(&bytes, (BLOCK + CLOSE_AT) as u64)?;
        self.file.sync_data()
    }

    /// The trailer's payload, when the segment has an undamaged one.
    pub(crate) fn trailer(&self) -> Option<Vec<u8>> {
        let at = self.trailer_at.load(Ordering::Acquire);
        if at < RECORDS_AT {
            return None;
        }
        let mut head = [0; RECORD_HEADER];
        self.file.read_exact_at(&mut head, at).ok()?;
        let header = self.identity.open(&head, at).filter(|h| h.kind == Kind::Trailer)?;
        if at + header.extent() > self.file.len().ok()? {
            return None;
        }
        let mut payload = vec![0; header.length as usize];
        self.file.read_exact_at(&mut payload, at + RECORD_HEADER as u64).ok()?;
        header.holds(&payload).then_some(payload)
    }
}

/// Ends the names of segments that are kept because they could not be read.
const UNREAD: &str = ".unread";

/// Whether a file of this name is a segment that was set aside.
pub(crate) fn is_unread(name: &str) -> bool {
    name.strip_suffix(UNREAD)
        .is_some_and(|n| Segment::parse_name(n).is_some())
}

/// Gives a segment a name under which nothing uses or removes it; the path it has afterwards.
pub(crate) fn set_aside(files: &dyn Files, path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(UNREAD);
    let aside = PathBuf::from(name);
    match files.rename(path, &aside) {
        Ok(()) => aside,
        Err(error) => {
            tracing::warn!(file = %shown(path), %error, "a log segment that cannot be read could not be set aside");
            path.to_owned()
        }
    }
}

/// The name of a file for messages: its path.
pub(crate) fn shown(path: &Path) -> String {
    path.display().to_string()
}
