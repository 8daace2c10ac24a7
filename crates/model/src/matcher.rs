use crate::Pattern;

/// The four ways a label can be matched.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MatchOp {
    Equal,
    NotEqual,
    Regex,
    NotRegex,
}

impl MatchOp {
    pub fn as_str(self) -> &'static str {
        match self {
            MatchOp::Equal => "=",
            MatchOp::NotEqual => "!=",
            MatchOp::Regex => "=~",
            MatchOp::NotRegex => "!~",
        }
    }
}

/// A label matcher, its regular expression compiled (RE2's dialect, anchored at both ends, `.` matches newlines, as in
/// Prometheus 3). An absent label matches as an empty value.
#[derive(Clone, Debug)]
pub struct Matcher {
    pub name: String,
    pub op: MatchOp,
    pub value: String,
    test: Test,
}

/// Why a matcher is refused.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the regular expression of label {name:?} is refused: {reason}")]
pub struct MatcherError {
    pub name: String,
    /// In the words of Go's `regexp` package.
    pub reason: String,
}

/// What a matcher's value means; most expressions need no regular expression engine.
#[derive(Clone, Debug)]
enum Test {
    /// One of these; sorted.
    Literals(Vec<String>),
    /// Starts and ends so, with anything between; with something, when `some`.
    Ends {
        start: String,
        end: String,
        some: bool,
    },
    /// Has this within, with something before and after it where wanted.
    Within {
        text: String,
        before: bool,
        after: bool,
    },
    /// Starts and ends so, and has these in between one after the other, with anything around them.
    Pieces {
        start: String,
        middle: Vec<String>,
        end: String,
    },
    Engine(Box<Pattern>),
}

impl Test {
    fn new(value: &str) -> Result<Self, crate::PatternError> {
        if let Some(literals) = alternatives(value) {
            return Ok(Test::Literals(literals));
        }
        if let Some(test) = wild(value) {
            return Ok(test);
        }
        if let Some(test) = pieces(value) {
            return Ok(test);
        }
        Ok(Test::Engine(Box::new(Pattern::anchored(value)?)))
    }

    fn matches(&self, value: &str) -> bool {
        match self {
            Test::Literals(one_of) => match one_of.as_slice() {
                [one] => one == value,
                many => many.binary_search_by(|l| l.as_str().cmp(value)).is_ok(),
            },
            Test::Ends { start, end, some } => {
                value.len() >= start.len() + end.len() + usize::from(*some) && inner(value, start, end).is_some()
            }
            Test::Within { text, before, after } => {
                let mut chars = value.chars();
                let there = (!before || chars.next().is_some()) && (!after || chars.next_back().is_some());
                there && find(chars.as_str(), text).is_some()
            }
            Test::Pieces { start, middle, end } => {
                // the leftmost place of each piece leaves most room for the others
                inner(value, start, end).is_some_and(|inner| {
                    let mut rest = inner;
                    middle.iter().all(|piece| match find(rest, piece) {
                        Some(at) => {
                            rest = &rest[at + piece.len()..];
                            true
                        }
                        None => false,
                    })
                })
            }
            Test::Engine(pattern) => pattern.is_match(value),
        }
    }
}

/// What is left of a value without its ends; `None` when it has others.
fn inner<'v>(value: &'v str, start: &str, end: &str) -> Option<&'v str> {
    let value = match start {
        "" => value,
        start => value.strip_prefix(start)?,
    };
    match end {
        "" => Some(value),
        end => value.strip_suffix(end),
    }
}

/// Texts up to this length are searched step by step: label values are short, and preparing a search costs more than it.
const SHORT: usize = 64;

/// Where the text first occurs.
fn find(value: &str, text: &str) -> Option<usize> {
    let (bytes, wanted) = (value.as_bytes(), text.as_bytes());
    let Some((&first, others)) = wanted.split_first() else {
        return Some(0);
    };
    if bytes.len() > SHORT {
        return value.find(text);
    }
    let places = bytes.len().checked_sub(others.len())?;
    (0..places).find(|&at| bytes[at] == first && bytes[at + 1..at + wanted.len()] == *others)
}

/// The texts of an expression that is nothing but literal texts and `|`, in parentheses or not; sorted, unique.
fn alternatives(value: &str) -> Option<Vec<String>> {
    let inner = value.strip_prefix("(?:").or_else(|| value.strip_prefix('('));
    let inner = inner.and_then(|v| v.strip_suffix(')'));
    let mut out: Vec<String> = inner.unwrap_or(value).split('|').map(literal).collect::<Option<_>>()?;
    out.sort_unstable();
    out.dedup();
    Some(out)
}

/// The text that an expression without operators stands for.
fn literal(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.push(chars.next().filter(|c| c.is_ascii_punctuation() && *c != '|')?),
            '.' | '^' | '$' | '*' | '+' | '?' | '(' | ')' | '[' | '{' | '|' => return None,
            c => out.push(c),
        }
    }
    Some(out)
}

/// A literal text with `.*` or `.+` before, after, around or in the middle of it.
fn wild(value: &str) -> Option<Test> {
    let ends = |start: &str, end: &str, some: bool| {
        let (start, end) = (literal(start)?, literal(end)?);
        Some(Test::Ends { start, end, some })
    };
    let mut dots = value.match_indices(".*").chain(value.match_indices(".+")).map(|m| m.0);
    let (first, second) = (dots.next()?, dots.next());
    if dots.next().is_some() {
        return None;
    }
    let some_at = |at: usize| value.as_bytes()[at + 1] == b'+';
    match second {
        None => ends(&value[..first], &value[first + 2..], some_at(first)),
        Some(second) => {
            let (a, b) = (first.min(second), first.max(second));
            if a != 0 || b + 2 != value.len() {
                return None;
            }
            let text = literal(value.get(2..b)?)?;
            Some(Test::Within {
                text,
                before: some_at(a),
                after: some_at(b),
            })
        }
    }
}

/// Literal texts with `.*` between them.
fn pieces(value: &str) -> Option<Test> {
    let mut texts: Vec<String> = value.split(".*").map(literal).collect::<Option<_>>()?;
    let end = texts.pop()?;
    if texts.is_empty() {
        return None;
    }
    let start = texts.remove(0);
    texts.retain(|t| !t.is_empty());
    Some(Test::Pieces {
        start,
        middle: texts,
        end,
    })
}

impl Matcher {
    pub fn new(name: impl Into<String>, op: MatchOp, value: impl Into<String>) -> Result<Self, MatcherError> {
        let (name, value) = (name.into(), value.into());
        let test = match op {
            MatchOp::Equal | MatchOp::NotEqual => Test::Literals(vec![value.clone()]),
            MatchOp::Regex | MatchOp::NotRegex => match Test::new(&value) {
                Ok(test) => test,
                Err(e) => {
                    let reason = e.to_string();
                    return Err(MatcherError { name, reason });
                }
            },
        };
        Ok(Matcher { name, op, value, test })
    }

    /// `name="value"`; cannot fail.
    pub fn equal(name: impl Into<String>, value: impl Into<String>) -> Self {
        let value = value.into();
        Matcher {
            name: name.into(),
            op: MatchOp::Equal,
            test: Test::Literals(vec![value.clone()]),
            value,
        }
    }

    /// `name=~"a|b"` for values as they are; cannot fail.
    pub fn one_of(name: impl Into<String>, values: impl IntoIterator<Item = impl Into<String>>) -> Self {
        let mut values: Vec<String> = values.into_iter().map(Into::into).collect();
        values.sort_unstable();
        values.dedup();
        let escaped: Vec<String> = values.iter().map(|v| regex::escape(v)).collect();
        Matcher {
            name: name.into(),
            op: MatchOp::Regex,
            value: escaped.join("|"),
            test: Test::Literals(values),
        }
    }

    /// Whether a label value (empty for an absent label) matches.
    pub fn matches(&self, value: &str) -> bool {
        let negative = matches!(self.op, MatchOp::NotEqual | MatchOp::NotRegex);
        self.test.matches(value) != negative
    }

    /// Whether a series without this label can match.
    pub fn matches_absent(&self) -> bool {
        self.matches("")
    }

    /// The only values that match, or with a negative operator the only ones that do not; sorted. `None` when they
    /// cannot be listed.
    pub fn literals(&self) -> Option<&[String]> {
        match &self.test {
            Test::Literals(all) => Some(all),
            _ => None,
        }
    }

    /// What every value starts with that matches (with a negative operator, that does not); empty when nothing is
    /// known.
    pub fn prefix(&self) -> &str {
        match &self.test {
            Test::Literals(all) if all.len() == 1 => &all[0],
            Test::Ends { start, .. } | Test::Pieces { start, .. } => start,
            _ => "",
        }
    }
}

impl PartialEq for Matcher {
    fn eq(&self, other: &Self) -> bool {
        (&self.name, self.op, &self.value) == (&other.name, other.op, &other.value)
    }
}

impl Eq for Matcher {}

/// In PromQL's notation, for example `job=~"a|b"`.
impl std::fmt::Display for Matcher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}{:?}", self.name, self.op.as_str(), self.value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn regex(value: &str) -> Matcher {
        Matcher::new("l", MatchOp::Regex, value).unwrap_or_else(|e| panic!("{value}: {e}"))
    }

    #[test]
    fn simple_expressions_need_no_engine() {
        for value in [
            "",
            "a",
            "a|b|",
            "(a|b)",
            "(?:x\\.y|z)",
            ".*",
            ".+",
            "a.*",
            ".*b",
            ".+b",
            "a.+b",
            ".*a.*",
            ".+a.+",
            "a-b]",
            "a.*b.*",
            ".*a.*b.*c",
        ] {
            assert!(!matches!(regex(value).test, Test::Engine(_)), "{value}");
        }
        for value in [
            "a.b", "a?", "(a|b)c", "(a)(b)", "\\d", "[a]", "a.*b.+", ".*?", ".**", "a\\|b", "a.*|b",
        ] {
            match Matcher::new("l", MatchOp::Regex, value) {
                Ok(m) => assert!(matches!(m.test, Test::Engine(_)), "{value}"),
                Err(e) => assert_eq!(value, ".**", "{e}"),
            }
        }
        assert_eq!(regex("b|a|a").literals(), Some(&["a".to_owned(), "b".to_owned()][..]));
        assert_eq!(regex("node_.*").prefix(), "node_");
        assert_eq!(regex("a|b").prefix(), "");
        assert!(Matcher::one_of("l", ["a.b", "|"]).matches("|"));
        assert_eq!(Matcher::one_of("l", ["a.b", "|"]).value, "a\\.b|\\|");
    }

    #[test]
    fn a_refusal_has_the_words_of_go() {
        let e = Matcher::new("l", MatchOp::Regex, "(a").unwrap_err();
        assert_eq!(e.reason, "error parsing regexp: missing closing ): `^(?s:(a)$`");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

        /// With and without the engine the answer is the same.
        #[test]
        fn short_cuts_change_nothing(
            parts in proptest::collection::vec(proptest::sample::select(vec![
                ".*", ".+", "a", "b", "é", "|", "(", ")", "(?:", "\\.", "\\-", ".", "]", "}", "*", "\\",
            ]), 0..7),
            values in proptest::collection::vec("[abé.\\-]{0,5}", 8),
            long in "[abé]{60,70}",
        ) {
            let text = parts.concat();
            let engine = Pattern::anchored(&text);
            let short = Matcher::new("l", MatchOp::Regex, text.as_str());
            proptest::prop_assert_eq!(engine.is_ok(), short.is_ok(), "{}", text);
            if let (Ok(engine), Ok(short)) = (engine, short) {
                for value in values.iter().map(String::as_str).chain(["", "a", "ab", "aab", "é", &long]) {
                    proptest::prop_assert_eq!(engine.is_match(value), short.matches(value), "{} {}", &text, value);
                }
            }
        }
    }
}
