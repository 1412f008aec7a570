//! The audit trail, as clients see it.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::RunId;
use super::record::names;

names! {
    /// What an audit record is about.
    AuditKind {
        /// A run was requested, and accepted or refused.
        Submit = "submit",
        /// A child of a run was started.
        Spawn = "spawn",
        /// Programs were started to find out what an installed CLI can do.
        Probe = "probe",
        /// Settings or limits were changed.
        Settings = "settings",
        /// A folder was granted.
        Grant = "grant",
        /// A grant was revoked.
        Revoke = "revoke",
        /// The token of a provider was saved or deleted.
        Token = "token",
        /// An access token was created or revoked.
        Access = "access",
        /// A run or a conversation was deleted on request.
        Delete = "delete",
        /// The queue was paused or resumed, or the priority of a run was changed.
        Queue = "queue",
        /// A run was written to a file.
        Export = "export",
        /// A question of a run was answered.
        Approval = "approval",
        /// A plugin was added, replaced, removed or approved.
        Plugin = "plugin",
        /// A connection or a call was refused.
        Refused = "refused",
        /// An event of the audit trail itself.
        Audit = "audit",
    }
}

/// One record of the audit trail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditRecord {
    /// Its number: counts from 1 without gaps.
    pub seq: u64,
    /// When it happened.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Its subject.
    pub kind: AuditKind,
    /// Who did it: `host`, `unix pid=… uid=…` or `token NAME`.
    pub actor: String,
    /// The run that it concerns. The record stays when the run is deleted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// What happened, redacted.
    pub facts: Map<String, Value>,
    /// SHA-256 over the hash of the record before it and this record, in hex.
    pub hash: String,
}

/// Whether the audit trail is what the host wrote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AuditVerdict {
    /// Whether every record follows from the one before it, and the last one is the one that the host signed.
    pub intact: bool,
    /// Records that were checked.
    pub records: u64,
    /// Number of the oldest record that is kept.
    pub first: u64,
    /// Number of the newest record.
    pub last: u64,
    /// Hash of the newest record, in hex. Kept elsewhere, it proves later that nothing before it was changed.
    pub head: String,
    /// The first record that does not match, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub broken_at: Option<u64>,
    /// What is wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub problem: Option<String>,
}
