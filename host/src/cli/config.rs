//! `ostler config`

use std::fs::{DirBuilder, OpenOptions};
use std::io::{ErrorKind as IoKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use serde_json::json;

use super::clean;
use super::context::Context;
use super::exit::Exit;
use super::format;
use super::output::{DIM, complain};
use crate::config::{Config, DEFAULT_TEXT, Origin, ShownValue};
use crate::model::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler config init                 write the commented default configuration
  ostler config check                say what is wrong with yours
  ostler config show                 every value, and which of them are yours
  $EDITOR \"$(ostler config path)\"     in force when you save it

A host takes up changes by itself; what is wrong changes nothing, and `ostler status` shows it. Runs that are under way
keep what they began with. `ostler config check` needs no host; it asks the plugins about their settings, too.";

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
    /// Have the running host read the configuration and look at its plugins now
    #[command(after_help = "Examples:\n  ostler config reload\n  ostler config reload --json | jq .changed\n\n\
                            A host does this by itself when the files change, but may not notice where they lie on another\n\
                            machine. SIGHUP does the same. Plugins that were set aside are tried again.")]
    Reload,
    /// Print every value that a host starting now would have
    #[command(after_help = "Examples:\n  ostler config show\n  ostler config show --json | jq .scheduler")]
    Show,
    /// Write the commented default configuration, unless there is a file already
    #[command(after_help = "Examples:\n  ostler config init")]
    Init,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::Path => path(context),
        Action::Check { file } => check(context, file.as_deref()),
        Action::Reload => reload(context).await,
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
        Err(errors) if context.json => return Err(errors.to_api_error()),
        Err(errors) => {
            complain(clean::text(&errors.report()).trim_end());
            return Ok(Exit::from(errors.to_api_error().kind));
        }
    }
    Ok(Exit::Done)
}

async fn reload(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let Some(client) = context.client_of_running().await? else {
        let error = ApiError::new(ErrorKind::NotFound, "no host is running");
        return Err(error.hint("there is nothing to do: a host reads the configuration when it starts"));
    };
    let reload = client.reload().await?;
    if context.json {
        context.out.document(&reload)?;
        return Ok(Exit::Done);
    }
    let told = format::reload(&reload);
    if told.is_empty() {
        context.out.line("nothing has changed")?;
    }
    for line in told {
        context.out.line(clean::line(&line))?;
    }
    Ok(Exit::Done)
}

fn show(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let config = context.local.config(&context.paths)?;
    if context.json {
        context.out.document(&config.shown())?;
        return Ok(Exit::Done);
    }
    for ShownValue { key, value, origin, .. } in config.shown_values() {
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
