use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, PoisonError},
    time::Duration,
};

use crate::{
    BusError, Cause, Consumer, Decode, Delivery, Position, Quarantined,
    local::{
        frame::{Kind, RECORDS_AT},
        scan::{Found, Scan},
        segment::{Segment, shown},
        shared::Shared,
    },
};

/// Takes records from memory while it keeps up, and from the segments otherwise.
pub(crate) struct LocalConsumer<T, D> {
    shared: Arc<Shared<T>>,
    id: u64,
    required: bool,
    make_decoder: Arc<dyn Fn() -> D + Send + Sync>,
    replay: Option<Replay<D>>,
    /// Bytes of segments that were read to their end.
    passed_bytes: u64,
}

struct Replay<D> {
    segment: Arc<Segment>,
    scan: Scan,
    decoder: D,
    /// Position the next record should have.
    expected: Position,
}

/// What replay found.
enum Step<T> {
    Record(Position, T),
    Lost {
        first: Position,
        last: Position,
        detail: String,
        cause: Cause,
    },
    /// The segment holds no more that counts.
    Over,
}

impl<T, D> LocalConsumer<T, D> {
    pub(crate) fn new(
        shared: Arc<Shared<T>>,
        id: u64,
        required: bool,
        make_decoder: Arc<dyn Fn() -> D + Send + Sync>,
    ) -> Self {
        LocalConsumer {
            shared,
            id,
            required,
            make_decoder,
            replay: None,
            passed_bytes: 0,
        }
    }
}

impl<T: Send + Sync + 'static, D: Decode<Item = T>> Consumer<T> for LocalConsumer<T, D> {
    fn next(&mut self, wait: Duration) -> Result<Delivery<T>, BusError> {
        let mut hub = self.shared.hub();
        let mut waited = false;
        loop {
            if let Some((position, item)) = hub.take(self.id) {
                drop(hub);
                if self.required {
                    self.shared.passed.notify_all();
                }
                self.replay = None;
                return Ok(Delivery::Record { position, item });
            }
            let durable = hub.durable;
            let Some(consumer) = hub.attached.get_mut(&self.id) else {
                return Ok(Delivery::Closed);
            };
            let delivered = consumer.delivered;
            if delivered < durable {
                drop(hub);
                return self.read(delivered, durable);
            }
            consumer.live = true;
            if hub.closed {
                return Ok(Delivery::Closed);
            }
            if waited || wait.is_zero() {
                return Ok(Delivery::Idle);
            }
            let (guard, timeout) = self
                .shared
                .arrived
                .wait_timeout(hub, wait)
                .unwrap_or_else(PoisonError::into_inner);
            hub = guard;
            waited = timeout.timed_out();
        }
    }

    fn stored_bytes(&self) -> (u64, u64) {
        let delivered = self.shared.hub().attached.get(&self.id).map_or(0, |c| c.delivered);
        let reading = self.replay.as_ref().map(|r| (&r.segment, r.scan.offset() - RECORDS_AT));
        let segments = self.shared.segments();
        let ahead = segments.iter().filter(|s| s.last() > delivered).map(|s| {
            let read = reading.filter(|r| Arc::ptr_eq(r.0, s)).map_or(0, |r| r.1);
            (s.end() - RECORDS_AT).saturating_sub(read)
        });
        (self.passed_bytes + reading.map_or(0, |r| r.1), ahead.sum())
    }
}

impl<T: Send + Sync + 'static, D: Decode<Item = T>> LocalConsumer<T, D> {
    /// The delivery after `delivered`, from the files.
    fn read(&mut self, delivered: Position, durable: Position) -> Result<Delivery<T>, BusError> {
        loop {
            let step = match &mut self.replay {
                Some(replay) if replay.expected <= delivered + 1 => replay.step(&self.shared, delivered, durable)?,
                _ => Step::Over,
            };
            match step {
                Step::Record(position, item) => {
                    self.delivered(position);
                    return Ok(Delivery::Record {
                        position,
                        item: Arc::new(item),
                    });
                }
                Step::Lost {
                    first,
                    last,
                    detail,
                    cause,
                } => {
                    self.delivered(last);
                    return Ok(Delivery::Damaged {
                        first,
                        last,
                        detail,
                        cause,
                    });
                }
                Step::Over => {
                    if let Some(lost) = self.open_segment(delivered, durable)? {
                        return Ok(lost);
                    }
                }
            }
        }
    }

    fn delivered(&self, position: Position) {
        if let Some(consumer) = self.shared.hub().attached.get_mut(&self.id) {
            consumer.delivered = position;
        }
        if self.required {
            self.shared.passed.notify_all();
        }
    }

    /// Goes to the segment of the next position; positions that no segment has are a delivery.
    fn open_segment(&mut self, delivered: Position, durable: Position) -> Result<Option<Delivery<T>>, BusError> {
        let wanted = delivered + 1;
        let segment = self.shared.segment_for(wanted);
        let first = segment.as_ref().map_or(durable + 1, |s| s.first());
        if let Some(segment) = segment.filter(|s| s.first() <= wanted) {
            if self.replay.as_ref().is_some_and(|r| Arc::ptr_eq(&r.segment, &segment)) {
                // it was read to its end, and counts further by now
                return Ok(None);
            }
            let mut decoder = (self.make_decoder)();
            let trailer = segment.trailer();
            let begun = catch_unwind(AssertUnwindSafe(|| decoder.begin(trailer.as_deref())));
            if begun.is_err() {
                tracing::error!(file = %shown(&segment.path), "the decoder panicked at the start of a segment");
                decoder = (self.make_decoder)();
                let _ = catch_unwind(AssertUnwindSafe(|| decoder.begin(None)));
            }
            let scan = Scan::new(
                &self.shared.host.clock,
                Arc::clone(&segment.file),
                segment.identity,
                RECORDS_AT,
            );
            self.passed_bytes += self.replay.as_ref().map_or(0, |r| r.scan.offset() - RECORDS_AT);
            self.replay = Some(Replay {
                expected: segment.first(),
                segment,
                scan,
                decoder,
            });
            return Ok(None);
        }
        let last = first - 1;
        let mut hub = self.shared.hub();
        let dropped = hub.dropped;
        let (last, cause) = if wanted <= dropped {
            (last.min(dropped), Cause::LeftBehind)
        } else {
            (last, Cause::Damage)
        };
        if cause == Cause::LeftBehind
            && let Some(name) = hub.attached.get(&self.id).map(|a| a.name.clone())
        {
            *hub.left_behind.entry(name).or_default() += last - wanted + 1;
        }
        drop(hub);
        self.replay = None;
        let file = shown(&self.shared.dir.join(Segment::file_name(wanted)));
        let detail = match cause {
            Cause::LeftBehind => format!("{file}: dropped by retention before this consumer read it"),
            _ => format!("{file}: the segment with positions {wanted} to {last} is missing or damaged"),
        };
        if cause == Cause::Damage {
            self.shared.report(Quarantined {
                file,
                offset: 0,
                length: 0,
                positions: Some((wanted, last)),
                since_ms: None,
                reason: "segment missing, or its header damaged (checksum)".to_owned(),
            });
        }
        self.delivered(last);
        Ok(Some(Delivery::Damaged {
            first: wanted,
            last,
            detail,
            cause,
        }))
    }
}

impl<D: Decode> Replay<D> {
    /// The next thing after `delivered`, up to `durable`; what comes before is decoded for its definitions only.
    fn step<T>(
        &mut self,
        shared: &Shared<T>,
        delivered: Position,
        durable: Position,
    ) -> Result<Step<D::Item>, BusError> {
        let last = self.segment.last().min(durable);
        let limit = self.segment.end();
        let mut hole: Option<(u64, u64)> = None;
        loop {
            if self.expected > last {
                return Ok(Step::Over);
            }
            let io = |error| BusError::Io(format!("{}: {error}", shown(&self.segment.path)));
            match self.scan.next(limit).map_err(io)? {
                Found::Record { header, .. } if header.kind == Kind::Trailer || header.position < self.expected => {}
                Found::Record {
                    header,
                    offset,
                    payload,
                } => {
                    let position = header.position;
                    let first = self.expected;
                    if position > first {
                        // the hole is told first; the record is met again
                        self.scan.go_to(offset);
                        let until = (position - 1).min(last);
                        self.expected = until + 1;
                        let (at, length) = hole.take().unwrap_or((offset, 0));
                        if until > delivered {
                            return Ok(self.lost(shared, first.max(delivered + 1), until, at, length));
                        }
                        continue;
                    }
                    self.expected += 1;
                    let decoder = &mut self.decoder;
                    let decoded = catch_unwind(AssertUnwindSafe(|| decoder.decode(payload)))
                        .unwrap_or_else(|_| Err("the decoder panicked".to_owned()));
                    match decoded {
                        Ok(item) if position > delivered => return Ok(Step::Record(position, item)),
                        Ok(_) => {}
                        Err(_) if position <= delivered => {}
                        Err(why) => {
                            shared.keep_copy(&self.segment, position, payload);
                            let file = shown(&self.segment.path);
                            let detail = format!("{file}: record {position} cannot be decoded: {why}");
                            shared.report(Quarantined {
                                file,
                                offset,
                                length: header.extent(),
                                positions: Some((position, position)),
                                since_ms: Some(self.segment.header.created_ms),
                                reason: format!("record cannot be decoded: {why}"),
                            });
                            let cause = Cause::Undecodable;
                            return Ok(Step::Lost {
                                first: position,
                                last: position,
                                detail,
                                cause,
                            });
                        }
                    }
                }
                Found::Hole { offset, length } => {
                    let (at, before) = hole.unwrap_or((offset, 0));
                    hole = Some((at, before + length));
                }
                Found::End { offset, rest } => {
                    let first = self.expected;
                    self.expected = last + 1;
                    // what is appended later starts here
                    self.scan.go_to(limit);
                    let (at, before) = hole.unwrap_or((offset, 0));
                    if last > delivered {
                        return Ok(self.lost(shared, first.max(delivered + 1), last, at, before + rest));
                    }
                }
            }
        }
    }

    fn lost<T>(&self, shared: &Shared<T>, first: Position, last: Position, offset: u64, length: u64) -> Step<D::Item> {
        let file = shown(&self.segment.path);
        let unread = self.scan.unread_in(offset, length);
        let (how, reason) = if unread {
            self.segment.set_unread();
            let reason = format!("{length} bytes at {offset} cannot be read (I/O error); the file is kept");
            ("cannot be read (I/O error)", reason)
        } else {
            let reason = format!("checksum mismatch over {length} bytes at {offset}");
            ("are damaged (checksum)", reason)
        };
        let detail = format!("{file}: {length} bytes at {offset} {how}; positions {first} to {last} are lost");
        shared.report(Quarantined {
            file,
            offset,
            length,
            positions: Some((first, last)),
            since_ms: Some(self.segment.header.created_ms),
            reason,
        });
        Step::Lost {
            first,
            last,
            detail,
            cause: Cause::Damage,
        }
    }
}

impl<T, D> Drop for LocalConsumer<T, D> {
    fn drop(&mut self) {
        let mut hub = self.shared.hub();
        hub.attached.remove(&self.id);
        drop(hub);
        self.shared.passed.notify_all();
    }
}
