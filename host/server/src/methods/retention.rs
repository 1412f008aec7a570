//! Retention limits of finished runs.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{
    ApplyRetentionParams, NoParams, RetentionState, SetRetentionParams, UnsetRetentionParams,
};
use ostler_protocol::{ApiError, AuditKind, RetentionPolicy, RetentionReport};

pub(super) fn get(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<RetentionState, ApiError> {
    engine.retention().get()
}

pub(super) fn set(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &SetRetentionParams,
) -> Result<RetentionPolicy, ApiError> {
    let policy = engine.retention().set(params)?;
    engine
        .audit()
        .append_durably(AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("setRetention", params))?;
    Ok(policy)
}

pub(super) fn unset(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &UnsetRetentionParams,
) -> Result<RetentionState, ApiError> {
    let state = engine.retention().unset(params)?;
    engine
        .audit()
        .append_durably(AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("unsetRetention", params))?;
    Ok(state)
}

pub(super) fn apply(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ApplyRetentionParams,
) -> Result<RetentionReport, ApiError> {
    if !params.dry_run {
        engine.audit().append_durably(
            AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("action", "applyRetention"),
        )?;
    }
    engine.retention().apply(params.dry_run)
}
