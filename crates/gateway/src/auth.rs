//! Who may come in: the token, logins, and without either the name and origin that a browser states.
use std::net::IpAddr;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use host::Host;
use http::{HeaderMap, StatusCode, header};
use ring::digest::{SHA256, digest};
use tokio::sync::watch;

use crate::answer::Refusal;
use crate::guesses::{Guesses, Way};
use crate::sessions::{Key, Sessions, hex, key_of};

/// Characters a token must have at least, as it is the only secret, and may have at most.
const TOKEN_CHARS_MIN: usize = 16;
const TOKEN_CHARS_MAX: usize = 1024;
/// How long a login holds.
const SESSION_SECONDS: i64 = 30 * 24 * 3600;
const COOKIE: &str = "overseer_session";
/// Cookies of that name that are looked at: another server of this machine may have set one beside ours.
const COOKIES_MAX: usize = 4;
/// How often the clock is looked at while a session's end is waited for: it may be set.
const LOOK_EVERY: Duration = Duration::from_secs(60);

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
pub struct Token {
    text: Arc<str>,
    hash: [u8; 32],
}

impl Token {
    /// From a file's text; blanks around it do not count.
    pub fn parse(text: &str) -> Result<Self, String> {
        let token = text.trim();
        let lengths = TOKEN_CHARS_MIN..=TOKEN_CHARS_MAX;
        if !lengths.contains(&token.len()) || !token.bytes().all(|b| b.is_ascii_graphic()) {
            return Err(format!(
                "a token of {} characters: {TOKEN_CHARS_MIN} to {TOKEN_CHARS_MAX} printable ASCII characters without \
                 blanks are right (for example from `openssl rand -hex 32`)",
                token.len()
            ));
        }
        Ok(Token {
            text: token.into(),
            hash: hash(token),
        })
    }

    /// Compares hashes, in a time that tells nothing of the token.
    fn is(&self, other: &str) -> bool {
        other.len() <= TOKEN_CHARS_MAX && same(&self.hash, &hash(other))
    }
}

fn hash(text: &str) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest(&SHA256, text.as_bytes()).as_ref());
    hash
}

fn same(a: &[u8; 32], b: &[u8; 32]) -> bool {
    a.iter().zip(b).fold(0, |acc, (x, y)| acc | (x ^ y)) == 0
}

impl std::fmt::Debug for Token {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Token(…)")
    }
}

/// What a request came in by: an open connection goes on for as long as that holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// No login is needed.
    Free,
    /// The token with this hash.
    Token([u8; 32]),
    Session(Key),
}

pub(crate) struct Auth {
    mode: RwLock<AuthMode>,
    host: Host,
    sessions: Sessions,
    pub(crate) guesses: Guesses,
    /// Told when a session or the token ends.
    ends: watch::Sender<()>,
}

impl Auth {
    /// `file` keeps the logins; without one they end with the process.
    pub(crate) fn new(mode: AuthMode, host: Host, file: Option<PathBuf>) -> Self {
        let file = file.filter(|_| matches!(mode, AuthMode::Token(_)));
        Auth {
            mode: RwLock::new(mode),
            sessions: Sessions::open(host.clone(), file),
            guesses: Guesses::new(Arc::clone(&host.clock)),
            host,
            ends: watch::Sender::new(()),
        }
    }

    fn mode(&self) -> AuthMode {
        self.mode.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn mode_name(&self) -> &'static str {
        match self.mode() {
            AuthMode::Loopback | AuthMode::None => "none",
            AuthMode::Token(_) => "token",
        }
    }

    /// From now on only this token lets in: sessions end, and what came in by the one before. Whether it was another; without
    /// a login nothing changes.
    pub(crate) fn replace_token(&self, token: &Token) -> bool {
        {
            let mut mode = self.mode.write().unwrap_or_else(PoisonError::into_inner);
            match &mut *mode {
                AuthMode::Token(old) if !same(&old.hash, &token.hash) => *old = token.clone(),
                _ => return false,
            }
        }
        self.sessions.remove_all();
        self.ends.send_replace(());
        true
    }

    /// Without a login the browser is the only wall between a foreign page and this server: a page whose own name
    /// resolves to 127.0.0.1 must not read it, so the name asked for must be this machine's.
    pub(crate) fn check_host(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        if !matches!(self.mode(), AuthMode::Loopback) {
            return Ok(());
        }
        let asked = headers.get(header::HOST).and_then(|v| v.to_str().ok()).unwrap_or("");
        let local = host_name(asked).is_some_and(|name| {
            name.eq_ignore_ascii_case("localhost")
                || name.to_ascii_lowercase().ends_with(".localhost")
                || name.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        if local {
            return Ok(());
        }
        Err(Refusal::new(
            StatusCode::FORBIDDEN,
            "forbidden",
            "without a login only localhost and 127.0.0.1 are served as host names; give --token-file to serve others",
        ))
    }

    /// Whether the request carries the token (Bearer, Influx' `Token`, or as password of Basic) or a session. `client` is
    /// whom a wrong token is put down to.
    pub(crate) fn check(&self, headers: &HeaderMap, client: IpAddr) -> Result<Pass, Refusal> {
        let AuthMode::Token(token) = self.mode() else {
            return Ok(Pass::Free);
        };
        let given = headers.get(header::AUTHORIZATION);
        let right = given
            .and_then(|v| v.to_str().ok())
            .and_then(credential)
            .is_some_and(|g| token.is(&g));
        if right {
            return Ok(Pass::Token(token.hash));
        }
        let sessions = cookies(headers).map(|cookie| key_of(&token.text, cookie));
        if let Some(key) = sessions.into_iter().find(|key| self.sessions.until_ms(key).is_some()) {
            return Ok(Pass::Session(key));
        }
        if given.is_some() {
            return Err(self.wrong(client, Way::Header));
        }
        Err(Refusal::new(
            StatusCode::UNAUTHORIZED,
            "unauthorized",
            "a login is needed: send \"Authorization: Bearer …\" with the token of --token-file",
        ))
    }

    fn wrong(&self, client: IpAddr, way: Way) -> Refusal {
        if self.guesses.wrong(client, way) {
            return Refusal::new(
                StatusCode::TOO_MANY_REQUESTS,
                "too_many_requests",
                "too many wrong tokens from this address; the right one is taken at any time",
            );
        }
        Refusal::new(StatusCode::UNAUTHORIZED, "unauthorized", "this is not the token")
    }

    /// Exchanges the token for a session; gives the `Set-Cookie` value. Over TLS the cookie is for TLS only.
    pub(crate) fn login(&self, client: IpAddr, over_tls: bool, given: &str) -> Result<String, Refusal> {
        let AuthMode::Token(token) = self.mode() else {
            return Err(Refusal::bad_data("no login is needed here"));
        };
        if !token.is(given.trim()) {
            return Err(self.wrong(client, Way::Login));
        }
        let mut secret = [0u8; 32];
        self.host.random.fill(&mut secret);
        let cookie = hex(&secret);
        let until_ms = self.host.clock.now_ms().saturating_add(SESSION_SECONDS * 1000);
        self.sessions.add(key_of(&token.text, &cookie), until_ms);
        tracing::info!(address = %client, "somebody logged in");
        Ok(set_cookie(&cookie, SESSION_SECONDS, over_tls))
    }

    /// Ends the request's sessions; gives the `Set-Cookie` value that clears it.
    pub(crate) fn logout(&self, headers: &HeaderMap, over_tls: bool) -> String {
        if let AuthMode::Token(token) = self.mode() {
            for cookie in cookies(headers) {
                let key = key_of(&token.text, cookie);
                if self.sessions.until_ms(&key).is_some() {
                    self.sessions.remove(&key);
                }
            }
            self.ends.send_replace(());
        }
        set_cookie("", 0, over_tls)
    }

    /// Whether what a request came in by still holds.
    fn holds(&self, pass: &Pass) -> bool {
        match (pass, self.mode()) {
            (_, AuthMode::Loopback | AuthMode::None) => true,
            (Pass::Free, AuthMode::Token(_)) => false,
            (Pass::Token(hash), AuthMode::Token(token)) => same(hash, &token.hash),
            (Pass::Session(key), AuthMode::Token(_)) => self.sessions.until_ms(key).is_some(),
        }
    }

    /// Ends when `pass` does not hold any more: at log-out, with another token, or when its time is over.
    pub(crate) async fn ended(&self, pass: &Pass) {
        let mut ends = self.ends.subscribe();
        loop {
            ends.borrow_and_update();
            if !self.holds(pass) {
                return;
            }
            let left = match pass {
                Pass::Session(key) => self.sessions.until_ms(key).unwrap_or(0) - self.host.clock.now_ms(),
                Pass::Free | Pass::Token(_) => i64::MAX,
            };
            let look = LOOK_EVERY.min(Duration::from_millis(left.max(1).unsigned_abs()));
            tokio::select! {
                _ = ends.changed() => {}
                () = tokio::time::sleep(look) => {}
            }
        }
    }
}

fn set_cookie(value: &str, seconds: i64, over_tls: bool) -> String {
    let secure = if over_tls { "; Secure" } else { "" };
    format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={seconds}{secure}")
}

/// Whether the page that sends this was loaded over TLS: a browser states its origin on what changes something.
pub(crate) fn origin_is_tls(headers: &HeaderMap) -> bool {
    let origin = headers.get(header::ORIGIN).and_then(|v| v.to_str().ok());
    origin.is_some_and(|o| o.get(..8).is_some_and(|scheme| scheme.eq_ignore_ascii_case("https://")))
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

/// The name in `host:port`, `[v6]:port` or a bare name; `None` when the rest is no port.
fn host_name(authority: &str) -> Option<&str> {
    let (name, rest) = match authority.strip_prefix('[') {
        Some(v6) => v6.split_once(']')?,
        None => match authority.find(':') {
            Some(at) => authority.split_at(at),
            None => (authority, ""),
        },
    };
    let port = rest.strip_prefix(':');
    let is_port = port.is_some_and(|p| p.len() <= 5 && p.bytes().all(|b| b.is_ascii_digit()));
    (rest.is_empty() || is_port).then_some(name)
}

fn cookies(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|v| v.to_str().ok())
        .flat_map(|v| v.split(';'))
        .filter_map(|pair| {
            let (name, value) = pair.trim().split_once('=')?;
            (name == COOKIE && !value.is_empty()).then_some(value)
        })
        .take(COOKIES_MAX)
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
mod tests;
