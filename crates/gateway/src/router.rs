use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use axum::Router;
use axum::body::Body;
use axum::extract::{ConnectInfo, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{MethodRouter, any, delete, get, post};
use http::{HeaderValue, Method, StatusCode, header};
use hyper::body::Incoming;
use model::TenantId;

use crate::answer::{Refusal, empty};
use crate::auth::{Pass, check_origin};
use crate::parts::App;
use crate::{
    admin, budgets, cards, cors, federate, first_asked, ingest, keeping, lifecycle, live, read, remote_read,
    self_metrics, slow, status, ui,
};

/// Prefix under which a tenant other than the default one is read, for example `/tenants/overseer/api/v1/query`.
const TENANTS: &str = "/tenants/";

/// Names the server that a request is for. Any other refuses it, and the one that is meant says so with the same header:
/// a command that was told of a directory knows then that it speaks to the directory's server.
pub const INSTANCE: &str = "overseer-instance";

/// What a page may load: this server's own files and channel, nothing inline, nothing foreign.
const CONTENT_POLICY: &str = "default-src 'self'; connect-src 'self' ws: wss:; img-src 'self' data:; \
object-src 'none'; base-uri 'none'; form-action 'self'; frame-ancestors 'none'";

/// Who may ask a route for what. Closed unless said otherwise: a path without a row needs a login.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Access {
    /// Needs no login and tells nothing that is stored.
    Open,
    /// Needs no login, and only pages of this server may use it: it is how one logs in.
    Login,
    /// Reads, whatever the method.
    Reads,
    /// Reads, and pages of other origins may where `server.cors_origins` lets them.
    Pages,
    /// Reads by GET and changes by other methods, which pages of other origins may not use, and which there are for the
    /// default tenant only.
    Changes,
}

struct Row {
    path: &'static str,
    access: Access,
    methods: MethodRouter<Arc<App>>,
}

fn row(path: &'static str, access: Access, methods: MethodRouter<Arc<App>>) -> Row {
    Row { path, access, methods }
}

/// Every route and who may ask it.
pub fn routes() -> Vec<(&'static str, Access)> {
    table().iter().map(|row| (row.path, row.access)).collect()
}

fn table() -> Vec<Row> {
    use Access::{Changes, Login, Open, Pages, Reads};
    vec![
        row("/livez", Open, get(lifecycle::live)),
        row("/healthz", Open, get(lifecycle::live)),
        row("/-/healthy", Open, get(lifecycle::live)),
        row("/readyz", Open, get(lifecycle::ready)),
        row("/-/ready", Open, get(lifecycle::ready)),
        row("/-/reload", Changes, post(lifecycle::reload).put(lifecycle::reload)),
        row("/ready", Open, get(first_asked::influx_ready)),
        row("/health", Open, get(first_asked::health)),
        row("/metrics", Reads, get(self_metrics::metrics)),
        // ways in
        row("/api/v1/write", Changes, post(ingest::remote_write)),
        row("/write", Changes, post(ingest::influx)),
        row("/api/v2/write", Changes, post(ingest::influx)),
        row("/ping", Open, get(ingest::influx_ping).head(ingest::influx_ping)),
        row("/v1/metrics", Changes, post(ingest::otlp)),
        row("/otlp/v1/metrics", Changes, post(ingest::otlp)),
        row("/api/v1/otlp/v1/metrics", Changes, post(ingest::otlp)),
        row("/api/v1/metrics", Changes, post(ingest::own_json)),
        // reads
        row(
            "/query",
            Reads,
            get(first_asked::influx_query).post(first_asked::influx_query),
        ),
        row("/api/v1/query", Pages, get(read::query).post(read::query)),
        row(
            "/api/v1/query_range",
            Pages,
            get(read::query_range).post(read::query_range),
        ),
        row("/api/v1/series", Pages, get(read::series).post(read::series)),
        row("/api/v1/labels", Pages, get(read::labels).post(read::labels)),
        row("/api/v1/label/{name}/values", Pages, get(read::label_values)),
        row("/api/v1/metadata", Pages, get(status::metadata)),
        row(
            "/api/v1/query_exemplars",
            Pages,
            get(read::exemplars).post(read::exemplars),
        ),
        row(
            "/api/v1/format_query",
            Pages,
            get(read::format_query).post(read::format_query),
        ),
        row(
            "/api/v1/parse_query",
            Pages,
            get(read::parse_query).post(read::parse_query),
        ),
        row("/api/v1/read", Reads, post(remote_read::read)),
        row("/federate", Reads, get(federate::federate)),
        row("/api/v1/targets", Pages, get(status::targets)),
        row("/api/v1/targets/metadata", Pages, get(status::target_metadata)),
        row("/api/v1/scrape_pools", Pages, get(status::scrape_pools)),
        row("/api/v1/rules", Pages, get(status::rules)),
        row("/api/v1/alerts", Pages, get(status::alerts)),
        row("/api/v1/alertmanagers", Pages, get(status::alertmanagers)),
        row("/api/v1/features", Pages, get(status::features)),
        row("/api/v1/notifications", Reads, get(status::notifications)),
        row("/api/v1/notifications/live", Reads, get(status::notifications_live)),
        row("/api/v1/status/buildinfo", Pages, get(status::buildinfo)),
        row("/api/v1/status/config", Pages, get(status::config)),
        row("/api/v1/status/flags", Pages, get(status::flags)),
        row("/api/v1/status/runtimeinfo", Pages, get(status::runtimeinfo)),
        row("/api/v1/status/slow_queries", Reads, get(slow::slow_queries)),
        row("/api/v1/status/cardinality", Reads, get(budgets::cardinality)),
        row("/api/v1/status/tsdb", Pages, get(read::status_tsdb)),
        row("/api/v1/status/walreplay", Pages, get(status::walreplay)),
        // Overseer's own
        row("/api/v1/intake", Reads, get(cards::intake)),
        row("/api/v1/self", Reads, get(cards::about)),
        row("/api/v1/live", Reads, any(live::upgrade)),
        row("/api/v1/login", Login, post(admin::login)),
        row("/api/v1/logout", Changes, post(admin::logout)),
        row("/api/v1/admin/flush", Changes, post(admin::flush)),
        row("/api/v1/admin/compact", Changes, post(admin::compact)),
        // keeping: as Prometheus has it under admin/tsdb, and Overseer's own
        row(
            "/api/v1/admin/tsdb/delete_series",
            Changes,
            post(keeping::delete_series).put(keeping::delete_series),
        ),
        row(
            "/api/v1/admin/tsdb/clean_tombstones",
            Changes,
            post(keeping::clean).put(keeping::clean),
        ),
        row(
            "/api/v1/admin/tsdb/snapshot",
            Changes,
            post(keeping::snapshot_by_name).put(keeping::snapshot_by_name),
        ),
        row("/api/v1/admin/retention", Changes, get(keeping::retention)),
        row(
            "/api/v1/admin/retention/dry_run",
            Changes,
            post(keeping::retention_dry_run),
        ),
        row("/api/v1/admin/snapshot", Changes, post(keeping::snapshot)),
        row("/api/v1/admin/snapshots", Changes, get(keeping::snapshots)),
        row(
            "/api/v1/admin/snapshots/{name}",
            Changes,
            delete(keeping::remove_snapshot).post(keeping::renew_snapshot),
        ),
    ]
}

pub(crate) fn build(app: Arc<App>) -> Router {
    let mut routes = Router::new();
    let mut access = HashMap::new();
    for row in table() {
        access.insert(row.path, row.access);
        routes = routes.route(row.path, row.methods);
    }
    let guard = Guard {
        app: Arc::clone(&app),
        access: Arc::new(access),
    };
    routes
        .method_not_allowed_fallback(wrong_method)
        .fallback(elsewhere)
        .layer(axum::middleware::from_fn_with_state(guard, around))
        .with_state(app)
}

#[derive(Clone)]
struct Guard {
    app: Arc<App>,
    access: Arc<HashMap<&'static str, Access>>,
}

impl Guard {
    fn access_of(&self, request: &Request) -> Access {
        let row = request.extensions().get::<MatchedPath>();
        if let Some(access) = row.and_then(|path| self.access.get(path.as_str())) {
            return *access;
        }
        if page_of(request).is_some() {
            Access::Open
        } else {
            Access::Reads
        }
    }

    /// Name, login, origin and tenant of a request; what it came in by.
    fn check(&self, access: Access, request: &Request) -> Result<Pass, Refusal> {
        let (auth, headers) = (&self.app.auth, request.headers());
        auth.check_host(headers)?;
        let pass = match access {
            Access::Open | Access::Login => Pass::Free,
            Access::Reads | Access::Pages | Access::Changes => {
                let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
                let peer = peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |p| p.0.ip());
                auth.check(headers, self.app.proxies.client(peer, headers))?
            }
        };
        let changes = match access {
            Access::Open | Access::Reads | Access::Pages => false,
            Access::Login | Access::Changes => ![Method::GET, Method::HEAD].contains(request.method()),
        };
        if changes {
            check_origin(headers)?;
            if tenant_of(request) != TenantId::DEFAULT {
                return Err(Refusal::new(
                    StatusCode::FORBIDDEN,
                    "forbidden",
                    "this tenant is Overseer's own: it can only be read",
                ));
            }
        }
        Ok(pass)
    }
}

fn tenant_of(request: &Request) -> TenantId {
    request
        .extensions()
        .get::<TenantId>()
        .copied()
        .unwrap_or(TenantId::DEFAULT)
}

/// What no handler should have to think of: login, origin, tenant, safety headers, counts.
async fn around(State(guard): State<Guard>, mut request: Request, next: Next) -> Response {
    let app = &guard.app;
    let access = guard.access_of(&request);
    let page = cors::Page::of(&app.cors_origins, access == Access::Pages, request.headers());
    if request.method() == Method::OPTIONS && access == Access::Pages && app.auth.check_host(request.headers()).is_ok()
    {
        // a browser asks before it sends, and without credentials
        return page.preflight();
    }
    let meant = request.headers().get(INSTANCE).map(HeaderValue::as_bytes);
    let is_meant = meant == Some(app.parts.about.instance.as_bytes());
    let checked = guard.check(access, &request).and_then(|pass| {
        if meant.is_none() || is_meant {
            return Ok(pass);
        }
        Err(Refusal::new(
            StatusCode::MISDIRECTED_REQUEST,
            "misdirected",
            format!("another server was meant; this one keeps {}", app.parts.about.data_dir),
        ))
    });
    let mut response = match checked {
        Ok(pass) => {
            request.extensions_mut().insert(pass);
            next.run(request).await
        }
        Err(refused) => {
            let many = refused.status == StatusCode::TOO_MANY_REQUESTS;
            let response = refused.into_response();
            if many { closing(response) } else { response }
        }
    };
    page.allow(response.headers_mut());
    let class = usize::from(response.status().as_u16() / 100).min(5);
    app.counts.by_class[class].fetch_add(1, Relaxed);
    let h = response.headers_mut();
    if is_meant && let Ok(instance) = HeaderValue::from_str(&app.parts.about.instance) {
        h.insert(INSTANCE, instance);
    }
    h.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    h.insert(
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(CONTENT_POLICY),
    );
    h.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
    h.insert(header::X_FRAME_OPTIONS, HeaderValue::from_static("DENY"));
    response
}

/// The page or file that a request asks for, if it asks for one: pages are for browsers, and below no tenant's prefix.
fn page_of(request: &Request) -> Option<ui::Found> {
    let reads = request.method() == Method::GET || request.method() == Method::HEAD;
    if !reads || request.extensions().get::<Prefixed>().is_some() {
        return None;
    }
    ui::find(request.uri().path(), request.headers())
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
async fn elsewhere(State(app): State<Arc<App>>, request: Request) -> Response {
    match page_of(&request) {
        Some(found) => ui::serve(found, request.headers(), app.parts.about.version),
        None => Refusal::not_found(format!("there is nothing at {}", shown(request.uri().path()))).into_response(),
    }
}

fn shown(path: &str) -> String {
    path.chars().take(120).collect()
}

/// Refuses a request whose head is doubtful, before any route sees it; the connection is closed, so that nothing behind
/// the head is taken for a second request.
pub(crate) fn check_head(request: &http::Request<Incoming>, doubtful: Option<&'static str>) -> Option<Response> {
    if let Some(why) = doubtful {
        return Some(closing(
            Refusal::bad_data(format!("the request has {why}")).into_response(),
        ));
    }
    let known = [
        Method::GET,
        Method::HEAD,
        Method::POST,
        Method::PUT,
        Method::DELETE,
        Method::OPTIONS,
        Method::PATCH,
    ];
    (!known.contains(request.method())).then(|| closing(empty(StatusCode::NOT_IMPLEMENTED)))
}

fn closing(mut response: Response) -> Response {
    response
        .headers_mut()
        .insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// The path had a tenant's prefix.
#[derive(Clone, Copy)]
struct Prefixed;

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
            request.extensions_mut().insert(Prefixed);
            Ok(())
        }
        Err(_) => Err(Refusal::bad_data("the path is not valid")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What pages of other origins may read is Prometheus' read API: what a row adds to it shows here.
    #[test]
    fn pages_of_other_origins_read_what_prometheus_has() {
        let open: Vec<&str> = routes()
            .into_iter()
            .filter(|(_, access)| *access == Access::Pages)
            .map(|(path, _)| path.strip_prefix("/api/v1/").unwrap())
            .collect();
        let all = "query query_range series labels label/{name}/values metadata query_exemplars format_query parse_query \
                   targets targets/metadata scrape_pools rules alerts alertmanagers features status/buildinfo \
                   status/config status/flags status/runtimeinfo status/tsdb status/walreplay";
        assert_eq!(open.join(" "), all);
    }

    #[test]
    fn what_needs_no_login_is_known() {
        let open: Vec<&str> = routes()
            .into_iter()
            .filter(|(_, access)| matches!(access, Access::Open | Access::Login))
            .map(|(path, _)| path)
            .collect();
        assert_eq!(
            open.join(" "),
            "/livez /healthz /-/healthy /readyz /-/ready /ready /health /ping /api/v1/login"
        );
    }
}
