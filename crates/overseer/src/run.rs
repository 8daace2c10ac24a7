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
use tokio::sync::{mpsc, watch};

use crate::cli::Settings;
use crate::config::{AuthSetting, Config};
use crate::data_dir::{self, DataDir};
use crate::logging::Logging;
use crate::reload::{self, Reloader};
use crate::roles::{Role, Roles};
use crate::signals::{Asked, Signals};
use crate::{Failure, VERSION, banner, config, layers, own_host, self_telemetry};

/// How long the log may take to write what is queued when the process stops.
pub(crate) const CLOSE_WITHIN: Duration = Duration::from_secs(3);
/// Stack of a thread: reading the longest query that is taken must not come near its end, also without optimisation.
/// Only what is used of it takes memory.
const STACK_BYTES: usize = 16 << 20;
/// Requests to reload that wait for the one that is done now.
const RELOADS_WAITING: usize = 4;
/// How often it is said what was left out of the log.
const TELL_LEFT_OUT_EVERY: Duration = Duration::from_secs(10);
/// How long tasks may take to end before they are dropped.
const END_WITHIN: Duration = Duration::from_secs(1);

/// Runs the roles until SIGTERM or Ctrl-C, or until a part of the process dies.
pub(crate) fn run(settings: &Settings, roles: &[String]) -> Result<(), Failure> {
    let load = || {
        let (mut config, files) = config::load(settings)?;
        if !roles.is_empty() {
            config.roles = roles.to_vec();
        }
        Ok((config, files))
    };
    let (config, files) = load()?;
    Roles::parse(&config.roles).map_err(Failure::misuse)?;
    let host = Host::real();
    let logging = Logging::start(&config.log, &host)?;
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
    let outcome = runtime.block_on(async {
        // before anything is written, so that none is lost
        let signals = Signals::catch()?;
        serve(config, &host, &logging, signals, &load).await
    });
    runtime.shutdown_timeout(END_WITHIN);
    logging.end();
    outcome
}

async fn serve(
    config: Config,
    host: &Host,
    logging: &Logging,
    mut signals: Signals,
    load: reload::Load<'_>,
) -> Result<(), Failure> {
    let roles = Roles::parse(&config.roles).map_err(Failure::misuse)?;
    let running = config.clone();
    let auth = auth_of(&config)?;
    let listener = bind(&config.listen, &auth).await?;
    let address = listener.local_addr().map_err(|e| Failure::failed(e.to_string()))?;
    let (dead, mut died) = watch::channel(false);
    host.workers.when_one_dies(move |_| {
        dead.send_replace(true);
    });
    let path = config.data_dir.clone().unwrap_or_else(data_dir::default_path);
    let data_dir = DataDir::open(host, &path)?;
    let opened = tokio::task::block_in_place(|| open(host, &data_dir, &config))?;
    let Opened { table, log, store } = opened;

    let (stop, shutdown) = watch::channel(false);
    let ways = Arc::new(Ways::new(
        wire::PROTOCOLS
            .iter()
            .filter(|p| !p.paths.is_empty())
            .map(|p| p.id)
            .chain(["scrape", "agent"]),
    ));
    let intake = Intake::new(table, config.limits.sample_limits()).with_newest_ms(store.newest_file_ms());
    let publisher = Publisher::new(Arc::clone(&log));
    let live = Arc::new(LiveHub::default());
    let mut tasks = tokio::task::JoinSet::new();

    let scraper = if config.scrape.jobs.is_empty() {
        None
    } else {
        let token_of = |file: &str| {
            layers::text_named_by("token_file", &PathBuf::from(file))
                .map(|t| t.trim().to_owned())
                .map_err(|f| f.message)
        };
        let (intake, publisher, ways) = (intake.clone(), publisher.clone(), Arc::clone(&ways));
        let scraper = Scraper::new(&config.scrape.jobs, host.clone(), intake, publisher, ways, token_of)
            .map_err(Failure::misuse)?;
        let scraper = Arc::new(scraper);
        let run = Arc::clone(&scraper).run(shutdown.clone());
        tasks.spawn(host.workers.task("scraper", run));
        Some(scraper)
    };
    let agent = if roles.has(Role::Agent) {
        let agent = own_host::agent(config.agent.clone(), host)?;
        let publish = own_host::publish(intake.clone(), publisher.clone(), Arc::clone(&ways));
        let mut stop = shutdown.clone();
        let stopped = async move {
            let _ = stop.wait_for(|&stop| stop).await;
        };
        let run = Arc::clone(&agent).run(publish, stopped);
        tasks.spawn(host.workers.task("agent", run));
        Some(agent)
    } else {
        None
    };
    let own_process = own_host::own_process(host)?;
    let hostname = own_process.instance().to_owned();

    let about = About {
        instance: data_dir.announce(host, &shown(address)),
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
    let (reload, mut reloads) = mpsc::channel(RELOADS_WAITING);
    let gateway = Gateway::new(Parts {
        host: host.clone(),
        log_output: logging.output().clone(),
        reload: Some(reload),
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
        sessions: Some(data_dir.path().join("sessions.json")),
        shutdown: shutdown.clone(),
    });
    let telemetry = self_telemetry::run(
        gateway.clone(),
        host.clone(),
        intake,
        publisher,
        hostname,
        shutdown.clone(),
    );
    tasks.spawn(host.workers.task("self-telemetry", telemetry));
    let server = gateway::serve(listener, gateway.router(), host.clone(), config.server, shutdown);
    let server = tokio::spawn(host.workers.task("http-server", server));
    let shown_dir = data_dir.path().display().to_string();
    let has_agent = agent.is_some();
    let for_banner = auth.clone();
    // nobody has to read it
    drop(tokio::task::spawn_blocking(move || {
        banner::print(address, &shown_dir, &for_banner, has_agent)
    }));

    let mut reloader = Reloader::new(running, load, auth, logging, gateway);
    let mut summaries = tokio::time::interval(TELL_LEFT_OUT_EVERY);
    summaries.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
    loop {
        tokio::select! {
            _ = died.wait_for(|&dead| dead) => break,
            asked = signals.next() => match asked {
                Asked::Stop(signal) => {
                    tracing::info!(signal, "stopping");
                    break;
                }
                Asked::Reload => drop(tokio::task::block_in_place(|| reloader.reload("SIGHUP"))),
            },
            Some(answer) = reloads.recv() => {
                let _ = answer.send(tokio::task::block_in_place(|| reloader.reload("POST /-/reload")));
            }
            _ = summaries.tick() => logging.tell_left_out(),
        }
    }
    if let Some(death) = host.workers.deaths().first() {
        tracing::error!("stopping, for {death}");
    }
    host.workers.stopping();
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
    match host.workers.deaths().into_iter().next() {
        None => {
            tracing::info!("stopped");
            Ok(())
        }
        Some(death) => Err(Failure::failed(format!(
            "{death}; everything acknowledged is on disk (please report this)"
        ))),
    }
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

pub(crate) fn auth_of(config: &Config) -> Result<AuthMode, Failure> {
    match (&config.token_file, config.auth) {
        (Some(file), _) => {
            let text = layers::text_named_by("token_file", file)?;
            let token =
                Token::parse(&text).map_err(|e| Failure::misuse(format!("token_file {}: {e}", file.display())))?;
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

#[cfg(test)]
mod tests;
