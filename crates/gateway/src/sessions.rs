//! Logins: a random cookie each, of which only a keyed hash is kept, in memory and in one file, so that a login outlives
//! the process. The key is the token: with another token nobody finds an old session again.
use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use host::Host;
use ring::hmac;
use serde::{Deserialize, Serialize};

/// Sessions kept; the oldest goes when a new one comes.
const SESSIONS_MAX: usize = 1024;
/// Version of the file.
const VERSION: u32 = 1;
/// Bytes of the file beyond which it is not read.
const FILE_BYTES_MAX: u64 = 1 << 20;

/// What a session is known by: a hash of its cookie.
pub(crate) type Key = [u8; 32];

pub(crate) struct Sessions {
    host: Host,
    file: Option<PathBuf>,
    until_ms: Mutex<HashMap<Key, i64>>,
    /// Held while the file is written, so that what is written last is what holds last.
    writing: Mutex<()>,
}

#[derive(Deserialize, Serialize)]
struct Stored {
    version: u32,
    sessions: Vec<StoredSession>,
}

#[derive(Deserialize, Serialize)]
struct StoredSession {
    key: String,
    until_ms: i64,
}

/// The key of a cookie under a token.
pub(crate) fn key_of(token: &str, cookie: &str) -> Key {
    let tag = hmac::sign(
        &hmac::Key::new(hmac::HMAC_SHA256, token.as_bytes()),
        format!("overseer session {cookie}").as_bytes(),
    );
    let mut key = Key::default();
    key.copy_from_slice(tag.as_ref());
    key
}

impl Sessions {
    /// With those of the file that have not ended. A file that cannot be read costs the logins, and nothing else.
    pub(crate) fn open(host: Host, file: Option<PathBuf>) -> Self {
        let mut known = HashMap::new();
        if let Some(file) = &file
            && host.files.exists(file)
        {
            match read(&host, file) {
                Ok(sessions) => known = sessions,
                Err(why) => {
                    tracing::warn!(file = %file.display(), why, "the logins cannot be read; people log in again");
                }
            }
        }
        let now_ms = host.clock.now_ms();
        known.retain(|_, until_ms| *until_ms > now_ms);
        Sessions {
            host,
            file,
            until_ms: Mutex::new(known),
            writing: Mutex::default(),
        }
    }

    pub(crate) fn add(&self, key: Key, until_ms: i64) {
        self.change(|sessions| {
            if sessions.len() >= SESSIONS_MAX
                && let Some(oldest) = sessions.iter().min_by_key(|(_, until)| **until).map(|(key, _)| *key)
            {
                sessions.remove(&oldest);
            }
            sessions.insert(key, until_ms);
        });
    }

    pub(crate) fn remove(&self, key: &Key) {
        self.change(|sessions| {
            sessions.remove(key);
        });
    }

    pub(crate) fn remove_all(&self) {
        self.change(HashMap::clear);
    }

    /// Until when a session holds, if it does.
    pub(crate) fn until_ms(&self, key: &Key) -> Option<i64> {
        let sessions = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
        let until_ms = *sessions.get(key)?;
        (until_ms > self.host.clock.now_ms()).then_some(until_ms)
    }

    fn change(&self, change: impl FnOnce(&mut HashMap<Key, i64>)) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let stored = {
            let mut sessions = self.until_ms.lock().unwrap_or_else(PoisonError::into_inner);
            let now_ms = self.host.clock.now_ms();
            sessions.retain(|_, until_ms| *until_ms > now_ms);
            change(&mut sessions);
            let mut stored: Vec<StoredSession> = sessions
                .iter()
                .map(|(key, until_ms)| StoredSession {
                    key: hex(key),
                    until_ms: *until_ms,
                })
                .collect();
            stored.sort_by(|a, b| (a.until_ms, &a.key).cmp(&(b.until_ms, &b.key)));
            stored
        };
        let Some(file) = &self.file else { return };
        let text = serde_json::to_vec(&Stored {
            version: VERSION,
            sessions: stored,
        });
        let written = text
            .map_err(std::io::Error::from)
            .and_then(|bytes| self.host.files.write_atomic(file, &bytes));
        if let Err(e) = written {
            tracing::error!(
                file = %file.display(),
                error = %e,
                "the logins cannot be written: until they are, a restart knows the ones from before"
            );
        }
    }
}

fn read(host: &Host, file: &std::path::Path) -> Result<HashMap<Key, i64>, String> {
    let opened = host
        .files
        .open(file, host::OpenMode::Read)
        .and_then(|f| f.len())
        .map_err(|e| e.to_string())?;
    if opened > FILE_BYTES_MAX {
        return Err(format!("{opened} bytes are more than it ever has"));
    }
    let bytes = host.files.read(file).map_err(|e| e.to_string())?;
    let stored: Stored = serde_json::from_slice(&bytes).map_err(|e| format!("it is damaged: {e}"))?;
    if stored.version != VERSION {
        return Err(format!("its version is {}, {VERSION} is known", stored.version));
    }
    let sessions = stored.sessions.into_iter().take(SESSIONS_MAX);
    sessions
        .map(|s| Ok((unhex(&s.key).ok_or("a key is damaged")?, s.until_ms)))
        .collect()
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

fn unhex(text: &str) -> Option<Key> {
    let mut key = Key::default();
    if text.len() != 2 * key.len() {
        return None;
    }
    for (byte, pair) in key.iter_mut().zip(text.as_bytes().chunks(2)) {
        let digit = |b: u8| (b as char).to_digit(16);
        *byte = (digit(pair[0])? * 16 + digit(pair[1])?) as u8;
    }
    Some(key)
}

#[cfg(test)]
mod tests;
