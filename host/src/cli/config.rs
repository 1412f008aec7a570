//! `ostler config`

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Map, Value, json};

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::output::{DIM, complain};
use crate::config::{Config, ConfigErrors, DEFAULT_TEXT, Origin, Position};
use crate::model::{ApiError, ErrorKind, Problem};

const EXAMPLES: &str = "\
Examples:
  ostler config init                 write the commented default configuration
  ostler config check                say what is wrong with yours
  ostler config show                 every value, and which of them are yours
  $EDITOR \"$(ostler config path)\"

A host reads its configuration when it starts: after a change, `ostler stop` lets the next verb start one with it.
`ostler config check` needs no host; it asks the plugins about their settings, too.";

/// Look at the configuration, check it, begin one
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print where your configuration file is, or would be
    #[command(after_help = "Examples:\n  ostler config path\n  ostler config path --json    all folders and files")]
    Path,
    /// Check a configuration file and show every problem with its line
    #[command(after_help = "Examples:\n  ostler config check\n  ostler config check ./draft.toml")]
    Check {
        /// The file; yours where none is named
        file: Option<PathBuf>,
    },
    /// Print every value that a host starting now would have
    #[command(after_help = "Examples:\n  ostler config show\n  ostler config show --json | jq .scheduler")]
    Show,
    /// Write the commented default configuration, unless there is a file already
    #[command(after_help = "Examples:\n  ostler config init")]
    Init,
}

pub(super) fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::Path => path(context),
        Action::Check { file } => check(context, file.as_deref()),
        Action::Show => show(context),
        Action::Init => init(context),
    }
}

fn path(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let paths = &context.paths;
    if context.json {
        let document = json!({
            "config": paths.config_file, "data": paths.data_dir, "plugins": paths.plugins_dir,
            "cache": paths.cache_dir, "log": paths.log_dir, "socket": paths.socket,
        });
        context.out.document(&document)?;
    } else {
        let path = paths.config_file.display().to_string();
        // For a program the name as it is: it may open the file.
        context.out.line(if context.out.stdout_terminal { clean::line(&path) } else { path })?;
    }
    Ok(Exit::Done)
}

fn check(context: &mut Context<'_>, file: Option<&Path>) -> Result<Exit, ApiError> {
    let path = file.unwrap_or(&context.paths.config_file).to_owned();
    let result = match file {
        Some(path) => Config::load_existing(path),
        // Without a file of one's own the defaults are in force, which is right.
        None => Config::load(Some(&path)),
    };
    let exists = path.exists();
    let result = match result {
        // The defaults are the plugins' own.
        Ok(config) if exists => {
            let complaints = context.local.complaints(&context.paths, &config)?;
            if complaints.is_empty() { Ok(config) } else { Err(Config::place(&path, &complaints)) }
        }
        other => other,
    };
    match result {
        Ok(_) if context.json => context.out.document(&json!({"file": path, "exists": exists, "valid": true}))?,
        Ok(_) if exists => {
            let path = clean::line(&path.display().to_string());
            context.out.line(format!("{path}: no problem"))?;
        }
        Ok(_) => {
            let path = clean::line(&path.display().to_string());
            context.out.line(format!(
                "{path} does not exist; the defaults are in force (`ostler config init` writes them there)"
            ))?;
        }
        Err(errors) if context.json => return Err(api_error(&errors)),
        Err(errors) => {
            complain(clean::text(&errors.report()).trim_end());
            return Ok(Exit::from(api_error(&errors).kind));
        }
    }
    Ok(Exit::Done)
}

/// The problems of a file as an error. The lines themselves, which may hold secrets, are left out.
fn api_error(errors: &ConfigErrors) -> ApiError {
    let problems = errors.errors().iter().map(|error| {
        let place = error.position.map(|Position { line, column }| format!("line {line}, column {column}: "));
        let hint = error.hint.as_deref().map(|hint| format!(" ({hint})")).unwrap_or_default();
        Problem {
            pointer: if error.key.is_empty() {
                String::new()
            } else {
                format!("/{}", error.key.replace(['.', '['], "/").replace(']', ""))
            },
            message: format!("{}{}{hint}", place.unwrap_or_default(), error.message),
        }
    });
    let unread = errors.errors().iter().all(|error| error.position.is_none() && error.key.is_empty());
    let mut error = ApiError::invalid(problems.collect());
    if unread {
        error.kind = ErrorKind::Io;
    }
    if let Some(path) = errors.path() {
        error = error.hint(format!("the file is {}", path.display()));
    }
    error
}

fn show(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let config = Config::load(Some(&context.paths.config_file)).map_err(|errors| api_error(&errors))?;
    let mut document = serde_json::to_value(&config)
        .map_err(|error| ApiError::internal(format!("failed to write the configuration: {error}")))?;
    hide_environments(&mut document);
    if context.json {
        context.out.document(&document)?;
        return Ok(Exit::Done);
    }
    let mut lines = Vec::new();
    if let Value::Object(sections) = &document {
        flatten(sections, "", &mut lines);
    }
    for (key, value) in lines {
        let origin = match config.origin(&key) {
            Origin::Default => String::new(),
            Origin::File => context.out.styled(DIM, "  # yours"),
        };
        context.out.line(format!("{} = {}{origin}", clean::line(&key), clean::json(&value)))?;
    }
    Ok(Exit::Done)
}

/// Variables of providers are often secrets: their names are shown, their values are not.
fn hide_environments(document: &mut Value) {
    let providers = document.get_mut("providers").and_then(Value::as_object_mut);
    for provider in providers.into_iter().flat_map(Map::values_mut) {
        let variables = provider.get_mut("environment").and_then(Value::as_object_mut);
        for value in variables.into_iter().flat_map(Map::values_mut) {
            *value = "(hidden)".into();
        }
    }
}

/// Keys in dotted form as the file has them, with their values.
fn flatten(members: &Map<String, Value>, prefix: &str, lines: &mut Vec<(String, String)>) {
    for (name, value) in members {
        // Names of providers, variables and plugin settings are not ours to change.
        let own = prefix.is_empty() || !prefix.contains(".environment") && !prefix.contains(".settings");
        let instance = prefix == "providers";
        let name = if own && !instance { snake_case(name) } else { name.clone() };
        let key = if prefix.is_empty() { name } else { format!("{prefix}.{name}") };
        match value {
            Value::Null => {}
            Value::Object(inner) if !inner.is_empty() => flatten(inner, &key, lines),
            Value::Object(_) => {}
            other => lines.push((key, other.to_string())),
        }
    }
}

fn snake_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len() + 4);
    for character in name.chars() {
        if character.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(character.to_ascii_lowercase());
    }
    out
}

fn init(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let path = context.paths.config_file.clone();
    write_new(&path, DEFAULT_TEXT)?;
    if context.json {
        context.out.document(&json!({"file": path}))?;
    } else {
        context.out.line(format!("wrote {}", clean::line(&path.display().to_string())))?;
    }
    Ok(Exit::Done)
}

/// Writes a file that must not be there yet, readable by the user alone: it may come to hold secrets.
fn write_new(path: &Path, text: &str) -> Result<(), ApiError> {
    let name = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        IoKind::AlreadyExists => {
            ApiError::new(ErrorKind::Conflict, format!("{name} exists already and is left as it is"))
                .hint("`ostler config check` checks it")
        }
        _ => ApiError::new(ErrorKind::Io, format!("failed to write {name}: {error}")),
    };
    if let Some(folder) = path.parent() {
        DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
            ApiError::new(ErrorKind::Io, format!("failed to make the folder {}: {error}", folder.display()))
                .hint("make it, or choose another place with OSTLER_HOME")
        })?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // Half a configuration would be in force.
        let _ = std::fs::remove_file(path);
        return Err(failed(error));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn what_is_in_force_is_named_as_in_the_file() {
        let config = Config::parse("[scheduler]\nper_provider = 3\n[providers.my-codex]\nplugin = \"codex\"\nenvironment = { MY_Key = \"hunter2\" }\n").unwrap();
        let mut document = serde_json::to_value(&config).unwrap();
        hide_environments(&mut document);
        let mut lines = Vec::new();
        flatten(document.as_object().unwrap(), "", &mut lines);
        let value = |key: &str| lines.iter().find(|(found, _)| found == key).map(|(_, value)| value.as_str());
        assert_eq!(value("scheduler.per_provider"), Some("3"), "{lines:?}");
        assert_eq!(value("scheduler.aging_seconds"), Some("30"));
        assert_eq!(value("providers.my-codex.environment.MY_Key"), Some("\"(hidden)\""), "{lines:?}");
        assert_eq!(config.origin("scheduler.per_provider"), Origin::File);
        assert!(!format!("{lines:?}").contains("hunter2"));
        // Every key of the default text is found under its own name.
        for key in ["host.idle_seconds", "runner.max_transcript_line_mib", "storage.max_stored_mib", "log.level"] {
            assert!(value(key).is_some(), "{key}: {lines:?}");
        }
    }

    #[test]
    fn problems_are_told_with_their_place_and_without_values() {
        let errors = Config::parse("[[redaction.rules]]\nid = \"a\"\npattern = \"(\"\n").unwrap_err();
        assert_eq!(api_error(&errors).problems[0].pointer, "/redaction/rules/0/pattern");
        let errors = Config::parse("[scheduler]\nglobl = 3\ncapacity = \"hunter2\"\n").unwrap_err();
        let error = api_error(&errors);
        assert_eq!(error.kind, ErrorKind::InvalidParams);
        assert_eq!(error.problems.len(), 2, "{error:?}");
        assert!(error.problems[0].message.starts_with("line 2, column 1"), "{error:?}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }

    #[test]
    fn a_file_that_is_there_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        write_new(&path, "one").unwrap();
        assert_eq!(write_new(&path, "two").unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
