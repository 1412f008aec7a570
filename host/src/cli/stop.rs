//! `ostler stop`

use std::time::Duration;

use clap::Args;
use serde_json::json;

use super::context::Context;
use super::exit::Exit;
use crate::model::ApiError;

/// A host ends its runs' processes before it goes: a grace period, and some.
const GONE_LIMIT: Duration = Duration::from_secs(60);

const EXAMPLES: &str = "\
Examples:
  ostler stop             running runs are interrupted, waiting ones go on after the next start
  ostler stop --if-idle   only if nothing runs or waits (otherwise exit code 7)";

/// End the host
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only if nothing runs or waits
    #[arg(long)]
    if_idle: bool,
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
    let result = client.stop(arguments.if_idle).await?;
    client.wait_gone(GONE_LIMIT).await?;
    if context.json {
        context.out.document(&result)?;
    } else {
        let mut text = "the host has ended".to_owned();
        if result.running > 0 {
            text.push_str(&format!("; runs interrupted: {}", result.running));
        }
        if result.waiting > 0 {
            text.push_str(&format!("; runs that go on after the next start: {}", result.waiting));
        }
        context.out.line(text)?;
    }
    Ok(Exit::Done)
}
