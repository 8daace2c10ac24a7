//! Files that cannot be read, now or for good: nothing of theirs is taken for damage of the bytes, removed or written over.

use std::path::{Path, PathBuf};

use host::{
    Files,
    sim::{Dice, Failure, Faults, Machine, Operation},
};

use super::{Bench, DIR};
use crate::{Cause, local::frame::RECORDS_AT};

fn text(i: u64) -> String {
    format!("{} record {i}", "w".repeat((i * 911 % 6000) as usize))
}

/// Records in some segments, all closed or the last one killed.
fn fixture(machine: &Machine, dice: &mut Dice) -> u64 {
    let mut sent = 0;
    for _ in 0..1 + dice.below(3) {
        let mut bench = Bench::on(machine);
        for _ in 0..5 + dice.below(25) {
            sent += 1;
            bench.send(&text(sent)).unwrap();
        }
        if dice.one_in(2) {
            bench.close();
        }
        drop(bench);
        machine.files.kill();
    }
    sent
}

fn names(machine: &Machine) -> Vec<String> {
    let entries = machine.files.list(Path::new(DIR)).unwrap();
    entries
        .into_iter()
        .filter(|e| !e.is_dir && e.len > 0)
        .map(|e| e.name)
        .collect()
}

fn peek(machine: &Machine, path: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    machine.files.edit(path, |b| bytes.clone_from(b)).unwrap();
    bytes
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let machine = Machine::new(seed);
    let sent = fixture(&machine, &mut dice);
    let all_names = names(&machine);
    let name = all_names[dice.below(all_names.len() as u64) as usize].clone();
    let path = Path::new(DIR).join(&name);
    let is_segment = name.ends_with(".log");
    let before = peek(&machine, &path);
    let sector = !dice.one_in(3);
    if sector {
        let used = before.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1).max(1) as u64;
        let at = dice.below(used) / 512 * 512;
        machine.files.spoil(&path, at..at + 512).unwrap();
    } else {
        let error = [13, 24][dice.below(2) as usize];
        machine.files.refuse(&path, error, u64::MAX);
    }
    let context = format!("seed {seed}: {} of {name}", if sector { "a sector" } else { "an open" });

    if !sector && name == "log.id" && all_names.iter().all(|n| !n.ends_with(".log")) {
        return;
    }
    let mut bench = Bench::on(&machine);
    let all = bench.read(0);
    for (position, found) in &all.records {
        assert!(*found == text(*position), "{context}: wrong record at {position}");
    }
    let missing: Vec<u64> = (1..=sent)
        .filter(|p| !all.records.iter().any(|(at, _)| at == p))
        .collect();
    assert!(
        missing.iter().all(|p| all.lost(*p)),
        "{context}: silently lost {missing:?}"
    );
    if !missing.is_empty() {
        assert!(is_segment, "{context}: cost {missing:?}");
        let health = bench.parts.shared.health();
        let told = |q: &crate::Quarantined| q.file.contains(&name) && q.reason.contains("cannot be read");
        assert!(
            health.quarantined.iter().any(told),
            "{context}: {missing:?} missing, told is {:?}",
            health.quarantined
        );
    }
    if sector && is_segment {
        // a page holds a few records at most, and what lies behind it is read; that a record refers to a definition in
        // one of them is not of the log's making
        let unread = all.lost.iter().filter(|l| l.2 == Cause::Damage);
        let cost: u64 = unread.map(|l| l.1 - l.0 + 1).sum();
        assert!(cost <= 8, "{context}: one page cost {:?}", all.lost);
    }
    let next = bench.send("new writes work").unwrap();
    assert!(next > sent, "{context}: position {next} was given before");
    // everything is consumed; what was read whole may go, the rest stays
    bench.commit("store", next);
    for _ in 0..30 {
        let at = bench.send(&text(7)).unwrap();
        bench.commit("store", at);
    }
    bench.close();
    drop(bench);
    machine.files.kill();
    let kept: Vec<PathBuf> = [path.clone(), PathBuf::from(format!("{}.unread", path.display()))]
        .into_iter()
        .filter(|p| machine.files.exists(p))
        .collect();
    if is_segment && !missing.is_empty() {
        let after = kept.first().map(|p| peek(&machine, p));
        let from = RECORDS_AT as usize;
        assert!(
            after.is_some_and(|after| after.len() >= before.len() && after[from..before.len()] == before[from..]),
            "{context}: the file was changed or is gone"
        );
    }
    // and once more, with everything readable
    machine.files.refuse(&path, 0, 0);
    if machine.files.exists(&path) {
        machine.files.spoil(&path, 0..0).unwrap();
    }
    let again = Bench::on(&machine);
    assert!(
        again.parts.shared.hub().durable >= next,
        "{context}: positions went back"
    );
    assert!(again.read(next).lost.is_empty(), "{context}");
    for kept in kept.iter().filter(|_| is_segment && !missing.is_empty()) {
        assert!(machine.files.exists(kept), "{context}: removed at the start");
    }
}

#[test]
fn what_cannot_be_read_is_named_passed_over_and_kept() {
    for seed in super::simulation::seeds(400) {
        check(seed);
    }
}

#[test]
fn an_open_that_fails_for_a_while_costs_nothing() {
    let machine = Machine::new(5);
    let sent = fixture(&machine, &mut Dice(5));
    for name in names(&machine) {
        machine.files.refuse(&Path::new(DIR).join(name), 24, 4);
    }
    let bench = Bench::on(&machine);
    assert_eq!(bench.read(0).records.len() as u64, sent);
    assert!(
        bench.report().quarantined.is_empty(),
        "{:?}",
        bench.report().quarantined
    );
}

/// What a link that is reset answers for a moment is asked for again, and is no damage.
#[test]
fn reads_that_fail_for_a_moment_cost_no_record() {
    for seed in super::simulation::seeds(60) {
        let mut dice = Dice(seed);
        let machine = Machine::new(seed);
        let sent = fixture(&machine, &mut dice);
        // the first of a start is of the directory
        let at_start = dice.one_in(2);
        let from = dice.below(10) + if at_start { 3 } else { 1 };
        let failing = (from..from + 2).fold(Faults::none(), |f, n| f.and(Operation::Read, n, Failure::Io));
        if at_start {
            machine.files.plan(failing.clone());
        }
        let bench = Bench::on(&machine);
        if !at_start {
            machine.files.plan(failing);
        }
        let all = bench.read(0);
        assert_eq!(all.records.len() as u64, sent, "seed {seed}: {:?}", all.lost);
        assert!(
            bench
                .parts
                .shared
                .health()
                .quarantined
                .iter()
                .all(|q| q.positions.is_none()),
            "seed {seed}"
        );
    }
}
