//! `ostler logs`

use std::collections::{BTreeMap, VecDeque};
use std::pin::pin;

use clap::Args;
use jiff::Timestamp;
use serde_json::{Value, json};
use unicode_width::UnicodeWidthStr;

use super::context::Context;
use super::exit::Exit;
use super::live_log::LiveLog;
use super::output::{BAD, DIM, Output, WARN};
use super::printer::tool_summary;
use super::{clean, format, ids, numbers};
use ostler_client::StreamItem;
use ostler_protocol::methods::{RunEventsParams, SubscribeParams};
use ostler_protocol::semantic::{TextPiece, ToolPiece, WholeText};
use ostler_protocol::{ApiError, EndReason, Event, EventType, Output as CliOutput, Semantic, TerminalText};

const EXAMPLES: &str = "\
Examples:
  ostler logs 1a2b3c4d                what happened, line by line
  ostler logs -f @                    the newest run, and what happens until it ends
  ostler logs -n 20 1a2b3c4d          the last 20 entries
  ostler logs --json 1a2b3c4d         every event as a JSON line

With -f, text is shown as it comes, and the exit code is the run's. Ctrl-C leaves the run running.";

/// Maximum for `-n`: the entries are kept in memory.
const MAX_TAIL: u64 = 100_000;

/// Show the events of a run
#[derive(Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct Arguments {
    /// Run id, the beginning or end of one, or `@` for the newest
    run: String,
    /// Continue until the run has ended
    #[arg(long, short)]
    follow: bool,
    /// Show only the last N entries
    #[arg(long, short = 'n', value_name = "N", value_parser = numbers::whole(0..=MAX_TAIL))]
    tail: Option<u64>,
}

pub(super) async fn execute(context: &mut Context<'_>, arguments: &Arguments) -> Result<Exit, ApiError> {
    let client = context.client().await?;
    let run_id = ids::run(&client, &arguments.run).await?;
    let mut log = Log::default();
    let mut tail = arguments.tail.map(|entries| Tail::new(usize::try_from(entries).unwrap_or(usize::MAX)));
    let mut after = None;
    // With -f but without -n, the event stream itself starts at the beginning of the run.
    while !arguments.follow || tail.is_some() {
        let page = client.get_run_events(&RunEventsParams { run_id, after, before: None, limit: None }).await?;
        for event in &page.events {
            let entry = log.entry(context, event)?;
            match (&mut tail, entry) {
                (Some(tail), Some(entry)) => tail.push(entry),
                (None, Some(entry)) => context.out.write(&entry)?,
                (_, None) => {}
            }
            if event.kind.terminal() {
                // The run has ended: there is nothing to follow.
                let exit = if arguments.follow { exit_of(event) } else { Exit::Done };
                return log.end(context, tail, exit);
            }
        }
        after = page.events.last().map(|event| event.cursor).or(after);
        if context.out.closed() || page.events.is_empty() || !page.more {
            break;
        }
    }
    if !arguments.follow {
        return log.end(context, tail, Exit::Done);
    }
    for entry in tail.into_iter().flat_map(|tail| tail.entries) {
        context.out.write(&entry)?;
    }
    let mut live = LiveLog::new(log);
    let mut events = client.follow(SubscribeParams { run_id: Some(run_id), after, ..SubscribeParams::default() });
    let mut reader_gone = pin!(context.out.reader_gone());
    loop {
        let item = tokio::select! {
            item = events.next() => item?,
            () = &mut reader_gone => return Ok(Exit::Done),
        };
        let StreamItem::Event(event) = item else { continue };
        if context.json {
            context.out.json_line(&event)?;
        } else {
            let text = live.take(&context.out, &event);
            context.out.write(&text)?;
        }
        if event.kind.terminal() || context.out.closed() {
            return Ok(exit_of(&event));
        }
    }
}

/// The exit code that `run` would have had; 0 if the run has not ended.
fn exit_of(event: &Event) -> Exit {
    let reason = event.payload.get("reason").and_then(Value::as_str).and_then(EndReason::from_name);
    Exit::of_run(event.kind, reason.unwrap_or(EndReason::Unknown)).unwrap_or(Exit::Done)
}

/// The last entries.
#[derive(Debug)]
struct Tail {
    limit: usize,
    entries: VecDeque<String>,
}

impl Tail {
    const fn new(limit: usize) -> Self {
        Self { limit, entries: VecDeque::new() }
    }

    fn push(&mut self, entry: String) {
        self.entries.push_back(entry);
        if self.entries.len() > self.limit {
            self.entries.pop_front();
        }
    }
}

/// Turns events into log entries. The pieces of a text are joined, and shown when it is complete.
#[derive(Debug, Default)]
pub(super) struct Log {
    /// Unfinished texts by their ids.
    pub(super) open: BTreeMap<StreamId, OpenText>,
    /// Removes the escape sequences of a run in a terminal. One can be cut between two pieces of output.
    terminal: Option<TerminalText>,
}

/// The pieces of a text so far.
#[derive(Debug)]
pub(super) struct OpenText {
    since: Timestamp,
    pub(super) text: String,
}

impl Log {
    /// The printed form of an event, if it is an entry of its own.
    fn entry(&mut self, context: &Context<'_>, event: &Event) -> Result<Option<String>, ApiError> {
        if context.json {
            let text = serde_json::to_string(event)
                .map_err(|error| ApiError::internal(format!("failed to write JSON: {error}")))?;
            let text = if context.out.stdout_terminal { clean::json(&text) } else { text };
            return Ok(Some(format!("{text}\n")));
        }
        Ok(self.line(event).map(|line| render(&context.out, event.timestamp, &line)))
    }

    /// Prints the tail and the unfinished texts.
    fn end(&mut self, context: &mut Context<'_>, tail: Option<Tail>, exit: Exit) -> Result<Exit, ApiError> {
        let (limit, entries) = tail.map_or((usize::MAX, VecDeque::new()), |tail| (tail.limit, tail.entries));
        for entry in entries {
            context.out.write(&entry)?;
        }
        if limit > 0 {
            let unfinished = self.unfinished(&context.out);
            context.out.write(&unfinished)?;
        }
        Ok(exit)
    }

    /// Formats and removes the unfinished texts.
    pub(super) fn unfinished(&mut self, out: &Output) -> String {
        let open = std::mem::take(&mut self.open);
        let entry = |(stream, open): (StreamId, OpenText)| {
            let what = stream.channel.heading();
            render(out, open.since, &Line::new(what, format!("{} (unfinished)", open.text.trim_end())))
        };
        open.into_iter().map(entry).collect()
    }

    /// The entry of an event without its time. `None` if another event contains the same.
    pub(super) fn line(&mut self, event: &Event) -> Option<Line> {
        let payload = &event.payload;
        let text = |name: &str| payload.get(name).and_then(Value::as_str).unwrap_or_default();
        let line = match event.kind {
            EventType::Semantic => return self.semantic(event, &serde_json::from_value(payload.clone()).ok()?),
            EventType::RunStarted => {
                let in_terminal = payload.get("output") == Some(&json!(CliOutput::Terminal));
                self.terminal = in_terminal.then(TerminalText::default);
                let version = text("cliVersion");
                Line::new(
                    "start",
                    format!("{} {version} attempt {} pid {}", text("provider"), payload["attempt"], payload["pid"]),
                )
            }
            EventType::ChunkStdout => match &mut self.terminal {
                None => Line::new("out", text("text").to_owned()),
                Some(terminal) => {
                    let shown = terminal.push(text("text"));
                    return Some(shown).filter(|shown| !shown.trim().is_empty()).map(|shown| Line::new("out", shown));
                }
            },
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

    fn semantic(&mut self, event: &Event, semantic: &Semantic) -> Option<Line> {
        let line = match semantic {
            Semantic::TextDelta(TextPiece { text, .. })
            | Semantic::ThinkingDelta(TextPiece { text, .. })
            | Semantic::ToolDelta(ToolPiece { text, .. }) => {
                let (stream, open) =
                    (StreamId::of(semantic)?, || OpenText { since: event.timestamp, text: String::new() });
                self.open.entry(stream).or_insert_with(open).text.push_str(text);
                return None;
            }
            Semantic::Text(WholeText { text, .. }) | Semantic::Thinking(WholeText { text, .. }) => {
                let stream = StreamId::of(semantic)?;
                Line::new(stream.channel.heading(), self.whole(&stream, text.as_deref()))
            }
            Semantic::ToolResult(result) => {
                let code = result.exit_code.map(|code| format!("[exit {code}] ")).unwrap_or_default();
                let output = self.whole(&StreamId::of(semantic)?, result.output.as_deref());
                Line::new("result", format!("{code}{output}"))
            }
            Semantic::ToolStart(call) => Line::new("tool", tool_summary(call)),
            Semantic::Session(session) => Line::new("session", session.session_id.clone()),
            Semantic::Warning(notice) => Line::new("warning", notice.message.clone()),
            Semantic::Error(notice) => Line::new("error", notice.message.clone()),
            Semantic::Progress(notice) => Line::new("progress", notice.message.clone()),
            Semantic::RateLimited(limit) => Line::new("limited", limit.message.clone()),
            Semantic::TurnComplete(_) => return None,
            other => {
                let document = json!(other);
                let kind = document.get("kind").and_then(Value::as_str).unwrap_or_default();
                Line::new(kind, facts(&document, &["kind"]).trim_start().to_owned())
            }
        };
        Some(line)
    }

    /// The complete text: `text` if present, else the joined pieces.
    fn whole(&mut self, stream: &StreamId, text: Option<&str>) -> String {
        let joined = self.open.remove(stream).map(|open| open.text).unwrap_or_default();
        text.map_or(joined, str::to_owned)
    }
}

/// The kinds of texts that come in pieces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Channel {
    Text,
    Thinking,
    Output,
}

impl Channel {
    /// Heading of its texts in the log.
    pub(super) const fn heading(self) -> &'static str {
        match self {
            Self::Text => "says",
            Self::Thinking => "thinks",
            Self::Output => "output",
        }
    }
}

/// Identifies a text.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) struct StreamId {
    pub(super) channel: Channel,
    id: String,
}

impl StreamId {
    /// The text that an event contains, or contains a piece of.
    pub(super) fn of(semantic: &Semantic) -> Option<Self> {
        let (channel, id) = match semantic {
            Semantic::TextDelta(piece) => (Channel::Text, &piece.message),
            Semantic::Text(text) => (Channel::Text, &text.message),
            Semantic::ThinkingDelta(piece) => (Channel::Thinking, &piece.message),
            Semantic::Thinking(text) => (Channel::Thinking, &text.message),
            Semantic::ToolDelta(piece) => (Channel::Output, &piece.id),
            Semantic::ToolResult(result) => (Channel::Output, &result.id),
            _ => return None,
        };
        Some(Self { channel, id: id.clone() })
    }
}

/// An entry of the log: heading and text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) what: String,
    pub(super) text: String,
}

impl Line {
    pub(super) fn new(what: &str, text: String) -> Self {
        Self { what: what.to_owned(), text }
    }
}

/// Width of the heading of an entry, in columns.
const WHAT: usize = 9;

/// The prefix of an entry: time and heading.
pub(super) fn head(out: &Output, time: Timestamp, what: &str) -> String {
    let style = match what {
        "failed" | "error" => BAD,
        "warning" | "limited" | "canceled" => WARN,
        _ => DIM,
    };
    let what = out.styled(style, &format!("{:<WHAT$}", clean::line(what)));
    let time = out.styled(DIM, &format::local(time));
    format!("{time} {what} ")
}

/// An entry, with its line end.
pub(super) fn render(out: &Output, time: Timestamp, line: &Line) -> String {
    // Lines after the first are indented, also without a terminal.
    let text = clean::text(line.text.trim_end()).replace('\n', &format!("\n{}", indent(time)));
    format!("{}\n", format!("{}{text}", head(out, time, &line.what)).trim_end())
}

/// Indentation of the lines of an entry after the first: as wide as its [`head`].
pub(super) fn indent(time: Timestamp) -> String {
    " ".repeat(format::local(time).width() + WHAT + 2)
}

/// The members of an object in short form: ` key=value key=value`.
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

    use super::*;
    use crate::tests::event;

    fn lines(events: &[(EventType, Value)]) -> Vec<String> {
        let mut log = Log::default();
        events
            .iter()
            .filter_map(|(kind, payload)| log.line(&event(*kind, payload.clone())))
            .map(|line| format!("{}|{}", line.what, line.text))
            .collect()
    }

    #[test]
    fn indents_unfinished_multiline_text() {
        let mut log = Log::default();
        let piece = event(EventType::Semantic, json!({"kind": "text_delta", "message": "m", "text": "one\ntwo\n"}));
        log.line(&piece);
        let (time, indent) = (format::local(piece.timestamp), indent(piece.timestamp));
        assert_eq!(log.unfinished(&Output::plain()), format!("{time} says      one\n{indent}two (unfinished)\n"));
    }

    #[test]
    fn output_of_a_terminal_is_shown_without_escape_sequences() {
        let chunk = |text: &str| (EventType::ChunkStdout, json!({"text": text, "redactions": 0}));
        let started = json!({"provider": "sh", "attempt": 1, "pid": 7, "output": "terminal"});
        let shown = lines(&[
            (EventType::RunStarted, started),
            chunk("\u{1b}[?2004h$ \u{1b}[3"),
            chunk("2mls\u{1b}[0m\r\n"),
            chunk("\u{1b}[2J"),
        ]);
        assert_eq!(shown[1..], ["out|$ ", "out|ls\n"]);
    }

    #[test]
    fn joins_pieces_into_one_entry() {
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
