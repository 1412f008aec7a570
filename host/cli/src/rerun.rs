//! `ostler rerun`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use super::ids;
use super::option_names;
use super::options::StartArguments;
use super::payload;
use super::schedule::ScheduleArguments;
use super::submit::{self, Request, SubmitOptions};
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler rerun 1a2b3c4d                              run it again
  ostler rerun 1a2b3c4d --model other --retries 3    with changes
  ostler rerun 1a2b3c4d \"another prompt\"
  ostler rerun 1a2b3c4d --clear harness.limits       without its limits
  ostler rerun 1a2b3c4d --payload more.json          changes as JSON, null to clear a field

Everything that is not given stays as it was, the time limit and the folder too; the defaults above \
are those of new runs. A run of a conversation becomes its next message. Secrets are deleted when \
a run ends: pass them again.";

/// Run a run again, with changes
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, the beginning or end of one, or `@` for the newest
    run: String,
    #[command(flatten)]
    start: StartArguments,
    /// Clear a field of the payload: model, harness.limits.maxTurns (repeatable)
    #[arg(long, value_name = "FIELD")]
    clear: Vec<String>,
    #[command(flatten)]
    schedule: ScheduleArguments,
    #[command(flatten)]
    submit_options: SubmitOptions,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let output = arguments.submit_options.output(context)?;
    let payload_args = arguments.start.gather(true, arguments.submit_options.is_quiet(context))?;
    let base = payload_args.base.clone();
    let mut overrides = payload::part(payload_args)?;
    for field in &arguments.clear {
        payload::clear(&mut overrides, field)?;
    }
    let built = base.as_ref().map_or(Value::Null, |_| overrides.clone());
    submit::execute(context, &arguments.submit_options, output, async |client| {
        let run_id = ids::run(client, &arguments.run).await?;
        arguments.schedule.apply(client, &mut overrides).await?;
        let summary = client.get_run(run_id).await?.summary;
        let text = |name: &str| overrides.get(name).and_then(Value::as_str).map(str::to_owned);
        let provider = text("provider").unwrap_or(summary.provider);
        let folder = Some(text("cwd").map_or(summary.cwd, PathBuf::from));
        let params = json!({"runId": run_id, "overrides": overrides});
        Ok(Request { method: "rerun", params, provider, folder })
    })
    .await
    .map_err(|error| if context.json { error } else { option_names::keep_pointers_of(base.as_ref(), &built, error) })
}
