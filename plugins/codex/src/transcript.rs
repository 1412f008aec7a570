//! Transcript of `codex exec --json`.

use std::collections::BTreeMap;

use ostler_plugin::provider::{
    CollectedFile, ExitStatus, Failure, Line, Outcome, OutputStream, RateLimit, RunRequest, Semantic, SessionInfo,
    SessionOrigin, Step, TurnEnd, TurnStatus, Usage,
};
use ostler_plugin::vocabulary::notices;
use ostler_plugin::{Transcript, strip_ansi};
use ostler_provider_kit::events::{notice, notice_with, piece, work_done};
use ostler_provider_kit::failure::{http_status, shorten, wait_ms};
use ostler_provider_kit::payload::Payload;
use ostler_provider_kit::transcript::{self, KEPT_BYTES, StandardError, Unread};
use ostler_provider_kit::{answer, session};
use serde_json::{Map, Value, json};

use crate::failure;
use crate::items::{self, Meaning, Phase};

/// Beginnings of messages without information: two that `exec` prints if its standard input is not a terminal, and one
/// that it prints in every folder that [`prepare`](crate::prepare) marks as untrusted, with or without settings.
const NOISE: [&str; 3] = [
    "Reading additional input from stdin...",
    "Reading prompt from stdin...",
    "warning: Untrusted project-local configuration is disabled.",
];

/// Maximum number of running tools whose output is followed.
const OPEN_TOOLS: usize = 256;

/// Follows one attempt of `codex exec --json`.
#[derive(Debug)]
pub struct ExecTranscript {
    requested_session: Option<String>,
    continues: bool,
    fresh_id: String,
    wants_structure: bool,
    /// Whether codex has reported its thread, and so has started.
    started: bool,
    turn: Turn,
    answer: Option<String>,
    /// Why the last message could not be read completely.
    unread_message: Option<Unread>,
    /// Why a line could not be read, which may have been the last one.
    unread: Option<Unread>,
    /// The last `error` that was not a retry.
    error: Option<String>,
    /// The last message about a retry.
    retrying: Option<String>,
    /// Bytes of output that were emitted, by tool.
    open: BTreeMap<String, usize>,
    stderr: StandardError,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Turn {
    Pending,
    Completed,
    Failed(String),
}

impl ExecTranscript {
    pub(crate) fn new(request: &RunRequest) -> Self {
        // The host has called `prepare` with the same payload, so it is valid.
        let harness = Payload::parse(&request.payload).unwrap_or_default().harness;
        Self {
            requested_session: request.resume_session.clone(),
            continues: harness.continue_session == Some(true),
            fresh_id: request.fresh_id.clone(),
            wants_structure: harness.structured_output.is_some(),
            started: false,
            turn: Turn::Pending,
            answer: None,
            unread_message: None,
            unread: None,
            error: None,
            retrying: None,
            open: BTreeMap::new(),
            stderr: StandardError::default(),
        }
    }

    /// Reads a line of standard output. Returns false if it is not an event and remains raw output.
    fn stdout(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let parsed = transcript::objects("codex", line, events, |event, events| self.event(&event, events));
        if let Some(known) = &parsed.partial {
            self.incomplete(known, Unread::of(line), events);
        }
        parsed.covered
    }

    /// Handles a line that is incomplete.
    fn incomplete(&mut self, known: &Map<String, Value>, why: Unread, events: &mut Vec<Semantic>) {
        let field = |object: &Map<String, Value>, key: &str| {
            object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let item = known.get("item").and_then(Value::as_object);
        match field(known, "type").as_str() {
            "turn.completed" => self.completed(known, events),
            "turn.failed" => self.failed(known, events),
            "item.completed" => {
                if let Some(item) = item.filter(|item| field(item, "type") == "agent_message") {
                    self.answer = Some(field(item, "text"));
                    self.unread_message = Some(why);
                }
            }
            "" => self.unread = Some(why),
            _ => {}
        }
    }

    /// Reads an event. Returns false if it is unknown.
    fn event(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let Some(kind) = event.get("type").and_then(Value::as_str) else { return false };
        match kind {
            "thread.started" => return self.thread(event, events),
            "turn.started" => events.push(Semantic::Progress(notice(notices::TURN_STARTED, "the turn has started"))),
            "item.started" => return self.item(event, Phase::Started, events),
            "item.updated" => return self.item(event, Phase::Updated, events),
            "item.completed" => return self.item(event, Phase::Completed, events),
            "turn.completed" => self.completed(event, events),
            "turn.failed" => self.failed(event, events),
            "error" => self.error(event, events),
            _ => events.push(items::other(kind, event)),
        }
        true
    }

    fn thread(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let Some(id) = event.get("thread_id").and_then(Value::as_str).filter(|id| !id.is_empty()) else { return false };
        self.started = true;
        events.push(Semantic::Session(SessionInfo { id: id.to_owned(), origin: self.origin(id) }));
        true
    }

    /// codex reports the id of its thread, but not whether it is new. The ids contain their time, and so does that of the
    /// attempt: a thread that is newer than the attempt is new.
    fn origin(&self, id: &str) -> SessionOrigin {
        let newer = session::is_newer(id, &self.fresh_id);
        match &self.requested_session {
            Some(requested) if requested.eq_ignore_ascii_case(id) => SessionOrigin::Resumed,
            // A thread can also be resumed by its name.
            Some(requested) if !session::is_uuid(requested) && newer == Some(false) => SessionOrigin::Resumed,
            Some(_) => SessionOrigin::Replaced,
            None if !self.continues => SessionOrigin::Fresh,
            None if newer == Some(true) => SessionOrigin::Replaced,
            None => SessionOrigin::Resumed,
        }
    }

    fn item(&mut self, event: &Map<String, Value>, phase: Phase, events: &mut Vec<Semantic>) -> bool {
        let Some(item) = event.get("item").and_then(Value::as_object) else { return false };
        let field = |key: &str| item.get(key).and_then(Value::as_str);
        let (Some(id), Some(kind)) = (field("id"), field("type")) else { return false };
        if kind != "error" {
            self.retrying = None;
        }
        match items::read(id, kind, item, phase) {
            Meaning::Message(text) => {
                self.answer = Some(text.clone());
                self.unread_message = None;
                events.push(Semantic::Text(piece(id, &text, None)));
            }
            Meaning::Thinking(text) => events.push(Semantic::Thinking(piece(id, &text, None))),
            Meaning::Tool { call, progress, result } => {
                let known = self.open.contains_key(id);
                if !known {
                    events.push(Semantic::ToolStart(call));
                }
                match result {
                    Some(result) => {
                        self.open.remove(id);
                        events.push(Semantic::ToolResult(result));
                    }
                    None => self.progress(id, &progress, known, events),
                }
            }
            Meaning::Event(event) => events.push(event),
            Meaning::Nothing => {}
        }
        true
    }

    fn progress(&mut self, id: &str, output: &str, known: bool, events: &mut Vec<Semantic>) {
        if !known && self.open.len() >= OPEN_TOOLS {
            return;
        }
        let shown = self.open.entry(id.to_owned()).or_default();
        if let Some(more) = output.get(*shown..).filter(|more| !more.is_empty()) {
            *shown = output.len();
            events.push(items::delta(id, more));
        }
    }

    fn completed(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) {
        if let Some(usage) = event.get("usage").and_then(Value::as_object) {
            let count = |key: &str| usage.get(key).and_then(Value::as_u64);
            events.push(Semantic::Usage(Usage {
                whole_session: true,
                input_tokens: count("input_tokens"),
                cached_input_tokens: count("cached_input_tokens"),
                cache_write_tokens: count("cache_write_input_tokens"),
                output_tokens: count("output_tokens"),
                reasoning_tokens: count("reasoning_output_tokens"),
                ..Usage::default()
            }));
        }
        self.turn = Turn::Completed;
        events.push(Semantic::TurnComplete(TurnEnd {
            status: TurnStatus::Completed,
            text: self.answer.clone(),
            message: None,
        }));
        events.push(work_done(&[]));
    }

    fn failed(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) {
        let message = event.get("error").and_then(|error| error.get("message")).and_then(Value::as_str);
        let message =
            message.map_or_else(|| self.error.clone().unwrap_or_else(|| "the turn failed".to_owned()), str::to_owned);
        self.turn = Turn::Failed(message.clone());
        events.push(Semantic::TurnComplete(TurnEnd {
            status: TurnStatus::Failed,
            text: None,
            message: Some(failure::readable(&message)),
        }));
        events.push(work_done(&[]));
    }

    fn error(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) {
        let message = event.get("message").and_then(Value::as_str).unwrap_or_default();
        let Some(retry) = message.strip_prefix("Reconnecting...") else {
            self.error = Some(message.to_owned());
            events.push(Semantic::Error(notice(notices::REQUEST_FAILED, &failure::readable(message))));
            return;
        };
        self.retrying = Some(shorten(message, KEPT_BYTES));
        let status = http_status(message);
        let mut numbers = retry.trim_start().split(|c: char| !c.is_ascii_digit());
        let (attempt, most) = (numbers.next(), numbers.next());
        let number = |text: Option<&str>| text.and_then(|digits| digits.parse::<u32>().ok());
        let facts = json!({ "attempt": number(attempt), "maxAttempts": number(most), "status": status });
        events.push(Semantic::Progress(notice_with(notices::RECONNECTING, message, &facts)));
        if status == Some(429) {
            let retry = wait_ms(message).map(ostler_plugin::provider::RetryTime::AfterMs);
            events.push(Semantic::RateLimited(RateLimit { message: message.to_owned(), retry }));
        }
    }

    /// Reads a line of standard error. Returns whether the events contain its complete content, or it has none.
    fn stderr(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let text = strip_ansi(&line.text);
        let text = text.trim();
        if text.is_empty() {
            return false;
        }
        if NOISE.iter().any(|noise| text.starts_with(noise)) {
            return true;
        }
        self.stderr.keep(text);
        match text.strip_prefix("warning: ") {
            Some(message) if !line.truncated => {
                events.push(Semantic::Warning(items::warning(message)));
                true
            }
            _ => false,
        }
    }

    fn failure(&self, exit: &ExitStatus) -> Option<Failure> {
        // The host knows the reason if it has ended the run.
        if exit.canceled || exit.timed_out {
            return None;
        }
        match &self.turn {
            Turn::Failed(message) => return Some(failure::turn(message)),
            // After the last event, or if the host has ended codex, the exit code has no meaning.
            Turn::Completed if self.error.is_none() || exit.code == Some(0) || exit.signal.or(exit.code).is_none() => {
                return self.unread_message.map(|why| why.failure("codex's last message"));
            }
            _ => {}
        }
        if let Some(error) = &self.error {
            return Some(failure::turn(error));
        }
        let resumed = (self.requested_session.is_some() || self.continues) && !self.started;
        let explained = failure::from_stderr(self.stderr.lines(), resumed);
        if exit.code != Some(0)
            && let Some(failure) = explained
        {
            return Some(failure);
        }
        let last_line = self.retrying.as_deref().or(self.stderr.last());
        if exit.code == Some(0)
            && let Some(why) = self.unread
        {
            return Some(why.failure("a line of codex, which may have been its last,"));
        }
        Some(transcript::ended_early("codex", exit, "before its turn was done", last_line))
    }
}

impl Transcript for ExecTranscript {
    fn read(&mut self, lines: Vec<Line>) -> Step {
        transcript::step(&lines, |stream, line, events| match stream {
            OutputStream::Stdout => self.stdout(line, events),
            OutputStream::Stderr => self.stderr(line, events),
        })
    }

    fn finish(&mut self, exit: ExitStatus, _files: Vec<CollectedFile>) -> Outcome {
        let structured = self.answer.as_deref().filter(|_| self.wants_structure && self.turn == Turn::Completed);
        Outcome {
            structured_output: structured.and_then(answer::json),
            failure: self.failure(&exit),
            final_text: self.answer.take(),
            extra: None,
        }
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
pub(crate) mod tests;
