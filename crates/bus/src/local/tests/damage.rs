use std::path::{Path, PathBuf};

use host::{
    Files,
    sim::{Dice, Machine},
};
use proptest::prelude::*;

use super::{Bench, DIR, small};
use crate::{Cause, Position, local::LocalSettings};

#[derive(Clone, Copy, Debug)]
enum Harm {
    Flip,
    Garbage,
    Zero,
    Cut,
    CutTail,
    Empty,
    Append,
    Delete,
}

const HARMS: [Harm; 8] = [
    Harm::Flip,
    Harm::Garbage,
    Harm::Zero,
    Harm::Cut,
    Harm::CutTail,
    Harm::Empty,
    Harm::Append,
    Harm::Delete,
];

fn text(i: u64) -> String {
    format!("{} record {i}", "q".repeat((i * 911 % 6000) as usize))
}

/// A log of some segments, stopped cleanly or killed.
fn fixture(machine: &Machine, dice: &mut Dice) -> Position {
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

fn hurt(machine: &Machine, dice: &mut Dice, path: &Path, harm: Harm) {
    if matches!(harm, Harm::Delete) {
        machine.files.remove(path).unwrap();
        return;
    }
    machine
        .files
        .edit(path, |bytes| {
            let used = bytes.iter().rposition(|b| *b != 0).map_or(0, |i| i + 1).max(1);
            let at = dice.below(used as u64) as usize;
            match harm {
                Harm::Flip => bytes[at] ^= 1 << dice.below(8),
                Harm::Garbage => bytes[at..used.min(at + 64)]
                    .iter_mut()
                    .for_each(|b| *b = dice.next() as u8),
                Harm::Zero => {
                    let page = at / 4096 * 4096;
                    bytes[page..used.min(page + 4096)].fill(0);
                }
                Harm::Cut => bytes.truncate(at),
                Harm::CutTail => bytes.truncate(used - 1 - dice.below(used.min(64) as u64) as usize),
                Harm::Empty => bytes.clear(),
                Harm::Append => {
                    bytes.truncate(used);
                    bytes.extend((0..dice.below(4096)).map(|_| dice.next() as u8));
                }
                Harm::Delete => {}
            }
        })
        .unwrap();
}

fn check(seed: u64) {
    let mut dice = Dice(seed);
    let machine = Machine::new(seed);
    let sent = fixture(&machine, &mut dice);
    let files: Vec<PathBuf> = machine
        .files
        .list(Path::new(DIR))
        .unwrap()
        .into_iter()
        .filter(|e| !e.is_dir && e.len > 0)
        .map(|e| Path::new(DIR).join(e.name))
        .collect();
    let path = files[dice.below(files.len() as u64) as usize].clone();
    let harm = HARMS[dice.below(8) as usize];
    hurt(&machine, &mut dice, &path, harm);
    let context = format!("seed {seed}: {harm:?} of {}", path.display());

    let mut bench = Bench::on(&machine);
    let all = bench.read(0);
    for (position, found) in &all.records {
        assert!(
            *found == text(*position),
            "{context}: wrong record at {position}: {} bytes",
            found.len()
        );
    }
    let missing: Vec<_> = (1..=sent)
        .filter(|p| !all.records.iter().any(|(at, _)| at == p))
        .collect();
    assert!(
        missing.iter().all(|p| all.lost(*p)),
        "{context}: silently lost: {missing:?}"
    );
    if !missing.is_empty() {
        let health = bench.parts.shared.health();
        assert!(
            health.quarantined.iter().any(|q| q.file == path.display().to_string()),
            "{context}: {missing:?} lost, reported is {:?}",
            health.quarantined
        );
    }
    let is_segment = path.extension().is_some_and(|e| e == "log");
    assert!(
        is_segment || missing.is_empty(),
        "{context}: a derived file cost records: {missing:?}"
    );
    if matches!(harm, Harm::Flip) {
        // what refers to a definition in the lost record is not of the log's making
        let damaged: u64 = all
            .lost
            .iter()
            .filter(|l| l.2 == Cause::Damage)
            .map(|l| l.1 - l.0 + 1)
            .sum();
        assert!(damaged <= 1, "{context}: one bit cost {:?}", all.lost);
    }
    let next = bench.send("new writes work").unwrap();
    assert!(next > sent, "{context}: position {next} was given before");
    bench.close();
    drop(bench);
    machine.files.kill();
    let again = Bench::on(&machine);
    let all = again.read(0);
    assert_eq!(
        all.records.last().map(|(p, t)| (*p, t.as_str())),
        Some((next, "new writes work")),
        "{context}"
    );
    assert!(
        missing.iter().all(|p| all.lost(*p)),
        "{context}: forgotten after a restart: {missing:?}"
    );
}

#[test]
fn one_damaged_file_costs_little_is_reported_and_never_gives_a_wrong_record() {
    for seed in super::simulation::seeds(1500) {
        check(seed);
    }
}

#[test]
fn records_the_store_has_seen_and_the_log_has_not_are_told() {
    let machine = Machine::new(1);
    let mut bench = Bench::on(&machine);
    for i in 1..=10 {
        bench.send(&text(i)).unwrap();
    }
    drop(bench);
    machine.files.kill();
    for entry in machine.files.list(Path::new(DIR)).unwrap() {
        machine.files.remove(&Path::new(DIR).join(entry.name)).unwrap();
    }
    let mut bench = Bench::open(
        &machine.host(),
        LocalSettings {
            known_position: 10,
            ..small()
        },
    );
    assert_eq!(
        bench.report().quarantined.iter().find_map(|q| q.positions),
        Some((1, 10))
    );
    assert_eq!(bench.send("next"), Ok(11));
    assert_eq!(bench.read(10).texts(), ["next"]);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn any_bytes_as_files_open_and_read_without_a_panic(
        segments in prop::collection::vec((1u64..50, prop::collection::vec(any::<u8>(), 0..20_000)), 0..3),
        id in prop::collection::vec(any::<u8>(), 0..60),
        positions in prop::collection::vec(any::<u8>(), 0..9000),
    ) {
        let machine = Machine::new(7);
        machine.files.create_dir_all(Path::new(DIR)).unwrap();
        let put = |name: String, bytes: &[u8]| machine.files.write_atomic(&Path::new(DIR).join(name), bytes).unwrap();
        for (first, bytes) in &segments {
            put(format!("{first:020}.log"), bytes);
        }
        put("log.id".to_owned(), &id);
        put("positions".to_owned(), &positions);
        put("00.spare".to_owned(), &positions);
        let mut bench = Bench::on(&machine);
        prop_assert!(bench.read(0).records.is_empty());
        bench.send("still writable").unwrap();
        let all = bench.read(0);
        prop_assert_eq!(all.texts(), ["still writable"]);
    }

    /// Valid framing everywhere, then bytes thrown at it: deeper than pure noise gets.
    #[test]
    fn scattered_bytes_in_a_segment_never_panic_or_forge(
        throws in prop::collection::vec((0usize..65_536, any::<u8>()), 1..40),
        seed: u64,
    ) {
        let machine = Machine::new(seed);
        let mut bench = Bench::on(&machine);
        for i in 1..=12 {
            bench.send(&text(i)).unwrap();
        }
        drop(bench);
        machine.files.kill();
        let path = Path::new(DIR).join(format!("{:020}.log", 1));
        machine.files.edit(&path, |bytes| throws.iter().for_each(|(at, b)| {
            let at = *at % bytes.len();
            bytes[at] = *b;
        })).unwrap();
        let bench = Bench::on(&machine);
        for (position, found) in bench.read(0).records {
            prop_assert!(found == text(position), "wrong record at {}", position);
        }
    }
}

fn verified(machine: &Machine, known: Position) -> crate::local::verify::Report {
    crate::local::verify::verify(
        &machine.host(),
        Path::new(DIR),
        known,
        super::Reader::default,
        &mut |_| {},
    )
    .unwrap()
}

/// What a check that changes nothing finds is what replay then cannot deliver.
#[test]
fn a_check_finds_what_replay_will_miss() {
    for seed in 0..600 {
        let machine = Machine::new(seed);
        let mut dice = Dice(seed ^ 0x5eed);
        let sent = fixture(&machine, &mut dice);
        let before = verified(&machine, 0);
        assert_eq!(before.findings, [], "seed {seed}: a whole log is clean");
        assert_eq!((before.records, before.last), (sent, sent), "seed {seed}");
        let names = machine.files.list(Path::new(DIR)).unwrap();
        let segments: Vec<&str> = names
            .iter()
            .map(|e| e.name.as_str())
            .filter(|n| n.ends_with(".log"))
            .collect();
        let name = segments[dice.below(segments.len() as u64) as usize];
        let harm = HARMS[dice.below(HARMS.len() as u64) as usize];
        hurt(&machine, &mut dice, &PathBuf::from(DIR).join(name), harm);
        let report = verified(&machine, 0);
        let bench = Bench::on(&machine);
        let replayed = bench.read(0);
        for (first, last, ..) in &replayed.lost {
            assert!(
                report
                    .findings
                    .iter()
                    .any(|f| f.positions.is_some_and(|(a, b)| a <= *last && *first <= b)),
                "seed {seed}, {harm:?} in {name}: {first} to {last} are lost, found {:?}",
                report.findings
            );
        }
        if replayed.lost.is_empty() && replayed.records.len() as u64 == sent {
            assert!(
                report.findings.iter().all(|f| f.positions.is_none()),
                "seed {seed}, {harm:?} in {name}: nothing is lost, found {:?}",
                report.findings
            );
        }
    }
}
