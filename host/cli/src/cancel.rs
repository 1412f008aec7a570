//! `ostler cancel`

use clap::Args;
use serde_json::{Value, json};

use super::confirm::confirm;
use super::context::Context;
use super::exit::Exit;
use super::output::complain;
use super::{failure, format, ids};
use ostler_client::Client;
use ostler_protocol::methods::ListJobsParams;
use ostler_protocol::{ApiError, JobState, RunId};

/// Number of runs that are canceled in parallel. Each call waits for the end of its run.
const AT_A_TIME: usize = 16;

const EXAMPLES: &str = "\
Examples:
  ostler cancel 1a2b3c4d
  ostler cancel 1a2b3c4d 5e6f7a8b
  ostler cancel --all                   all queued and running runs

Returns when the runs and all their processes have ended. Canceling an ended run is not an error.";

/// Cancel runs and wait until they have ended
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run ids, beginnings or ends of them, or `@` for the newest
    #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "RUN")]
    runs: Vec<String>,
    /// Cancel all queued and running runs
    #[arg(long)]
    all: bool,
    /// With --all: do not ask (required where standard input or standard error is not a terminal)
    #[arg(long, short, requires = "all")]
    yes: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    if arguments.all {
        return cancel_all(context, &client, arguments.yes).await;
    }
    let run_ids = ids::runs(&client, &arguments.runs).await?;
    cancel(context, &client, &run_ids).await?.finish(context)
}

/// Cancels all queued and running runs.
async fn cancel_all(context: &mut Context<'_>, client: &Client, yes: bool) -> Result<Exit, ApiError> {
    let jobs = client.list_queue_jobs(&ListJobsParams::default()).await?;
    if jobs.is_empty() {
        if context.json {
            context.out.document(&json!([]))?;
        } else {
            complain("the queue is empty");
        }
        return Ok(Exit::Done);
    }
    let running = jobs.iter().filter(|job| job.state == JobState::Running).count();
    let question = format!("Cancel {running} running and {} waiting runs?", jobs.len() - running);
    if !confirm(yes, question).await? {
        complain("nothing was canceled");
        return Ok(Exit::Canceled);
    }
    // Waiting runs first, in reverse order: none of them can start in the slot of a run that was canceled.
    let mut run_ids: Vec<RunId> = jobs.iter().map(|job| job.run_id).collect();
    run_ids.reverse();
    let (waiting, running) = run_ids.split_at(jobs.len() - running);
    let mut canceled = cancel(context, client, waiting).await?;
    let rest = cancel(context, client, running).await?;
    canceled.results.extend(rest.results);
    canceled.exit = if canceled.exit == Exit::Done { rest.exit } else { canceled.exit };
    canceled.finish(context)
}

/// Cancels runs, [`AT_A_TIME`] in parallel, and prints the result of each.
async fn cancel(context: &mut Context<'_>, client: &Client, run_ids: &[RunId]) -> Result<Canceled, ApiError> {
    let mut canceled = Canceled { exit: Exit::Done, results: Vec::new() };
    for run_ids in run_ids.chunks(AT_A_TIME) {
        let mut calls: Vec<_> = Vec::new();
        for run_id in run_ids {
            let (client, run_id) = (client.clone(), *run_id);
            calls.push((run_id, tokio::spawn(async move { client.cancel_run(run_id).await })));
        }
        for (run_id, call) in calls {
            let outcome = call.await.map_err(|error| ApiError::internal(format!("the call broke off: {error}")))?;
            match outcome.map_err(ApiError::from) {
                Ok(result) => {
                    if !context.json {
                        let already = if result.already_ended { "had ended already: " } else { "" };
                        context.out.line(format!("{} {already}{}", format::short_id(run_id), result.status))?;
                    }
                    let (status, already_ended) = (result.status, result.already_ended);
                    canceled.results.push(json!({"runId": run_id, "status": status, "alreadyEnded": already_ended}));
                }
                Err(error) => {
                    failure::report(&error, context.json);
                    canceled.exit = Exit::from(error.kind);
                }
            }
        }
    }
    Ok(canceled)
}

/// Results of canceling several runs.
struct Canceled {
    exit: Exit,
    results: Vec<Value>,
}

impl Canceled {
    fn finish(self, context: &mut Context<'_>) -> Result<Exit, ApiError> {
        if context.json {
            context.out.document(&self.results)?;
        }
        Ok(self.exit)
    }
}
