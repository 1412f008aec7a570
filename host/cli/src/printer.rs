//! Maps the events of a run to the text to show. Pure: it does no output and does not depend on a terminal.

use std::collections::{BTreeSet, HashMap, HashSet, VecDeque};

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exit::Exit;
use super::{actors, clean, format, option_names, times};
use ostler_protocol::semantic::{ToolUse, TurnStatus};
use ostler_protocol::{
    CliMissing, CompatibilityWarning, CwdMissing, EndReason, Event, EventType, Metrics, Network, NetworkReason,
    NetworkVerdict, Output, PolicyAudit, Progress, ProgressStage, RunEnd, RunStarted, Semantic, SessionClosed,
    SessionEnd, SessionInput, StructuredOutput, StructuredOutputInvalid, Usage, Verdict, Warning, WarningCode,
    chunk_bytes,
};

/// Number of lines of the CLI's error output that are kept to explain a failure.
const TAIL_LINES: usize = 6;
/// Maximum length of such a line, in characters.
const TAIL_WIDTH: usize = 400;

/// Maximum number of blocked hosts that a message names.
const MAX_HOSTS: usize = 5;

/// Importance of a note.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// The spinner shows it anyway.
    Detail,
    /// Worth a line.
    Info,
    /// Something differs from the request.
    Warning,
    /// The run may not have done its task. Shown even if progress is off.
    Doubt,
    /// Something failed.
    Error,
}

/// A line about the run, for standard error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Note {
    pub(super) level: Level,
    pub(super) text: String,
}

/// What the run is doing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Activity {
    /// It waits in the queue, at this position if known.
    Waiting(Option<u64>),
    /// It works; the text is empty if the activity is unknown.
    Working(String),
}

/// What to show for one event.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Step {
    /// The next part of the answer.
    pub(super) answer: Vec<u8>,
    pub(super) notes: Vec<Note>,
    pub(super) activity: Option<Activity>,
    /// The run has ended.
    pub(super) end: Option<Exit>,
    /// Set at the end if earlier attempts printed output that was shown before the answer.
    pub(super) mixed: bool,
    /// A turn has ended.
    pub(super) turn: Option<TurnStatus>,
}

impl Step {
    fn note(&mut self, level: Level, text: impl Into<String>) {
        self.notes.push(Note { level, text: text.into() });
    }
}

/// Follows the events of one run.
#[derive(Debug)]
pub(super) struct Printer {
    short_id: String,
    output: Output,
    /// The shown text is empty or ends with a line end.
    line_start: bool,
    /// Text of the agent from this attempt was shown.
    answered: bool,
    /// Bytes of text output from this attempt.
    printed: u64,
    /// Bytes of text output from earlier attempts.
    printed_before: u64,
    /// The host has not stored all output of the run.
    trimmed: bool,
    /// The message whose pieces are being shown.
    current: Option<String>,
    /// The shown text of incomplete messages.
    open: HashMap<String, String>,
    /// Messages that are complete.
    done: HashSet<String>,
    /// Text of the last complete message.
    last: Option<String>,
    structured: Option<Value>,
    usage: Option<Usage>,
    run_ms: u64,
    /// The last error of this attempt that was shown, so that the end does not repeat it.
    last_error: Option<String>,
    tail: VecDeque<String>,
    /// Hosts that the sandbox blocked. They may explain a failure, but agents try many hosts that they do not need.
    refused: BTreeSet<String>,
    /// Hosts that could not be reached.
    unreachable: HashSet<String>,
}

impl Printer {
    /// A printer for one run. Notes name it by its short id.
    pub(super) fn new(short_id: String) -> Self {
        Self {
            short_id,
            output: Output::Lines,
            line_start: true,
            answered: false,
            printed: 0,
            printed_before: 0,
            trimmed: false,
            last: None,
            current: None,
            open: HashMap::new(),
            done: HashSet::new(),
            structured: None,
            usage: None,
            run_ms: 0,
            last_error: None,
            tail: VecDeque::new(),
            refused: BTreeSet::new(),
            unreachable: HashSet::new(),
        }
    }

    /// The text of the last complete message.
    pub(super) fn last_text(&self) -> Option<&str> {
        self.last.as_deref()
    }

    /// Whether the shown text is empty or ends with a line end.
    pub(super) const fn at_line_start(&self) -> bool {
        self.line_start
    }

    /// Ends the agent's line before other text on the same terminal. Returns the text to write.
    pub(super) fn break_line(&mut self) -> &'static str {
        if std::mem::replace(&mut self.line_start, true) { "" } else { "\n" }
    }

    /// Processes the next event. An unreadable payload is ignored; `logs` still shows the event.
    pub(super) fn take(&mut self, event: &Event) -> Step {
        let mut step = Step::default();
        match event.kind {
            EventType::RunStarted => self.with(event, &mut step, Self::started),
            EventType::ChunkStdout => self.stdout(&event.payload, &mut step),
            EventType::ChunkStderr => self.keep_tail(&String::from_utf8_lossy(&chunk_bytes(&event.payload))),
            EventType::Progress => self.with(event, &mut step, Self::progress),
            EventType::PolicyAudit => self.with(event, &mut step, Self::audit),
            EventType::CompatibilityWarning => {
                self.with(event, &mut step, |_, warning: &CompatibilityWarning, step| {
                    let name = option_names::name(&warning.pointer);
                    step.note(Level::Warning, format!("{name}: {}", option_names::message(&warning.reason)));
                });
            }
            EventType::Semantic => self.with(event, &mut step, Self::semantic),
            EventType::Warning => self.with(event, &mut step, |printer, warning: &Warning, step| {
                printer.trimmed |= warning.code == WarningCode::BufferTrimmed;
                let reason = warning.facts.get("reason").and_then(Value::as_str);
                if warning.code == WarningCode::NetworkRefused && reason == Some(NetworkReason::NotAllowed.name()) {
                    // The note at the end of the run lists these hosts.
                    return;
                }
                let doubt = warning.code.leaves_doubt();
                step.note(if doubt { Level::Doubt } else { Level::Warning }, option_names::message(&warning.message));
            }),
            EventType::CliMissing => self.with(event, &mut step, |_, missing: &CliMissing, step| {
                step.note(Level::Error, format!("{} no longer exists; {}", missing.path, missing.install_hint));
            }),
            EventType::Network => self.with(event, &mut step, Self::network),
            EventType::CwdMissing => self.with(event, &mut step, |_, missing: &CwdMissing, step| {
                step.note(Level::Error, format!("{}: {}", missing.path.display(), missing.message));
            }),
            EventType::RunnerMetrics => self.with(event, &mut step, |printer, metrics: &Metrics, _| {
                printer.usage = metrics.usage.clone().or(printer.usage.take());
                // The cast truncates, and saturates a negative value to zero.
                printer.run_ms = metrics.run_ms as u64;
            }),
            EventType::StructuredOutput => self.with(event, &mut step, |printer, found: &StructuredOutput, _| {
                printer.structured = Some(found.result.clone());
            }),
            EventType::StructuredOutputInvalid => self.with(event, &mut step, Self::misfit),
            EventType::SessionInputAccepted => self.with(event, &mut step, |printer, input: &SessionInput, step| {
                printer.end_line(step);
                step.activity = Some(Activity::Working(String::new()));
                if input.keys || actors::is_own(&input.actor) {
                    return;
                }
                step.note(Level::Info, format!("message of {}: {}", actors::name(&input.actor), input.text.trim_end()));
            }),
            EventType::SessionClosed => self.with(event, &mut step, |printer, closed: &SessionClosed, step| {
                printer.end_line(step);
                step.note(Level::Info, format!("the session was closed: {}", end_of_session(&closed.reason)));
            }),
            EventType::RunCompleted | EventType::RunFailed | EventType::RunCanceled => {
                let kind = event.kind;
                self.with(event, &mut step, |printer, end: &RunEnd, step| printer.ended(kind, end, step));
                // The run has ended even if the payload is unreadable.
                step.end = step.end.or_else(|| Exit::of_run(kind, EndReason::Unknown));
            }
            _ => {}
        }
        step
    }

    fn with<T: DeserializeOwned>(
        &mut self,
        event: &Event,
        step: &mut Step,
        act: impl FnOnce(&mut Self, &T, &mut Step),
    ) {
        if let Ok(payload) = T::deserialize(&event.payload) {
            act(self, &payload, step);
        }
    }

    fn started(&mut self, started: &RunStarted, step: &mut Step) {
        self.end_line(step);
        self.output = started.output;
        self.answered = false;
        self.printed_before += std::mem::take(&mut self.printed);
        self.trimmed = false;
        self.last = None;
        self.current = None;
        self.open.clear();
        self.done.clear();
        self.structured = None;
        self.last_error = None;
        self.tail.clear();
        let version = started.cli_version.as_deref().map(|version| format!(" {version}")).unwrap_or_default();
        let attempt = if started.attempt > 1 { format!(", attempt {}", started.attempt) } else { String::new() };
        step.note(Level::Detail, format!("run {} started ({}{version}{attempt})", self.short_id, started.provider));
        step.activity = Some(Activity::Working(String::new()));
    }

    fn stdout(&mut self, chunk: &Value, step: &mut Step) {
        let bytes = chunk_bytes(chunk);
        match self.output {
            Output::Text => {
                self.printed += bytes.len() as u64;
                self.append(&bytes, step);
            }
            Output::Terminal => self.append(&bytes, step),
            // The plugin did not understand these lines; they may explain a failure.
            Output::Lines => self.keep_tail(&String::from_utf8_lossy(&bytes)),
        }
    }

    fn progress(&mut self, progress: &Progress, step: &mut Step) {
        let fact = |name: &str| progress.facts.get(name);
        match &progress.stage {
            ProgressStage::Queued => {
                // Most runs start at once, so the position is printed only when it is polled.
                step.activity = Some(Activity::Waiting(fact("position").and_then(Value::as_u64)));
                if fact("held") == Some(&Value::Bool(true)) {
                    step.note(Level::Info, "waiting for earlier messages of the conversation".to_owned());
                }
                let after = fact("startAfter").and_then(|after| after.get("runIds")?.as_array());
                let after: Vec<String> =
                    after.into_iter().flatten().filter_map(Value::as_str).map(format::short_id).collect();
                if !after.is_empty() {
                    step.note(Level::Info, format!("waits for the end of {}", after.join(", ")));
                }
                let scheduled = fact("scheduledAt").and_then(Value::as_str).and_then(|time| time.parse().ok());
                if let Some(time) = scheduled.filter(|time| *time > times::now()) {
                    step.note(Level::Info, format!("starts at {}", format::local(time)));
                }
            }
            ProgressStage::RetryScheduled => {
                self.end_line(step);
                let reason = fact("reason").and_then(Value::as_str).map_or("the attempt failed", describe_reason);
                let attempt = fact("attempt").and_then(Value::as_u64).map(|attempt| format!(" (attempt {attempt})"));
                let when = fact("nextRunAt").and_then(Value::as_str).and_then(|time| time.parse().ok());
                let when = when.map(|time| format!(" at {}", format::local(time))).unwrap_or_default();
                step.note(Level::Info, format!("retrying{when}{}: {reason}", attempt.unwrap_or_default()));
                step.activity = Some(Activity::Waiting(None));
            }
            ProgressStage::SpawnPreparing => step.activity = Some(Activity::Working("starting".to_owned())),
            _ => {}
        }
    }

    fn network(&mut self, network: &Network, step: &mut Step) {
        let host = format!("{}:{}", network.host, network.port);
        match network.verdict {
            NetworkVerdict::Allowed => {}
            NetworkVerdict::Refused => {
                if network.reason == Some(NetworkReason::NotAllowed) && network.host != "*" {
                    self.refused.insert(host);
                }
            }
            // The CLI may retry for a long time before it reports this.
            NetworkVerdict::Failed => {
                let why = match network.reason {
                    Some(NetworkReason::Unresolvable) => ": its name cannot be resolved",
                    Some(NetworkReason::TimedOut) => ": the connection timed out",
                    _ => "",
                };
                if self.unreachable.insert(host.clone()) {
                    step.note(Level::Warning, format!("{host} cannot be reached{why}; check the network connection"));
                }
            }
        }
    }

    fn audit(&mut self, audit: &PolicyAudit, step: &mut Step) {
        for finding in &audit.findings {
            let level = match finding.verdict {
                Verdict::Allow => continue,
                Verdict::Warn => Level::Warning,
                // A warning or the end of the run reports it.
                Verdict::Ask | Verdict::Deny if audit.tool.is_some() => continue,
                Verdict::Ask | Verdict::Deny => Level::Error,
            };
            step.note(level, format!("{}/{}: {}", finding.policy, finding.check, finding.message));
        }
    }

    fn semantic(&mut self, semantic: &Semantic, step: &mut Step) {
        match semantic {
            // The text of a sub-agent is not the run's answer.
            Semantic::TextDelta(piece) if piece.parent.is_none() => self.delta(&piece.message, &piece.text, step),
            Semantic::Text(text) if text.parent.is_none() => self.whole(&text.message, text.text.as_deref(), step),
            Semantic::ThinkingDelta(_) | Semantic::Thinking(_) => {
                step.activity = Some(Activity::Working("thinking".to_owned()));
            }
            Semantic::ToolStart(call) => {
                self.end_line(step);
                let summary = tool_summary(call);
                step.note(Level::Detail, summary.clone());
                step.activity = Some(Activity::Working(summary));
            }
            Semantic::ToolResult(_) => step.activity = Some(Activity::Working(String::new())),
            Semantic::TurnComplete(turn) => {
                self.end_line(step);
                step.turn = Some(turn.status.clone());
                let why = turn.message.as_deref().map(clean::line).filter(|message| !message.is_empty());
                let why = why.map(|message| format!(": {message}")).unwrap_or_default();
                // If the run ends with the turn, its end explains it.
                match turn.status {
                    TurnStatus::Interrupted => step.note(Level::Detail, format!("the turn was interrupted{why}")),
                    TurnStatus::Failed => step.note(Level::Detail, format!("the turn failed{why}")),
                    _ => {}
                }
            }
            Semantic::ApprovalRequested(_) => {
                self.end_line(step);
                step.activity = Some(Activity::Working("waits for an answer".to_owned()));
            }
            Semantic::ApprovalDecided(_) | Semantic::ApprovalWithdrawn(_) => {
                step.activity = Some(Activity::Working(String::new()));
            }
            Semantic::Progress(notice) => {
                step.note(Level::Detail, notice.message.clone());
                step.activity = Some(Activity::Working(notice.message.clone()));
            }
            Semantic::Warning(notice) => step.note(Level::Warning, notice.message.clone()),
            Semantic::RateLimited(limit) => step.note(Level::Warning, limit.message.clone()),
            Semantic::Error(notice) => {
                self.last_error = Some(notice.message.trim().to_owned());
                step.note(Level::Error, notice.message.clone());
            }
            Semantic::Usage(report) => self.usage = Some(report.clone().into()),
            _ => {}
        }
    }

    fn delta(&mut self, message: &str, text: &str, step: &mut Step) {
        if text.is_empty() || self.done.contains(message) {
            return;
        }
        if self.current.as_deref() != Some(message) {
            self.end_line(step);
            self.current = Some(message.to_owned());
        }
        self.answered |= !text.trim().is_empty();
        self.open.entry(message.to_owned()).or_default().push_str(text);
        self.append(text.as_bytes(), step);
        step.activity = Some(Activity::Working(String::new()));
    }

    /// Completes a message. Without `text`, its text is that of its pieces.
    fn whole(&mut self, message: &str, text: Option<&str>, step: &mut Step) {
        let shown = self.open.remove(message).unwrap_or_default();
        let repeated = !self.done.insert(message.to_owned());
        let rest = match text {
            None => "",
            Some(_) if repeated => "",
            Some(text) => match text.strip_prefix(shown.as_str()) {
                Some(rest) => rest,
                None if text.trim() == shown.trim() => "",
                // The complete text differs from its pieces and is authoritative.
                None => {
                    self.end_line(step);
                    text
                }
            },
        };
        if !rest.is_empty() {
            if shown.is_empty() || self.current.as_deref() != Some(message) {
                self.end_line(step);
            }
            self.answered |= !rest.trim().is_empty();
            self.append(rest.as_bytes(), step);
        }
        self.last = Some(text.map_or(shown, str::to_owned));
        self.current = None;
        self.end_line(step);
        step.activity = Some(Activity::Working(String::new()));
    }

    fn misfit(&mut self, misfit: &StructuredOutputInvalid, step: &mut Step) {
        let problems: Vec<String> = misfit
            .errors
            .iter()
            .map(|problem| match problem.pointer.as_str() {
                "" => problem.message.clone(),
                pointer => format!("{pointer}: {}", problem.message),
            })
            .collect();
        step.note(Level::Warning, format!("the answer does not match the schema: {}", problems.join("; ")));
    }

    fn ended(&mut self, kind: EventType, end: &RunEnd, step: &mut Step) {
        if self.printed > 0 {
            step.mixed = self.printed_before > 0;
        } else if self.answered {
            self.append_trimmed_answer(end, step);
        } else {
            let structured = self.structured.take().map(|value| value.to_string());
            let text = end.final_text.clone().filter(|text| !text.trim().is_empty()).or(structured);
            if let Some(text) = text {
                self.append(text.as_bytes(), step);
            }
        }
        self.end_line(step);
        let id = &self.short_id;
        match kind {
            EventType::RunCompleted => {
                let time =
                    if self.run_ms > 0 { format!(" in {}", format::duration(self.run_ms)) } else { String::new() };
                let usage = self.usage.as_ref().map(format::usage).filter(|usage| !usage.is_empty());
                let usage = usage.map(|usage| format!(", {usage}")).unwrap_or_default();
                step.note(Level::Info, format!("run {id} done{time}{usage}"));
                if let Some(blocked) = self.blocked() {
                    step.note(Level::Detail, blocked);
                }
            }
            EventType::RunCanceled => step.note(Level::Info, format!("run {id} was canceled")),
            _ => {
                let code = end.code.as_deref().map(|code| format!(", {code}")).unwrap_or_default();
                let mut text = format!("run {id} failed ({}{code})", end.reason.name());
                if self.last_error.as_deref() != Some(end.message.trim()) {
                    text.push_str(": ");
                    text.push_str(&end.message);
                }
                // For a known error, omit the CLI's own advice: it names options that Ostler does not have.
                let understood = end.reason == EndReason::Usage && end.hint.is_some();
                let unexplained = matches!(end.reason, EndReason::Unknown | EndReason::SpawnFailed | EndReason::Usage);
                if unexplained && !understood {
                    let said = end.message.trim();
                    // Skip a line that ends with the message, such as the message after a prefix.
                    for line in self.tail.iter().filter(|line| said.is_empty() || !line.trim().ends_with(said)) {
                        text.push_str("\n| ");
                        text.push_str(line);
                    }
                }
                if let Some(hint) = &end.hint {
                    text.push_str("\nhint: ");
                    text.push_str(&option_names::message(hint));
                }
                if let Some(blocked) = self.blocked() {
                    text.push('\n');
                    text.push_str(&blocked);
                }
                step.note(Level::Error, text);
            }
        }
        step.end = Exit::of_run(kind, end.reason);
        let wanted = end.answer.as_ref().filter(|answer| answer.output == Output::Text).map(|answer| answer.bytes);
        if step.end == Some(Exit::Done) && wanted.is_some_and(|bytes| bytes != self.printed) {
            step.note(Level::Error, format!("the answer of run {id} is incomplete"));
            step.end = Some(Exit::Undelivered);
        }
    }

    /// A message about the hosts that the sandbox blocked, if any.
    fn blocked(&self) -> Option<String> {
        let hosts: Vec<&str> = self.refused.iter().map(String::as_str).take(MAX_HOSTS).collect();
        let more = if self.refused.len() > MAX_HOSTS { " and others" } else { "" };
        let text = format!("the sandbox blocked connections to {}{more}", hosts.join(", "));
        (!hosts.is_empty())
            .then(|| format!("{text}\nhint: if the run needs one of them, allow it with --allow-host HOST"))
    }

    /// Appends the final text if the host has not stored the events that contain it.
    fn append_trimmed_answer(&mut self, end: &RunEnd, step: &mut Step) {
        let Some(text) = end.final_text.as_deref().filter(|_| self.trimmed && end.answer.is_none()) else { return };
        match self.current.clone() {
            Some(message) => self.whole(&message, Some(text), step),
            None if self.last.as_deref().is_some_and(|last| last.trim() == text.trim()) => {}
            None => {
                self.end_line(step);
                self.append(text.as_bytes(), step);
            }
        }
    }

    fn append(&mut self, bytes: &[u8], step: &mut Step) {
        if let Some(last) = bytes.last() {
            step.answer.extend_from_slice(bytes);
            self.line_start = *last == b'\n';
        }
    }

    /// Ends an unfinished line of the agent's text. Adds nothing to text output, which must stay unchanged.
    fn end_line(&mut self, step: &mut Step) {
        if !self.line_start && self.output == Output::Lines {
            step.answer.push(b'\n');
            self.line_start = true;
        }
    }

    fn keep_tail(&mut self, text: &str) {
        for line in text.lines().filter(|line| !line.trim().is_empty()) {
            if self.tail.len() == TAIL_LINES {
                self.tail.pop_front();
            }
            self.tail.push_back(line.chars().take(TAIL_WIDTH).collect());
        }
    }
}

/// A description of the reason why an attempt failed. An unknown reason is returned unchanged.
fn describe_reason(reason: &str) -> &str {
    match reason {
        "resume_invalid" => "the session could not be resumed",
        "spawn_failed" => "the CLI could not be started",
        "rate_limited" => "the provider's rate limit was reached",
        "transient" => "a temporary failure",
        "timeout" => "the time limit was exceeded",
        "unknown" => "it failed for an unknown reason",
        other => other,
    }
}

/// Why a session was closed.
pub(super) fn end_of_session(reason: &SessionEnd) -> &str {
    match reason {
        SessionEnd::Ended => "a client ended it",
        SessionEnd::Idle => "it was idle for too long",
        SessionEnd::TimeLimit => "it reached its time limit",
        SessionEnd::StorageLimit => "what it shows reached the limit of stored output",
        SessionEnd::Canceled => "its run was canceled",
        SessionEnd::HostStops => "the host stops",
        SessionEnd::Exited => "the CLI ended",
        SessionEnd::Failed => "it failed",
        SessionEnd::Other(name) => name,
    }
}

/// A short description of a tool use: `shell: cargo test`.
pub(super) fn tool_summary(call: &ToolUse) -> String {
    let tool = match call.tool.as_str() {
        "other" | "" if call.name.is_empty() => "tool",
        "other" | "" => &call.name,
        tool => tool,
    };
    let files = call.files.iter().map(|file| &file.path);
    let subject = call.commands.first().or_else(|| files.chain(&call.urls).next()).filter(|text| !text.is_empty());
    let mcp = || call.mcp.as_ref().map(|mcp| format!("{}/{}", mcp.server, mcp.tool));
    match subject.cloned().or_else(mcp) {
        Some(subject) => format!("{tool}: {subject}"),
        None => tool.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use serde_json::json;

    use super::*;
    use crate::tests::event;

    fn started(output: &str, attempt: u32) -> (EventType, Value) {
        let adapter = json!({"name": "codex", "version": "0.1.0", "digest": "00"});
        let payload = json!({"provider": "codex", "attempt": attempt, "pid": 7, "adapter": adapter, "output": output});
        (EventType::RunStarted, payload)
    }

    fn said(kind: &str, mut fields: Value) -> (EventType, Value) {
        fields["kind"] = kind.into();
        (EventType::Semantic, fields)
    }

    fn delta(message: &str, text: &str) -> (EventType, Value) {
        said("text_delta", json!({"message": message, "text": text}))
    }

    fn completed(final_text: Option<&str>) -> (EventType, Value) {
        (EventType::RunCompleted, json!({"reason": "completed", "message": "done", "finalText": final_text}))
    }

    /// The text on standard output after these events, the notes, and the outcome.
    fn play(events: &[(EventType, Value)]) -> (String, Vec<Note>, Option<Exit>) {
        let mut printer = Printer::new("1a2b3c4d".to_owned());
        let (mut answer, mut notes, mut end) = (Vec::new(), Vec::new(), None);
        for (kind, payload) in events {
            let step = printer.take(&event(*kind, payload.clone()));
            answer.extend_from_slice(&step.answer);
            notes.extend(step.notes);
            end = end.or(step.end);
            assert_eq!(printer.at_line_start(), answer.is_empty() || answer.ends_with(b"\n"));
        }
        (String::from_utf8_lossy(&answer).into_owned(), notes, end)
    }

    fn answer(events: &[(EventType, Value)]) -> String {
        play(events).0
    }

    #[test]
    fn shows_text_once_from_pieces_or_whole() {
        let pieces = [started("lines", 1), delta("m", "Hel"), delta("m", "lo")];
        let ends: [&[(EventType, Value)]; 4] = [
            &[said("text", json!({"message": "m", "firstDelta": 4, "lastDelta": 5}))],
            &[said("text", json!({"message": "m", "text": "Hello"}))],
            &[
                said("text", json!({"message": "m", "text": "Hello"})),
                said("text", json!({"message": "m", "text": "Hello"})),
            ],
            &[],
        ];
        for end in ends {
            let events: Vec<_> = pieces.iter().chain(end).cloned().chain([completed(Some("Hello"))]).collect();
            assert_eq!(answer(&events), "Hello\n", "{end:?}");
        }
        let whole =
            [started("lines", 1), said("text", json!({"message": "m", "text": "Hello"})), completed(Some("Hello"))];
        assert_eq!(answer(&whole), "Hello\n");
    }

    #[test]
    fn whole_text_adds_missing_rest() {
        let longer = [delta("m", "Hel"), said("text", json!({"message": "m", "text": "Hello"}))];
        assert_eq!(answer(&longer), "Hello\n");
        let other = [delta("m", "Hel"), said("text", json!({"message": "m", "text": "Goodbye"}))];
        assert_eq!(answer(&other), "Hel\nGoodbye\n");
    }

    #[test]
    fn messages_and_tools_do_not_share_lines() {
        let shown = answer(&[
            started("lines", 1),
            delta("a", "I look"),
            said("tool_start", json!({"id": "t", "tool": "shell", "commands": ["ls"]})),
            said("text", json!({"message": "a", "note": "by its pieces"})),
            delta("b", "one"),
            delta("c", "two"),
            delta("b", "three"),
            said("text", json!({"message": "d", "text": "four\n"})),
            said("text_delta", json!({"message": "s", "text": "a sub-agent", "parent": "t"})),
            said("thinking_delta", json!({"message": "x", "text": "hm"})),
            completed(None),
        ]);
        assert_eq!(shown, "I look\none\ntwo\nthree\nfour\n");
    }

    #[test]
    fn stdout_is_the_answer_only_for_text_output() {
        let chunk = (EventType::ChunkStdout, json!({"text": "one\ntwo\n", "redactions": 0}));
        assert_eq!(answer(&[started("text", 1), chunk.clone(), completed(Some("two"))]), "one\ntwo\n");
        assert_eq!(answer(&[started("lines", 1), chunk, completed(Some("two"))]), "two\n");
    }

    #[test]
    fn passes_text_output_through_unchanged() {
        let mut printer = Printer::new("1a2b3c4d".to_owned());
        let mut take = |(kind, payload): (EventType, Value)| printer.take(&event(kind, payload));
        take(started("text", 1));
        let first = take((EventType::ChunkStdout, json!({"text": "a\r\nb\rc", "redactions": 0})));
        let second = take((EventType::ChunkStdout, json!({"text": "\u{fffd}", "redactions": 0, "base64": "/w=="})));
        let end = json!({"reason": "completed", "message": "done", "finalText": "a\r\nb\rc\u{fffd}",
            "answer": {"output": "text", "bytes": 7, "fromCursor": 1, "toCursor": 2}});
        let last = take((EventType::RunCompleted, end));
        assert_eq!([first.answer, second.answer, last.answer].concat(), b"a\r\nb\rc\xff");
        assert_eq!((last.end, last.mixed), (Some(Exit::Done), false));
    }

    #[test]
    fn incomplete_answer_is_not_a_success() {
        let chunk = (EventType::ChunkStdout, json!({"text": "half", "redactions": 0}));
        let end = json!({"reason": "completed", "message": "done", "finalText": "halfwhole",
            "answer": {"output": "text", "bytes": 9, "fromCursor": 1, "toCursor": 2}});
        let (shown, notes, exit) = play(&[started("text", 1), chunk, (EventType::RunCompleted, end)]);
        assert_eq!((shown.as_str(), exit), ("half", Some(Exit::Undelivered)));
        assert_eq!(notes.last().map(|note| note.level), Some(Level::Error));
    }

    #[test]
    fn marks_output_of_earlier_attempts_as_mixed() {
        let mut printer = Printer::new("1a2b3c4d".to_owned());
        let chunk = || (EventType::ChunkStdout, json!({"text": "x", "redactions": 0}));
        let events = [started("text", 1), chunk(), started("text", 2), chunk(), completed(Some("x"))];
        let steps = events.map(|(kind, payload)| printer.take(&event(kind, payload)));
        assert_eq!(steps.map(|step| step.mixed), [false, false, false, false, true]);
    }

    #[test]
    fn shows_trimmed_answer_at_the_end() {
        let trimmed = (EventType::Warning, json!({"code": "BUFFER_TRIMMED", "message": "no room"}));
        let cut = [started("lines", 1), delta("m", "Hel"), trimmed.clone(), completed(Some("Hello"))];
        assert_eq!(answer(&cut), "Hello\n");
        let dropped = [
            started("lines", 1),
            said("text", json!({"message": "m", "text": "I look"})),
            trimmed.clone(),
            completed(Some("Hello")),
        ];
        assert_eq!(answer(&dropped), "I look\nHello\n");
        let (shown, notes, _) = play(&[
            started("lines", 1),
            delta("m", "Hello"),
            said("text", json!({"message": "m"})),
            trimmed,
            completed(Some("Hello")),
        ]);
        assert_eq!(shown, "Hello\n");
        assert!(notes.iter().any(|note| note.level == Level::Doubt));
    }

    #[test]
    fn shows_final_text_without_events_at_the_end() {
        let result = (EventType::StructuredOutput, json!({"result": {"a": 1}}));
        assert_eq!(answer(&[started("lines", 1), result.clone(), completed(None)]), "{\"a\":1}\n");
        assert_eq!(answer(&[started("lines", 1), result, completed(Some("said"))]), "said\n");
        assert_eq!(answer(&[started("lines", 1), completed(None)]), "");
    }

    #[test]
    fn new_attempt_resets_shown_text() {
        let shown = answer(&[
            started("lines", 1),
            delta("m", "half an ans"),
            (EventType::Progress, json!({"stage": "retry_scheduled", "attempt": 2, "reason": "http-429"})),
            started("lines", 2),
            delta("m", "whole answer"),
            said("text", json!({"message": "m", "text": "whole answer"})),
            completed(Some("whole answer")),
        ]);
        assert_eq!(shown, "half an ans\nwhole answer\n");
    }

    #[test]
    fn failure_includes_known_details() {
        let (_, notes, end) = play(&[
            started("lines", 1),
            (EventType::ChunkStderr, json!({"text": "warn: x\n\nfatal: no disk\n", "redactions": 0})),
            (
                EventType::RunFailed,
                json!({"reason": "unknown", "code": "exit-1", "message": "codex ended with 1", "hint": "try later"}),
            ),
        ]);
        assert_eq!(end, Some(Exit::RunFailed));
        let last = notes.last().unwrap();
        assert_eq!(last.level, Level::Error);
        insta::assert_snapshot!(last.text, @r"
        run 1a2b3c4d failed (unknown, exit-1): codex ended with 1
        | warn: x
        | fatal: no disk
        hint: try later
        ");
    }

    #[test]
    fn reports_unreachable_hosts_at_once_and_blocked_hosts_on_failure() {
        let network = |host: &str, verdict: &str, reason: &str| {
            let payload = json!({"host": host, "port": 443, "verdict": verdict, "reason": reason, "bytesUp": 0,
                "bytesDown": 0, "connections": 1});
            (EventType::Network, payload)
        };
        let events = [
            started("lines", 1),
            network("telemetry.example", "refused", "not_allowed"),
            network("api.example", "failed", "unresolvable"),
            network("api.example", "failed", "unresolvable"),
        ];
        let with = |end: (EventType, Value)| -> Vec<Note> {
            let events: Vec<_> = events.iter().cloned().chain([end]).collect();
            play(&events).1.into_iter().filter(|note| note.level != Level::Detail).collect()
        };
        let good = with(completed(Some("x")));
        assert_eq!(good.len(), 2, "{good:?}");
        assert_eq!(
            good[0].text,
            "api.example:443 cannot be reached: its name cannot be resolved; check the network connection"
        );
        let bad = with((EventType::RunFailed, json!({"reason": "transient", "message": "no answer"})));
        insta::assert_snapshot!(bad[1].text, @r"
        run 1a2b3c4d failed (transient): no answer
        the sandbox blocked connections to telemetry.example:443
        hint: if the run needs one of them, allow it with --allow-host HOST
        ");
    }

    #[test]
    fn omits_cli_advice_for_known_errors() {
        let failed = |hint: Option<&str>| {
            let end = json!({"reason": "usage", "message": "no repository", "hint": hint});
            let stderr = (EventType::ChunkStderr, json!({"text": "use --trust\n", "redactions": 0}));
            play(&[started("lines", 1), stderr, (EventType::RunFailed, end)]).1.last().unwrap().text.clone()
        };
        assert!(!failed(Some("git init")).contains("--trust"));
        assert!(failed(None).contains("| use --trust"));
    }

    #[test]
    fn failure_does_not_repeat_shown_error() {
        let last = |events: &[(EventType, Value)]| play(events).1.last().unwrap().text.clone();
        let failed = |reason: &str| (EventType::RunFailed, json!({"reason": reason, "message": "no login"}));
        let error = said("error", json!({"code": "request-failed", "message": "no login"}));
        let events = [started("lines", 1), error.clone(), failed("authentication")];
        assert_eq!(last(&events), "run 1a2b3c4d failed (authentication)");
        let other_attempt = [started("lines", 1), error, started("lines", 2), failed("authentication")];
        assert_eq!(last(&other_attempt), "run 1a2b3c4d failed (authentication): no login");
        let chunk = (EventType::ChunkStderr, json!({"text": "no login\n", "redactions": 0}));
        assert_eq!(last(&[started("lines", 1), chunk, failed("unknown")]), "run 1a2b3c4d failed (unknown): no login");
    }

    #[test]
    fn unreadable_end_event_still_ends_the_run() {
        assert_eq!(play(&[(EventType::RunFailed, json!({"reason": "of the future"}))]).2, Some(Exit::RunFailed));
        assert_eq!(play(&[(EventType::RunCanceled, json!(7))]).2, Some(Exit::Canceled));
        assert_eq!(
            play(&[(EventType::RunFailed, json!({"reason": "timeout", "message": "x"}))]).2,
            Some(Exit::Timeout)
        );
    }

    #[test]
    fn notes_report_run_state() {
        let (_, notes, _) = play(&[
            (EventType::Progress, json!({"stage": "queued", "position": 3})),
            (EventType::Progress, json!({"stage": "queued", "held": true})),
            started("lines", 1),
            said("tool_start", json!({"id": "t", "tool": "mcp", "name": "x", "mcp": {"server": "s", "tool": "t"}})),
            (
                EventType::CompatibilityWarning,
                json!({"pointer": "/harness/limits/maxTurns", "reason": "no limit on turns"}),
            ),
            said("warning", json!({"code": "reconnecting", "message": "again"})),
            (
                EventType::RunnerMetrics,
                json!({"attempt": 1, "stdout": {"bytes": 1, "lines": 1}, "stderr": {"bytes": 0, "lines": 0},
                "events": 9, "toolCalls": 1, "usage": {"inputTokens": 1200, "outputTokens": 30}, "queueMs": 1.0,
                "spawnMs": 2.0, "runMs": 3210.5}),
            ),
            completed(None),
        ]);
        let lines: Vec<String> = notes.iter().map(|note| format!("{:?}: {}", note.level, note.text)).collect();
        insta::assert_snapshot!(lines.join("\n"), @r"
        Info: waiting for earlier messages of the conversation
        Detail: run 1a2b3c4d started (codex)
        Detail: mcp: s/t
        Warning: --max-turns: no limit on turns
        Warning: again
        Info: run 1a2b3c4d done in 3.2s, 1,200 input tokens, 30 output tokens
        ");
    }
}
