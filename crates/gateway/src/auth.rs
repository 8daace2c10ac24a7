use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError, RwLock};

use host::Host;
use http::{HeaderMap, StatusCode, header};

use crate::answer::Refusal;

/// Characters a token must have at least: it is the only secret.
const TOKEN_CHARS_MIN: usize = 16;
/// Sessions kept; the oldest goes when a new one comes.
const SESSIONS_MAX: usize = 1024;
/// How long a login holds.
const SESSION_SECONDS: i64 = 30 * 24 * 3600;
/// Failed logins of an address within a minute, then it has to wait.
const FAILURES_PER_MINUTE: u32 = 5;
/// Addresses whose failures are remembered.
const ADDRESSES_MAX: usize = 4096;
const COOKIE: &str = "overseer_session";

/// Who may come in.
#[derive(Clone)]
pub enum AuthMode {
    /// Nothing is configured: only this machine is served, and only under its own names.
    Loopback,
    /// `auth: none` was set: anybody, from anywhere.
    None,
    /// One token for everything.
    Token(Token),
}

/// A secret; it is never printed.
#[derive(Clone)]
pub struct Token(Arc<RwLock<String>>);

impl Token {
    /// From a file's text; blanks around it do not count.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        if token.len() < TOKEN_CHARS_MIN || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "a token of {} characters: at least {TOKEN_CHARS_MIN} printable ASCII characters without blanks are right \
                 (for example from `openssl rand -hex 32`)",
                token.len()
            ));
        }
        Ok(Token(Arc::new(RwLock::new(token.to_owned()))))
    }

    /// Compares in a time that depends on the length only.
    fn is(&self, other: &str) -> bool {
        let own = self.0.read().unwrap_or_else(PoisonError::into_inner);
        let (a, b) = (own.as_bytes(), other.as_bytes());
        a.len() == b.len() && a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
    }

    /// Becomes the other, for all who hold it; false when it is the same.
    fn become_other(&self, other: &Token) -> bool {
        let other = other.0.read().unwrap_or_else(PoisonError::into_inner).clone();
        let same = self.is(&other);
        if !same {
            *self.0.write().unwrap_or_else(PoisonError::into_inner) = other;
        }
        !same
    }
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

pub(crate) struct Auth {
    mode: AuthMode,
    host: Host,
    sessions: Mutex<HashMap<String, i64>>,
    failures: Mutex<HashMap<IpAddr, (i64, u32)>>,
}

impl Auth {
    pub(crate) fn new(mode: AuthMode, host: Host) -> Self {
        Auth {
            mode,
            host,
            sessions: Mutex::default(),
            failures: Mutex::default(),
        }
    }

    /// From now on only this token lets in: whoever logged in with the one before logs in again.
    pub(crate) fn replace_token(&self, token: &Token) -> bool {
        let AuthMode::Token(own) = &self.mode else { return false };
        let replaced = own.become_other(token);
        if replaced {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        replaced
    }

    pub(crate) fn mode_name(&self) -> &'static str {
        match self.mode {
            AuthMode::Loopback | AuthMode::None => "none",
            AuthMode::Token(_) => "token",
        }
    }

    /// Without a login the browser is the only wall between a foreign page and this server: a page whose own name
    /// resolves to 127.0.0.1 must not read it, so the name asked for must be this machine's.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !matches!(self.mode, AuthMode::Loopback) {
            return Ok(());
        }
        let asked = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("");
        let name = host_name(asked);
        let local = name.eq_ignore_ascii_case("localhost")
            || name.to_ascii_lowercase().ends_with(".localhost")
            || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback());
        if local {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "without a login only localhost and 127.0.0.1 are served as host names; give --token-file to serve others",
        ))
    }

    /// Whether the request carries the token (Bearer, Influx' `Token`, or as password of Basic) or a session.
    pub(crate) fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let AuthMode::Token(token) = &self.mode else {
            return Ok(());
        };
        let given = headers
            .get(header::AUTHORIZATION)
            .and_then(|v| v.to_str().ok())
            .and_then(credential);
        if given.is_some_and(|g| token.is(&g)) || self.has_session(headers) {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a login is needed: send \"Authorization: Bearer …\" with the token of --token-file",
        ))
    }

    /// Exchanges the token for a session; gives the `Set-Cookie` value.
    pub(crate) fn login(&self, peer: SocketAddr, given: &str) -> Result<String, Refusal> {
        let AuthMode::Token(token) = &self.mode else {
            return Err(Refusal::bad_data("no login is needed here"));
        };
        let now_ms = self.host.clock.now_ms();
        let mut failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        if failures.len() >= ADDRESSES_MAX {
            failures.clear();
        }
        let (since, count) = failures.entry(peer.ip()).or_insert((now_ms, 0));
        if now_ms - *since > 60_000 {
            (*since, *count) = (now_ms, 0);
        }
        if *count >= FAILURES_PER_MINUTE {
            return Err(Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many failed logins from this address; wait a minute",
            ));
        }
        if !token.is(given.trim()) {
            *count += 1;
            return Err(Refusal::new(
                StatusCode::UNAUTHORIZED,
                "unauthorized",
                "this is not the token",
            ));
        }
        drop(failures);
        let mut secret = [0u8; 32];
        self.host.random.fill(&mut secret);
        let id: String = secret.iter().map(|b| format!("{b:02x}")).collect();
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions
                .iter()
                .min_by_key(|(_, until)| **until)
                .map(|(id, _)| id.clone())
        {
            sessions.remove(&oldest);
        }
        sessions.insert(id.clone(), now_ms + SESSION_SECONDS * 1000);
        Ok(format!(
            "{COOKIE}={id}; Path=/; HttpOnly; SameSite=Strict; Max-Age={SESSION_SECONDS}"
        ))
    }

    /// Ends the request's session; gives the `Set-Cookie` value that clears it.
    pub(crate) fn logout(&self, headers: &HeaderMap) -> String {
        if let Some(id) = session_id(headers) {
            self.sessions.lock().unwrap_or_else(PoisonError::into_inner).remove(id);
        }
        format!("{COOKIE}=; Path=/; HttpOnly; SameSite=Strict; Max-Age=0")
    }

    fn has_session(&self, headers: &HeaderMap) -> bool {
        let Some(id) = session_id(headers) else { return false };
        let sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.get(id).is_some_and(|&until| until > self.host.clock.now_ms())
    }
}

/// Refuses what a foreign page sends: a browser states its origin on each request that could change something.
pub(crate) fn check_origin(headers: &HeaderMap) -> Result<(), Refusal> {
    let Some(origin) = headers.get(header::ORIGIN) else {
        return Ok(());
    };
    let origin = origin.to_str().unwrap_or("");
    let asked = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("");
    let same = origin
        .split_once("://")
        .is_some_and(|(_, authority)| authority.eq_ignore_ascii_case(asked));
    if same {
        return Ok(());
    }
    Err(Refusal::new(
        StatusCode::FORBIDDEN,
        "forbidden",
        format!(
            "the origin {:?} is foreign: only pages of this server may do this",
            origin.chars().take(100).collect::<String>()
        ),
    ))
}

/// `host:port`, `[v6]:port` or a bare name, without the port.
fn host_name(authority: &str) -> &str {
    if let Some(rest) = authority.strip_prefix('[') {
        return rest.split(']').next().unwrap_or("");
    }
    authority.rsplit_once(':').map_or(authority, |(name, _)| name)
}

fn session_id(headers: &HeaderMap) -> Option<&str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .find_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE).then_some(value)
        })
}

fn credential(value: &str) -> Option<String> {
    let (scheme, rest) = value.trim().split_once(' ')?;
    match scheme.to_ascii_lowercase().as_str() {
        "bearer" | "token" => Some(rest.trim().to_owned()),
        "basic" => {
            let decoded = base64(rest.trim())?;
            let (_, password) = decoded.split_once(':')?;
            Some(password.to_owned())
        }
        _ => None,
    }
}

/// Standard base64, as Basic credentials use it.
fn base64(text: &str) -> Option<String> {
    let mut out = Vec::with_capacity(text.len() * 3 / 4);
    let (mut bits, mut n) = (0u32, 0);
    for b in text.bytes().filter(|&b| b != b'=') {
        let v = match b {
            b'A'..=b'Z' => b - b'A',
            b'a'..=b'z' => b - b'a' + 26,
            b'0'..=b'9' => b - b'0' + 52,
            b'+' => 62,
            b'/' => 63,
            _ => return None,
        };
        bits = bits << 6 | u32::from(v);
        n += 6;
        if n >= 8 {
            n -= 8;
            out.push((bits >> n) as u8);
            bits &= (1 << n) - 1;
        }
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "0123456789abcdef-secret";

    fn auth() -> Auth {
        Auth::new(AuthMode::Token(Token::parse(SECRET).unwrap()), Host::real())
    }

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn the_token_opens_in_each_spelling() {
        let a = auth();
        for value in [
            format!("Bearer {SECRET}"),
            format!("Token {SECRET}"),
            "Basic eDowMTIzNDU2Nzg5YWJjZGVmLXNlY3JldA==".to_owned(),
        ] {
            assert!(a.check(&headers(header::AUTHORIZATION, &value)).is_ok(), "{value}");
        }
        assert!(
            a.check(&headers(header::AUTHORIZATION, "Bearer 0123456789abcdef-secreT"))
                .is_err()
        );
        assert!(a.check(&HeaderMap::new()).is_err());
    }

    #[test]
    fn a_login_gives_a_session_and_failures_are_limited() {
        let a = auth();
        let peer: SocketAddr = "127.0.0.1:1".parse().unwrap();
        let cookie = a.login(peer, SECRET).unwrap();
        assert!(cookie.contains("HttpOnly; SameSite=Strict"));
        let sent = headers(header::COOKIE, cookie.split(';').next().unwrap());
        assert!(a.check(&sent).is_ok());
        a.logout(&sent);
        assert!(a.check(&sent).is_err());
        for _ in 0..FAILURES_PER_MINUTE {
            assert_eq!(a.login(peer, "wrong").unwrap_err().status, StatusCode::UNAUTHORIZED);
        }
        assert_eq!(a.login(peer, SECRET).unwrap_err().status, StatusCode::TOO_MANY_REQUESTS);
    }

    #[test]
    fn without_a_login_only_local_names_are_served() {
        let a = Auth::new(AuthMode::Loopback, Host::real());
        for good in [
            "localhost:7070",
            "127.0.0.1",
            "[::1]:7070",
            "127.9.9.9:1",
            "x.localhost",
        ] {
            assert!(a.check_host(&headers(header::HOST, good)).is_ok(), "{good}");
        }
        for bad in ["evil.example", "10.0.0.1:7070", "127.0.0.1.evil.example", ""] {
            assert!(a.check_host(&headers(header::HOST, bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn foreign_origins_are_refused() {
        let mut h = headers(header::HOST, "127.0.0.1:7070");
        assert!(check_origin(&h).is_ok());
        h.insert(header::ORIGIN, "http://127.0.0.1:7070".parse().unwrap());
        assert!(check_origin(&h).is_ok());
        for bad in ["http://evil.example", "null", "http://127.0.0.1:7071"] {
            h.insert(header::ORIGIN, bad.parse().unwrap());
            assert!(check_origin(&h).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_token_must_be_long_and_never_shows() {
        assert!(Token::parse("short").is_err());
        assert!(Token::parse("has blanks in it, long enough").is_err());
        assert_eq!(format!("{:?}", Token::parse(SECRET).unwrap()), "Token(…)");
    }
}
