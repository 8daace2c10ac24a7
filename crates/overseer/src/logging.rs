use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

use crate::Failure;
use crate::config::{LogConfig, LogFormat};

/// Starts writing log lines to standard error.
pub(crate) fn start(config: &LogConfig) -> Result<(), Failure> {
    let filter = EnvFilter::try_new(&config.level)
        .map_err(|e| Failure::misuse(format!("log.level: {:?} is no level or filter: {e}", config.level)))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal());
    let done = match config.format {
        LogFormat::Text => builder.with_target(true).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
    done.map_err(|e| Failure::failed(format!("cannot start logging: {e}")))
}
