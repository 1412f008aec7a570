//! `ostler queue`

use std::collections::HashMap;

use clap::{Args, Subcommand};
use jiff::Timestamp;

use super::context::Context;
use super::exit::Exit;
use super::output::{BUSY, DIM, WARN, complain};
use super::table::{Cell, Table};
use super::{clean, format, ids, numbers, queue_watch, times};
use ostler_client::Client;
use ostler_protocol::methods::{ListJobsParams, QueuePauses};
use ostler_protocol::{ApiError, ApprovalKind, JobRecord, JobState, RunId, WaitReason};

const EXAMPLES: &str = "\
Examples:
  ostler queue
  ostler queue --watch                      update the list until Ctrl-C
  ostler queue --state scheduled --json
  ostler queue pause                        start no more runs; running ones continue
  ostler queue resume
  ostler queue move 1a2b3c4d --priority 5

PRIORITY is the priority of the run and, after the arrow, its effective priority: waiting raises it. \
WAITS FOR tells why a run has not started yet.";

/// Show queued and running jobs in order, and control the queue
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES, args_conflicts_with_subcommands = true)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
    /// Only jobs in this state
    #[arg(long, value_parser = ["ready", "scheduled", "retrying", "held", "running"])]
    state: Option<String>,
    /// Update the list until Ctrl-C
    #[arg(long, short)]
    watch: bool,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Start no more runs until `queue resume`
    ///
    /// Running runs continue, and new runs are accepted. The pause survives a restart of the host.
    #[command(after_help = "Examples:\n  ostler queue pause\n  ostler queue pause codex")]
    Pause {
        /// Only the runs of this provider
        provider: Option<String>,
    },
    /// End a pause
    #[command(after_help = "Examples:\n  ostler queue resume\n  ostler queue resume codex\n\n\
        A provider that was paused by name must be resumed by name.")]
    Resume {
        /// Only the runs of this provider
        provider: Option<String>,
    },
    /// Give a waiting run another priority
    #[command(
        after_help = "Examples:\n  ostler queue move 1a2b3c4d --priority 5\n  ostler queue move @ --priority -10"
    )]
    Move {
        /// Run id, the beginning or end of one, or `@` for the newest
        run: String,
        /// From -10 (last) to 10 (first)
        #[arg(long, short, value_name = "N", allow_negative_numbers = true,
            value_parser = numbers::whole(-10_i32..=10))]
        priority: i32,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let params = ListJobsParams { state: arguments.state.as_deref().and_then(JobState::from_name) };
    let client = context.client().await?;
    match arguments.action {
        Some(Action::Pause { provider }) => print_pauses(context, &client.pause_queue(provider).await?),
        Some(Action::Resume { provider }) => print_pauses(context, &client.resume_queue(provider).await?),
        Some(Action::Move { run, priority }) => {
            let run_id = ids::run(&client, &run).await?;
            let job = client.set_queue_priority(run_id, priority).await?;
            if context.json {
                context.out.document(&job)?;
            } else {
                let position = job.position.map(|position| format!(", place {position}")).unwrap_or_default();
                context.out.line(format!("{} has priority {priority}{position}", format::short_id(run_id)))?;
            }
            Ok(Exit::Done)
        }
        None if arguments.watch => queue_watch::watch(context, &client, &params).await,
        None => {
            let jobs = client.list_queue_jobs(&params).await?;
            let waiting = waiting(&client).await?;
            if context.json {
                context.out.document(&jobs)?;
                return Ok(Exit::Done);
            }
            if jobs.is_empty() {
                complain("the queue is empty");
            } else {
                table(&jobs, &waiting, context.out.stdout_terminal, times::now()).print(&mut context.out)?;
            }
            if let Some(paused) = pauses(&client).await? {
                complain(&super::output::paint(context.out.stderr_color, WARN, &paused));
            }
            Ok(Exit::Done)
        }
    }
}

fn print_pauses(context: &mut Context<'_>, pauses: &QueuePauses) -> Result<Exit, ApiError> {
    if context.json {
        context.out.document(pauses)?;
    } else {
        let text = described(pauses.paused, &pauses.paused_providers);
        context.out.line(text.unwrap_or_else(|| "the queue is running: nothing is paused".to_owned()))?;
    }
    Ok(Exit::Done)
}

/// A message about what is paused; `None` if nothing is.
pub(super) async fn pauses(client: &Client) -> Result<Option<String>, ApiError> {
    let status = client.get_status().await?;
    Ok(described(status.queue_paused, &status.paused_providers))
}

fn described(all: bool, providers: &[String]) -> Option<String> {
    let providers = clean::line(&providers.join(", "));
    match (all, providers.as_str()) {
        (false, "") => None,
        (true, "") => Some("the queue is paused; `ostler queue resume` resumes it".to_owned()),
        (true, names) => Some(format!("the queue is paused; paused individually: {names}")),
        (false, names) => Some(format!("paused: {names}; `ostler queue resume PROVIDER` resumes it")),
    }
}

/// What running jobs wait for: those whose agents wait for a user.
pub(super) type Waiting = HashMap<RunId, &'static str>;

/// The runs whose agents wait for a user.
pub(super) async fn waiting(client: &Client) -> Result<Waiting, ApiError> {
    let approvals = client.list_approvals(None).await?;
    let what = |kind| match kind {
        ApprovalKind::Question | ApprovalKind::Elicitation => "your answer",
        _ => "your approval",
    };
    // The oldest one counts, as in the list of runs.
    Ok(approvals.iter().rev().map(|approval| (approval.run_id, what(approval.kind))).collect())
}

pub(super) fn table(jobs: &[JobRecord], waiting: &Waiting, short: bool, now: Timestamp) -> Table {
    let mut table = Table::new(&["PLACE", "RUN", "STATE", "PROVIDER", "PRIORITY", "WAITED", "WAITS FOR", "TITLE"], 7);
    for job in jobs {
        let id = if short { format::short_id(job.run_id) } else { job.run_id.to_string() };
        let style = if job.state == JobState::Running { BUSY } else { DIM };
        let waited = if job.state == JobState::Running { String::new() } else { format::between(job.enqueued_at, now) };
        table.row(vec![
            job.position.map(|position| position.to_string()).unwrap_or_default().into(),
            id.into(),
            Cell::styled(style, job.state.name()),
            job.provider.as_str().into(),
            priority(job).into(),
            waited.into(),
            match waiting.get(&job.run_id) {
                Some(what) => Cell::styled(WARN, what),
                None => reason(job).into(),
            },
            job.title.as_str().into(),
        ]);
    }
    table
}

/// What a job waits for; empty if it does not wait.
pub(super) fn reason(job: &JobRecord) -> String {
    let time = || job.not_before.map(format::local).unwrap_or_default();
    match job.reason {
        None => String::new(),
        Some(WaitReason::Scheduled) => time(),
        Some(WaitReason::Retry) => format!("attempt {} at {}", job.attempt, time()),
        Some(WaitReason::Dependency) => {
            let ids: Vec<String> = job.waits_for.iter().map(format::short_id).collect();
            format!("the end of {}", ids.join(", "))
        }
        Some(WaitReason::Conversation) => "earlier messages".to_owned(),
        Some(WaitReason::Paused) => "the queue (paused)".to_owned(),
        Some(WaitReason::ProviderPaused) => format!("{} (paused)", job.provider),
        Some(WaitReason::RateLimited) => format!("{} (rate limit)", job.provider),
        Some(WaitReason::ProviderLimit) => format!("a slot of {}", job.provider),
        Some(WaitReason::GlobalLimit) => "a slot".to_owned(),
    }
}

fn priority(job: &JobRecord) -> String {
    match job.effective_priority {
        Some(effective) if (effective - f64::from(job.priority)).abs() >= 0.05 => {
            format!("{} → {effective:.1}", job.priority)
        }
        _ => job.priority.to_string(),
    }
}

#[cfg(test)]
pub(super) mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    pub(in super::super) fn job(end: &str, state: JobState, reason: Option<WaitReason>, title: &str) -> JobRecord {
        JobRecord {
            run_id: format!("01999999-8888-7777-8666-1234{end}").parse().unwrap(),
            provider: "codex".to_owned(),
            state,
            attempt: 1,
            priority: -2,
            effective_priority: None,
            position: None,
            enqueued_at: "2020-03-05T11:58:00Z".parse().unwrap(),
            not_before: None,
            title: title.to_owned(),
            reason,
            waits_for: Vec::new(),
        }
    }

    #[test]
    fn table_shows_wait_reasons() {
        let now: Timestamp = "2020-03-05T12:00:00Z".parse().unwrap();
        let (running, ready) = (job("00000001", JobState::Running, None, "fix the build"), JobState::Ready);
        let jobs = [
            running.clone(),
            JobRecord {
                position: Some(1),
                effective_priority: Some(2.0),
                ..job("00000002", ready, Some(WaitReason::ProviderLimit), "explain the parser and all that it calls")
            },
            JobRecord {
                position: Some(2),
                effective_priority: Some(-2.0),
                ..job("00000003", ready, Some(WaitReason::Paused), "list the crates")
            },
            JobRecord {
                waits_for: vec![running.run_id],
                ..job("00000004", JobState::Held, Some(WaitReason::Dependency), "then run the tests")
            },
            JobRecord {
                attempt: 2,
                not_before: Some("2020-03-05T12:01:00Z".parse().unwrap()),
                ..job("00000005", JobState::Retrying, Some(WaitReason::Retry), "again")
            },
        ];
        let waiting = Waiting::from([(running.run_id, "your approval")]);
        insta::assert_snapshot!(table(&jobs, &waiting, true, now).render(Some(100), false), @r"
        PLACE  RUN       STATE     PROVIDER  PRIORITY  WAITED  WAITS FOR                TITLE
               00000001  running   codex     -2                your approval            fix the build
        1      00000002  ready     codex     -2 → 2.0  2m00s   a slot of codex          explain the parser …
        2      00000003  ready     codex     -2        2m00s   the queue (paused)       list the crates
               00000004  held      codex     -2        2m00s   the end of 00000001      then run the tests
               00000005  retrying  codex     -2        2m00s   attempt 2 at 2020-03-05  again
        ");
    }

    #[test]
    fn pause_message_names_resume_command() {
        let names = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(described(false, &[]), None);
        assert_eq!(described(true, &[]).unwrap(), "the queue is paused; `ostler queue resume` resumes it");
        assert_eq!(described(true, &names(&["a"])).unwrap(), "the queue is paused; paused individually: a");
        let providers = described(false, &names(&["a", "b"])).unwrap();
        assert_eq!(providers, "paused: a, b; `ostler queue resume PROVIDER` resumes it");
    }
}
