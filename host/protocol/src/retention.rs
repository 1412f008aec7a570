//! Retention limits of ended runs, and reports of deletions.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RunId;
use super::record::names;

names! {
    /// The scope of a retention policy.
    RetentionScopeKind {
        /// All runs without a narrower scope.
        Global = "global",
        /// The runs of a provider instance.
        Provider = "provider",
        /// The runs in a folder and its subfolders.
        Workspace = "workspace",
    }
}

names! {
    /// The origin of a limit.
    RetentionOrigin {
        /// In the built-in configuration.
        Default = "default",
        /// In the configuration file.
        File = "file",
        /// Set with `set_retention`, which overrides the file.
        Override = "override",
    }
}

names! {
    /// The limit that a run exceeds.
    RetentionRule {
        /// It ended too long ago.
        Days = "days",
        /// It is one of the oldest runs, and the size limit is exceeded.
        Megabytes = "megabytes",
    }
}

/// A limit and its origin.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionLimit {
    /// Days or megabytes (10^6 bytes); 0 means no limit.
    pub value: u64,
    /// Its origin.
    pub origin: RetentionOrigin,
}

/// The retention limits of one scope. A missing limit is inherited from the wider scope.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// Its scope.
    pub scope: RetentionScopeKind,
    /// Provider instance or folder; missing for `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Days after a run's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<RetentionLimit>,
    /// Megabytes of all runs in this scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub megabytes: Option<RetentionLimit>,
    /// Finished runs that count towards `megabytes` in this scope.
    pub runs: u64,
    /// Approximate size in bytes.
    pub bytes: u64,
}

/// A run that is deleted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionItem {
    /// The run.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
    /// First line of its prompt, at most 80 characters, redacted.
    pub title: String,
    /// Its work folder.
    pub cwd: PathBuf,
    /// When it ended.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
    /// Approximate size in bytes.
    pub bytes: u64,
    /// The limit that it exceeds.
    pub rule: RetentionRule,
    /// The scope whose limit it is.
    pub scope: RetentionScopeKind,
    /// Its provider instance or folder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What retention has deleted, or would delete.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionReport {
    /// Whether it only reports what would be deleted.
    pub dry_run: bool,
    /// When the limits were checked.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Runs.
    pub runs: u64,
    /// Approximate size of the runs and events in bytes.
    pub bytes: u64,
    /// Events without a run, for example audit records of refused submits.
    pub events: u64,
    /// Conversations without runs that have not changed for the same time.
    pub conversations: u64,
    /// The runs, oldest first, at most 1000.
    pub items: Vec<RetentionItem>,
    /// Files in the host's folders that could not be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left: Vec<PathBuf>,
    /// False if the host stopped before all were deleted; the rest is deleted at its next start.
    pub complete: bool,
}
