//! Which pages of other origins may read: a browser asks the server that it reads from. Reads only, never with a
//! session or a cookie, so that a page sees no more than a program that sends the same request.
use axum::response::Response;
use http::{HeaderMap, HeaderValue, StatusCode, header};

use crate::answer::empty;

/// Origins in the setting.
const ORIGINS_MAX: usize = 100;
pub(crate) const ANY: &str = "*";
const METHODS: &str = "GET, POST, OPTIONS";
const REQUEST_HEADERS: &str = "Accept, Authorization, Content-Type, Origin";
const ANSWER_HEADERS: &str = "Date";
/// Seconds for which a browser need not ask again.
const MAX_AGE_SECONDS: &str = "600";

/// What one request's origin may see.
pub(crate) enum Page {
    /// The same origin, no browser, or no path of the read API.
    None,
    /// Another origin that may not read.
    Closed,
    Any,
    /// A listed origin, as it is spelled in the request.
    Listed(HeaderValue),
}

impl Page {
    /// `open`: whether the path belongs to the read API.
    pub(crate) fn of(origins: &[String], open: bool, headers: &HeaderMap) -> Page {
        if !open {
            return Page::None;
        }
        let Some(origin) = headers.get(header::ORIGIN) else {
            return if origins.is_empty() || origins.iter().any(|o| o == ANY) {
                Page::None
            } else {
                Page::Closed
            };
        };
        if origins.iter().any(|o| o == ANY) {
            return Page::Any;
        }
        let listed = |o: &String| origin.as_bytes().eq_ignore_ascii_case(o.as_bytes());
        if origins.iter().any(listed) {
            Page::Listed(origin.clone())
        } else if origins.is_empty() {
            Page::None
        } else {
            Page::Closed
        }
    }

    /// Adds what the browser looks for to an answer, an error's too.
    pub(crate) fn allow(self, headers: &mut HeaderMap) {
        let origin = match self {
            Page::None => return,
            // a cache must not give one origin's answer to another
            Page::Closed => {
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                return;
            }
            Page::Any => HeaderValue::from_static(ANY),
            Page::Listed(origin) => {
                headers.append(header::VARY, HeaderValue::from_static("Origin"));
                origin
            }
        };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(
            header::ACCESS_CONTROL_EXPOSE_HEADERS,
            HeaderValue::from_static(ANSWER_HEADERS),
        );
    }

    /// The answer to a browser's question whether it may send: without an allowed origin it may not.
    pub(crate) fn preflight(self) -> Response {
        let mut answer = empty(StatusCode::NO_CONTENT);
        let headers = answer.headers_mut();
        if matches!(self, Page::None | Page::Closed) {
            self.allow(headers);
            return answer;
        }
        for (name, value) in [
            (header::ACCESS_CONTROL_ALLOW_METHODS, METHODS),
            (header::ACCESS_CONTROL_ALLOW_HEADERS, REQUEST_HEADERS),
            (header::ACCESS_CONTROL_MAX_AGE, MAX_AGE_SECONDS),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        self.allow(headers);
        answer
    }
}

/// Whether each origin is one: a scheme, a host, maybe a port, and nothing more.
pub(crate) fn check(origins: &[String]) -> Result<(), String> {
    if origins.len() > ORIGINS_MAX {
        return Err(format!(
            "server.cors_origins: {} origins, at most {ORIGINS_MAX} are taken",
            origins.len()
        ));
    }
    let is_origin = |o: &str| {
        o.split_once("://").is_some_and(|(scheme, host)| {
            !scheme.is_empty()
                && scheme.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b))
                && !host.is_empty()
                && host
                    .bytes()
                    .all(|b| b.is_ascii_alphanumeric() || b"-._~:[]".contains(&b))
        })
    };
    match origins.iter().enumerate().find(|(_, o)| *o != ANY && !is_origin(o)) {
        None => Ok(()),
        Some((i, o)) => Err(format!(
            "server.cors_origins[{i}]: {:?}, \"*\" or an origin such as https://grafana.example is right (no path)",
            o.chars().take(80).collect::<String>()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(origins: &[&str], open: bool, origin: Option<&str>) -> HeaderMap {
        let origins: Vec<String> = origins.iter().map(|&o| o.to_owned()).collect();
        let mut asked = HeaderMap::new();
        if let Some(o) = origin {
            asked.insert(header::ORIGIN, o.parse().unwrap());
        }
        let page = Page::of(&origins, open, &asked);
        let mut headers = HeaderMap::new();
        page.allow(&mut headers);
        assert!(!headers.contains_key(header::ACCESS_CONTROL_ALLOW_CREDENTIALS));
        headers
    }

    fn allowed(origins: &[&str], open: bool, origin: &str) -> Option<String> {
        let headers = answered(origins, open, Some(origin));
        let value = headers.get(header::ACCESS_CONTROL_ALLOW_ORIGIN)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn reads_are_open_to_the_origins_of_the_setting() {
        let grafana = "https://grafana.example";
        assert_eq!(allowed(&["*"], true, grafana).as_deref(), Some("*"));
        assert_eq!(allowed(&[grafana], true, grafana).as_deref(), Some(grafana));
        assert_eq!(allowed(&[grafana], true, "https://other.example"), None);
        assert_eq!(allowed(&[], true, grafana), None);
    }

    #[test]
    fn nothing_else_is_open() {
        assert_eq!(allowed(&["*"], false, "https://a.example"), None);
    }

    #[test]
    fn caches_are_told_where_the_origin_matters() {
        let vary = |h: HeaderMap| h.get(header::VARY).map(|v| v.to_str().unwrap().to_owned());
        let one = ["https://a.example"];
        for origin in [None, Some("https://a.example"), Some("https://b.example")] {
            assert_eq!(vary(answered(&one, true, origin)).as_deref(), Some("Origin"));
        }
        assert_eq!(vary(answered(&["*"], true, Some("https://a.example"))), None);
    }

    #[test]
    fn settings_that_are_no_origins_are_refused() {
        let check = |o: &str| check(&[o.to_owned()]);
        for good in [
            "*",
            "https://grafana.example",
            "http://127.0.0.1:3000",
            "http://[::1]:3000",
        ] {
            assert!(check(good).is_ok(), "{good}");
        }
        for bad in ["", "grafana.example", "https://a.example/", "https://*.example", "null"] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
