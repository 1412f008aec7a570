//! The stand-in's command line.

use super::{faults::Role, talk::Handshake};
use std::{ffi::OsString, path::PathBuf};

/// The command on the command line.
#[derive(Debug)]
pub(super) enum Command {
    Help,
    Version,
    /// Run as a helper process of a fault word.
    Extra(Role),
    Perform(Box<Options>),
}

/// What a command may change. The stand-in has no sandbox: it enforces the mode by refusing to run commands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Sandbox {
    ReadOnly,
    WorkspaceWrite,
    FullAccess,
}

impl Sandbox {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::ReadOnly => "read-only",
            Self::WorkspaceWrite => "workspace-write",
            Self::FullAccess => "full-access",
        }
    }
}

/// The form of the output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    /// A JSON line for each event.
    StreamJson,
    /// Only the last line of `StreamJson`.
    Json,
    /// The answer on standard output, everything else on standard error.
    Text,
}

/// Which session the prompt belongs to.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum SessionChoice {
    /// A new one, with this id if there is one.
    Fresh(Option<uuid::Uuid>),
    Resume(String),
    /// The newest of the current folder, or a new one.
    Continue,
}

#[derive(Debug)]
pub(super) struct Options {
    pub(super) model: String,
    pub(super) session: SessionChoice,
    pub(super) sessions: Option<PathBuf>,
    pub(super) system: Option<PathBuf>,
    pub(super) append_system: Option<PathBuf>,
    pub(super) schema: Option<PathBuf>,
    pub(super) sandbox: Option<Sandbox>,
    /// `None`: all tools.
    pub(super) tools: Option<Vec<String>>,
    /// Runs commands even if the sandbox or the list of tools forbids it.
    pub(super) allow_run: bool,
    pub(super) max_turns: Option<u32>,
    /// Counts from 1.
    pub(super) attempt: u32,
    pub(super) attachments: Vec<PathBuf>,
    pub(super) delay_ms: u64,
    pub(super) format: Format,
    /// A conversation over the two-way protocol instead of one prompt.
    pub(super) talk: bool,
    /// Asks before it runs a command.
    pub(super) ask: bool,
    /// Shows each use of a tool before it happens.
    pub(super) show_uses: bool,
    pub(super) handshake: Handshake,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            model: "rehearsal".to_owned(),
            session: SessionChoice::Fresh(None),
            sessions: None,
            system: None,
            append_system: None,
            schema: None,
            sandbox: None,
            tools: None,
            allow_run: false,
            max_turns: None,
            attempt: 1,
            attachments: Vec::new(),
            delay_ms: 200,
            format: Format::StreamJson,
            talk: false,
            ask: false,
            show_uses: false,
            handshake: Handshake::Answer,
        }
    }
}

/// What `--version` prints.
pub(super) fn version() -> String {
    format!("ostler rehearsal {}", env!("CARGO_PKG_VERSION"))
}

/// What `--help` prints.
pub(super) fn help() -> String {
    format!("{}\n{HELP}", version())
}

const HELP: &str = "\
A rehearsal: a scripted stand-in for a coding agent. No model answers here.

Usage: ostler __rehearse [OPTIONS] < PROMPT

The first word of the prompt's first line says what to do:
  SAY text           answer with the text
  THINK text         think aloud first, then answer with the text
  JSON value         answer with JSON; with --schema, as structured output
  RUN command        run the command with /bin/sh, as a tool
  SLOW n             stream n chunks, 200 ms apart (--delay-ms)
  BIG n              stream n KiB of text
  USAGE in out       report so many tokens
  LEAK [seed]        give away made-up secrets of many kinds, also cut across deltas
  FAIL class [ms]    fail: unknown, authentication, transient, rate-limited,
                     resume-invalid, usage, limit, incomplete; ms is the time to wait
  FAILONCE class     fail on the first attempt, answer on the next
  SLEEP n            say nothing for n seconds
  SYSTEM MODEL TURNS TOOLS FILES
                     answer with the system prompt, the model, the number of prompts in
                     this session, the allowed tools, the attached files
  ENV name           answer with a variable of the environment
  REMEMBER text      keep the text for later turns of the session
  RECALL             answer with the text of REMEMBER
In a conversation, where every line of a message may be a step of its own:
  ASK kind: what     ask before it uses a tool; kinds: shell, patch, read, fetch, mcp, tool,
                     network, permissions
  SHOW-USE kind: what
                     show the use of a tool without asking
  QUESTION text | answer | answer || text
                     ask the user; many: or secret: may come before a text
  ELICIT text        ask for a value, as an MCP server does
  OPEN kind: what    ask, and go on without waiting
  WITHDRAW ms kind: what
                     ask, and withdraw it after this time; 'answered': as the answer comes
  LISTEN             answer with the next message of the user, in the same turn
  BACKGROUND n [text]
                     leave a task that takes a turn of its own after n seconds
Misbehaviour in a conversation, for tests:
  ASK-TWICE kind: what
                     ask for two things with one id
  ASK-BIG n          ask for a command of n MiB
  UNKNOWN-REQUEST    send a request that nobody knows
  DEAF n             ignore interrupts for n seconds
  HANDSHAKE none|garbage
                     as the first word of the first prompt: spoil the handshake
Misbehaviour, for tests:
  GARBAGE            write lines that are not the protocol
  DIE [code]         exit at once (1)
  LINE n             write one line of n KiB
  FLOOD n            write n MiB of plain lines
  RAW                write bytes that are not UTF-8
  SIGNAL name        die by that signal
  STUBBORN [n]       ignore SIGINT and SIGTERM for n seconds (60)
  ORPHAN [n]         leave a daemon that holds the output open for n seconds (60)
  TREE n [s|leave]   start a tree of n processes for s seconds (60) and wait, or leave it
Anything else is echoed.

Options:
  --model NAME           shown as the model's name (rehearsal)
  --session-id UUID      id of the new session
  --resume UUID          go on with a session
  --continue             go on with the newest session of this folder, if there is one
  --sessions DIR         where sessions are kept ($REHEARSAL_HOME, $OSTLER_HOME/rehearsal,
                         $XDG_STATE_HOME/ostler/rehearsal, ~/.local/state/ostler/rehearsal);
                         the newest 1000 are kept
  --system-file FILE     system prompt
  --append-system-file FILE
                         addition to the system prompt
  --schema FILE          JSON Schema for structured output
  --sandbox MODE         read-only, workspace-write or full-access; the first two refuse RUN,
                         because nothing here could confine a command
  --tools LIST           allowed tools, separated by commas; RUN needs shell
  --allow-run            run commands whatever --sandbox and --tools say
  --max-turns N          a RUN takes two turns, everything else one
  --attach FILE          attach a file (repeatable)
  --attempt N            which attempt this is (1)
  --delay-ms N           time between the chunks of SLOW, at most 60000 (200)
  --talk                 converse in lines of JSON, in both directions
  --ask                  ask before it runs a command; with --talk
  --show-uses            show each use of a tool before it happens; with --talk
  --handshake HOW        answer, none or garbage (answer); with --talk
  --format FORM          stream-json, json or text (stream-json)
  --version, --help
";

/// Parses the arguments. Reports every problem, not only the first.
pub(super) fn parse(args: impl Iterator<Item = OsString>) -> Result<Command, Vec<String>> {
    let mut options = Options::default();
    let mut problems = Vec::new();
    let mut args = args;
    while let Some(raw) = args.next() {
        let Some(arg) = raw.to_str().map(str::to_owned) else {
            problems.push(format!("argument {} is not UTF-8", raw.display()));
            continue;
        };
        let (name, inline) = match arg.split_once('=') {
            Some((name, value)) if name.starts_with("--") => (name.to_owned(), Some(value.to_owned())),
            _ => (arg, None),
        };
        match (name.as_str(), &inline) {
            ("--help" | "-h", None) => return Ok(Command::Help),
            ("--version" | "-V", None) => return Ok(Command::Version),
            ("--continue", None) => {
                options.session = SessionChoice::Continue;
                continue;
            }
            ("--allow-run", None) => {
                options.allow_run = true;
                continue;
            }
            ("--talk", None) => {
                options.talk = true;
                continue;
            }
            ("--ask", None) => {
                options.ask = true;
                continue;
            }
            ("--show-uses", None) => {
                options.show_uses = true;
                continue;
            }
            _ => {}
        }
        if !VALUED.contains(&name.as_str()) {
            problems.push(match inline {
                Some(_) if SWITCHES.contains(&name.as_str()) => {
                    format!("option '{name}' takes no value")
                }
                _ if name.starts_with('-') => format!("unknown option '{name}'"),
                _ => format!("unexpected argument '{name}': the prompt comes on standard input"),
            });
            continue;
        }
        let Some(value) = inline.or_else(|| args.next().and_then(|value| value.into_string().ok())) else {
            problems.push(format!("option '{name}' needs a value"));
            continue;
        };
        if name == "--extra" {
            return Role::parse(&value).map(Command::Extra).map_err(|problem| vec![problem]);
        }
        if let Err(problem) = set(&mut options, &name, value) {
            problems.push(problem);
        }
    }
    if options.talk && options.format != Format::StreamJson {
        problems.push("a conversation has the format stream-json".to_owned());
    }
    if problems.is_empty() { Ok(Command::Perform(Box::new(options))) } else { Err(problems) }
}

const SWITCHES: [&str; 7] = ["--help", "--version", "--continue", "--allow-run", "--talk", "--ask", "--show-uses"];

/// Options that take a value. The fault words start helper processes of this program with `--extra`.
const VALUED: [&str; 16] = [
    "--model",
    "--session-id",
    "--resume",
    "--sessions",
    "--system-file",
    "--append-system-file",
    "--schema",
    "--sandbox",
    "--tools",
    "--max-turns",
    "--attach",
    "--attempt",
    "--delay-ms",
    "--format",
    "--handshake",
    "--extra",
];

fn set(options: &mut Options, name: &str, value: String) -> Result<(), String> {
    match name {
        "--model" => options.model = value,
        "--session-id" => {
            let id = value.parse().map_err(|_| format!("'--session-id {value}' is not a UUID"))?;
            options.session = SessionChoice::Fresh(Some(id));
        }
        "--resume" => options.session = SessionChoice::Resume(value),
        "--sessions" => options.sessions = Some(value.into()),
        "--system-file" => options.system = Some(value.into()),
        "--append-system-file" => options.append_system = Some(value.into()),
        "--schema" => options.schema = Some(value.into()),
        "--sandbox" => {
            options.sandbox = Some(
                [Sandbox::ReadOnly, Sandbox::WorkspaceWrite, Sandbox::FullAccess]
                    .into_iter()
                    .find(|mode| mode.name() == value)
                    .ok_or_else(|| format!("'--sandbox {value}' is not read-only, workspace-write or full-access"))?,
            );
        }
        "--tools" => {
            options.tools =
                Some(value.split(',').map(str::trim).filter(|tool| !tool.is_empty()).map(str::to_owned).collect());
        }
        "--max-turns" => options.max_turns = Some(number(name, &value, 1, u32::MAX.into())?),
        "--attempt" => options.attempt = number(name, &value, 1, u32::MAX.into())?,
        "--attach" => options.attachments.push(value.into()),
        "--delay-ms" => options.delay_ms = number(name, &value, 0, 60_000)?,
        "--handshake" => {
            options.handshake = match value.as_str() {
                "answer" => Handshake::Answer,
                "none" => Handshake::None,
                "garbage" => Handshake::Garbage,
                _ => return Err(format!("'--handshake {value}' is not answer, none or garbage")),
            };
        }
        "--format" => {
            options.format = match value.as_str() {
                "stream-json" => Format::StreamJson,
                "json" => Format::Json,
                "text" => Format::Text,
                _ => {
                    return Err(format!("'--format {value}' is not stream-json, json or text"));
                }
            };
        }
        _ => return Err(format!("unknown option '{name}'")),
    }
    Ok(())
}

fn number<T: TryFrom<u64>>(name: &str, value: &str, least: u64, most: u64) -> Result<T, String> {
    value
        .parse::<u64>()
        .ok()
        .filter(|number| (least..=most).contains(number))
        .and_then(|number| T::try_from(number).ok())
        .ok_or_else(|| format!("'{name} {value}' is not a number from {least} to {most}"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
    use super::*;

    fn read(args: &[&str]) -> Result<Command, Vec<String>> {
        parse(args.iter().map(OsString::from))
    }

    #[test]
    fn value_may_follow_with_equals_sign_or_space() {
        let Command::Perform(options) =
            read(&["--model=--odd", "--tools", "shell, file_read", "--attach", "a", "--attach=b", "--continue"])
                .unwrap()
        else {
            panic!("not a performance")
        };
        assert_eq!(options.model, "--odd");
        assert_eq!(options.tools.as_deref(), Some(&["shell".to_owned(), "file_read".to_owned()][..]));
        assert_eq!(options.attachments, [PathBuf::from("a"), PathBuf::from("b")]);
        assert_eq!(options.session, SessionChoice::Continue);
    }

    #[test]
    fn all_problems_are_reported() {
        let problems =
            read(&["--nope", "stray", "--attempt=0", "--format=xml", "--session-id=1", "--model"]).unwrap_err();
        for (problem, part) in problems.iter().zip(["'--nope'", "'stray'", "--attempt 0", "xml", "UUID", "--model"]) {
            assert!(problem.contains(part), "{problem} lacks {part}");
        }
        assert_eq!(problems.len(), 6);
    }

    #[test]
    fn help_names_every_option() {
        let help = help();
        for option in VALUED.iter().filter(|option| **option != "--extra") {
            assert!(help.contains(option), "{option}");
        }
        for option in SWITCHES {
            assert!(help.contains(option), "{option}");
        }
        assert!(help.contains("rehearsal") && help.contains("No model"));
    }
}
