//! Tokens of providers.

use std::sync::Arc;

use super::super::rpc::Caller;
use super::super::types::{ProviderParams, ProviderTokenParams, TokenState};
use crate::engine::Engine;
use crate::model::ApiError;

pub(super) fn save(engine: &Arc<Engine>, _: &Caller, params: &ProviderTokenParams) -> Result<TokenState, ApiError> {
    engine.save_provider_token(params)
}

pub(super) fn clear(engine: &Arc<Engine>, _: &Caller, params: &ProviderParams) -> Result<TokenState, ApiError> {
    engine.clear_provider_token(params)
}

pub(super) fn has(engine: &Arc<Engine>, _: &Caller, params: &ProviderParams) -> Result<TokenState, ApiError> {
    engine.has_provider_token(params)
}
