//! `ostler session end`, `ostler session interrupt`

use clap::Args;
use serde_json::json;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::{format, ids};
use ostler_protocol::ApiError;

/// End a session in order, and wait for its end
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler session end 1a2b3c4d\n  ostler session end @\n\n\
    A turn that runs is interrupted. `ostler session resume` continues the session later.")]
pub(super) struct End {
    /// Run id of the session, the beginning or end of one, or `@` for the newest session
    run: String,
}

pub(super) async fn end(context: &mut Context<'_>, arguments: &End) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let run_id = ids::session(&client, &arguments.run).await?;
    let ended = client.end_session(run_id).await?;
    if context.json {
        context.out.document(&json!({"runId": run_id, "status": ended.status}))?;
    } else {
        context.out.line(format!("{} {}", format::short_id(run_id), ended.status))?;
    }
    Ok(Exit::Done)
}

/// Interrupt the current turn of a session, which stays open
#[derive(Debug, Args)]
#[command(after_help = "Examples:\n  ostler session interrupt 1a2b3c4d\n  ostler session interrupt @ --json")]
pub(super) struct Interrupt {
    /// Run id of the session, the beginning or end of one, or `@` for the newest session
    run: String,
}

pub(super) async fn interrupt(context: &mut Context<'_>, arguments: &Interrupt) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let run_id = ids::session(&client, &arguments.run).await?;
    let result = client.interrupt_turn(run_id).await?;
    if context.json {
        context.out.document(&result)?;
    } else {
        let what = if result.interrupting { "the turn is being interrupted" } else { "no turn is running" };
        context.out.line(format!("{} {what}", format::short_id(run_id)))?;
    }
    Ok(Exit::Done)
}
