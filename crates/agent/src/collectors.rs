use std::sync::Arc;

use crate::{CollectError, Collector, ProcRoot};

mod cpu;
mod disk;
mod filefd;
mod filesystem;
mod load;
mod machine;
mod memory;
mod netstat;
mod network;
mod own_process;
mod pressure;
mod processes;
mod sockets;
mod stat;
mod time;
mod vmstat;

/// All collectors, in the order they run.
pub static COLLECTORS: &[&Collector] = &[
    &cpu::COLLECTOR,
    &disk::COLLECTOR,
    &filefd::COLLECTOR,
    &filesystem::COLLECTOR,
    &load::COLLECTOR,
    &memory::COLLECTOR,
    &netstat::COLLECTOR,
    &network::COLLECTOR,
    &machine::OS,
    &own_process::COLLECTOR,
    &pressure::COLLECTOR,
    &processes::COLLECTOR,
    &sockets::COLLECTOR,
    &stat::COLLECTOR,
    &time::COLLECTOR,
    &machine::UNAME,
    &vmstat::COLLECTOR,
];

/// What collectors remember from tick to tick.
#[derive(Default)]
pub(crate) struct State {
    pub(crate) cpu: cpu::Cpus,
    pub(crate) processes: processes::Top,
    /// 0 until the memory collector ran.
    pub(crate) memory_bytes: f64,
    /// `/proc/stat` of this tick: three collectors look into it, and on large hosts it is the costliest text.
    kernel_stat: Option<Arc<str>>,
}

impl State {
    pub(crate) fn end_tick(&mut self) {
        self.kernel_stat = None;
    }

    fn kernel_stat(&mut self, proc: &ProcRoot) -> Result<Arc<str>, CollectError> {
        if let Some(text) = &self.kernel_stat {
            return Ok(Arc::clone(text));
        }
        let text: Arc<str> = proc.text("proc/stat")?.into();
        self.kernel_stat = Some(Arc::clone(&text));
        Ok(text)
    }
}

/// A number of the kernel: decimal, unsigned. `None` for anything else.
fn number(text: &str) -> Option<f64> {
    text.parse::<u64>().ok().map(|n| n as f64)
}

/// `name value` lines, also with a colon after the name; lines of another shape are passed over.
fn pairs(text: &str) -> impl Iterator<Item = (&str, f64)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        Some((words.next()?.trim_end_matches(':'), number(words.next()?)?))
    })
}

#[cfg(test)]
mod tests;
