//! Log and engine together, on a machine that fails as planned: nothing acknowledged is lost, doubled or altered,
//! nothing appears that was not sent, and no answer is wrong without a warning.

mod liar;
mod lives;
mod world;

use std::panic::catch_unwind;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use liar::Lie;
use lives::{Tally, live};

/// Seeds of an ordinary run.
const SEEDS: u64 = 300;
/// Failures after which a run ends.
const FAILURES_MAX: usize = 10;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

fn one(seed: u64, lie: Option<Lie>) -> Result<Tally, String> {
    catch_unwind(|| live(seed, lie)).unwrap_or_else(|_| Err(format!("seed {seed} panicked")))
}

/// `OVERSEER_SEED=n` begins there (and runs one, unless told more), `OVERSEER_SEEDS=n` runs as many, `OVERSEER_JOBS=n` so
/// many at once.
#[test]
fn what_was_acknowledged_survives_everything() {
    let first = number("OVERSEER_SEED");
    let count = number("OVERSEER_SEEDS").unwrap_or(if first.is_some() { 1 } else { SEEDS });
    let first = first.unwrap_or(0);
    let next = AtomicU64::new(first);
    let failures = Mutex::new(Vec::new());
    let all = Mutex::new(Tally::default());
    std::thread::scope(|scope| {
        for _ in 0..number("OVERSEER_JOBS").unwrap_or(1).max(1) {
            scope.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Relaxed);
                    if seed >= first + count || failures.lock().unwrap().len() >= FAILURES_MAX {
                        return;
                    }
                    match one(seed, None) {
                        Ok(tally) => add(&mut all.lock().unwrap(), tally),
                        Err(e) => {
                            println!("{e}");
                            failures.lock().unwrap().push(e);
                        }
                    }
                }
            });
        }
    });
    let (failures, all) = (failures.into_inner().unwrap(), all.into_inner().unwrap());
    println!("{count} seeds from {first} on: {all:?}");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
    if count >= SEEDS {
        assert!(all.acked * 2 > all.sent, "the faults leave something to check: {all:?}");
        assert!(
            all.acked < all.sent && all.seals > 0 && all.merges > 0 && all.expired > 0 && all.failures > 0,
            "{all:?}"
        );
        assert!(all.jumps > 0 && all.starved > 0, "{all:?}");
        assert!(all.refused_reads * 2 < all.reads && all.rolled > 0, "{all:?}");
    }
}

fn add(all: &mut Tally, one: Tally) {
    all.sent += one.sent;
    all.acked += one.acked;
    all.reads += one.reads;
    all.refused_reads += one.refused_reads;
    all.seals += one.seals;
    all.merges += one.merges;
    all.failures += one.failures;
    all.expired += one.expired;
    all.rolled += one.rolled;
    all.jumps += one.jumps;
    all.starved += one.starved;
}

#[test]
fn a_disk_that_lies_is_caught() {
    for lie in [Lie::Sync, Lie::SyncDir] {
        // a panic catches nothing: it may come of anything
        let found = |seed: &u64| matches!(catch_unwind(|| live(*seed, Some(lie))), Ok(Err(_)));
        let caught = (0..60).filter(found).count();
        assert!(caught > 5, "{lie:?}: {caught} of 60");
    }
}

#[test]
fn expiry_by_the_clock_alone_is_caught() {
    let found = |seed: &u64| matches!(catch_unwind(|| live(*seed, Some(Lie::Clock))), Ok(Err(_)));
    let caught = (0..200).filter(found).count();
    assert!(caught > 0, "{caught} of 200");
}
