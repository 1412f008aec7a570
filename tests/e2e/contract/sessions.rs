//! Calls the methods of sessions, approvals and the inbox in every way that the document lists.

use super::walk::{ContractWalk, UNKNOWN_ID};
use crate::support::{TIMEOUT, wait_until};
use serde_json::{Value, json};
use std::fs;

impl ContractWalk<'_> {
    /// The methods for sessions, and their errors.
    pub fn sessions(&mut self) {
        let started = self.ok("start_interactive_session", self.payload("ASK shell: ls", json!({})));
        let run = started["runId"].clone();
        self.ok("list_approvals", json!({}));
        let approval = self.wait_for_approval(&run);
        self.ok("get_inbox", json!({}));
        let answer = |more: Value| {
            let mut params = json!({ "runId": run, "requestId": approval["id"] });
            params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            params
        };
        self.refused("answer_approval", answer(json!({ "answers": { "x": ["y"] } })), "INVALID_PARAMS");
        self.ok("answer_approval", answer(json!({ "allow": true })));
        self.refused("answer_approval", answer(json!({ "allow": true })), "CONFLICT");
        let unknown = json!({ "runId": UNKNOWN_ID, "requestId": UNKNOWN_ID, "allow": true });
        self.refused("answer_approval", unknown, "NOT_FOUND");
        self.refused("list_approvals", json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");

        self.ok("send_session_input", json!({ "runId": run, "data": "SLOW 600" }));
        self.ok("interrupt_turn", json!({ "runId": run }));
        self.ok("resume_session", json!({ "runId": run, "after": 0 }));
        self.refused("resume_session", json!({ "runId": run, "prompt": "SAY x" }), "CONFLICT");
        self.session_submits();
        self.ok("end_session", json!({ "runId": run }));
        self.refused("send_session_input", json!({ "runId": run, "data": "SAY x" }), "CONFLICT");
        self.refused("interrupt_turn", json!({ "runId": run }), "CONFLICT");
        let plain = self.occupy_slot();
        self.refused("end_session", json!({ "runId": plain }), "CONFLICT");
        self.ok("cancel_run", json!({ "runId": plain }));
        for method in ["interrupt_turn", "end_session", "resume_session"] {
            self.refused(method, json!({ "runId": UNKNOWN_ID }), "NOT_FOUND");
        }
        self.refused("send_session_input", json!({ "runId": UNKNOWN_ID, "data": "x" }), "NOT_FOUND");
        self.resume();
        self.terminal();

        let failed = self.run("FAIL usage", json!({}));
        self.ok("get_inbox", json!({}));
        self.ok("acknowledge_failures", json!({ "runIds": [failed] }));
        self.ok("acknowledge_failures", json!({}));
        self.refused("acknowledge_failures", json!({ "runIds": [UNKNOWN_ID] }), "NOT_FOUND");
    }

    /// A session in a terminal.
    fn terminal(&mut self) {
        let mut payload = self.payload("", json!({ "provider": "shell", "terminal": { "rows": 20 } }));
        payload.as_object_mut().unwrap().remove("prompt");
        let started = self.ok("start_interactive_session", payload);
        let run = started["runId"].clone();
        let size = |run: &Value, rows: u16| json!({ "runId": run, "rows": rows, "columns": 100 });
        self.ok("resize_terminal", size(&run, 40));
        self.refused("resize_terminal", size(&run, 0), "INVALID_PARAMS");
        self.refused("resize_terminal", size(&json!(UNKNOWN_ID), 40), "NOT_FOUND");
        self.ok("send_session_input", json!({ "runId": run, "data": "exit\r", "keys": true }));
        self.ok("end_session", json!({ "runId": run }));
        self.refused("resize_terminal", size(&run, 40), "CONFLICT");
    }

    fn wait_for_approval(&mut self, run: &Value) -> Value {
        let host = self.host();
        wait_until("an approval", TIMEOUT, || {
            let open = host.call("list_approvals", &json!({ "runId": run })).unwrap();
            open.as_array().unwrap().first().cloned()
        })
    }

    /// The errors of a start, while a session has the only slot.
    fn session_submits(&mut self) {
        for (more, kind) in self.refused_payloads().into_iter().filter(|(_, kind)| *kind != "UNENFORCEABLE") {
            self.refused("start_interactive_session", self.payload("SAY x", more), kind);
        }
        for (provider, _, kind) in self.broken() {
            let payload = self.payload("SAY x", json!({ "provider": provider }));
            self.refused("start_interactive_session", payload, kind);
        }
        let nobody = self.payload("SAY x", json!({ "provider": "nobody" }));
        self.refused("start_interactive_session", nobody, "NOT_FOUND");
        let ended = self.ended_run();
        let waiting = [self.start("SAY x", json!({})), self.start("SAY x", json!({}))];
        self.refused("start_interactive_session", self.payload("SAY x", json!({})), "QUEUE_FULL");
        self.refused("resume_session", json!({ "runId": ended }), "QUEUE_FULL");
        for run in &waiting {
            self.ok("cancel_run", json!({ "runId": run }));
        }
        let after = json!({ "startAfter": { "runIds": [waiting[0]] } });
        self.refused("start_interactive_session", self.payload("SAY x", after), "CONFLICT");
    }

    /// The ways in which a session cannot be resumed, and a resumed session.
    fn resume(&mut self) {
        for (_, run, kind) in self.broken() {
            self.refused("resume_session", json!({ "runId": run }), kind);
        }
        let folder = self.host().root().join("for-a-while");
        fs::create_dir(&folder).unwrap();
        self.ok("grant_workspace", json!({ "path": folder }));
        let run = self.run("SAY x", json!({ "cwd": folder }));
        self.ok("revoke_workspace", json!({ "path": folder }));
        self.refused("resume_session", json!({ "runId": run }), "POLICY_DENIED");
        fs::remove_dir(&folder).unwrap();
        self.refused("resume_session", json!({ "runId": run }), "CWD_MISSING");
        let ended = self.ended_run();
        let resumed = self.ok("resume_session", json!({ "runId": ended, "prompt": "SAY again" }));
        self.ok("end_session", json!({ "runId": resumed["runId"] }));
    }
}
