use model::TenantId;
use query::promql::{format_duration, parse_duration, parse_matchers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use series::engine::ClassReport;
use series::retention::{CLASSES_MAX, Retention, RetentionClass};

use crate::role::{Store, StoreError};

/// How `keep` says that nothing goes.
const FOR_EVER: &str = "forever";
const DAY_MS: i64 = 24 * 3600 * 1000;

/// Series that are kept for a time of their own.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(deny_unknown_fields)]
pub struct RetentionRule {
    /// A series selector, such as `{__name__=~"debug_.*"}`.
    #[serde(rename = "match")]
    pub selector: String,
    /// How long samples are kept, such as `7d` or `1y`, at least a day; or `forever`.
    pub keep: String,
    /// Only of this tenant: `default`, or `overseer` for Overseer's own metrics.
    #[serde(default)]
    pub tenant: Option<String>,
}

fn class_of(rule: &RetentionRule) -> Result<RetentionClass, String> {
    let matchers = parse_matchers(&rule.selector).map_err(|e| {
        format!(
            "match: {:?}: a series selector is right ({e})",
            shortened(&rule.selector)
        )
    })?;
    let keep_ms = match rule.keep.as_str() {
        FOR_EVER => None,
        text => match parse_duration(text) {
            Ok(ms) if ms >= DAY_MS => Some(ms),
            _ => {
                return Err(format!(
                    "keep: {:?}: a duration of a day or more, such as 7d, or {FOR_EVER} is right",
                    shortened(text)
                ));
            }
        },
    };
    let tenant = match rule.tenant.as_deref() {
        None => None,
        Some("default") => Some(TenantId::DEFAULT),
        Some("overseer") => Some(TenantId::OVERSEER),
        Some(other) => return Err(format!("tenant: {:?}: default or overseer is right", shortened(other))),
    };
    Ok(RetentionClass {
        selector: rule.selector.clone(),
        tenant,
        matchers,
        keep_ms,
    })
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

/// The rules as the engine takes them; the first that is wrong, named by its place.
pub fn retention_classes(rules: &[RetentionRule]) -> Result<Vec<RetentionClass>, String> {
    if rules.len() > CLASSES_MAX {
        return Err(format!(
            "store.retention: {} rules, at most {CLASSES_MAX} are right",
            rules.len()
        ));
    }
    let classes = rules.iter().enumerate();
    classes
        .map(|(i, rule)| class_of(rule).map_err(|e| format!("store.retention[{i}].{e}")))
        .collect()
}

/// Milliseconds of whole days.
pub fn keep_of_days(days: Option<u32>) -> Option<i64> {
    days.map(|days| i64::from(days) * DAY_MS)
}

/// A time to keep as `keep` would have it.
pub fn shown_keep(keep_ms: Option<i64>) -> String {
    keep_ms.map_or_else(|| FOR_EVER.to_owned(), format_duration)
}

impl Store {
    /// What the rules in force keep of what is in files, and what of it is past its time.
    pub fn retention_in_force(&self, now_ms: i64) -> Result<Vec<ClassReport>, StoreError> {
        self.retention_report(self.engine().settings().retention(), now_ms)
    }

    /// The same under other rules; nothing is changed.
    pub fn retention_report(&self, rules: Retention<'_>, now_ms: i64) -> Result<Vec<ClassReport>, StoreError> {
        self.engine()
            .retention_report(rules, now_ms)
            .map_err(|e| StoreError::Engine(e.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rule(selector: &str, keep: &str) -> RetentionRule {
        RetentionRule {
            selector: selector.into(),
            keep: keep.into(),
            tenant: None,
        }
    }

    #[test]
    fn rules_are_read_and_wrong_ones_named() {
        let good = retention_classes(&[rule("{__name__=~\"debug_.*\"}", "7d"), rule("up", "forever")]).unwrap();
        assert_eq!((good[0].keep_ms, good[1].keep_ms), (Some(7 * DAY_MS), None));
        assert_eq!(
            (shown_keep(good[0].keep_ms), shown_keep(None)),
            ("1w".into(), "forever".into())
        );
        for (bad, named) in [
            (rule("{", "7d"), "store.retention[1].match"),
            (rule("up", "7"), "store.retention[1].keep"),
            (rule("up", "5m"), "store.retention[1].keep"),
            (rule("up", "-7d"), "store.retention[1].keep"),
            (
                RetentionRule {
                    tenant: Some("x".into()),
                    ..rule("up", "7d")
                },
                "store.retention[1].tenant",
            ),
        ] {
            let e = retention_classes(&[rule("up", "7d"), bad]).unwrap_err();
            assert!(e.starts_with(named), "{e}");
        }
        let many = vec![rule("up", "7d"); CLASSES_MAX + 1];
        assert!(retention_classes(&many).unwrap_err().contains("at most 31"));
    }
}
