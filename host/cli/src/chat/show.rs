//! `ostler chat show`

use clap::Args;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::output::{BOLD, DIM};
use super::super::{answer, clean, format, ids, numbers, runs, times};
use ostler_client::Client;
use ostler_protocol::methods::GetConversationParams;
use ostler_protocol::{ApiError, Conversation, ErrorKind, RunSummary};

const EXAMPLES: &str = "\
Examples:
  ostler chat show 1a2b3c4d                 the conversation and its runs
  ostler chat show 1a2b3c4d --text          with prompts and answers
  ostler chat show 1a2b3c4d --json | jq -r '.runs[].runId'";

/// Show a conversation and its runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Conversation id, the beginning or end of one, or `@` for the newest
    chat: String,
    /// Show prompts and answers instead of the list of runs
    #[arg(long)]
    text: bool,
    /// Maximum number of runs, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = numbers::whole(1_u32..=1000))]
    limit: u32,
    /// Skip the newest N runs
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    if arguments.text && context.json {
        let message =
            "--text cannot be combined with --json; `ostler show RUN --json` has the prompt and answer of a run";
        return Err(ApiError::new(ErrorKind::InvalidParams, message));
    }
    let client = context.client().await?;
    let conversation_id = ids::conversation(&client, &arguments.chat).await?;
    let (limit, offset) = (Some(arguments.limit), arguments.offset);
    let found = client.get_conversation(&GetConversationParams { conversation_id, limit, offset }).await?;
    if context.json {
        context.out.document(&found)?;
        return Ok(Exit::Done);
    }
    let text = head(&found.conversation, found.total_runs, context);
    context.out.write(&text)?;
    if arguments.text {
        for run in &found.runs {
            print_exchange(&client, run, context).await?;
        }
    } else if !found.runs.is_empty() {
        context.out.line("")?;
        runs::table(&found.runs, context.out.stdout_terminal, times::now()).print(&mut context.out)?;
    }
    context.out.note_incomplete_list(found.runs.len(), found.total_runs, "runs", "-n and --offset show others");
    Ok(Exit::Done)
}

fn head(conversation: &Conversation, runs: u64, context: &Context<'_>) -> String {
    let metadata = Some(conversation.metadata.to_string()).filter(|text| text != "{}");
    let folder = conversation.cwd.as_ref().map(|folder| folder.display().to_string());
    let fields = [
        ("chat", Some(conversation.conversation_id.to_string())),
        ("title", conversation.title.clone()),
        ("provider", Some(conversation.provider.clone())),
        ("folder", folder),
        ("session", conversation.session_id.clone()),
        ("metadata", metadata),
        ("runs", Some(format::count(runs))),
        ("created", Some(format::local_full(conversation.created_at))),
        ("changed", Some(format::local_full(conversation.updated_at))),
        ("archived", conversation.archived_at.map(format::local_full)),
    ];
    let mut text = String::new();
    for (name, value) in fields.into_iter().filter_map(|(name, value)| Some((name, value?))) {
        text.push_str(&format!("{}{}\n", context.out.styled(DIM, &format!("{name:<10}")), clean::line(&value)));
    }
    text
}

/// Prints a prompt and its answer.
async fn print_exchange(client: &Client, run: &RunSummary, context: &mut Context<'_>) -> Result<(), ApiError> {
    let record = client.get_run(run.run_id).await?;
    let out = &mut context.out;
    let terminal = out.stdout_terminal;
    let shown = |text: &str| if terminal { clean::text(text) } else { text.to_owned() };
    let prompt = record.payload.get("prompt").and_then(serde_json::Value::as_str).unwrap_or_default();
    let quoted: String = shown(prompt.trim_end()).lines().map(|line| format!("> {line}\n")).collect();
    out.write(&format!("\n{}\n", out.styled(BOLD, quoted.trim_end())))?;
    if answer::is_cut(&record) {
        return answer::show(client, &record, out).await;
    }
    match record.final_text.as_deref().filter(|text| !text.trim().is_empty()) {
        Some(answer) => out.line(shown(answer.trim_end())),
        None => {
            let message = run.message.as_deref().unwrap_or_default();
            out.line(out.styled(DIM, &format!("({} {})", run.status, clean::line(message)).replace(" )", ")")))
        }
    }
}
