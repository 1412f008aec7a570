//! What one call of the transcript returns to the host.

use ostler_plugin::provider::{Notice, Semantic, Step};
use ostler_provider_kit::duplex;
use serde_json::{Value, json};

/// The error code of JSON-RPC for a method that the client does not have.
const METHOD_NOT_FOUND: i64 = -32601;

/// Collects events, and messages to codex.
#[derive(Debug, Default)]
pub(super) struct Output {
    pub events: Vec<Semantic>,
    write: Vec<u8>,
    pub end_input: bool,
}

impl Output {
    pub(super) fn emit(&mut self, event: Semantic) {
        self.events.push(event);
    }

    pub(super) fn warn(&mut self, notice: Notice) {
        self.events.push(Semantic::Warning(notice));
    }

    /// Sends a request that codex must answer within `timeout_ms`.
    pub(super) fn request(&mut self, id: u64, method: &str, params: &Value, timeout_ms: u64) {
        self.send(&json!({ "id": id, "method": method, "params": params }));
        self.emit(duplex::request_sent(&id.to_string(), method, timeout_ms));
    }

    pub(super) fn notify(&mut self, method: &str) {
        self.send(&json!({ "method": method }));
    }

    pub(super) fn answer(&mut self, id: &Value, result: &Value) {
        self.send(&json!({ "id": id, "result": result }));
    }

    /// Declines a request. codex then denies what it asked for.
    pub(super) fn decline(&mut self, id: &Value, why: &str) {
        self.send(&json!({ "id": id, "error": { "code": METHOD_NOT_FOUND, "message": why } }));
    }

    fn send(&mut self, message: &Value) {
        self.write.extend(message.to_string().into_bytes());
        self.write.push(b'\n');
    }

    pub(super) fn into_step(self, covered: Vec<u32>) -> Step {
        Step { events: self.events, covered, write: self.write, end_input: self.end_input }
    }
}
