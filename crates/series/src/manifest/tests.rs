use super::*;
use crate::block::Section;

fn footer(id: u64, replaces: &[u64], part: u32, last_part: bool) -> Footer {
    Footer {
        id,
        head: 512,
        content: 77,
        level: 0,
        covers: Covers { from: id, to: id + 1 },
        cut_to: 0,
        replaces: replaces.to_vec(),
        part,
        last_part,
        min_ms: -5,
        max_ms: 5,
        day: 0,
        window: 1,
        window_len: 2,
        series: 1,
        samples: 3,
        chunks: 1,
        groups: 1,
        directory: Section::default(),
        index: Section::default(),
        exemplars: Section::default(),
        metadata: Section::default(),
        tombstones: Vec::new(),
        rolled: None,
    }
}

#[test]
fn a_state_comes_back_and_no_bit_may_differ() {
    comes_back(Vec::new());
    let rolled = RolledFrom {
        resolution: 3_600_000,
        sources: vec![2, 4],
    };
    let f = Footer {
        rolled: Some(rolled.clone()),
        ..footer(9, &[1, 2], 1, false)
    };
    assert_eq!(Footer::decode(&f.encode()).unwrap(), f);
    comes_back(vec![RollupEntry {
        block: Entry::of(&f, 5),
        from: rolled,
        alone: true,
    }]);
}

fn comes_back(rollups: Vec<RollupEntry>) {
    let state = State {
        generation: 7,
        epoch: 2,
        applied: 99,
        next_block: 5,
        next_window: 3,
        expiry_ms: 1_700_000_000_000,
        blocks: vec![Entry::of(&footer(4, &[], 0, true), 77)],
        tombstones: vec![Tombstone {
            position: 98,
            tenant: model::TenantId(1),
            matchers: vec![model::Matcher::new("a", model::MatchOp::Regex, "b.*").unwrap()],
            range: TimeRange::new(-1, 1),
        }],
        rollups,
    };
    let bytes = state.encode(1);
    assert_eq!(State::decode(1, &bytes).unwrap(), state);
    assert!(State::decode(2, &bytes).is_err(), "of another data set");
    for i in 0..bytes.len() * 8 {
        let mut bytes = bytes.clone();
        bytes[i / 8] ^= 1 << (i % 8);
        assert!(State::decode(1, &bytes).is_err());
        assert!(State::decode(1, &bytes[..i / 8]).is_err());
    }
    let f = footer(9, &[1, 2], 1, false);
    assert_eq!(Footer::decode(&f.encode()).unwrap(), f);
}

#[test]
fn footers_tell_what_is_alive() {
    let live = |f: &[Footer]| {
        let mut ids = rebuild(f, &[]).0;
        ids.sort_unstable();
        ids
    };
    let (a, b) = (footer(1, &[], 0, true), footer(2, &[], 0, true));
    let (first, last) = (footer(3, &[1, 2], 0, false), footer(4, &[1, 2], 1, true));
    assert_eq!(live(&[a.clone(), b.clone()]), [1, 2]);
    // not all parts were written: the sources stand
    assert_eq!(live(&[a.clone(), b.clone(), first.clone()]), [1, 2]);
    // all parts: the sources may be unlinked or not
    assert_eq!(live(&[a.clone(), b, first.clone(), last.clone()]), [3, 4]);
    assert_eq!(live(&[a, first, last.clone()]), [3, 4]);
    // one part was merged further
    assert_eq!(live(&[last, footer(5, &[3], 0, true)]), [4, 5]);
}
