use crate::{
    CollectError, Collector, Context, Metric,
    collector::{counter, gauge},
};

const METRICS: &[Metric] = &[
    counter("node_disk_reads_completed_total", "Reads that the device finished."),
    counter(
        "node_disk_reads_merged_total",
        "Reads merged with a neighbour before they were queued.",
    ),
    counter("node_disk_read_bytes_total", "Bytes read."),
    counter(
        "node_disk_read_time_seconds_total",
        "Seconds that all reads took together.",
    ),
    counter("node_disk_writes_completed_total", "Writes that the device finished."),
    counter(
        "node_disk_writes_merged_total",
        "Writes merged with a neighbour before they were queued.",
    ),
    counter("node_disk_written_bytes_total", "Bytes written."),
    counter(
        "node_disk_write_time_seconds_total",
        "Seconds that all writes took together.",
    ),
    gauge("node_disk_io_now", "Reads and writes in progress."),
    counter(
        "node_disk_io_time_seconds_total",
        "Seconds during which the device had work.",
    ),
    counter(
        "node_disk_io_time_weighted_seconds_total",
        "Seconds of work times reads and writes in progress.",
    ),
    counter(
        "node_disk_discards_completed_total",
        "Discards that the device finished.",
    ),
    counter(
        "node_disk_discards_merged_total",
        "Discards merged with a neighbour before they were queued.",
    ),
    counter("node_disk_discarded_sectors_total", "Sectors discarded."),
    counter(
        "node_disk_discard_time_seconds_total",
        "Seconds that all discards took together.",
    ),
    counter("node_disk_flush_requests_total", "Flushes that the device finished."),
    counter(
        "node_disk_flush_requests_time_seconds_total",
        "Seconds that all flushes took together.",
    ),
];

pub(crate) static COLLECTOR: Collector = Collector {
    name: "diskstats",
    doc: "Work of block devices.",
    metrics: METRICS,
    collect,
};

/// What to multiply each column by: sectors are 512 bytes whatever the device says, times are in ms.
const UNITS: [f64; 17] = {
    const SECTOR: f64 = 512.0;
    const MS: f64 = 0.001;
    [
        1., 1., SECTOR, MS, 1., 1., SECTOR, MS, 1., MS, MS, 1., 1., 1., MS, 1., MS,
    ]
};
const _: () = assert!(UNITS.len() == METRICS.len());

/// Device names and their columns (11 on old kernels, 15 with discards, 17 with flushes).
fn parse(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = f64>)> {
    text.lines().filter_map(|line| {
        let mut words = line.split_ascii_whitespace().skip(2);
        Some((words.next()?, words.map_while(super::number)))
    })
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.proc.text("proc/diskstats")?;
    for (device, columns) in parse(&text) {
        if context.exclusions.disk.is_match(device) {
            continue;
        }
        for ((metric, unit), value) in METRICS.iter().zip(UNITS).zip(columns) {
            context.out.put(metric.name, &[("device", device)], value * unit);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn old_and_new_lines() {
        let text =
            "   8       0 sda 1 2 3 4 5 6 7 8 9 10 11\n 254 0 vda 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17\n1 2\n";
        let got: Vec<(&str, usize)> = parse(text).map(|(device, columns)| (device, columns.count())).collect();
        assert_eq!(got, [("sda", 11), ("vda", 17)]);
    }
}
