//! Wrong tokens: counted, told in the log, and answered with "too many" where one address sends many of them. Whoever has
//! the right token is never asked here, so that nobody can keep others out with wrong ones.
use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use host::Clock;

/// Wrong tokens that an address may send at once, and how long it takes until it may send another.
const BURST: u32 = 10;
const EVERY: Duration = Duration::from_secs(6);
/// Addresses remembered; further ones share one place until there is room again.
const ADDRESSES_MAX: usize = 4096;
/// How often the log tells of wrong tokens, whatever their number.
const TELL_EVERY: Duration = Duration::from_secs(10);

/// How a token was given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Way {
    /// In the header of a request.
    Header,
    /// To the login.
    Login,
}

pub(crate) struct Guesses {
    clock: Arc<dyn Clock>,
    seen: Mutex<Seen>,
    by_header: AtomicU64,
    by_login: AtomicU64,
    limited: AtomicU64,
}

#[derive(Default)]
struct Seen {
    /// When an address has made good for its wrong tokens, on the monotonic clock.
    good_at: HashMap<Address, Duration>,
    told_at: Option<Duration>,
    untold: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Address {
    One(IpAddr),
    /// All that found no room.
    Others,
}

/// An address as one sender has it: of IPv6 a whole /64 belongs to one.
fn grouped(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6(Ipv6Addr::from_bits(v6.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

impl Guesses {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Guesses {
            clock,
            seen: Mutex::default(),
            by_header: AtomicU64::new(0),
            by_login: AtomicU64::new(0),
            limited: AtomicU64::new(0),
        }
    }

    /// Notes a wrong token; whether its address has sent too many.
    pub(crate) fn wrong(&self, address: IpAddr, way: Way) -> bool {
        match way {
            Way::Header => &self.by_header,
            Way::Login => &self.by_login,
        }
        .fetch_add(1, Relaxed);
        let (address, now) = (grouped(address), self.clock.monotonic());
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.untold += 1;
        if seen.told_at.is_none_or(|at| now.saturating_sub(at) >= TELL_EVERY) {
            tracing::warn!(%address, count = seen.untold, "wrong tokens were given, the last from this address");
            (seen.told_at, seen.untold) = (Some(now), 0);
        }
        let mut key = Address::One(address);
        if seen.good_at.len() >= ADDRESSES_MAX && !seen.good_at.contains_key(&key) {
            seen.good_at.retain(|_, good_at| *good_at > now);
            if seen.good_at.len() >= ADDRESSES_MAX {
                key = Address::Others;
            }
        }
        let good_at = seen.good_at.entry(key).or_default();
        let then = (*good_at).max(now) + EVERY;
        if then.saturating_sub(now) > EVERY * BURST {
            self.limited.fetch_add(1, Relaxed);
            return true;
        }
        *good_at = then;
        false
    }

    /// Wrong tokens in headers and in logins, and how many of both were answered with "too many".
    pub(crate) fn counts(&self) -> (u64, u64, u64) {
        let n = |c: &AtomicU64| c.load(Relaxed);
        (n(&self.by_header), n(&self.by_login), n(&self.limited))
    }
}

#[cfg(test)]
mod tests;
