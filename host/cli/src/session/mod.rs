//! `ostler session`

mod activity;
mod attach;
mod console;
mod console_view;
mod control;
mod ctrl_c;
mod list;
mod open;
mod resume;
mod send;
mod start;
mod terminal_view;
mod tool_lines;

use clap::{Args, Subcommand};

pub(super) use attach::{attach_to, can_converse};

use super::context::Context;
use super::exit::Exit;
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler session start codex                       opens a session and attaches to it
  ostler session start codex \"fix the build\"       with a first message
  ostler session start claude --terminal           in a terminal, with claude's own screen
  ostler session list                              open sessions, and what they do
  ostler session attach @                          the newest session
  ostler session send 1a2b3c4d \"now the tests\" --wait
  ostler session end 1a2b3c4d
  ostler session resume 1a2b3c4d                   continues an ended session

A session keeps the agent's CLI running between messages. Several terminals can attach to one session. What the agent wants \
to do is asked in each of them, and the first answer counts. A session ends with `ostler session end`, or when it is idle for \
the time that --timeout or `runner.session_idle_seconds` sets.";

/// Work with agents in open sessions
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    Start(Box<start::Arguments>),
    Attach(attach::Arguments),
    Send(send::Arguments),
    Interrupt(control::Interrupt),
    End(control::End),
    Resume(resume::Arguments),
    #[command(visible_alias = "ls")]
    List(list::Arguments),
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    match arguments.action {
        Action::Start(arguments) => start::execute(context, *arguments).await,
        Action::Attach(arguments) => attach::execute(context, &arguments).await,
        Action::Send(arguments) => send::execute(context, &arguments).await,
        Action::Interrupt(arguments) => control::interrupt(context, &arguments).await,
        Action::End(arguments) => control::end(context, &arguments).await,
        Action::Resume(arguments) => resume::execute(context, &arguments).await,
        Action::List(arguments) => list::execute(context, &arguments).await,
    }
}
