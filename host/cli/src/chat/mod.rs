//! `ostler chat`

mod change;
mod delete;
mod list;
mod new;
mod send;
mod show;

use clap::{Args, Subcommand};

pub(super) use list::table;

use super::context::Context;
use super::exit::Exit;
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler chat new codex --title \"the parser\"      prints the id of a new conversation
  ostler chat send 1a2b3c4d \"what does it do?\"    sends a message and shows the answer
  ostler chat send 1a2b3c4d \"and why?\"            the agent remembers earlier messages
  ostler chat list
  ostler chat show 1a2b3c4d --text

A conversation belongs to one provider. Its messages run one after another and resume the same session.";

/// Manage conversations: runs that continue each other
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    New(new::Arguments),
    List(list::Arguments),
    Show(show::Arguments),
    Send(Box<send::Arguments>),
    Rename(change::Rename),
    Update(change::Update),
    Archive(change::Archive),
    Delete(delete::Arguments),
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    match arguments.action {
        Action::New(arguments) => new::execute(context, arguments).await,
        Action::List(arguments) => list::execute(context, arguments).await,
        Action::Show(arguments) => show::execute(context, &arguments).await,
        Action::Send(arguments) => send::execute(context, *arguments).await,
        Action::Rename(arguments) => change::rename(context, arguments).await,
        Action::Update(arguments) => change::update(context, arguments).await,
        Action::Archive(arguments) => change::archive(context, &arguments).await,
        Action::Delete(arguments) => delete::execute(context, &arguments).await,
    }
}
