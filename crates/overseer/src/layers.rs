//! Defaults, then files, then environment: later ones win, key by key.
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::Failure;
use crate::config::Config;

const PREFIX: &str = "OVERSEER__";
const FROM_FILE: &str = "_FILE";
/// Where a configuration is looked for when none is named.
const PLACES: [&str; 2] = ["overseer.yaml", "/etc/overseer/overseer.yaml"];
/// Bytes of a configuration file.
const FILE_BYTES_MAX: u64 = 4 << 20;

/// The configuration and the files it came from.
pub(crate) fn read(
    named: Option<&Path>,
    environment: impl Iterator<Item = (String, String)>,
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
        // as the real type first: its errors carry line and column
        serde_saphyr::from_str::<Config>(&text)
            .map_err(|e| Failure::misuse(format!("{}: {}", file.display(), first_lines(&e.to_string()))))?;
        let layer: Value = serde_saphyr::from_str(&text)
            .map_err(|e| Failure::misuse(format!("{}: {}", file.display(), first_lines(&e.to_string()))))?;
        merge(&mut merged, layer);
    }
    let mut variables: Vec<(String, String)> = environment.filter(|(name, _)| name.starts_with(PREFIX)).collect();
    variables.sort();
    for (name, value) in variables {
        let mut next = merged.clone();
        set(&mut next, &name, &value)?;
        serde_json::from_value::<Config>(next.clone())
            .map_err(|e| Failure::misuse(format!("environment variable {name}: {e}")))?;
        merged = next;
    }
    let config = serde_json::from_value(merged).map_err(|e| Failure::misuse(e.to_string()))?;
    Ok((config, files))
}

fn value_of(config: &Config) -> Result<Value, Failure> {
    serde_json::to_value(config).map_err(|e| Failure::failed(e.to_string()))
}

fn directory(path: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = std::fs::read_dir(path).map_err(|e| Failure::misuse(format!("{}: {e}", path.display())))?;
    let mut files: Vec<PathBuf> = entries
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.extension().is_some_and(|x| x == "yaml" || x == "yml"))
        .collect();
    files.sort();
    Ok(files)
}

/// Configuration and secrets are read before there is anything to simulate, so directly.
#[expect(
    clippy::disallowed_methods,
    reason = "start-up reads of small text files, before any host exists"
)]
pub(crate) fn text_of(path: &Path) -> Result<String, Failure> {
    let named = |e: std::io::Error| Failure::misuse(format!("{}: {e}", path.display()));
    let length = std::fs::metadata(path).map_err(named)?.len();
    if length > FILE_BYTES_MAX {
        let message = format!("{}: {length} bytes, at most {FILE_BYTES_MAX} are read", path.display());
        return Err(Failure::misuse(message));
    }
    let bytes = std::fs::read(path).map_err(named)?;
    String::from_utf8(bytes).map_err(|_| Failure::misuse(format!("{}: not valid UTF-8", path.display())))
}

/// A parser's report without a long quotation of the file.
fn first_lines(text: &str) -> String {
    text.lines().take(8).collect::<Vec<_>>().join("\n")
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

/// Sets the key that a variable names. A name that is no key but is one without `_FILE` is read from that file.
fn set(config: &mut Value, name: &str, value: &str) -> Result<(), Failure> {
    let path: Vec<String> = name[PREFIX.len()..].split("__").map(str::to_ascii_lowercase).collect();
    if has(config, &path) {
        put(config, &path, scalar(value));
        return Ok(());
    }
    let mut short = path.clone();
    if let Some(last) = short.last_mut()
        && let Some(stem) = last.strip_suffix(&FROM_FILE.to_ascii_lowercase()).map(str::to_owned)
    {
        *last = stem;
        if has(config, &short) {
            let text = text_of(Path::new(value))?;
            put(config, &short, scalar(text.trim()));
            return Ok(());
        }
    }
    put(config, &path, scalar(value)); // unknown: the type will say so
    Ok(())
}

fn has(config: &Value, path: &[String]) -> bool {
    path.iter().try_fold(config, |at, key| at.get(key)).is_some()
}

fn put(config: &mut Value, path: &[String], value: Value) {
    let Some((last, parents)) = path.split_last() else {
        return;
    };
    let mut at = config;
    for key in parents {
        if !at.is_object() {
            *at = Value::Object(Default::default());
        }
        let Value::Object(map) = at else { return };
        at = map.entry(key.clone()).or_insert(Value::Null);
    }
    if !at.is_object() {
        *at = Value::Object(Default::default());
    }
    if let Value::Object(map) = at {
        map.insert(last.clone(), value);
    }
}

/// A number, a boolean, a list or an object where the text is one, else the text.
fn scalar(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|_| Value::String(text.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn env(pairs: &[(&str, &str)]) -> Result<Config, Failure> {
        let pairs: Vec<_> = pairs.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        // an empty directory: the machine's own files must not decide a test
        let dir = std::env::temp_dir().join(format!("overseer-no-config-{}", std::process::id()));
        std::fs::create_dir_all(&dir).unwrap();
        read(Some(&dir), pairs.into_iter()).map(|(c, _)| c)
    }

    #[test]
    fn the_environment_sets_keys_of_any_depth() {
        let c = env(&[
            ("OVERSEER__STORE__RETENTION_DAYS", "30"),
            ("OVERSEER__LISTEN", "127.0.0.1:1"),
            ("OVERSEER__ROLES", r#"["ingress"]"#),
            ("OTHER", "x"),
        ])
        .unwrap();
        assert_eq!(c.store.retention_days, Some(30));
        assert_eq!((c.listen.as_str(), c.roles.len()), ("127.0.0.1:1", 1));
    }

    #[test]
    fn wrong_variables_are_named() {
        for (name, value) in [
            ("OVERSEER__STORE__RETENTION", "30"),
            ("OVERSEER__STORE__SEAL_BYTES", "many"),
        ] {
            let e = env(&[(name, value)]).unwrap_err();
            assert!(e.misuse && e.message.contains(name), "{}", e.message);
        }
    }

    #[test]
    fn unknown_keys_are_errors_with_their_line() {
        let e = serde_saphyr::from_str::<Config>("listen: 127.0.0.1:1\nstor:\n  seal_bytes: 1\n").unwrap_err();
        assert!(e.to_string().contains("stor") && e.to_string().contains('2'), "{e}");
    }

    #[test]
    fn later_layers_win_key_by_key() {
        let mut base = serde_json::json!({ "a": { "b": 1, "c": 2 }, "l": [1, 2] });
        merge(&mut base, serde_json::json!({ "a": { "c": 3 }, "l": [9], "e": null }));
        assert_eq!(
            base,
            serde_json::json!({ "a": { "b": 1, "c": 3 }, "l": [9], "e": null })
        );
    }
}
