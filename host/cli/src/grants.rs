//! `ostler grant`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::context::{Context, absolute, current_folder};
use super::exit::Exit;
use super::format;
use super::output::{DIM, complain};
use super::table::{Cell, Table};
use super::{ask, clean};
use ostler_protocol::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler grant list
  ostler grant add              the current folder and everything below it
  ostler grant add --trust-settings ~/work/mine
  ostler grant revoke ~/work";

/// Manage the folders in which agents may work
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the granted folders
    #[command(after_help = "Examples:\n  ostler grant list --json")]
    List,
    /// Allow agents to work in a folder and everything below it, until it is revoked
    #[command(after_help = "Examples:\n  ostler grant add\n  ostler grant add ~/src/project\n  \
                            ostler grant add --trust-settings ~/src/mine")]
    Add {
        /// Folder [default: the current one]
        folder: Option<PathBuf>,
        /// Use the agent settings in the folder, which can start programs (hooks, MCP servers) and allow tools
        #[arg(long)]
        trust_settings: bool,
        /// Ignore the agent settings in the folder again
        #[arg(long, conflicts_with = "trust_settings")]
        no_trust_settings: bool,
    },
    /// Revoke a grant; running runs continue
    #[command(after_help = "Examples:\n  ostler grant revoke\n  ostler grant revoke ~/src/project")]
    Revoke {
        /// Folder [default: the current one]
        folder: Option<PathBuf>,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::List => list(context).await,
        Action::Add { folder, trust_settings, no_trust_settings } => {
            let folder = named(folder.as_deref())?;
            let trust = (*trust_settings || *no_trust_settings).then_some(*trust_settings);
            let grant = context.client().await?.grant_workspace(folder, trust).await.map_err(|error| {
                let error = ApiError::from(error);
                // The host's own hint is for runs.
                if error.kind == ErrorKind::CwdMissing { error.hint("name a folder that exists") } else { error }
            })?;
            if context.json {
                context.out.document(&grant)?;
            } else {
                let trust = if grant.trust_settings { "; its own agent settings are used" } else { "" };
                context.out.line(format!("agents may work in {}{trust}", shown(&grant.path)))?;
            }
            if let Some(warning) = ask::too_broad(&grant.path).filter(|_| !context.json) {
                complain(&format!("warning: {warning}"));
                complain(&format!("hint: `{}` revokes it", clean::line(&ask::revoke_command(&grant.path))));
            }
            Ok(Exit::Done)
        }
        Action::Revoke { folder } => {
            let folder = named(folder.as_deref())?;
            let result = context.client().await?.revoke_workspace(folder.clone()).await?;
            if context.json {
                context.out.document(&result)?;
            } else {
                context.out.line(format!("agents may no longer work in {}", shown(&folder)))?;
            }
            Ok(Exit::Done)
        }
    }
}

async fn list(context: &mut Context<'_>) -> Result<Exit, ApiError> {
    let grants = context.client().await?.list_workspace_grants().await?;
    if context.json {
        context.out.document(&grants)?;
    } else if grants.is_empty() {
        complain("no folder is granted; `ostler grant add` grants the current one");
    } else {
        let mut table = Table::new(&["FOLDER", "SETTINGS", "SINCE"], 0);
        for grant in &grants {
            let since = Cell::styled(DIM, &format::local(grant.created_at));
            let settings = if grant.trust_settings { "trusted" } else { "-" };
            table.row(vec![grant.path.display().to_string().into(), settings.into(), since]);
        }
        table.print(&mut context.out)?;
    }
    Ok(Exit::Done)
}

fn named(folder: Option<&Path>) -> Result<PathBuf, ApiError> {
    folder.map_or_else(current_folder, absolute)
}

fn shown(folder: &Path) -> String {
    clean::line(&folder.display().to_string())
}
