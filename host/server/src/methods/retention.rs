//! Retention limits of finished runs.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{
    ApplyRetentionParams, NoParams, RetentionState, SetRetentionParams, UnsetRetentionParams,
};
use ostler_protocol::{ApiError, AuditKind, RetentionPolicy, RetentionReport};

pub(super) fn get(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<RetentionState, ApiError> {
    engine.get_retention()
}

pub(super) fn set(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &SetRetentionParams,
) -> Result<RetentionPolicy, ApiError> {
    let policy = engine.set_retention(params)?;
    engine.audit_now(AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("setRetention", params))?;
    Ok(policy)
}

pub(super) fn unset(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &UnsetRetentionParams,
) -> Result<RetentionState, ApiError> {
    let state = engine.unset_retention(params)?;
    engine.audit_now(AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("unsetRetention", params))?;
    Ok(state)
}

pub(super) fn apply(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ApplyRetentionParams,
) -> Result<RetentionReport, ApiError> {
    if !params.dry_run {
        engine.audit_now(AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("action", "applyRetention"))?;
    }
    engine.apply_retention(params.dry_run)
}
