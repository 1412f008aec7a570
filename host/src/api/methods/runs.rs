//! Runs and the queue.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::super::types::{
    CancelResult, ExportRunParams, ExportRunResult, ListJobsParams, ListRunsParams, RunEventsParams, RunEventsResult,
    RunParams,
};
use super::{Answer, result};
use crate::engine::Engine;
use crate::model::{ApiError, JobRecord, Page, RunRecord, RunSummary};

/// Takes the payload as it came: its form is checked together with what else a submit checks.
pub(super) fn start(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    result(&engine.start_run(params, &caller.origin)?)
}

/// Takes the overrides as they came: null means something there.
pub(super) fn rerun(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    result(&engine.rerun(params, &caller.origin)?)
}

pub(super) fn cancel(engine: &Arc<Engine>, _: &Caller, params: &RunParams) -> Result<CancelResult, ApiError> {
    engine.cancel_run(params.run_id)
}

pub(super) fn get(engine: &Arc<Engine>, _: &Caller, params: &RunParams) -> Result<RunRecord, ApiError> {
    engine.get_run(params.run_id)
}

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, params: &ListRunsParams) -> Result<Page<RunSummary>, ApiError> {
    engine.list_runs(params)
}

pub(super) fn events(engine: &Arc<Engine>, _: &Caller, params: &RunEventsParams) -> Result<RunEventsResult, ApiError> {
    engine.run_events(params)
}

pub(super) fn export(engine: &Arc<Engine>, _: &Caller, params: &ExportRunParams) -> Result<ExportRunResult, ApiError> {
    engine.export_run(params)
}

pub(super) fn jobs(engine: &Arc<Engine>, _: &Caller, params: &ListJobsParams) -> Result<Vec<JobRecord>, ApiError> {
    engine.list_jobs(params)
}
