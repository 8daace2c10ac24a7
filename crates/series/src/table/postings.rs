//! Sets of series ids, small where they are small: most label pairs belong to one series or to very many.

use model::SeriesId;
use roaring::RoaringBitmap;

use super::index::Run;

/// Ids a sorted list holds; above it is a bitmap.
const LIST_MAX: usize = 64;

/// Runs that become a bitmap of their own first; fewer are added one by one.
const TOGETHER: usize = LIST_MAX + 1;

#[derive(Default)]
pub(super) enum Postings {
    #[default]
    Empty,
    One(u32),
    List(Vec<u32>),
    Set(Box<RoaringBitmap>),
}

impl Postings {
    pub(super) fn len(&self) -> u64 {
        match self {
            Postings::Empty => 0,
            Postings::One(_) => 1,
            Postings::List(l) => l.len() as u64,
            Postings::Set(s) => s.len(),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Postings::Empty)
    }

    /// Adds ids, by runs in ascending order.
    pub(super) fn insert_runs(&mut self, runs: &[Run]) {
        if runs.len() < TOGETHER {
            return runs.iter().for_each(|r| self.insert(r.first, r.last));
        }
        let mut set = RoaringBitmap::new();
        for r in runs {
            match r.first == r.last {
                true => set.insert(r.first),
                false => set.insert_range(r.first..=r.last) > 0,
            };
        }
        match self {
            Postings::Set(s) => **s |= set,
            _ => {
                self.add_to(&mut set);
                *self = Postings::Set(Box::new(set));
            }
        }
    }

    /// Adds `first..=last`.
    fn insert(&mut self, first: u32, last: u32) {
        let more = (last - first) as usize + 1;
        match self {
            Postings::Empty if more == 1 => *self = Postings::One(first),
            Postings::Set(s) if more == 1 => {
                s.insert(first);
            }
            Postings::Set(s) => {
                s.insert_range(first..=last);
            }
            _ if self.len() as usize + more <= LIST_MAX => {
                let mut list = match std::mem::take(self) {
                    Postings::One(id) => vec![id],
                    Postings::List(l) => l,
                    _ => Vec::with_capacity(more),
                };
                if list.last().is_none_or(|l| *l < first) {
                    list.extend(first..=last);
                } else {
                    for id in first..=last {
                        if let Err(at) = list.binary_search(&id) {
                            list.insert(at, id);
                        }
                    }
                }
                *self = Postings::List(list);
            }
            _ => {
                let mut set = self.to_set();
                set.insert_range(first..=last);
                *self = Postings::Set(Box::new(set));
            }
        }
    }

    pub(super) fn remove(&mut self, id: u32) {
        let none_left = match self {
            Postings::Empty => true,
            Postings::One(one) => *one == id,
            Postings::List(l) => {
                if let Ok(at) = l.binary_search(&id) {
                    l.remove(at);
                }
                l.is_empty()
            }
            Postings::Set(s) => {
                s.remove(id);
                s.is_empty()
            }
        };
        if none_left {
            *self = Postings::Empty;
        }
    }

    pub(super) fn to_set(&self) -> RoaringBitmap {
        match self {
            Postings::Set(s) => (**s).clone(),
            _ => {
                let mut set = RoaringBitmap::new();
                self.add_to(&mut set);
                set
            }
        }
    }

    /// The ids, ascending.
    pub(super) fn ids(&self) -> Vec<SeriesId> {
        match self {
            Postings::Empty => Vec::new(),
            Postings::One(id) => vec![SeriesId(*id)],
            Postings::List(l) => l.iter().copied().map(SeriesId).collect(),
            Postings::Set(s) => s.iter().map(SeriesId).collect(),
        }
    }

    pub(super) fn add_to(&self, set: &mut RoaringBitmap) {
        match self {
            Postings::Empty => {}
            Postings::One(id) => {
                set.insert(*id);
            }
            Postings::List(l) => set.extend(l.iter().copied()),
            Postings::Set(s) => *set |= &**s,
        }
    }

    pub(super) fn intersect(&self, set: &mut RoaringBitmap) {
        match self {
            Postings::Set(s) => *set &= &**s,
            _ => *set &= self.to_set(),
        }
    }

    pub(super) fn subtract_from(&self, set: &mut RoaringBitmap) {
        match self {
            Postings::Empty => {}
            Postings::One(id) => {
                set.remove(*id);
            }
            Postings::List(l) => {
                for id in l {
                    set.remove(*id);
                }
            }
            Postings::Set(s) => *set -= &**s,
        }
    }

    /// Bytes outside of the value itself, about.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Postings::Empty | Postings::One(_) => 0,
            Postings::List(l) => l.capacity() * 4,
            Postings::Set(s) => size_of::<RoaringBitmap>() + s.serialized_size(),
        }
    }
}
