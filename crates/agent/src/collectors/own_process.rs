use super::processes::parse_stat;
use crate::{
    CollectError, Collector, Context,
    collector::{counter, gauge},
};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "process",
    doc: "What this process costs.",
    metrics: &[
        counter("process_cpu_seconds_total", "Seconds of CPU that this process used."),
        gauge(
            "process_resident_memory_bytes",
            "Bytes of memory that this process holds.",
        ),
        gauge(
            "process_virtual_memory_bytes",
            "Bytes of address space that this process has.",
        ),
        gauge("process_open_fds", "Open file descriptors."),
        gauge("process_max_fds", "File descriptors there may be."),
        gauge("process_threads", "Threads."),
        gauge(
            "process_start_time_seconds",
            "When the process started, in Unix seconds.",
        ),
    ],
    collect,
};

/// Soft limit of open files; `None` when unlimited or not stated.
fn parse_limits(text: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    super::number(rest.split_ascii_whitespace().next()?)
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let proc = context.proc;
    let text = proc.text("proc/self/stat")?;
    let stat = parse_stat(&text).ok_or(CollectError::Parse {
        path: "proc/self/stat",
        missing: "process",
    })?;
    let per_second = proc.machine.ticks_per_second as f64;
    let out = &mut *context.out;
    out.put("process_cpu_seconds_total", &[], stat.cpu_ticks / per_second);
    out.put(
        "process_resident_memory_bytes",
        &[],
        stat.rss_pages * proc.machine.page_bytes as f64,
    );
    out.put("process_virtual_memory_bytes", &[], stat.virtual_bytes);
    out.put("process_threads", &[], stat.threads);
    if let Some(boot) = super::stat::boot_seconds(&context.state.kernel_stat(proc)?) {
        out.put("process_start_time_seconds", &[], boot + stat.start_ticks / per_second);
    }
    // both need the same rights as the process itself has
    if let Ok(names) = proc.names("proc/self/fd") {
        out.put("process_open_fds", &[], names.len() as f64);
    }
    if let Some(max) = proc.text("proc/self/limits").ok().and_then(|text| parse_limits(&text)) {
        out.put("process_max_fds", &[], max);
    }
    Ok(())
}
