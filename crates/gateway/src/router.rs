use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{any, get, post};
use http::{HeaderValue, Method, StatusCode, Version, header};
use hyper::body::Incoming;
use model::TenantId;

use crate::answer::{Refusal, empty};
use crate::auth::check_origin;
use crate::parts::App;
use crate::{
    admin, budgets, cards, cors, federate, ingest, keeping, lifecycle, live, read, remote_read, self_metrics, slow,
    status, ui,
};

/// Prefix under which a tenant other than the default one is read, for example `/tenants/overseer/api/v1/query`.
const TENANTS: &str = "/tenants/";

/// What a page may load: this server's own files and channel, nothing inline, nothing foreign.
const CONTENT_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

pub(crate) fn build(app: Arc<App>) -> Router {
    let routes = Router::new()
        .route("/livez", get(lifecycle::live))
        .route("/readyz", get(lifecycle::ready))
        .route("/-/healthy", get(lifecycle::live))
        .route("/-/ready", get(lifecycle::ready))
        .route("/-/reload", post(lifecycle::reload).put(lifecycle::reload))
        .route("/metrics", get(self_metrics::metrics))
        // ways in
        .route("/api/v1/write", post(ingest::remote_write))
        .route("/write", post(ingest::influx))
        .route("/api/v2/write", post(ingest::influx))
        .route("/ping", get(ingest::influx_ping).head(ingest::influx_ping))
        .route("/v1/metrics", post(ingest::otlp))
        .route("/otlp/v1/metrics", post(ingest::otlp))
        .route("/api/v1/otlp/v1/metrics", post(ingest::otlp))
        .route("/api/v1/metrics", post(ingest::own_json))
        // reads
        .route("/api/v1/query", get(read::query).post(read::query))
        .route("/api/v1/query_range", get(read::query_range).post(read::query_range))
        .route("/api/v1/series", get(read::series).post(read::series))
        .route("/api/v1/labels", get(read::labels).post(read::labels))
        .route("/api/v1/label/{name}/values", get(read::label_values))
        .route("/api/v1/metadata", get(status::metadata))
        .route("/api/v1/query_exemplars", get(read::exemplars).post(read::exemplars))
        .route("/api/v1/format_query", get(read::format_query).post(read::format_query))
        .route("/api/v1/parse_query", get(read::parse_query).post(read::parse_query))
        .route("/api/v1/read", post(remote_read::read))
        .route("/federate", get(federate::federate))
        .route("/api/v1/targets", get(status::targets))
        .route("/api/v1/targets/metadata", get(status::target_metadata))
        .route("/api/v1/scrape_pools", get(status::scrape_pools))
        .route("/api/v1/rules", get(status::rules))
        .route("/api/v1/alerts", get(status::alerts))
        .route("/api/v1/alertmanagers", get(status::alertmanagers))
        .route("/api/v1/features", get(status::features))
        .route("/api/v1/notifications", get(status::notifications))
        .route("/api/v1/notifications/live", get(status::notifications_live))
        .route("/api/v1/status/buildinfo", get(status::buildinfo))
        .route("/api/v1/status/config", get(status::config))
        .route("/api/v1/status/flags", get(status::flags))
        .route("/api/v1/status/runtimeinfo", get(status::runtimeinfo))
        .route("/api/v1/status/slow_queries", get(slow::slow_queries))
        .route("/api/v1/status/cardinality", get(budgets::cardinality))
        .route("/api/v1/status/tsdb", get(read::status_tsdb))
        .route("/api/v1/status/walreplay", get(status::walreplay))
        // Overseer's own
        .route("/api/v1/intake", get(cards::intake))
        .route("/api/v1/self", get(cards::about))
        .route("/api/v1/live", any(live::upgrade))
        .route("/api/v1/login", post(admin::login))
        .route("/api/v1/logout", post(admin::logout))
        .route("/api/v1/admin/flush", post(admin::flush))
        .route("/api/v1/admin/compact", post(admin::compact))
        .merge(keeping::routes())
        .method_not_allowed_fallback(wrong_method)
        .fallback(elsewhere);
    routes
        .layer(axum::middleware::from_fn_with_state(Arc::clone(&app), around))
        .with_state(app)
}

/// What no handler should have to think of: login, origin, tenant, safety headers, counts.
async fn around(State(app): State<Arc<App>>, mut request: Request, next: Next) -> Response {
    let tenant = request
        .extensions()
        .get::<TenantId>()
        .copied()
        .unwrap_or(TenantId::DEFAULT);
    request.extensions_mut().insert(tenant);
    let path = request.uri().path();
    let reads = request.method() == Method::GET || request.method() == Method::HEAD || read::is_read_path(path);
    if request.method() == Method::OPTIONS && cors::is_open(path) && app.auth.check_host(request.headers()).is_ok() {
        // a browser asks before it sends, and without credentials
        return cors::Page::of(&app.parts.server.cors_origins, &request).preflight();
    }
    let open = matches!(
        path,
        "/livez" | "/readyz" | "/-/healthy" | "/-/ready" | "/ping" | "/api/v1/login"
    ) || !is_api(path);
    let checked = app
        .auth
        .check_host(request.headers())
        .and_then(|()| {
            if open {
                Ok(())
            } else {
                app.auth.check(request.headers())
            }
        })
        .and_then(|()| if reads { Ok(()) } else { check_origin(request.headers()) })
        .and_then(|()| {
            if reads || tenant == TenantId::DEFAULT {
                return Ok(());
            }
            Err(Refusal::new(
                StatusCode::FORBIDDEN,
                "forbidden",
                "this tenant is Overseer's own: it can only be read",
            ))
        });
    let page = cors::Page::of(&app.parts.server.cors_origins, &request);
    let mut response = match checked {
        Ok(()) => next.run(request).await,
        Err(refused) => refused.into_response(),
    };
    page.allow(response.headers_mut());
    let class = usize::from(response.status().as_u16() / 100).min(5);
    app.counts.by_class[class].fetch_add(1, Relaxed);
    let h = response.headers_mut();
    h.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    h.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_POLICY),
    );
    h.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    h.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

fn is_api(path: &str) -> bool {
    [
        "/api/",
        "/-/",
        "/v1/",
        "/otlp/",
        "/write",
        "/metrics",
        "/federate",
        "/ping",
    ]
    .iter()
    .any(|p| path.starts_with(p))
}

async fn wrong_method(request: Request) -> Refusal {
    Refusal::new(
        StatusCode::METHOD_NOT_ALLOWED,
        "bad_data",
        format!(
            "{} is not a method of {}",
            request.method(),
            shown(request.uri().path())
        ),
    )
}

/// Pages and their files; everything else is not there.
async fn elsewhere(request: Request) -> Response {
    let path = request.uri().path();
    if !is_api(path)
        && (request.method() == Method::GET || request.method() == Method::HEAD)
        && let Some(found) = ui::serve(path, request.headers())
    {
        return found;
    }
    Refusal::not_found(format!("there is nothing at {}", shown(path))).into_response()
}

fn shown(path: &str) -> String {
    path.chars().take(120).collect()
}

/// Refuses requests whose framing two readers could understand differently, before any route sees them; the
/// connection is closed, so that nothing behind the head is taken for a second request (RFC 9112 §6.1, §3.2).
pub(crate) fn check_head(request: &http::Request<Incoming>) -> Option<Response> {
    let headers = request.headers();
    let codings: Vec<_> = headers.get_all(header::TRANSFER_ENCODING).iter().collect();
    let complaint = if !codings.is_empty() && headers.contains_key(header::CONTENT_LENGTH) {
        "both Transfer-Encoding and Content-Length"
    } else if codings.len() > 1 || codings.iter().any(|c| !c.as_bytes().eq_ignore_ascii_case(b"chunked")) {
        "a Transfer-Encoding other than one \"chunked\""
    } else if headers.get_all(header::HOST).iter().count() > 1 {
        "more than one Host header"
    } else if request.version() == Version::HTTP_11 && !headers.contains_key(header::HOST) {
        "no Host header"
    } else if ![
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ]
    .contains(request.method())
    {
        return Some(closing(empty(StatusCode::NOT_IMPLEMENTED)));
    } else {
        return None;
    };
    Some(closing(
        Refusal::bad_data(format!("the request has {complaint}")).into_response(),
    ))
}

fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// Takes `/tenants/<name>` off the path and notes the tenant; an unknown name is refused.
pub(crate) fn take_tenant(request: &mut http::Request<Body>) -> Result<(), Refusal> {
    let Some(rest) = request.uri().path().strip_prefix(TENANTS) else {
        return Ok(());
    };
    let (name, path) = rest.split_once('/').unwrap_or((rest, ""));
    let tenant = match name {
        "default" => TenantId::DEFAULT,
        "overseer" => TenantId::OVERSEER,
        _ => return Err(Refusal::not_found(format!("there is no tenant {:?}", shown(name)))),
    };
    let target = match request.uri().query() {
        Some(q) => format!("/{path}?{q}"),
        None => format!("/{path}"),
    };
    match target.parse() {
        Ok(uri) => {
            *request.uri_mut() = uri;
            request.extensions_mut().insert(tenant);
            Ok(())
        }
        Err(_) => Err(Refusal::bad_data("the path is not valid")),
    }
}
