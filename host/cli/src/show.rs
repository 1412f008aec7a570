//! `ostler show`

use clap::Args;
use serde_json::Value;

use super::context::Context;
use super::exit::Exit;
use super::output::{BOLD, DIM, Output, WARN};
use super::{answer, clean, format, ids, option_names, queue, runs};
use ostler_protocol::{ApiError, EndReason, RunRecord, WaitingFor};

const EXAMPLES: &str = "\
Examples:
  ostler show 1a2b3c4d                             details of a run
  ostler show 1a2b3c4d --json | jq -r .finalText   only the answer";

/// Show details of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, the beginning or end of one, or `@` for the newest
    run: String,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let run_id = ids::run(&client, &arguments.run).await?;
    let run = client.get_run(run_id).await?;
    if context.json {
        context.out.document(&run)?;
    } else {
        let (before, after) = render(&run, &context.out);
        context.out.write(&before)?;
        if answer::is_cut(&run) {
            answer::show(&client, &run, &mut context.out).await?;
        }
        context.out.write(&after)?;
    }
    Ok(Exit::Done)
}

/// The text before and after a long answer. A short answer is part of the first text.
fn render(run: &RunRecord, out: &Output) -> (String, String) {
    let summary = &run.summary;
    let mut page = Page { out, text: String::new() };
    page.field("run", &summary.run_id.to_string());
    let reason = summary.reason.map(EndReason::name).filter(|reason| *reason != summary.status.name());
    let waiting = summary.waiting_for.filter(|what| *what != WaitingFor::Slot).map(runs::waits_for);
    page.field(
        "status",
        &[Some(summary.status.name()), waiting, reason].into_iter().flatten().collect::<Vec<_>>().join(": "),
    );
    page.option("message", summary.message.as_deref());
    page.option("code", run.code.as_deref());
    page.option("hint", run.hint.as_deref().map(option_names::message).as_deref());
    page.field("provider", &summary.provider);
    page.option("model", summary.model.as_deref());
    page.option("cli", run.capabilities.as_ref().and_then(|found| found.cli_version.as_deref()));
    page.field("folder", &summary.cwd.display().to_string());
    page.option("chat", summary.conversation_id.map(|id| id.to_string()).as_deref());
    page.option("session", run.session_id.as_deref());
    page.field("attempts", &summary.attempt.to_string());
    page.field("priority", &summary.queue_priority.to_string());
    if let Some(job) = run.job.as_ref().filter(|_| !summary.status.ended()) {
        page.option("place", job.position.map(|position| position.to_string()).as_deref());
        page.option("not before", job.not_before.map(format::local_full).as_deref());
        page.option("waits for", Some(queue::reason(job)).filter(|reason| !reason.is_empty()).as_deref());
    }
    page.option("waits since", summary.waiting_since.filter(|_| waiting.is_some()).map(format::local_full).as_deref());
    page.option("cli exit", summary.exit_code.map(|code| code.to_string()).as_deref());
    page.field("created", &format!("{} by {}", format::local_full(summary.created_at), run.origin));
    page.option("started", summary.started_at.map(format::local_full).as_deref());
    page.option("ended", summary.ended_at.map(format::local_full).as_deref());
    if let (Some(start), Some(end)) = (summary.started_at, summary.ended_at) {
        page.field("took", &format::between(start, end));
    }
    page.option("usage", run.usage.as_ref().map(format::usage).filter(|usage| !usage.is_empty()).as_deref());
    if !run.sealed_pointers.is_empty() {
        page.field("sealed", &run.sealed_pointers.join(", "));
    }
    for artifact in &run.artifacts {
        page.field("artifact", &format!("{} ({} bytes)", artifact.path.display(), format::count(artifact.bytes)));
    }
    for warning in &run.warnings {
        page.field("warning", &warning_text(warning));
    }
    page.section("prompt", run.payload.get("prompt").and_then(Value::as_str));
    if answer::is_cut(run) {
        page.heading("answer");
    } else {
        page.section("answer", run.final_text.as_deref().filter(|text| !text.trim().is_empty()));
    }
    let before = std::mem::take(&mut page.text);
    let structured = run.structured_output.as_ref().map(|value| format!("{value:#}"));
    page.section("structured output", structured.as_deref());
    (before, page.text)
}

fn warning_text(warning: &Value) -> String {
    let text = |name: &str| warning.get(name).and_then(Value::as_str);
    match (text("message"), text("pointer"), text("reason")) {
        (Some(message), ..) => message.to_owned(),
        (None, Some(pointer), Some(reason)) => {
            format!("{}: {}", option_names::name(pointer), option_names::message(reason))
        }
        _ => warning.to_string(),
    }
}

struct Page<'a> {
    out: &'a Output,
    text: String,
}

impl Page<'_> {
    fn field(&mut self, name: &str, value: &str) {
        let style = if name == "warning" { WARN } else { DIM };
        let name = self.out.styled(style, &format!("{name:<11}"));
        self.text.push_str(&format!("{name}{}\n", clean::line(value)));
    }

    fn option(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }

    fn section(&mut self, name: &str, body: Option<&str>) {
        let Some(body) = body else { return };
        let body = if self.out.stdout_terminal { clean::text(body) } else { body.to_owned() };
        self.heading(name);
        self.text.push_str(body.trim_end());
        self.text.push('\n');
    }

    fn heading(&mut self, name: &str) {
        self.text.push_str(&format!("\n{}\n", self.out.styled(BOLD, name)));
    }
}
