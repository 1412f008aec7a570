//! `ostler run`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, current_folder};
use super::exit::Exit;
use super::options::StartArguments;
use super::payload::{self, Given};
use super::profiles;
use super::submit::{self, Manner, Request};
use crate::model::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler run rehearsal --grant \"SAY hello\"             a scripted stand-in, no agent needed
  ostler run codex \"explain this repository\"
  ostler run codex --file task.md --sandbox workspace-write --timeout 20m
  git diff | ostler run codex -                        the prompt comes from standard input
  ostler run codex --schema answer.json \"list the crates\" | jq .
  ostler run codex --detach \"run the tests\"            prints the run id and returns
  ostler run --payload job.json --json                 a whole start payload; events as JSON lines
  ostler run codex -- \"--verbose does nothing, why?\"   a prompt that begins with a dash

The agent works in the current folder, unless --cwd, the payload or the profile names another.
The answer goes to standard output, progress to standard error.
Ctrl-C cancels the run and waits for its end; a second one leaves at once.";

/// Submit a run and follow it to its end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Provider: claude, codex, rehearsal, or a name from the configuration
    #[arg(required_unless_present = "payload")]
    provider: Option<String>,
    #[command(flatten)]
    start: StartArguments,
    /// Go on from a session of the provider
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    #[command(flatten)]
    manner: Manner,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let given = Given { provider: arguments.provider, resume: arguments.resume, ..arguments.start.gather()? };
    let names_folder = given.names_folder();
    let mut params = payload::build(given, &current_folder()?)?;
    submit::execute(context, &arguments.manner, async |client| {
        // Where nothing but a profile names a folder, that goes before the current one.
        if let Some(folder) = if names_folder { None } else { profiles::folder(client, &params).await? } {
            params["cwd"] = json!(folder);
        }
        let text = |name: &str| params.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        let (provider, folder) = (text("provider"), Some(PathBuf::from(text("cwd"))));
        Ok(Request { method: "start_run", params, provider, folder })
    })
    .await
}
