use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "loadavg",
    doc: "Load averages over 1, 5 and 15 minutes.",
    metrics: &[
        gauge("node_load1", "1m load average."),
        gauge("node_load5", "5m load average."),
        gauge("node_load15", "15m load average."),
    ],
    collect,
};

fn parse(text: &str) -> Option<[f64; 3]> {
    let mut words = text
        .split_ascii_whitespace()
        .map(|word| word.parse::<f64>().ok().filter(|n| n.is_finite()));
    Some([words.next()??, words.next()??, words.next()??])
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.proc.text("proc/loadavg")?;
    let loads = parse(&text).ok_or(CollectError::Parse {
        path: "proc/loadavg",
        missing: "three numbers",
    })?;
    for (metric, load) in ["node_load1", "node_load5", "node_load15"].into_iter().zip(loads) {
        context.out.put(metric, &[], load);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_numbers_or_nothing() {
        assert_eq!(parse("0.37 0.61 12.38 1/93 16541\n"), Some([0.37, 0.61, 12.38]));
        assert_eq!(parse("0.37 0.61"), None);
        assert_eq!(parse("0.37 nan 1"), None);
    }
}
