use host::sim::SimClock;

use super::*;

fn guesses() -> (Guesses, Arc<SimClock>) {
    let clock = Arc::new(SimClock::new(0));
    (Guesses::new(Arc::clone(&clock) as Arc<dyn Clock>), clock)
}

fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

#[test]
fn an_address_may_be_wrong_a_few_times_and_again_after_a_while() {
    let (g, clock) = guesses();
    let limited = |g: &Guesses, a: &str| g.wrong(address(a), Way::Header);
    for _ in 0..BURST {
        assert!(!limited(&g, "10.0.0.1"));
    }
    for _ in 0..100 {
        assert!(limited(&g, "10.0.0.1"));
    }
    assert!(!limited(&g, "10.0.0.2"), "others are not concerned");
    assert!(limited(&g, "::ffff:10.0.0.1"), "the same address in another spelling");
    clock.advance(EVERY);
    assert!(!limited(&g, "10.0.0.1"));
    assert!(limited(&g, "10.0.0.1"));
    let (headers, logins, many) = g.counts();
    assert_eq!((headers, logins, many), (u64::from(BURST) + 104, 0, 102));
}

#[test]
fn a_network_of_ipv6_is_one_sender() {
    let (g, _) = guesses();
    let from = |low: u64| g.wrong(address(&format!("2001:db8:1:2::{low:x}")), Way::Login);
    assert!((0..u64::from(BURST)).all(|low| !from(low)));
    assert!(from(0xffff));
    assert!(!g.wrong(address("2001:db8:1:3::1"), Way::Login));
}

#[test]
fn memory_is_bounded_and_a_flood_of_addresses_frees_none() {
    let (g, clock) = guesses();
    for _ in 0..=BURST {
        g.wrong(address("10.0.0.1"), Way::Header);
    }
    for i in 0..3 * ADDRESSES_MAX as u32 {
        g.wrong(IpAddr::from((0x0b00_0000 + i).to_be_bytes()), Way::Header);
    }
    assert_eq!(g.seen.lock().unwrap().good_at.len(), ADDRESSES_MAX + 1);
    assert!(g.wrong(address("10.0.0.1"), Way::Header), "it is still remembered");
    clock.advance(Duration::from_secs(3600));
    assert!(!g.wrong(address("12.0.0.1"), Way::Header));
    assert_eq!(g.seen.lock().unwrap().good_at.len(), 1);
}
