use crate::{
    CollectError, Collector, Context,
    collector::{Metric, counter},
};
use model::MetricKind;

pub(crate) static COLLECTOR: Collector = Collector {
    name: "cpu",
    doc: "Time each CPU spent in each mode.",
    metrics: &[
        counter("node_cpu_seconds_total", "Seconds the CPU spent in each mode."),
        counter(
            "node_cpu_guest_seconds_total",
            "Seconds the CPU spent running guests, by mode; part of user and nice.",
        ),
        Metric {
            name: "overseer_agent_cpu_seconds_total",
            kind: MetricKind::Counter,
            help: "Seconds all CPUs together spent in each mode.",
            stored: false,
        },
    ],
    collect,
};

/// Columns of a `cpu` line in `/proc/stat`, in order.
const MODES: [&str; 8] = ["user", "nice", "system", "idle", "iowait", "irq", "softirq", "steal"];
const IDLE: usize = 3;
/// The two columns that follow: guests' time, already part of user and nice.
const GUEST_MODES: [&str; 2] = ["user", "nice"];
const COLUMNS: usize = MODES.len() + GUEST_MODES.len();
/// Ticks (of 10 ms) that idle time must fall back by before the CPU counts as one that was taken out and put back.
const RESET_TICKS: f64 = 300.0;

type Ticks = [f64; COLUMNS];

/// Highest ticks seen of each CPU: the kernel's iowait and idle sometimes step back a little, a counter may not.
#[derive(Default)]
pub(crate) struct Cpus {
    seen: Vec<(String, Ticks)>,
}

/// CPUs by number, with their columns; columns that old kernels lack are 0.
fn parse(text: &str) -> Vec<(&str, Ticks)> {
    let lines = text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace();
        let cpu = words.next()?.strip_prefix("cpu").filter(|n| !n.is_empty())?;
        let mut ticks = [0.0; COLUMNS];
        for (column, word) in ticks.iter_mut().zip(words) {
            *column = super::number(word)?;
        }
        Some((cpu, ticks))
    });
    lines.collect()
}

impl Cpus {
    fn advance(&mut self, cpu: &str, now: &Ticks) -> Ticks {
        let Some((_, seen)) = self.seen.iter_mut().find(|(name, _)| name == cpu) else {
            self.seen.push((cpu.to_owned(), *now));
            return *now;
        };
        if now[IDLE] + RESET_TICKS < seen[IDLE] {
            *seen = *now;
        }
        for (seen, now) in seen.iter_mut().zip(now) {
            *seen = seen.max(*now);
        }
        *seen
    }
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.state.kernel_stat(context.proc)?;
    let cpus = parse(&text);
    if cpus.is_empty() {
        return Err(CollectError::Parse {
            path: "proc/stat",
            missing: "cpu line",
        });
    }
    let per_second = context.proc.machine.ticks_per_second as f64;
    let mut sums = [0.0; MODES.len()];
    for (cpu, ticks) in &cpus {
        let ticks = context.state.cpu.advance(cpu, ticks);
        let (modes, guests) = ticks.split_at(MODES.len());
        for ((mode, ticks), sum) in MODES.iter().zip(modes).zip(&mut sums) {
            *sum += ticks;
            context.out.put(
                "node_cpu_seconds_total",
                &[("cpu", cpu), ("mode", mode)],
                ticks / per_second,
            );
        }
        for (mode, ticks) in GUEST_MODES.iter().zip(guests) {
            context.out.put(
                "node_cpu_guest_seconds_total",
                &[("cpu", cpu), ("mode", mode)],
                ticks / per_second,
            );
        }
    }
    for (mode, sum) in MODES.iter().zip(sums) {
        context
            .out
            .put("overseer_agent_cpu_seconds_total", &[("mode", mode)], sum / per_second);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sum_line_and_odd_lines_are_passed_over() {
        let text = "cpu  1 2 3 4 5 6 7 8 9 10\ncpu0 1 2 3 4 5 6 7 8 9 10\ncpu1 1 2 x\ncpu2 9 8 7 6\nintr 5\n";
        let cpus = parse(text);
        assert_eq!(cpus.len(), 2);
        assert_eq!(cpus[0], ("0", [1., 2., 3., 4., 5., 6., 7., 8., 9., 10.]));
        assert_eq!(cpus[1], ("2", [9., 8., 7., 6., 0., 0., 0., 0., 0., 0.]));
    }

    #[test]
    fn counters_never_step_back_but_may_start_again() {
        let mut cpus = Cpus::default();
        let ticks = |user: f64, idle: f64, iowait: f64| [user, 0., 0., idle, iowait, 0., 0., 0., 0., 0.];
        assert_eq!(cpus.advance("0", &ticks(5., 1000., 7.)), ticks(5., 1000., 7.));
        assert_eq!(cpus.advance("0", &ticks(6., 1001., 4.)), ticks(6., 1001., 7.));
        assert_eq!(cpus.advance("0", &ticks(0., 12., 0.)), ticks(0., 12., 0.));
    }
}
