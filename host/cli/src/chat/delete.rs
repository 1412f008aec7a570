//! `ostler chat delete`

use clap::Args;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::rm::{self, Consent};
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler chat delete 1a2b3c4d
  ostler chat delete --yes 1a2b3c4d 5e6f7a8b

Deletes the conversations with all their runs; see `ostler rm --help`. A conversation with a queued \
or running run is refused.";

/// Delete conversations and their runs permanently
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Conversation ids, beginnings or ends of them, or `@` for the newest
    #[arg(required = true, value_name = "CHAT")]
    chats: Vec<String>,
    #[command(flatten)]
    consent: Consent,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    rm::delete_chats(context, &arguments.chats, &arguments.consent).await
}
