//! The binary: command line, configuration, wiring of the roles, shutdown. Everything it does is done by the other
//! crates; it chooses and connects.
#![forbid(unsafe_code)]

mod backup;
mod banner;
mod cli;
mod config;
mod crashtest;
mod data_dir;
mod layers;
mod log_level;
mod logging;
mod own_host;
mod progress;
mod query_command;
mod reload;
mod retention_command;
mod roles;
mod run;
mod secrets;
mod self_telemetry;
mod server_client;
mod signals;
mod terminal;
mod verify_command;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;

use crate::cli::{Cli, Command, ConfigCommand};

/// The operation failed.
const FAILED: u8 = 1;
/// The command line or the configuration is wrong.
const MISUSED: u8 = 2;

fn main() -> ExitCode {
    // what reports panics by itself panics when it cannot print
    host::report_panics(|panic| terminal::complain(&format!("a fault in Overseer (please report it): {panic}")));
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(asked) => return told(&asked),
    };
    let outcome = match cli.command {
        None => run::run(&cli.settings, &[]),
        Some(Command::Run { roles }) => run::run(&cli.settings, &roles),
        Some(Command::Backup(ask)) => backup::run(&cli.settings, &ask),
        Some(Command::Restore(ask)) => backup::restore(&cli.settings, &ask),
        Some(Command::Crashtest(ask)) => crashtest::run(&cli.settings, &ask),
        Some(Command::Retention(ask)) => retention_command::run(&cli.settings, &ask),
        Some(Command::Verify(ask)) => verify_command::run(&cli.settings, &ask),
        Some(Command::Query(ask)) => query_command::run(&cli.settings, &ask),
        Some(Command::Config {
            command: ConfigCommand::Check,
        }) => config::check(&cli.settings),
        Some(Command::Config {
            command: ConfigCommand::Schema,
        }) => config::print_schema(),
        Some(Command::Version { json }) => version(json),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.message.is_empty() {
                terminal::complain(&secrets::without_credentials(&failure.message));
            }
            ExitCode::from(if failure.misuse { MISUSED } else { FAILED })
        }
    }
}

/// Help and version on standard output, or what is wrong with the command line on standard error.
fn told(asked: &clap::Error) -> ExitCode {
    let printed = asked.print().and_then(|()| std::io::stdout().flush());
    match (asked.use_stderr(), printed) {
        (true, _) => ExitCode::from(MISUSED),
        (false, Ok(())) => ExitCode::SUCCESS,
        (false, Err(e)) => {
            terminal::complain(&format!("standard output cannot be written: {e}"));
            ExitCode::from(FAILED)
        }
    }
}

/// Why the command ends without success, in words for the person at the terminal.
#[derive(Debug)]
pub(crate) struct Failure {
    /// Empty: there is nothing to say.
    message: String,
    /// The command line or the configuration is to be changed.
    misuse: bool,
}

impl Failure {
    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            misuse: false,
        }
    }

    pub(crate) fn into_message(self) -> String {
        self.message
    }

    pub(crate) fn misuse(message: impl Into<String>) -> Self {
        Failure {
            message: message.into(),
            misuse: true,
        }
    }
}

pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

fn version(json: bool) -> Result<(), Failure> {
    if json {
        terminal::say(&serde_json::json!({ "name": "overseer", "version": VERSION }).to_string())
    } else {
        terminal::say(&format!("overseer {VERSION}"))
    }
}
