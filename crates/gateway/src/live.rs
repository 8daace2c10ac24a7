//! The live channel: one WebSocket a page, any number of subscriptions on it. Everything is pushed; an answer that many
//! pages watch is evaluated once. Frames of all pages share `server.memory_bytes`: a snapshot has its room before it is
//! made, a step that finds none is left out. A page that reads too slowly gets a new snapshot instead of a growing queue.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
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
use tokio::sync::{OwnedSemaphorePermit, Semaphore, broadcast, mpsc};
use tokio::task::JoinHandle;

use crate::answer::Refusal;
use crate::auth::{Pass, check_origin};
use crate::follow::Followed;
use crate::parts::App;
use crate::pool::Weight;
use crate::read::Evaluation;
use crate::room::{Held, Part, Share};

/// Pages connected at once, subscriptions of one page, bytes of one of its messages.
const PAGES_MAX: usize = 1024;
const SUBSCRIPTIONS_MAX: usize = 64;
const MESSAGE_BYTES_MAX: usize = 64 << 10;
/// Frames that wait for a page; a page that is further behind is sent a new snapshot.
const FRAMES_MAX: usize = 16;
/// Steps of a panel that wait for a page.
const PANEL_STEPS_MAX: usize = 4;
/// Different panels of all pages.
const PANELS_MAX: usize = 1024;
/// Series of a live panel.
const PANEL_SERIES_MAX: usize = 1000;
/// Bytes of a panel's snapshot and of a step: what does not fit is left out by whole series.
const SNAPSHOT_BYTES_MAX: usize = 8 << 20;
const STEP_BYTES_MAX: usize = 1 << 20;
/// Room for what a snapshot says besides its series.
const NOTES_BYTES_MAX: usize = 256 << 10;
/// Bytes that a page's topics other than panels keep ready for a frame of theirs.
const TOPIC_BYTES: u64 = 256 << 10;
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
    panels: Mutex<HashMap<PanelKey, broadcast::Sender<Arc<Step>>>>,
    pages: AtomicUsize,
    behind: AtomicU64,
}

/// What comes of a panel at one of its steps, the same for all pages.
struct Step {
    /// The frame without its `{"id":…,`, so that it is written once; `None` where there was no room for it, and pages
    /// begin with a new snapshot.
    rest: Option<String>,
    _held: Option<Held>,
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
        self.pages.load(Relaxed)
    }

    /// How often a subscription was behind and got a new snapshot in the place of what it had missed.
    pub fn behind(&self) -> u64 {
        self.behind.load(Relaxed)
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
        self.0.parts.live.pages.fetch_sub(1, Relaxed);
    }
}

async fn page(app: Arc<App>, tenant: TenantId, pass: Pass, mut socket: WebSocket) {
    app.parts.live.pages.fetch_add(1, Relaxed);
    let _count = PageCount(Arc::clone(&app));
    let (frames, mut outgoing) = mpsc::channel::<Frame>(FRAMES_MAX);
    let page = Arc::new(Page {
        frames,
        snapshots: Arc::new(Semaphore::new(1)),
        share: Arc::clone(app.room.of(Part::Frames)),
    });
    let mut subscriptions: HashMap<String, Subscription> = HashMap::new();
    let mut shutdown = app.parts.shutdown.clone();
    let for_pass = Arc::clone(&app);
    let mut login_ended = std::pin::pin!(for_pass.auth.ended(&pass));
    let mut pings = tokio::time::interval(PING_EVERY);
    let mut heard = tokio::time::Instant::now();
    loop {
        // what a frame holds is held until it is sent
        let mut _held = None;
        let message = tokio::select! {
            received = socket.recv() => match received {
                Some(Ok(message)) => {
                    heard = tokio::time::Instant::now();
                    match message {
                        Message::Text(text) => {
                            let reply = ask(&app, tenant, &text, &mut subscriptions, &page);
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
            Some(frame) = outgoing.recv() => match frame {
                Frame::Text { text, held } => {
                    _held = Some(held);
                    Message::Text(text.into())
                }
                Frame::Step { id, step } => match &step.rest {
                    Some(rest) => Message::Text(format!("{{\"id\":{id},{rest}").into()),
                    None => continue,
                },
            },
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

/// What a page is sent.
enum Frame {
    Text {
        text: String,
        held: Holding,
    },
    /// `id` is JSON.
    Step {
        id: Arc<str>,
        step: Arc<Step>,
    },
}

/// What a frame holds until it is sent.
struct Holding {
    _room: Held,
    /// A page has one snapshot at a time on its way.
    _turn: Option<OwnedSemaphorePermit>,
}

/// Where the subscriptions of a page put their frames. Whoever waits here holds nothing.
struct Page {
    frames: mpsc::Sender<Frame>,
    snapshots: Arc<Semaphore>,
    share: Arc<Share>,
}

impl Page {
    /// Sends a frame that is made once there is a place and room for it.
    async fn send(&self, make: impl FnOnce() -> String) -> Result<(), Gone> {
        let place = self.frames.reserve().await.map_err(|_| Gone)?;
        let mut room = self.share.take_in_time(TOPIC_BYTES).await;
        let text = make();
        room.shrink(text.len() as u64);
        place.send(Frame::Text {
            text,
            held: Holding {
                _room: room,
                _turn: None,
            },
        });
        Ok(())
    }
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
    page: &Arc<Page>,
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
            let (app, page) = (Arc::clone(app), Arc::clone(page));
            let task = tokio::spawn(async move {
                let ended = match ask.topic.as_str() {
                    "host" => host(&app, &ask.id, &page).await,
                    "intake" => intake(&app, &ask.id, &page).await,
                    "query" => panel(&app, tenant, &ask, &page).await,
                    other => Err(Refusal::bad_data(format!(
                        "there is no topic {:?}: host, intake or query is right",
                        other.chars().take(40).collect::<String>()
                    ))),
                };
                if let Err(refused) = ended {
                    let _ = page.send(|| error(&ask.id, &refused)).await;
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

async fn host(app: &App, id: &str, page: &Page) -> Result<(), Refusal> {
    let Some(agent) = &app.parts.agent else {
        return Err(Refusal::not_found("the agent does not run in this process"));
    };
    loop {
        let (snapshot, mut deltas) = agent.subscribe();
        let frame = || {
            let series: Vec<Value> = snapshot
                .series
                .iter()
                .map(|s| json!({ "labels": labels_json(&s.labels), "values": numbers(&s.values) }))
                .collect();
            json!({ "id": id, "type": "snapshot", "at_ms": snapshot.at_ms, "series": series }).to_string()
        };
        if page.send(frame).await.is_err() {
            return Ok(());
        }
        loop {
            let delta = match deltas.recv().await {
                Ok(delta) => delta,
                Err(broadcast::error::RecvError::Lagged(_)) => {
                    app.parts.live.behind.fetch_add(1, Relaxed);
                    break; // start over with a snapshot
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            };
            let frame = || {
                let mut frame =
                    json!({ "id": id, "type": "delta", "at_ms": delta.at_ms, "values": numbers(&delta.values) });
                if !delta.added.is_empty() {
                    let added = delta.added.iter().map(|l| json!({ "labels": labels_json(l) }));
                    frame["added"] = added.collect::<Vec<_>>().into();
                }
                if !delta.removed.is_empty() {
                    frame["removed"] = json!(delta.removed);
                }
                frame.to_string()
            };
            if page.send(frame).await.is_err() {
                return Ok(());
            }
        }
    }
}

async fn intake(app: &App, id: &str, page: &Page) -> Result<(), Refusal> {
    let frame = json!({ "id": id, "type": "snapshot", "ways": crate::cards::ways(app) });
    let mut seen: Vec<(u64, u64)> = app.parts.ways.iter().map(counted).collect();
    if page.send(|| frame.to_string()).await.is_err() {
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
                if page.send(|| frame.to_string()).await.is_err() {
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

async fn panel(app: &Arc<App>, tenant: TenantId, ask: &Ask, page: &Page) -> Result<(), Refusal> {
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
        threads: 1,
        per_step_stats: false,
        use_start_times: app.parts.query.use_start_times,
        cache: None,
    };
    let key = PanelKey {
        tenant,
        expr: ask.expr.clone(),
        step_ms,
    };
    let id: Arc<str> = Value::from(ask.id.as_str()).to_string().into();
    loop {
        let Ok(turn) = Arc::clone(&page.snapshots).acquire_owned().await else {
            return Ok(());
        };
        // the room is there before the snapshot is made
        let mut room = page.share.take_in_time(SNAPSHOT_BYTES_MAX as u64).await;
        let mut steps = join_panel(app, &key, &evaluation)?;
        let end_ms = app.parts.host.clock.now_ms().div_euclid(step_ms) * step_ms;
        let times = Times {
            start_ms: end_ms - range_ms,
            end_ms,
            step_ms,
        };
        let evaluation = Evaluation {
            query: Query::Range {
                start_ms: times.start_ms,
                end_ms,
                step_ms,
            },
            cache: Some(Arc::clone(&app.results)),
            ..evaluation.clone()
        };
        let for_frame = Arc::clone(&id);
        let text = run(app, evaluation, move |answer| {
            snapshot_frame(&for_frame, &times, answer)
        })
        .await?;
        room.shrink(text.len() as u64);
        let held = Holding {
            _room: room,
            _turn: Some(turn),
        };
        if page.frames.send(Frame::Text { text, held }).await.is_err() {
            return Ok(());
        }
        loop {
            match steps.recv().await {
                Ok(step) if step.rest.is_some() => {
                    let id = Arc::clone(&id);
                    if page.frames.send(Frame::Step { id, step }).await.is_err() {
                        return Ok(());
                    }
                }
                Ok(_) | Err(broadcast::error::RecvError::Lagged(_)) => {
                    app.parts.live.behind.fetch_add(1, Relaxed);
                    break;
                }
                Err(broadcast::error::RecvError::Closed) => return Ok(()),
            }
        }
    }
}

/// The times of a panel's snapshot.
struct Times {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
}

/// A panel's snapshot; `id` is JSON.
fn snapshot_frame(id: &str, times: &Times, answer: &Answer) -> Result<String, Refusal> {
    let PromValue::Matrix(matrix) = &answer.value else {
        return Err(Refusal::bad_data("only instant vectors and scalars can be watched"));
    };
    let mut out = format!("{{\"id\":{id},\"type\":\"snapshot\",\"series\":[").into_bytes();
    let mut shown = 0;
    for s in matrix.iter().take(PANEL_SERIES_MAX) {
        let before = out.len();
        out.extend_from_slice(if shown > 0 { b",{\"labels\":" } else { b"{\"labels\":" });
        promql::json::write_labels(&s.labels, &mut out);
        list(b",\"at_ms\":[", &s.at_ms, &mut out);
        list(b",\"values\":[", &s.values, &mut out);
        out.push(b'}');
        if out.len() > SNAPSHOT_BYTES_MAX - NOTES_BYTES_MAX {
            out.truncate(before);
            break;
        }
        shown += 1;
    }
    let (mut warnings, infos) = answer.notes_for_api();
    if matrix.len() > shown {
        warnings.push(format!("{} series, the first {shown} are shown", matrix.len()));
    }
    let (start_ms, end_ms, step_ms) = (times.start_ms, times.end_ms, times.step_ms);
    let mut rest = json!({
        "start_ms": start_ms, "end_ms": end_ms, "step_ms": step_ms, "warnings": warnings, "infos": infos,
    });
    if out.len() + rest.to_string().len() > SNAPSHOT_BYTES_MAX {
        rest["warnings"] = json!([]);
        rest["infos"] = json!([]);
    }
    out.push(b']');
    out.push(b',');
    out.extend_from_slice(&rest.to_string().as_bytes()[1..]);
    text_of(out)
}

/// Appends numbers of JSON behind `head`; what is none is `null`.
fn list<T: Copy + serde::Serialize>(head: &[u8], items: &[T], out: &mut Vec<u8>) {
    out.extend_from_slice(head);
    for (i, item) in items.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        // writing to memory does not fail
        let _ = serde_json::to_writer(&mut *out, item);
    }
    out.push(b']');
}

fn text_of(out: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(out).map_err(|_| Refusal::unavailable("the frame is no text"))
}

/// The panel's steps; the first who asks starts its evaluation, which ends with the last who listens.
fn join_panel(
    app: &Arc<App>,
    key: &PanelKey,
    evaluation: &Evaluation,
) -> Result<broadcast::Receiver<Arc<Step>>, Refusal> {
    let mut panels = app.parts.live.panels.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(sender) = panels.get(key) {
        return Ok(sender.subscribe());
    }
    if panels.len() >= PANELS_MAX {
        return Err(Refusal::unavailable(format!(
            "{PANELS_MAX} different panels are watched already; close some"
        )));
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
            let made = run(&app, step, move |answer| step_frame(at_ms, &answer.value)).await;
            let rest = made.unwrap_or_else(|refused| {
                let kind = Value::from(refused.kind);
                format!(
                    "\"type\":\"error\",\"errorType\":{kind},\"error\":{}}}",
                    Value::from(refused.message)
                )
            });
            let held = app.room.of(Part::Frames).try_take(rest.len() as u64);
            let _ = sender.send(Arc::new(Step {
                rest: held.is_some().then_some(rest),
                _held: held,
            }));
        }
    });
    Ok(receiver)
}

/// Evaluates in the lane of live pages, and makes a frame of the answer on the same thread.
async fn run(
    app: &Arc<App>,
    evaluation: Evaluation,
    make: impl FnOnce(&Answer) -> Result<String, Refusal> + Send + 'static,
) -> Result<String, Refusal> {
    let store = crate::admin::store_of(app)?;
    store.barrier().await.map_err(|e| Refusal::unavailable(e.to_string()))?;
    let source = store.source();
    let timeout = Duration::from_secs(u64::from(app.parts.query.timeout_seconds));
    let followed = Followed::of(
        app,
        Weight::Live,
        &evaluation,
        "live page".into(),
        Duration::ZERO,
        false,
    );
    let (trace, budget) = (followed.trace(), followed.budget());
    let turn = followed.turn();
    let ran = app
        .pool
        .run(Weight::Live, evaluation.tenant, budget, timeout, move |budget| {
            turn.comes();
            evaluation
                .traced(&*source, budget, &trace)
                .and_then(|answer| make(&answer))
        })
        .await
        .flatten();
    followed.ended(ran.as_ref().err());
    ran
}

/// A panel's step, without its `{"id":…,`.
fn step_frame(at_ms: i64, value: &PromValue) -> Result<String, Refusal> {
    let mut out = format!("\"type\":\"delta\",\"at_ms\":{at_ms},\"series\":[").into_bytes();
    let none = model::Labels::default();
    let rows: Vec<(&model::Labels, f64)> = match value {
        PromValue::Scalar { value, .. } => vec![(&none, *value)],
        PromValue::Vector(samples) => samples
            .iter()
            .take(PANEL_SERIES_MAX)
            .filter_map(|s| match s.point {
                Point::Float(v) => Some((&s.labels, v)),
                Point::Histogram(_) => None,
            })
            .collect(),
        PromValue::String { .. } | PromValue::Matrix(_) => Vec::new(),
    };
    for (i, (labels, v)) in rows.into_iter().enumerate() {
        let before = out.len();
        out.extend_from_slice(if i > 0 { b",{\"labels\":" } else { b"{\"labels\":" });
        promql::json::write_labels(labels, &mut out);
        out.extend_from_slice(format!(",\"value\":{}}}", number(v)).as_bytes());
        if out.len() > STEP_BYTES_MAX {
            out.truncate(before);
            break;
        }
    }
    out.extend_from_slice(b"]}");
    text_of(out)
}
