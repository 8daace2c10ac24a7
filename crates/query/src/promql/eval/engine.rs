use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use model::{Labels, Pattern, Want};

use super::super::ast::{AggregateOp, BinaryOp, Extension, Matching, Pos, ValueType};
use super::super::value::Value;
use super::aggregate::Groups;
use super::binary::{self, Operator, Union};
use super::calls::check_label;
use super::cost::subquery_cost;
use super::count_values::Values;
use super::instant::{Instants, Take};
use super::matrix::{Charge, Matrix, Row, Steps, fits};
use super::notes::Notes;
use super::params::{check_extension, check_param};
use super::pipeline::{Counts, Rows, Run, Scratch};
use super::plan::{Aggregate, Binary, Kind, Node, Plan, Selector, Subquery};
use super::select::{self, Reach};
use super::stages::{Stage, float_function, histogram_function};
use super::topk::Choice;
use super::trace::Trace;
use super::watched::Watched;
use super::window::{Column, Over, SAMPLE_BYTES, Windows, range_function};
use super::{Answer, EvalContext, EvalError, EvalErrorKind, Query, Result, Stats};

pub(super) enum Evaluated<'e> {
    Scalar(Column),
    Matrix(Matrix<'e>),
    Text(&'e str),
}

/// Rows to come, and what is done to each of them.
pub(super) struct Pipe<'e> {
    pub(super) base: Base<'e>,
    pub(super) stages: Vec<Stage>,
    /// Places in the trace of the nodes that the base and the stages stand for; only when it is asked.
    pub(super) places: Vec<usize>,
}

impl<'e> Pipe<'e> {
    pub(super) fn lazy(rows: impl Rows + 'e) -> Self {
        Pipe {
            base: Base::Lazy(Box::new(rows)),
            stages: Vec::new(),
            places: Vec::new(),
        }
    }
}

pub(super) enum Base<'e> {
    Lazy(Box<dyn Rows + 'e>),
    Held(Matrix<'e>),
}

/// How samples looked at count.
#[derive(Clone, Copy)]
pub(super) enum Counting {
    /// At their steps.
    Steps,
    /// Once for each of so many steps.
    Times(usize),
    /// Not: the window over the subquery counts them.
    Off,
}

pub(super) struct Engine<'e> {
    pub(super) context: &'e EvalContext<'e>,
    trace: &'e Trace,
    pub(super) notes: RefCell<Notes>,
    pub(super) lacking: RefCell<Vec<String>>,
    /// Where samples came from, as far as that is worth knowing.
    pub(super) told: RefCell<BTreeSet<String>>,
    pub(super) counts: RefCell<Counts>,
    pub(super) counting: Cell<Counting>,
    peak: Cell<u64>,
    /// Whether the labels of the next selector matter.
    wants_labels: Cell<bool>,
    /// Values of scalars by step.
    columns: RefCell<Charge<'e>>,
    /// Expressions of `label_replace`, compiled last.
    pub(super) patterns: RefCell<Vec<(&'e str, Rc<Pattern>)>>,
}

/// Evaluates a plan.
pub(super) fn run(plan: &Plan<'_>, context: &EvalContext<'_>, query: Query) -> Result<Answer> {
    let quiet = Trace::quiet();
    let trace = context.trace.unwrap_or(&quiet);
    let context = EvalContext {
        trace: Some(trace),
        ..*context
    };
    trace.begin(plan, context.text);
    traced(plan, &context, trace, query).map_err(|e| blamed(e, trace))
}

/// Errors about memory name the selector that most of it is for.
fn blamed(mut e: EvalError, trace: &Trace) -> EvalError {
    if e.kind == EvalErrorKind::Limit
        && e.message.contains("bytes_max)")
        && let Some(widest) = trace.widest()
    {
        e.message.push_str(&format!(
            "; most series, {}, are those of selector {}",
            widest.series, widest.text
        ));
    }
    e
}

fn traced(plan: &Plan<'_>, context: &EvalContext<'_>, trace: &Trace, query: Query) -> Result<Answer> {
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
        trace,
        notes: RefCell::default(),
        lacking: RefCell::default(),
        told: RefCell::default(),
        counts: RefCell::default(),
        counting: Cell::new(Counting::Steps),
        peak: Cell::new(0),
        wants_labels: Cell::new(true),
        columns: RefCell::new(Charge::new(context.budget)),
        patterns: RefCell::default(),
    };
    if context.per_step_stats {
        let mut charge = Charge::new(context.budget);
        charge.add(steps.count * 8)?;
        engine.counts.borrow_mut().by_step = vec![0; steps.count];
    }
    let value = engine.value(&plan.root, &steps, query)?;
    Ok(engine.answer(value, &steps))
}

impl<'e> Engine<'e> {
    fn answer(self, value: Value, steps: &Steps) -> Answer {
        let (warnings, mut infos) = self.notes.into_inner().render(self.context.text);
        infos.splice(0..0, self.told.into_inner());
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

    pub(super) fn trace(&self) -> &'e Trace {
        self.trace
    }

    pub(super) fn matrix(&self) -> Matrix<'e> {
        Matrix::new(self.context.budget)
    }

    pub(super) fn run(&self, steps: &Steps) -> Run {
        let context = self.context;
        let count_steps = context.per_step_stats && matches!(self.counting.get(), Counting::Steps);
        Run {
            steps: *steps,
            threads: context.threads,
            count_steps,
        }
    }

    pub(super) fn absorb(&self, part: Scratch) {
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

    pub(super) fn merge_notes(&self, notes: Notes) {
        if !notes.is_empty() {
            self.notes.borrow_mut().merge(notes);
        }
    }

    /// A node that is a vector.
    pub(super) fn vector(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Matrix<'e>> {
        Ok(match self.eval(node, steps)? {
            Evaluated::Matrix(m) => m,
            Evaluated::Scalar(c) => {
                let mut matrix = self.matrix();
                if steps.count > 0 {
                    matrix.push(self.column_row(c, steps)?)?;
                }
                matrix
            }
            Evaluated::Text(_) => self.matrix(),
        })
    }

    pub(super) fn column_row(&self, column: Column, steps: &Steps) -> Result<Row> {
        let mut row = self.empty_row(steps)?;
        for step in 0..steps.count {
            if step % 65_536 == 0 {
                self.context.budget.check()?;
            }
            row.set(step, column.at(step));
        }
        self.give_back(&column);
        Ok(row)
    }

    /// A column goes away.
    fn give_back(&self, column: &Column) {
        if let Column::Each(values) = column {
            self.columns.borrow_mut().give_back(values.len() * size_of::<f64>());
        }
    }

    /// Charges for columns of so many bytes that this evaluation will hold.
    pub(super) fn take_columns(&self, bytes: usize) -> Result<()> {
        self.columns.borrow_mut().add(bytes)
    }

    /// Checked against the budget before it is made.
    pub(super) fn empty_row(&self, steps: &Steps) -> Result<Row> {
        fits(self.context.budget, Row::bytes(steps.count))?;
        Ok(Row::new(Labels::empty(), false, steps.count))
    }

    /// A node that is a scalar.
    pub(super) fn scalar(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Column> {
        match self.eval(node, steps)? {
            Evaluated::Scalar(c) => Ok(c),
            _ => Err(EvalError::execution("unexpected vector in the place of a scalar")),
        }
    }

    pub(super) fn each_step(&self, steps: &Steps, f: impl Fn(usize) -> f64) -> Result<Column> {
        self.take_columns(steps.count * size_of::<f64>())?;
        Ok(Column::Each((0..steps.count).map(f).collect()))
    }

    pub(super) fn eval(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Evaluated<'e>> {
        if !self.trace.explains() {
            return self.evaluated(node, steps);
        }
        let frame = self.trace.enter(node, steps.count);
        let evaluated = self.evaluated(node, steps)?;
        let series = match &evaluated {
            Evaluated::Matrix(m) => m.rows.len(),
            Evaluated::Scalar(_) | Evaluated::Text(_) => 0,
        };
        self.trace.exit(frame, Some(series));
        Ok(evaluated)
    }

    fn evaluated(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Evaluated<'e>> {
        self.context.budget.check()?;
        match &node.kind {
            Kind::Number(v) => Ok(Evaluated::Scalar(Column::Same(*v))),
            Kind::Text(text) => Ok(Evaluated::Text(text)),
            Kind::Invariant(inner) => self.invariant(inner, steps),
            Kind::Plus(inner) => self.eval(inner, steps),
            Kind::Negate(inner) if node.value_type == ValueType::Scalar => {
                Ok(Evaluated::Scalar(match self.scalar(inner, steps)? {
                    Column::Same(v) => Column::Same(-v),
                    Column::Each(v) => Column::Each(v.into_iter().map(|v| -v).collect()),
                }))
            }
            Kind::Binary(b) if node.value_type == ValueType::Scalar => {
                let (left, right) = (self.scalar(&b.left, steps)?, self.scalar(&b.right, steps)?);
                self.columns(left, right, steps, |a, c| binary::scalars(b.op, a, c))
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

    pub(super) fn columns(
        &self,
        left: Column,
        right: Column,
        steps: &Steps,
        f: impl Fn(f64, f64) -> f64,
    ) -> Result<Evaluated<'e>> {
        if let (Column::Same(a), Column::Same(b)) = (&left, &right) {
            return Ok(Evaluated::Scalar(Column::Same(f(*a, *b))));
        }
        let out = self.each_step(steps, |step| f(left.at(step), right.at(step)))?;
        self.give_back(&left);
        self.give_back(&right);
        Ok(Evaluated::Scalar(out))
    }

    /// What does not depend on the step: evaluated at the first, then repeated.
    fn invariant(&self, inner: &'e Node<'e>, steps: &Steps) -> Result<Evaluated<'e>> {
        if steps.count == 0 {
            return Ok(Evaluated::Matrix(self.matrix()));
        }
        let outer = self.counting.get();
        match outer {
            Counting::Steps => self.counting.set(Counting::Times(steps.count)),
            Counting::Times(n) => self.counting.set(Counting::Times(n.saturating_mul(steps.count))),
            Counting::Off => {}
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
    pub(super) fn collect(&self, pipe: Pipe<'e>, steps: &Steps) -> Result<Matrix<'e>> {
        let out = match pipe.base {
            Base::Held(matrix) => self.in_place(matrix, &pipe.stages, steps)?,
            base => {
                let mut out = self.matrix();
                let pipe = Pipe { base, ..pipe };
                self.stream(pipe, steps, &mut |row| out.push(std::mem::take(row)))?;
                out
            }
        };
        let points = out.rows.len() as u64 * steps.count as u64;
        self.peak.set(self.peak.get().max(points));
        Ok(out)
    }

    /// Applies stages to rows that are there.
    fn in_place(&self, mut matrix: Matrix<'e>, stages: &[Stage], steps: &Steps) -> Result<Matrix<'e>> {
        if stages.is_empty() {
            return Ok(matrix);
        }
        let run = self.run(steps);
        let mut notes = Notes::default();
        matrix.retain(|row| {
            run.apply(stages, row, &mut notes);
            !row.is_empty()
        })?;
        self.merge_notes(notes);
        Ok(matrix)
    }

    /// Runs a pipeline; each row is given away as soon as it is there.
    pub(super) fn stream(
        &self,
        pipe: Pipe<'e>,
        steps: &Steps,
        take: &mut dyn FnMut(&mut Row) -> Result<()>,
    ) -> Result<()> {
        let mut run = self.run(steps);
        let mut total = Scratch::default();
        let mut charge = Charge::new(self.context.budget);
        if run.count_steps {
            charge.add(steps.count * size_of::<u64>())?;
            total.counts.by_step = vec![0; steps.count];
        }
        match pipe.base {
            Base::Lazy(rows) => {
                run.take_memory(rows.as_ref(), &mut charge)?;
                if self.trace.explains() {
                    self.watched(&run, (rows.as_ref(), &pipe.stages, pipe.places), &mut total, take)?;
                } else {
                    run.rows(rows.as_ref(), &pipe.stages, &mut total, take)?;
                }
                self.lacking.borrow_mut().extend(rows.warnings());
                self.told.borrow_mut().extend(rows.infos());
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

    /// Runs rows of an explained query.
    fn watched(
        &self,
        run: &Run,
        (rows, stages, mut places): (&dyn Rows, &[Stage], Vec<usize>),
        total: &mut Scratch,
        take: &mut dyn FnMut(&mut Row) -> Result<()>,
    ) -> Result<()> {
        // a function that is evaluated for itself has put its own last stage there
        places.resize(stages.len() + 1, self.trace.place(None));
        let before = self.trace.reading(places[0]);
        let watched = Watched::new(rows, stages, &run.steps, self.trace);
        let began = self.trace.now();
        let mut taking = Duration::ZERO;
        run.rows(&watched, &[], total, &mut |row| {
            let since = self.trace.now();
            take(row)?;
            taking += self.trace.now().saturating_sub(since);
            Ok(())
        })?;
        let wall = self.trace.now().saturating_sub(began).saturating_sub(taking);
        let read = self.trace.reading(places[0]).saturating_sub(before);
        let spent = places.into_iter().zip(watched.spent());
        let spent: Vec<_> = spent.map(|(place, (ns, rows))| (place, ns, rows)).collect();
        self.trace.streamed(&spent, read, wall);
        Ok(())
    }

    /// The pipeline of a vector: what can be done series by series is put off.
    pub(super) fn pipe(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Pipe<'e>> {
        if !self.trace.explains() {
            return self.put_off(node, steps);
        }
        let frame = self.trace.enter(node, steps.count);
        let mut pipe = self.put_off(node, steps)?;
        let place = self.trace.place(Some(node));
        pipe.places.resize(pipe.stages.len() + 1, place);
        self.trace.exit(frame, None);
        Ok(pipe)
    }

    fn put_off(&self, node: &'e Node<'e>, steps: &Steps) -> Result<Pipe<'e>> {
        if steps.count == 0 {
            return Ok(self.held(self.matrix()));
        }
        match &node.kind {
            Kind::Selector(selector) => self.instants(*selector, steps, Take::Value, ""),
            Kind::Plus(inner) => self.pipe(inner, steps),
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
            places: Vec::new(),
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
        // a last sample may come without its start time, and is the last of what is looked at with the offset
        let in_place = matches!(take, Take::Value) || selector.at.is_none() || selector.offset_ms == 0;
        let plain = !smoothed && !selector.skip_buckets && function != "start_timestamp" && in_place;
        let want = if steps.count == 1 && plain {
            Want::Last
        } else {
            Want::Samples
        };
        let asked = match take {
            Take::Value => reach,
            _ => reach.every_sample(),
        };
        let set = select::select(context, &selector, &asked, steps, function, want)?;
        let reach = match take {
            Take::Value => reach,
            _ => Reach::instant(&without_offset(&selector), context.lookback_ms),
        };
        let (skip_buckets, pos, steps) = (selector.skip_buckets, selector.pos, *steps);
        let rows = Instants {
            context,
            set,
            reach,
            steps,
            take,
            smoothed,
            skip_buckets,
            wants_labels: self.wants_labels.replace(true),
            pos,
        };
        Ok(Pipe::lazy(rows))
    }

    /// Functions that work series by series; `None` for all others.
    pub(super) fn call_pipe(
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
            "clamp" | "clamp_min" | "clamp_max" | "round" => {
                // arguments are evaluated in their order: of two errors, the first one's is told
                let mut pipe = self.pipe(first, steps)?;
                pipe.stages.push(match name {
                    "clamp" => Stage::Clamp {
                        min: scalar(1, 0.0)?,
                        max: scalar(2, 0.0)?,
                    },
                    "clamp_min" => Stage::Clamp {
                        min: scalar(1, 0.0)?,
                        max: Column::Same(f64::INFINITY),
                    },
                    "clamp_max" => Stage::Clamp {
                        min: Column::Same(f64::NEG_INFINITY),
                        max: scalar(1, 0.0)?,
                    },
                    _ => Stage::Round(scalar(1, 1.0)?),
                });
                pipe
            }
            "timestamp" => match &first.kind {
                Kind::Selector(selector) => self.instants(*selector, steps, Take::Time, name)?,
                _ => self.staged(first, steps, Stage::StepTime)?,
            },
            "start_timestamp" => match &first.kind {
                Kind::Selector(selector) if self.context.use_start_times => {
                    self.instants(*selector, steps, Take::StartTime, name)?
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
    pub(super) fn windows(
        &self,
        node: &'e Node<'e>,
        name: &'static str,
        args: &'e [Node<'e>],
        steps: &Steps,
    ) -> Result<Pipe<'e>> {
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
            // Prometheus forgets where a subquery stood
            pos: match args.first() {
                Some(Node {
                    kind: Kind::Subquery(_),
                    ..
                }) => Pos::default(),
                Some(first) => first.pos,
                None => node.pos,
            },
            keeps_name: matches!(name, "last_over_time" | "first_over_time"),
            uses_start_times,
        };
        Ok(Pipe::lazy(windows))
    }

    fn subquery(&self, s: &'e Subquery<'e>, steps: &Steps) -> Result<(Matrix<'e>, Steps)> {
        let inner = s.steps(steps)?;
        // one row, and the samples made of it: tell at once that there is no room for them
        fits(
            self.context.budget,
            Row::bytes(inner.count) + inner.count * SAMPLE_BYTES,
        )?;
        let before = self.counting.replace(Counting::Off);
        let matrix = self.vector(&s.inner, &inner)?;
        self.counting.set(before);
        Ok((matrix, inner))
    }

    fn between_vectors(&self, b: &'e Binary<'e>, pos: Pos, steps: &Steps) -> Result<Matrix<'e>> {
        let Some(matching) = b.matching else {
            return Err(EvalError::execution("an operator between vectors without matching"));
        };
        if b.op == BinaryOp::Or {
            return self.union(b, matching, steps);
        }
        let left = self.vector(&b.left, steps)?;
        let right = self.vector(&b.right, steps)?;
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

    /// `or`, with those on its left that match alike: what they yield is looked at once.
    fn union(&self, b: &'e Binary<'e>, matching: &'e Matching, steps: &Steps) -> Result<Matrix<'e>> {
        let mut operands = vec![&b.right];
        let mut left = &b.left;
        while let Kind::Binary(inner) = &left.kind
            && inner.op == BinaryOp::Or
            && inner.matching == Some(matching)
        {
            operands.push(&inner.right);
            left = &inner.left;
        }
        operands.push(left);
        let mut union = Union::new(self.context, matching, steps);
        for (i, operand) in operands.iter().enumerate().rev() {
            union.add(self.vector(operand, steps)?, i == 0)?;
        }
        union.finish(steps)
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
        let chooses = matches!(
            a.op,
            AggregateOp::TopK | AggregateOp::BottomK | AggregateOp::LimitK | AggregateOp::LimitRatio
        );
        if !chooses && !a.without && a.grouping.is_empty() && matches!(a.expr.kind, Kind::Selector(_)) {
            // all in one group
            self.wants_labels.set(false);
        }
        let pipe = self.pipe(&a.expr, steps)?;
        let out = if chooses {
            let mut choice = Choice::new(self.context, a, pos, param, steps);
            self.stream(pipe, steps, &mut |row| choice.fold(row, &mut notes))?;
            choice.finish(self.matrix())?.merge_steps(steps)?
        } else {
            let mut groups = Groups::new(self.context, a, steps);
            self.stream(pipe, steps, &mut |row| groups.fold(row, &mut notes))?;
            groups.finish(&param, &mut notes, self.matrix())?
        };
        self.merge_notes(notes);
        Ok(out)
    }
}

/// `timestamp(x @ t)` looks at t, whatever the offset says, as in Prometheus; at samples that were selected with it.
fn without_offset<'e>(selector: &Selector<'e>) -> Selector<'e> {
    let offset_ms = if selector.at.is_some() { 0 } else { selector.offset_ms };
    Selector { offset_ms, ..*selector }
}
