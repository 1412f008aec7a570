//! `ostler settings`

use std::collections::BTreeMap;

use clap::{Args, Subcommand};
use serde_json::{Map, Value};

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::output::{DIM, GOOD, complain};
use super::table::{Cell, Table};
use ostler_client::Client;
use ostler_config::{file_key, wire_names};
use ostler_protocol::Origin;
use ostler_protocol::methods::Settings;
use ostler_protocol::{ApiError, ErrorKind, Problem, document_of, leaves, lies_in, nearest, pointer_along};

const EXAMPLES: &str = "\
Examples:
  ostler settings list                       all active values and their origin
  ostler settings list --set                 only values that were set here
  ostler settings set scheduler.global 4     takes effect at once, and is kept
  ostler settings unset scheduler.global     back to the value of config.toml

A setting overrides config.toml, which overrides the default. The keys are those of config.toml.";

/// Show and change settings while the host runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the active values
    #[command(after_help = "Examples:\n  ostler settings list\n  ostler settings list scheduler\n  \
                            ostler settings list --json | jq .origins")]
    List {
        /// Only this section or table
        section: Option<String>,
        /// Only what was set with `settings set`
        #[arg(long)]
        set: bool,
    },
    /// Print one value, or a table as JSON
    #[command(after_help = "Examples:\n  ostler settings get scheduler.global\n  ostler settings get providers.codex")]
    Get {
        /// Key, as in config.toml
        key: String,
    },
    /// Set a value; it overrides config.toml
    #[command(after_help = "Examples:\n  ostler settings set scheduler.per_provider 2\n  \
                            ostler settings set log.level debug\n  \
                            ostler settings set providers.codex.concurrency 2\n\n\
                            Settings that decide trust or which programs run (policy, sandbox, redaction, plugins, \
                            providers, http, tokens) can only be changed in config.toml.")]
    Set {
        /// Key, as in config.toml
        key: String,
        /// JSON value; anything else is taken as a string
        #[arg(allow_hyphen_values = true)]
        value: String,
    },
    /// Reset a setting and everything below it
    #[command(after_help = "Examples:\n  ostler settings unset scheduler.per_provider\n  \
                            ostler settings unset providers.codex-work log")]
    Unset {
        /// Keys, as in config.toml
        #[arg(required = true)]
        keys: Vec<String>,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::List { section, set } => list(context, section.as_deref(), *set).await,
        Action::Get { key } => get(context, key).await,
        Action::Set { key, value } => {
            let value = serde_json::from_str(value).unwrap_or_else(|_| Value::String(value.clone()));
            if value.is_null() {
                let error = ApiError::new(ErrorKind::InvalidParams, "null is not a value").at("VALUE");
                return Err(error.hint(format!("`ostler settings unset {key}` resets the setting")));
            }
            update(context, &[(key, value)]).await
        }
        Action::Unset { keys } => {
            let changes: Vec<(&String, Value)> = keys.iter().map(|key| (key, Value::Null)).collect();
            update(context, &changes).await
        }
    }
}

async fn list(context: &mut Context<'_>, section: Option<&str>, set: bool) -> Result<Exit, ApiError> {
    let settings = context.client().await?.get_settings(true).await?;
    let prefix = section.map(pointer_of).transpose()?;
    let wanted = |pointer: &str, origin: Origin| {
        let inside = prefix.as_deref().is_none_or(|prefix| lies_in(pointer, prefix));
        inside && (!set || origin == Origin::Override)
    };
    let origins = settings.origins.clone().unwrap_or_default();
    let chosen: BTreeMap<&String, Origin> =
        origins.iter().filter(|(pointer, origin)| wanted(pointer, **origin)).map(|(p, o)| (p, *o)).collect();
    if let (Some(section), true) = (section, chosen.is_empty() && !set) {
        return Err(unknown(section, keys(&origins)));
    }
    if context.json {
        // The selected settings, in the form of the answer.
        let listed = Settings {
            sections: picked(&settings.sections, &chosen),
            origins: Some(chosen.iter().map(|(pointer, origin)| ((*pointer).clone(), *origin)).collect()),
        };
        context.out.document(&listed)?;
        return Ok(Exit::Done);
    }
    if chosen.is_empty() {
        complain("no settings are set; `ostler settings set KEY VALUE` sets one");
        return Ok(Exit::Done);
    }
    let document = Value::Object(settings.sections);
    // The value is the last column, so that a long one does not widen every line.
    let mut table = Table::new(&["KEY", "FROM", "VALUE"], 2);
    for (pointer, origin) in chosen {
        let value = document.pointer(pointer).map(Value::to_string).unwrap_or_default();
        let (style, from) = match origin {
            Origin::Default => (DIM, "default"),
            Origin::File => (anstyle::Style::new(), "file"),
            Origin::Override => (GOOD, "set"),
        };
        table.row(vec![file_key(pointer).into(), Cell::styled(style, from), clean::json(&value).into()]);
    }
    table.print(&mut context.out)?;
    Ok(Exit::Done)
}

async fn get(context: &mut Context<'_>, key: &str) -> Result<Exit, ApiError> {
    let pointer = pointer_of(key)?;
    let settings = context.client().await?.get_settings(true).await?;
    let origins = settings.origins.unwrap_or_default();
    let document = Value::Object(settings.sections);
    let Some(value) = document.pointer(&pointer).filter(|value| !value.is_null()) else {
        return Err(unknown(key, keys(&origins)));
    };
    match value {
        Value::String(text) if !context.json => context.out.line(clean::line(text))?,
        value => context.out.document(value)?,
    }
    Ok(Exit::Done)
}

async fn update(context: &mut Context<'_>, changes: &[(&String, Value)]) -> Result<Exit, ApiError> {
    let pointers = changes.iter().map(|(key, _)| pointer_of(key)).collect::<Result<Vec<_>, _>>()?;
    let patch = document_of(pointers.iter().cloned().zip(changes.iter().map(|(_, value)| value.clone())));
    let client = context.client().await?;
    let settings = apply(&client, patch, context.json).await?;
    if context.json {
        context.out.document(&settings)?;
        return Ok(Exit::Done);
    }
    let origins = settings.origins.clone().unwrap_or_default();
    let document = Value::Object(settings.sections);
    for pointer in pointers {
        for (at, origin) in origins.iter().filter(|(at, _)| lies_in(at, &pointer)) {
            let value = document.pointer(at).map(Value::to_string).unwrap_or_default();
            let from = match origin {
                Origin::Default => "  (default)",
                Origin::File => "  (from config.toml)",
                Origin::Override => "",
            };
            let from = context.out.styled(DIM, from);
            context.out.line(format!("{} = {}{from}", clean::line(&file_key(at)), clean::json(&value)))?;
        }
    }
    Ok(Exit::Done)
}

/// Calls the host. Without `json`, problems name the keys as in config.toml.
async fn apply(client: &Client, patch: Map<String, Value>, json: bool) -> Result<Settings, ApiError> {
    client.update_settings(patch).await.map_err(|error| match ApiError::from(error) {
        error if json || error.problems.is_empty() => error,
        error => {
            let problems = error.problems.into_iter().map(|problem| Problem {
                pointer: file_key(problem.pointer.strip_prefix("/patch").unwrap_or(&problem.pointer)),
                message: problem.message,
            });
            let plain = ApiError::invalid(problems.collect());
            let file = "`ostler config edit` changes config.toml, `ostler config check` checks it";
            ApiError { kind: error.kind, hint: error.hint.or_else(|| Some(file.to_owned())), ..plain }
        }
    })
}

/// The values of a document at these pointers, as a document.
fn picked(document: &Map<String, Value>, pointers: &BTreeMap<&String, Origin>) -> Map<String, Value> {
    let wanted = |(pointer, value): (String, &Value)| pointers.contains_key(&pointer).then(|| (pointer, value.clone()));
    document_of(leaves(document).into_iter().filter_map(wanted))
}

fn keys(origins: &BTreeMap<String, Origin>) -> impl Iterator<Item = String> {
    origins.keys().map(|pointer| file_key(pointer))
}

/// The pointer of a key that is written as in config.toml.
///
/// # Errors
/// `INVALID_PARAMS` if it is not a valid key.
pub(super) fn pointer_of(key: &str) -> Result<String, ApiError> {
    wire_names(key).map(|names| pointer_along(&names)).ok_or_else(|| {
        let shown: String = key.chars().take(64).collect();
        ApiError::new(ErrorKind::InvalidParams, format!("{shown:?} is not a valid key"))
            .at("KEY")
            .hint("write it as in config.toml, with dots: scheduler.global")
    })
}

/// The error for an unknown key.
pub(super) fn unknown(key: &str, known: impl Iterator<Item = String>) -> ApiError {
    let keys: Vec<String> = known.collect();
    let near = nearest(key, keys.iter().map(String::as_str));
    let shown: String = key.chars().take(64).collect();
    let error = ApiError::not_found("setting", format_args!("{shown:?}"));
    match near {
        Some(near) => error.hint(format!("did you mean {near}?")),
        None => error.hint("see `ostler settings list`"),
    }
}
