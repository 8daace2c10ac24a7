use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use http::StatusCode;
use input::Way;
use serde_json::{Value, json};

use crate::answer::json as json_answer;
use crate::parts::App;

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
