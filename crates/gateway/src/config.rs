use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::pace::Pace;

/// Bounds of one query.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct QueryConfig {
    /// Samples one query may read.
    pub samples_max: u64,
    /// Bytes of memory one query may hold.
    pub bytes_max: u64,
    /// Series one query may touch.
    pub series_max: u64,
    /// Seconds a query may take.
    pub timeout_seconds: u32,
    /// Points of one series in a range query's answer.
    pub points_max: u32,
    /// Seconds an instant selector looks back.
    pub lookback_seconds: u32,
    /// Bytes of a query's text.
    pub text_bytes_max: usize,
    /// `match[]` selectors of one request.
    pub matchers_max: usize,
    /// Heavy queries that run at once; 0: as many as there are cores.
    pub heavy_at_once: u32,
    /// Queries of one tenant that wait for their turn; more get 503.
    pub waiting_max: u32,
    /// Queries of one tenant that run at once; 0: no bound besides those of all.
    pub tenant_at_once: u32,
    /// Bytes of memory that the running queries of one tenant may hold together; 0: no bound besides each query's own.
    pub tenant_bytes_max: u64,
    /// Milliseconds from which a query is written to the slow-query log; 0: none is.
    pub slow_ms: u32,
    /// Bytes of answers kept for queries that come again; 0: none. A request asks for an evaluation with `nocache=1`.
    pub cache_bytes_max: usize,
    /// Whether `rate`, `irate`, `increase` and `resets` take a new start time of a counter for a reset, as Prometheus
    /// does with its feature `use-start-timestamps`.
    pub use_start_times: bool,
}

impl Default for QueryConfig {
    fn default() -> Self {
        QueryConfig {
            samples_max: 100_000_000,
            bytes_max: 256 << 20,
            series_max: 2_000_000,
            timeout_seconds: 9,
            points_max: 11_000,
            lookback_seconds: 300,
            text_bytes_max: 64 << 10,
            matchers_max: 100,
            heavy_at_once: 0,
            waiting_max: 512,
            tenant_at_once: 16,
            tenant_bytes_max: 1 << 30,
            slow_ms: 1000,
            cache_bytes_max: 32 << 20,
            use_start_times: false,
        }
    }
}

impl QueryConfig {
    pub fn check(&self) -> Result<(), String> {
        for (name, value) in [
            ("samples_max", self.samples_max),
            ("bytes_max", self.bytes_max),
            ("series_max", self.series_max),
            ("timeout_seconds", u64::from(self.timeout_seconds)),
            ("points_max", u64::from(self.points_max)),
            ("lookback_seconds", u64::from(self.lookback_seconds)),
            ("text_bytes_max", self.text_bytes_max as u64),
            ("matchers_max", self.matchers_max as u64),
            ("waiting_max", u64::from(self.waiting_max)),
        ] {
            if value == 0 {
                return Err(format!("query.{name}: 0, at least 1 is right"));
            }
        }
        Ok(())
    }
}

/// Bounds of connections.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct ServerConfig {
    /// Connections open at once; more are closed at once.
    pub connections_max: usize,
    /// Seconds a request's head may take to arrive, from the connection's start or the head's first byte.
    pub head_seconds: u32,
    /// Seconds a connection may stand idle between requests.
    pub idle_seconds: u32,
    /// Seconds an answer may wait for a reader that takes nothing.
    pub stall_seconds: u32,
    /// Bytes a second that a body must arrive at, over each `rate_seconds`.
    pub body_bytes_per_second_min: u64,
    /// Bytes a second that an answer must be read at, over each `stall_seconds` in which it waits for its reader.
    pub answer_bytes_per_second_min: u64,
    /// Seconds over which the rate of bodies is measured.
    pub rate_seconds: u32,
    /// Seconds that a body may take to arrive, and an answer to be read.
    pub transfer_seconds_max: u32,
    /// Bytes of memory that requests of all connections may hold together: a third for bodies, half for answers, a sixth
    /// for frames of live pages.
    pub memory_bytes: u64,
    /// Whether stored series may be deleted over HTTP (`/api/v1/admin/tsdb/delete_series`).
    pub delete_api: bool,
    /// Origins whose pages may read in a browser, such as `https://grafana.example`; `*`: any; empty: none. Only the
    /// read API answers to them, and never with a session. Absent: any where a token is needed, else none.
    pub cors_origins: Option<Vec<String>>,
    /// Addresses and networks of proxies in front of this server, such as `127.0.0.1` or `10.0.0.0/8`, whose
    /// `X-Forwarded-For` and `X-Forwarded-Proto` are believed.
    pub trusted_proxies: Vec<String>,
}

impl Default for ServerConfig {
    fn default() -> Self {
        ServerConfig {
            connections_max: 4096,
            head_seconds: 10,
            idle_seconds: 120,
            stall_seconds: 60,
            body_bytes_per_second_min: 1024,
            answer_bytes_per_second_min: 4096,
            rate_seconds: 10,
            transfer_seconds_max: 300,
            memory_bytes: 768 << 20,
            delete_api: true,
            cors_origins: None,
            trusted_proxies: Vec::new(),
        }
    }
}

/// Below it a page's snapshot would have no room.
const MEMORY_BYTES_MIN: u64 = 96 << 20;

impl ServerConfig {
    /// The pace that a transfer which begins now must keep.
    pub(crate) fn pace(&self, now: Duration, bytes_per_second_min: u64, window_seconds: u32) -> Pace {
        let (window, all) = (u64::from(window_seconds), u64::from(self.transfer_seconds_max));
        Pace::new(
            now,
            Duration::from_secs(window),
            bytes_per_second_min,
            Duration::from_secs(all),
        )
    }

    pub fn check(&self) -> Result<(), String> {
        const CONNECTIONS: std::ops::RangeInclusive<usize> = 8..=1_000_000;
        if !CONNECTIONS.contains(&self.connections_max) {
            return Err(format!(
                "server.connections_max: {}, {} to {} is right",
                self.connections_max,
                CONNECTIONS.start(),
                CONNECTIONS.end()
            ));
        }
        if self.memory_bytes < MEMORY_BYTES_MIN {
            return Err(format!(
                "server.memory_bytes: {}, at least {MEMORY_BYTES_MIN} is right",
                self.memory_bytes
            ));
        }
        for (name, value) in [
            ("head_seconds", self.head_seconds),
            ("idle_seconds", self.idle_seconds),
            ("stall_seconds", self.stall_seconds),
            ("rate_seconds", self.rate_seconds),
            ("transfer_seconds_max", self.transfer_seconds_max),
        ] {
            if value == 0 {
                return Err(format!("server.{name}: 0, at least 1 is right"));
            }
        }
        crate::proxies::Proxies::parse(&self.trusted_proxies)?;
        crate::cors::check(self.cors_origins.as_deref().unwrap_or(&[]))
    }
}
