//! `ostler session resume`

use clap::Args;
use serde_json::json;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::submit::Request;
use super::super::{ids, input};
use super::open::{self, OpenOptions};
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler session resume 1a2b3c4d                 the agent remembers the session, and waits
  ostler session resume @ \"now the tests\"        with the next message
  ostler session resume 1a2b3c4d --detach        prints the id of the new run

An ended session continues in a new run. A session that is open is attached to.";

/// Continue an ended session in a new run, and attach to it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id of the session, the beginning or end of one, or `@` for the newest session
    run: String,
    /// First message; `-` reads it from standard input
    prompt: Option<String>,
    #[command(flatten)]
    open: OpenOptions,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let prompt = match arguments.prompt.as_deref() {
        Some("-") => Some(input::stdin_text("prompt")?),
        prompt => prompt.map(str::to_owned),
    };
    open::execute(context, &arguments.open, async |client| {
        let run_id = ids::session(client, &arguments.run).await?;
        let run = client.get_run(run_id).await?.summary;
        let mut params = json!({"runId": run_id});
        if let Some(prompt) = prompt {
            params["prompt"] = prompt.into();
        }
        Ok(Request { method: "resume_session", params, provider: run.provider, folder: Some(run.cwd) })
    })
    .await
}
