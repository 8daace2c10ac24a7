//! Whom a request comes from: its peer, or whom a proxy in front of this server names, where that proxy is trusted.
use std::net::IpAddr;

use http::{HeaderMap, HeaderName};

/// Proxies in the setting, and hops of one request that are looked at.
const PROXIES_MAX: usize = 100;
const HOPS_MAX: usize = 32;

const FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

/// Addresses and networks whose word on others is taken.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Proxies(Vec<Network>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Network {
    address: IpAddr,
    bits: u8,
}

impl Network {
    fn parse(text: &str) -> Option<Self> {
        let (address, bits) = match text.split_once('/') {
            None => (text, None),
            Some((address, bits)) => (address, Some(bits.parse::<u8>().ok()?)),
        };
        let address = address.parse::<IpAddr>().ok()?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let bits = bits.unwrap_or(most);
        (bits <= most).then_some(Network { address, bits })
    }

    fn holds(&self, other: IpAddr) -> bool {
        match (self.address, other) {
            (IpAddr::V4(a), IpAddr::V4(b)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            (IpAddr::V6(a), IpAddr::V6(b)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                (a.to_bits() ^ b.to_bits()) & mask == 0
            }
            _ => false,
        }
    }
}

impl Proxies {
    /// From the setting `server.trusted_proxies`.
    pub(crate) fn parse(texts: &[String]) -> Result<Self, String> {
        if texts.len() > PROXIES_MAX {
            return Err(format!(
                "server.trusted_proxies: {} entries, at most {PROXIES_MAX} are taken",
                texts.len()
            ));
        }
        let each = texts.iter().enumerate().map(|(i, text)| {
            Network::parse(text).ok_or_else(|| {
                format!(
                    "server.trusted_proxies[{i}]: {:?}, an address or a network such as 10.0.0.0/8 is right",
                    text.chars().take(80).collect::<String>()
                )
            })
        });
        each.collect::<Result<_, _>>().map(Proxies)
    }

    fn trusts(&self, address: IpAddr) -> bool {
        self.0.iter().any(|n| n.holds(address))
    }

    /// The nearest address that is no trusted proxy. What stands further away in `X-Forwarded-For` was written by
    /// somebody who is not trusted.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        let mut nearest = peer.to_canonical();
        let lines: Vec<&str> = headers
            .get_all(FORWARDED_FOR)
            .iter()
            .map(|v| v.to_str().unwrap_or(""))
            .collect();
        let hops = lines.iter().rev().flat_map(|line| line.rsplit(','));
        for hop in hops.take(HOPS_MAX) {
            if !self.trusts(nearest) {
                break;
            }
            let Some(address) = address_of(hop.trim()) else { break };
            nearest = address.to_canonical();
        }
        nearest
    }

    /// Whether a trusted proxy says that the client spoke TLS to it.
    pub(crate) fn over_tls(&self, peer: IpAddr, headers: &HeaderMap) -> bool {
        let said = headers.get_all(FORWARDED_PROTO).iter().next_back();
        let last = said.and_then(|v| v.to_str().ok()?.rsplit(',').next());
        self.trusts(peer.to_canonical()) && last.is_some_and(|p| p.trim().eq_ignore_ascii_case("https"))
    }
}

/// An address, which some proxies write with a port.
fn address_of(text: &str) -> Option<IpAddr> {
    text.parse()
        .ok()
        .or_else(|| text.parse::<std::net::SocketAddr>().ok().map(|a| a.ip()))
}

#[cfg(test)]
mod tests;
