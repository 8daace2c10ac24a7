//! What of an answer holds for another range: how late samples may be that a step looks at, and whether steps can be
//! evaluated apart from each other and give the very same points.

use model::METRIC_NAME;

use super::super::ast::{AggregateOp, BinaryOp, DurationExpr, Expr, ExprKind, Extension, ValueType};
use super::plan::{Aggregate, Binary, Kind, Node, Selector};

/// The time in ms of the latest sample that the evaluation can look at when its last step is at `end`; `i64::MIN` when
/// it reads none.
pub(super) fn latest(node: &Node<'_>, end: i64, lookback_ms: i64) -> i64 {
    let of_selector = |s: &Selector<'_>| {
        let after = if s.extension == Extension::Smoothed {
            lookback_ms
        } else {
            0
        };
        s.at.unwrap_or(end).saturating_sub(s.offset_ms).saturating_add(after)
    };
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => i64::MIN,
        Kind::Selector(s) | Kind::Matrix(s, _) => of_selector(s),
        Kind::Subquery(s) => latest(&s.inner, s.at.unwrap_or(end).saturating_sub(s.offset_ms), lookback_ms),
        Kind::Plus(inner) | Kind::Negate(inner) | Kind::Invariant(inner) => latest(inner, end, lookback_ms),
        Kind::Binary(b) => latest(&b.left, end, lookback_ms).max(latest(&b.right, end, lookback_ms)),
        Kind::Aggregate(a) => {
            let param = a.param.as_ref().map_or(i64::MIN, |p| latest(p, end, lookback_ms));
            param.max(latest(&a.expr, end, lookback_ms))
        }
        Kind::Call(func, args) => {
            let own = if func.name == "info" { end } else { i64::MIN };
            args.iter().map(|a| latest(a, end, lookback_ms)).fold(own, i64::max)
        }
    }
}

/// Whether each step's points are the same whatever other steps are evaluated beside it, to the last bit. What cannot be
/// told is answered with no.
pub(super) fn stepwise(expr: &Expr, root: &Node<'_>) -> bool {
    root.value_type != ValueType::Matrix && !names_the_range(expr) && order(root).is_some()
}

/// In which order rows come out of a node. Sums depend on it in their last bits.
#[derive(Clone, Copy, PartialEq)]
enum Order {
    /// By labels of the series.
    Labels,
    /// By when something first appeared.
    Appearance,
}

fn order(node: &Node<'_>) -> Option<Order> {
    match &node.kind {
        Kind::Number(_) | Kind::Text(_) => Some(Order::Labels),
        Kind::Selector(s) | Kind::Matrix(s, _) => {
            (s.at.is_none() && s.extension == Extension::None).then_some(Order::Labels)
        }
        Kind::Subquery(s) => s.at.is_none().then(|| order(&s.inner)).flatten(),
        Kind::Plus(inner) | Kind::Negate(inner) | Kind::Invariant(inner) => order(inner),
        Kind::Binary(b) => of_binary(b),
        Kind::Aggregate(a) => of_aggregate(a),
        Kind::Call(func, args) => of_call(func.name, args),
    }
}

fn of_binary(b: &Binary<'_>) -> Option<Order> {
    let (left, right) = (order(&b.left)?, order(&b.right)?);
    let Some(matching) = b.matching else {
        return Some(if b.left.value_type == ValueType::Scalar {
            right
        } else {
            left
        });
    };
    if matching.fill_left.is_some() || matching.fill_right.is_some() {
        return None;
    }
    let joins = b.op == BinaryOp::Or;
    (!joins || nameless(&b.left) && nameless(&b.right)).then_some(Order::Appearance)
}

fn of_aggregate(a: &Aggregate<'_>) -> Option<Order> {
    use AggregateOp::*;
    if let Some(param) = &a.param {
        order(param)?;
    }
    let inner = order(&a.expr)?;
    let ok = match a.op {
        Count | Group => true,
        Sum | Avg | Min | Max | Stddev | Stdvar | Quantile | TopK | BottomK => inner == Order::Labels,
        CountValues | LimitK | LimitRatio => false,
    };
    ok.then_some(Order::Appearance)
}

/// Functions of one vector and scalars that keep its rows apart.
const ROW_BY_ROW: [&str; 77] = [
    "abs",
    "absent",
    "absent_over_time",
    "acos",
    "acosh",
    "asin",
    "asinh",
    "atan",
    "atanh",
    "avg_over_time",
    "ceil",
    "changes",
    "clamp",
    "clamp_max",
    "clamp_min",
    "cos",
    "cosh",
    "count_over_time",
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "deg",
    "delta",
    "deriv",
    "double_exponential_smoothing",
    "exp",
    "first_over_time",
    "floor",
    "histogram_avg",
    "histogram_count",
    "histogram_stddev",
    "histogram_stdvar",
    "histogram_sum",
    "hour",
    "idelta",
    "increase",
    "irate",
    "last_over_time",
    "ln",
    "log10",
    "log2",
    "mad_over_time",
    "max_over_time",
    "min_over_time",
    "minute",
    "month",
    "pi",
    "predict_linear",
    "present_over_time",
    "quantile_over_time",
    "rad",
    "rate",
    "resets",
    "round",
    "scalar",
    "sgn",
    "sin",
    "sinh",
    "sqrt",
    "start_timestamp",
    "stddev_over_time",
    "stdvar_over_time",
    "sum_over_time",
    "tan",
    "tanh",
    "time",
    "timestamp",
    "ts_of_first_over_time",
    "ts_of_last_over_time",
    "ts_of_max_over_time",
    "ts_of_min_over_time",
    "vector",
    "year",
    "histogram_fraction",
    "histogram_quantile",
    "label_replace",
];

fn of_call(name: &str, args: &[Node<'_>]) -> Option<Order> {
    if !ROW_BY_ROW.contains(&name) {
        return None;
    }
    let mut out = Order::Labels;
    for arg in args {
        if order(arg)? == Order::Appearance {
            out = Order::Appearance;
        }
    }
    match name {
        "label_replace" => renames_nothing(args).then_some(Order::Appearance),
        "histogram_quantile" | "histogram_fraction" => Some(Order::Appearance),
        _ => Some(out),
    }
}

/// A `label_replace` whose rows had no name before and have none afterwards.
fn renames_nothing(args: &[Node<'_>]) -> bool {
    let target = args.get(1).map(|a| &a.kind);
    let keeps_name = matches!(target, Some(Kind::Text(label)) if *label != METRIC_NAME);
    keeps_name && args.first().is_some_and(nameless)
}

/// Whether no row has a metric name, kept or about to go: rows with equal labels then join alike at every step.
fn nameless(node: &Node<'_>) -> bool {
    match &node.kind {
        Kind::Aggregate(a) => {
            !matches!(a.op, AggregateOp::TopK | AggregateOp::BottomK)
                && (a.without || !a.grouping.contains(&METRIC_NAME))
        }
        Kind::Plus(inner) | Kind::Negate(inner) | Kind::Invariant(inner) => nameless(inner),
        Kind::Binary(b) => {
            let is_nameless = |n: &Node<'_>| n.value_type == ValueType::Scalar || nameless(n);
            is_nameless(&b.left) && is_nameless(&b.right)
        }
        Kind::Call(func, args) => match func.name {
            "vector" => true,
            "label_replace" => renames_nothing(args),
            "histogram_quantile" => args.get(1).is_some_and(nameless),
            "histogram_fraction" => args.get(2).is_some_and(nameless),
            _ => false,
        },
        _ => false,
    }
}

/// Whether the text speaks of the query's own range or step, which parts of it do not share.
fn names_the_range(expr: &Expr) -> bool {
    let in_duration = |d: &Option<DurationExpr>| d.as_ref().is_some_and(|d| !matches!(d, DurationExpr::Literal(_)));
    match &expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => false,
        ExprKind::Selector(s) => in_duration(&s.offset),
        ExprKind::Matrix { selector, range } => {
            in_duration(&selector.offset) || !matches!(range, DurationExpr::Literal(_))
        }
        ExprKind::Subquery(s) => {
            !matches!(s.range, DurationExpr::Literal(_))
                || in_duration(&s.step)
                || in_duration(&s.offset)
                || names_the_range(&s.expr)
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => names_the_range(expr),
        ExprKind::Binary(b) => names_the_range(&b.left) || names_the_range(&b.right),
        ExprKind::Aggregate(a) => a.param.as_ref().is_some_and(names_the_range) || names_the_range(&a.expr),
        ExprKind::Call { func, args } => {
            matches!(func.name, "start" | "end" | "range" | "step") || args.iter().any(names_the_range)
        }
    }
}
