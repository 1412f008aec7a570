//! What the host keeps: runs, jobs, grants, capability snapshots.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AnswerPlace, ArtifactId, ConversationId, RunId, RunMode, SandboxRecord, SandboxSupport};

macro_rules! names {
    ($(#[$doc:meta])* $name:ident { $($(#[doc = $vdoc:literal])+ $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
        pub enum $name {
            $($(#[doc = $vdoc])+ #[serde(rename = $text)] $variant,)+
        }

        impl $name {
            /// Every value, in the order of its definition.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The name on the wire and in the database.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// What it stands for, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($vdoc),+).trim_ascii_start(),)+ }
            }

            /// The value of that name.
            #[must_use]
            pub fn from_name(name: &str) -> Option<Self> {
                match name { $($text => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.name())
            }
        }
    };
}
pub(super) use names;

names! {
    /// Where a run stands.
    RunStatus {
        /// It waits for its turn, its time or its next attempt.
        Queued = "queued",
        /// An attempt is under way.
        Running = "running",
        /// It did what was asked.
        Completed = "completed",
        /// It did not, and no attempt is left.
        Failed = "failed",
        /// Somebody ended it.
        Canceled = "canceled",
        /// Its host died under it.
        Interrupted = "interrupted",
    }
}

impl RunStatus {
    /// Whether nothing more will happen.
    #[must_use]
    pub const fn ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

names! {
    /// Why a run ended, or why an attempt is repeated.
    EndReason {
        /// It did what was asked.
        Completed = "completed",
        /// Somebody ended it.
        Canceled = "canceled",
        /// Its time was up.
        Timeout = "timeout",
        /// Its host died under it.
        Interrupted = "interrupted",
        /// The child could not be started.
        SpawnFailed = "spawn_failed",
        /// The CLI was gone when its turn came.
        CliMissing = "cli_missing",
        /// The working folder was gone when its turn came.
        CwdMissing = "cwd_missing",
        /// The login was refused or is missing.
        Authentication = "authentication",
        /// Something that may pass.
        Transient = "transient",
        /// Too many requests.
        RateLimited = "rate_limited",
        /// The session to resume is not known.
        ResumeInvalid = "resume_invalid",
        /// The command line or its configuration was refused by the CLI.
        Usage = "usage",
        /// A limit of the model or of the CLI.
        Limit = "limit",
        /// The output ends before the work does.
        Incomplete = "incomplete",
        /// The answer does not fit the schema that was asked for.
        StructuredOutput = "structured_output",
        /// A policy denied the command line or a tool.
        PolicyDenied = "policy_denied",
        /// The installed CLI and the host cannot enforce what was asked.
        Unenforceable = "unenforceable",
        /// A plugin failed, and nothing could take its place.
        PluginFailed = "plugin_failed",
        /// The host could not go on: disk full, for instance.
        HostFailed = "host_failed",
        /// The CLI failed and does not say why.
        Unknown = "unknown",
    }
}

names! {
    /// Where a job stands in the queue.
    JobState {
        /// It may start as soon as there is a slot.
        Ready = "ready",
        /// It waits for its time.
        Scheduled = "scheduled",
        /// It waits for its next attempt.
        Retrying = "retrying",
        /// It waits for the messages before it in its conversation, whatever slots are free.
        Held = "held",
        /// It has a slot.
        Running = "running",
        /// It has ended.
        Done = "done",
    }
}

names! {
    /// What the installed CLI is good for.
    Support {
        /// All that the plugin knows.
        Supported = "supported",
        /// Some features are missing.
        Degraded = "degraded",
        /// It cannot be used.
        Blocked = "blocked",
    }
}

names! {
    /// How many values a flag takes.
    FlagValues {
        /// A switch.
        None = "none",
        /// One value.
        One = "one",
        /// The flag once for each value.
        Many = "many",
    }
}

names! {
    /// The form of an exported run.
    ExportFormat {
        /// A page to read: prompt, what happened with tool uses folded, answer, usage.
        Md = "md",
        /// Everything: the run's record and its events.
        Json = "json",
        /// The events, one a line.
        Jsonl = "jsonl",
        /// The answer alone.
        Txt = "txt",
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// How many there are in all.
    pub total: u64,
}

/// Tokens and money of one attempt. None is 'not told', which is not zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// All that the model read, from caches too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// The part of it that came from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_tokens: Option<u64>,
    /// The part of it that was written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// All that the model wrote, reasoning too.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// The part of it that was reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// True where the CLI tells only the session's total and the host has no record of what came before this run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_session: bool,
}

/// A run as a list shows it. All texts are redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunSummary {
    /// Its id.
    pub run_id: RunId,
    /// The conversation that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// Provider instance.
    pub provider: String,
    /// Model, if one was chosen.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// With pipes or as a session.
    pub mode: RunMode,
    /// Where it stands.
    pub status: RunStatus,
    /// First line of the prompt, at most 80 characters.
    pub title: String,
    /// Where it works.
    pub cwd: PathBuf,
    /// Its place in the queue's order: -10 to 10.
    pub queue_priority: i32,
    /// Attempts so far.
    pub attempt: u32,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// What ended it, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Exit code of the last attempt's child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When it was acknowledged.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When its last attempt was started. Never before it was acknowledged, even if the clock was set in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When it ended. Never before it was started, even if the clock was set in between.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
}

/// A run with everything that is known of it. All texts are redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// The effective start payload, after profile merge, redacted.
    pub payload: Value,
    /// Pointers of the payload whose true values were sealed because they hold secrets.
    pub sealed_pointers: Vec<String>,
    /// The provider's session, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Where the whole answer stands, where `finalText` may not be all of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerPlace>,
    /// The answer. Of one that is longer than 1 MiB, where `answer` says where it stands, the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_text: Option<String>,
    /// The object that was asked for by a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_output: Option<Value>,
    /// Tokens and money.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The `run.warning` and `run.compatibility_warning` payloads so far.
    pub warnings: Vec<Value>,
    /// What bounded it. Missing before its first attempt, and in runs of older versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxRecord>,
    /// What the CLI could do when the run was prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<CapabilitySnapshot>,
    /// Files that it left behind on purpose.
    pub artifacts: Vec<Artifact>,
    /// Its newest job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRecord>,
    /// Who asked for it: `cli`, `rpc`, `http`, `mcp`.
    pub origin: String,
}

/// A file that a run left behind on purpose.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its id.
    pub artifact_id: ArtifactId,
    /// What it is: `md`, `json`, `jsonl`, `txt`.
    pub kind: String,
    /// Where it lies.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was made.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

/// A job of the queue: a run that waits or works.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// The run.
    pub run_id: RunId,
    /// Provider instance: the lane that it waits in.
    pub provider: String,
    /// Where it stands.
    pub state: JobState,
    /// The attempt that it is, or will be. Counts from 1.
    pub attempt: u32,
    /// As asked for.
    pub priority: i32,
    /// With what waiting has added: one for each aging step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_priority: Option<f64>,
    /// Runs that leave before it, plus one; only for ready jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// When it began to wait.
    #[schemars(with = "String")]
    pub enqueued_at: Timestamp,
    /// It does not start before.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub not_before: Option<Timestamp>,
}

/// A folder in which runs may work.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Grant {
    /// The folder, absolute, links resolved when it was granted.
    pub path: PathBuf,
    /// When it was granted.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// Whether settings of agent CLIs that lie in the folder itself (hooks, permissions, MCP servers) count for runs.
    #[serde(default)]
    pub trust_settings: bool,
}

/// A flag that `optionalFlags` may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptionalFlag {
    /// As it is written: `--search`.
    pub name: String,
    /// What it does.
    pub summary: String,
    /// How many values it takes.
    pub values: FlagValues,
    /// Only where the operator has switched advanced options on.
    pub advanced: bool,
    /// Fields of the permissions block that it can widen.
    pub widens: Vec<String>,
}

/// What one installed CLI can do, as its plugin detected it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CapabilitySnapshot {
    /// Provider instance.
    pub provider: String,
    /// The plugin behind it.
    pub plugin: String,
    /// SHA-256 of the plugin's component, in hex.
    pub plugin_digest: String,
    /// The executable that was found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<PathBuf>,
    /// What the CLI is good for.
    pub support: Support,
    /// As the CLI says it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cli_version: Option<String>,
    /// Harness features that work.
    pub features: Vec<String>,
    /// Run modes that work.
    pub modes: Vec<RunMode>,
    /// Flags that `optionalFlags` may set.
    pub optional_flags: Vec<OptionalFlag>,
    /// Why support is degraded or blocked, or a feature is missing.
    pub reasons: Vec<String>,
    /// How to install the CLI, where it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_hint: Option<String>,
    /// What the plugin wants to remember of its probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
    /// What this machine holds of the containment of runs, alike for every provider. Not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSupport>,
    /// When the probes ran.
    #[schemars(with = "String")]
    pub detected_at: Timestamp,
}
