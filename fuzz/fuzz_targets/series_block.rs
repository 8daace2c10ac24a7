//! Readers of a block's frames and groups, of index pages and of manifests on any bytes.
#![no_main]
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    series::verify::try_bytes(data);
});
