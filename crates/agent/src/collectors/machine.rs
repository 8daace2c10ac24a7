use crate::{CollectError, Collector, Context, collector::gauge};

pub(crate) static UNAME: Collector = Collector {
    name: "uname",
    doc: "Kernel and machine, as uname tells them.",
    metrics: &[gauge(
        "node_uname_info",
        "Always 1; the labels tell kernel and machine.",
    )],
    collect: collect_uname,
};

pub(crate) static OS: Collector = Collector {
    name: "os",
    doc: "Distribution and its version, from os-release.",
    metrics: &[
        gauge("node_os_info", "Always 1; the labels tell the distribution."),
        gauge(
            "node_os_version",
            "Major and minor version of the distribution as a number.",
        ),
    ],
    collect: collect_os,
};

fn collect_uname(context: &mut Context<'_>) -> Result<(), CollectError> {
    let machine = &context.proc.machine;
    let labels = [
        ("sysname", &*machine.sysname),
        ("release", &*machine.release),
        ("version", &*machine.version),
        ("machine", &*machine.machine),
        ("nodename", &*machine.nodename),
        ("domainname", &*machine.domainname),
    ];
    context.out.put("node_uname_info", &labels, 1.0);
    Ok(())
}

/// Keys of os-release that are labels, and the labels' names.
const OS_LABELS: [(&str, &str); 12] = [
    ("BUILD_ID", "build_id"),
    ("ID", "id"),
    ("ID_LIKE", "id_like"),
    ("IMAGE_ID", "image_id"),
    ("IMAGE_VERSION", "image_version"),
    ("NAME", "name"),
    ("PRETTY_NAME", "pretty_name"),
    ("VARIANT", "variant"),
    ("VARIANT_ID", "variant_id"),
    ("VERSION", "version"),
    ("VERSION_CODENAME", "version_codename"),
    ("VERSION_ID", "version_id"),
];

fn parse_os(text: &str) -> impl Iterator<Item = (&str, String)> {
    text.lines().filter_map(|line| {
        let (key, value) = line.trim().split_once('=')?;
        let value = match value.as_bytes() {
            [quote @ (b'"' | b'\''), .., end] if quote == end => &value[1..value.len() - 1],
            _ => value,
        };
        let mut out = String::with_capacity(value.len());
        let mut escaped = false;
        for c in value.chars() {
            if c == '\\' && !escaped {
                escaped = true;
            } else {
                out.push(c);
                escaped = false;
            }
        }
        Some((key, out))
    })
}

/// `12` of `12`, `22.04` of `22.04.3`.
fn version_number(version: &str) -> Option<f64> {
    let mut parts = version.splitn(3, '.');
    let (major, minor) = (parts.next()?, parts.next());
    let is_number = |part: &str| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit());
    match minor.filter(|minor| is_number(minor)) {
        Some(minor) if is_number(major) => format!("{major}.{minor}").parse().ok(),
        _ if is_number(major) => major.parse().ok(),
        _ => None,
    }
}

fn collect_os(context: &mut Context<'_>) -> Result<(), CollectError> {
    let text = context
        .proc
        .text("etc/os-release")
        .or_else(|_| context.proc.text("usr/lib/os-release"))?;
    let mut values: [String; OS_LABELS.len()] = Default::default();
    for (key, value) in parse_os(&text) {
        if let Some(at) = OS_LABELS.iter().position(|(name, _)| *name == key) {
            values[at] = value;
        }
    }
    let mut labels = [("", ""); OS_LABELS.len()];
    for ((label, (_, name)), value) in labels.iter_mut().zip(OS_LABELS).zip(&values) {
        *label = (name, value);
    }
    context.out.put("node_os_info", &labels, 1.0);
    let value = |name| {
        labels
            .iter()
            .find(|(label, _)| *label == name)
            .map_or("", |(_, value)| *value)
    };
    if let Some(version) = version_number(value("version_id")) {
        let few = ["id", "id_like", "name"].map(|name| (name, value(name)));
        context.out.put("node_os_version", &few, version);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn os_release_quotes() {
        let text = "NAME=\"A \\\"B\\\"\"\nID=debian\nX='y'\n#comment\nEMPTY=\nONE=\"\n";
        let got: Vec<(&str, String)> = parse_os(text).collect();
        let want = [
            ("NAME", "A \"B\""),
            ("ID", "debian"),
            ("X", "y"),
            ("EMPTY", ""),
            ("ONE", "\""),
        ];
        assert_eq!(got, want.map(|(k, v)| (k, v.to_owned())));
    }

    #[test]
    fn versions() {
        assert_eq!(version_number("12"), Some(12.0));
        assert_eq!(version_number("22.04.3"), Some(22.04));
        assert_eq!(version_number("rolling"), None);
        assert_eq!(version_number(""), None);
        assert_eq!(version_number("3.20_alpha"), Some(3.0));
    }
}
