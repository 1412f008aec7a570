//! `ostler rerun`

use std::path::PathBuf;

use clap::Args;
use serde_json::{Map, Value, json};

use super::context::Context;
use super::exit::Exit;
use super::ids;
use super::options::StartArguments;
use super::payload;
use super::schedule::ScheduleArguments;
use super::submit::{self, Manner, Request};
use crate::model::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler rerun 1a2b3c4d                              the same once more
  ostler rerun 1a2b3c4d --model other --retries 3    with something changed
  ostler rerun 1a2b3c4d \"another prompt\"
  ostler rerun 1a2b3c4d --clear harness.limits       without what it had there
  ostler rerun 1a2b3c4d --payload more.json          changes as JSON, null to leave a field out

What is not named stays as it was, the folder too. A run of a conversation becomes its next message.
Secrets of the first run are gone with its end: where it had some, they must be given again.";

/// Run a run again, changed where options say so
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, the beginning or end of one, or `@` for the newest
    run: String,
    #[command(flatten)]
    start: StartArguments,
    /// Leave a field out: model, harness.limits.maxTurns
    #[arg(long, value_name = "FIELD")]
    clear: Vec<String>,
    #[command(flatten)]
    schedule: ScheduleArguments,
    #[command(flatten)]
    manner: Manner,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let output = arguments.manner.output(context)?;
    let given = arguments.start.gather(true, arguments.manner.is_quiet(context))?;
    let mut overrides = payload::part(given)?;
    for field in &arguments.clear {
        clear(&mut overrides, field)?;
    }
    submit::execute(context, &arguments.manner, output, async |client| {
        let run_id = ids::run(client, &arguments.run).await?;
        arguments.schedule.apply(client, &mut overrides).await?;
        let summary = client.get_run(run_id).await?.summary;
        let text = |name: &str| overrides.get(name).and_then(Value::as_str).map(str::to_owned);
        let provider = text("provider").unwrap_or(summary.provider);
        let folder = Some(text("cwd").map_or(summary.cwd, PathBuf::from));
        let params = json!({"runId": run_id, "overrides": overrides});
        Ok(Request { method: "rerun", params, provider, folder })
    })
    .await
}

/// Puts a null where a dotted name leads.
fn clear(overrides: &mut Value, field: &str) -> Result<(), ApiError> {
    let wrong = |message: String| ApiError::new(ErrorKind::InvalidParams, format!("--clear {field:?}: {message}"));
    if field.split('.').any(str::is_empty) {
        return Err(wrong("name a field, or a path to one with dots".to_owned()));
    }
    let mut at = overrides;
    let mut names = field.split('.').peekable();
    while let Some(name) = names.next() {
        let Value::Object(members) = at else { return Err(wrong(format!("what contains {name:?} is set, too"))) };
        let last = names.peek().is_none();
        if last && members.get(name).is_some_and(|value| !value.is_null()) {
            return Err(wrong("it is set, too".to_owned()));
        }
        at = members.entry(name).or_insert_with(|| if last { Value::Null } else { Value::Object(Map::new()) });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn fields_are_cleared_by_dotted_names() {
        let mut overrides = json!({"prompt": "p", "harness": {"tools": []}});
        for field in ["model", "harness.limits.maxTurns", "model"] {
            clear(&mut overrides, field).unwrap();
        }
        let expected = json!({
            "prompt": "p", "harness": {"tools": [], "limits": {"maxTurns": null}}, "model": null
        });
        assert_eq!(overrides, expected);
        for field in ["", "a..b", "prompt", "prompt.x", "harness", "model.x"] {
            assert_eq!(clear(&mut overrides, field).unwrap_err().kind, ErrorKind::InvalidParams, "{field:?}");
        }
        assert_eq!(overrides, expected);
    }
}
