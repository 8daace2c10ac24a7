//! Deleting, copying and weighing what is stored. None of it by GET.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{Path, RawQuery, Request, State};
use axum::response::Response;
use http::StatusCode;
use model::{Delete, Matcher, Record, TenantId, TimeRange};
use serde_json::{Value, json};
use series::engine::{ClassReport, RollupReport};
use series::retention::Retention;
use store::{Keep, RetentionRule, Snapshot, StoreError};

use crate::admin::{done, refusal, store_of};
use crate::answer::{Refusal, empty, success};
use crate::params::{Params, invalid};
use crate::parts::App;
use crate::pool::Weight;
use crate::read::Ask;

fn deletes_allowed(app: &App) -> Result<(), Refusal> {
    if app.parts.server.delete_api {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        "deleting over HTTP is switched off (server.delete_api)",
    ))
}

/// Takes out the samples that a selector matches, within the range; 204 once that is durable. With `dry_run=1` only says
/// what would go.
pub(crate) async fn delete_series(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(Arc::clone(&app), request).await?;
    ask.params.whole()?;
    deletes_allowed(&app)?;
    let selectors = ask.matchers(true)?;
    let (tenant, range) = (ask.tenant, ask.range()?);
    match ask.params.get("dry_run").unwrap_or("") {
        "" | "0" | "false" => {}
        "1" | "true" => return dry_run(ask, selectors).await,
        other => return Err(invalid("dry_run", other, "1 or 0")),
    }
    if app.parts.publisher.is_none() {
        return Err(Refusal::not_found("the ingress role does not run in this process"));
    }
    // what was begun is done and told, also when the one who asked goes away
    let deleting = tokio::spawn(async move { publish_deletes(&app, tenant, selectors, range).await });
    deleting.await.map_err(|e| {
        tracing::error!(error = %e, "a delete panicked");
        Refusal::unavailable("the delete failed inside the server; its log has more")
    })??;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// One record for each selector, in their order.
async fn publish_deletes(
    app: &App,
    tenant: TenantId,
    selectors: Vec<Vec<Matcher>>,
    range: TimeRange,
) -> Result<(), Refusal> {
    let Some(publisher) = &app.parts.publisher else {
        return Ok(());
    };
    for matchers in selectors {
        let shown = shown(&matchers);
        let delete = Delete {
            tenant,
            matchers,
            range,
        };
        let position = publisher.record(Record::Delete(delete)).await?;
        tracing::info!(
            position,
            selector = shown,
            start_ms = range.start_ms,
            end_ms = range.end_ms,
            "series deleted"
        );
    }
    Ok(())
}

async fn dry_run(ask: Ask, selectors: Vec<Vec<Matcher>>) -> Result<Response, Refusal> {
    let store = Arc::clone(store_of(&ask.app)?);
    let (tenant, range) = (ask.tenant, ask.range()?);
    let rows = ask
        .run(Weight::Heavy, move |_, budget| {
            let mut rows = Vec::new();
            for matchers in selectors {
                let w = store.weigh(tenant, &matchers, range, budget)?;
                let selector = shown(&matchers);
                rows.push(json!({ "selector": selector, "series": w.series, "samples": w.samples, "bytes": w.bytes }));
            }
            Ok(rows)
        })
        .await?;
    let sum = |name: &str| -> u64 { rows.iter().filter_map(|r| r[name].as_u64()).sum() };
    Ok(success(&json!({
        "dryRun": true,
        "series": sum("series"),
        "samples": sum("samples"),
        "bytes": sum("bytes"),
        "selectors": rows,
    })))
}

fn shown(matchers: &[Matcher]) -> String {
    let parts: Vec<String> = matchers.iter().map(ToString::to_string).collect();
    format!("{{{}}}", parts.join(","))
}

/// Frees the space of what was deleted: files that deletes concern are written anew.
pub(crate) async fn clean(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    deletes_allowed(&app)?;
    store_of(&app)?.compact().await.map_err(refusal)?;
    Ok(empty(StatusCode::NO_CONTENT))
}

/// What the rules in force keep, and what is past its time.
pub(crate) async fn retention(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let (store, now_ms) = (Arc::clone(store_of(&app)?), app.parts.host.clock.now_ms());
    weighed(&app, move || store.retention_in_force(now_ms)).await
}

/// The same under the rules given: `retention` as JSON, `retention_days`, `rollup_1m`, `rollup_1h`.
pub(crate) async fn retention_dry_run(
    State(app): State<Arc<App>>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let ask = Ask::of(Arc::clone(&app), request).await?;
    ask.params.whole()?;
    let text = ask.params.get("retention").filter(|t| !t.is_empty()).unwrap_or("[]");
    let rules: Vec<RetentionRule> = serde_json::from_str(text).map_err(|e| {
        crate::params::invalid(
            "retention",
            text,
            &format!("a list of rules as in store.retention ({e})"),
        )
    })?;
    let classes = store::retention_classes(&rules).map_err(Refusal::bad_data)?;
    let rollup = |name: &str| ask.params.get(name).filter(|t| !t.is_empty());
    let rollups = store::rollup_keep(rollup("rollup_1m"), rollup("rollup_1h")).map_err(Refusal::bad_data)?;
    let days = match ask.params.get("retention_days").filter(|t| !t.is_empty()) {
        None => None,
        Some(text) => Some(
            text.parse::<u32>()
                .ok()
                .filter(|days| *days > 0)
                .ok_or_else(|| crate::params::invalid("retention_days", text, "a whole number from 1 on"))?,
        ),
    };
    let (store, now_ms) = (Arc::clone(store_of(&app)?), app.parts.host.clock.now_ms());
    weighed(&app, move || {
        let rules = Retention {
            classes: &classes,
            default_keep_ms: store::keep_of_days(days),
            default_rollups: rollups,
        };
        store.retention_report(rules, now_ms)
    })
    .await
}

async fn weighed(
    app: &App,
    work: impl FnOnce() -> Result<Vec<ClassReport>, StoreError> + Send + 'static,
) -> Result<Response, Refusal> {
    let rows = app.telling.run(work).await?.map_err(refusal)?;
    let rows: Vec<Value> = rows
        .iter()
        .map(|r| {
            json!({
                "match": r.selector,
                "keep": store::shown_keep(r.keep_ms),
                "files": r.files,
                "bytes": r.bytes,
                "samples": r.samples,
                "oldest_ms": r.oldest_ms,
                "due": { "files": r.due_files, "bytes": r.due_bytes, "samples": r.due_samples },
                "rollups": r.rollups.iter().map(rollup_row).collect::<Vec<_>>(),
            })
        })
        .collect();
    Ok(success(&json!({ "classes": rows })))
}

fn rollup_row(r: &RollupReport) -> Value {
    json!({
        "of": r.name,
        "keep": store::shown_rollup_keep(r.keep_ms),
        "files": r.files,
        "bytes": r.bytes,
        "alone": r.alone_files,
        "due": { "files": r.due_files, "bytes": r.due_bytes },
    })
}

fn described(s: &Snapshot) -> Value {
    let path = std::path::absolute(&s.path).unwrap_or_else(|_| s.path.clone());
    let mut one = json!({
        "name": s.name,
        "path": path.display().to_string(),
        "files": s.files,
        "bytes": s.bytes,
    });
    if let Some(lease) = s.lease {
        one["lease_seconds"] = lease.as_secs().into();
    }
    if let Some(made) = &s.made {
        one["position"] = made.position.into();
        one["samples"] = made.samples.into();
        one["missing"] = json!(made.missing);
    }
    one
}

async fn make(app: &App, keep: Keep) -> Result<Snapshot, Refusal> {
    store_of(app)?.snapshot(&app.parts.host, keep).await.map_err(refusal)
}

/// With `lease=1` it is deleted an hour after it was made or its lease renewed.
pub(crate) async fn snapshot(State(app): State<Arc<App>>, RawQuery(query): RawQuery) -> Result<Response, Refusal> {
    let params = Params::of_query(query.as_deref())?;
    params.whole()?;
    let keep = match params.get("lease").unwrap_or("") {
        "" | "0" | "false" => Keep::UntilDeleted,
        "1" | "true" => Keep::Leased,
        other => return Err(invalid("lease", other, "1 or 0")),
    };
    Ok(success(&described(&make(&app, keep).await?)))
}

/// Renews a lease.
pub(crate) async fn renew_snapshot(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let name = named(name)?;
    let (store, host, asked) = (Arc::clone(store_of(&app)?), app.parts.host.clone(), name.clone());
    match app.telling.run(move || store.renew_lease(&host, &asked)).await? {
        true => Ok(done()),
        false => Err(no_snapshot(&name, "with a lease ")),
    }
}

/// As Prometheus answers; `skip_head` is not looked at: everything taken is in it.
pub(crate) async fn snapshot_by_name(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    Ok(success(&json!({ "name": make(&app, Keep::UntilDeleted).await?.name })))
}

pub(crate) async fn snapshots(State(app): State<Arc<App>>) -> Result<Response, Refusal> {
    let (store, host) = (Arc::clone(store_of(&app)?), app.parts.host.clone());
    let listed = app.telling.run(move || {
        let list = store.snapshots(&host)?;
        Ok::<_, StoreError>(json!(list.iter().map(described).collect::<Vec<_>>()))
    });
    Ok(success(&listed.await?.map_err(refusal)?))
}

pub(crate) async fn remove_snapshot(
    State(app): State<Arc<App>>,
    name: Result<Path<String>, PathRejection>,
) -> Result<Response, Refusal> {
    let name = named(name)?;
    let files = &*app.parts.host.files;
    if store_of(&app)?.remove_snapshot(files, &name).map_err(refusal)? {
        Ok(done())
    } else {
        Err(no_snapshot(&name, ""))
    }
}

fn named(name: Result<Path<String>, PathRejection>) -> Result<String, Refusal> {
    let Path(name) = name.map_err(|_| Refusal::bad_data("the snapshot's name is not valid UTF-8"))?;
    Ok(name)
}

fn no_snapshot(name: &str, with: &str) -> Refusal {
    let name: String = name.chars().take(80).collect();
    Refusal::not_found(format!("there is no snapshot {with}of the name {name:?}"))
}
