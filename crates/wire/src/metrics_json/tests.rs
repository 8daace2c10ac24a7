use crate::tests::{Recorder, now};

fn dump(body: &str) -> String {
    Recorder::of("json", body.as_bytes(), &now()).dump()
}

#[test]
fn one_an_array_or_metrics() {
    let one = r#"{"name":"a","value":1}"#;
    assert_eq!(dump(one), "a 1.0 @1700000000000\n");
    assert_eq!(dump(&format!("[{one}]")), dump(one));
    assert_eq!(dump(&format!("{{\"metrics\":[{one}]}}")), dump(one));
    assert_eq!(dump(&format!("[{one},{one}]")).lines().count(), 2);
    assert_eq!(dump("[]"), "\n");
}

#[test]
fn what_breaks_off_says_where() {
    assert!(dump(r#"[{"name":"a","value":1},{"name""#).contains("error Malformed after 1: malformed JSON"));
    assert!(dump("").contains("error"));
    assert!(dump("{}").contains("missing"));
    assert!(dump(r#"{"metrics":[],"x":1}"#).contains("error"));
    assert!(dump(r#"{"name":"a","value":1} x"#).contains("error Malformed after 1"));
}

#[test]
fn spellings_are_not_mixed_up() {
    // the labels of one spelled like the name of the other
    let mut sink = Recorder::default();
    let body = "[{\"labels\":{\"a\":\"b\"},\"name\":\"x\",\"value\":1},\
        {\"name\":\"\\u0001\\u0000\\u0000\\u0000a\\u0001\\u0000\\u0000\\u0000bx\",\"value\":2}]";
    super::decode(body.as_bytes(), &now(), &mut sink).unwrap();
    assert_eq!(sink.series.len(), 2);
}
