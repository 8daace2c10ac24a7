use std::sync::Arc;

use axum::body::Body;
use axum::extract::{Request, State};
use axum::response::Response;
use http::StatusCode;
use input::Breach;
use model::TenantId;
use serde_json::{Value, json};
use series::table::Blame;

use crate::answer::{Refusal, json as json_answer};
use crate::params::Params;
use crate::parts::App;

/// `GET /api/v1/status/cardinality`: budgets of series, which were used up, and with `metric` what that metric's series
/// consist of.
pub(crate) async fn cardinality(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let Some(intake) = &app.parts.intake else {
        return Err(Refusal::not_found(
            "the role \"ingress\" does not run in this process".to_owned(),
        ));
    };
    let (head, body) = request.into_parts();
    let tenant = head.extensions.get::<TenantId>().copied().unwrap_or(TenantId::DEFAULT);
    let clock = &*app.parts.host.clock;
    let params = Params::of(
        &head.method,
        head.uri.query(),
        &head.headers,
        body,
        clock,
        &app.parts.server,
    )
    .await?;
    let limits = intake.limits();
    let table = intake.table();
    let breaches: Vec<Value> = intake
        .guard()
        .breaches()
        .iter()
        .filter(|b| b.tenant == tenant)
        .map(breach)
        .collect();
    let metric = params.get("metric").filter(|m| !m.is_empty());
    let data = json!({
        "seriesMax": limits.series_max,
        "metricSeriesMax": limits.metric_series_max,
        "series": table.len(tenant),
        "breaches": breaches,
        "metric": metric,
        "blame": table.blame(tenant, metric).as_ref().map(blame),
    });
    let body = json!({ "status": "success", "data": data }).to_string();
    Ok(json_answer(StatusCode::OK, body.into_bytes()))
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
    json!({ "series": b.series, "lookedAt": b.looked_at, "labels": labels })
}
