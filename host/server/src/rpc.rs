//! JSON-RPC 2.0: parses frames, runs their calls, and formats the answers. Independent of the transport.

use std::sync::Arc;

use serde::Serialize;
use serde_json::value::RawValue;
use serde_json::{Map, Value, json};
use tokio::sync::OwnedSemaphorePermit;

use super::blocking;
use super::duplex::PendingSubscriptions;
use super::methods::{self, Method};
use super::peer::Peer;
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::MethodDescriptor;
use ostler_protocol::{ApiError, AuditKind, ErrorKind};

/// Maximum number of calls in one batch.
const MAX_BATCH: usize = 100;

/// Maximum number of values in one frame. In memory, a value can take a hundred times its bytes on the wire.
const MAX_VALUES: usize = 250_000;

/// Maximum nesting of a frame. Its values are embedded in other documents, which must be readable, too.
const MAX_DEPTH: usize = 96;

/// Size of the answers of one batch, in bytes, after which its other calls are not run: answers stay in memory until
/// read.
const MAX_BATCH_ANSWER: usize = 8 << 20;

/// The parameter with variables of the caller. Its `PATH` decides which programs run.
const VARIABLES: &str = "clientEnvironment";

/// The caller of a method.
#[derive(Clone, Debug)]
pub(crate) struct Caller {
    /// `cli`, `rpc`, `http` or `mcp`.
    pub(crate) origin: String,
    /// The peer with its permissions.
    pub(crate) peer: Arc<Peer>,
    /// For `subscribe`: only on persistent connections.
    pub(crate) streams: Option<Arc<PendingSubscriptions>>,
}

/// The answer to a frame, as JSON text.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) text: String,
    /// Permits of the peer's budget. They must live until the text is written.
    pub(crate) permits: Vec<OwnedSemaphorePermit>,
}

impl From<String> for Answer {
    fn from(text: String) -> Self {
        Self { text, permits: Vec::new() }
    }
}

/// Answers a frame: a call or a batch. `None` if it contains only notifications.
pub(crate) async fn answer(engine: &Arc<Engine>, caller: &Caller, frame: &[u8]) -> Option<Answer> {
    let bytes = frame.len();
    if let Err(message) = check_shape(frame) {
        return Some(unreadable(&message).into());
    }
    let frame = match serde_json::from_slice::<Value>(frame) {
        Ok(frame) => frame,
        Err(error) => return Some(unreadable(&format!("not JSON: {error}")).into()),
    };
    let Value::Array(calls) = frame else {
        return answer_one(engine, caller, frame).await.map(Answer::from);
    };
    if calls.is_empty() || calls.len() > MAX_BATCH {
        let message = format!("a batch holds 1 to {MAX_BATCH} calls, not {}", calls.len());
        return Some(failure(Value::Null, -32600, &message).to_string().into());
    }
    let Ok(permit) = caller.peer.budget().batch(bytes).await else {
        let error = ApiError::new(ErrorKind::Conflict, "too many batches of this client are not answered yet")
            .hint("read the answers of the earlier ones, then send it again")
            .retryable(true);
        return Some(refusal(&Value::Null, &error).into());
    };
    let mut answers = String::from("[");
    for call in calls {
        let answer =
            if answers.len() > MAX_BATCH_ANSWER { not_made(call) } else { answer_one(engine, caller, call).await };
        let Some(answer) = answer else { continue };
        if answers.len() > 1 {
            answers.push(',');
        }
        answers.push_str(&answer);
    }
    if answers.len() == 1 {
        return None;
    }
    answers.push(']');
    Some(Answer { text: answers, permits: vec![permit] })
}

/// The error for a call that was not run because the answers of its batch are too large.
fn not_made(call: Value) -> Option<String> {
    let id = match read(call) {
        Ok((id, _)) => id?,
        Err(failure) => return Some(failure.to_string()),
    };
    let message =
        format!("the answers of this batch have more than {} MiB; this call was not made", MAX_BATCH_ANSWER >> 20);
    let error = ApiError::new(ErrorKind::Conflict, message).hint("send it again, in a smaller batch").retryable(true);
    Some(refusal(&id, &error))
}

/// A well-formed call.
struct Call {
    method: &'static Method,
    params: Value,
}

/// Checks the number of values and the nesting of a frame before it is parsed.
fn check_shape(frame: &[u8]) -> Result<(), String> {
    let (mut values, mut depth) = (0_usize, 0_usize);
    let (mut in_text, mut escaped) = (false, false);
    for byte in frame {
        if in_text {
            match byte {
                _ if escaped => escaped = false,
                b'\\' => escaped = true,
                b'"' => in_text = false,
                _ => {}
            }
            continue;
        }
        match byte {
            b'"' => in_text = true,
            b',' => values += 1,
            b'[' | b'{' => {
                values += 1;
                depth += 1;
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("a frame is nested at most {MAX_DEPTH} deep"));
        }
        if values > MAX_VALUES {
            return Err(format!("a frame holds at most {MAX_VALUES} values"));
        }
    }
    Ok(())
}

/// The response of a successful call.
#[derive(Serialize)]
struct Success<'a> {
    jsonrpc: &'static str,
    id: &'a Value,
    result: &'a RawValue,
}

async fn answer_one(engine: &Arc<Engine>, caller: &Caller, call: Value) -> Option<String> {
    let (id, call) = match read(call) {
        Ok(read) => read,
        Err(failure) => return Some(cleaned(engine, failure).to_string()),
    };
    let call = match call {
        Ok(call) => call,
        Err((code, message)) => return id.map(|id| cleaned(engine, failure(id, code, &message)).to_string()),
    };
    let (shared, caller) = (Arc::clone(engine), caller.clone());
    let name = call.method.name;
    let done = blocking::run(name, move || {
        let allowed = allow(&caller, &call).inspect_err(|_| note_refusal(&shared, &caller, name));
        allowed
            .and_then(|()| (call.method.call)(&shared, &caller, call.params))
            .map_err(|error| shared.redactors().redact_error(&error))
    });
    let result = done.await.unwrap_or_else(|_| {
        tracing::error!(method = name, "a method panicked");
        Err(ApiError::internal(format!("a defect in the host ended {name}; its log says more")))
    });
    let id = id?;
    Some(match result {
        Ok(result) => serde_json::to_string(&Success { jsonrpc: "2.0", id: &id, result: &result })
            .unwrap_or_else(|error| refusal(&id, &ApiError::internal(format!("failed to write the answer: {error}")))),
        Err(error) => refusal(&id, &error),
    })
}

/// Checks whether the caller may make this call.
///
/// # Errors
/// `POLICY_DENIED` with the requirement.
fn allow(caller: &Caller, call: &Call) -> Result<(), ApiError> {
    caller.peer.require(call.method.class, call.method.name)?;
    if caller.peer.is_remote() && call.params.get(VARIABLES).is_some_and(|variables| !variables.is_null()) {
        let message = format!("{VARIABLES} is taken over the unix socket only: it chooses the programs that are run");
        return Err(ApiError::new(ErrorKind::PolicyDenied, message)
            .at(format!("/{VARIABLES}"))
            .hint("leave it out; the host's own environment and the configuration say what runs get"));
    }
    Ok(())
}

/// Records a refused call in the audit trail.
fn note_refusal(engine: &Engine, caller: &Caller, method: &str) {
    engine.audit().append_refusal(AuditEntry::new(AuditKind::Refused, caller.peer.actor()).fact("method", method));
}

/// The response of a failed call.
fn refusal(id: &Value, error: &ApiError) -> String {
    let (code, message) = (code(error.kind), &error.message);
    json!({"jsonrpc": "2.0", "id": id, "error": {"code": code, "message": message, "data": error}}).to_string()
}

type Read = (Option<Value>, Result<Call, (i32, String)>);

/// Reads a call: its id, and the call or its error. `Err` is the response to something that is not a call; its id may
/// be null.
fn read(call: Value) -> Result<Read, Value> {
    let Value::Object(mut call) = call else {
        return Err(failure(Value::Null, -32600, "a call is a JSON object"));
    };
    let id = call.remove("id");
    if !matches!(id, None | Some(Value::Null | Value::String(_) | Value::Number(_))) {
        return Err(failure(Value::Null, -32600, "an id is a string, a number or null"));
    }
    let wrong = |message: &str| Err(failure(id.clone().unwrap_or(Value::Null), -32600, message));
    if call.remove("jsonrpc") != Some(Value::String("2.0".to_owned())) {
        return wrong("\"jsonrpc\" must be \"2.0\"");
    }
    let Some(Value::String(name)) = call.remove("method") else {
        return wrong("\"method\" must be a string");
    };
    let params = call.remove("params");
    if let Some(member) = call.keys().next() {
        return wrong(&format!("a call has no member {member:?}"));
    }
    Ok((id, find(&name).and_then(|method| Ok(Call { method, params: by_name(method, params)? }))))
}

fn find(name: &str) -> Result<&'static Method, (i32, String)> {
    methods::find(name).ok_or_else(|| {
        let near = methods::nearest(name).map_or(String::new(), |near| format!("; did you mean {near:?}?"));
        (-32601, format!("there is no method {:?}{near}", name.chars().take(64).collect::<String>()))
    })
}

fn starts_run(method: &Method) -> bool {
    MethodDescriptor::of(method.name).is_some_and(|descriptor| descriptor.starts_run)
}

/// Converts parameters to an object with names.
fn by_name(method: &Method, params: Option<Value>) -> Result<Value, (i32, String)> {
    match params {
        None | Some(Value::Null) => Ok(Value::Object(Map::new())),
        Some(params @ Value::Object(_)) => Ok(params),
        // The parameters of a method that starts a run can be the single element of an array, too.
        Some(Value::Array(mut values)) if starts_run(method) && matches!(*values, [Value::Object(_)]) => {
            Ok(values.remove(0))
        }
        Some(Value::Array(values)) if values.len() <= method.params.len() => {
            let named = method.params.iter().map(|name| (*name).to_owned()).zip(values);
            // In an array, null stands for an omitted parameter.
            Ok(Value::Object(named.filter(|(_, value)| !value.is_null()).collect()))
        }
        Some(Value::Array(_)) if method.params.is_empty() => {
            Err((-32602, format!("{} takes no parameters", method.name)))
        }
        Some(Value::Array(_)) => Err((
            -32602,
            format!("{} takes at most {} parameters: {}", method.name, method.params.len(), method.params.join(", ")),
        )),
        Some(_) => Err((-32602, "\"params\" must be an object or an array".to_owned())),
    }
}

/// The JSON-RPC code of a kind of error.
pub(super) const fn code(kind: ErrorKind) -> i32 {
    match kind {
        ErrorKind::InvalidParams => -32602,
        ErrorKind::Internal => -32603,
        ErrorKind::PolicyDenied => -32001,
        ErrorKind::Unenforceable => -32002,
        ErrorKind::NotFound => -32004,
        ErrorKind::QueueFull => -32005,
        ErrorKind::CliMissing => -32006,
        ErrorKind::CwdMissing => -32007,
        ErrorKind::ProviderBlocked => -32008,
        ErrorKind::PluginFailed => -32009,
        ErrorKind::Conflict => -32010,
        ErrorKind::Io => -32011,
    }
}

/// Redacts the error of a response, which may quote the call.
fn cleaned(engine: &Arc<Engine>, mut answer: Value) -> Value {
    if let Some(error) = answer.get_mut("error") {
        engine.redactors().redact_document(error);
    }
    answer
}

/// The response to an unreadable frame.
pub(super) fn unreadable(message: &str) -> String {
    failure(Value::Null, -32700, message).to_string()
}

/// The response to a malformed or unknown call.
fn failure(id: impl Into<Value>, code: i32, message: &str) -> Value {
    let error = ApiError::new(ErrorKind::InvalidParams, message);
    json!({"jsonrpc": "2.0", "id": id.into(), "error": {"code": code, "message": message, "data": error}})
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use proptest::prelude::*;

    use super::*;

    fn code_of(call: Value) -> i64 {
        match read(call) {
            Err(answer) => answer["error"]["code"].as_i64().unwrap(),
            Ok((_, Err((code, _)))) => code.into(),
            Ok((_, Ok(_))) => 0,
        }
    }

    #[test]
    fn rejects_malformed_calls() {
        assert_eq!(code_of(json!(7)), -32600);
        assert_eq!(code_of(json!({"jsonrpc": "1.0", "id": 1, "method": "get_status"})), -32600);
        assert_eq!(code_of(json!({"jsonrpc": "2.0", "id": {}, "method": "get_status"})), -32600);
        assert_eq!(code_of(json!({"jsonrpc": "2.0", "id": 1, "method": 7})), -32600);
        assert_eq!(code_of(json!({"jsonrpc": "2.0", "id": 1, "method": "get_state"})), -32601);
        assert_eq!(code_of(json!({"jsonrpc": "2.0", "id": 1, "method": "get_run", "params": 7})), -32602);
        assert_eq!(code_of(json!({"jsonrpc": "2.0", "id": 1, "method": "get_run", "params": [1, 2]})), -32602);
        assert_eq!(code_of(json!({"jsonrpc": "2.0", "id": 1, "method": "get_run", "params": ["x"]})), 0);
    }

    #[test]
    fn maps_positional_parameters_to_names() {
        let (_, call) =
            read(json!({"jsonrpc": "2.0", "id": 1, "method": "get_run_events", "params": ["a", 3]})).unwrap();
        assert_eq!(call.unwrap_or_else(|_| panic!("a call")).params, json!({"runId": "a", "after": 3}));
    }

    #[test]
    fn start_payload_is_accepted_by_name_by_position_and_as_one_object() {
        let named = |params: Value| by_name(find("start_run").unwrap(), Some(params));
        let payload = json!({"provider": "codex", "prompt": "x", "cwd": "/w"});
        assert_eq!(named(payload.clone()), Ok(payload.clone()));
        assert_eq!(named(json!([payload])), Ok(payload.clone()));
        assert_eq!(named(json!(["x", "codex", null, null, null, null, "/w"])), Ok(payload));
        assert_eq!(named(json!(["x"])), Ok(json!({"prompt": "x"})));
        let (code, message) = named(json!(vec![1; 19])).unwrap_err();
        assert_eq!(code, -32602);
        assert!(message.starts_with("start_run takes at most 18 parameters: prompt, provider"), "{message}");
    }

    #[test]
    fn every_method_is_callable_by_position() {
        for method in methods::METHODS {
            let values: Vec<Value> = (0..method.params.len()).map(Value::from).collect();
            let named = by_name(method, Some(values.clone().into())).unwrap();
            let expected: Map<String, Value> =
                method.params.iter().map(|name| (*name).to_owned()).zip(values).collect();
            assert_eq!(named, Value::Object(expected), "{}", method.name);
            let (code, _) = by_name(method, Some(vec![1; method.params.len() + 1].into())).unwrap_err();
            assert_eq!(code, -32602, "{}", method.name);
        }
    }

    #[test]
    fn unknown_method_suggests_the_nearest() {
        let (_, call) = read(json!({"jsonrpc": "2.0", "id": 1, "method": "list_run"})).unwrap();
        let Err((_, message)) = call else { panic!("there is no such method") };
        assert!(message.contains("\"list_runs\""), "{message}");
    }

    #[test]
    fn rejects_frame_with_too_many_values_before_parsing() {
        let many = format!("[{}0]", "0,".repeat(MAX_VALUES));
        assert!(check_shape(many.as_bytes()).is_err());
        let deep = "[".repeat(MAX_DEPTH + 1);
        assert!(check_shape(deep.as_bytes()).is_err());
        let text = format!(r#"{{"prompt": "{}\"{}"}}"#, ",".repeat(MAX_VALUES + 1), "[".repeat(MAX_DEPTH + 1));
        assert_eq!(check_shape(text.as_bytes()), Ok(()));
    }

    proptest! {
        #[test]
        fn arbitrary_text_never_panics(text in ".{0,200}") {
            if let Ok(value) = serde_json::from_str::<Value>(&text) {
                let _ = read(value);
            }
        }

        #[test]
        fn arbitrary_call_never_panics(method in ".{0,30}", id in any::<Option<i64>>(), positions in 0_usize..6) {
            let call = json!({"jsonrpc": "2.0", "id": id, "method": method, "params": vec![1; positions]});
            let _ = read(call);
        }
    }
}
