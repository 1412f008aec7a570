//! Records of the host: runs, jobs, grants, capability snapshots.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::{AnswerRange, ArtifactId, ConversationId, RunId, RunMode, SandboxRecord, SandboxSupport};

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

            /// Its meaning, in a sentence.
            #[must_use]
            pub const fn about(self) -> &'static str {
                match self { $(Self::$variant => concat!($($vdoc),+).trim_ascii_start(),)+ }
            }

            /// The value with this name.
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
    /// Status of a run.
    RunStatus {
        /// It waits for a slot, its scheduled time or its next attempt.
        Queued = "queued",
        /// An attempt is running.
        Running = "running",
        /// It completed.
        Completed = "completed",
        /// It failed, and no attempt is left.
        Failed = "failed",
        /// It was canceled.
        Canceled = "canceled",
        /// The host died while it was running.
        Interrupted = "interrupted",
    }
}

impl RunStatus {
    /// Whether the run has ended.
    #[must_use]
    pub const fn ended(self) -> bool {
        !matches!(self, Self::Queued | Self::Running)
    }
}

names! {
    /// Why a run ended, or why an attempt is repeated.
    EndReason {
        /// It completed.
        Completed = "completed",
        /// It was canceled.
        Canceled = "canceled",
        /// A run in its `startAfter` did not complete.
        DependencyFailed = "dependency_failed",
        /// It exceeded its time limit.
        Timeout = "timeout",
        /// The host died while it was running.
        Interrupted = "interrupted",
        /// The child could not be started.
        SpawnFailed = "spawn_failed",
        /// The CLI was no longer there when the run should start.
        CliMissing = "cli_missing",
        /// The work folder was no longer there when the run should start.
        CwdMissing = "cwd_missing",
        /// The login was refused or is missing.
        Authentication = "authentication",
        /// A temporary failure.
        Transient = "transient",
        /// Too many requests.
        RateLimited = "rate_limited",
        /// The session to resume does not exist.
        ResumeInvalid = "resume_invalid",
        /// The CLI rejected the command line or its configuration.
        Usage = "usage",
        /// A limit of the model or of the CLI.
        Limit = "limit",
        /// The output ended before the work was complete.
        Incomplete = "incomplete",
        /// The answer does not match the requested schema.
        StructuredOutput = "structured_output",
        /// A policy denied the command line or a tool.
        PolicyDenied = "policy_denied",
        /// Neither the installed CLI nor the host can enforce a requested restriction.
        Unenforceable = "unenforceable",
        /// A plugin failed, and there was no fallback.
        PluginFailed = "plugin_failed",
        /// The host could not continue, for example because the disk is full.
        HostFailed = "host_failed",
        /// The CLI failed without a reason.
        Unknown = "unknown",
    }
}

names! {
    /// State of a job in the queue.
    JobState {
        /// It starts as soon as a slot is free.
        Ready = "ready",
        /// It waits for its scheduled time.
        Scheduled = "scheduled",
        /// It waits for its next attempt.
        Retrying = "retrying",
        /// It waits for other runs, even if slots are free: for earlier messages of its conversation, or for the runs
        /// in its `startAfter`.
        Held = "held",
        /// It has a slot.
        Running = "running",
        /// It has ended.
        Done = "done",
    }
}

names! {
    /// Why a job waits.
    WaitReason {
        /// It waits for its `scheduledAt`.
        Scheduled = "scheduled",
        /// It waits for the delay before its next attempt.
        Retry = "retry",
        /// It waits for the runs in its `startAfter`.
        Dependency = "dependency",
        /// It waits for earlier messages of its conversation.
        Conversation = "conversation",
        /// The queue is paused.
        Paused = "paused",
        /// Its provider is paused.
        ProviderPaused = "provider_paused",
        /// Its provider reported a rate limit.
        RateLimited = "rate_limited",
        /// The maximum number of concurrent runs of its provider is reached.
        ProviderLimit = "provider_limit",
        /// The maximum number of concurrent runs is reached.
        GlobalLimit = "global_limit",
    }
}

names! {
    /// What a run waits for.
    WaitingFor {
        /// A decision about what its agent wants to do.
        Approval = "approval",
        /// An answer to a question of its agent.
        Question = "question",
        /// The end of its provider's rate limit.
        Quota = "quota",
        /// A slot, its time, other runs, or the end of a pause; its job has the reason.
        Slot = "slot",
    }
}

names! {
    /// Level of support for the installed CLI.
    Support {
        /// All features that the plugin knows work.
        Supported = "supported",
        /// Some features are missing.
        Degraded = "degraded",
        /// It cannot be used.
        Blocked = "blocked",
    }
}

names! {
    /// Number of values that a flag takes.
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
    /// The format of an exported run.
    ExportFormat {
        /// A readable page: prompt, events with tool uses folded, answer, usage.
        Md = "md",
        /// Everything: the run's record and its events.
        Json = "json",
        /// The events, one per line.
        Jsonl = "jsonl",
        /// The answer alone.
        Txt = "txt",
    }
}

/// A page of a list.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "{T}Page")]
pub struct Page<T> {
    /// The items of this page.
    pub items: Vec<T>,
    /// Total number of items.
    pub total: u64,
}

/// Tokens and cost of one attempt. Missing means unknown, which is not zero.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Input tokens, including cached ones.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input_tokens: Option<u64>,
    /// Input tokens that were read from a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cached_input_tokens: Option<u64>,
    /// Input tokens that were written to a cache.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_write_tokens: Option<u64>,
    /// Output tokens, including reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_tokens: Option<u64>,
    /// Output tokens for reasoning.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reasoning_tokens: Option<u64>,
    /// Millionths of a US dollar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cost_micro_usd: Option<u64>,
    /// True if the CLI reports only the total of the session and the host has no record of usage before this run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub whole_session: bool,
}

/// A run in a list. All texts are redacted.
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
    /// Its status.
    pub status: RunStatus,
    /// First line of the prompt, at most 80 characters.
    pub title: String,
    /// Its work folder.
    pub cwd: PathBuf,
    /// Its priority in the queue: -10 to 10.
    pub queue_priority: i32,
    /// Attempts so far.
    pub attempt: u32,
    /// Why it ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<EndReason>,
    /// Why it ended, as text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Exit code of the last attempt's child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// When it was acknowledged.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
    /// When its last attempt was started. Never before it was acknowledged, even if the system clock was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub started_at: Option<Timestamp>,
    /// When it ended. Never before it was started, even if the system clock was changed.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub ended_at: Option<Timestamp>,
    /// What it waits for. Absent if it works or has ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waiting_for: Option<WaitingFor>,
    /// Since when it waits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub waiting_since: Option<Timestamp>,
}

/// A run with all its data. All texts are redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunRecord {
    /// What a list shows.
    #[serde(flatten)]
    pub summary: RunSummary,
    /// Why it failed, more precisely than `reason`: the code of the plugin, such as `http-429`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What the user can do about the failure.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The effective start payload, after profile merge, redacted.
    pub payload: Value,
    /// Pointers into the payload whose original values were stored encrypted because they contain secrets.
    pub sealed_pointers: Vec<String>,
    /// The provider's session, once it is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// The location of the whole answer, if `finalText` may contain only part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerRange>,
    /// The answer. If it is longer than 1 MiB, only the beginning; `answer` then locates the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_text: Option<String>,
    /// The object that was requested with a schema.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub structured_output: Option<Value>,
    /// Tokens and cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// The `run.warning` and `run.compatibility_warning` payloads so far.
    pub warnings: Vec<Value>,
    /// The sandbox of the run. Missing before its first attempt, and in runs of older versions.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxRecord>,
    /// Features of the CLI when the run was prepared.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<CapabilitySnapshot>,
    /// Files that belong to it.
    pub artifacts: Vec<Artifact>,
    /// Its newest job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub job: Option<JobRecord>,
    /// Origin of the request: `cli`, `rpc`, `http`, `mcp`.
    pub origin: String,
}

/// A file that belongs to a run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Artifact {
    /// Its id.
    pub artifact_id: ArtifactId,
    /// What it is: `md`, `json`, `jsonl`, `txt`.
    pub kind: String,
    /// Its path.
    pub path: PathBuf,
    /// Its size in bytes.
    pub bytes: u64,
    /// When it was created.
    #[schemars(with = "String")]
    pub created_at: Timestamp,
}

/// A job of the queue: a queued or running run.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct JobRecord {
    /// The run.
    pub run_id: RunId,
    /// Provider instance, which is also its lane in the queue.
    pub provider: String,
    /// Its status.
    pub state: JobState,
    /// The attempt that it is, or will be. Counts from 1.
    pub attempt: u32,
    /// As requested.
    pub priority: i32,
    /// The priority including aging: waiting raises it by one per aging step.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_priority: Option<f64>,
    /// Number of runs that start before it, plus one; only for ready jobs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub position: Option<u64>,
    /// When it was queued.
    #[schemars(with = "String")]
    pub enqueued_at: Timestamp,
    /// It does not start before this time.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub not_before: Option<Timestamp>,
    /// First line of the prompt, at most 80 characters. Redacted.
    #[serde(default)]
    pub title: String,
    /// Why it waits. Missing if it is running or about to start.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<WaitReason>,
    /// The runs that must end before it starts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub waits_for: Vec<RunId>,
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
    /// Whether runs use agent settings in the folder itself (hooks, permissions, MCP servers).
    #[serde(default)]
    pub trust_settings: bool,
}

/// A flag that `optionalFlags` may set.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct OptionalFlag {
    /// The flag as written: `--search`.
    pub name: String,
    /// What it does.
    pub summary: String,
    /// How many values it takes.
    pub values: FlagValues,
    /// Only allowed if the operator has enabled advanced options.
    pub advanced: bool,
    /// Fields of `permissions` that it can widen.
    pub widens: Vec<String>,
}

/// The features of one installed CLI, as detected by its plugin.
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
    /// Level of support for the CLI.
    pub support: Support,
    /// As reported by the CLI.
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
    /// How to install the CLI, if it is missing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub install_hint: Option<String>,
    /// Data that the plugin stores about its probes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extra: Option<String>,
    /// The sandbox that this machine supports, the same for every provider. Not stored.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxSupport>,
    /// When the probes ran.
    #[schemars(with = "String")]
    pub detected_at: Timestamp,
}
