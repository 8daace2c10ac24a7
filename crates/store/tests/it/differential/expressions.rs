//! Random expressions over the whole language, and smaller ones out of a given one.

use host::sim::Dice;
use query::promql::ast::{BinaryOp, Expr, ExprKind, ValueType};
use query::promql::functions::{FUNCTIONS, Function};
use query::promql::parse;

use super::data::{number, percent, pick};

const AGGREGATIONS: [&str; 8] = ["sum", "avg", "min", "max", "count", "group", "stddev", "stdvar"];
const ARITHMETIC: [&str; 8] = ["+", "-", "*", "/", "%", "^", "atan2", "</"];
const COMPARISONS: [&str; 8] = ["==", "!=", ">", "<", ">=", "<=", "> bool", "== bool"];

/// An expression of any type that a query may have.
pub(crate) fn query(dice: &mut Dice, instant: bool) -> String {
    let depth = 1 + dice.below(3);
    match dice.below(100) {
        0..4 => scalar(dice, 2),
        4..8 if instant => matrix(dice, 1),
        _ => vector(dice, depth),
    }
}

fn duration(dice: &mut Dice) -> String {
    if percent(dice, 6) {
        return pick(
            dice,
            &[
                "(1m + 30s)",
                "(step() + 1m)",
                "max(step(), 2m)",
                "min(range() + 1m, 5m)",
                "(90 / 2)",
                "(1m ^ 1)",
            ],
        )
        .into();
    }
    pick(
        dice,
        &["1m", "2m", "5m", "47s", "90s", "10m", "31s", "1500ms", "1h", "1m30s"],
    )
    .into()
}

fn modifiers(dice: &mut Dice) -> String {
    let mut out = String::new();
    if percent(dice, 8) {
        out += " @ ";
        out += pick(dice, &["start()", "end()", "300", "601.5"]);
    }
    if percent(dice, 8) {
        out += " offset ";
        out += pick(dice, &["1m", "-1m", "37s", "5m", "(30s * 2)", "-(1m)"]);
    }
    out
}

fn metric(dice: &mut Dice) -> &'static str {
    pick(
        dice,
        &[
            "g",
            "g",
            "c_total",
            "c_total",
            "c_total",
            "one",
            "h_bucket",
            "nh",
            "nh",
            "nc",
            "mixed",
            "target_info",
            "{__name__=~\"g|one|nh\"}",
            "g{job=\"x\"}",
            "c_total{instance=~\"a|b\"}",
            "g{instance!~\"a|b\"}",
            "nh{instance!=\"a\"}",
            "nothing",
            "{\"my.gauge\"}",
            "{\"my.gauge\", \"a.b\"=~\"a.*\"}",
            "g{job=\"\"}",
        ],
    )
}

fn grouping(dice: &mut Dice) -> &'static str {
    pick(
        dice,
        &[
            "",
            "",
            " by (instance)",
            " by (job)",
            " without (instance)",
            " by (instance, job)",
            " by (__name__)",
            " without (job)",
            " by (le)",
            " by (\"a.b\")",
        ],
    )
}

pub(crate) fn matrix(dice: &mut Dice, depth: u64) -> String {
    let range = duration(dice);
    if percent(dice, 25) && depth > 0 {
        let step = pick(dice, &["", "30s", "17s", "1m"]);
        let inner = vector(dice, depth - 1);
        return format!("({inner})[{range}:{step}]{}", modifiers(dice));
    }
    let extension = match dice.below(100) {
        0..4 => " anchored",
        4..8 => " smoothed",
        _ => "",
    };
    format!("{}[{range}]{extension}{}", metric(dice), modifiers(dice))
}

fn scalar(dice: &mut Dice, depth: u64) -> String {
    match dice.below(if depth == 0 { 6 } else { 10 }) {
        0..=3 => format!("0.{}", dice.below(100)),
        4 => number(dice),
        5 => pick(dice, &["2", "1", "3", "-1"]).into(),
        6 => format!("scalar({})", vector(dice, depth - 1)),
        7 => pick(dice, &["time()", "pi()", "start()", "end()", "step()", "range()"]).into(),
        _ => {
            let op = pick(dice, &["+", "-", "*", "/", "%", "^", "atan2", "== bool", "> bool"]);
            format!("({} {op} {})", scalar(dice, 0), scalar(dice, depth - 1))
        }
    }
}

fn strings(f: &Function, at: usize, dice: &mut Dice) -> String {
    let word = match (f.name, at) {
        ("label_replace", 1) | ("label_join", 1) => pick(dice, &["l", "instance", "job", "__name__", "a.b"]),
        ("label_replace", 2) => pick(dice, &["$1-x", "", "$1", "${1}y$2"]),
        ("label_replace", 4) => pick(dice, &["(.*)", "a|b", "([a-c])", ""]),
        ("label_join", 2) => pick(dice, &["-", "", ","]),
        ("histogram_quantiles", _) => "q",
        _ => pick(dice, &["instance", "job", "le", "__name__", "nope"]),
    };
    format!("{word:?}")
}

fn call(dice: &mut Dice, depth: u64) -> String {
    let f = loop {
        let at = dice.below(FUNCTIONS.len() as u64) as usize;
        if FUNCTIONS[at].returns == ValueType::Vector {
            break &FUNCTIONS[at];
        }
    };
    let mut args = Vec::new();
    let (mut least, mut most) = (f.args.len(), f.args.len());
    if f.variadic != 0 {
        least -= 1;
        most += 1;
    }
    if f.variadic == 1 {
        most = f.args.len();
    }
    let n = least + dice.below((most - least) as u64 + 1) as usize;
    for i in 0..n {
        let ty = f.args[i.min(f.args.len() - 1)];
        args.push(match ty {
            ValueType::Scalar => scalar(dice, depth - 1),
            ValueType::Vector if f.name == "info" && i == 1 => pick(
                dice,
                &["{data=~\".+\"}", "{}", "{__name__=\"target_info\"}", "{data=\"d1\"}"],
            )
            .into(),
            ValueType::Vector => vector(dice, depth - 1),
            ValueType::Matrix => matrix(dice, depth),
            ValueType::String => strings(f, i, dice),
        });
    }
    format!("{}({})", f.name, args.join(", "))
}

fn binary(dice: &mut Dice, depth: u64) -> String {
    let (left, right) = (vector(dice, depth - 1), vector(dice, depth - 1));
    if percent(dice, 25) {
        let op = pick(dice, &["and", "or", "unless"]);
        let matching = pick(dice, &["", "", " on(instance)", " ignoring(job)", " on()"]);
        return format!("({left}) {op}{matching} ({right})");
    }
    let op = match percent(dice, 60) {
        true => pick(dice, &ARITHMETIC),
        false => pick(dice, &COMPARISONS),
    };
    let matching = pick(
        dice,
        &[
            "",
            "",
            "",
            " on(instance)",
            " on(instance, job)",
            " ignoring(job)",
            " on(instance) group_left()",
            " on(instance) group_right()",
            " on(instance) group_left(job)",
            " ignoring(job) group_left()",
            " on(job) group_right(data)",
        ],
    );
    let fill = match percent(dice, 15) {
        true => pick(
            dice,
            &[
                " fill(0)",
                " fill_left(1)",
                " fill_right(2)",
                " fill_left(1) fill_right(3)",
            ],
        ),
        false => "",
    };
    format!("({left}) {op}{matching}{fill} ({right})")
}

fn histograms(dice: &mut Dice, depth: u64) -> String {
    match dice.below(5) {
        0 => {
            let v = match percent(dice, 50) {
                true => vector(dice, depth - 1),
                false => "rate(h_bucket[2m])".into(),
            };
            format!("histogram_quantile({}, {v})", scalar(dice, 0))
        }
        1 => format!(
            "histogram_fraction({}, {}, {})",
            scalar(dice, 0),
            scalar(dice, 0),
            vector(dice, depth - 1)
        ),
        2 => "histogram_quantiles(h_bucket, \"q\", 0.5, 0.9)".into(),
        3 => "histogram_quantile(0.9, sum by (le, instance) (rate(h_bucket[5m])))".into(),
        _ => {
            let v = pick(dice, &["nh", "nc", "mixed", "h_bucket", "{__name__=~\"nh|h_bucket\"}"]);
            format!("histogram_quantile(0.{}, {v})", dice.below(10))
        }
    }
}

fn vector(dice: &mut Dice, depth: u64) -> String {
    if depth == 0 {
        let smoothed = if percent(dice, 2) { " smoothed" } else { "" };
        return format!("{}{smoothed}{}", metric(dice), modifiers(dice));
    }
    match dice.below(24) {
        0 | 1 => format!("{}{}", metric(dice), modifiers(dice)),
        2..=5 => {
            let f = pick(
                dice,
                &[
                    "rate",
                    "increase",
                    "delta",
                    "irate",
                    "idelta",
                    "resets",
                    "avg_over_time",
                ],
            );
            format!("{f}({})", matrix(dice, depth))
        }
        6..=11 => call(dice, depth),
        12..=14 => {
            let (op, by) = (pick(dice, &AGGREGATIONS), grouping(dice));
            format!("{op}{by}({})", vector(dice, depth - 1))
        }
        15 => {
            let (by, v) = (grouping(dice), vector(dice, depth - 1));
            match dice.below(6) {
                0 => format!("topk{by}({}, {v})", 1 + dice.below(3)),
                1 => format!("bottomk{by}({}, {v})", 1 + dice.below(3)),
                2 => format!("quantile{by}({}, {v})", scalar(dice, 0)),
                3 => format!("count_values{by}(\"v\", {v})"),
                4 => format!("limitk{by}({}, {v})", 1 + dice.below(3)),
                _ => format!("limit_ratio{by}({}0.{}, {v})", pick(dice, &["", "-"]), dice.below(10)),
            }
        }
        16 => format!("{}{}", pick(dice, &["-", "+"]), vector(dice, depth - 1)),
        17 | 18 => {
            let op = match percent(dice, 50) {
                true => pick(dice, &ARITHMETIC),
                false => pick(dice, &COMPARISONS),
            };
            let (v, s) = (vector(dice, depth - 1), scalar(dice, depth - 1));
            match percent(dice, 50) {
                true => format!("({v}) {op} ({s})"),
                false => format!("({s}) {op} ({v})"),
            }
        }
        19..=22 => binary(dice, depth),
        _ => histograms(dice, depth),
    }
}

/// Smaller queries out of this one, the smallest first.
pub(crate) fn smaller(text: &str) -> Vec<String> {
    let Ok(expr) = parse(text) else { return Vec::new() };
    let mut out: Vec<String> = variants(&expr).iter().map(Expr::to_string).collect();
    out.retain(|t| t.len() < text.len() && parse(t).is_ok());
    out.sort_by_key(String::len);
    out.dedup();
    out
}

/// What sines, cosines, tangents and remainders are taken of in a query: there the last bits of a large number are all.
pub(crate) fn turns(text: &str) -> Vec<String> {
    fn gather(expr: &Expr, out: &mut Vec<String>) {
        let inner: Vec<&Expr> = match &expr.kind {
            ExprKind::Paren(e) | ExprKind::Unary { expr: e, .. } => vec![e],
            ExprKind::Binary(b) => {
                if b.op == BinaryOp::Mod {
                    out.push(b.left.to_string());
                }
                vec![&b.left, &b.right]
            }
            ExprKind::Aggregate(a) => vec![&a.expr],
            ExprKind::Subquery(s) => vec![&s.expr],
            ExprKind::Call { func, args } => {
                if ["sin", "cos", "tan"].contains(&func.name) {
                    out.extend(args.iter().map(Expr::to_string));
                }
                args.iter().collect()
            }
            ExprKind::Matrix { .. }
            | ExprKind::Selector(_)
            | ExprKind::Number(_)
            | ExprKind::Duration(_)
            | ExprKind::String(_) => Vec::new(),
        };
        inner.iter().for_each(|e| gather(e, out));
    }
    let mut out = Vec::new();
    if let Ok(expr) = parse(text) {
        gather(&expr, &mut out);
    }
    out
}

fn variants(expr: &Expr) -> Vec<Expr> {
    let mut out = Vec::new();
    let put = |out: &mut Vec<Expr>, inner: &Expr, wrap: &dyn Fn(Expr) -> ExprKind| {
        if inner.value_type() != ValueType::String {
            out.push(inner.clone());
        }
        for v in variants(inner) {
            out.push(Expr::new(expr.pos, wrap(v)));
        }
    };
    match &expr.kind {
        ExprKind::Paren(inner) => put(&mut out, inner, &|v| ExprKind::Paren(Box::new(v))),
        ExprKind::Unary { op, expr: inner } => {
            let op = *op;
            put(&mut out, inner, &move |v| ExprKind::Unary { op, expr: Box::new(v) });
        }
        ExprKind::Binary(b) => {
            put(&mut out, &b.left, &|v| {
                let mut b = b.clone();
                b.left = v;
                ExprKind::Binary(b)
            });
            put(&mut out, &b.right, &|v| {
                let mut b = b.clone();
                b.right = v;
                ExprKind::Binary(b)
            });
        }
        ExprKind::Aggregate(a) => {
            put(&mut out, &a.expr, &|v| {
                let mut a = a.clone();
                a.expr = v;
                ExprKind::Aggregate(a)
            });
            if !a.grouping.is_empty() {
                let mut a = a.clone();
                a.grouping.clear();
                out.push(Expr::new(expr.pos, ExprKind::Aggregate(a)));
            }
        }
        ExprKind::Call { func, args } => {
            for (i, arg) in args.iter().enumerate() {
                put(&mut out, arg, &|v| {
                    let mut args = args.clone();
                    args[i] = v;
                    ExprKind::Call { func, args }
                });
            }
        }
        ExprKind::Subquery(s) => put(&mut out, &s.expr, &|v| {
            let mut s = s.clone();
            s.expr = v;
            ExprKind::Subquery(s)
        }),
        ExprKind::Matrix { selector, range } => {
            let mut plain = selector.clone();
            if selector.offset.is_some() || selector.at.is_some() {
                (plain.offset, plain.at) = (None, None);
                let range = range.clone();
                out.push(Expr::new(expr.pos, ExprKind::Matrix { selector: plain, range }));
            }
        }
        ExprKind::Selector(selector) => {
            let mut plain = selector.clone();
            (plain.offset, plain.at) = (None, None);
            out.push(Expr::new(expr.pos, ExprKind::Selector(plain)));
        }
        ExprKind::Number(_) | ExprKind::Duration(_) | ExprKind::String(_) => {}
    }
    out
}
