//! `ostler queue`

use clap::Args;
use jiff::Timestamp;

use super::context::Context;
use super::exit::Exit;
use super::format;
use super::output::{BUSY, DIM, complain};
use super::table::{Cell, Table};
use crate::api::types::ListJobsParams;
use crate::model::{ApiError, JobRecord, JobState};

const EXAMPLES: &str = "\
Examples:
  ostler queue
  ostler queue --state scheduled --json

PRIORITY is what was asked for and, after the arrow, what waiting has made of it.
A message that is held waits for those before it in its conversation.";

/// List runs that wait or work, in their order
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Only jobs that stand there
    #[arg(long, value_parser = ["ready", "scheduled", "retrying", "held", "running"])]
    state: Option<String>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: Arguments) -> Result<Exit, ApiError> {
    let params = ListJobsParams { state: arguments.state.as_deref().and_then(JobState::from_name) };
    let jobs = context.client().await?.list_queue_jobs(&params).await?;
    if context.json {
        context.out.document(&jobs)?;
    } else if jobs.is_empty() {
        complain("nothing waits or works");
    } else {
        table(&jobs, context.out.stdout_terminal, Timestamp::now()).print(&mut context.out)?;
    }
    Ok(Exit::Done)
}

fn table(jobs: &[JobRecord], short: bool, now: Timestamp) -> Table {
    let mut table =
        Table::new(&["PLACE", "RUN", "STATE", "PROVIDER", "PRIORITY", "ATTEMPT", "WAITED", "NOT BEFORE"], 3);
    for job in jobs {
        let id = if short { format::short_id(job.run_id) } else { job.run_id.to_string() };
        let style = if job.state == JobState::Running { BUSY } else { DIM };
        let waited = if job.state == JobState::Running { String::new() } else { format::between(job.enqueued_at, now) };
        table.row(vec![
            job.position.map(|place| place.to_string()).unwrap_or_default().into(),
            id.into(),
            Cell::styled(style, job.state.name()),
            job.provider.as_str().into(),
            priority(job).into(),
            job.attempt.to_string().into(),
            waited.into(),
            job.not_before.map(format::local).unwrap_or_default().into(),
        ]);
    }
    table
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
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    #[test]
    fn places_and_what_waiting_did() {
        let now: Timestamp = "2026-03-05T12:00:00Z".parse().unwrap();
        let job = |end: &str, state, position, effective| JobRecord {
            run_id: format!("01999999-8888-7777-8666-1234{end}").parse().unwrap(),
            provider: "codex".to_owned(),
            state,
            attempt: 1,
            priority: -2,
            effective_priority: effective,
            position,
            enqueued_at: "2026-03-05T11:58:00Z".parse().unwrap(),
            not_before: None,
        };
        let jobs = [
            job("00000001", JobState::Running, None, None),
            job("00000002", JobState::Ready, Some(1), Some(2.0)),
            job("00000003", JobState::Ready, Some(2), Some(-2.0)),
        ];
        insta::assert_snapshot!(table(&jobs, true, now).render(Some(90), false), @r"
        PLACE  RUN       STATE    PROVIDER  PRIORITY  ATTEMPT  WAITED  NOT BEFORE
               00000001  running  codex     -2        1
        1      00000002  ready    codex     -2 → 2.0  1        2m00s
        2      00000003  ready    codex     -2        1        2m00s
        ");
    }
}
