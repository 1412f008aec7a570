//! The data of the API: requests, responses, and the records and events that the host stores.
//!
//! **One definition.** Each type defines its wire format (serde), and the JSON Schema (schemars) that validates input
//! and describes the type in the OpenRPC document and in `docs/api.md`. So the doc comments of these types are
//! documentation for users of the API.
//!
//! **Contents.** [`StartPayload`] is the request for a run; [`merge()`] combines it with a profile and with overrides.
//! [`methods`] has the parameters and results of every method, and descriptors that say which calls may be repeated.
//! [`Event`] is the envelope of an event and [`Payload`] its typed payload. [`semantic`] is the meaning of a CLI's
//! output, the same for every CLI. The other modules define runs, jobs, conversations, grants, retention and audit
//! records, and [`ApiError`] with its kinds.
//!
//! **Compatibility.** Names that later versions may extend are read as `Other` instead of failing, as for
//! [`WarningCode`] and [`ProgressStage`]. JSON fields are in camelCase. In requests, a missing member and null mean the
//! same, except in patches.
//!
//! **Rules.** The crate also has the rules that host and clients must share: JSON pointers, host patterns, patterns for
//! names of variables and of secrets, and suggestions for misspelled names. It does no I/O and depends on no other
//! crate of the workspace.

mod access;
mod answer;
mod approval;
mod audit;
mod conversation;
mod error;
mod event;
mod id;
mod merge;
pub mod methods;
mod nearest;
mod network;
mod network_host;
mod open_names;
mod origin;
mod payload;
mod pointer;
mod progress;
mod record;
mod retention;
mod sandbox;
mod secret_name;
pub mod semantic;
mod terminal_text;
mod variable_name;
mod warning;

pub use access::{AccessClass, AccessToken, Actor};
pub use answer::{AnswerRange, MAX_FINAL_TEXT, chunk_bytes, chunk_members};
pub use approval::{
    Answers, Approval, ApprovalDecider, ApprovalDecision, ApprovalKind, ApprovalQuestion, ApprovalVerdict,
    QuestionOption,
};
pub use audit::{AuditKind, AuditRecord, AuditVerdict};
pub use conversation::{Conversation, ConversationSummary, LastRun, Profile};
pub use error::{ApiError, ErrorKind, Finding, Problem, Verdict};
pub use event::{
    AdapterInfo, AuditedTool, Chunk, CliExit, CliMissing, CompatibilityWarning, ConversationSession, CwdMissing, Event,
    EventType, MessageSent, Metrics, NewEvent, Output, Payload, PolicyAudit, RunEnd, RunStarted, SessionClosed,
    SessionEnd, SessionInput, SessionOpened, StreamMetrics, StructuredOutput, StructuredOutputInvalid,
};
pub use id::{ApprovalId, ArtifactId, ConversationId, EventId, ProfileId, RunId};
pub use merge::{Nulls, merge, merge_patch, strip_nulls};
pub use nearest::nearest;
pub use network::{Network, NetworkReason, NetworkVerdict};
pub use network_host::{Host, HostPattern, HostRule};
pub use origin::Origin;
pub use payload::{
    AllowlistEntry, AllowlistMode, ApprovalPolicy, Attachment, CliAllowlist, FlagValue, Harness, InputFormat, Limits,
    Mcp, McpServer, McpTransport, OutputFormat, Permissions, RunMode, SandboxMode, ShellPrelude, StartAfter,
    StartPayload, StructuredOutputSpec, TerminalSize, Tool,
};
pub use pointer::{document_of, escape_pointer, leaves, lies_in, pointer_along, pointer_names, unescape_pointer};
pub use progress::{Progress, ProgressStage};
pub use record::{
    Artifact, CapabilitySnapshot, EndReason, ExportFormat, FlagValues, Grant, JobRecord, JobState, OptionalFlag, Page,
    RunRecord, RunStatus, RunSummary, Support, Usage, WaitReason, WaitingFor,
};
pub use retention::{
    RetentionItem, RetentionLimit, RetentionOrigin, RetentionPolicy, RetentionReport, RetentionRule, RetentionScopeKind,
};
pub use sandbox::{Egress, SandboxBackend, SandboxRecord, SandboxSupport};
pub use secret_name::{secret_like, words};
pub use semantic::Semantic;
pub use terminal_text::{TerminalText, control_sequence_length};
pub use variable_name::{MARKER_VARIABLE, is_of_caller, matches_name};
pub use warning::{Warning, WarningCode};
