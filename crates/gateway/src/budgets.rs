use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use input::Breach;
use serde_json::{Value, json};
use series::table::Blame;

use crate::answer::{Refusal, success};
use crate::parts::App;
use crate::read::Ask;

/// `GET /api/v1/status/cardinality`: budgets of series, which were used up, and with `metric` what that metric's series
/// consist of.
pub(crate) async fn cardinality(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let Some(intake) = app.parts.intake.clone() else {
        return Err(Refusal::not_found(
            "the role \"ingress\" does not run in this process".to_owned(),
        ));
    };
    let ask = Ask::of(app, request).await?;
    let tenant = ask.tenant;
    let limits = intake.limits();
    let table = intake.table();
    let breaches: Vec<Value> = intake
        .guard()
        .breaches()
        .iter()
        .filter(|b| b.tenant == tenant)
        .map(breach)
        .collect();
    let metric = ask.params.get("metric").filter(|m| !m.is_empty());
    let (for_blame, name) = (Arc::clone(table), metric.map(str::to_owned));
    // every series is looked at
    let found = ask
        .app
        .telling
        .run(move || for_blame.blame(tenant, name.as_deref()))
        .await?;
    Ok(success(&json!({
        "seriesMax": limits.series_max,
        "metricSeriesMax": limits.metric_series_max,
        "series": table.len(tenant),
        "breaches": breaches,
        "metric": metric,
        "blame": found.as_ref().map(blame),
    })))
}

fn breach(b: &Breach) -> Value {
    json!({
        "metric": b.metric,
        "setting": b.setting,
        "limit": b.limit,
        "refused": b.refused,
        "firstMs": b.first_ms,
        "lastMs": b.last_ms,
        "detail": b.describe(),
        "blame": b.blame.as_ref().map(blame),
    })
}

fn blame(b: &Blame) -> Value {
    let labels: Vec<Value> = b
        .labels
        .iter()
        .map(|(name, values)| json!({ "label": name, "values": values }))
        .collect();
    json!({ "series": b.series, "labels": labels })
}
