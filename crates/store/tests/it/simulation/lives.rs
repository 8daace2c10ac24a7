//! One life after another of a log and an engine on one machine, by one seed.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bus::local::{LocalSettings, SteppedLog};
use bus::{BusError, Consumer, Delivery, Log, Position, Publish};
use host::sim::{Dice, Failure, Faults, Machine, Operation};
use host::{Clock, Host};
use model::{
    Budget, Hints, Histogram, Matcher, Record, ResetHint, SampleSource, SelectRequest, SeriesBlock, TenantId,
    TimeRange, Want,
};
use series::engine::{Engine, EngineSettings, FileBounds};
use series::retention::{FOR_EVER, RollupKeep};
use series::table::SeriesTable;
use store::{CONSUMER, RecordCodec, RecordDecode};

use super::liar::Lie;
use super::world::{self, Found, Spec, TENANTS, Value, World};

const LOG_DIR: &str = "/data/log";
const ENGINE_DIR: &str = "/data/series";
const DAY_MS: i64 = 86_400_000;

/// What a seed came to.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) sent: u64,
    pub(crate) acked: u64,
    pub(crate) reads: u64,
    pub(crate) refused_reads: u64,
    pub(crate) seals: u64,
    pub(crate) merges: u64,
    pub(crate) failures: u64,
    pub(crate) expired: u64,
    pub(crate) rolled: u64,
    pub(crate) jumps: u64,
    /// Times that there were no descriptors left.
    pub(crate) starved: u64,
}

/// What publishers and readers know, over all lives.
struct Known {
    specs: BTreeMap<u64, Spec>,
    acked: BTreeMap<Position, u64>,
    /// Refused for sure.
    refused: BTreeSet<u64>,
    /// What stands at each position, as far as it was delivered.
    at: BTreeMap<Position, u64>,
    seen: BTreeMap<u64, Position>,
    world: World,
    /// The world is that of the log up to here.
    applied: Position,
    now: i64,
    /// Samples are kept for so many ms; older ones may be there or not.
    retention_ms: Option<i64>,
    /// From here on everything must be there.
    horizon_ms: i64,
    /// Reads are among what fails. A running value that the device does not give starts anew then, which the world cannot
    /// know: there are no deltas.
    reads_fail: bool,
    /// Rollups are made; all days are long over.
    rolls: bool,
    /// Samples lie in days of years, and late ones come for all of them.
    years: bool,
    /// The clock jumps by more than a year, and back.
    jumps: bool,
    /// Files that may be open at once.
    handles: usize,
    /// Expiry may go by the clock alone.
    trusted: bool,
    /// Bounds of merges and open files, scaled down.
    bounds: Bounds,
    /// Days of all samples that were ever sent.
    days: BTreeSet<i64>,
    /// What the clock and the running time agree on is this and twice what ran since.
    sure_ms: i64,
    tally: Tally,
}

/// Bounds of an engine, small enough to be met.
#[derive(Clone, Copy)]
struct Bounds {
    inputs: usize,
    outputs: usize,
    merge_files: usize,
    open_files: usize,
}

impl Bounds {
    fn random(dice: &mut Dice) -> Bounds {
        let inputs = 2 + dice.below(6) as usize;
        Bounds {
            inputs,
            outputs: 2 + dice.below(20) as usize,
            merge_files: inputs.min(2 + dice.below(7) as usize),
            open_files: 2 + dice.below(8) as usize,
        }
    }

    /// Files that the whole process, its log included, gets along with.
    fn handles(self) -> usize {
        2 * self.open_files + 16
    }
}

type StoreLog = SteppedLog<RecordCodec, RecordDecode>;

struct Life<'a> {
    known: &'a mut Known,
    machine: &'a Machine,
    table: Arc<SeriesTable>,
    engine: Engine,
    log: StoreLog,
    consumer: Box<dyn Consumer<Record>>,
    /// Something was planned to fail, or the disk is small.
    faulty: bool,
    /// The log could not be read on.
    stuck: bool,
}

fn faults(dice: &mut Dice, reads_fail: bool) -> Faults {
    let mut faults = Faults::none();
    for _ in 0..dice.below(4) {
        let on = [
            Operation::Write,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Entry,
            Operation::Resize,
            Operation::Read,
        ][dice.below(if reads_fail { 6 } else { 5 }) as usize];
        let failure = match on {
            Operation::Sync | Operation::Read => Failure::Io,
            _ => [Failure::Io, Failure::NoSpace, Failure::Short][dice.below(3) as usize],
        };
        faults = faults.and(on, 1 + dice.below(25), failure);
    }
    if dice.one_in(2) {
        faults = faults.and(Operation::Change, 1 + dice.below(90), Failure::Stop);
    }
    faults
}

/// Runs one seed; `lie` is what the machine does not keep. An error says what was found.
pub(crate) fn live(seed: u64, lie: Option<Lie>) -> Result<Tally, String> {
    let mut dice = Dice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ 0x51b1);
    let machine = Machine::new(dice.next());
    let host = match lie {
        Some(lie) => lie.told_by(machine.host()),
        None => machine.host(),
    };
    let mut known = Known {
        specs: BTreeMap::new(),
        acked: BTreeMap::new(),
        refused: BTreeSet::new(),
        at: BTreeMap::new(),
        seen: BTreeMap::new(),
        world: World::default(),
        applied: 0,
        now: 4,
        retention_ms: None,
        horizon_ms: i64::MIN,
        reads_fail: dice.one_in(2),
        rolls: seed.is_multiple_of(3),
        years: seed % 4 == 1,
        jumps: dice.one_in(2),
        trusted: dice.one_in(3),
        bounds: Bounds::random(&mut dice),
        days: BTreeSet::new(),
        handles: usize::MAX,
        sure_ms: 0,
        tally: Tally::default(),
    };
    if known.rolls {
        machine.clock.advance(Duration::from_secs(4 * 86_400));
    }
    known.sure_ms = machine.clock.now_ms() - 2 * machine.clock.monotonic().as_millis() as i64;
    // a running value may expire as well: only where there are no deltas
    if known.reads_fail && dice.one_in(2) {
        known.retention_ms = Some(match known.years {
            true => DAY_MS * (1 + dice.below(20)) as i64,
            false => 1000 * (60 + dice.below(900)) as i64,
        });
    }
    // nothing can be configured to be kept for less than a day
    known.jumps &= known.retention_ms.is_none_or(|kept| kept >= DAY_MS);
    known.handles = known.bounds.handles();
    machine.files.set_handles_max(Some(known.handles));
    for number in 0..1 + dice.below(4) {
        let at = |e: String| format!("seed {seed}, life {number}: {e}");
        let small = dice.one_in(5);
        machine
            .files
            .set_capacity(small.then(|| machine.files.used_bytes() + 64 * 1024 * (1 + dice.below(8))));
        let early = dice.one_in(5);
        if early {
            machine.files.plan(faults(&mut dice, known.reads_fail));
        }
        let mut life = match Life::begin(&mut known, &machine, &host, small || early, lie) {
            Ok(life) => life,
            Err(e) if small || early => {
                // it does not start, which is an answer, too
                drop(e);
                machine.files.kill();
                continue;
            }
            Err(e) => return Err(at(e)),
        };
        if !early && !dice.one_in(3) {
            machine.files.plan(faults(&mut dice, life.known.reads_fail));
            life.faulty = true;
        }
        life.run(&mut dice).map_err(at)?;
        if dice.one_in(4) {
            let _ = life.engine.seal();
            let _ = life.log.close(Duration::ZERO);
        }
        drop(life);
        machine.files.set_handles_max(Some(known.handles));
        match dice.one_in(3) {
            true => machine.files.kill(),
            false => machine.files.crash(),
        }
    }
    machine.files.set_capacity(None);
    let at = |e: String| format!("seed {seed}, at the end: {e}");
    let mut life = Life::begin(&mut known, &machine, &host, false, lie).map_err(at)?;
    life.deliver().map_err(at)?;
    life.complete().map_err(at)?;
    life.check(TimeRange::ALL).map_err(at)?;
    // it goes on, and what follows is seen, too
    for _ in 0..3 {
        life.publish(&mut dice).map_err(at)?;
    }
    life.engine.seal().map_err(|e| at(e.to_string()))?;
    life.engine.compact_all().map_err(|e| at(e.to_string()))?;
    life.merged().map_err(at)?;
    life.complete().map_err(at)?;
    life.check(TimeRange::ALL).map_err(at)?;
    Ok(known.tally)
}

impl<'a> Life<'a> {
    fn begin(
        known: &'a mut Known,
        machine: &'a Machine,
        host: &Host,
        faulty: bool,
        lie: Option<Lie>,
    ) -> Result<Self, String> {
        let table = Arc::new(SeriesTable::new([7; 16]));
        let settings = EngineSettings {
            retention_ms: known.retention_ms,
            clock_confirmed_ms: (known.trusted || lie == Some(Lie::Clock)).then_some(i64::MAX),
            merge_inputs_max: known.bounds.inputs,
            merge_outputs_max: known.bounds.outputs,
            merge_files: known.bounds.merge_files,
            open_files_max: known.bounds.open_files,
            rollups: RollupKeep {
                minute_ms: known.rolls.then_some(FOR_EVER),
                hour_ms: known.rolls.then_some(FOR_EVER),
            },
            bounds: match known.rolls {
                // every few series begin another part of a file
                true => FileBounds {
                    frame_bytes: 60,
                    frame_series: 3,
                    extras_bytes: 40,
                    page_bytes: 300,
                },
                false => FileBounds::default(),
            },
            ..EngineSettings::default()
        };
        let (engine, report) = Engine::open(host.clone(), Path::new(ENGINE_DIR), settings, Arc::clone(&table))
            .map_err(|e| e.to_string())?;
        if !faulty && (!report.quarantined.is_empty() || report.rebuilt) {
            return Err(format!("the engine tells of damage without damage: {report:?}"));
        }
        let settings = LocalSettings {
            segment_bytes: 64 << 10,
            initial_bytes: 64 << 10,
            max_bytes: 1 << 20,
            required: vec![CONSUMER.to_owned()],
            known_position: report.applied,
            ..LocalSettings::new("samples")
        };
        let readers = Arc::clone(&table);
        let (log, report) = SteppedLog::open(
            host,
            Path::new(LOG_DIR),
            settings,
            RecordCodec::new(Arc::clone(&table)),
            move || RecordDecode::new(Arc::clone(&readers)),
        )
        .map_err(|e| e.to_string())?;
        // a file of the log that held no record may be gone with a crash
        let lost = report.quarantined.iter().find(|q| q.positions.is_some());
        if let Some(lost) = lost.filter(|_| !faulty) {
            return Err(format!("the log tells of damage without damage: {lost:?}"));
        }
        let consumer = log.consume(CONSUMER, engine.applied()).map_err(|e| e.to_string())?;
        Ok(Life {
            known,
            machine,
            table,
            engine,
            log,
            consumer,
            faulty,
            stuck: false,
        })
    }

    fn run(&mut self, dice: &mut Dice) -> Result<(), String> {
        self.deliver()?;
        for _ in 0..3 + dice.below(12) {
            if self.machine.files.stopped() {
                break;
            }
            self.known.now += dice.below(12) as i64;
            match dice.below(16) {
                0..=5 => self.publish(dice)?,
                6..=8 => {
                    let done = self.engine.seal().map(drop);
                    self.known.tally.seals += u64::from(done.is_ok());
                    self.may_fail(done)?;
                    self.log
                        .commit(CONSUMER, self.engine.sealed())
                        .map_err(|e| format!("commit: {e}"))?;
                    self.log.run();
                }
                9 => self.merge_step()?,
                13 => self.expire(world::time(self.known.now))?,
                14 => self.jump(dice)?,
                15 => self.few_handles(dice)?,
                10 => {
                    let done = self.engine.compact_all().map(drop);
                    self.known.tally.merges += u64::from(done.is_ok());
                    self.may_fail(done)?;
                }
                _ => {
                    let range = world::range(dice, self.known.now);
                    self.check(range)?;
                }
            }
        }
        Ok(())
    }

    /// The clock is a year ahead or behind for a while, and expiry looks at it.
    fn jump(&mut self, dice: &mut Dice) -> Result<(), String> {
        if !self.known.jumps {
            return Ok(());
        }
        let right = self.machine.clock.now_ms();
        let by = DAY_MS * (dice.below(900) as i64 - 400);
        self.machine.clock.jump_to_ms(right + by);
        self.known.tally.jumps += 1;
        self.expire(world::time(self.known.now) + by)?;
        self.merge_step()?;
        self.check(TimeRange::ALL)?;
        self.machine.clock.jump_to_ms(right);
        Ok(())
    }

    /// Others take the descriptors for a while: what needs one fails, and goes well afterwards.
    fn few_handles(&mut self, dice: &mut Dice) -> Result<(), String> {
        let before = self.machine.files.handles();
        let faulty = std::mem::replace(&mut self.faulty, true);
        self.machine
            .files
            .set_handles_max(Some(before.saturating_sub(4) + dice.below(8) as usize));
        let sealed = self.engine.seal().map(drop);
        self.may_fail(sealed)?;
        self.merge_step()?;
        let range = world::range(dice, self.known.now);
        self.check(range)?;
        self.machine.files.set_handles_max(Some(self.known.handles));
        self.faulty = faulty;
        self.known.tally.starved += 1;
        Ok(())
    }

    fn merge_step(&mut self) -> Result<(), String> {
        self.machine.clock.advance(Duration::from_secs(6));
        let done = self.engine.compact_step();
        self.known.tally.merges += u64::from(matches!(done, Ok(Some(_))));
        self.may_fail(done.map(drop))
    }

    /// There is nothing left to merge, and no merge was in vain.
    fn merged(&self) -> Result<(), String> {
        let again = self.engine.compact_all().map_err(|e| e.to_string())?;
        let vain = self.engine.stats().merges_in_vain;
        match (again.files_in, vain) {
            (0, 0) => Ok(()),
            _ => Err(format!("merging goes on after its end: {again:?}, {vain} in vain")),
        }
    }

    /// Samples from here on must survive a look at this clock: of older ones as many later days have samples as they are kept,
    /// or they are past their time by the running time, too.
    fn may_go_before(&self, now: i64, retention: i64) -> i64 {
        let by_clock = now - retention;
        if self.known.trusted {
            return by_clock;
        }
        let later = (retention + DAY_MS - 1) / DAY_MS;
        let mut days = self.known.days.range(..=now.div_euclid(DAY_MS)).rev();
        let by_days = days.nth(later as usize - 1).map_or(i64::MIN, |day| day * DAY_MS);
        let ran = 2 * self.machine.clock.monotonic().as_millis() as i64;
        by_clock.min(by_days.max(self.known.sure_ms + ran - retention))
    }

    fn expire(&mut self, now: i64) -> Result<(), String> {
        let Some(retention) = self.known.retention_ms else {
            return Ok(());
        };
        self.known.horizon_ms = self.known.horizon_ms.max(self.may_go_before(now, retention));
        for _ in 0..2 {
            let done = self.engine.expire(now);
            self.known.tally.expired += done.as_ref().map_or(0, |r| r.files as u64);
            self.may_fail(done.map(drop))?;
        }
        Ok(())
    }

    fn may_fail<E: std::fmt::Display>(&mut self, done: Result<(), E>) -> Result<(), String> {
        match done {
            Err(e) if !self.faulty && self.machine.files.capacity().is_none() => {
                Err(format!("failed for no reason: {e}"))
            }
            Err(_) => {
                self.known.tally.failures += 1;
                Ok(())
            }
            Ok(()) => Ok(()),
        }
    }

    /// A group of records, from queue to reader.
    fn publish(&mut self, dice: &mut Dice) -> Result<(), String> {
        let mut waiting: Vec<(u64, Publish)> = Vec::new();
        for _ in 0..1 + dice.below(4) {
            let number = self.known.tally.sent;
            self.known.tally.sent += 1;
            let large = dice.one_in(40);
            let (now, deltas) = (self.known.now, !self.known.reads_fail);
            let spec = Spec::random(dice, number, now, large, deltas, self.known.years);
            self.known.days.extend(spec.days());
            let record = spec.record(&self.table);
            self.known.specs.insert(number, spec);
            waiting.push((number, self.log.publish(Arc::new(record), 1000)));
        }
        self.log.run();
        for (number, publish) in waiting {
            match publish.outcome() {
                Some(Ok(position)) => {
                    if let Some(other) = self.known.acked.insert(position, number) {
                        return Err(format!("position {position} was given to {other} and to {number}"));
                    }
                    self.known.tally.acked += 1;
                }
                Some(Err(BusError::Full { .. } | BusError::Busy { .. } | BusError::TooLarge { .. })) => {
                    self.known.refused.insert(number);
                }
                Some(Err(_)) if self.faulty => {}
                other => return Err(format!("record {number} was published with {other:?}")),
            }
        }
        self.deliver()
    }

    /// What is durable reaches the engine.
    fn deliver(&mut self) -> Result<(), String> {
        while !self.stuck {
            match self.consumer.next(Duration::ZERO) {
                Ok(Delivery::Record { position, item }) => {
                    self.note(position, &item)?;
                    self.engine.apply(position, &item);
                }
                // a read that fails is taken for a bad sector; no seal may follow. Nothing can be read, either, when the
                // process was stopped while it started
                Ok(Delivery::Damaged { .. })
                    if self.faulty && self.known.reads_fail || self.machine.files.stopped() =>
                {
                    self.stuck = true;
                    return Ok(());
                }
                Ok(Delivery::Damaged {
                    first, last, detail, ..
                }) => {
                    return Err(format!(
                        "{first} to {last} are said to be lost without damage: {detail}"
                    ));
                }
                Ok(Delivery::Idle | Delivery::Closed) => return Ok(()),
                Err(_) if self.faulty => return Ok(()),
                Err(e) => return Err(format!("the log cannot be read: {e}")),
            }
        }
        Ok(())
    }

    /// A record was delivered: is it what stands there?
    fn note(&mut self, position: Position, record: &Record) -> Result<(), String> {
        let known = &mut *self.known;
        let number = Spec::number_of(record, &self.table)
            .filter(|n| known.specs.contains_key(n))
            .ok_or_else(|| format!("position {position} holds a record that nobody sent"))?;
        if known.specs[&number].record(&self.table) != *record && !has_nan(record) {
            return Err(format!("record {number} at {position} is not what was sent"));
        }
        if known.refused.contains(&number) {
            return Err(format!("record {number} was refused and is at {position}"));
        }
        if let Some(acked) = known.acked.get(&position).filter(|a| **a != number) {
            return Err(format!(
                "position {position} was acknowledged for {acked} and holds {number}"
            ));
        }
        if let Some(before) = known.seen.insert(number, position).filter(|p| *p != position) {
            return Err(format!("record {number} is at {before} and at {position}"));
        }
        if let Some(other) = known.at.insert(position, number).filter(|n| *n != number) {
            return Err(format!("position {position} held {other} and holds {number}"));
        }
        if position > known.applied {
            if position != known.applied + 1 {
                return Err(format!("after {} came {position}", known.applied));
            }
            known.world.apply(&known.specs[&number]);
            known.applied = position;
        }
        Ok(())
    }

    /// Everything acknowledged was delivered, and the engine has it.
    fn complete(&self) -> Result<(), String> {
        let (engine, known) = (self.engine.applied(), self.known.applied);
        if engine != known {
            return Err(format!("the engine has applied {engine}, the log held {known}"));
        }
        match self.known.acked.last_key_value() {
            Some((&last, number)) if last > known => Err(format!(
                "record {number} was acknowledged at {last}, the log ends at {known}"
            )),
            _ => Ok(()),
        }
    }

    /// A reader sees what the log says, or is told that it does not.
    fn check(&mut self, range: TimeRange) -> Result<(), String> {
        if self.engine.applied() < self.known.applied || self.engine.applied() < self.log.durable() {
            // replay stopped at a disk error: the store would not answer yet
            return match self.faulty {
                true => Ok(()),
                false => Err("replay is over and records are missing".to_owned()),
            };
        }
        let horizon = self.known.horizon_ms;
        if horizon > range.end_ms {
            // all of it may be gone
            return Ok(());
        }
        let range = TimeRange::new(range.start_ms.max(horizon), range.end_ms);
        let unsure = self.faulty || horizon > i64::MIN;
        for tenant in TENANTS {
            for want in [Want::Samples, Want::Last] {
                self.known.tally.reads += 1;
                let (found, warnings) = match read(&self.engine, tenant, range, want) {
                    Ok(found) => found,
                    Err(_) if self.faulty => {
                        self.known.tally.refused_reads += 1;
                        continue;
                    }
                    Err(e) => return Err(format!("a read failed: {e}")),
                };
                let mut expected = self.known.world.within(tenant, range);
                if want == Want::Last {
                    last_only(&mut expected);
                }
                if warnings.is_empty() && want == Want::Samples && self.known.rolls {
                    self.check_rolled(tenant, range)?;
                }
                if warnings.is_empty() {
                    compare(&expected, &found, unsure).map_err(|e| format!("{tenant:?} {range:?} {want:?}: {e}"))?;
                } else if !self.faulty {
                    return Err(format!("warnings without damage: {warnings:?}"));
                } else if want == Want::Samples {
                    self.no_phantom(tenant, &found)?;
                }
            }
        }
        Ok(())
    }

    /// What rollups say of the whole buckets in the range is what the samples say.
    fn check_rolled(&mut self, tenant: TenantId, range: TimeRange) -> Result<(), String> {
        for resolution in [60_000, 3_600_000] {
            let bucket = |at: i64| -(-at).div_euclid(resolution);
            let first = bucket(range.start_ms.max(0)) * resolution + 1;
            let last = range.end_ms.min(first + 100 * 86_400_000).div_euclid(resolution) * resolution;
            let range = TimeRange::new(first, last);
            if first > last {
                continue;
            }
            let hints = Hints {
                function: "max_over_time".to_owned(),
                aligned_ms: resolution,
                ..Hints::default()
            };
            let mut maxima: [BTreeMap<(String, i64), u64>; 2] = Default::default();
            let found = match read_with(&self.engine, tenant, range, &hints) {
                Ok((found, warnings, rolled)) if warnings.is_empty() => {
                    self.known.tally.rolled += rolled;
                    found
                }
                _ if self.faulty => continue,
                other => return Err(format!("reading rollups gave {other:?}")),
            };
            let expected = self.known.world.within(tenant, range);
            for (maxima, all) in maxima.iter_mut().zip([&expected, &found]) {
                for (labels, samples) in all {
                    for (&at, value) in samples {
                        let Value::Float(bits, _) = value else { continue };
                        let v = f64::from_bits(*bits);
                        if model::is_stale(v) {
                            continue;
                        }
                        let max = maxima.entry((labels.to_string(), bucket(at))).or_insert(*bits);
                        let before = f64::from_bits(*max);
                        if v > before || before.is_nan() {
                            *max = *bits;
                        }
                    }
                }
            }
            if maxima[0] != maxima[1] {
                return Err(format!(
                    "{tenant:?} {range:?}: rollups of {resolution} ms say otherwise: {maxima:?}"
                ));
            }
        }
        Ok(())
    }

    fn no_phantom(&self, tenant: TenantId, found: &Found) -> Result<(), String> {
        for (labels, samples) in found {
            let phantom = samples
                .iter()
                .find(|(at, v)| !self.known.world.had(tenant, labels, **at, v));
            if let Some((at, v)) = phantom {
                return Err(format!("{labels} never was {v:?} at {at}"));
            }
        }
        Ok(())
    }
}

fn has_nan(record: &Record) -> bool {
    matches!(record, Record::Batch(b) if b.floats.values.iter().any(|v| v.is_nan()))
}

fn last_only(found: &mut Found) {
    for samples in found.values_mut() {
        if let Some((at, value)) = samples.pop_last() {
            samples.clear();
            // it may come without its start time
            let value = match value {
                Value::Float(bits, _) => Value::Float(bits, 0),
                Value::Bucketed(h, _) => Value::Bucketed(h, 0),
            };
            samples.insert(at, value);
        }
    }
}

/// `unsure`: a histogram's predecessor may be out of reach or expired, and its hint another.
fn compare(expected: &Found, found: &Found, unsure: bool) -> Result<(), String> {
    if expected == found {
        return Ok(());
    }
    let none = BTreeMap::new();
    let names: BTreeSet<_> = expected.keys().chain(found.keys()).collect();
    for labels in names {
        let (e, f) = (
            expected.get(labels).unwrap_or(&none),
            found.get(labels).unwrap_or(&none),
        );
        let times: BTreeSet<_> = e.keys().chain(f.keys()).collect();
        if let Some(at) = times.into_iter().find(|at| !equal(e.get(at), f.get(at), unsure)) {
            return Err(format!(
                "{labels} at {at}: {:?} is right, found {:?}",
                e.get(at),
                f.get(at)
            ));
        }
    }
    Ok(())
}

fn equal(expected: Option<&Value>, found: Option<&Value>, unsure: bool) -> bool {
    let (Some(Value::Bucketed(e, _)), Some(Value::Bucketed(f, _))) = (expected, found) else {
        return expected == found;
    };
    let hint = |h: &Histogram, reset_hint| Histogram {
        reset_hint,
        ..h.clone()
    };
    e == f || unsure && hint(e, ResetHint::Unknown) == hint(f, ResetHint::Unknown)
}

fn read(engine: &Engine, tenant: TenantId, range: TimeRange, want: Want) -> Result<(Found, Vec<String>), String> {
    let hints = Hints {
        want,
        ..Hints::default()
    };
    read_with(engine, tenant, range, &hints).map(|(found, warnings, _)| (found, warnings))
}

/// The same with hints; and samples that rollups stood for.
fn read_with(
    engine: &Engine,
    tenant: TenantId,
    range: TimeRange,
    hints: &Hints,
) -> Result<(Found, Vec<String>, u64), String> {
    let want = hints.want;
    let budget = Budget::unlimited();
    let matchers = [Matcher::new("__name__", model::MatchOp::NotEqual, "").map_err(|e| e.to_string())?];
    let request = SelectRequest {
        tenant,
        matchers: &matchers,
        range,
        hints: hints.clone(),
    };
    let set = engine.select(&request, &budget).map_err(|e| e.to_string())?;
    let mut found = Found::new();
    let mut block = SeriesBlock::default();
    for i in 0..set.len() {
        set.read(i, &mut block, &budget).map_err(|e| e.to_string())?;
        let mut samples = BTreeMap::new();
        let start = |column: &[i64], k: usize| match want {
            Want::Last => 0,
            _ => column.get(k).copied().unwrap_or(0),
        };
        for (k, at) in block.at_ms.iter().enumerate() {
            samples.insert(*at, Value::Float(block.values[k].to_bits(), start(&block.start_ms, k)));
        }
        for (k, at) in block.histogram_at_ms.iter().enumerate() {
            let v = Value::Bucketed((*block.histograms[k]).clone(), start(&block.histogram_start_ms, k));
            if samples.insert(*at, v).is_some() {
                return Err(format!("{} has two samples at {at}", set.labels(i)));
            }
        }
        if samples.is_empty() {
            continue;
        }
        if found.insert(set.labels(i), samples).is_some() {
            return Err(format!("{} comes twice", set.labels(i)));
        }
    }
    Ok((found, set.warnings(), set.reads().rolled_samples))
}
