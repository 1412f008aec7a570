//! Approvals: what an agent wants to do and waits for a decision about, and the questions that it asks its user.

use std::collections::BTreeMap;
use std::path::PathBuf;

use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::record::names;
use super::{ApprovalId, RunId};

names! {
    /// What an approval is about.
    ApprovalKind {
        /// A shell command.
        Command = "command",
        /// A change of files.
        Patch = "patch",
        /// Another tool, such as one of an MCP server.
        Tool = "tool",
        /// Wider permissions for the agent.
        Permissions = "permissions",
        /// A connection.
        Network = "network",
        /// Questions of the agent to its user.
        Question = "question",
        /// A form that an MCP server asks its user to fill in.
        Elicitation = "elicitation",
    }
}

/// Something that an agent waits for. All texts are redacted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Approval {
    /// Its id, for `answer_approval`.
    pub id: ApprovalId,
    /// The run that waits.
    pub run_id: RunId,
    /// Its provider instance.
    pub provider: String,
    /// What it is about.
    pub kind: ApprovalKind,
    /// One line.
    pub title: String,
    /// The shell command.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// The folder in which it would happen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cwd: Option<PathBuf>,
    /// The change of files, as a unified diff or as the content of a new file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub diff: Option<String>,
    /// Why the CLI or a policy asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The questions, if the kind is `question`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub questions: Vec<ApprovalQuestion>,
    /// The tool's input, or the JSON Schema of the form if the kind is `elicitation`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub input: Option<Value>,
    /// Whether the answer may replace the tool's input.
    pub editable: bool,
    /// When it was opened.
    #[schemars(with = "String")]
    pub opened_at: Timestamp,
    /// When it is denied if nobody has answered.
    #[schemars(with = "String")]
    pub expires_at: Timestamp,
    /// Whether a front end should propose the denial: a policy asks, or the CLI considers a denial the safe answer.
    pub deny_by_default: bool,
}

/// A question of an agent to its user.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ApprovalQuestion {
    /// Its id, the member name in `answers`.
    pub id: String,
    /// The question.
    pub question: String,
    /// A short title.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub header: Option<String>,
    /// The choices that it proposes. Any other text is accepted as well.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub options: Vec<QuestionOption>,
    /// Whether several choices may be given.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub multi_select: bool,
    /// Whether the answer is a secret, which is neither shown nor stored.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub secret: bool,
}

/// A choice of a question.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct QuestionOption {
    /// The answer.
    pub label: String,
    /// Its meaning.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

names! {
    /// The decision about an approval.
    ApprovalVerdict {
        /// The agent may do it.
        Allow = "allow",
        /// The agent may not do it.
        Deny = "deny",
    }
}

names! {
    /// Who decided an approval.
    ApprovalDecider {
        /// A policy.
        Policy = "policy",
        /// A client, for its user.
        User = "user",
        /// Nobody answered in time, which is a denial.
        Timeout = "timeout",
        /// The host: the payload allows everything, nobody can be asked, or the run ends.
        Host = "host",
    }
}

/// The decision about an approval.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApprovalDecision {
    /// The approval. A decision of a policy before any user was asked has its own id.
    pub request_id: ApprovalId,
    /// The tool use that it is about, as in `tool_start`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub call_id: String,
    /// The decision.
    pub decision: ApprovalVerdict,
    /// Who decided.
    pub decided_by: ApprovalDecider,
    /// The policy or the client that decided: `tools`, `unix pid=… uid=…`, `token NAME`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub actor: Option<String>,
    /// The interface of the client: `cli`, `rpc`, `http`, `mcp`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client: Option<String>,
    /// The message for the agent, redacted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// Whether the tool's input was replaced.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub edited: bool,
    /// Whether the turn ends as well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub stop_turn: bool,
}

/// The answers to questions: for each id the chosen labels or a text.
pub type Answers = BTreeMap<String, Vec<String>>;
