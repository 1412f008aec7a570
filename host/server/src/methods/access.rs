//! Access tokens.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::Engine;
use ostler_protocol::methods::{CreateAccessTokenParams, CreatedAccessToken, NoParams, RevokeAccessTokenParams};
use ostler_protocol::{AccessToken, ApiError};

#[expect(clippy::unnecessary_wraps, reason = "the form of every method")]
pub(super) fn list(engine: &Arc<Engine>, _: &Caller, _: &NoParams) -> Result<Vec<AccessToken>, ApiError> {
    Ok(engine.access_tokens().list())
}

pub(super) fn create(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &CreateAccessTokenParams,
) -> Result<CreatedAccessToken, ApiError> {
    engine.access_tokens().create(params, caller.peer.actor())
}

pub(super) fn revoke(
    engine: &Arc<Engine>,
    caller: &Caller,
    params: &RevokeAccessTokenParams,
) -> Result<AccessToken, ApiError> {
    engine.access_tokens().revoke(params, caller.peer.actor())
}
