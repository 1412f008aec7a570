//! The host itself: its plugins, what is installed, how it is, and its end.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::super::types::{
    GetSettingsParams, ListCapabilitiesParams, ListPluginsResult, NoParams, Reload, ReloadTrigger, Settings, Status,
    StopParams, StopResult, TrustPluginParams, TrustPluginResult, UpdateSettingsParams,
};
use super::{Answer, result};
use crate::engine::Engine;
use crate::model::{ApiError, CapabilitySnapshot, validate_document};

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

pub(super) fn trust_plugin(
    engine: &Arc<Engine>,
    _: &Caller,
    params: &TrustPluginParams,
) -> Result<TrustPluginResult, ApiError> {
    engine.trust_plugin(params)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn status(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Status, ApiError> {
    Ok(engine.status())
}

pub(super) fn reload(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Reload, ApiError> {
    engine.reload(ReloadTrigger::Request)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn settings(engine: &Arc<Engine>, _: &Caller, params: &GetSettingsParams) -> Result<Settings, ApiError> {
    Ok(engine.get_settings(params.origins.unwrap_or(false)))
}

/// Gets its parameters as they came: null means something in a patch.
pub(super) fn update_settings(engine: &Arc<Engine>, _: &Caller, params: Value) -> Answer {
    let patch = params.get("patch").cloned();
    let params: UpdateSettingsParams = validate_document(params)?;
    let settings = engine.update_settings(&patch.unwrap_or_default(), params.origins.unwrap_or(false))?;
    result(&settings)
}

pub(super) fn stop(engine: &Arc<Engine>, _: &Caller, params: &StopParams) -> Result<StopResult, ApiError> {
    engine.request_stop(params.if_idle)
}
