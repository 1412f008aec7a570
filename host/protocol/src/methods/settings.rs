//! Settings.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::Origin;

/// `get_settings`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GetSettingsParams {
    /// Include the origin of each value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<bool>,
}

/// `update_settings`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UpdateSettingsParams {
    /// Values to set, in the structure of the settings: members are merged, lists are replaced, null resets a member
    /// and everything below it.
    pub patch: Map<String, Value>,
    /// Include the origin of each value.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub origins: Option<bool>,
}

/// `get_settings`, `update_settings`: the active settings. They have the sections of the configuration, with its keys
/// in camel case. Values that may be secret are `(hidden)`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Settings {
    /// The sections.
    #[serde(flatten)]
    pub sections: Map<String, Value>,
    /// The origin of each value by JSON pointer, if requested.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub origins: Option<BTreeMap<String, Origin>>,
}
