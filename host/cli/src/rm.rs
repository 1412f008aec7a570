//! `ostler rm`, `ostler chat delete`

use std::path::PathBuf;

use clap::Args;
use serde::Serialize;

use super::confirm::confirm;
use super::context::Context;
use super::exit::Exit;
use super::output::complain;
use super::{clean, failure, format, ids};
use ostler_client::{Client, ClientError};
use ostler_protocol::methods::GetConversationParams;
use ostler_protocol::{ApiError, Conversation, ErrorKind, RunId, RunSummary};

const EXAMPLES: &str = "\
Examples:
  ostler rm 1a2b3c4d
  ostler rm --yes @ @2                  the two newest runs, without a question
  ostler rm --chat 1a2b3c4d             a conversation with all its runs

Deletes the prompt, the answer, the events, exports in the host's folder and the words in the search \
index. The audit trail keeps a record of the deletion. Files that the agent changed, files that you \
exported to a path, and sessions of the agent's CLI are not deleted. \
Queued and running runs are refused; cancel them first with `ostler cancel`.";

/// Delete ended runs permanently
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run ids, beginnings or ends of them, or `@` for the newest
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Delete conversations, with all their runs
    #[arg(long)]
    chat: bool,
    #[command(flatten)]
    consent: Consent,
}

/// Consent that was given in advance.
#[derive(Debug, Args)]
pub(super) struct Consent {
    /// Do not ask (required where standard input or standard error is not a terminal)
    #[arg(long, short, visible_alias = "force")]
    yes: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    if arguments.chat {
        return delete_chats(context, &arguments.runs, &arguments.consent).await;
    }
    let client = context.client().await?;
    let runs = ended_runs(&client, &arguments.runs).await?;
    let question = match runs.as_slice() {
        [run] => format!("Delete {} permanently?", described(run)),
        runs => {
            let lines: Vec<String> = runs.iter().map(described).collect();
            format!("{}\nDelete these {} runs permanently?", lines.join("\n"), runs.len())
        }
    };
    if !confirm(arguments.consent.yes, question).await? {
        complain("nothing was deleted");
        return Ok(Exit::Canceled);
    }
    let mut deletions = Deletions::default();
    for run in runs {
        let deleted = client.delete_run(run.run_id).await;
        deletions.add(context, &short(run.run_id), deleted, |deleted| &deleted.files_left)?;
    }
    deletions.finish(context)
}

/// Deletes conversations with all their runs.
pub(super) async fn delete_chats(
    context: &mut Context<'_>,
    names: &[String],
    consent: &Consent,
) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let mut chats: Vec<(Conversation, u64)> = Vec::new();
    for name in names {
        let conversation_id = ids::conversation(&client, name).await?;
        let wanted = GetConversationParams { conversation_id, limit: Some(1), offset: None };
        let found = client.get_conversation(&wanted).await?;
        if !chats.iter().any(|(chat, _)| chat.conversation_id == conversation_id) {
            chats.push((found.conversation, found.total_runs));
        }
    }
    let lines: Vec<String> = chats.iter().map(|(chat, runs)| described_chat(chat, *runs)).collect();
    if !confirm(consent.yes, format!("{}\nDelete permanently?", lines.join("\n"))).await? {
        complain("nothing was deleted");
        return Ok(Exit::Canceled);
    }
    let mut deletions = Deletions::default();
    for (chat, _) in chats {
        let id = format::short_id(chat.conversation_id);
        let deleted = client.delete_conversation(chat.conversation_id).await;
        deletions.add(context, &id, deleted, |deleted| &deleted.files_left)?;
    }
    deletions.finish(context)
}

/// The runs that the texts name. Fails with the list of all runs that have not ended.
async fn ended_runs(client: &Client, texts: &[String]) -> Result<Vec<RunSummary>, ApiError> {
    let mut runs = Vec::new();
    for run_id in ids::runs(client, texts).await? {
        runs.push(client.get_run(run_id).await?.summary);
    }
    let live = runs.iter().filter(|run| !run.status.ended());
    let live: Vec<String> = live.map(|run| format!("{} ({})", short(run.run_id), run.status)).collect();
    if live.is_empty() {
        return Ok(runs);
    }
    let message = format!("only ended runs can be deleted; not ended: {}", live.join(", "));
    Err(ApiError::new(ErrorKind::Conflict, message).hint("`ostler cancel` ends them; nothing was deleted"))
}

fn short(run_id: RunId) -> String {
    format::short_id(run_id)
}

fn described(run: &RunSummary) -> String {
    format!("run {} of {} ({})", short(run.run_id), format::local(run.created_at), clean::line(&run.title))
}

fn described_chat(chat: &Conversation, runs: u64) -> String {
    let title = chat.title.as_deref().map(|title| format!(" ({})", clean::line(title))).unwrap_or_default();
    let runs = if runs == 1 { "1 run".to_owned() } else { format!("{} runs", format::count(runs)) };
    format!("conversation {}{title} with {runs}", format::short_id(chat.conversation_id))
}

/// Results of several deletions. A failed one does not stop the others.
#[derive(Debug)]
struct Deletions<T> {
    deleted: Vec<T>,
    failed: Option<Exit>,
}

impl<T> Default for Deletions<T> {
    fn default() -> Self {
        Self { deleted: Vec::new(), failed: None }
    }
}

impl<T: Serialize> Deletions<T> {
    fn add(
        &mut self,
        context: &mut Context<'_>,
        id: &str,
        outcome: Result<T, ClientError>,
        files_left: impl Fn(&T) -> &[PathBuf],
    ) -> Result<(), ApiError> {
        let deleted = match outcome {
            Ok(deleted) => deleted,
            Err(error) => {
                let error = ApiError::from(error);
                failure::report(&error, context.json);
                self.failed = Some(Exit::from(error.kind));
                return Ok(());
            }
        };
        if !context.json {
            context.out.line(format!("deleted {id}"))?;
        }
        for file in files_left(&deleted) {
            complain(&format!("warning: failed to delete {}", clean::line(&file.display().to_string())));
        }
        self.deleted.push(deleted);
        Ok(())
    }

    fn finish(self, context: &mut Context<'_>) -> Result<Exit, ApiError> {
        if context.json {
            context.out.document(&self.deleted)?;
        }
        Ok(self.failed.unwrap_or(Exit::Done))
    }
}
