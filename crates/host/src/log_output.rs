//! Where log lines go: a bounded queue that never blocks, fails or panics, and one thread that writes it out.

use std::{
    collections::VecDeque,
    io::{self, Write},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

/// Bytes of lines that may wait for a reader that is slow or gone; what comes beyond is lost, and counted.
const WAITING_BYTES_MAX: usize = 1 << 20;

/// Takes lines from any thread. Who logs never waits for the reader of the log, and never learns that there is none.
#[derive(Clone)]
pub struct LogOutput(Arc<Inner>);

struct Inner {
    queue: Mutex<Queue>,
    /// Something to write, or closed.
    filled: Condvar,
    /// All is written.
    emptied: Condvar,
    waiting_bytes_max: usize,
    written: AtomicU64,
    lost: AtomicU64,
    left_out: AtomicU64,
}

#[derive(Default)]
struct Queue {
    lines: VecDeque<Box<[u8]>>,
    bytes: usize,
    writing: bool,
    closed: bool,
}

/// Lines since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LogCounts {
    pub written: u64,
    /// Could not be written, or found the queue full.
    pub lost: u64,
    /// Came too often and were not even tried.
    pub left_out: u64,
}

impl Default for LogOutput {
    fn default() -> Self {
        LogOutput::with_room(WAITING_BYTES_MAX)
    }
}

impl LogOutput {
    fn with_room(waiting_bytes_max: usize) -> Self {
        LogOutput(Arc::new(Inner {
            queue: Mutex::default(),
            filled: Condvar::new(),
            emptied: Condvar::new(),
            waiting_bytes_max,
            written: AtomicU64::new(0),
            lost: AtomicU64::new(0),
            left_out: AtomicU64::new(0),
        }))
    }

    /// Takes one line, its end included.
    pub fn line(&self, line: &[u8]) {
        let mut queue = self.queue();
        if queue.closed || queue.bytes + line.len() > self.0.waiting_bytes_max {
            self.0.lost.fetch_add(1, Relaxed);
            return;
        }
        queue.bytes += line.len();
        queue.lines.push_back(line.into());
        drop(queue);
        self.0.filled.notify_one();
    }

    pub fn counts(&self) -> LogCounts {
        LogCounts {
            written: self.0.written.load(Relaxed),
            lost: self.0.lost.load(Relaxed),
            left_out: self.0.left_out.load(Relaxed),
        }
    }

    /// Counts a line that its logger leaves out.
    pub fn leave_out(&self) {
        self.0.left_out.fetch_add(1, Relaxed);
    }

    /// Writes what comes to `sink` until [`close`](Self::close).
    pub fn write_to(&self, sink: &mut dyn Write) {
        loop {
            let mut queue = self.queue();
            while queue.lines.is_empty() && !queue.closed {
                queue = self.0.filled.wait(queue).unwrap_or_else(PoisonError::into_inner);
            }
            if queue.lines.is_empty() {
                return;
            }
            drop(queue);
            self.write_waiting(sink);
        }
    }

    /// Writes what waits now; what cannot be written is lost.
    pub fn write_waiting(&self, sink: &mut dyn Write) {
        let mut queue = self.queue();
        let lines = std::mem::take(&mut queue.lines);
        queue.bytes = 0;
        queue.writing = true;
        drop(queue);
        for line in &lines {
            // each on its own: a disk may have room for the next
            let count = match sink.write_all(line) {
                Ok(()) => &self.0.written,
                Err(_) => &self.0.lost,
            };
            count.fetch_add(1, Relaxed);
        }
        let _ = sink.flush();
        self.queue().writing = false;
        self.0.emptied.notify_all();
    }

    /// Waits until all lines taken so far are written, at most `within`: their reader may be gone.
    pub fn drain(&self, within: Duration) {
        let waits = |queue: &mut Queue| queue.writing || !queue.lines.is_empty();
        let waited = self.0.emptied.wait_timeout_while(self.queue(), within, waits);
        drop(waited);
    }

    /// Takes nothing more; the writer ends when what waits is written.
    pub fn close(&self) {
        self.queue().closed = true;
        self.0.filled.notify_all();
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One call of `write` is one line, as loggers do it.
impl Write for LogOutput {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.line(line);
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests;
