//! `ostler retention`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::context::{Context, absolute};
use super::exit::Exit;
use super::format;
use super::output::{DIM, Output, WARN, complain};
use super::table::{Cell, Table};
use super::{ask, clean, numbers};
use ostler_protocol::methods::{ApplyRetentionParams, RetentionState, SetRetentionParams, UnsetRetentionParams};
use ostler_protocol::{
    ApiError, RetentionItem, RetentionLimit, RetentionOrigin, RetentionPolicy, RetentionReport, RetentionScopeKind,
};

const EXAMPLES: &str = "\
Examples:
  ostler retention show
  ostler retention set --days 30
  ostler retention set --provider codex --megabytes 200
  ostler retention apply --dry-run       shows what would be deleted

Finished runs are deleted when a limit is exceeded: when the host starts, and every hour. The limit of the narrowest \
scope counts: the run's folder, then its provider, then all runs. What is set here overrides config.toml. A run that has \
not ended is never deleted.";

/// Manage retention of finished runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the limits and how much is stored
    #[command(after_help = "Examples:\n  ostler retention show --json")]
    Show,
    /// Set limits for all runs, for those of a provider or for those in a folder
    #[command(group = clap::ArgGroup::new("limit").required(true).multiple(true),
        after_help = "Examples:\n  ostler retention set --days 0 --megabytes 5000\n  \
        ostler retention set --workspace ~/src/secret --days 1")]
    Set {
        #[command(flatten)]
        scope: Scope,
        /// Delete a run this many days after its end; 0 means never
        #[arg(long, value_name = "DAYS", group = "limit", value_parser = numbers::whole(0_u32..=36_500))]
        days: Option<u32>,
        /// Keep this many megabytes (10^6 bytes), the newest runs first; 0 means no limit
        #[arg(long, value_name = "MB", group = "limit", value_parser = numbers::whole(0_u64..=1_000_000_000))]
        megabytes: Option<u64>,
    },
    /// Reset the limits of a scope to those of config.toml or of the wider scope
    #[command(after_help = "Examples:\n  ostler retention unset\n  ostler retention unset --provider codex")]
    Unset {
        #[command(flatten)]
        scope: Scope,
    },
    /// Delete now what exceeds the limits; asks first on a terminal
    #[command(after_help = "Examples:\n  ostler retention apply --dry-run\n  ostler retention apply --yes")]
    Apply {
        /// Only show what would be deleted
        #[arg(long)]
        dry_run: bool,
        /// Do not ask
        #[arg(long, short)]
        yes: bool,
    },
}

/// The scope of a limit: all runs by default.
#[derive(Clone, Debug, Args)]
struct Scope {
    /// Only the runs of this provider
    #[arg(long, value_name = "NAME", conflicts_with = "workspace")]
    provider: Option<String>,
    /// Only the runs in this folder and below
    #[arg(long, value_name = "DIR")]
    workspace: Option<PathBuf>,
}

impl Scope {
    fn named(&self) -> Result<(RetentionScopeKind, Option<String>), ApiError> {
        Ok(match (&self.provider, &self.workspace) {
            (Some(provider), _) => (RetentionScopeKind::Provider, Some(provider.clone())),
            (None, Some(folder)) => {
                let folder = absolute(folder)?.into_os_string().into_string();
                let folder = folder.map_err(|_| {
                    ApiError::new(ostler_protocol::ErrorKind::InvalidParams, "the folder's name is not valid UTF-8")
                })?;
                (RetentionScopeKind::Workspace, Some(folder))
            }
            (None, None) => (RetentionScopeKind::Global, None),
        })
    }
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    match &arguments.action {
        Action::Show => {
            let state = context.client().await?.get_retention().await?;
            if context.json {
                context.out.document(&state)?;
            } else {
                show(&state, &mut context.out)?;
            }
        }
        Action::Set { scope, days, megabytes } => {
            let (scope, name) = scope.named()?;
            let params = SetRetentionParams { scope, name, days: *days, megabytes: *megabytes };
            let policy = context.client().await?.set_retention(&params).await?;
            if context.json {
                context.out.document(&policy)?;
            } else {
                context.out.line(format!("{}: {}", scope_text(scope, policy.name.as_deref()), limits(&policy)))?;
                complain(
                    "takes effect within an hour. Run `ostler retention apply` to apply now, or add --dry-run to preview",
                );
            }
        }
        Action::Unset { scope } => {
            let (scope, name) = scope.named()?;
            let params = UnsetRetentionParams { scope, name };
            let state = context.client().await?.unset_retention(&params).await?;
            if context.json {
                context.out.document(&state)?;
            } else {
                show(&state, &mut context.out)?;
            }
        }
        Action::Apply { dry_run, yes } => {
            let client = context.client().await?;
            if !dry_run && !yes && !context.json && ask::can_ask() {
                let preview = client.apply_retention(&ApplyRetentionParams { dry_run: true }).await?;
                if preview.runs > 0 {
                    print_report(&preview, &mut context.out)?;
                    if !ask::confirm("Delete these runs?") {
                        complain("nothing was deleted");
                        return Ok(Exit::Canceled);
                    }
                }
            }
            let report = client.apply_retention(&ApplyRetentionParams { dry_run: *dry_run }).await?;
            if context.json {
                context.out.document(&report)?;
            } else {
                print_report(&report, &mut context.out)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(state: &RetentionState, out: &mut Output) -> Result<(), ApiError> {
    policies(&state.policies).print(out)?;
    if let Some(last) = &state.last {
        let line = format!("last cleanup {}: {}", format::local(last.at), summary(last));
        let line = out.styled(DIM, &line);
        out.line(line)?;
    }
    Ok(())
}

fn policies(policies: &[RetentionPolicy]) -> Table {
    let mut table = Table::new(&["SCOPE", "DAYS", "MEGABYTES", "RUNS", "KEPT"], 0);
    for policy in policies {
        table.row(vec![
            scope_text(policy.scope, policy.name.as_deref()).into(),
            limit(policy.days, "forever").into(),
            limit(policy.megabytes, "no limit").into(),
            format::count(policy.runs).into(),
            megabytes(policy.bytes).into(),
        ]);
    }
    table
}

/// Prints the runs that a cleanup deletes or has deleted, then the sum.
fn print_report(report: &RetentionReport, out: &mut Output) -> Result<(), ApiError> {
    if !report.items.is_empty() {
        items(&report.items, out.stdout_terminal).print(out)?;
        let more = report.runs.saturating_sub(report.items.len() as u64);
        if more > 0 {
            let line = out.styled(DIM, &format!("and {} more", format::count(more)));
            out.line(line)?;
        }
    }
    out.line(summary(report))?;
    for file in &report.files_left {
        let line = format!("could not be deleted: {}", clean::line(&file.display().to_string()));
        complain(&super::output::paint(out.color, WARN, &line));
    }
    if !report.complete {
        complain("the host stopped before the cleanup was complete; the rest is deleted at its next start");
    }
    Ok(())
}

fn items(items: &[RetentionItem], short: bool) -> Table {
    let mut table = Table::new(&["RUN", "ENDED", "PROVIDER", "SIZE", "BY", "TITLE"], 5);
    for item in items {
        let id = if short { format::short_id(item.run_id) } else { item.run_id.to_string() };
        table.row(vec![
            id.into(),
            Cell::styled(DIM, &format::local(item.ended_at)),
            item.provider.as_str().into(),
            megabytes(item.bytes).into(),
            format!("{} of {}", item.rule, scope_text(item.scope, item.name.as_deref())).into(),
            item.title.as_str().into(),
        ]);
    }
    table
}

fn summary(report: &RetentionReport) -> String {
    let counts = [
        (report.runs, "run", "runs"),
        (report.conversations, "conversation", "conversations"),
        (report.events, "event without a run", "events without a run"),
    ];
    let there = counts.iter().filter(|(count, ..)| *count > 0);
    let parts: Vec<String> = there
        .map(|(count, one, many)| format!("{} {}", format::count(*count), if *count == 1 { one } else { many }))
        .collect();
    if parts.is_empty() {
        return if report.dry_run { "nothing to delete" } else { "nothing deleted" }.to_owned();
    }
    let verb = if report.dry_run { "would be deleted" } else { "deleted" };
    format!("{} {verb}, {}", parts.join(", "), megabytes(report.bytes))
}

fn limits(policy: &RetentionPolicy) -> String {
    let days = policy.days.map(|days| match days.value {
        0 => "kept forever".to_owned(),
        1 => "kept for 1 day".to_owned(),
        days => format!("kept for {days} days"),
    });
    let most = policy.megabytes.map(|most| match most.value {
        0 => "no size limit".to_owned(),
        most => format!("at most {most} MB"),
    });
    days.into_iter().chain(most).collect::<Vec<_>>().join(", ")
}

fn limit(limit: Option<RetentionLimit>, none: &str) -> String {
    let Some(limit) = limit else { return String::new() };
    let value = if limit.value == 0 { none.to_owned() } else { limit.value.to_string() };
    match limit.origin {
        RetentionOrigin::Override => format!("{value} (set)"),
        RetentionOrigin::File => format!("{value} (file)"),
        RetentionOrigin::Default => value,
    }
}

fn scope_text(scope: RetentionScopeKind, name: Option<&str>) -> String {
    match (scope, name) {
        (RetentionScopeKind::Provider, Some(name)) => format!("provider {name}"),
        (RetentionScopeKind::Workspace, Some(folder)) => folder.to_owned(),
        _ => "all".to_owned(),
    }
}

/// Bytes in megabytes, the unit of the limits, rounded up.
fn megabytes(bytes: u64) -> String {
    let tenths = bytes.div_ceil(100_000);
    format!("{}.{} MB", tenths / 10, tenths % 10)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn policy(scope: RetentionScopeKind, name: Option<&str>, days: Option<u64>, most: Option<u64>) -> RetentionPolicy {
        let limit = |value| RetentionLimit { value, origin: RetentionOrigin::Override };
        RetentionPolicy {
            scope,
            name: name.map(str::to_owned),
            days: days.map(limit),
            megabytes: most.map(limit),
            runs: 1200,
            bytes: 1_230_000,
        }
    }

    #[test]
    fn shows_limits_of_scopes_that_set_them() {
        use RetentionScopeKind::{Global, Provider, Workspace};
        let mut global = policy(Global, None, Some(90), Some(1024));
        global.days = Some(RetentionLimit { value: 90, origin: RetentionOrigin::Default });
        global.megabytes = Some(RetentionLimit { value: 500, origin: RetentionOrigin::File });
        let shown = [
            global,
            policy(Provider, Some("codex"), None, Some(0)),
            policy(Workspace, Some("/home/me/secret"), Some(0), None),
        ];
        insta::assert_snapshot!(policies(&shown).render(None, false), @r"
        SCOPE            DAYS           MEGABYTES       RUNS   KEPT
        all              90             500 (file)      1,200  1.3 MB
        provider codex                  no limit (set)  1,200  1.3 MB
        /home/me/secret  forever (set)                  1,200  1.3 MB
        ");
        assert_eq!(limits(&shown[1]), "no size limit");
        assert_eq!(limits(&shown[2]), "kept forever");
    }

    #[test]
    fn summarizes_report() {
        let mut report = RetentionReport {
            dry_run: true,
            at: "2026-03-05T12:00:00Z".parse().unwrap(),
            runs: 2,
            bytes: 150_000,
            events: 3,
            conversations: 1,
            items: Vec::new(),
            files_left: Vec::new(),
            complete: true,
        };
        assert_eq!(summary(&report), "2 runs, 1 conversation, 3 events without a run would be deleted, 0.2 MB");
        report = RetentionReport { dry_run: false, runs: 0, events: 1, conversations: 0, ..report };
        assert_eq!(summary(&report), "1 event without a run deleted, 0.2 MB");
        assert_eq!(summary(&RetentionReport { events: 0, ..report }), "nothing deleted");
    }
}
