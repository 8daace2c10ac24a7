use std::sync::RwLock;

use model::SeriesId;

use crate::head::Head;

/// The newest sealed sample of each series, so that an instant selector need not read files for it.
#[derive(Default)]
pub(crate) struct LastValues {
    /// By series id; a time of `UNKNOWN` when files have to be asked.
    values: RwLock<Vec<(i64, f64)>>,
}

const UNKNOWN: i64 = i64::MIN;

impl LastValues {
    pub(crate) fn get(&self, ids: &[SeriesId], mut each: impl FnMut(usize, Option<(i64, f64)>)) {
        let values = self.values.read().unwrap_or_else(|e| e.into_inner());
        for (i, id) in ids.iter().enumerate() {
            each(i, values.get(id.index()).copied().filter(|v| v.0 != UNKNOWN));
        }
    }

    /// Takes over the last values of a head that is in a file now. `others_max_ms`: newest time of all other files.
    pub(crate) fn sealed(&self, head: &Head, ids: &[SeriesId], others_max_ms: i64) {
        let Some(bound) = ids.iter().map(|id| id.index() + 1).max() else {
            return;
        };
        let mut values = self.values.write().unwrap_or_else(|e| e.into_inner());
        if values.len() < bound {
            values.resize(bound, (UNKNOWN, 0.0));
        }
        head.marks(
            ids,
            |i, mark, last| {
                let value = &mut values[ids[i].index()];
                match last {
                    _ if mark.is_empty() => {}
                    Some(new) if value.0 == UNKNOWN && new.0 <= others_max_ms => {}
                    Some(new) if new.0 >= value.0 => *value = new,
                    Some(_) => {}
                    None => *value = (UNKNOWN, 0.0),
                }
            },
            true,
        );
    }

    /// These series left memory.
    pub(crate) fn clear(&self, ids: &[SeriesId]) {
        let mut values = self.values.write().unwrap_or_else(|e| e.into_inner());
        for id in ids {
            if let Some(value) = values.get_mut(id.index()) {
                *value = (UNKNOWN, 0.0);
            }
        }
    }

    pub(crate) fn bytes(&self) -> usize {
        let values = self.values.read().unwrap_or_else(|e| e.into_inner());
        values.capacity() * size_of::<(i64, f64)>()
    }

    /// Samples were deleted: nothing is known any more.
    pub(crate) fn forget(&self) {
        self.values.write().unwrap_or_else(|e| e.into_inner()).clear();
    }
}
