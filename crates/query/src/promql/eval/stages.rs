//! What can be done to a row point by point, without a look at other rows.

use std::f64::consts::PI;
use std::sync::Arc;

use model::Histogram;

use super::super::ast::{BinaryOp, Pos};
use super::super::{histogram, max_of, min_of};
use super::arith;
use super::binary;
use super::matrix::{ABSENT, Row, Steps, is_absent};
use super::notes::Notes;
use super::window::Column;

pub(super) enum Stage {
    Negate,
    /// A function of floats; histograms go.
    Float(fn(f64) -> f64),
    Clamp {
        min: Column,
        max: Column,
    },
    /// To the nearest multiple of this.
    Round(Column),
    /// A function of native histograms; floats go.
    Histogram(fn(&Histogram) -> f64),
    /// The time of the step in seconds.
    StepTime,
    /// Histograms go.
    FloatsOnly,
    Operator {
        op: BinaryOp,
        scalar: Column,
        scalar_is_left: bool,
        return_bool: bool,
        pos: Pos,
    },
}

impl Stage {
    pub(super) fn apply(&self, row: &mut Row, steps: &Steps, notes: &mut Notes) {
        match self {
            Stage::Negate => {
                row.drop_name = true;
                each(row, |_, v| -v);
                for (_, h) in &mut row.histograms {
                    arith::mul(Arc::make_mut(h), -1.0);
                }
            }
            Stage::Float(f) => {
                row.drop_name = true;
                row.histograms.clear();
                each(row, |_, v| f(v));
            }
            Stage::Clamp { min, max } => {
                row.drop_name = true;
                row.histograms.clear();
                for (step, v) in row.values.iter_mut().enumerate() {
                    if is_absent(*v) {
                        continue;
                    }
                    let (min, max) = (min.at(step), max.at(step));
                    *v = if max < min {
                        ABSENT
                    } else {
                        present(max_of(min, min_of(max, *v)))
                    };
                }
            }
            Stage::Round(to) => {
                row.drop_name = true;
                row.histograms.clear();
                // the inverse is kinder to decimals
                each(row, |step, v| {
                    let inverse = 1.0 / to.at(step);
                    (v * inverse + 0.5).floor() / inverse
                });
            }
            Stage::Histogram(f) => {
                row.drop_name = true;
                row.values.fill(ABSENT);
                for (step, h) in std::mem::take(&mut row.histograms) {
                    row.set(step as usize, f(&h));
                }
            }
            Stage::StepTime => {
                row.drop_name = true;
                for (step, _) in std::mem::take(&mut row.histograms) {
                    row.values[step as usize] = 0.0;
                }
                each(row, |step, _| steps.at(step) as f64 / 1000.0);
            }
            Stage::FloatsOnly => row.histograms.clear(),
            Stage::Operator {
                op,
                scalar,
                scalar_is_left,
                return_bool,
                pos,
            } => {
                operator(row, *op, scalar, *scalar_is_left, *return_bool, *pos, notes);
            }
        }
    }
}

fn present(v: f64) -> f64 {
    if is_absent(v) { f64::NAN } else { v }
}

fn each(row: &mut Row, f: impl Fn(usize, f64) -> f64) {
    for (step, v) in row.values.iter_mut().enumerate() {
        if !is_absent(*v) {
            *v = present(f(step, *v));
        }
    }
}

fn operator(
    row: &mut Row,
    op: BinaryOp,
    scalar: &Column,
    scalar_is_left: bool,
    return_bool: bool,
    pos: Pos,
    notes: &mut Notes,
) {
    let trims = matches!(op, BinaryOp::TrimLower | BinaryOp::TrimUpper);
    if trims {
        for v in &mut row.values {
            if !is_absent(*v) {
                notes.incompatible_types(pos, "float", op.as_str(), "float");
                *v = ABSENT;
            }
        }
    } else if op.is_comparison() {
        for (step, v) in row.values.iter_mut().enumerate() {
            if is_absent(*v) {
                continue;
            }
            let s = scalar.at(step);
            let keep = match scalar_is_left {
                true => binary::compare(op, s, *v),
                false => binary::compare(op, *v, s),
            };
            *v = match (return_bool, keep) {
                (true, _) => f64::from(u8::from(keep)),
                (false, true) => *v,
                (false, false) => ABSENT,
            };
        }
    } else {
        match scalar_is_left {
            true => each(row, |step, v| binary::arithmetic(op, scalar.at(step), v)),
            false => each(row, |step, v| binary::arithmetic(op, v, scalar.at(step))),
        }
    }
    for (step, h) in std::mem::take(&mut row.histograms) {
        let s = scalar.at(step as usize);
        let result = match (op, scalar_is_left) {
            (BinaryOp::Mul, _) => Some(arith::scaled(&h, s)),
            (BinaryOp::Div, false) => Some(arith::divided(&h, s)),
            (BinaryOp::TrimUpper, false) => Some(arith::trimmed(&h, s, true)),
            (BinaryOp::TrimLower, false) => Some(arith::trimmed(&h, s, false)),
            (_, true) => {
                notes.incompatible_types(pos, "float", op.as_str(), "histogram");
                None
            }
            (_, false) => {
                notes.incompatible_types(pos, "histogram", op.as_str(), "float");
                None
            }
        };
        if let Some(h) = result {
            row.histograms.push((step, Arc::new(h)));
        }
    }
    if return_bool || binary::drops_name(op) {
        row.drop_name = true;
    }
}

/// The function of one float by the name of a PromQL function.
pub(super) fn float_function(name: &str) -> Option<fn(f64) -> f64> {
    Some(match name {
        "abs" => f64::abs,
        "acos" => f64::acos,
        "acosh" => acosh,
        "asin" => f64::asin,
        "asinh" => asinh,
        "atan" => f64::atan,
        "atanh" => f64::atanh,
        "ceil" => f64::ceil,
        "cos" => f64::cos,
        "cosh" => f64::cosh,
        "deg" => |v| v * 180.0 / PI,
        "exp" => f64::exp,
        "floor" => f64::floor,
        "ln" => f64::ln,
        "log10" => f64::log10,
        "log2" => f64::log2,
        "rad" => |v| v * PI / 180.0,
        "sgn" => |v| match v {
            v if v < 0.0 => -1.0,
            v if v > 0.0 => 1.0,
            v => v,
        },
        "sin" => f64::sin,
        "sinh" => f64::sinh,
        "sqrt" => f64::sqrt,
        "tan" => f64::tan,
        "tanh" => f64::tanh,
        _ => return super::dates::date_function(name),
    })
}

/// The standard library's loses precision for large arguments.
fn asinh(v: f64) -> f64 {
    let x = v.abs();
    if x > f64::from(1 << 28) {
        return (x.ln() + std::f64::consts::LN_2).copysign(v);
    }
    v.asinh()
}

fn acosh(v: f64) -> f64 {
    if v > f64::from(1 << 28) {
        v.ln() + std::f64::consts::LN_2
    } else {
        v.acosh()
    }
}

/// The function of one native histogram by the name of a PromQL function.
pub(super) fn histogram_function(name: &str) -> Option<fn(&Histogram) -> f64> {
    Some(match name {
        "histogram_count" => |h| h.count,
        "histogram_sum" => |h| h.sum,
        "histogram_avg" => histogram::avg,
        "histogram_stddev" => histogram::stddev,
        "histogram_stdvar" => histogram::stdvar,
        _ => return None,
    })
}
