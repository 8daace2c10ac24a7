//! Aggregations that choose some of the series of each group: `topk`, `bottomk`, `limitk`, `limit_ratio`. Only what is
//! chosen so far is kept.

use std::sync::Arc;

use model::{Histogram, Labels};

use super::super::ast::{AggregateOp, Pos};
use super::aggregate::name;
use super::labels::{self, Ordinals, group_labels};
use super::matrix::{Cell, Charge, Matrix, Row, Steps, label_bytes};
use super::notes::Notes;
use super::plan::Aggregate;
use super::window::Column;
use super::{EvalContext, Result};

/// A point that was chosen.
#[derive(Clone)]
struct Chosen {
    value: f64,
    row: u32,
    histogram: Option<Arc<Histogram>>,
}

pub(super) struct Choice<'a> {
    op: AggregateOp,
    steps: usize,
    grouping: &'a [&'a str],
    without: bool,
    /// Of the aggregation itself.
    pos: Pos,
    param: Column,
    ordinals: Ordinals,
    /// By group and step.
    heaps: Vec<Vec<Chosen>>,
    /// Rows with a chosen point, by the numbers in `heaps`.
    rows: Vec<(Labels, bool)>,
    charge: Charge<'a>,
}

/// Go's `container/heap`, so that among equal values the same ones stay: `less` may be inconsistent about NaN.
fn heap_push(heap: &mut Vec<Chosen>, item: Chosen, less: fn(f64, f64) -> bool) {
    heap.push(item);
    let mut at = heap.len() - 1;
    while at > 0 {
        let parent = (at - 1) / 2;
        if !less(heap[at].value, heap[parent].value) {
            break;
        }
        heap.swap(at, parent);
        at = parent;
    }
}

/// Restores the order after the first item was replaced.
fn heap_fix_first(heap: &mut [Chosen], less: fn(f64, f64) -> bool) {
    let mut at = 0;
    loop {
        let mut child = 2 * at + 1;
        if child >= heap.len() {
            return;
        }
        if child + 1 < heap.len() && less(heap[child + 1].value, heap[child].value) {
            child += 1;
        }
        if !less(heap[child].value, heap[at].value) {
            return;
        }
        heap.swap(at, child);
        at = child;
    }
}

fn smaller(a: f64, b: f64) -> bool {
    a.is_nan() || a < b
}

fn larger(a: f64, b: f64) -> bool {
    a.is_nan() || a > b
}

/// Sorts the best first. Short lists by insertion, as Go does: that decides on the order of equal ones.
fn sort_best_first(heap: &mut [Chosen], less: fn(f64, f64) -> bool) {
    if heap.len() <= 12 {
        for i in 1..heap.len() {
            let mut j = i;
            while j > 0 && less(heap[j - 1].value, heap[j].value) {
                heap.swap(j, j - 1);
                j -= 1;
            }
        }
        return;
    }
    heap.sort_by(|a, b| match (a.value.is_nan(), b.value.is_nan()) {
        (true, true) => std::cmp::Ordering::Equal,
        (true, false) => std::cmp::Ordering::Greater,
        (false, true) => std::cmp::Ordering::Less,
        (false, false) if less(b.value, a.value) => std::cmp::Ordering::Less,
        (false, false) if less(a.value, b.value) => std::cmp::Ordering::Greater,
        (false, false) => std::cmp::Ordering::Equal,
    });
}

impl<'a> Choice<'a> {
    pub(super) fn new(
        context: &EvalContext<'a>,
        node: &'a Aggregate<'a>,
        pos: Pos,
        param: Column,
        steps: &Steps,
    ) -> Self {
        Choice {
            op: node.op,
            steps: steps.count,
            grouping: &node.grouping,
            without: node.without,
            pos,
            param,
            ordinals: Ordinals::default(),
            heaps: Vec::new(),
            rows: Vec::new(),
            charge: Charge::new(context.budget),
        }
    }

    pub(super) fn fold(&mut self, row: &Row, notes: &mut Notes) -> Result<()> {
        let group = self.ordinals.of(group_labels(&row.labels, self.grouping, self.without));
        if self.ordinals.len() * self.steps > self.heaps.len() {
            self.charge.add(self.steps * size_of::<Vec<Chosen>>())?;
            self.heaps.resize(self.ordinals.len() * self.steps, Vec::new());
        }
        let number = self.rows.len() as u32;
        let offset = match self.op {
            AggregateOp::LimitRatio => labels::hash(&row.labels) as f64 / u64::MAX as f64,
            _ => 0.0,
        };
        let mut chosen = 0;
        for step in 0..self.steps {
            let Some(cell) = row.get(step) else {
                continue;
            };
            let (value, histogram) = match cell {
                Cell::Float(v) => (v, None),
                Cell::Histogram(h) => (0.0, Some(h)),
            };
            let param = self.param.at(step);
            // a float that does not fit was refused before
            let k = if param >= 1.0 { param as usize } else { 0 };
            let item = |histogram: Option<&Arc<Histogram>>| Chosen {
                value,
                row: number,
                histogram: histogram.cloned(),
            };
            let heap = &mut self.heaps[group * self.steps + step];
            let before = heap.len();
            match self.op {
                AggregateOp::LimitRatio => {
                    let ratio = param.clamp(-1.0, 1.0);
                    let take = match ratio {
                        r if r > 0.0 => offset < r,
                        r if r < 0.0 => offset >= 1.0 + r,
                        _ => false,
                    };
                    if take {
                        heap_push(heap, item(histogram), smaller);
                        chosen += 1;
                    }
                }
                _ if k == 0 => {}
                AggregateOp::LimitK => {
                    if heap.len() < k {
                        heap_push(heap, item(histogram), smaller);
                        chosen += 1;
                    }
                }
                op => {
                    if histogram.is_some() {
                        notes.histogram_ignored_in_aggregation(self.pos, name(op));
                        continue;
                    }
                    let less = if op == AggregateOp::TopK { smaller } else { larger };
                    if heap.len() < k {
                        heap_push(heap, item(None), less);
                        chosen += 1;
                    } else if (!heap[0].value.is_nan() && less(heap[0].value, value))
                        || (heap[0].value.is_nan() && !value.is_nan())
                    {
                        heap[0] = item(None);
                        heap_fix_first(heap, less);
                        chosen += 1;
                    }
                }
            }
            if heap.len() > before {
                self.charge.add(2 * size_of::<Chosen>())?;
            }
        }
        if chosen > 0 {
            self.charge
                .add(2 * size_of::<(Labels, bool)>() + label_bytes(&row.labels))?;
            self.rows.push((row.labels.clone(), row.drop_name));
        }
        Ok(())
    }

    /// The chosen points, group by group; of an instant the best first.
    pub(super) fn finish(mut self, mut out: Matrix<'a>) -> Result<Matrix<'a>> {
        self.charge.add(self.rows.len() * size_of::<Option<usize>>())?;
        let mut at: Vec<Option<usize>> = vec![None; self.rows.len()];
        let mut rows: Vec<Row> = Vec::new();
        for (slot, mut heap) in std::mem::take(&mut self.heaps).into_iter().enumerate() {
            self.charge.check()?;
            match self.op {
                AggregateOp::TopK => sort_best_first(&mut heap, smaller),
                AggregateOp::BottomK => sort_best_first(&mut heap, larger),
                _ => {}
            }
            let step = slot % self.steps;
            for item in heap {
                let number = item.row as usize;
                let index = match at[number] {
                    Some(index) => index,
                    None => {
                        let (labels, drop_name) = self.rows[number].clone();
                        out.charge.add(Row::bytes(self.steps) + label_bytes(&labels))?;
                        rows.push(Row::new(labels, drop_name, self.steps));
                        at[number] = Some(rows.len() - 1);
                        rows.len() - 1
                    }
                };
                match item.histogram {
                    None => rows[index].set(step, item.value),
                    Some(h) => rows[index].push_histogram(step, h),
                }
            }
        }
        out.rows = rows;
        Ok(out)
    }
}
