use crate::{
    CollectError, Collector, Context,
    collector::{counter, gauge},
};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "stat",
    doc: "Boot time, context switches, interrupts, forks, tasks running and blocked.",
    metrics: &[
        counter("node_intr_total", "Interrupts served."),
        counter("node_context_switches_total", "Context switches."),
        counter("node_forks_total", "Processes and threads created."),
        gauge("node_boot_time_seconds", "Time of the last boot, in Unix seconds."),
        gauge("node_procs_running", "Tasks that run or could run."),
        gauge("node_procs_blocked", "Tasks that wait for I/O."),
    ],
    collect,
};

/// Field of `/proc/stat` and its metric.
const FIELDS: [(&str, &str); 6] = [
    ("intr", "node_intr_total"),
    ("ctxt", "node_context_switches_total"),
    ("processes", "node_forks_total"),
    ("btime", "node_boot_time_seconds"),
    ("procs_running", "node_procs_running"),
    ("procs_blocked", "node_procs_blocked"),
];

/// Time of the last boot in Unix seconds.
pub(super) fn boot_seconds(text: &str) -> Option<f64> {
    super::pairs(text)
        .find(|(field, _)| *field == "btime")
        .map(|(_, seconds)| seconds)
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.state.kernel_stat(context.proc)?;
    for (field, value) in super::pairs(&text) {
        if let Some((_, metric)) = FIELDS.iter().find(|(name, _)| *name == field) {
            context.out.put(metric, &[], value);
        }
    }
    Ok(())
}
