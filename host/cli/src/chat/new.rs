//! `ostler chat new`

use clap::Args;

use super::super::context::Context;
use super::super::exit::Exit;
use super::change;
use ostler_protocol::ApiError;
use ostler_protocol::methods::CreateConversationParams;

const EXAMPLES: &str = "\
Examples:
  ostler chat new codex
  ostler chat new claude --title \"the parser\" --meta ticket=1234
  chat=$(ostler chat new codex) && ostler chat send $chat \"hello\"";

/// Create a conversation and print its id
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Provider: claude, codex, rehearsal, or a name from the configuration
    provider: String,
    /// Title [default: the first line of the first message]
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
    /// Metadata to keep with it (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = change::parse_meta)]
    meta: Vec<(String, String)>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let meta = arguments.meta.into_iter().map(|(name, value)| (name, value.into()));
    let params = CreateConversationParams {
        provider: arguments.provider,
        title: arguments.title,
        metadata: Some(meta.collect()),
    };
    let conversation = context.client().await?.create_conversation(&params).await?;
    if context.json {
        context.out.document(&conversation)?;
    } else {
        context.out.line(conversation.conversation_id)?;
    }
    Ok(Exit::Done)
}
