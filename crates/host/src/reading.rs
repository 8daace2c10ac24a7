use std::{io, ops::Range, path::Path, sync::Arc, time::Duration};

use crate::{Clock, File, Files, OpenMode};

/// Bytes that a device gives or does not give as one: what is read one by one around an error.
const PIECE: u64 = 4096;
/// Tries of something that failed for a reason that passes.
const TRIES: u32 = 6;
/// Wait before the second try; doubles with each further one, 1.5 s in all.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// What a failed open or read says of the bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The device has the bytes no more, or the file system knows that they are not what was written.
    Media,
    /// There is no such file.
    Missing,
    /// The bytes may be whole: too many open files, no memory, no permission, interrupted. May be different the next time.
    Passing,
}

impl Refusal {
    pub fn of(error: &io::Error) -> Refusal {
        const EIO: i32 = 5;
        const ENODATA: i32 = 61;
        const EBADMSG: i32 = 74;
        const EILSEQ: i32 = 84;
        const EUCLEAN: i32 = 117;
        const EREMOTEIO: i32 = 121;
        match error.raw_os_error() {
            Some(EIO | ENODATA | EBADMSG | EILSEQ | EUCLEAN | EREMOTEIO) => Refusal::Media,
            _ if error.kind() == io::ErrorKind::NotFound => Refusal::Missing,
            _ => Refusal::Passing,
        }
    }
}

/// Tries again, a bounded number of times within two seconds, what failed for a reason that passes.
pub fn patiently<R>(clock: &dyn Clock, mut attempt: impl FnMut() -> io::Result<R>) -> io::Result<R> {
    let mut wait = FIRST_WAIT;
    for _ in 1..TRIES {
        match attempt() {
            Err(e) if Refusal::of(&e) == Refusal::Passing => clock.sleep(wait),
            done => return done,
        }
        wait *= 2;
    }
    attempt()
}

/// Reads up to the end of the buffer or of the file, and past what the device does not give: such pieces are zeros and
/// are told in `unread`, in bytes of the file. An error that passes is returned.
pub fn read_around(file: &dyn File, buf: &mut [u8], offset: u64, unread: &mut Vec<Range<u64>>) -> io::Result<usize> {
    let mut at = 0;
    let mut careful = false;
    while at < buf.len() {
        let from = offset + at as u64;
        let piece = (PIECE - from % PIECE).min((buf.len() - at) as u64) as usize;
        let until = if careful { at + piece } else { buf.len() };
        match file.read_at(&mut buf[at..until], from) {
            Ok(0) => break,
            Ok(n) => {
                at += n;
                careful = false;
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) if Refusal::of(&e) != Refusal::Media => return Err(e),
            // the large read may fail for one bad piece somewhere in it
            Err(_) if !careful => careful = true,
            Err(e) => {
                let there = file.len()?.saturating_sub(from).min(piece as u64);
                if there == 0 {
                    return Err(e);
                }
                buf[at..at + there as usize].fill(0);
                at += there as usize;
                match unread.last_mut() {
                    Some(last) if last.end == from => last.end += there,
                    _ => unread.push(from..from + there),
                }
            }
        }
    }
    Ok(at)
}

/// Times that a reader asks again for what the device did not give, before it is taken for gone.
pub const PATIENCE: u32 = TRIES - 1;

/// The same, but what the device does not give is asked for again after a while: a link that is reset gives errors that no
/// later read meets. Each time takes one of `patience`, which a caller shares among its reads, so that a disk with many bad
/// places is not waited for at each.
pub fn read_around_again(
    clock: &dyn Clock,
    file: &dyn File,
    buf: &mut [u8],
    offset: u64,
    unread: &mut Vec<Range<u64>>,
    patience: &mut u32,
) -> io::Result<usize> {
    let before = unread.clone();
    let mut wait = FIRST_WAIT;
    loop {
        let read = read_around(file, buf, offset, unread)?;
        if *unread == before || *patience == 0 {
            return Ok(read);
        }
        *patience -= 1;
        clock.sleep(wait);
        wait *= 2;
        unread.clone_from(&before);
    }
}

/// A file's content, and what of it the device does not give, also when asked again; see [`read_around_again`].
pub fn read_file_around(files: &dyn Files, clock: &dyn Clock, path: &Path) -> io::Result<(Vec<u8>, Vec<Range<u64>>)> {
    let mut patience = PATIENCE;
    patiently(clock, || {
        let file: Arc<dyn File> = files.open(path, OpenMode::Read)?;
        let mut bytes = vec![0; usize::try_from(file.len()?).map_err(io::Error::other)?];
        let mut unread = Vec::new();
        let read = read_around_again(clock, &*file, &mut bytes, 0, &mut unread, &mut patience)?;
        bytes.truncate(read);
        Ok((bytes, unread))
    })
}
