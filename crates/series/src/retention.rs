//! How long samples are kept, by class: the first class whose matchers a series fits is its own, else the default. Files
//! above level 0 hold one class each, so that a class expires by whole files. No file states its class: it follows from the
//! labels and the settings of the day, so that a change of these concerns what is stored already.

use model::{Labels, Matcher, TenantId};

use crate::block::DAY_MS;

/// Classes besides the default.
pub const CLASSES_MAX: usize = 31;

/// How long rollups of a class are kept in ms, by the length of their buckets; `None`: there are none, [`FOR_EVER`]: as
/// long as there is room.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RollupKeep {
    pub minute_ms: Option<i64>,
    pub hour_ms: Option<i64>,
}

/// A time to keep that does not end.
pub const FOR_EVER: i64 = i64::MAX;

impl RollupKeep {
    pub(crate) fn of(&self, resolution: i64) -> Option<i64> {
        match resolution {
            60_000 => self.minute_ms,
            3_600_000 => self.hour_ms,
            _ => None,
        }
    }

    fn any(&self) -> bool {
        self.minute_ms.is_some() || self.hour_ms.is_some()
    }
}

/// Series that are kept for a time of their own.
#[derive(Clone, Debug)]
pub struct RetentionClass {
    /// As the owner wrote it.
    pub selector: String,
    /// Only this tenant's series; `None`: everybody's.
    pub tenant: Option<TenantId>,
    pub matchers: Vec<Matcher>,
    /// Milliseconds; `None`: for ever.
    pub keep_ms: Option<i64>,
    pub rollups: RollupKeep,
}

/// What time it is for whatever goes because of its age. The machine's clock alone decides nothing: one that jumps ahead by a
/// year would take a year's samples along. Besides the clock, one of these must say that the time has come: as many days with
/// samples of their own that came later; the running time, which moves by two days in a day; or the owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Horizon {
    now_ms: i64,
    /// Up to here time has passed for sure.
    sure_ms: i64,
    /// UTC days up to now that have samples, the newest first.
    days: Vec<i64>,
}

impl Horizon {
    /// `days`: those of which there are samples.
    pub(crate) fn new(now_ms: i64, sure_ms: i64, days: impl IntoIterator<Item = i64>) -> Horizon {
        let today = now_ms.div_euclid(DAY_MS);
        let mut days: Vec<i64> = days.into_iter().filter(|&d| d <= today).collect();
        days.sort_unstable_by(|a, b| b.cmp(a));
        days.dedup();
        Horizon {
            now_ms,
            sure_ms: sure_ms.min(now_ms),
            days,
        }
    }

    /// By the clock alone, for telling what would go.
    pub(crate) fn of_clock(now_ms: i64) -> Horizon {
        Horizon::new(now_ms, now_ms, [])
    }

    pub(crate) fn now_ms(&self) -> i64 {
        self.now_ms
    }

    /// Samples before this time are past a time to keep.
    pub(crate) fn before(&self, keep_ms: i64) -> i64 {
        let later_days = usize::try_from(keep_ms.saturating_add(DAY_MS - 1) / DAY_MS).unwrap_or(usize::MAX);
        let by_days = self
            .days
            .get(later_days.max(1) - 1)
            .map(|day| day.saturating_mul(DAY_MS));
        let by_time = self.sure_ms.saturating_sub(keep_ms);
        by_days
            .unwrap_or(i64::MIN)
            .max(by_time)
            .min(self.now_ms.saturating_sub(keep_ms))
    }
}

/// The classes in order, and what becomes of all other series.
#[derive(Clone, Copy, Debug)]
pub struct Retention<'a> {
    /// At most [`CLASSES_MAX`]; what lies behind is not looked at.
    pub classes: &'a [RetentionClass],
    pub default_keep_ms: Option<i64>,
    pub default_rollups: RollupKeep,
}

/// Place in the list; the default is behind the last.
pub(crate) type Class = u8;

/// Classes as bits. A file of none is one whose labels cannot be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ClassSet(pub(crate) u32);

impl ClassSet {
    pub(crate) const NONE: ClassSet = ClassSet(0);

    pub(crate) fn with(self, class: Class) -> ClassSet {
        ClassSet(self.0 | 1 << class)
    }

    pub(crate) fn is_mixed(self) -> bool {
        self.0.count_ones() > 1
    }

    pub(crate) fn overlaps(self, other: ClassSet) -> bool {
        self.0 & other.0 != 0
    }

    pub(crate) fn each(self) -> impl Iterator<Item = Class> {
        (0..32).filter(move |c| self.0 & 1 << c != 0)
    }
}

impl<'a> Retention<'a> {
    pub(crate) fn classes(&self) -> &'a [RetentionClass] {
        &self.classes[..self.classes.len().min(CLASSES_MAX)]
    }

    pub(crate) fn default_class(&self) -> Class {
        self.classes().len() as Class
    }

    /// All there are.
    pub(crate) fn all(&self) -> ClassSet {
        ClassSet(u32::MAX >> (31 - u32::from(self.default_class())))
    }

    pub(crate) fn class_of(&self, tenant: TenantId, labels: &Labels) -> Class {
        let fits = |c: &RetentionClass| {
            c.tenant.is_none_or(|t| t == tenant)
                && c.matchers.iter().all(|m| m.matches(labels.get(&m.name).unwrap_or("")))
        };
        self.classes().iter().position(fits).unwrap_or(self.classes().len()) as Class
    }

    pub(crate) fn keep_ms(&self, class: Class) -> Option<i64> {
        match self.classes().get(usize::from(class)) {
            Some(c) => c.keep_ms,
            None => self.default_keep_ms,
        }
    }

    /// What rollups a class asks for.
    pub(crate) fn rollups(&self, class: Class) -> RollupKeep {
        match self.classes().get(usize::from(class)) {
            Some(c) => c.rollups,
            None => self.default_rollups,
        }
    }

    /// Whether any class asks for rollups.
    pub(crate) fn rolls(&self) -> bool {
        self.default_rollups.any() || self.classes().iter().any(|c| c.rollups.any())
    }

    /// Rollups of this resolution before this time have no class left in the set that wants them. `None`: there is one
    /// that keeps them for ever.
    pub(crate) fn rollups_gone_before(&self, set: ClassSet, resolution: i64, horizon: &Horizon) -> Option<i64> {
        let mut limit = horizon.now_ms();
        for class in set.each() {
            match self.rollups(class).of(resolution) {
                Some(FOR_EVER) => return None,
                Some(keep) => limit = limit.min(horizon.before(keep)),
                None => {}
            }
        }
        (set != ClassSet::NONE).then_some(limit)
    }

    /// Samples before this time have no class left in the set that wants them. `None`: there is one that keeps for ever.
    pub(crate) fn all_gone_before(&self, set: ClassSet, horizon: &Horizon) -> Option<i64> {
        let mut limit = horizon.now_ms();
        for class in set.each() {
            limit = limit.min(horizon.before(self.keep_ms(class)?));
        }
        (set != ClassSet::NONE).then_some(limit)
    }

    /// Samples before this time have a class in the set that does not want them any more.
    pub(crate) fn some_gone_before(&self, set: ClassSet, now_ms: i64) -> Option<i64> {
        let keeps = set.each().filter_map(|c| self.keep_ms(c));
        keeps.map(|keep| now_ms.saturating_sub(keep)).max()
    }
}

#[cfg(test)]
mod tests {
    use model::MatchOp;

    use super::*;

    fn class(pattern: &str, keep_ms: Option<i64>) -> RetentionClass {
        RetentionClass {
            selector: pattern.to_owned(),
            tenant: None,
            matchers: vec![Matcher::new("__name__", MatchOp::Regex, pattern).unwrap()],
            keep_ms,
            rollups: RollupKeep::default(),
        }
    }

    #[test]
    fn the_first_that_fits_decides() {
        let classes = [
            class("debug_.*", Some(7)),
            class("debug_keep", Some(100)),
            class("audit", None),
        ];
        let r = Retention {
            classes: &classes,
            default_keep_ms: Some(50),
            default_rollups: RollupKeep::default(),
        };
        let of = |name: &str| r.keep_ms(r.class_of(TenantId::DEFAULT, &Labels::from_pairs([("__name__", name)])));
        assert_eq!(
            [of("debug_a"), of("debug_keep"), of("audit"), of("other")],
            [Some(7), Some(7), None, Some(50)]
        );
        assert_eq!(r.all(), ClassSet(0b1111));
        let two = ClassSet::NONE.with(0).with(3);
        let now = Horizon::of_clock(1000);
        assert_eq!(
            (r.all_gone_before(two, &now), r.some_gone_before(two, 1000)),
            (Some(950), Some(993))
        );
        assert_eq!(r.all_gone_before(r.all(), &now), None);
        assert_eq!(r.all_gone_before(ClassSet::NONE, &now), None);
    }

    #[test]
    fn the_clock_needs_a_second_reason() {
        let at = |day: i64| day * DAY_MS + DAY_MS / 2;
        let keep = 30 * DAY_MS;
        // samples of every day: as the clock has it
        let daily = Horizon::new(at(100), at(0), 0..=100);
        assert_eq!(daily.before(keep), at(70));
        // it jumps by 400 days, and a day of samples comes at the new time
        let jumped = Horizon::new(at(500), at(100), (0..=100).chain([500]));
        assert_eq!(jumped.before(keep), 72 * DAY_MS, "a day or two at most");
        let more = Horizon::new(at(500), at(101), (0..=100).chain([500]));
        assert_eq!(more.before(keep), 72 * DAY_MS);
        // running time goes on: day by day
        assert_eq!(Horizon::new(at(500), at(110), 72..=100).before(keep), at(80));
        // the owner says that it is right
        assert_eq!(Horizon::new(at(500), i64::MAX, [100]).before(keep), at(470));
        // what lies ahead of the clock is no reason, and the clock can only keep
        let ahead = Horizon::new(at(50), at(100), 0..=400);
        assert_eq!(ahead.before(keep), at(20));
        assert_eq!(Horizon::new(at(100), at(100), []).before(1000), at(100) - 1000);
        assert_eq!(Horizon::new(at(100), i64::MIN, [100]).before(i64::MAX), i64::MIN);
    }

    #[test]
    fn one_tenant_only() {
        let classes = [RetentionClass {
            tenant: Some(TenantId::OVERSEER),
            ..class(".*", Some(1))
        }];
        let r = Retention {
            classes: &classes,
            default_keep_ms: None,
            default_rollups: RollupKeep::default(),
        };
        let labels = Labels::from_pairs([("__name__", "a")]);
        assert_eq!(r.class_of(TenantId::OVERSEER, &labels), 0);
        assert_eq!(r.class_of(TenantId::DEFAULT, &labels), 1);
    }
}
