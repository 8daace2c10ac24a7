//! Order and identity of label sets without texts of their own: comparing, numbering, sorting.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};

use model::{Budget, Labels, METRIC_NAME};

use super::super::ast::Matching;
use super::Result;
use super::matrix::Charge;

/// Comparisons between two looks at the budget.
const CHECK_EVERY: usize = 4096;

/// A pair of a label set's canonical bytes.
struct Pair<'l> {
    name: &'l [u8],
    value: &'l [u8],
    whole: &'l [u8],
}

fn length(bytes: &[u8]) -> Option<(usize, &[u8])> {
    let (mut n, mut shift) = (0usize, 0);
    for (i, &b) in bytes.iter().enumerate().take(5) {
        n |= usize::from(b & 0x7f) << shift;
        if b < 0x80 {
            return Some((n, &bytes[i + 1..]));
        }
        shift += 7;
    }
    None
}

fn pair<'l>(rest: &mut &'l [u8]) -> Option<Pair<'l>> {
    let all = *rest;
    let (n, tail) = length(all)?;
    let (name, tail) = tail.split_at_checked(n)?;
    let (n, tail) = length(tail)?;
    let (value, tail) = tail.split_at_checked(n)?;
    *rest = tail;
    Some(Pair {
        name,
        value,
        whole: &all[..all.len() - tail.len()],
    })
}

/// Prometheus' order of label sets: pair by pair, name before value.
pub(super) fn compare_labels(a: &Labels, b: &Labels) -> Ordering {
    let (mut a, mut b) = (a.as_bytes(), b.as_bytes());
    loop {
        match (pair(&mut a), pair(&mut b)) {
            (None, None) => return Ordering::Equal,
            (None, Some(_)) => return Ordering::Less,
            (Some(_), None) => return Ordering::Greater,
            (Some(x), Some(y)) if x.whole == y.whole => {}
            (Some(x), Some(y)) => return x.name.cmp(y.name).then_with(|| x.value.cmp(y.value)),
        }
    }
}

/// Numbers byte strings in order of appearance; whoever asks keeps them.
pub(super) struct Table<'a> {
    state: RandomState,
    /// Open addressing: numbers, or `FREE`.
    slots: Vec<u32>,
    hashes: Vec<u64>,
    charge: Charge<'a>,
}

const FREE: u32 = u32::MAX;

impl<'a> Table<'a> {
    pub(super) fn new(budget: &'a Budget) -> Self {
        Table {
            state: RandomState::new(),
            slots: Vec::new(),
            hashes: Vec::new(),
            charge: Charge::new(budget),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Its number, or where its number would be.
    fn slot(&self, hash: u64, mut is: impl FnMut(usize) -> bool) -> Result<usize, usize> {
        let mask = self.slots.len().wrapping_sub(1);
        let mut at = hash as usize & mask;
        loop {
            match self.slots.get(at) {
                None | Some(&FREE) => return Err(at),
                Some(&number) => {
                    let number = number as usize;
                    if self.hashes[number] == hash && is(number) {
                        return Ok(number);
                    }
                }
            }
            at = (at + 1) & mask;
        }
    }

    fn find(&self, bytes: &[u8], is: impl FnMut(usize) -> bool) -> Option<usize> {
        match self.slots.is_empty() {
            true => None,
            false => self.slot(self.state.hash_one(bytes), is).ok(),
        }
    }

    /// The number of these bytes, a new one when they are new; `is` tells whether a number is theirs.
    pub(super) fn number(&mut self, bytes: &[u8], is: impl FnMut(usize) -> bool) -> Result<usize> {
        if self.hashes.len() * 2 >= self.slots.len() {
            self.grow()?;
        }
        let hash = self.state.hash_one(bytes);
        match self.slot(hash, is) {
            Ok(number) => Ok(number),
            Err(at) => {
                self.slots[at] = self.hashes.len() as u32;
                self.hashes.push(hash);
                Ok(self.hashes.len() - 1)
            }
        }
    }

    fn grow(&mut self) -> Result<()> {
        let slots = (self.slots.len() * 2).max(64);
        self.charge.add((slots - self.slots.len()) * (4 + 8))?;
        self.slots.clear();
        self.slots.resize(slots, FREE);
        for (number, &hash) in self.hashes.iter().enumerate() {
            let mut at = hash as usize & (slots - 1);
            while self.slots[at] != FREE {
                at = (at + 1) & (slots - 1);
            }
            self.slots[at] = number as u32;
        }
        Ok(())
    }
}

/// Numbers the signatures of a vector matching in order of appearance.
pub(super) struct Signatures<'a> {
    on: bool,
    names: &'a [String],
    table: Table<'a>,
    /// Of each signature: the first label set that has it, whose bytes its row is charged for.
    first: Vec<Labels>,
    /// What is compared of the label set at hand, and of another.
    these: Vec<u8>,
    others: Vec<u8>,
}

impl<'a> Signatures<'a> {
    pub(super) fn new(matching: &'a Matching, budget: &'a Budget) -> Self {
        Signatures {
            on: matching.on,
            names: &matching.labels,
            table: Table::new(budget),
            first: Vec::new(),
            these: Vec::new(),
            others: Vec::new(),
        }
    }

    pub(super) fn len(&self) -> usize {
        self.table.len()
    }

    /// The number of a label set's signature.
    pub(super) fn number(&mut self, labels: &Labels) -> Result<usize> {
        let Signatures {
            on,
            names,
            table,
            first,
            these,
            others,
        } = self;
        compared(labels, *on, names, these);
        let number = table.number(these, |at| {
            compared(&first[at], *on, names, others);
            these == others
        })?;
        if number == first.len() {
            table.charge.add(2 * size_of::<Labels>())?;
            first.push(labels.clone());
        }
        Ok(number)
    }

    /// Its number, if it has one.
    pub(super) fn find(&mut self, labels: &Labels) -> Option<usize> {
        let Signatures {
            on,
            names,
            table,
            first,
            these,
            others,
        } = self;
        compared(labels, *on, names, these);
        table.find(these, |at| {
            compared(&first[at], *on, names, others);
            these == others
        })
    }
}

/// The pairs that a matching compares, in canonical form.
fn compared(labels: &Labels, on: bool, names: &[String], out: &mut Vec<u8>) {
    out.clear();
    let mut rest = labels.as_bytes();
    while let Some(p) = pair(&mut rest) {
        let named = names.iter().any(|n| n.as_bytes() == p.name);
        if if on {
            named
        } else {
            !named && p.name != METRIC_NAME.as_bytes()
        } {
            out.extend_from_slice(p.whole);
        }
    }
}

/// A stable sort that a stop ends, and that bears with an order that contradicts itself.
pub(super) fn sort<T>(items: &mut Vec<T>, budget: &Budget, compare: impl Fn(&T, &T) -> Ordering) -> Result<()> {
    budget.check()?;
    if items.windows(2).all(|w| compare(&w[0], &w[1]) != Ordering::Greater) {
        return Ok(());
    }
    let mut charge = Charge::new(budget);
    charge.add(
        items
            .len()
            .saturating_mul(size_of::<Option<T>>() + 2 * size_of::<u32>()),
    )?;
    let mut order: Vec<u32> = (0..items.len() as u32).collect();
    let mut next: Vec<u32> = Vec::with_capacity(items.len());
    let greater = |a: u32, b: u32| compare(&items[a as usize], &items[b as usize]) == Ordering::Greater;
    let mut width = 1;
    let mut turns = 0;
    while width < order.len() {
        next.clear();
        for both in order.chunks(2 * width) {
            let (mut a, mut b) = both.split_at(width.min(both.len()));
            while let (Some((&x, rest_a)), Some((&y, rest_b))) = (a.split_first(), b.split_first()) {
                turns += 1;
                if turns % CHECK_EVERY == 0 {
                    budget.check()?;
                }
                if greater(x, y) {
                    next.push(y);
                    b = rest_b;
                } else {
                    next.push(x);
                    a = rest_a;
                }
            }
            next.extend_from_slice(a);
            next.extend_from_slice(b);
        }
        std::mem::swap(&mut order, &mut next);
        width *= 2;
    }
    let mut slots: Vec<Option<T>> = std::mem::take(items).into_iter().map(Some).collect();
    items.extend(order.iter().filter_map(|&i| slots[i as usize].take()));
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn labels_order_by_pairs() {
        let l = |p: &[(&str, &str)]| Labels::from_pairs(p.iter().copied());
        assert_eq!(compare_labels(&l(&[("a", "10")]), &l(&[("a", "9")])), Ordering::Less);
        assert_eq!(
            compare_labels(&l(&[("a", "1")]), &l(&[("a", "1"), ("b", "")])),
            Ordering::Equal
        );
        assert_eq!(
            compare_labels(&l(&[("a", "1")]), &l(&[("a", "1"), ("b", "1")])),
            Ordering::Less
        );
    }

    #[test]
    fn a_stop_ends_a_sort() {
        let budget = Budget::unlimited();
        let asked = std::cell::Cell::new(0);
        let mut items: Vec<u32> = (0..100_000).rev().collect();
        let e = sort(&mut items, &budget, |a, b| {
            asked.set(asked.get() + 1);
            if asked.get() == 50_000 {
                budget.stop(model::StopReason::Cancelled);
            }
            a.cmp(b)
        });
        assert!(e.is_err());
        assert!(asked.get() <= 50_000 + CHECK_EVERY);
        assert_eq!(budget.used().1, 0);
    }

    #[test]
    fn an_order_that_contradicts_itself_is_borne() {
        let mut items: Vec<u32> = (0..1000).collect();
        sort(&mut items, &Budget::unlimited(), |a, b| (a % 3).cmp(&((b + 1) % 3))).unwrap();
        items.sort_unstable();
        assert_eq!(items, (0..1000).collect::<Vec<_>>());
    }

    proptest::proptest! {
        #[test]
        fn sorts_as_the_standard_library(mut items: Vec<(u8, u32)>) {
            let mut want = items.clone();
            want.sort_by_key(|i| i.0);
            sort(&mut items, &Budget::unlimited(), |a, b| a.0.cmp(&b.0)).unwrap();
            proptest::prop_assert_eq!(items, want);
        }

        #[test]
        fn signatures_are_equal_where_matched_labels_are(
            sets in proptest::collection::vec(
                proptest::collection::btree_map("(a|b|c|__name__)", "[xy]{1,130}", 0..4), 1..20),
            on: bool,
            names in proptest::collection::vec("(a|b|__name__)".prop_map(String::from), 0..3),
        ) {
            let matching = Matching {
                cardinality: super::super::super::ast::Cardinality::OneToOne,
                on,
                labels: names,
                include: Vec::new(),
                fill_left: None,
                fill_right: None,
            };
            let budget = Budget::unlimited();
            let mut signatures = Signatures::new(&matching, &budget);
            let mut seen: Vec<Labels> = Vec::new();
            for set in &sets {
                let labels = Labels::from_pairs(set);
                let reduced = super::super::labels::match_labels(&labels, on, &matching.labels);
                let want = seen.iter().position(|s| *s == reduced);
                proptest::prop_assert_eq!(signatures.find(&labels), want);
                proptest::prop_assert_eq!(signatures.number(&labels).unwrap(), want.unwrap_or(seen.len()));
                if want.is_none() {
                    seen.push(reduced);
                }
                for other in &seen {
                    proptest::prop_assert_eq!(
                        compare_labels(other, &labels),
                        other.iter().cmp(labels.iter())
                    );
                }
            }
        }
    }
}
