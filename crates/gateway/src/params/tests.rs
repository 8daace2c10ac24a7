use super::*;

fn params(text: &str) -> Params {
    let mut p = Params::default();
    p.extend(text.as_bytes()).unwrap();
    p
}

#[test]
fn pairs_are_decoded() {
    let p = params("query=up%7Ba%3D%22b+c%22%7D&match[]=x&match%5B%5D=y&empty");
    assert_eq!(p.get("query"), Some(r#"up{a="b c"}"#));
    assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["x", "y"]);
    assert_eq!(p.get("empty"), Some(""));
    assert!(Params::default().extend(b"a=%ff").is_err());
}

#[test]
fn escaped_names() {
    assert_eq!(
        unescape_name("U__http_2e_status__code").as_deref(),
        Some("http.status_code")
    );
    assert_eq!(unescape_name("U__a_zz_b"), None);
    assert_eq!(unescape_name("plain_name"), None);
}

#[test]
fn durations() {
    for (text, ms) in [
        ("1.5", 1500),
        ("0.29", 290),
        ("0.0019", 1),
        ("-5", -5000),
        ("1m30s", 90_000),
        ("1d2h", 93_600_000),
    ] {
        assert_eq!(duration_ms("step", text).unwrap(), ms, "{text}");
    }
    for bad in ["", "1e100", "NaN", "2h1d", "-5m", "5 m"] {
        assert!(duration_ms("step", bad).is_err(), "{bad}");
    }
}

#[test]
fn times_and_open_ends() {
    let p = params("start=-292273086-05-16T16:47:06Z&end=9223309901257974&time=1.5&bad=yesterday&none=");
    assert_eq!(p.bound_ms("start").unwrap(), Some(i64::MIN));
    assert_eq!(p.bound_ms("end").unwrap(), Some(i64::MAX));
    assert_eq!(p.time_ms("end").unwrap(), Some(model::TIME_MS_MAX));
    assert_eq!(p.bound_ms("time").unwrap(), Some(1500));
    assert_eq!(p.bound_ms("none").unwrap(), None);
    assert!(p.time_ms("bad").unwrap_err().message.contains("RFC 3339"));
}

#[test]
fn limits() {
    for (text, limit) in [
        ("", usize::MAX),
        ("limit=", usize::MAX),
        ("limit=0", usize::MAX),
        ("limit=7", 7),
        ("limit=9223372036854775808", 1 << 63),
        ("limit=99999999999999999999999999", usize::MAX),
    ] {
        assert_eq!(params(text).limit().unwrap(), limit, "{text}");
    }
    for text in ["limit=-1", "limit=1.5", "limit=x", "limit=1e3"] {
        assert!(params(text).limit().is_err(), "{text}");
    }
}

async fn of(method: Method, query: &str, content_type: Option<&str>, body: &'static str) -> Params {
    let mut headers = HeaderMap::new();
    if let Some(c) = content_type {
        headers.insert(header::CONTENT_TYPE, c.parse().unwrap());
    }
    let host = host::Host::real();
    let room = crate::room::Room::new(96 << 20);
    Params::of(
        &method,
        Some(query),
        &headers,
        Body::from(body),
        &crate::body::BodyReader {
            clock: &*host.clock,
            config: &crate::config::ServerConfig::default(),
            bodies: room.of(crate::room::Part::Bodies),
        },
    )
    .await
    .unwrap()
}

const FORM: Option<&str> = Some("application/x-www-form-urlencoded");

#[tokio::test]
async fn a_form_comes_before_the_url_and_lists_are_of_both() {
    for method in [Method::POST, Method::PUT, Method::PATCH] {
        let p = of(method, "query=a&time=1&match[]=x", FORM, "query=b&step=2&match[]=y").await;
        assert_eq!(p.get("query"), Some("b"));
        assert_eq!((p.get("time"), p.get("step")), (Some("1"), Some("2")));
        assert_eq!(p.all("match[]").collect::<Vec<_>>(), ["y", "x"]);
    }
    // the first of several counts, also when it is empty
    let p = of(Method::POST, "time=1", FORM, "time=&query=a&query=b").await;
    assert_eq!((p.get("time"), p.get("query")), (Some(""), Some("a")));
    assert_eq!(p.time_ms("time").unwrap(), None);
}

#[tokio::test]
async fn only_a_form_is_read() {
    for (method, content_type) in [
        (Method::GET, FORM),
        (Method::DELETE, FORM),
        (Method::POST, None),
        (Method::POST, Some("application/json")),
        (Method::POST, Some("application/x-www-form-urlencoded-not")),
    ] {
        let p = of(method, "query=a", content_type, "query=b").await;
        assert_eq!(p.all("query").collect::<Vec<_>>(), ["a"], "{content_type:?}");
    }
    for content_type in [
        "Application/X-WWW-Form-URLencoded; charset=utf-8",
        " application/x-www-form-urlencoded ;x",
    ] {
        let p = of(Method::POST, "query=a", Some(content_type), "query=b").await;
        assert_eq!(p.get("query"), Some("b"), "{content_type}");
    }
}

#[test]
fn what_cannot_be_read_is_left_out_and_known() {
    let p = params("query=1;time=5&step=%zz&ok=a+b%20c&%=1&last");
    assert_eq!((p.get("query"), p.get("time"), p.get("step")), (None, None, None));
    assert_eq!((p.get("ok"), p.get("last")), (Some("a b c"), Some("")));
    let why = p.whole().unwrap_err().message;
    assert!(why.contains("query=1;time=5") && why.contains("semicolon"), "{why}");
    assert!(params("a=%3B").whole().is_ok());
    assert!(pairs("precision=s;db=x").is_err());
}
