//! Parameters of the methods of profiles.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::ProfileId;

/// `list_profiles`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListProfilesParams {
    /// Only profiles for this provider instance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
}

/// `save_profile`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SaveProfileParams {
    /// The profile to change; without it, a new one is created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<ProfileId>,
    /// Its name, unique: one line of at most 64 characters.
    pub name: String,
    /// Provider instance of the runs that it is for.
    #[schemars(length(min = 1, max = 64))]
    pub provider: String,
    /// The defaults: a partial start payload, without `provider` and `profileId`, and without secrets.
    pub config: Map<String, Value>,
}

/// `delete_profile`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ProfileParams {
    /// The profile: its id or its name.
    pub profile_id: String,
}
