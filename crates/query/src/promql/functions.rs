use super::ast::ValueType;

/// One function of the language: its type, and what documentation, completion and tests print.
#[derive(Debug, PartialEq, Eq)]
pub struct Function {
    pub name: &'static str,
    /// One sentence.
    pub doc: &'static str,
    pub args: &'static [ValueType],
    /// 0: exactly `args`. n > 0: the last argument may be absent, or be repeated up to n optional arguments in all.
    /// -1: the last argument may be absent or be repeated without bound.
    pub variadic: i32,
    pub returns: ValueType,
    /// Prometheus wants a feature flag for it; here it is always on.
    pub experimental: bool,
    /// A query that parses.
    pub example: &'static str,
}

/// The function of a name, which is case-sensitive.
pub fn find(name: &str) -> Option<&'static Function> {
    FUNCTIONS
        .binary_search_by(|f| f.name.cmp(name))
        .ok()
        .map(|i| &FUNCTIONS[i])
}

const S: ValueType = ValueType::Scalar;
const V: ValueType = ValueType::Vector;
const M: ValueType = ValueType::Matrix;
const T: ValueType = ValueType::String;

const fn row(
    name: &'static str,
    args: &'static [ValueType],
    returns: ValueType,
    example: &'static str,
    doc: &'static str,
) -> Function {
    Function {
        name,
        doc,
        args,
        variadic: 0,
        returns,
        experimental: false,
        example,
    }
}

impl Function {
    const fn variadic(self, variadic: i32) -> Function {
        Function { variadic, ..self }
    }

    const fn experimental(self) -> Function {
        Function {
            experimental: true,
            ..self
        }
    }
}

/// All functions of Prometheus 3.14, by ascending name. Aggregations are operators of the grammar, not functions.
pub static FUNCTIONS: &[Function] = &[
    row("abs", &[V], V, "abs(x)", "Absolute value of each sample."),
    row(
        "absent",
        &[V],
        V,
        r#"absent(up{job="api"})"#,
        "One element with the value 1 when the vector is empty, else nothing.",
    ),
    row(
        "absent_over_time",
        &[M],
        V,
        r#"absent_over_time(up{job="api"}[5m])"#,
        "One element with the value 1 when the range holds no sample, else nothing.",
    ),
    row("acos", &[V], V, "acos(x)", "Arc cosine, in radians."),
    row("acosh", &[V], V, "acosh(x)", "Inverse hyperbolic cosine."),
    row("asin", &[V], V, "asin(x)", "Arc sine, in radians."),
    row("asinh", &[V], V, "asinh(x)", "Inverse hyperbolic sine."),
    row("atan", &[V], V, "atan(x)", "Arc tangent, in radians."),
    row("atanh", &[V], V, "atanh(x)", "Inverse hyperbolic tangent."),
    row(
        "avg_over_time",
        &[M],
        V,
        "avg_over_time(x[5m])",
        "Mean of the values in the range.",
    ),
    row(
        "ceil",
        &[V],
        V,
        "ceil(x)",
        "Each value rounded up to the next whole number.",
    ),
    row(
        "changes",
        &[M],
        V,
        "changes(x[5m])",
        "How many times the value changed within the range.",
    ),
    row(
        "clamp",
        &[V, S, S],
        V,
        "clamp(x, 0, 10)",
        "Values limited to a lower and an upper bound.",
    ),
    row(
        "clamp_max",
        &[V, S],
        V,
        "clamp_max(x, 10)",
        "Values limited to an upper bound.",
    ),
    row(
        "clamp_min",
        &[V, S],
        V,
        "clamp_min(x, 0)",
        "Values limited to a lower bound.",
    ),
    row("cos", &[V], V, "cos(x)", "Cosine of an angle in radians."),
    row("cosh", &[V], V, "cosh(x)", "Hyperbolic cosine."),
    row(
        "count_over_time",
        &[M],
        V,
        "count_over_time(x[5m])",
        "Number of samples in the range.",
    ),
    row(
        "day_of_month",
        &[V],
        V,
        "day_of_month()",
        "Day of the month (1 to 31) of each time, in UTC.",
    )
    .variadic(1),
    row(
        "day_of_week",
        &[V],
        V,
        "day_of_week()",
        "Day of the week (0 is Sunday) of each time, in UTC.",
    )
    .variadic(1),
    row(
        "day_of_year",
        &[V],
        V,
        "day_of_year()",
        "Day of the year (1 to 366) of each time, in UTC.",
    )
    .variadic(1),
    row(
        "days_in_month",
        &[V],
        V,
        "days_in_month()",
        "Number of days in the month of each time, in UTC.",
    )
    .variadic(1),
    row("deg", &[V], V, "deg(x)", "Radians to degrees."),
    row(
        "delta",
        &[M],
        V,
        "delta(x[5m])",
        "Difference between the ends of the range, extrapolated; for gauges.",
    ),
    row(
        "deriv",
        &[M],
        V,
        "deriv(x[5m])",
        "Slope per second by linear regression; for gauges.",
    ),
    row(
        "double_exponential_smoothing",
        &[M, S, S],
        V,
        "double_exponential_smoothing(x[5m], 0.5, 0.1)",
        "Smoothed value by a smoothing and a trend factor; for gauges.",
    )
    .experimental(),
    row(
        "end",
        &[],
        S,
        "end()",
        "End of the query's time range, in seconds since 1970.",
    )
    .experimental(),
    row("exp", &[V], V, "exp(x)", "e raised to each value."),
    row(
        "first_over_time",
        &[M],
        V,
        "first_over_time(x[5m])",
        "The oldest sample in the range.",
    ),
    row(
        "floor",
        &[V],
        V,
        "floor(x)",
        "Each value rounded down to a whole number.",
    ),
    row(
        "histogram_avg",
        &[V],
        V,
        "histogram_avg(x)",
        "Mean of the observations in each native histogram.",
    ),
    row(
        "histogram_count",
        &[V],
        V,
        "histogram_count(x)",
        "Number of observations in each native histogram.",
    ),
    row(
        "histogram_fraction",
        &[S, S, V],
        V,
        "histogram_fraction(0, 0.2, x)",
        "Estimated fraction of observations between two bounds.",
    ),
    row(
        "histogram_quantile",
        &[S, V],
        V,
        "histogram_quantile(0.9, x)",
        "Estimated quantile of a histogram, native or classic.",
    ),
    row(
        "histogram_quantiles",
        &[V, T, S, S],
        V,
        r#"histogram_quantiles(x, "q", 0.5, 0.9)"#,
        "Several estimated quantiles of a histogram, told apart by a label.",
    )
    .variadic(9)
    .experimental(),
    row(
        "histogram_stddev",
        &[V],
        V,
        "histogram_stddev(x)",
        "Estimated standard deviation of the observations in each native histogram.",
    ),
    row(
        "histogram_stdvar",
        &[V],
        V,
        "histogram_stdvar(x)",
        "Estimated variance of the observations in each native histogram.",
    ),
    row(
        "histogram_sum",
        &[V],
        V,
        "histogram_sum(x)",
        "Sum of the observations in each native histogram.",
    ),
    row(
        "hour",
        &[V],
        V,
        "hour()",
        "Hour of the day (0 to 23) of each time, in UTC.",
    )
    .variadic(1),
    row(
        "idelta",
        &[M],
        V,
        "idelta(x[5m])",
        "Difference of the last two samples; for gauges.",
    ),
    row(
        "increase",
        &[M],
        V,
        "increase(x[5m])",
        "Growth over the range, counter resets allowed for, extrapolated.",
    ),
    row(
        "info",
        &[V, V],
        V,
        r#"info(x, {data="target"})"#,
        "Adds the labels of matching info series.",
    )
    .variadic(1)
    .experimental(),
    row(
        "irate",
        &[M],
        V,
        "irate(x[5m])",
        "Growth per second between the last two samples.",
    ),
    row(
        "label_join",
        &[V, T, T, T],
        V,
        r#"label_join(x, "dst", ",", "a", "b")"#,
        "Sets a label to the values of other labels, joined.",
    )
    .variadic(-1),
    row(
        "label_replace",
        &[V, T, T, T, T],
        V,
        r#"label_replace(x, "dst", "$1", "src", "(.*)")"#,
        "Sets a label from another label's value by a regular expression.",
    ),
    row(
        "last_over_time",
        &[M],
        V,
        "last_over_time(x[5m])",
        "The newest sample in the range.",
    ),
    row("ln", &[V], V, "ln(x)", "Natural logarithm."),
    row("log10", &[V], V, "log10(x)", "Decimal logarithm."),
    row("log2", &[V], V, "log2(x)", "Binary logarithm."),
    row(
        "mad_over_time",
        &[M],
        V,
        "mad_over_time(x[5m])",
        "Median absolute deviation of the values in the range.",
    )
    .experimental(),
    row("max_of", &[S, S], S, "max_of(1, 2)", "The larger of two numbers.").experimental(),
    row(
        "max_over_time",
        &[M],
        V,
        "max_over_time(x[5m])",
        "The largest value in the range.",
    ),
    row("min_of", &[S, S], S, "min_of(1, 2)", "The smaller of two numbers.").experimental(),
    row(
        "min_over_time",
        &[M],
        V,
        "min_over_time(x[5m])",
        "The smallest value in the range.",
    ),
    row(
        "minute",
        &[V],
        V,
        "minute()",
        "Minute of the hour (0 to 59) of each time, in UTC.",
    )
    .variadic(1),
    row("month", &[V], V, "month()", "Month (1 to 12) of each time, in UTC.").variadic(1),
    row("pi", &[], S, "pi()", "The number pi."),
    row(
        "predict_linear",
        &[M, S],
        V,
        "predict_linear(x[1h], 3600)",
        "Value expected some seconds from now by linear regression; for gauges.",
    ),
    row(
        "present_over_time",
        &[M],
        V,
        "present_over_time(x[5m])",
        "1 for each series with a sample in the range.",
    ),
    row(
        "quantile_over_time",
        &[S, M],
        V,
        "quantile_over_time(0.9, x[5m])",
        "Quantile of the values in the range.",
    ),
    row("rad", &[V], V, "rad(x)", "Degrees to radians."),
    row(
        "range",
        &[],
        S,
        "range()",
        "Length of the query's time range, in seconds.",
    )
    .experimental(),
    row(
        "rate",
        &[M],
        V,
        "rate(x[5m])",
        "Growth per second over the range, counter resets allowed for, extrapolated.",
    ),
    row(
        "resets",
        &[M],
        V,
        "resets(x[5m])",
        "Number of counter resets within the range.",
    ),
    row(
        "round",
        &[V, S],
        V,
        "round(x, 0.5)",
        "Each value rounded to the nearest multiple.",
    )
    .variadic(1),
    row(
        "scalar",
        &[V],
        S,
        "scalar(x)",
        "The value of a one-element vector as a scalar, else NaN.",
    ),
    row("sgn", &[V], V, "sgn(x)", "Sign of each value: 1, 0 or -1."),
    row("sin", &[V], V, "sin(x)", "Sine of an angle in radians."),
    row("sinh", &[V], V, "sinh(x)", "Hyperbolic sine."),
    row(
        "sort",
        &[V],
        V,
        "sort(x)",
        "Elements by ascending value; instant queries only.",
    ),
    row(
        "sort_by_label",
        &[V, T],
        V,
        r#"sort_by_label(x, "a")"#,
        "Elements by ascending label values; instant queries only.",
    )
    .variadic(-1)
    .experimental(),
    row(
        "sort_by_label_desc",
        &[V, T],
        V,
        r#"sort_by_label_desc(x, "a")"#,
        "Elements by descending label values; instant queries only.",
    )
    .variadic(-1)
    .experimental(),
    row(
        "sort_desc",
        &[V],
        V,
        "sort_desc(x)",
        "Elements by descending value; instant queries only.",
    ),
    row("sqrt", &[V], V, "sqrt(x)", "Square root."),
    row(
        "start",
        &[],
        S,
        "start()",
        "Start of the query's time range, in seconds since 1970.",
    )
    .experimental(),
    row(
        "start_timestamp",
        &[V],
        V,
        "start_timestamp(x)",
        "Start time of each counter sample, in seconds since 1970, where it is known.",
    )
    .experimental(),
    row(
        "stddev_over_time",
        &[M],
        V,
        "stddev_over_time(x[5m])",
        "Population standard deviation of the values in the range.",
    ),
    row(
        "stdvar_over_time",
        &[M],
        V,
        "stdvar_over_time(x[5m])",
        "Population variance of the values in the range.",
    ),
    row(
        "step",
        &[],
        S,
        "step()",
        "Step of the query, in seconds; 0 for an instant query.",
    )
    .experimental(),
    row(
        "sum_over_time",
        &[M],
        V,
        "sum_over_time(x[5m])",
        "Sum of the values in the range.",
    ),
    row("tan", &[V], V, "tan(x)", "Tangent of an angle in radians."),
    row("tanh", &[V], V, "tanh(x)", "Hyperbolic tangent."),
    row("time", &[], S, "time()", "The evaluation time, in seconds since 1970."),
    row(
        "timestamp",
        &[V],
        V,
        "timestamp(x)",
        "Time of each sample, in seconds since 1970.",
    ),
    row(
        "ts_of_first_over_time",
        &[M],
        V,
        "ts_of_first_over_time(x[5m])",
        "Time of the oldest sample in the range, in seconds since 1970.",
    )
    .experimental(),
    row(
        "ts_of_last_over_time",
        &[M],
        V,
        "ts_of_last_over_time(x[5m])",
        "Time of the newest sample in the range, in seconds since 1970.",
    )
    .experimental(),
    row(
        "ts_of_max_over_time",
        &[M],
        V,
        "ts_of_max_over_time(x[5m])",
        "Time of the last sample with the largest value in the range, in seconds since 1970.",
    )
    .experimental(),
    row(
        "ts_of_min_over_time",
        &[M],
        V,
        "ts_of_min_over_time(x[5m])",
        "Time of the last sample with the smallest value in the range, in seconds since 1970.",
    )
    .experimental(),
    row(
        "vector",
        &[S],
        V,
        "vector(1)",
        "A scalar as a vector with one element without labels.",
    ),
    row("year", &[V], V, "year()", "Year of each time, in UTC.").variadic(1),
];
