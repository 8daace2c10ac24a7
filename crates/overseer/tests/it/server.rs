//! The binary under test.
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::client::{self, PATIENCE, Response, encode};

/// Roles without the agent: the tenant holds nothing but what a test writes.
pub(crate) const ROLES: &str = "ingress,processor,store,gateway";

/// A directory of its own that goes with the test.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Dir {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let n = NUMBER.fetch_add(1, Relaxed);
        let path = std::env::temp_dir().join(format!("overseer-it-{}-{n}", std::process::id()));
        let _ = std::fs::remove_dir_all(&path);
        std::fs::create_dir_all(&path).unwrap();
        Dir(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn file(&self, name: &str, text: &str) -> PathBuf {
        let path = self.0.join(name);
        std::fs::write(&path, text).unwrap();
        path
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// A running Overseer; killed when dropped.
pub(crate) struct Server {
    child: Child,
    pub(crate) address: String,
    /// Lines of its log so far.
    log: Receiver<String>,
    lines: Vec<String>,
}

pub(crate) fn command() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_overseer"));
    command.env_remove("OVERSEER_CONFIG").current_dir(std::env::temp_dir());
    for (name, _) in std::env::vars().filter(|(n, _)| n.starts_with("OVERSEER__")) {
        command.env_remove(name);
    }
    command
}

impl Server {
    /// All roles but the agent on `data`, on a free port.
    pub(crate) fn start(data: &Path) -> Server {
        Server::with(data, &[])
    }

    /// The same with further arguments.
    pub(crate) fn with(data: &Path, args: &[&str]) -> Server {
        let server = Server::early(data, args);
        server.wait_ready();
        server
    }

    /// The same, as soon as it answers: it may not be ready yet.
    pub(crate) fn early(data: &Path, args: &[&str]) -> Server {
        let mut command = command();
        command.args(["run", "--listen", "127.0.0.1:0", "--data-dir"]).arg(data);
        if !args.contains(&"--roles") {
            command.args(["--roles", ROLES]);
        }
        command.args(args);
        Server::begin(command).unwrap_or_else(|log| panic!("the server did not start:\n{log}"))
    }

    /// Starts a command line and waits until it is ready; the log when it ended before.
    pub(crate) fn spawn(command: Command) -> Result<Server, String> {
        let server = Server::begin(command)?;
        server.wait_ready();
        Ok(server)
    }

    /// Starts a command line and waits for its banner.
    fn begin(mut command: Command) -> Result<Server, String> {
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let (sender, log) = channel();
        let errors = child.stderr.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        let mut banner = BufReader::new(child.stdout.take().unwrap());
        let mut server = Server {
            child,
            address: String::new(),
            log,
            lines: Vec::new(),
        };
        let mut line = String::new();
        while banner.read_line(&mut line).is_ok_and(|n| n > 0) {
            if let Some(url) = line.trim().strip_prefix("Look:") {
                let url = url.trim().split(' ').next().unwrap();
                server.address = url.strip_prefix("http://").unwrap().to_owned();
                // the rest of the banner must go somewhere, or the server would block on it
                std::thread::spawn(move || banner.read_to_end(&mut Vec::new()));
                return Ok(server);
            }
            line.clear();
        }
        let _ = server.child.wait();
        Err(server.log())
    }

    fn wait_ready(&self) {
        let deadline = Instant::now() + PATIENCE;
        while self.get("/readyz").is_none_or(|r| r.status != 200) {
            assert!(Instant::now() < deadline, "not ready within {PATIENCE:?}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn get(&self, target: &str) -> Option<Response> {
        client::request(&self.address, "GET", target, &[], b"")
    }

    pub(crate) fn post(&self, target: &str, headers: &[(&str, &str)], body: &[u8]) -> Response {
        client::request(&self.address, "POST", target, headers, body).expect("no answer")
    }

    /// The result of an instant query, which must succeed.
    pub(crate) fn query(&self, expr: &str, at_seconds: f64) -> Vec<Value> {
        let target = format!("/api/v1/query?query={}&time={at_seconds}", encode(expr));
        let answer = self.get(&target).expect("no answer");
        assert_eq!(answer.status, 200, "{expr}: {}", answer.text());
        answer.json()["data"]["result"].as_array().expect("a list").clone()
    }

    /// The one value of an instant query.
    pub(crate) fn value(&self, expr: &str, at_seconds: f64) -> f64 {
        let result = self.query(expr, at_seconds);
        assert_eq!(result.len(), 1, "{expr} gives {result:?}");
        result[0]["value"][1].as_str().unwrap().parse().unwrap()
    }

    /// (time in ms, value) of the samples of the one series that matches, over all of `range_seconds` before `at`.
    pub(crate) fn samples(&self, selector: &str, at_seconds: f64, range_seconds: u64) -> Vec<(i64, f64)> {
        let result = self.query(&format!("{selector}[{range_seconds}s]"), at_seconds);
        match result.as_slice() {
            [] => Vec::new(),
            [one] => one["values"]
                .as_array()
                .unwrap()
                .iter()
                .map(|p| {
                    (
                        (p[0].as_f64().unwrap() * 1000.0).round() as i64,
                        p[1].as_str().unwrap().parse().unwrap(),
                    )
                })
                .collect(),
            many => panic!("{selector} matches {} series", many.len()),
        }
    }

    pub(crate) fn flush(&self) {
        let answer = self.post("/api/v1/admin/flush", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    pub(crate) fn compact(&self) {
        let answer = self.post("/api/v1/admin/compact", &[], b"");
        assert_eq!(answer.status, 200, "{}", answer.text());
    }

    /// As `kill -9`.
    pub(crate) fn kill(mut self) -> String {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
        self.log()
    }

    /// SIGTERM, then waits for the end.
    pub(crate) fn stop(mut self) -> (ExitStatus, String) {
        let status = Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()
            .unwrap();
        assert!(status.success());
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return (status, self.log());
            }
            assert!(Instant::now() < deadline, "still running {PATIENCE:?} after SIGTERM");
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Whether it still runs.
    pub(crate) fn runs(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// The log of a server that has ended, or what there is of a running one.
    pub(crate) fn log(&mut self) -> String {
        let ended = self.child.try_wait().unwrap().is_some();
        loop {
            match self.log.recv_timeout(if ended { PATIENCE } else { Duration::ZERO }) {
                Ok(line) => self.lines.push(line),
                Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return self.lines.join("\n"),
            }
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command line to its end: exit code, standard output, standard error.
pub(crate) fn run(args: &[&str]) -> (i32, String, String) {
    let output = command().args(args).output().unwrap();
    let text = |b: Vec<u8>| String::from_utf8_lossy(&b).into_owned();
    (
        output.status.code().unwrap_or(-1),
        text(output.stdout),
        text(output.stderr),
    )
}

pub(crate) fn now_seconds() -> f64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap()
        .as_secs_f64()
}

pub(crate) fn now_ms() -> i64 {
    (now_seconds() * 1000.0) as i64
}
