//! Retention: how long and how much is kept of ended runs.

use std::sync::Arc;

use super::super::rpc::Caller;
use super::super::types::{ApplyRetentionParams, NoParams, RetentionState, SetRetentionParams, UnsetRetentionParams};
use crate::engine::Engine;
use crate::model::{ApiError, RetentionPolicy, RetentionReport};

pub(super) fn get(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<RetentionState, ApiError> {
    engine.get_retention()
}

pub(super) fn set(engine: &Arc<Engine>, _: &Caller, params: &SetRetentionParams) -> Result<RetentionPolicy, ApiError> {
    engine.set_retention(params)
}

pub(super) fn unset(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &UnsetRetentionParams,
) -> Result<RetentionState, ApiError> {
    engine.unset_retention(params)
}

pub(super) fn apply(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &ApplyRetentionParams,
) -> Result<RetentionReport, ApiError> {
    engine.apply_retention(params.dry_run)
}
