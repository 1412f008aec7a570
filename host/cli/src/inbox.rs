//! `ostler inbox`

use clap::{Args, Subcommand};
use jiff::Timestamp;
use serde_json::json;

use super::approvals;
use super::context::Context;
use super::exit::Exit;
use super::output::{BOLD, DIM, complain};
use super::table::{Cell, Table};
use super::{format, ids, times};
use ostler_protocol::methods::{Inbox, PausedLane};
use ostler_protocol::{ApiError, RunSummary, WaitReason};

const EXAMPLES: &str = "\
Examples:
  ostler inbox                      what agents wait for, what failed, what is paused
  ostler inbox ack 1a2b3c4d         removes a failed run from the inbox
  ostler inbox ack --all
  ostler inbox --json | jq '.approvals | length'

A failed run stays in the inbox until you acknowledge it. `ostler approvals` answers what agents wait for.";

/// Show what waits for you
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Remove failed runs from the inbox
    #[command(after_help = "Examples:\n  ostler inbox ack 1a2b3c4d 5e6f7a8b\n  ostler inbox ack --all")]
    Ack {
        /// Run ids, beginnings or ends of them, or `@` for the newest
        #[arg(required_unless_present = "all", conflicts_with = "all", value_name = "RUN")]
        runs: Vec<String>,
        /// All failures so far
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    if let Some(Action::Ack { runs, all }) = &arguments.action {
        let run_ids = if *all { None } else { Some(ids::runs(&client, runs).await?) };
        let result = client.acknowledge_failures(run_ids).await?;
        if context.json {
            context.out.document(&json!({"acknowledged": result.acknowledged}))?;
        } else {
            let count = result.acknowledged;
            let runs = if count == 1 { "run" } else { "runs" };
            context.out.line(format!("removed {} {runs} from the inbox", format::count(count)))?;
        }
        return Ok(Exit::Done);
    }
    let inbox = client.get_inbox().await?;
    if context.json {
        context.out.document(&inbox)?;
    } else if inbox.approvals.is_empty() && inbox.failures.is_empty() && inbox.paused.is_empty() {
        complain("the inbox is empty: no agent waits, no failure is open, and nothing is paused");
    } else {
        let (short, width, color) = (context.out.stdout_terminal, context.out.width, context.out.color);
        let text = render(&inbox, short, width, color, times::now());
        context.out.write(&text)?;
    }
    Ok(Exit::Done)
}

/// The parts of the inbox that are not empty.
fn render(inbox: &Inbox, short: bool, width: Option<usize>, color: bool, now: Timestamp) -> String {
    let mut parts = Vec::new();
    let heading = |text: &str| format!("{}\n", super::output::paint(color, BOLD, text));
    if !inbox.approvals.is_empty() {
        let table = approvals::table(&inbox.approvals, short, now).render(width, color);
        parts.push(format!("{}{table}", heading("Waiting for you (`ostler approvals` answers)")));
    }
    if !inbox.failures.is_empty() {
        let shown = inbox.failures.len() as u64;
        let rest = inbox.failures_total.saturating_sub(shown);
        let rest = if rest > 0 { format!("and {} more\n", format::count(rest)) } else { String::new() };
        let table = failures(&inbox.failures, short).render(width, color);
        parts.push(format!("{}{table}{rest}", heading("Failed (`ostler inbox ack` removes)")));
    }
    if !inbox.paused.is_empty() {
        let lines: Vec<String> = inbox.paused.iter().map(|lane| paused(lane, now)).collect();
        parts.push(format!("{}{}\n", heading("Paused"), lines.join("\n")));
    }
    parts.join("\n")
}

fn failures(runs: &[RunSummary], short: bool) -> Table {
    let mut table = Table::new(&["RUN", "PROVIDER", "ENDED", "WHY", "TITLE"], 4).optional(&[1, 2]);
    for run in runs {
        let why = run.reason.map_or_else(|| run.status.name(), ostler_protocol::EndReason::name);
        table.row(vec![
            if short { format::short_id(run.run_id) } else { run.run_id.to_string() }.into(),
            run.provider.as_str().into(),
            Cell::styled(DIM, &format::local(run.ended_at.unwrap_or(run.created_at))),
            why.into(),
            run.title.as_str().into(),
        ]);
    }
    table
}

/// A line about a provider whose runs do not start.
fn paused(lane: &PausedLane, now: Timestamp) -> String {
    let name = lane.provider.as_deref().map_or_else(|| "the queue".to_owned(), super::clean::line);
    let why = match (lane.reason, lane.until) {
        (WaitReason::RateLimited, Some(until)) => {
            let left = format::between(now, until);
            format!("rate limit of the provider, until {} (in {left})", format::local(until))
        }
        (WaitReason::RateLimited, None) => "rate limit of the provider".to_owned(),
        _ => {
            let provider = lane.provider.as_deref().map(|name| format!(" {}", super::clean::line(name)));
            format!("paused; `ostler queue resume{}` resumes it", provider.unwrap_or_default())
        }
    };
    let runs = match lane.waiting {
        0 => "no run waits".to_owned(),
        1 => "1 run waits".to_owned(),
        count => format!("{} runs wait", format::count(count)),
    };
    format!("{name}: {why}; {runs}")
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::super::approval::tests::approval;
    use super::*;
    use ostler_protocol::ApprovalKind;

    #[test]
    fn shows_three_blocks() {
        let now = "2020-03-05T12:01:00Z".parse().unwrap();
        let run = json!({"runId": "01999999-8888-7777-8666-123400000001", "provider": "codex", "mode": "non-interactive",
            "status": "failed", "title": "fix the build", "cwd": "/src", "queuePriority": 0, "attempt": 1,
            "reason": "timeout", "createdAt": "2020-03-05T11:00:00Z", "endedAt": "2020-03-05T11:58:00Z"});
        let lane = |provider: Option<&str>, reason, until: Option<&str>, waiting| PausedLane {
            provider: provider.map(str::to_owned),
            reason,
            until: until.map(|until| until.parse().unwrap()),
            waiting,
        };
        let inbox = Inbox {
            approvals: vec![approval(ApprovalKind::Command)],
            failures: vec![serde_json::from_value(run).unwrap()],
            failures_total: 3,
            paused: vec![
                lane(None, WaitReason::Paused, None, 2),
                lane(Some("codex"), WaitReason::ProviderPaused, None, 0),
                lane(Some("claude"), WaitReason::RateLimited, Some("2020-03-05T13:00:00Z"), 1),
            ],
        };
        let time = format::local("2020-03-05T13:00:00Z".parse().unwrap());
        let text = render(&inbox, true, Some(100), false, now).replace(&time, "2020-03-05");
        insta::assert_snapshot!(text, @r"
        Waiting for you (`ostler approvals` answers)
        APPROVAL  AGE   EXPIRES       RUN       PROVIDER  KIND     TITLE
        567890ab  0.0s  in 52584h04m  56789abc  codex     command  run cargo test --workspace

        Failed (`ostler inbox ack` removes)
        RUN       PROVIDER  ENDED       WHY      TITLE
        00000001  codex     2020-03-05  timeout  fix the build
        and 2 more

        Paused
        the queue: paused; `ostler queue resume` resumes it; 2 runs wait
        codex: paused; `ostler queue resume codex` resumes it; no run waits
        claude: rate limit of the provider, until 2020-03-05 (in 59m00s); 1 run waits
        ");
    }
}
