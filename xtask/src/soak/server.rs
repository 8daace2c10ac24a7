//! The server under test: it keeps its port and its directory over all its lives.

use std::{
    fs::File,
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use super::http;
use crate::Failure;

/// How long it may take to be ready, and to stop after SIGTERM.
const READY_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);

pub(super) struct Server {
    pub(super) binary: PathBuf,
    pub(super) data: PathBuf,
    pub(super) port: u16,
    log: PathBuf,
    process: Mutex<Option<Child>>,
    /// Odd while it is ready, even while it is not: work that saw a change does not count.
    life: AtomicU64,
}

/// What the system tells of the process and its directory.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Size {
    pub(super) rss_bytes: u64,
    pub(super) descriptors: u64,
    pub(super) threads: u64,
    pub(super) files: u64,
    pub(super) disk_bytes: u64,
}

impl Server {
    pub(super) fn new(binary: PathBuf, dir: &Path) -> Result<Server, Failure> {
        let failed = |e: std::io::Error| format!("{}: {e}", dir.display());
        std::fs::create_dir_all(dir).map_err(failed)?;
        let free = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr());
        Ok(Server {
            binary,
            data: dir.join("data"),
            port: free.map_err(failed)?.port(),
            log: dir.join("server.log"),
            process: Mutex::new(None),
            life: AtomicU64::new(0),
        })
    }

    /// The program with none of the settings of whoever runs this.
    pub(super) fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("OVERSEER") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    pub(super) fn start(&self) -> Result<Duration, Failure> {
        let began = Instant::now();
        let log = File::options().create(true).append(true).open(&self.log);
        let log = log.map_err(|e| format!("{}: {e}", self.log.display()))?;
        let mut command = self.command();
        command.args([
            "run",
            "--roles",
            "ingress,processor,store,gateway",
            "--log-level",
            "warn",
        ]);
        command.args(["--listen", &format!("127.0.0.1:{}", self.port), "--data-dir"]);
        command.arg(&self.data).stdout(Stdio::null()).stderr(log);
        let child = command.spawn().map_err(|e| format!("{}: {e}", self.binary.display()))?;
        *self.process() = Some(child);
        while began.elapsed() < READY_WITHIN {
            if http::get(self.port, "/readyz").is_some_and(|(status, _)| status == 200) {
                self.life.fetch_add(1, SeqCst);
                return Ok(began.elapsed());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Err(format!("not ready within {READY_WITHIN:?}; see {}", self.log.display()))
    }

    fn process(&self) -> MutexGuard<'_, Option<Child>> {
        self.process.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The life that goes on now, when it is ready.
    pub(super) fn life(&self) -> Option<u64> {
        let life = self.life.load(SeqCst);
        (life % 2 == 1).then_some(life)
    }

    pub(super) fn is_in(&self, life: u64) -> bool {
        self.life.load(SeqCst) == life
    }

    /// As kill -9.
    pub(super) fn kill(&self) {
        self.life.fetch_add(1, SeqCst);
        if let Some(mut child) = self.process().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// SIGTERM; what was wrong with the end, if anything.
    pub(super) fn stop(&self) -> Result<Duration, Failure> {
        self.life.fetch_add(1, SeqCst);
        let Some(mut child) = self.process().take() else {
            return Ok(Duration::ZERO);
        };
        let began = Instant::now();
        let _ = Command::new("kill").args(["-TERM", &child.id().to_string()]).status();
        while began.elapsed() < STOP_WITHIN {
            match child.try_wait() {
                Ok(Some(status)) if status.success() => return Ok(began.elapsed()),
                Ok(Some(status)) => return Err(format!("ended with {status} after SIGTERM")),
                _ => std::thread::sleep(Duration::from_millis(20)),
            }
        }
        let _ = child.kill();
        let _ = child.wait();
        Err(format!("did not stop within {STOP_WITHIN:?} of SIGTERM"))
    }

    /// Whether it ended by itself.
    pub(super) fn ended(&self) -> bool {
        match self.process().as_mut() {
            Some(child) => matches!(child.try_wait(), Ok(Some(_))),
            None => false,
        }
    }

    pub(super) fn size(&self) -> Option<Size> {
        let pid = self.process().as_ref()?.id();
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let number = |name: &str| {
            let line = status.lines().find_map(|l| l.strip_prefix(name))?;
            line.split_ascii_whitespace().next()?.parse::<u64>().ok()
        };
        let mut size = Size {
            rss_bytes: number("VmRSS:")? * 1024,
            threads: number("Threads:")?,
            descriptors: std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count() as u64,
            ..Size::default()
        };
        measure(&self.data, &mut size);
        Some(size)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

fn measure(dir: &Path, size: &mut Size) {
    for entry in std::fs::read_dir(dir).into_iter().flatten().flatten() {
        match entry.metadata() {
            Ok(meta) if meta.is_dir() => measure(&entry.path(), size),
            Ok(meta) => {
                size.files += 1;
                size.disk_bytes += meta.len();
            }
            Err(_) => {}
        }
    }
}
