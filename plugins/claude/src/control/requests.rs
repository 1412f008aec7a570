//! Messages for claude.

use ostler_plugin::provider::Semantic;
use ostler_provider_kit::duplex::{request_answered, request_sent};
use serde_json::{Value, json};

/// Id of the handshake.
pub(super) const INITIALIZE: &str = "initialize";

/// Id of the host's hook.
pub(super) const HOOK: &str = "ostler";

/// Time for the answer to the handshake and to an interrupt, in milliseconds. claude can start slowly.
const INITIALIZE_MS: u64 = 60_000;
const INTERRUPT_MS: u64 = 5_000;

/// Time for the answer of the hook, in seconds: longer than the host waits for a person. After it, claude refuses the tool use.
const HOOK_SECONDS: u64 = 86_400;

/// What is to be written, and the requests that claude has not answered.
#[derive(Debug)]
pub(super) struct Outbox {
    bytes: Vec<u8>,
    sent: Vec<String>,
    interrupts: u64,
    messages: u16,
    /// The beginning of the ids of messages, unique to the attempt: claude ignores a message whose id the session has.
    prefix: String,
}

impl Outbox {
    pub(super) fn new(fresh_id: &str) -> Self {
        let prefix = fresh_id.get(..32).unwrap_or("00000000-0000-4000-8000-00000000").to_owned();
        Self { bytes: Vec::new(), sent: Vec::new(), interrupts: 0, messages: 0, prefix }
    }

    /// What has been written since the last call.
    pub(super) fn take(&mut self) -> Vec<u8> {
        std::mem::take(&mut self.bytes)
    }

    fn line(&mut self, message: &Value) {
        self.bytes.extend_from_slice(message.to_string().as_bytes());
        self.bytes.push(b'\n');
    }

    fn request(&mut self, id: String, timeout_ms: u64, body: &Value) -> Semantic {
        self.line(&json!({ "type": "control_request", "request_id": id, "request": body }));
        let event = request_sent(&id, body["subtype"].as_str().unwrap_or_default(), timeout_ms);
        self.sent.push(id);
        event
    }

    /// The handshake. `hook`: claude shows each tool use before it happens, and a failure of that blocks it.
    pub(super) fn initialize(&mut self, hook: bool) -> Semantic {
        let mut body = json!({ "subtype": "initialize" });
        if hook {
            // Without a matcher, for every tool.
            let hook = json!({ "hookCallbackIds": [HOOK], "timeout": HOOK_SECONDS, "onFailure": "block" });
            body["hooks"] = json!({ "PreToolUse": [hook] });
        }
        self.request(INITIALIZE.to_owned(), INITIALIZE_MS, &body)
    }

    pub(super) fn interrupt(&mut self) -> Semantic {
        self.interrupts += 1;
        let id = format!("interrupt-{}", self.interrupts);
        self.request(id, INTERRUPT_MS, &json!({ "subtype": "interrupt" }))
    }

    /// claude has answered the request with this id. None if there is no such request.
    pub(super) fn answered(&mut self, id: &str) -> Option<Semantic> {
        let place = self.sent.iter().position(|sent| sent == id)?;
        self.sent.swap_remove(place);
        Some(request_answered(id))
    }

    /// A message of the user. Returns its id, with which claude reports what becomes of it.
    pub(super) fn message(&mut self, text: &str) -> String {
        self.messages = self.messages.wrapping_add(1);
        let uuid = format!("{}{:04x}", self.prefix, self.messages);
        let content = [json!({ "type": "text", "text": text })];
        let message = json!({ "role": "user", "content": content });
        self.line(&json!({ "type": "user", "uuid": uuid, "message": message }));
        uuid
    }

    /// Answers a request of claude.
    pub(super) fn respond(&mut self, id: &str, body: &Value) {
        let response = json!({ "subtype": "success", "request_id": id, "response": body });
        self.line(&json!({ "type": "control_response", "response": response }));
    }

    /// Answers a request of claude with an error, which denies it.
    pub(super) fn refuse(&mut self, id: &str, error: &str) {
        let response = json!({ "subtype": "error", "request_id": id, "error": error });
        self.line(&json!({ "type": "control_response", "response": response }));
    }
}
