//! `ostler session start`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Value, json};

use super::super::context::{Context, current_folder};
use super::super::exit::Exit;
use super::super::options::StartArguments;
use super::super::payload::{self, PayloadArgs};
use super::super::submit::Request;
use super::super::terminal::Keyboard;
use super::super::{option_names, profiles, run};
use super::open::{self, OpenOptions};
use super::{attach, console, terminal_view};
use ostler_protocol::ApiError;
use ostler_protocol::methods::ListCapabilitiesParams;

const EXAMPLES: &str = "\
Examples:
  ostler session start codex                            asks for the first message
  ostler session start codex --grant \"fix the build\"
  ostler session start claude --ask untrusted \"tidy up\"   the agent asks before every action
  ostler session start codex --resume SESSION \"go on\"     a session of the CLI that Ostler does not know
  git diff | ostler session start claude \"review this\"
  ostler session start claude --terminal                claude's own screen, instead of Ostler's
  id=$(ostler session start codex --detach \"run the tests\")

The options are those of `ostler run`. --timeout is the time that the session may be idle. A session is not retried. The \
session stays open when you leave it: `ostler session attach` comes back, `ostler session end` ends it.";

/// Open a session and attach to it
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Provider: claude, codex, rehearsal, or a name from the configuration; optional with --profile
    #[arg(required_unless_present_any = ["payload", "profile"])]
    provider: Option<String>,
    #[command(flatten)]
    start: StartArguments,
    /// Run the CLI in a terminal, with its own screen; Ostler then sees no tools, approvals or usage
    #[arg(long)]
    terminal: bool,
    /// Resume a provider session
    #[arg(long, value_name = "SESSION")]
    resume: Option<String>,
    /// Resume the newest session of the working folder
    #[arg(long = "continue", conflicts_with = "resume")]
    continue_session: bool,
    #[command(flatten)]
    open: OpenOptions,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let Arguments { mut provider, mut start, terminal, resume, continue_session, open } = arguments;
    if start.profile.is_some() && provider.is_some() && !run::is_provider(context, provider.as_deref()).await? {
        start.prompt.set_if_missing(&mut provider);
    }
    let continue_session = continue_session.then_some(true);
    let mut args = PayloadArgs { provider, resume, continue_session, ..start.gather(false, open.is_quiet(context))? };
    if terminal {
        let size = Keyboard::open().map(|keyboard| terminal_view::api_size(keyboard.size()));
        args.terminal = Some(json!(size.unwrap_or_default()));
    } else if lacks_prompt(&args) && !open.detaches() && !needs_terminal(context, args.provider.as_deref()).await {
        if attach::can_converse(context) {
            let name = args.provider.clone().unwrap_or_default();
            match console::first_message(context, &name).await? {
                Some(message) => args.prompt = Some(message),
                None => return Ok(Exit::Canceled),
            }
        } else {
            run::expect_prompt(&args, "session start")?;
        }
    }
    let names_folder = args.names_folder();
    let base = args.base.clone();
    let mut params = payload::session(args, &current_folder()?)?;
    let built = base.as_ref().map_or(Value::Null, |_| params.clone());
    open::execute(context, &open, async |client| {
        let profile = profiles::of_payload(client, &params).await?;
        if let Some(folder) = profile.as_ref().and_then(profiles::folder).filter(|_| !names_folder) {
            params["cwd"] = json!(folder);
        }
        let text = |name: &str| params.get(name).and_then(Value::as_str).map(str::to_owned);
        let provider = text("provider").or(profile.map(|profile| profile.provider)).unwrap_or_default();
        let folder = text("cwd").map(PathBuf::from);
        Ok(Request { method: "start_interactive_session", params, provider, folder })
    })
    .await
    .map_err(|error| if context.json { error } else { option_names::keep_pointers_of(base.as_ref(), &built, error) })
}

/// Whether the sessions of a provider run in a terminal. The host decides again, and reports an unknown provider.
async fn needs_terminal(context: &Context<'_>, provider: Option<&str>) -> bool {
    let Some(provider) = provider else { return false };
    let Ok(client) = context.client().await else { return false };
    let params = ListCapabilitiesParams { provider: Some(provider.to_owned()), ..ListCapabilitiesParams::default() };
    let known = client.list_capabilities(&params).await.unwrap_or_default();
    known.iter().any(|snapshot| snapshot.features.iter().any(|feature| feature == "terminal-only"))
}

/// Whether nothing can supply the first message.
fn lacks_prompt(args: &PayloadArgs) -> bool {
    let has = |name: &str| args.base.as_ref().and_then(|base| base.get(name)).is_some_and(|value| !value.is_null());
    args.prompt.is_none() && args.profile.is_none() && !has("prompt") && !has("profileId")
}
