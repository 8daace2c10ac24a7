use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::Settings;
use crate::layers;
use crate::{Failure, terminal};

/// Everything that can be set. Each crate owns its part.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    /// Address for pages and APIs, `host:port`.
    pub(crate) listen: String,
    /// Directory for all data; absent: `overseer` in the user's data home.
    pub(crate) data_dir: Option<PathBuf>,
    /// Roles that run in this process; empty: all.
    pub(crate) roles: Vec<String>,
    /// Who may come in; absent: a token where one is given, else only this machine.
    pub(crate) auth: Option<AuthSetting>,
    /// File that holds the token which senders and people need.
    pub(crate) token_file: Option<PathBuf>,
    pub(crate) log: LogConfig,
    pub(crate) server: gateway::ServerConfig,
    pub(crate) limits: input::LimitsConfig,
    pub(crate) query: gateway::QueryConfig,
    pub(crate) store: store::StoreConfig,
    pub(crate) scrape: input::ScrapeConfig,
    pub(crate) agent: agent::Config,
}

#[derive(Clone, Copy, Debug, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum AuthSetting {
    /// Anybody who can reach the address may do everything.
    None,
    /// The token of `token_file` is needed.
    Token,
}

/// What Overseer writes about itself to standard error.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema, PartialEq)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LogConfig {
    /// error, warn, info, debug or trace, or a filter such as `info,store=debug`.
    pub(crate) level: String,
    pub(crate) format: LogFormat,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize, JsonSchema, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    #[default]
    Text,
    Json,
}

impl Default for LogConfig {
    fn default() -> Self {
        LogConfig {
            level: "info".into(),
            format: LogFormat::Text,
        }
    }
}

impl Default for Config {
    fn default() -> Self {
        Config {
            listen: "127.0.0.1:7070".into(),
            data_dir: None,
            roles: Vec::new(),
            auth: None,
            token_file: None,
            log: LogConfig::default(),
            server: gateway::ServerConfig::default(),
            limits: input::LimitsConfig::default(),
            query: gateway::QueryConfig::default(),
            store: store::StoreConfig::default(),
            scrape: input::ScrapeConfig::default(),
            agent: agent::Config::default(),
        }
    }
}

impl Config {
    /// What no type says; the first thing wrong, named by its key.
    pub(crate) fn check(&self) -> Result<(), String> {
        if self
            .listen
            .rsplit_once(':')
            .is_none_or(|(h, p)| h.is_empty() || p.parse::<u16>().is_err())
        {
            return Err(format!("listen: {:?}, host:port is right", self.listen));
        }
        if self.auth == Some(AuthSetting::Token) && self.token_file.is_none() {
            return Err("auth: token, but no token_file is given".into());
        }
        if self.auth == Some(AuthSetting::None) && self.token_file.is_some() {
            return Err("auth: none, but a token_file is given: leave one of them out".into());
        }
        crate::roles::Roles::parse(&self.roles)?;
        self.server.check()?;
        self.query.check()?;
        self.store.check()?;
        self.scrape.check()?;
        self.agent.check().map_err(|e| e.to_string())
    }
}

/// File, environment and flags together, checked.
pub(crate) fn load(settings: &Settings) -> Result<(Config, Vec<PathBuf>), Failure> {
    let (mut config, files) = layers::read(settings.config.as_deref(), std::env::vars())?;
    if let Some(listen) = &settings.listen {
        config.listen.clone_from(listen);
    }
    if let Some(dir) = &settings.data_dir {
        config.data_dir = Some(dir.clone());
    }
    if let Some(file) = &settings.token_file {
        config.token_file = Some(file.clone());
    }
    if let Some(level) = &settings.log_level {
        config.log.level.clone_from(level);
    }
    config.check().map_err(Failure::misuse)?;
    Ok((config, files))
}

pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let (config, files) = load(settings)?;
    let from = match files.as_slice() {
        [] => "no file, defaults and environment only".to_owned(),
        files => files
            .iter()
            .map(|f| f.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    };
    terminal::say(&format!("The configuration is good ({from}). In force:"));
    let shown = serde_json::to_string_pretty(&shown(&config)?).map_err(|e| Failure::failed(e.to_string()))?;
    terminal::say(&shown);
    Ok(())
}

/// The configuration in force as YAML, without secrets.
pub(crate) fn yaml(config: &Config) -> Result<String, Failure> {
    serde_saphyr::to_string(&shown(config)?).map_err(|e| Failure::failed(e.to_string()))
}

/// The configuration as it may be shown to anybody.
fn shown(config: &Config) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(config).map_err(|e| Failure::failed(e.to_string()))?;
    hide_secrets(&mut value);
    Ok(value)
}

/// What stands for a secret.
const HIDDEN: &str = "<secret>";
/// Words in the names of keys that hold secrets; a key that ends in `_file` names a file only.
const SECRET_WORDS: [&str; 6] = ["token", "password", "secret", "credential", "api_key", "private_key"];

/// Hides secrets by the names of their keys, and credentials in URLs by their place, so that a setting added later is
/// not shown before somebody thought of it.
fn hide_secrets(value: &mut Value) {
    match value {
        Value::Object(map) => {
            for (key, value) in map {
                let key = key.to_ascii_lowercase();
                let secret = !key.ends_with("_file") && SECRET_WORDS.iter().any(|w| key.contains(w));
                if secret && value.is_string() {
                    *value = HIDDEN.into();
                } else {
                    hide_secrets(value);
                }
            }
        }
        Value::Array(list) => list.iter_mut().for_each(hide_secrets),
        Value::String(text) => {
            if let Some(clean) = without_credentials(text) {
                *text = clean;
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

/// A URL without its `user:password@`; `None` when it has none.
fn without_credentials(text: &str) -> Option<String> {
    let (scheme, rest) = text.split_once("://")?;
    let authority = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let at = authority.rfind('@')?;
    Some(format!("{scheme}://{HIDDEN}{}", &rest[at..]))
}

pub(crate) fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = "overseer.yaml".into();
    schema
}

pub(crate) fn print_schema() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&schema()).map_err(|e| Failure::failed(e.to_string()))?;
    terminal::say(&text);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_shown_reads_back_and_has_no_secrets() {
        let mut config = Config {
            token_file: Some("/etc/overseer/token".into()),
            ..Config::default()
        };
        config.server.cors_origins = vec!["https://grafana.example".into()];
        let text = yaml(&config).unwrap();
        assert_eq!(serde_saphyr::from_str::<Config>(&text).unwrap(), config, "{text}");
        let mut value = serde_json::json!({
            "a": { "password": "p1", "api_token": "p2", "token_file": "f", "url": "https://u:p3@h/p?x=@" },
            "list": ["http://p4@h:1", "plain@text"],
        });
        hide_secrets(&mut value);
        assert_eq!(
            value,
            serde_json::json!({
                "a": { "password": HIDDEN, "api_token": HIDDEN, "token_file": "f", "url": "https://<secret>@h/p?x=@" },
                "list": ["http://<secret>@h:1", "plain@text"],
            })
        );
    }
}
