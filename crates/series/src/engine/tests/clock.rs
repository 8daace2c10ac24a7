//! A clock that jumps, ahead or back, loses nothing.

use std::time::Duration;

use host::sim::Machine;
use model::{Batch, Record};

use super::model_based::{DIR, TENANT, labels};
use crate::block::DAY_MS;
use crate::engine::{Engine, EngineSettings};
use crate::table::SeriesTable;

struct Site {
    machine: Machine,
    engine: Engine,
    table: std::sync::Arc<SeriesTable>,
}

impl Site {
    fn open(machine: Machine, confirmed_ms: Option<i64>) -> Site {
        let settings = EngineSettings {
            retention_ms: Some(30 * DAY_MS),
            clock_confirmed_ms: confirmed_ms,
            ..EngineSettings::default()
        };
        let table = std::sync::Arc::new(SeriesTable::new([7; 16]));
        let dir = std::path::Path::new(DIR);
        let (engine, report) = Engine::open(machine.host(), dir, settings, std::sync::Arc::clone(&table)).unwrap();
        assert!(report.quarantined.is_empty());
        Site { machine, engine, table }
    }

    fn now_ms(&self) -> i64 {
        self.machine.host().clock.now_ms()
    }

    /// A sample now, in a file of its day.
    fn sample(&self) {
        let mut batch = Batch::new(TENANT);
        let id = self.table.intern(TENANT, labels(1).as_bytes(), None).unwrap();
        batch.floats.push(id, self.now_ms(), 1.0, 0);
        self.engine.apply(self.engine.applied() + 1, &Record::Batch(batch));
        self.engine.seal().unwrap();
        self.engine.compact_all().unwrap();
    }

    /// Two looks at the clock; files that went, and that are held.
    fn expire(&self) -> (usize, usize) {
        let first = self.engine.expire(self.now_ms()).unwrap().files;
        let second = self.engine.expire(self.now_ms()).unwrap();
        (first + second.files, second.held)
    }

    fn files(&self) -> usize {
        self.engine.stats().files
    }

    fn day(&self) {
        self.machine.clock.advance(Duration::from_millis(DAY_MS as u64));
    }

    fn jump(&self, days: i64) {
        self.machine.clock.jump_to_ms(self.now_ms() + days * DAY_MS);
    }

    fn again(self, confirmed_ms: Option<i64>) -> Site {
        drop(self.engine);
        Site::open(self.machine, confirmed_ms)
    }
}

/// Some 40 days of samples, of which 31 or 32 are kept.
fn daily() -> Site {
    let site = Site::open(Machine::new(1), None);
    for _ in 0..40 {
        site.sample();
        site.expire();
        site.day();
    }
    site
}

#[test]
fn days_go_in_their_time() {
    let site = daily();
    assert!((31..=32).contains(&site.files()), "{} days", site.files());
}

#[test]
fn a_jump_ahead_takes_next_to_nothing_however_often_it_starts() {
    let mut site = daily();
    let before = site.files();
    site.jump(400);
    // the agent's own samples come with the wrong time
    site.sample();
    for _ in 0..20 {
        site = site.again(None);
        let (_, held) = site.expire();
        assert!(held >= before - 2, "{held} of {before} are held");
        // half an hour of running
        site.machine.clock.advance(Duration::from_secs(1800));
        site.expire();
    }
    assert!(site.files() >= before - 2, "{} of {before}", site.files());
    // put right, all goes on as if nothing had been
    site.jump(-400);
    site.expire();
    assert!(site.files() >= before - 2);
}

#[test]
fn a_clock_that_stays_ahead_takes_a_day_a_day() {
    let site = daily();
    let before = site.files();
    site.jump(400);
    site.expire();
    let held = site.files();
    assert!(held >= before - 2);
    for day in 1..=5 {
        site.day();
        site.expire();
        let gone = held - site.files();
        assert!(gone <= 2 * day + 1, "{gone} days of samples are gone after {day}");
    }
    assert!(site.files() < held, "it does go on");
}

#[test]
fn what_the_owner_confirms_goes_at_once() {
    let site = daily();
    site.jump(400);
    site.sample();
    assert!(site.expire().1 > 20);
    // up to a date in between: nothing of it is past its time then
    let until = site.now_ms() - 399 * DAY_MS;
    let site = site.again(Some(until));
    assert!(site.expire().1 > 20);
    let site = site.again(Some(i64::MAX));
    site.expire();
    assert_eq!((site.files(), site.expire()), (1, (0, 0)));
}

#[test]
fn a_jump_back_keeps_everything_and_takes_samples() {
    let site = daily();
    let before = site.files();
    site.jump(-4000);
    let site = site.again(None);
    assert_eq!((site.expire(), site.files()), ((0, 0), before));
    let newest = site.engine.newest_ms().unwrap();
    assert!(newest > site.now_ms() + 3000 * DAY_MS);
    site.sample();
    site.expire();
    assert_eq!(site.files(), before + 1);
    site.jump(4000);
    site.expire();
    assert!(site.files() >= before - 2);
}

#[test]
fn a_machine_that_was_off_for_long_catches_up_as_days_come() {
    let site = daily();
    let before = site.files();
    site.jump(60);
    let site = site.again(None);
    site.sample();
    site.expire();
    assert!(site.files() >= before - 1);
    for _ in 0..31 {
        site.day();
        site.sample();
        site.expire();
    }
    assert!((31..=33).contains(&site.files()), "{} days", site.files());
}
