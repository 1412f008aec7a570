//! A run as a page to read: the prompt, what happened with tool uses folded, the answer, what it took.
//!
//! The agent's texts are Markdown and are written as they are; what they leave open is closed behind them. Everything else is shown as it came: in `<pre>`, where only
//! three characters mean anything, so that a text of any length can be written as it is read.

use std::io::{self, Write};

use serde::Deserialize;
use serde_json::{Value, json};

use super::open_markup::OpenMarkup;
use ostler_protocol::semantic::WholeText;
use ostler_protocol::{Event, EventType, Output, RunRecord, Semantic, TerminalText, Usage};

/// What the end of the page is inside of.
#[derive(Debug, PartialEq, Eq)]
enum Open {
    Nothing,
    /// The agent's text of a message.
    Text(String),
    /// Something folded: its heading and whose it is.
    Folded(String),
}

/// Writes the page, event by event.
pub(super) struct Page<W> {
    out: W,
    open: Open,
    /// What the agent's text has left open.
    markup: OpenMarkup,
    /// Whether standard output is the answer.
    text_output: bool,
    /// If the run has a terminal: makes plain text of what it showed.
    terminal: Option<TerminalText>,
}

impl<W: Write> Page<W> {
    /// Begins the page.
    pub(super) fn begin(mut out: W, run: &RunRecord) -> io::Result<Self> {
        head(&mut out, run)?;
        let prompt = run.payload.get("prompt").and_then(Value::as_str).unwrap_or_default();
        write!(out, "\n## Prompt\n\n<pre>{}</pre>\n\n## Transcript\n", escaped(prompt))?;
        Ok(Self { out, open: Open::Nothing, markup: OpenMarkup::default(), text_output: false, terminal: None })
    }

    /// Adds an event, if a reader has something of it.
    pub(super) fn event(&mut self, event: &Event) -> io::Result<()> {
        let payload = &event.payload;
        match event.kind {
            EventType::RunStarted => {
                let is = |output: Output| payload.get("output") == Some(&json!(output));
                self.text_output = is(Output::Text);
                self.terminal = is(Output::Terminal).then(TerminalText::default);
                match payload.get("attempt").and_then(Value::as_u64) {
                    Some(attempt) if attempt > 1 => self.line(&format!("**Attempt {attempt}**")),
                    _ => Ok(()),
                }
            }
            EventType::ChunkStdout if self.text_output => self.text("", field(payload, "text")),
            EventType::ChunkStdout => match &mut self.terminal {
                Some(terminal) => {
                    let shown = terminal.push(field(payload, "text"));
                    self.folded("terminal", &shown)
                }
                None => self.folded("standard output", field(payload, "text")),
            },
            EventType::ChunkStderr => self.folded("standard error", field(payload, "text")),
            EventType::Semantic => match Semantic::deserialize(payload) {
                Ok(event) => self.semantic(&event),
                Err(_) => Ok(()),
            },
            EventType::Warning => {
                let message = format!("**{}**: {}", plain(field(payload, "code")), plain(field(payload, "message")));
                self.line(&format!("> {message}"))
            }
            EventType::CompatibilityWarning => {
                let (pointer, reason) = (field(payload, "pointer"), field(payload, "reason"));
                self.line(&format!("> {} could not be honoured: {}", plain(pointer), plain(reason)))
            }
            EventType::StructuredOutputInvalid => self.fold("the answer does not fit the schema", &pretty(payload)),
            _ => Ok(()),
        }
    }

    fn semantic(&mut self, event: &Semantic) -> io::Result<()> {
        match event {
            Semantic::TextDelta(piece) => self.text(&piece.message, &piece.text),
            Semantic::ThinkingDelta(piece) => self.folded("thinking", &piece.text),
            Semantic::Thinking(text) => self.folded("thinking", text.text.as_deref().unwrap_or_default()),
            Semantic::ToolDelta(piece) => self.folded(&format!("output of {}", piece.id), &piece.text),
            // A text without a text of its own is that of its pieces.
            Semantic::Text(WholeText { message, text: Some(text), .. }) if !text.is_empty() => {
                self.close()?;
                self.text(message, text)?;
                self.close()
            }
            Semantic::ToolStart(call) => {
                let name = [&call.name, &call.tool].into_iter().find(|name| !name.is_empty());
                let name = name.map_or("tool", String::as_str);
                match call.commands.first() {
                    Some(first) => {
                        let first = shortened(first.lines().next().unwrap_or_default());
                        self.fold(&format!("{name}: {first}"), &call.commands.join("\n"))
                    }
                    None => self.fold(name, &if call.input.is_null() { String::new() } else { pretty(&call.input) }),
                }
            }
            Semantic::ToolResult(result) => {
                let outcome = match (result.is_error, result.exit_code) {
                    (_, Some(code)) => format!("result: exit code {code}"),
                    (true, None) => "result: failed".to_owned(),
                    (false, None) => "result".to_owned(),
                };
                match &result.output {
                    Some(output) => self.fold(&outcome, output),
                    None => self.line(&format!("_{outcome}_")),
                }
            }
            Semantic::RateLimited(limit) => self.notice("rate_limited", &limit.message),
            Semantic::Warning(notice) => self.notice("warning", &notice.message),
            Semantic::Error(notice) => self.notice("error", &notice.message),
            Semantic::ApprovalRequested(request) => self.fold("approval asked for", &pretty(&json!(request))),
            _ => Ok(()),
        }
    }

    fn notice(&mut self, kind: &str, message: &str) -> io::Result<()> {
        self.line(&format!("> **{}**: {}", plain(kind), plain(message)))
    }

    /// Ends the page.
    pub(super) fn finish(mut self, run: &RunRecord) -> io::Result<W> {
        self.close()?;
        if let Some(output) = &run.structured_output {
            write!(self.out, "\n## Answer\n\n<pre>{}</pre>\n", escaped(&pretty(output)))?;
        } else if let Some(answer) = &run.final_text {
            let answer_end = answer.trim_end();
            self.markup.push(answer_end);
            let closing = self.markup.close();
            write!(self.out, "\n## Answer\n\n{answer_end}{}", if closing.is_empty() { "\n" } else { &closing })?;
            if let Some(place) = run.answer.as_ref().filter(|place| place.exceeds(answer)) {
                write!(self.out, "\n_The beginning of {} bytes, all of which stand above._\n", place.bytes)?;
            }
        }
        if let Some(usage) = run.usage.as_ref().and_then(usage_lines) {
            write!(self.out, "\n## Usage\n\n{usage}")?;
        }
        Ok(self.out)
    }

    /// A further piece of the agent's text.
    fn text(&mut self, message: &str, piece: &str) -> io::Result<()> {
        if !matches!(&self.open, Open::Text(open) if open == message) {
            self.close()?;
            self.out.write_all(b"\n")?;
            self.open = Open::Text(message.to_owned());
        }
        self.markup.push(piece);
        self.out.write_all(piece.as_bytes())
    }

    /// A further piece of something folded.
    fn folded(&mut self, heading: &str, piece: &str) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(());
        }
        if !matches!(&self.open, Open::Folded(open) if open == heading) {
            self.close()?;
            write!(self.out, "\n<details><summary>{}</summary>\n\n<pre>", escaped(heading))?;
            self.open = Open::Folded(heading.to_owned());
        }
        self.out.write_all(escaped(piece).as_bytes())
    }

    /// Something folded, as a whole.
    fn fold(&mut self, heading: &str, body: &str) -> io::Result<()> {
        self.close()?;
        let body = if body.is_empty() { " " } else { body };
        self.folded(heading, body)?;
        self.close()
    }

    fn line(&mut self, line: &str) -> io::Result<()> {
        self.close()?;
        write!(self.out, "\n{line}\n")
    }

    fn close(&mut self) -> io::Result<()> {
        match std::mem::replace(&mut self.open, Open::Nothing) {
            Open::Nothing => Ok(()),
            Open::Text(_) => {
                let closing = self.markup.close();
                self.out.write_all(if closing.is_empty() { b"\n" } else { closing.as_bytes() })
            }
            Open::Folded(_) => self.out.write_all(b"</pre>\n\n</details>\n"),
        }
    }
}

fn head(out: &mut impl Write, run: &RunRecord) -> io::Result<()> {
    let summary = &run.summary;
    writeln!(out, "# {}\n", plain(&summary.title))?;
    let model = summary.model.as_ref().map_or(String::new(), |model| format!(", {model}"));
    writeln!(out, "- Run: `{}`", summary.run_id)?;
    writeln!(out, "- Provider: {}{}", plain(&summary.provider), plain(&model))?;
    let version = run.capabilities.as_ref().and_then(|capabilities| capabilities.cli_version.as_ref());
    if let Some(version) = version {
        writeln!(out, "- CLI: {}", plain(version))?;
    }
    writeln!(out, "- Folder: {}", plain(&summary.cwd.display().to_string()))?;
    let reason = match (summary.reason, &summary.message) {
        (Some(reason), Some(message)) if reason.name() != summary.status.name() => {
            format!(" ({reason}): {}", plain(message))
        }
        _ => String::new(),
    };
    writeln!(out, "- Status: {}{reason}", summary.status)?;
    for (name, time) in
        [("Submitted", Some(summary.created_at)), ("Started", summary.started_at), ("Ended", summary.ended_at)]
    {
        if let Some(time) = time {
            writeln!(out, "- {name}: {time}")?;
        }
    }
    Ok(())
}

fn usage_lines(usage: &Usage) -> Option<String> {
    let mut lines = String::new();
    let counts = [
        ("Tokens read", usage.input_tokens),
        ("of these from a cache", usage.cached_input_tokens),
        ("Tokens written", usage.output_tokens),
        ("of these reasoning", usage.reasoning_tokens),
    ];
    for (name, count) in counts {
        if let Some(count) = count {
            lines.push_str(&format!("- {name}: {count}\n"));
        }
    }
    if let Some(cost) = usage.cost_micro_usd {
        lines.push_str(&format!("- Cost: {}.{:06} USD\n", cost / 1_000_000, cost % 1_000_000));
    }
    if usage.whole_session && !lines.is_empty() {
        lines.push_str("- (the whole session: what came before this run is not on record)\n");
    }
    Some(lines).filter(|lines| !lines.is_empty())
}

fn field<'a>(payload: &'a Value, name: &str) -> &'a str {
    payload.get(name).and_then(Value::as_str).unwrap_or_default()
}

fn pretty(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => serde_json::to_string_pretty(other).unwrap_or_default(),
    }
}

/// The first characters of a line.
fn shortened(line: &str) -> String {
    const MOST: usize = 100;
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", line.get(..end).unwrap_or_default()),
        None => line.to_owned(),
    }
}

/// A text inside of HTML.
fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

/// A text on a line of Markdown, which must not be taken for Markdown.
fn plain(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' | '\r' => out.push(' '),
            '\\' | '`' | '*' | '_' | '[' | ']' | '#' | '|' | '~' => out.extend(['\\', character]),
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use ostler_protocol::EventId;

    fn record() -> RunRecord {
        serde_json::from_value(json!({
            "runId": "01999999-8888-7777-8666-123456789abc", "provider": "codex-work", "model": "m_1",
            "mode": "non-interactive", "status": "failed", "title": "What <b>does</b> `this` do?", "cwd": "/work",
            "queuePriority": 0, "attempt": 2, "reason": "timeout", "message": "it took too long",
            "createdAt": "2027-01-15T08:00:00Z", "startedAt": "2027-01-15T08:00:01Z",
            "endedAt": "2027-01-15T08:00:09Z",
            "payload": {"prompt": "What <b>does</b> `this` do?\nSay it."}, "sealedPointers": [],
            "finalText": "It *works*.\n", "usage": {"inputTokens": 12, "outputTokens": 3, "costMicroUsd": 1_500_000},
            "warnings": [], "artifacts": [], "origin": "cli"
        }))
        .unwrap()
    }

    fn page(events: &[(EventType, Value)]) -> String {
        let record = record();
        let mut page = Page::begin(Vec::new(), &record).unwrap();
        for (kind, payload) in events {
            let event = Event {
                cursor: 1,
                event_id: EventId::generate(),
                run_id: None,
                conversation_id: None,
                seq: None,
                kind: *kind,
                payload: payload.clone(),
                timestamp: record.summary.created_at,
            };
            page.event(&event).unwrap();
        }
        String::from_utf8(page.finish(&record).unwrap()).unwrap()
    }

    fn said(payload: Value) -> (EventType, Value) {
        (EventType::Semantic, payload)
    }

    #[test]
    fn a_page_reads_from_the_prompt_to_the_answer() {
        let text = page(&[
            (EventType::RunStarted, json!({"attempt": 2, "output": "lines"})),
            (EventType::Progress, json!({"stage": "queued"})),
            said(json!({"kind": "thinking", "message": "t", "text": "hm, a < b"})),
            said(json!({"kind": "text_delta", "message": "a", "text": "I *look* "})),
            said(json!({"kind": "text_delta", "message": "a", "text": "at it."})),
            said(json!({"kind": "text", "message": "a", "first": 1, "last": 2})),
            said(json!({"kind": "tool_start", "id": "1", "tool": "shell", "name": "Bash", "commands": ["ls\npwd"]})),
            said(json!({"kind": "tool_result", "id": "1", "isError": false, "exitCode": 0,
                        "output": "</pre></details>\n```\n\nsrc"})),
            said(json!({"kind": "tool_start", "id": "2", "tool": "file_read", "name": "Read", "input": {"path": "a"}})),
            (EventType::ChunkStderr, json!({"text": "one\n"})),
            (EventType::ChunkStderr, json!({"text": "two\n"})),
            (EventType::Warning, json!({"code": "SPAWN_RETRY", "message": "again"})),
        ]);
        insta::assert_snapshot!(text, @r#"
        # What &lt;b&gt;does&lt;/b&gt; \`this\` do?

        - Run: `01999999-8888-7777-8666-123456789abc`
        - Provider: codex-work, m\_1
        - Folder: /work
        - Status: failed (timeout): it took too long
        - Submitted: 2027-01-15T08:00:00Z
        - Started: 2027-01-15T08:00:01Z
        - Ended: 2027-01-15T08:00:09Z

        ## Prompt

        <pre>What &lt;b&gt;does&lt;/b&gt; `this` do?
        Say it.</pre>

        ## Transcript

        **Attempt 2**

        <details><summary>thinking</summary>

        <pre>hm, a &lt; b</pre>

        </details>

        I *look* at it.

        <details><summary>Bash: ls</summary>

        <pre>ls
        pwd</pre>

        </details>

        <details><summary>result: exit code 0</summary>

        <pre>&lt;/pre&gt;&lt;/details&gt;
        ```

        src</pre>

        </details>

        <details><summary>Read</summary>

        <pre>{
          "path": "a"
        }</pre>

        </details>

        <details><summary>standard error</summary>

        <pre>one
        two
        </pre>

        </details>

        > **SPAWN\_RETRY**: again

        ## Answer

        It *works*.

        ## Usage

        - Tokens read: 12
        - Tokens written: 3
        - Cost: 1.500000 USD
        "#);
    }

    #[test]
    fn what_a_text_leaves_open_is_closed_before_the_page_goes_on() {
        let text = page(&[
            said(json!({"kind": "text_delta", "message": "a", "text": "```sh\nmake"})),
            said(json!({"kind": "tool_start", "id": "1", "tool": "shell", "name": "Bash", "commands": ["ls"]})),
            said(json!({"kind": "text", "message": "b", "text": "<!-- a thought"})),
            (EventType::Warning, json!({"code": "W", "message": "seen"})),
        ]);
        assert!(text.contains("\n```sh\nmake\n```\n\n<details><summary>Bash: ls"), "{text}");
        assert!(text.contains("\n<!-- a thought\n-->\n\n> **W**: seen\n"), "{text}");
    }

    #[test]
    fn what_a_terminal_showed_is_plain_text() {
        let text = page(&[
            (EventType::RunStarted, json!({"attempt": 1, "output": "terminal"})),
            (EventType::ChunkStdout, json!({"text": "\u{1b}[31m$ ls\u{1b}]52;c;eA=="})),
            (EventType::ChunkStdout, json!({"text": "\u{7}\u{1b}[0m\r\n<file>\r\n"})),
        ]);
        assert!(text.contains("<summary>terminal</summary>\n\n<pre>$ ls\n&lt;file&gt;\n</pre>"), "{text}");
    }

    #[test]
    fn output_that_is_the_answer_stands_as_it_is() {
        let text = page(&[
            (EventType::RunStarted, json!({"attempt": 1, "output": "text"})),
            (EventType::ChunkStdout, json!({"text": "# It\n"})),
            (EventType::ChunkStdout, json!({"text": "works\n"})),
        ]);
        assert!(text.contains("## Transcript\n\n# It\nworks\n"), "{text}");
        assert!(!text.contains("<details>"), "{text}");
    }
}
