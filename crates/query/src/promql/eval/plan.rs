use model::Matcher;

use super::super::ast::{
    AggregateOp, At, BinaryOp, DurationExpr, Expr, ExprKind, Extension, Matching, Pos, UnaryOp, ValueType,
    VectorSelector,
};
use super::super::functions::Function;
use super::matrix::Steps;
use super::{EvalContext, EvalError, Query, Result};

/// An expression made ready for one query: durations, `@ start()` and the functions of the query's range are worked
/// out, parentheses are gone, and what does not depend on the step is marked.
pub(super) struct Plan<'a> {
    pub(super) root: Node<'a>,
    /// Levels of nodes.
    pub(super) depth: usize,
}

pub(super) struct Node<'a> {
    pub(super) pos: Pos,
    pub(super) value_type: ValueType,
    pub(super) kind: Kind<'a>,
}

pub(super) enum Kind<'a> {
    Number(f64),
    Text(&'a str),
    Selector(Selector<'a>),
    Matrix(Selector<'a>, i64),
    Subquery(Box<Subquery<'a>>),
    /// Changes no value, but is no selector any more, and annotations name the place of its sign.
    Plus(Box<Node<'a>>),
    Negate(Box<Node<'a>>),
    Binary(Box<Binary<'a>>),
    Aggregate(Box<Aggregate<'a>>),
    Call(&'static Function, Vec<Node<'a>>),
    /// Evaluated once, at the first step.
    Invariant(Box<Node<'a>>),
}

#[derive(Clone, Copy)]
pub(super) struct Selector<'a> {
    pub(super) matchers: &'a [Matcher],
    pub(super) offset_ms: i64,
    pub(super) at: Option<i64>,
    pub(super) extension: Extension,
    /// Only count and sum of histograms are asked for above.
    pub(super) skip_buckets: bool,
    pub(super) pos: Pos,
}

pub(super) struct Subquery<'a> {
    pub(super) inner: Node<'a>,
    pub(super) range_ms: i64,
    pub(super) step_ms: i64,
    pub(super) offset_ms: i64,
    pub(super) at: Option<i64>,
}

impl Subquery<'_> {
    /// The steps it is evaluated at so that all of the outer ones find their range.
    pub(super) fn steps(&self, outer: &Steps) -> Result<Steps> {
        let (first, last) = match self.at {
            Some(at) => (at, at),
            None => (outer.start, outer.last()),
        };
        let end = last.saturating_sub(self.offset_ms);
        let open = first.saturating_sub(self.offset_ms).saturating_sub(self.range_ms);
        // the first multiple of the step behind the open end of the range; Go's division truncates
        let mut start = (open / self.step_ms).saturating_mul(self.step_ms);
        if start <= open {
            start = start.saturating_add(self.step_ms);
        }
        Steps::new(start, end, self.step_ms)
    }
}

pub(super) struct Binary<'a> {
    pub(super) op: BinaryOp,
    pub(super) left: Node<'a>,
    pub(super) right: Node<'a>,
    pub(super) return_bool: bool,
    pub(super) matching: Option<&'a Matching>,
}

pub(super) struct Aggregate<'a> {
    pub(super) op: AggregateOp,
    pub(super) param: Option<Node<'a>>,
    pub(super) expr: Node<'a>,
    pub(super) without: bool,
    /// Sorted.
    pub(super) grouping: Vec<&'a str>,
}

/// Functions whose result depends on the time of evaluation even when their arguments do not.
const TIME_DEPENDENT: [&str; 11] = [
    "day_of_month",
    "day_of_week",
    "day_of_year",
    "days_in_month",
    "hour",
    "minute",
    "month",
    "predict_linear",
    "time",
    "timestamp",
    "year",
];

struct Planner {
    start_ms: i64,
    end_ms: i64,
    step_ms: i64,
    subquery_step_ms: i64,
    depth: usize,
    deepest: usize,
}

/// What is known about a node's dependence on the step.
struct Planned<'a> {
    node: Node<'a>,
    invariant: bool,
    /// Marking it pays, or is possible at all.
    wrap: bool,
}

impl<'a> Planned<'a> {
    fn varying(node: Node<'a>) -> Self {
        Planned {
            node,
            invariant: false,
            wrap: false,
        }
    }

    fn wrapped(self) -> Node<'a> {
        if self.wrap { invariant(self.node) } else { self.node }
    }
}

fn invariant(node: Node<'_>) -> Node<'_> {
    Node {
        pos: node.pos,
        value_type: node.value_type,
        kind: Kind::Invariant(Box::new(node)),
    }
}

pub(super) fn plan<'a>(expr: &'a Expr, query: Query, context: &EvalContext<'_>) -> Result<Plan<'a>> {
    let (start_ms, end_ms, step_ms) = match query {
        Query::Instant { at_ms } => (at_ms, at_ms, 0),
        Query::Range {
            start_ms,
            end_ms,
            step_ms,
        } => (start_ms, end_ms, step_ms),
    };
    let subquery_step_ms = context.subquery_step_ms.max(1);
    let mut planner = Planner {
        start_ms,
        end_ms,
        step_ms,
        subquery_step_ms,
        depth: 0,
        deepest: 0,
    };
    let planned = planner.node(expr, Buckets::Needed)?;
    Ok(Plan {
        root: planned.wrapped(),
        depth: planner.deepest,
    })
}

/// What the nodes above need of native histograms.
#[derive(Clone, Copy, PartialEq)]
enum Buckets {
    /// Nothing above has spoken: all is needed.
    Needed,
    /// A function of count and sum lies above, nothing else has spoken.
    Skipped,
    /// A node above needs the buckets, whatever others say.
    Fixed,
}

impl Planner {
    fn node<'a>(&mut self, expr: &'a Expr, buckets: Buckets) -> Result<Planned<'a>> {
        self.depth += 1;
        self.deepest = self.deepest.max(self.depth);
        let planned = self.kind(expr, buckets);
        self.depth -= 1;
        planned
    }

    fn kind<'a>(&mut self, expr: &'a Expr, buckets: Buckets) -> Result<Planned<'a>> {
        let node = |value_type, kind| Node {
            pos: expr.pos,
            value_type,
            kind,
        };
        Ok(match &expr.kind {
            ExprKind::Number(v) | ExprKind::Duration(v) => Planned {
                node: node(ValueType::Scalar, Kind::Number(*v)),
                invariant: true,
                wrap: false,
            },
            ExprKind::String(text) => Planned {
                node: node(ValueType::String, Kind::Text(text)),
                invariant: true,
                wrap: false,
            },
            ExprKind::Paren(inner) => return self.node(inner, buckets),
            ExprKind::Selector(selector) => {
                let selector = self.selector(selector, buckets, expr.pos)?;
                let fixed = selector.at.is_some();
                Planned {
                    node: node(ValueType::Vector, Kind::Selector(selector)),
                    invariant: fixed,
                    wrap: fixed,
                }
            }
            ExprKind::Matrix { selector, range } => {
                let selector = self.selector(selector, buckets, expr.pos)?;
                let range = self.duration(range, false)?;
                let invariant = selector.at.is_some();
                Planned {
                    node: node(ValueType::Matrix, Kind::Matrix(selector, range)),
                    invariant,
                    wrap: false,
                }
            }
            ExprKind::Subquery(s) => {
                let offset_ms = self.optional(&s.offset)?;
                let step_ms = match &s.step {
                    // a step of less than a millisecond is no step
                    Some(step) => match self.duration(step, false)? {
                        0 => self.subquery_step_ms,
                        ms => ms,
                    },
                    None => self.subquery_step_ms,
                };
                let range_ms = self.duration(&s.range, false)?;
                let inner = self.node(&s.expr, Buckets::Fixed)?;
                let inner = if inner.invariant {
                    invariant(inner.node)
                } else {
                    inner.node
                };
                let at = self.at(s.at);
                let subquery = Subquery {
                    inner,
                    range_ms,
                    step_ms,
                    offset_ms,
                    at,
                };
                Planned {
                    node: node(ValueType::Matrix, Kind::Subquery(Box::new(subquery))),
                    invariant: at.is_some(),
                    wrap: false,
                }
            }
            ExprKind::Unary { op, expr: inner } => {
                let inner = self.node(inner, buckets)?;
                let (invariant, wrap) = (inner.invariant, inner.wrap);
                let value_type = inner.node.value_type;
                let kind = match op {
                    UnaryOp::Plus => Kind::Plus,
                    UnaryOp::Minus => Kind::Negate,
                };
                Planned {
                    node: node(value_type, kind(Box::new(inner.node))),
                    invariant,
                    wrap,
                }
            }
            ExprKind::Binary(b) => {
                let trims = matches!(b.op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
                let buckets = if trims { Buckets::Fixed } else { buckets };
                let left = self.node(&b.left, buckets)?;
                let right = self.node(&b.right, buckets)?;
                let invariant = left.invariant && right.invariant;
                let (left, right) = match invariant {
                    true => (left.node, right.node),
                    false => (left.wrapped(), right.wrapped()),
                };
                let scalar = left.value_type == ValueType::Scalar && right.value_type == ValueType::Scalar;
                let value_type = if scalar { ValueType::Scalar } else { ValueType::Vector };
                let (op, return_bool, matching) = (b.op, b.return_bool, b.matching.as_ref());
                let binary = Binary {
                    op,
                    left,
                    right,
                    return_bool,
                    matching,
                };
                Planned {
                    node: node(value_type, Kind::Binary(Box::new(binary))),
                    invariant,
                    wrap: invariant,
                }
            }
            ExprKind::Aggregate(a) => {
                let param = a.param.as_ref().map(|p| self.node(p, buckets)).transpose()?;
                let inner = self.node(&a.expr, buckets)?;
                let mut grouping: Vec<&str> = a.grouping.iter().map(String::as_str).collect();
                grouping.sort_unstable();
                grouping.dedup();
                let (invariant, wrap) = (inner.invariant, inner.wrap);
                let param = param.map(|p| p.node);
                let aggregate = Aggregate {
                    op: a.op,
                    param,
                    expr: inner.node,
                    without: a.without,
                    grouping,
                };
                Planned {
                    node: node(ValueType::Vector, Kind::Aggregate(Box::new(aggregate))),
                    invariant,
                    wrap,
                }
            }
            ExprKind::Call { func, args } => self.call(expr.pos, func, args, buckets)?,
        })
    }

    fn call<'a>(
        &mut self,
        pos: Pos,
        func: &'static Function,
        args: &'a [Expr],
        buckets: Buckets,
    ) -> Result<Planned<'a>> {
        let constant = match func.name {
            "start" => Some(self.start_ms as f64 / 1000.0),
            "end" => Some(self.end_ms as f64 / 1000.0),
            "range" => Some(self.end_ms.saturating_sub(self.start_ms) as f64 / 1000.0),
            "step" if self.start_ms == self.end_ms => Some(0.0),
            "step" => Some(self.step_ms as f64 / 1000.0),
            _ => None,
        };
        if let Some(v) = constant {
            let node = Node {
                pos,
                value_type: ValueType::Scalar,
                kind: Kind::Number(v),
            };
            return Ok(Planned {
                node,
                invariant: true,
                wrap: false,
            });
        }
        let buckets = match func.name {
            "histogram_count" | "histogram_sum" | "histogram_avg" if buckets == Buckets::Needed => Buckets::Skipped,
            "histogram_quantile" | "histogram_quantiles" | "histogram_fraction" => Buckets::Fixed,
            _ => buckets,
        };
        let args = args.iter().map(|a| self.node(a, buckets)).collect::<Result<Vec<_>>>()?;
        let fixed_times = func.name == "timestamp"
            && args
                .iter()
                .all(|a| a.invariant && matches!(a.node.kind, Kind::Selector(_)));
        let invariant = args.iter().all(|a| a.invariant) && (!TIME_DEPENDENT.contains(&func.name) || fixed_times);
        let args = args
            .into_iter()
            .map(|a| if invariant { a.node } else { a.wrapped() })
            .collect();
        let node = Node {
            pos,
            value_type: func.returns,
            kind: Kind::Call(func, args),
        };
        Ok(match invariant {
            true => Planned {
                node,
                invariant,
                wrap: true,
            },
            false => Planned::varying(node),
        })
    }

    fn selector<'a>(&self, s: &'a VectorSelector, buckets: Buckets, pos: Pos) -> Result<Selector<'a>> {
        Ok(Selector {
            matchers: &s.matchers,
            offset_ms: self.optional(&s.offset)?,
            at: self.at(s.at),
            extension: s.extension,
            skip_buckets: buckets == Buckets::Skipped,
            pos,
        })
    }

    fn at(&self, at: Option<At>) -> Option<i64> {
        at.map(|at| match at {
            At::Time(ms) => ms,
            At::Start => self.start_ms,
            At::End => self.end_ms,
        })
    }

    fn optional(&self, duration: &Option<DurationExpr>) -> Result<i64> {
        duration.as_ref().map_or(Ok(0), |d| self.duration(d, true))
    }

    fn duration(&self, duration: &DurationExpr, is_offset: bool) -> Result<i64> {
        let range_ms = self.end_ms.saturating_sub(self.start_ms);
        duration
            .resolve(self.step_ms, range_ms, is_offset)
            .map_err(EvalError::bad_data)
    }
}
