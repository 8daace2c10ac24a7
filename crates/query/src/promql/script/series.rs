use model::{Histogram, Labels, ResetHint, Span};

use super::super::histogram::{add, sub};
use super::super::literal::{number, unquote};

/// Values that one line may expand to.
const VALUES_MAX: usize = 1_000_000;

/// One place in a sequence of values.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Item {
    Omitted,
    Float(f64),
    /// The flag: the script names the reset hint, so it is compared.
    Histogram(Box<Histogram>, bool),
}

/// A metric and the values behind it: `metric{a="b"} 1 2+3x4 _ stale {{schema:1 buckets:[1 2]}}`.
pub(super) fn series(line: &str) -> Result<(Labels, Vec<Item>), String> {
    let mut reader = Reader { rest: line.trim() };
    let labels = reader.labels()?;
    let mut items = Vec::new();
    loop {
        let spaced = reader.spaces();
        if reader.rest.is_empty() {
            return Ok((labels, items));
        }
        if !spaced {
            return Err(reader.unexpected("a space before the next value"));
        }
        reader.item(&mut items)?;
        if items.len() > VALUES_MAX {
            return Err(format!("more than {VALUES_MAX} values in one line"));
        }
    }
}

struct Reader<'a> {
    rest: &'a str,
}

type Read<T> = Result<T, String>;

impl<'a> Reader<'a> {
    fn unexpected(&self, wanted: &str) -> String {
        let shown: String = self.rest.chars().take(20).collect();
        format!("unexpected {shown:?}, expected {wanted}")
    }

    fn spaces(&mut self) -> bool {
        let before = self.rest.len();
        self.rest = self.rest.trim_start();
        self.rest.len() < before
    }

    fn eat(&mut self, prefix: &str) -> bool {
        match self.rest.strip_prefix(prefix) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn take_while(&mut self, ok: impl Fn(char) -> bool) -> &'a str {
        let end = self.rest.find(|c| !ok(c)).unwrap_or(self.rest.len());
        let (taken, rest) = self.rest.split_at(end);
        self.rest = rest;
        taken
    }

    fn string(&mut self) -> Read<String> {
        let quote = self.rest.chars().next().filter(|c| matches!(c, '"' | '\'' | '`'));
        let quote = quote.ok_or_else(|| self.unexpected("a string"))?;
        let mut escaped = false;
        for (i, c) in self.rest.char_indices().skip(1) {
            if escaped {
                escaped = false;
            } else if c == '\\' && quote != '`' {
                escaped = true;
            } else if c == quote {
                let (text, rest) = self.rest.split_at(i + 1);
                self.rest = rest;
                return Ok(unquote(text));
            }
        }
        Err("unterminated quoted string".into())
    }

    fn labels(&mut self) -> Read<Labels> {
        let name = self.take_while(|c| c == ':' || c == '_' || c.is_ascii_alphanumeric());
        let mut pairs = Vec::new();
        if !name.is_empty() {
            pairs.push((model::METRIC_NAME.to_owned(), name.to_owned()));
        }
        if self.eat("{") {
            loop {
                self.spaces();
                if self.eat("}") {
                    break;
                }
                let quoted = self.rest.starts_with(['"', '\'', '`']);
                let label = if quoted {
                    self.string()?
                } else {
                    self.take_while(|c| c == '_' || c.is_ascii_alphanumeric()).to_owned()
                };
                self.spaces();
                if self.eat("=") {
                    self.spaces();
                    pairs.push((label, self.string()?));
                } else if quoted {
                    pairs.push((model::METRIC_NAME.to_owned(), label));
                } else {
                    return Err(self.unexpected("\"=\""));
                }
                self.spaces();
                if !self.eat(",") && !self.rest.starts_with('}') {
                    return Err(self.unexpected("\",\" or \"}\""));
                }
            }
        }
        Ok(Labels::from_pairs(pairs))
    }

    fn times(&mut self) -> Read<Option<usize>> {
        if !self.eat("x") {
            return Ok(None);
        }
        let digits = self.take_while(|c| c.is_ascii_digit());
        match digits.parse::<usize>() {
            Ok(n) if n <= VALUES_MAX => Ok(Some(n)),
            _ => Err(format!("invalid repetition in series values: {digits:?}")),
        }
    }

    fn item(&mut self, items: &mut Vec<Item>) -> Read<()> {
        if self.eat("_") {
            let n = self.times()?.unwrap_or(1);
            items.extend(std::iter::repeat_n(Item::Omitted, n));
            return Ok(());
        }
        if self.eat("{{") {
            return self.histograms(items);
        }
        let mut value = self.float()?;
        let step = match self.rest.chars().next() {
            Some('+' | '-') => Some(self.float()?),
            _ => None,
        };
        match (self.times()?, step) {
            (Some(n), step) => {
                for _ in 0..=n {
                    items.push(Item::Float(value));
                    if let Some(step) = step {
                        value += step;
                    }
                }
            }
            (None, Some(_)) => return Err(self.unexpected("\"x\" and a number of repetitions")),
            (None, None) => items.push(Item::Float(value)),
        }
        Ok(())
    }

    fn float(&mut self) -> Read<f64> {
        let negative = self.eat("-");
        if !negative {
            self.eat("+");
        }
        for (word, value) in [("stale", model::stale_nan()), ("inf", f64::INFINITY), ("nan", f64::NAN)] {
            if self
                .rest
                .get(..word.len())
                .is_some_and(|w| w.eq_ignore_ascii_case(word))
            {
                self.rest = &self.rest[word.len()..];
                return Ok(if negative { -value } else { value });
            }
        }
        let text = self.number_text();
        if text.is_empty() {
            return Err(self.unexpected("a number, \"stale\", \"_\" or a histogram"));
        }
        let value = number(text)?;
        Ok(if negative { -value } else { value })
    }

    /// Digits, a dot and an exponent with its sign.
    fn number_text(&mut self) -> &'a str {
        let bytes = self.rest.as_bytes();
        let mut end = 0;
        while let Some(&b) = bytes.get(end) {
            let is_sign_of_exponent = matches!(b, b'+' | b'-') && end > 0 && matches!(bytes[end - 1], b'e' | b'E');
            if !(b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'e' | b'E') || is_sign_of_exponent) {
                break;
            }
            end += 1;
        }
        let (text, rest) = self.rest.split_at(end);
        self.rest = rest;
        text
    }

    /// From behind the `{{`.
    fn histograms(&mut self, items: &mut Vec<Item>) -> Read<()> {
        let (base, hinted) = self.histogram()?;
        let subtract = self.rest.starts_with('-');
        let step = if self.eat("+{{") || self.eat("-{{") {
            Some(self.histogram()?)
        } else {
            None
        };
        let Some(n) = self.times()? else {
            if step.is_some() {
                return Err(self.unexpected("\"x\" and a number of repetitions"));
            }
            items.push(Item::Histogram(Box::new(base), hinted));
            return Ok(());
        };
        let hinted = step.as_ref().map_or(hinted, |s| s.1);
        let mut current = base;
        for i in 0..=n {
            items.push(Item::Histogram(Box::new(current.clone()), hinted));
            let Some((step, _)) = step.as_ref().filter(|_| i < n) else {
                continue;
            };
            if current.schema > step.schema {
                return Err(format!(
                    "error combining histograms: cannot merge from schema {} to {}",
                    step.schema, current.schema
                ));
            }
            let combined = if subtract {
                sub(&mut current, step)
            } else {
                add(&mut current, step)
            };
            combined.map_err(|e| e.to_string())?;
        }
        Ok(())
    }

    /// Descriptors up to and with the `}}`; whether the reset hint is one of them.
    fn histogram(&mut self) -> Read<(Histogram, bool)> {
        let mut h = Histogram::default();
        let (mut hinted, mut offset, mut n_offset) = (false, 0, 0);
        let mut seen: Vec<String> = Vec::new();
        loop {
            self.spaces();
            if self.eat("}}") {
                break;
            }
            let name = self
                .take_while(|c| c == '_' || c.is_ascii_alphabetic())
                .to_ascii_lowercase();
            if !self.eat(":") {
                return Err(format!("bad histogram descriptor found: {name:?}"));
            }
            if seen.contains(&name) {
                return Err(format!("duplicate key \"{name}\" in histogram"));
            }
            match name.as_str() {
                "schema" => h.schema = self.integer()?,
                "offset" => offset = self.integer()?,
                "n_offset" => n_offset = self.integer()?,
                "sum" => h.sum = self.float()?,
                "count" => h.count = self.float()?,
                "z_bucket" => h.zero_count = self.float()?,
                "z_bucket_w" => h.zero_threshold = self.float()?,
                "buckets" => h.positive_buckets = self.list()?,
                "n_buckets" => h.negative_buckets = self.list()?,
                "custom_values" => h.custom_values = self.list()?,
                "counter_reset_hint" => {
                    hinted = true;
                    h.reset_hint = match self.take_while(|c| c == '_' || c.is_ascii_alphabetic()) {
                        "unknown" => ResetHint::Unknown,
                        "reset" => ResetHint::Reset,
                        "not_reset" => ResetHint::NoReset,
                        "gauge" => ResetHint::Gauge,
                        other => return Err(format!("error parsing counter_reset_hint: unknown value {other:?}")),
                    };
                }
                _ => return Err(format!("bad histogram descriptor found: {name:?}")),
            }
            seen.push(name);
        }
        let span = |offset: i32, counts: &[f64]| match counts.len() {
            0 => Vec::new(),
            n => vec![Span {
                offset,
                length: n as u32,
            }],
        };
        h.positive_spans = span(offset, &h.positive_buckets);
        h.negative_spans = span(n_offset, &h.negative_buckets);
        Ok((h, hinted))
    }

    fn integer(&mut self) -> Read<i32> {
        let text = self.take_while(|c| c == '-' || c.is_ascii_digit());
        text.parse()
            .map_err(|_| format!("error parsing the number {text:?} of a histogram"))
    }

    fn list(&mut self) -> Read<Vec<f64>> {
        if !self.eat("[") {
            return Err(self.unexpected("\"[\""));
        }
        let mut values = Vec::new();
        loop {
            self.spaces();
            if self.eat("]") {
                return Ok(values);
            }
            values.push(self.float()?);
        }
    }
}
