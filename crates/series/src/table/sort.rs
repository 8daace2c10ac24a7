//! Sorting many series by their labels, place by place: of the pairs at a place each is compared once, not once for every
//! series that has it.

use std::sync::RwLock;

use hashbrown::HashMap;
use model::SeriesId;

use super::index::Index;
use super::{SLICE, read};

/// The pair of a series that has none at a place: such a series comes first.
const NONE: u32 = u32::MAX;

/// Sorts ids by their labels' canonical bytes; the lock is held for a slice at a time.
pub(super) fn by_labels(index: &RwLock<Index>, ids: &mut [SeriesId]) {
    // stretches of series that are equal up to the place
    let mut equal = vec![(0, ids.len())];
    let mut keyed: Vec<(u64, SeriesId)> = Vec::new();
    let mut place = 0;
    while !equal.is_empty() {
        let mut ranks: HashMap<u32, u32> = HashMap::new();
        keyed.clear();
        for (stretch, &(from, to)) in (0u64..).zip(&equal) {
            for slice in ids[from..to].chunks(SLICE) {
                let index = read(index);
                keyed.extend(slice.iter().map(|&id| {
                    let pair = index.pairs_of(id).get(place).copied().unwrap_or(NONE);
                    ranks.entry(pair).or_default();
                    (stretch << 32 | u64::from(pair), id)
                }));
            }
        }
        rank(index, &mut ranks);
        for (key, _) in &mut keyed {
            let rank = ranks.get(&(*key as u32)).copied().unwrap_or_default();
            *key = *key >> 32 << 32 | u64::from(rank);
        }
        if ranks.len() > 1 {
            keyed.sort_unstable_by_key(|k| k.0);
        }
        let mut at = 0;
        let mut next = Vec::new();
        for &(from, to) in &equal {
            let sorted = &keyed[at..at + to - from];
            at += to - from;
            for (to, from) in ids[from..to].iter_mut().zip(sorted) {
                *to = from.1;
            }
            let mut start = from;
            for same in sorted.chunk_by(|a, b| a.0 == b.0) {
                // those without a pair here have none further on: they are equal
                if same.len() > 1 && same[0].0 as u32 > 0 {
                    next.push((start, start + same.len()));
                }
                start += same.len();
            }
        }
        equal = next;
        place += 1;
    }
}

/// Numbers these pairs by the order of their bytes, from 1 on; 0 stands for none.
fn rank(index: &RwLock<Index>, ranks: &mut HashMap<u32, u32>) {
    let mut pairs: Vec<u32> = ranks.keys().copied().filter(|&p| p != NONE).collect();
    if pairs.len() > 1 {
        let mut texts: Vec<u8> = Vec::new();
        // the bytes that most often tell two pairs apart, the pair, and where its text is
        let mut keyed: Vec<(u64, u32, usize, usize)> = Vec::with_capacity(pairs.len());
        for slice in pairs.chunks(SLICE) {
            let index = read(index);
            for &pair in slice {
                let from = texts.len();
                texts.extend_from_slice(index.text_of(pair));
                keyed.push((0, pair, from, texts.len()));
            }
        }
        let text = |of: &(u64, u32, usize, usize)| &texts[of.2..of.3];
        let first = text(&keyed[0]).to_vec();
        let shared = keyed.iter().fold(first.len(), |shared, of| {
            let same = first[..shared].iter().zip(text(of)).take_while(|(a, b)| a == b);
            same.count()
        });
        for of in &mut keyed {
            let mut word = [0; 8];
            for (to, from) in word.iter_mut().zip(&texts[of.2 + shared..of.3]) {
                *to = *from;
            }
            of.0 = u64::from_be_bytes(word);
        }
        keyed.sort_unstable_by(|a, b| a.0.cmp(&b.0).then_with(|| text(a).cmp(text(b))));
        pairs.clear();
        pairs.extend(keyed.iter().map(|of| of.1));
    }
    for (rank, pair) in (1..).zip(pairs) {
        ranks.insert(pair, rank);
    }
}
