use super::*;

fn matches(pattern: &str, text: &str) -> bool {
    Pattern::anchored(pattern)
        .unwrap_or_else(|e| panic!("{pattern}: {e}"))
        .is_match(text)
}

#[test]
fn speaks_re2() {
    for (pattern, yes, no) in [
        (r"\d+", "12", "1٣"),
        (r"\w+", "aZ_9", "é"),
        (r"\W", "é", "a"),
        (r"\s", "\t", "\u{a0}"),
        (r"\s", " ", "\u{b}"),
        (r"[[:space:]]", "\u{b}", "x"),
        (r"[^\D]", "1", "a"),
        (r"[[:^digit:]]", "a", "1"),
        (r"[a&&b]+", "a&b", "c"),
        (r"[+--b]", ",", "c"),
        (r"[a~~b]+", "~", "c"),
        (r"[[a]+", "[a", "]"),
        (r"[]a]+", "]a", "["),
        (r"[^]a]", "[", "]"),
        (r"[a-]+", "-a", "b"),
        (r"[\]\-]+", "]-", "\\"),
        (r"\Qa.b*\E+", "a.b**", "a.b"),
        (r"\Aab\z", "ab", "b"),
        (r"a{,2}", "a{,2}", "aa"),
        (r"a{01}", "a{01}", "a"),
        (r"a{2}{", "aa{", "aa"),
        (r"a{2,}", "aaa", "a"),
        (r"\<a\>", "<a>", "a"),
        (r"(?P<n>a)(?<m>b)", "ab", "a"),
        (r"(?P<1>a)(?P<1>b)", "ab", "a"),
        (r"(?i)ab(?-i)c", "ABc", "abC"),
        (r"(?i:k)", "\u{212a}", "x"),
        (r"(?iU)A+", "aa", "b"),
        (r"(?)a", "a", "b"),
        (r"(?m)a$\n^b", "a\nb", "ab"),
        (r"a.b", "a\nb", "ab"),
        (r"(?-s:a.b)", "axb", "a\nb"),
        (r"a(?i)*B", "aab", "Ab"),
        (r"\x41\x{1F600}\101\07", "A\u{1f600}A\u{7}", "A"),
        (r"[\x{d800}-\x{e001}]", "\u{e000}", "a"),
        (r"[\x{d800}]|a", "a", "b"),
        (r"\x{d800}|a", "a", "b"),
        (r"\pN\p{Greek}\P{^L}\p{^L}", "1αa1", "aαa1"),
        (r"\_\-\/\ \%", "_-/ %", ""),
        (r"a|", "", "b"),
        (r"", "", "a"),
        (r"()a(|b)", "ab", "b"),
        (r"x]y}", "x]y}", "x"),
        (r"^*a$+", "a", "b"),
        (r"a#b c", "a#b c", "ab"),
        (r"a)|(b", "b", "c"),
    ] {
        assert!(matches(pattern, yes), "{pattern} should match {yes:?}");
        assert!(!matches(pattern, no), "{pattern} should not match {no:?}");
    }
}

#[test]
fn boundaries_of_words_are_ascii() {
    let p = Pattern::new(r"a\bé").unwrap();
    assert!(p.is_match("aé"));
    let p = Pattern::new(r"é\Bü").unwrap();
    assert!(p.is_match("éü"));
}

#[test]
fn refuses_in_the_words_of_go() {
    for (pattern, want) in [
        ("(a", "missing closing ): `(a`"),
        ("a)", "unexpected ): `a)`"),
        ("[a", "missing closing ]: `[a`"),
        ("x[", "missing closing ]: `[`"),
        ("[^]a", "missing closing ]: `[^]a`"),
        ("*a", "missing argument to repetition operator: `*`"),
        ("a|*?", "missing argument to repetition operator: `*?`"),
        ("(?i)*", "missing argument to repetition operator: `*`"),
        ("a**", "invalid nested repetition operator: `**`"),
        ("a{2}{3}b", "invalid nested repetition operator: `{2}{3}`"),
        ("a+?*", "invalid nested repetition operator: `+?*`"),
        ("a{1001}", "invalid repeat count: `{1001}`"),
        ("a{2,1}", "invalid repeat count: `{2,1}`"),
        ("a{1,99999999999}", "invalid repeat count: `{1,99999999999}`"),
        ("((a{100}){100}){100}", "invalid repeat count: `{100}`"),
        ("(a{2}|b){501}", "invalid repeat count: `{501}`"),
        ("[z-a]", "invalid character class range: `z-a`"),
        ("[[:foo:]]", "invalid character class range: `[:foo:]`"),
        (r"\p{Nope}", r"invalid character class range: `\p{Nope}`"),
        (r"\p{Greek", r"invalid character class range: `\p{Greek`"),
        (r"[a-\d]", r"invalid escape sequence: `\d`"),
        (r"\C", r"invalid escape sequence: `\C`"),
        (r"\Z", r"invalid escape sequence: `\Z`"),
        (r"\8", r"invalid escape sequence: `\8`"),
        (r"a\1", r"invalid escape sequence: `\1`"),
        (r"\q", r"invalid escape sequence: `\q`"),
        (r"\x{110000}", r"invalid escape sequence: `\x{110000`"),
        (r"a\", "trailing backslash at end of expression: ``"),
        ("(?=a)", "invalid or unsupported Perl syntax: `(?=`"),
        ("(?x)a", "invalid or unsupported Perl syntax: `(?x`"),
        ("(?i-)a", "invalid or unsupported Perl syntax: `(?i-)`"),
        ("(?P<n", "invalid named capture: `(?P<n`"),
        ("(?P<a b>c)", "invalid named capture: `(?P<a b>`"),
        ("(?<=a)", "invalid named capture: `(?<=a)`"),
    ] {
        let e = Pattern::new(pattern).unwrap_err();
        assert_eq!(e.to_string(), format!("error parsing regexp: {want}"));
    }
    let e = Pattern::anchored("(a").unwrap_err();
    assert_eq!(e.to_string(), "error parsing regexp: missing closing ): `^(?s:(a)$`");
    let deep = "(".repeat(5000) + &")".repeat(5000);
    assert_eq!(Pattern::new(&deep).unwrap_err().what, "expression nests too deeply");
    let large = r"(\pL\pM\pS\pN\pP){1000}";
    assert_eq!(Pattern::new(large).unwrap_err().what, "expression too large");
}

#[test]
fn groups_keep_numbers_and_names() {
    let p = Pattern::new("(a)(?:b)(?P<n>c)|(?P<n>d)").unwrap();
    assert_eq!(p.groups("n").collect::<Vec<_>>(), [2, 3]);
    assert_eq!(p.groups("m").count(), 0);
    assert_eq!(&p.regex().captures("abc").unwrap()[2], "c");
}

proptest::proptest! {
    #![proptest_config(proptest::prelude::ProptestConfig::with_cases(2000))]

    #[test]
    fn no_text_panics(text in ".{0,20}") {
        let _ = Pattern::anchored(&text);
    }

    /// What passes the translation compiles: nothing is left to the other dialect.
    #[test]
    fn syntax_is_refused_here_or_compiles(parts in proptest::collection::vec(proptest::sample::select(vec![
        "a", "b", "é", "-", "&&", "--", "~~", "^", "$", ".", "*", "+", "?", "|", "(", ")", "[", "]", "{", "}", ",", "2",
        "{2}", "{,3}", "{1,}", "\\", "\\d", "\\W", "\\b", "\\B", "\\Q", "\\E", "\\A", "\\z", "\\x{e9}", "\\x{d800}",
        "\\pL", "\\p{^Greek}", "(?i)", "(?s-m:", "(?P<n>", "(?<x>", "(?U)", "[:alpha:]", "[^", "\\<", "\\C", "\\0", "#",
        " ", "_", ":", "/",
    ]), 0..14)) {
        let text = parts.concat();
        if let Err(e) = Pattern::anchored(&text) {
            proptest::prop_assert!(e.what != "invalid expression", "{text}: {:?}", translate(&text));
        }
    }

    #[test]
    fn quoted_text_matches_itself(text in "[^\\\\]{0,12}") {
        let p = Pattern::anchored(&format!("\\Q{text}\\E")).unwrap();
        proptest::prop_assert!(p.is_match(&text));
    }
}
