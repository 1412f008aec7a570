//! Grants: the folders in which runs may work.

use std::sync::Arc;

use super::super::rpc::Caller;
use super::super::types::{GrantWorkspaceParams, NoParams, WorkspaceParams};
use crate::engine::Engine;
use crate::model::{ApiError, Grant};

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Vec<Grant>, ApiError> {
    engine.list_grants()
}

pub(super) fn grant(engine: &Arc<Engine>, _: &Caller, params: &GrantWorkspaceParams) -> Result<Grant, ApiError> {
    engine.grant(&params.path, params.trust_settings)
}

pub(super) fn revoke(engine: &Arc<Engine>, _: &Caller, params: &WorkspaceParams) -> Result<Grant, ApiError> {
    engine.revoke(&params.path)
}
