use std::collections::HashMap;
use std::io::IsTerminal;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::{Clock, Host, LogOutput, Worker};
use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Registry, fmt, reload};

use crate::Failure;
use crate::config::{LogConfig, LogFormat};

/// Lines of one kind that may come at once.
const AT_ONCE: u32 = 50;
/// After those one more of the kind in so long.
const THEN_EVERY: Duration = Duration::from_secs(10);
/// Kinds of lines that are told apart in the summary of what was left out.
const KINDS_TOLD: usize = 5;
/// How long the last lines may take to be written when the process ends.
const END_WITHIN: Duration = Duration::from_millis(500);

/// Log lines of this process, on their way to standard error.
pub(crate) struct Logging {
    output: LogOutput,
    repeats: Arc<Repeats>,
    filter: reload::Handle<EnvFilter, Registry>,
    writer: Worker,
}

impl Logging {
    /// Starts writing log lines to standard error. Whatever becomes of them, nobody who logs waits or fails.
    pub(crate) fn start(config: &LogConfig, host: &Host) -> Result<Logging, Failure> {
        let output = LogOutput::default();
        let for_writer = output.clone();
        let writer = host
            .workers
            .thread("log-output", move || for_writer.write_to(&mut std::io::stderr()))
            .map_err(|e| Failure::failed(format!("cannot start logging: {e}")))?;
        let (filter, handle) = reload::Layer::new(filter_of(&config.level).map_err(Failure::misuse)?);
        let repeats = Arc::new(Repeats::new(Arc::clone(&host.clock), output.clone()));
        let for_lines = output.clone();
        let lines = fmt::layer()
            .with_writer(move || for_lines.clone())
            .log_internal_errors(false) // it would print them, and printing may panic
            .with_ansi(std::io::stderr().is_terminal());
        let lines = match config.format {
            LogFormat::Text => lines.boxed(),
            LogFormat::Json => lines.json().boxed(),
        };
        tracing_subscriber::registry()
            .with(filter)
            .with(Limited(Arc::clone(&repeats)))
            .with(lines)
            .try_init()
            .map_err(|e| Failure::failed(format!("cannot start logging: {e}")))?;
        let workers = host.workers.clone();
        host::report_panics(move |panic| {
            workers.panicked();
            let backtrace = panic.backtrace.as_deref();
            tracing::error!(thread = %panic.thread, place = %panic.place, backtrace, "panic: {}", panic.message);
        });
        Ok(Logging {
            output,
            repeats,
            filter: handle,
            writer,
        })
    }

    pub(crate) fn output(&self) -> &LogOutput {
        &self.output
    }

    /// From now on lines of this level or filter are written.
    pub(crate) fn set_level(&self, level: &str) -> Result<(), String> {
        self.filter.reload(filter_of(level)?).map_err(|e| e.to_string())
    }

    /// Says what was left out since the last time, if anything was.
    pub(crate) fn tell_left_out(&self) {
        let left_out = self.repeats.take_left_out();
        let total: u64 = left_out.iter().map(|(_, n)| n).sum();
        if total > 0 {
            let kinds: Vec<String> = left_out
                .iter()
                .take(KINDS_TOLD)
                .map(|(place, n)| format!("{n} of {place}"))
                .collect();
            tracing::warn!(lines = total, kinds = %kinds.join(", "), "log lines were left out: they came too often");
        }
    }

    /// Writes what waits, as far as anybody reads it.
    pub(crate) fn end(self) {
        self.output.close();
        self.writer.join_within(END_WITHIN);
    }
}

/// A level or a filter.
pub(crate) fn filter_of(level: &str) -> Result<EnvFilter, String> {
    EnvFilter::try_new(level).map_err(|e| format!("log.level: {level:?} is no level or filter: {e}"))
}

/// How often each line of the program was written of late: what a sender or a broken environment can repeat must not
/// fill the disk that the log is on. Lines below `info` are exempt: who asks for them wants all.
struct Repeats {
    clock: Arc<dyn Clock>,
    output: LogOutput,
    kinds: Mutex<HashMap<Identifier, Kind>>,
}

struct Kind {
    /// Module and line, as they are in the source.
    place: String,
    /// Lines that may still come, and since when they are counted.
    room: u32,
    counted: Duration,
    left_out: u64,
}

impl Repeats {
    fn new(clock: Arc<dyn Clock>, output: LogOutput) -> Self {
        Repeats {
            clock,
            output,
            kinds: Mutex::default(),
        }
    }

    /// Whether a line of this kind is written now.
    fn turn(&self, kind: Identifier, place: impl FnOnce() -> String) -> bool {
        let now = self.clock.monotonic();
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = kinds.entry(kind).or_insert_with(|| Kind {
            place: place(),
            room: AT_ONCE,
            counted: now,
            left_out: 0,
        });
        let more = now.saturating_sub(kind.counted).as_secs() / THEN_EVERY.as_secs();
        kind.counted += THEN_EVERY * u32::try_from(more).unwrap_or(AT_ONCE);
        kind.room = kind.room.saturating_add(u32::try_from(more).unwrap_or(AT_ONCE));
        if kind.room >= AT_ONCE {
            (kind.room, kind.counted) = (AT_ONCE, now);
        }
        if kind.room == 0 {
            kind.left_out += 1;
            self.output.leave_out();
            return false;
        }
        kind.room -= 1;
        true
    }

    /// Places and how many of their lines were left out, the most first.
    fn take_left_out(&self) -> Vec<(String, u64)> {
        let mut kinds = self.kinds.lock().unwrap_or_else(PoisonError::into_inner);
        let left_out = kinds.values_mut().filter(|k| k.left_out > 0);
        let mut left_out: Vec<_> = left_out
            .map(|k| (k.place.clone(), std::mem::take(&mut k.left_out)))
            .collect();
        drop(kinds);
        left_out.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
        left_out
    }
}

struct Limited(Arc<Repeats>);

impl<S: Subscriber> Layer<S> for Limited {
    fn event_enabled(&self, event: &Event<'_>, _: Context<'_, S>) -> bool {
        let what = event.metadata();
        *what.level() > Level::INFO
            || self.0.turn(what.callsite(), || {
                format!("{}:{}", what.target(), what.line().unwrap_or(0))
            })
    }
}

#[cfg(test)]
mod tests;
