//! Makes events that can be stored: redacted, and serialized once.

use jiff::Timestamp;
use serde::Serialize;
use serde_json::{Map, Value};

use ostler_protocol::{ConversationId, NewEvent, Payload, Progress, ProgressStage, RunId, Warning, WarningCode};
use ostler_redaction::RunRedactor;
use ostler_test_hooks::clock;

pub(crate) use ostler_test_hooks::clock::now;

/// Makes the events of one run, or events without a run.
#[derive(Clone, Debug)]
pub(crate) struct Recorder {
    run: Option<RunId>,
    conversation: Option<ConversationId>,
    redactor: RunRedactor,
}

impl Recorder {
    pub(crate) const fn new(run: Option<RunId>, conversation: Option<ConversationId>, redactor: RunRedactor) -> Self {
        Self { run, conversation, redactor }
    }

    pub(crate) const fn redactor(&self) -> &RunRedactor {
        &self.redactor
    }

    /// An event whose every text is redacted here.
    pub(crate) fn event(&self, payload: &Payload) -> NewEvent {
        let mut document = to_value(payload);
        self.redactor.redact_json(&mut document);
        self.finish(payload, document.to_string())
    }

    /// An event whose texts were redacted before, in a stream.
    pub(crate) fn redacted(&self, payload: &Payload) -> NewEvent {
        let text = serde_json::to_string(payload).unwrap_or_else(|_| "{}".to_owned());
        self.finish(payload, text)
    }

    /// `run.warning` with facts.
    pub(crate) fn warning(&self, code: WarningCode, message: impl Into<String>, facts: Value) -> NewEvent {
        self.event(&Payload::Warning(self::warning(code, message, facts)))
    }

    /// `run.progress` with facts.
    pub(crate) fn progress(&self, stage: ProgressStage, facts: Value) -> NewEvent {
        self.event(&Payload::Progress(Progress { stage, facts: object(facts) }))
    }

    /// The redacted text.
    pub(crate) fn clean(&self, text: &str) -> String {
        self.redactor.redact(text).text.into_owned()
    }

    fn finish(&self, payload: &Payload, text: String) -> NewEvent {
        NewEvent {
            run_id: self.run,
            conversation_id: self.conversation,
            kind: payload.kind(),
            payload: text,
            timestamp: clock::now(),
        }
    }
}

/// A warning with facts.
pub(crate) fn warning(code: WarningCode, message: impl Into<String>, facts: Value) -> Warning {
    Warning { code, message: message.into(), facts: object(facts) }
}

/// An event of a run, whose texts need no redaction.
pub(crate) fn event_of_run(run: RunId, payload: &Payload) -> NewEvent {
    NewEvent {
        run_id: Some(run),
        conversation_id: None,
        kind: payload.kind(),
        payload: to_value(payload).to_string(),
        timestamp: clock::now(),
    }
}

/// An event of a conversation and of no run, whose texts are redacted already: they come from storage.
pub(crate) fn event_of(conversation: ConversationId, payload: &Payload, at: Timestamp) -> NewEvent {
    NewEvent {
        run_id: None,
        conversation_id: Some(conversation),
        kind: payload.kind(),
        payload: to_value(payload).to_string(),
        timestamp: at,
    }
}

/// A payload as a document. Everything that the model can hold can be written as JSON.
pub(crate) fn to_value(payload: &impl Serialize) -> Value {
    serde_json::to_value(payload).unwrap_or_default()
}

fn object(facts: Value) -> Map<String, Value> {
    match facts {
        Value::Object(mut members) => {
            members.retain(|_, value| !value.is_null());
            members
        }
        _ => Map::new(),
    }
}
