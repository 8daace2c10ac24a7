use super::*;

const SECRET: &str = "0123456789abcdef-secret";

const CLIENT: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

fn auth() -> Auth {
    Auth::new(AuthMode::Token(Token::parse(SECRET).unwrap()), Host::real(), None)
}

fn sent_back(cookie: &str) -> HeaderMap {
    headers(header::COOKIE, cookie.split(';').next().unwrap())
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
        assert!(
            a.check(&headers(header::AUTHORIZATION, &value), CLIENT).is_ok(),
            "{value}"
        );
    }
    assert!(
        a.check(
            &headers(header::AUTHORIZATION, "Bearer 0123456789abcdef-secreT"),
            CLIENT
        )
        .is_err()
    );
    assert!(a.check(&HeaderMap::new(), CLIENT).is_err());
}

#[test]
fn a_login_gives_a_session_until_it_is_ended() {
    let a = auth();
    let cookie = a.login(CLIENT, false, SECRET).unwrap();
    assert!(
        cookie.contains("HttpOnly; SameSite=Strict") && !cookie.contains("Secure"),
        "{cookie}"
    );
    assert!(a.login(CLIENT, true, SECRET).unwrap().ends_with("; Secure"));
    let sent = sent_back(&cookie);
    assert!(matches!(a.check(&sent, CLIENT), Ok(Pass::Session(_))));
    // one that somebody else set beside it keeps nobody out
    let both = headers(
        header::COOKIE,
        &format!("x=1; {COOKIE}=planted; {}", cookie.split(';').next().unwrap()),
    );
    assert!(a.check(&both, CLIENT).is_ok());
    a.logout(&both, false);
    assert!(a.check(&sent, CLIENT).is_err());
    assert!(
        a.check(&headers(header::COOKIE, &format!("{COOKIE}=")), CLIENT)
            .is_err()
    );
}

#[test]
fn wrong_tokens_are_limited_and_the_right_one_is_always_taken() {
    let a = auth();
    let wrong = headers(header::AUTHORIZATION, "Bearer 0123456789abcdef-guess");
    let statuses: Vec<u16> = (0..200)
        .map(|i| {
            let refused = if i % 2 == 0 {
                a.login(CLIENT, false, "wrong").unwrap_err()
            } else {
                a.check(&wrong, CLIENT).unwrap_err()
            };
            refused.status.as_u16()
        })
        .collect();
    assert_eq!(statuses[0], 401);
    assert!(statuses.iter().filter(|s| **s == 429).count() > 180, "{statuses:?}");
    let (headers_wrong, logins_wrong, limited) = a.guesses.counts();
    assert_eq!((headers_wrong, logins_wrong), (100, 100));
    assert!(limited > 180);
    let right = headers(header::AUTHORIZATION, &format!("Bearer {SECRET}"));
    assert!(a.check(&right, CLIENT).is_ok());
    let cookie = a.login(CLIENT, false, SECRET).unwrap();
    assert!(a.check(&sent_back(&cookie), CLIENT).is_ok());
    // asking without a token is no guess
    assert_eq!(
        a.check(&HeaderMap::new(), CLIENT).unwrap_err().status,
        StatusCode::UNAUTHORIZED
    );
}

#[test]
fn logins_outlive_the_process_and_end_with_log_out_and_token() {
    let sim = host::sim::Machine::new(1);
    let file = || Some(PathBuf::from("/data/sessions.json"));
    sim.host().files.create_dir_all(std::path::Path::new("/data")).unwrap();
    let start = |secret: &str| Auth::new(AuthMode::Token(Token::parse(secret).unwrap()), sim.host(), file());
    let (a, b) = {
        let first = start(SECRET);
        (
            first.login(CLIENT, false, SECRET).unwrap(),
            first.login(CLIENT, false, SECRET).unwrap(),
        )
    };
    assert_ne!(a, b);
    let second = start(SECRET);
    assert!(second.check(&sent_back(&a), CLIENT).is_ok());
    second.logout(&sent_back(&a), false);
    let third = start(SECRET);
    assert!(
        third.check(&sent_back(&a), CLIENT).is_err(),
        "log-out outlives a restart, too"
    );
    assert!(third.check(&sent_back(&b), CLIENT).is_ok());
    assert!(
        start("another-token-of-16-chars")
            .check(&sent_back(&b), CLIENT)
            .is_err()
    );
    let stored = sim.host().files.read(&file().unwrap()).unwrap();
    let cookie = b.split(['=', ';']).nth(1).unwrap();
    let text = String::from_utf8(stored).unwrap();
    assert!(!text.contains(cookie) && !text.contains(SECRET), "{text}");
}

#[test]
fn another_token_ends_what_came_in_by_the_old_one() {
    let a = auth();
    let cookie = a.login(CLIENT, false, SECRET).unwrap();
    assert!(!a.replace_token(&Token::parse(SECRET).unwrap()));
    assert!(
        a.check(&sent_back(&cookie), CLIENT).is_ok(),
        "the same token again changes nothing"
    );
    let other = "fedcba9876543210-secret";
    assert!(a.replace_token(&Token::parse(other).unwrap()));
    assert!(a.check(&sent_back(&cookie), CLIENT).is_err());
    assert!(
        a.check(&headers(header::AUTHORIZATION, &format!("Bearer {SECRET}")), CLIENT)
            .is_err()
    );
    assert!(
        a.check(&headers(header::AUTHORIZATION, &format!("Bearer {other}")), CLIENT)
            .is_ok()
    );
    let open = Auth::new(AuthMode::Loopback, Host::real(), None);
    assert!(!open.replace_token(&Token::parse(other).unwrap()));
}

#[tokio::test]
async fn what_is_open_ends_with_what_it_came_in_by() {
    let a = Arc::new(auth());
    let waits = |pass: Pass| {
        let a = Arc::clone(&a);
        tokio::spawn(async move { a.ended(&pass).await })
    };
    let cookies: Vec<String> = (0..2).map(|_| a.login(CLIENT, false, SECRET).unwrap()).collect();
    let passes: Vec<Pass> = cookies
        .iter()
        .map(|c| a.check(&sent_back(c), CLIENT).unwrap())
        .collect();
    let (first, second) = (waits(passes[0].clone()), waits(passes[1].clone()));
    let bearer = waits(Pass::Token(Token::parse(SECRET).unwrap().hash));
    a.logout(&sent_back(&cookies[0]), false);
    first.await.unwrap();
    assert!(!second.is_finished() && !bearer.is_finished());
    assert!(a.replace_token(&Token::parse("fedcba9876543210-secret").unwrap()));
    second.await.unwrap();
    bearer.await.unwrap();
}

#[test]
fn without_a_login_only_local_names_are_served() {
    let a = Auth::new(AuthMode::Loopback, Host::real(), None);
    for good in [
        "localhost:7070",
        "127.0.0.1",
        "[::1]:7070",
        "127.9.9.9:1",
        "x.localhost",
    ] {
        assert!(a.check_host(&headers(header::HOST, good)).is_ok(), "{good}");
    }
    for bad in [
        "evil.example",
        "10.0.0.1:7070",
        "127.0.0.1.evil.example",
        "",
        "[::1]evil",
        "127.0.0.1:7070@evil",
        "127.0.0.1:x",
        "localhost.evil:1",
    ] {
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
