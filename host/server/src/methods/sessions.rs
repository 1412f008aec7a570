//! Sessions, approvals, and the inbox.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::rpc::Caller;
use super::runs::{audit_facts, submit_entry};
use super::{Answer, result};
use ostler_engine::Engine;
use ostler_protocol::methods::{
    AcknowledgeParams, AcknowledgeResult, AnswerApprovalParams, EndSessionResult, Inbox, InterruptResult,
    ListApprovalsParams, NoParams, ResizeTerminalParams, ResumeSessionParams, RunParams, SessionInputParams,
    SessionInputResult, SessionResult,
};
use ostler_protocol::{ApiError, Approval, ApprovalDecision, TerminalSize};

/// Passes the raw payload on, as `start_run` does.
pub(super) fn start(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    let facts = audit_facts(&params);
    let outcome = engine.sessions().start(params, &caller.origin);
    submit_entry(engine, caller, "start_interactive_session", &facts, outcome.as_ref().map(|started| started.run_id));
    result(&outcome?)
}

pub(super) fn resume(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ResumeSessionParams,
) -> Result<SessionResult, ApiError> {
    let outcome = engine.sessions().resume(params, &caller.origin);
    // To attach to an open session starts nothing.
    if !outcome.as_ref().is_ok_and(|resumed| resumed.attached) {
        let facts = json!({"rerunOf": params.run_id});
        submit_entry(engine, caller, "resume_session", &facts, outcome.as_ref().map(|resumed| resumed.run_id));
    }
    outcome
}

pub(super) fn send_input(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &SessionInputParams,
) -> Result<SessionInputResult, ApiError> {
    engine.sessions().send_input(params, caller.peer.actor(), &caller.origin)
}

pub(super) fn resize_terminal(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &ResizeTerminalParams,
) -> Result<TerminalSize, ApiError> {
    engine.sessions().resize_terminal(params)
}

pub(super) fn interrupt(engine: &Arc<Engine>, _: &Caller, params: &RunParams) -> Result<InterruptResult, ApiError> {
    engine.sessions().interrupt(params.run_id)
}

pub(super) fn end(engine: &Arc<Engine>, _: &Caller, params: &RunParams) -> Result<EndSessionResult, ApiError> {
    engine.sessions().end(params.run_id)
}

pub(super) fn list_approvals(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &ListApprovalsParams,
) -> Result<Vec<Approval>, ApiError> {
    engine.sessions().list_approvals(params)
}

pub(super) fn answer(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &AnswerApprovalParams,
) -> Result<ApprovalDecision, ApiError> {
    engine.sessions().answer(params, caller.peer.actor(), &caller.origin)
}

pub(super) fn inbox(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Inbox, ApiError> {
    engine.inbox().get()
}

pub(super) fn acknowledge(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &AcknowledgeParams,
) -> Result<AcknowledgeResult, ApiError> {
    engine.inbox().acknowledge(params)
}
