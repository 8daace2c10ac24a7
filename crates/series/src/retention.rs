//! How long samples are kept, by class: the first class whose matchers a series fits is its own, else the default. Files
//! above level 0 hold one class each, so that a class expires by whole files. No file states its class: it follows from the
//! labels and the settings of the day, so that a change of these concerns what is stored already.

use model::{Labels, Matcher, TenantId};

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
    pub(crate) fn rollups_gone_before(&self, set: ClassSet, resolution: i64, now_ms: i64) -> Option<i64> {
        let mut limit = now_ms;
        for class in set.each() {
            match self.rollups(class).of(resolution) {
                Some(FOR_EVER) => return None,
                Some(keep) => limit = limit.min(now_ms.saturating_sub(keep)),
                None => {}
            }
        }
        (set != ClassSet::NONE).then_some(limit)
    }

    /// Samples before this time have no class left in the set that wants them. `None`: there is one that keeps for ever.
    pub(crate) fn all_gone_before(&self, set: ClassSet, now_ms: i64) -> Option<i64> {
        let mut limit = now_ms;
        for class in set.each() {
            limit = limit.min(now_ms.saturating_sub(self.keep_ms(class)?));
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
        assert_eq!(
            (r.all_gone_before(two, 1000), r.some_gone_before(two, 1000)),
            (Some(950), Some(993))
        );
        assert_eq!(r.all_gone_before(r.all(), 1000), None);
        assert_eq!(r.all_gone_before(ClassSet::NONE, 1000), None);
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
