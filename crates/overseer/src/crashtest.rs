//! `overseer crashtest`: a server of its own, writers, kill -9 at any moment, restart, and every acknowledged sample must
//! be there once and as it was sent.

mod child;
mod ledger;

use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::Duration;

use host::Host;
use serde_json::json;

use crate::cli::{CrashtestArgs, Settings};
use crate::{Failure, terminal, verify_command};
use child::{Child, request};
use ledger::{Ledger, Shape, Verdict};

/// Samples of some hours at a time, so that days and merges come up.
const SHAPE: Shape = Shape {
    writers: 4,
    series: 20,
    change_after: 200,
    samples: 5,
    step_ms: 15_000,
};
/// How long a server runs at most before it is killed, and how soon one that is not even ready.
const LIFE_MS: u64 = 1_500;
const EARLY_MS: u64 = 150;
/// One start in so many is killed early.
const EARLY_ONE_IN: u64 = 5;
/// How far behind the present the writers begin: later samples than the present are refused.
const BEHIND_MS: i64 = 300 * 24 * 3600 * 1000;
/// Samples kept in mind; when they are reached no more are written.
const SENT_MAX: usize = 100_000_000;
/// Up to so many samples everything is looked at after each kill, then what the last cycles wrote; at the end all.
const LOOK_MAX: usize = 300_000;

/// Figures of a whole test.
#[derive(Default)]
struct Figures {
    kills: u64,
    ready_ms_max: u128,
    unready: Vec<String>,
}

/// Exit 0: everything held; 1: something did not; 2: it could not be tested, or not be told.
pub(crate) fn run(settings: &Settings, ask: &CrashtestArgs) -> Result<(), Failure> {
    match test(settings, ask) {
        Ok(None) => Ok(()),
        Ok(Some(broken)) => Err(Failure::failed(broken)),
        Err(untested) => Err(Failure::misuse(untested.message)),
    }
}

/// What did not hold.
fn test(settings: &Settings, ask: &CrashtestArgs) -> Result<Option<String>, Failure> {
    let host = Host::real();
    let Some(dir) = &settings.data_dir else {
        return Err(Failure::misuse(
            "give an empty directory on the disk to be tested with --data-dir",
        ));
    };
    let failed = |e: std::io::Error| Failure::misuse(format!("{}: {e}", dir.display()));
    if host.files.exists(dir) && !host.files.list(dir).map_err(failed)?.is_empty() {
        return Err(Failure::misuse(format!(
            "{}: not empty; the test writes and kills, it needs an empty directory",
            dir.display()
        )));
    }
    let (data, none) = (dir.join("data"), dir.join("config"));
    host.files.create_dir_all(&none).map_err(failed)?;
    let began = host.clock.monotonic();
    let until = began + Duration::from_secs(u64::from(ask.seconds));
    let start_ms = host.clock.now_ms() - BEHIND_MS;
    let ledger = Mutex::new(Ledger::new(start_ms, SHAPE));
    let mut figures = Figures::default();
    let mut total = Verdict::default();
    let mut cycle = 0;
    while cycle < ask.cycles.unwrap_or(u32::MAX) && (ask.cycles.is_some() || host.clock.monotonic() < until) {
        cycle += 1;
        ledger_of(&ledger).begin_cycle();
        let child = Child::spawn(&data, &none)?;
        if host.random.u64().is_multiple_of(EARLY_ONE_IN) {
            std::thread::sleep(Duration::from_millis(host.random.u64() % EARLY_MS));
            figures.kills += 1;
            child.kill();
            continue;
        }
        let started = host.clock.monotonic();
        let address = match child.ready(&host) {
            Ok(address) => address,
            Err(why) => {
                figures.unready.push(why);
                break;
            }
        };
        let ready = host.clock.monotonic().saturating_sub(started).as_millis();
        figures.ready_ms_max = figures.ready_ms_max.max(ready);
        let verdict = look(&address, &ledger, false)?;
        report(ask, cycle, &verdict, &ledger)?;
        total.add(&verdict);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for writer in 0..SHAPE.writers {
                let (address, ledger, stop) = (&address, &ledger, &stop);
                scope.spawn(move || write(address, ledger, stop, writer));
            }
            std::thread::sleep(Duration::from_millis(host.random.u64() % LIFE_MS));
            child.kill();
            stop.store(true, Relaxed);
        });
        figures.kills += 1;
    }
    if figures.unready.is_empty() {
        let child = Child::spawn(&data, &none)?;
        match child.ready(&host) {
            Ok(address) => {
                let verdict = look(&address, &ledger, true)?;
                total.add(&verdict);
            }
            Err(why) => figures.unready.push(why),
        }
        child.kill();
    }
    let damages = verify_command::check(&host, &data)?.damages;
    let seconds = host.clock.monotonic().saturating_sub(began).as_secs_f64();
    let (acknowledged, sent) = ledger_of(&ledger).counts();
    let good = total.is_good() && damages == 0 && figures.unready.is_empty();
    if ask.json {
        terminal::say(
            &json!({
                "good": good, "cycles": cycle, "kills": figures.kills, "seconds": seconds, "sent": sent,
                "acknowledged": acknowledged, "lost": total.lost, "duplicate": total.duplicate,
                "corrupt": total.corrupt, "phantom": total.phantom, "damages": damages,
                "ready_ms_max": figures.ready_ms_max as u64, "not_started": figures.unready,
                "examples": total.examples,
            })
            .to_string(),
        )?;
    } else {
        for example in total.examples.iter().chain(&figures.unready) {
            terminal::say(example)?;
        }
        terminal::say(&format!(
            "{} kills in {seconds:.0} s, {acknowledged} samples acknowledged of {sent} sent, ready again within {} ms",
            figures.kills, figures.ready_ms_max
        ))?;
        terminal::say(&format!(
            "lost {}, duplicate {}, corrupt {}, phantom {}, damaged files {damages}",
            total.lost, total.duplicate, total.corrupt, total.phantom
        ))?;
    }
    if !good {
        return Ok(Some(format!(
            "this did not hold what was promised; the data is left in {}",
            dir.display()
        )));
    }
    if acknowledged == 0 {
        return Err(Failure::failed(
            "nothing was acknowledged before the kills, so nothing was tested: give more --seconds or --cycles",
        ));
    }
    Ok(None)
}

fn ledger_of(ledger: &Mutex<Ledger>) -> std::sync::MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn report(ask: &CrashtestArgs, cycle: u32, verdict: &Verdict, ledger: &Mutex<Ledger>) -> Result<(), Failure> {
    if ask.json {
        return Ok(());
    }
    let (acknowledged, _) = ledger_of(ledger).counts();
    terminal::say(&format!("{cycle}: {verdict}, {acknowledged} samples acknowledged"))
}

/// Sends until it is told to stop; what was acknowledged is noted.
fn write(address: &str, ledger: &Mutex<Ledger>, stop: &AtomicBool, writer: u32) {
    while !stop.load(Relaxed) {
        let keys = {
            let mut ledger = ledger_of(ledger);
            if ledger.counts().1 >= SENT_MAX {
                return;
            }
            ledger.next(writer)
        };
        let mut body = String::new();
        for &(id, at_ms) in &keys {
            let value = ledger::value_of(id, at_ms);
            body.push_str(&format!("crashtest,id={id} value={value} {at_ms}\n"));
        }
        let answer = request(address, "POST", "/write?precision=ms", body.as_bytes());
        if answer.is_some_and(|(status, _)| status == 204) {
            ledger_of(ledger).acknowledge(&keys);
        }
    }
}

/// Compares what the server has with what was sent: all of it, or what the last cycles sent.
fn look(address: &str, ledger: &Mutex<Ledger>, all: bool) -> Result<Verdict, Failure> {
    let mut ledger = ledger_of(ledger);
    let whole = all || ledger.counts().1 <= LOOK_MAX;
    let mut verdict = Verdict::default();
    for (from_ms, to_ms) in ledger.slices(whole, LOOK_MAX) {
        // a range is open on its left
        let (seconds, end) = ((to_ms - from_ms) / 1000 + 1, to_ms as f64 / 1000.0);
        let target = format!("/api/v1/query?query=crashtest_value%5B{seconds}s%5D&time={end}");
        let Some((200, body)) = request(address, "GET", &target, b"") else {
            return Err(Failure::failed(format!("{address}: no good answer to {target}")));
        };
        ledger
            .compare(&body, from_ms, to_ms, &mut verdict)
            .map_err(Failure::failed)?;
    }
    Ok(verdict)
}
