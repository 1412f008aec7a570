//! Retention.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::model::{RetentionPolicy, RetentionReport, RetentionScopeKind};

/// `get_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionState {
    /// Every scope that has limits of its own, `global` first. Each limit of a run is the one of the narrowest scope that
    /// states it: the innermost folder's, then the provider's, then the global one.
    pub policies: Vec<RetentionPolicy>,
    /// What was deleted when the limits were enforced last, since the host's start; its list of runs is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last: Option<RetentionReport>,
}

/// `set_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SetRetentionParams {
    /// What the limits are for.
    pub scope: RetentionScopeKind,
    /// Provider instance, or absolute path of a folder; not for `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Days after a run's end; 0 keeps it for ever. Where it is missing, what was set before stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 36_500))]
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes) of all runs that count here; 0 is without limit. Where it is missing, what was set before
    /// stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 1_000_000_000))]
    pub megabytes: Option<u64>,
}

/// `unset_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct UnsetRetentionParams {
    /// What the limits are for.
    pub scope: RetentionScopeKind,
    /// Provider instance, or absolute path of a folder; not for `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// `apply_retention`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ApplyRetentionParams {
    /// Only say what would go.
    pub dry_run: bool,
}
