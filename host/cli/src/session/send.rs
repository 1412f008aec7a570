//! `ostler session send`

use std::time::Duration;

use clap::Args;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::follow::{self, OnInterrupt};
use super::super::output::complain;
use super::super::signals::Signals;
use super::super::{format, ids, input};
use super::activity::Activity;
use super::list::activity_of;
use super::terminal_view::has_terminal;
use ostler_client::Client;
use ostler_protocol::{ApiError, ErrorKind, RunId};

/// Interval between two looks at a session whose turn must end first.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

const EXAMPLES: &str = "\
Examples:
  ostler session send 1a2b3c4d \"now run the tests\"
  ostler session send 1a2b3c4d - < next.md
  ostler session send @ --keys $'\\x03'                       Ctrl-C, in a session with a terminal
  ostler session send @ --wait \"what did you change?\"       prints the answer
  ostler session send @ --wait --json=result \"and why?\" | jq -r .text

During a turn, the message steers the agent or is its next one, as the CLI allows. With --wait, it is sent when the current \
turn has ended. Ctrl-C then stops waiting; the turn continues.";

/// Send a message to the agent of an open session
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id of the session, the beginning or end of one, or `@` for the newest session
    run: String,
    /// Message; `-` reads it from standard input
    message: String,
    /// Type the text into the terminal of the session as it is, without Enter
    #[arg(long, conflicts_with = "wait")]
    keys: bool,
    /// Wait until the turn has ended, and print the answer
    #[arg(long, short)]
    wait: bool,
    /// With --wait: no progress, only the answer and errors
    #[arg(long, short, requires = "wait")]
    quiet: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let message = match arguments.message.as_str() {
        "-" => input::stdin_text("message")?,
        message => message.to_owned(),
    };
    if message.trim().is_empty() && (!arguments.keys || message.is_empty()) {
        return Err(ApiError::new(ErrorKind::InvalidParams, "the message is empty").at("/data"));
    }
    let mut signals = Signals::listen()?;
    let client = context.client().await?;
    let run_id = ids::session(&client, &arguments.run).await?;
    if !arguments.wait {
        let sent = if arguments.keys {
            client.send_keys(run_id, message).await?
        } else {
            client.send_session_input(run_id, message).await?
        };
        if context.json {
            context.out.document(&sent)?;
        }
        return Ok(Exit::Done);
    }
    let run = client.get_run(run_id).await?;
    if has_terminal(&run) {
        let message = "the session runs in a terminal, in which the host cannot see when the CLI has answered";
        let hint = format!("leave out --wait, and look with `ostler session attach {}`", format::short_id(run_id));
        return Err(ApiError::new(ErrorKind::InvalidParams, message).hint(hint));
    }
    let quiet = arguments.quiet || context.json;
    tokio::select! {
        idle = wait_until_idle(&client, run_id, quiet) => idle?,
        () = signals.next() => return Ok(Exit::Canceled),
    }
    let cursor = client.get_status().await?.cursor;
    let provider = run.summary.provider;
    client.send_session_input(run_id, message).await?;
    let options = follow::Options {
        on_interrupt: OnInterrupt::Leave,
        turn_after: Some(cursor),
        ..follow::Options::new(&provider, arguments.quiet)
    };
    follow::follow(context, &client, run_id, &mut signals, options).await
}

/// Waits until no turn runs. The host rejects the message if the session is not open.
async fn wait_until_idle(client: &Client, run_id: RunId, quiet: bool) -> Result<(), ApiError> {
    let mut said = quiet;
    loop {
        let run = client.get_run(run_id).await?;
        if run.summary.status.ended() {
            return Ok(());
        }
        let activity = activity_of(client, &run).await?.map(|(activity, _)| activity);
        if activity.is_none_or(|activity| activity != Activity::Working) {
            return Ok(());
        }
        if !std::mem::replace(&mut said, true) {
            complain(&format!("waiting for the current turn of session {}", format::short_id(run_id)));
        }
        tokio::time::sleep(POLL_INTERVAL).await;
    }
}
