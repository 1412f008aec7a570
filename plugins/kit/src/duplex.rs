//! Two-way protocols: when a run uses one, and what the transcript tells the host about it.

use ostler_plugin::provider::{OtherEvent, RunMode, RunRequest, Semantic};
use serde_json::{Value, json};

use crate::host_extra::HostExtra;

/// How a run uses the two-way protocol of its CLI.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duplex {
    /// The run is a session, which ends when the host closes its input.
    pub interactive: bool,
    /// Tool uses are decided before they run.
    pub approvals: bool,
    /// Each tool use has to be decided, also those that the CLI would allow by itself.
    pub every_tool: bool,
}

impl Duplex {
    /// Whether, and how, this run uses the two-way protocol; none if it does not need it, or runs in a terminal.
    #[must_use]
    pub fn of(request: &RunRequest) -> Option<Self> {
        let extra = HostExtra::of(request);
        if extra.in_terminal(request) {
            return None;
        }
        let interactive = request.mode == RunMode::Interactive;
        let every_tool = extra.approvals && extra.every_tool;
        (interactive || extra.approvals).then_some(Self { interactive, approvals: extra.approvals, every_tool })
    }
}

/// The transcript has sent a request that the CLI must answer within this time; otherwise the host ends the CLI and names
/// `what`, such as `initialize`.
#[must_use]
pub fn request_sent(id: &str, what: &str, timeout_ms: u64) -> Semantic {
    other("protocol-request", &json!({ "id": id, "what": what, "timeoutMs": timeout_ms }))
}

/// The CLI has answered the request, also if it answered with an error.
#[must_use]
pub fn request_answered(id: &str) -> Semantic {
    other("protocol-answer", &json!({ "id": id }))
}

/// Whether a turn is running, and how many background tasks there are. A transcript reports each change once.
#[must_use]
pub fn session_state(running: bool, background: usize) -> Semantic {
    let state = if running { "running" } else { "idle" };
    other("session-state", &json!({ "state": state, "background": background }))
}

fn other(kind: &str, fields: &Value) -> Semantic {
    Semantic::Other(OtherEvent { kind: kind.to_owned(), fields: fields.to_string() })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::panic)]

    use super::*;

    #[test]
    fn two_way_protocol_is_used_in_sessions_and_where_tools_are_decided() {
        let of = |mode: RunMode, extra: Option<&str>| {
            let mut request = RunRequest { mode, ..RunRequest::default() };
            request.host.extra = extra.map(str::to_owned);
            Duplex::of(&request)
        };
        assert_eq!(of(RunMode::NonInteractive, None), None);
        assert_eq!(of(RunMode::NonInteractive, Some(r#"{"approvals": false, "everyTool": true}"#)), None);
        let session = Duplex { interactive: true, ..Duplex::default() };
        assert_eq!(of(RunMode::Interactive, Some("[]")), Some(session));
        let asked = Duplex { approvals: true, ..Duplex::default() };
        assert_eq!(of(RunMode::NonInteractive, Some(r#"{"approvals": true, "sandboxed": true}"#)), Some(asked));
        let all = Duplex { interactive: true, approvals: true, every_tool: true };
        assert_eq!(of(RunMode::Interactive, Some(r#"{"approvals": true, "everyTool": true}"#)), Some(all));
    }

    #[test]
    fn events_for_the_host_are_json_objects() {
        let Semantic::Other(event) = request_sent("1", "initialize", 60_000) else { panic!("another event") };
        assert_eq!(event.kind, "protocol-request");
        assert_eq!(event.fields, r#"{"id":"1","what":"initialize","timeoutMs":60000}"#);
        let Semantic::Other(event) = session_state(false, 2) else { panic!("another event") };
        assert_eq!(
            (event.kind.as_str(), event.fields.as_str()),
            ("session-state", r#"{"state":"idle","background":2}"#)
        );
    }
}
