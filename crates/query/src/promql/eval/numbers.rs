pub(super) use super::super::histogram::kahan;
pub(super) use super::super::{decimal as go_float, general as format_g};

/// Order with NaN first, as Prometheus sorts values before it takes quantiles.
pub(super) fn nan_first(a: &f64, b: &f64) -> std::cmp::Ordering {
    a.partial_cmp(b).unwrap_or_else(|| b.is_nan().cmp(&a.is_nan()))
}

/// The quantile of values, which get sorted; weighted between the two nearest ranks.
pub(super) fn quantile(q: f64, values: &mut [f64]) -> f64 {
    if values.is_empty() || q.is_nan() {
        return f64::NAN;
    }
    if q < 0.0 {
        return f64::NEG_INFINITY;
    }
    if q > 1.0 {
        return f64::INFINITY;
    }
    values.sort_unstable_by(nan_first);
    let last = (values.len() - 1) as f64;
    let rank = q * last;
    let lower = rank.floor().max(0.0);
    let upper = (lower + 1.0).min(last);
    let weight = rank - rank.floor();
    values[lower as usize] * (1.0 - weight) + values[upper as usize] * weight
}

/// A float as Go's `%.2g` prints it.
pub(super) fn format_2g(v: f64) -> String {
    if !v.is_finite() {
        return go_float(v);
    }
    let scientific = format!("{v:.1e}");
    let (digits, exponent) = scientific.split_once('e').unwrap_or((&scientific, "0"));
    let exponent: i32 = exponent.parse().unwrap_or(0);
    let trim = |s: &str| match s.contains('.') {
        true => s.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => s.to_owned(),
    };
    if !(-4..2).contains(&exponent) {
        let sign = if exponent < 0 { '-' } else { '+' };
        return format!("{}e{sign}{:02}", trim(digits), exponent.abs());
    }
    let decimals = usize::try_from(1 - exponent).unwrap_or(0);
    trim(&format!("{v:.decimals$}"))
}

/// A float as OpenMetrics prints label values: as `%g`, with a point or an exponent.
pub(super) fn open_metrics_float(v: f64) -> String {
    let text = format_g(v);
    if v.is_finite() && !text.contains(['e', '.']) {
        text + ".0"
    } else {
        text
    }
}

/// Go's conversion of a float to an integer on amd64: what does not fit becomes the smallest one.
pub(super) fn go_i64(v: f64) -> i64 {
    const LIMIT: f64 = 9_223_372_036_854_775_808.0;
    if (-LIMIT..LIMIT).contains(&v) {
        v as i64
    } else {
        i64::MIN
    }
}

/// Parses a bucket bound as Go's `strconv.ParseFloat` does, hexadecimal and underscored floats left out.
pub(super) fn parse_bound(text: &str) -> Option<f64> {
    let plain = text.strip_prefix(['+', '-']).unwrap_or(text);
    if plain.is_empty() || plain.starts_with(['+', '-']) {
        return None;
    }
    let underscored = text.contains('_');
    if underscored {
        return None;
    }
    // Rust knows the same names in any case: inf, infinity, nan
    if plain.eq_ignore_ascii_case("nan") && plain.len() != text.len() {
        return None;
    }
    match text.parse::<f64>() {
        Ok(v) if v.is_infinite() && plain.starts_with(|c: char| c.is_ascii_digit() || c == '.') => None,
        Ok(v) => Some(v),
        Err(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn like_go() {
        for (v, g) in [
            (1.0, "1"),
            (0.5, "0.5"),
            (1e-5, "1e-05"),
            (123456789.0, "1.23456789e+08"),
            (1e21, "1e+21"),
            (-1.5, "-1.5"),
            (100.0, "100"),
            (100000.0, "100000"),
            (1000000.0, "1e+06"),
            (f64::NAN, "NaN"),
            (f64::INFINITY, "+Inf"),
        ] {
            assert_eq!(format_g(v), g);
        }
        for (v, g) in [
            (1.0, "1"),
            (0.25, "0.25"),
            (12.0, "12"),
            (123.0, "1.2e+02"),
            (0.000012, "1.2e-05"),
            (9.99, "10"),
        ] {
            assert_eq!(format_2g(v), g);
        }
    }

    #[test]
    fn sums_do_not_lose_small_terms() {
        let (s, c) = [1.0, 1e100, 1.0, -1e100]
            .iter()
            .fold((0.0, 0.0), |(s, c), &v| kahan(v, s, c));
        assert_eq!(s + c, 2.0);
    }

    #[test]
    fn quantiles() {
        let mut v = [3.0, 1.0, 2.0, f64::NAN];
        assert!(quantile(0.0, &mut v).is_nan());
        assert_eq!(quantile(1.0, &mut v), 3.0);
        assert_eq!(quantile(0.5, &mut [1.0, 2.0]), 1.5);
        assert_eq!(quantile(-1.0, &mut [1.0]), f64::NEG_INFINITY);
        assert!(quantile(0.5, &mut []).is_nan());
    }
}
