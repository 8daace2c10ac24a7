use std::collections::HashMap;

use model::Labels;

use super::super::ast::Pos;
use super::super::{place, quote};
use super::numbers::{format_2g, format_g};

/// Different annotations kept; more are counted.
const NOTES_MAX: usize = 1000;

/// What an evaluation has to say about its data. Equal texts count once; as in Prometheus the last position stands, or
/// the first of those that count their occurrences.
#[derive(Default)]
pub(super) struct Notes {
    index: HashMap<String, usize>,
    list: Vec<Note>,
    omitted_warnings: usize,
    omitted_infos: usize,
}

#[derive(Clone)]
struct Note {
    is_info: bool,
    text: String,
    pos: Pos,
    more: More,
}

#[derive(Clone)]
enum More {
    None,
    Monotonicity(Monotonicity),
    Overlap { count: u64 },
}

/// What was changed to make the buckets of a classic histogram ascend.
#[derive(Clone, Copy, Debug)]
pub(super) struct Monotonicity {
    pub(super) min_at_ms: i64,
    pub(super) max_at_ms: i64,
    pub(super) min_bucket: f64,
    pub(super) max_bucket: f64,
    pub(super) max_diff: f64,
    pub(super) samples: u64,
}

/// What the histogram arithmetic was for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operation {
    Addition,
    Subtraction,
    Aggregation,
}

impl Operation {
    fn as_str(self) -> &'static str {
        match self {
            Operation::Addition => "addition",
            Operation::Subtraction => "subtraction",
            Operation::Aggregation => "aggregation",
        }
    }
}

impl Notes {
    fn add(&mut self, is_info: bool, pos: Pos, text: String, more: More) {
        if let Some(&at) = self.index.get(&text) {
            let note = &mut self.list[at];
            match (&mut note.more, more) {
                (More::None, _) => note.pos = pos,
                // what counts its occurrences stays where it was first
                (More::Monotonicity(a), More::Monotonicity(b)) => {
                    a.min_at_ms = a.min_at_ms.min(b.min_at_ms);
                    a.max_at_ms = a.max_at_ms.max(b.max_at_ms);
                    a.min_bucket = a.min_bucket.min(b.min_bucket);
                    a.max_bucket = a.max_bucket.max(b.max_bucket);
                    a.max_diff = a.max_diff.max(b.max_diff);
                    a.samples += b.samples;
                }
                (More::Overlap { count }, More::Overlap { count: n }) => *count += n,
                _ => {}
            }
            return;
        }
        if self.list.len() >= NOTES_MAX {
            *(if is_info {
                &mut self.omitted_infos
            } else {
                &mut self.omitted_warnings
            }) += 1;
            return;
        }
        self.index.insert(text.clone(), self.list.len());
        self.list.push(Note {
            is_info,
            text,
            pos,
            more,
        });
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Adds another's notes after its own.
    pub(super) fn merge(&mut self, other: Notes) {
        for n in other.list {
            self.add(n.is_info, n.pos, n.text, n.more);
        }
        self.omitted_infos += other.omitted_infos;
        self.omitted_warnings += other.omitted_warnings;
    }

    fn warn(&mut self, pos: Pos, text: String) {
        self.add(false, pos, format!("PromQL warning: {text}"), More::None);
    }

    fn info(&mut self, pos: Pos, text: String) {
        self.add(true, pos, format!("PromQL info: {text}"), More::None);
    }

    pub(super) fn invalid_quantile(&mut self, pos: Pos, q: f64) {
        self.warn(
            pos,
            format!("quantile value should be between 0 and 1, got {}", format_g(q)),
        );
    }

    pub(super) fn invalid_ratio(&mut self, pos: Pos, ratio: f64, to: f64) {
        let (got, to) = (format_g(ratio), format_g(to));
        self.warn(
            pos,
            format!("ratio value should be between -1 and 1, got {got}, capping to {to}"),
        );
    }

    pub(super) fn bad_bucket_label(&mut self, pos: Pos, metric: &str, label: &str) {
        let of = for_metric(metric);
        let label = quote(label);
        self.warn(
            pos,
            format!("bucket label \"le\" is missing or has a malformed value of {label}{of}"),
        );
    }

    pub(super) fn mixed_floats_histograms(&mut self, pos: Pos, labels: &Labels) {
        let name = quote(labels.metric_name());
        self.warn(
            pos,
            format!("encountered a mix of histograms and floats for metric name {name}"),
        );
    }

    pub(super) fn mixed_floats_histograms_in_aggregation(&mut self, pos: Pos) {
        self.warn(pos, "encountered a mix of histograms and floats for aggregation".into());
    }

    pub(super) fn mixed_classic_native(&mut self, pos: Pos, metric: &str) {
        let of = for_metric(metric);
        self.warn(
            pos,
            format!("vector contains a mix of classic and native histograms{of}"),
        );
    }

    pub(super) fn not_counter(&mut self, pos: Pos, labels: &Labels) {
        let name = quote(labels.metric_name());
        self.warn(pos, format!("this native histogram metric is not a counter: {name}"));
    }

    pub(super) fn not_gauge(&mut self, pos: Pos, labels: &Labels) {
        let name = quote(labels.metric_name());
        self.warn(pos, format!("this native histogram metric is not a gauge: {name}"));
    }

    pub(super) fn mixed_exponential_custom(&mut self, pos: Pos, metric: &str) {
        let name = quote(metric);
        self.warn(
            pos,
            format!(
                "vector contains a mix of histograms with exponential and custom buckets schemas for metric name {name}"
            ),
        );
    }

    pub(super) fn incompatible_buckets_in_operator(&mut self, pos: Pos, op: &str) {
        self.warn(
            pos,
            format!("incompatible bucket layout encountered for binary operator {op}"),
        );
    }

    pub(super) fn sort_in_range(&mut self, pos: Pos) {
        self.warn(
            pos,
            "sort is ineffective for range queries since results are always ordered by labels".into(),
        );
    }

    pub(super) fn possible_non_counter(&mut self, pos: Pos, metric: &str) {
        let name = quote(metric);
        self.info(
            pos,
            format!("metric might not be a counter, name does not end in _total/_sum/_count/_bucket: {name}"),
        );
    }

    pub(super) fn incompatible_types(&mut self, pos: Pos, left: &str, op: &str, right: &str) {
        self.info(
            pos,
            format!("incompatible sample types encountered for binary operator \"{op}\": {left} {op} {right}"),
        );
    }

    pub(super) fn histogram_ignored_in_aggregation(&mut self, pos: Pos, aggregation: &str) {
        self.info(pos, format!("ignored histogram in {aggregation} aggregation"));
    }

    pub(super) fn histograms_ignored_in_range(&mut self, pos: Pos, labels: &Labels) {
        let name = quote(labels.metric_name());
        self.info(
            pos,
            format!("ignored histograms in a range containing both floats and histograms for metric name {name}"),
        );
    }

    pub(super) fn quantile_of_nan(&mut self, pos: Pos, metric: &str) {
        let of = for_metric(metric);
        self.info(
            pos,
            format!("input to histogram_quantile has NaN observations, result is NaN{of}"),
        );
    }

    pub(super) fn quantile_skewed(&mut self, pos: Pos, metric: &str) {
        let of = for_metric(metric);
        self.info(
            pos,
            format!("input to histogram_quantile has NaN observations, result is skewed higher{of}"),
        );
    }

    pub(super) fn fraction_without_nan(&mut self, pos: Pos, metric: &str) {
        let of = for_metric(metric);
        self.info(
            pos,
            format!("input to histogram_fraction has NaN observations, which are excluded from all fractions{of}"),
        );
    }

    pub(super) fn reset_collision(&mut self, pos: Pos, operation: Operation) {
        let operation = operation.as_str();
        self.warn(pos, format!("conflicting counter resets during histogram {operation}"));
    }

    pub(super) fn bounds_reconciled(&mut self, pos: Pos, operation: Operation) {
        let operation = operation.as_str();
        self.info(
            pos,
            format!("mismatched custom buckets were reconciled during {operation}"),
        );
    }

    pub(super) fn forced_monotonicity(&mut self, pos: Pos, metric: &str, what: Monotonicity) {
        let text = format!(
            "PromQL info: input to histogram_quantile needed to be fixed for monotonicity (see https://prometheus.io/docs/prometheus/latest/querying/functions/#histogram_quantile){}",
            for_metric(metric)
        );
        self.add(true, pos, text, More::Monotonicity(what));
    }

    pub(super) fn start_overlap(&mut self, pos: Pos, labels: &Labels) {
        let text = format!(
            "PromQL warning: sample has start time that overlaps with previous sample timestamp for metric {}",
            quote(labels.metric_name())
        );
        self.add(false, pos, text, More::Overlap { count: 1 });
    }

    /// Warnings and infos as Prometheus shows them, with line and column where they arose in `query`.
    pub(super) fn render(self, query: &str) -> (Vec<String>, Vec<String>) {
        let (mut warnings, mut infos) = (Vec::new(), Vec::new());
        for n in self.list {
            let at = place(query, n.pos);
            let text = match (query.is_empty(), n.more) {
                (true, _) => n.text,
                (false, More::None | More::Overlap { count: ..=1 }) => format!("{} ({at})", n.text),
                (false, More::Overlap { count }) => format!("{} ({count} occurrences) ({at})", n.text),
                (false, More::Monotonicity(m)) => format!(
                    "{}, from buckets {} to {}, with a max diff of {}, over {} samples from {} to {} ({at})",
                    n.text,
                    format_g(m.min_bucket),
                    format_g(m.max_bucket),
                    format_2g(m.max_diff),
                    m.samples,
                    super::dates::rfc3339(m.min_at_ms),
                    super::dates::rfc3339(m.max_at_ms),
                ),
            };
            (if n.is_info { &mut infos } else { &mut warnings }).push(text);
        }
        if self.omitted_warnings > 0 {
            warnings.push(format!("{} more warning annotations omitted", self.omitted_warnings));
        }
        if self.omitted_infos > 0 {
            infos.push(format!("{} more info annotations omitted", self.omitted_infos));
        }
        (warnings, infos)
    }
}

fn for_metric(metric: &str) -> String {
    if metric.is_empty() {
        String::new()
    } else {
        format!(" for metric name {}", quote(metric))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_notes_count_once_and_the_last_position_stands() {
        let mut notes = Notes::default();
        notes.invalid_quantile(Pos { start: 0, end: 1 }, 2.0);
        notes.invalid_quantile(Pos { start: 3, end: 4 }, 2.0);
        let (warnings, infos) = notes.render("abcdef");
        assert_eq!(
            warnings,
            ["PromQL warning: quantile value should be between 0 and 1, got 2 (1:4)"]
        );
        assert!(infos.is_empty());
    }

    #[test]
    fn a_flood_is_counted() {
        let mut notes = Notes::default();
        for i in 0..NOTES_MAX + 5 {
            notes.possible_non_counter(Pos::default(), &format!("m{i}"));
        }
        let (_, infos) = notes.render("");
        assert_eq!(infos.len(), NOTES_MAX + 1);
        assert_eq!(infos.last().unwrap(), "5 more info annotations omitted");
    }
}
