mod fresh;

use std::borrow::Cow;
use std::sync::Arc;

use model::{
    Batch, ByReason, DeltaRow, ExemplarRow, Histogram, HistogramRow, Labels, LabelsBuilder, MetadataRow, MetricKind,
    Reject, RejectReason, SampleLimits, SampleSink, SeriesId, TenantId,
};
use series::table::{MetadataLimits, SeriesLimits, SeriesTable, Session, TableFull};

use crate::guard::CardinalityGuard;
use fresh::Fresh;

/// Exemplar labels in all, in bytes of names and values (OpenMetrics: 128 characters).
const EXEMPLAR_LABEL_BYTES_MAX: usize = 512;
/// Metadata entries of one request; the rest is counted as refused.
const METADATA_ROWS_MAX: usize = 20_000;
/// Bytes of a help text kept; longer ones are cut at a character.
const HELP_BYTES_MAX: usize = 1024;

/// Opens admissions: one for each request, scrape or flush.
#[derive(Clone)]
pub struct Intake {
    table: Arc<SeriesTable>,
    limits: Arc<SampleLimits>,
    guard: Arc<CardinalityGuard>,
    /// Time of the newest sample that was stored when the process started.
    newest_ms: i64,
}

/// A clock so far behind what is stored is known to be wrong.
const CLOCK_BEHIND_MS: i64 = 24 * 3600 * 1000;
/// Then samples are taken up to so far ahead of what is stored: nobody knows how late it is.
const AHEAD_OF_STORED_MS: i64 = 366 * 24 * 3600 * 1000;

impl Intake {
    pub fn new(table: Arc<SeriesTable>, limits: SampleLimits) -> Self {
        Intake {
            table,
            limits: Arc::new(limits),
            guard: Arc::default(),
            newest_ms: i64::MIN,
        }
    }

    /// Tells the time of the newest sample that is stored at the start: where the clock is far behind it, samples that it
    /// would take for future ones are taken.
    #[must_use]
    pub fn with_newest_ms(mut self, newest_ms: Option<i64>) -> Self {
        self.newest_ms = newest_ms.unwrap_or(i64::MIN);
        self
    }

    fn latest_ms(&self, now_ms: i64) -> i64 {
        match self.newest_ms.saturating_sub(now_ms) > CLOCK_BEHIND_MS {
            true => self.newest_ms.saturating_add(AHEAD_OF_STORED_MS),
            false => now_ms.saturating_add(self.limits.ahead_ms_max),
        }
    }

    /// Budgets of series that were used up.
    pub fn guard(&self) -> &CardinalityGuard {
        &self.guard
    }

    /// Starts one batch of a tenant. `now_ms` is the server's clock, against which timestamps are judged.
    /// The admission holds the tenant's table session: decode without waiting on anything, then [`Admission::finish`].
    pub fn admit(&self, tenant: TenantId, now_ms: i64) -> Admission<'_> {
        Admission {
            session: self.table.session(tenant),
            table: &self.table,
            limits: &self.limits,
            latest_ms: self.latest_ms(now_ms),
            now_ms,
            batch: Batch::new(tenant),
            fresh: Fresh::default(),
            rejects: Vec::new(),
            timestamp_examples: Vec::new(),
            full: Vec::new(),
            guard: &self.guard,
            rejected_samples: 0,
            rejected: ByReason::default(),
        }
    }

    pub fn limits(&self) -> &SampleLimits {
        &self.limits
    }

    pub fn table(&self) -> &Arc<SeriesTable> {
        &self.table
    }
}

/// Bytes of labels of new series that are kept aside; beyond them, those with rows go into the table before the body's end.
const FRESH_BYTES_MAX: usize = 16 << 20;

/// Budgets of series told apart in one request.
const BUDGETS_MAX: usize = 16;

/// What became of a request.
#[derive(Clone, Debug, Default)]
pub struct Outcome {
    pub floats: u64,
    pub histograms: u64,
    pub deltas: u64,
    pub exemplars: u64,
    pub metadata: u64,
    /// Samples that were refused.
    pub rejected_samples: u64,
    /// The first few rejections, described (`SampleLimits::reject_examples_max`).
    pub rejects: Vec<Reject>,
    /// Things refused, by reason.
    pub rejected: ByReason,
}

impl Outcome {
    /// Nothing was taken: all of these samples were refused for one reason.
    pub fn refused(reason: RejectReason, samples: u64) -> Self {
        let mut outcome = Outcome {
            rejected_samples: samples,
            ..Outcome::default()
        };
        outcome.rejected[reason] = 1;
        outcome
    }

    /// Samples taken.
    pub fn samples(&self) -> u64 {
        self.floats + self.histograms + self.deltas
    }

    pub fn is_clean(&self) -> bool {
        self.rejected.total() == 0
    }

    /// Refusals in words, for the sender: what, why, what would be right.
    pub fn describe(&self) -> String {
        let mut text = self
            .rejects
            .iter()
            .map(|r| {
                if r.subject.is_empty() {
                    r.detail.clone()
                } else {
                    format!("{}: {}", r.subject, r.detail)
                }
            })
            .collect::<Vec<_>>()
            .join("; ");
        let total = self.rejected.total();
        if total > self.rejects.len() as u64 {
            text.push_str(&format!("; and {} more", total - self.rejects.len() as u64));
        }
        text
    }
}

/// The one implementation of the ingest path: checks, resolves series, fills the batch, remembers what it refuses.
pub struct Admission<'a> {
    session: Session<'a>,
    table: &'a SeriesTable,
    limits: &'a SampleLimits,
    latest_ms: i64,
    now_ms: i64,
    batch: Batch,
    fresh: Fresh,
    rejects: Vec<Reject>,
    timestamp_examples: Vec<(SeriesId, i64)>,
    full: Vec<Full>,
    guard: &'a CardinalityGuard,
    rejected_samples: u64,
    rejected: ByReason,
}

/// A budget of series that was used up, and the first rejection that came of it.
struct Full {
    full: TableFull,
    metric: String,
    series: u64,
    place: usize,
}

impl Admission<'_> {
    /// Ends the session; gives the batch to publish (maybe empty) and what to tell the sender.
    pub fn finish(mut self) -> (Batch, Outcome) {
        self.settle();
        // those that end first are added first: whether they came in order makes no difference within a body
        let ends = |d: &DeltaRow| (d.series, d.at_ms);
        if !self.batch.deltas.is_sorted_by_key(ends) {
            self.batch.deltas.sort_by_key(ends);
        }
        let Admission {
            session,
            table,
            limits,
            batch,
            fresh,
            mut rejects,
            now_ms,
            guard,
            ..
        } = self;
        drop(session); // labels are read below, without the session's lock
        for f in self.full {
            let breach = guard.refused(table, f.full, &f.metric, f.series, now_ms);
            if let Some(reject) = rejects.get_mut(f.place) {
                reject.detail = breach.describe();
            }
        }
        for (series, at_ms) in self.timestamp_examples {
            if rejects.len() < limits.reject_examples_max {
                let detail = if at_ms < limits.oldest_ms {
                    format!(
                        "timestamp {at_ms} ms is before {} ms, the oldest taken",
                        limits.oldest_ms
                    )
                } else {
                    format!(
                        "timestamp {at_ms} ms is more than {} s ahead of the server's clock ({now_ms} ms)",
                        limits.ahead_ms_max / 1000
                    )
                };
                let labels = fresh.labels(series).unwrap_or_else(|| table.labels(series));
                let subject = shorten(&labels.to_string());
                rejects.push(Reject {
                    reason: RejectReason::Timestamp,
                    subject,
                    detail,
                    samples: 1,
                });
            }
        }
        let outcome = Outcome {
            floats: batch.floats.len() as u64,
            histograms: batch.histograms.len() as u64,
            deltas: batch.deltas.len() as u64,
            exemplars: batch.exemplars.len() as u64,
            metadata: batch.metadata.len() as u64,
            rejected_samples: self.rejected_samples,
            rejects,
            rejected: self.rejected,
        };
        (batch, outcome)
    }

    /// Room for about `samples` float samples, so that a large request grows its columns once.
    pub fn reserve(&mut self, samples: usize) {
        self.batch.floats.series.reserve(samples);
        self.batch.floats.at_ms.reserve(samples);
        self.batch.floats.values.reserve(samples);
    }

    /// Brings new series that rows were taken of into the table. Rows of those for which there is no budget go.
    fn settle(&mut self) {
        if self.fresh.is_empty() {
            return;
        }
        let mut batch = std::mem::replace(&mut self.batch, Batch::new(TenantId::DEFAULT));
        let floats = &mut batch.floats;
        let mut refused = false;
        for series in &mut floats.series {
            match self.settled(*series, 1) {
                Some(id) => *series = id,
                None => refused = true,
            }
        }
        if refused {
            let all = std::mem::take(floats);
            for i in 0..all.len() {
                if !Fresh::has(all.series[i]) {
                    let start_ms = all.start_ms.get(i).copied().unwrap_or(0);
                    floats.push(all.series[i], all.at_ms[i], all.values[i], start_ms);
                }
            }
        }
        let mut keep = |series: &mut SeriesId, samples| match self.settled(*series, samples) {
            Some(id) => {
                *series = id;
                true
            }
            None => false,
        };
        batch.histograms.retain_mut(|row| keep(&mut row.series, 1));
        batch.deltas.retain_mut(|row| keep(&mut row.series, 1));
        batch.exemplars.retain_mut(|row| keep(&mut row.series, 0));
        self.batch = batch;
        self.fresh.bytes = 0;
    }

    /// The id in the table of a row's series; `None`, and `samples` are counted as refused, when there is no budget for it.
    fn settled(&mut self, series: SeriesId, samples: u64) -> Option<SeriesId> {
        if !Fresh::has(series) {
            return Some(series);
        }
        let limits = SeriesLimits {
            tenant: self.limits.series_max,
            metric: self.limits.metric_series_max,
        };
        let session = &mut self.session;
        let mut full = None;
        let settled = self.fresh.settle(series, |spelling, labels| {
            session
                .define_spelled(spelling, labels, Some(limits))
                .map_err(|e| full = Some(e))
                .ok()
        });
        if let Some(full) = full
            && let Some(labels) = self.fresh.labels(series)
        {
            let mut builder = LabelsBuilder::default();
            for (name, value) in labels.iter() {
                builder.push(name.as_bytes(), value.as_bytes());
            }
            self.refuse_series(full, &builder);
        }
        if settled.is_none() && samples > 0 {
            self.lost(samples);
        }
        settled
    }

    fn note(&mut self, reason: RejectReason, subject: String, detail: String, samples: u64) {
        self.rejected[reason] += 1;
        self.rejected_samples += samples;
        if self.rejects.len() < self.limits.reject_examples_max {
            self.rejects.push(Reject {
                reason,
                subject,
                detail,
                samples,
            });
        }
    }

    fn in_time(&mut self, series: SeriesId, at_ms: i64) -> bool {
        let good = at_ms <= self.latest_ms && at_ms >= self.limits.oldest_ms;
        if !good {
            self.refuse_time(series, at_ms);
        }
        good
    }

    #[cold]
    fn refuse_time(&mut self, series: SeriesId, at_ms: i64) {
        self.rejected[RejectReason::Timestamp] += 1;
        self.rejected_samples += 1;
        if self.timestamp_examples.len() < self.limits.reject_examples_max {
            self.timestamp_examples.push((series, at_ms));
        }
    }

    /// The label to blame is looked up at the end, when the table is free, once for each budget.
    #[cold]
    fn refuse_series(&mut self, full: TableFull, labels: &LabelsBuilder) {
        let metric = match full {
            TableFull::Tenant { .. } | TableFull::Memory { .. } => Cow::Borrowed(""),
            TableFull::Metric { .. } => {
                let metric = labels.pairs().find(|(n, _)| *n == model::METRIC_NAME.as_bytes());
                String::from_utf8_lossy(metric.map_or(&[][..], |(_, v)| v))
            }
        };
        let known = self.full.iter().position(|f| f.full == full && f.metric == metric);
        match known {
            Some(at) => self.full[at].series += 1,
            None if self.full.len() < BUDGETS_MAX => self.full.push(Full {
                full,
                metric: metric.into_owned(),
                series: 1,
                place: self.rejects.len(),
            }),
            None => {}
        }
        self.note(RejectReason::SeriesBudget, subject(labels), full.to_string(), 0);
    }

    /// The first limit these labels pass, in words.
    fn over_limit(&self, labels: &LabelsBuilder) -> Option<String> {
        let l = self.limits;
        if labels.len() > l.labels_max {
            return Some(format!(
                "{} labels, at most {} are taken (limits.labels_max)",
                labels.len(),
                l.labels_max
            ));
        }
        labels.pairs().find_map(|(name, value)| {
            if name.len() > l.label_name_bytes_max {
                Some(format!(
                    "the label name {:?} has {} bytes, at most {} are taken (limits.label_name_bytes_max)",
                    shorten(&String::from_utf8_lossy(name)),
                    name.len(),
                    l.label_name_bytes_max
                ))
            } else if value.len() > l.label_value_bytes_max {
                Some(format!(
                    "the value of label {:?} has {} bytes, at most {} are taken (limits.label_value_bytes_max)",
                    shorten(&String::from_utf8_lossy(name)),
                    value.len(),
                    l.label_value_bytes_max
                ))
            } else {
                None
            }
        })
    }
}

impl SampleSink for Admission<'_> {
    #[inline]
    fn known(&mut self, raw: &[u8]) -> Option<SeriesId> {
        let known = self.session.known(raw);
        if known.is_some() || self.fresh.is_empty() {
            return known;
        }
        self.session.spelling(raw).and_then(|s| self.fresh.find(s))
    }

    fn define(&mut self, raw: &[u8], labels: &mut LabelsBuilder) -> Option<SeriesId> {
        if let Some(detail) = self.over_limit(labels) {
            self.note(RejectReason::Limit, subject(labels), detail, 0);
            return None;
        }
        let canonical = match labels.build() {
            Ok(bytes) => bytes,
            Err(e) => {
                let subject = subject(labels);
                self.note(RejectReason::Labels, subject, e.to_string(), 0);
                return None;
            }
        };
        let spelling = self.session.spelling(raw);
        if self.table.find(self.batch.tenant, canonical).is_some()
            && let Ok(id) = self.session.define_spelled(spelling, canonical, None)
        {
            return Some(id);
        }
        let id = self.fresh.add(spelling, canonical);
        if self.fresh.bytes > FRESH_BYTES_MAX {
            self.settle();
        }
        Some(id)
    }

    fn lost(&mut self, samples: u64) {
        self.rejected_samples += samples;
        if let Some(last) = self.rejects.last_mut() {
            last.samples += samples;
        }
    }

    #[inline]
    fn float(&mut self, series: SeriesId, at_ms: i64, value: f64, start_ms: i64) {
        if self.in_time(series, at_ms) {
            self.batch.floats.push(series, at_ms, value, start_ms);
        }
    }

    fn histogram(&mut self, series: SeriesId, at_ms: i64, value: Histogram, start_ms: i64) {
        if !self.in_time(series, at_ms) {
            return;
        }
        match value.validate() {
            Ok(()) => self.batch.histograms.push(HistogramRow {
                series,
                at_ms,
                start_ms,
                value,
            }),
            Err(e) => self.note(
                RejectReason::Histogram,
                format!("native histogram at {at_ms} ms"),
                e.to_string(),
                1,
            ),
        }
    }

    fn delta(&mut self, series: SeriesId, start_ms: i64, at_ms: i64, value: f64) {
        if !value.is_finite() && !model::is_stale(value) {
            // one of these would be in the running value for ever
            let detail = format!("a delta of {value} at {at_ms} ms: it must be a finite number");
            return self.note(RejectReason::Delta, String::new(), detail, 1);
        }
        if self.in_time(series, at_ms) {
            self.batch.deltas.push(DeltaRow {
                series,
                start_ms: start_ms.min(at_ms),
                at_ms,
                value,
            });
        }
    }

    fn exemplar(&mut self, series: SeriesId, at_ms: i64, value: f64, labels: &mut LabelsBuilder) {
        let bytes: usize = labels.pairs().map(|(n, v)| n.len() + v.len()).sum();
        if bytes > EXEMPLAR_LABEL_BYTES_MAX {
            let detail = format!("exemplar labels of {bytes} bytes, at most {EXEMPLAR_LABEL_BYTES_MAX} are taken");
            self.note(RejectReason::Limit, String::new(), detail, 0);
            return;
        }
        let labels = if labels.is_empty() {
            Labels::empty()
        } else {
            match labels.build() {
                Ok(b) => Labels::from_trusted_bytes(b),
                Err(e) => return self.note(RejectReason::Labels, "exemplar".into(), e.to_string(), 0),
            }
        };
        if self.in_time(series, at_ms) {
            self.batch.exemplars.push(ExemplarRow {
                series,
                at_ms,
                value,
                labels,
            });
        } else {
            self.rejected_samples -= 1; // an exemplar is no sample
        }
    }

    fn metadata(&mut self, metric: &[u8], kind: MetricKind, help: &[u8], unit: &[u8]) {
        let limit = self.limits.label_value_bytes_max;
        let text = |b: &[u8]| std::str::from_utf8(b).ok().map(str::to_owned);
        match (text(metric), text(help), text(unit)) {
            (Some(metric), Some(mut help), Some(unit))
                if !metric.is_empty() && metric.len() <= limit && unit.len() <= limit =>
            {
                if self.batch.metadata.len() >= METADATA_ROWS_MAX {
                    let detail = format!("more than {METADATA_ROWS_MAX} metadata entries in one request");
                    return self.note(RejectReason::Limit, shorten(&metric), detail, 0);
                }
                help.truncate(help.floor_char_boundary(HELP_BYTES_MAX));
                let limits = MetadataLimits {
                    metrics: self.limits.metadata_max,
                    bytes: self.limits.metadata_bytes_max,
                };
                let texts = help.len() + unit.len();
                if let Err(full) = self.table.take_metadata(self.batch.tenant, &metric, texts, limits) {
                    return self.note(RejectReason::Limit, shorten(&metric), full.to_string(), 0);
                }
                self.batch.metadata.push(MetadataRow {
                    metric,
                    kind,
                    help,
                    unit,
                });
            }
            _ => {
                let subject = shorten(&String::from_utf8_lossy(metric));
                let detail = format!("metadata needs a name, UTF-8 texts and at most {limit} bytes each");
                self.note(RejectReason::Malformed, subject, detail, 0);
            }
        }
    }

    fn reject(&mut self, reject: Reject) {
        let Reject {
            reason,
            subject,
            detail,
            samples,
        } = reject;
        self.note(reason, shorten(&subject), detail, samples);
    }
}

/// Names a series that has no id (it was refused), as far as its labels can be shown.
fn subject(labels: &LabelsBuilder) -> String {
    let mut name = String::new();
    let mut rest = String::new();
    for (n, v) in labels.pairs().take(8) {
        let v = String::from_utf8_lossy(&v[..v.len().min(200)]);
        if n == model::METRIC_NAME.as_bytes() {
            name = v.into_owned();
        } else {
            let separator = if rest.is_empty() { "" } else { ", " };
            rest.push_str(&format!(
                "{separator}{}={v:?}",
                String::from_utf8_lossy(&n[..n.len().min(80)])
            ));
        }
    }
    shorten(&format!("{name}{{{rest}}}"))
}

/// At most 160 characters, for messages.
fn shorten(text: &str) -> String {
    const CHARS_MAX: usize = 160;
    if text.chars().count() <= CHARS_MAX {
        text.to_owned()
    } else {
        text.chars().take(CHARS_MAX).chain(['…']).collect()
    }
}

#[cfg(test)]
mod tests;
