//! Sessions, approvals and the inbox.

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{Answers, Approval, ApprovalId, RunId, RunStatus, RunSummary, WaitReason};

/// `start_interactive_session` and `resume_session`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionResult {
    /// The run that holds the session.
    pub run_id: RunId,
    /// The provider's session. Absent if the CLI has not opened it yet: the run waits for a slot, or the CLI still
    /// starts. The event `session.opened` has it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<String>,
    /// Whether the session was open already.
    pub attached: bool,
}

/// `send_session_input`
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SessionInputParams {
    /// The run of the session.
    pub run_id: RunId,
    /// The message for the agent. While the agent works, it is added to the current turn or becomes the next one, as
    /// the CLI allows.
    #[schemars(length(min = 1, max = 8_388_608))]
    pub data: String,
    /// Whether `data` is typed into the terminal of the session as it is, instead of being a message: U+000D is Enter,
    /// U+0003 is Ctrl-C, U+001B begins the sequences of arrow keys.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keys: bool,
}

/// `resize_terminal`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResizeTerminalParams {
    /// The run of the session.
    pub run_id: RunId,
    /// Lines.
    #[schemars(range(min = 1, max = 1000))]
    pub rows: u16,
    /// Characters in a line.
    #[schemars(range(min = 1, max = 1000))]
    pub columns: u16,
}

/// `send_session_input`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct SessionInputResult {
    /// Bytes of the message. All of them are on their way to the CLI.
    pub accepted: u64,
}

/// `interrupt_turn`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct InterruptResult {
    /// Whether a turn was running, which now ends. The session stays open. In a terminal, Ctrl-C was typed, whatever runs there.
    pub interrupting: bool,
}

/// `end_session`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct EndSessionResult {
    /// Status of the run; it has ended.
    pub status: RunStatus,
}

/// `resume_session`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ResumeSessionParams {
    /// A run of the session.
    pub run_id: RunId,
    /// The first message of the resumed session, if it has ended. Without it, the session waits for input.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 8_388_608))]
    pub prompt: Option<String>,
    /// Cursor of the last event that the client has. The event `session_replayed` records it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Environment of the caller, as for `start_run`, if the session has ended.
    #[serde(default, skip_serializing_if = "std::collections::BTreeMap::is_empty")]
    pub client_environment: std::collections::BTreeMap<String, String>,
}

/// `list_approvals`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct ListApprovalsParams {
    /// Only those of this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub run_id: Option<RunId>,
}

/// `answer_approval`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AnswerApprovalParams {
    /// The run that waits.
    pub run_id: RunId,
    /// The approval.
    pub request_id: ApprovalId,
    /// Whether the agent may do it. Not needed with `answers`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub allow: Option<bool>,
    /// The reason of a denial, for the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65_536))]
    pub message: Option<String>,
    /// Replaces the tool's input, if the approval is `editable`; or the filled-in form of an elicitation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// The answers to the questions, by the id of the question.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<Answers>,
    /// Whether a denial also ends the turn.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_turn: bool,
}

/// `get_inbox`
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Inbox {
    /// What agents wait for, oldest first.
    pub approvals: Vec<Approval>,
    /// Failed and interrupted runs that nobody has acknowledged, newest first; at most 100.
    pub failures: Vec<RunSummary>,
    /// Total number of such runs.
    pub failures_total: u64,
    /// Providers whose runs do not start, because they are paused or reported a rate limit.
    pub paused: Vec<PausedLane>,
}

/// A provider whose runs do not start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct PausedLane {
    /// Provider instance; absent if the whole queue is paused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub provider: Option<String>,
    /// `paused`, `provider_paused` or `rate_limited`.
    pub reason: WaitReason,
    /// When the limit of the provider is reset.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(with = "Option<String>")]
    pub until: Option<Timestamp>,
    /// Runs that wait for it.
    pub waiting: u64,
}

/// `acknowledge_failures`
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct AcknowledgeParams {
    /// The runs. Without it, all failures so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 1000))]
    pub run_ids: Option<Vec<RunId>>,
}

/// `acknowledge_failures`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AcknowledgeResult {
    /// Runs that are no longer in the inbox.
    pub acknowledged: u64,
}
