//! Greets the host before the arguments are read: the host identifies the caller meanwhile, and its answer is there when the
//! command needs it.

use std::ffi::OsString;

use ostler_client::Greeting;
use ostler_config::Paths;
use ostler_protocol::MARKER_VARIABLE;
use tokio::runtime::Runtime;

use super::context::VERSION;
use super::new_runtime;

/// Commands that do not call the host.
const WITHOUT_HOST: [&str; 7] = ["completions", "config", "help", "man", "redact", "serve", "version"];

/// Options with which the command calls another host, or none.
const OTHER_HOST: [&str; 5] = ["--home", "--help", "-h", "--version", "-V"];

/// A host that was greeted.
pub(super) struct Greeted {
    /// Reads the answer.
    pub(super) runtime: Runtime,
    pub(super) greeting: Greeting,
}

/// Greets the host that most commands with these arguments call. `None` if there is none, or if they may call another one.
pub(super) fn greet(args: &[OsString]) -> Option<Greeted> {
    // A process of a run may not call the host, and each attempt is recorded.
    if !calls_own_host(args) || std::env::var_os(MARKER_VARIABLE).is_some() {
        return None;
    }
    let paths = Paths::from_environment().ok()?;
    let runtime = new_runtime().ok()?;
    let greeting = runtime.block_on(Greeting::send(&paths.socket, VERSION))?;
    Some(Greeted { runtime, greeting })
}

/// Whether a command line probably calls the host of the environment.
fn calls_own_host(args: &[OsString]) -> bool {
    let mut words = args.iter().skip(1).map(|word| word.to_str().unwrap_or_default());
    let command = words.next().unwrap_or_default();
    let names_command = !command.is_empty() && !command.starts_with('-') && !WITHOUT_HOST.contains(&command);
    let is_other = |word: &str| OTHER_HOST.iter().any(|option| word.strip_prefix(option).is_some_and(ends_option));
    names_command && !words.take_while(|word| *word != "--").any(is_other)
}

/// Whether an option ends here, with or without a value.
fn ends_option(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with('=')
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;
    use crate::Cli;

    #[test]
    fn commands_and_options_without_the_host_exist() {
        let mut cli = Cli::command();
        cli.build();
        for name in WITHOUT_HOST {
            assert!(cli.find_subcommand(name).is_some(), "{name}");
        }
        for option in OTHER_HOST {
            let is_it = |argument: &clap::Arg| match option.strip_prefix("--") {
                Some(long) => argument.get_long() == Some(long),
                None => argument.get_short() == option.chars().nth(1),
            };
            assert!(cli.get_arguments().any(is_it), "{option}");
        }
    }

    #[test]
    fn host_is_greeted_if_the_command_calls_it() {
        let calls = |line: &str| calls_own_host(&line.split(' ').map(OsString::from).collect::<Vec<_>>());
        for line in ["ostler run codex x", "ostler status --json", "ostler rn", "ostler run codex -- --home x"] {
            assert!(calls(line), "{line}");
        }
        for line in [
            "ostler",
            "ostler --version",
            "ostler --json status",
            "ostler serve",
            "ostler redact -",
            "ostler run --help",
            "ostler run -h",
            "ostler runs --home /x",
            "ostler runs --home=/x",
        ] {
            assert!(!calls(line), "{line}");
        }
    }
}
