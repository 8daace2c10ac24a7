//! `count_values`: a series for each distinct value in each group.

use std::collections::HashMap;

use model::{Labels, METRIC_NAME};

use super::labels::group_labels;
use super::matrix::{Cell, Matrix, Row, Steps, is_absent, label_bytes};
use super::numbers::go_float;
use super::plan::Aggregate;
use super::{Result, arith};

pub(super) struct Values<'a> {
    label: &'a str,
    /// With the label of the values, when labels are chosen by name.
    grouping: Vec<&'a str>,
    without: bool,
    steps: Steps,
    index: HashMap<Labels, usize>,
    out: Matrix<'a>,
}

impl<'a> Values<'a> {
    pub(super) fn new(node: &'a Aggregate<'a>, label: &'a str, steps: Steps, out: Matrix<'a>) -> Self {
        let mut grouping = node.grouping.clone();
        if !node.without {
            grouping.push(label);
            grouping.sort_unstable();
            grouping.dedup();
        }
        Values {
            label,
            grouping,
            without: node.without,
            steps,
            index: HashMap::new(),
            out,
        }
    }

    pub(super) fn fold(&mut self, row: &Row) -> Result<()> {
        // a gauge often stays the same: look the group up when the value changes only
        let mut last: Option<(u64, usize)> = None;
        for step in 0..self.steps.count {
            if step % 1024 == 0 {
                self.out.charge.check()?;
            }
            let at = match row.get(step) {
                None => continue,
                Some(Cell::Float(v)) => match last {
                    Some((bits, at)) if bits == v.to_bits() => at,
                    _ => {
                        let at = self.group(&row.labels, &go_float(v))?;
                        last = Some((v.to_bits(), at));
                        at
                    }
                },
                Some(Cell::Histogram(h)) => self.group(&row.labels, &arith::text(h))?,
            };
            let count = &mut self.out.rows[at].values[step];
            *count = if is_absent(*count) { 1.0 } else { *count + 1.0 };
        }
        Ok(())
    }

    fn group(&mut self, labels: &Labels, value: &str) -> Result<usize> {
        let with_value = labels.with(self.label, value);
        let labels = match self.label {
            // a name made of the value stays out as any name does
            METRIC_NAME if self.without => group_labels(labels, &self.grouping, true),
            _ => group_labels(&with_value, &self.grouping, self.without),
        };
        if let Some(&at) = self.index.get(&labels) {
            return Ok(at);
        }
        // the row, and its place in the index
        let bytes = Row::bytes(self.steps.count) + label_bytes(&labels) + 2 * size_of::<(Labels, usize)>();
        self.out.charge.add(bytes)?;
        self.out.rows.push(Row::new(labels.clone(), false, self.steps.count));
        self.index.insert(labels, self.out.rows.len() - 1);
        Ok(self.out.rows.len() - 1)
    }

    pub(super) fn finish(self) -> Matrix<'a> {
        self.out
    }
}
