use std::{path::Path, sync::Arc, time::Duration};

use host::{
    Files, Host,
    sim::{Failure, Faults, Machine, Operation},
};

use super::{Bench, DIR, Reader, Words, small};
use crate::{
    BusError, Cause, Consumer, Delivery, Log,
    local::{GROUP_RECORDS, LocalLog, LocalSettings, OpenError, commit},
};

fn open(host: &Host, settings: LocalSettings) -> LocalLog<Words, Reader> {
    LocalLog::open(host, Path::new(DIR), settings, Words::default(), Reader::default)
        .expect("the log opens")
        .0
}

#[test]
fn keeps_the_contract_on_a_simulated_machine() {
    let machine = Machine::new(1);
    crate::contract::check(|| Box::new(open(&machine.host(), small())));
}

#[test]
fn keeps_the_contract_on_this_machine() {
    let host = Host::real();
    let dir = std::env::temp_dir().join(format!("overseer-bus-{:016x}", host.random.u64()));
    crate::contract::check(|| {
        let opened = LocalLog::open(&host, &dir, small(), Words::default(), Reader::default);
        Box::new(opened.expect("the log opens").0)
    });
    std::fs::remove_dir_all(&dir).unwrap();
}

#[test]
fn a_second_owner_is_refused_until_the_first_is_gone() {
    let machine = Machine::new(1);
    let host = machine.host();
    let first = open(&host, small());
    let again = || LocalLog::open(&host, Path::new(DIR), small(), Words::default(), Reader::default);
    assert!(matches!(again(), Err(OpenError::Locked { .. })));
    drop(first);
    again().unwrap();
}

#[test]
fn settings_that_cannot_work_are_named() {
    let machine = Machine::new(1);
    for (settings, field) in [
        (
            LocalSettings {
                initial_bytes: 1,
                ..small()
            },
            "initial_bytes",
        ),
        (
            LocalSettings {
                segment_bytes: 1,
                ..small()
            },
            "segment_bytes",
        ),
        (
            LocalSettings {
                max_bytes: 1,
                ..small()
            },
            "max_bytes",
        ),
    ] {
        let opened = LocalLog::open(
            &machine.host(),
            Path::new(DIR),
            settings,
            Words::default(),
            Reader::default,
        );
        assert!(
            matches!(opened, Err(OpenError::Setting { field: f, .. }) if f == field),
            "{field}"
        );
    }
}

#[test]
fn a_queue_at_its_bound_says_busy() {
    let machine = Machine::new(1);
    let mut bench = Bench::on(&machine);
    let waiting: Vec<_> = (0..GROUP_RECORDS)
        .map(|i| bench.queue(&format!("record {i}")))
        .collect();
    assert!(matches!(
        bench.queue("one more").outcome(),
        Some(Err(BusError::Busy { .. }))
    ));
    bench.run();
    assert!(waiting.iter().all(|p| matches!(p.outcome(), Some(Ok(_)))));
    assert_eq!(bench.send("one more"), Ok(GROUP_RECORDS as u64 + 1));
    // one group, one write, one sync
    machine.files.plan(Faults::none());
    let waiting: Vec<_> = (0..10).map(|i| bench.queue(&format!("record {i}"))).collect();
    bench.run();
    drop(waiting);
    assert_eq!(
        (
            machine.files.count(Operation::Sync),
            machine.files.count(Operation::Write)
        ),
        (1, 2)
    );
}

#[test]
fn segments_roll_are_recycled_and_the_spares_can_be_given_back() {
    let machine = Machine::new(1);
    let mut bench = Bench::on(&machine);
    for i in 0..40 {
        bench.send(&format!("{}{i}", "z".repeat(8000))).unwrap();
    }
    assert!(bench.parts.shared.segments().len() >= 4);
    bench.commit("store", 40);
    assert_eq!(bench.parts.shared.segments().len(), 1, "all but the one being written");
    let spares = || {
        machine
            .files
            .list(Path::new(DIR))
            .unwrap()
            .iter()
            .filter(|e| e.name.ends_with(".spare"))
            .count()
    };
    assert_eq!(spares(), 2);
    for i in 40..60 {
        bench.send(&format!("{}{i}", "z".repeat(8000))).unwrap();
    }
    assert!(spares() < 2, "spares are used");
    assert_eq!(bench.read(40).records.len(), 20);
    let (promise, _) = crate::Publish::pair();
    bench.parts.shared.queue().without_spares.push(promise);
    bench.run();
    assert_eq!(spares(), 0);
    bench.close();
    drop(bench);
    machine.files.kill();
    let bench = Bench::on(&machine);
    assert_eq!(bench.report().quarantined, []);
    assert_eq!(bench.read(40).records.len(), 20);
    // what was dropped is told as such, not as damage
    let early = bench.read(0);
    assert!(
        early.lost.iter().all(|(_, _, cause, _)| *cause == Cause::LeftBehind),
        "{:?}",
        early.lost
    );
}

#[test]
fn a_full_log_refuses_keeps_what_is_required_and_goes_on() {
    let machine = Machine::new(1);
    let mut bench = Bench::open(
        &machine.host(),
        LocalSettings {
            max_bytes: 256 << 10,
            ..small()
        },
    );
    let mut taken = 0;
    let full = loop {
        match bench.send(&format!("{}{taken}", "z".repeat(8000))) {
            Ok(_) => taken += 1,
            Err(error) => break error,
        }
        assert!(taken < 1000);
    };
    assert!(matches!(full, BusError::Full { .. }), "{full}");
    assert!(bench.parts.shared.health().full.is_some());
    assert!(bench.parts.shared.bytes() <= 256 << 10);
    assert_eq!(bench.read(0).records.len(), taken);
    bench.commit("store", taken as u64);
    assert_eq!(bench.send("there is room"), Ok(taken as u64 + 1));
    assert!(bench.parts.shared.health().full.is_none());
}

#[test]
fn without_required_consumers_the_oldest_goes() {
    let machine = Machine::new(1);
    let mut bench = Bench::open(
        &machine.host(),
        LocalSettings {
            max_bytes: 256 << 10,
            required: Vec::new(),
            ..small()
        },
    );
    let mut slow = bench.consume("slow", 0);
    for i in 0..200 {
        bench.send(&format!("{}{i}", "z".repeat(8000))).unwrap();
        bench.parts.shared.hub().shrink(0, true);
    }
    let mut left_behind = 0;
    let mut at = 0;
    while at < 200 {
        match slow.next(Duration::ZERO).unwrap() {
            Delivery::Record { position, .. } => {
                assert_eq!(position, at + 1);
                at = position;
            }
            Delivery::Damaged { first, last, cause, .. } => {
                assert_eq!((first, cause), (at + 1, Cause::LeftBehind));
                left_behind += last - first + 1;
                at = last;
            }
            other => panic!("{other:?}"),
        }
    }
    assert!(left_behind > 100, "{left_behind}");
    let status = super::super::status(&bench.parts.shared);
    assert_eq!(
        status.consumers.iter().find(|c| c.name == "slow").unwrap().left_behind,
        left_behind
    );
}

#[test]
fn a_full_disk_is_survived_restarted_on_and_left_by_itself() {
    let machine = Machine::new(1);
    machine.files.set_capacity(Some(1 << 20));
    let mut bench = Bench::on(&machine);
    let mut taken = 0;
    while bench.send(&format!("{}{taken}", "z".repeat(8000))).is_ok() {
        taken += 1;
        assert!(taken < 1000);
    }
    assert!(taken > 30, "{taken}");
    assert!(
        machine.files.free_bytes(Path::new("/")).unwrap() > 64 << 10,
        "a reserve is left"
    );
    // others fill the rest
    let hog = machine.files.open(Path::new("/hog"), host::OpenMode::Create).unwrap();
    let rest = machine.files.free_bytes(Path::new("/")).unwrap();
    hog.allocate(0, rest).unwrap();
    drop(bench);
    machine.files.kill();
    let mut bench = Bench::on(&machine);
    assert_eq!(bench.report().quarantined, []);
    assert_eq!(bench.read(0).records.len(), taken);
    assert!(matches!(bench.send("no room"), Err(BusError::Full { .. })));
    machine.files.remove(Path::new("/hog")).unwrap();
    machine.files.set_capacity(Some(2 << 20));
    assert_eq!(bench.send("room again"), Ok(taken as u64 + 1));
}

#[test]
fn a_failed_sync_gives_up_the_segment_and_its_records_never_appear() {
    for seed in 0..50 {
        let machine = Machine::new(seed);
        let mut bench = Bench::on(&machine);
        bench.send("kept").unwrap();
        machine.files.plan(Faults::none().and(Operation::Sync, 1, Failure::Io));
        assert!(matches!(bench.send("failed"), Err(BusError::Io(_))));
        assert_eq!(bench.parts.shared.health().failures, 1);
        assert_eq!(bench.send("kept as well"), Ok(2));
        assert_eq!(bench.read(0).texts(), ["kept", "kept as well"]);
        drop(bench);
        machine.files.crash();
        let bench = Bench::on(&machine);
        assert_eq!(bench.report().quarantined, []);
        assert_eq!(bench.read(0).texts(), ["kept", "kept as well"]);
    }
}

#[test]
fn records_that_cannot_be_decoded_are_copied_counted_and_passed_over() {
    let machine = Machine::new(1);
    let mut bench = Bench::on(&machine);
    for text in ["one", "decoder panic", "two", "decoder error", "three"] {
        bench.send(text).unwrap();
    }
    let all = bench.read(0);
    assert_eq!(all.texts(), ["one", "two", "three"]);
    assert_eq!(
        all.lost.iter().map(|l| (l.0, l.1, l.2)).collect::<Vec<_>>(),
        [(2, 2, Cause::Undecodable), (4, 4, Cause::Undecodable)]
    );
    bench.read(0);
    assert_eq!(
        bench.parts.shared.health().quarantined_total,
        2,
        "two readers, one count"
    );
    let copies = machine.files.list(&Path::new(DIR).join("quarantine")).unwrap();
    assert_eq!(copies.len(), 2);
}

#[test]
fn an_encoder_panic_costs_its_record_only() {
    let machine = Machine::new(1);
    let mut bench = Bench::on(&machine);
    let waiting: Vec<_> = ["one", "encoder panic", "two"]
        .into_iter()
        .map(|t| bench.queue(t))
        .collect();
    bench.run();
    let outcomes: Vec<_> = waiting.iter().map(|p| p.outcome().unwrap()).collect();
    assert!(
        matches!(outcomes[..], [Ok(1), Err(BusError::Io(_)), Ok(2)]),
        "{outcomes:?}"
    );
    assert_eq!(bench.read(0).texts(), ["one", "two"]);
}

#[test]
fn a_slow_required_consumer_makes_publishing_wait_and_closing_does_not() {
    let machine = Machine::new(1);
    let log = open(
        &machine.host(),
        LocalSettings {
            handover_bytes: 1000,
            ..small()
        },
    );
    let mut store = log.consume("store", 0).unwrap();
    let mut waiting = Vec::new();
    // two groups may pass before the bound is seen
    for i in 0..3 {
        waiting.push(log.publish(Arc::new(format!("record {i}")), 2000));
    }
    for i in 0..3 {
        let next = store.next(Duration::from_secs(20)).unwrap();
        assert!(
            matches!(next, Delivery::Record { position, .. } if position == i + 1),
            "{next:?}"
        );
    }
    for publish in waiting {
        publish.wait().unwrap();
    }
    let last: Vec<_> = (0..20)
        .map(|i| log.publish(Arc::new(format!("record {i}")), 2000))
        .collect();
    log.close(Duration::from_secs(20)).unwrap();
    assert!(
        last.into_iter().all(|p| p.wait().is_ok()),
        "what was queued is written though nobody reads"
    );
}

#[test]
fn an_open_reader_keeps_its_segment_through_retention() {
    let machine = Machine::new(1);
    let mut bench = Bench::on(&machine);
    for i in 0..40 {
        bench.send(&format!("{}{i}", "z".repeat(8000))).unwrap();
    }
    let mut reader = bench.consume("reader", 0);
    assert!(matches!(
        reader.next(Duration::ZERO),
        Ok(Delivery::Record { position: 1, .. })
    ));
    commit(&bench.parts.shared, "store", 40).unwrap();
    bench.writer().drop_committed(true);
    for i in 40..60 {
        bench.send(&format!("{}{i}", "w".repeat(8000))).unwrap();
    }
    let Ok(Delivery::Record { position: 2, item }) = reader.next(Duration::ZERO) else {
        panic!("its segment is gone")
    };
    assert!(item.starts_with('z'));
}

#[test]
fn an_empty_log_goes_on_behind_a_position() {
    let machine = Machine::new(1);
    crate::local::create_behind(&machine.host(), Path::new(DIR), 41).unwrap();
    let report =
        crate::local::verify::verify(&machine.host(), Path::new(DIR), 41, super::Reader::default, &mut |_| {}).unwrap();
    assert_eq!((report.findings, report.last), (Vec::new(), 41));
    let mut bench = Bench::on(&machine);
    assert_eq!((bench.report().durable, bench.report().first_kept), (41, 42));
    assert_eq!(bench.report().quarantined, []);
    assert_eq!(bench.send("next"), Ok(42));
    assert_eq!(bench.read(41).texts(), ["next"]);
    assert!(crate::local::create_behind(&machine.host(), Path::new(DIR), 41).is_err());
}
