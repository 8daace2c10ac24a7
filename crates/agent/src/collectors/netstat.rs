use crate::{CollectError, Collector, Context, collector::unknown};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "netstat",
    doc: "Counts of the IP, ICMP, TCP and UDP layers.",
    metrics: &[unknown(
        "node_netstat_*",
        "The count * of /proc/net/snmp, snmp6 or netstat.",
    )],
    collect,
};

/// node_exporter's default choice of fields.
fn is_kept(protocol: &str, field: &str) -> bool {
    match field {
        "InErrors" | "InErrs" => true,
        "Forwarding" => protocol == "Ip",
        "InOctets" | "OutOctets" => matches!(protocol, "Ip6" | "IpExt"),
        "InMsgs" | "OutMsgs" => matches!(protocol, "Icmp" | "Icmp6"),
        "TCPSynRetrans" | "TCPTimeouts" | "TCPOFOQueue" | "TCPRcvQDrop" => protocol == "TcpExt",
        "ActiveOpens" | "InSegs" | "OutSegs" | "OutRsts" | "PassiveOpens" | "RetransSegs" | "CurrEstab" => {
            protocol == "Tcp"
        }
        "InDatagrams" | "OutDatagrams" | "NoPorts" | "RcvbufErrors" | "SndbufErrors" => {
            matches!(protocol, "Udp" | "Udp6")
        }
        _ => protocol == "TcpExt" && (field.starts_with("Listen") || field.starts_with("Syncookies")),
    }
}

/// Pairs of lines: names, then values, both after the protocol. `Ip: Forwarding …` over `Ip: 2 …`.
fn parse_tables(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    let mut lines = text.lines();
    let tables = std::iter::from_fn(move || Some((lines.next()?, lines.next()?)));
    tables.flat_map(|(names, values)| {
        let (protocol, names) = names.split_once(':').unwrap_or(("", ""));
        let values = values
            .split_once(':')
            .filter(|(p, _)| *p == protocol)
            .map_or("", |(_, values)| values);
        let both = names.split_ascii_whitespace().zip(values.split_ascii_whitespace());
        // Tcp MaxConn is -1; fields of interest are never negative
        both.filter_map(move |(name, value)| Some((protocol, name, super::number(value)?)))
    })
}

/// `Ip6InReceives 1`: the protocol ends at the first 6.
fn parse_six(text: &str) -> impl Iterator<Item = (&str, &str, f64)> {
    super::pairs(text).filter_map(|(name, value)| {
        let end = name.find('6')? + 1;
        Some((&name[..end], &name[end..], value))
    })
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let snmp = context.proc.text("proc/net/snmp")?;
    let netstat = context.proc.text("proc/net/netstat")?;
    let six = context.proc.text("proc/net/snmp6").unwrap_or_default();
    for (protocol, field, value) in parse_tables(&snmp).chain(parse_tables(&netstat)).chain(parse_six(&six)) {
        if is_kept(protocol, field) {
            context.out.put(&format!("node_netstat_{protocol}_{field}"), &[], value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_and_lists() {
        let text = "Ip: Forwarding DefaultTTL\nIp: 2 64\nTcp: MaxConn InSegs\nTcp: -1 7\nUdp: A\nTcp: 1\nodd";
        let got: Vec<_> = parse_tables(text).collect();
        assert_eq!(
            got,
            [
                ("Ip", "Forwarding", 2.0),
                ("Ip", "DefaultTTL", 64.0),
                ("Tcp", "InSegs", 7.0)
            ]
        );
        let got: Vec<_> = parse_six("Ip6InOctets 9\nUdpLite6InErrors\t3\nodd 1\n").collect();
        assert_eq!(got, [("Ip6", "InOctets", 9.0), ("UdpLite6", "InErrors", 3.0)]);
    }
}
