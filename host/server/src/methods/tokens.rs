//! Tokens of providers.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::{AuditEntry, Engine};
use ostler_protocol::methods::{ProviderParams, ProviderTokenParams, TokenState};
use ostler_protocol::{ApiError, AuditKind};

pub(super) fn save(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &ProviderTokenParams,
) -> Result<TokenState, ApiError> {
    let state = engine.provider_tokens().save(params)?;
    let entry = AuditEntry::new(AuditKind::Token, caller.peer.actor()).fact("action", "save");
    engine.audit().append_durably(entry.fact("provider", &params.provider).fact("store", &state.store))?;
    Ok(state)
}

pub(super) fn clear(engine: &Arc<Engine>, caller: &Caller, params: &ProviderParams) -> Result<TokenState, ApiError> {
    let state = engine.provider_tokens().clear(params)?;
    let entry = AuditEntry::new(AuditKind::Token, caller.peer.actor()).fact("action", "clear");
    engine.audit().append_durably(entry.fact("provider", &params.provider))?;
    Ok(state)
}

pub(super) fn has(engine: &Arc<Engine>, _: &Caller, params: &ProviderParams) -> Result<TokenState, ApiError> {
    engine.provider_tokens().state(params)
}
