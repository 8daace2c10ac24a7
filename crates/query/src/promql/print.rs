use std::fmt::{self, Display, Formatter, Write};

use super::ast::{
    Aggregate, At, Binary, Cardinality, DurationExpr, Expr, ExprKind, Extension, Matching, UnaryOp, VectorSelector,
};
use super::literal::{decimal, general};
use super::{format_duration, quote};

/// As Prometheus prints the tree of a query (`String()`).
impl Display for Expr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        // a chain of operators leans to the left and may be long: walked down, then printed on the way up
        let mut chain: Vec<&Binary> = Vec::new();
        let mut at = self;
        while let ExprKind::Binary(b) = &at.kind {
            chain.push(b);
            at = &b.left;
        }
        operand(at, f)?;
        while let Some(b) = chain.pop() {
            write!(f, " {}{} {}", b.op.as_str(), Modifiers(b), b.right)?;
        }
        Ok(())
    }
}

fn operand(expr: &Expr, f: &mut Formatter<'_>) -> fmt::Result {
    match &expr.kind {
        ExprKind::Number(v) => f.write_str(&decimal(*v)),
        ExprKind::Duration(v) => f.write_str(&duration_number(*v)),
        ExprKind::String(s) => f.write_str(&quote(s)),
        ExprKind::Selector(s) => {
            selector(s, f)?;
            at_modifier(s.at, f)?;
            f.write_str(extension(s.extension))?;
            offset(s.offset.as_ref(), f)
        }
        ExprKind::Matrix { selector: s, range } => {
            selector(s, f)?;
            write!(f, "[{range}]{}", extension(s.extension))?;
            at_modifier(s.at, f)?;
            offset(s.offset.as_ref(), f)
        }
        ExprKind::Subquery(s) => write!(f, "{}{}", s.expr, SubquerySuffix(s)),
        ExprKind::Unary { op, expr } => write!(f, "{}{expr}", sign(*op)),
        ExprKind::Binary(b) => write!(f, "{} {}{} {}", b.left, b.op.as_str(), Modifiers(b), b.right),
        ExprKind::Aggregate(a) => {
            write!(f, "{}(", AggregateHead(a))?;
            if let Some(param) = &a.param {
                write!(f, "{param}, ")?;
            }
            write!(f, "{})", a.expr)
        }
        ExprKind::Call { func, args } => {
            write!(f, "{}(", func.name)?;
            for (i, arg) in args.iter().enumerate() {
                f.write_str(if i > 0 { ", " } else { "" })?;
                Display::fmt(arg, f)?;
            }
            f.write_char(')')
        }
        ExprKind::Paren(inner) => write!(f, "({inner})"),
    }
}

pub(super) fn sign(op: UnaryOp) -> char {
    match op {
        UnaryOp::Plus => '+',
        UnaryOp::Minus => '-',
    }
}

fn selector(s: &VectorSelector, f: &mut Formatter<'_>) -> fmt::Result {
    let is_name = |m: &&model::Matcher| {
        m.name == model::METRIC_NAME && m.op == model::MatchOp::Equal && m.value == s.name && !m.value.is_empty()
    };
    let mut matchers: Vec<String> = s.matchers.iter().filter(|m| !is_name(m)).map(matcher).collect();
    matchers.sort();
    f.write_str(&s.name)?;
    if matchers.is_empty() {
        Ok(())
    } else {
        write!(f, "{{{}}}", matchers.join(","))
    }
}

/// Matchers as a selector: the name before the braces where one matcher asks for it.
pub fn selector_text(matchers: &[model::Matcher]) -> String {
    let name = matchers
        .iter()
        .find(|m| m.name == model::METRIC_NAME && m.op == model::MatchOp::Equal && classic(&m.value));
    let others: Vec<String> = matchers
        .iter()
        .filter(|m| name.is_none_or(|n| !std::ptr::eq(*m, n)))
        .map(matcher)
        .collect();
    let name = name.map_or("", |m| m.value.as_str());
    if others.is_empty() && !name.is_empty() {
        name.to_owned()
    } else {
        format!("{name}{{{}}}", others.join(","))
    }
}

fn matcher(m: &model::Matcher) -> String {
    let name = Label(&m.name);
    format!("{name}{}{}", m.op.as_str(), quote(&m.value))
}

/// A label's name, quoted when it is not of the classic form.
pub(super) struct Label<'a>(pub(super) &'a str);

impl Display for Label<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if classic(self.0) {
            f.write_str(self.0)
        } else {
            f.write_str(&quote(self.0))
        }
    }
}

fn classic(name: &str) -> bool {
    let byte = |(i, b): (usize, u8)| b == b'_' || b.is_ascii_alphabetic() || (i > 0 && b.is_ascii_digit());
    !name.is_empty() && name.bytes().enumerate().all(byte)
}

fn labels(names: &[String]) -> String {
    let names: Vec<String> = names.iter().map(|n| Label(n).to_string()).collect();
    names.join(", ")
}

fn at_modifier(at: Option<At>, f: &mut Formatter<'_>) -> fmt::Result {
    match at {
        None => Ok(()),
        Some(At::Time(ms)) => write!(f, " @ {:.3}", ms as f64 / 1000.0),
        Some(At::Start) => f.write_str(" @ start()"),
        Some(At::End) => f.write_str(" @ end()"),
    }
}

fn extension(extension: Extension) -> &'static str {
    match extension {
        Extension::None => "",
        Extension::Anchored => " anchored",
        Extension::Smoothed => " smoothed",
    }
}

fn offset(offset: Option<&DurationExpr>, f: &mut Formatter<'_>) -> fmt::Result {
    match offset {
        None | Some(DurationExpr::Literal(0)) => Ok(()),
        Some(duration) => write!(f, " offset {duration}"),
    }
}

impl Display for DurationExpr {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            DurationExpr::Literal(ms) => f.write_str(&format_duration(*ms)),
            DurationExpr::Number(v) => f.write_str(&decimal(*v)),
            DurationExpr::Step => f.write_str("step()"),
            DurationExpr::Range => f.write_str("range()"),
            DurationExpr::Min(a, b) => write!(f, "min_of({}, {})", Operand(a), Operand(b)),
            DurationExpr::Max(a, b) => write!(f, "max_of({}, {})", Operand(a), Operand(b)),
            DurationExpr::Neg(e) => write!(f, "-{}", Operand(e)),
            DurationExpr::Binary { op, left, right } => {
                write!(f, "{} {} {}", Operand(left), op.as_str(), Operand(right))
            }
            DurationExpr::Paren(e) => write!(f, "({})", Operand(e)),
            DurationExpr::Spanned(_, e) => Display::fmt(e, f),
        }
    }
}

/// A number of seconds as a duration. Like Prometheus it multiplies and cuts off, so that some print 1 ms less.
fn duration_number(seconds: f64) -> String {
    format_duration((seconds * 1e9) as i64 / 1_000_000)
}

/// A part of a duration expression, where literals are numbers of seconds.
struct Operand<'a>(&'a DurationExpr);

impl Display for Operand<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            DurationExpr::Literal(ms) => f.write_str(&duration_number(*ms as f64 / 1000.0)),
            other => Display::fmt(other, f),
        }
    }
}

/// `[5m:1m] @ 3.000 offset 1m` behind a subquery's expression.
pub(super) struct SubquerySuffix<'a>(pub(super) &'a super::ast::Subquery);

impl Display for SubquerySuffix<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let s = self.0;
        write!(f, "[{}:", s.range)?;
        if let Some(step) = &s.step
            && *step != DurationExpr::Literal(0)
        {
            Display::fmt(step, f)?;
        }
        f.write_char(']')?;
        at_modifier(s.at, f)?;
        offset(s.offset.as_ref(), f)
    }
}

/// An aggregation's name and grouping.
pub(super) struct AggregateHead<'a>(pub(super) &'a Aggregate);

impl Display for AggregateHead<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let a = self.0;
        f.write_str(a.op.as_str())?;
        match (a.without, a.grouping.is_empty()) {
            (true, _) => write!(f, " without ({}) ", labels(&a.grouping)),
            (false, false) => write!(f, " by ({}) ", labels(&a.grouping)),
            (false, true) => Ok(()),
        }
    }
}

/// What stands between an operator and its right operand.
pub(super) struct Modifiers<'a>(pub(super) &'a Binary);

impl Display for Modifiers<'_> {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.0.return_bool {
            f.write_str(" bool")?;
        }
        self.0.matching.as_ref().map_or(Ok(()), |m| matching(m, f))
    }
}

fn matching(m: &Matching, f: &mut Formatter<'_>) -> fmt::Result {
    let group = match m.cardinality {
        Cardinality::ManyToOne => "left",
        Cardinality::OneToMany => "right",
        _ => "",
    };
    if !m.labels.is_empty() || m.on || !group.is_empty() {
        let word = if m.on { "on" } else { "ignoring" };
        write!(f, " {word} ({})", labels(&m.labels))?;
    }
    if !group.is_empty() {
        write!(f, " group_{group} ({})", labels(&m.include))?;
    }
    match (m.fill_left, m.fill_right) {
        (Some(l), Some(r)) if l == r => write!(f, " fill ({})", general(l)),
        (l, r) => {
            for (side, value) in [("left", l), ("right", r)] {
                if let Some(v) = value {
                    write!(f, " fill_{side} ({})", general(v))?;
                }
            }
            Ok(())
        }
    }
}
