//! Reads the events of `claude --print --output-format stream-json --include-partial-messages`.

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
use crate::failure::{self, Request};
use crate::items;
use crate::usage::Meter;
use crate::{flags, system};

/// Agents (the main one and its sub-agents) whose messages are followed at once.
const OPEN_AGENTS: usize = 256;

/// What claude says to the model, and then shows as the answer, where the wanted form was not kept.
const ENFORCER: &str = "[structured-output-enforce]";

/// Members that the last line alone has, wherever its `type` stands.
const LAST_LINE: [&str; 4] = ["total_cost_usd", "modelUsage", "terminal_reason", "permission_denials"];

/// Follows one attempt of `claude --print`.
#[derive(Debug)]
pub struct PrintTranscript {
    asked_session: Option<String>,
    continues: bool,
    forks: bool,
    wants_structure: bool,
    /// How claude says the session began: `startup`, `resume`. Only a hook tells.
    began_as: Option<String>,
    told_session: bool,
    /// Messages under way, by the tool use whose sub-agent writes them; the main agent has none.
    agents: BTreeMap<String, Message>,
    /// Ids with which the model hands over structured answers, until claude has said what it makes of them.
    structured_uses: Vec<String>,
    meter: Meter,
    /// The last text of the main agent.
    answer: Option<String>,
    /// The last request that failed: text and claude's word for it.
    failed_request: Option<(String, String)>,
    resets_at_ms: Option<u64>,
    end: Option<End>,
    /// Whether the last line has come, and no other turn has begun since.
    turn_over: bool,
    background: Background,
    bounds: Bounds,
    denials: Denials,
    /// Why a line was not read that is not known to be another than the last.
    unread: Option<Unread>,
    stderr: StandardError,
}

/// A message of the model under way.
#[derive(Debug, Default)]
struct Message {
    id: String,
    /// Number of the block that the stream is in.
    open: Option<u64>,
    /// Number of the block after the last one that came whole.
    next: u64,
    /// Whether something of its text was shown.
    said: bool,
    /// Whether it came to its end, or its last block came whole.
    whole: bool,
}

/// The last line.
#[derive(Debug, Default)]
struct End {
    is_error: bool,
    subtype: String,
    terminal_reason: String,
    status: Option<u16>,
    /// The API's type of the error that ended the turn.
    error_type: String,
    /// Turns of the model.
    turns: Option<u64>,
    text: Option<String>,
    structured: Option<Value>,
    errors: Vec<String>,
    /// Why something of it that decides about the run is not known.
    unread: Option<Unread>,
}

impl End {
    fn interrupted(&self) -> bool {
        self.terminal_reason.starts_with("aborted")
    }

    /// Whether claude took the prompt for a command of its own that it has not, and asked no model. It calls that a
    /// success.
    fn refused_command(&self) -> bool {
        self.turns == Some(0)
            && self.text.as_ref().is_some_and(|text| {
                text.starts_with("Unknown command: /")
                    || (text.starts_with('/') && text.ends_with("isn't available in this environment."))
            })
    }

    /// The failure where what decides about the run was not read.
    fn unread(&self) -> Option<Failure> {
        self.unread.map(|unread| unread.failure("claude's last line"))
    }

    fn message(&self) -> String {
        // What claude notes for its own developers says nothing to anybody else.
        let mut said = self.errors.iter().filter(|error| !error.starts_with("[ede_diagnostic]")).map(String::as_str);
        if let Some(first) = said.next() {
            return said.fold(first.to_owned(), |all, error| format!("{all}; {error}"));
        }
        match &self.text {
            Some(text) if !text.is_empty() => text.clone(),
            _ if self.interrupted() => "the turn was interrupted".to_owned(),
            _ => format!("claude ended with {}", self.subtype),
        }
    }
}

impl PrintTranscript {
    pub(crate) fn new(request: &RunRequest) -> Self {
        // The host has called `prepare` with the same payload, so that it is one.
        let payload = Payload::parse(&request.payload).unwrap_or_default();
        Self {
            asked_session: request.resume_session.clone(),
            continues: request.resume_session.is_none() && payload.harness.continue_session == Some(true),
            forks: flags::is_on(&payload.optional_flags, flags::FORK_SESSION),
            wants_structure: payload.harness.structured_output.is_some(),
            began_as: None,
            told_session: false,
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

    /// A line of standard output. False where it is no event, and stays raw.
    fn stdout(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let heard = transcript::objects("claude", line, events, |event, events| self.event(&event, events));
        if let Some(known) = &heard.lost {
            self.lost(known, Unread::of(line), events);
        }
        heard.covered
    }

    /// A line that is not whole.
    fn lost(&mut self, known: &Map<String, Value>, why: Unread, events: &mut Vec<Semantic>) {
        match known.get("type").and_then(Value::as_str) {
            Some("result") => self.result(known, Some(why), events),
            // Its type can come after what is known.
            None if LAST_LINE.iter().any(|member| known.contains_key(*member)) => {
                self.result(known, Some(why), events);
            }
            None => self.unread = Some(why),
            Some(_) => {}
        }
    }

    /// An event. False where it is not understood.
    fn event(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
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

    /// A line of type `system`. Between two turns it can say that claude waits for less than before, or begins another.
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
        let changed = self.background.hear(event);
        let covered = system::read(event, events);
        if changed && self.turn_over {
            events.push(work_done(&self.background.open()));
        }
        covered
    }

    /// Every line names the session; the first of those that only a session that was found can have tells it. (Hooks
    /// come earlier and say how it began; a session that is not found has a last line only.)
    fn session(&mut self, kind: &str, event: &Map<String, Value>, events: &mut Vec<Semantic>) {
        let subtype = event.get("subtype").and_then(Value::as_str).unwrap_or_default();
        let hook = matches!(subtype, "hook_started" | "hook_response" | "hook_progress");
        if hook && let Some(name) = event.get("hook_name").and_then(Value::as_str) {
            self.began_as = name.strip_prefix("SessionStart:").map(str::to_owned).or(self.began_as.take());
        }
        if self.told_session || hook || !matches!(kind, "system" | "assistant" | "user" | "stream_event") {
            return;
        }
        let Some(id) = event.get("session_id").and_then(Value::as_str).filter(|id| !id.is_empty()) else { return };
        self.told_session = true;
        events.push(Semantic::Session(SessionInfo { id: id.to_owned(), origin: self.origin(id) }));
    }

    fn origin(&self, id: &str) -> SessionOrigin {
        match &self.asked_session {
            Some(_) if self.forks => SessionOrigin::Forked,
            Some(asked) if asked.eq_ignore_ascii_case(id) => SessionOrigin::Resumed,
            // A session can be asked for by its title, too, and claude fails where it finds none.
            Some(asked) if !session::is_uuid(asked) => SessionOrigin::Resumed,
            Some(_) => SessionOrigin::Replaced,
            None if !self.continues => SessionOrigin::Fresh,
            // With no session to go on from, claude begins one and says so to its hooks only.
            None if self.began_as.as_deref() == Some("startup") => SessionOrigin::Replaced,
            None if self.forks => SessionOrigin::Forked,
            None => SessionOrigin::Resumed,
        }
    }

    /// The messages of an agent. Past the limit all share one place, so that memory stays bounded.
    fn agent(&mut self, parent: Option<&str>) -> &mut Message {
        let key = parent.unwrap_or_default();
        let key = if self.agents.contains_key(key) || self.agents.len() < OPEN_AGENTS { key } else { "" };
        self.agents.entry(key.to_owned()).or_default()
    }

    /// A `stream_event`: an event of the API's own stream.
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

    /// An agent begins a message. One that it was in the middle of has broken off.
    fn begin(&mut self, id: &str, parent: Option<&str>, events: &mut Vec<Semantic>) {
        let before = std::mem::replace(self.agent(parent), Message { id: id.to_owned(), ..Message::default() });
        if before.said && !before.whole {
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
                agent.said = true;
                // Blocks before it may have come whole, such as the model's thinking.
                agent.whole = false;
                events.push(Semantic::TextDelta(piece(&id, items::text(delta, "text"), parent)));
            }
            "thinking_delta" => {
                events.push(Semantic::ThinkingDelta(piece(&id, items::text(delta, "thinking"), parent)));
            }
            // The input of a tool comes whole, and signatures and citations are for the API.
            _ => {}
        }
    }

    /// A line of type `assistant`: one block of a message, whole.
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

    /// The last line. `cut`: why it is not whole.
    fn result(&mut self, event: &Map<String, Value>, cut: Option<Unread>, events: &mut Vec<Semantic>) {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
        let errors = event.get("errors").and_then(Value::as_array);
        let status = event.get("api_error_status").and_then(Value::as_u64);
        let subtype = word("subtype");
        let text = event.get("result").and_then(Value::as_str);
        let shorter = cut.is_some() && ends_with_member(event, "result");
        // The answer has come before, whole.
        let beginning = text.filter(|text| shorter && !text.is_empty());
        let answer = self.answer.as_deref().filter(|answer| beginning.is_some_and(|text| answer.starts_with(text)));
        let success = event.get("is_error").and_then(Value::as_bool);
        let structured = event.get("structured_output").filter(|value| !value.is_null());
        let known = success == Some(false)
            && (answer.is_some() || text.is_some() && !shorter)
            && (!self.wants_structure || structured.is_some() && !ends_with_member(event, "structured_output"));
        let end = End {
            // No word of success is none.
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

    /// The run's answer; what claude says itself in place of one is none.
    fn answer_of(&self, end: &End) -> Option<String> {
        if end.refused_command() {
            return None;
        }
        let said = end.text.as_ref().filter(|text| !end.is_error && !text.starts_with(ENFORCER));
        said.or(self.answer.as_ref()).cloned()
    }

    /// A line of standard error. True where its whole meaning is in the events.
    fn stderr(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
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
        // Whoever ended the run knows why.
        if exit.canceled || exit.timed_out {
            return None;
        }
        if let Some(failure) = self.bounds.failure() {
            return Some(failure);
        }
        let resumes = (self.asked_session.is_some() || self.continues) && !self.told_session;
        match &self.end {
            Some(end) if end.is_error => return Some(self.told(end, resumes)),
            Some(end) if end.refused_command() => return Some(failure::command(&end.message())),
            // An exit code after the last line says nothing about the work.
            Some(end) => return end.unread(),
            None => {}
        }
        if exit.code != Some(0)
            && let Some(failure) = failure::from_words(self.stderr.lines(), resumes)
        {
            return Some(failure);
        }
        let early = "before its work was done";
        let said = self.failed_request.as_ref().map(|(text, _)| text.as_str()).or(self.stderr.last());
        // How it ends by a signal that it catches.
        if (exit.code, exit.signal) == (Some(143), None) {
            let said = said.map_or_else(String::new, |line| format!(": {line}"));
            let message = format!("claude was told to terminate {early}{said}");
            return Some(failure(FailureKind::Unknown, failures::INTERRUPTED, &message, None));
        }
        if exit.code == Some(0)
            && let Some(unread) = self.unread
        {
            return Some(unread.failure("a line of claude, which may have been its last,"));
        }
        Some(transcript::ended_early("claude", exit, early, said))
    }

    /// What the last line says of a run that failed; `success` there is no success.
    fn told(&self, end: &End, resumes: bool) -> Failure {
        let message = end.message();
        match (end.subtype.as_str(), end.terminal_reason.as_str()) {
            ("error_max_turns", _) | (_, "max_turns") => {
                return failure(FailureKind::Limit, failures::MAX_TURNS, &message, Some(bounds::MORE_TURNS));
            }
            ("error_max_budget_usd", _) | (_, "budget_exhausted") => {
                let hint = "raise limits.maxBudgetUsd, or resume the session";
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
        if let Some(failure) = failure::from_words(&end.errors, resumes) {
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
            // Its result will not be recognized, and must belong to something.
        }
        if parent.is_none() {
            self.bounds.works();
        }
        let call = items::call(id, name, input, parent);
        self.denials.used(&call);
        events.push(Semantic::ToolStart(call));
        events.extend(items::plan(name, input));
    }

    /// A line of type `user`: results of tools, and what claude puts into the conversation itself.
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
                // What a sub-agent is told stands in the tool use that began it.
                "text" if line.get("parent_tool_use_id").is_some_and(Value::is_string) => {}
                _ => understood = false,
            }
        }
        understood
    }

    /// What the structured answer's tool says is no result of work.
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
        let failure = self.failure(&exit);
        let text = self.end.as_ref().map_or_else(|| self.answer.clone(), |end| self.answer_of(end));
        let structured = self.end.as_ref().filter(|end| self.wants_structure && !end.is_error).and_then(|end| {
            let given = end.structured.as_ref().map(ToString::to_string);
            // A model that does not call the tool may still have answered in the wanted form.
            given.or_else(|| text.as_deref().and_then(answer::json))
        });
        Outcome { final_text: text, structured_output: structured, failure, extra: None }
    }
}

#[cfg(test)]
#[path = "transcript_tests.rs"]
pub(crate) mod tests;
