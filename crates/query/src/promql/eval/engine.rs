use std::cell::{Cell, RefCell};
use std::cmp::Ordering;
use std::sync::Arc;

use model::{Labels, METRIC_NAME, MatchOp, Matcher, Want};

use super::super::ast::{AggregateOp, Extension, Pos, ValueType};
use super::super::value::{Point, Sample, Series, Value};
use super::super::{is_utf8, max_of, min_of};
use super::aggregate::Groups;
use super::binary::{self, Operator};
use super::classic::{self, Ask};
use super::count_values::Values;
use super::info::InfoQuery;
use super::instant::{Instants, Take};
use super::labels::{self, LABELS_BYTES_MAX};
use super::matrix::{ABSENT, Charge, Matrix, Row, Steps, compare_labels, is_absent};
use super::notes::Notes;
use super::numbers::{format_g, nan_first};
use super::pipeline::{Counts, Rows, Run, Scratch};
use super::plan::{Aggregate, Binary, Kind, Node, Plan, Selector, Subquery};
use super::select::{self, Reach};
use super::stages::{Stage, float_function, histogram_function};
use super::topk::Choice;
use super::window::{Column, Over, Windows, range_function};
use super::{Answer, EvalContext, EvalError, Query, Result, Stats, dates, rate};

/// Floats beyond these do not fit the number of series to choose.
const K_MIN: f64 = -9_223_372_036_854_775_808.0;
const K_MAX: f64 = 9_223_372_036_854_774_784.0;

enum Evaluated<'e> {
    Scalar(Column),
    Matrix(Matrix<'e>),
    Text(&'e str),
}

/// Rows to come, and what is done to each of them.
struct Pipe<'e> {
    base: Base<'e>,
    stages: Vec<Stage>,
}

enum Base<'e> {
    Lazy(Box<dyn Rows + 'e>),
    Held(Matrix<'e>),
}

/// How samples looked at count.
#[derive(Clone, Copy)]
enum Counting {
    /// At their steps.
    Steps,
    /// Once for each of so many steps.
    Times(usize),
    /// Not: the window over the subquery counts them.
    Off,
}

struct Engine<'e> {
    context: &'e EvalContext<'e>,
    notes: RefCell<Notes>,
    lacking: RefCell<Vec<String>>,
    counts: RefCell<Counts>,
    counting: Cell<Counting>,
    peak: Cell<u64>,
}

/// Evaluates a plan.
pub(super) fn run(plan: &Plan<'_>, context: &EvalContext<'_>, query: Query) -> Result<Answer> {
    let steps = match query {
        Query::Instant { at_ms } => Steps::one(at_ms),
        Query::Range {
            start_ms,
            end_ms,
            step_ms,
        } => Steps::new(start_ms, end_ms, step_ms)?,
    };
    let cost = subquery_cost(&plan.root, &steps)?;
    let (samples_max, ..) = context.budget.limits();
    if cost > u128::from(samples_max) {
        return Err(EvalError::limit(format!(
            "the query would read {cost} samples for each series in its subqueries, more than {samples_max} (limit query.samples_max)"
        )));
    }
    let engine = Engine {
        context,
        notes: RefCell::default(),
        lacking: RefCell::default(),
        counts: RefCell::default(),
        counting: Cell::new(Counting::Steps),
        peak: Cell::new(0),
    };
    if context.per_step_stats {
        let mut charge = Charge::new(context.budget);
        charge.add(steps.count * 8)?;
        engine.counts.borrow_mut().by_step = vec![0; steps.count];
    }
    let value = engine.value(&plan.root, &steps, query)?;
    Ok(engine.answer(value, &steps))
}

/// Samples that windows over subqueries look at for one series: what can be told before anything is read.
fn subquery_cost(node: &Node<'_>, steps: &Steps) -> Result<u128> {
    Ok(match &node.kind {
        Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) | Kind::Matrix(..) => 0,
        Kind::Negate(inner) => subquery_cost(inner, steps)?,
        Kind::Invariant(inner) => subquery_cost(inner, &Steps::one(steps.start))?,
        Kind::Binary(b) => subquery_cost(&b.left, steps)?.saturating_add(subquery_cost(&b.right, steps)?),
        Kind::Aggregate(a) => {
            let param = a.param.as_ref().map_or(Ok(0), |p| subquery_cost(p, steps))?;
            param.saturating_add(subquery_cost(&a.expr, steps)?)
        }
        Kind::Call(_, args) => {
            let mut cost = 0u128;
            for arg in args {
                cost = cost.saturating_add(subquery_cost(arg, steps)?);
            }
            cost
        }
        Kind::Subquery(s) => {
            let inner = s.steps(steps)?;
            let window = u128::from((s.range_ms / s.step_ms).unsigned_abs()).min(inner.count as u128);
            let outer = if s.at.is_some() { 1 } else { steps.count as u128 };
            window
                .saturating_mul(outer)
                .saturating_add(inner.count as u128)
                .saturating_add(subquery_cost(&s.inner, &inner)?)
        }
    })
}

impl<'e> Engine<'e> {
    fn answer(self, value: Value, steps: &Steps) -> Answer {
        let (warnings, infos) = self.notes.into_inner().render(self.context.text);
        let mut lacking = self.lacking.into_inner();
        lacking.sort();
        lacking.dedup();
        lacking.extend(warnings);
        let counts = self.counts.into_inner();
        let at = |(step, &n): (usize, &u64)| (steps.at(step), n);
        Answer {
            stats: Stats {
                samples_read: counts.read,
                samples_total: counts.looked_at,
                samples_peak: self.peak.get().max(counts.window_peak).max(value.points() as u64),
                series: counts.series,
                samples_per_step: counts.by_step.iter().enumerate().map(at).collect(),
            },
            value,
            warnings: lacking,
            infos,
        }
    }

    fn value(&self, root: &'e Node<'e>, steps: &Steps, query: Query) -> Result<Value> {
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
                    matrix.push(self.column_row(&c, steps)?)?;
                }
                matrix
            }
            Evaluated::Matrix(m) => m,
        };
        let matrix = finished(matrix)?;
        if is_range {
            return self.series(matrix, steps);
        }
        let mut samples = Vec::with_capacity(matrix.rows.len());
        for row in matrix.rows {
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
        let mut out = Vec::with_capacity(matrix.rows.len());
        let mut charge = Charge::new(self.context.budget);
        for row in matrix.rows {
            self.context.budget.check()?;
            let points = row.values.iter().filter(|&&v| !is_absent(v)).count();
            if points == 0 && row.histograms.is_empty() {
                continue;
            }
            charge.add(points * 16)?;
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
        self.context.budget.check()?;
        series.sort_by_cached_key(|s| sort_key(&s.labels));
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
        let reach = Reach::range(selector, range_ms, context.lookback_ms);
        let set = select::select(context, selector, &reach, steps, "", Want::Samples)?;
        let end = reach.end(steps.start);
        let start = end.saturating_sub(range_ms);
        let mut out = Vec::new();
        let mut charge = Charge::new(context.budget);
        let mut total = Scratch::default();
        for index in 0..set.len() {
            let block = &mut total.block;
            select::read(set.as_ref(), index, block, context.budget, selector.skip_buckets)?;
            total.counts.series += 1;
            total.counts.read += (block.values.len() + block.histograms.len()) as u64;
            select::drop_stale(block);
            if block.is_empty() {
                continue;
            }
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
            charge.add(series.values.len() * 16)?;
            let points =
                series.values.len() as u64 + series.histograms.iter().map(|h| super::arith::size(h)).sum::<u64>();
            total.counts.looked_at += points;
            if let Some(n) = self.counts.borrow_mut().by_step.first_mut() {
                *n += points;
            }
            if points > 0 {
                out.push(series);
            }
        }
        self.lacking.borrow_mut().extend(set.warnings());
        self.absorb(total);
        self.sorted(out)
    }

    fn matrix(&self) -> Matrix<'e> {
        Matrix::new(self.context.budget)
    }

    fn run(&self, steps: &Steps) -> Run {
        let context = self.context;
        let count_steps = context.per_step_stats && matches!(self.counting.get(), Counting::Steps);
        Run {
            steps: *steps,
            threads: context.threads,
            count_steps,
        }
    }

    fn absorb(&self, part: Scratch) {
        let mut counts = self.counts.borrow_mut();
        match self.counting.get() {
            Counting::Steps => counts.merge(&part.counts),
            Counting::Times(n) => {
                let looked_at = part.counts.looked_at;
                let times = Counts {
                    looked_at: looked_at.saturating_mul(n as u64),
                    by_step: Vec::new(),
                    ..part.counts
                };
                counts.merge(&times);
                for step in &mut counts.by_step {
                    *step += looked_at;
                }
            }
            Counting::Off => counts.merge(&Counts {
                looked_at: 0,
                by_step: Vec::new(),
                ..part.counts
            }),
        }
        drop(counts);
        self.merge_notes(part.notes);
    }

    fn merge_notes(&self, notes: Notes) {
        if !notes.is_empty() {
            self.notes.borrow_mut().merge(notes);
        }
    }

    /// A node that is a vector.
    fn vector(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Matrix<'e>> {
        Ok(match self.eval(node, steps)? {
            Evaluated::Matrix(m) => m,
            Evaluated::Scalar(c) => {
                let mut matrix = self.matrix();
                if steps.count > 0 {
                    matrix.push(self.column_row(&c, steps)?)?;
                }
                matrix
            }
            Evaluated::Text(_) => self.matrix(),
        })
    }

    fn column_row(&self, column: &Column, steps: &Steps) -> Result<Row> {
        let mut row = self.empty_row(steps)?;
        for step in 0..steps.count {
            row.set(step, column.at(step));
        }
        Ok(row)
    }

    /// Checked against the budget before it is made.
    fn empty_row(&self, steps: &Steps) -> Result<Row> {
        Charge::new(self.context.budget).add(Row::bytes(steps.count))?;
        Ok(Row::new(Labels::empty(), false, steps.count))
    }

    /// A node that is a scalar.
    fn scalar(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Column> {
        match self.eval(node, steps)? {
            Evaluated::Scalar(c) => Ok(c),
            _ => Err(EvalError::execution("unexpected vector in the place of a scalar")),
        }
    }

    fn each_step(&self, steps: &Steps, f: impl Fn(usize) -> f64) -> Result<Column> {
        Charge::new(self.context.budget).add(steps.count * 8)?;
        Ok(Column::Each((0..steps.count).map(f).collect()))
    }

    fn eval(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Evaluated<'e>> {
        self.context.budget.check()?;
        match &node.kind {
            Kind::Number(v) => Ok(Evaluated::Scalar(Column::Same(*v))),
            Kind::Text(text) => Ok(Evaluated::Text(text)),
            Kind::Invariant(inner) => self.invariant(inner, steps),
            Kind::Negate(inner) if node.value_type == ValueType::Scalar => {
                Ok(Evaluated::Scalar(match self.scalar(inner, steps)? {
                    Column::Same(v) => Column::Same(-v),
                    Column::Each(v) => Column::Each(v.into_iter().map(|v| -v).collect()),
                }))
            }
            Kind::Binary(b) if node.value_type == ValueType::Scalar => {
                let (left, right) = (self.scalar(&b.left, steps)?, self.scalar(&b.right, steps)?);
                self.columns(&left, &right, steps, |a, c| binary::scalars(b.op, a, c))
            }
            Kind::Binary(b) if b.left.value_type != ValueType::Scalar && b.right.value_type != ValueType::Scalar => {
                self.between_vectors(b, node.pos, steps).map(Evaluated::Matrix)
            }
            Kind::Selector(_) | Kind::Negate(_) | Kind::Binary(_) => {
                self.collect(self.pipe(node, steps)?, steps).map(Evaluated::Matrix)
            }
            Kind::Aggregate(a) => self.aggregate(a, node.pos, steps).map(Evaluated::Matrix),
            Kind::Call(func, args) => self.call(node, func.name, args, steps),
            Kind::Matrix(..) | Kind::Subquery(_) => Err(EvalError::execution("unexpected range vector")),
        }
    }

    fn columns(
        &self,
        left: &Column,
        right: &Column,
        steps: &Steps,
        f: impl Fn(f64, f64) -> f64,
    ) -> Result<Evaluated<'e>> {
        Ok(Evaluated::Scalar(match (left, right) {
            (Column::Same(a), Column::Same(b)) => Column::Same(f(*a, *b)),
            _ => self.each_step(steps, |step| f(left.at(step), right.at(step)))?,
        }))
    }

    /// What does not depend on the step: evaluated at the first, then repeated.
    fn invariant(&self, inner: &'e Node<'e>, steps: &Steps) -> Result<Evaluated<'e>> {
        if steps.count == 0 {
            return Ok(Evaluated::Matrix(self.matrix()));
        }
        let outer = self.counting.get();
        if matches!(outer, Counting::Steps) {
            self.counting.set(Counting::Times(steps.count));
        }
        let once = self.eval(
            inner,
            &Steps {
                end: steps.start,
                count: 1,
                ..*steps
            },
        )?;
        self.counting.set(outer);
        let once = match once {
            Evaluated::Scalar(c) => return Ok(Evaluated::Scalar(Column::Same(c.at(0)))),
            Evaluated::Text(text) => return Ok(Evaluated::Text(text)),
            Evaluated::Matrix(m) => m,
        };
        if steps.count == 1 {
            return Ok(Evaluated::Matrix(once));
        }
        let mut out = self.matrix();
        for row in once.rows {
            self.context.budget.check()?;
            let mut charge = Charge::new(self.context.budget);
            charge.add(Row::bytes(steps.count))?;
            let mut repeated = Row::new(row.labels, row.drop_name, steps.count);
            repeated.values.fill(row.values[0]);
            if let Some((_, h)) = row.histograms.first() {
                charge.add(steps.count * 16)?;
                repeated.histograms = (0..steps.count as u32).map(|step| (step, Arc::clone(h))).collect();
            }
            drop(charge);
            out.push(repeated)?;
        }
        Ok(Evaluated::Matrix(out))
    }

    /// Runs a pipeline into rows.
    fn collect(&self, pipe: Pipe<'e>, steps: &Steps) -> Result<Matrix<'e>> {
        let mut out = self.matrix();
        self.stream(pipe, steps, &mut |row| out.push(std::mem::take(row)))?;
        let points = out.rows.len() as u64 * steps.count as u64;
        self.peak.set(self.peak.get().max(points));
        Ok(out)
    }

    /// Runs a pipeline; each row is given away as soon as it is there.
    fn stream(&self, pipe: Pipe<'e>, steps: &Steps, take: &mut dyn FnMut(&mut Row) -> Result<()>) -> Result<()> {
        let run = self.run(steps);
        let mut total = Scratch::default();
        if run.count_steps {
            total.counts.by_step = vec![0; steps.count];
        }
        // a row for each thread
        let mut charge = Charge::new(self.context.budget);
        charge.add(Row::bytes(steps.count).saturating_mul(run.threads.max(1)))?;
        match pipe.base {
            Base::Lazy(rows) => {
                run.rows(rows.as_ref(), &pipe.stages, &mut total, take)?;
                self.lacking.borrow_mut().extend(rows.warnings());
            }
            Base::Held(matrix) => {
                for mut row in matrix.rows {
                    self.context.budget.check()?;
                    run.apply(&pipe.stages, &mut row, &mut total.notes);
                    if !row.is_empty() {
                        take(&mut row)?;
                    }
                }
            }
        }
        self.absorb(total);
        Ok(())
    }

    /// The pipeline of a vector: what can be done series by series is put off.
    fn pipe(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Pipe<'e>> {
        if steps.count == 0 {
            return Ok(self.held(self.matrix()));
        }
        match &node.kind {
            Kind::Selector(selector) => self.instants(*selector, steps, Take::Value, ""),
            Kind::Negate(inner) => self.staged(inner, steps, Stage::Negate),
            Kind::Binary(b) if b.left.value_type == ValueType::Scalar || b.right.value_type == ValueType::Scalar => {
                let scalar_is_left = b.left.value_type == ValueType::Scalar;
                let (vector, scalar) = if scalar_is_left {
                    (&b.right, &b.left)
                } else {
                    (&b.left, &b.right)
                };
                let mut pipe = self.pipe(vector, steps)?;
                let scalar = self.scalar(scalar, steps)?;
                let (op, return_bool, pos) = (b.op, b.return_bool, node.pos);
                pipe.stages.push(Stage::Operator {
                    op,
                    scalar,
                    scalar_is_left,
                    return_bool,
                    pos,
                });
                Ok(pipe)
            }
            Kind::Call(func, args) => match self.call_pipe(node, func.name, args, steps)? {
                Some(pipe) => Ok(pipe),
                None => Ok(self.held(self.vector(node, steps)?)),
            },
            _ => Ok(self.held(self.vector(node, steps)?)),
        }
    }

    fn held(&self, matrix: Matrix<'e>) -> Pipe<'e> {
        Pipe {
            base: Base::Held(matrix),
            stages: Vec::new(),
        }
    }

    fn staged(&self, inner: &'e Node<'e>, steps: &Steps, stage: Stage) -> Result<Pipe<'e>> {
        let mut pipe = self.pipe(inner, steps)?;
        pipe.stages.push(stage);
        Ok(pipe)
    }

    fn instants(&self, selector: Selector<'e>, steps: &Steps, take: Take, function: &str) -> Result<Pipe<'e>> {
        let context = self.context;
        let reach = Reach::instant(&selector, context.lookback_ms);
        let smoothed = selector.extension == Extension::Smoothed;
        let want = if steps.count == 1 && !smoothed && !selector.skip_buckets {
            Want::Last
        } else {
            Want::Samples
        };
        let set = select::select(context, &selector, &reach, steps, function, want)?;
        let (skip_buckets, pos, steps) = (selector.skip_buckets, selector.pos, *steps);
        let rows = Instants {
            context,
            set,
            reach,
            steps,
            take,
            smoothed,
            skip_buckets,
            pos,
        };
        Ok(Pipe {
            base: Base::Lazy(Box::new(rows)),
            stages: Vec::new(),
        })
    }

    /// Functions that work series by series; `None` for all others.
    fn call_pipe(
        &self,
        node: &'e Node<'e>,
        name: &'static str,
        args: &'e [Node<'e>],
        steps: &Steps,
    ) -> Result<Option<Pipe<'e>>> {
        if range_function(name).is_some() && name != "absent_over_time" {
            return self.windows(node, name, args, steps).map(Some);
        }
        let Some(first) = args.first() else {
            return Ok(None);
        };
        if let Some(f) = float_function(name) {
            return self.staged(first, steps, Stage::Float(f)).map(Some);
        }
        if let Some(f) = histogram_function(name) {
            return self.staged(first, steps, Stage::Histogram(f)).map(Some);
        }
        let scalar = |i: usize, default: f64| match args.get(i) {
            Some(arg) => self.scalar(arg, steps),
            None => Ok(Column::Same(default)),
        };
        Ok(Some(match name {
            "clamp" => self.staged(
                first,
                steps,
                Stage::Clamp {
                    min: scalar(1, 0.0)?,
                    max: scalar(2, 0.0)?,
                },
            )?,
            "clamp_min" => {
                let max = Column::Same(f64::INFINITY);
                self.staged(
                    first,
                    steps,
                    Stage::Clamp {
                        min: scalar(1, 0.0)?,
                        max,
                    },
                )?
            }
            "clamp_max" => {
                let min = Column::Same(f64::NEG_INFINITY);
                self.staged(
                    first,
                    steps,
                    Stage::Clamp {
                        min,
                        max: scalar(1, 0.0)?,
                    },
                )?
            }
            "round" => self.staged(first, steps, Stage::Round(scalar(1, 1.0)?))?,
            "timestamp" => match &first.kind {
                Kind::Selector(selector) => self.instants(without_offset(selector), steps, Take::Time, name)?,
                _ => self.staged(first, steps, Stage::StepTime)?,
            },
            "start_timestamp" => match &first.kind {
                Kind::Selector(selector) if self.context.use_start_times => {
                    self.instants(without_offset(selector), steps, Take::StartTime, name)?
                }
                // only a selector's samples have one
                _ => {
                    self.vector(first, steps)?;
                    self.held(self.matrix())
                }
            },
            _ => return Ok(None),
        }))
    }

    /// A range function.
    fn windows(&self, node: &'e Node<'e>, name: &'static str, args: &'e [Node<'e>], steps: &Steps) -> Result<Pipe<'e>> {
        let context = self.context;
        let (Some(function), Some(range)) = (
            range_function(name),
            args.iter().position(|a| a.value_type == ValueType::Matrix),
        ) else {
            return Err(EvalError::execution(format!("{name} needs a range vector")));
        };
        let (mut extension, mut skip_buckets) = (Extension::None, false);
        let range_node = &args[range];
        let (over, reach) = match &range_node.kind {
            Kind::Subquery(s) => {
                let (matrix, inner) = self.subquery(s, steps)?;
                (
                    Over::Subquery(matrix, inner),
                    Reach::subquery(s.range_ms, s.offset_ms, s.at),
                )
            }
            Kind::Matrix(selector, range_ms) => {
                check_extension(selector.extension, name)?;
                (extension, skip_buckets) = (selector.extension, selector.skip_buckets);
                let reach = Reach::range(selector, *range_ms, context.lookback_ms);
                let set = select::select(context, selector, &reach, steps, name, Want::Samples)?;
                (Over::Series(set), reach)
            }
            _ => return Err(EvalError::execution(format!("{name} needs a range vector"))),
        };
        let mut scalars = Vec::new();
        for (i, arg) in args.iter().enumerate() {
            if i != range {
                scalars.push(self.scalar(arg, steps)?);
            }
        }
        let uses_start_times = context.use_start_times && matches!(name, "rate" | "irate" | "increase" | "resets");
        let windows = Windows {
            context,
            over,
            function,
            reach,
            extension,
            skip_buckets,
            steps: *steps,
            args: scalars,
            pos: args.first().map_or(node.pos, |a| a.pos),
            keeps_name: matches!(name, "last_over_time" | "first_over_time"),
            uses_start_times,
        };
        Ok(Pipe {
            base: Base::Lazy(Box::new(windows)),
            stages: Vec::new(),
        })
    }

    fn subquery(&self, s: &'e Subquery<'e>, steps: &Steps) -> Result<(Matrix<'e>, Steps)> {
        let inner = s.steps(steps)?;
        let before = self.counting.replace(Counting::Off);
        let matrix = self.vector(&s.inner, &inner)?;
        self.counting.set(before);
        Ok((matrix, inner))
    }

    fn between_vectors(&self, b: &'e Binary<'e>, pos: Pos, steps: &Steps) -> Result<Matrix<'e>> {
        let left = self.vector(&b.left, steps)?;
        let right = self.vector(&b.right, steps)?;
        let Some(matching) = b.matching else {
            return Err(EvalError::execution("an operator between vectors without matching"));
        };
        let (context, op, return_bool, steps) = (self.context, b.op, b.return_bool, *steps);
        let mut notes = Notes::default();
        let out = Operator {
            context,
            op,
            matching,
            return_bool,
            pos,
            steps,
        }
        .run(left, right, &mut notes);
        self.merge_notes(notes);
        out
    }

    fn aggregate(&self, a: &'e Aggregate<'e>, pos: Pos, steps: &Steps) -> Result<Matrix<'e>> {
        if steps.count == 0 {
            return Ok(self.matrix());
        }
        if a.op == AggregateOp::CountValues {
            let Some(Kind::Text(label)) = a.param.as_ref().map(|p| &p.kind) else {
                return Err(EvalError::execution("count_values needs a label"));
            };
            check_label(label, || format!("invalid label name {}", super::super::quote(label)))?;
            let mut values = Values::new(a, label, *steps, self.matrix());
            self.stream(self.pipe(&a.expr, steps)?, steps, &mut |row| values.fold(row))?;
            return values.finish().merge_steps(steps);
        }
        let param = match &a.param {
            Some(p) => self.scalar(p, steps)?,
            None => Column::Same(0.0),
        };
        let mut notes = Notes::default();
        let param_pos = a.param.as_ref().map_or(pos, |p| p.pos);
        if !check_param(a.op, &param, param_pos, steps, &mut notes)? {
            // nothing is chosen; what is aggregated may still be wrong
            self.stream(self.pipe(&a.expr, steps)?, steps, &mut |_| Ok(()))?;
            return Ok(self.matrix());
        }
        let pipe = self.pipe(&a.expr, steps)?;
        let out = match a.op {
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio => {
                let mut choice = Choice::new(self.context, a, pos, param, steps);
                self.stream(pipe, steps, &mut |row| choice.fold(row, &mut notes))?;
                choice.finish(self.matrix())?.merge_steps(steps)?
            }
            _ => {
                let mut groups = Groups::new(self.context, a, steps);
                self.stream(pipe, steps, &mut |row| groups.fold(row, &mut notes))?;
                groups.finish(&param, &mut notes, self.matrix())?
            }
        };
        self.merge_notes(notes);
        Ok(out)
    }

    fn call(
        &self,
        node: &'e Node<'e>,
        name: &'static str,
        args: &'e [Node<'e>],
        steps: &Steps,
    ) -> Result<Evaluated<'e>> {
        let seconds = |step: usize| steps.at(step) as f64 / 1000.0;
        match name {
            "time" => return Ok(Evaluated::Scalar(self.each_step(steps, seconds)?)),
            "pi" => return Ok(Evaluated::Scalar(Column::Same(std::f64::consts::PI))),
            "min_of" | "max_of" => {
                let [a, b] = args else {
                    return Err(EvalError::execution(format!("{name} needs two numbers")));
                };
                let of = if name == "min_of" { min_of } else { max_of };
                return self.columns(&self.scalar(a, steps)?, &self.scalar(b, steps)?, steps, of);
            }
            "scalar" => return self.to_scalar(&args[0], steps).map(Evaluated::Scalar),
            _ => {}
        }
        if steps.count == 0 {
            return Ok(Evaluated::Matrix(self.matrix()));
        }
        if let Some(pipe) = self.call_pipe(node, name, args, steps)? {
            return self.collect(pipe, steps).map(Evaluated::Matrix);
        }
        let matrix = match name {
            "vector" => {
                let mut matrix = self.matrix();
                matrix.push(self.column_row(&self.scalar(&args[0], steps)?, steps)?)?;
                matrix
            }
            "absent" => self.absent(&args[0], self.pipe(&args[0], steps)?, steps)?,
            "absent_over_time" => {
                let pipe = self.windows(node, name, args, steps)?;
                self.absent(&args[0], pipe, steps)?
            }
            "sort" | "sort_desc" | "sort_by_label" | "sort_by_label_desc" => self.sort(node, name, args, steps)?,
            "label_replace" => self.label_replace(args, steps)?,
            "label_join" => self.label_join(args, steps)?,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => {
                self.of_histograms(name, args, steps)?
            }
            "info" => self.info(args, steps)?,
            _ => match dates::date_function(name) {
                Some(f) => {
                    let mut row = self.empty_row(steps)?;
                    for step in 0..steps.count {
                        // whole seconds, cut off as Go does
                        row.set(step, f((steps.at(step) / 1000) as f64));
                    }
                    let mut matrix = self.matrix();
                    matrix.push(row)?;
                    matrix
                }
                None => {
                    return Err(EvalError::execution(format!(
                        "function {name} is not known to the evaluator"
                    )));
                }
            },
        };
        Ok(Evaluated::Matrix(matrix))
    }

    /// The value of the only float at each step; NaN when there is none or more than one.
    fn to_scalar(&self, arg: &'e Node<'e>, steps: &Steps) -> Result<Column> {
        let mut charge = Charge::new(self.context.budget);
        charge.add(steps.count * 9)?;
        let mut values = vec![f64::NAN; steps.count];
        let mut found = vec![false; steps.count];
        self.stream(self.pipe(arg, steps)?, steps, &mut |row| {
            for (step, &v) in row.values.iter().enumerate() {
                if !is_absent(v) {
                    values[step] = if found[step] { f64::NAN } else { v };
                    found[step] = true;
                }
            }
            Ok(())
        })?;
        Ok(Column::Each(values))
    }

    fn absent(&self, arg: &'e Node<'e>, pipe: Pipe<'e>, steps: &Steps) -> Result<Matrix<'e>> {
        let mut row = self.empty_row(steps)?;
        row.values.fill(1.0);
        self.stream(pipe, steps, &mut |found| {
            for (out, v) in row.values.iter_mut().zip(&found.values) {
                if !is_absent(*v) {
                    *out = ABSENT;
                }
            }
            for (step, _) in &found.histograms {
                row.values[*step as usize] = ABSENT;
            }
            Ok(())
        })?;
        row.labels = match &arg.kind {
            Kind::Selector(s) | Kind::Matrix(s, _) => absent_labels(s.matchers),
            _ => Labels::empty(),
        };
        let mut out = self.matrix();
        if !row.is_empty() {
            out.push(row)?;
        }
        Ok(out)
    }

    fn sort(&self, node: &'e Node<'e>, name: &'static str, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        if !steps.is_instant() {
            self.notes.borrow_mut().sort_in_range(node.pos);
        }
        let by_value = !name.starts_with("sort_by_label");
        let mut pipe = self.pipe(&args[0], steps)?;
        if by_value {
            pipe.stages.push(Stage::FloatsOnly);
        }
        let mut matrix = self.collect(pipe, steps)?;
        if !steps.is_instant() {
            return Ok(matrix);
        }
        self.context.budget.check()?;
        let names: Vec<&str> = args[1..].iter().filter_map(text).collect();
        let descending = name.ends_with("_desc");
        let turned = |order: Ordering| if descending { order.reverse() } else { order };
        matrix.rows.sort_by(|a, b| match by_value {
            false => turned(labels::by_label(&a.labels, &b.labels, &names)),
            true => {
                let (a, b) = (a.values[0], b.values[0]);
                // NaN goes last either way
                match a.is_nan() || b.is_nan() {
                    true => nan_first(&b, &a),
                    false => turned(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
                }
            }
        });
        Ok(matrix)
    }

    fn label_replace(&self, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        let [vector, texts @ ..] = args else {
            return Ok(self.matrix());
        };
        let texts: Vec<&str> = texts.iter().filter_map(text).collect();
        let &[dst, replacement, src, pattern] = texts.as_slice() else {
            return Err(EvalError::execution("label_replace needs four strings"));
        };
        let regex = regex::RegexBuilder::new(&format!("^(?s:{pattern})$"))
            .size_limit(REGEX_BYTES_MAX)
            .dfa_size_limit(REGEX_BYTES_MAX)
            .nest_limit(250)
            .build()
            .map_err(|_| EvalError::execution(format!("invalid regular expression in label_replace(): {pattern}")))?;
        check_label(dst, || {
            format!("invalid destination label name in label_replace(): {dst}")
        })?;
        let mut matrix = self.vector(vector, steps)?;
        for row in &mut matrix.rows {
            self.context.budget.check()?;
            let value = row.labels.get(src).unwrap_or("");
            let Some(captures) = regex.captures(value) else {
                continue;
            };
            let mut new = String::new();
            labels::expand(replacement, &captures, &mut new);
            self.set_label(&mut matrix.charge, &mut row.labels, dst, &new)?;
            if dst == METRIC_NAME {
                row.drop_name = false;
            }
        }
        matrix.merge()
    }

    fn label_join(&self, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        let [vector, texts @ ..] = args else {
            return Ok(self.matrix());
        };
        let texts: Vec<&str> = texts.iter().filter_map(text).collect();
        let [dst, separator, sources @ ..] = texts.as_slice() else {
            return Err(EvalError::execution("label_join needs a label and a separator"));
        };
        for src in sources {
            check_label(src, || format!("invalid source label name in label_join(): {src}"))?;
        }
        check_label(dst, || format!("invalid destination label name in label_join(): {dst}"))?;
        let mut matrix = self.vector(vector, steps)?;
        for row in &mut matrix.rows {
            self.context.budget.check()?;
            let mut new = String::new();
            for (i, src) in sources.iter().enumerate() {
                if i > 0 {
                    new.push_str(separator);
                }
                new.push_str(row.labels.get(src).unwrap_or(""));
                if new.len() > LABELS_BYTES_MAX {
                    return Err(too_long(dst, new.len()));
                }
            }
            self.set_label(&mut matrix.charge, &mut row.labels, dst, &new)?;
            if *dst == METRIC_NAME {
                row.drop_name = false;
            }
        }
        matrix.merge()
    }

    fn set_label(&self, charge: &mut Charge<'e>, labels: &mut Labels, name: &str, value: &str) -> Result<()> {
        let bytes = labels.as_bytes().len() + name.len() + value.len();
        if bytes > LABELS_BYTES_MAX {
            return Err(too_long(name, bytes));
        }
        charge.add(bytes)?;
        *labels = labels.with(name, value);
        Ok(())
    }

    fn of_histograms(&self, name: &'static str, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        let (vector, ask) = match (name, args) {
            ("histogram_quantile", [q, vector]) => (
                vector,
                Ask::Quantile {
                    q: self.scalar(q, steps)?,
                    pos: q.pos,
                },
            ),
            ("histogram_fraction", [lower, upper, vector]) => {
                let (lower, upper) = (self.scalar(lower, steps)?, self.scalar(upper, steps)?);
                (vector, Ask::Fraction { lower, upper })
            }
            (_, [vector, label, qs @ ..]) => {
                let label = text(label).unwrap_or("");
                let qs = qs
                    .iter()
                    .map(|q| Ok((self.scalar(q, steps)?, q.pos)))
                    .collect::<Result<Vec<_>>>()?;
                (vector, Ask::Quantiles { label, qs })
            }
            _ => return Err(EvalError::execution(format!("{name} needs other arguments"))),
        };
        let input = self.vector(vector, steps)?;
        let mut notes = Notes::default();
        let out = classic::evaluate(self.context, &input, &ask, steps, vector.pos, &mut notes);
        self.merge_notes(notes);
        out
    }

    fn info(&self, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        let [vector, rest @ ..] = args else {
            return Ok(self.matrix());
        };
        let selector = rest.first().and_then(|n| match &n.kind {
            Kind::Selector(s) => Some(s.matchers),
            Kind::Invariant(inner) => match &inner.kind {
                Kind::Selector(s) => Some(s.matchers),
                _ => None,
            },
            _ => None,
        });
        let query = InfoQuery::new(selector)?;
        let base = self.vector(vector, steps)?;
        let mut info = self.matrix();
        if let Some(matchers) = query.matchers(&base)? {
            let (at, offset_ms) = first_selector_time(vector, &mut Vec::new()).unwrap_or((None, 0));
            let selector = Selector {
                matchers: &matchers,
                offset_ms,
                at,
                extension: Extension::None,
                skip_buckets: false,
                pos: vector.pos,
            };
            let context = self.context;
            let reach = Reach::instant(&selector, context.lookback_ms);
            let set = select::select(context, &selector, &reach, steps, "info", Want::Samples)?;
            let rows = Instants {
                context,
                set,
                reach,
                steps: *steps,
                take: Take::InfoTime,
                smoothed: false,
                skip_buckets: false,
                pos: vector.pos,
            };
            let mut total = Scratch::default();
            let run = self.run(steps);
            if run.count_steps {
                total.counts.by_step = vec![0; steps.count];
            }
            run.rows(&rows, &[], &mut total, &mut |row| info.push(std::mem::take(row)))?;
            self.lacking.borrow_mut().extend(rows.warnings());
            self.absorb(total);
        }
        query.combine(self.context, base, &info, steps)
    }
}

/// Bytes a compiled expression may take.
const REGEX_BYTES_MAX: usize = 10 << 20;

fn too_long(name: &str, bytes: usize) -> EvalError {
    EvalError::limit(format!(
        "the label {} would make a label set of {bytes} bytes: at most {LABELS_BYTES_MAX} are possible",
        super::super::quote(name)
    ))
}

fn check_label(name: &str, message: impl FnOnce() -> String) -> Result<()> {
    if name.is_empty() || !is_utf8(name) {
        Err(EvalError::execution(message()))
    } else {
        Ok(())
    }
}

fn text<'e>(node: &'e Node<'e>) -> Option<&'e str> {
    match &node.kind {
        Kind::Text(text) => Some(text),
        _ => None,
    }
}

/// The labels that are known of what a selector does not find.
fn absent_labels(matchers: &[Matcher]) -> Labels {
    let mut labels = Labels::empty();
    let mut seen: Vec<&str> = Vec::new();
    for m in matchers.iter().filter(|m| m.name != METRIC_NAME) {
        // a label that is matched twice is not known
        if m.op == MatchOp::Equal && !seen.contains(&m.name.as_str()) {
            labels = labels.with(&m.name, &m.value);
            seen.push(&m.name);
        } else {
            labels = labels.without(&m.name);
        }
    }
    labels
}

/// Names gone that are to go, and rows joined that then have the same labels.
fn finished(mut matrix: Matrix<'_>) -> Result<Matrix<'_>> {
    let mut dropped = false;
    for row in matrix.rows.iter_mut().filter(|r| r.drop_name) {
        row.labels = labels::without_name(&row.labels);
        row.drop_name = false;
        dropped = true;
    }
    let _ = dropped;
    matrix.merge()
}

/// Bytes that sort as [`compare_labels`] does.
fn sort_key(labels: &Labels) -> Vec<u8> {
    let mut key = Vec::with_capacity(labels.as_bytes().len() + 8);
    for text in labels.iter().flat_map(|(n, v)| [n, v]) {
        key.extend_from_slice(text.as_bytes());
        key.push(0);
    }
    debug_assert!(compare_labels(labels, labels).is_eq());
    key
}

fn check_extension(extension: Extension, function: &str) -> Result<()> {
    let (word, list, safe): (_, _, &[&str]) = match extension {
        Extension::None => return Ok(()),
        Extension::Anchored => (
            "anchored",
            "changes, delta, increase, rate, resets",
            &["changes", "delta", "increase", "rate", "resets"],
        ),
        Extension::Smoothed => ("smoothed", "delta, increase, rate", &["delta", "increase", "rate"]),
    };
    if safe.contains(&function) {
        return Ok(());
    }
    Err(EvalError::execution(format!(
        "{word} modifier can only be used with: {list} - not with {function}"
    )))
}

/// `timestamp(x @ t)` looks at t, whatever the offset says, as in Prometheus.
fn without_offset<'e>(selector: &Selector<'e>) -> Selector<'e> {
    let offset_ms = if selector.at.is_some() { 0 } else { selector.offset_ms };
    Selector { offset_ms, ..*selector }
}

/// Checks the parameter of an aggregation; false when nothing will be chosen.
fn check_param(op: AggregateOp, param: &Column, pos: Pos, steps: &Steps, notes: &mut Notes) -> Result<bool> {
    if !matches!(
        op,
        AggregateOp::TopK
            | AggregateOp::BottomK
            | AggregateOp::LimitK
            | AggregateOp::LimitRatio
            | AggregateOp::Quantile
    ) {
        return Ok(true);
    }
    let distinct = if matches!(param, Column::Same(_)) {
        steps.count.min(1)
    } else {
        steps.count
    };
    let (mut min, mut max, mut nan) = (f64::MAX, f64::MIN, false);
    for v in (0..distinct).map(|step| param.at(step)) {
        (min, max) = (min_of(min, v), max_of(max, v));
        nan |= v.is_nan();
    }
    match op {
        AggregateOp::LimitRatio => {
            if max == 0.0 && min == 0.0 {
                return Ok(false);
            }
            if nan {
                return Err(EvalError::execution("Ratio value is NaN"));
            }
            if max > 1.0 {
                notes.invalid_ratio(pos, max, 1.0);
            }
            if min < -1.0 {
                notes.invalid_ratio(pos, min, -1.0);
            }
        }
        AggregateOp::Quantile => {
            if nan {
                notes.invalid_quantile(pos, f64::NAN);
            }
            if max > 1.0 {
                notes.invalid_quantile(pos, max);
            }
            if min < 0.0 {
                notes.invalid_quantile(pos, min);
            }
        }
        _ => {
            if max < 1.0 {
                return Ok(false);
            }
            if nan {
                return Err(EvalError::execution("Parameter value is NaN"));
            }
            if min <= K_MIN {
                return Err(EvalError::execution(format!(
                    "Scalar value {} underflows int64",
                    format_g(min)
                )));
            }
            if max >= K_MAX {
                return Err(EvalError::execution(format!(
                    "Scalar value {} overflows int64",
                    format_g(max)
                )));
            }
        }
    }
    Ok(true)
}

/// The time that the first selector within looks at: its `@`, or that of the nearest subquery around it, and the
/// offsets up to there.
fn first_selector_time(node: &Node<'_>, around: &mut Vec<(Option<i64>, i64)>) -> Option<(Option<i64>, i64)> {
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => None,
        Kind::Selector(s) | Kind::Matrix(s, _) => {
            let (mut at, mut offset) = (s.at, s.offset_ms);
            for (outer_at, outer_offset) in around.iter().rev() {
                if at.is_some() {
                    break;
                }
                offset = offset.saturating_add(*outer_offset);
                at = *outer_at;
            }
            Some((at, offset))
        }
        Kind::Negate(inner) | Kind::Invariant(inner) => first_selector_time(inner, around),
        Kind::Binary(b) => first_selector_time(&b.left, around).or_else(|| first_selector_time(&b.right, around)),
        Kind::Aggregate(a) => first_selector_time(&a.expr, around)
            .or_else(|| a.param.as_ref().and_then(|p| first_selector_time(p, around))),
        Kind::Call(_, args) => args.iter().find_map(|a| first_selector_time(a, around)),
        Kind::Subquery(s) => {
            around.push((s.at, s.offset_ms));
            let found = first_selector_time(&s.inner, around);
            around.pop();
            found
        }
    }
}
