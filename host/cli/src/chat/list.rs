//! `ostler chat list`

use clap::Args;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::format;
use super::super::numbers;
use super::super::output::{DIM, complain};
use super::super::runs::status_cell;
use super::super::table::{Cell, Table};
use ostler_protocol::methods::ListConversationsParams;
use ostler_protocol::{ApiError, ConversationSummary};

const EXAMPLES: &str = "\
Examples:
  ostler chat list                        the 20 that changed last
  ostler chat list --archived -n 100      includes archived ones
  ostler chat list --provider codex --json | jq -r '.items[].conversationId'

Every command takes the short id from the list, or any beginning or end of the full id.";

/// List conversations, the last changed first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only conversations with this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Include archived conversations
    #[arg(long)]
    archived: bool,
    /// Only conversations with these words in the title or in a prompt or answer; see `ostler search --help`
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// Maximum number of results
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = numbers::whole(1_u32..=1000))]
    limit: u32,
    /// Skip the first N
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let params = ListConversationsParams {
        provider: arguments.provider,
        include_archived: Some(arguments.archived),
        search: arguments.search,
        limit: Some(arguments.limit),
        offset: arguments.offset,
    };
    let page = context.client().await?.list_conversations(&params).await?;
    if context.json {
        context.out.document(&page)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() {
        complain(match (page.total, params.provider.is_some() || params.search.is_some() || !arguments.archived) {
            (0, false) => "no conversations yet; `ostler chat new` creates one",
            (0, true) => "no matching conversations",
            _ => "no more conversations",
        });
        return Ok(Exit::Done);
    }
    table(&page.items, context.out.stdout_terminal).print(&mut context.out)?;
    context.out.note_incomplete_list(page.items.len(), page.total, "conversations", "-n and --offset show others");
    Ok(Exit::Done)
}

pub(in super::super) fn table(items: &[ConversationSummary], short: bool) -> Table {
    let mut table = Table::new(&["CHAT", "PROVIDER", "CHANGED", "RUNS", "LAST", "TITLE"], 5).optional(&[3, 1, 2]);
    for item in items {
        let conversation = &item.conversation;
        let id = conversation.conversation_id;
        let title = conversation.title.as_deref().unwrap_or("(no messages yet)");
        let title = match conversation.archived_at {
            Some(_) => Cell::styled(DIM, &format!("{title} (archived)")),
            None if conversation.title.is_none() => Cell::styled(DIM, title),
            None => title.into(),
        };
        table.row(vec![
            if short { format::short_id(id) } else { id.to_string() }.into(),
            conversation.provider.as_str().into(),
            Cell::styled(DIM, &format::local(conversation.updated_at)),
            item.runs.to_string().into(),
            item.last_run.as_ref().map_or_else(|| "".into(), |run| status_cell(run.status)),
            title,
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;

    #[test]
    fn list_fits_width_and_marks_archived() {
        let item = |end: &str, title: Option<&str>, archived: bool| -> ConversationSummary {
            let mut item = json!({
                "conversationId": format!("01999999-8888-7777-8666-1234{end}"), "provider": "codex", "title": title,
                "metadata": {}, "createdAt": "2020-03-05T11:58:00Z", "updatedAt": "2020-03-05T11:58:00Z", "runs": 0
            });
            if title.is_some() {
                item["runs"] = json!(2);
                item["lastRun"] = json!({"runId": format!("01999999-8888-7777-8666-5678{end}"), "status": "completed"});
            }
            if archived {
                item["archivedAt"] = json!("2020-03-05T11:58:00Z");
            }
            serde_json::from_value(item).unwrap()
        };
        let items = [
            item("00000001", Some("what does the parser do with a line that is too long?"), false),
            item("00000002", None, false),
            item("00000003", Some("done"), true),
        ];
        insta::assert_snapshot!(table(&items, true).render(Some(72), false), @r"
        CHAT      PROVIDER  CHANGED     RUNS  LAST       TITLE
        00000001  codex     2020-03-05  2     completed  what does the parser d…
        00000002  codex     2020-03-05  0                (no messages yet)
        00000003  codex     2020-03-05  2     completed  done (archived)
        ");
    }
}
