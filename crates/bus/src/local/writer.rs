use std::{
    collections::VecDeque,
    io::{self, ErrorKind},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
    sync::{Arc, PoisonError, atomic::Ordering},
};

use host::{File, OpenMode};

use crate::{
    BusError, Codec, Position,
    local::{
        frame::{Close, Kind, LogId, RECORD_HEADER, RECORDS_AT, SegmentHeader},
        positions::{Positions, Statement},
        segment::{Segment, set_aside, shown},
        settings::{GROUP_BYTES, GROWTH_BYTES, MAX_RECORD_BYTES, RESERVE_BYTES, SIZE_UNIT, SPARES},
        shared::{Pending, Shared},
    },
};

/// A written file that waits for its next life.
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) len: u64,
}

/// The one that changes files. Everything it holds is its own; what others may see goes through `Shared`.
pub(crate) struct Writer<C: Codec> {
    pub(crate) shared: Arc<Shared<C::Item>>,
    codec: C,
    log: LogId,
    /// Open for writing, with the codec in its scope.
    current: Option<Arc<Segment>>,
    /// Bytes at which the current segment should close.
    segment_bytes: u64,
    /// Last position that has a durable record.
    last_real: Position,
    positions: Option<Positions>,
    spares: Vec<Spare>,
    buffer: Vec<u8>,
    #[cfg(test)]
    pub(crate) bug: Option<super::tests::Bug>,
}

/// Why a group was not written.
enum Failed {
    /// Nothing was written; the scope may be gone.
    NoRoom(BusError),
    /// The outcome is unknown; the segment is given up.
    Io(BusError),
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

impl<C: Codec> Writer<C> {
    pub(crate) fn new(
        shared: Arc<Shared<C::Item>>,
        codec: C,
        log: LogId,
        last_real: Position,
        positions: Option<Positions>,
        spares: Vec<Spare>,
    ) -> Self {
        let mut writer = Writer {
            shared,
            codec,
            log,
            current: None,
            segment_bytes: 0,
            last_real,
            positions,
            spares,
            buffer: Vec::new(),
            #[cfg(test)]
            bug: None,
        };
        writer.count_spares();
        writer.state(true);
        writer
    }

    /// Writes what comes until the log stops.
    pub(crate) fn run(mut self) {
        while self.step(true) {}
    }

    /// One round: housekeeping that was asked for, then one group. False once the log is closed. Without `wait` it
    /// returns at once when there is nothing to do.
    pub(crate) fn step(&mut self, wait: bool) -> bool {
        let shared = Arc::clone(&self.shared);
        let mut queue = shared.queue();
        while wait && queue.items.is_empty() && !queue.committed && !queue.stopping && queue.without_spares.is_empty() {
            queue = shared.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
        }
        let committed = std::mem::take(&mut queue.committed);
        let without_spares = std::mem::take(&mut queue.without_spares);
        let has_items = !queue.items.is_empty();
        let stopping = queue.stopping;
        drop(queue);

        if committed {
            self.drop_committed(false);
        }
        if !without_spares.is_empty() {
            self.drop_spares();
            self.replace_idle();
            without_spares.into_iter().for_each(|p| p.complete(Ok(0)));
        }
        if has_items {
            self.make_way(wait);
            let mut queue = shared.queue();
            let items = std::mem::take(&mut queue.items);
            queue.bytes = 0;
            drop(queue);
            self.write(items);
            return true;
        }
        if stopping {
            self.finish();
            return false;
        }
        true
    }

    /// Waits until memory has room for what the next group hands over.
    fn make_way(&mut self, wait: bool) {
        let shared = Arc::clone(&self.shared);
        let bound = shared.settings.handover_bytes;
        let mut hub = shared.hub();
        while !hub.shrink(bound, !wait || shared.queue().stopping) {
            hub = shared.passed.wait(hub).unwrap_or_else(PoisonError::into_inner);
        }
    }

    fn write(&mut self, mut items: VecDeque<Pending<C::Item>>) {
        while !items.is_empty() {
            self.group(&mut items);
        }
    }

    /// Writes items from the front as one group and resolves them. All of them, but for a record that cannot be
    /// encoded, which ends the group and its scope.
    fn group(&mut self, items: &mut VecDeque<Pending<C::Item>>) {
        let was_open = self.current.is_some();
        let mut written = self.try_group(items);
        if was_open && matches!(written, Err(Failed::NoRoom(_))) {
            // the segment could not grow and is closed; another file may do
            written = self.try_group(items);
        }
        match written {
            Ok((count, refused)) => {
                let group: Vec<_> = items.drain(..count).collect();
                let first = self.last_real + 1 - count as u64;
                let mut hub = self.shared.hub();
                hub.push(group.iter().map(|p| (Arc::clone(&p.item), p.bytes)));
                drop(hub);
                self.shared.arrived.notify_all();
                if count > 0 {
                    self.state(false);
                }
                for (position, pending) in (first..).zip(group) {
                    pending.promise.complete(Ok(position));
                }
                if let Some(error) = refused {
                    if let Some(pending) = items.pop_front() {
                        pending.promise.complete(Err(error));
                    }
                    // its definitions are in the scope and not in the file
                    self.close_current();
                }
            }
            Err(Failed::NoRoom(error)) => {
                if let BusError::Full { reason, .. } = &error {
                    let mut health = self.shared.health();
                    if health.full.is_none() {
                        tracing::warn!(topic = %self.shared.settings.topic, %reason, "log full, records are refused");
                    }
                    health.full = Some(reason.clone());
                }
                items.drain(..).for_each(|p| p.promise.complete(Err(error.clone())));
            }
            Err(Failed::Io(error)) => {
                let text = error.to_string();
                tracing::error!(topic = %self.shared.settings.topic, error = %text, "log segment given up");
                let mut health = self.shared.health();
                health.failures += 1;
                health.failed = Some(text);
                drop(health);
                items.drain(..).for_each(|p| p.promise.complete(Err(error.clone())));
            }
        }
    }

    /// How many items are durable now, and why the next one cannot be.
    fn try_group(&mut self, items: &VecDeque<Pending<C::Item>>) -> Result<(usize, Option<BusError>), Failed> {
        let segment = self.segment_to_write()?;
        let (start, durable_before) = (segment.end(), self.last_real);
        let next = self.shared.hub().durable + 1;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        let (count, refused) = self.encode(items, &segment, next, start, durable_before, &mut buffer);
        let end = start + buffer.len() as u64;
        let mut written = Ok(());
        if count > 0 {
            written = self.grow(&segment, end).map_err(|error| {
                // what was encoded may have defined something, and nothing of it is in the file
                self.close_current();
                Failed::NoRoom(error)
            });
            if written.is_ok() {
                written = self.put(&segment, &buffer, start).map_err(|error| {
                    self.current = None;
                    Failed::Io(BusError::Io(format!("{}: {error}", shown(&segment.path))))
                });
            }
        }
        buffer.clear();
        buffer.shrink_to(2 * GROUP_BYTES);
        self.buffer = buffer;
        written?;
        if count > 0 {
            self.last_real = next + count as u64 - 1;
            segment.extend(self.last_real, end);
            let mut health = self.shared.health();
            health.full = None;
            health.failed = None;
        }
        Ok((count, refused))
    }

    fn put(&mut self, segment: &Segment, bytes: &[u8], at: u64) -> io::Result<()> {
        segment.file.write_all_at(bytes, at)?;
        #[cfg(test)]
        if self.bug == Some(super::tests::Bug::AckBeforeSync) {
            return Ok(());
        }
        segment.file.sync_data()
    }

    fn encode(
        &mut self,
        items: &VecDeque<Pending<C::Item>>,
        segment: &Segment,
        next: Position,
        start: u64,
        durable_before: Position,
        buffer: &mut Vec<u8>,
    ) -> (usize, Option<BusError>) {
        for (count, pending) in items.iter().enumerate() {
            let at = buffer.len();
            buffer.resize(at + RECORD_HEADER, 0);
            let codec = &mut self.codec;
            let encoded = catch_unwind(AssertUnwindSafe(|| codec.encode(&pending.item, buffer)));
            let size = buffer.len().saturating_sub(at + RECORD_HEADER);
            let refused = match encoded {
                Err(_) => Some(BusError::Io("the record's encoder panicked".to_owned())),
                Ok(()) if size > MAX_RECORD_BYTES => Some(BusError::TooLarge {
                    bytes: size,
                    max: MAX_RECORD_BYTES,
                }),
                Ok(()) => None,
            };
            if refused.is_some() {
                buffer.truncate(at);
                return (count, refused);
            }
            let offset = start + at as u64;
            segment.identity.seal(
                &mut buffer[at..],
                Kind::Record,
                next + count as u64,
                durable_before,
                offset,
            );
        }
        (items.len(), None)
    }

    fn segment_to_write(&mut self) -> Result<Arc<Segment>, Failed> {
        if let Some(segment) = &self.current {
            let held = segment.end() - RECORDS_AT;
            let behind = self.shared.hub().durable != segment.last();
            let roll = held >= self.segment_bytes && self.codec.roll_ok() || held >= 2 * self.segment_bytes;
            if !roll && !behind {
                return Ok(Arc::clone(segment));
            }
            self.close_current();
        }
        self.drop_committed(false);
        self.open_segment()
    }

    fn free(&self) -> u64 {
        self.shared.host.files.free_bytes(&self.shared.dir).unwrap_or(u64::MAX)
    }

    /// Bytes that may be allocated now.
    fn room(&self) -> u64 {
        let (free, own) = (self.free(), self.shared.bytes());
        let reserve = (free.saturating_add(own) / 8).min(RESERVE_BYTES);
        free.saturating_sub(reserve)
            .min(self.shared.settings.max_bytes.saturating_sub(own))
    }

    fn no_room(&self, wanted: u64) -> BusError {
        let (own, max, free) = (self.shared.bytes(), self.shared.settings.max_bytes, self.free());
        let reason = if own + wanted > max {
            format!("it holds {own} of at most {max} bytes, and required consumers have not taken them")
        } else {
            format!("the disk has {free} bytes free, of which a part is kept in reserve")
        };
        self.shared.full(reason)
    }

    /// Header, fdatasync, name, fsync of the directory; only then it is used.
    fn open_segment(&mut self) -> Result<Arc<Segment>, Failed> {
        let settings = &self.shared.settings;
        let room = self.free().saturating_add(self.shared.bytes());
        self.segment_bytes = settings.segment_bytes.min(settings.max_bytes / 4).min(room / 4);
        if self.spares.is_empty() && self.room() < settings.initial_bytes {
            self.drop_committed(true);
        }
        let spare = self.spares.pop();
        self.count_spares();
        let made = self.make_segment(spare);
        let segment = made.map_err(|(error, path)| {
            let text = format!("{}: {error}", shown(&path));
            // its pages are not to be trusted again
            let _ = self.shared.host.files.remove(&path);
            match is_full(&error) {
                true => Failed::NoRoom(self.shared.full(text)),
                false => Failed::Io(BusError::Io(text)),
            }
        })?;
        self.codec.begin();
        let mut segments = self.shared.segments();
        // an empty one of the same name was replaced
        segments.retain(|s| s.first() != segment.first());
        segments.push(Arc::clone(&segment));
        drop(segments);
        self.current = Some(Arc::clone(&segment));
        self.state(true);
        Ok(segment)
    }

    fn make_segment(&mut self, spare: Option<Spare>) -> Result<Arc<Segment>, (io::Error, PathBuf)> {
        let host = &self.shared.host;
        let header = SegmentHeader {
            log: self.log,
            first: self.shared.hub().durable + 1,
            generation: host.random.u64(),
            durable_before: self.last_real,
            created_ms: host.clock.now_ms(),
        };
        let is_new = spare.is_none();
        let (path, mut len) = match spare {
            Some(spare) => (spare.path, spare.len),
            None => (self.shared.dir.join(format!("{:016x}.spare", header.generation)), 0),
        };
        let target = self.shared.dir.join(Segment::file_name(header.first));
        let mut prepare = || -> io::Result<Arc<dyn File>> {
            let file = host
                .files
                .open(&path, if is_new { OpenMode::CreateNew } else { OpenMode::Write })?;
            if is_new {
                let room = self.room();
                let wanted = self
                    .shared
                    .settings
                    .initial_bytes
                    .min(self.free() / 16)
                    .next_multiple_of(SIZE_UNIT);
                len = if wanted <= room { wanted } else { SIZE_UNIT };
                if len > room {
                    return Err(io::Error::new(ErrorKind::StorageFull, self.no_room(len)));
                }
                file.allocate(0, len)?;
            }
            file.write_all_at(&header.blocks(), 0)?;
            file.sync_data()?;
            host.files.rename(&path, &target)?;
            Ok(file)
        };
        let file = prepare().map_err(|e| (e, path.clone()))?;
        // the name is taken, but not for good: the next try takes it again
        host.files.sync_dir(&self.shared.dir).map_err(|e| (e, target.clone()))?;
        Ok(Arc::new(Segment::new(target, file, header, len)))
    }

    /// Makes the file at least `end` bytes long.
    fn grow(&mut self, segment: &Segment, end: u64) -> Result<(), BusError> {
        let len = segment.len();
        if end <= len {
            return Ok(());
        }
        let least = (end - len).next_multiple_of(SIZE_UNIT);
        if self.room() < least {
            self.drop_committed(true);
        }
        let room = self.room();
        if room < least {
            return Err(self.no_room(least));
        }
        let step = len.min(GROWTH_BYTES).min(self.free() / 8).min(room) / SIZE_UNIT * SIZE_UNIT;
        let step = step.max(least);
        segment
            .file
            .allocate(len, step)
            .map_err(|error| match is_full(&error) {
                true => self.no_room(step),
                false => BusError::Io(format!("{}: {error}", shown(&segment.path))),
            })?;
        segment.set_len(len + step);
        Ok(())
    }

    /// Trailer, close statement; what fails here costs the trailer only, for the next header says where this one ends.
    fn close_current(&mut self) {
        let Some(segment) = self.current.take() else { return };
        let end = segment.end();
        let mut trailer = vec![0; RECORD_HEADER];
        let codec = &mut self.codec;
        let finished = catch_unwind(AssertUnwindSafe(|| codec.finish(&mut trailer))).is_ok();
        let size = trailer.len() - RECORD_HEADER.min(trailer.len());
        let closed = (|| -> io::Result<()> {
            let mut close = Close {
                last: segment.last(),
                end,
                trailer_at: 0,
            };
            let new_end = end + trailer.len() as u64;
            if finished && size > 0 && size <= MAX_RECORD_BYTES && self.grow(&segment, new_end).is_ok() {
                segment
                    .identity
                    .seal(&mut trailer, Kind::Trailer, segment.last(), segment.last(), end);
                segment.file.write_all_at(&trailer, end)?;
                // the statement must not be durable before what it points to
                segment.file.sync_data()?;
                close = Close {
                    end: new_end,
                    trailer_at: end,
                    ..close
                };
            }
            segment.write_close(close)?;
            if close.trailer_at > 0 {
                segment.set_trailer(close.trailer_at);
                segment.extend(close.last, close.end);
            }
            Ok(())
        })();
        if let Err(error) = closed {
            tracing::warn!(file = %shown(&segment.path), %error, "a log segment could not be closed properly");
            self.shared.health().failures += 1;
        }
    }

    /// Gives back segments that nobody needs. `pressed`: room is wanted now, so the newest goes too unless it is being
    /// written, spares go, and where nobody is required the oldest goes.
    pub(crate) fn drop_committed(&mut self, pressed: bool) {
        let shared = Arc::clone(&self.shared);
        let settings = &shared.settings;
        let hub = shared.hub();
        let floor = hub.floor(&settings.required);
        let slowest = hub
            .attached
            .values()
            .filter(|a| !a.required)
            .map(|a| a.delivered)
            .min()
            .unwrap_or(Position::MAX);
        let durable = hub.durable;
        drop(hub);
        let crowded = pressed || shared.bytes() > settings.max_bytes / 2;
        if settings.required.is_empty() && !pressed {
            return;
        }
        let reach = if crowded { floor } else { floor.min(slowest) };
        let mut gone = Vec::new();
        let mut segments = shared.segments();
        let keep_last = usize::from(!(pressed && self.current.is_none()));
        while segments.len() > keep_last && segments[0].last() <= reach {
            gone.push(segments.remove(0));
            if settings.required.is_empty() {
                break;
            }
        }
        let first_kept = segments.first().map_or(durable + 1, |s| s.first());
        drop(segments);
        if !gone.is_empty() {
            self.discard(gone, first_kept);
        }
        if pressed && self.current.is_some() {
            // room to grow is worth more than files for later
            self.drop_spares();
        }
    }

    fn discard(&mut self, mut gone: Vec<Arc<Segment>>, first_kept: Position) {
        let mut hub = self.shared.hub();
        let dropped_before = hub.dropped;
        hub.dropped = dropped_before.max(first_kept - 1);
        drop(hub);
        let stated = self.state(true);
        if !stated && !self.unstate() {
            // an old statement would have them missed at the next start; the next commit tries again
            self.shared.hub().dropped = dropped_before;
            self.shared.segments().splice(0..0, gone);
            return;
        }
        if !stated
            && self.shared.segments().is_empty()
            && let Some(newest) = gone.pop()
        {
            // with neither statement nor segment the next start would take all records for lost
            self.shared.hub().dropped = dropped_before.max(newest.first() - 1);
            self.shared.segments().push(newest);
        }
        let files = Arc::clone(&self.shared.host.files);
        for segment in gone {
            let (path, len, generation) = (segment.path.clone(), segment.len(), segment.header.generation);
            if segment.unread() {
                set_aside(&*files, &path);
                continue;
            }
            // a reader may still be inside; then the file must keep its bytes until it is closed
            let unused = Arc::into_inner(segment).is_some();
            let small = len <= self.free() / 4 && self.shared.bytes() + len <= self.shared.settings.max_bytes / 2;
            let spare = self.shared.dir.join(format!("{generation:016x}.spare"));
            let done = if unused && small && self.spares.len() < SPARES {
                files
                    .rename(&path, &spare)
                    .map(|()| self.spares.push(Spare { path: spare, len }))
            } else {
                files.remove(&path)
            };
            if let Err(error) = done {
                tracing::warn!(file = %shown(&path), %error, "a log segment that is no longer needed could not be removed");
                if !stated {
                    // a later one gone before it would look like a loss
                    break;
                }
            }
            self.count_spares();
            if !stated && files.sync_dir(&self.shared.dir).is_err() {
                break;
            }
        }
        if let Err(error) = files.sync_dir(&self.shared.dir) {
            tracing::warn!(dir = %shown(&self.shared.dir), %error, "directory not synced");
        }
        self.shared.health().full = None;
    }

    fn drop_spares(&mut self) {
        if self.spares.is_empty() {
            return;
        }
        for spare in std::mem::take(&mut self.spares) {
            if let Err(error) = self.shared.host.files.remove(&spare.path) {
                tracing::warn!(file = %shown(&spare.path), %error, "a spare log file could not be removed");
            }
        }
        let _ = self.shared.host.files.sync_dir(&self.shared.dir);
        self.count_spares();
    }

    /// Puts a small segment in the place of one that grew and that nobody needs any more.
    fn replace_idle(&mut self) {
        let settings = &self.shared.settings;
        let hub = self.shared.hub();
        let (durable, floor) = (hub.durable, hub.floor(&settings.required));
        drop(hub);
        let idle = self.current.as_ref().is_some_and(|segment| {
            let grown = segment.len() > settings.initial_bytes.next_multiple_of(SIZE_UNIT);
            grown && segment.last() == durable && durable <= floor && !settings.required.is_empty()
        });
        if !idle || self.room() < settings.initial_bytes {
            return;
        }
        self.close_current();
        if self.open_segment().is_err() {
            // the next write tries again, and says what is wrong
            return;
        }
        self.drop_committed(false);
        self.drop_spares();
    }

    fn count_spares(&mut self) {
        self.shared
            .spare_bytes
            .store(self.spares.iter().map(|s| s.len).sum(), Ordering::Relaxed);
        self.shared.spares.store(self.spares.len() as u64, Ordering::Relaxed);
    }

    /// Says where the log stands; a failure makes damage harder to see, nothing else. False after one.
    fn state(&mut self, sync: bool) -> bool {
        let hub = self.shared.hub();
        let (durable, dropped) = (hub.durable, hub.dropped);
        drop(hub);
        let segments = self.shared.segments();
        let newest = segments.last().map_or((0, 0), |s| (s.first(), s.len()));
        let first_kept = segments.first().map_or(durable + 1, |s| s.first()).min(dropped + 1);
        drop(segments);
        let statement = Statement {
            log: self.log,
            newest: newest.0,
            newest_len: newest.1,
            first_kept,
            durable,
        };
        if self.positions.is_none() {
            let opened = Positions::open(&*self.shared.host.files, &self.shared.dir);
            self.positions = opened.ok().map(|(positions, ..)| positions);
        }
        let Some(positions) = &mut self.positions else {
            return false;
        };
        if let Err(error) = positions.state(&statement, sync) {
            tracing::warn!(topic = %self.shared.settings.topic, %error, "the log's positions file could not be written");
            return false;
        }
        true
    }

    /// No statement is better than one that is wrong. False when the old one is still there.
    fn unstate(&mut self) -> bool {
        self.positions = None;
        let files = &self.shared.host.files;
        let path = self.shared.dir.join(super::positions::FILE_NAME);
        match files.remove(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => false,
            _ => files.sync_dir(&self.shared.dir).is_ok(),
        }
    }

    fn finish(&mut self) {
        self.close_current();
        self.state(true);
        let mut hub = self.shared.hub();
        hub.closed = true;
        drop(hub);
        self.shared.arrived.notify_all();
    }
}
