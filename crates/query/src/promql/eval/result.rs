use model::Want;

use super::super::ast::{Extension, ValueType};
use super::super::value::{Point, Sample, Series, Value};
use super::engine::{Counting, Engine, Evaluated};
use super::matrix::{Charge, Matrix, Steps, is_absent};
use super::pipeline::Scratch;
use super::plan::{Kind, Node, Selector};
use super::select::{self, Reach};
use super::window::SAMPLE_BYTES;
use super::{EvalError, Query, Result, arith, labels, order, rate};

impl<'e> Engine<'e> {
    pub(super) fn value(&self, root: &'e Node<'e>, steps: &Steps, query: Query) -> Result<Value> {
        let is_range = matches!(query, Query::Range { .. });
        let at_ms = steps.start;
        if root.value_type == ValueType::Matrix {
            return self.range_vector(root, steps);
        }
        let matrix = match self.eval(root, steps)? {
            Evaluated::Text(text) => {
                return Ok(Value::String {
                    at_ms,
                    text: text.to_owned(),
                });
            }
            Evaluated::Scalar(c) if !is_range => return Ok(Value::Scalar { at_ms, value: c.at(0) }),
            Evaluated::Scalar(c) => {
                let mut matrix = self.matrix();
                if steps.count > 0 {
                    matrix.push(self.column_row(c, steps)?)?;
                }
                matrix
            }
            Evaluated::Matrix(m) => m,
        };
        let matrix = finished(matrix)?;
        if is_range {
            return self.series(matrix, steps);
        }
        let mut charge = Charge::new(self.context.budget);
        charge.add(matrix.rows.len() * size_of::<Sample>())?;
        let mut samples = Vec::with_capacity(matrix.rows.len());
        for row in matrix.rows {
            charge.check()?;
            let point = match row.histograms.into_iter().next() {
                Some((_, h)) => Point::Histogram(h),
                None if is_absent(row.values[0]) => continue,
                None => Point::Float(row.values[0]),
            };
            samples.push(Sample {
                labels: row.labels,
                at_ms,
                point,
            });
        }
        Ok(Value::Vector(samples))
    }

    /// Rows as sorted series.
    fn series(&self, matrix: Matrix<'e>, steps: &Steps) -> Result<Value> {
        let Matrix {
            rows,
            charge: mut of_rows,
        } = matrix;
        let mut charge = Charge::new(self.context.budget);
        charge.add(rows.len() * size_of::<Series>())?;
        let mut out = Vec::with_capacity(rows.len());
        for row in rows {
            self.context.budget.check()?;
            let points = row.values.iter().filter(|&&v| !is_absent(v)).count();
            if points == 0 && row.histograms.is_empty() {
                continue;
            }
            charge.add((points + row.histograms.len()) * SAMPLE_BYTES)?;
            of_rows.give_back(row.values.len() * size_of::<f64>());
            let mut series = Series {
                labels: row.labels,
                ..Series::default()
            };
            series.at_ms.reserve_exact(points);
            series.values.reserve_exact(points);
            for (step, v) in row.values.into_iter().enumerate() {
                if !is_absent(v) {
                    series.at_ms.push(steps.at(step));
                    series.values.push(v);
                }
            }
            for (step, h) in row.histograms {
                series.histogram_at_ms.push(steps.at(step as usize));
                series.histograms.push(h);
            }
            out.push(series);
        }
        self.sorted(out)
    }

    fn sorted(&self, mut series: Vec<Series>) -> Result<Value> {
        let began = self.trace().now();
        order::sort(&mut series, self.context.budget, |a, b| {
            order::compare_labels(&a.labels, &b.labels)
        })?;
        self.trace().sorted(self.trace().now().saturating_sub(began));
        Ok(Value::Matrix(series))
    }

    /// A query that ends in a range selector or a subquery.
    fn range_vector(&self, root: &'e Node<'e>, steps: &Steps) -> Result<Value> {
        match &root.kind {
            Kind::Subquery(s) => {
                let inner = s.steps(steps)?;
                let before = self.counting.replace(Counting::Times(1));
                let matrix = self.vector(&s.inner, &inner)?;
                self.counting.set(before);
                self.series(finished(matrix)?, &inner)
            }
            Kind::Matrix(selector, range_ms) => self.raw(selector, *range_ms, steps),
            Kind::Invariant(inner) => self.range_vector(inner, steps),
            _ => Err(EvalError::execution("unexpected range vector")),
        }
    }

    fn raw(&self, selector: &'e Selector<'e>, range_ms: i64, steps: &Steps) -> Result<Value> {
        let context = self.context;
        let reach = Reach::range(selector, range_ms, context.lookback_ms).every_sample();
        let set = select::select(context, selector, &reach, steps, "", Want::Samples)?;
        let end = reach.end(steps.start);
        let start = end.saturating_sub(range_ms);
        let mut out = Vec::new();
        let mut charge = Charge::new(context.budget);
        let mut total = Scratch::default();
        for index in 0..set.len() {
            let block = &mut total.block;
            select::read(&set, index, block, context.budget, selector.skip_buckets)?;
            total.counts.series += 1;
            total.counts.read += (block.values.len() + block.histograms.len()) as u64;
            select::drop_stale(block);
            if block.is_empty() {
                continue;
            }
            charge.add((block.values.len() + block.histograms.len()) * SAMPLE_BYTES)?;
            let mut series = Series {
                labels: set.labels(index),
                at_ms: block.at_ms.clone(),
                values: block.values.clone(),
                histogram_at_ms: block.histogram_at_ms.clone(),
                histograms: block.histograms.clone(),
            };
            if selector.extension != Extension::None {
                let smoothed = selector.extension == Extension::Smoothed;
                if !series.histograms.is_empty() {
                    let word = if smoothed { "smoothed" } else { "anchored" };
                    return Err(EvalError::execution(format!(
                        "{word} modifier is not supported with histograms"
                    )));
                }
                (series.at_ms, series.values) = rate::extend(&series.at_ms, &series.values, start, end, smoothed);
            }
            let points = series.values.len() as u64 + series.histograms.iter().map(|h| arith::size(h)).sum::<u64>();
            total.counts.looked_at += points;
            if let Some(n) = self.counts.borrow_mut().by_step.first_mut() {
                *n += points;
            }
            if points > 0 {
                out.push(series);
            }
        }
        self.lacking.borrow_mut().extend(set.warnings());
        self.told.borrow_mut().extend(set.infos());
        self.absorb(total);
        self.sorted(out)
    }
}

/// Names gone that are to go, and rows joined that then have the same labels.
fn finished(mut matrix: Matrix<'_>) -> Result<Matrix<'_>> {
    for row in matrix.rows.iter_mut().filter(|r| r.drop_name) {
        row.labels = labels::without_name(&row.labels);
        row.drop_name = false;
    }
    matrix.merge()
}
