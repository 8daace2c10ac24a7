//! Quantiles and fractions of histograms: classic ones, whose buckets are series told apart by `le`, and native ones.

use std::collections::HashMap;

use model::{Histogram, Labels};

use super::super::ast::Pos;
use super::super::histogram::{self, Note};
use super::matrix::{Cell, Charge, Matrix, Row, Steps, fits, label_bytes};
use super::notes::{Monotonicity, Notes};
use super::numbers::{open_metrics_float, parse_bound};
use super::window::Column;
use super::{EvalContext, Result};

const BUCKET_LABEL: &str = "le";
/// Relative difference of two counts that is taken for rounding.
const SMALL_DELTA: f64 = 1e-12;

/// What is asked of each histogram.
pub(super) enum Ask<'a> {
    Quantile {
        q: Column,
        pos: Pos,
    },
    /// Several quantiles: (q, where it stands), told apart by a label.
    Quantiles {
        label: &'a str,
        qs: Vec<(Column, Pos)>,
    },
    Fraction {
        lower: Column,
        upper: Column,
    },
}

/// Series of one histogram: the classic buckets, or the rows of native ones.
struct Family {
    labels: Labels,
    buckets: Vec<(f64, usize)>,
    native: Vec<usize>,
}

/// Evaluates a function of histograms over a vector. `pos` is the vector's.
pub(super) fn evaluate<'a>(
    context: &EvalContext<'a>,
    input: &Matrix<'a>,
    ask: &Ask<'_>,
    steps: &Steps,
    pos: Pos,
    notes: &mut Notes,
) -> Result<Matrix<'a>> {
    let mut charge = Charge::new(context.budget);
    let mut index: HashMap<Labels, usize> = HashMap::new();
    let mut families: Vec<Family> = Vec::new();
    let mut family = |labels: Labels| {
        *index.entry(labels.clone()).or_insert_with(|| {
            families.push(Family {
                labels,
                buckets: Vec::new(),
                native: Vec::new(),
            });
            families.len() - 1
        })
    };
    // of each row: its family as a bucket, as a native histogram
    let mut as_bucket: Vec<(usize, f64, usize)> = Vec::new();
    let mut as_native: Vec<(usize, usize)> = Vec::new();
    for (i, row) in input.rows.iter().enumerate() {
        // its labels without the bound, a family, and places in the lists below
        charge.add(label_bytes(&row.labels) + 2 * size_of::<(Labels, usize)>() + size_of::<Family>() + 96)?;
        if !row.histograms.is_empty() {
            as_native.push((family(row.labels.clone()), i));
        }
        if row.histograms.len() < steps.count && row.values.iter().any(|&v| !super::matrix::is_absent(v)) {
            let le = row.labels.get(BUCKET_LABEL).unwrap_or("");
            match parse_bound(le) {
                Some(bound) => as_bucket.push((family(row.labels.without(BUCKET_LABEL)), bound, i)),
                None => notes.bad_bucket_label(pos, row.labels.metric_name(), le),
            }
        }
    }
    for (at, bound, row) in as_bucket {
        families[at].buckets.push((bound, row));
    }
    for (at, row) in as_native {
        families[at].native.push(row);
    }

    let quantiles: Vec<(&Column, Pos)> = match ask {
        Ask::Quantile { q, pos } => vec![(q, *pos)],
        Ask::Quantiles { qs, .. } => qs.iter().map(|(q, pos)| (q, *pos)).collect(),
        Ask::Fraction { .. } => Vec::new(),
    };
    for (q, pos) in &quantiles {
        let distinct = if matches!(q, Column::Same(_)) {
            steps.count.min(1)
        } else {
            steps.count
        };
        for q in (0..distinct).map(|step| q.at(step)) {
            if q.is_nan() || !(0.0..=1.0).contains(&q) {
                notes.invalid_quantile(*pos, q);
            }
        }
    }

    let mut out = Matrix::new(context.budget);
    let mut late = Vec::new();
    for family in &families {
        // a row for each quantile, of native and of classic ones
        fits(context.budget, Row::bytes(steps.count) * 2 * quantiles.len().max(1))?;
        let mut work = FamilyWork {
            family,
            rows: Vec::new(),
            classic_rows: Vec::new(),
            steps,
            pos,
        };
        work.run(context, &input.rows, ask, &quantiles, notes)?;
        for row in &work.classic_rows {
            out.charge.add(row.held_bytes())?;
        }
        for row in work.rows {
            out.push(row)?;
        }
        late.extend(work.classic_rows);
    }
    // native ones first
    out.rows.append(&mut late);
    out.rows.retain(|r| !r.is_empty());
    out.merge_steps(steps)
}

struct FamilyWork<'w> {
    family: &'w Family,
    /// Results of native histograms, then of classic ones: (label of the quantile, row).
    rows: Vec<Row>,
    classic_rows: Vec<Row>,
    steps: &'w Steps,
    pos: Pos,
}

impl FamilyWork<'_> {
    fn run(
        &mut self,
        context: &EvalContext<'_>,
        input: &[Row],
        ask: &Ask<'_>,
        quantiles: &[(&Column, Pos)],
        notes: &mut Notes,
    ) -> Result<()> {
        let metric = self.family.labels.metric_name();
        let mut buckets: Vec<(f64, f64)> = Vec::new();
        for step in 0..self.steps.count {
            if step % 256 == 0 {
                context.budget.check()?;
            }
            buckets.clear();
            for &(bound, row) in &self.family.buckets {
                if let Some(Cell::Float(count)) = input[row].get(step) {
                    buckets.push((bound, count));
                }
            }
            let mut natives: Vec<&Histogram> = self
                .family
                .native
                .iter()
                .filter_map(|&r| input[r].histogram(step))
                .map(AsRef::as_ref)
                .collect();
            if !buckets.is_empty() && !natives.is_empty() {
                notes.mixed_classic_native(self.pos, metric);
                buckets.clear();
                // only the first of equal natives conflicts, as in Prometheus
                natives.remove(0);
            }
            let at_ms = self.steps.at(step);
            for native in natives {
                match ask {
                    Ask::Fraction { lower, upper } => {
                        let v = histogram::fraction(lower.at(step), upper.at(step), native);
                        let v = noted(v, metric, self.pos, notes);
                        self.put(true, step, v, None);
                    }
                    Ask::Quantile { .. } | Ask::Quantiles { .. } => {
                        for (q, _) in quantiles {
                            let q = q.at(step);
                            let v = noted(histogram::quantile(q, native), metric, self.pos, notes);
                            self.put(true, step, v, label_of(ask, q));
                        }
                    }
                }
            }
            if buckets.is_empty() {
                continue;
            }
            match ask {
                Ask::Fraction { lower, upper } => {
                    let v = bucket_fraction(lower.at(step), upper.at(step), &mut buckets);
                    self.put(false, step, v, None);
                }
                Ask::Quantile { .. } | Ask::Quantiles { .. } => {
                    for (q, _) in quantiles {
                        let q = q.at(step);
                        let (v, fixed) = bucket_quantile(q, &mut buckets);
                        if let Some(fixed) = fixed {
                            let what = Monotonicity {
                                min_at_ms: at_ms,
                                max_at_ms: at_ms,
                                ..fixed
                            };
                            notes.forced_monotonicity(self.pos, metric, what);
                        }
                        self.put(false, step, v, label_of(ask, q));
                    }
                }
            }
        }
        Ok(())
    }

    fn put(&mut self, native: bool, step: usize, v: f64, label: Option<(&str, String)>) {
        let labels = match &label {
            None => self.family.labels.clone(),
            Some((name, value)) => self.family.labels.with(name, value),
        };
        let rows = if native { &mut self.rows } else { &mut self.classic_rows };
        // rows are as many as there are quantiles
        let free = rows
            .iter_mut()
            .find(|r| r.labels == labels && super::matrix::is_absent(r.values[step]));
        match free {
            Some(row) => row.set(step, v),
            None => {
                let mut row = Row::new(labels, true, self.steps.count);
                row.set(step, v);
                rows.push(row);
            }
        }
    }
}

fn label_of<'a>(ask: &Ask<'a>, q: f64) -> Option<(&'a str, String)> {
    match ask {
        Ask::Quantiles { label, .. } => Some((label, open_metrics_float(q))),
        _ => None,
    }
}

/// Sorts buckets by their bounds; false when the last is not +Inf.
fn sort_buckets(buckets: &mut [(f64, f64)]) -> bool {
    buckets.sort_by(|a, b| a.0.partial_cmp(&b.0).unwrap_or(std::cmp::Ordering::Equal));
    buckets.last().is_some_and(|b| b.0 == f64::INFINITY)
}

/// Adds up buckets with equal bounds.
fn coalesce(buckets: &mut Vec<(f64, f64)>) {
    buckets.dedup_by(|next, kept| {
        let equal = next.0 == kept.0;
        if equal {
            kept.1 += next.1;
        }
        equal
    });
}

fn almost_equal(a: f64, b: f64) -> bool {
    if a.is_nan() && b.is_nan() || a == b {
        return true;
    }
    let (sum, difference) = (a.abs() + b.abs(), (a - b).abs());
    if a == 0.0 || b == 0.0 || sum < f64::MIN_POSITIVE {
        return difference < SMALL_DELTA * f64::MIN_POSITIVE;
    }
    difference / sum.min(f64::MAX) < SMALL_DELTA
}

/// Makes counts ascend; tells what was changed beyond rounding.
fn ascend(buckets: &mut [(f64, f64)]) -> Option<Monotonicity> {
    let mut fixed: Option<Monotonicity> = None;
    let mut previous = buckets[0].1;
    for (bound, count) in &mut buckets[1..] {
        if *count == previous {
            continue;
        }
        if almost_equal(previous, *count) {
            *count = previous;
        } else if *count < previous {
            let difference = previous - *count;
            let fixed = fixed.get_or_insert(Monotonicity {
                min_at_ms: 0,
                max_at_ms: 0,
                min_bucket: f64::INFINITY,
                max_bucket: f64::NEG_INFINITY,
                max_diff: 0.0,
                samples: 1,
            });
            fixed.min_bucket = fixed.min_bucket.min(*bound);
            fixed.max_bucket = fixed.max_bucket.max(*bound);
            fixed.max_diff = fixed.max_diff.max(difference);
            *count = previous;
        } else {
            previous = *count;
        }
    }
    fixed
}

/// The quantile of cumulative buckets, interpolated within one.
fn bucket_quantile(q: f64, buckets: &mut Vec<(f64, f64)>) -> (f64, Option<Monotonicity>) {
    if q.is_nan() {
        return (f64::NAN, None);
    }
    if q < 0.0 {
        return (f64::NEG_INFINITY, None);
    }
    if q > 1.0 {
        return (f64::INFINITY, None);
    }
    if !sort_buckets(buckets) {
        return (f64::NAN, None);
    }
    coalesce(buckets);
    let fixed = ascend(buckets);
    let last = buckets.len() - 1;
    let observations = buckets[last].1;
    if last == 0 || observations == 0.0 {
        return (f64::NAN, fixed);
    }
    let mut rank = q * observations;
    let b = go_search(last, |i| buckets[i].1 >= rank);
    if b == last {
        return (buckets[last - 1].0, fixed);
    }
    let (end, mut count) = buckets[b];
    if b == 0 && end <= 0.0 {
        return (end, fixed);
    }
    let mut start = 0.0;
    if b > 0 {
        start = buckets[b - 1].0;
        count -= buckets[b - 1].1;
        rank -= buckets[b - 1].1;
    }
    (start + (end - start) * (rank / count), fixed)
}

/// The first index for which `found` holds, by halving as Go's `sort.Search` does: NaN counts may make it hold anywhere.
fn go_search(n: usize, found: impl Fn(usize) -> bool) -> usize {
    let (mut i, mut j) = (0, n);
    while i < j {
        let h = i + (j - i) / 2;
        if found(h) { j = h } else { i = h + 1 }
    }
    i
}

/// The fraction of observations between two bounds.
fn bucket_fraction(lower: f64, upper: f64, buckets: &mut Vec<(f64, f64)>) -> f64 {
    if !sort_buckets(buckets) {
        return f64::NAN;
    }
    coalesce(buckets);
    let count = buckets[buckets.len() - 1].1;
    if count == 0.0 || lower.is_nan() || upper.is_nan() {
        return f64::NAN;
    }
    if lower >= upper {
        return 0.0;
    }
    let mut start = if buckets[0].0 <= 0.0 { f64::NEG_INFINITY } else { 0.0 };
    let mut rank = 0.0;
    let (mut lower_rank, mut upper_rank) = (None, None);
    for &(end, cumulative) in buckets.iter() {
        let within = |v: f64| match start == f64::NEG_INFINITY {
            true => cumulative,
            false => rank + (cumulative - rank) * (v - start) / (end - start),
        };
        for (bound, at) in [(lower, &mut lower_rank), (upper, &mut upper_rank)] {
            if at.is_none() {
                if start >= bound {
                    *at = Some(rank);
                } else if end > bound {
                    *at = Some(within(bound));
                }
            }
        }
        if lower_rank.is_some() && upper_rank.is_some() {
            break;
        }
        rank = cumulative;
        start = end;
    }
    let capped = |rank: Option<f64>| rank.filter(|&r| r <= count || r.is_nan()).unwrap_or(count);
    (capped(upper_rank) - capped(lower_rank)) / count
}

/// Notes what an estimate has to say, and gives its value.
fn noted((v, note): (f64, Option<Note>), metric: &str, pos: Pos, notes: &mut Notes) -> f64 {
    match note {
        Some(Note::NanResult) => notes.quantile_of_nan(pos, metric),
        Some(Note::NanSkew) => notes.quantile_skewed(pos, metric),
        Some(Note::NanExcluded) => notes.fraction_without_nan(pos, metric),
        None => {}
    }
    v
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn classic_quantiles() {
        let of = |q: f64, b: &[(f64, f64)]| bucket_quantile(q, &mut b.to_vec()).0;
        let inf = f64::INFINITY;
        assert_eq!(of(0.5, &[(1.0, 2.0), (2.0, 4.0), (inf, 4.0)]), 1.0);
        assert_eq!(of(0.75, &[(inf, 4.0), (2.0, 4.0), (1.0, 2.0)]), 1.5);
        assert_eq!(of(1.0, &[(1.0, 2.0), (inf, 4.0)]), 1.0);
        assert!(of(0.5, &[(1.0, 2.0)]).is_nan());
        assert!(of(0.5, &[(1.0, 0.0), (inf, 0.0)]).is_nan());
        assert_eq!(of(2.0, &[(1.0, 0.0)]), inf);
    }

    #[test]
    fn falling_counts_are_levelled_and_told() {
        let (_, fixed) = bucket_quantile(0.5, &mut vec![(1.0, 4.0), (2.0, 2.0), (f64::INFINITY, 5.0)]);
        let fixed = fixed.unwrap();
        assert_eq!((fixed.min_bucket, fixed.max_bucket, fixed.max_diff), (2.0, 2.0, 2.0));
        let (_, fixed) = bucket_quantile(0.5, &mut vec![(1.0, 4.0), (f64::INFINITY, 4.0 - 1e-13)]);
        assert!(fixed.is_none());
    }

    #[test]
    fn classic_fractions() {
        let mut b = vec![(1.0, 2.0), (2.0, 4.0), (f64::INFINITY, 8.0)];
        assert_eq!(bucket_fraction(0.0, 2.0, &mut b), 0.5);
        assert_eq!(bucket_fraction(0.5, 1.5, &mut b), 0.25);
        assert_eq!(bucket_fraction(2.0, 1.0, &mut b), 0.0);
        assert!(bucket_fraction(f64::NAN, 1.0, &mut b).is_nan());
    }
}
