//! Snappy, gzip, deflate and zstd bodies: within the limit or refused, whatever they claim.
#![no_main]
use libfuzzer_sys::fuzz_target;

const LIMIT: usize = 1 << 16;

fuzz_target!(|data: &[u8]| {
    let Some((which, body)) = data.split_first() else {
        return;
    };
    let encoding = wire::Encoding::ALL[usize::from(*which) % wire::Encoding::ALL.len()];
    let mut buffer = Vec::new();
    if let Ok(plain) = wire::decompress(encoding, body, LIMIT, &mut buffer) {
        assert!(plain.len() <= LIMIT);
    }
    assert!(buffer.capacity() <= 4 * LIMIT);
});
