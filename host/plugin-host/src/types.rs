//! The records and variants of the plugin interface, as the host sees them. Their documentation is that of the WIT in
//! `plugin-api/wit`. They serialize with their Rust names, for the host's own storage; that is not a wire format.

pub use super::bindings::policy::exports::ostler::plugin::policy::{
    Action, CheckedPath, Context, Finding, LaunchFile, LaunchSummary, OtherAction, Verdict,
};
pub use super::bindings::provider::exports::ostler::plugin::provider::{
    ApprovalRequest, Attachment, Capabilities, Channel, CollectedFile, Counter, Decision, DroppedOption, ExitStatus,
    Failure, FailureKind, FlagValues, HostFacts, Launch, Line, Notice, OptionalFlag, OtherEvent, Outcome, OutputForm,
    PrivateFile, Probe, ProbeOutcome, ProbeOutput, ProbeResult, ProviderInfo, RateLimit, RetryTime, RunMode,
    RunRequest, Semantic, SessionInfo, SessionOrigin, Step, StopSignal, Support, TextPiece, ToolOutput, ToolPiece,
    TurnEnd, TurnStatus, Usage,
};
pub use super::bindings::provider::ostler::plugin::types::{
    Error, FileAccess, FileEffect, McpTool, NameValue, OutputStream, Problem, ToolCall,
};
pub use super::bindings::redactor::exports::ostler::plugin::redactor::{
    Allow, AllowTarget, Block, Candidate, Find, Rule, RuleSet,
};
