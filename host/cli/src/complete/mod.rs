//! Shell completion.
//!
//! The scripts that `ostler completions` prints call the binary with a hidden command. Its arguments are the index of
//! the word at the cursor, and the words up to it as they were typed. The output is a directive line (empty, `files` or
//! `folders`; the shell completes those two itself), then one candidate per line, with a description after a tab.
//!
//! Names are read from the configuration and the database, without a host. Only open sessions and approvals are asked of
//! the host, if one is running. On any error the output is
//! empty, because an error message would disturb the command line that is being typed.

mod live;
mod source;
mod words;

use std::ffi::OsString;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;

use clap::{CommandFactory, ValueHint};
use clap_complete::engine::{self, ArgValueCompleter, CompletionCandidate};

use self::source::{Kind, Source};
use super::{Cli, LocalCommands, clean, context};

/// The name of the hidden command.
pub const COMPLETE_VERB: &str = "__complete";

/// Time limit for an answer. A file system that does not respond must not block the shell.
const TIME_LIMIT: Duration = Duration::from_millis(1000);

/// Longest description, in characters.
const MAX_ABOUT: usize = 60;

/// Marks for paths, which the shell completes itself. They cannot equal a value: a command line contains no NUL.
const FILES: &str = "\0files";
const FOLDERS: &str = "\0folders";

/// Something that can be named on the command line.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The value to type.
    pub value: String,
    /// A longer form, offered if the typed text begins with it.
    pub long: Option<String>,
    /// A short description.
    pub about: String,
}

impl Named {
    /// A candidate without a long form.
    pub fn new(value: impl Into<String>, about: impl Into<String>) -> Self {
        Self { value: value.into(), long: None, about: about.into() }
    }
}

/// Kinds of names that are looked up on this machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Nameable {
    /// Runs, newest first.
    Runs,
    /// Conversations that are not archived, the last changed first.
    Conversations,
    /// Profiles.
    Profiles,
    /// Provider instances.
    Providers,
    /// Plugins, bundled ones and those of the plugin folder.
    Plugins,
    /// Access tokens.
    AccessTokens,
    /// Keys of the configuration.
    Keys,
    /// Keys that can be set at run time.
    SettableKeys,
    /// Sections of the configuration.
    Sections,
}

/// Runs the command [`COMPLETE_VERB`]: prints the completions for `args`.
#[must_use]
pub fn complete(args: impl Iterator<Item = OsString>, local: &'static (dyn LocalCommands + Sync)) -> ExitCode {
    let args: Vec<OsString> = args.collect();
    let (send, receive) = mpsc::channel();
    // After the time limit the thread ends with the process.
    let spawned = std::thread::Builder::new().spawn(move || drop(send.send(answer(&args, local))));
    if spawned.is_ok()
        && let Ok(Some(text)) = receive.recv_timeout(TIME_LIMIT)
    {
        let mut out = std::io::stdout().lock();
        let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    }
    ExitCode::SUCCESS
}

/// The answer to `INDEX -- WORD...`. `None` if the request is malformed.
fn answer(args: &[OsString], local: &'static (dyn LocalCommands + Sync)) -> Option<String> {
    let [index, dashes, typed @ ..] = args else { return None };
    let index: usize = index.to_str()?.parse().ok()?;
    if dashes != "--" || index == 0 {
        return None;
    }
    let mut words: Vec<OsString> = typed.iter().map(|word| words::unquoted(word)).collect();
    words.truncate(index + 1);
    // A shell omits an empty last word.
    words.resize(index + 1, OsString::new());
    let current = words.last()?.clone();
    let source = Source::new(paths(&words), local);
    let mut command = annotated(Cli::command(), &Arc::new(source));
    let folder = std::env::current_dir().ok();
    let candidates = engine::complete(&mut command, words, index, folder.as_deref()).ok()?;
    Some(print(&candidates, current.is_empty()))
}

/// The paths for `--home`, if it was typed, else for the environment.
fn paths(words: &[OsString]) -> Option<ostler_config::Paths> {
    let mut home: Option<PathBuf> = None;
    let mut words = words.iter();
    while let Some(word) = words.next() {
        let Some(word) = word.to_str() else { continue };
        match word.strip_prefix("--home") {
            Some("") => home = words.next().map(|folder| expanded(Path::new(folder))),
            Some(rest) if rest.starts_with('=') => home = rest.get(1..).map(|folder| expanded(Path::new(folder))),
            _ if word == "--" => break,
            _ => {}
        }
    }
    context::resolve_paths(home.as_deref()).ok()
}

/// Replaces a leading tilde by the home folder, as the shell does.
fn expanded(path: &Path) -> PathBuf {
    match (path.strip_prefix("~"), std::env::var_os("HOME")) {
        (Ok(rest), Some(home)) => Path::new(&home).join(rest),
        _ => path.to_owned(),
    }
}

/// The definition of the command line with a completer for every argument.
fn annotated(command: clap::Command, source: &Arc<Source>) -> clap::Command {
    let path = command.get_name().to_owned();
    annotated_below(command, &path, source)
}

fn annotated_below(command: clap::Command, path: &str, source: &Arc<Source>) -> clap::Command {
    let command = command.mut_args(|arg| match source::kind(path, &arg) {
        Some(kind) => arg.add(completer(kind, Arc::clone(source))),
        None => arg,
    });
    command.mut_subcommands(|below| {
        let path = format!("{path} {}", below.get_name());
        annotated_below(below, &path, source)
    })
}

fn completer(kind: Kind, source: Arc<Source>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |current: &std::ffi::OsStr| match kind {
        Kind::Path(ValueHint::DirPath) => vec![CompletionCandidate::new(FOLDERS)],
        Kind::Path(_) => vec![CompletionCandidate::new(FILES)],
        Kind::Names(what) => current.to_str().map_or_else(Vec::new, |current| candidates(source.names(what), current)),
    })
}

/// The names that begin with the typed text, ignoring case.
fn candidates(names: Vec<Named>, typed: &str) -> Vec<CompletionCandidate> {
    let typed = typed.to_lowercase();
    let begins = |value: &str| value.to_lowercase().starts_with(&typed);
    let candidate = |named: Named| {
        let value = match named.long {
            _ if begins(&named.value) => named.value,
            Some(long) if begins(&long) => long,
            _ => return None,
        };
        let about: String = clean::line(&named.about).chars().take(MAX_ABOUT).collect();
        Some(CompletionCandidate::new(value).help((!about.is_empty()).then(|| about.into())))
    };
    names.into_iter().filter_map(candidate).collect()
}

/// Formats the answer. Options are included only after a hyphen, or if there are no other candidates.
fn print(candidates: &[CompletionCandidate], nothing_typed: bool) -> String {
    let mut candidates: Vec<(String, String)> = candidates
        .iter()
        .filter(|candidate| !candidate.is_hide_set())
        .filter_map(|candidate| {
            let about = candidate.get_help().map(ToString::to_string).unwrap_or_default();
            Some((candidate.get_value().to_str()?.to_owned(), first_line(&about)))
        })
        .collect();
    let is_option = |value: &str| value.starts_with('-');
    if nothing_typed && candidates.iter().any(|(value, _)| !is_option(value)) {
        candidates.retain(|(value, _)| !is_option(value));
    }
    let has = |suffix: &str| candidates.iter().any(|(value, _)| value.ends_with(suffix));
    let mut text = match (has(FILES), has(FOLDERS)) {
        (true, _) => "files\n",
        (_, true) => "folders\n",
        _ => "\n",
    }
    .to_owned();
    for (value, about) in candidates {
        // Control characters would reach the terminal or break the line format.
        if value.contains(char::is_control) {
            continue;
        }
        let _ = match about.as_str() {
            "" => writeln!(text, "{value}"),
            about => writeln!(text, "{value}\t{about}"),
        };
    }
    text
}

fn first_line(text: &str) -> String {
    text.lines().next().unwrap_or_default().replace('\t', " ")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use std::io::{Read, Write};

    use super::*;
    use ostler_config::{Config, ConfigDiagnostic, Paths};
    use ostler_protocol::ApiError;

    /// A machine with one of everything.
    #[derive(Debug)]
    struct Fixed;

    impl LocalCommands for Fixed {
        fn redact(&self, _: &Paths, _: &mut [Box<dyn Read>], _: &mut dyn Write) -> Result<u64, ApiError> {
            Err(ApiError::internal("not asked"))
        }
        fn config(&self, _: &Paths) -> Result<Config, ApiError> {
            Err(ApiError::internal("not asked"))
        }
        fn diagnostics(&self, _: &Paths, _: &Config) -> Result<Vec<ConfigDiagnostic>, ApiError> {
            Err(ApiError::internal("not asked"))
        }
        fn serve(
            &self,
            _: &Paths,
            _: super::super::ServeOptions,
            _: super::super::Progress,
            _: Box<dyn FnOnce(&Path) + Send>,
        ) -> Result<(), ApiError> {
            Err(ApiError::internal("not asked"))
        }
        fn names(&self, paths: &Paths, what: Nameable) -> Vec<Named> {
            let run = |short: &str, long: &str| Named {
                value: short.to_owned(),
                long: Some(long.to_owned()),
                about: "completed: a title".to_owned(),
            };
            match what {
                Nameable::Runs => vec![run("9ad39a44", "01a22a28-58ad"), run("6fff8ad4", "01a22a28-563e")],
                Nameable::Conversations => vec![Named::new("6e6858f7", "An old one")],
                Nameable::Profiles => vec![Named::new("careful one", "rehearsal")],
                Nameable::Providers => vec![Named::new("claude", ""), Named::new("codex", "")],
                Nameable::Plugins => vec![Named::new(paths.data_dir.display().to_string(), "")],
                Nameable::AccessTokens => vec![Named::new("reader", "read")],
                Nameable::Keys => vec![Named::new("log.level", ""), Named::new("policy.mcp_commands", "")],
                Nameable::SettableKeys => vec![Named::new("log.level", "")],
                Nameable::Sections => vec![Named::new("log", "")],
            }
        }
    }

    /// What is offered for a command line whose last word is being typed: the directive, and the values.
    fn offered(line: &[&str]) -> (String, Vec<String>) {
        let mut args = vec![(line.len() - 1).to_string().into(), "--".into()];
        args.extend(line.iter().map(OsString::from));
        let text = answer(&args, &Fixed).unwrap();
        let mut lines = text.lines().map(str::to_owned);
        let directive = lines.next().unwrap();
        (directive, lines.map(|line| line.split('\t').next().unwrap().to_owned()).collect())
    }

    fn values(line: &[&str]) -> Vec<String> {
        offered(line).1
    }

    #[test]
    fn completes_names_of_things() {
        assert_eq!(values(&["ostler", "run", ""]), ["claude", "codex"]);
        assert_eq!(values(&["ostler", "run", "co"]), ["codex"]);
        assert_eq!(values(&["ostler", "show", ""]), ["9ad39a44", "6fff8ad4"]);
        assert_eq!(values(&["ostler", "show", "6F"]), ["6fff8ad4"]);
        assert_eq!(values(&["ostler", "show", "01a22a28-5"]), ["01a22a28-58ad", "01a22a28-563e"]);
        assert_eq!(values(&["ostler", "cancel", "9ad39a44", "6"]), ["6fff8ad4"]);
        assert_eq!(values(&["ostler", "chat", "show", ""]), ["6e6858f7"]);
        assert_eq!(values(&["ostler", "run", "--profile", ""]), ["careful one"]);
        assert_eq!(values(&["ostler", "run", "--profile=c"]), ["--profile=careful one"]);
        assert_eq!(values(&["ostler", "runs", "--provider", "cl"]), ["claude"]);
        assert_eq!(values(&["ostler", "settings", "get", "po"]), ["policy.mcp_commands"]);
        assert_eq!(values(&["ostler", "settings", "set", ""]), ["log.level"]);
        assert_eq!(values(&["ostler", "access", "revoke", ""]), ["reader"]);
    }

    #[test]
    fn completes_fixed_values() {
        assert_eq!(values(&["ostler", "run", "--sandbox", "re"]), ["read-only"]);
        assert!(values(&["ostler", "run", "--tool", ""]).contains(&"file_read".to_owned()));
        assert!(values(&["ostler", "rerun", "9ad39a44", "--clear", "mo"]).contains(&"model".to_owned()));
        assert!(values(&["ostler", "runs", "--status", "fa"]).contains(&"failed".to_owned()));
    }

    #[test]
    fn leaves_paths_to_the_shell() {
        assert_eq!(offered(&["ostler", "run", "--file", "/et"]), ("files".to_owned(), Vec::new()));
        assert_eq!(offered(&["ostler", "run", "--cwd", ""]), ("folders".to_owned(), Vec::new()));
        assert_eq!(offered(&["ostler", "run", "--cwd=/et"]), ("folders".to_owned(), Vec::new()));
        assert_eq!(offered(&["ostler", "grants", "add", ""]).0, "folders");
    }

    #[test]
    fn offers_options_only_for_a_hyphen() {
        assert!(values(&["ostler", "run", ""]).iter().all(|value| !value.starts_with('-')));
        assert!(values(&["ostler", "run", "-"]).contains(&"--sandbox".to_owned()));
        assert!(values(&["ostler", "status", ""]).contains(&"--json".to_owned()));
        assert!(!values(&["ostler", "serve", "--"]).contains(&"--background".to_owned()), "a hidden option");
    }

    #[test]
    fn offers_nothing_for_free_text() {
        assert_eq!(offered(&["ostler", "run", "claude", "expl"]), (String::new(), Vec::new()));
    }

    #[test]
    fn uses_the_home_of_the_command_line() {
        for line in [
            ["ostler", "--home", "/x y", "plugin", "trust", ""],
            ["ostler", "--home=/x y", "--json", "plugin", "trust", ""],
        ] {
            assert_eq!(values(&line), ["/x y/data"]);
        }
        assert_eq!(values(&["ostler", "--home", "'/x y'", "plugin", "trust", "/x\\ "]), ["/x y/data"]);
    }

    #[test]
    fn answers_nothing_to_malformed_requests() {
        for args in [&[][..], &["x", "--", "ostler"], &["0", "--", "ostler"], &["1", "ostler"], &["1"]] {
            let args: Vec<OsString> = args.iter().map(OsString::from).collect();
            assert_eq!(answer(&args, &Fixed), None, "{args:?}");
        }
        assert!(values(&["ostler", "no-such-verb", "x"]).is_empty());
    }

    /// A new argument that takes a value must say what completes it, or that nothing does.
    #[test]
    fn every_argument_with_value_declares_its_completion() {
        fn check(command: &clap::Command, path: &str, open: &mut Vec<String>) {
            for arg in command.get_arguments().filter(|arg| !arg.is_hide_set()) {
                let takes_value = arg.get_num_args().is_some_and(|count| count.takes_values());
                if takes_value && !source::is_decided(path, arg) {
                    open.push(format!("{path}: {arg}"));
                }
            }
            for below in command.get_subcommands() {
                check(below, &format!("{path} {}", below.get_name()), open);
            }
        }
        let mut command = Cli::command();
        command.build();
        let mut open = Vec::new();
        check(&command, "ostler", &mut open);
        open.retain(|found| !found.contains(" help"));
        assert!(open.is_empty(), "add them to cli/complete/source.rs: {open:#?}");
    }
}
