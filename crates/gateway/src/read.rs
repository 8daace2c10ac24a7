use std::io::Write;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;
use std::time::Duration;

use axum::body::Body;
use axum::extract::rejection::PathRejection;
use axum::extract::{ConnectInfo, Path, Request, State};
use axum::response::Response;
use http::{HeaderMap, StatusCode, header};
use model::{Budget, Found, Labels, MatchOp, Matcher, Metadata, SampleSource, TenantId, TimeRange};
use query::promql::ast::Expr;
use query::promql::eval::{
    Answer, EvalContext, EvalError, EvalErrorKind, Query, ResultCache, Stats, Trace, evaluate as evaluate_expr,
};
use query::promql::value::Value as PromValue;
use query::promql::{self, json};

use crate::admin::store_of;
use crate::answer::{Refusal, empty, json as json_answer, with_header};
use crate::explain::explained;
use crate::follow::{Followed, Timings, Turn};
use crate::params::{self, Params, invalid};
use crate::parts::App;
use crate::pool::Weight;

const JSON: &str = "application/json";
/// Answers from this size on are compressed for clients that take gzip.
const GZIP_BYTES_MIN: usize = 1400;
/// Steps of a range query, and window in ms, from which it counts as heavy.
const HEAVY_STEPS: i64 = 500;
const HEAVY_SPAN_MS: i64 = 6 * 3600 * 1000;
/// Groups of `status/tsdb`, as Prometheus shows them.
const CARDINALITY_TOP: usize = 10;
const CARDINALITY_TOP_MAX: usize = 10_000;

/// One read request, its parameters and the store behind it.
pub(crate) struct Ask {
    pub(crate) app: Arc<App>,
    pub(crate) tenant: TenantId,
    pub(crate) params: Params,
    pub(crate) gzip: bool,
    pub(crate) timeout: Duration,
    /// Who asks: the address the request came from.
    asker: String,
}

impl Ask {
    pub(crate) async fn of(app: Arc<App>, request: Request<Body>) -> Result<Self, Refusal> {
        let (head, body) = request.into_parts();
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
        let tenant = head.extensions.get::<TenantId>().copied().unwrap_or(TenantId::DEFAULT);
        let limit = Duration::from_secs(u64::from(app.parts.query.timeout_seconds));
        let timeout = match params.duration_ms("timeout")? {
            None => limit,
            Some(ms) if ms > 0 => limit.min(Duration::from_millis(ms.unsigned_abs())),
            Some(_) => return Err(crate::pool::timed_out(Duration::ZERO)),
        };
        let gzip = takes_gzip(&head.headers);
        let peer = head.extensions.get::<ConnectInfo<SocketAddr>>();
        let asker = peer.map(|p| p.0.to_string()).unwrap_or_default();
        Ok(Ask {
            app,
            tenant,
            params,
            gzip,
            timeout,
            asker,
        })
    }

    /// A request whose body says it all.
    pub(crate) fn without_parameters(app: Arc<App>, tenant: TenantId) -> Self {
        let timeout = Duration::from_secs(u64::from(app.parts.query.timeout_seconds));
        Ask {
            app,
            tenant,
            params: Params::default(),
            gzip: false,
            timeout,
            asker: String::new(),
        }
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.app.parts.host.clock.now_ms()
    }

    /// The source, once all that was durable at this moment can be read.
    pub(crate) async fn source(&self) -> Result<Arc<dyn SampleSource>, Refusal> {
        let store = store_of(&self.app)?;
        store.barrier().await.map_err(|e| Refusal::unavailable(e.to_string()))?;
        Ok(store.source())
    }

    /// Runs `work` on the source within the query's bounds.
    pub(crate) async fn run<T: Send + 'static>(
        &self,
        weight: Weight,
        work: impl FnOnce(&dyn SampleSource, &Budget) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        self.run_within(weight, self.app.pool.budget(self.tenant), work).await
    }

    async fn run_within<T: Send + 'static>(
        &self,
        weight: Weight,
        budget: Arc<Budget>,
        work: impl FnOnce(&dyn SampleSource, &Budget) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let asked = tokio::time::Instant::now();
        let waited = tokio::time::timeout(self.timeout, self.source()).await;
        let source = waited.map_err(|_| crate::pool::timed_out(self.timeout))??;
        let left = self.timeout.saturating_sub(asked.elapsed());
        self.app
            .pool
            .run(weight, self.tenant, budget, left, move |budget| work(&*source, budget))
            .await?
    }

    /// `start` and `end`, open where absent.
    pub(crate) fn range(&self) -> Result<TimeRange, Refusal> {
        let range = self.any_range()?;
        if range.end_ms < range.start_ms {
            return Err(Refusal::bad_data(
                "invalid parameter \"end\": end timestamp must not be before start time",
            ));
        }
        Ok(range)
    }

    /// The same for lookups of names, where nothing lies in a range that ends before it starts.
    fn any_range(&self) -> Result<TimeRange, Refusal> {
        let start_ms = self.params.bound_ms("start")?.unwrap_or(i64::MIN);
        let end_ms = self.params.bound_ms("end")?.unwrap_or(i64::MAX);
        Ok(TimeRange::new(start_ms, end_ms))
    }

    /// The `match[]` selectors, parsed; each must name something.
    pub(crate) fn matchers(&self, required: bool) -> Result<Vec<Vec<Matcher>>, Refusal> {
        let any_of = self.selectors(required)?;
        for (matchers, text) in any_of.iter().zip(self.params.all("match[]")) {
            if matchers.iter().all(Matcher::matches_absent) {
                return Err(invalid(
                    "match[]",
                    text,
                    "a selector with at least one non-empty matcher",
                ));
            }
        }
        Ok(any_of)
    }

    /// The `match[]` selectors, parsed; one may select everything.
    pub(crate) fn selectors(&self, required: bool) -> Result<Vec<Vec<Matcher>>, Refusal> {
        let max = self.app.parts.query.matchers_max;
        let texts: Vec<&str> = self.params.all("match[]").collect();
        if texts.is_empty() && required {
            return Err(Refusal::bad_data("no match[] parameter provided"));
        }
        if texts.len() > max {
            return Err(Refusal::bad_data(format!(
                "{} match[] selectors, at most {max} are taken (query.matchers_max)",
                texts.len()
            )));
        }
        texts
            .into_iter()
            .map(|text| {
                self.check_length("match[]", text)?;
                promql::parse_matchers(text).map_err(|e| invalid("match[]", text, &format!("a series selector ({e})")))
            })
            .collect()
    }

    pub(crate) fn check_length(&self, name: &str, text: &str) -> Result<(), Refusal> {
        let max = self.app.parts.query.text_bytes_max;
        if text.len() > max {
            return Err(Refusal::bad_data(format!(
                "invalid parameter \"{name}\": {} bytes, at most {max} are taken (query.text_bytes_max)",
                text.len()
            )));
        }
        Ok(())
    }

    fn expression(&self) -> Result<(String, Expr), Refusal> {
        let text = self.params.get("query").unwrap_or("").to_owned();
        self.check_length("query", &text)?;
        let expr = promql::parse(&text).map_err(|e| Refusal::bad_data(format!("invalid parameter \"query\": {e}")))?;
        Ok((text, expr))
    }

    /// Metadata of all metrics, or of one.
    pub(crate) async fn metadata(&self, metric: Option<&str>) -> Result<Vec<Metadata>, Refusal> {
        let metric = metric.filter(|m| !m.is_empty()).map(str::to_owned);
        let tenant = self.tenant;
        self.run(Weight::Light, move |source, _| {
            Ok(source.metadata(tenant, metric.as_deref())?)
        })
        .await
    }

    /// Names of the metrics that have series with these labels, sorted.
    pub(crate) async fn metric_names(&self, labels: &[(&str, &str)]) -> Result<Vec<String>, Refusal> {
        let equal = |(n, v): &(&str, &str)| Matcher::new(*n, MatchOp::Equal, *v);
        let matchers: Result<Vec<Matcher>, _> = labels.iter().map(equal).collect();
        let any_of = [matchers.map_err(|e| Refusal::bad_data(e.to_string()))?];
        let tenant = self.tenant;
        self.run(Weight::Light, move |source, budget| {
            let found = source.label_values(tenant, model::METRIC_NAME, &any_of, TimeRange::ALL, budget)?;
            Ok(found.items)
        })
        .await
    }

    pub(crate) fn answer(&self, body: Vec<u8>) -> Response {
        finish(body, self.gzip, JSON)
    }
}

pub(crate) fn takes_gzip(headers: &HeaderMap) -> bool {
    let mut wishes = headers
        .get_all(header::ACCEPT_ENCODING)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(','));
    wishes.any(|wish| {
        let (name, quality) = wish.split_once(';').unwrap_or((wish, ""));
        let refused = quality
            .trim()
            .strip_prefix("q=")
            .is_some_and(|q| q.trim().parse() == Ok(0.0));
        name.trim().eq_ignore_ascii_case("gzip") && !refused
    })
}

/// A body of some type, compressed where that is taken and pays.
pub(crate) fn finish(body: Vec<u8>, gzip: bool, content_type: &str) -> Response {
    let typed = |bytes| with_header(json_answer(StatusCode::OK, bytes), header::CONTENT_TYPE, content_type);
    if gzip && body.len() >= GZIP_BYTES_MIN {
        let mut packed = flate2::write::GzEncoder::new(Vec::with_capacity(body.len() / 8), flate2::Compression::fast());
        if packed.write_all(&body).is_ok()
            && let Ok(bytes) = packed.finish()
        {
            return with_header(
                with_header(typed(bytes), header::CONTENT_ENCODING, "gzip"),
                header::VARY,
                "accept-encoding",
            );
        }
    }
    typed(body)
}

/// What an evaluation needs, owned, so that it can move to another thread.
#[derive(Clone)]
pub(crate) struct Evaluation {
    pub(crate) text: String,
    pub(crate) expr: Expr,
    pub(crate) tenant: TenantId,
    pub(crate) query: Query,
    pub(crate) lookback_ms: i64,
    pub(crate) threads: usize,
    pub(crate) per_step_stats: bool,
    pub(crate) use_start_times: bool,
    /// Where answers are kept, unless this one shall be evaluated whatever is there.
    pub(crate) cache: Option<Arc<ResultCache>>,
}

impl Evaluation {
    pub(crate) fn traced(&self, source: &dyn SampleSource, budget: &Budget, trace: &Trace) -> Result<Answer, Refusal> {
        let context = EvalContext {
            text: &self.text,
            lookback_ms: self.lookback_ms,
            threads: self.threads,
            per_step_stats: self.per_step_stats,
            use_start_times: self.use_start_times,
            trace: Some(trace),
            ..EvalContext::new(source, self.tenant, budget)
        };
        match &self.cache {
            Some(cache) => cache
                .evaluate(&self.expr, &context, self.query)
                .map(|(answer, _)| answer),
            None => evaluate_expr(&self.expr, &context, self.query),
        }
        .map_err(refusal)
    }
}

pub(crate) fn refusal(e: EvalError) -> Refusal {
    let (status, kind) = match e.kind {
        EvalErrorKind::BadData => (StatusCode::BAD_REQUEST, "bad_data"),
        EvalErrorKind::Execution | EvalErrorKind::Limit => (StatusCode::UNPROCESSABLE_ENTITY, "execution"),
        EvalErrorKind::Timeout => (StatusCode::SERVICE_UNAVAILABLE, "timeout"),
        EvalErrorKind::Cancelled => (StatusCode::SERVICE_UNAVAILABLE, "canceled"),
        EvalErrorKind::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable"),
        EvalErrorKind::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal"),
    };
    Refusal::new(status, kind, e.message)
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The lane of a query, by what can be known before it runs.
pub(crate) fn weight_of(expr: &Expr, query: Query) -> Weight {
    let long = match query {
        Query::Instant { .. } => false,
        Query::Range {
            start_ms,
            end_ms,
            step_ms,
        } => {
            let span_ms = end_ms.saturating_sub(start_ms);
            span_ms / step_ms.max(1) >= HEAVY_STEPS || span_ms >= HEAVY_SPAN_MS
        }
    };
    if long || promql::has_subquery(expr) {
        Weight::Heavy
    } else {
        Weight::Light
    }
}

async fn evaluate(ask: Ask, query: Query) -> Result<Response, Refusal> {
    let clock = Arc::clone(&ask.app.parts.host.clock);
    let began = clock.monotonic();
    let (text, expr) = ask.expression()?;
    let parsed = clock.monotonic().saturating_sub(began);
    let weight = weight_of(&expr, query);
    let lookback_ms = match ask.params.duration_ms("lookback_delta")? {
        Some(ms) if ms > 0 => ms,
        _ => i64::from(ask.app.parts.query.lookback_seconds) * 1000,
    };
    let limit = ask.params.limit()?;
    let stats = ask.params.get("stats").unwrap_or("").to_owned();
    let explain = ask.params.flag("explain")?;
    let evaluation = Evaluation {
        text,
        expr,
        tenant: ask.tenant,
        query,
        lookback_ms,
        threads: if weight == Weight::Heavy { threads() } else { 1 },
        per_step_stats: stats == "all",
        use_start_times: ask.app.parts.query.use_start_times,
        cache: (stats.is_empty() && !explain && !ask.params.flag("nocache")?).then(|| Arc::clone(&ask.app.results)),
    };
    ask.app.counts.queries.fetch_add(1, Relaxed);
    let followed = Followed::of(&ask.app, &evaluation, ask.asker.clone(), parsed, explain);
    let (trace, turn, timer) = (followed.trace(), followed.turn(), followed.timer());
    let ran = ask
        .run_within(weight, followed.budget(), move |source, budget| {
            turn.comes();
            let mut answer = evaluation.traced(source, budget, &trace)?;
            let timings = timer();
            if truncate(&mut answer.value, limit) {
                answer.warnings.push("results truncated due to limit".into());
            }
            if !matches!(stats.as_str(), "" | "true" | "all") {
                let shown: String = stats.chars().take(80).collect();
                answer.warnings.push(format!(
                    "value {shown:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
                ));
            }
            let stats = if stats.is_empty() {
                None
            } else {
                Some((&answer.stats, timings))
            };
            let plan = |serialised| {
                let timings = Timings { serialised, ..timings };
                explain.then(|| explained(&trace, budget, &timings, evaluation.threads))
            };
            write_answer(&answer, stats, &turn, &plan, budget).map_err(|e| refusal(e.into()))
        })
        .await;
    let ran = ran.map_err(|refused| followed.blamed(refused));
    followed.ended(ran.as_ref().err());
    match ran {
        Ok(body) => Ok(ask.answer(body)),
        Err(refused) => {
            ask.app.counts.query_failures.fetch_add(1, Relaxed);
            Err(refused)
        }
    }
}

/// The answer in the envelope of Prometheus' API.
fn write_answer(
    answer: &Answer,
    stats: Option<(&Stats, Timings)>,
    turn: &Turn,
    plan: &dyn Fn(Duration) -> Option<serde_json::Value>,
    budget: &Budget,
) -> Result<Vec<u8>, model::BudgetError> {
    let mut out = br#"{"status":"success","data":{"#.to_vec();
    let serialised = turn.times(|| json::write_value(&answer.value, &mut out, budget))?;
    if let Some((s, timings)) = stats {
        let mut samples =
            serde_json::json!({ "totalQueryableSamples": s.samples_total, "peakSamples": s.samples_peak });
        if !s.samples_per_step.is_empty() {
            let steps: Vec<(f64, u64)> = s
                .samples_per_step
                .iter()
                .map(|&(t, n)| (t as f64 / 1000.0, n))
                .collect();
            samples["totalQueryableSamplesPerStep"] = serde_json::json!(steps);
        }
        let own = serde_json::json!({ "samplesRead": s.samples_read, "series": s.series });
        let timings = serde_json::json!({
            "evalTotalTime": timings.evaluated.as_secs_f64(),
            "innerEvalTime": timings.inner.as_secs_f64(),
            "resultSortTime": timings.sorted.as_secs_f64(),
            "queryPreparationTime": timings.prepared.as_secs_f64(),
            "execQueueTime": timings.queued.as_secs_f64(),
            "execTotalTime": (timings.queued + timings.evaluated).as_secs_f64(),
        });
        let stats = serde_json::json!({ "timings": timings, "samples": samples, "overseer": own });
        out.extend_from_slice(b",\"stats\":");
        out.extend_from_slice(stats.to_string().as_bytes());
    }
    if let Some(plan) = plan(serialised) {
        out.extend_from_slice(b",\"explain\":");
        out.extend_from_slice(plan.to_string().as_bytes());
    }
    out.push(b'}');
    let (warnings, infos) = answer.notes_for_api();
    for (name, notes) in [("warnings", warnings), ("infos", infos)] {
        if !notes.is_empty() {
            out.extend_from_slice(format!(",\"{name}\":{}", serde_json::json!(notes)).as_bytes());
        }
    }
    out.push(b'}');
    Ok(out)
}

/// Keeps the first `limit` series; whether that took any away.
fn truncate(value: &mut PromValue, limit: usize) -> bool {
    let cut = value.series() > limit;
    match value {
        PromValue::Vector(v) => v.truncate(limit),
        PromValue::Matrix(m) => m.truncate(limit),
        PromValue::Scalar { .. } | PromValue::String { .. } => {}
    }
    cut
}

pub(crate) async fn query(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let at_ms = ask.params.time_ms("time")?.unwrap_or_else(|| ask.now_ms());
    evaluate(ask, Query::Instant { at_ms }).await
}

pub(crate) async fn query_range(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let needed = |name: &'static str| {
        ask.params
            .time_ms(name)?
            .ok_or_else(|| invalid(name, "", "Unix seconds or RFC 3339"))
    };
    let (start_ms, end_ms) = (needed("start")?, needed("end")?);
    if end_ms < start_ms {
        return Err(Refusal::bad_data(
            "invalid parameter \"end\": end timestamp must not be before start time",
        ));
    }
    let step_ms = ask
        .params
        .duration_ms("step")?
        .ok_or_else(|| invalid("step", "", "a duration"))?;
    if step_ms <= 0 {
        return Err(Refusal::bad_data(
            "invalid parameter \"step\": zero or negative query resolution step widths are not accepted. \
             Try a positive integer (milliseconds are the finest)",
        ));
    }
    let points_max = i64::from(ask.app.parts.query.points_max);
    // as Prometheus counts them: one more fits
    if end_ms.saturating_sub(start_ms) / step_ms > points_max {
        return Err(Refusal::bad_data(format!(
            "exceeded maximum resolution of {points_max} points per timeseries (query.points_max). \
             Try decreasing the query resolution (?step=XX)"
        )));
    }
    evaluate(
        ask,
        Query::Range {
            start_ms,
            end_ms,
            step_ms,
        },
    )
    .await
}

/// What `find` finds, unless the range ends before it starts: that is no error in Prometheus' API, and holds nothing.
fn within<T>(
    range: TimeRange,
    find: impl FnOnce() -> Result<Found<T>, model::SourceError>,
) -> Result<Found<T>, model::SourceError> {
    if range.start_ms <= range.end_ms {
        return find();
    }
    Ok(Found {
        items: Vec::new(),
        warnings: Vec::new(),
    })
}

/// `{"status":"success","data":…}` around names or label sets.
fn found<T>(found: Found<T>, limit: usize, write: impl Fn(&T, &mut Vec<u8>)) -> Vec<u8> {
    let mut out = br#"{"status":"success","data":["#.to_vec();
    for (i, item) in found.items.iter().take(limit).enumerate() {
        if i > 0 {
            out.push(b',');
        }
        write(item, &mut out);
    }
    out.push(b']');
    let mut warnings = found.warnings;
    if found.items.len() > limit {
        warnings.push("results truncated due to limit".into());
    }
    if !warnings.is_empty() {
        out.extend_from_slice(b",\"warnings\":");
        out.extend_from_slice(serde_json::json!(warnings).to_string().as_bytes());
    }
    out.push(b'}');
    out
}

pub(crate) async fn series(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    ask.params.whole()?;
    let (any_of, range, limit, tenant) = (ask.matchers(true)?, ask.any_range()?, ask.params.limit()?, ask.tenant);
    let body = ask
        .run(Weight::Light, move |source, budget| {
            let all = within(range, || source.series(tenant, &any_of, range, budget))?;
            Ok(found(all, limit, |labels: &Labels, out| {
                json::write_labels(labels, out)
            }))
        })
        .await?;
    Ok(ask.answer(body))
}

pub(crate) async fn labels(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let (any_of, range, limit, tenant) = (ask.matchers(false)?, ask.any_range()?, ask.params.limit()?, ask.tenant);
    let body = ask
        .run(Weight::Light, move |source, budget| {
            let all = within(range, || source.label_names(tenant, &any_of, range, budget))?;
            Ok(found(all, limit, |name: &String, out| json::write_string(name, out)))
        })
        .await?;
    Ok(ask.answer(body))
}

pub(crate) async fn label_values(
    State(app): State<Arc<App>>,
    path: Result<Path<String>, PathRejection>,
    request: Request<Body>,
) -> Result<Response, Refusal> {
    let Ok(Path(name)) = path else {
        return Err(Refusal::bad_data("invalid label name: it is not valid UTF-8"));
    };
    // names with other characters than [a-zA-Z0-9_] arrive as U__ escapes from older clients; both spellings are taken
    let name = params::unescape_name(&name).unwrap_or(name);
    if name.is_empty() {
        return Err(Refusal::bad_data("invalid label name: \"\""));
    }
    let ask = Ask::of(app, request).await?;
    let (any_of, range, limit, tenant) = (ask.matchers(false)?, ask.any_range()?, ask.params.limit()?, ask.tenant);
    let body = ask
        .run(Weight::Light, move |source, budget| {
            let all = within(range, || source.label_values(tenant, &name, &any_of, range, budget))?;
            Ok(found(all, limit, |value: &String, out| json::write_string(value, out)))
        })
        .await?;
    Ok(ask.answer(body))
}

pub(crate) async fn exemplars(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let (_, expr) = ask.expression()?;
    let any_of = promql::selectors(&expr);
    let (range, tenant) = (ask.range()?, ask.tenant);
    if any_of.is_empty() {
        return Ok(empty(StatusCode::NO_CONTENT)); // nothing is selected, so nothing is asked for
    }
    let body = ask
        .run(Weight::Light, move |source, budget| {
            let all = source.exemplars(tenant, &any_of, range, budget)?;
            let object = |l: &Labels| -> serde_json::Value {
                l.iter()
                    .map(|(n, v)| (n.to_owned(), v.into()))
                    .collect::<serde_json::Map<_, _>>()
                    .into()
            };
            let data: Vec<serde_json::Value> = all
                .iter()
                .map(|(labels, rows)| {
                    let rows: Vec<serde_json::Value> = rows
                        .iter()
                        .map(|e| {
                            serde_json::json!({
                                "labels": object(&e.labels),
                                "value": promql::decimal(e.value),
                                "timestamp": e.at_ms as f64 / 1000.0,
                            })
                        })
                        .collect();
                    serde_json::json!({ "seriesLabels": object(labels), "exemplars": rows })
                })
                .collect();
            Ok(serde_json::json!({ "status": "success", "data": data })
                .to_string()
                .into_bytes())
        })
        .await?;
    Ok(ask.answer(body))
}

pub(crate) async fn format_query(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let (_, expr) = ask.expression()?;
    let data = serde_json::json!({ "status": "success", "data": promql::pretty(&expr) });
    Ok(ask.answer(data.to_string().into_bytes()))
}

pub(crate) async fn parse_query(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let (_, expr) = ask.expression()?;
    let data = serde_json::json!({ "status": "success", "data": promql::tree_json(&expr) });
    Ok(ask.answer(data.to_string().into_bytes()))
}

pub(crate) async fn status_tsdb(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let top = match ask.params.get("limit").filter(|v| !v.is_empty()) {
        None => CARDINALITY_TOP,
        Some(text) => match text.parse::<usize>() {
            Ok(n @ 1..=CARDINALITY_TOP_MAX) => n,
            Ok(n) if n > CARDINALITY_TOP_MAX => {
                let message = format!("limit must not exceed {CARDINALITY_TOP_MAX}");
                return Err(Refusal::bad_data(message));
            }
            _ => return Err(Refusal::bad_data("limit must be a positive number")),
        },
    };
    let tenant = ask.tenant;
    let body = ask
        .run(Weight::Light, move |source, _| {
            let c = source.cardinality(tenant, top)?;
            let rows = |rows: &[model::CardinalityRow]| -> serde_json::Value {
                rows.iter()
                    .map(|r| serde_json::json!({ "name": r.name, "value": r.value }))
                    .collect()
            };
            let data = serde_json::json!({
                "headStats": {
                    "numSeries": c.series,
                    "numLabelPairs": c.label_pairs,
                    "chunkCount": c.chunks,
                    "minTime": c.min_ms,
                    "maxTime": c.max_ms,
                },
                "seriesCountByMetricName": rows(&c.series_by_metric),
                "labelValueCountByLabelName": rows(&c.values_by_label),
                "memoryInBytesByLabelName": rows(&c.bytes_by_label),
                "seriesCountByLabelValuePair": rows(&c.series_by_pair),
            });
            Ok(serde_json::json!({ "status": "success", "data": data })
                .to_string()
                .into_bytes())
        })
        .await?;
    Ok(ask.answer(body))
}
