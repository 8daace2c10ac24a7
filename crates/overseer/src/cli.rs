use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// What every command that has no other says with its status.
const EXIT_CODES: &str =
    "Exit codes: 0 done, 1 failed or the output could not be written, 2 wrong command line or configuration.";

/// Observability in one binary: metrics now; logs, traces, errors and probes to come.
///
/// Without a command Overseer runs all its roles in one process: it keeps its data in one directory, serves its pages
/// and APIs on 127.0.0.1:7070 and watches the host it runs on.
#[derive(Debug, Parser)]
#[command(name = "overseer", version, max_term_width = 100)]
#[command(
    after_help = "Exit codes: 0 done, 1 failed or the output could not be written, 2 wrong command line or configuration.\n\
Every setting can also be given in the environment: OVERSEER__STORE__RETENTION_DAYS=30 sets store.retention_days;\n\
with _FILE behind the name, the value is read from that file."
)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub(crate) settings: Settings,
    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Settings that are given often enough to be flags. They win over the environment, which wins over the file.
#[derive(Debug, Default, Args)]
pub(crate) struct Settings {
    /// Configuration: a YAML file, or a directory whose *.yaml files are read in order of their names.
    /// Without it ./overseer.yaml and /etc/overseer/overseer.yaml are tried.
    #[arg(long, global = true, value_name = "PATH", env = "OVERSEER_CONFIG")]
    pub(crate) config: Option<PathBuf>,
    /// Directory for all data. Default: overseer/ in the user's data home.
    #[arg(long, global = true, value_name = "DIR")]
    pub(crate) data_dir: Option<PathBuf>,
    /// Address for pages and APIs. Beyond this machine only with --token-file.
    #[arg(long, global = true, value_name = "HOST:PORT")]
    pub(crate) listen: Option<String>,
    /// File that holds the token which senders and people need.
    #[arg(long, global = true, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// error, warn, info, debug or trace, or a filter such as info,store=debug.
    #[arg(long, global = true, value_name = "LEVEL")]
    pub(crate) log_level: Option<String>,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run the chosen roles.
    #[command(after_help = EXIT_CODES)]
    Run {
        /// ingress, processor, store, gateway, agent; comma-separated. Default: all.
        #[arg(long, value_delimiter = ',', value_name = "ROLE,…")]
        roles: Vec<String>,
    },
    /// Ask a running Overseer (or any Prometheus) a PromQL question.
    #[command(after_help = EXIT_CODES)]
    Query(QueryArgs),
    /// Copy everything taken so far to another place, or list, check and delete such backups.
    ///
    /// The server on this machine makes a snapshot, and goes on. Where none runs, the data directory is used itself. Files
    /// that an earlier backup in DIR holds are not copied again.
    #[command(
        after_help = "Exit codes: 0 done, 1 failed, or something is damaged or missing (each is named), \
2 wrong command line or configuration."
    )]
    Backup(BackupArgs),
    /// Make a data directory from a backup, and check it.
    #[command(
        after_help = "Exit codes: 0 all of it is there and whole, 1 failed, or something is damaged or missing (each is named), \
2 wrong command line or configuration."
    )]
    Restore(RestoreArgs),
    /// Show what a server's retention keeps of each class, and what would go.
    #[command(after_help = EXIT_CODES)]
    Retention(RetentionArgs),
    /// Read and check every stored byte of a data directory that no Overseer uses.
    ///
    /// Files are decoded down to each sample and held against manifest, footers and log. Nothing is changed.
    #[command(after_help = "Exit codes: 0 clean, 1 damage found (each is named), 2 it could not be checked or told.")]
    Verify(VerifyArgs),
    /// Prove on this machine's disk that what is acknowledged survives kill -9.
    ///
    /// Starts a server of its own in an empty directory, writes, kills it at any moment, starts it again and compares, over
    /// and over. Everything acknowledged must be there once and as it was sent.
    #[command(
        after_help = "Exit codes: 0 everything held, 1 something was lost, doubled, changed or invented, \
2 it could not be tested or told."
    )]
    Crashtest(CrashtestArgs),
    /// Look at the configuration.
    Config {
        #[command(subcommand)]
        command: ConfigCommand,
    },
    /// Print the version.
    #[command(after_help = EXIT_CODES)]
    Version {
        /// As JSON.
        #[arg(long)]
        json: bool,
    },
}

#[derive(Debug, Subcommand)]
pub(crate) enum ConfigCommand {
    /// Read file, environment and flags, and say what is wrong or what is in force.
    #[command(after_help = EXIT_CODES)]
    Check,
    /// Print the JSON Schema of overseer.yaml.
    #[command(after_help = EXIT_CODES)]
    Schema,
}

/// Examples: overseer backup --to /mnt/backup --keep 14   ·   overseer backup --to /mnt/backup --list
#[derive(Debug, Args)]
pub(crate) struct BackupArgs {
    /// Directory that holds the backups; made where it is missing.
    #[arg(long, value_name = "DIR")]
    pub(crate) to: PathBuf,
    /// Server to back up; it must run on this machine. Default: the configured listen address.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Afterwards delete all but the newest N.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) keep: Option<u32>,
    /// List the backups in DIR; make none.
    #[arg(long, conflicts_with_all = ["delete", "check", "keep", "url"])]
    pub(crate) list: bool,
    /// Delete this backup; make none.
    #[arg(long, value_name = "NAME", conflicts_with_all = ["check", "keep", "url"])]
    pub(crate) delete: Option<String>,
    /// Read all files of all backups and hold them against their checksums; make none.
    #[arg(long, conflicts_with_all = ["keep", "url"])]
    pub(crate) check: bool,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Example: overseer restore --from /mnt/backup --data-dir /var/lib/overseer
#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    /// Directory that holds the backups.
    #[arg(long, value_name = "DIR")]
    pub(crate) from: PathBuf,
    /// Which of them. Default: the newest.
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Example: overseer crashtest --data-dir /mnt/new-disk/test --seconds 300
#[derive(Debug, Args)]
pub(crate) struct CrashtestArgs {
    /// How long to go on.
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) seconds: u32,
    /// How often to kill, instead of for how long.
    #[arg(long, value_name = "N", conflicts_with = "seconds", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) cycles: Option<u32>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Examples: overseer retention   ·   overseer retention --dry-run --config new.yaml
#[derive(Debug, Args)]
pub(crate) struct RetentionArgs {
    /// Under the rules of the configuration here instead of those in force: see what they would delete before they do.
    #[arg(long)]
    pub(crate) dry_run: bool,
    /// Server to ask. Default: the configured listen address on this machine.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Example: overseer verify --data-dir /var/lib/overseer
#[derive(Debug, Args)]
pub(crate) struct VerifyArgs {
    /// Of the server that runs on this machine: it makes a snapshot, which is checked and deleted.
    #[arg(long)]
    pub(crate) snapshot: bool,
    /// That server. Default: the configured listen address.
    #[arg(long, value_name = "URL", requires = "snapshot")]
    pub(crate) url: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Examples: overseer query 'up'   ·   overseer query 'rate(node_cpu_seconds_total[5m])' --range 1h
#[derive(Debug, Args)]
pub(crate) struct QueryArgs {
    /// The PromQL expression.
    pub(crate) expr: String,
    /// Over the last so long (such as 15m, 6h, 7d) instead of at one moment.
    #[arg(long, value_name = "DURATION")]
    pub(crate) range: Option<String>,
    /// Step of the range; default: 60 points over it.
    #[arg(long, value_name = "DURATION", requires = "range")]
    pub(crate) step: Option<String>,
    /// The moment (or the range's end): Unix seconds or RFC 3339. Default: now.
    #[arg(long, value_name = "TIME")]
    pub(crate) time: Option<String>,
    /// Server to ask. Default: the configured listen address on this machine.
    #[arg(long, value_name = "URL")]
    pub(crate) url: Option<String>,
    /// Print the server's JSON as it is.
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_well_formed() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_tells_its_exit_codes() {
        fn look(command: &clap::Command, path: &str) {
            let leaf = command.get_subcommands().all(|c| c.get_name() == "help");
            let told = command
                .get_after_help()
                .is_some_and(|h| h.to_string().contains("Exit codes: 0 "));
            assert!(told || !leaf, "{path}");
            for inner in command.get_subcommands().filter(|c| c.get_name() != "help") {
                look(inner, &format!("{path} {}", inner.get_name()));
            }
        }
        look(&Cli::command(), "overseer");
    }

    #[test]
    fn a_test_of_nothing_is_refused() {
        for args in [["--seconds", "0"], ["--cycles", "0"]] {
            assert!(Cli::try_parse_from(["overseer", "crashtest"].iter().chain(&args)).is_err());
        }
    }

    #[test]
    fn flags_go_before_and_after_the_command() {
        let a = Cli::try_parse_from(["overseer", "--listen", "x:1", "run", "--roles", "ingress,store"]).unwrap();
        let b = Cli::try_parse_from(["overseer", "run", "--roles", "ingress,store", "--listen", "x:1"]).unwrap();
        for cli in [a, b] {
            assert_eq!(cli.settings.listen.as_deref(), Some("x:1"));
            assert!(matches!(cli.command, Some(Command::Run { roles }) if roles == ["ingress", "store"]));
        }
    }
}
