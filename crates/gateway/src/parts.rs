use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use axum::Router;
use host::{Host, LogOutput};
use input::{Intake, LimitsConfig, Publisher, Scraper, Ways};
use query::promql::eval::ResultCache;
use store::Store;
use tokio::sync::{mpsc, watch};

use crate::auth::{Auth, AuthMode};
use crate::body::Buffers;
use crate::config::{QueryConfig, ServerConfig};
use crate::cors;
use crate::lifecycle::{ReloadAsk, Reloads};
use crate::live::LiveHub;
use crate::pool::QueryPool;
use crate::proxies::Proxies;
use crate::room::Room;
use crate::slow::SlowLog;
use crate::work::Work;

/// What the gateway is wired to. A role that does not run in this process is `None`; its routes answer 404 with the
/// name of the role.
pub struct Parts {
    pub host: Host,
    pub about: About,
    pub auth: crate::AuthMode,
    pub server: ServerConfig,
    pub query: QueryConfig,
    pub limits: LimitsConfig,
    pub intake: Option<Intake>,
    pub publisher: Option<Publisher>,
    pub ways: Arc<Ways>,
    pub store: Option<Arc<Store>>,
    pub log: Option<Arc<dyn bus::Log<model::Record>>>,
    pub agent: Option<Arc<agent::Agent>>,
    /// An agent that looks at this process alone, for `/metrics`.
    pub own_process: agent::Agent,
    pub scraper: Option<Arc<Scraper>>,
    pub live: Arc<LiveHub>,
    /// Where log lines go, for its counts.
    pub log_output: LogOutput,
    /// Takes requests to read the configuration again.
    pub reload: Option<mpsc::Sender<ReloadAsk>>,
    /// Where slow queries are written; `None` keeps them in memory only.
    pub slow_log: Option<std::path::PathBuf>,
    /// Where logins are kept; `None`: they end with the process.
    pub sessions: Option<std::path::PathBuf>,
    /// Turns true when the process is to stop; the live channel closes on it.
    pub shutdown: watch::Receiver<bool>,
}

/// What the process says of itself.
#[derive(Clone, Debug)]
pub struct About {
    pub version: &'static str,
    pub roles: Vec<String>,
    pub data_dir: String,
    /// `host:port` as clients on this machine reach it.
    pub listen: String,
    /// By what this run of the server is recognised, see [`crate::INSTANCE`].
    pub instance: String,
    pub started_ms: i64,
    pub hostname: String,
    /// How long samples are kept, in words.
    pub retention: String,
    /// The configuration in force at the start, without secrets.
    pub config_yaml: String,
}

/// Answers about the server itself that are made at once.
const TELLING_AT_ONCE: usize = 2;

/// The gateway: routes over its parts.
#[derive(Clone)]
pub struct Gateway {
    pub(crate) app: Arc<App>,
}

pub(crate) struct App {
    pub(crate) parts: Parts,
    pub(crate) auth: Auth,
    /// Origins whose pages may read.
    pub(crate) cors_origins: Vec<String>,
    pub(crate) proxies: Proxies,
    pub(crate) pool: QueryPool,
    /// Answers of queries that may come again.
    pub(crate) results: Arc<ResultCache>,
    pub(crate) buffers: Buffers,
    /// What bodies, answers and frames of all connections may hold.
    pub(crate) room: Room,
    /// Decoding of bodies.
    pub(crate) decoding: Work,
    /// Writing of answers that are made while they are read.
    pub(crate) writing: Work,
    /// What the server says of itself.
    pub(crate) telling: Work,
    pub(crate) counts: HttpCounts,
    pub(crate) slow: Arc<SlowLog>,
    pub(crate) reloads: Reloads,
}

/// Answers by class, for `/metrics`.
#[derive(Default)]
pub(crate) struct HttpCounts {
    pub(crate) by_class: [AtomicU64; 6],
    pub(crate) queries: AtomicU64,
    pub(crate) query_failures: AtomicU64,
    /// Large answers that were not read to their end.
    pub(crate) cut_answers: AtomicU64,
}

impl Gateway {
    pub fn new(parts: Parts) -> Self {
        let auth = Auth::new(parts.auth.clone(), parts.host.clone(), parts.sessions.clone());
        // without a login the browser is the only wall between a foreign page and what is stored here
        let cors_origins = parts.server.cors_origins.clone().unwrap_or_else(|| match parts.auth {
            AuthMode::Token(_) => vec![cors::ANY.to_owned()],
            AuthMode::Loopback | AuthMode::None => Vec::new(),
        });
        // the configuration was checked; nobody is believed otherwise
        let proxies = Proxies::parse(&parts.server.trusted_proxies).unwrap_or_default();
        let pool = QueryPool::new(&parts.query);
        let slow = SlowLog::new(parts.host.clone(), parts.slow_log.clone(), parts.query.slow_ms);
        let results = Arc::new(ResultCache::new(parts.query.cache_bytes_max));
        let reloads = Reloads::new(parts.about.config_yaml.clone(), parts.about.started_ms);
        let room = Room::new(parts.server.memory_bytes);
        let app = Arc::new(App {
            parts,
            reloads,
            room,
            decoding: Work::new(crate::read::threads()),
            writing: Work::new(crate::read::threads()),
            telling: Work::new(TELLING_AT_ONCE),
            slow,
            auth,
            cors_origins,
            proxies,
            pool,
            results,
            buffers: Buffers::default(),
            counts: HttpCounts::default(),
        });
        Gateway { app }
    }

    /// All routes with their middleware, to be given to [`crate::serve`].
    pub fn router(&self) -> Router {
        crate::router::build(Arc::clone(&self.app))
    }
}
