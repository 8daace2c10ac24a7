use std::sync::Arc;

use model::{Histogram, Labels};

/// What a query evaluates to.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    Scalar {
        at_ms: i64,
        value: f64,
    },
    String {
        at_ms: i64,
        text: String,
    },
    /// One sample a series, in the order the query asked for.
    Vector(Vec<Sample>),
    /// Sorted by labels.
    Matrix(Vec<Series>),
}

impl Value {
    /// The type as Prometheus' API names it.
    pub fn type_name(&self) -> &'static str {
        match self {
            Value::Scalar { .. } => "scalar",
            Value::String { .. } => "string",
            Value::Vector(_) => "vector",
            Value::Matrix(_) => "matrix",
        }
    }

    /// Series in the answer; a scalar and a string count as none.
    pub fn series(&self) -> usize {
        match self {
            Value::Scalar { .. } | Value::String { .. } => 0,
            Value::Vector(v) => v.len(),
            Value::Matrix(m) => m.len(),
        }
    }

    /// Points in the answer.
    pub fn points(&self) -> usize {
        match self {
            Value::Scalar { .. } | Value::String { .. } => 1,
            Value::Vector(v) => v.len(),
            Value::Matrix(m) => m.iter().map(|s| s.values.len() + s.histograms.len()).sum(),
        }
    }
}

/// One value of a series at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    pub labels: Labels,
    /// Unix milliseconds: the evaluation time.
    pub at_ms: i64,
    pub point: Point,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Point {
    Float(f64),
    Histogram(Arc<Histogram>),
}

/// Points of one series as columns, each ascending in time; no time is in both.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Series {
    pub labels: Labels,
    pub at_ms: Vec<i64>,
    pub values: Vec<f64>,
    pub histogram_at_ms: Vec<i64>,
    pub histograms: Vec<Arc<Histogram>>,
}
