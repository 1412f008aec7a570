//! Grants: the folders in which runs may work.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{GrantWorkspaceParams, NoParams, WorkspaceParams};
use ostler_protocol::{ApiError, AuditKind, Grant};

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Vec<Grant>, ApiError> {
    engine.grants().list()
}

pub(super) fn grant(engine: &Arc<Engine>, caller: &Caller, params: &GrantWorkspaceParams) -> Result<Grant, ApiError> {
    let grant = engine.grants().grant(&params.path, params.trust_settings)?;
    let entry = AuditEntry::new(AuditKind::Grant, caller.peer.actor()).fact("path", &grant.path);
    engine.audit().append_durably(entry.fact("trustSettings", grant.trust_settings))?;
    Ok(grant)
}

pub(super) fn revoke(engine: &Arc<Engine>, caller: &Caller, params: &WorkspaceParams) -> Result<Grant, ApiError> {
    let grant = engine.grants().revoke(&params.path)?;
    engine.audit().append_durably(AuditEntry::new(AuditKind::Revoke, caller.peer.actor()).fact("path", &grant.path))?;
    Ok(grant)
}
