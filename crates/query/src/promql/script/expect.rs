use super::super::value::{Point, Value};
use super::command::{Eval, Match};
use super::compare::{at_time, compare, sorted};
use super::vary::{asks_for_range, pinned};
use super::{Answer, Target};

/// The query that went wrong, and how.
type Wrong = (String, String);

/// Runs a query and everything that must answer the same: an instant query also pinned to its time by `@` at other
/// times, and each of these as the middle step of a range.
pub(super) fn check(eval: &Eval, target: &mut dyn Target) -> Result<(), Wrong> {
    let wrong = |query: &str| {
        let query = query.to_owned();
        move |what: String| (query, what)
    };
    if eval.is_range {
        let (start, end, step) = eval.range;
        let answer = target.range(&eval.query, start, end, step);
        let Some(answer) = settle(eval, answer).map_err(wrong(&eval.query))? else {
            return Ok(());
        };
        return compare(eval, &answer.value).map_err(wrong(&eval.query));
    }
    let mut queries = vec![(eval.query.clone(), eval.at_ms)];
    queries.extend(pinned(&eval.query, eval.at_ms));
    for (query, at_ms) in queries {
        let described = format!("{query} at {at_ms} ms");
        let Some(answer) = settle(eval, target.instant(&query, at_ms)).map_err(wrong(&described))? else {
            continue;
        };
        compare(eval, &answer.value).map_err(wrong(&described))?;
        let only_instant = eval.is_range_vector || eval.string.is_some() || asks_for_range(&query);
        if !only_instant {
            as_range(eval, target, &query, at_ms).map_err(wrong(&format!("{described} in range mode")))?;
        }
    }
    Ok(())
}

fn as_range(eval: &Eval, target: &mut dyn Target, query: &str, at_ms: i64) -> Result<(), String> {
    const MINUTE_MS: i64 = 60_000;
    let answer = target.range(query, at_ms - MINUTE_MS, at_ms + MINUTE_MS, MINUTE_MS)?;
    if eval.ordered {
        return Ok(());
    }
    let Value::Matrix(series) = &answer.value else {
        return Err(format!("a range query answered a {}", answer.value.type_name()));
    };
    sorted(series)?;
    let vector = at_time(series, at_ms);
    match (eval.scalar, vector.first().map(|s| &s.point)) {
        (Some(_), Some(Point::Float(v))) => compare(eval, &Value::Scalar { at_ms, value: *v }),
        (Some(_), _) => Err("no scalar at the middle step".into()),
        (None, _) => compare(eval, &Value::Vector(vector)),
    }
}

/// Judges success, failure and annotations; `None` when the query failed as it should.
fn settle(eval: &Eval, answer: Result<Answer, String>) -> Result<Option<Answer>, String> {
    match (answer, &eval.fail) {
        (Err(e), Some(wanted)) if wanted.matches(&e) => Ok(None),
        (Err(e), Some(wanted)) => Err(format!("expected an error matching {wanted}, but got: {e}")),
        (Err(e), None) => Err(format!("error evaluating query: {e}")),
        (Ok(_), Some(_)) => Err("expected error evaluating query but got none".into()),
        (Ok(answer), None) => {
            annotations("warn", &eval.warn, eval.no_warn, &answer.warnings)?;
            annotations("info", &eval.info, eval.no_info, &answer.infos)?;
            Ok(Some(answer))
        }
    }
}

fn annotations(kind: &str, wanted: &[Match], none: bool, found: &[String]) -> Result<(), String> {
    if none && !found.is_empty() {
        return Err(format!("unexpected {kind} annotations: {found:?}"));
    }
    if wanted.is_empty() {
        return Ok(());
    }
    if let Some(w) = wanted.iter().find(|w| !found.iter().any(|f| w.matches(f))) {
        return Err(format!("expected {kind} annotation matching {w}, found: {found:?}"));
    }
    match found.iter().find(|f| !wanted.iter().any(|w| w.matches(f))) {
        Some(f) => Err(format!("unexpected {kind} annotation {f:?}")),
        None => Ok(()),
    }
}
