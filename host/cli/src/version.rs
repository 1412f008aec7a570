//! `ostler version`

use clap::Args;
use serde_json::json;

use super::context::{Context, VERSION};
use super::exit::Exit;
use ostler_protocol::ApiError;

const EXAMPLES: &str = "\
Examples:
  ostler version
  ostler version --json";

/// Print the version
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {}

pub(super) fn execute(context: &mut Context<'_>, _: &Arguments) -> Result<Exit, ApiError> {
    if context.json {
        context.out.document(&json!({ "version": VERSION }))?;
    } else {
        context.out.line(format_args!("ostler {VERSION}"))?;
    }
    Ok(Exit::Done)
}
