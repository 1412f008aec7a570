//! The audit trail.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::Engine;
use ostler_protocol::methods::{ListAuditParams, ListAuditResult, NoParams, PruneAuditParams, PruneAuditResult};
use ostler_protocol::{ApiError, AuditVerdict};

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, params: &ListAuditParams) -> Result<ListAuditResult, ApiError> {
    engine.audit().list(params)
}

pub(super) fn verify(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<AuditVerdict, ApiError> {
    engine.audit().verify()
}

pub(super) fn prune(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &PruneAuditParams,
) -> Result<PruneAuditResult, ApiError> {
    engine.audit().prune(params, caller.peer.actor())
}
