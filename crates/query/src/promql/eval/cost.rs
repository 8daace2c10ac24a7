use super::Result;
use super::matrix::Steps;
use super::plan::{Kind, Node};

/// Samples that windows over subqueries look at for one series: what can be told before anything is read.
pub(super) fn subquery_cost(node: &Node<'_>, steps: &Steps) -> Result<u128> {
    Ok(match &node.kind {
        Kind::Number(_) | Kind::Text(_) | Kind::Selector(_) | Kind::Matrix(..) => 0,
        Kind::Plus(inner) | Kind::Negate(inner) => subquery_cost(inner, steps)?,
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
