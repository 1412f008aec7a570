//! The two-way protocol: messages, questions and interrupts.

use std::collections::BTreeMap;

use super::event::{Ask, Last};
use ostler_plugin::{
    Error,
    provider::{ApprovalRequest, Decision, ExitStatus, RunRequest, Semantic, Step, Usage},
    vocabulary::notices,
};
use ostler_provider_kit::{
    duplex::{Duplex, request_answered, request_sent, session_state},
    events::{notice, work_done},
};
use serde_json::{Map, Value, json};

/// Time for the answer to the handshake and to an interrupt, in milliseconds.
const HELLO_MS: u64 = 30_000;
const INTERRUPT_MS: u64 = 5_000;
/// Id of the handshake.
const HELLO: &str = "hello";

/// The state of a conversation.
#[derive(Debug)]
pub(super) struct Talk {
    interactive: bool,
    greeted: bool,
    /// Messages that wait for the handshake.
    waiting: Vec<String>,
    /// Open questions, and whether the input of each can be edited.
    open: BTreeMap<String, bool>,
    interrupts: u64,
    running: bool,
    background: usize,
    turns: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// The text of the last turn that had one.
    text: Option<String>,
    /// The last turn failed or was interrupted.
    failed: bool,
    /// Messages for the stand-in.
    write: Vec<u8>,
    end_input: bool,
}

impl Talk {
    pub(super) fn new(request: &RunRequest, first: String) -> Option<Self> {
        let duplex = Duplex::of(request)?;
        Some(Self {
            interactive: duplex.interactive,
            greeted: false,
            waiting: if first.trim().is_empty() && duplex.interactive { Vec::new() } else { vec![first] },
            open: BTreeMap::new(),
            interrupts: 0,
            running: false,
            background: 0,
            turns: 0,
            input_tokens: 0,
            output_tokens: 0,
            text: None,
            failed: false,
            write: Vec::new(),
            end_input: false,
        })
    }

    fn send(&mut self, message: &Value) {
        self.write.extend_from_slice(message.to_string().as_bytes());
        self.write.push(b'\n');
    }

    /// Moves what is to be written into the step.
    pub(super) fn flush(&mut self, step: &mut Step) {
        step.write.append(&mut self.write);
        step.end_input |= std::mem::take(&mut self.end_input);
    }

    pub(super) fn open(&mut self) -> Vec<Semantic> {
        self.send(&json!({ "type": "hello", "request": HELLO }));
        vec![request_sent(HELLO, "hello", HELLO_MS)]
    }

    pub(super) fn input(&mut self, message: String) {
        if self.greeted {
            self.send(&json!({ "type": "prompt", "text": message }));
        } else {
            self.waiting.push(message);
        }
    }

    pub(super) fn interrupt(&mut self) -> Vec<Semantic> {
        if !self.running {
            return Vec::new();
        }
        self.interrupts += 1;
        let id = format!("interrupt-{}", self.interrupts);
        self.send(&json!({ "type": "interrupt", "request": id }));
        vec![request_sent(&id, "interrupt", INTERRUPT_MS)]
    }

    pub(super) fn answered(&mut self, request: &str) -> Vec<Semantic> {
        let mut events = vec![request_answered(request)];
        if request == HELLO && !self.greeted {
            self.greeted = true;
            for text in std::mem::take(&mut self.waiting) {
                self.send(&json!({ "type": "prompt", "text": text }));
            }
            if self.write.is_empty() {
                events.push(session_state(false, 0));
            }
        }
        events
    }

    pub(super) fn asked(&mut self, ask: Ask) -> Vec<Semantic> {
        if self.open.remove(&ask.ask).is_some() {
            // An answer could be meant for either of them.
            return self.refuse_twice(ask.ask);
        }
        let mut extra = json!({ "kind": ask.kind, "phase": ask.phase, "editable": ask.editable });
        let more = [
            ("title", ask.about.title().map(Value::from)),
            ("questions", ask.about.questions.clone()),
            ("schema", ask.about.schema.clone()),
        ];
        for (name, value) in more {
            if let Some(value) = value {
                extra[name] = value;
            }
        }
        self.open.insert(ask.ask.clone(), ask.editable);
        vec![Semantic::ApprovalRequested(ApprovalRequest {
            id: ask.ask,
            call: ask.about.call(),
            reason: ask.reason,
            extra: Some(extra.to_string()),
        })]
    }

    fn refuse_twice(&mut self, id: String) -> Vec<Semantic> {
        let message = "the host refuses two questions with one id";
        self.send(&json!({ "type": "decision", "ask": id, "allow": false, "message": message }));
        let warning = Semantic::Warning(notice(notices::PROTOCOL, "the rehearsal asked two questions with one id"));
        vec![Semantic::ApprovalWithdrawn(id), warning]
    }

    pub(super) fn withdrawn(&mut self, id: String) -> Option<Semantic> {
        self.open.remove(&id).map(|_| Semantic::ApprovalWithdrawn(id))
    }

    /// A request that this plugin does not know.
    pub(super) fn unknown(&mut self, request: &str, what: &str) -> Vec<Semantic> {
        let message = format!("the host does not know the request {what}");
        self.send(&json!({ "type": "refused", "request": request, "message": message }));
        vec![Semantic::Warning(notice(notices::PROTOCOL, &format!("the rehearsal sent an unknown request: {what}")))]
    }

    /// Answers what can be known of a line that was cut or could not be read.
    pub(super) fn partial(&mut self, known: &Map<String, Value>) {
        let text = |name: &str| known.get(name).and_then(Value::as_str);
        match (text("type"), text("ask"), text("request")) {
            (Some("ask"), Some(ask), _) => {
                let message = "the question could not be read";
                self.send(&json!({ "type": "decision", "ask": ask, "allow": false, "message": message }));
            }
            (Some("request"), _, Some(request)) => {
                let message = "the request could not be read";
                self.send(&json!({ "type": "refused", "request": request, "message": message }));
            }
            _ => {}
        }
    }

    pub(super) fn decide(&mut self, id: &str, decision: &Decision) -> Result<(), Error> {
        let Some(editable) = self.open.get(id) else { return Ok(()) };
        let input = match &decision.input {
            Some(_) if !editable => {
                return Err(Error::Unsupported("the rehearsal takes no edited input for this".to_owned()));
            }
            Some(text) => serde_json::from_str(text)
                .map_err(|error| Error::Unsupported(format!("the edited input is not JSON: {error}")))?,
            None => Value::Null,
        };
        self.open.remove(id);
        self.send(&json!({
            "type": "decision", "ask": id, "allow": decision.allow, "message": decision.message, "input": input,
            "stopTurn": decision.stop_turn && !decision.allow,
        }));
        Ok(())
    }

    /// Adds the tokens of a turn.
    pub(super) fn usage(&mut self, input: Option<u64>, output: Option<u64>) -> Usage {
        self.input_tokens = self.input_tokens.saturating_add(input.unwrap_or_default());
        self.output_tokens = self.output_tokens.saturating_add(output.unwrap_or_default());
        Usage {
            input_tokens: Some(self.input_tokens),
            output_tokens: Some(self.output_tokens),
            cost_micro_usd: Some(0),
            ..Usage::default()
        }
    }

    /// Withdraws what is left open at the end of a turn.
    pub(super) fn turn_ended(&mut self, last: &Last) -> Vec<Semantic> {
        self.turns += 1;
        self.failed = last.status != "completed";
        if last.text.is_some() {
            self.text.clone_from(&last.text);
        }
        std::mem::take(&mut self.open).into_keys().map(Semantic::ApprovalWithdrawn).collect()
    }

    pub(super) fn state(&mut self, state: &str, background: usize) -> Vec<Semantic> {
        self.running = state != "idle";
        self.background = background;
        let mut events = vec![session_state(self.running, background)];
        if !self.interactive && !self.running && background == 0 && self.turns > 0 {
            self.end_input = true;
            events.push(work_done(&[]));
        }
        events
    }

    /// The text of a session that ended in order; none if it did not, or if this is not a session.
    pub(super) fn in_order(&self, exit: &ExitStatus) -> Option<String> {
        let code = match exit.code {
            Some(0) | None => true,
            Some(code) => code == 1 && self.failed,
        };
        let orderly = self.interactive && self.greeted && !self.running && code && exit.signal.is_none();
        orderly.then(|| self.text.clone().unwrap_or_default())
    }

    /// Whether it ended in the middle of a turn.
    pub(super) fn broken_off(&self) -> bool {
        self.running
    }
}
