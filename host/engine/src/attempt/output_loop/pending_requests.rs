//! The requests of an attempt's CLI that wait for a user, and what the policies said about tool uses so far.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use ostler_plugin_host::types::ToolCall;
use ostler_protocol::{ApprovalDecider, ApprovalId, ApprovalKind, ApprovalVerdict};

/// Requests that wait for a user at a time. A further one is denied.
pub(crate) const MAX_PENDING: usize = 64;

/// Judgments that are remembered. A CLI asks about a tool use right after it has shown it.
const MAX_JUDGED: usize = 1000;

/// A request that waits for a user.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PendingRequest {
    pub(crate) id: ApprovalId,
    /// The plugin's id of the request.
    pub(crate) request: String,
    /// The tool use that it is about.
    pub(crate) call: String,
    /// Under what the answer is remembered, if the CLI will ask about the same use again.
    pub(crate) key: Option<String>,
    pub(crate) kind: ApprovalKind,
    /// The tool use, if a user may replace its input.
    pub(crate) editable: Option<Box<ToolCall>>,
    pub(crate) expires: Instant,
}

/// What was decided about a request of the CLI.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Decided {
    pub(crate) verdict: ApprovalVerdict,
    pub(crate) by: ApprovalDecider,
    pub(crate) actor: Option<String>,
    pub(crate) message: Option<String>,
}

impl Decided {
    pub(crate) const fn allow(by: ApprovalDecider, actor: Option<String>) -> Self {
        Self { verdict: ApprovalVerdict::Allow, by, actor, message: None }
    }

    pub(crate) fn deny(by: ApprovalDecider, actor: Option<String>, message: impl Into<String>) -> Self {
        Self { verdict: ApprovalVerdict::Deny, by, actor, message: Some(message.into()) }
    }
}

/// What the policies said about a tool use that the CLI has shown, for its question about the same use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Judgment {
    /// One has decided.
    Decided(Decided),
    /// None had anything to say.
    NoFindings,
}

/// The requests of an attempt.
#[derive(Debug, Default)]
pub(crate) struct PendingRequests {
    waiting: Vec<PendingRequest>,
    /// When the oldest of the waiting requests was opened, while there is one.
    since: Option<Instant>,
    judged: HashMap<String, Judgment>,
    order: VecDeque<String>,
}

impl PendingRequests {
    /// Whether a further request may wait.
    pub(crate) fn has_room(&self) -> bool {
        self.waiting.len() < MAX_PENDING
    }

    /// Removes all requests.
    pub(crate) fn drain(&mut self) -> Vec<ApprovalId> {
        self.since = None;
        self.waiting.drain(..).map(|request| request.id).collect()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Adds a request. Returns the one with the same plugin id that it replaces: an answer can reach only one of them.
    pub(crate) fn add(&mut self, request: PendingRequest, now: Instant) -> Option<PendingRequest> {
        let same = self.waiting.iter().position(|waiting| waiting.request == request.request);
        let replaced = same.map(|index| self.waiting.remove(index));
        self.waiting.push(request);
        self.since.get_or_insert(now);
        replaced
    }

    pub(crate) fn get(&self, id: ApprovalId) -> Option<&PendingRequest> {
        self.waiting.iter().find(|request| request.id == id)
    }

    /// Removes a request by its plugin id. Returns it, and how long a user was waited for if it was the last one.
    pub(crate) fn take_request(&mut self, request: &str, now: Instant) -> Option<(PendingRequest, Duration)> {
        let index = self.waiting.iter().position(|waiting| waiting.request == request)?;
        Some(self.remove(index, now))
    }

    /// As [`take_request`](Self::take_request), by the approval.
    pub(crate) fn take(&mut self, id: ApprovalId, now: Instant) -> Option<(PendingRequest, Duration)> {
        let index = self.waiting.iter().position(|waiting| waiting.id == id)?;
        Some(self.remove(index, now))
    }

    fn remove(&mut self, index: usize, now: Instant) -> (PendingRequest, Duration) {
        let removed = self.waiting.remove(index);
        let waited = if self.waiting.is_empty() { self.since.take() } else { None };
        (removed, waited.map_or(Duration::ZERO, |since| now.saturating_duration_since(since)))
    }

    /// The next time at which a request expires.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.waiting.iter().map(|request| request.expires).min()
    }

    /// The requests that have expired.
    pub(crate) fn expired(&self, now: Instant) -> Vec<ApprovalId> {
        self.waiting.iter().filter(|request| request.expires <= now).map(|request| request.id).collect()
    }

    /// Remembers what the policies said about a tool use, under its key, for the question of the CLI that follows.
    pub(crate) fn remember(&mut self, call: &str, judgment: Judgment) {
        if call.is_empty() {
            return;
        }
        if self.judged.insert(call.to_owned(), judgment).is_none() {
            self.order.push_back(call.to_owned());
        }
        if self.order.len() > MAX_JUDGED
            && let Some(oldest) = self.order.pop_front()
        {
            self.judged.remove(&oldest);
        }
    }

    /// What the policies said about a tool use. It counts once: a second question about it is a new one.
    pub(crate) fn judgment(&mut self, call: &str) -> Option<Judgment> {
        self.judged.remove(call).inspect(|_| self.order.retain(|known| known != call))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;

    fn request(name: &str, expires: Instant) -> PendingRequest {
        PendingRequest {
            id: ApprovalId::generate(),
            request: name.to_owned(),
            call: format!("call-{name}"),
            key: None,
            kind: ApprovalKind::Command,
            editable: None,
            expires,
        }
    }

    #[test]
    fn second_request_with_the_same_id_replaces_the_first() {
        let (mut pending, now) = (PendingRequests::default(), Instant::now());
        let (first, second) = (request("1", now), request("1", now));
        assert_eq!(pending.add(first.clone(), now), None);
        assert_eq!(pending.add(second.clone(), now), Some(first.clone()));
        assert!(pending.get(first.id).is_none() && pending.get(second.id).is_some());
    }

    #[test]
    fn expired_requests_are_reported_until_they_are_taken() {
        let (mut pending, now) = (PendingRequests::default(), Instant::now());
        let later = now + Duration::from_secs(300);
        let (early, late) = (request("1", now), request("2", later));
        pending.add(early.clone(), now);
        pending.add(late.clone(), now);
        assert_eq!((pending.deadline(), pending.expired(now)), (Some(now), vec![early.id]));
        pending.take(early.id, now).unwrap();
        assert_eq!((pending.deadline(), pending.expired(now)), (Some(later), vec![]));
        assert!(pending.take(early.id, now).is_none());
    }

    #[test]
    fn time_of_waiting_is_counted_once_for_requests_that_overlap() {
        let (mut pending, now) = (PendingRequests::default(), Instant::now());
        let at = |seconds| now + Duration::from_secs(seconds);
        pending.add(request("1", at(300)), at(0));
        pending.add(request("2", at(300)), at(10));
        assert_eq!(pending.take_request("1", at(20)).unwrap().1, Duration::ZERO);
        assert_eq!(pending.take_request("2", at(30)).unwrap().1, Duration::from_secs(30));
        assert!(pending.is_empty());
    }

    #[test]
    fn decision_about_a_tool_use_counts_once_and_the_oldest_are_forgotten() {
        let mut pending = PendingRequests::default();
        let decided =
            Decided { verdict: ApprovalVerdict::Allow, by: ApprovalDecider::User, actor: None, message: None };
        let judgment = Judgment::Decided(decided);
        for number in 0..=MAX_JUDGED {
            pending.remember(&number.to_string(), judgment.clone());
        }
        assert_eq!(pending.judgment("0"), None);
        assert_eq!(pending.judgment("1"), Some(judgment.clone()));
        assert_eq!(pending.judgment("1"), None);
        pending.remember("", judgment);
        assert_eq!(pending.judgment(""), None, "without an id, uses cannot be distinguished");
    }
}
