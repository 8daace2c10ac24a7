use std::collections::BTreeMap;
use std::path::PathBuf;

use gateway::{AuthMode, Gateway};
use serde_json::Value;

use crate::config::{self, Config};
use crate::logging::{self, Logging};
use crate::{Failure, run};

/// Reads file, environment and flags as at the start.
pub(crate) type Load<'a> = &'a (dyn Fn() -> Result<(Config, Vec<PathBuf>), Failure> + Sync);

/// What a reload takes over, by the names of their keys; the file of the token is read again in any case.
const LOG_LEVEL: &str = "log.level";
const TOKEN_FILE: &str = "token_file";

/// Takes over a changed configuration, as far as that is possible while the process runs.
pub(crate) struct Reloader<'a> {
    /// What is in force.
    running: Config,
    load: Load<'a>,
    auth: AuthMode,
    logging: &'a Logging,
    gateway: Gateway,
}

/// What a new configuration means for the one in force.
#[derive(Debug, PartialEq)]
struct Plan {
    /// What will be in force.
    config: Config,
    taken: Vec<String>,
    /// Changed keys that a restart takes over.
    later: Vec<String>,
}

impl<'a> Reloader<'a> {
    pub(crate) fn new(
        running: Config,
        load: Load<'a>,
        auth: AuthMode,
        logging: &'a Logging,
        gateway: Gateway,
    ) -> Reloader<'a> {
        Reloader {
            running,
            load,
            auth,
            logging,
            gateway,
        }
    }

    /// Takes over what may be, or nothing when anything is wrong; says what it did, also in the log.
    pub(crate) fn reload(&mut self, by: &str) -> Result<String, String> {
        let outcome = self.try_reload();
        match &outcome {
            Ok(done) => tracing::info!(by, "{done}"),
            Err(wrong) => tracing::error!(by, "the configuration was not reloaded, the one before stays: {wrong}"),
        }
        self.gateway.note_reload(outcome.is_ok());
        outcome
    }

    fn try_reload(&mut self) -> Result<String, String> {
        let (new, _) = (self.load)().map_err(Failure::into_message)?;
        let mut plan = plan(&self.running, &new)?;
        // everything that can fail comes before the first change
        let yaml = config::yaml(&plan.config).map_err(Failure::into_message)?;
        logging::filter_of(&plan.config.log.level)?;
        let token = match (&self.auth, run::auth_of(&plan.config).map_err(Failure::into_message)?) {
            (AuthMode::Token(_), AuthMode::Token(token)) => Some(token),
            _ => None,
        };
        self.logging.set_level(&plan.config.log.level)?;
        if let Some(token) = token
            && self.gateway.replace_token(&token)
        {
            plan.taken
                .push("the token (sessions of the old one have ended)".to_owned());
        }
        self.gateway.reopen_logs();
        self.gateway.show_config(yaml);
        self.running = plan.config;
        Ok(said(&plan.taken, &plan.later))
    }
}

/// Only keys are named, never values: some are secret.
fn plan(running: &Config, new: &Config) -> Result<Plan, String> {
    let (old, wanted) = (keys(running)?, keys(new)?);
    let mut config = running.clone();
    config.from_files.extend(new.from_files.iter().cloned());
    let (mut taken, mut later) = (Vec::new(), Vec::new());
    let names: std::collections::BTreeSet<&String> = old.keys().chain(wanted.keys()).collect();
    for name in names.into_iter().filter(|&n| old.get(n) != wanted.get(n)) {
        match name.as_str() {
            LOG_LEVEL => {
                config.log.level.clone_from(&new.log.level);
                taken.push(name.clone());
            }
            // with a token or without one: that is decided at the start, together with the address
            TOKEN_FILE if running.token_file.is_some() && new.token_file.is_some() => {
                config.token_file.clone_from(&new.token_file);
                taken.push(name.clone());
            }
            _ => later.push(name.clone()),
        }
    }
    Ok(Plan { config, taken, later })
}

fn said(taken: &[String], later: &[String]) -> String {
    let taken = match taken {
        [] => "nothing that can be taken over has changed".to_owned(),
        taken => format!("taken over: {}", taken.join(", ")),
    };
    match later {
        [] => format!("configuration reloaded: {taken}"),
        later => format!(
            "configuration reloaded: {taken}; after a restart only: {}",
            later.join(", ")
        ),
    }
}

/// All values by the paths of their keys, such as `log.level`; a list is one value.
fn keys(config: &Config) -> Result<BTreeMap<String, Value>, String> {
    let mut all = BTreeMap::new();
    let value = serde_json::to_value(config).map_err(|e| e.to_string())?;
    flatten("", value, &mut all);
    Ok(all)
}

fn flatten(path: &str, value: Value, all: &mut BTreeMap<String, Value>) {
    match value {
        Value::Object(map) if !map.is_empty() => {
            for (key, value) in map {
                let path = if path.is_empty() { key } else { format!("{path}.{key}") };
                flatten(&path, value, all);
            }
        }
        value => drop(all.insert(path.to_owned(), value)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_takes_what_it_can_and_names_the_rest_without_values() {
        let running = Config {
            token_file: Some("/a".into()),
            ..Config::default()
        };
        let mut new = running.clone();
        new.log.level = "debug".into();
        new.token_file = Some("/b".into());
        new.store.retention_days = Some(7);
        new.server.cors_origins = Some(vec!["https://user:secret@host".into()]);
        let plan = plan(&running, &new).unwrap();
        assert_eq!(plan.taken, ["log.level", "token_file"]);
        assert_eq!(plan.later, ["server.cors_origins", "store.retention_days"]);
        assert_eq!(plan.config.log.level, "debug");
        assert_eq!(
            plan.config.store, running.store,
            "what is shown as in force is what is in force"
        );
        let said = said(&plan.taken, &plan.later);
        assert_eq!(
            said,
            "configuration reloaded: taken over: log.level, token_file; after a restart only: server.cors_origins, \
             store.retention_days"
        );
    }

    #[test]
    fn whether_there_is_a_login_changes_with_a_restart_only() {
        let running = Config::default();
        let mut new = running.clone();
        new.token_file = Some("/b".into());
        let plan = plan(&running, &new).unwrap();
        assert_eq!(
            (plan.taken.len(), plan.later.as_slice()),
            (0, &["token_file".to_owned()][..])
        );
        assert_eq!(plan.config, running);
        assert!(said(&[], &[]).ends_with("nothing that can be taken over has changed"));
    }
}
