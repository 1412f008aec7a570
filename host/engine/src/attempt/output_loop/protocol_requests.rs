//! Requests of the plugin to the CLI that have no answer yet, each with a deadline.
//!
//! A plugin has no clock. It reports a request and its time limit with the event `protocol-request`, and the answer with
//! `protocol-answer`. The host consumes both. A CLI that does not answer in time is ended: otherwise both sides would wait
//! for ever.

use std::time::{Duration, Instant};

use serde::Deserialize;

use ostler_plugin_host::types::Semantic;

const REQUEST: &str = "protocol-request";
const ANSWER: &str = "protocol-answer";

/// Requests that are remembered at a time. A plugin has a handful; beyond this, further ones have no deadline.
const MAX_REQUESTS: usize = 256;

/// Shortest and longest time limit of a request.
const LIMITS: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(600));

/// The unanswered requests of an attempt.
#[derive(Debug, Default)]
pub(crate) struct ProtocolRequests {
    open: Vec<Request>,
}

#[derive(Debug)]
struct Request {
    id: String,
    what: String,
    limit: Duration,
    deadline: Instant,
}

/// Members of `protocol-request`.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct RequestFields {
    id: String,
    what: String,
    timeout_ms: u64,
}

/// Members of `protocol-answer`.
#[derive(Deserialize)]
struct AnswerFields {
    id: String,
}

impl ProtocolRequests {
    /// Takes the events about requests out of a step.
    pub(crate) fn take(&mut self, events: &mut Vec<Semantic>, now: Instant) {
        events.retain(|event| {
            let Semantic::Other(other) = event else { return true };
            match other.kind.as_str() {
                REQUEST => self.open(&other.fields, now),
                ANSWER => self.close(&other.fields),
                _ => return true,
            }
            false
        });
    }

    fn open(&mut self, fields: &str, now: Instant) {
        let Ok(fields) = serde_json::from_str::<RequestFields>(fields) else { return };
        if self.open.len() >= MAX_REQUESTS {
            return;
        }
        let limit = Duration::from_millis(fields.timeout_ms).clamp(LIMITS.0, LIMITS.1);
        self.open.push(Request { id: fields.id, what: fields.what, limit, deadline: now + limit });
    }

    fn close(&mut self, fields: &str) {
        let Ok(AnswerFields { id }) = serde_json::from_str(fields) else { return };
        if let Some(index) = self.open.iter().position(|request| request.id == id) {
            self.open.swap_remove(index);
        }
    }

    /// The next deadline.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.open.iter().map(|request| request.deadline).min()
    }

    /// The message about a request that was not answered in time.
    pub(crate) fn overdue(&self, now: Instant) -> Option<String> {
        let late = self.open.iter().filter(|request| request.deadline <= now).min_by_key(|request| request.deadline)?;
        Some(format!("the CLI did not answer `{}` within {} s", late.what, late.limit.as_secs()))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use ostler_plugin_host::types::OtherEvent;
    use serde_json::{Value, json};

    use super::*;

    fn event(kind: &str, fields: &Value) -> Semantic {
        Semantic::Other(OtherEvent { kind: kind.to_owned(), fields: fields.to_string() })
    }

    fn request(id: &str, timeout_ms: u64) -> Semantic {
        event(REQUEST, &json!({"id": id, "what": "initialize", "timeoutMs": timeout_ms}))
    }

    #[test]
    fn request_is_overdue_after_its_time_limit_until_it_is_answered() {
        let (mut requests, now) = (ProtocolRequests::default(), Instant::now());
        let mut events = vec![request("1", 5000), event("mine", &json!({})), request("2", 30_000)];
        requests.take(&mut events, now);
        assert_eq!(events.len(), 1, "an event of another kind stays");
        assert_eq!(requests.deadline(), Some(now + Duration::from_secs(5)));
        assert_eq!(requests.overdue(now + Duration::from_secs(4)), None);
        let late = requests.overdue(now + Duration::from_secs(60)).unwrap();
        assert_eq!(late, "the CLI did not answer `initialize` within 5 s");
        requests.take(&mut vec![event(ANSWER, &json!({"id": "1"}))], now);
        assert_eq!(requests.deadline(), Some(now + Duration::from_secs(30)));
        requests.take(&mut vec![event(ANSWER, &json!({"id": "2"})), event(ANSWER, &json!({"id": "3"}))], now);
        assert_eq!((requests.deadline(), requests.overdue(now + Duration::from_secs(60))), (None, None));
    }

    #[test]
    fn number_and_time_limits_of_requests_are_bounded() {
        let (mut requests, now) = (ProtocolRequests::default(), Instant::now());
        requests.take(&mut vec![request("1", u64::MAX)], now);
        assert_eq!(requests.deadline(), Some(now + LIMITS.1));
        requests.take(&mut (0..2 * MAX_REQUESTS).map(|id| request(&id.to_string(), 0)).collect(), now);
        assert_eq!(requests.open.len(), MAX_REQUESTS);
        assert_eq!(requests.deadline(), Some(now + LIMITS.0));
        let mut malformed = vec![event(REQUEST, &json!({"id": 1})), event(ANSWER, &json!([]))];
        requests.take(&mut malformed, now);
        assert!(malformed.is_empty());
    }
}
