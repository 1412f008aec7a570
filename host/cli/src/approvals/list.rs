//! `ostler approvals list`, `ostler approvals show`

use clap::Args;
use jiff::Timestamp;

use super::super::approval::{Look, details};
use super::super::context::Context;
use super::super::exit::Exit;
use super::super::output::{DIM, WARN, complain};
use super::super::table::{Cell, Table};
use super::super::{format, ids, times};
use ostler_protocol::{ApiError, Approval};

/// Width of a page that is not shown on a terminal.
const PAGE_WIDTH: usize = 100;

/// List what agents wait for, oldest first
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ostler approvals list\n  ostler approvals list --run 1a2b3c4d --json | jq -r '.[].id'"
)]
pub(super) struct List {
    /// Only those of this run
    #[arg(long, value_name = "RUN")]
    run: Option<String>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &List) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let run_id = match &arguments.run {
        Some(run) => Some(ids::run(&client, run).await?),
        None => None,
    };
    let approvals = client.list_approvals(run_id).await?;
    if context.json {
        context.out.document(&approvals)?;
    } else if approvals.is_empty() {
        complain("no agent waits for an answer");
    } else {
        table(&approvals, context.out.stdout_terminal, times::now()).print(&mut context.out)?;
    }
    Ok(Exit::Done)
}

/// Approvals as a table, with short or full ids.
pub(in super::super) fn table(approvals: &[Approval], short: bool, now: Timestamp) -> Table {
    let head = ["APPROVAL", "AGE", "EXPIRES", "RUN", "PROVIDER", "KIND", "TITLE"];
    let mut table = Table::new(&head, 6).optional(&[1, 4, 3]);
    for approval in approvals {
        let left = approval.expires_at.as_millisecond().saturating_sub(now.as_millisecond());
        let expires =
            if left > 0 { format!("in {}", format::between(now, approval.expires_at)) } else { "now".to_owned() };
        table.row(vec![
            if short { format::short_id(approval.id) } else { approval.id.to_string() }.into(),
            Cell::styled(DIM, &format::between(approval.opened_at, now)),
            if left < 60_000 { Cell::styled(WARN, &expires) } else { expires.into() },
            format::short_id(approval.run_id).into(),
            approval.provider.as_str().into(),
            approval.kind.name().into(),
            approval.title.as_str().into(),
        ]);
    }
    table
}

/// Show the whole command, diff or questions of an approval
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  ostler approvals show 1a2b3c4d\n  ostler approvals show 1a2b3c4d --json | jq -r .diff"
)]
pub(super) struct Show {
    /// Approval id, the beginning or end of one
    #[arg(value_name = "ID")]
    approval: String,
}

pub(super) async fn show(context: &mut Context<'_>, arguments: &Show) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let approval = ids::approval(&client, &arguments.approval).await?;
    if context.json {
        context.out.document(&approval)?;
    } else {
        let width = context.out.width.unwrap_or(PAGE_WIDTH);
        let look = Look { width, color: context.out.color, whole: true, more: "" };
        let text = details(&approval, look, times::now());
        context.out.write(&text)?;
    }
    Ok(Exit::Done)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_protocol::ApprovalKind;

    use super::super::super::approval::tests::approval;
    use super::*;

    #[test]
    fn table_fits_narrow_and_wide_terminal() {
        let approvals = [
            Approval {
                title: "run cargo test --workspace --locked --all-targets".to_owned(),
                ..approval(ApprovalKind::Command)
            },
            Approval { expires_at: "2026-03-05T12:01:40Z".parse().unwrap(), ..approval(ApprovalKind::Question) },
        ];
        let now = "2026-03-05T12:01:00Z".parse().unwrap();
        insta::assert_snapshot!(table(&approvals, true, now).render(Some(100), false), @r"
        APPROVAL  AGE    EXPIRES   RUN       PROVIDER  KIND      TITLE
        567890ab  1m00s  in 4m00s  56789abc  codex     command   run cargo test --workspace --locked --all-…
        567890ab  1m00s  in 40s    56789abc  codex     question  run cargo test --workspace
        ");
        insta::assert_snapshot!(table(&approvals, true, now).render(Some(50), false), @r"
        APPROVAL  EXPIRES   KIND      TITLE
        567890ab  in 4m00s  command   run cargo test --wo…
        567890ab  in 40s    question  run cargo test --wo…
        ");
    }
}
