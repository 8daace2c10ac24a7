//! Memory of what is on its way between clients and the server. Bodies that arrive, answers that leave and frames of live
//! pages have a share of `server.memory_bytes` each, so that none of them takes what another needs. What finds no room
//! waits a bounded time, in the order of asking, and is refused then.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::answer::Refusal;

/// Bytes are counted in units of so many.
const UNIT: u64 = 4 << 10;
/// What holds at most so many bytes has room of its own, a quarter of each share, that nothing larger can take.
pub(crate) const SMALL_BYTES: u64 = 256 << 10;
/// How long something waits for room before it is refused.
const WAIT_MAX: Duration = Duration::from_secs(5);

/// What the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Bodies,
    Answers,
    Frames,
}

impl Part {
    pub(crate) const ALL: [Part; 3] = [Part::Bodies, Part::Answers, Part::Frames];

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Part::Bodies => "bodies",
            Part::Answers => "answers",
            Part::Frames => "frames",
        }
    }

    /// Sixths of the whole.
    fn sixths(self) -> u64 {
        match self {
            Part::Bodies => 2,
            Part::Answers => 3,
            Part::Frames => 1,
        }
    }
}

/// All shares.
pub(crate) struct Room([Arc<Share>; 3]);

impl Room {
    pub(crate) fn new(bytes_max: u64) -> Self {
        Room(Part::ALL.map(|part| Arc::new(Share::new(part, bytes_max / 6 * part.sixths()))))
    }

    pub(crate) fn of(&self, part: Part) -> &Arc<Share> {
        &self.0[part as usize]
    }
}

/// Room for one kind of bytes.
pub(crate) struct Share {
    part: Part,
    /// In units, as the semaphores count them.
    small_max: u64,
    large_max: u64,
    small: Arc<Semaphore>,
    large: Arc<Semaphore>,
    refused: AtomicU64,
    slow: AtomicU64,
}

fn units(bytes: u64) -> u32 {
    u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX)
}

impl Share {
    fn new(part: Part, bytes_max: u64) -> Self {
        let all = (bytes_max / UNIT).min(u64::from(u32::MAX));
        let (small_max, large_max) = (all / 4, all - all / 4);
        Share {
            part,
            small_max,
            large_max,
            small: Arc::new(Semaphore::new(small_max as usize)),
            large: Arc::new(Semaphore::new(large_max as usize)),
            refused: AtomicU64::new(0),
            slow: AtomicU64::new(0),
        }
    }

    /// Bytes that one thing may hold at most.
    pub(crate) fn one_max(&self) -> u64 {
        self.large_max * UNIT
    }

    pub(crate) fn bytes_max(&self) -> u64 {
        (self.small_max + self.large_max) * UNIT
    }

    /// Bytes held now.
    pub(crate) fn held(&self) -> u64 {
        let free = self.small.available_permits() + self.large.available_permits();
        self.bytes_max().saturating_sub(free as u64 * UNIT)
    }

    /// How often something was refused for want of room.
    pub(crate) fn refused(&self) -> u64 {
        self.refused.load(Relaxed)
    }

    /// Something was ended because it moved too slowly.
    pub(crate) fn note_slow(&self) {
        self.slow.fetch_add(1, Relaxed);
    }

    /// How often that happened.
    pub(crate) fn slow(&self) -> u64 {
        self.slow.load(Relaxed)
    }

    /// Nothing yet, to [`grow`](Held::grow).
    pub(crate) fn nothing(self: &Arc<Self>) -> Held {
        Held {
            share: Arc::clone(self),
            bytes: 0,
            permit: None,
            large: false,
        }
    }

    /// Room for so many bytes, waiting for it if need be.
    pub(crate) async fn take(self: &Arc<Self>, bytes: u64) -> Result<Held, Refusal> {
        let mut held = self.nothing();
        held.grow(bytes).await?;
        Ok(held)
    }

    /// Room for so many bytes as soon as there is some, however long that takes: for what holds nothing while it waits.
    pub(crate) async fn take_in_time(self: &Arc<Self>, bytes: u64) -> Held {
        let bytes = bytes.min(self.one_max());
        let mut held = self.nothing();
        let semaphore = if bytes > SMALL_BYTES { &self.large } else { &self.small };
        // the semaphores are never closed
        held.permit = Arc::clone(semaphore).acquire_many_owned(units(bytes)).await.ok();
        held.large = bytes > SMALL_BYTES;
        held.bytes = bytes;
        held
    }

    /// Room for so many bytes if there is some at once; counted as refused if not.
    pub(crate) fn try_take(self: &Arc<Self>, bytes: u64) -> Option<Held> {
        let large = bytes > SMALL_BYTES;
        let semaphore = if large { &self.large } else { &self.small };
        let Ok(permit) = Arc::clone(semaphore).try_acquire_many_owned(units(bytes)) else {
            self.refused.fetch_add(1, Relaxed);
            return None;
        };
        Some(Held {
            share: Arc::clone(self),
            bytes,
            permit: Some(permit),
            large,
        })
    }

    fn no_room(&self, bytes: u64) -> Refusal {
        self.refused.fetch_add(1, Relaxed);
        let (part, max) = (self.part.as_str(), self.bytes_max());
        Refusal::unavailable(format!(
            "there was no room for {bytes} bytes within {WAIT_MAX:?}: {part} may hold {max} bytes together \
             (a share of server.memory_bytes); try again"
        ))
    }
}

/// Bytes that are held, until dropped.
pub(crate) struct Held {
    share: Arc<Share>,
    bytes: u64,
    permit: Option<OwnedSemaphorePermit>,
    large: bool,
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes of {}", self.bytes, self.share.part.as_str())
    }
}

impl Held {
    /// Holds `bytes` in all from now on, if that is more; what was held stays when there is no room.
    pub(crate) async fn grow(&mut self, bytes: u64) -> Result<(), Refusal> {
        if bytes <= self.bytes {
            return Ok(());
        }
        if bytes > self.share.one_max() {
            let (part, max) = (self.share.part.as_str(), self.share.one_max());
            let message = format!(
                "{bytes} bytes are more than one of the {part} may hold: {max} (a share of server.memory_bytes)"
            );
            return Err(match self.share.part {
                Part::Bodies => Refusal::too_large(message),
                Part::Answers | Part::Frames => {
                    Refusal::new(http::StatusCode::UNPROCESSABLE_ENTITY, "execution", message)
                }
            });
        }
        let large = bytes > SMALL_BYTES;
        let has = if large == self.large { units(self.bytes) } else { 0 };
        let more = units(bytes) - has;
        if more > 0 {
            let semaphore = if large { &self.share.large } else { &self.share.small };
            let wanted = Arc::clone(semaphore).acquire_many_owned(more);
            let got = match tokio::time::timeout(WAIT_MAX, wanted).await {
                Ok(Ok(got)) => got,
                _ => return Err(self.share.no_room(bytes)),
            };
            match &mut self.permit {
                Some(permit) if large == self.large => permit.merge(got),
                place => *place = Some(got),
            }
            self.large = large;
        }
        self.bytes = bytes;
        Ok(())
    }

    /// Gives back what is beyond `bytes`.
    pub(crate) fn shrink(&mut self, bytes: u64) {
        if bytes >= self.bytes {
            return;
        }
        let back = units(self.bytes) - units(bytes);
        if let Some(permit) = &mut self.permit {
            drop(permit.split(back as usize));
        }
        self.bytes = bytes;
    }
}

#[cfg(test)]
mod tests;
