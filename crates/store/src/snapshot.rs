use std::path::{Path, PathBuf};

use host::{Files, Host};
use model::{Budget, Matcher, SourceError, TenantId, TimeRange};
use series::engine::{Engine, Weight};

use crate::role::{Store, StoreError};

/// Snapshots kept at once: each holds on to the space of files that the data set has left behind.
const SNAPSHOTS_MAX: usize = 32;
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
    /// What only the making of it tells.
    pub made: Option<series::engine::SnapshotReport>,
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
    pub async fn snapshot(&self, host: &Host) -> Result<Snapshot, StoreError> {
        self.barrier().await?;
        if self.snapshots(&*host.files)?.len() >= SNAPSHOTS_MAX {
            return Err(StoreError::Refused(format!(
                "{SNAPSHOTS_MAX} snapshots are kept already: delete some first (DELETE /api/v1/admin/snapshots/NAME)"
            )));
        }
        self.maintenance_snapshot(snapshot_name(host)).await
    }

    /// The snapshots there are, oldest first.
    pub fn snapshots(&self, files: &dyn Files) -> Result<Vec<Snapshot>, StoreError> {
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

/// Makes the snapshot under another name first: what stands under its name is whole.
pub(crate) fn make(host: &Host, engine: &Engine, base: &Path, name: &str) -> Result<Snapshot, StoreError> {
    let files = &*host.files;
    let (path, draft) = (base.join(name), base.join(format!(".{name}.tmp")));
    // what a stop left half made
    for old in files.list(base).unwrap_or_default() {
        if old.is_dir && old.name.starts_with('.') {
            let _ = remove_tree(files, &base.join(&old.name));
        }
    }
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
mod tests {
    use super::*;

    #[test]
    fn names_sort_by_time_and_lead_nowhere() {
        let name = snapshot_name(&Host::real());
        assert!(
            is_snapshot_name(&name) && name.starts_with("20") && &name[18..20] == "Z-",
            "{name}"
        );
        for bad in ["", ".", "..", "../x", "a/b", "a.tmp", ".a", &"a".repeat(65)] {
            assert!(!is_snapshot_name(bad), "{bad}");
        }
    }
}
