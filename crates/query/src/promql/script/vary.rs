use super::super::ast::{At, Expr, ExprKind};
use super::super::parse;

/// Functions whose value depends on the evaluation time although their arguments do not.
const UNSAFE_FUNCTIONS: [&str; 15] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "end",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "range",
    "start",
    "step",
    "time",
    "timestamp",
    "year",
];

/// The same query, pinned to its time with `@`, and other times at which it must answer the same.
pub(super) fn pinned(query: &str, at_ms: i64) -> Vec<(String, i64)> {
    let Ok(mut expr) = parse(query) else {
        return Vec::new();
    };
    if !pin(&mut expr, at_ms) {
        return Vec::new();
    }
    let pinned = expr.to_string();
    let times = match at_ms {
        0 => vec![-1000, 0, 1000],
        t => vec![-10 * t, 0, t / 5, t, 10 * t],
    };
    times.into_iter().map(|t| (pinned.clone(), t)).collect()
}

/// Sets `@` on every outermost selector without a time of its own. False when that cannot fix the answer.
fn pin(expr: &mut Expr, at_ms: i64) -> bool {
    let set = |at: &mut Option<At>| {
        if !matches!(at, Some(At::Time(_))) {
            *at = Some(At::Time(at_ms));
        }
    };
    match &mut expr.kind {
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => true,
        ExprKind::Selector(s) | ExprKind::Matrix { selector: s, .. } => {
            set(&mut s.at);
            true
        }
        ExprKind::Subquery(s) => {
            // its time fixes everything within
            set(&mut s.at);
            true
        }
        ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => pin(expr, at_ms),
        ExprKind::Binary(b) => pin(&mut b.left, at_ms) && pin(&mut b.right, at_ms),
        ExprKind::Aggregate(a) => pin(&mut a.expr, at_ms) && a.param.as_mut().is_none_or(|p| pin(p, at_ms)),
        ExprKind::Call { func, args } => {
            !UNSAFE_FUNCTIONS.contains(&func.name) && args.iter_mut().all(|a| pin(a, at_ms))
        }
    }
}

/// Whether the query asks for its own start, end, range or step.
pub(super) fn asks_for_range(query: &str) -> bool {
    ["start()", "end()", "range()", "step()"]
        .iter()
        .any(|word| query.contains(word))
}
