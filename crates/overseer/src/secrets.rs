//! What may not be shown: in errors, in logs, in the configuration in force.
use serde_json::Value;

/// What stands for a secret.
pub(crate) const HIDDEN: &str = "<secret>";
/// Words in the names of keys that hold secrets; a key that ends in `_file` names a file only.
const SECRET_WORDS: [&str; 6] = ["token", "password", "secret", "credential", "api_key", "private_key"];
/// Words in the names of keys near which somebody may have written a secret by mistake.
const LOGIN_WORDS: [&str; 6] = ["auth", "login", "passw", "bearer", "cookie", "session"];

/// Whether what is written at this place may be a secret, though it does not belong there.
pub(crate) fn near_a_login(path: &[String]) -> bool {
    // a whole document that is not a mapping may be the secret's own file
    path.is_empty()
        || path.iter().any(|key| {
            let key = key.to_ascii_lowercase();
            SECRET_WORDS.iter().chain(&LOGIN_WORDS).any(|w| key.contains(w))
        })
}

/// Hides secrets by the names of their keys, and credentials in URLs by their place, so that a setting added later is
/// not shown before somebody thought of it.
pub(crate) fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_ascii_lowercase();
                let secret = !key.ends_with("_file") && SECRET_WORDS.iter().any(|w| key.contains(w));
                if secret && value.is_string() {
                    *value = HIDDEN.into();
                } else {
                    hide(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide),
        Value::String(text) => *text = without_credentials(text),
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A text whose URLs have lost their `user:password@`.
pub(crate) fn without_credentials(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("://") {
        out.push_str(before);
        out.push_str("://");
        let url = &after[..after.find(ends_a_url).unwrap_or(after.len())];
        let authority = &url[..url.find(['/', '?', '#']).unwrap_or(url.len())];
        // a password may hold a slash that should have been escaped: then what looks like a port is no number
        let at = authority.rfind('@').or_else(|| {
            let (_, port) = authority.rsplit_once(':')?;
            let number = !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
            url.rfind('@').filter(|_| !number && !authority.ends_with(']'))
        });
        rest = match at {
            Some(at) => {
                out.push_str(HIDDEN);
                &after[at..]
            }
            None => after,
        };
    }
    out.push_str(rest);
    out
}

/// The same, and `user:password@` where the scheme was left out: for texts in which an `@` means nothing else.
pub(crate) fn without_logins(text: &str) -> String {
    let text = without_credentials(text);
    let mut out = String::with_capacity(text.len());
    for word in text.split_inclusive(ends_a_url) {
        let login = word
            .rfind('@')
            .filter(|at| !word.contains("://") && word[..*at].contains(':'));
        match login {
            Some(at) => {
                out.push_str(HIDDEN);
                out.push_str(&word[at..]);
            }
            None => out.push_str(word),
        }
    }
    out
}

fn ends_a_url(c: char) -> bool {
    c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<' | '>')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn logins_in_urls_are_hidden_wherever_they_stand() {
        for (text, shown) in [
            ("https://u:p3@h/p?x=@", "https://<secret>@h/p?x=@"),
            ("http://p4@h:1", "http://<secret>@h:1"),
            ("http://u:pa/ss@h:1/x", "http://<secret>@h:1/x"),
            (
                "http://h:80/a@b and http://u:p@i",
                "http://h:80/a@b and http://<secret>@i",
            ),
            ("http://[::1]:80/a@b", "http://[::1]:80/a@b"),
            ("\"http://u:p@h\" is no address", "\"http://<secret>@h\" is no address"),
            ("plain@text", "plain@text"),
            ("sum(a:b@5)", "sum(a:b@5)"),
            ("://", "://"),
        ] {
            assert_eq!(without_credentials(text), shown);
        }
        assert_eq!(
            without_logins("target \"u:p@h:1\", is no"),
            "target \"<secret>@h:1\", is no"
        );
        assert_eq!(
            without_logins("http://u:p@h:1 plain@text"),
            "http://<secret>@h:1 plain@text"
        );
    }

    #[test]
    fn places_near_a_login_are_known() {
        let path = |text: &str| -> Vec<String> { text.split('.').map(str::to_owned).collect() };
        for near in [
            "auth",
            "scrape.jobs.0.basic_auth.user",
            "api_token",
            "server.session_days",
        ] {
            assert!(near_a_login(&path(near)), "{near}");
        }
        for far in ["limits.labels_max", "listen", "store.rollup_1m"] {
            assert!(!near_a_login(&path(far)), "{far}");
        }
        assert!(near_a_login(&[]));
    }
}
