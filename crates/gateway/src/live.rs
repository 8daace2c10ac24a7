//! The live channel: one WebSocket a page, any number of subscriptions on it. Everything is pushed; an answer that many
//! pages watch is evaluated once. A page that reads too slowly gets a new snapshot instead of a growing queue.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::{Message, WebSocket, WebSocketUpgrade};
use axum::extract::{Request, State};
use axum::response::{IntoResponse, Response};
use model::TenantId;
use query::promql;
use query::promql::eval::{Answer, Query};
use query::promql::value::{Point, Value as PromValue};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::{broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::answer::Refusal;
use crate::auth::{Pass, check_origin};
use crate::follow::Followed;
use crate::parts::App;
use crate::read::{Evaluation, threads, weight_of};

/// Pages connected at once, subscriptions of one page, bytes of one of its messages.
const PAGES_MAX: usize = 1024;
const SUBSCRIPTIONS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Frames that wait for a page; a page that is further behind is sent a new snapshot.
const FRAMES_MAX: usize = 256;
/// Steps of a panel that wait for a page.
const PANEL_STEPS_MAX: usize = 16;
/// Series of a live panel.
const PANEL_SERIES_MAX: usize = 1000;
const PANEL_POINTS_MAX: i64 = 11_000;
const STEP_MS_MIN: i64 = 1000;
const STEP_MS_MAX: i64 = 3600 * 1000;
const RANGE_MS_MAX: i64 = 366 * 24 * 3600 * 1000;
/// How often the intake counters are compared, and how often a page is asked whether it is still there.
const INTAKE_EVERY: Duration = Duration::from_millis(500);
const PING_EVERY: Duration = Duration::from_secs(20);
const SILENCE_MAX: Duration = Duration::from_secs(60);
/// How long a write to a page may take.
const SEND_MAX: Duration = Duration::from_secs(20);

/// What the channel shares between pages.
#[derive(Default)]
pub struct LiveHub {
    panels: Mutex<HashMap<PanelKey, broadcast::Sender<Arc<str>>>>,
    pages: std::sync::atomic::AtomicUsize,
}

#[derive(Clone, PartialEq, Eq, Hash)]
struct PanelKey {
    tenant: TenantId,
    expr: String,
    step_ms: i64,
}

impl LiveHub {
    /// Pages connected now.
    pub fn pages(&self) -> usize {
        self.pages.load(std::sync::atomic::Ordering::Relaxed)
    }
}

#[derive(Deserialize)]
struct Ask {
    op: String,
    id: String,
    #[serde(default)]
    topic: String,
    #[serde(default)]
    expr: String,
    #[serde(default)]
    range_ms: i64,
    #[serde(default)]
    step_ms: i64,
}

/// A frame without its `{"id":…,` so that it is written once for all pages.
fn rest_of(frame: &Value) -> Arc<str> {
    frame.to_string().replacen('{', "", 1).into()
}

fn with_id(id: &str, rest: &str) -> String {
    format!("{{\"id\":{},{rest}", Value::from(id))
}

fn number(v: f64) -> Value {
    serde_json::Number::from_f64(v).map_or(Value::Null, Value::Number)
}

fn numbers(values: &[f64]) -> Vec<Value> {
    values.iter().map(|&v| number(v)).collect()
}

fn labels_json(labels: &model::Labels) -> Value {
    labels
        .iter()
        .map(|(n, v)| (n.to_owned(), v.into()))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

pub(crate) async fn upgrade(State(app): State<Arc<App>>, ws: WebSocketUpgrade, request: Request) -> Response {
    if let Err(refused) = check_origin(request.headers()) {
        return refused.into_response();
    }
    let pass = request.extensions().get::<Pass>().cloned().unwrap_or(Pass::Free);
    let tenant = request
        .extensions()
        .get::<TenantId>()
        .copied()
        .unwrap_or(TenantId::DEFAULT);
    if app.parts.live.pages() >= PAGES_MAX {
        return Refusal::unavailable(format!("{PAGES_MAX} pages are connected already; close some")).into_response();
    }
    ws.max_message_size(MESSAGE_BYTES_MAX)
        .max_frame_size(MESSAGE_BYTES_MAX)
        .on_upgrade(move |socket| page(app, tenant, pass, socket))
}

struct PageCount(Arc<App>);

impl Drop for PageCount {
    fn drop(&mut self) {
        self.0
            .parts
            .live
            .pages
            .fetch_sub(1, std::sync::atomic::Ordering::Relaxed);
    }
}

async fn page(app: Arc<App>, tenant: TenantId, pass: Pass, mut socket: WebSocket) {
    app.parts.live.pages.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let _count = PageCount(Arc::clone(&app));
    let (frames, mut outgoing) = mpsc::channel::<String>(FRAMES_MAX);
    let mut subscriptions: HashMap<String, Subscription> = HashMap::new();
    let mut shutdown = app.parts.shutdown.clone();
    let for_pass = Arc::clone(&app);
    let mut login_ended = std::pin::pin!(for_pass.auth.ended(&pass));
    let mut pings = tokio::time::interval(PING_EVERY);
    let mut heard = tokio::time::Instant::now();
    loop {
        let message = tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(message)) => {
                    heard = tokio::time::Instant::now();
                    match message {
                        Message::Text(text) => {
                            let reply = ask(&app, tenant, &text, &mut subscriptions, &frames);
                            match reply {
                                Some(reply) => Message::Text(reply.into()),
                                None => continue,
                            }
                        }
                        Message::Binary(_) => break,
                        Message::Close(_) => break,
                        Message::Ping(_) | Message::Pong(_) => continue,
                    }
                }
                _ => break,
            },
            Some(frame) = outgoing.recv() => Message::Text(frame.into()),
            _ = pings.tick() => {
                if heard.elapsed() > SILENCE_MAX {
                    break;
                }
                Message::Ping(Default::default())
            }
            _ = shutdown.wait_for(|&stop| stop) => break,
            () = &mut login_ended => break,
        };
        if !matches!(tokio::time::timeout(SEND_MAX, socket.send(message)).await, Ok(Ok(()))) {
            break;
        }
    }
    let _ = tokio::time::timeout(Duration::from_secs(1), socket.send(Message::Close(None))).await;
}

/// A running subscription; dropping it ends it.
struct Subscription(JoinHandle<()>);

impl Drop for Subscription {
    fn drop(&mut self) {
        self.0.abort();
    }
}

fn error(id: &str, refused: &Refusal) -> String {
    json!({ "id": id, "type": "error", "errorType": refused.kind, "error": refused.message }).to_string()
}

/// Carries out one message of a page; an answer is an error.
fn ask(
    app: &Arc<App>,
    tenant: TenantId,
    text: &str,
    subscriptions: &mut HashMap<String, Subscription>,
    frames: &mpsc::Sender<String>,
) -> Option<String> {
    let ask: Ask = match serde_json::from_str(text) {
        Ok(ask) => ask,
        Err(e) => {
            return Some(error(
                "",
                &Refusal::bad_data(format!("the message is not understood: {e}")),
            ));
        }
    };
    subscriptions.retain(|_, s| !s.0.is_finished());
    match ask.op.as_str() {
        "unsub" => {
            subscriptions.remove(&ask.id);
            None
        }
        "sub" if subscriptions.len() >= SUBSCRIPTIONS_MAX && !subscriptions.contains_key(&ask.id) => {
            let refused = Refusal::bad_data(format!("a page may have {SUBSCRIPTIONS_MAX} subscriptions"));
            Some(error(&ask.id, &refused))
        }
        "sub" => {
            let id = ask.id.clone();
            let (app, frames) = (Arc::clone(app), frames.clone());
            let task = tokio::spawn(async move {
                let ended = match ask.topic.as_str() {
                    "host" => host(&app, &ask.id, &frames).await,
                    "intake" => intake(&app, &ask.id, &frames).await,
                    "query" => panel(&app, tenant, &ask, &frames).await,
                    other => Err(Refusal::bad_data(format!(
                        "there is no topic {:?}: host, intake or query is right",
                        other.chars().take(40).collect::<String>()
                    ))),
                };
                if let Err(refused) = ended {
                    let _ = frames.send(error(&ask.id, &refused)).await;
                }
            });
            subscriptions.insert(id, Subscription(task));
            None
        }
        other => Some(error(
            &ask.id,
            &Refusal::bad_data(format!(
                "there is no op {:?}: sub or unsub is right",
                other.chars().take(40).collect::<String>()
            )),
        )),
    }
}

/// The page is gone.
struct Gone;

async fn send(frames: &mpsc::Sender<String>, frame: String) -> Result<(), Gone> {
    frames.send(frame).await.map_err(|_| Gone)
}

async fn host(app: &App, id: &str, frames: &mpsc::Sender<String>) -> Result<(), Refusal> {
    let Some(agent) = &app.parts.agent else {
        return Err(Refusal::not_found("the agent does not run in this process"));
    };
    loop {
        let (snapshot, mut deltas) = agent.subscribe();
        let series: Vec<Value> = snapshot
            .series
            .iter()
            .map(|s| json!({ "labels": labels_json(&s.labels), "values": numbers(&s.values) }))
            .collect();
        let frame = json!({ "id": id, "type": "snapshot", "at_ms": snapshot.at_ms, "series": series });
        if send(frames, frame.to_string()).await.is_err() {
            return Ok(());
        }
        loop {
            let delta = match deltas.recv().await {
                Ok(delta) => delta,
                Err(broadcast::error::RecvError::Lagged(_)) => break, // start over with a snapshot
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
            let mut frame =
                json!({ "id": id, "type": "delta", "at_ms": delta.at_ms, "values": numbers(&delta.values) });
            if !delta.added.is_empty() {
                let added = delta.added.iter().map(|l| json!({ "labels": labels_json(l) }));
                frame["added"] = added.collect::<Vec<_>>().into();
            }
            if !delta.removed.is_empty() {
                frame["removed"] = json!(delta.removed);
            }
            if send(frames, frame.to_string()).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn intake(app: &App, id: &str, frames: &mpsc::Sender<String>) -> Result<(), Refusal> {
    let frame = json!({ "id": id, "type": "snapshot", "ways": crate::cards::ways(app) });
    let mut seen: Vec<(u64, u64)> = app.parts.ways.iter().map(counted).collect();
    if send(frames, frame.to_string()).await.is_err() {
        return Ok(());
    }
    let mut ticks = tokio::time::interval(INTAKE_EVERY);
    loop {
        ticks.tick().await;
        for (way, seen) in app.parts.ways.iter().zip(&mut seen) {
            let now = counted(way);
            if now == *seen {
                continue;
            }
            *seen = now;
            if let Some(card) = crate::cards::card(app, way) {
                let frame = json!({ "id": id, "type": "delta", "way": card });
                if send(frames, frame.to_string()).await.is_err() {
                    return Ok(());
                }
            }
        }
    }
}

fn counted(way: &input::Way) -> (u64, u64) {
    let c = way.counts();
    (c.samples, c.rejected)
}

async fn panel(app: &Arc<App>, tenant: TenantId, ask: &Ask, frames: &mpsc::Sender<String>) -> Result<(), Refusal> {
    if ask.step_ms > STEP_MS_MAX || ask.range_ms > RANGE_MS_MAX {
        return Err(Refusal::bad_data(format!(
            "a step of {} ms over {} ms: at most {STEP_MS_MAX} and {RANGE_MS_MAX} ms are right",
            ask.step_ms, ask.range_ms
        )));
    }
    let step_ms = ask.step_ms.max(STEP_MS_MIN);
    let range_ms = ask.range_ms.max(step_ms);
    if range_ms / step_ms > PANEL_POINTS_MAX {
        return Err(Refusal::bad_data(format!(
            "{range_ms} ms in steps of {step_ms} ms are more than {PANEL_POINTS_MAX} points"
        )));
    }
    if ask.expr.len() > app.parts.query.text_bytes_max {
        return Err(Refusal::bad_data("the expression is too long (query.text_bytes_max)"));
    }
    let expr = promql::parse(&ask.expr).map_err(|e| Refusal::bad_data(e.to_string()))?;
    let evaluation = Evaluation {
        text: ask.expr.clone(),
        expr,
        tenant,
        query: Query::Instant { at_ms: 0 },
        lookback_ms: i64::from(app.parts.query.lookback_seconds) * 1000,
        threads: threads(),
        per_step_stats: false,
        use_start_times: app.parts.query.use_start_times,
        cache: None,
    };
    let key = PanelKey {
        tenant,
        expr: ask.expr.clone(),
        step_ms,
    };
    loop {
        let mut steps = join_panel(app, &key, &evaluation);
        let end_ms = app.parts.host.clock.now_ms().div_euclid(step_ms) * step_ms;
        let query = Query::Range {
            start_ms: end_ms - range_ms,
            end_ms,
            step_ms,
        };
        let answer = run(
            app,
            Evaluation {
                query,
                cache: Some(Arc::clone(&app.results)),
                ..evaluation.clone()
            },
        )
        .await?;
        let PromValue::Matrix(matrix) = &answer.value else {
            return Err(Refusal::bad_data("only instant vectors and scalars can be watched"));
        };
        let series: Vec<Value> = matrix
            .iter()
            .take(PANEL_SERIES_MAX)
            .map(|s| json!({ "labels": labels_json(&s.labels), "at_ms": s.at_ms, "values": numbers(&s.values) }))
            .collect();
        let (mut warnings, infos) = answer.notes_for_api();
        if matrix.len() > PANEL_SERIES_MAX {
            warnings.push(format!(
                "{} series, the first {PANEL_SERIES_MAX} are shown",
                matrix.len()
            ));
        }
        let frame = json!({
            "id": ask.id, "type": "snapshot", "start_ms": end_ms - range_ms, "end_ms": end_ms, "step_ms": step_ms,
            "series": series, "warnings": warnings, "infos": infos,
        });
        if send(frames, frame.to_string()).await.is_err() {
            return Ok(());
        }
        loop {
            match steps.recv().await {
                Ok(rest) => {
                    if send(frames, with_id(&ask.id, &rest)).await.is_err() {
                        return Ok(());
                    }
                }
                Err(broadcast::error::RecvError::Lagged(_)) => break,
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }
}

/// The panel's steps; the first who asks starts its evaluation, which ends with the last who listens.
fn join_panel(app: &Arc<App>, key: &PanelKey, evaluation: &Evaluation) -> broadcast::Receiver<Arc<str>> {
    let mut panels = app.parts.live.panels.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = panels.get(key) {
        return sender.subscribe();
    }
    let (sender, receiver) = broadcast::channel(PANEL_STEPS_MAX);
    panels.insert(key.clone(), sender.clone());
    let (app, key, evaluation) = (Arc::clone(app), key.clone(), evaluation.clone());
    tokio::spawn(async move {
        loop {
            let now_ms = app.parts.host.clock.now_ms();
            let at_ms = (now_ms.div_euclid(key.step_ms) + 1) * key.step_ms;
            tokio::select! {
                () = tokio::time::sleep(Duration::from_millis((at_ms - now_ms).unsigned_abs())) => {}
                () = sender.closed() => {}
            }
            {
                let mut panels = app.parts.live.panels.lock().unwrap_or_else(PoisonError::into_inner);
                if sender.receiver_count() == 0 {
                    panels.remove(&key);
                    return;
                }
            }
            let step = Evaluation {
                query: Query::Instant { at_ms },
                ..evaluation.clone()
            };
            let frame = match run(&app, step).await {
                Ok(answer) => step_frame(at_ms, &answer.value),
                Err(refused) => json!({ "type": "error", "errorType": refused.kind, "error": refused.message }),
            };
            let _ = sender.send(rest_of(&frame));
        }
    });
    receiver
}

async fn run(app: &Arc<App>, evaluation: Evaluation) -> Result<Answer, Refusal> {
    let store = crate::admin::store_of(app)?;
    store.barrier().await.map_err(|e| Refusal::unavailable(e.to_string()))?;
    let source = store.source();
    let timeout = Duration::from_secs(u64::from(app.parts.query.timeout_seconds));
    let weight = weight_of(&evaluation.expr, evaluation.query);
    let followed = Followed::of(app, &evaluation, "live page".into(), Duration::ZERO, false);
    let (trace, budget) = (followed.trace(), followed.budget());
    let turn = followed.turn();
    let ran = app
        .pool
        .run(weight, evaluation.tenant, budget, timeout, move |budget| {
            turn.comes();
            evaluation.traced(&*source, budget, &trace)
        })
        .await
        .flatten();
    followed.ended(ran.as_ref().err());
    ran
}

fn step_frame(at_ms: i64, value: &PromValue) -> Value {
    let series: Vec<Value> = match value {
        PromValue::Scalar { value, .. } => vec![json!({ "labels": {}, "value": number(*value) })],
        PromValue::Vector(samples) => samples
            .iter()
            .take(PANEL_SERIES_MAX)
            .filter_map(|s| match s.point {
                Point::Float(v) => Some(json!({ "labels": labels_json(&s.labels), "value": number(v) })),
                Point::Histogram(_) => None,
            })
            .collect(),
        PromValue::String { .. } | PromValue::Matrix(_) => Vec::new(),
    };
    json!({ "type": "delta", "at_ms": at_ms, "series": series })
}
