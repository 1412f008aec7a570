//! `ostler config`

mod edit;

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::output::{DIM, complain};
use super::{format, settings};
use ostler_config::{Config, ConfigError, ConfigErrors, DEFAULT_TEXT, ShownValue};
use ostler_protocol::{ApiError, ErrorKind, Origin, lies_in};

const EXAMPLES: &str = "\
Examples:
  ostler config init                 create a commented default configuration
  ostler config edit                 edit it; it is checked before it becomes active
  ostler config check                show errors in your configuration
  ostler config show                 show all values and mark your own

The host reloads changes automatically. If the file is invalid, the previous configuration stays active, and \
`ostler status` shows the errors. New runs use the new configuration, running ones keep the old. `ostler config check` \
needs no host; it also checks the settings of plugins.";

/// Show, check, edit or create the configuration
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Print the path of your configuration file
    #[command(after_help = "Examples:\n  ostler config path\n  ostler config path --json    all folders and files")]
    Path,
    /// Check a configuration file and show every problem with its line
    #[command(after_help = "Examples:\n  ostler config check\n  ostler config check ./draft.toml")]
    Check {
        /// File [default: your configuration file]
        file: Option<PathBuf>,
    },
    /// Edit the configuration with $VISUAL or $EDITOR
    #[command(after_help = "Examples:\n  ostler config edit\n  EDITOR=\"code --wait\" ostler config edit\n\n\
                            The text is checked before it replaces your configuration. If it is invalid, it is kept, \
                            and the next `ostler config edit` continues with it.")]
    Edit,
    /// Reload configuration and plugins
    #[command(after_help = "Examples:\n  ostler config reload\n  ostler config reload --json | jq .changed\n\n\
                            The host does this automatically when the files change, but may not notice changes on a \
                            network file system. SIGHUP does the same. Disabled plugins are tried again.")]
    Reload,
    /// Print all values that a new host would use
    #[command(after_help = "Examples:\n  ostler config show\n  ostler config show scheduler\n  \
                            ostler config show --json | jq .scheduler\n\n\
                            `ostler settings get KEY` asks the running host.")]
    Show {
        /// Only this key or section, as in config.toml: scheduler.global
        key: Option<String>,
    },
    /// Create a commented default configuration, unless the file exists
    #[command(after_help = "Examples:\n  ostler config init")]
    Init,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::Path => path(context),
        Action::Check { file } => check(context, file.as_deref()),
        Action::Edit => edit::edit(context).await,
        Action::Reload => reload(context).await,
        Action::Show { key } => show(context, key.as_deref()),
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
        // A program gets the unchanged path, because it may open the file.
        context.out.line(if context.out.stdout_terminal { clean::line(&path) } else { path })?;
    }
    Ok(Exit::Done)
}

/// Checks a configuration file, including the settings of plugins.
pub(super) fn validate(context: &Context<'_>, path: &Path) -> Result<Result<(), ConfigErrors>, ApiError> {
    with_plugins(context, path, Config::load_existing(path))
}

/// Checks the user's own configuration file, which other users must not be able to write.
pub(super) fn validate_own(context: &Context<'_>) -> Result<Result<(), ConfigErrors>, ApiError> {
    let path = &context.paths.config_file;
    match Config::load(Some(path)) {
        // Without a file the defaults are active, which is valid.
        Ok(_) if !path.exists() => Ok(Ok(())),
        read => with_plugins(context, path, read),
    }
}

/// Adds the diagnostics of the plugins to the result of reading a file.
fn with_plugins(
    context: &Context<'_>,
    path: &Path,
    read: Result<Config, ConfigErrors>,
) -> Result<Result<(), ConfigErrors>, ApiError> {
    Ok(match read {
        Ok(config) => {
            let diagnostics = context.local.diagnostics(&context.paths, &config)?;
            if diagnostics.is_empty() { Ok(()) } else { Err(Config::locate(path, &diagnostics)) }
        }
        Err(errors) => Err(errors),
    })
}

fn check(context: &mut Context<'_>, file: Option<&Path>) -> Result<Exit, ApiError> {
    let path = file.unwrap_or(&context.paths.config_file).to_owned();
    let exists = path.exists();
    let result = match file {
        Some(_) => validate(context, &path)?,
        None => validate_own(context)?,
    };
    match result {
        Ok(_) if context.json => context.out.document(&json!({"file": path, "exists": exists, "valid": true}))?,
        Ok(_) if exists => {
            let path = clean::line(&path.display().to_string());
            context.out.line(format!("{path}: no problem"))?;
        }
        Ok(_) => {
            let path = clean::line(&path.display().to_string());
            context
                .out
                .line(format!("{path} does not exist, so the defaults are active (`ostler config init` creates it)"))?;
        }
        Err(errors) if context.json => {
            let problems: Vec<_> = errors.errors().iter().map(problem).collect();
            context.out.document(&json!({"file": path, "exists": exists, "valid": false, "problems": problems}))?;
            return Ok(Exit::from(errors.to_api_error().kind));
        }
        Err(errors) => {
            complain(clean::text(&errors.report()).trim_end());
            return Ok(Exit::from(errors.to_api_error().kind));
        }
    }
    Ok(Exit::Done)
}

/// A problem as JSON. The text of the line is omitted, because it may contain a secret.
fn problem(error: &ConfigError) -> Value {
    json!({
        "line": error.position.map(|at| at.line), "column": error.position.map(|at| at.column),
        "key": error.key, "message": error.message, "hint": error.hint,
    })
}

async fn reload(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let Some(client) = context.client_of_running().await? else {
        let error = ApiError::new(ErrorKind::NotFound, "no host is running");
        return Err(error.hint("nothing to do: the host reads the configuration when it starts"));
    };
    let reload = client.reload().await?;
    if context.json {
        context.out.document(&reload)?;
        return Ok(Exit::Done);
    }
    let lines = format::reload(&reload);
    if lines.is_empty() {
        context.out.line("nothing changed")?;
    }
    for line in lines {
        context.out.line(clean::line(&line))?;
    }
    Ok(Exit::Done)
}

fn show(context: &mut Context<'_>, wanted: Option<&str>) -> Result<Exit, ApiError> {
    let config = context.local.config(&context.paths)?;
    let pointer = wanted.map(settings::pointer_of).transpose()?;
    let within = |value: &ShownValue| pointer.as_deref().is_none_or(|pointer| lies_in(&value.pointer, pointer));
    let all = config.shown_values();
    if let (Some(wanted), false) = (wanted, all.iter().any(within)) {
        return Err(settings::unknown(wanted, all.iter().map(|value| value.key.clone())));
    }
    if context.json {
        let document = Value::Object(config.shown());
        let part = document.pointer(pointer.as_deref().unwrap_or_default());
        context.out.document(part.unwrap_or(&document))?;
        return Ok(Exit::Done);
    }
    for ShownValue { key, value, origin, .. } in all.into_iter().filter(within) {
        let origin = match origin {
            Origin::Default => String::new(),
            Origin::File => context.out.styled(DIM, "  # yours"),
            Origin::Override => context.out.styled(DIM, "  # set"),
        };
        context.out.line(format!("{} = {}{origin}", clean::line(&key), clean::json(&value.to_string())))?;
    }
    Ok(Exit::Done)
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

fn create_folder(folder: &Path) -> Result<(), ApiError> {
    DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(|error| {
        ApiError::new(ErrorKind::Io, format!("failed to create the folder {}: {error}", folder.display()))
            .hint("create it, or choose another folder with OSTLER_HOME")
    })
}

/// Creates a file that only the user can read, because it may later contain secrets. Fails if the file exists.
fn write_new(path: &Path, text: &str) -> Result<(), ApiError> {
    let name = path.display();
    let failed = |error: std::io::Error| match error.kind() {
        IoKind::AlreadyExists => {
            ApiError::new(ErrorKind::Conflict, format!("{name} already exists and was not changed"))
                .hint("`ostler config check` checks it")
        }
        _ => ApiError::new(ErrorKind::Io, format!("failed to write {name}: {error}")),
    };
    if let Some(folder) = path.parent() {
        create_folder(folder)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
    if let Err(error) = file.write_all(text.as_bytes()).and_then(|()| file.sync_all()) {
        // Otherwise an incomplete configuration would become active.
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
    fn keeps_existing_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("new/config.toml");
        write_new(&path, "one").unwrap();
        assert_eq!(write_new(&path, "two").unwrap_err().kind, ErrorKind::Conflict);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "one");
        let mode = std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(&path).unwrap().permissions());
        assert_eq!(mode & 0o777, 0o600);
    }
}
