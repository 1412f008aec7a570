//! The events of the API: names, payloads and envelope.

use std::path::PathBuf;

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::open_names::open_names;
use super::record::names;
use super::semantic::SessionOrigin;
use super::{
    AnswerRange, ApprovalDecision, Conversation, ConversationId, EndReason, EventId, Finding, Network, Progress, RunId,
    SandboxRecord, Semantic, Usage, Warning,
};

names! {
    /// The name of an event.
    EventType {
        /// An attempt has started.
        RunStarted = "run.started",
        /// A conversation was created.
        ConversationCreated = "conversation.created",
        /// A conversation has a new title.
        ConversationRenamed = "conversation.renamed",
        /// A conversation's fields changed, or a run of it ended.
        ConversationUpdated = "conversation.updated",
        /// A conversation was archived or unarchived.
        ConversationArchived = "conversation.archived",
        /// The provider session of a conversation has changed or was removed.
        ConversationSessionUpdated = "conversation.session_updated",
        /// A message was sent to a conversation.
        ConversationMessageSent = "conversation.message_sent",
        /// Lines of the child's standard output.
        ChunkStdout = "run.chunk.stdout",
        /// Lines of the child's standard error.
        ChunkStderr = "run.chunk.stderr",
        /// A stage in the life cycle of the run.
        Progress = "run.progress",
        /// Findings of the policies.
        PolicyAudit = "run.policy_audit",
        /// An option that has no effect.
        CompatibilityWarning = "run.compatibility_warning",
        /// The meaning of a piece of output.
        Semantic = "run.semantic",
        /// A problem that did not end the run.
        Warning = "run.warning",
        /// A connection that the run made, or was refused.
        Network = "run.network",
        /// The CLI was no longer there when the run should start.
        CliMissing = "run.cli_missing",
        /// The work folder was no longer there when the run should start.
        CwdMissing = "run.cwd_missing",
        /// Metrics of an attempt.
        RunnerMetrics = "run.runner_metrics",
        /// The child has ended.
        CliExit = "run.cli_exit",
        /// The object that was requested with a schema.
        StructuredOutput = "run.structured_output",
        /// The answer does not match the schema.
        StructuredOutputInvalid = "run.structured_output_invalid",
        /// The CLI has opened the session of an interactive run.
        SessionOpened = "session.opened",
        /// A message of the user was passed to the session.
        SessionInputAccepted = "session.input_accepted",
        /// The session was closed; its run ends.
        SessionClosed = "session.closed",
        /// The run completed.
        RunCompleted = "run.completed",
        /// The run failed.
        RunFailed = "run.failed",
        /// The run was canceled.
        RunCanceled = "run.canceled",
    }
}

impl EventType {
    /// Whether it is the last event of its run.
    #[must_use]
    pub const fn terminal(self) -> bool {
        matches!(self, Self::RunCompleted | Self::RunFailed | Self::RunCanceled)
    }
}

/// A stored event, as delivered by every transport.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Event {
    /// Increases across the whole host.
    pub cursor: u64,
    /// Its id.
    pub event_id: EventId,
    /// The run that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
    /// The conversation that it belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub conversation_id: Option<ConversationId>,
    /// Counts from 1 in each run without gaps; absent for events without a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Its name.
    #[serde(rename = "type")]
    pub kind: EventType,
    /// Its payload, by type.
    pub payload: Value,
    /// When it was created.
    #[schemars(with = "String")]
    pub timestamp: Timestamp,
}

impl Event {
    /// An event without a run, for tests.
    #[must_use]
    pub fn sample(cursor: u64, kind: EventType, payload: Value) -> Self {
        let event_id = EventId::generate();
        let (run_id, conversation_id, seq) = (None, None, Some(cursor));
        Self { cursor, event_id, run_id, conversation_id, seq, kind, payload, timestamp: Timestamp::UNIX_EPOCH }
    }
}

/// An event that is not stored yet. Storage assigns its cursor and number.
#[derive(Clone, Debug)]
pub struct NewEvent {
    /// The run that it belongs to.
    pub run_id: Option<RunId>,
    /// The conversation that it belongs to.
    pub conversation_id: Option<ConversationId>,
    /// Its name.
    pub kind: EventType,
    /// Its payload as JSON text, redacted.
    pub payload: String,
    /// When it was created.
    pub timestamp: Timestamp,
}

/// Ties each event to the type of its payload.
macro_rules! payloads {
    ($($variant:ident($payload:ty),)+) => {
        /// The payload of an event.
        #[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
        #[serde(untagged)]
        #[expect(missing_docs, reason = "each names its type")]
        pub enum Payload {
            $($variant($payload),)+
        }

        impl Payload {
            /// The name of the event that carries it.
            #[must_use]
            pub const fn kind(&self) -> EventType {
                match self { $(Self::$variant(_) => EventType::$variant,)+ }
            }
        }

        impl EventType {
            /// All events with the schemas of their payloads, in the order of their definition.
            pub fn schemas(generator: &mut SchemaGenerator) -> Vec<(Self, Schema)> {
                vec![$((Self::$variant, generator.subschema_for::<$payload>()),)+]
            }
        }
    };
}

payloads! {
    RunStarted(RunStarted),
    ConversationCreated(Conversation),
    ConversationRenamed(Conversation),
    ConversationUpdated(Conversation),
    ConversationArchived(Conversation),
    ConversationSessionUpdated(ConversationSession),
    ConversationMessageSent(MessageSent),
    ChunkStdout(Chunk),
    ChunkStderr(Chunk),
    Progress(Progress),
    PolicyAudit(PolicyAudit),
    CompatibilityWarning(CompatibilityWarning),
    Semantic(Semantic),
    Warning(Warning),
    Network(Network),
    CliMissing(CliMissing),
    CwdMissing(CwdMissing),
    RunnerMetrics(Metrics),
    CliExit(CliExit),
    StructuredOutput(StructuredOutput),
    StructuredOutputInvalid(StructuredOutputInvalid),
    SessionOpened(SessionOpened),
    SessionInputAccepted(SessionInput),
    SessionClosed(SessionClosed),
    RunCompleted(RunEnd),
    RunFailed(RunEnd),
    RunCanceled(RunEnd),
}

/// The provider plugin of an attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AdapterInfo {
    /// Plugin name.
    pub name: String,
    /// Plugin version.
    pub version: String,
    /// SHA-256 of its component, in hex.
    pub digest: String,
}

/// `conversation.session_updated`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ConversationSession {
    /// The provider's session that the next message resumes; null if the next message starts a new session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
}

/// `conversation.message_sent`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSent {
    /// The run that answers it.
    pub run_id: RunId,
    /// Provider instance.
    pub provider: String,
}

/// `session.opened`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionOpened {
    /// The provider's session. Absent if the CLI has no ids for sessions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// How it began.
    pub origin: SessionOrigin,
}

/// `session.input_accepted`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionInput {
    /// Size of the message in bytes.
    pub bytes: u64,
    /// The message, redacted. Empty for keys: a password may be among them, and what the CLI shows of them is in its output.
    pub text: String,
    /// Whether keys of a terminal were sent, not a message.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keys: bool,
    /// Who sent it: `unix pid=… uid=…`, `token NAME`.
    pub actor: String,
}

/// `session.closed`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionClosed {
    /// The provider's session, if it was opened.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Why it was closed.
    pub reason: SessionEnd,
}

open_names! {
    /// Why a session was closed.
    SessionEnd {
        /// A client ended it.
        Ended = "ended",
        /// It was idle for too long.
        Idle = "idle",
        /// It reached its time limit.
        TimeLimit = "time_limit",
        /// What its terminal shows reached the limit of stored output.
        StorageLimit = "storage_limit",
        /// Its run was canceled.
        Canceled = "canceled",
        /// The host stops.
        HostStops = "host_stops",
        /// The CLI ended by itself.
        Exited = "exited",
        /// The host ended it after a failure, which the end of the run names.
        Failed = "failed",
    }
}

/// What the child's standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Output {
    /// A protocol: the answer is in `run.semantic`.
    Lines,
    /// The answer itself, in `run.chunk.stdout`.
    Text,
    /// What the CLI shows on its terminal, in `run.chunk.stdout`: text with the escape sequences of a terminal.
    Terminal,
}

/// `run.started`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunStarted {
    /// The sandbox of the run. Missing in events of older versions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sandbox: Option<SandboxRecord>,
    /// Provider instance.
    pub provider: String,
    /// Counts from 1.
    pub attempt: u32,
    /// Process id of the child.
    pub pid: u32,
    /// The provider plugin.
    pub adapter: AdapterInfo,
    /// As reported by the CLI.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cli_version: Option<String>,
    /// What the child's standard output is.
    pub output: Output,
}

/// `run.chunk.stdout`, `run.chunk.stderr`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Chunk {
    /// Redacted. Whole lines that end with LF. If standard output is the answer, the text is as the child wrote it, and
    /// a long line is split into several pieces.
    pub text: String,
    /// Number of secrets that were redacted.
    pub redactions: u64,
    /// A line was truncated.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub truncated: bool,
    /// Invalid UTF-8 was replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub lossy: bool,
    /// The piece in base64, if standard output is the answer and the piece is not valid UTF-8: `text` has U+FFFD there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base64: Option<String>,
}

/// `run.policy_audit`
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PolicyAudit {
    /// `start`, `spawn`, or `tool` for a tool use that the CLI has reported. Tool uses have a record only if there are
    /// findings.
    pub stage: String,
    /// `allow`, `warn`, `ask` or `deny`: the strictest of all findings.
    pub verdict: String,
    /// Provider instance.
    pub provider: String,
    /// Absolute path of the executable.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub executable: Option<PathBuf>,
    /// Working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// Argument list, redacted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub args: Vec<String>,
    /// Names of the child's variables.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub environment_names: Vec<String>,
    /// The tool use that was evaluated, at the stage `tool`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tool: Option<AuditedTool>,
    /// Origin of the request: `cli`, `rpc`, `http`, `mcp`.
    pub origin: String,
    /// The grant that contains the working folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grant: Option<PathBuf>,
    /// Whether that grant trusts agent settings in the folder itself.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub trust_settings: bool,
    /// The profile that was merged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub profile: Option<String>,
    /// Features of the CLI: support, version, features.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub capabilities: Option<Value>,
    /// Every finding.
    pub findings: Vec<Finding>,
    /// The decision about what the agent waited for, at the stage `tool`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<ApprovalDecision>,
}

/// The tool use of a `run.policy_audit`. The event `tool_start` with the same `id` has the details.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct AuditedTool {
    /// The CLI's id of this use.
    pub id: String,
    /// Kind of the tool, from the vocabulary of the plugin guide: `shell`, `file_write`.
    pub tool: String,
    /// The CLI's own name of the tool.
    pub name: String,
}

/// `run.compatibility_warning`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CompatibilityWarning {
    /// JSON Pointer into the start payload.
    pub pointer: String,
    /// Why it has no effect.
    pub reason: String,
}

/// `run.cli_missing`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CliMissing {
    /// The path or names that were searched.
    pub path: String,
    /// How to install it.
    pub install_hint: String,
}

/// `run.cwd_missing`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct CwdMissing {
    /// The folder.
    pub path: PathBuf,
    /// What is wrong with it.
    pub message: String,
}

/// Bytes and lines of one stream.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct StreamMetrics {
    /// Bytes as the child wrote them.
    pub bytes: u64,
    /// Lines.
    pub lines: u64,
}

/// `run.runner_metrics`: metrics of one attempt. Times are milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Metrics {
    /// Counts from 1.
    pub attempt: u32,
    /// Standard output.
    pub stdout: StreamMetrics,
    /// Standard error.
    pub stderr: StreamMetrics,
    /// Events of the attempt so far.
    pub events: u64,
    /// Tool uses that the CLI reported.
    pub tool_calls: u64,
    /// Tokens and cost.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    /// From the acknowledgement, or the last attempt's end, to the start of this attempt.
    pub queue_ms: f64,
    /// From the start of the attempt to the child's start.
    pub spawn_ms: f64,
    /// From the child's start to its first byte.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_byte_ms: Option<f64>,
    /// From the child's start to its end.
    pub run_ms: f64,
    /// Largest resident set of the child's largest process, bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peak_memory_bytes: Option<u64>,
    /// Processor time of the child and of those of its children that it waited for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu_ms: Option<f64>,
}

/// `run.cli_exit`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CliExit {
    /// Exit code.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<i32>,
    /// The signal that ended it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signal: Option<i32>,
    /// Milliseconds from its start.
    pub duration_ms: u64,
}

/// `run.structured_output`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StructuredOutput {
    /// The object, redacted.
    pub result: Value,
}

/// `run.structured_output_invalid`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct StructuredOutputInvalid {
    /// Every position that does not match.
    pub errors: Vec<super::Problem>,
    /// The actual value, redacted; null if there is none.
    pub value: Value,
}

/// `run.completed`, `run.failed`, `run.canceled`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct RunEnd {
    /// Exit code of the last attempt's child.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub exit_code: Option<i32>,
    /// Why it ended.
    pub reason: EndReason,
    /// A more specific code of the plugin: `http-429`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What happened, as text.
    pub message: String,
    /// What the user can do about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// The location of the whole answer, if `finalText` may contain only part of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<AnswerRange>,
    /// The answer, redacted. If it is longer than 1 MiB, only the beginning; `answer` then locates the rest.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub final_text: Option<String>,
}
