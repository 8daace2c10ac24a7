use super::super::ast::{AggregateOp, Extension, Pos};
use super::super::{max_of, min_of};
use super::matrix::Steps;
use super::notes::Notes;
use super::numbers::format_g;
use super::window::Column;
use super::{EvalError, Result};

/// Floats beyond these do not fit the number of series to choose.
const K_MIN: f64 = -9_223_372_036_854_775_808.0;
const K_MAX: f64 = 9_223_372_036_854_774_784.0;

/// Checks the parameter of an aggregation; false when nothing will be chosen.
pub(super) fn check_param(op: AggregateOp, param: &Column, pos: Pos, steps: &Steps, notes: &mut Notes) -> Result<bool> {
    if !matches!(
        op,
        AggregateOp::TopK
            | AggregateOp::BottomK
            | AggregateOp::LimitK
            | AggregateOp::LimitRatio
            | AggregateOp::Quantile
    ) {
        return Ok(true);
    }
    let distinct = if matches!(param, Column::Same(_)) {
        steps.count.min(1)
    } else {
        steps.count
    };
    let (mut min, mut max, mut nan) = (f64::MAX, f64::MIN, false);
    for v in (0..distinct).map(|step| param.at(step)) {
        (min, max) = (min_of(min, v), max_of(max, v));
        nan |= v.is_nan();
    }
    match op {
        AggregateOp::LimitRatio => {
            if max == 0.0 && min == 0.0 {
                return Ok(false);
            }
            if nan {
                return Err(EvalError::execution("Ratio value is NaN"));
            }
            if max > 1.0 {
                notes.invalid_ratio(pos, max, 1.0);
            }
            if min < -1.0 {
                notes.invalid_ratio(pos, min, -1.0);
            }
        }
        AggregateOp::Quantile => {
            if nan {
                notes.invalid_quantile(pos, f64::NAN);
            }
            if max > 1.0 {
                notes.invalid_quantile(pos, max);
            }
            if min < 0.0 {
                notes.invalid_quantile(pos, min);
            }
        }
        _ => {
            if max < 1.0 {
                return Ok(false);
            }
            if nan {
                return Err(EvalError::execution("Parameter value is NaN"));
            }
            if min <= K_MIN {
                return Err(EvalError::execution(format!(
                    "Scalar value {} underflows int64",
                    format_g(min)
                )));
            }
            if max >= K_MAX {
                return Err(EvalError::execution(format!(
                    "Scalar value {} overflows int64",
                    format_g(max)
                )));
            }
        }
    }
    Ok(true)
}

pub(super) fn check_extension(extension: Extension, function: &str) -> Result<()> {
    let (word, list, safe): (_, _, &[&str]) = match extension {
        Extension::None => return Ok(()),
        Extension::Anchored => (
            "anchored",
            "changes, delta, increase, rate, resets",
            &["changes", "delta", "increase", "rate", "resets"],
        ),
        Extension::Smoothed => ("smoothed", "delta, increase, rate", &["delta", "increase", "rate"]),
    };
    if safe.contains(&function) {
        return Ok(());
    }
    Err(EvalError::execution(format!(
        "{word} modifier can only be used with: {list} - not with {function}"
    )))
}
