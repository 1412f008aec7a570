//! The requests of codex that wait for a decision.

use std::collections::BTreeMap;

use ostler_plugin::Error;
use ostler_plugin::provider::{ApprovalRequest, Decision, Semantic, ToolCall};
use ostler_provider_kit::payload::invalid;
use serde_json::{Map, Value, json};

use super::output::Output;

/// Maximum number of open requests. codex has at most one for each thread.
const OPEN: usize = 256;

/// The answer that a request expects.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Form {
    /// `{decision}`: commands and patches.
    Decision,
    /// `{decision}` in the words of the first version of the protocol.
    OldDecision,
    /// The permissions that are granted.
    Permissions(Value),
    /// Answers, by the id of the question.
    Questions(Vec<String>),
    /// The content of a form, which may have required fields.
    Content { required: bool },
    /// Only yes or no: an MCP tool may run, or the user has opened a URL.
    Action,
}

/// A request before it has an id.
#[derive(Clone, Debug)]
pub(super) struct Ask {
    pub thread: String,
    /// None if the request does not belong to a turn.
    pub turn: Option<String>,
    pub form: Form,
    pub call: ToolCall,
    pub reason: Option<String>,
    pub extra: Map<String, Value>,
    /// What was denied, as part of a sentence for the model.
    pub subject: String,
}

impl Ask {
    /// Whether it is about a use of a tool as such. With a reason, it is about more than codex would do by its own rules,
    /// such as a command outside its sandbox.
    pub(super) fn is_use(&self) -> bool {
        let kind = self.extra.get("kind").and_then(Value::as_str);
        matches!(self.form, Form::Decision | Form::OldDecision | Form::Action)
            && matches!(kind, Some("command" | "patch" | "tool"))
            && self.reason.is_none()
    }
}

#[derive(Debug)]
struct OpenAsk {
    rpc_id: Value,
    params: Value,
    thread: String,
    turn: Option<String>,
    form: Form,
    subject: String,
}

/// What remains to be done after an answer.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Denied {
    pub thread: String,
    pub turn: String,
    /// The reason for the model, which the answer itself cannot contain.
    pub reason: Option<String>,
    /// The turn is to be interrupted, because the answer itself does not end it.
    pub interrupt: bool,
}

/// The open requests.
#[derive(Debug, Default)]
pub(super) struct Asks {
    open: BTreeMap<String, OpenAsk>,
    /// How often each id was used.
    uses: BTreeMap<String, u32>,
}

impl Asks {
    /// Whether a request with this id and these parameters is already open. If the parameters differ, both are declined: an
    /// answer would apply to either.
    pub(super) fn is_repeated(&mut self, rpc_id: &Value, params: &Value, out: &mut Output) -> bool {
        let Some((id, ask)) = self.open.iter().find(|(_, ask)| ask.rpc_id == *rpc_id) else { return false };
        if ask.params != *params {
            let id = id.clone();
            self.open.remove(&id);
            out.emit(Semantic::ApprovalWithdrawn(id));
            out.decline(rpc_id, "another request has the same id");
        }
        true
    }

    /// Asks the host.
    pub(super) fn open(&mut self, rpc_id: Value, params: Value, ask: Ask, out: &mut Output) {
        if self.open.len() >= OPEN {
            return out.decline(&rpc_id, "too many requests are open");
        }
        let name = rpc_id.to_string();
        let uses = self.uses.entry(name.clone()).or_default();
        *uses += 1;
        let id = if *uses == 1 { name } else { format!("{name}#{uses}") };
        out.emit(Semantic::ApprovalRequested(ApprovalRequest {
            id: id.clone(),
            call: ask.call,
            reason: ask.reason,
            extra: Some(Value::Object(ask.extra).to_string()),
        }));
        let Ask { thread, turn, form, subject, .. } = ask;
        self.open.insert(id, OpenAsk { rpc_id, params, thread, turn, form, subject });
    }

    /// Answers a request. An answer to a request that is not open has no effect; one that codex cannot get is an error, and
    /// the request remains open.
    pub(super) fn decide(&mut self, id: &str, decision: &Decision, out: &mut Output) -> Result<Option<Denied>, Error> {
        let Some(ask) = self.open.get(id) else { return Ok(None) };
        if decision.allow {
            let result = allow(&ask.form, decision.input.as_deref())?;
            out.answer(&ask.rpc_id, &result);
            self.open.remove(id);
            return Ok(None);
        }
        let message = decision.message.as_deref().map(str::trim).filter(|message| !message.is_empty());
        let (result, ends_turn, has_reason) = deny(&ask.form, decision.stop_turn, message);
        out.answer(&ask.rpc_id, &result);
        let reason = message.filter(|_| !decision.stop_turn && !has_reason);
        let denied = Denied {
            thread: ask.thread.clone(),
            turn: ask.turn.clone().unwrap_or_default(),
            reason: reason.map(|reason| format!("{} was denied. Reason: {reason}", ask.subject)),
            interrupt: decision.stop_turn && !ends_turn,
        };
        self.open.remove(id);
        Ok(Some(denied))
    }

    /// codex has resolved the request itself, or has accepted an answer to it.
    pub(super) fn resolved(&mut self, rpc_id: &Value, out: &mut Output) {
        let Some(id) = self.open.iter().find(|(_, ask)| ask.rpc_id == *rpc_id).map(|(id, _)| id.clone()) else {
            return;
        };
        self.open.remove(&id);
        out.emit(Semantic::ApprovalWithdrawn(id));
    }

    /// Withdraws the requests of a turn that has ended. They are declined as well: codex ignores an answer to a request that
    /// it has given up.
    pub(super) fn end_turn(&mut self, thread: &str, turn: &str, out: &mut Output) {
        let ended = |ask: &OpenAsk| ask.thread == thread && ask.turn.as_deref() == Some(turn);
        let ids: Vec<String> = self.open.iter().filter(|(_, ask)| ended(ask)).map(|(id, _)| id.clone()).collect();
        for id in ids {
            if let Some(ask) = self.open.remove(&id) {
                out.decline(&ask.rpc_id, "the turn has ended");
                out.emit(Semantic::ApprovalWithdrawn(id));
            }
        }
    }
}

fn allow(form: &Form, input: Option<&str>) -> Result<Value, Error> {
    let parse = |input: &str| -> Result<Value, Error> {
        serde_json::from_str(input).map_err(|error| invalid("/input", &format!("is not JSON: {error}")))
    };
    match form {
        Form::Questions(ids) => {
            let Some(input) = input else {
                return Err(invalid("/input", "is missing: a question needs `{\"answers\": {ID: [text]}}`"));
            };
            Ok(json!({ "answers": answers(&parse(input)?, ids)? }))
        }
        Form::Content { required } => match input.map(parse).transpose()? {
            Some(content) if content.is_object() => Ok(json!({ "action": "accept", "content": content })),
            Some(_) => Err(invalid("/input", "is not an object: the fields of the form")),
            None if *required => Err(invalid("/input", "is missing: the form has required fields")),
            None => Ok(json!({ "action": "accept", "content": {} })),
        },
        _ if input.is_some() => Err(Error::Unsupported(
            "codex does not accept a changed input; deny the use and say what to change".to_owned(),
        )),
        Form::Decision => Ok(json!({ "decision": "accept" })),
        Form::OldDecision => Ok(json!({ "decision": "approved" })),
        Form::Permissions(requested) => Ok(json!({ "permissions": requested, "scope": "turn" })),
        Form::Action => Ok(json!({ "action": "accept", "content": {} })),
    }
}

/// The answers as codex expects them, from `{"answers": {ID: [text]}}`.
fn answers(input: &Value, ids: &[String]) -> Result<Value, Error> {
    let Some(given) = input.get("answers").and_then(Value::as_object) else {
        return Err(invalid("/input/answers", "is missing, or not an object"));
    };
    let mut answers = Map::new();
    for (id, texts) in given {
        let pointer = format!("/input/answers/{}", ostler_plugin::escape_pointer(id));
        if !ids.contains(id) {
            return Err(invalid(&pointer, &format!("is not a question; the questions are {}", ids.join(", "))));
        }
        let texts = match texts {
            Value::String(_) => std::slice::from_ref(texts),
            Value::Array(texts) if texts.iter().all(Value::is_string) => texts.as_slice(),
            _ => return Err(invalid(&pointer, "is not a list of strings")),
        };
        answers.insert(id.clone(), json!({ "answers": texts }));
    }
    Ok(answers.into())
}

/// The answer, whether it ends the turn, and whether it contains the reason.
fn deny(form: &Form, stop_turn: bool, message: Option<&str>) -> (Value, bool, bool) {
    match form {
        Form::Decision => (json!({ "decision": if stop_turn { "cancel" } else { "decline" } }), true, false),
        Form::OldDecision if stop_turn => (json!({ "decision": "abort" }), true, false),
        Form::OldDecision => {
            let rejection = message.unwrap_or("denied by the user");
            (json!({ "decision": { "denied": { "rejection": rejection } } }), false, true)
        }
        Form::Permissions(_) => (json!({ "permissions": {}, "scope": "turn" }), false, false),
        Form::Questions(_) => (json!({ "answers": {} }), false, false),
        Form::Content { .. } | Form::Action => {
            (json!({ "action": if stop_turn { "cancel" } else { "decline" } }), false, false)
        }
    }
}
