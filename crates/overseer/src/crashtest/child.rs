use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::time::Duration;

use host::Host;

use crate::Failure;

/// How long one answer may take.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is asked whether it is ready.
const ASK_EVERY: Duration = Duration::from_millis(5);
/// Lines of its log that are kept for the case that it does not start.
const LINES_MAX: usize = 40;
/// Small bounds, so that each life has seals, merges and new segments.
const SETTINGS: [(&str, &str); 4] = [
    ("OVERSEER__STORE__SEAL_BYTES", "1048576"),
    ("OVERSEER__STORE__SEAL_SECONDS", "1"),
    ("OVERSEER__STORE__LOG_SEGMENT_BYTES", "1048576"),
    ("OVERSEER__LOG__LEVEL", "warn"),
];

/// A server that is meant to be killed; gone with its handle.
pub(super) struct Child {
    process: std::sync::Mutex<std::process::Child>,
    address: Receiver<String>,
    lines: Receiver<String>,
}

impl Child {
    /// This program as a server on a free port, with no configuration but what is given here.
    pub(super) fn spawn(data: &Path, no_config: &Path) -> Result<Child, Failure> {
        let failed = |e: std::io::Error| Failure::failed(format!("cannot start a server: {e}"));
        let mut command = Command::new(std::env::current_exe().map_err(failed)?);
        for (name, _) in std::env::vars_os() {
            if name.as_bytes().starts_with(b"OVERSEER_") {
                command.env_remove(name);
            }
        }
        command.envs(SETTINGS).arg("run");
        command.args(["--listen", "127.0.0.1:0", "--roles", "ingress,processor,store,gateway"]);
        command.arg("--config").arg(no_config).arg("--data-dir").arg(data);
        let mut process = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let (found, address) = sync_channel(1);
        if let Some(out) = process.stdout.take() {
            std::thread::spawn(move || {
                // to its end: a full pipe would stop the server
                for line in BufReader::new(out).lines().map_while(Result::ok) {
                    if let Some(url) = line.trim().strip_prefix("Look:") {
                        let url = url.trim().split(' ').next().unwrap_or_default();
                        let _ = found.try_send(url.trim_start_matches("http://").to_owned());
                    }
                }
            });
        }
        let (tell, lines) = sync_channel(LINES_MAX);
        if let Some(err) = process.stderr.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(err).lines().map_while(Result::ok) {
                    let _ = tell.try_send(line);
                }
            });
        }
        Ok(Child {
            process: std::sync::Mutex::new(process),
            address,
            lines,
        })
    }

    /// Its address, once it answers queries in full; else what it said.
    pub(super) fn ready(&self, host: &Host) -> Result<String, String> {
        let said = || self.lines.try_iter().collect::<Vec<_>>().join("\n");
        let address = self
            .address
            .recv_timeout(PATIENCE)
            .map_err(|_| format!("the server did not start:\n{}", said()))?;
        let until = host.clock.monotonic() + PATIENCE;
        while host.clock.monotonic() < until {
            if request(&address, "GET", "/readyz", b"").is_some_and(|(status, _)| status == 200) {
                return Ok(address);
            }
            std::thread::sleep(ASK_EVERY);
        }
        Err(format!(
            "the server was not ready within {} s:\n{}",
            PATIENCE.as_secs(),
            said()
        ))
    }

    /// As kill -9.
    pub(super) fn kill(&self) {
        let mut process = self.process.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let _ = process.kill();
        let _ = process.wait();
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.kill();
    }
}

/// (status, body) of one request on a connection of its own; `None` when the server was not there or went away.
pub(super) fn request(address: &str, method: &str, target: &str, body: &[u8]) -> Option<(u16, Vec<u8>)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(PATIENCE)).ok()?;
    stream.set_write_timeout(Some(PATIENCE)).ok()?;
    let head = format!(
        "{method} {target} HTTP/1.0\r\nHost: {address}\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).ok()?;
    stream.write_all(body).ok()?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).ok()?;
    let end = answer.windows(4).position(|w| w == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let status = head.split(' ').nth(1)?.parse().ok()?;
    let length = head
        .lines()
        .find_map(|l| l.strip_prefix("content-length:")?.trim().parse().ok());
    let body = answer.split_off(end + 4);
    // an answer that was cut off by the kill is none
    if length.is_some_and(|n: usize| n != body.len()) {
        return None;
    }
    Some((status, body))
}
