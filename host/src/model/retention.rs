//! What is kept of ended runs, and what goes.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::RunId;
use super::record::names;

names! {
    /// What a retention policy is about.
    RetentionScopeKind {
        /// Everything that no narrower scope is about.
        Global = "global",
        /// The runs of a provider instance.
        Provider = "provider",
        /// The runs in a folder and below.
        Workspace = "workspace",
    }
}

names! {
    /// Where a limit stands.
    RetentionOrigin {
        /// In the configuration that is built in.
        Default = "default",
        /// In the configuration's file.
        File = "file",
        /// Set with `set_retention`, which goes before the file.
        Override = "override",
    }
}

names! {
    /// The limit by which a run goes.
    RetentionRule {
        /// It ended too long ago.
        Days = "days",
        /// It is among the oldest of more than may be kept.
        Megabytes = "megabytes",
    }
}

/// A number and where it stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionLimit {
    /// Days or megabytes (10^6 bytes); 0 is without limit.
    pub value: u64,
    /// Where it stands.
    pub origin: RetentionOrigin,
}

/// How long and how much is kept of one scope's ended runs. A limit that is not there is the wider scope's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionPolicy {
    /// What it is about.
    pub scope: RetentionScopeKind,
    /// Provider instance or folder; missing for `global`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Days after a run's end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub days: Option<RetentionLimit>,
    /// Megabytes of all runs that count here.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub megabytes: Option<RetentionLimit>,
    /// Ended runs that count against `megabytes` here.
    pub runs: u64,
    /// About what they take, in bytes.
    pub bytes: u64,
}

/// A run that goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RetentionItem {
    /// The run.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
    /// First line of its prompt, at most 80 characters, redacted.
    pub title: String,
    /// Where it worked.
    pub cwd: PathBuf,
    /// When it ended.
    #[schemars(with = "String")]
    pub ended_at: Timestamp,
    /// About what it takes, in bytes.
    pub bytes: u64,
    /// The limit by which it goes.
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
    /// Whether it only says what would go.
    pub dry_run: bool,
    /// When it was looked at.
    #[schemars(with = "String")]
    pub at: Timestamp,
    /// Runs.
    pub runs: u64,
    /// About what they and the events took, in bytes.
    pub bytes: u64,
    /// Events without a run: audit records of refused submits, for instance.
    pub events: u64,
    /// Conversations that no run is left of and that have not changed for as long.
    pub conversations: u64,
    /// The runs, the longest ended first, at most a thousand of them.
    pub items: Vec<RetentionItem>,
    /// Files in the host's folders that could not be deleted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub files_left: Vec<PathBuf>,
    /// False where the host's end came before the last of them was gone; the rest goes at its next start.
    pub complete: bool,
}
