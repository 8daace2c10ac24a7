//! What clients of other systems ask before they do anything, where there is a short and true answer.
use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::{StatusCode, header};
use serde_json::{Value, json};

use crate::answer::{self, Refusal, with_header};
use crate::ingest::INFLUX_VERSION;
use crate::lifecycle::ready;
use crate::params::Params;
use crate::parts::App;

/// InfluxDB's `/health`: whether it is ready, as JSON.
pub(crate) async fn health(State(app): State<Arc<App>>) -> Response {
    let version = app.parts.about.version;
    let unready = ready(State(app)).await.status();
    let (status, word, message) = if unready.is_success() {
        (StatusCode::OK, "pass", "ready for queries and writes")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "fail", "not ready, see /readyz")
    };
    let body = json!({ "name": "overseer", "message": message, "status": word, "checks": [], "version": version });
    answer::json(status, body.to_string().into_bytes())
}

/// InfluxDB's `/ready`: since when, as JSON.
pub(crate) async fn influx_ready(State(app): State<Arc<App>>) -> Response {
    let answer = ready(State(Arc::clone(&app))).await;
    if !answer.status().is_success() {
        return answer;
    }
    let started_ms = app.parts.about.started_ms;
    let up = app.parts.host.clock.now_ms().saturating_sub(started_ms).max(0) / 1000;
    let started = jiff::Timestamp::from_millisecond(started_ms).map_or_else(|_| String::new(), |t| t.to_string());
    let body = json!({ "status": "ready", "started": started, "up": format!("{up}s") });
    answer::json(StatusCode::OK, body.to_string().into_bytes())
}

/// InfluxQL, of which only this is known: there are no databases to list, and none has to be made before writing.
pub(crate) async fn influx_query(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let (head, body) = request.into_parts();
    let params = Params::of(&head.method, head.uri.query(), &head.headers, body, &app.body_reader()).await?;
    let result = statement(params.get("q").unwrap_or(""))?;
    let body = json!({ "results": [result] }).to_string();
    let version = format!("1.8-overseer-{}", app.parts.about.version);
    let answer = answer::json(StatusCode::OK, body.into_bytes());
    Ok(with_header(answer, INFLUX_VERSION, &version))
}

fn statement(text: &str) -> Result<Value, Refusal> {
    let words: Vec<String> = text
        .trim()
        .trim_end_matches(';')
        .split_ascii_whitespace()
        .take(3)
        .map(str::to_ascii_uppercase)
        .collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["SHOW", "DATABASES"] => {
            Ok(json!({ "statement_id": 0, "series": [{ "name": "databases", "columns": ["name"] }] }))
        }
        ["CREATE", "DATABASE", _] => Ok(json!({ "statement_id": 0 })),
        _ => {
            let shown: String = text.chars().take(80).collect();
            Err(Refusal::bad_data(format!(
                "invalid parameter \"q\": {shown:?} is not answered here: InfluxQL is not spoken, ask /api/v1/query in PromQL"
            )))
        }
    }
}

/// `/` for those who ask for no page.
pub(crate) fn greeting(version: &str) -> Response {
    let text = format!(
        "Overseer {version}\n\nPages are for browsers (Accept: text/html). Health: /livez, /readyz. Metrics: /metrics. API: /api/v1/.\n"
    );
    with_header(answer::text(StatusCode::OK, text), header::VARY, "accept")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_statements_of_influx_clients() {
        for text in ["SHOW DATABASES", " show  databases ;"] {
            assert_eq!(statement(text).unwrap()["series"][0]["name"], "databases", "{text}");
        }
        for text in ["CREATE DATABASE \"telegraf\"", "create database x WITH DURATION 7d"] {
            assert_eq!(statement(text).unwrap(), json!({ "statement_id": 0 }), "{text}");
        }
        for text in [
            "",
            "SHOW",
            "SELECT * FROM cpu",
            "DROP DATABASE x",
            "CREATE DATABASE",
            "SHOW DATABASES x",
        ] {
            assert_eq!(statement(text).unwrap_err().status, StatusCode::BAD_REQUEST, "{text}");
        }
    }
}
