//! `ostler audit`

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};

use super::clean;
use super::context::Context;
use super::destination::Destination;
use super::exit::Exit;
use super::format;
use super::ids;
use super::numbers;
use super::output::{BAD, DIM, complain, paint};
use super::table::{Cell, Table};
use ostler_client::Client;
use ostler_protocol::methods::{ListAuditParams, PruneAuditParams};
use ostler_protocol::{ApiError, AuditKind, AuditRecord, AuditVerdict};

const EXAMPLES: &str = "\
Examples:
  ostler audit list                     the newest records
  ostler audit list --kind refused
  ostler audit list --run 1a2b3c4d
  ostler audit verify                   exit code 1 if a record was changed or is missing
  ostler audit export audit.jsonl

The audit trail records who started runs, changed settings, grants and tokens and wrote exports, and what was refused. \
Each record has a hash of the previous one, and the host signs the newest one. Records stay when their runs are deleted.";

/// Records on one page of an export.
const PAGE: u32 = 1000;

/// Show and verify the audit trail
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List the newest records
    #[command(after_help = "Examples:\n  ostler audit list -n 100\n  ostler audit list --kind grant --json")]
    List {
        /// Only records of this kind: submit, spawn, probe, settings, grant, revoke, token, access, export, approval,
        /// plugin, refused, audit
        #[arg(long, value_parser = kind)]
        kind: Option<AuditKind>,
        /// Only records about this run
        #[arg(long)]
        run: Option<String>,
        /// Maximum number of results
        #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = numbers::whole(1_u32..=1000))]
        limit: u32,
    },
    /// Verify that no record was changed, moved or deleted
    #[command(after_help = "Examples:\n  ostler audit verify\n  ostler audit verify --json | jq -r .head")]
    Verify,
    /// Write every record as a line of JSON
    #[command(after_help = "Examples:\n  ostler audit export audit.jsonl\n  ostler audit export - | jq .kind")]
    Export {
        /// File; `-` writes to standard output
        file: PathBuf,
        /// Replace a read-only file
        #[arg(long)]
        force: bool,
    },
    /// Delete the oldest records of an intact trail; the rest can still be verified
    #[command(after_help = "Examples:\n  ostler audit prune --older-than 365")]
    Prune {
        /// Delete records older than this many days
        #[arg(long, value_name = "DAYS", value_parser = numbers::whole(0_u32..=36_500))]
        older_than: u32,
    },
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    match &arguments.action {
        Action::List { kind, run, limit } => {
            let run_id = match run {
                // Records outlive their runs: a complete id may belong to a deleted run.
                Some(run) => Some(match run.parse() {
                    Ok(run_id) => run_id,
                    Err(_) => ids::run(&client, run).await?,
                }),
                None => None,
            };
            let params = ListAuditParams { kind: *kind, run_id, after: None, limit: Some(*limit) };
            let listed = client.list_audit(&params).await?;
            if context.json {
                context.out.document(&listed.records)?;
            } else if listed.records.is_empty() {
                complain("no matching records");
            } else {
                table(&listed.records).print(&mut context.out)?;
            }
            Ok(Exit::Done)
        }
        Action::Verify => verify(context, &client).await,
        Action::Export { file, force } => export(&client, file, *force).await,
        Action::Prune { older_than } => {
            let pruned = client.prune_audit(&PruneAuditParams { older_than_days: *older_than }).await?;
            if context.json {
                context.out.document(&pruned)?;
            } else {
                context
                    .out
                    .line(format!("{} records deleted; the trail begins at {}", pruned.deleted, pruned.first))?;
            }
            Ok(Exit::Done)
        }
    }
}

async fn verify(context: &mut Context<'_>, client: &Client) -> Result<Exit, ApiError> {
    let verdict = client.verify_audit().await?;
    if context.json {
        context.out.document(&verdict)?;
    } else {
        let text = describe(&verdict);
        context.out.line(if verdict.intact { text } else { paint(context.out.color, BAD, &text) })?;
    }
    Ok(if verdict.intact { Exit::Done } else { Exit::RunFailed })
}

fn describe(verdict: &AuditVerdict) -> String {
    match &verdict.problem {
        None if verdict.records == 0 => "intact: no records".to_owned(),
        None => {
            format!("intact: {} records, {} to {}; head {}", verdict.records, verdict.first, verdict.last, verdict.head)
        }
        Some(problem) => {
            format!("NOT intact: record {}: {}", verdict.broken_at.unwrap_or_default(), clean::line(problem))
        }
    }
}

async fn export(client: &Client, file: &Path, force: bool) -> Result<Exit, ApiError> {
    let mut draft = Destination::prepare(file, force)?.private().begin()?;
    let mut after = 0;
    loop {
        let params = ListAuditParams { after: Some(after), limit: Some(PAGE), ..ListAuditParams::default() };
        let page = client.list_audit(&params).await?;
        let mut lines = Vec::new();
        for record in &page.records {
            after = record.seq;
            serde_json::to_writer(&mut lines, record).map_err(ApiError::internal)?;
            lines.push(b'\n');
        }
        draft.write_all(&lines).map_err(|error| draft.failed(&error))?;
        if !page.more || page.records.is_empty() || draft.closed() {
            break;
        }
    }
    draft.finish()?;
    Ok(Exit::Done)
}

fn table(records: &[AuditRecord]) -> Table {
    let mut table = Table::new(&["SEQ", "TIME", "KIND", "WHO", "RUN", "FACTS"], 5);
    for record in records {
        let facts: Vec<String> = record.facts.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let run = record.run_id.map(format::short_id).unwrap_or_default();
        table.row(vec![
            record.seq.to_string().into(),
            Cell::styled(DIM, &format::local(record.at)),
            record.kind.name().into(),
            record.actor.as_str().into(),
            run.into(),
            facts.join(" ").into(),
        ]);
    }
    table
}

fn kind(name: &str) -> Result<AuditKind, String> {
    AuditKind::from_name(name).ok_or_else(|| {
        let known: Vec<&str> = AuditKind::ALL.iter().map(|kind| kind.name()).collect();
        format!("unknown kind; available: {}", known.join(", "))
    })
}
