use model::TenantId;
use query::promql::{format_duration, parse_duration, parse_matchers};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use series::engine::ClassReport;
use series::retention::{CLASSES_MAX, FOR_EVER as EVER, Retention, RetentionClass, RollupKeep};

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
    /// How long rollups of a minute are kept, as `keep`; absent: none are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollup_1m: Option<String>,
    /// The same for rollups of an hour.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollup_1h: Option<String>,
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
    let keep_ms = keep_of("keep", &rule.keep)?;
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
        rollups: rollup_keep(rule.rollup_1m.as_deref(), rule.rollup_1h.as_deref())?,
    })
}

/// Milliseconds of a text such as `7d`; `None`: for ever.
fn keep_of(name: &str, text: &str) -> Result<Option<i64>, String> {
    if text == FOR_EVER {
        return Ok(None);
    }
    match parse_duration(text) {
        Ok(ms) if ms >= DAY_MS => Ok(Some(ms)),
        _ => Err(format!(
            "{name}: {:?}: a duration of a day or more, such as 7d, or {FOR_EVER} is right",
            shortened(text)
        )),
    }
}

/// How long rollups are kept, of texts as in `keep`; the one that is wrong is named.
pub fn rollup_keep(minute: Option<&str>, hour: Option<&str>) -> Result<RollupKeep, String> {
    let keep = |name: &str, text: Option<&str>| match text {
        None => Ok(None),
        Some(text) => keep_of(name, text).map(|ms| Some(ms.unwrap_or(EVER))),
    };
    Ok(RollupKeep {
        minute_ms: keep("rollup_1m", minute)?,
        hour_ms: keep("rollup_1h", hour)?,
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

/// The last millisecond of a UTC date as `2026-12-31`.
pub(crate) fn end_of_date(text: &str) -> Option<i64> {
    let parts: Vec<&str> = text.split('-').collect();
    let [year, month, day] = parts[..] else { return None };
    let number = |text: &str, digits: usize| {
        let plain = text.len() == digits && text.bytes().all(|b| b.is_ascii_digit());
        plain.then(|| text.parse::<i64>().ok()).flatten()
    };
    let (year, month, day) = (number(year, 4)?, number(month, 2)?, number(day, 2)?);
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let lengths = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];
    let length = *lengths.get(usize::try_from(month - 1).ok()?)?;
    if !(1..=length).contains(&day) {
        return None;
    }
    let before = year - 1;
    // days from the first of year 1 to 1970
    const TO_1970: i64 = 719_162;
    let of_years = before * 365 + before / 4 - before / 100 + before / 400 - TO_1970;
    let of_months: i64 = lengths[..(month - 1) as usize].iter().sum();
    Some((of_years + of_months + day) * DAY_MS - 1)
}

/// Milliseconds of whole days.
pub fn keep_of_days(days: Option<u32>) -> Option<i64> {
    days.map(|days| i64::from(days) * DAY_MS)
}

/// A time to keep as `keep` would have it.
pub fn shown_keep(keep_ms: Option<i64>) -> String {
    keep_ms.map_or_else(|| FOR_EVER.to_owned(), format_duration)
}

/// A time to keep rollups as `rollup_1h` would have it; `no` where they are not asked for.
pub fn shown_rollup_keep(keep_ms: Option<i64>) -> String {
    match keep_ms {
        None => "no".to_owned(),
        Some(ms) => shown_keep(Some(ms).filter(|&ms| ms != EVER)),
    }
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
            rollup_1m: None,
            rollup_1h: None,
            tenant: None,
        }
    }

    #[test]
    fn dates_are_read() {
        for (text, day) in [
            ("1970-01-01", 1),
            ("1970-03-01", 60),
            ("2000-03-01", 11_018),
            ("2026-12-01", 20_789),
        ] {
            assert_eq!(end_of_date(text), Some(day * DAY_MS - 1), "{text}");
        }
        for text in [
            "",
            "2026",
            "2026-13-01",
            "2026-00-10",
            "2026-02-29",
            "2026-1-01",
            "2026-12-32",
            "+026-12-01",
            "a-b-c",
        ] {
            assert_eq!(end_of_date(text), None, "{text}");
        }
        assert!(end_of_date("2024-02-29").is_some() && end_of_date("2100-02-29").is_none());
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
        let rolled = RetentionRule {
            rollup_1m: Some("30d".into()),
            rollup_1h: Some("forever".into()),
            ..rule("up", "7d")
        };
        assert_eq!(
            retention_classes(std::slice::from_ref(&rolled)).unwrap()[0].rollups,
            RollupKeep {
                minute_ms: Some(30 * DAY_MS),
                hour_ms: Some(EVER),
            }
        );
        let wrong = RetentionRule {
            rollup_1h: Some("1h".into()),
            ..rolled
        };
        let e = retention_classes(&[wrong]).unwrap_err();
        assert!(e.starts_with("store.retention[0].rollup_1h: \"1h\""), "{e}");
        let many = vec![rule("up", "7d"); CLASSES_MAX + 1];
        assert!(retention_classes(&many).unwrap_err().contains("at most 31"));
    }
}
