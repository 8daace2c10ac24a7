//! Series that a body brings and the table does not have. They are kept aside and go into the table when a row of theirs was
//! taken: what is refused uses up no budget and leaves nothing behind.
use std::collections::HashMap;

use model::{Labels, SeriesId};

/// Ids from here on are of this body alone. The table's stay far below: so many series would take hundreds of gigabytes.
const FIRST: u32 = 1 << 31;

#[derive(Default)]
pub(super) struct Fresh {
    series: Vec<One>,
    by_spelling: HashMap<u128, SeriesId>,
    /// Bytes of labels kept.
    pub(super) bytes: usize,
}

struct One {
    /// Hash of its raw spelling, where it has one.
    spelling: Option<u128>,
    labels: Box<[u8]>,
    state: State,
}

#[derive(Clone, Copy)]
enum State {
    Aside,
    Settled(SeriesId),
    Refused,
}

impl Fresh {
    pub(super) fn is_empty(&self) -> bool {
        self.series.is_empty()
    }

    pub(super) fn has(id: SeriesId) -> bool {
        id.0 >= FIRST
    }

    pub(super) fn find(&self, spelling: u128) -> Option<SeriesId> {
        self.by_spelling.get(&spelling).copied()
    }

    pub(super) fn add(&mut self, spelling: Option<u128>, labels: &[u8]) -> SeriesId {
        let id = SeriesId(FIRST + self.series.len() as u32);
        if let Some(spelling) = spelling {
            self.by_spelling.insert(spelling, id);
        }
        self.bytes += labels.len();
        self.series.push(One {
            spelling,
            labels: labels.into(),
            state: State::Aside,
        });
        id
    }

    fn one(&self, id: SeriesId) -> Option<&One> {
        self.series.get(id.0.checked_sub(FIRST)? as usize)
    }

    /// Its labels in words.
    pub(super) fn labels(&self, id: SeriesId) -> Option<Labels> {
        self.one(id).map(|one| Labels::from_trusted_bytes(&one.labels))
    }

    /// The id that a row's series has in the table: `define` brings it there the first time. `None`: it was refused.
    pub(super) fn settle(
        &mut self,
        id: SeriesId,
        define: impl FnOnce(Option<u128>, &[u8]) -> Option<SeriesId>,
    ) -> Option<SeriesId> {
        if !Self::has(id) {
            return Some(id);
        }
        let one = self.series.get_mut((id.0 - FIRST) as usize)?;
        if let State::Aside = one.state {
            one.state = define(one.spelling, &one.labels).map_or(State::Refused, State::Settled);
        }
        match one.state {
            State::Settled(id) => Some(id),
            State::Aside | State::Refused => None,
        }
    }
}
