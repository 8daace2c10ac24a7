use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bus::Log;
use bus::local::{LocalLog, LocalSettings};
use gateway::{About, AuthMode, Gateway, LiveHub, Parts, Token};
use host::Host;
use input::{Intake, Publisher, Scraper, Ways};
use series::table::SeriesTable;
use store::{RecordCodec, RecordDecode, Store, StoreParts};
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::cli::Settings;
use crate::config::{AuthSetting, Config};
use crate::data_dir::{self, DataDir};
use crate::roles::{Role, Roles};
use crate::{Failure, VERSION, banner, config, layers, logging, own_host, self_telemetry};

/// How long the log may take to write what is queued when the process stops.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// Stack of a thread: reading the longest query that is taken must not come near its end, also without optimisation.
/// Only what is used of it takes memory.
const STACK_BYTES: usize = 16 << 20;
/// How long tasks may take to end before they are dropped.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Runs the roles until SIGTERM or Ctrl-C.
pub(crate) fn run(settings: &Settings, roles: &[String]) -> Result<(), Failure> {
    let (mut config, files) = config::load(settings)?;
    if !roles.is_empty() {
        config.roles = roles.to_vec();
    }
    let roles = Roles::parse(&config.roles).map_err(Failure::misuse)?;
    logging::start(&config.log)?;
    for file in &files {
        tracing::info!(file = %file.display(), "configuration read");
    }
    if rustls::crypto::ring::default_provider().install_default().is_err() {
        tracing::debug!("a TLS provider was installed before");
    }
    // files of samples stay open
    if let Err(e) = host::raise_file_limit() {
        tracing::warn!(error = %e, "the limit of open files could not be raised");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .max_blocking_threads(64)
        .build()
        .map_err(|e| Failure::failed(format!("cannot start: {e}")))?;
    let outcome = runtime.block_on(serve(config, roles));
    runtime.shutdown_timeout(END_WITHIN);
    outcome
}

async fn serve(config: Config, roles: Roles) -> Result<(), Failure> {
    let host = Host::real();
    let auth = auth_of(&config)?;
    let listener = bind(&config.listen, &auth).await?;
    let address = listener.local_addr().map_err(|e| Failure::failed(e.to_string()))?;
    let path = config.data_dir.clone().unwrap_or_else(data_dir::default_path);
    let data_dir = DataDir::open(&host, &path)?;
    // signals are caught before anything is written, so that none is lost
    let mut signals = Signals::new()?;
    let opened = tokio::task::block_in_place(|| open(&host, &data_dir, &config))?;
    let Opened { table, log, store } = opened;

    let (stop, shutdown) = watch::channel(false);
    let ways = Arc::new(Ways::new(
        wire::PROTOCOLS
            .iter()
            .filter(|p| !p.paths.is_empty())
            .map(|p| p.id)
            .chain(["scrape", "agent"]),
    ));
    let intake = Intake::new(table, config.limits.sample_limits());
    let publisher = Publisher::new(Arc::clone(&log));
    let live = Arc::new(LiveHub::default());
    let mut tasks = tokio::task::JoinSet::new();

    let scraper = if config.scrape.jobs.is_empty() {
        None
    } else {
        let token_of = |file: &str| {
            layers::text_of(&PathBuf::from(file))
                .map(|t| t.trim().to_owned())
                .map_err(|f| f.message)
        };
        let (host, intake, publisher, ways) = (host.clone(), intake.clone(), publisher.clone(), Arc::clone(&ways));
        let scraper =
            Scraper::new(&config.scrape.jobs, host, intake, publisher, ways, token_of).map_err(Failure::misuse)?;
        let scraper = Arc::new(scraper);
        tasks.spawn(Arc::clone(&scraper).run(shutdown.clone()));
        Some(scraper)
    };
    let agent = if roles.has(Role::Agent) {
        let agent = own_host::agent(config.agent.clone(), &host)?;
        let publish = own_host::publish(intake.clone(), publisher.clone(), Arc::clone(&ways));
        let mut stop = shutdown.clone();
        let stopped = async move {
            let _ = stop.wait_for(|&stop| stop).await;
        };
        tasks.spawn(Arc::clone(&agent).run(publish, stopped));
        Some(agent)
    } else {
        None
    };
    let own_process = own_host::own_process(&host)?;
    let hostname = own_process.instance().to_owned();

    let about = About {
        version: VERSION,
        roles: roles.names(),
        data_dir: data_dir.path().display().to_string(),
        listen: shown(address),
        started_ms: host.clock.now_ms(),
        hostname: hostname.clone(),
        retention: config
            .store
            .retention_days
            .map_or_else(String::new, |days| format!("{days}d")),
        config_yaml: config::yaml(&config)?,
    };
    let gateway = Gateway::new(Parts {
        host: host.clone(),
        about,
        auth: auth.clone(),
        server: config.server.clone(),
        query: config.query.clone(),
        limits: config.limits.clone(),
        intake: Some(intake.clone()),
        publisher: Some(publisher.clone()),
        ways,
        store: Some(Arc::clone(&store)),
        log: Some(Arc::clone(&log)),
        agent: agent.clone(),
        own_process,
        scraper,
        live,
        slow_log: Some(data_dir.path().join("logs").join("slow-queries.jsonl")),
        shutdown: shutdown.clone(),
    });
    tasks.spawn(self_telemetry::run(
        gateway.clone(),
        host.clone(),
        intake,
        publisher,
        hostname,
        shutdown.clone(),
    ));
    let clock = Arc::clone(&host.clock);
    let server = tokio::spawn(gateway::serve(
        listener,
        gateway.router(),
        clock,
        config.server,
        shutdown,
    ));
    banner::print(address, &data_dir.path().display().to_string(), &auth, agent.is_some());

    let signal = signals.next().await;
    tracing::info!(signal, "stopping");
    stop.send_replace(true);
    let _ = server.await;
    let _ = tokio::time::timeout(END_WITHIN, async { while tasks.join_next().await.is_some() {} }).await;
    tasks.abort_all();
    tokio::task::block_in_place(|| {
        store.stop();
        if let Err(e) = log.close(CLOSE_WITHIN) {
            tracing::error!(error = %e, "the samples log was not closed in time; the next start replays it");
        }
    });
    tracing::info!("stopped");
    Ok(())
}

pub(crate) struct Opened {
    table: Arc<SeriesTable>,
    pub(crate) log: Arc<dyn Log<model::Record>>,
    pub(crate) store: Arc<Store>,
}

/// Table, engine, log, store: each needs the one before.
pub(crate) fn open(host: &Host, data_dir: &DataDir, config: &Config) -> Result<Opened, Failure> {
    let mut seed = [0u8; 16];
    host.random.fill(&mut seed);
    let table = Arc::new(SeriesTable::new(seed));
    let engine = Store::open_engine(host, &data_dir.series(), &config.store, Arc::clone(&table))
        .map_err(|e| Failure::failed(e.to_string()))?;
    let settings = LocalSettings {
        segment_bytes: config.store.log_segment_bytes,
        max_bytes: config.store.log_bytes_max,
        required: vec![store::CONSUMER.to_owned()],
        known_position: engine.applied(),
        ..LocalSettings::new("samples")
    };
    let decoder_table = Arc::clone(&table);
    let make_decoder = move || RecordDecode::new(Arc::clone(&decoder_table));
    let codec = RecordCodec::new(Arc::clone(&table));
    let (log, report) = LocalLog::open(host, &data_dir.samples_log(), settings, codec, make_decoder)
        .map_err(|e| Failure::failed(e.to_string()))?;
    tracing::info!(
        durable = report.durable,
        segments = report.segments,
        bytes = report.bytes,
        damaged = report.quarantined.len(),
        "samples log open"
    );
    let log: Arc<dyn Log<model::Record>> = Arc::new(log);
    let parts = StoreParts {
        host: host.clone(),
        dir: data_dir.series(),
        snapshots: data_dir.snapshots(),
        table: Arc::clone(&table),
        engine,
        log: Arc::clone(&log),
        config: config.store.clone(),
    };
    let store = Store::start(parts).map_err(|e| Failure::failed(e.to_string()))?;
    Ok(Opened {
        table,
        log,
        store: Arc::new(store),
    })
}

fn auth_of(config: &Config) -> Result<AuthMode, Failure> {
    match (&config.token_file, config.auth) {
        (Some(file), _) => {
            let text = layers::text_of(file)?;
            let token = Token::parse(&text).map_err(|e| Failure::misuse(format!("{}: {e}", file.display())))?;
            Ok(AuthMode::Token(token))
        }
        (None, Some(AuthSetting::None)) => Ok(AuthMode::None),
        (None, _) => Ok(AuthMode::Loopback),
    }
}

/// Opens the listen address; without a login only an address of this machine alone.
async fn bind(listen: &str, auth: &AuthMode) -> Result<TcpListener, Failure> {
    let addresses: Vec<SocketAddr> = tokio::net::lookup_host(listen)
        .await
        .map_err(|e| Failure::misuse(format!("listen: {listen:?} is no address of this machine: {e}")))?
        .collect();
    if matches!(auth, AuthMode::Loopback)
        && let Some(wide) = addresses.iter().find(|a| !a.ip().is_loopback())
    {
        return Err(Failure::misuse(format!(
            "listen: {wide} can be reached from other machines, and no login is configured: give --token-file FILE, \
             or set auth: none to let anybody in, or listen on 127.0.0.1"
        )));
    }
    TcpListener::bind(addresses.as_slice()).await.map_err(|e| {
        let hint = if e.kind() == std::io::ErrorKind::AddrInUse {
            "; another program (maybe another Overseer) listens there, choose another with --listen"
        } else {
            ""
        };
        Failure::failed(format!("cannot listen on {listen}: {e}{hint}"))
    })
}

fn shown(address: SocketAddr) -> String {
    if address.ip().is_unspecified() {
        format!("127.0.0.1:{}", address.port())
    } else {
        address.to_string()
    }
}

struct Signals {
    terminate: tokio::signal::unix::Signal,
    interrupt: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> Result<Self, Failure> {
        let catch = |kind| signal(kind).map_err(|e| Failure::failed(format!("cannot catch signals: {e}")));
        Ok(Signals {
            terminate: catch(SignalKind::terminate())?,
            interrupt: catch(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
