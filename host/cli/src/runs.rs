//! `ostler runs`

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::context::{Context, absolute};
use super::exit::Exit;
use super::output::{BAD, BUSY, DIM, GOOD, WARN, complain};
use super::table::{Cell, Table};
use super::{format, ids, numbers, times};
use ostler_protocol::methods::ListRunsParams;
use ostler_protocol::{ApiError, RunStatus, RunSummary, WaitingFor};

const EXAMPLES: &str = "\
Examples:
  ostler runs                           the newest 20
  ostler runs --status failed -n 100
  ostler runs --provider codex --json | jq -r '.items[].runId'
  ostler runs --since 2h --cwd .        of this folder and below, in the last two hours
  ostler runs --since yesterday --until today --status completed
  ostler runs --chat 1a2b3c4d           of a conversation
  ostler runs --search 'flaky \"connection reset\"'

Every command takes the short id from the list, or any beginning or end of the full id. `@` or `last` is the newest run, \
`@2` the one before it.";

/// List runs, newest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only runs of this provider
    #[arg(long, value_name = "NAME")]
    provider: Option<String>,
    /// Only runs with this status
    #[arg(long, value_parser = ["queued", "running", "completed", "failed", "canceled", "interrupted"])]
    status: Option<String>,
    /// Only runs that were submitted since then: 2h, 3d, today, yesterday, 18:30, 2026-12-01, "2026-12-01 09:00"
    #[arg(long, value_name = "TIME", value_parser = times::parse_past)]
    since: Option<Timestamp>,
    /// Only runs that were submitted before: as for --since
    #[arg(long, value_name = "TIME", value_parser = times::parse_past)]
    until: Option<Timestamp>,
    /// Only runs that worked in this folder or below it
    #[arg(long, value_name = "DIR")]
    cwd: Option<PathBuf>,
    /// Only runs of this conversation
    #[arg(long, value_name = "CHAT")]
    chat: Option<String>,
    /// Only runs with these words in the prompt or answer; see `ostler search --help`
    #[arg(long, value_name = "WORDS")]
    search: Option<String>,
    /// Maximum number of results
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = numbers::whole(1_u32..=1000))]
    limit: u32,
    /// Skip the first N
    #[arg(long, value_name = "N")]
    offset: Option<u64>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let conversation_id = match &arguments.chat {
        Some(chat) => Some(ids::conversation(&client, chat).await?),
        None => None,
    };
    let params = ListRunsParams {
        provider: arguments.provider,
        status: arguments.status.as_deref().and_then(RunStatus::from_name),
        conversation_id,
        cwd: arguments.cwd.as_deref().map(absolute).transpose()?,
        search: arguments.search,
        date_from: arguments.since,
        date_to: arguments.until,
        limit: Some(arguments.limit),
        offset: arguments.offset,
    };
    let page = client.list_runs(&params).await?;
    if context.json {
        context.out.document(&page)?;
        return Ok(Exit::Done);
    }
    if page.items.is_empty() {
        let whole = ListRunsParams { limit: params.limit, offset: params.offset, ..ListRunsParams::default() };
        complain(match (page.total, params != whole) {
            (0, false) => "no runs yet",
            (0, true) => "no matching runs",
            _ => "no more runs",
        });
        return Ok(Exit::Done);
    }
    table(&page.items, context.out.stdout_terminal, times::now()).print(&mut context.out)?;
    context.out.note_incomplete_list(page.items.len(), page.total, "runs", "-n and --offset show others");
    Ok(Exit::Done)
}

/// Runs as a table, with short or full ids.
pub(super) fn table(runs: &[RunSummary], short: bool, now: Timestamp) -> Table {
    let mut table = Table::new(&["RUN", "STATUS", "PROVIDER", "CREATED", "TOOK", "TITLE"], 5).optional(&[4, 2, 3]);
    for run in runs {
        let id = if short { format::short_id(run.run_id) } else { run.run_id.to_string() };
        let took = run.started_at.map(|start| format::between(start, run.ended_at.unwrap_or(now))).unwrap_or_default();
        table.row(vec![
            id.into(),
            state_cell(run.status, run.waiting_for),
            run.provider.as_str().into(),
            Cell::styled(DIM, &format::local(run.created_at)),
            took.into(),
            run.title.as_str().into(),
        ]);
    }
    table
}

/// The status of a run, or what it waits for.
pub(super) fn state_cell(status: RunStatus, waiting_for: Option<WaitingFor>) -> Cell {
    match waiting_for {
        Some(what @ (WaitingFor::Approval | WaitingFor::Question)) => Cell::styled(WARN, waits_for(what)),
        Some(what @ WaitingFor::Quota) => Cell::styled(DIM, waits_for(what)),
        // The status says it.
        Some(WaitingFor::Slot) | None => status_cell(status),
    }
}

/// What a run waits for, in words.
pub(super) const fn waits_for(what: WaitingFor) -> &'static str {
    match what {
        WaitingFor::Approval => "waits for approval",
        WaitingFor::Question => "waits for answer",
        WaitingFor::Quota => "waits for quota",
        WaitingFor::Slot => "waits for slot",
    }
}

/// The status of a run, in its color.
pub(super) fn status_cell(status: RunStatus) -> Cell {
    let style = match status {
        RunStatus::Queued => DIM,
        RunStatus::Running => BUSY,
        RunStatus::Completed => GOOD,
        RunStatus::Canceled | RunStatus::Interrupted => WARN,
        RunStatus::Failed => BAD,
    };
    Cell::styled(style, status.name())
}
