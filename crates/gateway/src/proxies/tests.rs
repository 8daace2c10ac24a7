use super::*;

fn proxies(list: &[&str]) -> Proxies {
    Proxies::parse(&list.iter().map(|&t| t.to_owned()).collect::<Vec<_>>()).unwrap()
}

fn client(trusted: &[&str], peer: &str, lines: &[&str]) -> String {
    let mut headers = HeaderMap::new();
    for line in lines {
        headers.append(FORWARDED_FOR, line.parse().unwrap());
    }
    proxies(trusted).client(peer.parse().unwrap(), &headers).to_string()
}

#[test]
fn only_trusted_proxies_name_others() {
    let far = ["203.0.113.7"];
    assert_eq!(client(&[], "127.0.0.1", &far), "127.0.0.1");
    assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &far), "203.0.113.7");
    assert_eq!(client(&["10.0.0.0/8"], "127.0.0.1", &far), "127.0.0.1");
    assert_eq!(client(&["::1"], "::1", &["[2001:db8::1]:4711"]), "2001:db8::1");
    assert_eq!(client(&["10.0.0.0/8"], "::ffff:10.1.2.3", &far), "203.0.113.7");
    assert_eq!(client(&["127.0.0.1"], "127.0.0.1", &[]), "127.0.0.1");
}

#[test]
fn what_a_client_wrote_itself_is_not_believed() {
    let trusted = ["127.0.0.1", "10.0.0.0/8"];
    assert_eq!(client(&trusted, "127.0.0.1", &["1.1.1.1, 203.0.113.7"]), "203.0.113.7");
    assert_eq!(
        client(&trusted, "127.0.0.1", &["1.1.1.1", "203.0.113.7, 10.2.3.4:80"]),
        "203.0.113.7"
    );
    assert_eq!(client(&trusted, "127.0.0.1", &["1.1.1.1, junk"]), "127.0.0.1");
    let long = vec!["10.0.0.1"; 10_000].join(",");
    assert_eq!(client(&trusted, "127.0.0.1", &[&format!("1.1.1.1,{long}")]), "10.0.0.1");
}

#[test]
fn tls_is_what_the_nearest_proxy_says() {
    let mut headers = HeaderMap::new();
    headers.append(FORWARDED_PROTO, "http, HTTPS".parse().unwrap());
    let peer = "127.0.0.1".parse().unwrap();
    assert!(proxies(&["127.0.0.1"]).over_tls(peer, &headers));
    assert!(!proxies(&[]).over_tls(peer, &headers));
    headers.append(FORWARDED_PROTO, "http".parse().unwrap());
    assert!(!proxies(&["127.0.0.1"]).over_tls(peer, &headers));
}

#[test]
fn settings_that_are_no_networks_are_refused() {
    for good in ["127.0.0.1", "10.0.0.0/8", "0.0.0.0/0", "::/0", "fd00::/8", "::1/128"] {
        assert!(Proxies::parse(&[good.to_owned()]).is_ok(), "{good}");
    }
    for bad in [
        "",
        "localhost",
        "10.0.0.0/33",
        "::1/129",
        "10.0.0/8",
        "10.0.0.1/",
        "10.0.0.1:80",
    ] {
        let e = Proxies::parse(&[bad.to_owned()]).unwrap_err();
        assert!(e.starts_with("server.trusted_proxies[0]"), "{bad}: {e}");
    }
    assert!(proxies(&["0.0.0.0/0"]).trusts("1.2.3.4".parse().unwrap()));
    assert!(!proxies(&["10.0.0.0/31"]).trusts("10.0.0.2".parse().unwrap()));
}
