use std::collections::HashMap;
use std::sync::Mutex;

use model::TenantId;
use series::table::{Blame, SeriesTable, TableFull};

/// The setting that bounds the series table.
const MEMORY: &str = "store.memory_bytes";
/// Breaches remembered; the one longest past gives way.
const BREACHES_MAX: usize = 64;
/// How long what was found out about a breach stands.
const STANDS_MS: i64 = 60_000;
/// Times within `STANDS_MS` that it is looked up who is to blame, however many budgets are used up.
const LOOKS_MAX: u32 = 64;

/// Series that were refused because a budget was used up, by tenant and metric, and which label is to blame.
#[derive(Default)]
pub struct CardinalityGuard {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    breaches: HashMap<(TenantId, String), Breach>,
    /// Look-ups since `since_ms`.
    looks: u32,
    since_ms: i64,
}

impl State {
    /// Whether one more look-up may be made; it counts.
    fn may_look(&mut self, now_ms: i64) -> bool {
        if now_ms.saturating_sub(self.since_ms) >= STANDS_MS {
            (self.looks, self.since_ms) = (0, now_ms);
        }
        let may = self.looks < LOOKS_MAX;
        self.looks += u32::from(may);
        may
    }
}

/// One budget that was used up.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breach {
    pub tenant: TenantId,
    /// Empty where the budget is the tenant's.
    pub metric: String,
    /// The setting, and its value.
    pub setting: &'static str,
    pub limit: usize,
    /// Series refused since the start.
    pub refused: u64,
    pub first_ms: i64,
    pub last_ms: i64,
    pub blame: Option<Blame>,
    /// When it was looked up who is to blame.
    looked_ms: Option<i64>,
}

impl Breach {
    /// In words, for senders and the log.
    pub fn describe(&self) -> String {
        if self.setting == MEMORY {
            return format!(
                "a new series, but the series table takes more than its {} bytes of memory (half of {MEMORY}); existing series go on",
                self.limit
            );
        }
        let whose = match self.metric.as_str() {
            "" => "the tenant".to_owned(),
            metric => format!("the metric {metric:?}"),
        };
        let mut text = format!(
            "a new series, but {whose} already has {} ({}); existing series go on",
            self.limit, self.setting
        );
        if let Some(blame) = &self.blame
            && let Some((label, values)) = blame.labels.first()
        {
            text.push_str(&format!(
                "; the label with most values is {label:?}: {values} in {} series",
                blame.series
            ));
        }
        text
    }
}

impl CardinalityGuard {
    /// Notes that `count` series were refused. Who is to blame is looked up once a minute for each budget; the caller holds no
    /// session of the table.
    pub fn refused(&self, table: &SeriesTable, full: TableFull, metric: &str, count: u64, now_ms: i64) -> Breach {
        let (tenant, limit, setting, metric) = match full {
            TableFull::Tenant { tenant, limit } => (tenant, limit, "limits.series_max", ""),
            TableFull::Metric { tenant, limit } => (tenant, limit, "limits.metric_series_max", metric),
            TableFull::Memory { tenant, limit } => (tenant, limit, MEMORY, ""),
        };
        // a budget is told apart by its setting, where it is not of a metric
        let key = (tenant, if metric.is_empty() { setting } else { metric }.to_owned());
        let look = {
            let mut state = self.lock();
            let looked_ms = state.breaches.get(&key).and_then(|b| b.looked_ms);
            looked_ms.is_none_or(|at| now_ms.saturating_sub(at) >= STANDS_MS) && state.may_look(now_ms)
        };
        let blame = look.then(|| table.blame(tenant, (!metric.is_empty()).then_some(metric)));
        let mut state = self.lock();
        let breaches = &mut state.breaches;
        if !breaches.contains_key(&key) && breaches.len() >= BREACHES_MAX {
            let oldest = breaches.iter().min_by_key(|(_, b)| b.last_ms).map(|(k, _)| k.clone());
            oldest.map(|k| breaches.remove(&k));
        }
        let breach = breaches.entry(key).or_insert_with(|| Breach {
            tenant,
            metric: metric.to_owned(),
            setting,
            limit,
            refused: 0,
            first_ms: now_ms,
            last_ms: now_ms,
            blame: None,
            looked_ms: None,
        });
        breach.refused += count;
        breach.last_ms = now_ms;
        if let Some(blame) = blame {
            breach.blame = blame;
            breach.looked_ms = Some(now_ms);
            tracing::warn!(tenant = %breach.tenant, metric = breach.metric, refused = breach.refused, "{}", breach.describe());
        }
        breach.clone()
    }

    /// All there are, the newest first.
    pub fn breaches(&self) -> Vec<Breach> {
        let mut all: Vec<Breach> = self.lock().breaches.values().cloned().collect();
        all.sort_by(|a, b| b.last_ms.cmp(&a.last_ms).then_with(|| a.metric.cmp(&b.metric)));
        all
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn breaches_name_the_label_and_are_bounded() {
        let guard = CardinalityGuard::default();
        let table = SeriesTable::new([3; 16]);
        let ids: Vec<_> = (0..50)
            .map(|user| {
                let l = model::Labels::from_pairs([
                    ("__name__", "hits".to_owned()),
                    ("job", "api".to_owned()),
                    ("user", format!("u{user}")),
                ]);
                table.intern(TenantId::DEFAULT, l.as_bytes(), None).unwrap()
            })
            .collect();
        table.set_visible(&ids);
        let full = TableFull::Metric {
            tenant: TenantId::DEFAULT,
            limit: 50,
        };
        let breach = guard.refused(&table, full, "hits", 1, 1000);
        assert_eq!(
            breach.describe(),
            "a new series, but the metric \"hits\" already has 50 (limits.metric_series_max); existing series go on; \
             the label with most values is \"user\": 50 in 50 series"
        );
        assert_eq!(guard.refused(&table, full, "hits", 4, 2000).refused, 5);
        for i in 0..200 {
            guard.refused(&table, full, &format!("m{i}"), 1, 3000 + i);
        }
        assert_eq!(guard.breaches().len(), BREACHES_MAX);
        assert_eq!(guard.breaches()[0].metric, "m199");
        let state = || {
            let state = guard.lock();
            let known = state.breaches.keys().any(|(_, metric)| metric == "hits");
            (state.looks, known)
        };
        assert_eq!(state(), (LOOKS_MAX, false));
        let unnamed = guard.refused(&table, full, "hits", 1, 4000);
        assert_eq!((unnamed.blame, unnamed.looked_ms), (None, None));
        let named = guard.refused(&table, full, "hits", 1, 1000 + STANDS_MS);
        assert!(named.blame.is_some());
        assert_eq!(state(), (1, true));
    }
}
