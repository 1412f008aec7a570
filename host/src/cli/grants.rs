//! `ostler grants`

use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::clean;
use super::context::{Context, absolute, current_folder};
use super::exit::Exit;
use super::format;
use super::output::{DIM, complain};
use super::table::{Cell, Table};
use crate::model::{ApiError, ErrorKind};

const EXAMPLES: &str = "\
Examples:
  ostler grants list
  ostler grants add              the current folder and all below it
  ostler grants add --trust-settings ~/work/mine
  ostler grants revoke ~/work";

/// Say in which folders agents may work
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the granted folders
    #[command(after_help = "Examples:\n  ostler grants list --json")]
    List,
    /// Let agents work in a folder and all below it, for good
    #[command(after_help = "Examples:\n  ostler grants add\n  ostler grants add ~/src/project\n  \
                            ostler grants add --trust-settings ~/src/mine")]
    Add {
        /// The folder; the current one where none is named
        folder: Option<PathBuf>,
        /// Let agent settings in the folder itself count: they can start programs (hooks, MCP servers) and allow tools
        #[arg(long)]
        trust_settings: bool,
        /// Take that trust back and keep the grant
        #[arg(long, conflicts_with = "trust_settings")]
        no_trust_settings: bool,
    },
    /// Take a grant back; runs under way go on
    #[command(after_help = "Examples:\n  ostler grants revoke\n  ostler grants revoke ~/src/project")]
    Revoke {
        /// The folder; the current one where none is named
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
                let trust = if grant.trust_settings { "; its own agent settings count" } else { "" };
                context.out.line(format!("agents may work in {}{trust}", shown(&grant.path)))?;
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
        complain("no folder is granted; `ostler grants add` grants the current one");
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
