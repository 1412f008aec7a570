//! What the CLI asks before it acts: the policies decide first, then the payload's own rule, then a user.
//!
//! A request of the phase `use` shows a tool use before it happens; a request of the phase `ask` waits for a decision.
//! Many CLIs make both for one use. What was decided at the first one holds for the second, if it is about the same input.

use std::time::Instant;

use base16ct::lower::encode_string as hex;
use sha2::{Digest, Sha256};

use super::OutputLoop;
use super::approval_request::{OpenApproval, Phase, RequestFacts, approval};
use super::edited_call::edited_call;
use super::pending_requests::{Decided, Judgment, MAX_PENDING, PendingRequest};
use crate::attempt::event_translator::tool_use;
use crate::attempt::outcome::StopReason;
use crate::audit::AuditEntry;
use crate::session::approvals::Closed;
use crate::session::command::Client;
use ostler_plugin_host::types::{self as plugin, ToolCall};
use ostler_protocol::semantic::{ApprovalRequest, ApprovalWithdrawal};
use ostler_protocol::{
    Actor, ApiError, ApprovalDecider, ApprovalDecision, ApprovalId, ApprovalKind, ApprovalVerdict, AuditKind,
    ErrorKind, Finding, Payload, PolicyAudit, Semantic, Verdict,
};
use ostler_test_hooks::clock;

/// Requests that a step of the plugin, and the answers to them, may cause.
const MAX_REQUESTS_OF_STEP: usize = 1000;

/// Decisions of an attempt without a user that are recorded in the audit trail.
const MAX_AUDITED: u64 = 10_000;

/// What is decided when no policy objects and the CLI asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fallback {
    /// A user is asked.
    AskUser,
    /// It is allowed. Questions of the agent are asked if the run is a session.
    Allow {
        /// Whether the run is a session.
        interactive: bool,
    },
    /// The run was started without questions. What its CLI does not allow by its own rules is denied, as it would be if
    /// the CLI could not ask.
    NoQuestions,
    /// The CLI has no way to wait for a user.
    Deny,
}

/// What the host does with a request that no policy has decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reaction {
    Ask,
    Allow,
    Deny,
}

impl Fallback {
    const fn reaction(self, kind: ApprovalKind) -> Reaction {
        let question = matches!(kind, ApprovalKind::Question | ApprovalKind::Elicitation);
        match self {
            Self::AskUser => Reaction::Ask,
            Self::Allow { interactive: true } if question => Reaction::Ask,
            Self::Allow { interactive: false } if question => Reaction::Deny,
            Self::Allow { .. } => Reaction::Allow,
            Self::NoQuestions | Self::Deny => Reaction::Deny,
        }
    }
}

impl OutputLoop<'_> {
    /// Handles the requests and withdrawals of a step, in their order. A decision can cause further requests, which are handled
    /// after those that came before.
    pub(super) fn on_requests(&mut self, events: Vec<plugin::Semantic>) {
        self.asked.extend(events);
        if self.deciding {
            return;
        }
        self.deciding = true;
        let mut handled = 0;
        while let Some(event) = self.asked.pop_front() {
            handled += 1;
            if handled > MAX_REQUESTS_OF_STEP {
                self.asked.clear();
                self.end_child(StopReason::Unresponsive("the CLI asks for decisions without end".to_owned()));
                break;
            }
            match event {
                plugin::Semantic::ApprovalRequested(request) => self.on_request(&request),
                plugin::Semantic::ApprovalWithdrawn(request) => self.on_withdrawn(&request),
                _ => {}
            }
        }
        self.deciding = false;
    }

    fn on_request(&mut self, request: &plugin::ApprovalRequest) {
        let facts = RequestFacts::read(request.extra.as_deref());
        let kind = facts.kind_of(&request.call);
        if self.stop_reason != StopReason::Nothing {
            let decided = Decided::deny(ApprovalDecider::Host, None, "the run is being ended");
            return self.settle(request, kind, decided, None);
        }
        let key = use_key(&request.call);
        // The policies have judged the same input when the CLI showed the use.
        match (facts.phase == Phase::Ask).then(|| self.pending.judgment(&key)).flatten() {
            Some(Judgment::Decided(decided)) => return self.settle(request, kind, decided, None),
            Some(Judgment::NoFindings) => return self.fall_back(request, &facts, kind),
            None => {}
        }
        let in_time = self.may_evaluate();
        let (decision, audit) = self.tools.decide(&request.call, in_time);
        let against = decision.findings.first().filter(|finding| finding.verdict >= Verdict::Ask).cloned();
        let for_it = decision.findings.iter().find(|finding| finding.verdict == Verdict::Allow).cloned();
        let question = matches!(kind, ApprovalKind::Question | ApprovalKind::Elicitation);
        match (against, for_it) {
            (Some(finding), _) if finding.verdict == Verdict::Deny => {
                let message = denial(&finding);
                let decided = Decided::deny(ApprovalDecider::Policy, Some(finding.policy), message);
                self.settle(request, kind, decided, Some(audit));
            }
            (Some(finding), _) if self.fallback == Fallback::Deny => {
                let message = format!("{}, and nobody can be asked in this run", denial(&finding));
                let decided = Decided::deny(ApprovalDecider::Policy, Some(finding.policy), message);
                self.settle(request, kind, decided, Some(audit));
            }
            (Some(finding), _) => {
                self.sink.store_within_quota(self.recorder.event(&Payload::PolicyAudit(audit)));
                self.ask_user(request, &facts, Some(finding.message));
            }
            (None, Some(finding)) if !question => {
                let decided = Decided::allow(ApprovalDecider::Policy, Some(finding.policy));
                if facts.phase == Phase::Use {
                    self.pending.remember(&key, Judgment::Decided(decided.clone()));
                }
                self.settle(request, kind, decided, Some(audit));
            }
            _ if facts.phase == Phase::Use => {
                // No policy objects; the CLI applies its own rules.
                if decision.findings.is_empty() {
                    self.pending.remember(&key, Judgment::NoFindings);
                }
                self.pass_on(&request.id, &plugin_decision(&Decided::allow(ApprovalDecider::Host, None)));
            }
            _ => self.fall_back(request, &facts, kind),
        }
    }

    /// Decides about a request that no policy has decided.
    fn fall_back(&mut self, request: &plugin::ApprovalRequest, facts: &RequestFacts, kind: ApprovalKind) {
        match self.fallback.reaction(kind) {
            Reaction::Ask => self.ask_user(request, facts, None),
            Reaction::Allow => self.settle(request, kind, Decided::allow(ApprovalDecider::Host, None), None),
            Reaction::Deny => {
                let decided = Decided::deny(ApprovalDecider::Host, None, "nobody can be asked in this run");
                self.settle(request, kind, decided, None);
            }
        }
    }

    /// Opens an approval for the users of the run.
    fn ask_user(&mut self, request: &plugin::ApprovalRequest, facts: &RequestFacts, asked_by_policy: Option<String>) {
        let kind = facts.kind_of(&request.call);
        if !self.pending.has_room() {
            let message = format!("{MAX_PENDING} requests of this run wait for a user already");
            return self.settle(request, kind, Decided::deny(ApprovalDecider::Host, None, message), None);
        }
        let now = clock::now();
        let open = OpenApproval {
            run: self.run,
            provider: self.provider,
            cwd: self.cwd,
            request,
            facts,
            asked_by_policy,
            opened_at: now,
            expires_at: now.saturating_add(self.approval_limit).unwrap_or(now),
        };
        let approval = approval(open, self.recorder);
        let event = Semantic::ApprovalRequested(ApprovalRequest {
            request_id: approval.id.to_string(),
            call: tool_use(request.call.clone()),
            reason: request.reason.clone(),
            approval: Some(Box::new(approval.clone())),
        });
        let pending = PendingRequest {
            id: approval.id,
            request: request.id.clone(),
            call: request.call.id.clone(),
            key: (facts.phase == Phase::Use).then(|| use_key(&request.call)),
            kind,
            editable: facts.editable.then(|| Box::new(request.call.clone())),
            expires: Instant::now() + self.approval_limit,
        };
        if let Some(replaced) = self.pending.add(pending, Instant::now()) {
            self.withdraw(replaced.id);
        }
        self.sink.store_within_quota(self.recorder.event(&Payload::Semantic(event)));
        self.approvals.open(approval, self.active_run);
    }

    fn on_withdrawn(&mut self, request: &str) {
        if let Some((pending, waited)) = self.pending.take_request(request, Instant::now()) {
            self.deadline += waited;
            self.withdraw(pending.id);
        }
    }

    fn withdraw(&mut self, id: ApprovalId) {
        self.approvals.close(id, Closed::Withdrawn);
        let event = Semantic::ApprovalWithdrawn(ApprovalWithdrawal { request_id: id.to_string() });
        self.sink.store(self.recorder.event(&Payload::Semantic(event)));
    }

    /// Denies the requests that nobody has answered in time.
    pub(super) fn deny_expired(&mut self, now: Instant) {
        for id in self.pending.expired(now) {
            let seconds = self.approval_limit.as_secs();
            let message = format!("nobody answered within {seconds} s");
            let decision = plugin::Decision { allow: false, message: Some(message), input: None, stop_turn: false };
            if let Err(error) = self.answer(id, &decision, ApprovalDecider::Timeout, None) {
                // The CLI would wait for ever.
                self.pending.take(id, Instant::now());
                self.withdraw(id);
                let message = format!("the CLI waits for a decision and does not take a denial: {}", error.message);
                self.end_child(StopReason::Unresponsive(message));
            }
        }
    }

    /// Passes the answer of a user, or the denial of an approval that has expired, to the CLI.
    ///
    /// # Errors
    /// `CONFLICT` if the request is closed, `INVALID_PARAMS` if the CLI cannot take the answer: the approval stays open.
    pub(super) fn answer(
        &mut self,
        id: ApprovalId,
        decision: &plugin::Decision,
        by: ApprovalDecider,
        client: Option<&Client>,
    ) -> Result<(), ApiError> {
        let Some(pending) = self.pending.get(id).cloned() else {
            return Err(ApiError::new(ErrorKind::Conflict, "the approval is closed"));
        };
        self.judge_edit(&pending, decision)?;
        let step = self.try_guest(|transcript| transcript.decide(&pending.request, decision))?;
        if let Some((_, waited)) = self.pending.take(id, Instant::now()) {
            self.deadline += waited;
        }
        let decided = ApprovalDecision {
            request_id: id,
            call_id: pending.call,
            decision: if decision.allow { ApprovalVerdict::Allow } else { ApprovalVerdict::Deny },
            decided_by: by,
            actor: client.map(|client| client.actor.clone()),
            client: client.map(|client| client.interface.clone()),
            message: decision.message.as_deref().map(|message| self.recorder.clean(message)),
            edited: decision.input.is_some() && pending.kind != ApprovalKind::Question,
            stop_turn: decision.stop_turn,
        };
        if let Some(key) = pending.key {
            let remembered = Decided {
                verdict: decided.decision,
                by,
                actor: decided.actor.clone(),
                message: decision.message.clone(),
            };
            self.pending.remember(&key, Judgment::Decided(remembered));
        }
        self.record(&decided, pending.kind, None);
        self.approvals.close(id, Closed::Decided(decided));
        self.take(Some(step));
        Ok(())
    }

    /// Asks the policies about an input with which a user replaces that of the agent: what was checked is what runs. A policy
    /// that asks is satisfied, because the user has decided.
    ///
    /// # Errors
    /// `POLICY_DENIED`; `INVALID_PARAMS` if the host cannot see what the new input does.
    fn judge_edit(&mut self, pending: &PendingRequest, decision: &plugin::Decision) -> Result<(), ApiError> {
        let (Some(call), Some(input)) = (&pending.editable, &decision.input) else { return Ok(()) };
        let Some(edited) = edited_call(call, input) else {
            let message =
                "the policies cannot judge this input: the command or the file is not where the agent's input has it";
            return Err(ApiError::new(ErrorKind::InvalidParams, message).at("/input"));
        };
        let in_time = self.may_evaluate();
        let (decision, audit) = self.tools.decide(&edited, in_time);
        let Some(denied) = decision.findings.iter().find(|finding| finding.verdict == Verdict::Deny) else {
            return Ok(());
        };
        let mut error = ApiError::new(ErrorKind::PolicyDenied, denial(denied)).at("/input");
        error.hint.clone_from(&denied.hint);
        error.findings.clone_from(&decision.findings);
        self.sink.store_within_quota(self.recorder.event(&Payload::PolicyAudit(audit)));
        Err(error)
    }

    /// Passes a decision to the CLI that no user has made, and records it.
    fn settle(
        &mut self,
        request: &plugin::ApprovalRequest,
        kind: ApprovalKind,
        decided: Decided,
        audit: Option<PolicyAudit>,
    ) {
        let decision = plugin_decision(&decided);
        let decided = ApprovalDecision {
            request_id: ApprovalId::generate(),
            call_id: request.call.id.clone(),
            decision: decided.verdict,
            decided_by: decided.by,
            actor: decided.actor,
            client: None,
            message: decided.message.map(|message| self.recorder.clean(&message)),
            edited: false,
            stop_turn: false,
        };
        self.record(&decided, kind, audit);
        self.pass_on(&request.id, &decision);
    }

    fn pass_on(&mut self, request: &str, decision: &plugin::Decision) {
        let step = self.guest(|transcript| transcript.decide(request, decision));
        self.take(step);
    }

    /// Stores a decision: as an event of the run, as a record of the policies, and in the audit trail.
    fn record(&mut self, decided: &ApprovalDecision, kind: ApprovalKind, audit: Option<PolicyAudit>) {
        let verdict = || decided.decision.name().to_owned();
        let audit = audit.unwrap_or_else(|| PolicyAudit { verdict: verdict(), ..self.tools.no_findings() });
        let audit = PolicyAudit { decision: Some(decided.clone()), ..audit };
        let event = self.recorder.event(&Payload::Semantic(Semantic::ApprovalDecided(decided.clone())));
        let audit = self.recorder.event(&Payload::PolicyAudit(audit));
        // The audit trail has what a user has decided, under that user; the service writes it.
        if decided.decided_by == ApprovalDecider::User {
            self.sink.store_all(vec![event, audit]);
            return;
        }
        // A CLI may ask as often as it likes, and must not fill the disk.
        self.sink.store_within_quota(event);
        self.sink.store_within_quota(audit);
        self.decisions += 1;
        if self.decisions <= MAX_AUDITED {
            let entry = AuditEntry::new(AuditKind::Approval, &Actor::Host)
                .run(self.run)
                .fact("approval", decided.request_id.to_string())
                .fact("about", kind.name())
                .fact("decision", decided.decision.name())
                .fact("by", decided.decided_by.name())
                .fact("policy", decided.actor.clone());
            self.audit.append(entry);
        }
    }

    /// Closes what is open when the run ends.
    pub(super) fn close_approvals(&mut self) {
        for id in self.pending.drain() {
            let event = Semantic::ApprovalWithdrawn(ApprovalWithdrawal { request_id: id.to_string() });
            self.sink.store(self.recorder.event(&Payload::Semantic(event)));
        }
        self.approvals.close_run(self.run);
    }
}

/// Identifies a tool use with all that policies see of it: an id alone must not cover what nobody has decided.
fn use_key(call: &ToolCall) -> String {
    match serde_json::to_vec(call) {
        Ok(text) if !call.id.is_empty() => format!("{} {}", call.id, hex(&Sha256::digest(text))),
        _ => String::new(),
    }
}

/// The message for the agent about a denial of a policy.
fn denial(finding: &Finding) -> String {
    format!("the policy {} denies this: {}", finding.policy, finding.message)
}

fn plugin_decision(decided: &Decided) -> plugin::Decision {
    plugin::Decision {
        allow: decided.verdict == ApprovalVerdict::Allow,
        message: decided.message.clone(),
        input: None,
        stop_turn: false,
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

    use super::*;
    use crate::attempt::tool_use::unknown_tool;

    #[test]
    fn fallback_decides_by_kind_when_no_policy_objects() {
        use ApprovalKind::{Command, Elicitation, Network, Patch, Permissions, Question, Tool};
        let reactions = |fallback: Fallback| {
            [Command, Patch, Tool, Permissions, Network, Question, Elicitation].map(|kind| fallback.reaction(kind))
        };
        let (ask, allow, deny) = (Reaction::Ask, Reaction::Allow, Reaction::Deny);
        assert_eq!(reactions(Fallback::AskUser), [ask; 7]);
        assert_eq!(reactions(Fallback::Deny), [deny; 7]);
        assert_eq!(reactions(Fallback::NoQuestions), [deny; 7]);
        assert_eq!(reactions(Fallback::Allow { interactive: true }), [allow, allow, allow, allow, allow, ask, ask]);
        assert_eq!(reactions(Fallback::Allow { interactive: false }), [allow, allow, allow, allow, allow, deny, deny]);
    }

    #[test]
    fn decision_is_for_one_use_with_one_input() {
        let call = |id: &str, input: &str| ToolCall { id: id.to_owned(), input: input.to_owned(), ..unknown_tool() };
        assert_eq!(use_key(&call("1", "a")), use_key(&call("1", "a")));
        assert_ne!(use_key(&call("1", "a")), use_key(&call("1", "b")));
        assert_ne!(use_key(&call("1", "a")), use_key(&call("2", "a")));
        let elsewhere = ToolCall { cwd: Some("/".to_owned()), ..call("1", "a") };
        assert_ne!(use_key(&call("1", "a")), use_key(&elsewhere), "the same input in another folder");
        assert_eq!(use_key(&call("", "a")), "");
    }
}
