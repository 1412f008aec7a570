//! `ostler approvals`

mod decide;
mod list;

use clap::{Args, Subcommand};

pub(super) use list::table;

use super::context::Context;
use super::exit::Exit;
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler approvals                          what agents wait for
  ostler approvals show 1a2b3c4d            the whole command or diff
  ostler approvals allow 1a2b3c4d
  ostler approvals deny 1a2b3c4d --message \"use the test database\"
  ostler approvals answer 1a2b3c4d Postgres

An agent waits for approval before it does something that a policy, the options of its run or its CLI leaves to you. Nobody \
answers in time: it is denied. Of several answers, the first counts.";

/// List and answer what agents wait for
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    #[command(flatten)]
    list: list::List,
}

#[derive(Debug, Subcommand)]
enum Action {
    #[command(visible_alias = "ls")]
    List(list::List),
    Show(list::Show),
    Allow(decide::Allow),
    Deny(decide::Deny),
    Answer(decide::Answer),
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    match arguments.action {
        None => list::execute(context, &arguments.list).await,
        Some(Action::List(arguments)) => list::execute(context, &arguments).await,
        Some(Action::Show(arguments)) => list::show(context, &arguments).await,
        Some(Action::Allow(arguments)) => decide::allow(context, &arguments).await,
        Some(Action::Deny(arguments)) => decide::deny(context, arguments).await,
        Some(Action::Answer(arguments)) => decide::answer(context, &arguments).await,
    }
}
