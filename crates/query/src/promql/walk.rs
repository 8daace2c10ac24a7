use model::Matcher;

use super::ast::{Expr, ExprKind, VectorSelector};

/// Whether the query evaluates something once for every step of an inner range.
pub fn has_subquery(expr: &Expr) -> bool {
    let mut found = false;
    walk(expr, &mut |e| found |= matches!(e.kind, ExprKind::Subquery(_)));
    found
}

/// The matchers of each selector, in the order they are written.
pub fn selectors(expr: &Expr) -> Vec<Vec<Matcher>> {
    let mut found = Vec::new();
    let mut take = |s: &VectorSelector| found.push(s.matchers.clone());
    walk(expr, &mut |e| match &e.kind {
        ExprKind::Selector(s) | ExprKind::Matrix { selector: s, .. } => take(s),
        _ => {}
    });
    found
}

/// Visits every node, outer ones first, left ones before right ones. Does not recurse: chains may be long.
fn walk<'a>(expr: &'a Expr, visit: &mut dyn FnMut(&'a Expr)) {
    let mut open = vec![expr];
    while let Some(e) = open.pop() {
        visit(e);
        match &e.kind {
            ExprKind::Number(_)
            | ExprKind::Duration(_)
            | ExprKind::String(_)
            | ExprKind::Selector(_)
            | ExprKind::Matrix { .. } => {}
            ExprKind::Subquery(s) => open.push(&s.expr),
            ExprKind::Unary { expr, .. } | ExprKind::Paren(expr) => open.push(expr),
            ExprKind::Binary(b) => open.extend([&b.right, &b.left]),
            ExprKind::Aggregate(a) => {
                open.push(&a.expr);
                open.extend(&a.param);
            }
            ExprKind::Call { args, .. } => open.extend(args.iter().rev()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::promql::parse;

    #[test]
    fn selectors_and_subqueries_are_found() {
        let expr = parse("sum(a{x=\"1\"}) + max_over_time(rate(b[1m])[5m:1m])").unwrap();
        assert!(has_subquery(&expr));
        let names: Vec<String> = selectors(&expr).iter().map(|m| m.len().to_string()).collect();
        assert_eq!(names, ["2", "1"]);
        assert!(!has_subquery(&parse("rate(b[1m])").unwrap()));
    }
}
