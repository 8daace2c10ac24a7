use proptest::prelude::*;

use super::*;

fn accepts(text: &[u8]) -> bool {
    let mut r = Reader::new(text);
    r.skip().and_then(|()| r.end()).is_ok()
}

#[test]
fn depth_is_bounded() {
    let nested = |n| [b"[".repeat(n), b"]".repeat(n)].concat();
    assert!(accepts(&nested(DEPTH_MAX)));
    assert!(!accepts(&nested(DEPTH_MAX + 1)));
}

#[test]
fn strings() {
    let read = |t: &str| Reader::new(t.as_bytes()).string().map(|s| s.into_owned());
    assert_eq!(read(r#" "a\u00e4\ud83d\ude00\n\/" "#).unwrap(), "aä😀\n/");
    for bad in [
        r#""\ud800""#,
        r#""\ud800\u0041""#,
        r#""\x""#,
        "\"a\nb\"",
        "\"a",
        r#""\u12""#,
    ] {
        assert!(read(bad).is_err(), "{bad}");
    }
    assert!(Reader::new(b"\"\xff\"").string().is_err());
}

proptest! {
    /// The judge is serde_json, which bounds the depth too.
    #[test]
    fn agrees_with_serde(text in r#"[\[\]{}:, "\\a-c0-9.eE+\-ntrufals]{0,24}"#) {
        prop_assert_eq!(accepts(text.as_bytes()), serde_json::from_str::<serde::de::IgnoredAny>(&text).is_ok(), "{}", text);
    }

    #[test]
    fn written_strings_read_back(text: String) {
        let mut out = Vec::new();
        push_string(&mut out, &text);
        prop_assert_eq!(Reader::new(&out).string().unwrap(), text);
    }
}
