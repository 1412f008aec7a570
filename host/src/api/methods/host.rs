//! The host itself: its plugins, what is installed, how it is, and its end.

use std::sync::Arc;

use super::super::rpc::Caller;
use super::super::types::{ListCapabilitiesParams, ListPluginsResult, NoParams, Status, StopParams, StopResult};
use crate::engine::Engine;
use crate::model::{ApiError, CapabilitySnapshot};

pub(super) fn capabilities(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &ListCapabilitiesParams,
) -> Result<Vec<CapabilitySnapshot>, ApiError> {
    engine.list_capabilities(params)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn plugins(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<ListPluginsResult, ApiError> {
    Ok(engine.list_plugins())
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn status(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Status, ApiError> {
    Ok(engine.status())
}

pub(super) fn stop(engine: &Arc<Engine>, _: &Caller, params: &StopParams) -> Result<StopResult, ApiError> {
    engine.request_stop(params.if_idle)
}
