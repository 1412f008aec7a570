//! What the commands that open a session share: options, the call, and what follows it.

use clap::Args;
use serde_json::Value;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::signals::Signals;
use super::super::submit::{self, Request};
use super::attach;
use ostler_client::Client;
use ostler_protocol::ApiError;

/// How a session is opened.
#[derive(Debug, Args)]
pub(super) struct OpenOptions {
    /// Allow agents to work in the session's folder, now and later
    #[arg(long)]
    grant: bool,
    /// Print the run id and return (default where standard input or output is not a terminal)
    #[arg(long, short)]
    detach: bool,
    /// Show no hints, only errors
    #[arg(long, short)]
    quiet: bool,
}

impl OpenOptions {
    /// Whether the session is not attached to.
    pub(super) const fn detaches(&self) -> bool {
        self.detach
    }

    /// Whether hints are omitted.
    pub(super) const fn is_quiet(&self, context: &Context<'_>) -> bool {
        self.quiet || context.json
    }
}

/// Opens a session with the request that `make` builds, and attaches to it.
pub(super) async fn execute(
    context: &mut Context<'_>,
    options: &OpenOptions,
    make: impl AsyncFnOnce(&Client) -> Result<Request, ApiError>,
) -> Result<Exit, ApiError> {
    let quiet = options.is_quiet(context);
    let attaches = !options.detach && attach::can_converse(context);
    let mut signals = if attaches { Signals::listen_on_terminal() } else { Signals::listen() }?;
    let prompt = |params: &Value| params.get("prompt").and_then(Value::as_str).unwrap_or_default().to_owned();
    let opened = submit::open(context, options.grant, quiet, &mut signals, make).await?;
    let Some(submit::Opened { client, request, submitted }) = opened else { return Ok(Exit::Canceled) };
    if submitted.cancel {
        client.cancel_run(submitted.run_id).await?;
        return Ok(Exit::Canceled);
    }
    if !attaches {
        if context.json {
            context.out.document(&submitted.result)?;
        } else {
            context.out.line(submitted.run_id)?;
        }
        return Ok(Exit::Done);
    }
    let was_open = submitted.result.get("attached") == Some(&Value::Bool(true));
    let message = Some(prompt(&request.params)).filter(|prompt| !prompt.is_empty() && !was_open);
    attach::attach_to_opened(context, &client, submitted.run_id, was_open, message, &mut signals).await
}
