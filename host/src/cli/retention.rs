//! `ostler retention`

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::clean;
use super::context::{Context, absolute};
use super::exit::Exit;
use super::format;
use super::output::{DIM, Output, WARN, complain};
use super::table::{Cell, Table};
use crate::api::types::{ApplyRetentionParams, RetentionState, SetRetentionParams, UnsetRetentionParams};
use crate::model::{
    ApiError, RetentionItem, RetentionLimit, RetentionOrigin, RetentionPolicy, RetentionReport, RetentionScopeKind,
};

const EXAMPLES: &str = "\
Examples:
  ostler retention show
  ostler retention set --days 30
  ostler retention set --provider codex --megabytes 200
  ostler retention apply --dry-run       what would go now

Ended runs are deleted when they are too old or too much: when the host starts, and every hour. Each limit of a run is
the one of the narrowest scope that states it: its folder, then its provider, then all. What is set here goes before the
configuration's file. A run that has not ended is never deleted.";

/// Say how long and how much is kept of ended runs
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show the limits, and what is kept
    #[command(after_help = "Examples:\n  ostler retention show --json")]
    Show,
    /// Set limits for all runs, for those of a provider or for those in a folder
    #[command(after_help = "Examples:\n  ostler retention set --days 0 --megabytes 5000\n  \
        ostler retention set --workspace ~/src/secret --days 1")]
    Set {
        #[command(flatten)]
        scope: Scope,
        /// Delete a run so many days after its end; 0 keeps it for ever
        #[arg(long, value_name = "DAYS", required_unless_present = "megabytes",
            value_parser = clap::value_parser!(u32).range(0..=36_500))]
        days: Option<u32>,
        /// Keep so many megabytes (10^6 bytes), the newest runs first; 0 is without limit
        #[arg(long, value_name = "MB", value_parser = clap::value_parser!(u64).range(0..=1_000_000_000))]
        megabytes: Option<u64>,
    },
    /// Take back what was set: the configuration's file and the wider scopes hold
    #[command(after_help = "Examples:\n  ostler retention unset\n  ostler retention unset --provider codex")]
    Unset {
        #[command(flatten)]
        scope: Scope,
    },
    /// Delete now what is too old or too much
    #[command(after_help = "Examples:\n  ostler retention apply --dry-run\n  ostler retention apply --json")]
    Apply {
        /// Only say what would go
        #[arg(long)]
        dry_run: bool,
    },
}

/// All runs, unless one of these is given.
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
                    ApiError::new(crate::model::ErrorKind::InvalidParams, "the folder's name is no UTF-8")
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
                complain("in force within the hour; `ostler retention apply` does it now, with --dry-run it says what");
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
        Action::Apply { dry_run } => {
            let report = context.client().await?.apply_retention(&ApplyRetentionParams { dry_run: *dry_run }).await?;
            if context.json {
                context.out.document(&report)?;
            } else {
                tell(&report, &mut context.out)?;
            }
        }
    }
    Ok(Exit::Done)
}

fn show(state: &RetentionState, out: &mut Output) -> Result<(), ApiError> {
    policies(&state.policies).print(out)?;
    if let Some(last) = &state.last {
        let line = format!("enforced {}: {}", format::local(last.at), summary(last));
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
            limit(policy.days, "for ever").into(),
            limit(policy.megabytes, "no limit").into(),
            format::count(policy.runs).into(),
            megabytes(policy.bytes).into(),
        ]);
    }
    table
}

/// What goes or went: each run, then the sum.
fn tell(report: &RetentionReport, out: &mut Output) -> Result<(), ApiError> {
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
        let line = format!("left, because it could not be deleted: {}", clean::line(&file.display().to_string()));
        complain(&super::output::paint(out.color, WARN, &line));
    }
    if !report.complete {
        complain("the host's end came first; the rest goes at its next start");
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
    let verb = if report.dry_run { "would go" } else { "went" };
    if parts.is_empty() {
        return format!("nothing {verb}");
    }
    format!("{} {verb}, {}", parts.join(", "), megabytes(report.bytes))
}

fn limits(policy: &RetentionPolicy) -> String {
    let days = policy.days.map(|days| match days.value {
        0 => "kept for ever".to_owned(),
        1 => "kept for 1 day".to_owned(),
        days => format!("kept for {days} days"),
    });
    let most = policy.megabytes.map(|most| match most.value {
        0 => "of any size".to_owned(),
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

/// Bytes in the unit of the limits.
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
    fn limits_are_shown_where_they_are_stated() {
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
        SCOPE            DAYS            MEGABYTES       RUNS   KEPT
        all              90              500 (file)      1,200  1.3 MB
        provider codex                   no limit (set)  1,200  1.3 MB
        /home/me/secret  for ever (set)                  1,200  1.3 MB
        ");
        assert_eq!(limits(&shown[1]), "of any size");
        assert_eq!(limits(&shown[2]), "kept for ever");
    }

    #[test]
    fn a_report_is_summed_up() {
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
        assert_eq!(summary(&report), "2 runs, 1 conversation, 3 events without a run would go, 0.2 MB");
        report = RetentionReport { dry_run: false, runs: 0, events: 1, conversations: 0, ..report };
        assert_eq!(summary(&report), "1 event without a run went, 0.2 MB");
        assert_eq!(summary(&RetentionReport { events: 0, ..report }), "nothing went");
    }
}
