//! Prometheus names of OpenTelemetry metrics and attributes, by the compatibility specification.

/// What a metric is, as far as its name depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NameKind {
    Gauge,
    MonotonicSum,
    Other,
}

const UNITS: &[(&str, &str)] = &[
    ("d", "days"),
    ("h", "hours"),
    ("min", "minutes"),
    ("s", "seconds"),
    ("ms", "milliseconds"),
    ("us", "microseconds"),
    ("ns", "nanoseconds"),
    ("By", "bytes"),
    ("KiBy", "kibibytes"),
    ("MiBy", "mebibytes"),
    ("GiBy", "gibibytes"),
    ("TiBy", "tibibytes"),
    ("KBy", "kilobytes"),
    ("MBy", "megabytes"),
    ("GBy", "gigabytes"),
    ("TBy", "terabytes"),
    ("m", "meters"),
    ("V", "volts"),
    ("A", "amperes"),
    ("J", "joules"),
    ("W", "watts"),
    ("g", "grams"),
    ("Cel", "celsius"),
    ("Hz", "hertz"),
    ("1", ""),
    ("%", "percent"),
];

const PER_UNITS: &[(&str, &str)] = &[
    ("s", "second"),
    ("m", "minute"),
    ("h", "hour"),
    ("d", "day"),
    ("w", "week"),
    ("mo", "month"),
    ("y", "year"),
];

/// The metric's name with its unit's suffix, `_total` for monotonic sums and `_ratio` for gauges of unit 1. A name of
/// which nothing would be left (letters of other scripts only) stays as it is.
pub fn metric_name(name: &str, unit: &str, kind: NameKind) -> String {
    let mut tokens: Vec<&str> = name
        .split(|c: char| !plain(c) && c != ':')
        .filter(|t| !t.is_empty())
        .collect();
    if tokens.is_empty() {
        return name.to_owned();
    }
    let (main, per) = unit_suffixes(unit);
    if !main.is_empty() && !tokens.contains(&&*main) {
        tokens.push(&main);
    }
    if !per.is_empty() && !tokens.contains(&&*per) {
        tokens.push(&per);
    }
    let last = match kind {
        NameKind::MonotonicSum => Some("total"),
        NameKind::Gauge if unit == "1" => Some("ratio"),
        _ => None,
    };
    if let Some(last) = last {
        tokens.retain(|t| *t != last);
        tokens.push(last);
    }
    let mut out = tokens.join("_");
    if out.starts_with(|c: char| c.is_ascii_digit()) {
        out.insert(0, '_');
    }
    out
}

/// The unit as metadata has it.
pub(super) fn unit_name(unit: &str) -> String {
    let (main, per) = unit_suffixes(unit);
    match (main.is_empty(), per.is_empty()) {
        (false, false) => format!("{main}_{per}"),
        (false, true) => main,
        _ => per,
    }
}

/// The label of an attribute: what Prometheus names cannot have becomes `_` (runs become one), `key_` goes before a
/// leading digit. A key of which nothing would be left stays as it is.
pub fn label_name(key: &str) -> String {
    let reserved = key.len() >= 4 && key.starts_with("__") && key.ends_with("__");
    let inner = if reserved { &key[2..key.len() - 2] } else { key };
    let inner = squeezed(inner);
    if inner.bytes().all(|b| b == b'_') {
        return key.to_owned();
    }
    if reserved {
        format!("__{inner}__")
    } else if inner.starts_with(|c: char| c.is_ascii_digit()) {
        format!("key_{inner}")
    } else {
        inner
    }
}

fn plain(c: char) -> bool {
    c.is_ascii_alphanumeric()
}

fn squeezed(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if plain(c) {
            out.push(c);
        } else if !out.ends_with('_') {
            out.push('_');
        }
    }
    out
}

/// Suffixes of a unit such as `By/s`: `bytes` and `per_second`. Annotations in braces have none.
fn unit_suffixes(unit: &str) -> (String, String) {
    let (main, per) = match unit.split_once('/') {
        Some((main, per)) => (main.trim(), per.trim()),
        None => (unit.trim(), ""),
    };
    let look = |table: &[(&str, &str)], unit: &str| {
        if unit.contains(['{', '}']) {
            return String::new();
        }
        let word = table.iter().find(|(u, _)| *u == unit).map_or(unit, |(_, word)| word);
        squeezed(word).trim_matches('_').to_owned()
    };
    let main = look(UNITS, main);
    let per = look(PER_UNITS, per);
    let per = if per.is_empty() { per } else { format!("per_{per}") };
    (main, per)
}
