//! Access tokens and the audit trail.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{AccessClass, AccessToken, AuditKind, AuditRecord, RunId};

/// `create_access_token`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct CreateAccessTokenParams {
    /// Its name: at most 64 letters, digits, hyphens, underscores and dots.
    pub name: String,
    /// What its holder may do.
    #[serde(default, rename = "accessClass")]
    pub class: AccessClass,
    /// Seconds until it expires, at most ten years. Without it, the token is valid until it is revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 315_360_000))]
    pub expires_in_seconds: Option<u64>,
}

/// `create_access_token`
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CreatedAccessToken {
    /// The token. It is not stored and never returned again.
    pub token: String,
    /// Its stored data.
    pub access_token: AccessToken,
}

impl std::fmt::Debug for CreatedAccessToken {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CreatedAccessToken").field("access_token", &self.access_token).finish_non_exhaustive()
    }
}

/// `revoke_access_token`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct RevokeAccessTokenParams {
    /// Name of the token.
    pub name: String,
}

/// `list_audit`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListAuditParams {
    /// Only records of this kind.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<AuditKind>,
    /// Only records about this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// Only records after this number, the oldest of them first. Without it, the newest records.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Maximum number of results (default 50).
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 1, max = 1000))]
    pub limit: Option<u32>,
}

/// `list_audit`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ListAuditResult {
    /// The records, in their order.
    pub records: Vec<AuditRecord>,
    /// Whether there are more: after the last one if `after` was given, otherwise before the first one.
    pub more: bool,
}

/// `prune_audit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PruneAuditParams {
    /// Delete records that are older than this number of days.
    #[schemars(range(min = 0, max = 36500))]
    pub older_than_days: u32,
}

/// `prune_audit`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PruneAuditResult {
    /// Records that were deleted.
    pub deleted: u64,
    /// Number of the oldest remaining record.
    pub first: u64,
}
