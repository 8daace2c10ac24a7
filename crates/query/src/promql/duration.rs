use super::ast::{BinaryOp, DurationExpr, Pos};
use super::quote;

const MS_MAX: i64 = i64::MAX / 1_000_000;
/// Seconds that fit Prometheus' durations (64 bit nanoseconds).
pub(crate) const SECONDS_MAX: f64 = i64::MAX as f64 / 1e9;

const UNITS: [(&str, i64); 7] = [
    ("y", 365 * 86_400_000),
    ("w", 7 * 86_400_000),
    ("d", 86_400_000),
    ("h", 3_600_000),
    ("m", 60_000),
    ("s", 1000),
    ("ms", 1),
];

/// Milliseconds of a duration as Prometheus spells it (`1h30m`, `0`); each unit once, the larger first. The error text
/// is Prometheus'.
pub fn parse_duration(text: &str) -> Result<i64, String> {
    if text.is_empty() {
        return Err("empty duration string".into());
    }
    if text == "0" {
        return Ok(0);
    }
    let invalid = || format!("not a valid duration string: {}", quote(text));
    let (mut rest, mut total, mut next_unit) = (text, 0i64, 0);
    while !rest.is_empty() {
        let (number, tail) = rest.split_at(rest.bytes().take_while(u8::is_ascii_digit).count());
        let (unit, tail) = tail.split_at(tail.bytes().take_while(|b| !b.is_ascii_digit()).count());
        let count = number.parse::<u64>().map_err(|_| invalid())?;
        if unit.is_empty() {
            return Err(invalid());
        }
        let Some(at) = UNITS.iter().position(|u| u.0 == unit) else {
            return Err(format!("unknown unit {} in duration {}", quote(unit), quote(text)));
        };
        if at < next_unit {
            return Err(invalid());
        }
        let ms = i64::try_from(count).ok().and_then(|n| n.checked_mul(UNITS[at].1));
        total = ms
            .and_then(|ms| ms.checked_add(total))
            .filter(|&sum| sum <= MS_MAX)
            .ok_or_else(|| "duration out of range".to_owned())?;
        next_unit = at + 1;
        rest = tail;
    }
    Ok(total)
}

/// Milliseconds as Prometheus prints them: `1h30m`; years and weeks only when they leave no rest; `0s` for nothing. A
/// negative duration gets a sign.
pub fn format_duration(ms: i64) -> String {
    if ms == 0 {
        return "0s".into();
    }
    let mut out = String::new();
    if ms < 0 {
        out.push('-');
    }
    let mut rest = ms.unsigned_abs();
    for (index, (unit, size)) in UNITS.iter().enumerate() {
        let size = size.unsigned_abs();
        if (index < 2 && !rest.is_multiple_of(size)) || rest < size {
            continue;
        }
        out.push_str(itoa::Buffer::new().format(rest / size));
        out.push_str(unit);
        rest %= size;
    }
    out
}

impl DurationExpr {
    /// Works the duration out, in ms (fractions are cut off), for a query of this step and range in ms. Only an offset
    /// may be zero or negative. The error text is Prometheus', the place in the query included.
    pub fn resolve(&self, step_ms: i64, range_ms: i64, is_offset: bool) -> Result<i64, String> {
        if let DurationExpr::Literal(ms) = self
            && (is_offset || *ms > 0)
        {
            return Ok(*ms);
        }
        let pos = match self {
            DurationExpr::Spanned(pos, _) => *pos,
            _ => Pos::default(),
        };
        let fail = |what: &str| Err(format!("{}:{}: {what}", pos.start, pos.end));
        let seconds = self.seconds(step_ms as f64 / 1000.0, range_ms as f64 / 1000.0, pos)?;
        if !seconds.is_finite() {
            return fail("duration is NaN or infinite");
        }
        if seconds <= 0.0 && !is_offset {
            return fail("duration must be greater than 0");
        }
        if seconds.abs() > SECONDS_MAX {
            return fail("duration is out of range");
        }
        Ok((seconds * 1000.0) as i64)
    }

    fn seconds(&self, step: f64, range: f64, pos: Pos) -> Result<f64, String> {
        let of = |e: &DurationExpr| e.seconds(step, range, pos);
        Ok(match self {
            DurationExpr::Literal(ms) => *ms as f64 / 1000.0,
            DurationExpr::Number(v) => *v,
            DurationExpr::Step => step,
            DurationExpr::Range => range,
            DurationExpr::Min(a, b) => min_of(of(a)?, of(b)?),
            DurationExpr::Max(a, b) => max_of(of(a)?, of(b)?),
            DurationExpr::Neg(e) => -of(e)?,
            DurationExpr::Paren(e) => of(e)?,
            DurationExpr::Spanned(pos, e) => e.seconds(step, range, *pos)?,
            DurationExpr::Binary { op, left, right } => {
                let (l, r) = (of(left)?, of(right)?);
                match op {
                    BinaryOp::Add => l + r,
                    BinaryOp::Sub => l - r,
                    BinaryOp::Mul => l * r,
                    BinaryOp::Div if r == 0.0 => return Err(format!("{}:{}: division by zero", pos.start, pos.end)),
                    BinaryOp::Div => l / r,
                    BinaryOp::Mod if r == 0.0 => return Err(format!("{}:{}: modulo by zero", pos.start, pos.end)),
                    BinaryOp::Mod => l % r,
                    BinaryOp::Pow => l.powf(r),
                    other => {
                        return Err(format!(
                            "unexpected duration expression operator \"{}\"",
                            other.as_str()
                        ));
                    }
                }
            }
        })
    }
}

/// The smaller of two numbers as Go's `math.Min` has it: NaN if either is NaN (unless one is -Inf).
pub fn min_of(a: f64, b: f64) -> f64 {
    if a == f64::NEG_INFINITY || b == f64::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    if a.is_nan() || b.is_nan() {
        return f64::NAN;
    }
    if a == 0.0 && b == 0.0 {
        return if a.is_sign_negative() { a } else { b };
    }
    if a < b { a } else { b }
}

/// The larger of two numbers as Go's `math.Max` has it: NaN if either is NaN (unless one is +Inf).
pub fn max_of(a: f64, b: f64) -> f64 {
    -min_of(-a, -b)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spelling() {
        for (text, ms) in [
            ("5m", 300_000),
            ("1y2w3d4h5m6s7ms", 33_019_506_007),
            ("0", 0),
            ("0s", 0),
            ("1h0m", 3_600_000),
        ] {
            assert_eq!(parse_duration(text), Ok(ms), "{text}");
        }
        assert_eq!(
            parse_duration("1hs"),
            Err("unknown unit \"hs\" in duration \"1hs\"".into())
        );
        for text in ["1", "1m1h", "1s1s", "-1s", "m", "99999999999999999999y"] {
            assert_eq!(
                parse_duration(text),
                Err(format!("not a valid duration string: \"{text}\""))
            );
        }
        for text in ["9999999y", "9223372036854775807s", "292y365d"] {
            assert_eq!(parse_duration(text), Err("duration out of range".into()));
        }
    }

    #[test]
    fn printing() {
        for (ms, text) in [
            (0, "0s"),
            (300_000, "5m"),
            (7 * 86_400_000, "1w"),
            (8 * 86_400_000, "8d"),
            (365 * 86_400_000, "1y"),
            (366 * 86_400_000, "366d"),
            (90_061_001, "1d1h1m1s1ms"),
            (-300_000, "-5m"),
        ] {
            assert_eq!(format_duration(ms), text);
        }
    }

    #[test]
    fn arithmetic() {
        let half_step = DurationExpr::Spanned(
            Pos { start: 3, end: 11 },
            Box::new(DurationExpr::Binary {
                op: BinaryOp::Div,
                left: Box::new(DurationExpr::Literal(1000)),
                right: Box::new(DurationExpr::Step),
            }),
        );
        assert_eq!(half_step.resolve(500, 0, false), Ok(2000));
        assert_eq!(half_step.resolve(0, 0, false), Err("3:11: division by zero".into()));
        assert_eq!(
            DurationExpr::Neg(Box::new(DurationExpr::Step)).resolve(500, 0, true),
            Ok(-500)
        );
        assert!(DurationExpr::Number(f64::NAN).resolve(0, 0, true).is_err());
        assert!(DurationExpr::Number(1e300).resolve(0, 0, false).is_err());
    }

    proptest::proptest! {
        #[test]
        fn printed_durations_parse(ms in 1i64..MS_MAX) {
            proptest::prop_assert_eq!(parse_duration(&format_duration(ms)), Ok(ms));
        }
    }
}
