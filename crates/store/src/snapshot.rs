use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use host::{Files, Host};
use model::{Budget, Matcher, SourceError, TenantId, TimeRange};
use series::engine::{Engine, Weight};

use crate::role::{Store, StoreError};

/// Snapshots kept at once: each holds on to the space of files that the data set has left behind.
pub(crate) const SNAPSHOTS_MAX: usize = 32;
/// How long a lease lasts after the snapshot was made, the lease renewed, or the server started.
const LEASE: Duration = Duration::from_secs(3600);
/// What the name of a snapshot with a lease ends with, so that a restart does not forget it.
const LEASED: &str = "-leased";
/// Characters of a snapshot's name.
const NAME_MAX: usize = 64;
/// Where the parts of a data directory are, here as in the original.
const SERIES: &str = "series";
const LOG: [&str; 2] = ["log", "samples"];

/// A consistent copy of everything up to a log position: a data directory of its own.
#[derive(Clone, Debug)]
pub struct Snapshot {
    pub name: String,
    pub path: PathBuf,
    pub files: usize,
    pub bytes: u64,
    /// When it is deleted unless its lease is renewed; absent: only on demand.
    pub lease: Option<Duration>,
    /// What only the making of it tells.
    pub made: Option<series::engine::SnapshotReport>,
}

/// How long a snapshot stays.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// Until somebody deletes it.
    UntilDeleted,
    /// For an hour, unless the lease is renewed: for one who deletes it himself but may be killed before.
    Leased,
}

/// A name that sorts by time: UTC, then chance.
pub fn snapshot_name(host: &Host) -> String {
    let time = jiff::Timestamp::from_millisecond(host.clock.now_ms()).unwrap_or_default();
    format!("{}-{:016x}", time.strftime("%Y%m%dT%H%M%S%3fZ"), host.random.u64())
}

/// Whether this can be the name of a snapshot or backup: nothing that leads elsewhere in the file system.
pub fn is_snapshot_name(name: &str) -> bool {
    (1..=NAME_MAX).contains(&name.len()) && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
}

fn io_failed(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError + '_ {
    move |e| StoreError::Engine(format!("{}: {e}", path.display()))
}

impl Store {
    /// Seals, then makes a snapshot of everything taken so far below the snapshot directory.
    pub async fn snapshot(&self, host: &Host, keep: Keep) -> Result<Snapshot, StoreError> {
        self.barrier().await?;
        let mut name = snapshot_name(host);
        if keep == Keep::Leased {
            name.push_str(LEASED);
        }
        self.maintenance_snapshot(name).await
    }

    /// Begins the lease of a snapshot anew; false when there is no snapshot of that name that has one.
    pub fn renew_lease(&self, host: &Host, name: &str) -> bool {
        let path = self.snapshot_dir().join(name);
        is_snapshot_name(name)
            && self
                .leases()
                .renew(name, host.clock.monotonic(), || host.files.exists(&path))
    }

    /// The snapshots there are, oldest first.
    pub fn snapshots(&self, host: &Host) -> Result<Vec<Snapshot>, StoreError> {
        let (files, now) = (&*host.files, host.clock.monotonic());
        let base = self.snapshot_dir();
        if !files.exists(base) {
            return Ok(Vec::new());
        }
        let mut list = Vec::new();
        for entry in files.list(base).map_err(io_failed(base))? {
            if entry.is_dir && is_snapshot_name(&entry.name) {
                let path = base.join(&entry.name);
                let inside = files.list(&path.join(SERIES)).unwrap_or_default();
                list.push(Snapshot {
                    lease: self.leases().left(&entry.name, now),
                    name: entry.name,
                    files: inside.len(),
                    bytes: inside.iter().map(|e| e.len).sum(),
                    path,
                    made: None,
                });
            }
        }
        Ok(list)
    }

    /// Deletes a snapshot; false when there is none of that name.
    pub fn remove_snapshot(&self, files: &dyn Files, name: &str) -> Result<bool, StoreError> {
        let path = self.snapshot_dir().join(name);
        if !is_snapshot_name(name) || !files.exists(&path) {
            return Ok(false);
        }
        remove_tree(files, &path).map_err(io_failed(&path))?;
        Ok(true)
    }

    /// What the samples take that match and lie in the range; call [`barrier`](Self::barrier) first.
    pub fn weigh(
        &self,
        tenant: TenantId,
        matchers: &[Matcher],
        range: TimeRange,
        budget: &Budget,
    ) -> Result<Weight, SourceError> {
        self.engine().weigh(tenant, matchers, range, budget)
    }
}

/// Ends of leases on the monotonic clock, which no jump of the other one changes. Begun anew at each start.
#[derive(Default)]
pub(crate) struct Leases(Mutex<BTreeMap<String, Duration>>);

impl Leases {
    /// A snapshot with a lease stays for another hour; false when it has none, or is gone.
    pub(crate) fn renew(&self, name: &str, now: Duration, exists: impl FnOnce() -> bool) -> bool {
        // under the lock: nothing is deleted between the look and the renewal
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let renewed = name.ends_with(LEASED) && exists();
        if renewed {
            ends.insert(name.to_owned(), now + LEASE);
        }
        renewed
    }

    /// How long a snapshot stays, if it has a lease.
    fn left(&self, name: &str, now: Duration) -> Option<Duration> {
        let ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let left = || ends.get(name).map_or(LEASE, |end| end.saturating_sub(now));
        name.ends_with(LEASED).then(left)
    }

    /// Deletes snapshots whose lease is over and what a stop left half made. Only for the thread that makes them.
    pub(crate) fn sweep(&self, files: &dyn Files, base: &Path, now: Duration) {
        remove_drafts(files, base);
        let mut ends = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut names: Vec<String> = files
            .list(base)
            .unwrap_or_default()
            .into_iter()
            .map(|e| e.name)
            .collect();
        names.retain(|name| name.ends_with(LEASED) && is_snapshot_name(name));
        ends.retain(|name, _| names.contains(name));
        for name in names {
            if now < *ends.entry(name.clone()).or_insert(now + LEASE) {
                continue;
            }
            match remove_tree(files, &base.join(&name)) {
                Ok(()) => tracing::info!(name, "a snapshot was deleted: its lease was not renewed for an hour"),
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {}
                Err(e) => tracing::warn!(name, error = %e, "a snapshot whose lease is over could not be deleted"),
            }
        }
    }
}

/// Refuses one more snapshot than may be kept. Only for the thread that makes them: it looks and makes without another between.
pub(crate) fn has_room(files: &dyn Files, base: &Path) -> Result<(), StoreError> {
    if !files.exists(base) {
        return Ok(());
    }
    let entries = files.list(base).map_err(io_failed(base))?;
    let kept = entries.iter().filter(|e| e.is_dir && is_snapshot_name(&e.name)).count();
    if kept >= SNAPSHOTS_MAX {
        return Err(StoreError::Refused(format!(
            "{SNAPSHOTS_MAX} snapshots are kept already: delete some first (DELETE /api/v1/admin/snapshots/NAME)"
        )));
    }
    Ok(())
}

fn remove_drafts(files: &dyn Files, base: &Path) {
    for old in files.list(base).unwrap_or_default() {
        if old.is_dir && old.name.starts_with('.') {
            let _ = remove_tree(files, &base.join(&old.name));
        }
    }
}

/// Makes the snapshot under another name first: what stands under its name is whole.
pub(crate) fn make(host: &Host, engine: &Engine, base: &Path, name: &str) -> Result<Snapshot, StoreError> {
    let files = &*host.files;
    let (path, draft) = (base.join(name), base.join(format!(".{name}.tmp")));
    remove_drafts(files, base);
    let made = (|| -> Result<_, StoreError> {
        let report = engine
            .snapshot(&draft.join(SERIES))
            .map_err(|e| StoreError::Engine(e.to_string()))?;
        let log = LOG.iter().fold(draft.clone(), |p, part| p.join(part));
        bus::local::create_behind(host, &log, report.position).map_err(io_failed(&log))?;
        files.sync_dir(&draft).map_err(io_failed(&draft))?;
        files.rename(&draft, &path).map_err(io_failed(&path))?;
        files.sync_dir(base).map_err(io_failed(base))?;
        Ok(report)
    })();
    if made.is_err() {
        let _ = remove_tree(files, &draft);
    }
    let report = made?;
    Ok(Snapshot {
        name: name.to_owned(),
        path,
        lease: name.ends_with(LEASED).then_some(LEASE),
        files: report.files,
        bytes: report.bytes,
        made: Some(report),
    })
}

/// Removes a directory and all in it.
pub fn remove_tree(files: &dyn Files, path: &Path) -> std::io::Result<()> {
    for entry in files.list(path)? {
        let inner = path.join(&entry.name);
        if entry.is_dir {
            remove_tree(files, &inner)?;
        } else {
            files.remove(&inner)?;
        }
    }
    files.remove(path)
}

#[cfg(test)]
mod tests;
