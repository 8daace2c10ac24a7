//! Aggregations that fold every row into the accumulators of its group, step by step.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Budget, Histogram, ResetHint};

use super::super::ast::{AggregateOp, Pos};
use super::labels::{Ordinals, group_labels};
use super::matrix::{Cell, Charge, Matrix, Row, Steps, fits, label_bytes};
use super::notes::{Notes, Operation};
use super::numbers::{kahan, quantile};
use super::plan::Aggregate;
use super::window::Column;
use super::{EvalContext, Result, arith};

const SEEN: u8 = 1;
const FLOAT: u8 = 2;
const HISTOGRAM: u8 = 4;
/// Histograms of different kinds met: the group has no result at this step.
const INCOMPATIBLE: u8 = 8;
/// The running mean has taken over from the sum.
const RUNNING_MEAN: u8 = 16;
const RESET_SEEN: u8 = 32;
const NO_RESET_SEEN: u8 = 64;
const DROP_NAME: u8 = 128;

/// Sum and mean of the histograms of one group at one step.
enum Folded {
    Sum {
        value: Box<Histogram>,
        c: Option<Histogram>,
    },
    Mean(Box<arith::Mean>),
}

/// Accumulators of all groups at all steps.
pub(super) struct Groups<'a> {
    op: AggregateOp,
    steps: usize,
    grouping: &'a [&'a str],
    without: bool,
    /// Of the expression that is aggregated.
    pos: Pos,
    ordinals: Ordinals,
    rows: Vec<Row>,
    flags: Vec<u8>,
    /// Sum, mean, minimum, …: what the operator needs.
    value: Vec<f64>,
    /// Compensation of the sum; the mean of a variance.
    c: Vec<f64>,
    count: Vec<f64>,
    histograms: HashMap<usize, Folded>,
    /// All values, for quantiles.
    values: Vec<Vec<f64>>,
    charge: Charge<'a>,
    budget: &'a Budget,
    /// Sets each group's labels from a row's.
    last: Option<(model::Labels, usize)>,
}

impl<'a> Groups<'a> {
    pub(super) fn new(context: &EvalContext<'a>, node: &'a Aggregate<'a>, steps: &Steps) -> Self {
        Groups {
            op: node.op,
            steps: steps.count,
            grouping: &node.grouping,
            without: node.without,
            pos: node.expr.pos,
            ordinals: Ordinals::default(),
            rows: Vec::new(),
            flags: Vec::new(),
            value: Vec::new(),
            c: Vec::new(),
            count: Vec::new(),
            histograms: HashMap::new(),
            values: Vec::new(),
            charge: Charge::new(context.budget),
            budget: context.budget,
            last: None,
        }
    }

    /// The group of a row; made when it is new.
    fn group(&mut self, row: &Row) -> Result<usize> {
        if !self.without && self.grouping.is_empty() && !self.rows.is_empty() {
            return Ok(0);
        }
        let labels = group_labels(&row.labels, self.grouping, self.without);
        if let Some((last, group)) = &self.last
            && *last == labels
        {
            return Ok(*group);
        }
        let group = self.ordinals.of(labels.clone());
        if group == self.rows.len() {
            let per_step = 1
                + 8 * 4
                + if self.op == AggregateOp::Quantile {
                    size_of::<Vec<f64>>()
                } else {
                    0
                };
            self.charge
                .add(self.steps * per_step + Row::bytes(0) + label_bytes(&labels) + 64)?;
            self.rows.push(Row {
                labels: labels.clone(),
                ..Row::default()
            });
            let slots = self.rows.len() * self.steps;
            self.flags.resize(slots, 0);
            self.value.resize(slots, 0.0);
            if matches!(
                self.op,
                AggregateOp::Sum | AggregateOp::Avg | AggregateOp::Stddev | AggregateOp::Stdvar
            ) {
                self.c.resize(slots, 0.0);
            }
            if !matches!(
                self.op,
                AggregateOp::Sum | AggregateOp::Min | AggregateOp::Max | AggregateOp::Group | AggregateOp::Quantile
            ) {
                self.count.resize(slots, 0.0);
            }
            if self.op == AggregateOp::Quantile {
                self.values.resize(slots, Vec::new());
            }
        }
        self.last = Some((labels, group));
        Ok(group)
    }

    pub(super) fn fold(&mut self, row: &Row, notes: &mut Notes) -> Result<()> {
        let base = self.group(row)? * self.steps;
        let drop_name = if row.drop_name { DROP_NAME } else { 0 };
        if self.op == AggregateOp::Quantile {
            // lists have room for twice as many
            self.charge.add(2 * row.values.len() * size_of::<f64>())?;
        }
        if !row.histograms.is_empty() && matches!(self.op, AggregateOp::Sum | AggregateOp::Avg) {
            self.charge
                .add(row.histograms.iter().map(|h| h.1.bytes() / 4 + 16).sum())?;
        }
        if row.histograms.is_empty() && self.op == AggregateOp::Sum {
            self.add(base, &row.values, drop_name);
            return Ok(());
        }
        if row.histograms.is_empty() {
            for (step, &v) in row.values.iter().enumerate() {
                if !super::matrix::is_absent(v) {
                    self.float(base + step, v, drop_name);
                }
            }
            return Ok(());
        }
        for step in 0..self.steps {
            match row.get(step) {
                None => {}
                Some(Cell::Float(v)) => self.float(base + step, v, drop_name),
                Some(Cell::Histogram(h)) => self.histogram(base + step, h, drop_name, row, notes),
            }
        }
        Ok(())
    }

    /// Adds a row of floats to the sums of its group.
    fn add(&mut self, base: usize, row: &[f64], drop_name: u8) {
        let slots = base..base + self.steps;
        let sums = self.value[slots.clone()].iter_mut().zip(&mut self.c[slots.clone()]);
        for ((&v, flags), (sum, c)) in row.iter().zip(&mut self.flags[slots]).zip(sums) {
            if super::matrix::is_absent(v) || *flags & INCOMPATIBLE != 0 {
                continue;
            }
            if *flags & SEEN == 0 {
                *sum = v;
            } else {
                (*sum, *c) = kahan(v, *sum, *c);
            }
            *flags |= SEEN | FLOAT | drop_name;
        }
    }

    fn float(&mut self, slot: usize, v: f64, drop_name: u8) {
        let flags = &mut self.flags[slot];
        if *flags & SEEN == 0 {
            *flags = SEEN | FLOAT | drop_name;
            match self.op {
                AggregateOp::Sum | AggregateOp::Min | AggregateOp::Max => self.value[slot] = v,
                AggregateOp::Avg => {
                    self.value[slot] = v;
                    self.count[slot] = 1.0;
                }
                AggregateOp::Group => self.value[slot] = 1.0,
                AggregateOp::Stddev | AggregateOp::Stdvar => {
                    self.value[slot] = if v.is_finite() { 0.0 } else { f64::NAN };
                    self.c[slot] = v;
                    self.count[slot] = 1.0;
                }
                AggregateOp::Quantile => self.values[slot].push(v),
                _ => self.count[slot] = 1.0,
            }
            return;
        }
        if *flags & INCOMPATIBLE != 0 {
            return;
        }
        *flags |= FLOAT | drop_name;
        let value = &mut self.value[slot];
        match self.op {
            AggregateOp::Sum => (*value, self.c[slot]) = kahan(v, *value, self.c[slot]),
            AggregateOp::Avg => {
                let (c, count) = (&mut self.c[slot], &mut self.count[slot]);
                *count += 1.0;
                if *flags & RUNNING_MEAN == 0 {
                    let (sum, next_c) = kahan(v, *value, *c);
                    if !sum.is_infinite() {
                        (*value, *c) = (sum, next_c);
                        return;
                    }
                    *flags |= RUNNING_MEAN;
                    *value /= *count - 1.0;
                    *c /= *count - 1.0;
                }
                let q = (*count - 1.0) / *count;
                (*value, *c) = kahan(v / *count, q * *value, q * *c);
            }
            AggregateOp::Min => {
                if *value > v || value.is_nan() {
                    *value = v;
                }
            }
            AggregateOp::Max => {
                if *value < v || value.is_nan() {
                    *value = v;
                }
            }
            AggregateOp::Stddev | AggregateOp::Stdvar => {
                let (mean, count) = (&mut self.c[slot], &mut self.count[slot]);
                *count += 1.0;
                let delta = v - *mean;
                *mean += delta / *count;
                *value += delta * (v - *mean);
            }
            AggregateOp::Quantile => self.values[slot].push(v),
            AggregateOp::Group => {}
            _ => self.count[slot] += 1.0,
        }
    }

    fn histogram(&mut self, slot: usize, h: &Arc<Histogram>, drop_name: u8, row: &Row, notes: &mut Notes) {
        let flags = &mut self.flags[slot];
        let first = *flags & SEEN == 0;
        if !first && *flags & INCOMPATIBLE != 0 {
            return;
        }
        match self.op {
            AggregateOp::Sum | AggregateOp::Avg => {}
            AggregateOp::Group => {
                self.value[slot] = 1.0;
                *flags |= SEEN | drop_name;
                return;
            }
            AggregateOp::Count => {
                self.count[slot] += 1.0;
                *flags |= SEEN | drop_name;
                return;
            }
            op => {
                if !first {
                    *flags |= drop_name;
                }
                notes.histogram_ignored_in_aggregation(self.pos, name(op));
                return;
            }
        }
        *flags |= SEEN | HISTOGRAM | drop_name;
        let is_mean = self.op == AggregateOp::Avg;
        if is_mean {
            self.count[slot] += 1.0;
        }
        if !first && !self.histograms.contains_key(&slot) {
            // floats came first: the group has no result at this step, whatever follows
            return;
        }
        match h.reset_hint {
            ResetHint::Reset => *flags |= RESET_SEEN,
            ResetHint::NoReset => *flags |= NO_RESET_SEEN,
            _ => {}
        }
        if first {
            let heap = match is_mean {
                true => Folded::Mean(Box::new(arith::Mean::new(h))),
                false => Folded::Sum {
                    value: Box::new(Histogram::clone(h)),
                    c: None,
                },
            };
            self.histograms.insert(slot, heap);
            return;
        }
        let reconciled = match self.histograms.get_mut(&slot) {
            Some(Folded::Sum { value, c }) => arith::kahan_add(value, h, c).map(|did| did.reconciled),
            Some(Folded::Mean(mean)) => mean.add(h),
            None => Ok(false),
        };
        match reconciled {
            Ok(true) => notes.bounds_reconciled(self.pos, Operation::Aggregation),
            Ok(false) => {}
            Err(_) => {
                notes.mixed_exponential_custom(self.pos, row.labels.metric_name());
                *flags |= INCOMPATIBLE;
            }
        }
    }

    /// The results of all groups that have any. `q` is the parameter of a quantile.
    pub(super) fn finish(mut self, q: &Column, notes: &mut Notes, mut out: Matrix<'a>) -> Result<Matrix<'a>> {
        for (group, mut row) in std::mem::take(&mut self.rows).into_iter().enumerate() {
            fits(self.budget, self.steps * size_of::<f64>())?;
            row.values = vec![super::matrix::ABSENT; self.steps];
            for step in 0..self.steps {
                let slot = group * self.steps + step;
                let flags = self.flags[slot];
                if flags & SEEN == 0 {
                    continue;
                }
                if flags & FLOAT != 0
                    && flags & HISTOGRAM != 0
                    && matches!(self.op, AggregateOp::Sum | AggregateOp::Avg)
                {
                    notes.mixed_floats_histograms_in_aggregation(self.pos);
                    continue;
                }
                if flags & INCOMPATIBLE != 0 {
                    continue;
                }
                if flags & RESET_SEEN != 0 && flags & NO_RESET_SEEN != 0 {
                    notes.reset_collision(self.pos, Operation::Aggregation);
                }
                row.drop_name = flags & DROP_NAME != 0;
                if flags & HISTOGRAM != 0 {
                    let h = match self.histograms.remove(&slot) {
                        Some(Folded::Sum { mut value, c }) => {
                            if let Some(c) = c {
                                // the compensation has the sum's layout
                                let _ = arith::add(&mut value, &c);
                            }
                            *value
                        }
                        Some(Folded::Mean(mean)) => match mean.finish() {
                            Ok(h) => h,
                            Err(_) => continue,
                        },
                        None => continue,
                    };
                    let mut h = h;
                    arith::compact(&mut h);
                    row.push_histogram(step, Arc::new(h));
                    continue;
                }
                let v = match self.op {
                    AggregateOp::Sum => self.value[slot] + self.c[slot],
                    AggregateOp::Avg if flags & RUNNING_MEAN != 0 => self.value[slot] + self.c[slot],
                    AggregateOp::Avg => self.value[slot] / self.count[slot] + self.c[slot] / self.count[slot],
                    AggregateOp::Min | AggregateOp::Max | AggregateOp::Group => self.value[slot],
                    AggregateOp::Stdvar => self.value[slot] / self.count[slot],
                    AggregateOp::Stddev => (self.value[slot] / self.count[slot]).sqrt(),
                    AggregateOp::Quantile => quantile(q.at(step), &mut self.values[slot]),
                    _ => self.count[slot],
                };
                row.set(step, v);
            }
            if !row.is_empty() {
                out.push(row)?;
            }
        }
        Ok(out)
    }
}

pub(super) fn name(op: AggregateOp) -> &'static str {
    match op {
        AggregateOp::Sum => "sum",
        AggregateOp::Avg => "avg",
        AggregateOp::Count => "count",
        AggregateOp::Min => "min",
        AggregateOp::Max => "max",
        AggregateOp::Group => "group",
        AggregateOp::Stddev => "stddev",
        AggregateOp::Stdvar => "stdvar",
        AggregateOp::TopK => "topk",
        AggregateOp::BottomK => "bottomk",
        AggregateOp::CountValues => "count_values",
        AggregateOp::Quantile => "quantile",
        AggregateOp::LimitK => "limitk",
        AggregateOp::LimitRatio => "limit_ratio",
    }
}
