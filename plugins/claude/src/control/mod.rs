//! Transcript of claude's control protocol: `stream-json` in both directions.
//!
//! Standard output has the lines of `--print`, which [`PrintTranscript`] reads, and the messages of the protocol. [`requests`]
//! writes to claude, [`approvals`] translates what it asks, and [`turns`] follows what it does: `result` ends a turn, not the run.

mod approvals;
mod edits;
mod requests;
mod turns;

use ostler_plugin::provider::{
    Capabilities, CollectedFile, Decision, ExitStatus, Failure, FailureKind, Line, Outcome, OutputStream, RunRequest,
    Semantic, SessionInfo, Step,
};
use ostler_plugin::vocabulary::{failures, notices};
use ostler_plugin::{Error, Transcript};
use ostler_provider_kit::duplex::Duplex;
use ostler_provider_kit::events::{notice, stop, work_done};
use ostler_provider_kit::failure::{failure, shorten};
use ostler_provider_kit::payload::Payload;
use ostler_provider_kit::transcript::{self, KEPT_BYTES, Unread};
use serde_json::{Map, Value};

use self::approvals::{Approvals, ToolFilter};
use self::requests::{INITIALIZE, Outbox};
use self::turns::Turns;
use crate::detect::Detected;
use crate::items::text;
use crate::prepare;
use crate::transcript::PrintTranscript;

/// Follows one attempt.
#[derive(Debug)]
pub enum ClaudeTranscript {
    /// Of `claude --print`, with its prompt on standard input.
    Print(Box<PrintTranscript>),
    /// With the control protocol.
    Control(Box<ControlTranscript>),
}

impl ClaudeTranscript {
    pub(crate) fn new(request: &RunRequest, capabilities: &Capabilities) -> Self {
        let detected = Detected::of(capabilities).unwrap_or_default();
        match prepare::control(request, &detected) {
            Some(duplex) => Self::Control(Box::new(ControlTranscript::new(request, duplex))),
            None => Self::Print(Box::new(PrintTranscript::new(request))),
        }
    }
}

impl Transcript for ClaudeTranscript {
    fn open(&mut self) -> Step {
        match self {
            Self::Print(print) => print.open(),
            Self::Control(control) => control.open(),
        }
    }

    fn read(&mut self, lines: Vec<Line>) -> Step {
        match self {
            Self::Print(print) => print.read(lines),
            Self::Control(control) => control.read(&lines),
        }
    }

    fn input(&mut self, message: String) -> Result<Step, Error> {
        match self {
            Self::Print(print) => print.input(message),
            Self::Control(control) => Ok(control.input(message)),
        }
    }

    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        match self {
            Self::Print(print) => print.decide(request_id, decision),
            Self::Control(control) => control.decide(&request_id, &decision),
        }
    }

    fn interrupt(&mut self) -> Result<Step, Error> {
        match self {
            Self::Print(print) => print.interrupt(),
            Self::Control(control) => Ok(control.interrupt()),
        }
    }

    fn finish(&mut self, exit: ExitStatus, files: Vec<CollectedFile>) -> Outcome {
        match self {
            Self::Print(print) => print.finish(exit, files),
            Self::Control(control) => control.finish(&exit),
        }
    }
}

/// Whether claude takes messages.
#[derive(Debug, PartialEq)]
enum Handshake {
    /// It has not answered yet.
    Open,
    Done,
    /// It cannot do what the run needs, and the host ends it.
    Refused(Box<Failure>),
}

/// Follows one attempt with the control protocol.
#[derive(Debug)]
pub struct ControlTranscript {
    duplex: Duplex,
    handshake: Handshake,
    /// Messages that wait for the handshake.
    waiting: Vec<String>,
    /// The id of the session, if it is known before claude reports it.
    session: Option<String>,
    /// Whether `init` was read, which lists the MCP servers; it is repeated in each turn.
    initialized: bool,
    print: PrintTranscript,
    out: Outbox,
    approvals: Approvals,
    turns: Turns,
    end_input: bool,
}

impl ControlTranscript {
    fn new(request: &RunRequest, duplex: Duplex) -> Self {
        // The host has called `prepare` with the same payload, so it is valid.
        let payload = Payload::parse(&request.payload).unwrap_or_default();
        let first = prepare::first_message(request, &payload.harness);
        let empty = duplex.interactive && request.prompt.trim().is_empty();
        let mut print = PrintTranscript::new(request);
        print.expect_many_turns();
        Self {
            duplex,
            handshake: Handshake::Open,
            waiting: if empty { Vec::new() } else { vec![first] },
            session: print.expected_session(&request.fresh_id),
            initialized: false,
            print,
            out: Outbox::new(&request.fresh_id),
            approvals: Approvals::new(ToolFilter::new(&payload.harness.mcp)),
            turns: Turns::default(),
            end_input: false,
        }
    }

    fn open(&mut self) -> Step {
        let events = vec![self.out.initialize(self.duplex.every_tool)];
        self.step(events, Vec::new())
    }

    /// Adds what is to be written.
    fn step(&mut self, events: Vec<Semantic>, covered: Vec<u32>) -> Step {
        Step { events, covered, write: self.out.take(), end_input: std::mem::take(&mut self.end_input) }
    }

    /// Reports a change of the state, and what follows from it.
    fn settle(&mut self, events: &mut Vec<Semantic>) {
        if self.handshake != Handshake::Done {
            return;
        }
        if !self.turns.running() {
            // claude does not wait for the answers any more.
            events.extend(self.approvals.withdraw_all(&mut self.out));
        }
        let background = self.print.background.open();
        let Some(state) = self.turns.changed(background.len()) else { return };
        events.push(state);
        // A turn that claude begins by itself cancels the notice; without one, the host ends claude.
        let waking = self.turns.waking();
        if self.duplex.interactive || !self.turns.has_result() || self.turns.running() && !waking {
            return;
        }
        events.push(work_done(&background));
        self.end_input |= background.is_empty() && !waking;
    }

    fn read(&mut self, lines: &[Line]) -> Step {
        let step = transcript::step(lines, |stream, line, events| match stream {
            OutputStream::Stdout => self.stdout(line, events),
            OutputStream::Stderr => self.print.stderr(line, events),
        });
        self.step(step.events, step.covered)
    }

    fn stdout(&mut self, line: &Line, events: &mut Vec<Semantic>) -> bool {
        let parsed = transcript::objects("claude", line, events, |event, events| {
            let covered = self.event(&event, events);
            self.settle(events);
            covered
        });
        if let Some(known) = &parsed.partial {
            self.incomplete(known, line, events);
            self.settle(events);
        }
        parsed.covered
    }

    /// Handles a line that is incomplete. A request in it is refused: without an answer, claude would wait forever.
    fn incomplete(&mut self, known: &Map<String, Value>, line: &Line, events: &mut Vec<Semantic>) {
        let word = |key: &str| known.get(key).and_then(Value::as_str);
        match (word("type"), word("request_id")) {
            (Some("control_request"), Some(id)) => self.out.refuse(id, "the request could not be read"),
            // Its type can come after the known part.
            (None, Some(id)) if known.contains_key("request") => self.out.refuse(id, "the request could not be read"),
            _ => {
                let first = events.len();
                self.print.incomplete(known, Unread::of(line), events);
                self.turns.result(events.iter_mut().skip(first));
            }
        }
    }

    /// Reads a message. Returns false if it is unknown.
    fn event(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let word = |key: &str| event.get(key).and_then(Value::as_str).unwrap_or_default();
        match (word("type"), word("subtype")) {
            ("control_request", _) => {
                let id = word("request_id");
                let request = event.get("request").unwrap_or(&Value::Null);
                if let Handshake::Refused(_) = self.handshake {
                    self.out.refuse(id, "the run ends");
                } else {
                    events.extend(self.approvals.asked(id, request, &mut self.out));
                }
            }
            ("control_cancel_request", _) => events.extend(self.approvals.canceled(word("request_id"))),
            ("control_response", _) => self.answered(event.get("response").unwrap_or(&Value::Null), events),
            ("keep_alive", _) => {}
            ("command_lifecycle", _) => self.turns.lifecycle(word("command_uuid"), word("state")),
            ("system", "session_state_changed") => self.turns.state(word("state")),
            ("system", "task_started") => {
                self.approvals.task_started(word("task_id"), word("tool_use_id"));
                return self.print(event, events);
            }
            ("system", "task_updated" | "task_notification") => {
                let patched = event.get("patch").map_or("", |patch| text(patch, "status"));
                self.turns.task_ended(if patched.is_empty() { word("status") } else { patched });
                return self.print(event, events);
            }
            ("system", "init") => {
                self.turns.begin();
                self.print.begin_turn();
                let mut event = event.clone();
                if std::mem::replace(&mut self.initialized, true) {
                    event.remove("mcp_servers");
                }
                return self.print(&event, events);
            }
            ("result", _) => {
                let first = events.len();
                let covered = self.print(event, events);
                self.turns.result(events.iter_mut().skip(first));
                return covered;
            }
            _ => return self.print(event, events),
        }
        true
    }

    /// Reads a line of `--print`. Whether the work is done is decided by the state of the session.
    fn print(&mut self, event: &Map<String, Value>, events: &mut Vec<Semantic>) -> bool {
        let mut found = Vec::new();
        let covered = self.print.event(event, &mut found);
        found.retain(|event| !matches!(event, Semantic::Progress(notice) if notice.code == notices::WORK_DONE));
        let undecided = found.iter().any(|event| match event {
            // An error can come before the hook.
            Semantic::ToolResult(result) => !result.is_error && !self.approvals.has_shown(&result.id),
            _ => false,
        });
        events.append(&mut found);
        if self.duplex.every_tool && undecided && self.handshake == Handshake::Done {
            self.refused("claude used a tool without showing it to the host first", events);
        }
        covered
    }

    /// Reads the answer to a request of this transcript.
    fn answered(&mut self, response: &Value, events: &mut Vec<Semantic>) {
        let id = text(response, "request_id");
        let Some(answered) = self.out.answered(id) else { return };
        events.push(answered);
        let error = (text(response, "subtype") != "success").then(|| text(response, "error"));
        if id != INITIALIZE {
            if let Some(error) = error {
                let message = format!("claude refused to interrupt the turn: {}", shorten(error, KEPT_BYTES));
                events.push(Semantic::Warning(notice(notices::PROTOCOL, &message)));
            }
            return;
        }
        if self.handshake != Handshake::Open {
            return;
        }
        let body = response.get("response").unwrap_or(&Value::Null);
        let has = |key: &str| body.get(key).and_then(Value::as_bool) == Some(true);
        if let Some(error) = error {
            let message = format!("claude refused the handshake: {}", shorten(error, KEPT_BYTES));
            self.refused(&message, events);
        } else if self.duplex.every_tool && !(has("hooks_applied") && has("hook_on_failure_supported")) {
            let message = "claude does not confirm that each tool use can be decided before it happens";
            self.refused(message, events);
        } else {
            self.handshake = Handshake::Done;
            let waiting = std::mem::take(&mut self.waiting);
            if waiting.is_empty()
                && let Some(id) = self.session.take()
            {
                // claude reports the session only with its first turn.
                let origin = self.print.report_session(&id);
                events.push(Semantic::Session(SessionInfo { id, origin }));
            }
            for message in waiting {
                self.send(&message);
            }
        }
    }

    fn refused(&mut self, message: &str, events: &mut Vec<Semantic>) {
        events.push(Semantic::Error(notice(notices::PROTOCOL, message)));
        events.push(stop());
        let hint = "install a current claude";
        let failure = failure(FailureKind::Usage, failures::CONFIG_INVALID, message, Some(hint));
        self.handshake = Handshake::Refused(Box::new(failure));
        self.waiting.clear();
    }

    fn send(&mut self, message: &str) {
        let uuid = self.out.message(message);
        self.turns.sent(uuid);
    }

    fn input(&mut self, message: String) -> Step {
        let mut events = Vec::new();
        match self.handshake {
            Handshake::Done => self.send(&message),
            Handshake::Open => self.waiting.push(message),
            Handshake::Refused(_) => {}
        }
        self.settle(&mut events);
        self.step(events, Vec::new())
    }

    fn decide(&mut self, id: &str, decision: &Decision) -> Result<Step, Error> {
        let decided = self.approvals.decide(id, decision, &mut self.out)?;
        if let Some(tool_use) = decided.denied {
            // The host knows about it.
            self.print.denials.known(tool_use);
        }
        let events = if decided.stop { vec![self.out.interrupt()] } else { Vec::new() };
        Ok(self.step(events, Vec::new()))
    }

    fn interrupt(&mut self) -> Step {
        let running = self.handshake == Handshake::Done && self.turns.running();
        let events = if running { vec![self.out.interrupt()] } else { Vec::new() };
        self.step(events, Vec::new())
    }

    fn finish(&mut self, exit: &ExitStatus) -> Outcome {
        if let Handshake::Refused(failure) = &self.handshake {
            return Outcome { failure: Some(Failure::clone(failure)), ..Outcome::default() };
        }
        let done = self.handshake == Handshake::Done;
        if self.duplex.interactive && done && self.turns.ended_in_order(exit) {
            let structured = self.print.outcome().structured_output;
            return Outcome {
                final_text: Some(self.turns.text()),
                structured_output: structured,
                ..Outcome::default()
            };
        }
        let mut outcome = self.print.finish(*exit, Vec::new());
        if done && self.turns.running() && !exit.canceled && !exit.timed_out {
            outcome.failure = Some(self.print.broken_off(exit));
        }
        outcome
    }
}

#[cfg(test)]
mod tests;
