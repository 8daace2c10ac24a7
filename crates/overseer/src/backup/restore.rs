use std::path::Path;

use host::Host;

use super::pool::Pool;
use crate::cli::{RestoreArgs, Settings};
use crate::data_dir::{self, DataDir};
use crate::progress::{Progress, bytes};
use crate::{Failure, config, terminal, verify_command};

/// Without any of them no server starts on the directory: they are written last.
const LAST: [&str; 3] = ["series/manifest-a", "series/manifest-b", "series/format"];

/// `overseer restore`.
pub(crate) fn restore(settings: &Settings, ask: &RestoreArgs) -> Result<(), Failure> {
    let (config, _) = config::load(settings)?;
    let host = Host::real();
    let pool = Pool::open(&host, &ask.from, false)?;
    let backup = pool.find(ask.name.as_deref())?;
    let path = config.data_dir.unwrap_or_else(data_dir::default_path);
    let failed = |path: &Path, e: std::io::Error| Failure::failed(format!("{}: {e}", path.display()));
    if host.files.exists(&path) && !host.files.list(&path).map_err(|e| failed(&path, e))?.is_empty() {
        return Err(Failure::misuse(format!(
            "{}: not empty; a backup is restored to an empty directory, give one with --data-dir",
            path.display()
        )));
    }
    let held = DataDir::open(&host, &path)?;
    let (total, free) = (
        backup.bytes(),
        host.files.free_bytes(&path).map_err(|e| failed(&path, e))?,
    );
    if total > free {
        return Err(Failure::failed(format!(
            "{}: {} are needed, {} are free",
            path.display(),
            bytes(total),
            bytes(free)
        )));
    }
    let mut progress = Progress::new(&host, "copying", total);
    let mut dirs = vec![path.clone()];
    let (last, first): (Vec<_>, Vec<_>) = backup.files.iter().partition(|f| LAST.contains(&f.path.as_str()));
    for entry in first.into_iter().chain(last) {
        let target = path.join(&entry.path);
        let dir = target.parent().unwrap_or(&path).to_owned();
        host.files.create_dir_all(&dir).map_err(|e| failed(&dir, e))?;
        if LAST.contains(&entry.path.as_str()) {
            // all else is durable before
            for dir in &dirs {
                host.files.sync_dir(dir).map_err(|e| failed(dir, e))?;
            }
        }
        pool.give(entry, &target, &mut |n| progress.add(n))?;
        host.files.sync_dir(&dir).map_err(|e| failed(&dir, e))?;
        if !dirs.contains(&dir) {
            dirs.push(dir);
        }
    }
    drop(progress);
    let checked = verify_command::check(&host, &path)?;
    drop(held);
    if ask.json {
        let text = serde_json::to_string_pretty(&checked).map_err(|e| Failure::failed(e.to_string()))?;
        terminal::say(&text)?;
    } else {
        terminal::say(&format!(
            "{} is restored to {}: {} samples, everything up to position {}, {}",
            backup.name,
            path.display(),
            checked.samples,
            backup.position,
            if checked.clean {
                "every byte checked"
            } else {
                "but see below"
            }
        ))?;
        if !checked.clean {
            for line in verify_command::lines(&checked) {
                terminal::say(&line)?;
            }
        }
    }
    verify_command::verdict(&checked)
}
