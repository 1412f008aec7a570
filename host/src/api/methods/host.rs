//! The host itself: its plugins, what is installed, how it is, and its end.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::super::types::{ListCapabilitiesParams, NoParams, StopParams};
use super::call;
use crate::engine::Engine;
use crate::model::ApiError;

pub(super) fn capabilities(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: ListCapabilitiesParams| engine.list_capabilities(&params))
}

pub(super) fn plugins(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |NoParams {}| Ok(engine.list_plugins()))
}

pub(super) fn status(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |NoParams {}| Ok(engine.status()))
}

pub(super) fn stop(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: StopParams| engine.request_stop(params.if_idle))
}
