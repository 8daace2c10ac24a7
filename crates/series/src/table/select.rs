//! Selection: matchers become sets of visible series.

use std::sync::RwLock;

use model::{Budget, BudgetError, MatchOp, Matcher, SeriesId, TenantId};
use roaring::RoaringBitmap;

use super::index::Index;
use super::read;

/// Values looked at under one lock.
const SLICE: usize = 2048;

/// Visible series of a tenant that match all matchers. The lock is held for a slice of work at a time; series that
/// appear or go in between may or may not be in the answer.
pub(super) fn select(
    index: &RwLock<Index>,
    tenant: TenantId,
    matchers: &[Matcher],
    budget: &Budget,
) -> Result<Vec<SeriesId>, BudgetError> {
    budget.check()?;
    let mut wanted: Option<RoaringBitmap> = None;
    let mut order: Vec<&Matcher> = matchers.iter().collect();
    // sets that shrink the answer at no cost come first, sets to subtract last
    order.sort_by_key(|m| match m.op {
        MatchOp::Equal if !m.value.is_empty() => 0,
        _ if m.matches_absent() => 2,
        _ => 1,
    });
    for m in order {
        budget.check()?;
        if wanted.as_ref().is_some_and(RoaringBitmap::is_empty) {
            return Ok(Vec::new());
        }
        match m.op {
            MatchOp::Equal | MatchOp::NotEqual => equal(index, tenant, m, &mut wanted),
            MatchOp::Regex | MatchOp::NotRegex => regex(index, tenant, m, &mut wanted, budget)?,
        }
    }
    let set = match wanted {
        Some(set) => set,
        None => {
            let index = read(index);
            index.tenant(tenant).map(|t| t.all.to_set()).unwrap_or_default()
        }
    };
    Ok(set.iter().map(SeriesId).collect())
}

fn all(index: &Index, tenant: TenantId) -> RoaringBitmap {
    index.tenant(tenant).map(|t| t.all.to_set()).unwrap_or_default()
}

fn equal(index: &RwLock<Index>, tenant: TenantId, m: &Matcher, wanted: &mut Option<RoaringBitmap>) {
    let index = read(index);
    let Some(t) = index.tenant(tenant) else {
        *wanted = Some(RoaringBitmap::new());
        return;
    };
    let name = t.names.get(m.name.as_str()).copied();
    let postings = match name {
        None => None,
        Some(n) if m.value.is_empty() => Some(&index.names[n as usize].postings),
        Some(n) => index
            .find_value(index.names[n as usize].tenant, &m.name, &m.value)
            .map(|p| &index.pairs[p as usize].postings),
    };
    // `a=""` and `a!="x"` take series away, `a="x"` and `a!=""` keep those of a set
    let subtract = (m.op == MatchOp::Equal) == m.value.is_empty();
    match (postings, subtract) {
        (Some(p), false) => match wanted {
            Some(w) => p.intersect(w),
            None => *wanted = Some(p.to_set()),
        },
        (None, false) => *wanted = Some(RoaringBitmap::new()),
        (p, true) => {
            let w = wanted.get_or_insert_with(|| all(&index, tenant));
            if let Some(p) = p {
                p.subtract_from(w);
            }
        }
    }
}

fn regex(
    lock: &RwLock<Index>,
    tenant: TenantId,
    m: &Matcher,
    wanted: &mut Option<RoaringBitmap>,
    budget: &Budget,
) -> Result<(), BudgetError> {
    let absent = m.matches_absent();
    let (name, pairs) = {
        let index = read(lock);
        let name = index.tenant(tenant).and_then(|t| t.names.get(m.name.as_str()).copied());
        if wanted.is_none() && (absent || name.is_none()) {
            *wanted = Some(if absent {
                all(&index, tenant)
            } else {
                RoaringBitmap::new()
            });
        }
        let Some(name) = name else {
            if !absent {
                *wanted = Some(RoaringBitmap::new());
            }
            return Ok(());
        };
        let list = &index.names[name as usize].pairs;
        if let Some(w) = wanted
            && w.len() < list.len() as u64 / 2
        {
            drop(index);
            return one_by_one(lock, name, m, w, budget);
        }
        if let (Some(l), MatchOp::Regex, false) = (m.literals(), m.op, absent) {
            let slot = index.names[name as usize].tenant;
            let mut found: Vec<u32> = l.iter().filter_map(|v| index.find_value(slot, &m.name, v)).collect();
            found.sort_unstable();
            found.dedup();
            (name, found)
        } else {
            (name, list.clone())
        }
    };
    // union of the values that match, or that do not when a series without the label matches too
    let mut union = RoaringBitmap::new();
    for slice in pairs.chunks(SLICE) {
        budget.check()?;
        let index = read(lock);
        for &p in slice {
            let pair = &index.pairs[p as usize];
            if pair.name == name && !pair.postings.is_empty() && m.matches(index.value(p)) != absent {
                pair.postings.add_to(&mut union);
            }
        }
    }
    match (wanted.as_mut(), absent) {
        (Some(w), true) => *w -= union,
        (Some(w), false) => *w &= union,
        (None, _) => *wanted = Some(union),
    }
    Ok(())
}

/// Few series are left: their own values are looked at instead of all values there are.
fn one_by_one(
    lock: &RwLock<Index>,
    name: u32,
    m: &Matcher,
    wanted: &mut RoaringBitmap,
    budget: &Budget,
) -> Result<(), BudgetError> {
    let ids: Vec<u32> = wanted.iter().collect();
    let mut last = (u32::MAX, false);
    for slice in ids.chunks(SLICE) {
        budget.check()?;
        let index = read(lock);
        for &id in slice {
            let pair = index
                .pairs_of(SeriesId(id))
                .iter()
                .copied()
                .find(|&p| index.pairs[p as usize].name == name);
            let hit = match pair {
                None => m.matches_absent(),
                Some(p) if p == last.0 => last.1,
                Some(p) => {
                    last = (p, m.matches(index.value(p)));
                    last.1
                }
            };
            if !hit {
                wanted.remove(id);
            }
        }
        // a pair's number may be given again between two locks
        last.0 = u32::MAX;
    }
    Ok(())
}
