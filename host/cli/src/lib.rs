//! The commands of `ostler`: one module per command, and the modules that they share.
//!
//! **Dispatch.** [`main`] parses the arguments with clap, builds a context (global options, paths, output streams) and
//! calls the `execute` function of one command. It returns an [`Exit`], which becomes the exit code, or an error, which
//! is printed to standard error.
//!
//! **Host.** Almost every command is a client of the host: it connects to the socket of the data folder, starts a host
//! in the background if none is running, and makes API calls. A few commands need the configuration, the plugins or a
//! host inside this process: `serve`, `redact`, `config` and shell completion. They get it through [`LocalCommands`],
//! which the binary implements, so this crate does not depend on the engine.
//!
//! **Submit.** `run`, `rerun` and `chat send` turn options into a start payload (`payload`), submit it (`submit`) and
//! follow the events of the run (`follow`). The host validates fields and limits; its errors name fields by JSON
//! Pointer, and `option_names` replaces those by options.
//!
//! **Sessions and approvals.** `approval` formats what an agent wants to do and asks about it, in `follow` and in the
//! console of a session (`session`). `terminal` reads keys and draws the lines at the bottom.
//!
//! **Output.** Results go to standard output, everything else to standard error. `printer` maps events to text without
//! doing any output; `progress` draws the spinner. All text from agents and hosts passes `clean` on its way to a
//! terminal. `--json` prints results, and errors on standard error, as JSON.
//!
//! **Files.** `destination` writes files that the user names: it rejects a bad destination before any work is done, and
//! replaces a plain file only when its content is complete.

mod actors;
mod answer;
mod approval;
mod ask;
mod attachments;
mod clean;
mod complete;
mod confirm;
mod context;
mod destination;
mod editor;
mod environment;
mod exit;
mod failure;
mod follow;
mod format;
mod greeted;
mod ids;
mod input;
mod live_log;
mod method_names;
mod numbers;
mod option_names;
mod options;
mod output;
mod payload;
mod piped;
mod printer;
mod progress;
mod schedule;
mod signals;
mod submit;
mod table;
mod terminal;
mod times;

mod access;
mod approvals;
mod attach;
mod audit;
mod cancel;
mod capabilities;
mod chat;
mod completions;
mod config;
mod doctor;
mod export;
mod grants;
mod inbox;
mod logs;
mod man;
mod plugin;
mod profiles;
mod queue;
mod queue_watch;
mod redact;
mod rerun;
mod result;
mod retention;
mod rm;
mod rpc;
mod run;
mod runs;
mod search;
mod serve;
mod session;
mod settings;
mod show;
mod status;
mod stop;
mod token;
mod version;
mod wait;

#[cfg(test)]
mod tests;

use std::ffi::OsString;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anstream::ColorChoice;
use clap::{Args, Parser, Subcommand, ValueEnum};
use tokio::runtime::Runtime;

pub use complete::{COMPLETE_VERB, Nameable, Named, complete};
pub use exit::Exit;
pub use serve::{Progress, ServeOptions};

use context::Context;
use greeted::Greeted;
use ostler_config::{Config, ConfigDiagnostic, Paths};
use ostler_protocol::ApiError;

/// What commands need from this process instead of from the host's socket.
pub trait LocalCommands {
    /// Redacts `inputs` in order and writes them to `output`, with the redactor that the host would use. Returns the
    /// number of secrets removed. All other bytes are unchanged. Never writes text that was not checked.
    ///
    /// # Errors
    /// `PLUGIN_FAILED` if no redactor can run, `IO` if reading or writing fails, and errors of the configuration.
    fn redact(&self, paths: &Paths, inputs: &mut [Box<dyn Read>], output: &mut dyn Write) -> Result<u64, ApiError>;

    /// The configuration that a host starting now would have: defaults, file, and runtime settings.
    ///
    /// # Errors
    /// The errors of the file, and `IO` if the runtime settings cannot be read.
    fn config(&self, paths: &Paths) -> Result<Config, ApiError>;

    /// Checks a configuration with the plugins that the host would load. Returns what they reject.
    ///
    /// # Errors
    /// `PLUGIN_FAILED` if plugins cannot be loaded at all.
    fn diagnostics(&self, paths: &Paths, config: &Config) -> Result<Vec<ConfigDiagnostic>, ApiError>;

    /// The names of a kind, for shell completion. Names that cannot be read are omitted without an error.
    fn names(&self, paths: &Paths, what: Nameable) -> Vec<Named>;

    /// Runs a host until it ends. Calls `progress` with each slow step of the start, and `ready` with the path of the
    /// socket when the host accepts connections.
    ///
    /// # Errors
    /// The error that prevented the start: `CONFLICT` if another host has the lock of the data folder.
    fn serve(
        &self,
        paths: &Paths,
        options: ServeOptions,
        progress: Progress,
        ready: Box<dyn FnOnce(&Path) + Send>,
    ) -> Result<(), ApiError>;
}

const EXAMPLES: &str = "\
Examples:
  ostler run rehearsal --grant \"SAY hello\"     try it without an agent CLI
  ostler run codex \"explain this repository\"   start a run and follow it
  ostler run codex --detach - < task.md        start a run in the background
  ostler runs                                  list runs, newest first
  ostler chat new codex                        start a conversation
  ostler session start codex                   work with an agent in an open session
  ostler inbox                                 what waits for you
  ostler doctor                                check the installation

Exit codes:
  0   done
  1   run failed
  2   usage
  3   timeout
  4   denied
  5   not found; no host is running
  6   provider or folder unavailable
  7   queue full or conflict
  8   done, but the answer was not delivered complete, or not alone
  70  internal error
  74  I/O error
  124 `wait --timeout` expired
  130 canceled
  131 left with Ctrl-\\, the run continues

Environment:
  OSTLER_HOME     use this folder for configuration, data, socket and plugins
  VISUAL, EDITOR  editor for `ostler config edit`
  NO_COLOR        no colors
  CLICOLOR_FORCE  colors, also in a pipe

Commands that manage something have a singular name (`grant add`), lists a plural one (`runs`); \
the other form works as well.";

/// Runs coding-agent CLIs as queued, supervised, redacted and audited jobs.
#[derive(Debug, Parser)]
#[command(name = "ostler", version, after_help = EXAMPLES, max_term_width = 100, subcommand_required = true,
    arg_required_else_help = true)]
pub(crate) struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Options of every verb.
#[derive(Clone, Debug, Args)]
pub(crate) struct Global {
    /// Print results, and errors on standard error, as JSON. Commands that follow a run print its events, or with
    /// `--json=result` one object at its end
    #[arg(long, global = true, value_name = "FORM", num_args = 0..=1, require_equals = true,
        default_missing_value = "events", hide_possible_values = true, help_heading = "Global options")]
    json: Option<JsonForm>,
    /// Fail if no host is running
    #[arg(long, global = true, help_heading = "Global options")]
    no_start: bool,
    /// Use this folder for all files (same as OSTLER_HOME)
    #[arg(long, global = true, value_name = "DIR", help_heading = "Global options")]
    home: Option<PathBuf>,
    /// When to use colors: auto, always, never
    #[arg(long, global = true, value_name = "WHEN", hide_possible_values = true, help_heading = "Global options")]
    color: Option<ColorWhen>,
}

/// What `--json` prints for a command that follows a run. Other commands ignore the form and print their one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum JsonForm {
    /// An event on each line.
    Events,
    /// One object at the end.
    Result,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum ColorWhen {
    Auto,
    Always,
    Never,
}

impl ColorWhen {
    /// Finds `--color` before the arguments are parsed, because errors of the command line are colored, too.
    fn find(args: &[OsString]) -> Option<Self> {
        let mut args =
            args.iter().skip(1).take_while(|argument| *argument != "--").filter_map(|argument| argument.to_str());
        let mut found = None;
        while let Some(argument) = args.next() {
            let value = match argument.strip_prefix("--color") {
                Some("") => args.next(),
                Some(rest) => rest.strip_prefix('='),
                None => None,
            };
            found = value.and_then(|value| Self::from_str(value, false).ok()).or(found);
        }
        found
    }

    fn apply(self) {
        match self {
            Self::Auto => ColorChoice::Auto,
            Self::Always => ColorChoice::AlwaysAnsi,
            Self::Never => ColorChoice::Never,
        }
        .write_global();
    }
}

#[derive(Debug, Subcommand)]
enum Command {
    Run(Box<run::Arguments>),
    Rerun(Box<rerun::Arguments>),
    #[command(alias = "chats")]
    Chat(chat::Arguments),
    #[command(alias = "sessions")]
    Session(session::Arguments),
    #[command(alias = "approval")]
    Approvals(approvals::Arguments),
    Inbox(inbox::Arguments),
    #[command(visible_alias = "ls", alias = "list")]
    Runs(runs::Arguments),
    Search(search::Arguments),
    #[command(aliases = ["inspect", "describe"])]
    Show(show::Arguments),
    #[command(visible_alias = "log")]
    Logs(logs::Arguments),
    Attach(attach::Arguments),
    Wait(wait::Arguments),
    #[command(visible_alias = "kill")]
    Cancel(cancel::Arguments),
    #[command(aliases = ["delete", "remove"])]
    Rm(rm::Arguments),
    Export(export::Arguments),
    #[command(visible_alias = "ps")]
    Queue(queue::Arguments),
    #[command(alias = "capability")]
    Capabilities(capabilities::Arguments),
    #[command(alias = "profiles")]
    Profile(profiles::Arguments),
    #[command(alias = "grants")]
    Grant(grants::Arguments),
    Redact(redact::Arguments),
    #[command(alias = "plugins")]
    Plugin(plugin::Arguments),
    Retention(retention::Arguments),
    Config(config::Arguments),
    #[command(alias = "setting")]
    Settings(settings::Arguments),
    Serve(serve::Arguments),
    Status(status::Arguments),
    Stop(stop::Arguments),
    Doctor(doctor::Arguments),
    Rpc(rpc::Arguments),
    #[command(alias = "tokens")]
    Token(token::Arguments),
    Access(access::Arguments),
    Audit(audit::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
    Version(version::Arguments),
}

/// Runs the command line. `args` begin with the name of the program.
pub fn main(args: impl IntoIterator<Item = OsString>, local: &dyn LocalCommands) -> ExitCode {
    let args: Vec<OsString> = args.into_iter().collect();
    if let Some(color) = ColorWhen::find(&args) {
        color.apply();
    }
    let greeted = greeted::greet(&args);
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return failure::report_usage(error, &args),
    };
    let json = cli.global.json.is_some();
    let result = execute(cli, local, greeted);
    match result {
        Ok(Exit::Canceled) if signals::interrupted() => {
            signals::die_of_interrupt();
            Exit::Canceled.into()
        }
        Ok(exit) => exit.into(),
        Err(error) => {
            failure::report(&error, json);
            Exit::from(error.kind).into()
        }
    }
}

fn execute(cli: Cli, local: &dyn LocalCommands, greeted: Option<Greeted>) -> Result<Exit, ApiError> {
    let (runtime, greeting) = greeted.map(|Greeted { runtime, greeting }| (runtime, greeting)).unzip();
    let mut context = Context::new(&cli.global, local, greeting)?;
    cli.command.execute(&mut context, runtime)
}

/// The runtime of a command: a single thread is enough for a client.
fn new_runtime() -> Result<Runtime, ApiError> {
    let built = tokio::runtime::Builder::new_current_thread().enable_all().build();
    built.map_err(|error| ApiError::internal(format!("failed to start the runtime: {error}")))
}

impl Command {
    /// Executes the command, in a runtime that exists already if there is one.
    fn execute(self, context: &mut Context<'_>, runtime: Option<Runtime>) -> Result<Exit, ApiError> {
        match self {
            Self::Redact(arguments) => return redact::execute(context, &arguments),
            Self::Serve(arguments) => return serve::execute(context, &arguments),
            Self::Completions(arguments) => return completions::execute(context, &arguments),
            Self::Man(arguments) => return man::execute(context, &arguments),
            Self::Version(arguments) => return version::execute(context, &arguments),
            _ => {}
        }
        let runtime = runtime.map_or_else(new_runtime, Ok)?;
        let result = runtime.block_on(async {
            match self {
                Self::Run(arguments) => run::execute(context, *arguments).await,
                Self::Rerun(arguments) => rerun::execute(context, *arguments).await,
                Self::Chat(arguments) => chat::execute(context, arguments).await,
                Self::Session(arguments) => session::execute(context, arguments).await,
                Self::Approvals(arguments) => approvals::execute(context, arguments).await,
                Self::Inbox(arguments) => inbox::execute(context, &arguments).await,
                Self::Runs(arguments) => runs::execute(context, arguments).await,
                Self::Search(arguments) => search::execute(context, arguments).await,
                Self::Show(arguments) => show::execute(context, &arguments).await,
                Self::Logs(arguments) => logs::execute(context, &arguments).await,
                Self::Attach(arguments) => attach::execute(context, &arguments).await,
                Self::Wait(arguments) => wait::execute(context, &arguments).await,
                Self::Cancel(arguments) => cancel::execute(context, &arguments).await,
                Self::Rm(arguments) => rm::execute(context, &arguments).await,
                Self::Export(arguments) => export::execute(context, &arguments).await,
                Self::Queue(arguments) => queue::execute(context, arguments).await,
                Self::Capabilities(arguments) => capabilities::execute(context, arguments).await,
                Self::Profile(arguments) => profiles::execute(context, arguments).await,
                Self::Grant(arguments) => grants::execute(context, &arguments).await,
                Self::Plugin(arguments) => plugin::execute(context, &arguments).await,
                Self::Retention(arguments) => retention::execute(context, &arguments).await,
                Self::Config(arguments) => config::execute(context, &arguments).await,
                Self::Settings(arguments) => settings::execute(context, &arguments).await,
                Self::Status(arguments) => status::execute(context, &arguments).await,
                Self::Token(arguments) => token::execute(context, &arguments).await,
                Self::Access(arguments) => access::execute(context, &arguments).await,
                Self::Audit(arguments) => audit::execute(context, &arguments).await,
                Self::Stop(arguments) => stop::execute(context, &arguments).await,
                Self::Doctor(arguments) => doctor::execute(context, &arguments).await,
                Self::Rpc(arguments) => rpc::execute(context, &arguments).await,
                Self::Redact(_) | Self::Serve(_) | Self::Completions(_) | Self::Man(_) | Self::Version(_) => {
                    Ok(Exit::Done)
                }
            }
        });
        // A thread may still wait for terminal input; it must not block the end of the program.
        runtime.shutdown_background();
        result
    }
}
