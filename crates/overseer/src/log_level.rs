const LEVELS: [&str; 6] = ["off", "error", "warn", "info", "debug", "trace"];
/// What may stand before `=`: Overseer's own crates, and libraries that write log lines.
const TARGETS: [&str; 16] = [
    "agent",
    "axum",
    "bus",
    "gateway",
    "h2",
    "host",
    "hyper",
    "hyper_util",
    "input",
    "model",
    "overseer",
    "query",
    "rustls",
    "series",
    "store",
    "wire",
];

/// Whether a text is a level or a filter. The logging library would take any other word for a target, and then write
/// nothing.
pub(crate) fn check(text: &str) -> Result<(), String> {
    let refused = |part: &str, right: &str| {
        let part: String = part.chars().take(40).collect();
        Err(format!("log.level: {part:?} is no level: {right} is right"))
    };
    let levels = "error, warn, info, debug, trace or off, or a filter such as info,store=debug";
    for part in text.split(',') {
        let (target, level) = match part.split_once('=') {
            Some((target, level)) => (Some(target), level),
            None => (None, part),
        };
        if !LEVELS.iter().any(|l| level.eq_ignore_ascii_case(l)) {
            return refused(level, levels);
        }
        let Some(target) = target else { continue };
        let name = target.split("::").next().unwrap_or_default();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == ':';
        if !TARGETS.contains(&name) || !target.chars().all(plain) {
            let target: String = target.chars().take(40).collect();
            return Err(format!(
                "log.level: no part is called {target:?}: one of {} is right",
                TARGETS.join(", ")
            ));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_a_filter_to_the_logging_library_too() {
        for good in [
            "info",
            "WARN",
            "off",
            "info,store=debug",
            "store=debug",
            "warn,gateway::live=trace,hyper_util=info",
        ] {
            check(good).unwrap();
            tracing_subscriber::EnvFilter::try_new(good).unwrap();
        }
    }

    #[test]
    fn a_word_that_is_no_level_is_named() {
        for (bad, named) in [
            ("warning", "warning"),
            ("inof", "inof"),
            ("info,store=debgu", "debgu"),
            ("info,stroe=debug", "stroe"),
            ("", "\"\""),
            ("info,", "\"\""),
            ("info, store=debug", "\" store\""),
            ("store[x]=debug", "store[x]"),
            ("3", "3"),
        ] {
            let why = check(bad).unwrap_err();
            assert!(why.contains(named) && why.starts_with("log.level"), "{bad}: {why}");
        }
    }
}
