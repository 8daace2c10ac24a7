use query::promql::eval;
use query::promql::value::{Point, Value};
use query::promql::{general, histogram};

/// Relative distance up to which two numbers count as the same: sums are taken in other orders.
const TOLERANCE: f64 = 1e-9;

/// An answer of either side, as text.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Answer {
    pub(crate) error: Option<String>,
    /// The error is about the text, not about its evaluation.
    pub(crate) unparsed: bool,
    /// The expression as it prints itself.
    pub(crate) text: String,
    pub(crate) kind: String,
    pub(crate) series: Vec<Series>,
    pub(crate) warnings: Vec<String>,
    pub(crate) infos: Vec<String>,
    pub(crate) samples: u64,
}

/// Labels, and values by time.
pub(crate) type Series = (Vec<(String, String)>, Vec<(i64, String)>);

/// How two answers differ: a kind, and what is to be seen.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Difference {
    pub(crate) kind: &'static str,
    pub(crate) text: String,
}

impl Answer {
    pub(crate) fn refused(error: String, unparsed: bool) -> Self {
        Answer {
            error: Some(error),
            unparsed,
            ..Answer::default()
        }
    }

    pub(crate) fn of(a: eval::Answer, text: String) -> Self {
        let kind = a.value.type_name().to_owned();
        let pairs = |l: &model::Labels| l.iter().map(|(n, v)| (n.to_owned(), v.to_owned())).collect();
        let series = match a.value {
            Value::Scalar { at_ms, value } => vec![(Vec::new(), vec![(at_ms, general(value))])],
            Value::String { at_ms, text } => vec![(Vec::new(), vec![(at_ms, text)])],
            Value::Vector(v) => {
                let point = |p: &Point| match p {
                    Point::Float(v) => general(*v),
                    Point::Histogram(h) => histogram::test_text(h),
                };
                v.iter()
                    .map(|s| (pairs(&s.labels), vec![(s.at_ms, point(&s.point))]))
                    .collect()
            }
            Value::Matrix(m) => {
                let points = |s: &query::promql::value::Series| {
                    let floats = s.at_ms.iter().zip(&s.values).map(|(t, v)| (*t, general(*v)));
                    let histograms = s.histogram_at_ms.iter().zip(&s.histograms);
                    floats
                        .chain(histograms.map(|(t, h)| (*t, histogram::test_text(h))))
                        .collect()
                };
                m.iter().map(|s| (pairs(&s.labels), points(s))).collect()
            }
        };
        let (mut warnings, mut infos) = (a.warnings, a.infos);
        warnings.sort();
        infos.sort();
        Answer {
            error: None,
            unparsed: false,
            text,
            kind,
            series,
            warnings,
            infos,
            samples: a.stats.samples_total,
        }
    }
}

/// Whether two values are the same number or histogram, within the tolerance.
fn close(a: &str, b: &str, tolerance: f64) -> bool {
    if a == b {
        return true;
    }
    if a.starts_with('{') && b.starts_with('{') {
        let words = |s: &str| -> Vec<String> {
            let split = s.split([' ', ':', '[', ']', '{', '}']);
            split.filter(|w| !w.is_empty()).map(str::to_owned).collect()
        };
        let (a, b) = (words(a), words(b));
        return a.len() == b.len() && a.iter().zip(&b).all(|(a, b)| a == b || close(a, b, tolerance));
    }
    match (a.parse::<f64>(), b.parse::<f64>()) {
        (Ok(a), Ok(b)) if a.is_finite() && b.is_finite() => (a - b).abs() <= tolerance * a.abs().max(b.abs()),
        // an infinity is as far from every other number as can be
        (Ok(a), Ok(b)) => a == b || (a.is_nan() && b.is_nan()),
        _ => false,
    }
}

/// Notes without the counts and times that some of them sum up in another order.
fn plain(notes: &[String]) -> Vec<String> {
    let cut = |t: &String| match (t.find(", over "), t.find(" samples from ")) {
        (Some(a), Some(b)) if a < b => format!("{}{}", &t[..a], &t[b..]),
        _ => t.clone(),
    };
    notes.iter().map(cut).collect()
}

/// Whether notes are the same but for the last bits of the numbers in them.
fn same_notes(theirs: &[String], ours: &[String]) -> bool {
    let same = |t: &String, o: &String| {
        let (t, o): (Vec<&str>, Vec<&str>) = (t.split(' ').collect(), o.split(' ').collect());
        t.len() == o.len() && t.iter().zip(&o).all(|(t, o)| close(t, o, TOLERANCE))
    };
    theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(t, o)| same(t, o))
}

/// Whether infos about a trimming scalar are all that ours has more, and theirs has one of them.
pub(crate) fn last_info_only(theirs: &Answer, ours: &Answer) -> bool {
    let trims = |i: &String| {
        let of = |op: &str| i.contains(&format!("encountered for binary operator \"{op}\""));
        of("</") || of(">/")
    };
    let mut more = ours.infos.iter().filter(|o| !theirs.infos.contains(o));
    theirs.warnings == ours.warnings
        && theirs.infos.iter().all(|t| ours.infos.contains(t))
        && theirs.infos.iter().any(trims)
        && more.all(trims)
}

/// Whether both have the same values at each time, or as many where that is all, whichever series have them.
pub(crate) fn same_values(theirs: &Answer, ours: &Answer, number: bool) -> bool {
    let values = |a: &Answer| {
        let points = a.series.iter().flat_map(|s| s.1.clone());
        let points = points.map(|(t, v)| (t, if number { String::new() } else { v }));
        let mut points: Vec<(i64, String)> = points.collect();
        points.sort();
        points
    };
    theirs.error.is_none() && ours.error.is_none() && values(theirs) == values(ours)
}

/// Whether no two numbers are farther apart than so much.
pub(crate) fn within(theirs: &Answer, ours: &Answer, distance: f64) -> bool {
    let (t, o) = (ordered("", theirs), ordered("", ours));
    let near = |t: &str, o: &str| match (t.parse::<f64>(), o.parse::<f64>()) {
        (Ok(t), Ok(o)) => t == o || (t.is_nan() && o.is_nan()) || (t - o).abs() <= distance,
        _ => t == o,
    };
    let points = |s: &[Series]| s.iter().flat_map(|s| s.1.clone()).collect::<Vec<_>>();
    let (t, o) = (points(&t), points(&o));
    t.len() == o.len() && t.iter().zip(&o).all(|(t, o)| t.0 == o.0 && near(&t.1, &o.1))
}

/// Series in an order that both sides share: of vectors, only `sort` and its kin promise one.
fn ordered(text: &str, a: &Answer) -> Vec<Series> {
    let mut series = a.series.clone();
    if a.kind != "vector" || text.starts_with("sort_by_label") {
        return series;
    }
    if !text.starts_with("sort") {
        series.sort();
        return series;
    }
    // equals stand in any order
    let value = |s: &Series| s.1.first().map(|p| p.1.clone());
    for run in series.chunk_by_mut(|a, b| value(a) == value(b)) {
        run.sort();
    }
    series
}

/// Whether label sets are the same but for the last bits of numbers, which `count_values` makes labels of.
fn same_labels(theirs: &[Series], ours: &[Series]) -> bool {
    let same = |t: &Series, o: &Series| {
        let pair = |(t, o): (&(String, String), &(String, String))| t.0 == o.0 && close(&t.1, &o.1, TOLERANCE);
        t.0.len() == o.0.len() && t.0.iter().zip(&o.0).all(pair)
    };
    theirs.len() == ours.len() && theirs.iter().zip(ours).all(|(t, o)| same(t, o))
}

pub(crate) fn difference(text: &str, theirs: &Answer, ours: &Answer) -> Option<Difference> {
    let differ = |kind, text: String| Some(Difference { kind, text });
    match (&theirs.error, &ours.error) {
        // which of several duplicates is named is up to hashing
        (Some(t), Some(o)) if t.starts_with("found duplicate") && o.starts_with("found duplicate") => return None,
        (Some(t), Some(o)) if theirs.unparsed == ours.unparsed && (t == o || theirs.unparsed) => return None,
        (None, None) => {}
        (t, o) => return differ("error", format!("theirs: {t:?}\nours:   {o:?}")),
    }
    if theirs.text != ours.text {
        return differ("text", format!("theirs: {}\nours:   {}", theirs.text, ours.text));
    }
    if theirs.kind != ours.kind {
        return differ("type", format!("theirs: {}\nours:   {}", theirs.kind, ours.kind));
    }
    let (t, o) = (ordered(text, theirs), ordered(text, ours));
    let names = |s: &[Series]| s.iter().map(|s| s.0.clone()).collect::<Vec<_>>();
    if !same_labels(&t, &o) {
        return differ("series", format!("theirs: {:?}\nours:   {:?}", names(&t), names(&o)));
    }
    for (t, o) in t.iter().zip(&o) {
        let same = t.1.len() == o.1.len()
            && t.1
                .iter()
                .zip(&o.1)
                .all(|(t, o)| t.0 == o.0 && close(&t.1, &o.1, TOLERANCE));
        if !same {
            return differ("values", format!("of {:?}\ntheirs: {:?}\nours:   {:?}", t.0, t.1, o.1));
        }
    }
    let same = |t: &[String], o: &[String]| same_notes(&plain(t), &plain(o));
    if !same(&theirs.warnings, &ours.warnings) || !same(&theirs.infos, &ours.infos) {
        let all = |a: &Answer| format!("{:?} {:?}", a.warnings, a.infos);
        return differ("notes", format!("theirs: {}\nours:   {}", all(theirs), all(ours)));
    }
    None
}

/// Whether values that count as the same are not so to the bit.
pub(crate) fn last_bits_differ(theirs: &Answer, ours: &Answer) -> bool {
    let values = |a: &Answer| ordered("", a).into_iter().flat_map(|s| s.1).collect::<Vec<_>>();
    let (t, o) = (values(theirs), values(ours));
    t.len() == o.len() && t.iter().zip(&o).any(|(t, o)| !close(&t.1, &o.1, 0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_infinity_is_an_infinity() {
        let same = |a: &str, b: &str| close(a, b, TOLERANCE);
        assert!(same("+Inf", "+Inf") && same("Inf", "+Inf") && same("NaN", "NaN"));
        assert!(same("1", "1.0000000001") && !same("1", "1.00000001"));
        for other in ["-Inf", "1", "1.7976931348623157e308", "NaN", "0"] {
            assert!(!same("+Inf", other) && !same(other, "+Inf"), "{other}");
        }
        assert!(!same("NaN", "1") && !same("0", "NaN"));
        assert!(same("{{count:+Inf sum:1}}", "{{count:+Inf sum:1}}"));
        assert!(!same("{{count:+Inf sum:1}}", "{{count:3 sum:1}}"));
    }

    #[test]
    fn infos_about_a_trimming_scalar_are_told_from_others() {
        let info = |op: &str, with: &str| {
            format!("PromQL info: incompatible sample types encountered for binary operator \"{op}\": {with}")
        };
        let with = |infos: &[&String]| Answer {
            infos: infos.iter().map(|&i| i.clone()).collect(),
            ..Answer::default()
        };
        let (a, b, plus) = (info("</", "a"), info("</", "b"), info("+", "c"));
        assert!(last_info_only(&with(&[&b]), &with(&[&a, &b])));
        assert!(!last_info_only(&with(&[]), &with(&[&a, &b])));
        assert!(!last_info_only(&with(&[&a, &b]), &with(&[&b])));
        assert!(!last_info_only(&with(&[&a]), &with(&[&a, &plus])));
    }
}
