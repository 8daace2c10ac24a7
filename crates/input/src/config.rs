use std::collections::BTreeMap;

use model::SampleLimits;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use wire::exposition::Format;

/// What a sample or series may be; see `model::SampleLimits`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct LimitsConfig {
    /// Labels a series may carry, the metric name included.
    pub labels_max: usize,
    /// Bytes of a label name.
    pub label_name_bytes_max: usize,
    /// Bytes of a label value.
    pub label_value_bytes_max: usize,
    /// Seconds that a sample may lie ahead of the server's clock.
    pub ahead_seconds_max: u32,
    /// Series a tenant may have that were written within a day; existing ones go on when it is reached.
    pub series_max: usize,
    /// Series of one metric that were written within a day; existing ones go on when it is reached.
    pub metric_series_max: usize,
    /// Bytes of a request body as it arrives.
    pub body_bytes_max: usize,
    /// Bytes of a request body after decompression.
    pub decoded_bytes_max: usize,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let l = SampleLimits::default();
        LimitsConfig {
            labels_max: l.labels_max,
            label_name_bytes_max: l.label_name_bytes_max,
            label_value_bytes_max: l.label_value_bytes_max,
            ahead_seconds_max: (l.ahead_ms_max / 1000) as u32,
            series_max: l.series_max,
            metric_series_max: l.metric_series_max,
            body_bytes_max: 32 << 20,
            decoded_bytes_max: 32 << 20,
        }
    }
}

impl LimitsConfig {
    pub fn sample_limits(&self) -> SampleLimits {
        SampleLimits {
            labels_max: self.labels_max,
            label_name_bytes_max: self.label_name_bytes_max,
            label_value_bytes_max: self.label_value_bytes_max,
            ahead_ms_max: i64::from(self.ahead_seconds_max) * 1000,
            series_max: self.series_max,
            metric_series_max: self.metric_series_max,
            ..SampleLimits::default()
        }
    }
}

/// What to scrape.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ScrapeConfig {
    pub jobs: Vec<ScrapeJob>,
}

/// A group of targets that are scraped alike. Names follow Prometheus' `scrape_config`.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct ScrapeJob {
    /// Value of the `job` label.
    pub name: String,
    /// `host:port` of each target; also the value of its `instance` label.
    pub targets: Vec<String>,
    /// Seconds between scrapes.
    #[serde(default = "default_interval")]
    pub interval_seconds: u32,
    /// Seconds a scrape may take; at most the interval.
    #[serde(default = "default_timeout")]
    pub timeout_seconds: u32,
    #[serde(default = "default_path")]
    pub path: String,
    /// `http` or `https`.
    #[serde(default)]
    pub scheme: Scheme,
    /// Labels added to every series of these targets.
    #[serde(default)]
    pub labels: BTreeMap<String, String>,
    /// On a clash keep the target's own label instead of renaming it to `exported_…`.
    #[serde(default)]
    pub honor_labels: bool,
    /// Take timestamps that the target states; otherwise all samples get the time of the scrape.
    #[serde(default = "yes")]
    pub honor_timestamps: bool,
    /// Follow redirects, ten at most.
    #[serde(default = "yes")]
    pub follow_redirects: bool,
    /// How an answer is read whose `Content-Type` is missing or of no known format; null: such a target counts as down.
    #[serde(default = "default_fallback")]
    pub fallback_scrape_protocol: Option<ScrapeProtocol>,
    /// Ask for gzip.
    #[serde(default = "yes")]
    pub enable_compression: bool,
    /// File that holds a bearer token to send. No redirect takes it to another host or port, or from https to http.
    #[serde(default)]
    pub token_file: Option<String>,
    /// Bytes of an answer, after decompression.
    #[serde(default = "default_body")]
    pub body_bytes_max: usize,
    /// Samples of one scrape; a target with more counts as down.
    #[serde(default = "default_samples")]
    pub samples_max: usize,
}

/// A format of scraped text, under Prometheus' names.
#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
pub enum ScrapeProtocol {
    #[serde(rename = "PrometheusText0.0.4")]
    PrometheusText0_0_4,
    #[serde(rename = "PrometheusText1.0.0")]
    PrometheusText1_0_0,
    #[serde(rename = "OpenMetricsText0.0.1")]
    OpenMetricsText0_0_1,
    #[serde(rename = "OpenMetricsText1.0.0")]
    OpenMetricsText1_0_0,
}

impl ScrapeProtocol {
    pub(crate) fn format(self) -> Format {
        match self {
            ScrapeProtocol::PrometheusText0_0_4 | ScrapeProtocol::PrometheusText1_0_0 => Format::Text,
            ScrapeProtocol::OpenMetricsText0_0_1 | ScrapeProtocol::OpenMetricsText1_0_0 => Format::OpenMetrics,
        }
    }
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub enum Scheme {
    #[default]
    Http,
    Https,
}

impl Scheme {
    pub fn as_str(self) -> &'static str {
        match self {
            Scheme::Http => "http",
            Scheme::Https => "https",
        }
    }
}

fn default_interval() -> u32 {
    15
}
fn default_timeout() -> u32 {
    10
}
fn default_path() -> String {
    "/metrics".into()
}
fn default_body() -> usize {
    32 << 20
}
fn default_samples() -> usize {
    500_000
}
fn default_fallback() -> Option<ScrapeProtocol> {
    Some(ScrapeProtocol::PrometheusText0_0_4)
}
fn yes() -> bool {
    true
}

impl ScrapeConfig {
    /// The first thing wrong, with its place (`scrape.jobs[0].targets[1]: …`).
    pub fn check(&self) -> Result<(), String> {
        let mut names = std::collections::BTreeSet::new();
        for (i, job) in self.jobs.iter().enumerate() {
            let at = |field: &str| format!("scrape.jobs[{i}].{field}");
            if job.name.is_empty() {
                return Err(format!("{}: a name is needed", at("name")));
            }
            if !names.insert(&job.name) {
                return Err(format!("{}: {:?} is given twice", at("name"), job.name));
            }
            if job.interval_seconds == 0 {
                return Err(format!("{}: 0, at least 1 is right", at("interval_seconds")));
            }
            if job.timeout_seconds == 0 || job.timeout_seconds > job.interval_seconds {
                return Err(format!(
                    "{}: {}, 1 to interval_seconds ({}) is right",
                    at("timeout_seconds"),
                    job.timeout_seconds,
                    job.interval_seconds
                ));
            }
            if !job.path.starts_with('/') {
                return Err(format!("{}: {:?} must begin with /", at("path"), job.path));
            }
            if let Some(name) = job.labels.keys().find(|n| n.is_empty() || n.starts_with("__")) {
                return Err(format!(
                    "{}: {name:?} cannot be set: names that begin with __ are Overseer's",
                    at("labels")
                ));
            }
            for (n, target) in job.targets.iter().enumerate() {
                let good = target
                    .rsplit_once(':')
                    .is_some_and(|(h, p)| !h.is_empty() && p.parse::<u16>().is_ok());
                if !good || target.contains('/') {
                    return Err(format!(
                        "{}: {target:?}, host:port is right",
                        at(&format!("targets[{n}]"))
                    ));
                }
            }
        }
        Ok(())
    }
}
