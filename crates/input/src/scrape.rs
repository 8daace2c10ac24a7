mod fetch;
mod redirect;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::Host;
use http::Uri;
use model::{Batch, LabelsBuilder, RejectReason, SampleSink, SeriesId, TenantId, stale_nan};
use tokio::sync::watch;
use wire::exposition::{self, Format};

use crate::config::ScrapeJob;
use crate::{Intake, Outcome, Publisher, Ways};
use fetch::{Answer, Ask, Client, Kept, Trail};

/// Bytes of an error kept for the targets page.
const ERROR_CHARS_MAX: usize = 300;

/// The first scrape of a target waits no longer than this.
const OFFSET_MAX: Duration = Duration::from_secs(5);

/// Fetches targets on their schedules and publishes what they say, with `up` and the scrape meta series; series that a
/// target no longer has get a stale marker, as in Prometheus.
pub struct Scraper {
    targets: Vec<Arc<Target>>,
    parts: ScrapeParts,
    client: Client,
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
    uri: Uri,
    token: Option<String>,
    /// `job`, `instance` and the job's labels.
    labels: Vec<(String, String)>,
    health: Mutex<TargetHealth>,
}

/// What came of an answer.
struct Read {
    batch: Batch,
    outcome: Outcome,
    /// Samples that the answer showed, refused ones included.
    samples: u64,
    /// Why the target counts as down.
    error: Option<String>,
}

impl Read {
    fn failed(error: String) -> Read {
        Read {
            batch: Batch::new(TenantId::DEFAULT),
            outcome: Outcome::default(),
            samples: 0,
            error: Some(error),
        }
    }
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
        let client = Client::new()?;
        let mut targets = Vec::new();
        for job in jobs {
            let token = job.token_file.as_deref().map(&token_of).transpose()?;
            for instance in &job.targets {
                let mut labels = job.labels.clone(); // they win, as in Prometheus
                labels.entry("job".to_owned()).or_insert_with(|| job.name.clone());
                labels.entry("instance".to_owned()).or_insert_with(|| instance.clone());
                let labels = labels.into_iter().collect();
                let url = format!("{}://{instance}{}", job.scheme.as_str(), job.path);
                let uri: Uri = url
                    .parse()
                    .map_err(|e| format!("scrape: the address {url:?} of job {:?}: {e}", job.name))?;
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
                    uri,
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
        let (mut seen, mut kept) = (Seen::default(), Kept::default());
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
            self.scrape(target, &mut seen, &mut kept).await;
        }
    }

    async fn scrape(&self, target: &Target, seen: &mut Seen, kept: &mut Kept) {
        let host = &self.parts.host;
        let (at_ms, began) = (host.clock.now_ms(), host.clock.monotonic());
        let job = &target.job;
        let ask = Ask {
            url: &target.uri,
            token: target.token.as_deref(),
            timeout_seconds: job.timeout_seconds,
            follow_redirects: job.follow_redirects,
            compressed: job.enable_compression,
            body_bytes_max: job.body_bytes_max,
        };
        let mut trail = Trail::default();
        let timeout = Duration::from_secs(u64::from(job.timeout_seconds));
        let fetched = tokio::time::timeout(timeout, self.client.get(&ask, kept, began, &mut trail)).await;
        let fetched = fetched.unwrap_or_else(|_| Err(format!("no answer within {} s", job.timeout_seconds)));
        let seconds = host.clock.monotonic().saturating_sub(began).as_secs_f64();
        let bytes = fetched.as_ref().map_or(0, |answer| answer.body.len());
        let read = match fetched {
            Ok(answer) => self.read(target, &answer, at_ms),
            Err(e) => Read::failed(e),
        };
        let Read {
            mut batch,
            outcome,
            samples,
            error,
        } = read;
        let error = error.map(|e| trail.tell(e));
        let now = self.complete(target, &mut batch, seen, at_ms, seconds, samples, error.is_none());
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

    /// The samples of an answer; an answer that does not parse to its end, or has too many, counts for nothing.
    fn read(&self, target: &Target, answer: &Answer, at_ms: i64) -> Read {
        let job = &target.job;
        let format = match Format::stated(&answer.content_type) {
            Ok(format) => format,
            Err(why) => match job.fallback_scrape_protocol {
                Some(protocol) => protocol.format(),
                None => return Read::failed(format!("{why}, and fallback_scrape_protocol is null")),
            },
        };
        let mut plain = Vec::new();
        let body = match wire::decompress_answer(&answer.content_encoding, &answer.body, job.body_bytes_max, &mut plain)
        {
            Ok(body) => body,
            Err(e) => return Read::failed(e.to_string()),
        };
        let mut admission = self.parts.intake.admit(TenantId::DEFAULT, at_ms);
        let request = wire::Request {
            now_ms: at_ms,
            target: &target.labels,
            honor_labels: job.honor_labels,
            ignore_timestamps: !job.honor_timestamps,
            ..Default::default()
        };
        let (samples, error) = match exposition::decode(body, format, &request, &mut admission) {
            Ok(scraped) => (scraped.samples, None),
            Err(e) => (e.taken, Some((RejectReason::Malformed, e.to_string()))),
        };
        let max = job.samples_max as u64;
        let error = error.or_else(|| {
            let why = || format!("{samples} samples, at most {max} are taken (samples_max)");
            (samples > max).then(|| (RejectReason::Limit, why()))
        });
        match error {
            None => {
                let (batch, outcome) = admission.finish();
                Read {
                    batch,
                    outcome,
                    samples,
                    error: None,
                }
            }
            Some((reason, why)) => Read {
                outcome: Outcome::refused(reason, samples),
                samples,
                ..Read::failed(why)
            },
        }
    }

    /// Adds stale markers for what is gone, then the meta series.
    #[allow(clippy::too_many_arguments)] // one sample each
    fn complete(
        &self,
        target: &Target,
        batch: &mut Batch,
        seen: &Seen,
        at_ms: i64,
        seconds: f64,
        samples: u64,
        up: bool,
    ) -> Seen {
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
            ("scrape_samples_scraped", samples as f64),
            ("scrape_samples_post_metric_relabeling", samples as f64),
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
