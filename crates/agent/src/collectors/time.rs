use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "time",
    doc: "The host's clock.",
    metrics: &[gauge("node_time_seconds", "The host's time, in Unix seconds.")],
    collect,
};

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    context
        .out
        .put("node_time_seconds", &[], context.now_ms as f64 / 1000.0);
    Ok(())
}
