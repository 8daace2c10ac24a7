//! The syntax tree of PromQL, as Prometheus 3.x with all experimental features on understands it.

use model::Matcher;

/// Byte offsets in the query text, `start` included, `end` not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Pos {
    pub start: u32,
    pub end: u32,
}

/// Prometheus' value types.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ValueType {
    Scalar,
    Vector,
    Matrix,
    String,
}

impl ValueType {
    /// As Prometheus names it in answers ("scalar", "vector", "matrix", "string").
    pub fn as_str(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "vector",
            ValueType::Matrix => "matrix",
            ValueType::String => "string",
        }
    }

    /// As Prometheus names it in errors ("scalar", "instant vector", "range vector", "string").
    pub fn documented(self) -> &'static str {
        match self {
            ValueType::Scalar => "scalar",
            ValueType::Vector => "instant vector",
            ValueType::Matrix => "range vector",
            ValueType::String => "string",
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Expr {
    pub pos: Pos,
    pub kind: ExprKind,
}

impl Expr {
    pub fn new(pos: Pos, kind: ExprKind) -> Self {
        Expr { pos, kind }
    }

    /// The type the expression evaluates to. Binary operators and parentheses ask their operands.
    pub fn value_type(&self) -> ValueType {
        let (mut expr, mut operand) = (self, false);
        loop {
            let own = match &expr.kind {
                ExprKind::Number(_) | ExprKind::Duration(_) => ValueType::Scalar,
                ExprKind::String(_) => ValueType::String,
                ExprKind::Selector(_) | ExprKind::Aggregate(_) => ValueType::Vector,
                ExprKind::Matrix { .. } | ExprKind::Subquery(_) => ValueType::Matrix,
                ExprKind::Call { func, .. } => func.returns,
                ExprKind::Paren(inner) | ExprKind::Unary { expr: inner, .. } => {
                    expr = inner;
                    continue;
                }
                ExprKind::Binary(b) if b.right.value_type() == ValueType::Scalar => {
                    (expr, operand) = (&b.left, true);
                    continue;
                }
                ExprKind::Binary(_) => ValueType::Vector,
            };
            // an operator yields a scalar of scalars, and a vector of anything else
            return if operand && own != ValueType::Scalar {
                ValueType::Vector
            } else {
                own
            };
        }
    }

    /// The value of a literal number, parentheses not looked through.
    pub fn as_number(&self) -> Option<f64> {
        match self.kind {
            ExprKind::Number(v) | ExprKind::Duration(v) => Some(v),
            _ => None,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum ExprKind {
    Number(f64),
    /// A number written as a duration (`5m`), in seconds. It means the same as `Number` and prints as a duration.
    Duration(f64),
    String(String),
    Selector(VectorSelector),
    /// `selector[range]`; the selector within carries offset, `@` and modifiers.
    Matrix {
        selector: VectorSelector,
        range: DurationExpr,
    },
    Subquery(Box<Subquery>),
    Unary {
        op: UnaryOp,
        expr: Box<Expr>,
    },
    Binary(Box<Binary>),
    Aggregate(Box<Aggregate>),
    Call {
        func: &'static crate::promql::functions::Function,
        args: Vec<Expr>,
    },
    Paren(Box<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOp {
    Plus,
    Minus,
}

#[derive(Clone, Debug, PartialEq)]
pub struct VectorSelector {
    /// As written before the braces; empty when given by `__name__` or in quotes within the braces only.
    pub name: String,
    /// All matchers, the one for the name included.
    pub matchers: Vec<Matcher>,
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
    pub extension: Extension,
}

/// Extended range selectors (`anchored`, `smoothed`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Extension {
    #[default]
    None,
    Anchored,
    Smoothed,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum At {
    /// Unix milliseconds.
    Time(i64),
    Start,
    End,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Subquery {
    pub expr: Expr,
    pub range: DurationExpr,
    /// `None`: the default step.
    pub step: Option<DurationExpr>,
    pub offset: Option<DurationExpr>,
    pub at: Option<At>,
}

/// A duration as written; literal ones are already in ms. `step()`, `range()`, `min`, `max` and arithmetic are worked
/// out before evaluation, when step and range of the query are known.
#[derive(Clone, Debug, PartialEq)]
pub enum DurationExpr {
    /// Milliseconds, may be negative (offsets).
    Literal(i64),
    /// A bare number in seconds inside an expression.
    Number(f64),
    Step,
    Range,
    Min(Box<DurationExpr>, Box<DurationExpr>),
    Max(Box<DurationExpr>, Box<DurationExpr>),
    Neg(Box<DurationExpr>),
    Binary {
        op: BinaryOp,
        left: Box<DurationExpr>,
        right: Box<DurationExpr>,
    },
    Paren(Box<DurationExpr>),
    /// The expression within stands at this place of the query; errors of [`DurationExpr::resolve`] name it.
    Spanned(Pos, Box<DurationExpr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BinaryOp {
    Add,
    Sub,
    Mul,
    Div,
    Mod,
    Pow,
    Atan2,
    Eq,
    Ne,
    Lt,
    Le,
    Gt,
    Ge,
    /// `</` and `>/`: histogram trimming.
    TrimUpper,
    TrimLower,
    And,
    Or,
    Unless,
}

impl BinaryOp {
    /// As the language spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            BinaryOp::Add => "+",
            BinaryOp::Sub => "-",
            BinaryOp::Mul => "*",
            BinaryOp::Div => "/",
            BinaryOp::Mod => "%",
            BinaryOp::Pow => "^",
            BinaryOp::Atan2 => "atan2",
            BinaryOp::Eq => "==",
            BinaryOp::Ne => "!=",
            BinaryOp::Lt => "<",
            BinaryOp::Le => "<=",
            BinaryOp::Gt => ">",
            BinaryOp::Ge => ">=",
            BinaryOp::TrimUpper => "</",
            BinaryOp::TrimLower => ">/",
            BinaryOp::And => "and",
            BinaryOp::Or => "or",
            BinaryOp::Unless => "unless",
        }
    }

    /// `==`, `!=`, `<`, `<=`, `>`, `>=`.
    pub fn is_comparison(self) -> bool {
        use BinaryOp::*;
        matches!(self, Eq | Ne | Lt | Le | Gt | Ge)
    }

    /// `and`, `or`, `unless`.
    pub fn is_set(self) -> bool {
        matches!(self, BinaryOp::And | BinaryOp::Or | BinaryOp::Unless)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Binary {
    pub op: BinaryOp,
    pub left: Expr,
    pub right: Expr,
    /// `bool` was given.
    pub return_bool: bool,
    /// Present when both sides are vectors.
    pub matching: Option<Matching>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cardinality {
    OneToOne,
    ManyToOne,
    OneToMany,
    ManyToMany,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Matching {
    pub cardinality: Cardinality,
    pub on: bool,
    /// Labels of `on` or `ignoring`.
    pub labels: Vec<String>,
    /// Labels of `group_left` or `group_right`.
    pub include: Vec<String>,
    /// `fill`, `fill_left`, `fill_right`: the value for a missing side.
    pub fill_left: Option<f64>,
    pub fill_right: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AggregateOp {
    Sum,
    Avg,
    Count,
    Min,
    Max,
    Group,
    Stddev,
    Stdvar,
    TopK,
    BottomK,
    CountValues,
    Quantile,
    LimitK,
    LimitRatio,
}

impl AggregateOp {
    /// As the language spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            AggregateOp::Sum => "sum",
            AggregateOp::Avg => "avg",
            AggregateOp::Count => "count",
            AggregateOp::Min => "min",
            AggregateOp::Max => "max",
            AggregateOp::Group => "group",
            AggregateOp::Stddev => "stddev",
            AggregateOp::Stdvar => "stdvar",
            AggregateOp::TopK => "topk",
            AggregateOp::BottomK => "bottomk",
            AggregateOp::CountValues => "count_values",
            AggregateOp::Quantile => "quantile",
            AggregateOp::LimitK => "limitk",
            AggregateOp::LimitRatio => "limit_ratio",
        }
    }

    /// Whether it takes a parameter before the vector.
    pub fn has_param(self) -> bool {
        use AggregateOp::*;
        matches!(self, TopK | BottomK | CountValues | Quantile | LimitK | LimitRatio)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct Aggregate {
    pub op: AggregateOp,
    pub param: Option<Expr>,
    pub expr: Expr,
    pub without: bool,
    pub grouping: Vec<String>,
}
