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
use crate::answer::{Refusal, empty};
use crate::draft::Draft;
use crate::explain::explained;
use crate::follow::{Followed, Timings};
use crate::params::{self, Params, invalid};
use crate::parts::App;
use crate::pool::Weight;

const JSON: &str = "application/json";
/// Steps of a range query, and window in ms, from which it is evaluated by several threads.
const LONG_STEPS: i64 = 500;
const LONG_SPAN_MS: i64 = 6 * 3600 * 1000;
/// Bytes of an answer that are written to nowhere at once.
const SCRATCH_BYTES: usize = 64 << 10;
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
        let params = Params::of(&head.method, head.uri.query(), &head.headers, body, &app.body_reader()).await?;
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
        let budget = self.app.pool.budget(weight, self.tenant);
        self.run_within(weight, budget, self.deadline(), work).await
    }

    /// The same as a light one first, and where it wants more than that may have, as a heavy one.
    pub(crate) async fn weighed<T: Send + 'static>(
        &self,
        work: impl Fn(&dyn SampleSource, &Budget) -> Result<T, Refusal> + Clone + Send + 'static,
    ) -> Result<T, Refusal> {
        match self.run(Weight::Light, work.clone()).await {
            Err(refused) if refused.beyond_budget => self.run(Weight::Heavy, work).await,
            ran => ran,
        }
    }

    fn deadline(&self) -> tokio::time::Instant {
        tokio::time::Instant::now() + self.timeout
    }

    async fn run_within<T: Send + 'static>(
        &self,
        weight: Weight,
        budget: Arc<Budget>,
        deadline: tokio::time::Instant,
        work: impl FnOnce(&dyn SampleSource, &Budget) -> Result<T, Refusal> + Send + 'static,
    ) -> Result<T, Refusal> {
        let waited = tokio::time::timeout_at(deadline, self.source()).await;
        let source = waited.map_err(|_| crate::pool::timed_out(self.timeout))??;
        let left = deadline.saturating_duration_since(tokio::time::Instant::now());
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
        self.weighed(move |source, budget| {
            let found = source.label_values(tenant, model::METRIC_NAME, &any_of, TimeRange::ALL, budget)?;
            Ok(found.items)
        })
        .await
    }

    /// The JSON answer that a draft is the beginning of.
    pub(crate) async fn answer(&self, draft: Draft) -> Result<Response, Refusal> {
        draft.respond(&self.app, JSON).await
    }

    /// An answer that is computed from the request alone.
    async fn worked(
        self,
        work: impl FnOnce(&Ask) -> Result<Vec<u8>, Refusal> + Send + 'static,
    ) -> Result<Response, Refusal> {
        let app = Arc::clone(&self.app);
        let drafted = app
            .telling
            .run(move || work(&self).map(|body| Draft::whole(body, self.gzip)));
        drafted.await??.respond(&app, JSON).await
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
    let refused = Refusal::new(status, kind, e.message);
    if e.kind == EvalErrorKind::Limit {
        refused.beyond_budget()
    } else {
        refused
    }
}

pub(crate) fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The lane in which a query begins, by its text alone. Where its series and samples are too many for a light one, which
/// the index mostly tells before they are read, it is begun anew as a heavy one.
pub(crate) fn weight_of(expr: &Expr) -> Weight {
    if promql::has_subquery(expr) {
        Weight::Heavy
    } else {
        Weight::Light
    }
}

/// Whether a query has so many steps that several threads pay, though it may be a light one.
fn is_long(query: Query) -> bool {
    match query {
        Query::Instant { .. } => false,
        Query::Range {
            start_ms,
            end_ms,
            step_ms,
        } => {
            let span_ms = end_ms.saturating_sub(start_ms);
            span_ms / step_ms.max(1) >= LONG_STEPS || span_ms >= LONG_SPAN_MS
        }
    }
}

/// What a query's answer shall have besides its value.
#[derive(Clone)]
struct Wishes {
    limit: usize,
    stats: String,
    explain: bool,
    gzip: bool,
}

async fn evaluate(ask: Ask, query: Query) -> Result<Response, Refusal> {
    let clock = Arc::clone(&ask.app.parts.host.clock);
    let began = clock.monotonic();
    let (text, expr) = ask.expression()?;
    let parsed = clock.monotonic().saturating_sub(began);
    let weight = weight_of(&expr);
    let lookback_ms = match ask.params.duration_ms("lookback_delta")? {
        Some(ms) if ms > 0 => ms,
        _ => i64::from(ask.app.parts.query.lookback_seconds) * 1000,
    };
    let wishes = Wishes {
        limit: ask.params.limit()?,
        stats: ask.params.get("stats").unwrap_or("").to_owned(),
        explain: ask.params.flag("explain")?,
        gzip: ask.gzip,
    };
    let kept = wishes.stats.is_empty() && !wishes.explain && !ask.params.flag("nocache")?;
    let evaluation = Evaluation {
        text,
        expr,
        tenant: ask.tenant,
        query,
        lookback_ms,
        threads: 1,
        per_step_stats: wishes.stats == "all",
        use_start_times: ask.app.parts.query.use_start_times,
        cache: kept.then(|| Arc::clone(&ask.app.results)),
    };
    ask.app.counts.queries.fetch_add(1, Relaxed);
    let deadline = ask.deadline();
    let explain = wishes.explain;
    let mut followed = Followed::of(&ask.app, weight, &evaluation, ask.asker.clone(), parsed, explain);
    let mut ran = ask
        .evaluated(weight, &followed, deadline, evaluation.clone(), wishes.clone())
        .await;
    if weight == Weight::Light && ran.as_ref().is_err_and(|refused| refused.beyond_budget) {
        followed = followed.again(Weight::Heavy, explain);
        ran = ask
            .evaluated(Weight::Heavy, &followed, deadline, evaluation, wishes)
            .await;
    }
    let ran = ran.map_err(|refused| followed.blamed(refused));
    // what the answer is made from counts as the query's until there is room for it among the answers
    let budget = followed.budget();
    followed.ended(ran.as_ref().err());
    let answered = match ran {
        Ok(draft) => ask.answer(draft).await,
        Err(refused) => Err(refused),
    };
    drop(budget);
    if answered.is_err() {
        ask.app.counts.query_failures.fetch_add(1, Relaxed);
    }
    answered
}

impl Ask {
    /// Evaluates in one lane.
    async fn evaluated(
        &self,
        weight: Weight,
        followed: &Followed,
        deadline: tokio::time::Instant,
        mut evaluation: Evaluation,
        wishes: Wishes,
    ) -> Result<Draft, Refusal> {
        let (trace, turn, timer) = (followed.trace(), followed.turn(), followed.timer());
        let app = Arc::clone(&self.app);
        self.run_within(weight, followed.budget(), deadline, move |source, budget| {
            turn.comes();
            evaluation.threads = app.pool.threads(weight, is_long(evaluation.query));
            let mut answer = evaluation.traced(source, budget, &trace)?;
            let timings = timer();
            if truncate(&mut answer.value, wishes.limit) {
                answer.warnings.push("results truncated due to limit".into());
            }
            let stats = wishes.stats.as_str();
            if !matches!(stats, "" | "true" | "all") {
                let shown: String = stats.chars().take(80).collect();
                answer.warnings.push(format!(
                    "value {shown:?} for parameter \"stats\" is deprecated and will be rejected in the next major release, use \"true\" or \"all\""
                ));
            }
            let stats = (!stats.is_empty()).then_some((&answer.stats, timings));
            let mut plan = None;
            if wishes.explain {
                let serialised = turn.times(|| written(&answer.value, budget))?;
                let timings = Timings { serialised, ..timings };
                plan = Some(explained(&trace, budget, &timings, evaluation.threads));
            }
            let tail = tail_of(&answer, stats, plan);
            budget.check().map_err(model::SourceError::from)?;
            Ok(draft_of(answer, tail, wishes.gzip))
        })
        .await
    }
}

/// Writes a value to nowhere, to tell how long that takes.
fn written(value: &PromValue, budget: &Budget) -> Result<(), Refusal> {
    let (mut writer, mut scratch) = (json::ResultWriter::default(), Vec::new());
    while writer.write(value, &mut scratch, SCRATCH_BYTES) {
        scratch.clear();
        budget.check().map_err(model::SourceError::from)?;
    }
    Ok(())
}

/// The answer in the envelope of Prometheus' API.
fn draft_of(answer: Answer, tail: Vec<u8>, gzip: bool) -> Draft {
    let bytes = answer.bytes() + tail.len();
    let value = answer.value;
    let mut head = format!(
        "{{\"status\":\"success\",\"data\":{{\"resultType\":\"{}\",\"result\":",
        value.type_name()
    );
    let mut writer = json::ResultWriter::default();
    let write = move |out: &mut Vec<u8>, len_max: usize| {
        out.extend_from_slice(std::mem::take(&mut head).as_bytes());
        let more = writer.write(&value, out, len_max);
        if !more {
            out.extend_from_slice(&tail);
        }
        more
    };
    Draft::begin(gzip, bytes as u64, Box::new(write))
}

/// What comes behind the result.
fn tail_of(answer: &Answer, stats: Option<(&Stats, Timings)>, plan: Option<serde_json::Value>) -> Vec<u8> {
    let mut out = Vec::new();
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
    if let Some(plan) = plan {
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
    out
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

pub(crate) async fn series(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    ask.params.whole()?;
    let (any_of, range, limit, tenant) = (ask.matchers(true)?, ask.any_range()?, ask.params.limit()?, ask.tenant);
    let gzip = ask.gzip;
    let draft = ask.weighed(move |source, budget| {
        let all = within(range, || source.series(tenant, &any_of, range, budget))?;
        let bytes = |labels: &Labels| labels.as_bytes().len();
        Ok(Draft::list(all, limit, gzip, bytes, json::write_labels))
    });
    ask.answer(draft.await?).await
}

pub(crate) async fn labels(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let (any_of, range, limit, tenant) = (ask.matchers(false)?, ask.any_range()?, ask.params.limit()?, ask.tenant);
    let gzip = ask.gzip;
    let draft = ask.weighed(move |source, budget| {
        let all = within(range, || source.label_names(tenant, &any_of, range, budget))?;
        Ok(Draft::list(all, limit, gzip, String::len, |text, out| {
            json::write_string(text, out)
        }))
    });
    ask.answer(draft.await?).await
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
    let gzip = ask.gzip;
    let draft = ask.weighed(move |source, budget| {
        let all = within(range, || source.label_values(tenant, &name, &any_of, range, budget))?;
        Ok(Draft::list(all, limit, gzip, String::len, |text, out| {
            json::write_string(text, out)
        }))
    });
    ask.answer(draft.await?).await
}

pub(crate) async fn exemplars(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    let (_, expr) = ask.expression()?;
    let any_of = promql::selectors(&expr);
    let (range, tenant) = (ask.range()?, ask.tenant);
    if any_of.is_empty() {
        return Ok(empty(StatusCode::NO_CONTENT)); // nothing is selected, so nothing is asked for
    }
    let gzip = ask.gzip;
    let draft = ask.weighed(move |source, budget| {
        let items = source.exemplars(tenant, &any_of, range, budget)?;
        let found = Found {
            items,
            warnings: Vec::new(),
        };
        Ok(Draft::list(found, usize::MAX, gzip, exemplars_bytes, write_exemplars))
    });
    ask.answer(draft.await?).await
}

type SeriesExemplars = (Labels, Vec<model::Exemplar>);

fn exemplars_bytes((labels, rows): &SeriesExemplars) -> usize {
    let each = |e: &model::Exemplar| size_of::<model::Exemplar>() + e.labels.as_bytes().len();
    labels.as_bytes().len() + rows.iter().map(each).sum::<usize>()
}

fn write_exemplars((labels, rows): &SeriesExemplars, out: &mut Vec<u8>) {
    out.extend_from_slice(b"{\"exemplars\":[");
    for (i, e) in rows.iter().enumerate() {
        out.extend_from_slice(if i > 0 { b",{\"labels\":" } else { b"{\"labels\":" });
        json::write_labels(&e.labels, out);
        let at = serde_json::json!(e.at_ms as f64 / 1000.0);
        out.extend_from_slice(format!(",\"timestamp\":{at},\"value\":").as_bytes());
        json::write_string(&promql::decimal(e.value), out);
        out.push(b'}');
    }
    out.extend_from_slice(b"],\"seriesLabels\":");
    json::write_labels(labels, out);
    out.push(b'}');
}

pub(crate) async fn format_query(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    ask.worked(|ask| {
        let (_, expr) = ask.expression()?;
        let data = serde_json::json!({ "status": "success", "data": promql::pretty(&expr) });
        Ok(data.to_string().into_bytes())
    })
    .await
}

pub(crate) async fn parse_query(State(app): State<Arc<App>>, request: Request<Body>) -> Result<Response, Refusal> {
    let ask = Ask::of(app, request).await?;
    ask.worked(|ask| {
        let (_, expr) = ask.expression()?;
        let data = serde_json::json!({ "status": "success", "data": promql::tree_json(&expr) });
        Ok(data.to_string().into_bytes())
    })
    .await
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
    let gzip = ask.gzip;
    let draft = ask
        .run(Weight::Heavy, move |source, _| {
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
            let body = serde_json::json!({ "status": "success", "data": data });
            Ok(Draft::whole(body.to_string().into_bytes(), gzip))
        })
        .await?;
    ask.answer(draft).await
}
