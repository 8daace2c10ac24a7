use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use host::{Host, Lock};
use http::Method;
use series::table::SeriesTable;
use store::RecordDecode;

use crate::cli::{Settings, VerifyArgs};
use crate::data_dir::{self, LOCK};
use crate::progress::{Progress, bytes};
use crate::server_client::{Files, ServerClient};
use crate::{Failure, config, terminal};

/// Findings printed one by one; `--json` has them all.
const PRINTED_MAX: usize = 100;

/// Something that is not as it was written.
#[derive(Clone, Debug, serde::Serialize)]
pub(crate) struct Finding {
    /// Within the data directory.
    pub(crate) file: String,
    pub(crate) offset: u64,
    /// 0: the whole file, or bytes that are not there.
    pub(crate) length: u64,
    pub(crate) what: String,
    pub(crate) lost: String,
}

/// What a data directory was found to be.
#[derive(Clone, Debug, Default, serde::Serialize)]
pub(crate) struct Checked {
    pub(crate) data_dir: String,
    pub(crate) clean: bool,
    pub(crate) bytes: u64,
    pub(crate) blocks: usize,
    pub(crate) chunks: u64,
    pub(crate) samples: u64,
    pub(crate) deletes: usize,
    /// Position up to which the log's records are in files.
    pub(crate) applied: u64,
    pub(crate) log_segments: usize,
    pub(crate) log_records: u64,
    pub(crate) log_last: u64,
    pub(crate) damages: usize,
    pub(crate) findings: Vec<Finding>,
    pub(crate) notes: Vec<String>,
    pub(crate) seconds: f64,
}

/// Exit 0: clean; 1: damage found; 2: it could not be checked, or not be told.
pub(crate) fn run(settings: &Settings, ask: &VerifyArgs) -> Result<(), Failure> {
    // what keeps a check from being made is no damage
    let checked = checked(settings, ask).map_err(|f| Failure::misuse(f.message))?;
    verdict(&checked)
}

fn checked(settings: &Settings, ask: &VerifyArgs) -> Result<Checked, Failure> {
    let (config, _) = config::load(settings)?;
    let host = Host::real();
    let checked = if ask.snapshot {
        match ServerClient::of_files(&host, settings, &config, ask.url.as_deref())? {
            Files::Server(server) => check_snapshot(&host, &server)?,
            Files::AtRest(path) => {
                return Err(Failure::misuse(format!(
                    "{}: no Overseer runs on this data directory; without --snapshot it is checked itself",
                    path.display()
                )));
            }
        }
    } else {
        let path = config.data_dir.unwrap_or_else(data_dir::default_path);
        let _lock = hold(&host, &path)?;
        check(&host, &path)?
    };
    if ask.json {
        let text = serde_json::to_string_pretty(&checked).map_err(|e| Failure::failed(e.to_string()))?;
        terminal::say(&text)?;
    } else {
        for line in lines(&checked) {
            terminal::say(&line)?;
        }
    }
    Ok(checked)
}

/// The failure that damage is.
pub(crate) fn verdict(checked: &Checked) -> Result<(), Failure> {
    if checked.clean {
        return Ok(());
    }
    Err(Failure::failed(format!(
        "{}: {} damage{} found",
        checked.data_dir,
        checked.damages,
        if checked.damages == 1 { "" } else { "s" }
    )))
}

/// Keeps a server from starting on the directory meanwhile. One that never had a server (a snapshot, a backup's copy) has
/// no lock file and needs none.
fn hold(host: &Host, path: &Path) -> Result<Option<Box<dyn Lock>>, Failure> {
    let lock = path.join(LOCK);
    if !host.files.exists(&lock) {
        return Ok(None);
    }
    match host.files.lock(&lock) {
        Ok(held) => Ok(Some(held)),
        Err(e) if e.kind() == ErrorKind::WouldBlock => Err(Failure::misuse(format!(
            "{}: a running Overseer uses this data directory. Stop it first, or check a snapshot of what it has now: \
             overseer verify --snapshot",
            path.display()
        ))),
        // a medium that cannot be written has no server either
        Err(e) if e.kind() == ErrorKind::ReadOnlyFilesystem => Ok(None),
        Err(e) => Err(Failure::misuse(format!("{}: {e}", lock.display()))),
    }
}

/// Checks what a running server has in files. What it could not use is missing in the snapshot as well, and found.
fn check_snapshot(host: &Host, server: &ServerClient) -> Result<Checked, Failure> {
    // what keeps a check from being made is no damage
    let cannot = |f: Failure| Failure::misuse(f.message);
    let made = server
        .call(Method::POST, "/api/v1/admin/snapshot?lease=1")
        .map_err(cannot)?;
    let (name, path) = (
        made["name"].as_str().unwrap_or_default(),
        made["path"].as_str().unwrap_or_default(),
    );
    let checked = server.keeping(name, || check(host, Path::new(path)));
    if let Err(f) = server.call(Method::DELETE, &format!("/api/v1/admin/snapshots/{name}")) {
        terminal::complain(&format!("the snapshot {name} was not deleted: {}", f.message));
    }
    checked
}

/// Reads and checks every stored byte below `path`, which nobody may be using.
pub(crate) fn check(host: &Host, path: &Path) -> Result<Checked, Failure> {
    let began = host.clock.monotonic();
    let cannot = |path: &Path, e: &dyn std::fmt::Display| Failure::misuse(format!("{}: {e}", path.display()));
    let (series, log) = (data_dir::series_of(path), data_dir::samples_log_of(path));
    if !host.files.exists(path) {
        return Err(cannot(path, &"there is no such directory"));
    }
    if !host.files.exists(&series) && !host.files.exists(&log) {
        return Err(cannot(
            path,
            &"this is no data directory of Overseer: series/ and log/ are missing",
        ));
    }
    let size = |dir: &PathBuf| -> u64 { host.files.list(dir).map_or(0, |l| l.iter().map(|e| e.len).sum()) };
    let total = size(&series) + size(&log);
    let mut progress = Progress::new(host, "checking", total);
    let mut done = |n| progress.add(n);

    let files = if host.files.exists(&series) {
        series::verify::verify(host, &series, &mut done).map_err(|e| cannot(path, &e))?
    } else {
        let missing = series::verify::Finding {
            file: String::new(),
            offset: 0,
            len: 0,
            what: "the directory is missing".into(),
            lost: "every sample that is not in the log".into(),
        };
        series::verify::Report {
            findings: vec![missing],
            findings_total: 1,
            ..Default::default()
        }
    };
    let table = Arc::new(SeriesTable::new([0; 16]));
    let decoder = || RecordDecode::new(Arc::clone(&table));
    let records = if host.files.exists(&log) {
        bus::local::verify::verify(host, &log, files.applied, decoder, &mut done).map_err(|e| cannot(path, &e))?
    } else {
        Default::default()
    };
    drop(progress);

    let mut checked = Checked {
        data_dir: path.display().to_string(),
        bytes: total,
        blocks: files.blocks,
        chunks: files.chunks,
        samples: files.samples,
        deletes: files.deletes,
        applied: files.applied,
        log_segments: records.segments,
        log_records: records.records,
        log_last: records.last,
        damages: files.findings_total + records.findings_total,
        ..Checked::default()
    };
    for f in files.findings {
        checked.findings.push(Finding {
            file: format!("series/{}", f.file),
            offset: f.offset,
            length: f.len,
            what: f.what,
            lost: f.lost,
        });
    }
    for f in records.findings {
        checked.findings.push(Finding {
            file: Path::new(&f.file)
                .strip_prefix(path)
                .map_or(f.file.clone(), |p| p.display().to_string()),
            offset: f.offset,
            length: f.length,
            what: f.reason,
            lost: lost_records(f.positions, files.applied),
        });
    }
    if !host.files.exists(&log) {
        let what = format!(
            "log/samples is missing: records behind position {} are lost if there were any",
            files.applied
        );
        checked.notes.push(what);
    }
    let notes = files.notes.into_iter().map(|n| format!("series/{n}"));
    checked.notes.extend(notes);
    checked
        .notes
        .extend(records.notes.into_iter().map(|n| format!("log/samples/{n}")));
    checked.clean = checked.damages == 0;
    checked.seconds = host.clock.monotonic().saturating_sub(began).as_secs_f64();
    Ok(checked)
}

/// What it means that the log lacks these positions when everything up to `applied` is in files.
fn lost_records(positions: Option<(u64, u64)>, applied: u64) -> String {
    match positions {
        None => "nothing".into(),
        Some((_, last)) if last <= applied => "nothing: these records are in files".into(),
        Some((first, last)) => {
            let first = first.max(applied + 1);
            format!("the records {first} to {last} ({} batches)", last - first + 1)
        }
    }
}

pub(crate) fn lines(c: &Checked) -> Vec<String> {
    let mut out = Vec::new();
    for f in c.findings.iter().take(PRINTED_MAX) {
        let place = if f.length > 0 {
            format!(" at {} ({})", f.offset, bytes(f.length))
        } else {
            String::new()
        };
        out.push(format!("{}{place}: {}", f.file, f.what));
        out.push(format!("    lost: {}", f.lost));
    }
    if c.damages > PRINTED_MAX.min(c.findings.len()) {
        out.push(format!(
            "… {} more; --json lists them",
            c.damages - PRINTED_MAX.min(c.findings.len())
        ));
    }
    for n in &c.notes {
        out.push(format!("note: {n}"));
    }
    out.push(format!(
        "{} in {:.1} s: {} blocks, {} chunks, {} samples, in files up to position {}; {} log records up to {}",
        bytes(c.bytes),
        c.seconds,
        c.blocks,
        c.chunks,
        c.samples,
        c.applied,
        c.log_records,
        c.log_last
    ));
    if c.clean {
        out.push("clean: every byte is as it was written".into());
    }
    out
}
