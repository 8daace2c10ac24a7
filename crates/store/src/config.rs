use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::retention::{RetentionRule, end_of_date, keep_of_days, retention_classes, rollup_keep};

/// How samples are kept.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub struct StoreConfig {
    /// Days that samples are kept; absent: for ever.
    pub retention_days: Option<u32>,
    /// A UTC date such as `2026-12-31`, up to whose end the machine's clock is known to be right: expiry follows the clock at
    /// once up to there. Without it a clock that jumps ahead takes a day more each day.
    pub clock_confirmed: Option<String>,
    /// Series that are kept for another time than `retention_days`; the first rule that fits counts.
    pub retention: Vec<RetentionRule>,
    /// How long rollups of a minute are kept of series that no rule fits, such as `90d` or `forever`; absent: none are
    /// made.
    pub rollup_1m: Option<String>,
    /// The same for rollups of an hour.
    pub rollup_1h: Option<String>,
    /// Bytes of samples not yet sealed at which a seal is due.
    pub seal_bytes: u64,
    /// Seconds after which samples are sealed whatever their number.
    pub seal_seconds: u32,
    /// Bytes of memory for samples and series: half for samples that are not sealed yet (from a quarter on they are
    /// sealed, at half writing waits), three eighths for the table of series (above it, series that are not written any
    /// more leave sooner; at half new ones are refused), the rest for what is read.
    pub memory_bytes: u64,
    /// Bytes a second that merging files may read and write while samples come in; it goes faster when nothing comes in, or
    /// when files pile up.
    pub merge_bytes_per_second: u64,
    /// Bytes the log may take; when it is full, writes get 503 until samples are sealed.
    pub log_bytes_max: u64,
    /// Bytes of a log segment at which the next one is begun.
    pub log_segment_bytes: u64,
}

impl Default for StoreConfig {
    fn default() -> Self {
        StoreConfig {
            retention_days: None,
            clock_confirmed: None,
            retention: Vec::new(),
            rollup_1m: None,
            rollup_1h: None,
            seal_bytes: 32 << 20,
            seal_seconds: 15 * 60,
            memory_bytes: 2 << 30,
            merge_bytes_per_second: 64 << 20,
            log_bytes_max: 4 << 30,
            log_segment_bytes: 64 << 20,
        }
    }
}

impl StoreConfig {
    /// The engine's part of these settings.
    pub fn engine_settings(&self) -> series::engine::EngineSettings {
        let memory = usize::try_from(self.memory_bytes).unwrap_or(usize::MAX);
        let defaults = series::engine::EngineSettings::default();
        let cache = |bytes: usize, share: usize| bytes.min(memory / share);
        series::engine::EngineSettings {
            memory_bytes_max: memory / 4,
            table_bytes_max: memory / 8 * 3,
            table_full_bytes: memory / 2,
            index_cache_bytes: cache(defaults.index_cache_bytes, 20),
            chunk_cache_bytes: cache(defaults.chunk_cache_bytes, 60),
            merge_cache_bytes: cache(defaults.merge_cache_bytes, 30),
            unsealed_bytes_max: usize::try_from(self.seal_bytes).unwrap_or(usize::MAX),
            seal_after_ms: u64::from(self.seal_seconds) * 1000,
            retention_ms: keep_of_days(self.retention_days),
            // `check` has told what is wrong with it
            clock_confirmed_ms: self.clock_confirmed.as_deref().and_then(end_of_date),
            // `check` has told what is wrong with them
            retention_classes: retention_classes(&self.retention).unwrap_or_default(),
            rollups: self.rollups().unwrap_or_default(),
            ..defaults
        }
    }

    fn rollups(&self) -> Result<series::retention::RollupKeep, String> {
        rollup_keep(self.rollup_1m.as_deref(), self.rollup_1h.as_deref()).map_err(|e| format!("store.{e}"))
    }

    pub fn check(&self) -> Result<(), String> {
        let at_least = |name: &str, value: u64, min: u64| {
            if value < min {
                Err(format!("store.{name}: {value}, at least {min} is right"))
            } else {
                Ok(())
            }
        };
        at_least("retention_days", self.retention_days.map_or(1, u64::from), 1)?;
        if let Some(date) = self.clock_confirmed.as_deref()
            && end_of_date(date).is_none()
        {
            let shown: String = date.chars().take(80).collect();
            return Err(format!(
                "store.clock_confirmed: {shown:?}: a date such as 2026-12-31 is right"
            ));
        }
        retention_classes(&self.retention)?;
        self.rollups()?;
        at_least("seal_bytes", self.seal_bytes, 1 << 20)?;
        at_least("seal_seconds", u64::from(self.seal_seconds), 1)?;
        at_least("memory_bytes", self.memory_bytes, 64 << 20)?;
        at_least("merge_bytes_per_second", self.merge_bytes_per_second, 1 << 20)?;
        at_least("log_segment_bytes", self.log_segment_bytes, 1 << 20)?;
        at_least("log_bytes_max", self.log_bytes_max, 4 * self.log_segment_bytes)
    }
}
