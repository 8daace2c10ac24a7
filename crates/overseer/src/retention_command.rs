use host::Host;
use http::Method;
use serde_json::Value;

use crate::cli::{RetentionArgs, Settings};
use crate::progress::bytes;
use crate::server_client::{ServerClient, encode};
use crate::{Failure, config, terminal};

/// `overseer retention`: what a server's rules keep, or what those of the configuration here would.
pub(crate) fn run(settings: &Settings, ask: &RetentionArgs) -> Result<(), Failure> {
    let (config, _) = config::load(settings)?;
    let server = ServerClient::of_answers(&Host::real(), settings, &config, ask.url.as_deref())?;
    let data = if ask.dry_run {
        let rules = serde_json::to_string(&config.store.retention).map_err(|e| Failure::failed(e.to_string()))?;
        let days = config.store.retention_days.map_or(String::new(), |d| d.to_string());
        let rollup = |keep: &Option<String>| keep.clone().unwrap_or_default();
        let form = encode(&[
            ("retention", rules),
            ("retention_days", days),
            ("rollup_1m", rollup(&config.store.rollup_1m)),
            ("rollup_1h", rollup(&config.store.rollup_1h)),
        ]);
        server.call_with(Method::POST, "/api/v1/admin/retention/dry_run", form)?
    } else {
        server.call(Method::GET, "/api/v1/admin/retention")?
    };
    if ask.json {
        terminal::say(&data.to_string())?;
        return Ok(());
    }
    for line in lines(&data) {
        terminal::say(&line)?;
    }
    Ok(())
}

fn lines(data: &Value) -> Vec<String> {
    let text = |v: &Value| -> String {
        let s = v.as_str().unwrap_or("(all others)");
        // a terminal must not be steered by what a server says
        s.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
    };
    let number = |v: &Value| v.as_u64().unwrap_or(0);
    let rows: Vec<&Value> = data["classes"].as_array().into_iter().flatten().collect();
    let width = rows
        .iter()
        .map(|r| text(&r["match"]).chars().count())
        .max()
        .unwrap_or(0);
    let rollups = |r: &Value| -> Vec<String> {
        let all = r["rollups"].as_array().into_iter().flatten();
        all.map(|u| {
            format!(
                "{:width$}  keep {:>8}  {:>10} in rollups of {}; would go: {} in {} whole files",
                "",
                text(&u["keep"]),
                bytes(number(&u["bytes"])),
                text(&u["of"]),
                bytes(number(&u["due"]["bytes"])),
                number(&u["due"]["files"]),
            )
        })
        .collect()
    };
    rows.iter()
        .flat_map(|r| {
            let line = format!(
                "{:width$}  keep {:>8}  {:>10}, {} samples; would go: {} in {} whole files, {} samples",
                text(&r["match"]),
                text(&r["keep"]),
                bytes(number(&r["bytes"])),
                number(&r["samples"]),
                bytes(number(&r["due"]["bytes"])),
                number(&r["due"]["files"]),
                number(&r["due"]["samples"]),
            );
            std::iter::once(line).chain(rollups(r))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn one_line_a_class() {
        let due = json!({ "files": 2, "bytes": 2048, "samples": 7 });
        let data = json!({ "classes": [
            { "match": "up\u{1b}", "keep": "1w", "bytes": 4096, "samples": 9, "due": due },
            { "match": null, "keep": "forever", "bytes": 1, "samples": 1, "due": {},
              "rollups": [{ "of": "1h", "keep": "1y", "bytes": 3072, "due": { "files": 1, "bytes": 1024 } }] },
        ]});
        let lines = lines(&data);
        assert!(
            lines[0].contains("4.0 KiB, 9 samples; would go: 2.0 KiB in 2 whole files, 7 samples"),
            "{lines:?}"
        );
        assert!(
            lines[2].ends_with("3.0 KiB in rollups of 1h; would go: 1.0 KiB in 1 whole files"),
            "{lines:?}"
        );
        assert!(
            lines[1].starts_with("(all others)") && !lines[0].contains('\u{1b}'),
            "{lines:?}"
        );
    }
}
