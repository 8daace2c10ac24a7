use std::sync::{Arc, Mutex};

use model::SeriesId;

use crate::table::SeriesTable;

/// Selections of fewer than one in so many series are sorted by comparing labels.
const SHARE: usize = 4;

/// The order of labels among all series of the table, kept for large selections.
#[derive(Default)]
pub(crate) struct LabelOrder {
    ranks: Mutex<Option<Arc<Ranks>>>,
}

struct Ranks {
    /// Of the table, at the time.
    changes: u64,
    /// By id.
    rank: Vec<u32>,
}

impl LabelOrder {
    /// Sorts entries, places in `ids`, by the labels of their series.
    pub(crate) fn sort(&self, table: &SeriesTable, ids: &[SeriesId], order: &mut Vec<u32>) {
        let bound = table.id_bound();
        if order.len() < bound / SHARE {
            let mut keyed: Vec<SeriesId> = order.iter().map(|&i| ids[i as usize]).collect();
            table.sort_by_labels(&mut keyed);
            let place: hashbrown::HashMap<u32, u32> = order.iter().map(|&i| (ids[i as usize].0, i)).collect();
            order.clear();
            order.extend(keyed.iter().map(|id| place[&id.0]));
            return;
        }
        let ranks = self.ranks(table, bound);
        let mut at_rank = vec![u32::MAX; ranks.rank.len()];
        for &i in &*order {
            at_rank[ranks.rank[ids[i as usize].index()] as usize] = i;
        }
        order.clear();
        order.extend(at_rank.into_iter().filter(|&i| i != u32::MAX));
    }

    /// Ranks of all ids below `bound` at least.
    fn ranks(&self, table: &SeriesTable, bound: usize) -> Arc<Ranks> {
        let mut ranks = self.ranks.lock().unwrap_or_else(|e| e.into_inner());
        let changes = table.changes();
        if let Some(known) = ranks.as_ref().filter(|r| r.changes == changes && r.rank.len() >= bound) {
            return Arc::clone(known);
        }
        let bound = bound.max(table.id_bound());
        let mut ids: Vec<SeriesId> = (0..bound as u32).map(SeriesId).collect();
        table.sort_by_labels(&mut ids);
        let mut rank = vec![0; bound];
        for (r, id) in ids.iter().enumerate() {
            rank[id.index()] = r as u32;
        }
        let fresh = Arc::new(Ranks { changes, rank });
        *ranks = Some(Arc::clone(&fresh));
        fresh
    }
}
