//! `ostler session list`

use clap::Args;
use jiff::Timestamp;
use serde::Serialize;

use super::super::context::Context;
use super::super::exit::Exit;
use super::super::numbers;
use super::super::output::{BUSY, DIM, GOOD, WARN, complain};
use super::super::runs::{status_cell, waits_for};
use super::super::table::{Cell, Table};
use super::super::{format, times};
use super::activity::{self, Activity};
use super::terminal_view::has_terminal;
use ostler_client::Client;
use ostler_protocol::methods::{ListRunsParams, RunEventsParams};
use ostler_protocol::{ApiError, RunId, RunMode, RunRecord, RunStatus, RunSummary, WaitingFor};

/// Runs per page.
const PAGE: u32 = 1000;
/// Events that are searched for the activity, the newest ones.
const EVENTS: u32 = 200;

const EXAMPLES: &str = "\
Examples:
  ostler session list                     open sessions
  ostler session list --all -n 50         ended ones that can be resumed as well
  ostler session list --json | jq -r '.[] | select(.state == \"idle\") | .runId'

The states are queued, starting, working, idle, and what the agent waits for: approval or answer. A session in a terminal \
is open.";

/// List open sessions, newest first
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Include ended sessions that can be resumed
    #[arg(long, short)]
    all: bool,
    /// With --all: maximum number of ended sessions
    #[arg(long, short = 'n', value_name = "N", default_value_t = 20, value_parser = numbers::whole(1_u32..=1000))]
    limit: u32,
}

/// A session in the list.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Session {
    run_id: RunId,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_id: Option<String>,
    provider: String,
    title: String,
    state: &'static str,
    since: Timestamp,
    cwd: std::path::PathBuf,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let mut sessions = Vec::new();
    for status in [RunStatus::Queued, RunStatus::Running] {
        for run in interactive(&client, Some(status), u32::MAX).await? {
            let record = client.get_run(run.run_id).await?;
            sessions.push(open(&client, record).await?);
        }
    }
    sessions.sort_by_key(|session| std::cmp::Reverse(session.run_id));
    if arguments.all {
        let mut ended = Vec::new();
        for run in interactive(&client, None, u32::MAX).await?.into_iter().filter(|run| run.status.ended()) {
            if ended.len() >= arguments.limit as usize {
                break;
            }
            let record = client.get_run(run.run_id).await?;
            ended.extend(ended_session(record));
        }
        sessions.extend(ended);
    }
    if context.json {
        context.out.document(&sessions)?;
    } else if sessions.is_empty() {
        complain(if arguments.all {
            "no sessions yet; `ostler session start` opens one"
        } else {
            "no session is open; `ostler session start` opens one, and --all shows ended ones"
        });
    } else {
        table(&sessions, context.out.stdout_terminal, times::now()).print(&mut context.out)?;
    }
    Ok(Exit::Done)
}

/// The runs that hold a session, newest first.
async fn interactive(client: &Client, status: Option<RunStatus>, limit: u32) -> Result<Vec<RunSummary>, ApiError> {
    let (mut found, mut offset) = (Vec::new(), 0);
    loop {
        let params = ListRunsParams { status, limit: Some(PAGE), offset: Some(offset), ..ListRunsParams::default() };
        let page = client.list_runs(&params).await?;
        offset += page.items.len() as u64;
        let ended = page.items.is_empty() || offset >= page.total;
        found.extend(page.items.into_iter().filter(|run| run.mode == RunMode::Interactive));
        if ended || found.len() >= limit as usize {
            return Ok(found);
        }
    }
}

async fn open(client: &Client, record: RunRecord) -> Result<Session, ApiError> {
    // The host cannot see turns in a terminal.
    let in_terminal = has_terminal(&record);
    let found = if in_terminal { None } else { activity_of(client, &record).await? };
    let run = record.summary;
    let (state, since) = match (run.status, run.waiting_for, found) {
        (RunStatus::Queued, ..) => ("queued", run.created_at),
        (_, Some(WaitingFor::Approval), _) => ("approval", run.waiting_since.unwrap_or(run.created_at)),
        (_, Some(WaitingFor::Question), _) => ("answer", run.waiting_since.unwrap_or(run.created_at)),
        (.., Some((Activity::Idle, since))) => ("idle", since),
        (.., Some((Activity::Working, since))) => ("working", since),
        (.., Some((Activity::Starting, since))) => ("starting", since),
        (.., None) if in_terminal => ("open", run.started_at.unwrap_or(run.created_at)),
        (.., None) => ("starting", run.started_at.unwrap_or(run.created_at)),
    };
    let (run_id, provider, title, cwd) = (run.run_id, run.provider, run.title, run.cwd);
    Ok(Session { run_id, session_id: record.session_id, provider, title, state, since, cwd })
}

/// An ended session, if it is known and can be resumed.
fn ended_session(record: RunRecord) -> Option<Session> {
    let session_id = Some(record.session_id?);
    let run = record.summary;
    let since = run.ended_at.unwrap_or(run.created_at);
    let (run_id, provider, title, cwd) = (run.run_id, run.provider, run.title, run.cwd);
    Some(Session { run_id, session_id, provider, title, state: run.status.name(), since, cwd })
}

/// What a session does and since when, from its newest events. `None` if they do not say it.
pub(super) async fn activity_of(client: &Client, run: &RunRecord) -> Result<Option<(Activity, Timestamp)>, ApiError> {
    let before = Some(client.get_status().await?.cursor + 1);
    let params = RunEventsParams { run_id: run.summary.run_id, after: None, before, limit: Some(EVENTS) };
    let page = client.get_run_events(&params).await?;
    Ok(activity::after(&page.events, has_prompt(run)))
}

/// Whether the first turn of a session begins at once.
pub(super) fn has_prompt(run: &RunRecord) -> bool {
    let prompt = run.payload.get("prompt").and_then(serde_json::Value::as_str);
    prompt.is_some_and(|prompt| !prompt.trim().is_empty())
}

fn table(sessions: &[Session], short: bool, now: Timestamp) -> Table {
    let mut table = Table::new(&["RUN", "PROVIDER", "STATE", "FOR", "FOLDER", "TITLE"], 5).optional(&[4, 1]);
    for session in sessions {
        let state = match session.state {
            "approval" => Cell::styled(WARN, waits_for(WaitingFor::Approval)),
            "answer" => Cell::styled(WARN, waits_for(WaitingFor::Question)),
            "working" => Cell::styled(BUSY, "working"),
            "idle" => Cell::styled(GOOD, "idle"),
            other => RunStatus::from_name(other).map_or_else(|| Cell::styled(DIM, other), status_cell),
        };
        table.row(vec![
            if short { format::short_id(session.run_id) } else { session.run_id.to_string() }.into(),
            session.provider.as_str().into(),
            state,
            Cell::styled(DIM, &format::between(session.since, now)),
            Cell::styled(DIM, &session.cwd.display().to_string()),
            session.title.as_str().into(),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn table_shows_state_and_drops_folder_first() {
        let session = |end: &str, state, title: &str| Session {
            run_id: format!("01999999-8888-7777-8666-1234{end}").parse().unwrap(),
            session_id: None,
            provider: "codex".to_owned(),
            title: title.to_owned(),
            state,
            since: "2020-03-05T11:58:00Z".parse().unwrap(),
            cwd: "/src/project".into(),
        };
        let sessions = [
            session("00000001", "approval", "fix the build of the parser"),
            session("00000002", "idle", "explain this"),
            session("00000003", "completed", "tidy up"),
        ];
        let now = "2020-03-05T12:00:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&sessions, true, now).render(Some(100), false), @r"
        RUN       PROVIDER  STATE               FOR    FOLDER        TITLE
        00000001  codex     waits for approval  2m00s  /src/project  fix the build of the parser
        00000002  codex     idle                2m00s  /src/project  explain this
        00000003  codex     completed           2m00s  /src/project  tidy up
        ");
        insta::assert_snapshot!(table(&sessions, true, now).render(Some(60), false), @r"
        RUN       PROVIDER  STATE               FOR    TITLE
        00000001  codex     waits for approval  2m00s  fix the buil…
        00000002  codex     idle                2m00s  explain this
        00000003  codex     completed           2m00s  tidy up
        ");
    }
}
