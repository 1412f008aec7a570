//! `ostler attach`

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::follow::{self, OnInterrupt};
use super::output::complain;
use super::signals::Signals;
use super::{format, ids, session};
use ostler_client::Client;
use ostler_protocol::methods::RunEventsParams;
use ostler_protocol::{ApiError, RunId, RunMode};

const EXAMPLES: &str = "\
Examples:
  ostler attach 1a2b3c4d                what the run says from now on, until it ends
  ostler attach @                       the newest run
  ostler attach --from-start 1a2b3c4d   everything that it has said so far, too
  ostler attach 1a2b3c4d > answer.txt   the whole answer

In a pipe or a file, the run is shown from its start. \
Ctrl-C or Ctrl-\\ leaves the run, which continues; `ostler cancel` cancels it. \
A run that has ended is shown from its start. The exit code is the run's.

On a terminal, the agent's requests for approval are asked, and a session takes messages as with `ostler session attach`.";

/// Follow a running or queued run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, the beginning or end of one, or `@` for the newest
    run: String,
    /// Also show what the run said before (default where standard output is not a terminal)
    #[arg(long)]
    from_start: bool,
    /// Show only what the run says from now on (default on a terminal)
    #[arg(long, conflicts_with = "from_start")]
    from_now: bool,
    /// No progress: only the answer, errors, and doubtful outcomes
    #[arg(long, short)]
    quiet: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let mut signals = Signals::listen()?;
    let prepare = async {
        let client = context.client().await?;
        let run_id = ids::run(&client, &arguments.run).await?;
        // Read the cursor first: events after it are shown.
        let cursor = client.get_status().await?.cursor;
        let run = client.get_run(run_id).await?;
        Ok::<_, ApiError>((client, cursor, run))
    };
    let (client, cursor, run) = tokio::select! {
        prepared = prepare => prepared?,
        () = signals.next() => return Ok(Exit::Canceled),
    };
    let summary = &run.summary;
    let converses = summary.mode == RunMode::Interactive && !summary.status.ended() && !arguments.quiet;
    if converses && session::can_converse(context) {
        return session::attach_to(context, &client, &run, cursor, arguments.from_start, &mut signals).await;
    }
    let lives = !summary.status.ended();
    // In a file or a pipe, a partial answer would look complete.
    let joins = arguments.from_now || context.out.stdout_terminal && !arguments.from_start;
    if lives && !arguments.quiet && !context.json {
        let id = format::short_id(summary.run_id);
        complain(&format!("attached to run {id}; Ctrl-C leaves it running, `ostler cancel {id}` cancels it"));
    }
    let options = follow::Options {
        on_interrupt: OnInterrupt::Leave,
        joined_at: Some(cursor).filter(|_| lives && joins),
        history_to: if lives { newest_event(&client, summary.run_id, cursor).await? } else { Some(u64::MAX) },
        ..follow::Options::new(&summary.provider, arguments.quiet)
    };
    follow::follow(context, &client, summary.run_id, &mut signals, options).await
}

/// The cursor of the newest event of a run up to a cursor.
async fn newest_event(client: &Client, run_id: RunId, cursor: u64) -> Result<Option<u64>, ApiError> {
    let params = RunEventsParams { run_id, after: None, before: Some(cursor + 1), limit: Some(1) };
    let page = client.get_run_events(&params).await?;
    Ok(page.events.last().map(|event| event.cursor))
}
