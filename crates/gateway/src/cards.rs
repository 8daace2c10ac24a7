use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use input::Way;
use serde_json::{Value, json};

use crate::answer::json as json_answer;
use crate::parts::App;

fn success(data: &Value) -> Response {
    json_answer(
        StatusCode::OK,
        json!({ "status": "success", "data": data }).to_string().into_bytes(),
    )
}

/// The ways in, each with the lines to paste and what came by it.
pub(crate) async fn intake(State(app): State<Arc<App>>) -> Response {
    json_answer(StatusCode::OK, json!({ "ways": ways(&app) }).to_string().into_bytes())
}

pub(crate) fn ways(app: &App) -> Vec<Value> {
    app.parts.ways.iter().filter_map(|way| card(app, way)).collect()
}

/// One way's card; scraped protocols are shown as one way, the scraper.
pub(crate) fn card(app: &App, way: &Way) -> Option<Value> {
    let (name, doc, lines) = match way.id {
        "scrape" => (
            "Scrape",
            "Overseer fetches /metrics from targets, as Prometheus does.".to_owned(),
            vec![line(
                "overseer.yaml",
                "scrape:\n  jobs:\n    - name: node\n      targets: [\"127.0.0.1:9100\"]".to_owned(),
            )],
        ),
        "agent" => {
            app.parts.agent.as_ref()?;
            (
                "This host",
                "The agent inside watches the host Overseer runs on.".to_owned(),
                Vec::new(),
            )
        }
        id => {
            let p = wire::find(id).filter(|p| !p.paths.is_empty())?;
            let fill = |text: &str| {
                text.replace("{url}", &format!("http://{}", app.parts.about.listen))
                    .replace("{address}", &app.parts.about.listen)
            };
            (
                p.name,
                p.doc.to_owned(),
                p.setup.iter().map(|s| line(s.label, fill(s.text))).collect(),
            )
        }
    };
    let c = way.counts();
    Some(json!({
        "id": way.id, "name": name, "doc": doc, "lines": lines,
        "first_ms": c.first_ms, "last_ms": c.last_ms, "samples": c.samples, "rejected": c.rejected,
    }))
}

fn line(label: &str, text: String) -> Value {
    json!({ "label": label, "text": text })
}

/// What this process is.
pub(crate) async fn about(State(app): State<Arc<App>>) -> Response {
    let a = &app.parts.about;
    let body = json!({
        "version": a.version, "roles": a.roles, "data_dir": a.data_dir, "listen": a.listen,
        "auth": app.auth.mode_name(), "started_ms": a.started_ms, "host": a.hostname,
        "agent": app.parts.agent.is_some(),
    });
    json_answer(StatusCode::OK, body.to_string().into_bytes())
}

/// Prometheus' build information; `version` is that of the Prometheus whose API and PromQL are spoken, because clients
/// choose features by it.
pub(crate) async fn buildinfo(State(app): State<Arc<App>>) -> Response {
    success(&json!({
        "version": "3.14.0",
        "revision": format!("overseer-{}", app.parts.about.version),
        "branch": "main",
        "buildUser": "",
        "buildDate": "",
        "goVersion": "",
        "application": "overseer",
        "overseerVersion": app.parts.about.version,
    }))
}

/// No rules are evaluated yet: well formed, and empty.
pub(crate) async fn rules() -> Response {
    success(&json!({ "groups": [] }))
}

/// No alerts, as there are no rules.
pub(crate) async fn alerts() -> Response {
    success(&json!({ "alerts": [] }))
}

/// The settings that Prometheus has as flags, under its names.
pub(crate) async fn flags(State(app): State<Arc<App>>) -> Response {
    let q = &app.parts.query;
    success(&json!({
        "query.lookback-delta": format!("{}s", q.lookback_seconds),
        "query.timeout": format!("{}s", q.timeout_seconds),
        "query.max-samples": q.samples_max.to_string(),
        "web.listen-address": app.parts.about.listen,
        "web.enable-remote-write-receiver": "true",
    }))
}

pub(crate) async fn runtimeinfo(State(app): State<Arc<App>>) -> Response {
    let started = jiff::Timestamp::from_millisecond(app.parts.about.started_ms).map(|t| t.to_string());
    let series = app.parts.store.as_ref().map_or(0, |s| s.stats().engine.series);
    success(&json!({
        "startTime": started.unwrap_or_default(),
        "CWD": "",
        "hostname": app.parts.about.hostname,
        "serverTime": jiff::Timestamp::from_millisecond(app.parts.host.clock.now_ms()).map(|t| t.to_string()).unwrap_or_default(),
        "reloadConfigSuccess": true,
        "lastConfigTime": "",
        "corruptionCount": app.parts.store.as_ref().map_or(0, |s| s.stats().engine.quarantined.len()),
        "goroutineCount": 0,
        "timeSeriesCount": series,
        "storageRetention": "",
    }))
}

/// Scrape targets and their health, in Prometheus' shape.
pub(crate) async fn targets(State(app): State<Arc<App>>) -> Response {
    let health = app.parts.scraper.as_ref().map(|s| s.health()).unwrap_or_default();
    let active: Vec<Value> = health
        .iter()
        .map(|t| {
            json!({
                "discoveredLabels": { "__address__": t.instance, "job": t.job },
                "labels": { "instance": t.instance, "job": t.job },
                "scrapePool": t.job,
                "scrapeUrl": t.url,
                "globalUrl": t.url,
                "lastError": t.last_error,
                "lastScrape": jiff::Timestamp::from_millisecond(t.last_ms).map(|x| x.to_string()).unwrap_or_default(),
                "lastScrapeDuration": t.last_duration_seconds,
                "health": match t.up { Some(true) => "up", Some(false) => "down", None => "unknown" },
                "scrapeInterval": format!("{}s", t.interval_seconds),
                "scrapeTimeout": format!("{}s", t.timeout_seconds),
            })
        })
        .collect();
    success(&json!({ "activeTargets": active, "droppedTargets": [], "droppedTargetCounts": {} }))
}
