use crate::{CollectError, Collector, Context, Metric, collector::counter};

const METRICS: &[Metric] = &[
    counter("node_network_receive_bytes_total", "Bytes received."),
    counter("node_network_receive_packets_total", "Packets received."),
    counter("node_network_receive_errs_total", "Packets received with errors."),
    counter("node_network_receive_drop_total", "Packets received and dropped."),
    counter("node_network_receive_fifo_total", "Receive buffer overruns."),
    counter("node_network_receive_frame_total", "Packets received with a bad frame."),
    counter("node_network_receive_compressed_total", "Compressed packets received."),
    counter("node_network_receive_multicast_total", "Multicast packets received."),
    counter("node_network_transmit_bytes_total", "Bytes sent."),
    counter("node_network_transmit_packets_total", "Packets sent."),
    counter("node_network_transmit_errs_total", "Packets that failed to be sent."),
    counter("node_network_transmit_drop_total", "Packets dropped instead of sent."),
    counter("node_network_transmit_fifo_total", "Send buffer underruns."),
    counter("node_network_transmit_colls_total", "Collisions."),
    counter("node_network_transmit_carrier_total", "Carrier losses while sending."),
    counter("node_network_transmit_compressed_total", "Compressed packets sent."),
];

pub(crate) static COLLECTOR: Collector = Collector {
    name: "netdev",
    doc: "Traffic and errors of network devices.",
    metrics: METRICS,
    collect,
};

fn parse(text: &str) -> impl Iterator<Item = (&str, impl Iterator<Item = f64>)> {
    text.lines().filter_map(|line| {
        // two header lines have no colon; an alias (eth0:1) has one in its name
        let (device, columns) = line.rsplit_once(':')?;
        Some((device.trim(), columns.split_ascii_whitespace().map_while(super::number)))
    })
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.proc.text("proc/net/dev")?;
    for (device, columns) in parse(&text) {
        if context.exclusions.network.is_match(device) {
            continue;
        }
        for (metric, value) in METRICS.iter().zip(columns) {
            context.out.put(metric.name, &[("device", device)], value);
        }
    }
    Ok(())
}
