//! `ostler run`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::context::{Context, current_folder};
use super::exit::Exit;
use super::options::StartArguments;
use super::payload::{self, PayloadArgs};
use super::schedule::ScheduleArguments;
use super::submit::{self, Request, SubmitOptions};
use super::{clean, option_names, profiles};
use ostler_protocol::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler run rehearsal --grant \"SAY hello\"             a scripted stand-in, no agent needed
  ostler run codex \"explain this repository\"
  ostler run codex --file task.md --sandbox workspace-write --timeout 20m
  git diff | ostler run codex \"review this\"            sends the diff with the prompt
  ostler run codex - < task.md                         reads the prompt from stdin
  ostler run codex --schema answer.json \"list the crates\" | jq .
  ostler run codex --json=result \"list the crates\" | jq -r .finalText
  ostler run --profile careful \"what is this?\"         the profile names the provider
  ostler run codex --at 22:00 --detach \"run the tests\"   starts in the evening
  ostler run codex --after @ \"then fix what failed\"     when the newest run has completed
  ostler run codex --detach \"run the tests\"            prints the run id and returns
  ostler run --payload job.json --json                 JSON in, events as JSON lines out
  ostler run codex -- \"--verbose does nothing, why?\"   a prompt that begins with a dash

The agent works in the current folder, unless --cwd, the payload or the profile names another. \
The answer goes to standard output, progress to standard error.

Standard input is read if it is a pipe or a file that was given to this command alone. In a loop \
or script that reads it, and behind a program like sudo or timeout, --stdin is required.

Ctrl-C cancels the run and waits for its end; a second one exits without waiting. Ctrl-\\ leaves the run, which \
continues; `ostler attach` follows it again.";

/// Start a run and follow it to its end
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Provider: claude, codex, rehearsal, or a name from the configuration; optional with --profile
    #[arg(required_unless_present_any = ["payload", "profile"])]
    provider: Option<String>,
    #[command(flatten)]
    start: StartArguments,
    /// Resume a provider session
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    /// Resume the newest session of the working folder
    #[arg(long = "continue", conflicts_with = "resume")]
    continue_session: bool,
    #[command(flatten)]
    schedule: ScheduleArguments,
    #[command(flatten)]
    submit_options: SubmitOptions,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let Arguments { mut provider, mut start, resume, continue_session, schedule, submit_options } = arguments;
    let output = submit_options.output(context)?;
    if start.profile.is_some() && provider.is_some() && !is_provider(context, provider.as_deref()).await? {
        start.prompt.set_if_missing(&mut provider);
    }
    let continue_session = continue_session.then_some(true);
    let payload_args =
        PayloadArgs { provider, resume, continue_session, ..start.gather(false, submit_options.is_quiet(context))? };
    expect_prompt(&payload_args, "run")?;
    let names_folder = payload_args.names_folder();
    let base = payload_args.base.clone();
    let mut params = payload::build(payload_args, &current_folder()?)?;
    let built = base.as_ref().map_or(Value::Null, |_| params.clone());
    submit::execute(context, &submit_options, output, async |client| {
        schedule.apply(client, &mut params).await?;
        let profile = profiles::of_payload(client, &params).await?;
        // The folder of a profile overrides the current folder, but not a named one.
        if let Some(folder) = profile.as_ref().and_then(profiles::folder).filter(|_| !names_folder) {
            params["cwd"] = json!(folder);
        }
        let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
        let provider = text("provider").or(profile.map(|profile| profile.provider)).unwrap_or_default();
        let folder = text("cwd").map(PathBuf::from);
        Ok(Request { method: "start_run", params, provider, folder })
    })
    .await
    .map_err(|error| if context.json { error } else { option_names::keep_pointers_of(base.as_ref(), &built, error) })
}

/// Rejects a run without a prompt. A single argument is often the prompt, without a provider before it. `command` starts
/// the run.
pub(super) fn expect_prompt(args: &PayloadArgs, command: &str) -> Result<(), ApiError> {
    let has = |name: &str| args.base.as_ref().and_then(|base| base.get(name)).is_some_and(|value| !value.is_null());
    let (Some(argument), None, None) = (&args.provider, &args.prompt, &args.profile) else { return Ok(()) };
    if has("prompt") || has("profileId") {
        return Ok(());
    }
    let shown = clean::line(argument);
    let name = argument.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
    let message = if name {
        "the prompt is missing: pass it as an argument, `-` for standard input, or --file FILE".to_owned()
    } else {
        format!("{shown:?} is not the name of a provider")
    };
    let hint = if name {
        format!(
            "ostler {command} {shown} \"explain this repository\"; if {shown:?} is the prompt, name a provider before it"
        )
    } else {
        format!("name a provider before the prompt: ostler {command} claude {shown:?}")
    };
    let error = ApiError::new(ErrorKind::InvalidParams, message).at(if name { "/prompt" } else { "/provider" });
    Err(error.hint(hint))
}

/// Whether the first argument names a provider. With a profile, which has a provider, it can be the prompt.
pub(super) async fn is_provider(context: &Context<'_>, argument: Option<&str>) -> Result<bool, ApiError> {
    let listed = context.client().await?.list_plugins().await?;
    Ok(listed.providers.iter().any(|provider| Some(provider.name.as_str()) == argument))
}
