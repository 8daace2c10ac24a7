use model::{Labels, MatchOp};
use proptest::prelude::*;

use super::*;
use crate::block::pack;

fn sets() -> impl Strategy<Value = Vec<(u32, Labels)>> {
    let labels = prop::collection::btree_map("[A-Za-z_]{1,3}", "[a-c]{1,2}|.{130,140}", 1..5);
    prop::collection::vec((0..3u32, labels.prop_map(|m| Labels::from_pairs(m.iter()))), 0..40)
}

/// Values and expressions of all kinds.
fn values() -> impl Strategy<Value = String> {
    let expressions = ["a|b", "ab|c|", "a.*", ".+b", ".*a.*", "[ab]", ".*", ".+", "(a|b)c?"].map(String::from);
    prop_oneof!["[a-c]{0,2}", proptest::sample::select(expressions.to_vec())]
}

proptest! {
    #[test]
    fn sets_come_back_in_order_and_match(
        sets in sets(),
        name in "[A-Za-z_]{1,2}",
        value in values(),
        other in "[A-Za-z_]{1,2}",
        another in values(),
    ) {
        let mut builder = IndexBuilder::default();
        for (tenant, labels) in &sets {
            builder.add(TenantId(*tenant), labels.as_bytes()).unwrap();
        }
        let sorted = builder.sort();
        let index = Index::decode(&pack(&sorted.encode(&sorted.order)).unwrap()).unwrap();
        let mut expected: Vec<_> = sets.into_iter().map(|(t, l)| (TenantId(t), l)).collect();
        expected.sort();
        expected.dedup();
        let found: Vec<_> = (0..index.len()).map(|n| (index.tenant_of(n).unwrap(), index.labels(n))).collect();
        prop_assert_eq!(&found, &expected);
        for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
            let m = [Matcher::new(&name, op, &value).unwrap()];
            let wanted: Vec<u32> = expected
                .iter()
                .enumerate()
                .filter(|(_, (t, l))| t.0 == 1 && m[0].matches(l.get(&name).unwrap_or("")))
                .map(|(i, _)| i as u32)
                .collect();
            prop_assert_eq!(index.select(TenantId(1), &m), &wanted[..]);
            for op in [MatchOp::Equal, MatchOp::NotEqual, MatchOp::Regex, MatchOp::NotRegex] {
                let both = [m[0].clone(), Matcher::new(&other, op, &another).unwrap()];
                let second = |n: &u32| both[1].matches(expected[*n as usize].1.get(&other).unwrap_or(""));
                let wanted: Vec<u32> = wanted.iter().copied().filter(second).collect();
                prop_assert_eq!(index.select(TenantId(1), &both), wanted);
            }
        }
    }

    #[test]
    fn any_bytes_are_an_index_or_an_error(bytes: Vec<u8>, cut in 0..200usize, flip in 0..200usize) {
        let _ = Index::decode(&bytes);
        let mut builder = IndexBuilder::default();
        for n in 0..20 {
            let labels = Labels::from_pairs([("__name__", format!("m{}", n % 2)), ("a", n.to_string())]);
            builder.add(TenantId(1), labels.as_bytes()).unwrap();
        }
        let sorted = builder.sort();
        let raw = sorted.encode(&sorted.order);
        let mut raw = raw[..raw.len() - cut.min(raw.len())].to_vec();
        if let Some(b) = raw.get_mut(flip) {
            *b ^= 1 << (cut % 8);
        }
        if let Ok(index) = Index::decode(&pack(&raw).unwrap()) {
            for n in 0..index.len().min(100) {
                index.labels(n);
            }
            index.select(TenantId(1), &[Matcher::equal("a", "3")]);
        }
    }
}
