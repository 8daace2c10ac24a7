use proptest::prelude::*;

use super::super::{pretty, tree_json};
use super::*;

fn error(text: &str) -> String {
    parse(text).unwrap_err().message
}

#[test]
fn prints_as_prometheus_does() {
    for (text, printed) in [
        ("foo", "foo"),
        ("{\"my.metric\",a=\"b\"}", "{__name__=\"my.metric\",a=\"b\"}"),
        ("foo{z='1',a=~\"x\",}", "foo{a=~\"x\",z=\"1\"}"),
        ("{\"odd label\"=\"1\"}", "{\"odd label\"=\"1\"}"),
        ("SUM(foo)BY(a)", "sum by (a) (foo)"),
        ("sum(foo)without()", "sum without () (foo)"),
        ("topk(5,foo)by(\"odd label\",b)", "topk by (\"odd label\", b) (5, foo)"),
        ("-1^2", "-1 ^ 2"),
        ("- foo ^ 2", "-foo ^ 2"),
        ("1+2*3^4^5-6", "1 + 2 * 3 ^ 4 ^ 5 - 6"),
        ("a and b or c unless d", "a and b or c unless d"),
        ("a/on(x)group_left(y)b", "a / on (x) group_left (y) b"),
        ("a==bool ignoring(x)b", "a == bool ignoring (x) b"),
        ("a+fill(1)b", "a + fill (1) b"),
        (
            "a+on(x)fill_right(-2)fill_left(0)b",
            "a + on (x) fill_left (0) fill_right (-2) b",
        ),
        ("fill+fill", "fill + fill"),
        ("a</2", "a </ 2"),
        ("a>/2", "a >/ 2"),
        ("foo[5m]offset-1h", "foo[5m] offset -1h"),
        ("foo@1.5 offset 90s", "foo @ 1.500 offset 1m30s"),
        ("foo@start()", "foo @ start()"),
        ("rate(foo[5m]anchored@end())", "rate(foo[5m] anchored @ end())"),
        ("foo smoothed", "foo smoothed"),
        ("foo[300]", "foo[5m]"),
        ("foo[5m:]", "foo[5m:]"),
        ("sum(foo)[1h:30s]offset 1d@0", "sum(foo)[1h:30s] @ 0.000 offset 1d"),
        ("foo[step()*2+(1m)]", "foo[step() * 2 + (1m)]"),
        ("foo offset max_of(range(),-5m)", "foo offset max_of(range(), -5m)"),
        ("foo offset 5m*2", "foo offset 5m * 2"),
        ("foo offset (5m*2)", "foo offset (5m * 2)"),
        ("0x1F+1_000+.5+010+Inf+nAn", "31 + 1000 + 0.5 + 8 + +Inf + NaN"),
        ("5m+1h30m", "5m + 1h30m"),
        ("'a\\'b'", "\"a'b\""),
        ("`a\\b`", "\"a\\\\b\""),
        ("foo # comment\n+ bar", "foo + bar"),
        ("start + end + step + range", "start + end + step + range"),
        ("start()+step()", "start() + step()"),
        ("sum by(without,", ""),
        ("by+offset+without", "by + offset + without"),
    ] {
        if !printed.is_empty() {
            assert_eq!(parse(text).map(|e| e.to_string()), Ok(printed.to_owned()), "{text}");
        }
    }
}

#[test]
fn errors_as_prometheus_words_them() {
    for (text, message) in [
        ("", "unknown position: parse error: no expression found in input"),
        ("# just a comment\n\n", "1:1: parse error: no expression found in input"),
        ("1+", "1:3: parse error: unexpected end of input"),
        ("foo bar", "1:5: parse error: unexpected identifier \"bar\""),
        ("(1", "1:3: parse error: unclosed left parenthesis"),
        ("1)", "1:3: parse error: unexpected right parenthesis ')'"),
        ("foo{a", "1:6: parse error: unexpected end of input inside braces"),
        (
            "foo{a=b}",
            "1:7: parse error: unexpected identifier \"b\" in label matching, expected string",
        ),
        ("foo{}{}", "1:6: parse error: unexpected \"{\""),
        (
            "{}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "{a=~\".*\"}",
            "1:1: parse error: vector selector must contain at least one non-empty matcher",
        ),
        (
            "foo{__name__=\"bar\"}",
            "1:1: parse error: metric name must not be set twice: \"foo\" or \"bar\"",
        ),
        (
            "rate(foo)",
            "1:6: parse error: expected type range vector in call to function \"rate\", got instant vector",
        ),
        (
            "abs(1)",
            "1:5: parse error: expected type instant vector in call to function \"abs\", got scalar",
        ),
        (
            "abs()",
            "1:1: parse error: expected 1 argument(s) in call to \"abs\", got 0",
        ),
        (
            "round(foo, 1, 2)",
            "1:1: parse error: expected at most 2 argument(s) in call to \"round\", got 3",
        ),
        (
            "label_join()",
            "1:1: parse error: expected at least 3 argument(s) in call to \"label_join\", got 0",
        ),
        ("nope(foo)", "1:1: parse error: unknown function with name \"nope\""),
        ("START()", "1:1: parse error: unknown function with name \"START\""),
        (
            "abs(foo,)",
            "1:8: parse error: trailing commas not allowed in function call args",
        ),
        (
            "sum()",
            "1:1: parse error: no arguments for aggregate expression provided",
        ),
        (
            "topk(foo)",
            "1:1: parse error: wrong number of arguments for aggregate expression provided, expected 2, got 1",
        ),
        (
            "sum by foo (bar)",
            "1:8: parse error: unexpected identifier \"foo\" in grouping opts, expected \"(\"",
        ),
        (
            "sum(foo bar)",
            "1:9: parse error: unexpected identifier \"bar\" in aggregation",
        ),
        (
            "sum(1)",
            "1:5: parse error: expected type instant vector in aggregation expression, got scalar",
        ),
        (
            "topk(foo, foo)",
            "1:6: parse error: expected type scalar in aggregation parameter, got instant vector",
        ),
        (
            "1 == 1",
            "1:3: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "foo + bool bar",
            "1:5: parse error: bool modifier can only be used on comparison operators",
        ),
        (
            "1 and 1",
            "1:1: parse error: set operator \"and\" not allowed in binary scalar expression",
        ),
        (
            "foo and on(a) group_left(b) bar",
            "1:1: parse error: no grouping allowed for \"and\" operation",
        ),
        (
            "foo * on(a) group_left(a) bar",
            "1:5: parse error: label \"a\" must not occur in ON and GROUP clause at once",
        ),
        (
            "foo + on(a) 1",
            "1:1: parse error: vector matching only allowed between instant vectors",
        ),
        (
            "foo[5m] + foo",
            "1:1: parse error: binary expression must contain only scalar and instant vector types",
        ),
        (
            "-\"x\"",
            "1:1: parse error: unary expression only allowed on expressions of type scalar or instant vector, got \
             \"string\"",
        ),
        ("1[5m]", "1:2: parse error: ranges only allowed for vector selectors"),
        (
            "foo offset 1m[5m]",
            "1:14: parse error: no offset modifiers allowed before range",
        ),
        (
            "foo[5m][5m]",
            "1:8: parse error: ranges only allowed for vector selectors",
        ),
        ("foo[0]", "1:5: parse error: duration must be greater than 0"),
        ("foo[1s/0]", "1:7: parse error: division by zero"),
        ("foo[5m", "1:7: parse error: unclosed left bracket"),
        ("foo[99999999999y]", "1:5: parse error: duration out of range"),
        ("foo[9223372036.9]", "1:5: parse error: duration out of range"),
        ("foo[1m1h]", "1:5: parse error: not a valid duration string: \"1m1h\""),
        (
            "1m offset 1m",
            concat!(
                "1:1: parse error: offset modifier must be preceded by an instant vector selector or range vector ",
                "selector or a subquery"
            ),
        ),
        (
            "foo offset 1m offset 2m",
            "1:1: parse error: offset may not be set multiple times",
        ),
        (
            "foo @ 1 @ 2",
            "1:1: parse error: @ <timestamp> may not be set multiple times",
        ),
        (
            "foo @ inf",
            "1:1: parse error: timestamp out of bounds for @ modifier: +Inf",
        ),
        (
            "foo @ bar",
            "1:7: parse error: unexpected identifier \"bar\" in @, expected timestamp",
        ),
        (
            "foo[5m] anchored smoothed",
            "1:1: parse error: anchored and smoothed modifiers cannot be used together",
        ),
        (
            "foo[5m:] anchored",
            "1:1: parse error: anchored modifier is not supported for subqueries",
        ),
        (
            "1e999",
            "1:1: parse error: error parsing number: strconv.ParseFloat: parsing \"1e999\": value out of range",
        ),
        ("\"\\q\"", "1:1: parse error: unknown escape sequence U+0071 'q'"),
        (
            "\n\n  1 == 1",
            "3:5: parse error: comparisons between scalars must use BOOL modifier",
        ),
        (
            "info(foo, bar)",
            "1:11: parse error: expected label selectors only, got vector selector instead",
        ),
        (
            "foo{a=~\"(\"}",
            "1:5: parse error: error parsing regexp: missing closing ): `^(?s:()$`",
        ),
    ] {
        assert_eq!(error(text), message, "{text}");
    }
}

#[test]
fn types_settle_matching() {
    let matching = |text: &str| match parse(text).unwrap().kind {
        ExprKind::Binary(b) => b.matching.map(|m| m.cardinality),
        _ => panic!("{text} is no operator"),
    };
    assert_eq!(matching("1 + foo"), None);
    assert_eq!(matching("foo + bar"), Some(Cardinality::OneToOne));
    assert_eq!(matching("foo or bar"), Some(Cardinality::ManyToMany));
    assert_eq!(matching("foo * on(a) group_right bar"), Some(Cardinality::OneToMany));
}

#[test]
fn every_function_has_an_example_of_its_type() {
    for f in functions::FUNCTIONS {
        let expr = parse(f.example).unwrap();
        assert!(
            matches!(&expr.kind, ExprKind::Call { func, .. } if func.name == f.name),
            "{}",
            f.name
        );
        assert_eq!(expr.value_type(), f.returns);
        assert!(f.doc.ends_with('.'), "{}", f.name);
    }
    let names: Vec<_> = functions::FUNCTIONS.iter().map(|f| f.name).collect();
    assert!(names.is_sorted());
}

#[test]
fn deep_and_long_texts_are_refused_before_they_hurt() {
    let nested = |open: &str, close: &str, n: usize| format!("{}foo{}", open.repeat(n), close.repeat(n));
    assert!(parse(&nested("(", ")", 200)).is_ok());
    for text in [
        nested("(", ")", 30_000),
        nested("abs(", ")", 10_000),
        nested("sum(", ")", 10_000),
        nested("-", "", 60_000),
        nested("1^", "", 30_000),
        nested("", "[1s:]", 12_000),
        format!("foo[{}1{}]", "(".repeat(30_000), ")".repeat(30_000)),
        format!("foo[{}1]", "-".repeat(60_000)),
        format!("foo[{}1]", "1^".repeat(30_000)),
        format!("foo[{}1]", "1+".repeat(30_000)),
    ] {
        let message = error(&text);
        assert!(message.contains("nests deeper than 256 levels"), "{message}");
    }
    let flat = |op: &str, n: usize| format!("1{}", format!("{op}foo").repeat(n));
    let chain = parse(&flat(" + ", 1000)).unwrap();
    assert_eq!(parse(&chain.to_string()).unwrap().to_string(), chain.to_string());
    assert!(pretty(&chain).lines().count() > 1000);
    assert!(tree_json(&chain).is_object());
    assert!(error(&flat("+", 10_000)).contains("more than 1024 operators"));
    assert!(error(&" ".repeat(TEXT_BYTES_MAX + 1)).contains("at most 65536"));
}

#[test]
fn long_queries_are_broken_up() {
    let text = "sum by (job, instance) (rate(http_requests_total{code=~\"5..\",job=\"api\"}[5m])) / on (job) \
                group_left () sum by (job) (rate(http_requests_total[5m])) > bool 0.01";
    expect_test::expect![[r#"
            sum by (job, instance) (rate(http_requests_total{code=~"5..",job="api"}[5m]))
          / on (job) group_left ()
            sum by (job) (rate(http_requests_total[5m]))
        > bool
          0.01"#]]
    .assert_eq(&pretty(&parse(text).unwrap()));
}

#[test]
fn trees_as_json() {
    let json = |text: &str| tree_json(&parse(text).unwrap()).to_string();
    expect_test::expect![[r#"{"anchored":false,"matchers":[{"name":"a","type":"=","value":"b"},{"name":"__name__","type":"=","value":"foo"}],"name":"foo","offset":60000,"offsetExpr":null,"range":0,"rangeExpr":{"lhs":{"lhs":null,"op":"step","rhs":null,"type":"durationExpr","wrapped":false},"op":"*","rhs":{"duration":false,"type":"numberLiteral","val":"2"},"type":"durationExpr","wrapped":false},"smoothed":false,"startOrEnd":"end","timestamp":null,"type":"matrixSelector"}"#]]
    .assert_eq(&json("foo{a=\"b\"}[step()*2] @ end() offset 1m"));
    expect_test::expect![[r#"{"bool":false,"lhs":{"type":"numberLiteral","val":"300"},"matching":null,"op":"+","rhs":{"expr":{"expr":{"args":[],"func":{"argTypes":[],"name":"pi","returnType":"scalar","variadic":0},"type":"call"},"type":"parenExpr"},"op":"-","type":"unaryExpr"},"type":"binaryExpr"}"#]]
    .assert_eq(&json("5m + -(pi())"));
}

#[test]
fn matchers_alone() {
    let names = |text: &str| parse_matchers(text).map(|m| m.iter().map(|m| m.name.clone()).collect::<Vec<_>>());
    assert_eq!(names("up{job=\"a\"}"), Ok(vec!["job".into(), "__name__".into()]));
    assert_eq!(names("{}"), Ok(vec![]));
    assert!(names("up offset 5m").is_err());
    assert!(names("rate(up[5m])").is_err());
}

/// Any query text that parses; what is generated is the text's parts, so that precedence is the parser's.
fn query() -> impl Strategy<Value = String> {
    let selector = prop_oneof![
        Just("foo".to_owned()),
        Just("{\"a.b\",x!~\"y|z\"}".to_owned()),
        Just("foo{a=\"\\n\\\"\"}".to_owned()),
        Just("foo offset -5m".to_owned()),
        Just("foo @ 3.5 offset (step() / 2)".to_owned()),
        Just("foo smoothed @ start()".to_owned()),
    ];
    let scalar = prop_oneof![
        (-1000i32..1000).prop_map(|n| (f64::from(n) / 8.0).to_string()),
        Just("5m".to_owned()),
        Just("Inf".to_owned()),
        Just("pi()".to_owned()),
    ];
    let leaf = prop_oneof![3 => selector, 1 => scalar.prop_map(|s| format!("vector({s})"))];
    leaf.prop_recursive(6, 40, 3, |inner| {
        let op = prop_oneof![
            Just("+"),
            Just("-"),
            Just("*"),
            Just("/"),
            Just("%"),
            Just("^"),
            Just("atan2"),
            Just("=="),
            Just("!="),
            Just("<"),
            Just(">= bool"),
            Just("</"),
            Just(">/"),
            Just("and"),
            Just("or"),
            Just("unless"),
            Just("* on(a) group_left(b)"),
            Just("- ignoring(c) fill(1)"),
            Just("+ fill_left(2) fill_right(3)"),
        ];
        let wrap = prop_oneof![
            Just("("),
            Just("-("),
            Just("+"),
            Just("abs("),
            Just("sum by (a, \"b c\") ("),
            Just("topk(2, "),
            Just("count_values without () (\"x\", "),
            Just("sort("),
        ];
        prop_oneof![
            3 => (inner.clone(), op, inner.clone()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            2 => (wrap, inner.clone()).prop_map(|(open, e)| {
                format!("{open}{e}{}", if open.ends_with(['(', ' ']) { ")" } else { "" })
            }),
            1 => inner.clone().prop_map(|e| format!("rate(({e})[5m:min_of(1m, step())] offset 1d)")),
            1 => inner.prop_map(|e| format!("quantile_over_time(0.5, sum({e})[range() ^ 2:])")),
        ]
    })
}

/// The tree's places taken away: they are the text's.
fn placeless(expr: &Expr) -> String {
    let text = format!("{expr:?}");
    let places = regex::Regex::new(r"Pos \{ start: \d+, end: \d+ \}").unwrap();
    places.replace_all(&text, "_").into_owned()
}

proptest! {
    #[test]
    fn any_text_is_a_query_or_an_error(text in "\\PC{0,60}") {
        let _ = parse(&text);
    }

    #[test]
    fn any_words_are_a_query_or_an_error(words in proptest::collection::vec(
        proptest::sample::select(vec![
            "foo", "sum", "by", "(", ")", "[", "]", "{", "}", ",", "5m", "1", "offset", "@", "start", "()", "-", "^",
            "\"x\"", "=", "=~", "bool", "on", "group_left", "fill", "step()", "max_of", ":", "rate", "anchored", "#",
            "\n", "'", "\\", "0x", "1e", "</", "info", "é", "\u{fffd}",
        ]), 0..30), spaced: bool)
    {
        let text = words.join(if spaced { " " } else { "" });
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            prop_assert_eq!(parse(&printed).map(|e| e.to_string()), Ok(printed));
        }
    }

    #[test]
    fn printing_keeps_the_tree(text in query()) {
        // what does not type-check (an operator between odd operands) is no matter here
        if let Ok(expr) = parse(&text) {
            let printed = expr.to_string();
            let again = parse(&printed).unwrap();
            prop_assert_eq!(placeless(&again), placeless(&expr));
            let formatted = pretty(&expr);
            prop_assert_eq!(parse(&formatted).unwrap().to_string(), printed);
        }
    }
}
