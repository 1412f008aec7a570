//! Runs and the queue.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::super::types::{ListJobsParams, ListRunsParams, RunEventsParams, RunParams};
use super::call;
use crate::engine::Engine;
use crate::model::ApiError;

pub(super) fn start(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Result<Value, ApiError> {
    let result = engine.start_run(params, &caller.origin)?;
    serde_json::to_value(result).map_err(|error| ApiError::internal(error.to_string()))
}

pub(super) fn cancel(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: RunParams| engine.cancel_run(params.run_id))
}

pub(super) fn get(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: RunParams| engine.get_run(params.run_id))
}

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: ListRunsParams| engine.list_runs(&params))
}

pub(super) fn events(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: RunEventsParams| engine.run_events(&params))
}

pub(super) fn jobs(engine: &Arc<Engine>, _: &Caller, params: Value) -> Result<Value, ApiError> {
    call(params, |params: ListJobsParams| engine.list_jobs(&params))
}
