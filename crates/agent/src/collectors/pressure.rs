use crate::{CollectError, Collector, Context, collector::counter};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "pressure",
    doc: "Pressure stall information: time that work waited for CPU, memory or I/O.",
    metrics: &[
        counter(
            "node_pressure_cpu_waiting_seconds_total",
            "Seconds during which some task waited for a CPU.",
        ),
        counter(
            "node_pressure_io_waiting_seconds_total",
            "Seconds during which some task waited for I/O.",
        ),
        counter(
            "node_pressure_io_stalled_seconds_total",
            "Seconds during which all tasks waited for I/O.",
        ),
        counter(
            "node_pressure_memory_waiting_seconds_total",
            "Seconds during which some task waited for memory.",
        ),
        counter(
            "node_pressure_memory_stalled_seconds_total",
            "Seconds during which all tasks waited for memory.",
        ),
        counter(
            "node_pressure_irq_stalled_seconds_total",
            "Seconds during which interrupts held all tasks up.",
        ),
    ],
    collect,
};

/// Resource, line of its file, metric.
const LINES: [(&str, &str, &str); 6] = [
    ("cpu", "some", "node_pressure_cpu_waiting_seconds_total"),
    ("io", "some", "node_pressure_io_waiting_seconds_total"),
    ("io", "full", "node_pressure_io_stalled_seconds_total"),
    ("memory", "some", "node_pressure_memory_waiting_seconds_total"),
    ("memory", "full", "node_pressure_memory_stalled_seconds_total"),
    ("irq", "full", "node_pressure_irq_stalled_seconds_total"),
];

/// Total of one line in seconds; the kernel counts microseconds.
fn parse(text: &str, line: &str) -> Option<f64> {
    let rest = text.lines().find_map(|l| l.strip_prefix(line)?.strip_prefix(' '))?;
    let total = rest
        .split_ascii_whitespace()
        .find_map(|word| word.strip_prefix("total="))?;
    Some(super::number(total)? / 1e6)
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let mut read = ("", String::new());
    for (resource, line, metric) in LINES {
        if read.0 != resource {
            let text = match context.proc.text(&format!("proc/pressure/{resource}")) {
                Ok(text) => text,
                // kernels before 6.1 have none
                Err(_) if resource == "irq" => return Ok(()),
                Err(error) => return Err(error),
            };
            read = (resource, text);
        }
        if let Some(seconds) = parse(&read.1, line) {
            context.out.put(metric, &[], seconds);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_in_seconds() {
        let text = "some avg10=0.05 avg60=1.60 avg300=4.47 total=40931994\nfull avg10=0.00 total=7\n";
        assert_eq!(parse(text, "some"), Some(40.931994));
        assert_eq!(parse(text, "full"), Some(0.000007));
        assert_eq!(parse("some avg10=1", "some"), None);
    }
}
