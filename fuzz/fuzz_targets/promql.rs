//! The PromQL parser: never panics, and what it prints of a query reads back as the same query.
#![no_main]
use libfuzzer_sys::fuzz_target;
use query::promql;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(expr) = promql::parse(text) {
        let printed = expr.to_string();
        let again = promql::parse(&printed).expect("what is printed reads back");
        assert_eq!(again.to_string(), printed);
        let _ = promql::pretty(&expr);
    }
});
