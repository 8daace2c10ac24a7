use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static COLLECTOR: Collector = Collector {
    name: "meminfo",
    doc: "Memory and swap, every field of /proc/meminfo.",
    metrics: &[
        gauge("node_memory_*_bytes", "Bytes of the field * of /proc/meminfo."),
        gauge("node_memory_*", "Pages of the field * of /proc/meminfo."),
    ],
    collect,
};

/// Metric names without prefix, and values in bytes where the kernel gives kB.
fn parse(text: &str) -> impl Iterator<Item = (String, f64)> {
    text.lines().filter_map(|line| {
        let (field, rest) = line.split_once(':')?;
        let mut words = rest.split_ascii_whitespace();
        let value = super::number(words.next()?)?;
        let mut name = String::with_capacity(field.len() + 6);
        name.extend(field.trim().chars().filter_map(|c| match c {
            '(' => Some('_'),
            ')' => None,
            c if c.is_ascii_alphanumeric() => Some(c),
            _ => Some('_'),
        }));
        if name.is_empty() {
            return None;
        }
        match words.next() {
            Some("kB") => {
                name.push_str("_bytes");
                Some((name, value * 1024.0))
            }
            _ => Some((name, value)),
        }
    })
}

fn collect(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context.proc.text("proc/meminfo")?;
    let mut metric = String::from("node_memory_");
    let prefix = metric.len();
    let mut any = false;
    for (name, value) in parse(&text) {
        any = true;
        if name == "MemTotal_bytes" {
            context.state.memory_bytes = value;
        }
        metric.truncate(prefix);
        metric.push_str(&name);
        context.out.put(&metric, &[], value);
    }
    any.then_some(()).ok_or(CollectError::Parse {
        path: "proc/meminfo",
        missing: "field",
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_fit_and_kilobytes_become_bytes() {
        let text = "MemTotal:  24684096 kB\nActive(anon):  12 kB\nHugePages_Total:       3\nbroken\nX: y kB\n";
        let got: Vec<(String, f64)> = parse(text).collect();
        let want = [
            ("MemTotal_bytes", 24684096.0 * 1024.0),
            ("Active_anon_bytes", 12288.0),
            ("HugePages_Total", 3.0),
        ];
        assert_eq!(got, want.map(|(n, v)| (n.to_owned(), v)));
    }
}
