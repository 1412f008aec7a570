//! Transcript of `codex app-server`, a protocol in both directions: JSON-RPC without its version member, one message per
//! line.
//!
//! `initialize`, `thread/start` or `thread/resume`, and `turn/start` follow each other; codex reports a turn by notifications
//! and asks by requests of its own, which have their own numbers. A message of the user starts a turn, or is added to the one
//! that is running (`turn/steer`).

mod approvals;
mod finish;
mod items;
mod notifications;
mod output;
mod questions;
mod requests;
mod setup;
mod turns;

use std::collections::{BTreeMap, BTreeSet};

use ostler_plugin::provider::{
    CollectedFile, Decision, ExitStatus, Failure, Line, Outcome, OutputStream, RunRequest, Semantic, SessionInfo,
    SessionOrigin, Step, TurnEnd, TurnStatus,
};
use ostler_plugin::vocabulary::notices;
use ostler_plugin::{Error, Transcript, strip_ansi};
use ostler_provider_kit::duplex;
use ostler_provider_kit::events::{notice, work_done};
use ostler_provider_kit::transcript::{self, StandardError, Unread};
use serde_json::{Map, Value, json};

use crate::failure;
use approvals::Asks;
use items::{Items, Origin};
use output::Output;
use requests::{Request, Requests, text_input};
use setup::Setup;
pub(crate) use setup::approval_policy;
use turns::{LastTurn, Turn, TurnError, Turns};

/// Maximum number of sub-agents that are followed.
const AGENTS: usize = 1024;

/// How far the session is.
#[derive(Clone, Debug, Default)]
enum Phase {
    /// The thread is not known yet.
    #[default]
    Handshake,
    Ready,
    /// There is no thread, so that the run cannot continue.
    Failed(Failure),
    /// The run needs no more input.
    Done,
}

/// Follows one attempt of `codex app-server`.
#[derive(Debug, Default)]
pub struct AppServerTranscript {
    setup: Setup,
    requests: Requests,
    phase: Phase,
    thread: String,
    turns: Turns,
    asks: Asks,
    items: Items,
    /// The tool uses that started the threads of sub-agents.
    parents: BTreeMap<String, String>,
    /// The turns of sub-agents that are running.
    agents: BTreeMap<String, String>,
    /// The agent's last message in the current turn, and in the last turn that had one.
    answer: Option<String>,
    final_text: Option<String>,
    unread_message: Option<Unread>,
    unread: Option<Unread>,
    /// The last error that was not a retry.
    error: Option<String>,
    retrying: Option<String>,
    /// Unix time in milliseconds at which an exhausted quota is renewed.
    quota_renewal: Option<u64>,
    warned: BTreeSet<String>,
    /// The last reported state of the session.
    state: Option<(bool, usize)>,
    stderr: StandardError,
}

impl AppServerTranscript {
    pub(crate) fn new(request: &RunRequest) -> Self {
        Self { setup: Setup::of(request), ..Self::default() }
    }

    fn send(&mut self, request: Request, params: &Value, out: &mut Output) {
        self.requests.send(request, params, out);
    }

    /// Reads one message. Returns false if it is not part of the protocol. `partial` is set if the line is incomplete.
    fn message(&mut self, message: &Map<String, Value>, partial: Option<Unread>, out: &mut Output) -> bool {
        let id = message.get("id").filter(|id| id.is_number() || id.is_string());
        match (message.get("method").and_then(Value::as_str), id) {
            (Some(method), Some(id)) => self.asked(method, id, message.get("params"), partial.is_some(), out),
            (Some(method), None) => {
                return match message.get("params") {
                    Some(Value::Object(params)) => self.notified(method, params, partial, out),
                    _ => self.notified(method, &Map::new(), partial, out),
                };
            }
            (None, Some(id)) => return self.answered(id, message, out),
            (None, None) => {
                if partial.is_some() {
                    self.unread = partial;
                }
                return false;
            }
        }
        true
    }

    /// A request of codex. Each is answered: now, or by `decide`.
    fn asked(&mut self, method: &str, id: &Value, params: Option<&Value>, partial: bool, out: &mut Output) {
        let params = params.cloned().unwrap_or_default();
        if self.asks.is_repeated(id, &params, out) {
            return;
        }
        let ask = params.as_object().filter(|_| !partial).and_then(|params| {
            let thread = questions::thread(params).to_owned();
            let turn = params.get("turnId").and_then(Value::as_str).unwrap_or_default();
            let parent = self.parent(&thread);
            let origin = Origin { thread: &thread, turn, parent: parent.as_deref(), cwd: &self.setup.cwd };
            questions::read(method, params, &self.items, origin)
        });
        if let Some(mut ask) = ask {
            if self.setup.shows_uses && ask.is_use() {
                ask.extra.insert("phase".to_owned(), "use".into());
            }
            return self.asks.open(id.clone(), params, ask, out);
        }
        let why = if partial { "could not be read completely" } else { "is not supported" };
        out.decline(id, &format!("`{method}` {why}"));
        out.warn(notice(notices::PROTOCOL, &format!("the request `{method}` of codex {why}; it was declined")));
    }

    /// The answer to a request.
    fn answered(&mut self, id: &Value, message: &Map<String, Value>, out: &mut Output) -> bool {
        let Some((number, request)) = self.requests.take(id) else { return false };
        out.emit(duplex::request_answered(&number.to_string()));
        let error = message.get("error").map(|error| {
            let text = error.get("message").and_then(Value::as_str).unwrap_or("codex refused the request");
            text.to_owned()
        });
        let result = message.get("result").unwrap_or(&Value::Null);
        match (request, error) {
            (Request::Initialize, None) => self.initialized(out),
            (Request::List, None) => self.listed(result, out),
            (Request::Start | Request::Resume, None) => self.began(result, out),
            (Request::Initialize | Request::List | Request::Start, Some(error)) => self.broken(&error, false, out),
            (Request::Resume, Some(error)) => self.broken(&error, true, out),
            (Request::Turn, None) => {
                let id = result.pointer("/turn/id").and_then(Value::as_str).unwrap_or_default();
                self.turns.began(id, false);
                if self.turns.interrupt {
                    self.turns.interrupt = false;
                    self.interrupt_turns(out);
                }
                self.flush(out);
            }
            (Request::Turn, Some(error)) => self.refused_turn(&error, out),
            (Request::Steer(text), Some(_)) => self.refused_steer(text, out),
            (Request::Interrupt, Some(_)) => {
                // codex has accepted the turn, but not started it.
                if matches!(self.turns.turn, Turn::Running { started: false, .. }) {
                    self.turns.interrupt = true;
                }
            }
            (Request::Terminals(items), None) => self.end_commands(&items, result, out),
            (
                Request::Steer(_) | Request::Reason | Request::Interrupt | Request::Terminals(_) | Request::Terminate,
                _,
            ) => {}
        }
        self.settle(out);
        true
    }

    fn initialized(&mut self, out: &mut Output) {
        out.notify("initialized");
        match self.setup.requested_session.clone() {
            Some(session) => self.send(Request::Resume, &self.setup.resume(&session), out),
            None if self.setup.continues => self.send(Request::List, &self.setup.list(), out),
            None => self.send(Request::Start, &self.setup.start(), out),
        }
    }

    fn listed(&mut self, result: &Value, out: &mut Output) {
        match result.pointer("/data/0/id").and_then(Value::as_str) {
            Some(thread) => self.send(Request::Resume, &self.setup.resume(thread), out),
            None => self.send(Request::Start, &self.setup.start(), out),
        }
    }

    /// The thread is known: the first turn can start.
    fn began(&mut self, result: &Value, out: &mut Output) {
        let Some(id) = result.pointer("/thread/id").and_then(Value::as_str).filter(|id| !id.is_empty()) else {
            return self.broken("codex reported no id of its thread", false, out);
        };
        if let Some(problem) = self.setup.refused(result) {
            return self.broken(&problem, false, out);
        }
        id.clone_into(&mut self.thread);
        self.phase = Phase::Ready;
        let origin = match &self.setup.requested_session {
            Some(requested) if requested.eq_ignore_ascii_case(id) => SessionOrigin::Resumed,
            Some(_) => SessionOrigin::Replaced,
            None if !self.setup.continues => SessionOrigin::Fresh,
            None if self.setup.is_newer(id) == Some(true) => SessionOrigin::Replaced,
            None => SessionOrigin::Resumed,
        };
        out.emit(Semantic::Session(SessionInfo { id: id.to_owned(), origin }));
        let mut input = std::mem::take(&mut self.setup.first);
        input.extend(self.turns.mailbox.drain(..).map(|text| text_input(&text)));
        self.start_turn(&input, out);
    }

    /// There is no thread. Without input, codex exits.
    fn broken(&mut self, error: &str, resumes: bool, out: &mut Output) {
        let failure =
            failure::from_stderr(&[format!("Error: {error}")], resumes).unwrap_or_else(|| failure::turn(error));
        out.emit(Semantic::Error(notice(notices::REQUEST_FAILED, &failure.message)));
        self.phase = Phase::Failed(failure);
        out.end_input = true;
    }

    fn start_turn(&mut self, input: &[Value], out: &mut Output) {
        if input.is_empty() {
            return;
        }
        self.turns.turn = Turn::Starting;
        self.answer = None;
        self.unread_message = None;
        self.error = None;
        self.send(Request::Turn, &self.setup.turn(&self.thread, input), out);
    }

    /// Passes on the messages that wait, if codex can take them.
    fn flush(&mut self, out: &mut Output) {
        if !matches!(self.phase, Phase::Ready) || self.turns.mailbox.is_empty() {
            return;
        }
        match self.turns.turn.clone() {
            Turn::Idle => {
                let input: Vec<Value> = self.turns.mailbox.drain(..).map(|text| text_input(&text)).collect();
                self.start_turn(&input, out);
            }
            Turn::Starting => {}
            Turn::Running { id, .. } => {
                for text in std::mem::take(&mut self.turns.mailbox) {
                    self.steer(&id, text, out);
                }
            }
        }
    }

    fn steer(&mut self, turn: &str, text: String, out: &mut Output) {
        let params = json!({ "threadId": self.thread, "expectedTurnId": turn, "input": [text_input(&text)] });
        self.send(Request::Steer(text), &params, out);
    }

    /// codex could not add a message to a turn, usually because it has just ended. The message starts the next turn.
    fn refused_steer(&mut self, text: String, out: &mut Output) {
        self.turns.mailbox.push_back(text);
        if self.turns.turn == Turn::Idle {
            self.flush(out);
        }
    }

    fn refused_turn(&mut self, error: &str, out: &mut Output) {
        if self.turns.turn != Turn::Starting {
            return;
        }
        out.emit(Semantic::Error(notice(notices::REQUEST_FAILED, error)));
        let error = TurnError { message: error.to_owned(), info: Value::Null };
        self.ended_turn(LastTurn::Failed(error), None, out);
    }

    /// Ends commands of an interrupted turn, which codex leaves running.
    fn end_commands(&mut self, items: &[String], result: &Value, out: &mut Output) {
        let running = result.get("data").and_then(Value::as_array).into_iter().flatten();
        let ids: Vec<String> = running
            .filter(|command| {
                let item = command.get("itemId").and_then(Value::as_str);
                item.is_some_and(|item| items.iter().any(|wanted| wanted == item))
            })
            .filter_map(|command| command.get("processId")?.as_str().map(str::to_owned))
            .collect();
        for id in ids {
            self.send(Request::Terminate, &json!({ "threadId": self.thread, "processId": id }), out);
        }
    }

    /// Interrupts the turn, and those of sub-agents.
    fn interrupt_turns(&mut self, out: &mut Output) {
        if self.requests.has(|request| *request == Request::Interrupt) {
            return;
        }
        let main = self.turns.id().map(|turn| (self.thread.clone(), turn.to_owned()));
        let agents = self.agents.iter().map(|(thread, turn)| (thread.clone(), turn.clone()));
        let turns: Vec<(String, String)> = main.into_iter().chain(agents).collect();
        for (thread, turn) in turns {
            self.send(Request::Interrupt, &json!({ "threadId": thread, "turnId": turn }), out);
        }
    }

    /// The tool use that started the sub-agent of this thread. None for the main thread.
    fn parent(&mut self, thread: &str) -> Option<String> {
        if thread.is_empty() || self.thread.is_empty() || thread == self.thread {
            return None;
        }
        if let Some(parent) = self.parents.get(thread) {
            return Some(parent.clone());
        }
        let spawns =
            |item: &Map<String, Value>| item.get("type").and_then(Value::as_str) == Some("collabAgentToolCall");
        let parent = self.items.find(|tool| spawns(&tool.item)).unwrap_or(thread).to_owned();
        self.adopt(thread, &parent);
        Some(parent)
    }

    fn adopt(&mut self, thread: &str, parent: &str) {
        if self.parents.len() < AGENTS && thread != self.thread {
            self.parents.insert(thread.to_owned(), parent.to_owned());
        }
    }

    /// The main turn has ended.
    fn ended_turn(&mut self, last: LastTurn, turn: Option<&str>, out: &mut Output) {
        let interrupted = last == LastTurn::Interrupted;
        let thread = self.thread.clone();
        if let Some(turn) = turn {
            let cwd = self.setup.cwd.clone();
            let origin = Origin { thread: &thread, turn, parent: None, cwd: &cwd };
            let commands = self.items.end_turn(origin, interrupted, out);
            self.asks.end_turn(&thread, turn, out);
            if !commands.is_empty() {
                self.send(Request::Terminals(commands), &json!({ "threadId": thread }), out);
            }
        }
        let (status, message) = match &last {
            LastTurn::Failed(error) => (TurnStatus::Failed, Some(failure::readable(&error.message))),
            LastTurn::Interrupted => (TurnStatus::Interrupted, None),
            LastTurn::Completed | LastTurn::None => (TurnStatus::Completed, None),
        };
        let text = self.answer.clone().filter(|_| status == TurnStatus::Completed);
        out.emit(Semantic::TurnComplete(TurnEnd { status, text, message }));
        if self.answer.is_some() {
            self.final_text.clone_from(&self.answer);
        }
        self.turns.end(last);
        self.flush(out);
    }

    /// Whether codex works on something, or has to.
    fn is_running(&self) -> bool {
        let steers = |request: &Request| matches!(request, Request::Steer(_) | Request::Turn);
        self.turns.turn != Turn::Idle || !self.turns.mailbox.is_empty() || self.requests.has(steers)
    }

    /// Reports the state if it has changed, and ends a run that is complete.
    fn settle(&mut self, out: &mut Output) {
        if !matches!(self.phase, Phase::Ready) {
            return;
        }
        let background = self.agents.len();
        let state = (self.is_running() || background > 0, background);
        if self.state != Some(state) {
            self.state = Some(state);
            out.emit(duplex::session_state(state.0, state.1));
        }
        if !state.0 && !self.setup.interactive {
            self.phase = Phase::Done;
            out.end_input = true;
            out.emit(work_done(&[]));
        }
    }

    fn stdout(&mut self, line: &Line, out: &mut Output) -> bool {
        let mut events = Vec::new();
        let parsed = transcript::objects("codex", line, &mut events, |message, events| {
            let covered = self.message(&message, None, out);
            events.append(&mut out.events);
            covered
        });
        out.events.append(&mut events);
        if let Some(known) = &parsed.partial {
            self.message(known, Some(Unread::of(line)), out);
        }
        self.settle(out);
        parsed.covered
    }
}

impl Transcript for AppServerTranscript {
    fn open(&mut self) -> Step {
        let mut out = Output::default();
        self.send(Request::Initialize, &Setup::initialize(), &mut out);
        out.into_step(Vec::new())
    }

    fn read(&mut self, lines: Vec<Line>) -> Step {
        let mut out = Output::default();
        let mut covered = Vec::new();
        for (index, line) in (0_u32..).zip(&lines) {
            let complete = match line.stream {
                OutputStream::Stdout => self.stdout(line, &mut out),
                OutputStream::Stderr => {
                    let text = strip_ansi(&line.text);
                    if !text.trim().is_empty() {
                        self.stderr.keep(text.trim());
                    }
                    false
                }
            };
            if complete {
                covered.push(index);
            }
        }
        out.into_step(covered)
    }

    fn input(&mut self, message: String) -> Result<Step, Error> {
        if matches!(self.phase, Phase::Failed(_) | Phase::Done) {
            return Err(Error::Unsupported("the run takes no more messages: its work is done".to_owned()));
        }
        let mut out = Output::default();
        self.turns.mailbox.push_back(message);
        // A message that was refused during this turn waits for its end, and later ones do not overtake it.
        if self.turns.turn == Turn::Idle || self.turns.mailbox.len() == 1 {
            self.flush(&mut out);
        }
        self.settle(&mut out);
        Ok(out.into_step(Vec::new()))
    }

    fn decide(&mut self, request_id: String, decision: Decision) -> Result<Step, Error> {
        let mut out = Output::default();
        let denied = self.asks.decide(&request_id, &decision, &mut out)?.unwrap_or_default();
        // A request of an MCP server may not name its turn.
        let main = self.turns.id().filter(|_| denied.thread == self.thread).unwrap_or_default();
        let turn = if denied.turn.is_empty() { main } else { &denied.turn };
        if let Some(reason) = denied.reason.filter(|_| !turn.is_empty()) {
            let params = json!({
                "threadId": denied.thread,
                "expectedTurnId": turn,
                "input": [text_input(&reason)],
            });
            self.send(Request::Reason, &params, &mut out);
        }
        if denied.interrupt {
            self.interrupt_turns(&mut out);
        }
        Ok(out.into_step(Vec::new()))
    }

    fn interrupt(&mut self) -> Result<Step, Error> {
        let mut out = Output::default();
        if self.turns.turn == Turn::Starting {
            self.turns.interrupt = true;
        } else {
            self.interrupt_turns(&mut out);
        }
        Ok(out.into_step(Vec::new()))
    }

    fn finish(&mut self, exit: ExitStatus, _files: Vec<CollectedFile>) -> Outcome {
        self.outcome(&exit)
    }
}

#[cfg(test)]
#[path = "fault_tests.rs"]
mod fault_tests;
#[cfg(test)]
#[path = "replay_tests.rs"]
mod replay_tests;
#[cfg(test)]
#[path = "turn_tests.rs"]
mod turn_tests;
