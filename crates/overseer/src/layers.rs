//! Defaults, then files, then environment: later ones win, key by key.
mod refused;
mod yaml;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Failure;
use crate::config::Config;
use yaml::Node;

pub(crate) use refused::check;

const PREFIX: &str = "OVERSEER__";
/// What somebody may write who forgot the second underscore.
const SHORT_PREFIX: &str = "OVERSEER_";
const FROM_FILE: &str = "_FILE";
/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["overseer.yaml", "/etc/overseer/overseer.yaml"];
/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// A setting whose value came out of a file behind `_FILE`: it is never shown.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct FromFile {
    variable: String,
    pub(crate) path: Vec<String>,
}

/// The configuration and the files it came from.
pub(crate) fn read(
    named: Option<&Path>,
    environment: impl Iterator<Item = (OsString, OsString)>,
) -> Result<(Config, Vec<PathBuf>), Failure> {
    let files = match named {
        Some(path) if path.is_dir() => directory(path)?,
        Some(path) => vec![path.to_path_buf()],
        None => PLACES
            .iter()
            .map(PathBuf::from)
            .find(|p| p.is_file())
            .into_iter()
            .collect(),
    };
    let mut merged = value_of(&Config::default())?;
    for file in &files {
        let text = text_of(file)?;
        let at = |line: u64, why: &str| Failure::misuse(format!("{}:{line}: {why}", file.display()));
        let node = Node::parse(&text).map_err(|(line, why)| at(line, &why))?;
        merge(&mut merged, node.value());
        refused::typed(&merged, None).map_err(|r| at(node.line(&r.path), &r.to_string()))?;
    }
    let mut from_files = Vec::new();
    for (name, value) in variables(environment)? {
        if let Some(path) = set(&mut merged, &name, &value)? {
            from_files.push(FromFile { variable: name, path });
        }
    }
    let mut config = refused::typed(&merged, None).map_err(|r| Failure::misuse(r.to_string()))?;
    config.from_files = from_files;
    Ok((config, files))
}

/// Overseer's own variables, by name. What is not its own may be any bytes.
fn variables(environment: impl Iterator<Item = (OsString, OsString)>) -> Result<Vec<(String, String)>, Failure> {
    let mut own = Vec::new();
    for (name, value) in environment {
        if !name.as_bytes().starts_with(SHORT_PREFIX.as_bytes()) {
            continue;
        }
        let text = |what: &str, bytes: &OsString| {
            bytes.to_str().map(str::to_owned).ok_or_else(|| {
                let name = name.to_string_lossy();
                Failure::misuse(format!("environment variable {name}: its {what} is not valid UTF-8"))
            })
        };
        if name.as_bytes().starts_with(PREFIX.as_bytes()) {
            own.push((text("name", &name)?, text("value", &value)?));
        } else if let Some(meant) = name.to_str().and_then(meant) {
            let shown = name.to_string_lossy();
            return Err(Failure::misuse(format!(
                "environment variable {shown}: {meant} is right"
            )));
        }
    }
    own.sort();
    Ok(own)
}

/// The variable that was meant by one that has a setting's name behind single underscores. Others are left alone:
/// a cluster sets some for every service in it, also for one called `overseer`.
fn meant(name: &str) -> Option<String> {
    let short = name.strip_prefix(SHORT_PREFIX)?;
    let all = value_of(&Config::default()).ok()?;
    let known = |long: &str| {
        let path = path_of(long);
        has(&all, &path) || without_suffix(&path).is_some_and(|p| has(&all, &p))
    };
    let sections = all
        .as_object()?
        .iter()
        .filter(|(_, v)| v.is_object())
        .filter_map(|(section, _)| {
            let rest = short.get(section.len() + 1..)?;
            short
                .to_ascii_lowercase()
                .starts_with(&format!("{section}_"))
                .then(|| format!("{}__{}", section.to_ascii_uppercase(), rest.trim_start_matches('_')))
        });
    let long = std::iter::once(short.to_owned())
        .chain(sections)
        .find(|long| known(long))?;
    Some(format!("{PREFIX}{long}"))
}

fn value_of(config: &Config) -> Result<Value, Failure> {
    serde_json::to_value(config).map_err(|e| Failure::failed(e.to_string()))
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let failed = |e: std::io::Error| Failure::misuse(format!("{}: {e}", path.display()));
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(failed)? {
        let file = entry.map_err(failed)?.path();
        if file.extension().is_some_and(|x| x == "yaml" || x == "yml") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// A file's text; its error names the path.
pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    read_text(path).map_err(|why| Failure::misuse(format!("{}: {why}", path.display())))
}

/// The text of a file that a setting names. What stands in the setting is shown only where it looks like a path:
/// somebody may have put the secret itself there.
pub(crate) fn text_named_by(setting: &str, path: &Path) -> Result<String, Failure> {
    let parent = path.parent().unwrap_or(Path::new(""));
    let shown = if !parent.as_os_str().is_empty() && parent.is_dir() {
        format!(" {}", path.display())
    } else {
        " it names".to_owned()
    };
    read_text(path).map_err(|why| Failure::misuse(format!("{setting}: the file{shown} cannot be read: {why}")))
}

/// Configuration and secrets are read before there is anything to simulate, so directly. A pipe is read like a file, and
/// neither further than to the bound: a device may have no end.
#[expect(
    clippy::disallowed_methods,
    reason = "start-up reads of small text files, before any host exists"
)]
fn read_text(path: &Path) -> Result<String, String> {
    use std::io::Read;
    let file = std::fs::File::open(path).map_err(|e| e.to_string())?;
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX + 1)
        .read_to_end(&mut bytes)
        .map_err(|e| e.to_string())?;
    if bytes.len() as u64 > FILE_BYTES_MAX {
        return Err(format!("it is longer than {FILE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map_err(|_| "it is not valid UTF-8".to_owned())
}

fn merge(base: &mut Value, layer: Value) {
    match (base, layer) {
        (Value::Object(base), Value::Object(layer)) => {
            for (key, value) in layer {
                merge(base.entry(key).or_insert(Value::Null), value);
            }
        }
        (_, Value::Null) => {} // an empty section says nothing
        (base, layer) => *base = layer,
    }
}

/// Sets the key that a variable names. A name that is no key but is one without `_FILE` is read from that file; then the
/// key's path is given back.
fn set(config: &mut Value, name: &str, value: &str) -> Result<Option<Vec<String>>, Failure> {
    let misuse = |why: String| Failure::misuse(format!("environment variable {name}: {why}"));
    let path = path_of(&name[PREFIX.len()..]);
    if has(config, &path) {
        assign(config, &path, value, None).map_err(misuse)?;
        return Ok(None);
    }
    if let Some(short) = without_suffix(&path)
        && has(config, &short)
    {
        let text = text_named_by(&format!("environment variable {name}"), Path::new(value))?;
        assign(config, &short, text.trim(), Some(&short)).map_err(misuse)?;
        return Ok(Some(short));
    }
    let known = (0..path.len()).rev().map(|n| &path[..n]).find(|p| has(config, p));
    let siblings = known.and_then(|p| at(config, p)?.as_object());
    let names: Vec<&str> = siblings.into_iter().flatten().map(|(k, _)| k.as_str()).collect();
    let right = if names.is_empty() {
        String::new()
    } else {
        format!(": one of {} is right", names.join(", "))
    };
    Err(misuse(format!("there is no setting {}{right}", path.join("."))))
}

/// Puts what the text means where it fits: a number, a boolean, a list or an object where it is one in JSON, else itself.
fn assign(config: &mut Value, path: &[String], text: &str, hidden: Option<&[String]>) -> Result<(), String> {
    let whole = Value::String(text.to_owned());
    let first = serde_json::from_str(text).unwrap_or_else(|_| whole.clone());
    put(config, path, first);
    let Err(refused) = refused::typed(config, hidden) else {
        return Ok(());
    };
    put(config, path, whole);
    if refused::typed(config, hidden).is_ok() {
        return Ok(());
    }
    Err(refused.to_string())
}

fn path_of(name: &str) -> Vec<String> {
    name.split("__").map(str::to_ascii_lowercase).collect()
}

/// The path of the setting that a variable with `_FILE` at its end is for.
fn without_suffix(path: &[String]) -> Option<Vec<String>> {
    let (last, parents) = path.split_last()?;
    let stem = last.strip_suffix(&FROM_FILE.to_ascii_lowercase())?;
    Some(parents.iter().cloned().chain([stem.to_owned()]).collect())
}

fn at<'a>(config: &'a Value, path: &[String]) -> Option<&'a Value> {
    path.iter().try_fold(config, |at, key| match at {
        Value::Array(list) => list.get(key.parse::<usize>().ok()?),
        other => other.get(key),
    })
}

fn has(config: &Value, path: &[String]) -> bool {
    at(config, path).is_some()
}

/// Puts a value at a path that is there.
fn put(config: &mut Value, path: &[String], value: Value) {
    let mut at = config;
    for key in path {
        let next = match at {
            Value::Array(list) => key.parse::<usize>().ok().and_then(|i| list.get_mut(i)),
            other => other.get_mut(key),
        };
        let Some(next) = next else { return };
        at = next;
    }
    *at = value;
}

#[cfg(test)]
mod tests;
