use std::collections::BTreeMap;

use host::sim::{Dice, Failure, Faults, Machine, Operation};

use super::{Bench, Bug, small};
use crate::{Position, Publish};

/// What the publishers know.
#[derive(Default)]
struct Ledger {
    acked: BTreeMap<Position, String>,
    /// Refused for sure.
    refused: Vec<String>,
    sent: u64,
}

impl Ledger {
    fn settle(&mut self, waiting: Vec<(String, Publish)>) -> Result<(), String> {
        for (text, publish) in waiting {
            match publish.outcome() {
                Some(Ok(position)) => {
                    if let Some(other) = self.acked.insert(position, text.clone()) {
                        return Err(format!("position {position} given to {other:?} and to {text:?}"));
                    }
                }
                Some(Err(error)) if error.to_string().contains("full") => self.refused.push(text),
                _ => {}
            }
        }
        Ok(())
    }

    /// Every acknowledged record once, in order, at its position; nothing that was never sent or was refused.
    fn check(&self, bench: &Bench, from: Position) -> Result<(), String> {
        let all = bench.read(from);
        if let Some(lost) = all.lost.first() {
            return Err(format!("a loss is told without damage: {lost:?}"));
        }
        let mut found = BTreeMap::new();
        for (position, text) in &all.records {
            let number = text.rsplit(' ').next().and_then(|n| n.parse::<u64>().ok());
            if number.is_none_or(|n| n >= self.sent) || self.refused.contains(text) {
                return Err(format!("phantom at {position}: {text:?}"));
            }
            if let Some(before) = found.insert(text.clone(), *position) {
                return Err(format!("{text:?} is at {before} and at {position}"));
            }
        }
        for (position, text) in self.acked.range(from + 1..) {
            if found.get(text) != Some(position) {
                return Err(format!(
                    "{text:?} was acknowledged at {position}, found at {:?}",
                    found.get(text)
                ));
            }
        }
        let damage = &bench.report().quarantined;
        if let Some(lost) = damage.iter().find(|q| q.positions.is_some()) {
            return Err(format!("damage is told without damage: {lost:?}"));
        }
        Ok(())
    }
}

fn plan(dice: &mut Dice) -> Faults {
    let mut faults = Faults::none();
    for _ in 0..dice.below(3) {
        let on = [
            Operation::Write,
            Operation::Sync,
            Operation::SyncDir,
            Operation::Entry,
            Operation::Resize,
        ];
        let on = on[dice.below(5) as usize];
        let failure = [Failure::Io, Failure::NoSpace, Failure::Short][dice.below(3) as usize];
        let failure = if on == Operation::Sync { Failure::Io } else { failure };
        faults = faults.and(on, 1 + dice.below(12), failure);
    }
    if dice.one_in(2) {
        faults = faults.and(Operation::Change, 1 + dice.below(60), Failure::Stop);
    }
    faults
}

/// One life after another of one log, by one seed.
fn live(seed: u64, bug: Option<Bug>) -> Result<Ledger, String> {
    let mut dice = Dice(seed);
    let machine = Machine::new(dice.next());
    let mut ledger = Ledger::default();
    let mut committed = 0;
    for life in 0..2 + dice.below(4) {
        let mut settings = small();
        settings.max_bytes = 64 * 1024 * (3 + dice.below(6));
        settings.known_position = committed;
        if dice.one_in(4) {
            machine.files.set_capacity(Some(64 * 1024 * (2 + dice.below(10))));
        } else {
            machine.files.set_capacity(None);
        }
        let mut bench = Bench::open(&machine.host(), settings);
        ledger
            .check(&bench, committed)
            .map_err(|e| format!("seed {seed}, life {life}: {e}"))?;
        bench.writer().bug = bug;
        if !dice.one_in(3) {
            machine.files.plan(plan(&mut dice));
        }
        for _ in 0..dice.below(25) {
            let waiting: Vec<_> = (0..dice.below(5))
                .map(|_| {
                    let filler = "word ".repeat(dice.below(4) as usize) + &"y".repeat(dice.below(9000) as usize);
                    let text = format!("{filler} record {}", ledger.sent);
                    ledger.sent += 1;
                    let publish = bench.queue(&text);
                    (text, publish)
                })
                .collect();
            bench.run();
            ledger.settle(waiting)?;
            if dice.one_in(6) {
                let durable = bench.parts.shared.hub().durable;
                committed = committed.max(dice.below(durable + 1));
                bench.commit("store", committed);
            }
        }
        if dice.one_in(3) {
            bench.close();
        }
        drop(bench);
        if dice.one_in(2) {
            machine.files.kill()
        } else {
            machine.files.crash()
        }
    }
    machine.files.set_capacity(None);
    let mut bench = Bench::open(
        &machine.host(),
        super::LocalSettings {
            known_position: committed,
            ..small()
        },
    );
    ledger
        .check(&bench, committed)
        .map_err(|e| format!("seed {seed}, at the end: {e}"))?;
    let next = bench
        .send("it goes on record 0")
        .map_err(|e| format!("seed {seed}: not writable afterwards: {e}"))?;
    if ledger.acked.keys().next_back().is_some_and(|last| next <= *last) {
        return Err(format!("seed {seed}: position {next} given again"));
    }
    Ok(ledger)
}

/// `OVERSEER_SEED=n` runs one, `OVERSEER_SEEDS=n` as many.
pub(super) fn seeds(default: u64) -> std::ops::Range<u64> {
    let number = |name| std::env::var(name).ok().and_then(|n| n.parse().ok());
    match number("OVERSEER_SEED") {
        Some(seed) => seed..seed + 1,
        None => 0..number("OVERSEER_SEEDS").unwrap_or(default),
    }
}

#[test]
fn acknowledged_records_survive_kills_power_loss_failing_disks_and_full_ones() {
    let (mut acked, mut sent) = (0, 0);
    for seed in seeds(3000) {
        let ledger = live(seed, None).unwrap_or_else(|e| panic!("{e}"));
        acked += ledger.acked.len() as u64;
        sent += ledger.sent;
    }
    assert!(
        acked * 3 > sent,
        "the faults leave something to check: {acked} of {sent} were acknowledged"
    );
    assert!(acked < sent);
}

#[test]
fn an_acknowledgement_before_the_sync_is_caught() {
    let caught = (0..60)
        .filter(|seed| live(*seed, Some(Bug::AckBeforeSync)).is_err())
        .count();
    assert!(caught > 10, "{caught} of 60");
}
