//! Grants: the folders in which runs may work.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::super::types::{NoParams, WorkspaceParams};
use super::call;
use crate::engine::Engine;
use crate::model::ApiError;

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |NoParams {}| engine.list_grants())
}

pub(super) fn grant(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: WorkspaceParams| engine.grant(&params.path))
}

pub(super) fn revoke(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: WorkspaceParams| engine.revoke(&params.path))
}
