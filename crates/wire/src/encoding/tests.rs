use std::io::Write;

use proptest::prelude::*;

use super::*;
use crate::DecodeErrorKind;

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut e = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    e.write_all(bytes).unwrap();
    e.finish().unwrap()
}

fn compress(encoding: Encoding, bytes: &[u8]) -> Vec<u8> {
    match encoding {
        Encoding::Identity => bytes.to_vec(),
        Encoding::Snappy => snap::raw::Encoder::new().compress_vec(bytes).unwrap(),
        Encoding::Gzip => gzip(bytes),
        Encoding::Deflate => {
            let mut e = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::fast());
            e.write_all(bytes).unwrap();
            e.finish().unwrap()
        }
        Encoding::Zstd => zstd::stream::encode_all(bytes, 1).unwrap(),
    }
}

#[test]
fn bombs_are_refused_before_the_memory_is_taken() {
    let zeros = vec![0; 64 << 20];
    let limit = 1 << 20;
    for encoding in Encoding::ALL {
        let bomb = compress(encoding, &zeros);
        let mut buffer = Vec::new();
        let e = decompress(encoding, &bomb, limit, &mut buffer).unwrap_err();
        assert_eq!(e.kind, DecodeErrorKind::TooLarge, "{encoding:?}: {e}");
        assert!(buffer.capacity() <= 4 * limit, "{encoding:?}: {}", buffer.capacity());
    }
}

#[test]
fn claimed_lengths_cost_nothing() {
    let small = compress(Encoding::Snappy, b"hello");
    for claim in [u64::from(u32::MAX), 1 << 30, 1 << 63, u64::MAX] {
        let mut lie = crate::proto::Writer::default();
        lie.raw_varint(claim);
        lie.out.extend_from_slice(&small[1..]);
        for limit in [1 << 20, usize::MAX] {
            let mut buffer = Vec::new();
            assert!(decompress(Encoding::Snappy, &lie.out, limit, &mut buffer).is_err());
            assert_eq!(buffer.capacity(), 0);
        }
    }
}

#[test]
fn a_body_that_just_fits_is_taken() {
    let body = vec![7; 100_000];
    for encoding in Encoding::ALL {
        let packed = compress(encoding, &body);
        let mut buffer = Vec::new();
        assert_eq!(decompress(encoding, &packed, 100_000, &mut buffer).unwrap(), body);
        assert!(
            decompress(encoding, &packed, 99_999, &mut buffer).is_err(),
            "{encoding:?}"
        );
        if encoding != Encoding::Identity {
            let cut = &packed[..packed.len() - 3];
            assert!(decompress(encoding, cut, 100_000, &mut buffer).is_err(), "{encoding:?}");
            assert!(decompress(encoding, b"plain text, not packed", 100_000, &mut buffer).is_err());
        }
    }
}

#[test]
fn names() {
    assert_eq!(Encoding::parse(" GZIP ").unwrap(), Encoding::Gzip);
    assert_eq!(Encoding::parse("").unwrap(), Encoding::Identity);
    assert_eq!(Encoding::parse("br").unwrap_err().kind, DecodeErrorKind::Unsupported);
}

proptest! {
    #[test]
    fn round_trip(body: Vec<u8>, junk in 0..64usize) {
        for encoding in Encoding::ALL {
            let mut buffer = vec![1; junk];
            let packed = compress(encoding, &body);
            prop_assert_eq!(decompress(encoding, &packed, 1 << 20, &mut buffer).unwrap(), &body[..]);
        }
    }

    #[test]
    fn any_bytes_are_survived(body: Vec<u8>) {
        for encoding in Encoding::ALL {
            let _ = decompress(encoding, &body, 1 << 16, &mut Vec::new());
        }
    }
}
