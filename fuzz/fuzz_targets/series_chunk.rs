//! Chunk decoders on any bytes; and what is encoded reads back bit by bit.
#![no_main]
use libfuzzer_sys::fuzz_target;
use series::chunk;

fuzz_target!(|data: &[u8]| {
    let (mut at_ms, mut values) = (Vec::new(), Vec::new());
    let _ = chunk::decode_floats(data, &mut at_ms, &mut values);
    let (mut at_ms, mut histograms) = (Vec::new(), Vec::new());
    let _ = chunk::decode_histograms(data, &mut at_ms, &mut histograms);

    let (mut at_ms, mut values, mut last) = (Vec::new(), Vec::new(), 0i64);
    for pair in data.chunks_exact(10).take(2048) {
        let step = i64::from(u16::from_le_bytes([pair[0], pair[1]])) + 1;
        last += step;
        at_ms.push(last);
        values.push(f64::from_bits(u64::from_le_bytes(
            pair[2..].try_into().unwrap_or_default(),
        )));
    }
    if values.is_empty() {
        return;
    }
    let mut bytes = Vec::new();
    chunk::encode_floats(&at_ms, &values, None, &mut bytes);
    let (mut at_back, mut values_back) = (Vec::new(), Vec::new());
    chunk::decode_floats(&bytes, &mut at_back, &mut values_back).expect("what was encoded decodes");
    assert_eq!(at_back, at_ms);
    assert!(values_back.iter().zip(&values).all(|(a, b)| a.to_bits() == b.to_bits()));
    assert_eq!(values_back.len(), values.len());
});
