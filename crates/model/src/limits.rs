/// What one sample or series may be, decided before publish. Defaults are the product's; each is a setting.
#[derive(Clone, Debug)]
pub struct SampleLimits {
    /// Labels a series may carry, the metric name included.
    pub labels_max: usize,
    /// Bytes of a label name.
    pub label_name_bytes_max: usize,
    /// Bytes of a label value.
    pub label_value_bytes_max: usize,
    /// How far ahead of the server's clock a timestamp may lie.
    pub ahead_ms_max: i64,
    /// The oldest timestamp taken (Unix epoch).
    pub oldest_ms: i64,
    /// Active series of a tenant; existing ones go on when it is reached.
    pub series_max: usize,
    /// Series of one metric of a tenant; existing ones go on when it is reached.
    pub metric_series_max: usize,
    /// Metrics of a tenant that metadata (type, help, unit) is kept of.
    pub metadata_max: usize,
    /// Bytes of memory of a tenant's metadata.
    pub metadata_bytes_max: usize,
    /// Rejections described in an answer; the rest is counted.
    pub reject_examples_max: usize,
}

impl Default for SampleLimits {
    fn default() -> Self {
        SampleLimits {
            labels_max: 64,
            label_name_bytes_max: 1024,
            label_value_bytes_max: 4096,
            ahead_ms_max: 10 * 60 * 1000,
            oldest_ms: 0,
            series_max: 5_000_000,
            metric_series_max: 1_000_000,
            metadata_max: 100_000,
            metadata_bytes_max: 64 << 20,
            reject_examples_max: 10,
        }
    }
}
