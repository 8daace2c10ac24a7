use axum::body::Body;
use http::{HeaderMap, Method, header};

use crate::answer::Refusal;
use crate::config::ServerConfig;

/// Parameters of a read request: those of the URL, then those of a form body.
#[derive(Debug, Default)]
pub(crate) struct Params(Vec<(String, String)>);

/// Parameters of one request; more are refused.
const PARAMS_MAX: usize = 10_000;
/// Bytes of a form body.
const FORM_BYTES_MAX: usize = 1 << 20;

impl Params {
    /// From the query string and, for POST and PUT, the `application/x-www-form-urlencoded` body.
    pub(crate) async fn of(
        method: &Method,
        query: Option<&str>,
        headers: &HeaderMap,
        body: Body,
        clock: &dyn host::Clock,
        config: &ServerConfig,
    ) -> Result<Self, Refusal> {
        let mut params = Params::default();
        params.extend(query.unwrap_or("").as_bytes())?;
        if method == Method::POST || method == Method::PUT {
            let content = headers
                .get(header::CONTENT_TYPE)
                .and_then(|v| v.to_str().ok())
                .unwrap_or("");
            let mut form = Vec::new();
            crate::body::read(headers, body, FORM_BYTES_MAX, clock, config, &mut form).await?;
            if !form.is_empty() {
                if !content
                    .trim_start()
                    .to_ascii_lowercase()
                    .starts_with("application/x-www-form-urlencoded")
                {
                    return Err(Refusal::bad_data(format!(
                        "Content-Type {:?} is not read here: application/x-www-form-urlencoded is right",
                        content.chars().take(80).collect::<String>()
                    )));
                }
                params.extend(&form)?;
            }
        }
        Ok(params)
    }

    /// Those of a URL alone.
    pub(crate) fn of_query(query: Option<&str>) -> Result<Self, Refusal> {
        let mut params = Params::default();
        params.extend(query.unwrap_or("").as_bytes())?;
        Ok(params)
    }

    fn extend(&mut self, encoded: &[u8]) -> Result<(), Refusal> {
        for pair in encoded.split(|&b| b == b'&').filter(|p| !p.is_empty()) {
            if self.0.len() >= PARAMS_MAX {
                return Err(Refusal::bad_data(format!("more than {PARAMS_MAX} parameters")));
            }
            let (name, value) = match memchr::memchr(b'=', pair) {
                Some(at) => (&pair[..at], &pair[at + 1..]),
                None => (pair, &[][..]),
            };
            self.0.push((decode(name)?, decode(value)?));
        }
        Ok(())
    }

    /// The first value of a parameter.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, v)| v.as_str())
    }

    /// A time in ms: Unix seconds (with a fraction) or RFC 3339.
    pub(crate) fn time_ms(&self, name: &str) -> Result<Option<i64>, Refusal> {
        self.get(name)
            .filter(|v| !v.is_empty())
            .map(|v| time_ms(name, v))
            .transpose()
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
            Some(text) => match text.parse::<i64>() {
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

/// Decoded pairs of a URL's query.
pub(crate) fn pairs(query: &str) -> Result<Vec<(String, String)>, Refusal> {
    Params::of_query(Some(query)).map(|p| p.0)
}

fn decode(text: &[u8]) -> Result<String, Refusal> {
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
                    _ => {
                        return Err(Refusal::bad_data(
                            "a parameter holds a % that two hexadecimal digits do not follow",
                        ));
                    }
                }
            }
            b => out.push(b),
        }
        i += 1;
    }
    String::from_utf8(out).map_err(|_| Refusal::bad_data("a parameter is not valid UTF-8"))
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

/// Milliseconds whose microseconds still fit 64 bits: beyond it no arithmetic on times is safe.
const TIME_MS_MAX: f64 = 9.2e15;

pub(crate) fn time_ms(name: &str, text: &str) -> Result<i64, Refusal> {
    const RIGHT: &str = "Unix seconds or RFC 3339";
    if let Ok(seconds) = text.parse::<f64>() {
        // the fraction alone is rounded, as Prometheus does it: 1.2345 is 1.234 in binary
        let ms = seconds.trunc() * 1000.0 + (seconds.fract() * 1000.0).round();
        if !ms.is_finite() || ms.abs() > TIME_MS_MAX {
            return Err(invalid(name, text, RIGHT));
        }
        return Ok(ms as i64);
    }
    text.parse::<jiff::Timestamp>()
        .map(|t| t.as_millisecond())
        .map_err(|_| invalid(name, text, RIGHT))
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
mod tests {
    use super::*;

    fn params(text: &str) -> Params {
        let mut p = Params::default();
        p.extend(text.as_bytes()).unwrap();
        p
    }

    #[test]
    fn pairs_are_decoded() {
        let p = params("query=up%7Ba%3D%22b+c%22%7D&match[]=x&match%5B%5D=y&empty");
        assert_eq!(p.get("query"), Some(r#"up{a="b c"}"#));
        assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
        assert_eq!(p.get("empty"), Some(""));
        assert!(Params::default().extend(b"a=%zz").is_err());
        assert!(Params::default().extend(b"a=%ff").is_err());
    }

    #[test]
    fn escaped_names() {
        assert_eq!(
            unescape_name("U__http_2e_status__code").as_deref(),
            Some("http.status_code")
        );
        assert_eq!(unescape_name("U__a_zz_b"), None);
        assert_eq!(unescape_name("plain_name"), None);
    }

    #[test]
    fn durations() {
        for (text, ms) in [
            ("1.5", 1500),
            ("0.29", 290),
            ("0.0019", 1),
            ("-5", -5000),
            ("1m30s", 90_000),
            ("1d2h", 93_600_000),
        ] {
            assert_eq!(duration_ms("step", text).unwrap(), ms, "{text}");
        }
        for bad in ["", "1e100", "NaN", "2h1d", "-5m", "5 m"] {
            assert!(duration_ms("step", bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn times() {
        assert_eq!(time_ms("time", "1.5").unwrap(), 1500);
        assert_eq!(time_ms("time", "1.2345").unwrap(), 1234);
        assert_eq!(time_ms("time", "-1.5").unwrap(), -1500);
        assert_eq!(time_ms("time", "2015-07-01T20:10:51.781Z").unwrap(), 1435781451781);
        assert_eq!(time_ms("time", "2015-07-01T22:10:51+02:00").unwrap(), 1435781451000);
        for bad in ["NaN", "Inf", "1e300", "yesterday", "-Inf"] {
            assert!(time_ms("time", bad).is_err(), "{bad}");
        }
        assert!(time_ms("t", "foo").unwrap_err().message.contains("RFC 3339"));
    }
}
