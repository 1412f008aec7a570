//! The host itself: plugins, installed CLIs, status, settings, stop.

use std::sync::Arc;

use serde_json::Value;

use super::super::rpc::Caller;
use super::{Answer, result};
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{
    GetSettingsParams, ListCapabilitiesParams, ListPluginsResult, NoParams, Reload, ReloadTrigger, Settings, Status,
    StopParams, StopResult, TrustPluginParams, TrustPluginResult, UpdateSettingsParams,
};
use ostler_protocol::{AccessClass, ApiError, AuditKind, CapabilitySnapshot};
use ostler_schema::validate_document;

pub(super) fn capabilities(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ListCapabilitiesParams,
) -> Result<Vec<CapabilitySnapshot>, ApiError> {
    if params.refresh == Some(true) {
        caller.peer.require(AccessClass::Run, "list_capabilities with refresh")?;
        let entry = AuditEntry::new(AuditKind::Probe, caller.peer.actor()).fact("action", "refresh");
        engine.audit().append(entry.fact("provider", &params.provider));
    }
    let mut snapshots = engine.capabilities().list(params)?;
    let sandbox = engine.sandbox().support();
    for snapshot in &mut snapshots {
        snapshot.sandbox = Some(sandbox.clone());
    }
    Ok(snapshots)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn plugins(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<ListPluginsResult, ApiError> {
    Ok(engine.plugins().list())
}

pub(super) fn trust_plugin(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &TrustPluginParams,
) -> Result<TrustPluginResult, ApiError> {
    let result = engine.plugins().trust(params)?;
    if let Some(digest) = &params.digest {
        let entry = AuditEntry::new(AuditKind::Plugin, caller.peer.actor()).fact("trusted", &params.name);
        engine.audit().append_durably(entry.fact("digest", digest))?;
    }
    Ok(result)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn status(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Status, ApiError> {
    Ok(engine.status().get())
}

pub(super) fn reload(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Reload, ApiError> {
    engine.reloader().reload(ReloadTrigger::Request)
}

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn settings(engine: &Arc<Engine>, _: &Caller, params: &GetSettingsParams) -> Result<Settings, ApiError> {
    Ok(engine.settings().get(params.origins.unwrap_or(false)))
}

/// Reads the raw parameters, because null resets a value in a patch.
pub(super) fn update_settings(engine: &Arc<Engine>, caller: &Caller, params: Value) -> Answer {
    let patch = params.get("patch").cloned();
    let params: UpdateSettingsParams = validate_document(params)?;
    let entry = AuditEntry::new(AuditKind::Settings, caller.peer.actor()).fact("patch", &patch);
    let settings = engine.settings().update(&patch.unwrap_or_default(), params.origins.unwrap_or(false))?;
    engine.audit().append_durably(entry)?;
    result(&settings)
}

pub(super) fn stop(engine: &Arc<Engine>, _: &Caller, params: &StopParams) -> Result<StopResult, ApiError> {
    engine.shutdown().request(params.if_idle)
}
