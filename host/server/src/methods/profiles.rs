//! Profiles.

use std::sync::Arc;

use super::super::rpc::Caller;
use ostler_engine::Engine;
use ostler_protocol::methods::{ListProfilesParams, ProfileParams, SaveProfileParams};
use ostler_protocol::{ApiError, Profile};

pub(super) fn list(engine: &Arc<Engine>, _: &Caller, params: &ListProfilesParams) -> Result<Vec<Profile>, ApiError> {
    engine.profiles().list(params)
}

pub(super) fn save(engine: &Arc<Engine>, _: &Caller, params: &SaveProfileParams) -> Result<Profile, ApiError> {
    engine.profiles().save(params)
}

pub(super) fn delete(engine: &Arc<Engine>, _: &Caller, params: &ProfileParams) -> Result<Profile, ApiError> {
    engine.profiles().delete(params)
}
