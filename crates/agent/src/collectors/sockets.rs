use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "sockstat",
    doc: "Sockets in use, by protocol.",
    metrics: &[gauge("node_sockstat_*", "Sockets or pages: * of /proc/net/sockstat.")],
    collect,
};

/// Protocol, field, value.
fn parse(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    text.lines().flat_map(|line| {
        let (protocol, rest) = line.split_once(':').unwrap_or(("", ""));
        let mut words = rest.split_ascii_whitespace();
        std::iter::from_fn(move || Some((protocol, words.next()?, super::number(words.next()?)?)))
    })
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let page_bytes = context.proc.machine.page_bytes as f64;
    let four = context.proc.text("proc/net/sockstat")?;
    // a host may do without IPv6
    let six = context.proc.text("proc/net/sockstat6").unwrap_or_default();
    for (protocol, field, value) in parse(&four).chain(parse(&six)) {
        context
            .out
            .put(&format!("node_sockstat_{protocol}_{field}"), &[], value);
        if field == "mem" {
            context
                .out
                .put(&format!("node_sockstat_{protocol}_mem_bytes"), &[], value * page_bytes);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_per_protocol() {
        let got: Vec<_> = parse("sockets: used 16\nTCP: inuse 1 orphan 0 odd\nnone\n").collect();
        assert_eq!(
            got,
            [("sockets", "used", 16.0), ("TCP", "inuse", 1.0), ("TCP", "orphan", 0.0)]
        );
    }
}
