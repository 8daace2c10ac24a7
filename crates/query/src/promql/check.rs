use super::ast::{Aggregate, AggregateOp, BinaryOp, Cardinality, Expr, ExprKind, Matching, Pos, ValueType};
use super::functions::Function;
use super::parser::ParseError;
use super::quote;

/// Checks the types of a tree and settles what depends on them: matching goes from operators without two vectors, and
/// set operators match many to many. The first problem is told, in Prometheus' order.
pub(crate) fn check(expr: &mut Expr, input: &str) -> Result<ValueType, ParseError> {
    Check { input }.expr(expr)
}

struct Check<'a> {
    input: &'a str,
}

/// An operator on the way from the leftmost operand of a chain to the whole.
struct Link<'e> {
    pos: Pos,
    left: Pos,
    op: BinaryOp,
    return_bool: bool,
    right: &'e mut Expr,
    matching: &'e mut Option<Matching>,
}

type Checked = Result<ValueType, ParseError>;

impl Check<'_> {
    fn fail<T>(&self, pos: Pos, what: impl std::fmt::Display) -> Result<T, ParseError> {
        Err(ParseError::new(self.input, pos, what))
    }

    /// Chains of operators lean to the left and may be long, so that side is walked in a loop.
    fn expr(&self, expr: &mut Expr) -> Checked {
        let mut links = Vec::new();
        let mut at = expr;
        while matches!(at.kind, ExprKind::Binary(_)) {
            let pos = at.pos;
            let ExprKind::Binary(b) = &mut at.kind else {
                return Ok(ValueType::Vector); // just asked
            };
            let b = &mut **b;
            let left = b.left.pos;
            let (op, return_bool) = (b.op, b.return_bool);
            links.push(Link {
                pos,
                left,
                op,
                return_bool,
                right: &mut b.right,
                matching: &mut b.matching,
            });
            at = &mut b.left;
        }
        let mut ty = self.other(at)?;
        while let Some(link) = links.pop() {
            ty = self.binary(ty, link)?;
        }
        Ok(ty)
    }

    fn other(&self, expr: &mut Expr) -> Checked {
        let pos = expr.pos;
        match &mut expr.kind {
            ExprKind::Aggregate(a) => self.aggregate(a)?,
            ExprKind::Call { func, args } => self.call(pos, func, args)?,
            ExprKind::Paren(inner) => return self.expr(inner),
            ExprKind::Unary { expr: inner, .. } => {
                let ty = self.expr(inner)?;
                if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
                    let what = format!(
                        "unary expression only allowed on expressions of type scalar or instant vector, got {}",
                        quote(ty.documented())
                    );
                    return self.fail(pos, what);
                }
                return Ok(ty);
            }
            ExprKind::Subquery(s) => {
                let ty = self.expr(&mut s.expr)?;
                if ty != ValueType::Vector {
                    let what = format!(
                        "subquery is only allowed on instant vector, got {} instead",
                        ty.as_str()
                    );
                    return self.fail(pos, what);
                }
            }
            ExprKind::Selector(s) | ExprKind::Matrix { selector: s, .. } => {
                self.selector(pos, &s.name, &s.matchers, false)?;
            }
            ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) | ExprKind::Binary(_) => {}
        }
        Ok(expr.value_type())
    }

    fn expect(&self, expr: &mut Expr, want: ValueType, context: &str) -> Result<(), ParseError> {
        let ty = self.expr(expr)?;
        if ty != want {
            let what = format!(
                "expected type {} in {context}, got {}",
                want.documented(),
                ty.documented()
            );
            return self.fail(expr.pos, what);
        }
        Ok(())
    }

    fn aggregate(&self, a: &mut Aggregate) -> Result<(), ParseError> {
        self.expect(&mut a.expr, ValueType::Vector, "aggregation expression")?;
        match (&mut a.param, a.op) {
            (Some(p), AggregateOp::CountValues) => self.expect(p, ValueType::String, "aggregation parameter"),
            (Some(p), _) => self.expect(p, ValueType::Scalar, "aggregation parameter"),
            (None, _) => Ok(()),
        }
    }

    fn call(&self, pos: Pos, func: &'static Function, args: &mut [Expr]) -> Result<(), ParseError> {
        let (types, given, name) = (func.args, args.len(), quote(func.name));
        if func.variadic == 0 {
            if types.len() != given {
                let what = format!("expected {} argument(s) in call to {name}, got {given}", types.len());
                return self.fail(pos, what);
            }
        } else {
            let least = types.len() - 1;
            if given < least {
                let what = format!("expected at least {least} argument(s) in call to {name}, got {given}");
                return self.fail(pos, what);
            }
            let most = least + usize::try_from(func.variadic).unwrap_or(usize::MAX - least);
            if given > most {
                let what = format!("expected at most {most} argument(s) in call to {name}, got {given}");
                return self.fail(pos, what);
            }
        }
        let is_info = func.name == "info";
        if let (true, Some(second)) = (is_info, args.get(1)) {
            let ty = second.value_type();
            if ty != ValueType::Vector {
                let what = format!(
                    "expected type instant vector in call to function {name}, got {}",
                    ty.documented()
                );
                return self.fail(pos, what);
            }
            match &second.kind {
                ExprKind::Selector(s) if s.name.is_empty() => {}
                ExprKind::Selector(_) => {
                    return self.fail(second.pos, "expected label selectors only, got vector selector instead");
                }
                _ => return self.fail(second.pos, "expected label selectors only"),
            }
        }
        for (i, arg) in args.iter_mut().enumerate() {
            let want = types[i.min(types.len() - 1)];
            if let (true, 1, ExprKind::Selector(s)) = (is_info, i, &arg.kind) {
                self.selector(arg.pos, &s.name, &s.matchers, true)?;
                continue;
            }
            self.expect(arg, want, &format!("call to function {name}"))?;
        }
        Ok(())
    }

    /// `info`'s second argument may match everything.
    fn selector(&self, pos: Pos, name: &str, matchers: &[model::Matcher], is_info: bool) -> Result<(), ParseError> {
        if !name.is_empty() {
            // the last matcher is the one made of the name
            let own = &matchers[..matchers.len().saturating_sub(1)];
            if let Some(m) = own.iter().find(|m| m.name == model::METRIC_NAME) {
                let what = format!(
                    "metric name must not be set twice: {} or {}",
                    quote(name),
                    quote(&m.value)
                );
                return self.fail(pos, what);
            }
        } else if !is_info && matchers.iter().all(model::Matcher::matches_absent) {
            return self.fail(pos, "vector selector must contain at least one non-empty matcher");
        }
        Ok(())
    }

    fn binary(&self, lt: ValueType, link: Link<'_>) -> Checked {
        let Link {
            pos,
            left,
            op,
            return_bool,
            right,
            matching,
        } = link;
        let rt = self.expr(right)?;
        let op_pos = || {
            let rest = &self.input.as_bytes()[(left.end as usize).min(self.input.len())..];
            let spaces = rest
                .iter()
                .take_while(|b| matches!(b, b' ' | b'\t' | b'\n' | b'\r'))
                .count();
            Pos {
                start: left.end + spaces as u32,
                end: right.pos.start,
            }
        };
        let scalars = lt == ValueType::Scalar && rt == ValueType::Scalar;
        if return_bool && !op.is_comparison() {
            return self.fail(op_pos(), "bool modifier can only be used on comparison operators");
        }
        if op.is_comparison() && !return_bool && scalars {
            return self.fail(op_pos(), "comparisons between scalars must use BOOL modifier");
        }
        if let Some(m) = matching {
            if op.is_set() && m.cardinality == Cardinality::OneToOne {
                m.cardinality = Cardinality::ManyToMany;
            }
            if let (true, Some(twice)) = (m.on, m.labels.iter().find(|l| m.include.contains(l))) {
                let what = format!("label {} must not occur in ON and GROUP clause at once", quote(twice));
                return self.fail(op_pos(), what);
            }
        }
        for (ty, at) in [(lt, left), (rt, right.pos)] {
            if !matches!(ty, ValueType::Scalar | ValueType::Vector) {
                return self.fail(
                    at,
                    "binary expression must contain only scalar and instant vector types",
                );
            }
        }
        if let Some(m) = matching {
            let filled = m.fill_left.is_some() || m.fill_right.is_some();
            if lt != ValueType::Vector || rt != ValueType::Vector {
                if !m.labels.is_empty() {
                    return self.fail(pos, "vector matching only allowed between instant vectors");
                }
                if filled {
                    return self.fail(pos, "filling in missing series only allowed between instant vectors");
                }
                *matching = None;
            } else if op.is_set() {
                if matches!(m.cardinality, Cardinality::OneToMany | Cardinality::ManyToOne) {
                    let what = format!("no grouping allowed for {} operation", quote(op.as_str()));
                    return self.fail(pos, what);
                }
                if filled {
                    return self.fail(pos, "filling in missing series not allowed for set operators");
                }
            }
        }
        if (lt == ValueType::Scalar || rt == ValueType::Scalar) && op.is_set() {
            let what = format!(
                "set operator {} not allowed in binary scalar expression",
                quote(op.as_str())
            );
            return self.fail(pos, what);
        }
        Ok(if scalars { ValueType::Scalar } else { ValueType::Vector })
    }
}
