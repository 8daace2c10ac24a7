//! Where a redirect leads, and who may be told a secret there.
use http::Uri;

/// Bytes of a `Location` at most.
const LOCATION_BYTES_MAX: usize = 8 << 10;
/// Characters of an address that are shown.
const SHOWN_CHARS_MAX: usize = 160;

/// The address that `location` means when it is met at `base` (RFC 3986, section 5). The error shows none of its query.
pub(super) fn resolve(base: &Uri, location: &[u8]) -> Result<Uri, String> {
    let location = location.trim_ascii();
    if location.len() > LOCATION_BYTES_MAX {
        return Err(format!(
            "the target redirects to an address of {} bytes: at most {LOCATION_BYTES_MAX} are followed",
            location.len()
        ));
    }
    let location = encoded(location);
    let location = location.split('#').next().unwrap_or("");
    let scheme = base.scheme_str().unwrap_or("http");
    let (reference, scheme) = match scheme_of(location) {
        None => (location, scheme),
        Some((said, rest)) => {
            let known = ["http", "https"].into_iter().find(|s| s.eq_ignore_ascii_case(said));
            match known {
                Some(known) if rest.starts_with("//") => (rest, known),
                _ => {
                    return Err(format!(
                        "the target redirects to the scheme {said:?}: http or https is right"
                    ));
                }
            }
        }
    };
    let here = base.authority().map_or("", |a| a.as_str());
    let (authority, path) = match reference.strip_prefix("//") {
        Some(rest) => rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len())),
        None => (here, reference),
    };
    let authority = authority.rsplit('@').next().unwrap_or("");
    let elsewhere = reference.starts_with("//");
    let (path, query) = match path.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (path, None),
    };
    let (path, query) = match path {
        "" if elsewhere => ("/".to_owned(), query),
        "" => (base.path().to_owned(), query.or(base.query())),
        path if path.starts_with('/') => (without_dots(path), query),
        path => {
            let folder = base.path().rsplit_once('/').map_or("", |(folder, _)| folder);
            (without_dots(&format!("{folder}/{path}")), query)
        }
    };
    let query = query.map(|q| format!("?{q}")).unwrap_or_default();
    let to = format!("{scheme}://{authority}{path}{query}");
    let whole = |a: &http::uri::Authority| !a.host().is_empty() && (a.as_str() == a.host() || a.port_u16().is_some());
    match to.parse::<Uri>() {
        Ok(uri) if uri.authority().is_some_and(whole) => Ok(uri),
        _ => Err("the target redirects to something that is no address".to_owned()),
    }
}

/// Whether what was sent to `from` in confidence may be sent to `to`: the same host and port, not from https to http. The
/// step from port 80 to https on port 443 stays with the host.
pub(super) fn trusted(from: &Uri, to: &Uri) -> bool {
    let host = |u: &Uri| u.host().unwrap_or("").to_ascii_lowercase();
    let https = |u: &Uri| u.scheme_str() == Some("https");
    let port = |u: &Uri| u.port_u16().unwrap_or(if https(u) { 443 } else { 80 });
    let upgraded = !https(from) && https(to) && (port(from), port(to)) == (80, 443);
    host(from) == host(to) && (https(from) == https(to) && port(from) == port(to) || upgraded)
}

/// An address as an error may show it: what follows the `?` may be a secret.
pub(super) fn shown(url: &Uri) -> String {
    let query = if url.query().is_some() { "?…" } else { "" };
    let scheme = url.scheme_str().unwrap_or("http");
    let authority = url.authority().map_or("", |a| a.as_str());
    let text = format!("{scheme}://{authority}{}", url.path());
    match text.char_indices().nth(SHOWN_CHARS_MAX) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text + query,
    }
}

/// Bytes that no address can have are written with a percent sign.
fn encoded(location: &[u8]) -> String {
    let mut out = String::with_capacity(location.len());
    for &b in location {
        if b.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&b) {
            out.push(char::from(b));
        } else {
            out.push_str(&format!("%{b:02X}"));
        }
    }
    out
}

fn scheme_of(location: &str) -> Option<(&str, &str)> {
    let (scheme, rest) = location.split_once(':')?;
    let mut bytes = scheme.bytes();
    let good = bytes.next().is_some_and(|b| b.is_ascii_alphabetic())
        && bytes.all(|b| b.is_ascii_alphanumeric() || b"+-.".contains(&b));
    good.then_some((scheme, rest))
}

fn without_dots(path: &str) -> String {
    let mut out: Vec<&str> = Vec::new();
    let mut parts = path.split('/').skip(1).peekable();
    while let Some(part) = parts.next() {
        let last = parts.peek().is_none();
        match part {
            "." | ".." => {
                if part == ".." {
                    out.pop();
                }
                if last {
                    out.push("");
                }
            }
            part => out.push(part),
        }
    }
    format!("/{}", out.join("/"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn references_are_resolved() {
        let base: Uri = "http://h:9100/a/b?x=1".parse().unwrap();
        for (location, to) in [
            ("/metrics/", "http://h:9100/metrics/"),
            ("metrics", "http://h:9100/a/metrics"),
            ("../metrics", "http://h:9100/metrics"),
            ("../../../metrics", "http://h:9100/metrics"),
            ("./c/./d/..", "http://h:9100/a/c/"),
            ("?y=2", "http://h:9100/a/b?y=2"),
            ("", "http://h:9100/a/b?x=1"),
            ("#part", "http://h:9100/a/b?x=1"),
            ("//other/x", "http://other/x"),
            ("//h:9100", "http://h:9100/"),
            ("HTTPS://other:1/x?q#f", "https://other:1/x?q"),
            ("https://other", "https://other/"),
            ("https://other?q", "https://other/?q"),
            ("http://user:secret@other/x", "http://other/x"),
            ("/a b/ü?c=\"d\"", "http://h:9100/a%20b/%C3%BC?c=%22d%22"),
            ("/a:b", "http://h:9100/a:b"),
            ("http://[::1]:9/x", "http://[::1]:9/x"),
        ] {
            assert_eq!(
                resolve(&base, location.as_bytes()).unwrap().to_string(),
                to,
                "{location}"
            );
        }
        for bad in [
            "ftp://h/x",
            "javascript:1",
            "http:/x",
            "http://",
            "http://h:port/x",
            "//",
        ] {
            assert!(resolve(&base, bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(resolve(&base, &b"a".repeat(9000)).is_err());
    }

    #[test]
    fn a_secret_stays_with_its_host() {
        for (from, to, trusted_there) in [
            ("http://h:9100/a", "http://h:9100/b", true),
            ("http://h/a", "http://H:80/b", true),
            ("http://h/a", "https://h/b", true),
            ("http://h:9100/a", "http://h:9101/a", false),
            ("http://h:9100/a", "https://h:9100/a", false),
            ("https://h/a", "http://h/a", false),
            ("https://h:1/a", "http://h:1/a", false),
            ("http://h/a", "http://h.example/a", false),
            ("http://h/a", "http://sub.h/a", false),
        ] {
            assert_eq!(
                trusted(&from.parse().unwrap(), &to.parse().unwrap()),
                trusted_there,
                "{from} {to}"
            );
        }
    }

    #[test]
    fn a_query_is_not_shown() {
        let shown_of = |url: &str| shown(&url.parse().unwrap());
        assert_eq!(shown_of("https://h:1/a?token=secret"), "https://h:1/a?…");
        assert_eq!(shown_of("http://h/a"), "http://h/a");
        assert!(shown_of(&format!("http://h/{}", "a".repeat(500))).chars().count() <= 161);
    }
}
