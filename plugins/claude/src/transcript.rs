//! Transcript of `claude --print --output-format stream-json --include-partial-messages`.

use std::collections::BTreeMap;

use ostler_plugin::provider::{
    CollectedFile, ExitStatus, Failure, FailureKind, Line, Outcome, OutputStream, RunRequest, Semantic, SessionInfo,
    SessionOrigin, Step, TurnEnd, TurnStatus,
};
use ostler_plugin::vocabulary::{failures, notices};
use ostler_plugin::{Transcript, strip_ansi};
use ostler_provider_kit::events::{notice, piece, stop, work_done};
use ostler_provider_kit::failure::{failure, shorten};
use ostler_provider_kit::json_lines::ends_with_member;
use ostler_provider_kit::payload::Payload;
use ostler_provider_kit::transcript::{self, KEPT_BYTES, KEPT_LINES, StandardError, Unread};
use ostler_provider_kit::{answer, session};
use serde_json::{Map, Value};

use crate::background::Background;
use crate::bounds::{self, Bounds};
use crate::denials::Denials;
use crate::end::End;
use crate::failure::{self, Request};
use crate::items;
use crate::usage::Meter;
use crate::{flags, system};

/// Maximum number of agents (the main one and its sub-agents) whose messages are followed.
const OPEN_AGENTS: usize = 256;

/// What claude sends to the model, and then prints as the answer, if an answer does not match the schema.
const ENFORCER: &str = "[structured-output-enforce]";

/// Members that only the last line has, at any position of its `type`.
const LAST_LINE: [&str; 4] = ["total_cost_usd", "modelUsage", "terminal_reason", "permission_denials"];

/// Follows one attempt of `claude --print`.
#[derive(Debug)]
pub struct PrintTranscript {
    requested_session: Option<String>,
    continues: bool,
    forks: bool,
    wants_structure: bool,
    /// How the session started according to claude: `startup`, `resume`. Only a hook reports it.
    began_as: Option<String>,
    reported_session: bool,
    /// The current message of each agent, by the tool use that started the sub-agent; none for the main agent.
    agents: BTreeMap<String, Message>,
    /// Ids of structured answers of the model, until claude has accepted or rejected them.
    structured_uses: Vec<String>,
    meter: Meter,
    /// The last text of the main agent.
    answer: Option<String>,
    /// The last failed request: its text and claude's error code.
    failed_request: Option<(String, String)>,
    resets_at_ms: Option<u64>,
    end: Option<End>,
    /// Whether the last line was read, and no other turn has started since.
    pub(crate) turn_over: bool,
    pub(crate) background: Background,
    bounds: Bounds,
    pub(crate) denials: Denials,
    /// Why a line could not be read that may have been the last one.
    unread: Option<Unread>,
    stderr: StandardError,
}

/// A message of the model that is not complete.
#[derive(Debug, Default)]
struct Message {
    id: String,
    /// Number of the current block of the stream.
    open: Option<u64>,
    /// Number of the block after the last complete one.
    next: u64,
    /// Whether a part of its text was emitted.
    has_text: bool,
    /// Whether it is complete, or its last block was received as a whole.
    whole: bool,
}

impl PrintTranscript {
    pub(crate) fn new(request: &RunRequest) -> Self {
        // The host has called `prepare` with the same payload, so it is valid.
        let payload = Payload::parse(&request.payload).unwrap_or_default();
        Self {
            requested_session: request.resume_session.clone(),
            continues: request.resume_session.is_none() && payload.harness.continue_session == Some(true),
            forks: flags::is_on(&payload.optional_flags, flags::FORK_SESSION),
            wants_structure: payload.harness.structured_output.is_some(),
            began_as: None,
            reported_session: false,
            agents: BTreeMap::new(),
            structured_uses: Vec::new(),
            meter: Meter::default(),
            answer: None,
            failed_request: None,
            resets_at_ms: None,
            end: None,
            turn_over: false,
            background: Background::default(),
            bounds: Bounds::new(payload.harness.limits.max_turns, payload.harness.structured_output.is_some()),
            denials: Denials::default(),
            unread: None,
            stderr: StandardError::default(),
        }
    }

    /// The id of the session, if it is known before claude reports it. `fresh` is that of a new session.
    pub(crate) fn expected_session(&self, fresh: &str) -> Option<String> {
        match &self.requested_session {
            _ if self.forks || self.continues => None,
            Some(requested) => Some(requested.clone()).filter(|id| session::is_uuid(id)),
            None => Some(fresh.to_owned()),
        }
    }

    /// The session is reported now.
    pub(crate) fn report_session(&mut self, id: &str) -> SessionOrigin {
        self.reported_session = true;
        self.origin(id)
    }

    /// More than one turn will be read.
    pub(crate) fn expect_many_turns(&mut self) {
        self.meter.many_turns();
    }

    /// Another turn of a session begins: what is known is about the one before.
    pub(crate) fn begin_turn(&mut self) {
        (self.end, self.answer, self.failed_request, self.unread) = (None, None, None, None);
    }

    /// What may explain an unexpected end.
    pub(crate) fn last_line(&self) -> Option<&str> {
        self.failed_request.as_ref().map(|(text, _)| text.as_str()).or(self.stderr.last())
    }

    /// Reads a line of standard output. Returns false if it is not an event and remains raw output.
    fn stdout(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let parsed = transcript::objects("claude", line, events, |event, events| self.event(&event, events));
        if let Some(known) = &parsed.partial {
            self.incomplete(known, Unread::of(line), events);
        }
        parsed.covered
    }

    /// Handles a line that is incomplete.
    pub(crate) fn incomplete(&mut self, known: &Map<String, Value>, why: Unread, events: &mut Vec<Semantic>) {
        match known.get("type").and_then(Value::as_str) {
            Some("result") => self.result(known, Some(why), events),
            // Its type can come after the known part.
            None if LAST_LINE.iter().any(|member| known.contains_key(*member)) => {
                self.result(known, Some(why), events);
            }
            None => self.unread = Some(why),
            Some(_) => {}
        }
    }

    /// Reads an event. Returns false if it is unknown.
    pub(crate) fn event(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let Some(kind) = event.get("type").and_then(Value::as_str) else { return false };
        self.session(kind, event, events);
        match kind {
            "system" => return self.system(event, events),
            "stream_event" => return self.partial(event, events),
            "assistant" => return self.assistant(event, events),
            "user" => return self.user(event, events),
            "result" => self.result(event, None, events),
            "rate_limit_event" => self.resets_at_ms = system::limits(event, events).or(self.resets_at_ms),
            _ => events.push(items::other(kind, event)),
        }
        true
    }

    /// Reads a line of type `system`. Between two turns, it can report that a background task has ended, or that another
    /// turn starts.
    fn system(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        if event.get("subtype").and_then(Value::as_str) == Some("init") {
            self.turn_over = false;
            if let Some(version) = event.get("claude_code_version").and_then(Value::as_str) {
                self.meter.version(version);
            }
        }
        if event.get("subtype").and_then(Value::as_str) == Some("permission_denied") {
            events.extend(self.denials.event(event).map(Semantic::Warning));
        }
        let changed = self.background.update(event);
        let covered = system::read(event, events);
        if changed && self.turn_over {
            events.push(work_done(&self.background.open()));
        }
        covered
    }

    /// Every line contains the session. It is reported with the first line that requires an existing session: hooks run
    /// earlier and report how it started, and a session that is not found has only a last line.
    fn session(&mut self, kind: &str, event: &Map<String, Value>, events: &mut Vec<Semantic>) {
        let subtype = event.get("subtype").and_then(Value::as_str).unwrap_or_default();
        let hook = matches!(subtype, "hook_started" | "hook_response" | "hook_progress");
        if hook && let Some(name) = event.get("hook_name").and_then(Value::as_str) {
            self.began_as = name.strip_prefix("SessionStart:").map(str::to_owned).or(self.began_as.take());
        }
        if self.reported_session || hook || !matches!(kind, "system" | "assistant" | "user" | "stream_event") {
            return;
        }
        let Some(id) = event.get("session_id").and_then(Value::as_str).filter(|id| !id.is_empty()) else { return };
        self.reported_session = true;
        events.push(Semantic::Session(SessionInfo { id: id.to_owned(), origin: self.origin(id) }));
    }

    fn origin(&self, id: &str) -> SessionOrigin {
        match &self.requested_session {
            Some(_) if self.forks => SessionOrigin::Forked,
            Some(requested) if requested.eq_ignore_ascii_case(id) => SessionOrigin::Resumed,
            // A session can also be resumed by its title, and claude fails if there is none.
            Some(requested) if !session::is_uuid(requested) => SessionOrigin::Resumed,
            Some(_) => SessionOrigin::Replaced,
            None if !self.continues => SessionOrigin::Fresh,
            // If there is no session to continue, claude starts one and reports that to its hooks only.
            None if self.began_as.as_deref() == Some("startup") => SessionOrigin::Replaced,
            None if self.forks => SessionOrigin::Forked,
            None => SessionOrigin::Resumed,
        }
    }

    /// The message state of an agent. Above the limit, all share one entry, so that memory is bounded.
    fn agent(&mut self, parent: Option<&str>) -> &mut Message {
        let key = parent.unwrap_or_default();
        let key = if self.agents.contains_key(key) || self.agents.len() < OPEN_AGENTS { key } else { "" };
        self.agents.entry(key.to_owned()).or_default()
    }

    /// Reads a `stream_event`: an event of the API's own stream.
    fn partial(&mut self, line: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let parent = line.get("parent_tool_use_id").and_then(Value::as_str);
        let Some(event) = line.get("event") else { return false };
        match items::text(event, "type") {
            "message_start" => {
                let message = event.get("message").unwrap_or(&Value::Null);
                self.begin(items::text(message, "id"), parent, events);
                self.meter.begin(message.get("usage"));
                if parent.is_none() && self.bounds.begin() {
                    events.push(stop());
                }
            }
            "content_block_start" => self.agent(parent).open = event.get("index").and_then(Value::as_u64),
            "content_block_stop" => self.agent(parent).open = None,
            "content_block_delta" => self.delta(event, parent, events),
            "message_delta" => {
                let over = event.get("delta").and_then(|delta| delta.get("stop_reason")).is_some_and(Value::is_string);
                if over {
                    self.agent(parent).whole = true;
                }
                if over && parent.is_none() {
                    self.bounds.end();
                }
                if let Some(usage) = event.get("usage") {
                    events.push(Semantic::Usage(self.meter.update(usage)));
                }
            }
            "message_stop" | "ping" => {}
            _ => return false,
        }
        true
    }

    /// An agent begins a message. If its previous message is incomplete, that one broke off.
    fn begin(&mut self, id: &str, parent: Option<&str>, events: &mut Vec<Semantic>) {
        let before = std::mem::replace(self.agent(parent), Message { id: id.to_owned(), ..Message::default() });
        if before.has_text && !before.whole {
            let message = "the model's stream broke off in the middle of a text, which is not part of the answer";
            events.push(Semantic::Warning(notice(notices::REQUEST_FAILED, message)));
        }
    }

    fn delta(&mut self, event: &Value, parent: Option<&str>, events: &mut Vec<Semantic>) {
        let delta = event.get("delta").unwrap_or(&Value::Null);
        let index = event.get("index").and_then(Value::as_u64).unwrap_or_default();
        let id = format!("{}:{index}", self.agent(parent).id);
        match items::text(delta, "type") {
            "text_delta" => {
                let agent = self.agent(parent);
                agent.has_text = true;
                // Earlier blocks can be complete, such as the model's thinking.
                agent.whole = false;
                events.push(Semantic::TextDelta(piece(&id, items::text(delta, "text"), parent)));
            }
            "thinking_delta" => {
                events.push(Semantic::ThinkingDelta(piece(&id, items::text(delta, "thinking"), parent)));
            }
            // The input of a tool is received as a whole, and signatures and citations are for the API.
            _ => {}
        }
    }

    /// Reads a line of type `assistant`: one complete block of a message.
    fn assistant(&mut self, line: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let parent = line.get("parent_tool_use_id").and_then(Value::as_str);
        let Some(message) = line.get("message") else { return false };
        let Some(blocks) = message.get("content").and_then(Value::as_array) else { return false };
        let id = items::text(message, "id");
        let error = line.get("error").and_then(Value::as_str);
        if self.agent(parent).id != id {
            self.begin(id, parent, events);
        }
        for block in blocks {
            let agent = self.agent(parent);
            let index = agent.open.unwrap_or(agent.next);
            agent.next = index.saturating_add(1);
            agent.whole = true;
            let id = format!("{}:{index}", agent.id);
            match items::text(block, "type") {
                "text" => {
                    let text = items::text(block, "text");
                    if let Some(word) = error {
                        events.push(Semantic::Error(notice(notices::REQUEST_FAILED, text)));
                        self.failed_request = Some((shorten(text, KEPT_BYTES), word.to_owned()));
                    } else {
                        if parent.is_none() {
                            self.answer = Some(text.to_owned());
                        }
                        events.push(Semantic::Text(piece(&id, text, parent)));
                    }
                }
                "thinking" => events.push(Semantic::Thinking(piece(&id, items::text(block, "thinking"), parent))),
                "tool_use" | "server_tool_use" | "mcp_tool_use" => self.tool_use(block, parent, events),
                kind => {
                    let empty = Map::new();
                    events.push(items::other(&format!("assistant.{kind}"), block.as_object().unwrap_or(&empty)));
                }
            }
        }
        true
    }

    /// Reads the last line. `cut`: why it is incomplete.
    fn result(&mut self, event: &Map<String, Value>, cut: Option<Unread>, events: &mut Vec<Semantic>) {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let errors = event.get("errors").and_then(Value::as_array);
        let status = event.get("api_error_status").and_then(Value::as_u64);
        let subtype = word("subtype");
        let text = event.get("result").and_then(Value::as_str);
        let shorter = cut.is_some() && ends_with_member(event, "result");
        // The complete answer was received before.
        let beginning = text.filter(|text| shorter && !text.is_empty());
        let answer = self.answer.as_deref().filter(|answer| beginning.is_some_and(|text| answer.starts_with(text)));
        let success = event.get("is_error").and_then(Value::as_bool);
        let structured = event.get("structured_output").filter(|value| !value.is_null());
        let known = success == Some(false)
            && (answer.is_some() || text.is_some() && !shorter)
            && (!self.wants_structure || structured.is_some() && !ends_with_member(event, "structured_output"));
        let end = End {
            // Without a word of success, it is not a success.
            is_error: success.unwrap_or(cut.is_none()) || subtype.starts_with("error"),
            subtype,
            terminal_reason: word("terminal_reason"),
            status: status.and_then(|status| u16::try_from(status).ok()),
            error_type: word("api_error_type"),
            turns: event.get("num_turns").and_then(Value::as_u64),
            text: answer.or(text).map(str::to_owned),
            structured: structured.cloned(),
            unread: cut.filter(|_| !known),
            errors: errors
                .into_iter()
                .flatten()
                .filter_map(Value::as_str)
                .take(KEPT_LINES)
                .map(|error| shorten(error, KEPT_BYTES))
                .collect(),
        };
        for denial in event.get("permission_denials").and_then(Value::as_array).into_iter().flatten() {
            events.extend(self.denials.listed(denial).map(Semantic::Warning));
        }
        events.push(Semantic::Usage(self.meter.total(event)));
        let answer = self.answer_of(&end);
        events.push(Semantic::TurnComplete(TurnEnd {
            status: match (end.is_error, end.interrupted(), end.unread) {
                (false, _, None) => TurnStatus::Completed,
                (true, true, _) => TurnStatus::Interrupted,
                (true, false, _) | (false, _, Some(_)) => TurnStatus::Failed,
            },
            text: answer.filter(|_| !end.is_error),
            message: if end.is_error { Some(end.message()) } else { end.unread().map(|failure| failure.message) },
        }));
        self.end = Some(end);
        self.turn_over = true;
        self.bounds.turn_over();
        let queued = event.get("queued_turn_count").and_then(Value::as_u64).unwrap_or_default();
        if queued == 0 {
            events.push(work_done(&self.background.open()));
        }
    }

    /// The answer of the run. A message of claude instead of an answer is not one.
    fn answer_of(&self, end: &End) -> Option<String> {
        if end.refused_command() {
            return None;
        }
        let text = end.text.as_ref().filter(|text| !end.is_error && !text.starts_with(ENFORCER));
        text.or(self.answer.as_ref()).cloned()
    }

    /// Reads a line of standard error. Returns whether the events contain its complete content.
    pub(crate) fn stderr(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let text = strip_ansi(&line.text);
        let text = text.trim();
        if text.is_empty() {
            return false;
        }
        self.stderr.keep(text);
        match text.strip_prefix("Warning: ") {
            Some(message) if !line.truncated => {
                events.push(Semantic::Warning(notice(notices::OTHER, message)));
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
        if let Some(failure) = self.bounds.failure() {
            return Some(failure);
        }
        let resumes = (self.requested_session.is_some() || self.continues) && !self.reported_session;
        match &self.end {
            Some(end) if end.is_error => return Some(self.failure_of(end, resumes)),
            Some(end) if end.refused_command() => return Some(failure::command(&end.message())),
            // After the last line, the exit code has no meaning.
            Some(end) => return end.unread(),
            None => {}
        }
        if exit.code != Some(0)
            && let Some(failure) = failure::from_lines(self.stderr.lines(), resumes)
        {
            return Some(failure);
        }
        let early = "before its work was done";
        let last_line = self.last_line();
        // The exit code after a signal that it handles.
        if (exit.code, exit.signal) == (Some(143), None) {
            let last_line = last_line.map_or_else(String::new, |line| format!(": {line}"));
            let message = format!("claude was asked to terminate {early}{last_line}");
            return Some(failure(FailureKind::Unknown, failures::INTERRUPTED, &message, None));
        }
        if exit.code == Some(0)
            && let Some(unread) = self.unread
        {
            return Some(unread.failure("a line of claude, which may have been its last,"));
        }
        Some(transcript::ended_early("claude", exit, early, last_line))
    }

    /// The failure according to the last line. A subtype `success` is not a success here.
    fn failure_of(&self, end: &End, resumes: bool) -> Failure {
        let message = end.message();
        match (end.subtype.as_str(), end.terminal_reason.as_str()) {
            ("error_max_turns", _) | (_, "max_turns") => {
                return failure(FailureKind::Limit, failures::MAX_TURNS, &message, Some(bounds::MORE_TURNS));
            }
            ("error_max_budget_usd", _) | (_, "budget_exhausted") => {
                let hint = "increase limits.maxBudgetUsd, or resume the session";
                return failure(FailureKind::Limit, failures::MAX_BUDGET, &message, Some(hint));
            }
            ("error_max_structured_output_retries", _) | (_, "structured_output_retry_exhausted") => {
                return failure(FailureKind::Limit, failures::STRUCTURED_OUTPUT, &message, None);
            }
            _ => {}
        }
        if end.interrupted() {
            return failure(FailureKind::Incomplete, failures::INTERRUPTED, &message, None);
        }
        if let Some(failure) = failure::from_lines(&end.errors, resumes) {
            return failure;
        }
        let word = self.failed_request.as_ref().map_or("", |(_, word)| word.as_str());
        failure::request(Request {
            message: &message,
            status: end.status,
            word,
            kind: &end.error_type,
            resets_at_ms: self.resets_at_ms,
        })
    }

    fn tool_use(&mut self, block: &Value, parent: Option<&str>, events: &mut Vec<Semantic>) {
        let (id, name) = (items::text(block, "id"), items::text(block, "name"));
        let input = block.get("input").unwrap_or(&Value::Null);
        if name == items::STRUCTURED_OUTPUT {
            let empty = Map::new();
            events.push(items::other("structured-output", input.as_object().unwrap_or(&empty)));
            if self.structured_uses.len() < OPEN_AGENTS {
                self.structured_uses.push(id.to_owned());
                return;
            }
            // Its result will not be recognized, and must belong to a tool use.
        }
        if parent.is_none() {
            self.bounds.works();
        }
        let call = items::call(id, name, input, parent);
        self.denials.used(&call);
        events.push(Semantic::ToolStart(call));
        events.extend(items::plan(name, input));
    }

    /// Reads a line of type `user`: results of tools, and messages that claude itself adds to the conversation.
    fn user(&mut self, line: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let Some(content) = line.get("message").and_then(|message| message.get("content")).and_then(Value::as_array)
        else {
            return false;
        };
        let beside = line.get("tool_use_result").unwrap_or(&Value::Null);
        let mut understood = true;
        for block in content {
            match items::text(block, "type") {
                "tool_result" => self.tool_result(block, beside, events),
                "text" if items::text(block, "text").starts_with("[Request interrupted") => {
                    events.push(Semantic::Progress(notice(notices::OTHER, "the turn was interrupted")));
                }
                // The prompt of a sub-agent is in the tool use that started it.
                "text" if line.get("parent_tool_use_id").is_some_and(Value::is_string) => {}
                _ => understood = false,
            }
        }
        understood
    }

    /// A result of the tool for structured answers is not a result of work.
    fn tool_result(&mut self, block: &Value, beside: &Value, events: &mut Vec<Semantic>) {
        let id = items::text(block, "tool_use_id");
        if let Some(place) = self.structured_uses.iter().position(|known| known == id) {
            self.structured_uses.swap_remove(place);
            if beside.as_str() != Some("Structured output provided successfully") {
                let empty = Map::new();
                events.push(items::other("structured-output-refused", block.as_object().unwrap_or(&empty)));
            }
        } else {
            events.push(Semantic::ToolResult(items::result(block, beside)));
        }
    }
}

impl Transcript for PrintTranscript {
    fn read(&mut self, lines: Vec<Line>) -> Step {
        transcript::step(&lines, |stream, line, events| match stream {
            OutputStream::Stdout => self.stdout(line, events),
            OutputStream::Stderr => self.stderr(line, events),
        })
    }

    fn finish(&mut self, exit: ExitStatus, _files: Vec<CollectedFile>) -> Outcome {
        Outcome { failure: self.failure(&exit), ..self.outcome() }
    }
}

impl PrintTranscript {
    /// The answers of the last turn.
    pub(crate) fn outcome(&self) -> Outcome {
        let text = self.end.as_ref().map_or_else(|| self.answer.clone(), |end| self.answer_of(end));
        let structured = self.end.as_ref().filter(|end| self.wants_structure && !end.is_error).and_then(|end| {
            let given = end.structured.as_ref().map(ToString::to_string);
            // A model that does not call the tool may still have answered with matching JSON.
            given.or_else(|| text.as_deref().and_then(answer::json))
        });
        Outcome { final_text: text, structured_output: structured, ..Outcome::default() }
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
pub(crate) mod tests;
