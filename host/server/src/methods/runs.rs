//! Runs and the queue.

use std::sync::Arc;

use serde_json::{Value, json};

use super::super::rpc::Caller;
use super::{Answer, result};
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{
    CancelResult, DeletedRun, ExportRunParams, ExportRunResult, ListJobsParams, ListRunsParams, PauseParams,
    QueuePauses, RunEventsParams, RunEventsResult, RunParams, SetQueuePriorityParams, StartRunResult,
};
use ostler_protocol::{AccessClass, ApiError, AuditKind, JobRecord, Page, RunId, RunRecord, RunSummary};

/// Maximum length of a text of a payload in the audit trail, in characters.
const MAX_FACT: usize = 1024;

/// Passes the raw payload on: the engine checks its form together with its content.
pub(super) fn start(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    let facts = audit_facts(&params);
    record_submit(engine, caller, "start_run", &facts, engine.submitter().start_run(params, &caller.origin))
}

/// The facts of a start payload that the audit trail keeps.
pub(super) fn audit_facts(params: &Value) -> Value {
    let text = |pointer: &str| {
        params.pointer(pointer).and_then(Value::as_str).map(|text| text.chars().take(MAX_FACT).collect::<String>())
    };
    json!({
        "provider": text("/provider"),
        "cwd": text("/cwd"),
        "sandboxMode": text("/harness/permissions/sandboxMode"),
        "conversationId": text("/conversationId"),
    })
}

/// Records a submit and its outcome in the audit trail.
pub(super) fn record_submit(
    engine: &Arc<Engine>,
    caller: &Caller,
    method: &str,
    facts: &Value,
    outcome: Result<StartRunResult, ApiError>,
) -> Answer {
    submit_entry(engine, caller, method, facts, outcome.as_ref().map(|started| started.run_id));
    result(&outcome?)
}

/// The audit record of a request to start a run.
pub(super) fn submit_entry(
    engine: &Arc<Engine>,
    caller: &Caller,
    method: &str,
    facts: &Value,
    outcome: Result<RunId, &ApiError>,
) {
    let mut entry = AuditEntry::new(AuditKind::Submit, caller.peer.actor()).fact("method", method);
    for (name, value) in facts.as_object().into_iter().flatten() {
        entry = entry.fact(name, value);
    }
    entry = entry.fact("origin", &caller.origin);
    match outcome {
        Ok(run) => engine.audit().append(entry.run(run).fact("outcome", "taken")),
        Err(error) => {
            let checks: Vec<&str> = error.findings.iter().map(|finding| finding.check.as_str()).collect();
            let checks = Some(checks).filter(|checks| !checks.is_empty());
            engine
                .audit()
                .append_refusal(entry.fact("outcome", "refused").fact("error", error.kind).fact("checks", checks));
        }
    }
}

/// Passes the raw overrides on, because null clears a field.
pub(super) fn rerun(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    let facts = json!({"rerunOf": params.get("runId").and_then(Value::as_str).and_then(|id| id.parse::<RunId>().ok())});
    record_submit(engine, caller, "rerun", &facts, engine.submitter().rerun(params, &caller.origin))
}

pub(super) fn cancel(engine: &Arc<Engine>, _: &Caller, params: &RunParams) -> Result<CancelResult, ApiError> {
    engine.canceler().cancel(params.run_id)
}

pub(super) fn delete(engine: &Arc<Engine>, caller: &Caller, params: &RunParams) -> Result<DeletedRun, ApiError> {
    let deleted = engine.retention().delete_run(params.run_id)?;
    let entry = AuditEntry::new(AuditKind::Delete, caller.peer.actor()).run(params.run_id);
    engine.audit().append_durably(entry.fact("what", "run"))?;
    Ok(deleted)
}

pub(super) fn get(engine: &Arc<Engine>, _: &Caller, params: &RunParams) -> Result<RunRecord, ApiError> {
    engine.runs().get(params.run_id)
}

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, params: &ListRunsParams) -> Result<Page<RunSummary>, ApiError> {
    engine.runs().list(params)
}

pub(super) fn events(engine: &Arc<Engine>, _: &Caller, params: &RunEventsParams) -> Result<RunEventsResult, ApiError> {
    engine.runs().events(params)
}

pub(super) fn export(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ExportRunParams,
) -> Result<ExportRunResult, ApiError> {
    if params.path.is_some() {
        caller.peer.require(AccessClass::Operate, "export_run with a path")?;
    }
    let entry = AuditEntry::new(AuditKind::Export, caller.peer.actor()).run(params.run_id);
    let exported = engine.exporter().export(params, caller.peer.is_remote())?;
    // The host does not know where the caller of a transient export puts it.
    let entry = if params.transient { entry.fact("transient", true) } else { entry.fact("path", &exported.path) };
    engine.audit().append(entry.fact("format", params.format).fact("bytes", exported.bytes));
    Ok(exported)
}

pub(super) fn pause(engine: &Arc<Engine>, caller: &Caller, params: &PauseParams) -> Result<QueuePauses, ApiError> {
    let pauses = engine.queue().pause(params)?;
    engine.audit().append(queue_entry(caller, "pause").fact("provider", &params.provider));
    Ok(pauses)
}

pub(super) fn resume(engine: &Arc<Engine>, caller: &Caller, params: &PauseParams) -> Result<QueuePauses, ApiError> {
    let pauses = engine.queue().resume(params)?;
    engine.audit().append(queue_entry(caller, "resume").fact("provider", &params.provider));
    Ok(pauses)
}

pub(super) fn set_priority(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &SetQueuePriorityParams,
) -> Result<JobRecord, ApiError> {
    let job = engine.queue().set_priority(params)?;
    engine.audit().append(queue_entry(caller, "priority").run(params.run_id).fact("priority", params.priority));
    Ok(job)
}

fn queue_entry(caller: &Caller, what: &str) -> AuditEntry {
    AuditEntry::new(AuditKind::Queue, caller.peer.actor()).fact("what", what)
}

pub(super) fn jobs(engine: &Arc<Engine>, _: &Caller, params: &ListJobsParams) -> Result<Vec<JobRecord>, ApiError> {
    engine.runs().jobs(params)
}
