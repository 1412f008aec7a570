//! `ostler search`

use clap::Args;
use serde_json::json;

use super::chat;
use super::context::Context;
use super::exit::Exit;
use super::numbers;
use super::output::complain;
use super::{runs, times};
use ostler_protocol::ApiError;
use ostler_protocol::methods::{ListConversationsParams, ListRunsParams};

const EXAMPLES: &str = "\
All words must occur, in any order. Words match as prefixes: `auth` finds `authentication`. Text in quotation marks \
must occur exactly. Case and accents are ignored. Secrets are not stored, so they are not found.

Examples:
  ostler search flaky test
  ostler search --provider codex '\"connection reset by peer\"'
  ostler search migration --json | jq -r '.runs.items[].runId'";

/// Find runs by their prompt and answer, and conversations by their title and runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Words to find
    #[arg(required = true, value_name = "WORDS")]
    words: Vec<String>,
    /// Only runs and conversations of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Maximum number of runs, and of conversations
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = numbers::whole(1_u32..=1000))]
    limit: u32,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let search = Some(arguments.words.join(" "));
    let limit = Some(arguments.limit);
    let of_runs = ListRunsParams {
        provider: arguments.provider.clone(),
        search: search.clone(),
        limit,
        ..ListRunsParams::default()
    };
    let of_chats = ListConversationsParams {
        provider: arguments.provider,
        include_archived: Some(true),
        search,
        limit,
        ..ListConversationsParams::default()
    };
    let client = context.client().await?;
    let found = client.list_runs(&of_runs).await?;
    let chats = client.list_conversations(&of_chats).await?;
    if context.json {
        context.out.document(&json!({ "runs": found, "conversations": chats }))?;
        return Ok(Exit::Done);
    }
    if found.items.is_empty() && chats.items.is_empty() {
        complain("nothing found");
        return Ok(Exit::Done);
    }
    let short = context.out.stdout_terminal;
    if !found.items.is_empty() {
        runs::table(&found.items, short, times::now()).print(&mut context.out)?;
    }
    if !chats.items.is_empty() {
        if !found.items.is_empty() {
            context.out.line("")?;
        }
        chat::table(&chats.items, short).print(&mut context.out)?;
    }
    context.out.note_incomplete_list(found.items.len(), found.total, "runs", "-n shows more");
    context.out.note_incomplete_list(chats.items.len(), chats.total, "conversations", "-n shows more");
    Ok(Exit::Done)
}
