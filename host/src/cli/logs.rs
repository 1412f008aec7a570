//! `ostler logs`

use std::collections::HashMap;

use clap::Args;
use serde_json::Value;

use super::context::Context;
use super::exit::Exit;
use super::output::{BAD, DIM, Output, WARN};
use super::printer::tool_use;
use super::{clean, format, ids};
use crate::api::client::StreamItem;
use crate::api::types::{RunEventsParams, SubscribeParams};
use crate::model::{ApiError, Event, EventType, Semantic};

const EXAMPLES: &str = "\
Examples:
  ostler logs 1a2b3c4d                what happened, line by line
  ostler logs -f 1a2b3c4d             and what happens, until the run ends
  ostler logs --json 1a2b3c4d         every event as a JSON line";

/// Show the events of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, or a beginning or end of one
    run: String,
    /// Go on until the run has ended
    #[arg(long, short)]
    follow: bool,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let run_id = ids::run(&client, &arguments.run).await?;
    let mut log = Log::default();
    if arguments.follow {
        let mut events = client.follow(SubscribeParams { run_id: Some(run_id), ..SubscribeParams::default() });
        loop {
            let StreamItem::Event(event) = events.next().await? else { continue };
            log.show(context, &event)?;
            if event.kind.terminal() || context.out.closed() {
                return Ok(Exit::Done);
            }
        }
    }
    let mut after = None;
    loop {
        let page = client.get_run_events(&RunEventsParams { run_id, after, limit: None }).await?;
        for event in &page.events {
            log.show(context, event)?;
        }
        after = page.events.last().map(|event| event.cursor);
        if !page.more || after.is_none() || context.out.closed() {
            log.finish(&mut context.out)?;
            return Ok(Exit::Done);
        }
    }
}

/// Turns events into lines. The pieces of a text are joined and shown when it is complete.
#[derive(Debug, Default)]
struct Log {
    open: HashMap<String, String>,
}

impl Log {
    fn show(&mut self, context: &mut Context<'_>, event: &Event) -> Result<(), ApiError> {
        if context.json {
            return context.out.json_line(event);
        }
        if let Some(line) = self.line(event) {
            print(&mut context.out, event, &line)?;
        }
        if event.kind.terminal() {
            self.finish(&mut context.out)?;
        }
        Ok(())
    }

    /// Texts whose end never came.
    fn finish(&mut self, out: &mut Output) -> Result<(), ApiError> {
        for (_, text) in self.open.drain() {
            out.write(&format!("{:>19} {}\n", "(unfinished)", clean::text(&text).trim_end()))?;
        }
        Ok(())
    }

    /// What an event says, without the time; `None` for what another event says too.
    fn line(&mut self, event: &Event) -> Option<Line> {
        let payload = &event.payload;
        let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = match event.kind {
            EventType::Semantic => return self.semantic(&serde_json::from_value(payload.clone()).ok()?),
            EventType::RunStarted => {
                let version = text("cliVersion");
                Line::new(
                    "start",
                    format!("{} {version} attempt {} pid {}", text("provider"), payload["attempt"], payload["pid"]),
                )
            }
            EventType::ChunkStdout => Line::new("out", text("text").to_owned()),
            EventType::ChunkStderr => Line::new("err", text("text").to_owned()),
            EventType::Progress => Line::new("stage", format!("{}{}", text("stage"), facts(payload, &["stage"]))),
            EventType::PolicyAudit => {
                let findings = payload.get("findings").and_then(Value::as_array).map_or(0, Vec::len);
                let tool = payload.get("tool").and_then(|tool| tool["name"].as_str());
                let tool = tool.map(|name| format!(" {name}")).unwrap_or_default();
                Line::new("policy", format!("{}{tool}: {} ({findings} findings)", text("stage"), text("verdict")))
            }
            EventType::CompatibilityWarning => Line::new("warning", format!("{}: {}", text("pointer"), text("reason"))),
            EventType::Warning => Line::new("warning", format!("{}: {}", text("code"), text("message"))),
            EventType::Network => Line::new(
                "network",
                format!(
                    "{} {}:{}{}",
                    text("verdict"),
                    text("host"),
                    payload["port"],
                    facts(payload, &["verdict", "host", "port"])
                ),
            ),
            EventType::CliExit => Line::new("exit", facts(payload, &[]).trim_start().to_owned()),
            EventType::RunnerMetrics => return None,
            EventType::StructuredOutput => Line::new("result", payload.get("result")?.to_string()),
            EventType::RunCompleted => Line::new("done", String::new()),
            EventType::RunFailed => Line::new("failed", format!("{}: {}", text("reason"), text("message"))),
            EventType::RunCanceled => Line::new("canceled", text("message").to_owned()),
            other => Line::new(other.name(), facts(payload, &[]).trim_start().to_owned()),
        };
        Some(line)
    }

    fn semantic(&mut self, semantic: &Semantic) -> Option<Line> {
        let text = |name: &str| semantic.fields.get(name).and_then(Value::as_str);
        let key = |id: Option<&str>| {
            format!("{}:{}", semantic.kind.split('_').next().unwrap_or_default(), id.unwrap_or_default())
        };
        let whole = |open: &mut HashMap<String, String>, id, field| {
            let joined = open.remove(&key(id)).unwrap_or_default();
            text(field).map_or(joined, str::to_owned)
        };
        let line = match semantic.kind.as_str() {
            "text_delta" | "thinking_delta" | "tool_delta" => {
                let id = text("message").or_else(|| text("id"));
                self.open.entry(key(id)).or_default().push_str(text("text").unwrap_or_default());
                return None;
            }
            "text" => Line::new("says", whole(&mut self.open, text("message"), "text")),
            "thinking" => Line::new("thinks", whole(&mut self.open, text("message"), "text")),
            "tool_start" => Line::new("tool", tool_use(semantic)),
            "tool_result" => {
                let code = semantic.fields.get("exitCode").map(|code| format!("[exit {code}] ")).unwrap_or_default();
                Line::new("result", format!("{code}{}", whole(&mut self.open, text("id"), "output")))
            }
            "session" => Line::new("session", text("sessionId").unwrap_or_default().to_owned()),
            "warning" | "error" | "rate_limited" | "progress" => {
                let what = if semantic.kind == "rate_limited" { "limited" } else { semantic.kind.as_str() };
                Line::new(what, text("message").unwrap_or_default().to_owned())
            }
            "turn_complete" => return None,
            other => Line::new(other, facts(&Value::Object(semantic.fields.clone()), &[]).trim_start().to_owned()),
        };
        Some(line)
    }
}

/// A line of the log: what it is, and what it says.
#[derive(Debug, PartialEq, Eq)]
struct Line {
    what: String,
    text: String,
}

impl Line {
    fn new(what: &str, text: String) -> Self {
        Self { what: what.to_owned(), text }
    }
}

fn print(out: &mut Output, event: &Event, line: &Line) -> Result<(), ApiError> {
    let style = match line.what.as_str() {
        "failed" | "error" => BAD,
        "warning" | "limited" | "canceled" => WARN,
        _ => DIM,
    };
    let what = out.styled(style, &format!("{:<9}", clean::line(&line.what)));
    let time = out.styled(DIM, &format::local(event.timestamp));
    // Further lines stand below the first, whether or not there is a terminal: a log is for reading.
    let text = clean::text(line.text.trim_end()).replace('\n', &format!("\n{:19}", ""));
    let text = format!("{time} {what} {text}");
    out.line(text.trim_end())
}

/// The members of an object in a few words: ` key=value key=value`.
fn facts(payload: &Value, without: &[&str]) -> String {
    let members = payload.as_object().into_iter().flatten();
    members
        .filter(|(name, value)| !without.contains(&name.as_str()) && !value.is_null())
        .map(|(name, value)| match value {
            Value::String(text) => format!(" {name}={text}"),
            other => format!(" {name}={other}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::cli::tests::event;

    fn lines(events: &[(EventType, Value)]) -> Vec<String> {
        let mut log = Log::default();
        events
            .iter()
            .filter_map(|(kind, payload)| log.line(&event(*kind, payload.clone())))
            .map(|line| format!("{}|{}", line.what, line.text))
            .collect()
    }

    #[test]
    fn a_text_in_pieces_is_one_line() {
        let shown = lines(&[
            (EventType::RunStarted, json!({"provider": "codex", "cliVersion": "0.169.0", "attempt": 1, "pid": 7})),
            (EventType::Semantic, json!({"kind": "text_delta", "message": "m", "text": "Hel"})),
            (EventType::Semantic, json!({"kind": "tool_start", "id": "t", "tool": "shell", "commands": ["ls"]})),
            (EventType::Semantic, json!({"kind": "tool_delta", "id": "t", "text": "a.rs"})),
            (EventType::Semantic, json!({"kind": "tool_result", "id": "t", "isError": false, "exitCode": 0})),
            (
                EventType::PolicyAudit,
                json!({"stage": "tool", "verdict": "deny", "tool": {"id": "t", "tool": "shell", "name": "Bash"},
                    "findings": [{}]}),
            ),
            (EventType::Semantic, json!({"kind": "text_delta", "message": "m", "text": "lo"})),
            (EventType::Semantic, json!({"kind": "text", "message": "m", "deltas": [3, 9]})),
            (EventType::Semantic, json!({"kind": "text", "message": "n", "text": "whole"})),
            (EventType::CliExit, json!({"code": 0, "durationMs": 12})),
            (EventType::RunFailed, json!({"reason": "timeout", "message": "its time was up"})),
        ]);
        insta::assert_snapshot!(shown.join("\n"), @r"
        start|codex 0.169.0 attempt 1 pid 7
        tool|shell: ls
        result|[exit 0] a.rs
        policy|tool Bash: deny (1 findings)
        says|Hello
        says|whole
        exit|code=0 durationMs=12
        failed|timeout: its time was up
        ");
    }
}
