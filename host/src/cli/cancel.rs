//! `ostler cancel`

use clap::Args;
use serde_json::{Value, json};

use super::context::Context;
use super::exit::Exit;
use super::{failure, format, ids};
use crate::model::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler cancel 1a2b3c4d
  ostler cancel 1a2b3c4d 5e6f7a8b

Returns when the runs have ended and nothing of them is alive. Canceling an ended run is no error.";

/// Cancel runs and wait until they have ended
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run ids, or beginnings or ends of them
    #[arg(required = true, value_name = "RUN")]
    runs: Vec<String>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    // All names first, so that a wrong one cancels nothing.
    let mut run_ids = Vec::new();
    for run in &arguments.runs {
        run_ids.push(ids::run(&client, run).await?);
    }
    let mut calls: Vec<_> = Vec::new();
    for run_id in run_ids {
        let client = client.clone();
        calls.push((run_id, tokio::spawn(async move { client.cancel_run(run_id).await })));
    }
    let mut exit = Exit::Done;
    let mut results: Vec<Value> = Vec::new();
    for (run_id, call) in calls {
        let outcome = call.await.map_err(|error| ApiError::internal(format!("the call broke off: {error}")))?;
        match outcome.map_err(ApiError::from) {
            Ok(result) if context.json => {
                results.push(json!({"runId": run_id, "status": result.status, "alreadyEnded": result.already_ended}));
            }
            Ok(result) => {
                let already = if result.already_ended { "had ended already: " } else { "" };
                context.out.line(format!("{} {already}{}", format::short_id(run_id), result.status))?;
            }
            Err(error) => {
                failure::report(&error, context.json);
                exit = Exit::from(error.kind);
            }
        }
    }
    if context.json {
        context.out.document(&results)?;
    }
    Ok(exit)
}
