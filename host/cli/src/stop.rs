//! `ostler stop`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::ask;
use super::context::Context;
use super::exit::Exit;
use super::output::complain;
use ostler_protocol::ApiError;

/// Time limit for the end of the host, which first ends the processes of its runs after a grace period.
const GONE_LIMIT: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  ostler stop             interrupts running runs; queued ones stay queued
  ostler stop --if-idle   only if nothing is running or queued (else exit code 7)

On a terminal it asks before it interrupts runs.";

/// Stop the host
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only if nothing is running or queued
    #[arg(long)]
    if_idle: bool,
    /// Do not ask before runs are interrupted
    #[arg(long, short)]
    yes: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let Some(client) = context.client_of_running().await? else {
        if context.json {
            context.out.document(&json!({"stopping": false, "running": 0, "waiting": 0}))?;
        } else {
            context.out.line("no host is running")?;
        }
        return Ok(Exit::Done);
    };
    if !arguments.if_idle && !arguments.yes && !context.json && ask::can_ask() {
        let running = client.get_status().await.map(|status| status.running).unwrap_or_default();
        let runs =
            if running == 1 { "1 run is running and".to_owned() } else { format!("{running} runs are running and") };
        if running > 0 && !ask::confirm(&format!("{runs} will be interrupted. Stop the host?")) {
            complain("the host was not stopped");
            return Ok(Exit::Canceled);
        }
    }
    let result = client.stop(arguments.if_idle).await?;
    client.wait_gone(GONE_LIMIT).await?;
    if context.json {
        context.out.document(&result)?;
    } else {
        let mut text = "the host has stopped".to_owned();
        if result.running > 0 {
            text.push_str(&format!("; runs interrupted: {}", result.running));
        }
        if result.waiting > 0 {
            text.push_str(&format!("; runs still queued: {}", result.waiting));
        }
        context.out.line(text)?;
    }
    Ok(Exit::Done)
}
