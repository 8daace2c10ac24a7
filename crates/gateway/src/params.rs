//! Parameters of a request, for all routes and methods, by the rules of Go's `FormValue`, which Prometheus goes by: those
//! of a form before those of the URL.
use axum::body::Body;
use http::{HeaderMap, Method, header};

use crate::answer::Refusal;
use crate::body::BodyReader;

/// Parameters of a read request: those of a form body, then those of the URL.
#[derive(Debug, Default)]
pub(crate) struct Params {
    pairs: Vec<(String, String)>,
    /// Why the first pair that could not be read was left out.
    left_out: Option<String>,
}

/// Parameters of one request; more are refused.
const PARAMS_MAX: usize = 10_000;
/// Bytes of a form body.
const FORM_BYTES_MAX: usize = 1 << 20;

impl Params {
    /// From the form body of POST, PUT and PATCH, and the query string. A body of another type, or of none, is not
    /// looked at.
    pub(crate) async fn of(
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
        reader: &BodyReader<'_>,
    ) -> Result<Self, Refusal> {
        let mut params = Params::default();
        if [Method::POST, Method::PUT, Method::PATCH].contains(method) && is_form(headers) {
            let mut form = Vec::new();
            let _held = crate::body::read(reader, headers, body, FORM_BYTES_MAX, &mut form).await?;
            params.extend(&form)?;
        }
        params.extend(query.unwrap_or("").as_bytes())?;
        Ok(params)
    }

    /// Those of a URL alone.
    pub(crate) fn of_query(query: Option<&str>) -> Result<Self, Refusal> {
        let mut params = Params::default();
        params.extend(query.unwrap_or("").as_bytes())?;
        Ok(params)
    }

    /// Adds what can be read; a pair that cannot is left out, and remembered for [`Params::whole`].
    fn extend(&mut self, encoded: &[u8]) -> Result<(), Refusal> {
        for pair in encoded.split(|&b| b == b'&').filter(|p| !p.is_empty()) {
            if self.pairs.len() >= PARAMS_MAX {
                return Err(Refusal::bad_data(format!("more than {PARAMS_MAX} parameters")));
            }
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            let read = if pair.contains(&b';') {
                Err("a semicolon separates no parameters: & does, and as part of a value it is written %3B")
            } else {
                decode(name).and_then(|name| Ok((name, decode(value)?)))
            };
            match read {
                Ok((name, value)) => self.pairs.push((text(name)?, text(value)?)),
                Err(why) => {
                    self.left_out.get_or_insert_with(|| {
                        let shown: String = String::from_utf8_lossy(pair).chars().take(80).collect();
                        format!("invalid parameter {shown:?}: {why}")
                    });
                }
            }
        }
        Ok(())
    }

    /// Refuses a request of which a pair could not be read: for what must not be done by halves.
    pub(crate) fn whole(&self) -> Result<(), Refusal> {
        match &self.left_out {
            None => Ok(()),
            Some(why) => Err(Refusal::bad_data(why.clone())),
        }
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.pairs.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.pairs
            .iter()
            .filter(move |(n, _)| n == name)
            .map(|(_, v)| v.as_str())
    }

    /// A time in ms: Unix seconds (with a fraction) or RFC 3339, cut to what can be worked with.
    pub(crate) fn time_ms(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.get(name)
            .filter(|v| !v.is_empty())
            .map(|v| time_ms(name, v))
            .transpose()
    }

    /// One end of a range, which is open when it is absent or beyond what can be worked with.
    pub(crate) fn bound_ms(&self, name: &str) -> Result<Option<i64>, Refusal> {
        Ok(self.time_ms(name)?.map(|ms| match ms {
            model::TIME_MS_MAX.. => i64::MAX,
            ..=LEAST_MS => i64::MIN,
            ms => ms,
        }))
    }

    /// A duration in ms: seconds (with a fraction) or Prometheus' notation.
    pub(crate) fn duration_ms(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.get(name)
            .filter(|v| !v.is_empty())
            .map(|v| duration_ms(name, v))
            .transpose()
    }

    /// A switch: `1` and `true`, or `0`, `false` and absence.
    pub(crate) fn flag(&self, name: &str) -> Result<bool, Refusal> {
        match self.get(name) {
            Some("1" | "true") => Ok(true),
            None | Some("" | "0" | "false") => Ok(false),
            Some(text) => Err(invalid(name, text, "0 or 1")),
        }
    }

    /// A whole number; 0 and absence mean "no limit".
    pub(crate) fn limit(&self) -> Result<usize, Refusal> {
        match self.get("limit").filter(|v| !v.is_empty()) {
            None => Ok(usize::MAX),
            Some(text) => match text.parse::<i128>() {
                Ok(0) => Ok(usize::MAX),
                Ok(n) if n < 0 => Err(invalid("limit", text, "limit must be non-negative: 0 or more")),
                Ok(n) => Ok(usize::try_from(n).unwrap_or(usize::MAX)),
                Err(_) => Err(invalid("limit", text, "a whole number from 0 on")),
            },
        }
    }
}

/// The refusal of a parameter, in Prometheus' words, with what would be right.
pub(crate) fn invalid(name: &str, value: &str, right: &str) -> Refusal {
    let shown: String = value.chars().take(80).collect();
    Refusal::bad_data(format!(
        "invalid parameter \"{name}\": cannot parse {shown:?}: {right} is right"
    ))
}

/// Decoded pairs of a URL's query, all of them.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    let params = Params::of_query(Some(query))?;
    params.whole()?;
    Ok(params.pairs)
}

fn is_form(headers: &HeaderMap) -> bool {
    let content = headers.get(header::CONTENT_TYPE).and_then(|v| v.to_str().ok());
    let essence = content.and_then(|c| c.split(';').next()).unwrap_or("");
    essence.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

fn decode(text: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut out = Vec::with_capacity(text.len());
    let mut i = 0;
    while i < text.len() {
        match text[i] {
            b'+' => out.push(b' '),
            b'%' => {
                let hex = |b: Option<&u8>| b.and_then(|b| (*b as char).to_digit(16));
                match (hex(text.get(i + 1)), hex(text.get(i + 2))) {
                    (Some(high), Some(low)) => {
                        out.push((high * 16 + low) as u8);
                        i += 2;
                    }
                    _ => return Err("a % must be followed by two hexadecimal digits"),
                }
            }
            b => out.push(b),
        }
        i += 1;
    }
    Ok(out)
}

fn text(bytes: Vec<u8>) -> Result<String, Refusal> {
    String::from_utf8(bytes).map_err(|_| Refusal::bad_data("a parameter is not valid UTF-8"))
}

/// A label name that was escaped for a URL's path: `U__` before it, `__` for `_`, `_HEX_` for other characters
/// (Prometheus' value escaping); `None` when it is not escaped so.
pub(crate) fn unescape_name(name: &str) -> Option<String> {
    let mut rest = name.strip_prefix("U__")?;
    let mut out = String::new();
    while let Some(at) = rest.find('_') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let end = rest.find('_')?;
        if end == 0 {
            out.push('_');
        } else {
            out.push(char::from_u32(u32::from_str_radix(&rest[..end], 16).ok()?)?);
        }
        rest = &rest[end + 1..];
    }
    out.push_str(rest);
    Some(out)
}

const LEAST_MS: i64 = -model::TIME_MS_MAX;

pub(crate) fn time_ms(name: &str, text: &str) -> Result<i64, Refusal> {
    model::parse_time_ms(text).ok_or_else(|| invalid(name, text, "Unix seconds or RFC 3339"))
}

pub(crate) fn duration_ms(name: &str, text: &str) -> Result<i64, Refusal> {
    if let Ok(seconds) = text.parse::<f64>() {
        let ns = seconds * 1e9;
        if !ns.is_finite() || ns.abs() > i64::MAX as f64 {
            return Err(invalid(name, text, "a number of seconds or a duration such as 1m30s"));
        }
        return Ok(ns as i64 / 1_000_000);
    }
    query::promql::parse_duration(text)
        .map_err(|_| invalid(name, text, "a number of seconds or a duration such as 1m30s"))
}

#[cfg(test)]
mod tests;
