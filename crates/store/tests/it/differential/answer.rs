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
        (Ok(a), Ok(b)) => a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * a.abs().max(b.abs()),
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

/// What Prometheus says of one operator at one step is what it met last; of a scalar that trims floats and histograms, that
/// is the one or the other. Overseer says both.
const LAST_INFO: &str = "one info for a scalar that trims floats and histograms";
/// Go computes some functions with its own approximations. Behind `exp` or `sinh`, the last bit turns a sine around.
const LARGE_ANGLE: &str = "a trigonometric function of a large, rounded number";

/// Prometheus stores gauge histograms of a chunk in one layout; buckets that this adds show when they become NaN,
/// and in quantiles when all others are negative.
const EMPTY_BUCKETS: &str = "empty buckets that became NaN, or stand between negative ones";

impl Difference {
    /// Why a difference, made as small as can be, is none to mend; docs/promql.md lists the reasons.
    pub(crate) fn reason(&self, text: &str) -> Option<&'static str> {
        let angles = ["sin(", "cos(", "tan("].iter().any(|f| text.contains(f));
        match self.kind {
            "notes" if self.text.contains("sample types encountered for binary operator") => {
                let trims = text.contains("</") || text.contains(">/");
                trims.then_some(LAST_INFO)
            }
            "values" if self.text.matches("buckets:[NaN").count() > 1 => Some(EMPTY_BUCKETS),
            "values" if text.contains("histogram_quantile") && text.contains("-n") => Some(EMPTY_BUCKETS),
            "values" if angles => Some(LARGE_ANGLE),
            _ => None,
        }
    }
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
