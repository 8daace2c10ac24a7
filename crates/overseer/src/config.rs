use std::path::{Path, PathBuf};

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::cli::Settings;
use crate::layers::{self, FromFile};
use crate::secrets::{self, HIDDEN};
use crate::{Failure, log_level, terminal};

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
    /// What came from files behind `_FILE`.
    #[serde(skip)]
    #[schemars(skip)]
    pub(crate) from_files: Vec<FromFile>,
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
            from_files: Vec::new(),
        }
    }
}

impl Config {
    /// What no type says; the first thing wrong, named by its key.
    pub(crate) fn check(&self) -> Result<(), String> {
        if !input::is_host_and_port(&self.listen) {
            return Err(format!("listen: {:?}, host:port is right", shortened(&self.listen)));
        }
        for (name, path) in [("data_dir", &self.data_dir), ("token_file", &self.token_file)] {
            if path.as_ref().is_some_and(|p| p.as_os_str().is_empty()) {
                return Err(format!("{name}: it is empty, a path is right"));
            }
        }
        log_level::check(&self.log.level)?;
        if self.auth == Some(AuthSetting::Token) && self.token_file.is_none() {
            return Err("auth: token, but no token_file is given".into());
        }
        if self.auth == Some(AuthSetting::None) && self.token_file.is_some() {
            return Err("auth: none, but a token_file is given: leave one of them out".into());
        }
        crate::roles::Roles::parse(&self.roles)?;
        self.server.check()?;
        self.limits.check()?;
        self.query.check()?;
        self.store.check()?;
        self.scrape.check()?;
        self.agent.check().map_err(|e| e.to_string())
    }
}

/// File, environment and flags together, checked.
pub(crate) fn load(settings: &Settings) -> Result<(Config, Vec<PathBuf>), Failure> {
    for (flag, path) in [
        ("--data-dir", &settings.data_dir),
        ("--token-file", &settings.token_file),
    ] {
        if path.as_ref().is_some_and(|p| p.to_str().is_none()) {
            return Err(Failure::misuse(format!("{flag}: the path is not valid UTF-8")));
        }
    }
    let (mut config, files) = layers::read(settings.config.as_deref(), std::env::vars_os())?;
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
    layers::check(&config)?;
    Ok((config, files))
}

pub(crate) fn check(settings: &Settings) -> Result<(), Failure> {
    let (config, files) = load(settings)?;
    secret_files_are_there(&config)?;
    let from = match files.as_slice() {
        [] => "no file, defaults and environment only".to_owned(),
        files => files
            .iter()
            .map(|f| f.display().to_string())
            .collect::<Vec<_>>()
            .join(", "),
    };
    let shown = serde_json::to_string_pretty(&shown(&config)?).map_err(|e| Failure::failed(e.to_string()))?;
    terminal::say(&format!("The configuration is good ({from}). In force:"))?;
    terminal::say(&shown)
}

/// A start would fail without them.
fn secret_files_are_there(config: &Config) -> Result<(), Failure> {
    if let Some(file) = &config.token_file {
        let text = layers::text_named_by("token_file", file)?;
        gateway::Token::parse(&text).map_err(|e| Failure::misuse(format!("token_file {}: {e}", file.display())))?;
    }
    for (i, job) in config.scrape.jobs.iter().enumerate() {
        if let Some(file) = &job.token_file {
            layers::text_named_by(&format!("scrape.jobs[{i}].token_file"), Path::new(file))?;
        }
    }
    Ok(())
}

/// The configuration in force as YAML, without secrets.
pub(crate) fn yaml(config: &Config) -> Result<String, Failure> {
    serde_saphyr::to_string(&shown(config)?).map_err(|e| Failure::failed(e.to_string()))
}

/// The configuration as it may be shown to anybody.
fn shown(config: &Config) -> Result<Value, Failure> {
    let mut value = serde_json::to_value(config).map_err(|e| Failure::failed(e.to_string()))?;
    secrets::hide(&mut value);
    for from in &config.from_files {
        let place = from.path.iter().try_fold(&mut value, |at, key| at.get_mut(key));
        if let Some(value) = place {
            *value = HIDDEN.into();
        }
    }
    Ok(value)
}

/// A value as it stands in an error.
fn shortened(text: &str) -> String {
    const SHOWN_MAX: usize = 80;
    text.chars().take(SHOWN_MAX).collect()
}

pub(crate) fn schema() -> serde_json::Value {
    let mut schema = schemars::schema_for!(Config).to_value();
    schema["title"] = "overseer.yaml".into();
    schema
}

pub(crate) fn print_schema() -> Result<(), Failure> {
    let text = serde_json::to_string_pretty(&schema()).map_err(|e| Failure::failed(e.to_string()))?;
    terminal::say(&text)
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
        config.server.cors_origins = Some(vec!["https://grafana.example".into()]);
        let text = yaml(&config).unwrap();
        assert_eq!(serde_saphyr::from_str::<Config>(&text).unwrap(), config, "{text}");
        let mut value = serde_json::json!({
            "a": { "password": "p1", "api_token": "p2", "token_file": "f", "url": "https://u:p3@h/p?x=@" },
            "list": ["http://p4@h:1", "plain@text"],
        });
        secrets::hide(&mut value);
        assert_eq!(
            value,
            serde_json::json!({
                "a": { "password": HIDDEN, "api_token": HIDDEN, "token_file": "f", "url": "https://<secret>@h/p?x=@" },
                "list": ["http://<secret>@h:1", "plain@text"],
            })
        );
    }

    #[test]
    fn likely_mistakes_are_refused_by_name() {
        let wrong = |change: fn(&mut Config)| {
            let mut config = Config::default();
            change(&mut config);
            config.check().unwrap_err()
        };
        type Case = (fn(&mut Config), &'static str);
        let cases: [Case; 12] = [
            (|c| c.listen = "localhost".into(), "listen: "),
            (|c| c.listen = ":7070".into(), "listen: "),
            (|c| c.listen = "a b:1".into(), "listen: "),
            (|c| c.listen = "http://localhost:1".into(), "listen: "),
            (|c| c.listen = "::1:7070".into(), "listen: "),
            (|c| c.data_dir = Some("".into()), "data_dir: "),
            (|c| c.token_file = Some("".into()), "token_file: "),
            (|c| c.log.level = "warning".into(), "log.level: "),
            (|c| c.limits.body_bytes_max = 0, "limits.body_bytes_max: "),
            (|c| c.limits.decoded_bytes_max = 0, "limits.decoded_bytes_max: "),
            (|c| c.limits.labels_max = 0, "limits.labels_max: "),
            (|c| c.limits.label_name_bytes_max = 7, "limits.label_name_bytes_max: "),
        ];
        for (change, says) in cases {
            let why = wrong(change);
            assert!(why.starts_with(says), "{why}");
        }
        for listen in ["127.0.0.1:0", "[::1]:7070", "localhost:7070", "0.0.0.0:80"] {
            let config = Config {
                listen: listen.into(),
                ..Config::default()
            };
            config.check().unwrap();
        }
    }
}
