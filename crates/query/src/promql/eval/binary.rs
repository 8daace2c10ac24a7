//! Operators between two vectors. Series that share a signature are matched on their own, column by column where one
//! meets one, step by step where several meet.

use std::collections::HashMap;
use std::sync::Arc;

use model::{Budget, Histogram, Labels, ResetHint};

use super::super::ast::{BinaryOp, Cardinality, Matching, Pos};
use super::labels::{Ordinals, display, is_metric_label, match_labels};
use super::matrix::{ABSENT, Cell, Charge, Matrix, Row, Steps, fits, is_absent, label_bytes};
use super::notes::{Notes, Operation};
use super::order::{self, Signatures};
use super::{EvalContext, EvalError, Result, arith};

pub(super) fn compare(op: BinaryOp, a: f64, b: f64) -> bool {
    match op {
        BinaryOp::Eq => a == b,
        BinaryOp::Ne => a != b,
        BinaryOp::Lt => a < b,
        BinaryOp::Le => a <= b,
        BinaryOp::Gt => a > b,
        BinaryOp::Ge => a >= b,
        _ => false,
    }
}

pub(super) fn arithmetic(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op {
        BinaryOp::Add => a + b,
        BinaryOp::Sub => a - b,
        BinaryOp::Mul => a * b,
        BinaryOp::Div => a / b,
        BinaryOp::Mod => a % b,
        BinaryOp::Pow => a.powf(b),
        BinaryOp::Atan2 => a.atan2(b),
        _ => f64::NAN,
    }
}

/// Whether the result is another quantity than the operands.
pub(super) fn drops_name(op: BinaryOp) -> bool {
    use BinaryOp::*;
    matches!(op, Add | Sub | Mul | Div | Mod | Pow | Atan2)
}

/// Of two scalars; a comparison gives 0 or 1.
pub(super) fn scalars(op: BinaryOp, a: f64, b: f64) -> f64 {
    match op.is_comparison() {
        true => f64::from(u8::from(compare(op, a, b))),
        false => arithmetic(op, a, b),
    }
}

/// What an operation yields for two points.
enum Outcome {
    Float(f64),
    Histogram(Arc<Histogram>),
    /// A comparison that does not hold.
    Dropped,
}

/// What is to be said of two points; the last of a step counts.
#[derive(Clone, Copy)]
enum Remark {
    Types(&'static str, &'static str),
    Layout,
    Collision(Operation),
    Reconciled(Operation),
}

impl Remark {
    fn note(self, op: BinaryOp, pos: Pos, notes: &mut Notes) {
        match self {
            Remark::Types(left, right) => notes.incompatible_types(pos, left, op.as_str(), right),
            Remark::Layout => notes.incompatible_buckets_in_operator(pos, op.as_str()),
            Remark::Collision(operation) => notes.reset_collision(pos, operation),
            Remark::Reconciled(operation) => notes.bounds_reconciled(pos, operation),
        }
    }
}

/// One operation on two points; `Err` when they yield nothing.
fn operate(op: BinaryOp, a: Cell<'_>, b: Cell<'_>) -> (Result<Outcome, ()>, Option<Remark>) {
    let keep = |h: &Arc<Histogram>, holds: bool| match holds {
        true => Ok(Outcome::Histogram(Arc::clone(h))),
        false => Ok(Outcome::Dropped),
    };
    let made = |h: Histogram| (Ok(Outcome::Histogram(Arc::new(h))), None);
    match (a, b) {
        (Cell::Float(a), Cell::Float(b)) => match op {
            BinaryOp::TrimLower | BinaryOp::TrimUpper => (Err(()), Some(Remark::Types("float", "float"))),
            op if op.is_comparison() => match compare(op, a, b) {
                true => (Ok(Outcome::Float(a)), None),
                false => (Ok(Outcome::Dropped), None),
            },
            op => (Ok(Outcome::Float(arithmetic(op, a, b))), None),
        },
        (Cell::Float(a), Cell::Histogram(b)) => match op {
            BinaryOp::Mul => made(arith::scaled(b, a)),
            _ => (Err(()), Some(Remark::Types("float", "histogram"))),
        },
        (Cell::Histogram(a), Cell::Float(b)) => match op {
            BinaryOp::Mul => made(arith::scaled(a, b)),
            BinaryOp::Div => made(arith::divided(a, b)),
            BinaryOp::TrimUpper => made(arith::trimmed(a, b, true)),
            BinaryOp::TrimLower => made(arith::trimmed(a, b, false)),
            _ => (Err(()), Some(Remark::Types("histogram", "float"))),
        },
        (Cell::Histogram(a), Cell::Histogram(b)) => match op {
            BinaryOp::Add | BinaryOp::Sub => {
                let mut h = Histogram::clone(a);
                let is_sum = op == BinaryOp::Add;
                let did = if is_sum {
                    arith::add(&mut h, b)
                } else {
                    arith::sub(&mut h, b)
                };
                let Ok(did) = did else {
                    return (Err(()), Some(Remark::Layout));
                };
                if !is_sum {
                    h.reset_hint = ResetHint::Gauge;
                }
                let operation = if is_sum {
                    Operation::Addition
                } else {
                    Operation::Subtraction
                };
                // Prometheus takes a collision for an error and yields nothing
                if did.collision {
                    return (Err(()), Some(Remark::Collision(operation)));
                }
                arith::compact(&mut h);
                let remark = did.reconciled.then_some(Remark::Reconciled(operation));
                (Ok(Outcome::Histogram(Arc::new(h))), remark)
            }
            BinaryOp::Eq => (keep(a, arith::equal(a, b)), None),
            BinaryOp::Ne => (keep(a, !arith::equal(a, b)), None),
            _ => (Err(()), Some(Remark::Types("histogram", "histogram"))),
        },
    }
}

/// What an operator between vectors knows.
pub(super) struct Operator<'a> {
    pub(super) context: &'a EvalContext<'a>,
    pub(super) op: BinaryOp,
    pub(super) matching: &'a Matching,
    pub(super) return_bool: bool,
    pub(super) pos: Pos,
    pub(super) steps: Steps,
}

/// Rows of one side by signature.
fn by_signature(rows: &[Row], signatures: &mut Signatures<'_>, charge: &mut Charge<'_>) -> Result<Vec<usize>> {
    charge.add(rows.len() * size_of::<usize>())?;
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        charge.check()?;
        out.push(signatures.number(&row.labels)?);
    }
    Ok(out)
}

/// Which signatures have a point, by step.
struct Presence<'a> {
    signatures: Signatures<'a>,
    steps: usize,
    slots: Vec<bool>,
    charge: Charge<'a>,
}

impl<'a> Presence<'a> {
    fn new(matching: &'a Matching, budget: &'a Budget, steps: usize) -> Self {
        Presence {
            signatures: Signatures::new(matching, budget),
            steps,
            slots: Vec::new(),
            charge: Charge::new(budget),
        }
    }

    fn add(&mut self, row: &Row) -> Result<()> {
        self.charge.check()?;
        let signature = self.signatures.number(&row.labels)?;
        let first = signature * self.steps;
        if first == self.slots.len() {
            // a list has room for twice as many
            self.charge.add(2 * self.steps)?;
            self.slots.resize(first + self.steps, false);
        }
        let slots = &mut self.slots[first..][..self.steps];
        for (slot, v) in slots.iter_mut().zip(&row.values) {
            *slot |= !is_absent(*v);
        }
        for (step, _) in &row.histograms {
            slots[*step as usize] = true;
        }
        Ok(())
    }

    /// Leaves the points of a row whose signature is, or is not, present at their step; false when none is left.
    fn filter(&mut self, row: &mut Row, wanted: bool) -> bool {
        let Some(signature) = self.signatures.find(&row.labels) else {
            return !wanted && !row.is_empty();
        };
        let slots = &self.slots[signature * self.steps..][..self.steps];
        for (v, &slot) in row.values.iter_mut().zip(slots) {
            if slot != wanted {
                *v = ABSENT;
            }
        }
        row.histograms.retain(|h| slots[h.0 as usize] == wanted);
        !row.is_empty()
    }
}

/// A chain of `or`: what each operand has is added to what those before it have.
pub(super) struct Union<'a> {
    presence: Presence<'a>,
    out: Matrix<'a>,
}

impl<'a> Union<'a> {
    pub(super) fn new(context: &EvalContext<'a>, matching: &'a Matching, steps: &Steps) -> Self {
        Union {
            presence: Presence::new(matching, context.budget, steps.count),
            out: Matrix::new(context.budget),
        }
    }

    /// Adds an operand; nothing is looked up in the last one.
    pub(super) fn add(&mut self, mut operand: Matrix<'a>, is_last: bool) -> Result<()> {
        operand.retain(|row| self.presence.filter(row, false))?;
        if !is_last {
            for row in &operand.rows {
                self.presence.add(row)?;
            }
        }
        self.out.append(operand);
        Ok(())
    }

    pub(super) fn finish(self, steps: &Steps) -> Result<Matrix<'a>> {
        drop(self.presence);
        self.out.merge_steps(steps)
    }
}

impl<'a> Operator<'a> {
    pub(super) fn run(&self, left: Matrix<'a>, right: Matrix<'a>, notes: &mut Notes) -> Result<Matrix<'a>> {
        let budget = self.context.budget;
        match self.op {
            BinaryOp::And | BinaryOp::Unless => return self.filter(left, right),
            BinaryOp::Or => {
                let mut union = Union::new(self.context, self.matching, &self.steps);
                union.add(left, false)?;
                union.add(right, true)?;
                return union.finish(&self.steps);
            }
            _ => {}
        }
        let mut charge = Charge::new(budget);
        let mut signatures = Signatures::new(self.matching, budget);
        let of_left = by_signature(&left.rows, &mut signatures, &mut charge)?;
        let of_right = by_signature(&right.rows, &mut signatures, &mut charge)?;
        let count = signatures.len();
        drop(signatures);
        self.match_up(&left, &right, &of_left, &of_right, count, notes)
    }

    /// `and`, `unless`.
    fn filter(&self, mut left: Matrix<'a>, right: Matrix<'a>) -> Result<Matrix<'a>> {
        let mut presence = Presence::new(self.matching, self.context.budget, self.steps.count);
        for row in &right.rows {
            presence.add(row)?;
        }
        left.retain(|row| presence.filter(row, self.op == BinaryOp::And))?;
        // the signatures' label sets are those of these rows
        drop((presence, right));
        left.merge_steps(&self.steps)
    }

    /// Everything but the set operators.
    fn match_up(
        &self,
        left: &Matrix<'a>,
        right: &Matrix<'a>,
        of_left: &[usize],
        of_right: &[usize],
        signatures: usize,
        notes: &mut Notes,
    ) -> Result<Matrix<'a>> {
        let mut out = Matrix::new(self.context.budget);
        let fills = (self.matching.fill_left, self.matching.fill_right);
        if (left.rows.is_empty() || right.rows.is_empty()) && fills == (None, None) {
            return Ok(out);
        }
        // the "one" side is the right one from here on
        let swapped = self.matching.cardinality == Cardinality::OneToMany;
        let (many, one, of_many, of_one) = match swapped {
            true => (&right.rows, &left.rows, of_right, of_left),
            false => (&left.rows, &right.rows, of_left, of_right),
        };
        // two lists with room for four each
        let mut charge = Charge::new(self.context.budget);
        charge.add(signatures * (size_of::<(Vec<usize>, Vec<usize>)>() + 2 * 56))?;
        charge.add((many.len() + one.len()) * 2 * size_of::<usize>())?;
        let mut groups: Vec<(Vec<usize>, Vec<usize>)> = vec![Default::default(); signatures];
        for (i, &signature) in of_many.iter().enumerate() {
            groups[signature].0.push(i);
        }
        for (i, &signature) in of_one.iter().enumerate() {
            groups[signature].1.push(i);
        }
        let mut work = Work {
            operator: self,
            many,
            one,
            swapped,
            made: Vec::new(),
            remarks: Vec::new(),
            met_any: Vec::new(),
            charge: Charge::new(self.context.budget),
            errors: Vec::new(),
        };
        // remarks and presence by step, should they be needed
        fits(
            self.context.budget,
            self.steps.count * (size_of::<Option<(usize, Remark)>>() + 1),
        )?;
        for (of_many, of_one) in &groups {
            self.context.budget.check()?;
            match (of_many.as_slice(), of_one.as_slice()) {
                (&[m], &[o]) if fills == (None, None) => work.column(m, o)?,
                ([], &[_]) | (_, []) if fills == (None, None) => {}
                (of_many, of_one) => work.group(of_many, of_one)?,
            }
        }
        // the error that matching all series step by step would have met first
        if let Some((.., e)) = std::mem::take(&mut work.errors).into_iter().min_by_key(|e| (e.0, e.1)) {
            return Err(e);
        }
        for remark in std::mem::take(&mut work.remarks).into_iter().flatten() {
            remark.1.note(self.op, self.pos, notes);
        }
        // each row is charged for where it was made
        let Work { mut made, charge, .. } = work;
        out.charge.absorb(charge);
        // as if made step by step: in the order of the many side, then what only the one side has
        order::sort(&mut made, self.context.budget, |a, b| a.0.cmp(&b.0))?;
        out.charge.add(made.len() * size_of::<Row>())?;
        out.rows
            .extend(made.into_iter().map(|m| m.1).filter(|row| !row.is_empty()));
        out.merge_steps(&self.steps)
    }
}

/// Matching in progress. Labels of a made-up side are those of its signature.
struct Work<'w, 'a> {
    operator: &'w Operator<'a>,
    many: &'w [Row],
    one: &'w [Row],
    swapped: bool,
    /// Rows with their order.
    made: Vec<(usize, Row)>,
    /// By step: the last pair that gave cause, and the remark.
    remarks: Vec<Option<(usize, Remark)>>,
    /// By step: whether the many side has any point; empty until it matters.
    met_any: Vec<bool>,
    charge: Charge<'a>,
    /// (step, row, what is wrong there); rows of the one side come before those of the many.
    errors: Vec<(usize, usize, EvalError)>,
}

/// Rows made in one group of a matching.
#[derive(Default)]
struct Pairs {
    /// Where the row of a pair is.
    at: HashMap<(Side, Side), usize>,
    labels: Ordinals,
    label_of: HashMap<usize, usize>,
    /// By label set: the last step it had a result at.
    last_step: Vec<usize>,
}

impl Pairs {
    /// Whether the label set of the row at `at` has no result at this step yet.
    fn first_at(&mut self, at: usize, step: usize) -> bool {
        let Some(&label) = self.label_of.get(&at) else {
            return true;
        };
        std::mem::replace(&mut self.last_step[label], step) != step
    }
}

/// One side of a pair: a row, or a filled-in value.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Side {
    Row(usize),
    Fill,
}

impl Work<'_, '_> {
    fn remark(&mut self, step: usize, order: usize, remark: Remark) {
        if self.remarks.is_empty() {
            self.remarks = vec![None; self.operator.steps.count];
        }
        let slot = &mut self.remarks[step];
        if slot.as_ref().is_none_or(|(o, _)| *o <= order) {
            *slot = Some((order, remark));
        }
    }

    /// The result of two points, sides put right; `None` when they yield nothing, not even a match.
    fn point(&mut self, step: usize, order: usize, many: Cell<'_>, one: Cell<'_>) -> Option<Outcome> {
        let (left, right) = if self.swapped { (one, many) } else { (many, one) };
        let (outcome, remark) = operate(self.operator.op, left, right);
        if let Some(remark) = remark {
            self.remark(step, order, remark);
        }
        let outcome = outcome.ok()?;
        Some(match (self.operator.return_bool, outcome) {
            (false, outcome) => outcome,
            (true, Outcome::Dropped) => Outcome::Float(0.0),
            (true, _) => Outcome::Float(1.0),
        })
    }

    /// One series meets one.
    fn column(&mut self, m: usize, o: usize) -> Result<()> {
        let steps = self.operator.steps.count;
        let (many, one) = (&self.many[m], &self.one[o]);
        let labels = self.result_labels(&many.labels, &one.labels);
        self.charge.add(Row::bytes(steps) + label_bytes(&labels))?;
        let mut row = Row::new(labels, self.operator.return_bool, steps);
        let op = self.operator.op;
        let plain = many.histograms.is_empty() && one.histograms.is_empty();
        if plain && (drops_name(op) || op.is_comparison()) {
            let swapped = self.swapped;
            let pairs = row.values.iter_mut().zip(many.values.iter().zip(&one.values));
            for (out, (&m, &o)) in pairs {
                if is_absent(m) || is_absent(o) {
                    continue;
                }
                let (a, b) = if swapped { (o, m) } else { (m, o) };
                let v = match (op.is_comparison(), self.operator.return_bool) {
                    (false, _) => arithmetic(op, a, b),
                    (true, true) => f64::from(u8::from(compare(op, a, b))),
                    (true, false) if compare(op, a, b) => a,
                    (true, false) => continue,
                };
                *out = if is_absent(v) { f64::NAN } else { v };
            }
        } else {
            for step in 0..steps {
                if step % 1024 == 1023 {
                    self.charge.check()?;
                }
                if let (Some(a), Some(b)) = (many.get(step), one.get(step))
                    && let Some(outcome) = self.point(step, m, a, b)
                {
                    place(&mut row, step, outcome);
                }
            }
        }
        let histograms: usize = row.histograms.iter().map(|h| h.1.bytes() + 32).sum();
        self.charge.add(histograms)?;
        self.made.push((m, row));
        Ok(())
    }

    /// Several series share a signature, or sides are filled in.
    fn group(&mut self, of_many: &[usize], of_one: &[usize]) -> Result<()> {
        let matching = self.operator.matching;
        let budget = self.operator.context.budget;
        // sides keep their fill values when they are swapped, as in Prometheus
        let (fill_many, fill_one) = (matching.fill_left, matching.fill_right);
        let fills = fill_many.is_some() || fill_one.is_some();
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let (many_rows, one_rows) = (self.many, self.one);
        let mut pairs = Pairs::default();
        // what each of the many met last, which it mostly meets again
        let mut met_last: Vec<Option<(Side, usize)>> = vec![None; of_many.len()];
        for step in 0..self.operator.steps.count {
            budget.check()?;
            let mut present: Option<usize> = None;
            for &o in of_one {
                if one_rows[o].has(step) {
                    if let Some(first) = present
                        && (fills || self.any_many(step))
                    {
                        let e = self.duplicate(&one_rows[o].labels, &one_rows[first].labels);
                        self.errors.push((step, o, e));
                        return Ok(());
                    }
                    present = Some(o);
                }
            }
            let mut met = false;
            for (turn, &m) in of_many.iter().enumerate() {
                if turn % 4096 == 4095 {
                    budget.check()?;
                }
                let Some(a) = many_rows[m].get(step) else {
                    continue;
                };
                let (side, b) = match (present, fill_one) {
                    (Some(o), _) => match one_rows[o].get(step) {
                        Some(b) => (Side::Row(o), b),
                        None => continue,
                    },
                    (None, Some(fill)) => (Side::Fill, Cell::Float(fill)),
                    (None, None) => break,
                };
                let Some(outcome) = self.point(step, m, a, b) else {
                    continue;
                };
                let at = match met_last[turn] {
                    Some((last, at)) if last == side => at,
                    _ => self.pair(&mut pairs, Side::Row(m), side, m)?,
                };
                met_last[turn] = Some((side, at));
                let ambiguous = match one_to_one {
                    true => met.then_some("many-to-one matching must be explicit (group_left/group_right)"),
                    false => (!pairs.first_at(at, step)).then_some("grouping labels must ensure unique matches"),
                };
                if let Some(what) = ambiguous {
                    let e = EvalError::execution(format!("multiple matches for labels: {what}"));
                    self.errors.push((step, one_rows.len() + m, e));
                    return Ok(());
                }
                met = true;
                place(&mut self.made[at].1, step, outcome);
            }
            if let (Some(fill), Some(o), false) = (fill_many, present, met)
                && let Some(b) = one_rows[o].get(step)
            {
                let order = many_rows.len() + o;
                if let Some(outcome) = self.point(step, order, Cell::Float(fill), b) {
                    let at = self.pair(&mut pairs, Side::Fill, Side::Row(o), order)?;
                    place(&mut self.made[at].1, step, outcome);
                }
            }
        }
        Ok(())
    }

    /// Whether any of the many has a point at a step: duplicates do not matter where nothing is matched.
    fn any_many(&mut self, step: usize) -> bool {
        if self.met_any.is_empty() {
            self.met_any = (0..self.operator.steps.count)
                .map(|step| self.many.iter().any(|r| r.has(step)))
                .collect();
        }
        self.met_any[step]
    }

    /// The row of a pair, made when it first meets.
    fn pair(&mut self, pairs: &mut Pairs, m: Side, o: Side, order: usize) -> Result<usize> {
        if let Some(&at) = pairs.at.get(&(m, o)) {
            return Ok(at);
        }
        let matching = self.operator.matching;
        let signature = |l: &Labels| match_labels(l, matching.on, &matching.labels);
        let labels = match (m, o) {
            (Side::Row(m), Side::Row(o)) => self.result_labels(&self.many[m].labels, &self.one[o].labels),
            (Side::Row(m), Side::Fill) => {
                let labels = &self.many[m].labels;
                self.result_labels(labels, &signature(labels))
            }
            (Side::Fill, Side::Row(o)) => {
                let labels = &self.one[o].labels;
                self.result_labels(&signature(labels), labels)
            }
            (Side::Fill, Side::Fill) => Labels::empty(),
        };
        let at = self.made.len();
        let label = pairs.labels.of(labels.clone());
        pairs.label_of.insert(at, label);
        if label == pairs.last_step.len() {
            pairs.last_step.push(usize::MAX);
        }
        let steps = self.operator.steps.count;
        self.charge.add(Row::bytes(steps) + 4 * label_bytes(&labels))?;
        self.made
            .push((order, Row::new(labels, self.operator.return_bool, steps)));
        pairs.at.insert((m, o), at);
        Ok(at)
    }

    fn duplicate(&self, a: &Labels, b: &Labels) -> EvalError {
        let matching = self.operator.matching;
        let side = if self.swapped { "left" } else { "right" };
        let group = display(&match_labels(a, matching.on, &matching.labels));
        let (mut a, mut b) = (display(a), display(b));
        if a > b {
            std::mem::swap(&mut a, &mut b);
        }
        EvalError::execution(format!(
            "found duplicate series for the match group {group} on the {side} hand-side of the operation: [{a}, {b}];many-to-many matching not allowed: matching labels must be unique on one side"
        ))
    }

    /// Labels of a result: the many side's, reduced to what was matched, plus what `group_x` takes from the one side.
    fn result_labels(&self, many: &Labels, one: &Labels) -> Labels {
        let matching = self.operator.matching;
        let drop_name = drops_name(self.operator.op);
        let one_to_one = matching.cardinality == Cardinality::OneToOne;
        let mut labels = many.filter(|n| {
            let named = one_to_one.then(|| matching.labels.iter().any(|m| m == n));
            !(drop_name && is_metric_label(n)) && named.is_none_or(|named| named == matching.on)
        });
        for name in &matching.include {
            labels = labels.with(name, one.get(name).unwrap_or(""));
        }
        labels
    }
}

fn place(row: &mut Row, step: usize, outcome: Outcome) {
    match outcome {
        Outcome::Float(v) => row.set(step, v),
        Outcome::Histogram(h) => row.push_histogram(step, h),
        Outcome::Dropped => {}
    }
}
