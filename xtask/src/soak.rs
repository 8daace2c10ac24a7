use std::{
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, atomic::AtomicBool, atomic::AtomicU64, atomic::Ordering::Relaxed},
    time::{Duration, Instant},
};

use crate::{
    Failure,
    arguments::{Arguments, WRONG},
    process,
    workspace::Workspace,
};

mod figures;
mod http;
mod ledger;
mod load;
mod server;

use figures::Figures;
use ledger::{Ledger, SERIES, Verdict};
use load::Soak;
use server::Server;

pub(crate) const HELP: &str = "\
Runs one server for hours under everything at once: samples that come and samples that come late, series that come and
go, deltas, deletes, light and heavy queries, live pages, readers and senders that are slow, backups, kills. Memory must
stay within its bound, descriptors and files flat, and nothing acknowledged may be lost.

Usage: cargo xtask soak [--minutes N] [--memory-mb N] [--kill-every SECONDS] [--backup-every SECONDS] [--seed S]
                        [--dir DIR] [--binary FILE]

  --minutes N               how long (default 120)
  --memory-mb N             resident memory that the server may have (default 2048)
  --kill-every SECONDS      how often it is killed or stopped, on average (default 300)
  --backup-every SECONDS    how often it is backed up (default 240)
  --seed S                  where the dice start (default 1)
  --dir DIR                 an empty directory for data, backups and log (default: one in the temporary directory)
  --binary FILE             an Overseer that is built already (default: a release build of this checkout)

Ends with a table, and with exit code 1 when something was not as it must be; the directory is then left.
";

/// How much more descriptors, threads and files the last quarter may have than the second one.
const GROWTH: f64 = 1.5;
const GROWTH_FREE: u64 = 64;

pub(crate) fn run(workspace: &Workspace, mut arguments: Arguments) -> Result<(), Failure> {
    let minutes = arguments.number("--minutes", 120)?.max(1);
    let memory_mb = arguments.number("--memory-mb", 2048)?;
    let kill_every = Duration::from_secs(arguments.number("--kill-every", 300)?.max(1));
    let backup_every = Duration::from_secs(arguments.number("--backup-every", 240)?.max(1));
    let seed = arguments.number("--seed", 1)?;
    let dir = arguments.value("--dir")?.map(PathBuf::from);
    let binary = arguments.value("--binary")?.map(PathBuf::from);
    arguments.end()?;
    let dir = dir.unwrap_or_else(|| std::env::temp_dir().join(format!("overseer-soak-{}", std::process::id())));
    if std::fs::read_dir(&dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(format!("{WRONG}--dir {}: must be empty", dir.display()));
    }
    let binary = match binary {
        Some(binary) => binary,
        None => {
            let mut cargo = workspace.cargo();
            cargo.args(["build", "--locked", "--release", "--package", "overseer"]);
            process::run(cargo)?;
            workspace.target_dir().join("release").join("overseer")
        }
    };
    let soak = Soak {
        server: Server::new(binary, &dir)?,
        began: Instant::now(),
        lasts: Duration::from_secs(minutes * 60),
        stop: AtomicBool::new(false),
        ledger: Mutex::new(Ledger::default()),
        figures: Mutex::new(Figures::default()),
        dice: AtomicU64::new(seed),
    };
    soak.server.start()?;
    println!(
        "port {}, {} minutes, data in {}",
        soak.server.port,
        minutes,
        dir.display()
    );
    let backups = dir.join("backups");
    std::thread::scope(|scope| {
        let soak = &soak;
        scope.spawn(move || load::remembered(soak));
        scope.spawn(move || load::bulk(soak));
        scope.spawn(move || load::deletes(soak));
        scope.spawn(move || load::watch(soak));
        scope.spawn(move || load::kills(soak, kill_every));
        scope.spawn(|| load::backups(soak, &backups, backup_every));
        for n in 0..2 {
            scope.spawn(move || load::deltas(soak, n));
            scope.spawn(move || load::simple(soak));
            scope.spawn(move || load::heavy(soak));
            scope.spawn(move || load::slow_reader(soak));
            scope.spawn(move || load::slow_sender(soak));
        }
        for n in 0..4 {
            scope.spawn(move || load::page(soak, n == 0));
        }
        while soak.began.elapsed() < soak.lasts && !soak.stop.load(Relaxed) {
            std::thread::sleep(Duration::from_millis(500));
        }
        soak.stop.store(true, Relaxed);
    });
    judge(&soak, &backups, memory_mb);
    let figures = soak.figures();
    println!("{}", figures.table());
    if figures.faults.is_empty() {
        let _ = std::fs::remove_dir_all(&dir);
        return Ok(());
    }
    let faults = figures.faults.join("\n  ");
    Err(format!(
        "not as it must be (the data is left in {}):\n  {faults}",
        dir.display()
    ))
}

/// Looks at everything once more when the load is over.
fn judge(soak: &Soak, backups: &Path, memory_mb: u64) {
    if soak.server.life().is_some() {
        look(soak, "at the end");
        match soak.server.stop() {
            Ok(took) => println!("stopped within {took:?}"),
            Err(why) => soak.figures().fault(format!("last stop: {why}")),
        }
        match soak.server.start() {
            Ok(took) => println!("ready again within {took:?}"),
            Err(why) => soak.figures().fault(format!("last start: {why}")),
        }
        look(soak, "after the last start");
        if let Err(why) = soak.server.stop() {
            soak.figures().fault(format!("last stop: {why}"));
        }
    }
    let mut verify = soak.server.command();
    verify.arg("verify").arg("--data-dir").arg(&soak.server.data);
    must_succeed(soak, verify);
    if backups.exists() {
        let restored = backups.with_file_name("restored");
        let mut restore = soak.server.command();
        restore
            .args(["restore", "--from"])
            .arg(backups)
            .arg("--data-dir")
            .arg(&restored);
        must_succeed(soak, restore);
    }
    let mut figures = soak.figures();
    let most = figures.rss_max() >> 20;
    if most > memory_mb {
        figures.fault(format!("{most} MB of resident memory, more than {memory_mb}"));
    }
    for (what, (before, after)) in [
        ("descriptors", figures.quarters(|s| s.descriptors)),
        ("threads", figures.quarters(|s| s.threads)),
        ("files", figures.quarters(|s| s.files)),
    ] {
        println!("{what}: {before} in the second quarter, {after} in the last");
        if after as f64 > before as f64 * GROWTH + GROWTH_FREE as f64 {
            figures.fault(format!("{what} grow: from {before} to {after}"));
        }
    }
}

fn must_succeed(soak: &Soak, mut command: Command) {
    let shown = process::shown(&command);
    match command.output() {
        Ok(done) if done.status.success() => println!("{shown}: good"),
        Ok(done) => {
            let said = String::from_utf8_lossy(&done.stderr)
                .chars()
                .take(500)
                .collect::<String>();
            soak.figures().fault(format!("{shown}: {}: {said}", done.status));
        }
        Err(e) => soak.figures().fault(format!("{shown}: {e}")),
    }
}

/// Holds what the server has against what was sent.
fn look(soak: &Soak, when: &str) {
    let ask = |query: &str| {
        let target = format!("/api/v1/query?nocache=1&query={}", http::encoded(query));
        match http::get(soak.server.port, &target) {
            Some((200, body)) => Some(String::from_utf8_lossy(&body).into_owned()),
            other => {
                let status = other.map(|(status, _)| status);
                soak.figures().fault(format!("{when}: {query}: {status:?}"));
                None
            }
        }
    };
    let ledger = soak.ledger();
    let mut verdict = Verdict::default();
    let days = ledger::LATE_DAYS + 2;
    for series in 0..SERIES {
        if let Some(body) = ask(&format!("soak_remembered{{id=\"{series}\"}}[{days}d]")) {
            verdict.add(ledger.compare(series, &ledger::pairs(&body)));
        }
    }
    println!("{when}: {} samples acknowledged, {verdict:?}", ledger.acknowledged());
    if !verdict.is_good() {
        soak.figures().fault(format!("{when}: {verdict:?}"));
    }
    for (sender, total) in &ledger.totals {
        let query = format!("max_over_time({{__name__=~\"soak_steps.*\",sender=\"{sender}\"}}[1d])");
        let found = ask(&query).map(|body| ledger::values(&body)).unwrap_or_default();
        println!("{when}: deltas of sender {sender}: {total} sent, {found:?} there");
        // the last one may have been taken without an answer
        let last = 1000.0;
        if !(found.len() == 1 && found[0] >= *total as f64 && found[0] < *total as f64 + last) {
            soak.figures()
                .fault(format!("{when}: deltas of sender {sender}: {found:?}, not {total}"));
        }
    }
    let count = |name: &str| {
        let query = format!("count(last_over_time({name}[1d]))");
        ask(&query)
            .and_then(|body| ledger::values(&body).first().copied())
            .unwrap_or(0.0)
    };
    let (gone, kept) = (count("gone_v"), count("kept_v"));
    println!(
        "{when}: {} series deleted, {gone} left, {kept} beside them",
        ledger.deleted.len()
    );
    // one may have been written when the run ended, and not deleted
    if gone > 1.0 || (kept as usize) < ledger.deleted.len() {
        soak.figures().fault(format!(
            "{when}: {gone} deleted series are there, {kept} of those beside them"
        ));
    }
}
