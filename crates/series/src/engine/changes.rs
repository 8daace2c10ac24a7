use std::collections::VecDeque;
use std::sync::Mutex;

use hashbrown::HashMap;
use model::{Revision, TenantId};

/// Entries kept of a tenant; older ones are joined.
const ENTRIES_MAX: usize = 512;

/// How early the samples were that came or went, position by position: what was computed of earlier ones still holds.
#[derive(Default)]
pub(crate) struct Changes {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    epoch: u64,
    tenants: HashMap<TenantId, VecDeque<Change>>,
}

/// Records up to a position, from behind the one of the entry before.
#[derive(Clone, Copy)]
struct Change {
    to: u64,
    min_ms: i64,
}

impl Changes {
    /// A record is about to change samples from `min_ms` on. Positions ascend.
    pub(crate) fn note(&self, tenant: TenantId, position: u64, min_ms: i64) {
        let mut state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        let list = state.tenants.entry(tenant).or_default();
        list.push_back(Change { to: position, min_ms });
        if list.len() > ENTRIES_MAX {
            // the older half, two by two: a revision within a joined entry sees all of it as new
            let old: Vec<Change> = list.drain(..ENTRIES_MAX / 2).collect();
            for pair in old.chunks(2).rev() {
                list.push_front(Change {
                    to: pair[pair.len() - 1].to,
                    min_ms: pair.iter().map(|c| c.min_ms).fold(i64::MAX, i64::min),
                });
            }
        }
    }

    /// Samples of any time may have gone.
    pub(crate) fn note_all(&self) {
        self.state.lock().unwrap_or_else(|e| e.into_inner()).epoch += 1;
    }

    pub(crate) fn revision(&self, position: u64) -> Revision {
        let epoch = self.state.lock().unwrap_or_else(|e| e.into_inner()).epoch;
        Revision { epoch, position }
    }

    pub(crate) fn since(&self, tenant: TenantId, revision: &Revision) -> i64 {
        let state = self.state.lock().unwrap_or_else(|e| e.into_inner());
        if revision.epoch != state.epoch {
            return i64::MIN;
        }
        let Some(list) = state.tenants.get(&tenant) else {
            return i64::MAX;
        };
        list.iter()
            .rev()
            .take_while(|c| c.to > revision.position)
            .map(|c| c.min_ms)
            .fold(i64::MAX, i64::min)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        /// Never later than the earliest change, and no earlier than the earliest of all while little is joined.
        #[test]
        fn what_came_since_is_known(times in proptest::collection::vec(-1000i64..1000, 1..2000), at in 0usize..2000) {
            let changes = Changes::default();
            for (i, &t) in times.iter().enumerate() {
                changes.note(TenantId::DEFAULT, i as u64 + 1, t);
            }
            let at = at.min(times.len());
            let revision = Revision { epoch: 0, position: at as u64 };
            let earliest = times[at..].iter().copied().min().unwrap_or(i64::MAX);
            let told = changes.since(TenantId::DEFAULT, &revision);
            proptest::prop_assert!(told <= earliest);
            if times.len() - at <= ENTRIES_MAX / 2 {
                proptest::prop_assert_eq!(told, earliest);
            }
            changes.note_all();
            proptest::prop_assert_eq!(changes.since(TenantId::DEFAULT, &revision), i64::MIN);
            proptest::prop_assert_eq!(changes.since(TenantId::OVERSEER, &changes.revision(0)), i64::MAX);
        }
    }
}
