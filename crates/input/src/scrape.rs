use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use host::Host;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use model::{Batch, LabelsBuilder, SampleSink, SeriesId, TenantId, stale_nan};
use tokio::sync::watch;
use wire::exposition::{self, Format};

use crate::config::ScrapeJob;
use crate::{Intake, Outcome, Publisher, Ways};

/// Bytes of an error kept for the targets page.
const ERROR_CHARS_MAX: usize = 300;

/// The first scrape of a target waits no longer than this.
const OFFSET_MAX: Duration = Duration::from_secs(5);

type HttpClient = Client<HttpsConnector<HttpConnector>, Empty<Bytes>>;

/// Fetches targets on their schedules and publishes what they say, with `up` and the scrape meta series; series that a
/// target no longer has get a stale marker, as in Prometheus.
pub struct Scraper {
    targets: Vec<Arc<Target>>,
    parts: ScrapeParts,
    client: HttpClient,
}

#[derive(Clone)]
struct ScrapeParts {
    host: Host,
    intake: Intake,
    publisher: Publisher,
    ways: Arc<Ways>,
}

/// A target's last scrape.
#[derive(Clone, Debug, Default)]
pub struct TargetHealth {
    pub job: String,
    pub instance: String,
    pub url: String,
    /// `None`: not yet scraped.
    pub up: Option<bool>,
    pub last_error: String,
    /// Unix ms of the last scrape; 0 before the first.
    pub last_ms: i64,
    pub last_duration_seconds: f64,
    pub interval_seconds: u32,
    pub timeout_seconds: u32,
}

struct Target {
    job: ScrapeJob,
    url: String,
    token: Option<String>,
    /// `job`, `instance` and the job's labels.
    labels: Vec<(String, String)>,
    health: Mutex<TargetHealth>,
}

/// What a target had at its last scrape.
#[derive(Default)]
struct Seen(HashSet<SeriesId>);

impl Scraper {
    /// `token_of` reads a token file; its error names the file.
    pub fn new(
        jobs: &[ScrapeJob],
        host: Host,
        intake: Intake,
        publisher: Publisher,
        ways: Arc<Ways>,
        token_of: impl Fn(&str) -> Result<String, String>,
    ) -> Result<Self, String> {
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_native_roots()
            .map_err(|e| format!("scrape: the system's certificates cannot be read: {e}"))?
            .https_or_http()
            .enable_http1()
            .build();
        let client = Client::builder(TokioExecutor::new())
            .pool_max_idle_per_host(1)
            .build(connector);
        let mut targets = Vec::new();
        for job in jobs {
            let token = job.token_file.as_deref().map(&token_of).transpose()?;
            for instance in &job.targets {
                let mut labels = job.labels.clone(); // they win, as in Prometheus
                labels.entry("job".to_owned()).or_insert_with(|| job.name.clone());
                labels.entry("instance".to_owned()).or_insert_with(|| instance.clone());
                let labels = labels.into_iter().collect();
                let url = format!("{}://{instance}{}", job.scheme.as_str(), job.path);
                let health = TargetHealth {
                    job: job.name.clone(),
                    instance: instance.clone(),
                    url: url.clone(),
                    interval_seconds: job.interval_seconds,
                    timeout_seconds: job.timeout_seconds,
                    ..TargetHealth::default()
                };
                targets.push(Arc::new(Target {
                    job: job.clone(),
                    url,
                    token: token.clone(),
                    labels,
                    health: Mutex::new(health),
                }));
            }
        }
        Ok(Scraper {
            targets,
            parts: ScrapeParts {
                host,
                intake,
                publisher,
                ways,
            },
            client,
        })
    }

    /// Health of all targets, in the order of the configuration.
    pub fn health(&self) -> Vec<TargetHealth> {
        self.targets
            .iter()
            .map(|t| t.health.lock().unwrap_or_else(PoisonError::into_inner).clone())
            .collect()
    }

    /// Scrapes until `shutdown` turns true.
    pub async fn run(self: Arc<Self>, shutdown: watch::Receiver<bool>) {
        let mut tasks = tokio::task::JoinSet::new();
        for target in &self.targets {
            let (scraper, target, mut stop) = (Arc::clone(&self), Arc::clone(target), shutdown.clone());
            tasks.spawn(async move {
                tokio::select! {
                    () = scraper.follow(&target) => {}
                    _ = stop.wait_for(|&stop| stop) => {}
                }
            });
        }
        while tasks.join_next().await.is_some() {}
    }

    async fn follow(&self, target: &Target) {
        let interval = Duration::from_secs(u64::from(target.job.interval_seconds));
        let mut seen = Seen::default();
        // targets of one interval are spread over it, each always at the same place
        let place = target
            .url
            .bytes()
            .fold(0u64, |h, b| h.wrapping_mul(31).wrapping_add(u64::from(b)))
            % 97;
        let offset = interval.mul_f64(place as f64 / 97.0).min(OFFSET_MAX);
        let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + offset, interval);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Skip);
        loop {
            ticks.tick().await;
            self.scrape(target, &mut seen).await;
        }
    }

    async fn scrape(&self, target: &Target, seen: &mut Seen) {
        let host = &self.parts.host;
        let (at_ms, began) = (host.clock.now_ms(), host.clock.monotonic());
        let timeout = Duration::from_secs(u64::from(target.job.timeout_seconds));
        let fetched = match tokio::time::timeout(timeout, self.fetch(target)).await {
            Ok(fetched) => fetched,
            Err(_) => Err(format!("no answer within {} s", target.job.timeout_seconds)),
        };
        let seconds = host.clock.monotonic().saturating_sub(began).as_secs_f64();
        let bytes = fetched.as_ref().map_or(0, |(body, _)| body.len());
        let read = fetched.and_then(|(body, format)| self.read(target, &body, format, at_ms));
        let (mut batch, outcome, error) = match read {
            Ok((batch, outcome)) => (batch, outcome, None),
            Err(e) => (Batch::new(TenantId::DEFAULT), Outcome::default(), Some(e)),
        };
        let now = self.complete(target, &mut batch, seen, at_ms, seconds, error.is_none());
        {
            let mut health = target.health.lock().unwrap_or_else(PoisonError::into_inner);
            health.up = Some(error.is_none());
            health.last_error = error
                .clone()
                .unwrap_or_default()
                .chars()
                .take(ERROR_CHARS_MAX)
                .collect();
            (health.last_ms, health.last_duration_seconds) = (at_ms, seconds);
        }
        if let Some(error) = error {
            tracing::debug!(url = target.url, %error, "scrape failed");
        }
        match self.parts.publisher.batch(batch).await {
            Ok(_) => {
                // only what is on the bus counts as seen: otherwise its stale markers come with the next scrape
                *seen = now;
                self.parts.ways.note("scrape", at_ms, bytes, &outcome);
            }
            Err(e) => tracing::warn!(url = target.url, error = %e, "a scrape is lost"),
        }
    }

    async fn fetch(&self, target: &Target) -> Result<(Vec<u8>, Format), String> {
        let mut request = Request::get(&target.url)
            .header(header::ACCEPT, Format::ACCEPT)
            .header(header::ACCEPT_ENCODING, "gzip")
            .header(header::USER_AGENT, concat!("Overseer/", env!("CARGO_PKG_VERSION")))
            .header(
                "X-Prometheus-Scrape-Timeout-Seconds",
                target.job.timeout_seconds.to_string(),
            );
        if let Some(token) = &target.token {
            request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
        }
        let request = request.body(Empty::new()).map_err(|e| e.to_string())?;
        let response = self.client.request(request).await.map_err(|e| chain(&e))?;
        if response.status() != StatusCode::OK {
            return Err(format!("the target answered {}", response.status()));
        }
        let text = |name| {
            response
                .headers()
                .get(name)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("")
                .to_owned()
        };
        let format = Format::of(&text(header::CONTENT_TYPE));
        let encoding = wire::Encoding::parse(&text(header::CONTENT_ENCODING)).map_err(|e| e.to_string())?;
        let max = target.job.body_bytes_max;
        let body = http_body_util::Limited::new(response.into_body(), max)
            .collect()
            .await
            .map_err(|e| format!("the answer cannot be read (at most {max} bytes are): {e}"))?
            .to_bytes();
        let mut plain = Vec::new();
        let read = wire::decompress(encoding, &body, max, &mut plain).map_err(|e| e.to_string())?;
        Ok((read.to_vec(), format))
    }

    /// The samples of an answer; an answer that does not parse to its end counts for nothing.
    fn read(&self, target: &Target, body: &[u8], format: Format, at_ms: i64) -> Result<(Batch, Outcome), String> {
        let mut admission = self.parts.intake.admit(TenantId::DEFAULT, at_ms);
        let request = wire::Request {
            now_ms: at_ms,
            target: &target.labels,
            honor_labels: target.job.honor_labels,
            ignore_timestamps: !target.job.honor_timestamps,
            ..Default::default()
        };
        exposition::decode(body, format, &request, &mut admission).map_err(|e| e.to_string())?;
        let (batch, outcome) = admission.finish();
        let max = target.job.samples_max;
        if batch.samples() > max {
            return Err(format!(
                "{} samples, at most {max} are taken (samples_max)",
                batch.samples()
            ));
        }
        Ok((batch, outcome))
    }

    /// Adds stale markers for what is gone, then the meta series.
    fn complete(&self, target: &Target, batch: &mut Batch, seen: &Seen, at_ms: i64, seconds: f64, up: bool) -> Seen {
        let scraped = batch.samples();
        // samples with a time of their own come and go as the target likes: no stale markers for them
        let now: HashSet<SeriesId> = batch
            .floats
            .series
            .iter()
            .zip(&batch.floats.at_ms)
            .filter(|&(_, &t)| t == at_ms)
            .map(|(&s, _)| s)
            .chain(batch.histograms.iter().filter(|h| h.at_ms == at_ms).map(|h| h.series))
            .collect();
        let mut gone: Vec<SeriesId> = seen.0.difference(&now).copied().collect();
        gone.sort_unstable();
        let added = now.difference(&seen.0).count();
        for series in gone {
            batch.floats.push(series, at_ms, stale_nan(), 0);
        }

        let mut admission = self.parts.intake.admit(TenantId::DEFAULT, at_ms);
        let mut labels = LabelsBuilder::default();
        for (name, value) in [
            ("up", if up { 1.0 } else { 0.0 }),
            ("scrape_duration_seconds", seconds),
            ("scrape_samples_scraped", scraped as f64),
            ("scrape_samples_post_metric_relabeling", scraped as f64),
            ("scrape_series_added", added as f64),
        ] {
            labels.clear();
            labels.push(model::METRIC_NAME.as_bytes(), name.as_bytes());
            for (n, v) in &target.labels {
                labels.push(n.as_bytes(), v.as_bytes());
            }
            if let Some(id) = admission.define(&[], &mut labels) {
                admission.float(id, at_ms, value, 0);
            }
        }
        let (meta, _) = admission.finish();
        for i in 0..meta.floats.len() {
            batch
                .floats
                .push(meta.floats.series[i], meta.floats.at_ms[i], meta.floats.values[i], 0);
        }
        Seen(now)
    }
}

/// An error with its causes: the outer one alone says "client error (Connect)".
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(c) = cause {
        text.push_str(&format!(": {c}"));
        cause = c.source();
    }
    text
}
