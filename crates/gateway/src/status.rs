//! What the Prometheus API says of the server itself: build, flags, configuration, targets, rules. Parameters are
//! checked as Prometheus checks them, also where there is nothing yet that they could choose from.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use model::{Matcher, Metadata};
use query::promql::{self, functions};
use serde_json::{Map, Value, json};

use crate::answer::{Refusal, empty, success};
use crate::draft::Draft;
use crate::params::{Params, invalid};
use crate::parts::App;
use crate::read::Ask;

/// The Prometheus whose API and PromQL are spoken: clients choose features by it.
const PROMETHEUS_VERSION: &str = "3.14.0";
/// How Go writes a time that never was.
const NEVER: &str = "0001-01-01T00:00:00Z";

fn rfc3339(at_ms: i64) -> String {
    match jiff::Timestamp::from_millisecond(at_ms) {
        Ok(t) if at_ms != 0 => t.to_string(),
        _ => NEVER.to_owned(),
    }
}

/// Seconds in Prometheus' notation.
fn duration(seconds: u32) -> String {
    let (days, weeks) = (seconds / 86_400, seconds.is_multiple_of(7 * 86_400));
    if seconds == 0 {
        return "0s".to_owned();
    }
    if seconds.is_multiple_of(365 * 86_400) {
        return format!("{}y", days / 365);
    }
    if weeks {
        return format!("{}w", days / 7);
    }
    let parts = [
        (days, 'd'),
        (seconds / 3600 % 24, 'h'),
        (seconds / 60 % 60, 'm'),
        (seconds % 60, 's'),
    ];
    let shown = parts.iter().filter(|(n, _)| *n > 0);
    shown.map(|(n, unit)| format!("{n}{unit}")).collect()
}

/// Parameters of the URL.
fn params_of(request: &Request<Body>) -> Result<Params, Refusal> {
    Params::of_query(request.uri().query())
}

pub(crate) async fn buildinfo(State(app): State<Arc<App>>) -> Response {
    success(&json!({
        "version": PROMETHEUS_VERSION,
        "revision": format!("overseer-{}", app.parts.about.version),
        "branch": "main",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "overseer",
        "overseerVersion": app.parts.about.version,
    }))
}

/// The configuration in force, as YAML without secrets.
pub(crate) async fn config(State(app): State<Arc<App>>) -> Response {
    success(&json!({ "yaml": app.reloads.yaml() }))
}

/// The settings that Prometheus has as flags, under its names.
pub(crate) async fn flags(State(app): State<Arc<App>>) -> Response {
    let q = &app.parts.query;
    let mut cors = app.cors_origins.join("|");
    if cors == "*" {
        cors = ".*".to_owned();
    }
    success(&json!({
        "config.file": "",
        "query.lookback-delta": duration(q.lookback_seconds),
        "query.timeout": duration(q.timeout_seconds),
        "query.max-samples": q.samples_max.to_string(),
        "storage.tsdb.path": app.parts.about.data_dir,
        "storage.tsdb.retention.time": app.parts.about.retention,
        "web.cors.origin": cors,
        "web.listen-address": app.parts.about.listen,
        "web.enable-admin-api": app.parts.server.delete_api.to_string(),
        "web.enable-lifecycle": app.parts.reload.is_some().to_string(),
        "web.enable-otlp-receiver": "true",
        "web.enable-remote-write-receiver": "true",
        "web.max-connections": app.parts.server.connections_max.to_string(),
    }))
}

pub(crate) async fn runtimeinfo(State(app): State<Arc<App>>) -> Response {
    let stats = app.parts.store.as_ref().map(|s| s.stats().engine);
    let reloads = app.reloads.counts();
    success(&json!({
        "startTime": rfc3339(app.parts.about.started_ms),
        "CWD": app.parts.about.data_dir,
        "hostname": app.parts.about.hostname,
        "serverTime": rfc3339(app.parts.host.clock.now_ms()),
        "reloadConfigSuccess": reloads.last_good,
        "lastConfigTime": rfc3339(reloads.done_at_ms),
        "corruptionCount": stats.as_ref().map_or(0, |s| s.quarantined.len()),
        "goroutineCount": 0,
        "GOMAXPROCS": crate::read::threads(),
        "GOMEMLIMIT": i64::MAX,
        "GOGC": "",
        "GODEBUG": "",
        "timeSeriesCount": stats.as_ref().map_or(0, |s| s.series),
        "storageRetention": app.parts.about.retention,
    }))
}

/// How far the replay of this start is or was, as Prometheus tells of its own: positions in the place of its segments.
pub(crate) async fn walreplay(State(app): State<Arc<App>>) -> Response {
    let replay = app.parts.store.as_ref().map(|s| s.replay()).unwrap_or_default();
    let state = if replay.is_over() { "done" } else { "in progress" };
    success(&json!({ "min": replay.from, "max": replay.target, "current": replay.applied, "state": state }))
}

/// What is there of what Prometheus lists; clients ask before they use it.
pub(crate) async fn features(State(app): State<Arc<App>>) -> Response {
    let on = |names: &[&str]| -> Value {
        names
            .iter()
            .map(|n| ((*n).to_owned(), true.into()))
            .collect::<Map<_, _>>()
            .into()
    };
    let off =
        |names: &[&str]| -> Map<String, Value> { names.iter().map(|n| ((*n).to_owned(), false.into())).collect() };
    let mut api = off(&["lifecycle", "openapi_3.1", "openapi_3.2", "search"]);
    api.insert("admin".to_owned(), app.parts.server.delete_api.into());
    for name in [
        "exclude_alerts",
        "label_values_match",
        "otlp_write_receiver",
        "query_stats",
        "query_warnings",
        "remote_write_receiver",
        "time_range_labels",
        "time_range_series",
    ] {
        api.insert(name.to_owned(), true.into());
    }
    let named: Vec<&str> = functions::FUNCTIONS.iter().map(|f| f.name).collect();
    success(&json!({
        "api": api,
        "promql": on(&[
            "anchored", "at_modifier", "bool", "by", "duration_expr", "fill", "fill_left", "fill_right", "group_left",
            "group_right", "ignoring", "negative_offset", "offset", "on", "per_query_lookback_delta", "per_step_stats",
            "smoothed", "subqueries", "without",
        ]),
        "promql_functions": on(&named),
        "promql_operators": on(&[
            "!=", "!~", "%", "*", "+", "-", "/", "<", "</", "<=", "==", "=~", ">", ">/", ">=", "@", "^", "and", "atan2",
            "avg", "bottomk", "count", "count_values", "group", "limit_ratio", "limitk", "max", "min", "or", "quantile",
            "stddev", "stdvar", "sum", "topk", "unless",
        ]),
        "tsdb": on(&["exemplar_storage", "isolation", "native_histograms"]),
    }))
}

/// Nothing needs the operator's attention that Prometheus would have put here.
pub(crate) async fn notifications() -> Response {
    success(&json!([]))
}

/// No stream of notifications, in Prometheus' way of saying so.
pub(crate) async fn notifications_live() -> Response {
    empty(StatusCode::NO_CONTENT)
}

/// No rules are evaluated yet: well formed, and empty.
pub(crate) async fn rules(request: Request<Body>) -> Result<Response, Refusal> {
    let params = params_of(&request)?;
    for text in params.all("match[]") {
        selector("match[]", text)?;
    }
    let kind = params.get("type").unwrap_or("").to_ascii_lowercase();
    if !matches!(kind.as_str(), "" | "alert" | "record") {
        return Err(refused(
            "type",
            &format!("not supported value {kind:?}: alert or record is right"),
        ));
    }
    let exclude = params.get("exclude_alerts").unwrap_or("").to_ascii_lowercase();
    if !matches!(exclude.as_str(), "" | "1" | "t" | "true" | "0" | "f" | "false") {
        return Err(invalid("exclude_alerts", &exclude, "true or false"));
    }
    let next = params.get("group_next_token").unwrap_or("");
    match params.get("group_limit").filter(|v| !v.is_empty()) {
        None if !next.is_empty() => {
            return Err(refused(
                "group_next_token",
                "group_limit needs to be present in order to paginate over the groups",
            ));
        }
        None => {}
        Some(text) => match text.parse::<i32>() {
            Err(_) => return Err(refused("group_limit", "group_limit needs to be a valid number")),
            Ok(n) if n <= 0 => return Err(refused("group_limit", "group_limit needs to be greater than 0")),
            Ok(_) if !next.is_empty() => {
                let shown: String = next.chars().take(80).collect();
                return Err(refused(
                    "group_next_token",
                    &format!("invalid group_next_token '{shown}'. were rule groups changed?"),
                ));
            }
            Ok(_) => {}
        },
    }
    Ok(success(&json!({ "groups": [] })))
}

fn refused(name: &str, why: &str) -> Refusal {
    Refusal::bad_data(format!("invalid parameter \"{name}\": {why}"))
}

fn selector(name: &str, text: &str) -> Result<Vec<Matcher>, Refusal> {
    promql::parse_matchers(text).map_err(|e| refused(name, &e.to_string()))
}

/// No alerts, as there are no rules.
pub(crate) async fn alerts() -> Response {
    success(&json!({ "alerts": [] }))
}

/// Alerts go to no alert manager yet.
pub(crate) async fn alertmanagers() -> Response {
    success(&json!({ "activeAlertmanagers": [], "droppedAlertmanagers": [] }))
}

/// Scrape targets and their health, in Prometheus' shape.
pub(crate) async fn targets(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let params = params_of(&request)?;
    let pool = params.get("scrapePool").unwrap_or("");
    let state = params.get("state").unwrap_or("").to_ascii_lowercase();
    let (any, active) = (matches!(state.as_str(), "" | "any"), state == "active");
    let mut health = if any || active { health(&app) } else { Vec::new() };
    health.retain(|t| pool.is_empty() || t.job == pool);
    let listed: Vec<Value> = health
        .iter()
        .map(|t| {
            json!({
                "discoveredLabels": { "__address__": t.instance, "job": t.job },
                "labels": labels_of(t),
                "scrapePool": t.job,
                "scrapeUrl": t.url,
                "globalUrl": t.url,
                "lastError": t.last_error,
                "lastScrape": rfc3339(t.last_ms),
                "lastScrapeDuration": t.last_duration_seconds,
                "health": match t.up { Some(true) => "up", Some(false) => "down", None => "unknown" },
                "scrapeInterval": duration(t.interval_seconds),
                "scrapeTimeout": duration(t.timeout_seconds),
            })
        })
        .collect();
    let counts: Value = if any || state == "dropped" {
        pools(&app)
            .into_iter()
            .map(|p| (p, 0.into()))
            .collect::<Map<_, _>>()
            .into()
    } else {
        Value::Null
    };
    Ok(success(
        &json!({ "activeTargets": listed, "droppedTargets": [], "droppedTargetCounts": counts }),
    ))
}

/// Targets, by job.
fn health(app: &App) -> Vec<input::TargetHealth> {
    let mut all = app.parts.scraper.as_ref().map(|s| s.health()).unwrap_or_default();
    all.sort_by(|a, b| a.job.cmp(&b.job));
    all
}

fn labels_of(target: &input::TargetHealth) -> Value {
    json!({ "instance": target.instance, "job": target.job })
}

fn pools(app: &App) -> Vec<String> {
    let mut names: Vec<String> = health(app).into_iter().map(|t| t.job).collect();
    names.dedup();
    names
}

pub(crate) async fn scrape_pools(State(app): State<Arc<App>>) -> Response {
    success(&json!({ "scrapePools": pools(&app) }))
}

/// A number that may be absent or empty.
fn number(params: &Params, name: &str) -> Result<Option<i64>, Refusal> {
    match params.get(name).filter(|v| !v.is_empty()) {
        None => Ok(None),
        Some(text) => text
            .parse()
            .map(Some)
            .map_err(|_| Refusal::bad_data(format!("{name} must be a number"))),
    }
}

/// Metadata by metric. A metric has one entry here, whatever number of targets it has.
pub(crate) async fn metadata(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let limit = number(&ask.params, "limit")?.and_then(|n| usize::try_from(n).ok());
    number(&ask.params, "limit_per_metric")?;
    let rows = ask.metadata(ask.params.get("metric")).await?;
    let gzip = ask.gzip;
    let drafted = ask
        .app
        .writing
        .run(move || metadata_draft(rows, limit.unwrap_or(usize::MAX), gzip));
    let draft = drafted.await?;
    ask.answer(draft).await
}

fn metadata_draft(mut rows: Vec<Metadata>, limit: usize, gzip: bool) -> Draft {
    rows.truncate(limit);
    let bytes_of = |m: &Metadata| size_of::<Metadata>() + m.metric.len() + m.help.len() + m.unit.len();
    let bytes: usize = rows.iter().map(bytes_of).sum();
    let mut at = 0;
    let write = move |out: &mut Vec<u8>, len_max: usize| {
        if at == 0 {
            out.extend_from_slice(br#"{"data":{"#);
        }
        while let Some(m) = rows.get(at) {
            if out.len() >= len_max {
                return true;
            }
            if at > 0 {
                out.push(b',');
            }
            promql::json::write_string(&m.metric, out);
            out.extend_from_slice(format!(":[{}]", entry(m, None)).as_bytes());
            at += 1;
        }
        out.extend_from_slice(br#"},"status":"success"}"#);
        false
    };
    Draft::begin(gzip, bytes as u64, Box::new(write))
}

fn entry(m: &Metadata, target: Option<(&Value, bool)>) -> Value {
    let mut row = json!({ "type": m.kind.as_str(), "help": m.help, "unit": m.unit });
    if let Some((target, named)) = target {
        row["target"] = target.clone();
        if named {
            row["metric"] = m.metric.as_str().into();
        }
    }
    row
}

/// Metadata by target: which target a metric's metadata came from is known where samples of both are stored.
pub(crate) async fn target_metadata(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let limit = number(&ask.params, "limit")?
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX);
    let wanted = match ask.params.get("match_target").filter(|v| !v.is_empty()) {
        None => Vec::new(),
        Some(text) => selector("match_target", text)?,
    };
    let metric = ask.params.get("metric").filter(|m| !m.is_empty()).map(str::to_owned);
    let rows = Arc::new(ask.metadata(metric.as_deref()).await?);
    let deadline = tokio::time::Instant::now() + ask.timeout;
    let mut data: Vec<Value> = Vec::new();
    for target in health(&ask.app) {
        let value_of = |name: &str| match name {
            "job" => target.job.as_str(),
            "instance" => target.instance.as_str(),
            _ => "",
        };
        if data.len() >= limit || !wanted.iter().all(|m| m.matches(value_of(&m.name))) {
            continue;
        }
        let labels = labels_of(&target);
        let of_target = [("job", target.job.as_str()), ("instance", target.instance.as_str())];
        let names = tokio::time::timeout_at(deadline, ask.metric_names(&of_target)).await;
        let names = names.map_err(|_| crate::pool::timed_out(ask.timeout))??;
        let (rows, named, left) = (Arc::clone(&rows), metric.is_none(), limit - data.len());
        let found = ask.app.telling.run(move || {
            let rows = rows.iter().filter(|m| belongs(&m.metric, &names)).take(left);
            rows.map(|m| entry(m, Some((&labels, named)))).collect::<Vec<_>>()
        });
        data.extend(found.await?);
    }
    let gzip = ask.gzip;
    let drafted = ask.app.telling.run(move || {
        let body = json!({ "status": "success", "data": data });
        Draft::whole(body.to_string().into_bytes(), gzip)
    });
    ask.answer(drafted.await?).await
}

/// Whether a family has samples among sorted `names`: under its own name or one that a histogram or summary adds to.
fn belongs(family: &str, names: &[String]) -> bool {
    ["", "_bucket", "_count", "_sum", "_total", "_info"]
        .iter()
        .any(|suffix| {
            names
                .binary_search_by(|n| n.as_str().cmp(&format!("{family}{suffix}")))
                .is_ok()
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(query: &str) -> Request<Body> {
        Request::builder()
            .uri(format!("/x?{query}"))
            .body(Body::empty())
            .unwrap()
    }

    #[tokio::test]
    async fn parameters_of_rules_are_checked() {
        for good in [
            "",
            "type=alert",
            "type=Record",
            "exclude_alerts=TRUE",
            "group_limit=3",
            "rule_name[]=a&rule_group[]=b&file[]=c",
            "match[]={severity=%22page%22}",
        ] {
            assert_eq!(rules(ask(good)).await.unwrap().status(), StatusCode::OK, "{good}");
        }
        for (bad, says) in [
            ("type=banana", "\"type\""),
            ("exclude_alerts=maybe", "exclude_alerts"),
            ("group_limit=0", "greater than 0"),
            ("group_limit=x", "valid number"),
            ("group_next_token=a", "group_limit needs to be present"),
            ("group_limit=1&group_next_token=a", "were rule groups changed"),
            ("match[]=((", "match[]"),
        ] {
            let refused = rules(ask(bad)).await.unwrap_err();
            assert_eq!((refused.status, refused.kind), (StatusCode::BAD_REQUEST, "bad_data"));
            assert!(refused.message.contains(says), "{bad}: {}", refused.message);
        }
    }

    #[test]
    fn durations_are_spelled_as_prometheus_does() {
        for (seconds, text) in [
            (9, "9s"),
            (300, "5m"),
            (90, "1m30s"),
            (3600, "1h"),
            (86_400 + 60, "1d1m"),
            (14 * 86_400, "2w"),
        ] {
            assert_eq!(duration(seconds), text);
        }
    }

    #[test]
    fn times_are_always_times() {
        assert_eq!(rfc3339(0), NEVER);
        assert_eq!(rfc3339(1500), "1970-01-01T00:00:01.5Z");
    }

    #[test]
    fn families_know_their_samples() {
        let names = ["h_bucket".to_owned(), "up".to_owned()];
        assert!(belongs("h", &names) && belongs("up", &names) && !belongs("u", &names));
    }
}
