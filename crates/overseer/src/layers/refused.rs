//! What is wrong with a configuration, in words that give away no secret.
use std::fmt;

use serde_json::Value;
use serde_path_to_error::Segment;

use super::{at, put, value_of};
use crate::Failure;
use crate::config::Config;
use crate::secrets::{HIDDEN, near_a_login, without_logins};

/// A value that is not of its setting's kind.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) path: Vec<String>,
    why: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.path.is_empty() {
            return f.write_str(&self.why);
        }
        for (n, part) in self.path.iter().enumerate() {
            match part.parse::<usize>() {
                Ok(index) => write!(f, "[{index}]")?,
                Err(_) if n == 0 => f.write_str(part)?,
                Err(_) => write!(f, ".{part}")?,
            }
        }
        write!(f, ": {}", self.why)
    }
}

/// The value as a configuration. What stands at or below `hidden`, or near a login, is not shown when it is refused.
pub(super) fn typed(value: &Value, hidden: Option<&[String]>) -> Result<Config, Refused> {
    let (path, why) = match parse(value) {
        Ok(config) => return Ok(config),
        Err(refused) => refused,
    };
    let from_file = hidden.is_some_and(|h| path.starts_with(h) || h.starts_with(&path));
    // it names the key alone, and what there is
    let key_only = why.starts_with("unknown field") || why.starts_with("missing field");
    if !from_file && (key_only || !near_a_login(&path)) {
        let why = without_logins(&why);
        return Err(Refused { path, why });
    }
    let path = match hidden.filter(|_| from_file) {
        Some(hidden) => hidden.to_vec(),
        None => path,
    };
    // the error of a value that may be shown says what would be right
    let mut other = value.clone();
    put(&mut other, &path, HIDDEN.into());
    let why = match parse(&other) {
        Err((place, why)) if place == path => why,
        _ => "what stands there is of another kind than the setting (it is not shown)".to_owned(),
    };
    Err(Refused { path, why })
}

/// The first place where a section is no mapping: a list would be taken for its keys in order.
fn no_section(value: &Value, defaults: &Value, path: &mut Vec<String>) -> bool {
    let Value::Object(defaults) = defaults else {
        return false;
    };
    let Value::Object(map) = value else { return true };
    for (key, value) in map {
        path.push(key.clone());
        if defaults.get(key).is_some_and(|d| no_section(value, d, path)) {
            return true;
        }
        path.pop();
    }
    false
}

fn parse(value: &Value) -> Result<Config, (Vec<String>, String)> {
    let mut path = Vec::new();
    if value_of(&Config::default()).is_ok_and(|defaults| no_section(value, &defaults, &mut path)) {
        return Err((path, "a mapping of settings is right".to_owned()));
    }
    serde_path_to_error::deserialize(value).map_err(|e| {
        let mut path: Vec<String> = e
            .path()
            .iter()
            .filter_map(|segment| match segment {
                Segment::Seq { index } => Some(index.to_string()),
                Segment::Map { key } => Some(key.clone()),
                Segment::Enum { .. } | Segment::Unknown => None,
            })
            .collect();
        let mut why = e.into_inner().to_string();
        let field = why
            .strip_prefix("unknown field `")
            .and_then(|rest| rest.split('`').next());
        if let Some(field) = field.filter(|f| path.last().is_none_or(|last| last != f)) {
            path.push(field.to_owned());
        }
        if why.ends_with("expected a sequence") {
            why.push_str(" (a list in brackets: [\"a\", \"b\"])");
        }
        (path, why)
    })
}

/// What [`Config::check`] finds. It may show the value that is wrong, so a value out of a file behind `_FILE` is not
/// there when it is asked.
pub(crate) fn check(config: &Config) -> Result<(), Failure> {
    let Err(why) = config.check() else { return Ok(()) };
    let misuse = |why: &str| Failure::misuse(without_logins(why));
    if config.from_files.is_empty() {
        return Err(misuse(&why));
    }
    let (given, defaults) = (value_of(config)?, value_of(&Config::default())?);
    let mut without = given.clone();
    for f in &config.from_files {
        put(
            &mut without,
            &f.path,
            at(&defaults, &f.path).cloned().unwrap_or_default(),
        );
    }
    let wrong = |value: &Value| parse(value).map(|c| c.check().err());
    if let Ok(Some(why)) = wrong(&without) {
        return Err(misuse(&why));
    }
    for f in &config.from_files {
        let mut one = without.clone();
        put(&mut one, &f.path, at(&given, &f.path).cloned().unwrap_or_default());
        if matches!(wrong(&one), Ok(None)) {
            continue;
        }
        put(&mut one, &f.path, HIDDEN.into());
        let name = f.path.join(".");
        let why = match wrong(&one) {
            Ok(Some(why)) if why.contains(HIDDEN) => why,
            _ => format!("{name}: what stands in its file is not right (it is not shown)"),
        };
        return Err(misuse(&format!("environment variable {}: {why}", f.variable)));
    }
    let names: Vec<&str> = config.from_files.iter().map(|f| f.variable.as_str()).collect();
    Err(misuse(&format!(
        "environment variables {}: what stands in their files does not go together",
        names.join(", ")
    )))
}
