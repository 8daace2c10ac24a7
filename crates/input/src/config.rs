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
    /// Metrics of a tenant that metadata (type, help, unit) is kept of; when it is reached the known ones go on.
    pub metadata_max: usize,
    /// Bytes of memory of a tenant's metadata.
    pub metadata_bytes_max: usize,
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
            metadata_max: l.metadata_max,
            metadata_bytes_max: l.metadata_bytes_max,
            body_bytes_max: 32 << 20,
            decoded_bytes_max: 32 << 20,
        }
    }
}

/// Bounds of a body's bytes; what is less holds no sample.
const BODY_BYTES: std::ops::RangeInclusive<u64> = 1024..=1 << 30;
/// Bytes of the name that every series' metric name is under.
const NAME_BYTES_MIN: u64 = "__name__".len() as u64;
/// Bytes of a label's name or value that the limits may be raised to.
const LABEL_BYTES_MAX: u64 = 1 << 20;

impl LimitsConfig {
    /// The first limit with which nothing could be taken, or that is beyond what can be stored.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, range) in [
            ("labels_max", self.labels_max as u64, 1..=4096),
            (
                "label_name_bytes_max",
                self.label_name_bytes_max as u64,
                NAME_BYTES_MIN..=LABEL_BYTES_MAX,
            ),
            (
                "label_value_bytes_max",
                self.label_value_bytes_max as u64,
                1..=LABEL_BYTES_MAX,
            ),
            ("series_max", self.series_max as u64, 1..=u64::MAX),
            ("metric_series_max", self.metric_series_max as u64, 1..=u64::MAX),
            ("body_bytes_max", self.body_bytes_max as u64, BODY_BYTES),
            ("decoded_bytes_max", self.decoded_bytes_max as u64, BODY_BYTES),
        ] {
            if value < *range.start() {
                return Err(format!("limits.{name}: {value}, at least {} is right", range.start()));
            }
            if value > *range.end() {
                return Err(format!("limits.{name}: {value}, at most {} is right", range.end()));
            }
        }
        Ok(())
    }

    pub fn sample_limits(&self) -> SampleLimits {
        SampleLimits {
            labels_max: self.labels_max,
            label_name_bytes_max: self.label_name_bytes_max,
            label_value_bytes_max: self.label_value_bytes_max,
            ahead_ms_max: i64::from(self.ahead_seconds_max) * 1000,
            series_max: self.series_max,
            metric_series_max: self.metric_series_max,
            metadata_max: self.metadata_max,
            metadata_bytes_max: self.metadata_bytes_max,
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
            if job.path.chars().any(|c| c.is_whitespace() || c.is_control()) {
                return Err(format!("{}: {:?} must have no blanks", at("path"), job.path));
            }
            for (field, value) in [("body_bytes_max", job.body_bytes_max), ("samples_max", job.samples_max)] {
                if value == 0 {
                    return Err(format!("{}: 0, at least 1 is right", at(field)));
                }
            }
            if let Some(name) = job.labels.keys().find(|n| n.is_empty() || n.starts_with("__")) {
                return Err(format!(
                    "{}: {name:?} cannot be set: names that begin with __ are Overseer's",
                    at("labels")
                ));
            }
            for (n, target) in job.targets.iter().enumerate() {
                if !is_host_and_port(target) {
                    return Err(format!(
                        "{}: {target:?}, host:port is right, without scheme and path",
                        at(&format!("targets[{n}]"))
                    ));
                }
            }
        }
        Ok(())
    }
}

/// Whether a text is an address such as `example.org:9100` or `[::1]:9100`, and nothing else.
pub fn is_host_and_port(text: &str) -> bool {
    let Some((host, port)) = text.rsplit_once(':') else {
        return false;
    };
    let inner = host.strip_prefix('[').and_then(|h| h.strip_suffix(']'));
    let good_host = match inner {
        Some(address) => address
            .split('%')
            .next()
            .is_some_and(|a| a.parse::<std::net::Ipv6Addr>().is_ok()),
        None => {
            let plain = |c: char| c.is_alphanumeric() || matches!(c, '.' | '-' | '_');
            !host.is_empty() && host.chars().all(plain)
        }
    };
    good_host && port.bytes().all(|b| b.is_ascii_digit()) && port.parse::<u16>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_host_and_port_and_nothing_else() {
        for good in [
            "a:1",
            "example.org:9100",
            "10.0.0.1:0",
            "[::1]:9100",
            "[fe80::1%eth0]:9100",
            "my_host:80",
            "b\u{fc}ro:80",
        ] {
            assert!(is_host_and_port(good), "{good}");
        }
        for bad in [
            "",
            "a",
            ":1",
            "a:",
            "a b:1",
            "a:65536",
            "a:+1",
            "::1:9100",
            "http://a:1",
            "a:1/metrics",
            "u:p@a:1",
            "[a]:1",
            "a\n:1",
        ] {
            assert!(!is_host_and_port(bad), "{bad}");
        }
    }

    #[test]
    fn limits_with_which_nothing_could_be_taken_are_refused() {
        LimitsConfig::default().check().unwrap();
        type Case = (fn(&mut LimitsConfig), &'static str);
        let cases: [Case; 8] = [
            (|l| l.labels_max = 0, "limits.labels_max: 0, at least 1 is right"),
            (
                |l| l.label_name_bytes_max = 7,
                "limits.label_name_bytes_max: 7, at least 8",
            ),
            (|l| l.label_value_bytes_max = 0, "limits.label_value_bytes_max: 0"),
            (|l| l.series_max = 0, "limits.series_max: 0"),
            (|l| l.metric_series_max = 0, "limits.metric_series_max: 0"),
            (|l| l.body_bytes_max = 0, "limits.body_bytes_max: 0, at least 1024"),
            (|l| l.decoded_bytes_max = 1, "limits.decoded_bytes_max: 1"),
            (
                |l| l.labels_max = usize::MAX,
                "limits.labels_max: 18446744073709551615, at most 4096",
            ),
        ];
        for (change, says) in cases {
            let mut limits = LimitsConfig::default();
            change(&mut limits);
            let why = limits.check().unwrap_err();
            assert!(why.starts_with(says), "{why}");
        }
    }
}
