//! Functions that look at a whole vector, or at none.

use std::cmp::Ordering;
use std::rc::Rc;

use model::{Labels, METRIC_NAME, MatchOp, Matcher, Pattern, Want};

use super::super::ast::Extension;
use super::super::{is_utf8, max_of, min_of, quote};
use super::classic::{self, Ask};
use super::engine::{Engine, Evaluated, Pipe};
use super::info::InfoQuery;
use super::instant::{Instants, Take};
use super::labels::{self, LABELS_BYTES_MAX, Template};
use super::matrix::{ABSENT, Charge, Matrix, Steps, is_absent};
use super::notes::Notes;
use super::numbers::nan_first;
use super::plan::{Kind, Node, Selector};
use super::select::{self, Reach};
use super::stages::Stage;
use super::window::Column;
use super::{EvalError, Result, dates, order};

/// Compiled expressions that a query keeps; each may take megabytes.
const PATTERNS_MAX: usize = 4;

impl<'e> Engine<'e> {
    pub(super) fn call(
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
                return self.columns(self.scalar(a, steps)?, self.scalar(b, steps)?, steps, of);
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
                matrix.push(self.column_row(self.scalar(&args[0], steps)?, steps)?)?;
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
        self.take_columns(steps.count * size_of::<f64>())?;
        let mut charge = Charge::new(self.context.budget);
        charge.add(steps.count)?;
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
        let by_value = !name.starts_with("sort_by_label");
        let mut pipe = self.pipe(&args[0], steps)?;
        if by_value {
            pipe.stages.push(Stage::FloatsOnly);
        }
        let mut matrix = self.collect(pipe, steps)?;
        if !steps.is_instant() {
            self.notes.borrow_mut().sort_in_range(node.pos);
            return Ok(matrix);
        }
        let names: Vec<&str> = args[1..].iter().filter_map(text).collect();
        let descending = name.ends_with("_desc");
        let turned = |order: Ordering| if descending { order.reverse() } else { order };
        order::sort(&mut matrix.rows, self.context.budget, |a, b| match by_value {
            false => turned(labels::by_label(&a.labels, &b.labels, &names)),
            true => {
                let (a, b) = (a.values[0], b.values[0]);
                // NaN goes last either way
                match a.is_nan() || b.is_nan() {
                    true => nan_first(&b, &a),
                    false => turned(a.partial_cmp(&b).unwrap_or(Ordering::Equal)),
                }
            }
        })?;
        Ok(matrix)
    }

    fn label_replace(&self, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        let [vector, texts @ ..] = args else {
            return Ok(self.matrix());
        };
        let texts: Vec<&str> = texts.iter().filter_map(text).collect();
        let &[dst, replacement, src, regex] = texts.as_slice() else {
            return Err(EvalError::execution("label_replace needs four strings"));
        };
        let pattern = self.pattern(regex)?;
        check_label(dst, || {
            format!("invalid destination label name in label_replace(): {dst}")
        })?;
        let mut matrix = self.vector(vector, steps)?;
        let template = Template::new(replacement, &pattern);
        let mut places = pattern.regex().capture_locations();
        let mut new = String::new();
        for row in &mut matrix.rows {
            self.context.budget.check()?;
            let value = row.labels.get(src).unwrap_or("");
            new.clear();
            if regex == "(.*)" && replacement == "$1" {
                new.push_str(value);
            } else if pattern.regex().captures_read(&mut places, value).is_some() {
                template.expand(value, &places, &mut new);
            } else {
                continue;
            }
            self.set_label(&mut matrix.charge, &mut row.labels, dst, &new)?;
            if dst == METRIC_NAME {
                row.drop_name = false;
            }
        }
        matrix.merge()
    }

    /// The compiled expression. The last ones are kept: queries have the same again, and compiling costs more than replacing.
    fn pattern(&self, regex: &'e str) -> Result<Rc<Pattern>> {
        if let Some((_, known)) = self.patterns.borrow().iter().find(|p| p.0 == regex) {
            return Ok(Rc::clone(known));
        }
        let pattern = Pattern::anchored(regex)
            .map_err(|_| EvalError::execution(format!("invalid regular expression in label_replace(): {regex}")))?;
        let pattern = Rc::new(pattern);
        let mut kept = self.patterns.borrow_mut();
        if kept.len() == PATTERNS_MAX {
            kept.remove(0);
        }
        kept.push((regex, Rc::clone(&pattern)));
        Ok(pattern)
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
        let mut new = String::new();
        for row in &mut matrix.rows {
            self.context.budget.check()?;
            new.clear();
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
        let before = labels.as_bytes().len();
        *labels = labels.with(name, value);
        let grown = labels.as_bytes().len().saturating_sub(before);
        charge.give_back(bytes.saturating_sub(grown));
        Ok(())
    }

    fn of_histograms(&self, name: &'static str, args: &'e [Node<'e>], steps: &Steps) -> Result<Matrix<'e>> {
        // arguments are evaluated in their order: of equal notes the last one's place is told
        let first = match (name, args.first()) {
            ("histogram_quantiles", Some(vector)) => Some(self.vector(vector, steps)?),
            _ => None,
        };
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
        let input = match first {
            Some(input) => input,
            None => self.vector(vector, steps)?,
        };
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
        if let Some(matchers) = query.matchers(&base) {
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
            let reach = Reach::instant(&selector, context.lookback_ms).every_sample();
            let set = select::select(context, &selector, &reach, steps, "info", Want::Samples)?;
            let rows = Instants {
                context,
                set,
                reach,
                steps: *steps,
                take: Take::InfoTime,
                smoothed: false,
                skip_buckets: false,
                wants_labels: true,
                pos: vector.pos,
            };
            info = self.collect(Pipe::lazy(rows), steps)?;
        }
        query.combine(self.context, base, &info, steps)
    }
}

fn too_long(name: &str, bytes: usize) -> EvalError {
    EvalError::limit(format!(
        "the label {} would make a label set of {bytes} bytes: at most {LABELS_BYTES_MAX} are possible",
        quote(name)
    ))
}

pub(super) fn check_label(name: &str, message: impl FnOnce() -> String) -> Result<()> {
    if name.is_empty() || !is_utf8(name) {
        Err(EvalError::execution(message()))
    } else {
        Ok(())
    }
}

pub(super) fn text<'e>(node: &'e Node<'e>) -> Option<&'e str> {
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
        Kind::Plus(inner) | Kind::Negate(inner) | Kind::Invariant(inner) => first_selector_time(inner, around),
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
