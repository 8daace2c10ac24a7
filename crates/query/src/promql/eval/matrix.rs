use std::sync::Arc;

use model::{Budget, BudgetError, Histogram, Labels};

use super::order::Table;
use super::{EvalError, Result};

/// The NaN that says "no point here" in a row. No sample has it: rows that hold samples replace it by the usual NaN.
const ABSENT_BITS: u64 = 0x7ffc_0b5e_4e70_ab5e;
pub(super) const ABSENT: f64 = f64::from_bits(ABSENT_BITS);

pub(super) fn is_absent(v: f64) -> bool {
    v.to_bits() == ABSENT_BITS
}

pub(super) const SAME_LABELSET: &str = "vector cannot contain metrics with the same labelset";

/// Bytes taken from the budget, given back when dropped.
pub(super) struct Charge<'a> {
    budget: &'a Budget,
    bytes: u64,
}

impl<'a> Charge<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Charge { budget, bytes: 0 }
    }

    /// Call it before the memory is taken.
    pub(super) fn add(&mut self, bytes: usize) -> Result<()> {
        // counted before it is checked, so that giving back is right either way
        self.bytes += bytes as u64;
        self.budget.bytes(bytes as u64).map_err(|e| match e {
            BudgetError::Bytes { max } => EvalError::limit(format!(
                "the query would hold {} bytes of intermediate results, more than {max} bytes (limit query.bytes_max)",
                self.budget.used().1
            )),
            e => e.into(),
        })
    }

    pub(super) fn check(&self) -> Result<()> {
        Ok(self.budget.check()?)
    }

    /// For memory that is free again before the charge is dropped.
    pub(super) fn give_back(&mut self, bytes: usize) {
        let bytes = self.bytes.min(bytes as u64);
        self.bytes -= bytes;
        self.budget.release(bytes);
    }

    /// Takes over what another is charged for.
    pub(super) fn absorb(&mut self, mut other: Charge<'a>) {
        self.bytes += std::mem::take(&mut other.bytes);
    }
}

/// Whether so many bytes could be taken now; for memory that is charged elsewhere or soon gone.
pub(super) fn fits(budget: &Budget, bytes: usize) -> Result<()> {
    Charge::new(budget).add(bytes)
}

impl Drop for Charge<'_> {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

/// The times at which something is evaluated.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Steps {
    pub(super) start: i64,
    pub(super) end: i64,
    pub(super) interval: i64,
    /// 0 when the end lies before the start.
    pub(super) count: usize,
}

impl Steps {
    /// `interval` is positive.
    pub(super) fn new(start: i64, end: i64, interval: i64) -> Result<Self> {
        let interval = interval.max(1);
        let count = if end < start {
            0
        } else {
            (i128::from(end) - i128::from(start)) / i128::from(interval) + 1
        };
        if count > i128::from(u32::MAX) {
            return Err(EvalError::limit(format!(
                "the query would evaluate {count} steps: at most {} are possible",
                u32::MAX
            )));
        }
        Ok(Steps {
            start,
            end,
            interval,
            count: count as usize,
        })
    }

    pub(super) fn one(at: i64) -> Self {
        Steps {
            start: at,
            end: at,
            interval: 1,
            count: 1,
        }
    }

    pub(super) fn at(&self, step: usize) -> i64 {
        // the result lies within start..=end, though the product may not
        self.start.wrapping_add((step as i64).wrapping_mul(self.interval))
    }

    pub(super) fn last(&self) -> i64 {
        self.at(self.count.saturating_sub(1))
    }

    /// Prometheus treats a range without extent as an instant: results keep their order.
    pub(super) fn is_instant(&self) -> bool {
        self.start == self.end
    }
}

/// Points of one series at the steps: floats by step, histograms on the side.
#[derive(Clone, Debug, Default)]
pub(super) struct Row {
    pub(super) labels: Labels,
    /// The metric's name goes away at the end of the evaluation.
    pub(super) drop_name: bool,
    /// One per step; absent where there is no point or a histogram.
    pub(super) values: Vec<f64>,
    /// Ascending by step.
    pub(super) histograms: Vec<(u32, Arc<Histogram>)>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Cell<'a> {
    Float(f64),
    Histogram(&'a Arc<Histogram>),
}

impl Row {
    pub(super) fn get(&self, step: usize) -> Option<Cell<'_>> {
        let v = self.values[step];
        if !is_absent(v) {
            return Some(Cell::Float(v));
        }
        self.histogram(step).map(Cell::Histogram)
    }

    pub(super) fn histogram(&self, step: usize) -> Option<&Arc<Histogram>> {
        if self.histograms.is_empty() {
            return None;
        }
        let at = self.histograms.binary_search_by_key(&(step as u32), |h| h.0).ok()?;
        Some(&self.histograms[at].1)
    }

    pub(super) fn has(&self, step: usize) -> bool {
        self.get(step).is_some()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.histograms.is_empty() && self.values.iter().all(|&v| is_absent(v))
    }

    pub(super) fn first_step(&self) -> usize {
        let float = self.values.iter().position(|&v| !is_absent(v)).unwrap_or(usize::MAX);
        let histogram = self.histograms.first().map_or(usize::MAX, |h| h.0 as usize);
        float.min(histogram)
    }

    /// Sets a float, which may be any NaN.
    pub(super) fn set(&mut self, step: usize, v: f64) {
        self.values[step] = if is_absent(v) { f64::NAN } else { v };
    }

    /// Steps must come in ascending order.
    pub(super) fn push_histogram(&mut self, step: usize, h: Arc<Histogram>) {
        self.histograms.push((step as u32, h));
    }

    /// Makes it an empty row of `steps` for other labels.
    pub(super) fn reset(&mut self, labels: Labels, steps: usize) {
        self.labels = labels;
        self.drop_name = false;
        self.histograms.clear();
        self.values.clear();
        self.values.resize(steps, ABSENT);
    }

    pub(super) fn new(labels: Labels, drop_name: bool, steps: usize) -> Self {
        Row {
            labels,
            drop_name,
            values: vec![ABSENT; steps],
            histograms: Vec::new(),
        }
    }

    /// Bytes a row takes, labels and histograms left out: its place, in a list that may have room for twice as many,
    /// and its values.
    pub(super) fn bytes(steps: usize) -> usize {
        2 * size_of::<Row>() + ALLOCATION_BYTES + steps * size_of::<f64>()
    }

    /// Bytes this row takes, with labels and histograms.
    pub(super) fn held_bytes(&self) -> usize {
        let histograms: usize = self.histograms.iter().map(|h| h.1.bytes() + 32).sum();
        Row::bytes(self.values.len()) + label_bytes(&self.labels) + histograms
    }
}

/// What the allocator and a reference count add to a piece of memory.
const ALLOCATION_BYTES: usize = 24;

/// Bytes of memory that a label set takes.
pub(super) fn label_bytes(labels: &Labels) -> usize {
    labels.as_bytes().len() + ALLOCATION_BYTES
}

/// Rows of an evaluated vector.
pub(super) struct Matrix<'a> {
    pub(super) rows: Vec<Row>,
    pub(super) charge: Charge<'a>,
}

impl<'a> Matrix<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Matrix {
            rows: Vec::new(),
            charge: Charge::new(budget),
        }
    }

    pub(super) fn push(&mut self, row: Row) -> Result<()> {
        self.charge.add(row.held_bytes())?;
        self.rows.push(row);
        Ok(())
    }

    /// Leaves the rows that `keep` is true of; it may change them.
    pub(super) fn retain(&mut self, mut keep: impl FnMut(&mut Row) -> bool) -> Result<()> {
        let mut stopped = Ok(());
        let charge = &mut self.charge;
        self.rows.retain_mut(|row| {
            if stopped.is_ok() {
                stopped = charge.check();
            }
            if stopped.is_err() {
                return false;
            }
            let stays = keep(row);
            if !stays {
                charge.give_back(Row::bytes(row.values.len()) + label_bytes(&row.labels));
            }
            stays
        });
        stopped
    }

    /// Takes over another's rows, and what they are charged for.
    pub(super) fn append(&mut self, mut other: Matrix<'a>) {
        self.rows.append(&mut other.rows);
        self.charge.absorb(other.charge);
    }

    /// Joins rows with equal labels, as Prometheus does when it collects the results of the steps: two points at one
    /// step are an error. An instant keeps them apart until the end.
    pub(super) fn merge_steps(mut self, steps: &Steps) -> Result<Self> {
        if !steps.is_instant() {
            self.rows = merge_rows(std::mem::take(&mut self.rows), true, self.charge.budget)?;
        }
        Ok(self)
    }

    /// Joins rows with equal labels, always.
    pub(super) fn merge(mut self) -> Result<Self> {
        self.rows = merge_rows(std::mem::take(&mut self.rows), false, self.charge.budget)?;
        Ok(self)
    }
}

/// Rows without duplicates of labels. The earliest point decides on the name (`by_time`), or the first row does.
fn merge_rows(rows: Vec<Row>, by_time: bool, budget: &Budget) -> Result<Vec<Row>> {
    if rows.len() < 2 {
        return Ok(rows);
    }
    let mut table = Table::new(budget);
    let mut distinct = true;
    for (i, row) in rows.iter().enumerate() {
        budget.check()?;
        let bytes = row.labels.as_bytes();
        if table.number(bytes, |at| rows[at].labels.as_bytes() == bytes)? != i {
            distinct = false;
            break;
        }
    }
    if distinct {
        return Ok(rows);
    }
    let mut table = Table::new(budget);
    let mut out: Vec<Row> = Vec::with_capacity(rows.len());
    for row in rows {
        budget.check()?;
        let bytes = row.labels.as_bytes();
        let at = table.number(bytes, |at| out[at].labels.as_bytes() == bytes)?;
        match out.get_mut(at) {
            None => out.push(row),
            Some(into) => join(into, row, by_time)?,
        }
    }
    Ok(out)
}

/// Two points at one step are an error; at the end of the evaluation Prometheus lets a float and a histogram pass.
fn join(into: &mut Row, from: Row, by_time: bool) -> Result<()> {
    if by_time && from.first_step() < into.first_step() {
        into.drop_name = from.drop_name;
    }
    let floats = into.values.clone();
    for (step, (&v, &float)) in from.values.iter().zip(&floats).enumerate() {
        if !is_absent(v) {
            if !is_absent(float) || (by_time && into.histogram(step).is_some()) {
                return Err(EvalError::execution(SAME_LABELSET));
            }
            into.values[step] = v;
        }
    }
    for (step, h) in from.histograms {
        match into.histograms.binary_search_by_key(&step, |h| h.0) {
            Err(at) if !by_time || is_absent(floats[step as usize]) => into.histograms.insert(at, (step, h)),
            _ => return Err(EvalError::execution(SAME_LABELSET)),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_of_extreme_ranges() {
        assert_eq!(Steps::new(0, 10, 5).unwrap().count, 3);
        assert_eq!(Steps::new(10, 0, 5).unwrap().count, 0);
        assert!(Steps::new(i64::MIN, i64::MAX, 1).is_err());
        let s = Steps::new(i64::MIN, i64::MAX, i64::MAX).unwrap();
        assert_eq!((s.count, s.last()), (3, i64::MAX - 1));
    }

    #[test]
    fn rows_with_equal_labels_join_unless_they_overlap() {
        let row = |values: &[f64]| Row {
            values: values.to_vec(),
            ..Row::default()
        };
        let joined = merge_rows(
            vec![row(&[1.0, ABSENT]), row(&[ABSENT, 2.0])],
            true,
            &Budget::unlimited(),
        )
        .unwrap();
        assert_eq!(joined[0].values, [1.0, 2.0]);
        assert!(merge_rows(vec![row(&[1.0]), row(&[2.0])], true, &Budget::unlimited()).is_err());
    }
}
