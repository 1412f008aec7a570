//! `ostler capabilities`

use clap::Args;

use super::context::Context;
use super::exit::Exit;
use super::output::{BAD, GOOD, WARN};
use super::table::{Cell, Table};
use super::{clean, environment};
use crate::api::types::ListCapabilitiesParams;
use crate::model::{ApiError, CapabilitySnapshot, Support};

const EXAMPLES: &str = "\
Examples:
  ostler capabilities                   what is installed, and what it is good for
  ostler capabilities codex --refresh   run the probes again
  ostler capabilities --json | jq '.[].features'";

/// Show what the installed agent CLIs can do
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only this provider
    provider: Option<String>,
    /// Run the probes again now
    #[arg(long)]
    refresh: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let listed = client.list_plugins().await?;
    let wanted = |name: &str| arguments.provider.as_deref().is_none_or(|provider| provider == name);
    let patterns: Vec<&str> = listed
        .providers
        .iter()
        .filter(|provider| wanted(&provider.name))
        .flat_map(|provider| provider.inherit_environment.iter().map(String::as_str))
        .collect();
    let params = ListCapabilitiesParams {
        refresh: arguments.refresh.then_some(true),
        client_environment: environment::to_send(patterns, std::env::vars_os()),
        provider: arguments.provider.clone(),
    };
    let snapshots = client.list_capabilities(&params).await?;
    if context.json {
        context.out.document(&snapshots)?;
        return Ok(Exit::Done);
    }
    table(&snapshots).print(&mut context.out)?;
    for snapshot in &snapshots {
        let mut reasons = snapshot.reasons.clone();
        reasons.extend(snapshot.install_hint.clone());
        for reason in reasons {
            context.out.line(format!("{}: {}", clean::line(&snapshot.provider), clean::line(&reason)))?;
        }
    }
    Ok(Exit::Done)
}

fn table(snapshots: &[CapabilitySnapshot]) -> Table {
    let mut table = Table::new(&["PROVIDER", "SUPPORT", "VERSION", "EXECUTABLE", "FEATURES"], 4);
    for snapshot in snapshots {
        let style = match snapshot.support {
            Support::Supported => GOOD,
            Support::Degraded => WARN,
            Support::Blocked => BAD,
        };
        let executable = snapshot.executable.as_ref().map(|path| path.display().to_string());
        table.row(vec![
            snapshot.provider.as_str().into(),
            Cell::styled(style, snapshot.support.name()),
            snapshot.cli_version.as_deref().unwrap_or_default().into(),
            executable.unwrap_or_default().into(),
            snapshot.features.join(" ").into(),
        ]);
    }
    table
}
