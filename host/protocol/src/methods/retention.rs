//! Retention.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{RetentionPolicy, RetentionReport, RetentionScopeKind};

/// `get_retention`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionState {
    /// Every scope that has its own limits, `global` first. For each limit of a run, the narrowest scope that sets it
    /// applies: the innermost folder, then the provider, then the global one.
    pub policies: Vec<RetentionPolicy>,
    /// The last enforcement of the limits since the host started, without the list of runs.
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
    /// Days after the end of a run; 0 means no limit. Without it, the current value is kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(max = 36_500))]
    pub days: Option<u32>,
    /// Megabytes (10^6 bytes) of all runs in this scope; 0 means no limit. Without it, the current value is kept.
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
    /// Only report what would be deleted.
    pub dry_run: bool,
}
