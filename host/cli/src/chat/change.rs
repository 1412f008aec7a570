//! `ostler chat rename`, `update`, `archive`

use clap::Args;
use serde_json::{Map, Value, json};

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::{clean, format, ids};
use ostler_protocol::methods::{ArchiveConversationParams, RenameConversationParams};
use ostler_protocol::{ApiError, Conversation, ErrorKind};

/// Change the title of a conversation
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler chat rename 1a2b3c4d \"the parser\"")]
pub(super) struct Rename {
    /// Conversation id, the beginning or end of one, or `@` for the newest
    chat: String,
    /// New title
    title: String,
}

pub(super) async fn rename(context: &mut Context<'_>, arguments: Rename) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let conversation_id = ids::conversation(&client, &arguments.chat).await?;
    let params = RenameConversationParams { conversation_id, title: arguments.title };
    let changed = client.rename_conversation(&params).await?;
    print_change(context, &changed, "is now called")
}

/// Change the title or metadata of a conversation
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler chat update 1a2b3c4d --meta ticket=1234 --meta owner=me\n  \
    ostler chat update 1a2b3c4d --unset ticket")]
pub(super) struct Update {
    /// Conversation id, the beginning or end of one, or `@` for the newest
    chat: String,
    /// Set a metadata entry (repeatable)
    #[arg(long, value_name = "NAME=VALUE", value_parser = parse_meta, required_unless_present_any = ["unset", "title"])]
    meta: Vec<(String, String)>,
    /// Remove a metadata entry (repeatable)
    #[arg(long, value_name = "NAME")]
    unset: Vec<String>,
    /// New title
    #[arg(long, value_name = "TEXT")]
    title: Option<String>,
}

pub(super) async fn update(context: &mut Context<'_>, arguments: Update) -> Result<Exit, ApiError> {
    let mut patch: Map<String, Value> = arguments.meta.into_iter().map(|(name, value)| (name, value.into())).collect();
    for name in arguments.unset {
        if patch.insert(name.clone(), Value::Null).is_some() {
            let message = format!("--meta and --unset both name {:?}", clean::line(&name));
            return Err(ApiError::new(ErrorKind::InvalidParams, message));
        }
    }
    let client = context.client().await?;
    let conversation_id = ids::conversation(&client, &arguments.chat).await?;
    let mut params = json!({"conversationId": conversation_id, "metadata": patch});
    if let Some(title) = arguments.title {
        params["title"] = title.into();
    }
    let changed: Conversation = client.call("update_conversation", &params).await?;
    if context.json {
        context.out.document(&changed)?;
    } else {
        context.out.line(clean::line(&changed.metadata.to_string()))?;
    }
    Ok(Exit::Done)
}

/// Archive a conversation: it takes no messages, and lists omit it
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler chat archive 1a2b3c4d\n  ostler chat archive --undo 1a2b3c4d")]
pub(super) struct Archive {
    /// Conversation id, the beginning or end of one, or `@` for the newest
    chat: String,
    /// Unarchive it
    #[arg(long)]
    undo: bool,
}

pub(super) async fn archive(context: &mut Context<'_>, arguments: &Archive) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let conversation_id = ids::conversation(&client, &arguments.chat).await?;
    let params = ArchiveConversationParams { conversation_id, archived: Some(!arguments.undo) };
    let changed = client.archive_conversation(&params).await?;
    print_change(context, &changed, if arguments.undo { "is no longer archived" } else { "is archived" })
}

fn print_change(context: &mut Context<'_>, changed: &Conversation, what: &str) -> Result<Exit, ApiError> {
    if context.json {
        context.out.document(changed)?;
    } else {
        let title = changed.title.as_deref().map(|title| format!(": {}", clean::line(title))).unwrap_or_default();
        context.out.line(format!("{} {what}{title}", format::short_id(changed.conversation_id)))?;
    }
    Ok(Exit::Done)
}

/// Reads `NAME=VALUE`.
pub(super) fn parse_meta(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_metadata_pairs() {
        assert_eq!(parse_meta("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(parse_meta("a="), Ok(("a".to_owned(), String::new())));
        assert!(parse_meta("a").is_err() && parse_meta("=b").is_err());
    }
}
