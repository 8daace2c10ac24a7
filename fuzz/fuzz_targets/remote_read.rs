//! Requests of remote read: read or refused, within the stated bounds.
#![no_main]
use libfuzzer_sys::fuzz_target;
use wire::remote_read::{MATCHERS_MAX, QUERIES_MAX, decode};

fuzz_target!(|data: &[u8]| {
    if let Ok(request) = decode(data) {
        assert!(request.queries.len() <= QUERIES_MAX);
        let matchers = request.queries.iter().flat_map(|q| &q.matchers);
        assert!(matchers.clone().count() <= MATCHERS_MAX);
        for m in matchers {
            let _ = m.matches("") && m.matches("api");
        }
    }
});
