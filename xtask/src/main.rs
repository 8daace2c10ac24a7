//! The workshop: `cargo xtask start`, `test`, `tidy` and the rest. It knows how the house is built, checked and set up;
//! nothing of it is part of Overseer. It depends on nothing but the standard library, so that it is built in seconds.
#![forbid(unsafe_code)]
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    clippy::disallowed_methods,
    reason = "a command line tool of the workshop: it prints, reads files and takes times itself"
)]

mod arguments;
mod count;
mod fuzz;
mod process;
mod setup;
mod soak;
mod start;
mod test;
mod tidy;
mod ui;
mod workspace;

use std::process::ExitCode;

use arguments::Arguments;
use workspace::Workspace;

/// Why a command ended without success, for the person at the terminal.
pub(crate) type Failure = String;

struct Command {
    name: &'static str,
    about: &'static str,
    help: &'static str,
    run: fn(&Workspace, Arguments) -> Result<(), Failure>,
}

/// Every command. A new one is a module and a row here.
const COMMANDS: &[Command] = &[
    Command {
        name: "start",
        about: "Build what is stale, then run Overseer here",
        help: start::HELP,
        run: start::run,
    },
    Command {
        name: "test",
        about: "Set up what is missing, then check and test everything",
        help: test::HELP,
        run: test::run,
    },
    Command {
        name: "tidy",
        about: "Check the house rules",
        help: tidy::HELP,
        run: tidy::run,
    },
    Command {
        name: "ui",
        about: "Install npm packages and build ui/dist where stale",
        help: ui::HELP,
        run: ui::run,
    },
    Command {
        name: "fuzz",
        about: "Run every fuzz target for a while",
        help: fuzz::HELP,
        run: fuzz::run,
    },
    Command {
        name: "count",
        about: "Count what a sample costs: allocations, instructions",
        help: count::HELP,
        run: count::run,
    },
    Command {
        name: "soak",
        about: "Run one server for hours under everything at once",
        help: soak::HELP,
        run: soak::run,
    },
    Command {
        name: "setup",
        about: "Install what the tests need and is missing",
        help: setup::HELP,
        run: setup::run,
    },
];

fn help() -> String {
    let mut text = String::from("The workshop of Overseer.\n\nUsage: cargo xtask COMMAND [OPTIONS]\n\nCommands:\n");
    for command in COMMANDS {
        text.push_str(&format!("  {:<7}{}\n", command.name, command.about));
    }
    text.push_str(
        "\ncargo xtask COMMAND --help says more.\n\
         Exit codes: 0 done, 1 something failed or was found, 2 wrong command line.\n",
    );
    text
}

fn main() -> ExitCode {
    let mut words = std::env::args().skip(1);
    let Some(name) = words.next() else {
        eprint!("{}", help());
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "--help" | "-h" | "help") {
        print!("{}", help());
        return ExitCode::SUCCESS;
    }
    let Some(command) = COMMANDS.iter().find(|command| command.name == name) else {
        eprint!("there is no command {name:?}\n\n{}", help());
        return ExitCode::from(2);
    };
    let words: Vec<String> = words.collect();
    // what stands behind -- belongs to Overseer
    let own = words.split(|word| word == "--").next().unwrap_or_default();
    if own.iter().any(|word| word == "--help" || word == "-h") {
        print!("{}", command.help);
        return ExitCode::SUCCESS;
    }
    let workspace = Workspace::here();
    match (command.run)(&workspace, Arguments::new(words)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {name}: {failure}");
            ExitCode::from(if failure.starts_with(arguments::WRONG) { 2 } else { 1 })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_command_explains_itself() {
        for command in COMMANDS {
            assert!(
                command.help.contains(&format!("cargo xtask {}", command.name)),
                "{}",
                command.name
            );
            assert!(
                command.help.ends_with('\n') && help().contains(command.about),
                "{}",
                command.name
            );
        }
    }
}
