//! `ostler wait`

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::Instant;

use super::context::Context;
use super::exit::Exit;
use super::output::complain;
use super::{format, ids, times};
use ostler_client::{Client, EventStream, StreamItem};
use ostler_protocol::methods::SubscribeParams;
use ostler_protocol::{ApiError, EndReason, EventType, RunId, RunStatus};

const EXAMPLES: &str = "\
Examples:
  ostler wait 1a2b3c4d && ostler show 1a2b3c4d
  ostler wait 1a2b3c4d 5e6f7a8b      until both have ended
  ostler wait @ --timeout 10m        the newest run, ten minutes at most
  ostler wait @ --json | jq -r '.[0].status'

The exit code is the one that `run` would have had; of several runs, the first that is not 0, in \
the order in which they were named. If --timeout expires, it is 124. The runs always continue.";

/// Wait until runs have ended
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run ids, beginnings or ends of them, or `@` for the newest
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
    /// Wait no longer than this: 90s, 10m, 2h
    #[arg(long, value_name = "TIME", value_parser = times::parse_duration)]
    timeout: Option<Duration>,
}

/// State of a run when the command ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Outcome {
    run_id: RunId,
    status: RunStatus,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<EndReason>,
    #[serde(skip_serializing_if = "Option::is_none")]
    message: Option<String>,
    /// The exit code of `run`; absent if the run has not ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    exit_code: Option<u8>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let until = arguments.timeout.and_then(|limit| Instant::now().checked_add(limit));
    let client = context.client().await?;
    let run_ids = ids::runs(&client, &arguments.runs).await?;
    // Start the stream before reading the runs, so that no end is missed in between.
    let ends = vec![EventType::RunCompleted, EventType::RunFailed, EventType::RunCanceled];
    let after = client.get_status().await?.cursor;
    let mut events =
        client.follow(SubscribeParams { after: Some(after), types: Some(ends), ..SubscribeParams::default() });
    let mut outcomes: HashMap<RunId, Outcome> = HashMap::new();
    let mut left: HashSet<RunId> = HashSet::new();
    for run_id in &run_ids {
        let outcome = read_outcome(&client, *run_id).await?;
        if outcome.exit_code.is_some() {
            print_outcome(context, &outcome)?;
        } else {
            left.insert(*run_id);
        }
        outcomes.insert(*run_id, outcome);
    }
    while !left.is_empty() {
        let ended = match until {
            Some(until) => tokio::time::timeout_at(until, next_end(&mut events, &left)).await.ok(),
            None => Some(next_end(&mut events, &left).await),
        };
        let Some(ended) = ended else { break };
        let ended = ended?;
        left.remove(&ended);
        let outcome = read_outcome(&client, ended).await?;
        print_outcome(context, &outcome)?;
        outcomes.insert(ended, outcome);
    }
    let outcomes: Vec<&Outcome> = run_ids.iter().filter_map(|run_id| outcomes.get(run_id)).collect();
    if context.json {
        context.out.document(&outcomes)?;
    } else if !left.is_empty() {
        let names: Vec<String> = run_ids.iter().filter(|id| left.contains(id)).map(format::short_id).collect();
        complain(&format!("still running or queued when the time was up: {}", names.join(", ")));
    }
    if !left.is_empty() {
        return Ok(Exit::StillRunning);
    }
    Ok(first_failure(&outcomes))
}

/// Waits for the end of one of the runs. Cancel-safe.
async fn next_end(events: &mut EventStream, runs: &HashSet<RunId>) -> Result<RunId, ApiError> {
    loop {
        let StreamItem::Event(event) = events.next().await? else { continue };
        if let Some(run_id) = event.run_id.filter(|run_id| runs.contains(run_id)) {
            return Ok(run_id);
        }
    }
}

async fn read_outcome(client: &Client, run_id: RunId) -> Result<Outcome, ApiError> {
    let summary = client.get_run(run_id).await?.summary;
    let ended = summary.status.ended();
    Ok(Outcome {
        run_id,
        status: summary.status,
        reason: summary.reason.filter(|_| ended),
        message: summary.message.filter(|_| ended),
        exit_code: exit_of(summary.status, summary.reason).map(Exit::code),
    })
}

fn exit_of(status: RunStatus, reason: Option<EndReason>) -> Option<Exit> {
    Exit::of_status(status, reason.unwrap_or(EndReason::Unknown))
}

/// Prints a line for a run that has ended.
fn print_outcome(context: &mut Context<'_>, outcome: &Outcome) -> Result<(), ApiError> {
    if context.json {
        return Ok(());
    }
    let reason = outcome.reason.filter(|reason| reason.name() != outcome.status.name());
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    context.out.line(format!("{} {}{reason}", format::short_id(outcome.run_id), outcome.status))
}

/// The outcome of the first run that did not succeed.
fn first_failure(outcomes: &[&Outcome]) -> Exit {
    let exits = outcomes.iter().filter_map(|outcome| exit_of(outcome.status, outcome.reason));
    exits.into_iter().find(|exit| *exit != Exit::Done).unwrap_or(Exit::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn returns_first_failure_in_argument_order() {
        let outcome = |status, reason| Outcome {
            run_id: RunId::generate(),
            status,
            reason: Some(reason),
            message: None,
            exit_code: None,
        };
        let done = outcome(RunStatus::Completed, EndReason::Completed);
        let timeout = outcome(RunStatus::Failed, EndReason::Timeout);
        let canceled = outcome(RunStatus::Canceled, EndReason::Canceled);
        assert_eq!(first_failure(&[&done, &done]), Exit::Done);
        assert_eq!(first_failure(&[&done, &timeout, &canceled]), Exit::Timeout);
        assert_eq!(first_failure(&[&canceled, &timeout]), Exit::Canceled);
    }
}
