use std::sync::atomic::{AtomicBool, Ordering::Relaxed};

use host::sim::Machine;
use model::{Batch, Record, TimeRange, Want};

use super::model_based::{TENANT, labels, open, read_all, time};

/// While records are applied, sealed and merged, every reader sees each record whole or not at all, and never less than
/// it saw before.
#[test]
fn a_record_is_seen_whole_or_not_at_all() {
    let machine = Machine::new(1);
    let (engine, table, _) = open(&machine);
    let ids: Vec<_> = (0..60)
        .map(|n| table.intern(TENANT, labels(n).as_bytes(), None).unwrap())
        .collect();
    let done = AtomicBool::new(false);
    std::thread::scope(|threads| {
        threads.spawn(|| {
            for n in 1..400u64 {
                let mut batch = Batch::new(TENANT);
                for &id in &ids {
                    batch.floats.push(id, time(n as i64), n as f64, 0);
                }
                engine.apply(n, &Record::Batch(batch));
            }
            done.store(true, Relaxed);
        });
        threads.spawn(|| {
            while !done.load(Relaxed) {
                engine.seal().unwrap();
                engine.compact_step().unwrap();
            }
        });
        for want in [Want::Samples, Want::Last] {
            let (engine, done) = (&engine, &done);
            threads.spawn(move || {
                let mut before = 0;
                while !done.load(Relaxed) {
                    let (world, warnings) = read_all(engine, TimeRange::ALL, want);
                    assert!(warnings.is_empty());
                    let ends: Vec<Option<i64>> = world.values().map(|s| s.keys().last().copied()).collect();
                    assert!(ends.iter().all(|e| *e == ends[0]), "a record in parts");
                    if want == Want::Samples && !ends.is_empty() {
                        assert_eq!(world.len(), ids_len(), "a record in parts");
                        let len = world.values().next().map_or(0, |s| s.len());
                        assert!(world.values().all(|s| s.len() == len) && len >= before);
                        before = len;
                    }
                }
            });
        }
    });
    let (world, _) = read_all(&engine, TimeRange::ALL, Want::Samples);
    assert!(world.len() == ids_len() && world.values().all(|s| s.len() == 399));
}

fn ids_len() -> usize {
    60
}
