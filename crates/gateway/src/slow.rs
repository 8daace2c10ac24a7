//! Slow queries: a line each in a file of their own, and the last of them in memory.

use std::collections::VecDeque;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Request, State};
use axum::response::Response;
use host::{File, Host, OpenMode};
use model::TenantId;
use serde_json::{Value, json};

use crate::answer::success;
use crate::parts::App;

/// Bytes of the file, after which it becomes the one before (`.1`) and a new one is begun.
const FILE_BYTES_MAX: u64 = 8 << 20;
/// Queries that are kept in memory.
const KEPT: usize = 100;
/// Bytes of a query's text in a line.
pub(crate) const TEXT_BYTES_MAX: usize = 2000;

pub(crate) struct SlowLog {
    host: Host,
    path: Option<PathBuf>,
    file_bytes_max: u64,
    slow: Option<Duration>,
    kept: Mutex<VecDeque<(TenantId, Value)>>,
    /// The open file and its length.
    file: Mutex<Option<(Arc<dyn File>, u64)>>,
    total: AtomicU64,
    lost: AtomicU64,
}

impl SlowLog {
    /// `path`: the file, if there is to be one; `slow_ms`: 0 for no log at all.
    pub(crate) fn new(host: Host, path: Option<PathBuf>, slow_ms: u32) -> Arc<Self> {
        Arc::new(SlowLog {
            host,
            path,
            file_bytes_max: FILE_BYTES_MAX,
            slow: (slow_ms > 0).then(|| Duration::from_millis(u64::from(slow_ms))),
            kept: Mutex::default(),
            file: Mutex::default(),
            total: AtomicU64::new(0),
            lost: AtomicU64::new(0),
        })
    }

    /// Whether a query that took so long is to be noted.
    pub(crate) fn wants(&self, took: Duration) -> bool {
        self.slow.is_some_and(|slow| took >= slow)
    }

    /// Notes a query. The file is written on another thread when called from one that must not block.
    pub(crate) fn note(self: &Arc<Self>, tenant: TenantId, line: Value) {
        self.total.fetch_add(1, Relaxed);
        if self.path.is_some() {
            let mut text = line.to_string();
            text.push('\n');
            let log = Arc::clone(self);
            match tokio::runtime::Handle::try_current() {
                Ok(runtime) => drop(runtime.spawn_blocking(move || log.write(&text))),
                Err(_) => self.write(&text),
            }
        }
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back((tenant, line));
    }

    fn write(&self, line: &str) {
        let Some(path) = &self.path else { return };
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(e) = self.append(path, &mut file, line.as_bytes()) {
            // open it anew next time
            *file = None;
            if self.lost.fetch_add(1, Relaxed) == 0 {
                tracing::warn!(path = %path.display(), error = %e, "slow queries cannot be written to their file");
            }
        }
    }

    fn append(&self, path: &Path, open: &mut Option<(Arc<dyn File>, u64)>, line: &[u8]) -> std::io::Result<()> {
        let files = &*self.host.files;
        let full = |len: u64| len > 0 && len + line.len() as u64 > self.file_bytes_max;
        if open.as_ref().is_some_and(|(_, len)| full(*len)) {
            *open = None;
        }
        if open.is_none() {
            if let Some(dir) = path.parent() {
                files.create_dir_all(dir)?;
            }
            let mut file = files.open(path, OpenMode::Create)?;
            if full(file.len()?) {
                drop(file);
                files.rename(path, &older(path))?;
                file = files.open(path, OpenMode::Create)?;
            }
            let len = file.len()?;
            *open = Some((file, len));
        }
        if let Some((file, len)) = open {
            file.write_all_at(line, *len)?;
            *len += line.len() as u64;
        }
        Ok(())
    }

    /// The next line opens the file anew.
    pub(crate) fn reopen(&self) {
        *self.file.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// (slow queries, lines that could not be written) since the start.
    pub(crate) fn counts(&self) -> (u64, u64) {
        (self.total.load(Relaxed), self.lost.load(Relaxed))
    }

    /// What is kept of a tenant's, the newest first.
    fn newest(&self, tenant: TenantId) -> Vec<Value> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let own = kept.iter().rev().filter(|(of, _)| *of == tenant);
        own.map(|(_, line)| line.clone()).collect()
    }
}

/// The file before the present one.
fn older(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(".1");
    name.into()
}

/// The last slow queries of a tenant.
pub(crate) async fn slow_queries(State(app): State<Arc<App>>, request: Request) -> Response {
    let tenant = request
        .extensions()
        .get::<TenantId>()
        .copied()
        .unwrap_or(TenantId::DEFAULT);
    let log = &app.slow;
    success(&json!({
        "slowMs": log.slow.map_or(0, |d| d.as_millis() as u64),
        "file": log.path.as_ref().map(|p| p.display().to_string()),
        "total": log.counts().0,
        "queries": log.newest(tenant),
    }))
}

#[cfg(test)]
mod tests {
    use host::sim::Machine;

    use super::*;

    fn lines(machine: &Machine, name: &str) -> Vec<Value> {
        let bytes = machine.host().files.read(Path::new(name)).unwrap_or_default();
        let text = String::from_utf8(bytes).unwrap();
        text.lines().map(|l| serde_json::from_str(l).unwrap()).collect()
    }

    fn log(machine: &Machine, slow_ms: u32, bytes: u64) -> Arc<SlowLog> {
        let path = Some(PathBuf::from("/data/logs/slow.jsonl"));
        let log = SlowLog::new(machine.host(), path, slow_ms);
        Arc::new(SlowLog {
            file_bytes_max: bytes,
            ..Arc::into_inner(log).unwrap()
        })
    }

    #[test]
    fn the_file_is_bounded_and_goes_on_after_a_restart() {
        let machine = Machine::new(1);
        for n in 0..20 {
            // each is a restart
            log(&machine, 1000, 100).note(TenantId::DEFAULT, json!({ "n": n }));
        }
        let (new, old) = (
            lines(&machine, "/data/logs/slow.jsonl"),
            lines(&machine, "/data/logs/slow.jsonl.1"),
        );
        let all: Vec<u64> = old.iter().chain(&new).map(|l| l["n"].as_u64().unwrap()).collect();
        assert_eq!(all.last(), Some(&19));
        assert!(all.is_sorted_by(|a, b| a + 1 == *b), "{all:?}");
        assert!(old.len() >= 8 && new.len() <= 12, "{} {}", old.len(), new.len());

        let running = log(&machine, 1000, 100);
        (20..40).for_each(|n| running.note(TenantId::DEFAULT, json!({ "n": n })));
        assert!(lines(&machine, "/data/logs/slow.jsonl").len() <= 12);
        assert_eq!(running.counts(), (20, 0));
    }

    #[test]
    fn the_last_are_kept_each_tenants_own() {
        let machine = Machine::new(1);
        let log = log(&machine, 1000, 1 << 20);
        for n in 0..150u64 {
            let tenant = if n % 2 == 0 {
                TenantId::DEFAULT
            } else {
                TenantId::OVERSEER
            };
            log.note(tenant, json!({ "n": n }));
        }
        let newest = log.newest(TenantId::DEFAULT);
        assert_eq!((newest.len(), &newest[0]["n"]), (50, &json!(148)));
        assert!(log.newest(TenantId(9)).is_empty());
    }

    #[test]
    fn only_slow_ones_are_wanted() {
        let machine = Machine::new(1);
        let ms = Duration::from_millis;
        assert!(!log(&machine, 500, 100).wants(ms(499)) && log(&machine, 500, 100).wants(ms(500)));
        assert!(!log(&machine, 0, 100).wants(ms(1 << 40)), "switched off");
    }
}
