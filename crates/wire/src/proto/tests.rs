use proptest::prelude::*;

use super::*;

#[test]
fn lengths_beyond_the_message_are_refused() {
    let mut w = Writer::default();
    w.raw_varint(1 << 3 | 2);
    w.raw_varint(1 << 62);
    let mut r = Reader::new(&w.out);
    r.tag().unwrap();
    let e = r.bytes().unwrap_err();
    assert_eq!(e.offset, Some(10));
    assert!(Reader::new(&[0xff; 11]).varint().is_err());
    assert!(Reader::new(&[0x80]).varint().is_err());
    assert!(Reader::new(&[0]).tag().is_err());
}

#[test]
fn groups_are_passed_over_to_a_depth() {
    let nested = |n: usize| [b"\x0b".repeat(n), b"\x0c".repeat(n)].concat();
    let skip = |bytes: &[u8]| {
        let mut r = Reader::new(bytes);
        let tag = r.tag().unwrap().unwrap();
        r.skip(tag).map(|()| r.is_empty())
    };
    assert_eq!(skip(&nested(32)), Ok(true));
    assert!(skip(&nested(33)).is_err());
    assert!(skip(b"\x0b\x14").is_err());
    assert!(skip(b"\x0b").is_err());
    assert!(skip(b"\x0c").is_err());
}

proptest! {
    #[test]
    fn round_trip(n: u64, signed: i64, f in any::<u64>(), bytes: Vec<u8>, field in 1..0x1fff_ffffu32) {
        let mut w = Writer::default();
        w.varint(field, n);
        w.zigzag(field, signed);
        w.fixed64(field, f);
        w.fixed32(field, n as u32);
        w.message(field, |w| w.bytes(field, &bytes));
        let mut r = Reader::new(&w.out);
        let wire = |r: &mut Reader<'_>| r.tag().unwrap().filter(|t| t.field == field).map(|t| t.wire);
        prop_assert_eq!(wire(&mut r), Some(Wire::Varint));
        prop_assert_eq!(r.varint().unwrap(), n);
        prop_assert_eq!(wire(&mut r), Some(Wire::Varint));
        prop_assert_eq!(r.zigzag().unwrap(), signed);
        prop_assert_eq!(wire(&mut r), Some(Wire::Fixed64));
        prop_assert_eq!(r.fixed64().unwrap(), f);
        prop_assert_eq!(wire(&mut r), Some(Wire::Fixed32));
        prop_assert_eq!(r.fixed32().unwrap(), n as u32);
        prop_assert_eq!(wire(&mut r), Some(Wire::Bytes));
        let mut inner = r.nested().unwrap();
        prop_assert_eq!(wire(&mut inner), Some(Wire::Bytes));
        prop_assert_eq!(inner.bytes().unwrap(), &bytes[..]);
        prop_assert_eq!(inner.offset(), w.out.len());
        prop_assert!(r.is_empty());
    }
}
