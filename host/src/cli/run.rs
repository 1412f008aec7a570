//! `ostler run`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, current_folder};
use super::exit::Exit;
use super::options::StartArguments;
use super::payload::{self, Given};
use super::profiles;
use super::schedule::ScheduleArguments;
use super::submit::{self, Manner, Request};
use crate::model::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler run rehearsal --grant \"SAY hello\"             a scripted stand-in, no agent needed
  ostler run codex \"explain this repository\"
  ostler run codex --file task.md --sandbox workspace-write --timeout 20m
  git diff | ostler run codex \"review this\"            the agent gets the diff with the prompt
  ostler run codex - < task.md                         the prompt comes from standard input
  ostler run codex --schema answer.json \"list the crates\" | jq .
  ostler run --profile careful \"what is this?\"         the profile names the provider
  ostler run codex --at 22:00 --detach \"run the tests\"   starts in the evening
  ostler run codex --after @ \"then fix what failed\"     when the newest run has completed
  ostler run codex --detach \"run the tests\"            prints the run id and returns
  ostler run --payload job.json --json                 a whole start payload; events as JSON lines
  ostler run codex -- \"--verbose does nothing, why?\"   a prompt that begins with a dash

The agent works in the current folder, unless --cwd, the payload or the profile names another.
The answer goes to standard output, progress to standard error.
Standard input is read if it is a pipe or a file that was given to this command alone. In a loop
or script that reads it, and behind a program like sudo or timeout, --stdin is required.
Ctrl-C cancels the run and waits for its end; a second one leaves at once.
Ctrl-\\ leaves the run, which continues; `ostler attach` follows it again.";

/// Submit a run and follow it to its end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Provider: claude, codex, rehearsal, or a name from the configuration; optional with --profile
    #[arg(required_unless_present_any = ["payload", "profile"])]
    provider: Option<String>,
    #[command(flatten)]
    start: StartArguments,
    /// Go on from a session of the provider
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    #[command(flatten)]
    schedule: ScheduleArguments,
    #[command(flatten)]
    manner: Manner,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let Arguments { mut provider, mut start, resume, schedule, manner } = arguments;
    let output = manner.output(context)?;
    if start.profile.is_some() && provider.is_some() && !is_provider(context, provider.as_deref()).await? {
        start.prompt.set_if_missing(&mut provider);
    }
    let given = Given { provider, resume, ..start.gather(false, manner.is_quiet(context))? };
    let names_folder = given.names_folder();
    let mut params = payload::build(given, &current_folder()?)?;
    submit::execute(context, &manner, output, async |client| {
        schedule.apply(client, &mut params).await?;
        let profile = profiles::of_payload(client, &params).await?;
        // Where nothing but a profile names a folder, that goes before the current one.
        if let Some(folder) = profile.as_ref().and_then(profiles::folder).filter(|_| !names_folder) {
            params["cwd"] = json!(folder);
        }
        let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
        let provider = text("provider").or(profile.map(|profile| profile.provider)).unwrap_or_default();
        let folder = text("cwd").map(PathBuf::from);
        Ok(Request { method: "start_run", params, provider, folder })
    })
    .await
}

/// Whether the first argument names a provider. With a profile, which has one, it may be the prompt instead.
async fn is_provider(context: &Context<'_>, argument: Option<&str>) -> Result<bool, ApiError> {
    let listed = context.client().await?.list_plugins().await?;
    Ok(listed.providers.iter().any(|provider| Some(provider.name.as_str()) == argument))
}
